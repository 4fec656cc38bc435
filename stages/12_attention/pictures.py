"""Draws the pictures of stage 12's lesson: python stages/12_attention/pictures.py"""

import math
import sys
from collections.abc import Sequence
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1]))

from workshop.svg import Drawing, shade

WORDS = ("Now", "is", "the", "winter")
SCORES = ((1.2, 0.3, -0.5, 2.0), (0.1, 0.9, 0.4, -1.0), (-0.6, 1.5, 0.2, 0.7), (0.8, -0.3, 1.1, 0.5))


def softmax(scores: Sequence[float]) -> list[float]:
    """Probabilities of a row; -inf gets none."""
    weights = [math.exp(score - max(scores)) for score in scores]
    return [weight / sum(weights) for weight in weights]


def mask() -> None:
    """Scores, the causal mask, and what the softmax makes of each row."""
    picture = Drawing(
        900,
        270,
        "Scores, mask and probabilities",
        "Three tables of four rows and four columns, for the words Now is the winter. The scores; the causal mask, "
        "whose cells above the diagonal are forbidden; the probabilities, which are 0 there and sum to 1 in each row.",
    )
    masked = [[s if j <= i else -math.inf for j, s in enumerate(row)] for i, row in enumerate(SCORES)]
    shares = [softmax(row) for row in masked]
    tables = (
        (80, "scores = Q Kᵀ / √d", [[f"{s:.1f}" for s in row] for row in SCORES], lambda i, j: "white"),
        (
            375,
            "causal mask: may i look at j?",
            [["True" if j <= i else "" for j in range(4)] for i in range(4)],
            lambda i, j: "green" if j <= i else "grey",
        ),
        (
            670,
            "probabilities",
            [[f"{p:.2f}" if p else "0" for p in row] for row in shares],
            lambda i, j: shade(shares[i][j]) if j <= i else "grey",
        ),
    )
    for x, title, values, fill in tables:
        picture.text(x + 96, 30, title, 14, bold=True)
        picture.grid(x, 80, values, fill, WORDS, WORDS, (48, 38), 13)
    picture.arrow((265, 30), (350, 30))
    picture.arrow((600, 30), (705, 30))
    picture.text(650, 16, "softmax", 12)
    picture.text(
        450, 253, "a row is a query, a column is a key; each row of probabilities sums to 1", 13, ink="dark grey"
    )
    picture.save(FOLDER / "mask.svg")


def flow() -> None:
    """What becomes of x in MultiHeadAttention, with shapes."""
    picture = Drawing(
        940,
        330,
        "The way through multi-head attention",
        "x of shape B, n, C goes through the layers query, key and value. Their results are split into heads, of shape "
        "B, H, n, d. Queries times keys give scores of shape B, H, n, n; the softmax gives probabilities, which mix "
        "the values. The heads are merged to B, n, C, and the layer out gives the result.",
    )
    picture.box(20, 138, 86, 54, "x\n(B, n, C)", "grey", 13)
    for row, (name, short) in enumerate((("query", "Q"), ("key", "K"), ("value", "V"))):
        y = 40 + 98 * row
        picture.arrow((106, 165), (140, y + 27))
        picture.box(140, y, 80, 54, name, "blue", mono=True)
        picture.arrow((220, y + 27), (255, y + 27))
        picture.box(255, y, 110, 54, f"{short}, in heads\n(B, H, n, d)", "blue", 13)
    picture.text(310, 22, "split_heads", 12, ink="dark blue", mono=True)
    picture.arrow((365, 67), (420, 100))
    picture.arrow((365, 165), (420, 128))
    picture.box(420, 87, 130, 54, "Q Kᵀ / √d\n(B, H, n, n)", "orange", 13)
    picture.arrow((550, 114), (590, 114))
    picture.box(590, 87, 130, 54, "softmax, mask\n(B, H, n, n)", "orange", 13)
    picture.text(570, 60, "the part that grows with n²", 12, ink="dark orange")
    picture.arrow((655, 141), (655, 236))
    picture.arrow((365, 263), (590, 263))
    picture.box(590, 236, 130, 54, "mixture of V\n(B, H, n, d)", "green", 13)
    picture.arrow((720, 263), (760, 263))
    picture.box(760, 236, 100, 54, "merged\n(B, n, C)", "green", 13)
    picture.text(810, 306, "merge_heads", 12, ink="dark green", mono=True)
    picture.arrow((810, 236), (810, 192))
    picture.box(770, 138, 80, 54, "out", "blue", mono=True)
    picture.arrow((810, 138), (810, 94))
    picture.box(760, 40, 100, 54, "result\n(B, n, C)", "grey", 13)
    picture.save(FOLDER / "flow.svg")


def online() -> None:
    """One query, four keys, in two blocks: what is kept, with numbers."""
    scores, values = (1.0, 3.0, 5.0, 2.0), (10.0, 20.0, 30.0, 40.0)
    picture = Drawing(
        900,
        320,
        "Online softmax in two blocks",
        "A query's scores 1 and 3, then 5 and 2, with values 10, 20, 30 and 40. After each block: the largest score, "
        "the sum of exponentials relative to it, and the mixture. At the second block what was kept shrinks by exp of "
        "3 minus 5. The mixture divided by the sum is the result.",
    )
    picture.text(20, 62, "scores", 14, "start")
    picture.text(20, 98, "values", 14, "start")
    largest, total, mixed = -math.inf, 0.0, 0.0
    picture.text(20, 190, "largest", 14, "start")
    picture.text(20, 220, "total", 14, "start")
    picture.text(20, 250, "mixed", 14, "start")
    for part, x in enumerate((130, 430)):
        block, held = scores[2 * part : 2 * part + 2], values[2 * part : 2 * part + 2]
        picture.text(x + 90, 24, f"block {part}", 14, bold=True)
        picture.grid(x, 44, [[f"{s:g}" for s in block], [f"{v:g}" for v in held]], "blue", cell=(90, 36), size=15)
        before, largest = largest, max(largest, *block)
        shrink, weights = math.exp(before - largest), [math.exp(score - largest) for score in block]
        total = total * shrink + sum(weights)
        mixed = mixed * shrink + sum(w * v for w, v in zip(weights, held))
        picture.arrow((x + 90, 116), (x + 90, 168))
        picture.text(x + 104, 142, f"exp(s - {largest:g}) = {weights[0]:.3f}, {weights[1]:.3f}", 13, "start")
        picture.grid(
            x + 45, 176, [[f"{largest:g}"], [f"{total:.3f}"], [f"{mixed:.3f}"]], "green", cell=(90, 30), size=14
        )
        if part:
            picture.arrow((x - 165, 236), (x + 45, 236))
            picture.text(x - 60, 222, f"times exp({before:g} - {largest:g}) = {shrink:.3f}", 12)
    picture.arrow((565, 236), (700, 236), ink="dark orange")
    picture.box(700, 206, 180, 60, f"mixed / total =\n{mixed / total:.3f}", "orange", 15)
    right = sum(p * v for p, v in zip(softmax(scores), values))
    picture.text(450, 298, f"the softmax of all four scores at once gives {right:.3f} too", 14, ink="dark grey")
    picture.save(FOLDER / "online.svg")


mask()
flow()
online()
