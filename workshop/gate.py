"""Running a gate on a package: starts the judge, follows what it says, and makes a verdict of it."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from threading import Thread
from typing import Any

from workshop import ROOT, WorkshopError
from workshop.course import Course, Stage
from workshop.plan import HASTE, TIMEOUT, Plan
from workshop.stub import is_stub, spans
from workshop.verdict import Test, Verdict

IMPORTING = 60  # seconds until the first test
GRACE = 3  # seconds that a test may take beyond its own limit, before the whole judge is ended
DEATHS = 8  # a judge that ends in the middle is started again for the tests that are left, so many times

# What a judge's process is told. Without bytecode, since Python takes an edit of the same size within the same second
# for no edit; without pytest's further plugins and options, since a gate must judge the same on every machine; and with
# one thread for NumPy's products, which are too small here to gain by more, and slow down tenfold on a busy machine.
QUIET = {
    "OPENBLAS_NUM_THREADS": "1",
    "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
    "PYTEST_ADDOPTS": "",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PYTHONUTF8": "1",
}
Event = dict[str, Any]
Start = Callable[[Plan, Path], tuple[list[Event], str]]  # runs a judge in the root; its events, and how it ended


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
    names: Sequence[str] = (),
    pdb: bool = False,
    earlier: bool = True,
) -> Verdict:
    """Judge the package in the folder `package` (default: the checkout's own) by the stage's gate.

    Args:
        only: ids of the tests to run, in that order; all by default.
        start: how the judge's process is started; by default from nothing.
        names: judge only the exercises of these names, as "matmul" or "Tensor.matmul".
        pdb: leave the terminal to the debugger.
        earlier: where a test fails that calls exercises of earlier stages, ask their gates too.
    """
    require_present(stage, root)
    package = (package or root).resolve()
    if not (package / "tinytorch").is_dir():
        raise WorkshopError(f"{package} holds no folder tinytorch/, which is what the gate judges")
    asked = _named(stage, names)
    before = [course.stage(number) for number in sorted(course.closure([stage.number]) - {stage.number})]
    plan = Plan(
        str(package),
        stage.gate,
        [path.removesuffix(".py").replace("/", ".") for path in stage.files],
        only=list(only),
        exercises=sorted(asked),
        earlier=_gates_of(before, root) if earlier else {},
        pdb=pdb,
    )
    events, died = _judged(plan, root, start or (_at_terminal if pdb else _spawned))
    broken = next((event["text"] for event in events if event["event"] == "broken"), "")
    symbols = _symbols([*before, stage], package, events)
    tests = _tests(events, symbols)
    failed = any(test.failures for test in tests)
    unwritten, unreadable = _unwritten([*before, stage] if failed else [stage], package)
    broken = broken or unreadable or ("" if tests and not died else died)
    records = root / stage.records
    known = json.loads(records.read_text(encoding="utf-8")) if records.exists() else {}
    wrong = _wrong_before(before, events, symbols, unwritten)
    return Verdict(stage, tests, broken, unwritten, known, asked, wrong)


def _named(stage: Stage, names: Sequence[str]) -> frozenset[str]:
    """The exercises that `names` mean: the whole name, or one of its parts."""
    found = set()
    for name in names:
        meant = {e.symbol for e in stage.exercises if name.lower() in (e.symbol.lower(), *e.symbol.lower().split("."))}
        if not meant:
            known = ", ".join(exercise.symbol for exercise in stage.exercises)
            raise WorkshopError(f"stage {stage.label} has no exercise named {name}; it has {known}")
        found |= meant
    return frozenset(found)


def _gates_of(stages: Sequence[Stage], root: Path) -> dict[str, str]:
    """The gate that judges each file with exercises."""
    present = [stage for stage in stages if (root / stage.gate).is_file()]
    return {exercise.path: stage.gate for stage in present for exercise in stage.exercises}


# The judge's process


def _judged(plan: Plan, root: Path, start: Start) -> tuple[list[Event], str]:
    """The judge's events; and why it told nothing, if it did not. If it dies in a test, another does the rest."""
    events: list[Event] = []
    for _ in range(DEATHS):
        more, died = start(replace(plan, done=_done(events), hung=bool(events)), root)
        events += _renumbered(more, events)
        if any(event["event"] in ("finished", "broken") for event in more):
            return events, ""
        running = more[-1]["id"] if more and more[-1]["event"] == "begin" and not more[-1]["gate"] else None
        if running is None:
            return events, _early_end(died, more)
        events += _died_in(running, died, events)
    return events, "the program ended again and again; the last of it: " + died


def _done(events: list[Event]) -> list[str]:
    return [event["id"] for event in events if event["event"] == "end"]


def _renumbered(more: list[Event], events: list[Event]) -> list[Event]:
    """A second process numbers functions anew: its numbers go on where those of `events` end."""
    shift = 1 + max((event["number"] for event in events if event["event"] == "function"), default=-1)
    for event in more if shift else ():
        if event["event"] == "function":
            event["number"] += shift
        for part in event.get("failures", ()):
            part["calls"] = [number + shift for number in part["calls"]]
        if "passing" in event:
            event["passing"] = [[number + shift for number in part] for part in event["passing"]]
    return more


def _died_in(test: str, died: str, events: list[Event]) -> list[Event]:
    """The events that stand for the end of a test in which the judge died, and of the others about its exercise."""
    looped = died == "timeout" or "Timeout" in died
    line = "no result: a loop that never ends" if looped else f"the program ended in the middle: {died}"
    kind = "timeout" if looped else "error"
    failure = {"kind": kind, "case": 0, "check": 0, "lines": [line], "seen": {"raised": "died"}, "calls": []}
    end = {"event": "end", "gate": "", "failures": [failure], "passing": [], "printed": [], "seconds": 0.0}
    tests = next(event["tests"] for event in events if event["event"] == "collected" and not event["gate"])
    about = next(each["exercise"] for each in tests if each["id"] == test)
    return [end | {"id": each["id"]} for each in tests if each["exercise"] == about and each["id"] not in _done(events)]


def _early_end(died: str, events: list[Event]) -> str:
    if died == "timeout":
        what = "running the gate" if any(event["event"] == "collected" for event in events) else "importing the package"
        return f"{what} did not end within {IMPORTING} s: look for a loop that never ends, outside of functions too"
    return f"the program ended before the gate did: {died}"


def _spawned(plan: Plan, root: Path) -> tuple[list[Event], str]:
    """Run the judge in a process of its own, which is ended when it has finished, or when it takes too long."""
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-m", "workshop.judge", plan.dump()],
            cwd=root,
            env=os.environ | QUIET,
            stdin=subprocess.PIPE,  # kept open: the judge ends when this process does
            stdout=subprocess.PIPE,
            stderr=said,
        )
        events: list[Event] = []
        try:
            for event in _lines(process):
                if event is None:
                    return events, "timeout"
                events.append(event)
                if event["event"] == "finished":
                    return events, ""
            process.wait(GRACE)
        except subprocess.TimeoutExpired:
            return events, "timeout"
        finally:
            process.kill()
            process.wait()
            for stream in (process.stdin, process.stdout):
                stream.close()
        said.seek(0)
        return events, said.read().decode("utf-8", "replace").strip()[-400:] or f"exit code {process.returncode}"


def _lines(process: subprocess.Popen[bytes]) -> Iterator[Event | None]:
    """The events as they come; None if the next one takes too long."""
    lines: queue.Queue[bytes] = queue.Queue()

    def read() -> None:
        with process.stdout as stream:
            for line in stream:
                lines.put(line)
        lines.put(b"")

    Thread(target=read, daemon=True).start()
    patience = IMPORTING
    while True:
        try:
            line = lines.get(timeout=patience)
        except queue.Empty:
            yield None
            return
        if not line.endswith(b"}\n"):
            return
        event = json.loads(line)
        patience = TIMEOUT + HASTE + GRACE
        yield event


def _at_terminal(plan: Plan, root: Path) -> tuple[list[Event], str]:
    """Run the judge with the terminal as its own."""
    with tempfile.TemporaryDirectory() as scratch:
        plan = replace(plan, events=str(Path(scratch) / "events.jsonl"))
        done = subprocess.run(
            [sys.executable, "-m", "workshop.judge", plan.dump()], cwd=root, env=os.environ | QUIET, check=False
        )
        return read_events(Path(plan.events)), f"exit code {done.returncode}"


def read_events(path: Path) -> list[Event]:
    """The events in a file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line.endswith("}")]


# What was seen


def _symbols(stages: Sequence[Stage], package: Path, events: list[Event]) -> dict[int, str]:
    """Which functions of the events are exercises: their number to the symbol."""
    exercises = {(exercise.path, exercise.symbol) for stage in stages for exercise in stage.exercises}
    files = {path for path, _ in exercises}
    places: dict[tuple[str, int], str] = {}
    for path in {event["path"] for event in events if event["event"] == "function"} & files:
        for symbol, span in spans((package / path).read_text(encoding="utf-8"), path).items():
            if (path, symbol) in exercises:
                places[path, span.start + 1] = symbol
    functions = {event["number"]: (event["path"], event["line"]) for event in events if event["event"] == "function"}
    return {number: places[place] for number, place in functions.items() if place in places}


def _tests(events: list[Event], symbols: dict[int, str], gate: str = "") -> list[Test]:
    tests: dict[str, Test] = {}
    for event in events:
        if event.get("gate") != gate:
            continue
        if event["event"] == "collected":
            tests = tests or {test["id"]: Test(**test) for test in event["tests"]}
        elif event["event"] == "end" and not tests[event["id"]].ran:
            test = tests[event["id"]]
            test.ran, test.printed, test.seconds = True, event["printed"], event["seconds"]
            test.passing = [_called(calls, symbols) for calls in event["passing"]]
            test.failures = [failure | {"called": _called(failure["calls"], symbols)} for failure in event["failures"]]
    return list(tests.values())


def _called(numbers: list[int], symbols: dict[int, str]) -> frozenset[str]:
    return frozenset(symbols[number] for number in numbers if number in symbols)


def _wrong_before(
    stages: Sequence[Stage], events: list[Event], symbols: dict[int, str], unwritten: frozenset[str]
) -> dict[str, str]:
    """The exercises of earlier stages that their own gates find wrong, with the number of the stage."""
    found: dict[str, str] = {}
    for stage in stages:
        tests = _tests(events, symbols, stage.gate)
        if tests:
            verdict = Verdict(stage, tests, "", unwritten, {}, earlier=dict(found))
            found |= dict.fromkeys(verdict.wrong, stage.label)
    return found


def _unwritten(stages: Sequence[Stage], package: Path) -> tuple[frozenset[str], str]:
    """The exercises of `stages` that are still stubs; and which file cannot be read, if one cannot."""
    found = set()
    for stage in stages:
        for exercise in stage.exercises:
            try:
                source = (package / exercise.path).read_text(encoding="utf-8")
                if is_stub(source, stage, exercise.symbol, exercise.path):
                    found.add(exercise.symbol)
            except FileNotFoundError:
                if stage is stages[-1]:
                    return frozenset(found), f"{exercise.path} is missing"
            except (OSError, UnicodeDecodeError, WorkshopError) as error:
                return frozenset(found), f"{exercise.path} cannot be read: {error}"
    return frozenset(found), ""
