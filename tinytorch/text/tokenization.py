"""Stage 10: tokenizers, which turn a text into numbers and back; the one that has a token for each character."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["CharTokenizer", "Tokenizer", "utf8"]


def utf8(text: str) -> bytes:
    """The bytes of `text` in UTF-8, one to four for each character.

    >>> list(utf8("aé"))
    [97, 195, 169]

    Raises:
        TypeError: `text` is no string.
        ValueError: it holds a lone surrogate: half of a character in UTF-16, which is no character.
    """
    if not isinstance(text, str):
        raise TypeError(f"expected a text, a str, got a {type(text).__name__}")
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            f"the text holds {text[error.start]!r} at position {error.start}: a lone surrogate, half of a character "
            "in UTF-16, which is no character and has no bytes in UTF-8; remove it, or read the text anew"
        ) from error


class Tokenizer:
    """Turns a text into tokens, integers from 0 up to, not including, `len(tokenizer)`, and tokens into a text."""

    def encode(self, text: str) -> list[int]:
        """The tokens of `text`."""
        raise TypeError(f"{type(self).__name__} defines no encode")

    def decode(self, tokens: Iterable[int]) -> str:
        """The text that `tokens` stand for."""
        raise TypeError(f"{type(self).__name__} defines no decode")

    def __len__(self) -> int:
        """How many tokens there are."""
        raise TypeError(f"{type(self).__name__} defines no __len__")


class CharTokenizer(Tokenizer):
    """A token for each character of its vocabulary: its place in there.

    Args:
        vocab: the characters, such as "abc" or a list; none by default, until `build_vocab` finds them.
        unknown: a text such as "?" that stands for each character outside of the vocabulary. If it is no character
            of the vocabulary it becomes one more token, the last. By default such a character is an error.

    Attributes:
        vocab: a list: the text of each token.
        tokens: a dict: the token of each text in `vocab`.
        unknown: that text, or None.

    Raises:
        ValueError: something in `vocab` is no single character, is a lone surrogate, or comes twice.
    """

    def __init__(self, vocab: Iterable[str] | None = None, unknown: str | None = None) -> None:
        self.unknown = unknown
        self.set_vocab(() if vocab is None else vocab)

    def __len__(self) -> int:
        return len(self.vocab)

    def set_vocab(self, characters: Iterable[str]) -> None:
        """Make these characters the vocabulary, in this order, with `unknown` behind them if it is another one."""
        vocab = list(characters)
        for character in vocab:
            if not isinstance(character, str) or len(character) != 1:
                raise ValueError(f"CharTokenizer: expected single characters in the vocabulary, got {character!r}")
        utf8("".join(vocab))
        if len(set(vocab)) < len(vocab):
            twice = next(character for character in vocab if vocab.count(character) > 1)
            raise ValueError(f"CharTokenizer: {twice!r} comes twice in the vocabulary")
        if self.unknown is not None and self.unknown not in vocab:
            vocab.append(self.unknown)
        self.vocab = vocab
        self.tokens = {text: token for token, text in enumerate(vocab)}

    def build_vocab(self, corpus: str) -> None:
        """Make the characters of `corpus` the vocabulary, by `self.set_vocab`: each once, sorted by code point.

        So it is the same one on every machine, whatever the characters' order in the corpus. What was in the
        vocabulary before is forgotten.

        >>> tokenizer = CharTokenizer()
        >>> tokenizer.build_vocab("hello, world")
        >>> "".join(tokenizer.vocab)
        ' ,dehlorw'
        """
        # >>> stage 10: your code
        raise NotImplementedError("stage 10: CharTokenizer.build_vocab is yours to write, see stages/10_tokenization/README.md")
        # <<<

    def encode(self, text: str) -> list[int]:
        """The token of each character, a list of ints.

        A character outside of the vocabulary gets the token of `self.unknown`, if there is one.

        >>> CharTokenizer("abc").encode("cab")
        [2, 0, 1]

        Raises:
            ValueError: a character is not in the vocabulary, and there is no `unknown`. The message holds the
                character as `repr` writes it.
        """
        # >>> stage 10: your code
        raise NotImplementedError("stage 10: CharTokenizer.encode is yours to write, see stages/10_tokenization/README.md")
        # <<<

    def decode(self, tokens: Iterable[int]) -> str:
        """The texts of these tokens, joined. The tokens may be integers of NumPy, in an array or a list.

        >>> CharTokenizer("abc").decode([2, 0, 1])
        'cab'

        Raises:
            ValueError: a token is below 0, or `len(self)` or more. The message names it.
        """
        # >>> stage 10: your code
        raise NotImplementedError("stage 10: CharTokenizer.decode is yours to write, see stages/10_tokenization/README.md")
        # <<<
