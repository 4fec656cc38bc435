"""Gate 04: losses."""

import math
from collections.abc import Callable, Sequence
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinytorch import BinaryCrossEntropyLoss, CrossEntropyLoss, MSELoss, Tensor, log_softmax, plug_in, result_of
from tinytorch.systems.losses import entropy, kl_divergence, log_sum_exp, loss_bytes
from workshop.checks import holds
from workshop.probes import allocated, numbers
from workshop.tables import Case, Cases, Expression, about, table

look = Cases(globals())
INF, NAN, LN2 = math.inf, math.nan, math.log(2)


def f32(*values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def each(texts: Sequence[str], right: Any, dtype: Any = None, tolerance: float = 1e-5, **letters: Any) -> list[Case]:
    """Expressions that all give the same."""
    return [look.gives(text, right, dtype=dtype, tolerance=tolerance, **letters) for text in texts]


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


# Log-softmax


def log_shares(x: Any, dim: int = -1) -> np.ndarray:
    """In float64, by adding up logarithms two at a time, as np.logaddexp does without overflow."""
    x = np.asarray(x, np.float64)
    return x - np.logaddexp.reduce(x, axis=dim, keepdims=True)


def along(*shape: int) -> list[Case]:
    """Along each axis of an array of this shape, counted from the front and from the end."""
    x, dims = 2 * numbers(*shape), range(-len(shape), len(shape))
    return [look.gives("log_softmax(x, dim=d)", "log_shares(x, d)", tolerance=1e-12, x=x, d=d) for d in dims]


def large(*row: float) -> Case:
    """A row and its mirror image, in float32."""
    return look.gives("log_softmax(x)", "log_shares(x)", tolerance=1e-6, dtype=np.float32, x=f32(row, row[::-1]))


ROWS = f32([0.0, 1.0, 2.0], [9000.0, 9001.0, 9002.0], [-9000.0, -9001.0, -9002.0])

LOG_SOFTMAX = {
    "x - log Σ exp(x) along any dim, by default the last; floats keep their dtype, integers become float32": [
        *(along(3, 4) + along(3, 3) + along(2, 3, 4) + along(5) + along(1, 1)),
        look.gives("log_softmax(x)", "log_shares(x)", tolerance=1e-12, dtype=np.float64, x=numbers(3, 3)),
        look.gives("log_softmax(x)", "log_shares(x)", dtype=np.float32, x=f32([1, 2, 3])),
        look.gives("log_softmax(x)", "log_shares(x)", dtype=np.float32, x=[[1, 2, 3]]),
    ],
    "finite and right for logits up to ±1e4, row by row; a logit of -inf has the log-probability -inf": [
        *(large(1e4, 0), large(-1e4, 0), large(1e4, -1e4), large(1e4, 1e4), large(0, 200, 88), large(0, -30)),
        look.gives("log_softmax(x)", "log_shares(x)", x=ROWS),
        look.gives("log_softmax(x, dim=0)", "log_shares(x, 0)", x=ROWS.T),
        look.gives("log_softmax(x)", [-LN2, -INF, -LN2], tolerance=1e-12, x=[0.0, -INF, 0.0]),
        look.gives("log_softmax(x)", [-INF, 0.0], tolerance=1e-12, x=[-INF, 5.0]),
    ],
    "an empty tensor stays empty, whichever axis has no elements": [
        look.gives("log_softmax(x)", "x", dtype=np.float64, x=np.zeros((2, 0))),
        look.gives("log_softmax(x, dim=0)", "x", dtype=np.float64, x=np.zeros((0, 3))),
        look.gives("log_softmax(x, dim=1)", "x", dtype=np.float32, x=np.zeros((0, 3), np.float32)),
        look.gives("log_softmax(x, dim=0)", "x", dtype=np.float32, x=np.zeros(0, np.float32)),
    ],
    "through the door as LogSoftmax, with its output and dim; x is not changed": [
        look.keeps("log_softmax(x)", x=numbers(3, 4)),
        look.door("log_softmax(x, dim=0)", "LogSoftmax", "output", "dim", x=numbers(2, 3)),
        look.saves("log_softmax(x, dim=0)", "output", "log_shares(x, 0)", x=numbers(2, 3)),
        look.saves("log_softmax(x, dim=1)", "output", "log_shares(x, 1)", x=numbers(2, 3)),
        look.saves("log_softmax(x, dim=1)", "dim", 1, x=numbers(2, 3)),
    ],
}

# Mean squared error

# The operations that stage 01 brings, for which stage 05 will have rules.
OPERATIONS = set("Add Sub Neg Mul Div Pow Matmul Reshape Transpose Index Sum Mean Max Exp Log".split())


def reached(e: Expression) -> None:
    """A gradient finds its way from the loss to all letters, through operations of stage 01 alone."""
    leaves = e.leaves()
    result, kept = run_with_tape(lambda: e(*leaves))
    met = {id(result)}
    for step in reversed(kept):
        if id(step.result) in met:
            met |= {id(source) for source in step.inputs}
    for name, leaf in zip(e.letters, leaves):
        holds(id(leaf) in met, f"a loss made of tensor operations on {name}", f"no way from the loss to {name}")
    unknown = [step.op for step in kept if step.op not in OPERATIONS]
    holds(not unknown, "operations of stage 01 alone, which have rules", f"also {unknown}")


def mse(*shape: int) -> Case:
    p, t = numbers(*shape), numbers(*shape, seed=1)
    return look.gives("MSELoss()(p, t)", np.square(p - t).sum() / p.size, tolerance=1e-12, dtype=np.float64, p=p, t=t)


def unequal(loss: str, left: tuple[int, ...], right: tuple[int, ...]) -> Case:
    return look.raises(f"{loss}()(p, t)", ValueError, left, right, p=np.full(left, 0.5), t=np.ones(right))


THREE = ("[1.0, 4.0, 0.0]", "[1, 4, 0]", "np.array([1.0, 4.0, 0.0])", "Tensor([1, 4, 0])")
BETWEEN = ("[0.5, 3.0]", "np.array([0.5, 3.0])", "Tensor([0.5, 3.0])")
SHAPES = (((3, 1), (3,)), ((3,), (3, 1)), ((2, 3), (3,)), ((3,), ()), ((1,), (3,)), ((2, 3), (3, 2)))

MSE = {
    "the mean of the squared differences over all elements, of shape (); nothing that is given changes": [
        *(mse(4), mse(1), mse(2, 3), mse(5, 1), mse(2, 1, 3), mse()),
        look.keeps("MSELoss()(p, t)", p=[1.0, 2.0], t=[3.0, 5.0]),
    ],
    "targets may be a Tensor, an array or a list, and take the predictions' dtype if they are no Tensor": [
        *each([f"MSELoss()(p, {t})" for t in THREE], 13 / 3, np.float32, p=f32(1, 2, 3)),
        *each([f"MSELoss()(p, {t})" for t in THREE], 13 / 3, np.float64, p=[1.0, 2.0, 3.0]),
    ],
    "predictions of integers count as float32, and are compared with targets between them": [
        *each([f"MSELoss()(p, {t})" for t in BETWEEN], 2.125, np.float32, p=[0, 1]),
        look.gives("MSELoss()(p, [1, 5])", 4.5, dtype=np.float32, p=[1, 2]),
    ],
    "other shapes are refused, with both in the message, above all those that would broadcast": [
        *(unequal("MSELoss", left, right) for left, right in (*SHAPES, ((0,), (0,)))),
    ],
    "made of tensor operations, through which a gradient finds its way to predictions and targets": [
        look.case(reached, "MSELoss()(p, [0.0, 1.0])", p=[1.0, 2.0]),
        look.case(reached, "MSELoss()(Tensor([1.0, 2.0]), t)", t=[0.0, 1.0]),
        look.case(reached, "MSELoss()(p, t)", p=[1.0, 2.0], t=[0.0, 1.0]),
    ],
}

# Binary cross-entropy


def bce(*shape: int) -> Case:
    """Against a sum in plain Python, targets anywhere between 0 and 1."""
    rng = np.random.default_rng(2)
    p, t = np.asarray(rng.uniform(0.01, 0.99, shape)), np.asarray(rng.uniform(0, 1, shape))
    right = sum(-b * math.log(a) - (1 - b) * math.log(1 - a) for a, b in zip(p.flat, t.flat)) / p.size
    return look.gives("BinaryCrossEntropyLoss()(p, t)", right, tolerance=1e-12, dtype=np.float64, p=p, t=t)


# torch 2.13.0: binary_cross_entropy(tensor(p, dtype=float64), tensor(t, dtype=float64), reduction="none")
P, T = (0.0, 1.0, 1.0, 0.0, 1e-30, 0.25), (1.0, 0.0, 1.0, 0.0, 0.5, 0.75)
COSTS = (100.0, 100.0, 0.0, 0.0, 34.5387763949, 1.1116412890)
LOSS = "BinaryCrossEntropyLoss()"
HALF = (LN2 - math.log(0.75)) / 2  # of p = [0.5, 0.25] and t = [1, 0]
TARGETS = ("[1, 0]", "[1.0, 0.0]", "np.array([1.0, 0.0])", "np.array([True, False])", "Tensor([1, 0])")
QUARTERS = ("[0.25, 1.0]", "np.array([0.25, 1.0])", "Tensor([0.25, 1.0])")

BCE = {
    "the mean of -t log p - (1 - t) log(1 - p) over all elements, of shape (); nothing that is given changes": [
        *(bce(4), bce(1), bce(3, 2), bce(5, 1), bce()),
        look.keeps("BinaryCrossEntropyLoss()(p, t)", p=[0.0, 0.5, 1.0], t=[1.0, 0.0, 1.0]),
    ],
    "a certain mistake costs 100, a certain hit nothing, as in PyTorch; what is all but certain costs what it should": [
        *(look.gives(f"{LOSS}(p, t)", right, tolerance=1e-9, p=[p], t=[t]) for p, t, right in zip(P, T, COSTS)),
        look.gives("BinaryCrossEntropyLoss()(p, t)", 39.2750696, dtype=np.float32, p=f32(*P), t=f32(*T)),
        look.gives("BinaryCrossEntropyLoss()(p, [1, 1])", 36.8413615, tolerance=1e-6, p=f32(1e-20, 1e-12)),
    ],
    "targets may be a Tensor, an array or a list, of integers or booleans too; the loss has the predictions' dtype": [
        *each([f"{LOSS}(p, {t})" for t in TARGETS], HALF, np.float32, p=f32(0.5, 0.25)),
    ],
    "predictions of integers count as float32, and are compared with targets between them": [
        *each([f"{LOSS}(p, {t})" for t in QUARTERS], 12.5, np.float32, p=[0, 1]),
    ],
    "other shapes, and predictions that are no probabilities, are refused by what they are": [
        *(unequal("BinaryCrossEntropyLoss", left, right) for left, right in SHAPES),
        look.raises("BinaryCrossEntropyLoss()(p, [1, 0])", ValueError, "1.25", p=[0.5, 1.25]),
        look.raises("BinaryCrossEntropyLoss()(p, [1, 0])", ValueError, "-0.5", p=[-0.5, 0.5]),
        look.raises("BinaryCrossEntropyLoss()(p, [1, 0])", ValueError, p=[NAN, 0.5]),
        look.raises("BinaryCrossEntropyLoss()(p, [1, 0])", ValueError, p=[-3.0, 4.0]),
    ],
    "through the door as BinaryCrossEntropy, with the targets as an array of the predictions' dtype": [
        look.door("BinaryCrossEntropyLoss()(p, [1, 0])", "BinaryCrossEntropy", "targets", p=f32(0.5, 0.25)),
        *(look.saves(f"BinaryCrossEntropyLoss()(p, {t})", "targets", "f32(1, 0)", p=f32(0.5, 0.25)) for t in TARGETS),
    ],
}

# Cross-entropy


def wanted(loss: str, classes: str, right: Any, dtype: str = "float64") -> Case:
    logits = np.full(np.shape(right), 5.0, dtype)
    return look.gives(f"{loss}.target_probabilities({classes}, x.data)", right, dtype=np.dtype(dtype), x=logits)


PROBABILITIES = {
    "1 at the right class, 0 elsewhere, in the dtype of the logits, for classes of any integer dtype": [
        wanted("CrossEntropyLoss()", "np.array([2, 0, 2, 1])", [[0, 0, 1], [1, 0, 0], [0, 0, 1], [0, 1, 0]]),
        wanted("CrossEntropyLoss()", "np.array([2, 0, 1])", [[0, 0, 1], [1, 0, 0], [0, 1, 0]], "float32"),
        wanted("CrossEntropyLoss()", "np.uint8([1, 0])", [[0, 1], [1, 0]]),
        wanted("CrossEntropyLoss()", "np.int32([1, 0])", [[0, 1], [1, 0]]),
    ],
    "ε is shared by all classes alike, the right one too, and each row sums to 1; nothing that is given changes": [
        wanted("CrossEntropyLoss(0.2)", "np.array([3, 0])", [[0.05, 0.05, 0.05, 0.85], [0.85, 0.05, 0.05, 0.05]]),
        wanted("CrossEntropyLoss(1.0)", "np.array([1])", [[0.2, 0.2, 0.2, 0.2, 0.2]]),
        look.keeps("CrossEntropyLoss(0.1).target_probabilities(c.data, x.data)", c=[1, 0], x=np.full((2, 3), 5.0)),
    ],
}


def cost(logits: Any, classes: list[int]) -> float:
    """The mean of the right class's -log-probability, sample by sample."""
    return math.fsum(-log_shares(row)[label] for row, label in zip(logits, classes)) / len(classes)


def of_classes(*shape: int) -> Case:
    x, classes = 3 * numbers(*shape), [(2 * row + 1) % shape[1] for row in range(shape[0])]
    return look.gives(f"CrossEntropyLoss()(x, {classes})", cost(x, classes), tolerance=1e-12, dtype=np.float64, x=x)


LOGITS = f32([0.0, 1.0, 3.0], [2.0, 2.0, 2.0])
FAR = f32([1e4, -1e4], [-1e4, 1e4])
RULED_OUT = np.array([[0.0, -INF, 0.0], [-INF, 3.0, -INF]])
SMOOTHED = np.array([[2.0, -1.0, 0.5, 0.0], [0.1, 0.2, 0.3, 4.0], [-3.0, 1.5, 1.5, 1.0]])
# torch 2.13.0: cross_entropy(tensor(SMOOTHED), tensor([0, 2, 3]), label_smoothing=ε)
LOSSES = {0.0: 1.8565962068, 0.1: 1.9074295401, 0.3: 2.0090962068, 1.0: 2.3649295401}

CLASSES = ("[2, 0]", "Tensor([2, 0])", "np.array([2, 0])", "np.uint8([2, 0])", "np.int32([2, 0])")
ODD = (((2, 3), (3,)), ((2, 3), (2, 1)), ((2, 3), ()), ((3,), (3,)), ((2, 3, 4), (2,)), ((2, 3), (2, 3)))
SAVED = ("log_probabilities", "target_probabilities")
SPREAD = 0.05 + 0.8 * np.eye(4)[[1, 0, 3]]

CROSS_ENTROPY = {
    "the mean over the batch of the right class's -log-probability, of shape (); nothing that is given changes": [
        *(of_classes(4, 3), of_classes(3, 4), of_classes(3, 3), of_classes(1, 5), of_classes(5, 1), of_classes(2, 2)),
        look.keeps("CrossEntropyLoss(0.1)(x, t)", x=[[3.0, 1.0], [0.0, 2.0]], t=[1, 0]),
    ],
    "targets may be a Tensor, an array or a list of integers; integer logits count as float32": [
        *each([f"CrossEntropyLoss()(x, {t})" for t in CLASSES], cost(LOGITS, [2, 0]), np.float32, x=LOGITS),
        look.gives("CrossEntropyLoss()(x, [2, 0])", cost(LOGITS, [2, 0]), dtype=np.float32, x=LOGITS.astype(int)),
    ],
    "logits of ±1e4 give the loss that they have; a logit of -inf rules a class out": [
        look.gives("CrossEntropyLoss()(x, [1, 0])", 20000.0, x=FAR),
        look.gives("CrossEntropyLoss()(x, [0, 1])", 0.0, x=FAR),
        look.gives("CrossEntropyLoss()(x, [0, 0])", 10000.0, x=FAR),
        look.gives("CrossEntropyLoss()(x, [2, 1])", LN2 / 2, tolerance=1e-12, x=RULED_OUT),
        look.gives("CrossEntropyLoss()(x, [1, 1])", INF, x=RULED_OUT),
    ],
    "the loss that PyTorch gives with label smoothing": [
        *(look.gives(f"CrossEntropyLoss({e})(x, [0, 2, 3])", y, tolerance=1e-9, x=SMOOTHED) for e, y in LOSSES.items()),
    ],
    "shapes other than (batch, classes) and (batch,) are refused, with both in the message": [
        *(look.raises("CrossEntropyLoss()(x, t)", ValueError, a, b, x=np.ones(a), t=np.ones(b, int)) for a, b in ODD),
    ],
    "a class that does not exist is refused by its number, and targets that are no integers by their dtype": [
        look.raises("CrossEntropyLoss()(x, [0, 7])", ValueError, "7", x=LOGITS),
        look.raises("CrossEntropyLoss()(x, [3, 0])", ValueError, "3", x=LOGITS),
        look.raises("CrossEntropyLoss()(x, [-1, 0])", ValueError, "-1", x=LOGITS),
        look.raises("CrossEntropyLoss()(x, [0.0, 1.0])", TypeError, "float", x=LOGITS),
        look.raises("CrossEntropyLoss()(x, np.array([True, False]))", TypeError, "bool", x=LOGITS),
    ],
    "through the door as CrossEntropy, made from the logits, with log_probabilities and target_probabilities": [
        look.door("CrossEntropyLoss()(x, [1, 0])", "CrossEntropy", *SAVED, x=LOGITS),
        look.saves("CrossEntropyLoss(0.2)(x, [1, 0, 3])", "log_probabilities", "log_shares(x)", x=SMOOTHED),
        look.saves("CrossEntropyLoss(0.2)(x, [1, 0, 3])", "target_probabilities", SPREAD, x=SMOOTHED),
        look.saves("CrossEntropyLoss()(x, [1, 0])", "target_probabilities", "np.eye(3, dtype='f')[[1, 0]]", x=LOGITS),
    ],
}

# Systems


def exact(row: tuple[float, ...]) -> Case:
    """What adding the exponentials in 60-digit arithmetic gives, whatever their size."""
    total = sum((Decimal(v) if v > -INF else Decimal("-Infinity")).exp() for v in row)
    return look.gives("log_sum_exp(v.data)", float(total.ln()), tolerance=1e-12, dtype=np.float64, v=list(row))


CUBE, SUMS = numbers(2, 3, 4), "np.logaddexp.reduce(v, a)"
FAR_ROWS = np.array([[0.0, 1.0], [5000.0, 5001.0], [-5000.0, -5001.0]])

LOG_SUM_EXP = {
    "what adding the exponentials in 60-digit arithmetic gives, whatever their size": [
        *map(exact, ((0.0,), (1.0, 2.0, 3.0), (1000.0, 1000.0), (-1000.0, -1001.0), (1e4, -1e4), (5.0, -INF))),
    ],
    "along any axis, which is dropped, in the dtype of the values; the sum of no chances is 0, whose log is -inf": [
        *(look.gives("log_sum_exp(v.data, axis=a)", SUMS, tolerance=1e-12, v=CUBE, a=a) for a in (0, 1, -1)),
        look.gives("log_sum_exp(v.data)", "np.logaddexp.reduce(v, -1)", tolerance=1e-12, v=CUBE),
        look.gives("log_sum_exp(v.data)", "np.logaddexp.reduce(v, -1)", tolerance=1e-12, v=FAR_ROWS),
        look.gives("log_sum_exp(v.data)", [200.0], dtype=np.float32, v=f32([200, 100])),
        look.gives("log_sum_exp(v.data)", [-INF, LN2], v=[[-INF, -INF], [0.0, 0.0]]),
        look.keeps("log_sum_exp(v.data)", v=numbers(3, 4)),
    ],
}


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


def measured(batch: int, classes: int, itemsize: int = 4, fused: bool = True) -> int:
    """Bytes that a tape keeps when this form of the loss is run."""
    logits = Tensor(np.zeros((batch, classes), f"f{itemsize}"), requires_grad=True)
    function = fused_loss if fused else composed_loss
    return allocated(lambda: run_with_tape(lambda: function(logits, np.arange(batch) % classes)))[1]


SIZES = ((50, 400, 4, True), (50, 400, 4, False), (200, 150, 8, True), (200, 150, 8, False), (80, 300))
LOSS_BYTES = {
    "what a tape keeps when both forms of the loss are run; float32 and fused, if nothing else is said": [
        *(look.gives(f"loss_bytes{sizes}", f"measured{sizes}", tolerance=0.1) for sizes in SIZES),
    ]
}


# Chances that are powers of 1/2, and the bits of the outcomes in the shortest code, as 0, 10, 110 and 111.
CODES = {(0.5, 0.25, 0.125, 0.125): (1, 2, 3, 3), (0.125, 0.5, 0.125, 0.25): (3, 1, 3, 2), (0.25,) * 4: (2, 2, 2, 2)}
HALVES = (0.125, 0.125, 0.25, 0.5)  # in which 3, 3, 2 and 1 bits are the shortest: 1.75 a draw


def ways(p: list[float], q: list[float], draws: int = 10**9) -> float:
    """log of the chance, a draw, that many draws from `q` come in the shares `p`; with q = 1 the number of orderings.

    draws! / Π (draws · p)! orderings, each with the chance Π q^(draws · p).
    """
    shares = [(round(a * draws), b) for a, b in zip(p, q) if a]
    log_ways = math.lgamma(draws + 1) - sum(math.lgamma(count + 1) for count, _ in shares)
    return (log_ways + sum(count * math.log(b) for count, b in shares)) / draws


SHARES = [[0.5, 0.3, 0.2], [0.9, 0.1], [0.1, 0.0, 0.9], [0.01, 0.29, 0.7]]
PAIRS = [([0.5, 0.3, 0.2], [0.2, 0.2, 0.6]), ([0.9, 0.1], [0.1, 0.9]), ([0.2, 0.8, 0.0], [0.3, 0.3, 0.4])]

ENTROPY = {
    "bits that the shortest code takes for a draw, where the chances are powers of 1/2": [
        *(look.gives(f"entropy({p}) / LN2", np.dot(p, bits), tolerance=1e-12) for p, bits in CODES.items()),
        *each(["entropy([0.0625] * 16) / LN2", "entropy([0.5, 0.5]) * 4 / LN2"], 4.0, tolerance=1e-12),
        look.gives("entropy([1.0])", 0.0),
    ],
    "log of the number of orderings that a billion draws can come in, for each draw": [
        *(look.gives(f"entropy({p})", ways(p, [1.0] * len(p)), tolerance=1e-6) for p in SHARES),
        *(look.gives(f"entropy(np.array({p}))", ways(p, [1.0] * len(p)), tolerance=1e-6) for p in SHARES),
    ],
}
KL = {
    "bits a draw that are lost when a code made for q is used for draws from p": [
        *(look.gives(f"kl_divergence({HALVES}, {q})", (np.dot(HALVES, b) - 1.75) * LN2) for q, b in CODES.items()),
    ],
    "a draw's share in the log of the chance that a billion draws from q come in the shares p": [
        *(look.gives(f"kl_divergence({p}, {q})", -ways(p, q), tolerance=1e-6) for p, q in PAIRS),
        *(look.gives(f"kl_divergence(np.array({p}), np.array({q}))", -ways(p, q), tolerance=1e-6) for p, q in PAIRS),
    ],
    "what never happens costs nothing; what was held impossible and happens costs everything; lengths must agree": [
        look.gives("kl_divergence([1.0, 0.0], [0.5, 0.5])", LN2),
        look.gives("kl_divergence([0.5, 0.5], [1.0, 0.0])", INF),
        look.gives("kl_divergence([0.75, 0.25, 0.0], [0.25, 0.75, 0.0])", math.log(3) / 2),
        look.raises("kl_divergence([0.5, 0.5], [0.5, 0.25, 0.25])", ValueError),
        look.raises("kl_divergence([0.5, 0.25, 0.25], [0.5, 0.5])", ValueError),
        look.raises("kl_divergence([1.0], [0.5, 0.5])", ValueError),
    ],
}

test_everything = table(
    *about("log_softmax", LOG_SOFTMAX),
    *about("MSELoss.forward", MSE),
    *about("BinaryCrossEntropyLoss.forward", BCE),
    *about("CrossEntropyLoss.target_probabilities", PROBABILITIES),
    *about("CrossEntropyLoss.forward", CROSS_ENTROPY),
    *about("log_sum_exp", LOG_SUM_EXP),
    *about("loss_bytes", LOSS_BYTES),
    *about("entropy", ENTROPY),
    *about("kl_divergence", KL),
)
