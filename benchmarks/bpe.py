"""Byte-pair encoding: training by its definition and with counts that are kept up to date, in one run, on one text.

python benchmarks/bpe.py          on the reference in solutions/, and tiny Shakespeare from a folder of TINYTORCH_DATA;
                                  where there is none, on the plays in datasets/
python benchmarks/bpe.py FILE     on another text

Prints the seconds, and returns 1 if training on a megabyte to 1,024 tokens takes more than is asked, or the merges
are not the same. The definition takes a quarter of a minute and so runs once, the other way beside it three times.
"""

from __future__ import annotations

import gzip
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "solutions"), str(ROOT)]

from tinytorch import BPETokenizer, train_by_definition

PLAYS = ROOT / "datasets" / "shakespeare" / "plays.txt.gz"
MEGABYTE = 1 << 20
SIZES = (512, 1024, 4096)
ASKED = 10.0  # seconds for a megabyte and 1,024 tokens
TURNS = 3


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def corpus(arguments: list[str]) -> str:
    """The first megabyte of the text that is asked for; repeated, if it is shorter."""
    folders = [Path(folder) for folder in os.environ.get("TINYTORCH_DATA", "").split(os.pathsep) if folder]
    usual = [*(folder / "tinyshakespeare" / "input.txt" for folder in folders), PLAYS]
    found = [path for path in map(Path, arguments or usual) if path.is_file()]
    if not found:
        sys.exit(f"expected a text, got {' '.join(arguments)}, which is no file")
    content = found[0].read_bytes()
    text = (gzip.decompress(content) if found[0].suffix == ".gz" else content).decode("utf-8")
    print(f"{found[0].name}: {len(text.encode('utf-8')):,} bytes, of which the first {MEGABYTE:,} are used")
    return (text * (MEGABYTE // len(text) + 1))[:MEGABYTE]


def both_ways(text: str) -> bool:
    """Time training to 1,024 tokens by the definition and with counts kept up to date; whether the merges agree."""
    fast, slow = BPETokenizer(), []
    before = seconds(lambda: fast.train(text, 1024))
    long = seconds(lambda: slow.extend(train_by_definition(text, 1024)))
    short = statistics.median([before, *(seconds(lambda: fast.train(text, 1024)) for _ in range(TURNS - 1))])
    start = statistics.median(seconds(lambda: BPETokenizer().train(text, 256)) for _ in range(TURNS))
    print(
        f"768 merges: by definition {long:.1f} s, with counts kept up to date {short:.2f} s: {long / short:.0f} times"
    )
    merging = (long - start) / max(short - start, 1e-3)
    print(f"splitting the text and the first count take {start:.2f} s of both; without that {merging:.0f} times")
    return slow == fast.merges


def whole(text: str) -> float:
    """Time training to each size, and encoding the megabyte; returns the seconds of training to 1,024 tokens."""
    asked = 0.0
    for size in SIZES:
        tokenizer = BPETokenizer()
        took = statistics.median(seconds(lambda: tokenizer.train(text, size)) for _ in range(TURNS))
        tokens: list[int] = []
        first = seconds(lambda: tokens.extend(tokenizer.encode(text)))
        again, back = seconds(lambda: tokenizer.encode(text)), seconds(lambda: tokenizer.decode(tokens))
        print(
            f"{size:>5} tokens: training {took:.2f} s; encoding {first:.2f} s, again {again:.2f} s, "
            f"decoding {back:.2f} s; {len(text.encode('utf-8')) / len(tokens):.2f} bytes a token"
        )
        asked = took if size == 1024 else asked
    return asked


def main() -> int:
    """Measure, show, judge."""
    text = corpus(sys.argv[1:])
    same = both_ways(text)
    print("the merges are the same" if same else "the merges differ")
    took = whole(text)
    print(f"asked: at most {ASKED:.0f} s for a megabyte and 1,024 tokens; it takes {took:.2f} s")
    return 0 if same and took <= ASKED else 1


if __name__ == "__main__":
    sys.exit(main())
