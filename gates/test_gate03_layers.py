"""Gate 03: layers and the parameters that they own."""

import itertools
import math
import sys
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

from tinytorch import Dropout, Layer, Linear, Sequential, Tensor, he_normal, manual_seed, plug_in, xavier_uniform
from tinytorch.systems.layers import activation_bytes, ensemble_moments, model_bytes, signal_after
from workshop.checks import close, equal, exercise, holds, raises


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def parameter(*values: float, dtype: str = "float32") -> Tensor:
    return Tensor(np.array(values, dtype), requires_grad=True)


class Scale(Layer):
    """A parameter, a tensor that is none, a private tensor, and a number."""

    def __init__(self) -> None:
        self.factor = parameter(1.0, 2.0)
        self.seen = Tensor(np.array([7]))
        vars(self)["_cache"] = parameter(9.0)
        self.rate = 0.5


class Block(Layer):
    """Parts before and after a parameter of its own."""

    def __init__(self) -> None:
        self.first = Scale()
        self.gain = parameter(3.0)
        self.second = Scale()


class Stack(Layer):
    """Parts and tensors in a list and a tuple, three levels deep."""

    def __init__(self) -> None:
        self.blocks = [Block(), Scale()]
        self.offsets = (parameter(0.5), Tensor([4.0]))


SCALE = "a layer with factor (requires a gradient), seen (does not), _cache, rate"
BLOCK = "a layer with first = Scale(), gain = Tensor(…, requires_grad=True), second = Scale()"
STACK = "a layer with blocks = [Block(), Scale()] and offsets = (a parameter, a tensor without gradient)"


def names_of(model: Layer) -> tuple[str, ...]:
    return tuple(name for name, _ in model.named_parameters())


# The operations that stage 01 brings, for which stage 05 will have rules.
OPERATIONS = set("Add Sub Neg Mul Div Pow Matmul Reshape Transpose Index Sum Mean Max Exp Log".split())


def gradient_reaches(function: Callable[[], Tensor], source: Tensor, name: str, given: str) -> None:
    """Going back through the doors of stage 01's operations from the result of `function`, one comes to `source`."""
    made: dict[int, tuple[Tensor, tuple[Tensor, ...]]] = {}
    unknown: list[object] = []

    def record(op: object, result: Tensor, inputs: tuple[Tensor, ...], saved: dict[str, object]) -> None:
        result.requires_grad = True
        made[id(result)] = (result, inputs)
        unknown.extend([op] if op not in OPERATIONS else [])

    before = plug_in(SimpleNamespace(record=record))
    try:
        result = function()
    finally:
        plug_in(before)
    waiting, met = [result], set()
    while waiting:
        tensor = waiting.pop()
        if id(tensor) not in met:
            met.add(id(tensor))
            waiting.extend(made.get(id(tensor), (None, ()))[1])
    expected = f"a result made of tensor operations, through which a gradient finds its way to {name}"
    holds(id(source) in met, expected, f"no way from the result to {name}", given)
    holds(not unknown, "operations of stage 01 alone, which have rules", f"also {unknown}", given)


# Finding parameters


@exercise("Layer.named_parameters")
def test_parameters_are_found() -> None:
    """tensors that require a gradient are parameters, unless their name begins with an underscore"""
    scale = Scale()
    found = list(scale.named_parameters())
    equal(tuple(name for name, _ in found), ("factor",), "the names", SCALE)
    holds(found[0][1] is scale.factor, "the Tensor itself, which an optimizer will change", "another object", SCALE)
    equal(len(scale.parameters()), 1, "len(parameters())", SCALE)


@exercise("Layer.named_parameters")
def test_parts_are_searched() -> None:
    """parameters of parts carry the path to them, after the layer's own"""
    block = Block()
    equal(names_of(block), ("gain", "first.factor", "second.factor"), "the names", BLOCK)
    found = dict(block.named_parameters())
    holds(found["second.factor"] is block.second.factor, "second.factor itself", "another object", BLOCK)


@exercise("Layer.named_parameters")
def test_lists_are_searched() -> None:
    """tensors and parts in lists are named by their position, at any depth"""
    expected = ("offsets.0", "blocks.0.gain", "blocks.0.first.factor", "blocks.0.second.factor", "blocks.1.factor")
    equal(names_of(Stack()), expected, "the names", STACK)


@exercise("Layer.named_parameters")
def test_tied_parameters_come_once() -> None:
    """a tensor, or a layer, that is used in two places comes once, under its first name"""
    tensors = Block()
    tensors.second.factor = tensors.first.factor
    equal(names_of(tensors), ("gain", "first.factor"), "the names", "second.factor = first.factor")
    layers = Block()
    layers.second = layers.first
    equal(names_of(layers), ("gain", "first.factor"), "the names", "second = first")
    equal(names_of(layers), ("gain", "first.factor"), "the names when asked again", "second = first")


@exercise("Layer.named_parameters")
def test_equal_parameters_are_not_tied() -> None:
    """two parameters with the same values are two, and one that is frozen later is none"""
    block = Block()
    equal(
        len(list(block.named_parameters())), 3, "the number of parameters", "first.factor and second.factor are equal"
    )
    block.first.factor.requires_grad = False
    equal(names_of(block), ("gain", "second.factor"), "the names", "first.factor.requires_grad = False")


# State


@exercise("Layer.state_dict")
def test_state_has_every_tensor() -> None:
    """values of all tensors by name, parameters or not, as NumPy arrays of their dtype"""
    state = Block().state_dict()
    expected = ("gain", "first.factor", "first.seen", "second.factor", "second.seen")
    equal(tuple(state), expected, "the names", BLOCK)
    equal(type(state["gain"]).__name__, "ndarray", 'type of state["gain"]', BLOCK)
    close(state["first.factor"], [1.0, 2.0], 'state["first.factor"]', BLOCK, dtype=np.float32)
    close(state["second.seen"], [7], 'state["second.seen"]', BLOCK, dtype=np.int64)


@exercise("Layer.state_dict")
def test_state_of_tied_tensors() -> None:
    """a tensor used in two places comes under both of its names, so that the names do not depend on tying"""
    block = Block()
    block.second.factor = block.first.factor
    expected = ("first.factor", "first.seen", "gain", "second.factor", "second.seen")
    equal(tuple(sorted(block.state_dict())), expected, "the names, sorted", "second.factor = first.factor")


@exercise("Layer.state_dict")
def test_state_is_a_copy() -> None:
    """training goes on, and the state that was taken stays as it was"""
    scale = Scale()
    state = scale.state_dict()
    scale.factor.data -= 1.0
    close(state["factor"], [1.0, 2.0], 'state["factor"]', "state = layer.state_dict(), then factor.data -= 1")
    state["factor"][0] = 50.0
    close(scale.factor, [0.0, 1.0], "factor", 'then state["factor"][0] = 50')


def full_state(block: Block) -> dict[str, np.ndarray]:
    """Other values for every tensor of a Block, in float64."""
    names = ("gain", "first.factor", "first.seen", "second.factor", "second.seen")
    tensors = (block.gain, block.first.factor, block.first.seen, block.second.factor, block.second.seen)
    return {name: np.full(tensor.shape, 10.0 + i) for i, (name, tensor) in enumerate(zip(names, tensors))}


@exercise("Layer.load_state_dict")
def test_state_is_taken_over() -> None:
    """every tensor of the layer and its parts gets its values, whatever the order of the names"""
    block = Block()
    state = dict(reversed(full_state(block).items()))
    block.load_state_dict(state)
    close(block.gain, [10.0], "gain", 'state["gain"] = [10]')
    close(block.first.factor, [11.0, 11.0], "first.factor", 'state["first.factor"] = [11, 11]')
    close(block.second.seen, [14], "second.seen, which is no parameter", 'state["second.seen"] = [14]')
    equal(len(state), 5, "len(state) afterwards", "a state of five names")


@exercise("Layer.load_state_dict")
def test_tensors_stay_the_same_objects() -> None:
    """an optimizer holds the tensors: they stay, with their dtype, and share no memory with the state"""
    block = Block()
    factor, gain, state = block.first.factor, block.gain, full_state(block)
    state["gain"] = np.array([10.0], np.float32)
    gain.grad = np.array([0.25], np.float32)
    block.load_state_dict(state)
    given = "state of float64 arrays, layer of float32 tensors"
    holds(block.first.factor is factor, "the same Tensor object as before", "another one", given)
    close(factor, [11.0, 11.0], "first.factor", given, dtype=np.float32)
    holds(factor.requires_grad, "first.factor.requires_grad still True", "False", given)
    close(gain.grad, [0.25], "gain.grad, which is not part of the state", given)
    state["gain"][0] = 99.0
    close(gain, [10.0], "gain", 'state["gain"][0] = 99 after loading')


def refused(name: str, value: object, mentions: list[object], given: str) -> None:
    """A state with `value` under `name` (None: without that name) is refused, and changes nothing."""
    block = Block()
    state: dict[str, object] = {**full_state(block), name: value}
    if value is None:
        del state[name]
    raises((ValueError, TypeError), lambda: block.load_state_dict(state), given, mentions)
    close(block.gain, [3.0], "gain, the first to be loaded", given)
    close(block.first.factor, [1.0, 2.0], "first.factor", given)


@exercise("Layer.load_state_dict")
def test_missing_and_unknown_names() -> None:
    """a name too few or too many is refused by name, and nothing is changed"""
    refused("second.factor", None, ["second.factor"], "a state without second.factor")
    refused("third.factor", np.zeros(2), ["third.factor"], "a state with a third.factor as well")


@exercise("Layer.load_state_dict")
def test_shapes_that_differ() -> None:
    """another shape is refused with both shapes in the message, also if it would broadcast; nothing is changed"""
    for shape in ((3,), (1,), (1, 2)):
        given = f"a state whose second.factor has shape {shape}"
        refused("second.factor", np.zeros(shape), ["second.factor", "(2,)", shape], given)
    refused("second.factor", np.array(["a", "b"]), [], "a state whose second.factor holds letters")


@exercise("Layer.load_state_dict")
def test_what_state_dict_gave_can_be_loaded() -> None:
    """a layer of the same build takes over the state of another, tied tensors and all"""
    block, other = Block(), Block()
    for model in (block, other):
        model.second.factor = model.first.factor
    block.first.factor.data[...] = [5.0, 6.0]
    block.second.seen.data[...] = 8
    names = ("gain", "first.factor", "first.seen", "second.factor", "second.seen")
    tensors = (block.gain, block.first.factor, block.first.seen, block.first.factor, block.second.seen)
    other.load_state_dict({name: tensor.data.copy() for name, tensor in zip(names, tensors)})
    close(other.first.factor, [5.0, 6.0], "first.factor", "second.factor = first.factor in both")
    close(other.second.seen, [8], "second.seen", "second.factor = first.factor in both")


# Mode


def places(stack: Stack) -> dict[str, Layer]:
    """The layer and its parts, at every depth."""
    block, scale = stack.blocks
    return {"the layer": stack, "blocks[1]": scale, "blocks[0]": block, "blocks[0].first": block.first}


@exercise("Layer.train")
def test_train_reaches_every_part() -> None:
    """train() and train(True) switch parts of parts, and parts in lists, to training"""
    for arguments in ((), (True,)):
        stack = Stack()
        for layer in places(stack).values():
            layer.training = False
        stack.train(*arguments)
        for place, layer in places(stack).items():
            equal(layer.training, True, f"training of {place} after train{arguments}", STACK)


@exercise("Layer.train")
def test_eval_reaches_every_part() -> None:
    """eval() and train(False) switch parts of parts, and parts in lists, to evaluation"""
    for call in ("eval()", "train(False)"):
        stack = Stack()
        _ = stack.eval() if call == "eval()" else stack.train(False)
        for place, layer in places(stack).items():
            equal(layer.training, False, f"training of {place} after {call}", STACK)


@exercise("Layer.train")
def test_eval_twice() -> None:
    """parts that are in evaluation already stay there"""
    stack = Stack()
    for layer in places(stack).values():
        layer.training = False
    stack.eval()
    for place, layer in places(stack).items():
        equal(layer.training, False, f"training of {place} after eval()", "all of its parts in evaluation before")


@exercise("Layer.train")
def test_train_returns_the_layer() -> None:
    """train() and eval() return the layer"""
    block = Block()
    holds(block.train() is block, "the layer itself from train()", block.train(), BLOCK)
    holds(block.eval() is block, "the layer itself from eval()", block.eval(), BLOCK)


@exercise("Layer.train")
def test_mode_is_a_layers_own() -> None:
    """switching one layer leaves other layers as they are"""
    one, other = Scale(), Scale()
    one.train(False)
    equal(other.training, True, "other.training", "one.train(False)")


# Initialisation

FANS = ((300, 200), (50, 1200), (1000, 60))


def check_draws(initialise: Callable[[int, int], np.ndarray], name: str) -> None:
    """Drawn from the package's generator: one seed gives one matrix, and the next draw another."""
    manual_seed(1)
    first, second = initialise(4, 5), initialise(4, 5)
    manual_seed(1)
    again = initialise(4, 5)
    manual_seed(2)
    other = initialise(4, 5)
    close(first, again, f"{name}(4, 5)", "manual_seed(1) before each of two calls", 0.0)
    holds(not np.array_equal(first, second), "other numbers in the second call", "the same", "two calls in a row")
    holds(not np.array_equal(first, other), "other numbers", "the same", "manual_seed(1), and manual_seed(2)")


def check_spread(
    initialise: Callable[[int, int], np.ndarray], variance: Callable[[int, int], float], name: str
) -> None:
    """Shape, dtype, mean and variance of 60,000 numbers; five standard errors are 3 % of the variance."""
    for seed, (fan_in, fan_out) in enumerate(FANS):
        manual_seed(seed)
        weights = initialise(fan_in, fan_out)
        given, expected = f"{name}({fan_in}, {fan_out})", variance(fan_in, fan_out)
        equal(weights.shape, (fan_in, fan_out), "the shape", given)
        equal(str(weights.dtype), "float32", "the dtype", given)
        ratio = weights.var(dtype=np.float64) / expected
        close(ratio, 1.0, f"the variance of the weights, divided by {expected:.5f},", given, 0.03)
        error = math.sqrt(expected / weights.size)
        holds(abs(weights.mean()) < 5 * error, f"a mean within {5 * error:.5f} of 0", weights.mean(), given)


@exercise("xavier_uniform")
def test_xavier_variance() -> None:
    """float32 weights (fan_in, fan_out) with mean 0 and variance 2 / (fan_in + fan_out)"""
    check_spread(xavier_uniform, lambda fan_in, fan_out: 2 / (fan_in + fan_out), "xavier_uniform")


@exercise("xavier_uniform")
def test_xavier_is_uniform() -> None:
    """the weights fill ±√(6 / (fan_in + fan_out)) evenly, and none lies outside"""
    manual_seed(3)
    weights, bound = xavier_uniform(300, 200), math.sqrt(6 / 500)
    largest = float(np.abs(weights).max())
    holds(0.99 * bound < largest < 1.00001 * bound, f"sizes up to {bound:.5f}", largest, "xavier_uniform(300, 200)")
    quarters = np.histogram(weights, bins=4, range=(-bound, bound))[0] / weights.size
    close(quarters, np.full(4, 0.25), "shares of the four quarters of the range", "xavier_uniform(300, 200)", 0.01)


@exercise("xavier_uniform")
def test_xavier_draws() -> None:
    """drawn from the package's generator, anew at each call"""
    check_draws(xavier_uniform, "xavier_uniform")


@exercise("he_normal")
def test_he_variance() -> None:
    """float32 weights (fan_in, fan_out) with mean 0 and variance 2 / fan_in"""
    check_spread(he_normal, lambda fan_in, fan_out: 2 / fan_in, "he_normal")


@exercise("he_normal")
def test_he_is_normal() -> None:
    """68.3 % of the weights lie within one standard deviation, 95.4 % within two, as with a normal distribution"""
    manual_seed(3)
    sizes = np.abs(he_normal(300, 200)) / math.sqrt(2 / 300)
    shares = np.array([(sizes < 1).mean(), (sizes < 2).mean()])
    close(shares, [0.6827, 0.9545], "the shares", "he_normal(300, 200)", 0.01)


@exercise("he_normal")
def test_he_draws() -> None:
    """drawn from the package's generator, anew at each call"""
    check_draws(he_normal, "he_normal")


# Linear


def filled_linear(fan_in: int, fan_out: int, bias: bool = True) -> tuple[Linear, np.ndarray, np.ndarray]:
    """A Linear with known weights and a bias that is not zero."""
    layer = Linear(fan_in, fan_out, bias=bias)
    weight, offset = numbers(fan_in, fan_out).astype(np.float32), numbers(fan_out, seed=1).astype(np.float32)
    layer.weight.data[...] = weight
    if bias:
        layer.bias.data[...] = offset
    return layer, weight, offset


@exercise("Linear.forward")
def test_linear() -> None:
    """x @ weight + bias for inputs with any number of leading axes, in the input's float dtype or the wider one"""
    layer, weight, bias = filled_linear(3, 4)
    for shape in ((5, 3), (1, 3), (3,), (2, 5, 3), (0, 3), (2, 1, 2, 3)):
        x = numbers(*shape, seed=2).astype(np.float32)
        close(layer(Tensor(x)), x @ weight + bias, "Linear(3, 4)(x)", f"x of shape {shape}, float32", dtype=np.float32)
    x = numbers(5, 3, seed=2)
    close(layer(Tensor(x)), x @ weight + bias, "Linear(3, 4)(x)", "x of shape (5, 3), float64", 1e-12, np.float64)
    whole = np.array([[1, 2, 3]])
    close(layer(Tensor(whole)), whole @ weight + bias, "Linear(3, 4)(x)", "x = Tensor([[1, 2, 3]])", dtype=np.float32)


@exercise("Linear.forward")
def test_linear_of_square_weights() -> None:
    """with as many outputs as inputs the weights are not transposed, and a strided input is read right"""
    layer, weight, bias = filled_linear(3, 3)
    x = numbers(3, 8, seed=2).astype(np.float32)
    close(layer(Tensor(x[:, :3])), x[:, :3] @ weight + bias, "Linear(3, 3)(x)", "x (3, 3)")
    close(layer(Tensor(x).T), x.T @ weight + bias, "Linear(3, 3)(x)", "x a transposed view, (8, 3)")


@exercise("Linear.forward")
def test_linear_without_bias() -> None:
    """bias=False gives x @ weight"""
    layer, weight, _ = filled_linear(3, 2, bias=False)
    x = numbers(4, 3, seed=2).astype(np.float32)
    close(layer(Tensor(x)), x @ weight, "Linear(3, 2, bias=False)(x)", "x (4, 3)")


@exercise("Linear.forward")
def test_linear_changes_nothing() -> None:
    """input, weight and bias stay as they are, and the next call gives the same"""
    layer, weight, bias = filled_linear(3, 3)
    x = Tensor(np.ones((3, 3), np.float32))
    first, again = layer(x), layer(x)
    close(again, first.data, "the second result", "the same x twice")
    close(x, np.ones((3, 3)), "x afterwards", "Linear(3, 3)(x)", 0.0)
    close(layer.weight, weight, "weight afterwards", "Linear(3, 3)(x)", 0.0)
    close(layer.bias, bias, "bias afterwards", "Linear(3, 3)(x)", 0.0)


@exercise("Linear.forward")
def test_linear_uses_the_weights_of_now() -> None:
    """weights that were changed, or replaced by another Tensor, count from the next call on"""
    layer, weight, bias = filled_linear(2, 2)
    x = np.array([[1.0, -2.0]], np.float32)
    layer(Tensor(x))
    layer.weight.data += 1.0
    close(layer(Tensor(x)), x @ (weight + 1) + bias, "the result", "after weight.data += 1")
    layer.weight = Tensor(weight * 2, requires_grad=True)
    close(layer(Tensor(x)), x @ (weight * 2) + bias, "the result", "after weight = Tensor(…)")


@exercise("Linear.forward")
def test_linear_refuses_other_lengths() -> None:
    """another length of the last axis is refused by name, with the shape and the length expected"""
    layer = Linear(3, 7)
    raises(
        ValueError, lambda: layer(Tensor(numbers(2, 4))), "Linear(3, 7), x of shape (2, 4)", ["Linear", "(2, 4)", "3"]
    )
    raises(
        ValueError, lambda: layer(Tensor(numbers(3, 1))), "Linear(3, 7), x of shape (3, 1)", ["Linear", "(3, 1)", "3"]
    )
    raises(ValueError, lambda: layer(Tensor(1.0)), "Linear(3, 7), x = Tensor(1.0)", ["Linear", "()", "3"])


@exercise("Linear.forward")
def test_gradients_reach_linear() -> None:
    """from the result a gradient finds its way to x, weight and bias"""
    layer, weight, bias = filled_linear(3, 2)
    x = Tensor(numbers(4, 3), requires_grad=True)
    close(layer(x), x.data @ weight + bias, "Linear(3, 2)(x)", "x (4, 3)")
    for source, name in ((x, "x"), (layer.weight, "weight"), (layer.bias, "bias")):
        gradient_reaches(lambda: layer(x), source, name, "Linear(3, 2)(x)")


# Sequential


@exercise("Sequential.forward")
def test_sequential() -> None:
    """each part gets what the one before it returned, in order"""
    model = Sequential(lambda x: x + 1.0, lambda x: x * 10.0, lambda x: x - 3.0)
    close(model(Tensor([1.0, 2.0])), [17.0, 27.0], "the result", "x = [1, 2], parts: + 1, * 10, - 3")
    close(Sequential(lambda x: x * 2.0)(Tensor([3.0])), [6.0], "the result", "x = [3], one part: * 2")
    nested = Sequential(Sequential(lambda x: x + 1.0), Sequential(lambda x: x * x, lambda x: x - 1.0))
    close(nested(Tensor([2.0])), [8.0], "the result", "x = [2], parts (+ 1) and (square, - 1)")


@exercise("Sequential.forward")
def test_sequential_of_nothing() -> None:
    """without parts the input comes back"""
    close(Sequential()(Tensor([4.0])), [4.0], "the result", "Sequential()(x), x = [4]")


@exercise("Sequential.forward")
def test_sequential_calls_each_part_once() -> None:
    """every part runs exactly once"""
    calls: list[str] = []
    model = Sequential(lambda x: calls.append("first") or x, lambda x: calls.append("second") or x)
    model(Tensor([1.0]))
    equal(tuple(calls), ("first", "second"), "the calls", "a model of two parts, called once")


@exercise("Sequential.forward")
def test_gradients_reach_through_sequential() -> None:
    """from the result a gradient finds its way to x"""
    x = Tensor([1.0, 2.0], requires_grad=True)
    gradient_reaches(lambda: Sequential(lambda x: x * 2.0, lambda x: x + 1.0)(x), x, "x", "parts: * 2, + 1")


# Dropout

ONES = np.ones((200, 200), np.float32)


@exercise("Dropout.forward")
def test_dropout_drops_a_share_p() -> None:
    """a share p of the elements is zero, within five standard errors"""
    for seed, p in enumerate((0.1, 0.3, 0.5, 0.8)):
        manual_seed(seed)
        dropped = float((Dropout(p)(Tensor(ONES)).data == 0).mean())
        close(dropped, p, "the share of zeros", f"Dropout({p}), 200 x 200 ones", 5 * math.sqrt(p * (1 - p) / ONES.size))


@exercise("Dropout.forward")
def test_dropout_decides_for_each_element_alone() -> None:
    """how many are dropped is left to chance: 20 calls on 10 elements do not all drop the same number"""
    manual_seed(0)
    dropped = np.array([(Dropout(0.5)(Tensor(np.ones(10))).data == 0).sum() for _ in range(20)])
    holds(len(np.unique(dropped)) > 2, "different numbers of zeros", dropped, "Dropout(0.5), 10 ones, 20 calls")


@exercise("Dropout.forward")
def test_dropout_scales_what_it_keeps() -> None:
    """what is kept is divided by 1 - p, in the dtype of x"""
    for p, dtype, tolerance in ((0.3, "float32", 1e-6), (0.9, "float32", 1e-6), (0.7, "float64", 1e-12)):
        manual_seed(0)
        x = (numbers(60, 60) + 10.0).astype(dtype)
        result = Dropout(p)(Tensor(x)).data
        expected = np.where(result == 0, 0, x / (1 - p))
        close(result, expected, "the result", f"Dropout({p}), x {dtype}, kept elements", tolerance, np.dtype(dtype))


@exercise("Dropout.forward")
def test_dropout_chooses_element_by_element() -> None:
    """no row and no column of the mask is the copy of another"""
    manual_seed(0)
    mask = Dropout(0.5)(Tensor(np.ones((20, 30, 40), np.float32))).data != 0
    for axis in range(3):
        rows = np.moveaxis(mask, axis, 0).reshape(mask.shape[axis], -1)
        different = len(np.unique(rows, axis=0))
        equal(different, mask.shape[axis], f"different masks along axis {axis}", "x of shape (20, 30, 40)")


@exercise("Dropout.forward")
def test_dropout_draws_anew() -> None:
    """every call draws another mask, and manual_seed repeats them"""
    layer, x = Dropout(0.5), Tensor(ONES)
    manual_seed(4)
    first, second = layer(x).data.copy(), layer(x).data.copy()
    holds((first == 0).any(), "some zeros", "none", "Dropout(0.5), 200 x 200 ones")
    share = float((first == second).mean())
    holds(0.45 < share < 0.55, "about half of the elements alike in two calls", share, "Dropout(0.5) called twice")
    manual_seed(4)
    close(layer(x), first, "the result", "manual_seed(4) before each of two calls", 0.0)


@exercise("Dropout.forward")
def test_dropout_of_nothing_and_everything() -> None:
    """p = 0 changes nothing, and p = 1 leaves zeros"""
    x = numbers(5, 4)
    close(Dropout(0.0)(Tensor(x)), x, "Dropout(0.0)(x)", "x (5, 4)", 0.0, np.float64)
    close(Dropout(1.0)(Tensor(x)), np.zeros((5, 4)), "Dropout(1.0)(x)", "x (5, 4)", 0.0, np.float64)
    close(Dropout(0.5)(Tensor(np.zeros((0, 3)))), np.zeros((0, 3)), "Dropout(0.5)(x)", "x of shape (0, 3)", 0.0)


@exercise("Dropout.forward")
def test_dropout_follows_the_mode() -> None:
    """dropping in training, which layers are born in, and x unchanged in evaluation"""
    layer, x = Dropout(0.5), Tensor(ONES)
    manual_seed(0)
    holds((layer(x).data == 0).any(), "some zeros", "none", "a new Dropout(0.5), 200 x 200 ones")
    layer.training = False
    close(layer(x), ONES, "the result", "training = False", 0.0)
    layer.training = True
    holds((layer(x).data == 0).any(), "some zeros", "none", "training = True again")


@exercise("Dropout.forward")
def test_dropout_argument_decides() -> None:
    """training=True or False decides for one call, whatever the mode, and leaves the mode alone"""
    layer, x = Dropout(0.5), Tensor(ONES)
    manual_seed(0)
    layer.training = False
    close(layer(x, training=None), ONES, "the result", "mode: evaluation; training=None", 0.0)
    layer.training = True
    close(layer(x, training=False), ONES, "the result", "mode: training; training=False", 0.0)
    equal(layer.training, True, "layer.training afterwards", "mode: training; training=False")
    layer.training = False
    holds((layer(x, training=True).data == 0).any(), "some zeros", "none", "mode: evaluation; training=True")
    equal(layer.training, False, "layer.training afterwards", "mode: evaluation; training=True")


@exercise("Dropout.forward")
def test_dropout_leaves_its_input_alone() -> None:
    """x is not changed"""
    x = Tensor(ONES)
    manual_seed(0)
    Dropout(0.5)(x)
    close(x, ONES, "x afterwards", "Dropout(0.5)(x)", 0.0)


@exercise("Dropout.forward")
def test_gradient_reaches_through_dropout() -> None:
    """from the result a gradient finds its way to x, in training and in evaluation"""
    for training in (True, False):
        x = Tensor(numbers(4, 3), requires_grad=True)
        gradient_reaches(lambda: Dropout(0.5)(x, training=training), x, "x", f"Dropout(0.5)(x, training={training})")


# Systems


class Mixed(Layer):
    """Large tensors: one trained in float32, one frozen, one in float64, one tied."""

    def __init__(self) -> None:
        self.trained = Tensor(np.zeros((100, 200), np.float32), requires_grad=True)
        self.frozen = Tensor(np.zeros((50, 100), np.float32))
        self.parts = [Mixed.Wide(self.trained)]

    class Wide(Layer):
        def __init__(self, tied: Tensor) -> None:
            self.wide = Tensor(np.zeros((30, 100)), requires_grad=True)
            self.tied = tied


def grown(make: Callable[[], object]) -> tuple[int, object]:
    """By how many bytes tracemalloc says that memory has grown when `make` is done, and what it made."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    made = make()
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return after - before, made


@exercise("model_bytes")
def test_model_bytes() -> None:
    """what tracemalloc says that making the model, and then its gradients, takes"""
    values, model = grown(Mixed)
    trained = (model.trained, model.parts[0].wide)
    gradients, _ = grown(lambda: [np.full_like(tensor.data, 1.0) for tensor in trained])
    answer = model_bytes(model)
    given = "float32 (100, 200) used twice, float32 (50, 100) without gradient, float64 (30, 100)"
    for position, (measured, what) in enumerate(((values, "tensors"), (gradients, "gradients"))):
        got = answer[position]
        holds(abs(got - measured) < 5_000, f"about {measured} bytes of {what} (measured)", got, given)


@exercise("model_bytes")
def test_model_bytes_counts_every_byte() -> None:
    """the sum of nbytes, exactly"""
    model = Block()
    held = (model.gain, model.first.factor, model.first.seen, model.second.factor, model.second.seen)
    gradients = [np.zeros_like(tensor.data) for tensor in held if tensor.requires_grad]
    expected = (sum(tensor.data.nbytes for tensor in held), sum(gradient.nbytes for gradient in gradients))
    equal(model_bytes(model), expected, "model_bytes", BLOCK)


def flat(x: Tensor) -> Tensor:
    return x.reshape(-1, 300)


@exercise("activation_bytes")
def test_activation_bytes() -> None:
    """what tracemalloc says is held when the input and every result are kept"""
    weight = Tensor(numbers(300, 100))
    chains = {
        "x * 2, x + 1": (lambda x: x * 2.0, lambda x: x + 1.0),
        "(x as it is), x * 2": (lambda x: x, lambda x: x * 2.0),
        "x * 2, x.reshape, x @ weight": (lambda x: x * 2.0, flat, lambda x: x @ weight),
        "x @ weight (300, 100), x * 2, x.T": (lambda x: x @ weight, lambda x: x * 2.0, lambda x: x.T),
        "six times x + 1": (lambda x: x + 1.0,) * 6,
        "no parts": (),
    }
    for chain, parts in chains.items():

        def run() -> list[Tensor]:
            held = [Tensor(np.ones((80, 300)))]
            for part in parts:
                held.append(part(held[-1]))
            return held

        measured, held = grown(run)
        answer = activation_bytes(Sequential(*parts), held[0])
        given = f"x of shape (80, 300), float64; parts: {chain}"
        holds(abs(answer - measured) < 5_000, f"about {measured} bytes (measured)", answer, given)


@exercise("activation_bytes")
def test_activation_bytes_runs_the_model_once() -> None:
    """each part runs once, and bytes are counted exactly"""
    calls: list[str] = []
    model = Sequential(lambda x: calls.append("first") or x + 1.0, lambda x: calls.append("second") or x[:, :1])
    x = Tensor(np.ones((4, 6), np.float32))
    equal(activation_bytes(model, x), 2 * x.data.nbytes, "activation_bytes", "x (4, 6) float32; parts: + 1, x[:, :1]")
    equal(tuple(calls), ("first", "second"), "the calls", "activation_bytes(model, x)")


def simulated(layers: int, fan_in: int, variance: float, relu: bool, networks: int) -> float:
    """Mean square of what comes out of random networks that are really run."""
    rng = np.random.default_rng(11)
    squares = []
    for _ in range(networks):
        x = rng.standard_normal((8, fan_in), np.float32)
        for _ in range(layers):
            x = x @ (rng.standard_normal((fan_in, fan_in), np.float32) * np.float32(math.sqrt(variance)))
            x = np.maximum(x, 0) if relu else x
        squares.append(float(np.square(x, dtype=np.float64).mean()))
    return float(np.mean(squares))


@exercise("signal_after")
def test_signal_after_one_layer() -> None:
    """what running one layer of many networks gives, within 5 %"""
    for fan_in, variance, relu in ((100, 0.01, False), (100, 0.02, True), (40, 0.3, False), (160, 0.001, True)):
        measured = simulated(1, fan_in, variance, relu, networks=60)
        ratio = float(signal_after(1, fan_in, variance, relu)) / measured
        given = f"1 layer, {fan_in} inputs, weights of variance {variance}, {'ReLU' if relu else 'no ReLU'}"
        close(ratio, 1.0, f"the answer, divided by the measured {measured:.4f},", given, 0.05)


@exercise("signal_after")
def test_signal_after_many_layers() -> None:
    """what running networks of many layers gives, to within a third"""
    cases = ((10, 0.01, False), (10, 0.02, True), (10, 0.01, True), (4, 0.09, False), (6, 0.001, True))
    for layers, variance, relu in cases:
        measured = simulated(layers, 100, variance, relu, networks=30)
        answer = float(signal_after(layers, 100, variance, relu))
        given = f"{layers} layers, 100 inputs each, weights of variance {variance}, {'ReLU' if relu else 'no ReLU'}"
        holds(measured / 1.35 < answer < measured * 1.35, f"about {measured:.3g} (measured)", answer, given)
    close(signal_after(0, 100, 0.5), 1.0, "the answer", "no layers at all")


@exercise("ensemble_moments")
def test_ensemble_moments() -> None:
    """mean and standard deviation over all 2ⁿ networks, each run and weighted by its probability"""
    for n, p in ((1, 0.5), (3, 0.5), (6, 0.2), (5, 0.9), (4, 0.0)):
        inputs, weights = numbers(n), numbers(n, seed=1)
        outputs, chances = [], []
        for kept in itertools.product((0, 1), repeat=n):
            outputs.append(float((inputs * np.array(kept) / (1 - p)) @ weights))
            chances.append(math.prod(1 - p if k else p for k in kept))
        mean = float(np.average(outputs, weights=chances))
        spread = math.sqrt(max(np.average((np.array(outputs) - mean) ** 2, weights=chances), 0.0))
        answer = ensemble_moments(list(inputs), list(weights), p)
        given = f"{2**n} networks of {n} inputs, p = {p}"
        close(answer[0], mean, "the mean", given, 1e-9)
        close(answer[1], spread, "the standard deviation", given, 1e-9)


# More inputs at which wrong code has passed


class Shapes(Layer):
    """Three tensors of three shapes, and with names that share no word."""

    def __init__(self) -> None:
        self.gain, self.scale, self.offset = parameter(1.0), parameter(*range(23)), parameter(*range(47))


def complaint(state: dict[str, np.ndarray]) -> str:
    """What loading `state` into a Shapes is refused with."""
    said: list[str] = []

    def load() -> None:
        try:
            Shapes().load_state_dict(state)
        finally:
            said.append(str(sys.exc_info()[1]))

    raises(ValueError, load, f"load_state_dict of a state with {', '.join(state)}")
    return said[0]


@exercise("Layer.load_state_dict")
def test_only_what_does_not_fit_is_named() -> None:
    """the message names no Tensor that fits, and no shape but the two that differ"""
    fits = {"gain": np.zeros(1), "scale": np.zeros(23), "offset": np.zeros(47)}
    for state, own in (
        ({"gain": fits["gain"], "offset": fits["offset"]}, ["scale"]),
        ({**fits, "other": np.zeros(2)}, ["other"]),
        ({**fits, "scale": np.zeros(31)}, ["scale", "23", "31"]),
    ):
        message = complaint(state)
        shapes = ", ".join(f"{name} {value.shape}" for name, value in state.items())
        given = f"a layer with gain (1,), scale (23,), offset (47,); a state with {shapes}"
        others = [word for word in ("gain", "scale", "offset", "other", "23", "31", "47") if word not in own]
        named = [word for word in others if word in message]
        holds(all(word in message for word in own), f"a message that names {', '.join(own)}", message, given)
        holds(not named, f"a message that does not name {', '.join(named)}", message, given)


@exercise("Dropout.forward")
def test_dropout_hands_on_what_it_does_not_change() -> None:
    """`x` itself comes back with p = 0 and in evaluation, and no copy of it"""
    x = Tensor(numbers(5, 4))
    holds(Dropout(0.0)(x) is x, "x itself", "another Tensor", "Dropout(0.0)(x) while training")
    holds(Dropout(0.5)(x, training=False) is x, "x itself", "another Tensor", "Dropout(0.5)(x, training=False)")
