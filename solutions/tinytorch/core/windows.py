"""Stage 09: windows that slide over images: what convolution and pooling have in common.

Images are (N, C, H, W): samples, channels, height, width. A window of KH × KW is put on OH × OW places of each.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.core.tensor import Tensor

__all__ = ["output_size", "window_views"]

Pair = tuple[int, int]


def pair(value: Any, name: str, least: int = 1) -> Pair:
    """`value` for height and width: a whole number counts for both. A ValueError for less than `least`."""
    numbers = tuple(value) if isinstance(value, (tuple, list)) else (value, value)
    if len(numbers) != 2 or not all(isinstance(n, (int, np.integer)) and n >= least for n in numbers):
        raise ValueError(f"{name}: expected a whole number of at least {least}, or a pair of them, got {value!r}")
    return int(numbers[0]), int(numbers[1])


def images_of(x: Any, caller: str, channels: int | None = None) -> np.ndarray:
    """The values of `x`, an array or a Tensor; a ValueError unless they are (N, C, H, W), with so many channels."""
    images = x.data if isinstance(x, Tensor) else np.asarray(x)
    if images.ndim != 4 or channels not in (None, images.shape[1]):
        raise ValueError(f"{caller}: expected images (N, {channels or 'C'}, H, W), got shape {images.shape}")
    return images


def padded(images: np.ndarray, padding: Any, value: float = 0) -> np.ndarray:
    """`images` with lines of `value` added on all four sides; `images` itself if `padding` is 0."""
    ph, pw = pair(padding, "padding", 0)
    if ph == pw == 0:
        return images
    samples, channels, height, width = images.shape
    image = np.full((samples, channels, height + 2 * ph, width + 2 * pw), value, images.dtype)
    image[:, :, ph : ph + height, pw : pw + width] = images
    return image


def inside(image: np.ndarray, padding: Any) -> np.ndarray:
    """The images without the lines that `padded` has added, as a view."""
    ph, pw = pair(padding, "padding", 0)
    return image[:, :, ph : image.shape[2] - ph, pw : image.shape[3] - pw]


def output_size(size: Any, kernel_size: Any, stride: Any = 1, padding: Any = 0) -> Pair:
    """On how many places a window is put, along the height and along the width: OH and OW.

    `padding` lines are added to an image on each of its four sides. The window starts in one corner and moves on
    by `stride` as long as it lies inside as a whole; what is left over at the far side is not looked at.

    Args:
        size: height and width of the image. All four are pairs of whole numbers, or one number for both (`pair`).

    Raises:
        ValueError: the window is larger than the padded image; the message names `kernel_size` and `size` as pairs. Or
            one of the four is no such number (`pair` sees to that, if it is told the name).

    >>> output_size((7, 32), kernel_size=3, stride=2, padding=1)
    (4, 16)
    """
    size, kernel = pair(size, "size", 0), pair(kernel_size, "kernel_size")
    strides, paddings = pair(stride, "stride"), pair(padding, "padding", 0)
    room = [length + 2 * pad - window for length, pad, window in zip(size, paddings, kernel)]
    if min(room) < 0:
        raise ValueError(f"a window of {kernel} does not fit into an image of {size} with padding {paddings}")
    return room[0] // strides[0] + 1, room[1] // strides[1] + 1


def window_views(images: np.ndarray, kernel_size: Any, stride: Any = 1) -> list[np.ndarray]:
    """For each place in the window, what all the windows see there: KH · KW views of (N, C, OH, OW).

    View number i · KW + j holds at [n, c, y, x] the number images[n, c, y · stride + i, x · stride + j]. The views
    share their memory with `images`: nothing is copied, and what is written into a view stands in `images`.

    Args:
        images: (N, C, H, W), without padding.

    Raises:
        ValueError: the window does not fit (`output_size` says so).

    >>> [view.ravel().tolist() for view in window_views(np.arange(6).reshape(1, 1, 2, 3), (2, 2))]
    [[0, 1], [1, 2], [3, 4], [4, 5]]
    """
    (kh, kw), (sh, sw) = pair(kernel_size, "kernel_size"), pair(stride, "stride")
    oh, ow = output_size(images.shape[2:], kernel_size, stride)
    return [images[:, :, i : i + sh * oh : sh, j : j + sw * ow : sw] for i in range(kh) for j in range(kw)]
