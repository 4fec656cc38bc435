"""The one source of random numbers: a seeded NumPy generator that every stage draws from."""

import numpy as np

__all__ = ["generator", "manual_seed"]

_generator = np.random.default_rng(0)


def manual_seed(seed: int) -> None:
    """Start the random numbers of the whole package anew.

    Args:
        seed: a non-negative integer; the same seed gives the same weights, dropout masks and samples.
    """
    global _generator
    _generator = np.random.default_rng(seed)


def generator() -> np.random.Generator:
    """The generator in use. Ask for it each time: `manual_seed` replaces it."""
    return _generator
