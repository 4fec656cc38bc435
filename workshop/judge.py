"""The process that runs a gate: `python -m workshop.judge`, started by `workshop.gate`, and never by hand.

It imports the student's package, runs the gate's tests, and writes what happens, a JSON line an event, to a file.
The judged code shares this process, and may print, loop, exit or crash it: the parent reads the file and
knows how far it came.
"""

from __future__ import annotations

import importlib
import json
import sys
import traceback
from pathlib import Path
from typing import Any, TextIO

import pytest

from workshop import checks
from workshop.observe import observation

TIMEOUT = 10  # seconds for one test; a whole gate takes under two


class Recorder:
    """The pytest plugin that writes the events."""

    def __init__(self, stream: TextIO, package: Path) -> None:
        self.stream, self.package = stream, package

    def write(self, event: str, **fields: Any) -> None:
        self.stream.write(json.dumps({"event": event, **fields}) + "\n")
        self.stream.flush()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        tests = []
        for item in items:
            marker = item.get_closest_marker("exercise")
            says = (item.function.__doc__ or item.name).strip().splitlines()[0]
            tests.append({"id": item.name, "exercise": marker.args[0] if marker else "", "says": says})
        self.write("collected", tests=tests)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write("broken", text=f"the gate itself cannot be read: {str(report.longrepr)[-300:]}")

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        checks.count.checks = 0
        self.write("begin", id=item.name)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        if call.when == "call" or report.failed:
            failure = self.failure(call.excinfo.value) if call.excinfo else None
            printed = report.capstdout.strip().splitlines()[-3:]
            self.write("end", id=item.name, failure=failure, printed=printed, seconds=call.duration)
            if failure and failure["kind"] == "timeout":
                item.session.shouldfail = "timeout"  # the rest may loop as well
        return report

    def failure(self, error: BaseException) -> dict[str, Any]:
        """What went wrong in a test: its kind, the lines that tell it, and what was observed where."""
        if isinstance(error, checks.CheckFailed):
            return {"kind": "wrong", "lines": error.lines, "seen": error.seen, "check": error.number}
        if isinstance(error, NotImplementedError) and "is yours to write" in str(error):
            return {"kind": "unwritten", "lines": [str(error)], "seen": observation(error), "check": 0}
        where = self.student_line(error)
        if isinstance(error, pytest.fail.Exception) and "Timeout" in str(error):
            lines = [f"no result after {TIMEOUT} s: a loop that never ends{where}"]
            return {"kind": "timeout", "lines": lines, "seen": {"raised": "Timeout"}, "check": checks.count.checks}
        lines = [f"{type(error).__name__}: {line}" for line in str(error).splitlines()[:1] or ["(no message)"]]
        lines[0] = f"{lines[0]:.220}{where}"
        return {"kind": "error", "lines": lines, "seen": observation(error), "check": checks.count.checks}

    def student_line(self, error: BaseException) -> str:
        """Where in the student's package it happened: "  (tinytorch/core/tensor.py, line 120, in matmul)"."""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if Path(frame.filename).is_relative_to(self.package):
                path = Path(frame.filename).relative_to(self.package).as_posix()
                return f"  ({path}, line {frame.lineno}, in {frame.name})"
        return ""


def import_package(package: Path, modules: list[str]) -> str:
    """Import what the gate needs from `package`; "" or why that cannot be done, in a sentence or two."""
    name = "tinytorch"
    try:
        for name in ["tinytorch", *modules]:
            module = importlib.import_module(name)
            found = getattr(module, "__file__", None)
            if found is None or not Path(found).resolve().is_relative_to(package):
                return (
                    f"{name} was imported from {found or 'nowhere'}, not from {package}: "
                    "another package of that name stands in its way"
                )
    except SyntaxError as error:
        file = f"{name.replace('.', '/')}.py"  # a file that is no text has no line
        place = f"{_below(error.filename, package)}, line {error.lineno}" if error.filename else file
        return f"{place}: {error.msg}\n    {(error.text or '').strip()}".rstrip()
    except SystemExit as error:
        return f"importing {name} ended the program (sys.exit({error.code!r})): a module must not exit when imported"
    except BaseException as error:
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(package)]
        where = f"{_below(frames[-1].filename, package)}, line {frames[-1].lineno}: " if frames else ""
        return f"importing {name} failed: {where}{type(error).__name__}: {error}"
    return ""


def _below(filename: str | None, package: Path) -> str:
    path = Path(filename or "?")
    return path.relative_to(package).as_posix() if path.is_relative_to(package) else str(path)


def main(package: str, gate: str, events: str, *arguments: str) -> None:
    """Run `gate` on the package in the folder `package`.

    Args:
        events: the file to write to.
        arguments: the stage's modules, then "--" and what pytest is to run of the gate, if not all of it.
    """
    folder = Path(package).resolve()
    sys.path.insert(0, str(folder))
    cut = arguments.index("--")
    with open(events, "a", encoding="utf-8") as stream:
        recorder = Recorder(stream, folder)
        trouble = import_package(folder, list(arguments[:cut]))
        if trouble:
            recorder.write("broken", text=trouble)
            return
        recorder.write("imported")
        tests = [f"{gate}::{test}" for test in arguments[cut + 1 :]] or [gate]
        options = [
            "-q",
            "--tb=no",
            "--no-header",
            "--assert=plain",
            "-p",
            "no:cacheprovider",
            "-p",
            "pytest_timeout",
            f"--timeout={TIMEOUT}",
            "-o",
            "addopts=",
        ]
        pytest.main([*options, *tests], plugins=[recorder])
        recorder.write("finished")


if __name__ == "__main__":
    main(*sys.argv[1:])
