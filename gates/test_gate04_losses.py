"""Gate 04: losses."""

import heapq
import math
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinytorch import BinaryCrossEntropyLoss, CrossEntropyLoss, MSELoss, Tensor, log_softmax, plug_in, result_of
from tinytorch.systems.losses import entropy, kl_divergence, log_sum_exp, loss_bytes
from workshop.checks import close, equal, exercise, holds, raises
from workshop.probes import through_door


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# The operations that stage 01 brings, for which stage 05 will have rules.
OPERATIONS = set("Add Sub Neg Mul Div Pow Matmul Reshape Transpose Index Sum Mean Max Exp Log".split())


def run_with_tape(function: Callable[[], Tensor]) -> tuple[Tensor, list[SimpleNamespace]]:
    """The result of `function`, and what a tape keeps of each operation on its way: op, result, inputs, saved."""
    kept: list[SimpleNamespace] = []

    def record(op: object, result: Tensor, inputs: tuple[Tensor, ...], saved: dict[str, Any]) -> None:
        result.requires_grad = True
        kept.append(SimpleNamespace(op=op, result=result, inputs=inputs, saved=saved))

    before = plug_in(SimpleNamespace(record=record))
    try:
        return function(), kept
    finally:
        plug_in(before)


def saved_array(function: Callable[[], Tensor], name: str, expected: np.ndarray, given: str) -> None:
    """What the last operation of `function` saved under `name` is a NumPy array with these values, of this dtype."""
    _, kept = run_with_tape(function)
    saved = kept[-1].saved.get(name)
    equal(type(saved).__name__, "ndarray", f"type of the saved {name}", given)
    close(saved, expected, f"the saved {name}", given, dtype=expected.dtype)


# Log-softmax


def expected_log_softmax(x: np.ndarray, dim: int = -1) -> np.ndarray:
    """In float64, by adding up logarithms two at a time, as np.logaddexp does without overflow."""
    x = x.astype(np.float64)
    return x - np.logaddexp.reduce(x, axis=dim, keepdims=True)


@exercise("log_softmax")
def test_log_softmax() -> None:
    """x - log Σ exp(x) along any dim, float64 in and float64 out"""
    shapes = ((3, 4), (3, 4), (3, 3), (3, 3), (2, 3, 4), (2, 3, 4), (5,), (1, 1))
    for shape, dim in zip(shapes, (-1, 0, 0, 1, 1, -3, 0, -1)):
        x = numbers(*shape)
        given = f"log_softmax(x, dim={dim}), x of shape {shape}, float64"
        close(log_softmax(Tensor(x), dim=dim), expected_log_softmax(x, dim), "the result", given, 1e-12, np.float64)
    x = numbers(3, 3)
    close(log_softmax(Tensor(x)), expected_log_softmax(x), "the result", "log_softmax(x), no dim given", 1e-12)


@exercise("log_softmax")
def test_log_softmax_of_large_logits() -> None:
    """finite and right for logits up to ±1e4, in float32"""
    for row in ([1e4, 0.0], [-1e4, 0.0], [1e4, -1e4], [1e4, 1e4], [-1e4, -1e4, -1e4], [0.0, 200.0, 88.0], [0.0, -30.0]):
        x = np.array([row, row[::-1]], np.float32)
        close(
            log_softmax(Tensor(x)),
            expected_log_softmax(x),
            "the result",
            f"x = {x.tolist()}, float32",
            1e-6,
            np.float32,
        )


@exercise("log_softmax")
def test_log_softmax_row_by_row() -> None:
    """a row of small logits beside one of large logits loses nothing"""
    x = np.array([[0.0, 1.0, 2.0], [9000.0, 9001.0, 9002.0], [-9000.0, -9001.0, -9002.0]], np.float32)
    close(log_softmax(Tensor(x)), expected_log_softmax(x), "the result", "rows around 0, 9000 and -9000, float32", 1e-5)
    close(
        log_softmax(Tensor(x.T), dim=0), expected_log_softmax(x.T, 0), "the result", "the same in columns, dim=0", 1e-5
    )


@exercise("log_softmax")
def test_log_softmax_of_minus_infinity() -> None:
    """a logit of -inf has the log-probability -inf, and the others share the rest"""
    x = np.array([0.0, -np.inf, 0.0])
    close(log_softmax(Tensor(x)), [-math.log(2), -np.inf, -math.log(2)], "the result", "x = [0, -inf, 0]", 1e-12)


@exercise("log_softmax")
def test_log_softmax_dtypes() -> None:
    """float32 stays float32, integers become float32"""
    x = np.array([[1, 2, 3]])
    for dtype in ("float32", "int64"):
        given = f"x = [[1, 2, 3]], {dtype}"
        close(log_softmax(Tensor(x.astype(dtype))), expected_log_softmax(x), "the result", given, dtype=np.float32)


@exercise("log_softmax")
def test_log_softmax_changes_nothing() -> None:
    """x is not changed"""
    x = Tensor(numbers(3, 4))
    before = x.data.copy()
    log_softmax(x)
    close(x, before, "x afterwards", "log_softmax(x), x (3, 4)", 0.0)


@exercise("log_softmax")
def test_log_softmax_through_the_door() -> None:
    """returned through the door, with its output and dim"""
    x = Tensor(numbers(2, 3), requires_grad=True)
    through_door(lambda: log_softmax(x, dim=0), "LogSoftmax", [x], ["output", "dim"], given="log_softmax(x, dim=0)")
    saved_array(lambda: log_softmax(x, dim=0), "output", expected_log_softmax(x.data, 0), "log_softmax(x, dim=0)")
    equal(run_with_tape(lambda: log_softmax(x, dim=0))[1][-1].saved["dim"], 0, "the saved dim", "log_softmax(x, dim=0)")


# Mean squared error


@exercise("MSELoss.forward")
def test_mse() -> None:
    """the mean of the squared differences over all elements, a tensor of shape ()"""
    for shape in ((4,), (1,), (2, 3), (5, 1), (2, 1, 3), ()):
        p, t = numbers(*shape), numbers(*shape, seed=1)
        expected = np.square(p - t).sum() / max(p.size, 1)
        close(MSELoss()(Tensor(p), Tensor(t)), expected, "the loss", f"shapes {shape}, float64", 1e-12, np.float64)


@exercise("MSELoss.forward")
def test_mse_targets() -> None:
    """targets may be a Tensor, an array or a list; the loss has the predictions' dtype"""
    p = Tensor([1.0, 2.0, 3.0])
    close(MSELoss()(p, [1.0, 4.0, 0.0]), 13 / 3, "the loss", "targets a list", dtype=np.float32)
    close(MSELoss()(p, np.array([1.0, 4.0, 0.0])), 13 / 3, "the loss", "targets an array of float64", dtype=np.float32)
    close(MSELoss()(p, Tensor([1, 4, 0])), 13 / 3, "the loss", "targets a Tensor of integers", dtype=np.float32)
    close(MSELoss()(Tensor([1, 2]), [1, 5]), 4.5, "the loss", "predictions and targets integers", dtype=np.float32)


@exercise("MSELoss.forward")
def test_mse_shapes_that_differ() -> None:
    """other shapes are refused, with both in the message, above all those that would broadcast"""
    for left, right in (((3, 1), (3,)), ((3,), (3, 1)), ((2, 3), (3,)), ((3,), ()), ((1,), (3,)), ((2, 3), (3, 2))):
        p, t = Tensor(np.ones(left)), Tensor(np.ones(right))
        raises(ValueError, lambda: MSELoss()(p, t), f"predictions {left}, targets {right}", [left, right])


@exercise("MSELoss.forward")
def test_mse_changes_nothing() -> None:
    """predictions and targets stay as they are"""
    p, t = Tensor([1.0, 2.0]), Tensor([3.0, 5.0])
    MSELoss()(p, t)
    close(p, [1.0, 2.0], "predictions afterwards", "MSELoss()(p, t)", 0.0)
    close(t, [3.0, 5.0], "targets afterwards", "MSELoss()(p, t)", 0.0)


@exercise("MSELoss.forward")
def test_gradient_reaches_through_mse() -> None:
    """made of tensor operations, through which a gradient finds its way back to the predictions"""
    p = Tensor([1.0, 2.0], requires_grad=True)
    result, kept = run_with_tape(lambda: MSELoss()(p, [0.0, 1.0]))
    made = {id(step.result): step.inputs for step in kept}
    waiting, met = [result], set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) not in met:
            met.add(id(tensor))
            waiting.extend(made.get(id(tensor), ()))
    expected = "a loss made of tensor operations on the predictions"
    holds(id(p) in met, expected, "no way from the loss to the predictions", "MSELoss()(p, t)")
    unknown = [step.op for step in kept if step.op not in OPERATIONS]
    holds(not unknown, "operations of stage 01 alone, which have rules", f"also {unknown}", "MSELoss()(p, t)")


# Binary cross-entropy


@exercise("BinaryCrossEntropyLoss.forward")
def test_bce() -> None:
    """the mean of -t log p - (1 - t) log(1 - p) over all elements, a tensor of shape ()"""
    for shape in ((4,), (1,), (3, 2), (5, 1), ()):
        rng = np.random.default_rng(2)
        p, t = rng.uniform(0.01, 0.99, shape), rng.uniform(0, 1, shape)
        expected = sum(-b * math.log(a) - (1 - b) * math.log(1 - a) for a, b in zip(p.flat, t.flat)) / max(p.size, 1)
        loss = BinaryCrossEntropyLoss()(Tensor(p), Tensor(t))
        close(loss, expected, "the loss", f"shapes {shape}, float64, targets between 0 and 1", 1e-12, np.float64)


@exercise("BinaryCrossEntropyLoss.forward")
def test_bce_of_certain_predictions() -> None:
    """a certain mistake costs 100, a certain hit nothing, as in PyTorch"""
    # torch 2.13.0: binary_cross_entropy(tensor(p, dtype=float64), tensor(t, dtype=float64), reduction="none")
    certain = [(0.0, 1.0, 100.0), (1.0, 0.0, 100.0), (1.0, 1.0, 0.0), (0.0, 0.0, 0.0)]
    cases = [*certain, (1e-30, 0.5, 34.5387763949), (0.25, 0.75, 1.1116412890)]
    for p, t, expected in cases:
        loss = BinaryCrossEntropyLoss()(Tensor(np.array([p])), [t])
        close(loss, expected, "the loss", f"predictions = [{p}], targets = [{t}]", 1e-9)
    all_of_them = BinaryCrossEntropyLoss()(Tensor([p for p, _, _ in cases]), [t for _, t, _ in cases])
    close(all_of_them, 39.2750696, "the loss", "all six in one batch, float32", 1e-5, np.float32)


@exercise("BinaryCrossEntropyLoss.forward")
def test_bce_of_nearly_certain_predictions() -> None:
    """a probability that is all but 0 has the logarithm that it has"""
    p = Tensor(np.array([1e-20, 1e-12], np.float32))
    close(
        BinaryCrossEntropyLoss()(p, [1.0, 1.0]),
        36.8413615,
        "the loss",
        "predictions = [1e-20, 1e-12], targets = 1",
        1e-6,
    )


@exercise("BinaryCrossEntropyLoss.forward")
def test_bce_targets() -> None:
    """targets may be a Tensor, an array or a list, of integers or booleans too; the loss has the predictions' dtype"""
    p, expected = Tensor([0.5, 0.25]), (math.log(2) - math.log(0.75)) / 2
    for targets in (
        [1, 0],
        [1.0, 0.0],
        np.array([1.0, 0.0]),
        np.array([True, False]),
        Tensor([1, 0]),
        Tensor([1.0, 0.0]),
    ):
        close(BinaryCrossEntropyLoss()(p, targets), expected, "the loss", f"targets = {targets!r}", dtype=np.float32)


@exercise("BinaryCrossEntropyLoss.forward")
def test_bce_refuses() -> None:
    """other shapes, and predictions that are no probabilities, are refused by what they are"""
    loss = BinaryCrossEntropyLoss()
    for left, right in (((3, 1), (3,)), ((3,), (3, 1)), ((2, 3), (3,)), ((3,), ())):
        p, t = Tensor(np.full(left, 0.5)), Tensor(np.ones(right))
        raises(ValueError, lambda: loss(p, t), f"predictions {left}, targets {right}", [left, right])
    raises(ValueError, lambda: loss(Tensor([0.5, 1.25]), [1, 0]), "predictions = [0.5, 1.25]", ["1.25"])
    raises(ValueError, lambda: loss(Tensor([-0.5, 0.5]), [1, 0]), "predictions = [-0.5, 0.5]", ["-0.5"])
    raises(ValueError, lambda: loss(Tensor([float("nan"), 0.5]), [1, 0]), "predictions = [nan, 0.5]", ["nan"])


@exercise("BinaryCrossEntropyLoss.forward")
def test_bce_changes_nothing() -> None:
    """predictions and targets stay as they are"""
    p, t = Tensor([0.0, 0.5, 1.0]), Tensor([1.0, 0.0, 1.0])
    BinaryCrossEntropyLoss()(p, t)
    close(p, [0.0, 0.5, 1.0], "predictions afterwards", "BinaryCrossEntropyLoss()(p, t)", 0.0)
    close(t, [1.0, 0.0, 1.0], "targets afterwards", "BinaryCrossEntropyLoss()(p, t)", 0.0)


@exercise("BinaryCrossEntropyLoss.forward")
def test_bce_through_the_door() -> None:
    """returned through the door, with the targets as an array of the predictions' dtype"""
    p, loss = Tensor([0.5, 0.25], requires_grad=True), BinaryCrossEntropyLoss()
    given = "BinaryCrossEntropyLoss()(p, [1, 0])"
    through_door(lambda: loss(p, [1, 0]), "BinaryCrossEntropy", [p], ["targets"], given=given)
    saved_array(lambda: loss(p, Tensor([1, 0])), "targets", np.array([1, 0], np.float32), "targets = Tensor([1, 0])")


# Cross-entropy: target probabilities


@exercise("CrossEntropyLoss.target_probabilities")
def test_target_probabilities() -> None:
    """1 at the right class, 0 elsewhere, in the dtype of the logits"""
    for dtype in ("float32", "float64"):
        targets = CrossEntropyLoss().target_probabilities(np.array([2, 0, 2, 1]), np.full((4, 3), 5.0, dtype))
        expected = [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]]
        close(
            targets,
            expected,
            "target_probabilities",
            f"classes [2, 0, 2, 1], logits (4, 3) {dtype}",
            0.0,
            np.dtype(dtype),
        )


@exercise("CrossEntropyLoss.target_probabilities")
def test_target_probabilities_of_small_integers() -> None:
    """classes of any integer dtype"""
    for dtype in ("uint8", "int32"):
        targets = CrossEntropyLoss().target_probabilities(np.array([1, 0], dtype), np.zeros((2, 2)))
        close(targets, [[0, 1], [1, 0]], "target_probabilities", f"classes [1, 0] of {dtype}, logits (2, 2)", 0.0)


@exercise("CrossEntropyLoss.target_probabilities")
def test_target_probabilities_smoothed() -> None:
    """ε is shared by all classes alike, the right one among them, and each row sums to 1"""
    targets = CrossEntropyLoss(label_smoothing=0.2).target_probabilities(np.array([3, 0]), np.zeros((2, 4)))
    given = "ε = 0.2, classes [3, 0], logits (2, 4)"
    close(
        targets, [[0.05, 0.05, 0.05, 0.85], [0.85, 0.05, 0.05, 0.05]], "target_probabilities", given, 1e-12, np.float64
    )
    targets = CrossEntropyLoss(label_smoothing=1.0).target_probabilities(np.array([1]), np.zeros((1, 5)))
    close(targets, np.full((1, 5), 0.2), "target_probabilities", "ε = 1, classes [1], logits (1, 5)", 1e-12)


@exercise("CrossEntropyLoss.target_probabilities")
def test_target_probabilities_change_nothing() -> None:
    """classes and logits stay as they are"""
    classes, logits = np.array([1, 0]), np.full((2, 3), 5.0)
    CrossEntropyLoss(0.1).target_probabilities(classes, logits)
    close(classes, [1, 0], "classes afterwards", "target_probabilities(classes, logits)", 0.0)
    close(logits, np.full((2, 3), 5.0), "logits afterwards", "target_probabilities(classes, logits)", 0.0)


# Cross-entropy: the loss


def expected_cross_entropy(logits: np.ndarray, classes: list[int]) -> float:
    """The mean of the right class's -log-probability, sample by sample."""
    losses = [-expected_log_softmax(row)[label] for row, label in zip(logits, classes)]
    return math.fsum(losses) / len(losses)


@exercise("CrossEntropyLoss.forward")
def test_cross_entropy() -> None:
    """the mean over the batch of the right class's -log-probability, a tensor of shape ()"""
    for shape in ((4, 3), (3, 4), (3, 3), (1, 5), (5, 1), (2, 2)):
        logits = numbers(*shape) * 3
        classes = [(2 * row + 1) % shape[1] for row in range(shape[0])]
        expected = expected_cross_entropy(logits, classes)
        given = f"logits of shape {shape}, float64, targets {classes}"
        close(CrossEntropyLoss()(Tensor(logits), classes), expected, "the loss", given, 1e-12, np.float64)


@exercise("CrossEntropyLoss.forward")
def test_cross_entropy_targets() -> None:
    """targets may be a Tensor, an array or a list of integers; integer logits count as float32"""
    logits, classes = np.array([[0.0, 1.0, 3.0], [2.0, 2.0, 2.0]], np.float32), [2, 0]
    expected = expected_cross_entropy(logits, classes)
    for targets in (
        classes,
        Tensor(classes),
        np.array(classes),
        np.array(classes, np.uint8),
        np.array(classes, np.int32),
    ):
        close(
            CrossEntropyLoss()(Tensor(logits), targets),
            expected,
            "the loss",
            f"targets = {targets!r}",
            dtype=np.float32,
        )
    loss = CrossEntropyLoss()(Tensor(logits.astype(np.int64)), classes)
    close(loss, expected, "the loss", "logits of int64", dtype=np.float32)


@exercise("CrossEntropyLoss.forward")
def test_cross_entropy_of_large_logits() -> None:
    """logits of ±1e4 give the loss that they have: 20,000 for a certain mistake, 0 for a certain hit"""
    logits = Tensor(np.array([[1e4, -1e4], [-1e4, 1e4]], np.float32))
    for classes, expected in (([1, 0], 20000.0), ([0, 1], 0.0), ([0, 0], 10000.0)):
        given = f"logits of ±1e4, float32, targets {classes}"
        close(CrossEntropyLoss()(logits, classes), expected, "the loss", given, 1e-6)


@exercise("CrossEntropyLoss.forward")
def test_cross_entropy_with_classes_ruled_out() -> None:
    """a logit of -inf rules a class out and leaves the loss of the others finite"""
    logits = Tensor(np.array([[0.0, -np.inf, 0.0], [-np.inf, 3.0, -np.inf]]))
    given = "logits [[0, -inf, 0], [-inf, 3, -inf]], targets "
    close(CrossEntropyLoss()(logits, [2, 1]), math.log(2) / 2, "the loss", f"{given}[2, 1]", 1e-12)
    close(CrossEntropyLoss()(logits, [1, 1]), np.inf, "the loss", f"{given}[1, 1]: a class that was ruled out")


@exercise("CrossEntropyLoss.forward")
def test_label_smoothing() -> None:
    """the loss that PyTorch gives with label smoothing"""
    logits = np.array([[2.0, -1.0, 0.5, 0.0], [0.1, 0.2, 0.3, 4.0], [-3.0, 1.5, 1.5, 1.0]])
    # torch 2.13.0: cross_entropy(tensor(logits), tensor([0, 2, 3]), label_smoothing=ε)
    for epsilon, expected in ((0.0, 1.8565962068), (0.1, 1.9074295401), (0.3, 2.0090962068), (1.0, 2.3649295401)):
        loss = CrossEntropyLoss(label_smoothing=epsilon)(Tensor(logits), [0, 2, 3])
        close(loss, expected, "the loss", f"ε = {epsilon}, logits (3, 4), targets [0, 2, 3]", 1e-9, np.float64)


@exercise("CrossEntropyLoss.forward")
def test_cross_entropy_refuses_shapes() -> None:
    """shapes other than (batch, classes) and (batch,) are refused, with both in the message"""
    for left, right in (
        ((2, 3), (3,)),
        ((2, 3), (2, 1)),
        ((2, 3), ()),
        ((3,), (3,)),
        ((2, 3, 4), (2,)),
        ((2, 3), (2, 3)),
    ):
        logits, targets = Tensor(np.zeros(left)), np.zeros(right, np.int64)
        raises(
            ValueError, lambda: CrossEntropyLoss()(logits, targets), f"logits {left}, targets {right}", [left, right]
        )


@exercise("CrossEntropyLoss.forward")
def test_cross_entropy_refuses_classes() -> None:
    """a class that does not exist is refused by its number, and targets that are no integers by their dtype"""
    loss, logits = CrossEntropyLoss(), Tensor(np.zeros((2, 3)))
    raises(ValueError, lambda: loss(logits, [0, 3]), "3 classes, targets [0, 3]", ["3"])
    raises(ValueError, lambda: loss(logits, [-1, 0]), "3 classes, targets [-1, 0]", ["-1"])
    raises(TypeError, lambda: loss(logits, [0.0, 1.0]), "targets [0.0, 1.0]", ["float"])
    raises(TypeError, lambda: loss(logits, np.array([True, False])), "targets [True, False]", ["bool"])


@exercise("CrossEntropyLoss.forward")
def test_cross_entropy_changes_nothing() -> None:
    """logits and targets stay as they are"""
    logits, targets = Tensor(np.array([[3.0, 1.0], [0.0, 2.0]])), Tensor([1, 0])
    CrossEntropyLoss(0.1)(logits, targets)
    close(logits, [[3.0, 1.0], [0.0, 2.0]], "logits afterwards", "CrossEntropyLoss(0.1)(logits, targets)", 0.0)
    close(targets, [1, 0], "targets afterwards", "CrossEntropyLoss(0.1)(logits, targets)", 0.0)


@exercise("CrossEntropyLoss.forward")
def test_cross_entropy_through_the_door() -> None:
    """returned through the door, made from the logits, with log_probabilities and target_probabilities"""
    logits, loss = Tensor(numbers(3, 4), requires_grad=True), CrossEntropyLoss(0.2)
    given, words = "CrossEntropyLoss(0.2)(logits, [1, 0, 3])", ["log_probabilities", "target_probabilities"]
    through_door(lambda: loss(logits, [1, 0, 3]), "CrossEntropy", [logits], words, given=given)
    saved_array(lambda: loss(logits, [1, 0, 3]), "log_probabilities", expected_log_softmax(logits.data), given)
    wanted = np.full((3, 4), 0.05) + 0.8 * np.eye(4)[[1, 0, 3]]
    saved_array(lambda: loss(logits, [1, 0, 3]), "target_probabilities", wanted, given)


# Systems


@exercise("log_sum_exp")
def test_log_sum_exp() -> None:
    """what adding the exponentials in 60-digit arithmetic gives, whatever their size"""
    for row in (
        [0.0],
        [1.0, 2.0, 3.0],
        [1000.0, 1000.0],
        [-1000.0, -1001.0],
        [1e4, -1e4],
        [5.0, -np.inf],
        [300.0, 299.0],
    ):
        exact = float(sum((Decimal(v) if v > -np.inf else Decimal("-Infinity")).exp() for v in row).ln())
        close(log_sum_exp(np.array(row)), exact, "log_sum_exp", f"values = {row}", 1e-12, np.float64)


@exercise("log_sum_exp")
def test_log_sum_exp_along_an_axis() -> None:
    """along any axis, which is dropped, in the dtype of the values, which stay as they are"""
    values = numbers(2, 3, 4) * 5
    before = values.copy()
    for axis in (0, 1, -1):
        expected = np.logaddexp.reduce(values, axis=axis)
        close(log_sum_exp(values, axis=axis), expected, "log_sum_exp", f"(2, 3, 4), axis={axis}", 1e-12)
    close(log_sum_exp(values), np.logaddexp.reduce(values, axis=-1), "log_sum_exp", "(2, 3, 4), no axis given", 1e-12)
    close(values, before, "the values afterwards", "log_sum_exp(values)", 0.0)
    rows = np.array([[0.0, 1.0], [5000.0, 5001.0], [-5000.0, -5001.0]])
    close(log_sum_exp(rows), np.logaddexp.reduce(rows, axis=-1), "log_sum_exp", "rows around 0, 5000 and -5000", 1e-12)
    small = np.array([[200.0, 100.0]], np.float32)
    close(log_sum_exp(small), [200.0], "log_sum_exp", "values = [[200, 100]], float32", dtype=np.float32)


@exercise("log_sum_exp")
def test_log_sum_exp_of_nothing() -> None:
    """the sum of no chances at all is 0, whose logarithm is -inf"""
    values = np.array([[-np.inf, -np.inf], [0.0, 0.0]])
    close(log_sum_exp(values), [-np.inf, math.log(2)], "log_sum_exp", "values = [[-inf, -inf], [0, 0]]")


def composed_loss(logits: Tensor, classes: np.ndarray) -> Tensor:
    targets = Tensor(np.eye(logits.shape[1], dtype=logits.dtype)[classes])
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = shifted.exp()
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    return -(probabilities.log() * targets).sum() / len(classes)


def fused_loss(logits: Tensor, classes: np.ndarray) -> Tensor:
    targets = np.eye(logits.shape[1], dtype=logits.dtype)[classes]
    shifted = logits.data - logits.data.max(axis=1, keepdims=True)
    logs = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    loss = -(targets * logs).sum() / len(classes)
    return result_of("CrossEntropy", loss, logits, log_probabilities=logs, target_probabilities=targets)


@exercise("loss_bytes")
def test_loss_bytes() -> None:
    """what tracemalloc says that a tape keeps when both forms of the loss are run"""
    for batch, classes, dtype in ((50, 400, "float32"), (200, 150, "float64")):
        logits = Tensor(np.zeros((batch, classes), dtype), requires_grad=True)
        targets = np.arange(batch) % classes
        for fused, function in ((True, fused_loss), (False, composed_loss)):
            tracemalloc.start()
            before = tracemalloc.get_traced_memory()[0]
            kept = run_with_tape(lambda: function(logits, targets))
            measured = tracemalloc.get_traced_memory()[0] - before
            tracemalloc.stop()
            answer = loss_bytes(batch, classes, logits.dtype.itemsize, fused=fused)
            given = f"{'fused' if fused else 'composed'}, logits ({batch}, {classes}), {dtype}"
            holds(abs(answer - measured) < 25_000, f"about {measured} bytes (measured)", answer, given)
            del kept


@exercise("loss_bytes")
def test_loss_bytes_by_default() -> None:
    """float32 and fused, if nothing else is said"""
    equal(loss_bytes(8, 100), loss_bytes(8, 100, 4, True), "loss_bytes(8, 100)", "compared with itemsize=4, fused=True")


def code_lengths(p: list[float]) -> list[int]:
    """Bits that Huffman's code, the shortest there is, gives to each outcome."""
    heap = [(chance, i, [i]) for i, chance in enumerate(p)]
    lengths = [0] * len(p)
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, i, left), (b, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        for member in left + right:
            lengths[member] += 1
        heapq.heappush(heap, (a + b, i, left + right))
    return lengths


def mean_length(p: list[float], code: list[int]) -> float:
    return sum(chance * length for chance, length in zip(p, code))


HALVES = [0.5, 0.25, 0.125, 0.125]
OTHERS = [[0.125, 0.125, 0.25, 0.5], [0.25, 0.25, 0.25, 0.25], [0.125, 0.5, 0.125, 0.25]]


def orderings(p: list[float], q: list[float], draws: int = 10**9) -> float:
    """log of the chance, a draw, that many draws from `q` come in the shares `p`; with q = 1 the number of orderings.

    draws! / Π (draws · p)! orderings, each with the chance Π q^(draws · p).
    """
    shares = [(round(a * draws), b) for a, b in zip(p, q) if a]
    ways = math.lgamma(draws + 1) - sum(math.lgamma(count + 1) for count, _ in shares)
    return (ways + sum(count * math.log(b) for count, b in shares)) / draws


@exercise("entropy")
def test_entropy_is_the_length_of_the_shortest_code() -> None:
    """bits that Huffman's code takes for a draw, where the chances are powers of 1/2"""
    for p in (HALVES, [0.25] * 4, [0.5, 0.5], [0.0625] * 16, [1.0]):
        close(entropy(p) / math.log(2), mean_length(p, code_lengths(p)), "entropy / log 2", f"p = {p}", 1e-12)


@exercise("entropy")
def test_entropy_counts_orderings() -> None:
    """log of the number of orderings that a billion draws can come in, for each draw"""
    for p in ([0.5, 0.3, 0.2], [0.9, 0.1], [0.1, 0.0, 0.9], [0.01, 0.29, 0.7]):
        close(entropy(p), orderings(p, [1.0] * len(p)), "entropy", f"p = {p}", 1e-6)
        close(entropy(np.array(p)), orderings(p, [1.0] * len(p)), "entropy", f"p = np.array({p})", 1e-6)


@exercise("kl_divergence")
def test_kl_is_the_cost_of_the_wrong_code() -> None:
    """bits a draw that are lost when a code made for q is used for draws from p"""
    for q in (*OTHERS, HALVES):
        lost = mean_length(HALVES, code_lengths(q)) - mean_length(HALVES, code_lengths(HALVES))
        close(kl_divergence(HALVES, q) / math.log(2), lost, "kl_divergence / log 2", f"p = {HALVES}, q = {q}", 1e-12)


@exercise("kl_divergence")
def test_kl_is_what_the_chance_falls_by() -> None:
    """a draw's share in the log of the chance that a billion draws from q come in the shares p"""
    for p, q in (([0.5, 0.3, 0.2], [0.2, 0.2, 0.6]), ([0.9, 0.1], [0.1, 0.9]), ([0.2, 0.8, 0.0], [0.3, 0.3, 0.4])):
        close(kl_divergence(p, q), -orderings(p, q), "kl_divergence", f"p = {p}, q = {q}", 1e-6)
        close(
            kl_divergence(np.array(p), np.array(q)),
            -orderings(p, q),
            "kl_divergence",
            f"p = {p}, q = {q}, arrays",
            1e-6,
        )


@exercise("kl_divergence")
def test_kl_of_zeros() -> None:
    """what never happens costs nothing, and what was held to be impossible and happens costs everything"""
    close(kl_divergence([1.0, 0.0], [0.5, 0.5]), math.log(2), "kl_divergence", "p = [1, 0], q = [0.5, 0.5]")
    close(kl_divergence([0.5, 0.5], [1.0, 0.0]), math.inf, "kl_divergence", "p = [0.5, 0.5], q = [1, 0]")
    close(kl_divergence([1.0, 0.0], [1.0, 0.0]), 0.0, "kl_divergence", "p = q = [1, 0]")


@exercise("kl_divergence")
def test_kl_of_other_lengths() -> None:
    """distributions of different lengths are refused"""
    raises(ValueError, lambda: kl_divergence([0.5, 0.5], [0.5, 0.25, 0.25]), "p of 2 outcomes, q of 3", ["2", "3"])


# Shapes, dtypes and gradients at the edge


@exercise("log_softmax")
def test_log_softmax_of_nothing() -> None:
    """an empty tensor stays empty, whichever axis has no elements"""
    for shape, dim in (((2, 0), -1), ((0, 3), 0), ((0, 3), 1), ((0,), 0)):
        x = Tensor(np.zeros(shape, np.float32))
        given = f"log_softmax(x, dim={dim}), x of shape {shape}"
        close(log_softmax(x, dim=dim), np.zeros(shape), "the result", given, dtype=np.float32)


@exercise("MSELoss.forward")
def test_mse_of_integer_predictions() -> None:
    """predictions of integers are compared as floats with targets between them"""
    for targets in ([0.5, 3.0], np.array([0.5, 3.0]), Tensor([0.5, 3.0])):
        given = f"predictions = Tensor([0, 1]), targets = {targets!r}"
        close(MSELoss()(Tensor([0, 1]), targets), 2.125, "the loss", given, dtype=np.float32)


@exercise("MSELoss.forward")
def test_gradient_reaches_the_targets() -> None:
    """targets that require a gradient are among what the loss was made from"""
    p, t = Tensor([1.0, 2.0]), Tensor([0.0, 1.0], requires_grad=True)
    _, kept = run_with_tape(lambda: MSELoss()(p, t))
    used = any(source is t for step in kept for source in step.inputs)
    holds(used, "an operation on the targets themselves", "none", "MSELoss()(p, t), t requires a gradient")


@exercise("BinaryCrossEntropyLoss.forward")
def test_bce_of_integer_predictions() -> None:
    """predictions of integers are compared as floats with targets between them"""
    for targets in ([0.25, 1.0], np.array([0.25, 1.0]), Tensor([0.25, 1.0])):
        given = f"predictions = Tensor([0, 1]), targets = {targets!r}"
        close(BinaryCrossEntropyLoss()(Tensor([0, 1]), targets), 12.5, "the loss", given, dtype=np.float32)
