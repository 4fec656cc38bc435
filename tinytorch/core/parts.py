"""Stage 03, given: where a layer keeps its parts, how one is exchanged for another, and how the whole is printed."""

from __future__ import annotations

from collections.abc import Iterator
from textwrap import indent
from typing import Any


def attributes(layer: Any) -> Iterator[tuple[str, Any]]:
    """Each attribute without a leading underscore, and each element of a list or tuple, by names such as "blocks.0"."""
    for name, value in vars(layer).items():
        if not name.startswith("_"):
            yield name, value
            if isinstance(value, (list, tuple)):
                yield from ((f"{name}.{position}", element) for position, element in enumerate(value))


def hidden_in(layer: Any) -> Iterator[tuple[str, Any]]:
    """What `attributes` does not find: whatever lies in a dict or a set, or in a list within a list, with a name."""
    for name, value in attributes(layer):
        if isinstance(value, (dict, set, frozenset)) or (isinstance(value, (list, tuple)) and "." in name):
            yield from ((name, element) for element in _inside(value))


def _inside(container: Any) -> Iterator[Any]:
    """All elements at any depth."""
    if isinstance(container, (dict, set, frozenset, list, tuple)):
        for element in container.values() if isinstance(container, dict) else container:
            yield element
            yield from _inside(element)


def check_part(part: Any, place: str) -> None:
    """A TypeError, which names the place, unless `part` can be called with a tensor."""
    if not callable(part) or isinstance(part, type):
        raise TypeError(f"{place}: expected a layer, such as Linear(2, 8), got {part!r:.60}")


def exchange(layer: Any, old: Any, new: Any) -> None:
    """Put `new` wherever `layer` holds `old`: in attributes, private ones too, and in its lists and tuples."""
    for name, value in list(vars(layer).items()):
        if value is old:
            setattr(layer, name, new)
        elif isinstance(value, (list, tuple)) and any(element is old for element in value):
            changed = [new if element is old else element for element in value]
            if isinstance(value, list):
                value[:] = changed  # others may hold the list
            else:
                setattr(layer, name, tuple(changed))


def outline(layer: Any) -> str:
    """The layer's name with its settings, and below it a line or more for each part.

    Settings are public attributes that are numbers, strings, None, or tuples of them.
    """
    found = [(name, value) for name, value in attributes(layer) if name != "training"]
    settings = ", ".join(f"{name}={value!r:.60}" for name, value in found if "." not in name and _is_plain(value))
    parts = [
        f"({name}): {getattr(value, '__name__', None) or repr(value)}"  # a function has a name, and no good repr
        for name, value in found
        if callable(value) and not isinstance(value, type)
    ]
    if not parts:
        return f"{type(layer).__name__}({settings})"
    return f"{type(layer).__name__}(\n{indent(chr(10).join(filter(None, [settings, *parts])), '  ')}\n)"


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (bool, int, float, str))
