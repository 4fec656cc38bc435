"""What is compared: pairs of the same computation, in tinytorch and in PyTorch as their users would write it.

A new comparison is a function that gives a `Case`, listed in `CASES`. `run.py` starts this file as a process, once for
each number of threads, with a name of a list in `CASES`; it prints what it finds, a line of JSON a case.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "solutions"), str(ROOT)]

import tinytorch as tt
from benchmarks.language import LANGUAGE
from benchmarks.pairs import Case, Side, measure, quartiles
from milestones import m2_mlp, m3_cnn
from milestones.m3_data import MEAN, STD
from milestones.models import CHANNELS, HIDDEN, cnn, mlp
from workshop.judging import values


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
        self.model, self.loss_fn = mlp(tt, *m2_mlp.SIZES), tt.CrossEntropyLoss()
        self.optimizer = tt.AdamW(self.model.parameters(), lr=m2_mlp.RATE)
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
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=m2_mlp.RATE)
        self.x, self.y = batch()
        self.loss = None

    def forward(self) -> None:
        self.loss = self.loss_fn(self.model(torch.from_numpy(self.x)), torch.from_numpy(self.y))


def batch() -> tuple[np.ndarray, np.ndarray]:
    """As many pixels as a batch of milestone 2 has, as dark as MNIST's: 19 % of them are not 0."""
    rng = np.random.default_rng(2)
    x = rng.random((m2_mlp.BATCH, 784), np.float32) * (rng.random((m2_mlp.BATCH, 784)) < 0.19)
    return x.astype(np.float32), rng.integers(0, 10, m2_mlp.BATCH)


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


class OurCNN(OurMLP):
    """The model of milestone 3, one step at a time."""

    def __init__(self) -> None:
        tt.manual_seed(0)
        self.model, self.loss_fn = cnn(tt), tt.CrossEntropyLoss()
        self.optimizer = tt.AdamW(self.model.parameters(), lr=m3_cnn.RATE)
        self.x, self.y = pictures()
        self.loss = None


class TheirCNN(TheirMLP):
    """The same in PyTorch, from the same weights."""

    def __init__(self, ours: OurCNN) -> None:
        layers: list[torch.nn.Module] = []
        for before, after in zip((3, *CHANNELS), CHANNELS):
            layers += [torch.nn.Conv2d(before, after, 3, padding=1, bias=False), torch.nn.BatchNorm2d(after)]
            layers += [torch.nn.ReLU(), torch.nn.MaxPool2d(2)]
        self.model = torch.nn.Sequential(*layers, torch.nn.Flatten(), torch.nn.Linear(CHANNELS[-1] * 16, 10))
        weights = values(ours.model)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                value = weights[name]
                parameter.copy_(torch.from_numpy(value.T if value.ndim == 2 else value))
        self.loss_fn = torch.nn.CrossEntropyLoss()
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=m3_cnn.RATE)
        self.x, self.y = pictures()
        self.loss = None


def pictures() -> tuple[np.ndarray, np.ndarray]:
    """A batch of milestone 3's size."""
    rng = np.random.default_rng(3)
    return rng.standard_normal((m3_cnn.BATCH, 3, 32, 32), np.float32), rng.integers(0, 10, m3_cnn.BATCH)


def cnn_case(part: str, asked: float | None = None) -> Case:
    """A training step of milestone 3's model at its batch size, or its forward half."""
    ours = OurCNN()
    theirs = TheirCNN(ours)
    sides = [Side(which.forward if part == "forward" else which.step) for which in (ours, theirs)]

    def difference() -> float:
        """Over the losses of the first two steps; later ones drift apart, as AdamW makes much of small gradients."""
        losses = np.array([(ours.step(), theirs.step()) for _ in range(2)])
        return float((np.abs(losses[:, 0] - losses[:, 1]) / losses[:, 1]).max())

    return Case(f"CNN, {part}", *sides, difference, asked)


def convolution() -> Case:
    """im2col and a matrix product, beside the seven loops of the definition."""
    rng = np.random.default_rng(4)
    x, layer = tt.Tensor(rng.standard_normal((8, 16, 16, 16), np.float32)), tt.Conv2d(16, 32, 3, padding=1)

    def naive() -> np.ndarray:
        return tt.conv2d_naive(x, layer.weight, layer.bias, padding=1)

    def difference() -> float:
        expected = naive()
        return float(np.abs(layer(x).data - expected).max() / np.abs(expected).max())

    sides = Side(lambda: layer(x)), Side(naive, once=True)
    return Case("Conv2d 16 to 32 channels, 16 x 16, batch 8", *sides, difference, 1 / 200, "conv2d_naive", pairs=3)


def loading(pairs: int = 5, steps: int = 20) -> dict[str, Any]:
    """The share of a CNN's training time that is spent waiting for batches, with and without prefetch; a row."""
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (steps * m3_cnn.BATCH, 3, 32, 32), np.uint8)
    data = tt.ImageDataset(images, rng.integers(0, 10, len(images)), tt.RandomHorizontalFlip(), MEAN, STD)
    ours = OurCNN()

    def loader(prefetch: int) -> Any:
        return tt.DataLoader(data, m3_cnn.BATCH, shuffle=True, seed=0, prefetch=prefetch)

    def waited(prefetch: int) -> float:
        """Per cent of the time of an epoch."""
        began, waiting, batches = time.perf_counter(), 0.0, iter(loader(prefetch))
        for _ in range(steps):
            asked = time.perf_counter()
            ours.x, ours.y = (tensor.data for tensor in next(batches))
            waiting += time.perf_counter() - asked
            ours.step()
        return 100 * waiting / (time.perf_counter() - began)

    apart = max(float(np.abs(a.data - b.data).max()) for (a, _), (b, _) in zip(loader(2), loader(0)))
    if apart:
        raise ValueError(f"with and without prefetch the batches differ, by {apart:.2g}")
    shares = np.zeros((pairs, 2))
    for pair in range(pairs):
        for which in (0, 1) if pair % 2 else (1, 0):
            shares[pair, which] = waited(2 if which == 0 else 0)
    found = {"name": "waiting for batches, prefetch=2", "against": "prefetch=0", "unit": "% of a CNN's step"}
    found |= {"ours": quartiles(shares[:, 0]), "theirs": quartiles(shares[:, 1])}
    return found | {"ratio": quartiles(shares[:, 0] / shares[:, 1]), "asked": None, "difference": apart}


CASES: dict[str, list[Callable[[], Case | dict[str, Any]]]] = {
    "products": [
        lambda: matmul(256),
        lambda: matmul(1024),
        lambda: mlp_case("forward"),
        lambda: mlp_case("backward"),
        lambda: mlp_case("AdamW"),
        lambda: mlp_case("training step", asked=1.5),
    ],
    "images": [
        lambda: cnn_case("forward"),
        lambda: cnn_case("training step", asked=2.5),
        convolution,
        loading,
    ],
    "language": LANGUAGE,
}

if __name__ == "__main__":
    for make in CASES[sys.argv[1]]:
        found = make()
        print(json.dumps(measure(found) if isinstance(found, Case) else found), flush=True)
