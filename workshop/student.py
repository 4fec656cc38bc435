"""The student's commands: a gate, what it unlocks, and milestones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from workshop import ROOT, WorkshopError
from workshop.course import Course, Milestone, Stage, load_course
from workshop.gate import require_present, run_gate
from workshop.report import console, show_verdict
from workshop.stub import is_stub


def gate(number: int, package: Path, no_milestone: bool) -> int:
    """Judge a stage, and after a pass go on to what comes next."""
    course = load_course()
    stage = course.stage(number)
    verdict = run_gate(course, stage, package)
    show_verdict(verdict)
    if not verdict.passed:
        return 1
    return 0 if no_milestone else after(course, stage, package)


def after(course: Course, stage: Stage, package: Path) -> int:
    """What a passed gate leads to: the next gates, or the milestone of its group."""
    milestone = course.milestone_of(stage)
    if milestone is None:
        return 0
    if course.closed_by(stage) is None:
        left = [
            course.stage(n) for n in milestone.stages if n != stage.number and not _written(course.stage(n), package)
        ]
        names = ", ".join(f"gate{other.label} ({other.name})" for other in left) or f"gate{milestone.stages[-1]:02d}"
        console.print(f"Left until milestone {milestone.number} ({milestone.name}): {names}.", soft_wrap=True)
        later = [other for other in left if other.number > stage.number]
        if later and not (ROOT / later[0].gate).exists():
            console.print(f"Next: commit your work, then git merge handout-{later[0].label}", soft_wrap=True)
        return 0
    for number in milestone.stages:
        if number != stage.number and not run_gate(course, course.stage(number), package).passed:
            needs = f"gate{number:02d} too, which does not pass: tox -e gate{number:02d}"
            console.print(f"Milestone {milestone.number} ({milestone.name}) needs {needs}", soft_wrap=True)
            return 0
    console.print(
        f"\nAll gates up to milestone {milestone.number} ({milestone.name}) pass. It trains now.", soft_wrap=True
    )
    return run_milestone(milestone, package, [])


def _written(stage: Stage, package: Path) -> bool:
    """Whether the stage is here and none of its exercises is a stub."""
    if not all((package / path).exists() for path in stage.files):
        return False
    return not any(
        is_stub((package / e.path).read_text(encoding="utf-8"), stage, e.symbol, e.path) for e in stage.exercises
    )


def measure(stage: Stage, arguments: list[str]) -> int:
    """Run the lesson's measure.py. Returns its exit code."""
    require_present(stage, ROOT)
    command = [sys.executable, str(ROOT / stage.folder / "measure.py"), *arguments]
    return subprocess.run(command, cwd=ROOT, check=False).returncode


def milestone(milestone: Milestone, package: Path, arguments: list[str]) -> int:
    """Train a milestone's model, if all of its stages are there."""
    course = load_course()
    for number in milestone.stages:
        require_present(course.stage(number), ROOT)
    return run_milestone(milestone, package, arguments)


def run_milestone(milestone: Milestone, package: Path, arguments: list[str]) -> int:
    """Run the script on the package in the folder `package`. Returns its exit code."""
    if not (ROOT / milestone.script).exists():
        raise WorkshopError(f"{milestone.script} is missing: it comes with handout-{milestone.stages[-1]:02d}")
    path = os.pathsep.join([str(package), str(ROOT)])
    command = [sys.executable, str(ROOT / milestone.script), *arguments]
    with subprocess.Popen(command, cwd=ROOT, env=os.environ | {"PYTHONPATH": path}) as script:
        while True:
            try:
                return script.wait()
            except KeyboardInterrupt:
                pass  # the script gets Ctrl-C too; it keeps its checkpoint, says so, and ends
