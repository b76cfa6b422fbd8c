"""How full the spool is and how fast it empties: what producers are told when they have to wait."""

from ingestd.core.clock import Clock
from ingestd.core.submission import DeferredSubmission
from ingestd.store.connection import StoreBlocked
from ingestd.store.database import Database
from ingestd.store.spool import Spool

_LEAST_S, _MOST_S, _UNKNOWN_S = 1, 300, 30
_SMOOTHING_S = 10.0
_ROOM_AGAIN = 0.9
"""Of the cap: once somebody had to wait, the spool counts as full until it holds less."""


def store_deferral(error: BaseException) -> DeferredSubmission:
    """What a producer hears of a store that cannot be written: no paths of this machine."""
    if isinstance(error, StoreBlocked):
        return DeferredSubmission(507 if error.full else 503, _UNKNOWN_S, f"{error.told}: try again later")
    return DeferredSubmission(
        503, _UNKNOWN_S, "the store of this service has failed: try again later, or elsewhere"
    )


class Backpressure:
    """``refusal`` says whether there is room now; ``measure`` is called about once a second."""

    def __init__(self, spool: Spool, database: Database, *, max_bytes: int, clock: Clock) -> None:
        self.max_bytes = max_bytes
        self.closing = False
        self._spool = spool
        self._database = database
        self._clock = clock
        self._rate = 0.0  # bytes a second that leave the spool
        self._measured_at = clock.monotonic()
        self._measured_bytes = 0
        self._refused = False

    @property
    def full(self) -> bool:
        """Whether producers should go elsewhere. A request seldom fits to the last byte, so this is not
        only at the cap; and one that was too large for what was left does not make a spool full."""
        if self._spool.bytes < _ROOM_AGAIN * self.max_bytes:
            self._refused = False
        return self._refused or self._spool.bytes >= self.max_bytes

    def measure(self) -> None:
        """Look at how much has left the spool since the last call."""
        now, settled = self._clock.monotonic(), self._spool.settled_bytes
        passed_s = now - self._measured_at
        if passed_s <= 0:
            return
        weight = min(1.0, passed_s / _SMOOTHING_S)
        self._rate += weight * ((settled - self._measured_bytes) / passed_s - self._rate)
        self._measured_at, self._measured_bytes = now, settled

    def refusal(self, size_bytes: int) -> DeferredSubmission | None:
        """Why ``size_bytes`` more cannot be taken over now, and when to try again; None: they can."""
        if self.closing:
            return DeferredSubmission(
                503, _LEAST_S, "this process is shutting down: send it again, to another or later"
            )
        if blocked := self._database.blocked:
            return store_deferral(blocked)
        over = self._spool.bytes + size_bytes - self.max_bytes
        if over > 0:
            self._refused = True
            detail = (
                f"the spool holds {self._spool.bytes} of {self.max_bytes} bytes that wait for the event API"
            )
            return DeferredSubmission(429, self.retry_after_s(over), detail)
        return None

    def retry_after_s(self, size_bytes: int) -> int:
        """Seconds until that many bytes will have left the spool at its present rate."""
        if self._rate < 1:
            return _UNKNOWN_S
        return int(min(max(size_bytes / self._rate, _LEAST_S), _MOST_S))
