"""Stage 13, systems: what a transformer costs in parameters, memory and arithmetic, and how its loss is read.

L is the number of blocks, d the number of features (embed_dim), T the number of positions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from tinytorch.core.autograd import checkpoint
from tinytorch.core.tensor import Tensor
from tinytorch.systems.autograd import graph_bytes

__all__ = ["accumulation_plan", "bits_per_character", "block_activations", "gpt_parameters", "token_flops"]


def gpt_parameters(vocab_size: int, embed_dim: int, num_layers: int, max_seq_len: int) -> tuple[int, int]:
    """How many numbers a GPT of these sizes trains: those in the matrices of its blocks, and all others.

    The first is the 12 L d² by which people size a transformer. The second is what that leaves out: the table of
    tokens, which is the last layer too and counts once, that of positions, and weight and bias of every norm, of which
    each block has two and the model one more.

    >>> gpt_parameters(vocab_size=65, embed_dim=128, num_layers=4, max_seq_len=64)
    (786432, 18816)
    """
    norms = (2 * num_layers + 1) * 2 * embed_dim
    return 12 * num_layers * embed_dim**2, (vocab_size + max_seq_len) * embed_dim + norms


def block_activations(blocks: Sequence[Callable[..., Tensor]], x: Tensor, mask: Any, checkpointed: bool) -> int:
    """Bytes that are kept for the way back once x went through `blocks`, one after the other.

    Each is called as block(x, mask). If `checkpointed`, each goes through `checkpoint` instead, which keeps its input
    alone; the mask is no Tensor that a gradient goes back to, and must not become one of checkpoint's inputs.
    `graph_bytes` of stage 05 counts what the last block's result keeps.

    >>> def square(x, mask):
    ...     return x * x * mask
    >>> x, mask = Tensor([[1.0, 2.0]]), Tensor([[1.0, 0.0]])
    >>> block_activations([square] * 3, x, mask, checkpointed=True)  # x and two results, 8 bytes each
    24
    """
    for block in blocks:
        masked = partial(block, mask=mask)
        x = checkpoint(masked, x) if checkpointed else masked(x)
    return graph_bytes(x)


def token_flops(embed_dim: int, num_layers: int, vocab_size: int, length: int) -> int:
    """FLOPs of all matrix products for one token of a text of `length` tokens, in a GPT's forward pass.

    A multiplication and an addition are two. Counted are the matrices of the blocks, the logits, and the two products
    of attention, scores and mixture, each with all `length` positions: those that the mask hides are computed too.
    What is left out (norms, softmax, GELU, sums) grows with d, and not with d².

    A step of training takes three times as many: the way back makes two products for each of these.

    >>> token_flops(embed_dim=128, num_layers=4, vocab_size=65, length=64)
    1720576
    """
    in_matrices = 12 * num_layers * embed_dim**2 + vocab_size * embed_dim
    in_attention = 2 * num_layers * length * embed_dim
    return 2 * (in_matrices + in_attention)


def accumulation_plan(batch: int, budget: int, fixed: int, per_text: int) -> tuple[int, int]:
    """How to train with a batch of texts that does not fit into memory: (texts at a time, how many times).

    A step holds `fixed` bytes (parameters, gradients, what the optimizer remembers), and `per_text` bytes of
    activations for each text that is in work. The batch goes in as few parts as stay within `budget` bytes, and the
    largest part is as small as that number of parts allows. Gradients add up: `Trainer(accumulate=…)` does it.

    Args:
        batch, per_text: at least 1.

    Raises:
        ValueError: not even one text fits; the message names the bytes that it takes, and the budget.

    >>> accumulation_plan(batch=10, budget=1_000, fixed=500, per_text=120)  # 4 + 3 + 3
    (4, 3)
    """
    most = (budget - fixed) // per_text
    if most < 1:
        raise ValueError(f"accumulation_plan: a single text takes {fixed + per_text} bytes of a budget of {budget}")
    parts = math.ceil(batch / most)
    return math.ceil(batch / parts), parts


def bits_per_character(loss: float, tokens: int, characters: int) -> float:
    """The loss, in nats a token, as bits for each character of the text: a measure that fits every tokenizer.

    A model whose tokens are long has a larger loss for each, and fewer of them. The bits in all are those into which
    the text could be compressed by the model's predictions.

    Args:
        loss: the mean of -log(probability of the token that came), by the natural logarithm.
        tokens, characters: how many of each the text has.

    >>> bits_per_character(math.log(8), tokens=100, characters=300)  # 3 bits a token
    1.0
    """
    return loss / math.log(2) * tokens / characters
