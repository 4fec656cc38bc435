"""Gate 08: the DataLoader."""

import functools
import gzip
import itertools
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tinytorch import (  # noqa: F401  # noqa: F401
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
from tinytorch.core.tensor import result_of  # noqa: F401
from tinytorch.data.datasets import normalise, read_cifar, read_idx  # noqa: F401
from tinytorch.data.loader import collate, prefetched, seeded_generator  # noqa: F401
from tinytorch.systems.loader import epoch_peak, epoch_seconds, mapped_pages, version_count, waiting_share  # noqa: F401
from workshop import ROOT
from workshop.checks import close, count, equal, holds, plain, raises, ratio
from workshop.probes import allocated, in_time, left_running, numbers, patience, pause, traced, traces_after
from workshop.tables import Case, Cases, Expression, table

look = Cases(globals())


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def bytes_of(*shape: int, seed: int = 0) -> np.ndarray:
    return rng(seed).integers(0, 256, shape, dtype=np.uint8)


def a_case(check: Callable[..., None]) -> Callable[..., Case]:
    """The function that makes cases of `check`: `check(*arguments)` is one, and runs when its turn comes."""
    return functools.partial(functools.partial, check)


def array(text: str, expected: Any, tolerance: float = 0.0, dtype: Any = None, **letters: Any) -> Case:
    """A case: these numbers, made of letters that stay arrays. If `expected` is a text, NumPy makes them so."""

    def check(e: Expression) -> None:
        right = eval(expected, {**e.names, **e.letters}) if isinstance(expected, str) else expected
        close(e(*e.letters.values()), right, e.text, e.given, tolerance, dtype)

    return look.case(check, text, **letters)


def batch(text: str, *expected: Any, **letters: Any) -> Case:
    """A case: a tuple of Tensors with just these values, shapes and dtypes."""
    return look.case(lambda e: same_batch(e(*e.letters.values()), expected), text, **letters)


def same_batch(got: Any, expected: Iterable[Any]) -> None:
    expected = [np.asarray(values) for values in expected]
    kinds = tuple(type(field).__name__ for field in got) if isinstance(got, tuple) else type(got).__name__
    equal(kinds, ("Tensor",) * len(expected), "the kinds of its fields")
    for number, (field, values) in enumerate(zip(got, expected)):
        close(field, values, f"field {number}", tolerance=1e-6, dtype=values.dtype)


def floats(values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def keeps_apart(e: Expression) -> None:
    """x stays as it is, and the result, or its first field, does not change with it."""
    (source,) = e.arrays()
    kept, got = source.copy(), e(source)
    got = plain(got[0] if isinstance(got, tuple) else got)
    first = np.array(got)
    close(source, kept, "x, afterwards", tolerance=0.0)
    source[...] = 7
    close(got, first, "the result, after x was filled with 7", tolerance=0.0)


def undisturbed(seed: int) -> None:
    """Nothing was drawn from the package's generator since manual_seed(seed)."""
    what = f"the package's next random number, after manual_seed({seed})"
    close(generator().random(), rng(seed).random(), what, tolerance=0.0)


# Samples become a batch


class Counting(np.ndarray):
    """An array that counts how often something is picked out of it."""

    picked = 0

    def __getitem__(self, index: Any) -> Any:
        Counting.picked += 1
        return super().__getitem__(index)


def picks(e: Expression, most: int) -> None:
    """A batch of 300 samples out of 600 is picked by one index with the whole array."""
    data = e()
    for tensor in getattr(data, "tensors", ()):
        tensor.data = tensor.data.view(Counting)
    Counting.picked = 0
    data.batch(rng().permutation(600)[:300], rng())
    holds(Counting.picked <= most, "a batch of 300 picked by one index with the whole array", Counting.picked)


X, Y, Z = numbers(6, 2, 3), np.arange(6) * 10, np.arange(6, dtype=np.float32)
SAMPLES = "[(x[0], Tensor([1.0, 2.0]), 7), (x[1], Tensor([3.0, 4.0]), 6), (x[2], Tensor([5.0, 6.0]), 5)]"
ROWS = "TensorDataset(x, y, z).batch(i, rng())"

test_batches_of_samples = table(
    ("collate", "the samples' fields are stacked along a new first axis, each into a Tensor of its own",
        batch(f"collate({SAMPLES})", X[:3], floats([[1, 2], [3, 4], [5, 6]]), [7, 6, 5], x=X),
        batch("collate([(Tensor([5.0, 6.0]), Tensor(3))])", floats([[5, 6]]), [3]),
        batch("collate([([1.0, 2.0], 3), ([4.0, 5.0], 6)])", floats([[1, 2], [4, 5]]), [3, 6]),
        batch("collate([[3.5], [4.5], [6.5]])", floats([3.5, 4.5, 6.5])),
        batch("collate(((3, 4, 5), (6, 7, 8)))", [3, 6], [4, 7], [5, 8])),
    ("collate", "a field has the dtype that as_array gives a list of its values",
        batch("collate([(x[0],), (x[1],)])", X[:2], x=X),
        batch("collate([(Tensor(x[0]),), (Tensor(x[1]),)])", X[:2], x=X),
        batch("collate([[np.uint8(200)], [np.uint8(100)]])", np.array([200, 100], np.uint8)),
        batch("collate([(0.5,), (2,)])", floats([0.5, 2])),
        batch("collate([(2**53 + 1,), (3,)])", [2**53 + 1, 3]),
        batch("collate([(True,), (False,)])", [True, False])),
    ("collate", "a batch has memory of its own",
        look.case(keeps_apart, "collate([(x,), (x,)])", x=[3.0, 4.0]),
        look.case(keeps_apart, "collate([(x,)])", x=[3.0, 4.0]),
        look.case(keeps_apart, "collate([[x]])", x=bytes_of(2, 3))),
    ("collate", "samples that are no tuples or lists, or do not fit together, are refused",
        look.raises("collate([np.arange(3.0), np.arange(3.0)])", TypeError, "ndarray"),
        look.raises("collate([(2.0, 1), 5.0])", TypeError, "float"),
        look.raises("collate([Tensor([2.0, 3.0])])", TypeError, "Tensor"),
        look.raises("collate(['ab', 'cd'])", TypeError, "str"),
        look.raises("collate([(2, 3), (4, 5, 6)])", ValueError, 2, 3),
        look.raises("collate([(2, 3, 4), (5, 6, 7), (8, 9)])", ValueError, 3, 2),
        look.raises("collate([(np.ones(3), 5), (np.ones((3, 1)), 6)])", ValueError, "(3,)", "(3, 1)"),
        look.raises("collate([(5, Tensor([2.0])), (6, Tensor([2.0])), (7, Tensor(2.0))])", ValueError, "(1,)", "()")),
    ("TensorDataset.batch", "each tensor gives the rows that were asked for, in that order, also twice the same",
        *(batch(ROWS, X[i], Y[i], Z[i], x=X, y=Y, z=Z, i=i) for i in ([4, 0, 5], [2], [1, 1, 3, 1], [0, 1, 2, 3, 4])),
        batch("TensorDataset(x).batch(i, rng())", X[[5, 3]], x=X, i=[5, 3]),
        batch("TensorDataset(y, x).batch(i, rng())", Y[[2, 3, 4]], X[[2, 3, 4]], x=X, y=Y, i=[2, 3, 4])),
    ("TensorDataset.batch", "a batch is a copy",
        *(look.case(keeps_apart, f"TensorDataset(result_of(None, x)).batch(np.array({i}), rng())", x=[3.0, 4.0, 5.0, 6.0])
          for i in ([2, 0], [0, 1, 2], [0, 1, 2, 3], [3]))),
    ("TensorDataset.batch", "a batch is picked by one index, and not sample by sample",
        look.case(picks, "TensorDataset(np.arange(600.0))", 5),
        look.case(picks, "TensorDataset(np.ones((600, 2)), np.arange(600))", 10)),
    ("TensorDataset.batch", "an index that there is not is an IndexError that names it",
        look.raises("TensorDataset(np.ones((5, 2)), np.ones(5)).batch(np.array([0, 7]), rng())", IndexError, 7),
        look.raises("TensorDataset(np.ones(5)).batch(np.array([2, -8, 3]), rng())", IndexError, -8)),
)  # fmt: skip


# One epoch


class Numbered(Dataset):
    """A batch of it is (the indices, three numbers drawn from the rng for each); notes what it is asked for."""

    def __init__(self, count: int, greedy: bool = False) -> None:
        self.count, self.greedy, self.asked, self.kinds = count, greedy, [], set()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return "one by one, though the dataset has a `batch`"

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Any:
        self.asked.append(len(indices))
        self.kinds.add(type(indices).__name__)
        drawn = rng.random((len(indices), 3))
        rng.random(17 * self.greedy * len(self.asked))
        return Tensor(np.array(indices)), Tensor(drawn)


class Squares(Dataset):
    """A dataset that only has `__len__` and `__getitem__`."""

    def __len__(self) -> int:
        return 5

    def __getitem__(self, index: int) -> Any:
        return np.full(2, index, np.float32), index * index


class Ordered(DataLoader):
    """A loader whose length and order are the gate's own."""

    def __len__(self) -> int:
        count, size = len(self.dataset), self.batch_size
        return count // size if self.drop_last else -(-count // size)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return rng(1000 * seed + epoch).permutation(len(self.dataset))


def seen(batches: Iterable[Any]) -> np.ndarray:
    """The numbers of all samples, in the order in which they came."""
    return np.concatenate([np.zeros(0, np.int64), *(batch[0].data for batch in batches)])


def drawn(batches: Iterable[Any]) -> np.ndarray:
    """What was drawn for all samples, in the order in which they came."""
    return np.concatenate([np.zeros((0, 3)), *(batch[1].data for batch in batches)])


def all_once(e: Expression) -> None:
    order = np.asarray(e())
    equal(order.dtype.kind in "iu", True, "the order holds integers")
    close(np.sort(order), np.arange(len(order)), "the order, sorted", tolerance=0.0)
    if len(order) >= 10:
        holds(np.mean(order == np.arange(len(order))) < 0.5, "another order than 0, 1, 2 …", order)


def different(e: Expression, *places: tuple[int, int]) -> None:
    loader = e()
    orders = np.array([loader.order(*place) for place in places])
    for a, b in itertools.combinations(range(len(places)), 2):
        same = f"the same one twice: {orders[a][:8]} …"
        holds((orders[a] != orders[b]).any(), f"different orders for (seed, epoch) = {places[a]} and {places[b]}", same)


def repeated(e: Expression, other: str) -> None:
    """Nothing decides an order but seed and epoch, and it draws from nothing else."""
    manual_seed(0)
    first, loader = e(), eval(other, globals())
    manual_seed(1)
    loader.order(5, 5)
    close(loader.order(3, 2), first, f"order(3, 2) of {other}, afterwards", tolerance=0.0)
    undisturbed(1)


def likely(e: Expression) -> None:
    """Each of the six orders of three samples comes about 100 times in 600 epochs: the standard deviation is 9."""
    loader = e()
    orders = [tuple(int(i) for i in loader.order(0, epoch)) for epoch in range(600)]
    counts = np.array([orders.count(order) for order in itertools.permutations(range(3))])
    holds((counts > 50) & (counts < 160), "each of the six orders about 100 times in 600 epochs", counts)


def pieces(e: Expression, *sizes: int) -> None:
    loader = e()
    batches = list(loader.batches(3, 1))
    equal(np.array([len(batch[0]) for batch in batches], int), np.array(sizes, int), "the sizes of the batches")
    close(seen(batches), loader.order(3, 1)[: sum(sizes)], "the samples that came, against order(3, 1)", tolerance=0.0)
    equal(str(loader.dataset.kinds - {"ndarray"}), "set()", "what `dataset.batch` got beside arrays of indices")


def lazily(e: Expression) -> None:
    loader, made = e(), []
    batches = loader.batches(0, 0)
    for _ in range(4):
        made.append(len(loader.dataset.asked))
        next(batches)
    equal(np.array(made), np.arange(4), "batches made before 1, 2, 3 and 4 of them were asked for")


def draws(e: Expression, seed: int, epoch: int) -> None:
    manual_seed(1)
    loader = e()
    expected = [seeded_generator(seed, epoch, number).random((4, 3)) for number in range(3)]
    came = drawn(loader.batches(seed, epoch))
    close(came, np.concatenate(expected), f"what the batches of (seed, epoch) = {seed, epoch} drew", tolerance=0.0)


LENGTHS = (10, 4, 3, 2), (12, 4, 3, 3), (3, 5, 1, 0), (1, 1, 1, 1), (7, 1, 7, 7), (9, 5, 2, 1), (16, 8, 2, 2)
CUT = "Ordered(Numbered({}), {}, drop_last={})"

test_one_epoch = table(
    ("DataLoader.__len__", "the number of batches, with a smaller last one",
        *(look.equals(f"len(DataLoader(Numbered({count}), {size}))", every) for count, size, every, _ in LENGTHS)),
    ("DataLoader.__len__", "the number of full batches if drop_last leaves out a smaller last one",
        *(look.equals(f"len(DataLoader(Numbered({count}), {size}, drop_last=True))", full)
          for count, size, _, full in LENGTHS)),
    ("DataLoader.order", "without shuffle the samples come in their own order, whatever the seed and the epoch",
        *(array(f"DataLoader(Numbered({count}), 2).order(*{place})", np.arange(count))
          for count in (1, 7) for place in ((0, 0), (3, 5)))),
    ("DataLoader.order", "a shuffled order has every sample once, and is not the samples' own",
        *(look.case(all_once, f"DataLoader(Numbered({count}), 4, shuffle=True).order(3, 1)")
          for count in (1, 2, 10, 40, 1000))),
    ("DataLoader.order", "seed and epoch together decide the order: another of either, another order",
        look.case(different, "DataLoader(Numbered(100), 10, shuffle=True)", (2, 0), (2, 1), (2, 2)),
        look.case(different, "DataLoader(Numbered(100), 10, shuffle=True)", (0, 3), (1, 3), (2, 3)),
        look.case(different, "DataLoader(Numbered(100), 10, shuffle=True)", (0, 4), (1, 3), (2, 2), (3, 1), (4, 0)),
        look.case(different, "DataLoader(Numbered(100), 10, shuffle=True)", (1, 4), (2, 2), (4, 1))),
    ("DataLoader.order", "the same seed and epoch give the same order, and draw nothing from the package's generator",
        look.case(repeated, "DataLoader(Numbered(50), 9, True).order(3, 2)", "DataLoader(Numbered(50), 9, True)"),
        look.case(repeated, "DataLoader(Numbered(50), 9, True).order(3, 2)", "DataLoader(Numbered(50), 7, True)")),
    ("DataLoader.order", "every order is as likely as any other",
        look.case(likely, "DataLoader(Numbered(3), 1, shuffle=True)")),
    ("DataLoader.batches", "each has the next samples of the order; the last one has what is left, or is left out",
        look.case(pieces, CUT.format(10, 4, False), 4, 4, 2),
        look.case(pieces, CUT.format(10, 4, True), 4, 4),
        look.case(pieces, CUT.format(6, 3, False), 3, 3),
        look.case(pieces, CUT.format(6, 3, True), 3, 3),
        look.case(pieces, CUT.format(3, 5, False), 3),
        look.case(pieces, CUT.format(3, 5, True)),
        look.case(pieces, CUT.format(3, 1, False), 1, 1, 1),
        look.case(pieces, "DataLoader(Numbered(23), 5, shuffle=True)", 5, 5, 5, 5, 3)),
    ("DataLoader.batches", "no batch is made before it is asked for",
        look.case(lazily, CUT.format(20, 4, False)),
        look.case(lazily, CUT.format(4, 1, True))),
    ("DataLoader.batches", "batch `number` draws from seeded_generator(seed, epoch, number), whatever others drew",
        *(look.case(draws, CUT.format(12, 4, False), *place) for place in ((0, 0), (0, 1), (2, 1), (1, 2), (3, 0))),
        look.case(draws, CUT.format("12, greedy=True", 4, False), 2, 7)),
    ("DataLoader.batches", "a dataset that only has __len__ and __getitem__ serves too",
        batch("next(DataLoader(Squares(), 2).batches(0, 0))", floats([[0, 0], [1, 1]]), [0, 1]),
        batch("list(DataLoader(Squares(), 2).batches(0, 0))[1]", floats([[2, 2], [3, 3]]), [4, 9]),
        batch("list(DataLoader(Squares(), 2).batches(0, 0))[-1]", floats([[4, 4]]), [16])),
)  # fmt: skip


# Epochs


class Damaged(Exception):
    """Cannot be made from a text alone, as many errors cannot."""

    def __init__(self, sample: int, folder: str) -> None:
        super().__init__(f"sample {sample} in {folder} is damaged")


class Source:
    """An iterator over the numbers below `count`; notes which threads ask, and others can wait until it made some.

    Args:
        fails: sample that cannot be made; -1 for none.
        slow: whether each takes 10 ms.
    """

    def __init__(self, count: int, fails: int = -1, slow: bool = False) -> None:
        self.count, self.fails, self.slow = count, fails, slow
        self.made, self.threads, self.more = 0, set(), threading.Condition()

    def __repr__(self) -> str:
        damage = f", of which {self.fails} is damaged" if self.fails >= 0 else ""
        return f"the numbers below {self.count}{damage}{', which take 10 ms each' if self.slow else ''}"

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.slow:
            threading.Event().wait(0.01)
        with self.more:
            self.threads.add(threading.current_thread())
            if self.made == self.fails:
                raise Damaged(417, "cats")
            if self.made == self.count:
                raise StopIteration
            self.made += 1
            self.more.notify_all()
            return self.made - 1

    def has_made(self, number: int) -> bool:
        with self.more:
            made = self.more.wait_for(lambda: self.made >= number, patience.seconds)
        if not made:
            patience.in_vain()
        return made


class Noted(DataLoader):
    """A loader whose `batches` are the gate's own: the numbers below 20, plus 100 for each epoch. It notes requests."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(Numbered(40), 2, **settings)
        self.places, self.source = [], Source(0)

    def batches(self, seed: int, epoch: int) -> Iterator[int]:
        self.places.append((seed, epoch))
        source = self.source = Source(20)
        return (100 * epoch + number for number in source)


def passes(e: Expression, *epochs: int) -> None:
    """Each `for` goes through everything from the start, and asks for the batches of its seed and epoch."""
    loader = e()
    manual_seed(2)
    loader.epoch = epochs[0]
    for epoch in epochs:
        equal(loader.epoch, epoch, "loader.epoch before a pass")
        close(np.array(list(loader)), 100 * epoch + np.arange(20), f"the batches of epoch {epoch}", tolerance=0.0)
    expected = [(loader.seed, epoch) for epoch in epochs]
    close(np.array(loader.places), expected, "(seed, epoch) of the batches asked for", tolerance=0.0)
    undisturbed(2)


def left_early(e: Expression) -> None:
    loader, counted = e(), []
    for _ in range(3):
        for _ in loader:
            counted.append(loader.epoch)
            break
    close(np.array(counted), [1, 2, 3], "loader.epoch within three passes, each left after its first batch")
    close(np.array(loader.places)[:, 1], [0, 1, 2], "the epochs whose batches were asked for", tolerance=0.0)


def two_at_once(e: Expression) -> None:
    loader = e()
    pairs = np.array(list(zip(loader, loader)))
    close(pairs, np.arange(20)[:, None] + [0, 100], "the batches of two passes at once", tolerance=0.0)


def unseeded(e: Expression, other: str) -> None:
    """Each epoch draws a seed from the package's generator, which manual_seed starts, and nothing else from it."""
    seeds, after = [], []
    for start, loader in ((1, e()), (1, eval(other, globals())), (2, e())):
        manual_seed(start)
        for _ in range(3):
            list(loader)
        seeds.append([seed for seed, _ in loader.places])
        after.append(generator().random())
        close(np.array([epoch for _, epoch in loader.places]), [0, 1, 2], "the epochs asked for", tolerance=0.0)
        holds(loader.seed is None, "loader.seed is None still", loader.seed)
    equal(len({*seeds[0], *seeds[2]}), 6, "different seeds in three epochs after manual_seed(1), three after (2)")
    equal(str(seeds[1]), str(seeds[0]), f"the seeds of three epochs of {other}, also after manual_seed(1)")
    close(after[1], after[0], "the package's next random number then", tolerance=0.0)


def made_by(e: Expression, background: int) -> None:
    loader = e()
    list(loader)
    own = sum(thread is threading.current_thread() for thread in loader.source.threads)
    close(
        np.array([own, len(loader.source.threads)]), [1 - background, 1], "threads: that which asks; all", tolerance=0
    )


def made_ahead(e: Expression, least: int) -> None:
    """As many batches wait as prefetch says, and one may be in the making; none without it."""
    loader = e()
    batches = iter(loader)
    next(batches)
    loader.source.has_made(least)
    pause()
    made, most = loader.source.made, least + (loader.prefetch > 0)
    holds(least <= made <= most, f"{least} to {most} batches made when one was taken", made)
    batches.close()


def waiting(check: Callable[..., None], text: str, *arguments: Any, **letters: Any) -> Case:
    """A case that fails if it waits for good."""
    return look.case(in_time(check), text, *arguments, **letters)


test_epochs = table(
    ("DataLoader.__iter__", "each pass goes through everything, and asks for the loader's seed and the next epoch",
        look.case(passes, "Noted(seed=5)", 0, 1, 2), look.case(passes, "Noted(seed=0)", 0, 1),
        look.case(passes, "Noted(seed=2**40 + 1, shuffle=True)", 7, 8), look.case(two_at_once, "Noted(seed=1)")),
    ("DataLoader.__iter__", "an epoch is counted when it begins",
        look.case(left_early, "Noted(seed=4)"), look.case(left_early, "Noted()")),
    ("DataLoader.__iter__", "without a seed, each epoch draws one from the package's generator",
        look.case(unseeded, "Noted()", "Noted()"), look.case(unseeded, "Noted()", "Noted(shuffle=True)")),
    ("DataLoader.__iter__", "with prefetch the batches come through `prefetched`, and are the same",
        waiting(passes, "Noted(seed=5, prefetch=2)", 3, 4), waiting(passes, "Noted(seed=0, prefetch=50)", 0, 1),
        waiting(left_early, "Noted(seed=4, prefetch=2)"), waiting(unseeded, "Noted()", "Noted(prefetch=2)")),
    ("DataLoader.__iter__", "who makes the batches: with prefetch a thread, so many ahead; else the one that asks, each",
        waiting(made_by, "Noted()", 0), waiting(made_by, "Noted(prefetch=1)", 1), waiting(made_by, "Noted(prefetch=3)", 1),
        look.case(made_ahead, "Noted()", 1), waiting(made_ahead, "Noted(prefetch=1)", 2),
        waiting(made_ahead, "Noted(prefetch=4)", 5)),
)  # fmt: skip


# Ahead of time


def comes(e: Expression, expected: Any) -> None:
    got = list(e(*e.letters.values()))
    if isinstance(expected, np.ndarray):
        return close(np.array(got), expected, "what comes out", tolerance=0.0)
    equal(str(got), str(expected), "what comes out")


def in_background(e: Expression) -> None:
    source = e.letters["source"]
    list(e(source))
    equal(len(source.threads), 1, "threads that ask the source")
    (thread,) = source.threads
    equal(thread is threading.current_thread(), False, "the source is asked by the thread of the loop")
    equal(thread.daemon, True, "the thread in the background is a daemon")


def ahead(e: Expression, depth: int) -> None:
    """While an item is used, `depth` more are made, and at most one beyond them."""
    source = e.letters["source"]
    items = e(source)
    for taken in (1, 2):
        next(items)
        holds(source.has_made(taken + depth), f"{depth} more made while an item is used", "fewer were made")
        pause()
        most = taken + depth + 1
        holds(source.made <= most, f"at most {most} made when {taken} were taken", f"{source.made} were made")
    items.close()


def stops(e: Expression) -> None:
    source, before = e.letters["source"], threading.enumerate()
    for _ in e(source):
        holds(source.made < 10, "few made when the first comes out", f"{source.made} were made")
        break
    left_running(before)
    holds(source.made < 10, "no more made after the loop was left", f"{source.made} were made")


def error_comes(e: Expression, number: int) -> None:
    before, got = threading.enumerate(), []
    raises(Damaged, lambda: got.extend(e(*e.letters.values())), e.given, ["sample 417 in cats is damaged"])
    close(np.array(got, int), np.arange(number), "what came before the error", tolerance=0.0)
    equal(left_running(before), 0, "threads left running")


def ends(e: Expression, last: int, wait_for: int, error: bool = False) -> None:
    """No thread is left after a loop that is left when item `last` has come, and the source has made `wait_for`."""
    before, source = threading.enumerate(), e.letters["source"]
    with suppress(ZeroDivisionError):
        for item in e(source):
            if item == last:
                source.has_made(wait_for)
                pause()
                1 / (1 - error)
                break
    how = "by an error" if error else "by break"
    equal(left_running(before), 0, f"threads left running, when the loop was left at item {last} {how}")


ITEMS = [None, False, (), 0, "end", None, "error", StopIteration, Exception()]

test_ahead_of_time = table(
    ("prefetched", "everything comes out, once and in order, whatever the depth",
        *(waiting(comes, f"prefetched(iter(range({count})), {depth})", np.arange(count))
          for count, depth in ((1, 1), (2, 5), (3, 2), (5, 1), (30, 1), (30, 5))),
        waiting(comes, "prefetched(iter(x), 2)", X, x=X), waiting(comes, "prefetched(iter([]), 2)", [])),
    ("prefetched", "everything comes out, whatever it is",
        waiting(comes, "prefetched(iter(items), 2)", ITEMS, items=tuple(ITEMS)),
        waiting(comes, "prefetched(iter((3, None, 5)), 1)", [3, None, 5]),
        waiting(comes, "prefetched(iter(((), 0, False)), 4)", [(), 0, False])),
    ("prefetched", "a thread in the background, a daemon, makes `depth` items ahead, and at most one more",
        waiting(in_background, "prefetched(source, 2)", source=Source(5)),
        waiting(ahead, "prefetched(source, 1)", 1, source=Source(50)),
        waiting(ahead, "prefetched(source, 3)", 3, source=Source(50)),
        waiting(stops, "prefetched(source, 3)", source=Source(50, slow=True)),
        waiting(stops, "prefetched(source, 20)", source=Source(50, slow=True))),
    ("prefetched", "an error in the background comes out as itself, after what was made before it",
        *(waiting(error_comes, f"prefetched(source, {depth})", fails, source=Source(9, fails))
          for fails, depth in ((0, 2), (1, 1), (3, 1), (3, 4), (5, 2)))),
    ("prefetched", "the thread ends when the loop is left, and with the last item",
        waiting(ends, "prefetched(source, 1)", 0, 2, source=Source(50)),
        waiting(ends, "prefetched(source, 3)", 2, 6, source=Source(50)),
        waiting(ends, "prefetched(source, 2)", 1, 4, True, source=Source(50)),
        waiting(ends, "prefetched(source, 2)", 4, 5, source=Source(5)),
        waiting(ends, "prefetched(source, 2)", 9, 5, source=Source(5))),
)  # fmt: skip


# Augmentation


def chance(e: Expression) -> None:
    """The rng decides, and nothing else."""
    transform, images = e(), bytes_of(20, 3, 4, 4)
    manual_seed(1)
    first = np.array(transform(images.copy(), rng(1)))
    manual_seed(2)
    close(transform(images.copy(), rng(1)), first, "the result, with an rng of the same seed", tolerance=0.0)
    other = transform(images.copy(), rng(2))
    holds((other != first).any(), "another result with an rng of another seed", "the same result")
    undisturbed(2)


def share(e: Expression, p: float) -> None:
    """Each image of a batch is mirrored by its own chance."""
    images = np.tile(np.arange(12, dtype=np.uint8).reshape(1, 2, 2, 3), (2000, 1, 1, 1))
    result = e()(images.copy(), rng(1))
    flipped, same = ((result == each).all(axis=(1, 2, 3)) for each in (images[..., ::-1], images))
    holds(flipped | same, "each of 2000 images as it was, or mirrored", result[~(flipped | same)][:1])
    number = int(flipped.sum())  # standard deviation at most 22.4
    ratio(number / 2000, "images mirrored", "all 2000", p + 0.06, p - 0.06, seen=number)
    changes, expected = int((flipped[1:] != flipped[:-1]).sum()), 2 * p * (1 - p) * 1999
    what = f"a mirrored one follows one that is not, or the other way around, about {expected:.0f} times"
    holds(abs(changes - expected) < 150, what, changes)


def crops(e: Expression, height: int, width: int, count: int, dtype: Any = np.int64) -> None:
    """Every place is as likely as any other, and the pixels are those of that place, in all channels.

    Image i has the same pixels as image 0, plus 1000 i, so that none is taken for another's.
    """
    crop, plus = e(), 1000 * np.arange(count).reshape(count, 1, 1, 1)
    size, padding = crop.size, crop.padding
    image = (1 + np.arange(2 * height * width)).reshape(2, height, width)
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    places = [(i, j) for i in range(padded.shape[1] - size + 1) for j in range(padded.shape[2] - size + 1)]
    squares = np.array([padded[:, i : i + size, j : j + size] for i, j in places])
    result = crop((image + plus).astype(dtype), rng(4))
    given = f"the squares of {count} images (2, {height}, {width})"
    equal(result.shape, (count, 2, size, size), f"the shape of {given}")
    equal(str(result.dtype), np.dtype(dtype).name, f"the dtype of {given}")
    matches = (np.where(result > 0, result - plus, 0)[:, None] == squares).all(axis=(2, 3, 4))
    holds(matches.any(axis=1), f"parts of their own padded images: {given}", result[~matches.any(axis=1)][:1])
    found, expected = matches.sum(axis=0), count / len(places)
    usual = np.abs(found - expected) <= 6 * np.sqrt(expected)
    holds(usual, f"each of {len(places)} places about {expected:.0f} times in {given}", found)


class Step:
    """A transform of the gate's own, as x * 2; notes the rngs that such transforms get."""

    rngs: list[Any] = []

    def __init__(self, text: str) -> None:
        self.text = text

    def __call__(self, images: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        Step.rngs.append(rng)
        return eval(self.text, {"x": images})


def passed_on(e: Expression, expected: str) -> None:
    """The transforms come one after the other, also in a second call, and all get the rng."""
    images, draws, compose = bytes_of(2, 1, 2, 2), rng(), e()
    compose(images, draws)
    Step.rngs.clear()
    close(compose(images, draws), eval(expected, {"x": images}), "the result of a second call", tolerance=1e-12)
    equal(len(Step.rngs), len(compose.transforms), "transforms called")
    holds(all(each is draws for each in Step.rngs), "the given rng for all of them", "another rng")


FLIPPED = (
    bytes_of(2, 3, 2, 5), numbers(1, 1, 3, 3), floats(numbers(4, 2, 3, 2)), bytes_of(0, 3, 4, 4),
    bytes_of(2, 3, 8, 8)[:, ::-1, ::2, 1:6],
)  # fmt: skip

test_augmentation = table(
    ("RandomHorizontalFlip.__call__", "with p=1 left and right change places, in each row and channel",
        *(array("RandomHorizontalFlip(1.0)(x, rng())", "x[..., ::-1]", dtype=x.dtype, x=x) for x in FLIPPED)),
    ("RandomHorizontalFlip.__call__", "with p=0 the images come as they are",
        *(array("RandomHorizontalFlip(0.0)(x, rng())", "x.copy()", dtype=x.dtype, x=x) for x in FLIPPED)),
    ("RandomHorizontalFlip.__call__", "each image of a batch is mirrored with probability p, by its own chance",
        look.case(share, "RandomHorizontalFlip(0.2)", 0.2),
        look.case(share, "RandomHorizontalFlip()", 0.5),
        look.case(share, "RandomHorizontalFlip(0.9)", 0.9)),
    ("RandomHorizontalFlip.__call__", "the rng alone decides",
        look.case(chance, "RandomHorizontalFlip()"),
        look.case(chance, "RandomHorizontalFlip(0.3)")),
    ("RandomHorizontalFlip.__call__", "the images stay as they are, and the result has memory of its own",
        look.case(keeps_apart, "RandomHorizontalFlip(1.0)(x, rng())", x=bytes_of(2, 1, 2, 3)),
        look.case(keeps_apart, "RandomHorizontalFlip(0.0)(x, rng())", x=bytes_of(2, 1, 2, 3)),
        look.case(keeps_apart, "RandomHorizontalFlip(0.5)(x, rng())", x=bytes_of(20, 1, 2, 3))),
    ("RandomHorizontalFlip.__call__", "what has not four axes is refused, and the message names its shape",
        look.raises("RandomHorizontalFlip()(bytes_of(3, 8, 5), rng())", ValueError, "(3, 8, 5)"),
        look.raises("RandomHorizontalFlip()(bytes_of(2, 3, 1, 8, 5), rng())", ValueError, "(2, 3, 1, 8, 5)")),
    ("RandomCrop.__call__", "a square of each image, surrounded by zeros, at any place where it fits",
        look.case(crops, "RandomCrop(3, padding=1)", 4, 6, 1200),
        look.case(crops, "RandomCrop(4)", 5, 4, 200),
        look.case(crops, "RandomCrop(4)", 4, 5, 200),
        look.case(crops, "RandomCrop(3, padding=2)", 3, 3, 1200, np.float32),
        look.case(crops, "RandomCrop(5, padding=2)", 2, 3, 200, np.float64),
        look.case(crops, "RandomCrop(1)", 3, 3, 400)),
    ("RandomCrop.__call__", "where the square fits just once, it is cut there",
        array("RandomCrop(4)(x, rng())", "x.copy()", dtype=np.uint8, x=bytes_of(3, 2, 4, 4)),
        array("RandomCrop(6, 1)(x, rng())", "np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))", x=bytes_of(3, 2, 4, 4)),
        array("RandomCrop(2)(x, rng())", "x.copy()", dtype=np.float64, x=numbers(1, 1, 2, 2))),
    ("RandomCrop.__call__", "the rng alone decides",
        look.case(chance, "RandomCrop(4, padding=2)"),
        look.case(chance, "RandomCrop(2)")),
    ("RandomCrop.__call__", "the images stay as they are, and the result has memory of its own",
        look.case(keeps_apart, "RandomCrop(3)(x, rng())", x=bytes_of(2, 1, 3, 3)),
        look.case(keeps_apart, "RandomCrop(2)(x, rng())", x=bytes_of(2, 1, 3, 3)),
        look.case(keeps_apart, "RandomCrop(3, padding=1)(x, rng())", x=bytes_of(2, 1, 3, 3))),
    ("RandomCrop.__call__", "a square larger than the padded image is refused by size and shape",
        look.raises("RandomCrop(7, 1)(bytes_of(2, 3, 4, 9), rng())", ValueError, 7, "(2, 3, 4, 9)"),
        look.raises("RandomCrop(7, 1)(bytes_of(2, 3, 9, 4), rng())", ValueError, 7, "(2, 3, 9, 4)"),
        look.raises("RandomCrop(9)(bytes_of(2, 3, 8, 8), rng())", ValueError, 9, "(2, 3, 8, 8)")),
    ("RandomCrop.__call__", "what has not four axes is refused, and the message names its shape",
        look.raises("RandomCrop(2)(bytes_of(3, 8, 5), rng())", ValueError, "(3, 8, 5)")),
    ("Compose.__call__", "the transforms come one after the other, the first one first, all with the same rng",
        look.case(passed_on, "Compose([Step('x[..., :1]'), Step('x * 2.0 + 1')])", "x[..., :1] * 2.0 + 1"),
        look.case(passed_on, "Compose([Step('x * 2.0'), Step('x + 1.0'), Step('x * x')])", "(x * 2.0 + 1) ** 2"),
        look.case(passed_on, "Compose([Step('x / 2')])", "x / 2"),
        look.case(passed_on, "Compose([])", "x")),
)  # fmt: skip


# Files


class File:
    """A file with this content, in a folder that is gone when the case is over."""

    def __init__(self, given: str, *contents: bytes) -> None:
        self.given, self.contents = given, contents

    def __enter__(self) -> list[Path]:
        count.given = self.given
        self.folder = TemporaryDirectory(ignore_cleanup_errors=True)
        return [written(Path(self.folder.name), f"data-{i}.bin", content) for i, content in enumerate(self.contents)]

    def __exit__(self, *error: object) -> None:
        self.folder.cleanup()


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def records(images: np.ndarray, labels: Sequence[int]) -> bytes:
    """A file of CIFAR-10's binary version, row by row."""
    rows = (bytes(row) for image in images for channel in image for row in channel)
    return b"".join(bytes([label, *b"".join(itertools.islice(rows, 96))]) for label in labels)


@a_case
def idx_of(*shape: int, path: Callable[[Path], Any] = Path) -> None:
    values = bytes_of(*shape)
    with File(f"an IDX file of shape {shape}, {path.__name__} of its path", idx(values)) as (name,):
        close(read_idx(path(name)), values, "read_idx(path)", tolerance=0.0, dtype=np.uint8)


@a_case
def idx_refused(given: str, content: bytes) -> None:
    with File(given, content) as (path,):
        raises(ValueError, lambda: read_idx(path), given, [path.name])


@a_case
def idx_kept(size: int) -> None:
    content = idx(bytes_of(size, 28, 28))
    with File(f"an IDX file of {size} images, {len(content)} bytes", content) as (path,):
        ratio(allocated(lambda: read_idx(path))[1] / len(content), "bytes kept", "those of the file", at_most=1.1)


def idx_long() -> None:
    with File("a header of shape (16777217, 0), and no elements", b"\0\0\x08\x02\x01\0\0\x01\0\0\0\0") as (path,):
        equal(read_idx(path).shape, (16_777_217, 0), "read_idx(path).shape")


def mnist() -> None:
    """The real test images. Expected values counted in the official files by od: sha256 0fa7898d… and ff7bcfd4…"""
    names = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
    packed = [(ROOT / "datasets" / "mnist" / f"{name}.gz").read_bytes() for name in names]
    with File("MNIST's test images and labels", *map(gzip.decompress, packed)) as paths:
        images, labels = map(read_idx, paths)
        equal(images.shape, (10000, 28, 28), "the images' shape")
        close(labels[:10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], "the first labels", tolerance=0.0, dtype=np.uint8)
        digits = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
        close(np.bincount(labels), digits, "images of each digit", tolerance=0.0)
        close(images[0, 7, 5:17], [0, 84, 185, 159, 151, 60, 36, 0, 0, 0, 0, 0], "row 7 of the first image")


@a_case
def cifar_of(*counts: int, path: Callable[[Path], Any] = Path) -> None:
    """Images and labels of files with so many records."""
    images, labels = bytes_of(sum(counts), 3, 32, 32), [9, 0, 4, 7, 200, 1, 8, 2, 3][: sum(counts)]
    ends = [0, *itertools.accumulate(counts)]
    contents = [records(images[i:j], labels[i:j]) for i, j in itertools.pairwise(ends)]
    with File(f"files of {counts} records, {path.__name__} of their paths", *contents) as paths:
        got_images, got_labels = read_cifar([path(each) for each in paths])
        close(got_labels, labels, "the labels", tolerance=0.0, dtype=np.int64)
        close(got_images, images, "the images", tolerance=0.0, dtype=np.uint8)


@a_case
def cifar_refused(*sizes: int) -> None:
    """The file of the last of these sizes is refused, those before are good."""
    with File(f"files of {sizes} bytes", *(bytes_of(size).tobytes() for size in sizes)) as paths:
        raises(ValueError, lambda: read_cifar(paths), count.given, [paths[-1].name, sizes[-1]])


def cifar_memory() -> None:
    size = 100 * 3073
    with File(f"three files of 100 records, {3 * size} bytes", *[bytes_of(size).tobytes()] * 3) as paths:
        peak, kept = (number / 3 / size for number in allocated(lambda: read_cifar(paths)))
        ratio(kept, "bytes kept", "those of the files", at_most=1.1)
        ratio(peak, "bytes in memory on the way", "those of the files", at_most=3.2)


GOOD = idx(bytes_of(10, 3))

test_files = table(
    ("read_idx", "shape and elements are those of the file, as bytes",
        idx_of(5), idx_of(2, 3), idx_of(300, 2, 3), idx_of(2, 1, 3, 2), idx_of(2, 66000), idx_of(4, 3, path=str),
        idx_of(0, 28, 28), idx_long),
    ("read_idx", "a file with more or fewer elements than its shape says is refused by name",
        idx_refused("the last byte is missing", GOOD[:-1]),
        idx_refused("the last 20 bytes are missing", GOOD[:-20]),
        idx_refused("a byte too many", GOOD + b"\5"),
        idx_refused("30 bytes too many", GOOD + GOOD[-30:]),
        idx_refused("2 elements where 16,777,218 are announced", b"\0\0\x08\x01\x01\0\0\2xy")),
    ("read_idx", "a file that ends within its header is refused by name",
        idx_refused("an empty file", b""),
        idx_refused("three bytes", b"\0\0\x08"),
        idx_refused("one axis, and no length", b"\0\0\x08\x01"),
        idx_refused("one axis, and two bytes of its length", b"\0\0\x08\x01\0\0"),
        idx_refused("two axes, and a byte of the second length is missing", b"\0\0\x08\x02\0\0\0\0\0\0\0"),
        idx_refused("no axis, and one element", b"\0\0\x08\0x")),
    ("read_idx", "a file that does not begin with 0, 0, 8 is refused by name",
        idx_refused("5 for the first byte", b"\5" + GOOD[1:]),
        idx_refused("5 for the second byte", b"\0\5" + GOOD[2:]),
        idx_refused("9 for signed bytes", idx(bytes_of(10, 3), 9)),
        idx_refused("type 0, which is none", idx(bytes_of(10, 3), 0)),
        idx_refused("13 for floats of 4 bytes", idx(bytes_of(10, 3, 4), 13)),
        idx_refused("ABC instead of 0, 0, 8", b"ABC" + GOOD[3:]),
        idx_refused("the bytes ABCDx", b"ABCDx"),
        idx_refused("a file that is still packed", gzip.compress(GOOD))),
    ("read_idx", "what is read stays bytes", idx_kept(50), idx_kept(150)),
    ("read_idx", "MNIST's images and labels are read by it", mnist),
    ("read_cifar", "images by channel, row and column, with their labels, file after file",
        cifar_of(1), cifar_of(6), cifar_of(2, 6, 1), cifar_of(1, 1, 1, 1, path=str)),
    ("read_cifar", "a file that is no whole number of records is refused by name and size",
        *(cifar_refused(2 * 3073, size) for size in (2 * 3073 - 1, 3073 + 1, 3072, 0)),
        cifar_refused(5), cifar_refused(3074), cifar_refused(0), cifar_refused(2 * 3073, 3073, 3000)),
    ("read_cifar", "what is read stays bytes, with at most three times as many on the way", cifar_memory),
)  # fmt: skip


# Bytes become numbers


def transformed(e: Expression) -> None:
    """The transform gets the batch's bytes and the rng, once, and what it gives is normalised."""
    calls, draws, data = [], rng(), e()

    def transform(images: np.ndarray, rng: Any) -> np.ndarray:
        calls.append((str(images.dtype), images.shape, rng is draws))
        return 255 - images[:, :, :2]

    data.transform = transform
    expected = floats((255 - data.images[[5, 2]][:, :, :2]) / 255 - 0.5), data.labels[[5, 2]]
    same_batch(data.batch(np.array([5, 2]), draws), expected)
    equal(str(calls), str([("uint8", (2, 1, 3, 3), True)]), "the transform's calls: dtype, shape, the given rng")


def blacken(images: np.ndarray, rng: Any) -> np.ndarray:
    images[...] = 0
    return images


def together(e: Expression, prefetch: int) -> None:
    """Shuffled by a loader every image still has its own label, which is all its pixels."""
    for inputs, targets in DataLoader(e(), 7, shuffle=True, seed=1, prefetch=prefetch):
        expected = np.broadcast_to(targets.data[:, None, None, None] / 255, inputs.shape)
        close(inputs, expected, f"the images in a batch of labels {targets.data[:3]} …, prefetch={prefetch}")


def by_channel(values: Any) -> np.ndarray:
    return np.reshape(values, (-1, 1, 1))


NORMAL = "normalise(x, mean, std)", "(x / 255 - by_channel(mean)) / by_channel(std)", 1e-5, np.float32
MEANS, STDS = (0.2, 0.5, 0.9), [0.1, 0.2, 0.4]
IMAGES, LABELS = bytes_of(6, 3, 4, 5), np.array([3, 1, 4, 1, 5, 9], np.uint8)
PICKED = ("ImageDataset(x, y).batch(i, rng())", "ImageDataset(x, y, None, mean, std).batch(i, rng())")
LABELLED = rng().permutation(60)
DIGITS = np.broadcast_to(LABELLED.astype(np.uint8)[:, None, None, None], (60, 2, 3, 3))
FIVE = "ImageDataset(bytes_of(5, 1, 2, 2), np.arange(5))"

test_numbers = table(
    ("normalise", "by default every byte from 0 to 255 becomes a float32 from 0 to 1",
        array("normalise(x)", "x / 255", 1e-6, np.float32, x=np.arange(256, dtype=np.uint8).reshape(2, 1, 16, 8)),
        array("normalise(x)", "x / 255", 1e-6, np.float32, x=bytes_of(2, 3, 4, 5))),
    ("normalise", "mean and std count from 0 to 1, one for all channels or one for each",
        *(array(*NORMAL, x=bytes_of(*shape), mean=mean, std=std)
          for shape in ((2, 3, 4, 5), (2, 3, 3, 3), (1, 3, 1, 3))
          for mean, std in ((0.5, 0.25), (MEANS, tuple(STDS)), (0.3, STDS), (np.array(MEANS), 0.5))),
        array(*NORMAL, x=bytes_of(3, 1, 3, 3), mean=0.5, std=(0.25,)),
        array("normalise(x, mean=0.25)", "x / 255 - 0.25", 1e-6, np.float32, x=bytes_of(2, 1, 2, 2)),
        array("normalise(x, std=0.25)", "x / 255 / 0.25", 1e-6, np.float32, x=bytes_of(2, 1, 2, 2))),
    ("normalise", "images that do not lie in one piece of memory are taken too, and all stay as they are",
        array(*NORMAL, x=bytes_of(4, 3, 8, 8)[::2, :, ::-1, 1:5], mean=0.5, std=0.5),
        look.case(keeps_apart, "normalise(x, 0.5, 0.25)", x=bytes_of(2, 3, 2, 2))),
    ("ImageDataset.batch", "the images that were asked for, normalised, and their labels",
        *(batch(PICKED[0], floats(IMAGES[i] / 255), LABELS[i].astype(np.int64), x=IMAGES, y=LABELS, i=i)
          for i in ([4, 0, 5], [2], [1, 1, 3], [0, 1, 2])),
        *(batch(PICKED[1], floats((IMAGES[i] / 255 - by_channel(MEANS)) / by_channel(STDS)), LABELS[i].astype(np.int64),
                x=IMAGES, y=LABELS, i=i, mean=MEANS, std=STDS) for i in ([4, 0, 5], [3]))),
    ("ImageDataset.batch", "the transform gets the batch's bytes and the rng, once, and its result is normalised",
        look.case(transformed, "ImageDataset(bytes_of(6, 1, 3, 3), np.arange(6), mean=0.5)")),
    ("ImageDataset.batch", "a transform that writes into its batch does not write into the dataset",
        *(look.case(keeps_apart, f"ImageDataset(x, np.arange(5), blacken).batch(np.array({i}), rng())",
                    x=bytes_of(5, 1, 2, 2)) for i in ([3, 1], [0, 1, 2, 3, 4], [2]))),
    ("ImageDataset.batch", "a batch is picked by one index, and not image by image",
        look.case(picks, "ImageDataset(bytes_of(600, 1, 2, 2).view(Counting), np.arange(600))", 20)),
    ("ImageDataset.batch", "an index that there is not is an IndexError that names it",
        look.raises(f"{FIVE}.batch(np.array([0, 7]), rng())", IndexError, 7)),
    ("ImageDataset.batch", "shuffled by a loader, and made ahead, every image still has its own label",
        look.case(together, "ImageDataset(DIGITS, LABELLED)", 0),
        waiting(together, "ImageDataset(DIGITS, LABELLED)", 2)),
)  # fmt: skip


# Systems


def pages_touched(indices: Iterable[int], sample_bytes: int, start: int = 0, page: int = 4096) -> int:
    """Counted byte by byte."""
    begins = [start + int(index) * sample_bytes for index in indices]
    return len({at // page for begin in begins for at in range(begin, begin + sample_bytes)})


def pages(indices: Any, *layout: int) -> Case:
    return look.case(
        lambda e: equal(e(indices), pages_touched(indices, *layout), e.text),
        f"mapped_pages(samples, {', '.join(map(str, layout))})",
        samples=indices,
    )


MEGABYTE = 10**6


def megabytes(number: int) -> np.ndarray:
    return np.zeros(number * MEGABYTE, np.uint8)


def peak(e: Expression, least: float, most: float) -> None:
    ratio(e() / MEGABYTE, "bytes at the highest point", "a million", most, least)


def peak_later(e: Expression, least: float, most: float) -> None:
    """While it is traced already: 5 MB are in use, and then no more."""
    with traced():
        kept = [megabytes(5)]
        peak(e, least, most)
        del kept
        peak(e, least, most)


def stops_tracing(e: Expression) -> None:
    for before in (False, True):
        after = traces_after(e, before)
        equal(after, before, f"tracemalloc runs afterwards, as it did{'' if before else ' not'} before")


def peak_of_damaged() -> None:
    raises(Damaged, lambda: epoch_peak(Source(3, fails=1)), "epoch_peak of batches that fail")


class Clock:
    """A clock, and batches and steps that move it on by so many seconds, `begin` for `iter`, `end` for the last `next`.

    Attributes:
        turns: what happened: i + 1 for batch i made, -(i + 1) for its step.
    """

    def __init__(self, loads: Sequence[float], steps: Sequence[float], end: float, begin: float) -> None:
        self.loads, self.steps, self.end, self.begin = loads, steps, end, begin
        self.now, self.asked, self.turns = 100.0, 0, []

    def __call__(self) -> float:
        self.asked += 1
        return self.now

    def __iter__(self) -> Iterator[int]:
        self.now += self.begin
        return self.batches()

    def batches(self) -> Iterator[int]:
        for number, load in enumerate(self.loads):
            self.now += load
            self.turns.append(number + 1)
            yield number
        self.now += self.end

    def step(self, batch: int) -> None:
        self.turns.append(-1 - batch)
        self.now += self.steps[batch]


@a_case
def waited(loads: Sequence[float], steps: Sequence[float], end: float = 0, begin: float = 0) -> None:
    count.given = f"batches that take {loads} s, iter() {begin} s, the end {end} s; steps of {steps} s"
    clock, waiting = Clock(loads, steps, end, begin), sum(loads) + end + begin
    share = waiting_share(clock, clock.step, clock)
    turns = [turn for i in range(len(loads)) for turn in (i + 1, -1 - i)]
    close(np.array(clock.turns, int), turns, "what happened: i for batch i made, -i for its step, from 1 on")
    close(share, waiting / (waiting + sum(steps)) if waiting else 0.0, "the share", tolerance=1e-9)
    holds(clock.asked > 1, "the given clock asked for the time", "it was not asked")


@a_case
def real_clock(load: float, step: float, least: float, most: float) -> None:
    wait = threading.Event().wait
    share = waiting_share((wait(load) for _ in range(2)), lambda batch: wait(step))
    holds(least <= share <= most, f"a share from {least} to {most}", share, f"by the real clock, {load} s, {step} s")


def simulated(load: Sequence[float], step: Sequence[float], prefetch: int) -> float:
    """The earliest times that keep all rules of the docstring, found by moving on whatever comes too early."""
    number = len(load)
    queued, taken = [0.0] * number, [0.0] * number
    while True:
        before = queued + taken
        for i in range(number):
            queued[i] = max(
                queued[i], (queued[i - 1] if i else 0) + load[i], taken[i - prefetch] if i >= prefetch else 0
            )
            taken[i] = max(taken[i], queued[i], taken[i - 1] + step[i - 1] if i else 0)
        if queued + taken == before:
            return taken[-1] + step[-1]


def seconds(load: Sequence[float], step: Sequence[float], *prefetches: int) -> list[Case]:
    """A case for each: as long as a simulation takes."""
    return [
        array(f"epoch_seconds({load}, {step}, {prefetch})", simulated(load, step, prefetch), 1e-9)
        for prefetch in prefetches
    ]


def versions(height: int, width: int, size: int, padding: int, flip: bool) -> Case:
    """A case: as many as there are different ones among all crops and their mirror images."""
    padded = np.pad(1 + np.arange(height * width).reshape(height, width), padding)
    squares = np.lib.stride_tricks.sliding_window_view(padded, (size, size)).reshape(-1, size, size)
    different = {square.tobytes() for square in (*squares, *squares[..., ::-1][: len(squares) * flip])}
    return look.equals(f"version_count({height}, {width}, {size}, {padding}, {flip})", len(different))


LAYOUTS = (40, 24, 64), (5, 3, 16), (16, 0, 16), (16, 8, 16), (1, 0, 8), (40, 7, 16), (33, 0, 16), (784, 16, 4096)
SCATTERED = [33, 10, 4, 11, 16, 32, 18, 3, 13, 24, 32, 29]
IMAGE_SIZES = (6, 5, 4, 2), (4, 4, 4, 1), (3, 5, 3, 2), (6, 4, 4, 0), (2, 2, 3, 1), (5, 3, 2, 1), (4, 4, 4, 0)
SLOWER_LATER = [2, 2, 2, 2, 2, 2, 2, 10, 9, 9, 7, 11, 5, 9, 10], [10, 8, 7, 7, 7, 8, 10, 8, 1, 8, 5, 3, 6, 5, 3]
RANDOM_TIMES = rng(1).integers(1, 9, (2, 12)).tolist()

test_systems = table(
    ("mapped_pages", "as many pages as reading the samples byte by byte touches",
        *(pages(SCATTERED, *layout) for layout in LAYOUTS)),
    ("mapped_pages", "a page counts once, whatever the order of the samples",
        *(pages(indices, *layout)
          for layout in LAYOUTS[:4] for indices in ([0], [3, 1, 3], [2, 1, 0], list(range(20)), [])),
        pages(rng(2).permutation(60000)[:128], 784, 16)),
    ("epoch_peak", "the largest batches that were there at once",
        look.case(peak, "epoch_peak(megabytes(1) for _ in range(8))", 1.0, 2.2),
        look.case(peak, "epoch_peak(megabytes(n) for n in (1, 3, 1, 1))", 3.0, 4.2),
        look.case(peak, "epoch_peak(megabytes(2) for _ in range(1))", 2.0, 2.2),
        look.case(peak, "epoch_peak([])", 0.0, 0.1),
        look.case(peak, "epoch_peak(megabytes(4)[:MEGABYTE].copy() for _ in range(3))", 5.0, 6.2)),
    ("epoch_peak", "what was allocated before counts for nothing",
        look.case(peak_later, "epoch_peak(megabytes(1) for _ in range(3))", 1.0, 2.2),
        look.case(peak, "epoch_peak(megabytes(3) for _ in range(2))", 3.0, 6.2)),
    ("epoch_peak", "tracemalloc runs afterwards if it did before, also after an error",
        look.case(stops_tracing, "epoch_peak([3, 4])"),
        look.case(stops_tracing, "peak_of_damaged()")),
    ("waiting_share", "what the clock shows between asking for a batch and having it, over all",
        waited((3, 1, 0, 2), (1, 2, 4, 3)),
        waited((1, 1), (1, 1)),
        waited((0, 0, 0), (5, 5, 5)),
        waited((4,), (0.5,))),
    ("waiting_share", "making the iterator and the last question count too",
        waited((2,), (6,), 2),
        waited((1, 1), (2, 2), 0, 4),
        waited((5, 1, 1), (1, 9, 1), 3, 1),
        waited((), (), 3)),
    ("waiting_share", "0 if no time passes", waited((), ()), waited((0, 0), (0, 0))),
    ("waiting_share", "without a clock of one's own, real seconds are counted",
        real_clock(0.02, 0.0, 0.5, 1.0), real_clock(0.0, 0.02, 0.0, 0.5)),
    ("epoch_seconds", "without prefetch, making and stepping take turns",
        array("epoch_seconds([3, 3, 3], [1, 1, 1], 0)", 12.0),
        array("epoch_seconds([0.25, 0.5], [0.125, 2.5], 0)", 3.375)),
    ("epoch_seconds", "with prefetch, as long as a simulated worker, queue and consumer take",
        *seconds([1, 1, 1], [2, 2, 2], 1, 2), *seconds([3, 3, 3], [1, 1, 1], 1, 2), *seconds([2], [5], 1, 4),
        *seconds([9, 1, 1, 1], [3] * 4, 1, 2, 3), *seconds([1, 1, 9, 1], [4] * 4, 1, 2, 3),
        *seconds([0.25, 0.5], [0.125, 2.5], 1)),
    ("epoch_seconds", "a full queue holds the worker back",
        *seconds(*SLOWER_LATER, 1, 2, 3, 4, 20), *seconds(*RANDOM_TIMES, 1, 2, 3),
        *seconds([1] * 6, [8, 1, 1, 1, 1, 8], 1, 2, 4), *seconds([1, 1, 1, 6, 6, 6], [5, 5, 5, 1, 1, 1], 1, 2, 4)),
    ("version_count", "as many as there are different ones among all crops and their mirror images",
        *(versions(*sizes, True) for sizes in IMAGE_SIZES)),
    ("version_count", "without mirroring, as many as there are different crops",
        *(versions(*sizes, False) for sizes in IMAGE_SIZES)),
)  # fmt: skip
