"""What a gate is written with: checks that compare values, and say what came, what was expected and where.

A gate talks to `tinytorch` through its public names alone. Each check takes what the student's code gave
(a Tensor, an array, a number, a string, an exception) and judges its value. A test fails at its first
check that does not hold; `CheckFailed` carries what was observed, by which known mistakes are recognised.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workshop.observe import observation


class CheckFailed(AssertionError):
    """A check that does not hold.

    Attributes:
        lines: what a person reads, a line each.
        seen: what was observed, as `observation` puts it.
        number: which check of its test it is, counted from 1.
    """

    def __init__(self, lines: Sequence[str], seen: Any) -> None:
        super().__init__("\n".join(lines))
        self.lines, self.seen, self.number = list(lines), observation(seen), count.checks


count = SimpleNamespace(checks=0)  # checks begun in the test that runs


def exercise(symbol: str) -> pytest.MarkDecorator:
    """Marks a test as one about the exercise `symbol`; its docstring's first line says what must hold."""
    return pytest.mark.exercise(symbol)


def equal(got: Any, expected: Any, what: str, given: str = "") -> None:
    """Exactly the same value: for numbers, strings, tuples, None and integer arrays.

    Args:
        what: names the value, as in "x.shape".
        given: what it was made from, as in "x = Tensor([1, 2])".
    """
    count.checks += 1
    plain = _plain(got)
    same = type(plain) is type(expected) or not isinstance(expected, (bool, str, tuple, type(None)))
    if isinstance(expected, np.ndarray):
        return _arrays(plain, expected, what, given, tolerance=0.0)
    if not (same and _bool(plain == expected)):
        raise CheckFailed(_lines(given, f"{what} = {expected!r}", _show(plain)), plain)


def close(got: Any, expected: Any, what: str, given: str = "", tolerance: float = 1e-5, dtype: Any = None) -> None:
    """The same numbers in the same shape, to within `tolerance` relative to the largest expected one, or 1.

    Args:
        dtype: if given, the dtype that the result must have.
    """
    count.checks += 1
    _arrays(_plain(got), np.asarray(expected), what, given, tolerance, dtype)


def holds(condition: Any, expected: str, got: Any, given: str = "") -> None:
    """`condition` is true; `expected` is the sentence that says so, `got` what was found instead."""
    count.checks += 1
    if not _bool(condition):
        raise CheckFailed(_lines(given, expected, got if isinstance(got, str) else _show(_plain(got))), _plain(got))


def raises(kinds: Any, action: Callable[[], Any], given: str, mentions: Sequence[Any] = ()) -> None:
    """`action` raises one of `kinds`, with a message that mentions each of `mentions` (shapes, names, numbers)."""
    count.checks += 1
    names = " or ".join(kind.__name__ for kind in (kinds if isinstance(kinds, tuple) else (kinds,)))
    try:
        result = _plain(action())
    except NotImplementedError:  # a stub's own, which is no answer to bad input
        raise
    except kinds as error:
        missing = [str(part) for part in mentions if str(part) not in str(error)]
        if missing:
            expected = f"a {names} whose message names {', '.join(missing)}"
            raise CheckFailed(_lines(given, expected, f"{type(error).__name__}: {error}"), error) from None
        return
    except Exception as error:
        raise CheckFailed(_lines(given, f"a {names}", f"{type(error).__name__}: {error}"), error) from None
    raise CheckFailed(_lines(given, f"a {names}", f"no error, but {_show(result)}"), result)


def gradients_match(
    function: Callable[..., Any],
    *arrays: np.ndarray,
    given: str,
    names: str = "xyzuvw",
    tolerance: float = 1e-6,
    eps: float = 1e-5,
) -> None:
    """The gradients of `function(*tensors)` equal central differences in float64, element by element.

    The upstream gradient is random, of size 0.5 to 2: an all-ones one hides a rule that ignores it. Counts one check
    per array.

    Args:
        function: takes Tensors, gives a Tensor.
        arrays: the values to differentiate at; kept away from kinks by the caller.
        names: one letter per array, for the message.
    """
    from tinytorch import Tensor

    arrays = tuple(np.array(array, dtype=np.float64) for array in arrays)
    tensors = [Tensor(array, requires_grad=True) for array in arrays]
    result = function(*tensors)
    random, shape = np.random.default_rng(7), np.shape(_plain(result))
    upstream = random.uniform(0.5, 2, shape) * random.choice([-1.0, 1.0], shape)
    result.backward(upstream)

    def value(*values: np.ndarray) -> float:
        return float(np.sum(_plain(function(*map(Tensor, values))) * upstream))

    for position, array in enumerate(arrays):
        expected = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            step = np.zeros_like(array)
            step[index] = eps
            ends = (value(*arrays[:position], array + sign * step, *arrays[position + 1 :]) for sign in (1, -1))
            expected[index] = (next(ends) - next(ends)) / (2 * eps)
        what = f"{names[position]}.grad (central differences)"
        close(tensors[position].grad, expected, what, given, tolerance, dtype=np.float64)


def through_door(
    function: Callable[[], Any], op: str, inputs: Sequence[Any], saved: Sequence[str] = (), given: str = ""
) -> None:
    """`function` returns its result through `result_of`, as operation `op` made from `inputs`, saving `saved`.

    Without it nothing could remember the operation, and stage 05 would find no way back through it.
    `inputs` must require gradients.
    """
    expected = f'the result through the door: result_of("{op}", …)'
    name, sources, keep = at_the_door(function, given)
    if name != op:
        raise CheckFailed(_lines(given, expected, f'the door was used as result_of("{name}", …)'), f"door {name}")
    if len(sources) != len(inputs) or any(source is not tensor for source, tensor in zip(sources, inputs)):
        got = f"{len(sources)} inputs, not these" if len(sources) == len(inputs) else f"{len(sources)} inputs"
        raise CheckFailed(_lines(given, f"{expected} with the {len(inputs)} tensors it was made from", got), got)
    missing = [word for word in saved if word not in keep]
    if missing:
        expected = f'result_of("{op}", …) saving {", ".join(f"{word}=…" for word in missing)} for the rule'
        raise CheckFailed(_lines(given, expected, f"saved: {', '.join(keep) or 'nothing'}"), f"saved {sorted(keep)}")


def at_the_door(function: Callable[[], Any], given: str = "") -> tuple[Any, tuple[Any, ...], dict[str, Any]]:
    """The name, the inputs and the saved values of the operation by which `function` came to its result."""
    from tinytorch.core.tensor import plug_in

    calls: list[tuple[Any, ...]] = []
    before = plug_in(SimpleNamespace(record=lambda *call: calls.append(call)))
    try:
        result = function()
    finally:
        plug_in(before)
    came = bool(calls) and calls[-1][1] is result
    holds(came, "a result that comes through the door, result_of(…)", "a tensor that did not come through it", given)
    op, _, inputs, saved = calls[-1]
    return op, inputs, saved


def _plain(value: Any) -> Any:
    """A Tensor's array; anything else as it is."""
    data = getattr(value, "data", None)
    return data if isinstance(data, np.ndarray) and not isinstance(value, np.ndarray) else value


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
    if same.all():
        return
    lines = _lines(given, f"{what} = {_show(expected)}", _show(array))
    if array.size > 1:
        first = tuple(int(i) for i in np.argwhere(~same)[0])
        lines.append(f"first differs at {list(first)}: expected {expected[first]:.7g}, got {array[first]:.7g}")
    raise CheckFailed(lines, array)


def _lines(given: str, expected: str, got: str) -> list[str]:
    return ([f"given     {given}"] if given else []) + [f"expected  {expected}", f"got       {got}"]


def _show(value: Any) -> str:
    """A value in a line or two."""
    if isinstance(value, (np.ndarray, np.generic)):
        value = np.asarray(value)
        text = np.array2string(value, separator=", ", threshold=12, edgeitems=2, precision=5, max_line_width=10**6)
        text = " ".join(text.split())
        return text if len(text) <= 110 else f"{text[:107]}…"
    return f"{value!r:.110}" if value is not None else "None"
