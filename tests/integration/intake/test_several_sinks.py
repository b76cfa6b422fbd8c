"""One run with several sinks: neighbours do not wait for each other, and an event's end takes all of them."""

import asyncio
import sqlite3
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.bounds import Bounds
from ingestd.core.chunk import Chunk
from ingestd.core.receipt import FanOutReceipt
from ingestd.core.submission import AcceptedSubmission, SubmissionOutcome
from ingestd.store.spool import READ_CHUNKS
from tests.integration.delivery.support import until
from tests.integration.intake.support import (
    Life,
    all_posted,
    event,
    events,
    key_of,
    posted,
    running,
    webhook,
)
from tests.integration.intake.test_restart import damage
from tests.receiver import Action, Hang, Receiver, Reply, Request, in_turn

pytestmark = pytest.mark.anyio

IN_ORDER = {"max_in_flight": 1}
QUICK = {"request_timeout": 0.3}
LONG_S = 15.0
CHUNK_BYTES = 10 * len(event(100, pad=1000))


def refusing(*numbers: int) -> Any:
    """A receiver's script: these events are no good, whatever is tried."""

    def script(request: Request) -> Action:
        errors = ",".join(
            f'{{"index":{index},"message":"no"}}' for index, n in enumerate(posted(request)) if n in numbers
        )
        return Reply(422, body=b'{"errors":[%s]}' % errors.encode()) if errors else Reply()

    return script


def by_key(receiver: Receiver) -> list[int]:
    """Events, once for each key they came under: an answer may come too late on a busy machine."""
    under = {key_of(request): posted(request) for request in receiver.requests}
    return sorted(number for numbers in under.values() for number in numbers)


async def nowhere() -> str:
    """A URL that refuses connections."""
    async with Receiver() as receiver:
        return receiver.url


@pytest.mark.parametrize("how", ["hangs", "refuses connections"])
async def test_a_dead_sink_holds_up_nobody_and_gets_everything_in_order_when_it_is_back(
    tmp_path: Path, how: str, alive: Callable[..., int]
) -> None:
    numbers = list(range(1500))
    batch, state = {"max_events": 20, "max_age": 0.01}, tmp_path / "state"
    async with Receiver() as live, Receiver(lambda _: Hang()) as hanging:
        url = hanging.url if how == "hangs" else await nowhere()
        sinks = {"live": webhook(live), "dead": webhook(live, url=url, **IN_ORDER)}
        async with running(
            state, sinks=sinks, batch=batch, bounds=Bounds(spool_memory_bytes=10 * CHUNK_BYTES)
        ) as life:
            for first in range(0, 1500, 10):
                await life.take(*events(range(first, first + 10), pad=1000))
            await until(lambda: life.sink("live").delivered == 1500)
            assert life.source("dead").behind
            assert life.sink("dead").delivered == 0
            # the lane's batches, the feed's memory and a page from the disk; never all of it
            assert alive(Chunk) <= 2 * (20 + 10 + READ_CHUNKS)
            assert alive(FanOutReceipt) <= 20 + 10 + READ_CHUNKS
            assert (life.ingest.spool.events, life.ledger.in_flight) == (1500, 1500)
            await life.pipeline.journal.commit()
            assert life.rows("SELECT count(*) FROM batches WHERE sink = 'live'") == [(0,)]
        assert sorted(all_posted(live)) == numbers
        live.requests.clear()
        async with Receiver() as back:
            sinks["dead"] = webhook(back, **IN_ORDER)
            async with running(
                state, sinks=sinks, batch=batch, bounds=Bounds(spool_memory_bytes=10 * CHUNK_BYTES)
            ) as life:
                await life.until_empty()
                assert life.ledger.delivered == 1500
                assert (life.sink("live").routed, life.sink("dead").delivered) == (0, 1500)
            assert all_posted(back) == numbers
        assert not live.requests


async def test_when_a_dead_sink_has_filled_the_spool_producers_wait_until_it_is_back(tmp_path: Path) -> None:
    async with Receiver() as live, Receiver(lambda _: Hang()) as dead:
        sinks = {"live": webhook(live), "dead": webhook(dead)}
        spool = {"ballast": 0, "max_bytes": 1024**2}
        async with running(tmp_path / "state", sinks=sinks, spool=spool, delivery=QUICK) as life:
            size = len(event(100, pad=50_000))
            most = 1024**2 // size
            await life.take(*events(range(most), pad=50_000))
            deferred = await life.refuse(event(most, pad=50_000))
            assert deferred.status == 429
            await until(lambda: life.sink("live").delivered == most)
            assert (await life.refuse(event(most, pad=50_000))).status == 429
            dead.script = in_turn(Reply())
            await life.until_empty()
            await life.take(event(most, pad=50_000))
            await life.until_empty()
            assert by_key(dead) == by_key(live) == list(range(most + 1))


async def test_an_event_goes_where_its_pattern_says_and_one_that_goes_nowhere_is_counted(
    tmp_path: Path,
) -> None:
    async with Receiver() as calls, Receiver() as both:
        sinks = {
            "calls": webhook(calls, when={"eventType": ["call"]}),
            "both": webhook(both, body="event", when={"eventType": ["call", "chat"]}),
        }
        types = ("call", "chat", "email")
        async with running(tmp_path / "state", sinks=sinks) as life:
            for first in range(0, 30, 5):
                await life.take(*(event(n, eventType=types[n % 3]) for n in range(first, first + 5)))
            mixed = event(30, eventType="call"), event(31, eventType="email")
            assert (await life.take(*mixed, wait_s=LONG_S)).ends == SubmissionOutcome(1, 0, 0, skipped=1)
            gone = await life.take(event(32, eventType="email"), wait_s=LONG_S)  # a chunk of nothing but that
            assert gone.ends == SubmissionOutcome(0, 0, 0, skipped=1)
            await life.until_empty()
            assert sorted(all_posted(calls)) == list(range(0, 31, 3))
            assert sorted(all_posted(both)) == [n for n in range(31) if n % 3 < 2]
            assert (life.ledger.accepted, life.ledger.delivered, life.ledger.unmatched) == (33, 21, 12)
            assert (life.sink("calls").delivered, life.sink("both").delivered) == (11, 21)


async def test_who_waits_hears_when_every_sink_is_done_and_what_any_of_them_gave_up(tmp_path: Path) -> None:
    gate = asyncio.Event()

    async def reply(_: Request) -> Reply:
        await gate.wait()
        return Reply()

    async with Receiver(refusing(1)) as picky, Receiver(reply) as slow:
        sinks = {"picky": webhook(picky), "slow": webhook(slow)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            told = life.submit(*events(range(3)), wait_s=LONG_S)
            await until(lambda: life.sink("picky").in_flight == 0 and bool(slow.requests))
            assert not told.done()
            assert (await life.take(*events([1]))).duplicates == 1  # the other may still take it
            gate.set()
            assert await told == AcceptedSubmission(3, 0, [], SubmissionOutcome(2, 1, 0))
            assert (life.ledger.delivered, life.ledger.dead_lettered) == (2, 1)


async def test_a_key_is_free_again_only_when_every_sink_gave_the_event_up(tmp_path: Path) -> None:
    async with Receiver(refusing(1, 2)) as one, Receiver(refusing(2, 3)) as other:
        sinks = {"one": webhook(one, when={"eventType": ["call"]}), "other": webhook(other)}
        state = tmp_path / "state"
        async with running(state, sinks=sinks) as life:
            await life.take(*events(range(3)), event(3, eventType="chat"))  # 3 goes to the other only
            await life.until_empty()
            assert (life.ledger.delivered, life.ledger.dead_lettered) == (1, 3)
            assert (life.sink("one").dead_lettered, life.sink("other").dead_lettered) == (2, 2)
        async with running(state, sinks=sinks) as life:
            for number, new in ((0, 0), (1, 0), (2, 1)):
                assert (await life.take(event(number))).accepted == new, number
            assert (await life.take(event(3, eventType="chat"))).accepted == 1
            await life.until_empty()
            assert life.rows("SELECT sink, count(*) FROM letters GROUP BY sink") == [("one", 3), ("other", 4)]


async def test_a_chunk_found_damaged_by_one_sink_is_still_delivered_by_another_that_has_it_in_memory(
    tmp_path: Path,
) -> None:
    async with Receiver() as quick, Receiver(lambda _: Hang()) as late:
        options = {"max_events": 1, **IN_ORDER}
        sinks = {"quick": webhook(quick, **options), "late": webhook(late, **options)}
        async with running(
            tmp_path / "state",
            sinks=sinks,
            delivery=QUICK,
            bounds=Bounds(spool_memory_bytes=10 * len(event(10, pad=1000))),
        ) as life:
            for number in range(40):
                await life.take(event(number, pad=1000))
            await until(lambda: life.sink("quick").delivered == 40)
            assert life.source("late").behind
            quick.script = lambda _: Hang()
            for number in range(40, 50):
                await life.take(event(number, pad=1000))
            await quick.until(lambda r: len(r.requests) > 40)  # 40 is out, 49 waits for its feed
            last = life.ingest.spool.end - 1
            damage(life.directory, last - 9)
            damage(life.directory, last)
            late.script = in_turn(Reply())
            await until(lambda: life.ledger.dead_lettered == 2)
            quick.script = in_turn(Reply())
            await life.until_empty()
            await until(lambda: life.sink("quick").delivered == 50)
            assert life.sink("late").delivered == 48
            assert set(all_posted(late)) == set(range(50)) - {40, 49}
            assert life.ledger.by_reason == {"damaged": 2}
            assert (life.ledger.delivered, life.ledger.in_flight) == (48, 0)
            assert life.ingest.spool.oldest_accepted_at is None
            await life.pipeline.journal.commit()
            assert life.rows("SELECT count(*) FROM batches") == [(0,)]


async def test_what_is_known_of_delivered_batches_is_bounded_while_one_event_is_tried_again_and_again(
    tmp_path: Path,
) -> None:
    """The sink's cursor stands still all that time, and its neighbour's does not. Of the chunk with that
    event a restart has to know what is delivered."""
    stuck = lambda request: Reply(503) if 0 in posted(request) else Reply()  # noqa: E731
    async with Receiver(stuck) as single, Receiver() as other:
        sinks = {"single": webhook(single, body="event", max_in_flight=50), "other": webhook(other)}
        delivery = {"backoff_base": 0.05, "backoff_cap": 0.05}
        async with running(tmp_path / "state", sinks=sinks, delivery=delivery) as life:
            await life.take(*events(range(2)))
            for first in range(2, 1002, 20):
                await life.take(*events(range(first, first + 20)))
            await until(lambda: life.sink("single").delivered == 1001)
            last = 1002
            while last < 1150:  # rows are looked through every so many commits, however many came in each
                await life.take(*events([last]))
                await until(partial(delivered_is, life, last))
                last += 1
                if batch_rows(life) <= 600:
                    break
            assert batch_rows(life) <= 600
            await life.pipeline.journal.commit()
            await life.crash(tmp_path / "image")
        single.script = in_turn(Reply())
        async with running(tmp_path / "image", sinks=sinks, delivery=delivery) as life:
            await life.until_empty()
            await until(lambda: batch_rows(life) == 0)
        assert sorted(n for n in all_posted(single) if n) == list(range(1, last))


def delivered_is(life: Life, count: int) -> bool:
    return life.sink("single").delivered == count


def batch_rows(life: Life) -> int:
    connection = sqlite3.connect(f"file:{life.directory / 'state.db'}?mode=ro", uri=True)
    try:
        found: int = connection.execute("SELECT count(*) FROM batches").fetchone()[0]
        return found
    finally:
        connection.close()
