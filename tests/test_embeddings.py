"""Embeddings: they agree with PyTorch in float64, and the scatter is right for every size."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ORACLE = json.loads((Path(__file__).parent / "oracle" / "embeddings.json").read_text(encoding="utf-8"))


def relative(got: np.ndarray, expected: np.ndarray) -> float:
    """The largest difference, relative to the largest expected number, or 1."""
    return float(np.abs(got - expected).max() / max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("case", ORACLE["cases"], ids=lambda case: case["name"])
def test_agrees_with_pytorch(tt: ModuleType, case: dict[str, Any]) -> None:
    """Values to 1e-9 and gradients to 1e-8; how the constants were made stands in oracle/make_embeddings.py."""
    weight = np.array(case["weight"])
    layer = tt.Embedding(*weight.shape)
    layer.weight = tt.Tensor(weight, requires_grad=True)
    result = layer(case["indices"])
    if case["tied"]:
        result = result @ layer.weight.T
    result.backward(np.array(case["upstream"]))
    assert result.shape == np.shape(case["result"]) and result.dtype == layer.weight.grad.dtype == np.float64
    assert relative(result.data, np.array(case["result"])) < 1e-9
    assert relative(layer.weight.grad, np.array(case["gradient"])) < 1e-8


SIZES = [(0, 0, 3), (0, 5, 3), (1, 1, 1), (7, 1, 4), (2048, 65, 128), (4096, 255, 8), (4096, 256, 8), (4096, 257, 8)]


@pytest.mark.parametrize("size", [*SIZES, (3000, 65_535, 3), (3000, 65_537, 3), (200, 300_000, 2)], ids=str)
def test_rows_are_summed(tt: ModuleType, size: tuple[int, int, int]) -> None:
    """As np.add.at sums them, for each kind of index, and the same to the last bit each time."""
    n, count, width = size
    random = np.random.default_rng(n + count)
    indices = (random.integers(0, max(count, 1), n) * random.random(n)).astype(int)  # small ones come more often
    rows = random.normal(size=(n, width))
    expected = np.zeros((count, width))
    np.add.at(expected, indices, rows)
    for kind in (np.int64, np.int32, np.uint64):
        sums = tt.sum_rows(indices.astype(kind), rows, count)
        assert sums.shape == expected.shape and np.abs(sums - expected).max(initial=0) < 1e-10
    again = tt.sum_rows(indices, rows.astype(np.float32), count)
    assert again.dtype == np.float32 and np.abs(again - expected).max(initial=0) < 1e-3
    np.testing.assert_array_equal(again, tt.sum_rows(indices, rows.astype(np.float32), count))


def test_every_table_is_drawn_from_the_package_s_generator(tt: ModuleType) -> None:
    """Normal, float32, the same again from the same seed."""
    for make, deviation in ((tt.Embedding, 1.0), (lambda n, d: tt.PositionalEncoding(n, d, learned=True), 0.02)):
        tables = []
        for seed in (1, 1, 2):
            tt.manual_seed(seed)
            ((_, tensor),) = make(300, 40).named_parameters()
            tables.append(tensor.data)
        assert tables[0].shape == (300, 40) and tables[0].dtype == np.float32
        np.testing.assert_array_equal(tables[0], tables[1])
        assert (tables[0] != tables[2]).mean() > 0.99
        assert abs(tables[0].std() / deviation - 1) < 0.03 and abs(tables[0].mean() / deviation) < 0.03
        assert 0.66 < (np.abs(tables[0]) < deviation).mean() < 0.70


def test_what_is_trained_and_saved(tt: ModuleType) -> None:
    """A learned table of positions is a parameter, a fixed one part of the state alone."""
    learned, fixed = tt.PositionalEncoding(5, 4, learned=True), tt.PositionalEncoding(5, 4)
    assert [name for name, _ in learned.named_parameters()] == ["positions"] and fixed.parameters() == []
    np.testing.assert_array_equal(fixed.state_dict()["positions"], tt.create_sinusoidal_embeddings(5, 4))
    assert [name for name, _ in tt.Embedding(5, 4).named_parameters()] == ["weight"]


@pytest.mark.parametrize("kind", ["Embedding", "PositionalEncoding"])
@pytest.mark.parametrize(("sizes", "error"), [((0, 4), ValueError), ((3, -1), ValueError), ((3, 2.0), TypeError)])
def test_sizes_that_make_no_table(tt: ModuleType, kind: str, sizes: tuple[Any, ...], error: type[Exception]) -> None:
    with pytest.raises(error, match=f"{kind}: expected .* to be an integer ≥ 1, got"):
        getattr(tt, kind)(*sizes)
