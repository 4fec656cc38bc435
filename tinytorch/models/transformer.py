"""Stage 13: the transformer, from its blocks to a GPT that writes.

B is the batch, T the number of positions, C the number of features (embed_dim).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tinytorch.core.activations import GELU
from tinytorch.core.arrays import whole_number
from tinytorch.core.attention import MultiHeadAttention, causal_mask
from tinytorch.core.autograd import no_grad
from tinytorch.core.layer_norm import LayerNorm
from tinytorch.core.layers import Dropout, Layer, Linear
from tinytorch.core.losses import CrossEntropyLoss
from tinytorch.core.rng import generator
from tinytorch.core.tensor import Tensor
from tinytorch.text.embeddings import Embedding, PositionalEncoding, token_indices

__all__ = ["GPT", "MLP", "TransformerBlock", "next_token_loss", "sample_tokens"]


class MLP(Layer):
    """Two linear layers with a GELU between them, applied to each position by itself.

    Args:
        embed_dim: features that come in, and go out.
        hidden: features between the two layers.
        bias: whether the layers have one.

    Attributes:
        up: Linear(embed_dim, hidden). activation: GELU("tanh"). down: Linear(hidden, embed_dim).
    """

    def __init__(self, embed_dim: int, hidden: int, bias: bool = True) -> None:
        self.up, self.down = Linear(embed_dim, hidden, bias=bias), Linear(hidden, embed_dim, bias=bias)
        self.activation = GELU("tanh")

    def forward(self, x: Tensor) -> Tensor:
        """(…, embed_dim) -> (…, embed_dim): up, activation, down."""
        # >>> stage 13: your code
        raise NotImplementedError("stage 13: MLP.forward is yours to write, see stages/13_transformers/README.md")
        # <<<


class TransformerBlock(Layer):
    """Attention, in which positions learn of each other, then an MLP, in which each works on what it has learnt.

    Both add to what comes in (the residual stream), and read it through a norm of their own (pre-norm). So there is a
    way from the last block to the first on which nothing is multiplied, and gradients come through many blocks.

    Args:
        embed_dim, num_heads: as in MultiHeadAttention.
        mlp_ratio: the MLP's hidden layer has mlp_ratio · embed_dim features.
        dropout: the probability with which each number that attention or MLP adds is dropped while training.
        bias: whether the linear layers have one.

    Attributes:
        norm1, norm2: LayerNorm. attention: MultiHeadAttention. mlp: MLP. dropout: Dropout.

    Source: Xiong et al. 2020, arXiv:2002.04745, figure 1 (b).
    """

    def __init__(
        self, embed_dim: int, num_heads: int, mlp_ratio: int = 4, dropout: float = 0.0, bias: bool = False
    ) -> None:
        self.norm1, self.attention = LayerNorm(embed_dim), MultiHeadAttention(embed_dim, num_heads, bias)
        self.norm2, self.mlp = LayerNorm(embed_dim), MLP(embed_dim, mlp_ratio * embed_dim, bias)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, mask: Any = None, cache: Any = None, layer_idx: int = 0) -> Tensor:
        """(B, T, C) -> (B, T, C): x + dropout(attention(norm1(x))), and to that + dropout(mlp(norm2(of it))).

        Args:
            mask, cache, layer_idx: handed on to attention.
        """
        # >>> stage 13: your code
        raise NotImplementedError("stage 13: TransformerBlock.forward is yours to write, see stages/13_transformers/README.md")
        # <<<


class GPT(Layer):
    """A transformer that predicts the next token at each position, from that position and those before it.

    The table that embeds tokens is also the last layer (tied): the logit of a token is the product of its vector with
    what the blocks made of the position.

    Args:
        vocab_size: the number of tokens.
        embed_dim: features of a position.
        num_layers: the number of blocks.
        num_heads: attention heads in each.
        max_seq_len: the number of positions that it can look at, its context.
        dropout: probability, in the blocks and after the embedding.

    Attributes:
        tokens: Embedding. positions: PositionalEncoding, learned. blocks: list of TransformerBlock, without biases.
        norm: LayerNorm, the last layer before the logits.

    Source: Radford et al. 2019, "Language models are unsupervised multitask learners", section 2.3.
    """

    def __init__(
        self,
        vocab_size: int,
        embed_dim: int,
        num_layers: int,
        num_heads: int,
        max_seq_len: int,
        dropout: float = 0.0,
    ) -> None:
        self.num_layers = whole_number("GPT", "num_layers", num_layers, 1)
        self.max_seq_len, self.num_heads = max_seq_len, num_heads
        self.tokens = Embedding(vocab_size, embed_dim)
        self.positions = PositionalEncoding(max_seq_len, embed_dim, learned=True)
        self.dropout = Dropout(dropout)
        self.blocks = [TransformerBlock(embed_dim, num_heads, dropout=dropout) for _ in range(num_layers)]
        self.norm = LayerNorm(embed_dim)
        self.initialise()

    def initialise(self, std: float = 0.02) -> None:
        """Draw all matrices anew from `generator()`: normal, mean 0, standard deviation `std`.

        Those that write into the residual stream, `attention.out` and `mlp.down` of each block, get std / √(2 ·
        num_layers): two of them add to it in each block, and so the variance at its end does not grow with the depth.
        """
        # >>> stage 13: your code
        raise NotImplementedError("stage 13: GPT.initialise is yours to write, see stages/13_transformers/README.md")
        # <<<

    def forward(self, indices: Any, cache: Any = None) -> Tensor:
        """(B, T) indices -> logits (B, T, vocab_size): at each position, of the token that comes next.

        No position looks at later ones: changing a token leaves all logits before it as they are.

        Args:
            indices: a Tensor, an array or a list of integers; T is at most max_seq_len.
            cache: None; from stage 14 on, what the positions before these left: an object with `length`, their number,
                and what `MultiHeadAttention` asks of it. It takes care of causality itself, and gets no mask.

        Raises:
            ValueError: indices are not (B, T), or a position lies beyond max_seq_len.
        """
        # >>> stage 13: your code
        raise NotImplementedError("stage 13: GPT.forward is yours to write, see stages/13_transformers/README.md")
        # <<<

    def generate(self, prompt: Any, max_length: int, temperature: float = 1.0, top_k: int | None = None) -> np.ndarray:
        """Write on from `prompt`, a token at a time, until the text has `max_length` tokens.

        Each token is drawn by `sample_tokens` from the logits of the last position. The model sees at most the last
        max_seq_len tokens. It writes in evaluation mode, without recording, and is left in the mode that it was in.

        Args:
            prompt: (T,) or (B, T) integers, T at least 1.
            max_length: of the whole text, prompt included; a prompt that is as long or longer comes back as it is.

        Returns:
            (max_length,) or (B, max_length) int64, which begin with the prompt.

        Raises:
            ValueError: the prompt is empty or has other axes.
        """
        # >>> stage 13: your code
        raise NotImplementedError("stage 13: GPT.generate is yours to write, see stages/13_transformers/README.md")
        # <<<


def prompt_tokens(prompt: Any, vocab_size: int) -> np.ndarray:
    """`prompt` as int64, (T,) or (B, T), if a text can begin with it; else a ValueError that names its shape."""
    tokens = token_indices(prompt, vocab_size).astype(np.int64)
    if tokens.ndim not in (1, 2) or tokens.size == 0:
        raise ValueError(f"generate: expected a prompt (T,) or (B, T) of at least one token, got shape {tokens.shape}")
    return tokens


def append_tokens(tokens: np.ndarray, new: np.ndarray) -> np.ndarray:
    """(T,) or (B, T) tokens with the `new` ones, (1,) or (B,), behind them."""
    return np.concatenate([tokens, new.reshape(*tokens.shape[:-1], 1)], axis=-1)


def sample_tokens(logits: np.ndarray, temperature: float = 1.0, top_k: int | None = None) -> np.ndarray:
    """A token for each row of logits, (B, vocab_size) -> (B,) int64, drawn from softmax(logits / temperature).

    Args:
        temperature: below 1 the likelier tokens get likelier; at 0 the likeliest is taken (the first, if several are),
            and nothing is drawn.
        top_k: if given, only the k likeliest tokens of a row can be drawn.

    One number is drawn for each row from `generator()`, at once: `generator().random(B)`. The row's token is the
    first whose cumulated probability exceeds it.

    Raises:
        ValueError: temperature is negative or no number, or top_k below 1.
    """
    # >>> stage 13: your code
    raise NotImplementedError("stage 13: sample_tokens is yours to write, see stages/13_transformers/README.md")
    # <<<


def next_token_loss(logits: Tensor, targets: Any) -> Tensor:
    """The mean cross-entropy over all positions: logits (B, T, vocab_size), targets (B, T) integers -> shape ().

    Targets are the tokens that come next: those that went in, moved by one.
    """
    # >>> stage 13: your code
    raise NotImplementedError("stage 13: next_token_loss is yours to write, see stages/13_transformers/README.md")
    # <<<
