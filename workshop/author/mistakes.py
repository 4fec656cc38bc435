"""The mistakes that gates must catch: applied to the reference, judged, and recorded.

`gates/mistakes/NN_name.yaml` is written by hand. `gates/records/NN_name.json` is what the gate then observes: from
it a failing check can tell the student which mistake gives the same result. Records ship with a stage; mistakes,
which show the reference's text, do not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.progress import track

from workshop import ROOT, WorkshopError
from workshop.author.forks import forked
from workshop.author.package import assemble, reference
from workshop.course import Course, Stage
from workshop.gate import Verdict, run_gate
from workshop.report import console
from workshop.stub import find


@dataclass(frozen=True)
class Mistake:
    """One wrong implementation: a change to one function of the reference, and what to tell who makes it."""

    mistake: str
    symbol: str
    was: str
    becomes: str
    tell: str


def load_mistakes(stage: Stage, root: Path = ROOT) -> list[Mistake]:
    """The stage's mistakes, checked: known keys, known exercises, no name twice."""
    try:
        entries = yaml.safe_load((root / stage.mistakes).read_text(encoding="utf-8"))
        found = [Mistake(**entry) for entry in entries]
    except (yaml.YAMLError, TypeError) as error:
        raise WorkshopError(
            f"{stage.mistakes}: expected a list of mistake, symbol, was, becomes, tell: {error}"
        ) from error
    for mistake in found:
        stage.exercise(mistake.symbol)
    names = [mistake.mistake for mistake in found]
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise WorkshopError(f"{stage.mistakes}: the mistake {twice.pop()!r} stands there twice")
    return found


def apply(mistake: Mistake, stage: Stage, source: dict[str, str]) -> dict[str, str]:
    """The package's files with one mistake made."""
    path = stage.exercise(mistake.symbol).path
    span = find(source[path], mistake.symbol, path)
    lines = source[path].splitlines(keepends=True)
    function = "".join(lines[span.start : span.end])
    if function.count(mistake.was) != 1:
        times = function.count(mistake.was)
        raise WorkshopError(
            f"{stage.mistakes}: {mistake.was!r} stands {times} times in {mistake.symbol}, expected once"
        )
    changed = "".join([*lines[: span.start], function.replace(mistake.was, mistake.becomes), *lines[span.end :]])
    try:
        compile(changed, path, "exec")
    except SyntaxError as error:
        raise WorkshopError(f"{stage.mistakes}: {mistake.mistake!r} does not compile: {error.msg}") from error
    return source | {path: changed}


@contextmanager
def scratch_package(files: dict[str, str]) -> Iterator[Path]:
    """A folder that holds these files, and is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        for path, text in files.items():
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="\n")
        yield Path(folder)


def judge_all(course: Course, stages: Sequence[Stage], root: Path = ROOT) -> dict[int, list[tuple[Mistake, Verdict]]]:
    """Every mistake of `stages`, judged by the tests about its exercise, two at a time, with progress."""
    solutions = reference(root)
    jobs = [(stage, mistake) for stage in stages for mistake in load_mistakes(stage, root)]
    # Only the stages that a stage needs are there: what its gate sees must not depend on later ones.
    sources = {s.number: assemble(course, solutions, course.closure([s.number]), ()) for s in stages}
    tests = {s.number: ids_by_exercise(course, s, sources[s.number], root) for s in stages}

    def judge(job: tuple[Stage, Mistake]) -> Verdict:
        stage, mistake = job
        with scratch_package(apply(mistake, stage, sources[stage.number])) as folder:
            return run_gate(course, stage, folder, root, tests[stage.number][mistake.symbol], start=forked)

    found: dict[int, list[tuple[Mistake, Verdict]]] = {stage.number: [] for stage in stages}
    with ThreadPoolExecutor(2) as pool:
        verdicts = track(pool.map(judge, jobs), "judging mistakes", len(jobs), console=console)
        for (stage, mistake), verdict in zip(jobs, verdicts):
            found[stage.number].append((mistake, verdict))
    return found


def ids_by_exercise(course: Course, stage: Stage, source: dict[str, str], root: Path) -> dict[str, list[str]]:
    """The ids of the gate's tests about each exercise; a WorkshopError if the reference itself does not pass."""
    with scratch_package(source) as folder:
        verdict = run_gate(course, stage, folder, root, start=forked)
    failed = [f"{test.id}: {'; '.join(test.failure['lines'])}" for test in verdict.tests if test.failure]
    if verdict.broken or failed:
        raise WorkshopError(f"the reference does not pass gate {stage.label}: {verdict.broken or failed[0]}")
    about: dict[str, list[str]] = {exercise.symbol: [] for exercise in stage.exercises}
    for test in verdict.tests:
        about.setdefault(test.exercise, []).append(test.id)
    for symbol, tests in about.items():
        if not tests:
            raise WorkshopError(f"{stage.gate} has no test about {symbol}")
    return about


def record_of(judged: list[tuple[Mistake, Verdict]]) -> dict[str, Any]:
    """What the gate observed of each mistake, by test."""
    seen: dict[str, list[dict[str, Any]]] = {}
    for number, (_, verdict) in enumerate(judged):
        for test in verdict.tests:
            if test.failure:
                entry = {"mistake": number, "check": test.failure["check"], "seen": test.failure["seen"]}
                seen.setdefault(test.id, []).append(entry)
    told = [{"mistake": m.mistake, "symbol": m.symbol, "tell": m.tell} for m, _ in judged]
    return {"mistakes": told, "seen": seen}


def dump(record: dict[str, Any]) -> str:
    """A record as JSON, an observation a line, so that changes read well in a diff."""
    mistakes = ",\n".join(f"    {json.dumps(mistake, ensure_ascii=False)}" for mistake in record["mistakes"])
    tests = []
    for test, entries in sorted(record["seen"].items()):
        rows = ",\n".join(f"      {json.dumps(entry, ensure_ascii=False)}" for entry in entries)
        tests.append(f"    {json.dumps(test)}: [\n{rows}\n    ]")
    return '{\n  "mistakes": [\n' + mistakes + '\n  ],\n  "seen": {\n' + ",\n".join(tests) + "\n  }\n}\n"


def write_records(course: Course, stages: Sequence[Stage], root: Path = ROOT) -> int:
    """Write the records of `stages` anew; then say which mistakes no check tells apart. Returns 1 if there are any."""
    unnamed = 0
    for number, judged in judge_all(course, stages, root).items():
        stage = course.stage(number)
        record = record_of(judged)
        path = root / stage.records
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(record), encoding="utf-8", newline="\n")
        console.print(f"{stage.records}: {len(judged)} mistakes", soft_wrap=True)
        for mistake, verdict in judged:
            trouble = shortcoming(mistake, Verdict(stage, verdict.tests, verdict.broken, frozenset(), record))
            if trouble:
                unnamed += 1
                console.print(f"  [red]{mistake.symbol}: {mistake.mistake}[/]: {trouble}", soft_wrap=True)
    return 1 if unnamed else 0


def shortcoming(mistake: Mistake, verdict: Verdict) -> str:
    """What is wrong with how a gate met a mistake: "" if a test about its symbol failed and named just this mistake."""
    if verdict.broken:
        return f"the package could not be judged: {verdict.broken}"
    failed = [test for test in verdict.tests if test.exercise == mistake.symbol and test.failure]
    if not failed:
        return "no test about this exercise fails"
    told = [verdict.tell(test) for test in failed]
    if (mistake.mistake, mistake.tell) not in told:
        return "no failing test tells it from the others"
    return ""
