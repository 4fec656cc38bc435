"""The author's and instructor's commands."""

from __future__ import annotations

import os
import subprocess
import sys

from rich.table import Table

from workshop import ROOT
from workshop.author import package
from workshop.author.ladder import cut
from workshop.course import load_course
from workshop.report import console


def stages(correct: bool) -> int:
    """Cut the ladder, and show it."""
    done = cut(ROOT, correct=correct)
    table = Table("stage", "handout-NN", "stage-NN", "refs/solutions/NN", box=None, padding=(0, 2), header_style="dim")
    for stage in load_course().stages:
        refs = (f"refs/tags/handout-{stage.label}", f"refs/tags/stage-{stage.label}", f"refs/solutions/{stage.label}")
        table.add_row(stage.slug, *(done.refs[ref][:12] for ref in refs))
    console.print(table)
    if done.left_out:
        names = ", ".join(done.left_out[:5]) + (" …" if len(done.left_out) > 5 else "")
        console.print(f"Cut from the last commit. Not in it, and left as they are: {names}", soft_wrap=True)
    console.print("To start at a stage: git switch -c mine stage-01", soft_wrap=True)
    return 0


def derive() -> int:
    """Bring `tinytorch/` up to date."""
    changed = package.derive(ROOT)
    for path in changed:
        console.print(f"wrote {path}", soft_wrap=True)
    console.print(f"tinytorch/ is what solutions/ and stages.yaml give; {len(changed)} files changed")
    return 0


def records(numbers: list[int]) -> int:
    """Write gates/records/ anew."""
    from workshop.author.mistakes import write_records

    course = load_course()
    return write_records(course, [course.stage(number) for number in numbers] or list(course.stages))


def bench() -> int:
    """Run the benchmarks, which live outside of the machinery."""
    return subprocess.run([sys.executable, str(ROOT / "benchmarks" / "run.py")], cwd=ROOT, check=False).returncode


ALONE = {"-n", "-s", "--pdb", "--collect-only"}  # with these, pytest is left to itself


def tests(arguments: list[str]) -> int:
    """Run the tests of the workshop itself, two at a time, each with one thread for NumPy's products."""
    sharing = [] if ALONE & set(arguments) else ["-n", "2", "--dist", "worksteal"]
    command = [sys.executable, "-m", "pytest", *sharing, *arguments]
    return subprocess.run(command, cwd=ROOT, env=os.environ | {"OPENBLAS_NUM_THREADS": "1"}, check=False).returncode
