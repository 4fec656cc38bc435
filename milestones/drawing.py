"""What the pictures of several milestones share: colours, and the line that marks a number."""

from __future__ import annotations

from typing import Any

BLUE, RED, GREEN, ORANGE, GREY = "#2166ac", "#b2182b", "#1b7837", "#d95f02", "#777777"


def mark_height(axes: Any, y: float, text: str, above: bool) -> None:
    """A dotted line across `axes` at height `y`, with `text` at its right end, above or below it."""
    axes.axhline(y, color=GREY, linestyle=":")
    note = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "color": GREY, "ha": "right"}
    axes.annotate(text, (0.98, y), (0, 4 if above else -4), va="baseline" if above else "top", **note)


def mark_place(axes: Any, x: float, text: str) -> None:
    """A dotted line up `axes` at `x`, with `text` at its foot."""
    axes.axvline(x, color=GREY, linestyle=":")
    note = {"xycoords": ("data", "axes fraction"), "textcoords": "offset points", "color": GREY}
    axes.annotate(text, (x, 0.03), (4, 0), **note)
