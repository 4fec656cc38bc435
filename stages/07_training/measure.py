"""Measures what stage 07's lesson tells: batches against memory and time, accumulation, warmup, checkpoints.

tox -e measure07
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, save_plot, seconds  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import (
    AdamW,
    CosineSchedule,
    CrossEntropyLoss,
    Linear,
    ReLU,
    Sequential,
    Trainer,
    clip_grad_norm,
    manual_seed,
)
from tinytorch.systems.training import largest_batch, micro_batches, step_peak, travel

Group = list[tuple[np.ndarray, np.ndarray]]


def trainer_of(*widths: int, lr: float = 0.001) -> Trainer:
    """An MLP with these widths, always with the same first weights."""
    manual_seed(0)
    layers = [Linear(widths[0], widths[1])]
    for fan_in, fan_out in zip(widths[1:], widths[2:]):
        layers += [ReLU(), Linear(fan_in, fan_out)]
    model = Sequential(*layers)
    return Trainer(model, AdamW(model.parameters(), lr=lr), CrossEntropyLoss())


def images(size: int) -> tuple[np.ndarray, np.ndarray]:
    """A batch of the shape of MNIST's."""
    random = np.random.default_rng(0)
    return random.random((size, 784), dtype=np.float32), random.integers(0, 10, size)


def clouds(size: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Points of 20 coordinates, classed by a network with random weights."""
    x = np.random.default_rng(seed).normal(size=(size, 20)).astype(np.float32)
    random = np.random.default_rng(5)
    return x, (np.tanh(x @ random.normal(size=(20, 40)) * 0.7) @ random.normal(size=(40, 5))).argmax(axis=1)


def batch_sizes() -> list[tuple[int, int]]:
    """Prints the table; returns (batch, peak)."""
    print("One step of 784-256-10 with AdamW, float32: 0.8 MB of parameters")
    print(f"{'batch':>7}{'highest memory':>18}{'foretold':>14}{'a step':>14}{'a sample':>12}")
    measured = []
    for size in (1, 16, 64, 256, 1024, 2048, 8192):
        trainer, group = trainer_of(784, 256, 10), [images(size)]
        trainer.train_step(group)  # AdamW makes its state
        measured.append((size, step_peak(trainer, group)))
        spent = seconds(lambda: trainer.train_step(group))
        print(
            f"{size:>7}{measured[-1][1] / 1e6:>15.2f} MB{foretold(measured, size):>14}"
            f"{spent * 1e3:>11.2f} ms{spent / size * 1e6:>9.1f} µs"
        )
    most = largest_batch(1_000_000_000, measured[4], measured[5])
    print(f"by the steps of 1024 and 2048, 1 GB is enough for a batch of {most:,}")
    return measured


def line(measured: list[tuple[int, int]]) -> tuple[float, float]:
    """Slope and start of the line through the peaks of 1024 and 2048."""
    (small, low), (large, high) = measured[4:6]
    slope = (high - low) / (large - small)
    return slope, low - slope * small


def foretold(measured: list[tuple[int, int]], size: int) -> str:
    """The peak for `size` on that line, once there is one."""
    if len(measured) < 7:
        return "-"
    slope, start = line(measured)
    return f"{(start + slope * size) / 1e6:.2f} MB"


def accumulation() -> None:
    print("\nOne step for 4096 samples, at once or gathered from micro-batches")
    print(f"{'pieces':>7}{'of':>7}{'highest memory':>18}{'time':>14}{'largest difference of a parameter':>36}")
    x, y = images(4096)
    first = None
    for limit in (4096, 1024, 256, 64):
        group = micro_batches(x, y, limit)
        trainer = trainer_of(784, 256, 10)
        trainer.train_step(group)
        after = [parameter.data.copy() for parameter in trainer.model.parameters()]
        first = first or after
        difference = max(float(np.abs(a - b).max()) for a, b in zip(after, first))
        peak, spent = step_peak(trainer, group), seconds(lambda: trainer.train_step(group))
        print(f"{len(group):>7}{limit:>7}{peak / 1e6:>15.2f} MB{spent * 1e3:>11.1f} ms{difference:>36.9f}")


def first_steps() -> dict[float, list[float]]:
    """Prints the table; returns for each learning rate the losses by step."""
    print("\nThe first steps of AdamW on a deep MLP, 20-128-128-128-128-128-128-5: loss on 1024 other points")
    steps = (0, 1, 2, 5, 10, 20, 40)
    print(f"{'lr':>7}" + "".join(f"{f'step {step}':>10}" for step in steps) + f"{'norm of the first gradient':>30}")
    x, y = clouds(64 * steps[-1], 1)
    losses: dict[float, list[float]] = {}
    for lr in (0.001, 0.003, 0.01, 0.03):
        trainer, norm = trainer_of(20, *[128] * 6, 5, lr=lr), 0.0
        losses[lr] = [trainer.evaluate([clouds(1024, 2)])[0]]
        for batch in micro_batches(x, y, 64):
            trainer.train_step([batch])
            norm = norm or clip_grad_norm(trainer.model.parameters(), np.inf)
            losses[lr].append(trainer.evaluate([clouds(1024, 2)])[0])
        print(f"{lr:>7.3f}" + "".join(f"{losses[lr][step]:>10.2f}" for step in steps) + f"{norm:>30.3f}")
    return losses


def warmup() -> None:
    print("\nHow far AdamW may take a weight (lr 0.03, 64 steps an epoch, 10 epochs)")
    print(f"{'':20}{'first step':>14}{'epoch 1':>10}{'epochs 1-3':>13}{'all':>10}")
    for name, epochs in (("no warmup", 0), ("3 epochs of warmup", 3)):
        schedule = CosineSchedule(0.03, 0.0, 10, epochs)
        far = [schedule.get_lr(0), *(travel(schedule, n, 64) for n in (1, 3, 10))]
        print(f"{name:20}{far[0]:>14.4f}{far[1]:>10.2f}{far[2]:>13.2f}{far[3]:>10.2f}")


def checkpoints() -> None:
    print("\nA checkpoint, written and read")
    print(f"{'parameters':>12}{'in memory':>14}{'file':>14}{'written in':>14}{'read in':>14}")
    with tempfile.TemporaryDirectory() as folder:
        for widths in ((784, 256, 10), (784, 1000, 1000, 10)):
            trainer, path = trainer_of(*widths), Path(folder, "run.ckpt")
            trainer.train_step([images(64)])
            count = sum(parameter.size for parameter in trainer.model.parameters())
            trainer.save_checkpoint(path)
            size = path.stat().st_size
            written = seconds(lambda: trainer.save_checkpoint(path), 0.1)
            read = seconds(lambda: trainer.load_checkpoint(path), 0.1)
            print(
                f"{count:>12,}{3 * 4 * count / 1e6:>11.2f} MB{size / 1e6:>11.2f} MB"
                f"{written * 1e3:>11.1f} ms{read * 1e3:>11.1f} ms"
            )


def plot(measured: list[tuple[int, int]], losses: dict[float, list[float]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5), layout="constrained")
    sizes, peaks = np.array(measured).T
    left.loglog(sizes, peaks / 1e6, "o-", label="measured")
    left.loglog(sizes, line(measured)[0] * sizes / 1e6, "--", color="gray", label="in proportion to the batch")
    left.axhline(peaks[0] / 1e6, linestyle=":", color="gray", label="gradients, and AdamW at work")
    left.set(title="Memory of one step, 784-256-10 with AdamW", xlabel="batch", ylabel="MB", ylim=(0.5, 100))
    for lr, values in losses.items():
        right.plot(values, ".-", label=f"lr {lr}")
    right.set(title="The first steps of a deep MLP, without warmup", xlabel="step", ylabel="loss")
    for axis in (left, right):
        axis.grid(alpha=0.3)
        axis.legend()
    save_plot(figure, __file__)


def main() -> None:
    measured = batch_sizes()
    accumulation()
    losses = first_steps()
    warmup()
    checkpoints()
    plot(measured, losses)


measure(main)
