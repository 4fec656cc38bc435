"""Draws the pictures of stage 11's lesson beside it."""

import math
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from workshop.svg import Drawing, Point

TABLE = [["0.1", "0.2", "0.3"], ["1.1", "1.2", "1.3"], ["2.1", "2.2", "2.3"], ["3.1", "3.2", "3.3"]]
COLOURS = ["blue", "white", "orange", "white"]
INDICES = [2, 0, 2]
GRADIENT = [["1", "2", "3"], ["5", "5", "5"], ["10", "20", "30"]]
CELL = (48, 32)


def lookup() -> Drawing:
    drawing = Drawing(
        680,
        520,
        "A lookup and its way back",
        "Three indices, 2, 0 and 2, pick rows of a table: three vectors. On the way back the gradients of the first "
        "and the third vector are added up in row 2, the second one goes to row 0, and rows 1 and 3 get zeros.",
    )
    of = lambda i: COLOURS[INDICES[i]]
    drawing.text(30, 30, "forward: each index picks a row", 15, "start", bold=True)
    drawing.grid(60, 106, [[i] for i in INDICES], lambda i, j: of(i), cell=CELL, size=14)
    drawing.text(84, 84, "indices", 13)
    drawing.grid(240, 90, TABLE, lambda i, j: COLOURS[i], "0123", cell=CELL, size=14)
    drawing.text(312, 68, "table (4, 3)", 13)
    drawing.grid(500, 106, [TABLE[i] for i in INDICES], lambda i, j: of(i), cell=CELL, size=14)
    drawing.text(572, 84, "vectors (3, 3)", 13)
    for i, index in enumerate(INDICES):
        row, place = 90 + 32 * index + 16, 106 + 32 * i + 16
        drawing.arrow((110, place), (218, row))
        drawing.arrow((386, row), (498, place))
    drawing.line((30, 254), (650, 254), ink="grey")
    drawing.text(30, 284, "back: what came for one row is added up in it", 15, "start", bold=True)
    summed = [["5", "5", "5"], ["0", "0", "0"], ["11", "22", "33"], ["0", "0", "0"]]
    drawing.grid(60, 364, [[i] for i in INDICES], lambda i, j: of(i), cell=CELL, size=14)
    drawing.text(84, 342, "indices", 13)
    drawing.grid(240, 348, summed, lambda i, j: COLOURS[i], "0123", cell=CELL, size=14)
    drawing.text(312, 326, "gradient of the table (4, 3)", 13)
    drawing.grid(500, 364, GRADIENT, lambda i, j: of(i), cell=CELL, size=14)
    drawing.text(572, 342, "grad_output (3, 3)", 13)
    for i, index in enumerate(INDICES):
        drawing.arrow((498, 364 + 32 * i + 16), (388, 348 + 32 * index + 16))
    drawing.text(340, 498, "row 2 was used twice: 1 + 10, 2 + 20, 3 + 30; rows 1 and 3 were not used", 13)
    return drawing


def around(centre: Point, radius: float, angle: float) -> Point:
    return centre[0] + radius * math.cos(angle), centre[1] - radius * math.sin(angle)


def clock(drawing: Drawing, centre: Point, rate: float, start: int, shift: int) -> None:
    """A circle with the hand of one position, and that of the position `shift` later."""
    drawing.curve(*(around(centre, 58, i * math.pi / 12) for i in range(25)), ink="grey", width=1.5)
    for position, ink in ((start, "dark grey"), (start + shift, "dark orange")):
        tip = around(centre, 56, position * rate)
        drawing.arrow(centre, tip, ink=ink)
        nudge = 9 if position == start else -9
        aside = around(centre, 76, position * rate)
        drawing.text(aside[0], aside[1] + (nudge if rate < 0.2 else 0), str(position), 13, ink=ink, bold=True)
    if shift * rate > 0.1:
        arc = [around(centre, 34, (start + shift * i / 12) * rate) for i in range(13)]
        drawing.curve(*arc, ink="dark blue", width=2.5)


def turn() -> Drawing:
    drawing = Drawing(
        680,
        430,
        "A shift of two positions turns each pair by the same angle, wherever it starts",
        "Six circles. Each pair of columns, sine and cosine, is a hand on a circle. From position 1 to 3 and from 5 to "
        "7 the hand of pair 0 turns by 2 radians, that of pair 1 by 0.2 and that of pair 2 by 0.02.",
    )
    rates = [1.0, 0.1, 0.01]
    for column, rate in enumerate(rates):
        x = 210 + 180 * column
        drawing.text(x, 28, f"pair {column}", 14, bold=True)
        drawing.text(x, 48, f"turns by {2 * rate:g} rad", 13, ink="dark blue")
        clock(drawing, (x, 142), rate, 1, 2)
        clock(drawing, (x, 316), rate, 5, 2)
    for y, text in ((142, "from position 1\nto position 3"), (316, "from position 5\nto position 7")):
        drawing.text(20, y, text, 13, "start")
    drawing.text(
        340, 412, "the height of a hand is the sine, its width the cosine; three of the four pairs of 8 numbers", 13
    )
    return drawing


lookup().save(HERE / "lookup.svg")
turn().save(HERE / "turn.svg")
