"""Stage 10: byte-pair encoding as a tokenizer: trained on a corpus, saved to a file, used on any text."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from tinytorch.text.merges import Pair, PairCounts, merge_pair, new_tokens, pre_tokenize, word_counts
from tinytorch.text.tokenization import Tokenizer, utf8

__all__ = ["BPETokenizer"]


class BPETokenizer(Tokenizer):
    """Tokens for the 256 bytes, and one for each merge of two earlier tokens: token 256 is made by the first merge.

    Any text can be encoded, since any text has bytes.

    Args:
        merges: the pairs of tokens, in their order; none by default, until `train` finds them.

    Attributes:
        merges: a list of these pairs.
        tokens: a dict: the token that each pair is merged into. The smaller it is, the earlier was the merge.
        pieces: a list: the bytes that each token stands for.
        known: a dict for `encode`: the tokens of words that it met. New merges begin with an empty one.

    Raises:
        ValueError: as `set_merges`.
    """

    def __init__(self, merges: Iterable[Pair] = ()) -> None:
        self.set_merges(merges)

    def __len__(self) -> int:
        return len(self.pieces)

    def set_merges(self, merges: Iterable[Pair]) -> None:
        """Make these the merges; if they cannot be, nothing changes.

        Raises:
            ValueError: something is no pair of earlier tokens, or a pair comes twice.
        """
        pieces, tokens = [bytes([byte]) for byte in range(256)], {}
        for pair in map(tuple, merges):
            if len(pair) != 2 or not all(type(token) is int and 0 <= token < len(pieces) for token in pair):
                raise ValueError(f"merge {len(tokens)}: expected two tokens from 0 to {len(pieces) - 1}, got {pair}")
            if pair in tokens:
                raise ValueError(f"merge {len(tokens)}: the pair {pair} comes twice")
            tokens[pair] = len(pieces)
            pieces.append(pieces[pair[0]] + pieces[pair[1]])
        self.merges, self.tokens, self.pieces = list(tokens), tokens, pieces
        self.known: dict[str, list[int]] = {}

    def train(self, corpus: str, vocab_size: int) -> None:
        """Find the merges in `corpus` that make `vocab_size` tokens, or fewer if no pairs are left; forget older ones.

        They are those of `train_by_definition`, and are found by `PairCounts`, which counts anew only where
        something was merged.

        >>> tokenizer = BPETokenizer()
        >>> tokenizer.train("hug pug pun hug", 259)
        >>> tokenizer.merges, tokenizer.pieces[-1]
        ([(117, 103), (32, 112), (104, 256)], b'hug')

        Raises:
            ValueError: as `train_by_definition`; then nothing changes.
        """
        counts, merges = PairCounts(word_counts(corpus)), []
        for new in new_tokens(vocab_size):
            pair = counts.most_frequent()
            if pair is None:
                break
            counts.merge(pair, new)
            merges.append(pair)
        self.set_merges(merges)

    def encode_word(self, word: str) -> list[int]:
        """The tokens of one word, a list: its bytes, merged.

        Of all pairs of neighbours that have a merge, the one whose merge is the earliest is merged first; then the
        same again, until no pair of neighbours has a merge. So the merges come in the order in which training found
        them, whatever the pairs' order in the word.

        >>> BPETokenizer([(98, 99), (97, 98)]).encode_word("abcab")
        [97, 256, 257]

        Raises:
            ValueError: `word` holds a lone surrogate; `utf8` says so.
        """
        tokens = tuple(utf8(word))
        while len(tokens) > 1:
            pair = min(zip(tokens, tokens[1:]), key=lambda pair: self.tokens.get(pair, len(self)))
            if pair not in self.tokens:
                break
            tokens = merge_pair(tokens, pair, self.tokens[pair])
        return list(tokens)

    def encode(self, text: str) -> list[int]:
        """The tokens of all words of `text`, one word after the other, a list.

        A word comes again and again in a long text. `self.encode_word` is asked once for each different word, and
        its answer kept in `self.known`, also for the next text. Who changes the result changes nothing in there.

        >>> BPETokenizer([(98, 99), (97, 98)]).encode("abcab bc")
        [97, 256, 257, 32, 256]

        Raises:
            ValueError: `text` holds a lone surrogate; `utf8` says so.
        """
        utf8(text)  # before the words hide where a lone surrogate stands
        tokens: list[int] = []
        for word in pre_tokenize(text):
            if word not in self.known:
                self.known[word] = self.encode_word(word)
            tokens += self.known[word]
        return tokens

    def decode(self, tokens: Iterable[int]) -> str:
        """The text that has the bytes of these tokens, one after the other. Any tokens in the vocabulary decode.

        Bytes that are no UTF-8, such as half of a character, become U+FFFD, as `errors="replace"` has it. A character's
        bytes may come from several tokens. The tokens may be integers of NumPy, in an array or a list.

        >>> BPETokenizer([(97, 98)]).decode([256, 195, 169, 195])
        'abé\ufffd'

        Raises:
            ValueError: a token is below 0, or `len(self)` or more. The message names it.
        """
        pieces = []
        for token in tokens:
            if not 0 <= token < len(self):  # a list would take -1 for its last element
                raise ValueError(f"BPETokenizer: expected tokens from 0 to {len(self) - 1}, got {token}")
            pieces.append(self.pieces[token])
        return b"".join(pieces).decode("utf-8", errors="replace")

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the merges to the file `path` as JSON, `{"merges": [[117, 103], …]}`, in UTF-8.

        They are written to another file in the same folder, which is then moved to `path` by `os.replace`: at every
        moment there is the old file or the new one, and never half of one. If something goes wrong, the file at
        `path` is what it was. Either way, no other file is left behind.
        """
        path = Path(path)
        temporary = path.with_name(f"{path.name}.tmp")
        try:
            with temporary.open("w", encoding="utf-8") as file:
                json.dump({"merges": self.merges}, file)
                file.flush()
                os.fsync(file.fileno())  # a rename that reaches the disk before the content would leave an empty file
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)

    def load(self, path: str | os.PathLike[str]) -> None:
        """Take over the merges that `save` wrote to `path`, by `set_merges`; forget older ones.

        Raises:
            ValueError: the file is damaged: no UTF-8, no JSON, no object with a list of "merges", or `set_merges`
                refuses them. The message holds the file's name. Then nothing changes.
            FileNotFoundError: there is no such file.
        """
        content = Path(path).read_bytes()
        try:
            merges = json.loads(content.decode("utf-8"))["merges"]
            if not isinstance(merges, list):
                raise ValueError(f"expected a list of merges, got a {type(merges).__name__}")
            self.set_merges(merges)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: no whole file of a BPETokenizer ({error}); train anew and save again") from error
