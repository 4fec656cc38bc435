"""The rules of gates, held for every gate: no work scores zero, right code passes, wrong code fails and is named."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

from workshop.author.forks import forked
from workshop.author.mistakes import (
    Mistake,
    ids_by_exercise,
    judge_all,
    load_mistakes,
    record_of,
    scratch_package,
    shortcoming,
)
from workshop.author.package import assemble, reference
from workshop.course import Stage, load_course
from workshop.gate import Verdict, run_gate
from workshop.observe import alike
from workshop.report import failure_lines
from workshop.stub import make_stub

COURSE = load_course(ROOT)
SOURCE = reference(ROOT)
LEAST = {"autograd": 15, "spatial": 15}  # mistakes of a stage; eight elsewhere

each_stage = pytest.mark.parametrize("stage", COURSE.stages, ids=[stage.slug for stage in COURSE.stages])


def judge(
    stage: Stage, solved: Iterable[int], stubbed: Iterable[int] = (), only: tuple[str, ...] = (), fork: bool = True
) -> Verdict:
    """The gate's verdict on a package with these stages, and no others, in it."""
    with scratch_package(assemble(COURSE, SOURCE, set(solved), set(stubbed))) as package:
        return run_gate(COURSE, stage, package, ROOT, only, forked if fork else None)


def complaints(verdict: Verdict) -> list[str]:
    """What did not pass, for the message of an assert."""
    return [verdict.broken, *(f"{test.id}: {test.failure['lines']}" for test in verdict.tests if test.failure)]


def earlier(stage: Stage) -> set[int]:
    return {other.number for other in COURSE.stages if other.number < stage.number}


# Right code passes


@each_stage
def test_passes_alone(stage: Stage) -> None:
    """With nothing but its needs, and theirs, present (laws 4 and 5), and in the opposite order."""
    verdict = judge(stage, COURSE.closure([stage.number]), fork=False)
    assert verdict.passed, complaints(verdict)
    backward = judge(
        stage, COURSE.closure([stage.number]), only=tuple(test.id for test in reversed(verdict.tests)), fork=False
    )
    assert backward.passed, complaints(backward)
    assert [test.id for test in backward.tests] == [test.id for test in reversed(verdict.tests)]


@each_stage
def test_later_stubs_disturb_nothing(stage: Stage) -> None:
    """Law 2: with stages 1 … N solved and all later ones as stubs in the same tree, gates 1 … N pass."""
    solved = earlier(stage) | {stage.number}
    later = {other.number for other in COURSE.stages} - solved
    with ThreadPoolExecutor(2) as pool:
        verdicts = pool.map(lambda number: judge(COURSE.stage(number), solved, later), sorted(solved))
        for number, verdict in zip(sorted(solved), verdicts):
            assert verdict.passed, (number, complaints(verdict))


@each_stage
def test_passes_with_all_stages_solved(stage: Stage) -> None:
    verdict = judge(stage, [other.number for other in COURSE.stages])
    assert verdict.passed, complaints(verdict)


@each_stage
def test_needs_are_needed(stage: Stage) -> None:
    """Law 5: without any one of its declared needs, the gate fails."""
    for need in stage.needs:
        verdict = judge(stage, COURSE.closure([stage.number]) - {need})
        assert not verdict.passed, f"stage {stage.label} passes without stage {need:02d}, which it says it needs"


# Zero work scores zero


@each_stage
def test_zero_work_scores_zero(stage: Stage) -> None:
    """On the stage as it is cut every test fails, and every exercise is named as not written."""
    verdict = judge(stage, earlier(stage), [stage.number])
    assert verdict.tests and not verdict.broken
    assert [test.id for test in verdict.tests if test.passed] == []
    assert {verdict.of(exercise) for exercise in stage.exercises} == {"not written yet"}
    assert verdict.points == 0


@each_stage
def test_any_single_stub_is_named(stage: Stage) -> None:
    """Stub one exercise of the solved stage: all tests about it fail, by its own NotImplementedError."""
    files = assemble(COURSE, SOURCE, COURSE.closure([stage.number]), ())
    about = ids_by_exercise(COURSE, stage, files, ROOT)

    def without(symbol: str, path: str) -> Verdict:
        with scratch_package(files | {path: make_stub(SOURCE[path], stage, path, only={symbol})}) as package:
            return run_gate(COURSE, stage, package, ROOT, about[symbol], start=forked)

    with ThreadPoolExecutor(2) as pool:
        verdicts = pool.map(lambda exercise: without(exercise.symbol, exercise.path), stage.exercises)
        for exercise, verdict in zip(stage.exercises, verdicts):
            assert [test.id for test in verdict.tests] == about[exercise.symbol]
            for test in verdict.tests:
                assert test.failure, f"{test.id} passes without {exercise.symbol}"
                assert test.failure["kind"] == "unwritten", (test.id, test.failure)
                assert f": {exercise.symbol} is yours to write" in test.failure["lines"][0], (test.id, test.failure)
            assert verdict.of(exercise) == "not written yet"


# Wrong code fails


@cache
def judged(stage: Stage) -> list[tuple[Mistake, Verdict]]:
    """Every mistake of a stage, made in a scratch copy of the reference and judged; once for all tests here."""
    return judge_all(COURSE, [stage], ROOT)[stage.number]


@each_stage
def test_every_mistake_is_caught_and_named(stage: Stage) -> None:
    found = {mistake.mistake: shortcoming(mistake, verdict) for mistake, verdict in judged(stage)}
    assert {name: trouble for name, trouble in found.items() if trouble} == {}
    assert len(found) >= LEAST.get(stage.name, 8)


@each_stage
def test_records_are_fresh(stage: Stage) -> None:
    stored = json.loads((ROOT / stage.records).read_text(encoding="utf-8"))
    fresh = record_of(judged(stage))
    assert stored["mistakes"] == fresh["mistakes"], "run: python -m workshop records"
    assert stored["seen"].keys() == fresh["seen"].keys()
    for test, entries in fresh["seen"].items():
        pairs = list(zip(stored["seen"][test], entries))
        assert len(stored["seen"][test]) == len(entries)
        for old, new in pairs:
            assert (old["mistake"], old["check"]) == (new["mistake"], new["check"]), test
            assert alike(old["seen"], new["seen"]), (test, old, new)


@each_stage
def test_failures_are_told_in_a_few_lines(stage: Stage) -> None:
    for mistake, verdict in judged(stage):
        for test in verdict.tests:
            if test.failure:
                lines = failure_lines(verdict, test)
                assert len(lines) < 15 and not any("Traceback" in line for line in lines), (mistake.mistake, lines)
                assert max(map(len, lines)) < 400, (mistake.mistake, lines)


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
                assert name.split(".")[0] not in ("unittest", "mock", "time", "torch"), f"{stage.gate} imports {name}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in ("print", "setattr"), f"{stage.gate}:{node.lineno}: {node.func.id}"
    for word in (
        r"skip\b",
        r"xfail",
        r"monkeypatch",
        r"np\.random\.seed",
        r"np\.random\.(rand|randn|normal|randint)\(",
    ):
        assert not re.search(word, text), f"{stage.gate} has {word}"
    for private in re.findall(r"\.(_[a-z]\w*)", text):
        raise AssertionError(f"{stage.gate} reaches for the private name {private}")


@each_stage
def test_tests_are_about_exercises(stage: Stage) -> None:
    """Every test names an exercise of its stage and says what must hold; every exercise has a test."""
    tree = ast.parse((ROOT / stage.gate).read_text(encoding="utf-8"))
    about = []
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
            marks = [
                d.args[0].value for d in node.decorator_list if isinstance(d, ast.Call) and d.func.id == "exercise"
            ]
            assert len(marks) == 1, f"{node.name} names {len(marks)} exercises"
            stage.exercise(marks[0])
            assert ast.get_docstring(node), f"{node.name} does not say what must hold"
            about += marks
    assert set(about) == {exercise.symbol for exercise in stage.exercises}


@pytest.mark.parametrize("path", sorted((ROOT / "gates").rglob("*.*")), ids=lambda path: path.name)
def test_every_file_in_gates_belongs_to_a_stage(path: Path) -> None:
    known = {name for stage in COURSE.stages for name in (stage.gate, stage.mistakes, stage.records)}
    assert path.suffix == ".pyc" or path.relative_to(ROOT).as_posix() in known


def test_checks_can_fail() -> None:
    """Each kind of check refuses what differs a little: in value, shape, dtype, type, error or message."""
    import numpy as np

    from workshop import checks

    wrong: list[Callable[[], None]] = [
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
        lambda: checks.holds(False, "expected", "got"),
        lambda: checks.holds(np.array([True, False]), "expected", "got"),
        lambda: checks.raises(ValueError, lambda: 1, "given"),
        lambda: checks.raises(ValueError, lambda: [][0], "given"),
        lambda: checks.raises(IndexError, lambda: [][0], "given", mentions=["shape"]),
    ]
    for case in wrong:
        with pytest.raises(checks.CheckFailed):
            case()
    checks.close(np.array([np.nan, np.inf, 1.0]), [np.nan, np.inf, 1.0 + 1e-7], "x")
    checks.raises(IndexError, lambda: [][0], "given", mentions=["range"])
    with pytest.raises(NotImplementedError):
        checks.raises(Exception, lambda: (_ for _ in ()).throw(NotImplementedError("stub")), "given")
