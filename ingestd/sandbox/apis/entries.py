"""One entry of a typed array, and what each API asks of it. Used by ``sandbox/apis/genesys.py``. Pure."""

import re
from datetime import datetime
from typing import Any, NamedTuple

import msgspec

from ingestd.sandbox.inbox import digest

_UUID = re.compile(r"[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,3})?Z", re.ASCII)
_NO_COMMUNICATION = re.compile(r".*TransferEvents")
"""Transfers name the communications that they join or leave, and have none of their own."""

_MAX_ID = 100
_ENTRY = msgspec.json.Decoder(dict[str, Any])


class EntryApi(NamedTuple):
    """One API. ``subject``: the field that says whose event it is, a UUID.

    ``uuids``, ``texts``: further fields that must be there. ``values``: a field and what it may say.
    """

    path: str
    arrays: frozenset[str]
    subject: str
    uuids: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    values: tuple[str, tuple[str, ...]] | None = None


class ReceivedEntry(NamedTuple):
    """``content``: a digest of all but the event's id, and of the array it stands in."""

    array: str
    raw: bytes
    event_id: str
    fields: dict[str, Any]
    content: bytes

    def text(self, name: str) -> str:
        value = self.fields.get(name)
        return value if isinstance(value, str) else ""


def read_entry(array: str, raw: bytes) -> ReceivedEntry:
    """Raises ValueError for what has no id that an answer could name it by."""
    try:
        fields = _ENTRY.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise ValueError("an object expected") from None
    event_id = fields.get("eventId")
    if not isinstance(event_id, str) or not 1 <= len(event_id) <= _MAX_ID:
        raise ValueError("a V4 UUID expected")
    others = {name: value for name, value in fields.items() if name != "eventId"}
    content = digest(array.encode(), msgspec.json.encode(others, order="deterministic"))
    return ReceivedEntry(array, raw, event_id, fields, content)


def check_entry(entry: ReceivedEntry, kind: EntryApi) -> str | None:
    """The first thing that is wrong with an entry, by the platform's description of its fields."""
    if not _UUID.fullmatch(entry.event_id):
        return "eventId: a V4 UUID expected"
    if not _is_time(entry.text("eventDateTime")):
        return "eventDateTime: yyyy-MM-ddTHH:mm:ss[.mmm]Z expected"
    communication = () if _is_without_communication(entry, kind) else ("communicationId",)
    for name in (kind.subject, *kind.uuids, *communication):
        if not _UUID.fullmatch(entry.text(name)):
            return f"{name}: a V4 UUID expected"
    for name in kind.texts:
        if not entry.text(name):
            return f"{name}: a text expected"
    if kind.values is not None and entry.text(kind.values[0]) not in kind.values[1]:
        return f"{kind.values[0]}: one of {', '.join(kind.values[1])} expected"
    return None


def _is_without_communication(entry: ReceivedEntry, kind: EntryApi) -> bool:
    return kind.subject != "conversationId" or _NO_COMMUNICATION.fullmatch(entry.array) is not None


def _is_time(text: str) -> bool:
    if not _TIME.fullmatch(text):
        return False
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True
