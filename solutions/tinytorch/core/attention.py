"""Stage 12: attention, in which each position of a sequence asks all others, and mixes what they answer.

Q, K and V are (…, n, d): leading axes such as batch and head, n positions, d numbers for each. What a position may look
at is said by a mask: of booleans, True where it may look, or of numbers that are added to the scores.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.config import get_backend
from tinytorch.core.arrays import whole_number
from tinytorch.core.layers import Layer, Linear
from tinytorch.core.rules import Function
from tinytorch.core.tensor import Tensor, floating, result_of

__all__ = [
    "MultiHeadAttention",
    "attention_in_blocks",
    "attention_probabilities",
    "causal_mask",
    "scaled_dot_product_attention",
]


def causal_mask(length: int) -> np.ndarray:
    """(length, length) booleans: position i may look at position j if j ≤ i, at itself and at the past.

    >>> causal_mask(3).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """
    return np.tri(length, dtype=bool)


def attention_probabilities(scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """How much each position looks at each other: the softmax of every row of `scores` under a mask.

    Where the mask forbids, the probability is 0; the others of a row sum to 1. A row that may look nowhere is all
    zeros, without a NaN or a warning. Stable for scores of any size.

    Args:
        scores: (…, n, m) floats, which may be overwritten. The result is of their shape and dtype.
        mask: None, or an array that broadcasts to scores' shape: booleans, True where a position may look; or floats,
            which are added to the scores, with -inf where a position may not look.

    >>> attention_probabilities(np.zeros((2, 2)), np.array([[True, False], [True, True]]))
    array([[1. , 0. ],
           [0.5, 0.5]])
    """
    bounded = scores.size > 0 and max(scores.max(), -scores.min()) < BOUND and (mask is None or mask.dtype == bool)
    if mask is not None:
        np.add(scores, _added(mask, scores.dtype), out=scores)
    if not bounded:  # the largest of each row is slow to find, and needed only where exp would leave its range
        largest = scores.max(axis=-1, keepdims=True, initial=-np.inf)
        scores -= np.where(np.isfinite(largest), largest, 0)
    np.exp(scores, out=scores)
    total = np.einsum("...ij->...i", scores)[..., None]
    scores *= 1 / np.where(total == 0, 1, total)
    return scores


BOUND = 40  # exp(±40) and sums of very many of them are well within float32


def _added(mask: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A mask as numbers to add to scores: 0 or -inf for booleans."""
    return np.where(mask, 0, -np.inf).astype(dtype) if mask.dtype == bool else mask


def scaled_dot_product_attention(Q: Tensor, K: Tensor, V: Tensor, mask: Any = None) -> Tensor:
    """softmax(Q Kᵀ / √d + mask) V: for each of n queries a mixture of m values, by how well the keys fit.

    Through the door as "Attention", of Q, K and V, and of `mask` if it is a Tensor of floats; saved: probabilities, the
    array (…, n, m) of `attention_probabilities`. The products are the backend's (`get_backend().matmul`).

    Args:
        Q: (…, n, d). K: (…, m, d). V: (…, m, v). Leading axes broadcast.
        mask: None, or an array or Tensor that broadcasts to (…, n, m), as `attention_probabilities` takes it.

    Returns:
        (…, n, v), of Q's dtype.

    Raises:
        ValueError: the shapes do not fit; the message names those of Q, K and V, or that of the mask.

    >>> Q = K = Tensor([[0.0, 0.0], [0.0, 0.0]])
    >>> scaled_dot_product_attention(Q, K, Tensor([[1.0], [3.0]]))
    Tensor([[2.]
            [2.]], dtype=float32)
    """
    Q, K, V = checked(Q, K, V)
    matmul = get_backend().matmul
    scores = matmul(Q.data * Q.dtype.type(1 / math.sqrt(Q.shape[-1])), K.data.swapaxes(-1, -2))  # (…, n, m)
    probabilities = attention_probabilities(scores, checked_mask(mask, scores.shape))
    inputs = (Q, K, V, mask) if isinstance(mask, Tensor) and mask.dtype.kind == "f" else (Q, K, V)
    return result_of("Attention", matmul(probabilities, V.data), *inputs, probabilities=probabilities)


def checked(Q: Tensor, K: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """All three as floats, if their shapes fit; else the ValueError that attention promises."""
    shapes = [tensor.shape for tensor in (Q, K, V)]
    if min(map(len, shapes)) < 2 or shapes[0][-1] != shapes[1][-1] or shapes[1][-2] != shapes[2][-2]:
        named = ", ".join(f"{name} {shape}" for name, shape in zip("QKV", shapes))
        raise ValueError(f"attention: expected Q (…, n, d), K (…, m, d) and V (…, m, v), got {named}")
    return floating(Q), floating(K), floating(V)


def checked_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """The mask's array, if it broadcasts to `shape`; else a ValueError that names both."""
    if mask is None:
        return None
    array = mask.data if isinstance(mask, Tensor) else np.asarray(mask)
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits or array.dtype.kind not in "bf":
        raise ValueError(
            f"attention: expected a mask of booleans or floats for {shape}, got {array.dtype} {array.shape}"
        )
    return array


class AttentionBackward(Function):
    """The rule of "Attention". P are the saved probabilities, G is grad_output."""

    probabilities: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradients of Q, K and V, and of the mask where it is an input, in that order.

        Leading axes may be left unsummed where an input was broadcast: the engine undoes it.
        """
        Q, K, V = (tensor.data for tensor in self.inputs[:3])
        scale, matmul = Q.dtype.type(1 / math.sqrt(Q.shape[-1])), get_backend().matmul
        d_scores = matmul(grad_output, V.swapaxes(-1, -2))  # of the probabilities, (…, n, m)
        d_scores -= np.einsum("...ij,...ij->...i", d_scores, self.probabilities)[..., None]
        d_scores *= self.probabilities
        d_Q = matmul(d_scores, K) * scale
        d_K = matmul(d_scores.swapaxes(-1, -2), Q) * scale
        d_V = matmul(self.probabilities.swapaxes(-1, -2), grad_output)
        return (d_Q, d_K, d_V, d_scores)[: len(self.inputs)]


class MultiHeadAttention(Layer):
    """Several attentions beside each other, each over a part of the features, and a layer that mixes what they found.

    Args:
        embed_dim: features of a position, a multiple of num_heads.
        num_heads: the number of attentions; each works on head_dim = embed_dim / num_heads features.
        bias: whether the four linear layers have one.

    Attributes:
        query, key, value, out: Linear(embed_dim, embed_dim, bias).
    """

    def __init__(self, embed_dim: int, num_heads: int, bias: bool = True) -> None:
        self.embed_dim = whole_number("MultiHeadAttention", "embed_dim", embed_dim, 1)
        self.num_heads = whole_number("MultiHeadAttention", "num_heads", num_heads, 1)
        if embed_dim % num_heads:
            raise ValueError(f"MultiHeadAttention: embed_dim {embed_dim} is no multiple of num_heads {num_heads}")
        self.query, self.key, self.value, self.out = (Linear(embed_dim, embed_dim, bias=bias) for _ in range(4))

    def split_heads(self, x: Tensor) -> Tensor:
        """(…, n, embed_dim) -> (…, num_heads, n, head_dim): head h gets features h · head_dim to (h + 1) · head_dim - 1.

        Made of tensor operations.
        """
        *leading, n, features = x.shape
        return x.reshape(*leading, n, self.num_heads, features // self.num_heads).transpose(-3, -2)

    def merge_heads(self, x: Tensor) -> Tensor:
        """(…, num_heads, n, head_dim) -> (…, n, embed_dim): what `split_heads` did, undone."""
        *leading, heads, n, head_dim = x.shape
        return x.transpose(-3, -2).reshape(*leading, n, heads * head_dim)

    def forward(self, x: Tensor, mask: Any = None, cache: Any = None, layer_idx: int = 0) -> Tensor:
        """(…, n, embed_dim) -> (…, n, embed_dim): each position asks all positions of the same sequence.

        `query`, `key` and `value` are applied to x, the results split into heads, attention taken with `mask`, the heads
        merged, and `out` applied. Gradients reach x and the parameters of all four layers.

        Args:
            mask: None, or as in `scaled_dot_product_attention`, for scores (…, num_heads, n, n).
            cache: None; from stage 14 on, an object whose `attend(layer_idx, Q, K, V)` takes the place of attention.
            layer_idx: which of a model's layers this is; only a cache asks.

        Raises:
            ValueError: x is not (…, n, embed_dim); the message names its shape and embed_dim.
        """
        if x.ndim < 2 or x.shape[-1] != self.embed_dim:
            raise ValueError(f"MultiHeadAttention: expected (…, n, {self.embed_dim}), got {x.shape}")
        Q, K, V = (self.split_heads(layer(x)) for layer in (self.query, self.key, self.value))
        if cache is None:
            mixed = scaled_dot_product_attention(Q, K, V, mask)
        else:
            mixed = cache.attend(layer_idx, Q, K, V)
        return self.out(self.merge_heads(mixed))


def attention_in_blocks(Q: Tensor, K: Tensor, V: Tensor, block: int, causal: bool = False) -> Tensor:
    """The same as `scaled_dot_product_attention`, without ever holding all n · m scores: `block` keys at a time.

    For each query three things are kept while the blocks of keys go by: the largest score so far, the sum of
    exponentials relative to it, and the mixture of values so far. Where a block brings a larger score, what was
    summed before is scaled down. The memory that it needs grows with n · block, not with n · m.

    Nothing is recorded: the result requires no gradient.

    Args:
        Q: (…, n, d). K: (…, m, d). V: (…, m, v).
        block: the number of keys at a time, at least 1; it need not divide m.
        causal: whether query i may look at keys 0 to i only; n and m are equal then.

    Raises:
        ValueError: block is below 1, the shapes do not fit, or n and m differ where `causal` is asked for.

    Source: Milakov and Gimelshein 2018, arXiv:1805.02867; Dao et al. 2022, arXiv:2205.14135.
    """
    whole_number("attention_in_blocks", "block", block, 1)
    Q, K, V = checked(Q, K, V)
    n, m = Q.shape[-2], K.shape[-2]
    if causal and n != m:
        raise ValueError(f"attention_in_blocks: causal attention needs as many queries as keys, got {n} and {m}")
    queries = Q.data * Q.dtype.type(1 / math.sqrt(Q.shape[-1]))
    leading = np.broadcast_shapes(Q.shape[:-2], K.shape[:-2], V.shape[:-2])
    largest = np.full((*leading, n, 1), -np.inf, Q.dtype)
    total, mixed = np.zeros_like(largest), np.zeros((*leading, n, V.shape[-1]), Q.dtype)
    for start in range(0, m, block):
        keys, values = K.data[..., start : start + block, :], V.data[..., start : start + block, :]
        scores = queries @ keys.swapaxes(-1, -2)  # (…, n, block)
        if causal:
            later = np.arange(n)[:, None] < np.arange(start, start + keys.shape[-2])
            scores[..., later] = -np.inf
        new = np.maximum(largest, scores.max(axis=-1, keepdims=True))
        kept = np.exp(largest - new)  # what was summed so far shrinks by this
        scores -= new
        weights = np.exp(scores, out=scores)
        total = total * kept + weights.sum(axis=-1, keepdims=True)
        mixed = mixed * kept + weights @ values
        largest = new
    return result_of(None, mixed / total)
