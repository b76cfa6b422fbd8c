"""When the next request may go: our own limits, and what the API says is left. Pure; time is passed in.

The lane asks ``RateLimiter.next_at``, and reports every request and every answer.
"""

from collections.abc import Mapping
from typing import Protocol

from ingestd.core.token_bucket import TokenBucket
from ingestd.transport.headers import rate_limit

RATE_HEADERS = frozenset({"inin-ratelimit-reset", "ratelimit", "ratelimit-remaining"})
"""An answer with none of them says nothing of a rate."""
_LOW = 20
"""Requests left from which on they are spread, where the API does not say how many it allows at all."""
_ASK_S = 1.0
"""After a reset one request goes ahead, to learn what is allowed now; the others wait that long for it."""
_SAME_WINDOW_S = 1.5
"""Resets are given in whole seconds: two that differ by less are the same one."""


class SendRates(Protocol):
    """What a lane asks and tells; see ``RateLimiter``."""

    @property
    def next_at(self) -> float: ...
    @property
    def limited(self) -> bool: ...
    def allow(self, requests_per_minute: int | None, now: float) -> None:
        """Requests a minute that the receiver allows; None: no limit of its own."""
        ...

    def sent(self, now: float, *, events: int) -> float | None:
        """Until when it may go out; None: whenever it comes to that."""
        ...

    def may_go(self, now: float, until: float) -> bool:
        """Whether a request that was counted, and then had to wait, may still go out."""
        ...

    def answered(self, now: float, headers: Mapping[str, str], *, after_s: float | None = None) -> None:
        """An answer came: its headers may name a limit; ``after_s``: its Retry-After, in seconds."""
        ...

    def cut(self, now: float) -> None:
        """A request was cut off, and may still be out."""
        ...

    def close(self, until: float) -> None:
        """The API takes nothing before: it said so in a Retry-After."""
        ...


class RateLimiter:
    """``next_at``: no request before that time. 0 means no limit of our own. ``limited``: requests have to be
    counted, for a limit of ours or of the API's.

    Never more than ``requests_per_minute`` in any minute: what the small burst has more, the rate has
    less. Events are charged when they are sent, so a batch may overdraw a second's worth of them. ``empty``:
    another process may have sent up to the limit a moment ago, so it begins without a burst.
    """

    def __init__(
        self, *, requests_per_minute: int, events_per_second: float, now: float, empty: bool = False
    ) -> None:
        self.next_at = float("-inf")
        self._requests_per_minute = requests_per_minute
        self._requests = _per_minute(requests_per_minute, now)
        self._events = None
        if events_per_second:
            self._events = TokenBucket(events_per_second, max(1.0, events_per_second), now)
        self._remaining: float | None = None
        self._limit: int | None = None
        self._reset_at = 0.0
        self.limited = self._requests is not None or self._events is not None
        if empty:
            for bucket in filter(None, (self._requests, self._events)):
                bucket.take(now, bucket.burst)
            self._schedule(now)

    def allow(self, requests_per_minute: int | None, now: float) -> None:
        """Requests a minute that the receiver allows; None: no limit. Our own setting is still the upper
        limit."""
        granted = requests_per_minute or self._requests_per_minute
        most = min(granted, self._requests_per_minute) if self._requests_per_minute else granted
        self._requests = _per_minute(most, now)
        if self._requests:  # the request that is going out now has not been charged
            self._requests.take(now)
        self._schedule(now)

    def sent(self, now: float, *, events: int) -> None:
        """A request goes out: a first one, a retry or a probe."""
        if self._requests:
            self._requests.take(now)
        if self._events:
            self._events.take(now, events)
        if self._remaining is not None:
            self._remaining -= 1
        self._schedule(now)

    def may_go(self, now: float, until: float) -> bool:
        """What is counted here nobody else uses."""
        return now <= until

    def cut(self, now: float) -> None:
        """The lane ends with it."""

    def close(self, until: float) -> None:
        """The lane looks at that itself: a first refusal is that request's own."""

    def answered(self, now: float, headers: Mapping[str, str], *, after_s: float | None = None) -> None:
        """``after_s``: the answer's Retry-After, which is worth more than the time of the reset."""
        allowance = rate_limit.parse(headers)
        if allowance is None:
            return
        remaining = float(allowance.remaining)
        reset_s = allowance.reset_s if after_s is None else min(after_s, rate_limit.CAP_S)
        reset_at = now + reset_s
        known = self._remaining is not None and now < self._reset_at
        if known and abs(reset_at - self._reset_at) < _SAME_WINDOW_S and self._remaining is not None:
            self._remaining = min(self._remaining, remaining)  # answers come in any order
        else:
            self._remaining, self._reset_at = remaining, reset_at
        self._limit = allowance.limit
        self._schedule(now)

    def _schedule(self, now: float) -> None:
        next_at = float("-inf")
        for bucket in (self._requests, self._events):
            if bucket:
                next_at = max(next_at, bucket.next_at)
        if self._remaining is not None:
            if now >= self._reset_at:
                if self._is_low(self._remaining):
                    next_at = max(next_at, now + _ASK_S)
                self._remaining = None
            else:
                next_at = max(next_at, now + self._gap_s(self._remaining, self._reset_at - now))
        self.next_at = next_at
        self.limited = bool(self._requests or self._events or self._remaining is not None)

    def _gap_s(self, remaining: float, left_s: float) -> float:
        """Nothing while at least half is left; then what is left is spread over the time that is left."""
        if remaining <= 0:
            return left_s
        return left_s / (remaining + 1) if self._is_low(remaining) else 0.0

    def _is_low(self, remaining: float) -> bool:
        return remaining < (_LOW if self._limit is None else self._limit / 2)


def _per_minute(requests: int, now: float) -> TokenBucket | None:
    if not requests:
        return None
    burst = 1 + requests // 60
    return TokenBucket((requests - (burst - 1)) / 60.0, burst, now)
