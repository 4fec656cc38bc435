"""What a checkpoint holds: `write_state` and `read_state`, given code of stage 07."""

from __future__ import annotations

import importlib
import zipfile
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

ARRAYS = {
    "weights": np.arange(6.0).reshape(2, 3),
    "mask": np.array([True, False]),
    "half": np.float32([0.1]),
    "number": np.array(7, dtype=np.int8),
    "none": np.zeros((0, 2)),
    "columns": np.asfortranarray(np.arange(6).reshape(2, 3)),
}
PLAIN = {
    "a/b %": 1,
    "": -0.5,
    "list": [1, "two", None, True],
    "tuple": (0.9, (2,)),
    "deep": {"er": [{}, ()]},
    "inf": 1e999,
}


@pytest.fixture
def checkpoints(tt: ModuleType) -> ModuleType:
    return importlib.import_module("tinytorch.core.checkpoints")


def test_what_is_written_is_read(checkpoints: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    checkpoints.write_state(path, PLAIN | ARRAYS)
    found = checkpoints.read_state(path)
    assert [*found] == [*PLAIN, *ARRAYS] and {name: found[name] for name in PLAIN} == PLAIN
    for name, array in ARRAYS.items():
        assert (
            found[name].dtype == array.dtype and np.array_equal(found[name], array) and found[name].shape == array.shape
        )
    first = path.read_bytes()
    checkpoints.write_state(path, PLAIN | ARRAYS)
    assert path.read_bytes() == first  # the same state gives the same bytes
    checkpoints.write_state(path, {})  # a shorter one leaves nothing of the longer one
    assert checkpoints.read_state(path) == {}


def test_numbers_of_numpy_become_those_of_python(checkpoints: ModuleType, tmp_path: Path) -> None:
    checkpoints.write_state(tmp_path / "file", {"n": np.int64(3), "x": np.float32(0.5), "b": np.bool_(True)})
    found = checkpoints.read_state(tmp_path / "file")
    assert found == {"n": 3, "x": 0.5, "b": True} and [type(each) for each in found.values()] == [int, float, bool]


def test_numpy_opens_it_too(checkpoints: ModuleType, tmp_path: Path) -> None:
    checkpoints.write_state(tmp_path / "file.npz", {"model": {"a/b": np.arange(3)}, "epoch": 2})
    with zipfile.ZipFile(tmp_path / "file.npz") as archive:
        assert archive.namelist() == ["state/model/a%2Fb.npy", "tree.json"]
    assert np.load(tmp_path / "file.npz")["state/model/a%2Fb"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"model": {"w": [0, object()]}}, "state/model/w/1 is a object, which a checkpoint cannot hold"),
        ({"model": {"w": np.array([None])}}, "state/model/w is a ndarray, which a checkpoint cannot hold"),
        ({"optimizer": {3: 0.5}}, "state/optimizer is a dict, which a checkpoint cannot hold"),
        ({"note": b"bytes"}, "state/note is a bytes, which a checkpoint cannot hold"),
    ],
)
def test_what_it_cannot_hold_is_named_by_its_place(
    checkpoints: ModuleType, tmp_path: Path, value: Any, says: str
) -> None:
    with pytest.raises(TypeError) as raised:
        checkpoints.write_state(tmp_path / "file", value)
    assert str(raised.value) == says


def test_every_wrong_bit_is_seen(checkpoints: ModuleType, tmp_path: Path) -> None:
    path = tmp_path / "file"
    checkpoints.write_state(path, {"epoch": 2, "w": np.zeros(2)})
    content = path.read_bytes()
    wrong = [content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :] for at in range(len(content))]
    for changed in [*wrong, content[:-1], content[1:], content + b"0", b"", content[-64:]]:
        path.write_bytes(changed)
        with pytest.raises(ValueError, match="checksum is wrong"):
            checkpoints.read_state(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        checkpoints.read_state(path)
