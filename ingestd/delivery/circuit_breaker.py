"""Whether the lane sends at all: closed, open (the API is down) or paused (it refuses us); and whose fault a
failure is: the API's, or that of the one batch that fails. Pure; time is passed in.

An outage is not a failure of each event: while the circuit is not closed, one probe goes out at a
time, and the time does not count against any batch.
"""

from enum import StrEnum

from ingestd.core.chunk import Batch
from ingestd.core.text import shape

_FIRST_PROBE_S = 0.5
_MAX_PROBE_S = 15.0
_UNAVAILABLE = frozenset({429, 502, 503, 504})
"""These say that the API, or what stands behind it, is not there: nothing about the batch."""


class BreakerState(StrEnum):
    CLOSED = "closed"
    OPEN = "open"
    PAUSED = "paused"


class CircuitBreaker:
    """``threshold`` failures in a row open it; one success closes it."""

    def __init__(self, threshold: int) -> None:
        self._threshold = threshold
        self._failures = 0  # in a row
        self.ever_open = self.held = False
        self.since = 0.0  # when it left, or came back to, being closed
        self._probe_wait_s = _FIRST_PROBE_S
        self._outage_s = 0.0
        self._stopped_at: float | None = None
        self.probe_at = 0.0
        self.state = BreakerState.CLOSED
        self.why = ""  # of the last failure since the API answered; also while it is closed
        self._reported = ""  # the state, and what kind of reason was last said

    def outage_s(self, now: float) -> float:
        """Seconds it has not been closed, or was held, all in all."""
        return self._outage_s + (now - self._stopped_at if self._stopped_at is not None else 0.0)

    def succeeded(self, now: float) -> bool:
        """The API answers. True if that ended an outage."""
        self._failures, self.why, self._reported = 0, "", ""
        if self.state is BreakerState.CLOSED:
            return False
        self.state, self.since = BreakerState.CLOSED, now
        self._go_on(now)
        self._probe_wait_s = _FIRST_PROBE_S
        return True

    def hold(self, now: float) -> None:
        """Somebody wants nothing to be sent."""
        self.held = self.ever_open = True
        if self._stopped_at is None:
            self._stopped_at = now

    def release(self, now: float) -> None:
        """It may be sent again; a reason that was told before is news then."""
        self.held, self._reported = False, ""
        self._go_on(now)

    def _go_on(self, now: float) -> None:
        if self._stopped_at is not None and self.state is BreakerState.CLOSED and not self.held:
            self._outage_s += now - self._stopped_at
            self._stopped_at = None

    def failed(self, now: float, why: str, *, jitter: float, at_least_s: float = 0.0) -> bool:
        """An attempt failed. True if that is news: it opened the circuit, or the reason is another than
        before. ``jitter``: 0 to 1.

        ``at_least_s``: the API's Retry-After; no probe goes out before.
        """
        self._failures += 1
        self.why = why
        opens = self.state is BreakerState.CLOSED and self._failures >= self._threshold
        if opens:
            self._leave(BreakerState.OPEN, now, why, jitter)
        elif self.state is BreakerState.CLOSED:
            return False
        else:
            self._next_probe(now, jitter)
        self.probe_at = max(self.probe_at, now + at_least_s)
        return self._is_news()

    def pause(self, now: float, why: str, *, jitter: float) -> bool:
        """The API refuses us, not an event. True if that is news."""
        if self.state is BreakerState.CLOSED:
            self._leave(BreakerState.PAUSED, now, why, jitter)
        else:
            self.state, self.why = BreakerState.PAUSED, why
            self._next_probe(now, jitter)
        return self._is_news()

    def probe_now(self, now: float) -> bool:
        """The next probe may go out at once. False: none is waited for."""
        if self.state is not BreakerState.CLOSED:
            self.probe_at = now
        return self.state is not BreakerState.CLOSED

    def may_probe(self, now: float, active: int) -> bool:
        """One probe at a time, while it is not closed; ``active``: requests that are out."""
        return active == 0 and now >= self.probe_at

    def _is_news(self) -> bool:
        """What differs in numbers only is not another reason."""
        before, self._reported = self._reported, f"{self.state} {shape(self.why)}"
        return self._reported != before

    def _leave(self, state: BreakerState, now: float, why: str, jitter: float) -> None:
        self.state, self.why, self.since, self.ever_open = state, why, now, True
        self._stopped_at = now if self._stopped_at is None else self._stopped_at
        self._probe_wait_s = _FIRST_PROBE_S
        self.probe_at = now + self._probe_wait_s * (0.5 + jitter / 2)

    def _next_probe(self, now: float, jitter: float) -> None:
        if now < self.probe_at:
            return  # no probe: the request was out already when sending stopped
        self._probe_wait_s = min(_MAX_PROBE_S, self._probe_wait_s * 2)
        self.probe_at = now + self._probe_wait_s * (0.5 + jitter / 2)


class PoisonDetector:
    """Keeps a batch that can never be taken from passing for an outage, which it would then wait out.

    ``patient``: nobody waits for an end, as somebody does for a replay's; then an API that says that it
    is not there is believed, though only one batch has heard it.
    """

    def __init__(self, *, patient: bool) -> None:
        self.last_accepted = float("-inf")  # when the API took something
        self._believed = _UNAVAILABLE if patient else frozenset[int]()
        self._failing: set[str] = set()  # one or two of the batches that failed since the last answer

    def answered(self) -> None:
        self._failing.clear()

    def is_at_fault(self, batch: Batch, now: float) -> bool:
        """``batch`` has failed. It is at fault if others were taken since it first did, or if the API
        answers and this batch alone fails, again and again."""
        if batch.first_failed is None:
            batch.first_failed = now
        elif batch.first_failed < self.last_accepted:
            return True
        answered = batch.last_status > 0 and batch.last_status not in self._believed
        again_alone = self._failing == {batch.id} and answered
        if len(self._failing) < 2:
            self._failing.add(batch.id)
        return again_alone
