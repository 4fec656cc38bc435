"""Right code passes, whatever its style: rewrites of the reference that a student might well hand in.

`tests/honest/NN_name.yaml` holds them: loops, einsum, other names, other words in messages, other ways to the same
values. The whole gate must pass each.
"""

from __future__ import annotations

from functools import cache

import pytest
import yaml
from conftest import ROOT

from workshop.author.mistakes import Bench, Mistake, apply
from workshop.course import Stage, load_course

COURSE = load_course(ROOT)
LEAST = 6
SAMPLE = 2


@cache
def rewrites(stage: Stage) -> list[Mistake]:
    """The stage's honest rewrites, each as a change of the reference."""
    entries = yaml.safe_load((ROOT / "tests" / "honest" / f"{stage.slug}.yaml").read_text(encoding="utf-8"))
    return [Mistake(entry["rewrite"], entry["symbol"], entry["was"], entry["becomes"]) for entry in entries]


@pytest.mark.parametrize("stage", COURSE.stages, ids=[stage.slug for stage in COURSE.stages])
def test_honest_rewrites_pass(stage: Stage, full: bool) -> None:
    some = rewrites(stage) if full else rewrites(stage)[:: max(1, len(rewrites(stage)) // SAMPLE)]
    bench = Bench(COURSE, stage, ROOT)
    verdicts = bench.all([(apply(each, stage, bench.source),) for each in some], "honest rewrites")
    refused = {
        each.mistake: verdict.broken
        or [(test.id, test.failures[0]["lines"]) for test in verdict.tests if test.failures]
        for each, verdict in zip(some, verdicts)
        if not verdict.passed
    }
    assert refused == {}
    assert len(rewrites(stage)) >= LEAST
