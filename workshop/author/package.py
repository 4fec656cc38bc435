"""The student's package, derived from the reference: which file holds what, stage by stage."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from functools import lru_cache
from pathlib import Path

from workshop import ROOT, WorkshopError
from workshop.course import PACKAGE, Course, Stage, load_course
from workshop.stub import find, is_stub, make_stub, spans

SOLUTIONS = "solutions"
NAMES = f"{PACKAGE}/_names.py"
SYSTEMS = f"{PACKAGE}/systems/"


def reference(root: Path = ROOT) -> dict[str, str]:
    """Every file of the reference by its path in the package: {"tinytorch/core/tensor.py": "…"}."""
    folder = root / SOLUTIONS
    if not folder.is_dir():
        raise WorkshopError(
            f"{root} has no {SOLUTIONS}/: this is a stage. `git checkout main` brings the whole workshop"
        )
    paths = sorted((folder / PACKAGE).rglob("*.py"))
    return {path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths}


def check(course: Course, source: Mapping[str, str], present: Collection[str]) -> None:
    """See that what the map names is there.

    Args:
        source: the reference's files.
        present: all paths of the repository.

    Raises:
        WorkshopError: a file, or an exercise's function, is missing; or a file of the reference is in no stage.
    """
    for stage in course.stages:
        for path in stage.files:
            if path not in source:
                raise WorkshopError(f"stages.yaml: stage {stage.label} names {SOLUTIONS}/{path}, which is missing")
        for exercise in stage.exercises:
            find(source[exercise.path], exercise.symbol, f"{SOLUTIONS}/{exercise.path}")
        for path in (stage.gate, stage.mistakes, stage.lesson):
            if path not in present:
                raise WorkshopError(f"stage {stage.label} has no {path}: CONTRIBUTING.md tells what a stage is made of")
    for milestone in course.milestones:
        if milestone.script not in present:
            raise WorkshopError(f"milestone {milestone.number} has no {milestone.script}")
    listed = {path for stage in course.stages for path in stage.files}
    for path in sorted(set(source) - listed):
        if not is_common(path):
            raise WorkshopError(f"{SOLUTIONS}/{path} belongs to no stage: list it under `files:` of one in stages.yaml")


def is_common(path: str) -> bool:
    """Whether a file of the package is the same at every stage."""
    return path == NAMES or path.endswith("/__init__.py")


def assemble(
    course: Course, source: Mapping[str, str], solved: Collection[int], stubbed: Collection[int]
) -> dict[str, str]:
    """The package with some stages solved, some as stubs, and no others: path to content."""
    files = {path: text for path, text in source.items() if is_common(path)}
    files[NAMES] = names_module(course, source)
    for stage in course.stages:
        for path in stage.files:
            if stage.number in solved:
                files[path] = source[path]
            elif stage.number in stubbed:
                files[path] = make_stub(source[path], stage, path)
    return files


def names_module(course: Course, source: Mapping[str, str]) -> str:
    """The module that tells `tinytorch/__init__.py` where each public name lives: every file's `__all__`.

    Systems functions are left out: they answer a lesson's questions, and their own module is where to import them from.

    Raises:
        WorkshopError: two files offer the same name.
    """
    lines = [
        '"""Where each public name lives, and the stage that brings it. Made by `python -m workshop derive`."""',
        "",
        "NAMES = {",
    ]
    offered: dict[str, str] = {}
    for stage in course.stages:
        for path in stage.files:
            if path.startswith(SYSTEMS):
                continue
            module = path.removesuffix(".py").replace("/", ".")
            for name in _public(source[path]):
                if name in offered:
                    both = f"{offered[name]} and {path} both"
                    raise WorkshopError(f"{both} have {name} in their __all__: it shall be public from one of them")
                offered[name] = path
                lines.append(f'    "{name}": ("{module}", {stage.number}),')
    return "\n".join([*lines, "}"]) + "\n"


@lru_cache(256)  # one cut of the ladder asks for each rung
def _public(source: str) -> tuple[str, ...]:
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__":
            return tuple(ast.literal_eval(node.value))
    return ()


def _written(path: Path, stage: Stage, symbol: str) -> bool:
    source = path.read_text(encoding="utf-8") if path.exists() else ""
    return symbol in spans(source, path.name) and not is_stub(source, stage, symbol, path.name)


def derive(root: Path = ROOT) -> list[str]:
    """Bring `tinytorch/` on main, and the reference's table of names, up to date. Returns the paths that changed.

    Raises:
        WorkshopError: somebody wrote in a stub of `tinytorch/`; nothing is changed.
    """
    course, source = load_course(root), reference(root)
    for stage in course.stages:
        for exercise in stage.exercises:
            if _written(root / exercise.path, stage, exercise.symbol):
                raise WorkshopError(
                    f"{exercise.path}: {exercise.symbol} is written, and would be lost; nothing was changed. "
                    "Students work on a stage (git switch -c mine stage-01), not on main"
                )
    wanted = assemble(course, source, solved=(), stubbed=[stage.number for stage in course.stages])
    wanted[f"{SOLUTIONS}/{NAMES}"] = wanted[NAMES]
    existing = {path.relative_to(root).as_posix() for path in (root / PACKAGE).rglob("*.py")}
    changed = []
    for path in sorted(existing - set(wanted)):
        (root / path).unlink()
        changed.append(path)
    for path, text in wanted.items():
        target = root / path
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="\n")
            changed.append(path)
    return changed
