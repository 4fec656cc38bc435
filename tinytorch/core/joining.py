"""Stage 05: tensors made from several, by choosing or by putting together, and the rules of these operations.

What a rule answers is told in `rules.py`. The operations themselves are given.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tinytorch.core.rules import Function
from tinytorch.core.tensor import Tensor, as_tensor, operands, result_of

__all__ = ["cat", "stack", "where"]


def where(condition: Any, a: Any, b: Any) -> Tensor:
    """The elements of `a` where `condition` is true, and those of `b` elsewhere. Door "Where", saved: condition.

    Args:
        condition: booleans, as a Tensor, an array or a list; saved as an array.
        a: a Tensor, an array or a number; so is `b`. All three broadcast; dtypes meet as in `+`.

    Raises:
        TypeError: `condition` is not made of booleans.
        ValueError: the shapes do not broadcast; the message names all three.

    >>> x = Tensor([1.0, -2.0, 3.0])
    >>> where(x > 0, x, 0.0)
    Tensor([1. 0. 3.], dtype=float32)
    """
    condition = np.asarray(condition.data if isinstance(condition, Tensor) else condition)
    if condition.dtype != bool:
        raise TypeError(f"where: expected a condition of booleans, as x > 0 gives, got {condition.dtype}")
    if not isinstance(a, Tensor):
        a = as_tensor(a, like=b) if isinstance(b, Tensor) else Tensor(a)
    a, b = operands(a, b)
    try:
        data = np.where(condition, a.data, b.data)
    except ValueError as error:
        shapes = f"condition {condition.shape}, a {a.shape} and b {b.shape}"
        raise ValueError(f"where: expected shapes that broadcast, got {shapes}") from error
    return result_of("Where", data, a, b, condition=condition)


class WhereBackward(Function):
    condition: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """Each of a and b gets the gradient where its elements were chosen (`self.condition`), and exactly 0 elsewhere.

        So it is also where the gradient is infinite or NaN: `where` is how one keeps such a place out.
        """
        # >>> stage 05: your code
        raise NotImplementedError("stage 05: WhereBackward.backward is yours to write, see stages/05_autograd/README.md")
        # <<<


def cat(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """`tensors` one after the other along `axis`, which they have already. Door "Cat", saved: axis.

    (2, 3) and (4, 3) along axis 0 give (6, 3). Negative axes count from the end; dtypes meet as in `+`.

    Args:
        tensors: a list or a tuple of Tensors; arrays may be among them.

    Raises:
        TypeError: `tensors` is a single Tensor.
        ValueError: there are none, they have no such axis, or they differ in the length of another one; the message
            names all shapes.

    >>> cat([Tensor([[1, 2]]), Tensor([[3, 4], [5, 6]])]).shape
    (3, 2)
    """
    return _joined("Cat", np.concatenate, tensors, axis)


class CatBackward(Function):
    axis: int

    def backward(self, grad_output: np.ndarray) -> Any:
        """For each of `self.inputs` the part of the gradient, along `self.axis`, that it filled. Lengths may differ."""
        # >>> stage 05: your code
        raise NotImplementedError("stage 05: CatBackward.backward is yours to write, see stages/05_autograd/README.md")
        # <<<


def stack(tensors: Sequence[Any], axis: int = 0) -> Tensor:
    """`tensors`, all of one shape, one after the other along a new axis. Door "Stack", saved: axis.

    Two of shape (3, 4) give (2, 3, 4) with axis 0, and (3, 4, 2) with axis 2 or -1: `axis` is where the new one stands
    in the result. Dtypes meet as in `+`.

    Args:
        tensors: a list or a tuple of Tensors; arrays may be among them.

    Raises:
        TypeError: `tensors` is a single Tensor.
        ValueError: there are none, their shapes differ, or the result has no such axis; the message names all shapes.

    >>> stack([Tensor([1, 2, 3]), Tensor([4, 5, 6])], axis=1).shape
    (3, 2)
    """
    return _joined("Stack", np.stack, tensors, axis)


class StackBackward(Function):
    axis: int

    def backward(self, grad_output: np.ndarray) -> Any:
        """For each of `self.inputs` its slice of the gradient along `self.axis`, without that axis."""
        # >>> stage 05: your code
        raise NotImplementedError("stage 05: StackBackward.backward is yours to write, see stages/05_autograd/README.md")
        # <<<


def _joined(op: str, join: Callable[..., np.ndarray], tensors: Sequence[Any], axis: int) -> Tensor:
    """What `join` makes of the values, through the door as `op`."""
    if isinstance(tensors, Tensor):
        raise TypeError(f"{op.lower()}: expected a list of Tensors, got a single one of shape {tensors.shape}")
    tensors = _of_one_kind([tensor if isinstance(tensor, Tensor) else Tensor(tensor) for tensor in tensors])
    try:
        data = join([tensor.data for tensor in tensors], axis=axis)
    except ValueError as error:  # NumPy's AxisError is one
        shapes = ", ".join(str(tensor.shape) for tensor in tensors) or "none"
        raise ValueError(f"{op.lower()} along axis {axis}, shapes {shapes}: {error}") from error
    return result_of(op, data, *tensors, axis=axis)


def _of_one_kind(tensors: list[Tensor]) -> list[Tensor]:
    """`tensors`; if some hold floats, the others as floats of that size, as `operands` does it for two."""
    floats = [tensor.dtype for tensor in tensors if tensor.dtype.kind == "f"]
    if not floats:
        return tensors
    dtype = np.result_type(*floats)
    return [tensor if tensor.dtype.kind == "f" else Tensor(tensor.data, dtype=dtype) for tensor in tensors]
