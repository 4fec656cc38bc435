"""Stage 05, given: a check of gradients against differences, for operations of your own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch.core.autograd import no_grad
from tinytorch.core.tensor import Tensor

__all__ = ["gradcheck"]


def gradcheck(function: Callable[..., Tensor], *inputs: Any, eps: float = 1e-5, tolerance: float = 1e-6) -> bool:
    """True if the gradients of `function(*inputs)` are those that central differences find.

    Each element of each input is moved by `eps` up and down, in float64. The result is weighed with random numbers,
    which are also the gradient that `backward` is given: with ones alone, many wrong rules look right.

    Args:
        function: takes Tensors, gives a Tensor, and gives the same each time (no dropout).
        inputs: Tensors or arrays, away from kinks such as ReLU's at 0. Those that hold floats are checked, as float64
            copies; others, such as indices, are handed on as they are.
        tolerance: how far a gradient may be off, relative to the largest element expected for its input, or 1.

    Raises:
        RuntimeError: a gradient is wrong; the message names the input and the index, both counted from 0, what was
            expected and what came.
        TypeError: the result is no Tensor of float64: differences of fewer digits prove nothing.

    >>> gradcheck(lambda x, y: (x * y).exp(), Tensor([1.0, 2.0]), Tensor([[0.5], [0.25]]))
    True
    """
    leaves = [_leaf(value) for value in inputs]
    result = function(*leaves)
    if not isinstance(result, Tensor) or result.dtype != np.float64:
        got = f"a Tensor of {result.dtype}" if isinstance(result, Tensor) else type(result).__name__
        raise TypeError(f"gradcheck: expected the function to give a Tensor of float64 for float64, got {got}")
    random = np.random.default_rng(0)
    upstream = np.asarray(random.uniform(0.5, 2, result.shape) * random.choice([-1.0, 1.0], result.shape))
    if result.requires_grad:
        result.backward(upstream)
    for number, leaf in enumerate(leaves):
        if leaf.requires_grad:
            expected = _differences(function, leaves, leaf.data, upstream, eps)
            _compare(number, np.zeros(leaf.shape) if leaf.grad is None else leaf.grad, expected, tolerance)
    return True


def _leaf(value: Any) -> Tensor:
    tensor = value if isinstance(value, Tensor) else Tensor(value)
    return Tensor(tensor, dtype=np.float64, requires_grad=True) if tensor.dtype.kind == "f" else tensor


def _differences(
    function: Callable[..., Tensor], leaves: list[Tensor], values: np.ndarray, upstream: np.ndarray, eps: float
) -> np.ndarray:
    """How much the sum of the result times `upstream` moves with each of `values`, which belong to one of `leaves`."""
    slopes = np.zeros(values.shape)
    for index in np.ndindex(values.shape):
        at, ends = values[index], []
        for moved in (at + eps, at - eps):
            values[index] = moved
            with no_grad():
                ends.append(float((function(*leaves).data * upstream).sum()))
        values[index] = at
        slopes[index] = (ends[0] - ends[1]) / (2 * eps)
    return slopes


def _compare(number: int, got: np.ndarray, expected: np.ndarray, tolerance: float) -> None:
    """Raise unless `got`, the gradient of input `number`, is `expected`; NaN is never right."""
    close = np.abs(got - expected) <= tolerance * max(1.0, np.abs(expected).max(initial=0.0))
    if not close.all():
        index = tuple(int(i) for i in np.argwhere(~np.asarray(close))[0])
        raise RuntimeError(
            f"gradcheck: the gradient of input {number} is wrong at index {index}: "
            f"expected {expected[index]:.9g} (central differences), got {got[index]:.9g}"
        )
