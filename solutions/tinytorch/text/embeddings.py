"""Stage 11: embeddings, tables that turn a token's number, or a position's, into a vector that can be trained."""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.core.arrays import whole_number
from tinytorch.core.layers import Layer
from tinytorch.core.rng import generator
from tinytorch.core.rules import Function
from tinytorch.core.tensor import Tensor, result_of

__all__ = ["Embedding", "PositionalEncoding", "create_sinusoidal_embeddings", "sum_rows", "token_indices"]


def token_indices(indices: Any, vocab_size: int) -> np.ndarray:
    """`indices` as an array of integers, if each is the number of a row: 0 to vocab_size - 1.

    NumPy would take -1 for the last row without a word, and the mistake that sent it would never be found.

    Args:
        indices: a Tensor, an array, a list or a number, of any shape.

    Raises:
        TypeError: they are no integers (booleans are none); the message names their dtype.
        ValueError: one of them lies outside; the message names the first such and `vocab_size`.

    >>> token_indices([[2, 0]], vocab_size=3)
    array([[2, 0]])
    """
    array = indices.data if isinstance(indices, Tensor) else np.asarray(indices)
    if array.size == 0:
        return array.astype(np.intp)
    if array.dtype.kind not in "iu":
        raise TypeError(f"Embedding: expected integers as indices, got {array.dtype}")
    if array.min() < 0 or array.max() >= vocab_size:
        wrong = array[(array < 0) | (array >= vocab_size)][0]
        raise ValueError(f"Embedding: index {wrong} does not exist among {vocab_size}, from 0 to {vocab_size - 1}")
    return array


def sum_rows(indices: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """(count, width): row i is the sum of all `rows` whose index is i, zeros where there is none.

    The straight way, `np.add.at(table, indices, rows)`, is many times slower than sorting, which brings the rows of one
    index together, or than a matrix product with a one-hot matrix.

    Args:
        indices: (n,) integers from 0 to count - 1.
        rows: (n, width) floats; only read. The result has their dtype.

    >>> sum_rows(np.array([2, 0, 2]), np.array([[1.0], [10.0], [100.0]]), count=3).ravel()
    array([ 10.,   0., 101.])
    """
    order = np.argsort(indices, kind="stable")
    ordered = indices[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=-1))  # where a new index begins
    table = np.zeros((count, rows.shape[1]), rows.dtype)
    if len(starts):
        table[ordered[starts]] = np.add.reduceat(rows[order], starts, axis=0)
    return table


class Embedding(Layer):
    """A table with a row, a vector of `embed_dim` numbers, for each of `vocab_size` tokens.

    Args:
        vocab_size: the number of rows.
        embed_dim: the length of each.

    Attributes:
        weight: Tensor (vocab_size, embed_dim), float32, normal with variance 1; requires a gradient.
    """

    def __init__(self, vocab_size: int, embed_dim: int) -> None:
        self.vocab_size = whole_number("Embedding", "vocab_size", vocab_size, 1)
        self.embed_dim = whole_number("Embedding", "embed_dim", embed_dim, 1)
        table = generator().standard_normal((vocab_size, embed_dim), dtype=np.float32)
        self.weight = Tensor(table, requires_grad=True)

    def forward(self, indices: Any) -> Tensor:
        """(…) indices -> (…, embed_dim): the row of each, through the door as "Embedding".

        The door gets `self.weight` as the only input, and saved: indices, the array that `token_indices` returns.

        Raises:
            TypeError, ValueError: `token_indices` refuses the indices.

        >>> Embedding(10, 4)([[1, 2, 3]]).shape
        (1, 3, 4)
        """
        indices = token_indices(indices, self.vocab_size)
        return result_of("Embedding", self.weight.data[indices], self.weight, indices=indices)


class EmbeddingBackward(Function):
    """The rule of "Embedding", saved: indices, of any shape."""

    indices: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradient of the table: each row gets the sum of what came for its token, zeros if it was not used.

        A new array of the table's shape and grad_output's dtype, by `sum_rows`. `grad_output` is (…, embed_dim).
        """
        count, width = self.inputs[0].shape
        return sum_rows(self.indices.reshape(-1), grad_output.reshape(-1, width), count)


def create_sinusoidal_embeddings(max_seq_len: int, embed_dim: int) -> np.ndarray:
    """A vector for each position, made of waves of falling frequency: (max_seq_len, embed_dim) float32.

        [position, 2i]     = sin(position / 10000^(2i / embed_dim))
        [position, 2i + 1] = cos(position / 10000^(2i / embed_dim))

    Worked out in float64 and rounded once. An odd `embed_dim` ends with a sine that has no cosine.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    >>> create_sinusoidal_embeddings(2, 4).round(3).tolist()[0]
    [0.0, 1.0, 0.0, 1.0]
    """
    pair = np.arange(embed_dim) // 2  # 0 0 1 1 2 2 …
    angles = np.arange(max_seq_len)[:, None] / 10000.0 ** (2 * pair / embed_dim)  # (max_seq_len, embed_dim)
    table = np.where(np.arange(embed_dim) % 2 == 0, np.sin(angles), np.cos(angles))
    return table.astype(np.float32)


class PositionalEncoding(Layer):
    """Adds to each vector of a sequence the vector of its position.

    Args:
        max_seq_len: the number of positions that there are.
        embed_dim: the length of a vector.
        learned: whether the table is a parameter, trained from a random start, or stays what
            `create_sinusoidal_embeddings` gives, and is a buffer.

    Attributes:
        positions: Tensor (max_seq_len, embed_dim), float32.
    """

    def __init__(self, max_seq_len: int, embed_dim: int, learned: bool = False) -> None:
        self.max_seq_len = whole_number("PositionalEncoding", "max_seq_len", max_seq_len, 1)
        self.embed_dim = whole_number("PositionalEncoding", "embed_dim", embed_dim, 1)
        if learned:
            table = generator().normal(0, 0.02, (max_seq_len, embed_dim)).astype(np.float32)
        else:
            table = create_sinusoidal_embeddings(max_seq_len, embed_dim)
        self.positions = Tensor(table, requires_grad=learned)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """x + the vectors of positions start, start + 1, …: (…, n, embed_dim), of x's shape and dtype.

        Made of tensor operations, through which gradients reach x and, where it is learned, the table.

        Args:
            x: (…, n, embed_dim).
            start: the position of the first vector; other than 0 where a text goes on (stage 14).

        Raises:
            ValueError: x is not (…, n, embed_dim), or the last position, start + n - 1, lies outside the table, or
                start is negative; the message names the shape or the positions, and `max_seq_len`.
        """
        if x.ndim < 2 or x.shape[-1] != self.embed_dim:
            raise ValueError(f"PositionalEncoding: expected (…, n, {self.embed_dim}), got {x.shape}")
        end = start + x.shape[-2]
        if start < 0 or end > self.max_seq_len:
            raise ValueError(f"PositionalEncoding: positions {start} to {end - 1} of max_seq_len {self.max_seq_len}")
        return x + self.positions[start:end]
