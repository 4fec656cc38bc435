"""What a gate is written with: checks that compare values, and say what came, what was expected and where.

A gate talks to `tinytorch` through its public names alone. Each check takes what the student's code gave
(a Tensor, an array, a number, a string, an exception) and judges its value. `CheckFailed` carries what was
observed, by which known mistakes are recognised. Tables of cases are made with `workshop/tables.py`; what
needs the door, gradients or memory stands in `workshop/probes.py`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest

from workshop.observe import observation

NOTHING = "None: the function returned nothing; is there a `return`?"


class CheckFailed(AssertionError):
    """A check that does not hold.

    Attributes:
        lines: what a person reads, a line each.
        seen: what was observed, as `observation` puts it.
        number: which check of its test, or of its case in a table, it is, counted from 1.
    """

    def __init__(self, lines: Sequence[str], seen: Any) -> None:
        super().__init__("\n".join(lines))
        self.lines, self.seen, self.number = list(lines), observation(seen), count.checks


class Count(threading.local):
    """What runs now, in each thread: how many checks were begun in this test or case, and what a case was given."""

    checks = 0
    given = ""


count = Count()


def exercise(symbol: str, says: str = "") -> pytest.MarkDecorator:
    """Marks a test as one about the exercise `symbol`; `says`, or its docstring's first line, says what must hold."""
    return pytest.mark.exercise(symbol, says)


def equal(got: Any, expected: Any, what: str, given: str = "") -> None:
    """Exactly the same value: for numbers, strings, tuples, None and integer arrays.

    Args:
        what: names the value, as in "x.shape".
        given: what it was made from, as in "x = Tensor([1, 2])".
    """
    count.checks += 1
    value = plain(got)
    same = type(value) is type(expected) or not isinstance(expected, (bool, str, tuple, type(None)))
    if isinstance(expected, np.ndarray):
        return _arrays(value, expected, what, given, tolerance=0.0)
    if not (same and _bool(value == expected)):
        raise CheckFailed(_lines(given, f"{what} = {expected!r}", _show(value)), value)


def close(got: Any, expected: Any, what: str, given: str = "", tolerance: float = 1e-5, dtype: Any = None) -> None:
    """The same numbers in the same shape, to within `tolerance` relative to the largest expected one, or 1.

    Args:
        dtype: if given, the dtype that the result must have.
    """
    count.checks += 1
    _arrays(plain(got), np.asarray(expected), what, given, tolerance, dtype)


def ratio(
    got: float,
    what: str,
    of: str,
    at_most: float = np.inf,
    at_least: float = -np.inf,
    given: str = "",
    seen: Any = None,
) -> None:
    """One number divided by another lies between two bounds, as in "bytes allocated, divided by those of the result".

    Args:
        got: the ratio.
        what, of: name the two numbers.
        seen: what is observed; the ratio to one digit by default, since measured ones differ from run to run.
    """
    count.checks += 1
    if not at_least <= got <= at_most:
        bound = f"at most {at_most:g}" if got > at_most else f"at least {at_least:g}"
        lines = _lines(given, f"{what}, divided by {of}: {bound}", f"a ratio of {got:.3g}")
        raise CheckFailed(lines, float(f"{got:.0e}") if seen is None else seen)


def holds(condition: Any, expected: str, got: Any, given: str = "") -> None:
    """`condition` is true; `expected` is the sentence that says so, `got` what was found instead."""
    count.checks += 1
    if not _bool(condition):
        raise CheckFailed(_lines(given, expected, got if isinstance(got, str) else _show(plain(got))), plain(got))


def raises(kinds: Any, action: Callable[[], Any], given: str, mentions: Sequence[Any] = ()) -> Exception:
    """`action` raises one of `kinds`, with a message that mentions each of `mentions`; returns that error."""
    count.checks += 1
    names = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
    try:
        result = plain(action())
    except NotImplementedError:  # a stub's own, which is no answer to bad input
        raise
    except kinds as error:
        missing = [str(part) for part in mentions if str(part) not in str(error)]
        if missing:
            expected = f"a {names} whose message names {', '.join(missing)}"
            raise CheckFailed(_lines(given, expected, f"{type(error).__name__}: {error}"), error) from None
        return error
    except Exception as error:
        raise CheckFailed(_lines(given, f"a {names}", f"{type(error).__name__}: {error}"), error) from None
    got = "no error" if result is None else f"no error, but {_show(result)}"
    raise CheckFailed(_lines(given, f"a {names}", got), {"no error": observation(result)})


def plain(value: Any) -> Any:
    """A Tensor's array; anything else as it is."""
    data = getattr(value, "data", None)
    return data if isinstance(data, np.ndarray) and not isinstance(value, np.ndarray) else value


def shown(value: Any) -> str:
    """A value as it stands in a line of `given`: up to eight numbers as they are, of more the shape."""
    if isinstance(value, (np.ndarray, np.generic, list)) and np.asarray(value).dtype.kind in "biuf":
        array = np.asarray(value)
        return _show(array) if 0 < array.size <= 8 else f"an array {array.shape}"
    return _show(value)


def _bool(value: Any) -> bool:
    return bool(np.all(value))


def _arrays(got: Any, expected: np.ndarray, what: str, given: str, tolerance: float, dtype: Any = None) -> None:
    """Raise unless `got` has the shape, the dtype and the numbers wanted."""
    if not isinstance(got, (np.ndarray, np.generic, int, float)):
        raise CheckFailed(_lines(given, f"{what} = {_show(expected)}", _show(got)), got)
    array = np.asarray(got)
    if array.shape != expected.shape:
        wanted = f"{what} of shape {expected.shape}, {_show(expected)}"
        raise CheckFailed(_lines(given, wanted, f"shape {array.shape}, {_show(array)}"), array)
    if dtype is not None and array.dtype != dtype:
        raise CheckFailed(_lines(given, f"{what} of dtype {np.dtype(dtype)}", f"dtype {array.dtype}"), array)
    if array.size == 0:
        return
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.abs(expected[np.isfinite(expected)].astype(np.float64))
        bound = tolerance * max(1.0, finite.max(initial=0.0))
        same = (np.abs(array.astype(np.float64) - expected) <= bound) | (array == expected)
        same |= np.isnan(array) & np.isnan(expected)
    if not same.all():
        raise CheckFailed(_difference(array, expected, same, what, given), array)


def _difference(array: np.ndarray, expected: np.ndarray, same: np.ndarray, what: str, given: str) -> list[str]:
    """The lines that tell two arrays apart."""
    right, came = _apart(lambda digits: (_show(expected, digits), _show(array, digits)))
    lines = _lines(given, f"{what} = {right}", came)
    if array.size > 1:
        first = tuple(int(i) for i in np.argwhere(~same)[0])
        right, came = _apart(lambda digits: (f"{expected[first]:.{digits}g}", f"{array[first]:.{digits}g}"))
        lines.append(f"first differs at {list(first)}: expected {right}, got {came}")
    return lines


def _apart(texts: Callable[[int], tuple[str, str]]) -> tuple[str, str]:
    """Two numbers, or arrays of them, with as many digits as show that they differ."""
    for digits in (5, 7, 10, 17):
        right, came = texts(digits)
        if right != came:
            break
    return right, came


def _lines(given: str, expected: str, got: str) -> list[str]:
    given = given or count.given
    return ([f"given     {given}"] if given else []) + [f"expected  {expected}", f"got       {got}"]


def _show(value: Any, digits: int = 5) -> str:
    """A value in a line or two."""
    if value is None:
        return NOTHING
    if isinstance(value, (np.ndarray, np.generic)):
        value = np.asarray(value)
        options: dict[str, Any] = {"separator": ", ", "threshold": 12, "edgeitems": 2, "max_line_width": 10**6}
        text = " ".join(np.array2string(value, precision=digits, **options).split())
        return text if len(text) <= 110 else f"{text[:107]}…"
    return f"{value!r:.110}"
