"""Milestone 1: a perceptron, trained with your own layer, activation and loss.

It separates points on a plane by a straight line. There is no autograd yet: the gradient is worked out on paper and
written in `gradients`, and a check against the slope of your own loss shows that the paper is right.
"""

from __future__ import annotations

import sys
import tracemalloc
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # started by hand
    sys.path.insert(0, str(ROOT))

from milestones.drawing import BLUE, GREEN, GREY, ORANGE, RED
from workshop.training_run import Run, main

STEPS = 300
RATE = 1.0  # learning rate
MARGIN = 0.08  # no point is closer to the true line
STARTS = 20  # weights that each activation starts from, in the comparison


@dataclass(frozen=True)
class Points:
    """Points on a plane, and on which side of the line each lies."""

    x: np.ndarray  # (count, 2) float32
    y: np.ndarray  # (count, 1) float32, 0 or 1


def points(rng: np.random.Generator, count: int, line: np.ndarray) -> Points:
    """Points in the square from -1 to 1 that `line`, (a, b, c) with ax + by + c = 0 and a² + b² = 1, separates."""
    x = rng.uniform(-1, 1, (4 * count, 2))
    distance = x @ line[:2] + line[2]
    kept = np.flatnonzero(np.abs(distance) > MARGIN)[:count]
    return Points(x[kept].astype(np.float32), (distance[kept, None] > 0).astype(np.float32))


class Perceptron:
    """One linear layer, one activation, and a loss; the gradient by hand."""

    def __init__(self, tt: Any, activation: str = "Sigmoid", loss: str = "BinaryCrossEntropyLoss") -> None:
        self.tt, self.activation_name, self.loss_name = tt, activation, loss
        self.linear, self.activation, self.loss = tt.Linear(2, 1), getattr(tt, activation)(), getattr(tt, loss)()

    def forward(self, x: np.ndarray) -> Any:
        """(count, 2) -> (count, 1)"""
        return self.activation(self.linear(self.tt.Tensor(x)))

    def gradients(self, x: np.ndarray, y: np.ndarray, predictions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The gradients of the loss for weight and bias, by the chain rule: with z = x W + b and p = activation(z),

            dL/dz = dL/dp · dp/dz,    dL/dW = xᵀ dL/dz,    dL/db = Σ dL/dz.

        For Sigmoid and binary cross-entropy, dL/dp = (p - y) / (p (1 - p)) / count, dp/dz = p (1 - p): what divides
        and what multiplies is the same, and is left out.
        """
        p = predictions
        if self.loss_name == "BinaryCrossEntropyLoss":
            to_z = (p - y) / len(p)
        else:  # mean squared error
            to_z = 2 * (p - y) / len(p) * (p * (1 - p) if self.activation_name == "Sigmoid" else p > 0)
        return x.T @ to_z, to_z.sum(axis=0)

    def step(self, x: np.ndarray, y: np.ndarray) -> float:
        """One step of gradient descent. Returns the loss before it."""
        predictions = self.forward(x)
        loss = self.loss(predictions, self.tt.Tensor(y)).item()
        to_weight, to_bias = self.gradients(x, y, predictions.data)
        self.linear.weight.data -= RATE * to_weight
        self.linear.bias.data -= RATE * to_bias
        return loss

    def values(self) -> list[float]:
        """The two weights and the bias."""
        return [*self.linear.weight.data.ravel().tolist(), *self.linear.bias.data.tolist()]

    def take(self, values: list[float]) -> None:
        """Set the two weights and the bias."""
        self.linear.weight.data[:, 0], self.linear.bias.data[:] = values[:2], values[2]


def accuracy(model: Perceptron, data: Points) -> float:
    """The share of points on the right side, counted here and not by the package."""
    return float(((model.forward(data.x).data > 0.5) == (data.y > 0.5)).mean())


def slope_error(model: Perceptron, data: Points) -> float:
    """How far the gradient by hand is from the slope of the loss: the largest difference, in float64."""
    weight, bias = model.linear.weight, model.linear.bias
    before = weight.data, bias.data
    x, y, eps = data.x.astype(np.float64), data.y.astype(np.float64), 1e-5

    def loss_at(start: np.ndarray) -> float:
        weight.data, bias.data = start[:2, None], start[2:]
        return model.loss(model.forward(x), model.tt.Tensor(y)).item()

    start = np.array(model.values(), np.float64)
    measured = [(loss_at(start + d) - loss_at(start - d)) / (2 * eps) for d in eps * np.eye(3)]
    loss_at(start)
    by_hand = np.concatenate([each.ravel() for each in model.gradients(x, y, model.forward(x).data)])
    weight.data, bias.data = before
    return float(np.abs(by_hand - measured).max())


def train(run: Run) -> None:
    """The milestone."""
    tt = run.tinytorch
    rng = np.random.default_rng(run.seed)
    angle = rng.uniform(0, 2 * np.pi)
    line = np.array([np.cos(angle), np.sin(angle), rng.uniform(-0.3, 0.3)])
    training, held_out = points(rng, 400, line), points(rng, 1000, line)
    for name, data in {"training points": training, "held-out points": held_out}.items():
        run.noted(name, data.x.tobytes() + data.y.tobytes())

    tt.manual_seed(run.seed)
    model = Perceptron(tt)
    start = model.values()
    off = slope_error(model, training)
    fit(run, model, training, held_out, STEPS // 10 if run.quick else STEPS)

    right = accuracy(model, held_out)
    run.metrics |= {"weights": model.values(), "training accuracy": accuracy(model, training)}
    run.metrics |= {"held-out accuracy": right, "loss": run.epochs[-1]["loss"]}
    run.require(f"right side of the line, % of {len(held_out.y)} held-out points", 100 * right, ">=", 95)
    run.require(
        "parameters that moved, of 3", np.count_nonzero(np.subtract(model.values(), start)), "==", 3, full_only=False
    )
    run.require("gradient by hand against the slope of the loss", off, "<", 1e-6, full_only=False)

    draw_boundary(run, model, held_out, line, start)
    draw_convergence(run, training, held_out)
    draw_memory(run, model, line)


def fit(run: Run, model: Perceptron, training: Points, held_out: Points, steps: int) -> None:
    """Train in ten epochs of full-batch steps, each kept, so that an interrupted run can go on."""
    run.go_on()
    if run.epochs:
        model.take(run.epochs[-1]["weights"])
    with run.bar("training", steps, "steps", done=len(run.epochs) * steps // 10) as advance:
        for epoch in range(len(run.epochs), 10):
            for _ in range(steps // 10):
                loss = model.step(training.x, training.y)
                advance(1, loss)
            right = accuracy(model, held_out)
            run.keep(loss=loss, accuracy=right, weights=model.values())
            run.say(f"step {(epoch + 1) * steps // 10:4}: loss {loss:.4f}, {right:.1%} of the held-out points right")


# Pictures


def draw_boundary(run: Run, model: Perceptron, data: Points, line: np.ndarray, start: list[float]) -> None:
    """The plane in the colours of the model's answer, and how the boundary came to lie there."""
    grid = np.linspace(-1, 1, 201)
    plane = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2).astype(np.float32)
    answer = model.forward(plane).data.reshape(201, 201)
    with run.picture("boundary", 7.2, 6.4) as figure:
        from matplotlib.colors import LinearSegmentedColormap

        axes = figure.subplots()
        axes.grid(False)
        pale = LinearSegmentedColormap.from_list("pale", ["#a6cbe3", "#f7f7f7", "#f4b6a0"])
        shades = axes.pcolormesh(grid, grid, answer, cmap=pale, vmin=0, vmax=1)
        figure.colorbar(shades, ax=axes, label="probability of class 1", shrink=0.8)
        for value, marker, colour in ((0, "o", BLUE), (1, "^", RED)):
            x = data.x[data.y[:, 0] == value]
            axes.scatter(
                *x.T, s=12, marker=marker, color=colour, linewidths=0, label=f"held-out points of class {value}"
            )
        for weights, style, label in [
            (start, ":", "boundary before training"),
            (run.epochs[0]["weights"], "--", f"after a tenth of the {10 * (STEPS // 10)} steps"),
            (model.values(), "-", "after training"),
        ]:
            axes.plot(*boundary(weights), style, color="black", linewidth=1.8, label=label)
        axes.plot(*boundary(line), color=GREEN, linewidth=5, alpha=0.4, label="the true line", zorder=1)
        axes.set(xlim=(-1, 1), ylim=(-1, 1), aspect="equal", xlabel="x₁", ylabel="x₂")
        axes.set_title(
            f"Linear(2, 1) and Sigmoid: {accuracy(model, data):.1%} of {len(data.y)} held-out points right", pad=12
        )
        figure.legend(loc="outside lower center", ncols=2, frameon=False)


def boundary(weights: Any) -> tuple[np.ndarray, np.ndarray]:
    """Two far ends of the line where the perceptron is undecided."""
    a, b, c = weights
    foot, along = -c * np.array([a, b]) / (a * a + b * b), np.array([-b, a]) / np.hypot(a, b)
    return tuple(np.array([foot - 3 * along, foot + 3 * along]).T)


def draw_convergence(run: Run, training: Points, held_out: Points) -> None:
    """Sigmoid against ReLU, from the same starting weights: how the held-out accuracy grows."""
    steps, starts = (20, 3) if run.quick else (STEPS, STARTS)
    variants = [
        ("Sigmoid", "BinaryCrossEntropyLoss", "Sigmoid, cross-entropy", BLUE),
        ("Sigmoid", "MSELoss", "Sigmoid, squared error", GREEN),
        ("ReLU", "MSELoss", "ReLU, squared error", ORANGE),
    ]
    with run.picture("convergence", 11, 4) as figure:
        for axes, (activation, loss, label, colour) in zip(figure.subplots(1, 3, sharey=True), variants):
            curves = np.array([curve(run, activation, loss, seed, steps, training, held_out) for seed in range(starts)])
            axes.plot(100 * curves.T, color=colour, alpha=0.35, linewidth=0.9)
            axes.plot(100 * np.median(curves, axis=0), color=colour, linewidth=3)
            axes.axhline(95, color=GREY, linestyle=":")
            axes.set(xscale="symlog", xlim=(0, steps), xlabel="step")
            axes.set_xticks([0, 1, 3, 10, 30, 100, 300], ["0", "1", "3", "10", "30", "100", "300"])
            reached = int((curves[:, -1] >= 0.95).sum())
            axes.set_title(f"{label}:\n{reached} of {starts} reach 95 %")
            run.metrics[f"starts that reach 95 %: {label}"] = f"{reached} of {starts}"
        figure.axes[0].set_ylabel("held-out points right, %")
        figure.suptitle(f"The same {starts} starting weights (thin), and the median (thick)", fontsize=10)


def curve(
    run: Run, activation: str, loss: str, seed: int, steps: int, training: Points, held_out: Points
) -> list[float]:
    """The held-out accuracy before each step."""
    run.tinytorch.manual_seed(1000 + seed)
    model, found = Perceptron(run.tinytorch, activation, loss), []
    for _ in range(steps):
        found.append(accuracy(model, held_out))
        model.step(training.x, training.y)
    return found


def draw_memory(run: Run, model: Perceptron, line: np.ndarray) -> None:
    """What a step of the loop takes: over the steps, and over the number of points."""
    rng = np.random.default_rng(run.seed)
    data, steps = points(rng, 400, line), 5 if run.quick else 60
    by_step, hoarding = step_memory(model, data, steps) / 1024, step_memory(model, data, steps, hoard=True) / 1024
    counts = np.array([100, 400, 1600, 6400, 25600])
    by_count = np.array([step_memory(model, points(rng, count, line), 3)[-1, 1] for count in counts])
    run.metrics["peak of a step in bytes, by points"] = dict(zip(counts.tolist(), by_count.tolist()))
    run.metrics["bytes that each step leaves behind"] = float(by_step[-1, 0] - by_step[0, 0]) * 1024 / steps
    with run.picture("memory", 10) as figure:
        left, right = figure.subplots(1, 2)
        left.plot(hoarding[:, 0], "--", color=GREY, label="left after a step, if each prediction is kept")
        left.plot(by_step[:, 1], color=ORANGE, label="at the peak of a step")
        left.plot(by_step[:, 0], color=BLUE, label="left after a step")
        left.set(xlabel="step", ylabel="KiB", ylim=(0, 1.4 * hoarding.max()), title="The loop with 400 points")
        left.legend()
        right.loglog(counts, by_count / 1024, "o-", color=ORANGE, label="at the peak of a step")
        right.loglog(counts, counts * 8 / 1024, "--", color=GREY, label="the points alone: 8 bytes each")
        right.set(xlabel="points in a step", ylabel="KiB", title="A step's peak grows with its points")
        right.legend()


def step_memory(model: Perceptron, data: Points, steps: int, hoard: bool = False) -> np.ndarray:
    """(steps, 2): what was alive after each step, and at its peak, in bytes beyond what was there before the first.

    Args:
        hoard: keep the prediction of each step, a common mistake ("for the plot").
    """
    found, kept = np.zeros((steps, 2)), []
    model.step(data.x, data.y)
    tracemalloc.start()
    try:
        for each in found:
            tracemalloc.reset_peak()
            model.step(data.x, data.y)
            if hoard:
                kept.append(model.forward(data.x))
            each[:] = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return found


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__.splitlines()[0], train))
