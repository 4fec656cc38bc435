"""Gate 12: attention."""

from types import SimpleNamespace
from typing import Any

import numpy as np

from tinytorch import (
    MultiHeadAttention,
    Tensor,
    attention_in_blocks,
    attention_probabilities,
    causal_mask,
    scaled_dot_product_attention,
)
from tinytorch.config import set_backend
from tinytorch.core.attention import AttentionBackward
from tinytorch.systems.attention import (
    attention_flops,
    block_bytes,
    crossover_length,
    probability_bytes,
    window_pairs,
)
from workshop.checks import close, equal, exercise, holds, plain, ratio
from workshop.probes import allocated, differences, gradients_match, leaf, numbers, random_gradient, unwatched
from workshop.tables import Case, Cases, Expression, table

look = Cases(globals())
Array = np.ndarray
f4, inf = np.float32, np.inf
never = {"over": "raise", "invalid": "raise", "divide": "raise"}  # what would be a warning


# What is right, in NumPy, by the definition


def softmaxed(scores: Array, mask: Any = None) -> Array:
    """The softmax of every row, of which the mask forbids some; zeros where it forbids all."""
    added = 0 if mask is None else np.where(mask, 0, -inf) if np.asarray(mask).dtype == bool else mask
    with np.errstate(all="ignore"):
        scores = scores.astype(np.float64) + added
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True, initial=-inf))
        return np.nan_to_num(weights / weights.sum(axis=-1, keepdims=True))


def looked(Q: Array, K: Array, mask: Any = None) -> Array:
    """The probabilities of attention."""
    return softmaxed(Q @ K.swapaxes(-1, -2) / np.sqrt(Q.shape[-1]), mask)


def attended(Q: Array, K: Array, V: Array, mask: Any = None) -> Array:
    return looked(Q, K, mask) @ V


def past(n: int) -> Array:
    return np.arange(n)[:, None] >= np.arange(n)


def halves(x: Array, heads: int) -> Array:
    """(…, n, features) -> (…, heads, n, head_dim), by cutting the features."""
    return np.stack(np.split(x, heads, axis=-1), axis=-3)


def in_heads(x: Array, weights: dict[str, Array], heads: int, mask: Any = None) -> Array:
    """What MultiHeadAttention makes of x, a head after the other."""
    Q, K, V = (x @ weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0) for name in ("query", "key", "value"))
    mixed = attended(halves(Q, heads), halves(K, heads), halves(V, heads), mask)
    joined = np.concatenate([mixed[..., h, :, :] for h in range(heads)], axis=-1)
    return joined @ weights["out.weight"] + weights.get("out.bias", 0)


def summed(gradient: Array, shape: tuple[int, ...]) -> Array:
    """A gradient summed over the axes along which its input of `shape` was broadcast."""
    gradient = gradient.sum(axis=tuple(range(gradient.ndim - len(shape))))
    axes = tuple(axis for axis, length in enumerate(shape) if length == 1)
    return gradient.sum(axis=axes, keepdims=True).reshape(shape)


# Masks and probabilities

PLACES = np.array([1.0, 10.0, 100.0, 1000.0, 10000.0])
SOME = np.array([[True, False, True, True], [False, True, False, False], [True, True, False, True]])
NOWHERE = np.array([[True, False, True, True], [False, False, False, False], [False, True, True, False]])
BIAS = np.array([[0.5, -1.0, 0.0, 2.0], [-inf, 1.5, -inf, -0.5], [0.25, -3.0, 1.0, -inf]])
CLOSED = np.array([[0.5, -inf, 0.0, 2.0], [-inf] * 4, [-inf, 1.0, 0.5, -inf]])
for shared in (SOME, NOWHERE, BIAS, CLOSED):
    shared.flags.writeable = False
S = numbers(3, 4)
STEEP = np.array([[1000.0, 999.0, -1000.0], [-1000.0, -1001.0, -1003.0], [500.0, 0.0, 501.0]])
HIDDEN = np.array([[1000.0, 0.5, -0.5], [0.25, 800.0, 1.0], [-900.0, -901.0, 100.0]])
BEHIND = np.array([[False, True, True], [True, False, True], [True, True, False]])


def check_rows(e: Expression, tolerance: float, dtype: Any) -> None:
    scores, mask = e.letters["scores"], e.letters.get("mask")
    given = {name: value.astype(dtype if name == "scores" else value.dtype) for name, value in e.letters.items()}
    with np.errstate(**never):
        got = e(*given.values())
    close(got, softmaxed(scores, mask), e.text, e.given, tolerance, dtype)
    if mask is not None:
        equal(given["mask"], mask, "mask, afterwards", e.given)


def rows(scores: Array, mask: Any = None, dtype: Any = np.float64) -> Case:
    """The probabilities of these scores under this mask, without a warning."""
    letters = {"scores": scores} | ({} if mask is None else {"mask": mask})
    text = f"attention_probabilities({', '.join(letters)})"
    return look.case(check_rows, text, 1e-6 if dtype == f4 else 1e-12, dtype, **letters)


test_probabilities = table(
    ("causal_mask", "position i may look at positions 0 to i"),
    *(look.gives(f"causal_mask({n}) @ PLACES[:{n}]", past(n) @ PLACES[:n], tolerance=0) for n in (1, 2, 3, 5)),
    ("causal_mask", "booleans, True where a position may look"),
    *(look.gives(f"causal_mask({n})", past(n), tolerance=0, dtype=bool) for n in (1, 4)),
    look.gives("np.where(causal_mask(3), S[:, :3], -1.5)", np.where(past(3), S[:, :3], -1.5), tolerance=0),
    ("attention_probabilities", "the softmax of every row, along the last axis"),
    rows(np.log([[1.0, 3.0], [4.0, 1.0]])),
    *(rows(numbers(*shape)) for shape in ((3, 4), (1, 5), (4, 1), (2, 3, 4, 5), (2, 1, 3))),
    ("attention_probabilities", "a mask of booleans: 0 where it is False, and the others of the row sum to 1"),
    rows(np.log([[1.0, 3.0, 4.0], [2.0, 1.0, 1.0]]), np.array([[True, True, False], [True, False, True]])),
    *(rows(S, mask) for mask in (SOME, SOME[0], np.ones((3, 4), bool), SOME[:, :1] | SOME[:, 1:2])),
    *(rows(numbers(2, 3, 5, 5), mask) for mask in (past(5), past(5).T, past(5)[None, None, 2])),
    rows(numbers(2, 2, 3, 4), np.array([SOME, ~SOME])[:, None]),
    ("attention_probabilities", "a mask of floats is added to the scores"),
    rows(S, BIAS),
    *(rows(S, mask) for mask in (BIAS[2], BIAS[:1], numbers(3, 4, seed=5), np.where(SOME, 0.0, -inf))),
    *(rows(numbers(2, 2, 3, 4), mask) for mask in (BIAS, numbers(2, 1, 1, 4, seed=5), numbers(2, 1, 1, seed=6))),
    ("attention_probabilities", "a row that may look nowhere is all zeros, without NaN or warning"),
    *(rows(S, mask) for mask in (NOWHERE, CLOSED)),
    *(rows(numbers(2, 3, 4), mask) for mask in (NOWHERE, CLOSED, np.zeros((3, 4), bool), np.full(4, -inf))),
    rows(1000 * S, NOWHERE),
    rows(1000 * S, CLOSED),
    ("attention_probabilities", "scores of any size, without overflow and without a row that vanishes"),
    *(rows(STEEP, mask) for mask in (None, past(3), np.where(past(3), 0.5, -inf))),
    *(rows(S - far) for far in (1e4, -1e4, 800.0, -800.0)),
    rows(S, numbers(3, 4, seed=5) * 1000),
    *(rows(S - np.array([[0.0], [far], [0.0]]), mask) for far in (1e3, -1e3) for mask in (None, SOME)),
    ("attention_probabilities", "also where the largest score of a row is one that the mask forbids"),
    *(rows(HIDDEN, mask) for mask in (BEHIND, np.where(BEHIND, 0.0, -inf))),
    rows(HIDDEN / 4, BEHIND),
    ("attention_probabilities", "float32 for float32, also with large scores and masks of float64"),
    *(rows(scores, mask, f4) for scores in (S, 1000 * S, 50 * S) for mask in (None, SOME, NOWHERE, BIAS)),
    rows(STEEP, past(3), f4),
    ("attention_probabilities", "scores in any order in memory, of any number of rows and keys"),
    rows(S[:, ::2], SOME[:, ::2]),
    rows(np.asfortranarray(numbers(2, 3, 4)), BIAS),
    rows(numbers(3, 2, 4).swapaxes(0, 1), SOME),
    *(rows(np.zeros(shape)) for shape in ((0, 3), (3, 0), (2, 0, 0))),
)


# Attention of one head, and its rule

Q, K, V = numbers(3, 2), numbers(4, 2, seed=1), numbers(4, 5, seed=2)
QKV = {"Q": Q, "K": K, "V": V}
SELF = {"Q": numbers(2, 2, 5, 3), "K": numbers(2, 2, 5, 3, seed=1), "V": numbers(2, 2, 5, 3, seed=2)}
SHARED = {"Q": numbers(2, 3, 4, 2), "K": numbers(2, 1, 4, 2, seed=1), "V": numbers(2, 1, 4, 3, seed=2)}
LOOSE = [  # leading axes that only some have
    {"Q": numbers(3, 2), "K": numbers(2, 4, 2, seed=1), "V": numbers(2, 4, 3, seed=2)},
    {"Q": numbers(2, 3, 2), "K": numbers(4, 2, seed=1), "V": numbers(4, 3, seed=2)},
    {"Q": numbers(3, 2), "K": numbers(4, 2, seed=1), "V": numbers(2, 4, 3, seed=2)},
    {"Q": numbers(2, 1, 3, 2), "K": numbers(1, 3, 4, 2, seed=1), "V": numbers(3, 4, 1, seed=2)},
]


def check_attention(e: Expression, right: str, tolerance: float, dtype: Any) -> None:
    expected = eval(right, {**globals(), **e.letters})
    tensors = e.tensors()
    with np.errstate(**never):
        got = e(*tensors)
    close(got, expected, e.text, e.given, tolerance, dtype)
    for name, before, after in zip(e.letters, e.letters.values(), tensors):
        equal(plain(after), before, f"{name}, afterwards", e.given)


def attends(under: str = "", dtype: Any = np.float64, **letters: Array) -> Case:
    """scaled_dot_product_attention of these Q, K and V, which are not changed, as by the definition."""
    arguments = f"Q, K, V{under and ', '}{under}"
    letters = {name: array.astype(dtype) if name != "mask" else array for name, array in letters.items()}
    text, right = f"scaled_dot_product_attention({arguments})", f"attended({arguments})"
    return look.case(check_attention, text, right, 1e-5 if dtype == f4 else 1e-12, dtype, **letters)


class Counter:
    """A backend whose products are NumPy's, doubled: who does not ask it gets another result."""

    def matmul(self, a: Array, b: Array) -> Array:
        return 2 * np.matmul(a, b)


def check_backend(e: Expression, expected: Any) -> None:
    before = set_backend(Counter())
    try:
        got = e(*e.tensors())
    finally:
        set_backend(before)
    close(got, expected, e.text, f"{e.given}, with a backend whose matmul gives the double", 1e-9)


def doubled(Q: Array, K: Array, V: Array, mask: Any = None) -> Array:
    """Attention with a backend that doubles each product."""
    return 2 * softmaxed(2 * Q @ K.swapaxes(-1, -2) / np.sqrt(Q.shape[-1]), mask) @ V


MISFITS = [((3, 2), (4, 3), (4, 5)), ((3, 2), (4, 2), (3, 2)), ((2,), (4, 2), (4, 2)), ((2, 3, 2), (3, 4, 2), (4, 2))]
BAD_MASKS = [np.ones((3, 4), np.int64), np.ones((4, 3), bool), np.zeros((2, 3, 4)), np.zeros(3)]
SDPA = "scaled_dot_product_attention(Q, K, V{})"
BY_HAND = {"Q": [[0.0], [np.log(3.0)]], "K": [[0.0], [1.0]], "V": [[7.0], [1.0]]}
WHOLE = {"Q": [[1, 2]], "K": [[0, 1], [1, 0]], "V": [[1, 2], [5, 7]]}


def misfit(text: str, *shapes: tuple[int, ...]) -> Case:
    """Q, K and V of these shapes are refused, and all three named."""
    return look.raises(text, ValueError, *shapes, **{name: np.ones(shape) for name, shape in zip("QKV", shapes)})


def bad_mask(mask: Array) -> Case:
    return look.raises(SDPA.format(", mask.data"), ValueError, mask.shape, (3, 4), mask.dtype, **QKV, mask=mask)


test_attention = table(
    ("scaled_dot_product_attention", "each query gets the mixture of values that its probabilities say"),
    look.gives(SDPA.format(""), [[4.0], [2.5]], **BY_HAND),
    *(attends(Q=numbers(3, d), K=numbers(4, d, seed=1), V=numbers(4, 5, seed=2)) for d in (1, 2, 4, 9)),
    attends(**SELF),
    attends(Q=numbers(1, 3), K=numbers(1, 3, seed=1), V=numbers(1, 2, seed=2)),
    ("scaled_dot_product_attention", "under a mask: booleans or floats, an array or a Tensor"),
    *(attends("mask", **QKV, mask=mask) for mask in (SOME, BIAS, SOME[0], BIAS[1])),
    *(attends(mask, **QKV) for mask in ("SOME", "BIAS", "BIAS[:1]", "SOME[:, :1]")),
    *(attends(mask, **SELF) for mask in ("past(5)", "np.where(past(5), 0, -inf)", "numbers(2, 1, 1, 5)")),
    ("scaled_dot_product_attention", "a query that may look nowhere gets zeros, without NaN or warning"),
    *(attends(mask, **QKV) for mask in ("NOWHERE", "CLOSED", "np.zeros((3, 4), bool)")),
    *(attends("mask", **QKV, mask=mask) for mask in (NOWHERE, CLOSED)),
    ("scaled_dot_product_attention", "leading axes broadcast: several heads of queries may share keys and values"),
    attends(**SHARED),
    attends("past(4)", **SHARED),
    *(attends(**letters) for letters in LOOSE),
    ("scaled_dot_product_attention", "float32 for float32, integers become float32; any order in memory"),
    *(attends(mask, f4, **SELF) for mask in ("", "past(5)", "np.zeros(5)")),
    look.gives(SDPA.format(""), "attended(Q, K, V)", dtype=f4, **WHOLE),
    attends(**{name: array.swapaxes(1, 2) for name, array in SELF.items()}),
    attends(**{name: np.asfortranarray(array) for name, array in SELF.items()}),
    attends(Q=1000 * Q, K=K, V=V),
    ("scaled_dot_product_attention", 'goes through the door as "Attention", with the probabilities'),
    *(
        look.door(SDPA.format(mask), "Attention", "probabilities", **QKV)
        for mask in ("", ", BIAS", ", SOME", ", Tensor(SOME)")
    ),
    *(
        look.saves(SDPA.format(mask), "probabilities", f"looked(Q, K{mask})", **QKV)
        for mask in ("", ", SOME", ", BIAS")
    ),
    look.door(SDPA.format(", mask"), "Attention", "probabilities", **QKV, mask=BIAS),
    look.saves(SDPA.format(", mask"), "probabilities", "looked(Q, K, BIAS)", **QKV, mask=BIAS),
    ("scaled_dot_product_attention", "both products come from the backend in use"),
    look.case(check_backend, SDPA.format(""), doubled(Q, K, V), **QKV),
    look.case(check_backend, SDPA.format(", SOME"), doubled(Q, K, V, SOME), **QKV),
    ("scaled_dot_product_attention", "shapes that do not fit are a ValueError that names them"),
    *(misfit(SDPA.format(""), *shapes) for shapes in MISFITS),
    *(bad_mask(mask) for mask in BAD_MASKS),
)


def rule_of(P: Array, *inputs: Any) -> Any:
    """The rule as the tape makes it: with its inputs, and the probabilities P that the operation saved."""
    rule = AttentionBackward()
    rule.inputs, rule.probabilities = inputs, P
    return rule


def check_rule(e: Expression, dtype: Any, seen: Any) -> None:
    P, *arrays, G = e.arrays()
    given = [P.astype(dtype), *(leaf(array, dtype) for array in arrays), G.astype(dtype)]
    with unwatched():
        definition = lambda *tensors: attended(
            *(t.data for t in tensors[:3]), *([t.data for t in tensors[3:]] or [seen])
        )
        right = list(differences(definition, arrays, G))
    with np.errstate(**never):
        got = e(*given)
    holds(isinstance(got, (tuple, list)), "a tuple of gradients", got, e.given)
    equal(len(got), len(arrays), "the number of gradients", e.given)
    for name, array, gradient, expected in zip([*e.letters][1:], arrays, got, right):
        kept = summed(gradient, array.shape) if isinstance(gradient, Array) else gradient
        close(kept, expected, f"the gradient of {name}", e.given, 1e-4 if dtype == f4 else 1e-7, dtype)
    for name, before, after in zip(e.letters, e.arrays(), given):
        equal(plain(after), before.astype(dtype), f"{name}, afterwards", e.given)


def goes_back(dtype: Any = np.float64, seen: Any = None, **letters: Array) -> Case:
    """The rule alone: what it answers is told by central differences. `seen`: a mask that is no input."""
    Q, K, V, *mask = letters.values()
    P, G = looked(Q, K, *mask or [seen]), random_gradient(attended(Q, K, V).shape)
    return look.case(check_rule, f"rule_of(P, {', '.join(letters)}).backward(G)", dtype, seen, P=P, **letters, G=G)


def check_rule_backend(e: Expression) -> None:
    P, Q, K, V, G = e.arrays()
    before = set_backend(Counter())
    try:
        got = e(P, leaf(Q), leaf(K), leaf(V), G)
    finally:
        set_backend(before)
    given, D = f"{e.given}, with a backend whose matmul gives the double", 2 * G @ V.T
    D = (D - (D * P).sum(axis=-1, keepdims=True)) * P / np.sqrt(Q.shape[-1])
    for name, gradient, expected in zip("QKV", got, (2 * D @ K, 2 * D.T @ Q, 2 * P.T @ G)):
        close(gradient, expected, f"the gradient of {name}", given, 1e-9)


ONE = {"Q": [[1.0, 2.0]], "K": [[0.5, 1.0], [-1.0, 0.25]], "V": [[1.0], [3.0]]}
ONE = {name: np.array(value) for name, value in ONE.items()}
LARGE = {"Q": 200 * Q, "K": K, "V": V}

test_rule = table(
    ("AttentionBackward.backward", "the gradients of Q, K and V"),
    goes_back(**ONE),
    goes_back(**QKV),
    *(goes_back(Q=numbers(2, d), K=numbers(3, d, seed=1), V=numbers(3, 2, seed=2)) for d in (1, 4, 9)),
    goes_back(Q=numbers(2, 2, 3, 2), K=numbers(2, 2, 3, 2, seed=1), V=numbers(2, 2, 3, 2, seed=2)),
    ("AttentionBackward.backward", "and of a mask that is an input, which was added after the division by √d"),
    goes_back(**ONE, mask=np.array([[0.5, -0.25]])),
    *(goes_back(**QKV, mask=mask) for mask in (numbers(3, 4, seed=5), numbers(4, seed=5), numbers(3, 1, seed=5))),
    goes_back(**LOOSE[1], mask=numbers(2, 1, 4, seed=6)),
    ("AttentionBackward.backward", "where nothing was looked at, nothing goes back"),
    *(goes_back(seen=mask, **QKV) for mask in (SOME, NOWHERE, np.zeros((3, 4), bool))),
    goes_back(seen=past(4), **SHARED),
    ("AttentionBackward.backward", "where leading axes were broadcast, they may stay: the engine sums over them"),
    goes_back(**SHARED),
    *(goes_back(**letters) for letters in LOOSE),
    ("AttentionBackward.backward", "float32 for float32; any order in memory; nothing that it is given is changed"),
    goes_back(f4, **QKV),
    goes_back(f4, **QKV, mask=numbers(3, 4, seed=5)),
    goes_back(f4, **SHARED),
    goes_back(**{name: np.asfortranarray(array) for name, array in QKV.items()}),
    goes_back(**LARGE),
    ("AttentionBackward.backward", "all products come from the backend in use"),
    look.case(check_rule_backend, "rule_of(P, Q, K, V).backward(G)", P=looked(Q, K), **QKV, G=numbers(3, 5, seed=9)),
    ("AttentionBackward.backward", "so that backward() reaches Q, K, V and a mask"),
    look.slopes(SDPA.format(""), **QKV),
    look.slopes(SDPA.format(", NOWHERE"), **QKV),
    look.slopes(SDPA.format(", mask"), **LOOSE[3], mask=numbers(1, 3, 1, 4, seed=5)),
    look.slopes("scaled_dot_product_attention(x, x, x, past(3))", x=numbers(2, 3, 2)),
)


# Several heads


def weights(features: int, bias: bool = True) -> dict[str, Array]:
    """Numbers for the four layers, by their names in the state."""
    shapes = {"weight": (features, features)} | ({"bias": (features,)} if bias else {})
    names = [f"{layer}.{part}" for layer in ("query", "key", "value", "out") for part in shapes]
    return {name: numbers(*shapes[name.split(".")[1]], seed=10 + i) for i, name in enumerate(names)}


def heads(count: int, features: int, bias: bool = True, dtype: Any = np.float64) -> Any:
    """A layer with these weights."""
    layer = MultiHeadAttention(features, count, bias=bias)
    for name, tensor in layer.named_tensors():
        tensor.data = weights(features, bias)[name].astype(dtype)
    return layer


def mixes(x: Array, count: int, mask: str = "", bias: bool = True, dtype: Any = np.float64) -> Case:
    """What the layer makes of x is what the definition, head by head, makes of it."""
    features = x.shape[-1]
    text = f"heads({count}, {features}, {bias}, np.{np.dtype(dtype).name})(x{mask and ', '}{mask})"
    right = f"in_heads(x, weights({features}, {bias}), {count}{mask and ', '}{mask})"
    return look.case(check_attention, text, right, 1e-5 if dtype == f4 else 1e-11, dtype, x=x.astype(dtype))


def check_parameters(e: Expression, count: int, bias: bool) -> None:
    """The gradient of every parameter of the layer."""
    names = list(weights(4, bias))

    def made(*tensors: Any) -> Any:
        layer = MultiHeadAttention(4, count, bias=bias)
        for name, tensor in zip(names, tensors):
            part, attribute = name.split(".")
            vars(getattr(layer, part))[attribute] = tensor
        return e(layer, Tensor(e.letters["x"]))

    gradients_match(made, *weights(4, bias).values(), given=e.given, names=names)


def learns(count: int, mask: str = "", bias: bool = True) -> Case:
    text = f"layer(x{mask and ', '}{mask})"
    return look.case(
        check_parameters, text, count, bias, layer=f"MultiHeadAttention(4, {count}, {bias})", x=numbers(2, 3, 4)
    )


class Remembers:
    """A cache that notes what it is asked, and answers with what `attend` made of it."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def attend(self, layer_idx: int, Q: Any, K: Any, V: Any) -> Any:
        self.asked.append((layer_idx, Q.data, K.data, V.data))
        return Q * 3.0 + K * V


@exercise("MultiHeadAttention.forward")
def test_a_cache_takes_the_place_of_attention() -> None:
    """a cache is asked with layer_idx, Q, K and V in heads; its answer takes the place of attention"""
    x, w = numbers(2, 3, 4), weights(4)
    parts = [halves(x @ w[f"{name}.weight"] + w[f"{name}.bias"], 2) for name in ("query", "key", "value")]
    for arguments in ({"layer_idx": 5}, {"layer_idx": 2, "mask": past(3)}, {}):
        cache, given = Remembers(), f"heads(2, 4)(x, cache=cache, {', '.join(arguments)})"
        got = heads(2, 4)(Tensor(x), cache=cache, **arguments)
        equal(len(cache.asked), 1, "how often cache.attend is called", given)
        equal(cache.asked[0][0], arguments.get("layer_idx", 0), "the layer_idx that it is given", given)
        for name, right, found in zip("QKV", parts, cache.asked[0][1:]):
            close(found, right, f"the {name} that it is given", given, 1e-11)
        mixed = parts[0] * 3.0 + parts[1] * parts[2]
        joined = np.concatenate([mixed[:, 0], mixed[:, 1]], axis=-1)
        close(got, joined @ w["out.weight"] + w["out.bias"], "the result", f"{given}, attend gives 3 Q + K V", 1e-11)


@exercise("MultiHeadAttention.forward")
def test_the_future_changes_nothing() -> None:
    """under a causal mask a position depends on itself and on the past alone"""
    x, layer, mask = numbers(2, 5, 4), heads(2, 4), past(5)
    before = plain(layer(Tensor(x), mask)).copy()
    for place in (4, 2):
        changed = x.copy()
        changed[:, place:] += numbers(2, 5 - place, 4, seed=3)
        after, given = plain(layer(Tensor(changed), mask)), f"x[:, {place}:] changed, under a causal mask of 5"
        close(after[:, :place], before[:, :place], f"the result before position {place}", given, 1e-12)
        holds(
            np.abs(after[:, place] - before[:, place]).min() > 1e-6, f"another result at position {place}", "the same"
        )


X, SHORT = numbers(2, 5, 6), np.arange(5) < np.array([3, 5]).reshape(2, 1, 1, 1)  # the first sequence has 3 positions
SPLIT, MERGED = "np.stack(np.split(x, {0}, axis=-1), axis=-3)", "np.concatenate(list(np.moveaxis(x, -3, 0)), axis=-1)"
LENGTHS = [((5, 6), 3), ((2, 3, 6), 2), ((2, 3, 4, 6), 6), ((1, 1, 4), 1), ((3, 6, 2), 2), ((1, 4, 8), 4)]


def head_cases(method: str, op: str) -> list[Case]:
    """split_heads or merge_heads of tensors of several shapes, and its gradient."""
    found = []
    for (*leading, n, features), count in LENGTHS:
        x = (
            numbers(*leading, n, features)
            if method == "split_heads"
            else numbers(*leading, count, n, features // count)
        )
        found.append(look.gives(f"heads({count}, {features}).{method}(x)", op.format(count), tolerance=0, x=x))
    return found


test_heads = table(
    ("MultiHeadAttention.split_heads", "head h gets its part of the features of every position"),
    look.gives("heads(2, 4).split_heads(x)", [[[0, 1], [4, 5]], [[2, 3], [6, 7]]], x=np.arange(8.0).reshape(2, 4)),
    *head_cases("split_heads", SPLIT),
    look.gives("heads(2, 6).split_heads(x)", SPLIT.format(2), tolerance=0, dtype=f4, x=X.astype(f4)),
    look.gives("heads(2, 6).split_heads(x)", SPLIT.format(2), tolerance=0, x=numbers(6, 5, 2).T),
    ("MultiHeadAttention.split_heads", "by tensor operations, so that gradients go back to x"),
    *(look.slopes(f"heads({n}, 6).split_heads(x)", x=numbers(*shape)) for n, shape in ((2, (3, 6)), (3, (2, 2, 6)))),
    ("MultiHeadAttention.merge_heads", "the heads' features stand side by side again, in every position"),
    look.gives("heads(2, 4).merge_heads(x)", [[0, 1, 4, 5], [2, 3, 6, 7]], x=np.arange(8.0).reshape(2, 2, 2)),
    *head_cases("merge_heads", MERGED),
    look.gives("heads(2, 6).merge_heads(x)", MERGED, tolerance=0, dtype=f4, x=numbers(2, 2, 5, 3).astype(f4)),
    look.gives("heads(2, 6).merge_heads(x)", MERGED, tolerance=0, x=numbers(4, 5, 2, 3).swapaxes(1, 2)),
    ("MultiHeadAttention.merge_heads", "by tensor operations, so that gradients go back to x"),
    look.slopes("heads(2, 6).merge_heads(x)", x=numbers(2, 3, 3)),
    look.slopes("heads(3, 6).merge_heads(x)", x=numbers(2, 3, 2, 2)),
    ("MultiHeadAttention.forward", "query, key, value, attention in each head, and out"),
    *(mixes(X, count) for count in (1, 2, 3, 6)),
    mixes(X, 2, bias=False),
    mixes(numbers(1, 1, 4), 2),
    ("MultiHeadAttention.forward", "under a mask for all heads, or one for each"),
    *(mixes(X, 2, mask) for mask in ("past(5)", "np.where(past(5), 0, -inf)", "numbers(2, 5, 5)", "past(5)[2]")),
    *(mixes(X, 2, mask) for mask in ("np.stack([past(5), past(5).T])", "np.zeros(5, bool)", "SHORT")),
    ("MultiHeadAttention.forward", "of a single sequence, of batches of batches, of float32"),
    mixes(X[0], 3),
    mixes(numbers(2, 1, 3, 4), 2, "past(3)"),
    mixes(X, 2, "past(5)", dtype=f4),
    mixes(numbers(4, 3, 2).T, 2),
    ("MultiHeadAttention.forward", "gradients reach x, the mask and every parameter"),
    look.slopes("heads(2, 4)(x, past(3))", x=numbers(2, 3, 4)),
    look.slopes("heads(2, 4)(x, mask)", x=numbers(2, 3, 4), mask=numbers(2, 3, 3, seed=5)),
    learns(2, "past(3)"),
    learns(1, bias=False),
    ("MultiHeadAttention.forward", "what is not (…, n, embed_dim) is a ValueError that names both"),
    *(look.raises("heads(2, 4)(x)", ValueError, shape, 4, x=np.ones(shape)) for shape in ((2, 3, 6), (3, 5), (4,))),
)


# In blocks


def blocks(block: int, causal: bool = False, dtype: Any = np.float64, **letters: Array) -> Case:
    """attention_in_blocks is attention, and does not change what it is given."""
    text = f"attention_in_blocks(Q, K, V, {block}{', causal=True' if causal else ''})"
    right = f"attended(Q, K, V{', past(Q.shape[-2])' if causal else ''})"
    letters = {name: array.astype(dtype) for name, array in letters.items()}
    return look.case(check_attention, text, right, 1e-5 if dtype == f4 else 1e-11, dtype, **letters)


def unrecorded(e: Expression) -> None:
    got = e(*e.leaves())
    holds(not got.requires_grad and got.grad_fn is None, "a result that requires no gradient", repr(got), e.given)
    close(got, attended(*e.letters.values()), e.text, e.given, 1e-11)


def check_block_backend(e: Expression) -> None:
    """Where a backend doubles each product, the result is that of doubled scores, doubled."""
    check_backend(e, doubled(*e.letters.values()))


RISING = {
    "Q": np.ones((3, 1)),
    "K": np.array([[0.0], [900.0], [-2000.0], [901.0], [5000.0], [4999.0]]),
    "V": numbers(6, 2),
}
LOW = RISING | {"K": RISING["K"] - 9000}
STEEPER = {"Q": 300 * numbers(4, 2), "K": 3 * numbers(4, 2, seed=1), "V": numbers(4, 3, seed=2)}

test_blocks = table(
    ("attention_in_blocks", "gives what attention gives, for every size of the blocks"),
    *(blocks(block, **SELF) for block in range(1, 7)),
    blocks(100, **SELF),
    ("attention_in_blocks", "also where a query may look only at the past"),
    *(blocks(block, True, **SELF) for block in range(1, 7)),
    blocks(100, True, **SELF),
    ("attention_in_blocks", "queries and keys of different number, values of another length, leading axes"),
    *(blocks(block, **QKV) for block in (1, 2, 3, 4)),
    *(blocks(2, **letters) for letters in LOOSE),
    *(blocks(3, causal, **SHARED) for causal in (False, True)),
    *(blocks(2, Q=numbers(1, d), K=numbers(5, d, seed=1), V=numbers(5, 1, seed=2)) for d in (1, 9)),
    ("attention_in_blocks", "where later blocks bring larger scores, of any size, without overflow"),
    *(blocks(block, **RISING) for block in (1, 2, 4)),
    *(blocks(block, **RISING | {"K": RISING["K"][::-1]}) for block in (1, 4)),
    *(blocks(block, **LOW) for block in (1, 4)),
    *(blocks(block, causal, **STEEPER) for block in (1, 3) for causal in (False, True)),
    ("attention_in_blocks", "float32 for float32, integers become float32; any order in memory"),
    *(blocks(2, causal, f4, **SELF) for causal in (False, True)),
    look.gives("attention_in_blocks(Q, K, V, 1)", "attended(Q, K, V)", dtype=f4, **WHOLE),
    blocks(2, **{name: array.swapaxes(1, 2) for name, array in SELF.items()}),
    blocks(2, **{name: np.asfortranarray(array) for name, array in SELF.items()}),
    ("attention_in_blocks", "records nothing; its products come from the backend in use"),
    look.case(unrecorded, "attention_in_blocks(Q, K, V, 2)", **QKV),
    *(look.case(check_block_backend, f"attention_in_blocks(Q, K, V, {block})", **QKV) for block in (2, 9)),
    ("attention_in_blocks", "what does not fit is a ValueError that names it"),
    *(misfit("attention_in_blocks(Q, K, V, 2)", *shapes) for shapes in MISFITS),
    *(look.raises(f"attention_in_blocks(Q, K, V, {block})", ValueError, "block", block, **QKV) for block in (0, -2)),
    look.raises("attention_in_blocks(Q, K, V, 2, causal=True)", ValueError, "3", "4", **QKV),
)


@exercise("attention_in_blocks")
def test_never_all_scores() -> None:
    """at no time are there n · n numbers"""
    n, tensors = 384, [Tensor(numbers(384, 4, seed=seed)) for seed in range(3)]
    for causal in (False, True):
        peak, _ = allocated(lambda: attention_in_blocks(*tensors, 8, causal))
        given = f"attention_in_blocks(Q, K, V, 8, {causal}), each {(n, 4)}"
        ratio(peak / (n * n * 8), "bytes allocated at its height", f"those of {n} · {n} numbers", 0.4, given=given)


# Systems


def products(*arrays: Array) -> tuple[Array, int]:
    """The matrix product of arrays, one after the other, and the multiplications and additions that it took."""
    result, count = arrays[0], 0
    for array in arrays[1:]:
        count += 2 * result.size * array.shape[-1]
        result = result @ array
    return result, count


def right_probability_bytes(queries: Any, keys: Any, itemsize: int = 4) -> int:
    return looked(np.ones(queries), np.ones(keys)).astype(f"f{itemsize}").nbytes


def right_block_bytes(queries: Any, keys: Any, block: int, itemsize: int = 4) -> int:
    """Online softmax runs, gives what attention gives, and what it holds is counted."""
    Q, K, V, held = numbers(*queries), numbers(*keys, seed=1), numbers(*keys, seed=2), []
    largest, total, mixed = np.full((len(Q), 1), -inf), np.zeros((len(Q), 1)), np.zeros((len(Q), V.shape[1]))
    for start in range(0, len(K), block):
        scores = Q @ K[start : start + block].T / np.sqrt(Q.shape[1])
        before, largest = largest, np.maximum(largest, scores.max(axis=1, keepdims=True))
        scores = np.exp(scores - largest)
        total = total * np.exp(before - largest) + scores.sum(axis=1, keepdims=True)
        mixed = mixed * np.exp(before - largest) + scores @ V[start : start + block]
        held.append(sum(array.size for array in (scores, largest, total, mixed)))
    close(mixed / total, attended(Q, K, V), "online softmax", "as by the definition", 1e-9)
    return max(held) * itemsize


def right_attention_flops(batch: int, length: int, embed_dim: int) -> tuple[int, int]:
    x, w = np.ones((batch, length, embed_dim)), np.ones((embed_dim, embed_dim))
    Q = halves(x, 1)
    scores, first = products(Q, Q.swapaxes(-1, -2))
    return 4 * products(x, w)[1], first + products(scores, Q)[1]


def right_crossover_length(embed_dim: int, weights: int = 4) -> int:
    """Lengths are tried, one after the other."""
    length = 1
    while (
        right_attention_flops(1, length, embed_dim)[1] * 4 <= right_attention_flops(1, length, embed_dim)[0] * weights
    ):
        length += 1
    return length


def right_window_pairs(length: int, window: int) -> int:
    distance = np.arange(length)[:, None] - np.arange(length)
    return int(((distance >= 0) & (distance < window)).sum())


def exactly(text: str) -> Case:
    """What counting gives."""

    def check(e: Expression) -> None:
        with unwatched():
            expected = np.array(eval(f"right_{text}"))
        got = e()
        close(np.array(got) if isinstance(got, tuple) else got, expected, text, tolerance=0)

    return look.case(check, text)


test_systems = table(
    ("probability_bytes", "as nbytes of the probabilities has it"),
    exactly("probability_bytes((5, 3), (5, 3))"),
    exactly("probability_bytes((2, 3, 7, 4), (2, 3, 7, 4), 8)"),
    exactly("probability_bytes((2, 3, 4, 6), (2, 3, 9, 6))"),
    exactly("probability_bytes((2, 6, 5, 2), (2, 1, 5, 2), itemsize=2)"),
    exactly("probability_bytes((4, 2), (3, 7, 2))"),
    exactly("probability_bytes([2, 5, 3], [1, 8, 3])"),
    ("block_bytes", "what online softmax holds while its largest block goes by, whose result is right"),
    exactly("block_bytes((6, 4), (6, 4), 2)"),
    exactly("block_bytes((7, 3), (7, 3), 4, 8)"),
    exactly("block_bytes((5, 3), (11, 3), 3, itemsize=2)"),
    exactly("block_bytes((9, 2), (4, 2), 1)"),
    exactly("block_bytes((5, 3), (8, 3), 100)"),
    exactly("block_bytes([3, 5], [8, 5], 8)"),
    ("attention_flops", "a multiplication and an addition for each turn of the innermost loops"),
    *(exactly(f"attention_flops({sizes})") for sizes in ("1, 3, 4", "2, 5, 3", "3, 1, 6", "4, 8, 2", "1, 9, 1")),
    ("crossover_length", "the first length at which attention's products take more"),
    *(exactly(f"crossover_length({size})") for size in ("1", "4", "7", "12")),
    *(exactly(f"crossover_length({sizes})") for sizes in ("4, 12", "5, 3", "3, 1", "6, weights=2")),
    ("window_pairs", "the pairs that a mask of that window leaves"),
    *(exactly(f"window_pairs({sizes})") for sizes in ("5, 1", "5, 2", "7, 4", "6, 5", "9, 3")),
    *(exactly(f"window_pairs({sizes})") for sizes in ("6, 6", "6, 7", "4, 100", "1, 1")),
)
