"""`tox -e bench`: tinytorch (the reference in solutions/) beside PyTorch on the CPU, in one run.

Prints a table, and writes runs/bench/bench.json and runs/bench/bench.png. Returns 1 if a ratio is above what is asked.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console
from rich.table import Table

from workshop.surroundings import machine, shown, versions, write_json

THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
COLOURS = ("#2166ac", "#d95f02")
console = Console(highlight=False)


def measured(threads: int) -> list[dict[str, Any]]:
    """What `cases.py` finds with so many threads on both sides."""
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    command, found = [sys.executable, str(ROOT / "benchmarks" / "cases.py")], []
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8") as process:
        for line in process.stdout or ():
            found.append(json.loads(line) | {"threads": threads})
            console.print(f"{found[-1]['name']}, threads: {threads}", style="dim")
    if process.returncode:
        sys.exit(process.returncode)
    return found


def table(rows: list[dict[str, Any]]) -> Table:
    """Medians, and the ratio with its quartiles."""
    columns = ("", "threads", "tinytorch ms", "PyTorch ms", "ratio", "quartiles")
    result = Table(*columns, box=None, padding=(0, 1), header_style="dim")
    for row in rows:
        low, middle, high = row["ratio"]
        times = (f"{row[side][1]:.3f}" for side in ("ours", "theirs"))
        result.add_row(row["name"], str(row["threads"]), *times, f"{middle:.2f}", f"{low:.2f} to {high:.2f}")
    return result


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The ratios as bars, and the times beside them."""
    from matplotlib.figure import Figure

    names, counts = list(dict.fromkeys(row["name"] for row in rows)), list(dict.fromkeys(row["threads"] for row in rows))
    figure = Figure(figsize=(9.5, 1.5 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        i, (low, middle, high) = counts.index(row["threads"]), row["ratio"]
        place = names.index(row["name"]) + (i - (len(counts) - 1) / 2) * 0.36
        label = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''} on both sides"
        spread = {"xerr": [[middle - low], [high - middle]], "error_kw": {"elinewidth": 1, "capsize": 2}}
        axes.barh(place, middle, 0.34, color=COLOURS[i], label=label if row["name"] == names[0] else "", **spread)
        times = f"{middle:.2f}   {row['ours'][1]:.2f} ms against {row['theirs'][1]:.2f} ms"
        axes.annotate(times, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        if row["asked"]:
            axes.plot([row["asked"]] * 2, [place - 0.2, place + 0.2], color="#b2182b", linewidth=2)
            axes.annotate(f"asked: {row['asked']}", (row["asked"], names.index(row["name"])), (4, 0), va="center",
                          textcoords="offset points", color="#b2182b")
    axes.axvline(1, color="black", linewidth=1)
    axes.set_xlim(0, 1.3 * max(2.0, *(max(row["ratio"][1], row["asked"] or 0) for row in rows)))
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("tinytorch's time as a multiple of PyTorch's: median and quartiles (shorter is faster)")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=120)


def main() -> int:
    """Measure, show, write."""
    rows = [row for threads in sorted({1, os.cpu_count() or 1}) for row in measured(threads)]
    console.print(table(rows))
    out = ROOT / "runs" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    write_json(out / "bench.json", {"machine": machine(), "versions": versions("numpy", "torch"), "rows": rows})
    draw(rows, out / "bench.png")
    console.print(f"{shown(out)} holds bench.json and bench.png", soft_wrap=True)
    judged = [row for row in rows if row["asked"]]
    for row in judged:
        asked = f"asked: at most {row['asked']} times PyTorch's time, got {row['ratio'][1]:.2f}"
        console.print(f"{row['name']}, threads: {row['threads']}: {asked}", soft_wrap=True)
    return 1 if any(row["ratio"][1] > row["asked"] for row in judged) else 0


if __name__ == "__main__":
    sys.exit(main())
