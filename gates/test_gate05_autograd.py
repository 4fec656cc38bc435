"""Gate 05: automatic differentiation."""

import gc
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tinytorch import Tensor
from tinytorch.config import set_backend
from tinytorch.core.activations import GELU, ReLU, Sigmoid, Softmax, Tanh
from tinytorch.core.autograd import accumulate, checkpoint, no_grad, recompute, record, topological_order, unbroadcast
from tinytorch.core.joining import cat, stack, where
from tinytorch.core.layers import Dropout, Linear, Sequential
from tinytorch.core.losses import BinaryCrossEntropyLoss, CrossEntropyLoss, MSELoss, log_softmax
from tinytorch.core.rng import generator, manual_seed
from tinytorch.core.rules import RULES, Function
from tinytorch.core.tensor import plug_in, recording, result_of
from tinytorch.systems.autograd import best_segment, count_paths, graph_bytes, in_halves, nested_calls
from workshop.checks import close, count, equal, exercise, holds, raises, shown
from workshop.probes import allocated, differences, leaf, numbers, positive, random_gradient, unwatched
from workshop.tables import Case, Cases, Expression, table

look = Cases(globals())
Sizes = tuple[int, ...]


@pytest.fixture(autouse=True)
def memory_on() -> None:
    """Each test starts with memory on, whatever the one before it left behind."""
    recording(True)


# Rules, each asked by itself: a tape of the gate's own records one operation, and nothing of an engine is needed


class OneStep:
    """A tape for a single operation."""

    def record(self, op: str, result: Tensor, inputs: tuple[Tensor, ...], saved: dict[str, Any]) -> None:
        rule = RULES[f"{op}Backward"]()
        rule.inputs = inputs
        vars(rule).update(saved)
        result.requires_grad, result.grad_fn = True, rule


def one_step(e: Expression, tensors: Sequence[Tensor]) -> Tensor:
    before = plug_in(OneStep())
    try:
        return e(*tensors)
    finally:
        plug_in(before)


def ask(result: Tensor, tensors: Sequence[Tensor], upstream: Any, given: str) -> list[Any]:
    """What the rule of the operation that made `result` answers for each of `tensors`. It changes nothing."""
    gradient, inputs = np.array(np.broadcast_to(upstream, result.shape), result.dtype), result.grad_fn.inputs
    read = {"grad_output": gradient, "the operation's result": result.data}
    read |= {f"the operation's input {number}": source.data for number, source in enumerate(inputs, 1)}
    before = {name: values.copy() for name, values in read.items()}
    answers = result.grad_fn.backward(gradient)
    for name, values in read.items():
        equal(values, before[name], f"{name}, after the rule has read it", given)
    answers = list(answers) if isinstance(answers, (tuple, list)) else [answers]
    equal(len(answers), len(inputs), "number of gradients that the rule answers", given)
    return [next(answer for answer, source in zip(answers, inputs) if source is tensor) for tensor in tensors]


def folded(gradient: Any, shape: Sizes) -> Any:
    """`gradient`, where each element of `shape` gets what came at all the places that broadcasting put it."""
    size, gradient = int(np.prod(shape)), np.asarray(gradient)
    places = np.broadcast_to(np.arange(size).reshape(shape), gradient.shape)
    return np.bincount(places.ravel(), weights=gradient.ravel(), minlength=size).reshape(shape)


def rule(e: Expression, fold: bool = False) -> None:
    """The rule's answers are what central differences find, in float64 for float64 and float32 for float32."""
    arrays = [np.array(values, np.float64) for values in e.letters.values()]
    tensors = [leaf(array) for array in arrays]
    result = one_step(e, tensors)
    upstream = random_gradient(result.shape)
    expected = differences(e, arrays, upstream)
    for name, array, answer, right in zip(e.letters, arrays, ask(result, tensors, upstream, e.given), expected):
        answer = folded(answer, array.shape) if fold and answer is not None else answer
        close(answer, right, f"gradient of {name} (central differences)", tolerance=1e-6, dtype=np.float64)
    tensors = [leaf(array, np.float32) for array in arrays]
    for name, answer in zip(e.letters, ask(one_step(e, tensors), tensors, 1.0, e.given)):
        is_array = isinstance(answer, (np.ndarray, np.generic))
        holds(is_array, "a rule that answers with NumPy arrays", type(answer).__name__)
        equal(str(answer.dtype), "float32", f"dtype of the gradient of {name}", f"{e.given}, all in float32")


def answers(e: Expression, upstream: Any, *expected: Any) -> None:
    """The rule answers just so, letter by letter. ...: this letter requires no gradient, and None is the answer."""
    values = [np.array(value, np.float64) for value in e.letters.values()]
    tensors = [Tensor(value) if right is ... else leaf(value) for value, right in zip(values, expected)]
    given = f"{e.given}, upstream {shown(upstream)}"
    for name, got, right in zip(e.letters, ask(one_step(e, tensors), tensors, upstream, given), expected):
        if right is ...:
            equal(got, None, f"gradient of {name}, which requires none", given)
        else:
            close(got, right, f"gradient of {name}", given, dtype=np.float64)


def shared(e: Expression, upstream: Any) -> None:
    """What the elements along the last axis get adds up to `upstream`, and those below the largest get nothing."""
    (x,), given = e.arrays(), f"{e.given}, upstream {shown(upstream)}"
    tensors = [leaf(x)]
    answer = np.asarray(ask(one_step(e, tensors), tensors, upstream, given)[0])
    close(answer.sum(axis=-1), upstream, "sums of the gradient's rows", given)
    lower = x < x.max(axis=-1, keepdims=True)
    close(answer[lower], np.zeros(lower.sum()), "gradient of the smaller elements", given)


def products(e: Expression, *wanted: bool) -> None:
    """The rule asks the backend in use for one product per operand that is wanted, and for no more."""
    tensors = [leaf(values) if want else Tensor(values) for values, want in zip(e.arrays(), wanted)]
    result, calls = one_step(e, tensors), []
    before = set_backend(SimpleNamespace(matmul=lambda a, b: calls.append(1) or np.matmul(a, b)))
    try:
        ask(result, [], 1.0, e.given)
    finally:
        set_backend(before)
    equal(len(calls), sum(wanted), "products that the rule asked the backend for")


A, B = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([[5.0, 6.0], [7.0, 8.0]])
WIDE, OTHER = numbers(2, 3), numbers(2, 3, seed=1)
MASK, CHOSEN, CUBE = np.array([True, False, True]), numbers(2, 3, seed=2) > 0, numbers(2, 3, 2)
TIES = np.array([[4.0, 1.0, 4.0], [2.0, 2.0, 2.0], [0.0, 5.0, 3.0]])
PICKED, SHARES = np.array([2, 0, 1]), np.array([[0.1, 0.9], [0.5, 0.4], [0.7, 0.2]])
CELLS, SURE, SMALL = np.array([[0, 2], [2, 2]]), np.array([0.0, 1.0, 0.0, 1.0]), np.arange(3.0)
INF, NAN = np.inf, np.nan
AXES = "x.{0}(); x.{0}(0); x.{0}(1, True); x.{0}(-1); x.{0}((0, 2), True); x.{0}((-1, 0)); x.{0}(None, True)"
PLACES = "x[1]; x[-1]; x[0, 2]; x[1:3]; x[:, -1]; x[..., 0]; x[None, 1]; x[::-2]; x[x.data > 0]; x[1, MASK]"
TWICE = "x[[0, 0]]; x[:, [0, 0]]; x[0, (1, 1)]; x[..., [2, 2]]; x[None, [1, 1]]; x[np.int64(1), [0, 0]]; x[[1, 1], 0]"


def split(texts: str) -> list[str]:
    return texts.replace("\n", "; ").split("; ")


def rules(texts: str, **letters: Any) -> list[Case]:
    return [look.case(rule, text, **letters) for text in split(texts)]


def pairs(text: str) -> list[tuple[Sizes, Sizes]]:
    """The shapes in a text such as "(2, 3) (3,); () (2, 2)", two by two."""
    both = [pair.replace(") (", ")|(").split("|") for pair in split(text)]
    return [(eval(left), eval(right)) for left, right in both]


def matrices(text: str, fold: bool = False) -> list[Case]:
    return [look.case(rule, "x @ y", fold, x=numbers(*a), y=numbers(*b, seed=1)) for a, b in pairs(text)]


test_rules_of_arithmetic = table(
    ("MulBackward.backward", "each factor gets the gradient times the other factor"),
    look.case(answers, "x * y", 2.0, [10.0], [6.0], x=[3.0], y=[5.0]),
    look.case(answers, "x * y", [2.0, 3.0], [8.0, 21.0], [10.0, 18.0], x=[5.0, 6.0], y=[4.0, 7.0]),
    look.case(rule, "x * y", x=WIDE, y=OTHER),
    look.case(rule, "x * y", x=3.0, y=5.0),
    ("DivBackward.backward", "d(a / b) = da / b - a db / b²"),
    look.case(answers, "x / y", 4.0, [2.0], [-3.0], x=[3.0], y=[2.0]),
    look.case(answers, "x / y", [2.0, 3.0], [0.5, 0.6], [-0.75, -0.72], x=[6.0, 6.0], y=[4.0, 5.0]),
    look.case(rule, "x / y", x=WIDE, y=OTHER),
    look.case(rule, "x / y", x=3.0, y=-0.5),
    ("PowBackward.backward", "base and exponent get their gradients"),
    look.case(answers, "x ** 3", 10.0, [120.0], x=[2.0]),
    look.case(answers, "x ** y", 10.0, [120.0], [80 * np.log(2)], x=[2.0], y=[3.0]),
    look.case(rule, "x ** y", x=positive(2, 3), y=OTHER),
    *rules("x ** 1; x ** 2; x ** 3; x ** -1; x ** -2", x=[-2.0, -0.5, 1.5]),
    look.case(rule, "2 ** x", x=[-1.0, 0.0, 3.0]),
    ("PowBackward.backward", "at 0 there are limits, where PyTorch has them too; x ** 0 has gradient 0 for every x"),
    *(look.case(answers, f"x ** {n}", 5.0, [right], x=[0.0]) for n, right in ((2, 0.0), (1, 5.0), (0, 0.0))),
    look.case(answers, "x ** 0", 5.0, [0.0] * 4, x=[np.inf, -np.inf, np.nan, 2.0]),
    look.case(answers, "x ** y", 5.0, [0.0, 0.0, 10.0], [0.0, 0.0, 0.0], x=[0.0, 0.0, 1.0], y=[2.0, 0.0, 2.0]),
    look.case(answers, "x ** y", 5.0, [-np.inf], [-np.inf], x=[0.0], y=[-1.0]),
    ("PowBackward.backward", "an exponent that nobody asks about is answered with None"),
    look.case(answers, "x ** y", 5.0, [-20.0], ..., x=[-2.0], y=[2.0]),
    look.case(answers, "x ** y", 5.0, [-12.0], ..., x=[-1.2], y=[2.0]),
    ("MatmulBackward.backward", "both matrices get their gradients"),
    look.case(answers, "x @ y", [[1, 0], [0, 10]], [[5, 7], [60, 80]], [[1, 30], [2, 40]], x=A, y=B),
    *matrices("(2, 3) (3, 4); (1, 3) (3, 1); (3, 3) (3, 3); (1, 1) (1, 1); (2, 0) (0, 3)"),
    ("MatmulBackward.backward", "batches go matrix by matrix"),
    *matrices("(2, 2, 2) (2, 2, 2); (3, 2, 3) (3, 3, 4); (2, 3, 1, 4) (2, 3, 4, 2)"),
    *matrices("(3, 2, 3) (3, 4); (2, 3) (2, 3, 4); (3, 4, 2) (1, 2, 1); (1, 2, 3) (4, 3, 2)", fold=True),
    ("MatmulBackward.backward", "a vector is a row on the left, a column on the right, for every matrix of a batch"),
    *matrices("(3,) (3,); (3,) (3, 4); (2, 3) (3,); (3,) (3, 3); (3, 3) (3,)"),
    *matrices("(3,) (2, 3, 4); (4, 2, 3) (3,)", fold=True),
    ("MatmulBackward.backward", "an operand that nobody asks about is answered with None, and costs nothing"),
    look.case(answers, "x @ y", 1.0, ..., [[4.0, 4.0], [6.0, 6.0]], x=A, y=B),
    look.case(answers, "x @ y", 1.0, [[11.0, 15.0], [11.0, 15.0]], ..., x=A, y=B),
    look.case(answers, "x @ y", 1.0, ..., [[2.0, 2.0], [3.0, 3.0]], x=[2.0, 3.0], y=A),
    look.case(answers, "x @ y", 1.0, [[2.0, 3.0], [2.0, 3.0]], ..., x=A, y=[2.0, 3.0]),
    ("MatmulBackward.backward", "every product comes from the backend in use"),
    look.case(products, "x @ y", True, True, x=WIDE, y=numbers(3, 4)),
    look.case(products, "x @ y", True, True, x=numbers(3, 4, 2), y=numbers(1, 2, 1)),
    look.case(products, "x @ y", True, True, x=numbers(3), y=numbers(3, 4)),
    look.case(products, "x @ y", True, False, x=WIDE, y=numbers(3, 4)),
    look.case(products, "x @ y", False, True, x=WIDE, y=numbers(3, 4)),
)


test_rules_of_shapes = table(
    ("ReshapeBackward.backward", "the gradient comes back in the input's shape, in row-major order"),
    look.case(answers, "x.reshape(4)", [1.0, 2.0, 3.0, 4.0], A, x=B),
    look.case(answers, "x.reshape((1, 2))", [[3.0, 4.0]], [3.0, 4.0], x=[1.0, 2.0]),
    look.case(rule, "x.reshape((3, 2))", x=WIDE),
    look.case(rule, "x.reshape((2, 3))", x=numbers(6)),
    look.case(rule, "x.reshape(())", x=numbers(1)),
    look.case(rule, "x.reshape((3, 0))", x=numbers(0, 3)),
    ("TransposeBackward.backward", "the gradient's axes are exchanged back"),
    look.case(answers, "x.transpose(0, 1)", [[1.0, 3.0], [2.0, 4.0]], A, x=B),
    *rules("x.transpose(0, 1); x.transpose(1, 2); x.transpose(-1, 0); x.transpose(-2, -1)", x=CUBE),
    ("IndexBackward.backward", "the gradient goes where the elements came from, and zero elsewhere"),
    look.case(answers, "x[1:]", [5.0, 7.0], [0.0, 5.0, 7.0], x=[1.0, 2.0, 3.0]),
    *rules(PLACES, x=numbers(3, 3)),
    ("IndexBackward.backward", "an element that was taken twice gets both gradients"),
    look.case(answers, "x[[0, 0, 2]]", [1.0, 10.0, 100.0], [11.0, 0.0, 100.0], x=[1.0, 2.0, 3.0]),
    *rules(TWICE, x=WIDE),
    *rules("x[CELLS]; x[Tensor([1, 1, 0])]; x[:, Tensor([1, 0, 1])]", x=numbers(3, 2)),
    ("SumBackward.backward", "every element of a sum gets the whole gradient of its sum"),
    look.case(answers, "x.sum(axis=1)", [10.0, 20.0], [[10.0, 10.0], [20.0, 20.0]], x=A),
    *rules(AXES.format("sum"), x=CUBE),
    look.case(rule, "x.sum(axis=0)", x=numbers(0, 3)),
    look.case(rule, "x.sum()", x=3.0),
    ("MaxBackward.backward", "the largest element gets the gradient; what equal ones get adds up to what came"),
    look.case(answers, "x.max(axis=1)", [10.0, 20.0], [[0.0, 10.0], [0.0, 20.0]], x=A),
    *rules(AXES.format("max"), x=CUBE),
    look.case(rule, "x.max()", x=3.0),
    look.case(shared, "x.max(axis=1)", [1.0, 10.0, 100.0], x=TIES),
    look.case(shared, "x.max()", 6.0, x=[2.0, 7.0, 7.0, 7.0]),
)


# How PyTorch handles certainty: torch.nn.functional.binary_cross_entropy divides by max(p (1 - p), 1e-12) too.
test_rules_of_functions = table(
    ("ExpBackward.backward", "d(eᵃ) = eᵃ da"),
    look.case(answers, "x.exp()", [5.0, 3.0], [5.0 * np.e, 3.0 * np.e**2], x=[1.0, 2.0]),
    look.case(rule, "x.exp()", x=WIDE),
    ("LogBackward.backward", "d(ln a) = da / a"),
    look.case(answers, "x.log()", [6.0, 4.0], [3.0, 0.5], x=[2.0, 8.0]),
    look.case(rule, "x.log()", x=positive(2, 3)),
    ("SigmoidBackward.backward", "dσ = σ (1 - σ) da"),
    look.case(answers, "Sigmoid()(x)", 10.0, [2.5, 1.6], x=[0.0, np.log(4)]),
    look.case(rule, "Sigmoid()(x)", x=WIDE * 3),
    look.case(answers, "Sigmoid()(x)", 2.0, [0.0, 0.0], x=[-1000.0, 1000.0]),
    ("TanhBackward.backward", "d(tanh) = (1 - tanh²) da"),
    look.case(answers, "Tanh()(x)", 25.0, [25.0, 16.0], x=[0.0, np.log(2)]),
    look.case(rule, "Tanh()(x)", x=WIDE * 2),
    look.case(answers, "Tanh()(x)", 2.0, [0.0, 0.0], x=[-1000.0, 1000.0]),
    ("ReLUBackward.backward", "the gradient passes where the input was positive, and not at 0"),
    look.case(answers, "ReLU()(x)", [2.0, 3.0, -4.0, 5.0], [0.0, 0.0, -4.0, 5.0], x=[-2.0, 0.0, 0.5, 3.0]),
    look.case(rule, "ReLU()(x)", x=WIDE),
    ("GELUBackward.backward", "the derivative of just the form that ran forward"),
    *rules('GELU("none")(x); GELU("tanh")(x)', x=[[-3.0, -1.0, -0.3], [0.1, 0.7, 2.5]]),
    look.case(answers, 'GELU("none")(x)', 4.0, [0.0, 2.0, 4.0], x=[-1000.0, 0.0, 1000.0]),
    look.case(answers, 'GELU("tanh")(x)', 4.0, [0.0, 2.0, 4.0], x=[-1000.0, 0.0, 1000.0]),
    ("SoftmaxBackward.backward", "s (g - Σ g s), along the axis of the softmax"),
    look.case(answers, "Softmax()(x)", [4.0, 0.0], [1.0, -1.0], x=[0.0, 0.0]),
    *rules("Softmax(-1)(x); Softmax(0)(x); Softmax(1)(x)", x=CUBE),
    look.case(rule, "Softmax()(x)", x=numbers(3, 3)),
    look.case(rule, "Softmax()(x)", x=numbers(2, 1)),
    ("LogSoftmaxBackward.backward", "g - softmax Σ g, along the axis of the softmax"),
    look.case(answers, "log_softmax(x)", [4.0, 0.0], [2.0, -2.0], x=[0.0, 0.0]),
    *rules("log_softmax(x, -1); log_softmax(x, 0); log_softmax(x, 1)", x=CUBE),
    look.case(rule, "log_softmax(x)", x=numbers(3, 3)),
    look.case(answers, "log_softmax(x)", [1.0, 2.0], [1.0, -1.0], x=[0.0, 10000.0]),
    ("CrossEntropyBackward.backward", "(softmax - target probabilities) / batch, times the gradient that came"),
    look.case(answers, "CrossEntropyLoss()(x, np.array([0, 1]))", 100.0, [[-25, 25], [25, -25]], x=np.zeros((2, 2))),
    *rules("CrossEntropyLoss()(x, PICKED); CrossEntropyLoss(0.2)(x, PICKED)", x=numbers(3, 4)),
    look.case(rule, "CrossEntropyLoss()(x, np.array([3]))", x=numbers(1, 5)),
    look.case(answers, "CrossEntropyLoss()(x, np.array([0]))", 3.0, [[-3.0, 3.0]], x=[[-1e4, 1e4]]),
    (
        "BinaryCrossEntropyBackward.backward",
        "(p - t) / (p (1 - p)) / size, times what came; finite for p = 0 and p = 1",
    ),
    look.case(answers, "BinaryCrossEntropyLoss()(x, np.array([0.0, 1.0]))", 100.0, [100.0, -62.5], x=[0.5, 0.8]),
    look.case(rule, "BinaryCrossEntropyLoss()(x, SHARES)", x=[[0.2, 0.4], [0.6, 0.8], [0.3, 0.9]]),
    look.case(rule, "BinaryCrossEntropyLoss()(x, np.array([[0.3]]))", x=[[0.6]]),
    look.case(answers, "BinaryCrossEntropyLoss()(x, SURE)", 4.0, [0, -1e12, 1e12, 0], x=[0.0, 0.0, 1.0, 1.0]),
)


test_rules_of_joining = table(
    ("WhereBackward.backward", "each side gets the gradient where it was chosen, and exactly 0 elsewhere"),
    look.case(answers, "where(MASK, x, y)", [2, 3, 4], [2, 0, 4], [0, 3, 0], x=SMALL, y=TIES[0]),
    look.case(rule, "where(CHOSEN, x, y)", x=WIDE, y=OTHER),
    look.case(answers, "where(MASK, x, y)", [INF, NAN, 4], [INF, 0, 4], [0, NAN, 0], x=SMALL, y=TIES[0]),
    look.case(answers, "where(MASK, x, y)", [2, INF, NAN], [2, 0, NAN], [0, INF, 0], x=SMALL, y=TIES[0]),
    ("CatBackward.backward", "each input gets the part of the gradient that it filled, along the same axis"),
    look.case(answers, "cat([x, y])", [2.0, 3.0, 4.0], [2.0], [3.0, 4.0], x=[1.0], y=[2.0, 3.0]),
    look.case(answers, "cat([x, y])", [2.0, 3.0, 4.0, 5.0], [2.0, 3.0], [4.0, 5.0], x=[1.0, 2.0], y=[3.0, 4.0]),
    look.case(rule, "cat([x, y, z])", x=numbers(2, 3), y=numbers(4, 3), z=numbers(3, 3)),
    look.case(rule, "cat([x, y, z], 1)", x=numbers(2, 1), y=numbers(2, 3), z=numbers(2, 2)),
    look.case(rule, "cat([x, y, z], -2)", x=numbers(2, 2, 1), y=numbers(2, 0, 1), z=numbers(2, 2, 1)),
    ("StackBackward.backward", "each input gets its slice of the gradient, without the new axis"),
    look.case(answers, "stack([x, y])", A, [1.0, 2.0], [3.0, 4.0], x=[5.0, 6.0], y=[7.0, 8.0]),
    look.case(answers, "stack([x, y], 1)", A, [1.0, 3.0], [2.0, 4.0], x=[5.0, 6.0], y=[7.0, 8.0]),
    *rules("; ".join(f"stack([x, y, z], {axis})" for axis in (0, 1, 2, -1, -2)), x=WIDE, y=OTHER, z=WIDE * 2),
    look.case(rule, "stack([x, y])", x=1.0, y=2.0),
)


# Steps: what a few lines of Python leave behind


def prepared(letters: dict[str, Any]) -> dict[str, Any]:
    """What the lines see: the gate's names and the letters. Of lists and arrays x, y, z and w become leaves."""
    values = {name: np.array(v) if isinstance(v, (list, np.ndarray)) else v for name, v in letters.items()}
    leaves = {n: leaf(v, v.dtype) for n, v in values.items() if n in "xyzw" and isinstance(v, np.ndarray)}
    recording(True)
    return {**globals(), **values, **leaves}


def told(lines: str, letters: dict[str, Any]) -> str:
    first = ", ".join(f"{name} = {shown(value)}" for name, value in letters.items())
    return "\n            ".join([*([first] if first else []), *lines.strip().splitlines()])


def after(steps: str, expected: dict[str, Any], *, dtype: Any = None, **letters: Any) -> list[Case]:
    """When `steps` are done, each expression has its value; a value that is a text is of the letters as arrays."""
    return [look_after(steps, text, value, dtype, letters) for text, value in expected.items()]


def look_after(steps: str, text: str, value: Any, dtype: Any, letters: dict[str, Any]) -> Case:
    def run() -> None:
        names, count.given = prepared(letters), told(steps, letters)
        exec(steps, names)
        got = eval(text, names)
        right = eval(value, {**globals(), **letters}) if isinstance(value, str) else value
        if isinstance(right, (float, list, np.ndarray)):
            holds(got is not None, f"{text} = {shown(right)}", "None")
            close(np.asarray(got) if isinstance(got, list) else got, right, text, tolerance=1e-9, dtype=dtype)
        else:
            equal(got, right, text)

    return run


def refused(steps: str, call: str, kind: type[BaseException], *mentions: str, **letters: Any) -> Case:
    """When `steps` are done, `call` raises an error of this kind, whose message mentions this."""

    def run() -> None:
        names, count.given = prepared(letters), told(f"{steps}\n{call}", letters)
        exec(steps, names)
        raises(kind, lambda: eval(call, names), count.given, mentions)

    return run


class Halve(Function):
    """a / 2, an operation of the gate's own, which keeps something for its rule."""

    def forward(self, a: np.ndarray) -> np.ndarray:
        self.factor = 0.5
        return a * self.factor

    def backward(self, grad_output: np.ndarray) -> Any:
        return grad_output * self.factor


def same(these: Sequence[Any], *those: Any) -> bool:
    return len(these) == len(those) and all(a is b for a, b in zip(these, those))


EXP = 'r, saved = Tensor([3.0, 4.0]), np.array([3.0, 4.0])\nrecord("Exp", r, (x,), {"output": saved})'
MUL = 'r, c = Tensor([2.0, 6.0]), Tensor([2.0, 3.0])\nrecord("Mul", r, (c, x), {})'
BOTH = 'r, s = Tensor([1.0]), Tensor([2.0])\nrecord("Mul", r, (x, x), {"a": 1})\nrecord("Mul", s, (y, x), {"a": 2})'
READY = "r, function = Tensor([2.0]), Halve()\nrecord(function, r, (x,), {})"
LOST = "gone = weakref.ref(r.grad_fn)\ndel r\ngc.collect()"

test_record = table(
    ("record", "the result gets a Function of the right class, with its inputs and all that was saved"),
    *after(EXP, {'isinstance(r.grad_fn, RULES["ExpBackward"])': True, "r.requires_grad": True}, x=[1.0, 2.0]),
    *after(EXP, {"same(r.grad_fn.inputs, x)": True, "r.grad_fn.output is saved": True}, x=[1.0, 2.0]),
    *after(MUL, {'isinstance(r.grad_fn, RULES["MulBackward"])': True, "r.requires_grad": True}, x=[1.0, 2.0]),
    *after(MUL, {"same(r.grad_fn.inputs, c, x)": True}, x=[1.0, 2.0]),
    ("record", "each result has a Function of its own, and takes it along when nobody holds the result any more"),
    *after(BOTH, {"r.grad_fn is s.grad_fn": False, "same(r.grad_fn.inputs, x, x)": True}, x=[1.0], y=[2.0]),
    *after(BOTH, {"r.grad_fn.a": 1, "s.grad_fn.a": 2}, x=[1.0], y=[2.0]),
    *after(f"{EXP}\n{LOST}", {"gone() is None": True}, x=[1.0]),
    ("record", "a Function that is ready to use becomes the grad_fn itself; an operation without a rule is refused"),
    *after(READY, {"r.grad_fn is function": True, "same(function.inputs, x)": True}, x=[1.0]),
    *after("r = Halve.apply(x)", {"r.grad_fn.factor": 0.5}, x=[1.0]),
    refused("r = Tensor([1.0])", 'record("NoSuchThing", r, (x,), {})', LookupError, "NoSuchThing", x=[1.0]),
)


# The order. Graphs are made by hand: no door, no tape and no rule is needed


class Pass(Function):
    """An operation that hands its gradient to each input."""

    def backward(self, grad_output: np.ndarray) -> Any:
        return (grad_output,) * len(self.inputs)


class Node(Function):
    """The same, which counts what is asked of it and its like."""

    looks = compared = asked = 0
    most = np.inf

    @property
    def inputs(self) -> tuple[Tensor, ...]:  # type: ignore[override]
        Node.looks += 1
        if Node.looks > Node.most:
            holds(False, "each Function to be visited once", "again and again, by every path that leads there")
        return vars(self).get("kept", ())

    @inputs.setter
    def inputs(self, tensors: tuple[Tensor, ...]) -> None:
        vars(self)["kept"] = tensors

    def __eq__(self, other: object) -> bool:
        Node.compared += 1
        return self is other

    __hash__ = object.__hash__

    def backward(self, grad_output: np.ndarray) -> Any:
        Node.asked += 1
        return (grad_output,) * len(vars(self)["kept"])


MADE: list[Function] = []


def f(*inputs: Tensor, values: Any = (0.0,), of: type[Function] = Function, **saved: Any) -> Tensor:
    """The tensor that a Function made from `inputs`."""
    result, function = result_of(None, np.asarray(values)), of()
    function.inputs = inputs
    vars(function).update(saved)
    result.requires_grad, result.grad_fn = True, function
    MADE.append(function)
    return result


def chain(x: Tensor, length: int, of: type[Function] = Pass) -> Tensor:
    """`length` times y = f(y)."""
    with unwatched():
        for _ in range(length):
            x = f(x, of=of)
    Node.looks, Node.most = 0, np.inf
    return x


def tower(x: Tensor, height: int, most: float = np.inf) -> Tensor:
    """`height` times y = f(y, y): 2**height paths lead back to x. Who looks at inputs over `most` times is stopped."""
    for _ in range(height):
        x = f(x, x, of=Node)
    Node.looks, Node.most = 0, most
    return x


def in_order(e: Expression) -> None:
    """Any order will do in which each Function comes once, and before those that made its inputs."""
    MADE.clear()
    result = e(*map(leaf, e.arrays()))
    names = {id(function): number for number, function in enumerate(MADE, 1)}
    found = [names.get(id(function), 0) for function in topological_order(result.grad_fn)]
    once = sorted(found) == sorted(names.values())
    made = {(names[id(function)], names.get(id(t.grad_fn), 0)) for function in MADE for t in function.inputs}
    late = once and all(not source or found.index(user) < found.index(source) for user, source in made)
    expected = f"an order such as {[*range(len(MADE), 0, -1)]}, from the result back, with each Function once"
    holds(late, expected, np.array(found), f"{e.given}, where each f makes a Function")


def sparing(e: Expression, functions: int, counted: str = "looks at inputs") -> None:
    """Each of so many Functions is looked at, or compared with others, ten times at most."""
    Node.compared, most = 0, functions * 10
    e(*map(leaf, e.arrays()))
    found = {"looks at inputs": Node.looks, "comparisons": Node.compared}[counted]
    holds(found <= most, f"at most {most} {counted} for {functions} Functions", found)


def without_recursion(action: Callable[[], Any]) -> Any:
    """What `action` gives, which must not take as many nested calls as there are operations."""
    found = []
    with suppress(RecursionError):
        found.append(action())
    got = "RecursionError: Python stops after 1,000 nested calls"
    holds(len(found) == 1, "a loop, with no nested call for each operation", got)
    return found[0]


GRAPHS = """f(x); f(f(f(x))); f(f(x, Tensor([2.0])), x); f(b := f(a := f(x)), a); f(a := f(x), f(a))
f(f(b := f(f(x)), b), b); f(f(f(f(a := f(x)))), f(a), a); f(f(a := f(x), f(f(b := f(a)))), f(b, a))
f(f(f(a := f(x), b := f(a)), f(b, a)), x)"""
FREED = "hidden = f(x)\ny = f(f(hidden), hidden)\nhidden.grad_fn.freed = True"
DEEP = "len(without_recursion(lambda: topological_order(y.grad_fn)))"

test_order = table(
    ("topological_order", "each Function once, and before those that made its inputs"),
    *(look.case(in_order, text, x=[1.0]) for text in split(GRAPHS)),
    ("topological_order", "in linear time and without recursion, however many paths there are, and however long"),
    *after("y = tower(x, 12)", {"len(topological_order(y.grad_fn))": 12}, x=[1.0]),
    *after("y = chain(x, 3000)", {DEEP: 3000}, x=[1.0]),
    look.case(sparing, "topological_order(tower(x, 12).grad_fn)", 12, x=[1.0]),
    look.case(sparing, "topological_order(chain(x, 300, Node).grad_fn)", 300, x=[1.0]),
    look.case(sparing, "topological_order(chain(x, 300, Node).grad_fn)", 300, "comparisons", x=[1.0]),
    ("topological_order", "a Function that was freed has lost what lies behind it"),
    refused(FREED, "topological_order(y.grad_fn)", RuntimeError, "freed", x=[1.0]),
    refused(FREED, "topological_order(hidden.grad_fn)", RuntimeError, "freed", x=[1.0]),
)


# Broadcasting undone, and gradients of leaves


STRETCHED = """(4, 3) (3,); (4, 3) (1, 3); (4, 3) (4, 1); (4, 3) (1, 1); (4, 3) (); (4, 3) (4, 3); (3, 3) (3,)
(3, 3) (3, 1); (2, 4, 3) (4, 1); (2, 4, 3) (2, 1, 3); (2, 2, 2) (2, 1, 2); (1, 3) (3,); (4, 1) (1,); (1, 1) ()
(0, 3) (1, 3); () ()"""
MISFITS = "(2, 3) (2,); (3,) (2, 3); (6,) (2, 3); (1, 3) (2, 3); (2, 3) (3, 2); () (1,)"


def undone(wide: Sizes, shape: Sizes, dtype: Any = np.float64) -> list[Case]:
    g = np.round(numbers(*wide) * 100).astype(dtype)
    return after("", {f"unbroadcast(g, {shape})": f"folded(g, {shape})"}, dtype=dtype, g=g)


def misfit(wide: Sizes, shape: Sizes) -> Case:
    return refused("", f"unbroadcast(g, {shape})", ValueError, str(wide), str(shape), g=numbers(*wide))


test_unbroadcast = table(
    ("unbroadcast", "every element gets the sum over all places that it was stretched to"),
    *(case for pair in pairs(STRETCHED) for case in undone(*pair)),
    ("unbroadcast", "float32 stays float32, and the gradient that came is not changed"),
    *undone((3, 3), (3,), np.float32),
    *undone((3, 3), (3, 1), np.float32),
    *undone((3, 3), (), np.float32),
    *after("unbroadcast(g, (3,))", {"g": TIES}, g=TIES),
    ("unbroadcast", "a gradient of a shape that broadcasting cannot give is refused with both shapes"),
    *(misfit(*pair) for pair in pairs(MISFITS)),
)


G, H, SINGLE = [1.0, 10.0], [20.0, 2.0], np.array([1.0, 2.0], np.float32)
TWO = {"x": [1.0, 2.0], "y": [3.0, 4.0], "g": G, "h": H}
STRETCH = "for number in (2.0, 3.0):\n    accumulate(x, np.broadcast_to(number, (2,)))"

test_accumulate = table(
    ("accumulate", "the first gradient is taken, further ones are added; each has the leaf's dtype"),
    *after("accumulate(x, g)", {"x.grad": "g"}, dtype=np.float64, x=A, g=B),
    *after("accumulate(x, g)\naccumulate(x, h)", {"x.grad": [21.0, 12.0]}, dtype=np.float64, **TWO),
    *after("accumulate(x, g)", {"x.grad": G}, dtype=np.float32, x=SINGLE, g=G),
    *after("accumulate(x, g)\naccumulate(x, h)", {"x.grad": [21.0, 12.0]}, dtype=np.float32, x=SINGLE, g=G, h=H),
    *after("accumulate(x, g)\naccumulate(x, g)", {"x.grad": [4.0]}, x=[5.0], g=[2.0]),
    *after("accumulate(x, g)\naccumulate(x, h)", {"x.grad": 5.0}, x=np.array(7.0), g=2.0, h=3.0),
    ("accumulate", "a gradient shares its memory with nobody, and one that somebody kept stays what it was"),
    *after("accumulate(x, g)", {"np.shares_memory(x.grad, g)": False}, **TWO),
    *after("accumulate(x, g)\naccumulate(x, h)", {"g": G, "h": H}, **TWO),
    *after("accumulate(x, g)\naccumulate(y, g)\naccumulate(x, h)", {"x.grad": [21.0, 12.0], "y.grad": G}, **TWO),
    *after("accumulate(x, g)\nkept = x.grad\naccumulate(x, h)", {"kept": G}, **TWO),
    *after(STRETCH, {"x.grad": [5.0, 5.0]}, **TWO),
)


# The engine


class Answers(Halve):
    """a / 2, with a rule that answers what it is told."""

    answer: Any = None

    def backward(self, grad_output: np.ndarray) -> Any:
        return self.answer


def grid(x: Tensor) -> Tensor:
    """Many paths of many lengths."""
    a, b = x * 0.3, x.exp()
    for _ in range(4):
        a, b = a * 0.5 + b, a - b * 0.5
    return a * b


ALIASED = "u, v = x * 1.0, y * 1.0\nt = u * 3.0\nresult = {}\nresult.backward(g)"
KEPT_APART = {"x.grad": [4.0, 40.0], "y.grad": G, "g": G}
SUMS = ("(u + v) + t", "t + (u + v)", "(v + u) + t", "t + (v + u)")
MIXED = """constant, rows, counted = Tensor([2.0, 3.0]), Tensor([1, 0, 1]), Tensor([1, 2])
hidden = x * constant
result = (hidden[rows] * counted).sum()
result.backward()"""
NOBODY = {f"{name}.grad": None for name in ("hidden", "result", "constant", "rows", "counted")}
STEPS = "y = x\nfor _ in range(12):\n    y = y + y * 0.5\ny.backward()"
ROOT = "shared = x * x\nfirst, second = shared * 2.0, shared * 5.0\nfirst.backward()"
GONE = "hidden = x * 2.0\ngone = weakref.ref(hidden.data)\ny = (hidden * hidden).sum()\ndel hidden"
KEPT = "y = f(x, of=Node, array=np.ones(9))\ngone = weakref.ref(y.grad_fn.array)\ny.backward()\ngc.collect()"
TOO_MANY = "y = Answers.apply(x)\ny.grad_fn.answer = (np.ones(2), np.ones(2))"
MISSHAPEN = "y = Answers.apply(x)\ny.grad_fn.answer = np.ones(7)"
USED = {"x + x": 2.0, "x - x": 0.0, "x * x": 6.0, "x * x * x": 27.0, "x / x": 0.0}

test_backward = table(
    ("backward", "a value used twice gets both gradients, and sends on the sum of all its uses"),
    *(case for y, right in USED.items() for case in after(f"({y}).backward()", {"x.grad": [right]}, x=[3.0])),
    *after("a = x * 2.0\n(a * a + a).backward()", {"x.grad": [26.0]}, x=[3.0]),
    *after("a = -x\n(a - (a + a) - a - a).backward()", {"x.grad": [3.0]}, x=[3.0]),
    look.slopes("(a := x * 0.5).exp() + a", x=numbers(3)),
    look.slopes("(a := x * 0.5) + (a.exp() * a).exp()", x=numbers(3)),
    look.slopes("(x @ y + x).sum(axis=0) * x", x=A, y=B / 10),
    look.slopes("grid(x)", x=numbers(3)),
    ("backward", "what arrives is added up in new arrays: a + b sends one and the same to both"),
    *(case for text in SUMS for case in after(ALIASED.format(text), KEPT_APART, **TWO)),
    *after("(x + y).backward(g)", {"np.shares_memory(x.grad, y.grad)": False}, **TWO),
    *after("(x + y).backward(g)", {"np.shares_memory(x.grad, g)": False}, **TWO),
    *after("x.backward(g)", {"np.shares_memory(x.grad, g)": False, "x.grad": G}, **TWO),
    *after("x.backward(g)\nx.backward(g)", {"x.grad": [2.0, 20.0]}, **TWO),
    ("backward", "every Function is asked once, however many paths lead through it, and no chain is too long"),
    *after("y = tower(x, 12)\nNode.asked = 0\ny.backward()", {"Node.asked": 12, "x.grad": [4096.0]}, x=[1.0]),
    *after("y = chain(x, 3000)\nwithout_recursion(lambda: y.backward([3.0]))", {"x.grad": [3.0]}, x=[1.0]),
    *after(STEPS, {"x.grad": [1.5**12]}, x=[1.0]),
    ("backward", "only leaves that ask get gradients, which add to those of earlier calls"),
    *after("(x * 2.0).backward()\n(x * 5.0).backward()", {"x.grad": [7.0]}, x=[3.0]),
    *after("(x * 2.0).backward()\nx.grad = None\n(x * 5.0).backward()", {"x.grad": [5.0]}, x=[3.0]),
    *after(MIXED, {"x.grad": [[2.0, 6.0], [4.0, 12.0]], **NOBODY}, x=A),
    *after("(x * x.detach()).backward()", {"x.grad": [3.0]}, x=[3.0]),
    refused("y = x.detach() * 2.0", "y.backward()", RuntimeError, x=[3.0]),
    ("backward", "the first gradient is a Tensor, an array or a list of the result's shape; 1 for a single element"),
    *after("(x * 3.0).backward(Tensor(g))", {"x.grad": [3.0, 30.0]}, dtype=np.float64, **TWO),
    *after("(x * 3.0).backward(g)", {"x.grad": [3.0, 30.0]}, dtype=np.float64, **TWO),
    *after("(x * 3.0).backward(list(g))", {"x.grad": [3.0, 30.0]}, dtype=np.float64, **TWO),
    *after("(x * 3.0).backward()", {"x.grad": 3.0}, x=np.array(2.0)),
    *after("(x * 3.0).backward()", {"x.grad": [[3.0]]}, x=[[2.0]]),
    *after("(x * 3.0).backward(0.0)", {"x.grad": 0.0}, x=np.array(2.0)),
    refused("y = x * 3.0", "y.backward(np.ones(2))", ValueError, "(1, 2)", "(2,)", x=[[1.0, 2.0]]),
    refused("y = x * 3.0", "y.backward(1.0)", ValueError, "(1, 2)", x=[[1.0, 2.0]]),
    refused("y = x * 3.0", "y.backward()", RuntimeError, "(1, 2)", x=[[1.0, 2.0]]),
    refused("c = Tensor([1.0])", "c.backward()", RuntimeError),
    refused("c = Tensor([1.0]) * 2.0", "c.backward()", RuntimeError),
    ("backward", "the graph is freed: it keeps nothing, and a second way back through it, or a part, is refused"),
    refused(ROOT, "first.backward()", RuntimeError, "freed", x=[3.0]),
    refused(ROOT, "second.backward()", RuntimeError, "freed", x=[3.0]),
    *after(f"{ROOT}\nwith suppress(RuntimeError):\n    second.backward()", {"x.grad": [12.0]}, x=[3.0]),
    *after(f"{GONE}\ny.backward()\ngc.collect()", {"gone() is None": True}, x=[3.0]),
    *after(KEPT, {"gone() is None": True}, x=[3.0]),
    ("backward", "what was remembered goes backward while memory is off; leaves have gradients of their dtype"),
    *after("y = x * x\nrecording(False)\ny.backward()", {"x.grad": [6.0], "recording(True)": False}, x=[3.0]),
    *after("((x * 3 + 1).exp().log() / 2).sum().backward()", {"x.grad": [1.5] * 2}, dtype=np.float32, x=SINGLE),
    *after("(x * y).sum().backward()", {"x.grad": [3.0, 4.0]}, dtype=np.float32, x=SINGLE, y=[3.0, 4.0]),
    *after("(x * y).sum().backward()", {"y.grad": [1.0, 2.0]}, dtype=np.float64, x=SINGLE, y=[3.0, 4.0]),
    ("backward", "a Function of your own is an operation like any other; answers that do not fit are refused"),
    look.slopes("Halve.apply(x * 2) + x", x=numbers(3)),
    *after("(Answers.apply(x * 3.0) + x * 5.0).backward()", {"x.grad": [5.0]}, x=[2.0]),
    refused(TOO_MANY, "y.backward([1.0, 1.0])", ValueError, x=[1.0, 2.0]),
    refused(MISSHAPEN, "y.backward([1.0, 1.0])", ValueError, x=[1.0, 2.0]),
)


# Operations whose shapes or memory layouts bite, each through the whole engine
VECTOR = "1 + x; 1 - x; 2 / x; 2 ** x; -x; x ** 2; np.ones(3) * x"
MATRIX = """np.ones((2, 2)) @ x; x @ x.T; x.T.reshape(6); x.mean(); x[:, ::2] @ x[0, 1:]; (x - x.max(axis=0)).exp()
x[[0, 0]] * x[1:]; Softmax(0)(x).log(); Tanh()(x) * Sigmoid()(x); log_softmax(x)[[0, 1], [1, 1]].mean()
x.mean(axis=(0, -1)); x - x.mean(axis=1, keepdims=True); MSELoss()(x, x.exp()); ReLU()(x @ x.T) @ GELU()(x)
cat([where(CHOSEN, x, 2 * x), stack([x, -x]).sum(axis=0)]); (Sigmoid()(x) / x.exp().sum(axis=-1, keepdims=True)).log()
CrossEntropyLoss(0.1)(x, np.array([0, 2])); BinaryCrossEntropyLoss()(Sigmoid()(x), CHOSEN.astype(float))"""
SIDES = "(3,) (2, 3); (2, 3) (3,); () (2, 2); (2, 2) (); (3, 1, 2) (2, 1); (1,) (1, 1); (1, 3) (0, 3)"
MANY = "(3, 2, 3) (3, 2); (2, 3) (2, 3, 2); (2, 1, 2, 3) (2, 3, 1); (3,) (2, 3, 4); (2, 2, 3) (3,); (2, 4, 2) (1, 2, 1)"


def through(texts: str, **letters: Any) -> list[Case]:
    return [look.slopes(text, **letters) for text in split(texts)]


def of_shapes(text: str, shapes: str) -> list[Case]:
    return [look.slopes(text, x=numbers(*left), y=numbers(*right, seed=1)) for left, right in pairs(shapes)]


TANH = "tanh = Tanh()\ny = tanh(x)\nanswer = tanh.backward(g)"
LOSSES = "mse, cross = MSELoss(), CrossEntropyLoss()\nmse(Tensor(p), Tensor([1, 1]))\ncross(Tensor([p]), np.array([1]))"

test_backward_through_operations = table(
    ("backward", "every operation's gradient through the whole engine, against central differences"),
    *through(VECTOR, x=numbers(3)),
    *through(MATRIX, x=WIDE),
    *through("(x * x).sum(axis=0)", x=np.asfortranarray(WIDE)),
    *through("x.transpose(0, 2).reshape(2, 6) @ y", x=CUBE, y=numbers(6, 2)),
    *through("x.sum(axis=0)", x=numbers(0, 3)),
    *through("x * y; x + y", x=numbers(), y=numbers(seed=1)),
    ("backward", "broadcasting is undone, on either side and on both, also that of a matrix against a batch"),
    *through("x + y; x - y; x * y; x / y; x ** y", x=positive(2, 1), y=positive(1, 3)),
    *of_shapes("x * y", SIDES),
    *of_shapes("x @ y", MANY),
    ("backward", "Activation.backward and Loss.backward answer for their last input, and disturb nothing"),
    *after(TANH, {"answer": "g * (1 - np.tanh(x)**2)", "x.grad": None}, x=[-1.0, 0.5], g=np.array(G)),
    *after(f"{TANH}\ny.backward(g)", {"x.grad": "g * (1 - np.tanh(x)**2)"}, x=[-1.0, 0.5], g=np.array(G)),
    *after(LOSSES, {"mse.backward()": "p - 1", "cross.backward()": "[[0.2, -0.2]]"}, p=np.array([0, np.log(4)])),
)


@exercise("backward")
def test_layers_learn() -> None:
    """every parameter of a small network gets its gradient, and a step against it lowers the loss"""
    manual_seed(3)
    model = Sequential(Linear(3, 4), Tanh(), Linear(4, 2))
    x, target = Tensor(numbers(5, 3).astype(np.float32)), Tensor(numbers(5, 2, seed=1).astype(np.float32))
    before = MSELoss()(model(x), target)
    before.backward()
    w1, b1, w2, b2 = (parameter.data.astype(np.float64) for parameter in model.parameters())
    hidden = np.tanh(x.data @ w1 + b1)
    at_output = 2 * (hidden @ w2 + b2 - target.data) / target.size
    at_hidden = at_output @ w2.T * (1 - hidden**2)
    expected = (x.data.T @ at_hidden, at_hidden.sum(axis=0), hidden.T @ at_output, at_output.sum(axis=0))
    given = "Sequential(Linear(3, 4), Tanh(), Linear(4, 2))"
    for (name, parameter), right in zip(model.named_parameters(), expected):
        close(parameter.grad, right, f"gradient of {name}", given, dtype=np.float32)
        parameter.data -= np.float32(0.1) * parameter.grad
    after_step, first = MSELoss()(model(x), target).item(), before.item()
    holds(after_step < first, f"a loss below {first:.4f} after a step of 0.1 against it", f"{after_step:.4f}", given)


# Remembering less, and computing again


def fails(*inputs: Tensor) -> Tensor:
    generator().random(5)
    raise KeyError("from inside")


def stops(*inputs: Tensor) -> Tensor:
    raise KeyboardInterrupt


def off(function: Callable[..., Any], *inputs: Tensor) -> Any:
    with no_grad():
        return function(*inputs)


INSIDE = "with no_grad():\n    y = x * 2.0\n    made = Tensor([1.0], requires_grad=True)\nz = x * 2.0"
NESTED = "with no_grad():\n    a = x * 2.0\n    with no_grad():\n        pass\n    b = x * 2.0\nc = x * 2.0"
PARTLY = "y = x * x\nwith no_grad():\n    c = x * 5.0\n(y + c).backward()"
WITHIN = "y = x * x\nwith no_grad():\n    y.backward()\n    z = x * x"
FAILED = "with suppress({}):\n    off({}, x)\ny = x * 2.0"

test_no_grad = table(
    ("no_grad", "inside nothing is remembered; afterwards all is as it was, which in another no_grad() is off"),
    *after(INSIDE, {"y.requires_grad": False, "y.grad_fn": None, "y": [6.0]}, x=[3.0]),
    *after(INSIDE, {"made.requires_grad": True, "z.requires_grad": True}, x=[3.0]),
    *after(NESTED, {f"{name}.requires_grad": name == "c" for name in "abc"}, x=[3.0]),
    *after(PARTLY, {"x.grad": [6.0]}, x=[3.0]),
    refused(INSIDE, "y.backward()", RuntimeError, x=[3.0]),
    *after(WITHIN, {"x.grad": [6.0], "z.requires_grad": False}, x=[3.0]),
    ("no_grad", "an error inside goes on its way, also Ctrl-C, and memory is on again"),
    refused("", "off(fails, x)", KeyError, "from inside", x=[3.0]),
    refused("", "off(stops, x)", KeyboardInterrupt, x=[3.0]),
    *after(FAILED.format("KeyError", "fails"), {"y.requires_grad": True, "y": [6.0]}, x=[3.0]),
    *after(FAILED.format("KeyboardInterrupt", "stops"), {"y.requires_grad": True, "y": [6.0]}, x=[3.0]),
)


CHECKED = "function = lambda x: (x * w).exp()\ny = checkpoint(function, x)\ny.backward(g)"
DATA = "function = lambda x: (x * w).exp()\ny = checkpoint(function, Tensor(c))\ny.backward(g)"
RUNS = """runs, inside = [], []
def function(x):
    h = x * 2.0
    runs.append(h.requires_grad)
    inside.append(weakref.ref(h.data))
    return h * 3.0
y = checkpoint(function, x)"""
ITSELF = "y = checkpoint(lambda a: a, x)\nis_x, made = y is x, x.grad_fn\ny.backward([2.0])"
DROP = """manual_seed(11)
y = checkpoint(Dropout(0.5), x)
drawn = [*generator().random(3)]
y.backward(g)
drawn += [*generator().random(3)]
manual_seed(11)
Dropout(0.5)(x)
expected = generator().random(6)"""
INNER = """drop, inner = Dropout(0.5), lambda x: drop(x).exp()
manual_seed(7)
y = checkpoint(lambda x: checkpoint(inner, x * 2.0) * drop(x), x)
y.backward(g)
manual_seed(7)
without = inner(z * 2.0) * drop(z)
without.backward(g)"""
FORGOTTEN = "y = off(lambda x: checkpoint(Halve.apply, x), x)"
RAISED = "with suppress(KeyError):\n    checkpoint(fails, x)\ny = x * 2.0"
THREE = {"x": numbers(3), "w": numbers(3, seed=1), "g": numbers(3, seed=2)}
FIFTY, TWENTY = {"x": [3.0] * 50, "g": [1.0] * 50}, {"x": numbers(20), "z": numbers(20), "g": numbers(20, seed=1)}

test_checkpoint = table(
    ("checkpoint", "the same result and the same gradients as without, also for parameters when the input is data"),
    *after(CHECKED, {"y": "np.exp(x * w)", "x.grad": "g * w * np.exp(x * w)"}, **THREE),
    *after(CHECKED, {"w.grad": "g * x * np.exp(x * w)"}, **THREE),
    *after(DATA, {"w.grad": "g * c * np.exp(c * w)"}, c=numbers(3, seed=3), **THREE),
    *after("checkpoint(Halve.apply, x).backward(g)", {"x.grad": [0.5, 5.0]}, dtype=np.float32, x=SINGLE, g=G),
    look.slopes("checkpoint(lambda a, b: a * b + a, x.exp(), y * y)", x=numbers(3), y=numbers(3, seed=1)),
    look.slopes("checkpoint(lambda a: a * a, b := x.exp()) * b", x=numbers(3)),
    look.slopes("checkpoint(lambda a, b: a * b, x, x)", x=numbers(3)),
    *after("y = checkpoint(lambda a, b: a * b, x, w)", {"same(y.grad_fn.inputs, x, w)": True}, x=[3.0], w=[2.0]),
    ("checkpoint", "forward runs without memory and keeps nothing from inside; the way back runs it again"),
    *after(RUNS, {"tuple(runs)": (False,), "y": [18.0]}, x=[3.0]),
    *after(f"{RUNS}\ngc.collect()", {"inside[0]() is None": True}, x=[3.0]),
    *after(f"{RUNS}\ny.backward()", {"tuple(runs)": (False, True), "x.grad": [6.0]}, x=[3.0]),
    *after(ITSELF, {"is_x": False, "made": None, "x.grad": [2.0]}, x=[3.0]),
    ("checkpoint", "dropout drops the same elements again, and the generator goes on as if it had not been asked"),
    *after(DROP, {"x.grad - y.data / 3.0": [0.0] * 50, "drawn - expected": [0.0] * 6}, **FIFTY),
    *after(INNER, {"y.data - without.data": [0.0] * 20, "x.grad - z.grad": [0.0] * 20}, **TWENTY),
    ("checkpoint", "inside no_grad() nothing is remembered; after an error memory is as it was"),
    *after(FORGOTTEN, {"y": [1.5], "y.requires_grad": False, "y.grad_fn": None}, x=[3.0]),
    refused("", "checkpoint(fails, x)", KeyError, "from inside", x=[3.0]),
    *after(RAISED, {"y.requires_grad": True}, x=[3.0]),
)


def again(function: Callable[..., Tensor], *inputs: Tensor, gradient: Any) -> tuple[Any, ...]:
    """`recompute`, with random numbers as they come now."""
    return tuple(recompute(function, inputs, generator().bit_generator.state, np.asarray(gradient)))


INPUTS = "a = again(lambda x, c: x * c * w, x, Tensor([5.0]), gradient=[1.5])"
BEFORE = "h = x * 2.0\na = again(lambda h: h * h, h, gradient=[1.0])\nfirst = x.grad\nh.backward()"
OFF = "with no_grad():\n    a = again(lambda x: x * x, x, gradient=[1.5])\n    y = x * 2.0"
ERROR = """manual_seed(2)
expected = generator().random(2)
manual_seed(2)
with no_grad():
    with suppress(KeyError):
        again(fails, x, gradient=[1.0])
    y = x * 2.0"""
EARLIER = """manual_seed(4)
state = generator().bit_generator.state
y = Dropout(0.5)(x)
generator().random(9)
now = generator().bit_generator.state
expected = generator().random(3)
generator().bit_generator.state = now
a = recompute(Dropout(0.5), (x,), state, g)"""

test_recompute = table(
    ("recompute", "a gradient for each input that requires one, None for the others; parameters get theirs inside"),
    *after(INPUTS, {"len(a)": 2, "a[0]": [15.0], "a[1]": None, "w.grad": [22.5], "x.grad": None}, x=[3.0], w=[2.0]),
    *after("a = again(lambda x: x * 2.0, Tensor([1.0]), gradient=[1.0])", {"a": (None,)}),
    *after(BEFORE, {"a[0]": [12.0], "first": None, "x.grad": [2.0]}, x=[3.0]),
    ("recompute", "the function runs with memory on, also inside no_grad(), and leaves it as it was"),
    *after(OFF, {"a[0]": [9.0], "y.requires_grad": False}, x=[3.0]),
    *after(ERROR, {"y.requires_grad": False}, x=[3.0]),
    refused("", "again(fails, x, gradient=[1.0])", KeyError, "from inside", x=[3.0]),
    ("recompute", "random numbers come out as from the state that is given; the generator goes on undisturbed"),
    *after(EARLIER, {"a[0] - y.data / 3.0": [0.0] * 50, "generator().random(3) - expected": [0.0] * 3}, **FIFTY),
    *after(ERROR, {"generator().random(2) - expected": [0.0] * 2}, x=[3.0]),
)


# Systems: graphs made by hand again, where h and k have values of 8000 and 800 bytes


BLOCK, PART, BIT = np.ones(1000), np.ones(100), np.ones(10)
BYTES = {
    80: "f(x, Tensor(BIT)); f(x, result_of(None, BIT[:2]))",
    8000: "f(h); f(h, h); f(h, output=BLOCK[:3]); f(f(h, values=BLOCK[:10]))",
    8080: "f(h, output=BIT); f(h, output=BIT[:3])",
    8800: "f(k); f(k, h); f(k, axis=1, output=PART)",
    8880: "f(f(k, h, values=BIT), k, h)",
}
KEEPS = {f"graph_bytes({y})": size for size, results in BYTES.items() for y in split(results)}
WAYS = {0: "c", 1: "x; f(x); f(x, c)", 2: "f(x, x)", 3: "f(f(f(f(h)), c), x)", 4: "f(f(f(h), h), h.detach())"}
WAYS |= {6: "f(f(h, h), h); f(f(h, x), f(h, x))", 8: "f(k := f(h, x), k, h)"}
PATHS = {f"count_paths({y})": ways for ways, results in WAYS.items() for y in split(results)}
CALLS = {1: 1, 2: 4, 3: 8, 4: 12, 5: 17, 8: 32, 13: 62, 16: 80}
VIEW = "v = Tensor(BLOCK)[:10]\nv.requires_grad = True"


def measured(e: Expression) -> None:
    """`graph_bytes` says what stays allocated, besides the result, when only the result is left."""
    x = leaf(np.linspace(0.1, 0.9, 20000))
    kept, answer = allocated(lambda: e(x))[1] - e(x).data.nbytes, graph_bytes(e(x))
    holds(abs(answer - kept) < 8000, f"graph_bytes of about {kept} (measured)", answer, f"{e.text}, x of 160000 bytes")


def kept_at_once(layers: int, segment: int) -> int:
    """The most activations at once, counted segment by segment on the way back."""
    lengths = [min(segment, layers - start) for start in range(0, layers, segment)]
    return max(results + length for results, length in enumerate(lengths, 1))


def fewest(e: Expression, layers: int) -> None:
    """For no other segment fewer activations are there at once."""
    answer = e.result()
    whole = isinstance(answer, (int, np.integer)) and 1 <= answer <= layers
    holds(whole, f"a whole number from 1 to {layers}", answer)
    right = min(kept_at_once(layers, segment) for segment in range(1, layers + 1))
    what = "the segment, and how many activations it keeps at once,"
    close(np.array([answer, kept_at_once(layers, answer)]), [answer, right], what)


def counted_calls(layers: int) -> int:
    """Calls of the layers in one pass forward and backward, counted."""
    calls = []

    def layer(x: Tensor) -> Tensor:
        calls.append(1)
        return x * 1.5

    in_halves([layer] * layers, leaf([1.0])).backward()
    return len(calls)


test_systems = table(
    ("graph_bytes", "values of inputs and arrays that Functions hold, each block of memory once and in full"),
    *after("h = f(x, values=BLOCK)\nk = f(h, values=PART)", KEEPS, x=[1.0]),
    look.case(measured, "(x + x).exp().sum()", x=0),
    look.case(measured, "(x * 2).reshape(100, 200).T.sum(axis=0)", x=0),
    ("graph_bytes", "not counted are leaves that require a gradient, nor the result; a freed graph keeps nothing"),
    *after("", {"graph_bytes(x)": 0, "graph_bytes(x + x)": 0, "graph_bytes(f(x, x, Tensor(PART)))": 800}, x=BLOCK),
    *after("", {"graph_bytes(f(f(x, values=PART), x))": 800}, x=BLOCK),
    *after(VIEW, {"graph_bytes(f(v, v))": 0, "graph_bytes(f(f(v, values=PART), v))": 800}),
    *after("", {"graph_bytes(f(x, values=BLOCK, output=BLOCK))": 0}, x=[1.0]),
    *after("", {"graph_bytes(f(f(x, values=BLOCK), values=BLOCK[:10], output=BIT))": 80}, x=[1.0]),
    *after("y = (x * x).sum()\ny.backward()", {"graph_bytes(y)": 0}, x=BLOCK),
    ("count_paths", "what walking along every path counts; 2**80 paths are counted, not walked"),
    *after("h = f(x, w)\nc = Tensor([3.0])", PATHS, x=[1.0], w=[2.0]),
    *after("y = tower(x, 12)", {"count_paths(y)": 2**12}, x=[1.0]),
    look.case(sparing, "count_paths(tower(x, 12))", 12, x=[1.0]),
    *after("y = tower(x, 80, most=2400)", {"count_paths(y)": 2**80}, x=[1.0]),
    ("best_segment", "for no other segment fewer activations are there at once"),
    *(look.case(fewest, f"best_segment({layers})", layers) for layers in (*range(1, 26), 47, 60, 100)),
    ("nested_calls", "what counting every call of a layer gives"),
    *after("", {f"nested_calls({n})": calls for n, calls in CALLS.items()}),
    *after("", {"nested_calls(6) - counted_calls(6)": 0}),
)
