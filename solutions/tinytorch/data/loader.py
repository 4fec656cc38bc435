"""Stage 08: the DataLoader, which brings samples in batches, in a new order each epoch, and ahead of time."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from tinytorch.core.arrays import as_array, whole_number
from tinytorch.core.rng import generator
from tinytorch.core.tensor import Tensor, result_of

__all__ = ["DataLoader", "Dataset", "TensorDataset", "collate", "prefetched", "seeded_generator"]

Batch = tuple[Tensor, ...]  # usually (inputs, targets), with the samples along the first axis of each


def collate(samples: Sequence[Sequence[Any]]) -> Batch:
    """Samples, each a tuple such as (input, target), as one batch: a tuple of Tensors, one for each field.

    Args:
        samples: one or more tuples (or lists) of equal length. Their fields are Tensors, arrays or numbers; a batch of
            them has the dtype that `as_array` gives a list of them.

    Returns:
        Tensors of new memory, with the samples along a new first axis.

    Raises:
        TypeError: a sample is no tuple or list; the message names its type.
        ValueError: samples differ in their number of fields, or in the shape of a field; the message names both
            numbers, or both shapes.

    >>> inputs, targets = collate([([0.5, 1.0], 3), ([2.0, 4.0], 7)])
    >>> inputs.shape, targets
    ((2, 2), Tensor([3 7], dtype=int64))
    """
    for sample in samples:
        if not isinstance(sample, (tuple, list)):
            raise TypeError(
                f"collate: expected samples that are tuples, as (input, target), got {type(sample).__name__}"
            )
        if len(sample) != len(samples[0]):
            raise ValueError(f"collate: samples of {len(samples[0])} and of {len(sample)} fields fit into no batch")
    return tuple(_stacked(values) for values in zip(*samples))


def _stacked(values: Sequence[Any]) -> Tensor:
    arrays = [value.data if isinstance(value, Tensor) else value for value in values]
    for array in arrays:
        if np.shape(array) != np.shape(arrays[0]):
            raise ValueError(f"collate: shapes {np.shape(arrays[0])} and {np.shape(array)} fit into no batch")
    return result_of(None, as_array(arrays))


class Dataset:
    """Samples, numbered from 0. Derive a class from it, and write its `__len__` and `__getitem__`.

    `dataset[i]` gives sample i as a tuple, usually (input, target). From `len(dataset)` on it raises IndexError, which
    ends a `for` loop over the dataset. A dataset that can make a whole batch at once also writes `batch`.

    >>> class Squares(Dataset):
    ...     def __len__(self): return 4
    ...     def __getitem__(self, index): return float(index), index * index
    >>> Squares().batch(np.array([3, 1]), np.random.default_rng(0))
    (Tensor([3. 1.], dtype=float32), Tensor([9 1], dtype=int64))
    """

    def __len__(self) -> int:
        raise NotImplementedError(f"{type(self).__name__} has no __len__, which tells how many samples there are")

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        raise NotImplementedError(f"{type(self).__name__} has no __getitem__, which gives the sample of a number")

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """The samples `indices`, an array of integers, as one batch; here `collate` makes it of them one by one.

        A dataset that writes its own takes all its random numbers from `rng`, so that the loader's seed decides them.
        """
        return collate([self[int(index)] for index in indices])


class TensorDataset(Dataset):
    """Sample i is the i-th row of each tensor.

    Args:
        tensors: one Tensor or more, all with the same length of their first axis. Of an array or a list, which it
            copies, it makes a Tensor.

    Raises:
        ValueError: there is no tensor, one is a single number, or first lengths differ; the message names the shapes.

    >>> data = TensorDataset(Tensor([[1.0, 2.0], [3.0, 4.0]]), Tensor([5, 6]))
    >>> len(data), data[1]
    (2, (Tensor([3. 4.], dtype=float32), Tensor(6, dtype=int64)))
    """

    def __init__(self, *tensors: Any) -> None:
        self.tensors = tuple(each if isinstance(each, Tensor) else Tensor(each) for each in tensors)
        shapes = [tensor.shape for tensor in self.tensors]
        if not shapes or () in shapes or len({shape[0] for shape in shapes}) > 1:
            raise ValueError(f"TensorDataset: expected tensors of the same first length, got shapes {shapes}")

    def __len__(self) -> int:
        return len(self.tensors[0])

    def __getitem__(self, index: int) -> Batch:
        return tuple(tensor[index] for tensor in self.tensors)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Batch:
        """The samples `indices` as one batch: of each tensor these rows, in this order, picked all at once.

        Index each tensor once with the whole array (or use `np.take`), without a loop over the samples. The result is
        a copy.

        Raises:
            IndexError: there is no such sample; the message names the index, as NumPy's does.
        """
        return tuple(tensor[indices] for tensor in self.tensors)


def seeded_generator(seed: int, *place: int) -> np.random.Generator:
    """A generator whose random numbers depend on `seed` and `place` alone; a place is (epoch,) or (epoch, batch).

    Other seeds or places give other numbers, in no visible relation to these.
    """
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=place))


class DataLoader:
    """Goes through a dataset in batches; `for inputs, targets in loader` is one epoch.

    Args:
        dataset: a Dataset with one sample or more.
        batch_size: the number of samples in a batch.
        shuffle: whether each epoch has an order of its own.
        drop_last: whether a last batch that would be smaller is left out.
        seed: an integer from 0 on that, with the number of the epoch, decides everything random. If it is None, every
            epoch takes its seed from the package's `generator()`.
        prefetch: the number of batches that wait, finished, while the model works on another; a thread in the
            background makes them. With 0 there is no thread, and each batch is made when it is asked for. The batches
            are the same.

    Attributes:
        epoch: the number of epochs begun. A run that is resumed sets it, to go on with the orders that it would have
            seen.

    Raises:
        TypeError: `dataset` is no Dataset, or batch_size, seed or prefetch is no integer.
        ValueError: the dataset is empty, batch_size is below 1, or seed or prefetch is below 0.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int | None = None,
        prefetch: int = 0,
    ) -> None:
        if not isinstance(dataset, Dataset):
            kind = type(dataset).__name__
            raise TypeError(f"DataLoader: expected a Dataset, got {kind}; a TensorDataset makes one of tensors")
        if len(dataset) == 0:
            raise ValueError("DataLoader: the dataset is empty; expected one sample or more")
        self.batch_size = whole_number("DataLoader", "batch_size", batch_size, 1)
        self.seed = None if seed is None else whole_number("DataLoader", "seed", seed, 0)
        self.prefetch = whole_number("DataLoader", "prefetch", prefetch, 0)
        self.dataset, self.shuffle, self.drop_last, self.epoch = dataset, shuffle, drop_last, 0

    def __len__(self) -> int:
        """The number of batches in an epoch. The last may be smaller; if `drop_last` leaves it out it does not count.

        >>> data = TensorDataset(Tensor(np.zeros((10, 3))))
        >>> len(DataLoader(data, batch_size=4)), len(DataLoader(data, batch_size=4, drop_last=True))
        (3, 2)
        """
        whole, rest = divmod(len(self.dataset), self.batch_size)
        return whole if self.drop_last or rest == 0 else whole + 1

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """The numbers of all samples, each once, in the order of this epoch: (samples,) integers.

        They go from 0 up, unless `shuffle` is on. Then the order is random, every order is as likely as any other, and
        `seed` and `epoch` together decide which it is: draw it from `seeded_generator(seed, epoch)`.
        """
        samples = len(self.dataset)
        return seeded_generator(seed, epoch).permutation(samples) if self.shuffle else np.arange(samples)

    def batches(self, seed: int, epoch: int) -> Iterator[Batch]:
        """The batches of one epoch, one after the other: each is made when it is asked for, and not before.

        `order(seed, epoch)` is cut into pieces of `batch_size`; `dataset.batch(indices, rng)` makes a batch of each.
        Its rng is `seeded_generator(seed, epoch, number)` with the batch's number, counted from 0, so that the random
        numbers of a batch do not depend on who asks for it, or when.
        """
        order = self.order(seed, epoch)
        for number in range(len(self)):
            indices = order[number * self.batch_size : (number + 1) * self.batch_size]
            yield self.dataset.batch(indices, seeded_generator(seed, epoch, number))

    def __iter__(self) -> Iterator[Batch]:
        """One epoch: an iterator over its batches.

        The number of this epoch is `self.epoch`, which is 0 for the first, and which this call raises by 1. The seed is
        `self.seed`, or, if that is None, one number drawn from `generator()`, here and not in the background; nothing
        else in an epoch draws from it. Then `batches` gives the batches, and they come through `prefetched` if
        `self.prefetch` is not 0.
        """
        seed = int(generator().integers(2**63)) if self.seed is None else self.seed
        epoch, self.epoch = self.epoch, self.epoch + 1
        batches = self.batches(seed, epoch)
        return prefetched(batches, self.prefetch) if self.prefetch else batches


def prefetched(batches: Iterator[Any], depth: int) -> Iterator[Any]:
    """What `batches` gives, in its order, made ahead of time by a thread in the background.

    A queue with room for `depth` items connects the two (`queue.Queue(maxsize=depth)`). The thread puts in what it
    made, and waits while there is no room, so that it is never more than depth + 1 items ahead. It is a daemon thread:
    a program can end without waiting for it.

    An exception in `batches` comes out here, as the same object, after everything that was made before it. When the
    loop over this generator is left early, by `break` or by an error, the thread ends: Python then closes the
    generator, which runs its `finally`. Mind that the thread may be waiting for room at that moment.

    Args:
        batches: an iterator; only the thread asks it.
        depth: at least 1.
    """
    ready: queue.Queue[tuple[Any, Any]] = queue.Queue(maxsize=depth)
    left = threading.Event()

    def fill() -> None:
        try:
            for batch in batches:
                ready.put(("batch", batch))
                if left.is_set():
                    return
            ready.put(("end", None))
        except BaseException as error:  # whatever it is, it belongs to the thread that asks
            ready.put(("error", error))

    thread = threading.Thread(target=fill, name="prefetch", daemon=True)
    thread.start()
    try:
        while (item := ready.get())[0] == "batch":
            yield item[1]
        if item[0] == "error":
            raise item[1]
    finally:
        left.set()
        while not ready.empty():  # makes room: the thread puts at most one more, sees that nobody is there, and ends
            ready.get()
        thread.join()
