"""Stage 09: convolution. First as it is defined, in seven loops; then as a matrix product, hundreds of times as fast.

Images are (N, C, H, W), weights (O, C / groups, KH, KW): O output channels, each with a small picture for every input
channel that it looks at. Pooling and batch normalisation have files of their own, and are found here as well.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.core.layers import Layer, he_normal
from tinytorch.core.normalization import BatchNorm2d as BatchNorm2d
from tinytorch.core.pooling import AvgPool2d as AvgPool2d
from tinytorch.core.pooling import MaxPool2d as MaxPool2d
from tinytorch.core.rules import Function
from tinytorch.core.tensor import Tensor, floating, result_of
from tinytorch.core.windows import Pair, images_of, in_blocks, output_size, pair, window_views

__all__ = ["Conv2d", "Flatten", "col2im", "conv2d_naive", "im2col"]


def conv2d_naive(
    x: Any, weight: Any, bias: Any = None, stride: Any = 1, padding: Any = 0, groups: int = 1
) -> np.ndarray:
    """The definition of convolution, in seven loops: N, O, OH, OW, and inside them C / groups, KH, KW.

    out[n, o, y, x] = bias[o] + Σ weight[o, c, i, j] · image[n, first + c, y · stride + i, x · stride + j] over c, i, j

    where `image` is x with `padding` zeros on each side, and `first` the first channel of the group that o belongs to:
    with G groups the first O / G output channels look at the first C / G input channels, and so on. The kernel is not
    turned over (mathematics calls this a cross-correlation). No gradient: arrays in, an array out.

    Args:
        x: (N, C, H, W), an array or a Tensor; so are weight, (O, C / groups, KH, KW), and bias, (O,) or None.
        stride, padding: whole numbers, or pairs (height, width).

    Returns:
        (N, O, OH, OW), as `output_size` says; of the dtype in which x and weight meet.

    Raises:
        ValueError: the shapes do not fit (`operands_of` sees to that, and makes arrays), or the window does not.

    >>> conv2d_naive(np.arange(9.0).reshape(1, 1, 3, 3), np.array([[[[1.0, 10.0], [100.0, 1000.0]]]]))[0, 0].tolist()
    [[4310.0, 5421.0], [7643.0, 8754.0]]
    """
    x, weight, bias = operands_of(x, weight, bias, groups)
    (sh, sw), image = pair(stride, "stride"), padded(x, padding)
    out_channels, per_group, kh, kw = weight.shape
    out = np.zeros((len(x), out_channels, *output_size(image.shape[2:], (kh, kw), stride)), np.result_type(x, weight))
    for n, o, i, j in np.ndindex(out.shape):
        first = o // (out_channels // groups) * per_group
        total = bias[o]
        for c in range(per_group):
            for a in range(kh):
                for b in range(kw):
                    total += image[n, first + c, i * sh + a, j * sw + b] * weight[o, c, a, b]
        out[n, o, i, j] = total
    return out


def operands_of(x: Any, weight: Any, bias: Any, groups: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All three as arrays, zeros for a bias of None; a ValueError that names the shapes if they do not fit together."""
    x = images_of(x, "conv2d_naive")
    weight = weight.data if isinstance(weight, Tensor) else np.asarray(weight)
    fits = weight.ndim == 4 and groups >= 1 and weight.shape[1] * groups == x.shape[1] and len(weight) % groups == 0
    if not fits:
        raise ValueError(f"conv2d_naive: weights {weight.shape} in {groups} groups do not fit images {x.shape}")
    bias = np.zeros(len(weight), x.dtype) if bias is None else bias
    bias = bias.data if isinstance(bias, Tensor) else np.asarray(bias)
    if bias.shape != weight.shape[:1]:
        raise ValueError(f"conv2d_naive: expected a bias of shape {weight.shape[:1]}, got {bias.shape}")
    return x, weight, bias


def padded(images: np.ndarray, padding: Any) -> np.ndarray:
    """`images` with zeros added on all four sides; `images` itself if `padding` is 0."""
    ph, pw = pair(padding, "padding", 0)
    if ph == pw == 0:
        return images
    samples, channels, height, width = images.shape
    image = np.zeros((samples, channels, height + 2 * ph, width + 2 * pw), images.dtype)
    image[:, :, ph : ph + height, pw : pw + width] = images
    return image


def im2col(x: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0) -> np.ndarray:
    """What every window sees, each in a column: (N, C, H, W) -> (N, C · KH · KW, OH · OW).

    Row c · KH · KW + i · KW + j holds what the windows see at place (i, j) of channel c, the order in which
    `weight.reshape(O, -1)` has its numbers; column y · OW + x is the window at (y, x). So a convolution is
    weight.reshape(O, -1) @ columns. `padded` adds the zeros, `window_views` finds the numbers with no loop over windows.

    Args:
        x: an array or a Tensor; `images_of(x, "im2col")` gives its values.
        kernel_size, stride, padding: whole numbers, or pairs (height, width).

    Returns:
        an array of x's dtype; where nothing has to be copied (a window of 1) it may share x's memory.

    Raises:
        ValueError: x is not (N, C, H, W), or the window does not fit.

    Source: Chellapilla, Puri and Simard 2006, "High performance convolutional neural networks for document processing".

    >>> im2col(np.arange(6).reshape(1, 1, 2, 3), kernel_size=2)[0].tolist()
    [[0, 1], [1, 2], [3, 4], [4, 5]]
    """
    images = padded(images_of(x, "im2col"), padding)
    views = window_views(images, kernel_size, stride)
    columns = np.stack(views, axis=2) if len(views) > 1 else views[0]  # (N, C, KH·KW, OH, OW)
    samples, channels, oh, ow = views[0].shape
    return columns.reshape(samples, channels * len(views), oh * ow)


def col2im(columns: np.ndarray, shape: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0) -> np.ndarray:
    """The way back: every number of `columns` is added to the place in the image where `im2col` took it from.

    (N, C · KH · KW, OH · OW) -> (N, C, H, W). Where windows overlap, a place gets several numbers, and they add up;
    where no window looks, it stays 0. What falls on the padding is dropped. It is not im2col's inverse but its transpose,
    and so its gradient.

    Args:
        shape: (N, C, H, W), the shape of the image without padding.

    Raises:
        ValueError: `columns` has not the shape that im2col gives for such images; both shapes are named.

    >>> col2im(np.ones((1, 4, 2)), (1, 1, 2, 3), kernel_size=2)[0, 0].tolist()
    [[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]]
    """
    (samples, channels, height, width), (ph, pw) = shape, pair(padding, "padding", 0)
    image = np.zeros((samples, channels, height + 2 * ph, width + 2 * pw), columns.dtype)
    views = window_views(image, kernel_size, stride)
    oh, ow = views[0].shape[2:]
    if columns.shape != (samples, channels * len(views), oh * ow):
        raise ValueError(f"col2im: expected columns {samples, channels * len(views), oh * ow}, got {columns.shape}")
    for place, view in enumerate(views):
        view += columns.reshape(samples, channels, len(views), oh, ow)[:, :, place]
    return image[:, :, ph : ph + height, pw : pw + width]


class Conv2d(Layer):
    """Convolution with weights that are learned, and a bias for each output channel; a ValueError for impossible sizes.

    Args:
        in_channels, out_channels: C and O; multiples of `groups`.
        kernel_size, stride, padding: whole numbers, or pairs (height, width).
        groups: 1: every output channel looks at all input channels; C: each at one of its own (depthwise).
        bias: whether to add one.

    Attributes:
        weight: Tensor (O, C / groups, KH, KW), float32, from `he_normal` with fan_in = C / groups · KH · KW.
        bias: Tensor (O,) of zeros; or None. Both require gradients.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
    ) -> None:
        if min(in_channels, out_channels, groups) < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(f"Conv2d: {in_channels} and {out_channels} channels do not divide into {groups} groups")
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size, self.stride = pair(kernel_size, "Conv2d: kernel_size"), pair(stride, "Conv2d: stride")
        self.padding = pair(padding, "Conv2d: padding", 0)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        weight = he_normal(math.prod(shape[1:]), out_channels).T.reshape(shape)
        self.weight = Tensor(weight, requires_grad=True)
        self.bias = Tensor(np.zeros(out_channels, np.float32), requires_grad=True) if bias else None

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, H, W) -> (N, out_channels, OH, OW), as `conv2d_naive` defines it; any N, also 0.

        A matrix product of the weights with `im2col`'s columns, group by group: (O / G, C / G · KH · KW) times
        (C / G · KH · KW, OH · OW). Write it for the whole batch first. `in_blocks` then does it a few samples at a time.

        Door "Conv2d" of x, self.weight and, if there is one, self.bias; saved: stride, padding (pairs) and groups. The
        columns are not kept: they take KH · KW times the memory of x, and are soon made again.

        Raises:
            ValueError: x is not (N, in_channels, H, W): `images_of` sees to that; or the window does not fit.

        >>> Conv2d(3, 8, kernel_size=3, stride=2, padding=1)(Tensor(np.zeros((5, 3, 32, 32)))).shape
        (5, 8, 16, 16)
        """
        images_of(x, f"Conv2d({self.in_channels}, {self.out_channels})", self.in_channels)
        x, groups, outputs = floating(x), self.groups, self.out_channels // self.groups
        oh, ow = output_size(x.shape[2:], self.kernel_size, self.stride, self.padding)
        weight = self.weight.data.reshape(groups, outputs, -1)  # (G, O / G, C / G · KH · KW)
        out = np.empty((len(x), groups, outputs, oh * ow), np.result_type(x.data, weight))

        def work(part: slice) -> None:
            columns = im2col(x.data[part], self.kernel_size, self.stride, self.padding)
            np.matmul(weight, columns.reshape(len(columns), groups, -1, oh * ow), out=out[part])
            if self.bias is not None:
                out[part] += self.bias.data.reshape(groups, outputs, 1)

        in_blocks(work, len(x), self.in_channels * math.prod(self.kernel_size) * oh * ow)
        inputs = [x, self.weight] if self.bias is None else [x, self.weight, self.bias]
        out = out.reshape(len(x), self.out_channels, oh, ow)
        return result_of("Conv2d", out, *inputs, stride=self.stride, padding=self.padding, groups=groups)


class Conv2dBackward(Function):
    """The rule of "Conv2d": for each group, with out = W · columns and G the gradient of out.

    d columns = Wᵀ G, which `col2im` adds up to d x;  d W = Σ G columnsᵀ over the samples;  d bias = Σ G over all but O.
    """

    stride: Pair
    padding: Pair
    groups: int

    def backward(self, grad_output: np.ndarray) -> Any:
        """One gradient per input. Only what somebody asks about is worked out: nobody wants that of the pictures."""
        samples, channels, oh, ow = grad_output.shape
        grad = grad_output.reshape(samples, self.groups, channels // self.groups, oh * ow)
        d_x = self.to_input(grad) if self.needs(0) else None
        d_weight = self.to_weight(grad) if self.needs(1) else None
        return (d_x, d_weight, grad_output.sum(axis=(0, 2, 3)))[: len(self.inputs)]

    def to_input(self, grad: np.ndarray) -> np.ndarray:
        """The gradient of x, of its shape: for each sample and group Wᵀ G, columns that `col2im` puts into place.

        Args:
            grad: gradient of the result as (N, groups, O / groups, OH · OW); x and weight are in `self.inputs`.
        """
        x, weight = self.inputs[0].data, self.inputs[1].data
        rows = weight.reshape(self.groups, grad.shape[2], -1).swapaxes(-1, -2)
        d_x = np.empty(x.shape, grad.dtype)
        count, places = x.shape[1] * math.prod(weight.shape[2:]), grad.shape[-1]  # the shape of a sample's columns

        def work(part: slice) -> None:
            columns = np.matmul(rows, grad[part]).reshape(-1, count, places)
            d_x[part] = col2im(columns, d_x[part].shape, weight.shape[2:], self.stride, self.padding)

        in_blocks(work, len(x), count * places)
        return d_x

    def to_weight(self, grad: np.ndarray) -> np.ndarray:
        """The gradient of the weight, of its shape: G columnsᵀ, added up over the samples; for an empty batch all 0.

        Args:
            grad: as for `to_input`.
        """
        x, weight = self.inputs[0].data, self.inputs[1].data
        samples, groups, outputs, places = grad.shape

        def work(part: slice) -> np.ndarray:
            columns = im2col(x[part], weight.shape[2:], self.stride, self.padding)
            columns = columns.reshape(len(columns), groups, -1, places)
            return np.matmul(grad[part], columns.swapaxes(-1, -2)).sum(axis=0)

        parts = in_blocks(work, samples, x.shape[1] * math.prod(weight.shape[2:]) * places)
        return sum(parts, np.zeros((groups, outputs, weight[0].size), grad.dtype)).reshape(weight.shape)


class Flatten(Layer):
    """What stands between convolutions and a Linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        """All axes but the first made one: (N, C, H, W) -> (N, C · H · W), also for N = 0. A tensor operation.

        Raises:
            ValueError: x has no axis for the samples.

        >>> Flatten()(Tensor(np.zeros((2, 3, 4, 4)))).shape
        (2, 48)
        """
        if x.ndim == 0:
            raise ValueError("Flatten: expected (N, …), got a single number of shape ()")
        return x.reshape(len(x), math.prod(x.shape[1:]))
