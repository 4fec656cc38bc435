"""What stage 05 gives beside its exercises: tensors joined from several, and `gradcheck`."""

from __future__ import annotations

import re
from collections.abc import Callable
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from test_gradients import normal

# Joining


def test_joining_means_what_it_means_in_pytorch(tt: ModuleType) -> None:
    """Values against NumPy; dtypes as in `+`; nothing is recorded for constants."""
    x, y, whole = tt.Tensor([[1.0, 2.0]]), tt.Tensor(normal(3, 2)), tt.Tensor([[5, 6]])
    for result, expected in [
        (tt.where(x > 1, x, 0), np.array([[0, 2]], np.float32)),
        (tt.where([True, False], whole, x), np.array([[5, 2]], np.float32)),
        (tt.where(tt.Tensor([[True], [False]]), x, whole), np.array([[1, 2], [5, 6]], np.float32)),
        (tt.where(True, 1, 2), np.array(1)),
        (tt.cat([x, whole]), np.array([[1, 2], [5, 6]], np.float32)),
        (tt.cat((whole, y)), np.concatenate([whole.data, y.data])),
        (tt.cat([whole, whole], axis=-1), np.array([[5, 6, 5, 6]])),
        (tt.stack([x, whole], axis=2), np.array([[[1, 5], [2, 6]]], np.float32)),
        (tt.stack([x, y[0:1]]), np.stack([x.data.astype(np.float64), y.data[0:1]])),
    ]:
        np.testing.assert_array_equal(result.data, expected)
        assert result.dtype == expected.dtype and not result.requires_grad and result.grad_fn is None


@pytest.mark.parametrize(
    ("error", "call", "mentions"),
    [
        (ValueError, "where(ones(2, dtype=bool), zeros(3), zeros((2, 1)))", ["(2,)", "(3,)", "(2, 1)"]),
        (TypeError, "where(ones(2), zeros(2), 0.0)", ["float32", "booleans"]),
        (ValueError, "cat([zeros((2, 3)), zeros((2, 4))])", ["(2, 3)", "(2, 4)", "axis 0"]),
        (ValueError, "cat([zeros((2, 3)), zeros(3)])", ["(2, 3)", "(3,)"]),
        (ValueError, "cat([zeros((2, 3))], axis=2)", ["(2, 3)", "axis 2"]),
        (ValueError, "cat([zeros(()), zeros(())])", ["()"]),
        (ValueError, "cat([])", ["none"]),
        (TypeError, "cat(zeros((2, 3)))", ["(2, 3)", "list"]),
        (ValueError, "stack([zeros(2), zeros(3)])", ["(2,)", "(3,)"]),
        (ValueError, "stack([zeros(2)], axis=2)", ["(2,)", "axis 2"]),
        (ValueError, "stack(())", ["none"]),
        (TypeError, "stack(zeros((2, 3)))", ["(2, 3)", "list"]),
    ],
)
def test_joining_refuses(tt: ModuleType, error: type[Exception], call: str, mentions: list[str]) -> None:
    zeros, ones = (lambda shape, dtype="float32", f=f: tt.Tensor(f(shape, dtype)) for f in (np.zeros, np.ones))
    with pytest.raises(error) as raised:
        eval(call, {"zeros": zeros, "ones": ones, "where": tt.where, "cat": tt.cat, "stack": tt.stack})
    assert [text for text in mentions if text not in str(raised.value)] == []


# Checking gradients


def wrong_rules(tt: ModuleType) -> dict[str, Callable[..., Any]]:
    """Operations whose rules are wrong, by what is wrong with them."""

    class Twice(tt.Function):
        def forward(self, a: np.ndarray) -> np.ndarray:
            return 2 * a

        def backward(self, grad_output: np.ndarray) -> Any:
            return 2 * np.ones_like(grad_output)

    class LastWrong(Twice):
        def backward(self, grad_output: np.ndarray) -> Any:
            gradient = 2 * grad_output
            gradient[-1, -1] += 0.001
            return gradient

    class NotANumber(Twice):
        def backward(self, grad_output: np.ndarray) -> Any:
            return grad_output * np.nan

    return {
        "ignores what came": Twice.apply,
        "one element": LastWrong.apply,
        "NaN": NotANumber.apply,
        "the graph is cut": lambda a: a * tt.Tensor(a.data),
        "no gradient at all": lambda a: tt.Tensor(a.data * 2),
    }


def test_gradcheck_of_right_rules(tt: ModuleType) -> None:
    """True; float32 is checked in float64, integers are handed on, and what was given stays as it was."""
    x, rows = tt.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True), tt.Tensor([1, 1, 0])
    assert tt.gradcheck(lambda a, i: (a[i] * a[0]).exp().log(), x, rows) is True
    assert tt.gradcheck(lambda a, b: tt.log_softmax(a @ b) * a, normal(3, 3), normal(3, 3, seed=1)) is True
    assert tt.gradcheck(lambda a: a.sum(), np.zeros((0, 2))) is True
    assert x.grad is None and x.dtype == np.float32 and x.data.tolist() == [[1.0, 2.0], [3.0, 4.0]]


@pytest.mark.parametrize("wrong", ["ignores what came", "one element", "NaN", "the graph is cut", "no gradient at all"])
def test_gradcheck_of_wrong_rules(tt: ModuleType, wrong: str) -> None:
    """The second of two inputs goes through the wrong rule: an error names it, the index and both numbers."""
    operation = wrong_rules(tt)[wrong]
    with pytest.raises(RuntimeError) as raised:
        tt.gradcheck(lambda a, b: operation(b) + a, normal(2, 3), normal(2, 3, seed=1))
    index = re.escape("(1, 2)" if wrong == "one element" else "(0, 0)")
    pattern = rf"input 1 is wrong at index {index}: expected -?\d[^ ]* \(central differences\), got (-?\d|nan)"
    assert re.search(pattern, str(raised.value)), raised.value


def test_gradcheck_needs_float64(tt: ModuleType) -> None:
    for function in (lambda a: tt.Tensor(a, dtype=np.float32), lambda a: a.data):
        with pytest.raises(TypeError, match="float64"):
            tt.gradcheck(function, np.ones(2))
