"""The student's commands: a gate, what it unlocks, and milestones."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from workshop import ROOT, WorkshopError
from workshop.course import Course, Milestone, Stage, load_course
from workshop.gate import require_present, run_gate
from workshop.report import console, show_verdict
from workshop.stub import is_stub

STAMP = "package.sha256"  # beside a milestone's report: the digest of the package that passed


def gate(number: int, package: Path, no_milestone: bool, names: Sequence[str] = (), pdb: bool = False) -> int:
    """Judge a stage, and after a pass of all of it go on to what comes next.

    Args:
        names: the exercises to judge; all by default.
        pdb: stop in the debugger where a check fails.
    """
    course = load_course()
    stage = course.stage(number)
    asked: dict[str, Any] = ({"names": tuple(names)} if names else {}) | ({"pdb": True} if pdb else {})
    verdict = run_gate(course, stage, package, **asked)
    show_verdict(verdict)
    if not verdict.passed:
        return 1
    return 0 if no_milestone or asked else after(course, stage, package)


def after(course: Course, stage: Stage, package: Path) -> int:
    """What a passed gate leads to: the next gates, or the milestone of its group."""
    milestone = course.milestone_of(stage)
    if milestone and has_passed(course, milestone, package):
        console.print(
            f"Milestone {milestone.number} ({milestone.name}) has passed with the package as it is. "
            f"To train it again: tox -e milestone{milestone.number}",
            soft_wrap=True,
        )
    elif milestone and course.closed_by(stage):
        return close(course, milestone, package, stage)
    elif milestone:
        return show_left(course, milestone, package, stage)
    return show_next(course, stage, package)


def close(course: Course, milestone: Milestone, package: Path, closing: Stage) -> int:
    """After the last gate of a group: judge the others, and train the milestone if they pass. Returns its exit code."""
    for number in milestone.stages:
        if number != closing.number and not run_gate(course, course.stage(number), package).passed:
            needs = f"gate{number:02d} too, which does not pass: tox -e gate{number:02d}"
            console.print(f"Milestone {milestone.number} ({milestone.name}) needs {needs}", soft_wrap=True)
            return 0
    console.print(
        f"\nAll gates up to milestone {milestone.number} ({milestone.name}) pass. It trains now.", soft_wrap=True
    )
    return run_milestone(course, milestone, package, []) or show_next(course, closing, package)


def show_left(course: Course, milestone: Milestone, package: Path, done: Stage) -> int:
    """Say which gates of the group are left until its milestone. Returns 0, as all goes well."""
    others = [course.stage(number) for number in milestone.stages if number != done.number]
    left = [stage for stage in others if not _written(stage, package)]
    if left:
        names = ", ".join(f"gate{stage.label} ({stage.name})" for stage in left)
        console.print(f"Left until milestone {milestone.number} ({milestone.name}): {names}.", soft_wrap=True)
        return show_next(course, done, package)
    console.print(
        f"All stages of milestone {milestone.number} ({milestone.name}) are written; it trains when the last gate "
        f"passes: tox -e gate{milestone.stages[-1]:02d}",
        soft_wrap=True,
    )
    return 0


def show_next(course: Course, done: Stage, package: Path) -> int:
    """Say how to come to the first stage after this one that is still to be written. Returns 0, as all goes well."""
    later = [stage for stage in course.stages if stage.number > done.number and not _written(stage, package)]
    if later and not (ROOT / later[0].gate).exists():
        console.print(f"Next: commit your work, then git merge --no-edit handout-{later[0].label}", soft_wrap=True)
    elif later:
        console.print(f"Next: read {later[0].lesson}, then tox -e gate{later[0].label}", soft_wrap=True)
    return 0


def _written(stage: Stage, package: Path) -> bool:
    """Whether the stage is here, can be read, and none of its exercises is a stub."""
    try:
        texts = {path: (package / path).read_text(encoding="utf-8") for path in stage.files}
        return not any(is_stub(texts[e.path], stage, e.symbol, e.path) for e in stage.exercises)
    except (OSError, UnicodeDecodeError, WorkshopError):
        return False


# Milestones that have passed


def has_passed(course: Course, milestone: Milestone, package: Path) -> bool:
    """Whether the milestone's report says that it has passed, with what its stages hold now."""
    stamp = _report(milestone).with_name(STAMP)
    try:
        return _passed(milestone) and stamp.read_text(encoding="utf-8").strip() == digest(course, milestone, package)
    except OSError:
        return False


def digest(course: Course, milestone: Milestone, package: Path) -> str:
    """The SHA-256 of all files of the package that belong to the milestone's stages and to what these need."""
    found = hashlib.sha256()
    for number in sorted(course.closure(milestone.stages)):
        for path in course.stage(number).files:
            content = (package / path).read_bytes() if (package / path).exists() else b""
            found.update(f"{path} {len(content)}\n".encode() + content)
    return found.hexdigest()


def _report(milestone: Milestone) -> Path:
    return ROOT / "runs" / Path(milestone.script).stem / "report.json"


def _passed(milestone: Milestone) -> bool:
    try:
        return json.loads(_report(milestone).read_text(encoding="utf-8"))["passed"] is True
    except (OSError, ValueError, KeyError, TypeError):
        return False


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
    return run_milestone(course, milestone, package, arguments)


def run_milestone(course: Course, milestone: Milestone, package: Path, arguments: list[str]) -> int:
    """Run the script on the package in the folder `package`, and note with what it passed. Returns its exit code."""
    before, trained_on = _changed(milestone), digest(course, milestone, package)
    code = run_script(milestone, package, arguments)
    if _passed(milestone) and _changed(milestone) != before:  # a quick run, or one with --out, leaves it as it was
        _report(milestone).with_name(STAMP).write_text(f"{trained_on}\n", encoding="utf-8")
    return code


def _changed(milestone: Milestone) -> int:
    return _report(milestone).stat().st_mtime_ns if _report(milestone).exists() else 0


def run_script(milestone: Milestone, package: Path, arguments: list[str]) -> int:
    """Run a milestone's script. Returns its exit code."""
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
