"""`tox -e bench`: tinytorch (the reference in solutions/) beside PyTorch on the CPU, in one run, and beside itself.

Prints a table, and writes runs/bench/bench.json and runs/bench/bench.png; then those of generation and of byte-pair
encoding. Returns 1 if a ratio is above what is asked.
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
console = Console(highlight=False, width=max(100, Console().width))  # the table needs as much


def measured(cases: str, threads: int) -> list[dict[str, Any]]:
    """What `cases.py` finds with so many threads on both sides.

    Convolution has threads of its own, as many as there are cores, and a GPT has a replica in each thread; in each of
    them BLAS then uses one: so milestones 3 and 4 run, and so they are compared.
    """
    environment = os.environ | dict.fromkeys(THREADS, str(threads))
    if cases != "products":
        environment["OPENBLAS_NUM_THREADS"] = "1"
    command, found = [sys.executable, str(ROOT / "benchmarks" / "cases.py"), cases], []
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, encoding="utf-8") as process:
        for line in process.stdout or ():
            found.append(json.loads(line) | {"threads": threads})
            console.print(f"{found[-1]['name']}, threads: {threads}", style="dim")
    if process.returncode:
        sys.exit(process.returncode)
    return found


def table(rows: list[dict[str, Any]]) -> Table:
    """Medians, and the ratio with its quartiles."""
    columns = ("", "threads", "tinytorch", "", "compared with", "unit", "ratio", "quartiles")
    result = Table(*columns, box=None, padding=(0, 1), header_style="dim")
    for row in rows:
        low, middle, high = row["ratio"]
        ours, theirs = (f"{row[side][1]:.3f}" for side in ("ours", "theirs"))
        ratio = (shown_ratio(middle), f"{shown_ratio(low)} to {shown_ratio(high)}")
        result.add_row(row["name"], str(row["threads"]), ours, theirs, row["against"], row["unit"], *ratio)
    return result


def shown_ratio(ratio: float) -> str:
    """Two decimals; of a ratio that would be 0.00 by that, two digits."""
    return f"{ratio:.2f}" if ratio >= 0.1 else f"{ratio:.2g}"


def draw(rows: list[dict[str, Any]], path: Path) -> None:
    """The ratios to PyTorch as bars, and the times beside them."""
    from matplotlib.figure import Figure

    rows = [row for row in rows if row["against"] == "PyTorch"]
    names, counts = list(dict.fromkeys(row["name"] for row in rows)), sorted({row["threads"] for row in rows})
    figure = Figure(figsize=(9.5, 1.5 + 0.32 * len(rows)), layout="constrained")
    axes = figure.subplots()
    for row in rows:
        i, (low, middle, high) = counts.index(row["threads"]), row["ratio"]
        alone = sum(other["name"] == row["name"] for other in rows) == 1
        place = names.index(row["name"]) + (0 if alone else (i - (len(counts) - 1) / 2) * 0.36)
        label = f"{row['threads']} thread{'s' if row['threads'] > 1 else ''} on both sides"
        spread = {"xerr": [[middle - low], [high - middle]], "error_kw": {"elinewidth": 1, "capsize": 2}}
        axes.barh(place, middle, 0.34, color=COLOURS[i], label=label if row["name"] == names[0] else "", **spread)
        times = f"{middle:.2f}   {row['ours'][1]:.2f} ms against {row['theirs'][1]:.2f} ms"
        axes.annotate(times, (1.01, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
        if row["asked"]:
            axes.plot([row["asked"]] * 2, [place - 0.2, place + 0.2], color="#b2182b", linewidth=2)
            axes.annotate(
                f"asked: {row['asked']}",
                (row["asked"], names.index(row["name"])),
                (4, 0),
                va="center",
                textcoords="offset points",
                color="#b2182b",
            )
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
    cores, load = os.cpu_count() or 1, os.getloadavg()[0] if hasattr(os, "getloadavg") else None
    if load is not None and load > 0.5:
        console.print(
            f"The machine is busy with other work (load {load:.1f}): threads that wait for each other, as "
            "PyTorch's do, lose most by that, and the ratios flatter tinytorch.",
            soft_wrap=True,
        )
    kernels = os.environ.get("OPENBLAS_CORETYPE", "their own choice")
    console.print(f"NumPy's BLAS kernels: {kernels} (OPENBLAS_CORETYPE)", style="dim")
    counts = sorted({1, cores})
    rows = [row for cases in ("products", "language") for threads in counts for row in measured(cases, threads)]
    rows += measured("images", cores)
    console.print(table(rows))
    out = ROOT / "runs" / "bench"
    out.mkdir(parents=True, exist_ok=True)
    surroundings = {"machine": machine(), "load before": load, "versions": versions("numpy", "torch")}
    surroundings["BLAS kernels"] = kernels
    write_json(out / "bench.json", surroundings | {"rows": rows})
    draw(rows, out / "bench.png")
    console.print(f"{shown(out)} holds bench.json and bench.png", soft_wrap=True)
    judged = [row for row in rows if row["asked"]]
    for row in judged:
        asked = f"at most {row['asked']:g} times the time of {row['against']}, got {shown_ratio(row['ratio'][1])}"
        console.print(f"{row['name']}, threads: {row['threads']}: asked: {asked}", soft_wrap=True)
    short = any(row["ratio"][1] > row["asked"] for row in judged)
    for script in ("generation.py", "bpe.py"):  # with tables of their own
        console.print(f"\n{script}", style="bold")
        short |= subprocess.call([sys.executable, str(ROOT / "benchmarks" / script)], cwd=ROOT) != 0
    return int(short)


if __name__ == "__main__":
    sys.exit(main())
