"""Lessons: all sections in their order, code that runs, figures that their own script prints."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT

from workshop.course import Stage, load_course

MAP = load_course(ROOT)
SOLUTIONS = ROOT / "solutions"

each_stage = pytest.mark.parametrize("stage", MAP.stages, ids=[stage.slug for stage in MAP.stages])


def lesson(stage: Stage) -> str:
    return (ROOT / stage.lesson).read_text(encoding="utf-8")


def blocks(text: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.M | re.S)


def headings(text: str, level: int) -> list[str]:
    plain = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return re.findall(rf"^{'#' * level} (.+?)$", plain, re.M)


@each_stage
def test_length_and_order(stage: Stage) -> None:
    text = lesson(stage)
    assert 150 <= len(text.splitlines()) <= 400
    assert len(headings(text, 1)) == 1
    assert stage.question in " ".join(text.split()), "the stage's question stands in its lesson as in the map"
    sections = headings(text, 2)
    assert sections[-1].startswith("Summary") and len(sections) >= 6, sections


@each_stage
def test_every_exercise_has_its_section(stage: Stage) -> None:
    """Where the gate's messages point to."""
    symbols = [exercise.symbol for exercise in stage.exercises]
    found = " ".join(headings(lesson(stage), 3))
    missing = [symbol for symbol in symbols if not re.search(rf"(?<![\w.]){re.escape(symbol)}(?![\w.])", found)]
    assert missing == []


@each_stage
def test_plain_words(stage: Stage) -> None:
    prose = re.sub(r"^```.*?^```$|`[^`\n]*`", "", lesson(stage), flags=re.M | re.S)
    assert "!" not in prose.replace("![", ""), "no exclamation marks"
    assert not re.search("[\U0001f300-\U0001faff\u2600-\u27bf]", prose), "no emoji"


@each_stage
def test_no_solution_code(stage: Stage) -> None:
    """No line of an exercise's body, long enough to be telling, stands in the lesson's code."""
    from workshop.stub import find

    code = "\n".join(blocks(lesson(stage), r"\w*"))
    for exercise in stage.exercises:
        source = (SOLUTIONS / exercise.path).read_text(encoding="utf-8")
        span = find(source, exercise.symbol, exercise.path)
        for line in source.splitlines()[span.body : span.end]:
            assert len(line.strip()) < 30 or line.strip() not in code, f"{exercise.symbol}: {line.strip()}"


RUN = """
import doctest, sys
text = sys.stdin.read()
test = doctest.DocTestParser().get_doctest(text, {}, sys.argv[1], sys.argv[1], 0)
sys.exit(doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(test).failed)
"""


@each_stage
def test_code_runs(stage: Stage) -> None:
    """Every python block, in order, in one process, against the reference; `>>>` lines print what stands below them."""
    script = ""
    for block in blocks(lesson(stage), "python"):
        if ">>>" not in block:  # plain code: the same as a doctest that prints nothing
            lines = block.rstrip("\n").splitlines()
            block = f">>> exec({chr(10).join(lines)!r}, globals())\n"
        script += block + "\n"
    done = subprocess.run(
        [sys.executable, "-c", RUN, stage.lesson],
        input=script,
        cwd=SOLUTIONS,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert script, "a lesson without code"


def masked(text: str) -> list[str]:
    """Lines with every number replaced, and runs of blanks made one: what is left does not depend on the machine."""
    return [
        " ".join(re.sub(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", "#", line).replace("-#", "#").split())
        for line in text.splitlines()
        if line.strip()
    ]


@cache
def measured() -> dict[int, Future[subprocess.CompletedProcess[str]]]:
    """What every measure.py prints on the reference, two at a time."""

    def run(stage: Stage) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, str(ROOT / stage.folder / "measure.py"), "--package", str(SOLUTIONS)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            encoding="utf-8",
            env=os.environ | {"PYTHONUTF8": "1"},
            check=False,
        )

    pool = ThreadPoolExecutor(2)
    return {stage.number: pool.submit(run, stage) for stage in MAP.stages}


@each_stage
def test_figures_are_measured(stage: Stage) -> None:
    """What measure.py prints now stands in the lesson, line by line, but for the numbers; and the lesson is dated."""
    done = measured()[stage.number].result()
    assert done.returncode == 0, done.stderr
    text = lesson(stage)
    pasted = {line for block in blocks(text, "text") for line in masked(block)}
    printed = masked(done.stdout)
    assert len(printed) >= 4
    assert [line for line in printed if line not in pasted] == []
    assert re.search(r"20\d\d-\d\d-\d\d", text) and re.search(r"NumPy \d", text), "date and machine of the figures"


@each_stage
def test_measuring_an_unwritten_stage(stage: Stage) -> None:
    """The stub's own words, and no traceback."""
    done = subprocess.run(
        [sys.executable, str(ROOT / stage.folder / "measure.py")],
        cwd=ROOT,
        capture_output=True,
        text=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
        check=False,
    )
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "is yours to write" in said and "Traceback" not in said, said


@pytest.mark.parametrize("path", sorted(SOLUTIONS.rglob("*.py")), ids=lambda path: path.stem)
def test_docstring_examples_run(path: Path) -> None:
    """The doctests in the package's docstrings."""
    if ">>>" not in path.read_text(encoding="utf-8"):
        return
    module = ".".join(path.relative_to(SOLUTIONS).with_suffix("").parts)
    code = f"import doctest, importlib, sys; sys.exit(doctest.testmod(importlib.import_module({module!r})).failed)"
    done = subprocess.run([sys.executable, "-c", code], cwd=SOLUTIONS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_doctest_would_notice() -> None:
    """The way lessons are run does fail on a wrong line."""
    done = subprocess.run(
        [sys.executable, "-c", RUN, "x"], input=">>> 1 + 1\n3\n", capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert doctest.DocTestParser().get_examples(">>> 1 + 1\n3\n")
