"""Stage 08, systems: what data costs before the model sees it, in pages of a file, in memory and in waiting."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["epoch_peak", "epoch_seconds", "mapped_pages", "version_count", "waiting_share"]


def mapped_pages(indices: Iterable[int], sample_bytes: int, start: int = 0, page: int = 4096) -> int:
    """The number of pages of a memory-mapped file that reading the samples `indices` touches, each counted once.

    A memory map brings a file in by whole pages: bytes 0 to page - 1, page to 2 page - 1, and so on. Sample i has the
    `sample_bytes` bytes from start + i · sample_bytes on; it may begin in the middle of a page, and end in another.

    Args:
        indices: numbers of samples, in any order; the same number may come again.
        start: the number of bytes in the file before sample 0.

    >>> mapped_pages([0, 1], sample_bytes=784, start=16), mapped_pages([0, 50], sample_bytes=784, start=16)
    (1, 2)
    """
    # >>> stage 08: your code
    raise NotImplementedError("stage 08: mapped_pages is yours to write, see stages/08_dataloader/README.md")
    # <<<


def epoch_peak(batches: Iterable[Any]) -> int:
    """Bytes that going through `batches` once has allocated at its highest point, beyond those from before it.

    No batch is kept once the next one is there. It is measured by `tracemalloc`, which knows of every array, also of
    those that other threads make. Afterwards, also after an error, `tracemalloc` runs if it was running before, and
    does not run if it was not.
    """
    # >>> stage 08: your code
    raise NotImplementedError("stage 08: epoch_peak is yours to write, see stages/08_dataloader/README.md")
    # <<<


def waiting_share(
    batches: Iterable[Any], step: Callable[[Any], Any], clock: Callable[[], float] = time.perf_counter
) -> float:
    """The share of the time of `for batch in batches: step(batch)` that is spent on waiting for the next batch.

    Waiting begins with making the iterator (`iter`), and includes the last `next`, which finds no more batch. All
    other time is that of the steps. The share is 0.0 if no time passes at all.

    Args:
        clock: gives the time in seconds.
    """
    # >>> stage 08: your code
    raise NotImplementedError("stage 08: waiting_share is yours to write, see stages/08_dataloader/README.md")
    # <<<


def epoch_seconds(load: Sequence[float], step: Sequence[float], prefetch: int) -> float:
    """Seconds from the start of an epoch to the end of its last step.

    Batch i takes load[i] seconds to make, and its step takes step[i] seconds. With `prefetch` 0 the two take turns.
    Otherwise a second worker makes the batches, one after the other from the start of the epoch, and puts each into a
    queue with room for `prefetch` of them. It may have to wait for room, and begins the next batch as soon as the last
    one is in the queue. A step begins when its batch is in the queue and the step before is done; it takes the batch
    out, which makes room.

    Args:
        load, step: seconds for each batch; both have the same length.

    >>> epoch_seconds([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], prefetch=0), epoch_seconds([1.0] * 3, [2.0] * 3, prefetch=1)
    (9.0, 7.0)
    """
    # >>> stage 08: your code
    raise NotImplementedError("stage 08: epoch_seconds is yours to write, see stages/08_dataloader/README.md")
    # <<<


def version_count(height: int, width: int, size: int, padding: int, flip: bool = True) -> int:
    """The number of different images that random crops, and mirroring if `flip`, make of one.

    Args:
        height, width: of the image, at least 2 each; no two parts of it look the same.
        size, padding: as for `RandomCrop`. `size` is at least 2, and the padding is less than `size`, so that every
            crop shows a part of the image.

    >>> version_count(32, 32, size=32, padding=4)
    162
    """
    # >>> stage 08: your code
    raise NotImplementedError("stage 08: version_count is yours to write, see stages/08_dataloader/README.md")
    # <<<
