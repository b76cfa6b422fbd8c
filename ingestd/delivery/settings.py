"""How a lane behaves."""

from dataclasses import dataclass, field

from ingestd.delivery.backoff import Backoff


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """``give_up_after_s`` bounds a batch's tries by age, ``max_attempts`` by number (0: no bound).

    With ``stop_on_outage`` the lane ends with Unreachable instead of waiting for ever: after
    ``startup_patience_s`` if the API never answered, or refuses us and never took anything; after
    ``outage_patience_s`` otherwise.
    """

    max_in_flight: int = 5
    max_queued: int = 2
    max_waiting: int = 16
    give_up_after_s: float = 900.0
    max_attempts: int = 0
    backoff: Backoff = field(default_factory=Backoff)
    circuit_threshold: int = 10
    startup_patience_s: float = 20.0
    outage_patience_s: float = 900.0
    stop_on_outage: bool = True
