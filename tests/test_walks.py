"""Law 3: whatever stage a student starts at and whatever they write, merging the next handout never conflicts."""

from __future__ import annotations

import random
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from conftest import git_output, run_git, run_workshop, some

from workshop.course import Course, Stage

WALKS, EVERY_DAY = 200, 16
LINES = (
    "x = 1",
    "# a remark",
    "    deeper = [1, 2]",
    "",
    "return result_of('Add', None)",
    "raise ValueError('…')",
    '"""text"""',
    "# >>> not a fence",
    "pass",
    "for i in range(3):",
    "    print(i)",
)


def write_bodies(folder: Path, stage: Stage, dice: random.Random) -> dict[str, str]:
    """Fill the stage's stubs with text of a student's own, and return the files as they are then."""
    written = {}
    for path in {exercise.path for exercise in stage.exercises}:
        lines = []
        for line in (folder / path).read_text(encoding="utf-8").splitlines():
            stub = re.match(r'( *)raise NotImplementedError\("stage \d\d: ', line)
            if not stub:
                lines.append(line)
            elif dice.random() < 0.9:  # now and then one stays unwritten
                lines += [stub[1] + dice.choice(LINES) for _ in range(dice.randint(0, 6))]
                lines.append(f"{stub[1]}mine_{dice.randrange(10**9)} = True")
            else:
                lines.append(line)
        if dice.random() < 0.3:  # a helper of their own, at the end or after the imports
            lines.append(f"\n\ndef helper_{dice.randrange(10**9)}():\n    return 1")
        if dice.random() < 0.2:  # fences thrown away
            lines = [line for line in lines if line.strip() != "# <<<"]
        text = "\n".join(lines) + "\n"
        (folder / path).write_text(text, encoding="utf-8", newline="\n")
        written[path] = text
    return written


def walk(origin: Path, folder: Path, course: Course, seed: int) -> int:
    """One student's way from a random stage up. Returns the number of merges."""
    dice = random.Random(seed)
    start = dice.randrange(len(course.stages))
    run_git(folder.parent, "clone", "-q", "--shared", "--no-checkout", str(origin), str(folder))
    run_git(folder, "switch", "-q", "-c", "mine", f"stage-{course.stages[start].label}")
    own = {path: (folder / path).read_text(encoding="utf-8") for s in course.stages[:start] for path in s.files}
    merges, at = 0, start
    while True:
        own |= write_bodies(folder, course.stages[at], dice)
        run_git(folder, "commit", "-qam", f"my stage {course.stages[at].label}")
        if at + 1 == len(course.stages):
            break
        ahead = at + 1 if dice.random() < 0.8 else dice.randrange(at + 1, len(course.stages))
        run_git(folder, "merge", "-q", "--no-edit", f"handout-{course.stages[ahead].label}")
        merges += 1
        for stage in course.stages[at + 1 : ahead]:  # stages leapt over are written after the merge
            own |= write_bodies(folder, stage, dice)
        at = ahead
    for path, text in own.items():
        assert (folder / path).read_text(encoding="utf-8") == text, (
            f"walk {seed}: {path} is not as the student wrote it"
        )
    whole = run_git(folder, "ls-tree", "-r", "--name-only", f"handout-{course.stages[-1].label}").splitlines()
    for path in whole:  # and no line of the handouts is lost, but the stubs that were written over
        if path not in own and not path.startswith(("datasets/", "milestones/pictures/")):
            assert (folder / path).read_bytes() == git_bytes(folder, course, path), f"walk {seed}: {path}"
    assert run_git(folder, "status", "--porcelain") == ""
    return merges


_handout: dict[str, bytes] = {}


def git_bytes(folder: Path, course: Course, path: str) -> bytes:
    if path not in _handout:
        _handout[path] = git_output(folder, "show", f"handout-{course.stages[-1].label}:{path}")
    return _handout[path]


def test_random_walks(origin: Path, tmp_path: Path, course: Course, full: bool) -> None:
    """200 students; every day a few of them, others after each change."""
    seeds = some(range(WALKS), WALKS if full else EVERY_DAY, "walks")
    with ThreadPoolExecutor(2) as pool:
        merges = list(pool.map(lambda seed: walk(origin, tmp_path / str(seed), course, seed), seeds))
    assert len(merges) == len(seeds)
    assert Counter(merges)[0] < len(seeds) / 2, "most walks must merge something"


def test_from_the_first_stage_to_the_last(origin: Path, tmp_path: Path, course: Course) -> None:
    """The plain way: every stage written, every handout merged, none left out."""
    folder = tmp_path / "plain"
    run_git(tmp_path, "clone", "-q", str(origin), str(folder))
    run_git(folder, "switch", "-q", "-c", "mine", f"stage-{course.stages[0].label}")
    own, dice = {}, random.Random(0)
    for stage in course.stages:
        if stage is not course.stages[0]:
            run_git(folder, "merge", "-q", "--no-edit", f"handout-{stage.label}")
        own |= write_bodies(folder, stage, dice)
        run_git(folder, "commit", "-qam", stage.name)
    assert all((folder / path).read_text(encoding="utf-8") == text for path, text in own.items())


def test_a_correction_reaches_who_merged_before(author: Path, tmp_path: Path, course: Course) -> None:
    """A course runs; a docstring and a gate are corrected; who has written stage 01 merges the new handout-02."""
    stage = course.stages[0]
    assert run_workshop(author, "stages").returncode == 0
    folder = tmp_path / "student"
    run_git(tmp_path, "clone", "-q", str(author), str(folder))
    run_git(folder, "switch", "-q", "-c", "mine", f"stage-{stage.label}")
    own = write_bodies(folder, stage, random.Random(1))
    run_git(folder, "commit", "-qam", "my work")
    mine = [line for text in own.values() for line in text.splitlines() if "mine_" in line]
    for path in (f"solutions/{stage.files[0]}", stage.gate):
        text = (author / path).read_text(encoding="utf-8")
        (author / path).write_text(text.replace('"""', '"""Corrected. ', 1), encoding="utf-8", newline="\n")
    run_git(author, "commit", "-qam", "correction")
    assert run_workshop(author, "stages", "--correct").returncode == 0
    run_git(folder, "fetch", "-q", "--tags", "--force")
    run_git(folder, "merge", "-q", "--no-edit", f"handout-{course.stages[1].label}")
    after = "".join((folder / path).read_text(encoding="utf-8") for path in own)
    assert mine and all(line in after for line in mine), "a line of the student's is lost"
    assert "Corrected. " in after and "Corrected. " in (folder / stage.gate).read_text(encoding="utf-8")


def test_a_corrected_docstring_merges_with_a_written_body(tmp_path: Path, course: Course) -> None:
    """Why a fence stands between them: git merges changes with an unchanged line between, and no closer."""
    from workshop.stub import make_stub

    stage = course.stages[0]
    exercise = stage.exercises[0]
    source = 'def f(x: int) -> int:\n    """Twice x.\n\n    Old words.\n    """\n    return 2 * x\n'
    from dataclasses import replace

    tiny = replace(stage, exercises=(replace(exercise, symbol="f", path="f.py"),))
    file = tmp_path / "f.py"
    run_git(tmp_path, "init", "-q", "-b", "handout")
    for branch, text in (
        ("handout", make_stub(source, tiny, "f.py")),
        ("mine", re.sub(r"raise .*", "y = x + x\n    return y", make_stub(source, tiny, "f.py"))),
    ):
        run_git(tmp_path, "switch", "-q", "-C", branch)
        file.write_text(text, encoding="utf-8", newline="\n")
        run_git(tmp_path, "add", "-A")
        run_git(tmp_path, "commit", "-q", "-m", branch)
    run_git(tmp_path, "switch", "-q", "handout")
    file.write_text(make_stub(source.replace("Old words.", "New words."), tiny, "f.py"), encoding="utf-8", newline="\n")
    run_git(tmp_path, "commit", "-qam", "correction")
    run_git(tmp_path, "switch", "-q", "mine")
    run_git(tmp_path, "merge", "-q", "--no-edit", "handout")
    merged = file.read_text(encoding="utf-8")
    assert "New words." in merged and "return y" in merged and "Old words." not in merged
