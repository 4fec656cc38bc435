"""Stage 01: which array, and which dtype, a tensor makes of the numbers that it is given."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["as_array"]


def as_array(data: Any, dtype: Any = None) -> np.ndarray:
    """A new NumPy array of `data`, with the dtype that the package's conventions give it.

    What has a `dtype`, an array, a NumPy scalar or a Tensor, keeps it (float64 stays float64, integers stay integers),
    also inside lists of any depth, where the first element decides. Python floats become float32, Python integers
    int64, Python booleans bool; a list that mixes integers with floats holds floats, and an empty list does too.

    Args:
        data: a number, a (nested) list or tuple of numbers, or an array. The result never shares its memory.
        dtype: a NumPy dtype, or its name; if given, it decides.

    Raises:
        ValueError: a nested list whose rows differ in length; the message shows it.
        TypeError: anything else than real numbers, such as text, None or complex numbers; the message shows it. Also
            when `dtype` is given: NumPy would make 1.5 of "1.5" then, and NaN of None.

    >>> as_array([1.5, 2]).dtype, as_array([1, 2]).dtype, as_array(np.float64(3)).dtype
    (dtype('float32'), dtype('int64'), dtype('float64'))
    >>> np.array("1.5").dtype.kind, np.array([None]).dtype.kind, np.array([True]).dtype.kind
    ('U', 'O', 'b')
    """
    # >>> stage 01: your code
    raise NotImplementedError("stage 01: as_array is yours to write, see stages/01_tensor/README.md")
    # <<<


def whole_number(owner: str, name: str, value: Any, least: int) -> int:
    """`value` as an int, if it is an integer from `least` on; `owner` and `name` say in an error whose setting it is.

    Raises:
        TypeError: it is no integer, as 1.5, 2.0, "2" and True are none.
        ValueError: it is below `least`.
    """
    kind = ValueError if isinstance(value, (int, np.integer)) and not isinstance(value, bool) else TypeError
    if kind is TypeError or value < least:
        raise kind(f"{owner}: expected {name} to be an integer ≥ {least}, got {value!r}")
    return int(value)


def number_dtype(value: Any, like: np.dtype) -> np.dtype | None:
    """The dtype of a single number beside an array of dtype `like`: the same, or float32 for a float among integers.

    None where `as_array` decides: for anything with axes, and beside booleans.
    """
    if np.ndim(value) or like.kind not in "if":
        return None
    is_float = isinstance(value, (float, np.floating))
    return np.dtype(np.float32) if is_float and like.kind == "i" else like
