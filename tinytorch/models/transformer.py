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
from tinytorch.models.sampling import append_tokens, prompt_tokens, sample_tokens
from tinytorch.text.embeddings import Embedding, PositionalEncoding, token_indices

__all__ = ["GPT", "MLP", "TransformerBlock", "next_token_loss"]


class MLP(Layer):
    """Two linear layers with a GELU between them. It works on each position by itself.

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
        """What `down` makes of the `activation` of what `up` makes of x: (…, embed_dim) -> (…, embed_dim).

        >>> MLP(4, hidden=16)(Tensor([[1.0, 2.0, 3.0, 4.0]])).shape
        (1, 4)
        """
        # >>> stage 13: your code
        raise NotImplementedError("stage 13: MLP.forward is yours to write, see stages/13_transformers/README.md")
        # <<<


class TransformerBlock(Layer):
    """Attention, by which positions learn of each other, then an MLP, by which each works on what it has learnt.

    Both add to what comes in, the residual stream, and read it through a norm of their own (pre-norm). So there is a
    way from the last block back to the first on which nothing is multiplied: gradients come through many blocks.

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
        """(B, T, C) -> (B, T, C): the stream x with what attention adds to it, and then with what the MLP adds to that.

        Attention reads norm1 of x, and the MLP reads norm2 of the stream that attention has added to. What either adds
        goes through `dropout` first; the stream itself never does. x is only read.

        Args:
            mask, cache, layer_idx: handed on to attention, `self.attention(…, mask, cache, layer_idx)`.
        """
        # >>> stage 13: your code
        raise NotImplementedError("stage 13: TransformerBlock.forward is yours to write, see stages/13_transformers/README.md")
        # <<<


class GPT(Layer):
    """A transformer that predicts the next token at each position, from the token there and those before it.

    The table that embeds tokens is the last layer too (tied): the logit of a token is the product of its vector with
    what the blocks made of the position.

    Args:
        vocab_size: the number of tokens.
        embed_dim: features of a position.
        num_layers: the number of blocks.
        num_heads: attention heads in each.
        max_seq_len: its context, the number of positions that it can look at.
        dropout: the probability in the blocks, and after the embedding.

    Attributes:
        tokens: Embedding. positions: PositionalEncoding, learned. dropout: Dropout.
        blocks: list of TransformerBlock, without biases. norm: LayerNorm, the last layer before the logits.

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
        """Draw all matrices, the parameters with two axes, anew: normal numbers, mean 0, standard deviation `std`.

        Those that write into the residual stream, `attention.out.weight` and `mlp.down.weight` of each block, get the
        standard deviation std / √(2 · num_layers): two of them add to the stream in each block, and so the variance at
        its end does not grow with the number of blocks.

        The numbers come from `generator()`. Each parameter stays the Tensor that it is, with the dtype that it has, and
        gets its new values in place; the weights and biases of the norms are left as they are.

        Source: Radford et al. 2019, section 2.3.
        """
        # >>> stage 13: your code
        raise NotImplementedError("stage 13: GPT.initialise is yours to write, see stages/13_transformers/README.md")
        # <<<

    def forward(self, indices: Any, cache: Any = None) -> Tensor:
        """(B, T) indices -> logits (B, T, vocab_size), at each position of the token that comes next.

        The tokens' vectors get those of their positions added and go through `dropout`, the blocks in their order, each
        called as block(x, mask, cache, layer_idx), and `norm`. The logits are the product with the tokens' table,
        (vocab_size, C), turned round. All is made of tensor operations, and gradients reach every parameter.

        No position looks at later ones (`causal_mask`): changing a token leaves all logits before it as they are.

        Args:
            indices: a Tensor, an array or a list of integers; T is at most max_seq_len.
            cache: None; from stage 14 on, what the positions before these left: an object with `length`, their number,
                after which the positions of these begin. It takes care of causality itself: the mask is None then.

        Raises:
            ValueError: indices are not (B, T), and the message names their shape; or there is no such token
                (`token_indices` sees to it), or a position lies beyond max_seq_len.
            TypeError: indices are no integers.

        >>> GPT(vocab_size=5, embed_dim=8, num_layers=2, num_heads=2, max_seq_len=4)([[3, 1, 4]]).shape
        (1, 3, 5)
        """
        # >>> stage 13: your code
        raise NotImplementedError("stage 13: GPT.forward is yours to write, see stages/13_transformers/README.md")
        # <<<

    def generate(self, prompt: Any, max_length: int, temperature: float = 1.0, top_k: int | None = None) -> np.ndarray:
        """Write on from `prompt`, a token at a time, until the text has `max_length` tokens.

        For each token `self.forward` is given the last max_seq_len tokens of the text, or all if there are fewer, as
        (B, T). `sample_tokens` draws the token, a row a text, from the logits of the last position (logits.data, an
        array). All this happens in evaluation mode and inside `no_grad`. Afterwards, also after an error, the model is
        in the mode that it was in.

        Args:
            prompt: (T,) or (B, T) integers, T at least 1, as a Tensor, an array or a list; only read.
            max_length: of the whole text, prompt included. A prompt that is as long or longer comes back as it is.
            temperature, top_k: for `sample_tokens`.

        Returns:
            A new array (max_length,) or (B, max_length) of int64, which begins with the prompt.

        Raises:
            ValueError: the prompt is empty, has other axes, or a token that there is not (`prompt_tokens` sees to it).
        """
        # >>> stage 13: your code
        raise NotImplementedError("stage 13: GPT.generate is yours to write, see stages/13_transformers/README.md")
        # <<<


def next_token_loss(logits: Tensor, targets: Any) -> Tensor:
    """The mean cross-entropy over all positions, in nats: logits (B, T, vocab_size), targets (B, T) -> shape ().

    Gradients reach the logits.

    Args:
        targets: at each position the token that comes next, an integer: a Tensor, an array or a list. The caller has
            moved them by one already: indices = text[:, :-1] and targets = text[:, 1:].

    Raises:
        ValueError: targets are not of the shape (B, T), even if there are B · T of them; the message names both shapes.

    >>> round(next_token_loss(Tensor(np.zeros((1, 2, 5))), [[3, 4]]).item(), 4)  # all equally likely: log 5
    1.6094
    """
    # >>> stage 13: your code
    raise NotImplementedError("stage 13: next_token_loss is yours to write, see stages/13_transformers/README.md")
    # <<<
