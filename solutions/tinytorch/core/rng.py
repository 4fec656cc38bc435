"""The one source of random numbers: a seeded NumPy generator that every stage draws from."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

__all__ = ["drawing_from", "generator", "manual_seed"]

_generator = np.random.default_rng(0)


class _Here(threading.local):
    """What a thread draws from instead of the package's generator, if anything."""

    own: np.random.Generator | None = None


_here = _Here()


def manual_seed(seed: int) -> None:
    """Start the random numbers of the whole package anew.

    Args:
        seed: a non-negative integer; the same seed gives the same weights, dropout masks and samples.
    """
    global _generator
    _generator = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """The generator in use. Ask for it each time: `manual_seed` replaces it."""
    return _here.own or _generator


@contextmanager
def drawing_from(own: np.random.Generator) -> Iterator[None]:
    """Inside `with drawing_from(own):` this thread's random numbers come from `own`; those of other threads do not.

    Threads that share one generator would get its numbers in an order that changes from run to run.
    """
    before, _here.own = _here.own, own
    try:
        yield
    finally:
        _here.own = before
