"""What counting reaches: n-grams, which tell a character by how often it came after the n - 1 before it.

Two ways to deal with what was hardly ever seen, both by mixing with the shorter n-gram's probability: Witten and Bell
1991, the plain one; Kneser and Ney 1995, the best that is known (interpolated, Chen and Goodman 1999).
"""

from __future__ import annotations

import numpy as np

Counts = tuple[np.ndarray, np.ndarray]  # distinct n-grams, ascending, and how often each came


def codes(text: str, alphabet: str) -> np.ndarray:
    """The place of each character of `text` in `alphabet`, which is sorted."""
    points = lambda of: np.frombuffer(of.encode("utf-32-le"), np.uint32)
    return np.searchsorted(points(alphabet), points(text)).astype(np.int64)


def grams(tokens: np.ndarray, n: int, base: int) -> np.ndarray:
    """Each n tokens in a row as one number, written to `base`: the first token is its first digit."""
    found = np.zeros(len(tokens) - n + 1, np.int64)
    for i in range(n):
        found = found * base + tokens[i : i + len(found)]
    return found


def counted(numbers: np.ndarray) -> Counts:
    """Each number that comes, and how often."""
    return np.unique(numbers, return_counts=True)


def count_of(numbers: np.ndarray, counts: Counts) -> np.ndarray:
    """How often each of `numbers` came, 0 if never."""
    known, times = counts
    place = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
    return np.where(known[place] == numbers, times[place], 0)


def mixed(asked: np.ndarray, counts: Counts, base: int, discount: float | None, shorter: np.ndarray) -> np.ndarray:
    """The probability of the last token of each n-gram in `asked`, given the others.

    What was seen gives up a part of its probability for what was not, to be shared out by `shorter`: `discount` of each
    count, or without it (Witten and Bell) as if each kind of token that followed had come once more.
    """
    histories, first = np.unique(counts[0] // base, return_index=True)
    total = count_of(asked // base, (histories, np.add.reduceat(counts[1], first)))
    kinds = count_of(asked // base, (histories, np.diff(first, append=len(counts[0]))))
    times = count_of(asked, counts)
    if discount is None:
        found = (times + kinds * shorter) / np.maximum(total + kinds, 1)
    else:
        found = (np.maximum(times - discount, 0) + discount * kinds * shorter) / np.maximum(total, 1)
    return np.where(total > 0, found, shorter)


def witten_bell(training: np.ndarray, judged: np.ndarray, base: int, order: int) -> list[float]:
    """Nats a token of `judged`, which follows on `training`, for n-grams with n from 1 to `order`."""
    text, found = np.concatenate([training[len(training) - order + 1 :], judged]), []
    probability = np.full(len(judged), 1 / base)
    for n in range(1, order + 1):
        asked = grams(text, n, base)[-len(judged) :]
        probability = mixed(asked, counted(grams(training, n, base)), base, None, probability)
        found.append(float(-np.log(probability).mean()))
    return found


def kneser_ney(training: np.ndarray, judged: np.ndarray, base: int, order: int) -> float:
    """The same for n = `order`. A shorter n-gram counts after how many different tokens it came, not how often."""
    text = np.concatenate([training[len(training) - order + 1 :], judged])
    probability = np.full(len(judged), 1 / base)
    for n in range(1, order + 1):
        longer = np.unique(grams(training, n + 1, base)) % base**n if n < order else grams(training, n, base)
        counts = counted(longer)
        once, twice = ((counts[1] == times).sum() for times in (1, 2))
        discount = once / (once + 2 * twice) if once else 0.0
        probability = mixed(grams(text, n, base)[-len(judged) :], counts, base, discount, probability)
    return float(-np.log(probability).mean())
