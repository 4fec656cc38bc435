"""Stage 01, systems: what a tensor costs in memory and in work."""

from __future__ import annotations

import math

import numpy as np

from tinytorch.core.tensor import Tensor

__all__ = ["broadcast_bytes", "cache_lines", "kept_bytes", "matmul_flops", "tensor_bytes"]


def tensor_bytes(tensor: Tensor) -> int:
    """Bytes of the tensor's elements, each counted once: number of elements · bytes of one.

    >>> tensor_bytes(Tensor([[1.0, 2.0, 3.0]]))
    12
    """
    # >>> stage 01: your code
    raise NotImplementedError("stage 01: tensor_bytes is yours to write, see stages/01_tensor/README.md")
    # <<<


def kept_bytes(tensor: Tensor) -> int:
    """Bytes that stay allocated as long as `tensor` lives.

    A view owns nothing, but keeps the array that it looks into (`ndarray.base`) alive, all of it.

    >>> kept_bytes(Tensor(np.zeros((1000, 1000)))[0])
    8000000
    """
    # >>> stage 01: your code
    raise NotImplementedError("stage 01: kept_bytes is yours to write, see stages/01_tensor/README.md")
    # <<<


def broadcast_bytes(a: Tensor, b: Tensor) -> int:
    """Bytes that broadcasting `a` against `b` saves: what the stretched copies would take beyond the originals.

    Raises:
        ValueError: the shapes do not broadcast.

    >>> broadcast_bytes(Tensor(np.zeros((100, 10))), Tensor(np.zeros(10)))
    7920
    """
    # >>> stage 01: your code
    raise NotImplementedError("stage 01: broadcast_bytes is yours to write, see stages/01_tensor/README.md")
    # <<<


def matmul_flops(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Floating-point operations of `(…, m, k) @ (…, k, n)`: 2 m k n for each matrix of the (broadcast) batch.

    Each of the m n results takes k multiplications and, counted generously, k additions. The number is exact, however
    large: Python's integers have no end, NumPy's int64 has.

    Args:
        a, b: shapes, of two axes or more.

    >>> matmul_flops((2, 3), (3, 4))
    48
    """
    # >>> stage 01: your code
    raise NotImplementedError("stage 01: matmul_flops is yours to write, see stages/01_tensor/README.md")
    # <<<


def cache_lines(rows: int, columns: int, itemsize: int, by_rows: bool, line: int = 64) -> int:
    """Memory fetches for reading each element of a row-major matrix once, with a cache that holds a single line.

    Going along a row, the neighbours come with each line of `line` bytes; going down a column, the next element lies
    a whole row further. The matrix starts at the beginning of a line.

    Args:
        rows, columns: shape of the matrix; a matrix without elements takes no fetch.
        itemsize: bytes of one element, which divides `line`.
        by_rows: whether each row is read from left to right, or else each column from top to bottom.

    >>> cache_lines(1024, 1024, 4, by_rows=True), cache_lines(1024, 1024, 4, by_rows=False)
    (65536, 1048576)
    """
    # >>> stage 01: your code
    raise NotImplementedError("stage 01: cache_lines is yours to write, see stages/01_tensor/README.md")
    # <<<
