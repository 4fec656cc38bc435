"""Milestone 3's pictures."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from milestones.drawing import BLUE, ORANGE, mark_height
from milestones.m3_data import CLASSES, loader_of
from workshop.judging import Images
from workshop.training_run import Run


def draw_training(run: Run, found: dict[str, dict[str, Any]]) -> None:
    """The loss over the epochs, and accuracy over the time that training took."""
    count = np.arange(1, len(run.epochs) + 1)
    with run.picture("training", 10) as figure:
        left, right = figure.subplots(1, 2)
        for key, style, label in (
            ("loss", "o-", "training images, some mirrored"),
            ("test_loss", "o--", "test images"),
        ):
            left.plot(count, [each[key] for each in run.epochs], style, color=BLUE, label=label)
        left.set(xlabel="epoch", ylabel="cross-entropy, nats", title="Loss of the CNN", xticks=count)
        left.legend()
        for name, each in found.items():
            minutes = np.cumsum([epoch["seconds"] for epoch in each["epochs"]]) / 60
            right.plot(
                minutes,
                [100 * epoch["test_accuracy"] for epoch in each["epochs"]],
                "o-",
                color=each["colour"],
                label=f"{name}: {each['parameters']:,}" + (" parameters" if name == "CNN" else ""),
            )
        mark_height(right, 75, "asked: above 75 %", above=False)
        right.set(
            xlabel="training time, minutes; a point for each epoch",
            ylabel="%",
            title="Test images right",
            xlim=(0, None),
            ylim=(0, 100),
        )
        right.legend(loc="lower right")


def draw_parameters(run: Run, found: dict[str, dict[str, Any]]) -> None:
    """What parameters buy, with and without convolution."""
    with run.picture("parameters", 8) as figure:
        axes = figure.subplots()
        for name, each in found.items():
            place = each["parameters"], 100 * each["epochs"][-1]["test_accuracy"]
            axes.plot(*place, "o", color=each["colour"], markersize=9)
            seconds = sum(epoch["seconds"] for epoch in each["epochs"])
            label = (
                f"{name}\n{place[1]:.1f} %, {place[0]:,} parameters,\n{len(each['epochs'])} epochs in {seconds:.0f} s"
            )
            axes.annotate(label, place, (10, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set(
            xscale="log",
            xlim=(6e3, 1.5e7),
            ylim=(0, 100),
            xlabel="parameters",
            ylabel="test images right, %",
            title="An MLP learns for every place anew what a convolution learns once",
        )


def draw_filters(run: Run, model: Any) -> None:
    """The first layer's weights as small pictures in colour."""
    filters = model[0].weight.data
    with run.picture("filters", 9, 5) as figure:
        grid = figure.subplots(4, 8)
        for axes, weights in zip(grid.flat, filters):
            low, high = weights.min(), weights.max()
            axes.imshow(((weights - low) / max(high - low, 1e-12)).transpose(1, 2, 0), interpolation="nearest")
            axes.axis("off")
        figure.suptitle(
            "The 32 filters of the first layer: 3 x 3 weights for red, green and blue,\n"
            "each from its smallest (dark) to its largest (bright)"
        )


def draw_confusion(run: Run, logits: np.ndarray, test: Images) -> None:
    """What each class was taken for."""
    counts = np.zeros((10, 10))
    np.add.at(counts, (test.labels, logits.argmax(axis=1)), 1)
    shares = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    run.metrics["right by class"] = dict(zip(CLASSES, shares.diagonal() / 100))
    with run.picture("confusion", 8, 6.5) as figure:
        axes = figure.subplots()
        axes.grid(False)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for i, j in np.ndindex(shares.shape):
            colour = "white" if shares[i, j] > 50 else "black"
            axes.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", color=colour)
        axes.set_xticks(range(10), CLASSES, rotation=45, ha="right")
        axes.set_yticks(range(10), CLASSES)
        axes.set(
            xlabel="what the CNN said",
            ylabel="what the image shows",
            title=f"{len(test):,} test images, % of each class",
        )
        figure.colorbar(image, label="%")


def draw_time(run: Run, model: Any, training: Any) -> None:
    """Where the time of a training step goes."""
    inputs, targets = next(iter(loader_of(run, training)))
    repeats = 2 if run.quick else 10
    rounds = [step_times(run.tinytorch, model, inputs.data, targets.data) for _ in range(repeats)]
    found = {name: np.median([each[name] for each in rounds], axis=0) for name in rounds[0]}
    forward, backward = 1000 * np.array(list(found.values())).T
    total = (forward + backward).sum()
    run.metrics["milliseconds of a step, forward and backward"] = dict(zip(found, zip(forward, backward)))
    run.metrics["share of convolution in a step"] = float((forward + backward)[list(found).index("Conv2d")] / total)
    with run.picture("time", 9, 3.8) as figure:
        axes = figure.subplots()
        axes.set_axisbelow(True)
        axes.barh(range(len(found)), forward, color=BLUE, label="forward")
        axes.barh(range(len(found)), backward, left=forward, color=ORANGE, label="backward, or the optimizer's step")
        for place, each in enumerate(forward + backward):
            label = f"{each:.1f} ms, {each / total:.0%}"
            axes.annotate(label, (each, place), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(found)), found)
        axes.invert_yaxis()
        axes.set(
            xlabel=f"milliseconds; median of {repeats} rounds, in which each layer is timed on its own",
            title=f"A training step of the CNN with {len(targets)} images: {total:.0f} ms",
            xlim=(0, 1.25 * (forward + backward).max()),
        )
        axes.legend()


def step_times(tt: Any, model: Any, x: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Seconds (forward, backward) of each kind of layer: every layer gets a tape of its own, and any gradient."""
    model.train()
    before = model.state_dict()
    found: dict[str, np.ndarray] = {}

    def timed(layer: Callable[..., Any], x: np.ndarray, *more: Any) -> np.ndarray:
        leaf = tt.Tensor(x, requires_grad=bool(found))  # nobody asks for the gradient of the images
        began = time.perf_counter()
        y = layer(leaf, *more)
        middle = time.perf_counter()
        y.backward(np.ones_like(y.data))
        times = np.array([middle - began, time.perf_counter() - middle])
        name = type(layer).__name__
        found[name] = found.get(name, 0) + times
        return y.data

    for position in range(len(model)):
        x = timed(model[position], x)
    timed(tt.CrossEntropyLoss(), x, targets)
    optimizer = tt.AdamW(model.parameters(), lr=0.0)
    began = time.perf_counter()
    optimizer.step()
    found["AdamW"] = np.array([0.0, time.perf_counter() - began])
    optimizer.zero_grad()
    model.load_state_dict(before)  # the running averages of BatchNorm have moved
    return found
