"""Stage 09: windows that slide over images: what convolution and pooling have in common.

Images are (N, C, H, W): samples, channels, height, width. A window of KH × KW is put on OH × OW places of each.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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
    # >>> stage 09: your code
    raise NotImplementedError("stage 09: output_size is yours to write, see stages/09_spatial/README.md")
    # <<<


def window_views(images: np.ndarray, kernel_size: Any, stride: Any = 1) -> list[np.ndarray]:
    """For each place in the window, what all the windows see there: KH · KW views of (N, C, OH, OW).

    View number i · KW + j holds at [n, c, y, x] the number images[n, c, y · stride + i, x · stride + j]. The views share
    their memory with `images`: nothing is copied, and what is written into a view stands in `images`.

    Args:
        images: (N, C, H, W), without padding.

    Raises:
        ValueError: the window does not fit (`output_size` says so).

    >>> [view.ravel().tolist() for view in window_views(np.arange(6).reshape(1, 1, 2, 3), (2, 2))]
    [[0, 1], [1, 2], [3, 4], [4, 5]]
    """
    # >>> stage 09: your code
    raise NotImplementedError("stage 09: window_views is yours to write, see stages/09_spatial/README.md")
    # <<<


# Blocks: a whole batch in columns takes hundreds of megabytes, and all of it would travel to memory and back. A few
# samples at a time stay in the cache. NumPy lets go of Python's lock while it computes, so that threads work at once.

BLOCK = 2**19  # numbers written per block: two megabytes of float32


def in_blocks(work: Callable[[slice], Any], samples: int, numbers_each: int) -> list[Any]:
    """`work(part)` for all parts of a batch, one after the other in several threads; the results in the batch's order.

    Args:
        work: is given slices such as slice(0, 8), which together are the whole batch; none of them is empty. It must
            not call `in_blocks` itself: it would wait for a thread, and hold one.
        samples: how many there are in the batch; for 0 the list is empty.
        numbers_each: how many numbers `work` writes for one sample.
    """
    step = max(1, BLOCK // max(1, numbers_each))
    parts = [slice(start, min(start + step, samples)) for start in range(0, samples, step)]
    return list(map(work, parts) if len(parts) < 2 else _threads.map(work, parts))


def _start_threads() -> None:
    global _threads
    _threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="tinytorch")


_start_threads()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_start_threads)  # a forked process has none of its parent's threads
