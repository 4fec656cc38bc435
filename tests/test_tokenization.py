"""Stage 10's reference, seen from outside its gate: merges by another program, round trips of any text, the corpus."""

from __future__ import annotations

import ast
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

from workshop.course import load_course
from workshop.git import git_text

GATE = ROOT / load_course(ROOT).stage(10).gate


def in_reference(code: str, given: Any = None) -> Any:
    """What `code` hands to `json.dumps` in a process of its own, where `given` is what is here."""
    done = subprocess.run(
        [sys.executable, "-c", f"import json, sys\ngiven = json.load(sys.stdin)\n{code}"],
        input=json.dumps(given),
        cwd=ROOT / "solutions",
        capture_output=True,
        encoding="utf-8",
        env=os.environ | {"PYTHONUTF8": "1"},
        check=False,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Merges


def words_by_hand(text: str) -> list[str]:
    """The words of a text of ASCII letters, digits, line ends, single spaces and marks, by a pattern of other parts."""
    return re.findall(r" ?[A-Za-z]+| ?[0-9]+| ?[!-/:-@\[-`{-~]+|\n+$|\n(?=\n)|\n", text)


def by_the_book(words: list[str], vocab_size: int) -> tuple[list[list[int]], int]:
    """The definition of byte-pair encoding, on all words of a text, each as often as it stands there.

    Returns the merges, and how many of them were chosen among pairs that occur equally often. It shares
    nothing with the package: the pieces of bytes themselves are merged, and nothing is counted in advance.
    """
    numbers = {bytes([byte]): byte for byte in range(256)}
    split = [[bytes([byte]) for byte in word.encode("utf-8")] for word in words]
    merges, ties = [], 0
    while len(merges) < vocab_size - 256:
        seen = Counter((numbers[a], numbers[b]) for word in split for a, b in zip(word, word[1:]))
        if not seen:
            break
        first = sorted(seen.items(), key=lambda item: (-item[1], item[0]))[0][0]
        ties += list(seen.values()).count(seen[first]) > 1
        names = {number: piece for piece, number in numbers.items()}
        left, right = names[first[0]], names[first[1]]
        merges.append(list(first))
        numbers[left + right] = 255 + len(merges)
        for word in split:
            i = 0
            while i + 1 < len(word):
                if word[i] == left and word[i + 1] == right:
                    word[i : i + 2] = [left + right]
                i += 1
    return merges, ties


TRAIN = """
from tinytorch import BPETokenizer, train_by_definition
found = []
for text, size in given:
    tokenizer = BPETokenizer()
    tokenizer.train(text, size)
    found.append([tokenizer.merges, train_by_definition(text, size)])
print(json.dumps(found))
"""


def corpora() -> list[tuple[str, int]]:
    """Texts in which many pairs occur equally often: few letters, runs of one letter, numbers that come once each."""
    rng = random.Random(10)
    few = " ".join("".join(rng.choices("abc", k=rng.randint(1, 7))) for _ in range(400))
    runs = " ".join("".join(rng.choice("ab") * rng.randint(1, 5) for _ in range(3)) for _ in range(200))
    once = "\n".join(f"{number} = {number * number}, or {chr(97 + number % 26)}!" for number in range(150))
    return [(few, 400), (runs, 330), (once, 420)]


def test_the_merges_are_those_of_the_definition() -> None:
    """On three corpora with ties: the definition, the incremental training, and a program of this file agree."""
    for (text, size), (fast, slow) in zip(corpora(), in_reference(TRAIN, corpora()), strict=True):
        expected, ties = by_the_book(words_by_hand(text), size)
        assert len(expected) > 60 and slow == expected and fast == expected
        assert ties > 20, "a corpus without ties shows nothing of their order"


def test_the_merges_in_the_gate_are_those_of_the_definition() -> None:
    names: dict[str, Any] = {}
    for node in ast.parse(GATE.read_text(encoding="utf-8")).body:
        kind = ast.unparse(node).split()[0]
        if isinstance(node, (ast.Assign, ast.AugAssign)) and kind.removesuffix("_MERGES").isupper():
            if kind.startswith(("TIES", "RHYME", "ACCENTS", "LAUGH")):
                exec(compile(ast.Module([node], []), "gate", "exec"), names)
    accents = ["été", " thé", " café", ",", " été", "!", " 你好", " 你们好", " 🙂🙂"]
    for name in ("TIES", "RHYME", "ACCENTS", "LAUGH"):
        words = accents if name == "ACCENTS" else re.findall(" ?[a-z]+", names[name])
        assert "".join(words) == names[name]
        expected, ties = by_the_book(words, 256 + len(names[f"{name}_MERGES"]))
        assert [list(pair) for pair in names[f"{name}_MERGES"]] == expected and ties > 2, name
    assert len(by_the_book(re.findall(" ?[a-z]+", names["TIES"]), 999)[0]) == len(names["TIES_MERGES"])


# Round trips

ROUND_TRIPS = """
import random
from tinytorch import BPETokenizer, CharTokenizer, pre_tokenize
rng = random.Random(given)
PARTS = ["\\0", "\\ufeff", "\\r\\n", " ", "  ", "\\n\\n", "\\t", "\\u200d", "\\ufe0f", "\\u0301", "\\u202e", "\\u2028",
         "_", "'s", "the ", "and", "1984", "\\x1c", "\\x85", "\\u3000", "\\u00b2", "\\u0663", "\\ud7ff",
         "\\ue000", "\\uffff", "\\u05e9\\u05b8", "\\u0928\\u092e\\u0938\\u094d\\u0924\\u0947", "\\U0010ffff",
         "\\U0001f44d\\U0001f3fd", "\\U0001f469\\u200d\\U0001f469\\u200d\\U0001f467"]
def character():
    point = rng.choice([rng.randrange(0x80), rng.randrange(0x3000), rng.randrange(0x110000)])
    return chr(point) if not 0xd800 <= point < 0xe000 else "?"
def text():
    return "".join(rng.choice(PARTS) if rng.random() < 0.5 else character() for _ in range(rng.randrange(40)))
bpe = BPETokenizer()
bpe.train(" ".join(text() for _ in range(300)) + "the sand and the other 1984 hand " * 20, 512)
wrong = []
for _ in range(10_000):
    sample = text()
    tokens = bpe.encode(sample)
    chars = CharTokenizer(sorted(set(sample)))
    if "".join(pre_tokenize(sample)) != sample or bpe.decode(tokens) != sample:
        wrong.append(sample)
    if chars.decode(chars.encode(sample)) != sample or not all(0 <= token < len(bpe) for token in tokens):
        wrong.append(sample)
print(json.dumps([wrong, len(bpe)]))
"""


def test_random_texts_come_back() -> None:
    """10,000 strings of all of Unicode, rich in what breaks tokenizers, through words, BPE and characters."""
    wrong, size = in_reference(ROUND_TRIPS, 7)
    assert size == 512 and wrong == []


DECODES = """
import random
from tinytorch import BPETokenizer
rng, bpe = random.Random(3), BPETokenizer([(195, 169), (240, 159), (257, 153), (256, 257)])
texts = [bpe.decode([rng.randrange(len(bpe)) for _ in range(rng.randrange(30))]) for _ in range(2000)]
print(json.dumps(all(isinstance(text, str) and text.encode("utf-8") for text in texts if text)))
"""


def test_any_tokens_decode() -> None:
    assert in_reference(DECODES) is True


SURROGATES = """
from tinytorch import BPETokenizer, CharTokenizer, train_by_definition
def said(action):
    try:
        return repr(action())
    except Exception as error:
        return f"{type(error).__name__}: {error}"
half = "ab \\ud83d cd"
bpe = BPETokenizer([(97, 98)])
print(json.dumps([said(lambda: bpe.encode(half)), said(lambda: bpe.train(half, 300)), said(lambda: CharTokenizer(half)),
                  said(lambda: train_by_definition(half, 300)), said(lambda: CharTokenizer().build_vocab(half)),
                  said(lambda: bpe.encode(7)), bpe.merges, sorted(bpe.known)]))
"""


def test_lone_surrogates_are_refused_with_a_sentence() -> None:
    *said, number, merges, known = in_reference(SURROGATES)
    for sentence in said:
        assert sentence.startswith("ValueError: the text holds '\\ud83d' at position") and "surrogate" in sentence
    assert number == "TypeError: expected a text, a str, got a int"
    assert merges == [[97, 98]] and "\ud83d" not in "".join(known), "nothing has changed"


# Files

SAVED = """
from tinytorch import BPETokenizer
one, other = BPETokenizer(), BPETokenizer([(1, 2)])
one.train("the cat and the hat sat on the mat " * 3, 275)
one.save(given)
other.load(given)
same = one.encode("the hat") == other.encode("the hat") != list(b"the hat")
print(json.dumps([one.merges == other.merges, one.pieces == other.pieces, same]))
"""
KILLED = """
import os
from tinytorch import BPETokenizer
tokenizer = BPETokenizer([(97, 98)])
tokenizer.save(given)
os.fsync = lambda number: os._exit(0)  # the plug is pulled once the new content is written
BPETokenizer([(99, 100), (101, 102)]).save(given)
"""


def test_a_saved_tokenizer_goes_on_as_the_one_that_was_trained(tmp_path: Path) -> None:
    assert in_reference(SAVED, str(tmp_path / "tokens.json")) == [True, True, True]


def test_the_old_file_outlives_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "tokens.json"
    start = [sys.executable, "-c", f"given = {str(path)!r}\n{KILLED}"]
    assert subprocess.run(start, cwd=ROOT / "solutions", check=False).returncode == 0
    assert json.loads(path.read_text(encoding="utf-8")) == {"merges": [[97, 98]]}


# A large text

WHOLE = """
from tinytorch import BPETokenizer, pre_tokenize
from tinytorch.systems.tokenization import bytes_per_token
sizes, tokenizer = [], BPETokenizer()
for size in (256, 512, 1024):
    tokenizer.train(given, size)
    sizes.append(bytes_per_token(tokenizer, given))
same = tokenizer.decode(tokenizer.encode(given)) == given and "".join(pre_tokenize(given)) == given
print(json.dumps([same, len(tokenizer), sizes]))
"""


@pytest.mark.full
def test_a_megabyte_of_text() -> None:
    """This repository's own: trained to 1,024 tokens it comes back, in fewer of them; benchmarks/bpe.py times that."""
    paths = [path for path in git_text(ROOT, "ls-files").splitlines() if path.endswith((".py", ".md", ".yaml"))]
    text = "".join((ROOT / path).read_text(encoding="utf-8") for path in paths if (ROOT / path).is_file())[: 1 << 20]
    assert len(text) == 1 << 20
    same, size, sizes = in_reference(WHOLE, text)
    assert same and size == 1024
    assert sizes[0] == 1.0 and 1.5 < sizes[1] < sizes[2] < 4
