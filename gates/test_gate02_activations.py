"""Gate 02: activations."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch import GELU, ReLU, Sigmoid, Softmax, Tanh, Tensor
from tinytorch.core.tensor import result_of
from tinytorch.systems.activations import dead_units, gelu_error, relu_sparsity, saturation_point, sparse_bytes
from workshop.checks import close, equal, exercise, holds, raises
from workshop.probes import at_the_door, through_door

NAN, INF = math.nan, math.inf


def numbers(*shape: int, seed: int = 0, scale: float = 2.0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape) * scale


def view(array: np.ndarray) -> Tensor:
    """A Tensor with the memory of `array`, strides and all."""
    return result_of(None, array)


def check_values(activation: Any, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    """float64 of every shape, in every layout."""
    for shape in ((7,), (2, 3, 4), (), (1, 1), (0,), (0, 3)):
        x = numbers(*shape)
        close(activation(Tensor(x)), expected(x), f"{activation}(x)", f"x of shape {shape}, float64", 1e-12, np.float64)
    x = numbers(6, 8)
    close(
        activation(view(x.T[::2])), expected(x.T[::2]), f"{activation}(x)", "x transposed and sliced", 1e-12, np.float64
    )


def check_dtypes(activation: Any, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    """float32 stays float32, integers become float32."""
    x = numbers(5).astype(np.float32)
    close(activation(Tensor(x)), expected(x.astype(np.float64)), f"{activation}(x)", "x float32", 1e-6, np.float32)
    single = activation(Tensor(0.5))
    close(single, expected(np.array(0.5)), f"{activation}(x)", "x = Tensor(0.5), float32", 1e-6, np.float32)
    whole = np.array([-2, 0, 3])
    result = activation(Tensor(whole))
    close(result, expected(whole.astype(float)), f"{activation}(x)", "x = Tensor([-2, 0, 3])", 1e-6, np.float32)


def check_input_alone(activation: Any) -> None:
    """The input keeps its values, and the result has memory of its own."""
    for values in ([-1.5, 0.0, 2.0], [1.0, 2.0, 3.0]):
        x = Tensor(values)
        result = activation(x)
        close(x, values, "x afterwards", f"x = {values}, {activation}(x)", 0.0)
        holds(not np.shares_memory(result.data, x.data), "new memory", "x's own", f"x = {values}, {activation}(x)")


def check_no_overflow(activation: Any, values: list[float], expected: list[float]) -> None:
    """Right values, and no overflow or ∞ - ∞ on the way, in float32 and in float64."""
    for dtype in ("float32", "float64"):
        with np.errstate(over="raise", invalid="raise"):
            result = activation(Tensor(values, dtype=dtype))
        close(result, expected, f"{activation}(x)", f"x = {values}, {dtype}", 1e-6, np.dtype(dtype))


def check_nan(activation: Any, at_zero: float) -> None:
    close(activation(Tensor([NAN, 0.0])), [NAN, at_zero], f"{activation}(x)", "x = [nan, 0.]")
    close(activation(Tensor(NAN)), NAN, f"{activation}(x)", "x = Tensor(nan), shape ()")


def check_output_saved(activation: Any, op: str, expected: np.ndarray, x: np.ndarray) -> None:
    tensor = Tensor(x, requires_grad=True)
    given = f"{activation}(x)"
    through_door(lambda: activation(tensor), op, [tensor], ["output"], given=given)
    output = at_the_door(lambda: activation(tensor), given)[2]["output"]
    holds(not isinstance(output, Tensor), "an array as output", "a Tensor", given)
    close(output, expected, "the saved output", given, 1e-12)


# Sigmoid


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


@exercise("Sigmoid.forward")
def test_sigmoid() -> None:
    """1 / (1 + exp(-x)) of each element, for every shape"""
    check_values(Sigmoid(), sigmoid)
    close(Sigmoid()(Tensor([-2.0, 0.0, 2.0])), [0.1192029, 0.5, 0.8807971], "Sigmoid()(x)", "x = [-2, 0, 2]")


@exercise("Sigmoid.forward")
def test_sigmoid_dtypes() -> None:
    """float32 and float64 stay what they are, integers become float32"""
    check_dtypes(Sigmoid(), sigmoid)


@exercise("Sigmoid.forward")
def test_sigmoid_does_not_overflow() -> None:
    """at ±1000 it is 0 and 1, with no overflow on the way"""
    with np.errstate(all="ignore"):
        result = Sigmoid()(Tensor([-1000.0, 0.0, 1000.0]))
    close(result, [0.0, 0.5, 1.0], "Sigmoid()(x)", "x = [-1000, 0, 1000], float32", 1e-6, np.float32)
    check_no_overflow(Sigmoid(), [0.0, 1000.0, 1e4], [0.5, 1.0, 1.0])
    check_no_overflow(Sigmoid(), [-1e4, -1000.0, 0.0], [0.0, 0.0, 0.5])


@exercise("Sigmoid.forward")
def test_small_sigmoids_are_exact() -> None:
    """σ(x) is right to the last digits where it is tiny, so that its logarithm is too"""
    x = np.array([-1.0, -10.0, -20.0, -40.0, -80.0])
    exact = np.exp(x) / (1 + np.exp(x))
    for dtype, tolerance in (("float64", 1e-12), ("float32", 1e-5)):
        ratio = Sigmoid()(Tensor(x, dtype=dtype)).data / exact
        close(ratio, np.ones(5), "Sigmoid()(x) / exact value", f"x = [-1, -10, -20, -40, -80], {dtype}", tolerance)


@exercise("Sigmoid.forward")
def test_sigmoid_nan() -> None:
    """NaN stays NaN, and its neighbours are what they would be without it"""
    check_nan(Sigmoid(), 0.5)


@exercise("Sigmoid.forward")
def test_sigmoid_leaves_its_input() -> None:
    """the input is not changed, nor its memory used"""
    check_input_alone(Sigmoid())


@exercise("Sigmoid.forward")
def test_sigmoid_through_the_door() -> None:
    """the result comes through the door, with the output saved"""
    x = numbers(2, 3)
    check_output_saved(Sigmoid(), "Sigmoid", sigmoid(x), x)


# ReLU


@exercise("ReLU.forward")
def test_relu() -> None:
    """the larger of x and 0, for every shape"""
    check_values(ReLU(), lambda x: np.maximum(x, 0))
    values, expected = [-3.0, -1e-20, 0.0, 1e-20, 0.5, 100.0], [0.0, 0.0, 0.0, 1e-20, 0.5, 100.0]
    close(ReLU()(Tensor(values)), expected, "ReLU()(x)", f"x = {values}")
    close(ReLU()(Tensor([1e-20])).data * 1e20, [1.0], "ReLU()(x) · 1e20", "x = [1e-20]")


@exercise("ReLU.forward")
def test_relu_has_no_ceiling() -> None:
    """large numbers, and infinite ones, pass unchanged"""
    values = [-INF, -1e30, 7.0, 1e30, INF]
    close(ReLU()(Tensor(values)), [0.0, 0.0, 7.0, 1e30, INF], "ReLU()(x)", f"x = {values}")


@exercise("ReLU.forward")
def test_relu_dtypes() -> None:
    """float32 and float64 stay what they are, integers become float32"""
    check_dtypes(ReLU(), lambda x: np.maximum(x, 0))


@exercise("ReLU.forward")
def test_relu_nan() -> None:
    """NaN stays NaN: a network that went wrong must not look healthy"""
    check_nan(ReLU(), 0.0)


@exercise("ReLU.forward")
def test_relu_leaves_its_input() -> None:
    """the input is not changed, nor its memory used"""
    check_input_alone(ReLU())


@exercise("ReLU.forward")
def test_relu_through_the_door() -> None:
    """the result comes through the door, made from x itself"""
    for values in ([-1.0, 2.0], [1.0, 2.0]):
        x = Tensor(values, requires_grad=True)
        through_door(lambda: ReLU()(x), "ReLU", [x], given=f"ReLU()(x), x = {values}")
        at_the_door(lambda: ReLU()(x), f"ReLU()(x), x = {values}")


# Tanh


@exercise("Tanh.forward")
def test_tanh() -> None:
    """tanh of each element, for every shape"""
    check_values(Tanh(), np.tanh)
    close(Tanh()(Tensor([-1.0, 0.0, 1.0])), [-0.7615942, 0.0, 0.7615942], "Tanh()(x)", "x = [-1, 0, 1]")


@exercise("Tanh.forward")
def test_tanh_dtypes() -> None:
    """float32 and float64 stay what they are, integers become float32"""
    check_dtypes(Tanh(), np.tanh)


@exercise("Tanh.forward")
def test_tanh_does_not_overflow() -> None:
    """at ±1000 it is ±1, with no overflow on the way"""
    check_no_overflow(Tanh(), [-1e4, -1000.0, 0.0, 1000.0, 1e4], [-1.0, -1.0, 0.0, 1.0, 1.0])


@exercise("Tanh.forward")
def test_small_tanhs_are_exact() -> None:
    """tanh(1e-10) is 1e-10, where 1 minus something would have lost it"""
    x = np.array([1e-10, -1e-5])
    ratio = Tanh()(Tensor(x)).data / (x - x**3 / 3)  # the series; its next term, 2/15 x⁵, is far below the last digit
    close(ratio, [1.0, 1.0], "Tanh()(x) / exact value", "x = [1e-10, -1e-5]", 1e-12)


@exercise("Tanh.forward")
def test_tanh_nan() -> None:
    """NaN stays NaN, and its neighbours are what they would be without it"""
    check_nan(Tanh(), 0.0)


@exercise("Tanh.forward")
def test_tanh_leaves_its_input() -> None:
    """the input is not changed, nor its memory used"""
    check_input_alone(Tanh())


@exercise("Tanh.forward")
def test_tanh_through_the_door() -> None:
    """the result comes through the door, with the output saved"""
    x = numbers(2, 3)
    check_output_saved(Tanh(), "Tanh", np.tanh(x), x)


# GELU


def gelu(x: np.ndarray) -> np.ndarray:
    """x Φ(x), with the error function of the standard library."""
    cdf = np.array([(1 + math.erf(v / math.sqrt(2))) / 2 for v in np.ravel(x)]).reshape(np.shape(x))
    return x * cdf


def gelu_by_tanh(x: np.ndarray) -> np.ndarray:
    return x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))) / 2


@exercise("GELU.forward")
def test_gelu() -> None:
    """x Φ(x) by the error function, unless told otherwise"""
    check_values(GELU(), gelu)
    x = numbers(2, 5000)
    close(GELU()(Tensor(x)), gelu(x), "GELU()(x)", "x of shape (2, 5000), float64", 1e-12, np.float64)
    values = [0.8413447460685429, -0.15865525393145707]
    close(GELU()(Tensor(np.array([1.0, -1.0]))), values, "GELU()(x)", "x = [1, -1]", 1e-12)


@exercise("GELU.forward")
def test_gelu_by_tanh() -> None:
    """approximate="tanh" is the form with 0.044715 x³"""
    check_values(GELU("tanh"), gelu_by_tanh)
    values = [0.8411919906082768, -0.15880800939172324]
    close(GELU("tanh")(Tensor(np.array([1.0, -1.0]))), values, 'GELU("tanh")(x)', "x = [1, -1]", 1e-12)


@exercise("GELU.forward")
def test_the_forms_differ() -> None:
    """the two forms differ in the fourth digit, and each is what its name says"""
    at_one = [float(GELU(form)(Tensor(np.array(1.0))).data) for form in ("none", "tanh")]
    fourth = (np.array(at_one) - 0.841) * 1e4
    close(fourth, [3.447461, 1.919906], "(GELU(form)(1.0) - 0.841) · 1e4", 'for the forms "none" and "tanh"')


@exercise("GELU.forward")
def test_gelu_dtypes() -> None:
    """float32 and float64 stay what they are, integers become float32, in both forms"""
    check_dtypes(GELU(), gelu)
    check_dtypes(GELU("tanh"), gelu_by_tanh)


@exercise("GELU.forward")
def test_gelu_far_out() -> None:
    """at ±1000 it is x or 0, with no overflow on the way, in both forms"""
    values, expected = [-1000.0, -100.0, 0.0, 100.0, 1000.0], [0.0, 0.0, 0.0, 100.0, 1000.0]
    check_no_overflow(GELU(), values, expected)
    check_no_overflow(GELU("tanh"), values, expected)


@exercise("GELU.forward")
def test_gelu_dips_below_zero() -> None:
    """unlike ReLU it is negative left of 0, most at -0.7518"""
    x = np.array([-3.0, -0.7517916, -0.1])
    close(GELU()(Tensor(x)), [-0.004049694, -0.1699712, -0.04601722], "GELU()(x)", "x = [-3, -0.7517916, -0.1]", 1e-6)


@exercise("GELU.forward")
def test_gelu_nan() -> None:
    """NaN stays NaN in both forms"""
    check_nan(GELU(), 0.0)
    check_nan(GELU("tanh"), 0.0)


@exercise("GELU.forward")
def test_gelu_leaves_its_input() -> None:
    """the input is not changed, nor its memory used"""
    check_input_alone(GELU())
    check_input_alone(GELU("tanh"))


@exercise("GELU.forward")
def test_gelu_through_the_door() -> None:
    """the result comes through the door, and what is saved says in which form"""
    for form in ("none", "tanh"):
        x = Tensor(numbers(3), requires_grad=True)
        given = f'GELU("{form}")(x)'
        through_door(lambda: GELU(form)(x), "GELU", [x], ["approximate"], given=given)
        equal(at_the_door(lambda: GELU(form)(x), given)[2]["approximate"], form, "the saved approximate", given)


# Softmax


def softmax(x: np.ndarray, axis: int) -> np.ndarray:
    weights = np.exp(x)
    return weights / weights.sum(axis=axis, keepdims=True)


@exercise("Softmax.forward")
def test_softmax() -> None:
    """exp(x) / Σ exp(x), the sum along any one axis"""
    for shape in ((4,), (3, 3), (2, 3, 4), (1, 5), (5, 1)):
        x = numbers(*shape)
        for dim in range(-len(shape), len(shape)):
            given = f"x of shape {shape}, float64"
            close(Softmax(dim)(Tensor(x)), softmax(x, dim), f"Softmax(dim={dim})(x)", given, 1e-12, np.float64)
    expected = [[0.2689414, 0.7310586], [0.5, 0.5]]
    close(Softmax()(Tensor([[1.0, 2.0], [0.0, 0.0]])), expected, "Softmax()(x)", "x = [[1, 2], [0, 0]]")
    turned = numbers(4, 6).T[::2]
    close(
        Softmax(0)(view(turned)), softmax(turned, 0), "Softmax(dim=0)(x)", "x transposed and sliced", 1e-12, np.float64
    )


@exercise("Softmax.forward")
def test_softmax_sums_to_one() -> None:
    """the last axis is meant by default, and sums to 1"""
    result = Softmax()(Tensor(numbers(4, 7)))
    close(result.data.sum(axis=1), np.ones(4), "the sums of the rows", "Softmax()(x), x (4, 7)", 1e-12)
    close(Softmax()(Tensor([[5.0], [-3.0]])), [[1.0], [1.0]], "Softmax()(x)", "x = [[5], [-3]]")
    once = Softmax()
    for shape in ((2, 3), (4,), (2, 2, 2)):
        total = once(Tensor(numbers(*shape))).data.sum(axis=-1)
        given = f"one Softmax() for several tensors, now of shape {shape}"
        close(total, np.ones(shape[:-1]), "sums along the last axis", given, 1e-12)


@exercise("Softmax.forward")
def test_softmax_does_not_overflow() -> None:
    """scores of ±1000 give what their differences give, with no overflow on the way"""
    check_no_overflow(Softmax(), [1000.0, 1001.0], [0.26894142, 0.73105858])
    check_no_overflow(Softmax(), [-1000.0, -1001.0], [0.73105858, 0.26894142])
    check_no_overflow(Softmax(), [-1e4, 0.0, 1e4], [0.0, 0.0, 1.0])
    check_no_overflow(Softmax(), [-1e30, -1e30], [0.5, 0.5])


@exercise("Softmax.forward")
def test_softmax_rows_do_not_meet() -> None:
    """each row takes off its own largest element: one with small scores survives beside one with large ones"""
    rows, expected = [[1000.0, 1001.0], [0.0, 1.0], [-2000.0, -2000.0]], [[0.26894142, 0.73105858]] * 2 + [[0.5, 0.5]]
    close(Softmax()(Tensor(rows)), expected, "Softmax()(x)", f"x = {rows}")
    close(Softmax(0)(Tensor(np.array(rows).T)), np.array(expected).T, "Softmax(dim=0)(x)", f"x = {rows}, transposed")


@exercise("Softmax.forward")
def test_small_weights_are_exact() -> None:
    """a weight of 1e-30 is one, and not 0"""
    ratio = Softmax()(Tensor(np.array([0.0, -69.07755278982137]))).data / np.array([1.0, 1e-30])
    close(ratio, [1.0, 1.0], "Softmax()(x) / exact value", "x = [0, ln(1e-30)], float64", 1e-12)


@exercise("Softmax.forward")
def test_softmax_masks() -> None:
    """-inf gets exactly 0, and the others share the rest"""
    close(Softmax()(Tensor([0.0, -INF, 0.0])), [0.5, 0.0, 0.5], "Softmax()(x)", "x = [0, -inf, 0]")


@exercise("Softmax.forward")
def test_softmax_dtypes() -> None:
    """float32 and float64 stay what they are, integers become float32"""
    x = numbers(2, 3).astype(np.float32)
    close(Softmax()(Tensor(x)), softmax(x.astype(np.float64), -1), "Softmax()(x)", "x float32", 1e-6, np.float32)
    close(Softmax()(Tensor([0, 0])), [0.5, 0.5], "Softmax()(x)", "x = Tensor([0, 0])", dtype=np.float32)


@exercise("Softmax.forward")
def test_softmax_of_little() -> None:
    """a single number becomes 1, nothing stays nothing"""
    close(Softmax()(Tensor(3.0)), 1.0, "Softmax()(x)", "x = Tensor(3.0), shape ()", dtype=np.float32)
    for shape in ((0, 3), (3, 0), (0,)):
        close(
            Softmax()(Tensor(np.zeros(shape))), np.zeros(shape), "Softmax()(x)", f"x of shape {shape}", dtype=np.float64
        )


@exercise("Softmax.forward")
def test_softmax_nan() -> None:
    """a NaN makes its row NaN, and leaves the other rows alone"""
    close(
        Softmax()(Tensor([[NAN, 1.0], [0.0, 0.0]])), [[NAN, NAN], [0.5, 0.5]], "Softmax()(x)", "x = [[nan, 1], [0, 0]]"
    )


@exercise("Softmax.forward")
def test_softmax_of_an_axis_that_is_not_there() -> None:
    """a dim that x does not have is refused"""
    raises((ValueError, IndexError), lambda: Softmax(2)(Tensor(numbers(2, 3))), "Softmax(dim=2)(x), x (2, 3)", ["2"])
    raises((ValueError, IndexError), lambda: Softmax(-3)(Tensor(numbers(2, 3))), "Softmax(dim=-3)(x), x (2, 3)", ["-3"])


@exercise("Softmax.forward")
def test_softmax_leaves_its_input() -> None:
    """the input is not changed, nor its memory used"""
    check_input_alone(Softmax())


@exercise("Softmax.forward")
def test_softmax_through_the_door() -> None:
    """the result comes through the door, with output and dim saved"""
    x = Tensor(numbers(2, 3, 4), requires_grad=True)
    for dim in (1, -1):
        given = f"Softmax(dim={dim})(x), x (2, 3, 4)"
        through_door(lambda: Softmax(dim)(x), "Softmax", [x], ["output", "dim"], given=given)
        saved = at_the_door(lambda: Softmax(dim)(x), given)[2]
        holds(not isinstance(saved["output"], Tensor), "an array as output", "a Tensor", given)
        close(saved["output"], softmax(x.data, dim), "the saved output", given, 1e-12)
        sums = np.sum(saved["output"], axis=saved["dim"])
        close(sums, np.ones_like(sums), "the saved output, summed along the saved dim", given, 1e-12)


# Systems


@exercise("relu_sparsity")
def test_relu_sparsity() -> None:
    """the share of zeros counted in 200,000 random numbers after max(x, 0)"""
    for mean, std in ((0.0, 1.0), (1.0, 1.0), (-1.0, 1.0), (1.0, 2.0), (-0.3, 0.1), (4.0, 0.5)):
        x = np.random.default_rng(1).normal(mean, std, 200_000)
        counted = float(np.mean(np.maximum(x, 0) == 0))
        answer = relu_sparsity(mean, std)
        close(answer, counted, "relu_sparsity", f"mean {mean}, std {std} (expected: counted)", tolerance=0.004)


@exercise("relu_sparsity")
def test_relu_sparsity_refuses() -> None:
    """a standard deviation that is not positive is refused, with its value"""
    raises(ValueError, lambda: relu_sparsity(0.0, 0.0), "relu_sparsity(0.0, 0.0)", ["0.0"])
    raises(ValueError, lambda: relu_sparsity(1.0, -2.0), "relu_sparsity(1.0, -2.0)", ["-2.0"])


@exercise("sparse_bytes")
def test_sparse_bytes() -> None:
    """the nbytes of the values and the positions from which the whole can be put together again"""
    for dtype, index, shape in (
        ("float32", "int32", (6, 7)),
        ("float64", "int32", (6, 7)),
        ("float32", "int64", (40,)),
        ("float32", "int16", (3, 4, 5)),
        ("float64", "int32", (0,)),
        ("float32", "int32", ()),
    ):
        x = np.maximum(numbers(*shape), 0).astype(dtype)
        positions = np.flatnonzero(x).astype(index)
        measured = positions.nbytes + np.ravel(x)[positions].nbytes
        given = f"{x.size} elements of {dtype}, {positions.size} of them not 0, positions as {index}"
        equal(sparse_bytes(Tensor(x), positions.itemsize), measured, "sparse_bytes", given)
    equal(sparse_bytes(Tensor([[0.0, -1.0], [NAN, -0.0]])), 16, "sparse_bytes", "x = [[0, -1], [nan, -0.]], float32")


@exercise("dead_units")
def test_dead_units() -> None:
    """units that are 0 for every input, counted one by one"""
    for shape in ((50, 6), (1, 8), (4, 5, 7), (9,)):
        x = np.maximum(numbers(*shape, seed=3) - 0.5, 0)
        x[..., 1:3] = 0.0
        rows = x.reshape(-1, shape[-1])
        counted = sum(all(row[unit] == 0 for row in rows) for unit in range(shape[-1]))
        equal(dead_units(Tensor(x)), counted, "dead_units", f"activations of shape {shape}")


@exercise("dead_units")
def test_units_that_cancel_are_alive() -> None:
    """answers of 1 and -1 sum to 0, but are not 0"""
    equal(dead_units(Tensor([[1.0, 0.0], [-1.0, 0.0]])), 1, "dead_units", "activations = [[1, 0], [-1, 0]]")
    equal(dead_units(Tensor([[1e-20, 0.5, -2.0]])), 0, "dead_units", "activations = [[1e-20, 0.5, -2]]")


@exercise("saturation_point")
def test_saturation_point() -> None:
    """where the slope measured on the sigmoid's curve falls to the one asked for"""
    x = np.linspace(0, 40, 400_001)
    slopes = np.diff(-np.expm1(-x) / (1 + np.exp(-x)) / 2) / np.diff(x)  # σ - 1/2, which keeps its digits
    middles = (x[1:] + x[:-1]) / 2
    for slope in (0.24, 0.1, 0.01, 1e-4):
        measured = float(middles[np.argmax(slopes < slope)])
        close(
            saturation_point(slope), measured, "saturation_point", f"slope {slope} (expected: measured)", tolerance=2e-4
        )


@exercise("saturation_point")
def test_saturation_at_the_ends() -> None:
    """0 for the steepest slope; for the flattest, all digits right"""
    close(saturation_point(0.25), 0.0, "saturation_point", "slope 0.25", 1e-7)
    x = saturation_point(1e-20)
    slope = math.exp(-x) / (1 + math.exp(-x)) ** 2
    close(slope * 1e20, 1.0, "the slope there · 1e20", f"saturation_point(1e-20) = {x:.4f}", tolerance=1e-6)


@exercise("saturation_point")
def test_slopes_that_no_sigmoid_has() -> None:
    """0, negative slopes and those above 1/4 are refused, with their value"""
    for slope in (0.0, -0.1, 0.3):
        raises(ValueError, lambda: saturation_point(slope), f"saturation_point({slope})", [slope])


@exercise("gelu_error")
def test_gelu_error() -> None:
    """the largest difference found by going through the interval with the standard library's erf"""
    for low, high in ((0.0, 6.0), (0.0, 2.0), (-1.0, 0.0), (-6.0, -2.0), (0.2, 0.4)):
        x = np.linspace(low, high, 2001)
        difference = np.abs(gelu(x) - gelu_by_tanh(x))
        where, error = gelu_error(low, high)
        given = f"between {low} and {high} (expected: measured)"
        close(error * 1e4, difference.max() * 1e4, "the error · 1e4", given, 1e-3)
        close(where, x[difference.argmax()], "where", given, 5e-3)
    close(gelu_error(0.0, 1.0, points=2)[0], 1.0, "where", "between 0.0 and 1.0, only the two ends looked at")
