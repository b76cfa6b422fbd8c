"""What one lane does next: send a batch, wait, or end. Time is passed in; nothing here waits or sends.

Due retries go before new batches, dead letters go last. How many requests are out, how many in a minute, how
many may be repeats, and whether the API is there at all, is counted here for every request, whatever kind.
"""

import math
from collections.abc import Mapping, Sequence

import msgspec

from ingestd.core.backoff import Backoff
from ingestd.core.chunk import Batch
from ingestd.core.errors import Unreachable
from ingestd.core.token_bucket import TokenBucket
from ingestd.core.units import human_seconds
from ingestd.delivery.circuit_breaker import BreakerState, CircuitBreaker, PoisonDetector
from ingestd.delivery.concurrency_limiter import ConcurrencyLimiter
from ingestd.delivery.key_order import KeyOrder
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.delivery.queues import Queues, Send, Withdraw
from ingestd.delivery.rate_limiter import RATE_HEADERS, RateLimiter

DRAIN_S = 25.0
MOST_DRAIN_TRIES = 5
"""Failed attempts in a drain for the same events; then they wait for the next start."""
_MAX_DRAIN_BACKOFF_S = 1.0
_MOST_REPEATS = 100.0
"""A long good time must not pay for a storm."""


class Wait(msgspec.Struct, frozen=True):
    """Until something changes, or until this time."""

    until: float


class Done(msgspec.Struct, frozen=True):
    """``error``: why the lane ends before its work is done."""

    error: Unreachable | None


class FlowControl:
    """``next`` decides. ``order``: what of a new batch may go, where events of a key are to stay in order.

    ``withdraw`` is asked before a batch of dead letters goes. ``url``: the sink's, as it may be shown.
    """

    def __init__(
        self, settings: LaneSettings, order: KeyOrder | None, *, withdraw: Withdraw, url: str, now: float
    ) -> None:
        self.active = 0  # requests that are out
        self.closed = self.abandoned = False
        self.draining = self.feeding = False
        self.error: Unreachable | None = None
        self.ever_accepted = False
        self.queues = Queues(order, withdraw)
        self.limiter = ConcurrencyLimiter(settings.max_in_flight)
        self.circuit = CircuitBreaker(settings.circuit_threshold)
        self._poison = PoisonDetector(patient=not settings.stop_on_outage)
        self.shares_rates = settings.rates is not None
        self.rates = settings.rates or RateLimiter(
            requests_per_minute=settings.requests_per_minute,
            events_per_second=settings.events_per_second,
            now=now,
            empty=settings.follows_another,
        )
        self._settings = settings
        self._order = order
        self._url = url
        self._retries = RetryBudget(
            share=settings.retry_ratio, floor=settings.retry_floor, per_s=settings.retry_per_s, now=now
        )
        self._ever_answered = False
        self._last_progress, self._was_idle = now, True
        self._drain_until, self._left_in_drain = math.inf, 0
        self._has_failed = False  # something has failed since the last good answer

    # --- the decision ---

    def next(self, now: float, *, held_back: bool) -> Send | Wait | Done:
        """``held_back``: nothing may be sent, for a reason outside the lane. The sender calls ``sent``."""
        more = self._has_more()
        self._check_outage(now, more=more)
        if self._is_done(now, more=more, held_back=held_back):
            return Done(self.error)
        latest = now + self._settings.outage_look_s
        if held_back or not more or (self.active and self.active >= self.limiter.limit):
            return Wait(latest)  # the end of that wakes the lane
        if self.error is None and self._may_send(now):
            if found := self.queues.take(now, probing=self.is_probing, repeats_from=self._retries.next_at):
                return found
            if self._is_done(now, more=self._has_more(), held_back=held_back):
                return Done(self.error)  # the last new batches were just held
        return Wait(min(latest, self._next_at(now)))

    @property
    def is_probing(self) -> bool:
        return self.circuit.state is not BreakerState.CLOSED

    @property
    def idle(self) -> bool:
        """Nothing to send, and nothing out."""
        return not self.active and not self._has_more()

    @property
    def last_accepted(self) -> float:
        """When the API took something; ``-inf``: it has not yet."""
        return self._poison.last_accepted

    @property
    def full(self) -> bool:
        """No more new batches should come for now."""
        queues, settings = self.queues, self._settings
        held = self._order is not None and self._order.full
        return len(queues.fresh) > settings.max_queued or len(queues.waiting) >= settings.max_waiting or held

    def takes_more(self, now: float, *, held_back: bool) -> bool:
        """Whether more batches will probably be sent in this drain."""
        most_left = 1 if self._order else self._settings.max_waiting  # of a key that is left all is held
        return not (
            self.abandoned or self._left_in_drain >= most_left or self._is_hopeless(now, held_back=held_back)
        )

    def _has_more(self) -> bool:
        """Whether there is something to send. What is held by order is not, before others are resolved."""
        queues, order = self.queues, self._order
        return bool(queues.fresh or queues.waiting or queues.letters or (order and order.ready))

    def _may_send(self, now: float) -> bool:
        return now >= self._opens_at and (not self.is_probing or self.circuit.may_probe(now, self.active))

    @property
    def _opens_at(self) -> float:
        """Nothing goes before, not even a probe."""
        return max(self.limiter.closed_until, self.rates.next_at)

    def _next_at(self, now: float) -> float:
        if (opens_at := self._opens_at) > now:
            return opens_at
        if self.is_probing:
            return max(self.circuit.probe_at, now + 0.01)
        if (due := self.queues.next_due) is None:
            return math.inf
        return max(due, self._retries.next_at(now)) if self.queues.next_repeats else due

    def _is_done(self, now: float, *, more: bool, held_back: bool) -> bool:
        if self.active:
            return False
        closed = self.closed and (not more or self._is_hopeless(now, held_back=held_back))
        return closed or self.abandoned or self.error is not None

    def _check_outage(self, now: float, *, more: bool) -> None:
        """Nothing accepted for too long: to wait on would only hide a wrong address, or hide an outage from
        the person who waits for the end."""
        if self._was_idle:
            self._last_progress = now
        self._was_idle = not self.active and not more
        settings = self._settings
        if not settings.stop_on_outage or self.active or self._was_idle:
            return
        paused = self.circuit.state is BreakerState.PAUSED
        if not self._ever_answered or (paused and not self.ever_accepted):
            timeout_s = settings.startup_timeout_s
        elif self.is_probing or self.limiter.closed_until > now:
            timeout_s = settings.outage_timeout_s
        else:
            return
        if (waited_s := now - self._last_progress) >= timeout_s:
            first = self.queues.first_waiting
            why = self.circuit.why or (first.last_answer if first else "") or "no answer"
            self.error = Unreachable(f"{self._url} has taken nothing for {human_seconds(waited_s)}: {why}")

    # --- what happens ---

    def sent(self, now: float, sending: Send) -> float | None:
        """A request goes out. Gives until when it may: where workers share a rate, what was counted for it is
        theirs after a while. None: it does not matter."""
        batch = sending.batch
        self.active += 1
        until = self.rates.sent(now, events=len(batch)) if self.rates.limited else None
        if sending.repeat:
            self._retries.repeat_sent(now)
        elif not (batch.attempts or batch.inherited):
            self._retries.first_sent()
        if batch.first_sent is None:
            batch.first_sent = self._outage_clock(now)
        return until

    def cut(self, now: float) -> bool:
        """A request was cut off: nobody knows whether the API still works on it. Whether its batch is left
        over."""
        self.rates.cut(now)
        return self.abandoned

    def answered(
        self, now: float, headers: Mapping[str, str], *, after_s: float | None, throttled: bool = False
    ) -> None:
        """An answer came, of any kind. ``after_s``: its Retry-After in seconds; ``throttled``: too many
        requests."""
        if self.shares_rates and throttled and after_s:
            self.rates.close(now + after_s)
        self._ever_answered = True
        if not RATE_HEADERS.isdisjoint(headers):
            self.rates.answered(now, headers, after_s=after_s)

    def accepted(self, now: float) -> None:
        """The API took something."""
        self.ever_accepted = True
        self._poison.last_accepted = now

    def succeeded(self, now: float) -> bool:
        """The API deals with requests. True if that ended an outage."""
        if not self._has_failed:
            return False
        self._has_failed = False
        self._poison.answered()
        return self.circuit.succeeded(now)

    def failed(self, now: float, batch: Batch, why: str, *, jitter: float, at_least_s: float = 0.0) -> bool:
        """An attempt failed: a sign of an outage, unless it is the batch's own fault. True if that is news:
        it opened the circuit, or the reason changed. ``jitter``: 0 to 1. ``at_least_s``: the API's
        Retry-After."""
        self._has_failed = True
        if not self.is_probing and self._poison.is_at_fault(batch, now):
            return False
        return self.circuit.failed(now, why, jitter=jitter, at_least_s=at_least_s)

    def fails_alone(self, batch: Batch, now: float) -> bool:
        """``batch`` has failed. Whether others were accepted since it first did."""
        self._has_failed = True
        if batch.first_failed is None:
            batch.first_failed = now
        return batch.first_failed < self._poison.last_accepted

    def pause(self, now: float, why: str, *, jitter: float) -> bool:
        """The API refuses us, not an event. True if that is news."""
        self._has_failed = True
        return self.circuit.pause(now, why, jitter=jitter)

    def resolved(self, now: float, batch: Batch, parts: Sequence[Batch]) -> None:
        """The events of ``batch`` are resolved, but for those that go on in ``parts``."""
        self._last_progress = now
        if self._order is not None:
            self.queues.resolved(batch, parts)

    def resubmit(self, now: float, batch: Batch, *, delay_s: float, repeat: bool) -> None:
        """The batch goes again, before all new ones; in a drain only while there is time."""
        if self.draining and not self._tries_again(batch, now, delay_s):
            self.queues.leave(batch)
        else:
            self.queues.wait(batch, now + delay_s, repeat=repeat)

    def exhausted(self, now: float, batch: Batch) -> bool:
        """Tried too often or for too long. Never during an outage, nor while the process ends."""
        if self.is_probing or self.draining:
            return False
        if 0 < self._settings.max_attempts <= batch.tries - batch.not_counted:
            return True
        age_s = self._outage_clock(now) - (batch.first_sent or 0.0) - batch.not_counted_s
        return age_s >= self._settings.give_up_after_s

    def _outage_clock(self, now: float) -> float:
        """Seconds that do not pass during an outage."""
        return now - self.circuit.outage_s(now) if self.circuit.ever_open else now

    # --- the end of the process ---

    def drain(self, now: float, within_s: float, *, feeding: bool) -> None:
        """Send all that is here, now. A failed attempt is made again while there is time: a connection that
        broke is no reason to leave events behind. An outage is one, and so is a batch that fails again and
        again. ``feeding``: more batches come, from one who waits for room."""
        self.draining, self.feeding, self._drain_until = True, feeding, now + within_s
        self.queues.hurry()

    @property
    def backoff(self) -> Backoff:
        """Cut short in a drain; what the API itself asks for stays."""
        usual = self._settings.backoff
        if not self.draining:
            return usual
        return Backoff(min(usual.base_s, _MAX_DRAIN_BACKOFF_S), min(usual.cap_s, _MAX_DRAIN_BACKOFF_S))

    def _is_hopeless(self, now: float, *, held_back: bool) -> bool:
        """The sink is away, or nothing may go before the time of the drain is over."""
        if not self.draining or held_back:
            return self.draining
        too_late = self.is_probing or self._opens_at > self._drain_until
        return too_late or (self.queues.only_repeats and self._retries.next_at(now) > self._drain_until)

    def _tries_again(self, batch: Batch, now: float, delay_s: float) -> bool:
        if batch.letters:
            return False  # dead letters have a store
        batch.drain_tries += delay_s > 0
        again = batch.drain_tries < MOST_DRAIN_TRIES and now + delay_s <= self._drain_until
        self._left_in_drain += not again
        return again


class RetryBudget:
    """How much may be sent again: a sick API gets little more than usual.

    Every first request brings ``share`` of a repeat. So that little traffic, and the end of a replay,
    can repeat at all, there are ``floor`` to begin with, and while there are fewer ``per_s`` come with time.
    """

    def __init__(self, *, share: float, floor: int, per_s: float, now: float) -> None:
        self._share = share
        self._bucket = TokenBucket(per_s, max(1.0, floor), now)
        self._most = max(_MOST_REPEATS, self._bucket.burst)

    def first_sent(self) -> None:
        bucket = self._bucket
        bucket.tokens = min(self._most, bucket.tokens + self._share)

    def repeat_sent(self, now: float) -> None:
        """Also one that was sent without asking: a probe, or at the end of the process."""
        self._bucket.take(now)
        self._bucket.tokens = max(0.0, self._bucket.tokens)

    def next_at(self, now: float) -> float:
        """When there is one, if only time brings it; ``now`` if there is."""
        return now + self._bucket.wait_s(now)
