"""Stage 09: pooling, which makes images smaller: of what each window sees, the largest number or the mean remains."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.core.layers import Layer
from tinytorch.core.rules import Function
from tinytorch.core.tensor import Tensor, floating, result_of
from tinytorch.core.windows import Pair, images_of, in_blocks, pair, window_views

__all__ = ["AvgPool2d", "MaxPool2d"]


class Pool2d(Layer):
    """What the two kinds have in common: a window that moves by its own size, unless `stride` says otherwise.

    Args:
        kernel_size, stride: whole numbers, or pairs (height, width).
    """

    def __init__(self, kernel_size: Any, stride: Any = None) -> None:
        name = type(self).__name__
        self.kernel_size = pair(kernel_size, f"{name}: kernel_size")
        self.stride = self.kernel_size if stride is None else pair(stride, f"{name}: stride")


class MaxPool2d(Pool2d):
    """The largest number in each window of each channel."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, OH, OW), of x's dtype; any N, also 0. NaN counts as the largest.

        The largest of `window_views`, place by place. `in_blocks` does it a few samples at a time.
        Door "MaxPool2d" of x; saved: output (the resulting array), kernel_size and stride.

        Raises:
            ValueError: x is not (N, C, H, W) (`images_of`), or the window does not fit.

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

    def backward(self, grad_output: np.ndarray) -> Any:
        """Each window's gradient goes to its largest number; of equal ones the first, row by row, gets all of it.

        Windows may overlap, and what several of them send to a number adds up. Nobody's gradient is 0. `grad_output`
        is not changed.
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
            ValueError: x is not (N, C, H, W) (`images_of`), or the window does not fit.
        """
        # >>> stage 09: your code
        raise NotImplementedError("stage 09: AvgPool2d.forward is yours to write, see stages/09_spatial/README.md")
        # <<<


class AvgPool2dBackward(Function):
    kernel_size: Pair
    stride: Pair

    def backward(self, grad_output: np.ndarray) -> Any:
        """Each number of a window gets an equal share of its gradient; shares of overlapping windows add up."""
        # >>> stage 09: your code
        raise NotImplementedError("stage 09: AvgPool2dBackward.backward is yours to write, see stages/09_spatial/README.md")
        # <<<
