"""What milestones judge by: figures computed from what a model answers, whatever the package thinks of itself."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from workshop import surroundings
from workshop.judging import (
    Images,
    Plan,
    Text,
    accuracy,
    answers,
    cross_entropy,
    fingerprint,
    fit,
    moved,
    probabilities,
    values,
)

LOGITS = np.array([[2.0, 0.0], [0.0, 3.0], [1.0, 1.5]])


class Model:
    """Two parameters, and for every image the same logits."""

    def __init__(self, logits: tuple[float, ...] = (0.0, 1.0)) -> None:
        self.parts = {"a": SimpleNamespace(data=np.zeros(2)), "b": SimpleNamespace(data=np.ones(3))}
        self.logits, self.training = np.array(logits), True

    def named_parameters(self) -> list[tuple[str, Any]]:
        return list(self.parts.items())

    def eval(self) -> None:
        self.training = False

    def __call__(self, x: np.ndarray) -> Any:
        return SimpleNamespace(data=np.tile(self.logits, (len(x), 1)))


class Off:
    def __enter__(self) -> None: ...

    def __exit__(self, *error: object) -> None: ...


TT = SimpleNamespace(Tensor=lambda x: x, no_grad=Off)


def images(count: int) -> Images:
    return Images(np.zeros((count, 4), np.uint8), np.arange(count) % 2, lambda some: some / np.float32(255))


def test_accuracy_counts_the_largest_logit_and_never_a_nan() -> None:
    assert accuracy(LOGITS, np.array([0, 1, 0])) == pytest.approx(2 / 3)
    broken = LOGITS.copy()
    broken[0, 0] = np.nan  # argmax takes it for the largest
    assert accuracy(broken, np.array([0, 1, 0])) == pytest.approx(1 / 3)
    assert accuracy(LOGITS.reshape(3, 1, 2), np.array([[0], [1], [1]])) == 1


def test_cross_entropy_is_the_mean_over_all_labels() -> None:
    labels = np.array([0, 1, 0])
    by_hand = [np.log(1 + np.exp(-2.0)), np.log(1 + np.exp(-3.0)), np.log(1 + np.exp(0.5))]
    assert cross_entropy(LOGITS, labels) == pytest.approx(np.mean(by_hand))
    assert cross_entropy(LOGITS[None], labels[None]) == cross_entropy(LOGITS, labels)
    assert cross_entropy(np.array([[0.0, 1e4]]), np.array([0])) > 600  # far, and finite
    assert probabilities(np.array([[1e4, 1e4]])) == pytest.approx(0.5)


def test_parameters_that_moved_are_counted() -> None:
    model = Model()
    before, name = values(model), fingerprint(model)
    assert (moved(before, model), fingerprint(model)) == (0, name)
    model.parts["b"].data[1] += 1e-7
    assert moved(before, model) == 1 and fingerprint(model) != name


def test_answers_are_asked_in_evaluation_and_of_all_images() -> None:
    model = Model()
    assert answers(TT, model, images(251), classes=2).shape == (251, 2) and not model.training
    with pytest.raises(ValueError, match=r"expected logits of shape \(3, 10\), got \(3, 2\)"):
        answers(TT, model, images(3))


class Writer:
    """Knows one probability of each of three tokens, whatever comes before; counts what it is asked."""

    def __init__(self, *probabilities: float) -> None:
        self.logits, self.asked = np.log(probabilities), 0

    def eval(self) -> None: ...

    def __call__(self, tokens: np.ndarray) -> Any:
        self.asked += tokens.size
        return SimpleNamespace(data=np.broadcast_to(self.logits, (*tokens.shape, 3)))


def test_every_token_of_a_text_is_asked_for_once() -> None:
    tokens = np.array([2, *[0, 1] * 100, 0])  # 201 asked for, of which 101 are 0
    for length in (1, 7, 67, 500):
        writer = Writer(0.5, 0.3, 0.2)
        by_hand = -(101 * np.log(0.5) + 100 * np.log(0.3))
        assert Text(tokens, length, 201).nats(TT, writer) == pytest.approx(by_hand / 201)
        assert writer.asked == 201
    pairs = Text(tokens, 7, 402)  # each token stands for two characters
    assert pairs.nats(TT, Writer(0.5, 0.3, 0.2)) == pytest.approx(by_hand / 402)
    some, writer = Text(tokens, 10, 201, every=5), Writer(0.5, 0.3, 0.2)
    assert some.figures(TT, writer)["test_loss"] == pytest.approx(-np.log(0.15) / 2, abs=0.02)
    assert writer.asked == 41  # windows 0, 5, 10, 15, and the last, of one token


def test_logits_that_are_none_are_no_loss() -> None:
    tokens = np.array([0, 1, 2])
    assert Text(tokens, 2, 2).nats(TT, Writer(1 / 3, 1 / 3, 1 / 3)) == pytest.approx(np.log(3))
    assert np.isnan(Text(tokens, 2, 2).nats(TT, Writer(np.nan, 0.5, 0.5)))
    with pytest.raises(ValueError, match="expected logits"):
        Text(tokens, 2, 2).nats(TT, Flat())


class Flat:
    """Answers with an axis too few."""

    def eval(self) -> None: ...

    def __call__(self, tokens: np.ndarray) -> Any:
        return SimpleNamespace(data=np.zeros((tokens.size, 3)))


def test_peak_memory_is_of_the_process_or_else_of_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    array = lambda: np.ones(3_000_000)
    megabytes, of_what = surroundings.peak_memory(array)
    assert ("the whole process" in of_what) == (sys.platform != "win32")
    monkeypatch.setitem(sys.modules, "resource", None)  # as where there is none
    megabytes, of_what = surroundings.peak_memory(array)
    assert 24 <= megabytes < 25 and "a training step" in of_what


class Trainer:
    """Goes through its batches, and says that the loss is `loss`."""

    def __init__(self, loss: Any, epoch: int = 0) -> None:
        self.loss, self.epoch, self.seen = loss, epoch, []
        self.model, self.loss_fn = Model(tuple(range(10))), SimpleNamespace(last=0.5)

    def train_epoch(self, batches: Any) -> Any:
        self.seen.append([inputs for inputs, _ in batches])
        self.epoch += 1
        return self.loss


class Quiet:
    """What `fit` needs of a run."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.progress = 0
        self.say, self.tinytorch = self.said.append, TT

    def bar(self, what: str, total: int, unit: str, done: int) -> Quiet:
        self.progress = done
        return self

    def __enter__(self) -> Any:
        return self.advance

    def __exit__(self, *error: object) -> None: ...

    def advance(self, count: int, loss: float) -> None:
        self.progress += count


def test_fit_goes_on_where_the_trainer_is_and_keeps_each_epoch() -> None:
    plan = Plan(lambda epoch: [(f"epoch {epoch}", [0, 1])] * 2, samples=4, epochs=3)
    run, trainer, kept = Quiet(), Trainer(0.25, epoch=1), []
    done = fit(run, "model", trainer, plan, images(20), lambda **figures: kept.append(figures))  # type: ignore[arg-type]
    assert trainer.seen == [["epoch 1"] * 2, ["epoch 2"] * 2]
    assert done == kept and [each["loss"] for each in done] == [0.25, 0.25]
    assert set(done[0]) == {"loss", "test_loss", "test_accuracy", "seconds", "cpu_seconds"}
    assert run.progress == 12 and run.said[0].startswith("model, epoch 2 of 3: loss 0.2500, ")


def test_a_loss_that_is_none_is_told() -> None:
    with pytest.raises(TypeError, match="expected the mean loss of the epoch, a number, got None"):
        fit(Quiet(), "model", Trainer(None), Plan(lambda epoch: [], 1, 1), images(2))  # type: ignore[arg-type]
