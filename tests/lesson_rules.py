"""What a lesson of the new form must keep: each rule takes a lesson and returns what is wrong with it, in sentences."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from workshop.course import Stage
from workshop.lesson import Code, Fold, Link, Prose, Section, parse_lesson

NEW_FORM = 10  # the first stage whose lesson has it; the others follow
BEFORE = ("The problem", "You can afterwards", "Before you start", "The idea", "Roadmap")
BUILD = (("Build it", "First run"), ("Build it", "First run", "Build the rest"))
AFTER = (
    "What goes wrong",
    "Measure it",
    "In production",
    "Where it comes from",
    "Questions",
    "Further reading",
    "Summary",
)
TELLING = 15  # characters from which on a line of code is somebody's own


@dataclass(frozen=True)
class Lesson:
    """A lesson with what it is held against."""

    text: str
    stage: Stage
    folder: Path
    bodies: dict[str, str]  # what each exercise's body is in the reference
    neighbours: tuple[str, ...] = ()  # the folders of the stage before and the next
    section: Section = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "section", parse_lesson(self.text, self.folder.name))

    def part(self, title: str) -> Section:
        """The section of level 2 with this title; an empty one if there is none, which `headings` tells."""
        found = (section for section in self.section.sections if section.title == title)
        return next(found, Section(title, 2, 0))

    def exercises(self) -> Iterator[tuple[str, Section]]:
        """Each exercise with its section."""
        for exercise in self.stage.exercises:
            if section := self.section.about(exercise.symbol):
                yield exercise.symbol, section


def length(lesson: Lesson) -> list[str]:
    lines = len(lesson.text.splitlines())
    return [] if 200 <= lines <= 500 else [f"the lesson has {lines} lines, expected 200 to 500"]


def headings(lesson: Lesson) -> list[str]:
    found, forms = tuple(lesson.section.titles(2)), [(*BEFORE, *build, *AFTER) for build in BUILD]
    wrong = [] if found in forms else [f"the headings are {', '.join(found)}; expected {', '.join(forms[-1])}"]
    if not lesson.section.title.startswith(f"Stage {lesson.stage.label}: "):
        wrong.append(f"the title is {lesson.section.title}, expected Stage {lesson.stage.label}: …")
    return wrong


def opening(lesson: Lesson) -> list[str]:
    head = lesson.section.text()
    shown = [prose.text for prose in head if prose.line < min(s.line for s in lesson.section.sections)]
    quoted = " ".join(line.lstrip("> ") for text in shown for line in text.splitlines() if line.startswith(">"))
    wrong = [] if lesson.stage.question in quoted else ["the stage's question does not stand at the top as a quote"]
    return wrong + [
        f"the top does not link to {n}" for n in lesson.neighbours if f"(../{n}/README.md)" not in str(shown)
    ]


def exercises(lesson: Lesson) -> list[str]:
    """Each exercise has its section, within the parts where it is built, with an example in numbers."""
    building = [section for title in ("Build it", "Build the rest") for section in lesson.part(title).sections]
    wrong = []
    for exercise in lesson.stage.exercises:
        section = lesson.section.about(exercise.symbol)
        if section not in building:
            wrong.append(f"{exercise.symbol} has no section, ### `{exercise.symbol}`, where it is built")
        elif not any(re.search(r"\d", code.text) for code in section.code(hints=False)):
            wrong.append(f"{exercise.symbol} has no example with numbers")
    return wrong


def hints(lesson: Lesson) -> list[str]:
    wrong = []
    for symbol, section in lesson.exercises():
        folds = [block for block in section.blocks if isinstance(block, Fold) and block.tier]
        tiers = [fold.tier for fold in folds]
        if tiers != [1, 2, 3]:
            wrong.append(f"{symbol} has the hints {tiers}, expected [1, 2, 3]")
        for fold in folds:
            text = " ".join(" ".join(block.text for block in fold.blocks).split())
            body = [" ".join(line.split()) for line in lesson.bodies[symbol].splitlines()]
            told = [line for line in body if len(line) >= TELLING and line in text]
            wrong += [
                f"hint {fold.tier} of {symbol} tells the reference's line {line}" for line in told if fold.tier < 3
            ]
    return wrong


def links(lesson: Lesson) -> list[str]:
    """Those to files of the repository, and those within the lesson, lead somewhere."""
    anchors = {f"#{_anchor(section.title)}" for section in lesson.section.walk()}
    return [
        f"line {link.line}: there is no {link.target}"
        for link in lesson.section.links() + lesson.section.images()
        if not re.match(r"[a-z]+:", link.target)
        if not (_leads_to_a_file(link, lesson.folder) or link.target in anchors)
    ]


def _anchor(title: str) -> str:
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def _leads_to_a_file(link: Link, folder: Path) -> bool:
    path = link.target.partition("#")[0]
    return bool(path) and (folder / path).exists()


def pictures(lesson: Lesson) -> list[str]:
    shown = lesson.section.images()
    wrong = [
        f"line {image.line}: {image.target} has no words for who cannot see it" for image in shown if not image.text
    ]
    if not any(image.target.endswith(".svg") for image in shown):
        wrong.append("no drawing (.svg) is shown")
    if not any(image.target == "measure.png" for image in lesson.part("Measure it").images()):
        wrong.append("Measure it does not show the plot, measure.png")
    return wrong


def widths(lesson: Lesson) -> list[str]:
    return [
        f"line {code.line + i}: {len(line)} columns in a block of text or code, expected at most 100"
        for code in lesson.section.code()
        for i, line in enumerate(code.text.splitlines(), 1)
        if len(line) > 100
    ]


def figures(lesson: Lesson) -> list[str]:
    """Each table of figures is followed by what it means; and somewhere is said how the cost grows."""
    blocks = [block for section in lesson.part("Measure it").walk() for block in section.blocks]
    tables = [i for i, block in enumerate(blocks) if isinstance(block, Code) and block.language == "text"]
    wrong = [] if tables else ["Measure it shows no figures in a ```text block"]
    wrong += [
        f"line {blocks[i].line}: what these figures mean does not stand below them"
        for i in tables
        if not isinstance((blocks + [None])[i + 1], Prose)
    ]
    said = "".join(block.text for block in blocks if isinstance(block, (Prose, Code)))
    return wrong if "O(" in said else [*wrong, "Measure it does not say how the cost grows, O(…)"]


def ends(lesson: Lesson) -> list[str]:
    """The parts of which there is an exact word: tables, answers, links."""
    wrong = [
        f"{title} has no table"
        for title in ("Roadmap", "What goes wrong")
        if not any(re.search(r"^\|[-: |]+\|$", prose.text, re.M) for prose in lesson.part(title).text())
    ]
    if not list(lesson.part("Questions").folds()):
        wrong.append("Questions has no folded answer")
    further = len(lesson.part("Further reading").links())
    return wrong if 3 <= further <= 5 else [*wrong, f"Further reading has {further} links, expected 3 to 5"]


RULES: tuple[Callable[[Lesson], list[str]], ...] = (
    length,
    headings,
    opening,
    exercises,
    hints,
    links,
    pictures,
    widths,
    figures,
    ends,
)
