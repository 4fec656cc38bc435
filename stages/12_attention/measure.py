"""Measures what stage 12's lesson tells: what attention is for, and what it costs in arithmetic, memory and time.

tox -e measure12
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, medians, peak_bytes, save_plot  # first: sets the threads of BLAS, and the path

import numpy as np

from tinytorch import (
    GELU,
    AdamW,
    CrossEntropyLoss,
    Layer,
    Linear,
    MultiHeadAttention,
    Sequential,
    Tensor,
    attention_in_blocks,
    attention_probabilities,
    causal_mask,
    manual_seed,
    scaled_dot_product_attention,
)
from tinytorch.systems.attention import (
    attention_flops,
    block_bytes,
    crossover_length,
    probability_bytes,
    window_pairs,
)

PAIRS, KINDS = 8, 16


def questions(random: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Eight positions with a name and a number, and one with a name alone: which number stands beside that name?"""
    names = random.permuted(np.tile(np.arange(KINDS), (count, 1)), axis=1)[:, :PAIRS]
    values, asked = random.integers(KINDS, size=(count, PAIRS)), random.integers(PAIRS, size=count)
    x, rows = np.zeros((count, PAIRS + 1, 2 * KINDS), np.float32), np.arange(count)
    x[rows[:, None], np.arange(PAIRS), names] = 1
    x[rows[:, None], np.arange(PAIRS), KINDS + values] = 1
    x[rows, PAIRS, names[rows, asked]] = 1
    return x, values[rows, asked]


class Mean(Layer):
    """The mean of all positions, and the question, through an MLP."""

    def __init__(self) -> None:
        self.mlp = Sequential(Linear(4 * KINDS, 128), GELU(), Linear(128, KINDS))

    def forward(self, x: Any) -> Any:
        both = np.concatenate([x.data[:, :PAIRS].mean(axis=1), x.data[:, PAIRS]], axis=1)
        return self.mlp(Tensor(both))


class SideBySide(Layer):
    """All positions laid side by side, through an MLP."""

    def __init__(self) -> None:
        self.mlp = Sequential(Linear((PAIRS + 1) * 2 * KINDS, 128), GELU(), Linear(128, KINDS))

    def forward(self, x: Any) -> Any:
        return self.mlp(x.reshape(len(x), -1))


class Asking(Layer):
    """One attention, of which the last position's answer counts."""

    def __init__(self) -> None:
        self.attention, self.head = MultiHeadAttention(2 * KINDS, 1), Linear(2 * KINDS, KINDS)

    def forward(self, x: Any) -> Any:
        return self.head(self.attention(x)[:, PAIRS])


def learn(model: Layer, steps: int = 400) -> float:
    """The share of fresh questions that are answered right after training."""
    random, loss = np.random.default_rng(0), CrossEntropyLoss()
    optimizer = AdamW(model.parameters(), lr=0.01, weight_decay=0.0)
    for _ in range(steps):
        x, targets = questions(random, 64)
        optimizer.zero_grad()
        loss(model(Tensor(x)), Tensor(targets)).backward()
        optimizer.step()
    x, targets = questions(random, 2000)
    return float((model(Tensor(x)).data.argmax(axis=1) == targets).mean())


def recall() -> tuple[np.ndarray, np.ndarray]:
    """Prints the table; returns where the last position of eight questions looks, after training, and these."""
    print(f"{PAIRS} names with numbers, and a question: which number stands beside this name? (guessing: 6 %)")
    print(f"{'model':>24}{'parameters':>13}{'right after 400 steps':>24}")
    kinds: dict[str, Callable[[], Any]] = {"mean": Mean, "side by side": SideBySide, "attention": Asking}
    for name, kind in kinds.items():
        manual_seed(0)
        model = kind()
        share = learn(model)
        print(f"{name:>24}{sum(p.size for p in model.parameters()):>13,}{100 * share:>22.0f} %")
    x, layer = Tensor(questions(np.random.default_rng(5), 8)[0]), model.attention
    Q, K = layer.query(x).data, layer.key(x).data
    return attention_probabilities(Q @ K.swapaxes(1, 2) / np.sqrt(2 * KINDS))[:, PAIRS], x.data


def scale() -> None:
    print("\nA query and 64 keys of random numbers of size 1; medians of 200")
    print(f"{'d':>6}{'spread of Q Kᵀ':>17}{'largest probability':>22}{'with √d':>10}{'gradient':>12}{'with √d':>10}")
    random = np.random.default_rng(0)
    for d in (4, 16, 64, 256, 1024):
        scores = np.einsum("qd,qkd->qk", random.normal(size=(200, d)), random.normal(size=(200, 64, d)))
        row = f"{d:>6}{scores.std():>17.1f}"
        tops, slopes = [], []
        for factor in (1.0, d**-0.5):
            P = attention_probabilities(scores * factor)
            tops.append(np.median(P.max(axis=1)))
            slopes.append(np.median((P * (1 - P)).sum(axis=1)))  # how far the scores can still move it
        print(f"{row}{tops[0]:>22.3f}{tops[1]:>10.3f}{slopes[0]:>12.4f}{slopes[1]:>10.4f}")


def random_qkv(n: int, d: int, *leading: int) -> list[Tensor]:
    random = np.random.default_rng(0)
    return [Tensor(random.normal(size=(*leading, n, d)).astype(np.float32)) for _ in range(3)]


def memory() -> dict[str, list[float]]:
    print("\nOne head, d = 32, float32: bytes of the probabilities, and allocated at the forward pass's height")
    print(f"{'n':>6}{'probabilities':>15}{'attention':>13}{'in blocks of 64':>17}{'block_bytes':>13}{'ratio':>8}")
    found: dict[str, list[float]] = {"n": [], "attention": [], "in blocks of 64": []}
    for n in (256, 512, 1024, 2048, 4096):
        Q, K, V = random_qkv(n, 32)
        whole = peak_bytes(lambda: scaled_dot_product_attention(Q, K, V))
        blocks = peak_bytes(lambda: attention_in_blocks(Q, K, V, 64))
        print(
            f"{n:>6,}{probability_bytes(Q.shape, K.shape) / 1e6:>12.2f} MB{whole / 1e6:>10.2f} MB"
            f"{blocks / 1e6:>14.2f} MB{block_bytes(Q.shape, K.shape, 64) / 1e6:>10.2f} MB{whole / blocks:>8.1f}"
        )
        for name, value in (("n", n), ("attention", whole), ("in blocks of 64", blocks)):
            found[name].append(value)
    return found


def arithmetic() -> None:
    print(f"\nMultiHeadAttention(128, 4), forward, one sequence; n² outgrows the layers at n = {crossover_length(128)}")
    print(f"{'n':>6}{'layers':>12}{'n² products':>14}{'n² share':>10}{'time':>12}{'of it attention':>17}")
    layer = MultiHeadAttention(128, 4)
    for n in (64, 128, 256, 512, 1024):
        x, (Q, K, V) = random_qkv(n, 128, 1)[0], random_qkv(n, 32, 1, 4)
        layers, squares = attention_flops(1, n, 128)
        whole, part = medians(lambda: layer(x), lambda: scaled_dot_product_attention(Q, K, V), budget=1)
        print(
            f"{n:>6,}{layers / 1e6:>7,.0f} MFLOP{squares / 1e6:>8,.0f} MFLOP{squares / (layers + squares):>10.0%}"
            f"{whole * 1e3:>9.1f} ms{part / whole:>17.0%}"
        )


def block_sizes() -> None:
    print("\nThe size of a block: 4 heads, n = 1,024, d = 32, causal, float32")
    print(f"{'block':>12}{'time':>12}{'allocated':>14}")
    Q, K, V = random_qkv(1024, 32, 4)
    mask = causal_mask(1024)
    ways: dict[str, Callable[[], Any]] = {
        f"{block:,}": lambda block=block: attention_in_blocks(Q, K, V, block, causal=True)
        for block in (4, 16, 64, 256, 1024)
    }
    ways["all scores"] = lambda: scaled_dot_product_attention(Q, K, V, mask)
    for (name, way), time in zip(ways.items(), medians(*ways.values(), budget=3)):
        print(f"{name:>12}{time * 1e3:>9.1f} ms{peak_bytes(way) / 1e6:>11.2f} MB")


def windows() -> None:
    print("\nPairs of query and key, in millions: everybody, the past alone, and a window of 256 positions")
    print(f"{'n':>8}{'all':>12}{'causal':>12}{'window':>12}{'of causal':>12}")
    for n in (256, 1024, 4096, 32768):
        causal, window = window_pairs(n, n), window_pairs(n, 256)
        print(f"{n:>8,}{n * n / 1e6:>12.2f}{causal / 1e6:>12.2f}{window / 1e6:>12.2f}{window / causal:>12.1%}")


def plot(found: dict[str, list[float]], looks: np.ndarray, x: np.ndarray) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    for name in ("attention", "in blocks of 64"):
        left.loglog(found["n"], np.array(found[name]) / 1e6, "o-", label=name)
    left.set(title="Allocated at the height of a forward pass", xlabel="length n", ylabel="MB")
    left.set_xticks(found["n"], [f"{n:,}" for n in found["n"]])
    left.set_yticks([0.3, 1, 3, 10, 30], ["0.3", "1", "3", "10", "30"])
    left.minorticks_off()
    left.legend()
    right.imshow(looks, cmap="Blues", vmin=0, vmax=1)
    names = x[..., :KINDS].argmax(axis=2)
    for row in range(len(looks)):
        for place in range(PAIRS):
            tone = "white" if looks[row, place] > 0.5 else "black"
            right.text(place, row, f"{names[row, place]}", ha="center", va="center", color=tone, fontsize=9)
    right.set_yticks(range(len(looks)), [f"which is beside {name}?" for name in names[:, PAIRS]])
    right.set_xticks(range(PAIRS + 1), [*(f"{i}" for i in range(PAIRS)), "itself"])
    right.set(title="Where the question looks: names, darker is more", xlabel="position")
    save_plot(figure, __file__)


def main() -> None:
    looks, x = recall()
    scale()
    found = memory()
    arithmetic()
    block_sizes()
    windows()
    plot(found, looks, x)


measure(main)
