"""Stage 01, given: backends. The framework decides what is computed, a backend decides how.

Only the heavy work on arrays is asked from a backend, the matrix product and convolution: `get_backend()` in
`tinytorch/config.py` gives the one in use. `NumPyBackend` is the one that there is from the start. Stage 09 brings its
convolution into it with `provide`, and stage 16 writes backends of its own in files beside this one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Pair = tuple[int, int]
_kernels: dict[str, Callable[..., np.ndarray]] = {}  # what later stages bring into NumPyBackend, by name


def provide(name: str, kernel: Callable[..., np.ndarray]) -> None:
    """Let `NumPyBackend` compute `name` with `kernel`, a function of arrays. Stage 09 does so when it is imported.

    Args:
        name: "conv2d", "conv2d_input_gradient" or "conv2d_weight_gradient".
        kernel: takes by position what the method of `ComputeBackend` of that name takes, and returns what it returns.
    """
    _kernels[name] = kernel


class ComputeBackend:
    """What every backend can compute. Arrays go in and new arrays come out: no Tensors, and no gradients.

    N samples, C input and O output channels, KH x KW windows; `stride` and `padding` are pairs (height, width), and
    `groups` is a whole number. The caller has made sure that shapes and dtypes fit. A backend only reads its arguments.
    """

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        """The matrix product, batches and vectors as in `np.matmul`: (…, m, k) times (…, k, n) gives (…, m, n)."""
        raise TypeError(f"{type(self).__name__} defines no matmul")

    def conv2d(self, x: np.ndarray, weight: np.ndarray, stride: Pair, padding: Pair, groups: int) -> np.ndarray:
        """Convolution without a bias: x (N, C, H, W) and weight (O, C / groups, KH, KW) give (N, O, OH, OW)."""
        raise TypeError(f"{type(self).__name__} defines no conv2d")

    def conv2d_input_gradient(
        self, grad: np.ndarray, x_shape: tuple[int, ...], weight: np.ndarray, stride: Pair, padding: Pair, groups: int
    ) -> np.ndarray:
        """The gradient of conv2d's x: from that of its result, `grad` (N, O, OH, OW), to `x_shape` (N, C, H, W)."""
        raise TypeError(f"{type(self).__name__} defines no conv2d_input_gradient")

    def conv2d_weight_gradient(
        self, grad: np.ndarray, x: np.ndarray, weight_shape: tuple[int, ...], stride: Pair, padding: Pair, groups: int
    ) -> np.ndarray:
        """The gradient of conv2d's weight: from `grad` (N, O, OH, OW) to `weight_shape` (O, C / groups, KH, KW)."""
        raise TypeError(f"{type(self).__name__} defines no conv2d_weight_gradient")

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


class NumPyBackend(ComputeBackend):
    """The backend in use unless another is set: NumPy's matrix product, and the convolution of stage 09."""

    def matmul(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        if a.ndim > 2 and b.ndim == 2 and a.flags.c_contiguous and a.size:
            rows = a.reshape(-1, a.shape[-1])  # one large product, where NumPy would do one for each sample
            return np.matmul(rows, b).reshape(*a.shape[:-1], b.shape[-1])
        return np.matmul(a, b)

    def conv2d(self, *arguments: Any) -> np.ndarray:
        return _kernel("conv2d")(*arguments)

    def conv2d_input_gradient(self, *arguments: Any) -> np.ndarray:
        return _kernel("conv2d_input_gradient")(*arguments)

    def conv2d_weight_gradient(self, *arguments: Any) -> np.ndarray:
        return _kernel("conv2d_weight_gradient")(*arguments)


def _kernel(name: str) -> Callable[..., np.ndarray]:
    if name not in _kernels:
        raise RuntimeError(f"{name} arrives in stage 09 (spatial): importing tinytorch.core.spatial brings it")
    return _kernels[name]
