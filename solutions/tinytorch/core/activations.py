"""Stage 02: activations, the elementwise bends between linear layers, and Softmax.

In all of them: the result is new memory, of the input's shape and float dtype (float32 stays float32; `floating`
makes float32 of integers), and NaN stays NaN. It is returned through the door, with the input itself, not a copy.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import wraps
from typing import Any

import numpy as np

from tinytorch.core.tensor import Tensor, floating, gradient_at, result_of

__all__ = ["GELU", "ReLU", "Sigmoid", "Softmax", "Tanh", "erf", "normal_cdf"]


def _keeping_input(forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """`forward`, which also leaves its input where `backward` finds it."""

    @wraps(forward)
    def kept(self: Activation, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(f"{self!r} expected a Tensor, got {type(x).__name__}")
        self._last_input = x.detach()  # the values alone: the graph behind them may be large
        return forward(self, x)

    return kept


class Activation:
    """Something that is called with a tensor, and can be asked for the gradient of its last input.

    `activation(x)` is `activation.forward(x)`.
    """

    _last_input: Tensor | None = None

    def __init_subclass__(cls) -> None:
        if "forward" in vars(cls):
            cls.forward = _keeping_input(cls.forward)

    def __call__(self, x: Tensor) -> Tensor:
        return self.forward(x)

    def forward(self, x: Tensor) -> Tensor:
        """The activation of `x`, of the same shape and float dtype; integers become float32."""
        raise TypeError(f"{type(self).__name__} defines no forward")

    def backward(self, grad: Any) -> np.ndarray:
        """The gradient for the last input, given the gradient of its result (from stage 05 on).

        Args:
            grad: an array of the result's shape.
        """
        if self._last_input is None:
            raise RuntimeError(f"{self!r}.backward(): call it with a tensor first")
        return gradient_at(self.forward, floating(self._last_input), grad)

    def __repr__(self) -> str:
        settings = ", ".join(f"{name}={value!r}" for name, value in vars(self).items() if name[0] != "_")
        return f"{type(self).__name__}({settings})"


class Sigmoid(Activation):
    """σ(x) = 1 / (1 + exp(-x)), between 0 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        """σ of each element, through the door as "Sigmoid", saved: output, the resulting array.

        Exact for every x, also where σ is tiny, and without an overflow on the way, which NumPy would warn of: take exp
        of numbers ≤ 0 only. For x < 0 the same σ is exp(x) / (1 + exp(x)).

        >>> Sigmoid()(Tensor([-1000.0, 0.0, 1000.0]))
        Tensor([0.  0.5 1. ], dtype=float32)
        """
        x = floating(x)
        numerator = np.exp(np.minimum(x.data, 0))  # 1, or exp(x) for negative x
        output = numerator / (1 + np.exp(-np.abs(x.data)))
        return result_of("Sigmoid", output, x, output=output)


class ReLU(Activation):
    """max(x, 0): the rectified linear unit."""

    def forward(self, x: Tensor) -> Tensor:
        """Each element, or 0 where it is negative, through the door as "ReLU", saved: nothing.

        >>> ReLU()(Tensor([-2.0, 0.0, 3.0]))
        Tensor([0. 0. 3.], dtype=float32)
        """
        x = floating(x)
        return result_of("ReLU", np.maximum(x.data, 0), x)


class Tanh(Activation):
    """tanh(x), between -1 and 1."""

    def forward(self, x: Tensor) -> Tensor:
        """tanh of each element, through the door as "Tanh", saved: output, the resulting array.

        NumPy has it, exact for every x. By exponentials, as (eˣ - e⁻ˣ) / (eˣ + e⁻ˣ), it would be ∞ / ∞ from x = 89 on.

        >>> Tanh()(Tensor([-1000.0, 0.0, 1000.0]))
        Tensor([-1.  0.  1.], dtype=float32)
        """
        x = floating(x)
        output = np.tanh(x.data)
        return result_of("Tanh", output, x, output=output)


def in_pieces(formula: Callable[..., np.ndarray], *arrays: np.ndarray, size: int = 32768) -> np.ndarray:
    """`formula(*arrays)`, for `size` elements at a time: what it computes on the way stays in the cache.

    The arrays are of one shape, and the formula treats each element alike. The result has the first's shape and dtype.
    """
    if arrays[0].size <= size:
        return np.asarray(formula(*arrays), arrays[0].dtype)
    flat = [array.reshape(-1) for array in arrays]
    result = np.empty_like(flat[0])
    for start in range(0, len(result), size):
        result[start : start + size] = formula(*(array[start : start + size] for array in flat))
    return result.reshape(arrays[0].shape)


# erf at 0, 1/512, … 6; NumPy has none, and calling math.erf for every element would be slow.
_KNOTS_PER_UNIT = 512
_ERF = np.array([math.erf(i / _KNOTS_PER_UNIT) for i in range(6 * _KNOTS_PER_UNIT + 1)])


def erf(x: np.ndarray) -> np.ndarray:
    """The error function of each element: 2/√π ∫₀ˣ exp(-t²) dt, to within 1e-15; floats keep their dtype."""
    x = np.asarray(x)
    return in_pieces(_erf, x.astype(np.result_type(x, np.float16), copy=False), size=8192)  # integers become floats


def _erf(x: np.ndarray) -> np.ndarray:
    """The Taylor series around the nearest of 3,073 known values; derivatives from Abramowitz and Stegun 7.1.19."""
    size = np.minimum(np.abs(x).astype(np.float64), 6.0)  # beyond 6, erf is 1 to the last bit
    nearest = np.rint(np.fmin(size, 6.0) * _KNOTS_PER_UNIT).astype(np.intp)  # fmin: a NaN needs a neighbour too
    a = nearest / _KNOTS_PER_UNIT
    d = size - a
    slope = 2 / math.sqrt(math.pi) * np.exp(-a * a)
    series = 1 + d * (-a + d * ((2 * a * a - 1) / 3 + d * a * (3 - 2 * a * a) / 6))
    return np.copysign(_ERF[nearest] + slope * d * series, x)


def normal_cdf(x: np.ndarray) -> np.ndarray:
    """Φ(x): the probability that a standard normal number is below each element."""
    return (1 + erf(x / math.sqrt(2))) / 2


class GELU(Activation):
    """x Φ(x): the Gaussian error linear unit (Hendrycks and Gimpel 2016, arXiv:1606.08415).

    Args:
        approximate: "none" for Φ by the error function, "tanh" for the cheaper form
            x (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2.
    """

    def __init__(self, approximate: str = "none") -> None:
        if approximate not in ("none", "tanh"):
            raise ValueError(f'GELU: expected approximate="none" or "tanh", got {approximate!r}')
        self.approximate = approximate

    def forward(self, x: Tensor) -> Tensor:
        """GELU of each element, in the form that `self.approximate` names; door "GELU", saved: approximate.

        `normal_cdf` above is Φ. At 1.0 the exact form gives 0.84134, the tanh form 0.84119. Beware: np.sqrt(2 / np.pi)
        is a float64 scalar, and makes float64 of float32 arrays; math.sqrt gives a Python float, which does not.

        >>> round(GELU()(Tensor(1.0)).item(), 5), round(GELU("tanh")(Tensor(1.0)).item(), 5)
        (0.84134, 0.84119)
        """
        x = floating(x)
        if self.approximate == "none":
            output = x.data * normal_cdf(x.data)
        else:

            def tanh_form(x: np.ndarray) -> np.ndarray:
                inner = math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)
                return x * (1 + np.tanh(inner)) / 2

            output = in_pieces(tanh_form, x.data)
        return result_of("GELU", output, x, approximate=self.approximate)


class Softmax(Activation):
    """exp(x) / Σ exp(x): positive numbers that sum to 1 along `dim`.

    Args:
        dim: the axis to sum along; negative ones count from the end.
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """The softmax along `self.dim`, through the door as "Softmax", saved: output (the resulting array), dim.

        The largest element along `dim` is taken off first, which changes nothing and keeps exp from overflowing.
        -inf, the score of what is masked, gets exactly 0. A single number becomes 1, and an empty tensor stays empty:
        give NumPy's max an `initial` value for that.

        Raises:
            ValueError, IndexError: `x` has no axis `dim`. NumPy's AxisError is both.

        >>> Softmax()(Tensor([1000.0, 1000.0]))
        Tensor([0.5 0.5], dtype=float32)
        """
        x = floating(x)
        weights = np.exp(x.data - x.data.max(axis=self.dim, keepdims=True, initial=-np.inf))
        output = weights / weights.sum(axis=self.dim, keepdims=True)
        return result_of("Softmax", output, x, output=output, dim=self.dim)
