"""The forms of a CloudEvent: made of ordinary JSON, and taken apart into headers and a body (binary mode).

Used by ``cloudevents.py``. Rules: CloudEvents HTTP binding 1.0.2 section 3.1, JSON format 1.0.2 section 3.1.
What does not fit is a ValueError, in words; nothing that stands in an event can add a header. Data is cut out
of the event as the bytes that stand there, so that its numbers keep their spelling.
"""

import base64
import re
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from ingestd.core import json_path
from ingestd.schemas.attributes import ATTRIBUTES, NAME, REQUIRED, check_text
from ingestd.schemas.grammar import is_utf8
from ingestd.sinks.sink import content_id

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
            parts = [_HEAD, b',"id":"%b"' % content_id(event).encode()]
        else:
            parts = [_HEAD, _from_path(root, "id", self._id)]
        parts += [
            attribute.text if attribute.path is None else _from_path(root, attribute.name, attribute.path)
            for attribute in self._attributes
        ]
        data = _value_at(root, self._data) if self._data else event.strip()  # "$"
        if data is None:
            raise ValueError(f"data: nothing at {_shown(self._data)}")
        return b"".join([*parts, _DATA, data, b"}"])


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


MAX_HEADERS = 64
MAX_HEADERS_BYTES = 8_000
"""Of names and values: what servers take as a rule."""

_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""HTTP binding 3.1.3.2: all else is percent-encoded."""
_CHARSETS = {"": "utf-8", "utf-8": "utf-8", "us-ascii": "ascii", "iso-8859-1": "latin-1"}
_NOT_ATTRIBUTES = frozenset({"data", "data_base64", "datacontenttype"})
_decode = msgspec.json.decode


class Binary(NamedTuple):
    headers: dict[str, str]
    body: bytes


def split(event: bytes) -> Binary:
    """``event``, a CloudEvent in structured mode, in binary mode. Raises ValueError, in words."""
    try:
        members = _members(event)
    except (ValueError, RecursionError):
        raise ValueError("it is not a JSON object, so no CloudEvent") from None
    headers = {
        f"ce-{name}": value
        for name, raw in members.items()
        if name not in _NOT_ATTRIBUTES and (value := _header_value(name, raw)) is not None
    }
    for name in REQUIRED:
        if not headers.get(f"ce-{name}"):
            raise ValueError(f"{name} is missing")
    content_type, body = _split_data(members)
    if content_type:
        headers["Content-Type"] = content_type
    size = sum(len(name) + len(value) for name, value in headers.items())
    if len(headers) > MAX_HEADERS or size > MAX_HEADERS_BYTES:
        raise ValueError(
            f"its attributes are too long for headers: {len(headers)} with {size} bytes, at most"
            f" {MAX_HEADERS} with {MAX_HEADERS_BYTES}"
        )
    return Binary(headers, body)


def _header_value(name: str, raw: msgspec.Raw) -> str | None:
    """The attribute's text, percent-encoded; None for null, which is the same as absent (JSON format 2.2)."""
    if not NAME.fullmatch(name):
        raise ValueError(f"attribute names are a-z and 0-9 only, not {name[:40]!r}")
    value = _scalar(raw)
    if value is None:
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    if not isinstance(value, str):
        raise ValueError(f"{name[:40]}: expected a string, a boolean or an integer")
    return quote(value, safe=_SAFE)


def _scalar(raw: msgspec.Raw) -> object:
    """The value; an object or array is not looked into."""
    text = bytes(raw)
    return () if text[:1] in (b"{", b"[") else _decode(text)


def _split_data(members: dict[str, msgspec.Raw]) -> tuple[str, bytes]:
    """(Content-Type, body); the type is the attribute's, also where there is no data (HTTP binding 3.1.1)."""
    declared = _text_of(members, "datacontenttype")
    if declared and not (
        ATTRIBUTES["datacontenttype"].is_valid(declared) and declared.isascii() and declared.isprintable()
    ):
        raise ValueError(f"datacontenttype: expected {ATTRIBUTES['datacontenttype'].expected}")
    encoded = _text_of(members, "data_base64")
    if "data" in members:
        if encoded is not None:
            raise ValueError("data and data_base64 exclude each other")
        # JSON format 3.1: no datacontenttype means JSON
        return declared or "application/json", _data_bytes(members["data"], declared or "application/json")
    if encoded is None:
        return declared or "", b""
    try:
        return declared or "", base64.b64decode(encoded, validate=True)
    except ValueError:
        raise ValueError("data_base64: expected base64") from None


def _text_of(members: dict[str, msgspec.Raw], name: str) -> str | None:
    if name not in members:
        return None
    value = _scalar(members[name])
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{name}: expected a string")
    return value


def _data_bytes(data: msgspec.Raw, media_type: str) -> bytes:
    """JSON as it stands in the event; a text of another type as its characters, in the charset it names."""
    name, _, parameters = media_type.lower().partition(";")
    if name.strip().endswith(("/json", "+json")):
        return bytes(data)
    raw = bytes(data)
    if raw[:1] != b'"':
        raise ValueError("data: expected a string, because datacontenttype is not JSON")
    charset = ""
    for parameter in parameters.split(";"):
        key, _, value = parameter.partition("=")
        if key.strip() == "charset":
            charset = value.strip().strip('"')
    try:
        return str(_decode(raw)).encode(_CHARSETS[charset])
    except (KeyError, UnicodeEncodeError):
        raise ValueError("data: it cannot be written in the charset of datacontenttype") from None
