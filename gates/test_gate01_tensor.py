"""Gate 01: the Tensor."""

import tracemalloc

import numpy as np

from tinytorch import Tensor
from tinytorch.backends import ComputeBackend
from tinytorch.config import set_backend
from tinytorch.core.arrays import as_array
from tinytorch.core.tensor import result_of
from tinytorch.systems.tensor import broadcast_bytes, cache_lines, kept_bytes, matmul_flops, tensor_bytes
from workshop.checks import close, equal, exercise, holds, raises
from workshop.probes import at_the_door, through_door


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def view(array: np.ndarray) -> Tensor:
    """A Tensor with the memory of `array`, strides and all."""
    return result_of(None, array)


# Making a tensor


@exercise("as_array")
def test_python_numbers() -> None:
    """Python floats become float32, integers int64, booleans bool"""
    for given, dtype in (
        (1.5, "float32"),
        ([1, 2.5], "float32"),
        ([[1, 2], [3, 4]], "int64"),
        ([True, False], "bool"),
        (((1.5, 2.5),), "float32"),
        ([], "float32"),
        (7, "int64"),
    ):
        close(as_array(given), np.array(given), "as_array", given=f"as_array({given})", dtype=np.dtype(dtype))


@exercise("as_array")
def test_arrays_keep_their_dtype() -> None:
    """NumPy arrays and scalars keep their dtype, also inside lists"""
    for dtype in ("int32", "float64", "float32", "uint8", "bool"):
        array = np.array([1, 0, 1], dtype=dtype)
        close(as_array(array), array, "as_array", given=f"a NumPy array of {dtype}", dtype=array.dtype)
    close(as_array(np.float64(0.1)), 0.1, "as_array", "np.float64(0.1)", tolerance=1e-15, dtype=np.float64)
    close(as_array([np.array([0.1, 0.2])]), [[0.1, 0.2]], "as_array", "a list with a float64 array", 1e-15, np.float64)
    close(as_array([np.float64(0.1)] * 2), [0.1, 0.1], "as_array", "a list of np.float64 scalars", 1e-15, np.float64)
    close(as_array((np.int32(3),)), [3], "as_array", "a tuple of one np.int32", dtype=np.int32)
    close(as_array([[np.float64(0.1)]]), [[0.1]], "as_array", "[[np.float64(0.1)]]", 1e-15, np.float64)
    close(as_array([([np.int32(3)],)]), [[[3]]], "as_array", "[([np.int32(3)],)]", dtype=np.int32)


@exercise("as_array")
def test_large_integers_are_exact() -> None:
    """16777217, which float32 cannot hold, stays 16777217"""
    equal(int(as_array([16777217])[0]), 16777217, "the value", given="as_array([16777217])")
    equal(int(as_array([[2**53 + 1]])[0, 0]), 2**53 + 1, "the value", given="as_array([[2**53 + 1]])")


@exercise("as_array")
def test_data_is_copied() -> None:
    """changing the array later does not change the tensor's values"""
    array = np.array([1.0, 2.0])
    made, with_dtype = as_array(array), as_array(array, np.float64)
    array[0] = 99.0
    close(made, [1.0, 2.0], "as_array(array)", given="array[0] = 99 afterwards")
    close(with_dtype, [1.0, 2.0], "as_array(array, np.float64)", given="array[0] = 99 afterwards")


@exercise("as_array")
def test_dtype_is_honoured() -> None:
    """dtype, if given, decides"""
    close(as_array([1, 2], np.float64), [1.0, 2.0], "the array", "as_array([1, 2], np.float64)", dtype=np.float64)
    close(Tensor(np.ones(2), dtype="float32"), [1.0, 1.0], "the tensor", 'Tensor(…, dtype="float32")', dtype=np.float32)
    close(as_array(np.array([1.9, -1.9]), np.int64), [1, -1], "the array", "as_array(array, np.int64)", dtype=np.int64)


@exercise("as_array")
def test_not_numbers() -> None:
    """text and ragged lists are refused with an error that shows them"""
    raises(TypeError, lambda: as_array("abc"), given='as_array("abc")', mentions=["abc"])
    raises(ValueError, lambda: as_array([[1, 2], [3]]), given="as_array([[1, 2], [3]])", mentions=["[[1, 2], [3]]"])
    raises(TypeError, lambda: as_array([1j]), given="as_array([1j])", mentions=["1j"])


@exercise("as_array")
def test_not_numbers_with_a_dtype() -> None:
    """None is refused, and so are None and text when a dtype is given"""
    raises(TypeError, lambda: as_array([None, 1]), given="as_array([None, 1])", mentions=["None"])
    raises(TypeError, lambda: as_array(None, np.float32), given="as_array(None, np.float32)", mentions=["None"])
    raises(TypeError, lambda: as_array("1.5", np.float32), given='as_array("1.5", np.float32)', mentions=["1.5"])
    raises(TypeError, lambda: Tensor([1.0]) - None, given="Tensor([1.0]) - None", mentions=["None"])


# Arithmetic

OPERATIONS = {
    "__add__": (lambda a, b: a + b, "+"),
    "__mul__": (lambda a, b: a * b, "*"),
    "__truediv__": (lambda a, b: a / b, "/"),
    "__pow__": (lambda a, b: a**b, "**"),
}
SHAPES = (((3,), (3,)), ((2, 3), (3,)), ((3,), (2, 3)), ((2, 1), (1, 3)), ((), (2, 2)), ((0, 3), (3,)))


def check_operation(name: str) -> None:
    """Broadcasting, float64, numbers on both sides, operands as they were."""
    operation, sign = OPERATIONS[name]
    for left, right in SHAPES:
        a, b = np.abs(numbers(*left)) + 0.5, (numbers(*right, seed=1) * 2).round() + 0.25
        given = f"shapes {left} {sign} {right}, float64"
        close(operation(Tensor(a), Tensor(b)), operation(a, b), "the result", given, 1e-12, np.float64)
    a, b = Tensor([1.0, 2.0]), Tensor([3.0, 4.0])
    operation(a, b), operation(a, 2), operation(2, a)
    close(a, [1.0, 2.0], "a afterwards", f"a = [1, 2], b = [3, 4]; a {sign} b, a {sign} 2, 2 {sign} a")
    close(b, [3.0, 4.0], "b afterwards", f"a = [1, 2], b = [3, 4]; a {sign} b")
    x = Tensor([2.0, 4.0])
    array = np.array([2.0, 4.0])
    close(operation(x, 2), operation(array, 2), "the result", f"Tensor([2., 4.]) {sign} 2", dtype=np.float32)
    close(operation(x, 0.5), operation(array, 0.5), "the result", f"Tensor([2., 4.]) {sign} 0.5", dtype=np.float32)
    close(operation(3, x), operation(3, array), "the result", f"3 {sign} Tensor([2., 4.])", dtype=np.float32)
    left = np.array([3.0, 5.0])
    close(operation(left, Tensor(left)), operation(left, left), "the result", f"array {sign} Tensor", 1e-12, np.float64)
    close(operation(Tensor(left), 0.1), operation(left, 0.1), "the result", f"float64 {sign} 0.1", 1e-12, np.float64)
    mixed, expected = (
        operation(Tensor([1, 2]), Tensor([0.5, 2.0])),
        operation(np.array([1.0, 2.0]), np.array([0.5, 2.0])),
    )
    close(mixed, expected, "the result", f"Tensor([1, 2]) {sign} Tensor([0.5, 2.])", dtype=np.float32)


def check_door(name: str) -> None:
    """Two tensors, also of different shapes; a tensor and a number, on either side."""
    operation, sign = OPERATIONS[name]
    a, b = Tensor([[2.0], [3.0]], requires_grad=True), Tensor([3.0, 4.0], requires_grad=True)
    op = {"__add__": "Add", "__mul__": "Mul", "__truediv__": "Div", "__pow__": "Pow"}[name]
    through_door(lambda: operation(a, b), op, [a, b], given=f"a {sign} b, shapes (2, 1) and (2,)")
    for given, function, place in (
        (f"a {sign} 2", lambda: operation(a, 2), 0),
        (f"2 {sign} a", lambda: operation(2, a), 1),
    ):
        name, inputs, _ = at_the_door(function, given)
        right = name == op and len(inputs) == 2 and inputs[place] is a and isinstance(inputs[1 - place], Tensor)
        holds(right, f'"{op}" made from a and a Tensor of 2', f'"{name}" made from {len(inputs)} inputs', given)
        close(inputs[1 - place], 2.0, "the number among the inputs", given)


@exercise("Tensor.__add__")
def test_add() -> None:
    """a + b is elementwise, broadcasts, and takes numbers on either side"""
    check_operation("__add__")
    close(Tensor([1, 2]) + 1, [2, 3], "the result", "Tensor([1, 2]) + 1", dtype=np.int64)


@exercise("Tensor.__add__")
def test_add_through_the_door() -> None:
    """a + b is returned through the door"""
    check_door("__add__")


@exercise("Tensor.__mul__")
def test_mul() -> None:
    """a * b is elementwise, broadcasts, and takes numbers on either side"""
    check_operation("__mul__")


@exercise("Tensor.__mul__")
def test_mul_through_the_door() -> None:
    """a * b is returned through the door"""
    check_door("__mul__")


@exercise("Tensor.__truediv__")
def test_div() -> None:
    """a / b is elementwise, broadcasts, and takes numbers on either side"""
    check_operation("__truediv__")


@exercise("Tensor.__truediv__")
def test_integers_are_not_rounded_down() -> None:
    """7 / 2 is 3.5, as float32"""
    close(Tensor([7, -7]) / 2, [3.5, -3.5], "the result", "Tensor([7, -7]) / 2", dtype=np.float32)
    close(Tensor([7]) / Tensor([2]), [3.5], "the result", "Tensor([7]) / Tensor([2])", dtype=np.float32)
    close(1 / Tensor([2, 4]), [0.5, 0.25], "the result", "1 / Tensor([2, 4])", dtype=np.float32)


@exercise("Tensor.__truediv__")
def test_div_through_the_door() -> None:
    """a / b is returned through the door"""
    check_door("__truediv__")


@exercise("Tensor.__pow__")
def test_pow() -> None:
    """a ** b is elementwise, broadcasts, and takes numbers on either side"""
    check_operation("__pow__")
    close(Tensor([2, 3]) ** 2, [4, 9], "the result", "Tensor([2, 3]) ** 2", dtype=np.int64)
    equal(int((Tensor([3]) ** 35).data[0]), 3**35, "the result", "Tensor([3]) ** 35")
    close(Tensor([-2.0, 0.0]) ** 2, [4.0, 0.0], "the result", "Tensor([-2., 0.]) ** 2", dtype=np.float32)
    close(Tensor([-2.0, 4.0]) ** -1, [-0.5, 0.25], "the result", "Tensor([-2., 4.]) ** -1", dtype=np.float32)


@exercise("Tensor.__pow__")
def test_pow_through_the_door() -> None:
    """a ** b is returned through the door"""
    check_door("__pow__")


# Matrix product

MATMUL_SHAPES = (
    ((3, 3), (3, 3)),
    ((2, 3), (3, 4)),
    ((1, 1), (1, 1)),
    ((5, 2, 3), (5, 3, 4)),
    ((5, 2, 3), (3, 4)),
    ((2, 3), (5, 3, 4)),
    ((2, 1, 4, 3), (5, 3, 2)),
    ((3,), (3,)),
    ((3,), (3, 4)),
    ((2, 3), (3,)),
    ((0, 3), (3, 4)),
    ((2, 0), (0, 4)),
)


@exercise("Tensor.matmul")
def test_matmul() -> None:
    """matrices, batches of them, and vectors are multiplied as in NumPy"""
    for left, right in MATMUL_SHAPES:
        a, b = numbers(*left), numbers(*right, seed=1)
        close(Tensor(a).matmul(Tensor(b)), a @ b, "a.matmul(b)", f"shapes {left} and {right}", 1e-12, np.float64)


@exercise("Tensor.matmul")
def test_matmul_dtypes() -> None:
    """float32 stays float32, integers stay integers, and integers meet float32 as float32"""
    a, b = Tensor([[1, 2], [3, 4]]), Tensor([[0.5, 1.0], [2.0, 1.0]])
    close(b @ b, [[2.25, 1.5], [3.0, 3.0]], "b @ b", "b float32", dtype=np.float32)
    close(a @ a, [[7, 10], [15, 22]], "a @ a", "a int64", dtype=np.int64)
    close(a @ b, [[4.5, 3.0], [9.5, 7.0]], "a @ b", "a int64, b float32", dtype=np.float32)


@exercise("Tensor.matmul")
def test_matmul_operator() -> None:
    """a @ b is the same, with arrays on either side too"""
    a, b = numbers(2, 3), numbers(3, 4, seed=1)
    close(Tensor(a) @ b, a @ b, "Tensor @ array", "shapes (2, 3) and (3, 4)", 1e-12, np.float64)
    close(a @ Tensor(b), a @ b, "array @ Tensor", "shapes (2, 3) and (3, 4)", 1e-12, np.float64)


@exercise("Tensor.matmul")
def test_matmul_order_of_memory() -> None:
    """transposed and sliced matrices give the same numbers"""
    a, b = numbers(4, 6), numbers(4, 5, seed=1)
    close(view(a.T) @ Tensor(b), a.T @ b, "a.T @ b", "shapes (4, 6) and (4, 5)", 1e-12)
    close(view(a[:, ::2]) @ view(b[:3]), a[:, ::2] @ b[:3], "a[:, ::2] @ b[:3]", "", 1e-12)


@exercise("Tensor.matmul")
def test_matmul_shapes_that_do_not_fit() -> None:
    """inner lengths that differ are refused with both shapes in the message"""
    raises(ValueError, lambda: Tensor(numbers(2, 3)) @ Tensor(numbers(2, 3)), "(2, 3) @ (2, 3)", ["(2, 3)"])
    raises(ValueError, lambda: Tensor(numbers(2, 3)) @ Tensor(numbers(4)), "(2, 3) @ (4,)", ["(2, 3)", "(4,)"])
    raises(ValueError, lambda: Tensor(numbers(2, 3)) @ 2.0, "(2, 3) @ 2.0", ["(2, 3)"])
    raises(ValueError, lambda: Tensor(2.0) @ Tensor(numbers(2)), "() @ (2,)", ["()", "(2,)"])
    raises(ValueError, lambda: Tensor(numbers(3)) @ Tensor(numbers(2, 3)), "(3,) @ (2, 3)", ["(3,)", "(2, 3)"])
    raises(ValueError, lambda: Tensor(numbers(2, 2, 3)) @ Tensor(numbers(3, 3, 2)), "batches of 2 and 3 matrices")


@exercise("Tensor.matmul")
def test_matmul_through_the_door() -> None:
    """a @ b is returned through the door, made from a and b themselves, vectors and batches too"""
    for left, right in (((2, 3), (3, 2)), ((3,), (3, 2)), ((2, 3), (3,)), ((4, 2, 3), (3, 2))):
        a, b = Tensor(numbers(*left), requires_grad=True), Tensor(numbers(*right), requires_grad=True)
        through_door(lambda: a @ b, "Matmul", [a, b], given=f"a @ b, shapes {left} and {right}")


class Tenfold(ComputeBackend):
    """Ten times the matrix product, so that one can see who made it."""

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return 10 * np.matmul(a, b)


@exercise("Tensor.matmul")
def test_matmul_asks_the_backend() -> None:
    """the backend in use computes the product"""
    before = set_backend(Tenfold())
    try:
        result = Tensor([[1.0, 2.0]]) @ Tensor([[3.0], [4.0]])
    finally:
        set_backend(before)
    close(result, [[110.0]], "[[1, 2]] @ [[3], [4]]", "a backend whose products are ten times too large")


# Shape


@exercise("Tensor.reshape")
def test_reshape() -> None:
    """elements keep their row-major order; a tuple and -1 are understood"""
    x = np.arange(12.0)
    for shape in ((3, 4), (4, 3), (2, 3, 2), (12,), (1, 12), (3, -1), (-1,)):
        close(Tensor(x).reshape(*shape), x.reshape(shape), f"x.reshape{shape}", "x = 0 … 11", 0.0)
        close(Tensor(x).reshape(shape), x.reshape(shape), f"x.reshape({shape})", "x = 0 … 11, a tuple", 0.0)
    close(Tensor([5]).reshape(()), 5, "x.reshape(())", "x = Tensor([5])", dtype=np.int64)
    close(Tensor([[5]]).reshape(), 5, "x.reshape()", "x = Tensor([[5]])", dtype=np.int64)
    close(view(x.reshape(3, 4).T).reshape(2, 6), x.reshape(3, 4).T.reshape(2, 6), "x.T.reshape(2, 6)", "x (3, 4)", 0.0)


@exercise("Tensor.reshape")
def test_reshape_that_does_not_fit() -> None:
    """another number of elements is refused with both shapes in the message"""
    x = Tensor(np.zeros((2, 3)))
    for shape in ((4, 2), (2, 2), (4, -1)):
        raises(ValueError, lambda: x.reshape(*shape), f"x of shape (2, 3), x.reshape{shape}", ["(2, 3)", shape])


@exercise("Tensor.reshape")
def test_reshape_does_not_copy() -> None:
    """the reshaped tensor shares the memory of a contiguous one, which keeps its own shape"""
    x = Tensor(np.arange(6.0))
    holds(np.shares_memory(x.reshape(2, 3).data, x.data), "shared memory", "a copy", "x.reshape(2, 3)")
    equal(x.shape, (6,), "x.shape afterwards", "x = 0 … 5, x.reshape(2, 3)")


@exercise("Tensor.reshape")
def test_reshape_through_the_door() -> None:
    """x.reshape is returned through the door"""
    x = Tensor(numbers(6), requires_grad=True)
    through_door(lambda: x.reshape(2, 3), "Reshape", [x], given="x.reshape(2, 3)")


@exercise("Tensor.transpose")
def test_transpose() -> None:
    """two axes change places, which is not what reshape does"""
    x = numbers(2, 3, 4)
    for dim0, dim1 in ((0, 1), (1, 2), (0, 2), (-1, -2), (0, -1), (1, 1)):
        call = f"x.transpose({dim0}, {dim1})"
        close(Tensor(x).transpose(dim0, dim1), np.swapaxes(x, dim0, dim1), call, "x (2, 3, 4)", 0.0)
    close(
        Tensor([[1, 2, 3], [4, 5, 6]]).T, [[1, 4], [2, 5], [3, 6]], "x.T", "x = [[1, 2, 3], [4, 5, 6]]", 0.0, np.int64
    )
    raises((ValueError, IndexError), lambda: Tensor(x).transpose(0, 3), "x (2, 3, 4), x.transpose(0, 3)")


@exercise("Tensor.transpose")
def test_transpose_does_not_copy() -> None:
    """only the strides change: the memory is shared, and x stays as it is"""
    x = Tensor(numbers(2, 3))
    holds(np.shares_memory(x.transpose(0, 1).data, x.data), "shared memory", "a copy", "x.transpose(0, 1)")
    equal(x.shape, (2, 3), "x.shape afterwards", "x (2, 3), x.transpose(0, 1)")


@exercise("Tensor.transpose")
def test_transpose_through_the_door() -> None:
    """x.transpose is returned through the door, with both dims"""
    x = Tensor(numbers(2, 3, 4), requires_grad=True)
    through_door(lambda: x.transpose(0, -1), "Transpose", [x], ["dim0", "dim1"], given="x.transpose(0, -1)")
    saved = at_the_door(lambda: x.transpose(0, -1), "x.transpose(0, -1)")[2]
    exchanged = np.swapaxes(x.data, saved["dim0"], saved["dim1"])
    close(
        exchanged, np.swapaxes(x.data, 0, 2), "x with the saved dims exchanged", "x (2, 3, 4), x.transpose(0, -1)", 0.0
    )


@exercise("Tensor.__getitem__")
def test_indexing() -> None:
    """numbers, slices, lists, masks, None and … select as in NumPy"""
    x = numbers(4, 5, 3)
    for index in (
        0,
        -1,
        (1, 2),
        (1, 2, 0),
        slice(1, 3),
        (slice(None), 2),
        (..., 0),
        (None, 1),
        [3, 0, 0],
        ([0, 1], [2, 2]),
        (slice(None, None, 2), slice(3, None)),
        x > 0,
        np.array([1, 1]),
    ):
        shown = "x > 0" if isinstance(index, np.ndarray) and index.dtype == bool else repr(index)
        close(Tensor(x)[index], x[index], f"x[{shown}]", "x (4, 5, 3)", 0.0, np.float64)
    close(Tensor([7, 8, 9])[1:], [8, 9], "x[1:]", "x = Tensor([7, 8, 9])", dtype=np.int64)


@exercise("Tensor.__getitem__")
def test_slices_do_not_copy() -> None:
    """numbers and slices look into the same memory"""
    x = Tensor(numbers(4, 5))
    for shown, part in (("x[1]", x[1]), ("x[:, ::2]", x[:, ::2]), ("x[1:3, 2]", x[1:3, 2])):
        holds(np.shares_memory(part.data, x.data), "shared memory", "a copy", f"{shown}, x (4, 5)")


@exercise("Tensor.__getitem__")
def test_indexing_with_tensors() -> None:
    """Tensors of integers or booleans select too"""
    x = numbers(4, 5)
    close(Tensor(x)[Tensor([3, 1])], x[[3, 1]], "x[Tensor([3, 1])]", "x (4, 5)", 0.0)
    close(Tensor(x)[Tensor([0, 1]), Tensor([2, 2])], x[[0, 1], [2, 2]], "x[Tensor([0, 1]), Tensor([2, 2])]", "", 0.0)
    close(Tensor(x)[:, Tensor(np.arange(5) > 2)], x[:, 3:], "x[:, mask]", "mask = Tensor of booleans", 0.0)
    close(Tensor(x)[Tensor(2)], x[2], "x[Tensor(2)]", "x (4, 5)", 0.0)


@exercise("Tensor.__getitem__")
def test_index_out_of_range() -> None:
    """an index that does not exist is an IndexError"""
    raises(IndexError, lambda: Tensor([1.0, 2.0])[2], "x[2], x of length 2")


@exercise("Tensor.__getitem__")
def test_indexing_through_the_door() -> None:
    """x[index] is returned through the door, with the index"""
    x = Tensor(numbers(3), requires_grad=True)
    through_door(lambda: x[1:], "Index", [x], ["index"], given="x[1:]")


@exercise("Tensor.__getitem__")
def test_saved_index() -> None:
    """the saved index selects the same from a NumPy array: it holds no Tensors"""
    x = Tensor(numbers(3, 4), requires_grad=True)
    rows = Tensor([2, 0])
    indices = {"x[1:]": slice(1, None), "x[rows]": rows, "x[rows, 1]": (rows, 1), "x[:, 2]": (slice(None), 2)}
    for shown, index in indices.items():
        given = f"{shown}, rows = Tensor([2, 0])"
        _, inputs, saved = at_the_door(lambda: x[index], given)
        parts = saved["index"] if isinstance(saved["index"], tuple) else (saved["index"],)
        holds(not any(isinstance(part, Tensor) for part in parts), "a saved index of arrays", "a Tensor in it", given)
        close(inputs[0].data[saved["index"]], x[index].data, "x.data[saved index]", given, 0.0)


# Reductions

AXES = (None, 0, 1, -1, (0, 2), (0, 1, 2))


def check_reduction(name: str) -> None:
    x = numbers(2, 3, 4)
    for axis in AXES:
        for keepdims in (False, True):
            expected = getattr(x, name)(axis=axis, keepdims=keepdims)
            call = f"x.{name}(axis={axis}, keepdims={keepdims})"
            close(
                getattr(Tensor(x), name)(axis=axis, keepdims=keepdims), expected, call, "x (2, 3, 4)", 1e-12, np.float64
            )
    close(getattr(Tensor([3.0]), name)(), 3.0, f"x.{name}()", "x = Tensor([3.0])", dtype=np.float32)
    for axis in (0, -1):
        for call, options in ((f"axis={axis}", {}), (f"axis={axis}, keepdims=True", {"keepdims": True})):
            result = getattr(Tensor(3.0), name)(axis=axis, **options)
            close(result, 3.0, f"x.{name}({call})", "x = Tensor(3.0), a single number", dtype=np.float32)
    turned = np.swapaxes(x, 0, 2)
    close(
        getattr(view(turned), name)(axis=0), getattr(turned, name)(axis=0), f"x.{name}(axis=0)", "x transposed", 1e-12
    )


def check_reduction_door(name: str) -> None:
    """The door, and that what was saved tells which axes are gone."""
    x = Tensor(numbers(2, 3, 4), requires_grad=True)
    through_door(
        lambda: getattr(x, name)(axis=1), name.capitalize(), [x], ["axis", "keepdims"], given=f"x.{name}(axis=1)"
    )
    for axis, keepdims in ((1, False), (-1, True), ((0, 2), False), (None, False), (None, True)):
        call = f"x.{name}(axis={axis}, keepdims={keepdims})"
        saved = at_the_door(lambda: getattr(x, name)(axis=axis, keepdims=keepdims), call)[2]
        told = np.sum(x.data, axis=saved["axis"], keepdims=saved["keepdims"])
        close(
            told, x.data.sum(axis=axis, keepdims=keepdims), "x.data.sum with the saved axis and keepdims", call, 1e-12
        )


@exercise("Tensor.sum")
def test_sum() -> None:
    """sums over all, one or several axes, with and without keepdims"""
    check_reduction("sum")


@exercise("Tensor.sum")
def test_sum_of_other_dtypes() -> None:
    """integers stay integers, no elements sum to 0, float32 stays float32"""
    close(Tensor([1, 2, 3]).sum(), 6, "the sum", "Tensor([1, 2, 3])", dtype=np.int64)
    close(Tensor(np.zeros((0, 3))).sum(axis=0), [0.0, 0.0, 0.0], "the sum", "shape (0, 3), axis=0")
    equal(int(Tensor([16777217, 2]).sum().data), 16777219, "the sum", "Tensor([16777217, 2])")
    close(Tensor([True, True, False]).sum(), 2, "the sum", "Tensor([True, True, False])")


@exercise("Tensor.sum")
def test_sum_through_the_door() -> None:
    """x.sum is returned through the door, with axis and keepdims"""
    check_reduction_door("sum")


@exercise("Tensor.mean")
def test_mean() -> None:
    """means over all, one or several axes, with and without keepdims"""
    check_reduction("mean")


@exercise("Tensor.mean")
def test_mean_of_integers() -> None:
    """the mean of 1 and 2 is 1.5, as float32"""
    close(Tensor([1, 2]).mean(), 1.5, "the mean", "Tensor([1, 2])", dtype=np.float32)
    given = "Tensor([[1, 2], [4, 4]]), axis=0"
    close(Tensor([[1, 2], [4, 4]]).mean(axis=0), [2.5, 3.0], "the mean", given, dtype=np.float32)


@exercise("Tensor.mean")
def test_mean_through_the_door() -> None:
    """x.mean is returned through the door, with axis and keepdims"""
    check_reduction_door("mean")


@exercise("Tensor.max")
def test_max() -> None:
    """the largest over all, one or several axes, with and without keepdims"""
    check_reduction("max")
    close(Tensor([-3.0, -1.0, -2.0]).max(), -1.0, "the maximum", "Tensor([-3, -1, -2])")
    close(Tensor([1.0, np.nan, 2.0]).max(), np.nan, "the maximum", "Tensor([1, nan, 2])", dtype=np.float32)
    close(
        Tensor([[1, 7], [9, 3]]).max(axis=1), [7, 9], "the maximum", "Tensor([[1, 7], [9, 3]]), axis=1", dtype=np.int64
    )


@exercise("Tensor.max")
def test_max_through_the_door() -> None:
    """x.max is returned through the door, with axis and keepdims"""
    check_reduction_door("max")


# Elementwise functions


@exercise("Tensor.exp")
def test_exp() -> None:
    """e to the power of each element"""
    x = numbers(2, 3)
    tensor = Tensor(x)
    close(tensor.exp(), np.exp(x), "x.exp()", "x (2, 3), float64", 1e-12, np.float64)
    close(tensor, x, "x afterwards", "x (2, 3), x.exp()", 0.0)
    close(Tensor([-80.0]).exp().data * 1e30, [1.8048513e-5], "x.exp() · 1e30", "x = Tensor([-80.])", 1e-10, np.float32)
    close(Tensor(80.0).exp().data / 1e34, 5.5406225, "x.exp() / 1e34", "x = Tensor(80.)", dtype=np.float32)
    close(Tensor([0, 1]).exp(), [1.0, 2.7182817], "x.exp()", "x = Tensor([0, 1]), integers", dtype=np.float32)


@exercise("Tensor.exp")
def test_exp_through_the_door() -> None:
    """x.exp() is returned through the door, with its output"""
    x = Tensor(numbers(3), requires_grad=True)
    through_door(x.exp, "Exp", [x], ["output"], given="x.exp()")
    output = at_the_door(x.exp, "x.exp()")[2]["output"]
    holds(not isinstance(output, Tensor), "an array as output", "a Tensor", "x.exp()")
    close(output, np.exp(x.data), "the saved output", "x.exp()", 1e-12)


@exercise("Tensor.log")
def test_log() -> None:
    """the natural logarithm of each element"""
    x = np.abs(numbers(2, 3)) + 0.1
    tensor = Tensor(x)
    close(tensor.log(), np.log(x), "x.log()", "x (2, 3), float64", 1e-12, np.float64)
    close(tensor, x, "x afterwards", "x (2, 3), x.log()", 0.0)
    close(Tensor([1e-30]).log(), [-69.07755], "x.log()", "x = Tensor([1e-30])", dtype=np.float32)
    with np.errstate(all="ignore"):
        close(Tensor([0.0, -1.0]).log(), [-np.inf, np.nan], "x.log()", "x = Tensor([0., -1.])", dtype=np.float32)
    close(Tensor([1, 10]).log(), [0.0, 2.3025851], "x.log()", "x = Tensor([1, 10]), integers", dtype=np.float32)


@exercise("Tensor.log")
def test_log_through_the_door() -> None:
    """x.log() is returned through the door"""
    x = Tensor([1.0, 2.0], requires_grad=True)
    through_door(x.log, "Log", [x], given="x.log()")


# Systems


@exercise("tensor_bytes")
def test_tensor_bytes() -> None:
    """bytes of the elements, as NumPy counts them in nbytes"""
    for shape, dtype in (((3, 4), "float32"), ((1000,), "float64"), ((), "int64"), ((2, 0), "float32"), ((7,), "bool")):
        array = np.zeros(shape, dtype)
        equal(tensor_bytes(Tensor(array)), array.nbytes, "tensor_bytes", f"shape {shape}, {dtype}")
    equal(tensor_bytes(Tensor(np.zeros((8, 8)))[::2]), 256, "tensor_bytes", "every second row of (8, 8) float64")


@exercise("kept_bytes")
def test_kept_bytes() -> None:
    """what tracemalloc says is still allocated when only a view is left"""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    view = Tensor(np.zeros((200, 1000)))[3]
    kept = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    answer = kept_bytes(view)
    given = "one row of shape (200, 1000), float64"
    holds(abs(answer - kept) < 20_000, f"about {kept} bytes (measured)", f"{answer}", given)


@exercise("kept_bytes")
def test_kept_bytes_of_views_of_views() -> None:
    """a view of a view keeps the same array alive, and a tensor that owns its memory just its own"""
    x = Tensor(np.zeros((4, 6)))
    equal(kept_bytes(x), 192, "kept_bytes", "shape (4, 6), float64")
    equal(kept_bytes(x[1:].T[0]), 192, "kept_bytes", "x[1:].T[0], x of shape (4, 6), float64")
    equal(kept_bytes(x - 1.0), 192, "kept_bytes", "x - 1.0, a new tensor")


@exercise("broadcast_bytes")
def test_broadcast_bytes() -> None:
    """what np.broadcast_arrays, copied, takes beyond the originals"""
    for left, right, dtype in (
        ((100, 10), (10,), "float64"),
        ((8, 1), (1, 9), "float32"),
        ((3,), (3,), "float32"),
        ((), (5, 5), "float64"),
        ((4, 1, 2), (3, 1), "int64"),
    ):
        a, b = np.zeros(left, dtype), np.zeros(right, dtype)
        copies = sum(np.array(array).nbytes for array in np.broadcast_arrays(a, b))
        answer = broadcast_bytes(Tensor(a), Tensor(b))
        equal(answer, copies - a.nbytes - b.nbytes, "broadcast_bytes", f"shapes {left} and {right}, {dtype}")
    a, b = np.zeros((6, 1), "float64"), np.zeros((4,), "float32")
    copies = sum(np.array(array).nbytes for array in np.broadcast_arrays(a, b))
    answer = broadcast_bytes(Tensor(a), Tensor(b))
    equal(answer, copies - a.nbytes - b.nbytes, "broadcast_bytes", "shapes (6, 1), float64, and (4,), float32")


@exercise("broadcast_bytes")
def test_broadcast_bytes_refuses() -> None:
    """shapes that do not broadcast are refused"""
    raises(ValueError, lambda: broadcast_bytes(Tensor(np.zeros(3)), Tensor(np.zeros(4))), "shapes (3,) and (4,)")


def counted_flops(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Multiplications and additions, counted one by one."""
    flops = 0
    for _ in np.ndindex(*np.broadcast_shapes(a[:-2], b[:-2]), a[-2], b[-1], a[-1]):
        flops += 2
    return flops


@exercise("matmul_flops")
def test_matmul_flops() -> None:
    """what counting every multiplication and addition of the loops gives"""
    for a, b in (
        ((2, 3), (3, 4)),
        ((1, 5), (5, 1)),
        ((6, 2, 3), (6, 3, 2)),
        ((6, 2, 3), (3, 2)),
        ((2, 1, 2, 3), (4, 3, 5)),
        ((0, 3), (3, 2)),
    ):
        equal(matmul_flops(a, b), counted_flops(a, b), "matmul_flops", f"shapes {a} and {b}")
    n = 2**21
    equal(matmul_flops((3, n, n), (n, n)), 3 * 2**64, "matmul_flops", "shapes (3, 2²¹, 2²¹) and (2²¹, 2²¹)")


def counted_lines(rows: int, columns: int, itemsize: int, by_rows: bool, line: int) -> int:
    """Fetches of a cache that holds one line, counted while walking."""
    held, fetches = None, 0
    outer, inner = (rows, columns) if by_rows else (columns, rows)
    for i in range(outer):
        for j in range(inner):
            row, column = (i, j) if by_rows else (j, i)
            wanted = (row * columns + column) * itemsize // line
            if wanted != held:
                held, fetches = wanted, fetches + 1
    return fetches


@exercise("cache_lines")
def test_cache_lines() -> None:
    """what walking through the matrix with one cache line in hand counts"""
    for case in (
        (8, 16, 4, True, 64),
        (8, 16, 4, False, 64),
        (5, 3, 8, True, 64),
        (5, 3, 8, False, 64),
        (1, 100, 4, True, 64),
        (1, 100, 4, False, 64),
        (100, 1, 4, False, 64),
        (6, 24, 4, False, 64),
        (6, 64, 8, False, 128),
        (3, 20, 4, True, 32),
        (0, 5, 4, True, 64),
        (5, 0, 4, False, 64),
    ):
        rows, columns, itemsize, by_rows, line = case
        walk = "by rows" if by_rows else "by columns"
        given = f"{rows} x {columns} elements of {itemsize} bytes, {walk}, lines of {line} bytes"
        equal(cache_lines(*case), counted_lines(*case), "cache_lines", given)
