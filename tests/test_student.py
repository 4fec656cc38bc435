"""What a student meets: real clones of the ladder, real commands, and all that can be wrong with a file of theirs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from subprocess import CompletedProcess

import pytest
from conftest import ROOT, run_git, run_workshop
from warm import run_python

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
    stage = course.stage(2)
    done = run_workshop(clone("stage-02"), "gate02")
    assert done.returncode == 1
    for exercise in stage.exercises:
        assert re.search(
            rf"^ *{re.escape(exercise.symbol)} +{exercise.points:g} +not written yet *$", done.stdout, re.M
        )
    assert "gate 02 not passed: 0 of 20 points" in done.stdout
    assert done.stdout.count("not written yet") == len(stage.exercises), "told once, in the table"
    assert "Traceback" not in done.stdout + done.stderr


def test_a_solved_stage_says_what_comes_next(clone: Clone, course: Course) -> None:
    folder = clone("stage-05")
    solve(folder, course.stage(5))
    done = run_workshop(folder, "gate", "05")
    assert done.returncode == 0, done.stdout
    assert "gate 05 passed: 20 of 20 points" in done.stdout
    assert "Left until milestone 2 (mlp): gate06 (optimizers), gate07 (training)." in done.stdout
    assert "Next: commit your work, then git merge --no-edit handout-06" in done.stdout


@pytest.fixture
def trained(clone: Clone, course: Course) -> Path:
    """Stages 01 to 04, written, with a milestone 1 that only counts how often it trains."""
    folder = clone("stage-04")
    run_git(folder, "fetch", "-q", "origin", "main:main")
    solve(folder, course.stage(4))
    (folder / course.milestone(1).script).write_text(MILESTONE, encoding="utf-8")
    thin_gates(folder, course.stages[:4])
    return folder


def thin_gates(folder: Path, stages: Iterable[Stage]) -> None:
    """In place of the gates of these stages, ones that pass at once: for what comes after a gate has passed."""
    for stage in stages:
        tests = [
            f"@exercise({exercise.symbol!r}, 'is there')\ndef test_{i}():\n    pass\n"
            for i, exercise in enumerate(stage.exercises)
        ]
        text = "import pytest\n\nexercise = pytest.mark.exercise\n\n" + "\n".join(tests)
        (folder / stage.gate).write_text(text, encoding="utf-8")


MILESTONE = """
import json, os, sys
from pathlib import Path
from subprocess import CompletedProcess

out = Path("runs/m1_perceptron")
out.mkdir(parents=True, exist_ok=True)
with open("trained", "a", encoding="utf-8") as count:
    count.write("x")
if "--quick" not in sys.argv:
    (out / "report.json").write_text(json.dumps({"passed": "FAIL" not in os.environ}), encoding="utf-8")
sys.exit("FAIL" in os.environ)
"""
PASSED = "Milestone 1 (perceptron) has passed with the package as it is. To train it again: tox -e milestone1"
NEXT = "Next: commit your work, then git merge --no-edit handout-05"


def times_trained(folder: Path) -> int:
    return len((folder / "trained").read_text(encoding="utf-8")) if (folder / "trained").exists() else 0


def test_after_a_milestone_comes_the_next_handout(trained: Path) -> None:
    done = run_workshop(trained, "gate", "04")
    assert done.returncode == 0 and times_trained(trained) == 1, done.stdout + done.stderr
    assert done.stdout.rstrip().endswith(NEXT)
    run_git(trained, "commit", "-qam", "mine")
    run_git(trained, "merge", "-q", "--no-edit", "handout-05")
    merged = run_workshop(trained, "gate", "04")
    assert times_trained(trained) == 1, "the milestone's own stages are as they were"
    assert PASSED in merged.stdout and "Next: read stages/05_autograd/README.md, then tox -e gate05" in merged.stdout


def test_a_milestone_that_passed_is_not_trained_again(trained: Path) -> None:
    run_workshop(trained, "gate", "04")
    again = run_workshop(trained, "gate", "04")
    assert again.returncode == 0 and times_trained(trained) == 1
    assert PASSED in again.stdout and NEXT in again.stdout and "It trains now" not in again.stdout
    first = run_workshop(trained, "gate", "01")
    assert PASSED in first.stdout and "Left until" not in first.stdout, first.stdout
    by_hand = run_workshop(trained, "milestone", "1")
    assert by_hand.returncode == 0 and times_trained(trained) == 2


@pytest.mark.full
def test_a_changed_package_is_trained_again(trained: Path) -> None:
    run_workshop(trained, "gate", "04")
    path = trained / "tinytorch/core/layers.py"
    path.write_text(path.read_text(encoding="utf-8") + "# changed\n", encoding="utf-8")
    first = run_workshop(trained, "gate", "01")
    assert PASSED not in first.stdout and "it trains when the last gate passes: tox -e gate04" in first.stdout
    run_workshop(trained, "milestone", "1", "--quick")  # leaves the report of the run before
    assert PASSED not in run_workshop(trained, "gate", "01").stdout
    run_workshop(trained, "gate", "04")
    assert times_trained(trained) == 3
    assert PASSED in run_workshop(trained, "gate", "01").stdout


@pytest.mark.full
def test_a_milestone_that_fell_short_is_trained_again(trained: Path) -> None:
    run_workshop(trained, "gate", "04")
    short = run_workshop(trained, "milestone", "1", FAIL="1")
    assert short.returncode == 1 and times_trained(trained) == 2
    again = run_workshop(trained, "gate", "04", FAIL="1")
    assert again.returncode == 1 and times_trained(trained) == 3
    assert PASSED not in again.stdout and NEXT not in again.stdout


def test_all_written_but_not_trained(trained: Path) -> None:
    """Gate 01, judged again when 02 to 04 are written, does not call gate 04 left to be done."""
    done = run_workshop(trained, "gate", "01")
    assert "All stages of milestone 1 (perceptron) are written" in done.stdout and "Left until" not in done.stdout


def test_another_stage_that_cannot_be_read_is_not_written(trained: Path) -> None:
    (trained / "tinytorch/core/losses.py").write_bytes(b"\xff\xfe def f(:")
    done = run_workshop(trained, "gate", "01")
    assert done.returncode == 0 and "Left until milestone 1 (perceptron): gate04 (losses)." in done.stdout, done.stderr


def test_what_you_wrote_wherever_you_began(clone: Clone, course: Course) -> None:
    """The README's three ways to see it, for who began at stage 05 and for who came there from before."""
    middle, start = clone("stage-05"), clone("stage-04")
    run_git(start, "fetch", "-q", "origin", "main:main")
    solve(start, course.stage(4))
    run_git(start, "commit", "-qam", "mine")
    run_git(start, "merge", "-q", "--no-edit", "handout-05")
    readme = (middle / "README.md").read_text(encoding="utf-8")
    said = re.findall(r"^\| `(git diff [^`]*)` \| what you wrote", readme, re.M)
    assert said == [
        "git diff handout-05 -- tinytorch",
        "git diff stage-05 -- tinytorch",
        "git diff handout-06 -- tinytorch/core/optimizers.py",
    ]
    solve(middle, course.stage(5))
    exercises = {exercise.path for exercise in course.stage(5).exercises}
    assert set(run_git(middle, "diff", "--name-only", "stage-05", "--", "tinytorch").split()) == exercises
    assert set(run_git(middle, "diff", "--name-only", "handout-05", "--", "tinytorch").split()) > exercises
    run_git(middle, "commit", "-qam", "mine")
    run_git(middle, "merge", "-q", "--no-edit", "handout-06")
    solve(middle, course.stage(6))
    path = "tinytorch/core/optimizers.py"
    mine = run_git(middle, "diff", "--numstat", "handout-06", "--", path).split()[:2]
    key = run_git(middle, "diff", "--numstat", f"handout-06:{path}", f"origin/main:solutions/{path}").split()[:2]
    assert mine == key != []


@pytest.mark.parametrize("command", ["bench", "stages", "tour", "records", "derive", "tests", "full"])
def test_an_authors_command_in_a_stage(clone: Clone, command: str) -> None:
    folder = clone("stage-02")
    (folder / "workshop" / "author" / "__pycache__").mkdir(parents=True)  # as it stays behind when one came from main
    done = run_workshop(folder, command)
    assert done.returncode == 2 and f"`{command}` is an author's command" in done.stderr, done.stderr
    assert "git switch main" in done.stderr and "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1


def test_a_command_as_tox_names_it(clone: Clone) -> None:
    folder = clone("stage-02")
    assert run_workshop(folder, "gate03").stderr == run_workshop(folder, "gate", "03").stderr != ""
    assert run_workshop(folder, "measure77").stderr == run_workshop(folder, "measure", "77").stderr != ""


def test_measuring_is_told_the_same_way_everywhere(course: Course) -> None:
    """The lesson and the script name the one way that has NumPy: tox."""
    for stage in course.stages:
        for path in (stage.lesson, f"{stage.folder}/measure.py"):
            text = (ROOT / path).read_text(encoding="utf-8")
            assert f"tox -e measure{stage.label}" in text and not re.search(r"python \S*measure\.py", text), path


def test_one_exercise_wrong(first: Path) -> None:
    mend(first, "tinytorch/core/tensor.py", "a.data * b.data", "a.data + b.data")
    done = run_workshop(first, "gate", "01", "__mul__", "__add__", "--no-milestone")
    assert done.returncode == 1
    assert "gate 01  Tensor.__mul__" in done.stdout and "expected" in done.stdout and "got" in done.stdout
    assert 'stages/01_tensor/README.md, "Tensor.__mul__"' in done.stdout
    assert re.search(r"Tensor\.__mul__ .*wrong", done.stdout) and re.search(r"Tensor\.__add__ .*passed", done.stdout)
    assert "test_gate" not in done.stdout and "Traceback" not in done.stdout


def test_a_known_mistake_is_named(first: Path) -> None:
    mend(first, "tinytorch/core/tensor.py", "a, b = floating(a), floating(b)", "pass")
    done = run_workshop(first, "gate", "01", "__truediv__", "--no-milestone")
    assert "That is the result of: integers divided by integers become float64." in done.stdout


def test_an_exercise_that_waits_for_another(clone: Clone, course: Course) -> None:
    """An unwritten exercise is told apart from written ones that only need it."""
    folder = clone("stage-01")
    run_git(folder, "fetch", "-q", "origin", "main:main")
    solve(folder, course.stage(1))
    path = "tinytorch/core/arrays.py"
    stub = make_stub((folder / path).read_text(encoding="utf-8"), course.stage(1), path, only={"as_array"})
    (folder / path).write_text(stub, encoding="utf-8")
    done = run_workshop(folder, "gate", "01", "as_array", "sum")
    assert re.search(r"as_array +2 +not written yet", done.stdout)
    assert re.search(r"Tensor\.sum +1 +waits for as_array", done.stdout)


def test_a_student_may_print(first: Path) -> None:
    mend(first, "tinytorch/core/tensor.py", "import operator\n", 'import operator\n\nprint("hello", "{")\n')
    mend(first, "tinytorch/core/tensor.py", "        a, b = floating(a), floating(b)", '        print("a is", a.dtype)')
    done = run_workshop(first, "gate", "01", "__truediv__", "__add__", "--no-milestone")
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


@pytest.mark.parametrize(
    "way",
    [
        "import sys; sys.exit()",
        pytest.param("raise SystemExit(0)", marks=pytest.mark.full),
        pytest.param("exit()", marks=pytest.mark.full),
    ],
)
def test_exit_at_import(first: Path, way: str) -> None:
    mend(first, "tinytorch/core/tensor.py", "_tape: Any = None", f"{way}\n_tape: Any = None")
    done = run_workshop(first, "gate", "01")
    assert done.returncode == 1 and "tinytorch.core.tensor" in done.stdout and "exit" in done.stdout
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "way", ["import os; os._exit(0)", pytest.param("import ctypes; ctypes.string_at(0)", marks=pytest.mark.full)]
)
def test_a_crash_in_an_exercise_is_no_pass(first: Path, way: str) -> None:
    mend(
        first,
        "tinytorch/core/tensor.py",
        "        x = floating(self)\n        output",
        f"        {way}\n        output",
    )
    done = run_workshop(first, "gate", "01", "exp", "__add__")
    assert done.returncode == 1 and "gate 01  Tensor.exp" in done.stdout and "ended" in done.stdout
    assert re.search(r"Tensor\.__add__ .*passed", done.stdout) and "Traceback" not in done.stdout + done.stderr


def test_an_endless_loop(first: Path) -> None:
    mend(
        first,
        "tinytorch/core/tensor.py",
        "        x = floating(self)\n        output",
        "        while True: pass\n        output",
    )
    done = run_workshop(first, "gate", "01", "exp", "__add__", TINYTORCH_JUDGE_TIMEOUT="1")
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
    seen = run_workshop(first, "gate", "01", "exp", "--no-milestone", PYTHONPATH=str(foreign.parent))
    assert seen.returncode == 0, seen.stdout
    (foreign.parent / "sitecustomize.py").write_text(
        f"import sys; sys.path.insert(0, {str(foreign.parent)!r})\nimport tinytorch", encoding="utf-8"
    )
    refused = run_workshop(first, "gate", "01", "--no-milestone", PYTHONPATH=str(foreign.parent))
    assert refused.returncode == 1 and "elsewhere" in refused.stdout and "stands in its way" in refused.stdout
    assert "Traceback" not in refused.stdout + refused.stderr


def test_a_stage_that_is_not_in_the_tree(clone: Clone) -> None:
    done = run_workshop(clone("stage-02"), "gate", "gate03")
    assert done.returncode == 2 and "git merge --no-edit handout-03" in done.stderr and "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3


def test_a_milestone_that_is_not_in_the_tree(clone: Clone) -> None:
    done = run_workshop(clone("stage-02"), "milestone", "1")
    assert done.returncode == 2 and "git merge --no-edit handout-0" in done.stderr and "Traceback" not in done.stderr


def test_a_milestone_waits_for_the_other_gates_of_its_group(clone: Clone, course: Course) -> None:
    folder = clone("handout-04")
    run_git(folder, "fetch", "-q", "origin", "main:main")
    written = [course.stage(number) for number in (1, 3, 4)]
    for stage in written:
        solve(folder, stage)
    thin_gates(folder, written)
    done = run_workshop(folder, "gate", "04")
    assert done.returncode == 0 and "gate 04 passed" in done.stdout
    assert "Milestone 1 (perceptron) needs gate02 too" in done.stdout and "tox -e gate02" in done.stdout


def test_a_gate_changes_no_file(first: Path) -> None:
    before = run_git(first, "status", "--porcelain", "--ignored")
    run_workshop(first, "gate", "01", "exp", "--no-milestone")
    assert run_git(first, "status", "--porcelain", "--ignored") == before


@pytest.mark.parametrize(
    "arguments", [["gate"], ["gate", "five"], ["nonsense"], ["gate", "01", "--package", "/nowhere"]]
)
def test_a_wrong_command(first: Path, arguments: list[str]) -> None:
    done = run_workshop(first, *arguments)
    assert done.returncode == 2 and done.stderr and "Traceback" not in done.stderr


def test_names_of_later_stages_say_when_they_come(clone: Clone, course: Course) -> None:
    """Law 2, and what is there is found without being imported by hand."""
    folder = clone("stage-02")

    def python(code: str) -> CompletedProcess[str]:
        return run_python("-c", code, cwd=folder)

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
