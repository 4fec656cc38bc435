"""What a check observed, in a form that can be stored, and compared without regard to the last bits."""

from __future__ import annotations

import math
import re
from typing import Any

_SAMPLES = 6


def observation(value: Any) -> dict[str, Any]:
    """A small summary of `value`: of an array its shape, dtype and a few numbers, of an error its kind and message."""
    import numpy as np  # late: who only compares observations starts faster without

    if isinstance(value, dict):
        return value  # an observation already
    if isinstance(value, BaseException):
        return {"raised": type(value).__name__, "says": _without_numbers(str(value))}
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "biuf":
        array = np.asarray(value, dtype=np.float64).ravel()
        picked = array[np.linspace(0, array.size - 1, min(array.size, _SAMPLES)).astype(int)] if array.size else array
        with np.errstate(all="ignore"):
            numbers = [*picked, array.sum(), np.abs(array).sum()]
        return {"shape": list(value.shape), "dtype": str(value.dtype), "numbers": [_rounded(n) for n in numbers]}
    if isinstance(value, (bool, int, float)):
        return {"number": _rounded(value)}
    return {"is": _without_numbers(repr(value))}


def is_rich(seen: dict[str, Any]) -> bool:
    """Whether an observation tells more than that something is missing: it is no error, and not all 0 or 1."""
    seen = seen.get("no error", seen)
    if "raised" in seen or "is" in seen:
        return False
    numbers = {
        str(abs(number)) if isinstance(number, (int, float)) else number for number in seen.get("numbers", [])[:-2]
    }
    numbers |= {str(abs(seen["number"]))} if isinstance(seen.get("number"), (int, float)) else set()
    return bool(numbers - {"0", "1", "0.0", "1.0", "nan", "inf", "-inf"})


def alike(a: dict[str, Any], b: dict[str, Any]) -> bool:
    """Whether two observations are the same but for last bits."""
    if a.keys() != b.keys():
        return False
    return all(_alike(a[key], b[key]) for key in a)


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return alike(a, b)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(_alike(x, y) for x, y in zip(a, b))
    if isinstance(a, (int, float)) and isinstance(b, (int, float)):
        return math.isclose(a, b, rel_tol=2e-3, abs_tol=1e-6)
    return a == b


def _rounded(number: Any) -> float | str:
    """Four digits; JSON has no infinities, so they go as text."""
    number = float(number)
    return float(f"{number:.4g}") if math.isfinite(number) else str(number)


def _without_numbers(text: str) -> str:
    """The first line, without folders, and with its numbers and addresses masked: they differ between machines."""
    line = re.sub(r"[^\s'\"]*[/\\]+(?=[^\s'\"/\\])", "", text.splitlines()[0] if text else "")
    return re.sub(r"0x[0-9a-f]+|\d+(\.\d+)?", "#", line)[:100]
