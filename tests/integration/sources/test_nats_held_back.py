"""What a source does while the rest of a chunk does not come that an earlier process had sent."""

import random
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from ingestd.core.clock import SystemClock
from ingestd.intake.read_again import known_until
from ingestd.sources.broker.chunks import Cutter
from ingestd.sources.broker.formats import whole
from ingestd.sources.broker.messages import Message, place_of
from ingestd.sources.broker.source import SourceCounts
from ingestd.sources.nats.consumer import Consumer, Lag
from ingestd.sources.nats.held_back import HeldBack
from ingestd.sources.nats.settings import NatsConfig
from ingestd.sources.nats.source import NatsSource
from ingestd.sources.nats.stream_state import StreamState
from ingestd.store.frozen_batches import PackedSegment
from tests.each import each

if TYPE_CHECKING:
    from ingestd.store.journal import Journal

pytestmark = pytest.mark.anyio


class ManualClock(SystemClock):
    now = 100.0

    def monotonic(self) -> float:  # type: ignore[override]
        return self.now


async def test_a_chunk_waits_for_messages_that_the_consumer_holds_back_and_not_for_those_that_are_gone() -> (
    None
):
    """Sent in parts it would go under other keys: what the API has taken would be there twice."""
    clock, counts, warnings, lag = ManualClock(), SourceCounts(), list[str](), Lag(7, 3, is_full=True)

    async def ask() -> Lag:
        return lag

    asked = SimpleNamespace(lag=ask, has_some=False)
    consumer = cast("Consumer", asked)
    cutter = Cutter(1, whole, [(place_of(1, 10), place_of(11), 0)], where=lambda message: "")
    known = HeldBack("consumer c", counts, warnings.append, clock)
    assert [*cutter.cut([Message(number, 0, b"{}", {}, "") for number in (1, 2, 3)])] == []
    assert await known.overdue(cutter, consumer, idle=False) == []
    for _ in range(3):
        clock.now += 6
        assert await known.overdue(cutter, consumer, idle=True) == []
    assert counts.problem == warnings[0]
    assert len(warnings) == 1
    assert "max_ack_pending" in counts.problem
    assert await known.overdue(cutter, consumer, idle=False) == []  # it gives more
    assert not counts.problem
    lag = Lag(7, 3)
    for _ in range(3):
        clock.now += 6
        assert await known.overdue(cutter, consumer, idle=True) == []
    lag = Lag(0, 3)  # the last ones are on their way
    assert await known.overdue(cutter, consumer, idle=True) == []
    lag, asked.has_some = Lag(0, 3, all_came=True), True
    assert await known.overdue(cutter, consumer, idle=True) == []
    asked.has_some = False
    (chunk,) = await known.overdue(cutter, consumer, idle=True)
    assert len(chunk.events) == 3


@each("last, known", [(10, 3), (9, 0)])
async def test_of_a_stream_that_lost_its_end_nothing_is_taken_for_what_it_was(last: int, known: int) -> None:
    """Where the times of its messages were not kept."""
    clock = ManualClock()

    async def ask() -> Lag:
        return Lag(0, 3, stream=StreamState("", "limits", 1, last, 3), all_came=True)

    cutter = Cutter(1, whole, [(place_of(1, 10), place_of(11), 0)], where=lambda message: "")
    held_back = HeldBack("consumer c", SourceCounts(), lambda text: None, clock)
    assert [*cutter.cut([Message(number, 0, b"{}", {}, "") for number in (1, 2, 3)])] == []
    consumer = cast("Consumer", SimpleNamespace(lag=ask, has_some=False))
    assert await held_back.overdue(cutter, consumer, idle=False) == []
    clock.now += 6
    (chunk,) = await held_back.overdue(cutter, consumer, idle=True)
    assert [*chunk.earlier] == [place_of(1, 10)]
    assert known_until(chunk, PackedSegment(1, place_of(1, 10), place_of(11), b"")) == known


def test_it_is_known_why_nothing_comes_of_a_consumer_that_is_paused() -> None:
    counts, warnings = SourceCounts(), list[str]()
    held_back = HeldBack("consumer c", counts, warnings.append, SystemClock())
    for lag in (
        Lag(7, 0),
        Lag(7, 0, paused="2026-11-30T20:00:00Z"),
        Lag(7, 0, paused="2026-11-30T20:00:00Z"),
    ):
        held_back.note(lag)
    assert warnings == [counts.problem]
    assert counts.problem == "consumer c is paused at the server: nothing comes until 2026-11-30T20:00:00Z"
    held_back.note(Lag(7, 0))
    assert not counts.problem


async def test_a_batch_is_not_given_up_while_its_messages_are_on_their_way_to_us() -> None:
    """The server has given them out, so none is to come any more; they are not taken yet."""
    found = NatsConfig.model_validate({"stream": "S"}), cast("Journal", None)
    source = NatsSource(
        "n", *found, cuts=lambda number: [], clock=SystemClock(), rng=random.Random(1), warn=lambda text: None
    )
    lag = Lag(0, 7)

    async def ask() -> Lag:
        return lag

    consumer = SimpleNamespace(lag=ask, received=0)
    source._consumer = cast("Consumer", consumer)
    assert not await source.nothing_before(0, place_of(5), 0)
    lag, consumer.received = Lag(0, 7, all_came=True), 7
    assert not await source.nothing_before(0, place_of(5), 0)
    consumer.received = 0
    assert await source.nothing_before(0, place_of(5), 0)


async def test_a_batch_is_not_given_up_for_a_message_that_is_gone_while_the_others_wait_for_it() -> None:
    """They came while the server was asked."""
    found = NatsConfig.model_validate({"stream": "S"}), cast("Journal", None)
    source = NatsSource(
        "n",
        *found,
        cuts=lambda number: [(place_of(1, 4), place_of(5), 0)],
        clock=SystemClock(),
        rng=random.Random(1),
        warn=lambda text: None,
    )
    source._cutter = Cutter(0, whole, [(place_of(1, 4), place_of(5), 0)], where=lambda message: "")

    async def ask() -> Lag:
        messages = [Message(number, 0, b"{}", {}, "") for number in (1, 2, 3)]
        assert [*source._cutter.cut(messages)] == []
        return Lag(0, 3, all_came=True)

    source._consumer = cast("Consumer", SimpleNamespace(lag=ask, received=0))
    assert not await source.nothing_before(0, place_of(5), 0)
