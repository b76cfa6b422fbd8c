"""A CloudEvent as a person gives it: whole, or in words."""

import json
import random
from typing import NamedTuple

from ingestd.core.chunk import batch_ids
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.units import rfc3339
from ingestd.schemas.load import load as load_schema


class Words(NamedTuple):
    """What a CloudEvent is made of; ``data`` is JSON."""

    type: str | None = None
    source: str | None = None
    data: bytes | None = None
    subject: str | None = None
    id: str | None = None
    time: str | None = None

    def completed(self, clock: Clock, rng: random.Random) -> "Words":
        """With a new id and the time now, where none was given."""
        now = rfc3339(clock.wall(), "milliseconds")
        return self._replace(id=self.id or batch_ids(rng)(), time=self.time or now)


def make_event(words: Words) -> bytes:
    """A CloudEvent in structured mode; ``data`` keeps its spelling. Raises UserError."""
    attributes = {
        "specversion": "1.0",
        "id": words.id,
        "source": words.source,
        "type": words.type,
        "subject": words.subject,
        "time": words.time,
        "datacontenttype": None if words.data is None else "application/json",
    }
    head = json.dumps({name: value for name, value in attributes.items() if value is not None}).encode()
    if words.data is None:
        return head
    try:
        json.loads(words.data)
    except (ValueError, RecursionError):
        raise UserError("--data is not JSON: a text has to be quoted, as in --data '\"text\"'") from None
    return b'%b, "data": %b}' % (head[:-1], words.data)


def check_event(event: bytes, *, cloudevent: bool = True) -> None:
    """Raises UserError that names every field that is wrong. Not ``cloudevent``: any JSON will do."""
    if not cloudevent:
        try:
            json.loads(event)
        except (ValueError, RecursionError):
            raise UserError("the event is not JSON") from None
        return
    refusal = load_schema("cloudevent").explain(event)
    if refusal is not None:
        raise UserError(f"this is not a valid CloudEvent: {refusal.words}")
