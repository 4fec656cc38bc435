"""Stage 07, systems: what a batch costs in memory, how to do with less, and how far a schedule lets weights go."""

from __future__ import annotations

import tracemalloc
from typing import Any

from tinytorch.core.training import Batch, CosineSchedule, Trainer

__all__ = ["largest_batch", "micro_batches", "step_peak", "travel"]


def step_peak(trainer: Trainer, group: list[Batch]) -> int:
    """Bytes that one `trainer.train_step(group)` has allocated at its highest point, beyond those from before it.

    It is measured by `tracemalloc`, which knows of every array. Afterwards, also after an error in the step,
    `tracemalloc` runs if it was running before, and does not run if it was not.
    """
    # >>> stage 07: your code
    raise NotImplementedError("stage 07: step_peak is yours to write, see stages/07_training/README.md")
    # <<<


def largest_batch(budget: int, small: tuple[int, int], large: tuple[int, int]) -> int:
    """The largest batch whose step stays within `budget` bytes at its peak, by two measurements; 0 if none does.

    The peak is taken to grow along a straight line through both measurements: one part is there for any batch
    (gradients), and one part comes with each sample. The answer is an int, and exact: stay with integers, since the
    slope as a float is rounded.

    Args:
        small, large: (batch, bytes of the peak) of two batches of different size, all of them integers; the larger
            batch needs more bytes.

    >>> largest_batch(10_000, small=(10, 2_000), large=(20, 3_000))
    90
    """
    # >>> stage 07: your code
    raise NotImplementedError("stage 07: largest_batch is yours to write, see stages/07_training/README.md")
    # <<<


def micro_batches(inputs: Any, targets: Any, limit: int) -> list[Batch]:
    """One large batch as several of `limit` samples, in order and without a copy; the last one has the rest.

    Args:
        inputs, targets: arrays, Tensors or lists with the batch as first axis.
        limit: at least 1.

    >>> micro_batches([[0.1], [0.2], [0.3]], [7, 8, 9], 2)
    [([[0.1], [0.2]], [7, 8]), ([[0.3]], [9])]
    """
    # >>> stage 07: your code
    raise NotImplementedError("stage 07: micro_batches is yours to write, see stages/07_training/README.md")
    # <<<


def travel(schedule: CosineSchedule, epochs: int, steps_per_epoch: int) -> float:
    """How far AdamW without decay takes a parameter in `epochs` epochs if its gradient is always the same.

    Each step is then as long as the learning rate, because mean / √square is 1, however large the gradient.

    Args:
        epochs: the number of epochs, from epoch 0 on.
        steps_per_epoch: the number of steps of the optimizer in each.

    >>> travel(CosineSchedule(0.1, 0.0, total_epochs=10, warmup_epochs=4), epochs=4, steps_per_epoch=100)
    20.0
    """
    # >>> stage 07: your code
    raise NotImplementedError("stage 07: travel is yours to write, see stages/07_training/README.md")
    # <<<
