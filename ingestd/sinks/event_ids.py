"""The ids of a batch's events, for answers that name events by them."""

from collections.abc import Sequence
from typing import Any

import msgspec


def ids_of(events: Sequence[bytes]) -> dict[str, list[int]]:
    """Every id field of every event (``_ID`` of ``answer_body.py``) with the indices of its events."""
    by_id: dict[str, list[int]] = {}
    for index, event in enumerate(events):
        try:
            fields = _Ids.decode(event)
        except (msgspec.DecodeError, RecursionError):
            continue
        values = (fields.event_id, fields.interaction_id, fields.id)
        for name in {str(value) for value in values if isinstance(value, str | int)}:
            by_id.setdefault(name, []).append(index)
    return by_id


class _IdFields(msgspec.Struct, gc=False, rename="camel"):
    event_id: Any = None
    interaction_id: Any = None
    id: Any = None


_Ids = msgspec.json.Decoder(_IdFields)
