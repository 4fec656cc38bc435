"""Judging many packages in a row: each in a process of its own, forked from one that has NumPy and pytest loaded."""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from multiprocessing.context import BaseContext
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from types import ModuleType

from workshop.gate import QUIET, Event, read_events
from workshop.plan import Plan

PATIENCE = 60  # seconds for a whole gate, importing the package included


@cache
def _context() -> BaseContext:
    """A server that forks, where the platform has it; elsewhere every process starts from nothing."""
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", QUIET["OPENBLAS_NUM_THREADS"])  # the server loads NumPy
    context.set_forkserver_preload(["workshop.author.warm"])
    return context


def forked(plan: Plan, root: Path) -> tuple[list[Event], str]:
    """Run the judge in a process that is forked, where that is possible; its events, and how it ended."""
    with TemporaryDirectory() as scratch:
        plan = replace(plan, events=str(Path(scratch) / "events.jsonl"))
        process = _context().Process(target=_judge, args=(plan.dump(), str(root)), daemon=True)
        with _without_main():
            process.start()
        process.join(PATIENCE)
        died = "timeout" if process.is_alive() else f"exit code {process.exitcode}"
        process.kill()
        process.join()
        return read_events(Path(plan.events)), died


_one_at_a_time = Lock()


@contextmanager
def _without_main() -> Iterator[None]:
    """Start a process that does not import this program's main module, of which the judge needs nothing."""
    with _one_at_a_time:
        main, sys.modules["__main__"] = sys.modules["__main__"], ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def _judge(plan: str, root: str) -> None:
    """In the new process: its output goes nowhere, and then it is a judge like any other."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nowhere, stream)
    os.chdir(root)
    os.environ.update(QUIET)
    sys.dont_write_bytecode = True
    sys.path.insert(0, root)

    from workshop.judge import main

    main(plan)
