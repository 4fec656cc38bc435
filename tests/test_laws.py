"""Laws of the code itself: imports in one direction, no patching, one list of each thing, files that fit in a head."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest
from conftest import ROOT
from warm import run_python

from workshop.author.mistakes import scratch_package
from workshop.author.package import NAMES, assemble, reference
from workshop.course import Course, load_course
from workshop.git import git_text

SOURCE = reference(ROOT)
TRACKED = git_text(ROOT, "ls-files").splitlines()
PYTHON = [path for path in TRACKED if path.endswith(".py") and (ROOT / path).exists()]
TEXTS = [path for path in TRACKED if not path.endswith((".gz", ".png")) and (ROOT / path).exists()]


@cache
def nodes(text: str) -> tuple[ast.AST, ...]:
    """All nodes of a file's syntax tree."""
    return tuple(ast.walk(ast.parse(text)))


def imports(text: str) -> set[str]:
    """Every module that a file imports, by its full name."""
    found = set()
    for node in nodes(text):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add(node.module or "")
    return found


def own_imports(path: str) -> set[str]:
    """The files of the package that one of its files imports, also by `from .name import`."""
    package = path.rpartition("/")[0].replace("/", ".")
    names = imports(SOURCE[path])
    for node in nodes(SOURCE[path]):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            names.add(f"{package}.{node.module}")
    stems = {name.replace(".", "/") for name in names if name.startswith("tinytorch.")} - {"tinytorch/_names"}
    return {f"{stem}/__init__.py" if f"{stem}/__init__.py" in SOURCE else f"{stem}.py" for stem in stems}


# Imports


def test_the_package_imports_numpy_and_the_standard_library_alone() -> None:
    for path, text in SOURCE.items():
        outside = {name.split(".")[0] for name in imports(text)} - set(sys.stdlib_module_names) - {"numpy", "tinytorch"}
        assert not outside, f"{path} imports {outside}"


def test_a_stage_imports_what_it_needs_and_nothing_later(course: Course) -> None:
    """Law 5, seen in the text: each file's imports lie in its own stage or in the stages that it needs."""
    owner = {path: stage.number for stage in course.stages for path in stage.files}
    for stage in course.stages:
        allowed = course.closure([stage.number])
        for path in stage.files:
            for other in own_imports(path):
                assert owner[other] in allowed, f"{path} imports {other}, of stage {owner[other]:02d}"


def test_no_import_cycle() -> None:
    below = {path: own_imports(path) for path in SOURCE if path not in (NAMES, "tinytorch/__init__.py")}
    order: list[str] = []

    def visit(path: str, way: tuple[str, ...]) -> None:
        assert path not in way, f"import cycle: {' → '.join((*way, path))}"
        if path not in order:
            for other in sorted(below[path]):
                visit(other, (*way, path))
            order.append(path)

    for path in below:
        visit(path, ())
    assert len(order) == len(below)


def test_only_the_judge_imports_the_package() -> None:
    """`workshop` imports `tinytorch` only inside functions, in the process that runs a gate or a milestone."""
    for path in PYTHON:
        text = (ROOT / path).read_text(encoding="utf-8")
        if path.startswith("workshop/"):
            found = {
                name for name in imports(text) if name.split(".")[0] in ("tinytorch", "tests", "gates", "milestones")
            }
            assert not found or path in ("workshop/probes.py", "workshop/tables.py", "workshop/training_run.py"), (
                f"{path} imports {found}"
            )
            top = "\n".join(
                ast.unparse(node) for node in ast.parse(text).body if isinstance(node, (ast.Import, ast.ImportFrom))
            )
            assert "tinytorch" not in top, path
        if not path.startswith("tests/"):
            assert not {name for name in imports(text) if name.split(".")[0] in ("tests", "conftest")}, path


# Law 4


def in_package(numbers: set[int], code: str) -> str:
    """What `code` prints with these stages of the reference, and no others."""
    with scratch_package(assemble(load_course(ROOT), SOURCE, numbers, ())) as folder:
        done = run_python("-c", code, cwd=folder)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


OUTLINE = """
import importlib, sys, types
modules = [importlib.import_module(name) for name in {names!r}]
def outline():
    seen = {{}}
    for module in modules:
        for name, value in vars(module).items():
            seen[module.__name__, name] = id(value)
            if isinstance(value, type):
                for attribute, inner in vars(value).items():
                    seen[module.__name__, name, attribute] = id(inner)
    return seen
"""


def test_waking_up_replaces_nothing() -> None:
    """Importing stage 05 changes one thing in the modules before it: the tape that was not there is plugged in."""
    files = [path for number in (1, 2, 3, 4) for path in load_course(ROOT).stage(number).files]
    names = [path.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in files]
    code = (
        "import sys; sys.modules['tinytorch'] = __import__('types').ModuleType('tinytorch')\n"
        "sys.modules['tinytorch'].__path__ = ['tinytorch']\n"
        + OUTLINE.format(names=names)
        + "before = outline(); import tinytorch.core.autograd; after = outline()\n"
        "print(sorted(key[1] for key in after if after[key] != before.get(key)))"
    )
    assert in_package({1, 2, 3, 4, 5}, code) == "['_tape']"


def test_from_tinytorch_import_tensor_is_enough() -> None:
    code = "x = Tensor([3.0], requires_grad=True); (x * x).backward(); print(x.grad)"
    assert in_package({1, 2, 3, 4, 5}, f"from tinytorch import Tensor; {code}") == "[6.]"
    assert in_package({1, 2, 3, 4, 5}, f"from tinytorch.core.tensor import Tensor; {code}") == "[6.]"


def test_an_operation_without_gradients_leaves_no_trace() -> None:
    """Asleep, or awake and not asked, the door keeps nothing: no input, no saved value."""
    code = """
import gc, weakref
from tinytorch import Tensor
class Marked(Tensor): pass
x = Marked([1.0]); gone = weakref.ref(x)
y = (x * 2.0).sum().exp()
del x; gc.collect()
print(gone() is None, y.grad_fn, y.requires_grad)
"""
    assert in_package({1}, code) == in_package({1, 2, 3, 4, 5}, code) == "True None False"


def test_the_operations_of_stage_01_know_no_later_stage() -> None:
    for path in load_course(ROOT).stages[0].files:
        code = "\n".join(
            ast.unparse(node)
            for node in ast.walk(ast.parse(SOURCE[path]))
            if isinstance(node, (ast.Import, ast.ImportFrom))
        )
        assert not re.search(r"autograd|rules", code), path


# One list of each thing


def test_stages_are_listed_in_the_map_alone(course: Course) -> None:
    """No other file lists the stages: none of code or settings names more than two of them in one breath."""
    names = [stage.name for stage in course.stages]
    for path in PYTHON + ["tox.ini", "toxfile.py", "pyproject.toml", "README.md", "CONTRIBUTING.md"]:
        if path.startswith(("tests/", "stages/", "solutions/", "tinytorch/")):
            continue
        text = (ROOT / path).read_text(encoding="utf-8")
        for line in text.splitlines():
            slugs = [stage.slug for stage in course.stages if stage.slug in line]
            assert len(slugs) <= 2, f"{path}: {line}"
        assert sum(f"gate{stage.label} ({name})" in text for stage, name in zip(course.stages, names)) == 0, path


def test_packages_are_listed_once() -> None:
    for path in ("tox.ini", "toxfile.py", ".ci/run"):
        text = (ROOT / path).read_text(encoding="utf-8")
        for package in ("numpy", "matplotlib", "pytest-timeout", "pyyaml"):
            assert package not in text, f"{path} names {package}: pyproject.toml lists the packages"


def test_merging_a_handout_opens_no_editor() -> None:
    """Whoever is told to merge is told `--no-edit`, in lessons, pages and messages."""
    for path in TEXTS:
        if not path.startswith("tests/"):
            found = re.search(r"git merge (?!--no-edit)\S*handout", (ROOT / path).read_text(encoding="utf-8"))
            assert not found, f"{path}: {found[0]}"


# Files


@pytest.mark.parametrize("path", TEXTS)
def test_texts_are_utf8_with_plain_line_ends(path: str) -> None:
    content = (ROOT / path).read_bytes()
    content.decode("utf-8")
    if not content.startswith(b"\n" * 20):
        assert b"\r" not in content, f"{path} has carriage returns"
        assert not content or content.endswith(b"\n"), f"{path} does not end with a line end"


def test_files_fit_in_a_head() -> None:
    limits = {"solutions/": 300, "workshop/": 400, "milestones/": 400, "benchmarks/": 400, "tests/": 400}
    for path in PYTHON:
        lines = len((ROOT / path).read_text(encoding="utf-8").splitlines())
        for folder, limit in limits.items():
            if path.startswith(folder):
                assert lines <= limit, f"{path} has {lines} lines, more than {limit}"


def test_signatures_of_the_machinery_are_typed() -> None:
    for path in PYTHON:
        if path.startswith("workshop/"):
            for node in nodes((ROOT / path).read_text(encoding="utf-8")):
                if isinstance(node, ast.FunctionDef):
                    bare = [
                        a.arg
                        for a in (*node.args.args, *node.args.kwonlyargs)
                        if a.annotation is None and a.arg not in ("self", "cls")
                    ]
                    assert not bare and node.returns is not None, f"{path}:{node.lineno} {node.name}"


def test_text_is_opened_as_utf8() -> None:
    """`open`, `read_text` and `write_text` name their encoding, but for bytes."""
    for path in PYTHON:
        for node in nodes((ROOT / path).read_text(encoding="utf-8")):
            if not isinstance(node, ast.Call):
                continue
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            if name in ("read_text", "write_text", "open"):
                binary = re.search(r"'[rwax+]*b[rwax+]*'", ast.unparse(node))
                other = ast.unparse(node.func) in ("os.open", "gzip.open", "tarfile.open", "archive.open")
                assert binary or other or any(k.arg == "encoding" for k in node.keywords), f"{path}:{node.lineno}"


def test_nothing_names_a_machine() -> None:
    for path in TEXTS:
        text = (ROOT / path).read_text(encoding="utf-8")
        found = re.search(r"/home/\w+|/work/|/root/|C:\\\\Users", text)
        assert not found or path == Path(__file__).relative_to(ROOT).as_posix(), f"{path} names {found}"
