"""Running a gate on a package, and judging what was seen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from workshop import ROOT, WorkshopError
from workshop.course import Course, Exercise, Stage
from workshop.observe import alike
from workshop.stub import is_stub

PATIENCE = 120  # seconds for a whole gate, importing the package included

# What a judge's process is told. Without bytecode, since Python takes an edit of the same size within the same second
# for no edit; without pytest's further plugins and options, since a gate must judge the same on every machine; and
# with one thread for NumPy's products, which are too small here to gain by more, and slow down tenfold on a busy machine.
QUIET = {
    "OPENBLAS_NUM_THREADS": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_ADDOPTS": "",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
}
Start = Callable[[list[str], Path, int], str]  # starts a judge: its arguments, the root, seconds; says how it ended


@dataclass
class Test:
    """One test of a gate, and how it went."""

    id: str
    exercise: str
    says: str
    ran: bool = False
    failure: dict[str, Any] | None = None  # kind, lines, seen, check
    printed: list[str] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def passed(self) -> bool:
        return self.ran and self.failure is None


@dataclass(frozen=True)
class Verdict:
    """What a gate found."""

    stage: Stage
    tests: list[Test]
    broken: str  # why the package could not be judged at all; "" if it could
    unwritten: frozenset[str]  # exercises that are still stubs
    known: dict[str, Any]  # the gate's records

    @property
    def passed(self) -> bool:
        return not self.broken and all(self.of(exercise) == "passed" for exercise in self.stage.exercises)

    @property
    def points(self) -> float:
        return sum(exercise.points for exercise in self.stage.exercises if self.of(exercise) == "passed")

    def of(self, exercise: Exercise) -> str:
        """The verdict on one exercise, in a few words."""
        tests = [test for test in self.tests if test.exercise == exercise.symbol]
        if not self.broken and tests and all(test.passed for test in tests):
            return "passed"
        if exercise.symbol in self.unwritten:
            return "not written yet"
        failed = [test.failure for test in tests if test.failure]
        waits = [failure for failure in failed if failure["kind"] == "unwritten"]
        if failed and len(waits) == len(failed):
            return f"waits for {_unwritten_symbol(waits[0])}"
        if any(failure["kind"] == "timeout" for failure in failed):
            return "never ends"
        return "wrong" if failed else "not judged"

    def tell(self, test: Test) -> tuple[str, str] | None:
        """The known mistake that gives just what `test` observed, and what to do about it; None if none or several do.

        Mistakes in the exercise that the test is about come before those elsewhere that happen to look the same.
        """
        if test.failure is None:
            return None
        found = [
            self.known["mistakes"][entry["mistake"]]
            for entry in self.known.get("seen", {}).get(test.id, [])
            if entry["check"] == test.failure["check"] and alike(entry["seen"], test.failure["seen"])
        ]
        found = [mistake for mistake in found if mistake["symbol"] == test.exercise] or found
        return (found[0]["mistake"], found[0]["tell"]) if len(found) == 1 else None


def _unwritten_symbol(failure: dict[str, Any]) -> str:
    return failure["lines"][0].split(": ", 1)[1].split(" is yours")[0]


def require_present(stage: Stage, root: Path) -> None:
    """Raise a WorkshopError unless the stage is in this tree."""
    if not (root / stage.gate).is_file():
        raise WorkshopError(
            f"stage {stage.label} ({stage.name}) is not in this tree. `git merge --no-edit handout-{stage.label}` "
            "brings it; if git does not know that name, `git fetch --tags`, or `tox -e stages` on main, makes it known"
        )


def run_gate(
    course: Course,
    stage: Stage,
    package: Path | None = None,
    root: Path = ROOT,
    only: Sequence[str] = (),
    start: Start | None = None,
) -> Verdict:
    """Judge the package in the folder `package` (default: the checkout's own) by the stage's gate.

    Args:
        only: ids of the tests to run, in that order; all by default.
        start: how the judge's process is started; by default from nothing.
    """
    require_present(stage, root)
    package = package or root
    if not (package / "tinytorch").is_dir():
        raise WorkshopError(f"{package} holds no folder tinytorch/, which is what the gate judges")
    events, died = _run_judge(stage, package, root, only, start or _spawned)
    unwritten, unreadable = _unwritten(stage, package)
    broken = next((event["text"] for event in events if event["event"] == "broken"), "") or unreadable
    tests = _tests(events)
    if died and not broken:
        broken = _blame_death(died, events, tests)
    records = root / stage.records
    known = json.loads(records.read_text(encoding="utf-8")) if records.exists() else {}
    return Verdict(stage, tests, broken, unwritten, known)


def _run_judge(
    stage: Stage, package: Path, root: Path, only: Sequence[str], start: Start
) -> tuple[list[dict[str, Any]], str]:
    """The judge's events, and how it died: "" if it came to its end."""
    modules = [path.removesuffix(".py").replace("/", ".") for path in stage.files]
    with tempfile.TemporaryDirectory() as scratch:
        path = Path(scratch) / "events.jsonl"
        path.touch()
        died = start([str(package), stage.gate, str(path), *modules, "--", *only], root, PATIENCE)
        lines = path.read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines if line.endswith("}")]
    ended = any(event["event"] in ("finished", "broken") for event in events)
    return events, "" if ended else died


def _spawned(arguments: list[str], root: Path, patience: int) -> str:
    """Run the judge; what it said last, or "timeout"."""
    command = [sys.executable, "-m", "workshop.judge", *arguments]
    try:
        done = subprocess.run(
            command, cwd=root, env=os.environ | QUIET, capture_output=True, stdin=subprocess.DEVNULL, timeout=patience
        )
    except subprocess.TimeoutExpired:
        return "timeout"
    return done.stderr.decode("utf-8", "replace").strip()[-400:] or f"exit code {done.returncode}"


def _tests(events: list[dict[str, Any]]) -> list[Test]:
    tests: dict[str, Test] = {}
    for event in events:
        if event["event"] == "collected":
            tests = {test["id"]: Test(**test) for test in event["tests"]}
        elif event["event"] == "end":
            test = tests[event["id"]]
            test.ran, test.printed, test.seconds = True, event["printed"], event["seconds"]
            test.failure = test.failure or event["failure"]
    return list(tests.values())


def _blame_death(died: str, events: list[dict[str, Any]], tests: list[Test]) -> str:
    """Why the judge ended early. A test that was running takes the blame as its failure; then it is not `broken`."""
    running = events[-1]["id"] if events and events[-1]["event"] == "begin" else None
    for test in tests:
        if test.id == running:
            looped = died == "timeout" or "Timeout" in died
            lines = ["no result: a loop that never ends" if looped else f"the program ended in the middle: {died}"]
            test.ran, test.failure = True, {"kind": "timeout", "lines": lines, "seen": {"raised": "died"}, "check": 0}
            return ""
    if died == "timeout":
        what = "running the gate" if tests else "importing the package"
        return f"{what} did not end within {PATIENCE} s: look for a loop that never ends, outside of functions too"
    return f"the program ended before the gate did: {died}"


def _unwritten(stage: Stage, package: Path) -> tuple[frozenset[str], str]:
    """The stage's exercises that are still stubs; and which file cannot be read, if one cannot."""
    found = set()
    for exercise in stage.exercises:
        try:
            source = (package / exercise.path).read_text(encoding="utf-8")
            if is_stub(source, stage, exercise.symbol, exercise.path):
                found.add(exercise.symbol)
        except (OSError, UnicodeDecodeError, WorkshopError) as error:
            return frozenset(found), f"{exercise.path} cannot be read: {error}"
    return frozenset(found), ""
