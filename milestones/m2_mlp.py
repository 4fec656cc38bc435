"""Milestone 2: a two-layer MLP that learns to read handwritten digits, all 60,000 of MNIST, with your own package.

Layers, loss, gradients, optimizer, schedule and training loop are yours. This script brings the data, keeps the
10,000 test images out of training, and counts for itself how many of them the model then reads.
"""

from __future__ import annotations

import hashlib
import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass
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

from workshop import WorkshopError
from workshop.training_run import Run, main

HIDDEN, BATCH, EPOCHS, RATE = 256, 128, 10, 0.002
BLUE, ORANGE, GREY = "#2166ac", "#d95f02", "#777777"


# Data


@dataclass(frozen=True)
class Digits:
    """Images and what they show."""

    images: np.ndarray  # (count, 784) uint8
    labels: np.ndarray  # (count,) int64

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Any) -> Digits:
        return Digits(self.images[chosen], self.labels[chosen])


def digits(run: Run, folder: Path, part: str) -> Digits:
    """The images and labels of `part`, "train" or "t10k"."""
    names = f"{part}-images-idx3-ubyte", f"{part}-labels-idx1-ubyte"
    images, labels = (from_idx(run.noted(name, (folder / name).read_bytes()), name) for name in names)
    return Digits(images.reshape(len(images), -1), labels.astype(np.int64))


def from_idx(content: bytes, name: str) -> np.ndarray:
    """The array in an IDX file: two zeros, 8 for bytes, the number of axes, their lengths big-endian, the elements."""
    axes = content[3] if len(content) > 3 else 0
    shape = [int.from_bytes(content[i : i + 4], "big") for i in range(4, 4 + 4 * axes, 4)]
    if content[:3] != b"\0\0\x08" or len(content) != 4 + 4 * axes + int(np.prod(shape)):
        raise WorkshopError(f"{name} is no IDX file of bytes")
    return np.frombuffer(content, np.uint8, offset=4 + 4 * axes).reshape(shape)


@dataclass(frozen=True)
class Batches:
    """One epoch of batches, shuffled by seed and epoch alone: a resumed run sees what it would have seen."""

    digits: Digits
    seed: int
    epoch: int
    size: int = BATCH

    def __iter__(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.digits))
        for start in range(0, len(order), self.size):
            batch = self.digits[order[start : start + self.size]]
            yield pixels(batch.images), batch.labels


def pixels(images: np.ndarray) -> np.ndarray:
    """Grey values from 0 to 1, float32."""
    return np.multiply(images, np.float32(1 / 255), dtype=np.float32)


# Model and training


def mlp(tt: Any) -> Any:
    """The milestone's model."""
    return tt.Sequential(tt.Linear(784, HIDDEN), tt.ReLU(), tt.Linear(HIDDEN, 10))


def perceptron(tt: Any) -> Any:
    """What it is compared with: a single layer."""
    return tt.Sequential(tt.Linear(784, 10))


def make_trainer(tt: Any, model: Any, epochs: int) -> Any:
    """A trainer with AdamW and a rate that falls along a cosine."""
    optimizer = tt.AdamW(model.parameters(), lr=RATE)
    return tt.Trainer(
        model, optimizer, Watched(tt.CrossEntropyLoss()), schedule=tt.CosineSchedule(RATE, RATE / 100, epochs)
    )


class Watched:
    """A loss function whose last value the progress bar can see."""

    def __init__(self, loss_fn: Any) -> None:
        self.loss_fn, self.last = loss_fn, float("nan")

    def __call__(self, predictions: Any, targets: Any) -> Any:
        loss = self.loss_fn(predictions, targets)
        self.last = float(loss.data)
        return loss

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loss_fn, name)


def fit(run: Run, what: str, trainer: Any, data: tuple[Digits, Digits], epochs: int, keep: Callable[..., None]) -> None:
    """Train with the first of `data` until `epochs` are done, and give `keep` the figures of each."""
    training, test = data
    with run.bar(what, epochs * len(training), "images", trainer.epoch * len(training)) as advance:

        def watched(batches: Batches) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for inputs, targets in batches:
                yield inputs, targets
                advance(len(targets), trainer.loss_fn.last)

        for epoch in range(trainer.epoch, epochs):
            began = time.perf_counter()
            loss = trainer.train_epoch(watched(Batches(training, run.seed, epoch)))
            speed = len(training) / (time.perf_counter() - began)
            logits = answers(run.tinytorch, trainer.model, test)
            right, test_loss = accuracy(logits, test), cross_entropy(logits, test)
            run.say(
                f"{what}, epoch {epoch + 1:2} of {epochs}: loss {loss:.4f}, {right:.2%} of the test images read, "
                f"{speed:,.0f} images/s"
            )
            keep(loss=float(loss), test_loss=test_loss, test_accuracy=right, speed=speed)


# The judge: NumPy only, from the model's logits


def answers(tt: Any, model: Any, data: Digits) -> np.ndarray:
    """The model's logits for all images, (count, 10) float64."""
    model.eval()
    with tt.no_grad():
        parts = [model(tt.Tensor(pixels(data.images[i : i + 1000]))).data for i in range(0, len(data), 1000)]
    logits = np.concatenate(parts).astype(np.float64)
    if logits.shape != (len(data), 10):
        raise ValueError(f"expected logits of shape {(len(data), 10)}, got {logits.shape}")
    return logits


def accuracy(logits: np.ndarray, data: Digits) -> float:
    """The share of images whose largest logit is the right one; a NaN is never right."""
    return float((logits.argmax(axis=1) == data.labels)[np.isfinite(logits).all(axis=1)].sum() / len(data))


def cross_entropy(logits: np.ndarray, data: Digits) -> float:
    """The mean of -log of the probability of the right digit."""
    return float(-np.log(np.maximum(probabilities(logits)[np.arange(len(data)), data.labels], 1e-300)).mean())


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The softmax of each row."""
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    return weights / weights.sum(axis=1, keepdims=True)


def values(model: Any) -> dict[str, np.ndarray]:
    """A copy of each parameter."""
    return {name: parameter.data.copy() for name, parameter in model.named_parameters()}


def fingerprint(model: Any) -> str:
    """A hash of all parameters: two runs with the same came to the same model, bit for bit."""
    digest = hashlib.sha256()
    for name, array in sorted(values(model).items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def first_gradient(tt: Any, model: Any, data: Digits) -> float:
    """The norm of the gradient that a loss sends to the first layer's weights."""
    batch = data[:BATCH]
    tt.CrossEntropyLoss()(model(tt.Tensor(pixels(batch.images))), batch.labels).backward()
    gradient = model[0].weight.grad
    for parameter in model.parameters():
        parameter.grad = None
    return 0.0 if gradient is None else float(np.linalg.norm(gradient))


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
    model = mlp(tt)
    before, gradient = values(model), first_gradient(tt, model, training)
    trainer = make_trainer(tt, model, epochs)
    run.go_on(trainer)
    fit(run, "MLP", trainer, (training, test), epochs, partial(run.keep, trainer))
    moved = sum(not np.array_equal(before[name], array) for name, array in values(model).items())

    tt.manual_seed(run.seed)
    single: list[dict[str, float]] = []
    other = make_trainer(tt, perceptron(tt), epochs)
    fit(run, "perceptron", other, (training, test), epochs, lambda **figures: single.append(figures))
    logits = answers(tt, model, test)
    right = accuracy(logits, test)
    run.metrics |= {
        "test accuracy": right,
        "test loss": cross_entropy(logits, test),
        "training loss": run.epochs[-1]["loss"],
        "perceptron's test accuracy": single[-1]["test_accuracy"],
        "training images per second": float(np.median([each["speed"] for each in run.epochs])),
        "parameters": sum(array.size for array in before.values()),
        "parameters sha256": fingerprint(model),
    }
    run.require(f"test images read, % of {len(test):,}", 100 * right, ">", 97)
    run.require("parameters that moved, of 4", moved, "==", len(before), full_only=False)
    run.require("gradient of the first layer at the start, its norm", gradient, ">", 0, full_only=False)

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
        right.axhline(3, color=GREY, linestyle=":")
        right.annotate(
            "asked: below 3 %",
            (0.98, 3),
            (0, 4),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color=GREY,
            ha="right",
        )
        right.set(yscale="log", xlabel="epoch", ylabel="%", title="Test images misread", ylim=(1, None))
        right.set_yticks([1, 2, 3, 5, 10], ["1", "2", "3", "5", "10"])
        right.set_xlim(0.5, len(single) * 1.18)


def draw_mistakes(run: Run, logits: np.ndarray, test: Digits) -> None:
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


def draw_early_stopping(run: Run, training: Digits) -> None:
    """A run on 1 training image in 60, which it soon knows by heart; others, kept apart, tell when to stop."""
    tt, epochs, patience = run.tinytorch, 3 if run.quick else 40, 5
    few, apart = training[: len(training) // 60], training[-(len(training) // 12) :]
    tt.manual_seed(run.seed)
    model = mlp(tt)
    trainer = tt.Trainer(model, tt.AdamW(model.parameters(), lr=RATE), tt.CrossEntropyLoss())
    stopping, stopped, found = tt.EarlyStopping(patience), None, []
    for epoch in range(1, epochs + 1):
        loss = trainer.train_epoch(Batches(few, run.seed, epoch, size=32))
        found.append((loss, *trainer.evaluate(Batches(apart, run.seed, 0, size=1000))))
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


def draw_memory(run: Run, training: Digits) -> None:
    """What a training step takes at its peak, and how many images a second go through, by batch size."""
    sizes = [size for size in (1, 4, 16, 64, 128, 256, 1024, 4096) if size <= len(training)]
    peaks, speeds = zip(*(step_cost(run, training[:size]) for size in sizes))
    fixed = 4 * sum(array.nbytes for array in values(mlp(run.tinytorch)).values())
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
            axes.axvline(BATCH, color=GREY, linestyle=":")
            axes.annotate(
                f"as in this run: {BATCH}",
                (BATCH, 0.03),
                (4, 0),
                xycoords=("data", "axes fraction"),
                textcoords="offset points",
                color=GREY,
            )


def step_cost(run: Run, batch: Digits) -> tuple[int, float]:
    """(bytes at the peak of a step, images per second), for a model, a trainer and a batch that are new."""
    tracemalloc.start()
    try:
        data = [(pixels(batch.images), batch.labels)]
        trainer = make_trainer(run.tinytorch, mlp(run.tinytorch), 1)
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
