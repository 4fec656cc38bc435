"""Milestone 3: a convolutional network that tells cats from ships, on all of CIFAR-10, with your own package.

The data loader, convolution, pooling, batch normalisation, training loop and all below them are yours. This script
keeps the 10,000 test images out of training, and counts for itself how many of them the model then gets right.
"""

from __future__ import annotations

import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

# The layers of stage 09 work on several samples at once, in threads of their own; BLAS's threads would only be in
# their way. Set before NumPy is imported, or it has no effect.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # started by hand
    sys.path.insert(0, str(ROOT))

from milestones.m2_mlp import BLUE, GREY, ORANGE, Watched, accuracy, cross_entropy, fingerprint, values
from milestones.m2_mlp import Digits as Pictures
from workshop import WorkshopError
from workshop.training_run import Run, main

CHANNELS, BATCH, EPOCHS, RATE, MLP_RATE = (32, 64, 128), 128, 6, 0.005, 0.001
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of red, green and blue in the training images
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAINING, TEST, RECORD = [f"data_batch_{number}.bin" for number in range(1, 6)], ["test_batch.bin"], 3073
GREEN = "#1b7837"


# Data


def pictures(run: Run, folder: Path, names: list[str]) -> Pictures:
    """Images (count, 3, 32, 32) and labels in these files of records: a byte for the label, 3072 for the image."""
    parts = [np.frombuffer(run.noted(name, (folder / name).read_bytes()), np.uint8) for name in names]
    if any(part.size == 0 or part.size % RECORD for part in parts):
        raise WorkshopError(f"{', '.join(names)}: expected records of {RECORD} bytes each")
    records = np.concatenate(parts).reshape(-1, RECORD)
    return Pictures(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64))


def training_images(run: Run, folder: Path, count: int | None) -> tuple[Any, int]:
    """The package's own dataset, or its first `count` images; and how many images it has read wrong."""
    tt, truth = run.tinytorch, pictures(run, folder, TRAINING)
    settings = {"transform": tt.RandomHorizontalFlip(), "mean": MEAN, "std": STD}
    data = tt.CIFAR10(folder=folder, **settings)
    if data.images.shape != truth.images.shape or data.labels.shape != truth.labels.shape:
        raise ValueError(f"CIFAR10: expected images {truth.images.shape}, got {data.images.shape}")
    wrong = (data.images != truth.images).any(axis=(1, 2, 3)) | (data.labels != truth.labels)
    few = tt.ImageDataset(data.images[:count], data.labels[:count], **settings) if count else data
    return few, int(wrong.sum())


def loader_of(run: Run, data: Any) -> Any:
    """The package's own loader; what it shuffles and mirrors depends on seed and epoch alone."""
    return run.tinytorch.DataLoader(data, BATCH, shuffle=True, seed=run.seed, prefetch=2)


def inputs_of(images: np.ndarray) -> np.ndarray:
    """Images as a model wants them, float32: about 0 in the mean, with a standard deviation of about 1."""
    mean, std = (np.array(numbers, np.float32).reshape(3, 1, 1) for numbers in (MEAN, STD))
    return (images * np.float32(1 / 255) - mean) / std


# Models and training


def cnn(tt: Any, channels: tuple[int, ...] = CHANNELS) -> Any:
    """The milestone's model: each block halves height and width, from 32 to 4. A bias before BatchNorm has no effect."""
    layers: list[Any] = []
    for before, after in zip((3, *channels), channels):
        convolution = tt.Conv2d(before, after, kernel_size=3, padding=1, bias=False)
        layers += [convolution, tt.BatchNorm2d(after), tt.ReLU(), tt.MaxPool2d(2)]
    return tt.Sequential(*layers, tt.Flatten(), tt.Linear(channels[-1] * 4 * 4, 10))


def mlp(tt: Any, hidden: int) -> Any:
    """What it is compared with: the image as a row of numbers."""
    return tt.Sequential(tt.Flatten(), tt.Linear(3 * 32 * 32, hidden), tt.ReLU(), tt.Linear(hidden, 10))


def make_trainer(tt: Any, model: Any) -> Any:
    """A trainer with AdamW; `fit` sets its rate."""
    return tt.Trainer(model, tt.AdamW(model.parameters(), lr=RATE), Watched(tt.CrossEntropyLoss()))


def fit(
    run: Run, what: str, trainer: Any, data: tuple[Any, Pictures], epochs: int, rate: float, keep: Callable[..., None]
) -> None:
    """Train with the first of `data` until `epochs` are done, and give `keep` the figures of each.

    The learning rate rises to `rate` for an epoch, and then falls along a cosine to almost nothing, with every batch.
    """
    training, test = data
    loader = loader_of(run, training)
    schedule = run.tinytorch.CosineSchedule(rate, rate / 1000, epochs, warmup_epochs=min(1, epochs - 1))
    with run.bar(what, epochs * len(training), "images", trainer.epoch * len(training)) as advance:

        def watched(epoch: int) -> Iterator[tuple[Any, Any]]:
            for number, (inputs, targets) in enumerate(loader):
                trainer.optimizer.lr = schedule.get_lr(epoch + number / len(loader))
                yield inputs, targets
                advance(len(targets), trainer.loss_fn.last)

        for epoch in range(trainer.epoch, epochs):
            loader.epoch, began = epoch, time.perf_counter()
            loss = trainer.train_epoch(watched(epoch))
            seconds = time.perf_counter() - began
            logits = answers(run.tinytorch, trainer.model, test)
            right, test_loss = accuracy(logits, test), cross_entropy(logits, test)
            run.say(
                f"{what}, epoch {epoch + 1} of {epochs}: loss {loss:.4f}, {right:.2%} of the test images right, "
                f"{seconds:.1f} s"
            )
            keep(loss=float(loss), test_loss=test_loss, test_accuracy=right, seconds=seconds)


def answers(tt: Any, model: Any, data: Pictures) -> np.ndarray:
    """The model's logits for all images, (count, 10) float64."""
    model.eval()
    with tt.no_grad():
        parts = [model(tt.Tensor(inputs_of(data.images[i : i + 250]))).data for i in range(0, len(data), 250)]
    logits = np.concatenate(parts).astype(np.float64)
    if logits.shape != (len(data), 10):
        raise ValueError(f"expected logits of shape {(len(data), 10)}, got {logits.shape}")
    return logits


def first_gradient(tt: Any, model: Any, data: Pictures) -> float:
    """The norm of the gradient that a loss sends to the first layer's weights; in evaluation, which leaves no trace."""
    model.eval()
    tt.CrossEntropyLoss()(model(tt.Tensor(inputs_of(data.images[:BATCH]))), data.labels[:BATCH]).backward()
    gradient = model[0].weight.grad
    for parameter in model.parameters():
        parameter.grad = None
    return 0.0 if gradient is None else float(np.linalg.norm(gradient))


def parameter_count(model: Any) -> int:
    """How many numbers training changes."""
    return sum(array.size for array in values(model).values())


def peak_memory(tt: Any) -> tuple[float, str]:
    """Megabytes at the most so far, and of what: the whole process, or where the system does not tell, NumPy's."""
    try:
        import resource
    except ImportError:  # Windows
        tracemalloc.start()
        batch = np.zeros((BATCH, 3, 32, 32), np.float32), np.zeros(BATCH, np.int64)
        make_trainer(tt, cnn(tt)).train_epoch([batch])
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak / 1e6, "a training step, by tracemalloc"
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6, "the whole process, by getrusage"


# The milestone


def train(run: Run) -> None:
    """Train, judge, and draw."""
    tt, folder = run.tinytorch, run.fetch("cifar10")
    test = pictures(run, folder, TEST)
    training, wrong = training_images(run, folder, 512 if run.quick else None)
    test, epochs = (test[:300], 2) if run.quick else (test, EPOCHS)

    tt.manual_seed(run.seed)
    model = cnn(tt)
    before, gradient = values(model), first_gradient(tt, model, test)
    trainer = make_trainer(tt, model)
    run.go_on(trainer)
    fit(run, "CNN", trainer, (training, test), epochs, RATE, partial(run.keep, trainer))
    moved = sum(not np.array_equal(before[name], array) for name, array in values(model).items())
    logits = answers(tt, model, test)
    right = accuracy(logits, test)
    run.metrics |= {
        "test accuracy": right,
        "test loss": cross_entropy(logits, test),
        "training loss": run.epochs[-1]["loss"],
        "seconds of training": sum(each["seconds"] for each in run.epochs),
        "parameters": parameter_count(model),
        "parameters sha256": fingerprint(model),
    }
    run.require(f"test images right, % of {len(test):,}", 100 * right, ">", 75)
    run.require(f"parameters that moved, of {len(before)}", moved, "==", len(before), full_only=False)
    run.require("gradient of the first layer at the start, its norm", gradient, ">", 0, full_only=False)
    run.require("training images that CIFAR10 reads wrong", wrong, "==", 0, full_only=False)

    draw_filters(run, model)
    draw_confusion(run, logits, test)
    draw_time(run, model, training)
    found = compared(run, (training, test))
    draw_training(run, found)
    draw_parameters(run, found)
    memory, of_what = peak_memory(tt)
    run.metrics |= {"peak memory in MB": memory, "peak memory of": of_what}
    run.require(f"peak memory of {of_what}, MB", memory, "<", 2000, full_only=False)


def compared(run: Run, data: tuple[Any, Pictures]) -> dict[str, dict[str, Any]]:
    """The CNN's figures, and those of others that are trained here: parameters, epochs and a colour for each by name."""
    tt, tenth = run.tinytorch, tuple(channels // 4 for channels in CHANNELS)
    same = round(run.metrics["parameters"] / (3 * 32 * 32 + 1 + 10))  # hidden units for as many parameters as the CNN
    others = {
        "CNN with a tenth of them": (partial(cnn, tt, tenth), RATE, 2, GREEN),
        "MLP with as many": (partial(mlp, tt, same), MLP_RATE, 3, ORANGE),
        "MLP with 14 times as many": (partial(mlp, tt, 512), MLP_RATE, 3, "#b2182b"),
    }
    found = {"CNN": {"parameters": run.metrics["parameters"], "epochs": run.epochs, "colour": BLUE}}
    for name, (make, rate, epochs, colour) in others.items():
        tt.manual_seed(run.seed)
        model, kept = make(), []
        epochs = 1 if run.quick else epochs
        fit(run, name, make_trainer(tt, model), data, epochs, rate, lambda **each: kept.append(each))
        found[name] = {"parameters": parameter_count(model), "epochs": kept, "colour": colour}
    run.metrics["compared"] = {
        name: {
            "parameters": each["parameters"],
            "test accuracy": each["epochs"][-1]["test_accuracy"],
            "epochs": len(each["epochs"]),
            "seconds of training": sum(epoch["seconds"] for epoch in each["epochs"]),
        }
        for name, each in found.items()
    }
    return found


# Pictures


def draw_training(run: Run, found: dict[str, dict[str, Any]]) -> None:
    """The loss over the epochs, and accuracy over the time that training took."""
    count = np.arange(1, len(run.epochs) + 1)
    with run.picture("training", 10) as figure:
        left, right = figure.subplots(1, 2)
        for key, style, label in (
            ("loss", "o-", "training images, some mirrored"),
            ("test_loss", "o--", "test images"),
        ):
            left.plot(count, [each[key] for each in run.epochs], style, color=BLUE, label=label)
        left.set(xlabel="epoch", ylabel="cross-entropy, nats", title="Loss of the CNN", xticks=count)
        left.legend()
        for name, each in found.items():
            minutes = np.cumsum([epoch["seconds"] for epoch in each["epochs"]]) / 60
            right.plot(
                minutes,
                [100 * epoch["test_accuracy"] for epoch in each["epochs"]],
                "o-",
                color=each["colour"],
                label=f"{name}: {each['parameters']:,}" + (" parameters" if name == "CNN" else ""),
            )
        right.axhline(75, color=GREY, linestyle=":")
        right.annotate(
            "asked: above 75 %",
            (0.98, 75),
            (0, -4),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            color=GREY,
            ha="right",
            va="top",
        )
        right.set(
            xlabel="training time, minutes; a point for each epoch",
            ylabel="%",
            title="Test images right",
            xlim=(0, None),
            ylim=(0, 100),
        )
        right.legend(loc="lower right")


def draw_parameters(run: Run, found: dict[str, dict[str, Any]]) -> None:
    """What parameters buy, with and without convolution."""
    with run.picture("parameters", 8) as figure:
        axes = figure.subplots()
        for name, each in found.items():
            place = each["parameters"], 100 * each["epochs"][-1]["test_accuracy"]
            axes.plot(*place, "o", color=each["colour"], markersize=9)
            seconds = sum(epoch["seconds"] for epoch in each["epochs"])
            label = (
                f"{name}\n{place[1]:.1f} %, {place[0]:,} parameters,\n{len(each['epochs'])} epochs in {seconds:.0f} s"
            )
            axes.annotate(label, place, (10, 0), textcoords="offset points", va="center", fontsize=9)
        axes.set(
            xscale="log",
            xlim=(6e3, 1.5e7),
            ylim=(0, 100),
            xlabel="parameters",
            ylabel="test images right, %",
            title="An MLP learns for every place anew what a convolution learns once",
        )


def draw_filters(run: Run, model: Any) -> None:
    """The first layer's weights as small pictures in colour."""
    filters = model[0].weight.data
    with run.picture("filters", 9, 5) as figure:
        grid = figure.subplots(4, 8)
        for axes, weights in zip(grid.flat, filters):
            low, high = weights.min(), weights.max()
            axes.imshow(((weights - low) / max(high - low, 1e-12)).transpose(1, 2, 0), interpolation="nearest")
            axes.axis("off")
        figure.suptitle(
            "The 32 filters of the first layer: 3 x 3 weights for red, green and blue,\n"
            "each from its smallest (dark) to its largest (bright)"
        )


def draw_confusion(run: Run, logits: np.ndarray, test: Pictures) -> None:
    """What each class was taken for."""
    counts = np.zeros((10, 10))
    np.add.at(counts, (test.labels, logits.argmax(axis=1)), 1)
    shares = 100 * counts / np.maximum(1, counts.sum(axis=1, keepdims=True))
    run.metrics["right by class"] = dict(zip(CLASSES, shares.diagonal() / 100))
    with run.picture("confusion", 8, 6.5) as figure:
        axes = figure.subplots()
        axes.grid(False)
        image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=100)
        for i, j in np.ndindex(shares.shape):
            colour = "white" if shares[i, j] > 50 else "black"
            axes.text(j, i, f"{shares[i, j]:.0f}", ha="center", va="center", color=colour)
        axes.set_xticks(range(10), CLASSES, rotation=45, ha="right")
        axes.set_yticks(range(10), CLASSES)
        axes.set(
            xlabel="what the CNN said",
            ylabel="what the image shows",
            title=f"{len(test):,} test images, % of each class",
        )
        figure.colorbar(image, label="%")


def draw_time(run: Run, model: Any, training: Any) -> None:
    """Where the time of a training step goes."""
    inputs, targets = next(iter(loader_of(run, training)))
    repeats = 2 if run.quick else 10
    rounds = [step_times(run.tinytorch, model, inputs.data, targets.data) for _ in range(repeats)]
    found = {name: np.median([each[name] for each in rounds], axis=0) for name in rounds[0]}
    forward, backward = 1000 * np.array(list(found.values())).T
    total = (forward + backward).sum()
    run.metrics["milliseconds of a step, forward and backward"] = dict(zip(found, zip(forward, backward)))
    run.metrics["share of convolution in a step"] = float((forward + backward)[list(found).index("Conv2d")] / total)
    with run.picture("time", 9, 3.8) as figure:
        axes = figure.subplots()
        axes.set_axisbelow(True)
        axes.barh(range(len(found)), forward, color=BLUE, label="forward")
        axes.barh(range(len(found)), backward, left=forward, color=ORANGE, label="backward, or the optimizer's step")
        for place, each in enumerate(forward + backward):
            label = f"{each:.1f} ms, {each / total:.0%}"
            axes.annotate(label, (each, place), (4, 0), textcoords="offset points", va="center")
        axes.set_yticks(range(len(found)), found)
        axes.invert_yaxis()
        axes.set(
            xlabel=f"milliseconds; median of {repeats} rounds, in which each layer is timed on its own",
            title=f"A training step of the CNN with {len(targets)} images: {total:.0f} ms",
            xlim=(0, 1.25 * (forward + backward).max()),
        )
        axes.legend()


def step_times(tt: Any, model: Any, x: np.ndarray, targets: np.ndarray) -> dict[str, np.ndarray]:
    """Seconds (forward, backward) of each kind of layer: every layer gets a tape of its own, and any gradient."""
    model.train()
    before = model.state_dict()
    found: dict[str, np.ndarray] = {}

    def timed(layer: Callable[..., Any], x: np.ndarray, *more: Any) -> np.ndarray:
        leaf = tt.Tensor(x, requires_grad=bool(found))  # nobody asks for the gradient of the images
        began = time.perf_counter()
        y = layer(leaf, *more)
        middle = time.perf_counter()
        y.backward(np.ones_like(y.data))
        times = np.array([middle - began, time.perf_counter() - middle])
        name = type(layer).__name__
        found[name] = found.get(name, 0) + times
        return y.data

    for position in range(len(model)):
        x = timed(model[position], x)
    timed(tt.CrossEntropyLoss(), x, targets)
    optimizer = tt.AdamW(model.parameters(), lr=0.0)
    began = time.perf_counter()
    optimizer.step()
    found["AdamW"] = np.array([0.0, time.perf_counter() - began])
    optimizer.zero_grad()
    model.load_state_dict(before)  # the running averages of BatchNorm have moved
    return found


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__.splitlines()[0], train))
