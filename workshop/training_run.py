"""What all milestone scripts share: arguments, progress, checkpoints, criteria, pictures and the report.

A script defines `train(run)` and gives it to `main`, which returns the exit code:

    0    every criterion holds; in a quick run: it ran through, but its report never says "passed"
    1    a criterion does not hold, or the package raised an error
    2    wrong usage, or data that cannot be had
    130  interrupted; what was kept is said, and `--resume` goes on from it
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import math
import operator
import os
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from workshop import ROOT, WorkshopError
from workshop.surroundings import error_lines, import_package, judged_folder, machine, shown, versions, write_json

RELATIONS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le, "==": operator.eq}
STYLE = {"axes.spines.top": False, "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.3}


class Run:
    """One run of a milestone.

    Attributes:
        name: the script's name, such as "m2_mlp".
        tinytorch: the package that is judged.
        say: prints a line.
        out: the folder for the report, the pictures and the checkpoints.
        given: which of the script's own options were given.
        epochs: the figures of each epoch that is done, also of those before an interruption.
        metrics: figures for the report.
    """

    def __init__(self, name: str, options: argparse.Namespace, own: Iterable[str] = ()) -> None:
        self.name, self.seed, self.quick, self.resume = name, options.seed, options.quick, options.resume
        self.given = [option for option in own if getattr(options, option)]
        folder = "-".join([name, *self.given, *(["quick"] if self.quick else [])])
        self.out: Path = options.out or ROOT / "runs" / folder
        self.console = Console(highlight=False, markup=False, soft_wrap=True)
        self.say = self.console.print
        self.epochs: list[dict[str, Any]] = []
        self._kept = 0  # epochs whose checkpoint is written
        self.metrics: dict[str, Any] = {}
        self.criteria: list[dict[str, Any]] = []
        self.pictures: list[str] = []
        self.data: dict[str, str] = {}
        self._started = time.perf_counter()
        if options.data:
            if not options.data.is_dir():
                raise WorkshopError(
                    f"--data {options.data} is no folder; expected one with a subfolder for each dataset"
                )
            os.environ["TINYTORCH_DATA"] = str(options.data.resolve())
        try:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / "report.json").unlink(missing_ok=True)  # a run that comes to no end shall leave none
        except OSError as error:
            raise WorkshopError(f"--out {self.out} cannot be written to: {error.strerror}") from error
        self.tinytorch = import_package(judged_folder())
        if self.quick:
            self.say("A quick run: it shows that everything works, and never counts as passed.")

    # Data

    def fetch(self, dataset: str) -> Path:
        """The folder with the dataset's files."""
        download = importlib.import_module("tinytorch.data.download")
        try:
            return download.fetch(dataset)
        except download.DataError as error:
            raise WorkshopError(str(error)) from error

    def noted(self, name: str, content: bytes) -> bytes:
        """`content`, data whose hash shall stand in the report under `name`."""
        self.data[name] = hashlib.sha256(content).hexdigest()
        return content

    # Progress and checkpoints

    @contextmanager
    def bar(self, what: str, total: int, unit: str, done: int = 0) -> Iterator[Callable[[int, float], None]]:
        """A progress bar, if this is a terminal. Gives a function to call with how much more is done, and the loss."""
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(),
        )
        began, count = time.perf_counter(), 0
        with Progress(*columns, console=self.console, transient=True, disable=not self.console.is_terminal) as progress:
            task = progress.add_task(what, total=total, completed=done, state="")

            def advance(more: int, loss: float) -> None:
                nonlocal count
                count += more
                speed = count / (time.perf_counter() - began)
                progress.update(task, advance=more, state=f"loss {loss:.4f}  {speed:,.0f} {unit}/s")

            yield advance

    def keep(self, trainer: Any = None, **epoch: Any) -> None:
        """Keep an epoch's figures, among them its `loss`, and the trainer's state: the last, and the best by loss."""
        self.epochs.append(epoch)
        # The figures come first: if this is interrupted, they reach at least as far as the checkpoint.
        made_with = {"seed": self.seed, "quick": self.quick, "given": self.given}
        write_json(self.out / "epochs.json", {**made_with, "epochs": self.epochs})
        if trainer is not None:
            trainer.save_checkpoint(self.out / "last.npz")
            if epoch["loss"] <= min(each["loss"] for each in self.epochs):
                trainer.save_checkpoint(self.out / "best.npz")
        self._kept = len(self.epochs)

    def go_on(self, trainer: Any = None) -> None:
        """With --resume, bring back what `keep` kept last; without, forget it."""
        figures, last = self.out / "epochs.json", self.out / "last.npz"
        if not self.resume:
            for path in (figures, last, self.out / "best.npz"):
                path.unlink(missing_ok=True)
            return
        try:
            before = json.loads(figures.read_text(encoding="utf-8"))
            if trainer is not None:
                trainer.load_checkpoint(last)
        except FileNotFoundError:
            raise WorkshopError(f"{shown(self.out)} holds nothing to go on from: start without --resume") from None
        except ValueError as error:
            raise WorkshopError(f"{error}. Start without --resume") from error
        before.setdefault("given", [])  # files of earlier versions have none
        if (before["seed"], before["quick"], before["given"]) != (self.seed, self.quick, self.given):
            flags = [*before["given"], *(["quick"] if before["quick"] else [])]
            was = " ".join([f"--seed {before['seed']}", *(f"--{flag}" for flag in flags)])
            raise WorkshopError(
                f"what {shown(self.out)} holds was made with {was}: give the same, or leave out --resume"
            )
        self.epochs = before["epochs"] if trainer is None else before["epochs"][: trainer.epoch]
        self._kept = len(self.epochs)
        self.say(f"Going on after epoch {self._kept}.")

    # Pictures, criteria, report

    @contextmanager
    def picture(self, name: str, width: float = 9, height: float = 4) -> Iterator[Any]:
        """A matplotlib figure to draw on; afterwards it is saved as `name`.png."""
        from matplotlib import figure as figures  # late, since it takes longer to import than all else
        from matplotlib import rc_context

        with rc_context(STYLE):
            figure = figures.Figure(figsize=(width, height), layout="constrained")  # draws with Agg
            yield figure
            figure.savefig(self.out / f"{name}.png", dpi=120)
        self.pictures.append(f"{name}.png")

    def require(self, what: str, value: float, relation: str, bound: float, full_only: bool = True) -> None:
        """Add a criterion: `value` `relation` `bound`. `full_only`: a quick run cannot be judged by it."""
        value, judged = float(value), not (self.quick and full_only)
        holds = RELATIONS[relation](value, bound) if judged else None
        value = value if math.isfinite(value) else None  # JSON knows no other numbers
        self.criteria.append({"what": what, "value": value, "relation": relation, "bound": bound, "holds": holds})

    def finish(self) -> int:
        """Write the report and show it. Returns the exit code."""
        seconds = time.perf_counter() - self._started  # without what came before an interruption
        short = [each["what"] for each in self.criteria if each["holds"] is False]
        report = {
            "milestone": self.name,
            "passed": not short and not self.quick,
            "quick": self.quick,
            "given": self.given,
            "criteria": self.criteria,
            "metrics": self.metrics,
            "seed": self.seed,
            "seconds": round(seconds, 2),
            "finished": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "versions": versions("numpy", "matplotlib"),
            "machine": machine() | {"threads": os.environ.get("OPENBLAS_NUM_THREADS", "as many as cores")},
            "data": self.data,
            "pictures": self.pictures,
        }
        write_json(self.out / "report.json", report)
        self.say("\n".join(map(told, self.criteria)))
        self.say(f"{shown(self.out)} holds report.json and the pictures {', '.join(self.pictures)}")
        verdict = f"falls short: {'; '.join(short)}" if short else "ran through (quick)" if self.quick else "passed"
        self.say(f"milestone {self.name} {verdict}, {seconds:.1f} s")
        return 1 if short else 0

    def interrupted(self) -> int:
        """Say what was kept, and how to go on. Returns the exit code."""
        if not self._kept:
            self.say("\nInterrupted before an epoch was done: nothing new was kept.")
            return 130
        losses = [each["loss"] for each in self.epochs[: self._kept]]
        best = losses.index(min(losses))
        package = [] if judged_folder() == ROOT else ["--package", shown(judged_folder())]
        arguments = [argument for argument in sys.argv[1:] if argument not in ("--", "--resume")]
        command = shlex.join(["tox", "-e", f"milestone{self.name[1]}", "--", *package, *arguments, "--resume"])
        self.say(
            f"\nInterrupted. {shown(self.out)} keeps epoch {self._kept}, the last that was done, and epoch {best + 1}, "
            f"the best, with a loss of {losses[best]:.4f}.\nTo go on: {command}"
        )
        return 130


def told(criterion: dict[str, Any]) -> str:
    """A criterion as a line: "holds         98.22 > 97     test images recognised, %"."""
    word = {True: "holds", False: "falls short", None: "not judged"}[criterion["holds"]]
    value = float("nan") if criterion["value"] is None else criterion["value"]
    asked = f"{value:.5g} {criterion['relation']} {criterion['bound']:g}"
    return f"  {word:12}  {asked:20}  {criterion['what']}"


def parser(name: str, text: str, own: dict[str, str]) -> argparse.ArgumentParser:
    """The arguments of every milestone, and the `own` options of this one, each with its help."""

    def seed(given: str) -> int:
        if not given.isdecimal():
            raise argparse.ArgumentTypeError(f"expected a whole number from 0 up, got {given!r}")
        return int(given)

    root = argparse.ArgumentParser(name, description=text)
    root.add_argument("--data", type=Path, metavar="DIR", help="where to look first for the datasets")
    root.add_argument(
        "--out", type=Path, metavar="DIR", help=f"for report, pictures, checkpoints (default: runs/{name})"
    )
    root.add_argument(
        "--seed", type=seed, default=0, help="the same seed gives the same run, to the last bit (default: 0)"
    )
    root.add_argument("--quick", action="store_true", help="a smoke run on little data, which never counts as passed")
    root.add_argument("--resume", action="store_true", help="go on where the run in --out was interrupted")
    for option, says in own.items():
        root.add_argument(f"--{option}", action="store_true", help=says)
    return root


def main(script: str, text: str, train: Callable[[Run], None], own: dict[str, str] | None = None) -> int:
    """Run a milestone's `train`; `own` are the script's own options, with their help. Returns the exit code."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # a console that lacks a letter shall not end the run
    name = Path(script).stem
    own = own or {}
    options = parser(name, text, own).parse_args([argument for argument in sys.argv[1:] if argument != "--"])
    run = None
    try:
        run = Run(name, options, own)
        train(run)
        return run.finish()
    except WorkshopError as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return run.interrupted() if run else 130
    except (Exception, SystemExit) as error:
        lines = [f"{name} stopped.", *error_lines(error, judged_folder())]
        if run and not isinstance(error, NotImplementedError):
            (run.out / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
            lines.append(f"  The whole traceback is in {shown(run.out / 'error.txt')}.")
        print(*lines, sep="\n", file=sys.stderr)
        return 1
