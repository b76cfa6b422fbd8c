"""Makes a CloudEvent of ordinary JSON. Used by ``cloudevents.py``.

The data is cut out of the event as the bytes that stand there, so that its numbers keep their spelling.
"""

import re
from typing import NamedTuple

import msgspec

from ingestd.core import json_path
from ingestd.schemas.attributes import ATTRIBUTES, check_text
from ingestd.schemas.grammar import is_utf8
from ingestd.sinks.content_id import content_id

MAX_ATTRIBUTE_CHARS = 4_000
MAX_PARTS = 16
_NUMBERED = frozenset({"id", "subject"})
"""May be an integer in the event; its digits are the attribute."""
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,99})")
_HEAD = b'{"specversion":"1.0"'
_DATA = b',"datacontenttype":"application/json","data":'
_skip = msgspec.json.Decoder(msgspec.Raw).decode
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_text = msgspec.json.Decoder(str).decode


class _Attribute(NamedTuple):
    """``path`` into the event, or the attribute's ``text`` in the wrapped event, the same for all."""

    name: str
    path: json_path.Path | None
    text: bytes = b""


class Wrapping:
    """Calling it with an event gives the CloudEvent in structured mode: for the same event the same bytes.

    A value that begins with ``$.`` or ``$[`` is a path into the event (``core/json_path.py``); another one is
    the attribute itself. ``id``, ``time`` and ``data`` are paths; ``$`` is all of the event. ``id`` empty:
    made from the event's bytes. ``time`` and ``subject`` empty: left out, as is a ``subject`` whose path
    leads nowhere. A CloudEvent is wrapped like any other event.
    Raises ValueError for settings that make no sense, such as an ``id`` that all events would share.
    """

    def __init__(
        self,
        *,
        type: str,  # noqa: A002 - these are CloudEvents' names
        source: str,
        id: str = "",  # noqa: A002
        time: str = "",
        subject: str = "",
        data: str = "$",
    ) -> None:
        for name, value in (("type", type), ("source", source), ("data", data)):
            if not value:
                raise ValueError(f"wrap.{name} is missing")
        for name, value in (("id", id), ("time", time), ("data", data)):
            if value and not json_path.is_marked(value):
                raise ValueError(f"wrap.{name}: expected a path, like $.{name}")
        given = {"source": source, "type": type, "time": time, "subject": subject}
        self._id = _parse_path(id, "id") if id else None
        self._attributes = [_attribute(name, value) for name, value in given.items() if value]
        self._data = _parse_path(data, "data")

    def __call__(self, event: bytes) -> bytes:
        """The CloudEvent. Raises ValueError that names the attribute and what is wrong with it."""
        try:
            root = _members(event) if event.lstrip()[:1] == b"{" else _skip(event)
        except (ValueError, RecursionError):
            raise ValueError("it is not JSON") from None
        if not is_utf8(event):
            raise ValueError("it is not UTF-8")
        if self._id is None:
            pieces = [_HEAD, b',"id":"%b"' % content_id(event).encode()]
        else:
            pieces = [_HEAD, _from_path(root, "id", self._id)]
        pieces += [
            attribute.text if attribute.path is None else _from_path(root, attribute.name, attribute.path)
            for attribute in self._attributes
        ]
        data = _value_at(root, self._data) if self._data else event.strip()  # "$"
        if data is None:
            raise ValueError(f"data: nothing at {_shown(self._data)}")
        return b"".join([*pieces, _DATA, data, b"}"])


def _parse_path(text: str, name: str) -> json_path.Path:
    """Raises ValueError that names the attribute."""
    try:
        path = json_path.parse(text)
    except ValueError as error:
        raise ValueError(f"wrap.{name}: {error}") from None
    if len(path) > MAX_PARTS:
        raise ValueError(f"wrap.{name}: {text[:60]!r}: a path has at most {MAX_PARTS} names")
    if not path and name != "data":
        raise ValueError(f"wrap.{name}: {text!r} is the whole event: expected a path, like $.{name}")
    return path


def _shown(path: tuple[str, ...]) -> str:
    return ".".join(("$", *path))[:100]


def _attribute(name: str, value: str) -> _Attribute:
    if name == "time" or value.startswith(("$.", "$[")):
        return _Attribute(name, _parse_path(value, name))
    try:
        _check(name, value)
    except ValueError as error:
        raise ValueError(f"wrap.{name}: {error}") from None
    return _Attribute(name, None, b',"%b":%b' % (name.encode(), msgspec.json.encode(value)))


def _from_path(root: dict[str, msgspec.Raw] | msgspec.Raw, name: str, path: tuple[str, ...]) -> bytes:
    """``,"name":"value"`` with the value as the event spells it; nothing for an absent subject."""
    raw = _value_at(root, path)
    if name == "subject" and raw in (None, b"null", b'""'):
        return b""
    if raw is None or raw == b"null":
        raise ValueError(f"{name}: nothing at {_shown(path)}")
    if name in _NUMBERED and _INTEGER.fullmatch(raw):
        raw = b'"%b"' % raw
    try:
        if raw[:1] != b'"':
            raise ValueError("expected a string")
        _check(name, _text(raw))
    except ValueError as error:
        raise ValueError(f"{name}: {error}, at {_shown(path)}") from None
    return b',"%b":%b' % (name.encode(), raw)


def _check(name: str, text: str) -> None:
    if len(text) > MAX_ATTRIBUTE_CHARS:
        raise ValueError(f"expected at most {MAX_ATTRIBUTE_CHARS} characters")
    if not ATTRIBUTES[name].is_valid(check_text(text)):
        raise ValueError(f"expected {ATTRIBUTES[name].expected}")


def _value_at(root: dict[str, msgspec.Raw] | msgspec.Raw, path: json_path.Path) -> bytes | None:
    """The JSON text at ``path``; None where it leads nowhere. ``root`` is an object's members, or a value."""
    if not isinstance(root, dict):
        return json_path.raw_at(root, path)
    return json_path.raw_at(root[path[0]], path[1:]) if path[0] in root else None
