"""Makes attention.json: what PyTorch gives for attention, in float64, with every gradient. Needs PyTorch.

python tests/oracle/make_attention.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

HEADS, FEATURES = 2, 6
random = np.random.default_rng(12)


def numbers(*shape: int) -> torch.Tensor:
    return torch.tensor(random.normal(size=shape).round(3), dtype=torch.float64)


def plain(values: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {name: tensor.detach().numpy().tolist() for name, tensor in values.items()}


def one_head(queries: int, keys: int, mask: torch.Tensor | None = None, causal: bool = False) -> dict[str, Any]:
    """Inputs, the gradient that comes from above, the result, and the gradients of all that has one."""
    inputs = {"Q": numbers(2, 2, queries, 3), "K": numbers(2, 2, keys, 3), "V": numbers(2, 2, keys, 2)}
    if mask is not None:
        inputs["mask"] = mask
    leaves = {name: tensor.requires_grad_() for name, tensor in inputs.items() if tensor.dtype == torch.float64}
    given = (inputs["Q"], inputs["K"], inputs["V"])
    out = torch.nn.functional.scaled_dot_product_attention(*given, attn_mask=mask, is_causal=causal)
    upstream = numbers(*out.shape)
    out.backward(upstream)
    gradients = {name: tensor.grad for name, tensor in leaves.items() if tensor.grad is not None}
    return plain({**inputs, "upstream": upstream, "out": out}) | {"gradients": plain(gradients), "causal": causal}


def several_heads(causal: bool) -> dict[str, Any]:
    """torch.nn.MultiheadAttention; its weights are (out, in), and the first three stand in one."""
    layer = torch.nn.MultiheadAttention(FEATURES, HEADS, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(numbers(*parameter.shape))
    x, forbidden = numbers(2, 4, FEATURES).requires_grad_(), torch.ones(4, 4, dtype=torch.bool).triu(1)
    out, _ = layer(x, x, x, attn_mask=forbidden if causal else None, need_weights=False)
    upstream = numbers(*out.shape)
    out.backward(upstream)
    weights, gradients = {}, {"x": x.grad}
    for into, part in ((weights, lambda tensor: tensor), (gradients, lambda tensor: tensor.grad)):
        for i, name in enumerate(("query", "key", "value")):
            rows = slice(i * FEATURES, (i + 1) * FEATURES)
            into[f"{name}.weight"] = part(layer.in_proj_weight)[rows].T
            into[f"{name}.bias"] = part(layer.in_proj_bias)[rows]
        into["out.weight"], into["out.bias"] = part(layer.out_proj.weight).T, part(layer.out_proj.bias)
    return {
        **plain({"x": x, "upstream": upstream, "out": out}),
        "weights": plain(weights),
        "gradients": plain(gradients),
        "causal": causal,
    }


def main() -> None:
    seen = torch.tensor([[True, False, True, True, False], [False, True, False, False, False], [True] * 5])
    made = {
        "made with": f"PyTorch {torch.__version__}, float64",
        "attention": {
            "no mask": one_head(3, 5),
            "boolean mask": one_head(3, 5, seen),
            "additive mask": one_head(3, 5, numbers(2, 1, 3, 5)),
            "causal": one_head(4, 4, causal=True),
        },
        "multi-head": {"no mask": several_heads(False), "causal": several_heads(True)},
    }
    path = Path(__file__).with_name("attention.json")
    path.write_text(json.dumps(made, indent=None) + "\n", encoding="utf-8")
    print(f"wrote {path.name}, {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
