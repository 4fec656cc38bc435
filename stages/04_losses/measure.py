"""Measures what stage 04's lesson tells: where losses overflow, what they keep, how steep they are, how low they go.

tox -e measure04
"""

import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, save_plot, seconds  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import BinaryCrossEntropyLoss, CrossEntropyLoss, MSELoss, Tensor, log_softmax, plug_in
from tinytorch.systems.losses import entropy, kl_divergence, loss_bytes

random = np.random.default_rng(0)


def stability() -> None:
    print("Loss of a sample whose right class has the logit 0, beside one of logit z; float32")
    print(f"{'z':>8}{'-log(softmax)':>18}{'the same, max off':>20}{'-log_softmax':>16}")
    for z in (1.0, 10.0, 50.0, 100.0, 1000.0, 10000.0):
        x = np.array([0.0, z], np.float32)
        with np.errstate(all="ignore"):
            plain = -np.log(np.exp(x) / np.exp(x).sum())[0]
            shifted = -np.log(np.exp(x - z) / np.exp(x - z).sum())[0]
        right = -log_softmax(Tensor(x)).data[0]
        print(f"{z:>8.0f}{plain:>18.4f}{shifted:>20.4f}{right:>16.4f}")


def composed(logits: Tensor, classes: np.ndarray) -> Tensor:
    """The loss made of tensor operations, one after the other."""
    targets = np.zeros(logits.shape, logits.dtype)
    targets[np.arange(len(classes)), classes] = 1
    shifted = logits - logits.max(axis=1, keepdims=True)
    powers = shifted.exp()
    probabilities = powers / powers.sum(axis=1, keepdims=True)
    return -(probabilities.log() * Tensor(targets)).sum() / len(classes)


def kept_bytes(action: Callable[[], Tensor]) -> int:
    """What is still allocated after `action` while a tape holds on to all that came through the door."""
    kept: list[Any] = []

    def record(op: str, result: Tensor, inputs: tuple[Tensor, ...], saved: dict[str, Any]) -> None:
        result.requires_grad = True
        kept.append((result, inputs, saved))

    before = plug_in(SimpleNamespace(record=record))
    tracemalloc.start()
    action()
    counted = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    plug_in(before)
    return counted


def memory() -> None:
    print("\nCross-entropy of given logits, float32: kept for the way back (predicted by loss_bytes), and time forward")
    print(f"{'batch':>7}{'classes':>9}{'':>10}{'kept':>14}{'predicted':>14}{'time':>14}")
    for batch, classes in ((64, 10), (256, 1000), (64, 50_257)):
        logits = Tensor(random.standard_normal((batch, classes), np.float32), requires_grad=True)
        targets = random.integers(0, classes, batch)
        for name, action in (("composed", composed), ("fused", CrossEntropyLoss())):
            kept = kept_bytes(lambda: action(logits, targets))
            predicted = loss_bytes(batch, classes, 4, fused=name == "fused")
            detached = logits.detach()
            took = seconds(lambda: action(detached, targets))
            sizes = f"{kept / 1e3:>11.0f} kB{predicted / 1e3:>11.0f} kB"
            print(f"{batch:>7}{classes:>9}{name:>10}{sizes}{took * 1e3:>11.3f} ms")


def sigmoid(z: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-z))


def slope(loss: Callable[[Tensor, Any], Tensor], z: float) -> float:
    """By how much the loss of sigmoid(z), which should be 1, changes with z: a central difference in float64."""
    ends = [loss(Tensor(sigmoid(np.array([z + step]))), [1.0]).item() for step in (1e-4, -1e-4)]
    return (ends[0] - ends[1]) / 2e-4


def steepness() -> None:
    print("\nOne prediction sigmoid(z) that should be 1: loss, and its slope, which is all that training sees")
    print(f"{'z':>6}{'prediction':>13}{'MSE':>10}{'slope':>11}{'BCE':>10}{'slope':>11}")
    for z in (-10.0, -5.0, -2.0, 0.0, 2.0, 5.0):
        row = f"{z:>6.0f}{sigmoid(np.array(z)):>13.5f}"
        for loss in (MSELoss(), BinaryCrossEntropyLoss()):
            row += f"{loss(Tensor(sigmoid(np.array([z]))), [1.0]).item():>10.4f}{slope(loss, z):>11.5f}"
        print(row)


def floors() -> None:
    print(
        "\nThe lowest loss of 10 classes: entropy of the target probabilities. Confidence c: one logit of c, nine of 0"
    )
    print(
        f"{'smoothing':>10}{'entropy':>10}{'logits=log(targets)':>20}"
        f"{'c = 2':>9}{'c = 5':>9}{'c = 10':>9}{'c = 100':>10}{'KL at 100':>11}"
    )
    for smoothing in (0.0, 0.1, 0.2):
        loss = CrossEntropyLoss(label_smoothing=smoothing)
        targets = np.full(10, smoothing / 10)
        targets[0] += 1 - smoothing
        with np.errstate(divide="ignore"):
            best = loss(Tensor(np.log(targets)[None]), [0]).item() + 0.0  # -0.0 is 0.0
        row = f"{smoothing:>10.1f}{entropy(targets):>10.4f}{best:>20.4f}"
        for c in (2.0, 5.0, 10.0, 100.0):
            logits = np.zeros((1, 10))
            logits[0, 0] = c
            row += f"{loss(Tensor(logits), [0]).item() + 0.0:>{9 if c < 100 else 10}.4f}"
        print(f"{row}{kl_divergence(targets, np.exp(log_softmax(Tensor(logits)).data[0])):>11.4f}")


def plot() -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    z = np.linspace(-8, 8, 161)
    for name, loss in (("MSE", MSELoss()), ("binary cross-entropy", BinaryCrossEntropyLoss())):
        left.plot(z, [loss(Tensor(sigmoid(np.array([value]))), [1.0]).item() for value in z], label=name)
        right.plot(z, [slope(loss, value) for value in z], label=name)
    left.set(title="Loss of sigmoid(z), target 1", xlabel="z", ylabel="loss")
    right.set(title="Its slope: what a step has to go by", xlabel="z", ylabel="d loss / d z")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    save_plot(figure, __file__)


def main() -> None:
    stability()
    memory()
    steepness()
    floors()
    plot()


measure(main)
