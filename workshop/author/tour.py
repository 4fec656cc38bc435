"""The tour: a student who writes the reference walks all stages, in a scratch clone, and the milestones train."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from workshop import ROOT
from workshop.author.ladder import cut, uncommitted
from workshop.course import Course, Milestone, Stage, load_course
from workshop.gate import Verdict, run_gate
from workshop.git import git
from workshop.report import console

PICTURES = ROOT / "runs" / "tour"


@dataclass(frozen=True)
class Step:
    """What was seen at one stage."""

    stage: Stage
    stubs: Verdict
    solved: Verdict
    milestone: str  # "", or "2 mlp: passed"; what else may stand there, see `outcome`

    @property
    def as_expected(self) -> bool:
        failed = self.stubs.points == 0 and not any(test.passed for test in self.stubs.tests)
        return failed and self.solved.passed and not self.milestone.endswith("not passed")


def tour(full: bool = False) -> int:
    """Walk all stages. Returns 0 if stubs failed, solved stages passed and milestones passed everywhere.

    Args:
        full: train also those milestones in full that need downloaded data. Without these they do not run, and the
            table says so.
    """
    left_out = uncommitted(ROOT)
    if left_out:
        console.print(f"The tour walks what is committed; {len(left_out)} changed files are left as they are.")
    with tempfile.TemporaryDirectory(prefix="tour-", ignore_cleanup_errors=True) as scratch:
        clone = Path(scratch) / "clone"
        git(ROOT, "clone", "--quiet", str(ROOT), str(clone))
        refs = cut(clone).refs
        console.print(f"Cut {len(refs)} refs in a scratch clone.")
        course = load_course(clone)
        git(clone, "switch", "--quiet", "--create", "mine", f"stage-{course.stages[0].label}")
        git(clone, "worktree", "add", "--quiet", "--detach", str(stubs_beside(clone)))
        steps = [walk_stage(course, stage, clone, full) for stage in course.stages]
    show(steps)
    return 0 if all(step.as_expected for step in steps) else 1


def walk_stage(course: Course, stage: Stage, clone: Path, full: bool) -> Step:
    """Bring the stage, see its stubs fail, write it, see it pass, and train what it unlocks.

    The stubs are judged in a work tree of their own, at the same time as what is written then.
    """
    if stage is not course.stages[0]:
        commit(clone, "merge", "--quiet", "--no-edit", f"handout-{stage.label}")
    as_it_came = stubs_beside(clone)
    git(as_it_came, "checkout", "--quiet", "--detach", "mine")
    with ThreadPoolExecutor(1) as beside:
        judging = beside.submit(run_gate, course, stage, as_it_came, as_it_came)
        git(clone, "checkout", "--quiet", f"refs/solutions/{stage.label}", "--", *stage.files)
        commit(clone, "commit", "--quiet", "--message", f"my stage {stage.label}")
        solved = run_gate(course, stage, clone, clone)
        stubs = judging.result()
    total = sum(exercise.points for exercise in stage.exercises)
    console.print(f"{stage.slug:18} stubs {stubs.points:g} of {total:g} points, written {solved.points:g} of {total:g}")
    milestone = course.closed_by(stage)
    return Step(stage, stubs, solved, train(milestone, clone, full) if milestone and solved.passed else "")


def stubs_beside(clone: Path) -> Path:
    """The work tree of the clone that stays as a stage came."""
    return clone.with_name("stubs")


def commit(clone: Path, *command: str) -> None:
    """A git command that makes a commit, by somebody: the machine may have no identity set."""
    git(
        clone, "-c", "user.name=Tour", "-c", "user.email=tour@tinytorch.invalid", "-c", "commit.gpgsign=false", *command
    )


def train(milestone: Milestone, clone: Path, full: bool) -> str:
    """Run a milestone in the clone, its pictures going to the checkout's runs/tour/."""
    console.print(f"\nMilestone {milestone.number} ({milestone.name}) trains on the package of the scratch clone.")
    out = PICTURES / f"m{milestone.number}_{milestone.name}"
    command = [sys.executable, "-m", "workshop", "milestone", str(milestone.number), "--out", str(out)]
    quick = bool(milestone.downloads) and not full
    done = subprocess.run([*command, "--quick"] if quick else command, cwd=clone, check=False)
    return f"{milestone.number} {milestone.name}: {outcome(milestone, quick, done.returncode)}"


def outcome(milestone: Milestone, quick: bool, code: int) -> str:
    """What a milestone's exit code means. 2: data cannot be had, or wrong usage, which here is the tour's own."""
    if code == 2 and milestone.downloads:
        return f"no data ({milestone.downloads}), did not run"
    return "not passed" if code else "ran through (quick)" if quick else "passed"


def show(steps: list[Step]) -> None:
    """The table, and where the pictures are."""
    table = Table("stage", "stubs", "failing", "written", "tests take", "milestone", box=None, padding=(0, 2, 0, 0))
    for step in steps:
        total = sum(exercise.points for exercise in step.stage.exercises)
        tests = step.stubs.tests
        table.add_row(
            step.stage.slug,
            f"{step.stubs.points:g} of {total:g}",
            f"{sum(not test.passed for test in tests)} of {len(tests)}",
            f"{step.solved.points:g} of {total:g}",
            f"{sum(test.seconds for test in step.solved.tests):.2f} s",
            step.milestone,
        )
    console.print()
    console.print(table)
    for path in sorted(PICTURES.rglob("*.png")):
        console.print(f"picture  {path.relative_to(ROOT)}", soft_wrap=True)
    wrong = [step.stage.slug for step in steps if not step.as_expected]
    console.print(f"[red]Not as it should be: {', '.join(wrong)}[/]" if wrong else "[green]All as it should be.[/]")
