"""Stage 14, given: one more position of a GPT on bare arrays.

A new position takes so little arithmetic that half of its time would go into calls of layers, checks and Tensors. Here
all that stays the same from token to token is worked out once, when the text begins:

- The three products that give Q, K and V are one, and its part for Q is divided by √head_dim.
- A norm's weight is multiplied into the matrix after it, and its bias becomes a bias after that matrix.
- A norm subtracts a mean. Here all that is added to the residual stream has mean 0 already: its matrices are moved so.
  What is left of a norm is one number for each position, 1 / √(mean of squares + eps).
- The half of GELU, x (1 + tanh(…)) / 2, is multiplied into the matrix after it.

B is the batch, C the number of features (embed_dim), H the number of heads, d the features of a head.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np

from tinytorch.backends import NumPyBackend
from tinytorch.config import get_backend
from tinytorch.core.activations import GELU
from tinytorch.core.attention import MultiHeadAttention
from tinytorch.core.door import watchers
from tinytorch.core.layer_norm import LayerNorm
from tinytorch.core.layers import Dropout, Linear
from tinytorch.models.transformer import GPT, MLP, TransformerBlock
from tinytorch.text.embeddings import Embedding, PositionalEncoding

__all__ = ["Decoder", "reader"]

KNOWN = {Embedding, PositionalEncoding, Dropout, TransformerBlock, LayerNorm, MultiHeadAttention, Linear, MLP, GELU}
ROOT, CUBIC = math.sqrt(2 / math.pi), 0.044715  # those of GELU's tanh form


def reader(model: Any, cache: Any) -> Callable[[np.ndarray], np.ndarray]:
    """A function that reads tokens (B, T) and gives the logits of the last ones, (B, vocab_size).

    It calls `model(tokens, cache)`. But where tokens come one at a time, and the model is one that `Decoder.fits`, it
    has them read by a Decoder, which makes the same of them in half of the time. While somebody watches the operations
    (`watch` in door.py), all go through the model, since a Decoder does not come to the door.

    The model is in evaluation mode, and its values do not change while the function is in use.
    """
    decoder = lru_cache(lambda: Decoder(model, cache))  # made when it is needed: that takes as long as some tokens
    fits = Decoder.fits(model)

    def read(tokens: np.ndarray) -> np.ndarray:
        if fits and tokens.shape[1] == 1 and not watchers:
            return decoder()(tokens[:, 0])
        return model(tokens, cache).data[:, -1]

    return read


class Decoder:
    """Gives the logits of one more position after those that a cache holds: `decoder(tokens)`.

    It has the values that the model had when it was made, in arrays of its own.

    Args:
        model: a GPT that `Decoder.fits`.
        cache: a KVCache that fits the model, which gets the new keys and values.
    """

    def __init__(self, model: Any, cache: Any) -> None:
        table, positions = model.tokens.weight.data, model.positions.positions.data
        self.cache, self.heads, self.eps = cache, model.num_heads, model.norm.eps
        self.tokens, self.positions = _centred(table), _centred(positions)
        self.blocks = [_folded(block) for block in model.blocks]
        self.head, self.head_bias = _after_norm(model.norm, table.T)

    @staticmethod
    def fits(model: Any) -> bool:
        """Whether the model is a GPT of just the layers that this class knows, as stage 13 makes it, in plain NumPy."""
        if type(model) is not GPT or type(get_backend()) is not NumPyBackend:
            return False
        layers = [layer for _, layer in model.named_layers()]
        square, norms = model.tokens.weight.shape[1:] * 2, [layer for layer in layers if type(layer) is LayerNorm]
        return (
            {type(layer) for layer in layers} <= KNOWN
            and {tensor.dtype for _, tensor in model.named_tensors()} == {model.tokens.weight.dtype}
            and {norm.eps for norm in norms} == {model.norm.eps}
            and all(layer.bias is None for layer in layers if type(layer) is Linear)
            and all(layer.approximate == "tanh" for layer in layers if type(layer) is GELU)
            and all(block.attention.num_heads == model.num_heads for block in model.blocks)
            and all(block.attention.query.weight.shape == square for block in model.blocks)
        )

    def __call__(self, tokens: np.ndarray) -> np.ndarray:
        """Logits (B, vocab_size) after the tokens (B,) at position `cache.length`, which the cache then holds too.

        Raises:
            ValueError: the cache is full.
        """
        at = self.cache.length
        if at >= len(self.positions):
            raise ValueError(f"Decoder: there is no position {at}, the context is {len(self.positions)}: it is full")
        x = self.tokens[tokens] + self.positions[at]  # (B, C), the residual stream
        for layer_idx, (qkv, qkv_bias, out, up, up_bias, down) in enumerate(self.blocks):
            projected = x @ qkv  # (B, 3 C)
            projected *= self._inverse_std(x)
            projected += qkv_bias
            x += self._attended(layer_idx, at, projected) @ out
            hidden = x @ up  # (B, 4 C)
            hidden *= self._inverse_std(x)
            hidden += up_bias
            x += _double_gelu(hidden) @ down
        logits = x @ self.head
        logits *= self._inverse_std(x)
        logits += self.head_bias
        return logits

    def _inverse_std(self, x: np.ndarray) -> Any:
        """1 / √(var + eps) of each row of x, whose mean is 0: a number for one row, (B, 1) for several."""
        if len(x) == 1:
            return 1 / math.sqrt(np.vdot(x, x) / x.size + self.eps)
        variance = np.einsum("ij,ij->i", x, x)[:, None] / x.shape[1]
        return 1 / np.sqrt(variance + self.eps)

    def _attended(self, layer_idx: int, at: int, projected: np.ndarray) -> np.ndarray:
        """What the position finds at all those that the cache holds, and at itself: (B, 3 C) -> (B, C)."""
        batch, features = projected.shape
        parts = projected.reshape(batch, 3, self.heads, 1, -1)
        self.cache.update(layer_idx, parts[:, 1], parts[:, 2], at)
        keys, values = self.cache.get(layer_idx)  # (B, H, at + 1, d)
        scores = parts[:, 0] @ keys.swapaxes(-1, -2)  # (B, H, 1, at + 1)
        scores -= scores.max(axis=-1, keepdims=True)
        np.exp(scores, out=scores)
        mixed = scores @ values
        mixed /= scores.sum(axis=-1, keepdims=True)
        return mixed.reshape(batch, features // 3)


def _double_gelu(x: np.ndarray) -> np.ndarray:
    """2 GELU(x) in its tanh form: x (1 + tanh(√(2/π) (x + 0.044715 x³)))."""
    inner = x * x
    inner *= ROOT * CUBIC
    inner += ROOT
    inner *= x
    np.tanh(inner, out=inner)
    inner += 1
    inner *= x
    return inner


def _folded(block: TransformerBlock) -> tuple[np.ndarray, ...]:
    """What a block multiplies by and adds: qkv and its bias, out, up and its bias, down."""
    attention, mlp = block.attention, block.mlp
    query, key, value = (layer.weight.data for layer in (attention.query, attention.key, attention.value))
    scale = query.dtype.type(math.sqrt(query.shape[1] / attention.num_heads))
    qkv = _after_norm(block.norm1, np.concatenate([query / scale, key, value], axis=1))
    up = _after_norm(block.norm2, mlp.up.weight.data)
    return *qkv, _centred(attention.out.weight.data), *up, _centred(mlp.down.weight.data / 2)


def _after_norm(norm: LayerNorm, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix with the norm's weight in it, and the bias that the norm's bias becomes."""
    return np.ascontiguousarray(norm.weight.data[:, None] * matrix), norm.bias.data @ matrix


def _centred(rows: np.ndarray) -> np.ndarray:
    """Rows without their mean."""
    return rows - rows.mean(axis=1, keepdims=True)
