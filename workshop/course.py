"""The map: `stages.yaml`, read into objects and checked."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from workshop import ROOT, WorkshopError

PACKAGE = "tinytorch"
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the one in C, where it is, takes a tenth of the time


@dataclass(frozen=True)
class Exercise:
    """One function that a student writes."""

    symbol: str  # "Tensor.matmul"
    points: float
    path: str  # "tinytorch/core/tensor.py"


@dataclass(frozen=True)
class Stage:
    """One stage of the workshop, and where its parts lie."""

    number: int
    name: str
    question: str
    needs: tuple[int, ...]
    files: tuple[str, ...]  # paths from the root, "tinytorch/core/tensor.py"
    exercises: tuple[Exercise, ...]

    @property
    def label(self) -> str:
        return f"{self.number:02d}"

    @property
    def slug(self) -> str:
        return f"{self.label}_{self.name}"

    @property
    def gate(self) -> str:
        return f"gates/test_gate{self.slug}.py"

    @property
    def mistakes(self) -> str:
        return f"gates/mistakes/{self.slug}.yaml"

    @property
    def records(self) -> str:
        return f"gates/records/{self.slug}.json"

    @property
    def folder(self) -> str:
        return f"stages/{self.slug}"

    @property
    def lesson(self) -> str:
        return f"{self.folder}/README.md"

    def exercise(self, symbol: str) -> Exercise:
        for exercise in self.exercises:
            if exercise.symbol == symbol:
                return exercise
        raise WorkshopError(f"stage {self.label} has no exercise {symbol} in stages.yaml")


@dataclass(frozen=True)
class Milestone:
    """A training script that a group of stages leads to."""

    number: int
    name: str
    stages: tuple[int, ...]
    downloads: str = ""  # the data that it needs, if the repository does not hold them

    @property
    def script(self) -> str:
        """The file that is run."""
        return f"{self.prefix}{self.name}.py"

    @property
    def prefix(self) -> str:
        """What the paths of all its files begin with. Other files in milestones/ are shared, and in every tree."""
        return f"milestones/m{self.number}_"


@dataclass(frozen=True)
class Course:
    """All stages and milestones, in order."""

    stages: tuple[Stage, ...]
    milestones: tuple[Milestone, ...]

    def stage(self, number: int) -> Stage:
        for stage in self.stages:
            if stage.number == number:
                return stage
        first, last = self.stages[0].label, self.stages[-1].label
        raise WorkshopError(f"there is no stage {number:02d} in stages.yaml, which has {first} to {last}")

    def milestone(self, number: int) -> Milestone:
        for milestone in self.milestones:
            if milestone.number == number:
                return milestone
        known = ", ".join(str(milestone.number) for milestone in self.milestones)
        raise WorkshopError(f"there is no milestone {number} in stages.yaml, which has {known}")

    def milestone_of(self, stage: Stage) -> Milestone | None:
        """The milestone whose group `stage` belongs to."""
        return next((milestone for milestone in self.milestones if stage.number in milestone.stages), None)

    def closed_by(self, stage: Stage) -> Milestone | None:
        """The milestone whose group `stage` is the last of."""
        return next((milestone for milestone in self.milestones if stage.number == milestone.stages[-1]), None)

    def closure(self, numbers: Iterable[int]) -> set[int]:
        """`numbers`, all that these stages need, what those need in turn, and so on."""
        found: set[int] = set()
        waiting = list(numbers)
        while waiting:
            number = waiting.pop()
            if number not in found:
                found.add(number)
                waiting.extend(self.stage(number).needs)
        return found


def load_course(root: Path = ROOT) -> Course:
    """The map of the checkout at `root`."""
    path = root / "stages.yaml"
    if not path.is_file():
        raise WorkshopError(
            f"{path} is missing: it is the map of the workshop. `git checkout -- stages.yaml` restores it"
        )
    return parse_course(path.read_text(encoding="utf-8"))


def parse_course(text: str) -> Course:
    """The map that `text`, the content of a stages.yaml, describes; or a WorkshopError that says what is wrong."""
    try:
        content = yaml.load(text, Loader=YAML)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        raise WorkshopError(f"stages.yaml{where}: {getattr(error, 'problem', error)}") from error
    top = _fields(content, "stages.yaml", {"stages": list, "milestones": list})
    stages = tuple(_stage(entry, f"stages.yaml, entry {i}") for i, entry in enumerate(top["stages"], 1))
    milestones = tuple(_milestone(entry, f"stages.yaml, milestone {i}") for i, entry in enumerate(top["milestones"], 1))
    _check_stages(stages)
    _check_milestones(milestones, stages)
    return Course(stages, milestones)


def _fields(entry: Any, where: str, kinds: dict[str, type | tuple[type, ...]]) -> dict[str, Any]:
    """`entry`, if it is a mapping with exactly these keys and kinds of values."""
    if not isinstance(entry, dict):
        raise WorkshopError(f"{where}: expected {', '.join(kinds)}, got {entry!r:.60}")
    if set(entry) != set(kinds):
        missing, unknown = sorted(set(kinds) - set(entry)), sorted(map(str, set(entry) - set(kinds)))
        raise WorkshopError(f"{where}: missing {missing or 'nothing'}, unknown {unknown or 'nothing'}")
    for key, kind in kinds.items():
        if not isinstance(entry[key], kind) or isinstance(entry[key], bool):
            raise WorkshopError(f"{where}: {key} is {entry[key]!r:.60}, expected a {getattr(kind, '__name__', kind)}")
    return entry


def _stage(entry: Any, where: str) -> Stage:
    fields = _fields(entry, where, {"number": int, "name": str, "question": str, "needs": list, "files": dict})
    where = f"stages.yaml, stage {fields['number']:02d}"
    if not re.fullmatch(r"[a-z][a-z0-9_]*", fields["name"]):
        raise WorkshopError(f"{where}: name {fields['name']!r} is no plain lower-case word")
    exercises = []
    for path, symbols in fields["files"].items():
        for symbol, points in (symbols or {}).items():
            if isinstance(points, bool) or not isinstance(points, (int, float)) or points <= 0:
                raise WorkshopError(f"{where}: {symbol} has {points!r} points, expected a positive number")
            exercises.append(Exercise(symbol, points, f"{PACKAGE}/{path}"))
    files = tuple(f"{PACKAGE}/{path}" for path in fields["files"])
    question = " ".join(fields["question"].split())
    return Stage(fields["number"], fields["name"], question, tuple(fields["needs"]), files, tuple(exercises))


def _milestone(entry: Any, where: str) -> Milestone:
    kinds = {"number": int, "name": str, "stages": list}
    if isinstance(entry, dict) and "downloads" in entry:
        kinds["downloads"] = str
    fields = _fields(entry, where, kinds)
    return Milestone(fields["number"], fields["name"], tuple(fields["stages"]), fields.get("downloads", ""))


def _check_stages(stages: tuple[Stage, ...]) -> None:
    if not stages:
        raise WorkshopError("stages.yaml: expected stages, got none")
    for what, ids in {
        "number": [stage.label for stage in stages],
        "name": [stage.name for stage in stages],
        "file": [path for stage in stages for path in stage.files],
        "exercise": [exercise.symbol for stage in stages for exercise in stage.exercises],
    }.items():
        twice = sorted({value for value in ids if ids.count(value) > 1})
        if twice:
            raise WorkshopError(f"stages.yaml: the {what} {twice[0]} stands there twice; each must be there once")
    numbers = {stage.number for stage in stages}
    for stage in stages:
        for need in stage.needs:
            if need not in numbers:
                raise WorkshopError(f"stages.yaml: stage {stage.label} needs {need!r}, which is no stage of the map")
    needs = {stage.number: stage.needs for stage in stages}
    for stage in stages:
        _check_cycle(stage.number, needs, ())
    for earlier, later in zip(stages, stages[1:]):
        if earlier.number > later.number:
            raise WorkshopError(
                f"stages.yaml: stage {later.label} stands after {earlier.label}; expected ascending order"
            )
    for stage in stages:
        late = [need for need in stage.needs if need > stage.number]
        if late:
            raise WorkshopError(f"stages.yaml: stage {stage.label} needs stage {late[0]:02d}, which comes after it")


def _check_cycle(number: int, needs: dict[int, tuple[int, ...]], path: tuple[int, ...]) -> None:
    if number in path:
        circle = [*path[path.index(number) :], number]
        raise WorkshopError(f"stages.yaml: the needs go in a circle: {' → '.join(f'{n:02d}' for n in circle)}")
    for need in needs[number]:
        _check_cycle(need, needs, (*path, number))


def _check_milestones(milestones: tuple[Milestone, ...], stages: tuple[Stage, ...]) -> None:
    numbers = {stage.number for stage in stages}
    seen: set[int] = set()
    for milestone in milestones:
        where = f"stages.yaml, milestone {milestone.number}"
        if not milestone.stages or set(milestone.stages) - numbers:
            raise WorkshopError(f"{where}: stages {list(milestone.stages)} are not all stages of the map")
        if seen & set(milestone.stages):
            raise WorkshopError(
                f"{where}: stage {min(seen & set(milestone.stages)):02d} leads to another milestone too"
            )
        seen |= set(milestone.stages)
