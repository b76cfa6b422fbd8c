"""How a lane behaves."""

from collections.abc import Callable

import msgspec

from ingestd.core.backoff import Backoff
from ingestd.delivery.rate_limiter import SendRates
from ingestd.schemas.key_paths import KeyWatch


class LaneSettings(msgspec.Struct, frozen=True):
    """``give_up_after_s`` bounds a batch's tries by age, ``max_attempts`` by number (0: no bound).

    With ``stop_on_outage`` the lane ends with Unreachable instead of waiting for ever: after
    ``startup_timeout_s`` if the API never answered, or refuses us and never took anything; after
    ``outage_timeout_s`` otherwise.

    ``order_by``: the key of an event; events of one key are sent in the order they came, those without
    one (None) in any. Later events of a busy key are held, in batches of ``held_batch_events`` and
    ``held_batch_bytes`` (encoded) when they go; past ``max_held_events``, or ``max_held_bytes`` of
    chunks they keep in memory, intake waits. ``one_per_key``: a request has no order inside, so it
    carries at most one event of a key. ``order_watch`` counts the events that have one.

    ``requests_per_minute``, ``events_per_second``: 0 is no limit but what the API's headers say.
    ``retry_ratio``: of first requests, that many may be repeats; ``retry_floor`` and ``retry_per_s``: what
    may be repeated however few these are. ``confirms``: the API will be asked what became of events that
    it has accepted.
    """

    max_in_flight: int = 5
    max_queued: int = 2
    max_waiting: int = 16
    give_up_after_s: float = 900.0
    max_attempts: int = 0
    backoff: Backoff = msgspec.field(default_factory=Backoff)
    circuit_threshold: int = 10
    startup_timeout_s: float = 20.0
    outage_timeout_s: float = 900.0
    stop_on_outage: bool = True
    order_by: Callable[[bytes], str | None] | None = None
    order_watch: KeyWatch | None = None
    held_batch_events: int = 5_000
    held_batch_bytes: int = 500_000
    max_held_events: int = 100_000
    max_held_bytes: int = 64 * 1024 * 1024
    one_per_key: bool = False
    requests_per_minute: int = 0
    events_per_second: float = 0.0
    retry_ratio: float = 0.2
    retry_floor: int = 10
    retry_per_s: float = 1.0
    confirms: bool = False
    outage_look_s: float = 1.0
    """How often the deadline of an outage is checked while nothing happens."""
    follows_another: bool = False
    """Another process may have sent to this sink a moment ago: the rates begin without a burst."""
    rates: SendRates | None = None
    """Those that the lane shares with others; None: its own."""
