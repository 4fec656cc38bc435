"""What a student meets: real clones of the ladder, real commands, and all that can be wrong with a file of theirs."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import run_git, run_workshop

from workshop.course import Course, Stage
from workshop.stub import make_stub

Clone = Callable[..., Path]


def solve(folder: Path, stage: Stage) -> None:
    """Write the stage as the reference does."""
    for path in stage.files:
        (folder / path).write_text(run_git(folder, "show", f"main:solutions/{path}"), encoding="utf-8", newline="\n")


def mend(folder: Path, path: str, was: str, becomes: str) -> None:
    text = (folder / path).read_text(encoding="utf-8")
    assert text.count(was) == 1, (path, was, text.count(was))
    (folder / path).write_text(text.replace(was, becomes), encoding="utf-8", newline="\n")


@pytest.fixture
def first(clone: Clone, course: Course) -> Path:
    """Stage 01, checked out as its tag and solved."""
    folder = clone("stage-01")
    run_git(folder, "fetch", "-q", "origin", "main:main")
    solve(folder, course.stages[0])
    return folder


def test_a_fresh_stage_names_every_exercise(clone: Clone, course: Course) -> None:
    stage = course.stage(5)
    done = run_workshop(clone("stage-05"), "gate", "gate05")
    assert done.returncode == 1
    for exercise in stage.exercises:
        assert re.search(
            rf"^ *{re.escape(exercise.symbol)} +{exercise.points:g} +not written yet *$", done.stdout, re.M
        )
    assert "gate 05 not passed: 0 of 20 points" in done.stdout
    assert done.stdout.count("not written yet") == len(stage.exercises), "told once, in the table"
    assert "Traceback" not in done.stdout + done.stderr


def test_a_solved_stage_says_what_comes_next(clone: Clone, course: Course) -> None:
    folder = clone("stage-05")
    solve(folder, course.stage(5))
    done = run_workshop(folder, "gate", "05")
    assert done.returncode == 0, done.stdout
    assert "gate 05 passed: 20 of 20 points" in done.stdout
    assert "Left until milestone 2 (mlp): gate06 (optimizers), gate07 (training)." in done.stdout
    assert "git merge handout-06" in done.stdout


def test_one_exercise_wrong(first: Path) -> None:
    mend(first, "tinytorch/core/tensor.py", "a.data * b.data", "a.data + b.data")
    done = run_workshop(first, "gate", "01", "--no-milestone")
    assert done.returncode == 1
    assert "gate 01  Tensor.__mul__" in done.stdout and "expected" in done.stdout and "got" in done.stdout
    assert 'stages/01_tensor/README.md, "Tensor.__mul__"' in done.stdout
    assert re.search(r"Tensor\.__mul__ .*wrong", done.stdout) and re.search(r"Tensor\.__add__ .*passed", done.stdout)
    assert "test_gate" not in done.stdout and "Traceback" not in done.stdout


def test_a_known_mistake_is_named(first: Path) -> None:
    mend(first, "tinytorch/core/tensor.py", "a, b = floating(a), floating(b)", "pass")
    done = run_workshop(first, "gate", "01", "--no-milestone")
    assert "That is the result of: integers divided by integers become float64." in done.stdout


def test_an_exercise_that_waits_for_another(clone: Clone, course: Course) -> None:
    """An unwritten exercise is told apart from written ones that only need it."""
    folder = clone("stage-01")
    run_git(folder, "fetch", "-q", "origin", "main:main")
    solve(folder, course.stage(1))
    path = "tinytorch/core/arrays.py"
    stub = make_stub((folder / path).read_text(encoding="utf-8"), course.stage(1), path, only={"as_array"})
    (folder / path).write_text(stub, encoding="utf-8")
    done = run_workshop(folder, "gate", "01")
    assert re.search(r"as_array +2 +not written yet", done.stdout)
    assert re.search(r"Tensor\.sum +1 +waits for as_array", done.stdout)


def test_a_student_may_print(first: Path) -> None:
    mend(first, "tinytorch/core/tensor.py", "import operator\n", 'import operator\n\nprint("hello", "{")\n')
    mend(first, "tinytorch/core/tensor.py", "        a, b = floating(a), floating(b)", '        print("a is", a.dtype)')
    done = run_workshop(first, "gate", "01", "--no-milestone")
    assert done.returncode == 1 and "printed   a is" in done.stdout
    assert re.search(r"Tensor\.__add__ .*passed", done.stdout)


def test_a_syntax_error(first: Path) -> None:
    mend(first, "tinytorch/core/arrays.py", "def as_array(", "def as_array((")
    done = run_workshop(first, "gate", "01")
    line = 1 + (first / "tinytorch/core/arrays.py").read_text(encoding="utf-8").split("def as_array((")[0].count("\n")
    assert done.returncode == 1 and f"tinytorch/core/arrays.py, line {line}: " in done.stdout
    assert "Traceback" not in done.stdout + done.stderr and "0 of 20 points" in done.stdout


def test_an_error_at_import(first: Path) -> None:
    mend(first, "tinytorch/core/tensor.py", "_tape: Any = None", "[][1]\n_tape: Any = None")
    done = run_workshop(first, "gate", "01")
    assert done.returncode == 1 and "IndexError: list index out of range" in done.stdout
    assert re.search(r"tinytorch/core/tensor\.py, line \d+", done.stdout) and "Traceback" not in done.stdout


@pytest.mark.parametrize("way", ["import sys; sys.exit()", "raise SystemExit(0)", "exit()"])
def test_exit_at_import(first: Path, way: str) -> None:
    mend(first, "tinytorch/core/tensor.py", "_tape: Any = None", f"{way}\n_tape: Any = None")
    done = run_workshop(first, "gate", "01")
    assert done.returncode == 1 and "tinytorch.core.tensor" in done.stdout and "exit" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize("way", ["import os; os._exit(0)", "import ctypes; ctypes.string_at(0)"])
def test_a_crash_in_an_exercise_is_no_pass(first: Path, way: str) -> None:
    mend(
        first,
        "tinytorch/core/tensor.py",
        "        x = floating(self)\n        output",
        f"        {way}\n        output",
    )
    done = run_workshop(first, "gate", "01")
    assert done.returncode == 1 and "gate 01  Tensor.exp" in done.stdout and "ended" in done.stdout
    assert re.search(r"Tensor\.__add__ .*passed", done.stdout) and "Traceback" not in done.stdout + done.stderr


def test_an_endless_loop(first: Path) -> None:
    mend(
        first,
        "tinytorch/core/tensor.py",
        "        x = floating(self)\n        output",
        "        while True: pass\n        output",
    )
    done = run_workshop(first, "gate", "01")
    assert done.returncode == 1 and "gate 01  Tensor.exp" in done.stdout and "loop that never ends" in done.stdout
    assert re.search(r"Tensor\.exp .*never ends", done.stdout) and re.search(r"Tensor\.__add__ .*passed", done.stdout)
    assert "Traceback" not in done.stdout + done.stderr


def test_a_missing_file(first: Path) -> None:
    (first / "tinytorch/core/tensor.py").unlink()
    done = run_workshop(first, "gate", "01")
    assert done.returncode == 1 and "tinytorch" in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_a_file_that_is_no_text(first: Path) -> None:
    (first / "tinytorch/core/tensor.py").write_bytes(b"\xff\xfe\x00x = 1")
    done = run_workshop(first, "gate", "01")
    assert done.returncode == 1 and "tensor.py" in done.stdout and "Traceback" not in done.stdout + done.stderr


def test_a_package_from_elsewhere_does_not_count(first: Path, tmp_path: Path) -> None:
    """Law 6. Merely installed elsewhere, it is not even seen; already imported, it is refused by its place."""
    foreign = tmp_path / "elsewhere" / "tinytorch"
    foreign.mkdir(parents=True)
    (foreign / "__init__.py").write_text("", encoding="utf-8")
    seen = run_workshop(first, "gate", "01", "--no-milestone", PYTHONPATH=str(foreign.parent))
    assert seen.returncode == 0, seen.stdout
    (foreign.parent / "sitecustomize.py").write_text(
        f"import sys; sys.path.insert(0, {str(foreign.parent)!r})\nimport tinytorch", encoding="utf-8"
    )
    refused = run_workshop(first, "gate", "01", "--no-milestone", PYTHONPATH=str(foreign.parent))
    assert refused.returncode == 1 and "elsewhere" in refused.stdout and "stands in its way" in refused.stdout
    assert "Traceback" not in refused.stdout + refused.stderr


def test_a_stage_that_is_not_in_the_tree(clone: Clone) -> None:
    done = run_workshop(clone("stage-02"), "gate", "gate03")
    assert done.returncode == 2 and "git merge handout-03" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_a_milestone_that_is_not_in_the_tree(clone: Clone) -> None:
    done = run_workshop(clone("stage-02"), "milestone", "1")
    assert done.returncode == 2 and "git merge handout-0" in done.stderr and "Traceback" not in done.stderr


def test_a_milestone_waits_for_the_other_gates_of_its_group(clone: Clone, course: Course) -> None:
    folder = clone("handout-04")
    run_git(folder, "fetch", "-q", "origin", "main:main")
    for number in (1, 3, 4):
        solve(folder, course.stage(number))
    done = run_workshop(folder, "gate", "04")
    assert done.returncode == 0 and "gate 04 passed" in done.stdout
    assert "Milestone 1 (perceptron) needs gate02 too" in done.stdout and "tox -e gate02" in done.stdout


def test_the_tests_of_the_workshop_are_not_in_a_stage(clone: Clone) -> None:
    done = run_workshop(clone("stage-02"), "tests")
    assert done.returncode == 2 and "tox -e gate" in done.stderr and "Traceback" not in done.stderr


def test_a_gate_changes_no_file(first: Path) -> None:
    before = run_git(first, "status", "--porcelain", "--ignored")
    run_workshop(first, "gate", "01", "--no-milestone")
    assert run_git(first, "status", "--porcelain", "--ignored") == before


@pytest.mark.parametrize(
    "arguments", [["gate"], ["gate", "five"], ["nonsense"], ["gate", "01", "--package", "/nowhere"]]
)
def test_a_wrong_command(first: Path, arguments: list[str]) -> None:
    done = run_workshop(first, *arguments)
    assert done.returncode == 2 and done.stderr and "Traceback" not in done.stderr


def test_names_of_later_stages_say_when_they_come(clone: Clone, course: Course) -> None:
    """Law 2, and what is there is found without being imported by hand."""
    import subprocess
    import sys

    folder = clone("stage-02")

    def python(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)

    later = python("from tinytorch import Trainer")
    assert later.returncode == 1 and later.stderr.strip().splitlines()[-1] == "ImportError: Trainer arrives in stage 07"
    never = python("import tinytorch; tinytorch.Nonsense")
    assert "AttributeError: module 'tinytorch' has no attribute 'Nonsense'" in never.stderr
    star = python("from tinytorch import *; print(Tensor, 'Trainer' in dir())")
    assert star.returncode == 0 and "False" in star.stdout, star.stderr
    asleep = python("from tinytorch import Tensor; Tensor([1.0], requires_grad=True).backward()")
    assert (
        asleep.stderr.strip().splitlines()[-1] == "RuntimeError: backward(): gradients wake up in stage 05 (autograd)"
    )
