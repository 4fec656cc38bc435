"""Stage 12's reference, seen from outside its gate: PyTorch's own numbers, and what attention in blocks holds."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest
from conftest import ROOT
from warm import run_python

ORACLE = ROOT / "tests" / "oracle" / "attention.json"  # made by make_attention.py beside it

START = """
import json, sys, tracemalloc
import numpy as np
from tinytorch import (
    MultiHeadAttention, Tensor, attention_in_blocks, causal_mask, scaled_dot_product_attention
)

def leaf(values):
    return Tensor(np.array(values, np.float64), requires_grad=True)

def far(got, expected):
    expected = np.array(expected)
    assert got.dtype == np.float64 and got.shape == expected.shape
    return float(np.abs(got - expected).max())

def normal(*shape, seed=0, dtype=np.float64):
    return Tensor(np.random.default_rng(seed).normal(size=shape).astype(dtype))
"""


def in_reference(code: str, given: Any = None) -> Any:
    """What `code`, with the helpers above and `given`, hands to `json.dumps`, in a process with one BLAS thread."""
    whole, settings = f"{START}\ngiven = json.load(sys.stdin)\n{code}", os.environ | {"OPENBLAS_NUM_THREADS": "1"}
    done = run_python("-c", whole, cwd=ROOT / "solutions", environment=settings, script=json.dumps(given))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def oracle(what: str) -> dict[str, Any]:
    return json.loads(ORACLE.read_text(encoding="utf-8"))[what]


@pytest.mark.parametrize("case", oracle("attention"))
def test_attention_is_pytorchs(case: str) -> None:
    """The result to 1e-9, and every gradient to 1e-8, in float64."""
    result, gradients = in_reference(
        """
tensors = {name: leaf(given[name]) for name in ("Q", "K", "V")}
mask = causal_mask(len(given["Q"][0][0])) if given["causal"] else None
if "mask" in given:
    mask = np.array(given["mask"])
    if mask.dtype != bool:
        mask = tensors["mask"] = leaf(mask)
out = scaled_dot_product_attention(*[tensors[name] for name in "QKV"], mask)
out.backward(np.array(given["upstream"]))
apart = {name: far(tensors[name].grad, gradient) for name, gradient in given["gradients"].items()}
print(json.dumps([far(out.data, given["out"]), apart]))
""",
        oracle("attention")[case],
    )
    assert result < 1e-9
    assert set(gradients) == {"Q", "K", "V"} | ({"mask"} if case == "additive mask" else set())
    assert max(gradients.values()) < 1e-8, gradients


@pytest.mark.parametrize("case", oracle("multi-head"))
def test_multi_head_attention_is_pytorchs(case: str) -> None:
    """With the same weights: the result to 1e-9, the gradients of x and of all eight parameters to 1e-8, in float64."""
    result, gradients = in_reference(
        """
layer, x = MultiHeadAttention(6, 2), leaf(given["x"])
named = dict(layer.named_parameters())
for name, tensor in named.items():
    tensor.data = np.array(given["weights"][name])
out = layer(x, causal_mask(4) if given["causal"] else None)
out.backward(np.array(given["upstream"]))
apart = {name: far((named | {"x": x})[name].grad, gradient) for name, gradient in given["gradients"].items()}
print(json.dumps([far(out.data, given["out"]), apart]))
""",
        oracle("multi-head")[case],
    )
    assert result < 1e-9
    assert len(gradients) == 9 and max(gradients.values()) < 1e-8, gradients


def test_blocks_of_every_size() -> None:
    """Equal to attention to 1e-6 with blocks of 1 to n + 1 keys, in float32, causal or not."""
    apart = in_reference(
        """
n, apart = 17, []
Q, K, V = (normal(2, 3, n, 8, seed=seed, dtype=np.float32) for seed in range(3))
for causal in (False, True):
    right = scaled_dot_product_attention(Q, K, V, causal_mask(n) if causal else None).data
    apart += [float(np.abs(attention_in_blocks(Q, K, V, b, causal).data - right).max()) for b in range(1, n + 2)]
print(json.dumps(apart))
"""
    )
    assert len(apart) == 36 and max(apart) < 1e-6, apart


def test_blocks_take_memory_linear_in_the_length() -> None:
    """Twice the length takes twice the memory in blocks, and four times as much where all scores are held."""
    blocks, whole, scores = in_reference(
        """
def peak(action):
    action()
    tracemalloc.start()
    action()
    found = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return found

peaks = []
for n in (512, 1024, 2048):
    Q, K, V = (normal(n, 32, seed=seed, dtype=np.float32) for seed in range(3))
    mask = causal_mask(n)
    peaks.append([
        max(peak(lambda: attention_in_blocks(Q, K, V, 64, causal)) for causal in (False, True)),
        peak(lambda: scaled_dot_product_attention(Q, K, V, mask)),
        4 * n * n,
    ])
print(json.dumps(list(zip(*peaks))))
"""
    )
    for shorter, longer in zip(blocks, blocks[1:]):
        assert 1.8 < longer / shorter < 2.2, blocks
    for shorter, longer in zip(whole, whole[1:]):
        assert 3.5 < longer / shorter < 4.5, whole
    assert blocks[-1] < scores[-1] / 4 and whole[-1] > scores[-1], (blocks, whole)
