"""Lessons: all sections in their order, code that runs, figures that their own script prints."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest
import warm
from conftest import ROOT, stages_in_turn
from lesson_rules import NEW_FORM, RULES, Lesson

from workshop import WorkshopError
from workshop.course import Stage, load_course
from workshop.lesson import Section, parse_lesson, read_lesson
from workshop.stub import find

MAP = load_course(ROOT)
SOLUTIONS = ROOT / "solutions"

each_stage = pytest.mark.parametrize("stage", MAP.stages, ids=[stage.slug for stage in MAP.stages])


@cache
def lesson(stage: Stage) -> Section:
    return read_lesson(ROOT / stage.lesson)


def run_python(
    *arguments: str, cwd: Path = ROOT, script: str = "", cold: bool = False, **environment: str
) -> subprocess.CompletedProcess[str]:
    """A Python process, with `script` as its input."""
    settings = os.environ | {"PYTHONUTF8": "1"} | environment
    return warm.run_python(*arguments, cwd=cwd, environment=settings, script=script, cold=cold)


def held_against(stage: Stage) -> Lesson:
    """The stage's lesson with what the rules need to know beside it."""
    bodies = {}
    for exercise in stage.exercises:
        source = (SOLUTIONS / exercise.path).read_text(encoding="utf-8")
        span = find(source, exercise.symbol, exercise.path)
        bodies[exercise.symbol] = "\n".join(source.splitlines()[span.body : span.end])
    at = MAP.stages.index(stage)
    neighbours = [MAP.stages[i].slug for i in (at - 1, at + 1) if 0 <= i < len(MAP.stages)]
    text = (ROOT / stage.lesson).read_text(encoding="utf-8")
    return Lesson(text, stage, ROOT / stage.folder, bodies, tuple(neighbours))


@each_stage
def test_the_form_of_a_lesson(stage: Stage) -> None:
    text = (ROOT / stage.lesson).read_text(encoding="utf-8")
    if stage.number >= NEW_FORM:
        assert [said for rule in RULES for said in rule(held_against(stage))] == []
        return
    assert 150 <= len(text.splitlines()) <= 400
    assert stage.question in " ".join(text.split()), "the stage's question stands in its lesson as in the map"
    sections = lesson(stage).titles(2)
    assert sections[-1].startswith("Summary") and len(sections) >= 6, sections


DRAW = """
import json, runpy, sys
from workshop import svg
drawn = {}
svg.Drawing.save = lambda self, path: drawn.update({path.name: self.svg()})
runpy.run_path(sys.argv[1], run_name="__main__")
print(json.dumps(drawn))
"""


def drawn_by(script: Path) -> dict[str, str]:
    """What a pictures.py draws: the name of each file and its text."""
    done = run_python("-c", DRAW, str(script))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def committed(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.svg")}


@each_stage
def test_pictures_are_drawn_by_their_script(stage: Stage) -> None:
    """Every drawing of a lesson is what `pictures.py` beside it draws now."""
    script = ROOT / stage.folder / "pictures.py"
    assert committed(script.parent) == (drawn_by(script) if script.exists() else {}), f"run: python {script}"


def test_a_picture_that_nobody_draws_is_noticed(tmp_path: Path) -> None:
    script = tmp_path / "pictures.py"
    script.write_text(
        "from pathlib import Path\nfrom workshop.svg import Drawing\n"
        "Drawing(9, 9, 'a dot').save(Path(__file__).parent / 'dot.svg')\n",
        encoding="utf-8",
    )
    done = run_python(str(script), cwd=tmp_path, PYTHONPATH=str(ROOT))
    assert done.stdout == "wrote dot.svg\n" and committed(tmp_path) == drawn_by(script) != {}, done.stderr
    (tmp_path / "other.svg").write_text("<svg/>", encoding="utf-8")
    assert committed(tmp_path) != drawn_by(script)


@each_stage
def test_every_exercise_has_its_section(stage: Stage) -> None:
    """Where the gate's messages point to."""
    symbols = [exercise.symbol for exercise in stage.exercises]
    assert [symbol for symbol in symbols if lesson(stage).about(symbol) is None] == []


@each_stage
def test_plain_words(stage: Stage) -> None:
    words = lesson(stage).words()
    assert "!" not in words.replace("![", ""), "no exclamation marks"
    assert not re.search("[\U0001f300-\U0001faff\u2600-\u27bf]", words), "no emoji"


@each_stage
def test_no_solution_code(stage: Stage) -> None:
    """No line of an exercise's body, long enough to be telling, stands in the lesson's code."""
    code = "\n".join(block.text for block in lesson(stage).code())
    for exercise in stage.exercises:
        source = (SOLUTIONS / exercise.path).read_text(encoding="utf-8")
        span = find(source, exercise.symbol, exercise.path)
        for line in source.splitlines()[span.body : span.end]:
            assert len(line.strip()) < 30 or line.strip() not in code, f"{exercise.symbol}: {line.strip()}"


RUN = """
import doctest, sys
text = sys.stdin.read()
test = doctest.DocTestParser().get_doctest(text, {}, sys.argv[1], sys.argv[1], 0)
sys.exit(doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS).run(test).failed)
"""


@each_stage
def test_code_runs(stage: Stage) -> None:
    """Every python block, in order, in one process, against the reference; `>>>` lines print what stands below them."""
    script = ""
    for block in lesson(stage).code("python", hints=False):
        if ">>>" in block.text:
            script += block.text + "\n"
        else:  # plain code: the same as a doctest that prints nothing
            script += f">>> exec({block.text.rstrip()!r}, globals())\n\n"
    assert script, "a lesson without code"
    done = run_python("-c", RUN, stage.lesson, cwd=SOLUTIONS, script=script)
    assert done.returncode == 0, done.stdout + done.stderr


def masked(text: str) -> list[str]:
    """Lines with every number replaced, and runs of blanks made one: what is left does not depend on the machine."""
    return [
        " ".join(re.sub(r"\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", "#", line).replace("-#", "#").split())
        for line in text.splitlines()
        if line.strip()
    ]


@each_stage
def test_figures_are_measured(stage: Stage, full: bool) -> None:
    """What measure.py prints now stands in the lesson, line by line, but for the numbers; and the lesson is dated."""
    text = (ROOT / stage.lesson).read_text(encoding="utf-8")
    assert re.search(r"20\d\d-\d\d-\d\d", text) and re.search(r"NumPy \d", text), "date and machine of the figures"
    if not full and stage is not MAP.stages[3]:
        return  # every day one script shows that the lesson's words and the script's are compared
    quick = [] if full else ["--quick"]
    done = run_python(str(ROOT / stage.folder / "measure.py"), "--package", str(SOLUTIONS), *quick, cold=True)
    assert done.returncode == 0, done.stderr
    pasted = {line for block in lesson(stage).code("text") for line in masked(block.text)}
    printed = masked(done.stdout)
    assert len(printed) >= 4
    assert [line for line in printed if line not in pasted] == []


@stages_in_turn(3, "measuring")
def test_measuring_an_unwritten_stage(stage: Stage) -> None:
    """The stub's own words, and no traceback."""
    done = run_python(str(ROOT / stage.folder / "measure.py"), cold=True)
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "is yours to write" in said and "Traceback" not in said, said


@pytest.mark.parametrize("path", sorted(SOLUTIONS.rglob("*.py")), ids=lambda path: path.stem)
def test_docstring_examples_run(path: Path) -> None:
    """The doctests in the package's docstrings."""
    if ">>>" not in path.read_text(encoding="utf-8"):
        return
    module = ".".join(path.relative_to(SOLUTIONS).with_suffix("").parts)
    code = f"import doctest, importlib, sys; sys.exit(doctest.testmod(importlib.import_module({module!r})).failed)"
    done = run_python("-c", code, cwd=SOLUTIONS)
    assert done.returncode == 0, done.stdout + done.stderr


def test_doctest_would_notice() -> None:
    """The way lessons are run does fail on a wrong line."""
    done = run_python("-c", RUN, "x", script=">>> 1 + 1\n3\n")
    assert done.returncode == 1
    assert doctest.DocTestParser().get_examples(">>> 1 + 1\n3\n")


# Lessons as data

LESSON = """\
# Stage 20: norms

**How long?** See [the paper](https://example.org/a_(b) "title"), `[no](link)` and ![a picture](norm.svg).

```text
## no heading
<details>
```

## Build it

### `euclidean_norm`

Text below the heading.

```python
>>> 3
3
```

<details>
<summary><b>Hint 2</b>: a plan</summary>

In two steps:

  ~~~python
  x = not code that runs
    indented
  ~~~
</details>
<details><summary>Hint 1: a question</summary>What is [squared](#build-it)</details>

### `Norm.forward` and `Norm.backward`

## Questions

1. How many bytes?

<details><summary>Answer</summary>

```python
assert 4 * 2 == 8
```

</details>

## Summary ##

Done, with [![a badge](badge.svg)](https://example.org).
"""


def test_sections_of_a_lesson() -> None:
    found = parse_lesson(LESSON)
    assert (found.title, found.level, found.line) == ("Stage 20: norms", 1, 1)
    assert found.titles(2) == ["Build it", "Questions", "Summary"]
    assert [each.title for each in found.sections[0].sections] == [
        "`euclidean_norm`",
        "`Norm.forward` and `Norm.backward`",
    ]
    lines = LESSON.splitlines()
    for section in found.walk():
        assert section.title in lines[section.line - 1]
    assert [found.about(symbol) for symbol in ("Norm", "forward", "norm", "Norm.back")] == [None] * 4
    assert found.about("Norm.backward") is found.about("Norm.forward") is found.sections[0].sections[1]


def test_code_of_a_lesson() -> None:
    found = parse_lesson(LESSON)
    codes = [(code.language, code.text) for code in found.code()]
    assert codes[0] == ("text", "## no heading\n<details>\n")
    assert codes[1] == ("python", ">>> 3\n3\n")
    assert codes[2] == ("python", "x = not code that runs\n  indented\n")
    assert [code.text for code in found.code("python", hints=False)] == [">>> 3\n3\n", "assert 4 * 2 == 8\n"]
    lines = LESSON.splitlines()
    for code in found.code():
        assert lines[code.line - 1].strip() in ("```text", "```python", "~~~python")
        assert lines[code.line].strip() == code.text.splitlines()[0]


def test_hints_of_an_exercise() -> None:
    found = parse_lesson(LESSON)
    section = found.about("euclidean_norm")
    assert section is not None
    assert [(hint.tier, hint.summary) for hint in section.hints()] == [(1, "Hint 1: a question"), (2, "Hint 2: a plan")]
    assert [type(block).__name__ for block in section.hints()[1].blocks] == ["Prose", "Code"]
    assert section.hints() == found.hints() and len(list(found.folds())) == 3
    lines = LESSON.splitlines()  # of code, the fence is the line
    for block in [block for fold in found.folds() for block in fold.blocks]:
        assert block.text.splitlines()[0].strip() in "\n".join(lines[block.line - 1 : block.line + 1])


def test_links_and_images_of_a_lesson() -> None:
    found = parse_lesson(LESSON)
    assert [(each.text, each.target) for each in found.links()] == [
        ("the paper", "https://example.org/a_(b)"),
        ("squared", "#build-it"),
        ("![a badge](badge.svg)", "https://example.org"),
    ]
    assert [(each.text, each.target) for each in found.images()] == [
        ("a picture", "norm.svg"),
        ("a badge", "badge.svg"),
    ]
    lines = LESSON.splitlines()
    assert all(each.target in lines[each.line - 1] for each in found.links() + found.images())
    assert [each.target for each in parse_lesson('# A\n<img alt="b" src="c.svg">').images()] == ["c.svg"]
    assert "no" not in found.words().split() and "assert" not in found.words()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Text\n# Title", "expected its title"),
        ("# A\n# B", "line 2: a second title, `# B`"),
        ("# A\n\n```python\n1", "line 3: the code block has no end, ```"),
        ("# A\n<details><summary>Hint 1</summary>\ntext", "line 2: <details> has no end"),
        ("# A\n<details>\ntext\n</details>", "line 2: expected <details>, <summary>"),
        ("# A\n<details><summary>Hint 1</summary>\n\n## B\n</details>", "line 2: a fold holds text and code"),
    ],
)
def test_a_lesson_that_is_wrong_says_where(text: str, said: str) -> None:
    with pytest.raises(WorkshopError, match=re.escape(said)):
        parse_lesson(text)
