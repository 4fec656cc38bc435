"""Gate 11: embeddings. A case is an expression, and what it must give."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tinytorch import Embedding, Layer, Linear, PositionalEncoding, Sequential, Tensor
from tinytorch.systems.embeddings import idle_rows, lookup_savings, position_bytes, shift_rotation, table_share
from tinytorch.text.embeddings import EmbeddingBackward, create_sinusoidal_embeddings, sum_rows, token_indices
from workshop.checks import close, equal, holds
from workshop.probes import at_the_door, leaf, numbers, random_gradient
from workshop.tables import Case, Cases, Expression, table

look = Cases(globals())
f4, f8 = np.float32, np.float64


class Made(Layer):
    """A layer with these attributes."""

    def __init__(self, **attributes: Any) -> None:
        vars(self).update(attributes)


put = lambda layer, **attributes: [vars(layer).update(attributes), layer][1]
whole = lambda *values: np.array(values)
drawn = lambda below, *shape, seed=0: np.random.default_rng(seed).integers(0, below, shape)
afterwards = lambda function, x: [function(x), x][1]


# Indices

indices = lambda text, right, **letters: look.equals(f"token_indices({text})", right, **letters)
outside = lambda text, *mentions, **letters: look.raises(f"token_indices({text})", ValueError, *mentions, **letters)
no_integers = lambda text, *mentions, **letters: look.raises(f"token_indices({text})", TypeError, *mentions, **letters)
PAIRS = drawn(9, 3, 4)

test_indices = table(
    ("token_indices", "lists, arrays and Tensors of any shape become an array of the same integers"),
    indices("[2, 0, 3], 4", whole(2, 0, 3)),
    indices("[[2, 0, 1], [1, 3, 0]], 4", whole([2, 0, 1], [1, 3, 0])),
    indices("x, 9", PAIRS, x=PAIRS),
    indices("x.data, 9", PAIRS, x=PAIRS),
    indices("x.data.T, 9", PAIRS.T, x=PAIRS),
    indices("x, 9", PAIRS, x=PAIRS.astype(np.uint8)),
    indices("x, 300", whole(299, 17, 250), x=np.array([299, 17, 250], np.int16)),
    look.equals("type(token_indices(x, 9)).__name__", "ndarray", x=PAIRS),
    look.equals("token_indices(x, 9).dtype.kind in 'iu'", True, x=PAIRS.astype(np.uint8)),
    look.gives("afterwards(lambda t: token_indices(t, 9), x)", PAIRS, x=PAIRS),
    ("token_indices", "a single number has the shape (), and no number at all is allowed"),
    indices("3, 7", np.array(3)),
    indices("np.int64(6), 7", np.array(6)),
    indices("[[5]], 6", whole([5])),
    *(look.equals(f"token_indices({empty}, 7).shape", shape) for empty, shape in (("[]", (0,)), ("[[], []]", (2, 0)))),
    look.equals("token_indices([], 7).dtype.kind in 'iu'", True),
    look.equals("token_indices(x, 7).shape", (3, 0), x=np.zeros((3, 0), np.int64)),
    ("token_indices", "an index outside of the vocabulary is refused, by itself and with the vocabulary's size"),
    outside("x, 23", 31, 23, x=whole(4, 0, 31, 5)),
    outside("x, 23", 37, 23, x=whole(37, 4, 5)),
    outside("x, 23", 23, x=whole([22, 4], [5, 23])),
    outside("x, 23", -1, 23, x=whole([22, -1], [5, 6])),
    outside("x, 23", -23, 23, x=whole(-23)),
    outside("x, 23", 41, 23, x=whole(7, 41, -12, 36)),
    outside("x, 23", -12, 23, x=whole(7, -12, 41, -9)),
    outside("x.data.T, 23", -12, 23, x=whole([7, -12], [22, 3])),
    outside("[31], 23", 31, 23),
    outside("x, 23", 200, 23, x=np.array([4, 200], np.uint8)),
    outside("47, 23", 47, 23),
    ("token_indices", "floats and booleans are refused by their dtype, whatever their values"),
    *(no_integers("x, 5", kind, x=np.array([1.0, 2.0], kind)) for kind in ("float32", "float64")),
    no_integers("x.data, 5", "float64", x=np.array([1.5, -2.0])),
    no_integers("x.data, 5", "float64", x=np.array([[71.0]])),
    no_integers("x, 5", "bool", x=np.array([True, False])),
    no_integers("2.5, 5", "float"),
    no_integers("[1.0, 2.0], 5", "float"),
)


# Sums of rows


def added(indices: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """(count, width): each row added to the one that its index names, one after the other, in float64."""
    result = np.zeros((count, rows.shape[-1]))
    for index, row in zip(indices.ravel(), rows.reshape(-1, rows.shape[-1]), strict=True):
        result[index] += row
    return result


def sums(i: Any, count: int, r: np.ndarray | None = None, rows: str = "r.data", **options: Any) -> Case:
    """sum_rows gives what adding row by row gives."""
    letters = {"i": np.asarray(i), "r": numbers(len(i), 3) if r is None else r}
    right = f"added(i, {rows.replace('.data', '')}, {count})"
    return look.gives(f"sum_rows(i.data, {rows}, {count})", right, **letters, **options)


class Noting(np.ndarray):
    """Rows that note what is done with them, or with rows picked out of them: ["pick", "reduceat", …]."""

    notes: list[str] = []

    def __getitem__(self, index: Any) -> Any:
        Noting.notes.append("pick")
        return super().__getitem__(index)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = (), **options: Any) -> Any:
        Noting.notes.append(method)
        bare = [each.view(np.ndarray) if isinstance(each, Noting) else each for each in (*inputs, *out)]
        options |= {"out": tuple(bare[len(inputs) :])} if out else {}
        return getattr(ufunc, method)(*bare[: len(inputs)], **options)


def check_few(e: Expression, count: int) -> None:
    """Neither np.add.at nor a loop over single rows."""
    Noting.notes, i, rows = [], e.letters["i"], e.letters["r"].view(Noting)
    result = np.asarray(e(i, rows))
    done = Noting.notes
    close(result, added(i, e.letters["r"], count), e.text, e.given)
    got = "np.add.at, as slow as a loop" if "at" in done else f"{len(done)} operations, as in a loop over rows"
    holds("at" not in done and len(done) <= 100, "at most 100 NumPy operations with rows, no np.add.at", got, e.given)


few = lambda i, count: look.case(check_few, f"sum_rows(i, r, {count})", count, i=i, r=numbers(len(i), 3))
FAR = np.array([69_999, 3, 65_536, 0, 256, 69_999, 65_536, 0])
test_sums = table(
    ("sum_rows", "the rows of each index are added up, whatever their order"),
    sums([2, 0, 2], 3, whole([1.0], [10.0], [100.0])),
    sums([1, 0, 1, 1, 0, 2], 3),
    sums([2, 2, 2, 2], 3),
    sums([0, 1, 2, 3], 4),
    sums([3, 1, 2, 0], 4),
    sums([0, 0, 1, 1, 1, 2], 3),
    sums([0], 1, numbers(1, 5)),
    sums(drawn(65, 500), 65, numbers(500, 7), tolerance=1e-12),
    sums(drawn(9, 40), 9, numbers(40, 1)),
    ("sum_rows", "a row without any index is zeros, and there are as many rows as asked for"),
    sums([4, 1, 4], 6),
    sums([1, 2], 3),
    sums([0, 1], 5),
    *(sums(drawn(9, 0), count) for count in (4, 1, 0)),
    ("sum_rows", "indices of any size and any integer dtype"),
    *(sums(np.array([4, 1, 4, 0], kind), 5) for kind in ("int8", "uint8", "int32", "uint64")),
    sums([299, 43, 299, 3, 256, 0, 256, 255], 300),
    sums(FAR, 70_000),
    ("sum_rows", "a new array of the dtype of the rows; indices and rows stay as they are"),
    *(sums([3, 1, 3, 0], 4, numbers(4, 3).astype(kind), dtype=kind) for kind in (f4, f8)),
    look.equals("sum_rows(i.data, r.data, 4).dtype", np.dtype(f4), i=drawn(9, 0), r=np.zeros((0, 3), f4)),
    look.keeps("sum_rows(i.data, r.data, 4)", i=whole(0, 1, 2, 3), r=numbers(4, 3)),
    look.keeps("sum_rows(i.data, r.data, 3)", i=whole(2, 0, 2, 1), r=numbers(4, 3)),
    ("sum_rows", "rows that do not lie one after the other in memory"),
    sums([2, 0, 2, 1], 3, numbers(5, 4), "r.data.T"),
    sums([2, 0, 2, 1], 3, numbers(4, 6), "r.data[:, ::2]"),
    sums([2, 0, 2, 1], 3, numbers(4, 3), "r.data[::-1]"),
    ("sum_rows", "by few operations of NumPy for many rows"),
    few(drawn(7, 1000), 7),
    few(np.sort(drawn(20, 1500)), 20),
)


# The layer

made = lambda W: put(Embedding(*W.shape), weight=W)
W53 = numbers(5, 3)
embeds = lambda text, right, W=W53, **options: look.gives(text, right, W=W, **options)
INDICES = ([2, 0, 4], [[2, 0, 2], [4, 1, 1]], [[3]], [[[1], [4]]], [0, 1, 2, 3, 4])
refused = lambda kind, *mentions, x: look.raises("made(W)(x)", kind, *mentions, W=W53, x=x)


def check_saved(e: Expression, expected: list[Any]) -> None:
    """The door keeps the indices as integers in their shape, whatever they were given as."""
    saved = at_the_door(lambda: e(*e.leaves()), e.given)[2]
    equal(np.asarray(saved.get("indices")), np.array(expected), "indices, as saved", e.given)


test_embedding = table(
    ("Embedding.forward", "the row of the table for each index, for indices of any shape"),
    *(embeds(f"made(W)({i})", f"W[np.array({i})]", tolerance=0) for i in INDICES),
    embeds("made(W)(x)", "W[x]", tolerance=0, x=whole([1, 4], [0, 1])),
    embeds("made(W)(x.data.T)", "W[x.T]", tolerance=0, x=whole([1, 4, 2], [0, 1, 3])),
    *(embeds(f"made(W)({i})", f"W[{i}]") for i in (0, 3)),
    embeds("made(W)(x)", "W[x]", x=np.zeros((2, 0), np.int64)),
    embeds("made(W)([[0, 0]])", "W[[[0, 0]]]", numbers(1, 4)),
    embeds("made(W)([6, 2])", "W[[6, 2]]", numbers(7, 1)),
    ("Embedding.forward", "in the dtype of the table, in memory of its own"),
    *(embeds("made(W)([1, 4])", "W[[1, 4]]", W53.astype(kind), dtype=kind) for kind in (f4, f8)),
    look.equals("Embedding(6, 2)([[5]]).dtype", np.dtype(f4)),
    *(look.keeps(f"made(W)({i})", W=W53) for i in ([1, 2], [0, 1, 2, 3, 4], 3)),
    ("Embedding.forward", "a table that was changed counts from the next call on"),
    embeds("[(e := made(W))([1]), put(e, weight=Tensor(W.data * 2)), e([1, 3])][2]", "W[[1, 3]] * 2"),
    embeds("[(e := made(W))([1]), e.weight.data.fill(50), e([1, 3])][2]", "W[[1, 3]] * 0 + 50"),
    embeds("[(e := made(W))([1, 1]), e([2])][1]", "W[[2]]"),
    ("Embedding.forward", "indices that token_indices does not take are refused"),
    *(refused(ValueError, bad, 5, x=whole(0, bad)) for bad in (-1, 5, 31)),
    *(refused(TypeError, x.dtype, x=x) for x in (np.array([1.0, 2.0], f4), np.array([True, False]))),
    ("Embedding.forward", 'through the door as "Embedding", from the table, with the indices saved'),
    *(look.door(f"made(W)({i})", "Embedding", "indices", W=W53) for i in ([2, 0], [[3, 3], [1, 4]])),
    *(look.case(check_saved, f"made(W)({i})", i, W=W53) for i in ([2, 0], [[3, 3], [1, 4]])),
    look.case(check_saved, "made(W)(Tensor([[3, 3], [1, 4]]))", [[3, 3], [1, 4]], W=W53),
)


def rule(shape: tuple[int, int], i: Any) -> EmbeddingBackward:
    """The rule of a table of this shape from which the rows `i` were taken."""
    return put(EmbeddingBackward(), inputs=(leaf(np.zeros(shape)),), indices=np.array(i))


def sends(i: Any, shape: tuple[int, int] = (5, 3), dtype: Any = f8, g: str = "g.data", turned: bool = False) -> Case:
    """The table's gradient is what adding a random gradient row by row gives."""
    upstream = random_gradient((*np.shape(i), shape[1])).astype(dtype)
    right = added(np.array(i), upstream, shape[0])
    options = {"tolerance": 1e-6, "dtype": dtype, "what": "the gradient"}
    letter = upstream.swapaxes(0, -1) if turned else upstream
    return look.gives(f"rule({shape}, {i}).backward({g})", right, g=letter, **options)


BACK = "rule((4, 3), {}).backward(g.data)"

test_gradient = table(
    ("EmbeddingBackward.backward", "each row gets what came for its token, and those that were not used get zeros"),
    *(sends(i) for i in ([2, 0, 4], [3], [4, 3, 2, 1, 0], [0, 1, 2, 3, 4])),
    sends([6, 1], (8, 1)),
    sends([0], (1, 4)),
    ("EmbeddingBackward.backward", "a token that comes several times gets the sum"),
    *(sends(i) for i in ([2, 2], [1, 0, 1, 4, 1], [0, 0, 0])),
    *(look.slopes(f"made(W)({i})", W=W53) for i in ([3, 1, 3, 0], [[2, 2], [4, 2]])),
    ("EmbeddingBackward.backward", "of indices of any shape"),
    *(sends(i) for i in ([[2, 0, 2], [4, 1, 1]], [[3]], [[[1], [4]], [[1], [0]]], 3)),
    sends([[0, 2, 2], [4, 4, 0]], (5, 2)),
    look.gives("rule((4, 3), np.zeros((2, 0), int)).backward(g.data)", np.zeros((4, 3)), g=np.zeros((2, 0, 3))),
    sends([[2, 0, 2], [4, 1, 1]], g="g.data.swapaxes(0, 2)", turned=True),
    ("EmbeddingBackward.backward", "float32 for float32, in a new array, and what came is only read"),
    *(sends([[2, 0], [2, 1]], dtype=kind) for kind in (f4, f8)),
    *(look.keeps(BACK.format(i), g=random_gradient((4, 3))) for i in ([0, 1, 2, 3], [2, 2, 0, 1])),
    ("EmbeddingBackward.backward", "gradients add up where a table is used twice, also as the last layer"),
    look.slopes("made(W)([0, 2, 2]) + made(W)([2, 1, 4])", W=W53),
    look.slopes("made(W)([[0, 2, 2]]) @ W.T", W=W53),
    look.slopes("made(W)([3, 1, 3]) @ x", W=W53, x=numbers(3, 2)),
)


# Positions


def waves(positions: int, width: int) -> np.ndarray:
    """The sinusoidal table by its formula, number by number, in float64."""
    wave = lambda p, j: (math.cos if j % 2 else math.sin)(p / 10000 ** (2 * (j // 2) / width))
    return np.array([[wave(p, j) for j in range(width)] for p in range(positions)]).reshape(positions, width)


sinusoids = lambda n, width, part="", **options: look.gives(
    f"create_sinusoidal_embeddings({n}, {width}){part}", f"waves({n}, {width}){part}", **options
)
PRECISE = {"tolerance": 2e-7}
# The vectors of positions 1 and 100 of 4 numbers, to six places: sin and cos of p, then of p / 100.
ONE, HUNDRED = [0.841471, 0.540302, 0.010000, 0.999950], [-0.506366, 0.862319, 0.841471, 0.540302]

test_sinusoids = table(
    ("create_sinusoidal_embeddings", "even columns are sines, each of which has its cosine to the right"),
    sinusoids(1, 4),
    sinusoids(6, 2),
    sinusoids(9, 6, "[:, 0::2]"),
    sinusoids(9, 6, "[:, 1::2]"),
    look.gives("create_sinusoidal_embeddings(2, 4)[1]", ONE),
    look.gives("create_sinusoidal_embeddings(101, 4)[100]", HUNDRED),
    ("create_sinusoidal_embeddings", "the waves get longer from pair to pair, up to almost 10000 times"),
    *(sinusoids(7, width) for width in (4, 6, 8, 64)),
    sinusoids(40, 128, "[:, -2:]"),
    ("create_sinusoidal_embeddings", "an odd width ends with a sine"),
    *(sinusoids(7, width) for width in (1, 3, 5)),
    ("create_sinusoidal_embeddings", "a NumPy array in float32, and right to its last digit"),
    look.equals("type(create_sinusoidal_embeddings(3, 4)).__name__", "ndarray"),
    sinusoids(3, 4, dtype=f4),
    sinusoids(5, 3, dtype=f4),
    sinusoids(2000, 6, "[1990:]", **PRECISE),
    sinusoids(300, 16, **PRECISE),
    ("create_sinusoidal_embeddings", "a new table each time"),
    look.gives("[create_sinusoidal_embeddings(4, 6).fill(7), create_sinusoidal_embeddings(4, 6)][1]", waves(4, 6)),
)

encode = lambda P: put(PositionalEncoding(*P.shape, learned=True), positions=P)
P74 = numbers(7, 4, seed=3)
places = lambda call, right, *shape, P=P74, **options: look.gives(
    f"encode(P)({call})", f"x + P[{right}]", x=numbers(*shape), P=P, **options
)
overlong = lambda call, *mentions, n: look.raises(
    f"encode(P)({call})", ValueError, *mentions, x=numbers(2, n, 4), P=P74
)
misfit = lambda *shape: look.raises("encode(P)(x)", ValueError, 4, shape, x=numbers(*shape), P=P74)

test_positions = table(
    ("PositionalEncoding.forward", "the vectors of positions 0, 1, 2, … are added, the same ones in every sequence"),
    places("x", ":3", 2, 3, 4),
    places("x", ":7", 2, 7, 4),
    places("x", ":1", 3, 1, 4),
    places("x", ":4", 1, 4, 4),
    places("x", ":3", 3, 4),
    places("x", ":2", 3, 5, 2, 4),
    places("x", ":0", 2, 0, 4),
    places("x", ":3", 3, 3, 3, P=numbers(3, 3)),
    places("x", ":2", 2, 2, 1, P=numbers(2, 1)),
    look.gives("PositionalEncoding(9, 6)(x)", numbers(2, 5, 6) + waves(5, 6), x=numbers(2, 5, 6)),
    ("PositionalEncoding.forward", "from `start` on"),
    *(places(f"x, {start}", f"{start}:{start} + 3", 2, 3, 4) for start in (0, 1, 4)),
    places("x, start=6", "6:7", 2, 1, 4),
    places("x, start=2", "2:5", 3, 4),
    places("x, start=7", "7:", 2, 0, 4),
    look.gives("[(e := encode(P))(x, 2), e(x)][1]", "x + P[:3]", x=numbers(2, 3, 4), P=P74),
    ("PositionalEncoding.forward", "in the dtype of the sum; x and the table stay as they are"),
    places("x", ":3", 2, 3, 4, dtype=f8),
    look.gives("encode(P)(x)", "x + P[:3]", x=numbers(2, 3, 4).astype(f4), P=P74.astype(f4), dtype=f4),
    look.gives("encode(P)(x)", "x + P[:3]", x=numbers(2, 3, 4), P=P74.astype(f4), dtype=f8, tolerance=1e-12),
    look.keeps("encode(P)(x)", x=numbers(2, 7, 4), P=P74),
    look.keeps("encode(P)(x, 2)", x=numbers(1, 3, 4), P=P74),
    ("PositionalEncoding.forward", "positions beyond the table, or before it, are refused, with the numbers"),
    *(overlong("x", n, 7, n=n) for n in (8, 31)),
    look.raises("encode(P)(x)", ValueError, 5, 1, x=numbers(2, 5, 4), P=P74[:1]),
    look.raises("encode(P)(x)", ValueError, 31, 7, x=numbers(31, 4), P=P74),
    *(overlong(f"x, {start}", start + n, 7, n=n) for start, n in ((5, 3), (7, 1), (31, 2), (8, 0))),
    *(overlong(f"x, {start}", n=n) for start, n in ((-1, 1), (-1, 3), (-3, 2), (-7, 7))),
    ("PositionalEncoding.forward", "what is no (…, n, embed_dim) is refused, with its shape"),
    *(misfit(*shape) for shape in ((2, 3, 5), (2, 3, 1), (4,), (), (4, 3))),
    ("PositionalEncoding.forward", "gradients reach x, and each row of a learned table that was added"),
    look.slopes("encode(P)(x)", x=numbers(2, 3, 4), P=P74),
    look.slopes("encode(P)(x, 3)", x=numbers(2, 3, 4), P=P74),
    look.slopes("encode(P)(x)", x=numbers(7, 4), P=P74),
    look.slopes("encode(Tensor(P74))(x, 1)", x=numbers(2, 3, 4)),
)


# Systems

table_of = lambda rows, width, kind=f4: put(Embedding(rows, width), weight=leaf(np.ones((rows, width)), kind))
of = lambda *shape, kind=f4: leaf(np.ones(shape), kind)
MODELS = {
    "Sequential(table_of(30, 4), Linear(4, 30, bias=False))": 1 / 2,
    "Sequential(table_of(20, 4), Linear(4, 17))": 80 / 165,
    "table_of(5, 2)": 1.0,
    "Linear(3, 2)": 0.0,
    "Made(a=Made(b=Made(tokens=table_of(9, 2))), head=of(46))": 18 / 64,
    "Made(parts=[table_of(4, 2), table_of(3, 4)], scale=of(12))": 20 / 32,
    "Made(a=(t := table_of(7, 3)), b=put(table_of(7, 3), weight=t.weight), c=of(19))": 21 / 40,
    "Made(a=(t := table_of(7, 3)), b=t, c=of(19))": 21 / 40,
    "Made(tokens=(t := table_of(8, 2)), head=t.weight, scale=of(9))": 16 / 25,
    "Made(tokens=table_of(4, 3, f8), scale=of(8), shift=of(4, kind=f8))": 96 / 160,
    "Made(tokens=table_of(4, 3), mask=Tensor(np.ones((5, 5))), scale=of(12))": 12 / 24,
}


def untouched(probabilities: list[float], tokens: int) -> float:
    """The average over every batch that there can be, each with its probability, of the rows that it leaves alone."""
    rows = range(len(probabilities))
    batches = list(itertools.product(rows, repeat=tokens))
    return sum(math.prod(probabilities[i] for i in batch) * sum(i not in batch for i in rows) for batch in batches)


idles = lambda probabilities, tokens: look.gives(
    f"idle_rows({probabilities}, {tokens})", untouched(probabilities, tokens), tolerance=1e-9
)


def trained(e: Expression) -> None:
    """The bytes of the table, of the gradient that it gets, and of as many arrays again as an optimizer remembers."""
    encoding, remembered = e.letters["P"], e.letters["remembered"]
    encoding(leaf(np.zeros((1, 2, encoding.embed_dim)))).backward(np.ones((1, 2, encoding.embed_dim)))
    arrays = [encoding.positions.data] + [encoding.positions.grad] * (1 + remembered)
    equal(e.result(), sum(array.nbytes for array in arrays if array is not None), e.text, e.given)


def learns(P: np.ndarray, learned: bool) -> PositionalEncoding:
    """An encoding with this table."""
    return put(PositionalEncoding(*P.shape, learned=True), positions=Tensor(P, requires_grad=learned))


takes = lambda n, learned, remembered: look.case(
    trained, f"position_bytes(P, {remembered})", P=learns(numbers(n, 4), learned), remembered=remembered
)
turned = lambda n, width, shift: look.gives(  # the rows of later positions, from those of earlier ones
    f"waves({n}, {width})[:{n - shift}] @ shift_rotation({shift}, {width}).T",
    f"waves({n}, {width})[{shift}:]",
    tolerance=1e-10,
)


class Counting:
    """A number that counts the products that it is part of, with two operations for each: a product and a sum."""

    flops = 0

    def __mul__(self, other: Any) -> float:
        Counting.flops += 2
        return 0.0


def counted(tokens: int, vocab_size: int, embed_dim: int, kind: Any = f4) -> tuple[int, int]:
    """The operations of a one-hot product that is really done, and the bytes of its one-hot matrix."""
    Counting.flops, one_hot = 0, np.eye(vocab_size, dtype=kind)[np.zeros(tokens, int)]
    np.full((tokens, vocab_size), Counting(), object) @ np.ones((vocab_size, embed_dim))
    return Counting.flops, one_hot.nbytes


saves = lambda *sizes, kind=f4, more="": look.gives(
    f"np.array(lookup_savings({', '.join(map(str, sizes))}{more}))", counted(*sizes, kind), tolerance=0
)

test_systems = table(
    ("table_share", "the bytes of all embedding tables, each once, divided by those of all parameters"),
    *(look.gives(f"table_share({model})", share, tolerance=1e-9) for model, share in MODELS.items()),
    ("idle_rows", "the average over all batches that there can be"),
    *(idles([0.5, 0.3, 0.2], tokens) for tokens in (0, 1, 2, 5)),
    *(idles([0.1, 0.9], tokens) for tokens in (1, 3)),
    *(idles(probabilities, 3) for probabilities in ([1.0], [0.7, 0.3, 0.0], [0.25] * 4)),
    look.gives("idle_rows([1 / 1000] * 1000, 200)", 1000 * 0.999**200, tolerance=1e-9),
    ("position_bytes", "the table alone if it is fixed; if it is learned, gradient and optimizer's arrays as well"),
    *(takes(n, learned=True, remembered=remembered) for n in (9, 31) for remembered in (0, 1, 2)),
    *(takes(n, learned=False, remembered=remembered) for n in (9, 31) for remembered in (0, 2)),
    look.equals("position_bytes(learns(numbers(17, 5).astype(f4), True))", 4 * 17 * 5 * 4),
    look.equals("position_bytes(learns(numbers(17, 5).astype(f4), False))", 17 * 5 * 4),
    ("shift_rotation", "the rows of all positions, turned by it, are those of the positions after the shift"),
    *(turned(*sizes) for sizes in ((9, 2, 1), (9, 6, 1), (40, 6, 17), (9, 4, 0), (30, 64, 5))),
    look.gives("waves(9, 6)[3:] @ shift_rotation(-3, 6).T", waves(9, 6)[:-3], tolerance=1e-10),
    look.gives("shift_rotation(4, 6) @ shift_rotation(4, 6).T", np.eye(6), tolerance=1e-10),
    look.gives("shift_rotation(2, 4) @ shift_rotation(5, 4) - shift_rotation(7, 4)", np.zeros((4, 4)), tolerance=1e-10),
    look.gives("shift_rotation(1, 2)", [[0.540302, 0.841471], [-0.841471, 0.540302]], dtype=f8),
    *(look.raises(f"shift_rotation(3, {width})", ValueError, width) for width in (1, 17)),
    ("lookup_savings", "the operations of the product, and the bytes of the one-hot matrix"),
    *(saves(*sizes) for sizes in ((1, 5, 3), (4, 7, 2), (3, 2, 11))),
    saves(4, 7, 3, kind=f8, more=", itemsize=8"),
    saves(5, 3, 2, kind=np.float16, more=", 2"),
    look.equals("lookup_savings(2**20, 2**17, 2**12)", (2**50, 2**39)),
)
