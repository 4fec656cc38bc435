"""Whose fault a failure is.

A test about one exercise calls others, and fails when one of those is wrong. The judge notes which were called until
it failed. An exercise is blamed if a failure about it remains when those of its calls that are to blame otherwise are
taken away: the smallest set of exercises is looked for that explains every failure.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations

MOST = 3  # so many wrong exercises are looked for at once; beyond, one after the other


@dataclass(frozen=True)
class Unit:
    """A test, or a case of one: what it is about, which exercises it called, and whether it failed."""

    about: str
    called: frozenset[str]
    failed: bool

    @property
    def needs(self) -> frozenset[str]:
        """The exercises that could be to blame for it."""
        return self.called | {self.about}


def blamed(units: Sequence[Unit], known: Collection[str] = ()) -> frozenset[str]:
    """The exercises that are wrong.

    Args:
        known: exercises that are to blame for sure, being unwritten, or wrong by the gate of an earlier stage. Failures
            that they explain count for no other.
    """
    failures = [unit for unit in units if unit.failed and not unit.needs & set(known)]
    candidates = sorted({unit.about for unit in failures})
    for size in range(min(MOST, len(candidates)) + 1):
        found = [set(some) for some in combinations(candidates, size) if _explains(some, failures)]
        if found:
            return frozenset(min(found, key=lambda some: _doubt(some, units, failures)))
    # Many at once: take the most suspect one, and see what remains.
    first = min(candidates, key=lambda one: _doubt([one], units, failures, of=failures))
    return frozenset({first}) | blamed(units, {*known, first})


def _explains(some: Iterable[str], failures: Iterable[Unit]) -> bool:
    wrong = set(some)
    return all(unit.needs & wrong for unit in failures)


def _doubt(
    some: Iterable[str], units: Iterable[Unit], failures: Sequence[Unit], of: Sequence[Unit] = ()
) -> tuple[float, float, int]:
    """How little speaks for it that just these are wrong: the lower, the more suspect they are.

    First counts how many failures they do not explain (of those in `of`), then what share of the units that they were
    part of passed all the same, and last how much else was called by the failures about them.
    """
    wrong = set(some)
    left = sum(not unit.needs & wrong for unit in of)
    passed = sum(bool(unit.called & wrong) for unit in units if not unit.failed)
    failed = sum(bool(unit.needs & wrong) for unit in failures)
    direct = min((len(unit.needs) for unit in failures if unit.about in wrong), default=0)
    return left, passed / max(passed + failed, 1), direct


def explanation(units: Sequence[Unit], about: str, blamed: Collection[str]) -> str:
    """Of the blamed exercises, the one that most failures about `about` have called; "" if one has called none."""
    failures = [unit for unit in units if unit.failed and unit.about == about]
    if not failures or not all(unit.needs & set(blamed) for unit in failures):
        return ""
    counts = {one: sum(one in unit.needs for unit in failures) for one in sorted(blamed)}
    return max(counts, key=lambda one: counts[one])
