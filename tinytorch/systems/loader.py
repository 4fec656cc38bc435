"""Stage 08, systems: what data costs before the model sees it: pages of a file, memory, waiting."""

from __future__ import annotations

import time
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from typing import Any

__all__ = ["epoch_peak", "epoch_seconds", "mapped_pages", "version_count", "waiting_share"]


def mapped_pages(indices: Iterable[int], sample_bytes: int, start: int = 0, page: int = 4096) -> int:
    """Pages of a memory-mapped file that have to be in memory for reading the samples `indices`, each page counted once.

    A memory map brings a file in by whole pages: bytes 0 to page - 1, page to 2 page - 1, and so on. Sample i has the
    `sample_bytes` bytes from start + i · sample_bytes on; it may begin in the middle of a page, and end in another.

    Args:
        indices: numbers of samples, in any order; the same one may come again.
        start: bytes of the file before sample 0.

    >>> mapped_pages([0, 1], sample_bytes=784, start=16), mapped_pages([0, 50], sample_bytes=784, start=16)
    (1, 2)
    """
    # >>> stage 08: your code
    raise NotImplementedError("stage 08: mapped_pages is yours to write, see stages/08_dataloader/README.md")
    # <<<


def epoch_peak(batches: Iterable[Any]) -> int:
    """Bytes that going through `batches` once has allocated at its highest point, beyond those from before it.

    No batch is kept once the next one is there. Measured by `tracemalloc`, which knows of every array, also of those that
    other threads make; it keeps running afterwards if it was running before, and else is stopped, also after an error.
    """
    # >>> stage 08: your code
    raise NotImplementedError("stage 08: epoch_peak is yours to write, see stages/08_dataloader/README.md")
    # <<<


def waiting_share(
    batches: Iterable[Any], step: Callable[[Any], Any], clock: Callable[[], float] = time.perf_counter
) -> float:
    """The share of the time of `for batch in batches: step(batch)` that is spent on waiting for the next batch.

    Waiting begins with making the iterator (`iter`), and includes the last question, which is answered by the end.
    Everything else is the steps. 0.0 if no time passes at all.

    Args:
        clock: gives the time in seconds.
    """
    # >>> stage 08: your code
    raise NotImplementedError("stage 08: waiting_share is yours to write, see stages/08_dataloader/README.md")
    # <<<


def epoch_seconds(load: Sequence[float], step: Sequence[float], prefetch: int) -> float:
    """Seconds from the start of an epoch to the end of its last step.

    Batch i takes load[i] seconds to make and step[i] seconds to work on. With `prefetch` 0 the two take turns. Else a
    second worker makes the batches, one after the other from the start of the epoch, and puts each into a queue with room
    for `prefetch` of them; it begins the next one as soon as the last is in the queue, for which it may have to wait.
    Work on a batch begins when it is in the queue and the step before is done; that frees its place.

    Args:
        load, step: seconds, as many of the one as of the other.

    >>> epoch_seconds([1.0, 1.0, 1.0], [2.0, 2.0, 2.0], prefetch=0), epoch_seconds([1.0] * 3, [2.0] * 3, prefetch=1)
    (9.0, 7.0)
    """
    # >>> stage 08: your code
    raise NotImplementedError("stage 08: epoch_seconds is yours to write, see stages/08_dataloader/README.md")
    # <<<


def version_count(height: int, width: int, size: int, padding: int, flip: bool = True) -> int:
    """How many different images random crops, and mirroring if `flip`, make of one.

    Args:
        height, width: of the image, at least 2 each; it is as good as random: no two of its parts look the same.
        size, padding: as for `RandomCrop`; the padding is less than `size`, so that something of the image is always
            to be seen, and `size` is at least 2.

    >>> version_count(32, 32, size=32, padding=4)
    162
    """
    # >>> stage 08: your code
    raise NotImplementedError("stage 08: version_count is yours to write, see stages/08_dataloader/README.md")
    # <<<
