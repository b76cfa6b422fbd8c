"""What a producer is told about an event that fails its schema."""

from collections.abc import Sequence

import msgspec

from ingestd.core.submission import Rejection
from ingestd.schemas.schema import FieldError

MAX_ID_CHARS = 200
_ID_FIELDS = ("id", "eventId", "interactionId")
_decode = msgspec.json.Decoder(dict[str, object]).decode


def rejection(position: int, event: bytes, errors: Sequence[FieldError]) -> Rejection:
    """``position``: of the event in its request."""
    told = [{"field": error.field, "message": error.message} for error in errors]
    return Rejection(position, event_id(event), told)


def event_id(event: bytes) -> str | None:
    """The id by which its producer knows an event, if one can be read from it; cut to size."""
    try:
        fields = _decode(event)
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return None
    for name in _ID_FIELDS:
        value = fields.get(name)
        if isinstance(value, str | int):
            return str(value)[:MAX_ID_CHARS]
    return None
