"""What a producer is told about an event that fails its schema."""

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from ingestd.core.submission import Rejection
from ingestd.schemas.grammar import Members
from ingestd.schemas.schema import FieldError

MAX_ID_CHARS = 200
MAX_READ_BYTES = 1024 * 1024
"""Of a larger event the id is not looked for."""
_IDS = Members("id", "eventId", "interactionId")
_decode = msgspec.json.Decoder(str | int).decode


def rejection(position: int, event: bytes, errors: Sequence[FieldError]) -> Rejection:
    """``position``: of the event in its request."""
    told = [{"field": error.field, "message": error.message} for error in errors]
    return Rejection(position, event_id(event), told)


def event_id(event: bytes) -> str | None:
    """The id by which its producer knows an event, if one can be read from it; cut to size.

    Nothing is made of the rest of the event.
    """
    if len(event) > MAX_READ_BYTES:
        return None
    try:
        found = _IDS.of(event)
    except (ValueError, RecursionError):
        return None
    for text in found.values():
        with suppress(ValueError):
            return str(_decode(text))[:MAX_ID_CHARS]
    return None
