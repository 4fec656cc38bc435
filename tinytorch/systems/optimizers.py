"""Stage 06, systems: what an optimizer remembers, and what weight decay really does."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinytorch.core.optimizers import SGD, AdamW, Optimizer
from tinytorch.core.tensor import Tensor

__all__ = ["bias_steps", "decay_against_l2", "decay_half_life", "state_bytes", "training_bytes"]


def state_bytes(optimizer: Optimizer) -> int:
    """Bytes of all arrays in the optimizer's state, as it is now; values that are no arrays do not count.

    >>> state_bytes(AdamW([Tensor(np.zeros(100), requires_grad=True)]))  # before the first step
    0
    """
    # >>> stage 06: your code
    raise NotImplementedError("stage 06: state_bytes is yours to write, see stages/06_optimizers/README.md")
    # <<<


def training_bytes(optimizer: Optimizer) -> int:
    """Bytes of parameters, gradients and state together, once every parameter has had its first step.

    This is worked out from the optimizer's kind and its parameters' bytes, without taking a step. AdamW remembers two
    arrays for each parameter, SGD with momentum one, SGD without momentum none.

    >>> training_bytes(AdamW([Tensor(np.zeros(100), requires_grad=True)]))
    3200
    """
    # >>> stage 06: your code
    raise NotImplementedError("stage 06: training_bytes is yours to write, see stages/06_optimizers/README.md")
    # <<<


def bias_steps(beta: float, tolerance: float) -> int:
    """The first step after which AdamW's running mean is right to within `tolerance` without bias correction.

    A mean that starts at 0 and always gets the gradient 1 should be 1, but is 1 - βᵗ after t steps.

    Args:
        beta: from 0 up to, not including, 1.
        tolerance: between 0 and 1.

    >>> bias_steps(0.9, 0.01)
    44
    """
    # >>> stage 06: your code
    raise NotImplementedError("stage 06: bias_steps is yours to write, see stages/06_optimizers/README.md")
    # <<<


def decay_half_life(lr: float, weight_decay: float) -> float:
    """Steps of AdamW until its decay alone has shrunk a parameter to half or less; its gradient is always zero.

    The answer is infinite if nothing decays, and otherwise a whole number. lr · weight_decay is below 1.

    >>> decay_half_life(lr=0.1, weight_decay=0.1)
    69
    """
    # >>> stage 06: your code
    raise NotImplementedError("stage 06: decay_half_life is yours to write, see stages/06_optimizers/README.md")
    # <<<


def decay_against_l2(gradients: Sequence[float], start: float, lr: float, weight_decay: float) -> tuple[float, float]:
    """Where AdamW takes a weight, in float64, that starts at `start` and gets one of `gradients` at each step.

    It is run twice: with AdamW's own, decoupled decay; and with the decay of AdamW set to zero and an L2 penalty in
    the loss instead, which adds weight_decay · weight to each gradient. In the second run the square root divides the
    penalty too, so that weights with large gradients hardly feel it.

    Returns:
        (end with decoupled decay, end with the penalty).
    """
    # >>> stage 06: your code
    raise NotImplementedError("stage 06: decay_against_l2 is yours to write, see stages/06_optimizers/README.md")
    # <<<
