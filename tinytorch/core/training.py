"""Stage 07: training, the loop that brings model, loss, optimizer and data together."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from tinytorch.core.arrays import whole_number
from tinytorch.core.autograd import no_grad
from tinytorch.core.checkpoints import read_state, write_state
from tinytorch.core.layers import Layer
from tinytorch.core.optimizers import Optimizer
from tinytorch.core.rng import generator
from tinytorch.core.tensor import Tensor, result_of

__all__ = ["CosineSchedule", "EarlyStopping", "Trainer", "clip_grad_norm"]


def clip_grad_norm(parameters: Iterable[Tensor], max_norm: float) -> float:
    """Scale all gradients by one factor, so that their norm, over all of them together, is at most `max_norm`.

    The factor is max_norm / (norm + 1e-6), as in PyTorch; from 1 on nothing is changed. Gradients keep their dtype.

    Args:
        parameters: those without a gradient are skipped.
        max_norm: 0 or more; infinity clips nothing, and only measures.

    Returns:
        The norm before clipping, √ΣΣg², with squares and sums in float64.

    Raises:
        ValueError: the norm is not finite, or `max_norm` is negative or NaN; no gradient is changed.
    """
    # >>> stage 07: your code
    raise NotImplementedError("stage 07: clip_grad_norm is yours to write, see stages/07_training/README.md")
    # <<<


class CosineSchedule:
    """A learning rate that warms up in equal steps and then falls along half a cosine.

    Source: Loshchilov and Hutter 2017, "SGDR: stochastic gradient descent with warm restarts".

    Args:
        max_lr, min_lr: learning rate at the top and at the end.
        total_epochs: epoch from which on the rate is `min_lr`.
        warmup_epochs: epoch at which the rate is `max_lr`.
    """

    def __init__(self, max_lr: float, min_lr: float, total_epochs: int, warmup_epochs: int = 0) -> None:
        if not 0 <= warmup_epochs < total_epochs:
            raise ValueError(
                f"CosineSchedule: expected 0 ≤ warmup_epochs < total_epochs, got {warmup_epochs}, {total_epochs}"
            )
        self.max_lr, self.min_lr = max_lr, min_lr
        self.total_epochs, self.warmup_epochs = total_epochs, warmup_epochs

    def get_lr(self, epoch: float) -> float:
        """The learning rate of `epoch`, counted from 0; a fraction lies between two epochs.

        While epoch < warmup_epochs: max_lr · (epoch + 1) / (warmup_epochs + 1), which never starts from 0.
        From then on: min_lr + (max_lr - min_lr) · (1 + cos(π · progress)) / 2, where progress runs from 0 at
        `warmup_epochs` to 1 at `total_epochs`, and stays 1.

        >>> [round(CosineSchedule(1.0, 0.0, 4).get_lr(epoch), 3) for epoch in range(6)]
        [1.0, 0.854, 0.5, 0.146, 0.0, 0.0]
        """
        # >>> stage 07: your code
        raise NotImplementedError("stage 07: CosineSchedule.get_lr is yours to write, see stages/07_training/README.md")
        # <<<


class EarlyStopping:
    """Says when a loss has stopped falling.

    Args:
        patience: the number of epochs in a row without a new lowest loss after which to stop, an integer from 1 on.

    Attributes:
        best: the lowest loss so far, infinite at first.
        best_epoch: the number of the call of `step` that brought it, counted from 0; -1 before there is one.
        waited: the number of calls of `step` since then.
    """

    def __init__(self, patience: int) -> None:
        self.patience = whole_number("EarlyStopping", "patience", patience, 1)
        self.best, self.best_epoch, self.waited = math.inf, -1, 0

    def step(self, loss: float) -> bool:
        """Take note of one epoch's `loss`, usually that of validation, and say whether to stop.

        A loss lower than `best` is better: it becomes `best`, with its `best_epoch`, and `waited` is 0 again. Any
        other loss, also one that equals the best or is NaN, is no better, and `waited` counts it.

        Returns:
            Whether `patience` calls or more have gone by without a better loss.
        """
        # >>> stage 07: your code
        raise NotImplementedError("stage 07: EarlyStopping.step is yours to write, see stages/07_training/README.md")
        # <<<


Batch = tuple[Any, Any]  # inputs and targets, arrays or Tensors or lists, with the batch as first axis


def as_input(inputs: Any) -> Tensor:
    """`inputs` as a Tensor. An array's memory is shared, not copied: a batch may be large, and nobody writes to it."""
    if isinstance(inputs, np.ndarray):
        return result_of(None, inputs)
    return inputs if isinstance(inputs, Tensor) else Tensor(inputs)


def sample_count(batches: Iterable[Batch]) -> int:
    """How many samples there are in `batches`."""
    return sum(len(targets) for _, targets in batches)


def count_right(predictions: Tensor, targets: Any) -> float:
    """The number of samples whose class is predicted right; NaN if the targets are no classes.

    Classes are integers (…), where predictions are (…, classes); the largest of the last axis is the predicted one.
    """
    targets = targets.data if isinstance(targets, Tensor) else np.asarray(targets)
    if targets.dtype.kind not in "iu" or predictions.shape[:-1] != targets.shape:
        return math.nan
    return int((predictions.data.argmax(axis=-1) == targets).sum())


class Trainer:
    """Trains a model.

    Args:
        model: a Layer.
        optimizer: one that holds the model's parameters.
        loss_fn: called with predictions and targets; answers with their mean loss over the batch.
        schedule: something with `get_lr(epoch)`, which is asked at the start of each epoch.
        max_norm: gradients are clipped to this norm.
        accumulate: the number of batches whose gradients are gathered for one step, an integer from 1 on.

    Attributes:
        epoch: the number of epochs that are done.
    """

    def __init__(
        self,
        model: Layer,
        optimizer: Optimizer,
        loss_fn: Callable[[Tensor, Any], Tensor],
        schedule: Any = None,
        max_norm: float | None = None,
        accumulate: int = 1,
    ) -> None:
        self.accumulate = whole_number("Trainer", "accumulate", accumulate, 1)
        self.model, self.optimizer, self.loss_fn = model, optimizer, loss_fn
        self.schedule, self.max_norm, self.epoch = schedule, max_norm, 0

    def train_epoch(self, dataloader: Iterable[Batch]) -> float:
        """One pass over the batches, in their order and in training mode; `self.epoch` counts it at the end.

        Before the first batch the schedule, if there is one, gives `optimizer.lr` for `self.epoch`, which is 0 in the
        first epoch. Batches are taken in groups of `accumulate`, of which the last may be smaller, and `train_step`
        is called with each group.

        Args:
            dataloader: any iterable of batches (inputs, targets), also one that can be gone through only once. No
                batch is asked for before its group is due, because the data may be larger than the memory.

        Returns:
            The mean loss over all samples, so that a small last batch counts for less.

        Raises:
            ValueError: no batch came; the epoch does not count.
        """
        # >>> stage 07: your code
        raise NotImplementedError("stage 07: Trainer.train_epoch is yours to write, see stages/07_training/README.md")
        # <<<

    def train_step(self, group: list[Batch]) -> float:
        """One step of the optimizer for all batches of `group`, as if they were one large batch.

        Gradients left from before do not count. Each batch goes forward and back on its own, so that memory for one
        is enough. Its mean loss is weighted by its share of the group's samples, and the gradients add up. Then they
        are clipped, if `max_norm` is given, and the optimizer takes its step.

        Returns:
            The mean loss over the group's samples, before the step.

        Raises:
            ValueError: a loss is not finite; then no parameter is changed.
        """
        # >>> stage 07: your code
        raise NotImplementedError("stage 07: Trainer.train_step is yours to write, see stages/07_training/README.md")
        # <<<

    def evaluate(self, dataloader: Iterable[Batch]) -> tuple[float, float | None]:
        """The mean loss over all samples and the share of right classes; nothing is trained.

        The model runs in evaluation mode and without a tape. Afterwards it is in the mode that it was in before, also
        if an error came in between.

        Returns:
            (loss, accuracy), where accuracy is None unless the targets are classes, as `count_right` says.

        Raises:
            ValueError: no batch came.
        """
        # >>> stage 07: your code
        raise NotImplementedError("stage 07: Trainer.evaluate is yours to write, see stages/07_training/README.md")
        # <<<

    def state(self) -> dict[str, Any]:
        """A copy of all that training goes on from: epochs done, model, optimizer, random numbers."""
        return {
            "epoch": self.epoch,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "random": generator().bit_generator.state,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Go on from what `state()` gave. If it does not fit, an error says so, and half of it may be done."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        generator().bit_generator.state = state["random"]
        self.epoch = state["epoch"]

    def save_checkpoint(self, path: str | Path) -> None:
        """Write `state()` to the file `path`, in such a way that a resumed run continues bit for bit.

        Whatever happens on the way, `path` holds a whole checkpoint, the old one or the new one. So let `write_state`
        write a file of another name in the same folder first. When it is complete it takes the place of `path`
        (`os.replace`); if something goes wrong it is removed.
        """
        # >>> stage 07: your code
        raise NotImplementedError("stage 07: Trainer.save_checkpoint is yours to write, see stages/07_training/README.md")
        # <<<

    def load_checkpoint(self, path: str | Path) -> None:
        """Go on from what `save_checkpoint` wrote to the file `path`: `read_state` reads it, `restore` takes it over.

        Raises:
            ValueError: the file is damaged, or belongs to another model or optimizer; then nothing is changed.
            FileNotFoundError: there is no such file.
        """
        # >>> stage 07: your code
        raise NotImplementedError("stage 07: Trainer.load_checkpoint is yours to write, see stages/07_training/README.md")
        # <<<
