"""What the lane does about each answer."""

import asyncio
import json

import pytest

from ingestd.core.reasons import Reason
from ingestd.delivery.bisection import GROUP_NOTE
from tests.each import each
from tests.integration.delivery.support import (
    batches,
    event,
    key_of,
    make_batch,
    numbers_of,
    refusal,
    rig,
    sent_events,
    until,
)
from tests.integration.delivery.virtual_time import JumpClock, local_time
from tests.machine import patience
from tests.receiver import Action, Cut, Hang, Raw, Reply, Request, Script, Slow, in_turn

pytestmark = [pytest.mark.anyio, local_time]

MIB = 1024 * 1024


def then_fine(*actions: Action) -> Script:
    return in_turn(*actions, Reply())


def refuses(*bad: int, status: int = 400) -> Script:
    """A body with one of these events in it is refused without a word on which."""

    def script(request: Request) -> Action:
        return Reply(status, body=b"no") if set(bad) & set(numbers_of(request)) else Reply()

    return script


# later: the same bytes under the same key


@each(
    "trouble",
    [
        Reply(408),
        Reply(420),
        Reply(421),
        Reply(423),
        Reply(424),
        Reply(425),
        Reply(430),
        Reply(499),
        Reply(429),
        Reply(500),
        Reply(502),
        Reply(503),
        Reply(504),
        Reply(507),
        Cut(),
        Cut("rst"),
        Raw(b"hello\r\n\r\n"),
        Raw(b"HTTP/1.1 200 OK\r\nContent-"),
        Raw(b"HTTP/1.1 999 What\r\n\r\n"),
        Hang(),
    ],
    ids=str,
)
async def test_what_was_not_answered_for_good_is_sent_again_unchanged_until_it_is_taken(
    trouble: Action,
) -> None:
    async with rig(then_fine(*[trouble] * 3), read_timeout_s=patience(0.5)) as r:
        (batch,) = given = batches(1, size=3)
        await r.deliver(given)
        assert [key_of(post) for post in r.posts] == [batch.id] * 4
        r.assert_resends_identical()
        assert sent_events(r.posts[0]) == [event(0), event(1), event(2)]
        assert r.book.delivered == [0, 1, 2]


async def test_complete_headers_of_a_2xx_decide_and_not_the_body() -> None:
    for action in (Cut("mid_body"), Reply(200, body=b"<html>"), Reply(204, body=b"")):
        async with rig(action) as r:
            await r.deliver(batches(1))
            assert (len(r.posts), r.book.delivered) == (1, [0])


async def test_an_answer_that_drips_does_not_hold_a_slot_for_longer_than_the_timeout() -> None:
    drip = Slow(0.03, Reply(500, body=b"x" * 10_000))
    async with rig(then_fine(drip), timeout_s=patience(0.5)) as r, asyncio.timeout(patience(10.0)):
        await r.deliver(batches(1))  # the drip alone takes 300 s


async def test_a_huge_answer_is_cut() -> None:
    async with rig(then_fine(Reply(500, body=b"x" * (3 * MIB)))) as r:
        await r.deliver(batches(1))
        (_, answer, verdict), _ = r.book.attempts
        assert answer.truncated
        assert len(answer.body) == MIB
        assert len(verdict.detail) < 600


async def test_409_means_that_the_api_has_it() -> None:
    async with rig(Reply(409, body=b'{"message":"duplicate"}')) as r:
        await r.deliver(batches(1, size=2))
        assert (len(r.posts), r.book.delivered) == (1, [0, 1])


async def test_409_in_progress_is_asked_again_with_the_same_key() -> None:
    busy = Reply(409, {"Retry-After": "0"}, b'{"message":"in progress"}')
    async with rig(then_fine(busy, busy)) as r:
        await r.deliver(batches(1))
        assert len(r.attempts_by_key) == 1
        assert len(r.posts) == 3
        r.assert_resends_identical()


# giving up


async def test_an_event_is_given_up_after_max_attempts() -> None:
    async with rig(Reply(500, body=b"broken"), max_attempts=3) as r:
        await r.deliver(batches(2))
        assert len(r.posts) == 6
        assert {end.reason for end in r.book.buried.values()} == {Reason.GAVE_UP}
        assert {end.detail for end in r.book.buried.values()} == {"500 broken"}
        assert all(end.ambiguous for end in r.book.buried.values()), "a 500 may have taken it"


async def test_an_event_is_given_up_when_it_is_too_old() -> None:
    clock = JumpClock()
    async with rig(Reply(500), clock=clock, give_up_after_s=3600, circuit_threshold=1000) as r:
        delivering = asyncio.create_task(r.deliver(batches(1)))
        await until(lambda: len(r.posts) > 3)
        assert not delivering.done()
        clock.ahead_s = 3600
        await delivering
        assert r.book.buried[0].reason is Reason.GAVE_UP


async def test_what_was_certainly_not_taken_is_given_up_as_answered() -> None:
    async with rig(Reply(425), max_attempts=2) as r:
        await r.deliver(batches(1))
        assert r.book.buried[0].reason is Reason.GAVE_UP
        assert not r.book.buried[0].ambiguous


async def test_one_unanswered_attempt_is_not_forgotten_by_later_answers() -> None:
    async with rig(in_turn(Cut(), Reply(425)), max_attempts=3) as r:
        await r.deliver(batches(1))
        assert r.book.buried[0].ambiguous


async def test_attempts_that_were_too_fast_do_not_count() -> None:
    throttled = [Reply(429, {"Retry-After": "0"})] * 5
    async with rig(then_fine(*throttled, Reply(500)), max_attempts=2) as r:
        await r.deliver(batches(1))
        assert r.book.delivered == [0]


async def test_waiting_that_the_api_asked_for_does_not_make_an_event_too_old() -> None:
    async with rig(then_fine(Reply(429, {"Retry-After": "2"}), Reply(500)), give_up_after_s=1.9) as r:
        await r.deliver(batches(1))
        assert r.book.delivered == [0]


@each("status", [412, 418, 428])
async def test_other_4xx_are_the_end_of_a_batch(status: int) -> None:
    async with rig(Reply(status, body=b"never")) as r:
        await r.deliver(batches(1, size=2))
        assert len(r.posts) == 1
        assert {(e.reason, e.detail) for e in r.book.buried.values()} == {(Reason.REFUSED, f"{status} never")}


# too big


async def test_a_body_that_is_too_big_is_halved_and_its_size_is_learned() -> None:
    def script(request: Request) -> Action:
        return Reply(413) if len(request.body) > 150 else Reply()

    async with rig(script) as r:
        await r.deliver([make_batch(range(8))])
        assert r.book.delivered == list(range(8))
        sizes = [len(post.body) for post in r.posts if len(post.body) > 150]
        assert r.book.limits == [size // 2 for size in sizes]
        assert len(r.attempts_by_key) == len(r.posts), "what was not taken goes out under new keys"


async def test_a_single_event_that_is_too_big_is_buried_and_the_others_get_through() -> None:
    def script(request: Request) -> Action:
        return Reply(413) if 2 in numbers_of(request) else Reply()

    async with rig(script) as r:
        await r.deliver([make_batch(range(5))])
        assert {n: end.reason for n, end in r.book.buried.items()} == {2: Reason.TOO_LARGE}
        assert r.book.delivered == [0, 1, 3, 4]


# refused


@each("status", [400, 422])
async def test_named_events_are_buried_and_the_others_go_out_again_under_a_new_key(status: int) -> None:
    def script(request: Request) -> Action:
        bad = [index for index, number in enumerate(numbers_of(request)) if number in (1, 4)]
        return refusal(status, *bad) if bad else Reply()

    async with rig(script) as r:
        await r.deliver([make_batch(range(6))])
        assert [numbers_of(post) for post in r.posts] == [[0, 1, 2, 3, 4, 5], [0, 2, 3, 5]]
        assert len(r.attempts_by_key) == 2
        assert {n: (end.reason, end.detail) for n, end in r.book.buried.items()} == {
            1: (Reason.REFUSED, "bad"),
            4: (Reason.REFUSED, "bad"),
        }


async def test_a_named_event_that_may_be_sent_again_goes_out_with_the_others() -> None:
    async with rig(then_fine(refusal(400, 0, retryable=True))) as r:
        await r.deliver([make_batch(range(3))])
        assert r.book.delivered == [0, 1, 2]
        assert [numbers_of(post) for post in r.posts] == [[0, 1, 2]] * 2
        assert len(r.attempts_by_key) == 2


async def test_an_answer_that_always_says_again_comes_to_an_end() -> None:
    async with rig(refusal(400, 0, retryable=True), max_attempts=3) as r:
        await r.deliver([make_batch(range(2))])
        assert {end.reason for end in r.book.buried.values()} == {Reason.GAVE_UP}
        assert len(r.posts) == 3


async def test_an_unnamed_culprit_is_found_by_halving() -> None:
    async with rig(refuses(13)) as r:
        await r.deliver([make_batch(range(32))])
        assert {n: end.reason for n, end in r.book.buried.items()} == {13: Reason.REFUSED}
        assert r.book.delivered == [n for n in range(32) if n != 13]
        assert len(r.posts) == 1 + 2 * 5
        assert len(r.attempts_by_key) == len(r.posts)


async def test_a_namesake_of_a_bad_event_is_not_buried_with_it() -> None:
    def script(request: Request) -> Action:
        if 2 not in numbers_of(request):
            return Reply()
        return Reply(400, body=b'{"errors":[{"interactionId":"shared","message":"bad"}]}')

    async with rig(script) as r:
        batch = make_batch(range(4))
        batch.events[:] = [sent.replace(b"i-%d" % n, b"shared") for n, sent in enumerate(batch.events)]
        await r.deliver([batch])
        assert (r.book.delivered, list(r.book.buried)) == ([0, 1, 3], [2])


async def test_where_everything_is_refused_the_stream_costs_few_requests_and_the_note_says_so() -> None:
    async with rig(Reply(400, body=b"no"), max_in_flight=1) as r:
        given = batches(4, size=200)
        await r.deliver(given)
        assert {end.reason for end in r.book.buried.values()} == {Reason.REFUSED}
        assert len(r.posts) == (1 + 2 + 4 + 8 + 32) + 3 * (1 + 8)
        alone = {numbers_of(post)[0] for post in r.posts if len(numbers_of(post)) == 1}
        for number, end in r.book.buried.items():
            assert end.detail == ("400 no" if number in alone else GROUP_NOTE + "400 no")


async def test_a_good_batch_ends_the_expectation_that_all_are_bad() -> None:
    bad = [*range(200), 450]
    async with rig(refuses(*bad), max_in_flight=1) as r:
        await r.deliver(batches(3, size=200))
        assert sorted(r.book.buried) == bad
        assert not r.book.buried[450].detail.startswith(GROUP_NOTE)


async def test_a_part_that_is_too_big_does_not_keep_the_rest_of_a_search_waiting() -> None:
    tries = 0

    def script(request: Request) -> Action:
        nonlocal tries
        numbers = numbers_of(request)
        if numbers == list(range(50)):  # one of the eight parts of the batch
            tries += 1
            return Reply(413)
        return Reply(400)

    async with rig(script) as r:
        await r.deliver([make_batch(range(400))])
        assert tries == 1
        assert len(r.book.buried) == 400


# taken, with exceptions


async def test_of_a_2xx_with_errors_the_retryable_ones_are_sent_again_alone() -> None:
    partial = {
        "errors": [
            {"index": 1, "message": "busy", "retryable": True},
            {"index": 3, "message": "bad", "retryable": False},
        ]
    }
    async with rig(then_fine(Reply(207, body=json.dumps(partial).encode()))) as r:
        await r.deliver([make_batch(range(5))])
        assert [numbers_of(post) for post in r.posts] == [[0, 1, 2, 3, 4], [1]]
        assert len(r.attempts_by_key) == 2
        assert r.book.delivered == [0, 1, 2, 4]
        assert {n: (e.reason, e.detail) for n, e in r.book.buried.items()} == {3: (Reason.REFUSED, "bad")}


async def test_a_retryable_event_that_is_never_taken_is_given_up_as_answered() -> None:
    again = Reply(200, body=b'{"errors":[{"index":0,"message":"busy","retryable":true}]}')
    async with rig(again, max_attempts=4) as r:
        await r.deliver([make_batch(range(2))])
        assert r.book.delivered == [1]
        end = r.book.buried[0]
        assert (end.reason, end.detail, end.ambiguous) == (Reason.GAVE_UP, "busy", False)
        assert len(r.posts) == 4


async def test_errors_that_name_no_event_do_not_take_back_a_2xx() -> None:
    async with rig(Reply(200, body=b'{"errors":[{"message":"something, somewhere"}]}')) as r:
        await r.deliver(batches(1, size=2))
        assert r.book.delivered == [0, 1]
        (_, _, verdict), *_ = r.book.attempts
        assert verdict.unmatched == 1
