"""From the spool to the lane: in the order of acceptance, however much there is, in bounded memory."""

import asyncio
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from ingestd.core.bounds import Bounds
from ingestd.core.chunk import Chunk
from ingestd.store.spool import READ_CHUNKS
from tests.each import each
from tests.effort import seeds
from tests.integration.delivery.support import until
from tests.integration.intake.support import event, events, running, sent
from tests.machine import patience
from tests.receiver import Action, Hang, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

ONE_AT_A_TIME = {"max_in_flight": 1}
CHUNK_BYTES = len(event(0, pad=1000))


@each("seed", seeds(3, 30))
async def test_events_arrive_once_and_in_the_order_of_acceptance_also_past_what_memory_holds(
    tmp_path: Path, seed: int
) -> None:
    rng = random.Random(seed)
    bounds = Bounds(spool_memory_bytes=rng.choice([0, 2, 5, 20]) * CHUNK_BYTES)
    accepted: list[int] = []
    was_behind = 0
    async with (
        Receiver() as receiver,
        running(
            tmp_path / "state",
            receiver,
            deliver=False,
            batch={"max_events": rng.choice([1, 4, 50]), "max_age": 0.01},
            delivery=ONE_AT_A_TIME,
            bounds=bounds,
        ) as life,
    ):
        for number in range(rng.randint(0, 40)):
            await life.take(event(number, pad=1000))
            accepted.append(number)
        life.deliver()
        for _ in range(30):
            burst = range(len(accepted), len(accepted) + rng.choice([1, 2, 10]))
            told = [life.submit(event(number, pad=1000)) for number in burst]
            accepted += burst
            was_behind += life.ingest.feeds[0].source.behind
            if rng.random() < 0.6:
                await told[-1]
            if rng.random() < 0.1:
                await life.until_empty()
                await until(lambda: not life.ingest.feeds[0].source.behind)
        await life.ingest.admission.finished()
        await life.until_empty()
        assert sent(receiver) == accepted
        assert was_behind


async def test_what_waits_in_memory_is_bounded_whatever_the_spool_holds(
    tmp_path: Path, alive: Callable[..., int]
) -> None:
    lane = {"max_in_flight": 1}
    waiting = 16 + 1 + 1  # batches that a lane of one slot takes, and the one that is out
    most = waiting * 4 + 10 + READ_CHUNKS
    async with Receiver(lambda _: Hang()) as receiver:
        async with running(
            tmp_path / "state",
            receiver,
            batch={"max_events": 4, "max_age": 60},
            delivery=lane,
            bounds=Bounds(spool_memory_bytes=10 * CHUNK_BYTES),
        ) as life:
            for number in range(400):
                await life.take(event(number, pad=1000))
            await receiver.until(lambda r: len(r.requests) == 1)
            assert life.ingest.feeds[0].source.behind
            assert alive(Chunk) <= most
        async with running(
            tmp_path / "state",
            receiver,
            batch={"max_events": 4, "max_age": 60},
            delivery=lane,
            bounds=Bounds(spool_memory_bytes=10 * CHUNK_BYTES),
        ) as life:
            await receiver.until(lambda r: len(r.requests) == 2)
            for number in range(400, 500):
                await life.take(event(number, pad=1000))
            assert life.ingest.feeds[0].source.behind
            assert alive(Chunk) <= most
            assert life.ledger.in_flight == life.ingest.spool.events == 500


async def test_when_it_has_caught_up_nothing_is_read_from_the_disk_any_more(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        async with running(tmp_path / "state", receiver, deliver=False) as life:
            for number in range(3 * READ_CHUNKS):
                await life.take(event(number))
            assert life.ingest.feeds[0].source.behind
        async with running(tmp_path / "state", receiver) as life:
            await life.until_empty()
            await until(lambda: not life.ingest.feeds[0].source.behind)
            for number in range(100, 105):
                await life.take(event(number))
                assert not life.ingest.feeds[0].source.behind
            await life.until_empty()
            assert sorted(sent(receiver)) == [*range(3 * READ_CHUNKS), *range(100, 105)]


async def test_events_of_several_submissions_fill_one_request(tmp_path: Path) -> None:
    async with (
        Receiver() as receiver,
        running(tmp_path / "state", receiver, batch={"max_events": 10, "max_age": 60}) as life,
    ):
        await life.take(*events(range(6)))
        await life.take(*events(range(6, 10)))
        await receiver.until(lambda r: len(r.requests) == 1)
        assert sent(receiver) == list(range(10))


async def test_a_stopped_feed_takes_up_nothing_more_and_the_spool_keeps_it(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver) as life:
        await life.take(event(1))
        await life.until_empty()
        life.ingest.feeds[0].source.stop()
        await life.take(event(2))
        async with asyncio.timeout(patience(10)):
            await life.tasks[1]
        assert sent(receiver) == [1]
        assert life.rows("SELECT sum(events) FROM spool") == [(1,)]


# --- a drain ---


async def test_a_drain_delivers_what_was_accepted_a_moment_ago_and_not_read_back_yet(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver, deliver=False) as life:
        await life.take(*events(range(3)))
        life.deliver()  # it begins with what is on the disk, and has not looked yet
        await life.drain()
        assert sorted(sent(receiver)) == [0, 1, 2]
        assert (life.ledger.delivered, life.ingest.spool.events) == (3, 0)


async def test_a_drain_delivers_what_is_accepted_while_it_begins(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver) as life:
        await life.take(event(1))
        await life.until_empty()
        await until(lambda: not life.ingest.feeds[0].source.behind)
        told = life.submit(event(2))
        await life.drain()
        assert told.done()
        assert sent(receiver) == [1, 2]
        assert (life.ledger.delivered, life.ingest.spool.events) == (2, 0)


async def test_a_drain_empties_the_spool_in_bounded_memory_where_the_sink_takes_it(
    tmp_path: Path, alive: Callable[..., int]
) -> None:
    seen: list[int] = []

    def script(_: Request) -> Action:
        if len(receiver.requests) % 20 == 1:
            seen.append(alive(Chunk))
        return Reply()

    async with (
        Receiver(script) as receiver,
        running(
            tmp_path / "state",
            receiver,
            deliver=False,
            batch={"max_events": 4, "max_age": 60},
            delivery=ONE_AT_A_TIME,
            bounds=Bounds(spool_memory_bytes=10 * CHUNK_BYTES),
        ) as life,
    ):
        for number in range(400):
            await life.take(event(number, pad=1000))
        life.deliver()
        await life.drain()
        assert sent(receiver) == list(range(400))
        assert life.ingest.spool.events == 0
    assert max(seen) <= 18 * 4 + 10 + 2 * READ_CHUNKS


@each("taken", [0, 5])
async def test_an_outage_does_not_hold_up_the_end_of_a_drain(tmp_path: Path, taken: int) -> None:
    async with (
        Receiver(lambda _: Reply(200 if len(receiver.requests) <= taken else 503)) as receiver,
        running(
            tmp_path / "state",
            receiver,
            deliver=False,
            batch={"max_events": 1},
            delivery=ONE_AT_A_TIME | {"circuit_threshold": 10},
        ) as life,
    ):
        for number in range(100):
            await life.take(event(number))
        life.deliver()
        await life.drain(float("inf"))
        assert life.ledger.delivered == taken
        assert life.ingest.spool.events == 100 - taken
        assert len(receiver.requests) < taken + 20


async def test_a_drain_that_runs_out_of_time_leaves_no_request_unanswered(tmp_path: Path) -> None:
    async def script(_: Request) -> Action:
        await asyncio.sleep(0.02)
        return Reply()

    async with Receiver(script) as receiver:
        async with running(
            tmp_path / "state", receiver, deliver=False, batch={"max_events": 1}, delivery=ONE_AT_A_TIME
        ) as life:
            for number in range(100):
                await life.take(event(number))
            life.deliver()
            await receiver.until(lambda r: len(r.requests) == 1)
            await life.drain(0.4)
            assert 0 < life.ledger.delivered == len(receiver.requests) < 100
            assert life.ingest.spool.events == 100 - life.ledger.delivered
        async with running(tmp_path / "state", receiver) as life:
            await life.until_empty()
        assert sorted(sent(receiver)) == list(range(100))
