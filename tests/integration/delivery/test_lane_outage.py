"""Outages: sending stops, probes go out, nothing is given up, and it ends where that makes sense."""

import asyncio
from collections.abc import Awaitable
from itertools import pairwise

import pytest

from ingestd.core.errors import Unreachable
from ingestd.delivery.circuit_breaker import BreakerState
from tests.each import each
from tests.integration.delivery.support import batches, make_batch, refusal, rig, until
from tests.integration.delivery.virtual_time import JumpClock, local_time
from tests.ports import free_port
from tests.receiver import Action, Cut, Hang, Reply, Request, in_turn

pytestmark = pytest.mark.anyio

OLD_S, JUMP_S = 1800.0, 3600.0
"""On a clock that jumps: more than any wait of a test."""
AGES = {"give_up_after_s": OLD_S, "startup_timeout_s": 10 * JUMP_S, "outage_timeout_s": 10 * JUMP_S}


async def test_after_enough_failures_one_probe_at_a_time_goes_out_until_one_is_taken() -> None:
    down = True

    def script(_: Request) -> Action:
        return Reply(503) if down else Reply()

    settings = {"circuit_threshold": 4, "max_in_flight": 4, "max_queued": 4, "max_attempts": 5}
    clock = JumpClock()
    async with rig(script, clock=clock, **settings, **AGES) as r, r.running():
        feed = asyncio.create_task(r.feed(batches(40)))
        await until(lambda: r.book.states == [BreakerState.OPEN])
        clock.ahead_s += JUMP_S
        await until(lambda: r.receiver.in_flight == r.lane.active == 0)
        at_opening = len(r.posts)
        r.receiver.max_in_flight = 0
        await r.receiver.until(lambda _: len(r.posts) >= at_opening + 2)
        assert r.receiver.max_in_flight == 1
        probes = [post.at for post in r.posts[at_opening:]]
        assert all(later - earlier > 0.2 for earlier, later in pairwise(probes))
        assert not feed.done(), "the intake waits"
        assert r.lane.queued + r.lane.waiting <= 4 + 4 + 1
        assert r.book.ends == {}, "no budget runs meanwhile"
        down = False
        await feed
    assert r.book.states == [BreakerState.OPEN, BreakerState.CLOSED]
    assert r.book.delivered == list(range(40))
    r.assert_resends_identical()


async def test_an_outage_uses_up_neither_the_attempts_nor_the_age_of_an_event() -> None:
    answers, clock = in_turn(*[Cut()] * 3, refusal(400, 0), Reply(500), Reply()), JumpClock()

    def script(request: Request) -> Action | Awaitable[Action]:
        if r.book.states == [BreakerState.OPEN] and not clock.ahead_s:
            clock.ahead_s = JUMP_S
        return answers(request)

    async with rig(script, clock=clock, circuit_threshold=2, max_attempts=4, **AGES) as r:
        await r.deliver(batches(1, size=2))
        assert clock.ahead_s
        assert r.book.states == [BreakerState.OPEN, BreakerState.CLOSED]
        assert (list(r.book.buried), r.book.delivered) == ([0], [1])


async def test_a_probe_goes_out_when_the_api_said_and_not_before() -> None:
    answers = in_turn(Reply(503, {"Retry-After": "2"}), Reply())
    async with rig(answers, circuit_threshold=1, max_in_flight=1) as r:
        await r.deliver(batches(3))
        first, second = r.posts[:2]
        assert second.at - first.at >= 2.0


@local_time
async def test_a_probe_that_is_throttled_is_followed_by_a_wait_too() -> None:
    answers = in_turn(Reply(500), *[Reply(429, {"Retry-After": "0"})] * 2, Reply())
    async with rig(answers, circuit_threshold=1) as r:
        await r.deliver(batches(1))
        gaps = [b.at - a.at for a, b in pairwise(r.posts)]
        assert len(gaps) == 3
        assert min(gaps) > 0.2


@local_time
@each("status", [301, 302, 307, 308, 403, 404, 405, 407, 410, 415, 501])
async def test_what_is_nobodys_fault_pauses_the_lane_and_buries_nothing(status: int) -> None:
    async with rig(lambda request: elsewhere, max_attempts=1, give_up_after_s=0.1) as r:
        elsewhere: Action = Reply(status, {"Location": r.receiver.url + "/elsewhere"})
        async with r.running():
            feed = asyncio.create_task(r.feed(batches(8, size=2)))
            await until(lambda: r.book.states == [BreakerState.PAUSED])
            elsewhere = Reply()
            await feed
        assert r.book.states == [BreakerState.PAUSED, BreakerState.CLOSED]
        assert r.book.delivered == list(range(16))
        assert len(r.receiver.requests) == len(r.posts), "a redirect was followed"
        assert len(r.posts) <= 8 + 5 + 1
        r.assert_resends_identical()


async def test_a_pause_from_the_start_ends_the_run_after_the_startup_timeout() -> None:
    async with rig(Reply(404, body=b"no such path"), startup_timeout_s=0.6, outage_timeout_s=60) as r:
        given = batches(2)
        with pytest.raises(Unreachable, match=r"no such path.*check --api"):
            await r.deliver(given)
        r.book.assert_balanced(given, r.lane.leftovers())


async def test_a_pause_after_success_is_waited_out_longer() -> None:
    answers = in_turn(Reply(), Reply(404), Reply(404), Reply())
    async with rig(answers, startup_timeout_s=0.1, outage_timeout_s=20, max_in_flight=1) as r:
        await r.deliver(batches(4))
        assert r.book.delivered == [0, 1, 2, 3]


async def test_an_address_that_never_answers_ends_the_run_after_the_startup_timeout() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    clock = JumpClock()
    async with rig(Reply(), url=url, clock=clock, startup_timeout_s=3600, give_up_after_s=7200) as r:
        given = batches(3)
        delivering = asyncio.create_task(r.deliver(given))
        await until(lambda: len(r.book.attempts) > 3)
        assert not delivering.done()
        clock.ahead_s = 3600
        with pytest.raises(Unreachable, match=r"has taken nothing for .*cannot connect") as caught:
            await delivering
        assert caught.value.exit_code == 4
        assert r.book.ends == {}
        r.book.assert_balanced(given, r.lane.leftovers())


@each("silence", [Hang(), Cut()], ids=str)
async def test_a_listener_that_never_answers_is_an_address_that_never_answers(silence: Action) -> None:
    async with rig(silence, startup_timeout_s=0.5, read_timeout_s=0.1) as r:
        given = batches(2)
        with pytest.raises(Unreachable):
            await r.deliver(given)
        r.book.assert_balanced(given, r.lane.leftovers())


async def test_an_outage_of_an_api_that_answered_ends_the_run_after_the_outage_patience() -> None:
    answers = in_turn(Reply(), Reply(503, body=b"maintenance"))
    async with rig(answers, circuit_threshold=2, outage_timeout_s=1.0, max_in_flight=1) as r:
        given = batches(3)
        with pytest.raises(Unreachable, match="maintenance"):
            await r.deliver(given)
        assert r.book.delivered == [0]
        r.book.assert_balanced(given, r.lane.leftovers())


@local_time
async def test_a_service_waits_for_ever() -> None:
    async with rig(lambda _: now, startup_timeout_s=0.1, outage_timeout_s=0.1, stop_on_outage=False) as r:
        now: Action = Reply(404)
        async with r.running() as run:
            feed = asyncio.create_task(r.feed(batches(1)))
            await r.receiver.until(lambda _: len(r.posts) == 3)
            assert not run.done()
            now = Reply()
            await feed
        assert r.book.delivered == [0]


async def test_patience_does_not_run_while_there_is_nothing_to_send() -> None:
    """A pipe may be silent for longer than any patience."""
    answers, clock = in_turn(Reply(500), Reply(500), Reply()), JumpClock()
    async with rig(answers, clock=clock, startup_timeout_s=OLD_S) as r, r.running():
        for first in (0, 1):
            clock.ahead_s += JUMP_S
            await r.lane.submit([make_batch([first])])
            await until(lambda first=first: r.book.delivered[-1:] == [first])  # type: ignore[misc]
        r.lane.close()
    assert r.book.delivered == [0, 1]


async def test_outage_patience_begins_with_the_outage() -> None:
    answers = in_turn(Reply(), *[Cut()] * 2, Reply())
    clock = JumpClock()
    async with (
        rig(answers, clock=clock, circuit_threshold=2, outage_timeout_s=OLD_S) as r,
        r.running(),
    ):
        await r.lane.submit([make_batch([0])])
        await until(lambda: r.lane._flow._was_idle and r.book.delivered == [0])  # it has seen that it rests
        clock.ahead_s += JUMP_S
        await r.lane.submit([make_batch([1])])
        r.lane.close()
    assert r.book.states == [BreakerState.OPEN, BreakerState.CLOSED]
    assert r.book.delivered == [0, 1]


async def test_refusals_of_events_are_answers_and_no_outage() -> None:
    async with rig(refusal(400, 0), circuit_threshold=2) as r:
        await r.deliver(batches(20))
        assert r.book.states == []
        assert len(r.book.buried) == 20


async def test_a_batch_that_fails_alone_is_no_outage_and_is_given_up() -> None:
    async with rig(lambda request: Reply(503), circuit_threshold=3, give_up_after_s=0.5) as r:
        await r.deliver(batches(1))
        assert r.book.states == []
        assert list(r.book.buried) == [0]


async def test_where_nobody_waits_for_the_end_an_api_that_is_away_is_waited_for_with_one_batch_too() -> None:
    """It is given up for its age only while the API is there."""
    answers, clock = [Reply(503)] * 4, JumpClock()

    def script(request: Request) -> Action:
        if len(answers) == 1:  # the circuit is open
            clock.ahead_s += JUMP_S
        return answers.pop() if answers else Reply()

    async with rig(
        script, clock=clock, circuit_threshold=3, give_up_after_s=OLD_S, stop_on_outage=False
    ) as r:
        await r.deliver(batches(1))
        assert r.book.states == ["open", "closed"]
        assert r.book.buried == {}
        assert r.book.delivered == [0]


async def test_a_batch_that_no_api_takes_does_not_keep_the_circuit_open() -> None:
    def script(request: Request) -> Action:
        return Reply(503) if b'i-0"' in request.body else Reply()

    async with rig(
        script, circuit_threshold=2, give_up_after_s=0.3, stop_on_outage=False, max_in_flight=1
    ) as r:
        await r.deliver([make_batch([n]) for n in (0, 1, 2)])
        assert r.book.delivered == [1, 2]
        assert list(r.book.buried) == [0]


async def test_batches_that_no_api_takes_do_not_keep_all_others_from_being_tried() -> None:
    """Both fail before anything else is taken: the circuit opens, and not every probe may be one of them."""

    async def script(request: Request) -> Action:
        if b'i-0"' in request.body or b'i-1"' in request.body:
            return Reply(503)
        while not r.book.states:  # noqa: ASYNC110 - one of them may be sent before the second has failed
            await asyncio.sleep(0.01)
        return Reply()

    async with rig(script, circuit_threshold=2, give_up_after_s=0.5, max_in_flight=2) as r:
        await r.deliver([make_batch([n]) for n in (0, 1, 2, 3)])
        assert r.book.states[0] == BreakerState.OPEN
        assert sorted(r.book.buried) == [0, 1]
        assert sorted(r.book.delivered) == [2, 3]


async def test_a_batch_that_fails_while_others_are_taken_is_no_outage_and_is_given_up() -> None:
    tried, to_come, taken = set[bytes](), {b'i-2"', b'i-3"'}, asyncio.Event()

    async def script(request: Request) -> Action:
        if good := {one for one in (b'i-2"', b'i-3"') if one in request.body}:
            to_come.difference_update(good)
            if not to_come:
                taken.set()
            return Reply()
        if request.body in tried:  # a second try fails once the others were taken, however slow they are
            await taken.wait()
        tried.add(request.body)
        return Reply(503)

    async with rig(script, circuit_threshold=3, give_up_after_s=0.5, max_in_flight=4) as r:
        await r.deliver([make_batch([n]) for n in (0, 1, 2, 3)])
        assert r.book.states == []
        assert sorted(r.book.buried) == [0, 1]
        assert sorted(r.book.delivered) == [2, 3]
