"""Stage 12: attention, in which each position of a sequence asks all others, and mixes what they answer.

Q, K and V (queries, keys, values) are (…, n, d): leading axes such as batch and head, n positions, d numbers for each.
What a position may look at is said by a mask: of booleans, True where it may look, or of numbers that are added to
the scores. The same without an n × n array is in `block_attention.py`.
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

__all__ = ["MultiHeadAttention", "attention_probabilities", "causal_mask", "scaled_dot_product_attention"]

SAFE = 40.0  # exp of ±40, and the sum of very many of them, is far from the ends of float32


def causal_mask(length: int) -> np.ndarray:
    """An array (length, length) of booleans: position i may look at position j if j ≤ i, at itself and at the past.

    >>> causal_mask(3).astype(int)
    array([[1, 0, 0],
           [1, 1, 0],
           [1, 1, 1]])
    """
    # >>> stage 12: your code
    raise NotImplementedError("stage 12: causal_mask is yours to write, see stages/12_attention/README.md")
    # <<<


def attention_probabilities(scores: np.ndarray, mask: np.ndarray | None = None) -> np.ndarray:
    """How much each query looks at each key: the softmax of every row of `scores`, under a mask.

    Where the mask forbids, the probability is 0; the others of a row sum to 1. A row that may look nowhere is all
    zeros: no NaN, and no warning. Scores of any finite size are fine, also where the largest of a row is one that the
    mask forbids.

    Args:
        scores: (…, n, m) floats. The caller needs them no more: they may be overwritten. The mask may not.
        mask: None, or an array that broadcasts to scores' shape: of booleans, True where a query may look; or of
            floats that are added to the scores, -inf where a query may not look.

    Returns:
        An array of scores' shape and dtype.

    >>> attention_probabilities(np.zeros((2, 2)), np.array([[True, False], [True, True]]))
    array([[1. , 0. ],
           [0.5, 0.5]])
    """
    # >>> stage 12: your code
    raise NotImplementedError("stage 12: attention_probabilities is yours to write, see stages/12_attention/README.md")
    # <<<


def _to_add(mask: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """A mask as numbers to add to scores: for booleans 0 and -inf."""
    return np.where(mask, 0, -np.inf).astype(dtype) if mask.dtype == bool else mask.astype(dtype, copy=False)


def scaled_dot_product_attention(Q: Tensor, K: Tensor, V: Tensor, mask: Any = None) -> Tensor:
    """softmax(Q Kᵀ / √d + mask) V: each of n queries gets a mixture of m values, by how well it fits their keys.

    Door "Attention", of Q, K and V, and of `mask` as a fourth input if it is a Tensor of floats. Saved: probabilities,
    the array (…, n, m) that `attention_probabilities` gives. Both products are made by the backend in use,
    `get_backend().matmul`. Q, K, V and the mask are only read.

    Args:
        Q: (…, n, d). K: (…, m, d). V: (…, m, v). Leading axes broadcast; integers become float32 (`floating`).
        mask: None, or an array or a Tensor that broadcasts to (…, n, m), as `attention_probabilities` takes it.

    Returns:
        (…, n, v); float64 for float64, float32 for float32.

    Raises:
        ValueError: the shapes of Q, K and V do not fit together; the message names all three (`checked_inputs`). Or
            the mask holds neither booleans nor floats, or does not broadcast to (…, n, m); the message names its dtype
            and both shapes (`checked_mask`).

    >>> Q = K = Tensor([[0.0, 0.0], [0.0, 0.0]])
    >>> scaled_dot_product_attention(Q, K, Tensor([[1.0], [3.0]]))
    Tensor([[2.]
            [2.]], dtype=float32)
    """
    # >>> stage 12: your code
    raise NotImplementedError("stage 12: scaled_dot_product_attention is yours to write, see stages/12_attention/README.md")
    # <<<


def checked_inputs(Q: Tensor, K: Tensor, V: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Given: all three as floats, if their shapes fit; else the ValueError that attention promises."""
    shapes = [tensor.shape for tensor in (Q, K, V)]
    try:
        np.broadcast_shapes(*(shape[:-2] for shape in shapes))
        fits = shapes[0][-1] == shapes[1][-1] and shapes[1][-2] == shapes[2][-2] and min(map(len, shapes)) > 1
    except (ValueError, IndexError):
        fits = False
    if not fits:
        named = ", ".join(f"{name} {shape}" for name, shape in zip("QKV", shapes))
        raise ValueError(f"attention: expected Q (…, n, d), K (…, m, d) and V (…, m, v), got {named}")
    return floating(Q), floating(K), floating(V)


def checked_mask(mask: Any, shape: tuple[int, ...]) -> np.ndarray | None:
    """Given: the mask's array, if it holds booleans or floats and broadcasts to `shape`; else a ValueError."""
    if mask is None:
        return None
    array = mask.data if isinstance(mask, Tensor) else np.asarray(mask)
    try:
        fits = np.broadcast_shapes(array.shape, shape) == shape
    except ValueError:
        fits = False
    if not fits or array.dtype.kind not in "bf":
        expected = f"expected a mask of booleans or floats that broadcasts to {shape}"
        raise ValueError(f"attention: {expected}, got {array.dtype} {array.shape}")
    return array


class AttentionBackward(Function):
    """The rule of "Attention": `self.inputs` are Q, K, V and sometimes the mask, `self.probabilities` was saved."""

    probabilities: np.ndarray

    def backward(self, grad_output: np.ndarray) -> Any:
        """The gradients of Q, K and V, and of the mask where it is an input: a tuple in that order.

        `grad_output` is (…, n, v), the gradient of the result; it, the inputs and the probabilities are only read.
        The gradient of the scores is that of a softmax; where the probability is 0 it is 0. A mask was added to the
        scores after the division by √d, so its gradient is theirs. All products are made by the backend in use. An
        input that was broadcast may get its gradient with the leading axes of the result: the engine sums over them.
        """
        # >>> stage 12: your code
        raise NotImplementedError("stage 12: AttentionBackward.backward is yours to write, see stages/12_attention/README.md")
        # <<<


class MultiHeadAttention(Layer):
    """Several attentions side by side, each over its own part of the features, and a layer that mixes what they found.

    Args:
        embed_dim: features of a position, a multiple of num_heads.
        num_heads: the number of attentions; each works on head_dim = embed_dim / num_heads features.
        bias: whether the four linear layers have one.

    Attributes:
        query, key, value, out: Linear(embed_dim, embed_dim, bias).
        embed_dim, num_heads, head_dim: whole numbers.

    Raises:
        ValueError: embed_dim is no multiple of num_heads, or one of them is below 1.
    """

    def __init__(self, embed_dim: int, num_heads: int, bias: bool = True) -> None:
        self.embed_dim = whole_number("MultiHeadAttention", "embed_dim", embed_dim, 1)
        self.num_heads = whole_number("MultiHeadAttention", "num_heads", num_heads, 1)
        if embed_dim % num_heads:
            raise ValueError(f"MultiHeadAttention: embed_dim {embed_dim} is no multiple of num_heads {num_heads}")
        self.head_dim = self.embed_dim // self.num_heads
        self.query, self.key, self.value, self.out = (Linear(embed_dim, embed_dim, bias=bias) for _ in range(4))

    def split_heads(self, x: Tensor) -> Tensor:
        """(…, n, embed_dim) -> (…, num_heads, n, head_dim), made of tensor operations.

        Head h gets features h · head_dim to (h + 1) · head_dim - 1 of every position.

        >>> MultiHeadAttention(4, 2).split_heads(Tensor([[0, 1, 2, 3], [4, 5, 6, 7]])).data.tolist()
        [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
        """
        # >>> stage 12: your code
        raise NotImplementedError("stage 12: MultiHeadAttention.split_heads is yours to write, see stages/12_attention/README.md")
        # <<<

    def merge_heads(self, x: Tensor) -> Tensor:
        """(…, num_heads, n, head_dim) -> (…, n, embed_dim): what `split_heads` did, undone, by tensor operations.

        >>> MultiHeadAttention(4, 2).merge_heads(Tensor([[[0, 1], [4, 5]], [[2, 3], [6, 7]]])).data.tolist()
        [[0, 1, 2, 3], [4, 5, 6, 7]]
        """
        # >>> stage 12: your code
        raise NotImplementedError("stage 12: MultiHeadAttention.merge_heads is yours to write, see stages/12_attention/README.md")
        # <<<

    def forward(self, x: Tensor, mask: Any = None, cache: Any = None, layer_idx: int = 0) -> Tensor:
        """(…, n, embed_dim) -> (…, n, embed_dim): each position asks all positions of the same sequence.

        `query`, `key` and `value` are applied to x, their results split into heads, attention is taken under `mask`,
        the heads are merged, and `out` is applied. Gradients reach x, a mask that is a Tensor of floats, and the
        parameters of all four layers.

        Args:
            mask: None, or as in `scaled_dot_product_attention`, for scores (…, num_heads, n, n).
            cache: None; from stage 14 on, an object that remembers earlier positions. What its
                `cache.attend(layer_idx, Q, K, V)` returns, of the shape of Q, takes the place of attention then: Q, K
                and V are split into heads, and `mask` is not looked at.
            layer_idx: which of a model's layers this is; only a cache asks.

        Raises:
            ValueError: x is not (…, n, embed_dim); the message names its shape and embed_dim.
        """
        # >>> stage 12: your code
        raise NotImplementedError("stage 12: MultiHeadAttention.forward is yours to write, see stages/12_attention/README.md")
        # <<<
