"""What a gate found: which exercises are right, wrong or wait for others, and what is known of a mistake."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from workshop.blame import Unit, blamed, explanation
from workshop.course import Exercise, Stage
from workshop.observe import alike, is_rich


@dataclass
class Test:
    """One test of a gate, and how it went.

    Attributes:
        failures: of the test, or of each case of its row that failed: kind, case, check, lines, seen, calls.
        passing: the exercises that were called by each part that passed.
    """

    id: str
    exercise: str
    says: str
    ran: bool = False
    failures: list[dict[str, Any]] = field(default_factory=list)
    passing: list[frozenset[str]] = field(default_factory=list)
    printed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.ran and not self.failures

    def units(self) -> list[Unit]:
        failed = [Unit(self.exercise, failure["called"], True) for failure in self.failures]
        return failed + [Unit(self.exercise, called, False) for called in self.passing]


# What is observed of one exercise: the observation by test, case and check.
Signature = dict[str, Any]


@dataclass(frozen=True)
class Verdict:
    """What a gate found."""

    stage: Stage
    tests: list[Test]
    broken: str  # why the package could not be judged at all; "" if it could
    unwritten: frozenset[str]  # exercises that are still stubs, of this stage and of those before
    known: dict[str, Any]  # the gate's records
    asked: frozenset[str] = frozenset()  # exercises that were asked about; all if empty
    earlier: dict[str, str] = field(default_factory=dict)  # wrong exercises of earlier stages, with the stage's number

    @property
    def exercises(self) -> list[Exercise]:
        """Those that are judged."""
        return [each for each in self.stage.exercises if not self.asked or each.symbol in self.asked]

    @property
    def passed(self) -> bool:
        return not self.broken and all(self.of(exercise) == "passed" for exercise in self.exercises)

    @property
    def points(self) -> float:
        return sum(exercise.points for exercise in self.exercises if self.of(exercise) == "passed")

    @cached_property
    def units(self) -> list[Unit]:
        return [unit for test in self.tests for unit in test.units()]

    @cached_property
    def elsewhere(self) -> frozenset[str]:
        """What explains failures without being wrong here: the unwritten, and what an earlier gate finds wrong."""
        return self.unwritten | frozenset(self.earlier)

    @cached_property
    def wrong(self) -> frozenset[str]:
        """The exercises of this stage that are wrong."""
        return blamed(self.units, self.elsewhere)

    def of(self, exercise: Exercise) -> str:
        """The verdict on one exercise, in a few words."""
        tests = [test for test in self.tests if test.exercise == exercise.symbol]
        if not self.broken and tests and all(test.passed for test in tests):
            return "passed"
        if exercise.symbol in self.unwritten:
            return "not written yet"
        if exercise.symbol in self.wrong:
            endless = any(f["kind"] == "timeout" for test in tests for f in self.own_failures(test))
            return "never ends" if endless else "wrong"
        cause = explanation(self.units, exercise.symbol, self.wrong | self.elsewhere)
        if cause and not self.broken:
            stage = self.earlier.get(cause)
            return f"waits for {cause}" + (f" (gate {stage})" if stage else "")
        return "not judged"

    def own_failures(self, test: Test) -> list[dict[str, Any]]:
        """Those of a test's failures that nothing but the test's own exercise explains."""
        others = (self.wrong | self.elsewhere) - {test.exercise}
        return [failure for failure in test.failures if not failure["called"] & others]

    # Known mistakes

    def signature(self, symbol: str) -> Signature:
        """All that was observed where tests about `symbol` failed by its own fault."""
        return {
            f"{test.id}|{failure['case']}|{failure['check']}": failure["seen"]
            for test in self.tests
            if test.exercise == symbol
            for failure in self.own_failures(test)
        }

    def tell(self, symbol: str) -> tuple[str, str] | None:
        """The known mistake in `symbol` that gives just what was observed, and what to do about it.

        None if the exercise is not to blame, if none or several mistakes give that, or if what was observed
        tells too little: then it could come of anything.
        """
        if symbol not in self.wrong:
            return None
        seen, judged = self.signature(symbol), self._judged(symbol)
        found = [
            entry
            for entry in self.known.get("mistakes", [])
            if entry["symbol"] == symbol and same(entry["seen"], seen, judged)
        ]
        others = [each for each in self.known.get("nothing", {}).get(symbol, []) if same(each, seen, judged)]
        if len(found) != 1 or others or not self._tells(symbol, seen):
            return None
        return found[0]["mistake"], found[0]["tell"]

    def _judged(self, symbol: str) -> set[str]:
        """The tests about `symbol` of which no part failed by another's fault, so that they can be compared."""
        about = [test for test in self.tests if test.exercise == symbol and test.ran]
        return {test.id for test in about if len(self.own_failures(test)) == len(test.failures)}

    def _tells(self, symbol: str, seen: Signature) -> bool:
        """Whether observations say more than that something is missing: a number that says so, or much that passed."""
        if any(is_rich(each) for each in seen.values()):
            return True
        passed = sum(len(test.passing) for test in self.tests if test.exercise == symbol)
        return passed > len(seen)


def same(recorded: Signature, seen: Signature, judged: set[str]) -> bool:
    """Whether a mistake's record is what was seen, in the tests `judged`, and anything was seen there at all."""
    recorded, seen = (
        {key: value for key, value in each.items() if key.split("|")[0] in judged} for each in (recorded, seen)
    )
    return bool(seen) and recorded.keys() == seen.keys() and all(alike(recorded[key], seen[key]) for key in seen)
