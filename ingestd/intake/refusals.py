"""The answers to a producer for what is not taken: an event that is rejected, or all of it for now."""

from collections.abc import Sequence
from contextlib import suppress

import msgspec

from ingestd.core.submission import DeferredSubmission, Rejection
from ingestd.schemas.members import Members
from ingestd.schemas.schema import FieldError
from ingestd.store.connection import StoreBlocked

UNKNOWN_S = 30
"""To wait, where nobody knows how long it takes."""
MAX_ID_CHARS = 200
MAX_READ_BYTES = 1024 * 1024
"""Of a larger event the id is not looked for."""
_IDS = Members("id", "eventId", "interactionId")
_decode = msgspec.json.Decoder(str | int).decode


def rejection(position: int, event: bytes, errors: Sequence[FieldError]) -> Rejection:
    """``position``: of the event in its request."""
    details = [{"field": error.field, "message": error.message} for error in errors]
    return Rejection(position, event_id(event), details)


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


def store_deferral(error: BaseException) -> DeferredSubmission:
    """The answer to a producer when the store cannot be written; without paths of this machine.
    On a full disk, too, it is 503: what speaks OTLP takes a 507 for final and drops its events."""
    if isinstance(error, StoreBlocked):
        return DeferredSubmission(503, UNKNOWN_S, f"{error.summary}: try again later")
    return DeferredSubmission(
        503, UNKNOWN_S, "the store of this service has failed: try again later, or elsewhere"
    )
