"""That each rule of lessons can fail: one small lesson keeps them all, and each change to it breaks just one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from lesson_rules import RULES, Lesson

from workshop.course import Exercise, Stage

STAGE = Stage(
    20,
    "norms",
    "How long is a vector?",
    (1,),
    ("tinytorch/core/norms.py",),
    (Exercise("euclidean_norm", 1, "norms.py"), Exercise("Norm.forward", 2, "norms.py")),
)
BODIES = {
    "euclidean_norm": "    squares = [each * each for each in x]\n    return sum(squares) ** 0.5\n",
    "Norm.forward": "    return x\n",
}
EXERCISE = """\
Text.

```python
>>> 3
3
```

<details><summary>Hint 1: a question</summary>What is squared?</details>
<details><summary>Hint 2: a plan</summary>Square, add, take the root.</details>
<details><summary>Hint 3: pseudocode</summary>

```text
return   sum(squares) ** 0.5
```

</details>
"""
LESSON = (
    f"""\
# Stage 20: norms

> How long is a
> vector?

[before](../19_before/README.md) · [next](../21_next/README.md) · 2 hours

## The problem

See [how to build it](#build-it), [the script](measure.py) and [a page](https://example.org).

## You can afterwards

## Before you start

## The idea

![two arrows](arrows.svg)

## Roadmap

| exercise | points |
|---|--:|
| `euclidean_norm` | 1 |

## Build it

### `euclidean_norm`

{EXERCISE}
## First run

## Build the rest

### `Norm.forward`

{EXERCISE}
## What goes wrong

| symptom | cause |
|:--|---|
| all is 0 | integers |

## Measure it

```text
n   time
1   2 s
```

It is O(n).

![time over n](measure.png)

## In production

## Where it comes from

## Questions

1. How long is (3, 4)?

<details><summary>Answer</summary>5</details>

## Further reading

[one](https://example.org/1) [two](https://example.org/2) [three](https://example.org/3)

## Summary
{"A line." + chr(10) * 2}
"""
    + "A line.\n" * 120
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in (
        "README.md",
        "measure.py",
        "arrows.svg",
        "measure.png",
        "../19_before/README.md",
        "../21_next/README.md",
    ):
        path = tmp_path / "20_norms" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("", encoding="utf-8")
    return tmp_path / "20_norms"


def complaints(text: str, folder: Path) -> dict[str, list[str]]:
    lesson = Lesson(text, STAGE, folder, BODIES, ("19_before", "21_next"))
    return {rule.__name__: said for rule in RULES if (said := rule(lesson))}


def test_a_lesson_that_keeps_all_rules(folder: Path) -> None:
    assert complaints(LESSON, folder) == {}
    assert complaints(LESSON.replace("## Build the rest\n\n", "").replace("## First run\n\n", "", 1), folder) != {}


def test_the_first_run_may_come_last(folder: Path) -> None:
    moved = LESSON.replace("## First run\n\n## Build the rest\n\n", "").replace(
        "## What goes", "## First run\n\n## What goes"
    )
    assert complaints(moved, folder) == {}


@pytest.mark.parametrize(
    ("was", "becomes", "rule", "said"),
    [
        ("A line.\n" * 120, "", "length", "lines, expected 200 to 500"),
        ("A line.\n" * 120, "A line.\n" * 420, "length", "lines, expected 200 to 500"),
        ("# Stage 20: norms", "# Norms", "headings", "the title is Norms, expected Stage 20: …"),
        ("## You can afterwards\n", "", "headings", "the headings are The problem, Before you start, "),
        ("## Before you start", "## Beforehand", "headings", "Beforehand"),
        ("## Build it\n", "## Map\n\n## Build it\n", "headings", "Map"),
        ("> vector?", "> matrix?", "opening", "question does not stand at the top as a quote"),
        ("> How long is a\n> vector?", "How long is a vector?", "opening", "question does not stand at the top"),
        ("(../19_before/README.md)", "(../21_next/README.md)", "opening", "does not link to 19_before"),
        ("### `Norm.forward`", "### Norms", "exercises", "Norm.forward has no section"),
        (
            ">>> 3\n3\n```\n\n<details>",
            "x = y\n```\n\n<details>",
            "exercises",
            "euclidean_norm has no example with numbers",
        ),
        ("Hint 2", "Help", "hints", "euclidean_norm has the hints [1, 3], expected [1, 2, 3]"),
        ("Hint 2: a plan", "Hint 1: a plan", "hints", "euclidean_norm has the hints [1, 1, 3]"),
        (
            "Square, add",
            "`return sum(squares)  ** 0.5`, add",
            "hints",
            "hint 2 of euclidean_norm tells the reference's",
        ),
        ("What is squared?", "\n```\nreturn sum(squares) ** 0.5\n```\n", "hints", "hint 1 of euclidean_norm tells"),
        ("(measure.py)", "(measured.py)", "links", "line 10: there is no measured.py"),
        ("(#build-it)", "(#built)", "links", "line 10: there is no #built"),
        ("(arrows.svg)", "(arrow.svg)", "links", "there is no arrow.svg"),
        ("(arrows.svg)", "(measure.png)", "pictures", "no drawing (.svg) is shown"),
        ("(measure.png)", "(arrows.svg)", "pictures", "does not show the plot"),
        ("![two arrows]", "![]", "pictures", "arrows.svg has no words"),
        ("1   2 s", "1   2 s" + " " * 94 + "x", "widths", "102 columns in a block"),
        ("```text\nn   time\n1   2 s\n```\n", "", "figures", "shows no figures"),
        ("It is O(n).\n\n![time over n](measure.png)", "", "figures", "what these figures mean does not stand below"),
        ("O(n)", "linear", "figures", "does not say how the cost grows"),
        ("|---|--:|", "", "ends", "Roadmap has no table"),
        ("|:--|---|", "", "ends", "What goes wrong has no table"),
        ("<details><summary>Answer</summary>5</details>", "5", "ends", "Questions has no folded answer"),
        ("[three](https://example.org/3)", "", "ends", "Further reading has 2 links, expected 3 to 5"),
    ],
)
def test_each_rule_can_be_broken(folder: Path, was: str, becomes: str, rule: str, said: str) -> None:
    assert was in LESSON
    found = complaints(LESSON.replace(was, becomes, 1), folder)
    assert re.search(re.escape(said), "\n".join(found[rule])), found
    beside = {"pictures"} if "O(n)." in was else set()  # the picture stands below the figures too
    assert set(found) - {rule} <= beside, found


def test_a_shown_file_that_is_missing(folder: Path) -> None:
    (folder / "measure.png").unlink()
    assert complaints(LESSON, folder) == {"links": ["line 85: there is no measure.png"]}
