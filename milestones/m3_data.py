"""Milestone 3's data: CIFAR-10, read by the script itself for the judge, and by the package for training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from workshop import WorkshopError
from workshop.judging import Images
from workshop.training_run import Run

BATCH = 128
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)  # of red, green and blue in the training images
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TRAINING, TEST, RECORD = [f"data_batch_{number}.bin" for number in range(1, 6)], ["test_batch.bin"], 3073


def pictures(run: Run, folder: Path, names: list[str]) -> Images:
    """Images (count, 3, 32, 32) and labels in these files of records: a byte for the label, 3072 for the image."""
    parts = [np.frombuffer(run.noted(name, (folder / name).read_bytes()), np.uint8) for name in names]
    if any(part.size == 0 or part.size % RECORD for part in parts):
        raise WorkshopError(f"{', '.join(names)}: expected records of {RECORD} bytes each")
    records = np.concatenate(parts).reshape(-1, RECORD)
    return Images(records[:, 1:].reshape(-1, 3, 32, 32), records[:, 0].astype(np.int64), inputs_of)


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
