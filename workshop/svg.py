"""Pictures for lessons: a `Drawing` of boxes, arrows, text, curves and tables of cells, saved as an SVG file.

A drawing lies on a card of its own, so it is readable on light and on dark pages. Lengths are in pixels, x goes to the
right and y down. The same calls write the same bytes, so `stages/NN_name/pictures.py` can be run again at any time.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

# The plain names are pale, to be written on; the dark ones are for lines and for text.
PALETTE = {
    "paper": "#fcfcfa",
    "white": "#ffffff",
    "ink": "#1f2933",
    "grey": "#e4e7eb",
    "dark grey": "#616e7c",
    "blue": "#cfe2f7",
    "dark blue": "#1d5a9e",
    "orange": "#fbdfb8",
    "dark orange": "#ad5700",
    "green": "#cdebd0",
    "dark green": "#22703a",
    "red": "#f8d0cf",
    "dark red": "#b32424",
    "purple": "#e3d6f5",
    "dark purple": "#66389c",
    "yellow": "#fbf0b1",
}
Point = tuple[float, float]


def shade(share: float, name: str = "dark blue") -> str:
    """The colour between paper (`share` 0) and `name` (1): for a cell that shows how large its value is."""
    share = min(max(share, 0.0), 1.0)
    pairs = [[int(PALETTE[each][i : i + 2], 16) for i in (1, 3, 5)] for each in ("paper", name)]
    return "#" + "".join(f"{round(low + share * (high - low)):02x}" for low, high in zip(*pairs))


def colour(name: str) -> str:
    """The value of a name of the palette; one that `shade` made stays as it is."""
    if name not in PALETTE and not name.startswith("#"):
        raise ValueError(f"expected a colour of the palette ({', '.join(PALETTE)}), got {name!r}")
    return PALETTE.get(name, name)


def _is_dark(fill: str) -> bool:
    red, green, blue = (int(colour(fill)[i : i + 2], 16) for i in (1, 3, 5))
    return 0.3 * red + 0.59 * green + 0.11 * blue < 140


def _path(points: Sequence[Point]) -> str:
    return " ".join(f"{round(x, 2) + 0.0:g},{round(y, 2) + 0.0:g}" for x, y in points)


class Drawing:
    """One picture. `title` names it, and `description` tells what it shows to a person who hears the page."""

    def __init__(self, width: float, height: float, title: str, description: str = "") -> None:
        self.width, self.height, self.title, self.description = width, height, title, description or title
        self.parts: list[str] = []

    def _add(self, tag: str, content: str = "", **looks: str | float | bool) -> None:
        """Add an element with its looks as attributes; `dashed` is the one that SVG has no word for."""
        if looks.pop("dashed", False):
            looks["stroke_dasharray"] = "5 4"
        shown = {
            name: value if isinstance(value, str) else f"{round(value, 2) + 0.0:g}" for name, value in looks.items()
        }
        inside = "".join(f" {name.replace('_', '-')}={quoteattr(value)}" for name, value in shown.items())
        self.parts.append(f"<{tag}{inside}>{content}</{tag}>" if content else f"<{tag}{inside}/>")

    def text(
        self, x: float, y: float, text: str, size: float = 14, anchor: str = "middle", ink: str = "ink", **more: bool
    ) -> None:
        """Lines of text around the height y. `anchor` is the part of them that is at x: "start", "middle" or "end".

        More: `mono` for code and figures, `bold`, and `over` for a text that is to be read across a line.
        """
        if anchor not in ("start", "middle", "end") or set(more) - {"mono", "bold", "over"}:
            raise ValueError(f"expected the anchor start, middle or end, and mono, bold or over; got {anchor}, {more}")
        looks = {"text_anchor": anchor, "fill": colour(ink), "font_size": size}
        looks |= {"font_family": "monospace"} if more.get("mono") else {}
        looks |= {"font_weight": "bold"} if more.get("bold") else {}
        around = {"stroke": PALETTE["paper"], "stroke_width": 5, "stroke_linejoin": "round"}
        lines = text.split("\n")
        for i, line in enumerate(lines):
            place = {"x": x, "y": y + size * (0.35 + 1.3 * (i - (len(lines) - 1) / 2))}
            if more.get("over"):
                self._add("text", escape(line), **place, **looks, **around)
            self._add("text", escape(line), **place, **looks)

    def box(
        self, x: float, y: float, w: float, h: float, text: str = "", fill: str = "blue", size: float = 14, **more: bool
    ) -> None:
        """A box of w by h from (x, y), its upper left corner, with `text` in it. More: `dashed`, and what a text takes.

        Raises:
            ValueError: the text is wider than the box.
        """
        needed = max(map(len, text.split("\n"))) * size * (0.6 if more.get("mono") else 0.48)
        if needed > w:
            raise ValueError(f"{text!r} takes about {needed:.0f} of width, and its box has {w}")
        looks = {"fill": colour(fill), "stroke": PALETTE["dark grey"], "dashed": more.pop("dashed", False)}
        self._add("rect", x=x, y=y, width=w, height=h, rx=6, **looks)
        self.text(x + w / 2, y + h / 2, text, size, ink="white" if _is_dark(fill) else "ink", **more)

    def line(self, *points: Point, ink: str = "dark grey", width: float = 1.5, dashed: bool = False) -> None:
        """Straight lines from point to point."""
        looks = {"fill": "none", "stroke": colour(ink), "stroke_width": width, "dashed": dashed}
        self._add("polyline", points=_path(points), **looks)

    def curve(self, *points: Point, ink: str = "dark blue", width: float = 2, dashed: bool = False) -> None:
        """A smooth curve through all points, after Catmull and Rom."""
        path, ends = f"M{_path(points[:1])}", [points[0], *points, points[-1]]
        for before, a, b, after in zip(ends, ends[1:], ends[2:], ends[3:]):
            first = (a[0] + (b[0] - before[0]) / 6, a[1] + (b[1] - before[1]) / 6)
            second = (b[0] - (after[0] - a[0]) / 6, b[1] - (after[1] - a[1]) / 6)
            path += f" C{_path([first, second, b])}"
        self._add("path", d=path, fill="none", stroke=colour(ink), stroke_width=width, dashed=dashed)

    def arrow(self, *points: Point, label: str = "", ink: str = "dark grey", dashed: bool = False) -> None:
        """An arrow from the first point to the last, bent at those between. The label is on its longest part."""
        (x0, y0), (x, y) = points[-2:]
        length = math.dist((x0, y0), (x, y))
        u, v = (x - x0) / length, (y - y0) / length
        self.line(*points[:-1], (x - 7 * u, y - 7 * v), ink=ink, dashed=dashed)
        head = [(x, y), (x - 9 * u - 4 * v, y - 9 * v + 4 * u), (x - 9 * u + 4 * v, y - 9 * v - 4 * u)]
        self._add("polygon", points=_path(head), fill=colour(ink))
        if label:
            a, b = max(zip(points, points[1:]), key=lambda part: math.dist(*part))
            self.text((a[0] + b[0]) / 2, (a[1] + b[1]) / 2, label, 12, ink=ink, over=True)

    def grid(
        self,
        x: float,
        y: float,
        values: Sequence[Sequence[object]],
        fill: str | Callable[[int, int], str] = "white",
        rows: Sequence[str] = (),
        columns: Sequence[str] = (),
        cell: Point = (36, 30),
        size: float = 12,
    ) -> None:
        """A table of cells from (x, y) on, with the names of its rows to the left and of its columns above.

        `fill` is a colour, or a function that says the colour of the cell in row i, column j. `cell`: width and height.
        """
        w, h = cell
        for i, row in enumerate(values):
            for j, value in enumerate(row):
                name = fill if isinstance(fill, str) else fill(i, j)
                self._add("rect", x=x + j * w, y=y + i * h, width=w, height=h, fill=colour(name), stroke="#9aa5b1")
                ink = "white" if _is_dark(name) else "ink"
                self.text(x + (j + 0.5) * w, y + (i + 0.5) * h, str(value), size, ink=ink, mono=True)
        for i, name in enumerate(rows):
            self.text(x - 8, y + (i + 0.5) * h, name, size, "end", mono=True)
        for j, name in enumerate(columns):
            self.text(x + (j + 0.5) * w, y - 0.9 * size, name, size, mono=True)

    def svg(self) -> str:
        """The text of the file."""
        w, h = self.width, self.height
        whole = f'viewBox="0 0 {w} {h}" width="{w}" height="{h}" font-family="sans-serif"'
        return f"""<svg xmlns="http://www.w3.org/2000/svg" {whole} role="img" aria-labelledby="title description">
<title id="title">{escape(self.title)}</title>
<desc id="description">{escape(self.description)}</desc>
<rect x="0.5" y="0.5" width="{w - 1}" height="{h - 1}" rx="12" fill="{PALETTE["paper"]}" stroke="{PALETTE["grey"]}"/>
{chr(10).join(self.parts)}
</svg>
"""

    def save(self, path: Path) -> None:
        """Write the picture to `path`, and say so."""
        path.write_text(self.svg(), encoding="utf-8", newline="\n")
        print(f"wrote {path.name}")
