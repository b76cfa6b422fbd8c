"""A dead letter: an event that could not be delivered, with all that is needed to put it right."""

from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from ingestd.core.reasons import Reason
from ingestd.core.text import shape

MAX_DETAIL = 2_000
"""Characters kept of an answer or of validation errors."""

HEADERS = "headers "
"""Before those of a broker's message, at the end of a letter's detail."""

_OF_ANSWERS = frozenset({Reason.REFUSED, Reason.GAVE_UP, Reason.FAILED, Reason.UNCONFIRMED})


class Form(IntEnum):
    """What a letter's payload is."""

    AS_IT_CAME = 0  # and is sent so
    UNTRANSFORMED = 1  # as it came; the transforms of its sink run before it is sent
    TRANSFORMED = 2  # as it is sent


class DeadLetter(NamedTuple):
    """One row of the dead-letter store, as it is written.

    ``source``/``offset``/``line``: where the event came from; together they keep a crash from
    writing the same letter twice. ``detail``: validation errors or the API's answer, cut.
    ``batch``/``batch_index``/``batch_size``: the request it was part of; ``ambiguous`` says that
    the API may have taken that request. ``first_sent_wall``: 0 if it never was sent. ``sink``: where it
    could not be delivered; empty: it was rejected before routing. ``key_released``: its key may be used
    again; not if another sink has the event. ``producer``: whose it is, where that is known. ``form``: what
    the payload is.
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
    ambiguous: bool = False
    first_sent_wall: float = 0.0
    sink: str = ""
    key_released: bool = False
    producer: str = ""
    form: Form = Form.AS_IT_CAME


def fingerprint(reason: Reason, detail: str) -> str:
    """Groups like failures: the reason, an answer's status, and its words without their variable parts. Of
    the first line: in the second one is the message of a broker that the event came in."""
    return _fingerprint(reason, detail.partition("\n")[0])


@lru_cache(maxsize=4096)
def _fingerprint(reason: Reason, line: str) -> str:
    return f"{reason}: {shape(line, of_answer=reason in _OF_ANSWERS, of_fields=reason is Reason.INVALID)}"
