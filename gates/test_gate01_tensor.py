"""Gate 01: the Tensor. A case is an expression; NumPy mostly tells what it gives."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch import Tensor
from tinytorch.backends import ComputeBackend
from tinytorch.config import set_backend
from tinytorch.core.arrays import as_array
from tinytorch.core.tensor import result_of
from tinytorch.systems.tensor import broadcast_bytes, cache_lines, kept_bytes, matmul_flops, tensor_bytes
from workshop.checks import close, equal, holds, plain
from workshop.probes import allocated, at_the_door, leaf, numbers, positive, through_door
from workshop.tables import Case, Cases, Expression, table

look = Cases(globals())
FLOATS, INTEGERS, BOX = np.float32([2.0, 4.0]), np.array([7, -3]), numbers(2, 3, 4)
quietly = np.errstate(all="ignore")


def view(array: np.ndarray) -> Tensor:
    """A Tensor with the memory of `array`, strides and all."""
    return result_of(None, array)


def like(*texts: str, **letters: Any) -> list[Case]:
    """What NumPy gives for each text."""
    return [look.like_numpy(text, **letters) for text in texts]


# What this gate checks in ways of its own


def as_it_lies(e: Expression) -> None:
    """The same as NumPy for arrays whose elements lie in another order: transposed or sliced."""
    arrays, given = e.arrays(), f"{e.given}, with strides {', '.join(str(array.strides) for array in e.arrays())}"
    close(e(*map(view, arrays)), e(*arrays), e.text, given, 1e-12)


def memory(e: Expression, numpy: str = "") -> None:
    """Who writes into the result changes the operands where it does so in NumPy: nowhere, or all that a view shows."""
    arrays = [array.copy() for array in e.arrays()]
    tensors = [Tensor(array.copy()) for array in arrays]
    result, right = e(*tensors), Expression(numpy or e.text, e.letters, e.names)(*arrays)
    close(result, right, e.text, e.given)
    plain(result)[...] = right[...] = 7.5
    for name, tensor, array in zip(e.letters, tensors, arrays):
        close(tensor, array, f"{name}, after result.data[...] = 7.5,", f"result = {e.given}")


def meets_a_number(e: Expression, op: str, place: int) -> None:
    """The door is given both operands: the tensor itself, which is number `place`, and a Tensor of 2."""
    (x,) = map(leaf, e.arrays())
    name, inputs, _ = at_the_door(lambda: e(x), e.given, op)
    equal(name, op, "the operation's name at the door", e.given)
    equal(len(inputs), 2, "the number of inputs at the door", e.given)
    both = inputs[place] is x and isinstance(inputs[1 - place], Tensor)
    holds(both, "x itself and a Tensor of 2 as inputs at the door", f"{inputs!r:.100}", e.given)
    close(inputs[1 - place], 2.0, "the other input at the door", e.given)


def saves(e: Expression, op: str, names: str, told: str, right: str = "") -> None:
    """Through the door, saving `names`. From them `told`, in NumPy, makes what the expression, or `right`, gives."""
    tensors = [Tensor(array, requires_grad=array.dtype.kind == "f") for array in e.arrays()]
    inputs = [tensor for tensor in tensors if tensor.requires_grad]
    through_door(lambda: e(*tensors), op, inputs, names.split(), e.given)
    saved = at_the_door(lambda: e(*tensors), e.given, op)[2]
    for name in names.split():
        parts = saved[name] if isinstance(saved[name], tuple) else (saved[name],)
        tensor_in_it = any(isinstance(part, Tensor) for part in parts)
        holds(not tensor_in_it, f"arrays and numbers saved as {name}", f"a Tensor in it: {saved[name]!r:.80}", e.given)
    expected = Expression(right or e.text, e.letters, e.names)(*e.arrays())
    close(eval(told, {**e.names, **e.letters, **saved}), expected, f"{told}, with what was saved,", e.given, 1e-12)


# Making a tensor


def made(dtype: str, *texts: str) -> list[Case]:
    """`as_array` gives NumPy's numbers for each text, in this dtype."""
    right = "np.array({}).astype('{}')"
    return [look.gives(f"as_array({t})", right.format(t, dtype), dtype=dtype, tolerance=1e-15) for t in texts]


def own_memory(e: Expression) -> None:
    """The array that the result was made from is changed afterwards."""
    (x,) = e.arrays()
    result, before = e(x), x.copy()
    x[0] = 99
    close(result, before, e.text, f"{e.given}, and x[0] = 99 afterwards")


WORDS = {"'abc'": "abc", "['abc', 'de']": "abc", "[1j]": "1j", "[None, 1]": "None", "{1: 2}": "{1: 2}"}
SQUEEZED = {"None, np.float32": "None", "[None, 1], np.float32": "None", "'1.5', np.float32": "1.5"}
RAGGED = ("[[1, 2], [3]]", "[[1, 2], [3]], np.float64")

test_making = table(
    ("as_array", "Python floats become float32, booleans bool, and integers int64, which holds 16777217"),
    *made("float32", "1.7", "[1, 2.5]", "((1.5, 2.5),)", "[]", "[[], []]", "[1.5, np.float64(2.5)]"),
    *(*made("int64", "7", "[[1, 2], [3, 4]]"), *made("bool", "[True, False]")),
    look.equals("int(as_array([16777217])[0])", 16777217),
    look.equals("int(as_array([[2**53 + 1]])[0, 0])", 2**53 + 1),
    look.equals("type(as_array(2.5)).__name__", "ndarray"),
    ("as_array", "NumPy arrays and scalars, and Tensors, keep their dtype, also inside lists of any depth"),
    *(made(kind, f"np.array([3, 0, 1], '{kind}')")[0] for kind in ("int32", "float64", "float32", "uint8", "bool")),
    *made("float64", "np.float64(0.1)", "[np.array([0.1, 0.2])]", "[np.float64(0.1), 2]", "[[np.float64(0.1)]]"),
    *made("float64", "[Tensor([0.1, 0.2], dtype='float64')]"),
    *made("int32", "(np.int32(3),)", "[([np.int32(3)],)]"),
    ("as_array", "the data is copied: a later change of the array changes nothing"),
    *(look.case(own_memory, f"as_array(x{dtype})", x=[1.5, 2.5]) for dtype in ("", ", 'float64'", ", np.float32")),
    look.case(own_memory, "as_array(x)", x=np.array([5, 6], np.int32)),
    look.case(own_memory, "Tensor(x, dtype='int64')", x=[5, 6]),
    ("as_array", "dtype, if given, decides"),
    *made("float64", "[3, 2], np.float64", "[0.1, 2], 'float64'"),
    *(*made("int64", "np.array([1.9, -2.9]), np.int64"), *made("int32", "[True, False], np.int32")),
    look.gives("Tensor(np.array([0.5, 3.0]), dtype='float32')", [0.5, 3.0], dtype="float32"),
    ("as_array", "what holds no numbers is refused with an error that shows it, also when a dtype is given"),
    *(look.raises(f"as_array({text})", TypeError, shown) for text, shown in (WORDS | SQUEEZED).items()),
    *(look.raises(f"as_array({text})", ValueError, "[[1, 2], [3]]") for text in RAGGED),
    look.raises("Tensor([1.0]) - None", TypeError, "None"),
)


# Arithmetic

BROADCAST = [((3,), (3,)), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((), (2, 2)), ((2, 2), ()), ((0, 3), (3,))]


def arithmetic(symbol: str, sign: str, op: str) -> list[Any]:
    """What is the same for all four signs."""
    a_b, pairs = f"a {sign} b", [(positive(*left), numbers(*right, seed=1)) for left, right in BROADCAST]
    return [
        (symbol, f"{a_b} goes element by element, and shapes broadcast"),
        *(look.like_numpy(a_b, a=a, b=b) for a, b in pairs),
        (symbol, f"{a_b} takes numbers and arrays on either side, and dtypes meet as `operands` says"),
        *like(f"x {sign} 2", f"x {sign} 0.5", f"3 {sign} x", x=FLOATS, tolerance=1e-6),
        *like(f"x {sign} 0.1", f"0.1 {sign} x", f"x {sign} np.array([0.1, 3.0])", x=[3.0, 5.0]),
        *like(f"np.array([0.1, 3.0]) {sign} x", x=[3.0, 5.0]),
        look.gives(f"x {sign} 0.5", f"np.float32(x) {sign} 0.5", x=[7, 3], dtype="float32"),
        look.gives(a_b, f"np.float32(a) {sign} b", a=[7, 3], b=FLOATS, dtype="float32"),
        look.gives(a_b, f"a {sign} np.float32(b)", a=FLOATS, b=INTEGERS, dtype="float32"),
        (symbol, f"{a_b} makes new memory, and leaves a and b as they were"),
        *(look.case(memory, a_b, a=positive(2, 3), b=numbers(*shape, seed=1)) for shape in ((2, 3), (3,))),
        *(look.case(memory, text, x=positive(3)) for text in (f"x {sign} 1", f"1 {sign} x")),
        (symbol, f'{a_b} is returned through the door, as "{op}" made from a and b'),
        look.door(a_b, op, a=positive(2, 1), b=numbers(2)),
        look.door(a_b, op, a=positive(3), b=numbers(3)),
        look.case(meets_a_number, f"x {sign} 2", op, 0, x=[3.0, 5.0]),
        look.case(meets_a_number, f"2 {sign} x", op, 1, x=[3.0, 5.0]),
    ]


test_arithmetic = table(
    *arithmetic("Tensor.__add__", "+", "Add"),
    ("Tensor.__add__", "integers stay integers", *like("x + 1", "x + np.array([2**53, 5])", x=INTEGERS)),
    *arithmetic("Tensor.__mul__", "*", "Mul"),
    ("Tensor.__mul__", "integers stay integers; two matrices are multiplied element by element too"),
    *like("2 * x", "x * x", "x * np.array([2**40 + 1, 5])", x=INTEGERS),
    look.like_numpy("x * y", x=numbers(3, 3), y=numbers(3, 3, seed=1)),
    *arithmetic("Tensor.__truediv__", "/", "Div"),
    ("Tensor.__truediv__", "integers are divided as float32, and not rounded down: 7 / 2 is 3.5"),
    look.gives("x / 2", [3.5, -1.5], x=INTEGERS, dtype="float32"),
    look.gives("x / y", [3.5, 1.5], x=INTEGERS, y=[2, -2], dtype="float32"),
    look.gives("2 / x", [0.5, 0.25], x=[4, 8], dtype="float32"),
    quietly(look.gives("x / 0", [np.inf, -np.inf], x=INTEGERS, dtype="float32")),
    *arithmetic("Tensor.__pow__", "**", "Pow"),
    ("Tensor.__pow__", "integers stay integers; bases and exponents may be 0 and below"),
    *like("x ** 2", "x ** 3", "x ** np.array([21, 33])", "2 ** (x * x)", x=INTEGERS),
    *like("x ** 2", "x ** 3", "x ** 0", x=[-2.0, 0.0, 5.0]),
    look.like_numpy("x ** -1", x=[-2.0, 4.0]),
    quietly(look.like_numpy("x ** y", x=[0.0, 0.0, -2.0, 5.0], y=[-1.0, 0.0, -1.0, -1.0])),
)


# Matrix product

MATRICES = [
    ((2, 3), (3, 4)), ((3, 3), (3, 3)), ((1, 1), (1, 1)), ((0, 3), (3, 4)), ((2, 0), (0, 4)), ((3,), (3,)),
    ((3,), (3, 4)), ((2, 3), (3,)), ((5, 2, 3), (5, 3, 4)), ((5, 2, 3), (3, 4)), ((2, 3), (5, 3, 4)),
    ((2, 1, 4, 3), (5, 3, 2)), ((3,), (5, 3, 4)), ((5, 2, 3), (3,)), ((3, 3, 3), (3, 3, 3)),
]  # fmt: skip
UNFIT = [((2, 3), (2, 3)), ((2, 3), (4,)), ((3,), (2, 3)), ((3,), (4,)), ((5, 2, 3), (4, 3)), ((), (2,)), ((2, 3), ())]
DOORS = [((2, 3), (3, 2)), ((3,), (3, 2)), ((2, 3), (3,)), ((3,), (3,)), ((4, 2, 3), (3, 2))]


def pair(left: tuple[int, ...], right: tuple[int, ...]) -> dict[str, np.ndarray]:
    return {"a": numbers(*left), "b": numbers(*right, seed=1)}


class Tenfold(ComputeBackend):
    """Ten times the matrix product, so that one can see who made it."""

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return 10 * np.matmul(a, b)


def by_the_backend(e: Expression) -> None:
    """The backend in use is asked, once."""
    before = set_backend(Tenfold())
    try:
        result = e.result()
    finally:
        set_backend(before)
    close(result, 10 * e(*e.arrays()), e.text, f"{e.given}, and a backend whose products are ten times too large")


test_matmul = table(
    ("Tensor.matmul", "matrices, batches of them, and vectors are multiplied as in NumPy"),
    *(look.gives("a.matmul(b)", "a @ b", tolerance=1e-12, **pair(*shapes)) for shapes in MATRICES),
    ("Tensor.matmul", "dtypes meet as in +; arrays may stand on either side, and elements lie in any order"),
    look.like_numpy("a @ b", a=np.float32([[0.5, 1], [2, 1]]), b=FLOATS, tolerance=1e-6),
    look.like_numpy("a @ b", a=[[1, 2], [3, 4]], b=[[5, 6], [2**53, 1]]),
    look.gives("a @ b", [-2.5, 15.0], a=np.float32([[0.5, 2.0], [3, 2]]), b=INTEGERS, dtype="float32"),
    look.gives("a @ b", [2.0, -4.0], a=[[1, 0], [0, -1]], b=FLOATS, dtype="float32"),
    *like("a @ np.array([[1.5, 2.0], [0.5, 3.0]])", "np.array([[1.5, 2.0], [0.5, 3.0]]) @ a", a=numbers(2, 2)),
    look.case(as_it_lies, "a @ b", a=numbers(4, 6).T, b=numbers(4, 5, seed=1)),
    look.case(as_it_lies, "a @ b", a=numbers(4, 6)[:, ::2], b=numbers(5, 3, seed=1).T),
    ("Tensor.matmul", "what does not fit is refused, inner lengths and single numbers with both shapes"),
    *(look.raises("a @ b", ValueError, *shapes, **pair(*shapes)) for shapes in UNFIT),
    look.raises("a @ 2.0", ValueError, (2, 3), (), a=numbers(2, 3)),
    look.raises("a @ b", ValueError, **pair((2, 2, 3), (3, 3, 2))),
    ("Tensor.matmul", 'a @ b is returned through the door, as "Matmul" made from a and b themselves'),
    *(look.door("a @ b", "Matmul", **pair(*shapes)) for shapes in DOORS),
    ("Tensor.matmul", "the backend in use computes the product"),
    *(look.case(by_the_backend, "a @ b", **pair(*shapes)) for shapes in DOORS),
)


# Shape

TWELVE, SIX, TABLE = np.arange(12.0), numbers(2, 3), numbers(4, 5)
SHAPES = [(3, 4), (4, 3), (2, 3, 2), (12,), (1, 12), (3, -1), (-1,), ((4, 3),), ((2, -1),), ((12,),)]
SELECTIONS = ["0", "-1", "1, 2", "1, 2, 0", "1:3", ":, 2", "..., 0", "None, 1", "::2, 3:", "[3, 0]", "[0, 1], [2, 2]"]
ROWS, MASK = np.array([3, 1]), np.array([True, False, False, True, True])


def saved_dims(dims: tuple[int, int]) -> Case:
    told = ("dim0 dim1", "np.swapaxes(x, dim0, dim1)", f"np.swapaxes(x, *{dims})")
    return look.case(saves, f"x.transpose{dims}", "Transpose", *told, x=BOX)


def saved_index(text: str, **letters: Any) -> Case:
    return look.case(saves, text, "Index", "index", "x[index]", x=TABLE, **letters)


test_shape = table(
    ("Tensor.reshape", "elements keep their row-major order; a tuple, -1 and no lengths at all are understood"),
    *like(*(f"x.reshape{shape}" for shape in SHAPES), x=TWELVE),
    look.case(as_it_lies, "x.reshape(2, 6)", x=TWELVE.reshape(3, 4).T),
    look.case(as_it_lies, "x.reshape((3, 2))", x=TWELVE[::2]),
    *(look.gives(text, 5.25, x=[5.25], dtype="float64") for text in ("x.reshape()", "x.reshape(())")),
    look.gives("x.reshape()", 5, x=[[5]], dtype="int64"),
    look.gives("x.reshape(1, 1)", [[5.25]], x=np.array(5.25)),
    ("Tensor.reshape", "another number of elements is refused with both shapes in the message"),
    *(look.raises(f"x.reshape{shape}", ValueError, (2, 3), shape, x=SIX) for shape in ((4, 2), (2, 2), (4, -1), ())),
    look.raises("x.reshape((7,))", ValueError, (2, 3), (7,), x=SIX),
    ("Tensor.reshape", "the result looks into the same memory, and x keeps its shape"),
    *(look.case(memory, text, x=SIX) for text in ("x.reshape((6,))", "x.reshape(2, 3)")),
    ("Tensor.reshape", 'x.reshape is returned through the door, as "Reshape" made from x'),
    *(look.door(text, "Reshape", x=SIX) for text in ("x.reshape(3, 2)", "x.reshape((6,))")),
    ("Tensor.transpose", "two axes change places, which is not what reshape does, in a view of the same memory"),
    *(
        look.gives(f"x.transpose{dims}", f"np.swapaxes(x, *{dims})", x=BOX, tolerance=1e-12)
        for dims in ((0, 1), (1, 2), (2, 0), (-1, -2), (0, -1), (1, 1))
    ),
    look.like_numpy("x.T", x=[[1, 2, 3], [4, 5, 6]]),
    *(look.raises(f"x.transpose{dims}", ValueError, x=BOX) for dims in ((0, 3), (-4, 1))),
    look.case(memory, "x.transpose(0, 1)", "np.swapaxes(x, 0, 1)", x=SIX),
    look.case(memory, "x.transpose(1, -1)", "np.swapaxes(x, 1, -1)", x=BOX),
    ("Tensor.transpose", "x.transpose is returned through the door, with dim0 and dim1"),
    *map(saved_dims, ((0, -1), (1, 2), (1, 0))),
    ("Tensor.__getitem__", "numbers, slices, lists, masks, None and … select as in NumPy"),
    *like(*(f"x[{index}]" for index in SELECTIONS), x=numbers(4, 5, 3)),
    *like("x[1:]", "x[np.array([1, 1])]", "x[np.array([True, False])]", x=INTEGERS),
    *(look.raises(text, IndexError, x=TABLE) for text in ("x[4]", "x[0, 5]")),
    ("Tensor.__getitem__", "Tensors of integers or booleans select too, also in a tuple"),
    *like("x[rows]", "x[rows, rows]", "x[rows, 1:]", "x[..., rows]", x=TABLE, rows=ROWS),
    *like("x[number]", "x[1, number]", x=TABLE, number=np.array(2)),
    *like("x[:, mask]", "x[x > 0]", x=TABLE, mask=MASK),
    ("Tensor.__getitem__", "numbers and slices look into the same memory; lists, masks and Tensors copy"),
    *(look.case(memory, f"x[{index}]", x=TABLE) for index in ("1", ":, ::2", "1:3, 2", "...", "[1, 2]")),
    *(look.case(memory, text, x=TABLE, rows=ROWS, mask=MASK) for text in ("x[rows]", "x[:, mask]")),
    ("Tensor.__getitem__", "x[index] is returned through the door; arrays stand for Tensors in the saved index"),
    *map(saved_index, ("x[1:]", "x[2]", "x[:, 2]", "x[[0, 2]]")),
    *(saved_index(text, rows=ROWS) for text in ("x[rows]", "x[rows, 1]")),
)


# Reductions

WAYS = [f"axis={a}, keepdims={k}" for a in (None, 0, 1, -1, (0, 2), (0, 1, 2), (-1, 1)) for k in (False, True)]
ONE_NUMBER = ("", "axis=0", "axis=-1", "axis=0, keepdims=True", "keepdims=True")
SAVED = ("axis=1", "axis=-1, keepdims=True", "axis=(0, 2)", "axis=None", "keepdims=True")


def reduction(name: str) -> list[Any]:
    """What is the same for sum, mean and max."""
    told, number, symbol = f"x.{name}(axis=axis, keepdims=keepdims)", np.array(3.5, np.float32), f"Tensor.{name}"
    return [
        (symbol, "over all, one or several axes, with and without keepdims"),
        *like(*(f"x.{name}({way})" for way in ("", "1", *WAYS)), x=BOX),
        look.case(as_it_lies, f"x.{name}(axis=0)", x=BOX.T),
        look.case(as_it_lies, f"x.{name}(axis=(0, 1))", x=BOX[:, ::2]),
        (symbol, "a single number may be reduced over axis 0 or -1 too, and keeps its shape"),
        *(look.gives(f"x.{name}({way})", 3.5, x=number, dtype="float32") for way in ONE_NUMBER),
        (symbol, f"x.{name} is returned through the door, with axis and keepdims, which say how it was made"),
        *(look.case(saves, f"x.{name}({way})", name.capitalize(), "axis keepdims", told, x=BOX) for way in SAVED),
    ]


test_reductions = table(
    *reduction("sum"),
    ("Tensor.sum", "integers stay integers, float32 stays float32, no elements sum to 0"),
    *like("x.sum()", "x.sum(axis=0)", x=[[16777217, 2], [3, 5]]),
    look.like_numpy("x.sum(axis=0)", x=np.float32([[0.5, 2.0], [3.0, 4.0]])),
    look.gives("x.sum()", 2, x=[True, True, False]),
    look.gives("x.sum(axis=0)", [0.0, 0.0, 0.0], x=np.zeros((0, 3))),
    *reduction("mean"),
    ("Tensor.mean", "the mean of 1 and 2 is 1.5, as float32"),
    look.gives("x.mean()", 1.5, x=[1, 2], dtype="float32"),
    look.gives("x.mean(axis=0)", [2.5, 3.0], x=[[1, 2], [4, 4]], dtype="float32"),
    look.gives("x.mean(axis=1)", [1.25, 3.5], x=np.float32([[0.5, 2.0], [3.0, 4.0]]), dtype="float32"),
    *reduction("max"),
    ("Tensor.max", "also of negative numbers; integers stay integers, float32 stays float32, and NaN wins"),
    *like("x.max()", "x.max(axis=1)", x=[[-3.5, -1.5], [-np.inf, -2.5]]),
    *like("x.max()", "x.max(axis=1)", x=[[1, 7], [2**53 + 1, 3]]),
    look.like_numpy("x.max(axis=0)", x=np.float32([[0.5, 2.0], [3.0, 4.0]])),
    look.like_numpy("x.max(axis=0)", x=[[1.5, np.nan, 2.5], [3.5, 0.5, np.nan]]),
)


# Elementwise functions


def elementwise(name: str) -> list[Any]:
    """What is the same for exp and log."""
    text, right = f"x.{name}()", f"np.{name}(x)"
    return [
        (f"Tensor.{name}", f"{text} of each element, in new memory; integers become float32, float64 stays float64"),
        *(look.gives(text, right, x=positive(*shape), tolerance=1e-12, dtype="float64") for shape in ((2, 3), ())),
        *(look.gives(text, right, x=x, dtype="float32") for x in (FLOATS, [1, 3])),
        look.case(memory, text, right, x=positive(2, 3)),
    ]


test_functions = table(
    *elementwise("exp"),
    look.gives("x.exp().data * 1e35", [1.8048513], x=np.float32([-80])),
    look.gives("x.exp().data / 1e34", [5.5406225], x=np.float32([80])),
    look.gives("x.exp()", [0.0, 1.0, 0.36787944], x=[-np.inf, 0.0, -1.0]),
    ("Tensor.exp", 'x.exp() is returned through the door, as "Exp" made from x, with its output, an array'),
    *(look.case(saves, "x.exp()", "Exp", "output", "output", "np.exp(x)", x=x) for x in (numbers(3), SIX)),
    *elementwise("log"),
    look.gives("x.log()", [-69.07755, 69.07755], x=np.float32([1e-30, 1e30]), dtype="float32"),
    quietly(look.gives("x.log()", [-np.inf, np.nan, 0.6931472], x=np.float32([0, -1, 2]), dtype="float32")),
    ("Tensor.log", "x.log() is returned through the door, made from x", look.door("x.log()", "Log", x=positive(3))),
)


# Systems


def measured(e: Expression) -> None:
    """What tracemalloc says is still allocated when only the result is left."""
    close(kept_bytes(e()), allocated(e)[1], f"kept_bytes({e.text}), as measured,", tolerance=0.01)


def copied(a: np.ndarray, b: np.ndarray) -> int:
    """Bytes of both arrays copied to their common shape, beyond their own."""
    return sum(np.array(array).nbytes for array in np.broadcast_arrays(a, b)) - a.nbytes - b.nbytes


def counted_flops(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Multiplications and additions, counted one by one."""
    return sum(2 for _ in np.ndindex(*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1], a[-1]))


def counted_lines(rows: int, columns: int, itemsize: int, by_rows: bool, line: int = 64) -> int:
    """Fetches of a cache that holds one line, counted while walking."""
    places = np.arange(rows * columns).reshape(rows, columns)
    walk = [place * itemsize // line for place in (places if by_rows else places.T).ravel().tolist()]
    return sum(here != before for here, before in zip(walk, [None, *walk]))


SIZES = [
    np.zeros(shape, dtype) for shape, dtype in (((3, 4), "f4"), (1000, "f8"), ((), "i8"), ((2, 0), "f4"), (7, "?"))
]
PAIRS = [
    ((100, 10), "f8", (10,), "f8"), ((8, 1), "f4", (1, 9), "f4"), ((3,), "f4", (3,), "f4"), ((), "f8", (5, 5), "f8"),
    ((4, 1, 2), "i8", (3, 1), "i8"), ((6, 1), "f8", (4,), "f4"), ((2, 3), "f4", (2, 1), "f8"), ((0, 3), "f4", (), "i8"),
]  # fmt: skip
PRODUCTS = [
    ((2, 3), (3, 4)), ((1, 5), (5, 1)), ((6, 2, 3), (6, 3, 2)), ((6, 2, 3), (3, 2)), ((2, 1, 2, 3), (4, 3, 5)),
    ((4, 3), (2, 3, 5)), ((0, 3), (3, 2)),
]  # fmt: skip
WALKS = [
    (8, 16, 4, True, 64), (8, 16, 4, False, 64), (15, 30, 8, True), (5, 3, 8, False), (1, 100, 4, True),
    (1, 100, 4, False), (100, 1, 4, False, 64), (6, 24, 4, False, 64), (6, 64, 8, False, 128), (3, 20, 4, True, 32),
    (2, 12, 8, False, 32), (7, 9, 1, True), (7, 9, 1, False), (0, 5, 4, True), (5, 0, 4, False),
]  # fmt: skip
LONG = 2**21 + 1


def stretched(left: Any, dtype: str, right: Any, other: str) -> Case:
    a, b = np.zeros(left, dtype), np.zeros(right, other)
    return look.equals("broadcast_bytes(a, b)", copied(a, b), a=a, b=b)


test_systems = table(
    ("tensor_bytes", "the bytes of the elements, as NumPy counts them in nbytes"),
    *(look.equals("tensor_bytes(x)", x.nbytes, x=x) for x in SIZES),
    look.equals("tensor_bytes(view(np.zeros((8, 8))[::2]))", 256),
    ("kept_bytes", "what is still allocated when only this tensor is left"),
    look.case(measured, "view(np.zeros((200, 1000))[3])"),
    look.case(measured, "view(np.zeros((200, 1000)))"),
    look.case(measured, "view(np.zeros((50, 40, 100))[1:].T[0])"),
    look.equals("kept_bytes(view(np.zeros((4, 6), 'float32')[1:].T[0]))", 96),
    *(look.equals(text, 192, x=np.zeros((4, 6))) for text in ("kept_bytes(x)", "kept_bytes(x - 1.0)")),
    ("broadcast_bytes", "what both arrays, copied to their common shape, take beyond their own bytes"),
    *(stretched(*case) for case in PAIRS),
    look.raises("broadcast_bytes(a, b)", ValueError, a=np.zeros(3), b=np.zeros(4)),
    ("matmul_flops", "what counting every multiplication and addition of the loops gives"),
    *(look.equals(f"matmul_flops({a}, {b})", counted_flops(a, b)) for a, b in PRODUCTS),
    look.equals(f"matmul_flops((3, {LONG}, {LONG}), ({LONG}, {LONG}))", 6 * LONG**3),
    ("cache_lines", "what walking through the matrix with one cache line in hand counts"),
    *(look.equals(f"cache_lines{walk}", counted_lines(*walk)) for walk in WALKS),
)
