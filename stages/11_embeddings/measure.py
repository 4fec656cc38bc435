"""Measures what stage 11's lesson tells: a lookup and its way back, rows without gradient, tables, turns, neighbours.

tox -e measure11
"""

import sys
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, save_plot, seconds  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import (
    CrossEntropyLoss,
    Embedding,
    Linear,
    PositionalEncoding,
    create_sinusoidal_embeddings,
    manual_seed,
    sum_rows,
)
from tinytorch.systems.embeddings import idle_rows, lookup_savings, position_bytes, shift_rotation

Times = list[tuple[int, float, float]]
Words = list[str]


def frequencies(vocab_size: int) -> np.ndarray:
    """Probabilities that fall as 1 / rank, as those of words in a text do (Zipf's law)."""
    shares = 1 / np.arange(1, vocab_size + 1)
    return shares / shares.sum()


def batch(tokens: int, vocab_size: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).choice(vocab_size, tokens, p=frequencies(vocab_size))


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).normal(size=shape).astype(np.float32)


def lookup() -> Times:
    """Prints the table; returns vocabulary size, and the milliseconds of a lookup and of a product."""
    print("The vectors of 2,048 tokens, 128 numbers each: a lookup, and the product one_hot @ table")
    print(f"{'vocabulary':>12}{'lookup':>12}{'product':>13}{'ratio':>10}{'its FLOPs':>16}{'one-hot matrix':>17}")
    rows = []
    for vocab_size in (65, 1024, 4096, 16384):
        tokens, embedding = batch(2048, vocab_size), Embedding(vocab_size, 128)
        one_hot = np.zeros((2048, vocab_size), np.float32)
        one_hot[np.arange(2048), tokens] = 1
        product = lambda a=one_hot, b=embedding.weight.data: a @ b
        fast, slow = (seconds(action) * 1e3 for action in (lambda e=embedding, t=tokens: e(t), product))
        flops, size = lookup_savings(2048, vocab_size, 128)
        print(
            f"{vocab_size:>12,}{fast:>9.2f} ms{slow:>10.2f} ms{slow / fast:>10.0f}"
            f"{flops / 1e6:>11,.0f} mega{size / 1e6:>14.1f} MB"
        )
        rows.append((vocab_size, fast, slow))
    return rows


def add_at(indices: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    table = np.zeros((count, rows.shape[1]), rows.dtype)
    np.add.at(table, indices, rows)
    return table


def one_hot_product(indices: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    one_hot = np.zeros((count, len(indices)), rows.dtype)
    one_hot[indices, np.arange(len(indices))] = 1
    return one_hot @ rows


def mask_by_mask(indices: np.ndarray, rows: np.ndarray, count: int) -> np.ndarray:
    return np.stack([rows[indices == i].sum(axis=0) for i in range(count)])


def scatter() -> None:
    print("\nThe way back: rows of 128 numbers summed by their index, in ms")
    ways: list[Callable[..., np.ndarray]] = [add_at, one_hot_product, mask_by_mask, sum_rows]
    names = ["np.add.at", "one-hot product", "a mask an index", "sum_rows"]
    print(f"{'tokens':>8}{'table rows':>13}" + "".join(f"{name:>18}" for name in names))
    for tokens, count in ((2048, 65), (4096, 65), (4096, 1024), (4096, 50_000)):
        indices, rows = batch(tokens, count), normal(tokens, 128)
        able = ways if count < 5000 else [add_at, sum_rows]  # 50,000 masks, or a matrix of 800 MB: not even tried
        times = {way: seconds(lambda way=way: way(indices, rows, count), budget=0.3) for way in able}
        cells = (f"{times[way] * 1e3:.2f}" if way in times else "-" for way in ways)
        print(f"{tokens:>8,}{count:>13,}" + "".join(f"{cell:>18}" for cell in cells))


def idle() -> None:
    print("\nRows of 128 numbers that a batch leaves without gradient; tokens drawn by Zipf's law")
    print(f"{'table rows':>12}{'tokens':>10}{'expected':>11}{'counted':>11}{'share':>9}{'zeros in gradient':>19}")
    for vocab_size, tokens in ((1024, 2048), (50_257, 2048), (50_257, 16_384)):
        gradient = sum_rows(batch(tokens, vocab_size), normal(tokens, 8), vocab_size)
        counted = int((gradient == 0).all(axis=1).sum())
        expected = idle_rows(frequencies(vocab_size), tokens)
        print(
            f"{vocab_size:>12,}{tokens:>10,}{expected:>11,.1f}{counted:>11,}{counted / vocab_size:>8.0%} "
            f"{counted * 128 * 4 / 1e6:>15.2f} MB"
        )


class Shape:
    """The sizes of a GPT: vocabulary, width, blocks, positions."""

    def __init__(self, name: str, *sizes: int) -> None:
        self.name, (self.vocab_size, self.width, self.blocks, self.positions) = name, sizes


SHAPES = [
    Shape("milestone 4", 65, 128, 4, 64),
    Shape("GPT-2", 50_257, 768, 12, 1024),
    Shape("GPT-3", 50_257, 12_288, 96, 2048),
]


def shares() -> None:
    print("\nWhat tables weigh in a GPT: vocabulary x width, against 12 x width² a block")
    print(f"{'':14}{'token table':>14}{'blocks':>12}{'share':>9}{'positions, learned':>22}{'fixed':>12}")
    for shape in SHAPES:
        tokens, blocks = shape.vocab_size * shape.width, 12 * shape.blocks * shape.width**2
        small = PositionalEncoding(shape.positions, 1, learned=True), PositionalEncoding(shape.positions, 1)
        learned, fixed = (position_bytes(encoding) * shape.width / 1e6 for encoding in small)
        print(
            f"{shape.name:14}{tokens / 1e6:>12.2f} M{blocks / 1e6:>10,.1f} M{tokens / (tokens + blocks):>9.1%}"
            f"{learned:>19.1f} MB{fixed:>9.1f} MB"
        )


def turns() -> None:
    print("\nThe sinusoidal table, 512 positions of 64 numbers: the largest error of shift_rotation, and products")
    print(f"{'shift':>7}{'error':>12}" + "".join(f"{f'from {p}':>12}" for p in (0, 100, 400)))
    table = create_sinusoidal_embeddings(512, 64)
    for shift in (0, 1, 5, 100):
        error = np.abs(table[: 512 - shift] @ shift_rotation(shift, 64).T - table[shift:]).max()
        products = (table[p] @ table[p + shift] for p in (0, 100, 400))
        print(f"{shift:>7}{error:>12.1e}" + "".join(f"{product:>12.2f}" for product in products))


# Words whose neighbours are the words that come in the same places

NAMES, VERBS, THINGS = (
    ["romeo", "juliet", "hamlet", "ophelia"],
    ["loves", "fears", "hates"],
    ["ghost", "night", "crown"],
)
VOCABULARY = [*NAMES, *VERBS, "the", *THINGS, "."]


def sentences(count: int) -> np.ndarray:
    """Word by word, as indices: "romeo loves juliet ." or "romeo loves the night .", every word at random."""
    random, words = np.random.default_rng(5), []
    for _ in range(count):
        end = ["the", random.choice(THINGS)] if random.random() < 0.5 else [random.choice(NAMES)]
        words += [random.choice(NAMES), random.choice(VERBS), *end, "."]
    return np.array([VOCABULARY.index(word) for word in words])


def learn(steps: int = 400) -> list[np.ndarray]:
    """Prints the table; returns the words' vectors before training and after."""
    print("\nA vector of two numbers for each of 12 words, from which a Linear predicts the next word")
    manual_seed(3)
    text, table, head, loss_fn = sentences(2000), Embedding(12, 2), Linear(2, 12), CrossEntropyLoss()
    pictures = [table.weight.data.copy()]
    print(f"{'step':>6}{'loss':>8}   nearest to juliet, to fears and to crown")
    for step in range(steps + 1):
        loss = loss_fn(head(table(text[:-1])), text[1:])
        if step in (0, 20, steps):
            nearest = (
                f"{word}: {', '.join(neighbours(table.weight.data, word))}" for word in ("juliet", "fears", "crown")
            )
            print(f"{step:>6}{loss.item():>8.3f}   {'; '.join(nearest)}")
        loss.backward()
        for parameter in (*table.parameters(), *head.parameters()):
            parameter.data -= 3.0 * parameter.grad
            parameter.grad = None
    print(f"the best that one word can tell of the next: {bound(text):.3f}")
    return [*pictures, table.weight.data]


def neighbours(vectors: np.ndarray, word: str, count: int = 2) -> Words:
    distances = np.linalg.norm(vectors - vectors[VOCABULARY.index(word)], axis=1)
    return sorted(VOCABULARY[i] for i in np.argsort(distances, kind="stable")[1 : count + 1])


def bound(text: np.ndarray) -> float:
    """The mean of -log p(next word | word), by counting pairs."""
    pairs = np.zeros((12, 12))
    np.add.at(pairs, (text[:-1], text[1:]), 1)
    given = pairs / pairs.sum(axis=1, keepdims=True)
    return float(-(pairs * np.log(np.where(given > 0, given, 1))).sum() / pairs.sum())


def plot(times: Times, before: np.ndarray, after: np.ndarray) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (speed, waves, words) = plt.subplots(1, 3, figsize=(15, 4.4), layout="constrained")
    sizes, fast, slow = zip(*times)
    speed.loglog(sizes, slow, "o-", label="one_hot @ table")
    speed.loglog(sizes, fast, "o-", label="lookup")
    speed.set(title="2,048 tokens into vectors", xlabel="vocabulary", ylabel="ms")
    speed.legend()
    image = waves.imshow(create_sinusoidal_embeddings(64, 64), cmap="RdBu", aspect="auto", vmin=-1, vmax=1)
    waves.set(title="sinusoidal vectors", xlabel="column", ylabel="position")
    figure.colorbar(image, ax=waves)
    for group, colour in (
        (NAMES, "tab:blue"),
        (VERBS, "tab:red"),
        (THINGS, "tab:green"),
        (["the"], "k"),
        (['"."'], "k"),
    ):
        rows = [VOCABULARY.index(word.strip('"')) for word in group]
        words.plot(*before[rows].T, "o", color=colour, alpha=0.25)
        words.plot(*after[rows].T, "o", color=colour)
        x, y = after[rows].mean(axis=0)
        left = x > 0  # where the words stand beside their points
        words.text(
            x + (-0.3 if left else 0.3), y, "\n".join(group), color=colour, ha="right" if left else "left", va="center"
        )
    words.margins(0.15)
    words.set(title="words before training (pale) and after")
    save_plot(figure, __file__)


def main() -> None:
    times = lookup()
    scatter()
    idle()
    shares()
    turns()
    plot(times, *learn())


measure(main)
