"""What the lessons' measure.py scripts share. To be imported before NumPy.

Importing it gives BLAS one thread, since several that wait for each other blur the figures, and puts the package to
measure (`--package`) on the path.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

from workshop import ROOT

if "numpy" in sys.modules:
    raise ImportError("import workshop.measuring before NumPy, which asks only once how many threads to use")
for _name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
    os.environ.setdefault(_name, "1")

_parser = argparse.ArgumentParser(description="Measures what the lesson beside it tells, on your package.")
_parser.add_argument("--package", type=Path, default=ROOT, help="folder that holds tinytorch/ (default: this checkout)")
_parser.add_argument("--quick", action="store_true", help="measure shortly and roughly, to see that all runs")
_parser.add_argument("--publish", action="store_true", help="author: save the plot beside the lesson, which shows it")
_options = _parser.parse_args()
sys.path.insert(0, str(_options.package.resolve()))


def _allowed(budget: float) -> float:
    return min(budget, 0.01) if _options.quick else budget


def seconds(action: Callable[[], object], budget: float = 0.2) -> float:
    """The time of the fastest of the runs that `budget` seconds allow, two at least: the others were disturbed."""
    best, runs, end = float("inf"), 0, time.perf_counter() + _allowed(budget)
    while runs < 2 or time.perf_counter() < end:
        start = time.perf_counter()
        action()
        best, runs = min(best, time.perf_counter() - start), runs + 1
    return best


def medians(*actions: Callable[[], object], budget: float = 0.5) -> list[float]:
    """The median time of each of `actions`, to be compared: they run in turn, so that a disturbance meets all alike.

    Each runs once to warm up, and then as often as `budget` seconds for all together allow, three times at least.
    """
    for action in actions:
        action()
    times: list[list[float]] = [[] for _ in actions]
    end = time.perf_counter() + _allowed(budget)
    while len(times[0]) < 3 or time.perf_counter() < end:
        for action, own in zip(actions, times):
            start = time.perf_counter()
            action()
            own.append(time.perf_counter() - start)
    return [statistics.median(own) for own in times]


def peak_bytes(action: Callable[[], object]) -> int:
    """Bytes allocated at the height of `action`, its result included."""
    tracemalloc.start()
    kept = action()  # keeps the result alive until it is counted
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    del kept
    return peak


def save_plot(figure: Any, script: str) -> None:
    """Save a matplotlib figure as runs/measure/NN_name.png, or beside the lesson with `--publish`, and say so."""
    folder = Path(script).resolve().parent
    path = folder / "measure.png" if _options.publish else ROOT / "runs" / "measure" / f"{folder.name}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120, bbox_inches="tight", facecolor="white", metadata={"Software": None})
    print(f"\nplot: {path.relative_to(ROOT).as_posix()}")


def measure(main: Callable[[], None]) -> None:
    """Run a script's `main`; of an exercise that is not written yet, say just that."""
    try:
        main()
    except NotImplementedError as error:
        sys.exit(str(error))
