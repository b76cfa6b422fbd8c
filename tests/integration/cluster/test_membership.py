"""Who is there: workers that hear each other, on a clock that a test moves."""

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ingestd.cluster.membership import BEAT_S, SILENT_S, Member, Membership
from ingestd.cluster.names import StreamNames

if TYPE_CHECKING:
    from ingestd.core.clock import Clock
    from ingestd.sources.nats.connection import NatsConnection

pytestmark = pytest.mark.anyio
NAMES = StreamNames("t")


class Stopped(Exception):
    """By the clock: no more beats."""


@dataclass
class BeatClock:
    """What sleeps takes no time; after ``beats`` of them whoever sleeps is stopped."""

    now: float = 100.0
    beats: int = 0

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if not self.beats:
            raise Stopped
        self.beats -= 1
        self.now += seconds


class Subject:
    """Gives what is published to all that listen."""

    def __init__(self) -> None:
        self._listeners: list[Callable[[Any], None]] = []

    async def listen(self, message: Callable[[Any], None], subject: str) -> None:
        assert subject == NAMES.members
        self._listeners.append(message)

    async def publish(self, subject: str, data: bytes) -> None:
        assert subject == NAMES.members
        for listener in self._listeners:
            listener(SimpleNamespace(data=data))


async def alive(membership: Membership, subject: Subject, clock: BeatClock, beats: int) -> None:
    clock.beats = beats
    with pytest.raises(Stopped):
        await membership.run(cast("NatsConnection", subject))


def member(name: str, clock: BeatClock) -> Membership:
    return Membership(NAMES, cast("Clock", clock), lambda: Member(name, "worker"))


async def test_who_is_silent_for_three_beats_is_taken_for_dead_and_nobody_else_is() -> None:
    subject, clock = Subject(), BeatClock()
    first, second = member("a", clock), member("b", clock)
    await alive(first, subject, clock, 0)
    assert first.others == []
    await alive(second, subject, clock, 0)
    assert [one.name for one in first.others] == ["b"]
    assert SILENT_S > 3 * BEAT_S
    await alive(second, subject, clock, 20)
    assert [one.name for one in first.others] == ["b"], "it beats"
    clock.now += SILENT_S - 0.01
    assert [one.name for one in first.others] == ["b"]
    clock.now += 0.02
    assert first.others == []
    await alive(second, subject, clock, 0)
    assert [one.name for one in first.others] == ["b"], "it is there again"


async def test_what_was_heard_before_a_loss_and_what_another_version_says_do_not_count() -> None:
    subject, clock = Subject(), BeatClock()
    first = member("a", clock)
    await alive(first, subject, clock, 0)
    await subject.publish(NAMES.members, b'{"name": 7}')
    assert first.others == []
    await alive(member("b", clock), subject, clock, 0)
    assert [one.name for one in first.others] == ["b"]
    first.forget()
    assert first.others == []
