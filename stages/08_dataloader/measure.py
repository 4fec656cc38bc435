"""Measures what stage 08's lesson tells: opening, picking, changing and prefetching data, on your package.

tox -e measure08
"""

import itertools
import sys
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, save_plot, seconds  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import CIFAR10, MNIST, Compose, DataLoader, Dataset, ImageDataset, RandomCrop, RandomHorizontalFlip
from tinytorch.data.datasets import normalise
from tinytorch.data.download import fetch
from tinytorch.data.loader import collate
from tinytorch.systems.loader import epoch_peak, epoch_seconds, mapped_pages, version_count, waiting_share

random = np.random.default_rng(0)
BATCH = 128


def opened(what: str, make: Callable[[], ImageDataset]) -> ImageDataset:
    """The dataset, and a row of the table about it."""
    start = time.perf_counter()
    make()
    took = time.perf_counter() - start
    tracemalloc.start()
    data = make()
    kept, peak = (size / 1e6 for size in tracemalloc.get_traced_memory())
    tracemalloc.stop()
    size = data.images.nbytes / 1e6
    print(f"{what:28}{took:>8.2f} s{size:>11.1f} MB{kept:>11.1f} MB{peak:>11.1f} MB{4 * size:>11.1f} MB")
    return data


def opening() -> ImageDataset:
    print("Opening a dataset that is on the disk; MB of its images, MB kept, and MB at the highest point")
    print(f"{'':28}{'time':>10}{'bytes':>14}{'kept':>14}{'highest':>14}{'as float32':>14}")
    opened("MNIST, verified", MNIST)
    with tempfile.TemporaryDirectory() as folder:
        for number in range(1, 6):
            records = random.integers(0, 10, (10_000, 3073), dtype=np.uint8)
            records.tofile(Path(folder) / f"data_batch_{number}.bin")
        return opened("CIFAR-10's layout, made up", lambda: CIFAR10(folder=folder))


def mapped() -> None:
    path, shape = fetch("mnist") / "train-images-idx3-ubyte", (60_000, 1, 28, 28)
    labels = np.zeros(60_000, np.int64)
    ways = {
        "loaded": lambda: np.fromfile(path, np.uint8, offset=16).reshape(shape),
        "mapped": lambda: np.memmap(path, np.uint8, "r", offset=16, shape=shape),
    }
    order = np.random.default_rng(1).permutation(60_000)
    print("\nMNIST's training images, 47 MB, loaded or mapped into memory; the file is in the system's cache")
    print(f"{'':28}{'open':>11}{'allocated':>13}{'first 10 batches':>20}{'all, shuffled':>17}")
    for name, open_it in ways.items():
        opening_time = seconds(open_it, 0.05)
        allocated = epoch_peak(open_it() for _ in range(1)) / 1e6
        data, times = ImageDataset(open_it(), labels), []
        for begin, end in ((0, 10), (10, 470)):
            start = time.perf_counter()
            for number in range(begin, end):
                data.images[order[number * BATCH : (number + 1) * BATCH]]
            times.append(time.perf_counter() - start)
        print(
            f"{name:28}{opening_time * 1e3:>8.2f} ms{allocated:>10.1f} MB"
            f"{times[0] * 1e3:>17.2f} ms{sum(times) * 1e3:>14.1f} ms"
        )
    for name, indices in (("in order", np.arange(BATCH)), ("shuffled", order[:BATCH])):
        pages = mapped_pages(indices, 784, 16)
        print(
            f"pages of a batch of {BATCH}, {name}: {pages:>4}, "
            f"that is {pages * 4096 / (BATCH * 784):.1f} bytes for each that is used"
        )


def parts(data: ImageDataset) -> None:
    order, rng, mean, std = random.permutation(len(data)), np.random.default_rng(0), CIFAR10.MEAN, CIFAR10.STD
    begins = itertools.cycle(range(0, len(data) - BATCH, BATCH))
    chosen = lambda: order[(begin := next(begins)) : begin + BATCH]
    images = data.images[chosen()]
    flip, crop = RandomHorizontalFlip(), RandomCrop(32, padding=4)
    whole = ImageDataset(data.images, data.labels, Compose([crop, flip]), mean, std)
    rows = {
        "picked by one index": lambda: data.images[chosen()],
        "cropped": lambda: crop(images, rng),
        "mirrored": lambda: flip(images, rng),
        "normalised": lambda: normalise(images, mean, std),
        "all of it": lambda: whole.batch(chosen(), rng),
        "all of it, one by one": lambda: collate([whole[index] for index in chosen()]),
    }
    print(f"\nWhat a batch of {BATCH} images (3, 32, 32) costs, part by part")
    for name, action in rows.items():
        took = seconds(action, 0.1)
        print(f"{name:28}{took * 1e3:>8.3f} ms{took / BATCH * 1e6:>11.1f} µs an image{BATCH / took:>14,.0f} images/s")
    versions = version_count(32, 32, 32, 4)
    print(
        f"crop and mirror make {versions} versions of an image; 50,000 images stored so would take "
        f"{versions * 50_000 * 3072 / 1e9:.1f} GB"
    )


class Late(Dataset):
    """What another dataset gives, later by the milliseconds of its batch; notes when each batch was made."""

    def __init__(self, data: Dataset, delays: list[float]) -> None:
        self.data, self.delays, self.spans = data, delays, []

    def __len__(self) -> int:
        return len(self.data)

    def batch(self, indices: np.ndarray, rng: np.random.Generator) -> Any:
        start = time.perf_counter()
        time.sleep(self.delays[len(self.spans) % len(self.delays)] / 1000)
        batch = self.data.batch(indices, rng)
        self.spans.append((start, time.perf_counter()))
        return batch


class OneByOne(Dataset):
    """Images that come through Python one at a time."""

    def __init__(self, data: ImageDataset) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> Any:
        return self.data[index]


COUNT, STEP = 25, 0.015
WORK = random.random(50_000, np.float32)
SPANS: list[tuple[float, float]] = []


def step(batch: object) -> None:
    """15 ms of arithmetic on one core: a stand-in, since this stage has no model."""
    start = time.perf_counter()
    while time.perf_counter() - start < STEP:
        np.tanh(WORK)
    SPANS.append((start, time.perf_counter()))


def prefetching(data: ImageDataset) -> dict[int, tuple[list, list]]:
    """Prints the table; returns when batches were made and steps done, by prefetch, of the loader that comes late."""
    augment = Compose([RandomCrop(32, padding=4), RandomHorizontalFlip()])
    few = ImageDataset(data.images[: COUNT * BATCH], data.labels[: COUNT * BATCH], augment)
    delays = np.random.default_rng(2).choice([2.0, 4.0, 50.0], COUNT, p=[0.4, 0.4, 0.2]).tolist()
    loaders = {
        "all at once": (Late(few, [0.0]), (0, 2)),
        "one by one": (Late(OneByOne(few), [0.0]), (0, 2)),
        "2, 4 or 50 ms late": (Late(few, delays), (0, 1, 2, 4)),
    }
    found: dict[int, tuple[list, list]] = {}
    print(f"\nAn epoch of {COUNT} batches; a step takes {STEP * 1e3:.0f} ms. How much of it is spent waiting for data?")
    print(f"{'batches are made':24}{'prefetch':>10}{'waiting':>11}{'epoch':>13}{'predicted':>13}")
    for name, (dataset, depths) in loaders.items():
        for prefetch in depths:
            dataset.spans, SPANS[:] = [], []
            start = time.perf_counter()
            share = waiting_share(DataLoader(dataset, BATCH, prefetch=prefetch), step)
            took = time.perf_counter() - start
            if prefetch == 0:  # here nothing disturbs anything: what both take on their own
                loads, steps = ([end - begin for begin, end in spans] for spans in (dataset.spans, SPANS))
            predicted = epoch_seconds(loads, steps, prefetch)
            print(f"{name:24}{prefetch:>10}{share:>10.1%} {took * 1e3:>10.0f} ms{predicted * 1e3:>10.0f} ms")
            found[prefetch] = (
                [(s - start, e - start) for s, e in dataset.spans],
                [(s - start, e - start) for s, e in SPANS],
            )
    return found


def ahead(data: ImageDataset) -> None:
    small = ImageDataset(data.images[: 40 * BATCH], data.labels[: 40 * BATCH])
    size = BATCH * 3072 * 4 / 1e6
    print(
        f"\nMemory at the highest point of an epoch of 40 batches, {size:.2f} MB each; all of them: {40 * size:.0f} MB"
    )
    for prefetch in (0, 1, 2, 8):
        peak = epoch_peak(waited(DataLoader(small, BATCH, prefetch=prefetch))) / 1e6
        print(f"prefetch {prefetch}: {peak:>6.1f} MB, {peak / size:>5.1f} batches")


def waited(batches: Any) -> Any:
    """The batches, each used for 2 ms: time enough to make others ahead."""
    for batch in batches:
        yield batch
        time.sleep(0.002)


def plot(found: dict[int, tuple[list, list]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(3, 1, figsize=(9, 5), sharex=True)
    for axes, prefetch in zip(panels, (0, 1, 4)):
        for height, spans, colour in ((1, found[prefetch][0], "#d95f02"), (0, found[prefetch][1], "#2166ac")):
            bars = [(begin * 1e3, (end - begin) * 1e3) for begin, end in spans]
            axes.broken_barh(bars, (height - 0.4, 0.8), facecolor=colour, edgecolor="white", linewidth=0.6)
        axes.set_yticks([1, 0], ["loader", "model"])
        axes.set_title(f"prefetch={prefetch}", loc="left", fontsize=10)
    panels[-1].set_xlabel("ms since the epoch began; gaps in the lower row are waiting")
    figure.suptitle(f"The same {COUNT} batches, most of them quick to load and a few late")
    figure.tight_layout()
    save_plot(figure, __file__)


def main() -> None:
    data = opening()
    mapped()
    parts(data)
    found = prefetching(data)
    ahead(data)
    plot(found)


measure(main)
