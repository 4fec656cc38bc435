"""Stage 13: layer normalisation, which gives the features of each position mean 0 and variance 1."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.core.arrays import whole_number
from tinytorch.core.layers import Layer
from tinytorch.core.rules import Function
from tinytorch.core.tensor import Tensor, floating, result_of

__all__ = ["LayerNorm"]


class LayerNorm(Layer):
    """Gives each vector of features mean 0 and variance 1, and then each feature a learned scale and a learned shift.

    Unlike BatchNorm2d it looks at one position of one sample alone. So it does the same in training and in evaluation,
    and for any batch, and no position learns of another through it.

    Args:
        embed_dim: the length of the last axis.
        eps: is added to the variance, so that a constant vector is not divided by 0.

    Attributes:
        weight, bias: Tensors (embed_dim,) of ones and zeros, float32, which require gradients.

    Source: Ba, Kiros and Hinton 2016, arXiv:1607.06450.
    """

    def __init__(self, embed_dim: int, eps: float = 1e-5) -> None:
        self.embed_dim, self.eps = whole_number("LayerNorm", "embed_dim", embed_dim, 1), eps
        self.weight = Tensor(np.ones(embed_dim, np.float32), requires_grad=True)
        self.bias = Tensor(np.zeros(embed_dim, np.float32), requires_grad=True)

    def forward(self, x: Tensor) -> Tensor:
        """(x - mean) / √(var + eps) · weight + bias: (…, embed_dim) -> (…, embed_dim), for any leading axes, also none.

        Mean and variance are those of the last axis, for each vector its own; the variance is the mean of (x - mean)²,
        divided by embed_dim and not by embed_dim - 1, and not E[x²] - E[x]², which a large mean makes useless.

        Through the door as "LayerNorm", of x, self.weight and self.bias. Saved, as arrays of x's dtype: normalised,
        (x - mean) / √(var + eps), of x's shape; and inverse_std, 1 / √(var + eps), (…, 1).

        Args:
            x: floats; the result has their dtype, whatever that of the weight. Integers count as float32. Only read.

        Raises:
            ValueError: the last axis of x is not embed_dim long, or there is none; the message names x's shape and
                embed_dim.

        >>> LayerNorm(3)(Tensor([1.0, 2.0, 3.0])).numpy().round(3)
        array([-1.225,  0.   ,  1.225], dtype=float32)
        """
        if x.ndim == 0 or x.shape[-1] != self.embed_dim:
            raise ValueError(f"LayerNorm({self.embed_dim}): expected (…, {self.embed_dim}), got {x.shape}")
        x = floating(x)
        average = np.full(self.embed_dim, 1 / self.embed_dim, x.dtype)  # a product with it is a mean, at BLAS's speed
        normalised = x.data - (x.data @ average)[..., None]
        variance = np.einsum("...i,...i->...", normalised, normalised)[..., None] / x.dtype.type(self.embed_dim)
        inverse_std = 1 / np.sqrt(variance + x.dtype.type(self.eps))
        normalised *= inverse_std
        out = normalised * self.weight.data.astype(x.dtype, copy=False)
        out += self.bias.data.astype(x.dtype, copy=False)
        saved = {"normalised": normalised, "inverse_std": inverse_std}
        return result_of("LayerNorm", out, x, self.weight, self.bias, **saved)


class LayerNormBackward(Function):
    """The rule of "LayerNorm", of the inputs x, weight and bias. x̂ is `self.normalised`, G is grad_output."""

    normalised: np.ndarray
    inverse_std: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradients of x, weight and bias, in that order and in G's dtype.

        That of x also goes through mean and variance, which depend on every x of the vector: the lesson derives it.
        Those of weight and bias may keep their leading axes, over which the engine sums. G and what was saved are only
        read.
        """
        weight = self.inputs[1].data.astype(grad_output.dtype, copy=False)
        features = grad_output.shape[-1]
        weighted = grad_output * self.normalised
        ones = np.ones(grad_output.size // features, grad_output.dtype)
        d_weight, d_bias = (ones @ each.reshape(-1, features) for each in (weighted, grad_output))
        d_x = grad_output * weight
        through_variance = (weighted @ (weight / features))[..., None]
        through_mean = (grad_output @ (weight / features))[..., None]
        np.multiply(self.normalised, through_variance, out=weighted)
        weighted += through_mean
        d_x -= weighted
        d_x *= self.inverse_std
        return d_x, d_weight, d_bias
