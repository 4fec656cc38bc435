"""Timing two ways to do the same thing, fairly."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

PAIRS = 30
TURN = 0.03  # seconds that a turn takes at least, after a rest
REST = 0.05


@dataclass(frozen=True)
class Side:
    """One half of a pair: what is timed, and what is done before each run of it, untimed.

    `once`: it takes seconds, and is run a single time a turn.
    """

    run: Callable[[], Any]
    prepare: Callable[[], Any] = lambda: None
    once: bool = False


@dataclass(frozen=True)
class Case:
    """A pair.

    Attributes:
        difference: how far the two results are apart, relative to their size; called once, before the timing.
        asked: the largest ratio of the times, ours to theirs, that the project allows itself; None if it names none.
        against: what "theirs" is.
        pairs: how often each side has its turn.
    """

    name: str
    ours: Side
    theirs: Side
    difference: Callable[[], float]
    asked: float | None = None
    against: str = "PyTorch"
    pairs: int = PAIRS


def measure(case: Case) -> dict[str, Any]:
    """Times in milliseconds and their ratio, ours to theirs: lower quartile, median and upper quartile over the pairs.

    The sides take turns, so that whatever else the machine does meets both.

    Raises:
        ValueError: the sides do not compute the same.
    """
    difference = case.difference()
    if not difference < 1e-3:
        raise ValueError(f"{case.name}: the results differ by {difference:.2g}, so their times cannot be compared")
    sides = [case.ours, case.theirs]
    times = np.zeros((case.pairs, 2))
    for pair in range(case.pairs):
        for which in (0, 1) if pair % 2 else (1, 0):
            times[pair, which] = turn(sides[which])
    ours, theirs = (quartiles(1000 * column) for column in times.T)
    ratio = quartiles(times[:, 0] / times[:, 1])
    found = {"name": case.name, "against": case.against, "unit": "ms", "ours": ours, "theirs": theirs, "ratio": ratio}
    return found | {"asked": case.asked, "difference": difference}


def turn(side: Side) -> float:
    """Seconds of the fastest of some runs, so that other work of the machine counts little.

    Before them there is a rest: the worker threads of the other side's library still wait, busily, for more to do.
    """
    time.sleep(REST)
    times, end = [], time.perf_counter() + TURN
    while len(times) < (1 if side.once else 3) or (time.perf_counter() < end and not side.once):
        times.append(_run(side))
    return min(times)


def _run(side: Side) -> float:
    side.prepare()
    began = time.perf_counter()
    side.run()
    return time.perf_counter() - began


def quartiles(values: np.ndarray) -> list[float]:
    """The lower quartile, the median and the upper quartile."""
    return [float(value) for value in np.percentile(values, [25, 50, 75])]
