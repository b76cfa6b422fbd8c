"""A submission: the events of one request of a producer, and the answer to it.

The HTTP source makes submissions, ``admission.py`` takes them; neither knows the other.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from ingestd.core.chunk import Chunk

MAX_LISTED = 100
"""Most rejected events that an answer lists: the first ones."""


class Rejection(NamedTuple):
    """An event that fails its schema. ``id``: its own, if one can be read from it."""

    position: int
    """Its index in the request."""
    id: str | None
    errors: list[dict[str, str]]
    """``{"field": dotted path, "message": what was expected}``, at least one."""


class SubmissionOutcome(NamedTuple):
    """What became of a submission's new events so far; ``pending`` ones are safe in the spool, ``skipped``
    ones go to no sink: they match none, or transforms dropped them."""

    delivered: int
    dead_lettered: int
    pending: int
    skipped: int = 0


class AcceptedSubmission(NamedTuple):
    """``accepted`` events are on disk, ``duplicates`` were there before, ``rejected`` were not stored.

    ``ends`` only for a submission that waited. ``stored`` False: atomic, and something was invalid.
    ``unlisted``: rejected events that the answer does not list, beyond those in ``rejected``.
    """

    accepted: int
    duplicates: int
    rejected: list[Rejection]
    ends: SubmissionOutcome | None = None
    stored: bool = True
    unlisted: int = 0


ONE_ACCEPTED = AcceptedSubmission(1, 0, [])
"""What becomes of nearly every submission of a single event. Nobody adds to its list."""


class DeferredSubmission(msgspec.Struct, frozen=True):
    """Nothing of the submission was accepted: the producer must send it again.

    ``status``: 429 the spool is at its cap, 503 not now.
    """

    status: int
    retry_after_s: int
    detail: str


Result = AcceptedSubmission | DeferredSubmission


class Submission(msgspec.Struct):
    """``answer`` is called exactly once, on the event loop. ``wait_s`` > 0: not before every event
    is resolved, or that many seconds passed. ``size_bytes``: of the events together. ``chunk``: of a broker
    that has these events; what of it is refused becomes a dead letter. ``also``: what is written with it.
    ``unreadable``: why there is no event at an index. ``delivered`` is called when all that was stored is
    resolved at all sinks, if that happens in this process. ``span``: of the request, where it is traced."""

    events: Sequence[bytes]
    answer: Callable[[Result], None]
    size_bytes: int
    producer: str = ""
    atomic: bool = False
    wait_s: float = 0.0
    chunk: Chunk | None = None
    also: Callable[[Any], object] | None = None
    unreadable: Mapping[int, str] = msgspec.field(default_factory=dict)
    delivered: Callable[[], None] | None = None
    span: Any = None
