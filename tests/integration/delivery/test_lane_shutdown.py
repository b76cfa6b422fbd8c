"""The end: drain sends what is here while the API takes it, abandon ends now, and what is left is told."""

import asyncio

import pytest

from ingestd.core.backoff import Backoff
from ingestd.core.chunk import Batch
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.flow_control import MOST_DRAIN_TRIES
from tests.each import each
from tests.integration.delivery.support import (
    TOKEN_PATH,
    batches,
    grant,
    make_batch,
    numbers_of,
    refusal,
    rig,
    until,
)
from tests.integration.delivery.virtual_time import local_time
from tests.machine import patience
from tests.receiver import Action, Cut, Hang, Reply, Request, in_turn

pytestmark = [pytest.mark.anyio, local_time]


def end_soon(within: asyncio.Timeout) -> None:
    """From here on its block takes 5 s at most, where what it could wait for takes a minute or more."""
    within.reschedule(asyncio.get_running_loop().time() + patience(5.0))


LONG = Backoff(base_s=600, cap_s=600)


async def test_drain_cuts_backoff_short_and_sends_everything_once_in_order() -> None:
    answers = in_turn(*[Reply(500)] * 5, Reply())
    given = batches(8)
    async with rig(answers, backoff=LONG, max_in_flight=1, max_queued=9) as r:
        async with r.running():
            await r.lane.submit(given[:5])
            await until(lambda: r.lane.waiting == 5)
            await r.lane.submit(given[5:])
            r.lane.drain()
            r.lane.close()
        assert [numbers_of(post)[0] for post in r.posts[5:]][:5] == sorted(range(5))
        assert r.book.delivered == list(range(8))
        assert r.lane.leftovers() == []


async def test_what_fails_while_draining_is_left_over_and_not_buried() -> None:
    given = batches(6)
    async with rig(Reply(500), backoff=LONG, max_attempts=1, give_up_after_s=0, max_in_flight=2) as r:
        r.lane.drain()
        async with r.running():
            await r.feed(given)
        assert r.book.ends == {}
        left = r.lane.leftovers()
        r.book.assert_balanced(given, left)
        assert all(batch.ambiguous for batch in left)
        assert 6 <= len(r.posts) <= 12, "ten failures in a row are an outage, and two were out"
        assert r.lane.leftovers() == []


@each("fault", [Reply(500), Cut(), Reply(429), Reply(413), Reply(503, {"Retry-After": "0"})], ids=str)
async def test_what_fails_in_a_drain_and_would_be_taken_the_next_time_is_sent_again(fault: Action) -> None:
    async with rig(in_turn(fault, fault, Reply()), backoff=LONG, max_in_flight=1) as r:
        async with r.running():
            await r.lane.submit([make_batch(range(8))])
            r.lane.drain(patience(30))
            r.lane.close()
        assert r.book.delivered == list(range(8))
        assert r.lane.leftovers() == []


async def test_a_token_that_is_refused_in_a_drain_is_renewed() -> None:
    tokens = iter(["CANARY-old", "CANARY-new"])

    def script(request: Request) -> Action:
        if request.path == TOKEN_PATH:
            return grant(next(tokens))
        return Reply(401 if "old" in request.headers["authorization"] else 200)

    async with rig(script, login=True) as r:
        async with r.running():
            await r.lane.submit(batches(1))
            r.lane.drain()
            r.lane.close()
        assert r.book.delivered == [0]


async def test_events_that_the_api_wants_again_in_a_drain_get_so_many_tries_and_no_more() -> None:
    answers = iter([refusal(207, 0, retryable=True)] * 100)
    async with rig(lambda _: next(answers), backoff=LONG, max_attempts=1) as r:
        async with r.running():
            await r.lane.submit([make_batch(range(2))])
            r.lane.drain(patience(60))
            r.lane.close()
        assert r.book.delivered == [1]
        assert len(r.posts) == MOST_DRAIN_TRIES
        assert [len(batch) for batch in r.lane.leftovers()] == [1]


async def test_one_batch_that_fails_for_ever_holds_up_neither_the_others_nor_the_end() -> None:
    given = batches(20)
    async with rig(lambda q: Reply(500 if 0 in numbers_of(q) else 200), max_in_flight=1, max_queued=20) as r:
        async with r.running():
            await r.lane.submit(given)
            r.lane.drain(patience(60))
            r.lane.close()
        assert r.book.delivered == list(range(1, 20))
        left = r.lane.leftovers()
        r.book.assert_balanced(given, left)
        assert sum(0 in numbers_of(post) for post in r.posts) == MOST_DRAIN_TRIES


async def test_a_drain_that_is_fed_makes_its_feed_wait_for_room_until_the_api_is_away() -> None:
    given = batches(100)
    async with rig(lambda _: Reply(200 if len(r.posts) <= 30 else 503), max_in_flight=1, max_queued=2) as r:
        async with r.running():
            r.lane.drain(patience(60), feeding=True)
            for batch in given:
                if not r.lane.takes_more:
                    break
                await r.lane.submit([batch])
                assert r.lane.queued <= 3
            r.lane.close()
        assert r.book.delivered == list(range(30))
        assert len(r.posts) < 60


@each("status", [429, 503])
async def test_a_long_retry_after_does_not_delay_the_end(status: int) -> None:
    wait = Reply(status, {"Retry-After": "1000000000"})
    given = batches(3)
    async with rig(wait, max_in_flight=1, max_queued=5) as r:
        async with asyncio.timeout(None) as within, r.running():
            await r.lane.submit(given)
            await until(lambda: r.lane.waiting >= 2 and r.lane.active == 0)
            end_soon(within)
            r.lane.drain()
            r.lane.close()
        r.book.assert_balanced(given, r.lane.leftovers())


async def test_a_lane_that_does_not_send_is_not_waited_for() -> None:
    given = batches(3)
    async with rig(Reply(403)) as r:
        async with asyncio.timeout(None) as within, r.running():
            await r.lane.submit(given)
            await until(lambda: r.book.states == [BreakerState.PAUSED] and r.lane.active == 0)
            sent = len(r.posts)
            end_soon(within)
            r.lane.drain()
            r.lane.close()
        assert len(r.posts) <= sent + 1
        r.book.assert_balanced(given, r.lane.leftovers())


async def test_drain_lets_everybody_go_who_waits_for_room() -> None:
    given = batches(9)
    letters = make_batch([900], letters=(1,))
    async with rig(Hang(), max_in_flight=1, max_queued=1, read_timeout_s=0.2) as r:
        async with r.running():
            feed = asyncio.create_task(r.feed(given))
            offered = asyncio.create_task(r.lane.submit_letters(letters))
            await until(lambda: r.lane.queued == 3)
            r.lane.drain()
            async with asyncio.timeout(patience(5)):
                await asyncio.gather(feed, offered)
        r.book.assert_balanced([*given, letters], r.lane.leftovers())


async def test_abandon_ends_at_once_although_the_api_hangs() -> None:
    given = batches(5)
    async with rig(
        Hang(), max_in_flight=3, max_queued=5, timeout_s=patience(60), read_timeout_s=patience(60)
    ) as r:
        async with asyncio.timeout(None) as within, r.running():
            await r.lane.submit(given)
            await r.receiver.until(lambda receiver: receiver.in_flight == 3)
            end_soon(within)
            r.lane.drain()
            r.lane.abandon()
        left = r.lane.leftovers()
        r.book.assert_balanced(given, left)
        sent = {number for post in r.posts for number in numbers_of(post)}
        assert {batch.id for batch in left if batch.ambiguous} == set(r.attempts_by_key)
        assert len(sent) == 3


async def test_abandon_ends_although_an_attempt_has_not_begun() -> None:
    given = batches(2)
    async with rig(Reply()) as r:
        async with r.running():
            await r.lane.submit(given)
            await asyncio.sleep(0)  # the lane has made its attempts, none of them has run
            assert r.lane.active == 2
            assert r.book.bodies == {}
            r.lane.abandon()
        left = r.lane.leftovers()
        r.book.assert_balanced(given, left)
        assert not any(batch.ambiguous for batch in left)
        assert r.posts == []


async def test_what_a_search_for_bad_events_holds_back_is_left_over_too() -> None:
    async def script(_: Request) -> Action:
        if len(r.posts) == 15:  # the eighths of the batch: all but the last one are refused and held back
            await hold.wait()
            return Reply(403)
        return Reply(400)

    hold = asyncio.Event()
    given = [make_batch(range(400))]
    async with rig(script, max_in_flight=1) as r:
        async with r.running():
            await r.lane.submit(given)
            await r.receiver.until(lambda _: len(r.posts) == 15)
            r.lane.drain()
            r.lane.close()
            hold.set()
        assert r.book.ends == {}
        r.book.assert_balanced(given, r.lane.leftovers())


async def test_a_book_that_cannot_write_ends_the_lane_before_anything_is_sent() -> None:
    class Broken(Exception):
        pass

    async def freeze(_: Batch) -> None:
        raise Broken("disk full")

    async with rig(Reply()) as r:
        r.book.freeze = freeze  # type: ignore[method-assign]  # the fault
        with pytest.raises(Broken, match="disk full"):
            await r.deliver(batches(3))
        assert r.posts == []


async def test_a_drain_that_is_fed_takes_more_while_few_batches_are_left_behind() -> None:
    most = 16
    given = batches(120)

    def script(request: Request) -> Action:
        [number] = numbers_of(request)
        return Reply(200 if number % 2 else 500)

    async with rig(script, max_in_flight=1, max_queued=2, max_waiting=most, circuit_threshold=99) as r:
        async with r.running():
            r.lane.drain(patience(60), feeding=True)
            fed = 0
            while r.lane.takes_more:
                await r.lane.submit([given[fed]])
                fed += 1
            r.lane.close()
        left = r.lane.leftovers()
        r.book.assert_balanced(given[:fed], left)
        assert r.book.delivered == list(range(1, fed, 2))
        assert most <= len(left) <= 2 * most + 4, "and those that were between two attempts"
