"""Stage 13's reference, seen from outside its gate: PyTorch's own numbers, depth, memory, what is saved."""

from __future__ import annotations

import gc
import inspect
import json
import sys
import tracemalloc
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from conftest import ROOT

# Made by make_transformer.py, which stands beside it, with PyTorch 2.13.0 in float64.
ORACLE = json.loads((ROOT / "tests" / "oracle" / "transformer.json").read_text(encoding="utf-8"))


def off(found: np.ndarray, expected: Any) -> float:
    """How far two arrays are apart, relative to the largest number."""
    expected = np.array(expected)
    assert found.shape == expected.shape and found.dtype == np.float64
    return float(abs(found - expected).max() / max(1.0, abs(expected).max()))


@pytest.mark.parametrize("case", ORACLE["layer norm"], ids=lambda case: str(np.shape(case["out"])))
def test_layer_norm_is_that_of_pytorch(tt: ModuleType, case: dict[str, Any]) -> None:
    given = {name: tt.Tensor(np.array(value), requires_grad=True) for name, value in case["inputs"].items()}
    layer = tt.LayerNorm(given["x"].shape[-1], case["eps"])
    layer.weight, layer.bias = given["weight"], given["bias"]
    out = layer(given["x"])
    assert off(out.data, case["out"]) < 1e-9
    out.backward(np.array(case["upstream"]))
    for name, gradient in case["gradients"].items():
        assert off(given[name].grad, gradient) < 1e-8, name


def oracle_gpt(tt: ModuleType) -> Any:
    model = tt.GPT(**ORACLE["gpt"]["sizes"])
    named = dict(model.named_tensors())
    assert named.keys() == ORACLE["gpt"]["weights"].keys()
    for name, values in ORACLE["gpt"]["weights"].items():
        named[name].data = np.array(values)
    return model


def test_a_gpt_of_two_layers_is_that_of_pytorch(tt: ModuleType) -> None:
    model, expected = oracle_gpt(tt), ORACLE["gpt"]
    logits = model(expected["indices"])
    assert off(logits.data, expected["logits"]) < 1e-9
    loss = tt.next_token_loss(logits, expected["targets"])
    assert abs(loss.item() - expected["loss"]) < 1e-9
    loss.backward()
    for name, parameter in model.named_parameters():
        assert off(parameter.grad, expected["gradients"][name]) < 1e-8, name


def test_the_table_is_one(tt: ModuleType) -> None:
    """It embeds, makes the logits, is trained and stored once; a saved model loads into another."""
    model, other = tt.GPT(7, 8, 2, 2, 5), tt.GPT(7, 8, 2, 2, 5)
    state = model.state_dict()
    assert [name for name, array in state.items() if array.shape == (7, 8)] == ["tokens.weight"]
    assert sum(parameter.size for parameter in model.parameters()) == sum(array.size for array in state.values())
    other.load_state_dict(state)
    assert np.array_equal(model([[1, 2, 3]]).data, other([[1, 2, 3]]).data)


def test_a_long_chain_through_many_layers_goes_back(tt: ModuleType) -> None:
    """400 characters, 12 layers, and hardly any room for nested calls."""
    tt.manual_seed(0)
    model, text = tt.GPT(30, 8, 12, 2, 400), np.random.default_rng(0).integers(0, 30, (1, 401))
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(len(inspect.stack()) + 60)
    try:
        tt.next_token_loss(model(text[:, :-1]), text[:, 1:]).backward()
    finally:
        sys.setrecursionlimit(before)
    for name, parameter in model.named_parameters():
        assert np.isfinite(parameter.grad).all() and parameter.grad.any(), name


def kept_bytes(forward: Callable[[], Any]) -> int:
    """What `forward` leaves in memory as long as its result is there."""
    forward()
    gc.collect()
    tracemalloc.start()
    try:
        result = forward()
        gc.collect()
        return tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
        del result


def run(tt: ModuleType, blocks: list[Any], x: Any, mask: np.ndarray, checkpointed: bool) -> Any:
    for block in blocks:
        masked = partial(block, mask=mask)
        x = tt.checkpoint(masked, x) if checkpointed else masked(x)
    return x


def test_checkpoints_halve_what_blocks_keep(tt: ModuleType) -> None:
    blocks, mask = [tt.TransformerBlock(32, 4) for _ in range(8)], tt.causal_mask(32)
    x = tt.Tensor(np.ones((8, 32, 32), np.float32), requires_grad=True)
    plain, checkpointed = (kept_bytes(partial(run, tt, blocks, x, mask, way)) for way in (False, True))
    assert plain > 8 * 20 * x.data.nbytes  # what a block keeps is more than 20 times its input
    assert checkpointed < plain / 2


def test_checkpoints_change_no_gradient(tt: ModuleType) -> None:
    tt.manual_seed(1)
    blocks, mask = [tt.TransformerBlock(8, 2, dropout=0.3) for _ in range(3)], tt.causal_mask(5)
    values, upstream = (np.random.default_rng(seed).normal(size=(2, 5, 8)) for seed in (0, 1))
    found = []
    for checkpointed in (False, True):
        tt.manual_seed(2)
        x = tt.Tensor(values, requires_grad=True)
        run(tt, blocks, x, mask, checkpointed).backward(upstream)
        parameters = [parameter for block in blocks for parameter in block.parameters()]
        found.append([x.grad, *(parameter.grad for parameter in parameters)])
        for parameter in parameters:
            parameter.grad = None
    assert all(np.allclose(a, b, rtol=0, atol=1e-6) for a, b in zip(*found))
    assert np.allclose(found[0][0], found[1][0], rtol=0, atol=1e-12)  # x is float64


def test_writing_records_nothing(tt: ModuleType) -> None:
    """No result of an operation gets a rule, though all parameters require gradients."""
    model, recorded = tt.GPT(7, 8, 2, 2, 4), []
    with tt.watch(lambda name, result, inputs, saved: recorded.append(result.grad_fn is not None)):
        model.generate([1, 2, 3], 8)
        written = len(recorded)
        model([[1, 2, 3]])
    assert written and not any(recorded[:written]) and any(recorded[written:])
