"""What the tour makes of a milestone's end. The tour itself is `tox -e tour`'s part."""

from __future__ import annotations

import pytest

from workshop.author.tour import outcome
from workshop.course import Milestone, load_course

EMBEDDED, DOWNLOADED = Milestone(2, "mlp", (7,)), Milestone(3, "cnn", (9,), "cifar10")


@pytest.mark.parametrize(
    ("milestone", "quick", "code", "told"),
    [
        (EMBEDDED, False, 0, "passed"),
        (EMBEDDED, False, 1, "not passed"),
        (EMBEDDED, False, 2, "not passed"),
        (DOWNLOADED, False, 0, "passed"),
        (DOWNLOADED, True, 0, "ran through (quick)"),
        (DOWNLOADED, True, 1, "not passed"),
        (DOWNLOADED, True, 2, "no data (cifar10), did not run"),
        (DOWNLOADED, False, 2, "no data (cifar10), did not run"),
        (DOWNLOADED, True, 130, "not passed"),
        (DOWNLOADED, True, -9, "not passed"),
    ],
)
def test_outcome(milestone: Milestone, quick: bool, code: int, told: str) -> None:
    assert outcome(milestone, quick, code) == told


def test_only_what_the_repository_lacks_is_downloaded() -> None:
    assert {milestone.number: milestone.downloads for milestone in load_course().milestones} == {
        1: "",
        2: "",
        3: "cifar10",
        4: "tinyshakespeare",
    }
