"""Gate 03: layers and the parameters that they own. A case is an expression, and what it must give."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch import Dropout, Layer, Linear, Sequential, Tensor, he_normal, manual_seed, watch, xavier_uniform
from tinytorch.systems.layers import activation_bytes, ensemble_moments, model_bytes, signal_after
from workshop.checks import close, holds, plain, raises
from workshop.probes import allocated, numbers
from workshop.tables import Case, Cases, Expression, table

look = Cases(globals())


class Made(Layer):
    """A layer with these attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


weight = lambda *values, dtype="float32": Tensor(np.array(values, dtype), requires_grad=True)  # a parameter
buffer = lambda *values: Tensor(np.array(values))  # a Tensor that is none: integers, or float64
joined = lambda tensors: np.concatenate([np.ravel(plain(tensor)) for tensor in tensors])  # all of their numbers
values = lambda model: joined(tensor for _, tensor in model.named_tensors())  # all numbers of a model
single = lambda *shape, seed=0: numbers(*shape, seed=seed).astype(np.float32)


put = lambda layer, **attributes: [vars(layer).update(attributes), layer][1]
seeded = lambda function, *arguments, seed=1, **options: manual_seed(seed) or function(*arguments, **options)

# Models, as they stand in the expressions.
ONE = "Made(factor=weight(5.0, 6.0), seen=buffer(7), rate=0.5, _cache=weight(9.0))"
PAIR = "Made(a=Made(factor=weight(5.0, 6.0), seen=buffer(7)), gain=weight(3.0), b=Made(factor=weight(8.0, 9.0)))"
LISTS = "Made(parts=[Made(gain=weight(3.0), a=Made(seen=buffer(8), factor=weight(5)))], gains=(weight(2), buffer(6)))"
TIED = "Made(a=Made(factor=(w := weight(5.0, 6.0)), gain=weight(3.0)), b=Made(factor=w))"
SHARED = "Made(a=(part := Made(factor=weight(5.0, 6.0), gain=weight(3.0))), b=part)"
EQUAL = "Made(a=Made(factor=weight(5.0, 6.0)), b=Made(factor=weight(5.0, 6.0)))"


# Parameters

names = lambda model: tuple(name for name, _ in model.named_parameters())
# The names of a model's parameters, and all of its numbers after an optimizer has subtracted 0.5 from those.
named = lambda model, *right: look.equals(f"names({model})", right)
steps = lambda model, *right: look.gives(f"stepped({model})", right)
minus = lambda tensor: put(tensor, data=tensor.data - 0.5)
stepped = lambda model: [[minus(tensor) for _, tensor in model.named_parameters()], values(model)][1]

test_parameters = table(
    ("Layer.named_parameters", "Tensors that require a gradient are parameters, without a leading underscore"),
    *(named(ONE, "factor"), steps(ONE, 4.5, 5.5, 7.0)),
    look.gives(f"joined({ONE}.parameters())", [5.0, 6.0]),
    look.equals("names(Made(rate=0.5, seen=buffer(7)))", ()),
    look.equals(f"[names(m := {TIED}), vars(w).update(requires_grad=False), names(m)][2]", ("a.gain",)),
    ("Layer.named_parameters", "those of parts, also in lists, carry the path to them, after the layer's own"),
    *(named(PAIR, "gain", "a.factor", "b.factor"), steps(PAIR, 2.5, 4.5, 5.5, 7.0, 7.5, 8.5)),
    *(named(LISTS, "gains.0", "parts.0.gain", "parts.0.a.factor"), steps(LISTS, 1.5, 6.0, 2.5, 8.0, 4.5)),
    look.gives(f"joined({LISTS}.parameters())", [2.0, 3.0, 5.0]),
    ("Layer.named_parameters", "what is used in two places comes once, and two with the same values are two"),
    *(named(TIED, "a.factor", "a.gain"), steps(TIED, 4.5, 5.5, 2.5, 4.5, 5.5)),
    *(named(SHARED, "a.factor", "a.gain"), steps(SHARED, 4.5, 5.5, 2.5, 4.5, 5.5, 2.5)),
    *(named(EQUAL, "a.factor", "b.factor"), steps(EQUAL, 4.5, 5.5, 4.5, 5.5)),
    look.equals(f"[names(model := {TIED}), names(model)][1]", ("a.factor", "a.gain")),
)


# State

overwrite = lambda arrays: [plain(array).fill(50) for array in arrays]
state_of = lambda model: (state := model.state_dict()) and joined(state[name] for name in sorted(state))
# The sorted names of a state, and its numbers in their order.
entries = lambda model, *right: look.equals(f"tuple(sorted({model}.state_dict()))", right)
stored = lambda model, *right: look.gives(f"state_of({model})", right)
# What a state holds when the model's tensors are overwritten after it was taken.
later = lambda model, name, right: look.gives(
    f"[s := (m := {model}).state_dict(), overwrite(t for _, t in m.named_tensors()), s['{name}']][2]", right
)

test_state = table(
    ("Layer.state_dict", "the values of all tensors by name, parameters or not, as NumPy arrays of their dtype"),
    *(entries(ONE, "factor", "seen"), stored(ONE, 5.0, 6.0, 7.0)),
    *(entries(PAIR, "a.factor", "a.seen", "b.factor", "gain"), stored(PAIR, 5.0, 6.0, 7.0, 8.0, 9.0, 3.0)),
    entries(LISTS, "gains.0", "gains.1", "parts.0.a.factor", "parts.0.a.seen", "parts.0.gain"),
    stored(LISTS, 2, 6, 5, 8, 3),
    look.equals(f"type({ONE}.state_dict()['factor']).__name__", "ndarray"),
    look.gives(f"{ONE}.state_dict()['factor']", [5.0, 6.0], dtype=np.float32),
    look.gives(f"{ONE}.state_dict()['seen']", [7], dtype=np.int64),
    ("Layer.state_dict", "a tensor in two places comes under both of its names, which do not depend on what is tied"),
    *(entries(TIED, "a.factor", "a.gain", "b.factor"), stored(TIED, 5.0, 6.0, 3.0, 5.0, 6.0)),
    *(entries(SHARED, "a.factor", "a.gain", "b.factor", "b.gain"), stored(SHARED, 5.0, 6.0, 3.0, 5.0, 6.0, 3.0)),
    *(entries(EQUAL, "a.factor", "b.factor"), stored(EQUAL, 5.0, 6.0, 5.0, 6.0)),
    ("Layer.state_dict", "a copy: training goes on, and the state that was taken stays as it was"),
    *(later(PAIR, "a.factor", [5, 6]), later(PAIR, "b.factor", [8, 9]), later(TIED, "b.factor", [5, 6])),
    look.gives(f"[overwrite((m := {PAIR}).state_dict().values()), values(m)][1]", [3, 5, 6, 7, 8, 9]),
)


def loads(state: dict[str, Any], right: Any, then: str = "values(m)", model: str = PAIR) -> Case:
    """What `then` gives when model m has loaded a state; t are the Tensors that an optimizer holds since before."""
    text = f"[t := [*(m := {model}).named_tensors()], m.load_state_dict(state), {then}][-1]"
    return look.gives(text, right, what=then, state={name: np.copy(array) for name, array in state.items()})


ENTRIES = {"b.factor": np.array([13.5, 14.5]), "a.seen": np.array([12.0])}
ENTRIES |= {"gain": np.array([15.5]), "a.factor": np.array([10.5, 11.5])}
LOADED = [15.5, 10.5, 11.5, 12.0, 13.5, 14.5]
OWN = {name: array.astype("int64" if name == "a.seen" else "float32") for name, array in ENTRIES.items()}
TIES = {"a.factor": np.array([1.5, 2.5]), "a.gain": np.array([4.5]), "b.factor": np.array([1.5, 2.5])}
THREE = "Made(gain=weight(3.0), scale=weight(*range(23)), offset=weight(*range(47)))"
FITS = {"gain": np.full(1, 1.5), "scale": np.full(23, 2.5), "offset": np.full(47, 3.5)}


def refused(e: Expression, state: dict[str, Any], mentions: tuple[Any, ...], kinds: Any) -> None:
    """The message names what does not fit and nothing else, and the model keeps its numbers."""
    model = e.result()
    before = values(model)
    given = f"{e.text}, a state with {', '.join(f'{name} {np.shape(value)}' for name, value in state.items())}"

    def load() -> np.ndarray:
        model.load_state_dict(state)
        return values(model)

    message = str(raises(kinds, load, given, mentions))
    words = ("gain", "scale", "offset", "other", "23", "31", "47") if mentions else ()
    named = [word for word in words if word in message and word not in str(mentions)]
    holds(not named, f"a message that does not name {', '.join(named)}, which fits", message, given)
    close(values(model), before, "the model's numbers afterwards", given)


def refusal(changes: dict[str, Any], *mentions: Any, kinds: Any = ValueError) -> Case:
    """FITS with changes, where None takes a name away, is refused."""
    state = {name: value for name, value in {**FITS, **changes}.items() if value is not None}
    return look.case(refused, THREE, state, mentions, kinds)


test_loading = table(
    ("Layer.load_state_dict", "every tensor of the layer and its parts gets its values, whatever their order"),
    loads(ENTRIES, LOADED),
    loads(ENTRIES, 4, "np.array(len(state))"),
    loads(TIES, [1.5, 2.5, 4.5, 1.5, 2.5], model=TIED),
    loads({"gain": np.array([8.5])}, [8.5], model="Made(gain=weight(3.0))"),
    loads({"seen": np.array([9, 8])}, [9, 8], model="Made(seen=buffer(7, 6))"),
    loads({"a": np.array([[4.5, 5.5]])}, [4.5, 5.5], model="Made(a=Tensor([[1.0, 2.0]]))"),
    ("Layer.load_state_dict", "tensors stay, as an optimizer holds them, with dtype and memory of their own"),
    loads(ENTRIES, LOADED, "joined(tensor for _, tensor in t)"),
    *(loads(state, LOADED, "overwrite(state.values()) and values(m)") for state in (ENTRIES, OWN)),
    loads(ENTRIES, [4, 4, 8, 4], "np.array([tensor.dtype.itemsize for _, tensor in m.named_tensors()])"),
    loads(ENTRIES, [1, 1, 0, 1], "np.array([tensor.requires_grad for _, tensor in m.named_tensors()])"),
    ("Layer.load_state_dict", "a name too few or too many is refused by that name alone, and nothing is changed"),
    refusal({"scale": None}, "scale"),
    refusal({"gain": None}, "gain"),
    refusal({"other": np.full(2, 9.5)}, "other"),
    refusal({"other": np.full(23, 9.5), "scale": None}, "other", "scale"),
    ("Layer.load_state_dict", "another shape is refused, with both shapes, and nothing is changed"),
    *(refusal({"scale": np.full(shape, 2.5)}, "scale", "(23,)", shape) for shape in ((31,), (1,), (1, 23), (23, 1))),
    refusal({"gain": np.full((), 2.5)}, "gain", "(1,)", "()"),
    refusal({"offset": np.full(31, 2.5)}, "offset", "(47,)", "(31,)"),
    refusal({"offset": np.array(["a"] * 47)}, kinds=(TypeError, ValueError)),
)


# Mode


def modes(before: bool | None, model: Layer, switch: Callable[[Layer], Any]) -> tuple[str, ...]:
    """The model's layers that are in training after `switch`, when all (or none) were before; None: a new model."""
    layers = {"itself": model, **dict(model.named_layers())}
    for layer in layers.values() if before is not None else ():
        layer.training = before
    switch(model)
    return tuple(name for name, layer in layers.items() if layer.training)


switched = lambda before, model, call, *right: look.equals(f"modes({before}, {model}, lambda m: m.{call})", right)
DEEP, DEEPEST = "Made(a=Made(b=Made(c=Made())))", ("itself", "a", "a.b", "a.b.c")
OFF, ON = ("eval()", "train(False)", "train(mode=False)"), ("train()", "train(True)", "train(mode=True)")
LIST, LISTED = "Made(parts=[Made(), Made(a=Made())])", ("itself", "parts.0", "parts.1", "parts.1.a")

test_mode = table(
    ("Layer.train", "train and eval switch this layer, and no other"),
    *(switched(before, "Made()", call) for before in (None, True) for call in OFF),
    *(switched(before, "Made()", call, "itself") for before in (None, False) for call in ON),
    look.equals("[Made().train(), other := Made(), Made().eval(), other.training][3]", True),
    ("Layer.train", "parts of parts, and parts in lists, are switched as well"),
    *(switched(before, "Made(a=Made())", "eval()") for before in (None, True)),
    *(switched(before, "Made(a=Made())", "train()", "itself", "a") for before in (None, False)),
    *(switched(before, DEEP, "eval()") for before in (None, True, False)),
    *(switched(before, DEEP, "train()", *DEEPEST) for before in (None, False)),
    look.equals(f"modes(True, {DEEP}, lambda m: [put(m.a, training=False), m.eval()])", ()),
    *(switched(before, LIST, "train(False)") for before in (None, True)),
    *(switched(before, LIST, "train(True)", *LISTED) for before in (None, False)),
    ("Layer.train", "the layer itself comes back"),
    *(look.equals(f"(m := {model}) is m.{call}", True) for model in ("Made()", LIST) for call in ("train()", "eval()")),
)


# Initialisation


def draws(initialise: str) -> list[Case]:
    """Numbers from the package's generator: each call, and each seed, has others."""
    first, again = f"seeded({initialise}, 40, 50)", f"seeded({initialise}, 40, 50, seed=2)"
    return [
        look.gives(f"{first} - {first}", np.zeros((40, 50))),
        look.equals(f"({first} == {initialise}(40, 50)).sum()", 0),
        look.equals(f"({first} == {again}).sum()", 0),
        look.gives(f"seeded({initialise}, 4, 5) * 0", np.zeros((4, 5)), dtype=np.float32),
    ]


def spread(initialise: str, fans: str, expected: float) -> list[Case]:
    """The variance of 60,000 numbers, to five standard errors, and how many of those the mean is away from 0."""
    sizes = ("300, 200", "50, 1200", "1000, 60")
    both = [(f"seeded({initialise}, {size})", fans.format(*size.split(", "))) for size in sizes]
    variances = [look.gives(f"{w}.var(dtype=float) * {fan}", expected, tolerance=0.03) for w, fan in both]
    return variances + [look.gives(f"errors({w})", 0.0, tolerance=5) for w, _ in both]


# How many standard errors the mean is away from 0, and the shares of the numbers between each two bounds.
errors = lambda weights: float(weights.mean(dtype=float) / weights.std(dtype=float) * math.sqrt(weights.size))
shares = lambda weights, *bounds: np.histogram(weights, bounds)[0] / weights.size
UNIFORM = "seeded(xavier_uniform, 300, 200) / math.sqrt(6 / 500)"
NORMAL = "seeded(he_normal, 300, 200) / math.sqrt(2 / 300)"

test_initialisation = table(
    ("xavier_uniform", "float32 weights (fan_in, fan_out) from the package's generator, anew at each call"),
    *draws("xavier_uniform"),
    ("xavier_uniform", "mean 0 and variance 2 / (fan_in + fan_out)"),
    *spread("xavier_uniform", "({} + {})", 2.0),
    ("xavier_uniform", "the weights fill ±√(6 / (fan_in + fan_out)) evenly, and none lies outside"),
    look.gives(f"np.abs({UNIFORM}).max()", 0.995, tolerance=0.00501),
    look.gives(f"shares({UNIFORM}, -1.00001, -0.5, 0, 0.5, 1.00001)", [0.25] * 4, tolerance=0.01),
    ("he_normal", "float32 weights (fan_in, fan_out) from the package's generator, anew at each call"),
    *draws("he_normal"),
    ("he_normal", "mean 0 and variance 2 / fan_in"),
    *spread("he_normal", "{}", 2.0),
    ("he_normal", "of a normal distribution 68.3 % lie within one standard deviation, 95.4 % within two"),
    look.gives(f"shares({NORMAL}, -2, -1, 0, 1, 2)", [0.1359, 0.3413, 0.3413, 0.1359], tolerance=0.01),
)


# Linear and Sequential

# The operations that stage 01 brings, for which stage 05 will have rules.
OPERATIONS = set("Add Sub Neg Mul Div Pow Matmul Reshape Transpose Index Sum Mean Max Exp Log".split())


def cut_off(run: Callable[[], Tensor], **sources: Tensor) -> tuple[str, ...]:
    """The sources that no operations lead from to the result of `run`; and operations that will have no rule."""
    ways, strange = {name: [source] for name, source in sources.items()}, []

    def note(operation: str, result: Tensor, inputs: tuple[Tensor, ...], saved: dict[str, Any]) -> None:
        strange.extend({operation} - OPERATIONS)
        for way in ways.values():
            way.extend([result] if any(tensor is met for tensor in inputs for met in way) else [])

    with watch(note):
        result = run()
    return (*(name for name, way in ways.items() if not any(result is met for met in way)), *strange)


filled = lambda W, b=None: put(Linear(*W.shape, bias=b is not None), weight=W, bias=b)
afterwards = lambda function, x: [function(x), x][1]
twice = lambda function, x: [function(x), function(x)][1]


def visited(run: Callable[[Sequential, Tensor], Any]) -> np.ndarray:
    """Which parts of a model `run` has called, in order: the numbers that they add."""
    calls: list[float] = []
    model = Sequential(*(lambda x, n=n: calls.append(n) or x + n for n in (3.0, 5.0, 7.0)))
    run(model, Tensor([1.0]))
    return np.array(calls)


SHAPES = ((5, 3), (1, 3), (3,), (2, 5, 3), (0, 3), (2, 1, 2, 3))
X43, SQUARE, W37, B7 = single(4, 3), single(3, 3), single(3, 7, seed=1), single(7, seed=2)
fitting = lambda x, n: {"x": x, "W": single(x.shape[-1], n, seed=1), "b": single(n, seed=2)}
linear = lambda text, right, x, n=4, **options: look.gives(text, right, **fitting(x, n), **options)
misfit = lambda x: look.raises("filled(W, b)(x)", ValueError, "Linear", "3", x.shape, x=x, W=W37, b=B7)

test_linear = table(
    ("Linear.forward", "x @ weight + bias, for any number of leading axes"),
    *(linear("filled(W, b)(x)", "x @ W + b", single(*shape)) for shape in SHAPES),
    linear("filled(W, b)(x)", "x @ W + b", SQUARE, 3),
    linear("filled(W, b)(x.T)", "x.T @ W + b", SQUARE, 3),
    linear("filled(W, b)(x[:, :3])", "x[:, :3] @ W + b", single(3, 3), 1),
    linear("filled(W)(x)", "x @ W", X43),
    linear("filled(W)(x)", "x @ W", SQUARE, 3),
    ("Linear.forward", "the result has the float dtype of the input, or the wider one"),
    linear("filled(W, b)(x)", "x @ W + b", X43, dtype=np.float32),
    linear("filled(W, b)(x)", "x @ W + b", numbers(4, 3), dtype=np.float64, tolerance=1e-12),
    linear("filled(W, b)(x)", "x @ W + b", np.array([[1, 2, 3]]), dtype=np.float32),
    ("Linear.forward", "nothing is changed, and weights that were changed count from the next call on"),
    linear("twice(filled(W, b), x)", "x @ W + b", SQUARE, 3),
    linear("afterwards(filled(W, b), x)", "x", SQUARE, 3),
    linear("[(l := filled(W, b))(x), put(l, weight=Tensor(W.data * 2)), l(x)][2]", "x @ (W * 2) + b", SQUARE, 3),
    linear("[(l := filled(W, b))(x), overwrite([l.weight, l.bias]), l(x)][2]", "x @ (W * 0 + 50) + 50", X43, 5),
    ("Linear.forward", "another length of the last axis is refused, by the layer's name and with both"),
    *map(misfit, (single(2, 4), single(3, 1), single(7), np.array(1.5))),
    ("Linear.forward", "a gradient finds its way from the result to x, weight and bias"),
    *(look.equals(f"cut_off(lambda: filled(W, b)(x), {s}={s})", (), x=X43, W=W37, b=B7) for s in "xWb"),
    look.equals("cut_off(lambda: filled(W)(x), x=x, weight=W)", (), x=X43, W=W37),
)

test_sequential = table(
    ("Sequential.forward", "each part gets what the one before it returned, in order"),
    look.gives("Sequential(lambda x: x + 1.0, lambda x: x * 10.0, lambda x: x - 3.0)(x)", [17.0, 27.0], x=[1.0, 2.0]),
    look.gives("Sequential(lambda x: x * 2.0, lambda x: x + 1.5)(x)", [7.5], x=[3.0]),
    look.gives("Sequential(lambda x: x * 2.5)(x)", [7.5], x=[3.0]),
    look.gives("Sequential(Sequential(lambda x: x + 1.5), lambda x: x * x, lambda x: x - 1.0)(x)", [11.25], x=[2.0]),
    ("Sequential.forward", "without parts the input comes back"),
    look.gives("Sequential()(x)", [4.5], x=[4.5]),
    look.gives("Sequential(Sequential(), lambda x: x * 2.0)(x)", [9.0], x=[4.5]),
    ("Sequential.forward", "every part runs once, and x is not changed"),
    look.equals("visited(lambda model, x: model(x))", np.array([3.0, 5.0, 7.0])),
    look.gives("afterwards(Sequential(lambda x: x * 2.0, lambda x: x + 1.0), x)", [3.5], x=[3.5]),
    ("Sequential.forward", "a gradient finds its way from the result to x"),
    look.equals("cut_off(lambda: Sequential(lambda x: x * 2.0, lambda x: x + 1.0)(x), x=x)", (), x=[1.5, 2.5]),
    look.equals("Sequential()(x) is x", True, x=[1.5, 2.5]),
)


# Dropout

ONES, BOX = np.ones((200, 200), np.float32), np.ones((20, 30, 40))
zeros = lambda result: float((plain(result) == 0).mean())  # their share
# The share of elements that are the same in two calls, and the variance of the number of zeros over 200 calls.
alike = lambda layer, x: float((seeded(layer, x).data == layer(x).data).mean())
variance = lambda layer, x: float(np.var([(layer(x).data == 0).sum() for _ in range(200)]))
mode_after = lambda layer, x, training: [layer(x, training=training), layer.training][1]
evaluating = lambda layer: put(layer, training=False)
rows = lambda result, axis: np.moveaxis(result.data != 0, axis, 0).reshape(result.shape[axis], -1)
masks = lambda result, axis: len(np.unique(rows(result, axis), axis=0))  # how many different ones along an axis


def scaled(e: Expression, p: float, tolerance: float) -> None:
    """What is not dropped is divided by 1 - p, in the dtype of x."""
    (x,) = e.arrays()
    result = np.asarray(plain(e.result()))
    close(result, np.where(result == 0, 0, x / (1 - p)), f"{e.text}, where it is not 0,", e.given, tolerance, x.dtype)


# The share of zeros among 40,000, to five standard errors.
error = lambda share: 5 * math.sqrt(share * (1 - share) / ONES.size)
drops = lambda text, share: look.gives(f"zeros({text})", share, tolerance=error(share), x=ONES)

test_dropout = table(
    ("Dropout.forward", "a share p of the elements is zero"),
    *(drops(f"seeded(Dropout({p}), x)", p) for p in (0.1, 0.3, 0.5, 0.8)),
    ("Dropout.forward", "what is kept is divided by 1 - p, in the dtype of x"),
    *(look.case(scaled, f"seeded(Dropout({p}), x)", p, 1e-6, x=single(60, 60) + 10) for p in (0.1, 0.3, 0.5, 0.9)),
    look.case(scaled, "seeded(Dropout(0.7), x)", 0.7, 1e-12, x=numbers(60, 60) + 10.0),
    ("Dropout.forward", "each element, and each call, is drawn for itself, from the package's generator"),
    *(look.equals(f"masks(seeded(Dropout(0.5), x), axis={axis})", BOX.shape[axis], x=BOX) for axis in range(3)),
    look.gives("seeded(variance, Dropout(0.5), x)", 2.5, tolerance=0.5, x=np.ones(10)),
    look.gives("alike(Dropout(0.5), x)", 0.5, tolerance=0.02, x=ONES),
    look.gives("seeded(Dropout(0.5), x) - seeded(Dropout(0.5), x)", np.zeros((200, 200)), x=ONES),
    ("Dropout.forward", "with p = 0 x itself comes back, and with p = 1 zeros"),
    look.gives("Dropout(0.0)(x)", "x", x=numbers(5, 4), dtype=np.float64, tolerance=0.0),
    look.equals("Dropout(0.0)(x) is x", True, x=numbers(5, 4)),
    look.gives("Dropout(1.0)(x)", "x * 0", x=numbers(5, 4), dtype=np.float64),
    look.gives("Dropout(1.0)(x)", "x * 0", x=single(5, 4), dtype=np.float32),
    look.gives("Dropout(0.5)(x)", "x", x=np.zeros((0, 3))),
    ("Dropout.forward", "it drops in training, which layers are born in, and returns x itself in evaluation"),
    drops("seeded(Dropout(0.3), x)", 0.3),
    drops("seeded(evaluating(Dropout(0.3)), x)", 0.0),
    look.equals("evaluating(Dropout(0.3))(x) is x", True, x=numbers(5, 4)),
    ("Dropout.forward", "training=True or False decides for one call, whatever the mode, and leaves the mode alone"),
    *(drops(f"seeded(Dropout(0.3), x, training={each})", 0.3) for each in (None, True)),
    *(drops(f"seeded(evaluating(Dropout(0.3)), x, training={each})", 0.0) for each in (None, False)),
    drops("seeded(Dropout(0.3), x, training=False)", 0.0),
    drops("seeded(evaluating(Dropout(0.3)), x, training=True)", 0.3),
    look.equals("mode_after(Dropout(0.3), x, training=False)", True, x=X43),
    look.equals("mode_after(evaluating(Dropout(0.3)), x, training=True)", False, x=X43),
    ("Dropout.forward", "x is not changed, and a gradient finds its way to it"),
    look.gives("seeded(afterwards, Dropout(0.5), x)", "x", x=numbers(5, 4)),
    look.equals("cut_off(lambda: Dropout(0.5)(x), x=x)", (), x=numbers(5, 4)),
    look.equals("cut_off(lambda: Dropout(0.5)(x, training=False), x=x)", (), x=numbers(5, 4)),
)


# Systems


def held_bytes(e: Expression) -> None:
    """The bytes that are held when the input and what every part returned are kept."""
    parts, x = e.result(), Tensor(np.ones((80, 300)))
    kept = allocated(lambda: list(itertools.accumulate(parts, lambda x, part: part(x), initial=Tensor(x.data))))[1]
    answer = activation_bytes(Sequential(*parts), x)
    given = f"activation_bytes(Sequential(*{e.text}), x), x (80, 300) in float64"
    holds(abs(answer - kept) < 5_000, f"about {kept} bytes (measured)", answer, given)


def simulated(layers: int, fan_in: int, variance: float, relu: bool = False) -> float:
    """Mean square of what comes out of 60 random networks that are really run."""
    rng = np.random.default_rng(11)
    x = rng.normal(size=(60, 8, fan_in))
    for _ in range(layers):
        x = x @ rng.normal(0, math.sqrt(variance), (60, fan_in, fan_in))
        x = np.maximum(x, 0) if relu else x
    return float(np.square(x).mean())


def enumerated(inputs: list[float], weights: list[float], p: float) -> np.ndarray:
    """Mean and standard deviation over all 2ⁿ networks, each run and weighted by its probability."""
    choices = np.array(list(itertools.product((0, 1), repeat=len(inputs))))
    outputs = (choices * inputs / (1 - p)) @ np.array(weights)
    chances = np.where(choices, 1 - p, p).prod(axis=1)
    mean = (outputs * chances).sum()
    return np.array([mean, np.sqrt((chances * (outputs - mean) ** 2).sum())])


measured = lambda parts: look.case(held_bytes, parts, weight=numbers(300, 100))
moments = lambda of: look.gives(f"np.array(ensemble_moments({of}))", f"enumerated({of})", tolerance=1e-9)
signal = lambda arguments: look.gives(f"signal_after({arguments}) / simulated({arguments})", 1.0, tolerance=0.05)
two = lambda text, *numbers: look.equals(f"np.array(model_bytes({text}))", np.array(numbers))
count = lambda parts, right: look.equals(f"activation_bytes(Sequential({parts}), x)", right, x=single(4, 6))

BYTES = "Made(trained=weight(1, 2, 3), wide=weight(4, 5, dtype='float64'), frozen=buffer(6, 7, 8))"

test_systems = table(
    ("model_bytes", "the bytes of all tensors, and those of the gradients of parameters"),
    two(BYTES, 3 * 4 + 2 * 8 + 3 * 8, 3 * 4 + 2 * 8),
    two("Made(a=weight(1, 2, 3), b=weight(4))", 4 * 4, 4 * 4),
    two("Made(a=buffer(1.5, 2.5))", 2 * 8, 0),
    look.equals("model_bytes(Made(a=weight(1, 2, 3), b=buffer(4)))", (20, 12)),
    look.equals("model_bytes(Made())", (0, 0)),
    ("model_bytes", "tensors of parts, at any depth, and each once, however often it is used"),
    two(LISTS, 3 * 4 + 2 * 8, 3 * 4),
    *(two(model, 3 * 4, 3 * 4) for model in (TIED, SHARED)),
    two(EQUAL, 4 * 4, 4 * 4),
    ("activation_bytes", "what is held, as measured, when the input and every result are kept"),
    *map(measured, ("[]", "[lambda x: x * 2.0, lambda x: x + 1.0]", "[lambda x: x + 1.0] * 6")),
    measured("[lambda x: x @ weight, lambda x: x * 2.0]"),
    count("lambda x: x + 1.0, lambda x: x * 2.0", 3 * 4 * 6 * 4),
    ("activation_bytes", "memory that a part hands on, as it is or as a view, counts once"),
    measured("[lambda x: x, lambda x: x * 2.0]"),
    measured("[lambda x: x * 2.0, lambda x: x.reshape(-1, 300), lambda x: x @ weight]"),
    measured("[lambda x: x @ weight, lambda x: x * 2.0, lambda x: x.T]"),
    count("lambda x: x + 1.0, lambda x: x[:, :1]", 2 * 4 * 6 * 4),
    count("lambda x: x[:, :1]", 4 * 6 * 4),
    ("activation_bytes", "every part runs once, in order"),
    look.equals("visited(activation_bytes)", np.array([3.0, 5.0, 7.0])),
    ("signal_after", "each layer multiplies the mean square by fan_in times the variance, and ReLU halves it"),
    *(look.gives(f"signal_after({n}, 100, 0.03)", 3.0**n) for n in (0, 1, 5)),
    *(look.gives(f"signal_after({n}, 30, 0.2, relu=True)", 3.0**n) for n in (1, 4)),
    look.gives("signal_after(10, 256, 1 / 256, relu=True) * 2**10", 1.0),
    ("signal_after", "what running many networks gives"),
    *map(signal, ("1, 40, 0.3", "1, 160, 0.001, True", "2, 100, 0.03")),
    ("ensemble_moments", "mean and standard deviation over all 2ⁿ networks, each run and weighted by its probability"),
    *(moments(f"[1.1, -2.3, 4.0], [3.7, 0.6, 1.3], {p}") for p in (0.0, 0.2, 0.5)),
    moments("[1.5, 2.0, -1.0, 0.5, 3.0], [2.0, 0.5, 1.0, -1.0, 1.0], 0.9"),
    moments("[2.5], [3.0], 0.5"),
    look.gives("ensemble_moments([1.0, 2.0], [3.0, 0.5], 0.5)[0]", 4.0),
)
