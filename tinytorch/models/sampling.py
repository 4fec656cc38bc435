"""Stage 13: sampling, how logits become the next token of a text.

B is the number of texts that are written at the same time, T the number of tokens that each of them has.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.core.arrays import whole_number
from tinytorch.core.rng import generator
from tinytorch.text.embeddings import token_indices

__all__ = ["append_tokens", "prompt_tokens", "sample_tokens"]


def sample_tokens(logits: np.ndarray, temperature: float = 1.0, top_k: int | None = None) -> np.ndarray:
    """A token for each row of logits, drawn from softmax(logits / temperature): (B, vocab_size) -> (B,) int64.

    The probabilities of a row are added up from the first token on, in float64. One number is drawn for each row, all
    at once, by `generator().random(B)`: the row's token is the first whose cumulated probability exceeds it.

    Args:
        logits: an array of floats, which is only read. -inf rules a token out. Of any size: nothing overflows.
        temperature: below 1 the likelier tokens get likelier still, above 1 all get more alike. At 0 the likeliest
            token is taken, the first if several are, and nothing is drawn from the generator.
        top_k: if given, only the top_k likeliest tokens of a row can be drawn, all of them if there are fewer. Which
            ones, where several tie for the last place, is left open.

    Raises:
        ValueError: temperature is negative, infinite or NaN, or top_k is below 1; the message names the value.
        TypeError: top_k is no integer (`whole_number` sees to both).

    >>> sample_tokens(np.array([[1.0, 3.0, 2.0], [5.0, 0.0, 0.0]]), temperature=0)
    array([1, 0])
    """
    # >>> stage 13: your code
    raise NotImplementedError("stage 13: sample_tokens is yours to write, see stages/13_transformers/README.md")
    # <<<


def prompt_tokens(prompt: Any, vocab_size: int) -> np.ndarray:
    """`prompt` as int64, (T,) or (B, T), if a text can begin with it; a copy.

    Raises:
        ValueError: it has no token, or other axes; the message names its shape. Or there is no such token.
        TypeError: it does not hold integers.
    """
    tokens = token_indices(prompt, vocab_size).astype(np.int64)
    if tokens.ndim not in (1, 2) or tokens.size == 0:
        raise ValueError(f"generate: expected a prompt (T,) or (B, T) of at least one token, got shape {tokens.shape}")
    return tokens


def append_tokens(tokens: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(T,) or (B, T) tokens with the `new` ones, (1,) or (B,), behind them: (T + 1,) or (B, T + 1).

    >>> append_tokens(np.array([[1, 2], [3, 4]]), np.array([7, 8]))
    array([[1, 2, 7],
           [3, 4, 8]])
    """
    return np.concatenate([tokens, new.reshape(*tokens.shape[:-1], 1)], axis=-1)
