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
    """`indices` as a NumPy array of integers in their shape, if each of them is the number of a row.

    Rows are numbered from 0 to vocab_size - 1. NumPy would take -1 for the last row without a word, and whatever made
    that -1 would never be found. No indices at all, such as [], are allowed, and come back as integers too.

    Args:
        indices: a Tensor, an array, a (nested) list or a single number; integers of any dtype.

    Raises:
        TypeError: they are no integers, as floats and booleans are none; the message names their dtype.
        ValueError: at least one lies outside; the message names the first of those, and `vocab_size`.

    >>> token_indices([[2, 0]], vocab_size=3)
    array([[2, 0]])
    """
    # >>> stage 11: your code
    raise NotImplementedError("stage 11: token_indices is yours to write, see stages/11_embeddings/README.md")
    # <<<


def sum_rows(indices: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    """A new array (count, width): row i is the sum of all `rows` whose index is i, zeros where there is none.

    Neither by `np.add.at` nor by a loop over single rows, which both take several times as long: the number of NumPy
    operations may grow with `count`, by two or three for each row of the result, but not with n.

    Args:
        indices: (n,) integers from 0 to count - 1, in any order; n may be 0.
        rows: (n, width) floats; only read. The result has their dtype.

    >>> sum_rows(np.array([2, 0, 2]), np.array([[1.0], [10.0], [100.0]]), count=3).ravel()
    array([ 10.,   0., 101.])
    """
    # >>> stage 11: your code
    raise NotImplementedError("stage 11: sum_rows is yours to write, see stages/11_embeddings/README.md")
    # <<<


class Embedding(Layer):
    """A table with a row for each of `vocab_size` tokens: a vector of `embed_dim` numbers that training finds.

    Args:
        vocab_size: the number of rows.
        embed_dim: the length of each.

    Attributes:
        weight: Tensor (vocab_size, embed_dim), float32, from a normal distribution of mean 0 and variance 1; requires
            a gradient.

    Raises:
        TypeError, ValueError: a size is no positive integer.
    """

    def __init__(self, vocab_size: int, embed_dim: int) -> None:
        self.vocab_size = whole_number("Embedding", "vocab_size", vocab_size, 1)
        self.embed_dim = whole_number("Embedding", "embed_dim", embed_dim, 1)
        table = generator().standard_normal((vocab_size, embed_dim), dtype=np.float32)
        self.weight = Tensor(table, requires_grad=True)

    def forward(self, indices: Any) -> Tensor:
        """(…) indices -> (…, embed_dim): the row of `self.weight` for each index, in memory of its own.

        Through the door as "Embedding", from `self.weight`, saved: indices, the array that `token_indices` returns.

        Args:
            indices: what `token_indices` takes, in any shape, also ().

        Raises:
            TypeError, ValueError: `token_indices` refuses the indices.

        >>> Embedding(10, 4)([[1, 2, 3]]).shape
        (1, 3, 4)
        """
        # >>> stage 11: your code
        raise NotImplementedError("stage 11: Embedding.forward is yours to write, see stages/11_embeddings/README.md")
        # <<<


class EmbeddingBackward(Function):
    """The rule of "Embedding", saved: indices, of any shape."""

    indices: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradient of the table: row i is the sum of all that came for the index i, zeros if nothing did.

        A new array (vocab_size, embed_dim) of grad_output's dtype; use `sum_rows`.

        Args:
            grad_output: (…, embed_dim), a vector for each of `self.indices`; only to be read.
        """
        # >>> stage 11: your code
        raise NotImplementedError("stage 11: EmbeddingBackward.backward is yours to write, see stages/11_embeddings/README.md")
        # <<<


def create_sinusoidal_embeddings(max_seq_len: int, embed_dim: int) -> np.ndarray:
    """A vector for each position, made of waves: a new NumPy array (max_seq_len, embed_dim), float32.

        table[position, 2i]     = sin(position / 10000^(2i / embed_dim))
        table[position, 2i + 1] = cos(position / 10000^(2i / embed_dim))

    Positions count from 0. The table is worked out in float64 and rounded to float32 at the end. If `embed_dim` is
    odd, the last column is a sine without its cosine.

    Source: Vaswani et al. 2017, arXiv:1706.03762, section 3.5.

    >>> create_sinusoidal_embeddings(2, 4).round(2).tolist()[0]
    [0.0, 1.0, 0.0, 1.0]
    """
    # >>> stage 11: your code
    raise NotImplementedError("stage 11: create_sinusoidal_embeddings is yours to write, see stages/11_embeddings/README.md")
    # <<<


class PositionalEncoding(Layer):
    """Adds to each vector of a sequence the vector of its position.

    Args:
        max_seq_len: the number of positions that there are.
        embed_dim: the length of a vector.
        learned: whether the table of positions is a parameter, which training finds from a random start. Otherwise it
            stays what `create_sinusoidal_embeddings` gives.

    Attributes:
        positions: Tensor (max_seq_len, embed_dim), float32; requires a gradient if it is learned.

    Raises:
        TypeError, ValueError: a size is no positive integer.
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
        """x + the rows start, start + 1, …, start + n - 1 of `self.positions`, one for each of the n vectors of x.

        The result has x's shape, and the dtype of the sum, so float64 for a float64 x. It is made of tensor
        operations, through which gradients reach x and, if it is learned, the table.

        Args:
            x: (…, n, embed_dim), with any number of leading axes, also none; n may be 0.
            start: the position of the first vector. It is other than 0 where x continues a text (stage 14).

        Raises:
            ValueError: x is not (…, n, embed_dim), and the message names embed_dim and x's shape; or start is
                negative; or start + n is more than max_seq_len, and the message names both numbers.

        >>> PositionalEncoding(8, 4)(Tensor(np.zeros((1, 2, 4)))).data.round(2)[0, 1].tolist()
        [0.84, 0.54, 0.01, 1.0]
        """
        # >>> stage 11: your code
        raise NotImplementedError("stage 11: PositionalEncoding.forward is yours to write, see stages/11_embeddings/README.md")
        # <<<
