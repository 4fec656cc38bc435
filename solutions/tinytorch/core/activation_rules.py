"""Stage 05: the rules of activations and losses, how a gradient goes back through each operation of stages 02 and 04.

What a rule answers is told in `rules.py`.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.core.activations import in_pieces, normal_cdf
from tinytorch.core.rules import Function


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
        root = float(np.sqrt(2 / np.pi))

        def tanh_form(grad: np.ndarray, x: np.ndarray) -> np.ndarray:
            tanh = x * x  # in place from here on: a GPT spends a good part of its time in this formula
            inner_slope = tanh * (3 * 0.044715 * root)
            inner_slope += root
            inner_slope *= x  # x du/dx
            tanh *= 0.044715 * root
            tanh += root
            tanh *= x
            tanh = np.tanh(tanh)
            slope = inner_slope * (1 - tanh)
            slope += 1
            tanh += 1
            slope *= tanh  # twice the derivative: (1 + tanh u) (1 + x (1 - tanh u) du/dx)
            slope *= 0.5
            return slope * grad

        return in_pieces(tanh_form, grad_output, x)


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
