"""Stage 01: the Tensor, an n-dimensional array of numbers that can remember how it was made.

Every operation returns its result through one door, `result_of`. Behind the door nothing happens until
stage 05 plugs in its tape; from then on the tape remembers which operation made which tensor.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from tinytorch.config import get_backend
from tinytorch.core.arrays import as_array, number_dtype
from tinytorch.core.conveniences import Conveniences
from tinytorch.core.door import gradient_at as gradient_at
from tinytorch.core.door import memory, tell_watchers, watchers
from tinytorch.core.door import recording as recording

__all__ = ["Tensor", "as_tensor", "floating", "operands", "plug_in", "result_of"]

_tape: Any = None  # stage 05 plugs itself in here


def plug_in(tape: Any) -> Any:
    """Connect `tape` (anything with `record` and `backward`), and return what was connected before."""
    global _tape
    previous, _tape = _tape, tape
    return previous


def result_of(op: Any, data: np.ndarray, *inputs: Tensor, **saved: Any) -> Tensor:
    """Wrap `data` in a Tensor, made by `op` from `inputs`. From stage 05 on, the tape remembers how.

    Args:
        op: the operation's name, such as "Add"; its gradient rule is then the class `AddBackward`.
        data: the values of the result; kept, not copied.
        inputs: the tensors that the gradient flows back to: the operands themselves, not tensors made of their values.
        saved: what the rule will need besides the inputs, such as `axis=1`; each operation says which names.
    """
    result = Tensor.__new__(Tensor)
    result.data = np.asarray(data)
    result.requires_grad, result._grad, result.grad_fn = False, None, None
    if _tape is not None:
        for tensor in inputs:  # a loop, since `any` of a generator takes longer than all the rest
            if tensor.requires_grad:
                _remember(op, result, inputs, saved)
                break
    if watchers and op is not None:
        tell_watchers(op, result, inputs, saved)
    return result


def _remember(op: Any, result: Tensor, inputs: tuple[Tensor, ...], saved: dict[str, Any]) -> None:
    if memory.on:
        try:
            _tape.record(op, result, inputs, saved)
        except NotImplementedError:  # stage 05 is in the tree, but its `record` is still a stub
            pass


def as_tensor(value: Any, like: Tensor) -> Tensor:
    """`value` as a Tensor. A single number takes the dtype of `like`, unless it is a float among integers."""
    if isinstance(value, Tensor):
        return value
    return Tensor(value, dtype=number_dtype(value, like.dtype))


def operands(a: Tensor, b: Any) -> tuple[Tensor, Tensor]:
    """Both operands as Tensors; where one holds floats and the other integers, floats of that size win."""
    b = as_tensor(b, like=a)
    if a.dtype.kind == "f" and b.dtype.kind != "f":
        return a, Tensor(b.data, dtype=a.dtype)
    if b.dtype.kind == "f" and a.dtype.kind != "f":
        return Tensor(a.data, dtype=b.dtype), b
    return a, b


def floating(x: Tensor) -> Tensor:
    """`x` itself if it holds floats, else its values as float32."""
    return x if x.dtype.kind == "f" else Tensor(x.data, dtype=np.float32)


def _reflected(operation: Any) -> Any:
    """The method that Python calls when a number or an array stands left of a tensor."""
    return lambda self, other: operation(as_tensor(other, like=self), self)


class Tensor(Conveniences):
    """An n-dimensional array with a place for its gradient.

    Args:
        data: a number, a nested list, a NumPy array or a Tensor; the values are copied.
        requires_grad: whether `backward()` shall leave a gradient here (only for floats).
        dtype: a NumPy dtype; by default as `as_array` says.

    Attributes:
        data: the values, a NumPy array.
        grad: None, or a NumPy array of the shape and dtype of `data`.
        grad_fn: the rule of the operation that made this tensor (stage 05), None for a leaf.

    >>> Tensor([[1, 2], [3, 4]]) @ Tensor([[1], [1]])
    Tensor([[3]
            [7]], dtype=int64)
    """

    __array_ufunc__ = None  # so that `array * tensor` asks the tensor, not the array

    def __init__(self, data: Any, requires_grad: bool = False, dtype: Any = None) -> None:
        self.data: np.ndarray = as_array(data.data if isinstance(data, Tensor) else data, dtype)
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(f"requires_grad=True needs floats, got {self.data.dtype}: only floats have gradients")
        self.requires_grad = requires_grad
        self.grad: np.ndarray | None = None
        self.grad_fn: Any = None

    shape = property(lambda self: self.data.shape, doc="The length of each axis.")
    ndim = property(lambda self: self.data.ndim, doc="The number of axes.")
    dtype = property(lambda self: self.data.dtype, doc="The NumPy dtype of the values.")
    size = property(lambda self: self.data.size, doc="The number of elements.")

    def __len__(self) -> int:
        return len(self.data)

    def __repr__(self) -> str:
        values = np.array2string(self.data, separator=" ", prefix="Tensor(")
        made = f", grad_fn=<{type(self.grad_fn).__name__}>" if self.grad_fn else ""
        return (
            f"Tensor({values}, dtype={self.dtype}{', requires_grad=True' if self.requires_grad and not made else made})"
        )

    def numpy(self) -> np.ndarray:
        """The values as a NumPy array that shares this tensor's memory."""
        return self.data

    def item(self) -> int | float | bool:
        """The value of a tensor with one element, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item() needs a tensor with one element, got shape {self.shape}")
        return self.data.item()

    def detach(self) -> Tensor:
        """A tensor with the same memory that no gradient flows through."""
        return result_of(None, self.data)

    def backward(self, gradient: Any = None) -> None:
        """Send `gradient` (default: 1, for a tensor with one element) back to all that made this tensor.

        Before stage 05 that is a RuntimeError: there is no tape yet that could have remembered anything.
        """
        if _tape is None:
            raise RuntimeError("backward(): gradients wake up in stage 05 (autograd)")
        _tape.backward(self, gradient)

    # Arithmetic, elementwise, into new memory; `other` is a Tensor, an array or a number, and shapes broadcast as in
    # NumPy: (2, 1) with (1, 3) gives (2, 3). `operands` makes Tensors of both sides; subtraction shows the pattern.

    def __sub__(self, other: Any) -> Tensor:
        """`self - other`, through the door as "Sub"."""
        a, b = operands(self, other)
        return result_of("Sub", a.data - b.data, a, b)

    def __neg__(self) -> Tensor:
        """`-self`, through the door as "Neg"."""
        return result_of("Neg", -self.data, self)

    def __add__(self, other: Any) -> Tensor:
        """`self + other`, through the door as "Add".

        >>> Tensor([[1], [2]]) + Tensor([0.5, 0.25])
        Tensor([[1.5  1.25]
                [2.5  2.25]], dtype=float32)
        """
        a, b = operands(self, other)
        return result_of("Add", a.data + b.data, a, b)

    def __mul__(self, other: Any) -> Tensor:
        """`self * other`, element by element, through the door as "Mul"."""
        a, b = operands(self, other)
        return result_of("Mul", a.data * b.data, a, b)

    def __truediv__(self, other: Any) -> Tensor:
        """`self / other`, through the door as "Div". Integers are divided as float32 (`floating`): 7 / 2 is 3.5."""
        a, b = operands(self, other)
        a, b = floating(a), floating(b)
        return result_of("Div", a.data / b.data, a, b)

    def __pow__(self, other: Any) -> Tensor:
        """`self ** other`, element by element, through the door as "Pow". Integers stay integers."""
        a, b = operands(self, other)
        return result_of("Pow", a.data**b.data, a, b)

    __radd__, __rsub__ = _reflected(operator.add), _reflected(operator.sub)
    __rmul__, __rtruediv__ = _reflected(operator.mul), _reflected(operator.truediv)
    __rpow__, __rmatmul__ = _reflected(operator.pow), _reflected(operator.matmul)

    def __matmul__(self, other: Any) -> Tensor:
        return self.matmul(other)

    def matmul(self, other: Any) -> Tensor:
        """Matrix product `self @ other`, through the door as "Matmul".

        (m, k) @ (k, n) -> (m, n). Leading axes are batches and broadcast: (b, m, k) @ (k, n) -> (b, m, n).
        A vector on the left is a row, on the right a column; its axis is dropped from the result. `other` is a
        Tensor or an array; dtypes meet as in `+`. The backend in use multiplies the arrays: call `get_backend().matmul`
        with both of them. By default it is NumPy's product.

        Raises:
            ValueError: the inner lengths k differ, or an operand is a single number; the message names both shapes.
                Also batches that do not broadcast.

        >>> Tensor([[1.0, 2.0]]).matmul(Tensor([[3.0], [4.0]])).item()
        11.0
        """
        a, b = operands(self, other)
        if a.ndim == 0 or b.ndim == 0 or a.shape[-1] != b.shape[-2 if b.ndim > 1 else 0]:
            raise ValueError(f"matmul: shapes {a.shape} and {b.shape} do not fit: expected (…, m, k) @ (…, k, n)")
        return result_of("Matmul", get_backend().matmul(a.data, b.data), a, b)

    # Shape

    @property
    def T(self) -> Tensor:
        """The tensor with its last two axes exchanged; a vector or a number stays as it is."""
        return self.transpose(-2, -1) if self.ndim > 1 else self

    def reshape(self, *shape: Any) -> Tensor:
        """The same elements, in the same (row-major) order, in another shape; door "Reshape".

        Shares this tensor's memory where the order of its elements in memory allows that.

        Args:
            shape: the new lengths, as numbers or as one tuple; one of them may be -1, which means "the rest". No
                lengths at all make a single number, of shape (): `x.reshape()` is `x.reshape(())`.

        Raises:
            ValueError: the number of elements would change; the message names both shapes.
        """
        if len(shape) == 1 and isinstance(shape[0], (tuple, list)):
            shape = tuple(shape[0])
        try:
            data = self.data.reshape(shape)
        except ValueError as error:
            raise ValueError(f"reshape: {self.size} elements of shape {self.shape} do not fit {shape}") from error
        return result_of("Reshape", data, self)

    def transpose(self, dim0: int, dim1: int) -> Tensor:
        """Two axes exchanged, in a view of the same memory; negative ones count from the end.

        Door "Transpose", saved: dim0, dim1. A dim that does not exist is a ValueError (NumPy's AxisError is one).
        """
        return result_of("Transpose", np.swapaxes(self.data, dim0, dim1), self, dim0=dim0, dim1=dim1)

    def __getitem__(self, index: Any) -> Tensor:
        """`self[index]` for all that NumPy can index with, and Tensors; door "Index", saved: index.

        Numbers and slices give views of the same memory; lists, masks and Tensors copy what they select. A Tensor may
        be the index or stand in a tuple of them; the saved index holds its array instead.
        """
        parts = index if isinstance(index, tuple) else (index,)
        parts = tuple(part.data if isinstance(part, Tensor) else part for part in parts)
        index = parts if isinstance(index, tuple) else parts[0]
        return result_of("Index", self.data[index], self, index=index)

    # Reductions: `axis` is None (all), a number or a tuple of them; negative axes count from the end. What was reduced
    # disappears from the shape, or with `keepdims` stays as an axis of length 1. A single number, of shape (), may be
    # reduced over axis 0 or -1 too, and keeps its shape; NumPy's `mean` alone does not know that.

    def sum(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Sum over `axis`; of integers an integer. Door "Sum", saved: axis, keepdims."""
        return result_of("Sum", self.data.sum(axis=axis, keepdims=keepdims), self, axis=axis, keepdims=keepdims)

    def mean(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Mean over `axis`; of integers as float32 (`floating`). Door "Mean", saved: axis, keepdims."""
        x = floating(self)
        data = x.data.mean(axis=axis if x.ndim else None, keepdims=keepdims)
        return result_of("Mean", data, x, axis=axis, keepdims=keepdims)

    def max(self, axis: Any = None, keepdims: bool = False) -> Tensor:
        """Largest value over `axis`, NaN if there is one; without its place. Door "Max", saved: axis, keepdims."""
        return result_of("Max", self.data.max(axis=axis, keepdims=keepdims), self, axis=axis, keepdims=keepdims)

    # Elementwise functions

    def exp(self) -> Tensor:
        """e to the power of each element; of integers as float32. Door "Exp", saved: output, the resulting array."""
        x = floating(self)
        output = np.exp(x.data)
        return result_of("Exp", output, x, output=output)

    def log(self) -> Tensor:
        """Natural logarithm of each element; of integers as float32; NaN below 0, -inf at 0. Door "Log"."""
        x = floating(self)
        return result_of("Log", np.log(x.data), x)
