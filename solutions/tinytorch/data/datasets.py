"""Stage 08: MNIST and CIFAR-10. Images stay bytes in memory, and become float32 one batch at a time."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tinytorch.core.rng import generator
from tinytorch.core.tensor import Tensor, result_of
from tinytorch.data.download import fetch
from tinytorch.data.loader import Dataset
from tinytorch.data.transforms import Transform

__all__ = [
    "CIFAR10",
    "ImageDataset",
    "MNIST",
    "download_cifar10",
    "download_mnist",
    "normalise",
    "read_cifar",
    "read_idx",
]

Numbers = float | Sequence[float]  # one for all channels, or one for each


def read_idx(path: str | Path) -> np.ndarray:
    """The array in an IDX file of bytes, the format of MNIST: uint8, of the shape that the file gives.

        4 bytes                  0, 0, 8 (for "elements are bytes"), and the number of axes, 1 or more
        4 bytes for each axis    its length, an unsigned integer, most significant byte first
        the rest                 the elements, the last axis running fastest

    The array may be read-only. It keeps no more memory than the file has bytes.

    Source: Y. LeCun, C. Cortes, "The MNIST database of handwritten digits", on the file format.

    Raises:
        ValueError: the file does not begin so, ends within the lengths, or has not exactly as many elements as its
            shape says; the message names the file.
    """
    with Path(path).open("rb") as file:
        magic = file.read(4)
        axes = magic[3] if len(magic) == 4 and magic[:3] == b"\0\0\x08" else 0
        lengths = file.read(4 * axes)
        elements = np.fromfile(file, np.uint8)
    shape = tuple(int.from_bytes(lengths[i : i + 4], "big") for i in range(0, len(lengths), 4))
    if axes == 0 or len(lengths) != 4 * axes or elements.size != math.prod(shape):
        raise ValueError(
            f"expected an IDX file of bytes, got one that begins with {magic!r} and has {elements.size} elements for "
            f"the shape {shape}: {path}"
        )
    return elements.reshape(shape)


RECORD = 1 + 3 * 32 * 32  # bytes of an image in a CIFAR-10 file, label included


def read_cifar(paths: Sequence[str | Path]) -> tuple[np.ndarray, np.ndarray]:
    """Images and labels in files of CIFAR-10's binary version, those of the first file first.

    A file is a sequence of records of 3073 bytes: a label (0 to 9), then 1024 bytes of red, 1024 of green and 1024 of
    blue, each of them row by row, 32 rows of 32. There are 154 MB of them: on the way at most three times the files'
    bytes are in memory, and the result keeps no more than they have.

    Returns:
        (N, 3, 32, 32) uint8 and (N,) int64.

    Raises:
        ValueError: a file is empty, or no whole number of records; the message names it and its number of bytes.

    Source: A. Krizhevsky, "The CIFAR-10 dataset", www.cs.toronto.edu/~kriz/cifar.html.
    """
    sizes = [Path(path).stat().st_size for path in paths]
    for path, size in zip(paths, sizes):
        if size == 0 or size % RECORD:
            raise ValueError(f"{path} is no file of CIFAR-10: it has {size} bytes, expected a multiple of {RECORD}")
    count = sum(sizes) // RECORD
    images, labels = np.empty((count, 3, 32, 32), np.uint8), np.empty(count, np.int64)
    end = 0
    for path, size in zip(paths, sizes):
        begin, end = end, end + size // RECORD
        records = np.memmap(path, np.uint8, "r").reshape(-1, RECORD)  # mapped: no second copy while it is taken apart
        labels[begin:end], images[begin:end] = records[:, 0], records[:, 1:].reshape(-1, 3, 32, 32)
    return images, labels


def normalise(images: np.ndarray, mean: Numbers = 0.0, std: Numbers = 1.0) -> np.ndarray:
    """Bytes as float32: (images / 255 - mean) / std, for each channel; by default numbers from 0 to 1.

    Args:
        images: (N, C, H, W) uint8; they stay as they are.
        mean, std: one number for all channels, or C numbers, one for each.

    Returns:
        (N, C, H, W) float32, in new memory.

    >>> normalise(np.array([[[[0, 255]]]], np.uint8), mean=0.5, std=0.5)
    array([[[[-1.,  1.]]]], dtype=float32)
    """
    mean, std = (np.asarray(numbers, np.float32).reshape(-1, 1, 1) for numbers in (mean, std))
    result = images.astype(np.float32)
    result *= 1 / (255 * std)
    result -= mean / std
    return result


class ImageDataset(Dataset):
    """Images and labels in memory, the images as bytes: a quarter of what they would take as float32.

    A sample is (image, label): float32 (C, H, W) and int64 (), as `normalise` and `transform` make them.

    Args:
        images: (samples, C, H, W) uint8; an array, or a memory map. Kept, not copied.
        labels: (samples,) integers.
        transform: changes each batch, as bytes, before `normalise`; it is called with (images, rng), see `Compose`.
        mean, std: one number for all channels, or one for each; `normalise` gets them.

    Raises:
        TypeError: the images are not uint8.
        ValueError: their shape, or the number of labels, is not as above, or std is not positive.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        transform: Transform | None = None,
        mean: Numbers = 0.0,
        std: Numbers = 1.0,
    ) -> None:
        if images.dtype != np.uint8:
            raise TypeError(f"ImageDataset: expected images of dtype uint8, got {images.dtype}")
        if images.ndim != 4 or labels.shape != (len(images),):
            raise ValueError(
                "ImageDataset: expected images (samples, C, H, W) and labels (samples,), "
                f"got shapes {images.shape} and {labels.shape}"
            )
        if np.min(std) <= 0 or not {np.size(mean), np.size(std)} <= {1, images.shape[1]}:
            raise ValueError(
                f"ImageDataset: expected mean and std > 0 for 1 or {images.shape[1]} channels, got {mean}, {std}"
            )
        self.images, self.labels = images, labels.astype(np.int64)
        self.transform, self.mean, self.std = transform, mean, std

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        image, label = self.batch(np.array([index]), generator())
        return image[0], label[0]

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """The samples `indices` as one batch: float32 (N, C, H, W), int64 (N,), both Tensors.

        Pick the images all at once, by one index with the whole array (or `np.take`). Unless `self.transform` is None,
        call it once with their bytes and `rng`. Then `normalise` the result by `self.mean` and `self.std`.
        `result_of(None, array)` makes a Tensor without another copy.

        Raises:
            IndexError: there is no such sample; the message names the index, as NumPy's does.
        """
        images = self.images[indices]
        if self.transform is not None:
            images = self.transform(images, rng)
        inputs = normalise(images, self.mean, self.std)
        return result_of(None, inputs), result_of(None, self.labels[indices])


class MNIST(ImageDataset):
    """Handwritten digits, 60,000 to train with and 10,000 to test: (N, 1, 28, 28), labels 0 to 9.

    Args:
        train: True for the training images, False for the test images.
        transform, mean, std: as for `ImageDataset`.
        folder: a folder with the four unpacked IDX files, or two of them, by their official names; they are used
            without a check of their content. By default `fetch("mnist")` finds the files and verifies them.

    Attributes:
        MEAN, STD: of all pixels of the training images; with `MNIST(mean=MNIST.MEAN, std=MNIST.STD)` they become 0
            and 1.
    """

    MEAN, STD = 0.1307, 0.3081

    def __init__(
        self,
        train: bool = True,
        transform: Transform | None = None,
        mean: Numbers = 0.0,
        std: Numbers = 1.0,
        folder: str | Path | None = None,
    ) -> None:
        start = Path(folder or fetch("mnist")) / ("train" if train else "t10k")
        images, labels = (read_idx(f"{start}-{part}-ubyte") for part in ("images-idx3", "labels-idx1"))
        super().__init__(images[:, None], labels, transform, mean, std)


class CIFAR10(ImageDataset):
    """Colour photographs of ten classes, 50,000 to train with and 10,000 to test: (N, 3, 32, 32), labels 0 to 9.

    Args:
        train: True for the training images, False for the test images.
        transform, mean, std: as for `ImageDataset`.
        folder: a folder with unpacked files in the layout of the official binary version, data_batch_1.bin … and
            test_batch.bin, each of any number of records; they are used without a check of their content. By default
            `fetch("cifar10")` finds the files, downloads them if there are none (170 MB), and verifies them.

    Attributes:
        MEAN, STD: of all pixels of the training images, by channel.
        CLASSES: what the labels mean.
    """

    MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
    CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")

    def __init__(
        self,
        train: bool = True,
        transform: Transform | None = None,
        mean: Numbers = 0.0,
        std: Numbers = 1.0,
        folder: str | Path | None = None,
    ) -> None:
        names = [f"data_batch_{number}" for number in range(1, 6)] if train else ["test_batch"]
        folder = Path(folder or fetch("cifar10"))
        super().__init__(*read_cifar([folder / f"{name}.bin" for name in names]), transform, mean, std)


def download_mnist(transform: Transform | None = None, mean: Numbers = 0.0, std: Numbers = 1.0) -> tuple[MNIST, MNIST]:
    """MNIST's training and test images; only the training images go through `transform`."""
    return MNIST(True, transform, mean, std), MNIST(False, None, mean, std)


def download_cifar10(
    transform: Transform | None = None, mean: Numbers = 0.0, std: Numbers = 1.0
) -> tuple[CIFAR10, CIFAR10]:
    """CIFAR-10's training and test images; only the training images go through `transform`."""
    return CIFAR10(True, transform, mean, std), CIFAR10(False, None, mean, std)
