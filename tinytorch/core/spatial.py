"""Stage 09: layers for images: convolution, and what stands between it and a Linear layer.

What a convolution computes stands in `convolution.py`, which brings it into the NumPy backend when imported; here it
becomes a layer with parameters, and an operation with a rule. Pooling and batch normalisation have files of their own,
and are found here as well.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.config import get_backend
from tinytorch.core.convolution import col2im as col2im
from tinytorch.core.convolution import conv2d_naive as conv2d_naive
from tinytorch.core.convolution import im2col as im2col
from tinytorch.core.layers import Layer, he_normal
from tinytorch.core.normalization import BatchNorm2d as BatchNorm2d
from tinytorch.core.pooling import AvgPool2d as AvgPool2d
from tinytorch.core.pooling import MaxPool2d as MaxPool2d
from tinytorch.core.rules import Function
from tinytorch.core.tensor import Tensor, floating, result_of
from tinytorch.core.windows import Pair, images_of, pair

__all__ = ["Conv2d", "Flatten"]


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

        The backend in use computes it: `get_backend().conv2d(x, weight, stride, padding, groups)`, arrays in and a new
        array out. It is asked at each call, since `set_backend` may have exchanged it. Then the bias is added.

        Door "Conv2d" of x, self.weight and, if there is one, self.bias; saved: stride, padding (pairs) and groups. The
        columns are not kept: they take KH · KW times the memory of x, and are soon made again.

        Args:
            x: floats, or integers, which become float32 (`floating`).

        Raises:
            ValueError: x is not (N, in_channels, H, W): `images_of` sees to that; or the window does not fit.

        >>> Conv2d(3, 8, kernel_size=3, stride=2, padding=1)(Tensor(np.zeros((5, 3, 32, 32)))).shape
        (5, 8, 16, 16)
        """
        # >>> stage 09: your code
        raise NotImplementedError("stage 09: Conv2d.forward is yours to write, see stages/09_spatial/README.md")
        # <<<


class Conv2dBackward(Function):
    """The rule of "Conv2d". The backend in use computes the gradients of x and of the weight."""

    stride: Pair
    padding: Pair
    groups: int

    def backward(self, grad_output: np.ndarray) -> Any:
        """One gradient per input. Only what somebody asks about is computed: nobody wants that of the pictures."""
        x, weight = (tensor.data for tensor in self.inputs[:2])
        backend, settings = get_backend(), (self.stride, self.padding, self.groups)
        d_x = backend.conv2d_input_gradient(grad_output, x.shape, weight, *settings) if self.needs(0) else None
        d_weight = backend.conv2d_weight_gradient(grad_output, x, weight.shape, *settings) if self.needs(1) else None
        if len(self.inputs) == 2:
            return d_x, d_weight
        return d_x, d_weight, grad_output.sum(axis=(0, 2, 3))


class Flatten(Layer):
    """What stands between convolutions and a Linear layer."""

    def forward(self, x: Tensor) -> Tensor:
        """All axes but the first made one: (N, C, H, W) -> (N, C · H · W), also for N = 0. A tensor operation.

        Raises:
            ValueError: x has no axis for the samples.

        >>> Flatten()(Tensor(np.zeros((2, 3, 4, 4)))).shape
        (2, 48)
        """
        # >>> stage 09: your code
        raise NotImplementedError("stage 09: Flatten.forward is yours to write, see stages/09_spatial/README.md")
        # <<<
