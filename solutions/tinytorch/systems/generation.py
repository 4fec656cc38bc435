"""Stage 14, systems: what a cache costs in memory, what it saves in work, and what then bounds the speed.

The model is a GPT of stage 13: blocks whose MLP is four times as wide as the stream, without biases, and tied tables.
"""

from __future__ import annotations

import numpy as np

__all__ = ["cache_bytes", "grouped_attention", "outgrown_length", "decoding_flops", "token_rate"]


def cache_bytes(
    batch_size: int, length: int, num_layers: int, num_heads: int, head_dim: int, dtype: str = "float32"
) -> int:
    """Bytes of the keys and values of `length` positions of each of `batch_size` texts.

    `num_heads` are the heads that have keys and values of their own. `dtype` is the name of a NumPy dtype.

    >>> cache_bytes(batch_size=1, length=256, num_layers=4, num_heads=4, head_dim=32)
    1048576
    """
    return 2 * batch_size * length * num_layers * num_heads * head_dim * np.dtype(dtype).itemsize


def decoding_flops(length: int, num_layers: int, embed_dim: int, vocab_size: int, cached: bool) -> int:
    """Floating-point operations of all matrix products for the logits of position `length`, the last of a text.

    A product of (m, k) by (k, n) takes 2 m k n. With a cache the last position alone is worked out: its query meets the
    keys and values of `length` positions. Without one all `length` positions go through all layers, as in
    `GPT.generate`: attention makes all scores, also those that the mask hides, and logits are made at each position.

    Products: in each layer those with the weights, four of (C, C) in attention, (C, 4 C) and (4 C, C) in the MLP;
    queries with keys, probabilities with values; and at the end that with the table (C, vocab_size). C is embed_dim.

    >>> decoding_flops(length=256, num_layers=4, embed_dim=128, vocab_size=65, cached=True)
    2113792
    >>> decoding_flops(length=256, num_layers=4, embed_dim=128, vocab_size=65, cached=False)
    541130752
    """
    new = 1 if cached else length
    weights = new * num_layers * 12 * embed_dim**2
    attention = new * num_layers * 2 * length * embed_dim
    return 2 * (weights + attention + new * embed_dim * vocab_size)


def outgrown_length(
    weight_bytes: int, batch_size: int, num_layers: int, num_heads: int, head_dim: int, dtype: str = "float32"
) -> int:
    """The smallest number of positions of which keys and values take more bytes than `weight_bytes`.

    The arguments are those of `cache_bytes`.

    >>> outgrown_length(weight_bytes=1_000_000, batch_size=1, num_layers=4, num_heads=4, head_dim=32)
    245
    """
    return weight_bytes // cache_bytes(batch_size, 1, num_layers, num_heads, head_dim, dtype) + 1


def grouped_attention(Q: np.ndarray, keys: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Attention of one new position, whose heads share keys and values in groups (grouped-query attention).

    There are H heads that ask and G that have keys and values; G divides H. The first H / G heads share the first keys
    and values, the next H / G the next ones, and so on. So the cache is H / G times smaller. With G = 1 all heads share
    (multi-query attention), with G = H none do.

    Args:
        Q: (B, H, 1, d). keys, values: (B, G, T, d), those of all positions that Q may look at. None of them is changed.

    Returns:
        (B, H, 1, d), of Q's dtype: softmax(Q Kᵀ / √d) V in each head, stable for scores of any size.

    Source: Ainslie et al. 2023, arXiv:2305.13245.

    >>> Q, keys = np.zeros((1, 2, 1, 1)), np.zeros((1, 1, 2, 1))
    >>> grouped_attention(Q, keys, np.array([[[[1.0], [3.0]]]])).ravel()
    array([2., 2.])
    """
    batch, heads, _, head_dim = Q.shape
    asking = Q.reshape(batch, keys.shape[1], -1, head_dim)  # (B, G, H / G, d): heads as positions of their group
    scores = asking @ keys.swapaxes(-1, -2) / Q.dtype.type(head_dim**0.5)  # (B, G, H / G, T)
    scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (scores @ values / scores.sum(axis=-1, keepdims=True)).reshape(batch, heads, 1, head_dim)


def token_rate(bandwidth: float, weight_bytes: int, text_bytes: int, batch_size: int = 1) -> float:
    """The most tokens a second that memory allows, over all texts of a batch.

    For each new position of all texts at once, the weights are read once, and of each text its keys and values.

    Args:
        bandwidth: bytes that can be read in a second.
        weight_bytes: of the weights.
        text_bytes: of the keys and values of one text.

    >>> token_rate(bandwidth=10e9, weight_bytes=4_000_000, text_bytes=1_000_000, batch_size=1)
    2000.0
    """
    return bandwidth * batch_size / (weight_bytes + batch_size * text_bytes)
