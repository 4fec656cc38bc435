"""Pictures of lessons: well-formed, the same bytes each time, with a name for who hears the page."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from workshop.svg import PALETTE, Drawing, colour, shade

SVG = "{http://www.w3.org/2000/svg}"


def example() -> Drawing:
    drawing = Drawing(460, 300, "Attention & its mask", "Two boxes, a mask of 3 by 3, and a curve.")
    drawing.box(20, 20, 120, 40, "x @ W\nqueries", mono=True)
    drawing.box(200, 20, 120, 40, "later", "dark blue", dashed=True)
    drawing.arrow((140, 40), (200, 40), label="B < T")
    drawing.arrow((80, 60), (80, 150), (150, 150))
    drawing.grid(180, 120, [[1, 0, 0], [1, 1, 0], [1, 1, 1]], lambda i, j: "blue" if j <= i else "grey", "abc", "xyz")
    drawing.line((20, 280), (20, 200), ink="ink", dashed=True)
    drawing.curve((20, 280), (60, 220), (140, 210))
    drawing.text(440, 280, "left | right", anchor="end", bold=True)
    return drawing


def elements(drawing: Drawing, tag: str) -> list[ElementTree.Element]:
    return ElementTree.fromstring(drawing.svg()).findall(SVG + tag)


def test_the_same_bytes_each_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a.svg", "b.svg"):
        example().save(tmp_path / name)
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes() == example().svg().encode()
    assert b"\r" not in (tmp_path / "a.svg").read_bytes() and capsys.readouterr().out == "wrote a.svg\nwrote b.svg\n"


def test_a_drawing_has_a_name_and_a_card() -> None:
    root = ElementTree.fromstring(example().svg())
    title, description, card = root[:3]
    assert (title.tag, title.text, title.get("id")) == (f"{SVG}title", "Attention & its mask", "title")
    assert (description.tag, description.get("id")) == (f"{SVG}desc", "description")
    assert root.get("aria-labelledby") == "title description" and root.get("role") == "img"
    assert (card.tag, card.get("fill"), card.get("width"), card.get("height")) == (
        f"{SVG}rect",
        PALETTE["paper"],
        "459",
        "299",
    )
    assert Drawing(9, 9, "only a title").description == "only a title"
    fonts = {element.get("font-family") for element in root.iter()} - {None}
    assert fonts == {"sans-serif", "monospace"}


def test_text_stands_in_its_box() -> None:
    above, below, *_ = elements(example(), "text")
    assert (above.text, below.text) == ("x @ W", "queries")
    assert above.get("x") == below.get("x") == "80" and above.get("text-anchor") == "middle"
    middle = (float(above.get("y")) + float(below.get("y"))) / 2
    assert middle == pytest.approx(40 + 0.35 * 14, abs=0.01)
    assert float(below.get("y")) - float(above.get("y")) == pytest.approx(1.3 * 14)
    with pytest.raises(ValueError, match="'a long name' takes about 74 of width, and its box has 60"):
        Drawing(100, 100, "narrow").box(0, 0, 60, 20, "a long name")


def test_text_on_dark_is_white() -> None:
    inks = {text.text: text.get("fill") for text in elements(example(), "text")}
    assert (inks["later"], inks["queries"]) == (PALETTE["white"], PALETTE["ink"])


def test_an_arrow_ends_at_its_last_point() -> None:
    straight, bent = elements(example(), "polygon")
    assert straight.get("points") == "200,40 191,44 191,36" and bent.get("points").split()[0] == "150,150"
    lines = [line.get("points") for line in elements(example(), "polyline")]
    assert lines[:2] == ["140,40 193,40", "80,60 80,150 143,150"]
    around, label = (text for text in elements(example(), "text") if text.text == "B < T")
    assert (around.get("x"), around.get("stroke")) == (label.get("x"), PALETTE["paper"]) == ("170", PALETTE["paper"])
    assert label.get("stroke") is None, "the text itself is written after the paper around it"


def test_cells_of_a_grid() -> None:
    cells = [cell for cell in elements(example(), "rect") if cell.get("width") == "36"]
    assert len(cells) == 9 and [cell.get("x") for cell in cells[:3]] == ["180", "216", "252"]
    assert [cell.get("fill") for cell in cells[:3]] == [PALETTE[name] for name in ("blue", "grey", "grey")]
    shown = {text.text: (text.get("x"), text.get("text-anchor")) for text in elements(example(), "text")}
    assert shown["a"] == ("172", "end") and shown["x"] == ("198", "middle")


def test_a_curve_goes_through_its_points() -> None:
    (path,) = elements(example(), "path")
    assert path.get("d").startswith("M20,280 C") and path.get("d").endswith("140,210") and " 60,220 C" in path.get("d")
    assert [each.get("stroke-dasharray") for each in elements(example(), "polyline")] == [None, None, "5 4"]


def test_colours() -> None:
    assert colour("blue") == PALETTE["blue"] and colour(shade(0.5)) == shade(0.5)
    assert (shade(0, "dark red"), shade(-1), shade(2, "dark red")) == (
        PALETTE["paper"],
        PALETTE["paper"],
        PALETTE["dark red"],
    )
    with pytest.raises(ValueError, match="expected a colour of the palette .*got 'bleu'"):
        Drawing(9, 9, "x").line((0, 0), (1, 1), ink="bleu")
    with pytest.raises(ValueError, match="anchor start, middle or end"):
        Drawing(9, 9, "x").text(0, 0, "x", anchor="left")


def test_text_can_be_read_on_its_colour() -> None:
    """The contrast that the web's guidelines ask for: 4.5 for text, on every colour of the palette."""

    def light(name: str) -> float:
        parts = [int(colour(name)[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(share * part for share, part in zip((0.2126, 0.7152, 0.0722), linear)) + 0.05

    for fill in PALETTE:
        drawing = Drawing(90, 90, "x")
        drawing.box(0, 0, 90, 90, "x", fill)
        (text,) = elements(drawing, "text")
        pair = sorted([light(fill), light(text.get("fill"))])
        assert pair[1] / pair[0] >= 4.5, fill
        if fill.startswith("dark"):
            assert light("paper") / light(fill) >= 4.5, f"lines and text in {fill}"
