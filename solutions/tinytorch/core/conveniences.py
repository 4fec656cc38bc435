"""Stage 01, given: what makes a Tensor feel at home in Python and NumPy. `Tensor` is built on this class.

Nothing here is new mathematics. Each method works on `self.data`, or is put together from operations of the Tensor; the
names and their meanings are those of PyTorch and NumPy.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from tinytorch.core.arrays import as_array, number_dtype
from tinytorch.core.door import memory


def _compared(comparison: Any) -> Any:
    """A method that compares element by element; Python's own answer for what is no number, such as None."""

    def method(self: Any, other: Any) -> Any:
        try:
            return type(self)(comparison(self.data, self._values(other)))
        except TypeError:
            return NotImplemented

    return method


def _in_place(operation: Any, sign: str) -> Any:
    """A method that changes `self.data` itself, and refuses where a gradient would be lost by that."""

    def method(self: Any, other: Any) -> Any:
        needed = self.requires_grad or getattr(other, "requires_grad", False)
        if memory.on and needed:
            raise RuntimeError(
                f"x {sign}= y works in place, and x or y requires a gradient: write x = x {sign} y, or use no_grad()"
            )
        operation(self.data, self._values(other), out=self.data)
        return self

    return method


class Conveniences:
    """Conversions, comparisons, in-place operators and small methods of a Tensor.

    Comparisons go element by element, broadcast, and give Tensors of booleans, which have no gradient. As the key of a
    dict and in a set a Tensor stands for itself alone; `is` tells whether two names mean the same tensor.

    `x += y`, `-=`, `*=` and `/=` change the memory of `x`, whose shape and dtype stay. They raise a RuntimeError where
    `x` or `y` requires a gradient, unless memory is off: inside `no_grad()` one updates parameters by hand like this.
    """

    data: np.ndarray
    requires_grad: bool
    _grad: np.ndarray | None

    @property
    def grad(self) -> np.ndarray | None:
        """None, or the gradient: an array of this tensor's shape. A Tensor may be assigned too; its array is kept.

        Raises:
            ValueError: what is assigned has another shape.
        """
        return self._grad

    @grad.setter
    def grad(self, value: Any) -> None:
        if value is not None:
            value = value.data if isinstance(value, Conveniences) else value
            if np.shape(value) != self.data.shape:
                raise ValueError(f"grad: expected an array of shape {self.data.shape}, got shape {np.shape(value)}")
            value = value if isinstance(value, np.ndarray) else np.asarray(value, self.data.dtype)
        self._grad = value

    def _values(self, other: Any) -> np.ndarray:
        """The array of another operand. A single number takes this tensor's dtype, as in arithmetic."""
        if isinstance(other, Conveniences):
            return other.data
        return as_array(other, number_dtype(other, self.data.dtype))

    # Conversions

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        return np.array(self.data, dtype=dtype, copy=copy)

    def __bool__(self) -> bool:
        if self.data.size != 1:
            raise ValueError(f"the truth of a tensor of shape {self.data.shape} is ambiguous: only one element has one")
        return bool(self.data.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __format__(self, spec: str) -> str:
        """With a format, as in f"{loss:.4f}", the number of a tensor with one element; without, its repr."""
        return format(self.item(), spec) if spec else str(self)

    def __iter__(self) -> Iterator[Any]:
        """The rows: the tensor at each index of its first axis."""
        if self.data.ndim == 0:
            raise TypeError("a single number of shape () has no rows to go through")
        return (self[row] for row in range(len(self.data)))

    # Comparisons

    __eq__, __ne__ = _compared(np.equal), _compared(np.not_equal)
    __lt__, __le__ = _compared(np.less), _compared(np.less_equal)
    __gt__, __ge__ = _compared(np.greater), _compared(np.greater_equal)
    __hash__ = object.__hash__

    def __contains__(self, value: Any) -> bool:
        return bool(np.any(np.asarray(self == value)))

    # In place

    __iadd__, __isub__ = _in_place(np.add, "+"), _in_place(np.subtract, "-")
    __imul__, __itruediv__ = _in_place(np.multiply, "*"), _in_place(np.true_divide, "/")

    # Small methods

    def argmax(self, axis: int | None = None, keepdims: bool = False) -> Any:
        """The place of the (first) largest element along `axis`, or in the flattened tensor: int64, no gradient."""
        return type(self)(self.data.argmax(axis=axis, keepdims=keepdims), dtype=np.int64)

    def min(self, axis: Any = None, keepdims: bool = False) -> Any:
        """Smallest value over `axis`, NaN if there is one, with a gradient as that of `max`."""
        if self.data.dtype.kind != "f":  # -x would leave the range of unsigned integers
            return type(self)(self.data.min(axis=axis, keepdims=keepdims))
        return -(-self).max(axis=axis, keepdims=keepdims)

    def flatten(self, start_dim: int = 0) -> Any:
        """All axes from `start_dim` on made one; a single number becomes a vector of length 1.

        Raises:
            ValueError: there is no axis `start_dim`.
        """
        shape, ndim = self.data.shape, max(self.data.ndim, 1)
        if not -ndim <= start_dim < ndim:
            raise ValueError(f"flatten: shape {shape} has no axis {start_dim}")
        start = start_dim % ndim
        return self.reshape(*shape[:start], math.prod(shape[start:]))

    def permute(self, *dims: Any) -> Any:
        """The axes in another order, in a view of the same memory: axis number i of the result is axis `dims[i]`.

        Args:
            dims: each axis once, as numbers or as one tuple; negative ones count from the end.

        Raises:
            ValueError: `dims` does not name each axis once.
        """
        dims = tuple(dims[0]) if len(dims) == 1 and isinstance(dims[0], (tuple, list)) else dims
        now = list(range(self.data.ndim))
        wanted = [dim + len(now) if dim < 0 else dim for dim in dims]
        if sorted(wanted) != now:
            raise ValueError(f"permute: expected each axis of shape {self.data.shape} once, got {dims}")
        result = self
        for place, dim in enumerate(wanted):
            found = now.index(dim)
            if found != place:
                result = result.transpose(place, found)
                now[place], now[found] = now[found], now[place]
        return result
