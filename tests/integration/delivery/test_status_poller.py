"""What becomes of events that an API has accepted: asked about within a budget, ended once, never lost."""

import asyncio
import random
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from ingestd.core.answer import Answer
from ingestd.core.clock import SystemClock
from ingestd.core.errors import Unreachable
from ingestd.core.reasons import Reason
from ingestd.delivery.event_status import StatusReader
from ingestd.delivery.recorder import PendingConfirmations
from ingestd.delivery.status_poller import StatusPoller, StatusPollerSettings, make_letter
from ingestd.sinks.answer_body import safe_text
from ingestd.store import confirmations
from ingestd.store.confirmations import Confirmations, Due
from ingestd.store.database import Database
from tests.each import each
from tests.integration.delivery.status_poller_support import (
    SINK,
    MemoryBook,
    MemoryStore,
    VirtualClock,
    pending_event,
    rig,
    says,
)
from tests.machine import patience

pytestmark = pytest.mark.anyio


def after(seconds: float, then: Answer) -> Callable[[str, float], Answer]:
    """``accepted`` until that time, then this."""
    return lambda _, now: then if now >= seconds else says("accepted")


# when it is asked


async def test_questions_begin_after_first_after_and_come_half_as_often_each_time() -> None:
    async with rig(after(150, says("delivered"))) as r:
        r.accept("a")
        await r.clock.advance(0.9)
        assert r.api.asked == []
        await r.clock.advance(299)
        times = r.api.times_of("a")
    assert 1.0 <= times[0] <= 1.1
    gaps = [later - earlier for earlier, later in pairwise(times)]
    for gap, ceiling in zip(gaps, (2, 4, 8, 16, 32, 60, 60), strict=False):
        assert 0.74 * ceiling <= gap <= ceiling + 0.1
    assert times[-1] >= 150
    assert r.ends == (1, 0)
    assert r.confirmer.outcomes == {"confirmed": 1, "failed": 0, "timed_out": 0}


async def test_questions_keep_to_their_budget_whatever_is_due() -> None:
    async with rig(lambda *_: says("delivered"), requests_per_minute=120) as r:
        r.accept(*(f"e{number}" for number in range(200)))
        await r.clock.advance(61)
        assert 118 <= len(r.api.asked) <= 121
        await r.clock.advance(60)
        assert r.ends == (200, 0)


async def test_no_more_than_eight_questions_are_out_at_once_and_pages_are_small() -> None:
    async with rig(lambda *_: says("delivered"), requests_per_minute=600_000) as r:
        r.api.takes_s = 0.5
        r.accept(*(f"e{number}" for number in range(100)))
        await r.clock.advance(20)
        assert r.ends == (100, 0)
        assert r.api.most_out == 8
        assert r.store.largest_limit <= 40
    assert len({one for _, one in r.api.asked}) == len(r.api.asked) == 100


async def test_an_event_whose_question_ends_while_a_page_is_read_has_one_end_only() -> None:
    class SlowStore(MemoryStore):
        async def due(self, *, now: float, limit: int) -> tuple[Sequence[Due], float | None]:
            page = await super().due(now=now, limit=limit)
            await clock.sleep(1)
            return page

    clock = VirtualClock()
    async with rig(lambda *_: says("delivered"), store=SlowStore(), clock=clock) as r:
        r.api.takes_s = 0.5
        r.accept("a", "b", "c")
        await clock.advance(30)
        assert sorted(one for _, one in r.api.asked) == ["a", "b", "c"]
        assert r.ends == (3, 0)


async def test_a_retry_after_holds_back_every_question() -> None:
    slow = Answer(429, headers={"retry-after": "30"})
    async with rig(lambda _, now: slow if now < 25 else says("delivered")) as r:
        r.accept("a", "b", "c")
        await r.clock.advance(20)
        first = [at for at, _ in r.api.asked]
        assert 1 <= len(first) <= 3
        await r.clock.advance(200)
        second = [at for at, _ in r.api.asked][len(first) :]
        assert second[0] >= first[0] + 30
        assert r.ends == (3, 0)


# how it ends


async def test_a_failed_event_becomes_a_dead_letter_with_the_reason_that_the_api_gives() -> None:
    said = says("FAILED", deliveryStatus="rejected", error={"code": "bus.gone", "api_key": "sk-12345678"})
    async with rig(lambda *_: said) as r:
        r.accept("a")
        await r.clock.advance(2)
        (letter,) = r.book.letters
    assert (letter.reason, letter.payload, letter.batch) == (Reason.FAILED, b'{"n": 1}', "batch-1")
    assert (letter.source, letter.offset, letter.line, letter.attempts) == (1, 1, 1, 1)
    assert letter.detail.startswith("status: FAILED; deliveryStatus: rejected; error: ")
    assert "bus.gone" in letter.detail
    assert "sk-12345678" not in letter.detail
    assert r.confirmer.outcomes["failed"] == 1


async def test_an_event_that_is_not_confirmed_in_time_becomes_a_dead_letter_after_a_last_question() -> None:
    async with rig(lambda *_: says("accepted"), timeout_s=300) as r:
        r.accept("a")
        await r.clock.advance(299)
        assert r.ends == (0, 0)
        await r.clock.advance(2)
        (letter,) = r.book.letters
    assert letter.reason is Reason.UNCONFIRMED
    assert letter.detail == "accepted, but not confirmed within 5m: status: accepted"
    assert r.api.asked[-1][0] == pytest.approx(300, abs=0.2)
    assert r.confirmer.outcomes["timed_out"] == 1


async def test_an_event_that_was_delivered_while_nobody_asked_is_confirmed_however_late() -> None:
    async with rig(lambda *_: says("delivered"), timeout_s=300) as r:
        r.clock.now = 10_000
        confirmations.insert_confirmations(r.store.connection, [pending_event("a")], r.clock.wall() - 5_000)
        r.confirmer.pending.add(1)
        await r.clock.advance(5)
        assert r.ends == (1, 0)


async def test_an_unknown_event_is_late_for_a_minute_and_then_lost_if_the_api_knows_others() -> None:
    def script(remote_id: str, now: float) -> Answer:
        return says("accepted") if remote_id == "known" else Answer(404, body=b'{"message": "no such event"}')

    async with rig(script) as r:
        r.accept("known", "lost")
        await r.clock.advance(58)
        assert r.ends == (0, 0)
        await r.clock.advance(64)
        (letter,) = r.book.letters
    assert letter.reason is Reason.FAILED
    assert letter.detail == '404 {"message": "no such event"}'


async def test_an_api_that_knows_no_event_at_all_is_asked_until_the_time_is_over() -> None:
    """The configured URL may be wrong: that is not a word of the API on the event."""
    async with rig(lambda *_: Answer(404), timeout_s=300) as r:
        r.accept("a")
        await r.clock.advance(290)
        assert r.ends == (0, 0)
        await r.clock.advance(20)
        assert [letter.reason for letter in r.book.letters] == [Reason.UNCONFIRMED]


@each(
    "answer",
    [
        Answer(0, error="no answer in time"),
        Answer(500),
        Answer(503),
        Answer(429),
        Answer(403),
        Answer(401),
        Answer(302),
        Answer(200, body=b"<html>"),
        Answer(200, body=b'{"status": "delivered"', truncated=True),
        Answer(200, body=b"[" * 100_000),
        says(500, 200),
        says(None),
        says(["delivered"]),
        Answer(200, body=b'["delivered"]'),
    ],
    ids=lambda answer: f"{answer.status} {answer.body[:20]!r}",
)
async def test_an_answer_that_says_nothing_about_the_event_ends_none(answer: Answer) -> None:
    async with rig(lambda _, now: answer if now < 2_000 else says("delivered"), timeout_s=300) as r:
        r.accept("a", "b")
        await r.clock.advance(1_990)
        assert r.ends == (0, 0)
        assert len(r.api.asked) < 60  # and the API is asked less and less
        await r.clock.advance(200)
        assert r.ends == (2, 0)
    assert len(r.warnings) == 2
    assert "does not say what became of its events" in r.warnings[0]


async def test_an_outage_that_outlasts_all_patience_ends_them_one_by_one() -> None:
    async with rig(lambda *_: Answer(503), timeout_s=300, outage_timeout_s=600) as r:
        r.accept("a", "b")
        await r.clock.advance(890)
        assert r.ends == (0, 0)
        await r.clock.advance(1_000)
        assert [letter.reason for letter in r.book.letters] == [Reason.UNCONFIRMED] * 2
        assert r.book.letters[0].detail.endswith(": 503")


async def test_an_api_that_is_away_is_probed_by_one_question_at_a_time() -> None:
    async with rig(lambda *_: Answer(503)) as r:
        r.api.takes_s = 0.5
        r.accept(*(f"e{number}" for number in range(100)))
        await r.clock.advance(1.8)
        first, r.api.most_out = len(r.api.asked), 0
        await r.clock.advance(300)
        assert first == 8
        assert r.api.most_out == 1
        assert 5 <= len(r.api.asked) - first <= 14  # after 2, 4, 8, 16, 32, 60, 60, 60 seconds, or a bit less


async def test_one_event_whose_questions_fail_is_asked_less_and_less_and_stops_no_other() -> None:
    def script(remote_id: str, now: float) -> Answer:
        return Answer(500) if remote_id == "bad" else says("delivered" if now > 900 else "accepted")

    async with rig(script, timeout_s=1_000) as r:
        r.accept("bad", *(f"e{number}" for number in range(20)))
        await r.clock.advance(990)
        assert r.ends == (20, 0)
        assert len(r.api.times_of("bad")) < 60
        await r.clock.advance(4_000)
        assert r.ends == (20, 1)


async def test_without_a_token_questions_wait() -> None:
    def script(remote_id: str, now: float) -> Answer:
        if now < 100:
            raise Unreachable("login.test refuses the login")
        return says("delivered")

    async with rig(script) as r:
        r.accept("a")
        await r.clock.advance(99)
        assert r.ends == (0, 0)
        await r.clock.advance(100)
        assert r.ends == (1, 0)
        assert r.confirmer.polls["none"] >= 2
        assert r.confirmer.polls["2xx"] == 1


@each("remote_id", ["", ".", "..", "x" * 513, "\ud800"])
async def test_an_id_that_cannot_be_asked_for_ends_at_once_and_reaches_no_url(remote_id: str) -> None:
    async with rig(lambda *_: says("delivered")) as r:
        r.accept(remote_id)
        await r.clock.advance(2)
        assert r.api.asked == []
        assert [letter.reason for letter in r.book.letters] == [Reason.UNCONFIRMED]


# bounds and restarts


async def test_sending_waits_while_too_many_are_pending_and_is_told_when_there_is_room() -> None:
    async with rig(after(5, says("delivered")), max_pending=3) as r:
        r.accept("a", "b")
        seen = [r.confirmer.pending.full]
        r.accept("c", "d")
        seen.append(r.confirmer.pending.full)
        assert not r.confirmer.pending.none_left.is_set()
        await r.clock.advance(4)
        assert r.rooms == []
        await r.clock.advance(10)
        assert len(r.rooms) == 1
        assert [*seen, r.confirmer.pending.full] == [False, True, False]
        assert r.confirmer.pending.none_left.is_set()


async def test_a_restart_goes_on_with_what_was_pending() -> None:
    store, clock = MemoryStore(), VirtualClock()
    async with rig(lambda *_: says("accepted"), store=store, clock=clock) as r:
        r.accept("a", "b")
        await clock.advance(10)
    asked = len(r.api.times_of("a"))
    async with rig(lambda *_: says("delivered"), store=store, clock=clock) as r:
        assert r.confirmer.pending.count == 2
        assert not r.confirmer.pending.none_left.is_set()
        await clock.advance(0.1)
        assert r.api.asked == []  # its backoff is kept, too
        await clock.advance(20)
        assert r.ends == (2, 0)
        assert r.confirmer.pending.none_left.is_set()
    assert asked >= 2


async def test_it_works_on_the_real_store_and_a_letter_is_there_as_soon_as_it_is_told(tmp_path: Path) -> None:
    """Real time, real writer thread: 60 events, every third of which fails."""

    class Api:
        async def get(self, url: str) -> Answer:
            await asyncio.sleep(0)
            return says("failed" if int(url.rpartition("/")[2]) % 3 == 0 else "delivered")

    database, book = Database(tmp_path), MemoryBook()
    await database.open()
    confirmer = StatusPoller(
        SINK,
        "https://api.test/{id}",
        client=Api(),
        store=Confirmations(database, SINK),
        recorder=book,
        pending=PendingConfirmations(100),
        reader=StatusReader(safe_text=safe_text),
        settings=StatusPollerSettings(requests_per_minute=60_000, initial_delay_s=0.01),
        rng=random.Random(2),
        clock=SystemClock(),
    )
    rows = [pending_event(str(number), number) for number in range(60)]
    database.note(
        lambda c: confirmations.insert_confirmations(c, rows, SystemClock.wall(), initial_delay_s=0.01)
    )
    await database.commit()
    await confirmer.open()
    running = asyncio.create_task(confirmer.run())
    async with asyncio.timeout(patience(10)):
        await confirmer.pending.none_left.wait()
    running.cancel()
    await asyncio.wait([running])
    assert book.confirmed_events == 40
    assert sorted(letter.offset for letter in book.letters) == list(range(0, 60, 3))
    assert await database.run(lambda c: confirmations.count(c, SINK)) == 0
    await database.close()


# pure parts


def test_a_damaged_payload_is_told_in_the_letter() -> None:
    letter = make_letter(pending_event("a")._replace(intact=False), Reason.FAILED, "status: failed")
    assert letter.detail == "the stored payload is damaged (checksum); status: failed"
