"""Stage 10: the steps of byte-pair encoding: words, pairs of neighbours, merges, and how training finds them.

Words are tuples of tokens. At first these are bytes, 0 to 255; the first merge makes token 256, and so on. From
Sennrich, Haddow and Birch 2016, arXiv:1508.07909; over bytes as in GPT-2 (Radford et al. 2019).
"""

from __future__ import annotations

import heapq
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from tinytorch.text.tokenization import utf8

__all__ = [
    "PairCounts",
    "count_pairs",
    "merge_pair",
    "new_tokens",
    "pre_tokenize",
    "train_by_definition",
    "word_counts",
]

Pair = tuple[int, int]
Word = tuple[int, ...]


def pre_tokenize(text: str) -> list[str]:
    r"""The words of `text`; joined, they are `text` again. No token ever reaches from one word into the next.

    The next word is the first of these that fits, and as long as it can be:

    1. letters, with one space before them or none;
    2. digits, with one space before them or none;
    3. other characters that are no whitespace, with one space before them or none;
    4. whitespace, but for its last character if something else follows, so that a space can go with the next word;
    5. a single character of whitespace.

    Whitespace is what `\s` matches in Python's `re`, digits are what `\d` matches, and letters what `\w` matches but
    for digits and the underscore, which belongs to the others. A space is " " alone.

    >>> pre_tokenize("To be,  or 42?\n")
    ['To', ' be', ',', ' ', ' or', ' 42', '?', '\n']
    """
    return re.findall(r" ?[^\W\d_]+| ?\d+| ?(?:[^\w\s]|_)+|\s+(?!\S)|\s", text)


def word_counts(corpus: str) -> dict[Word, int]:
    """Each different word of `corpus`, as a tuple of its bytes, and how often it occurs.

    >>> word_counts("a ba a")
    {(97,): 1, (32, 98, 97): 1, (32, 97): 1}
    """
    utf8(corpus)  # before the words hide where a lone surrogate stands
    return {tuple(utf8(word)): times for word, times in Counter(pre_tokenize(corpus)).items()}


def new_tokens(vocab_size: int) -> range:
    """The tokens that merges may make, so that there are `vocab_size` with the 256 bytes.

    >>> list(new_tokens(259))
    [256, 257, 258]

    Raises:
        ValueError: `vocab_size` is below 256.
    """
    if vocab_size < 256:
        raise ValueError(f"expected a vocab_size of at least 256, a token for each byte, got {vocab_size}")
    return range(256, vocab_size)


def count_pairs(words: Mapping[Word, int]) -> dict[Pair, int]:
    """How often each pair of neighbours occurs in all words together; only pairs that do occur are in there.

    Neighbours may overlap: (7, 7, 7) holds the pair (7, 7) twice. No pair reaches from one word into another.

    Args:
        words: how often each word occurs.

    >>> count_pairs({(97, 98, 97): 10, (98, 97): 1}) == {(97, 98): 10, (98, 97): 11}
    True
    """
    counts: dict[Pair, int] = {}
    for word, times in words.items():
        for pair in zip(word, word[1:]):
            counts[pair] = counts.get(pair, 0) + times
    return counts


def merge_pair(word: Sequence[int], pair: Pair, new: int) -> Word:
    """A tuple: `word` with the token `new` in place of the two of `pair`, wherever they are neighbours in this order.

    It goes from left to right, and each token is merged once: of (7, 7, 7) the first two are, and the third is left.

    Args:
        word: a tuple or a list of tokens, which stays as it is.

    >>> merge_pair((97, 98, 99, 97, 98), (97, 98), 256)
    (256, 99, 256)
    """
    merged, i = [], 0
    while i < len(word):
        if i + 1 < len(word) and (word[i], word[i + 1]) == pair:
            merged.append(new)
            i += 2
        else:
            merged.append(word[i])
            i += 1
    return tuple(merged)


def train_by_definition(corpus: str, vocab_size: int) -> list[Pair]:
    """The merges of byte-pair encoding, in their order, found just as they are defined.

    Count the pairs in all words of `corpus` (`word_counts`); merge the most frequent pair in every word into the
    next of `new_tokens(vocab_size)`; and so on, until there are no tokens or no pairs left. Of several most frequent
    pairs the smallest is merged, as Python compares tuples: the one whose first token is smaller, or if they are
    the same, whose second is.

    >>> train_by_definition("hug pug pun hug", 259)
    [(117, 103), (32, 112), (104, 256)]

    Raises:
        ValueError: `vocab_size` is below 256, or `corpus` holds a lone surrogate; the helpers say so.
    """
    words, merges = word_counts(corpus), []
    for new in new_tokens(vocab_size):
        counts = count_pairs(words)
        if not counts:
            break
        pair = min(counts, key=lambda pair: (-counts[pair], pair))
        words = {merge_pair(word, pair, new): times for word, times in words.items()}
        merges.append(pair)
    return merges


class PairCounts:
    """The counts of all pairs in some words, kept up to date while pairs are merged.

    Attributes:
        words: a list of the words as they are now; a word's place in it never changes.
        times: for each of them, how often it occurs.
        counts: a dict: how often each pair occurs in all words together; 0 for pairs that are gone.
        where: a dict: for each pair the set of the places of those words that hold it.
    """

    def __init__(self, words: Mapping[Word, int]) -> None:
        self.words, self.times = list(words), list(words.values())
        self.counts: Counter[Pair] = Counter()
        self.where: defaultdict[Pair, set[int]] = defaultdict(set)
        self.changed: set[Pair] = set()  # pairs whose count may have changed since `most_frequent` was asked last
        self.heap: list[tuple[int, Pair]] = []  # for `most_frequent` to keep what it likes
        for place in range(len(self.words)):
            self.add(place)

    def add(self, place: int) -> None:
        """Count in all pairs of the word at `place`."""
        word = self.words[place]
        for pair in zip(word, word[1:]):
            self.counts[pair] += self.times[place]
            self.where[pair].add(place)
            self.changed.add(pair)

    def remove(self, place: int) -> None:
        """Count out all pairs of the word at `place`."""
        word = self.words[place]
        for pair in zip(word, word[1:]):
            self.counts[pair] -= self.times[place]
            self.where[pair].discard(place)
            self.changed.add(pair)

    def merge(self, pair: Pair, new: int) -> None:
        """Merge `pair` into the token `new` in all words, and keep `words`, `counts` and `where` true.

        Of `self.words` only those that hold the pair, `self.where[pair]`, are read or replaced. `self.remove` and
        `self.add` count a word's pairs out and in; both change the sets in `self.where`.

        >>> pairs = PairCounts({(97, 98, 99): 5, (98, 99): 2, (97, 97): 1})
        >>> pairs.merge((98, 99), 256)
        >>> pairs.words, pairs.counts[98, 99], pairs.counts[97, 256]
        ([(97, 256), (256,), (97, 97)], 0, 5)
        """
        for place in list(self.where[pair]):
            self.remove(place)
            self.words[place] = merge_pair(self.words[place], pair, new)
            self.add(place)

    def most_frequent(self) -> Pair | None:
        """The pair that occurs most often, the smallest of several; None if no pair occurs.

        `self.heap`, empty at first, is yours. With it, a call needs to look at few pairs besides `self.changed`,
        those whose count may have changed since the last call, if it empties that set. The answer is right
        whatever was added, removed or merged since then. It changes neither `words` nor `counts` nor `where`.

        >>> PairCounts({(97, 98, 99): 5, (98, 99): 2, (97, 97): 1}).most_frequent()
        (98, 99)
        """
        for pair in self.changed:
            if self.counts[pair]:
                heapq.heappush(self.heap, (-self.counts[pair], pair))
        self.changed.clear()
        while self.heap:
            negative, pair = self.heap[0]
            if self.counts[pair] == -negative:
                return pair
            heapq.heappop(self.heap)  # its count has changed since it was put there
        return None
