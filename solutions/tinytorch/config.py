"""Stage 01, given: which backend computes the heavy products. One choice, for the whole process.

>>> previous = set_backend("numpy")
>>> get_backend()
NumPyBackend()
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from typing import Any

from tinytorch.backends import NumPyBackend

__all__ = ["get_backend", "register_backend", "set_backend"]

_registered: dict[str, Any] = {"numpy": NumPyBackend()}
_backend: Any = _registered["numpy"]


def get_backend() -> Any:
    """The backend in use. Ask for it at each operation: `set_backend` may have exchanged it."""
    return _backend


def set_backend(backend: Any) -> Any:
    """Let `backend` compute from now on, in all models that exist already too, and return the one before.

    Args:
        backend: an object with the methods of `ComputeBackend`, or the name of a registered one. A name that is not
            registered yet is looked for in tinytorch/backends/NAME.py, which registers itself when it is imported.

    Raises:
        ValueError: no backend of that name; the message lists those that there are.
        TypeError: `backend` cannot multiply matrices.
    """
    global _backend
    found = _named(backend) if isinstance(backend, str) else backend
    if isinstance(found, type) or not callable(getattr(found, "matmul", None)):
        raise TypeError(f"expected a backend, an object with a method matmul, or its name, got {backend!r}")
    previous, _backend = _backend, found
    return previous


def register_backend(name: str, backend: Any) -> None:
    """Give `backend`, an object with the methods of `ComputeBackend`, the name by which `set_backend` finds it."""
    _registered[name] = backend


def _named(name: str) -> Any:
    if name not in _registered and name.isidentifier() and find_spec(f"tinytorch.backends.{name}"):
        import_module(f"tinytorch.backends.{name}")
    if name not in _registered:
        raise ValueError(f"no backend {name!r}: there are {', '.join(sorted(_registered))}")
    return _registered[name]
