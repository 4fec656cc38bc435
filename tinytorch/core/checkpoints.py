"""Writing and reading what a checkpoint holds: nested dicts and lists of numbers, strings and arrays, no pickle.

The file is a zip: one .npy entry for each array, and tree.json, which tells where they hang. So `np.load` opens it
too. After it come 64 hexadecimal digits, the SHA-256 of all bytes before them.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

__all__ = ["read_state", "write_state"]

_TREE = "tree.json"
_DIGITS = 64  # of a SHA-256


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write `state` to `path`, over whatever is there; an error on the way leaves half a file.

    Raises:
        TypeError: something in `state` is no dict with text as keys, list, tuple, array, number, text, bool or None.
    """
    with path.open("w+b") as file:
        with zipfile.ZipFile(file, "w") as archive:
            tree = json.dumps(_put(archive, "state", state))
            archive.writestr(zipfile.ZipInfo(_TREE), tree)
        file.seek(0)
        file.write(_checksum(file.read()))
        file.flush()
        os.fsync(file.fileno())  # a rename that reaches the disk before the content would leave an empty file


def read_state(path: Path) -> dict[str, Any]:
    """What `write_state` wrote to `path`.

    Raises:
        ValueError: the file is damaged, if only in one bit, or no checkpoint.
        FileNotFoundError: there is no such file.
    """
    content = path.read_bytes()
    whole, checksum = content[:-_DIGITS], content[-_DIGITS:]
    if _checksum(whole) != checksum:
        raise ValueError(f"{path} is no whole checkpoint: its checksum is wrong; train anew, or load an older one")
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        return _get(archive, json.loads(archive.read(_TREE)))


def _checksum(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode("ascii")


def _put(archive: zipfile.ZipFile, place: str, value: Any) -> Any:
    """What stands for `value` in the JSON; each array in it becomes an entry of `archive`, named by its place."""
    if isinstance(value, np.ndarray) and not value.dtype.hasobject:
        entry = zipfile.ZipInfo(f"{place}.npy")  # dated 1980: the same state gives the same bytes
        with archive.open(entry, "w", force_zip64=True) as stream:
            np.lib.format.write_array(stream, value, allow_pickle=False)
        return {"array": entry.filename}
    if isinstance(value, dict) and all(isinstance(key, str) for key in value):
        return {"dict": {key: _put(archive, f"{place}/{quote(key, safe='')}", item) for key, item in value.items()}}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_put(archive, f"{place}/{i}", item) for i, item in enumerate(value)]}
    if isinstance(value, np.generic):
        value = value.item()
    if not isinstance(value, (bool, int, float, str, type(None))):
        raise TypeError(f"{place} is a {type(value).__name__}, which a checkpoint cannot hold")
    return {"value": value}


def _get(archive: zipfile.ZipFile, node: dict[str, Any]) -> Any:
    ((kind, content),) = node.items()
    if kind == "array":
        return np.lib.format.read_array(io.BytesIO(archive.read(content)), allow_pickle=False)
    if kind == "dict":
        return {key: _get(archive, item) for key, item in content.items()}
    if kind in ("list", "tuple"):
        return {"list": list, "tuple": tuple}[kind](_get(archive, item) for item in content)
    return content
