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
    # >>> stage 12: your code
    raise NotImplementedError("stage 12: causal_mask is yours to write, see stages/12_attention/README.md")
    # <<<


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
    # >>> stage 12: your code
    raise NotImplementedError("stage 12: attention_probabilities is yours to write, see stages/12_attention/README.md")
    # <<<


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
    # >>> stage 12: your code
    raise NotImplementedError("stage 12: scaled_dot_product_attention is yours to write, see stages/12_attention/README.md")
    # <<<


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
        # >>> stage 12: your code
        raise NotImplementedError("stage 12: AttentionBackward.backward is yours to write, see stages/12_attention/README.md")
        # <<<


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
        # >>> stage 12: your code
        raise NotImplementedError("stage 12: MultiHeadAttention.split_heads is yours to write, see stages/12_attention/README.md")
        # <<<

    def merge_heads(self, x: Tensor) -> Tensor:
        """(…, num_heads, n, head_dim) -> (…, n, embed_dim): what `split_heads` did, undone."""
        # >>> stage 12: your code
        raise NotImplementedError("stage 12: MultiHeadAttention.merge_heads is yours to write, see stages/12_attention/README.md")
        # <<<

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
        # >>> stage 12: your code
        raise NotImplementedError("stage 12: MultiHeadAttention.forward is yours to write, see stages/12_attention/README.md")
        # <<<


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
    # >>> stage 12: your code
    raise NotImplementedError("stage 12: attention_in_blocks is yours to write, see stages/12_attention/README.md")
    # <<<
