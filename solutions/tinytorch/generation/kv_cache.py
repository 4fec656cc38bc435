"""Stage 14: the KV cache, which keeps what attention needs of the past, so that a new token costs one position's work.

B is the batch, H the number of heads, T positions, d the features of a head (head_dim).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.config import get_backend
from tinytorch.core.arrays import whole_number
from tinytorch.core.attention import attention_probabilities
from tinytorch.core.autograd import no_grad
from tinytorch.core.tensor import Tensor, result_of
from tinytorch.models.transformer import append_tokens, prompt_tokens, sample_tokens

__all__ = ["KVCache", "attention_with_cache", "cache_for", "generate_with_cache"]


class KVCache:
    """Keys and values of all positions so far, of every layer, in arrays that are made once.

    Args:
        batch_size: B, the number of texts that are written at the same time.
        max_seq_len: the number of positions that there is room for.
        num_layers, num_heads, head_dim: those of the model.
        dtype: of keys and values.

    Attributes:
        length: the number of positions that all layers hold; 0 at first.
    """

    def __init__(
        self, batch_size: int, max_seq_len: int, num_layers: int, num_heads: int, head_dim: int, dtype: Any = np.float32
    ) -> None:
        sizes = {"batch_size": batch_size, "max_seq_len": max_seq_len, "num_layers": num_layers}
        for name, value in {**sizes, "num_heads": num_heads, "head_dim": head_dim}.items():
            whole_number("KVCache", name, value, 1)
        self.max_seq_len, self.num_layers = max_seq_len, num_layers
        shape = (num_layers, batch_size, num_heads, max_seq_len, head_dim)
        self.keys, self.values = np.zeros(shape, dtype), np.zeros(shape, dtype)
        self._lengths = [0] * num_layers

    @property
    def length(self) -> int:
        return min(self._lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of all keys and values, whether or not they hold anything yet."""
        return self.keys.nbytes + self.values.nbytes

    def update(self, layer_idx: int, key: np.ndarray, value: np.ndarray, seq_pos: int) -> None:
        """Write the keys and values of positions seq_pos, seq_pos + 1, … of a layer, as copies.

        Afterwards the layer holds the positions 0 to seq_pos + T - 1: what it held behind them is forgotten.

        Args:
            key, value: (B, H, T, d) each, or with a batch and heads that broadcast to the cache's.
            seq_pos: the first position, at most the number of those that the layer holds, so that no gap is left.

        Raises:
            ValueError: the shapes do not fit, there is no such layer, seq_pos would leave a gap, or the positions end
                beyond max_seq_len: the cache is full, and the message says so. Nothing is changed then.
        """
        end = seq_pos + key.shape[-2]
        self._check(layer_idx, key, value, seq_pos, end)
        self.keys[layer_idx, :, :, seq_pos:end] = key
        self.values[layer_idx, :, :, seq_pos:end] = value
        self._lengths[layer_idx] = end

    def _check(self, layer_idx: int, key: np.ndarray, value: np.ndarray, seq_pos: int, end: int) -> None:
        batch, heads, _, head_dim = self.keys.shape[1:]
        if not 0 <= layer_idx < self.num_layers:
            raise ValueError(f"KVCache: layer {layer_idx} does not exist among {self.num_layers}")
        expected = (batch, heads, end - seq_pos, head_dim)
        if key.shape != expected or value.shape != expected:
            raise ValueError(f"KVCache: expected keys and values {expected}, got {key.shape} and {value.shape}")
        if not 0 <= seq_pos <= self._lengths[layer_idx]:
            raise ValueError(f"KVCache: position {seq_pos} does not follow on the {self._lengths[layer_idx]} held")
        if end > self.max_seq_len:
            raise ValueError(f"KVCache is full: positions {seq_pos} to {end - 1} of max_seq_len {self.max_seq_len}")

    def get(self, layer_idx: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of all positions that a layer holds: (B, H, length, d) each, views of the cache's memory."""
        length = self._lengths[layer_idx]
        return self.keys[layer_idx, :, :, :length], self.values[layer_idx, :, :, :length]

    def reset(self) -> None:
        """Forget all positions, for the next text; the memory stays."""
        self._lengths = [0] * self.num_layers

    def attend(self, layer_idx: int, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        """What MultiHeadAttention calls: `attention_with_cache`, at the positions after those that the layer holds."""
        return attention_with_cache(Q, K, V, self, layer_idx, self._lengths[layer_idx])


def attention_with_cache(Q: Tensor, K: Tensor, V: Tensor, cache: KVCache, layer_idx: int, seq_pos: int) -> Tensor:
    """Attention of the new positions to all before them and to themselves, in order: (B, H, T, d) -> (B, H, T, d).

    The new keys and values go into the cache first, and are looked at there with all others: leaving out the position
    itself would change every result. New position seq_pos + i may look at positions 0 to seq_pos + i.

    Nothing is recorded: the result requires no gradient.

    Args:
        Q, K, V: those of the new positions alone, seq_pos to seq_pos + T - 1.
        cache: holds the positions 0 to seq_pos - 1 of layer layer_idx; gets the new ones.

    Raises:
        ValueError: `cache.update` refuses them.
    """
    cache.update(layer_idx, K.data, V.data, seq_pos)
    keys, values = cache.get(layer_idx)  # (B, H, seq_pos + T, d)
    matmul, new = get_backend().matmul, Q.shape[-2]
    scores = matmul(Q.data * Q.dtype.type(1 / math.sqrt(Q.shape[-1])), keys.swapaxes(-1, -2))
    mask = np.tri(new, keys.shape[-2], seq_pos, dtype=bool) if new > 1 else None
    return result_of(None, matmul(attention_probabilities(scores, mask), values))


def cache_for(model: Any, batch_size: int = 1) -> KVCache:
    """An empty cache that fits a GPT: its layers, heads, context and dtype."""
    embed_dim = model.tokens.weight.shape[1]
    sizes = model.max_seq_len, model.num_layers, model.num_heads, embed_dim // model.num_heads
    return KVCache(batch_size, *sizes, dtype=model.tokens.weight.dtype)


def generate_with_cache(
    model: Any, prompt: Any, max_length: int, temperature: float = 1.0, top_k: int | None = None
) -> np.ndarray:
    """What `model.generate` does, with a cache: the prompt in one pass, and then one position for each token.

    The same tokens come out, as long as the text fits into the context, max_seq_len. Positions are learned, so the
    window cannot slide over a cache as it slides in `generate`: when the context is full, the later half of it is read
    again in one pass, from position 0 on, and the text goes on from there.

    Args:
        model: a GPT; it writes in evaluation mode, without recording, and is left in the mode that it was in.
        prompt, max_length, temperature, top_k: as in `GPT.generate`. Of a longer prompt the last max_seq_len tokens are
            read.

    Returns:
        (max_length,) or (B, max_length) int64, which begin with the prompt.
    """
    tokens = prompt_tokens(prompt, model.tokens.vocab_size)
    cache = cache_for(model, len(np.atleast_2d(tokens)))
    unread = np.atleast_2d(tokens)[:, -model.max_seq_len :]
    mode = model.training
    model.eval()
    try:
        with no_grad():
            while tokens.shape[-1] < max_length:
                logits = model(unread, cache).data[:, -1]
                tokens = append_tokens(tokens, sample_tokens(logits, temperature, top_k))
                unread = np.atleast_2d(tokens)[:, -1:]
                if cache.length == model.max_seq_len:
                    cache.reset()
                    unread = np.atleast_2d(tokens)[:, -(model.max_seq_len // 2 or 1) :]
    finally:
        model.train(mode)
    return tokens
