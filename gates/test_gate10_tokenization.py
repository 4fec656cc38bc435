"""Gate 10: tokenization."""

import json
import os
from collections import ChainMap, Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from tinytorch import BPETokenizer, CharTokenizer, PairCounts, Tokenizer
from tinytorch.systems import tokenization as systems
from tinytorch.text import bpe, merges, tokenization
from workshop.checks import NOTHING, CheckFailed, count, equal, holds, raises
from workshop.observe import observation
from workshop.tables import Case, Cases, Expression, table

look = Cases(ChainMap(globals(), *map(vars, (tokenization, merges, bpe, systems))))


def digits(value: Any) -> list[float]:
    """All numbers in a value, and the code points of its texts, so that two values can be told apart by numbers."""
    if isinstance(value, str):
        return [len(value), *map(ord, value)]
    if isinstance(value, (dict, set)):
        return digits(sorted(value.items() if isinstance(value, dict) else value, key=repr))
    if isinstance(value, (tuple, list, bytes)):
        return [len(value), *(number for each in value for number in digits(each))]
    return [float(value) if isinstance(value, (int, float, np.number)) else np.nan]


def exactly(got: Any, expected: Any, what: str) -> None:
    """The same number, or the same value of the same kind: a list, a tuple, a text, a dict."""
    count.checks += 1
    kind = (int, float, np.number) if isinstance(expected, (int, float)) else type(expected)
    if not isinstance(got, kind) or got != expected:
        known = isinstance(got, (str, dict, set, tuple, list, bytes, int, float))
        seen = observation(np.array(digits(got))) | {"dtype": type(got).__name__} if known else got
        came = NOTHING if got is None else f"{got!r:.220}"
        given = [f"given     {count.given}"] if count.given else []
        raise CheckFailed([*given, f"expected  {what} = {expected!r:.220}", f"got       {came}"], seen)


def same(text: str, expected: Any, what: str = "") -> Case:
    """A case: the expression `text` is exactly this."""
    return look.case(lambda e: exactly(e(), expected, what or e.text), text)


def each(values: dict[str, Any]) -> list[Case]:
    return [same(text, expected) for text, expected in values.items()]


def after(lines: str, *values: tuple[str, Any]) -> list[Case]:
    """Once the statements `lines` have run, these are the values of some expressions; a case for each."""

    def case(text: str, expected: Any) -> Case:
        def check(e: Expression) -> None:
            count.given, names = lines, dict(look.names)
            exec(compile(lines, "the gate's lines", "exec"), names)
            exactly(eval(e.code, names), expected, text)

        return look.case(check, text)

    return [case(*pair) for pair in values]


def refused(*cases: tuple[Any, ...]) -> list[Case]:
    """A case for each expression: a ValueError whose message mentions what stands behind it."""

    def case(text: str, mentions: list[Any]) -> Case:
        return look.case(lambda e: raises(ValueError, e, e.given, mentions), text)

    return [case(text, mentions) for text, *mentions in cases]


# Texts that bite: joiners, combining marks, right to left, all sorts of whitespace, NUL, a byte order mark
FAMILY, HINDI, HEBREW = "👩‍👩‍👧 👍🏽!", "नमस्ते दुनिया", "\u202bשָׁלוֹם עוֹלָם\u202c 12"
SPACES = "\r\n\t x\x00y\x1c\x1f z\u00a0\u2028\u3000 \u200b\v\f  \n\n  end \n"
MIXED = "\ufeffCafe\u0301 Ⅷ ½ x² ٣٤ __a1_b --\t- 漢字かな,한국어."
EVERY = "".join(map(chr, range(0x2100))) + " " + "".join(f" {chr(point)} {chr(point + 1)}" for point in range(256))
TEXTS = {"FAMILY": FAMILY, "HINDI": HINDI, "HEBREW": HEBREW, "SPACES": SPACES, "MIXED": MIXED, "EVERY": EVERY}


def built(corpus: str, **settings: Any) -> CharTokenizer:
    tokenizer = CharTokenizer(**settings)
    tokenizer.build_vocab(corpus)
    return tokenizer


LETTERS = "CharTokenizer('hé?l🙂')"
ASKED = "CharTokenizer('hélo', unknown={!r})"
FOUND = "tokenizer = CharTokenizer('xyz'); tokenizer.build_vocab('ba')"

test_characters = table(
    ("CharTokenizer.build_vocab", "each character of the corpus once, sorted by code point"),
    same("''.join(built('hello, world').vocab)", " ,dehlorw"),
    same("built('Zebra äÄ 漢a🙂\\n\\0 109').vocab", [*"\0\n 019ZaberÄä漢🙂"]),
    same("built(FAMILY).vocab", [" ", "!", "\u200d", "🏽", "👍", "👧", "👩"]),
    same("built('cab').tokens", {"a": 0, "b": 1, "c": 2}), same("built('').vocab", []),
    ("CharTokenizer.build_vocab", "an older vocabulary is forgotten"),
    *after(FOUND, ("tokenizer.vocab", ["a", "b"]), ("tokenizer.tokens", {"a": 0, "b": 1}), ("len(tokenizer)", 2)),
    ("CharTokenizer.build_vocab", "what stands for unknown characters is the last token, unless it is in the corpus"),
    same("built('b!a', unknown='<?>').vocab", ["!", "a", "b", "<?>"]),
    same("built('b!a', unknown='#').vocab", ["!", "a", "b", "#"]),
    same("built('b?a', unknown='?').vocab", ["?", "a", "b"]),
    ("CharTokenizer.encode", "each character's place in the vocabulary, in a list"),
    same("CharTokenizer('abc').encode('cab')", [2, 0, 1]),
    same(f"{LETTERS}.encode('🙂éh?ll🙂é')", [4, 1, 0, 2, 3, 3, 4, 1]), same(f"{LETTERS}.encode('')", []),
    same("CharTokenizer('\\0\\n a').encode('a \\n\\0a')", [3, 2, 1, 0, 3]),
    ("CharTokenizer.encode", "a character outside of the vocabulary is a ValueError that names it"),
    *refused(("CharTokenizer('abc').encode('caéb')", "'é'"), ("CharTokenizer('abc').encode('\\n')", r"'\n'")),
    *refused(("CharTokenizer('abc').encode('ab C')", "' '"), ("CharTokenizer('b?').encode('a?b')", "'a'")),
    *refused(("CharTokenizer().encode('🙂')", "'🙂'")),
    ("CharTokenizer.encode", "with `unknown`, such a character gets the token of that"),
    same(f"{ASKED.format('?')}.encode('höllö')", [0, 4, 2, 2, 4]),
    same(f"{ASKED.format('<unk>')}.encode('?é🙂')", [4, 1, 4]),
    same("CharTokenizer('?hel', unknown='?').encode('hello')", [1, 2, 3, 3, 0]),
    same("CharTokenizer('h?el', unknown='?').encode('öhellö?')", [1, 0, 2, 3, 3, 1, 1]),
    ("CharTokenizer.decode", "the texts of the tokens, joined"),
    same("CharTokenizer('abc').decode([2, 0, 1])", "cab"), same(f"{LETTERS}.decode([4, 1, 0, 2, 3, 3])", "🙂éh?ll"),
    same("CharTokenizer('ab \\n').decode([0, 2, 3, 2, 1])", "a \n b"),
    same(f"{ASKED.format('<?>')}.decode([0, 4, 2, 4])", "h<?>l<?>"), same(f"{LETTERS}.decode([])", ""),
    ("CharTokenizer.decode", "the tokens may be integers of NumPy, and come one by one"),
    same(f"{LETTERS}.decode(np.array([3, 1, 4]))", "lé🙂"),
    same(f"{LETTERS}.decode([np.int64(2), np.uint8(4)])", "?🙂"),
    same(f"{LETTERS}.decode(token for token in (3, 0))", "lh"),
    ("CharTokenizer.decode", "a token outside of the vocabulary is a ValueError that names it"),
    *refused((f"{LETTERS}.decode([0, 1, 5])", 5), (f"{LETTERS}.decode([-1, 2])", -1)),
    *refused((f"{LETTERS}.decode([-3])", -3), (f"{LETTERS}.decode([2, 417])", 417), ("CharTokenizer().decode([0])", 0)),
)  # fmt: skip


# Words and pairs


def words_of(text: str, *words: str) -> Case:
    return same(f"pre_tokenize({text!r})", list(words))


def kept(name: str) -> Case:
    return look.case(lambda e: exactly("".join(e()), TEXTS[name], "the words of it, joined"), f"pre_tokenize({name})")


ABRA = {(97, 98, 114, 97): 10, (98, 114): 3, (114, 97, 97): 4}
SEVENS = {(7, 7, 7): 5, (7,): 9, (8, 7, 7): 2, (): 3}

test_words = table(
    ("pre_tokenize", "letters are a word, with the space before them"),
    words_of("To be or not", "To", " be", " or", " not"),
    words_of(" über naïve Ωμέγα 漢字かな", " über", " naïve", " Ωμέγα", " 漢字かな"),
    words_of("rattlesnake", "rattlesnake"),
    ("pre_tokenize", "digits are words of their own, with the space before them"),
    words_of("in 1603 or 42", "in", " 1603", " or", " 42"), words_of("x2y 4th ٣٤", "x", "2", "y", " 4", "th", " ٣٤"),
    ("pre_tokenize", "other characters are words of their own, with the space before them; the underscore too"),
    words_of("be, or -- 'tis?!", "be", ",", " or", " --", " '", "tis", "?!"),
    words_of("a_b __init__ _", "a", "_", "b", " __", "init", "__", " _"),
    words_of("_(1,-) $_5", "_(", "1", ",-)", " $_", "5"),
    ("pre_tokenize", "of whitespace the last character is left for what follows; a space then goes with that"),
    words_of("a  b   c", "a", " ", " b", "  ", " c"),
    words_of("a\n\nb\t\t\tc", "a", "\n", "\n", "b", "\t\t", "\t", "c"),
    words_of("a \n b\n  .\n 7", "a", " \n", " b", "\n ", " .", "\n", " 7"),
    words_of("a\u00a0b \u3000c", "a", "\u00a0", "b", " ", "\u3000", "c"),
    ("pre_tokenize", "whitespace at the end is one word"),
    words_of("a \n ", "a", " \n "), words_of("  \t\n", "  \t\n"), words_of("b\n", "b", "\n"), words_of("", *()),
    ("pre_tokenize", "the words joined are the text again, whatever is in it"),
    *map(kept, TEXTS),
    ("count_pairs", "pairs of neighbours in all words, each word as often as it occurs"),
    same("count_pairs(ABRA)", {(97, 98): 10, (98, 114): 13, (114, 97): 14, (97, 97): 4}),
    same("count_pairs({(5, 6, 5, 6, 5): 7})", {(5, 6): 14, (6, 5): 14}),
    same("count_pairs({(300, 301): 2, (301, 300): 3})", {(300, 301): 2, (301, 300): 3}),
    ("count_pairs", "neighbours may overlap; no pair reaches from one word into another"),
    same("count_pairs(SEVENS)", {(7, 7): 12, (8, 7): 2}),
    same("count_pairs({(4, 4, 4, 4): 1, (4, 4): 6})", {(4, 4): 9}),
    same("count_pairs({(1, 2): 3, (3, 4): 5})", {(1, 2): 3, (3, 4): 5}), same("count_pairs({(9,): 8})", {}),
    same("count_pairs({})", {}),
    ("merge_pair", "the new token in place of the two, wherever they are neighbours"),
    same("merge_pair((97, 98, 99, 97, 98), (97, 98), 256)", (256, 99, 256)),
    same("merge_pair((5, 6, 5, 6, 5), (5, 6), 300)", (300, 300, 5)),
    same("merge_pair((5, 6, 5, 6, 5), (6, 5), 300)", (5, 300, 300)),
    same("merge_pair((256, 97, 256), (97, 256), 257)", (256, 257)), same("merge_pair((3, 4), (3, 4), 256)", (256,)),
    ("merge_pair", "from left to right, each token once"),
    same("merge_pair((7, 7, 7), (7, 7), 256)", (256, 7)), same("merge_pair((7, 7, 7, 7), (7, 7), 256)", (256, 256)),
    same("merge_pair((8, 7, 7, 7, 7, 7, 8), (7, 7), 256)", (8, 256, 256, 7, 8)),
    ("merge_pair", "what is no such pair stays: the other order, one of the two alone, what stands further apart"),
    same("merge_pair((98, 97, 99), (97, 98), 256)", (98, 97, 99)),
    same("merge_pair((97, 99, 98, 97), (97, 98), 256)", (97, 99, 98, 97)),
    same("merge_pair((97,), (97, 97), 256)", (97,)), same("merge_pair((), (97, 98), 256)", ()),
    ("merge_pair", "a list of tokens does too, and stays as it is"),
    same("merge_pair([5, 6, 7, 5, 6], (5, 6), 300)", (300, 7, 300)),
    *after("word = [9, 5, 6, 7]; merge_pair(word, (5, 6), 300)", ("word", [9, 5, 6, 7])),
)  # fmt: skip


# Training

# The merges by the definition; tests/test_tokenization.py finds the same ones by a program that shares nothing with the
# package. In each text many pairs occur equally often.
TIES = "ab ba ab ba cd dc abba baab"
TIES_MERGES = [(97, 98), (98, 97), (32, 257), (32, 256), (32, 99), (32, 100), (258, 256), (259, 257), (260, 100)]
TIES_MERGES += [(261, 99)]  # after that, every word is one token
RHYME = "how much wood would a woodchuck chuck if a woodchuck could chuck wood"
RHYME_MERGES = [(32, 119), (99, 104), (256, 111), (99, 107), (111, 100), (117, 259), (257, 261), (258, 260), (32, 97)]
RHYME_MERGES += [(32, 262), (108, 100), (117, 266), (263, 262), (32, 99)]
ACCENTS = "été thé café, été! 你好 你们好 🙂🙂"
ACCENTS_MERGES = [(195, 169), (32, 228), (116, 256), (153, 130), (159, 259), (165, 189), (189, 160), (229, 261)]
ACCENTS_MERGES += [(240, 260), (256, 258), (257, 262), (32, 99)]
LAUGH = "aaaa aaa aa haha hahaha ahah"
LAUGH_MERGES = [(97, 97), (104, 97), (257, 257), (32, 256), (32, 258), (32, 97), (256, 256), (257, 104), (259, 97)]
LAUGH_MERGES += [(260, 257), (261, 263)]


def trained(corpus: str, vocab_size: int, before: Any = ()) -> BPETokenizer:
    tokenizer = BPETokenizer(before)
    tokenizer.train(corpus, vocab_size)
    return tokenizer


def state(pairs: PairCounts) -> tuple[Any, ...]:
    """The words, the counts that are not 0, and the places that are some."""
    counts = {pair: times for pair, times in pairs.counts.items() if times}
    return list(pairs.words), counts, {pair: set(places) for pair, places in pairs.where.items() if places}


def becomes(words: dict[Any, int], merges: list[Any], *expected: tuple[int, ...]) -> Case:
    """A case: after these merges, of which the first makes token 256, words, counts and places are those."""
    counts, where = Counter(), defaultdict(set)
    for place, (word, times) in enumerate(zip(expected, words.values())):
        for pair in zip(word, word[1:]):
            counts[pair] += times
            where[pair].add(place)

    def check(e: Expression) -> None:
        pairs = e()
        for new, pair in enumerate(merges, 256):
            pairs.merge(pair, new)
        count.given += f", then merge of {', '.join(map(str, merges))}"
        found, found_counts, found_places = state(pairs)
        exactly(found, list(expected), "words")
        exactly(*differing(found_counts, counts), "counts, where they differ,")
        exactly(*differing(found_places, where), "places, where they differ,")

    return look.case(check, f"PairCounts({words})")


def differing(got: dict[Any, Any], right: dict[Any, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """What is not the same in two dicts, or not in both."""
    return tuple({k: v for k, v in some.items() if got.get(k) != right.get(k)} for some in (got, right))


class Watched(list):
    """A list that notes which places are looked at or replaced."""

    def __init__(self, values: Any) -> None:
        super().__init__(values)
        self.places: set[int] = set()

    def __iter__(self) -> Iterator[Any]:
        self.places |= set(range(len(self)))
        return super().__iter__()

    def __getitem__(self, place: Any) -> Any:
        self.places.add(place)
        return super().__getitem__(place)

    def __setitem__(self, place: Any, value: Any) -> None:
        self.places.add(place)
        super().__setitem__(place, value)


def looked_at(words: Any, pair: tuple[int, int]) -> list[int]:
    """The places of the words that a merge looks at."""
    pairs = PairCounts(words)
    pairs.words = Watched(pairs.words)
    pairs.merge(pair, 256)
    return sorted(pairs.words.places)


def replace(pairs: PairCounts, place: int, word: tuple[int, ...]) -> None:
    pairs.remove(place)
    pairs.words[place] = word
    pairs.add(place)


def answers(words: Any, *changes: tuple[int, tuple[int, ...]]) -> list[Any]:
    """The most frequent pair at first, and after each change of a word."""
    pairs = PairCounts(words)
    found = [pairs.most_frequent()]
    for change in changes:
        replace(pairs, *change)
        found.append(pairs.most_frequent())
    return found


def untouched(words: Any) -> tuple[Any, ...]:
    """The state of PairCounts(words) after it was asked for the most frequent pair twice."""
    pairs = PairCounts(words)
    pairs.most_frequent(), pairs.most_frequent()
    return state(pairs)


HUG = {(104, 117, 103): 10, (112, 117, 103): 5, (104, 117, 103, 115): 5, (98, 117, 110): 4}
TWICE = {(1, 2, 3, 1, 2): 5, (1, 2): 2, (3, 1, 3): 1, (2, 1): 4}
TIED = {(9, 1): 3, (2, 8): 3, (2, 7): 3, (3, 3): 2}
CHANGES = "(0, (98, 117)), (2, (104, 256, 115)), (1, (117, 103))"
UP_AND_DOWN = "(0, (2, 7)), (0, (9, 1)), (2, (3, 3, 3)), (1, (9,)), (0, ()), (3, (5,)), (2, (6,))"
TRAIN = "tokenizer = BPETokenizer([(120, 121), (256, 256)]); tokenizer.known['x'] = [7]; tokenizer.train(RHYME, 259)"
REFUSED = "tokenizer = BPETokenizer([(97, 98)])\nwith suppress(ValueError): tokenizer.train({})"

test_training = table(
    ("train_by_definition", "the merges of four texts, in their order"),
    same("train_by_definition(RHYME, 270)", RHYME_MERGES), same("train_by_definition(ACCENTS, 268)", ACCENTS_MERGES),
    same("train_by_definition(LAUGH, 267)", LAUGH_MERGES), same("train_by_definition(TIES, 266)", TIES_MERGES),
    ("train_by_definition", "of several most frequent pairs the smallest"),
    same("train_by_definition('ba dc', 257)", [(32, 100)]),
    same("train_by_definition('zy xw', 258)", [(32, 120), (122, 121)]),
    same("train_by_definition('cb ca', 258)", [(32, 99), (99, 98)]),
    ("train_by_definition", "as many merges as make vocab_size tokens; fewer if no pairs are left"),
    same("train_by_definition(RHYME, 256)", []), same("train_by_definition(RHYME, 259)", RHYME_MERGES[:3]),
    same("train_by_definition(TIES, 300)", TIES_MERGES), same("train_by_definition('a b', 300)", [(32, 98)]),
    same("train_by_definition('', 300)", []),
    ("train_by_definition", "fewer tokens than bytes, or a lone surrogate, is a ValueError"),
    *refused(("train_by_definition(RHYME, 255)", 256, 255), ("train_by_definition('a\\ud83d b', 300)", r"\ud83d")),
    ("PairCounts.merge", "the pair is merged in all words, and counts and places are those of the words now"),
    becomes(HUG, [(117, 103)], (104, 256), (112, 256), (104, 256, 115), (98, 117, 110)),
    becomes(HUG, [(117, 103), (104, 256)], (257,), (112, 256), (257, 115), (98, 117, 110)),
    becomes(TWICE, [(1, 2)], (256, 3, 256), (256,), (3, 1, 3), (2, 1)),
    becomes(TWICE, [(3, 1), (256, 2)], (1, 2, 257), (1, 2), (256, 3), (2, 1)),
    ("PairCounts.merge", "also where a pair overlaps itself, and where it occurs nowhere"),
    becomes({(7, 7, 7): 2, (7, 7, 8, 7, 7): 3}, [(7, 7)], (256, 7), (256, 8, 256)),
    becomes({(7, 7, 7): 2, (8, 7): 3}, [(7, 8)], (7, 7, 7), (8, 7)),
    ("PairCounts.merge", "no word is looked at but those that hold the pair"),
    same("looked_at(HUG, (117, 103))", [0, 1, 2]),
    same("looked_at({(1, place): 1 for place in range(50)}, (1, 17))", [17]), same("looked_at(TWICE, (3, 1))", [0, 2]),
    same("looked_at(TWICE, (3, 3))", []),
    ("PairCounts.most_frequent", "the pair with the largest count; of several the smallest"),
    same("answers(HUG)", [(117, 103)]), same("answers(TIED)", [(2, 7)]),
    same("answers({(300, 4): 1, (4, 300): 1, (5, 1): 1})", [(4, 300)]),
    same("answers({(2, 7): 3, (9, 1): 3, (2, 8): 3})", [(2, 7)]), same("answers({(7, 7, 7): 2, (1, 2): 3})", [(7, 7)]),
    ("PairCounts.most_frequent", "None if no pair occurs"),
    same("answers({(5,): 3, (): 2, (6,): 1})", [None]), same("answers({})", [None]),
    same("answers({(5, 6): 3}, (0, (256,)))", [(5, 6), None]),
    ("PairCounts.most_frequent", "it is right after words have changed, also if a count fell and rose again"),
    same(f"answers(HUG, {CHANGES})", [(117, 103), (98, 117), (98, 117), (98, 117)]),
    same(f"answers(TIED, {UP_AND_DOWN})", [(2, 7), (2, 7), (2, 7), (3, 3), (3, 3), (3, 3), (3, 3), None]),
    same("answers({(5, 6): 3, (6, 5): 1}, (0, (6, 5)), (0, (5, 6)))", [(5, 6), (6, 5), (5, 6)]),
    ("PairCounts.most_frequent", "asking changes neither words nor counts nor places"),
    *(same(f"untouched({name})", state(PairCounts(words))) for name, words in {"HUG": HUG, "TIED": TIED}.items()),
    ("BPETokenizer.train", "the merges of the definition"),
    same("trained(RHYME, 270).merges", RHYME_MERGES), same("trained(ACCENTS, 268).merges", ACCENTS_MERGES),
    same("trained(LAUGH, 267).merges", LAUGH_MERGES), same("trained(RHYME, 256).merges", []),
    ("BPETokenizer.train", "fewer if no pairs are left"),
    same("trained(TIES, 300).merges", TIES_MERGES), same("trained('a', 300).merges", []),
    ("BPETokenizer.train", "the tokens are made anew from the merges, and older ones are forgotten"),
    *after(TRAIN, ("tokenizer.pieces[256:]", [b" w", b"ch", b" wo"]), ("tokenizer.merges", RHYME_MERGES[:3])),
    *after(TRAIN, ("tokenizer.tokens[256, 111]", 258), ("len(tokenizer)", 259), ("tokenizer.known", {})),
    ("BPETokenizer.train", "fewer tokens than bytes, or a lone surrogate, is a ValueError, and changes nothing"),
    *refused(("trained(RHYME, 200)", 256, 200), ("trained('a\\udc00 b', 300)", r"\udc00")),
    *after(REFUSED.format("RHYME, 255"), ("tokenizer.merges", [(97, 98)])),
    *after(REFUSED.format("'a b \\ud83d', 260"), ("tokenizer.merges", [(97, 98)])),
)  # fmt: skip


# Encoding and decoding

CAB = "BPETokenizer([(98, 99), (97, 98), (257, 256), (99, 97)])"
LATE = "BPETokenizer([(97, 98), (99, 100), (98, 99), (256, 257), (258, 258)])"
EIGHT = "BPETokenizer([(97, 97), (256, 256), (257, 257), (257, 97)])"
EURO = "BPETokenizer([(226, 130), (256, 172), (240, 159), (153, 130), (258, 259)])"  # parts of €, and of 🙂


class Asking(dict):
    """The tokens of pairs, for those who stop asking for them some day: of a loop that never ends, an error."""

    asked = 0

    def note(self) -> None:
        self.asked += 1
        if self.asked > 5000:
            raise RecursionError("self.tokens was asked 5,000 times for one short text: a loop that never ends")

    def __getitem__(self, pair: Any) -> int:
        self.note()
        return super().__getitem__(pair)

    def __contains__(self, pair: Any) -> bool:
        self.note()
        return super().__contains__(pair)

    def get(self, pair: Any, other: Any = None) -> Any:
        self.note()
        return super().get(pair, other)


def coded(text: str, expected: list[int]) -> Case:
    """A case: a tokenizer's `encode` or `encode_word` gives just these tokens."""
    return look.case(lambda e: exactly(eval(e.code, {**look.names, "BPETokenizer": Patient}), expected, e.text), text)


class Patient(BPETokenizer):
    """A BPETokenizer, but for loops that never end."""

    def set_merges(self, merges: Any) -> None:
        super().set_merges(merges)
        self.tokens = Asking(self.tokens)


class Asked(BPETokenizer):
    """Notes the words that it is asked for."""

    asked: tuple[str, ...] = ()

    def encode_word(self, word: str) -> list[int]:
        self.asked += (word,)
        return [len(word), ord(word[-2]), 256 + ord(word[-1])]


BE, OR, TO, DO = ([3, ord(word[0]), 256 + ord(word[1])] for word in ("be", "or", "to", "do"))
TO_BE_OR_TO_DO_TO = [2, *TO[1:], *BE, *OR, *TO, *DO, *TO]
ENCODE = "tokenizer = Asked(); tokens = tokenizer.encode('to be or to do to')"
AGAIN = ENCODE + "; more = tokenizer.encode(' be to to')"
TAINT = "tokenizer = Asked(); tokenizer.encode('to').append(9); tokenizer.encode('to be')[0] = 9"
ANEW = "tokenizer = Patient([(97, 98)]); tokenizer.encode('ab'); tokenizer.set_merges([(98, 97)])"

test_coding = table(
    ("BPETokenizer.encode_word", "the earliest merge comes first, wherever its pair stands in the word"),
    coded("BPETokenizer([(98, 99), (97, 98)]).encode_word('abcab')", [97, 256, 257]),
    coded("BPETokenizer([(97, 98), (98, 99)]).encode_word('abcab')", [256, 99, 256]),
    coded(f"{CAB}.encode_word('cabbcca')", [99, 258, 259]), coded(f"{CAB}.encode_word('acab')", [97, 99, 257]),
    coded(f"{LATE}.encode_word('abcdbcbc')", [259, 260]), coded(f"{LATE}.encode_word('bcdabcd')", [98, 257, 259]),
    ("BPETokenizer.encode_word", "merges of merges; the same pair from left to right, until nothing can be merged"),
    coded(f"{EIGHT}.encode_word('a' * 8)", [258]), coded(f"{EIGHT}.encode_word('a' * 15)", [258, 257, 256, 97]),
    coded(f"{EIGHT}.encode_word('aaabaaaaa')", [256, 97, 98, 259]), coded(f"{EIGHT}.encode_word('aaaaa')", [259]),
    ("BPETokenizer.encode_word", "bytes in UTF-8 where there is no merge"),
    coded("BPETokenizer().encode_word('é€🙂\\0')", [195, 169, 226, 130, 172, 240, 159, 153, 130, 0]),
    coded(f"{EURO}.encode_word('🙂€é')", [260, 257, 195, 169]), coded(f"{CAB}.encode_word('xyz')", [120, 121, 122]),
    coded(f"{CAB}.encode_word('c')", [99]), coded(f"{CAB}.encode_word('')", []),
    ("BPETokenizer.encode_word", "a lone surrogate is a ValueError that shows it"),
    *refused((f"{CAB}.encode_word('ab\\ud83d')", r"\ud83d"), ("BPETokenizer().encode_word('\\udfff')", r"\udfff")),
    ("BPETokenizer.encode", "the tokens of all words, one after the other"),
    coded(f"{CAB}.encode('abbc ab ca')", [258, 32, 257, 32, 259]),
    coded("BPETokenizer([(97, 32), (32, 97), (98, 44)]).encode('a a b, a')", [97, 257, 32, 98, 44, 257]),
    coded(f"{EURO}.encode('🙂 €5')", [260, 32, 257, 53]), coded(f"{CAB}.encode('')", []),
    ("BPETokenizer.encode", "each different word is worked out once, also for the next text"),
    *after(ENCODE, ("sorted(tokenizer.asked)", [" be", " do", " or", " to", "to"]), ("tokens", TO_BE_OR_TO_DO_TO)),
    *after(AGAIN, ("sorted(tokenizer.asked)", [" be", " do", " or", " to", "to"]), ("more", [*BE, *TO, *TO])),
    *after(AGAIN, ("sorted(tokenizer.known)", [" be", " do", " or", " to", "to"])),
    ("BPETokenizer.encode", "who changes the result, or the merges, gets no other tokens of the next text"),
    *after(TAINT, ("tokenizer.encode('to be to')", [2, *TO[1:], *BE, *TO])),
    *after(ANEW, ("tokenizer.encode('ab ba')", [97, 98, 32, 256])),
    ("BPETokenizer.encode", "a lone surrogate is a ValueError that shows it"),
    *refused(("BPETokenizer().encode('ab \\ud83d')", r"\ud83d"), (f"{CAB}.encode('\\udc00ab')", r"\udc00")),
    ("BPETokenizer.decode", "the bytes of all tokens make the text; a character may come from several tokens"),
    same("BPETokenizer([(97, 98)]).decode([256, 32, 256, 99])", "ab abc"),
    same(f"{EURO}.decode([260, 226, 130, 172, 240, 159, 259, 256, 172])", "🙂€🙂€"),
    same(f"{EIGHT}.decode([258, 33, 257])", "aaaaaaaa!aaaa"), same("BPETokenizer().decode([])", ""),
    ("BPETokenizer.decode", "any text comes back from its bytes"),
    *(same(f"BPETokenizer().decode(list({name}.encode('utf-8')))", text) for name, text in TEXTS.items()),
    ("BPETokenizer.decode", "bytes that are no UTF-8 become U+FFFD"),
    same("BPETokenizer([(97, 98)]).decode([256, 195, 256])", "ab\ufffdab"),
    same(f"{EURO}.decode([256, 97])", "\ufffda"),
    same("BPETokenizer().decode([255, 65, 128, 195])", "\ufffdA\ufffd\ufffd"),
    same("BPETokenizer().decode([237, 160, 189])", "\ufffd\ufffd\ufffd"),
    ("BPETokenizer.decode", "the tokens may be integers of NumPy, and come one by one"),
    same(f"{EURO}.decode(np.array([260, 65]))", "🙂A"), same(f"{EURO}.decode([np.int64(257), np.uint8(66)])", "€B"),
    same(f"{EURO}.decode(token for token in (67, 257))", "C€"),
    ("BPETokenizer.decode", "a token outside of the vocabulary is a ValueError that names it"),
    *refused((f"{EURO}.decode([65, 261])", 261), (f"{EURO}.decode([-1, 65])", -1)),
    *refused(("BPETokenizer().decode([256])", 256), (f"{CAB}.decode([97, 5000, 98])", 5000)),
)  # fmt: skip


# Files


@contextmanager
def folder_with(content: str | bytes | None) -> Iterator[Path]:
    """A folder with the file tokens.json in it, whose path is given; without one if the content is None."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokens.json"
        if content is not None:
            path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
        yield path


def read(path: Path) -> Any:
    content = path.read_bytes().decode("utf-8")
    with suppress(ValueError):
        return json.loads(content)
    return content


def saves(text: str, before: str | None, kind: Callable[[Path], Any] = Path) -> Case:
    """A case: `save` writes the merges as JSON, and leaves nothing else in the folder."""

    def check(e: Expression) -> None:
        with folder_with(before) as path:
            tokenizer = e()
            tokenizer.save(kind(path))
            holds(os.listdir(path.parent) == [path.name], "tokens.json alone in its folder", os.listdir(path.parent))
            exactly(read(path), {"merges": [list(pair) for pair in tokenizer.merges]}, "the JSON in the file")

    return look.case(check, text)


def not_written_over(e: Expression) -> None:
    with folder_with("the old file") as path:
        old = path.with_name("the old file's other name")
        os.link(path, old)
        e().save(path)
        exactly(read(path), {"merges": [[97, 98]]}, "the JSON in the file")
        given = "who has the old file open, or by another name, finds it as it was: another file comes to its place"
        equal(old.read_text(encoding="utf-8"), "the old file", given)


def fails_to_save(e: Expression) -> None:
    with folder_with("the old file") as path:
        tokenizer = e()
        tokenizer.merges = [(97, 98), (99, object())]  # of which no JSON can be made
        raises(TypeError, lambda: tokenizer.save(path), "merges of which no JSON can be made, saved over a file")
        holds(os.listdir(path.parent) == [path.name], "tokens.json alone in its folder", os.listdir(path.parent))
        equal(path.read_text(encoding="utf-8"), "the old file", "the file's content after an error")


def loads(content: str, expected: list[Any], kind: Callable[[Path], Any] = Path) -> Case:
    """A case: these merges are in a file."""

    def check(e: Expression) -> None:
        with folder_with(content) as path:
            tokenizer = e()
            tokenizer.load(kind(path))
            exactly(tokenizer.merges, expected, "its merges")
            equal(len(tokenizer.pieces), 256 + len(expected), "how many pieces it has")

    return look.case(check, CAB)


def damaged(content: str | bytes) -> Case:
    """A case: a file with this content is refused by its name, and nothing changes."""

    def check(e: Expression) -> None:
        with folder_with(content) as path:
            tokenizer = e()
            tokenizer.known["ab"] = [256]
            raises(ValueError, lambda: tokenizer.load(path), f"load a file with {content!r:.60}", ["tokens.json"])
            exactly(tokenizer.merges, [(97, 98)], "its merges after that")
            exactly(tokenizer.pieces[255:], [b"\xff", b"ab"], "its pieces after that")

    return look.case(check, "BPETokenizer([(97, 98)])")


def missing(e: Expression) -> None:
    with folder_with(None) as path:
        raises(FileNotFoundError, lambda: e().load(path), "load a file that is not there")


LINES = '{"merges":\n [[104, 117],\n  [256, 103]]\n}\n'
BROKEN = ['{"merges": [[99, 100], [256', "", "no JSON", b'{"merges": [[99, 100]], "\xff\xfe": 1}', "[[99, 100]]", "7"]
NO_MERGES = ["{}", '{"merges": 3}', '{"merges": {}}', '{"merges": null}', '{"merges": ""}', '{"tokens": [[99, 100]]}']
NOT_THESE = ["[99, 100], [257, 99]", "[99, 100], [99, 100]", "[99, 100], [1, 2, 3]", '[99, 100], ["a", "b"]', "97, 98"]
NOT_THESE += ["[99, 100], [-1, 98]", "[99, 100], [98.0, 98]"]

test_files = table(
    ("BPETokenizer.save", "the merges as JSON, and no other file beside it"),
    saves("BPETokenizer([(117, 103), (104, 256)])", None),
    saves("BPETokenizer([(97, 98)])", "an older file, which is longer than the new one" * 9),
    saves("BPETokenizer()", None), saves(LATE, None, str),
    ("BPETokenizer.save", "an older file is replaced, not written over"),
    look.case(not_written_over, "BPETokenizer([(97, 98)])"),
    ("BPETokenizer.save", "if something goes wrong, the file is what it was, and no other one is left behind"),
    look.case(fails_to_save, "BPETokenizer([(97, 98)])"),
    ("BPETokenizer.load", "the merges in the file, in place of older ones"),
    loads('{"merges": [[104, 117], [256, 103]]}', [(104, 117), (256, 103)]),
    loads(LINES, [(104, 117), (256, 103)], str), loads('{"merges": []}', []),
    ("BPETokenizer.load", "a file that is not whole is a ValueError with its name, and changes nothing"),
    *map(damaged, BROKEN),
    ("BPETokenizer.load", "JSON without a list of merges is a ValueError with the file's name, and changes nothing"),
    *map(damaged, NO_MERGES),
    ("BPETokenizer.load", "merges that cannot be are a ValueError with the file's name, and change nothing"),
    *(damaged(f'{{"merges": [{pairs}]}}') for pairs in NOT_THESE),
    ("BPETokenizer.load", "a file that is not there is a FileNotFoundError"),
    look.case(missing, "BPETokenizer()"),
)  # fmt: skip


# Systems


class Thirds(Tokenizer):
    """A token for every three characters, or part of three."""

    def encode(self, text: str) -> list[int]:
        return [7] * ((len(text) + 2) // 3)


EDGES = "\0\x7f\x80\u07ff\u0800\uffff\U00010000\U0010ffff"
COSTS = {
    "512, 128, 1000, 2.0": (262144, 1000000),
    "256, 64, 1000, 1.0": (65536, 4000000),
    "1024, 128, 1000, 3.0, 4": (524288, 4 * 4 * 334**2),
    "50257, 768, 4096, 4.0, num_heads=12": (154389504, 50331648),
    "300, 8, 10, 4.0": (9600, 36),
}

test_systems = table(
    ("bytes_per_token", "bytes in UTF-8 for each token, not characters"),
    *each({"bytes_per_token(Thirds(), 'abcdef')": 3.0, "bytes_per_token(Thirds(), 'abcde')": 2.5}),
    *each({"bytes_per_token(Thirds(), 'é€🙂')": 9.0, "bytes_per_token(Thirds(), '漢字です' * 3)": 9.0}),
    ("bytes_per_token", "an empty text is a ValueError"),
    *refused(("bytes_per_token(Thirds(), '')",)),
    ("utf8_widths", "how many characters take one, two, three and four bytes"),
    *each({"utf8_widths('naïve €5 🙂')": (7, 1, 1, 1), "utf8_widths('')": (0, 0, 0, 0)}),
    *each({"utf8_widths(EDGES)": (2, 2, 2, 2), "utf8_widths(HINDI)": (1, 0, 12, 0)}),
    *each({"utf8_widths(FAMILY)": (2, 0, 2, 5)}),
    *each({"utf8_widths('привет, мир')": (2, 9, 0, 0), "utf8_widths(EDGES[2:7] * 3)": (0, 6, 6, 3)}),
    ("merge_saving", "a token less for each place where the pair is merged, in each word as often as it occurs"),
    *each({"merge_saving(HUG, (117, 103))": 20, "merge_saving(TWICE, (1, 2))": 12, "merge_saving(TWICE, (2, 3))": 5}),
    *each({"merge_saving(HUG, (103, 117))": 0, "merge_saving({(5,): 7, (): 2}, (5, 5))": 0}),
    ("merge_saving", "where a pair overlaps itself, less than its count"),
    *each({"merge_saving({(7, 7, 7): 10, (8, 7, 7): 1}, (7, 7))": 11, "merge_saving({(7,) * 9: 3}, (7, 7))": 12}),
    *each({"merge_saving({(7, 7, 7, 8, 7, 7, 7, 7): 2}, (7, 7))": 6}),
    ("embedding_and_attention_bytes", "a row for each token of the vocabulary, and a number for each pair of places"),
    *(same(f"embedding_and_attention_bytes({arguments})", expected) for arguments, expected in COSTS.items()),
    ("pair_lookups", "all pairs of each round, in which one of them is merged, and of a last one without a merge"),
    *each({"pair_lookups(4, 2)": 6, "pair_lookups(10, 4)": 42, "pair_lookups(7, 7)": 6}),
    *each({"pair_lookups(1000, 300)": 454949}),
    ("pair_lookups", "if a single token is left there is no pair to look at any more"),
    *each({"pair_lookups(4, 1)": 6, "pair_lookups(100, 1)": 4950, "pair_lookups(2, 1)": 1, "pair_lookups(1, 1)": 0}),
)  # fmt: skip
