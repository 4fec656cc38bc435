"""The process that runs a gate: `python -m workshop.judge PLAN`, started by `workshop.gate`, and never by hand.

It imports the student's package, runs the gate's tests, and writes what happens, a JSON line an event. The judged
code shares this process, and may print, loop, exit or crash it: the parent reads the events and knows how far it
came. For each test the judge notes which of the package's functions were called, by which `workshop.blame`
tells whose fault a failure is.
"""

from __future__ import annotations

import bdb
import importlib
import json
import linecache
import os
import sys
import threading
import traceback
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, TextIO

import pytest

from workshop import checks, tables
from workshop.observe import observation
from workshop.plan import HASTE, TIMEOUT, Plan


class Calls:
    """Which functions of the package were called since `clear`, by all threads."""

    def __init__(self) -> None:
        self.codes: set[CodeType] = set()

    def start(self) -> None:
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        self.codes.clear()

    def _trace(self, frame: FrameType, event: str, argument: Any) -> None:
        self.codes.add(frame.f_code)  # once a call; None keeps Python from asking at each line

    def take(self) -> set[CodeType]:
        """The codes since the last time."""
        codes, self.codes = self.codes, set()
        return codes


class Recorder:
    """The pytest plugin that writes the events.

    Args:
        gate: names the gate in the events: "" for the one that is judged.
    """

    def __init__(self, stream: TextIO, plan: Plan, gate: str = "") -> None:
        self.stream, self.plan, self.gate = stream, plan, gate
        self.inside = str(Path(plan.package) / "tinytorch") + os.sep
        self.calls = Calls()
        self.known: dict[CodeType, int | None] = {}  # a function's number in the events, if it is the package's
        self.units: list[tuple[Exception | None, set[CodeType]]] = []  # of the cases of the row that runs
        self.suspects: set[str] = set()  # files with functions that a failing test has called
        self.timeout = HASTE if plan.hung else TIMEOUT
        self.endless: dict[str, dict[str, Any]] = {}  # exercises that took too long, with what was told then

    def write(self, event: str, **fields: Any) -> None:
        self.stream.write(json.dumps({"event": event, "gate": self.gate, **fields}) + "\n")
        self.stream.flush()

    def numbered(self, codes: set[CodeType]) -> list[int]:
        """The numbers of the package's functions among `codes`; a new one is announced by an event of its own."""
        found = []
        for code in codes:
            if code not in self.known:
                inside = code.co_filename.startswith(self.inside)
                self.known[code] = len(self.known) if inside else None
                if inside:
                    path = Path(code.co_filename).relative_to(self.plan.package).as_posix()
                    self.write("function", number=self.known[code], path=path, line=code.co_firstlineno)
            number = self.known[code]
            if number is not None:
                found.append(number)
        return sorted(found)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        tests = {item.name: self.described(item) for item in items}
        about = set(self.plan.exercises)
        names = self.plan.only or [name for name in tests if not about or tests[name]["exercise"] in about]
        by_name = {item.name: item for item in items}
        items[:] = [by_name[name] for name in names if name in by_name and name not in self.plan.done]
        self.write("collected", tests=[tests[name] for name in names if name in tests])

    def described(self, item: pytest.Item) -> dict[str, Any]:
        marker = item.get_closest_marker("exercise")
        symbol, says = (*marker.args, "", "")[:2] if marker else ("", "")
        says = says or (getattr(item, "function").__doc__ or item.name).strip().splitlines()[0]  # noqa: B009
        return {"id": item.name, "exercise": symbol, "says": says}

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.failed:
            self.write("broken", text=f"the gate itself cannot be read: {str(report.longrepr)[-300:]}")

    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        checks.count.checks, checks.count.given, self.units = 0, "", []
        self.write("begin", id=item.name)
        about = self.described(item)["exercise"]
        if about in self.endless:
            failure = self.endless[about]  # with its calls: one of those may be what never ends
            self.write("end", id=item.name, failures=[failure], passing=[], printed=[], seconds=0.0)
            raise pytest.skip.Exception("an exercise that never ended before is not asked again")

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        tables.listeners[:] = [self.case_done]
        if not self.plan.pdb:
            self.calls.start()
        try:
            return (yield)
        finally:
            if not self.plan.pdb:
                sys.settrace(None)
            tables.listeners.clear()

    def case_done(self, error: Exception | None) -> None:
        self.units.append((error, self.calls.take()))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[None]) -> Any:
        report = yield
        if call.when == "call" or report.failed:
            failures, passing = self.outcome(call.excinfo.value if call.excinfo else None)
            printed = report.capstdout.strip().splitlines()[-3:]
            self.write("end", id=item.name, failures=failures, passing=passing, printed=printed, seconds=call.duration)
            for failure in failures:
                if failure["kind"] == "timeout":
                    self.timeout = HASTE
                    self.endless[self.described(item)["exercise"]] = failure
        return report

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Any:
        if not self.plan.pdb:
            item.add_marker(pytest.mark.timeout(self.timeout))
        return (yield)

    def outcome(self, error: BaseException | None) -> tuple[list[dict[str, Any]], list[list[int]]]:
        """What failed in a test, and the functions that were called by what did not fail: a part for each case."""
        rest = self.calls.take()
        passing = [codes for failed, codes in self.units if failed is None]
        failures = []
        if isinstance(error, tables.CasesFailed):
            called = {id(failed): codes for failed, codes in self.units}
            failures = [self.failure(e, called[id(e)], number, given) for number, e, given in error.failures]
        elif error is not None:
            number, given = len(self.units) + 1 if self.units else 0, checks.count.given
            failures = [self.failure(error, rest, number, given)]
        elif not self.units:
            passing = [rest]
        self.suspects |= {
            code.co_filename
            for failure in failures
            for code in failure.pop("codes")
            if self.known.get(code) is not None
        }
        return failures, [self.numbered(codes) for codes in passing]

    def failure(self, error: BaseException, codes: set[CodeType], case: int, given: str) -> dict[str, Any]:
        """What went wrong: its kind, the lines that tell it, what was observed at which check, and what was called."""
        kind, lines, seen, check = self.told(error, given)
        calls = self.numbered(codes)
        return {
            "kind": kind, "case": case, "check": check, "lines": lines, "seen": seen, "calls": calls, "codes": codes,
        }  # fmt: skip

    def told(self, error: BaseException, given: str) -> tuple[str, list[str], dict[str, Any], int]:
        if isinstance(error, checks.CheckFailed):
            return "wrong", error.lines, error.seen, error.number
        if isinstance(error, NotImplementedError) and "is yours to write" in str(error):
            return "unwritten", [str(error)], {"raised": "NotImplementedError"}, 0
        number, place = checks.count.checks, self.student_line(error)
        asked = [f"given     {given or self.gate_line(error)}"] if given or self.gate_line(error) else []
        if isinstance(error, pytest.fail.Exception) and "Timeout" in str(error):
            text = f"no result after {self.timeout} s: a loop that never ends{place}"
            return "timeout", [*asked, text], {"raised": "Timeout"}, number
        if isinstance(error, bdb.BdbQuit):
            text = f"the debugger was called{place}, and needs a terminal: add `-- --pdb` to the command"
            return "error", [text], {"raised": "BdbQuit"}, number
        first = (str(error).splitlines() or ["(no message)"])[0]
        line = f"{type(error).__name__}: {first:.200}{place}"
        return "error", [*asked, line], observation(error), number

    def student_line(self, error: BaseException) -> str:
        """Where in the student's package it happened: "  (tinytorch/core/tensor.py, line 120, in matmul)"."""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if frame.filename.startswith(self.inside):
                path = Path(frame.filename).relative_to(self.plan.package).as_posix()
                return f"  ({path}, line {frame.lineno}, in {frame.name})"
        return ""

    def gate_line(self, error: BaseException) -> str:
        """The last line of the gate's own that ran: what the student's code was asked."""
        for frame in reversed(traceback.extract_tb(error.__traceback__)):
            if Path(frame.filename).name == Path(self.plan.gate).name:
                return linecache.getline(frame.filename, frame.lineno or 0).strip()[:110]
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
        inside = package / "tinytorch"
        frames = [f for f in traceback.extract_tb(error.__traceback__) if Path(f.filename).is_relative_to(inside)]
        where = f"{_below(frames[-1].filename, package)}, line {frames[-1].lineno}: " if frames else ""
        return f"importing {name} failed: {where}{type(error).__name__}: {error}"
    return ""


def _below(filename: str | None, package: Path) -> str:
    path = Path(filename or "?")
    return path.relative_to(package).as_posix() if path.is_relative_to(package) else str(path)


OPTIONS = [
    "-q", "--tb=no", "--no-header", "--assert=plain", "-o", "addopts=", "-p", "no:cacheprovider",
    "-p", "no:unraisableexception", "-p", "no:threadexception", "-p", "pytest_timeout",
]  # fmt: skip


def judge(plan: Plan, stream: TextIO) -> None:
    """Run the plan's gate, and then, where a test failed, the earlier gates that may tell why."""
    folder = Path(plan.package).resolve()
    plan.package = str(folder)
    sys.path.insert(0, plan.package)
    recorder = Recorder(stream, plan)
    trouble = import_package(folder, plan.modules)
    if trouble:
        recorder.write("broken", text=trouble)
        return
    recorder.write("imported")
    debugger = ["--pdb", "-s"] if plan.pdb else ["-p", "no:debugging"]
    if not plan.pdb:
        sys.breakpointhook = _no_debugger
    pytest.main([*OPTIONS, *debugger, plan.gate], plugins=[recorder])
    for path, gate in plan.earlier.items():
        if str(folder / path) in recorder.suspects:
            other = Recorder(stream, Plan(plan.package, gate, [], hung=True), gate)
            other.known = recorder.known
            pytest.main([*OPTIONS, gate], plugins=[other])
    recorder.write("finished")


def _no_debugger(*arguments: Any, **options: Any) -> None:
    raise bdb.BdbQuit


def die_with_parent() -> None:
    """End this process when the one that started it is gone: its end of standard input closes then."""
    pipe = os.dup(0)

    def wait() -> None:
        os.read(pipe, 1)
        os._exit(3)

    threading.Thread(target=wait, daemon=True).start()


def main(text: str) -> None:
    """Judge by the plan in `text`. Without a file for the events they go to standard output, and nothing else does."""
    plan = Plan.load(text)
    if plan.events:
        with open(plan.events, "a", encoding="utf-8") as stream:
            judge(plan, stream)
        return
    die_with_parent()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stream:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        judge(plan, stream)


if __name__ == "__main__":
    main(sys.argv[1])
