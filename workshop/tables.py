"""Tables: cases as data. The expression that the student reads is the one that runs.

    look = Cases(globals())

    test_sums = table(
        ("Tensor.sum", "sums along an axis, which then is gone"),
        look.gives("x.sum(axis=1)", [3.0, 7.0], x=[[1.0, 2.0], [3.0, 4.0]]),
        look.like_numpy("x.sum(axis=0)", x=numbers(2, 3)),
        look.raises("x.sum(axis=2)", ValueError, "2", x=[1.0]),
    )

Every row, a pair of words and the cases up to the next pair, is a test about one exercise. All of its cases run, also
after one that fails: which of them fail tells wrong code apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from workshop import checks
from workshop.checks import count, exercise, plain, shown
from workshop.probes import at_the_door, gradients_match, leaf, through_door

Case = Callable[[], None]


class CasesFailed(AssertionError):
    """Some cases of a row do not hold: for each, its number from 1, its error and the words for what was given."""

    def __init__(self, failures: list[tuple[int, Exception, str]]) -> None:
        super().__init__(str(failures[0][1]))
        self.failures = failures


# Told after each case whether it held, by whom the judge learns which functions it called.
listeners: list[Callable[[Exception | None], None]] = []


def table(*items: tuple[Any, ...] | Case) -> Callable[[list[Case]], None]:
    """A test for each row: (exercise, what must hold), case, case, …; the cases may stand in the tuple too."""
    rows: list[tuple[Any, ...]] = []
    for item in items:
        if isinstance(item, tuple):
            rows.append(item)
        else:
            rows[-1] += (item,)
    symbols = [row[0] for row in rows]
    ids = [f"{symbol}-{symbols[:i].count(symbol) + 1}" for i, symbol in enumerate(symbols)]
    marked = [pytest.param(row[2:], id=id, marks=exercise(*row[:2])) for id, row in zip(ids, rows)]

    @pytest.mark.parametrize("cases", marked)
    def test(cases: list[Case]) -> None:
        run(cases)

    return test


def about(symbol: str, rows: Mapping[str, Sequence[Case]]) -> list[tuple[Any, ...]]:
    """Rows about one exercise, for `table`: what must hold, and the cases that show it."""
    return [(symbol, says, *cases) for says, cases in rows.items()]


def run(cases: list[Case]) -> None:
    """Run each case; then, if some failed, raise CasesFailed."""
    failures = []
    for number, case in enumerate(cases, 1):
        count.checks, count.given, failed = 0, "", None
        try:
            case()
        except Exception as error:  # the student's, or a check's: both belong to this case
            failed = error
            failures.append((number, error, count.given))
        for listener in listeners:
            listener(failed)
    count.given = ""
    if failures:
        raise CasesFailed(failures)


class Expression:
    """An expression of some letters, and the words for it.

    Attributes:
        text: the expression, as "x @ y".
        letters: the values of its letters, lists and arrays as NumPy arrays.
        given: text and letters, for the message.
    """

    def __init__(self, text: str, letters: Mapping[str, Any], names: Mapping[str, Any]) -> None:
        self.text, self.names = text, names
        self.letters = {name: np.asarray(v) if isinstance(v, list) else v for name, v in letters.items()}
        self.code = compile(text, text, "eval")
        self.given = ", ".join([text, *(f"{name} = {shown(value)}" for name, value in letters.items())])

    def __call__(self, *values: Any) -> Any:
        """The expression's value for these values of its letters, in their order."""
        return eval(self.code, {**self.names, **dict(zip(self.letters, values))})

    def arrays(self) -> list[np.ndarray]:
        """The letters' values that are arrays."""
        return [value for value in self.letters.values() if isinstance(value, np.ndarray)]

    def tensors(self) -> list[Any]:
        """The letters' values; a Tensor for each array."""
        from tinytorch import Tensor

        return [Tensor(value) if isinstance(value, np.ndarray) else value for value in self.letters.values()]

    def leaves(self) -> list[Any]:
        """The letters' values; for each array a Tensor that requires a gradient."""
        return [leaf(value, value.dtype) if isinstance(value, np.ndarray) else value for value in self.letters.values()]

    def result(self) -> Any:
        """The expression's value, with a Tensor for each letter that is an array."""
        return self(*self.tensors())


class Cases:
    """Makes cases whose expressions see the names of a gate: `look = Cases(globals())`.

    Letters are keyword arguments: a list or an array becomes a Tensor (of its dtype) when the case runs, anything
    else stays what it is.
    """

    def __init__(self, names: Mapping[str, Any]) -> None:
        self.names = names

    def case(self, check: Callable[..., None], text: str, *arguments: Any, **letters: Any) -> Case:
        """`check(expression, *arguments)` when its turn comes: for what a gate checks in a way of its own."""

        def run() -> None:
            expression = Expression(text, letters, self.names)
            count.given = expression.given
            check(expression, *arguments)

        return run

    def gives(
        self, text: str, expected: Any, *, tolerance: float = 1e-5, dtype: Any = None, what: str = "", **letters: Any
    ) -> Case:
        """The numbers `expected`, by `close`. A text is an expression in NumPy, of the letters as arrays."""

        def check(e: Expression) -> None:
            right = eval(expected, {**self.names, **e.letters}) if isinstance(expected, str) else expected
            checks.close(e.result(), right, what or e.text, e.given, tolerance, dtype)

        return self.case(check, text, **letters)

    def like_numpy(self, text: str, *, tolerance: float = 1e-12, **letters: Any) -> Case:
        """What NumPy gives for the same expression, in its shape and dtype."""

        def check(e: Expression) -> None:
            right = np.asarray(e(*e.letters.values()))
            checks.close(e.result(), right, e.text, e.given, tolerance, right.dtype)

        return self.case(check, text, **letters)

    def equals(self, text: str, expected: Any, *, what: str = "", **letters: Any) -> Case:
        """Exactly `expected`, by `equal`: numbers, texts, tuples, None, integer arrays."""
        return self.case(lambda e: checks.equal(e.result(), expected, what or e.text, e.given), text, **letters)

    def raises(self, text: str, kinds: Any, *mentions: Any, **letters: Any) -> Case:
        """An error of `kinds` whose message names each of `mentions`."""
        return self.case(lambda e: checks.raises(kinds, e.result, e.given, mentions), text, **letters)

    def slopes(self, text: str, *, tolerance: float = 1e-6, **letters: Any) -> Case:
        """Gradients of all letters that equal central differences; awake from stage 05 on."""

        def check(e: Expression) -> None:
            gradients_match(e, *e.letters.values(), given=e.given, names=list(e.letters), tolerance=tolerance)

        return self.case(check, text, **letters)

    def door(self, text: str, op: str, *saved: str, **letters: Any) -> Case:
        """A result made by `result_of` as operation `op`, from all letters that are arrays, saving `saved`."""

        def check(e: Expression) -> None:
            values = e.leaves()
            tensors = [v for v in values if plain(v) is not v]
            through_door(lambda: e(*values), op, tensors, saved, e.given)

        return self.case(check, text, **letters)

    def saves(self, text: str, name: str, expected: Any, *, tolerance: float = 1e-12, **letters: Any) -> Case:
        """What the result's operation saves as `name`: an array of these numbers, or exactly this text or integer.

        `expected` is a value, or an expression in NumPy, as in `gives`: a text is written '"tanh"'.
        """

        def check(e: Expression) -> None:
            values = e.leaves()
            saved = at_the_door(lambda: e(*values), e.given)[2]
            what = f"{name}, as saved"
            checks.holds(name in saved, f"{name}=… among what is saved", f"saved: {', '.join(saved) or 'nothing'}")
            right = eval(expected, {**self.names, **e.letters}) if isinstance(expected, str) else expected
            if isinstance(right, (str, int)):
                return checks.equal(saved[name], right, what, e.given)
            kind = type(saved[name]).__name__
            checks.holds(isinstance(saved[name], np.ndarray), f"{what}, a NumPy array", f"a {kind}", e.given)
            checks.close(saved[name], right, what, e.given, tolerance, getattr(right, "dtype", None))

        return self.case(check, text, **letters)

    def keeps(self, text: str, **letters: Any) -> Case:
        """Letters whose tensors have the same values afterwards, and a result with memory of its own."""

        def check(e: Expression) -> None:
            tensors = dict(zip(e.letters, e.tensors()))
            result = plain(e(*tensors.values()))
            for name, before in e.letters.items():
                if isinstance(before, np.ndarray):
                    after = tensors[name].data
                    checks.close(after, before, f"{name} afterwards", e.given, 0.0)
                    shared = isinstance(result, np.ndarray) and np.shares_memory(result, after)
                    checks.holds(not shared, "a result with memory of its own", f"the memory of {name}", e.given)

        return self.case(check, text, **letters)

    def after(self, lines: str, text: str, expected: Any, *, tolerance: float = 1e-12, dtype: Any = None) -> Case:
        """Once the statements `lines` have run, `text` is `expected`: numbers by `close`, anything else by `equal`."""

        def check(e: Expression) -> None:
            count.given, names = lines.rstrip("; "), dict(self.names)
            exec(compile(lines, "the gate's lines", "exec"), names)
            found = eval(e.code, names)
            if isinstance(expected, (bool, int, str, tuple, type(None))):
                return checks.equal(found, expected, text, count.given)
            checks.close(found, expected, text, count.given, tolerance, dtype)

        return self.case(check, text)
