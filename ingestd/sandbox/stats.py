"""What the sandbox counts: ``Counts`` while it runs, ``Stats`` as ``GET /_sandbox/stats`` says them."""

from collections import Counter
from dataclasses import dataclass, field

NO_ANSWER = "none"
"""In ``by_status``: the connection was closed without an answer."""


@dataclass(slots=True)
class Counts:
    """Counted at the door, by ``sandbox/server.py``; ``concurrent`` is a gauge."""

    requests: int = 0
    token_requests: int = 0
    by_status: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    replays: int = 0
    concurrent: int = 0
    max_concurrent: int = 0
    largest_body_bytes: int = 0


@dataclass(frozen=True, slots=True)
class PathStats:
    """What one path took, besides being asked ``requests`` times.

    ``duplicates``: events that were taken a second time, by their identity: exactly once means
    ``events == distinct`` and no duplicates. ``repeated``: sent again and recognised as such, by key or
    id, so not taken. ``out_of_order``: taken although older than the last of its communication, user
    or agent. ``item_errors``: events refused one by one.
    """

    requests: int
    by_status: dict[str, int]
    events: int
    distinct: int
    duplicates: int
    distinct_complete: bool
    repeated: int
    out_of_order: int
    item_errors: int
    events_kept: int


@dataclass(frozen=True, slots=True)
class Stats:
    """Since the start or the last reset.

    ``requests`` and ``by_status`` leave out the token endpoint's. ``paths`` has every path that was
    asked for; from ``events`` to ``kept_complete`` it is ``/api/v2/events/ingest`` alone, and so are
    ``keys`` and ``replays``. ``events`` are those taken; ``distinct`` and ``duplicates`` tell them apart
    by their exact bytes, as far as ``distinct_complete``. ``events_kept`` of them can be read back, all
    while ``kept_complete``.
    """

    requests: int
    by_status: dict[str, int]
    events: int
    distinct: int
    duplicates: int
    distinct_complete: bool
    batches: int
    events_kept: int
    kept_bytes: int
    kept_complete: bool
    keys: int
    replays: int
    faults: dict[str, int]
    token_requests: int
    tokens_issued: int
    max_concurrent: int
    largest_body_bytes: int
    paths: dict[str, PathStats]
