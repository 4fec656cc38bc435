"""Stage 03, given: work on a batch in blocks, a few samples at a time, in several threads.

All of a large batch would travel to memory and back at every step; a few samples at a time stay in the cache. NumPy
lets go of Python's lock while it computes, so that threads really work at the same time. They start when they are
first used, and a forked process starts its own.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from operator import index
from typing import Any

BLOCK = 2**19  # numbers written per block: two megabytes of float32


def in_blocks(work: Callable[[slice], Any], samples: int, *, numbers_each: int) -> list[Any]:
    """Call `work(part)` for all parts of a batch, and return the results in the batch's order.

    Args:
        work: is given slices such as slice(0, 8), which together are the whole batch; none of them is empty. It must
            write to no memory but its own part's, since several parts are worked on at the same time.
        samples: how many samples there are in the batch; for 0 the list is empty.
        numbers_each: how many numbers `work` writes for one sample. It decides how many samples make a block, and is
            given by its name, since nobody could tell it from `samples` otherwise.

    Raises:
        TypeError: `work` cannot be called, or one of the two is no whole number.
        ValueError: one of the two is negative.

    >>> in_blocks(lambda part: (part.start, part.stop), 5, numbers_each=BLOCK // 2)
    [(0, 2), (2, 4), (4, 5)]
    """
    if not callable(work):
        raise TypeError(f"in_blocks: expected a function of a slice, got {work!r:.60}")
    samples, numbers_each = index(samples), index(numbers_each)
    if samples < 0 or numbers_each < 0:
        raise ValueError(f"in_blocks: expected counts, got {samples} samples and {numbers_each} numbers each")
    step = max(1, BLOCK // max(1, numbers_each))
    parts = [slice(start, min(start + step, samples)) for start in range(0, samples, step)]
    if len(parts) < 2 or getattr(_here, "is_worker", False):  # a worker that waited for the others could wait forever
        return list(map(work, parts))
    return list(_workers().map(work, parts))


_here = threading.local()
_threads: ThreadPoolExecutor | None = None
_starting = threading.Lock()


def _workers() -> ThreadPoolExecutor:
    global _threads
    with _starting:
        if _threads is None:
            _threads = ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="tinytorch", initializer=_mark_worker)
        return _threads


def _mark_worker() -> None:
    _here.is_worker = True


def _forget_threads() -> None:
    """A forked process has none of its parent's threads, and its only thread is no worker."""
    global _threads, _starting, _here
    _threads, _starting, _here = None, threading.Lock(), threading.local()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_threads)
