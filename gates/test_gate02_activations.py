"""Gate 02: activations."""

import math
from typing import Any

import numpy as np

from tinytorch import GELU, ReLU, Sigmoid, Softmax, Tanh, Tensor
from tinytorch.core.tensor import result_of
from tinytorch.systems.activations import dead_units, gelu_error, relu_sparsity, saturation_point, sparse_bytes
from workshop.checks import close
from workshop.probes import at_the_door, leaf, numbers
from workshop.tables import Case, Cases, Expression, about, table

look = Cases(globals())
NAN, INF = math.nan, math.inf


def f32(*values: float) -> np.ndarray:
    return np.array(values, np.float32)


def turned(x: Tensor) -> Tensor:
    """`x` transposed, every second row: memory that is not in order."""
    return result_of(None, x.data.T[::2])


# What is expected, in float64


def sigmoid(x: Any) -> np.ndarray:
    return 1 / (1 + np.exp(-np.asarray(x, np.float64)))


def gelu(x: Any) -> np.ndarray:
    """x Φ(x), with the error function of the standard library."""
    cdf = [(1 + math.erf(v / math.sqrt(2))) / 2 for v in np.ravel(x).astype(np.float64)]
    return x * np.reshape(cdf, np.shape(x))


def gelu_by_tanh(x: Any) -> np.ndarray:
    x = np.asarray(x, np.float64)
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


def softmax(x: Any, axis: int = -1) -> np.ndarray:
    weights = np.exp(np.asarray(x, np.float64))
    return weights / weights.sum(axis=axis, keepdims=True)


# Elementwise activations


def calm(text: str, expected: list[float], x: list[float]) -> list[Case]:
    """Right values without an overflow, and without ∞ - ∞, on the way, in float32 and in float64."""

    def check(e: Expression) -> None:
        with np.errstate(over="raise", invalid="raise"):
            result = e.result()
        close(result, expected, e.text, e.given, 1e-6, e.letters["x"].dtype)

    return [look.case(check, text, x=np.array(x, dtype)) for dtype in ("float32", "float64")]


def elementwise(text: str, formula: str, at_zero: float) -> dict[str, list[Case]]:
    """What holds for each of them."""
    arrays = [np.asarray(2 * numbers(*shape)) for shape in ((7,), (2, 3, 4), (), (1, 1), (0,), (0, 3), (2, 5000))]
    singles = [numbers(5).astype(np.float32), f32(0.5)[0], [-2, 0, 3]]
    return {
        f"{text} of each element, for every shape and layout; floats keep their dtype, integers become float32": [
            *(look.gives(text, formula, tolerance=1e-12, dtype=np.float64, x=x) for x in arrays),
            look.gives(text.replace("(x)", "(turned(x))"), f"({formula}).T[::2]", tolerance=1e-12, x=2 * numbers(6, 8)),
            *(look.gives(text, formula, tolerance=1e-6, dtype=np.float32, x=np.asarray(x)) for x in singles),
        ],
        f"{text} keeps NaN and leaves its neighbours alone; it does not change x, nor use its memory": [
            look.gives(text, [NAN, at_zero], x=[NAN, 0.0]),
            look.gives(text, NAN, x=np.array(NAN)),
            *(look.keeps(text, x=x) for x in ([-1.5, 0.0, 2.0], [1.0, 2.0, 3.0], f32(1, -2))),
        ],
    }


SIGMOID = {
    **elementwise("Sigmoid()(x)", "sigmoid(x)", 0.5),
    "0 and 1 far out, with no overflow on the way": [
        look.gives("Sigmoid()(x)", [0.0, 0.5, 1.0], dtype=np.float32, x=f32(-1000, 0, 1000)),
        look.gives("Sigmoid()(x)", [0.1192029, 0.8807971], x=[-2.0, 2.0]),
        *calm("Sigmoid()(x)", [0.5, 0.8807971, 1.0, 1.0], [0.0, 2.0, 1000.0, 1e4]),
        *calm("Sigmoid()(x)", [0.0, 0.0, 0.1192029, 0.5], [-1e4, -1000.0, -2.0, 0.0]),
    ],
    "exact to the last digits where σ is tiny, so that its logarithm is too": [
        look.gives("Sigmoid()(x).data / sigmoid(x.data)", np.ones(5), tolerance=1e-12, x=[-1.0, -10, -20, -40, -80]),
        look.gives("Sigmoid()(x).data / sigmoid(x.data)", np.ones(5), x=f32(-1, -10, -20, -40, -80)),
        look.gives("Sigmoid()(x).data / sigmoid(x.data)", np.ones(2), tolerance=1e-12, x=[-700.0, -350.0]),
    ],
    "through the door as Sigmoid, with the output saved": [
        look.door("Sigmoid()(x)", "Sigmoid", "output", x=numbers(2, 3)),
        look.saves("Sigmoid()(x)", "output", "sigmoid(x)", x=numbers(2, 3)),
    ],
}

RELU = {
    **elementwise("ReLU()(x)", "np.maximum(x, 0)", 0.0),
    "numbers above 0 pass unchanged, tiny, large or infinite, and no others": [
        look.gives("ReLU()(x)", [0.0, 0.0, 0.5, 100.0], x=[-3.0, 0.0, 0.5, 100.0]),
        look.gives("ReLU()(x).data * 1e20", [0.0, 0.0, 1.0, 2.0], x=[-1e-20, 0.0, 1e-20, 2e-20]),
        look.gives("ReLU()(x)", [0.0, 7.0, 1e30, INF], x=f32(-1e30, 7.0, 1e30, INF)),
        look.gives("ReLU()(x)", [0.0, 3.0], x=[-INF, 3.0]),
    ],
    "through the door as ReLU, made from x itself": [
        look.door("ReLU()(x)", "ReLU", x=[-1.0, 2.0]),
        look.door("ReLU()(x)", "ReLU", x=[1.0, 2.0]),
    ],
}

TANH = {
    **elementwise("Tanh()(x)", "np.tanh(x)", 0.0),
    "±1 far out, with no overflow on the way": [
        look.gives("Tanh()(x)", [0.0, 0.9640276, 1.0, 1.0], x=[0.0, 2.0, 50.0, 1000.0]),
        look.gives("Tanh()(x)", [-1.0, -1.0, -0.9640276, 0.0], x=[-1000.0, -50.0, -2.0, 0.0]),
        *calm("Tanh()(x)", [0.0, 0.9640276, 1.0, 1.0], [0.0, 2.0, 1000.0, 1e4]),
        *calm("Tanh()(x)", [-1.0, -1.0, -0.9640276, 0.0], [-1e4, -1000.0, -2.0, 0.0]),
    ],
    "exact near 0: tanh(1e-10) is 1e-10, where 1 minus something would have lost it": [
        look.gives("Tanh()(x).data / np.tanh(x.data)", np.ones(3), tolerance=1e-12, x=[1e-10, -1e-5, 1e-3]),
        look.gives("Tanh()(x).data / np.tanh(x.data)", np.ones(2), tolerance=1e-12, x=[1e-20, -1e-15]),
        look.gives("Tanh()(x).data / np.tanh(x.data)", np.ones(2), x=f32(1e-10, -1e-5)),
    ],
    "through the door as Tanh, with the output saved": [
        look.door("Tanh()(x)", "Tanh", "output", x=numbers(2, 3)),
        look.saves("Tanh()(x)", "output", "np.tanh(x)", x=numbers(2, 3)),
    ],
}

GELUS = {
    **elementwise("GELU()(x)", "gelu(x)", 0.0),
    **elementwise('GELU("tanh")(x)', "gelu_by_tanh(x)", 0.0),
    "the two forms differ in the fourth digit, and each is what its name says": [
        look.gives("(GELU()(x).data - 0.841) * 1e4", [3.447461], x=[1.0]),
        look.gives('(GELU("tanh")(x).data - 0.841) * 1e4', [1.919906], x=[1.0]),
        look.gives("(GELU()(x).data + 0.1586) * 1e4", [-0.552539], x=[-1.0]),
        look.gives('(GELU("tanh")(x).data + 0.1586) * 1e4', [-2.080094], x=[-1.0]),
    ],
    "x or 0 far out, in both forms": [
        look.gives("GELU()(x)", [0.0, 0.0, 100.0, 1000.0], dtype=np.float32, x=f32(-1000, -100, 100, 1000)),
        look.gives('GELU("tanh")(x)', [0.0, 0.0, 100.0, 1000.0], dtype=np.float32, x=f32(-1000, -100, 100, 1000)),
    ],
    "through the door as GELU; what is saved says in which form": [
        look.door("GELU()(x)", "GELU", "approximate", x=numbers(3)),
        look.saves("GELU()(x)", "approximate", '"none"', x=numbers(3)),
        look.saves('GELU("tanh")(x)', "approximate", '"tanh"', x=numbers(3)),
    ],
}

# Softmax

ROWS = np.array([[1000.0, 1001.0], [0.0, 1.0], [-2000.0, -2000.0]])
SHARES = np.array([[0.26894142, 0.73105858], [0.26894142, 0.73105858], [0.5, 0.5]])


def along(*shape: int) -> list[Case]:
    """Softmax along each axis of an array of this shape, counted from the front and from the end."""
    x, dims = 2 * numbers(*shape), range(-len(shape), len(shape))
    return [look.gives("Softmax(d)(x)", "softmax(x, d)", tolerance=1e-12, dtype=np.float64, x=x, d=d) for d in dims]


def after(layer: Any, other: Tensor, x: Tensor) -> Tensor:
    """`layer(x)`, after the same layer has met a tensor of another shape."""
    layer(other)
    return layer(x)


def saved_axis(e: Expression) -> None:
    """The saved dim, counted from either end, is the axis along which the saved output sums to 1."""
    x = leaf(e.letters["x"])
    saved = at_the_door(lambda: e(x), e.given)[2]
    sums = np.sum(saved["output"], axis=saved["dim"])
    close(sums, np.ones_like(sums), "the saved output, summed along the saved dim")


SOFTMAX = {
    "exp(x) / Σ exp(x), the sum along any one axis; a dim that x does not have is refused": [
        *(along(4) + along(3, 3) + along(2, 3, 4) + along(1, 5) + along(5, 1)),
        look.gives("Softmax(0)(turned(x))", "softmax(x.T[::2], 0)", tolerance=1e-12, x=numbers(4, 6)),
        look.raises("Softmax(2)(x)", (ValueError, IndexError), x=numbers(2, 3)),
        look.raises("Softmax(-3)(x)", (ValueError, IndexError), x=numbers(2, 3)),
    ],
    "along the last axis by default, for every tensor anew": [
        look.gives("Softmax()(x)", [[0.26894142, 0.73105858], [0.5, 0.5]], x=[[1.0, 2.0], [0.0, 0.0]]),
        look.gives("after(Softmax(), y, x)", "softmax(x)", tolerance=1e-12, y=numbers(2, 3), x=numbers(4)),
        look.gives("after(Softmax(), y, x)", "softmax(x)", tolerance=1e-12, y=numbers(4), x=numbers(2, 2, 2)),
    ],
    "scores of ±1000 give what their differences give, row by row, with no overflow on the way": [
        *calm("Softmax()(x)", [0.26894142, 0.73105858], [1000.0, 1001.0]),
        *calm("Softmax()(x)", [0.73105858, 0.26894142], [-1000.0, -1001.0]),
        *calm("Softmax()(x)", [0.0, 0.0, 1.0], [-1e4, 0.0, 1e4]),
        *calm("Softmax()(x)", [0.5, 0.5], [-1e30, -1e30]),
        look.gives("Softmax()(x)", SHARES, x=ROWS),
        look.gives("Softmax(0)(x)", SHARES.T, x=ROWS.T),
    ],
    "a weight of 1e-30 is one, and not 0; -inf gets exactly 0; a NaN makes its own row NaN and no other": [
        look.gives("Softmax()(x).data * [1, 1e30]", [1.0, 1.0], tolerance=1e-12, x=[0.0, -69.07755278982137]),
        look.gives("Softmax()(x)", [0.26894142, 0.0, 0.73105858], x=[0.0, -INF, 1.0]),
        look.gives("Softmax()(x)", [[NAN, NAN], [0.26894142, 0.73105858]], x=[[NAN, 1.0], [0.0, 1.0]]),
    ],
    "floats keep their dtype, integers become float32; a single number becomes 1, nothing stays nothing": [
        look.gives("Softmax()(x)", "softmax(x)", tolerance=1e-6, dtype=np.float32, x=numbers(2, 3).astype(np.float32)),
        look.gives("Softmax()(x)", "softmax(x)", tolerance=1e-6, dtype=np.float32, x=[0, 1]),
        look.gives("Softmax()(x)", 1.0, dtype=np.float32, x=np.array(3.0, np.float32)),
        *(look.gives("Softmax()(x)", "x", dtype=np.float64, x=np.zeros(shape)) for shape in ((0, 3), (3, 0), (0,))),
    ],
    "the input is not changed, nor its memory used": [
        look.keeps("Softmax()(x)", x=[-1.5, 0.0, 2.0]),
        look.keeps("Softmax(0)(x)", x=numbers(2, 3)),
    ],
    "through the door as Softmax, with output and dim saved": [
        look.door("Softmax(1)(x)", "Softmax", "output", "dim", x=numbers(2, 3, 4)),
        look.saves("Softmax(1)(x)", "output", "softmax(x, 1)", x=numbers(2, 3, 4)),
        look.saves("Softmax()(x)", "output", "softmax(x)", x=numbers(2, 3, 4)),
        look.case(saved_axis, "Softmax(1)(x)", x=numbers(2, 3, 4)),
        look.case(saved_axis, "Softmax()(x)", x=numbers(2, 3, 4)),
    ],
}

# Systems


def counted_zeros(mean: float, std: float) -> float:
    """The share of zeros in 200,000 random numbers after max(x, 0)."""
    return float(np.mean(np.maximum(np.random.default_rng(1).normal(mean, std, 200_000), 0) == 0))


def stored(x: np.ndarray, index: str) -> int:
    """The nbytes of the values and the positions from which the whole can be put together again."""
    positions = np.flatnonzero(x).astype(index)
    return positions.nbytes + np.ravel(x)[positions].nbytes


def dead(x: np.ndarray) -> int:
    """Units that are 0 for every input, counted one by one."""
    rows = x.reshape(-1, x.shape[-1])
    return sum(all(row[unit] == 0 for row in rows) for unit in range(x.shape[-1]))


def measured_saturation(slope: float) -> float:
    """Where the slope measured on the sigmoid's curve falls to the one asked for."""
    x = np.linspace(0, 40, 400_001)
    slopes = np.diff(-np.expm1(-x) / (1 + np.exp(-x)) / 2) / np.diff(x)  # σ - 1/2, which keeps its digits
    return float(((x[1:] + x[:-1]) / 2)[np.argmax(slopes < slope)])


def worst(low: float, high: float) -> np.ndarray:
    """Where GELU's two forms differ most, and by how much · 1e4, of 10,001 points."""
    x = np.linspace(low, high, 10_001)
    difference = np.abs(gelu(x) - gelu_by_tanh(x))
    return np.array([x[difference.argmax()], difference.max() * 1e4])


def sparse(shape: tuple[int, ...], dtype: str, index: str) -> Case:
    x = np.maximum(2 * numbers(*shape), 0).astype(dtype)
    return look.equals("sparse_bytes(x, index_bytes)", stored(x, index), x=x, index_bytes=np.dtype(index).itemsize)


def units(*shape: int) -> Case:
    x = np.maximum(2 * numbers(*shape, seed=3) - 0.5, 0)
    x[..., 1:3] = 0.0
    return look.equals("dead_units(x)", dead(x), x=x)


PAIRS = ((0.0, 1.0), (1.0, 1.0), (-1.0, 1.0), (1.0, 2.0), (-0.3, 0.1), (4.0, 0.5))
SLOPES = (0.24, 0.1, 0.01, 1e-4)
ENDS = ((0.0, 6.0), (0.0, 2.0), (-1.0, 0.0), (-6.0, -2.0), (0.2, 0.4))

RELU_SPARSITY = {
    "the share of zeros counted in 200,000 random numbers after max(x, 0)": [
        *(look.gives("relu_sparsity(m, s)", "counted_zeros(m, s)", tolerance=0.004, m=m, s=s) for m, s in PAIRS),
        look.raises("relu_sparsity(0.5, 0.0)", ValueError),
        look.raises("relu_sparsity(1.0, -2.0)", ValueError),
    ]
}
SPARSE_BYTES = {
    "the nbytes of the values and the positions from which the whole can be put together again": [
        sparse((6, 7), "float32", "int32"),
        sparse((6, 7), "float64", "int32"),
        sparse((40,), "float32", "int64"),
        sparse((3, 4, 5), "float32", "int16"),
        sparse((0,), "float64", "int32"),
        look.equals("sparse_bytes(x)", 16, x=f32(0, -1, NAN, -0.0)),
        look.equals("sparse_bytes(x)", 24, x=[[0.0, -1.0], [NAN, -0.0]]),
    ]
}
DEAD_UNITS = {
    "units that are 0 for every input, counted one by one": [
        *(units(50, 6), units(1, 8), units(4, 5, 7), units(9)),
        look.equals("dead_units(x)", 1, x=[[1.0, 0.0], [-1.0, 0.0]]),
        look.equals("dead_units(x)", 0, x=[[1e-20, 0.5, -2.0]]),
    ]
}
SATURATION_POINT = {
    "where the slope measured on the sigmoid's curve falls to the one asked for; no other is taken": [
        *(look.gives("saturation_point(s)", "measured_saturation(s)", tolerance=2e-4, s=s) for s in SLOPES),
        look.gives("saturation_point(0.25)", 0.0, tolerance=1e-7),
        look.gives("sigmoid(-saturation_point(1e-20)) * 1e20", 1.0, tolerance=1e-6),
        *(look.raises("saturation_point(s)", ValueError, s=s) for s in (0.0, -0.1, 0.3)),
    ]
}
GELU_ERROR = {
    "where the two forms differ most and by how much, compared with the standard library's erf": [
        *(
            look.gives("np.multiply(gelu_error(a, b), (1, 1e4))", "worst(a, b)", tolerance=1e-3, a=a, b=b)
            for a, b in ENDS
        ),
        look.gives("gelu_error(0.0, 1e4)[0]", 3.0, tolerance=1e-5),
        look.gives("gelu_error(0.0, 1.0, points=2)[0]", 1.0),
        look.gives("gelu_error(0.5, 0.6, points=1)[0]", 0.5),
    ]
}

test_everything = table(
    *about("Sigmoid.forward", SIGMOID),
    *about("ReLU.forward", RELU),
    *about("Tanh.forward", TANH),
    *about("GELU.forward", GELUS),
    *about("Softmax.forward", SOFTMAX),
    *about("relu_sparsity", RELU_SPARSITY),
    *about("sparse_bytes", SPARSE_BYTES),
    *about("dead_units", DEAD_UNITS),
    *about("saturation_point", SATURATION_POINT),
    *about("gelu_error", GELU_ERROR),
)
