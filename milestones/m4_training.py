"""How milestone 4 trains: the package's Trainer, AdamW and DataParallel; and two small trials of their own."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from milestones.m4_data import (
    LINE,
    PASSAGE,
    Schedule,
    batches,
    by_character,
    differing,
    entropy,
    sentences,
    split,
    windows,
)
from milestones.m4_ngrams import witten_bell
from milestones.models import gpt
from workshop.judging import Plan, Text, Watched, fit
from workshop.training_run import Run

THREADS = 2  # parts of a batch; a number of the machine's own would give it bits of its own
DECAY, BETAS, MAX_NORM = 0.1, (0.9, 0.99), 1.0


class Together:
    """Several optimizers as one, so that some parameters can have other settings than others.

    Attributes:
        params: those of all.
        lr: the learning rate of all.
    """

    def __init__(self, *optimizers: Any) -> None:
        self.optimizers = optimizers
        self.params = [parameter for optimizer in optimizers for parameter in optimizer.params]

    @property
    def lr(self) -> float:
        return self.optimizers[0].lr

    @lr.setter
    def lr(self, rate: float) -> None:
        for optimizer in self.optimizers:
            optimizer.lr = rate

    def zero_grad(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.step()

    def state_dict(self) -> dict[str, Any]:
        return {"optimizers": [optimizer.state_dict() for optimizer in self.optimizers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for optimizer, state in zip(self.optimizers, state_dict["optimizers"], strict=True):
            optimizer.load_state_dict(state)


def make_trainer(tt: Any, model: Any, threads: int = THREADS) -> Any:
    """A trainer with AdamW, whose rate `planned` sets. Matrices decay; what scales and shifts, vectors, does not."""
    parameters = model.parameters()
    matrices, vectors = ([p for p in parameters if (p.ndim == 2) is wanted] for wanted in (True, False))
    decayed = tt.AdamW(matrices, betas=BETAS, weight_decay=DECAY)
    optimizer = Together(decayed, tt.AdamW(vectors, betas=BETAS, weight_decay=0.0))
    parallel = tt.DataParallel(model, threads) if threads > 1 else model
    return tt.Trainer(parallel, optimizer, Watched(tt.next_token_loss), max_norm=MAX_NORM)


def planned(run: Run, trainer: Any, drawn_from: np.ndarray, schedule: Schedule) -> Plan:
    """Epochs of `schedule`, on these windows."""
    set_rate: Callable[[float], None] = partial(setattr, trainer.optimizer, "lr")
    return Plan(
        batches(drawn_from, schedule, run.seed, set_rate),
        schedule.epoch * schedule.batch,
        schedule.steps // schedule.epoch,
        "windows",
    )


def learn_by_heart(run: Run) -> None:
    """A small GPT learns PASSAGE until it can recite it from its first character on."""
    tt, tokenizer = run.tinytorch, by_character(run.tinytorch, PASSAGE)
    tokens = np.array(tokenizer.encode(PASSAGE), np.int64)
    context = len(tokens) - 1
    tt.manual_seed(run.seed)
    model = gpt(tt, len(tokenizer), context, width=64, layers=2)
    trainer, judged = make_trainer(tt, model, threads=1), Text(tokens, context, context)
    schedule = Schedule(10, 1, epoch=5) if run.quick else Schedule(300, 1)
    fit(run, "recital", trainer, planned(run, trainer, windows(tokens, context), schedule), judged)
    recited = tokenizer.decode(tt.generate_with_cache(model, tokens[:1], len(tokens), temperature=0))
    run.metrics["recited"] = recited
    perplexity = math.exp(judged.nats(tt, model))
    run.require("perplexity of a passage learned by heart", perplexity, "<", 1.1)
    run.require(f"characters of it recited wrong, of {len(PASSAGE)}", differing(PASSAGE, recited), "==", 0)


def learn_grammar(run: Run) -> None:
    """A small GPT learns a text of known entropy; what counting reaches there stands beside it."""
    tt, rng = run.tinytorch, np.random.default_rng(run.seed)
    text = sentences(rng, 100 if run.quick else 8000)
    data = split(by_character(tt, text), text, LINE)
    tt.manual_seed(run.seed)
    model = gpt(tt, len(data.tokenizer), LINE, width=64, layers=2)
    trainer = make_trainer(tt, model)
    schedule = Schedule(10, 4, epoch=5) if run.quick else Schedule(600, 32)
    lines = windows(np.concatenate([data.tokens[-1:], data.tokens]), LINE)[::LINE]  # each after the end of one before
    fit(run, "grammar", trainer, planned(run, trainer, lines, schedule), data.judged)
    reached, kinds = math.exp(data.judged.nats(tt, model)), len(data.tokenizer)
    counted = witten_bell(data.tokens, data.judged.tokens[1:], kinds, order=5)[-1]
    run.metrics["perplexity of the grammar's text"] = {
        "reached": reached,
        "by its true entropy": math.exp(entropy()),
        "by a 5-gram": math.exp(counted),
    }
    run.require(f"perplexity of a grammar's text, at best {math.exp(entropy()):.3f}", reached, "<", 2.0)
