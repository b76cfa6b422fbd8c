"""What happens before any request: events that do not fit, bodies that are too long, and being held back."""

import asyncio
import random
from collections.abc import Sequence
from typing import Any

import pytest

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.core.chunk import Batch
from ingestd.core.clock import Clock, SystemClock
from ingestd.core.errors import Unreachable
from ingestd.core.reasons import Reason
from ingestd.core.verdict import ItemError, Meaning, Verdict
from ingestd.delivery.lane import Lane
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.sinks.ingest_api import IngestApi
from ingestd.sinks.sink import Unencodable
from tests.each import each
from tests.integration.delivery.order_support import keyed, order_by
from tests.integration.delivery.support import (
    DEADLINE_S,
    MemoryBook,
    batches,
    make_batch,
    numbers_of,
    rig,
    until,
)
from tests.integration.delivery.virtual_time import VIRTUAL, LoopClock
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio


class Picky(IngestApi):
    """Has no words for the events in ``unfit``; ``verdict``: instead of its own."""

    def __init__(self, *, unfit: Sequence[int] = (), max_bytes: int = 1_000_000, verdict: Any = None) -> None:
        super().__init__("http://127.0.0.1", name="picky")
        self.unfit = [b'"i-%d"' % number for number in unfit]
        self.max_bytes = max_bytes
        self.verdict = verdict

    def encode(self, events: Sequence[bytes]) -> bytes:
        bad = {at: "no such field" for at, one in enumerate(events) if any(b in one for b in self.unfit)}
        if bad:
            raise Unencodable(bad)
        return super().encode(events)

    def interpret(self, answer: Answer, events: Sequence[bytes]) -> Verdict:
        if self.verdict is None:
            return super().interpret(answer, events)
        return self.verdict(answer)  # type: ignore[no-any-return]


class Takes:
    """Implements ``lane.BatchTransport``."""

    def __init__(self, clock: Clock) -> None:
        self.bodies: list[bytes] = []
        self.times: list[float] = []
        self._clock = clock

    async def send(self, url: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, int]:
        self.bodies.append(body)
        self.times.append(self._clock.monotonic())
        return Answer(200), 0

    refusal = ""

    def drop_token(self, generation: int) -> None: ...


async def deliver(
    sink: Picky, given: Sequence[Batch], *, clock: Clock | None = None, **settings: Any
) -> tuple[MemoryBook, Takes, Lane]:
    clock = clock or SystemClock()
    book, api = MemoryBook(), Takes(clock)
    quick = Backoff(base_s=0.001, cap_s=0.002)
    lane_settings = LaneSettings(backoff=quick, **settings)
    lane = Lane(sink, api, book, settings=lane_settings, clock=clock, rng=random.Random(1))

    async def feed() -> None:
        for batch in given:
            await lane.submit([batch])
        lane.close()

    async with asyncio.timeout(DEADLINE_S):
        await asyncio.gather(lane.run(), feed())
    book.assert_balanced(given)
    return book, api, lane


async def test_events_that_do_not_fit_are_buried_without_a_request_and_the_others_go_on_in_order() -> None:
    book, api, _ = await deliver(Picky(unfit=[1, 4]), [make_batch(range(6))])
    assert {n: (end.reason, end.detail) for n, end in book.buried.items()} == {
        1: (Reason.UNENCODABLE, "no such field"),
        4: (Reason.UNENCODABLE, "no such field"),
    }
    assert api.bodies == [Picky().encode(make_batch([0, 2, 3, 5]).events)]


async def test_a_batch_of_which_nothing_fits_makes_no_request() -> None:
    book, api, _ = await deliver(Picky(unfit=range(5)), [make_batch(range(3)), make_batch([3])])
    assert (len(book.buried), api.bodies) == (4, [])


@each("named", [{}, {7: "x"}, {-1: "x"}])
async def test_a_sink_that_does_not_say_which_events_do_not_fit_cannot_keep_the_lane_busy(
    named: dict[int, str],
) -> None:
    sink = Picky()

    def encode(events: Sequence[bytes]) -> bytes:
        raise Unencodable(named)

    sink.encode = encode  # type: ignore[method-assign]
    book, _, _ = await deliver(sink, [make_batch(range(3))])
    assert {end.reason for end in book.buried.values()} == {Reason.UNENCODABLE}


async def test_a_body_that_is_too_long_is_halved_without_asking_and_nothing_is_learned() -> None:
    sink = Picky(max_bytes=150)
    book, api, _ = await deliver(sink, [make_batch(range(8)), make_batch([8], note="x" * 200)])
    assert book.delivered == list(range(8))
    assert max(map(len, api.bodies)) <= 150
    assert book.limits == []
    assert book.buried[8].reason is Reason.TOO_LARGE


async def test_a_batch_that_the_api_may_have_goes_as_it_is_whatever_its_length() -> None:
    batch = make_batch(range(8))
    batch.freeze(Picky().encode(batch.events))
    batch.ambiguous = True
    _, api, _ = await deliver(Picky(max_bytes=150, unfit=[3]), [batch])
    assert api.bodies == [batch.body]


async def test_what_does_not_fit_sets_its_key_free() -> None:
    book, api, lane = await deliver(Picky(unfit=[0]), [keyed("a"), keyed("ab", first=1)], order_by=order_by)
    assert (book.delivered, lane.held) == ([1, 2], 0)
    assert len(api.bodies) <= 2


@each("error", [KeyError("CANARY"), RecursionError(), ValueError("CANARY")])
async def test_a_sink_that_fails_over_an_answer_does_not_end_the_lane(error: Exception) -> None:
    def fail(answer: Answer) -> Verdict:
        raise error

    book, api, _ = await deliver(Picky(verdict=fail), batches(2), max_attempts=3, circuit_threshold=100)
    assert {end.reason for end in book.buried.values()} == {Reason.GAVE_UP}
    assert all(end.ambiguous and "CANARY" not in end.detail for end in book.buried.values())
    assert len(api.bodies) == 6


async def test_item_errors_that_name_no_event_or_one_twice_do_no_harm() -> None:
    items = tuple(ItemError(index, "bad", False) for index in (-1, 1, 1, 2, 99))
    verdict = Verdict(Meaning.ACCEPTED, items=items, remote_ids=((0, "x"), (1, "y"), (99, "z")))
    book, _, _ = await deliver(Picky(verdict=lambda _: verdict), [make_batch(range(3))], confirms=True)
    assert (book.delivered, sorted(book.buried)) == ([0], [1, 2])
    assert book.remote_ids == [(0, "x")], "of what is delivered"
    assert book.attempts[0][2].unmatched == 3


async def test_ids_are_handed_on_only_where_the_api_will_be_asked() -> None:
    verdict = Verdict(Meaning.ACCEPTED, remote_ids=((0, "x"),))
    for confirms in (False, True):
        book, _, _ = await deliver(Picky(verdict=lambda _: verdict), batches(1), confirms=confirms)
        assert book.remote_ids == ([(0, "x")] if confirms else [])


async def test_while_it_is_held_back_nothing_goes_and_then_everything() -> None:
    held = True
    async with rig(Reply(), hold_back=lambda: held) as r, r.running():
        feed = asyncio.create_task(r.feed(batches(5)))
        await until(lambda: r.lane.queued == 3)
        for _ in range(20):
            await asyncio.sleep(0)
        assert r.posts == []
        held = False
        r.lane.wake()
        await feed
    assert r.book.delivered == list(range(5))


async def test_a_lane_that_is_held_back_is_not_waited_for_at_the_end() -> None:
    given = batches(2)
    async with rig(Reply(), hold_back=lambda: True) as r:
        async with r.running():
            await r.lane.submit(given)
            r.lane.drain()
            r.lane.close()
        r.book.assert_balanced(given, r.lane.leftovers())
        assert r.posts == []


async def test_messages_show_the_url_that_may_be_shown() -> None:
    sink = Picky()
    sink.url, sink.shown_url = "http://127.0.0.1/CANARY", "http://127.0.0.1/***"
    lane = Lane(
        sink,
        Takes(SystemClock()),
        MemoryBook(),
        settings=LaneSettings(startup_timeout_s=0.1, backoff=Backoff(base_s=0.001, cap_s=0.01)),
        clock=SystemClock(),
        rng=random.Random(1),
    )
    sink.verdict = lambda _: Verdict(Meaning.PAUSED, "404")
    await lane.submit(batches(1))
    async with asyncio.timeout(DEADLINE_S):
        with pytest.raises(Unreachable) as caught:
            await lane.run()
    assert "CANARY" not in str(caught.value)
    assert "http://127.0.0.1/*** has taken nothing" in str(caught.value)


@pytest.mark.parametrize("anyio_backend", [VIRTUAL], ids=["virtual"])
async def test_the_lane_keeps_to_the_requests_and_events_that_are_allowed(anyio_backend: object) -> None:
    """300 a minute: six at once, then one in a fifth of a second."""
    _, api, _ = await deliver(
        Picky(), batches(9), clock=LoopClock(), requests_per_minute=300, max_in_flight=8
    )
    first, *_, sixth = api.times[:6]
    assert sixth == first
    assert [at - first for at in api.times[6:]] == pytest.approx([n * 60 / 300 for n in (1, 2, 3)], rel=0.05)


async def test_where_the_headers_say_that_nothing_is_left_the_lane_waits_for_the_reset() -> None:
    def script(request: Request) -> Reply:
        return Reply(200, {"RateLimit": '"default";r=0;t=1'} if len(r.posts) == 1 else {})

    async with rig(script, max_in_flight=1) as r:
        await r.deliver(batches(2))
        assert r.posts[1].at - r.posts[0].at >= 0.99


async def test_a_lane_of_single_events_sends_single_events_also_of_those_that_were_held() -> None:
    async with rig(Reply(), order_by=order_by, held_batch_events=1, max_in_flight=3) as r:
        async with r.running():
            await r.feed([keyed("a"), keyed("a", first=1), keyed("a", first=2), keyed("b", first=3)])
        assert [len(numbers_of(post)) for post in r.posts] == [1] * 4
        assert [n for post in r.posts for n in numbers_of(post) if n != 3] == [0, 1, 2]
