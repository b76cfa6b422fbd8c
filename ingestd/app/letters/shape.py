"""Dead letters as plain values, for JSON and for tables."""

import base64
import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from ingestd.core.letter import Form
from ingestd.core.redaction import redact
from ingestd.core.text import answer_words, cut, variable_parts
from ingestd.core.units import rfc3339
from ingestd.store.dead_letters import ID_FIELDS, TYPE_FIELDS, StoredLetter

_MAX_CAUSE, _MAX_VALUE = 300, 60
_MOST_PLACES, _MOST_VALUES = 20, 5

_UNNUMBERED = ("SQS queue ", "Genesys notifications ")
"""Sources whose messages have no places."""
_FORMS = {
    Form.AS_IT_CAME: "as it came",
    Form.UNTRANSFORMED: "as it came, not transformed yet",
    Form.TRANSFORMED: "as it is sent",
}

LetterGroup = tuple[str, int, float, float, int, str]
"""(fingerprint, count, first failure, last failure, an id, sink)."""
Fields = dict[str, Any]


def moment(seconds: float | None) -> str | None:
    return rfc3339(seconds) if seconds else None


def group_as_dict(group: LetterGroup, details: Sequence[tuple[str, int]] = ()) -> Fields:
    """``cause``: as it is said most often; ``values``: what differs in it, as lists of (value, count), of
    each place the most frequent."""
    fingerprint, count, first, last, example, sink = group
    return {
        "fingerprint": redact(fingerprint),
        "sink": sink or None,
        "count": count,
        "first_failed": moment(first),
        "last_failed": moment(last),
        "example": example,
        "cause": redact(answer_words(_line(details[0][0]), _MAX_CAUSE)) if details else redact(fingerprint),
        "values": _values(details),
    }


def _values(details: Sequence[tuple[str, int]]) -> list[list[tuple[str, int]]]:
    places: dict[int, Counter[str]] = {}
    for detail, count in details:
        for place, value in enumerate(variable_parts(_line(detail))[:_MOST_PLACES]):
            places.setdefault(place, Counter())[redact(value)[:_MAX_VALUE]] += count
    differing = [counter for counter in places.values() if len(counter) > 1]
    return [counter.most_common(_MOST_VALUES) for counter in differing]


def _line(detail: str) -> str:
    return detail.split("\n", 1)[0]


def about(payload: bytes) -> tuple[str | None, str | None]:
    """(id, type) of an event, where it has them in the usual fields."""
    try:
        event = json.loads(payload)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(event, dict):
        return None, None
    return _first(event, ID_FIELDS), _first(event, TYPE_FIELDS)


def _first(event: dict[str, Any], names: Sequence[str]) -> str | None:
    found = next((event[name] for name in names if event.get(name) is not None), None)
    return redact(cut(found)) if isinstance(found, str) else None


def _place(offset: int, source: str) -> tuple[int | None, int | None]:
    """Offset and sequence, as far as there is one that a person can look for."""
    if offset < 0:
        return None, -1 - offset if offset < -1 else None
    if source.startswith("NATS stream "):
        return None, offset
    return None if source.startswith(_UNNUMBERED) else offset, None


def as_dict(letter: StoredLetter, source: str) -> Fields:
    """All of a letter but internal marks; a payload that is not UTF-8 has ``payload_base64`` instead.
    ``sequence``: of its message, or of its chunk where the spool is on NATS; then it has no ``offset``.
    ``source``: its name, if it has one; of a broker's message its place is what the broker calls so.
    """
    event_id, event_type = about(letter.payload)
    offset, sequence = _place(letter.offset, source)
    found: Fields = {
        "id": letter.id,
        "state": letter.state,
        "sink": letter.sink or None,
        "event_id": event_id,
        "event_type": event_type,
        "producer": letter.producer or None,
        "reason": letter.reason,
        "detail": redact(letter.detail),
        "fingerprint": redact(letter.fingerprint),
        "source": source or None,
        "offset": offset,
        "sequence": sequence,
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
        "payload_is": _FORMS[Form(letter.form)],
        "intact": letter.intact,
    }
    try:
        found["payload"] = letter.payload.decode()
    except UnicodeDecodeError:
        found["payload_base64"] = base64.b64encode(letter.payload).decode()
    return found
