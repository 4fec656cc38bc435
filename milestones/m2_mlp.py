"""Milestone 2: a two-layer MLP that learns to read handwritten digits, all 60,000 of MNIST, with your own package.

Layers, loss, gradients, optimizer, schedule and training loop are yours. This script brings the data, keeps the
10,000 test images out of training, and counts for itself how many of them the model then reads.
"""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

# Products as small as here gain a third from a second thread on an idle machine, and lose tenfold on a busy one; and
# one thread gives the same bits whatever the number of cores. Set before NumPy is imported, or it has no effect.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # started by hand
    sys.path.insert(0, str(ROOT))

from milestones.drawing import BLUE, GREY, ORANGE, mark_height, mark_place
from milestones.models import HIDDEN, mlp
from workshop import WorkshopError
from workshop.judging import Images, Plan, Watched, fit, judge, probabilities, start_of, values
from workshop.training_run import Run, main

BATCH, EPOCHS, RATE = 128, 10, 0.002
SIZES = 784, HIDDEN, 10


# Data


def digits(run: Run, folder: Path, part: str) -> Images:
    """The images, (count, 784), and labels of `part`, "train" or "t10k"."""
    names = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
    images, labels = (from_idx(run.noted(name, (folder / name).read_bytes()), name) for name in names)
    return Images(images.reshape(len(images), -1), labels.astype(np.int64), pixels)


def from_idx(content: bytes, name: str) -> np.ndarray:
    """The array in an IDX file: two zeros, 8 for bytes, the number of axes, their lengths big-endian, the elements."""
    axes = content[3] if len(content) > 3 else 0
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, 4 + 4 * axes, 4)]
    if content[:3] != b"\0\0\x08" or len(content) != 4 + 4 * axes + int(np.prod(shape)):
        raise WorkshopError(f"{name} is no IDX file of bytes")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


def pixels(images: np.ndarray) -> np.ndarray:
    """Grey values from 0 to 1, float32."""
    return np.multiply(images, np.float32(1 / 255), dtype=np.float32)


def batches(data: Images, seed: int, epoch: int, size: int = BATCH) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """One epoch of batches, shuffled by seed and epoch alone: a resumed run sees what it would have seen."""
    order = np.random.default_rng([seed, epoch]).permutation(len(data))
    for start in range(0, len(order), size):
        batch = data[order[start : start + size]]
        yield batch.inputs, batch.labels


# Training


def make_trainer(tt: Any, model: Any, epochs: int) -> Any:
    """A trainer with AdamW and a rate that falls along a cosine."""
    optimizer = tt.AdamW(model.parameters(), lr=RATE)
    return tt.Trainer(
        model, optimizer, Watched(tt.CrossEntropyLoss()), schedule=tt.CosineSchedule(RATE, RATE / 100, epochs)
    )


# The milestone


def train(run: Run) -> None:
    """Train, judge, and draw."""
    tt = run.tinytorch
    folder = run.fetch("mnist")
    training, test = digits(run, folder, "train"), digits(run, folder, "t10k")
    epochs = EPOCHS
    if run.quick:
        training, test, epochs = training[:2000], test[:1000], 2

    tt.manual_seed(run.seed)
    model = mlp(tt, *SIZES)
    start = start_of(tt, model, training[:BATCH])
    trainer, plan = make_trainer(tt, model, epochs), Plan(partial(batches, training, run.seed), len(training), epochs)
    run.go_on(trainer)
    fit(run, "MLP", trainer, plan, test, partial(run.keep, trainer))

    tt.manual_seed(run.seed)
    perceptron = mlp(tt, 784, 10)
    single = fit(run, "perceptron", make_trainer(tt, perceptron, epochs), plan, test)
    logits = judge(run, model, start, test, "test images read", 97)
    run.metrics["perceptron's test accuracy"] = single[-1]["test_accuracy"]
    median = float(np.median([each["seconds"] for each in run.epochs]))
    run.metrics["training images per second"] = len(training) / median

    draw_training(run, single)
    draw_mistakes(run, logits, test)
    draw_early_stopping(run, training)
    draw_memory(run, training)


# Pictures


def draw_training(run: Run, single: list[dict[str, float]]) -> None:
    """Loss and error over the epochs, beside a perceptron's."""
    curves = [("MLP", run.epochs, BLUE), ("perceptron", single, ORANGE)]
    with run.picture("training", 10) as figure:
        left, right = figure.subplots(1, 2)
        for name, epochs, colour in curves:
            count = np.arange(1, len(epochs) + 1)
            left.plot(count, [each["loss"] for each in epochs], color=colour, label=f"{name}, training")
            left.plot(count, [each["test_loss"] for each in epochs], "--", color=colour, label=f"{name}, test")
            errors = [100 - 100 * each["test_accuracy"] for each in epochs]
            right.plot(count, errors, "o-", color=colour, markersize=4)
            right.annotate(
                f"{name}\n{errors[-1]:.2f} %", (count[-1], errors[-1]), (6, 0), textcoords="offset points", va="center"
            )
        left.set(yscale="log", xlabel="epoch", ylabel="cross-entropy, nats", title="Loss")
        left.legend()
        mark_height(right, 3, "asked: below 3 %", above=True)
        right.set(yscale="log", xlabel="epoch", ylabel="%", title="Test images misread", ylim=(1, None))
        right.set_yticks([1, 2, 3, 5, 10], ["1", "2", "3", "5", "10"])
        right.set_xlim(0.5, len(single) * 1.18)


def draw_mistakes(run: Run, logits: np.ndarray, test: Images) -> None:
    """The mistakes that the model was surest of."""
    said, sure = logits.argmax(axis=1), probabilities(logits).max(axis=1)
    wrong = np.flatnonzero(said != test.labels)
    worst = wrong[np.argsort(-sure[wrong], kind="stable")][:24]
    run.metrics["test images misread"] = len(wrong)
    with run.picture("mistakes", 10, 5) as figure:
        grid = figure.subplots(3, 8)
        for axes in grid.flat:
            axes.axis("off")
        for axes, i in zip(grid.flat, worst):
            axes.imshow(test.images[i].reshape(28, 28), cmap="gray_r", interpolation="nearest")
            axes.set_title(f"{test.labels[i]}, read as {said[i]}\n{sure[i]:.2%} sure", fontsize=9)
        figure.suptitle(f"The {len(worst)} worst of {len(wrong)} misread test images: what each is, what the MLP said")


def draw_early_stopping(run: Run, training: Images) -> None:
    """A run on 1 training image in 60, which it soon knows by heart; others, kept apart, tell when to stop."""
    tt, epochs, patience = run.tinytorch, 3 if run.quick else 40, 5
    few, apart = training[: len(training) // 60], training[-(len(training) // 12) :]
    tt.manual_seed(run.seed)
    model = mlp(tt, *SIZES)
    trainer = tt.Trainer(model, tt.AdamW(model.parameters(), lr=RATE), tt.CrossEntropyLoss())
    stopping, stopped, found = tt.EarlyStopping(patience), None, []
    for epoch in range(1, epochs + 1):
        loss = trainer.train_epoch(batches(few, run.seed, epoch, size=32))
        found.append((loss, *trainer.evaluate(batches(apart, run.seed, 0, size=1000))))
        if stopped is None and stopping.step(found[-1][1]):
            stopped = epoch
    best = stopping.best_epoch + 1  # counted from 1 here
    run.metrics["early stopping"] = {"best epoch": best, "stopped after epoch": stopped, "patience": patience}
    with run.picture("early_stopping", 10) as figure:
        left, right = figure.subplots(1, 2)
        count, (loss, loss_apart, accuracy_apart) = np.arange(1, epochs + 1), np.array(found, float).T
        left.plot(count, loss, color=BLUE, label=f"the {len(few):,} images trained on")
        left.plot(count, loss_apart, color=ORANGE, label=f"{len(apart):,} images kept apart")
        left.set(xlabel="epoch", ylabel="cross-entropy, nats", ylim=(0, 2 * loss_apart.min()), title="Loss")
        right.plot(count, 100 * accuracy_apart, color=ORANGE)
        right.set(xlabel="epoch", ylabel="%", title="Images kept apart that are read")
        for axes in (left, right):
            axes.axvline(best, color=GREY, linestyle="--", label=f"lowest loss: epoch {best}")
            if stopped:
                axes.axvline(
                    stopped, color=GREY, linestyle=":", label=f"EarlyStopping({patience}) stops: epoch {stopped}"
                )
        left.legend()


def draw_memory(run: Run, training: Images) -> None:
    """What a training step takes at its peak, and how many images a second go through, by batch size."""
    sizes = [size for size in (1, 4, 16, 64, 128, 256, 1024, 4096) if size <= len(training)]
    peaks, speeds = zip(*(step_cost(run, training[:size]) for size in sizes))
    fixed = 4 * sum(array.nbytes for array in values(mlp(run.tinytorch, *SIZES)).values())
    run.metrics["peak of a training step in bytes, by batch size"] = dict(zip(sizes, peaks))
    with run.picture("memory", 10) as figure:
        left, right = figure.subplots(1, 2)
        left.loglog(sizes, np.array(peaks) / 1e6, "o-", color=BLUE, label="measured at the peak of a step")
        left.axhline(fixed / 1e6, color=GREY, linestyle="--", label="parameters, gradients, AdamW's two means")
        left.set(xlabel="batch size", ylabel="MB", title="Memory of a training step", ylim=(1, None))
        left.legend()
        right.loglog(sizes, speeds, "o-", color=ORANGE)
        right.set(xlabel="batch size", ylabel="images/s", title="Speed of training")
        left.set_yticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
        for axes in (left, right):
            axes.set_xticks(sizes, [f"{size:,}" if size not in (64, 256) else "" for size in sizes])
            axes.minorticks_off()
            mark_place(axes, BATCH, f"as in this run: {BATCH}")


def step_cost(run: Run, batch: Images) -> tuple[int, float]:
    """(bytes at the peak of a step, images per second), for a model, a trainer and a batch that are new."""
    tracemalloc.start()
    try:
        data = [(batch.inputs, batch.labels)]
        trainer = make_trainer(run.tinytorch, mlp(run.tinytorch, *SIZES), 1)
        trainer.train_epoch(data)  # the first step makes AdamW's arrays
        tracemalloc.reset_peak()
        trainer.train_epoch(data)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    steps = 3 if run.quick else max(5, 4000 // len(batch))
    began = time.perf_counter()
    trainer.train_epoch(data * min(steps, 100))
    return peak, len(batch) * min(steps, 100) / (time.perf_counter() - began)


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__.splitlines()[0], train))
