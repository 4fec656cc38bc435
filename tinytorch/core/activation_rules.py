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
        # >>> stage 05: your code
        raise NotImplementedError("stage 05: SigmoidBackward.backward is yours to write, see stages/05_autograd/README.md")
        # <<<


class TanhBackward(Function):
    output: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """d(tanh) = (1 - tanh²) da, with tanh at hand as `self.output`."""
        # >>> stage 05: your code
        raise NotImplementedError("stage 05: TanhBackward.backward is yours to write, see stages/05_autograd/README.md")
        # <<<


class ReLUBackward(Function):
    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradient where the input was positive; nothing elsewhere, also at 0."""
        # >>> stage 05: your code
        raise NotImplementedError("stage 05: ReLUBackward.backward is yours to write, see stages/05_autograd/README.md")
        # <<<


class GELUBackward(Function):
    approximate: str

    def backward(self, grad_output: np.ndarray) -> Any:
        """The derivative of the form that ran forward, `self.approximate`: "none" or "tanh".

        "none": Φ(x) + x φ(x), with Φ as in `normal_cdf` and φ(x) = exp(-x²/2) / √(2π).
        "tanh": with u = √(2/π) (x + 0.044715 x³): (1 + tanh u) / 2 + x (1 - tanh² u) / 2 · du/dx.
        """
        # >>> stage 05: your code
        raise NotImplementedError("stage 05: GELUBackward.backward is yours to write, see stages/05_autograd/README.md")
        # <<<


class SoftmaxBackward(Function):
    output: np.ndarray
    dim: int

    def backward(self, grad_output: np.ndarray) -> Any:
        """s (g - Σ g s), with s at hand as `self.output` and the sum over `self.dim`."""
        # >>> stage 05: your code
        raise NotImplementedError("stage 05: SoftmaxBackward.backward is yours to write, see stages/05_autograd/README.md")
        # <<<


class LogSoftmaxBackward(Function):
    output: np.ndarray
    dim: int

    def backward(self, grad_output: np.ndarray) -> Any:
        """g - exp(`self.output`) Σ g, the sum over `self.dim`."""
        # >>> stage 05: your code
        raise NotImplementedError("stage 05: LogSoftmaxBackward.backward is yours to write, see stages/05_autograd/README.md")
        # <<<


class CrossEntropyBackward(Function):
    log_probabilities: np.ndarray
    target_probabilities: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """(softmax - target probabilities) / batch size, times `grad_output`, a single number.

        `self.log_probabilities` and `self.target_probabilities` are both (batch, classes).
        """
        # >>> stage 05: your code
        raise NotImplementedError("stage 05: CrossEntropyBackward.backward is yours to write, see stages/05_autograd/README.md")
        # <<<


class BinaryCrossEntropyBackward(Function):
    targets: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """(p - t) / (p (1 - p)) / number of elements, times `grad_output`; p (1 - p) counts as at least 1e-12."""
        # >>> stage 05: your code
        raise NotImplementedError("stage 05: BinaryCrossEntropyBackward.backward is yours to write, see stages/05_autograd/README.md")
        # <<<
