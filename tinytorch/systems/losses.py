"""Stage 04, systems: numbers that neither overflow nor vanish, memory that is not spent, and what a loss measures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

__all__ = ["entropy", "kl_divergence", "log_sum_exp", "loss_bytes"]


def log_sum_exp(values: np.ndarray, axis: int = -1) -> np.ndarray:
    """log Σ exp(values) along `axis`, which is dropped, without overflow or loss, in the dtype of `values`.

    log Σ exp(v) = m + log Σ exp(v - m) for any m. With the largest v as m no exp exceeds 1, and one is 1. An element
    of -inf adds nothing; where all elements are -inf, the result is -inf.

    >>> log_sum_exp(np.array([[1000.0, 1000.0], [-1000.0, -1000.0]])).round(3)
    array([1000.693, -999.307])
    """
    # >>> stage 04: your code
    raise NotImplementedError("stage 04: log_sum_exp is yours to write, see stages/04_losses/README.md")
    # <<<


def loss_bytes(batch: int, classes: int, itemsize: int = 4, fused: bool = True) -> int:
    """Bytes of the (batch, classes) arrays that the cross-entropy of given logits keeps for the way back.

    If `fused`, the loss is one operation, as CrossEntropyLoss is, and keeps what it saves at the door. Otherwise it is
    composed of these tensor operations, and every result is kept, and the target probabilities too:

        shifted       = logits - logits.max(axis=1, keepdims=True)
        powers        = shifted.exp()
        probabilities = powers / powers.sum(axis=1, keepdims=True)
        logs          = probabilities.log()
        products      = logs * target_probabilities
        loss          = -products.sum() / batch

    Results of the size of a column or less do not count. The logits do not count either: the model has made them.

    Args:
        itemsize: bytes of one element.

    >>> loss_bytes(64, 10), loss_bytes(64, 10, fused=False)
    (5120, 15360)
    """
    # >>> stage 04: your code
    raise NotImplementedError("stage 04: loss_bytes is yours to write, see stages/04_losses/README.md")
    # <<<


def entropy(p: Sequence[float]) -> float:
    """-Σ p log p in nats: how much there is to learn, on average, from one draw of the distribution `p`.

    The shortest code for such draws takes entropy / log 2 bits a draw. Where p is 0, p log p counts as 0. A
    cross-entropy loss whose target probabilities are p cannot fall below their entropy.

    Args:
        p: probabilities, which sum to 1.

    >>> round(entropy([0.5, 0.25, 0.25]) / math.log(2), 6)
    1.5
    """
    # >>> stage 04: your code
    raise NotImplementedError("stage 04: entropy is yours to write, see stages/04_losses/README.md")
    # <<<


def kl_divergence(p: Sequence[float], q: Sequence[float]) -> float:
    """Σ p log(p / q) in nats: what it costs to expect `q` where `p` is true; 0 only if they are the same.

    The cross-entropy -Σ p log q is entropy(p) + kl_divergence(p, q). Where p is 0 nothing is added; where q is 0 and
    p is not, the result is infinite.

    Args:
        p, q: probabilities of the same outcomes.

    Raises:
        ValueError: `p` and `q` differ in length.

    >>> round(kl_divergence([0.5, 0.5], [0.25, 0.75]), 6)
    0.143841
    """
    # >>> stage 04: your code
    raise NotImplementedError("stage 04: kl_divergence is yours to write, see stages/04_losses/README.md")
    # <<<
