"""Draws the pictures of stage 10's lesson: python stages/10_tokenization/pictures.py"""

import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
sys.path.insert(0, str(FOLDER.parents[1]))

from workshop.svg import Drawing

FILLS = {"ug": "blue", "␣p": "orange", "hug": "green"}
STEPS = [  # the words' tokens, and what is found in them
    ("bytes", "hug ␣pug ␣pun ␣hug", "u g occurs 3 times: merge 0, token 256"),
    (
        "256 tokens and 1",
        "h|ug ␣|p|ug ␣|p|u|n ␣|h|ug",
        "␣ p and h ug occur twice: merge 1 is the\nsmaller pair, (32, 112), token 257",
    ),
    ("256 and 2", "h|ug ␣p|ug ␣p|u|n ␣|h|ug", "h ug occurs twice: merge 2, token 258"),
    ("256 and 3", "hug! ␣p|ug ␣p|u|n ␣|hug!", "8 tokens in place of 15 bytes"),
]


def merges() -> None:
    """Four words, and how three merges change them."""
    picture = Drawing(
        900,
        330,
        "Three merges of byte-pair encoding",
        "The words hug, space pug, space pun and space hug as bytes, and after each of three merges: u g becomes one "
        "token, then space p, then h ug.",
    )
    picture.text(20, 28, "vocabulary", 13, "start", "dark grey")
    picture.text(190, 28, "words, each in a frame; ␣ is the space", 13, "start", "dark grey")
    picture.text(610, 28, "what is merged next", 13, "start", "dark grey")
    for row, (name, words, next_merge) in enumerate(STEPS):
        y = 50 + 68 * row
        picture.text(20, y + 22, name, 14, "start")
        x = 190
        for word in words.split():
            tokens = [part.removesuffix("!") for part in word.split("|")] if "|" in word or "!" in word else list(word)
            size = sum(map(len, tokens))
            picture.box(x - 4, y - 4, 22 * size + 8, 52, fill="paper", dashed=True)
            for token in tokens:
                fill = FILLS.get(token, "white")
                picture.box(x, y, 22 * len(token), 44, token, fill, 16, mono=True)
                x += 22 * len(token)
            x += 22
        picture.text(610, y + 22, next_merge, 13, "start")
    picture.save(FOLDER / "merges.svg")


def way() -> None:
    """From a text to tokens, and on to the vectors of stage 11; and the way back."""
    picture = Drawing(
        900,
        360,
        "From text to tokens and back",
        "A text is cut into words, each word becomes bytes in UTF-8, merges turn bytes into tokens, and each token "
        "picks a row of the embedding. Decoding joins the bytes of all tokens and reads them as UTF-8.",
    )
    rows = [
        ("text", [("the café", 356)], "white"),
        ("words", [("the", 132), ("␣café", 220)], "grey"),
        ("bytes", [(each, 36) for each in ("116", "104", "101", "32", "99", "97", "102", "195", "169")], "white"),
        ("tokens", [("th 260", 76), ("e", 36), ("␣c 264", 76), ("a", 36), ("f", 36), ("é 256", 76)], "blue"),
    ]
    for row, (name, parts, fill) in enumerate(rows):
        y, x = 24 + 66 * row, 250
        picture.text(225, y + 18, name, 15, "end", bold=True)
        for text, width in parts:
            picture.box(x, y, width, 36, text, fill, 13, mono=True)
            x += width + 4
        if row:
            picture.arrow((145, y - 42), (145, y - 6), ink="dark blue")
    for row, name in enumerate(("pre_tokenize", "utf8", "merges, by rank")):
        picture.text(134, 24 + 66 * row + 51, name, 12, "end", "dark blue", mono=True)
    picture.arrow((430, 262), (430, 296))
    picture.box(330, 296, 200, 44, "a row of the embedding\neach: stage 11", "green", 12)
    picture.line((612, 240), (690, 240), ink="dark orange")
    picture.arrow((690, 240), (690, 42), (610, 42), ink="dark orange")
    picture.text(
        704, 132, "decode:\nthe bytes of all tokens,\njoined, then read as\nUTF-8 at once", 13, "start", "dark orange"
    )
    picture.save(FOLDER / "way.svg")


merges()
way()
