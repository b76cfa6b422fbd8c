"""How many events a producer may send: a rate (token bucket) and a quota by UTC day. Called by the endpoint.

Counts are kept in memory, for the producers of the configuration: a restart forgets them.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from ingestd.core.clock import Clock
from ingestd.core.submission import DeferredSubmission
from ingestd.core.token_bucket import TokenBucket
from ingestd.sources.http.auth import ProducerKeys

_DAY_S = 86_400
_ROUNDING = 1e-6
"""Share of an event: a producer that waits exactly as long as asked is then not refused again."""


@dataclass(slots=True)
class _Account:
    """``room``: for a second's worth of events, below 0 a debt; None: no rate. ``used``: on ``day``, and
    debts before it."""

    per_second: float = 0.0
    per_day: int = 0
    room: TokenBucket | None = None
    used: int = 0
    day: int = 0

    def limit(self, per_second: float, per_day: int, now: float) -> None:
        """What is used up stays used up."""
        self.per_second, self.per_day = per_second, per_day
        burst = max(1.0, per_second)
        if not per_second:
            self.room = None
        elif self.room is None:
            self.room = TokenBucket(per_second, burst, now)
        else:
            self.room.set_rate(per_second, burst, now)

    def take(self, events: int) -> None:
        if self.room:
            self.room.tokens = min(self.room.burst, self.room.tokens - events)
        if self.per_day:
            self.used = max(0, self.used + events)


class Quotas:
    """A request that is larger than the whole bucket (or day) is let through when nothing of it is used,
    and leaves a debt: refused, it could never be sent."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def configure(self, producers: Mapping[str, ProducerKeys]) -> None:
        """Set new limits; what known producers have used stays used."""
        accounts: dict[str, _Account] = {}
        now, day = self._clock.monotonic(), self._today()
        for name, keys in producers.items():
            if keys.events_per_second or keys.events_per_day:
                account = self._accounts.get(name) or _Account(day=day)
                account.limit(keys.events_per_second, keys.events_per_day, now)
                accounts[name] = account
        self._accounts = accounts

    def check(self, producer: str, events: int = 1) -> DeferredSubmission | None:
        """None if there is room for ``events``; otherwise 429 and the seconds until there is."""
        account = self._accounts.get(producer)
        if account is None:
            return None
        rate_wait_s, day_wait_s = self._rate_wait_s(account, events), self._day_wait_s(account, events)
        if rate_wait_s <= 0 and day_wait_s <= 0:
            return None
        limit = f"{account.per_second:g} events a second"
        if day_wait_s > rate_wait_s:
            limit = f"{account.per_day} events a UTC day"
        wait_s = max(1, math.ceil(max(rate_wait_s, day_wait_s)))
        return DeferredSubmission(429, wait_s, f"the limit of this producer is {limit}")

    def charge(self, producer: str, events: int) -> DeferredSubmission | None:
        """As ``check``, and count them if there is room. All or none."""
        deferred = self.check(producer, events)
        account = self._accounts.get(producer)
        if deferred is None and account is not None:
            account.take(events)
        return deferred

    def give_back(self, producer: str, events: int) -> None:
        """Events that were charged, and then not taken for reasons of ours."""
        account = self._accounts.get(producer)
        if account is not None:
            account.take(-events)

    def _rate_wait_s(self, account: _Account, events: int) -> float:
        if not account.room:
            return 0.0
        return account.room.wait_s(self._clock.monotonic(), min(events, account.room.burst) - _ROUNDING)

    def _day_wait_s(self, account: _Account, events: int) -> float:
        if not account.per_day:
            return 0.0
        today = self._today()
        if today > account.day:
            account.used = max(0, account.used - account.per_day * (today - account.day))
        account.day = today  # also backwards: a clock put right must not lock anybody out
        over = account.used + min(events, account.per_day) - account.per_day
        if over <= 0:
            return 0.0
        days = math.ceil(over / account.per_day)
        return (today + days) * _DAY_S - self._clock.wall()

    def _today(self) -> int:
        return int(self._clock.wall() // _DAY_S)
