"""Binary mode: a CloudEvent's attributes as headers, its data as the body. Used by ``cloudevents.py``.

Rules: CloudEvents HTTP binding 1.0.2 section 3.1, JSON format 1.0.2 section 3.1. An event that the binding
has no headers for is told in words, as a ValueError; nothing that stands in an event can add a header.
"""

import base64
from typing import NamedTuple
from urllib.parse import quote

import msgspec

from ingestd.schemas.attributes import ATTRIBUTES, NAME, REQUIRED

MAX_HEADERS = 64
MAX_HEADERS_BYTES = 8_000
"""Of names and values: what servers take as a rule."""

_SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
"""HTTP binding 3.1.3.2: all else is percent-encoded."""
_CHARSETS = {"": "utf-8", "utf-8": "utf-8", "us-ascii": "ascii", "iso-8859-1": "latin-1"}
_NOT_ATTRIBUTES = frozenset({"data", "data_base64", "datacontenttype"})
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
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
