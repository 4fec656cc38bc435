"""Stage 03, systems: what a model costs in memory, and how signals travel through it."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tinytorch.core.layers import Layer, Sequential
from tinytorch.core.tensor import Tensor

__all__ = ["activation_bytes", "ensemble_moments", "model_bytes", "signal_after"]


def model_bytes(model: Layer) -> tuple[int, int]:
    """Bytes of all tensors of `model`, and of the gradients that training adds to them.

    A tensor has a gradient, of its own shape and dtype, if it requires one. One that is used in two places (tied
    weights) is stored once. `named_tensors` finds all of them.

    >>> from tinytorch.core.layers import Linear
    >>> model_bytes(Linear(784, 10))
    (31400, 31400)
    """
    # >>> stage 03: your code
    raise NotImplementedError("stage 03: model_bytes is yours to write, see stages/03_layers/README.md")
    # <<<


def activation_bytes(model: Sequential, x: Tensor) -> int:
    """Bytes of `x` and of all that the parts of `model` hand on: what is kept for the way back.

    Each memory counts once: a part that hands on what it was given, such as Dropout in evaluation, or a view of it
    (reshape), takes none. Calls every part of `model` once, in order; `for part in model` gives them.

    Args:
        x: a batch of inputs.

    >>> from tinytorch.core.layers import Linear
    >>> activation_bytes(Sequential(Linear(784, 10)), Tensor(np.zeros((64, 784), np.float32)))
    203264
    """
    # >>> stage 03: your code
    raise NotImplementedError("stage 03: activation_bytes is yours to write, see stages/03_layers/README.md")
    # <<<


def signal_after(layers: int, fan_in: int, variance: float, relu: bool = False) -> float:
    """Mean square of the numbers that come out of `layers` linear layers, one after the other.

    What goes in has mean square 1. Every output is a sum over `fan_in` inputs, each times a weight of mean 0 and of
    this variance; the weights are independent, and there is no bias. Expected over the choice of weights.

    Args:
        relu: whether a ReLU follows each layer, including the last: of numbers spread evenly around 0 it sets half
            to zero.

    >>> signal_after(10, 256, 2 / 256, relu=True), signal_after(10, 256, 1 / 256, relu=True)
    (1.0, 0.0009765625)
    """
    # >>> stage 03: your code
    raise NotImplementedError("stage 03: signal_after is yours to write, see stages/03_layers/README.md")
    # <<<


def ensemble_moments(inputs: Sequence[float], weights: Sequence[float], p: float) -> tuple[float, float]:
    """Mean and standard deviation of Σ weights · Dropout(p)(inputs) over all networks that dropout could choose.

    Each of the n inputs is kept or not: 2ⁿ networks that share their weights, some more likely than others. An
    evaluation, which drops nothing, answers for all of them at once.

    Args:
        inputs, weights: n numbers each; the result has the precision of float64.
        p: probability that an input is dropped, 0 ≤ p < 1; those kept are divided by 1 - p.

    >>> ensemble_moments([1.0, 2.0], [3.0, 0.5], p=0.5)  # 0, 2, 6 and 8 are equally likely
    (4.0, 3.1622776601683795)
    """
    # >>> stage 03: your code
    raise NotImplementedError("stage 03: ensemble_moments is yours to write, see stages/03_layers/README.md")
    # <<<
