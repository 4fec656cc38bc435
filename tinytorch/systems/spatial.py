"""Stage 09, systems: what a convolution costs in arithmetic and in memory, and how far it sees."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tinytorch.core.windows import output_size

__all__ = ["column_bytes", "conv_flops", "receptive_field", "separable_cost", "winograd_products"]


def conv_flops(images: Sequence[int], weight: Sequence[int], stride: Any = 1, padding: Any = 0) -> int:
    """Floating-point operations of a convolution by its definition, without bias: one multiplication and one addition
    for each number in the window, for each number of the result. Zeros of the padding are multiplied too.

    Of an N × N image and a window of K × K, moved by 1, it is O(N² K²); for M input and M output channels it is
    O(N² M² K²).

    Args:
        images: the shape (N, C, H, W).
        weight: the shape (O, C / groups, KH, KW).

    >>> conv_flops((1, 3, 32, 32), (16, 3, 3, 3), padding=1)
    884736
    """
    # >>> stage 09: your code
    raise NotImplementedError("stage 09: conv_flops is yours to write, see stages/09_spatial/README.md")
    # <<<


def column_bytes(images: Sequence[int], kernel_size: Any, stride: Any = 1, padding: Any = 0, itemsize: int = 4) -> int:
    """Bytes of the array that `im2col` makes of images of the shape (N, C, H, W), `itemsize` bytes a number.

    >>> column_bytes((128, 32, 16, 16), kernel_size=3, padding=1) / (128 * 32 * 16 * 16 * 4)
    9.0
    """
    # >>> stage 09: your code
    raise NotImplementedError("stage 09: column_bytes is yours to write, see stages/09_spatial/README.md")
    # <<<


def receptive_field(layers: Sequence[tuple[int, int]]) -> int:
    """How far one number of the result sees after all these layers: from the first pixel that changes it to the last.

    Counted along a row or a column of the image. A convolution or a pooling adds its window, less one, at the distance
    at which neighbours of its input stand in the image; its stride makes that distance longer for all layers after it.

    Args:
        layers: (kernel_size, stride) of each, the first one first.

    >>> receptive_field([(3, 1), (3, 1)]), receptive_field([(3, 1), (2, 2), (3, 1)])
    (5, 8)
    """
    # >>> stage 09: your code
    raise NotImplementedError("stage 09: receptive_field is yours to write, see stages/09_spatial/README.md")
    # <<<


def separable_cost(in_channels: int, out_channels: int, kernel_size: int, places: int) -> tuple[int, int]:
    """Parameters and FLOPs of a depthwise separable convolution: what takes the place of one full convolution.

    First every input channel has a K × K window of its own (groups = in_channels, as many outputs), then a convolution
    with a window of 1 mixes the channels. Both without bias, and both with `places` = OH · OW places for one image; a
    multiplication and an addition are two FLOPs.

    Source: Howard et al. 2017, "MobileNets", arXiv:1704.04861, section 3.1.

    >>> separable_cost(128, 256, kernel_size=3, places=1)  # the full convolution has 294,912 parameters
    (33920, 67840)
    """
    # >>> stage 09: your code
    raise NotImplementedError("stage 09: separable_cost is yours to write, see stages/09_spatial/README.md")
    # <<<


def winograd_products(height: int, width: int) -> int:
    """How many multiplications of an image's number by a weight F(2×2, 3×3) needs, for a result of height × width.

    Winograd's algorithm makes the result of a 3 × 3 window in tiles of 2 × 2. For a tile it takes the 4 × 4 numbers of
    the image that the tile looks at, adds and subtracts among them, multiplies what comes out, number by number,
    with 4 × 4 numbers made of the weights beforehand, and gets the tile from that by adding again. A tile that
    stands over the edge costs as much as a whole one. One image, one input and one output channel; by definition it
    is 9 · height · width.

    Source: Lavin and Gray 2016, "Fast algorithms for convolutional neural networks", arXiv:1509.09308, section 4.1.

    >>> winograd_products(2, 2), winograd_products(5, 1)
    (16, 48)
    """
    # >>> stage 09: your code
    raise NotImplementedError("stage 09: winograd_products is yours to write, see stages/09_spatial/README.md")
    # <<<
