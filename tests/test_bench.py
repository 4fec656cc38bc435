"""The benchmark's own arithmetic. What it measures needs torch, and so is `tox -e bench`'s part."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest

from benchmarks import pairs, run
from benchmarks.pairs import Case, Side, measure


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pairs, "REST", 0.0)


class Clock:
    """Stands in for the module `time`: it goes on only when somebody waits, whatever the machine's load."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(pairs, "time", clock)
    return clock


def test_ratio_is_ours_to_theirs(clock: Clock) -> None:
    sides = Side(lambda: clock.sleep(0.002)), Side(lambda: clock.sleep(0.001))
    case = Case("waiting", *sides, lambda: 0.0, asked=1.5, pairs=5)
    found = measure(case)
    assert found["ratio"][1] == pytest.approx(2, rel=1e-6)
    assert found["ours"][1] == pytest.approx(2, rel=1e-6)  # milliseconds
    assert found["ratio"] == sorted(found["ratio"])


def test_preparation_is_not_timed(clock: Clock) -> None:
    slow_to_prepare = Side(lambda: clock.sleep(0.001), lambda: clock.sleep(0.01))
    case = Case("waiting", slow_to_prepare, Side(lambda: clock.sleep(0.001)), lambda: 0.0, pairs=3)
    assert measure(case)["ratio"][1] == pytest.approx(1, rel=1e-6)


def test_sides_take_turns_and_begin_in_turn() -> None:
    order: list[str] = []
    sides = [Side(lambda: None, lambda name=name: order.append(name)) for name in ("ours", "theirs")]
    measure(Case("nothing", *sides, lambda: 0.0, pairs=4))
    assert [name for name, _ in groupby(order)] == ["theirs", "ours", "theirs", "ours", "theirs"]


def test_what_takes_seconds_runs_once_a_turn(clock: Clock) -> None:
    runs: list[str] = []
    sides = [Side(lambda: runs.append("fast") or clock.sleep(0.02)), Side(lambda: runs.append("slow"), once=True)]
    measure(Case("nothing", *sides, lambda: 0.0, pairs=2))
    assert (runs.count("slow"), runs.count("fast")) == (2, 6)


@pytest.mark.parametrize("difference", [0.01, float("nan")])
def test_different_results_are_not_compared(difference: float) -> None:
    with pytest.raises(ValueError, match="cannot be compared"):
        measure(Case("waiting", Side(lambda: None), Side(lambda: None), lambda: difference))


def test_table_and_plot(tmp_path: Path) -> None:
    row = {"name": "a step", "against": "PyTorch", "unit": "ms", "threads": 1, "asked": 1.5}
    row |= {"ours": [1, 2, 3], "theirs": [2, 3, 4], "ratio": [0.5, 0.6, 0.7]}
    rows = [
        row,
        row | {"name": "another", "asked": None},
        row | {"threads": 2},
        row | {"name": "another", "threads": 2},
    ]
    rows += [row | {"name": "images", "threads": 2}, row | {"name": "loops", "against": "conv2d_naive"}]
    run.draw(rows, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").read_bytes().startswith(b"\x89PNG")
    assert run.table(rows).row_count == 6
