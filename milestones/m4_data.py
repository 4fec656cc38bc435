"""Milestone 4's texts: Shakespeare, split and made into tokens; a passage to learn; a text of known entropy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from workshop import WorkshopError
from workshop.judging import Text
from workshop.training_run import Run

TINY, PLAYS = ("tinyshakespeare", "input.txt"), ("shakespeare", "plays.txt")
PASSAGE = """\
Shall I compare thee to a summer's day?
Thou art more lovely and more temperate:
Rough winds do shake the darling buds of May,
And summer's lease hath all too short a date;
Sometime too hot the eye of heaven shines,
And often is his gold complexion dimm'd;
And every fair from fair sometime declines,
By chance or nature's changing course untrimm'd.
"""

# Shakespeare


def corpus(run: Run) -> tuple[str, str]:
    """The text to learn from, and the name of the dataset: tiny Shakespeare, else the plays in the repository."""
    dataset, name = TINY
    if "plays" not in run.given:
        try:
            return read(run, dataset, name), dataset
        except WorkshopError as error:
            run.say(f"{error}\nThe plays in datasets/shakespeare/ are learned instead; all figures are of them.")
    dataset, name = PLAYS
    return read(run, dataset, name), dataset


def read(run: Run, dataset: str, name: str) -> str:
    """The text in a file of a dataset."""
    return run.noted(name, (run.fetch(dataset) / name).read_bytes()).decode("utf-8")


@dataclass(frozen=True)
class Data:
    """A text, cut in two.

    Attributes:
        tokenizer: the package's; it knows every character of the text.
        training, validation: the first nine tenths and the rest, as text.
        tokens: those of the training text.
        judged: those of the rest, all of which a model is asked for; the last token before them stands in front.
        wrong: how many characters are not what they were after encoding and decoding.
    """

    tokenizer: Any
    training: str
    validation: str
    tokens: np.ndarray
    judged: Text
    wrong: int


def split(tokenizer: Any, text: str, context: int) -> Data:
    """The first nine tenths to train on, the last for the judge."""
    cut = len(text) * 9 // 10
    training, validation = text[:cut], text[cut:]
    tokens, kept_apart = (np.array(tokenizer.encode(part), np.int64) for part in (training, validation))
    wrong = sum(differing(part, tokenizer.decode(of)) for part, of in ((training, tokens), (validation, kept_apart)))
    judged = Text(np.concatenate([tokens[-1:], kept_apart]), context, len(validation))
    return Data(tokenizer, training, validation, tokens, judged, wrong)


def differing(a: str, b: str) -> int:
    """The number of places at which two texts differ, if only because one of them has ended."""
    return abs(len(a) - len(b)) + sum(x != y for x, y in zip(a, b))


def by_character(tt: Any, text: str) -> Any:
    """The package's tokenizer with a token for each character of `text`."""
    tokenizer = tt.CharTokenizer()
    tokenizer.build_vocab(text)
    return tokenizer


def by_pairs(tt: Any, training: str, size: int) -> Any:
    """The package's byte-pair tokenizer, trained on the training text alone."""
    tokenizer = tt.BPETokenizer()
    tokenizer.train(training, size)
    return tokenizer


# Batches


@dataclass(frozen=True)
class Schedule:
    """How many steps, on how many windows each, at which rate.

    Attributes:
        steps: of the optimizer, a multiple of `epoch`.
        batch: windows in each.
        rate: the learning rate at the top, after `warmup` steps; from there it falls to 0 in equal steps.
        epoch: the steps after which the state is kept.
    """

    steps: int
    batch: int
    rate: float = 3e-3
    warmup: int = 100
    epoch: int = 100

    def rate_at(self, step: int) -> float:
        """The learning rate of a step, counted from 0."""
        return self.rate * min(1.0, (step + 1) / self.warmup) * (1 - step / self.steps)


def windows(tokens: np.ndarray, context: int) -> np.ndarray:
    """(windows, context + 1): one from each place in `tokens`; they are views."""
    return np.lib.stride_tricks.sliding_window_view(tokens, context + 1)


def batches(
    drawn_from: np.ndarray, schedule: Schedule, seed: int, set_rate: Callable[[float], None]
) -> Callable[[int], Iterator[tuple[np.ndarray, np.ndarray]]]:
    """Gives the batches of an epoch, windows drawn by seed and epoch alone: a resumed run sees what it would have seen.

    Inputs and targets are (batch, context) each; the targets are one token further on.
    """

    def of_epoch(epoch: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        drawn = np.random.default_rng([seed, epoch]).integers(len(drawn_from), size=(schedule.epoch, schedule.batch))
        for step, chosen in enumerate(drawn, epoch * schedule.epoch):
            set_rate(schedule.rate_at(step))
            rows = drawn_from[chosen]  # (batch, context + 1)
            yield rows[:, :-1], rows[:, 1:]

    return of_epoch


# A text whose entropy is known: each line has LINE characters, because all verbs have five

CONSONANTS, VOWELS = "bdklmnrt", "aeio"
VERBS = {"loves": 1 / 2, "fears": 1 / 4, "seeks": 1 / 8, "obeys": 1 / 8}
LINE = len("Tamo loves Keri, and Keri fears Tamo.\n")


def sentences(rng: np.random.Generator, count: int) -> str:
    """As many lines as `Tamo loves Keri, and Keri fears Tamo.`, with names and verbs drawn anew for each."""

    def name() -> str:
        return "".join(rng.choice(list(letters)) for letters in (CONSONANTS, VOWELS) * 2).capitalize()

    def verb() -> str:
        return rng.choice(list(VERBS), p=list(VERBS.values()))

    return "".join(line(name(), verb(), name(), verb()) for _ in range(count))


def line(a: str, v: str, b: str, w: str) -> str:
    return f"{a} {v} {b}, and {b} {w} {a}.\n"


def entropy() -> float:
    """Nats a character of that text, the least that any model can reach in the long run.

    A line tells what was drawn for it, no more and no less; so its entropy is the sum of what the draws have: two
    names of two consonants and two vowels each, and two verbs. Who comes again is no news.
    """
    name = 2 * np.log(len(CONSONANTS) * len(VOWELS))
    verb = -sum(p * np.log(p) for p in VERBS.values())
    return float((2 * name + 2 * verb) / LINE)
