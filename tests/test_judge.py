"""What a student is told of code that loops, crashes, stops for the debugger, or is wrong in an earlier stage."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from workshop import WorkshopError
from workshop.author.forks import forked
from workshop.author.mistakes import doing_nothing, scratch_package
from workshop.author.package import assemble, reference
from workshop.course import load_course
from workshop.gate import run_gate
from workshop.report import failure_lines
from workshop.stub import make_stub
from workshop.verdict import Verdict

COURSE = load_course(ROOT)
SOURCE = reference(ROOT)


def judged(
    number: int, bodies: dict[str, str] | None = None, stubs: set[str] | None = None, **options: object
) -> Verdict:
    """The gate's verdict on the reference with these bodies, of one statement each, for some exercises.

    The judge is a process that is forked, but where the test is about how it ends: `start=None`.
    """
    stage = COURSE.stage(number)
    files = assemble(COURSE, SOURCE, COURSE.closure([number]), ())
    for one in (COURSE.stage(n) for n in COURSE.closure([number])):
        for exercise in one.exercises:
            if exercise.symbol in (bodies or {}):
                files = doing_nothing(exercise, bodies[exercise.symbol], files)
            if exercise.symbol in (stubs or ()):
                files[exercise.path] = make_stub(files[exercise.path], one, exercise.path, {exercise.symbol})
    with scratch_package(files) as package:
        return run_gate(COURSE, stage, package, ROOT, **({"start": forked} | options))


def said(verdict: Verdict, symbol: str) -> str:
    return verdict.of(verdict.stage.exercise(symbol))


def told(verdict: Verdict, symbol: str) -> str:
    return re.sub(r"\[/?[a-z]*\]", "", "\n".join(failure_lines(verdict, symbol)))


# What ends a judge costs the exercise that did it, and no other


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that loop are given up after a second or two."""
    for name in ("TIMEOUT", "HASTE", "GRACE"):
        monkeypatch.setattr(f"workshop.gate.{name}", 1)
    monkeypatch.setenv("TINYTORCH_JUDGE_TIMEOUT", "1")


def test_an_endless_loop_costs_its_own_tests_alone(hasty: None) -> None:
    verdict = judged(2, {"ReLU.forward": "while True: pass"}, start=None)
    assert said(verdict, "ReLU.forward") == "never ends"
    others = {said(verdict, exercise.symbol) for exercise in verdict.stage.exercises if "ReLU" not in exercise.symbol}
    assert others <= {"passed", "waits for ReLU.forward"} and "passed" in others
    assert "a loop that never ends" in told(verdict, "ReLU.forward")


def test_who_only_calls_what_never_ends_waits_for_it(hasty: None) -> None:
    """Training and encoding both call `merge_pair`; their tests that were not run again do not accuse them."""
    verdict = judged(10, {"merge_pair": "while True: pass"})
    assert said(verdict, "merge_pair") == "never ends" and verdict.wrong == {"merge_pair"}
    assert said(verdict, "train_by_definition") == said(verdict, "BPETokenizer.encode_word") == "waits for merge_pair"


def test_a_crash_costs_its_own_tests_alone() -> None:
    verdict = judged(2, {"Tanh.forward": "__import__('os')._exit(7)"}, start=None)
    assert verdict.wrong == {"Tanh.forward"} and said(verdict, "Softmax.forward") == "passed"
    assert "the program ended in the middle: exit code 7" in told(verdict, "Tanh.forward")


def test_a_judge_ends_with_its_parent() -> None:
    """Killed with a judge in an endless loop, the parent leaves nothing behind."""
    code = (
        "import subprocess, sys; p = subprocess.Popen([sys.executable, '-c', 'import workshop.judge as j; "
        "j.die_with_parent(); print(1, flush=True)\\nwhile True: pass'], stdin=subprocess.PIPE, "
        "stdout=subprocess.PIPE); "
        "p.stdout.readline(); print(p.pid, flush=True); sys.stdin.read()"
    )
    parent = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    pid = int(parent.stdout.readline())
    parent.kill()
    parent.wait()
    assert ended(pid)


def ended(pid: int) -> bool:
    for _ in range(100):
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
                if stat.read().split()[2] == "Z":
                    return True
        except (ProcessLookupError, FileNotFoundError):
            return True
        time.sleep(0.1)
    return False


# What is told


def test_nothing_returned_is_told_as_that() -> None:
    verdict = judged(2, {"Sigmoid.forward": "pass"}, names=["Sigmoid.forward"])
    assert "the function returned nothing; is there a `return`?" in told(verdict, "Sigmoid.forward")


def test_an_error_shows_the_students_own_line_and_what_was_given() -> None:
    """Not NumPy's line, which lies below the same root in .tox when the package is the checkout's own."""
    verdict = judged(1, {"Tensor.exp": "return np.reshape(args[0].data, (7, 7, 7))"}, names=["exp"])
    text = told(verdict, "Tensor.exp")
    assert re.search(r"ValueError: .*\(tinytorch/core/tensor.py, line \d+, in exp\)", text), text
    assert "given " in text, text


def test_the_debugger_needs_a_terminal() -> None:
    verdict = judged(2, {"ReLU.forward": "breakpoint()"}, names=["ReLU.forward"])
    assert "needs a terminal: add `-- --pdb`" in told(verdict, "ReLU.forward")


def test_names_choose_exercises() -> None:
    verdict = judged(2, names=["relu", "Tanh.forward"])
    assert [exercise.symbol for exercise in verdict.exercises] == ["ReLU.forward", "Tanh.forward"]
    assert verdict.passed and {test.exercise for test in verdict.tests} == {"ReLU.forward", "Tanh.forward"}
    with pytest.raises(WorkshopError, match="no exercise named abs; it has Sigmoid.forward"):
        judged(2, names=["abs"])


# Earlier stages


def test_what_an_earlier_stage_does_wrong_is_not_blamed_on_this_one() -> None:
    """A mean that does not divide makes every loss wrong; the losses wait for it."""
    verdict = judged(
        4,
        {"Tensor.mean": "return args[0].sum(args[1], args[2])", "log_sum_exp": "return 0.0"},
        names=["MSELoss.forward", "log_sum_exp"],
    )
    assert verdict.wrong == {"log_sum_exp"}
    assert said(verdict, "MSELoss.forward") in ("passed", "waits for Tensor.mean (gate 01)")
    verdict = judged(3, {"Tensor.matmul": "return args[0]"}, names=["Linear"])
    assert verdict.wrong == frozenset()
    assert said(verdict, "Linear.forward") == "waits for Tensor.matmul (gate 01)"


def test_what_is_unwritten_in_an_earlier_stage_is_waited_for() -> None:
    verdict = judged(3, stubs={"Tensor.matmul"}, names=["Linear"])
    assert verdict.wrong == frozenset() and said(verdict, "Linear.forward") == "waits for Tensor.matmul"


def test_the_debugger_works_at_a_terminal(tmp_path: Path) -> None:
    """`tox -e gate02 -- --pdb ReLU`: the prompt comes, answers, and the gate goes on to its verdict."""
    if os.name == "nt":
        return  # no pseudo-terminals there
    import pty

    stage = COURSE.stage(2)
    files = assemble(COURSE, SOURCE, COURSE.closure([2]), ())
    files = doing_nothing(stage.exercise("ReLU.forward"), "breakpoint()", files)
    with scratch_package(files) as package:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "workshop", "gate02", "--package", str(package), "--pdb", "ReLU"]
        process = subprocess.Popen(command, cwd=ROOT, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        said = read_until(ours, b"(Pdb)")
        os.write(ours, b"p len(args) * 21\n")
        said += read_until(ours, b"42")
        for _ in range(40):  # each further call stops too
            os.write(ours, b"c\n")
            if process.poll() is not None:
                break
            said += read_until(ours, b"(Pdb)", seconds=2)
        process.kill()
        process.wait()
        said += read_until(ours, b"no more", seconds=1)
    assert b"gate 02" in said and b"ReLU.forward" in said, said[-2000:]


def read_until(terminal: int, wanted: bytes, seconds: float = 20) -> bytes:
    said, end = b"", time.monotonic() + seconds
    while wanted not in said and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            try:
                said += os.read(terminal, 65536)
            except OSError:  # the other side is gone
                break
    return said
