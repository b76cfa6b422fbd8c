"""Dead letters as plain values, for JSON and for tables."""

import base64
from typing import Any

from ingestd.core.redaction import redact
from ingestd.core.units import rfc3339
from ingestd.store.dead_letters import StoredLetter

Group = tuple[str, int, float, float, int]
"""(fingerprint, count, first failure, last failure, an id)."""
Fields = dict[str, Any]


def moment(seconds: float | None) -> str | None:
    return rfc3339(seconds) if seconds else None


def group_as_dict(group: Group) -> Fields:
    fingerprint, count, first, last, example = group
    return {
        "fingerprint": redact(fingerprint),
        "count": count,
        "first_failed": moment(first),
        "last_failed": moment(last),
        "example": example,
    }


def as_dict(letter: StoredLetter, source: str = "") -> Fields:
    """All of a letter but internal marks; a payload that is not UTF-8 has ``payload_base64`` instead."""
    found: Fields = {
        "id": letter.id,
        "state": letter.state,
        "sink": letter.sink or None,
        "reason": letter.reason,
        "detail": redact(letter.detail),
        "fingerprint": redact(letter.fingerprint),
        "source": source or letter.source,
        "offset": letter.offset,
        "line": letter.line,
        "batch": letter.batch or None,
        "idempotency_key": letter.batch or None,
        "batch_index": letter.batch_index,
        "maybe_taken": bool(letter.ambiguous),
        "attempts": letter.attempts,
        "first_sent": moment(letter.first_sent),
        "first_failed": moment(letter.first_failed),
        "last_failed": moment(letter.last_failed),
        "next_due": moment(letter.due),
        "delivered_at": moment(letter.settled_at),
        "requested_at": moment(letter.requested),
        "why_not_by_itself": letter.obstacle or None,
        "edited": bool(letter.edited),
        "intact": letter.intact,
    }
    try:
        found["payload"] = letter.payload.decode()
    except UnicodeDecodeError:
        found["payload_base64"] = base64.b64encode(letter.payload).decode()
    return found
