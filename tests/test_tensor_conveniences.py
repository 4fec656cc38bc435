"""A Tensor does what Python, NumPy and PyTorch lead one to expect, or says why not: never something else in silence."""

from __future__ import annotations

import operator
from types import ModuleType
from typing import Any

import numpy as np
import pytest

COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]
IN_PLACE = [operator.iadd, operator.isub, operator.imul, operator.itruediv]


def values(tensor: Any) -> Any:
    return tensor.data.tolist()


# Conversions


def test_numpy_sees_the_numbers(tt: ModuleType) -> None:
    x = tt.Tensor([[1.0, 2.0], [3.0, 4.0]])
    assert np.shares_memory(np.asarray(x), x.data)
    assert np.asarray(x).dtype == np.float32 and np.asarray(x, np.float64).dtype == np.float64
    assert not np.shares_memory(np.array(x), x.data)
    assert np.stack([x, x]).shape == (2, 2, 2) and np.stack([x, x]).dtype == np.float32
    assert np.array_equal(x, [[1, 2], [3, 4]]) and not np.array_equal(x, x.T)
    assert np.asarray(tt.Tensor(3)).shape == () and np.asarray(tt.Tensor(3)).dtype == np.int64


def test_tensors_in_a_list(tt: ModuleType) -> None:
    """Their numbers make a new Tensor, of their dtype."""
    for dtype in (np.float64, np.float32, np.int32):
        made = tt.Tensor([[tt.Tensor(1.5, dtype=dtype), tt.Tensor(2, dtype=dtype)]])
        assert made.dtype == dtype and values(made) == [[int(1.5) if dtype is np.int32 else 1.5, 2]]


def test_numpy_is_refused_a_view_that_needs_a_copy(tt: ModuleType) -> None:
    x = tt.Tensor([1.0])
    with pytest.raises(ValueError):
        np.asarray(x, dtype=np.float64, copy=False)
    assert np.shares_memory(np.asarray(x, copy=False), x.data)


def test_truth_of_one_element(tt: ModuleType) -> None:
    for value, truth in ((0.0, False), ([0.0], False), ([[2]], True), (-1.0, True), ([False], False)):
        assert bool(tt.Tensor(value)) is truth
    for value in ([1.0, 2.0], [], [[0.0], [0.0]]):
        with pytest.raises(ValueError, match="truth of a tensor of shape .* ambiguous"):
            bool(tt.Tensor(value))


def test_rows(tt: ModuleType) -> None:
    x = tt.Tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    first, second = x
    assert values(first) == [1.0, 2.0] and values(second) == [3.0, 4.0]
    (first * second).sum().backward()
    assert x.grad.tolist() == [[3.0, 4.0], [1.0, 2.0]]
    assert list(tt.Tensor([])) == []
    with pytest.raises(TypeError, match="no rows"):
        iter(tt.Tensor(3.0))


def test_python_numbers(tt: ModuleType) -> None:
    assert float(tt.Tensor([2.5])) == 2.5 and int(tt.Tensor(2.5)) == 2 and type(int(tt.Tensor([3]))) is int
    assert f"{tt.Tensor(0.12345):.2f}" == "0.12" and f"{tt.Tensor([7]):03d}" == "007"
    assert f"{tt.Tensor([1.0, 2.0])}" == repr(tt.Tensor([1.0, 2.0]))
    for convert in (float, int, "{:.2f}".format):
        with pytest.raises(ValueError, match=r"one element, got shape \(2,\)"):
            convert(tt.Tensor([1.0, 2.0]))


# Comparisons


@pytest.mark.parametrize("compare", COMPARISONS)
def test_comparisons_go_element_by_element(tt: ModuleType, compare: Any) -> None:
    a, b = np.array([[1.0], [2.0]]), np.array([1.0, 2.0, np.nan])
    for left, right in ((a, b), (b, a), (a, 2.0), (a, 1), (2, a), (np.array([1, 2]), 1.5)):
        sides = [tt.Tensor(side) if isinstance(side, np.ndarray) else side for side in (left, right)]
        result = compare(*sides)
        assert type(result) is tt.Tensor and result.dtype == bool and not result.requires_grad
        assert values(result) == compare(left, right).tolist()
    for result in (compare(tt.Tensor(a), b), compare(a, tt.Tensor(b))):
        assert values(result) == compare(a, b).tolist()


def test_a_number_is_compared_in_the_tensors_dtype(tt: ModuleType) -> None:
    assert bool(tt.Tensor([0.1]) == 0.1) and bool(tt.Tensor([0.1]) == np.float64(0.1))
    assert not bool(tt.Tensor([2**24 + 1]) == tt.Tensor([2.0**24]))


def test_what_is_no_number_is_another_thing(tt: ModuleType) -> None:
    x = tt.Tensor([1.0])
    assert (x == None) is False and (x != None) is True and (x == "one") is False  # noqa: E711
    with pytest.raises(TypeError):
        x < None  # noqa: B015
    with pytest.raises(ValueError):
        tt.Tensor([1.0, 2.0]) == tt.Tensor([1.0, 2.0, 3.0])  # noqa: B015


def test_a_tensor_is_a_key_for_itself(tt: ModuleType) -> None:
    x, y = tt.Tensor([1.0, 2.0]), tt.Tensor([1.0, 2.0])
    found = {x: "x", y: "y"}
    assert found[x] == "x" and found[y] == "y" and len({x, y, x}) == 2
    assert 2.0 in x and 3.0 not in x and 4 in tt.Tensor([[1, 2], [3, 4]])


# In place


@pytest.mark.parametrize("operation", IN_PLACE)
def test_in_place(tt: ModuleType, operation: Any) -> None:
    for other in (2.0, [2.0, 4.0], tt.Tensor([2.0, 4.0]), np.array([2.0, 4.0])):
        x = tt.Tensor([3.0, 6.0])
        memory, same = x.data, x
        expected = operation(np.array([3.0, 6.0]), np.asarray(other))
        x = operation(x, other)
        assert x is same and x.data is memory and x.dtype == np.float32
        assert values(x) == expected.tolist()


@pytest.mark.parametrize("operation", IN_PLACE)
def test_in_place_refuses_what_needs_a_gradient(tt: ModuleType, operation: Any) -> None:
    plain, wanted = tt.Tensor([3.0, 6.0]), tt.Tensor([3.0, 6.0], requires_grad=True)
    for left, right in ((wanted, 2.0), (wanted * 1.0, 2.0), (plain, wanted)):
        with pytest.raises(RuntimeError, match="works in place, and x or y requires a gradient"):
            operation(left, right)
        assert values(left) == [3.0, 6.0]


def test_in_place_keeps_shape_and_dtype(tt: ModuleType) -> None:
    x, n = tt.Tensor([1.0]), tt.Tensor([1, 2])
    with pytest.raises(ValueError):
        x += [1.0, 2.0]
    with pytest.raises(TypeError):
        n /= 2
    assert values(x) == [1.0] and values(n) == [1, 2]


def test_parameters_updated_by_hand(tt: ModuleType) -> None:
    model = tt.Sequential(tt.Linear(2, 1))
    parameters = list(model.parameters())
    before = [values(p) for p in parameters]
    model(tt.Tensor([[1.0, 2.0]])).sum().backward()
    with tt.no_grad():
        for p in parameters:
            p -= 0.5 * tt.Tensor(p.grad)
    assert [values(p) for p in parameters] != before
    for p, now, old in zip(parameters, model.parameters(), before):
        assert p is now and np.allclose(p.data, np.array(old) - 0.5 * p.grad)


def test_in_place_with_an_array_of_gradients(tt: ModuleType) -> None:
    p = tt.Tensor(np.ones((2, 3)), requires_grad=True)
    (p * 2.0).sum().backward()
    with tt.no_grad():
        p -= 0.1 * p.grad
    assert np.allclose(p.data, 0.8)


# Gradients


def test_a_gradient_is_assigned(tt: ModuleType) -> None:
    x = tt.Tensor([1.0, 2.0], requires_grad=True)
    array = np.array([3.0, 4.0], np.float32)
    x.grad = array
    assert x.grad is array
    x.grad = tt.Tensor([5.0, 6.0])
    assert isinstance(x.grad, np.ndarray) and x.grad.tolist() == [5.0, 6.0]
    x.sum().backward()
    assert x.grad.tolist() == [6.0, 7.0]
    x.grad = None
    assert x.grad is None
    x.grad = [1, 2]
    assert x.grad.dtype == np.float32


def test_a_gradient_of_another_shape_is_refused(tt: ModuleType) -> None:
    x = tt.Tensor([1.0, 2.0], requires_grad=True)
    for wrong in (np.ones(3), tt.Tensor([[1.0, 2.0]]), 1.0):
        with pytest.raises(ValueError, match=r"grad: expected an array of shape \(2,\), got shape"):
            x.grad = wrong
    assert x.grad is None


@pytest.mark.parametrize("name", ["Sigmoid", "ReLU", "Tanh", "GELU", "Softmax"])
def test_backward_after_forward(tt: ModuleType, name: str) -> None:
    """`activation.forward(x)` is as good as `activation(x)`."""
    x, upstream = tt.Tensor([-1.0, 0.5, 2.0], requires_grad=True), np.array([1.0, -2.0, 0.5], np.float32)
    activation = getattr(tt, name)()
    with pytest.raises(RuntimeError, match="call it with a tensor first"):
        activation.backward(upstream)
    activation.forward(x).backward(upstream)
    assert np.allclose(activation.backward(upstream), x.grad)
    other = getattr(tt, name)()
    other(tt.Tensor([3.0, 1.0, 2.0]))
    other.forward(x)
    assert np.allclose(other.backward(upstream), x.grad)
    with pytest.raises(TypeError, match="expected a Tensor, got list"):
        activation.forward([1.0])


# Small methods


def test_argmax(tt: ModuleType) -> None:
    x = np.array([[1.0, 5.0, 5.0], [7.0, 2.0, 0.0]])
    for axis in (None, 0, 1, -1):
        for keepdims in (False, True):
            result = tt.Tensor(x).argmax(axis=axis, keepdims=keepdims)
            assert result.dtype == np.int64 and not result.requires_grad
            assert values(result) == x.argmax(axis=axis, keepdims=keepdims).tolist()


def test_min(tt: ModuleType) -> None:
    x = np.array([[1.0, -5.0, 4.0], [7.0, 2.0, 3.0]])
    for array in (x, x.astype(np.int64), np.array([[0, 1], [250, 7]], np.uint8), np.array([True, False])):
        for axis in (None, 0, -1):
            for keepdims in (False, True):
                result = tt.Tensor(array).min(axis=axis, keepdims=keepdims)
                assert (
                    result.dtype == array.dtype and values(result) == array.min(axis=axis, keepdims=keepdims).tolist()
                )
    tensor = tt.Tensor(x, requires_grad=True)
    tensor.min(axis=1).backward(np.array([2.0, 3.0]))
    assert tensor.grad.tolist() == [[0.0, 2.0, 0.0], [0.0, 3.0, 0.0]]
    assert np.isnan(tt.Tensor([1.0, np.nan]).min().item())


def test_flatten(tt: ModuleType) -> None:
    for shape in ((2, 3, 4), (5,), (0, 3), (2, 0, 4)):
        x = np.arange(float(np.prod(shape))).reshape(shape)
        for start in range(-len(shape), len(shape)):
            expected = x.reshape(*shape[: start % len(shape)], int(np.prod(shape[start % len(shape) :])))
            result = tt.Tensor(x).flatten(start)
            assert result.shape == expected.shape and values(result) == expected.tolist()
        for start in (len(shape), -len(shape) - 1):
            with pytest.raises(ValueError, match="has no axis"):
                tt.Tensor(x).flatten(start)
    assert tt.Tensor(3.0).flatten().shape == (1,)
    x = tt.Tensor(np.ones((2, 3)), requires_grad=True)
    (x.flatten() * np.arange(6.0)).sum().backward()
    assert x.grad.tolist() == [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]


def test_permute(tt: ModuleType) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    for dims in ((0, 1, 2, 3), (3, 2, 1, 0), (1, 2, 3, 0), (0, 3, 1, 2), (-1, 0, -2, 1)):
        tensor = tt.Tensor(x, requires_grad=True)
        result = tensor.permute(*dims)
        assert np.array_equal(result, x.transpose(dims)) and np.shares_memory(result.data, tensor.data)
        assert np.array_equal(tensor.permute(dims), x.transpose(dims))
        upstream = np.random.default_rng(1).normal(size=result.shape)
        result.backward(upstream)
        assert np.array_equal(np.transpose(tensor.grad, dims), upstream)
    for dims in ((0, 1), (0, 1, 2, 2), (0, 1, 2, 4), (0, 1, 2, -5)):
        with pytest.raises(ValueError, match="expected each axis of shape .* once"):
            tt.Tensor(x).permute(*dims)
