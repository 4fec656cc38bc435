"""Writing and reading what a checkpoint holds: nested dicts and lists of numbers, strings and arrays, no pickle."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["read_state", "write_state"]


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path`, an npz file: every array as it is, and the tree that they hang in as JSON."""
    arrays: dict[str, np.ndarray] = {}

    def without_arrays(value: Any) -> Any:
        if isinstance(value, np.ndarray):
            name = f"array{len(arrays)}"
            arrays[name] = value
            return {"array": name}
        if isinstance(value, dict):
            return {"dict": [[key, without_arrays(item)] for key, item in value.items()]}
        if isinstance(value, (list, tuple)):
            return {"list": [without_arrays(item) for item in value]}
        return {"value": value.item() if isinstance(value, np.generic) else value}

    tree = json.dumps(without_arrays(state))
    with path.open("wb") as file:
        np.savez(file, tree=np.frombuffer(tree.encode("utf-8"), np.uint8), **arrays)


def read_state(path: Path) -> dict[str, Any]:
    """What `write_state` wrote to `path`.

    Raises:
        ValueError: the file is damaged; the zip format's checksums cover every byte of every array.
        FileNotFoundError: there is no such file.
    """
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        tree = json.loads(arrays["tree"].tobytes().decode("utf-8"))
        return _with_arrays(tree, arrays)
    except FileNotFoundError:
        raise
    except (zipfile.BadZipFile, ValueError, KeyError, TypeError, EOFError, OSError) as error:
        raise ValueError(f"{path} is no whole checkpoint: {error}") from error


def _with_arrays(node: dict[str, Any], arrays: dict[str, np.ndarray]) -> Any:
    ((kind, content),) = node.items()
    if kind == "array":
        return arrays[content]
    if kind == "dict":
        return {key: _with_arrays(item, arrays) for key, item in content}
    if kind == "list":
        return [_with_arrays(item, arrays) for item in content]
    return content
