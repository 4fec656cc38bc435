"""Stage 14: the KV cache, which keeps what attention needs of the past, so that a new token costs one position's work.

B is the batch, H the number of heads, T the number of positions that are new, d the features of a head (head_dim).
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tinytorch.core.arrays import whole_number
from tinytorch.core.attention import scaled_dot_product_attention
from tinytorch.core.autograd import no_grad
from tinytorch.core.tensor import Tensor, result_of
from tinytorch.generation.decoder import reader
from tinytorch.models.transformer import prompt_tokens, sample_tokens

__all__ = ["KVCache", "attention_with_cache", "cache_for", "generate_with_cache"]


class KVCache:
    """Keys and values of all positions so far, of every layer, in two arrays that are made once.

    Args:
        batch_size: B, the number of texts that are written at the same time.
        max_seq_len: the number of positions that there is room for.
        num_layers, num_heads, head_dim: those of the model.
        dtype: of keys and values.

    Attributes:
        keys, values: arrays (num_layers, batch_size, num_heads, max_seq_len, head_dim), zeros at first.
        lengths: a list with the number of positions that each layer holds, 0 at first. What lies behind them in `keys`
            and `values` has no meaning.
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
        self.lengths = [0] * num_layers

    def __repr__(self) -> str:
        layers, batch, heads, room, head_dim = self.keys.shape
        return f"KVCache({batch}, {room}, {layers}, {heads}, {head_dim}), which holds {self.length} positions"

    @property
    def length(self) -> int:
        """The number of positions that all layers hold: in the middle of a model's forward pass, the last one's."""
        return min(self.lengths)

    @property
    def nbytes(self) -> int:
        """Bytes of the memory of all keys and values, which is taken whether or not they hold anything yet.

        >>> KVCache(batch_size=1, max_seq_len=10, num_layers=2, num_heads=3, head_dim=4).nbytes
        1920
        """
        # >>> stage 14: your code
        raise NotImplementedError("stage 14: KVCache.nbytes is yours to write, see stages/14_kv_cache/README.md")
        # <<<

    def update(self, layer_idx: int, key: np.ndarray, value: np.ndarray, seq_pos: int) -> None:
        """Copy the keys and values of positions seq_pos, seq_pos + 1, … into a layer's place in `keys` and `values`.

        Afterwards the layer holds just the positions 0 to seq_pos + T - 1, and `lengths` says so: what it held behind
        them is forgotten, so that a text can be taken back to an earlier position. Other layers are left alone.

        Args:
            layer_idx: from 0 to num_layers - 1.
            key, value: (B, H, T, d) each.
            seq_pos: the first position, from 0 to the number of those that the layer holds: there may be no gap.

        Raises:
            ValueError: there is no such layer, or the shapes do not fit (`self.check_shapes` raises both); or seq_pos
                is negative or would leave a gap, and the message names it; or the positions would end beyond
                max_seq_len: the message says "full" and names max_seq_len. Nothing is changed in any of these cases.

        >>> cache = KVCache(batch_size=1, max_seq_len=10, num_layers=2, num_heads=3, head_dim=4)
        >>> cache.update(0, np.ones((1, 3, 5, 4)), np.ones((1, 3, 5, 4)), 0)
        >>> cache.lengths
        [5, 0]
        """
        # >>> stage 14: your code
        raise NotImplementedError("stage 14: KVCache.update is yours to write, see stages/14_kv_cache/README.md")
        # <<<

    def check_shapes(self, layer_idx: int, key: np.ndarray, value: np.ndarray) -> None:
        """Raise a ValueError unless there is the layer, and key and value are (B, H, T, d) with the cache's B, H, d."""
        if not 0 <= layer_idx < self.num_layers:
            raise ValueError(f"KVCache: there is no layer {layer_idx} among {self.num_layers}")
        batch, heads, _, head_dim = self.keys.shape[1:]
        if key.shape != value.shape or key.ndim != 4 or (*key.shape[:2], key.shape[3]) != (batch, heads, head_dim):
            wanted = f"({batch}, {heads}, T, {head_dim})"
            raise ValueError(f"KVCache: expected a key and a value {wanted}, got {key.shape} and {value.shape}")

    def get(self, layer_idx: int) -> tuple[np.ndarray, np.ndarray]:
        """Keys and values of all positions that a layer holds, and of no others: (B, H, positions, d) each.

        Both are views of the cache's memory: nothing is copied, however long the text is.

        >>> keys, values = KVCache(batch_size=1, max_seq_len=10, num_layers=2, num_heads=3, head_dim=4).get(0)
        >>> keys.shape
        (1, 3, 0, 4)
        """
        # >>> stage 14: your code
        raise NotImplementedError("stage 14: KVCache.get is yours to write, see stages/14_kv_cache/README.md")
        # <<<

    def reset(self) -> None:
        """Forget all positions of all layers, for the next text. The two arrays stay, and nothing is written to them.

        >>> cache = KVCache(batch_size=1, max_seq_len=10, num_layers=2, num_heads=3, head_dim=4)
        >>> cache.lengths = [7, 7]
        >>> cache.reset()
        >>> cache.length
        0
        """
        # >>> stage 14: your code
        raise NotImplementedError("stage 14: KVCache.reset is yours to write, see stages/14_kv_cache/README.md")
        # <<<

    def attend(self, layer_idx: int, Q: Tensor, K: Tensor, V: Tensor) -> Tensor:
        """What MultiHeadAttention calls: `attention_with_cache`, at the positions after those that the layer holds."""
        return attention_with_cache(Q, K, V, self, layer_idx, self.lengths[layer_idx])


def attention_with_cache(Q: Tensor, K: Tensor, V: Tensor, cache: KVCache, layer_idx: int, seq_pos: int) -> Tensor:
    """Attention of T new positions to all before them and to themselves, in order: (B, H, T, d) -> (B, H, T, d).

    New position seq_pos + i may look at positions 0 to seq_pos + i: the result is that of the last T rows of causal
    attention over the whole text. `cache.update` takes the new keys and values, `cache.get` gives all of them.

    Nothing is recorded: the result requires no gradient, even if Q, K or V do.

    Args:
        Q, K, V: Tensors of the new positions alone, seq_pos to seq_pos + T - 1.
        cache: holds the positions 0 to seq_pos - 1 of layer layer_idx; afterwards the new ones too.

    Raises:
        ValueError: `cache.update` refuses them.

    >>> cache = KVCache(batch_size=1, max_seq_len=10, num_layers=1, num_heads=1, head_dim=1)
    >>> first, second = Tensor([[[[0.0]]]]), Tensor([[[[4.0]]]])
    >>> attention_with_cache(first, first, first, cache, 0, 0).item()
    0.0
    >>> attention_with_cache(first, first, second, cache, 0, 1).item()  # half of each value, 0 and 4
    2.0
    """
    # >>> stage 14: your code
    raise NotImplementedError("stage 14: attention_with_cache is yours to write, see stages/14_kv_cache/README.md")
    # <<<


def cache_for(model: Any, batch_size: int = 1) -> KVCache:
    """An empty cache that fits a GPT: its layers, heads, context and dtype."""
    embed_dim = model.tokens.weight.shape[1]
    sizes = model.max_seq_len, model.num_layers, model.num_heads, embed_dim // model.num_heads
    return KVCache(batch_size, *sizes, dtype=model.tokens.weight.dtype)


def generate_with_cache(
    model: Any, prompt: Any, max_length: int, temperature: float = 1.0, top_k: int | None = None
) -> np.ndarray:
    """What `model.generate` does, with a cache: the prompt is read in one pass, then each new token by itself.

    The same tokens come out as long as the text fits into the context, max_seq_len. Each is drawn by `sample_tokens`
    from the logits of the last position. After a token was drawn, the model reads it alone, while there is room in the
    cache. Positions are learned, so a window cannot slide over a cache as it slides in `generate`: when the cache is
    full, it is reset, and the last max_seq_len // 2 tokens (at least one) are read in one pass, from position 0 on; the
    token that was just drawn is the last of them.

    `prompt_tokens(prompt, vocab_size)` checks the prompt, `cache_for(model, B)` makes the cache, and
    `model(tokens, cache)` gives the logits of the tokens that it reads. `read = reader(model, cache)` of decoder.py is
    there too: `read(tokens)` gives the logits of their last position alone, (B, vocab_size), and is twice as fast.

    Args:
        model: a GPT, of which `tokens.vocab_size`, `max_seq_len` and what `cache_for` asks for are looked at. It writes
            in evaluation mode (`eval`), without recording, and is left in the mode (`train(mode)`) that it was in,
            also when an error comes up.
        prompt, max_length, temperature, top_k: as in `GPT.generate`. Of a longer prompt the last max_seq_len tokens are
            read.

    Returns:
        (max_length,) or (B, max_length) int64, which begin with the whole prompt.
    """
    # >>> stage 14: your code
    raise NotImplementedError("stage 14: generate_with_cache is yours to write, see stages/14_kv_cache/README.md")
    # <<<
