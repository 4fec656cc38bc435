"""What is compared: pairs of the same computation, in tinytorch and in PyTorch as their users would write it.

A new comparison is a function that gives a `Case`, listed in `CASES`. `run.py` starts this file as a process, once for
each number of threads; it prints what it finds, a line of JSON a case.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "solutions"), str(ROOT)]

import tinytorch as tt

from benchmarks.pairs import Case, Side, measure
from milestones.m2_mlp import BATCH, HIDDEN, RATE, mlp


def apart(ours: np.ndarray, theirs: torch.Tensor) -> float:
    """The largest difference, relative to the largest element."""
    expected = theirs.detach().numpy()
    return float(np.abs(ours - expected).max() / np.abs(expected).max())


def matmul(size: int) -> Case:
    """The product of two square matrices, float32."""
    a, b = (np.random.default_rng(seed).standard_normal((size, size), np.float32) for seed in (0, 1))
    our_a, our_b, their_a, their_b = tt.Tensor(a), tt.Tensor(b), torch.from_numpy(a), torch.from_numpy(b)
    return Case(
        f"matmul {size} x {size}",
        Side(lambda: our_a @ our_b),
        Side(lambda: their_a @ their_b),
        lambda: apart((our_a @ our_b).data, their_a @ their_b),
    )


class OurMLP:
    """The model of milestone 2 in tinytorch, one step at a time."""

    def __init__(self) -> None:
        tt.manual_seed(0)
        self.model, self.loss_fn = mlp(tt), tt.CrossEntropyLoss()
        self.optimizer = tt.AdamW(self.model.parameters(), lr=RATE)
        self.x, self.y = batch()
        self.loss: Any = None

    def forward(self) -> None:
        self.loss = self.loss_fn(self.model(tt.Tensor(self.x)), self.y)

    def backward(self) -> None:
        self.loss.backward()

    def prepared(self) -> None:
        self.optimizer.zero_grad()
        self.forward()

    def step(self) -> float:
        self.prepared()
        self.backward()
        self.optimizer.step()
        return self.loss.item()


class TheirMLP(OurMLP):
    """The same in PyTorch, from the same weights."""

    def __init__(self, ours: OurMLP) -> None:
        self.model = torch.nn.Sequential(torch.nn.Linear(784, HIDDEN), torch.nn.ReLU(), torch.nn.Linear(HIDDEN, 10))
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                parameter.copy_(torch.from_numpy(dict(ours.model.named_parameters())[name].data.T))
        self.loss_fn = torch.nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=RATE)
        self.x, self.y = batch()
        self.loss = None

    def forward(self) -> None:
        self.loss = self.loss_fn(self.model(torch.from_numpy(self.x)), torch.from_numpy(self.y))


def batch() -> tuple[np.ndarray, np.ndarray]:
    """As many pixels as a batch of milestone 2 has, as dark as MNIST's: 19 % of them are not 0."""
    rng = np.random.default_rng(2)
    x = rng.random((BATCH, 784), np.float32) * (rng.random((BATCH, 784)) < 0.19)
    return x.astype(np.float32), rng.integers(0, 10, BATCH)


def mlp_case(part: str, asked: float | None = None) -> Case:
    """A training step of milestone 2's model at its batch size, or a part of one."""
    ours = OurMLP()
    theirs = TheirMLP(ours)

    def side(which: OurMLP) -> Side:
        return {
            "forward": Side(which.forward),
            "backward": Side(which.backward, which.prepared),
            "AdamW": Side(which.optimizer.step),
            "training step": Side(which.step),
        }[part]

    def difference() -> float:
        """Over the losses of five steps."""
        losses = np.array([(ours.step(), theirs.step()) for _ in range(5)])
        return float((np.abs(losses[:, 0] - losses[:, 1]) / losses[:, 1]).max())

    return Case(f"MLP, {part}", side(ours), side(theirs), difference, asked)


CASES: list[Callable[[], Case]] = [
    lambda: matmul(256),
    lambda: matmul(1024),
    lambda: mlp_case("forward"),
    lambda: mlp_case("backward"),
    lambda: mlp_case("AdamW"),
    lambda: mlp_case("training step", asked=1.5),
]

if __name__ == "__main__":
    for make in CASES:
        print(json.dumps(measure(make())), flush=True)
