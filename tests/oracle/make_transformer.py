"""Makes transformer.json: what PyTorch gives for LayerNorm and a GPT of two layers, in float64, with every gradient.

python tests/oracle/make_transformer.py, with PyTorch installed
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

VOCAB, WIDTH, LAYERS, HEADS, CONTEXT, BATCH = 11, 8, 2, 2, 6, 2
random = np.random.default_rng(13)


def numbers(*shape: int) -> torch.Tensor:
    return torch.tensor((random.normal(size=shape) / 2).round(3), dtype=torch.float64, requires_grad=True)


def plain(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: tensor.detach().numpy().tolist() for name, tensor in tensors.items()}


def gradients(tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return plain({name: tensor.grad for name, tensor in tensors.items()})


def layer_norm(*shape: int, eps: float) -> dict[str, Any]:
    inputs = {"x": numbers(*shape), "weight": numbers(shape[-1]), "bias": numbers(shape[-1])}
    out = F.layer_norm(inputs["x"], shape[-1:], inputs["weight"], inputs["bias"], eps)
    upstream = numbers(*shape)
    out.backward(upstream)
    return {"eps": eps, "upstream": upstream.tolist(), "out": out.tolist()} | {
        "inputs": plain(inputs),
        "gradients": gradients(inputs),
    }


def gpt_weights() -> dict[str, torch.Tensor]:
    weights = {"tokens.weight": numbers(VOCAB, WIDTH), "positions.positions": numbers(CONTEXT, WIDTH)}
    for i in range(LAYERS):
        for part in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            weights[f"blocks.{i}.{part}"] = numbers(WIDTH)
        for part in ("query", "key", "value", "out"):
            weights[f"blocks.{i}.attention.{part}.weight"] = numbers(WIDTH, WIDTH)
        weights[f"blocks.{i}.mlp.up.weight"] = numbers(WIDTH, 4 * WIDTH)
        weights[f"blocks.{i}.mlp.down.weight"] = numbers(4 * WIDTH, WIDTH)
    return weights | {"norm.weight": numbers(WIDTH), "norm.bias": numbers(WIDTH)}


def forward(weights: dict[str, torch.Tensor], indices: torch.Tensor) -> torch.Tensor:
    """A GPT by PyTorch's functions; matrices are (in, out) here, and (out, in) there."""

    def norm(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.layer_norm(x, (WIDTH,), weights[f"{name}.weight"], weights[f"{name}.bias"])

    def linear(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.linear(x, weights[f"{name}.weight"].T)

    x = F.embedding(indices, weights["tokens.weight"]) + weights["positions.positions"][: indices.shape[1]]
    for i in range(LAYERS):
        at = f"blocks.{i}"
        y = norm(x, f"{at}.norm1")
        split = (*y.shape[:2], HEADS, WIDTH // HEADS)
        q, k, v = (linear(y, f"{at}.attention.{n}").reshape(split).transpose(1, 2) for n in ("query", "key", "value"))
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).reshape(y.shape)
        x = x + linear(mixed, f"{at}.attention.out")
        y = F.gelu(linear(norm(x, f"{at}.norm2"), f"{at}.mlp.up"), approximate="tanh")
        x = x + linear(y, f"{at}.mlp.down")
    return F.linear(norm(x, "norm"), weights["tokens.weight"])


def gpt() -> dict[str, Any]:
    weights, text = gpt_weights(), random.integers(0, VOCAB, (BATCH, CONTEXT + 1))
    indices, targets = (torch.tensor(each) for each in (text[:, :-1], text[:, 1:]))
    logits = forward(weights, indices)
    loss = F.cross_entropy(logits.reshape(-1, VOCAB), targets.reshape(-1))
    loss.backward()
    sizes = {"vocab_size": VOCAB, "embed_dim": WIDTH, "num_layers": LAYERS, "num_heads": HEADS, "max_seq_len": CONTEXT}
    return {"torch": torch.__version__, "sizes": sizes, "indices": indices.tolist(), "targets": targets.tolist()} | {
        "logits": logits.tolist(),
        "loss": loss.item(),
        "weights": plain(weights),
        "gradients": gradients(weights),
    }


if __name__ == "__main__":
    norms = [layer_norm(2, 3, 5, eps=1e-5), layer_norm(4, eps=1e-5), layer_norm(3, 8, eps=0.1)]
    made = {"layer norm": norms, "gpt": gpt()}
    path = Path(__file__).with_name("transformer.json")
    path.write_text(json.dumps(made) + "\n", encoding="utf-8", newline="\n")
    print(f"wrote {path.name}")
