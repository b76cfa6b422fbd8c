"""From the cells of a row to one event: names, types, bytes. Used by the readers of CSV and of Parquet.

The bytes depend on the names, the schema and the cells alone, so that a restart makes the same ones.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from ingestd.core.regex import regex
from ingestd.core.text import cut
from ingestd.schemas.column_types import Types, TypesAt
from ingestd.schemas.grammar import find_fault

_NUMBER = regex(r"-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?")
_WORDS = {"boolean": ("true", "false"), "null": ("null",)}

MOST_LEVELS = 64
"""Of objects and lists, one within the other."""

_SHOWN = 100  # characters of a name

encode = msgspec.json.Encoder().encode


class Unusable(Exception):
    """No event can be made of the rows of a table; the text says why."""


class BadCell(NamedTuple):
    """A value that JSON does not have. ``shown``: it as text, for the dead letter."""

    why: str
    shown: str


class Columns:
    """``names``: of the columns; a dotted one is a field of an object. Raises Unusable for names that
    contradict each other."""

    def __init__(self, names: Sequence[str], types_at: TypesAt) -> None:
        self.names = [name.strip() for name in names]
        self._paths = [tuple(name.split(".")) for name in self.names]
        self._check()
        self._typed = [_typed(types_at(path)) for path in self._paths]
        self._plan = [
            (path[:-1], path[-1], typed) for path, typed in zip(self._paths, self._typed, strict=True)
        ]

    def event(self, cells: Sequence[Any]) -> tuple[bytes, str]:
        """The event, and why it is none, or "". None is an absent cell; text is what the schema says
        of its column. Raises UnicodeEncodeError for text that was not UTF-8."""
        row: dict[str, Any] = {}
        why = ""
        for (above, name, typed), cell in zip(self._plan, cells, strict=True):
            if cell is None:
                continue
            if typed and isinstance(cell, str):
                cell = typed(cell)
            elif isinstance(cell, BadCell):
                why = why or f"column {cut('.'.join((*above, name)), _SHOWN)}: {cell.why}"
                cell = cell.shown
            inside = row
            for part in above:
                inside = inside.setdefault(part, {})
            inside[name] = cell
        return encode(row), why

    def undecoded(self, cells: Sequence[Any]) -> str:
        """The name of the first column whose text was not UTF-8."""
        for name, cell in zip(self.names, cells, strict=True):
            try:
                encode(cell)
            except UnicodeEncodeError:
                return cut(name, _SHOWN)
        return ""

    def _check(self) -> None:
        seen: set[tuple[str, ...]] = set()
        objects = {path[:end] for path in self._paths for end in range(1, min(len(path), MOST_LEVELS))}
        for number, path in enumerate(self._paths, 1):
            name = cut(".".join(path), _SHOWN)
            if len(path) > MOST_LEVELS:
                raise Unusable(f"the name of its column {number} has more than {MOST_LEVELS} parts")
            if not all(path):
                raise Unusable(f"its column {number} has no name, or an empty part in it: {name!r}")
            if not "".join(path).isprintable():  # no control characters, and no bytes that are not UTF-8
                raise Unusable(f"the name of its column {number} is not text: {name!r}")
            if path in seen:
                raise Unusable(f"two of its columns are named {name!r}")
            if path in objects:
                raise Unusable(f"its column {name!r} is a value, and an object in the name of another column")
            seen.add(path)


def _typed(types: Types) -> Callable[[str], Any] | None:
    """What is made of text in a column of these types; None: it stays text."""
    if "string" in types:
        return None
    numeric = "number" in types or "integer" in types
    words = {word for kind in types for word in _WORDS.get(kind, ())}
    openers = tuple(mark for kind, mark in (("object", "{"), ("array", "[")) if kind in types)

    def convert(text: str) -> Any:
        """What does not fit stays text: the schema refuses it, with the name of the field."""
        if numeric and _NUMBER.fullmatch(text):
            return msgspec.Raw(text.encode())  # every digit of it
        if (word := text.lower()) in words:
            return msgspec.Raw(word.encode())
        if openers and (value := text.strip()).startswith(openers):
            data = value.encode("utf-8", "surrogateescape")
            if find_fault(data) is None:
                return msgspec.Raw(data)
        return text

    return convert
