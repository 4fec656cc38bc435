"""Stage 09: convolution of arrays, as it is defined, in seven loops, and as a matrix product, much faster.

Images are (N, C, H, W), weights (O, C / groups, KH, KW): O output channels, each with a small picture for every input
channel that it looks at. `conv2d` and its two gradients are what the NumPy backend computes when `Conv2d` asks for a
convolution.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.backends import provide
from tinytorch.core.blocks import in_blocks
from tinytorch.core.tensor import Tensor
from tinytorch.core.windows import Pair, images_of, output_size, padded, pair, window_views

__all__ = ["col2im", "conv2d_naive", "im2col"]


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


def im2col(x: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0) -> np.ndarray:
    """What every window sees, each in a column: (N, C, H, W) -> (N, C · KH · KW, OH · OW).

    Row c · KH · KW + i · KW + j holds what the windows see at place (i, j) of channel c, the order in which
    `weight.reshape(O, -1)` has its numbers; column y · OW + x is the window at (y, x). So a convolution is
    weight.reshape(O, -1) @ columns. `padded` adds the zeros, `window_views` finds the numbers with no loop over
    windows.

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
    where no window looks, it stays 0. What falls on the padding is dropped. It is not im2col's inverse but its
    transpose, and so its gradient.

    Args:
        shape: (N, C, H, W), the shape of the image without padding.

    Raises:
        ValueError: `columns` has not the shape that im2col gives for such images; both shapes are named.

    >>> col2im(np.ones((1, 4, 2)), (1, 1, 2, 3), kernel_size=2)[0, 0].tolist()
    [[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]]
    """
    samples, channels, height, width = shape
    ph, pw = pair(padding, "padding", 0)
    image = np.zeros((samples, channels, height + 2 * ph, width + 2 * pw), columns.dtype)
    views = window_views(image, kernel_size, stride)
    oh, ow = views[0].shape[2:]
    if columns.shape != (samples, channels * len(views), oh * ow):
        raise ValueError(f"col2im: expected columns {samples, channels * len(views), oh * ow}, got {columns.shape}")
    for place, view in enumerate(views):
        view += columns.reshape(samples, channels, len(views), oh, ow)[:, :, place]
    return image[:, :, ph : ph + height, pw : pw + width]


def conv2d(x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, groups: int) -> np.ndarray:
    """The convolution of `conv2d_naive`, without a bias: (N, C, H, W) -> (N, O, OH, OW); any N, also 0.

    A matrix product of the weights with `im2col`'s columns, group by group: (O / G, C / G · KH · KW) times
    (C / G · KH · KW, OH · OW). Write it for the whole batch first. `in_blocks` then does it a few samples at a time.

    Args:
        weight: (O, C / groups, KH, KW). The caller has made sure that the channels fit; nothing that comes in is
            changed.
        stride, padding: pairs (height, width).

    Returns:
        a new array, of the dtype in which x and weight meet.

    Raises:
        ValueError: the window does not fit (`output_size` says so).
    """
    outputs, kernel_size = len(weight) // groups, weight.shape[2:]
    oh, ow = output_size(x.shape[2:], kernel_size, stride, padding)
    rows = weight.reshape(groups, outputs, -1)  # (G, O / G, C / G · KH · KW)
    out = np.empty((len(x), groups, outputs, oh * ow), np.result_type(x, weight))

    def work(part: slice) -> None:
        columns = im2col(x[part], kernel_size, stride, padding)
        np.matmul(rows, columns.reshape(len(columns), groups, -1, oh * ow), out=out[part])

    in_blocks(work, len(x), numbers_each=x.shape[1] * math.prod(kernel_size) * oh * ow)
    return out.reshape(len(x), len(weight), oh, ow)


def conv2d_input_gradient(
    grad: np.ndarray, x_shape: tuple[int, ...], weight: np.ndarray, stride: Pair, padding: Pair, groups: int
) -> np.ndarray:
    """The gradient of x, of the shape `x_shape` and of grad's dtype: a new array.

    With out = W · columns it is Wᵀ G for each sample and group: gradients of the columns, which `col2im` puts into
    place.

    Args:
        grad: G, the gradient of conv2d's result, (N, O, OH, OW); only to be read. The others as for `conv2d`.
    """
    outputs, places = len(weight) // groups, math.prod(grad.shape[2:])
    grad = grad.reshape(len(grad), groups, outputs, places)
    rows = weight.reshape(groups, outputs, -1).swapaxes(-1, -2)  # (G, C / G · KH · KW, O / G)
    d_x = np.empty(x_shape, grad.dtype)
    count = x_shape[1] * math.prod(weight.shape[2:])  # rows of a sample's columns

    def work(part: slice) -> None:
        columns = np.matmul(rows, grad[part]).reshape(-1, count, places)
        d_x[part] = col2im(columns, d_x[part].shape, weight.shape[2:], stride, padding)

    in_blocks(work, len(d_x), numbers_each=count * places)
    return d_x


def conv2d_weight_gradient(
    grad: np.ndarray, x: np.ndarray, weight_shape: tuple[int, ...], stride: Pair, padding: Pair, groups: int
) -> np.ndarray:
    """The gradient of the weight, of the shape `weight_shape` and of grad's dtype; for an empty batch all 0.

    With out = W · columns it is G columnsᵀ for each group, added up over the samples.

    Args:
        grad: G, the gradient of conv2d's result, (N, O, OH, OW); only to be read. The others as for `conv2d`.
    """
    outputs, places = weight_shape[0] // groups, math.prod(grad.shape[2:])
    grad = grad.reshape(len(grad), groups, outputs, places)

    def work(part: slice) -> np.ndarray:
        columns = im2col(x[part], weight_shape[2:], stride, padding)
        columns = columns.reshape(len(columns), groups, -1, places)
        return np.matmul(grad[part], columns.swapaxes(-1, -2)).sum(axis=0)

    parts = in_blocks(work, len(x), numbers_each=x.shape[1] * math.prod(weight_shape[2:]) * places)
    return sum(parts, np.zeros((groups, outputs, math.prod(weight_shape[1:])), grad.dtype)).reshape(weight_shape)


provide("conv2d", conv2d)
provide("conv2d_input_gradient", conv2d_input_gradient)
provide("conv2d_weight_gradient", conv2d_weight_gradient)
