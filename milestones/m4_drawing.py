"""Milestone 4's pictures."""

from __future__ import annotations

import math
import textwrap
import time
from typing import Any

import numpy as np

from milestones.drawing import BLUE, GREY, ORANGE, RED, mark_height, mark_place
from milestones.m4_data import Data
from milestones.models import CONTEXT, gpt
from workshop.training_run import Run


def draw_training(run: Run, some: int) -> None:
    """The loss over the time that training took, above what counting reaches."""
    minutes = np.cumsum([each["seconds"] for each in run.epochs]) / 60
    with run.picture("training", 9, 5) as figure:
        axes = figure.subplots()
        axes.plot(
            minutes, [each["test_loss"] for each in run.epochs], color=ORANGE, label=f"kept apart, one window in {some}"
        )
        if run.metrics["characters a token"] == 1:
            axes.plot(minutes, [each["loss"] for each in run.epochs], color=BLUE, label="training text")
        nats = run.metrics["nats a character"]
        axes.plot(minutes[-1], nats, "o", color=RED, label=f"all of the last tenth, at the end: {nats:.3f}")
        for name, height in run.metrics["nats a character by counting"].items():
            if name != "1-gram":
                mark_height(axes, height, f"{name}: {height:.3f}", above=height > 1.6)
        axes.set(
            xlabel="training time, minutes",
            ylabel="nats a character",
            ylim=(1.3, 3.0),
            title=f"A GPT of {run.metrics['parameters']:,} parameters learns {run.metrics['corpus']}; dotted: counting",
        )
        axes.legend(loc="upper center")


def draw_samples(run: Run, prompt: str) -> None:
    """The same prompt continued by the model as it was after so many steps."""
    texts = run.metrics["texts by step"]
    with run.picture("samples", 11, 5.2) as figure:
        grid = figure.subplots(2, 2)
        for axes in grid.flat:
            axes.axis("off")
        for axes, (step, text) in zip(grid.flat, texts.items()):
            lines = [part for line in text.split("\n") for part in textwrap.wrap(line, 60) or [""]]
            shown = "\n".join(lines[:11]).replace("$", r"\$")  # matplotlib takes a pair of them for a formula
            axes.text(0, 1, shown, family="monospace", fontsize=9, va="top", transform=axes.transAxes)
            axes.set_title(f"after {step:,} steps", loc="left")
        figure.suptitle(f"What the model makes of {prompt.strip()}", x=0.01, ha="left")


# Attention


def head_probabilities(tt: Any, model: Any, tokens: np.ndarray) -> np.ndarray:
    """How much each position looks at each other, for all heads of all layers: (layers · heads, T, T)."""
    model.eval()
    found, mask = [], tt.causal_mask(len(tokens))
    with tt.no_grad():
        x = model.positions(model.tokens(tokens[None]))  # (1, T, C)
        for block in model.blocks:
            heads, attention = block.norm1(x), block.attention
            Q, K = (attention.split_heads(layer(heads)).data[0] for layer in (attention.query, attention.key))
            scores = Q @ K.swapaxes(-1, -2) / math.sqrt(Q.shape[-1])  # (heads, T, T)
            found.append(tt.attention_probabilities(scores, mask))
            x = block(x, mask)
    return np.concatenate(found)


def far_looking(probabilities: np.ndarray) -> int:
    """The head that is surest of what it looks at further back than the two positions before, other than the first.

    Many heads look at the first position where there is nothing for them to see.
    """
    far = np.tril(np.ones(probabilities.shape[1:]), -3)
    far[:, 0] = 0
    return int((np.square(probabilities) * far).sum(axis=(1, 2)).argmax())


def draw_attention(run: Run, model: Any, data: Data) -> None:
    """What one head looks at, in a line of verse that training never saw."""
    lines = [line for line in data.validation.split("\n") if 36 <= len(line) <= 46 and line[-1] in ".,;:!?"]
    tokens = np.array(data.tokenizer.encode(lines[0] if lines else data.validation[:40]))[:CONTEXT]
    probabilities = head_probabilities(run.tinytorch, model, tokens)
    chosen = far_looking(probabilities)
    layer, head = divmod(chosen, len(probabilities) // len(model.blocks))
    names = [named(data, token) for token in tokens]
    with run.picture("attention", 8, 7.5) as figure:
        axes = figure.subplots()
        axes.grid(False)
        image = axes.imshow(probabilities[chosen], cmap="Blues", vmin=0, interpolation="nearest")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_ticks(range(len(names)), names, family="monospace", fontsize=9)
        axes.set(
            xlabel="what it looks at",
            ylabel="position that looks, from top to bottom",
            title=f"Head {head + 1} of layer {layer + 1} on a line that training never saw",
        )
        figure.colorbar(image, label="attention probability", shrink=0.8)


def named(data: Data, token: int) -> str:
    """A token as a label: a space and a line break made visible."""
    return data.tokenizer.decode([token]).replace(" ", "␣").replace("\n", "↵").replace("$", r"\$")


# Embedding


def draw_neighbours(run: Run, model: Any, data: Data) -> None:
    """For common tokens those whose vectors point most nearly the same way."""
    counts = np.bincount(data.tokens, minlength=len(data.tokenizer))
    common = np.argsort(-counts, kind="stable")[: min(40, int((counts > 0).sum()))]
    table = model.tokens.weight.data[counts >= min(100, counts[common].min())]
    tokens = np.flatnonzero(counts >= min(100, counts[common].min()))
    table = table / np.maximum(np.linalg.norm(table, axis=1, keepdims=True), 1e-12)
    place = {token: i for i, token in enumerate(tokens)}
    with run.picture("neighbours", 10, 6) as figure:
        columns = figure.subplots(1, 2)
        for axes, shown in zip(columns, np.array_split(common, 2)):
            cosines = table[[place[token] for token in shown]] @ table.T
            nearest = np.argsort(-cosines, axis=1, kind="stable")[:, 1:7]  # the first is the token itself
            near = np.take_along_axis(cosines, nearest, axis=1)
            axes.grid(False)
            image = axes.imshow(near, cmap="Blues", vmin=0, vmax=1, aspect="auto")
            for (i, j), neighbour in np.ndenumerate(nearest):
                colour = "white" if near[i, j] > 0.6 else "black"
                label = named(data, tokens[neighbour])
                axes.text(j, i, label, ha="center", va="center", family="monospace", color=colour)
            axes.set_yticks(range(len(shown)), [named(data, token) for token in shown], family="monospace", fontsize=11)
            axes.set_xticks(range(nearest.shape[1]), [f"{i + 1}." for i in range(nearest.shape[1])])
        figure.colorbar(image, ax=columns, label="cosine of the angle between their vectors")
        figure.suptitle("Common tokens, and their nearest neighbours in the embedding")


# Speed


def draw_speed(run: Run, vocab_size: int) -> None:
    """Tokens a second at each position, with and without cache, in a context of four times the milestone's."""
    tt, context = run.tinytorch, 4 * CONTEXT
    tt.manual_seed(run.seed)
    model = gpt(tt, vocab_size, context)
    places = np.unique(np.linspace(1, context, 4 if run.quick else 17).astype(int))
    rounds = [step_seconds(tt, model, places) for _ in range(1 if run.quick else 5)]
    found = np.median(rounds, axis=0)
    with_cache, without = found
    run.metrics["tokens a second at position 256"] = {"recomputed": 1 / without[-1], "with cache": 1 / with_cache[-1]}
    with run.picture("speed", 8, 4.5) as figure:
        axes = figure.subplots()
        axes.plot(places, 1 / with_cache, "o-", color=BLUE, label="with KVCache")
        axes.plot(places, 1 / without, "o-", color=ORANGE, label="all positions computed again")
        mark_place(axes, CONTEXT, f"this run's context: {CONTEXT}")
        times = without[-1] / with_cache[-1]
        axes.annotate(
            f"{times:.0f} times",
            (places[-1], 1 / with_cache[-1]),
            (0, 8),
            textcoords="offset points",
            color=GREY,
            ha="right",
        )
        axes.set(
            yscale="log",
            ylim=(None, 5 * (1 / found).max()),  # room for the legend
            xlabel="position of the token that is written",
            ylabel="tokens a second, median of 5 rounds",
            title="A new token costs one position's work with the cache, and all positions' without",
        )
        axes.legend(loc="upper right")


def step_seconds(tt: Any, model: Any, places: np.ndarray) -> np.ndarray:
    """Seconds for the logits of the token at each of `places`: (2, places), with cache and without."""
    tokens = np.arange(places[-1])[None] % model.tokens.vocab_size
    found = np.empty((2, len(places)))
    model.eval()
    cache, done = tt.cache_for(model), 0
    with tt.no_grad():
        for i, place in enumerate(places):
            if place - 1 > done:
                model(tokens[:, done : place - 1], cache)
            began = time.perf_counter()
            model(tokens[:, place - 1 : place], cache)
            middle = time.perf_counter()
            model(tokens[:, :place])
            found[:, i] = middle - began, time.perf_counter() - middle
            done = place
    return found
