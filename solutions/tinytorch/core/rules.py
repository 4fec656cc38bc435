"""Stage 05: the rules, how a gradient goes back through each operation of stages 01 to 04.

A rule answers with one gradient per input, of the shape that the operation computed with: where an operand was
broadcast, the engine in `autograd.py` undoes it. A rule reads `grad_output` and never changes it, since others may
hold the same array. `AddBackward`, `SubBackward`, `NegBackward` and `MeanBackward` are given as patterns.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.core.activations import normal_cdf
from tinytorch.core.tensor import Tensor, result_of

__all__ = ["RULES", "Function"]

RULES: dict[str, type[Function]] = {}


class Function:
    """One operation that was done, and the rule that sends a gradient back through it.

    A subclass named `AddBackward` is the rule of the operation "Add". An operation of your own defines
    `forward` as well, and is used as `MyFunction.apply(x)`; what `backward` will need, `forward` leaves in `self`.

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

        Work out the second part only if b needs it (`self.needs(1)`, else None): in `x ** 2` nobody does, and the
        logarithm of a negative x does not exist.
        """
        a, b = (tensor.data for tensor in self.inputs)
        # a ** (b - 1) is infinite at a = b = 0; any exponent will do where the factor b is zero.
        from_a = grad_output * b * a ** np.where(b == 0, 1, b - 1)
        from_b = grad_output * a**b * np.log(np.where((a == 0) & (b >= 0), 1, a)) if self.needs(1) else None
        return from_a, from_b


class MatmulBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """d(AB): dA = G Bᵀ, dB = Aᵀ G, matrix by matrix in a batch. A vector is a matrix with one row or column.

        A product costs as much as the forward pass: answer None for an operand that nobody asks about (`self.needs`).
        A batch may be left unsummed where an operand had none: that is broadcasting, which the engine undoes.
        """
        a, b = (tensor.data for tensor in self.inputs)
        rows = a if a.ndim > 1 else a[None, :]  # (…, m, k)
        columns = b if b.ndim > 1 else b[:, None]  # (…, k, n)
        grad = grad_output if b.ndim > 1 else grad_output[..., None]
        grad = grad if a.ndim > 1 else grad[..., None, :]  # (…, m, n)
        from_a = from_b = None
        if self.needs(0):
            from_a = grad @ np.swapaxes(columns, -1, -2)  # (…, m, k)
            from_a = from_a if a.ndim > 1 else from_a[..., 0, :]
        if self.needs(1):
            if columns.ndim == 2:  # one matrix for the whole batch: one large product, and no batch left to sum
                count = math.prod(rows.shape[:-1])
                rows, grad = rows.reshape(count, rows.shape[-1]), grad.reshape(count, grad.shape[-1])
            from_b = np.swapaxes(rows, -1, -2) @ grad  # (…, k, n)
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

        `zeros[index] += grad` forgets all but the last of those that name the same place; `np.add.at` does not.
        """
        gradient = np.zeros_like(self.inputs[0].data)
        parts = self.index if isinstance(self.index, tuple) else (self.index,)
        if any(isinstance(part, (list, np.ndarray)) for part in parts):
            np.add.at(gradient, self.index, grad_output)
        else:  # numbers and slices take nothing twice, and np.add.at is tens of times slower
            gradient[self.index] = grad_output
        return gradient


class _Reduction(Function):
    axis: Any
    keepdims: bool

    def spread(self, reduced: np.ndarray) -> np.ndarray:
        """`reduced`, with the summed axes back as axes of length 1, stretched to the input's shape."""
        x = self.inputs[0]
        if self.axis is not None and not self.keepdims:
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


class SigmoidBackward(Function):
    output: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """dσ = σ (1 - σ) da, with σ at hand as `self.output`."""
        return grad_output * self.output * (1 - self.output)


class TanhBackward(Function):
    output: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """d(tanh) = (1 - tanh²) da, with tanh at hand as `self.output`."""
        return grad_output * (1 - self.output**2)


class ReLUBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradient where the input was positive; nothing elsewhere, also at 0."""
        return grad_output * (self.inputs[0].data > 0)


class GELUBackward(Function):
    approximate: str

    def backward(self, grad_output: np.ndarray) -> Any:
        """The derivative of the form that ran forward, `self.approximate`: "none" or "tanh".

        "none": Φ(x) + x φ(x), with Φ as in `normal_cdf` and φ(x) = exp(-x²/2) / √(2π).
        "tanh": with u = √(2/π) (x + 0.044715 x³): (1 + tanh u) / 2 + x (1 - tanh² u) / 2 · du/dx.
        """
        x = self.inputs[0].data
        if self.approximate == "none":
            return grad_output * (normal_cdf(x) + x * np.exp(-x * x / 2) / float(np.sqrt(2 * np.pi)))
        scale = float(np.sqrt(2 / np.pi))
        tanh = np.tanh(scale * (x + 0.044715 * x * x * x))
        slope = scale * (1 + 3 * 0.044715 * x * x)
        return grad_output * ((1 + tanh) / 2 + x * (1 - tanh * tanh) / 2 * slope)


class SoftmaxBackward(Function):
    output: np.ndarray
    dim: int

    def backward(self, grad_output: np.ndarray) -> Any:
        """s (g - Σ g s), with s at hand as `self.output` and the sum over `self.dim`."""
        weighted = (grad_output * self.output).sum(axis=self.dim, keepdims=True)
        return self.output * (grad_output - weighted)


class LogSoftmaxBackward(Function):
    output: np.ndarray
    dim: int

    def backward(self, grad_output: np.ndarray) -> Any:
        """g - exp(`self.output`) Σ g, the sum over `self.dim`."""
        return grad_output - np.exp(self.output) * grad_output.sum(axis=self.dim, keepdims=True)


class CrossEntropyBackward(Function):
    log_probabilities: np.ndarray
    target_probabilities: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """(softmax - target probabilities) / batch size, times `grad_output`, a single number.

        `self.log_probabilities` and `self.target_probabilities` are both (batch, classes).
        """
        targets = self.target_probabilities
        return (np.exp(self.log_probabilities) - targets) * (grad_output / len(targets))


class BinaryCrossEntropyBackward(Function):
    targets: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """(p - t) / (p (1 - p)) / number of elements, times `grad_output`; p (1 - p) counts as at least 1e-12."""
        p = self.inputs[0].data
        return (p - self.targets) / np.maximum(p * (1 - p), 1e-12) * (grad_output / p.size)
