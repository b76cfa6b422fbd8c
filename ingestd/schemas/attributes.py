"""The context attributes of CloudEvents 1.0, and the pass over plain events that reads their keys.

C1 to C14 in comments are the numbers of the rules in the vector file of the tests. Every pattern is free of
nested repetition, so that a hostile value costs linear time. ``PlainEvents`` accepts events that are plain:
their text is what a JSON encoder writes for its members, compact or with a space after commas and colons, and
their attributes are strings of printable ASCII. All else is left to the full check of ``cloudevent``.
"""

import re
from collections.abc import Callable
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

import msgspec

from ingestd.schemas.rfc3339 import is_common, is_timestamp

NAME = re.compile(r"(?!data\Z)[a-z0-9]+")
"""C5, for ``fullmatch``."""

# C9: controls, surrogates and noncharacters (the last two code points of every plane, and FDD0-FDEF).
_FORBIDDEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(plane * 0x10000 + 0xFFFE)}{chr(plane * 0x10000 + 0xFFFF)}" for plane in range(17))
    + "]"
)

# RFC 3986. ``_CHARS`` matches a run of characters and percent-encodings.
_SAFE = r"A-Za-z0-9\-._~!$&'()*+,;=:@"


def _chars(extra: str) -> str:
    return rf"[{_SAFE}{extra}]*(?:%[0-9A-Fa-f]{{2}}[{_SAFE}{extra}]*)*"


_SCHEME = r"[A-Za-z][A-Za-z0-9+.\-]*:"
_AUTHORITY = rf"//(?:{_chars('')}|(?:{_chars('')}@)?\[[0-9A-Fa-f:.vV]+\](?::[0-9]*)?)(?=[/?#]|\Z)"
_REST = rf"{_chars('/')}(?:\?{_chars('/?')})?(?:#{_chars('/?')})?"
_ABSOLUTE = re.compile(rf"{_SCHEME}(?:{_AUTHORITY})?{_REST}")
# Without a scheme the first segment has no colon, or what is before it would be one.
_RELATIVE = re.compile(rf"(?:{_AUTHORITY}|(?![^/?#]*:)){_REST}")

# RFC 2046 with the characters of RFC 9110.
_WORD = r"[A-Za-z0-9!#$%&'*+.^_`|~\-]+"
_QUOTED = r'"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"'
_MEDIA_TYPE = re.compile(rf"{_WORD}/{_WORD}(?:[ \t]*;[ \t]*{_WORD}=(?:{_WORD}|{_QUOTED}))*[ \t]*")

_CACHED_LENGTH = 256


class Attribute(NamedTuple):
    is_valid: Callable[[str], bool]
    expected: str


def check_text(text: str) -> str:
    """C9. Raises ValueError."""
    if _FORBIDDEN.search(text):
        raise ValueError("expected no control characters, surrogates or noncharacters")
    return text


def _remembering(check: Callable[[str], object]) -> Callable[[str], bool]:
    """``check`` with a bounded memory for short values: a stream has few sources and media types."""
    cached = lru_cache(maxsize=1024)(lambda text: bool(check(text)))
    return lambda text: cached(text) if len(text) <= _CACHED_LENGTH else bool(check(text))


def _is_uri_reference(text: str) -> bool:
    return bool(text and (_ABSOLUTE.fullmatch(text) or _RELATIVE.fullmatch(text)))


def _is_time(text: str) -> bool:
    return is_common(text) or is_timestamp(text)


_TEXT = Attribute(bool, "a text that is not empty")
ATTRIBUTES = {
    "id": _TEXT,
    "source": Attribute(_remembering(_is_uri_reference), "a URI reference (RFC 3986) that is not empty"),
    "specversion": Attribute("1.0".__eq__, "'1.0'"),
    "type": _TEXT,
    "subject": _TEXT,
    "time": Attribute(_is_time, "an RFC 3339 time with an offset, like 2026-01-01T10:00:00Z"),
    "datacontenttype": Attribute(_remembering(_MEDIA_TYPE.fullmatch), "a media type like application/json"),
    # The specification's type has no fragment; schemas in the field do, and no harm comes of it.
    "dataschema": Attribute(_remembering(_ABSOLUTE.fullmatch), "an absolute URI"),
}
REQUIRED = ("specversion", "id", "source", "type")


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


class PlainEvents:
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
        # The same text built from distinct names: no name stands twice (C6).
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
    return [one for part in parts for one in (part, b"")] + [b"}"]
