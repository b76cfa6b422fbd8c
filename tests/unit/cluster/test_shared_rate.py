"""A rate that workers share: simulated workers with a real entry, on one clock, that die and stand still."""

import random
from bisect import bisect_left
from collections import deque

from ingestd.cluster.rate_entry import (
    LEASE_S,
    SET_BACK_S,
    RateEntry,
    RateWish,
    SharedLimit,
    grant,
)
from tests.each import each

STEP_S = 0.05


class _Worker:
    def __init__(self, name: str) -> None:
        self.name = name
        self.leases: deque[tuple[float, int]] = deque()
        self.slots, self.slots_until = 0, -1.0
        self.out: list[float] = []  # when each request that is out will be answered
        self.stopped_until = 0.0

    def turn(self, entry: RateEntry, limit: SharedLimit, now: float, rng: random.Random) -> RateEntry:
        self.out = [ends for ends in self.out if ends > now]
        left = sum(count for until, count in self.leases if until > now)
        more = limit.in_flight - len(self.out)
        wish = RateWish(max(0, limit.burst - left), 0.0, more, len(self.out))
        entry, given = grant(entry, limit, self.name, wish, now)
        self.leases.append((now + LEASE_S, given.requests))
        self.slots, self.slots_until = given.slots, now + LEASE_S
        return entry

    def send(self, now: float, rng: random.Random) -> int:
        sent = 0
        while now < self.slots_until and len(self.out) < self.slots:
            while self.leases and (self.leases[0][0] <= now or not self.leases[0][1]):
                self.leases.popleft()
            if not self.leases:
                break
            until, count = self.leases.popleft()
            self.leases.appendleft((until, count - 1))
            self.out.append(now + rng.uniform(0.05, 0.4))
            sent += 1
        return sent


@each("per_minute, in_flight, workers", [(60, 1, 3), (300, 4, 4), (3_000, 50, 6), (240, 2, 5)])
def test_in_no_minute_do_workers_send_more_than_the_limit_and_each_has_a_part(
    per_minute: int, in_flight: int, workers: int
) -> None:
    rng = random.Random(per_minute)
    limit = SharedLimit(per_minute, 0.0, in_flight)
    entry, crew = RateEntry(), [_Worker(f"w{number}") for number in range(workers)]
    sent: list[float] = []
    by: dict[str, int] = {}
    now = 1_000.0
    while now < 1_200.0:
        for one in rng.sample(crew, len(crew)):
            if now < one.stopped_until:
                continue
            if rng.random() < 0.001:
                one.stopped_until = now + rng.uniform(1, 5)  # it has its leases all the while
            elif rng.random() < 0.0003:
                crew[crew.index(one)] = _Worker(f"{one.name}+")
                continue
            if rng.random() < 0.5:
                entry = one.turn(entry, limit, now, rng)
            count = one.send(now, rng)
            sent += [now] * count
            by[one.name.rstrip("+")] = by.get(one.name.rstrip("+"), 0) + count
        # A worker that is gone leaves what is out, for as long as its slots are held.
        assert sum(len([t for t in one.out if t > now]) for one in crew) <= in_flight
        now += STEP_S
    worst = max(bisect_left(sent, first + 60.0) - n for n, first in enumerate(sent))
    print(
        f"{per_minute} a minute, {workers} workers: most {worst}, {len(sent) / 200 * 60:.0f} on average, {by}"
    )
    assert worst <= per_minute
    assert len(sent) / 200 * 60 > 0.7 * per_minute
    assert min(by.values()) > len(sent) / workers / 3


def test_what_the_api_told_one_worker_holds_for_all_and_a_clock_that_goes_back_gives_nothing() -> None:
    limit = SharedLimit(6_000, 100.0, 4)
    entry, given = grant(RateEntry(at=10.0), limit, "a", RateWish(50, 10.0, 1), 11.0)
    assert (given.requests, given.events, given.slots) == (50, 10.0, 1)
    entry, given = grant(entry, limit, "a", RateWish(50, 10.0, 1, closed_until=15.0), 12.0)
    assert (given.requests, given.events, given.closed_until) == (0, 0.0, 15.0)
    entry, given = grant(entry, limit, "b", RateWish(50, 10.0, 1), 14.9)
    assert (given.requests, given.closed_until) == (0, 15.0)
    entry, given = grant(entry, limit, "b", RateWish(50, 10.0, 1), 15.0)
    assert given.requests == 50
    later, given = grant(entry, limit, "b", RateWish(50, 10.0, 1), 15.0 - SET_BACK_S)
    assert (given.requests, later.at) == (0, 15.0)


def test_a_clock_that_was_set_back_by_hours_stops_nobody_for_hours() -> None:
    limit, hour = SharedLimit(6_000, 100.0, 4), 3_600.0
    begun = 2 * hour
    entry, _ = grant(
        RateEntry(at=begun - 10), limit, "a", RateWish(50, 10.0, 1, closed_until=begun + 2), begun
    )
    entry, given = grant(entry, limit, "b", RateWish(50, 100.0, 9), begun - hour)
    assert (given.requests, given.slots, entry.at) == (0, 3, begun - hour)  # that of the other is held still
    assert entry.closed_until == begun - hour + 2
    entry, given = grant(entry, limit, "b", RateWish(50, 100.0, 9), begun - hour + 3)
    assert (given.requests, given.slots) == (50, 4)
    _, given = grant(entry, limit, "b", RateWish(50, 100.0, 9), begun - hour + 3)
    assert given.requests == 0
