"""The mistakes that gates must catch: applied to the reference, judged, and recorded.

`gates/mistakes/NN_name.yaml` is written by hand. `gates/records/NN_name.json` is what the gate then observes: from
it a failing gate can tell the student which mistake gives the same. Records ship with a stage; mistakes, which show
the reference's text, do not.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import yaml
from rich.progress import track
from rich.table import Table

from workshop import ROOT, WorkshopError
from workshop.author.forks import forked
from workshop.author.package import NAMES, assemble, reference
from workshop.course import YAML, Course, Exercise, Stage
from workshop.gate import run_gate
from workshop.report import console
from workshop.stub import find
from workshop.verdict import Signature, Verdict


@dataclass(frozen=True)
class Mistake:
    """One wrong implementation: a change to one function of the reference, and what to tell who makes it.

    Attributes:
        unseen: no record is made of it. The gate must fail, and name no mistake but `same_as`.
        same_as: the recorded mistake that this one is too, seen with other eyes; "" if it is none of them.
    """

    mistake: str
    symbol: str
    was: str
    becomes: str
    tell: str = ""
    unseen: bool = False
    same_as: str = ""


Judged = list[tuple[Mistake, Verdict]]


def load_mistakes(stage: Stage, root: Path = ROOT) -> list[Mistake]:
    """The stage's mistakes, checked: known keys, known exercises, no name twice, something to tell."""
    try:
        entries = yaml.load((root / stage.mistakes).read_text(encoding="utf-8"), Loader=YAML)
        found = [Mistake(**entry) for entry in entries]
    except (yaml.YAMLError, TypeError) as error:
        expected = "mistake, symbol, was, becomes, tell (or unseen: true, and same_as)"
        raise WorkshopError(f"{stage.mistakes}: expected a list of {expected}: {error}") from error
    names = [mistake.mistake for mistake in found]
    for mistake in found:
        stage.exercise(mistake.symbol)
        if names.count(mistake.mistake) > 1:
            raise WorkshopError(f"{stage.mistakes}: the mistake {mistake.mistake!r} stands there twice")
        if bool(mistake.tell) == mistake.unseen:
            raise WorkshopError(
                f"{stage.mistakes}: {mistake.mistake!r} needs either something to tell, or unseen: true"
            )
        if mistake.same_as and mistake.same_as not in names:
            raise WorkshopError(f"{stage.mistakes}: {mistake.mistake!r} is the same as an unknown {mistake.same_as!r}")
    return found


def apply(mistake: Mistake, stage: Stage, source: dict[str, str]) -> dict[str, str]:
    """The package's files with one mistake made."""
    path = stage.exercise(mistake.symbol).path
    span = find(source[path], mistake.symbol, path)
    lines = source[path].splitlines(keepends=True)
    function = "".join(lines[span.start : span.end])
    if function.count(mistake.was) != 1:
        times = function.count(mistake.was)
        raise WorkshopError(
            f"{stage.mistakes}: {mistake.was!r} stands {times} times in {mistake.symbol}, expected once"
        )
    changed = "".join([*lines[: span.start], function.replace(mistake.was, mistake.becomes), *lines[span.end :]])
    try:
        compile(changed, path, "exec")
    except SyntaxError as error:
        raise WorkshopError(f"{stage.mistakes}: {mistake.mistake!r} does not compile: {error.msg}") from error
    return source | {path: changed}


# What any function does that does nothing: a diagnosis must not rest on what these give too.
NOTHING = ("return None", "raise ValueError('nothing')", "return 0", "return args[0]", "return args[-1]")


def doing_nothing(exercise: Exercise, body: str, source: dict[str, str]) -> dict[str, str]:
    """The package's files with an exercise that only does `body`, where `args` are its arguments."""
    span = find(source[exercise.path], exercise.symbol, exercise.path)
    lines = source[exercise.path].splitlines(keepends=True)
    inside = [f"{span.indent}args = tuple(locals().values())\n", f"{span.indent}{body}\n"]
    return source | {exercise.path: "".join([*lines[: span.body], *inside, *lines[span.end :]])}


@contextmanager
def scratch_package(files: dict[str, str]) -> Iterator[Path]:
    """A folder that holds these files, and is gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        for path, text in files.items():
            target = Path(folder, path)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8", newline="\n")
        yield Path(folder)


class Bench:
    """Judges many variants of one stage's reference by its whole gate, two at a time.

    Only the stages that a stage needs are there: what its gate sees must not depend on later ones.
    """

    def __init__(self, course: Course, stage: Stage, root: Path = ROOT) -> None:
        self.course, self.stage, self.root = course, stage, root
        self.source = assemble(course, reference(root), course.closure([stage.number]), ())

    def judge(self, files: dict[str, str], about: str = "") -> Verdict:
        """The verdict on a package, without records: by the whole gate, or by what is about one exercise."""
        with scratch_package(files) as folder:
            names = [about] if about else []
            verdict = run_gate(self.course, self.stage, folder, self.root, start=forked, names=names, earlier=False)
        return replace(verdict, known={})

    def all(self, variants: Sequence[tuple[Any, ...]], what: str) -> list[Verdict]:
        """`judge` of each of `variants`, with a progress bar."""
        title = f"{self.stage.slug}: {what}"
        with ThreadPoolExecutor(2) as pool:
            verdicts = pool.map(lambda variant: self.judge(*variant), variants)
            return list(track(verdicts, title, len(variants), console=console, transient=True))

    def mistakes(self, chosen: Iterable[Mistake]) -> Judged:
        """Every mistake of `chosen`, made alone, with the verdict on it."""
        chosen = list(chosen)
        return list(zip(chosen, self.all([(apply(m, self.stage, self.source),) for m in chosen], "mistakes")))

    def nothing(self) -> dict[str, list[Signature]]:
        """What is seen of each exercise that does nothing, in each of the ways there are."""
        pairs = [(exercise, body) for exercise in self.stage.exercises for body in NOTHING]
        variants = [(doing_nothing(*pair, self.source), pair[0].symbol) for pair in pairs]
        verdicts = self.all(variants, "doing nothing")
        found: dict[str, list[Signature]] = {}
        for (exercise, _), verdict in zip(pairs, verdicts):
            seen = alone(exercise.symbol, verdict)
            if seen and seen not in found.setdefault(exercise.symbol, []):
                found[exercise.symbol].append(seen)
        return found

    def check_reference(self) -> None:
        """Raise a WorkshopError unless the reference passes and each exercise has a test."""
        verdict = self.judge(self.source)
        failed = [f"{test.id}: {'; '.join(test.failures[0]['lines'])}" for test in verdict.tests if test.failures]
        if verdict.broken or failed:
            raise WorkshopError(f"the reference does not pass gate {self.stage.label}: {verdict.broken or failed[0]}")
        for exercise in self.stage.exercises:
            if exercise.symbol not in {test.exercise for test in verdict.tests}:
                raise WorkshopError(f"{self.stage.gate} has no test about {exercise.symbol}")


def alone(symbol: str, verdict: Verdict) -> Signature:
    """What was observed in tests about `symbol` if nothing else is wrong, so that all of it is the exercise's fault."""
    return {
        f"{test.id}|{failure['case']}|{failure['check']}": failure["seen"]
        for test in verdict.tests
        if test.exercise == symbol
        for failure in test.failures
    }


# Records


OBSERVERS = ("checks", "judge", "observe", "probes", "tables")  # what an observation comes through


def digest(course: Course, stage: Stage, root: Path = ROOT) -> str:
    """The SHA-256 of all that a stage's records depend on: with the same one they need not be made again.

    The table of public names is left out. It has those of all stages, and a later stage must not make records old.
    """
    files = assemble(course, reference(root), course.closure([stage.number]), ())
    del files[NAMES]
    paths = [stage.gate, stage.mistakes, *(f"workshop/{name}.py" for name in OBSERVERS)]
    files |= {path: (root / path).read_text(encoding="utf-8") for path in paths}
    files["exercises"] = repr((stage.exercises, NOTHING))
    return hashlib.sha256(json.dumps(files, sort_keys=True).encode("utf-8")).hexdigest()


def record_of(judged: Judged, nothing: dict[str, list[Signature]]) -> dict[str, Any]:
    """What is known of a stage's mistakes, for the gate to recognise them."""
    told = [
        {"mistake": m.mistake, "symbol": m.symbol, "tell": m.tell, "seen": alone(m.symbol, verdict)}
        for m, verdict in judged
        if not m.unseen
    ]
    return {"mistakes": told, "nothing": nothing}


def dump(record: dict[str, Any]) -> str:
    """A record as JSON, a mistake a line, so that changes read well in a diff."""
    mistakes = ",\n".join(f"    {json.dumps(mistake, ensure_ascii=False)}" for mistake in record["mistakes"])
    nothing = ",\n".join(
        f"    {json.dumps(symbol)}: {json.dumps(seen, ensure_ascii=False)}"
        for symbol, seen in record["nothing"].items()
    )
    head = f'{{\n  "digest": {json.dumps(record["digest"])},\n  "mistakes": [\n'
    return head + mistakes + '\n  ],\n  "nothing": {\n' + nothing + "\n  }\n}\n"


def write_records(course: Course, stages: Sequence[Stage], root: Path = ROOT) -> int:
    """Write the records of `stages` anew, and show how the gates met the mistakes. Returns 1 if one falls short."""
    table = Table(*TALLY, box=None, padding=(0, 2, 0, 0), header_style="dim")
    short = 0
    for stage in stages:
        bench = Bench(course, stage, root)
        bench.check_reference()
        judged = bench.mistakes(load_mistakes(stage, root))
        record = {"digest": digest(course, stage, root)} | record_of(judged, bench.nothing())
        path = root / stage.records
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dump(record), encoding="utf-8", newline="\n")
        judged = [(mistake, replace(verdict, known=record)) for mistake, verdict in judged]
        table.add_row(stage.slug, *map(str, tally(judged)))
        for mistake, verdict in judged:
            if trouble := shortcoming(mistake, verdict):
                short += 1
                console.print(
                    f"{stage.label} {mistake.symbol}: {mistake.mistake}: {trouble}", soft_wrap=True, markup=False
                )
    console.print(table)
    console.print(
        "caught: a test about the changed exercise fails; alone: only it is called wrong; others: another one is given "
        "a diagnosis; false: another mistake is named",
        style="dim",
    )
    return 1 if short else 0


TALLY = ("stage", "recorded", "named", "unseen", "caught", "alone", "others", "false")


def tally(judged: Judged) -> tuple[int, ...]:
    """A stage's row: how many mistakes there are, and were named, caught, and blamed on the changed exercise alone.

    The last two count diagnoses that must not be: one of another exercise, and one of another mistake.
    """
    recorded = [(mistake, verdict) for mistake, verdict in judged if not mistake.unseen]
    return (
        len(recorded),
        sum((verdict.tell(mistake.symbol) or ("",))[0] == mistake.mistake for mistake, verdict in recorded),
        len(judged) - len(recorded),
        sum(any(test.failures for test in v.tests if test.exercise == m.symbol) for m, v in judged),
        sum(verdict.wrong == {mistake.symbol} for mistake, verdict in judged),
        sum(any(v.tell(symbol) for symbol in v.wrong - {m.symbol}) for m, v in judged),
        sum(bool(false_diagnosis(mistake, verdict)) for mistake, verdict in judged),
    )


def false_diagnosis(mistake: Mistake, verdict: Verdict) -> str:
    """The mistake that is named though it was not made; "" if none is."""
    truth = mistake.same_as if mistake.unseen else mistake.mistake
    told = {symbol: verdict.tell(symbol) for symbol in verdict.wrong}
    return next((name[0] for name in told.values() if name and name[0] != truth), "")


def shortcoming(mistake: Mistake, verdict: Verdict) -> str:
    """What is wrong with how a gate met a mistake; "" if it failed, blamed just its exercise, and said what is true."""
    if verdict.broken:
        return f"the package could not be judged: {verdict.broken}"
    if mistake.symbol not in {test.exercise for test in verdict.tests if test.failures}:
        return "no test about this exercise fails"
    if verdict.wrong != {mistake.symbol}:
        return f"blamed: {', '.join(sorted(verdict.wrong))}"
    if false := false_diagnosis(mistake, verdict):
        return f"told as another mistake: {false}"
    if not mistake.unseen and verdict.tell(mistake.symbol) is None:
        return (
            "no diagnosis: what is seen is that of another one, or of an exercise that does nothing, or says too little"
        )
    return ""
