"""Gate 08: the DataLoader."""

import functools
import gzip
import itertools
import threading
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tinytorch import (
    CIFAR10,
    MNIST,
    Compose,
    DataLoader,
    Dataset,
    ImageDataset,
    RandomCrop,
    RandomHorizontalFlip,
    Tensor,
    TensorDataset,
    manual_seed,
)
from tinytorch.core.rng import generator
from tinytorch.data.datasets import normalise, read_cifar, read_idx
from tinytorch.data.loader import collate, prefetched, seeded_generator
from tinytorch.systems.loader import epoch_peak, epoch_seconds, mapped_pages, version_count, waiting_share
from workshop import ROOT
from workshop.checks import close, equal, exercise, holds, raises

PATIENCE = 2.0  # seconds that a thread gets for what takes it no time
LIMIT = 4.0  # seconds for a test that would wait for good if a thread forgot to say something; it takes a tenth


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def bytes_of(*shape: int, seed: int = 0) -> np.ndarray:
    return rng(seed).integers(0, 256, shape, dtype=np.uint8)


def check_batch(batch: Any, expected: Iterable[np.ndarray], given: str) -> None:
    """A tuple of Tensors with just these values, shapes and dtypes."""
    expected = list(expected)
    kinds = tuple(type(field).__name__ for field in batch) if isinstance(batch, tuple) else type(batch).__name__
    equal(kinds, ("Tensor",) * len(expected), "the kinds of its fields", given)
    for number, (field, values) in enumerate(zip(batch, expected)):
        close(field, values, f"field {number}", given, 1e-6, values.dtype)


class Counting(np.ndarray):
    """An array that counts how often something is picked out of it."""

    picked = 0

    def __getitem__(self, index: Any) -> Any:
        Counting.picked += 1
        return super().__getitem__(index)


def times_picked(action: Callable[[], object]) -> int:
    Counting.picked = 0
    action()
    return Counting.picked


class Numbered(Dataset):
    """A batch of it is (the indices, three numbers drawn from the rng for each); notes what it is asked for."""

    def __init__(self, count: int) -> None:
        self.count, self.asked, self.threads, self.kinds = count, [], [], set()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return "one by one, though the dataset has a `batch`"

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Any:
        self.asked.append(np.array(indices).tolist())
        self.threads.append(threading.current_thread())
        self.kinds.add(type(indices).__name__)
        return Tensor(np.array(indices)), Tensor(rng.random((len(indices), 3)))


def seen(batches: Iterable[Any]) -> np.ndarray:
    """The numbers of all samples, in the order in which they came."""
    return np.concatenate([np.zeros(0, np.int64), *(batch[0].data for batch in batches)])


def drawn(batches: Iterable[Any]) -> np.ndarray:
    return np.concatenate([batch[1].data for batch in batches])


def in_time(test: Callable[[], None]) -> Callable[[], None]:
    """The same test in a thread of its own: if it waits for good it fails, and those after it are judged as well."""

    @functools.wraps(test)
    def limited() -> None:
        ended: list[BaseException | None] = []

        def run() -> None:
            try:
                test()
                ended.append(None)
            except BaseException as error:
                ended.append(error)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(LIMIT)
        expected = "a batch, an error, or the word that there are no more"
        holds(bool(ended), expected, "it waits, and nothing comes", "batches that a thread in the background makes")
        if ended[0] is not None:
            raise ended[0]

    return limited


# Samples become a batch


@exercise("collate")
def test_collate() -> None:
    """the samples' fields are stacked, each into a Tensor of its own"""
    x = rng().normal(size=(3, 2, 4))
    given = "three samples: (2, 4) float64 array, Tensor (3,), integer"
    batch = collate([(row, Tensor([1.0, 2.0, float(i)]), 7 - i) for i, row in enumerate(x)])
    third = np.array([[1, 2, 0], [1, 2, 1], [1, 2, 2]], np.float32)
    check_batch(batch, (x, third, np.array([7, 6, 5])), given)
    check_batch(
        collate([(Tensor([5.0, 6.0]), Tensor(3))]), (np.array([[5, 6]], np.float32), np.array([3])), "one sample"
    )
    check_batch(
        collate([[np.uint8(200)], [np.uint8(100)]]), (np.array([200, 100], np.uint8),), "two lists with one uint8"
    )


@exercise("collate")
def test_collate_dtypes() -> None:
    """Python's floats become float32, integers int64 and exact, booleans bool"""
    given = "samples (0.5, 2**53 + 1, True) and (2, 3, False)"
    check_batch(
        collate([(0.5, 2**53 + 1, True), (2, 3, False)]),
        (np.array([0.5, 2], np.float32), np.array([2**53 + 1, 3]), np.array([True, False])),
        given,
    )


@exercise("collate")
def test_collate_copies() -> None:
    """a batch keeps its values when the sample's array is overwritten"""
    for count in (1, 2):
        array = np.array([1.0, 2.0])
        (batch,) = collate([(array,)] * count)
        array[:] = 99.0
        close(batch, [[1.0, 2.0]] * count, "the batch", f"{count} samples of [1, 2], overwritten afterwards")


@exercise("collate")
def test_collate_refuses() -> None:
    """samples that are no tuples, or do not fit together, are refused, and the message says how they differ"""
    row = np.zeros(3)
    raises(TypeError, lambda: collate([row, row]), "samples that are arrays of shape (3,)", ["ndarray"])
    raises(TypeError, lambda: collate([(row, 1), 5.0]), "samples (array, 1) and 5.0", ["float"])
    raises(ValueError, lambda: collate([(row, 1), (row, 1, 2)]), "samples of 2 and of 3 fields", ["2", "3"])
    raises(
        ValueError,
        lambda: collate([(row, 1), (np.zeros((3, 1)), 1)]),
        "fields of shapes (3,) and (3, 1)",
        ["(3,)", "(3, 1)"],
    )


@exercise("TensorDataset.batch")
def test_tensor_batch() -> None:
    """each tensor gives the rows that were asked for, in that order, also twice the same"""
    x, y, z = rng().normal(size=(6, 2, 3)), np.arange(6) * 10, np.arange(6, dtype=np.float32)
    for tensors in ((x,), (x, y), (x, y, z)):
        data = TensorDataset(*map(Tensor, tensors))
        for indices in ([4, 0, 5], [2], [1, 1, 3, 1], [0, 1, 2, 3, 4, 5]):
            given = f"{len(tensors)} tensors of 6 rows, indices {indices}"
            check_batch(data.batch(np.array(indices), rng()), (tensor[indices] for tensor in tensors), given)


@exercise("TensorDataset.batch")
def test_tensor_batch_is_a_copy() -> None:
    """who overwrites a batch does not overwrite the dataset"""
    x = Tensor(np.arange(4.0))
    for indices in ([2, 0], [0, 1, 2]):
        (batch,) = TensorDataset(x).batch(np.array(indices), rng())
        batch.data[:] = 99.0
        close(x, np.arange(4.0), "the dataset's tensor", f"batch of {indices} filled with 99 afterwards", 0.0)


@exercise("TensorDataset.batch")
def test_tensor_batch_all_at_once() -> None:
    """a batch of 500 is picked by one index, and not sample by sample"""
    x = Tensor(np.arange(1000.0))
    x.data = x.data.view(Counting)
    data, indices = TensorDataset(x), rng().permutation(1000)[:500]
    picked = times_picked(lambda: data.batch(indices, rng()))
    holds(picked < 10, "picked by one index with the whole array", f"picked {picked} times", "a batch of 500 indices")


@exercise("TensorDataset.batch")
def test_tensor_batch_out_of_range() -> None:
    """an index that there is not is an IndexError that names it"""
    data = TensorDataset(Tensor(np.zeros((5, 2))), Tensor(np.zeros(5)))
    raises(IndexError, lambda: data.batch(np.array([0, 5]), rng()), "5 samples, indices [0, 5]", ["5"])


# One epoch


@exercise("DataLoader.__len__")
def test_length() -> None:
    """the number of batches, with or without a smaller last one"""
    for count, size, all_of_them, full in (
        (10, 4, 3, 2),
        (12, 4, 3, 3),
        (3, 5, 1, 0),
        (1, 1, 1, 1),
        (7, 1, 7, 7),
        (9, 5, 2, 1),
    ):
        for drop_last, expected in ((False, all_of_them), (True, full)):
            given = f"{count} samples, batch_size={size}, drop_last={drop_last}"
            equal(len(DataLoader(Numbered(count), size, drop_last=drop_last)), expected, "len(loader)", given)


@exercise("DataLoader.order")
def test_order_without_shuffle() -> None:
    """without shuffle the samples come in their own order, whatever the seed and the epoch"""
    for count in (1, 7):
        for place in ((0, 0), (3, 5)):
            order = DataLoader(Numbered(count), 2).order(*place)
            close(order, np.arange(count), "order", f"{count} samples, shuffle=False, (seed, epoch) = {place}", 0.0)


@exercise("DataLoader.order")
def test_every_sample_once() -> None:
    """a shuffled order has every sample once, and is not the samples' own"""
    for count in (1, 2, 10, 1000):
        order = DataLoader(Numbered(count), 4, shuffle=True).order(3, 1)
        close(np.sort(order), np.arange(count), "the order, sorted", f"{count} samples, shuffle=True", 0.0)
        moved = count < 10 or np.mean(order == np.arange(count)) < 0.5
        holds(moved, "another order than 0, 1, 2 …", order, f"{count} samples, shuffle=True")


@exercise("DataLoader.order")
def test_every_epoch_its_own_order() -> None:
    """seed and epoch together decide the order: another of either, another order"""
    loader = DataLoader(Numbered(100), 10, shuffle=True)
    orders = {(seed, epoch): tuple(loader.order(seed, epoch)) for seed in range(3) for epoch in range(3)}
    for a, b in itertools.combinations(orders, 2):
        holds(orders[a] != orders[b], "two different orders", "the same order twice", f"(seed, epoch) = {a} and {b}")


@exercise("DataLoader.order")
def test_order_again() -> None:
    """the same seed and epoch give the same order, whatever was drawn in between, and draw nothing themselves"""
    manual_seed(0)
    loader = DataLoader(Numbered(50), 10, shuffle=True)
    first = loader.order(3, 2)
    manual_seed(1)
    loader.order(5, 5)
    close(DataLoader(Numbered(50), 7, shuffle=True).order(3, 2), first, "order(3, 2)", "asked for a second time", 0.0)
    close(
        generator().random(),
        rng(1).random(),
        "the package's next random number",
        "manual_seed(1), then two orders",
        0.0,
    )


@exercise("DataLoader.order")
def test_all_orders_are_as_likely() -> None:
    """each of the six orders of three samples comes in a sixth of the epochs"""
    loader = DataLoader(Numbered(3), 1, shuffle=True)
    orders = [tuple(int(i) for i in loader.order(0, epoch)) for epoch in range(600)]
    counts = np.array([orders.count(order) for order in itertools.permutations(range(3))])
    usual = (counts > 50) & (counts < 160)  # 100 expected, with a standard deviation of 9
    holds(usual, "each of the six orders about 100 times", counts, "three samples, 600 epochs")


@exercise("DataLoader.batches")
def test_batches_are_the_order_in_pieces() -> None:
    """each batch has the next batch_size samples; the last one has what is left, or is left out"""
    for count, size, drop_last, sizes in (
        (10, 4, False, [4, 4, 2]),
        (10, 4, True, [4, 4]),
        (6, 3, False, [3, 3]),
        (6, 3, True, [3, 3]),
        (3, 5, False, [3]),
        (3, 5, True, []),
        (3, 1, False, [1, 1, 1]),
    ):
        loader = DataLoader(Numbered(count), size, drop_last=drop_last)
        given = f"{count} samples, batch_size={size}, drop_last={drop_last}"
        batches = list(loader.batches(0, 0))
        equal(str([len(batch[0]) for batch in batches]), str(sizes), "the sizes of the batches", given)
        close(seen(batches), np.arange(sum(sizes)), "the samples that came", given, 0.0)
        equal(
            str(loader.dataset.kinds - {"ndarray"}), "set()", "what `dataset.batch` got beside arrays of indices", given
        )


@exercise("DataLoader.batches")
def test_batches_shuffled() -> None:
    """they follow the order of their seed and epoch"""
    loader = DataLoader(Numbered(23), 5, shuffle=True)
    for place in ((3, 0), (3, 1), (4, 1)):
        came = seen(loader.batches(*place))
        close(
            np.sort(came), np.arange(23), "the samples that came, sorted", f"23 samples in batches of 5, {place}", 0.0
        )
        close(came, loader.order(*place), "the samples that came", f"against loader.order{place}", 0.0)


@exercise("DataLoader.batches")
def test_batches_are_made_when_asked_for() -> None:
    """no batch is made before it is asked for"""
    data = Numbered(20)
    batches = DataLoader(data, 4).batches(0, 0)
    for expected in ([], [[0, 1, 2, 3]], [[0, 1, 2, 3], [4, 5, 6, 7]]):
        equal(
            str(data.asked), str(expected), "the batches made", f"{len(expected)} batches were asked for, of 4 samples"
        )
        next(batches)


@exercise("DataLoader.batches")
def test_chance_belongs_to_the_batch() -> None:
    """the rng of a batch depends on seed, epoch and its number, and not on what earlier batches drew"""

    class Greedy(Numbered):
        def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Any:
            result = super().batch(indices, rng)
            rng.random(17 * len(self.asked))
            return result

    manual_seed(5)
    plain = {place: drawn(DataLoader(Numbered(12), 4).batches(*place)) for place in ((0, 0), (0, 1), (1, 0), (2, 7))}
    manual_seed(6)
    again = drawn(DataLoader(Greedy(12), 4).batches(2, 7))
    close(again, plain[2, 7], "what the batches drew", "seed 2, epoch 7; each batch drew more than it needed", 0.0)
    everything = np.concatenate([numbers.ravel() for numbers in plain.values()])
    fresh = len(np.unique(everything))
    equal(fresh, everything.size, "different numbers drawn", "three batches in each of four epochs of three seeds")


@exercise("DataLoader.batches")
def test_batches_of_a_dataset_without_batch() -> None:
    """a dataset that only has __len__ and __getitem__ serves too"""

    class Squares(Dataset):
        def __len__(self) -> int:
            return 5

        def __getitem__(self, index: int) -> Any:
            return np.full(2, index, np.float32), index * index

    batches = list(DataLoader(Squares(), 2).batches(0, 0))
    equal(len(batches), 3, "the number of batches", "5 samples, batch_size=2")
    for batch, indices in zip(batches, ([0, 1], [2, 3], [4])):
        expected = np.repeat(np.array(indices, np.float32)[:, None], 2, axis=1), np.array(indices) ** 2
        check_batch(batch, expected, f"samples (array [i, i], i * i), batch of {indices}")


# Epochs


@exercise("DataLoader.__iter__")
@in_time
def test_every_pass_is_an_epoch() -> None:
    """each `for` goes through everything from the start, and is counted when it begins"""
    for prefetch in (0, 2):
        loader = DataLoader(Numbered(7), 3, prefetch=prefetch)
        for epoch in range(3):
            equal(loader.epoch, epoch, "loader.epoch before", f"prefetch={prefetch}, pass {epoch + 1}")
            close(seen(loader), np.arange(7), "the samples that came", f"prefetch={prefetch}, pass {epoch + 1}", 0.0)
        for _ in loader:
            break
        equal(loader.epoch, 4, "loader.epoch", f"prefetch={prefetch}, three whole passes and one left at once")


@exercise("DataLoader.__iter__")
def test_epochs_differ_and_repeat() -> None:
    """with a seed every epoch has another order, and another loader with that seed has the same ones"""
    for seed in (0, 3):
        manual_seed(1)
        loader = DataLoader(Numbered(40), 8, shuffle=True, seed=seed)
        epochs = [seen(loader) for _ in range(3)]
        for a, b in itertools.combinations(range(3), 2):
            holds(
                (epochs[a] != epochs[b]).any(),
                "two different orders",
                "the same order",
                f"seed={seed}, epochs {a} and {b}",
            )
        manual_seed(2)
        again = DataLoader(Numbered(40), 8, shuffle=True, seed=seed)
        close(
            epochs[0],
            again.order(seed, 0),
            "epoch 0",
            f"seed={seed}, the first pass, against loader.order({seed}, 0)",
            0.0,
        )
        close(seen(again), epochs[0], "epoch 0", f"seed={seed}, a second loader, another manual_seed", 0.0)
        again.epoch = 2
        close(seen(again), epochs[2], "epoch 2", f"seed={seed}, a second loader, epoch set to 2", 0.0)
        close(
            generator().random(), rng(2).random(), "the package's next random number", f"seed={seed}: draws none", 0.0
        )


@exercise("DataLoader.__iter__")
@in_time
def test_without_a_seed() -> None:
    """without a seed the package's generator decides, and is asked once for each epoch, whatever happens in it"""
    found = []
    for start in (1, 1, 2):
        manual_seed(start)
        loader = DataLoader(Numbered(40), 8, shuffle=True)
        found.append(np.concatenate([seen(loader), seen(loader)]))
    close(found[1], found[0], "two epochs", "manual_seed(1), and once more", 0.0)
    holds((found[2] != found[0]).any(), "other orders", "the same orders", "manual_seed(1) and manual_seed(2)")
    holds((found[0][:40] != found[0][40:]).any(), "two different orders", "the same order twice", "two epochs, no seed")
    loader = DataLoader(Numbered(40), 8, shuffle=True)
    seen(loader)
    manual_seed(2)
    seen(loader)
    given = "the second epoch of a loader without a seed, after manual_seed(2)"
    holds(generator().random() != rng(2).random(), "a seed drawn", "none drawn", given)
    after = []
    for size, prefetch in ((8, 0), (3, 0), (8, 2)):
        manual_seed(1)
        list(DataLoader(Numbered(40), size, shuffle=True, prefetch=prefetch))
        after.append(generator().random())
    given = "an epoch in batches of 8, of 3, and of 8 with prefetch=2, each after manual_seed(1)"
    close(np.array(after), np.full(3, after[0]), "the package's next random number", given, 0.0)


@exercise("DataLoader.__iter__")
@in_time
def test_prefetching_changes_nothing() -> None:
    """the same batches in the same order come with prefetch and without, chance included"""
    for prefetch in (1, 2, 50):
        plain = DataLoader(Numbered(23), 4, shuffle=True, seed=5)
        ahead = DataLoader(Numbered(23), 4, shuffle=True, seed=5, prefetch=prefetch)
        for epoch in range(2):
            expected, got = list(plain), list(ahead)
            given = f"prefetch={prefetch}, epoch {epoch}, 23 samples in batches of 4"
            close(seen(got), seen(expected), "the samples that came", given, 0.0)
            close(drawn(got), drawn(expected), "what the batches drew", given, 0.0)


@exercise("DataLoader.__iter__")
@in_time
def test_who_makes_the_batches() -> None:
    """with prefetch a thread in the background, without it the one that asks"""
    for prefetch in (0, 1, 3):
        data = Numbered(10)
        list(DataLoader(data, 4, prefetch=prefetch))
        own = [thread is threading.current_thread() for thread in data.threads]
        equal(str(own), str([prefetch == 0] * 3), "made by the thread that asks", f"prefetch={prefetch}, three batches")


@exercise("DataLoader.__iter__")
@in_time
def test_how_many_batches_are_made() -> None:
    """as many batches wait as prefetch says, and one may be in the making; none without it"""
    for prefetch in (0, 1, 4):
        data = Numbered(40)
        batches = iter(DataLoader(data, 2, prefetch=prefetch))
        next(batches)
        for _ in range(int(100 * PATIENCE)):
            if len(data.asked) < 1 + prefetch:
                threading.Event().wait(0.01)
        pause()
        made, most = len(data.asked), 1 + prefetch + (prefetch > 0)
        given = f"20 batches, prefetch={prefetch}, one taken, then a pause"
        holds(1 + prefetch <= made <= most, f"{1 + prefetch} to {most} batches made", made, given)
        del batches


@exercise("DataLoader.__iter__")
def test_two_passes_at_once() -> None:
    """two passes over one loader do not disturb each other"""
    loader = DataLoader(Numbered(20), 5, shuffle=True, seed=1)
    pairs = list(zip(loader, loader))
    first, second = seen(pair[0] for pair in pairs), seen(pair[1] for pair in pairs)
    given = "zip(loader, loader), 20 samples"
    close(np.sort(first), np.arange(20), "the first pass, sorted", given, 0.0)
    close(np.sort(second), np.arange(20), "the second pass, sorted", given, 0.0)
    holds((first != second).any(), "two epochs in two orders", "the same order twice", given)


# Ahead of time


class Source:
    """Gives the numbers 0, 1, 2 …; other threads can wait until it has made some."""

    def __init__(self, count: int) -> None:
        self.count, self.made, self.more = count, 0, threading.Condition()

    def __iter__(self) -> Iterator[int]:
        for number in range(self.count):
            with self.more:
                self.made += 1
                self.more.notify_all()
            yield number

    def wait_for(self, made: int) -> bool:
        with self.more:
            return self.more.wait_for(lambda: self.made >= made, PATIENCE)


def pause() -> None:
    """Time in which a thread that is not held back would go on."""
    threading.Event().wait(0.05)


def left_running(before: Iterable[threading.Thread]) -> int:
    """How many threads are alive that were not there before, after some patience."""
    new = [thread for thread in threading.enumerate() if thread not in before]
    for thread in new:
        thread.join(PATIENCE)
    return sum(thread.is_alive() for thread in new)


@exercise("prefetched")
@in_time
def test_prefetched_gives_the_same() -> None:
    """everything comes out, once and in order, whatever the depth and whatever it is"""
    for count in (0, 1, 2, 3, 30):
        for depth in (1, 2, 5):
            got = list(prefetched(iter(range(count)), depth))
            equal(str(got), str(list(range(count))), "what comes out", f"the numbers below {count}, depth {depth}")
    items = [None, False, (), 0, "end", None]
    equal(str(list(prefetched(iter(items), 2))), str(items), "what comes out", f"{items}, depth 2")
    rows = list(np.arange(8.0).reshape(4, 2))
    close(np.array(list(prefetched(iter(rows), 2))), np.arange(8.0).reshape(4, 2), "what comes out", "four arrays", 0.0)


@exercise("prefetched")
@in_time
def test_prefetched_works_ahead() -> None:
    """while the first item is used, a thread in the background makes as many more as the depth says"""
    for depth in (1, 3):
        source = Source(50)
        ahead = prefetched(iter(source), depth)
        next(ahead)
        holds(
            source.wait_for(1 + depth),
            f"{depth} more made meanwhile",
            "no more were made",
            f"depth {depth}, one item taken",
        )
        ahead.close()


@exercise("prefetched")
@in_time
def test_prefetched_is_held_back() -> None:
    """never more than depth + 1 items are made ahead"""
    taken = threading.Event()
    early = prefetched((taken.wait(PATIENCE) if number else True for number in range(2)), 2)
    next(early)
    taken.set()
    equal(next(early), True, "the first item was out when the second was made", "two items, depth 2")
    for depth in (1, 3):
        source = Source(50)
        ahead = prefetched(iter(source), depth)
        for taken in (1, 2):
            next(ahead)
            source.wait_for(taken + depth)
            pause()
            given = f"depth {depth}, {taken} taken, then a pause"
            holds(
                source.made <= taken + depth + 1, f"at most {taken + depth + 1} made", f"{source.made} were made", given
            )
        ahead.close()


class Damaged(Exception):
    """Cannot be made from a text alone, as many errors cannot."""

    def __init__(self, sample: int, folder: str) -> None:
        super().__init__(f"sample {sample} in {folder} is damaged")


def damaged(after: int) -> Iterator[int]:
    yield from range(after)
    raise Damaged(417, "cats")


@exercise("prefetched")
@in_time
def test_an_exception_comes_out() -> None:
    """an error in the background comes out as itself, with its own words"""
    for after in (0, 1, 5):
        before, given = threading.enumerate(), f"{after} items, then an error: sample 417 in cats is damaged"
        raises(
            Damaged, lambda after=after: list(prefetched(damaged(after), 2)), given, ["sample 417 in cats is damaged"]
        )
        equal(left_running(before), 0, "threads left running", given)


@exercise("prefetched")
@in_time
def test_an_exception_comes_last() -> None:
    """what was made before an error comes out before it"""
    got: list[int] = []
    for depth in (1, 4):
        got.clear()
        raises(
            Damaged,
            lambda depth=depth: got.extend(prefetched(damaged(3), depth)),
            f"3 items, then an error, depth {depth}",
        )
        equal(str(got), "[0, 1, 2]", "what came before the error", f"3 items, then an error, depth {depth}")


@exercise("prefetched")
@in_time
def test_no_thread_is_left() -> None:
    """the thread ends when the loop is left, whether it makes an item or waits for room, and with the last item"""
    before, source, made = threading.enumerate(), Source(50), 50
    for _ in prefetched((threading.Event().wait(0.01) for _ in source), 3):
        made = source.made
        break
    given = "break after the first of 50 items that take 10 ms each, depth 3"
    holds(made < 10, "few made when the first comes out", f"{made} of 50 were made", given)
    equal(left_running(before), 0, "threads left running", given)
    holds(source.made < 10, "no more made after that", f"{source.made} of 50 were made", given)
    for depth in (1, 3):
        source = Source(50)
        for _ in prefetched(iter(source), depth):
            source.wait_for(1 + depth)
            pause()  # the queue is full now
            break
        equal(
            left_running(before),
            0,
            "threads left running",
            f"break after the first of 50, the queue full, depth {depth}",
        )
    list(prefetched(iter(range(5)), 2))
    equal(left_running(before), 0, "threads left running", "all five items taken, depth 2")


@exercise("prefetched")
@in_time
def test_no_thread_is_left_after_an_error_in_the_loop() -> None:
    """the thread ends as well when the body of the loop fails"""

    def loop() -> None:
        for item in prefetched(iter(range(50)), 2):
            1 / item

    before = threading.enumerate()
    raises(ZeroDivisionError, loop, "1 / item in the body of the loop; item 0 is the first")
    equal(left_running(before), 0, "threads left running", "an error in the body of the loop, depth 2")


# Augmentation


def check_reproducible(transform: Any, images: np.ndarray, given: str) -> None:
    """The rng decides, and nothing else; the images stay as they are, and the result is its own."""
    kept = images.copy()
    manual_seed(1)
    first = transform(images, rng(1))
    manual_seed(2)
    close(
        transform(images, rng(1)),
        first,
        "the result",
        f"{given}, once more with an rng of the same seed",
        0.0,
        images.dtype,
    )
    other = transform(images, rng(2))
    holds((other != first).any(), "another result", "the same result", f"{given}, with an rng of another seed")
    shared = np.shares_memory(first, images)
    first[...] = 7
    close(images, kept, "the images", f"{given}, and the result overwritten", 0.0)
    holds(not shared, "a result with memory of its own", "a view of the images", given)


@exercise("RandomHorizontalFlip.__call__")
def test_flip() -> None:
    """left and right change places, for each row and channel alike; with p=0 nothing does"""
    shapes = (2, 3, 2, 5), (1, 1, 3, 3), (4, 2, 3, 2), (0, 3, 4, 4)
    for shape, dtype in zip(shapes, (np.uint8, np.float32, np.float64, np.uint8)):
        images = rng().permutation(np.prod(shape)).reshape(shape).astype(dtype)
        given = f"images {shape} {np.dtype(dtype)}"
        close(RandomHorizontalFlip(1.0)(images, rng()), images[..., ::-1], "the result", f"{given}, p=1", 0.0, dtype)
        close(RandomHorizontalFlip(0.0)(images, rng()), images, "the result", f"{given}, p=0", 0.0, dtype)
    images = bytes_of(2, 3, 8, 8)[:, ::-1, ::2, 1:6]
    close(
        RandomHorizontalFlip(1.0)(images, rng()),
        images[..., ::-1],
        "the result",
        "every second row of an array, p=1",
        0.0,
    )


@exercise("RandomHorizontalFlip.__call__")
def test_flip_by_chance() -> None:
    """each image of a batch has its own chance"""
    images = np.tile(np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3), (2000, 1, 1, 1))
    for p in (0.2, 0.5):
        result = RandomHorizontalFlip(p)(images.copy(), rng(1))
        flipped = (result == images[..., ::-1]).all(axis=(1, 2, 3))
        same = (result == images).all(axis=(1, 2, 3))
        holds(
            flipped | same, "every image as it was, or mirrored", result[~(flipped | same)][:1], f"2000 images, p={p}"
        )
        count = int(flipped.sum())  # standard deviation at most 22.4
        holds(abs(count - 2000 * p) < 120, f"about {2000 * p:.0f} of 2000 mirrored", count, f"2000 images, p={p}")
        changes = int((flipped[1:] != flipped[:-1]).sum())
        expected = 2 * p * (1 - p) * 1999
        given = f"2000 images, p={p}: how often a mirrored one follows one that is not, or the other way around"
        holds(abs(changes - expected) < 150, f"about {expected:.0f} times", changes, given)


@exercise("RandomHorizontalFlip.__call__")
def test_flip_draws_from_its_rng() -> None:
    """the rng alone decides, and the images stay as they are"""
    check_reproducible(RandomHorizontalFlip(), bytes_of(20, 3, 4, 4), "20 images, p=0.5")
    images = bytes_of(2, 1, 2, 2)
    for p in (0.0, 1.0):
        holds(not np.shares_memory(RandomHorizontalFlip(p)(images, rng()), images), "new memory", "a view", f"p={p}")


@exercise("RandomHorizontalFlip.__call__")
def test_flip_refuses_one_image() -> None:
    """what has not four axes is refused, and the message names its shape"""
    raises(ValueError, lambda: RandomHorizontalFlip()(bytes_of(3, 8, 8), rng()), "one image, (3, 8, 8)", ["(3, 8, 8)"])


def check_crops(height: int, width: int, size: int, padding: int, count: int, dtype: Any = np.uint8) -> None:
    """Every place is as likely as any other, and the pixels are those of that place, in all channels."""
    image = (1 + np.arange(2 * height * width)).reshape(2, height, width).astype(dtype)
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    places = [(i, j) for i in range(padded.shape[1] - size + 1) for j in range(padded.shape[2] - size + 1)]
    squares = np.array([padded[:, i : i + size, j : j + size] for i, j in places])
    given = f"{count} times the same image (2, {height}, {width}), size={size}, padding={padding}"
    result = RandomCrop(size, padding)(np.tile(image, (count, 1, 1, 1)), rng(4))
    equal(result.shape, (count, 2, size, size), "the result's shape", given)
    equal(str(result.dtype), str(np.dtype(dtype)), "the result's dtype", given)
    matches = (result[:, None] == squares).all(axis=(2, 3, 4))
    wrong = result[~matches.any(axis=1)][:1]
    holds(matches.any(axis=1).all(), "squares of the padded image", wrong, given)
    found, expected = matches.sum(axis=0), count / len(places)
    usual = np.abs(found - expected) <= 6 * np.sqrt(expected)
    holds(usual, f"each of {len(places)} squares about {expected:.0f} times", found, f"{given}; places row by row")


@exercise("RandomCrop.__call__")
def test_crop() -> None:
    """a square of the image surrounded by zeros, at any place where it fits"""
    check_crops(4, 6, size=3, padding=1, count=1200)
    check_crops(5, 4, size=4, padding=0, count=200)
    check_crops(3, 3, size=3, padding=2, count=1200, dtype=np.float32)
    check_crops(2, 3, size=5, padding=2, count=200, dtype=np.float64)
    check_crops(3, 3, size=1, padding=0, count=400)


@exercise("RandomCrop.__call__")
def test_crop_with_one_place() -> None:
    """where the square fits just once, it is cut there"""
    images = bytes_of(3, 2, 4, 4)
    close(RandomCrop(4)(images, rng()), images, "the result", "images (3, 2, 4, 4), size=4", 0.0, np.uint8)
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    close(
        RandomCrop(6, 1)(images, rng()), padded, "the result", "images (3, 2, 4, 4), size=6, padding=1", 0.0, np.uint8
    )


@exercise("RandomCrop.__call__")
def test_crop_of_each_image() -> None:
    """the squares in a batch come from their own images, each at a place of its own"""
    images = bytes_of(40, 1, 6, 6)
    result = RandomCrop(4)(images, rng(2))
    places = set()
    for number, (square, image) in enumerate(zip(result, images)):
        found = [(i, j) for i in range(3) for j in range(3) if np.array_equal(square, image[:, i : i + 4, j : j + 4])]
        holds(bool(found), f"square {number} is a part of image {number}", square, "40 different images, size=4")
        places.update(found)
    given = "40 images (1, 6, 6), size=4: nine places to choose from"
    holds(len(places) > 4, "many places in one batch", len(places), given)


@exercise("RandomCrop.__call__")
def test_crop_draws_from_its_rng() -> None:
    """the rng alone decides, and the images stay as they are"""
    check_reproducible(RandomCrop(4, 2), bytes_of(20, 3, 4, 4), "20 images, size=4, padding=2")
    images = bytes_of(2, 1, 3, 3)
    holds(
        not np.shares_memory(RandomCrop(3)(images, rng()), images),
        "new memory",
        "a view",
        "size of the image, no padding",
    )


@exercise("RandomCrop.__call__")
def test_crop_that_does_not_fit() -> None:
    """a square larger than the padded image is refused with its size, and so is what has not four axes"""
    for shape, size, padding in (((2, 3, 4, 9), 7, 1), ((2, 3, 9, 4), 7, 1), ((2, 3, 8, 8), 9, 0)):
        given = f"images {shape}, size={size}, padding={padding}"
        raises(ValueError, lambda: RandomCrop(size, padding)(bytes_of(*shape), rng()), given, [size, shape])
    raises(ValueError, lambda: RandomCrop(2)(bytes_of(3, 8, 8), rng()), "one image, (3, 8, 8)", ["(3, 8, 8)"])


@exercise("Compose.__call__")
def test_compose() -> None:
    """the transforms come one after the other, the first one first, and all draw from the same rng"""
    images, draws = bytes_of(2, 1, 2, 2), rng()
    given_rngs: list[Any] = []

    def step(change: Callable[[np.ndarray], np.ndarray]) -> Any:
        return lambda x, r: (given_rngs.append(r), change(x))[1]

    for changes, expected, given in (
        (
            [lambda x: x[..., :1], lambda x: x * 2.0 + 1],
            images[..., :1] * 2.0 + 1,
            "first the left column, then 2 x + 1",
        ),
        ([lambda x: x * 2.0, lambda x: x + 1.0, lambda x: x * x], (images * 2.0 + 1) ** 2, "2 x, then x + 1, then x x"),
        ([], images, "no transform at all"),
    ):
        compose = Compose([step(change) for change in changes])
        compose(images, draws)
        given_rngs.clear()
        close(compose(images, draws), expected, "the result of a second call", given, 1e-12)
        equal(len(given_rngs), len(changes), "transforms called", given)
        holds(all(each is draws for each in given_rngs), "the same rng for all", "another rng", given)


# Files


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def memory(action: Callable[[], Any]) -> tuple[int, int]:
    """Bytes that the result of `action` keeps, and bytes at the highest point on the way."""
    tracemalloc.start()
    result = action()
    kept, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    del result
    return kept, peak


@exercise("read_idx")
def test_read_idx(tmp_path: Path) -> None:
    """shape and elements are those of the file, as uint8"""
    for shape in ((5,), (2, 3), (300, 2, 3), (2, 1, 3, 2), (0, 28, 28)):
        array = bytes_of(*shape)
        path = written(tmp_path / "made-up-idx", idx(array))
        close(read_idx(path), array, "read_idx", f"a file of shape {shape}", 0.0, np.uint8)
        close(read_idx(str(path)), array, "read_idx", f"a file of shape {shape}, its path as text", 0.0, np.uint8)


@exercise("read_idx")
def test_read_idx_refuses(tmp_path: Path) -> None:
    """what is no IDX file of bytes, or not whole, is refused, and the message names the file"""
    good = idx(bytes_of(10, 3))
    for content, given in (
        (good[:-1], "the last byte is missing"),
        (good + b"\0", "a byte too many"),
        (good[:7], "half a header"),
        (idx(bytes_of(10, 3), 13), "elements that are no bytes"),
        (b"", "an empty file"),
        (gzip.compress(good), "a file that is still packed"),
        (b"\x01" + good[1:], "another first byte"),
    ):
        path = written(tmp_path / "images-idx2", content)
        raises(ValueError, lambda path=path: read_idx(path), given, ["images-idx2"])


@exercise("read_idx")
def test_read_idx_memory(tmp_path: Path) -> None:
    """what is read stays bytes"""
    path = written(tmp_path / "large-idx", idx(bytes_of(1000, 28, 28)))
    kept, _ = memory(lambda: read_idx(path))
    holds(
        kept < 1.1 * 784_000,
        "no more than the 784,000 bytes of the file kept",
        f"{kept} bytes",
        "a file of 784,000 elements",
    )


@exercise("read_idx")
def test_mnist(tmp_path: Path) -> None:
    """the real test images of MNIST, and what `train` chooses"""
    for part in ("images-idx3", "labels-idx1"):
        packed = ROOT / "datasets" / "mnist" / f"t10k-{part}-ubyte.gz"
        written(tmp_path / f"t10k-{part}-ubyte", gzip.decompress(packed.read_bytes()))
    data = MNIST(train=False, folder=tmp_path)
    given = "MNIST(train=False)"
    equal(data.images.shape, (10000, 1, 28, 28), "its images' shape", given)
    equal(str(data.images.dtype), "uint8", "its images' dtype", given)
    # Counted in the official files by od, without NumPy: sha256 0fa7898d… and ff7bcfd4…
    close(data.labels[:10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], "its first labels", given, 0.0, np.int64)
    close(
        np.bincount(data.labels),
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
        "images of each digit",
        given,
        0.0,
    )
    close(data.images[0, 0, 7, 5:17], [0, 84, 185, 159, 151, 60, 36, 0, 0, 0, 0, 0], "row 7 of the first", given, 0.0)
    images, labels = bytes_of(3, 28, 28), np.array([3, 1, 2], np.uint8)
    written(tmp_path / "train-images-idx3-ubyte", idx(images))
    written(tmp_path / "train-labels-idx1-ubyte", idx(labels))
    given = "MNIST(), three made-up training images"
    close(MNIST(folder=tmp_path).images, images[:, None], "its images", given, 0.0, np.uint8)
    close(MNIST(folder=str(tmp_path)).labels, labels, "its labels", given, 0.0, np.int64)


def records(images: np.ndarray, labels: np.ndarray) -> bytes:
    """A file of CIFAR-10's binary version, pixel by pixel."""
    content = bytearray()
    for image, label in zip(images, labels):
        content.append(int(label))
        for channel in range(3):
            for row in range(32):
                content += bytes(image[channel, row])
    return bytes(content)


@exercise("read_cifar")
def test_read_cifar(tmp_path: Path) -> None:
    """images by channel, row and column, with their labels, file after file"""
    images, labels = bytes_of(9, 3, 32, 32), np.array([9, 0, 4, 7, 1, 1, 8, 2, 3])
    paths = [
        written(tmp_path / name, records(images[part], labels[part]))
        for name, part in (("b.bin", slice(0, 2)), ("a.bin", slice(2, 8)), ("c.bin", slice(8, 9)))
    ]
    for chosen, part in ((paths, slice(0, 9)), (paths[1:2], slice(2, 8)), ([str(path) for path in paths], slice(0, 9))):
        given = f"files of {[path.stat().st_size // 3073 for path in map(Path, chosen)]} records"
        got_images, got_labels = read_cifar(chosen)
        close(got_labels, labels[part], "the labels", given, 0.0, np.int64)
        close(got_images, images[part], "the images", given, 0.0, np.uint8)


@exercise("read_cifar")
def test_read_cifar_refuses(tmp_path: Path) -> None:
    """a file that is no whole number of records is refused, and the message names it and its size"""
    good = written(tmp_path / "good.bin", bytes(2 * 3073))
    for size in (2 * 3073 - 1, 3073 + 1, 3072, 0):
        path = written(tmp_path / "half.bin", bytes(size))
        given = f"a good file, and one of {size} bytes"
        raises(ValueError, lambda path=path: read_cifar([good, path]), given, ["half.bin", size])


@exercise("read_cifar")
def test_read_cifar_memory(tmp_path: Path) -> None:
    """what is read stays bytes"""
    paths = [written(tmp_path / f"{i}.bin", bytes(200 * 3073)) for i in range(3)]
    kept, peak = memory(lambda: read_cifar(paths))
    given = "three files of 200 records, 1,843,800 bytes"
    holds(kept < 1.1 * 1_843_800, "no more than the bytes of the files kept", f"{kept} bytes", given)
    holds(peak < 3.5 * 1_843_800, "at most three copies on the way", f"{peak} bytes", given)


@exercise("read_cifar")
def test_cifar10(tmp_path: Path) -> None:
    """five files are for training, in their order, and one for the test"""
    images, labels = bytes_of(6, 3, 32, 32), np.array([5, 4, 3, 2, 1, 0])
    for number, name in enumerate([*(f"data_batch_{n}" for n in (1, 2, 3, 4, 5)), "test_batch"]):
        written(tmp_path / f"{name}.bin", records(images[number : number + 1], labels[number : number + 1]))
    for train, part in ((True, slice(0, 5)), (False, slice(5, 6))):
        data = CIFAR10(train=train, folder=tmp_path)
        given = f"CIFAR10(train={train}), six made-up files of one record"
        close(data.images, images[part], "its images", given, 0.0, np.uint8)
        close(data.labels, labels[part], "its labels", given, 0.0, np.int64)


# Bytes become numbers


@exercise("normalise")
def test_normalise_to_one() -> None:
    """by default every byte from 0 to 255 becomes a float32 from 0 to 1"""
    images = np.arange(256, dtype=np.uint8).reshape(2, 1, 16, 8)
    close(
        normalise(images), np.arange(256).reshape(2, 1, 16, 8) / 255, "normalise(images)", "0 … 255", 1e-6, np.float32
    )
    close(images, np.arange(256).reshape(2, 1, 16, 8), "the images afterwards", "0 … 255", 0.0, np.uint8)


@exercise("normalise")
def test_normalise_by_channel() -> None:
    """mean and std count from 0 to 1, one for all or one for each channel"""
    for shape in ((2, 3, 4, 5), (2, 3, 3, 3), (1, 3, 1, 3), (3, 1, 3, 3)):
        images = bytes_of(*shape)
        stds = [0.1, 0.2, 0.4]
        for mean, std in ((0.5, 0.25), ((0.2, 0.5, 0.9), tuple(stds)), (0.3, stds), (np.array([0.1, 0.5, 0.6]), 0.5)):
            if shape[1] == 1 and np.size(mean) + np.size(std) > 2:
                continue
            spread = [np.broadcast_to(numbers, shape[1]).reshape(-1, 1, 1) for numbers in (mean, std)]
            expected = (images / 255 - spread[0]) / spread[1]
            given = f"images {shape}, mean={mean}, std={std}"
            close(normalise(images, mean, std), expected, "the result", given, 1e-5, np.float32)


@exercise("normalise")
def test_normalise_of_a_view() -> None:
    """images that do not lie in one piece of memory are taken too"""
    images = bytes_of(4, 3, 8, 8)[::2, :, ::-1, 1:5]
    close(
        normalise(images, 0.5, 0.5),
        images / 127.5 - 1,
        "the result",
        "every second image, upside down, cut",
        1e-6,
        np.float32,
    )


@exercise("ImageDataset.batch")
def test_image_batch() -> None:
    """the images that were asked for, normalised, and their labels"""
    images, labels = bytes_of(6, 3, 4, 5), np.array([3, 1, 4, 1, 5, 9], np.uint8)
    mean, std = (0.1, 0.2, 0.3), (0.5, 0.25, 1.0)
    plain, normal = ImageDataset(images, labels), ImageDataset(images, labels, mean=mean, std=std)
    columns = [np.array(numbers).reshape(3, 1, 1) for numbers in (mean, std)]
    for indices in ([4, 0, 5], [2], [1, 1, 3], [0, 1, 2]):
        picked, expected = images[indices] / 255, labels[indices].astype(np.int64)
        check_batch(plain.batch(np.array(indices), rng()), (picked.astype(np.float32), expected), f"indices {indices}")
        moved = ((picked - columns[0]) / columns[1]).astype(np.float32)
        check_batch(
            normal.batch(np.array(indices), rng()), (moved, expected), f"indices {indices}, mean={mean}, std={std}"
        )


@exercise("ImageDataset.batch")
def test_image_batch_is_transformed() -> None:
    """the transform gets the batch's bytes and the rng, once, and what it gives is normalised"""
    images, labels, draws = bytes_of(6, 1, 3, 3), np.arange(6), rng()
    calls: list[Any] = []

    def transform(batch: np.ndarray, rng: Any) -> np.ndarray:
        calls.append((str(batch.dtype), batch.shape, rng is draws))
        return 255 - batch[:, :, :2]

    data = ImageDataset(images, labels, transform, mean=0.5)
    expected = (255 - images[[5, 2]][:, :, :2]) / 255 - 0.5
    check_batch(
        data.batch(np.array([5, 2]), draws), (expected.astype(np.float32), np.array([5, 2])), "255 - x of two rows"
    )
    what = "the transform's calls: dtype, shape, the given rng"
    equal(str(calls), str([("uint8", (2, 1, 3, 3), True)]), what, "indices [5, 2]")


@exercise("ImageDataset.batch")
def test_image_batch_leaves_the_images_alone() -> None:
    """a transform that writes into its batch does not write into the dataset"""
    images = bytes_of(5, 1, 2, 2)
    kept = images.copy()

    def blacken(batch: np.ndarray, rng: Any) -> np.ndarray:
        batch[...] = 0
        return batch

    data = ImageDataset(images, np.arange(5), blacken)
    for indices in ([3, 1], [0, 1, 2, 3, 4], [2]):
        inputs, _ = data.batch(np.array(indices), rng())
        close(
            inputs, np.zeros((len(indices), 1, 2, 2)), "the batch", f"a transform that blackens, indices {indices}", 0.0
        )
        close(data.images, kept, "the dataset's images", f"a transform that blackens, indices {indices}", 0.0)


@exercise("ImageDataset.batch")
def test_image_batch_all_at_once() -> None:
    """a batch of 200 is picked by one index, and not image by image"""
    images = bytes_of(400, 1, 2, 2).view(Counting)
    data, indices = ImageDataset(images, np.arange(400)), rng().permutation(400)[:200]
    picked = times_picked(lambda: data.batch(indices, rng()))
    holds(picked < 20, "picked by one index with the whole array", f"picked {picked} times", "a batch of 200 indices")


@exercise("ImageDataset.batch")
@in_time
def test_images_and_labels_stay_together() -> None:
    """shuffled by a loader, and made ahead, every image still has its own label"""
    labels = rng().permutation(60)
    images = np.broadcast_to(labels.astype(np.uint8)[:, None, None, None], (60, 2, 3, 3))
    for prefetch in (0, 2):
        for inputs, targets in DataLoader(ImageDataset(images, labels), 7, shuffle=True, seed=1, prefetch=prefetch):
            expected = np.broadcast_to(targets.data[:, None, None, None] / 255, inputs.shape)
            close(inputs, expected, "the images", f"all pixels of an image are its label, prefetch={prefetch}", 1e-6)


# Systems


def pages_touched(indices: Iterable[int], sample_bytes: int, start: int, page: int) -> int:
    """Counted byte by byte."""
    begins = [start + index * sample_bytes for index in indices]
    return len({at // page for begin in begins for at in range(begin, begin + sample_bytes)})


@exercise("mapped_pages")
def test_mapped_pages() -> None:
    """as many pages as reading the samples byte by byte touches"""
    draw = rng(2)
    scattered = [33, 10, 4, 11, 16, 32, 18, 3, 13, 24, 32, 29]
    layouts = (40, 24, 64), (5, 3, 16), (16, 0, 16), (16, 8, 16), (1, 0, 8), (40, 7, 16), (33, 0, 16), (784, 16, 4096)
    for sample_bytes, start, page in layouts:
        for indices in (scattered, [0], [3, 1, 3], [2, 1, 0], list(range(20)), draw.integers(0, 100, 12).tolist(), []):
            given = f"samples {indices} of {sample_bytes} bytes, {start} before the first, pages of {page}"
            expected = pages_touched(indices, sample_bytes, start, page)
            equal(mapped_pages(indices, sample_bytes, start, page), expected, "pages", given)
    order = draw.permutation(60000)[:128]
    expected = pages_touched(order.tolist(), 784, 16, 4096)
    equal(mapped_pages(order, 784, 16), expected, "pages", "128 random images of MNIST's file, an array of indices")


@exercise("epoch_peak")
def test_epoch_peak() -> None:
    """the largest batches that were there at once, and nothing from before"""

    def arrays(*sizes: int) -> Iterator[np.ndarray]:
        for size in sizes:
            yield np.zeros(size, np.uint8)

    given = "batches of {} MB, one after the other"
    for sizes, least, most in (((1,) * 8, 1.0, 2.2), ((1, 3, 1, 1), 3.0, 4.2), ((2,), 2.0, 2.2), ((), 0.0, 0.1)):
        peak = epoch_peak(arrays(*(size * 10**6 for size in sizes))) / 1e6
        holds(least <= peak <= most, f"{least} to {most} MB", f"{peak:.2f} MB", given.format(sizes))
    wasteful = (np.zeros(4 * 10**6, np.uint8)[: 10**6].copy() for _ in range(3))
    peak = epoch_peak(wasteful) / 1e6
    holds(
        5.0 <= peak <= 6.2,
        "5 to 6.2 MB",
        f"{peak:.2f} MB",
        "three batches of 1 MB, each cut out of 4 MB that nobody keeps",
    )
    tracemalloc.start()
    kept = [np.zeros(5 * 10**6, np.uint8)]
    peak = epoch_peak(arrays(*[10**6] * 3)) / 1e6
    running = tracemalloc.is_tracing()
    del kept
    after = epoch_peak(arrays(*[10**6] * 3)) / 1e6
    tracemalloc.stop()
    holds(1.0 <= peak <= 2.2, "1 to 2.2 MB", f"{peak:.2f} MB", "three batches of 1 MB, 5 MB in use, traced before")
    holds(1.0 <= after <= 2.2, "1 to 2.2 MB", f"{after:.2f} MB", "three batches of 1 MB, 5 MB freed before")
    equal(running, True, "tracemalloc is tracing", "it did before")


@exercise("epoch_peak")
def test_epoch_peak_stops_tracing() -> None:
    """tracemalloc is stopped afterwards, also after an error"""
    epoch_peak(iter([1, 2]))
    equal(tracemalloc.is_tracing(), False, "tracemalloc is tracing", "it did not before")
    raises(Damaged, lambda: epoch_peak(damaged(1)), "batches that fail")
    tracing = tracemalloc.is_tracing()
    tracemalloc.stop()
    equal(tracing, False, "tracemalloc is tracing", "it did not before, and the batches failed")


class Clock:
    """A clock that goes on only where it is told to."""

    def __init__(self, begin: float = 0.0) -> None:
        self.now, self.begin, self.asked, self.turns = 100.0, begin, 0, []

    def __call__(self) -> float:
        self.asked += 1
        return self.now

    def batches(self, loads: Iterable[float], end: float) -> Iterable[int]:
        """Batches that take these seconds each, and `end` for saying that there are no more."""
        clock = self

        class Slow:
            def __iter__(self) -> Iterator[int]:
                clock.now += clock.begin
                return numbers()

        def numbers() -> Iterator[int]:
            for number, load in enumerate(loads):
                clock.now += load
                clock.turns.append(f"made {number}")
                yield number
            clock.now += end

        return Slow()


@exercise("waiting_share")
def test_waiting_share() -> None:
    """what the clock shows between asking for a batch and having it, over all"""
    for loads, steps, end, begin in (
        ((3, 1, 0, 2), (1, 2, 4, 3), 0, 0),
        ((1, 1), (1, 1), 0, 0),
        ((0, 0, 0), (5, 5, 5), 0, 0),
        ((2,), (6,), 2, 0),
        ((1, 1), (2, 2), 0, 4),
        ((5, 1, 1), (1, 9, 1), 3, 1),
        ((), (), 3, 0),
    ):
        clock = Clock(begin)

        def step(batch: Any) -> None:
            clock.turns.append(f"step {batch}")
            clock.now += steps[batch]

        share, waited = waiting_share(clock.batches(loads, end), step, clock), sum(loads) + end + begin
        given = f"batches that take {loads} s, iter() {begin} s, the end {end} s; steps of {steps} s"
        holds(clock.asked > 1, "the given clock asked for the time", "it was not asked", given)
        turns = [turn for number in range(len(loads)) for turn in (f"made {number}", f"step {number}")]
        equal(str(clock.turns), str(turns), "what happened", given)
        close(share, waited / (waited + sum(steps)), "the share", given, 1e-9)
    given = "no batch, and a clock that stands"
    close(waiting_share([], lambda batch: None, Clock()), 0.0, "the share", given, 0.0)


@exercise("waiting_share")
def test_waiting_share_by_the_real_clock() -> None:
    """without a clock of one's own, real seconds are counted"""
    wait = threading.Event().wait
    share = waiting_share((wait(0.02) for _ in range(2)), lambda batch: None)
    holds(
        0.5 < share <= 1.0, "nearly 1", f"{share:.3f}", "two batches that take 20 ms each, and steps that take nothing"
    )
    share = waiting_share([1, 2], lambda batch: wait(0.02))
    holds(0.0 <= share < 0.5, "nearly 0", f"{share:.3f}", "a list of two batches, and steps of 20 ms")


def simulated(load: list[int], step: list[int], prefetch: int) -> int:
    """A worker, a queue and a consumer, second by second."""
    queue: list[int] = []
    making = hands = None  # seconds left of the batch that is being made; whether the worker holds a finished one
    working, begun, done, now = 0, 0, 0, 0
    while True:
        moved = True
        while moved:
            moved = False
            if making is None and not hands and begun < len(load):
                making, begun, moved = load[begun], begun + 1, True
            if making == 0 and not hands:
                making, hands, moved = None, True, True
            if hands and len(queue) < prefetch:
                queue.append(begun - 1)
                hands, moved = None, True
            if working == 0 and queue:
                working, done, moved = step[queue.pop(0)], done + 1, True
        if done == len(load) and working == 0:
            return now
        now += 1
        making = making - 1 if making else making
        working -= working > 0


@exercise("epoch_seconds")
def test_epoch_seconds() -> None:
    """as long as a simulated worker, queue and consumer take, second by second"""
    draw = rng(1)
    cases = [
        ([1, 1, 1], [2, 2, 2]),
        ([3, 3, 3], [1, 1, 1]),
        ([9, 1, 1, 1], [3] * 4),
        ([1, 1, 9, 1], [4] * 4),
        ([2], [5]),
    ]
    slower_later = [2, 2, 2, 2, 2, 2, 2, 10, 9, 9, 7, 11, 5, 9, 10], [10, 8, 7, 7, 7, 8, 10, 8, 1, 8, 5, 3, 6, 5, 3]
    cases += [slower_later]
    cases += [(draw.integers(0, 9, 12).tolist(), draw.integers(1, 9, 12).tolist()) for _ in range(6)]
    cases += [([1] * 6, [8, 1, 1, 1, 1, 8]), ([1, 1, 1, 6, 6, 6], [5, 5, 5, 1, 1, 1])]
    for load, step in cases:
        for prefetch in (2, 1, 4, 20):
            given = f"load {load}, step {step}, prefetch={prefetch}"
            close(float(epoch_seconds(load, step, prefetch)), simulated(load, step, prefetch), "seconds", given, 1e-9)
        close(
            epoch_seconds(load, step, 0),
            sum(load) + sum(step),
            "seconds",
            f"load {load}, step {step}, prefetch=0",
            1e-9,
        )
    close(
        epoch_seconds([0.25, 0.5], [0.125, 2.5], 1),
        3.25,
        "seconds",
        "load [0.25, 0.5], step [0.125, 2.5], prefetch=1",
        1e-12,
    )


@exercise("version_count")
def test_version_count() -> None:
    """as many as there are different ones among all crops and their mirror images"""
    cases = (6, 5, 4, 2), (4, 4, 4, 1), (3, 5, 3, 2), (6, 4, 4, 0), (2, 2, 3, 1), (5, 3, 2, 1), (4, 4, 4, 0)
    for height, width, size, padding in cases:
        padded = np.pad(1 + np.arange(height * width).reshape(height, width), padding)
        squares = np.lib.stride_tricks.sliding_window_view(padded, (size, size)).reshape(-1, size, size)
        for flip in (True, False):
            versions = {square.tobytes() for square in (*squares, *squares[..., ::-1][: len(squares) * flip])}
            given = f"an image of {height} by {width}, size={size}, padding={padding}, flip={flip}"
            equal(version_count(height, width, size, padding, flip), len(versions), "versions", given)


# The words of docstrings, to the letter


@exercise("DataLoader.batches")
def test_batches_draw_from_their_own_place() -> None:
    """batch `number` of an epoch draws from seeded_generator(seed, epoch, number)"""
    for seed, epoch in ((0, 0), (0, 1), (2, 1), (1, 2)):
        expected = [seeded_generator(seed, epoch, number).random((4, 3)) for number in range(3)]
        given = f"batches({seed}, {epoch}), three batches of 4 samples"
        came = drawn(DataLoader(Numbered(12), 4).batches(seed, epoch))
        close(came, np.concatenate(expected), "what the batches drew", given, 0.0)


@exercise("read_idx")
def test_read_idx_to_the_byte(tmp_path: Path) -> None:
    """all of the first three bytes count, a length has all its four bytes, and a header may not be cut off"""
    for content, given in (
        (b"ABC\x01\0\0\0\x01x", "ABC instead of 0, 0, 8"),
        (b"ABCDx", "the bytes ABCDx"),
        (b"\0\0\x08", "three bytes"),
        (b"\0\0\x08\x01", "one axis, and no length"),
        (b"\0\0\x08\x01\0\0", "one axis, and two bytes of its length"),
        (b"\0\0\x08\x02\0\0\0\0\0\0\0", "two axes, and a byte of the second length is missing"),
        (b"\0\x01\x08\x01\0\0\0\x01x", "another second byte"),
        (b"\x01\0\x08\x01\0\0\0\x01x", "another first byte"),
        (b"\0\0\x09\x01\0\0\0\x01x", "9 for signed bytes"),
        (b"\0\0\0\x01\0\0\0\x01x", "type 0, which is none"),
        (b"\0\0\x08\x01\x01\0\0\x01x", "one element where 16,777,217 are announced"),
    ):
        path = written(tmp_path / "short-idx", content)
        raises(ValueError, lambda path=path: read_idx(path), given, ["short-idx"])
    path = written(tmp_path / "empty-idx", b"\0\0\x08\x02\x01\0\0\x01\0\0\0\0")
    equal(read_idx(path).shape, (16_777_217, 0), "its shape", "a header of shape (16777217, 0), and no elements")
