"""Stage 01, given: who listens at the door that all results of operations come through, `result_of` in `tensor.py`.

The tape of stage 05 listens while memory is on, a switch that every thread has for itself. Watchers are told of all
operations, in every thread: a profiler, or three lines of your own that count.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

__all__ = ["gradient_at", "recording", "watch"]

Watcher = Callable[[str, Any, tuple[Any, ...], dict[str, Any]], Any]
watchers: list[Watcher] = []


class Memory(threading.local):
    """Whether operations are remembered: each thread has an `on` of its own, and begins with True."""

    on = True


memory = Memory()


def recording(on: bool) -> bool:
    """Switch the door's memory on or off in this thread, and return how it was."""
    previous, memory.on = memory.on, on
    return previous


@contextmanager
def watch(watcher: Watcher) -> Iterator[Watcher]:
    """Inside `with watch(watcher):` call `watcher(name, result, inputs, saved)` after each operation, in every thread.

    It is called whether or not a gradient is wanted, also inside `no_grad`.

    Args:
        watcher: takes the operation's name, such as "Add"; the resulting Tensor, which has its `grad_fn` already; the
            tuple of Tensors that it was made from; and what the operation saved, by name. It looks at their arrays:
            operations of its own on Tensors would be watched as well, without end.

    >>> from tinytorch.core.tensor import Tensor
    >>> names = []
    >>> with watch(lambda name, result, inputs, saved: names.append(name)):
    ...     y = (Tensor([3.0]) - 1.0).sum()
    >>> names
    ['Sub', 'Sum']
    """
    watchers.append(watcher)
    try:
        yield watcher
    finally:
        watchers.remove(watcher)


def tell_watchers(op: Any, result: Any, inputs: tuple[Any, ...], saved: dict[str, Any]) -> None:
    """Tell every watcher of an operation; one that is a Function itself goes by the name of its rule."""
    name = op if isinstance(op, str) else type(op).__name__.removesuffix("Backward")
    for watcher in tuple(watchers):
        watcher(name, result, inputs, saved)


def gradient_at(function: Any, x: Any, gradient: np.ndarray | None = None) -> np.ndarray:
    """The gradient of `function(x)` for the Tensor `x`, without disturbing any graph that `x` is part of.

    Args:
        gradient: the gradient of the result, of its shape; needed unless the result has one element.
    """
    leaf = x.detach()
    leaf.requires_grad = True
    before = recording(True)  # even inside no_grad
    try:
        function(leaf).backward(gradient)
    finally:
        recording(before)
    return leaf.grad
