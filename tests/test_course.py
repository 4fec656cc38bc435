"""The map: what it says, and that whatever is wrong in it is said in a few lines."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from conftest import ROOT, run_workshop

from workshop import WorkshopError
from workshop.author.package import check, names_module, reference
from workshop.course import Course, load_course, parse_course

TEXT = (ROOT / "stages.yaml").read_text(encoding="utf-8")

SMALL = """
stages:
  - {number: 1, name: one, question: Why, needs: [], files: {core/one.py: {f: 15}}}
  - {number: 2, name: two, question: Why, needs: [1], files: {core/two.py: {g: 15}}}
milestones:
  - {number: 1, name: first, stages: [1, 2]}
"""


def test_points(course: Course) -> None:
    """Fifteen for the implementation of each stage, five for its systems functions."""
    for stage in course.stages:
        systems = sum(e.points for e in stage.exercises if e.path.startswith("tinytorch/systems/"))
        assert (sum(e.points for e in stage.exercises) - systems, systems) == (15, 5), stage.slug


def test_closure() -> None:
    assert parse_course(SMALL).closure([2]) == {1, 2}


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("needs: []", "needs: [2]", ["circle", "01 → 02 → 01"]),
        ("needs: [1]", "needs: [2]", ["circle", "02 → 02"]),
        ("needs: [1]", "needs: [7]", ["stage 02", "needs 7"]),
        ("number: 2", "number: 1", ["number 01", "twice"]),
        ("name: two", "name: one", ["name one", "twice"]),
        ("core/two.py", "core/one.py", ["core/one.py", "twice"]),
        ("g: 15", "f: 15", ["exercise f", "twice"]),
        ("g: 15", "g: many", ["stage 02", "'many' points"]),
        ("g: 15", "g: -1", ["stage 02", "-1 points"]),
        ("question: Why, needs: [1],", "needs: [1],", ["entry 2", "missing ['question']"]),
        ("needs: [1],", "needs: [1], colour: red,", ["entry 2", "unknown ['colour']"]),
        ("needs: [1]", "needs: 1", ["needs is 1"]),
        ("name: two", "name: Two words", ["'Two words'"]),
        ("stages: [1, 2]", "stages: [1, 3]", ["milestone 1", "[1, 3]"]),
        ("stages: [1, 2]", "stages: [1, 2", ["stages.yaml, line"]),
    ],
)
def test_a_wrong_map_is_refused(was: str, becomes: str, says: list[str]) -> None:
    assert SMALL.count(was) >= 1
    with pytest.raises(WorkshopError) as error:
        parse_course(SMALL[::-1].replace(was[::-1], becomes[::-1], 1)[::-1])
    assert all(word in str(error.value) for word in says), str(error.value)


def test_needs_of_a_later_stage_are_refused() -> None:
    text = SMALL.replace("needs: []", "needs: [2]").replace("needs: [1]", "needs: []")
    with pytest.raises(WorkshopError, match="stage 01 needs stage 02, which comes after it"):
        parse_course(text)


@pytest.mark.parametrize(
    ("was", "becomes", "says"),
    [
        ("core/tensor.py:", "core/tensors.py:", "tinytorch/core/tensors.py, which is missing"),
        ("Tensor.matmul:", "Tensor.matmull:", "no function Tensor.matmull"),
        ("Tensor.exp:", "Tensor.shape:", "no function Tensor.shape"),
        ("      core/rng.py: {}\n", "", "tinytorch/core/rng.py belongs to no stage"),
        ("name: tensor\n", "name: tensors\n", "has no gates/test_gate01_tensors.py"),
        ("name: mlp", "name: mpl", "has no milestones/m2_mpl.py"),
    ],
)
def test_a_map_that_does_not_fit_the_repository_is_refused(was: str, becomes: str, says: str) -> None:
    assert TEXT.count(was) == 1
    present = {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.*")}
    with pytest.raises(WorkshopError, match=says):
        check(parse_course(TEXT.replace(was, becomes)), reference(ROOT), present)


def test_the_map_fits_the_repository() -> None:
    check(load_course(ROOT), reference(ROOT), {path.relative_to(ROOT).as_posix() for path in ROOT.rglob("*.*")})


@pytest.mark.parametrize("text", ["", "stages: [1, 2]", "- a", "stages: []\nmilestones: []", "\tstages: 1", None])
def test_the_command_shows_no_traceback(tmp_path: Path, text: str | None) -> None:
    shutil.copytree(ROOT / "workshop", tmp_path / "workshop")
    if text is not None:
        (tmp_path / "stages.yaml").write_text(text, encoding="utf-8")
    for command in (["list"], ["gate", "01"]):
        done = run_workshop(tmp_path, *command)
        assert done.returncode == 2
        assert "stages.yaml" in done.stderr and "Traceback" not in done.stderr and len(done.stderr.splitlines()) <= 3


def test_the_map_fits_into_eighty_columns(course: Course) -> None:
    """Each stage takes at most two lines, the question broken once."""
    lines = run_workshop(ROOT, "list", COLUMNS="80").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    begins = [i for i, line in enumerate(lines) if re.match(r"\d\d ", line)]
    assert [lines[i].split()[1] for i in begins] == [stage.name for stage in course.stages]
    assert len(lines) <= 1 + 2 * len(course.stages) + len(course.milestones)
    text = " ".join(" ".join(lines).split())
    assert all(f"milestone {milestone.number}: {milestone.name}" in text for milestone in course.milestones)


def test_a_public_name_has_one_home(course: Course) -> None:
    source = reference(ROOT)
    later = course.stage(2).files[0]
    twice = source | {later: source[later].replace("__all__ = [", '__all__ = ["Tensor", ')}
    with pytest.raises(WorkshopError, match=f"tinytorch/core/tensor.py and {later} both have Tensor"):
        names_module(course, twice)


def test_systems_functions_are_public_by_their_own_module() -> None:
    names = names_module(load_course(ROOT), reference(ROOT))
    assert '"Tensor": ("tinytorch.core.tensor", 1)' in names and "systems" not in names
    assert names.count('"Function"') == 1


def test_an_unknown_stage() -> None:
    done = run_workshop(ROOT, "gate", "77")
    assert done.returncode == 2 and "there is no stage 77" in done.stderr and "01 to" in done.stderr
