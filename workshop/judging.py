"""What a milestone judges by, and the loop of epochs that milestones share.

The judge computes with NumPy alone, from what a model answers and what its parameters hold: no figure that decides is
made by the package that is judged.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from workshop.training_run import Run

AT_ONCE, WINDOWS_AT_ONCE = 250, 64  # images, and windows of a text, that a model is asked about in one call

# What is asked


@dataclass(frozen=True)
class Images:
    """Images, what they show, and how a model is given them.

    Attributes:
        images: (count, …) uint8.
        labels: (count,) int64, the number of the right class.
        to_inputs: makes some of the images a model's inputs, float32.
    """

    images: np.ndarray
    labels: np.ndarray
    to_inputs: Callable[[np.ndarray], np.ndarray]

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, chosen: Any) -> Images:
        return replace(self, images=self.images[chosen], labels=self.labels[chosen])

    @property
    def inputs(self) -> np.ndarray:
        return self.to_inputs(self.images)

    def figures(self, tt: Any, model: Any) -> dict[str, float]:
        """How good the model is on these images."""
        logits = answers(tt, model, self)
        return {"test_loss": cross_entropy(logits, self.labels), "test_accuracy": accuracy(logits, self.labels)}

    def told(self, figures: dict[str, float]) -> str:
        """These figures, for a line of what training says."""
        return f"{figures['test_accuracy']:.2%} of the test images right"


@dataclass(frozen=True)
class Text:
    """A text of tokens, each of which a model is asked to tell from those before it in the same window.

    Attributes:
        tokens: (count + 1,) integers; the first is not asked for.
        length: of a window; the last one may be shorter.
        characters: how many the tokens that are asked for stand for, so that tokenizers can be compared.
        every: 1 if all windows are asked about; n for the first of each n in turn, which is an estimate.
    """

    tokens: np.ndarray
    length: int
    characters: int
    every: int = 1

    def windows(self) -> list[np.ndarray]:
        """(windows, length + 1) each, at most WINDOWS_AT_ONCE; the last token of one is the first of the next."""
        starts = range(0, len(self.tokens) - 1, self.length * self.every)
        found = [self.tokens[start : start + self.length + 1] for start in starts]
        rest = [found.pop()[None]] if len(found[-1]) <= self.length else []
        return [np.stack(found[i : i + WINDOWS_AT_ONCE]) for i in range(0, len(found), WINDOWS_AT_ONCE)] + rest

    def nats(self, tt: Any, model: Any) -> float:
        """The mean of -log of the probability of the token that comes, for each character that they stand for."""
        total, asked = 0.0, 0
        for rows in self.windows():
            logits, targets = next_token_logits(tt, model, rows[:, :-1]), rows[:, 1:]
            total += cross_entropy(logits, targets) * targets.size
            asked += targets.size
        return total / asked * (len(self.tokens) - 1) / self.characters

    def figures(self, tt: Any, model: Any) -> dict[str, float]:
        """How good the model is on this text."""
        return {"test_loss": self.nats(tt, model)}

    def told(self, figures: dict[str, float]) -> str:
        """These figures, for a line of what training says."""
        return f"judged {figures['test_loss']:.4f} nats a character"


def next_token_logits(tt: Any, model: Any, tokens: np.ndarray) -> np.ndarray:
    """The model's logits (B, T, classes), float64, at each position of `tokens` (B, T)."""
    model.eval()
    with tt.no_grad():
        logits = model(tt.Tensor(tokens)).data.astype(np.float64)
    if logits.ndim != 3 or logits.shape[:2] != tokens.shape:
        raise ValueError(f"expected logits {(*tokens.shape, 'tokens')}, got {logits.shape}")
    return logits


def answers(tt: Any, model: Any, data: Images, classes: int = 10) -> np.ndarray:
    """The model's logits for all images, (count, classes) float64."""
    model.eval()
    with tt.no_grad():
        parts = [model(tt.Tensor(data[i : i + AT_ONCE].inputs)).data for i in range(0, len(data), AT_ONCE)]
    logits = np.concatenate(parts).astype(np.float64)
    if logits.shape != (len(data), classes):
        raise ValueError(f"expected logits of shape {(len(data), classes)}, got {logits.shape}")
    return logits


def seeing_ahead(tt: Any, model: Any, tokens: np.ndarray) -> int:
    """How many logits before the last of `tokens` (T,) change with it; any, and a model sees what it is asked for."""
    logits = next_token_logits(tt, model, np.stack([tokens, [*tokens[:-1], 1 if tokens[-1] == 0 else 0]]))
    return int((np.abs(logits[0, :-1] - logits[1, :-1]) > 1e-4).sum())


# How good the answers are


def accuracy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The share of `labels`, (…), that the largest of the logits, (…, classes), tells; a NaN is never right."""
    return float(((logits.argmax(axis=-1) == labels) & np.isfinite(logits).all(axis=-1)).mean())


def cross_entropy(logits: np.ndarray, labels: np.ndarray) -> float:
    """The mean of -log of the probability of the right class, in nats."""
    right = np.take_along_axis(probabilities(logits), labels[..., None], axis=-1)
    return float(-np.log(np.maximum(right, 1e-300)).mean())


def probabilities(logits: np.ndarray) -> np.ndarray:
    """The softmax along the last axis."""
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


# What training did to the model


def values(model: Any) -> dict[str, np.ndarray]:
    """A copy of each parameter, by its name."""
    return {name: parameter.data.copy() for name, parameter in model.named_parameters()}


def parameter_count(model: Any) -> int:
    """How many numbers training changes."""
    return sum(array.size for array in values(model).values())


def moved(before: dict[str, np.ndarray], model: Any) -> int:
    """How many of the model's parameters are not what they were in `before`, which `values` gave."""
    return sum(not np.array_equal(before[name], array) for name, array in values(model).items())


def fingerprint(model: Any) -> str:
    """A hash of all parameters: two runs with the same came to the same model, bit for bit."""
    digest = hashlib.sha256()
    for name, array in sorted(values(model).items()):
        digest.update(name.encode() + array.tobytes())
    return digest.hexdigest()


def gradient_norm(model: Any, loss: Callable[[], Any], weight: Any) -> float:
    """The norm of the gradient that `loss` sends to `weight`, a parameter of the model's; it leaves no trace.

    The model stays in evaluation mode, in which layers keep no running averages and draw no random numbers.
    """
    model.eval()
    loss().backward()
    gradient = weight.grad
    for parameter in model.parameters():
        parameter.grad = None
    return 0.0 if gradient is None else float(np.linalg.norm(gradient))


@dataclass(frozen=True)
class Start:
    """A model before its training: its parameters, and the norm of the gradient that reached its first layer."""

    values: dict[str, np.ndarray]
    gradient: float


def start_of(tt: Any, model: Any, data: Images) -> Start:
    """Called before training; `data` is a batch for the gradient."""
    loss = lambda: tt.CrossEntropyLoss()(model(tt.Tensor(data.inputs)), data.labels)
    return Start(values(model), gradient_norm(model, loss, model[0].weight))


def judge(run: Run, model: Any, start: Start, test: Images, what: str, bound: float) -> np.ndarray:
    """Report how good the trained model is: more than `bound` per cent of `test` shall be `what`, "images read".

    Returns:
        Its logits, (count, 10) float64.
    """
    logits = answers(run.tinytorch, model, test)
    right = accuracy(logits, test.labels)
    run.metrics |= {"test accuracy": right, "test loss": cross_entropy(logits, test.labels)}
    run.require(f"{what}, % of {len(test):,}", 100 * right, ">", bound)
    judge_training(run, model, start, "first layer")
    return logits


def judge_training(run: Run, model: Any, start: Start, first: str) -> None:
    """Report what training did: every parameter shall have moved, and a gradient have reached the `first` of them."""
    run.metrics |= {
        "training loss": run.epochs[-1]["loss"],
        "parameters": parameter_count(model),
        "parameters sha256": fingerprint(model),
    }
    count = len(start.values)
    run.require(f"parameters that moved, of {count}", moved(start.values, model), "==", count, full_only=False)
    run.require(f"gradient of the {first} at the start, its norm", start.gradient, ">", 0, full_only=False)


# Training


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


@dataclass(frozen=True)
class Plan:
    """What is trained with.

    Attributes:
        batches: gives the batches (inputs, targets) of the epoch whose number it is called with, counted from 0.
        samples: how many there are in an epoch.
        epochs: how many of them.
        unit: what a sample is, in the plural.
    """

    batches: Callable[[int], Iterable[tuple[Any, Any]]]
    samples: int
    epochs: int
    unit: str = "images"


def fit(
    run: Run, what: str, trainer: Any, plan: Plan, test: Images | Text, keep: Callable[..., object] | None = None
) -> list[dict[str, float]]:
    """Train until all epochs of `plan` are done; the trainer knows how many are. Its loss function is a `Watched`.

    Returns:
        For each epoch that was trained here its `loss`, what the judge finds (`test_loss`, and of images
        `test_accuracy`), and the `seconds` and `cpu_seconds`, of all threads together, that training took. `keep` is
        called with each of them as it is done.
    """
    done = []
    with run.bar(what, plan.epochs * plan.samples, plan.unit, trainer.epoch * plan.samples) as advance:
        for epoch in range(trainer.epoch, plan.epochs):
            began, cpu = time.perf_counter(), time.process_time()
            loss = trainer.train_epoch(_watched(plan.batches(epoch), trainer.loss_fn, advance))
            took = {"seconds": time.perf_counter() - began, "cpu_seconds": time.process_time() - cpu}
            figures = {"loss": _number(loss), **test.figures(run.tinytorch, trainer.model), **took}
            run.say(
                f"{what}, epoch {epoch + 1:{len(str(plan.epochs))}} of {plan.epochs}: loss {figures['loss']:.4f}, "
                f"{test.told(figures)}, {took['seconds']:.1f} s, {plan.samples / took['seconds']:,.0f} {plan.unit}/s"
            )
            done.append(figures)
            if keep:
                keep(**figures)
    return done


def _watched(
    batches: Iterable[tuple[Any, Any]], loss_fn: Watched, advance: Callable[[int, float], None]
) -> Iterator[tuple[Any, Any]]:
    """The batches, each of them told to the progress bar when the trainer asks for the next."""
    for inputs, targets in batches:
        yield inputs, targets
        advance(len(targets), loss_fn.last)


def _number(loss: Any) -> float:
    try:
        return float(loss)
    except TypeError:
        raise TypeError(f"Trainer.train_epoch: expected the mean loss of the epoch, a number, got {loss!r}") from None
