"""Right code passes, whatever its style: honest rewrites of the reference, judged by the whole gate of their stage.

`tests/honest/NN_name.yaml` lists them: each a change to one function, with loops, other names, other words in errors.
"""

from __future__ import annotations

import pytest
import yaml
from conftest import ROOT, stages_in_turn

from workshop.author.mistakes import Bench, Mistake, apply
from workshop.author.package import reference
from workshop.course import Stage, load_course

HONEST = ROOT / "tests" / "honest"
COURSE = load_course(ROOT)
SOURCE = reference(ROOT)
LEAST = 6

each_stage = pytest.mark.parametrize("stage", COURSE.stages, ids=[stage.slug for stage in COURSE.stages])


def rewrites(stage: Stage) -> list[Mistake]:
    entries = yaml.safe_load((HONEST / f"{stage.slug}.yaml").read_text(encoding="utf-8"))
    return [Mistake(each["rewrite"], each["symbol"], each["was"], each["becomes"]) for each in entries]


def packed(changes: list[Mistake]) -> list[list[Mistake]]:
    """As few lists as possible, none of which changes an exercise twice."""
    lists: list[list[Mistake]] = []
    for change in changes:
        free = [some for some in lists if change.symbol not in {each.symbol for each in some}]
        if free:
            free[0].append(change)
        else:
            lists.append([change])
    return lists


def check_honest(number: int, lists: list[list[Mistake]]) -> None:
    """The stage's gate passes the reference with each list of changes made in it."""
    stage = COURSE.stage(number)
    bench, variants = Bench(COURSE, stage, ROOT), []
    for changes in lists:
        files = bench.source
        for change in changes:
            files = apply(change, stage, files)
        variants.append((files,))
    for changes, verdict in zip(lists, bench.all(variants, "honest rewrites")):
        failed = {test.id: test.failures[0]["lines"] for test in verdict.tests if test.failures}
        assert verdict.passed, ([change.mistake for change in changes], verdict.broken, failed)


@each_stage
def test_there_are_enough_rewrites(stage: Stage) -> None:
    """And each is of text that is there."""
    assert len(rewrites(stage)) >= LEAST
    for change in rewrites(stage):
        apply(change, stage, SOURCE)


@stages_in_turn(2, "honest")
def test_rewrites_pass_together(stage: Stage) -> None:
    """As many at once as there are exercises: right code may lean on other right code."""
    check_honest(stage.number, packed(rewrites(stage)))


@pytest.mark.full
@each_stage
def test_rewrites_pass_alone(stage: Stage) -> None:
    check_honest(stage.number, [[change] for change in rewrites(stage)])


def test_every_list_belongs_to_a_stage() -> None:
    assert {path.stem for path in HONEST.iterdir()} <= {stage.slug for stage in COURSE.stages}
