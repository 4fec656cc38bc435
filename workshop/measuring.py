"""What the lessons' measure.py scripts share. Importing it puts the package to measure (`--package`) on the path."""

from __future__ import annotations

import argparse
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workshop import ROOT

_parser = argparse.ArgumentParser(description="Measures what the lesson beside it tells, on your package.")
_parser.add_argument("--package", type=Path, default=ROOT, help="folder that holds tinytorch/ (default: this checkout)")
sys.path.insert(0, str(_parser.parse_args().package.resolve()))


def seconds(action: Callable[[], object], budget: float = 0.2) -> float:
    """The time of the fastest of the runs that `budget` seconds allow, two at least: the others were disturbed."""
    best, runs, end = float("inf"), 0, time.perf_counter() + budget
    while runs < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        action()
        best, runs = min(best, time.perf_counter() - start), runs + 1
    return best


def peak_bytes(action: Callable[[], object]) -> int:
    """Bytes allocated at the height of `action`, its result included."""
    tracemalloc.start()
    kept = action()  # keeps the result alive until it is counted
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return peak


def save_plot(figure: Any, script: str) -> None:
    """Save a matplotlib figure as runs/measure/NN_name.png, and say so."""
    path = ROOT / "runs" / "measure" / f"{Path(script).resolve().parent.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight")
    print(f"\nplot: {path.relative_to(ROOT).as_posix()}")


def measure(main: Callable[[], None]) -> None:
    """Run a script's `main`; of an exercise that is not written yet, say just that."""
    try:
        main()
    except NotImplementedError as error:
        sys.exit(str(error))
