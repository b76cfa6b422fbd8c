"""The compiled pass over CloudEvents: reads the key of those that are plain. Used by ``cloudevent``.

An event is plain if its text is what a JSON encoder writes for its members, compact or with a space
after commas and colons, and its attributes are strings of printable ASCII. Everything else is left
to the full check, as are binary data and null attributes.
"""

from collections.abc import Callable
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from ingestd.schemas.attributes import ATTRIBUTES, NAME, REQUIRED

_MAX_SHAPES = 256
_MAX_MEMBERS = 64
_SPACE = 0x20
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_strings = msgspec.json.Decoder(list[str]).decode


class _Shape(NamedTuple):
    """What is known of all events with the same member names in the same order.

    ``compact``, ``spaced``: the event's text, with a place for a value at every odd index.
    ``space_at``: where an event that is ``spaced`` has its first space. ``pick``: the attributes'
    values, the required ones first. ``checks``: (position among those, check).
    """

    compact: list[bytes]
    spaced: list[bytes]
    space_at: int
    pick: Callable[[tuple[msgspec.Raw, ...]], tuple[msgspec.Raw, ...]]
    checks: list[tuple[int, Callable[[str], bool]]]


class Envelopes:
    """Remembers the shapes of a stream's events; producers have few, and a hostile one no more than 256."""

    def __init__(self) -> None:
        self._shapes: dict[tuple[str, ...], _Shape | None] = {}

    def read_key(self, event: bytes) -> str | None:
        """``source NUL id`` of a plain, valid event; else None. Raises ValueError and RecursionError."""
        members = _members(event)
        names = tuple(members)
        shape = self._shapes[names] if names in self._shapes else self._learn(names)
        if shape is None:
            return None
        values = tuple(members.values())
        # The same text built from distinct names: no name stands there twice (C6).
        text_parts: list[Any] = (shape.spaced if event[shape.space_at] == _SPACE else shape.compact).copy()
        text_parts[1::2] = values
        if b"".join(text_parts) != event:
            return None
        attributes = _strings(b"[%b]" % b",".join(shape.pick(values)))
        text = "".join(attributes)
        if not (text.isascii() and text.isprintable()):
            return None
        for position, is_valid in shape.checks:
            if not is_valid(attributes[position]):
                return None
        return f"{attributes[2]}\0{attributes[1]}"

    def _learn(self, names: tuple[str, ...]) -> _Shape | None:
        if len(names) > _MAX_MEMBERS or sum(map(len, names)) > 20 * _MAX_MEMBERS:
            return None
        if len(self._shapes) >= _MAX_SHAPES:
            self._shapes.clear()
        shape = self._shapes[names] = _compile(names)
        return shape


def _compile(names: tuple[str, ...]) -> _Shape | None:
    """None for names that are not all those of a valid event without binary data."""
    attributes = [name for name in names if name != "data"]
    if not set(REQUIRED) <= set(attributes) or not all(NAME.fullmatch(name) for name in attributes):
        return None
    order = [*REQUIRED, *(name for name in attributes if name not in REQUIRED)]
    pick: Any = itemgetter(*(names.index(name) for name in order))
    return _Shape(
        compact=_text(names, ",", ":"),
        spaced=_text(names, ", ", ": "),
        space_at=len(names[0]) + 4,
        pick=pick,
        checks=[(at, ATTRIBUTES[name].is_valid) for at, name in enumerate(order) if name in ATTRIBUTES],
    )


def _text(names: tuple[str, ...], comma: str, colon: str) -> list[bytes]:
    """The text around the values, and an empty place for each of them."""
    parts = [f'{comma if at else "{"}"{name}"{colon}'.encode() for at, name in enumerate(names)]
    return [piece for part in parts for piece in (part, b"")] + [b"}"]
