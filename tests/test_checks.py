"""The words that gates are written with: each check refuses what differs a little, and says so that it can be seen."""

from __future__ import annotations

import gc
import sys
import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from workshop import checks, probes, tables
from workshop.observe import alike, is_rich, observation


def lines_of(check: Callable[[], None]) -> list[str]:
    with pytest.raises(checks.CheckFailed) as failed:
        check()
    return failed.value.lines


WRONG: list[Callable[[], None]] = [
    lambda: checks.equal(1, 2, "x"),
    lambda: checks.equal(1, True, "x"),
    lambda: checks.equal(np.float64(3.0), "3.0", "x"),
    lambda: checks.equal(None, (1,), "x"),
    lambda: checks.equal(np.array([1, 2]), np.array([1, 3]), "x"),
    lambda: checks.close(np.array([1.0, 2.0]), [1.0, 2.1], "x"),
    lambda: checks.close(np.array([[1.0, 2.0]]), [1.0, 2.0], "x"),
    lambda: checks.close(np.array([1.0], np.float32), [1.0], "x", dtype=np.float64),
    lambda: checks.close(np.array([np.nan]), [1.0], "x"),
    lambda: checks.close(np.array([np.inf]), [1.0], "x"),
    lambda: checks.close(None, [1.0], "x"),
    lambda: checks.close([1.0], [1.0], "a list is no array"),
    lambda: checks.ratio(2.1, "bytes", "those of x", at_most=2),
    lambda: checks.ratio(1.9, "bytes", "those of x", at_least=2),
    lambda: checks.holds(False, "expected", "got"),
    lambda: checks.holds(np.array([True, False]), "expected", "got"),
    lambda: checks.raises(ValueError, lambda: 1, "given"),
    lambda: checks.raises(ValueError, lambda: [][0], "given"),
    lambda: checks.raises(IndexError, lambda: [][0], "given", mentions=["shape"]),
]


@pytest.mark.parametrize("check", WRONG)
def test_checks_can_fail(check: Callable[[], None]) -> None:
    with pytest.raises(checks.CheckFailed):
        check()


def test_checks_pass_what_is_right() -> None:
    checks.close(np.array([np.nan, np.inf, 1.0]), [np.nan, np.inf, 1.0 + 1e-7], "x")
    checks.raises(IndexError, lambda: [][0], "given", mentions=["range"])
    checks.ratio(2.0, "bytes", "those of x", at_most=2, at_least=2)
    with pytest.raises(NotImplementedError):
        checks.raises(Exception, lambda: (_ for _ in ()).throw(NotImplementedError("stub")), "given")


def test_two_numbers_that_differ_look_different() -> None:
    expected, got = np.float64(-1.488415), np.float64(-1.4884150000001)
    lines = lines_of(lambda: checks.close(got, expected, "x", tolerance=1e-15))
    assert lines[0].split()[-1] != lines[1].split()[-1], lines
    lines = lines_of(lambda: checks.close(np.array([1.0, 1.00001]), np.array([1.0, 1.0]), "x", tolerance=1e-9))
    assert lines[0].partition("= ")[2] != lines[1].partition("got ")[2].strip(), lines
    assert lines[2] == "first differs at [1]: expected 1, got 1.00001"


def test_nothing_is_told_as_a_forgotten_return() -> None:
    for check in (lambda: checks.close(None, [1.0], "x"), lambda: probes.through_door(lambda: None, "Add", ())):
        assert "returned nothing" in "\n".join(lines_of(check))


def test_a_ratio_says_that_it_is_one() -> None:
    assert lines_of(lambda: checks.ratio(3.0, "bytes allocated", "those of x", at_most=2)) == [
        "expected  bytes allocated, divided by those of x: at most 2",
        "got       a ratio of 3",
    ]


def test_the_door_tells_what_came_instead(reference_package: None) -> None:
    from tinytorch import Tensor

    x = Tensor([1.0], requires_grad=True)
    said = {
        name: " ".join(lines_of(lambda: probes.through_door(function, "Exp", [x])))
        for name, function in {
            "nothing": lambda: None,
            "array": lambda: x.data,
            "plain": lambda: Tensor(x.data),
            "other": lambda: x * 2.0,
            "more": lambda: (x.exp(), Tensor([2.0]))[1],
        }.items()
    }
    assert len(set(said.values())) == 5
    assert "returned nothing" in said["nothing"] and "ndarray" in said["array"] and 'result_of("Mul"' in said["other"]
    assert "was not asked" in said["plain"] and "another one, as 'Exp'" in said["more"]


@pytest.fixture
def reference_package() -> None:
    from conftest import ROOT

    sys.path.insert(0, str(ROOT / "solutions"))
    try:
        for name in [name for name in sys.modules if name.split(".")[0] == "tinytorch"]:
            del sys.modules[name]
        yield
    finally:
        sys.path.remove(str(ROOT / "solutions"))
        for name in [name for name in sys.modules if name.split(".")[0] == "tinytorch"]:
            del sys.modules[name]


# Memory


def test_tracing_ends_with_what_was_measured() -> None:
    with pytest.raises(RuntimeError), probes.traced():
        raise RuntimeError
    assert not tracemalloc.is_tracing()
    tracemalloc.start()
    with probes.traced():
        pass
    assert tracemalloc.is_tracing()
    tracemalloc.stop()


def test_garbage_from_before_is_not_counted() -> None:
    """A recursive inner function leaves a cycle, and what it holds, until the collector comes."""
    gc.disable()
    try:

        def action() -> np.ndarray:
            held = np.zeros(10**6, np.uint8)

            def inner() -> object:
                return inner, held

            return np.zeros(10**5, np.uint8)

        peak, kept = probes.allocated(action)
    finally:
        gc.enable()
    assert 1.1 * 10**6 < peak < 1.2 * 10**6 and 0.99 * 10**5 < kept < 1.1 * 10**5


# Tables


def test_a_row_runs_all_its_cases() -> None:
    look = tables.Cases({"np": np})
    cases = [look.case(lambda e: checks.equal(e.letters["n"], 2, "n", e.given), "n", n=n) for n in (1, 2, 3)]
    with pytest.raises(tables.CasesFailed) as failed:
        tables.run(cases)
    assert [(number, given) for number, _, given in failed.value.failures] == [(1, "n, n = 1"), (3, "n, n = 3")]


def test_an_expression_is_what_the_message_shows(reference_package: None) -> None:
    look = tables.Cases({"np": np})
    for case in (
        look.gives("x + y", [4.0, 6.0], x=[1.0, 2.0], y=[3.0, 4.0]),
        look.gives("x + y", "np.add(x, y)", x=[1.0, 2.0], y=[3.0, 4.0]),
        look.like_numpy("x.sum(axis=1)", x=np.ones((2, 3))),
        look.equals("x.shape", (2,), x=[1.0, 2.0]),
        look.raises("x @ y", ValueError, "(2,)", x=[1.0, 2.0], y=[1.0, 2.0, 3.0]),
        look.door("x + y", "Add", x=[1.0], y=[2.0]),
    ):
        case()
    lines = lines_of(look.gives("x + y", [4.0, 7.0], x=[1.0, 2.0], y=[3.0, 4.0]))
    assert lines[0] == "given     x + y, x = [1., 2.], y = [3., 4.]"


def test_statements_run_before_what_is_looked_at() -> None:
    look = tables.Cases({"np": np})
    for text, expected in (("x", [1.0, 3.0]), ("x.shape", (2,)), ("y", None), ("len(x)", 2), ("x[1]", 3.0)):
        look.after("x = np.array([1.0, 2.0]); x[1] += 1; y = None; ", text, expected)()
    assert lines_of(look.after("x = np.ones(2); ", "x", [1.0, 2.0]))[0] == "given     x = np.ones(2)"
    with pytest.raises(checks.CheckFailed, match="None"):
        look.after("x = None", "x", [1.0])()
    with pytest.raises(checks.CheckFailed, match="expected  x = None"):
        look.after("x = 0", "x", None)()


# Observations


def test_what_says_nothing_is_not_rich() -> None:
    poor = (None, 0, 1, True, -1.0, np.zeros(3), np.ones((2, 2)), ValueError("3 is not 4"), "a text", np.array(np.nan))
    assert [value for value in poor if is_rich(observation(value))] == []
    rich = (0.5, 3, np.array([1.0, 2.0]), {"no error": observation(4.0)})
    assert all(is_rich(observation(value)) for value in rich)


def test_last_bits_make_no_difference() -> None:
    a, b = np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-9])
    assert alike({"test": observation(a)}, {"test": observation(b)})
    assert not alike(observation(a), observation(a + 0.1))
    assert not alike({"x": observation(a)}, {"y": observation(a)})
