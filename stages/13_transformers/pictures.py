"""Draws the pictures of stage 13's lesson: `python stages/13_transformers/pictures.py`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from workshop.svg import Drawing


def block() -> None:
    """The block with its residual stream."""
    d = Drawing(
        860,
        300,
        "A transformer block and its residual stream",
        "The stream runs straight from left to right. Twice a copy of it goes up through a norm and through attention "
        "or the MLP, and what they find is added to the stream.",
    )
    y = 235
    d.line((30, y), (815, y), ink="dark blue", width=5)
    d.arrow((815, y), (835, y), ink="dark blue")
    d.text(36, y + 26, "x, (B, T, C)", anchor="start", ink="dark blue", bold=True)
    d.text(824, y + 26, "to the next block", anchor="end", ink="dark blue")
    d.text(430, y + 46, "the residual stream: only added to, never normalised, never dropped", 13, ink="dark blue")
    parts = ((120, "norm1", "attention", "positions learn\nof each other", "orange"),)
    parts += ((480, "norm2", "mlp", "each position\nworks by itself", "green"),)
    for left, norm, work, says, fill in parts:
        d.box(left, 150, 80, 36, norm, "grey", mono=True)
        d.box(left + 30, 62, 150, 44, work, fill, mono=True)
        d.box(left + 205, 66, 90, 36, "dropout", "grey", mono=True, dashed=True)
        d.text(left + 105, 30, says, 12)
        d.arrow((left + 40, y), (left + 40, 186))
        d.arrow((left + 40, 150), (left + 40, 106))
        d.arrow((left + 180, 84), (left + 205, 84))
        d.arrow((left + 250, 102), (left + 250, y - 14))
        d.box(left + 236, y - 14, 28, 28, "+", "white", 18, bold=True)
    d.text(180, 196, "reads", 12, "start", ink="dark grey")
    d.text(380, 168, "adds", 12, "start", ink="dark grey")
    d.text(540, 196, "reads", 12, "start", ink="dark grey")
    d.text(740, 168, "adds", 12, "start", ink="dark grey")
    d.save(HERE / "block.svg")


def shapes() -> None:
    """What shape the numbers have on their way through a GPT."""
    d = Drawing(
        925,
        250,
        "Shapes on the way through a GPT",
        "Indices of shape B, T become vectors of shape B, T, C; the blocks keep that shape; the product with the table "
        "of tokens makes logits of shape B, T, V. The table is the same at both ends.",
    )
    boxes = (
        (20, 90, "tokens\n+ positions", "yellow"),
        (205, 100, "block 1", "orange"),
        (345, 100, "block …", "orange"),
        (485, 100, "block L", "orange"),
        (625, 80, "norm", "grey"),
        (745, 130, "table turned\nround", "yellow"),
    )
    for x, w, text, fill in boxes:
        d.box(x + 20, 80, w, 60, text, fill, 13)
    starts = [130, 325, 465, 605, 725]
    ends = [225, 365, 505, 645, 765]
    for start, end in zip(starts, ends):
        d.arrow((start, 110), (end, 110))
    d.text(85, 40, "indices (B, T)", 13, mono=True)
    d.arrow((85, 52), (85, 80))
    d.text(178, 165, "(B, T, C)", 13, mono=True)
    for x in (345, 485, 625, 745):
        d.text(x, 165, "(B, T, C)", 11, mono=True)
    d.text(830, 40, "logits (B, T, V)", 13, mono=True)
    d.arrow((830, 80), (830, 52))
    d.line((85, 140), (85, 210), (830, 210), (830, 140), ink="dark orange", dashed=True)
    d.text(457, 226, "one table (V, C), used at both ends: tied", 13, ink="dark orange")
    d.save(HERE / "shapes.svg")


def causality() -> None:
    """Which logits may change when one token is changed."""
    d = Drawing(
        860,
        300,
        "Changing the future",
        "On the left the mask: position i may look at positions up to i. On the right a text of six tokens: when the "
        "fourth is changed, the logits of the first three stay as they are, to the last bit.",
    )
    letters = "ROMEO:"
    mask = [[1 if j <= i else 0 for j in range(6)] for i in range(6)]
    d.text(190, 28, "who looks at whom", 15, bold=True)
    d.grid(90, 66, mask, lambda i, j: "blue" if j <= i else "grey", list(letters), list(letters), (34, 32))
    d.text(190, 280, "a row looks at the columns that are 1", 12, ink="dark grey")
    d.text(620, 28, "so, if the fourth token changes …", 15, bold=True)
    changed = [list(letters), list("ROMAO:")]
    d.grid(430, 66, changed, lambda i, j: "red" if j == 3 else "white", ["before", "after"], (), (64, 32))
    for j in range(6):
        x = 430 + 64 * j + 32
        d.arrow((x, 132), (x, 170), ink="dark red" if j >= 3 else "dark grey")
        d.box(430 + 64 * j + 3, 172, 58, 36, "new" if j >= 3 else "same", "red" if j >= 3 else "green", 13)
    d.text(422, 190, "logits", 12, "end", mono=True)
    d.text(622, 236, "what comes next, at each position", 12, ink="dark grey")
    d.text(622, 268, "A single logit that moves on the left is a leak:\nthe model reads what it is to guess.", 12)
    d.save(HERE / "causality.svg")


block()
shapes()
causality()
