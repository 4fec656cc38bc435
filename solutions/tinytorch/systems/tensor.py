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
    return tensor.size * tensor.dtype.itemsize


def kept_bytes(tensor: Tensor) -> int:
    """Bytes that stay allocated as long as `tensor` lives.

    A view owns nothing, but keeps the array that it looks into (`ndarray.base`) alive, all of it.

    >>> kept_bytes(Tensor(np.zeros((1000, 1000)))[0])
    8000000
    """
    array = tensor.data
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array.nbytes


def broadcast_bytes(a: Tensor, b: Tensor) -> int:
    """Bytes that broadcasting `a` against `b` saves: what the stretched copies would take beyond the originals.

    Raises:
        ValueError: the shapes do not broadcast.

    >>> broadcast_bytes(Tensor(np.zeros((100, 10))), Tensor(np.zeros(10)))
    7920
    """
    size = math.prod(np.broadcast_shapes(a.shape, b.shape))
    return (size - a.size) * a.dtype.itemsize + (size - b.size) * b.dtype.itemsize


def matmul_flops(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """Floating-point operations of `(…, m, k) @ (…, k, n)`: 2 m k n for each matrix of the (broadcast) batch.

    Each of the m n results takes k multiplications and, counted generously, k additions. The number is exact, however
    large: Python's integers have no end, NumPy's int64 has.

    Args:
        a, b: shapes, of two axes or more.

    >>> matmul_flops((2, 3), (3, 4))
    48
    """
    batch = np.broadcast_shapes(a[:-2], b[:-2])
    return 2 * math.prod(batch) * a[-2] * a[-1] * b[-1]


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
    addresses = np.arange(rows * columns).reshape(rows, columns) * itemsize
    order = addresses if by_rows else addresses.T
    lines = order.ravel() // line
    return int(np.count_nonzero(np.diff(lines))) + min(1, lines.size)
