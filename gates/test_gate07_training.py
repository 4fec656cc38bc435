"""Gate 07: training."""

import math
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinytorch import (
    SGD,
    AdamW,
    CosineSchedule,
    CrossEntropyLoss,
    Dropout,
    EarlyStopping,
    Layer,
    Linear,
    ReLU,
    Sequential,
    Tensor,
    Trainer,
    clip_grad_norm,
    manual_seed,
)
from tinytorch.core.checkpoints import read_state
from tinytorch.core.rng import generator
from tinytorch.systems.training import largest_batch, micro_batches, step_peak, travel
from workshop.checks import close, equal, exercise, holds, raises

# A model, a loss and their gradients, all by the gate itself


class Affine(Layer):
    """x @ weight + bias in float64, for Tensors alone; notes how it is called."""

    def __init__(self, seed: int = 0) -> None:
        draw = np.random.default_rng(seed).normal
        self.weight = Tensor(draw(size=(3, 2)), requires_grad=True)
        self.bias = Tensor(draw(size=2), requires_grad=True)
        self.calls: list[Any] = []

    def forward(self, x: Tensor) -> Tensor:
        result = x.matmul(self.weight) + self.bias  # only a Tensor has matmul
        self.calls.append((len(x), self.training, result.requires_grad))
        return result


def squared(predictions: Tensor, targets: Any) -> Tensor:
    """The mean of the squared differences."""
    difference = predictions - Tensor(targets)
    return (difference * difference).mean()


def batches(*sizes: int, seed: int = 1) -> list[tuple[np.ndarray, np.ndarray]]:
    draw = np.random.default_rng(seed).normal
    return [(draw(size=(size, 3)), draw(size=(size, 2))) for size in sizes]


def joined(group: list[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([x for x, _ in group]), np.concatenate([y for _, y in group])


def loss_at(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> float:
    """The squared loss of an Affine with these six weights and two biases."""
    return float(np.mean((x @ values[:6].reshape(3, 2) + values[6:] - y) ** 2))


def gradient_at(values: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    error = x @ values[:6].reshape(3, 2) + values[6:] - y
    return np.concatenate([(x.T @ error).ravel(), error.sum(axis=0)]) * (2 / error.size)


def values(model: Layer) -> np.ndarray:
    return np.concatenate([parameter.data.ravel() for parameter in model.parameters()])


def trainer_of(model: Layer, lr: float = 0.1, **settings: Any) -> Trainer:
    return Trainer(model, SGD(model.parameters(), lr=lr, momentum=0.0), squared, **settings)


class Counting(SGD):
    """Notes the learning rate of each step."""

    def step(self) -> None:
        vars(self).setdefault("taken", []).append(self.lr)
        super().step()


def large_model() -> Sequential:
    manual_seed(0)
    return Sequential(Linear(20, 100), ReLU(), Linear(100, 100), ReLU(), Linear(100, 2))


def large_group(size: int) -> list[Any]:
    draw = np.random.default_rng(0).normal
    return [(draw(size=(size, 20)).astype(np.float32), draw(size=(size, 2)).astype(np.float32))]


def measured_peak(trainer: Trainer, group: list[Any]) -> int:
    """By the gate itself: the highest that a step goes above what was allocated before it."""
    trainer_of(large_model()).train_step(large_group(4))  # the first step in a process leaves caches behind
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    trainer.train_step(group)
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return peak


def beside(answer: Any, measured: float) -> str:
    """An answer, and in words how it compares: words are the same on every machine, measured bytes are not."""
    words = (
        (0.01, "next to nothing"),
        (0.6, "far less"),
        (0.97, "less"),
        (1.03, "about that"),
        (1.7, "more"),
        (5, "far more"),
    )
    word = next((word for limit, word in words if answer < limit * measured), "many times as much")
    return f"{answer}: {word}"


def classifier(seed: int) -> Sequential:
    manual_seed(seed)
    return Sequential(Linear(6, 16), ReLU(), Dropout(0.5), Linear(16, 3))


def classes(count: int, size: int, seed: int = 2) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of three well-separated clouds of points; the last one is smaller."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, 6)) * 3
    targets = [rng.integers(0, 3, size if i < count - 1 else size // 2) for i in range(count)]
    return [((centres[t] + rng.normal(size=(len(t), 6))).astype(np.float32), t) for t in targets]


# Clipping


def with_gradients(*gradients: Any, dtype: Any = np.float64) -> list[Tensor]:
    tensors = [Tensor(np.zeros(np.shape(g), dtype), requires_grad=True) for g in gradients]
    for tensor, gradient in zip(tensors, gradients):
        tensor.grad = None if gradient is None else np.array(gradient, dtype)
    return tensors


@exercise("clip_grad_norm")
def test_clip_together() -> None:
    """one norm over all gradients and one factor for all, as in PyTorch"""
    # Made with torch.nn.utils.clip_grad_norm_([a, b, c], 2.5) of PyTorch 2.13.0; c has no gradient.
    a, b, c = with_gradients([[3.0, -4.0], [0.0, 12.0]], [84.0, 0.0, -0.5], None)
    given = "gradients [[3, -4], [0, 12]], [84, 0, -0.5] and None, max_norm=2.5"
    norm = clip_grad_norm([a, b, c], 2.5)
    close(a.grad, [[0.08823376655706, -0.11764502207607], [0.0, 0.35293506622822]], "a.grad", given, 1e-12)
    close(b.grad, [2.47054546359752, 0.0, -0.0147056277595], "b.grad", given, 1e-12)
    equal(c.grad, None, "c.grad", given)
    close(norm, 85.00147057551416, "what it returns: the norm before", given, 1e-12)


@exercise("clip_grad_norm")
def test_clip_leaves_short_ones_alone() -> None:
    """gradients whose norm is below max_norm stay as they are"""
    a, b = with_gradients([3.0], [4.0])
    close(clip_grad_norm([a, b], 5.1), 5.0, "what it returns", "gradients [3] and [4], max_norm=5.1", 1e-12)
    close(np.array([a.grad.item(), b.grad.item()]), [3.0, 4.0], "the gradients", "norm 5, max_norm=5.1", 0.0)


@exercise("clip_grad_norm")
def test_clip_takes_any_iterable() -> None:
    """parameters may come from a generator, and none may have a gradient"""
    tensors = with_gradients([3.0], [4.0], None)
    norm = clip_grad_norm((tensor for tensor in tensors), 1.0)
    close(norm, 5.0, "what it returns", "a generator of parameters", 1e-12)
    close(
        np.array([tensors[0].grad.item(), tensors[1].grad.item()]),
        [0.6, 0.8],
        "the gradients",
        "a generator, max_norm=1",
        1e-6,
    )
    close(clip_grad_norm(with_gradients(None, None), 1.0), 0.0, "what it returns", "no parameter has a gradient", 0.0)


@exercise("clip_grad_norm")
def test_clip_of_float32() -> None:
    """float32 gradients stay float32, and their squares do not overflow"""
    (a,) = with_gradients([3e25, 4e25], dtype=np.float32)
    norm = clip_grad_norm([a], 10.0)
    close(norm / 1e25, 5.0, "what it returns, / 1e25", "gradient [3e25, 4e25], float32")
    close(a.grad, [6.0, 8.0], "the gradient", "gradient [3e25, 4e25], max_norm=10", dtype=np.float32)


@exercise("clip_grad_norm")
def test_clip_refuses_what_is_not_finite() -> None:
    """a norm that is not finite is a ValueError, and no gradient is changed"""
    for wrong in (math.nan, math.inf):
        a, b = with_gradients([8.0, 6.0], [wrong])
        raises(ValueError, lambda a=a, b=b: clip_grad_norm([a, b], 1.0), f"gradients [8, 6] and [{wrong}]")
        close(a.grad, [8.0, 6.0], "the other gradient afterwards", f"gradients [8, 6] and [{wrong}]", 0.0)


# Schedule

# Learning rates of the epochs from 0 on by PyTorch 2.13.0: CosineAnnealingLR(optimizer, T_max=total_epochs -
# warmup_epochs, eta_min=min_lr), after LinearLR(optimizer, start_factor=1 / (warmup_epochs + 1),
# total_iters=warmup_epochs), joined by SequentialLR(milestones=[warmup_epochs]).
RATES = {
    (0.1, 0.0, 6, 0): (0.1, 0.0933012701892, 0.075, 0.05, 0.025, 0.00669872981078, 0.0),
    (0.5, 0.02, 5, 0): (0.5, 0.45416407865, 0.33416407865, 0.18583592135, 0.06583592135, 0.02),
    (0.2, 0.01, 9, 4): (
        0.04,
        0.08,
        0.12,
        0.16,
        0.2,
        0.181856614466,
        0.134356614466,
        0.0756433855344,
        0.0281433855344,
        0.01,
    ),
    (1.0, 0.1, 3, 1): (0.5, 1.0, 0.55, 0.1),
}


@exercise("CosineSchedule.get_lr")
def test_cosine() -> None:
    """half a cosine from max_lr in epoch 0 to min_lr in epoch total_epochs, as in PyTorch"""
    for settings in ((0.1, 0.0, 6, 0), (0.5, 0.02, 5, 0)):
        schedule = CosineSchedule(*settings)
        for epoch, expected in enumerate(RATES[settings]):
            close(schedule.get_lr(epoch), expected, f"get_lr({epoch})", f"CosineSchedule{settings[:3]}", 1e-11)


@exercise("CosineSchedule.get_lr")
def test_warmup() -> None:
    """equal steps up to max_lr in epoch warmup_epochs, then the cosine over what is left, as in PyTorch"""
    for settings in ((0.2, 0.01, 9, 4), (1.0, 0.1, 3, 1)):
        schedule = CosineSchedule(*settings)
        for epoch, expected in enumerate(RATES[settings]):
            close(schedule.get_lr(epoch), expected, f"get_lr({epoch})", f"CosineSchedule{settings}", 1e-11)


@exercise("CosineSchedule.get_lr")
def test_schedule_between_and_after() -> None:
    """a fraction lies between two epochs, after the end the rate stays min_lr, and asking changes nothing"""
    schedule = CosineSchedule(1.0, 0.2, 10, 2)
    quarter, fifth = 0.2 + 0.4 * (1 + math.cos(math.pi / 4)), 0.2 + 0.4 * (1 + math.cos(math.pi / 5))
    asked = ((13, 0.2), (6, 0.6), (10, 0.2), (11, 0.2), (0.5, 0.5), (4, quarter), (2.0, 1.0), (6, 0.6), (3.6, fifth))
    for epoch, expected in asked:
        given = "CosineSchedule(1.0, 0.2, 10, 2), asked for 13, 6, 10, 11, 0.5 … in this order"
        close(schedule.get_lr(epoch), expected, f"get_lr({epoch})", given, 1e-12)


# Early stopping


def check_stopping(patience: int, losses: list[float], *expected: tuple[bool, float, int, int]) -> None:
    """After each loss: the answer, best, best_epoch and waited."""
    stopping = EarlyStopping(patience)
    for epoch, (loss, after) in enumerate(zip(losses, expected)):
        answer = stopping.step(loss)
        found = np.array([float(answer), stopping.best, stopping.best_epoch, stopping.waited])
        given = f"EarlyStopping({patience}), losses {losses[: epoch + 1]}"
        close(found, np.array(after, dtype=float), "[stop, best, best_epoch, waited]", given, 0.0)


@exercise("EarlyStopping.step")
def test_stops_after_patience() -> None:
    """it stops in the patience-th epoch in a row without a new lowest loss, and goes on saying so"""
    equal(EarlyStopping(1).step(1.0), False, "step(1.0)", "the first loss")
    check_stopping(
        2, [3.0, 2.0, 2.5, 2.4], (False, 3.0, 0, 0), (False, 2.0, 1, 0), (False, 2.0, 1, 1), (True, 2.0, 1, 2)
    )
    check_stopping(
        1, [3.0, 2.0, 2.5, 2.4], (False, 3.0, 0, 0), (False, 2.0, 1, 0), (True, 2.0, 1, 1), (True, 2.0, 1, 2)
    )
    check_stopping(
        3, [1.0, 2.0, 3.0, 4.0], (False, 1.0, 0, 0), (False, 1.0, 0, 1), (False, 1.0, 0, 2), (True, 1.0, 0, 3)
    )


@exercise("EarlyStopping.step")
def test_a_better_loss_starts_anew() -> None:
    """a new lowest loss resets the wait, and lower than the last one is not enough"""
    check_stopping(
        2, [3.0, 3.5, 2.0, 2.5], (False, 3.0, 0, 0), (False, 3.0, 0, 1), (False, 2.0, 2, 0), (False, 2.0, 2, 1)
    )
    check_stopping(2, [1.0, 5.0, 4.0], (False, 1.0, 0, 0), (False, 1.0, 0, 1), (True, 1.0, 0, 2))
    check_stopping(
        2, [0.5, -0.5, -0.2, -1.0], (False, 0.5, 0, 0), (False, -0.5, 1, 0), (False, -0.5, 1, 1), (False, -1.0, 3, 0)
    )


@exercise("EarlyStopping.step")
def test_equal_is_no_better() -> None:
    """a loss that equals the best counts as waiting"""
    check_stopping(2, [2.0, 2.0, 2.0], (False, 2.0, 0, 0), (False, 2.0, 0, 1), (True, 2.0, 0, 2))


@exercise("EarlyStopping.step")
def test_not_a_number_is_no_better() -> None:
    """NaN counts as waiting, also in the first epoch"""
    check_stopping(2, [2.0, math.nan, math.nan], (False, 2.0, 0, 0), (False, 2.0, 0, 1), (True, 2.0, 0, 2))
    check_stopping(3, [math.nan, 1.0, 2.0], (False, math.inf, -1, 1), (False, 1.0, 1, 0), (False, 1.0, 1, 1))


# One step


@exercise("Trainer.train_step")
def test_step_of_one_batch() -> None:
    """the parameters take the optimizer's step, and the loss is that from before it"""
    for size in (5, 1):
        model, (x, y) = Affine(), batches(size)[0]
        before = values(model)
        loss = trainer_of(model).train_step([(x, y)])
        given = f"one batch of {size}, SGD(lr=0.1, momentum=0)"
        close(values(model), before - 0.1 * gradient_at(before, x, y), "the parameters", given, 1e-12, np.float64)
        close(float(loss), loss_at(before, x, y), "what it returns", given, 1e-12)


@exercise("Trainer.train_step")
def test_step_of_a_group_is_that_of_the_large_batch() -> None:
    """several batches, of any sizes, take the one step of the large batch that they make together"""
    for sizes in ((4, 4), (5, 3, 1), (1, 7)):
        model, group = Affine(), batches(*sizes)
        optimizer = Counting(model.parameters(), lr=0.1, momentum=0.0)
        before, (x, y) = values(model), joined(group)
        loss = Trainer(model, optimizer, squared, accumulate=len(sizes)).train_step(group)
        given = f"batches of {sizes} samples, SGD(lr=0.1, momentum=0)"
        equal(len(vars(optimizer).get("taken", [])), 1, "the number of optimizer.step() calls", given)
        close(values(model), before - 0.1 * gradient_at(before, x, y), "the parameters", given, 1e-12, np.float64)
        close(float(loss), loss_at(before, x, y), "what it returns", given, 1e-12)


@exercise("Trainer.train_step")
def test_step_needs_the_memory_of_one_batch() -> None:
    """eight small batches need less than half the memory of the large one"""
    (x, y), *_ = large_group(512)
    large = measured_peak(trainer_of(large_model(), 1e-3), [(x, y)])
    small = measured_peak(trainer_of(large_model(), 1e-3), [(x[i : i + 64], y[i : i + 64]) for i in range(0, 512, 64)])
    given = f"512 samples: {large} bytes at once (tracemalloc)"
    holds(small < large / 2, f"less than {large // 2} bytes in 8 batches", beside(small, large / 2), given)


@exercise("Trainer.train_step")
def test_old_gradients_do_not_count() -> None:
    """gradients left from before have no part in the step"""
    model, (x, y) = Affine(), batches(4)[0]
    trainer, before = trainer_of(model), values(model)
    for parameter in model.parameters():
        parameter.grad = np.full(parameter.shape, 1000.0)
    trainer.train_step([(x, y)])
    given = "every gradient was 1000 before the step"
    close(values(model), before - 0.1 * gradient_at(before, x, y), "the parameters", given, 1e-12)
    second = values(model)
    trainer.train_step([(x, y)])
    close(values(model), second - 0.1 * gradient_at(second, x, y), "the parameters", "a second step", 1e-12)


@exercise("Trainer.train_step")
def test_step_clips_the_whole_gradient() -> None:
    """with max_norm, the gathered gradient of all parameters together is clipped to it; without, nothing is"""
    for sizes in ((6,), (4, 1, 3)):
        model, group = Affine(), batches(*sizes)
        before, (x, y) = values(model), joined(group)
        gradient = gradient_at(before, x, y)
        norm = float(np.sqrt((gradient**2).sum()))
        trainer_of(model, max_norm=norm / 3).train_step(group)
        expected = before - 0.1 * gradient / 3
        close(values(model), expected, "the parameters", f"batches of {sizes}, norm {norm:.4f}, max_norm a third", 1e-6)
        model = Affine()
        trainer_of(model, max_norm=norm * 2).train_step(group)
        close(
            values(model),
            before - 0.1 * gradient,
            "the parameters",
            f"batches of {sizes}, max_norm twice the norm",
            1e-12,
        )


@exercise("Trainer.train_step")
def test_step_refuses_a_loss_that_is_not_finite() -> None:
    """a loss that is NaN or infinite is a ValueError, and no parameter is changed, whichever batch it comes from"""
    for wrong in (math.nan, math.inf):
        for bad in (0, 1, 2):
            model, group = Affine(), batches(3, 3, 3)
            group[bad][1][0, 0] = wrong
            trainer, before = trainer_of(model), values(model)
            given = f"a target of {wrong} in batch {bad + 1} of 3"
            raises(ValueError, lambda trainer=trainer, group=group: trainer.train_step(group), given)
            close(values(model), before, "the parameters afterwards", given, 0.0)


@exercise("Trainer.train_step")
def test_step_takes_arrays_tensors_and_lists() -> None:
    """inputs and targets are arrays, Tensors or lists"""
    x, y = batches(4)[0]
    expected = Affine()
    before = values(expected)
    wanted = before - 0.1 * gradient_at(before, x, y)
    for kind, (inputs, targets) in (("Tensors", (Tensor(x), Tensor(y))), ("float64 arrays", (x, y))):
        model = Affine()
        trainer_of(model).train_step([(inputs, targets)])
        close(values(model), wanted, "the parameters", f"a batch of {kind}", 1e-12)
    model = Affine()
    trainer_of(model).train_step([(x.tolist(), y.tolist())])
    close(values(model), wanted, "the parameters", "a batch of nested lists", 1e-6)


# One epoch


@exercise("Trainer.train_epoch")
def test_epoch_trains() -> None:
    """every parameter moves, and the loss and accuracy that the gate itself computes get good"""
    model, data = classifier(1), classes(8, 16)
    start = [parameter.data.copy() for parameter in model.parameters()]
    trainer = Trainer(model, AdamW(model.parameters(), lr=0.02), CrossEntropyLoss())
    losses = [trainer.train_epoch(data) for _ in range(6)]
    for (name, parameter), old in zip(model.named_parameters(), start):
        moved = float(np.abs(parameter.data - old).max())
        holds(moved > 1e-3, f"{name} has moved", f"at most by {moved:.1e}", "six epochs with AdamW(lr=0.02)")
    (weight1, bias1, weight2, bias2), (x, targets) = (p.data for p in model.parameters()), joined(data)
    logits = np.maximum(x @ weight1 + bias1, 0) @ weight2 + bias2
    accuracy = float((logits.argmax(axis=1) == targets).mean())
    holds(accuracy > 0.95, "an accuracy above 0.95 on three separate clouds", f"{accuracy:.3f}", "six epochs")
    holds(losses[-1] < losses[0] / 2, "a loss that falls by half", f"{losses[0]:.3f} to {losses[-1]:.3f}", "six epochs")


@exercise("Trainer.train_epoch")
def test_epoch_loss_is_the_mean_over_samples() -> None:
    """a small last batch counts for less in the loss that comes back"""
    for accumulate in (1, 2):
        model, data = Affine(), batches(5, 5, 5, 2)
        loss = trainer_of(model, lr=0.0, accumulate=accumulate).train_epoch(data)
        expected = loss_at(values(model), *joined(data))
        close(float(loss), expected, "what it returns", f"batches of 5, 5, 5, 2, lr=0, accumulate={accumulate}", 1e-12)


@exercise("Trainer.train_epoch")
def test_epoch_goes_group_by_group() -> None:
    """each batch is used once, in order; `accumulate` batches make a step, and what is left over makes a last one"""
    for accumulate, groups in (
        (1, ((0,), (1,), (2,), (3,), (4,))),
        (2, ((0, 1), (2, 3), (4,))),
        (9, ((0, 1, 2, 3, 4),)),
    ):
        model, data = Affine(), batches(4, 3, 5, 2, 1)
        optimizer = Counting(model.parameters(), lr=0.1, momentum=0.0)
        expected = values(model)
        for group in groups:
            expected = expected - 0.1 * gradient_at(expected, *joined([data[i] for i in group]))
        Trainer(model, optimizer, squared, accumulate=accumulate).train_epoch(data)
        given = f"batches of 4, 3, 5, 2, 1, accumulate={accumulate}"
        equal([size for size, *_ in model.calls], [4, 3, 5, 2, 1], "the sizes of the batches that the model saw", given)
        equal(len(vars(optimizer).get("taken", [])), len(groups), "the number of optimizer steps", given)
        close(values(model), expected, "the parameters", given, 1e-12, np.float64)


@exercise("Trainer.train_epoch")
def test_epoch_takes_any_iterable() -> None:
    """a list, a tuple, lists as batches, a generator that can be gone through once: all the same"""
    data = batches(4, 4, 1)
    kinds: tuple[tuple[str, Any], ...] = (
        ("a list of tuples", data),
        ("a tuple of lists", tuple([x, y] for x, y in data)),
        ("a generator", (batch for batch in data)),
    )
    expected = Affine()
    for x, y in data:
        at = values(expected)
        for parameter, change in zip(expected.parameters(), np.split(gradient_at(at, x, y), [6])):
            parameter.data -= 0.1 * change.reshape(parameter.shape)
    for name, dataloader in kinds:
        model = Affine()
        trainer_of(model).train_epoch(dataloader)
        close(values(model), values(expected), "the parameters", f"batches of 4, 4, 1 in {name}", 1e-12)


@exercise("Trainer.train_epoch")
def test_epoch_reads_as_it_goes() -> None:
    """no batch is asked for before its group is due"""
    for accumulate in (1, 2):
        model, seen = Affine(), []

        def read(model: Affine = model, seen: list[int] = seen) -> Iterator[tuple[np.ndarray, np.ndarray]]:
            for batch in batches(2, 2, 2, 2, 2, 2):
                seen.append(len(model.calls))
                yield batch

        trainer_of(model, accumulate=accumulate).train_epoch(read())
        expected = [number // accumulate * accumulate for number in range(6)]
        given = f"six batches, accumulate={accumulate}"
        equal(seen, expected, "batches gone through when each was asked for", given)


@exercise("Trainer.train_epoch")
def test_epoch_trains_in_training_mode() -> None:
    """the model is in training mode, whatever it was in before"""
    for before in (True, False):
        model = Affine()
        model.train(before)
        trainer_of(model).train_epoch(batches(2, 2))
        modes = [training for _, training, _ in model.calls]
        equal(modes, [True, True], "model.training in each batch", f"model.train({before}) before the epoch")


@exercise("Trainer.train_epoch")
def test_epoch_asks_the_schedule() -> None:
    """optimizer.lr is schedule.get_lr(epoch) throughout, from epoch 0 on; without a schedule it is left alone"""
    model = Affine()
    optimizer = Counting(model.parameters(), lr=0.7, momentum=0.0)
    trainer = Trainer(model, optimizer, squared, schedule=CosineSchedule(0.04, 0.0, 4, 1))
    for _ in range(3):
        trainer.train_epoch(batches(2, 2))
    given = "CosineSchedule(0.04, 0.0, 4, 1), three epochs of two batches"
    close(
        np.array(vars(optimizer).get("taken", [])),
        [0.02, 0.02, 0.04, 0.04, 0.03, 0.03],
        "lr in each step",
        given,
        1e-12,
    )
    optimizer = Counting(model.parameters(), lr=0.01)
    Trainer(model, optimizer, squared).train_epoch(batches(2))
    close(np.array(vars(optimizer).get("taken", [])), [0.01], "lr in each step", "no schedule, lr=0.01", 0.0)


@exercise("Trainer.train_epoch")
def test_epochs_are_counted() -> None:
    """trainer.epoch is the number of epochs done; one without a batch is a ValueError and does not count"""
    trainer = trainer_of(Affine())
    for done in (1, 2):
        trainer.train_epoch(batches(2, 2, 2))
        equal(trainer.epoch, done, "trainer.epoch", f"{done} epochs of three batches")
    raises(ValueError, lambda: trainer.train_epoch([]), "train_epoch([])")
    raises(ValueError, lambda: trainer.train_epoch(iter([])), "train_epoch(iter([]))")
    equal(trainer.epoch, 2, "trainer.epoch", "after two empty epochs")


# Evaluation


@exercise("Trainer.evaluate")
def test_evaluate() -> None:
    """the mean loss over all samples and the share of right classes, as the gate itself computes them"""
    model, data = classifier(1), classes(4, 8)
    (weight1, bias1, weight2, bias2), (x, targets) = (p.data for p in model.parameters()), joined(data)
    logits = (np.maximum(x @ weight1 + bias1, 0) @ weight2 + bias2).astype(np.float64)
    largest = logits.max(axis=1)
    log_sum = largest + np.log(np.exp(logits - largest[:, None]).sum(axis=1))
    expected = float((log_sum - logits[np.arange(len(targets)), targets]).mean())
    accuracy = float((logits.argmax(axis=1) == targets).mean())
    trainer = Trainer(model, SGD(model.parameters()), CrossEntropyLoss())
    tensors, lists = [(Tensor(x), Tensor(t)) for x, t in data], [(x.tolist(), t.tolist()) for x, t in data]
    for kind, dataloader in (("arrays", data), ("Tensors", tensors), ("lists", lists), ("a generator", iter(data))):
        found = trainer.evaluate(dataloader)
        given = f"28 samples in batches of 8, 8, 8, 4, as {kind}"
        holds(isinstance(found, tuple) and len(found) == 2, "a tuple (loss, accuracy)", found, given)
        close(float(found[0]), expected, "the loss", given, 1e-5)
        close(found[1], accuracy, "the accuracy", given, 1e-12)


@exercise("Trainer.evaluate")
def test_evaluate_without_classes() -> None:
    """the accuracy is None if the targets are no classes"""
    for kind, data in (
        ("floats", batches(3, 2)),
        ("a list of floats", [(x.tolist(), y.tolist()) for x, y in batches(2)]),
    ):
        loss, accuracy = trainer_of(Affine()).evaluate(data)
        equal(accuracy, None, "the accuracy", f"targets are {kind}")
        close(
            float(loss),
            loss_at(values(Affine()), *joined(batches(*([3, 2] if kind == "floats" else [2])))),
            "the loss",
            kind,
        )


@exercise("Trainer.evaluate")
def test_evaluate_restores_the_mode() -> None:
    """the model is in evaluation mode meanwhile, and in its own again afterwards, also after an error"""
    for before in (True, False):
        model = Affine()
        trainer = trainer_of(model)
        model.train(before)
        trainer.evaluate(batches(2, 2))
        given = f"model.train({before}) before"
        equal([training for _, training, _ in model.calls], [False, False], "model.training in each batch", given)
        equal(model.training, before, "model.training afterwards", given)
        raises(ValueError, lambda trainer=trainer: trainer.evaluate([]), "evaluate([])")
        equal(model.training, before, "model.training afterwards", f"{given}, no batch came")
        wrong = [(np.zeros((2, 7)), np.zeros((2, 2)))]
        raises(ValueError, lambda trainer=trainer, wrong=wrong: trainer.evaluate(wrong), "a batch of the wrong shape")
        equal(model.training, before, "model.training afterwards", f"{given}, an error in the middle")


@exercise("Trainer.evaluate")
def test_evaluate_needs_no_tape() -> None:
    """nothing is remembered for gradients meanwhile, and afterwards everything is again"""
    model = Affine()
    trainer = trainer_of(model)
    trainer.evaluate(batches(2))
    equal(model.calls[-1][2], False, "whether the predictions require a gradient", "in evaluate")
    equal(model(Tensor(batches(2)[0][0])).requires_grad, True, "whether they do", "after evaluate")
    raises(ValueError, lambda: trainer.evaluate([(np.zeros((2, 7)), np.zeros((2, 2)))]), "a batch of the wrong shape")
    equal(model(Tensor(batches(2)[0][0])).requires_grad, True, "whether they do", "after an error in evaluate")


@exercise("Trainer.evaluate")
def test_evaluate_trains_nothing() -> None:
    """parameters, gradients, the learning rate and the count of epochs stay as they are"""
    model = Affine()
    trainer = trainer_of(model, schedule=CosineSchedule(0.5, 0.0, 3))
    before = values(model)
    for parameter in model.parameters():
        parameter.grad = np.ones(parameter.shape)
    trainer.evaluate(batches(3, 3))
    close(values(model), before, "the parameters", "after evaluate", 0.0)
    for parameter in model.parameters():
        close(parameter.grad, np.ones(parameter.shape), "a gradient", "all ones before evaluate", 0.0)
    equal(trainer.epoch, 0, "trainer.epoch", "after evaluate")
    close(trainer.optimizer.lr, 0.1, "optimizer.lr", "after evaluate", 0.0)


# Checkpoints


def full_trainer(seed: int, make: Callable[..., Any] = AdamW) -> Trainer:
    """All that a run has: dropout, a schedule with warmup, clipping, accumulation."""
    model = classifier(seed)
    schedule = CosineSchedule(0.02, 0.001, 6, 2)
    return Trainer(model, make(model.parameters(), lr=9.0), CrossEntropyLoss(), schedule, max_norm=1.0, accumulate=2)


def numbers_of(state: dict[str, Any]) -> np.ndarray:
    """All numbers of an optimizer's state_dict."""
    numbers = [np.ravel(value) for each in state["state"] for _, value in sorted(each.items())]
    settings = [np.ravel(value) for _, value in sorted(state["settings"].items())]
    return np.concatenate([*numbers, *settings])


def fingerprint(trainer: Trainer) -> np.ndarray:
    """All numbers that training goes on from."""
    random = generator().bit_generator.state["state"]["state"] % 1_000_003
    return np.concatenate([values(trainer.model), numbers_of(trainer.optimizer.state_dict()), [trainer.epoch, random]])


@exercise("Trainer.load_checkpoint")
def test_a_resumed_run_is_the_same_run(tmp_path: Path) -> None:
    """two epochs, a checkpoint and two more in a new trainer give bit for bit what four epochs give"""
    data, path = classes(5, 8), tmp_path / "run.ckpt"
    for name, make in (("AdamW", AdamW), ("SGD with momentum", SGD)):
        straight = full_trainer(1, make)
        for _ in range(2):
            straight.train_epoch(data)
        straight.save_checkpoint(path)
        losses = [straight.train_epoch(data) for _ in range(2)]
        resumed = full_trainer(99, make)
        resumed.load_checkpoint(path)
        given = f"{name}, dropout, schedule, clipping; loaded after 2 of 4 epochs"
        equal(resumed.epoch, 2, "trainer.epoch after loading", given)
        again = [resumed.train_epoch(data) for _ in range(2)]
        close(values(resumed.model), values(straight.model), "the parameters of the resumed run", given, 0.0)
        close(np.array(again), np.array(losses), "its losses", given, 0.0)
        close(fingerprint(resumed), fingerprint(straight), "its state", given, 0.0)


@exercise("Trainer.save_checkpoint")
def test_save_writes_the_state(tmp_path: Path) -> None:
    """the file is what `read_state` reads, without pickle; the path is a Path or text; nothing else is left there"""
    trainer = full_trainer(1)
    trainer.train_epoch(classes(3, 8))
    before = fingerprint(trainer)
    for path in (tmp_path / "run.ckpt", str(tmp_path / "run.ckpt")):
        trainer.save_checkpoint(path)
        given = f"saved to a {type(path).__name__}"
        found = read_state(Path(path))
        equal(found["epoch"], 1, 'read_state(path)["epoch"]', given)
        weights = np.concatenate([array.ravel() for array in found["model"].values()])
        close(weights, values(trainer.model), 'the arrays of read_state(path)["model"]', given, 0.0)
        expected = numbers_of(trainer.optimizer.state_dict())
        close(numbers_of(found["optimizer"]), expected, 'the numbers in read_state(path)["optimizer"]', given, 0.0)
        random = generator().bit_generator.state
        holds(found["random"] == random, "the random generator's state", found["random"], given)
        equal([each.name for each in tmp_path.iterdir()], ["run.ckpt"], "the files in the folder", given)
    close(fingerprint(trainer), before, "the trainer's state", "after saving", 0.0)


class Unwritable(Affine):
    """Its state holds something that no checkpoint can hold, after arrays that one can."""

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"what": object()}


@exercise("Trainer.save_checkpoint")
def test_a_save_that_fails_leaves_the_old_file(tmp_path: Path) -> None:
    """when writing breaks off in the middle, the old checkpoint is whole and no half file is left"""
    path, good = tmp_path / "run.ckpt", trainer_of(Affine(3))
    failing = trainer_of(Unwritable(4))
    raises(TypeError, lambda: failing.save_checkpoint(path), "a model whose state cannot be written")
    equal([each.name for each in tmp_path.iterdir()], [], "the files in the folder", "the first save broke off")
    good.save_checkpoint(path)
    old = path.read_bytes()
    raises(TypeError, lambda: failing.save_checkpoint(path), "a model whose state cannot be written")
    equal([each.name for each in tmp_path.iterdir()], ["run.ckpt"], "the files in the folder", "a later save broke off")
    equal(path.read_bytes() == old, True, "whether the old file is as it was", "a later save broke off")
    number = path.stat().st_ino
    good.epoch = 5
    good.save_checkpoint(path)
    equal(read_state(path)["epoch"], 5, 'read_state(path)["epoch"]', "a save that went well again")
    replaced = path.stat().st_ino != number  # the new file was there beside the old one, so it has another number
    holds(replaced, "another file in the old one's place", "the old file, written over", "path.stat().st_ino")


@exercise("Trainer.save_checkpoint")
def test_save_replaces_the_old_file(tmp_path: Path) -> None:
    """a later checkpoint takes the place of an earlier one"""
    path, trainer = tmp_path / "run.ckpt", trainer_of(Affine(3))
    trainer.save_checkpoint(path)
    trainer.train_epoch(batches(4, 4))
    trainer.save_checkpoint(path)
    saved = values(trainer.model)
    trainer.train_epoch(batches(4, 4))
    other = trainer_of(Affine(5))
    other.load_checkpoint(path)
    close(values(other.model), saved, "the parameters loaded", "saved, trained, saved again, trained", 0.0)


@exercise("Trainer.load_checkpoint")
def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    """one wrong byte anywhere, a missing end, an empty file, text: a ValueError, and nothing is changed"""
    path, trainer = tmp_path / "run.ckpt", trainer_of(Affine(3))
    other = trainer_of(Affine(4))
    other.epoch = 7
    other.save_checkpoint(path)
    content = path.read_bytes()
    damaged: list[tuple[str, bytes]] = [
        ("an empty file", b""),
        ("text", b"not a checkpoint"),
        ("a byte too many", content + b"\n"),
    ]
    for place in np.linspace(0, len(content) - 1, 60).astype(int):
        changed = bytearray(content)
        changed[place] ^= 0x20
        damaged.append((f"byte {place} of {len(content)} changed", bytes(changed)))
    damaged += [(f"cut after {end} bytes", content[:end]) for end in range(1, len(content), len(content) // 15)]
    before = fingerprint(trainer)
    for what, text in damaged:
        path.write_bytes(text)
        raises(ValueError, lambda: trainer.load_checkpoint(path), what)
        close(fingerprint(trainer), before, "the trainer's state afterwards", what, 0.0)
    path.write_bytes(content)
    trainer.load_checkpoint(path)
    equal(trainer.epoch, 7, "trainer.epoch", "the whole file again")


@exercise("Trainer.load_checkpoint")
def test_a_checkpoint_of_something_else_is_refused(tmp_path: Path) -> None:
    """one of another model or optimizer is a ValueError, and nothing is changed"""
    path = tmp_path / "run.ckpt"
    trainer = full_trainer(1)
    trainer.train_epoch(classes(3, 8))
    manual_seed(3)
    wide, narrow = Sequential(Linear(6, 17), ReLU(), Dropout(0.5), Linear(17, 3)), Sequential(Linear(6, 3))
    same = classifier(5)
    strangers = (
        ("a model with other shapes", Trainer(wide, AdamW(wide.parameters()), CrossEntropyLoss())),
        ("a model with other layers", Trainer(narrow, AdamW(narrow.parameters()), CrossEntropyLoss())),
        ("the same model with another optimizer", Trainer(same, SGD(same.parameters()), CrossEntropyLoss())),
        ("the same model, half of it trained", Trainer(same, AdamW(same[3].parameters()), CrossEntropyLoss())),
    )
    for what, stranger in strangers:
        stranger.train_epoch(classes(2, 8))
        stranger.save_checkpoint(path)
        before = fingerprint(trainer)
        raises(ValueError, lambda: trainer.load_checkpoint(path), f"the checkpoint of {what}")
        close(fingerprint(trainer), before, "the trainer's state afterwards", f"the checkpoint of {what}", 0.0)


@exercise("Trainer.load_checkpoint")
def test_a_missing_file(tmp_path: Path) -> None:
    """a file that is not there is a FileNotFoundError, and nothing is changed; a path may be text"""
    trainer, path = trainer_of(Affine(3)), tmp_path / "run.ckpt"
    before = fingerprint(trainer)
    raises(FileNotFoundError, lambda: trainer.load_checkpoint(path), "a path where no file is")
    close(fingerprint(trainer), before, "the trainer's state afterwards", "a path where no file is", 0.0)
    trainer.save_checkpoint(path)
    trainer.load_checkpoint(str(path))


# Systems


@exercise("step_peak")
def test_step_peak() -> None:
    """what the gate's own measurement of the same step gives, and one step is taken"""
    for size in (64, 400):
        expected = measured_peak(trainer_of(large_model(), 1e-3), large_group(size))
        model = large_model()
        optimizer = Counting(model.parameters(), lr=1e-3, momentum=0.0)
        answer = step_peak(Trainer(model, optimizer, squared), large_group(size))
        given = f"an MLP 20-100-100-2, a batch of {size}"
        equal(len(vars(optimizer).get("taken", [])), 1, "the number of steps taken", given)
        holds(
            abs(answer - expected) < 0.03 * expected + 20_000,
            f"about {expected} bytes (measured)",
            beside(answer, expected),
            given,
        )
        equal(tracemalloc.is_tracing(), False, "whether tracemalloc still runs", "it did not run before")


@exercise("step_peak")
def test_step_peak_beside_other_memory() -> None:
    """what was allocated or at its highest before the step does not count, and a running tracemalloc runs on"""
    expected = measured_peak(trainer_of(large_model(), 1e-3), large_group(300))
    trainer, group = trainer_of(large_model(), 1e-3), large_group(300)
    tracemalloc.start()
    try:
        kept, gone = np.zeros(250_000), np.zeros(10_000_000)
        del gone
        answer = step_peak(trainer, group)
        runs = tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()
    given = f"tracemalloc runs; an array of {kept.nbytes} bytes is there, one of 80000000 was"
    holds(
        abs(answer - expected) < 0.03 * expected + 20_000,
        f"about {expected} bytes (measured)",
        beside(answer, expected),
        given,
    )
    equal(runs, True, "whether tracemalloc still runs", given)


@exercise("micro_batches")
def test_micro_batches() -> None:
    """pieces of `limit` in order, the last one with the rest, as views"""
    x, y = batches(10)[0]
    for limit, sizes in ((4, [4, 4, 2]), (5, [5, 5]), (10, [10]), (99, [10]), (1, [1] * 10), (9, [9, 1])):
        pieces, given = micro_batches(x, y, limit), f"10 samples, limit {limit}"
        equal([len(targets) for _, targets in pieces], sizes, "the sizes of the pieces", given)
        close(np.concatenate([inputs for inputs, _ in pieces]), x, "the inputs, put together", given, 0.0)
        close(np.concatenate([targets for _, targets in pieces]), y, "the targets, put together", given, 0.0)
        shared = all(np.shares_memory(a, x) and np.shares_memory(b, y) for a, b in pieces)
        holds(shared, "views of inputs and targets", "copies", given)


@exercise("micro_batches")
def test_micro_batches_take_the_same_step() -> None:
    """train_step on the pieces does what it does on the whole, with less memory (tracemalloc)"""
    whole, pieces = large_model(), large_model()
    (x, y), *_ = large_group(512)
    large = measured_peak(trainer_of(whole), [(x, y)])
    small = measured_peak(trainer_of(pieces), micro_batches(x, y, 50))
    given = "512 samples at once, or in pieces of 50"
    close(values(pieces), values(whole), "the parameters after the step", given, 1e-5)
    holds(small < large / 3, f"a peak below a third of {large} bytes", beside(small, large / 3), given)


@exercise("largest_batch")
def test_largest_batch() -> None:
    """where the straight line through both measurements meets the budget, rounded down"""
    for budget, small, large, expected in (
        (10_000, (10, 2_000), (20, 3_000), 90),
        (10_099, (10, 2_000), (20, 3_000), 90),
        (10_100, (20, 3_000), (10, 2_000), 91),
        (1_050, (10, 2_000), (20, 3_000), 0),
        (900, (10, 2_000), (20, 3_000), 0),
        (70, (1, 10), (3, 30), 7),
    ):
        given = f"budget {budget}, measured {small} and {large}"
        equal(largest_batch(budget, small, large), expected, "largest_batch", given)


@exercise("largest_batch")
def test_largest_batch_measured() -> None:
    """from the peaks of two small batches it foresees the batch whose peak fills the budget"""
    small, large, budget = (measured_peak(trainer_of(large_model()), large_group(size)) for size in (100, 200, 500))
    answer = largest_batch(budget, (100, small), (200, large))
    given = f"tracemalloc: {small} bytes for 100, {large} for 200; the budget is the peak of 500"
    holds(abs(answer - 500) <= 20, "about 500", beside(answer, 500), given)


@exercise("travel")
def test_travel() -> None:
    """as far as AdamW really goes, with the same gradient at every step"""
    for settings, epochs, steps in (((0.1, 0.0, 10, 4), 4, 5), ((0.1, 0.0, 10, 0), 4, 5), ((0.02, 0.01, 3, 1), 5, 3)):
        schedule = CosineSchedule(*settings)
        parameter = Tensor(np.array([0.0, 0.0]), requires_grad=True)
        optimizer = AdamW([parameter], weight_decay=0.0, eps=0.0)
        for epoch in range(epochs):
            optimizer.lr = schedule.get_lr(epoch)
            for _ in range(steps):
                parameter.grad = np.array([100.0, -0.001])
                optimizer.step()
        given = f"CosineSchedule{settings}, {epochs} epochs of {steps} steps"
        answer = travel(schedule, epochs, steps)
        close(answer, abs(parameter.data[0]), "travel", f"{given}, gradient 100", 1e-9)
        close(answer, parameter.data[1], "travel", f"{given}, gradient -0.001", 1e-9)


# What is refused, and what is exact


@exercise("clip_grad_norm")
def test_clip_refuses_a_norm_that_is_none() -> None:
    """a max_norm below 0 or NaN is a ValueError, and no gradient is changed; 0 and infinity are taken"""
    for wrong in (-1.0, math.nan):
        (a,) = with_gradients([8.0, 6.0])
        raises(ValueError, lambda: clip_grad_norm([a], wrong), f"gradient [8, 6], max_norm={wrong}")
        close(a.grad, [8.0, 6.0], "the gradient afterwards", f"max_norm={wrong} was refused", 0.0)
    (a,) = with_gradients([8.0, 6.0])
    close(clip_grad_norm([a], math.inf), 10.0, "what it returns", "gradient [8, 6], max_norm=inf", 1e-12)
    close(a.grad, [8.0, 6.0], "the gradient", "gradient [8, 6], max_norm=inf", 0.0)
    clip_grad_norm([a], 0.0)
    close(a.grad, [0.0, 0.0], "the gradient", "gradient [8, 6], max_norm=0", 0.0)


@exercise("step_peak")
def test_step_peak_after_an_error() -> None:
    """an error in the step comes out, and tracemalloc is as it was before"""

    def fail(group: Any) -> float:
        raise FloatingPointError("the step fails")

    for before in (False, True):
        try:
            if before:
                tracemalloc.start()
            given = f"tracemalloc {'ran' if before else 'did not run'} before"
            step_peak(SimpleNamespace(train_step=lambda group: 0.0), [])
            equal(tracemalloc.is_tracing(), before, "whether tracemalloc runs", f"{given}, a step that does nothing")
            raises(FloatingPointError, lambda: step_peak(SimpleNamespace(train_step=fail), []), "a step that fails")
            equal(tracemalloc.is_tracing(), before, "whether tracemalloc runs", f"{given}, a step that fails")
        finally:
            tracemalloc.stop()


@exercise("largest_batch")
def test_largest_batch_is_exact() -> None:
    """an int, also where the budget is met to the byte and bytes for each sample are a fraction"""
    draw = np.random.default_rng(5).integers
    cases = [(203_505, (1, 58_003), (28, 58_021), 218_254)]
    for samples, growth, beyond in zip(draw(2, 50, 40).tolist(), draw(1, 50, 40).tolist(), draw(1, 9**9, 40).tolist()):
        budget = 1000 + beyond * growth  # met to the byte by a batch of 7 + beyond · samples
        cases.append((budget, (7, 1000), (7 + samples, 1000 + growth), 7 + beyond * samples))
    for budget, small, large, expected in cases:
        given = f"budget {budget}, measured {small} and {large}"
        answer = largest_batch(budget, small, large)
        holds(isinstance(answer, (int, np.integer)), "an int", answer, given)
        equal(answer, expected, "largest_batch", given)
