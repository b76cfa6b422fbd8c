"""A dead letter: an event that could not be delivered, with all that is needed to put it right."""

import re
from functools import lru_cache
from typing import NamedTuple

from ingestd.core.reasons import Reason

MAX_DETAIL = 2_000
"""Characters kept of an answer or of validation errors."""

_VARIABLE = re.compile(r"[0-9a-f]{8}-[0-9a-f-]{27}|'[^']*'|\"[^\"]*\"|\d+", re.IGNORECASE)


class DeadLetter(NamedTuple):
    """One row of the dead-letter store, as it is written.

    ``source``/``offset``/``line``: where the event came from; together they keep a crash from
    writing the same letter twice. ``detail``: validation errors or the API's answer, cut.
    ``batch``/``batch_index``/``batch_size``: the request it was part of; ``unanswered`` says that
    the API may have taken that request. ``first_sent_wall``: 0 if it never was sent. ``sink``: where it
    could not be delivered; empty: it was rejected before it was known where to. ``freed``: its key is free
    again; of an event that other sinks have it is not.
    """

    payload: bytes
    reason: Reason
    detail: str
    source: int
    offset: int
    line: int
    digest: bytes | None = None
    batch: str = ""
    batch_index: int = 0
    batch_size: int = 0
    attempts: int = 0
    unanswered: bool = False
    first_sent_wall: float = 0.0
    sink: str = ""
    freed: bool = False


@lru_cache(maxsize=4096)
def fingerprint(reason: Reason, detail: str) -> str:
    """Groups like failures: the reason and the detail's first line without its variable parts."""
    return f"{reason}: {_VARIABLE.sub('#', detail.split(chr(10), 1)[0])[:120]}"
