"""What a worker leases of a rate that it shares, with a server of its own and a clock that is set by hand."""

import asyncio
import random
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from ingestd.cluster import shared_rate
from ingestd.cluster.names import StreamNames
from ingestd.cluster.rate_entry import LEASE_S, RateEntry, RateWish, SharedLimit, grant, still_good
from ingestd.cluster.shared_rate import SharedRate
from ingestd.core.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Callable


class ManualClock(SystemClock):
    def __init__(self) -> None:
        self.now = 100.0
        self.monotonic = lambda: self.now  # type: ignore[assignment, method-assign]


class _Server:
    """What a worker asks of NATS; ``delay_s``: until an answer, ``in_append``: called before one is given."""

    def __init__(self, clock: ManualClock) -> None:
        self.clock = clock
        self.entry, self.sequence = RateEntry(), 0
        self.ahead_s = 1_000_000_000.0
        self.delays_s: list[float] = []
        self.in_append: Callable[[], None] = lambda: None

    async def ask(self, what: str) -> dict[str, str]:
        told = self.clock.monotonic() + self.ahead_s
        if self.delays_s:
            self.clock.now += self.delays_s.pop(0)
        return {"ts": datetime.fromtimestamp(told, UTC).isoformat().replace("+00:00", "Z")}

    async def read_last(self, *_: object) -> dict[str, tuple[int, bytes]]:
        return {"s": (self.sequence, msgspec.msgpack.encode(self.entry))} if self.sequence else {}

    async def append(self, subject: str, data: bytes, headers: dict[str, str]) -> dict[str, int]:
        self.in_append()
        assert headers["Nats-Expected-Last-Subject-Sequence"] == str(self.sequence)
        self.entry, self.sequence = msgspec.msgpack.decode(data, type=RateEntry), self.sequence + 1
        return {"seq": self.sequence}


class _Rates:
    """A worker's, and its one lane, with ``active`` requests."""

    def __init__(self, server: _Server, monkeypatch: pytest.MonkeyPatch, limit: SharedLimit) -> None:
        monkeypatch.setattr(shared_rate, "read_last", server.read_last)
        self.server, self.clock = server, server.clock
        self.lane = SimpleNamespace(active=0, wake=lambda: None)
        self.rates = SharedRate("one", limit, "me", clock=server.clock, rng=random.Random(1))
        self.rates.lanes = cast("Any", [self.lane])

    def lease(self, *, wanted: bool = True) -> None:
        asyncio.run(self.rates._lease(cast("Any", self.server), StreamNames("t"), "s", is_wanted=wanted))

    def send(self) -> float:
        assert self.rates.next_at <= self.clock.now
        self.lane.active += 1
        return self.rates.sent(self.clock.now, events=1)


def test_a_request_that_had_to_wait_for_its_log_goes_only_while_its_lease_is_there(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = ManualClock()
    one = _Rates(_Server(clock), monkeypatch, SharedLimit(600, 0.0, 2))
    one.lease()
    clock.now += 0.2
    one.lease()
    until = one.send()
    assert one.rates.may_go(clock.now + 1.0, until)
    clock.now += LEASE_S  # it stood still
    assert not one.rates.may_go(clock.now, until)
    one.lease(wanted=False)  # the slot is its again; what it had leased to send is not
    assert not one.rates.may_go(clock.now, until)


def test_a_slot_that_is_given_away_is_not_used_while_that_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    server = _Server(clock)
    one = _Rates(server, monkeypatch, SharedLimit(6_000, 0.0, 2))
    one.lease()
    clock.now += 0.2
    one.lease()
    one.send()
    server.entry, _ = grant(
        server.entry, SharedLimit(6_000, 0.0, 2), "other", RateWish(5, more=1), server.ahead_s + clock.now
    )
    asked: list[float] = []
    server.in_append = lambda: asked.append(one.rates.next_at)
    clock.now += 1.2
    one.lease()
    assert server.entry.slots["me"].count == 1
    assert asked[0] > clock.now  # it has one request out, and no slot for another
    assert server.entry.slots["me"].count == one.lane.active


def test_a_request_that_was_cut_off_holds_its_slot_for_a_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    one = _Rates(_Server(clock), monkeypatch, SharedLimit(6_000, 0.0, 1))
    one.lease()
    clock.now += 0.2
    one.lease()
    one.send()
    one.lane.active -= 1  # its share went to another worker
    one.rates.cut(clock.now)
    clock.now += 1.0
    one.lease()
    assert one.rates.next_at > clock.now
    clock.now += LEASE_S - 1.0
    one.lease()
    assert one.rates.next_at <= clock.now


def test_the_servers_clock_is_what_its_quickest_answer_says(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    server = _Server(clock)
    server.delays_s = [8.0, 0.002]  # this process stood still before it had the first answer
    one = _Rates(server, monkeypatch, SharedLimit(600, 0.0, 2))
    one.lease()
    assert server.entry.at == pytest.approx(server.ahead_s + clock.now, abs=0.01)
    server.ahead_s -= 3_600.0  # set back: what is known of it is asked again before it is believed
    clock.now += 30.0
    one.lease()
    assert server.entry.at == pytest.approx(server.ahead_s + clock.now, abs=0.01)


def test_what_says_nothing_new_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = ManualClock()
    server = _Server(clock)
    one = _Rates(server, monkeypatch, SharedLimit(6, 0.0, 1))
    one.lease()
    for _ in range(12):
        clock.now += 0.1
        one.lease()
    assert server.sequence == 2  # its mark, and that again when half of its time was over
    before = RateEntry()
    after, _ = grant(before, SharedLimit(6, 0.0, 1), "me", RateWish(1, more=1, closed_until=9.0), 5.0)
    assert not still_good(before, after, "me", 5.0)
    assert still_good(after, after, "me", 5.0)
    assert not still_good(after, after, "me", 5.0 + LEASE_S / 2)
    assert still_good(before, before, "me", 5.0)
