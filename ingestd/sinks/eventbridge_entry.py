"""From an event to an entry of ``PutEvents``. Used by ``eventbridge.py``.

The detail is the bytes that stand in the event, so that numbers keep their spelling.
"""

import re
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import NamedTuple

import msgspec

from ingestd.core import json_path
from ingestd.schemas.grammar import is_utf8
from ingestd.schemas.rfc3339 import is_timestamp

MAX_DETAIL_TYPE_CHARS = 128
MAX_NAME_BYTES = 4_000
TIME_BYTES = 14
"""What AWS counts for a time, however it is written."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
_NUMBER = re.compile(r"\d{1,11}(?:\.\d{1,9})?", re.ASCII)
_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_encode = msgspec.json.Encoder().encode

ReadValue = Callable[[bytes], bytes | None]
"""event -> the JSON at a path in it, or a constant's; None where the path leads nowhere."""


class BusEntry(NamedTuple):
    """``body``: its JSON. ``counted_bytes``: its size by the rule of AWS."""

    body: bytes
    counted_bytes: int


class BusEntryEncoder:
    """Calling it with an event gives its entry: the same bytes for the same event.

    Values that begin with ``$`` are paths (``core/json_path.py``), ``$`` is all of the event; ``detail`` and
    ``time`` are paths anyway. Others stand for themselves. ``time`` empty, or nothing there: AWS sets it. A
    resource that is not there is left out, a list is several.
    Raises ValueError for settings that cannot be.
    """

    def __init__(
        self, *, bus: str, source: str, detail_type: str, detail: str, time: str, resources: Sequence[str]
    ) -> None:
        for name, path in (("detail", detail), ("time", time)):
            if path and not json_path.is_marked(path):
                raise ValueError(f"{name}: expected a path, like $.{name}")
        self._source = _value(source, "source")
        self._detail_type = _value(detail_type, "detail_type")
        self._detail = _path(detail or "$", "detail")
        self._time = _path(time, "time") if time else None
        self._resources = [_value(resource, "resources") for resource in resources]
        for name, text, check in (("source", source, _source), ("detail_type", detail_type, _detail_type)):
            if not text.startswith("$"):
                check(_string(_encode(text), name))
        if not bus or len(bus) > 1600 or _CONTROL.search(bus):
            raise ValueError("bus: a name or an ARN is needed")
        self._bus = b',"EventBusName":' + _encode(bus)

    def __call__(self, event: bytes) -> BusEntry:
        """Raises ValueError, in words, for an event that EventBridge cannot take."""
        try:
            return self._make(event)
        except RecursionError:
            raise ValueError("nested too deeply") from None

    def _make(self, event: bytes) -> BusEntry:
        source = _source(_string(self._source(event), "source"))
        detail_type = _detail_type(_string(self._detail_type(event), "detail_type"))
        detail = _detail(self._detail(event))
        parts = [
            b'{"Source":' + _encode(source),
            b',"DetailType":' + _encode(detail_type),
            b',"Detail":' + _encode(detail.decode()),
            self._bus,
        ]
        counted = len(source.encode()) + len(detail_type.encode()) + len(detail)
        if self._time is not None and (time := _time(self._time(event))):
            parts.append(b',"Time":' + time)
            counted += TIME_BYTES
        if resources := [text for value in self._resources for text in _resources(value(event))]:
            parts.append(b',"Resources":' + _encode(resources))
            counted += sum(len(text.encode()) for text in resources)
        parts.append(b"}")
        return BusEntry(b"".join(parts), counted)


def _value(setting: str, name: str) -> ReadValue:
    if not setting.startswith("$"):
        constant = _encode(setting)
        return lambda event: constant
    if not json_path.is_marked(setting):
        raise ValueError(f"{name}: {setting[:60]!r} is not a path, like $.meta.kind")
    return _path(setting, name)


def _path(setting: str, name: str) -> ReadValue:
    try:
        path = json_path.parse(setting)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
    return lambda event: _at(event, path)


def _at(event: bytes, path: json_path.Path) -> bytes | None:
    """The JSON at ``path``; None where there is nothing, or null. Raises ValueError for what is not JSON."""
    raw = json_path.raw_at(event, path)
    return None if raw == b"null" else raw


def _string(raw: bytes | None, name: str) -> str:
    if raw is None:
        raise ValueError(f"{name}: nothing there")
    if raw[:1] != b'"':
        raise ValueError(f"{name}: not a string")
    text = msgspec.json.decode(raw, type=str)
    if not text.strip() or len(text) > MAX_NAME_BYTES:
        raise ValueError(f"{name}: {len(text)} characters, expected 1 to {MAX_NAME_BYTES}")
    if _CONTROL.search(text):
        raise ValueError(f"{name}: has control characters")
    return text


def _source(text: str) -> str:
    if text.lower().startswith("aws."):
        raise ValueError("source: names that begin with aws. are those of AWS")
    return text


def _detail_type(text: str) -> str:
    if len(text) > MAX_DETAIL_TYPE_CHARS:
        raise ValueError(f"detail_type: {len(text)} characters, at most {MAX_DETAIL_TYPE_CHARS}")
    return text


def _detail(raw: bytes | None) -> bytes:
    if raw is None or raw[:1] != b"{":
        raise ValueError("detail: not a JSON object")
    try:
        _members(raw)
    except ValueError:
        raise ValueError("detail: not a JSON object") from None
    if not is_utf8(raw):
        raise ValueError("detail: not UTF-8")
    return raw


def _time(raw: bytes | None) -> bytes | None:
    """Seconds since the epoch, as the JSON protocol of AWS wants them, to the millisecond."""
    if raw is None:
        return None
    if raw[:1] != b'"':
        if not _NUMBER.fullmatch(raw.decode("latin-1")):
            raise ValueError("time: neither RFC 3339 nor seconds since 1970")
        return raw
    text = _string(raw, "time")
    # a leap second is a valid time that Python does not know: it is sent as the second before
    known = re.sub(r"(?<=:\d\d):60", ":59", text.upper())
    try:
        if not is_timestamp(text):
            raise ValueError
        # fromisoformat of Python 3.11 takes up to 6 digits, and cuts the rest
        seconds = datetime.fromisoformat(known).timestamp()
    except (ValueError, OverflowError):
        raise ValueError("time: not RFC 3339, like 2026-01-31T10:00:00Z") from None
    return f"{seconds:.3f}".removesuffix(".000").encode()


def _resources(raw: bytes | None) -> list[str]:
    if raw is None:
        return []
    many = _elements(raw) if raw[:1] == b"[" else [raw]
    if len(many) > 100:
        raise ValueError("resources: more than 100")
    return [_string(bytes(one), "resources") for one in many]
