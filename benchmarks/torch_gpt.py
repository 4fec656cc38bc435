"""The GPT of stage 13 in PyTorch, as its users write it: one product for Q, K and V, PyTorch's own fused attention."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn


class Block(nn.Module):
    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm1, self.norm2 = nn.LayerNorm(embed_dim), nn.LayerNorm(embed_dim)
        self.qkv, self.out = (
            nn.Linear(embed_dim, 3 * embed_dim, bias=False),
            nn.Linear(embed_dim, embed_dim, bias=False),
        )
        self.up, self.down = (
            nn.Linear(*sizes, bias=False) for sizes in [(embed_dim, 4 * embed_dim), (4 * embed_dim, embed_dim)]
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        B, T, C = x.shape
        parts = self.qkv(self.norm1(x)).split(C, dim=2)
        q, k, v = (part.view(B, T, self.num_heads, -1).transpose(1, 2) for part in parts)  # (B, heads, T, head_dim)
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(B, T, C))
        return x + self.down(F.gelu(self.up(self.norm2(x)), approximate="tanh"))


class TorchGPT(nn.Module):
    """With the weights of `ours`, a GPT of tinytorch."""

    def __init__(self, ours: Any) -> None:
        super().__init__()
        vocab_size, embed_dim = ours.tokens.weight.shape
        self.tokens, self.positions = nn.Embedding(vocab_size, embed_dim), nn.Embedding(ours.max_seq_len, embed_dim)
        self.blocks = nn.ModuleList([Block(embed_dim, ours.num_heads) for _ in ours.blocks])
        self.norm = nn.LayerNorm(embed_dim)
        self.take_over(ours)

    def take_over(self, ours: Any) -> None:
        """The weights of `ours`: a Linear's are (in_features, out_features) there, and the other way round here."""
        state = {
            "tokens.weight": ours.tokens.weight.data,
            "positions.weight": ours.positions.positions.data,
            "norm.weight": ours.norm.weight.data,
            "norm.bias": ours.norm.bias.data,
        }
        for i, block in enumerate(ours.blocks):
            attention = block.attention
            for name, norm in (("norm1", block.norm1), ("norm2", block.norm2)):
                state |= {f"blocks.{i}.{name}.weight": norm.weight.data, f"blocks.{i}.{name}.bias": norm.bias.data}
            packed = torch.cat(
                [torch.tensor(part.weight.data.T) for part in (attention.query, attention.key, attention.value)]
            )
            linear = {"qkv": packed, "out": attention.out.weight.data.T, "up": block.mlp.up.weight.data.T}
            linear["down"] = block.mlp.down.weight.data.T
            state |= {f"blocks.{i}.{name}.weight": weight for name, weight in linear.items()}
        self.load_state_dict({name: torch.as_tensor(value) for name, value in state.items()})

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        """(B, T) -> logits (B, T, vocab_size)."""
        x = self.tokens(indices) + self.positions(torch.arange(indices.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.norm(x) @ self.tokens.weight.T
