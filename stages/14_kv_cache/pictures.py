"""Draws the pictures of stage 14's lesson: python stages/14_kv_cache/pictures.py"""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1]))

from workshop.svg import Drawing

WORDS = ("Now", "is", "the", "winter", "of", "our")


def work() -> None:
    """What is worked out for each new token, without a cache and with one."""
    picture = Drawing(
        900,
        370,
        "What is worked out for each token",
        "Two tables with six rows, a row for each token that is written. Without a cache row t has t cells that are "
        "worked out, 21 in all. With a cache each row has one such cell, 6 in all; the cells before it are kept.",
    )
    for left, title, cached in (
        (110, "without a cache: 21 positions", False),
        (560, "with a cache: 6 positions", True),
    ):

        def new(i: int, j: int, cached: bool = cached) -> bool:
            return j == i if cached else j <= i

        def fill(i: int, j: int, new: object = new) -> str:
            return "dark blue" if new(i, j) else "green" if j < i else "white"

        signs = [["work" if new(i, j) else "kept" if j < i else "" for j in range(6)] for i in range(6)]
        picture.text(left + 150, 28, title, 16, bold=True)
        picture.grid(left, 84, signs, fill, [f"token {i + 1}" for i in range(6)], WORDS, (50, 36), 12)
    picture.text(
        450,
        330,
        "Each column is a position of the text. A position's keys and values depend on the tokens up to it,",
        14,
    )
    picture.text(
        450, 350, "so a token that comes later never changes them: what is green need not be worked out again.", 14
    )
    picture.save(FOLDER / "work.svg")


def step() -> None:
    """One new position in a layer."""
    picture = Drawing(
        900,
        400,
        "One new position in a layer",
        "The new position x gives a query, a key and a value. Key and value are written into the cache at place 3, "
        "behind those of positions 0 to 2; two places are empty. The query meets the four keys, the softmax of the "
        "scores mixes the four values, and the mixture is the result.",
    )
    picture.box(20, 170, 110, 56, "x of\nposition 3", "orange")
    for y, name in ((60, "query"), (170, "key"), (280, "value")):
        picture.box(190, y, 100, 56, f"{name}\n(1, d)", "blue")
        picture.arrow((130, 198), (160, 198), (160, y + 28), (190, y + 28))
    for y, name in ((163, "keys"), (273, "values")):
        cells = [["0", "1", "2", "3", "", ""]]
        picture.text(350, y - 8, f"{name} in the cache", 13, "start")
        picture.grid(
            350, y + 6, cells, lambda i, j: "green" if j < 3 else "dark blue" if j == 3 else "white", cell=(40, 50)
        )
    for y in (205, 315):
        way = (290, y), (320, y), (320, y + 38), (490, y + 38), (490, y + 15)
        picture.arrow(*way, label="update", ink="dark blue")
    picture.box(640, 60, 110, 56, "scores\n(1, 4)", "purple")
    picture.arrow((290, 88), (640, 88), label="meets the keys of positions 0 to 3")
    picture.arrow((590, 194), (695, 194), (695, 116), label="get")
    picture.box(640, 270, 110, 56, "mixture\n(1, d)", "purple")
    picture.arrow((590, 304), (640, 304), label="get")
    picture.arrow((750, 88), (810, 88), (810, 298), (750, 298), label="softmax")
    picture.text(
        450,
        384,
        "Green was there before. The two white places are room for later positions, and nobody may look at them.",
        13,
    )
    picture.save(FOLDER / "step.svg")


if __name__ == "__main__":
    work()
    step()
