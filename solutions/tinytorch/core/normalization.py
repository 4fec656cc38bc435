"""Stage 09: batch normalisation, which keeps the numbers in every channel around 0, and about 1 in size.

Images are (N, C, H, W): samples, channels, height, width. A channel's numbers are those of all samples and all places.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.core.blocks import in_blocks
from tinytorch.core.layers import Layer
from tinytorch.core.rules import Function
from tinytorch.core.tensor import Tensor, floating, result_of
from tinytorch.core.windows import images_of

__all__ = ["BatchNorm2d", "batch_statistics"]


def over_image(values: np.ndarray) -> np.ndarray:
    """One number per channel, (C,), in the shape (C, 1, 1) that meets images."""
    return values[:, None, None]


def batch_statistics(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each channel, over samples and places: (N, C, H, W) -> (C,) and (C,), of the images' dtype.

    The sum for the mean is taken in float64, also of float32 images: that costs little and keeps the last bits. The
    variance is the biased one: the sum of (x - mean)², divided by the count itself. The mean is taken away before
    squaring: E[x²] - E[x]² is the same in exact numbers, but in float32, with a mean of 1000, nothing remains of a
        variance of 1.

    Args:
        images: floats; at least one sample.

    >>> batch_statistics(np.array([1.0, 3.0, 5.0, 7.0]).reshape(2, 1, 1, 2))
    (array([4.]), array([5.]))
    """
    samples, channels, height, width = images.shape
    count, each = samples * height * width, channels * height * width
    sums = in_blocks(lambda part: images[part].sum(axis=(0, 2, 3), dtype=np.float64), samples, numbers_each=each)
    mean = (sum(sums, np.zeros(channels)) / count).astype(images.dtype)

    def squares(part: slice) -> np.ndarray:
        centred = images[part] - over_image(mean)
        return np.einsum("nchw,nchw->c", centred, centred)

    squared = sum(in_blocks(squares, samples, numbers_each=each), np.zeros(channels))
    return mean, (squared / count).astype(images.dtype)


class BatchNorm2d(Layer):
    """Gives each channel mean 0 and variance 1 over the batch, then applies a learned weight and a learned bias.

    In evaluation a sample's result must not depend on those beside it. So running averages of the batches' mean and
    variance take the place of the batch's own. They are buffers: Tensors without gradient, saved with the model.

    Args:
        num_features: the number of channels, C.
        eps: is added to the variance, so that a constant channel is not divided by 0.
        momentum: the share of the newest batch in the running averages.

    Attributes:
        weight, bias: Tensors (C,) of ones and zeros, float32, which require gradients.
        running_mean, running_var: Tensors (C,), of zeros and ones, which do not.

    Source: Ioffe and Szegedy 2015, arXiv:1502.03167, algorithms 1 and 2.
    """

    def __init__(self, num_features: int, eps: float = 1e-5, momentum: float = 0.1) -> None:
        if num_features < 1:
            raise ValueError(f"BatchNorm2d: expected a positive number of channels, got {num_features}")
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.weight = Tensor(np.ones(num_features, np.float32), requires_grad=True)
        self.bias = Tensor(np.zeros(num_features, np.float32), requires_grad=True)
        self.running_mean = Tensor(np.zeros(num_features, np.float32))
        self.running_var = Tensor(np.ones(num_features, np.float32))

    def forward(self, x: Tensor, training: bool | None = None) -> Tensor:
        """(x - mean) / √(var + eps) · weight + bias, channel by channel, of x's dtype and shape (N, C, H, W).

        While training, mean and variance are those of the batch, from `batch_statistics`, and `remember` is called with
        them once. In evaluation they are the running ones, which do not change. An empty batch gives an empty result,
        and is not remembered. While training the arithmetic is done in x's dtype. In evaluation running statistics,
        weight and bias may stay in their own float32 for an x of float64; the result is float64 all the same.

        Door "BatchNorm2d" of x, self.weight and self.bias; saved: mean and var as arrays that nobody changes later,
        eps, and training (True if they are the batch's).

        Args:
            training: None means the layer's mode, `self.training`.

        Raises:
            ValueError: x is not (N, num_features, H, W), or has a single number per channel while training, of which
                only the bias would remain (`checked` sees to both).
        """
        training = self.training if training is None else training
        x = self.checked(x, training)
        if training and x.size:
            mean, var = batch_statistics(x.data)
            self.remember(mean, var, x.size // self.num_features)
        else:
            mean, var = (running.data.astype(x.dtype) for running in (self.running_mean, self.running_var))
        scale = self.weight.data / np.sqrt(var + self.eps)
        out = np.empty(x.shape, np.result_type(x.data, scale))

        def work(part: slice) -> None:
            np.subtract(x.data[part], over_image(mean), out=out[part])
            out[part] *= over_image(scale)
            out[part] += over_image(self.bias.data)

        in_blocks(work, len(x), numbers_each=math.prod(x.shape[1:]))
        saved = {"mean": mean, "var": var, "eps": self.eps, "training": training}
        return result_of("BatchNorm2d", out, x, self.weight, self.bias, **saved)

    def checked(self, x: Tensor, training: bool) -> Tensor:
        """`x` as floats, if it is what `forward` expects; else the ValueError that forward promises."""
        images_of(x, f"BatchNorm2d({self.num_features})", self.num_features)
        if training and x.size == self.num_features:
            raise ValueError(f"BatchNorm2d: expected several numbers per channel while training, got shape {x.shape}")
        return floating(x)

    def remember(self, mean: np.ndarray, var: np.ndarray, count: int) -> None:
        """Move the running averages towards a batch's statistics: running = (1 - momentum) · running + momentum · new.

        The variance is made unbiased first, var · count / (count - 1): so it estimates that of all images.
        The Tensors stay the objects that they are, and keep their dtype.

        Args:
            mean, var: (C,) each, as `batch_statistics` gives them, the variance biased.
            count: how many numbers of each channel they were taken from; at least 2.
        """
        for running, new in ((self.running_mean, mean), (self.running_var, var * (count / (count - 1)))):
            running.data += self.momentum * (new - running.data)


class BatchNorm2dBackward(Function):
    """The rule of "BatchNorm2d". G is grad_output; x̂ = (x - mean) / √(var + eps) was multiplied by the weight."""

    mean: np.ndarray
    var: np.ndarray
    eps: float
    training: bool

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradients of x, weight and bias; that of x is computed only if it is needed."""
        d_weight, d_bias = self.to_parameters(grad_output)
        d_x = self.to_input(grad_output, d_weight, d_bias) if self.needs(0) else None
        return d_x, d_weight, d_bias

    def to_parameters(self, grad_output: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gradients of weight and bias: Σ G x̂ and Σ G over samples and places.

        Returns:
            two arrays (C,) of grad_output's dtype; for an empty batch they are zeros.
        """
        x, each = self.inputs[0].data, math.prod(grad_output.shape[1:])

        def sums(part: slice) -> np.ndarray:
            centred, grad = x[part] - over_image(self.mean), grad_output[part]
            return np.stack([np.einsum("nchw,nchw->c", grad, centred), np.einsum("nchw->c", grad)])

        with_x, d_bias = sum(
            in_blocks(sums, len(x), numbers_each=each), np.zeros((2, len(self.mean)), grad_output.dtype)
        )
        return with_x / np.sqrt(self.var + self.eps), d_bias

    def to_input(self, grad_output: np.ndarray, d_weight: np.ndarray, d_bias: np.ndarray) -> np.ndarray:
        """The gradient of x, of its shape and of grad_output's dtype:

        weight / √(var + eps) · (G - d_bias / count - x̂ d_weight / count).

        `count` is how many numbers a channel has in the batch, N · H · W. The two terms that are subtracted come
        through the mean and through the variance, to which every x of the batch contributes. In evaluation
        (`self.training` is False) both are constants, and nothing is subtracted.

        Args:
            d_weight, d_bias: the gradients of weight and bias, as `to_parameters` returns them.
        """
        x, inverse = self.inputs[0].data, 1 / np.sqrt(self.var + self.eps)
        d_x = np.empty(x.shape, grad_output.dtype)
        count = max(1, x.size // len(self.mean)) if self.training else math.inf  # by which both terms are divided

        def work(part: slice) -> None:
            through = x[part] - over_image(self.mean)
            through *= over_image(inverse * d_weight / count)
            through += over_image(d_bias / count)
            np.subtract(grad_output[part], through, out=d_x[part])
            d_x[part] *= over_image(self.inputs[1].data * inverse)

        in_blocks(work, len(x), numbers_each=math.prod(x.shape[1:]))
        return d_x
