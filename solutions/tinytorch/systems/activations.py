"""Stage 02, systems: what activations do to a network's memory, its signals and its accuracy."""

from __future__ import annotations

import math

import numpy as np

from tinytorch.core.activations import GELU, normal_cdf
from tinytorch.core.tensor import Tensor

__all__ = ["dead_units", "gelu_error", "relu_sparsity", "saturation_point", "sparse_bytes"]


def relu_sparsity(mean: float, std: float) -> float:
    """The share of exact zeros that ReLU makes of normally distributed numbers, from 0 to 1.

    Every number that is not positive becomes zero: it is the probability of those. `normal_cdf` of stage 02 is Φ, the
    probability that a number with mean 0 and standard deviation 1 is below its argument.

    Args:
        mean, std: of the numbers that go into ReLU; `std` is positive.

    Raises:
        ValueError: `std` is not positive.

    >>> relu_sparsity(0.0, 1.0)
    0.5
    """
    if not std > 0:
        raise ValueError(f"relu_sparsity: expected a positive standard deviation, got {std}")
    return float(normal_cdf(np.asarray(-mean / std)))


def sparse_bytes(tensor: Tensor, index_bytes: int = 4) -> int:
    """Bytes that `tensor` would take if only the elements that are not 0 were stored, each with its position.

    Args:
        tensor: the values, of which some are exactly 0.
        index_bytes: bytes of one position, a number in the flattened tensor: int32 by default.

    >>> sparse_bytes(Tensor([0.0, 2.0, 0.0, 0.0])), Tensor([0.0, 2.0, 0.0, 0.0]).data.nbytes
    (8, 16)
    """
    return int(np.count_nonzero(tensor.data)) * (tensor.dtype.itemsize + index_bytes)


def dead_units(activations: Tensor) -> int:
    """How many units answered with exactly 0 to every input of the batch.

    Behind ReLU such a unit passes no gradient either, and may never learn again.

    Args:
        activations: what came out of an activation, (…, units); all axes but the last are the batch.

    >>> dead_units(Tensor([[0.0, 0.5, 0.0], [0.0, 0.0, 2.0]]))
    1
    """
    alive = (activations.data != 0).any(axis=tuple(range(activations.ndim - 1)))
    return int(np.count_nonzero(~alive))


def saturation_point(slope: float) -> float:
    """The x ≥ 0 at which the slope of the sigmoid, σ(x) (1 - σ(x)), has fallen to `slope`; beyond, it is flatter still.

    Solve s (1 - s) = slope for the s ≥ 1/2, then σ(x) = s for x: x = ln(s / (1 - s)). For tiny slopes 1 - s has no
    digits left, and is better written as slope / s.

    Args:
        slope: above 0, and at most 1/4, which is the slope at x = 0.

    Raises:
        ValueError: no x has that slope.

    >>> round(saturation_point(0.01), 2)
    4.58
    """
    if not 0 < slope <= 0.25:
        raise ValueError(f"saturation_point: the sigmoid's slopes are above 0 and at most 0.25, got {slope}")
    s = (1 + math.sqrt(1 - 4 * slope)) / 2
    return math.log(s * s / slope)


def gelu_error(low: float, high: float, points: int = 10_001) -> tuple[float, float]:
    """Where between `low` and `high` GELU's two forms differ most, and by how much (as a positive number).

    Args:
        low, high: ends of the interval; both are looked at, in float64, and the points between are evenly spaced.
        points: how many points to look at.

    >>> where, error = gelu_error(0.0, 1.0)
    >>> where, round(error, 6)
    (1.0, 0.000153)
    """
    x = np.linspace(low, high, points)
    error = np.abs(GELU("none")(Tensor(x)).data - GELU("tanh")(Tensor(x)).data)
    worst = int(error.argmax())
    return float(x[worst]), float(error[worst])
