"""What a person reads: a gate's verdict, the map, the ladder."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from workshop.course import Course
from workshop.verdict import Test, Verdict

SHOWN = 3  # failures told at length; the table names the rest

console = Console(highlight=False)


def show_verdict(verdict: Verdict) -> None:
    """What is wrong, one failure an exercise, and the table of exercises."""
    stage = verdict.stage
    if verdict.broken:
        console.print(f"[red]gate {stage.label}[/]  your package cannot be judged yet", soft_wrap=True)
        console.print(f"  {escape(verdict.broken)}\n", soft_wrap=True)
    else:
        for symbol in worth_telling(verdict)[:SHOWN]:
            console.print("\n".join(failure_lines(verdict, symbol)) + "\n", soft_wrap=True)
    console.print(exercise_table(verdict))
    total = sum(exercise.points for exercise in verdict.exercises)
    passed = "[green]passed[/]" if verdict.passed else "[red]not passed[/]"
    console.print(f"gate {stage.label} {passed}: {verdict.points:g} of {total:g} points")


def worth_telling(verdict: Verdict) -> list[str]:
    """The exercises that are wrong, in the order of the map."""
    return [exercise.symbol for exercise in verdict.exercises if exercise.symbol in verdict.wrong]


def failure_lines(verdict: Verdict, symbol: str) -> list[str]:
    """The first failure that is the exercise's own fault, told in under fifteen lines."""
    stage = verdict.stage
    test, failure = first_failure(verdict, symbol)
    lines = [f"[red]gate {stage.label}[/]  [bold]{escape(symbol)}[/]: {escape(test.says)}"]
    lines += [f"  {escape(line)}" for line in failure["lines"]]
    if test.printed:
        lines.append(f"  printed   {escape(' | '.join(test.printed))[:150]}")
    told = verdict.tell(symbol)
    if told:
        mistake, tell = told
        lines.append(f"  That is the result of: {escape(mistake)}.")
        lines.append(f"  [yellow]{escape(tell)}[/]")
    lines.append(f'  lesson: {stage.lesson}, "{escape(symbol)}"')
    return lines


def first_failure(verdict: Verdict, symbol: str) -> tuple[Test, dict[str, Any]]:
    """The test and the failure to show: one that shows a value, if there is one, since it tells most."""
    tests = [test for test in verdict.tests if test.exercise == symbol]
    own = [(test, failure) for test in tests for failure in verdict.own_failures(test)]
    return min(own, key=lambda pair: {"wrong": 0, "error": 1}.get(pair[1]["kind"], 2))


def exercise_table(verdict: Verdict) -> Table:
    """Each exercise with its points and its verdict."""
    table = Table("exercise", "points", "verdict", box=None, padding=(0, 2), header_style="dim")
    colours = {"passed": "green", "wrong": "red", "never ends": "red"}
    for exercise in verdict.exercises:
        said = verdict.of(exercise)
        colour = colours.get(said, "yellow")
        table.add_row(escape(exercise.symbol), f"{exercise.points:g}", f"[{colour}]{escape(said)}[/]")
    return table


def show_map(course: Course) -> None:
    """The map as a table that fits into 80 columns, each milestone below the stage that leads to it."""
    table = Table("stage", "needs", "question", box=None, padding=(0, 2, 0, 0), header_style="dim")
    for stage in course.stages:
        needs = " ".join(f"{need:02d}" for need in stage.needs)
        table.add_row(f"{stage.label} {stage.name}", needs or "-", escape(stage.question))
        milestone = course.closed_by(stage)
        if milestone:
            table.add_row("", "", f"[green]milestone {milestone.number}: {milestone.name}[/]")
    console.print(table)
