"""Lessons as data: a README.md of stages/ parsed once, for whoever reads it by program.

A lesson is its section of level 1, with all others below it. What stands in a section is a row of blocks: prose, code,
and folds (`<details>`), which hold prose and code in turn. Every part knows its line in the file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from workshop import WorkshopError

HEADING = re.compile(r"(#{1,6})[ \t]+(.+?)[ \t]*#*[ \t]*")
FENCE = re.compile(r"( *)(`{3,}|~{3,})[ \t]*([^\s`]*)[^`]*")
CODE_SPAN = re.compile(r"(`+)(?!`).+?(?<!`)\1(?!`)", re.S)
TARGET = r"\(<?((?:[^()\s<>]|\([^()\s]*\))*)>?(?:\s+[\"'][^)]*)?\)"  # "(url)", "(url "title")", "(a_(b))"
IMAGE = re.compile(rf"!\[([^\]]*)\]{TARGET}")
LINK = re.compile(rf"(?<!!)\[((?:!\[[^\]]*\]{TARGET}|[^\[\]])*)\]{TARGET}")
TAG = re.compile(r"<[^>]+>")
IMG = re.compile(r"<(?:img|source)\b[^>]*?\b(?:src|srcset)=\"([^\"]+)\"[^>]*>")


@dataclass(frozen=True)
class Prose:
    """Text between code blocks, folds and headings, as it was written."""

    text: str
    line: int


@dataclass(frozen=True)
class Code:
    """A fenced block. `language` is "" if none is given, and what follows it on its line is left out."""

    language: str
    text: str
    line: int


@dataclass(frozen=True)
class Fold:
    """What `<details>` folds away under its `summary`."""

    summary: str
    blocks: tuple[Prose | Code, ...]
    line: int

    @property
    def tier(self) -> int:
        """1, 2, 3 … of a hint, whose summary begins with "Hint 1"; 0 of any other fold, such as an answer."""
        found = re.match(r"hint\s+(\d+)\b", self.summary, re.I)
        return int(found[1]) if found else 0


@dataclass(frozen=True)
class Link:
    """A link or an image: what is shown, or stands for it, and where it leads."""

    text: str
    target: str
    line: int


@dataclass
class Section:
    """A heading, what stands below it, and the sections within it. The lesson itself is the one of level 1."""

    title: str
    level: int
    line: int
    blocks: list[Prose | Code | Fold] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    def walk(self) -> Iterator[Section]:
        """This section and all below it, in the order of the file."""
        yield self
        for section in self.sections:
            yield from section.walk()

    def titles(self, level: int) -> list[str]:
        """The headings of one level."""
        return [section.title for section in self.walk() if section.level == level]

    def about(self, symbol: str) -> Section | None:
        """The section of an exercise: the one of level 3 whose heading names `symbol`, such as "Tensor.matmul"."""
        name = re.compile(rf"(?<![\w.]){re.escape(symbol)}(?![\w.])")
        return next((each for each in self.walk() if each.level == 3 and name.search(each.title)), None)

    def folds(self) -> Iterator[Fold]:
        """All folds of this section and those below it."""
        for section in self.walk():
            yield from (block for block in section.blocks if isinstance(block, Fold))

    def hints(self) -> list[Fold]:
        """The folds that are hints, the gentlest first."""
        return sorted((fold for fold in self.folds() if fold.tier), key=lambda fold: fold.tier)

    def text(self) -> Iterator[Prose]:
        """All prose, that in folds, their summaries and the headings too."""
        for section in self.walk():
            yield Prose(section.title, section.line)
            for block in section.blocks:
                if isinstance(block, Fold):
                    yield Prose(block.summary, block.line)
                yield from (part for part in _parts(block) if isinstance(part, Prose))

    def code(self, language: str | None = None, hints: bool = True) -> list[Code]:
        """All code blocks, in one `language` or any; those in hints, which are pseudocode, only with `hints`."""
        return [
            part
            for section in self.walk()
            for block in section.blocks
            for part in _parts(block)
            if isinstance(part, Code) and language in (None, part.language)
            if hints or not (isinstance(block, Fold) and block.tier)
        ]

    def words(self) -> str:
        """The prose without code spans: what a reader reads as language."""
        return "\n".join(CODE_SPAN.sub("", prose.text) for prose in self.text())

    def links(self) -> list[Link]:
        """All links, `[text](target)`."""
        return [Link(found[1], found[found.re.groups], line) for found, line in self._found(LINK)]

    def images(self) -> list[Link]:
        """All images, `![text](target)` and `<img src="target">`."""
        shown = [Link(found[1], found[2], line) for found, line in self._found(IMAGE)]
        return shown + [Link("", found[1], line) for found, line in self._found(IMG)]

    def _found(self, pattern: re.Pattern[str]) -> Iterator[tuple[re.Match[str], int]]:
        for prose in self.text():
            plain = CODE_SPAN.sub(lambda span: re.sub(r"[^\n]", " ", span[0]), prose.text)
            for found in pattern.finditer(plain):
                yield found, prose.line + plain.count("\n", 0, found.start())


def _parts(block: Prose | Code | Fold) -> tuple[Prose | Code, ...]:
    return block.blocks if isinstance(block, Fold) else (block,)


# Reading


def read_lesson(path: Path) -> Section:
    """The lesson in a file; a WorkshopError if it has no single title, or a block in it has no end."""
    return parse_lesson(path.read_text(encoding="utf-8"), path.as_posix())


def parse_lesson(text: str, name: str = "the lesson") -> Section:
    """The lesson that `text` is. `name` is what an error calls it."""
    parts = list(_Reader(text.split("\n"), 1, name).blocks())
    if not parts or not isinstance(parts[0], Section) or parts[0].level != 1:
        raise WorkshopError(f"{name}: expected its title, `# …`, in the first line")
    lesson, *rest = parts
    path = [lesson]  # of open sections, from the title down
    for part in rest:
        if not isinstance(part, Section):
            path[-1].blocks.append(part)
            continue
        if part.level == 1:
            raise WorkshopError(f"{name}, line {part.line}: a second title, `# {part.title}`")
        while path[-1].level >= part.level:
            path.pop()
        path[-1].sections.append(part)
        path.append(part)
    return lesson


class _Reader:
    """Goes through lines once. `first` is the number in the file of the first of them."""

    def __init__(self, lines: list[str], first: int, name: str) -> None:
        self.lines, self.first, self.name, self.at = lines, first, name, 0

    def blocks(self) -> Iterator[Section | Prose | Code | Fold]:
        """Headings, as sections that are still empty, and blocks, in their order."""
        prose: list[str] = []
        while self.at < len(self.lines):
            begin = self.at
            part = self.special()
            if part is None:
                prose.append(self.lines[begin])
                self.at += 1
            else:
                yield from self.prose(prose, begin)
                yield part
                prose = []
        yield from self.prose(prose, self.at)

    def prose(self, lines: list[str], end: int) -> Iterator[Prose]:
        """The `lines` before line `end`, without blank ones around them; nothing, if all are blank."""
        written = [i for i, line in enumerate(lines) if line.strip()]
        if written:
            text = "\n".join(lines[written[0] : written[-1] + 1])
            yield Prose(text, self.first + end - len(lines) + written[0])

    def special(self) -> Section | Code | Fold | None:
        """What begins at this line, if it is more than prose; goes on to the line after its end."""
        line = self.lines[self.at]
        if heading := HEADING.fullmatch(line):
            self.at += 1
            return Section(heading[2], len(heading[1]), self.first + self.at - 1)
        if FENCE.fullmatch(line):
            return self.fenced()
        return self.folded() if line.lstrip().startswith("<details") else None

    def fenced(self) -> Code:
        begin, (indent, ticks, language) = self.at, FENCE.fullmatch(self.lines[self.at]).groups()
        for end in range(begin + 1, len(self.lines)):
            line = self.lines[end].strip()
            if len(line) >= len(ticks) and not line.strip(ticks[0]):
                self.at = end + 1
                inside = [each.removeprefix(indent) for each in self.lines[begin + 1 : end]]
                return Code(language, "".join(f"{each}\n" for each in inside), self.first + begin)
        raise WorkshopError(f"{self.name}, line {self.first + begin}: the code block has no end, `{ticks}`")

    def folded(self) -> Fold:
        begin, place = self.at, f"{self.name}, line {self.first + self.at}"
        end = self._end_of_fold(place)
        whole = "\n".join(self.lines[begin : end + 1]).strip()
        found = re.fullmatch(r"<details[^>]*>\s*<summary>(.*?)</summary>(.*)</details>", whole, re.S)
        if not found:
            raise WorkshopError(f"{place}: expected <details>, <summary>…</summary>, text, </details>")
        inside = _Reader(found[2].split("\n"), self.first + begin + whole.count("\n", 0, found.start(2)), self.name)
        blocks = tuple(inside.blocks())
        if not all(isinstance(block, (Prose, Code)) for block in blocks):
            raise WorkshopError(f"{place}: a fold holds text and code, no heading and no other fold")
        self.at = end + 1
        return Fold(" ".join(TAG.sub("", found[1]).split()), blocks, self.first + begin)

    def _end_of_fold(self, place: str) -> int:
        """The line with `</details>`, which may be the same line, and is none within a code block."""
        at = self.at
        while self.at < len(self.lines):
            if "</details>" in self.lines[self.at]:
                end, self.at = self.at, at
                return end
            if FENCE.fullmatch(self.lines[self.at]):
                self.fenced()
            else:
                self.at += 1
        raise WorkshopError(f"{place}: <details> has no end, </details>")
