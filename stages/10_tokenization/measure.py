"""Measures what stage 10's lesson tells: what a vocabulary saves and costs, and what training and encoding take.

tox -e measure10
"""

import gzip
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from workshop.measuring import measure, medians, save_plot, seconds  # first: puts the package to measure on the path

from tinytorch import BPETokenizer, PairCounts, pre_tokenize, train_by_definition, word_counts
from tinytorch.systems.tokenization import (
    bytes_per_token,
    embedding_and_attention_bytes,
    merge_saving,
    pair_lookups,
    utf8_widths,
)
from workshop import ROOT

PLAYS = ROOT / "datasets" / "shakespeare" / "plays.txt.gz"
SIZES = (256, 512, 1024, 4096)
SENTENCES = {  # the first sentence of the Universal Declaration of Human Rights
    "English": "All human beings are born free and equal in dignity and rights.",
    "German": "Alle Menschen sind frei und gleich an Würde und Rechten geboren.",
    "Greek": "Όλοι οι άνθρωποι γεννιούνται ελεύθεροι και ίσοι στην αξιοπρέπεια και τα δικαιώματα.",
    "Russian": "Все люди рождаются свободными и равными в своем достоинстве и правах.",
    "Hindi": "सभी मनुष्यों को गौरव और अधिकारों के मामले में जन्मजात स्वतन्त्रता और समानता प्राप्त है।",
    "Chinese": "人人生而自由,在尊严和权利上一律平等。",
}


def plays() -> str:
    return gzip.decompress(PLAYS.read_bytes()).decode("utf-8")


def kinds_of_tokens(training: str, later: str, merges: list[tuple[int, int]]) -> None:
    """Characters, whole words and merges, made from one text and tried on another."""
    print(f"Made from {len(training):,} bytes of Shakespeare, tried on {len(later):,} bytes of another play")
    print(f"{'a token is':>20}{'vocabulary':>13}{'tokens':>10}{'unknown':>10}")
    words, known = pre_tokenize(later), set(pre_tokenize(training))
    new = sum(word not in known for word in words)
    letters, encoded = len(set(training)), len(BPETokenizer(merges[:768]).encode(later))
    print(f"{'a character':>20}{letters:>13,}{len(later):>10,}{sum(c not in training for c in later):>10,}")
    print(f"{'a word':>20}{len(known):>13,}{len(words):>10,}{new:>10,}")
    print(f"{'bytes, merged':>20}{1024:>13,}{encoded:>10,}{0:>10,}\n")


def saving(text: str, merges: list[tuple[int, int]]) -> None:
    """What each of the first merges saves, and some later ones."""
    print(f"What merges save, of {len(text):,} bytes of Shakespeare")
    print(f"{'merge':>6}{'token':>12}{'pair occurs':>14}{'tokens saved':>14}{'tokens left':>14}")
    pairs, pieces = PairCounts(word_counts(text)), BPETokenizer(merges).pieces
    for number, pair in enumerate(merges[:3840], 1):
        if number in (1, 2, 16, 256, 768, 3840):
            saved = merge_saving(dict(zip(pairs.words, pairs.times)), pair)
            left = sum(len(word) * times for word, times in zip(pairs.words, pairs.times)) - saved
            piece = repr(pieces[255 + number].decode("utf-8"))
            print(f"{number:>6,}{piece:>12}{pairs.counts[pair]:>14,}{saved:>14,}{left:>14,}")
        pairs.merge(pair, 255 + number)


def vocabulary(training: str, later: str, merges: list[tuple[int, int]]) -> None:
    """What a larger vocabulary saves and costs. The first merges of a long training are those of a short one."""
    print("\nA larger vocabulary; embed_dim 128, a text of 4,096 bytes, attention with 4 heads in one layer")
    print(f"{'tokens':>8}{'bytes a token':>15}{'of later text':>15}{'embedding':>14}{'attention':>14}{'together':>14}")
    for size in SIZES:
        tokenizer = BPETokenizer(merges[: size - 256])
        known, new = (bytes_per_token(tokenizer, text) for text in (training, later))
        table, scores = embedding_and_attention_bytes(size, 128, 4096, new, num_heads=4)
        print(
            f"{size:>8,}{known:>15.2f}{new:>15.2f}{table / 1e6:>11.2f} MB{scores / 1e6:>11.2f} MB"
            f"{(table + scores) / 1e6:>11.2f} MB"
        )


def training_time(text: str) -> None:
    """The definition counts all pairs anew at each merge; PairCounts only where something was merged."""
    words = word_counts(text)
    print(f"\nTraining on {len(text):,} bytes, {sum(words.values()):,} words of which {len(words):,} are different")
    print(f"{'merges':>8}{'definition':>14}{'a merge':>12}{'PairCounts':>14}{'a merge':>12}{'ratio':>8}")
    for merges in (8, 64, 512):
        tokenizer, size = BPETokenizer(), 256 + merges
        slow, fast = medians(lambda: train_by_definition(text, size), lambda: tokenizer.train(text, size), budget=0.3)
        print(
            f"{merges:>8}{1000 * slow:>11.0f} ms{1000 * slow / merges:>9.2f} ms"
            f"{1000 * fast:>11.0f} ms{1000 * fast / merges:>9.2f} ms{slow / fast:>8.1f}"
        )


def encoding_time(text: str, merges: list[tuple[int, int]]) -> None:
    """Text in words, of which each is worked out once, and the same number of letters as a single word."""
    tokenizer, rng = BPETokenizer(merges[:768]), random.Random(0)
    letters = "".join(rng.choices("etaoinshrdlu", k=4000))
    print("\nEncoding with 1,024 tokens: text in words, and as many letters without a space")
    print(f"{'bytes':>8}{'text, first':>14}{'again':>12}{'one word':>14}{'pairs, at most':>18}")
    for length in (500, 1000, 2000, 4000):
        part, word = text[:length], letters[:length]

        def first(part: str = part) -> list[int]:
            tokenizer.known.clear()
            return tokenizer.encode(part)

        new, again = seconds(first), seconds(lambda: tokenizer.encode(part))
        long = seconds(lambda: tokenizer.encode_word(word))
        looked = pair_lookups(length, len(tokenizer.encode_word(word)))
        print(f"{length:>8,}{1000 * new:>11.2f} ms{1000 * again:>9.2f} ms{1000 * long:>11.1f} ms{looked:>18,}")


def languages(merges: list[tuple[int, int]]) -> None:
    """The same sentence in six languages: what UTF-8 costs, and what merges learned from English make of it."""
    tokenizer = BPETokenizer(merges[:768])
    print("\nOne sentence in six languages; 1,024 tokens, trained on English alone")
    print(f"{'':10}{'characters':>11}{'of 1, 2, 3 bytes':>20}{'bytes':>8}{'tokens':>8}{'bytes a token':>15}")
    for name, sentence in SENTENCES.items():
        one, two, three, _ = utf8_widths(sentence)
        rate = bytes_per_token(tokenizer, sentence)
        print(
            f"{name:10}{len(sentence):>11}{f'{one}, {two}, {three}':>20}{len(sentence.encode('utf-8')):>8}"
            f"{len(tokenizer.encode(sentence)):>8}{rate:>15.2f}"
        )


def plot(training: str, later: str, merges: list[tuple[int, int]]) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    sizes = [256, *(256 + round(3840 / 1.6**step) for step in range(12, -1, -1))]
    rates = [[bytes_per_token(BPETokenizer(merges[: n - 256]), text) for n in sizes] for text in (training, later)]
    figure, (left, right) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    left.plot(sizes, rates[0], color="tab:blue", label="text that it was trained on")
    left.plot(sizes, rates[1], color="tab:orange", label="later text")
    left.set(xlabel="tokens in the vocabulary", ylabel="bytes a token", xscale="log", title="What merges save")
    costs = [embedding_and_attention_bytes(n, 128, 4096, rate, num_heads=4) for n, rate in zip(sizes, rates[1])]
    for which, label in enumerate(("embedding, 128 numbers a token", "attention, 4 heads, 4,096 bytes of text")):
        right.plot(sizes, [cost[which] / 1e6 for cost in costs], label=label, color=("tab:green", "tab:red")[which])
    right.plot(sizes, [sum(cost) / 1e6 for cost in costs], "k--", label="together")
    right.set(xlabel="tokens in the vocabulary", ylabel="MB", xscale="log", title="What they cost")
    for axis in (left, right):
        axis.set_xticks([256, 512, 1024, 2048, 4096], ["256", "512", "1,024", "2,048", "4,096"])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
        axis.legend()
    save_plot(figure, __file__)


def main() -> None:
    text = plays()
    training, later = text[:400_000], text[-100_000:]
    tokenizer = BPETokenizer()
    tokenizer.train(training, SIZES[-1])
    kinds_of_tokens(training, later, tokenizer.merges)
    saving(training, tokenizer.merges)
    vocabulary(training, later, tokenizer.merges)
    training_time(training[:20_000])
    encoding_time(later, tokenizer.merges)
    languages(tokenizer.merges)
    plot(training, later, tokenizer.merges)


measure(main)
