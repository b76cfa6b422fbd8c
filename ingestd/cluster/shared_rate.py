"""The rate of a sink that several workers share: what this worker has leased of it, for all of its lanes.

It stands where ``delivery/rate_limiter.py`` stands where one worker owns a sink.
"""

import asyncio
import math
import random
from collections import deque
from collections.abc import Mapping
from typing import TYPE_CHECKING
from weakref import WeakSet

import msgspec

from ingestd.cluster.direct_read import read_last
from ingestd.cluster.names import StreamNames
from ingestd.cluster.rate_entry import (
    LEASE_S,
    SET_BACK_S,
    RateEntry,
    RateGrant,
    RateWish,
    SharedLimit,
    grant,
    still_good,
)
from ingestd.cluster.stream_errors import WRONG_SEQUENCE
from ingestd.core.clock import Clock, wait_until_set
from ingestd.delivery.rate_limiter import RateLimiter
from ingestd.sources.nats.connection import JetStreamError, NatsConnection
from ingestd.sources.nats.stream_state import nanoseconds

if TYPE_CHECKING:
    from ingestd.delivery.lane import Lane

_RENEW_S = LEASE_S / 3
_TURN_S = 0.02
_LOOK_S = 0.1
_MOST_TRIES = 50
_CLOCK_S = 20.0
"""How often the server is asked what time it is."""
_CLOCK_TRIES, _QUICK_S = 5, 0.05
"""Of some answers the quickest counts: one that took long, or that came while this process stood still, says
little."""


class _Lease(msgspec.Struct):
    until: float
    requests: int
    events: float


class SharedRate:
    """``run`` with each connection. ``next_at`` and what follows it is for the lanes of this worker.
    ``limited``: requests have to be counted."""

    limited = True

    def __init__(
        self, sink: str, limit: SharedLimit, worker: str, *, clock: Clock, rng: random.Random
    ) -> None:
        self.lanes: WeakSet[Lane] = WeakSet()
        self._sink = sink
        self._limit = limit
        self._worker = worker
        self._clock = clock
        self._rng = rng
        self._api = RateLimiter(requests_per_minute=0, events_per_second=0.0, now=clock.monotonic())
        self._leases: deque[_Lease] = deque()
        self._cut: deque[float] = deque()
        self._debt = 0.0  # events that were sent beyond what was leased
        self._slots, self._slots_until = 0, -math.inf
        self._closed_until = self._announced_closed = -math.inf
        self._server_s, self._asked_at, self._off_s = 0.0, -math.inf, 0.0
        self._wanted = asyncio.Event()

    # --- for the lanes ---

    @property
    def next_at(self) -> float:
        """Asked for when there is something to send: so it is also what says that a lease is wanted."""
        now = self._clock.monotonic()
        closed = max(self._closed_until, self._api.next_at)
        if closed > now:
            return closed
        if self._may_send(now):
            return -math.inf
        self._wanted.set()
        return now + _TURN_S

    @property
    def _active(self) -> int:
        """Requests of this worker that are out, or may be."""
        now = self._clock.monotonic()
        while self._cut and self._cut[0] <= now:
            self._cut.popleft()
        return sum(lane.active for lane in self.lanes) + len(self._cut)

    def cut(self, now: float) -> None:
        """Its share went to another worker. As with one that dies, its slot is free a lease later."""
        self._cut.append(now + LEASE_S)

    def _may_send(self, now: float) -> bool:
        requests, events = self._leased(now)
        if self._limit.requests_per_minute and not requests:
            return False
        if self._limit.events_per_second and events <= self._debt:
            return False
        return now < self._slots_until and self._active < self._slots

    def _leased(self, now: float) -> tuple[int, float]:
        """Requests and events that may be sent at this moment."""
        leases = self._leases
        while leases and leases[0].until <= now:
            leases.popleft()
        return sum(one.requests for one in leases), sum(one.events for one in leases)

    def sent(self, now: float, *, events: int) -> float:
        """A request of any kind goes out, as long as what was leased for it is there."""
        self._debt += events if self._limit.events_per_second else 0
        left, until = 1, now + LEASE_S
        for one in self._leases:
            left -= (used := min(left, one.requests))
            one.requests -= used
            self._debt -= (paid := min(self._debt, one.events))
            one.events -= paid
            if used or paid:
                until = min(until, one.until)
        self._api.sent(now, events=events)
        return until

    def may_go(self, now: float, until: float) -> bool:
        """Not when this process stood still meanwhile, or its log took long: others send in its place."""
        return now < min(until, self._slots_until) and self._active <= self._slots

    def close(self, until: float) -> None:
        """No worker sends before: the others hear of it at once."""
        if until > self._closed_until:
            self._closed_until = self._announced_closed = until
            self._wanted.set()

    def answered(self, now: float, headers: Mapping[str, str], *, after_s: float | None = None) -> None:
        """What the API says is left it says to every worker."""
        self._api.answered(now, headers, after_s=after_s)

    def allow(self, requests_per_minute: int | None, now: float) -> None:
        """What a receiver's handshake allows is not shared: see ``cluster/limits.py``."""

    # --- leases ---

    async def run(self, connection: NatsConnection, names: StreamNames) -> None:
        """Raises BrokerAway, JetStreamError."""
        self._asked_at = -math.inf  # another server may tell another time
        subject = names.entry(f"rate.{self._sink}")
        inbox = await connection.listen(self._receive, subject)
        try:
            while True:
                await wait_until_set(self._wanted, _RENEW_S, self._clock)
                is_wanted = self._wanted.is_set()
                self._wanted.clear()
                if is_wanted or self._active or self._slots:
                    given = await self._lease(connection, names, subject, is_wanted=is_wanted)
                    await self._clock.sleep(_pause_s(given))
        finally:
            await connection.unlisten(inbox)

    def _receive(self, message: object) -> None:
        """Another worker has changed the entry: what the API told it holds for all."""
        try:
            entry = msgspec.msgpack.decode(getattr(message, "data", b""), type=RateEntry)
        except msgspec.DecodeError:
            return
        self._close(entry.closed_until)

    def _close(self, closed_until: float) -> None:
        if closed_until and self._server_s:
            self._closed_until = max(self._closed_until, closed_until - self._server_s)

    async def _lease(
        self, connection: NatsConnection, names: StreamNames, subject: str, *, is_wanted: bool
    ) -> RateGrant:
        began = self._clock.monotonic()
        for _ in range(_MOST_TRIES):
            if self._clock.monotonic() - self._asked_at > _CLOCK_S:
                await self._ask_time(connection, names)
            found = await read_last(connection, names.state, [subject], self._clock)
            sequence, data = found.get(subject, (0, b""))
            before = msgspec.msgpack.decode(data, type=RateEntry) if data else RateEntry()
            started = self._clock.monotonic()
            now = started + self._server_s
            if abs(before.at - now) > SET_BACK_S and self._asked_at < began:
                self._asked_at = -math.inf  # it is the entry that is old, or what this worker knows
                continue
            wish = self._wish(is_wanted=is_wanted)
            entry, given = grant(before, self._limit, self._worker, wish, now)
            if not (given.requests or given.events) and still_good(before, entry, self._worker, now):
                self._close(given.closed_until)
                return given
            self._slots = min(
                self._slots, given.slots
            )  # what is given away is not used while that is written
            headers = {"Nats-Expected-Last-Subject-Sequence": str(sequence)}
            try:
                await connection.append(subject, msgspec.msgpack.encode(entry), headers)
            except JetStreamError as error:
                if error.code != WRONG_SEQUENCE:
                    raise
                await self._clock.sleep(self._rng.uniform(0, _TURN_S))
                continue
            self._take(given, started)
            return given
        return RateGrant(wait_s=_LOOK_S)  # others were always quicker: nothing is sent meanwhile

    def _wish(self, *, is_wanted: bool) -> RateWish:
        now = self._clock.monotonic()
        requests, events = self._leased(now)
        wish = RateWish(active=self._active)
        if is_wanted:
            wish.requests = max(0, self._limit.burst - requests)
            wish.events = max(0.0, self._limit.events_per_second / 2 + self._debt - events)
            wish.more = max(1, self._limit.in_flight - self._active)
        if self._announced_closed > now:
            wish.closed_until = self._announced_closed + self._server_s
        return wish

    def _take(self, given: RateGrant, started: float) -> None:
        if given.requests or given.events:
            self._leases.append(_Lease(started + LEASE_S, given.requests, given.events))
        # The clock of the one who looks whether it is over may be as far off as this one's.
        self._slots, self._slots_until = given.slots, started + LEASE_S - min(2 * self._off_s, LEASE_S / 4)
        self._close(given.closed_until)
        for lane in [*self.lanes]:
            lane.wake()

    async def _ask_time(self, connection: NatsConnection, names: StreamNames) -> None:
        """Clocks of several machines differ: the server's counts, as far as its answer is quick."""
        best_s = math.inf
        for _ in range(_CLOCK_TRIES):
            asked = self._clock.monotonic()
            answer = await connection.ask(f"STREAM.INFO.{names.state}")
            answered = self._clock.monotonic()
            if answered - asked < best_s:
                best_s = answered - asked
                self._server_s = nanoseconds(str(answer["ts"])) / 1e9 - (asked + answered) / 2
                self._off_s = best_s / 2
            if best_s < _QUICK_S:
                break
        self._asked_at = self._clock.monotonic()


def _pause_s(given: RateGrant) -> float:
    """Until it makes sense to ask again: not at once where there was nothing."""
    if given.requests or given.events:
        return _TURN_S
    return min(max(_LOOK_S, given.wait_s), _RENEW_S)
