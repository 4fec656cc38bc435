"""Stage 05: the rules, how a gradient goes back through each operation of a Tensor.

Those of activations and losses stand in `activation_rules.py`.

A rule answers with one gradient per input, of the shape that the operation computed with: where an operand was
broadcast, the engine in `autograd.py` undoes it. A rule reads `grad_output` and never changes it, since others may
hold the same array. `AddBackward`, `SubBackward`, `NegBackward` and `MeanBackward` are given as patterns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.config import get_backend
from tinytorch.core.tensor import Tensor, result_of

__all__ = ["RULES", "Function"]

RULES: dict[str, type[Function]] = {}


class Function:
    """One operation that was done, and the rule that sends a gradient back through it.

    A subclass named `AddBackward` is the rule of the operation "Add". An operation of your own defines
    `forward` as well, and is used as `MyFunction.apply(x)`; what `backward` will need, `forward` leaves in `self`.

    Recording is a matter of each thread: `no_grad` in one of them does not stop another from recording.

    Attributes:
        inputs: the tensors that went in; () once the graph is freed.
        freed: whether an earlier `backward()` came through here and let go of everything.
        (others): whatever the operation saved at the door, such as `self.axis`.
    """

    inputs: tuple[Tensor, ...] = ()
    freed = False

    def __init_subclass__(cls) -> None:
        RULES[cls.__name__] = cls

    def forward(self, *inputs: np.ndarray) -> np.ndarray:
        """The values of the result from the values of the inputs."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradient of each input, float32 for float32: one array, or a tuple with an array or None per input.

        Args:
            grad_output: gradient of the result, of its shape; only to be read.
        """
        raise TypeError(f"{type(self).__name__} defines no backward")

    def needs(self, index: int) -> bool:
        """Whether anybody wants the gradient of input `index`."""
        return self.inputs[index].requires_grad

    @classmethod
    def apply(cls, *inputs: Tensor) -> Tensor:
        """Run `forward` on the inputs' values, and remember it. A TypeError if one of them is no Tensor."""
        for tensor in inputs:
            if not isinstance(tensor, Tensor):
                raise TypeError(f"{cls.__name__}.apply: expected Tensors, got {type(tensor).__name__}")
        function = cls()
        function.inputs = inputs
        return result_of(function, function.forward(*(tensor.data for tensor in inputs)), *inputs)


class AddBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """d(a + b) = da + db."""
        return grad_output, grad_output


class SubBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """d(a - b) = da - db."""
        return grad_output, -grad_output


class NegBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """d(-a) = -da."""
        return -grad_output


class MulBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """d(ab) = b da + a db."""
        a, b = (tensor.data for tensor in self.inputs)
        return grad_output * b, grad_output * a


class DivBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """d(a / b) = da / b - a db / b²."""
        a, b = (tensor.data for tensor in self.inputs)
        return grad_output / b, -grad_output * (a / b / b)


class PowBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """d(aᵇ) = b aᵇ⁻¹ da + aᵇ ln(a) db; 0 for a where b = 0, and 0 for b where a = 0 and b ≥ 0, as in PyTorch.

        The first 0 holds for every a, also 0, ±inf and NaN.

        Work out the second part only if b needs it (`self.needs(1)`, else None): in `x ** 2` nobody does, and the
        logarithm of a negative x does not exist.
        """
        a, b = (tensor.data for tensor in self.inputs)
        # Where the factor b is zero, any finite base will do: 0 ** -1 and infinity are not, nor is NaN.
        from_a = grad_output * b * np.where(b == 0, 1, a) ** (b - 1)
        from_b = grad_output * a**b * np.log(np.where((a == 0) & (b >= 0), 1, a)) if self.needs(1) else None
        return from_a, from_b


class MatmulBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """d(AB): dA = G Bᵀ, dB = Aᵀ G, matrix by matrix in a batch. A vector is a matrix with one row or column.

        Both products come from the backend, `get_backend().matmul(a, b)`, as in `Tensor.matmul`.
        Each costs as much as the forward pass: answer None for an operand that nobody asks about (`self.needs`).
        A batch may be left unsummed where an operand had none: that is broadcasting, which the engine undoes.
        """
        a, b = (tensor.data for tensor in self.inputs)
        rows = a if a.ndim > 1 else a[None, :]  # (…, m, k)
        columns = b if b.ndim > 1 else b[:, None]  # (…, k, n)
        grad = grad_output if b.ndim > 1 else grad_output[..., None]
        grad = grad if a.ndim > 1 else grad[..., None, :]  # (…, m, n)
        from_a = from_b = None
        matmul = get_backend().matmul
        if self.needs(0):
            from_a = matmul(grad, np.swapaxes(columns, -1, -2))  # (…, m, k)
            from_a = from_a if a.ndim > 1 else from_a[..., 0, :]
        if self.needs(1):
            if columns.ndim == 2:  # one matrix for the whole batch: one large product, and no batch left to sum
                count = math.prod(rows.shape[:-1])
                rows, grad = rows.reshape(count, rows.shape[-1]), grad.reshape(count, grad.shape[-1])
            from_b = matmul(np.swapaxes(rows, -1, -2), grad)  # (…, k, n)
            from_b = from_b if b.ndim > 1 else from_b[..., 0]
        return from_a, from_b


class ReshapeBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradient in the shape that the input had."""
        return grad_output.reshape(self.inputs[0].shape)


class TransposeBackward(Function):
    dim0: int
    dim1: int

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradient with the same two axes exchanged."""
        return np.swapaxes(grad_output, self.dim0, self.dim1)


class IndexBackward(Function):
    index: Any

    def backward(self, grad_output: np.ndarray) -> Any:
        """Zeros, with the gradient added where the elements came from: `self.index`. One taken twice gets both.

        `zeros[index] += grad` forgets all but the last of those that name the same place; `np.add.at` does not. An
        index may name a place twice by any part of it that is a sequence: a list, an array, or a tuple as in
        `x[0, (1, 1)]`. Numbers, slices, None and `...` never do.
        """
        gradient = np.zeros_like(self.inputs[0].data)
        parts = self.index if isinstance(self.index, tuple) else (self.index,)
        if all(part is None or part is ... or isinstance(part, (int, np.integer, slice)) for part in parts):
            gradient[self.index] = grad_output  # np.add.at is tens of times slower
        else:
            np.add.at(gradient, self.index, grad_output)
        return gradient


class _Reduction(Function):
    axis: Any
    keepdims: bool

    def spread(self, reduced: np.ndarray) -> np.ndarray:
        """`reduced`, with the summed axes back as axes of length 1, stretched to the input's shape."""
        x = self.inputs[0]
        if self.axis is not None and not self.keepdims and x.ndim:  # a number may be summed over axis 0, and has none
            reduced = np.expand_dims(reduced, self.axis)
        return np.broadcast_to(reduced, x.shape)


class SumBackward(_Reduction):
    def backward(self, grad_output: np.ndarray) -> Any:
        """Each element that was summed gets the whole gradient of its sum. `self.spread` brings shapes together."""
        return self.spread(grad_output)


class MeanBackward(_Reduction):
    def backward(self, grad_output: np.ndarray) -> Any:
        """Each of the n elements of a mean gets 1/n of its gradient."""
        count = self.inputs[0].size // max(grad_output.size, 1)
        return self.spread(grad_output) / grad_output.dtype.type(count)


class MaxBackward(_Reduction):
    def backward(self, grad_output: np.ndarray) -> Any:
        """The largest element gets the gradient; ties share it: what they get together must be what came."""
        x = self.inputs[0].data
        largest = x == x.max(axis=self.axis, keepdims=True)
        return self.spread(grad_output) * largest / largest.sum(axis=self.axis, keepdims=True, dtype=x.dtype)


class ExpBackward(Function):
    output: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """d(eᵃ) = eᵃ da; eᵃ is at hand as `self.output`."""
        return grad_output * self.output


class LogBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """d(ln a) = da / a."""
        return grad_output / self.inputs[0].data
