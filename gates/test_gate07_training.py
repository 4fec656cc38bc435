"""Gate 07: training."""

import itertools
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import numpy as np

from tinytorch import CrossEntropyLoss, Dropout, Layer, Linear, ReLU, Sequential, Tensor
from tinytorch.core.checkpoints import read_state, write_state
from tinytorch.core.optimizers import SGD, AdamW
from tinytorch.core.rng import generator, manual_seed
from tinytorch.core.training import CosineSchedule, EarlyStopping, Trainer, clip_grad_norm
from tinytorch.systems.training import largest_batch, micro_batches, step_peak, travel
from workshop.checks import close, equal, exercise, holds
from workshop.probes import allocated, leaf, traced, traces_after
from workshop.tables import Case, Cases, Expression, table

look = Cases(globals())
Group = list[tuple[Any, Any]]


def after(lines: str, values: dict[str, Any]) -> list[Case]:
    """Once the statements `lines` have run, these are the values of some expressions."""
    return [look.after(lines, text, expected) for text, expected in values.items()]


def attempt(action: Callable[..., Any], *arguments: Any) -> None:
    """Call it, whatever error it raises."""
    with suppress(ArithmeticError, TypeError, ValueError):
        action(*arguments)


# Clipping. The first was made with torch.nn.utils.clip_grad_norm_([a, b, c], 2.5) of PyTorch 2.13.0.


def with_gradients(*gradients: Any, dtype: Any = np.float64) -> list[Tensor]:
    tensors = [leaf(np.zeros(np.shape(gradient)), dtype) for gradient in gradients]
    for tensor, gradient in zip(tensors, gradients):
        tensor.grad = None if gradient is None else np.array(gradient, dtype)
    return tensors


CLIP = "a, b, c = with_gradients([[3.0, -4.0], [0.0, 12.0]], [84.0, 0.0, -0.5], None); "
CLIP += "norm = clip_grad_norm([a, b, c], 2.5)"
CLIPPED_A = [[0.08823376655706, -0.11764502207607], [0.0, 0.35293506622822]]
CLIPPED_B = [2.47054546359752, 0.0, -0.0147056277595]
SHORT = "a, b = with_gradients([3.0], [4.0]); norm = clip_grad_norm([a, b], {})"
MANY = "a, b, c = with_gradients([3.0], [4.0], None); norm = clip_grad_norm((each for each in (c, a, b)), 1.0)"
HUGE = "(a,) = with_gradients([3e25, 4e25], dtype=np.float32); norm = clip_grad_norm([a], 10.0)"
FINE, NAN, INF = (f"with_gradients([8.0, 6.0], [{last}])" for last in ("0.0", "math.nan", "-math.inf"))
REFUSED = [(NAN, "1.0"), (INF, "1.0"), (FINE, "-1.0"), (FINE, "-1e-9"), (FINE, "math.nan")]

test_clipping = table(
    ("clip_grad_norm", "one norm over all gradients and one factor for all, as in PyTorch"),
    *after(CLIP, {"a.grad": CLIPPED_A, "b.grad": CLIPPED_B, "c.grad": None, "norm": 85.00147057551416}),
    ("clip_grad_norm", "gradients whose norm is below max_norm stay as they are"),
    *after(SHORT.format("5.1"), {"a.grad": [3.0], "b.grad": [4.0], "norm": 5.0}),
    *after(SHORT.format("math.inf"), {"a.grad": [3.0], "b.grad": [4.0], "norm": 5.0}),
    *after("norm = clip_grad_norm(with_gradients([0.0], [0.0, 0.0]), 1.0)", {"norm": 0.0}),
    ("clip_grad_norm", "a max_norm of 0 takes everything away"),
    *after(SHORT.format("0.0"), {"a.grad": [0.0], "b.grad": [0.0], "norm": 5.0}),
    ("clip_grad_norm", "parameters may come from a generator, and none may have a gradient"),
    *after(MANY, {"norm": 5.0, "np.round(a.grad, 6)": [0.6], "np.round(b.grad, 6)": [0.8], "c.grad": None}),
    *after("norm = clip_grad_norm(with_gradients(None, None), 1.0)", {"norm": 0.0}),
    ("clip_grad_norm", "float32 gradients stay float32, and their squares do not overflow"),
    look.after(HUGE, "a.grad", [6.0, 8.0], tolerance=1e-5, dtype=np.float32),
    look.after(HUGE, "norm / 1e25", 5.0, tolerance=1e-5),
    *after("(a,) = with_gradients([3.0], dtype=np.float32); clip_grad_norm([a], 2)", {"str(a.grad.dtype)": "float32"}),
    ("clip_grad_norm", "a norm that is not finite, and a max_norm below 0 or NaN, is a ValueError"),
    *(look.raises(f"clip_grad_norm({gradients}, {norm})", ValueError) for gradients, norm in REFUSED),
    ("clip_grad_norm", "and then no gradient is changed"),
    *(look.after(f"a, b = {g}; attempt(clip_grad_norm, [a, b], {norm})", "a.grad", [8.0, 6.0]) for g, norm in REFUSED),
)


# Schedule. Learning rates of the epochs from 0 on by PyTorch 2.13.0: CosineAnnealingLR(optimizer, T_max=total_epochs -
# warmup_epochs, eta_min=min_lr), after LinearLR(optimizer, start_factor=1 / (warmup_epochs + 1),
# total_iters=warmup_epochs), joined by SequentialLR(milestones=[warmup_epochs]).

RATES = {
    "0.1, 0.0, 6": [0.1, 0.0933012701892, 0.075, 0.05, 0.025, 0.00669872981078, 0.0],
    "0.5, 0.02, 5, 0": [0.5, 0.45416407865, 0.33416407865, 0.18583592135, 0.06583592135, 0.02],
    "0.2, 0.01, 9, 4": [0.04, 0.08, 0.12, 0.16, 0.2, 0.181856614466, 0.134356614466, 0.0756433855344, 0.0281433855344],
    "1.0, 0.1, 3, 1": [0.5, 1.0, 0.55, 0.1],
}
ASKED = "schedule = CosineSchedule(1.0, 0.2, 10, 2); rates = np.array([schedule.get_lr(epoch) for epoch in {}])"
QUARTER, FIFTH = 0.2 + 0.4 * (1 + math.cos(math.pi / 4)), 0.2 + 0.4 * (1 + math.cos(math.pi / 5))


def rates_of(settings: str) -> Case:
    rates = RATES[settings]
    text = f"np.array([CosineSchedule({settings}).get_lr(epoch) for epoch in range({len(rates)})])"
    return look.gives(text, np.array(rates), tolerance=1e-11)


test_schedule = table(
    ("CosineSchedule.get_lr", "half a cosine from max_lr in epoch 0 to min_lr in epoch total_epochs, as in PyTorch"),
    rates_of("0.1, 0.0, 6"),
    rates_of("0.5, 0.02, 5, 0"),
    ("CosineSchedule.get_lr", "equal steps up to max_lr in epoch warmup_epochs, then the cosine, as in PyTorch"),
    rates_of("0.2, 0.01, 9, 4"),
    rates_of("1.0, 0.1, 3, 1"),
    ("CosineSchedule.get_lr", "a fraction lies between two epochs"),
    look.after(ASKED.format("(0.5, 1.5)"), "rates", [0.5, 2.5 / 3]),
    look.after(ASKED.format("(3.6, 4.0, 8.4)"), "rates", [FIFTH, QUARTER, 1.2 - FIFTH]),
    ("CosineSchedule.get_lr", "after the end the rate stays min_lr, and asking changes nothing"),
    look.after(ASKED.format("(10, 10.5, 13, 25)"), "rates", [0.2, 0.2, 0.2, 0.2]),
    look.after(ASKED.format("(13, 6, 0, 2, 6, 0)"), "rates", [0.2, 0.6, 1 / 3, 1.0, 0.6, 1 / 3]),
)


# Early stopping


def told_after(stopping: EarlyStopping, *losses: float) -> np.ndarray:
    """After each loss: whether to stop, best, best_epoch and waited."""
    rows = [(stopping.step(loss), stopping.best, stopping.best_epoch, stopping.waited) for loss in losses]
    return np.array(rows, dtype=np.float64)


def stops(patience: int, losses: str, *expected: tuple[bool, float, int, int]) -> Case:
    return look.gives(
        f"told_after(EarlyStopping({patience}), {losses})", np.array(expected, dtype=np.float64), tolerance=0
    )


INFINITE = (False, math.inf, -1, 1)
NINES = (0, 9, 0, 0), (0, 9, 0, 1), (0, 9, 0, 2), (0, 7, 3, 0), (0, 7, 3, 1), (0, 5, 5, 0)

test_stopping = table(
    ("EarlyStopping.step", "it stops after `patience` epochs in a row without a new lowest loss, and says so again"),
    look.equals("EarlyStopping(1).step(1.0)", False),
    stops(2, "3.0, 2.0, 2.5, 2.4", (0, 3.0, 0, 0), (0, 2.0, 1, 0), (0, 2.0, 1, 1), (1, 2.0, 1, 2)),
    stops(1, "3.0, 2.0, 2.5, 2.4", (0, 3.0, 0, 0), (0, 2.0, 1, 0), (1, 2.0, 1, 1), (1, 2.0, 1, 2)),
    stops(3, "1.0, 2.0, 3.0, 4.0", (0, 1.0, 0, 0), (0, 1.0, 0, 1), (0, 1.0, 0, 2), (1, 1.0, 0, 3)),
    ("EarlyStopping.step", "a new lowest loss resets the wait, and lower than the last one is not enough"),
    stops(2, "3.0, 3.5, 2.0, 2.5", (0, 3.0, 0, 0), (0, 3.0, 0, 1), (0, 2.0, 2, 0), (0, 2.0, 2, 1)),
    stops(2, "1.5, 5.0, 4.0", (0, 1.5, 0, 0), (0, 1.5, 0, 1), (1, 1.5, 0, 2)),
    stops(2, "0.5, -0.5, -0.2, -1.0", (0, 0.5, 0, 0), (0, -0.5, 1, 0), (0, -0.5, 1, 1), (0, -1.0, 3, 0)),
    stops(4, "9.0, 9.5, 9.6, 7.0, 8.0, 5.0", *NINES),
    ("EarlyStopping.step", "a loss that equals the best counts as waiting"),
    stops(2, "2.0, 2.0, 2.0", (0, 2.0, 0, 0), (0, 2.0, 0, 1), (1, 2.0, 0, 2)),
    ("EarlyStopping.step", "NaN counts as waiting, also in the first epoch, and so does infinity"),
    stops(2, "2.0, math.nan, math.nan", (0, 2.0, 0, 0), (0, 2.0, 0, 1), (1, 2.0, 0, 2)),
    stops(3, "math.nan, 1.5, 2.0", INFINITE, (0, 1.5, 1, 0), (0, 1.5, 1, 1)),
    stops(3, "math.inf, 1.5, 2.0", INFINITE, (0, 1.5, 1, 0), (0, 1.5, 1, 1)),
)


# A model, a loss and their gradients, all by the gate itself


class Affine(Layer):
    """x @ weight + bias in float64, for Tensors alone; notes how it is called."""

    def __init__(self, seed: int = 0, inputs: int = 3) -> None:
        draw = np.random.default_rng(seed).normal
        self.weight = Tensor(draw(size=(inputs, 2)), requires_grad=True)
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


def batches(*sizes: int, seed: int = 1) -> Group:
    draw = np.random.default_rng(seed).normal
    return [(draw(size=(size, 3)), draw(size=(size, 2))) for size in sizes]


def joined(group: Group) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate([x for x, _ in group]), np.concatenate([y for _, y in group])


def loss_at(values: np.ndarray, group: Group) -> float:
    """The squared loss of an Affine with these six weights and two biases, over all samples."""
    x, y = joined(group)
    return float(np.mean((x @ values[:6].reshape(3, 2) + values[6:] - y) ** 2))


def gradient_at(values: np.ndarray, group: Group) -> np.ndarray:
    x, y = joined(group)
    error = x @ values[:6].reshape(3, 2) + values[6:] - y
    return np.concatenate([(x.T @ error).ravel(), error.sum(axis=0)]) * (2 / error.size)


def values(model: Layer) -> np.ndarray:
    return np.concatenate([parameter.data.ravel() for parameter in model.parameters()])


class Plain(SGD):
    """p -= lr · gradient, without the student's step; notes the learning rate of each."""

    def __init__(self, parameters: list[Tensor], lr: float = 0.1) -> None:
        super().__init__(parameters, lr=lr, momentum=0.0)
        self.taken: list[float] = []

    def zero_grad(self) -> None:
        for parameter in self.params:
            parameter.grad = None

    def step(self) -> None:
        self.taken.append(self.lr)
        for parameter in self.params:
            parameter.data -= self.lr * parameter.grad


def trainer_of(model: Layer, lr: float = 0.1, **settings: Any) -> Trainer:
    return Trainer(model, Plain(model.parameters(), lr), squared, **settings)


# One step

KINDS: dict[str, Any] = {"arrays": np.asarray, "Tensors": Tensor, "lists": lambda array: np.asarray(array).tolist()}


def check_step(e: Expression, sizes: tuple[int, ...]) -> None:
    """The parameters take the step of the large batch; the loss from before it comes back; one step was taken."""
    clip, kind, old = (e.letters.get(name) for name in ("clip", "kind", "old"))
    model, group = Affine(), batches(*sizes)
    before, gradient = values(model), gradient_at(values(model), group)
    norm = float(np.sqrt((gradient**2).sum()))
    trainer = trainer_of(model, max_norm=norm * clip if clip else None, accumulate=len(sizes))
    for parameter in model.parameters():
        parameter.grad = None if old is None else np.full(parameter.shape, old)
    convert, tolerance = KINDS[kind or "Tensors"], 1e-5 if clip or kind == "lists" else 1e-12
    loss = trainer.train_step([(convert(x), convert(y)) for x, y in group])
    right = before - 0.1 * gradient * (min(clip, 1.0) if clip else 1.0)
    close(values(model), right, "the parameters after the step", e.given, tolerance=tolerance, dtype=np.float64)
    holds(loss is not None, "the mean loss", loss, e.given)
    close(float(loss), loss_at(before, group), "the mean loss that comes back", e.given, tolerance=tolerance)
    equal(len(trainer.optimizer.taken), 1, "the number of optimizer.step() calls", e.given)


def steps(*sizes: int, **how: Any) -> Case:
    """One step with batches of these sizes, lr=0.1, max_norm=`clip` times the norm, all gradients `old` before."""
    return look.case(check_step, f"trainer.train_step(batches{sizes})", sizes, **how)


def spoiled(wrong: float, bad: int) -> Group:
    """Three batches, one of them with a target that makes its loss no number, or infinite."""
    group = batches(3, 3, 3)
    group[bad][1][0, 0] = wrong
    return [(Tensor(x), y) for x, y in group]


class Scaled(Layer):
    """A chain of products by element: much memory for each sample, and little work."""

    def __init__(self) -> None:
        self.weights = [leaf(np.full(500, 0.5)) for _ in range(4)]

    def forward(self, x: Tensor) -> Tensor:
        for weight in self.weights:
            x = x * weight
        return x


def peak(size: int) -> int:
    """The most that a step of 256 samples allocates (tracemalloc), in batches of `size`."""
    trainer, x = trainer_of(Scaled(), lr=1e-3), np.ones((256, 500))
    group = [(Tensor(x[i : i + size]), x[i : i + size]) for i in range(0, 256, size)]
    return allocated(lambda: trainer.train_step(group))[0]


SPOILED = "model = Affine(); before = values(model); attempt(trainer_of(model).train_step, spoiled(math.{}, {}))"
WRONG = [(wrong, bad) for wrong in (math.nan, math.inf) for bad in (0, 1, 2)]

test_train_step = table(
    ("Trainer.train_step", "the parameters take the optimizer's step, and the loss is that from before it"),
    steps(5),
    steps(1),
    ("Trainer.train_step", "batches of any sizes take the one step of the large batch that they make together"),
    steps(4, 4),
    steps(5, 3, 1),
    steps(1, 7),
    ("Trainer.train_step", "gradients left from before do not count"),
    steps(4, old=1000.0),
    steps(4, 2, old=0.5),
    ("Trainer.train_step", "with max_norm, the gathered gradient of all parameters together is clipped to it"),
    steps(6, clip=1 / 3),
    steps(4, 1, 3, clip=1 / 3),
    steps(4, 1, 3, clip=2.0),
    ("Trainer.train_step", "inputs and targets are arrays, Tensors or lists"),
    *(steps(4, 2, kind=kind) for kind in KINDS),
    ("Trainer.train_step", "a loss that is NaN or infinite is a ValueError, whichever batch it comes from"),
    *(look.raises(f"trainer_of(Affine()).train_step(spoiled(math.{w}, {bad}))", ValueError) for w, bad in WRONG),
    ("Trainer.train_step", "and then no parameter is changed"),
    *(look.after(SPOILED.format(wrong, bad), "values(model) - before", np.zeros(8)) for wrong, bad in WRONG),
    ("Trainer.train_step", "eight small batches need less than half the memory of the large one"),
    look.equals("peak(32) < 0.5 * peak(256)", True),
)


# One epoch


class Noting(Trainer):
    """Its steps are the gate's: each notes what it is called with, and its loss is 1, 2, 4, …"""

    def __init__(self, **settings: Any) -> None:
        super().__init__(Affine(), Plain([leaf([1.0])], lr=0.7), squared, **settings)
        self.groups, self.rates, self.modes, self.asked = [], [], [], []

    def train_step(self, group: Group) -> float:
        self.groups.append([float(x[0, 0]) for x, _ in group])
        self.rates.append(self.optimizer.lr)
        self.modes.append(self.model.training)
        return 2.0 ** (len(self.groups) - 1)

    def reads(self, *sizes: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Numbered batches of these sizes; it is noted after how many steps each was asked for."""
        for number, size in enumerate(sizes, 2):
            self.asked.append(len(self.groups))
            yield np.full((size, 3), float(number)), np.zeros((size, 2))


def grouped(accumulate: int, groups: str, asked: list[int], loss: float) -> list[Case]:
    lines = f"trainer = Noting(accumulate={accumulate}); loss = trainer.train_epoch({{}}(trainer.reads(4, 3, 5, 2, 1)))"
    found = after(lines.format("list"), {"str(trainer.groups)": groups, "loss": loss})
    return found + after(lines.format("iter"), {"np.array(trainer.asked)": asked, "loss": loss})


RATED = "trainer = Noting(schedule=SimpleNamespace(get_lr=lambda epoch: 0.5 / (2 + epoch))); "
TWICE = "trainer.train_epoch(list(trainer.reads(2, 2))); trainer.train_epoch(list(trainer.reads(2, 2))); "
AGAIN = "trainer = Noting(); " + TWICE
EPOCH = "trainer = Noting(); trainer.model.train({}); trainer.train_epoch(list(trainer.reads(2, 2)))"
EMPTY = AGAIN + "attempt(trainer.train_epoch, {})"

test_train_epoch = table(
    ("Trainer.train_epoch", "`accumulate` batches make a step, in order, and what is left over makes a last one"),
    *grouped(1, "[[2.0], [3.0], [4.0], [5.0], [6.0]]", [0, 1, 2, 3, 4], (4 + 6 + 20 + 16 + 16) / 15),
    *grouped(2, "[[2.0, 3.0], [4.0, 5.0], [6.0]]", [0, 0, 1, 1, 2], (7 + 14 + 4) / 15),
    *grouped(3, "[[2.0, 3.0, 4.0], [5.0, 6.0]]", [0, 0, 0, 1, 1], (12 + 6) / 15),
    *grouped(9, "[[2.0, 3.0, 4.0, 5.0, 6.0]]", [0, 0, 0, 0, 0], 1.0),
    ("Trainer.train_epoch", "batches come from a list or a tuple as well, and may be lists"),
    *after("trainer = Noting(); loss = trainer.train_epoch(list(trainer.reads(4, 3)))", {"loss": (4 + 6) / 7}),
    *after("trainer = Noting(); loss = trainer.train_epoch(tuple(map(list, trainer.reads(4, 3))))", {"loss": 10 / 7}),
    ("Trainer.train_epoch", "the model is in training mode, whatever it was in before"),
    *(look.after(EPOCH.format(mode), "str(trainer.modes)", "[True, True]") for mode in (True, False)),
    ("Trainer.train_epoch", "optimizer.lr is schedule.get_lr(epoch), from epoch 0 on; without one it is left alone"),
    *after(RATED + TWICE, {"np.array(trainer.rates)": [0.25, 0.25, 0.5 / 3, 0.5 / 3]}),
    *after(RATED + "trainer.epoch = 8; trainer.train_epoch(list(trainer.reads(2)))", {"trainer.rates[0]": 0.05}),
    *after(AGAIN, {"np.array(trainer.rates)": [0.7, 0.7, 0.7, 0.7]}),
    ("Trainer.train_epoch", "trainer.epoch is the number of epochs done"),
    *after("trainer = Noting(); trainer.train_epoch(list(trainer.reads(2, 2, 2)))", {"trainer.epoch": 1}),
    *after(AGAIN + TWICE, {"trainer.epoch": 4}),
    ("Trainer.train_epoch", "an epoch without a batch is a ValueError and does not count"),
    look.raises("Noting().train_epoch([])", ValueError),
    look.raises("Noting().train_epoch(iter([]))", ValueError),
    *after(EMPTY.format("[]"), {"trainer.epoch": 2}),
    *after(EMPTY.format("iter([])"), {"trainer.epoch": 2}),
)


def classifier(seed: int) -> Sequential:
    manual_seed(seed)
    return Sequential(Linear(4, 6), ReLU(), Dropout(0.25), Linear(6, 3))


def classes(count: int, size: int, seed: int = 2) -> Group:
    """Batches of three well-separated clouds of points; the last one is smaller."""
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(3, 4)) * 3
    targets = [rng.integers(0, 3, size if i < count - 1 else size // 2) for i in range(count)]
    return [((centres[t] + rng.normal(size=(len(t), 4)) / 2).astype(np.float32), t) for t in targets]


@exercise("Trainer.train_epoch")
def test_epoch_trains() -> None:
    """every parameter moves, and the loss and accuracy that the gate itself computes get good"""
    model, data = classifier(1), classes(8, 12)
    start = [parameter.data.copy() for parameter in model.parameters()]
    trainer = Trainer(model, AdamW(model.parameters(), lr=0.05), CrossEntropyLoss())
    losses = [trainer.train_epoch(data) for _ in range(6)]
    for (name, parameter), old in zip(model.named_parameters(), start):
        moved = float(np.abs(parameter.data - old).max())
        holds(moved > 1e-3, f"{name} has moved", f"at most by {moved:.1e}", "six epochs with AdamW(lr=0.05)")
    (weight1, bias1, weight2, bias2), (x, targets) = (p.data for p in model.parameters()), joined(data)
    logits = np.maximum(x @ weight1 + bias1, 0) @ weight2 + bias2
    accuracy = float((logits.argmax(axis=1) == targets).mean())
    holds(accuracy > 0.95, "an accuracy above 0.95 on three separate clouds", f"{accuracy:.3f}", "six epochs")
    holds(losses[-1] < losses[0] / 2, "a loss that falls by half", f"{losses[0]:.3f} to {losses[-1]:.3f}", "six epochs")


# Evaluation


class Same(Layer):
    """Its predictions are its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x


def sum_of_wrong(predictions: Tensor, targets: Any) -> Tensor:
    """A mean loss of classes that NumPy works out: how far the right one lies below 3."""
    rows = np.asarray(getattr(targets, "data", targets))
    return Tensor(np.mean(3.0 - predictions.data[np.arange(len(rows)), rows]))


def scores(kind: str = "arrays") -> Group:
    """Seven samples in batches of 4, 2 and 1, of which 5 are right."""
    x = np.array([[1, 0, 2], [0, 5, 1], [3, 1, 0], [0, 1, 7], [4, 0, 1], [0, 2, 1], [1, 6, 0]], dtype=np.float64)
    y = np.array([2, 1, 1, 2, 0, 2, 1])
    return [(KINDS[kind](x[at]), KINDS[kind](y[at])) for at in (slice(0, 4), slice(4, 6), slice(6, 7))]


def evaluated(dataloader: Any) -> tuple[float, Any]:
    loss, accuracy = Trainer(Same(), Plain([leaf([1.0])]), sum_of_wrong).evaluate(dataloader)
    return loss, accuracy


LISTS = [(x.tolist(), y.tolist()) for x, y in batches(2)]
BAD = [(np.zeros((2, 7)), np.zeros((2, 2)))]
MODEL = "trainer = trainer_of(Affine(), schedule=CosineSchedule(0.5, 0.0, 3)); trainer.model.train({}); "
EVALUATE = MODEL.format(True) + "trainer.model.weight.grad = np.ones((3, 2)) * 4; trainer.evaluate(batches(3, 3))"
BOTH, MODE = (True, False), "trainer.model.training"
MODES = "str([training for _, training, _ in trainer.model.calls])"
TAPE = "str([taped for _, _, taped in trainer.model.calls])"
THEN = "; trainer.model(Tensor(np.ones((1, 3))))"
UNTOUCHED = {"trainer.epoch": 0, "trainer.optimizer.lr": 0.1, "len(trainer.optimizer.taken)": 0}

test_evaluate = table(
    ("Trainer.evaluate", "the mean loss over all samples, and the share of right classes"),
    *(look.after(f"loss, share = evaluated(scores({kind!r}))", "loss", -5 / 7) for kind in KINDS),
    *(look.after(f"loss, share = evaluated(scores({kind!r}))", "share", 5 / 7) for kind in KINDS),
    look.after("loss, share = evaluated(iter(scores()))", "np.array([loss, share])", [-5 / 7, 5 / 7]),
    look.after("loss, share = evaluated(scores()[:1])", "np.array([loss, share])", [-0.75, 0.75]),
    look.equals("type(evaluated(scores())).__name__", "tuple"),
    ("Trainer.evaluate", "the accuracy is None if the targets are no classes"),
    *after("loss, share = trainer_of(Affine()).evaluate(batches(3, 2))", {"share": None}),
    *after("loss, share = trainer_of(Affine()).evaluate(LISTS)", {"share": None}),
    look.gives("trainer_of(Affine()).evaluate(batches(3, 2))[0]", "loss_at(values(Affine()), batches(3, 2))"),
    ("Trainer.evaluate", "the model is in evaluation mode meanwhile, and in its own again afterwards"),
    *(look.after(MODEL.format(mode) + "trainer.evaluate(batches(2, 2))", MODES, "[False, False]") for mode in BOTH),
    *(look.after(MODEL.format(mode) + "trainer.evaluate(batches(2, 2))", MODE, mode) for mode in BOTH),
    ("Trainer.evaluate", "also after an error"),
    *(look.after(MODEL.format(mode) + "attempt(trainer.evaluate, BAD)", MODE, mode) for mode in BOTH),
    *(look.after(MODEL.format(mode) + "attempt(trainer.evaluate, [])", MODE, mode) for mode in BOTH),
    ("Trainer.evaluate", "nothing is remembered for gradients meanwhile, and afterwards everything is again"),
    *after(MODEL.format(True) + "trainer.evaluate(batches(2))" + THEN, {TAPE: "[False, True]"}),
    *after(MODEL.format(True) + "attempt(trainer.evaluate, BAD)" + THEN, {TAPE: "[True]"}),
    ("Trainer.evaluate", "parameters, gradients, the learning rate and the count of epochs stay as they are"),
    look.after(EVALUATE, "values(trainer.model)", np.concatenate([p.data.ravel() for p in Affine().parameters()])),
    *after(EVALUATE, UNTOUCHED | {"trainer.model.weight.grad": np.full((3, 2), 4.0), "trainer.model.bias.grad": None}),
    ("Trainer.evaluate", "no batch is a ValueError"),
    look.raises("trainer_of(Affine()).evaluate([])", ValueError),
    look.raises("trainer_of(Affine()).evaluate(iter([]))", ValueError),
)


# Checkpoints


def trained(seed: int, inputs: int = 3, kind: type = SGD, only: int = 2) -> Trainer:
    """A trainer as in the midst of a run: with an epoch, a velocity and a learning rate that none has at first."""
    model = Affine(seed, inputs)
    trainer = Trainer(model, kind(model.parameters()[:only], lr=0.1 * seed), squared)
    trainer.epoch = 4 * seed
    for parameter, state in zip(trainer.optimizer.params, trainer.optimizer.state):
        state["velocity"] = parameter.data * 2
    return trainer


def parts_of(state: dict[str, Any]) -> dict[str, np.ndarray]:
    """What a trainer's state, or a checkpoint, holds, as numbers."""
    states, settings = state["optimizer"]["state"], state["optimizer"]["settings"].values()
    remembered = [value for each in states for _, value in sorted(each.items())]
    random = state["random"]["state"]["state"] % 1_000_003
    parts = {"model": state["model"].values(), "optimizer": [len(states), *remembered, *settings]}
    arrays = {name: np.concatenate([np.ravel(value) for value in values]) for name, values in parts.items()}
    return arrays | {"epoch": np.array(state["epoch"]), "random": np.array(random)}


FOLDER, NUMBERS = TemporaryDirectory(), itertools.count()


def new_path(content: bytes = b"") -> Path:
    """A path in a new folder, where there is a file with this content, if there is any."""
    path = Path(FOLDER.name, str(next(NUMBERS)), "run.ckpt")
    path.parent.mkdir()
    if content:
        path.write_bytes(content)
    return path


def written(trainer: Trainer, seed: int = 6) -> bytes:
    """The content of its checkpoint."""
    manual_seed(seed)
    path = new_path()
    write_state(path, trainer.state())
    return path.read_bytes()


def beside(path: Path) -> str:
    """The names of the files in the path's folder."""
    return ", ".join(sorted(each.name for each in path.parent.iterdir()))


def flipped(share: float) -> bytes:
    """A checkpoint with one wrong bit, in the byte that lies at this share of all bytes."""
    at = int(share * (len(GOOD) - 1))
    return GOOD[:at] + bytes([GOOD[at] ^ 0x20]) + GOOD[at + 1 :]


class Unwritable(Affine):
    """Its state holds something that no checkpoint can hold, after arrays that one can."""

    def state_dict(self) -> dict[str, Any]:
        return super().state_dict() | {"what": object()}


def resumed(kind: type) -> list[np.ndarray]:
    """Losses, weights and random state of a run without a break, and of one that is resumed, with all that there is."""

    def run(seed: int) -> Trainer:
        model, settings = classifier(seed), {"max_norm": 1.0, "accumulate": 2}
        optimizer = kind(model.parameters(), lr=9.0)
        return Trainer(model, optimizer, CrossEntropyLoss(), CosineSchedule(0.02, 0.001, 6, 2), **settings)

    def end(trainer: Trainer) -> np.ndarray:
        losses = [trainer.train_epoch(data) for _ in range(2)]
        return np.concatenate([losses, values(trainer.model), [parts_of(trainer.state())["random"]]])

    data, path, one, other = classes(3, 6), new_path(), run(1), run(99)
    one.train_epoch(data)
    one.save_checkpoint(path)
    ends = [end(one)]
    other.load_checkpoint(path)
    return [*ends, end(other)]


GOOD, OLD = written(trained(1), seed=5), written(trained(2))
ONE = parts_of(read_state(new_path(GOOD)))
KEPT = "(new_path().parent / 'kept').hardlink_to(path)"  # so that no new file gets the number of the old one
SAVE = f"path = new_path(OLD); {KEPT}; number = path.stat().st_ino; manual_seed(5); trainer = trained(1); "
SAVED = SAVE + "trainer.save_checkpoint({}); start = np.frombuffer(path.read_bytes()[:2], np.uint8)"
FAIL = "path = new_path({}); attempt(trainer_of(Unwritable()).save_checkpoint, path)"
LOADED = "trainer = trained(2); manual_seed(7); trainer.load_checkpoint({}(new_path(GOOD)))"
REFUSED = "path = new_path({}); manual_seed(5); trainer = trained(1); attempt(trainer.load_checkpoint, path)"
MISFITS = [f"written(trained(2, {other}))" for other in ("inputs=4", "kind=AdamW", "only=1")]
MISFITS += ["written(Trainer(Sequential(Affine()), SGD(Affine().parameters()), squared))"]
BROKEN = ["b'not a checkpoint'", "GOOD + b'!'", "GOOD[1:]", "b' '", *(f"GOOD[:-{n}]" for n in (1, 64, 65, 300))]
BROKEN += [f"flipped({share:.2f})" for share in np.linspace(0, 1, 15)]
READ, STATE = "parts_of(read_state(path))[{!r}]", "parts_of(trainer.state())[{!r}]"

test_checkpoints = table(
    ("Trainer.save_checkpoint", "the file is what `read_state` reads, without pickle, and holds all of `state()`"),
    *(look.after(SAVED.format("path"), READ.format(part), ONE[part]) for part in ONE),
    *(look.after(SAVED.format("path"), STATE.format(part), ONE[part]) for part in ONE),
    *after(SAVED.format("path"), {"start": [80, 75]}),  # as any zip begins
    ("Trainer.save_checkpoint", "the path may be text"),
    look.after(SAVED.format("str(path)"), READ.format("model"), ONE["model"]),
    ("Trainer.save_checkpoint", "the new file takes the place of the old one at once"),
    *after("path = new_path(); trained(1).save_checkpoint(path)", {"beside(path)": "run.ckpt"}),
    *after(SAVED.format("path"), {"beside(path)": "run.ckpt", "path.stat().st_ino == number": False}),
    ("Trainer.save_checkpoint", "when writing breaks off, the error comes out"),
    look.raises("trainer_of(Unwritable()).save_checkpoint(new_path())", TypeError),
    ("Trainer.save_checkpoint", "and then the old checkpoint is whole and no half file is left"),
    *after(FAIL.format("OLD"), {"beside(path)": "run.ckpt", "path.read_bytes() == OLD": True}),
    *after(FAIL.format(""), {"beside(path)": ""}),
    ("Trainer.load_checkpoint", "the trainer goes on from all that the file holds; the path may be text"),
    *(look.after(LOADED.format("Path"), STATE.format(part), ONE[part]) for part in ONE),
    look.after(LOADED.format("str"), STATE.format("model"), ONE["model"]),
    ("Trainer.load_checkpoint", "one wrong bit anywhere, a missing end, an empty file, text: a ValueError"),
    *(look.raises(f"trained(2).load_checkpoint(new_path({content}))", ValueError) for content in BROKEN),
    ("Trainer.load_checkpoint", "a checkpoint of another model or optimizer is a ValueError"),
    *(look.raises(f"trained(1).load_checkpoint(new_path({content}))", ValueError) for content in MISFITS),
    ("Trainer.load_checkpoint", "a file that is not there is a FileNotFoundError"),
    look.raises("trained(2).load_checkpoint(new_path())", FileNotFoundError),
    ("Trainer.load_checkpoint", "when a checkpoint is refused, nothing is changed"),
    *(look.after(REFUSED.format(c), STATE.format(part), ONE[part]) for c in [*MISFITS, *BROKEN[:2]] for part in ONE),
    ("Trainer.load_checkpoint", "an epoch, a checkpoint and two more in a new trainer are bit for bit what three are"),
    *(look.gives(f"np.subtract(*resumed({kind}))", np.zeros(54), tolerance=0) for kind in ("AdamW", "SGD")),
)


# Systems


class Allocating:
    """In place of a trainer: its step holds 400,000 bytes for a while, and 160,000 for good."""

    def __init__(self, fails: bool = False) -> None:
        self.taken, self.kept, self.fails = 0, [], fails

    def train_step(self, group: Any) -> float:
        self.taken += 1
        self.kept.append(np.ones(20_000))
        for_a_while = np.ones(30_000)
        if self.fails:
            raise FloatingPointError("the step fails")
        return float(for_a_while[0])


def measured(trainer: Any) -> int:
    """What step_peak answers, in units of 20,000 bytes: what the step allocates besides arrays is far less."""
    return round(step_peak(trainer, []) / 20_000)


RUNS = "traces_after(lambda: attempt(step_peak, Allocating({}), []), {})"
BESIDE = "with traced(): kept, gone = np.ones(250_000), np.ones(10**6); del gone; answer = measured(Allocating())"
LINES = {
    "10_000, (10, 2_000), (20, 3_000)": 90,
    "10_099, (10, 2_000), (20, 3_000)": 90,
    "10_100, (20, 3_000), (10, 2_000)": 91,
    "1_050, (10, 2_000), (20, 3_000)": 0,
    "900, (10, 2_000), (20, 3_000)": 0,
    "70, (1, 10), (3, 30)": 7,
    "203_505, (1, 58_003), (28, 58_021)": 218_254,
}
# Budgets that are met to the byte, where bytes for each sample are a fraction: samples, bytes for them, how often both.
DRAWN = np.random.default_rng(5).integers(1, [50, 50, 9**9], (40, 3)).tolist()
EXACT = [(1000 + often * growth, (7, 1000), (7 + samples, 1000 + growth)) for samples, growth, often in DRAWN]
X, Y = np.arange(20.0).reshape(10, 2), np.arange(10) + 100
PIECES = "[(len(inputs), len(targets)) for inputs, targets in micro_batches(X, Y, {})]"
SIZES = {4: [4, 4, 2], 5: [5, 5], 10: [10], 99: [10], 1: [1] * 10, 9: [9, 1], 3: [3, 3, 3, 1]}
VIEWS = "sum(np.shares_memory(a, X) + np.shares_memory(b, Y) for a, b in micro_batches(X, Y, {}))"
RISING = SimpleNamespace(get_lr=lambda epoch: 0.5 + epoch**2)

test_systems = table(
    ("step_peak", "what the step has allocated at its highest point, beyond what was there before"),
    look.equals("measured(Allocating())", 20),
    *after(BESIDE, {"answer": 20}),
    ("step_peak", "one step is taken, and its error comes out"),
    *after("trainer = Allocating(); step_peak(trainer, [])", {"trainer.taken": 1}),
    look.raises("step_peak(Allocating(fails=True), [])", FloatingPointError),
    ("step_peak", "tracemalloc is afterwards as it was before, also after an error"),
    *(look.equals(RUNS.format(fails, old), old) for old in (True, False) for fails in (True, False)),
    ("micro_batches", "pieces of `limit` in order, the last one with the rest"),
    *(look.equals(f"tuple({PIECES.format(limit)})", tuple((n, n) for n in ns)) for limit, ns in SIZES.items()),
    ("micro_batches", "each piece has the inputs and the targets that follow on those of the one before"),
    *(look.gives(f"np.concatenate([x for x, _ in micro_batches(X, Y, {limit})])", X) for limit in SIZES),
    *(look.gives(f"np.concatenate([y for _, y in micro_batches(X, Y, {limit})])", Y) for limit in SIZES),
    ("micro_batches", "arrays are not copied, and Tensors and lists are taken too"),
    *(look.equals(VIEWS.format(limit), 2 * len(sizes)) for limit, sizes in SIZES.items()),
    look.equals("micro_batches([1, 2, 3], [7, 8, 9], 2)", [([1, 2], [7, 8]), ([3], [9])]),
    look.gives("micro_batches(Tensor(X), Tensor(Y), 4)[2][0]", X[8:]),
    ("largest_batch", "where the straight line through both measurements meets the budget, rounded down, or 0"),
    *(look.equals(f"largest_batch({arguments})", expected) for arguments, expected in LINES.items()),
    ("largest_batch", "it is exact, also where the budget is met to the byte and bytes for each sample are a fraction"),
    look.equals(
        "np.array([largest_batch(*each) for each in EXACT])", np.array([7 + often * n for n, _, often in DRAWN])
    ),
    ("largest_batch", "it is an int"),
    *(look.equals(f"isinstance(largest_batch({each}), (int, np.integer))", True) for each in LINES),
    ("travel", "the sum of the learning rates of all steps"),
    look.gives("travel(RISING, 4, 5)", 5 * (0.5 + 1.5 + 4.5 + 9.5), tolerance=1e-9),
    look.gives("travel(RISING, 3, 2)", 2 * (0.5 + 1.5 + 4.5), tolerance=1e-9),
    look.gives("travel(RISING, 1, 100)", 50.0, tolerance=1e-9),
    look.gives("travel(RISING, 0, 100)", 0.0),
)
