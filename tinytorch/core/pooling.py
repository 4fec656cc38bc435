"""Stage 09: pooling, which makes images smaller: of what each window sees, the largest number or the mean remains.

Images are (N, C, H, W): samples, channels, height, width.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.core.blocks import in_blocks
from tinytorch.core.layers import Layer
from tinytorch.core.rules import Function
from tinytorch.core.tensor import Tensor, floating, result_of
from tinytorch.core.windows import Pair, images_of, inside, output_size, padded, pair, window_views

__all__ = ["AvgPool2d", "MaxPool2d"]


class Pool2d(Layer):
    """What both kinds of pooling have in common: a window that moves by its own size, unless `stride` says otherwise.

    Args:
        kernel_size, stride: whole numbers, or pairs (height, width).
    """

    def __init__(self, kernel_size: Any, stride: Any = None) -> None:
        name = type(self).__name__
        self.kernel_size = pair(kernel_size, f"{name}: kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, f"{name}: stride")


def least(dtype: np.dtype) -> float:
    """What is never larger than another number of `dtype`: -inf, or the smallest integer."""
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min if dtype.kind in "iu" else False


class MaxPool2d(Pool2d):
    """The largest number in each window of each channel.

    Args:
        padding: lines added on all four sides, a whole number or a pair; they never count as the largest. At most half
            of the window, so that every window sees a part of the image: a ValueError otherwise.
    """

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        super().__init__(kernel_size, stride)
        self.padding = pair(padding, "MaxPool2d: padding", 0)
        if any(2 * pad > length for pad, length in zip(self.padding, self.kernel_size)):
            raise ValueError(f"MaxPool2d: padding {self.padding} is more than half of the window {self.kernel_size}")

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, OH, OW), of x's dtype; any N, also 0. NaN counts as the largest.

        The images are `padded` with what `least` gives for their dtype. The result is the largest of their
        `window_views`, place by place. `in_blocks` does it a few samples at a time.

        Door "MaxPool2d" of x; saved: output (the resulting array), kernel_size, stride and padding.

        Raises:
            ValueError: x is not (N, C, H, W) (`images_of` sees to that), or the window does not fit.

        >>> MaxPool2d(2)(Tensor(np.arange(16.0).reshape(1, 1, 4, 4))).data[0, 0].tolist()
        [[5.0, 7.0], [13.0, 15.0]]
        """
        # >>> stage 09: your code
        raise NotImplementedError("stage 09: MaxPool2d.forward is yours to write, see stages/09_spatial/README.md")
        # <<<


class MaxPool2dBackward(Function):
    output: np.ndarray
    kernel_size: Pair
    stride: Pair
    padding: Pair

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradient of x, of grad_output's dtype: each window's gradient goes to the largest number in that window.

        Of several equal numbers the first one, row by row, gets all of it. If the largest is NaN, the window's first
        NaN gets it. The padding never gets any. Where windows overlap, a number may be the largest of several: their
        gradients add up. A number that is the largest of no window has the gradient 0. `grad_output` is not changed.
        """
        # >>> stage 09: your code
        raise NotImplementedError("stage 09: MaxPool2dBackward.backward is yours to write, see stages/09_spatial/README.md")
        # <<<


class AvgPool2d(Pool2d):
    """The mean of each window of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, OH, OW), any N; of x's dtype, of integers as float32 (`floating`).

        Door "AvgPool2d" of x; saved: kernel_size and stride.

        Raises:
            ValueError: x is not (N, C, H, W) (`images_of` sees to that), or the window does not fit.
        """
        # >>> stage 09: your code
        raise NotImplementedError("stage 09: AvgPool2d.forward is yours to write, see stages/09_spatial/README.md")
        # <<<


class AvgPool2dBackward(Function):
    kernel_size: Pair
    stride: Pair

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradient of x, of grad_output's dtype: each number of a window gets an equal share of its gradient.

        Where windows overlap, shares add up.
        """
        # >>> stage 09: your code
        raise NotImplementedError("stage 09: AvgPool2dBackward.backward is yours to write, see stages/09_spatial/README.md")
        # <<<
