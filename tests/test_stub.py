"""Law 1: one source. Stubs are the reference's own files with the exercises' bodies taken out."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, run_git, run_workshop

from workshop import WorkshopError
from workshop.author.package import NAMES, assemble, reference
from workshop.course import Course, Exercise, Stage
from workshop.stub import _functions, find, is_stub, make_stub, spans

SOURCE = '''"""Module."""

import os  # kept


@decorated(
    1,
)
def plain(a, b=(1, 2)):  # kept
    """Docstring.

    def inside(): not a function
    """
    # a comment of the solution
    result = a + b  # gone
    return result
    # gone too


class Thing:
    size = 3

    @property
    def wide(self):
        # no docstring, and a comment first
        if self:
            return 1
        return 2

    async_like = None

    def long(
        self,
        x: int = 1,
    ) -> str:
        """One line."""
        text = """
not indented
"""
        return text

    def untouched(self):
        return 5


def last():
    return 1
'''


def stage_for(*symbols: str) -> Stage:
    exercises = tuple(Exercise(symbol, 1, "m.py") for symbol in symbols)
    return Stage(3, "demo", "Why", (), ("m.py",), exercises)


def test_only_bodies_change() -> None:
    stub = make_stub(SOURCE, stage_for("plain", "Thing.wide", "Thing.long", "last"), "m.py")
    compile(stub, "m.py", "exec")
    for kept in (
        '    def inside(): not a function\n    """\n    # >>> stage 03: your code\n',
        "# kept",
        "return 5",
        "    size = 3",
        "@decorated(\n    1,\n)\ndef plain",
        "    async_like = None",
        '        """One line."""',
    ):
        assert kept in stub, kept
    for gone in ("gone", "a comment of the solution", "no docstring", "not indented", "return result", "return 2"):
        assert gone not in stub, gone
    expected = 'raise NotImplementedError("stage 03: Thing.wide is yours to write, see stages/03_demo/README.md")'
    assert f"    def wide(self):\n        # >>> stage 03: your code\n        {expected}\n        # <<<\n" in stub
    outside = [line for line in stub.splitlines() if "stage 03" not in line and "# <<<" not in line]
    assert [line for line in outside if line not in SOURCE.splitlines()] == [], "a line was invented"


def test_stub_is_recognised_until_it_is_written() -> None:
    stage = stage_for("plain", "last")
    stub = make_stub(SOURCE, stage, "m.py")
    assert is_stub(stub, stage, "plain", "m.py") and not is_stub(SOURCE, stage, "plain", "m.py")
    written = stub.replace(stub[stub.index("raise") : stub.index("\n", stub.index("raise"))], "return a")
    assert not is_stub(written, stage, "plain", "m.py") and is_stub(written, stage, "last", "m.py")


def test_a_stub_of_a_stub_is_the_same() -> None:
    stage = stage_for("plain", "Thing.wide", "last")
    stub = make_stub(SOURCE, stage, "m.py")
    assert make_stub(stub, stage, "m.py") == stub


@pytest.mark.parametrize("source", ["def f(x): return x\n", "def f(\n    x): return x\n"])
def test_a_body_beside_its_signature_is_refused(source: str) -> None:
    with pytest.raises(WorkshopError, match="f must have its body on lines of its own"):
        make_stub(source, stage_for("f"), "m.py")


def test_an_unknown_symbol_is_refused_with_those_there_are() -> None:
    with pytest.raises(WorkshopError, match="m.py has no function Thing.widely.*Thing.long"):
        find(SOURCE, "Thing.widely", "m.py")


def test_tinytorch_on_main_is_what_the_derivation_gives(course: Course) -> None:
    wanted = assemble(course, reference(ROOT), solved=(), stubbed=[stage.number for stage in course.stages])
    found = {
        path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
        for path in (ROOT / "tinytorch").rglob("*.py")
    }
    assert sorted(found) == sorted(wanted)
    assert [path for path in wanted if wanted[path] != found[path]] == [], "run: python -m workshop derive"
    assert wanted[NAMES] == (ROOT / "solutions" / NAMES).read_text(encoding="utf-8")


def test_stubs_keep_all_but_the_bodies(course: Course) -> None:
    """Signatures, decorators and docstrings of every function, and all else, are the reference's."""
    for stage in course.stages:
        for path in stage.files:
            source = reference(ROOT)[path]
            stub = make_stub(source, stage, path)
            symbols = {e.symbol for e in stage.exercises if e.path == path}
            assert outline(source, symbols) == outline(stub, symbols), path
            for symbol in symbols:
                assert is_stub(stub, stage, symbol, path)


def outline(source: str, symbols: set[str]) -> str:
    """The file with the bodies of `symbols` emptied, by its syntax tree."""
    tree = ast.parse(source)

    def empty(node: ast.AST, prefix: str) -> None:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.ClassDef):
                empty(child, f"{prefix}{child.name}.")
            elif isinstance(child, ast.FunctionDef) and f"{prefix}{child.name}" in symbols:
                child.body = [ast.Expr(ast.Constant(ast.get_docstring(child)))]

    empty(tree, "")
    return ast.dump(tree)


def test_every_exercise_has_a_docstring_and_types(course: Course) -> None:
    for stage in course.stages:
        for exercise in stage.exercises:
            node = dict(_functions(ast.parse(reference(ROOT)[exercise.path]), ""))[exercise.symbol]
            assert ast.get_docstring(node), f"{exercise.symbol} has no docstring"
            assert node.returns is not None, f"{exercise.symbol} says no return type"


def test_no_markers_in_the_reference() -> None:
    """Ordinary, clean Python: nothing in it speaks of stubs."""
    for path, text in reference(ROOT).items():
        for word in ("# >>>", "# <<<", "yours to write", "your code"):
            assert word not in text, f"{path}: {word}"


def test_derive_never_writes_over_a_students_work(author: Path, course: Course) -> None:
    exercise = course.stages[0].exercises[0]
    path = author / exercise.path
    text = path.read_text(encoding="utf-8")
    stub = next(line for line in text.splitlines() if f": {exercise.symbol} is yours" in line)
    path.write_text(text.replace(stub, "    return 'mine'"), encoding="utf-8")
    done = run_workshop(author, "derive")
    assert done.returncode == 2 and exercise.symbol in done.stderr and "Traceback" not in done.stderr
    assert "return 'mine'" in path.read_text(encoding="utf-8")


def test_derive_follows_the_reference(author: Path, course: Course) -> None:
    path = course.stages[0].files[0]
    solution = author / "solutions" / path
    solution.write_text(solution.read_text(encoding="utf-8") + "\n\nADDED = 1\n", encoding="utf-8")
    assert run_workshop(author, "derive").returncode == 0
    assert "ADDED = 1" in (author / path).read_text(encoding="utf-8")
    assert run_git(author, "status", "--porcelain").split() == ["M", f"solutions/{path}", "M", path]


def test_a_syntax_error_is_shown_with_its_line() -> None:
    with pytest.raises(WorkshopError, match="m.py, line 2: "):
        spans("x = 1\ndef f(:\n", "m.py")


def test_stub_of_some_exercises_only() -> None:
    stage = stage_for("plain", "last")
    stub = make_stub(SOURCE, replace(stage), "m.py", only={"last"})
    assert is_stub(stub, stage, "last", "m.py") and not is_stub(stub, stage, "plain", "m.py")
