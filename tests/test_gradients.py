"""The promise of stage 05, kept by the reference and shown from outside the gate.

The gradient of every operation agrees with central differences, and the way back takes time linear in the graph.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import ROOT


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    """Away from 0, where ReLU has a kink and 1/x a pole."""
    values = np.random.default_rng([seed, *shape]).normal(size=shape)
    return values + 0.1 * np.sign(values)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    return np.abs(normal(*shape, seed=seed)) + 0.3


def fractions(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).uniform(0.1, 0.9, shape)


Case = tuple[
    str, Callable[[Any], Callable[..., Any]], tuple[np.ndarray, ...]
]  # name, of the package a function, values


def cases() -> Iterator[Case]:
    """Every operation of stages 01 to 04, in every kind of shape that it takes."""
    broadcast = [
        ((3,), (3,)),
        ((2, 3), (3,)),
        ((3,), (2, 3)),
        ((2, 1), (1, 3)),
        ((), (2, 2)),
        ((2, 2), ()),
        ((), ()),
        ((1,), (4, 1)),
        ((4, 1, 2), (3, 1)),
        ((0, 3), (3,)),
        ((1, 3), (0, 3)),
        ((1, 1), (1,)),
    ]
    binary: dict[str, Callable[[Any, Any], Any]] = {
        "add": lambda a, b: a + b,
        "sub": lambda a, b: a - b,
        "mul": lambda a, b: a * b,
        "div": lambda a, b: a / b,
        "pow": lambda a, b: a**b,
    }
    for left, right in broadcast:
        for name, operation in binary.items():
            yield f"{name} {left} {right}", lambda tt, f=operation: f, (positive(*left), positive(*right, seed=1))
    for name, operation in binary.items():
        yield f"{name} a number, right", lambda tt, f=operation: lambda a: f(a, 2.0), (positive(2, 3),)
        yield f"{name} a number, left", lambda tt, f=operation: lambda a: f(2.0, a), (positive(2, 3),)
        yield f"{name} itself", lambda tt, f=operation: lambda a: f(a, a), (positive(2, 3),)
    for exponent in (0, 1, 2, 3, -1, -2):
        yield f"pow {exponent}, negative base", lambda tt, n=exponent: lambda a: a**n, (normal(5),)
    yield "pow 2 and 3 at 0", lambda tt: lambda a: a**2 + a**3, (np.zeros(2),)
    yield "neg", lambda tt: lambda a: -a, (normal(2, 3),)

    for left, right in [
        ((2, 3), (3, 4)),
        ((1, 3), (3, 1)),
        ((3, 3), (3, 3)),
        ((2, 0), (0, 3)),
        ((0, 3), (3, 2)),
        ((3,), (3,)),
        ((3,), (3, 4)),
        ((2, 3), (3,)),
        ((3,), (5, 3, 4)),
        ((5, 2, 3), (3,)),
        ((3,), (2, 2, 3, 2)),
        ((5, 2, 3), (5, 3, 4)),
        ((5, 2, 3), (3, 4)),
        ((2, 3), (5, 3, 4)),
        ((1, 2, 3), (5, 3, 4)),
        ((2, 1, 2, 3), (3, 3, 2)),
        ((2, 2, 2, 3), (3, 2)),
        ((4, 2, 0), (0, 3)),
        ((3, 4, 2), (1, 2, 1)),
        ((1, 4, 2), (3, 2, 1)),
    ]:
        yield f"matmul {left} {right}", lambda tt: lambda a, b: a @ b, (normal(*left), normal(*right, seed=1))
    yield "matmul of a transposed", lambda tt: lambda a, b: a.T @ b, (normal(4, 2), normal(4, 3, seed=1))
    yield "matmul of a slice", lambda tt: lambda a, b: a[:, ::2] @ b[::-1], (normal(2, 4), normal(2, 3, seed=1))
    yield "matmul by itself", lambda tt: lambda a: a @ a.T, (normal(2, 3),)
    yield (
        "matmul in Fortran order",
        lambda tt: lambda a, b: a @ b,
        (np.asfortranarray(normal(2, 3)), np.asfortranarray(normal(3, 4))),
    )

    for before, after in [((2, 3), (3, 2)), ((2, 3), (-1,)), ((6,), (1, 2, 3)), ((1,), ()), ((0, 2), (2, 0))]:
        yield f"reshape {before} {after}", lambda tt, s=after: lambda a: a.reshape(s), (normal(*before),)
    for dims in [(0, 1), (1, 2), (-1, 0), (1, 1)]:
        yield f"transpose {dims}", lambda tt, d=dims: lambda a: a.transpose(*d), (normal(2, 3, 4),)
    yield "transpose and reshape", lambda tt: lambda a: a.transpose(0, 2).reshape(4, -1), (normal(2, 3, 4),)
    for index in [
        0,
        -1,
        (1, 2),
        slice(1, None),
        (slice(None), slice(None, None, -2)),
        (..., 1),
        (None, 0),
        [0, 0, 2],
        ([0, 1, 0], [2, 2, 2]),
        (slice(None), [1, 1]),
        (0, (1, 1)),
        (..., [2, 0, 2]),
        (1, np.array([True, False, True, True])),
        (None, np.int64(1), [3, 3]),
        (),
        True,
        np.array([[0, 1], [1, 1]]),
        np.array([True, False, True]),
        (0, 0, 0),
    ]:
        yield f"index {index}", lambda tt, i=index: lambda a: a[i], (normal(3, 4, 3),)
    yield "index by a slice and a Tensor", lambda tt: lambda a: a[:, tt.Tensor([1, 1, 0])], (normal(3, 2),)
    yield "index by a Tensor", lambda tt: lambda a: a[tt.Tensor([1, 1, 0])], (normal(3, 2),)

    for axis in [None, 0, 1, -1, (0, 2), (-1, 0), (0, 1, 2)]:
        for keepdims in (False, True):
            for name in ("sum", "mean", "max"):
                reduction = lambda tt, n=name, x=axis, k=keepdims: lambda a: getattr(a, n)(axis=x, keepdims=k)
                yield f"{name} axis={axis} keepdims={keepdims}", reduction, (normal(2, 3, 4),)
    for name in ("sum", "mean", "max"):
        yield f"{name} of a number", lambda tt, n=name: lambda a: getattr(a, n)(), (normal(),)
        yield (
            f"{name} over axes of length 1",
            lambda tt, n=name: lambda a: getattr(a, n)(axis=(0, 2)),
            (normal(1, 3, 1),),
        )
    for name in ("sum", "mean", "max"):
        for axis in (0, -1, ()):
            reduction = lambda tt, n=name, x=axis: lambda a: getattr(a, n)(axis=x) * 3.0
            yield f"{name} of a number over axis {axis}", reduction, (normal(),)
    yield "sum of nothing", lambda tt: lambda a: a.sum(axis=0), (normal(0, 3),)

    mask = normal(2, 3, seed=2) > 0
    for left, right in [((2, 3), (2, 3)), ((3,), (2, 1)), ((), (2, 3)), ((1, 2, 3), ()), ((4, 1, 1), (3,))]:
        choice = lambda tt: lambda a, b: tt.where(mask, a, b)
        yield f"where {left} {right}", choice, (normal(*left), normal(*right, seed=1))
    yield "where, a number right", lambda tt: lambda a: tt.where(tt.Tensor(mask), a, 2.0), (normal(2, 3),)
    yield "where, a number left", lambda tt: lambda a: tt.where(mask.tolist(), 2.0, a), (normal(2, 3),)
    for *shapes, axis in [
        ((2,), (3,), 0),
        ((2, 3), (0, 3), (1, 3), 0),
        ((2, 1), (2, 3), -1),
        ((1, 2, 2), (1, 5, 2), 1),
    ]:
        joined = lambda tt, x=axis: lambda *parts: tt.cat(parts, x)
        yield f"cat {shapes} {axis}", joined, tuple(normal(*shape, seed=seed) for seed, shape in enumerate(shapes))
    for shape, axis in [((), 0), ((3,), 0), ((3,), 1), ((3,), -1), ((2, 3), 1), ((2, 3), -2), ((0, 2), 0)]:
        stacked = lambda tt, x=axis: lambda *parts: tt.stack(parts, x)
        yield f"stack {shape} {axis}", stacked, tuple(normal(*shape, seed=seed) for seed in range(3))
    yield "cat of one twice", lambda tt: lambda a: tt.cat([a, a, np.ones((1, 3))]), (normal(2, 3),)
    yield "stack of one twice", lambda tt: lambda a: tt.stack([a, a], axis=1), (normal(2, 3),)

    along_axes: dict[str, Callable[[Any], Callable[[Any], Any]]] = {
        "exp": lambda tt: lambda a: a.exp(),
        "log": lambda tt: lambda a: a.log(),
        "ReLU": lambda tt: tt.ReLU(),
        "Sigmoid": lambda tt: tt.Sigmoid(),
        "Tanh": lambda tt: tt.Tanh(),
        "GELU": lambda tt: tt.GELU(),
        "GELU tanh": lambda tt: tt.GELU("tanh"),
        "Softmax": lambda tt: tt.Softmax(),
        "Softmax 0": lambda tt: tt.Softmax(0),
        "log_softmax": lambda tt: tt.log_softmax,
        "log_softmax 0": lambda tt: lambda a: tt.log_softmax(a, 0),
    }
    for name, operation in along_axes.items():
        values = positive if name == "log" else normal
        for shape in [(3,), (2, 3), (2, 1), (1, 1), (2, 3, 2)]:
            yield f"{name} {shape}", operation, (values(*shape),)
        yield f"{name} of a transposed", lambda tt, f=operation: lambda a: f(tt)(a.T), (values(2, 3),)

    for batch, classes in [(4, 3), (1, 5), (3, 1)]:
        targets = np.random.default_rng(batch).integers(0, classes, batch)
        for smoothing in (0.0, 0.1):
            loss = lambda tt, t=targets, s=smoothing: lambda a: tt.CrossEntropyLoss(label_smoothing=s)(a, t)
            yield f"CrossEntropyLoss({smoothing}) {batch, classes}", loss, (normal(batch, classes),)
    for shape in [(3,), (3, 2), (1, 1)]:
        target = fractions(*shape, seed=1)
        binary_loss = lambda tt, t=target: lambda a: tt.BinaryCrossEntropyLoss()(a, t)
        yield f"BinaryCrossEntropyLoss {shape}", binary_loss, (fractions(*shape),)
        yield f"MSELoss {shape}", lambda tt: lambda a, b: tt.MSELoss()(a, b), (normal(*shape), normal(*shape, seed=1))
    yield (
        "checkpoint",
        lambda tt: lambda a, b: tt.checkpoint(lambda a, b: (a @ b).exp(), a, b) * a,
        (normal(2, 2), normal(2, 2, seed=1)),
    )


CASES = list(cases())


def differences(
    function: Callable[..., np.ndarray], values: list[np.ndarray], position: int, upstream: np.ndarray
) -> np.ndarray:
    """d(sum of function · upstream) / d(values[position]), element by element, by central differences."""
    result = np.zeros(values[position].shape)
    for index in np.ndindex(result.shape):
        ends = []
        for step in (1e-5, -1e-5):
            moved = [value.copy() for value in values]
            moved[position][index] += step
            ends.append((function(*moved) * upstream).sum())
        result[index] = (ends[0] - ends[1]) / 2e-5
    return result


@pytest.mark.parametrize(("name", "make", "values"), CASES, ids=[case[0] for case in CASES])
def test_gradient(
    tt: ModuleType, name: str, make: Callable[[Any], Callable[..., Any]], values: tuple[np.ndarray, ...]
) -> None:
    """Every element within 1e-6, relative to the largest or 1, under a random upstream gradient in float64."""
    function = make(tt)
    leaves = [tt.Tensor(value, requires_grad=True) for value in values]
    result = function(*leaves)
    upstream = np.asarray(
        np.random.default_rng(9).uniform(0.5, 2, result.shape) * np.where(normal(*result.shape) > 0, 1, -1)
    )
    result.backward(upstream)
    forward = lambda *arrays: function(*map(tt.Tensor, arrays)).data
    for position, leaf in enumerate(leaves):
        expected = differences(forward, [np.array(value) for value in values], position, upstream)
        assert isinstance(leaf.grad, np.ndarray) and leaf.grad.dtype == np.float64 and leaf.grad.shape == leaf.shape
        assert np.abs(leaf.grad - expected).max(initial=0.0) <= 1e-6 * max(1.0, np.abs(expected).max(initial=0.0)), (
            leaf.grad,
            expected,
        )


OPERATIONS = [f"tinytorch.core.{name}" for name in ("rules", "activation_rules", "joining")]


def test_the_table_has_every_operation(tt: ModuleType) -> None:
    """Each rule of stage 05's operations is asked by at least one of the cases above."""
    seen: set[str] = set()
    before = tt.plug_in(SimpleNamespace(record=lambda op, result, inputs, saved: seen.add(f"{op}Backward")))
    try:
        for _, make, values in CASES:
            for parts in range(len(values)):  # behind the first result nothing is recorded, so each leaf has its turn
                make(tt)(*(tt.Tensor(value, requires_grad=i == parts) for i, value in enumerate(values)))
    finally:
        tt.plug_in(before)
    own = {name for name, rule in tt.RULES.items() if rule.__module__ in OPERATIONS and name.endswith("Backward")}
    assert own - seen == set()
    assert {tt.RULES[name].__module__ for name in own} == set(OPERATIONS)


def test_importing_the_engine_brings_every_rule() -> None:
    """Whoever imports autograd alone has the rules of all operations of stages 01 to 05."""
    code = "import tinytorch.core.autograd as a; print(*sorted({rule.__module__ for rule in a.RULES.values()}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT / "solutions", capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == sorted([*OPERATIONS, "tinytorch.core.autograd"])


def random_graph(x: Any, y: Any, seed: int) -> Any:
    """Sums, products and bends of randomly chosen earlier values."""
    random = np.random.default_rng(seed)
    values = [x, y]
    for _ in range(12):
        a, b = (values[i] for i in random.integers(max(0, len(values) - 5), len(values), 2))
        kind = random.integers(5)
        values.append([a + b, a * b * 0.3, a - b, (a * 0.2).exp(), b / (a * a + 1.0)][kind])
    return sum(values[-3:], x * y)


@pytest.mark.parametrize("seed", range(20))
def test_gradients_of_random_graphs(tt: ModuleType, seed: int) -> None:
    test_gradient(
        tt, "random graph", lambda tt: lambda a, b: random_graph(a, b, seed), (normal(3), normal(2, 3, seed=1))
    )


# Time


def chain(tt: ModuleType, length: int) -> tuple[Any, Any]:
    x = y = tt.Tensor(np.ones(1), requires_grad=True)
    for _ in range(length):
        y = y + x
    return x, y


def tower(tt: ModuleType, height: int) -> tuple[Any, Any]:
    x = y = tt.Tensor(np.ones(1), requires_grad=True)
    for _ in range(height):
        y = y + y * 0.5
    return x, y


def calls_of(action: Callable[[], Any]) -> int:
    """How many calls of functions `action` makes, in Python and in C: a measure of work that no load disturbs."""
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    sys.setprofile(count)
    try:
        action()
    finally:
        sys.setprofile(None)
    return calls


@pytest.mark.parametrize(("make", "size"), [(chain, 250), (tower, 8)])
def test_work_grows_with_the_graph(tt: ModuleType, make: Callable[..., tuple[Any, Any]], size: int) -> None:
    """Each further level takes as many calls as the one before, though it doubles the paths of a tower."""
    calls = [calls_of(make(tt, times * size)[1].backward) for times in (1, 2, 3)]
    assert calls[2] - calls[1] == calls[1] - calls[0] > 0, calls


@pytest.mark.parametrize(("make", "size", "expected"), [(chain, 5000, 5001.0), (tower, 60, 1.5**60)])
def test_long_and_branching_graphs(
    tt: ModuleType, make: Callable[..., tuple[Any, Any]], size: int, expected: float
) -> None:
    """The right gradient, without recursion. How long it takes, stages/05_autograd/measure.py prints."""
    x, y = make(tt, size)
    y.backward()
    np.testing.assert_allclose(x.grad, [expected], rtol=1e-12)
