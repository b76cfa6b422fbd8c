"""One entry of a typed array. Used by ``sandbox/apis/genesys.py``. Pure."""

from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec

from ingestd.sandbox.inbox import digest

_MAX_ID = 100
_ENTRY = msgspec.json.Decoder(dict[str, Any])


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

    @property
    def time(self) -> datetime:
        """When it says that it was; long ago if it says nothing that is a time."""
        text = self.text("eventDateTime").upper().replace(":60", ":59")  # a leap second
        try:
            time = datetime.fromisoformat(text)
        except ValueError:
            return datetime.min.replace(tzinfo=UTC)
        return time if time.tzinfo else time.replace(tzinfo=UTC)


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
