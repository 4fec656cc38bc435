"""Milestone 3: a convolutional network that tells cats from ships, on all of CIFAR-10, with your own package.

The data loader, convolution, pooling, batch normalisation, training loop and all below them are yours. This script
keeps the 10,000 test images out of training, and counts for itself how many of them the model then gets right.
"""

from __future__ import annotations

import os
import sys
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

from milestones.drawing import BLUE, GREEN, ORANGE, RED
from milestones.m3_data import BATCH, TEST, loader_of, pictures, training_images
from milestones.m3_drawing import draw_confusion, draw_filters, draw_parameters, draw_time, draw_training
from milestones.models import CHANNELS, cnn, image_mlp
from workshop.judging import Images, Plan, Watched, fit, judge, parameter_count, start_of
from workshop.surroundings import peak_memory
from workshop.training_run import Run, main

EPOCHS, RATE, MLP_RATE = 6, 0.005, 0.001


# Training


def make_trainer(tt: Any, model: Any) -> Any:
    """A trainer with AdamW; `planned` sets its rate."""
    return tt.Trainer(model, tt.AdamW(model.parameters(), lr=RATE), Watched(tt.CrossEntropyLoss()))


def planned(run: Run, trainer: Any, data: Any, epochs: int, rate: float) -> Plan:
    """Epochs of all of `data`, in which the trainer's learning rate changes with every batch.

    It rises to `rate` for an epoch, and then falls along a cosine to almost nothing.
    """
    loader = loader_of(run, data)
    schedule = run.tinytorch.CosineSchedule(rate, rate / 1000, epochs, warmup_epochs=min(1, epochs - 1))

    def batches(epoch: int) -> Iterator[tuple[Any, Any]]:
        loader.epoch = epoch
        for number, batch in enumerate(loader):
            trainer.optimizer.lr = schedule.get_lr(epoch + number / len(loader))
            yield batch

    return Plan(batches, len(data), epochs)


# The milestone


def train(run: Run) -> None:
    """Train, judge, and draw."""
    tt, folder = run.tinytorch, run.fetch("cifar10")
    test = pictures(run, folder, TEST)
    training, wrong = training_images(run, folder, 512 if run.quick else None)
    test, epochs = (test[:300], 2) if run.quick else (test, EPOCHS)

    tt.manual_seed(run.seed)
    model = cnn(tt)
    start, trainer = start_of(tt, model, test[:BATCH]), make_trainer(tt, model)
    run.go_on(trainer)
    fit(run, "CNN", trainer, planned(run, trainer, training, epochs, RATE), test, partial(run.keep, trainer))
    logits = judge(run, model, start, test, "test images right", 75)
    run.metrics["seconds of training"] = sum(each["seconds"] for each in run.epochs)
    run.require("training images that CIFAR10 reads wrong", wrong, "==", 0, full_only=False)

    draw_filters(run, model)
    draw_confusion(run, logits, test)
    draw_time(run, model, training)
    found = compared(run, (training, test))
    draw_training(run, found)
    draw_parameters(run, found)
    batch = np.zeros((BATCH, 3, 32, 32), np.float32), np.zeros(BATCH, np.int64)
    memory, of_what = peak_memory(lambda: make_trainer(tt, cnn(tt)).train_epoch([batch]))
    run.metrics |= {"peak memory in MB": memory, "peak memory of": of_what}
    run.require(f"peak memory of {of_what}, MB", memory, "<", 2000, full_only=False)


def compared(run: Run, data: tuple[Any, Images]) -> dict[str, dict[str, Any]]:
    """By name, the CNN and others that are trained here: the parameters, the figures of each epoch, and a colour."""
    tt, tenth = run.tinytorch, tuple(channels // 4 for channels in CHANNELS)
    same = round(run.metrics["parameters"] / (3 * 32 * 32 + 1 + 10))  # hidden units for as many parameters as the CNN
    others = {
        "CNN with a tenth of them": (partial(cnn, tt, tenth), RATE, 2, GREEN),
        "MLP with as many": (partial(image_mlp, tt, same), MLP_RATE, 3, ORANGE),
        "MLP with 14 times as many": (partial(image_mlp, tt, 512), MLP_RATE, 3, RED),
    }
    found = {"CNN": {"parameters": run.metrics["parameters"], "epochs": run.epochs, "colour": BLUE}}
    for name, (make, rate, epochs, colour) in others.items():
        found[name] = trained(run, name, make, data, 1 if run.quick else epochs, rate) | {"colour": colour}
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


def trained(
    run: Run, name: str, make: Callable[[], Any], data: tuple[Any, Images], epochs: int, rate: float
) -> dict[str, Any]:
    """The parameters and the figures of each epoch of a model that `make` makes, trained with the first of `data`."""
    training, test = data
    run.tinytorch.manual_seed(run.seed)
    model = make()
    trainer = make_trainer(run.tinytorch, model)
    figures = fit(run, name, trainer, planned(run, trainer, training, epochs, rate), test)
    return {"parameters": parameter_count(model), "epochs": figures}


if __name__ == "__main__":
    sys.exit(main(__file__, __doc__.splitlines()[0], train))
