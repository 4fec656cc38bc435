"""Stage 10, systems: what a vocabulary costs, and what it saves."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tinytorch.text.tokenization import Tokenizer, utf8

__all__ = ["bytes_per_token", "embedding_and_attention_bytes", "merge_saving", "pair_lookups", "utf8_widths"]


def bytes_per_token(tokenizer: Tokenizer, text: str) -> float:
    """How many bytes of `text` in UTF-8 one token of `tokenizer.encode(text)` stands for, on average.

    >>> from tinytorch import BPETokenizer
    >>> bytes_per_token(BPETokenizer([(97, 98)]), "abab")
    2.0

    Raises:
        ValueError: `text` is empty.
    """
    if not text:
        raise ValueError("bytes_per_token: expected a text, got an empty one")
    return len(utf8(text)) / len(tokenizer.encode(text))


def utf8_widths(text: str) -> tuple[int, int, int, int]:
    """How many of the characters of `text` take one, two, three and four bytes in UTF-8, by their code points.

    One byte has room for 7 bits of the code point, two for 11, three for 16, and four for all others. (A str of Python
    is a sequence of code points; `ord` gives one.)

    >>> utf8_widths("naïve €5 🙂")
    (7, 1, 1, 1)
    """
    points = [ord(character) for character in text]
    below = [sum(point < 2**bits for point in points) for bits in (7, 11, 16)]
    return below[0], below[1] - below[0], below[2] - below[1], len(points) - below[2]


def merge_saving(words: Mapping[tuple[int, ...], int], pair: tuple[int, int]) -> int:
    """By how many tokens all words together get shorter if `pair` is merged in them.

    That may be less than the pair's count, since pairs overlap where both of their tokens are the same.

    Args:
        words: how often each word occurs, as in `count_pairs`.

    >>> merge_saving({(97, 97, 97): 10, (98, 97, 97): 1}, (97, 97))
    11
    """
    saved = 0
    for word, times in words.items():
        i = 0
        while i + 1 < len(word):
            found = (word[i], word[i + 1]) == pair
            saved += times * found
            i += 1 + found
    return saved


def embedding_and_attention_bytes(
    vocab_size: int, embed_dim: int, text_bytes: int, bytes_per_token: float, num_heads: int = 1
) -> tuple[int, int]:
    """What a vocabulary costs in a model, and what the shorter text saves: bytes of two float32 arrays.

    The embedding has a row of `embed_dim` numbers for each token of the vocabulary. Attention, which comes in stage
    12, compares each token of a text with each other: a number for each pair of places, for each of `num_heads` heads.

    Args:
        text_bytes: the length of the text in UTF-8.
        bytes_per_token: of the tokenizer; the number of tokens in the text is rounded up.

    Returns:
        (bytes of the embedding, bytes of attention's numbers in one layer).

    >>> embedding_and_attention_bytes(vocab_size=512, embed_dim=128, text_bytes=1000, bytes_per_token=2.0)
    (262144, 1000000)
    """
    tokens = math.ceil(text_bytes / bytes_per_token)
    return 4 * vocab_size * embed_dim, 4 * num_heads * tokens**2


def pair_lookups(length: int, left: int) -> int:
    """How many pairs of neighbours `encode_word` looks up for a word of `length` bytes of which `left` tokens are left.

    Every round looks at all pairs of neighbours that there are, and merges one of them, so that the next round has one
    token less; the last round finds nothing to merge. (Where a pair occurs twice, a round merges both, and there are
    fewer rounds than that.) If a single token is left, nothing is looked at any more.

    >>> pair_lookups(4, 2)  # 3 pairs, then 2, then 1, which has no merge
    6
    """
    return (length * (length - 1) - (left - 1) * (left - 2)) // 2
