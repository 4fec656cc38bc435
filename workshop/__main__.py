"""The command: `python -m workshop gate 05`, or `gate05` as tox says, and so on. tox is its everyday face."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from workshop import ROOT, WorkshopError
from workshop.course import load_course


def number(text: str) -> int:
    """A stage's or milestone's number, with or without its word: "05", "gate05", "milestone2"."""
    found = re.fullmatch(r"[a-z]*?-?(\d+)", text)
    if not found:
        raise argparse.ArgumentTypeError(f"expected a number such as 05, got {text!r}")
    return int(found[1])


def parser() -> argparse.ArgumentParser:
    """The commands and their arguments."""
    root = argparse.ArgumentParser(prog="python -m workshop", description="TinyTorch Workshop")
    commands = root.add_subparsers(dest="command", required=True)

    def add(name: str, text: str) -> argparse.ArgumentParser:
        return commands.add_parser(name, help=text, description=text)

    gate = add("gate", "judge a stage; if it passes, say or run what comes next")
    gate.add_argument("number", type=number, metavar="NN")
    gate.add_argument(
        "names", nargs="*", metavar="NAME", help="judge only the exercises of these names, such as matmul"
    )
    gate.add_argument("--pdb", action="store_true", help="stop in the debugger where a check fails")
    gate.add_argument("--package", type=Path, default=ROOT, help="folder that holds tinytorch/, such as solutions")
    gate.add_argument("--no-milestone", action="store_true", help="stop after the gate")
    milestone = add("milestone", "train a milestone's model on your package; further arguments go to its script")
    milestone.add_argument("number", type=number, metavar="N")
    milestone.add_argument("--package", type=Path, default=ROOT, help="folder that holds tinytorch/, such as solutions")
    figures = add("measure", "print a lesson's figures; further arguments go to its measure.py")
    figures.add_argument("number", type=number, metavar="NN")
    stages = add("stages", "cut the stages: tags stage-NN and handout-NN, refs/solutions/NN")
    stages.add_argument("--correct", action="store_true", help="build on the tags that students have already merged")
    add("list", "show the map")
    add("derive", "author: bring tinytorch/ up to date with solutions/ and stages.yaml")
    records = add("records", "author: write gates/records/ anew by running the gates on their mistakes")
    records.add_argument("numbers", type=number, metavar="NN", nargs="*", help="stages; all by default")
    tour = add("tour", "in a scratch clone, walk all stages as a student would who writes the reference")
    tour.add_argument("--full", action="store_true", help="train also the milestones on downloaded data in full")
    add("bench", "compare tinytorch with PyTorch, side by side")
    add("tests", "author: the everyday tests of the workshop itself; further arguments go to pytest")
    add("full", "author: all tests of the workshop itself; further arguments go to pytest")
    return root


def separated(arguments: list[str]) -> list[str]:
    """`arguments`, with the name of a tox environment such as "gate05" taken apart into a command and its number."""
    found = re.fullmatch(r"(gate|measure|milestone)(\d+)", arguments[0]) if arguments else None
    return [*found.groups(), *arguments[1:]] if found else arguments


def main(arguments: list[str] | None = None) -> int:
    """Run one command. Returns 0 if all is well, 1 if something judged falls short, 2 if it could not be done."""
    options, rest = parser().parse_known_args(separated(sys.argv[1:] if arguments is None else arguments))
    if options.command == "gate":  # after an option argparse takes no more names
        options.names += [word for word in rest if not word.startswith("-")]
        rest = [word for word in rest if word.startswith("-")]
    if rest and options.command not in ("milestone", "measure", "tests", "full"):
        parser().error(f"unknown arguments: {' '.join(rest)}")
    try:
        return run(options, rest)
    except WorkshopError as error:
        print(f"workshop: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("workshop: interrupted", file=sys.stderr)
        return 130


def run(options: argparse.Namespace, rest: list[str]) -> int:
    """Run the command that `options` names. Each brings its own imports: a gate must start fast."""
    if options.command == "gate":
        from workshop.student import gate

        return gate(options.number, options.package.resolve(), options.no_milestone, options.names, options.pdb)
    if options.command == "milestone":
        from workshop.student import milestone

        return milestone(load_course().milestone(options.number), options.package.resolve(), rest)
    if options.command == "measure":
        from workshop.student import measure

        return measure(load_course().stage(options.number), rest)
    if options.command == "list":
        from workshop.report import show_map

        show_map(load_course())
        return 0
    if not (ROOT / "workshop" / "author" / "__init__.py").is_file():
        raise WorkshopError(
            f"`{options.command}` is an author's command, and this tree is a stage, which holds none of their tools: "
            "`git switch main` brings them. Here, `tox -e gate01` runs a gate, and `tox list` names the rest"
        )
    from workshop.author import commands

    if options.command in ("tests", "full"):
        return commands.tests(["--full", *rest] if options.command == "full" else rest)

    if options.command == "stages":
        return commands.stages(options.correct)
    if options.command == "records":
        return commands.records(options.numbers)
    if options.command == "tour":
        from workshop.author.tour import tour

        return tour(options.full)
    return {"derive": commands.derive, "bench": commands.bench}[options.command]()


if __name__ == "__main__":
    sys.exit(main())
