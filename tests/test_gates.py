"""The rules of gates, each held for every gate: zero work scores zero, right code passes, wrong code fails, and the
right one is blamed. What takes many judgements is looked at in samples every day, others after each change, and whole
by `--full`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, some, stages_in_turn

from workshop.author.forks import forked
from workshop.author.mistakes import (
    Bench,
    Judged,
    Mistake,
    digest,
    false_diagnosis,
    load_mistakes,
    record_of,
    scratch_package,
    shortcoming,
)
from workshop.author.package import assemble, reference
from workshop.course import Stage, load_course
from workshop.gate import run_gate
from workshop.observe import alike
from workshop.report import failure_lines
from workshop.stub import make_stub
from workshop.verdict import Verdict

COURSE = load_course(ROOT)
SOURCE = reference(ROOT)
LEAST = {"autograd": 15, "spatial": 15, "attention": 15, "transformers": 15}  # mistakes of a stage; ten elsewhere
UNSEEN = 10
SAMPLE = 2  # mistakes of a stage that are judged every day

each_stage = pytest.mark.parametrize("stage", COURSE.stages, ids=[stage.slug for stage in COURSE.stages])


def judge(
    stage: Stage, solved: Iterable[int], stubbed: Iterable[int] = (), only: tuple[str, ...] = (), **settings: Any
) -> Verdict:
    """The gate's verdict on a package with these stages, and no others, in it."""
    with scratch_package(assemble(COURSE, SOURCE, set(solved), set(stubbed))) as package:
        return run_gate(COURSE, stage, package, ROOT, only, **({"start": forked} | settings))


def complaints(verdict: Verdict) -> list[str]:
    """What did not pass, for the message of an assert."""
    return [verdict.broken, *(f"{test.id}: {test.failures[0]['lines']}" for test in verdict.tests if test.failures)]


def earlier(stage: Stage) -> set[int]:
    return {other.number for other in COURSE.stages if other.number < stage.number}


def stored(stage: Stage) -> dict:
    return json.loads((ROOT / stage.records).read_text(encoding="utf-8"))


# Right code passes


@each_stage
def test_passes_alone(stage: Stage) -> None:
    """With nothing but its needs, and theirs, present (laws 4 and 5)."""
    verdict = judge(stage, COURSE.closure([stage.number]))
    assert verdict.passed, complaints(verdict)
    about_exercises(verdict)


@stages_in_turn(1, "backward")
def test_passes_in_a_fresh_process_and_backward(stage: Stage) -> None:
    """Nothing that is loaded already, and no test that ran before, is what lets a test pass."""
    verdict = judge(stage, COURSE.closure([stage.number]), start=None)
    assert verdict.passed, complaints(verdict)
    backward = judge(stage, COURSE.closure([stage.number]), only=tuple(test.id for test in reversed(verdict.tests)))
    assert backward.passed, complaints(backward)
    assert [test.id for test in backward.tests] == [test.id for test in reversed(verdict.tests)]


def about_exercises(verdict: Verdict) -> None:
    """Every test says what must hold, and calls its exercise, so that it fails without; each exercise has a test."""
    for test in verdict.tests:
        verdict.stage.exercise(test.exercise)
        assert test.says and test.says != test.id, f"{test.id} does not say what must hold"
        assert test.exercise in {symbol for called in test.passing for symbol in called}, f"{test.id} does not call it"
    assert {test.exercise for test in verdict.tests} == {exercise.symbol for exercise in verdict.stage.exercises}


@stages_in_turn(2, "later stubs")
def test_later_stubs_disturb_nothing(stage: Stage, full: bool) -> None:
    """Law 2: with stages 1 … N solved and all later ones as stubs in the same tree, gates 1 … N pass."""
    solved = earlier(stage) | {stage.number}
    numbers = solved if full else {stage.number, *some(sorted(solved), 1, f"before {stage.number}")}
    later = {other.number for other in COURSE.stages} - solved
    with ThreadPoolExecutor(2) as pool:
        verdicts = pool.map(lambda number: judge(COURSE.stage(number), solved, later), sorted(numbers))
        for number, verdict in zip(sorted(numbers), verdicts):
            assert verdict.passed, (number, complaints(verdict))


@pytest.mark.full
@each_stage
def test_passes_with_all_stages_solved(stage: Stage) -> None:
    verdict = judge(stage, [other.number for other in COURSE.stages])
    assert verdict.passed, complaints(verdict)


@stages_in_turn(2, "needs")
def test_needs_are_needed(stage: Stage) -> None:
    """Law 5: without any one of its declared needs, the gate fails."""
    for need in stage.needs:
        verdict = judge(stage, COURSE.closure([stage.number]) - {need})
        assert not verdict.passed, f"stage {stage.label} passes without stage {need:02d}, which it says it needs"


# Zero work scores zero


@stages_in_turn(2, "zero work")
def test_zero_work_scores_zero(stage: Stage) -> None:
    """On the stage as it is cut every test fails, and every exercise is named as not written.

    Every day `about_exercises` sees that each test of each stage calls its exercise.
    """
    verdict = judge(stage, earlier(stage), [stage.number])
    assert verdict.tests and not verdict.broken
    assert [test.id for test in verdict.tests if test.passed] == []
    assert {verdict.of(exercise) for exercise in stage.exercises} == {"not written yet"}
    assert verdict.points == 0 and verdict.wrong == frozenset()


@pytest.mark.full
@each_stage
def test_any_single_stub_is_named(stage: Stage) -> None:
    """Stub one exercise of the solved stage: all tests about it fail, and no other exercise is called wrong.

    Every day `about_exercises` sees that each test calls its exercise.
    """
    files = assemble(COURSE, SOURCE, COURSE.closure([stage.number]), ())

    def without(symbol: str, path: str) -> Verdict:
        with scratch_package(files | {path: make_stub(SOURCE[path], stage, path, only={symbol})}) as package:
            return run_gate(COURSE, stage, package, ROOT, start=forked, earlier=False)

    with ThreadPoolExecutor(2) as pool:
        verdicts = pool.map(lambda exercise: without(exercise.symbol, exercise.path), stage.exercises)
        for exercise, verdict in zip(stage.exercises, verdicts):
            for test in verdict.tests:
                if test.exercise == exercise.symbol:
                    assert test.failures, f"{test.id} passes without {exercise.symbol}"
                    assert any(failure["kind"] == "unwritten" for failure in test.failures), (test.id, test.failures)
            assert verdict.of(exercise) == "not written yet"
            assert verdict.wrong == frozenset(), (exercise.symbol, complaints(verdict))
            said = {verdict.of(other) for other in stage.exercises if other != exercise}
            assert said <= {"passed", f"waits for {exercise.symbol}"}, (exercise.symbol, said)


# Wrong code fails, and the right one is blamed


@pytest.mark.timeout(1500)  # in full a judgement for each mistake, of which some hang until they are given up
@stages_in_turn(3, "mistakes")
def test_mistakes_are_caught_blamed_and_named(stage: Stage, full: bool) -> None:
    """Each, made alone in the reference, fails a test about its exercise, is blamed on that alone, and told as it is.

    Recorded mistakes are all named. Of the unseen, one in fifty may be told as another mistake, and of all one in a
    hundred be blamed on a neighbour: what the records were made from was chosen by us, the rest was not.
    """
    mistakes, known = load_mistakes(stage, ROOT), stored(stage)
    chosen = mistakes if full else some(mistakes, SAMPLE, f"mistakes of {stage.number}")
    judged = [(m, replace(verdict, known=known)) for m, verdict in Bench(COURSE, stage, ROOT).mistakes(chosen)]
    troubles = {m.mistake: trouble for m, verdict in judged if (trouble := shortcoming(m, verdict))}
    assert len(troubles) <= len(judged) / 100, troubles
    false = [m.mistake for m, verdict in judged if m.unseen and false_diagnosis(m, verdict)]
    assert len(false) <= sum(m.unseen for m, _ in judged) / 50, false
    for mistake, verdict in judged:
        assert not [e.symbol for e in stage.exercises if e.symbol != mistake.symbol and verdict.tell(e.symbol)]
        told_in_a_few_lines(mistake, verdict)
    if full:
        records_are_fresh(stage, judged)


def told_in_a_few_lines(mistake: Mistake, verdict: Verdict) -> None:
    for symbol in verdict.wrong:
        lines = failure_lines(verdict, symbol)
        assert len(lines) < 15 and not any("Traceback" in line for line in lines), (mistake.mistake, lines)
        assert max(map(len, lines)) < 400, (mistake.mistake, lines)


def records_are_fresh(stage: Stage, judged: Judged) -> None:
    """What was recorded of each mistake is what is seen of it now."""
    for old, new in zip(stored(stage)["mistakes"], record_of(judged, {})["mistakes"], strict=True):
        assert {**old, "seen": None} == {**new, "seen": None}
        assert alike(old["seen"], new["seen"]), (old, new)


@each_stage
def test_there_are_enough_mistakes(stage: Stage) -> None:
    mistakes = load_mistakes(stage, ROOT)
    assert sum(not m.unseen for m in mistakes) >= LEAST.get(stage.name, 10)
    assert sum(m.unseen for m in mistakes) >= UNSEEN


@each_stage
def test_records_are_of_this_tree(stage: Stage) -> None:
    """Their digest is that of all that they depend on."""
    assert stored(stage)["digest"] == digest(COURSE, stage, ROOT), f"run: tox -e records -- {stage.label}"


@each_stage
def test_records_show_no_solution_text(stage: Stage) -> None:
    """Records ship with the stage; what a mistake changes in the reference does not."""
    text = (ROOT / stage.records).read_text(encoding="utf-8")
    for mistake in load_mistakes(stage, ROOT):
        assert len(mistake.was) < 25 or json.dumps(mistake.was)[1:-1] not in text


# How a gate is written


@each_stage
def test_the_gate_keeps_the_rules(stage: Stage) -> None:
    text = (ROOT / stage.gate).read_text(encoding="utf-8")
    tree = ast.parse(text)
    for node in ast.walk(tree):
        assert not isinstance(node, ast.Assert), f"{stage.gate}:{node.lineno}: use a check, which says what came"
        assert not isinstance(node, ast.ExceptHandler), f"{stage.gate}:{node.lineno}: a check catches what it expects"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in names:
                outside = ("unittest", "mock", "time", "torch", "tracemalloc")
                assert name.split(".")[0] not in outside, f"{stage.gate} imports {name}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "setattr"), f"{stage.gate}:{node.lineno}: {node.func.id}"
    for word in (
        r"(?<!fmt: )skip\b",
        r"xfail",
        r"monkeypatch",
        r"np\.random\.seed",
        r"np\.random\.(rand|randn|normal|randint)\(",
    ):
        assert not re.search(word, text), f"{stage.gate} has {word}"
    for private in re.findall(r"\.(_[a-z]\w*)", text):
        raise AssertionError(f"{stage.gate} reaches for the private name {private}")


@pytest.mark.parametrize("path", sorted((ROOT / "gates").rglob("*.*")), ids=lambda path: path.name)
def test_every_file_in_gates_belongs_to_a_stage(path: Path) -> None:
    known = {name for stage in COURSE.stages for name in (stage.gate, stage.mistakes, stage.records)}
    assert path.suffix == ".pyc" or path.relative_to(ROOT).as_posix() in known
