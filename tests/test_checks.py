"""The words that gates are written with: each check refuses what differs a little, and says so that it can be seen."""

from __future__ import annotations

import gc
import sys
import threading
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
    assert isinstance(checks.raises(IndexError, lambda: [][0], "given", mentions=["range"]), IndexError)
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


def test_no_error_is_no_forgotten_return() -> None:
    """Whoever calls `y.backward()` in vain is not asked for a `return`."""
    assert lines_of(lambda: checks.raises(ValueError, lambda: None, "y.backward()")) == [
        "given     y.backward()",
        "expected  a ValueError",
        "got       no error",
    ]


def test_a_ratio_says_that_it_is_one() -> None:
    assert lines_of(lambda: checks.ratio(3.0, "bytes allocated", "those of x", at_most=2)) == [
        "expected  bytes allocated, divided by those of x: at most 2",
        "got       a ratio of 3",
    ]


def test_the_door_tells_what_came_instead(reference_package: None) -> None:
    from tinytorch import Tensor
    from tinytorch.core.tensor import result_of

    x = Tensor([1.0], requires_grad=True)
    said = {
        name: " ".join(lines_of(lambda: probes.through_door(function, "Exp", [x])))
        for name, function in {
            "nothing": lambda: None,
            "array": lambda: x.data,
            "plain": lambda: Tensor(x.data),
            "other": lambda: x * 2.0,
            "more": lambda: (x.exp(), Tensor([2.0]))[1],
            "none": lambda: result_of("Exp", x.data),
            "copy": lambda: result_of("Exp", x.data, Tensor(x)),
        }.items()
    }
    assert len(set(said.values())) == 7
    assert "returned nothing" in said["nothing"] and "ndarray" in said["array"] and 'result_of("Mul"' in said["other"]
    assert "was not asked" in said["plain"] and "another one, as 'Exp'" in said["more"]
    assert "0 inputs" in said["none"] and "1 inputs, not these" in said["copy"]


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


def test_tracing_is_asked_for_and_left_as_it_was() -> None:
    assert probes.traces_after(tracemalloc.start, False) and not probes.traces_after(tracemalloc.stop, True)
    assert probes.traces_after(lambda: None, True) and not probes.traces_after(lambda: None, False)
    assert not tracemalloc.is_tracing()
    with pytest.raises(ZeroDivisionError):
        probes.traces_after(lambda: tracemalloc.start() or 1 / 0, False)
    assert not tracemalloc.is_tracing()


# Threads


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes.patience, "seconds", 0.05)
    monkeypatch.setattr(probes.patience, "least", 0.05)


def test_what_waits_for_good_fails_and_later_checks_count_anew(impatient: None) -> None:
    """A thread that goes on after its time was over disturbs neither the number nor the words of the next failure."""
    free, done = threading.Event(), threading.Event()

    @probes.in_time
    def waits() -> None:
        free.wait()
        checks.count.checks, checks.count.given = 9, "stale"
        done.set()

    checks.count.checks = 0
    assert lines_of(waits)[-1] == "got       it waits, and nothing comes"
    free.set()
    assert done.wait(5)
    checks.count.checks, checks.count.given = 0, "x"
    with pytest.raises(checks.CheckFailed) as failed:
        probes.in_time(lambda: checks.equal(1, 2, "one"))()
    assert failed.value.number == 1 and failed.value.lines[0] == "given     x"
    checks.count.given = ""


def test_a_thread_started_in_time_ends_before_the_check_does() -> None:
    """Also one that waits for a generator in the frames of an error to be closed."""
    ended = []

    def items():
        free = threading.Event()
        thread = threading.Thread(target=lambda: (free.wait(), pause(), ended.append(True)))
        thread.start()
        try:
            yield 1
        finally:
            free.set()

    def fails() -> None:
        kept = items()
        checks.equal(next(kept), 2, "the first item")

    pause = probes.pause
    assert lines_of(probes.in_time(fails)) == ["expected  the first item = 2", "got       1"]
    assert ended == [True]


def test_left_running_counts_what_does_not_end(impatient: None) -> None:
    before, free = threading.enumerate(), threading.Event()
    thread = threading.Thread(target=free.wait, daemon=True)
    thread.start()
    assert probes.left_running(before) == 1
    free.set()
    thread.join()
    assert probes.left_running(before) == 0


def test_a_source_says_who_asks_and_how_far_it_is(impatient: None) -> None:
    source = probes.Source(3)
    assert source.has_made(0) and not source.has_made(1)
    thread = threading.Thread(target=lambda: next(source))
    thread.start()
    assert source.has_made(1) and source.threads == {thread}
    assert list(source) == [1, 2] and source.made == 3
    with pytest.raises(UnicodeDecodeError, match="sample 417 is damaged"):
        list(probes.Source(3, fails=2))


def test_picks_are_counted() -> None:
    array = np.arange(6).view(probes.Counting)
    probes.Counting.picked = 0
    array[[1, 2]], array[3]
    assert probes.Counting.picked == 2


def test_a_speed_up_is_the_median_of_its_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    """One round that is disturbed decides nothing; the fast one is timed three times in a round."""
    seconds = iter([8.0, 3.0, 100.0, 3.0, 6.0, 3.0])
    monkeypatch.setattr(probes.timeit, "timeit", lambda action, number: next(seconds))
    assert probes.speed_up(lambda: None, lambda: None) == 8.0


# Tables


def test_a_row_runs_all_its_cases() -> None:
    look = tables.Cases({"np": np})
    cases = [look.case(lambda e: checks.equal(e.letters["n"], 2, "n", e.given), "n", n=n) for n in (1, 2, 3)]
    with pytest.raises(tables.CasesFailed) as failed:
        tables.run(cases)
    assert [(number, given) for number, _, given in failed.value.failures] == [(1, "n, n = 1"), (3, "n, n = 3")]


def test_cases_belong_to_the_row_before_them() -> None:
    first, second, third = (lambda: None for _ in range(3))
    rows = tables.table(("one", "holds"), first, second, ("two", "holds too", third), first).pytestmark[0].args[1]
    assert [(row.id, row.values[0]) for row in rows] == [("one-1", (first, second)), ("two-1", (third, first))]


def test_positive_numbers_are_arrays_in_every_shape() -> None:
    """A NumPy scalar among a case's letters would stay one, where a Tensor is meant."""
    for shape in ((), (2,), (2, 3)):
        assert isinstance(probes.positive(*shape), np.ndarray) and probes.positive(*shape).shape == shape


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


def test_rows_about_one_exercise() -> None:
    case = tables.Cases({}).equals("1", 1)
    assert tables.about("f", {"is 1": [case], "is one": [case, case]}) == [
        ("f", "is 1", case),
        ("f", "is one", case, case),
    ]


def test_what_is_saved_at_the_door(reference_package: None) -> None:
    from tinytorch import result_of

    def made(x: object) -> object:
        return result_of("Op", x.data * 2, x, twice=x.data * 2, tensor=x, word="tanh")

    look = tables.Cases({"made": made, "np": np})
    look.saves("made(x)", "twice", "x + x", x=[1.0, 2.0])()
    look.saves("made(x)", "word", '"tanh"', x=[1.0, 2.0])()
    for name, expected in (("twice", "x"), ("tensor", "x"), ("other", "x"), ("word", '"none"')):
        lines_of(look.saves("made(x)", name, expected, x=[1.0, 2.0]))


def test_letters_that_are_changed_or_shared(reference_package: None) -> None:
    from tinytorch import result_of

    def doubled(x: object) -> object:
        x.data *= 2
        return result_of("Mul", x.data.copy(), x)

    look = tables.Cases({"doubled": doubled, "same": lambda x: result_of(None, x.data[:1])})
    look.keeps("x * 2.0", x=[1.0, 2.0])()
    assert "x afterwards" in lines_of(look.keeps("doubled(x)", x=[1.0, 2.0]))[1]
    assert lines_of(look.keeps("same(x)", x=[1.0, 2.0]))[2] == "got       the memory of x"


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


def test_folders_and_numbers_of_a_message_make_no_difference() -> None:
    here, there = (
        ValueError(f"{folder}run.ckpt is {n} bytes too short") for folder, n in (("/tmp/a_1/", 3), ("C:\\b\\", 7))
    )
    assert observation(here) == observation(there) == {"raised": "ValueError", "says": "run.ckpt is # bytes too short"}
    assert observation(ValueError("a / b, not a/b")) == {"raised": "ValueError", "says": "a / b, not b"}


def test_last_bits_make_no_difference() -> None:
    a, b = np.array([1.0, 2.0]), np.array([1.0, 2.0 + 1e-9])
    assert alike({"test": observation(a)}, {"test": observation(b)})
    assert not alike(observation(a), observation(a + 0.1))
    assert not alike({"x": observation(a)}, {"y": observation(a)})
