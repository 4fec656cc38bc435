"""Stage 12, systems: what attention costs in memory and in arithmetic, and what grows with the square of the length."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["attention_flops", "block_bytes", "crossover_length", "probability_bytes", "window_pairs"]


def probability_bytes(queries: Sequence[int], keys: Sequence[int], itemsize: int = 4) -> int:
    """Bytes of the probabilities that attention saves for the way back, `itemsize` bytes a number.

    Args:
        queries: the shape (…, n, d) of Q, leading axes such as batch and heads included.
        keys: the shape (…, m, d) of K. Leading axes broadcast.

    >>> probability_bytes((32, 4, 128, 32), (32, 4, 128, 32))
    8388608
    """
    leading = np.broadcast_shapes(tuple(queries[:-2]), tuple(keys[:-2]))
    return math.prod(leading) * queries[-2] * keys[-2] * itemsize


def block_bytes(queries: Sequence[int], keys: Sequence[int], block: int, itemsize: int = 4) -> int:
    """Bytes of what online softmax holds for all queries at the largest block: scores, sums, maxima and mixtures.

    For each query these are the scores of a block (m of them if the block is larger than all keys), the largest score
    so far, the sum so far, and the mixture of values so far. Q, K and V themselves are left out, and temporaries too.

    Args:
        queries, keys: the shapes (n, d) of Q and (m, d) of K. V has the shape of K.

    >>> block_bytes((1024, 32), (1024, 32), block=64)
    401408
    """
    (n, d), m = queries, keys[0]
    return n * (min(block, m) + 2 + d) * itemsize


def attention_flops(batch: int, length: int, embed_dim: int) -> tuple[int, int]:
    """Floating-point operations of MultiHeadAttention's forward pass: of its four layers, and of attention's products.

    A multiplication and an addition are two FLOPs. Biases, the scale and the softmax are left out, and every score
    counts, also those that a mask forbids. The number of heads makes no difference.

    Returns:
        (of the products with four weights, of Q Kᵀ and of the probabilities with V).

    >>> attention_flops(1, 64, 128)
    (8388608, 2097152)
    """
    return 8 * batch * length * embed_dim**2, 4 * batch * length**2 * embed_dim


def crossover_length(embed_dim: int, weights: int = 4) -> int:
    """The shortest length at which attention's two products take more FLOPs than the products with the weights.

    Args:
        weights: how many weights of (embed_dim, embed_dim) each position is multiplied with: 4 in MultiHeadAttention;
            12 in a whole block of a transformer, whose MLP has two weights of four times that size.

    >>> crossover_length(128)
    257
    """
    return embed_dim * weights // 2 + 1


def window_pairs(length: int, window: int) -> int:
    """How many pairs of query and key are left if each position looks at itself and at most window - 1 before it.

    A window at least as long as the sequence leaves the pairs of causal attention.

    Args:
        window: at least 1.

    >>> window_pairs(4, 2), window_pairs(4, 4)
    (7, 10)
    """
    window = min(window, length)
    return length * window - window * (window - 1) // 2
