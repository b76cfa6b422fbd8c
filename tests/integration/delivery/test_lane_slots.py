"""Slots, waiting and order: what goes out when."""

import asyncio
import time
from email.utils import formatdate
from math import ceil
from typing import Any

import pytest

from ingestd.core.backoff import Backoff
from tests.each import each
from tests.integration.delivery.support import batches, make_batch, numbers_of, rig, until
from tests.integration.delivery.virtual_time import JumpClock, local_time
from tests.machine import patience
from tests.receiver import Action, Reply, Request, Script, in_turn

pytestmark = [pytest.mark.anyio, local_time]

ABSURD = [
    "-1",
    "+5",
    "nan",
    "inf",
    "1_000",
    "soon",
    "",
    "9" * 60 + "x",
    "\xb2",
    "Sun, 99 Nov 1994 08:49:37 GMT",
]


def first_gets(reply: Reply) -> Script:
    """The first request gets this, all others 200."""
    return in_turn(reply, Reply())


def later(status: int, retry_after: str) -> Reply:
    return Reply(status, {"Retry-After": retry_after})


async def test_a_batch_that_waits_holds_no_slot() -> None:
    async with rig(first_gets(later(503, str(ceil(patience(2))))), max_in_flight=1) as r:
        await r.deliver(batches(10))
        assert [numbers_of(post) for post in r.posts] == [[n] for n in [*range(10), 0]]
        assert r.receiver.max_in_flight == 1


async def test_no_more_requests_are_out_than_there_are_slots_and_all_slots_are_used() -> None:
    async def slow(_: Request) -> Action:
        await asyncio.sleep(0.01)
        return Reply()

    async with rig(slow, max_in_flight=4, max_queued=8) as r:
        await r.deliver(batches(40))
        assert r.receiver.max_in_flight == 4
        assert r.book.delivered == list(range(40))


async def test_a_slot_that_is_free_again_goes_on_in_its_task_until_the_api_does_not_take_a_batch() -> None:
    tasks: list[str] = []

    def make(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        tasks.append(coroutine.__qualname__)
        return asyncio.Task(coroutine, loop=loop, **options)

    script = in_turn(*[Reply()] * 20, Reply(500), Reply())
    async with rig(script, max_in_flight=1, max_queued=40) as r:
        asyncio.get_running_loop().set_task_factory(make)
        await r.deliver(batches(30))
        asyncio.get_running_loop().set_task_factory(None)
        assert r.book.delivered == list(range(30))
        assert tasks.count("Lane._attempt_in_turn") == 3, "to the 500, to the last new one, and the repeat"


@each("status", [429, 503, 500, 408, 413])
async def test_retry_after_in_seconds_is_a_floor(status: int) -> None:
    async with rig(first_gets(later(status, "1"))) as r:
        await r.deliver(batches(1, size=2))
        first, second = r.posts
        assert 1.0 <= second.at - first.at < patience(5.0)
        r.assert_resends_identical()


async def test_retry_after_as_a_date_is_a_floor() -> None:
    date = "Sun, 06 Nov 1994 08:49:37 GMT"
    reply = Reply(503, {"Retry-After": "Sun, 06 Nov 1994 08:49:38 GMT", "Date": date})
    async with rig(first_gets(reply)) as r:
        await r.deliver(batches(1))
        first, second = r.posts
        assert 1.0 <= second.at - first.at < patience(5.0), "measured from the answer's own date"


async def test_a_date_that_has_passed_is_no_reason_to_wait() -> None:
    reply = later(503, formatdate(time.time() - 3600, usegmt=True))
    async with rig(first_gets(reply)) as r:
        async with asyncio.timeout(patience(5.0)):
            await r.deliver(batches(1))


@each("value", ABSURD)
async def test_an_absurd_retry_after_is_ignored(value: str) -> None:
    async with rig(first_gets(later(429, value))) as r:
        async with asyncio.timeout(patience(5.0)):
            await r.deliver(batches(3))


async def test_two_429s_in_a_row_hold_back_the_whole_lane_until_the_time_named() -> None:
    async with rig(in_turn(later(429, "1"), later(429, "1"), Reply()), max_in_flight=1) as r:
        await r.deliver(batches(4))
        first, second, third = r.posts[:3]
        assert numbers_of(second) != numbers_of(first), "one 429 holds back only its own batch"
        assert third.at - second.at >= 1.0
        assert r.book.states == [], "being too fast is no outage"


async def test_a_429_halves_the_number_of_requests_at_once() -> None:
    async with rig(first_gets(later(429, "0")), max_in_flight=8) as r:
        await r.deliver(batches(1))
        assert r.lane.limiter.limit == 4


async def test_due_retries_go_before_new_batches_and_those_before_dead_letters() -> None:
    hold = asyncio.Event()

    async def script(request: Request) -> Action:
        if len(r.posts) == 1:
            return Reply(500)
        if len(r.posts) == 2:
            await hold.wait()
        return Reply()

    clock, minute = JumpClock(), Backoff(base_s=60, cap_s=60)
    async with rig(script, clock=clock, max_in_flight=1, max_queued=9, backoff=minute) as r, r.running():
        lane = r.lane
        letters = make_batch([900], letters=(1,))
        offered = asyncio.create_task(lane.submit_letters(letters))
        await lane.submit(batches(4))
        await until(lambda: len(r.posts) == 2 and lane.waiting == 1)
        clock.ahead_s = 60
        hold.set()
        await offered
        lane.close()
    order = [numbers_of(post)[0] for post in r.posts]
    assert order == [0, 1, 0, 2, 3, 900]


async def test_submit_waits_while_enough_is_queued() -> None:
    hold = asyncio.Event()

    async def script(_: Request) -> Action:
        await hold.wait()
        return Reply()

    async with rig(script, max_in_flight=2, max_queued=3) as r, r.running():
        feed = asyncio.create_task(r.feed(batches(30)))
        await until(lambda: len(r.posts) == 2 and r.lane.queued == 4)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await asyncio.shield(feed)
        assert r.lane.queued == 4, "what was handed over is the lane's, no more is taken"
        hold.set()
        await feed
    assert r.book.delivered == list(range(30))


async def test_submit_waits_while_too_many_batches_wait_for_their_next_attempt() -> None:
    answers = iter([later(503, "1")] * 6)
    async with rig(lambda _: next(answers, Reply()), max_waiting=4, max_in_flight=2) as r, r.running():
        feed = asyncio.create_task(r.feed(batches(40)))
        await until(lambda: r.lane.waiting >= 4)
        assert not feed.done()
        await until(lambda: r.lane.queued == 0 and r.lane.active == 0 and r.lane.waiting >= 4)
        assert len(r.posts) <= 4 + 2 + 2 + 1, "waiting, queued, in flight and the one that is handed over"
        assert not feed.done()
        await feed
    assert r.book.delivered == list(range(40))
