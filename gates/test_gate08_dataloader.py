"""Gate 08: the DataLoader."""

import functools
import gzip
import itertools
import threading
from collections import ChainMap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tinytorch import DataLoader, Dataset, Tensor, manual_seed
from tinytorch.core import tensor
from tinytorch.core.rng import generator
from tinytorch.data import datasets, transforms
from tinytorch.data import loader as loaders
from tinytorch.data.datasets import read_cifar, read_idx
from tinytorch.systems import loader as systems
from workshop import ROOT
from workshop.checks import close, count, equal, holds, plain, raises, ratio
from workshop.probes import Counting, Source, allocated, in_time, left_running, numbers, pause, traced, traces_after
from workshop.tables import Case, Cases, Expression, table

look = Cases(ChainMap(globals(), *map(vars, (loaders, transforms, datasets, systems, tensor))))
exactly = functools.partial(close, tolerance=0.0)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def bytes_of(*shape: int) -> np.ndarray:
    return rng().integers(0, 256, shape, dtype=np.uint8)


def floats(values: Any) -> np.ndarray:
    return np.array(values, np.float32)


def each(check: Callable[..., None], *cases: Sequence[Any]) -> list[Case]:
    """A case of `check` for each: an expression and what else it takes."""
    return [look.case(check, *case) for case in cases]


def a_case(check: Callable[..., None]) -> Callable[..., Case]:
    """The function that makes cases of `check`: `check(*arguments)` is one, and runs when its turn comes."""
    return functools.partial(functools.partial, check)


def refused(kind: type[Exception], *cases: Sequence[Any]) -> list[Case]:
    """A case for each: an expression, and what the error's message mentions."""
    return [look.raises(text, kind, *mentions) for text, *mentions in cases]


def array(text: str, expected: Any, tolerance: float = 0.0, dtype: Any = None, **letters: Any) -> Case:
    """A case: these numbers, made of letters that stay arrays. If `expected` is a text, NumPy makes them so."""

    def check(e: Expression) -> None:
        right = eval(expected, {**e.names, **e.letters}) if isinstance(expected, str) else expected
        close(e(*e.letters.values()), right, e.text, e.given, tolerance, dtype)

    return look.case(check, text, **letters)


def batch(text: str, *expected: Any, **letters: Any) -> Case:
    """A case: a tuple with just these values, shapes and dtypes."""
    return look.case(lambda e: same_batch(e(*e.letters.values()), expected), text, **letters)


def same_batch(got: Any, expected: Sequence[Any]) -> None:
    holds(isinstance(got, tuple) and len(got) == len(expected), f"a tuple of {len(expected)}", got)
    for number, (field, values) in enumerate(zip(got, map(np.asarray, expected))):
        close(field, values, f"field {number}", tolerance=1e-6, dtype=values.dtype)


def keeps_apart(e: Expression) -> None:
    """x stays as it is, and the result, or its first field, does not change with it."""
    (source,) = e.arrays()
    kept, got = source.copy(), e(source)
    got = plain(got[0] if isinstance(got, tuple) else got)
    first = np.array(got)
    exactly(source, kept, "x, afterwards")
    source[...] = 7
    exactly(got, first, "the result, after x was filled with 7")


def apart(*texts: str, **letters: np.ndarray) -> list[Case]:
    return [look.case(keeps_apart, text, x=letters["x"].copy()) for text in texts]


def undisturbed(seed: int) -> None:
    """Nothing was drawn from the package's generator since manual_seed(seed)."""
    exactly(generator().random(), rng(seed).random(), f"the package's next random number, after manual_seed({seed})")


# Samples become a batch


def picks(e: Expression, most: int) -> None:
    data = e()
    for each in getattr(data, "tensors", ()):
        each.data = each.data.view(Counting)
    Counting.picked = 0
    data.batch(rng().permutation(600)[:300], rng())
    holds(Counting.picked <= most, "a batch of 300 picked by one index with the whole array", Counting.picked)


X, Y, Z = numbers(6, 2, 3), np.arange(6) * 10, np.arange(6, dtype=np.float32)
SAMPLES = "[(x[0], Tensor([1.0, 2.0]), 7), (x[1], Tensor([3.0, 4.0]), 6), (x[2], Tensor([5.0, 6.0]), 5)]"
PLACES = "[2, 0]", "[0, 1, 2]", "[0, 1, 2, 3, 4]", "[3]"

test_batches_of_samples = table(
    ("collate", "the samples' fields are stacked along a new first axis, each for itself",
        batch(f"collate({SAMPLES})", X[:3], floats([[1, 2], [3, 4], [5, 6]]), [7, 6, 5], x=X),
        batch("collate([(Tensor([5.0, 6.0]), Tensor(3))])", floats([[5, 6]]), [3]),
        batch("collate([([1.0, 2.0], 3), ([4.0, 5.0], 6)])", floats([[1, 2], [4, 5]]), [3, 6]),
        batch("collate([[3.5], [4.5], [6.5]])", floats([3.5, 4.5, 6.5])),
        batch("collate(((3, 4, 5), (6, 7, 8)))", [3, 6], [4, 7], [5, 8])),
    ("collate", "a field has the dtype that as_array gives a list of its values",
        batch("collate([(x[0],), (x[1],)])", X[:2], x=X), batch("collate([(Tensor(x[0]),)])", X[:1], x=X),
        batch("collate([[np.uint8(200)], [np.uint8(100)]])", np.array([200, 100], np.uint8)),
        batch("collate([(0.5,), (2,)])", floats([0.5, 2])), batch("collate([(2**53 + 1,), (3,)])", [2**53 + 1, 3]),
        batch("collate([(True,), (False,)])", [True, False])),
    ("collate", "a batch is a tuple of Tensors",
        look.equals("{type(field) for field in collate([(1, 2.0), (3, 4.0)])}", {Tensor}),
        look.equals("{type(field) for field in collate([(np.arange(3), Tensor([4.0]))])}", {Tensor})),
    ("collate", "a batch has memory of its own",
        *apart("collate([(x,), (x,)])", "collate([(x,)])", "collate([[x]])", x=bytes_of(2, 3))),
    ("collate", "samples that are no tuples or lists are refused, and the message names their type",
        *refused(TypeError, ("collate([np.arange(3.0), np.arange(3.0)])", "ndarray"),
                 ("collate([(2.0, 1), 5.0])", "float"), ("collate([Tensor([2.0, 3.0])])", "Tensor"),
                 ("collate(['ab', 'cd'])", "str"))),
    ("collate", "samples that do not fit together are refused, and the message names both lengths or shapes",
        *refused(ValueError, ("collate([(2, 3), (4, 5, 6)])", 2, 3), ("collate([(2, 3, 4), (5, 6, 7), (8, 9)])", 3, 2),
                 ("collate([(np.ones(3), 5), (np.ones((3, 1)), 6)])", "(3,)", "(3, 1)"),
                 ("collate([(5, Tensor([2.0])), (6, Tensor([2.0])), (7, Tensor(2.0))])", "(1,)", "()"))),
    ("TensorDataset.batch", "each tensor gives the rows that were asked for, in that order, also twice the same",
        *(batch("TensorDataset(x, y, z).batch(i, rng())", X[i], Y[i], Z[i], x=X, y=Y, z=Z, i=i)
          for i in ([4, 0, 5], [2], [1, 1, 3, 1], [0, 1, 2, 3, 4, 5])),
        batch("TensorDataset(x).batch(i, rng())", X[[5, 3]], x=X, i=[5, 3]),
        batch("TensorDataset(y, x).batch(i, rng())", Y[[2, 3, 4]], X[[2, 3, 4]], x=X, y=Y, i=[2, 3, 4])),
    ("TensorDataset.batch", "a batch is a tuple of Tensors, and a copy",
        look.equals("{type(field) for field in TensorDataset(np.arange(4)).batch(np.array([2, 3]), rng())}", {Tensor}),
        *apart(*(f"TensorDataset(result_of(None, x)).batch(np.array({i}), rng())" for i in PLACES), x=Z[:5])),
    ("TensorDataset.batch", "a batch is picked by one index, and not sample by sample",
        *each(picks, ("TensorDataset(np.arange(600.0))", 5), ("TensorDataset(np.ones((600, 2)), np.arange(600))", 10))),
    ("TensorDataset.batch", "an index that there is not is an IndexError that names it",
        *refused(IndexError, ("TensorDataset(np.ones((5, 2)), np.ones(5)).batch(np.array([0, 7]), rng())", 7),
                 ("TensorDataset(np.ones(5)).batch(np.array([2, -8, 3]), rng())", -8))),
)  # fmt: skip


# One epoch


class Numbered(Dataset):
    """A batch of it is (the indices, three numbers drawn from the rng for each); notes what it is asked for."""

    def __init__(self, count: int, greedy: bool = False) -> None:
        self.count, self.greedy, self.asked, self.kinds = count, greedy, 0, set()

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Any:
        return index, [7.0, 8.0, 9.0]  # not for who calls the dataset's `batch`

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Any:
        self.asked += 1
        self.kinds.add(type(indices).__name__)
        drawn = rng.random((len(indices), 3))
        rng.random(17 * self.greedy * self.asked)
        return Tensor(np.array(indices)), Tensor(drawn)


class Ordered(DataLoader):
    """A loader whose length and order are the gate's own."""

    def __len__(self) -> int:
        count, size = len(self.dataset), self.batch_size
        return count // size if self.drop_last else -(-count // size)

    def order(self, seed: int, epoch: int) -> np.ndarray:
        return rng(1000 * seed + epoch).permutation(len(self.dataset))


def all_once(e: Expression) -> None:
    order = np.asarray(e())
    equal(order.dtype.kind in "iu", True, "the order holds integers")
    exactly(np.sort(order), np.arange(len(order)), "the order, sorted")
    if len(order) >= 10:
        holds(np.mean(order == np.arange(len(order))) < 0.5, "another order than 0, 1, 2 …", order)


def different(e: Expression, *places: tuple[int, int]) -> None:
    loader = e()
    orders = np.array([loader.order(*place) for place in places])
    for a, b in itertools.combinations(range(len(places)), 2):
        what = f"different orders for (seed, epoch) = {places[a]} and {places[b]}"
        holds((orders[a] != orders[b]).any(), what, f"the same one twice: {orders[a][:8]} …")


def repeated(e: Expression, other: str) -> None:
    """Nothing decides an order but seed and epoch, and it draws from nothing else."""
    manual_seed(0)
    first, loader = e().order(3, 2), eval(other, {**e.names})
    manual_seed(1)
    loader.order(5, 5)
    exactly(loader.order(3, 2), first, f"order(3, 2) of {other}, against the same of {e.text}")
    undisturbed(1)


def likely(e: Expression) -> None:
    """Each of the six orders of three samples comes about 100 times in 600 epochs: the standard deviation is 9."""
    loader = e()
    orders = [tuple(int(i) for i in loader.order(0, epoch)) for epoch in range(600)]
    counts = np.array([orders.count(order) for order in itertools.permutations(range(3))])
    holds((counts > 50) & (counts < 160), "each of the six orders about 100 times in 600 epochs", counts)


def pieces(e: Expression, *sizes: int) -> None:
    loader = e()
    batches = [indices.data for indices, _ in loader.batches(3, 1)]
    exactly(np.array([len(indices) for indices in batches], int), sizes, "the sizes of the batches")
    came = np.concatenate([np.zeros(0, int), *batches])
    exactly(came, loader.order(3, 1)[: sum(sizes)], "the samples that came, against order(3, 1)")
    equal(str(loader.dataset.kinds - {"ndarray"}), "set()", "what `dataset.batch` got beside arrays of indices")


def lazily(e: Expression) -> None:
    loader, made = e(), []
    batches = loader.batches(0, 0)
    for _ in range(4):
        made.append(loader.dataset.asked)
        next(batches)
    exactly(np.array(made), np.arange(4), "batches made before 1, 2, 3 and 4 of them were asked for")


def draws(e: Expression, seed: int, epoch: int) -> None:
    manual_seed(1)
    came = [drawn.data for _, drawn in e().batches(seed, epoch)]
    expected = [loaders.seeded_generator(seed, epoch, number).random((4, 3)) for number in range(3)]
    exactly(np.array(came), expected, f"what the batches of (seed, epoch) = {seed, epoch} drew")


LENGTHS = (10, 4, 3, 2), (12, 4, 3, 3), (3, 5, 1, 0), (1, 1, 1, 1), (7, 1, 7, 7), (9, 5, 2, 1), (16, 8, 2, 2)
SHUFFLED = "DataLoader(Numbered(50), 9, shuffle=True)"
CUT = "Ordered(Numbered({}), {}, drop_last={})"
CUTS = (10, 4, [4, 4, 2]), (6, 3, [3, 3]), (3, 5, [3]), (3, 1, [1, 1, 1]), (23, 5, [5, 5, 5, 5, 3])

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
        *each(all_once, *([f"DataLoader(Numbered({n}), 4, shuffle=True).order(3, 1)"] for n in (1, 2, 10, 40, 1000)))),
    ("DataLoader.order", "seed and epoch together decide the order: another of either, another order",
        *each(different, (SHUFFLED, (2, 0), (2, 1), (2, 2)), (SHUFFLED, (0, 3), (1, 3), (2, 3)),
              (SHUFFLED, (0, 4), (1, 3), (2, 2), (3, 1), (4, 0)), (SHUFFLED, (1, 4), (2, 2), (4, 1)))),
    ("DataLoader.order", "the same seed and epoch give the same order, and draw nothing from the package's generator",
        *each(repeated, (SHUFFLED, SHUFFLED), (SHUFFLED, SHUFFLED.replace("9", "7")))),
    ("DataLoader.order", "every order is as likely as any other",
        *each(likely, ["DataLoader(Numbered(3), 1, shuffle=True)"])),
    ("DataLoader.batches", "each has the next samples of the order, and the last one has what is left",
        *each(pieces, *((CUT.format(number, size, False), *sizes) for number, size, sizes in CUTS))),
    ("DataLoader.batches", "with drop_last, a smaller last one does not come",
        *each(pieces, *((CUT.format(n, k, True), *(size for size in sizes if size == k)) for n, k, sizes in CUTS))),
    ("DataLoader.batches", "no batch is made before it is asked for",
        *each(lazily, [CUT.format(20, 4, False)], [CUT.format(4, 1, True)])),
    ("DataLoader.batches", "batch `number` draws from seeded_generator(seed, epoch, number), whatever others drew",
        *each(draws, *((CUT.format(12, 4, False), *place) for place in ((0, 0), (0, 1), (2, 1), (1, 2), (3, 0))),
              (CUT.format("12, greedy=True", 4, False), 2, 7))),
)  # fmt: skip


# Epochs


class Noted(DataLoader):
    """A loader whose `batches` are the gate's own: the numbers below 20, plus 100 for each epoch. It notes requests."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(Numbered(40), 2, **settings)
        self.places, self.source = [], Source(0)

    def batches(self, seed: int, epoch: int) -> Iterator[int]:
        self.places.append((seed, epoch))
        source = self.source = Source(20)
        return (100 * epoch + number for number in source)


def passes(e: Expression, epochs: Sequence[int], most: int = 20) -> None:
    """Each `for`, left after `most` batches, is counted at its start, and gets the batches of its seed and epoch."""
    loader, counted = e(), []
    manual_seed(2)
    loader.epoch = epochs[0]
    for epoch in epochs:
        got = []
        for batch in loader:
            got.append(batch)
            counted.append(loader.epoch)
            if len(got) == most < 20:
                break
        exactly(np.array(got), 100 * epoch + np.arange(most), f"the batches of epoch {epoch}")
    expected = [(loader.seed, epoch) for epoch in epochs]
    exactly(np.array(loader.places), expected, "(seed, epoch) of the batches asked for")
    exactly(np.array(counted), np.repeat(epochs, most) + 1, "loader.epoch whenever a batch has come")
    undisturbed(2)


def unseeded(e: Expression, other: str) -> None:
    """Each epoch draws a seed from the package's generator, which manual_seed starts, and nothing else from it."""
    seeds, after = [], []
    three = e(), eval(other, {**e.names}), e()
    for start, loader in zip((1, 1, 2), three):
        manual_seed(start)
        for _ in range(3):
            list(loader)
        seeds.append([seed for seed, _ in loader.places])
        after.append(generator().random())
        exactly(np.array([epoch for _, epoch in loader.places]), [0, 1, 2], "the epochs asked for")
        holds(loader.seed is None, "loader.seed is None still", loader.seed)
    equal(len({*seeds[0], *seeds[2]}), 6, "different seeds in three epochs after manual_seed(1), three after (2)")
    equal(str(seeds[1]), str(seeds[0]), f"the seeds of three epochs of {other}, also after manual_seed(1)")
    exactly(after[1], after[0], "the package's next random number then")


def made_by(e: Expression, background: int) -> None:
    loader = e()
    list(loader)
    threads = loader.source.threads
    asked = np.array([threading.current_thread() in threads, len(threads)])
    exactly(asked, [not background, 1], "[whether the thread of the loop makes batches, how many threads do]")


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


test_epochs = table(
    ("DataLoader.__iter__", "each pass goes through everything, and asks for the loader's seed and the next epoch",
        *each(passes, ("Noted(seed=5)", (0, 1, 2)), ("Noted(seed=0)", (0, 1)), ("Noted(seed=2**40)", (7, 8))),
        array("np.array(list(zip(*[Noted(seed=1)] * 2)))", np.arange(20)[:, None] + [0, 100])),
    ("DataLoader.__iter__", "an epoch is counted when it begins",
        *each(passes, ("Noted(seed=4)", (0, 1, 2), 1), ("Noted(seed=4, shuffle=True)", (5, 6), 3))),
    ("DataLoader.__iter__", "without a seed, each epoch draws one from the package's generator",
        *each(unseeded, ("Noted()", "Noted()"), ("Noted()", "Noted(shuffle=True)"))),
    ("DataLoader.__iter__", "with prefetch the batches come through `prefetched`, and are the same",
        *each(in_time(passes), ("Noted(seed=5, prefetch=2)", (3, 4)), ("Noted(seed=0, prefetch=50)", (0, 1)),
              ("Noted(seed=4, prefetch=2)", (0, 1, 2), 1)),
        *each(in_time(unseeded), ("Noted()", "Noted(prefetch=2)"))),
    ("DataLoader.__iter__", "without prefetch, the thread that asks makes each batch; with it another, so many ahead",
        *each(in_time(made_by), ("Noted()", False), ("Noted(prefetch=1)", True), ("Noted(prefetch=3)", True)),
        *each(in_time(made_ahead), ("Noted()", 1), ("Noted(prefetch=1)", 2), ("Noted(prefetch=4)", 5))),
)  # fmt: skip


# Ahead of time


def ahead(check: Callable[..., None], depth: int, *arguments: Any, **source: Any) -> Case:
    """A case of prefetched(source, depth), which fails if it waits for good."""
    return look.case(in_time(check), f"prefetched(source, {depth})", *arguments, source=Source(**source))


@in_time
def comes(e: Expression, expected: Any) -> None:
    got = list(e(*e.letters.values()))
    if isinstance(expected, np.ndarray):
        return exactly(np.array(got), expected, "what comes out")
    equal(str(got), str(expected), "what comes out")


def in_background(e: Expression) -> None:
    source = e.letters["source"]
    list(e(source))
    equal(len(source.threads), 1, "threads that ask the source")
    (thread,) = source.threads
    equal(thread is threading.current_thread(), False, "the source is asked by the thread of the loop")
    equal(thread.daemon, True, "the thread in the background is a daemon")


def works_ahead(e: Expression, depth: int) -> None:
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
    raises(UnicodeDecodeError, lambda: got.extend(e(e.letters["source"])), e.given, ["sample 417 is damaged"])
    exactly(np.array(got, int), np.arange(number), "what came before the error")
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
        *each(comes, *((f"prefetched(iter(range({count})), {depth})", np.arange(count))
                       for count, depth in ((1, 1), (2, 5), (3, 2), (5, 1), (12, 1), (12, 5)))),
        look.case(comes, "prefetched(iter(x), 2)", X, x=X), look.case(comes, "prefetched(iter([]), 2)", [])),
    ("prefetched", "everything comes out, whatever it is",
        *each(comes, ("prefetched(iter(ITEMS), 2)", ITEMS), ("prefetched(iter([3, None, 5]), 1)", [3, None, 5]),
              ("prefetched(iter([(), 0, False]), 4)", [(), 0, False]))),
    ("prefetched", "a thread in the background, a daemon, makes `depth` items ahead, and at most one more",
        ahead(in_background, 2, count=5), ahead(works_ahead, 1, 1, count=50), ahead(works_ahead, 3, 3, count=50),
        ahead(stops, 3, count=50, slow=True), ahead(stops, 20, count=50, slow=True)),
    ("prefetched", "an error in the background comes out as itself, after what was made before it",
        *(ahead(error_comes, depth, fails, count=9, fails=fails)
          for fails, depth in ((0, 2), (1, 1), (3, 1), (3, 4), (5, 2)))),
    ("prefetched", "the thread ends when the loop is left, and with the last item",
        ahead(ends, 1, 0, 2, count=50), ahead(ends, 3, 2, 6, count=50), ahead(ends, 2, 1, 4, True, count=50),
        ahead(ends, 2, 4, 5, count=5), ahead(ends, 2, 9, 5, count=5)),
)  # fmt: skip


# Augmentation


def chance(e: Expression) -> None:
    """The rng decides, and nothing else."""
    transform, images = e(), bytes_of(20, 3, 4, 4)
    manual_seed(1)
    first = np.array(transform(images.copy(), rng(1)))
    manual_seed(2)
    exactly(transform(images.copy(), rng(1)), first, "the result, with an rng of the same seed")
    holds((transform(images.copy(), rng(2)) != first).any(), "another result with another seed", "the same result")
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


def crops(e: Expression, height: int, width: int, number: int, dtype: Any = np.int64) -> None:
    """Every place is as likely as any other. Image i is image 0 plus 1000 i, so that none is taken for another's."""
    crop, plus = e(), 1000 * np.arange(number).reshape(number, 1, 1, 1)
    size, padding = crop.size, crop.padding
    image = (1 + np.arange(2 * height * width)).reshape(2, height, width)
    padded = np.pad(image, ((0, 0), (padding, padding), (padding, padding)))
    squares = np.lib.stride_tricks.sliding_window_view(padded, (2, size, size)).reshape(-1, 2, size, size)
    result = crop((image + plus).astype(dtype), rng(4))
    given = f"the squares of {number} images (2, {height}, {width})"
    equal(result.shape, (number, 2, size, size), f"the shape of {given}")
    equal(str(result.dtype), np.dtype(dtype).name, f"the dtype of {given}")
    matches = (np.where(result > 0, result - plus, 0)[:, None] == squares).all(axis=(2, 3, 4))
    holds(matches.any(axis=1), f"parts of their own padded images: {given}", result[~matches.any(axis=1)][:1])
    found, expected = matches.sum(axis=0), number / len(squares)
    usual = np.abs(found - expected) <= 6 * np.sqrt(expected)
    holds(usual, f"each of {len(squares)} places about {expected:.0f} times in {given}", found)


def step(text: str) -> Callable[[np.ndarray, np.random.Generator], np.ndarray]:
    """A transform of the gate's own: an expression of the images x and the rng."""
    return lambda x, rng: eval(text, {"x": x, "rng": rng})


DRAWN = rng().random(3)
TWO, DRAWING = (
    "step('x[..., :1]'), step('x * 2.0 + 1')",
    "step('x + rng.random()'), step('x * rng.random()')",
)
FLIPPED = bytes_of(2, 3, 2, 5), numbers(1, 1, 3, 3), floats(numbers(4, 2, 3, 2)), bytes_of(0, 3, 4, 4)
STRIDED = bytes_of(2, 3, 8, 8)[:, ::-1, ::2, 1:6]
FLIPS = [f"RandomHorizontalFlip({p})(x, rng())" for p in (0.0, 1.0, 0.5)]
CROPS = [f"RandomCrop({size})(x, rng())" for size in ("3", "2", "3, padding=1")]

test_augmentation = table(
    ("RandomHorizontalFlip.__call__", "with p=1 left and right change places, in each row and channel",
        *(array(FLIPS[1], "x[..., ::-1]", dtype=x.dtype, x=x) for x in (*FLIPPED, STRIDED))),
    ("RandomHorizontalFlip.__call__", "with p=0 the images come as they are",
        *(array(FLIPS[0], "x.copy()", dtype=x.dtype, x=x) for x in (*FLIPPED, STRIDED))),
    ("RandomHorizontalFlip.__call__", "each image of a batch is mirrored with probability p, by its own chance",
        *each(share, *((f"RandomHorizontalFlip({p})", p) for p in (0.2, 0.5, 0.9)))),
    ("RandomHorizontalFlip.__call__", "the rng alone decides",
        *each(chance, ["RandomHorizontalFlip()"], ["RandomHorizontalFlip(0.3)"])),
    ("RandomHorizontalFlip.__call__", "the images stay as they are, and the result has memory of its own",
        *apart(*FLIPS, x=bytes_of(9, 1, 2, 3))),
    ("RandomHorizontalFlip.__call__", "what has not four axes is refused, and the message names its shape",
        *refused(ValueError, ("RandomHorizontalFlip()(bytes_of(3, 8, 5), rng())", "(3, 8, 5)"),
                 ("RandomHorizontalFlip()(bytes_of(2, 3, 1, 8, 5), rng())", "(2, 3, 1, 8, 5)"))),
    ("RandomCrop.__call__", "a square of each image, surrounded by zeros, at any place where it fits",
        *each(crops, ("RandomCrop(3, padding=1)", 4, 6, 1200), ("RandomCrop(4)", 5, 4, 200),
              ("RandomCrop(4)", 4, 5, 200), ("RandomCrop(3, padding=2)", 3, 3, 1200, np.float32),
              ("RandomCrop(1)", 3, 3, 400), ("RandomCrop(5, padding=2)", 2, 3, 200, np.float64))),
    ("RandomCrop.__call__", "where the square fits just once, it is cut there",
        array("RandomCrop(4)(x, rng())", "x.copy()", dtype=np.uint8, x=bytes_of(3, 2, 4, 4)),
        array("RandomCrop(6, 1)(x, rng())", "np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))", x=bytes_of(3, 2, 4, 4)),
        array("RandomCrop(2)(x, rng())", "x.copy()", dtype=np.float64, x=numbers(1, 1, 2, 2))),
    ("RandomCrop.__call__", "the rng alone decides", *each(chance, ["RandomCrop(4, padding=2)"], ["RandomCrop(2)"])),
    ("RandomCrop.__call__", "the images stay as they are, and the result has memory of its own",
        *apart(*CROPS, x=bytes_of(2, 1, 3, 3))),
    ("RandomCrop.__call__", "a square larger than the padded image, or what has not four axes, is refused",
        *refused(ValueError, ("RandomCrop(7, 1)(bytes_of(2, 3, 4, 9), rng())", 7, "(2, 3, 4, 9)"),
                 ("RandomCrop(7, 1)(bytes_of(2, 3, 9, 4), rng())", 7, "(2, 3, 9, 4)"),
                 ("RandomCrop(9)(bytes_of(2, 3, 8, 8), rng())", 9, "(2, 3, 8, 8)"),
                 ("RandomCrop(2)(bytes_of(3, 8, 5), rng())", "(3, 8, 5)"))),
    ("Compose.__call__", "the transforms come one after the other, the first one first, all with the same rng",
        array(f"Compose([{TWO}])(x, rng())", "x[..., :1] * 2.0 + 1", 1e-9, x=bytes_of(2, 1, 2, 2)),
        array(f"Compose([{DRAWING}])(x, rng())", "(x + DRAWN[0]) * DRAWN[1]", 1e-9, x=STRIDED),
        array(f"[(c(x, rng()), c(x, rng()))[1] for c in [Compose([{TWO}])]][0]", "x[..., :1] * 2.0 + 1", x=STRIDED),
        array("Compose([step('x + rng.random()')])(x, rng())", "x + DRAWN[0]", 1e-9, x=bytes_of(2, 1, 2, 2)),
        array("Compose([])(x, rng())", "x", x=bytes_of(2, 1, 2, 2))),
)  # fmt: skip


# Files


@contextmanager
def files(given: str, *contents: bytes) -> Iterator[list[Path]]:
    """Files with these contents, which are gone when the case is over."""
    count.given = given
    with TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        paths = [Path(folder, f"data-{number}.bin") for number in range(len(contents))]
        for path, content in zip(paths, contents):
            path.write_bytes(content)
        yield paths


def idx(array: np.ndarray, kind: int = 8) -> bytes:
    return bytes([0, 0, kind, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape) + array.tobytes()


def records(images: np.ndarray, labels: Sequence[int]) -> bytes:
    """A file of CIFAR-10's binary version, row by row."""
    rows = (bytes(row) for image in images for channel in image for row in channel)
    return b"".join(bytes([label, *b"".join(itertools.islice(rows, 96))]) for label in labels)


@a_case
def idx_of(*shape: int, path: Callable[[Path], Any] = Path) -> None:
    values = bytes_of(*shape)
    with files(f"an IDX file of shape {shape}, {path.__name__} of its path", idx(values)) as (name,):
        exactly(read_idx(path(name)), values, "read_idx(path)", dtype=np.uint8)


@a_case
def idx_refused(given: str, content: bytes) -> None:
    with files(given, content) as (path,):
        raises(ValueError, lambda: read_idx(path), given, [path.name])


@a_case
def idx_kept(number: int) -> None:
    content = idx(bytes_of(number, 28, 28))
    with files(f"an IDX file of {number} images, {len(content)} bytes", content) as (path,):
        ratio(allocated(lambda: read_idx(path))[1] / len(content), "bytes kept", "those of the file", at_most=1.1)


def mnist() -> None:
    """The real test images. Expected values counted in the official files by od: sha256 0fa7898d… and ff7bcfd4…"""
    names = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
    packed = [(ROOT / "datasets" / "mnist" / f"{name}.gz").read_bytes() for name in names]
    with files("MNIST's test images and labels", *map(gzip.decompress, packed)) as paths:
        images, labels = map(read_idx, paths)
        equal(images.shape, (10000, 28, 28), "the images' shape")
        exactly(labels[:10], [7, 2, 1, 0, 4, 1, 4, 9, 5, 9], "the first labels", dtype=np.uint8)
        exactly(np.bincount(labels), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009], "images of each digit")
        exactly(images[0, 7, 5:17], [0, 84, 185, 159, 151, 60, 36, 0, 0, 0, 0, 0], "row 7 of the first image")


@a_case
def cifar_of(*counts: int, path: Callable[[Path], Any] = Path) -> None:
    """Images and labels of files with so many records."""
    images, labels = bytes_of(sum(counts), 3, 32, 32), [9, 0, 4, 7, 200, 1, 8, 2, 3][: sum(counts)]
    ends = itertools.pairwise([0, *itertools.accumulate(counts)])
    contents = [records(images[i:j], labels[i:j]) for i, j in ends]
    with files(f"files of {counts} records, {path.__name__} of their paths", *contents) as paths:
        got_images, got_labels = read_cifar([path(each) for each in paths])
        exactly(got_labels, labels, "the labels", dtype=np.int64)
        exactly(got_images, images, "the images", dtype=np.uint8)


@a_case
def cifar_refused(*sizes: int) -> None:
    """The file of the last of these sizes is refused, those before are good."""
    with files(f"files of {sizes} bytes", *(bytes_of(size).tobytes() for size in sizes)) as paths:
        raises(ValueError, lambda: read_cifar(paths), count.given, [paths[-1].name, sizes[-1]])


def cifar_memory() -> None:
    size = 50 * 3073
    with files(f"three files of 50 records, {3 * size} bytes", *[bytes_of(size).tobytes()] * 3) as paths:
        peak, kept = (number / 3 / size for number in allocated(lambda: read_cifar(paths)))
        ratio(kept, "bytes kept", "those of the files", at_most=1.1)
        ratio(peak, "bytes in memory on the way", "those of the files", at_most=3.2)


GOOD = idx(bytes_of(10, 3))

test_files = table(
    ("read_idx", "shape and elements are those of the file, as bytes",
        idx_of(5), idx_of(2, 3), idx_of(300, 2, 3), idx_of(2, 1, 3, 2), idx_of(2, 66000), idx_of(4, 3, path=str),
        idx_of(0, 28, 28), idx_of(16_777_217, 0)),
    ("read_idx", "a file with more or fewer elements than its shape says is refused by name",
        idx_refused("the last byte is missing", GOOD[:-1]), idx_refused("the last 20 bytes are missing", GOOD[:-20]),
        idx_refused("a byte too many", GOOD + b"\5"), idx_refused("30 bytes too many", GOOD + GOOD[-30:]),
        idx_refused("2 elements where 16,777,218 are announced", b"\0\0\x08\x01\x01\0\0\2xy")),
    ("read_idx", "a file that ends within its header is refused by name",
        idx_refused("an empty file", b""), idx_refused("three bytes", b"\0\0\x08"),
        idx_refused("one axis, and no length", b"\0\0\x08\x01"),
        idx_refused("one axis, and two bytes of its length", b"\0\0\x08\x01\0\0"),
        idx_refused("two axes, and a byte of the second length is missing", b"\0\0\x08\x02\0\0\0\0\0\0\0"),
        idx_refused("no axis, and one element", b"\0\0\x08\0x")),
    ("read_idx", "a file that does not begin with 0, 0, 8 is refused by name",
        idx_refused("5 for the first byte", b"\5" + GOOD[1:]), idx_refused("5 for the second", b"\0\5" + GOOD[2:]),
        idx_refused("9 for signed bytes", idx(bytes_of(10, 3), 9)), idx_refused("ABC", b"ABC" + GOOD[3:]),
        idx_refused("type 0, which is none", idx(bytes_of(10, 3), 0)), idx_refused("the bytes ABCDx", b"ABCDx"),
        idx_refused("13 for floats", idx(bytes_of(10, 3, 4), 13)), idx_refused("a packed file", gzip.compress(GOOD))),
    ("read_idx", "what is read stays bytes", idx_kept(60)),
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


def by_channel(values: Any) -> np.ndarray:
    return np.reshape(values, (-1, 1, 1))


NORMAL = "normalise(x, mean, std)", "(x / 255 - by_channel(mean)) / by_channel(std)", 1e-5, np.float32
MEANS, STDS = (0.2, 0.5, 0.9), [0.1, 0.2, 0.4]
IMAGES, LABELS = bytes_of(6, 3, 4, 5), np.array([3, 1, 4, 1, 5, 9], np.uint8)
WHOLE = LABELS.astype(np.int64)
FIVE = "ImageDataset(bytes_of(5, 1, 2, 2), np.arange(5))"
MOVED = floats((IMAGES / 255 - by_channel(MEANS)) / by_channel(STDS))

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
        array(*NORMAL, x=STRIDED, mean=0.5, std=0.5), *apart("normalise(x, 0.5, 0.25)", x=bytes_of(2, 3, 2, 2))),
    ("ImageDataset.batch", "the images that were asked for, normalised, and their labels",
        *(batch("ImageDataset(x, y).batch(i, rng())", floats(IMAGES[i] / 255), WHOLE[i], x=IMAGES, y=LABELS, i=i)
          for i in ([4, 0, 5], [2], [1, 1, 3], [0, 1, 2])),
        *(batch("ImageDataset(x, y, None, mean, std).batch(i, rng())", MOVED[i], WHOLE[i], x=IMAGES, y=LABELS,
                mean=MEANS, std=STDS, i=i) for i in ([4, 0, 5], [3]))),
    ("ImageDataset.batch", "a batch is a tuple of Tensors",
        look.equals(f"{{type(field) for field in {FIVE}.batch(np.array([2, 3]), rng())}}", {Tensor})),
    ("ImageDataset.batch", "the transform gets the batch's bytes and the rng, once, and its result is normalised",
        *each(transformed, ["ImageDataset(bytes_of(6, 1, 3, 3), np.arange(6), mean=0.5)"])),
    ("ImageDataset.batch", "a transform that writes into its batch does not write into the dataset",
        *apart(*(f"ImageDataset(x, np.arange(5), step('x.fill(0) or x')).batch(np.array({i}), rng())" for i in PLACES),
               x=bytes_of(5, 1, 2, 2))),
    ("ImageDataset.batch", "a batch is picked by one index, and not image by image",
        *each(picks, ("ImageDataset(bytes_of(600, 1, 2, 2).view(Counting), np.arange(600))", 20))),
    ("ImageDataset.batch", "an index that there is not is an IndexError that names it",
        *refused(IndexError, (f"{FIVE}.batch(np.array([0, 7]), rng())", 7))),
)  # fmt: skip


# Systems


@a_case
def pages(indices: Any, sample_bytes: int, start: int = 0, page: int = 4096) -> None:
    """Counted byte by byte."""
    count.given = f"samples {indices} of {sample_bytes} bytes, {start} before the first, pages of {page}"
    begins = [start + int(index) * sample_bytes for index in indices]
    expected = len({at // page for begin in begins for at in range(begin, begin + sample_bytes)})
    equal(systems.mapped_pages(indices, sample_bytes, start, page), expected, "mapped_pages")


def megabytes(number: float) -> np.ndarray:
    return np.zeros(int(number * 1e6), np.uint8)


def peak(e: Expression, least: float, most: float) -> None:
    ratio(e() / 1e6, "bytes at the highest point", "a million", most, least)


def peak_later(e: Expression, least: float, most: float) -> None:
    """While it is traced already: 5 MB are in use, and then no more."""
    with traced():
        kept = [megabytes(5)]
        peak(e, least, most)
        del kept
        peak(e, least, most)


def stops_tracing(e: Expression, error: bool) -> None:
    for before in (False, True):
        after = traces_after((lambda: raises(UnicodeDecodeError, e, e.given)) if error else e, before)
        equal(after, before, f"tracemalloc runs afterwards, as it did{'' if before else ' not'} before")


class Clock:
    """A clock, and batches and steps that move it on: `begin` is for `iter`, and `end` for the last `next`."""

    def __init__(self, loads: Sequence[float], steps: Sequence[float], end: float, begin: float) -> None:
        self.loads, self.steps, self.end, self.begin = loads, steps, end, begin
        self.now, self.asked, self.turns = 100.0, 0, []  # turns: i + 1 for batch i made, -(i + 1) for its step

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
    share = systems.waiting_share(clock, clock.step, clock)
    turns = [turn for i in range(len(loads)) for turn in (i + 1, -1 - i)]
    exactly(np.array(clock.turns, int), turns, "what happened: i for batch i made, -i for its step, from 1 on")
    holds(clock.asked > 1, "the given clock asked for the time", "it was not asked")
    close(share, waiting / (waiting + sum(steps)) if waiting else 0.0, "the share", tolerance=1e-9)


@a_case
def real_clock(load: float, step: float, least: float, most: float) -> None:
    wait = threading.Event().wait
    share = systems.waiting_share((wait(load) for _ in range(2)), lambda batch: wait(step))
    seen = "too much" if share > most else "too little"  # not the share itself, which no two runs have in common
    ratio(share, "waiting", f"all time, of two batches of {load} s and steps of {step} s", most, least, seen=seen)


def simulated(load: Sequence[float], step: Sequence[float], prefetch: int) -> float:
    """The earliest times that keep all rules of the docstring, found by moving on whatever comes too early."""
    queued, taken, before = [0.0] * len(load), [0.0] * len(load), None
    while before != queued + taken:
        before = queued + taken
        for i in range(len(load)):
            room = taken[i - prefetch] if i >= prefetch else 0
            queued[i] = max((queued[i - 1] if i else 0) + load[i], room)
            taken[i] = max(queued[i], taken[i - 1] + step[i - 1] if i else 0)
    return taken[-1] + step[-1]


def seconds(load: Sequence[float], step: Sequence[float], *depths: int) -> list[Case]:
    return [array(f"epoch_seconds({load}, {step}, {n})", simulated(load, step, n), 1e-9) for n in depths]


def versions(height: int, width: int, size: int, padding: int, flip: bool) -> Case:
    """As many as there are different ones among all crops and their mirror images."""
    padded = np.pad(1 + np.arange(height * width).reshape(height, width), padding)
    squares = np.lib.stride_tricks.sliding_window_view(padded, (size, size)).reshape(-1, size, size)
    different = {square.tobytes() for square in (*squares, *squares[..., ::-1][: len(squares) * flip])}
    return look.equals(f"version_count({height}, {width}, {size}, {padding}, {flip})", len(different))


LAYOUTS = (40, 24, 64), (5, 3, 16), (16, 0, 16), (16, 8, 16), (1, 0, 8), (40, 7, 16), (33, 0, 16), (784, 16, 4096)
SCATTERED = [33, 10, 4, 11, 16, 32, 18, 3, 13, 24, 32, 29]
IMAGE_SIZES = (6, 5, 4, 2), (4, 4, 4, 1), (3, 5, 3, 2), (6, 4, 4, 0), (2, 2, 3, 1), (5, 3, 2, 1), (4, 4, 4, 0)
SLOWER_LATER = [2, 2, 2, 2, 2, 2, 2, 10, 9, 9, 7, 11, 5, 9, 10], [10, 8, 7, 7, 7, 8, 10, 8, 1, 8, 5, 3, 6, 5, 3]

test_systems = table(
    ("mapped_pages", "as many pages as reading the samples byte by byte touches",
        *(pages(SCATTERED, *layout) for layout in LAYOUTS)),
    ("mapped_pages", "a page counts once, whatever the order of the samples",
        *(pages(samples, *layout)
          for layout in LAYOUTS[:4] for samples in ([0], [3, 1, 3], [2, 1, 0], list(range(20)), [])),
        pages(rng(2).permutation(60000)[:128], 784, 16), look.equals("mapped_pages([0, 1, 5], 4096)", 3),
        look.equals("mapped_pages([0, 50, 3], 784, start=16)", 2)),
    ("epoch_peak", "the largest batches that were there at once",
        *each(peak, ("epoch_peak(megabytes(1) for _ in range(8))", 1.0, 2.2), ("epoch_peak([])", 0.0, 0.1),
              ("epoch_peak(map(megabytes, (1, 3, 1, 1)))", 3.0, 4.2), ("epoch_peak(map(megabytes, [2]))", 2.0, 2.2),
              ("epoch_peak(megabytes(4)[:1000000].copy() for _ in range(3))", 5.0, 6.2))),
    ("epoch_peak", "what was allocated before counts for nothing",
        *each(peak_later, ("epoch_peak(megabytes(1) for _ in range(3))", 1.0, 2.2)),
        *each(peak, ("epoch_peak(megabytes(3) for _ in range(2))", 3.0, 6.2))),
    ("epoch_peak", "tracemalloc runs afterwards if it did before, also after an error",
        *each(stops_tracing, ("epoch_peak([3, 4])", False), ("epoch_peak(Source(3, fails=1))", True))),
    ("waiting_share", "what the clock shows between asking for a batch and having it, over all",
        waited((3, 1, 0, 2), (1, 2, 4, 3)), waited((1, 1), (1, 1)), waited((0, 0, 0), (5, 5, 5)), waited((4,), (0.5,))),
    ("waiting_share", "making the iterator and the last question count too",
        waited((2,), (6,), 2), waited((1, 1), (2, 2), 0, 4), waited((5, 1, 1), (1, 9, 1), 3, 1), waited((), (), 3)),
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
        *seconds(*SLOWER_LATER, 1, 2, 3, 4, 20), *seconds([5, 3, 1, 7, 2, 2, 6, 1], [1, 4, 6, 2, 2, 5, 3, 1], 1, 2, 3),
        *seconds([1] * 6, [8, 1, 1, 1, 1, 8], 1, 2, 4), *seconds([1, 1, 1, 6, 6, 6], [5, 5, 5, 1, 1, 1], 1, 2, 4)),
    ("version_count", "as many as there are different ones among all crops and their mirror images",
        *(versions(*sizes, True) for sizes in IMAGE_SIZES),
        look.equals("version_count(32, 32, size=32, padding=4)", 162)),
    ("version_count", "without mirroring, as many as there are different crops",
        *(versions(*sizes, False) for sizes in IMAGE_SIZES)),
)  # fmt: skip
