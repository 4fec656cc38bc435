"""What the lessons' measure.py scripts share: when NumPy is told its threads, how long is measured, where plots go."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")


def run(script: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A Python process without the threads that this one was told."""
    kept = {name: value for name, value in os.environ.items() if name not in THREADS}
    command = [sys.executable, "-", *arguments]
    return subprocess.run(
        command, input=script, cwd=ROOT, env=kept | environment, capture_output=True, encoding="utf-8", check=False
    )


def test_blas_has_one_thread_unless_told_otherwise() -> None:
    script = f"import workshop.measuring, os; print(*[os.environ[name] for name in {THREADS}])"
    assert run(script).stdout == "1 1 1 1\n"
    assert run(script, OPENBLAS_NUM_THREADS="2").stdout == "2 1 1 1\n"


def test_after_numpy_it_is_too_late() -> None:
    done = run("import sys; sys.modules['numpy'] = sys\nimport workshop.measuring")
    assert done.returncode == 1 and "import workshop.measuring before NumPy" in done.stderr


MEDIANS = """
import time
from workshop import measuring
clock, order = [0.0], []
time.perf_counter = lambda: clock[0]

def action(name, times):
    left = iter(times)
    def run():
        order.append(name)
        clock[0] += next(left)
    return run

one, two = action("a", [90, 1, 5, 2, 4, 3] + [1] * 99), action("b", [90, 10, 10, 80, 10, 10] + [1] * 99)
print(measuring.medians(one, two, budget=BUDGET), "".join(order))
"""


@pytest.mark.parametrize(
    ("budget", "arguments", "printed"),
    [
        ("110", (), "[3.0, 10.0] ababababab\n"),  # 90 twice are the warming up, then four runs each
        ("110", ("--quick",), "[2.0, 10.0] abababab\n"),
        ("0", (), "[2.0, 10.0] abababab\n"),
    ],
)
def test_medians_are_of_runs_in_turn(budget: str, arguments: tuple[str, ...], printed: str) -> None:
    done = run(MEDIANS.replace("BUDGET", budget), *arguments)
    assert done.stdout == printed, done.stderr


SAVE = """
from pathlib import Path
from workshop import measuring

class Figure:
    def savefig(self, path, **looks):
        Path(path).write_bytes(b"a plot")

measuring.ROOT = Path(FOLDER)
measuring.save_plot(Figure(), str(measuring.ROOT / "stages" / "20_norm" / "measure.py"))
"""


@pytest.mark.parametrize(
    ("arguments", "place"), [((), "runs/measure/20_norm.png"), (("--publish",), "stages/20_norm/measure.png")]
)
def test_a_plot_is_published_beside_the_lesson(tmp_path: Path, arguments: tuple[str, ...], place: str) -> None:
    done = run(SAVE.replace("FOLDER", repr(str(tmp_path.resolve()))), *arguments)
    assert done.stdout == f"\nplot: {place}\n", done.stderr
    assert (tmp_path / place).read_bytes() == b"a plot"
