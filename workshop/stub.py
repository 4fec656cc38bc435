"""Stubs: the reference's own files, with the body of each exercise taken out."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from workshop import WorkshopError
from workshop.course import Stage


@dataclass(frozen=True)
class Span:
    """Where a function stands in a file: lines counted from 0, ends not included."""

    start: int  # its first decorator, or `def`
    body: int  # the first line after signature and docstring; -1 if it shares a line with the signature
    end: int
    indent: str  # of the body


@lru_cache(256)
def spans(source: str, path: str) -> dict[str, Span]:
    """Every function of a file by its symbol, `function` or `Class.method`.

    Raises:
        WorkshopError: the file is no valid Python, with its line.
    """
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        raise WorkshopError(f"{path}, line {error.lineno}: {error.msg}") from error
    lines = source.splitlines()
    return {symbol: _span(node, lines) for symbol, node in _functions(tree, "")}


def _functions(node: ast.AST, prefix: str) -> Iterator[tuple[str, ast.FunctionDef]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef):
            yield from _functions(child, f"{prefix}{child.name}.")
        elif isinstance(child, ast.FunctionDef):
            yield f"{prefix}{child.name}", child


def _span(node: ast.FunctionDef, lines: list[str]) -> Span:
    start = min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)]) - 1
    first = node.body[0]
    has_docstring = ast.get_docstring(node, clean=False) is not None
    body = first.end_lineno if has_docstring else _after_signature(node, lines)
    if lines[first.lineno - 1][: first.col_offset].strip():
        body = -1
    indent = " " * first.col_offset
    end = node.end_lineno
    while end < len(lines) and lines[end].startswith(indent) and lines[end].lstrip().startswith("#"):
        end += 1  # a comment after the last statement is still the body's
    return Span(start, body, max(body, end), indent)


def _after_signature(node: ast.FunctionDef, lines: list[str]) -> int:
    """The line after the one that ends with the signature's colon: comments before the first statement are body."""
    line = node.body[0].lineno - 1
    while line > node.lineno and (not lines[line - 1].strip() or lines[line - 1].lstrip().startswith("#")):
        line -= 1
    return line


def find(source: str, symbol: str, path: str) -> Span:
    """The span of `symbol`, or a WorkshopError that names the functions that there are."""
    known = spans(source, path)
    if symbol not in known:
        close = [name for name in known if name.split(".")[-1] == symbol.split(".")[-1]] or list(known)
        raise WorkshopError(f"{path} has no function {symbol}, which stages.yaml names; it has {', '.join(close[:8])}")
    return known[symbol]


def fence(stage: Stage, symbol: str) -> list[str]:
    """What stands in a stub where the student's code goes."""
    return [
        f"# >>> stage {stage.label}: your code",
        f'raise NotImplementedError("{unwritten(stage, symbol)}, see {stage.lesson}")',
        "# <<<",
    ]


def unwritten(stage: Stage, symbol: str) -> str:
    """How the message of a stub begins; a gate knows an unwritten exercise by it."""
    return f"stage {stage.label}: {symbol} is yours to write"


def make_stub(source: str, stage: Stage, path: str, only: set[str] | None = None) -> str:
    """`source` with the body of each of the stage's exercises in `path` (or those in `only`) replaced by a fence."""
    symbols = [e.symbol for e in stage.exercises if e.path == path and (only is None or e.symbol in only)]
    places = sorted(((find(source, symbol, path), symbol) for symbol in symbols), key=lambda place: -place[0].start)
    lines = source.splitlines()
    for span, symbol in places:
        if span.body < 0:
            raise WorkshopError(f"{path}: {symbol} must have its body on lines of its own")
        lines[span.body : span.end] = [span.indent + line for line in fence(stage, symbol)]
    return "\n".join(lines) + "\n"


def is_stub(source: str, stage: Stage, symbol: str, path: str) -> bool:
    """Whether the first thing that `symbol` does in `source` is to say that it is not written."""
    known = spans(source, path)
    if symbol not in known:
        return False
    body = source.splitlines()[known[symbol].body : known[symbol].end]
    code = [line.strip() for line in body if line.strip() and not line.strip().startswith("#")]
    return bool(code) and code[0].startswith("raise NotImplementedError(") and unwritten(stage, symbol) in code[0]
