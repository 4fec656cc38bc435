"""Gate 05: automatic differentiation."""

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
import pytest

from tinytorch import (
    GELU,
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    Dropout,
    Linear,
    MSELoss,
    ReLU,
    Sequential,
    Sigmoid,
    Softmax,
    Tanh,
    Tensor,
    cat,
    log_softmax,
    manual_seed,
    set_backend,
    stack,
    where,
)
from tinytorch.core.autograd import accumulate, checkpoint, no_grad, recompute, record, topological_order, unbroadcast
from tinytorch.core.rng import generator
from tinytorch.core.rules import RULES, Function
from tinytorch.core.tensor import plug_in, recording
from tinytorch.systems.autograd import best_segment, count_paths, graph_bytes, in_halves, in_segments, nested_calls
from workshop.checks import close, equal, exercise, holds, raises
from workshop.probes import gradients_match


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    """Normal numbers, none closer to 0 than 0.05: away from the kinks of ReLU and the poles of 1/x."""
    values = np.random.default_rng(seed).normal(size=shape)
    return np.where(np.abs(values) < 0.05, 0.05, values)


def positive(*shape: int, seed: int = 0) -> np.ndarray:
    return np.abs(numbers(*shape, seed=seed)) + 0.2


def leaf(values: Any, dtype: Any = np.float64) -> Tensor:
    return Tensor(np.array(values, dtype=dtype), requires_grad=True)


@pytest.fixture(autouse=True)
def memory_on() -> None:
    """Each test starts with memory on, whatever the one before it left behind."""
    recording(True)


# Rules, each judged by itself


class OneStep:
    """A tape for a single operation. It asks the operation's rule, and nothing of an engine is needed."""

    def record(self, op: str, result: Tensor, inputs: tuple[Tensor, ...], saved: dict[str, Any]) -> None:
        rule = RULES[f"{op}Backward"]()
        rule.inputs = inputs
        vars(rule).update(saved)
        result.requires_grad, result.grad_fn = True, rule

    def backward(self, tensor: Tensor, gradient: Any) -> None:
        gradient, inputs = np.asarray(gradient, dtype=tensor.dtype), tensor.grad_fn.inputs
        before = [np.copy(values) for values in (gradient, tensor.data, *(source.data for source in inputs))]
        answers = tensor.grad_fn.backward(gradient)
        answers = answers if isinstance(answers, (tuple, list)) else (answers,)
        equal(gradient, before[0], "grad_output, after the rule has read it")
        equal(tensor.data, before[1], "the operation's result, after its rule was asked")
        for source, answer, values in zip(inputs, answers, before[2:]):
            equal(source.data, values, "the operation's input, after its rule was asked")
            if source.requires_grad:
                is_array = isinstance(answer, (np.ndarray, np.generic))
                holds(is_array, "a rule that answers with NumPy arrays", type(answer).__name__)
                source.grad = answer


@contextmanager
def rules_alone() -> Iterator[None]:
    before = plug_in(OneStep())
    try:
        yield
    finally:
        plug_in(before)


def rule_matches(function: Callable[..., Tensor], *arrays: Any, given: str) -> None:
    """The rule of the one operation in `function` answers with the right gradients, in float32 for float32."""
    with rules_alone():
        gradients_match(function, *arrays, given=given)
        tensors = [leaf(array, np.float32) for array in arrays]
        result = function(*tensors)
        result.backward(np.ones(result.shape))
        for tensor in tensors:
            equal(str(tensor.grad.dtype), "float32", "dtype of the gradient", f"{given}, all in float32")


def answer_of(function: Callable[..., Tensor], *tensors: Tensor, upstream: Any = 1.0) -> Any:
    """What the rule of the one operation in `function` answers."""
    with rules_alone():
        result = function(*tensors)
    return result.grad_fn.backward(np.broadcast_to(np.asarray(upstream, result.dtype), result.shape))


def example(function: Callable[..., Tensor], values: list[Any], upstream: Any, expected: list[Any], given: str) -> None:
    """A small case with round numbers, to be followed by hand."""
    answers = answer_of(function, *map(leaf, values), upstream=upstream)
    answers = answers if isinstance(answers, (tuple, list)) else (answers,)
    for name, answer, right in zip("xy", answers, expected):
        close(answer, right, f"gradient of {name}", f"{given}, upstream {upstream}")


@exercise("MulBackward.backward")
def test_mul_rule() -> None:
    """each factor gets the gradient times the other factor"""
    example(lambda a, b: a * b, [[3.0], [5.0]], [2.0], [[10.0], [6.0]], given="x * y, x = [3], y = [5]")
    rule_matches(lambda a, b: a * b, numbers(2, 3), numbers(2, 3, seed=1), given="x * y, shapes (2, 3)")
    rule_matches(lambda a, b: a * b, 3.0, 5.0, given="x * y, x = 3, y = 5")


@exercise("DivBackward.backward")
def test_div_rule() -> None:
    """d(a / b) = da / b - a db / b²"""
    example(lambda a, b: a / b, [[3.0], [2.0]], [4.0], [[2.0], [-3.0]], given="x / y, x = [3], y = [2]")
    rule_matches(lambda a, b: a / b, numbers(2, 3), numbers(2, 3, seed=1), given="x / y, shapes (2, 3)")
    rule_matches(lambda a, b: a / b, 3.0, -0.5, given="x / y, x = 3, y = -0.5")


@exercise("PowBackward.backward")
def test_pow_rule() -> None:
    """base and exponent get their gradients"""
    example(lambda a: a**3, [[2.0]], [10.0], [[120.0]], given="x ** 3, x = [2]")
    rule_matches(lambda a, b: a**b, positive(2, 3), numbers(2, 3, seed=1), given="x ** y, x > 0, shapes (2, 3)")
    for exponent in (1, 2, 3, -1, -2):
        rule_matches(lambda a: a**exponent, [-2.0, -0.5, 1.5], given=f"x ** {exponent}, x = [-2, -0.5, 1.5]")
    rule_matches(lambda b: 2**b, [-1.0, 0.0, 3.0], given="2 ** x, x = [-1, 0, 3]")


@exercise("PowBackward.backward")
def test_pow_rule_at_zero() -> None:
    """at 0 there are limits, not infinities, where PyTorch has them too"""
    for exponent, expected in ((2.0, 0.0), (1.0, 1.0), (0.0, 0.0)):
        (from_x, _), given = (
            answer_of(lambda a, b: a**b, leaf([0.0]), Tensor([exponent])),
            f"x ** {exponent:g}, x = [0]",
        )
        close(from_x, [expected], "gradient of x", given)
    for base, exponent in ((0.0, 2.0), (0.0, 0.0), (1.0, 2.0)):
        _, from_x = answer_of(lambda a, b: a**b, Tensor([base]), leaf([exponent]))
        close(from_x, [0.0], "gradient of x", f"{base:g} ** x, x = [{exponent:g}]")


@exercise("PowBackward.backward")
def test_pow_rule_leaves_out_the_logarithm() -> None:
    """an exponent that nobody asks about is answered with None"""
    answer = answer_of(lambda a, b: a**b, leaf([-2.0]), Tensor([2.0], dtype=np.float64))
    equal(answer[1], None, "gradient of the exponent", "x ** 2, x = [-2], where only x requires a gradient")


@exercise("MatmulBackward.backward")
def test_matmul_rule() -> None:
    """both matrices get their gradients"""
    x, y, given = (
        [[1.0, 2.0], [3.0, 4.0]],
        [[5.0, 6.0], [7.0, 8.0]],
        "x @ y, x = [[1, 2], [3, 4]], y = [[5, 6], [7, 8]]",
    )
    example(
        lambda a, b: a @ b,
        [x, y],
        [[1.0, 0.0], [0.0, 10.0]],
        [[[5.0, 7.0], [60.0, 80.0]], [[1.0, 30.0], [2.0, 40.0]]],
        given,
    )
    for left, right in (((2, 3), (3, 4)), ((1, 3), (3, 1)), ((3, 3), (3, 3)), ((1, 1), (1, 1)), ((2, 0), (0, 3))):
        rule_matches(lambda a, b: a @ b, numbers(*left), numbers(*right, seed=1), given=f"x @ y, {left} @ {right}")


@exercise("MatmulBackward.backward")
def test_matmul_rule_in_batches() -> None:
    """batches go matrix by matrix"""
    for left, right in (((2, 2, 2), (2, 2, 2)), ((5, 2, 3), (5, 3, 4)), ((2, 3, 1, 4), (2, 3, 4, 2))):
        rule_matches(lambda a, b: a @ b, numbers(*left), numbers(*right, seed=1), given=f"x @ y, {left} @ {right}")


@exercise("MatmulBackward.backward")
def test_matmul_rule_of_vectors() -> None:
    """a vector is a row on the left and a column on the right"""
    for left, right in (((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((3,), (3, 3)), ((3, 3), (3,))):
        rule_matches(lambda a, b: a @ b, numbers(*left), numbers(*right, seed=1), given=f"x @ y, {left} @ {right}")


@exercise("MatmulBackward.backward")
def test_matmul_rule_of_a_vector_and_a_batch() -> None:
    """a vector is a row, or a column, for every matrix of a batch"""
    x, batch, upstream = numbers(3), numbers(5, 3, 2), numbers(5, 2, seed=1)
    from_batch = answer_of(lambda a, b: a @ b, Tensor(x), leaf(batch), upstream=upstream)[1]
    close(
        from_batch,
        x[:, None] * upstream[:, None, :],
        "gradient of y",
        "x @ y, (3,) @ (5, 3, 2), only y requires a gradient",
    )
    batch = numbers(5, 2, 3)
    from_batch = answer_of(lambda a, b: a @ b, leaf(batch), Tensor(x), upstream=upstream)[0]
    close(from_batch, upstream[..., None] * x, "gradient of x", "x @ y, (5, 2, 3) @ (3,), only x requires a gradient")


@exercise("MatmulBackward.backward")
def test_matmul_rule_does_half_the_work() -> None:
    """an operand that nobody asks about is answered with None"""
    x, weight = numbers(2, 3), numbers(3, 2)
    answer = answer_of(lambda a, b: a @ b, Tensor(x), leaf(weight))
    equal(answer[0], None, "gradient of x", "x @ weight, where only weight requires a gradient")
    close(answer[1], x.T @ np.ones((2, 2)), "gradient of weight", "x @ weight, where only weight requires a gradient")
    answer = answer_of(lambda a, b: a @ b, leaf(x), Tensor(weight))
    equal(answer[1], None, "gradient of weight", "x @ weight, where only x requires a gradient")
    answer = answer_of(lambda a, b: a @ b, Tensor(np.ones(3)), leaf(weight))
    equal(answer[0], None, "gradient of x", "x @ weight, x a vector, where only weight requires a gradient")
    answer = answer_of(lambda a, b: a @ b, leaf(x), Tensor(np.ones(3)))
    equal(answer[1], None, "gradient of y", "x @ y, y a vector, where only x requires a gradient")


@exercise("ReshapeBackward.backward")
def test_reshape_rule() -> None:
    """the gradient comes back in the input's shape, in row-major order"""
    for before, after in (((2, 3), (3, 2)), ((6,), (2, 3)), ((2, 3), (-1,)), ((1,), ()), ((0, 3), (3, 0))):
        rule_matches(lambda a: a.reshape(after), numbers(*before), given=f"x.reshape({after}), x {before}")


@exercise("TransposeBackward.backward")
def test_transpose_rule() -> None:
    """the gradient's axes are exchanged back"""
    x, given = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]], "x.transpose(0, 1), x = [[1, 2, 3], [4, 5, 6]]"
    example(lambda a: a.transpose(0, 1), [x], [[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]], [x], given)
    for dim0, dim1 in ((0, 1), (1, 2), (-1, 0), (-2, -1)):
        given = f"x.transpose({dim0}, {dim1}), x (2, 3, 4)"
        rule_matches(lambda a: a.transpose(dim0, dim1), numbers(2, 3, 4), given=given)
    rule_matches(lambda a: a.transpose(0, 1), numbers(2, 2), given="x.transpose(0, 1), x (2, 2)")


@exercise("IndexBackward.backward")
def test_index_rule() -> None:
    """the gradient goes where the elements came from, and zero elsewhere"""
    for index in (1, -1, (0, 2), slice(1, 3), (slice(None), -1), (..., 0), (None, 1), (slice(None, None, -2),)):
        rule_matches(lambda a: a[index], numbers(3, 4), given=f"x[{index}], x (3, 4)")
    mask = numbers(3, 4) > 0
    rule_matches(lambda a: a[mask], numbers(3, 4), given="x[x > 0], x (3, 4)")


@exercise("IndexBackward.backward")
def test_index_rule_with_repeats() -> None:
    """an element that was taken twice gets both gradients"""
    x = leaf([1.0, 2.0, 3.0])
    close(
        answer_of(lambda a: a[[0, 0, 2]], x, upstream=[1.0, 10.0, 100.0]),
        [11.0, 0.0, 100.0],
        "gradient of x",
        "x[[0, 0, 2]], x = [1, 2, 3], upstream [1, 10, 100]",
    )
    rows = np.array([[0, 2], [2, 2]])
    rule_matches(lambda a: a[rows], numbers(3, 2), given="x[[[0, 2], [2, 2]]], x (3, 2)")
    rule_matches(lambda a: a[[1, 1], [0, 0]], numbers(2, 2), given="x[[1, 1], [0, 0]], x (2, 2)")
    rule_matches(lambda a: a[Tensor([1, 1, 0])], numbers(2, 2), given="x[Tensor([1, 1, 0])], x (2, 2)")


AXES: tuple[Any, ...] = (None, 0, 1, -1, (0, 2), (-1, 0), (0, 1, 2))


@exercise("SumBackward.backward")
def test_sum_rule() -> None:
    """every element of a sum gets the whole gradient of its sum"""
    x, given = [[1.0, 2.0], [3.0, 4.0]], "x.sum(axis=1), x = [[1, 2], [3, 4]]"
    example(lambda a: a.sum(axis=1), [x], [10.0, 20.0], [[[10.0, 10.0], [20.0, 20.0]]], given)
    for axis in AXES:
        for keepdims in (False, True):
            given = f"x.sum(axis={axis}, keepdims={keepdims}), x (2, 3, 4)"
            rule_matches(lambda a: a.sum(axis, keepdims), numbers(2, 3, 4), given=given)
    rule_matches(lambda a: a.sum(axis=1), numbers(3, 3), given="x.sum(axis=1), x (3, 3)")
    rule_matches(lambda a: a.sum(axis=0), numbers(0, 3), given="x.sum(axis=0), x (0, 3)")
    rule_matches(lambda a: a.sum(), 3.0, given="x.sum(), x = 3")


@exercise("MaxBackward.backward")
def test_max_rule() -> None:
    """the largest element gets the gradient"""
    for axis in AXES:
        for keepdims in (False, True):
            given = f"x.max(axis={axis}, keepdims={keepdims}), x (2, 3, 4)"
            rule_matches(lambda a: a.max(axis, keepdims), numbers(2, 3, 4), given=given)
    rule_matches(lambda a: a.max(axis=1), numbers(3, 3), given="x.max(axis=1), x (3, 3)")
    rule_matches(lambda a: a.max(), 3.0, given="x.max(), x = 3")


@exercise("MaxBackward.backward")
def test_max_rule_of_ties() -> None:
    """what equal largest elements get adds up to the gradient that came"""
    x = np.array([[4.0, 1.0, 4.0], [2.0, 2.0, 2.0], [0.0, 5.0, 3.0]])
    upstream = np.array([1.0, 10.0, 100.0])
    answer = np.asarray(answer_of(lambda a: a.max(axis=1), leaf(x), upstream=upstream))
    given = "x.max(axis=1), rows [4, 1, 4], [2, 2, 2], [0, 5, 3], upstream [1, 10, 100]"
    close(answer.sum(axis=1), upstream, "sum of the gradient's rows", given)
    close(answer[x < x.max(axis=1, keepdims=True)], np.zeros(3), "gradient of the smaller elements", given)
    answer = np.asarray(answer_of(lambda a: a.max(), leaf(np.zeros((2, 2))), upstream=6.0))
    close(answer.sum(), 6.0, "sum of the gradient", "x.max(), x = zeros (2, 2), upstream 6")


@exercise("ExpBackward.backward")
def test_exp_rule() -> None:
    """d(eᵃ) = eᵃ da"""
    rule_matches(lambda a: a.exp(), numbers(2, 3), given="x.exp(), x (2, 3)")


@exercise("LogBackward.backward")
def test_log_rule() -> None:
    """d(ln a) = da / a"""
    rule_matches(lambda a: a.log(), positive(2, 3), given="x.log(), x (2, 3)")


@exercise("SigmoidBackward.backward")
def test_sigmoid_rule() -> None:
    """dσ = σ (1 - σ) da"""
    rule_matches(Sigmoid(), numbers(2, 3) * 3, given="Sigmoid()(x), x (2, 3)")
    close(answer_of(Sigmoid(), leaf([-1000.0, 1000.0])), [0.0, 0.0], "gradient of x", "Sigmoid()(x), x = [-1000, 1000]")


@exercise("TanhBackward.backward")
def test_tanh_rule() -> None:
    """d(tanh) = (1 - tanh²) da"""
    rule_matches(Tanh(), numbers(2, 3) * 2, given="Tanh()(x), x (2, 3)")


@exercise("ReLUBackward.backward")
def test_relu_rule() -> None:
    """the gradient passes where the input was positive, and not at 0"""
    rule_matches(ReLU(), numbers(2, 3), given="ReLU()(x), x (2, 3)")
    close(
        answer_of(ReLU(), leaf([-2.0, 0.0, 0.5, 3.0])), [0, 0, 1, 1], "gradient of x", "ReLU()(x), x = [-2, 0, 0.5, 3]"
    )


@exercise("GELUBackward.backward")
def test_gelu_rule() -> None:
    """the derivative of just the form that ran forward"""
    x = np.array([[-3.0, -1.0, -0.3], [0.0, 0.7, 2.5]])
    for approximate in ("none", "tanh"):
        rule_matches(GELU(approximate), x, given=f'GELU("{approximate}")(x), x (2, 3)')
        far = answer_of(GELU(approximate), leaf([-1000.0, 1000.0]))
        close(far, [0.0, 1.0], "gradient of x", f'GELU("{approximate}")(x), x = [-1000, 1000]')


@exercise("SoftmaxBackward.backward")
def test_softmax_rule() -> None:
    """s (g - Σ g s), along the axis of the softmax"""
    example(Softmax(), [[0.0, 0.0]], [4.0, 0.0], [[1.0, -1.0]], given="Softmax()(x), x = [0, 0]")
    for dim in (-1, 0, 1):
        rule_matches(Softmax(dim), numbers(2, 3, 4), given=f"Softmax({dim})(x), x (2, 3, 4)")
    rule_matches(Softmax(), numbers(3, 3), given="Softmax()(x), x (3, 3)")
    rule_matches(Softmax(), numbers(2, 1), given="Softmax()(x), x (2, 1)")


@exercise("LogSoftmaxBackward.backward")
def test_log_softmax_rule() -> None:
    """g - softmax Σ g, along the axis of the softmax"""
    example(log_softmax, [[0.0, 0.0]], [4.0, 0.0], [[2.0, -2.0]], given="log_softmax(x), x = [0, 0]")
    for dim in (-1, 0, 1):
        rule_matches(lambda a: log_softmax(a, dim), numbers(2, 3, 4), given=f"log_softmax(x, {dim}), x (2, 3, 4)")
    rule_matches(log_softmax, numbers(3, 3), given="log_softmax(x), x (3, 3)")
    far = answer_of(log_softmax, leaf([0.0, 10000.0]), upstream=[1.0, 2.0])
    close(far, [1.0, -1.0], "gradient of x", "log_softmax(x), x = [0, 10000], upstream [1, 2]")


@exercise("CrossEntropyBackward.backward")
def test_cross_entropy_rule() -> None:
    """(softmax - target probabilities) / batch, times the gradient that came"""
    for batch, classes, smoothing in ((4, 3, 0.0), (1, 5, 0.0), (3, 3, 0.2)):
        targets = np.random.default_rng(1).integers(0, classes, batch)
        loss, given = CrossEntropyLoss(smoothing), f"CrossEntropyLoss({smoothing})(x, y), x ({batch}, {classes})"
        logits = numbers(batch, classes)
        rule_matches(lambda a: loss(a, targets), logits, given=given)
        softmax = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        expected = (softmax - (1 - smoothing) * np.eye(classes)[targets] - smoothing / classes) / batch * 100
        answer = answer_of(lambda a: loss(a, targets), leaf(logits), upstream=100.0)
        close(answer, expected, "gradient of x", f"{given}, upstream 100", 1e-9)
    far = answer_of(lambda a: CrossEntropyLoss()(a, np.array([0])), leaf([[-10000.0, 10000.0]]), upstream=3.0)
    close(far, [[-3.0, 3.0]], "gradient of x", "CrossEntropyLoss()(x, [0]), x = [[-10000, 10000]], upstream 3")


@exercise("BinaryCrossEntropyBackward.backward")
def test_binary_cross_entropy_rule() -> None:
    """(p - t) / (p (1 - p)) / number of elements, times the gradient that came"""
    for shape in ((3, 2), (4,), (1, 1)):
        p = np.random.default_rng(1).uniform(0.1, 0.9, shape)
        targets = np.random.default_rng(2).uniform(0, 1, shape)
        given = f"BinaryCrossEntropyLoss()(x, y), x and y {shape}"
        rule_matches(lambda a: BinaryCrossEntropyLoss()(a, targets), p, given=given)
        answer = answer_of(lambda a: BinaryCrossEntropyLoss()(a, targets), leaf(p), upstream=100.0)
        close(answer, (p - targets) / (p * (1 - p)) / p.size * 100, "gradient of x", f"{given}, upstream 100", 1e-9)


@exercise("BinaryCrossEntropyBackward.backward")
def test_binary_cross_entropy_rule_when_certain() -> None:
    """p = 0 and p = 1 give large numbers, never infinity or NaN"""
    p, targets = leaf([0.0, 0.0, 1.0, 1.0]), np.array([0.0, 1.0, 0.0, 1.0])
    answer = answer_of(lambda a: BinaryCrossEntropyLoss()(a, targets), p, upstream=4.0)
    # torch.nn.functional.binary_cross_entropy divides by max(p (1 - p), 1e-12) too.
    close(answer, [0.0, -1e12, 1e12, 0.0], "gradient of x", "x = [0, 0, 1, 1], y = [0, 1, 0, 1], upstream 4")


# The tape


@exercise("record")
def test_record() -> None:
    """the result gets a Function of the right class, with its inputs and all that was saved"""
    x, result, output = leaf([1.0, 2.0]), Tensor([3.0, 4.0]), np.array([3.0, 4.0])
    record("Exp", result, (x,), {"output": output})
    given = 'record("Exp", result, (x,), {"output": …})'
    equal(type(result.grad_fn).__name__, "ExpBackward", "the class of result.grad_fn", given)
    equal(result.requires_grad, True, "result.requires_grad", given)
    sources = result.grad_fn.inputs
    holds(len(sources) == 1 and sources[0] is x, "result.grad_fn.inputs to be (x,)", sources, given)
    holds(
        getattr(result.grad_fn, "output", None) is output,
        "result.grad_fn.output to be the saved array",
        "another",
        given,
    )
    constant, product = Tensor([2.0, 3.0]), Tensor([2.0, 6.0])
    record("Mul", product, (constant, x), {})
    given = 'record("Mul", result, (constant, x), {}), where only x requires a gradient'
    equal(product.requires_grad, True, "result.requires_grad", given)
    sources = product.grad_fn.inputs
    both = len(sources) == 2 and sources[0] is constant and sources[1] is x
    holds(both, "result.grad_fn.inputs to be (constant, x)", sources, given)


@exercise("record")
def test_record_each_time_anew() -> None:
    """two results of the same operation have two Functions"""
    x, y = leaf([1.0]), leaf([2.0])
    results = Tensor([1.0]), Tensor([2.0])
    record("Exp", results[0], (x,), {"output": x.data})
    record("Exp", results[1], (y,), {"output": y.data})
    first, second = results[0].grad_fn, results[1].grad_fn
    holds(first is not second, "a Function of its own for each result", "the same for both", "two results of Exp")
    holds(first.inputs[0] is x and first.output is x.data, "the first to keep what it was made from", "it has changed")


@exercise("record")
def test_record_a_function() -> None:
    """a Function that is ready to use becomes the grad_fn itself"""

    class Twice(Function):
        """2a, by a rule of the gate's own."""

        def forward(self, a: np.ndarray) -> np.ndarray:
            self.factor = 2.0
            return a * self.factor

        def backward(self, grad_output: np.ndarray) -> Any:
            return grad_output * self.factor

    x, result, function = leaf([1.0]), Tensor([2.0]), Twice()
    record(function, result, (x,), {})
    holds(
        result.grad_fn is function,
        "that Function as result.grad_fn",
        result.grad_fn,
        "record(function, result, (x,), {})",
    )
    holds(function.inputs == (x,), "function.inputs to be (x,)", function.inputs, "record(function, result, (x,), {})")
    y = Twice.apply(x)
    equal(getattr(y.grad_fn, "factor", None), 2.0, "what forward left in the Function", "y = Twice.apply(x)")


@exercise("record")
def test_record_keeps_no_list() -> None:
    """a result that nobody holds any more takes its Function with it"""
    x, result = leaf([1.0]), Tensor([3.0])
    record("Exp", result, (x,), {"output": np.array([3.0])})
    gone = weakref.ref(result.grad_fn)
    del result
    gc.collect()
    holds(gone() is None, "the Function gone with its result", "something else still holds it", "y = x.exp(), del y")


@exercise("record")
def test_record_an_unknown_operation() -> None:
    """an operation without a rule is refused, and named"""
    action = lambda: record("NoSuchThing", Tensor([1.0]), (leaf([1.0]),), {})
    raises(LookupError, action, 'record("NoSuchThing", …)', mentions=["NoSuchThing"])


# The order


def reachable(root: Function) -> list[Function]:
    """Every Function behind `root`, itself included."""
    found, waiting = {id(root): root}, [root]
    while waiting:
        for tensor in waiting.pop().inputs:
            if tensor.grad_fn is not None and id(tensor.grad_fn) not in found:
                found[id(tensor.grad_fn)] = tensor.grad_fn
                waiting.append(tensor.grad_fn)
    return list(found.values())


def check_order(result: Tensor, given: str) -> None:
    """Any order will do in which each Function comes once, and before those that made its inputs."""
    order = list(topological_order(result.grad_fn))
    names = " ".join(type(function).__name__.removesuffix("Backward") for function in order[:8])
    expected = reachable(result.grad_fn)
    equal(len(order), len(expected), f"number of Functions in the order ({names} …)", given)
    place = {id(function): position for position, function in enumerate(order)}
    holds(place.keys() == {id(function) for function in expected}, "each Function of the graph once", names, given)
    for function in order:
        for tensor in function.inputs:
            late = tensor.grad_fn is None or place[id(tensor.grad_fn)] > place[id(function)]
            holds(late, f"{type(function).__name__} before the Function that made its input", names, given)


@exercise("topological_order")
def test_order_of_a_chain() -> None:
    """from the result back to the start"""
    x = leaf([1.0])
    check_order((x * 2).exp().log(), "(x * 2).exp().log()")
    check_order(-x, "-x")


@exercise("topological_order")
def test_order_of_diamonds() -> None:
    """what is used along a short and a long way comes after both"""
    x = leaf([1.0])
    a = x * 2
    b = a.exp()
    check_order(b + a, "a = x * 2, b = a.exp(), b + a")
    check_order(a + b, "a = x * 2, b = a.exp(), a + b")
    check_order((a + b.log().exp().log()) * (b + a), "a = x * 2, b = a.exp(), (a + b.log().exp().log()) * (b + a)")
    check_order(b * b * b, "a = x * 2, b = a.exp(), b * b * b")
    check_order(a * b + b * a + x, "a = x * 2, b = a.exp(), a * b + b * a + x")


def without_recursion(action: Callable[[], Any], given: str) -> Any:
    """What `action` gives, which must not take as many nested calls as there are operations."""
    found = []
    with suppress(RecursionError):
        found.append(action())
    got = "RecursionError: Python stops after 1,000 nested calls"
    holds(len(found) == 1, "a loop, with no nested call for each operation", got, given)
    return found[0]


@exercise("topological_order")
def test_order_of_a_long_chain() -> None:
    """a chain of 5,000 operations is no deep call"""
    y = leaf([1.0])
    for _ in range(5000):
        y = -y
    order = without_recursion(lambda: topological_order(y.grad_fn), "5,000 times y = -y")
    equal(len(order), 5000, "number of Functions in the order", "5,000 times y = -y")


def watched_sum(limit: int) -> type[Function]:
    """a + b as an operation that counts its visitors, and objects when `inputs` was looked at over `limit` times."""

    class Watched(Function):
        looks = asked = 0

        @property
        def inputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
            Watched.looks += 1
            if Watched.looks > limit:
                holds(
                    False, "each Function to be visited once", "again and again, by every path that leads there", TOWER
                )
            return vars(self).get("kept", ())

        @inputs.setter
        def inputs(self, tensors: tuple[Tensor, ...]) -> None:
            vars(self)["kept"] = tensors

        def forward(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return a + b

        def backward(self, grad_output: np.ndarray) -> Any:
            Watched.asked += 1
            return grad_output, grad_output

    return Watched


TOWER = "60 times y = y + y, where 2**60 paths lead back to x"


def tower(x: Tensor, addition: type[Function]) -> Tensor:
    y = x
    for _ in range(60):
        y = addition.apply(y, y)
    return y


@exercise("topological_order")
def test_order_of_a_tower() -> None:
    """a tower of 60 sums has 60 Functions, though 2**60 paths go through it"""
    y = tower(leaf([1.0]), watched_sum(limit=60 * 20))
    equal(len(topological_order(y.grad_fn)), 60, "number of Functions in the order", TOWER)


@exercise("topological_order")
def test_order_refuses_a_freed_graph() -> None:
    """a Function that was freed has lost what lies behind it"""
    hidden = leaf([1.0]) * 2
    result = hidden.exp() + hidden
    hidden.grad_fn.freed = True
    given = "hidden = x * 2, hidden.grad_fn.freed = True, y = hidden.exp() + hidden"
    raises(RuntimeError, lambda: topological_order(result.grad_fn), given, mentions=["freed"])


# Broadcasting undone

STRETCHED = (
    ((4, 3), (3,)),
    ((4, 3), (1, 3)),
    ((4, 3), (4, 1)),
    ((4, 3), (1, 1)),
    ((4, 3), ()),
    ((3, 3), (3,)),
    ((3, 3), (3, 1)),
    ((2, 4, 3), (4, 1)),
    ((2, 4, 3), (2, 1, 3)),
    ((2, 2, 2), (2, 1, 2)),
    ((1, 3), (3,)),
    ((4, 1), (1,)),
    ((1, 1), ()),
    ((0, 3), (1, 3)),
    ((4, 3), (4, 3)),
    ((), ()),
)


@exercise("unbroadcast")
def test_unbroadcast() -> None:
    """every element gets the sum over all places that it was stretched to"""
    for wide, shape in STRETCHED:
        gradient, size = numbers(*wide), int(np.prod(shape))
        places = np.broadcast_to(np.arange(size).reshape(shape), wide)  # which element was used where
        expected = np.bincount(places.ravel(), weights=gradient.ravel(), minlength=size).reshape(shape)
        close(
            unbroadcast(gradient, shape),
            expected,
            "the gradient",
            f"unbroadcast: {wide} back to {shape}",
            1e-12,
            np.float64,
        )


@exercise("unbroadcast")
def test_unbroadcast_keeps_the_dtype() -> None:
    """float32 stays float32, and the gradient that came is not changed"""
    gradient = np.ones((4, 3), np.float32)
    for shape in ((3,), (4, 1), (), (4, 3)):
        equal(str(unbroadcast(gradient, shape).dtype), "float32", "dtype of the gradient", f"(4, 3) back to {shape}")
    close(gradient, np.ones((4, 3)), "the gradient that came, afterwards", "ones (4, 3)")


@exercise("unbroadcast")
def test_unbroadcast_refuses() -> None:
    """a gradient of a shape that broadcasting cannot give is refused with both shapes"""
    for wide, shape in (((2, 3), (2,)), ((3,), (2, 3)), ((6,), (2, 3)), ((1, 3), (2, 3)), ((2, 3), (3, 2))):
        raises(ValueError, lambda: unbroadcast(np.ones(wide), shape), f"{wide} back to {shape}", mentions=[wide, shape])


BOTH_SIDES = (
    ((3,), (2, 3)),
    ((2, 3), (3,)),
    ((2, 1), (1, 3)),
    ((), (2, 2)),
    ((2, 2), ()),
    ((3, 1, 2), (2, 1)),
    ((1,), (1, 1)),
    ((1, 3), (0, 3)),
)
OPERATORS: tuple[tuple[str, Callable[[Any, Any], Any]], ...] = (
    ("+", lambda a, b: a + b),
    ("-", lambda a, b: a - b),
    ("*", lambda a, b: a * b),
    ("/", lambda a, b: a / b),
    ("**", lambda a, b: a**b),
)


@exercise("unbroadcast")
def test_arithmetic_with_broadcasting() -> None:
    """+ - * / ** with broadcasting on either side and on both"""
    unbroadcast(np.ones((2, 3)), (3,))
    for sign, operator in OPERATORS:
        for left, right in BOTH_SIDES:
            gradients_match(
                operator, positive(*left), positive(*right, seed=1), given=f"x {sign} y, shapes {left} and {right}"
            )


BATCHES = (
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((2, 1, 2, 3), (4, 3, 2)),
    ((1, 2, 3), (4, 3, 2)),
    ((2, 2, 2, 3), (3, 2)),
    ((3,), (5, 3, 4)),
    ((5, 2, 3), (3,)),
    ((4, 2, 0), (0, 3)),
)


@exercise("unbroadcast")
def test_matmul_with_broadcasting() -> None:
    """one matrix, or vector, against a batch gets the sum over the batch"""
    unbroadcast(np.ones((2, 3)), (3,))
    for left, right in BATCHES:
        gradients_match(lambda a, b: a @ b, numbers(*left), numbers(*right, seed=1), given=f"x @ y, {left} @ {right}")


# Gradients of leaves


@exercise("accumulate")
def test_accumulate() -> None:
    """the first gradient is taken, further ones are added"""
    x = leaf([1.0, 2.0])
    accumulate(x, np.array([1.0, 10.0]))
    close(x.grad, [1.0, 10.0], "x.grad", "x.grad was None, [1, 10] came", dtype=np.float64)
    accumulate(x, np.array([2.0, 20.0]))
    close(x.grad, [3.0, 30.0], "x.grad", "[1, 10] and [2, 20] came", dtype=np.float64)


@exercise("accumulate")
def test_accumulate_shares_nothing() -> None:
    """two leaves, and the array that came, keep memory of their own"""
    a, b, gradient = leaf([1.0, 2.0]), leaf([3.0, 4.0]), np.array([5.0, 6.0])
    accumulate(a, gradient)
    accumulate(b, gradient)
    given = "a and b are given the same array"
    holds(
        not np.shares_memory(a.grad, gradient),
        "a.grad in memory of its own",
        "the memory of the array that came",
        given,
    )
    holds(not np.shares_memory(a.grad, b.grad), "a.grad in memory of its own", "the memory of b.grad", given)
    accumulate(a, gradient)
    close(gradient, [5.0, 6.0], "the array that came, afterwards", given)
    close(b.grad, [5.0, 6.0], "b.grad after more came for a", given)
    stretched = leaf(np.zeros(3))
    accumulate(stretched, np.broadcast_to(2.0, (3,)))
    accumulate(stretched, np.broadcast_to(3.0, (3,)))
    close(stretched.grad, [5.0, 5.0, 5.0], "x.grad", "views came that stretch one number, 2 and then 3")


@exercise("accumulate")
def test_accumulate_keeps_the_leafs_dtype() -> None:
    """a gradient has the dtype of its leaf, and is an array also for a single number"""
    x = leaf([1.0, 2.0], np.float32)
    accumulate(x, np.array([0.5, 0.25]))
    close(x.grad, [0.5, 0.25], "x.grad", "a float64 gradient for a float32 leaf", dtype=np.float32)
    accumulate(x, np.array([0.5, 0.25]))
    close(x.grad, [1.0, 0.5], "x.grad", "two float64 gradients for a float32 leaf", dtype=np.float32)
    number = leaf(3.0)
    for times in ("one gradient", "two gradients"):
        accumulate(number, np.array(2.0))
        equal(type(number.grad).__name__, "ndarray", "type of x.grad", f"x = 3.0 of shape (), {times}")


# The engine


@exercise("backward")
def test_used_twice() -> None:
    """a value used twice gets both gradients"""
    for given, function, expected in (
        ("y = x * x", lambda x: x * x, 6.0),
        ("y = x + x", lambda x: x + x, 2.0),
        ("y = x - x", lambda x: x - x, 0.0),
        ("y = x * x * x", lambda x: x * x * x, 27.0),
        ("y = x / x", lambda x: x / x, 0.0),
    ):
        x = leaf([3.0])
        function(x).backward()
        close(x.grad, [expected], "x.grad", f"x = [3], {given}")


@exercise("backward")
def test_many_paths() -> None:
    """a computed value that is used several times sends on the sum of all its uses"""
    x = leaf([3.0])
    a = x * 2
    (a * a + a).backward()
    close(x.grad, [26.0], "x.grad", "x = [3], a = x * 2, y = a * a + a")

    def short_and_long(x: Tensor) -> Tensor:
        a = x * 0.5
        b = a.exp()
        return b + a

    def long_and_short(x: Tensor) -> Tensor:
        a = x * 0.5
        return a + (a.exp() * a).exp()

    def grid(x: Tensor) -> Tensor:
        a, b = x * 0.3, x.exp()
        for _ in range(4):
            a, b = a * 0.5 + b, a - b * 0.5
        return a * b

    def product_and_row(x: Tensor, y: Tensor) -> Tensor:
        return (x @ y + x).sum(axis=0) * x

    x = numbers(3)
    gradients_match(short_and_long, x, given="a = x * 0.5, b = a.exp(), y = b + a")
    gradients_match(long_and_short, x, given="a = x * 0.5, y = a + (a.exp() * a).exp()")
    gradients_match(grid, x, given="four times a, b = a * 0.5 + b, a - b * 0.5")
    gradients_match(product_and_row, numbers(2, 2), numbers(2, 2, seed=1), given="(x @ y + x).sum(axis=0) * x")


@exercise("backward")
def test_sums_are_new_arrays() -> None:
    """adding up what arrives changes no array that others hold"""
    for order in ("(u + v) + t", "t + (u + v)", "(v + u) + t", "t + (v + u)"):
        x, w, upstream = leaf([1.0, 2.0]), leaf([5.0, 7.0]), np.array([1.0, 10.0])
        u, v = x * 1.0, w * 1.0
        t = u * 3.0
        s = u + v if "u + v" in order else v + u
        (s + t if order.endswith("t") else t + s).backward(upstream)
        given = f"u = x * 1, v = w * 1, t = u * 3, {order}, upstream [1, 10]"
        close(x.grad, [4.0, 40.0], "x.grad", given)
        close(w.grad, [1.0, 10.0], "w.grad", given)
        close(upstream, [1.0, 10.0], "upstream, afterwards", given)


@exercise("backward")
def test_a_tower_of_sixty() -> None:
    """every Function is asked once, however many paths lead through it"""
    watched = watched_sum(limit=60 * 30)
    x = leaf([1.0])
    y = tower(x, watched)
    y.backward()
    equal(watched.asked, 60, "number of calls of backward on 60 Functions", TOWER)
    close(x.grad, [2.0**60], "x.grad", TOWER, tolerance=1e-12)
    x = y = leaf([1.0])
    for _ in range(60):
        y = y + y * 0.5
    y.backward()
    close(x.grad, [1.5**60], "x.grad", "60 times y = y + y * 0.5", tolerance=1e-9)


@exercise("backward")
def test_a_chain_of_five_thousand() -> None:
    """long chains are no deep calls"""
    x = y = leaf([1.0])
    for _ in range(5000):
        y = y + x
    without_recursion(y.backward, "5,000 times y = y + x")
    close(x.grad, [5001.0], "x.grad", "5,000 times y = y + x")


@exercise("backward")
def test_leaves_accumulate() -> None:
    """a second backward adds to the gradients that a first one left"""
    x = leaf([3.0])
    (x * 2).backward()
    (x * 5).backward()
    close(x.grad, [7.0], "x.grad", "(x * 2).backward(), then (x * 5).backward()")
    x.grad = None
    (x * 5).backward()
    close(x.grad, [5.0], "x.grad", "x.grad = None, then (x * 5).backward()")


@exercise("backward")
def test_only_leaves_that_ask_get_gradients() -> None:
    """computed tensors, constants and integers keep grad None"""
    x, constant, rows = leaf([[1.0, 2.0], [3.0, 4.0]]), Tensor(np.array([2.0, 3.0])), Tensor([1, 0, 1])
    hidden = x * constant
    counted = Tensor([1, 2])
    result = (hidden[rows] * counted).sum()
    result.backward()
    close(x.grad, [[2.0, 6.0], [4.0, 12.0]], "x.grad", "(x * [2, 3])[[1, 0, 1]] * [1, 2], summed")
    for name, tensor in (
        ("the computed tensor", hidden),
        ("the result", result),
        ("the constant", constant),
        ("the index", rows),
        ("the integers", counted),
    ):
        equal(tensor.grad, None, f"grad of {name}", "(x * [2, 3])[[1, 0, 1]] * [1, 2], summed")


@exercise("backward")
def test_gradients_share_nothing() -> None:
    """gradients of two tensors, and the one that was given, lie in memory of their own"""
    a, b, upstream = leaf([1.0, 2.0]), leaf([3.0, 4.0]), np.array([1.0, 10.0])
    (a + b).backward(upstream)
    given = "(a + b).backward(upstream)"
    holds(not np.shares_memory(a.grad, b.grad), "a.grad and b.grad in different memory", "the same", given)
    holds(not np.shares_memory(a.grad, upstream), "a.grad and upstream in different memory", "the same", given)
    x, upstream = leaf([1.0, 2.0]), np.array([1.0, 10.0])
    x.backward(upstream)
    close(x.grad, [1.0, 10.0], "x.grad", "x.backward([1, 10]), x itself a leaf")
    holds(
        not np.shares_memory(x.grad, upstream),
        "x.grad and upstream in different memory",
        "the same",
        "x.backward(upstream)",
    )
    x.backward(upstream)
    close(x.grad, [2.0, 20.0], "x.grad", "x.backward([1, 10]) twice, x itself a leaf")


@exercise("backward")
def test_the_first_gradient() -> None:
    """a Tensor, an array or a list of the result's shape; 1 for a result with one element"""
    for kind, make in (("a Tensor", Tensor), ("an array", np.array), ("a list", list)):
        x = leaf([1.0, 2.0])
        (x * 3.0).backward(make([1.0, 10.0]))
        close(x.grad, [3.0, 30.0], "x.grad", f"(x * 3).backward([1, 10]), the gradient as {kind}", dtype=np.float64)
    for shape in ((), (1,), (1, 1)):
        x = leaf(np.full(shape, 2.0))
        (x * 3.0).backward()
        close(x.grad, np.full(shape, 3.0), "x.grad", f"(x * 3).backward(), x of shape {shape}")
    x = leaf(2.0)
    (x * 3.0).backward(0.0)
    close(x.grad, 0.0, "x.grad", "(x * 3).backward(0.0): zero is a gradient, None is not")


@exercise("backward")
def test_first_gradients_that_do_not_fit() -> None:
    """another shape is refused, and so are several elements without a gradient"""
    x = leaf([[1.0, 2.0]])
    raises(
        ValueError, lambda: (x * 3.0).backward(np.ones(2)), "shape (1, 2), gradient (2,)", mentions=["(1, 2)", "(2,)"]
    )
    raises(ValueError, lambda: (x * 3.0).backward(1.0), "shape (1, 2), gradient ()", mentions=["(1, 2)"])
    raises(RuntimeError, lambda: (x * 3.0).backward(), "shape (1, 2), no gradient", mentions=["(1, 2)"])
    equal(x.grad, None, "x.grad, after calls that were refused")
    raises(RuntimeError, lambda: Tensor([1.0]).backward(), "a tensor that nothing with requires_grad=True made")
    raises(RuntimeError, lambda: (Tensor([1.0]) * 2.0).backward(), "a tensor that nothing with requires_grad=True made")


@exercise("backward")
def test_a_freed_graph() -> None:
    """a second backward through the same graph, or a part of it, is refused"""
    x = leaf([3.0])
    shared = x * x
    first, second = shared * 2.0, shared * 5.0
    first.backward()
    given = "shared = x * x, first = shared * 2, second = shared * 5, first.backward()"
    raises(RuntimeError, first.backward, f"{given} twice", mentions=["freed"])
    raises(RuntimeError, second.backward, f"{given}, then second.backward()", mentions=["freed"])
    close(x.grad, [12.0], "x.grad", f"{given}, and two calls that were refused")


@exercise("backward")
def test_memory_is_let_go() -> None:
    """after backward the result keeps nothing of what made it"""
    x = leaf(np.ones(1000))
    hidden = x * 2.0
    gone = weakref.ref(hidden), weakref.ref(hidden.data)
    result = (hidden * hidden).sum()
    del hidden
    holds(gone[1]() is not None, "the computed values alive before backward", "they are gone", "hidden = x * 2")
    result.backward()
    gc.collect()
    given = "hidden = x * 2, result = (hidden * hidden).sum(), del hidden, result.backward()"
    holds(gone[0]() is None and gone[1]() is None, "hidden gone, though result lives", "hidden is still kept", given)
    loss = CrossEntropyLoss()(leaf(np.ones((2, 3))), np.array([0, 1]))
    saved = weakref.ref(loss.grad_fn.target_probabilities)
    loss.backward()
    gc.collect()
    given = "loss = CrossEntropyLoss()(x, y), loss.backward()"
    holds(saved() is None, "what the operation saved for its rule gone", "it is still kept", given)


@exercise("backward")
def test_memory_may_be_off() -> None:
    """what was remembered goes backward while memory is off, and memory stays off"""
    x = leaf([3.0])
    y = x * x
    recording(False)
    y.backward()
    was_on = recording(True)
    close(x.grad, [6.0], "x.grad", "y = x * x, recording(False), y.backward()")
    equal(was_on, False, "whether memory is on after backward()", "recording(False), y.backward()")


@exercise("backward")
def test_dtypes() -> None:
    """float32 leaves have float32 gradients, whatever they were computed with"""
    x = leaf([1.0, 2.0], np.float32)
    ((x * 3.0 + 1.0).exp().log() / 2.0).sum().backward()
    close(x.grad, [1.5, 1.5], "x.grad", "((x * 3 + 1).exp().log() / 2).sum(), x float32", dtype=np.float32)
    x, y = leaf([1.0, 2.0], np.float32), leaf([3.0, 4.0], np.float64)
    (x * y).sum().backward()
    close(x.grad, [3.0, 4.0], "x.grad", "(x * y).sum(), x float32, y float64", dtype=np.float32)
    close(y.grad, [1.0, 2.0], "y.grad", "(x * y).sum(), x float32, y float64", dtype=np.float64)


# Operations whose shapes or memory layouts bite, each through the whole engine. Single numbers are made large: the
# upstream gradient that `gradients_match` draws for them is small.
COMPOSED: tuple[tuple[str, Callable[..., Tensor], tuple[np.ndarray, ...]], ...] = (
    ("1 + x", lambda x: 1 + x, (numbers(3),)),
    ("1 - x", lambda x: 1 - x, (numbers(3),)),
    ("2 / x", lambda x: 2 / x, (numbers(3),)),
    ("2 ** x", lambda x: 2**x, (numbers(3),)),
    ("-x", lambda x: -x, (numbers(3),)),
    ("x ** 2, some x < 0", lambda x: x**2, (numbers(3),)),
    ("x ** y", lambda x, y: x**y, (positive(3), numbers(3))),
    ("array * x", lambda x: np.array([1.0, 2.0, 3.0]) * x, (numbers(3),)),
    ("array @ x", lambda x: np.ones((2, 3)) @ x, (numbers(3, 2),)),
    ("x.T @ y", lambda x, y: x.T @ y, (numbers(3, 2), numbers(3, 2, seed=1))),
    ("x @ x.T", lambda x: x @ x.T, (numbers(2, 3),)),
    ("x @ y @ x, vectors and a matrix", lambda x, y: x @ y @ x, (numbers(3), numbers(3, 3, seed=1))),
    ("x[:, ::2] @ y", lambda x, y: x[:, ::2] @ y, (numbers(2, 4), numbers(2, 2, seed=1))),
    ("x in Fortran order, (x * x).sum(axis=0)", lambda x: (x * x).sum(axis=0), (np.asfortranarray(numbers(2, 3)),)),
    ("x.T.reshape(6)", lambda x: x.T.reshape(6), (numbers(2, 3),)),
    (
        "x.transpose(0, 2).reshape(4, 6) @ y",
        lambda x, y: x.transpose(0, 2).reshape(4, 6) @ y,
        (numbers(2, 3, 4), numbers(6, 2)),
    ),
    ("x.mean() * 1000", lambda x: x.mean() * 1000, (numbers(2, 3),)),
    ("x.mean(axis=(0, -1))", lambda x: x.mean(axis=(0, -1)), (numbers(2, 3, 2),)),
    ("x - x.mean(axis=1, keepdims=True)", lambda x: x - x.mean(axis=1, keepdims=True), (numbers(2, 3),)),
    ("x / x.sum(axis=-1, keepdims=True)", lambda x: x / x.sum(axis=-1, keepdims=True), (positive(2, 3),)),
    ("(x - x.max(axis=0)).exp()", lambda x: (x - x.max(axis=0)).exp(), (numbers(3, 2),)),
    ("x[[0, 0]] * x[1:]", lambda x: x[[0, 0]] * x[1:], (numbers(3, 2),)),
    ("x.sum(axis=0) of no rows", lambda x: x.sum(axis=0), (numbers(0, 3),)),
    ("x * y, both of shape ()", lambda x, y: x * y, (numbers(), numbers(seed=1))),
    ("Tanh()(x) * Sigmoid()(x)", lambda x: Tanh()(x) * Sigmoid()(x), (numbers(2, 3),)),
    ("ReLU()(x @ y) + GELU()(x)", lambda x, y: ReLU()(x @ y) + GELU()(x), (numbers(3, 3), numbers(3, 3, seed=1))),
    ("Softmax(0)(x).log()", lambda x: Softmax(0)(x).log(), (numbers(3, 2),)),
    (
        "log_softmax(x)[[0, 1], [1, 1]].mean() * -1000",
        lambda x: log_softmax(x)[[0, 1], [1, 1]].mean() * -1000,
        (numbers(2, 3),),
    ),
    (
        "CrossEntropyLoss(0.1)(x @ y, [0, 2]) * 1000",
        lambda x, y: CrossEntropyLoss(0.1)(x @ y, np.array([0, 2])) * 1000,
        (numbers(2, 2), numbers(2, 3)),
    ),
    ("MSELoss()(x, y) * 1000", lambda x, y: MSELoss()(x, y) * 1000, (numbers(2, 3), numbers(2, 3, seed=1))),
    (
        "BinaryCrossEntropyLoss()(Sigmoid()(x), [0, 1, 1]) * 1000",
        lambda x: BinaryCrossEntropyLoss()(Sigmoid()(x), np.array([0.0, 1.0, 1.0])) * 1000,
        (numbers(3),),
    ),
)


@exercise("backward")
def test_operations_together() -> None:
    """every operation's gradient through the whole engine, against central differences"""
    for given, function, arrays in COMPOSED:
        gradients_match(function, *arrays, given=given)


@exercise("backward")
def test_functions_of_your_own() -> None:
    """a Function with forward and backward is an operation like any other"""

    class Cube(Function):
        """a³, which keeps what its rule will need."""

        def forward(self, a: np.ndarray) -> np.ndarray:
            self.slope = 3 * a * a
            return a * a * a

        def backward(self, grad_output: np.ndarray) -> Any:
            return grad_output * self.slope

    class Choose(Function):
        """a where `mask` (1 or 0) is 1, else b; the mask has no gradient."""

        def forward(self, mask: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
            return np.where(mask == 1, a, b)

        def backward(self, grad_output: np.ndarray) -> Any:
            mask = self.inputs[0].data
            return None, grad_output * mask, grad_output * (1 - mask)

    class Stop(Function):
        """a, through which no gradient goes."""

        def forward(self, a: np.ndarray) -> np.ndarray:
            return a + 0.0

        def backward(self, grad_output: np.ndarray) -> Any:
            return None

    gradients_match(lambda x: Cube.apply(x * 2) + x, numbers(3), given="Cube.apply(x * 2) + x")
    mask, given = Tensor(np.array([1, 0, 1])), "Choose.apply(mask, x, y.exp())"
    gradients_match(lambda x, y: Choose.apply(mask, x, y.exp()), numbers(3), numbers(3, seed=1), given=given)
    x = leaf([2.0])
    (Stop.apply(x * 3.0) + x).backward()
    close(x.grad, [1.0], "x.grad", "Stop.apply(x * 3) + x, where Stop's rule answers None")
    equal(Cube.apply(Tensor([2.0])).grad_fn, None, "grad_fn", "Cube.apply(x), where x requires no gradient")


@exercise("backward")
def test_rules_that_answer_wrong() -> None:
    """a rule with too many or too few gradients, or one of a wrong shape, is refused"""

    class TooMany(Function):
        """A rule with two answers for one input."""

        def forward(self, a: np.ndarray) -> np.ndarray:
            return a + 0.0

        def backward(self, grad_output: np.ndarray) -> Any:
            return grad_output, grad_output

    class Misshapen(TooMany):
        """A rule whose answer has a shape that does not fit."""

        def backward(self, grad_output: np.ndarray) -> Any:
            return np.ones(7)

    raises(ValueError, lambda: TooMany.apply(leaf([1.0])).backward(), "a rule with two gradients for one input")
    raises(
        ValueError, lambda: Misshapen.apply(leaf([1.0, 2.0])).backward([1.0, 1.0]), "a gradient (7,) for an input (2,)"
    )


@exercise("backward")
def test_detach() -> None:
    """no gradient flows through a detached tensor"""
    x = leaf([3.0])
    (x * x.detach()).backward()
    close(x.grad, [3.0], "x.grad", "x = [3], y = x * x.detach()")
    raises(RuntimeError, lambda: (x.detach() * 2.0).backward(), "(x.detach() * 2).backward()")


@exercise("backward")
def test_layers_learn() -> None:
    """every parameter of a small network gets its gradient, and a step against it lowers the loss"""
    manual_seed(3)
    model = Sequential(Linear(3, 4), Tanh(), Linear(4, 2))
    x, target = Tensor(numbers(5, 3).astype(np.float32)), Tensor(numbers(5, 2, seed=1).astype(np.float32))

    def loss() -> Tensor:
        return MSELoss()(model(x), target)

    before = loss()
    before.backward()
    w1, b1, w2, b2 = (parameter.data.astype(np.float64) for parameter in model.parameters())
    hidden = np.tanh(x.data @ w1 + b1)
    at_output = 2 * (hidden @ w2 + b2 - target.data) / target.size
    at_hidden = at_output @ w2.T * (1 - hidden**2)
    expected = {
        "0.weight": x.data.T @ at_hidden,
        "0.bias": at_hidden.sum(axis=0),
        "2.weight": hidden.T @ at_output,
        "2.bias": at_output.sum(axis=0),
    }
    given = "Sequential(Linear(3, 4), Tanh(), Linear(4, 2))"
    for name, parameter in model.named_parameters():
        close(parameter.grad, expected[name], f"gradient of {name}", given, dtype=np.float32)
        parameter.data -= np.float32(0.1) * parameter.grad
    after = loss().item()
    holds(
        after < before.item(), f"a loss below {before.item():.4f} after one step", f"{after:.4f}", "learning rate 0.1"
    )


@exercise("backward")
def test_dropout_passes_gradients_where_it_passed_values() -> None:
    """dropped elements get no gradient, kept ones the scaled one"""
    manual_seed(5)
    x = leaf(np.full(64, 2.0))
    y = Dropout(0.25)(x)
    y.backward(np.ones(64))
    close(x.grad, y.data / 2.0, "x.grad", "Dropout(0.25)(x), x = [2, 2, …], upstream of ones")


@exercise("backward")
def test_activations_and_losses_answer() -> None:
    """Activation.backward and Loss.backward give the gradient for their last input, and disturb nothing"""
    x = leaf([-1.0, 0.5])
    tanh, upstream = Tanh(), np.array([1.0, 10.0])
    y, expected = tanh(x), upstream * (1 - np.tanh(x.data) ** 2)
    close(tanh.backward(upstream), expected, "tanh.backward([1, 10])", "tanh = Tanh(), tanh(x), x = [-1, 0.5]")
    equal(x.grad, None, "x.grad, after tanh.backward", "tanh = Tanh(), tanh(x)")
    y.backward(upstream)
    close(x.grad, expected, "x.grad", "y = tanh(x), tanh.backward([1, 10]), y.backward([1, 10])")
    predictions, mse = Tensor(np.array([1.0, 2.0, 4.0])), MSELoss()
    mse(predictions, Tensor(np.array([1.0, 1.0, 1.0])))
    close(mse.backward(), [0.0, 2 / 3, 2.0], "mse.backward()", "predictions [1, 2, 4], targets [1, 1, 1]")
    cross = CrossEntropyLoss()
    cross(Tensor(np.zeros((2, 4))), np.array([0, 3]))
    close(cross.backward(), (0.25 - np.eye(4)[[0, 3]]) / 2, "cross.backward()", "logits zeros (2, 4), targets [0, 3]")


# Remembering less


def remembers() -> bool:
    return (leaf([1.0]) * 2.0).requires_grad


@exercise("no_grad")
def test_no_grad() -> None:
    """inside nothing is remembered, afterwards everything is"""
    x = leaf([3.0])
    with no_grad():
        inside = x * 2.0
        made = leaf([1.0])
    equal((inside.requires_grad, inside.grad_fn), (False, None), "requires_grad and grad_fn", "x * 2 inside no_grad()")
    close(inside, [6.0], "x * 2 inside no_grad()", "x = [3]")
    equal(remembers(), True, "requires_grad of x * 2", "after no_grad()")
    equal(made.requires_grad, True, "requires_grad of a leaf made inside no_grad()")
    raises(RuntimeError, inside.backward, "backward() of x * 2 that was computed inside no_grad()")


@exercise("no_grad")
def test_no_grad_nested() -> None:
    """an inner no_grad() does not end the outer one"""
    with no_grad():
        at_first = remembers()
        with no_grad():
            pass
        still = remembers()
    equal(at_first, False, "requires_grad of x * 2", "inside no_grad()")
    equal(still, False, "requires_grad of x * 2", "inside no_grad(), after another one inside it has ended")
    equal(remembers(), True, "requires_grad of x * 2", "after both have ended")


@exercise("no_grad")
def test_no_grad_after_an_error() -> None:
    """an error inside goes on its way, and memory is on again"""

    def fails() -> None:
        with no_grad():
            raise KeyError("from inside")

    with no_grad():
        pass
    equal(remembers(), True, "requires_grad of x * 2", "after no_grad()")
    raises(KeyError, fails, "an error inside no_grad()", mentions=["from inside"])
    equal(remembers(), True, "requires_grad of x * 2", "after an error inside no_grad()")

    def stops() -> None:
        with no_grad():
            raise KeyboardInterrupt

    raises(KeyboardInterrupt, stops, "Ctrl-C inside no_grad()")
    equal(remembers(), True, "requires_grad of x * 2", "after Ctrl-C inside no_grad()")


@exercise("no_grad")
def test_backward_inside_no_grad() -> None:
    """what was remembered before goes backward inside as well"""
    x = leaf([3.0])
    y = x * x
    with no_grad():
        y.backward()
        still = remembers()
    close(x.grad, [6.0], "x.grad", "y = x * x, then y.backward() inside no_grad()")
    equal(still, False, "requires_grad of x * 2", "inside no_grad(), after a backward() there")


# Computing again


@exercise("checkpoint")
def test_checkpoint() -> None:
    """the same result and the same gradients as without"""
    layer = Linear(3, 3)
    for inputs, wants in (("requires a gradient", True), ("requires none", False)):
        x, found = numbers(4, 3).astype(np.float32), []
        for run in (lambda f, x: f(x), checkpoint):
            layer.weight.grad = layer.bias.grad = None
            start = Tensor(x, requires_grad=wants)
            y = run(lambda x: Tanh()(layer(x)) * x, start)
            y.backward(numbers(4, 3, seed=1))
            found.append((y, layer.weight.grad, layer.bias.grad, start.grad))
        given = f"checkpoint(f, x), f(x) = tanh(linear(x)) * x, where x {inputs}"
        close(found[1][0], found[0][0].data, "the result", given, dtype=np.float32)
        close(found[1][1], found[0][1], "gradient of a parameter that f uses", given, dtype=np.float32)
        close(found[1][2], found[0][2], "gradient of a parameter that f uses", given, dtype=np.float32)
        if wants:
            close(found[1][3], found[0][3], "x.grad", given, dtype=np.float32)


@exercise("checkpoint")
def test_checkpoint_in_the_middle() -> None:
    """gradients go on to what made the inputs, of which there may be several"""

    def middle(x: Tensor, y: Tensor) -> Tensor:
        a, b = x.exp(), y * y
        return checkpoint(lambda a, b: a * b + a, a, b) * a + checkpoint(lambda a: a * a, a)

    given = "a = x.exp(), b = y * y, checkpoint(f, a, b) * a + checkpoint(g, a)"
    gradients_match(middle, numbers(3), numbers(3, seed=1), given=given)
    gradients_match(lambda x: checkpoint(lambda a, b: a * b, x, x), numbers(3), given="checkpoint(multiply, x, x)")


@exercise("checkpoint")
def test_checkpoint_computes_twice_and_keeps_little() -> None:
    """forward runs without memory; the way back runs it again"""
    calls, x = [], leaf(np.ones(5000))

    def long(x: Tensor) -> Tensor:
        calls.append((x * 2.0).requires_grad)
        for _ in range(20):
            x = x * 1.01
        return x

    kept = []
    for run in (lambda f, x: f(x), checkpoint):
        tracemalloc.start()
        y = run(long, x)
        kept.append(tracemalloc.get_traced_memory()[0] / x.data.nbytes)
        tracemalloc.stop()
    expected = f"the result alone kept (of {kept[0]:.0f} arrays without checkpoint)"
    holds(kept[1] < 3, expected, f"{kept[1]:.0f} arrays", "20 operations")
    equal(tuple(calls), (True, False), "whether operations inside were remembered", "f(x), then checkpoint(f, x)")
    y.backward(np.ones(5000))
    given = "f(x), checkpoint(f, x), then backward()"
    equal(tuple(calls), (True, False, True), "whether operations inside were remembered", given)
    close(x.grad, np.full(5000, 1.01**20), "x.grad", "20 times x * 1.01", tolerance=1e-9)


@exercise("checkpoint")
def test_checkpoint_repeats_random_numbers() -> None:
    """dropout drops the same elements again, and the generator goes on as if it had not been asked"""
    drop = Dropout(0.5)
    manual_seed(11)
    x = leaf(np.full(50, 3.0))
    y = checkpoint(drop, x)
    between = generator().random(3)
    y.backward(np.ones(50))
    after = generator().random(3)
    close(x.grad, y.data / 3.0, "x.grad", "checkpoint(Dropout(0.5), x), x = [3, 3, …], upstream of ones")
    manual_seed(11)
    drop(x)
    expected = generator().random(6)
    drawn = np.concatenate([between, after])
    close(drawn, expected, "random numbers drawn before and after backward()", "checkpoint(Dropout(0.5), x)")


@exercise("checkpoint")
def test_checkpoint_and_no_grad() -> None:
    """inside no_grad() nothing is remembered; after an error memory is as it was"""
    with no_grad():
        y = checkpoint(lambda x: x * 2.0, leaf([1.0]))
    equal((y.requires_grad, y.grad_fn), (False, None), "requires_grad and grad_fn", "checkpoint(f, x) inside no_grad()")

    def fails(x: Tensor) -> Tensor:
        raise KeyError("from inside")

    raises(KeyError, lambda: checkpoint(fails, leaf([1.0])), "an error inside the function", mentions=["from inside"])
    equal(remembers(), True, "requires_grad of x * 2", "after an error inside checkpoint")


@exercise("checkpoint")
def test_checkpoint_of_a_function_that_returns_its_input() -> None:
    """the result is a tensor of its own, and the input stays what it is"""
    x = leaf([3.0])
    y = checkpoint(lambda a: a, x)
    given = "checkpoint(f, x), f(a) = a"
    holds(y is not x and x.grad_fn is None, "a new tensor, and x.grad_fn = None", "x itself, changed", given)
    y.backward([2.0])
    close(x.grad, [2.0], "x.grad", "y = checkpoint(f, x), f(a) = a, y.backward([2])")


@exercise("checkpoint")
def test_checkpoint_nested() -> None:
    """a checkpoint inside a checkpoint"""
    manual_seed(7)
    drop = Dropout(0.5)

    def inner(x: Tensor) -> Tensor:
        return drop(x).exp()

    def outer(x: Tensor) -> Tensor:
        return checkpoint(inner, x * 2.0) * drop(x)

    found = []
    for run in (lambda f, x: f(x), checkpoint):
        manual_seed(7)
        x = leaf(numbers(20))
        y = run(outer, x)
        y.backward(numbers(20, seed=1))
        found.append((y, x.grad))
    close(found[1][0], found[0][0].data, "the result", "checkpoint(outer, x), where outer uses checkpoint and dropout")
    close(found[1][1], found[0][1], "x.grad", "checkpoint(outer, x), where outer uses checkpoint and dropout")


def again(function: Callable[..., Tensor], *inputs: Tensor, gradient: Any) -> tuple[Any, ...]:
    return tuple(recompute(function, inputs, generator().bit_generator.state, np.asarray(gradient)))


@exercise("recompute")
def test_recompute() -> None:
    """a gradient for each input that requires one, None for the others, and gradients for parameters inside"""
    weight, x, y = leaf([2.0]), leaf([3.0]), Tensor(np.array([5.0]))
    answer = again(lambda a, b: a * b * weight, x, y, gradient=[1.5])
    given = "f(a, b) = a * b * weight, a = [3], b = [5] that requires no gradient, weight = [2], gradient [1.5]"
    equal(len(answer), 2, "number of gradients", given)
    close(answer[0], [15.0], "gradient of a", given)
    equal(answer[1], None, "gradient of b", given)
    close(weight.grad, [22.5], "weight.grad", given)
    equal(x.grad, None, "a.grad: a's gradient is returned, not left in a", given)


@exercise("recompute")
def test_recompute_ends_at_the_inputs() -> None:
    """what made the inputs is left alone: the engine goes on there"""
    x = leaf([3.0])
    hidden = x * 2.0
    answer = again(lambda a: a * a, hidden, gradient=[1.0])
    given = "hidden = x * 2, f(a) = a * a, a = hidden"
    close(answer[0], [12.0], "gradient of a", given)
    equal(x.grad, None, "x.grad", given)
    hidden.backward()
    close(x.grad, [2.0], "x.grad", f"{given}, and then hidden.backward()")


@exercise("recompute")
def test_recompute_remembers_again() -> None:
    """the function runs with memory on, also inside no_grad(), and leaves it as it was"""
    x = leaf([3.0])
    with no_grad():
        answer = again(lambda a: a * a, x, gradient=[1.0])
        still = remembers()
    close(answer[0], [6.0], "gradient of a", "f(a) = a * a, a = [3], inside no_grad()")
    equal(still, False, "requires_grad of x * 2", "inside no_grad(), after recompute")

    def fails(a: Tensor) -> Tensor:
        generator().random(5)
        raise KeyError("from inside")

    manual_seed(2)
    state = generator().bit_generator.state
    expected = generator().random(2)
    manual_seed(2)
    with no_grad():
        action = lambda: recompute(fails, (x,), state, np.ones(1))
        raises(KeyError, action, "an error inside the function", mentions=["from inside"])
        still = remembers()
    equal(still, False, "requires_grad of x * 2", "inside no_grad(), after an error in recompute")
    close(generator().random(2), expected, "random numbers drawn after an error in recompute", "manual_seed(2)")


@exercise("recompute")
def test_recompute_draws_the_same() -> None:
    """random numbers come out as from the state that is given; afterwards the generator goes on undisturbed"""
    manual_seed(4)
    state = generator().bit_generator.state
    x = leaf(np.full(20, 2.0))
    y = Dropout(0.5)(x)
    generator().random(9)
    expected_next = np.random.default_rng()
    expected_next.bit_generator.state = generator().bit_generator.state
    answer = recompute(Dropout(0.5), (x,), state, np.ones(20))
    close(answer[0], y.data / 2.0, "gradient of a", "f = Dropout(0.5), the state from before its first run")
    close(generator().random(3), expected_next.random(3), "random numbers drawn afterwards", "f = Dropout(0.5)")


@exercise("recompute")
def test_recompute_without_gradients() -> None:
    """where nothing requires a gradient there is none"""
    answer = again(lambda a: a * 2.0, Tensor([1.0]), gradient=[1.0])
    equal(tuple(answer), (None,), "the gradients", "f(a) = a * 2, where a requires none")


# Systems


def measured_graph(function: Callable[[Tensor], Tensor]) -> tuple[int, int, Tensor]:
    """What stays allocated when only the result of `function` is left; what `graph_bytes` says; and the result."""
    x = leaf(np.linspace(0.1, 0.9, 20000))
    tracemalloc.start()
    result = function(x)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    shared = np.shares_memory(result.data, x.data)
    return kept - (0 if shared else result.data.nbytes), graph_bytes(result), result


GRAPHS: tuple[tuple[str, Callable[[Tensor], Tensor]], ...] = (
    ("(x + x).exp().sum()", lambda x: (x + x).exp().sum()),
    ("Tanh()(Sigmoid()(x * x))", lambda x: Tanh().forward(Sigmoid().forward(x * x))),
    ("(x * 2).reshape(100, 200).T.sum(axis=0)", lambda x: (x * 2).reshape(100, 200).T.sum(axis=0)),
    ("x.reshape(100, 200)[3:5].sum()", lambda x: x.reshape(100, 200)[3:5].sum()),
    ("(x * 2)[:10] * 3", lambda x: (x * 2)[:10] * 3),
    ("h = x * 2, h * h * h", lambda x: (lambda h: h * h * h)(x * 2)),
    ("(x * Tensor(ones)).sum()", lambda x: (x * Tensor(np.ones(20000))).sum()),
    ("x[:10] * Tensor(ones)[:10]", lambda x: x[:10] * Tensor(np.ones(20000))[:10]),
    (
        "CrossEntropyLoss()(x.reshape(200, 100), …)",
        lambda x: CrossEntropyLoss()(x.reshape(200, 100), np.zeros(200, np.int64)),
    ),
    ("(x * 2).detach() * 3", lambda x: (x * 2).detach() * 3),
    ("x * 2", lambda x: x * 2),
    ("(x * 2).reshape(100, 200)", lambda x: (x * 2).reshape(100, 200)),
)


@exercise("graph_bytes")
def test_graph_bytes() -> None:
    """what tracemalloc says is still allocated, besides the result itself"""
    for given, function in GRAPHS:
        kept, answer, _ = measured_graph(function)
        holds(
            abs(answer - kept) < 8000, f"graph_bytes of about {kept} (measured)", answer, f"{given}, x of 160000 bytes"
        )


@exercise("graph_bytes")
def test_graph_bytes_afterwards() -> None:
    """nothing is kept by a leaf, and nothing once backward has run"""
    equal(graph_bytes(leaf(np.ones(10))), 0, "graph_bytes", "a leaf")
    _, _, result = measured_graph(GRAPHS[0][1])
    result.backward()
    equal(graph_bytes(result), 0, "graph_bytes", "y = (x + x).exp().sum(), y.backward()")


def walk(tensor: Tensor) -> int:
    """Paths to leaves that require a gradient, walked one by one."""
    if tensor.grad_fn is None:
        return int(tensor.requires_grad)
    return sum(walk(source) for source in tensor.grad_fn.inputs)


@exercise("count_paths")
def test_count_paths() -> None:
    """what walking along every path counts"""
    x, w, constant = leaf([1.0]), leaf([2.0]), Tensor([3.0])
    h = x * w
    for given, result in (
        ("x", x),
        ("a constant", constant),
        ("-x", -x),
        ("x * x", x * x),
        ("x * 3", x * constant),
        ("h = x * w, h * h + h", h * h + h),
        ("h = x * w, (h + x) * (h + x)", (h + x) * (h + x)),
        ("h = x * w, h.exp() * h + h.detach()", h.exp() * h + h.detach()),
    ):
        equal(count_paths(result), walk(result), "count_paths", given)
    y = x
    for depth in range(1, 11):
        y = y + y * w
        equal(count_paths(y), walk(y), "count_paths", f"{depth} times y = y + y * w")


@exercise("count_paths")
def test_count_paths_of_a_tower() -> None:
    """2**60 paths are counted, not walked"""
    y = tower(leaf([1.0]), watched_sum(limit=60 * 30))
    equal(count_paths(y), 2**60, "count_paths", TOWER)


class Halve(Function):
    """a / 2, an operation that keeps one array."""

    def forward(self, a: np.ndarray) -> np.ndarray:
        return a * 0.5

    def backward(self, grad_output: np.ndarray) -> Any:
        return grad_output * 0.5


def measured_peak(layers: int, segment: int) -> float:
    """The peak of memory in one pass forward and backward, in activations."""
    x = leaf(np.ones(4000))
    tracemalloc.start()
    y = in_segments([Halve.apply] * layers, segment, x)
    y.backward(np.ones(4000))
    peak = tracemalloc.get_traced_memory()[1] / x.data.nbytes
    tracemalloc.stop()
    return peak


@exercise("best_segment")
def test_best_segment() -> None:
    """within one activation and a half of the lowest peak that tracemalloc finds among all segments"""
    for layers, segments in ((1, range(1, 2)), (9, range(1, 10)), (25, range(1, 26, 2)), (144, (1, 6, 12, 24, 144))):
        answer = best_segment(layers)
        whole = isinstance(answer, (int, np.integer)) and 1 <= answer <= layers
        holds(whole, f"a whole number from 1 to {layers}", answer, f"best_segment({layers})")
        peaks = {segment: measured_peak(layers, segment) for segment in segments}
        lowest = min(peaks, key=peaks.__getitem__)
        expected = f"best_segment({layers}) of a peak like that of {lowest}, {peaks[lowest]:.0f} activations (measured)"
        peak = measured_peak(layers, answer)
        holds(peak <= peaks[lowest] + 1.5, expected, f"{answer}, which takes {peak:.0f}", f"{layers} layers")


def counted_calls(layers: int) -> int:
    """Calls of the layers in one pass forward and backward, counted."""
    calls = []

    def layer(x: Tensor) -> Tensor:
        calls.append(1)
        return x * 1.5

    x = leaf([1.0])
    in_halves([layer] * layers, x).backward()
    close(x.grad, [1.5**layers], "x.grad", f"{layers} layers x * 1.5, in halves")
    return len(calls)


@exercise("nested_calls")
def test_nested_calls() -> None:
    """what counting every call of a layer gives"""
    for layers in (1, 2, 3, 4, 5, 8, 13, 16):
        answer = nested_calls(layers)
        equal(answer, counted_calls(layers), "nested_calls", f"{layers} layers, in halves")


# Joining


@exercise("WhereBackward.backward")
def test_where_rule() -> None:
    """each side gets the gradient where it was chosen, and exactly 0 elsewhere"""
    chosen, given = np.array([True, False, True]), "where([True, False, True], x, y), x = [1, 2, 3], y = [4, 5, 6]"
    example(
        lambda a, b: where(chosen, a, b),
        [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]],
        [1.0, 10.0, 100.0],
        [[1.0, 0.0, 100.0], [0.0, 10.0, 0.0]],
        given,
    )
    mask = numbers(2, 3, seed=2) > 0
    rule_matches(lambda a, b: where(mask, a, b), numbers(2, 3), numbers(2, 3, seed=1), given="where(c, x, y), (2, 3)")
    upstream = [np.inf, np.nan, -np.inf]
    from_x, from_y = answer_of(lambda a, b: where(chosen, a, b), leaf(np.ones(3)), leaf(np.ones(3)), upstream=upstream)
    close(from_x, [np.inf, 0.0, -np.inf], "gradient of x", f"{given}, upstream [inf, nan, -inf]")
    close(from_y, [0.0, np.nan, 0.0], "gradient of y", f"{given}, upstream [inf, nan, -inf]")


@exercise("CatBackward.backward")
def test_cat_rule() -> None:
    """each input gets the part of the gradient that it filled, along the axis of the joining"""
    given = "cat([x, y]), x = [1], y = [2, 3]"
    example(lambda a, b: cat([a, b]), [[1.0], [2.0, 3.0]], [1.0, 10.0, 100.0], [[1.0], [10.0, 100.0]], given)
    shapes = (((2, 3), (4, 3), (3, 3), 0), ((2, 1), (2, 3), (2, 2), 1), ((2, 2, 1), (2, 0, 1), (2, 2, 1), -2))
    for *three, axis in shapes:
        arrays, given = [numbers(*shape, seed=seed) for seed, shape in enumerate(three)], f"cat([x, y, z], {axis}), "
        rule_matches(lambda *parts: cat(parts, axis), *arrays, given=given + f"shapes {three}")


@exercise("StackBackward.backward")
def test_stack_rule() -> None:
    """each input gets its slice of the gradient, without the new axis"""
    upstream, given = [[1.0, 10.0], [100.0, 1000.0]], "stack([x, y], axis=1), x = [1, 2], y = [3, 4]"
    example(lambda a, b: stack([a, b], 1), [[1.0, 2.0], [3.0, 4.0]], upstream, [[1.0, 100.0], [10.0, 1000.0]], given)
    for axis in (0, 1, 2, -1, -2):
        arrays = [numbers(2, 3, seed=seed) for seed in range(3)]
        rule_matches(lambda *parts: stack(parts, axis), *arrays, given=f"stack([x, y, z], {axis}), shapes (2, 3)")
    rule_matches(lambda *parts: stack(parts), 1.0, 2.0, given="stack([x, y]), x = 1, y = 2")


# Corners of rules, engine and counts


@exercise("PowBackward.backward")
def test_pow_rule_where_numbers_end() -> None:
    """x ** 0 is 1 for every x, so its gradient is 0; a negative power of 0 has an infinite one"""
    base, given = [np.inf, -np.inf, np.nan, 0.0], "x ** 0, x = [inf, -inf, nan, 0]"
    close(answer_of(lambda a, b: a**b, leaf(base), Tensor([0.0]))[0], np.zeros(4), "gradient of x", given)
    _, from_y = answer_of(lambda a, b: a**b, Tensor([0.0]), leaf([-1.0]))
    close(from_y, [-np.inf], "gradient of y", "x ** y, x = [0], y = [-1]")


@exercise("IndexBackward.backward")
def test_index_rule_with_sequences_inside() -> None:
    """a list, a tuple or a mask within an index may name a place twice"""
    inside = ((slice(None), [0, 0]), (0, (1, 1)), (..., np.array([2, 2])), (None, [1, 1]), (np.int64(1), [0, 0]))
    for index in ([0, 0], *inside):
        rule_matches(lambda a: a[index], numbers(2, 3), given=f"x[{index}], x (2, 3)")
    rule_matches(lambda a: a[:, Tensor([2, 0, 2])], numbers(2, 3), given="x[:, Tensor([2, 0, 2])], x (2, 3)")
    mask = np.array([True, False, True])
    rule_matches(lambda a: a[1, mask], numbers(2, 3), given="x[1, [True, False, True]], x (2, 3)")


class CountingBackend:
    """NumPy's product, counted."""

    def __init__(self) -> None:
        self.products = 0

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        self.products += 1
        return np.matmul(a, b)


@exercise("MatmulBackward.backward")
def test_matmul_rule_asks_the_backend() -> None:
    """both products come from the backend in use, and no more than those"""
    for left, right in (((2, 3), (3, 4)), ((3, 4, 2), (1, 2, 1)), ((3,), (3, 4))):
        with rules_alone():
            y = leaf(numbers(*left)) @ leaf(numbers(*right))
        counting = CountingBackend()
        before = set_backend(counting)
        try:
            y.grad_fn.backward(np.ones(y.shape))
        finally:
            set_backend(before)
        equal(counting.products, 2, "products asked from the backend by the rule", f"x @ y, {left} @ {right}")


@exercise("unbroadcast")
def test_unbroadcast_of_one_matrix_for_a_batch() -> None:
    """a batch of one matrix gets the sum over the batch, and keeps its axis; a number is no vector of one element"""
    raises(ValueError, lambda: unbroadcast(np.array(1.0), (1,)), "() back to (1,)", mentions=["()", "(1,)"])
    x, y = numbers(3, 4, 2), numbers(1, 2, 1)
    gradients_match(lambda a, b: a @ b, x, y, given="x @ y, (3, 4, 2) @ (1, 2, 1)")


@exercise("accumulate")
def test_accumulate_makes_a_new_sum() -> None:
    """a gradient that somebody kept from an earlier pass stays what it was"""
    x = leaf([1.0, 2.0])
    accumulate(x, np.array([1.0, 10.0]))
    kept = x.grad
    accumulate(x, np.array([2.0, 20.0]))
    close(kept, [1.0, 10.0], "kept, afterwards", "[1, 10] came for x, kept = x.grad, then [2, 20] came")
    close(x.grad, [3.0, 30.0], "x.grad", "[1, 10] came for x, kept = x.grad, then [2, 20] came")


@exercise("topological_order")
def test_order_compares_no_function_with_all_others() -> None:
    """in a chain of 300 the Functions are not compared with one another, pair by pair"""

    class Compared(Function):
        """-a, which counts how often it is compared."""

        times = 0

        def __eq__(self, other: object) -> bool:
            Compared.times += 1
            return self is other

        __hash__ = object.__hash__

        def forward(self, a: np.ndarray) -> np.ndarray:
            return -a

    y = leaf([1.0])
    for _ in range(300):
        y = Compared.apply(y)
    order = topological_order(y.grad_fn)
    equal(len(order), 300, "number of Functions in the order", "a chain of 300")
    expected = "at most 3,000 comparisons of Functions, 10 for each"
    holds(
        Compared.times <= 3000, expected, f"{Compared.times:,}: each is looked for among all others", "a chain of 300"
    )


@exercise("graph_bytes")
def test_graph_bytes_of_a_leaf_used_twice_and_of_a_view() -> None:
    """a leaf lives without the graph, however often it is used, and so does the array that it looks into"""
    x = leaf(np.ones(1000))
    equal(graph_bytes(x + x), 0, "graph_bytes", "x + x")
    equal(graph_bytes((x + x).exp()), 8000, "graph_bytes", "(x + x).exp(), x of 8000 bytes")
    view = x.detach()[:10]
    view.requires_grad = True
    equal(graph_bytes(view * view), 0, "graph_bytes", "v * v, where the leaf v looks at the first 10 of 1000 numbers")


def kept_at_once(layers: int, segment: int) -> int:
    """The most activations at once, counted segment by segment on the way back."""
    lengths = [min(segment, layers - start) for start in range(0, layers, segment)]
    return max(results + length for results, length in enumerate(lengths, 1))


@exercise("best_segment")
def test_best_segment_by_counting() -> None:
    """for no other segment fewer activations are there at once"""
    for layers in (15, *range(1, 31), 47, 60, 100):
        answer, fewest = best_segment(layers), min(kept_at_once(layers, s) for s in range(1, layers + 1))
        whole = isinstance(answer, (int, np.integer)) and 1 <= answer <= layers
        holds(whole, f"a whole number from 1 to {layers}", answer, f"best_segment({layers})")
        kept = kept_at_once(layers, answer)
        expected = f"a segment that keeps {fewest} activations at once; segments of {answer} keep {kept}"
        holds(kept == fewest, expected, answer, f"best_segment({layers})")
