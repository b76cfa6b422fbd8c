"""Whether a request may go now, and when to look again: slots, circuit, pace and retry budget of one lane."""

import math
from collections.abc import Mapping

from ingestd.delivery.circuit_breaker import BreakerState, CircuitBreaker
from ingestd.delivery.concurrency_limiter import ConcurrencyLimiter
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.delivery.rate_limiter import RateLimiter
from ingestd.delivery.retry_budget import RetryBudget


class FlowControl:
    """Every request is counted here, whatever kind. Pure; time is passed in."""

    def __init__(self, settings: LaneSettings, now: float) -> None:
        self.limiter = ConcurrencyLimiter(settings.max_in_flight)
        self.circuit = CircuitBreaker(settings.circuit_threshold)
        self._pace = RateLimiter(
            requests_per_minute=settings.requests_per_minute,
            events_per_second=settings.events_per_second,
            now=now,
        )
        self._repeats = RetryBudget(
            share=settings.retry_share, floor=settings.retry_floor, per_s=settings.retry_per_s, now=now
        )

    @property
    def opens_at(self) -> float:
        """Nothing goes before, not even a probe."""
        return max(self.limiter.closed_until, self._pace.next_at)

    @property
    def is_probing(self) -> bool:
        return self.circuit.state is not BreakerState.CLOSED

    def may_send(self, now: float, *, active: int) -> bool:
        return now >= self.opens_at and self.circuit.may_send(now, active)

    def repeats_from(self, now: float) -> float:
        """When a repeat may go, if no new requests bring it before."""
        return self._repeats.next_at(now)

    def next_at(self, now: float, due: float | None, *, repeat: bool) -> float:
        """When to look again for a batch that is ``due`` then; None: for any."""
        if (opens_at := self.opens_at) > now:
            return opens_at
        if self.is_probing:
            return max(self.circuit.probe_at, now + 0.01)
        if due is None:
            return math.inf
        return max(due, self.repeats_from(now)) if repeat else due

    def is_away(self, now: float) -> bool:
        """The API takes nothing now, or asked us to wait."""
        return self.is_probing or self.limiter.closed_until > now

    def sent(self, now: float, *, events: int, new: bool, repeat: bool) -> None:
        """``new``: a first request for its events; ``repeat``: after one that the API could not take."""
        self._pace.sent(now, events=events)
        if repeat:
            self._repeats.repeat_sent(now)
        elif new:
            self._repeats.first_sent()

    def allow(self, requests_per_minute: int | None, now: float) -> None:
        """What the receiver has granted."""
        self._pace.allow(requests_per_minute, now)

    def answered(self, now: float, headers: Mapping[str, str], *, after_s: float | None) -> None:
        self._pace.answered(now, headers, after_s=after_s)
