"""One process ends, the next takes up what it had accepted: all of it, in order, under the same keys."""

import sqlite3
from pathlib import Path

import pytest

from ingestd.core.bounds import Bounds
from ingestd.core.chunk import Batch, Chunk, Keeper, Segment
from ingestd.core.submission import AcceptedSubmission
from tests.each import each
from tests.ids import new_id
from tests.integration.intake.support import Life, event, events, key_of, numbers_of, running, sent
from tests.receiver import Action, Cut, Hang, Receiver, Reply, in_turn

pytestmark = pytest.mark.anyio

ONE_AT_A_TIME = {"max_in_flight": 1}


async def test_what_was_accepted_and_not_sent_goes_out_after_the_restart_in_order(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        async with running(tmp_path / "state", receiver, deliver=False) as life:
            for first in range(0, 60, 3):
                await life.take(*events(range(first, first + 3)))
            assert life.ledger.in_flight == 60
        async with running(
            tmp_path / "state", receiver, batch={"max_events": 7}, delivery=ONE_AT_A_TIME
        ) as life:
            assert (life.ledger.accepted, life.ledger.in_flight) == (60, 60)
            await life.take(event(60))
            await life.until_empty()
            assert sent(receiver) == list(range(61))
            assert life.ledger.delivered == 61
        async with running(tmp_path / "state", receiver) as life:
            assert (life.ledger.accepted, life.ingest.spool.events) == (0, 0)


@each("trouble", [Hang(), Cut("before_headers"), Cut("rst")])
@each("killed", [True, False])
async def test_a_request_without_an_answer_goes_out_again_with_the_same_id_and_bytes(
    tmp_path: Path, trouble: Action, killed: bool
) -> None:
    directory = tmp_path / "state"
    async with Receiver(lambda _: trouble) as receiver:
        slow = {"backoff_base": 30, "backoff_cap": 30}
        async with running(directory, receiver, delivery=slow) as life:
            await life.take(*events(range(5)))
            await receiver.until(lambda r: len(r.requests) == 1)
            await life.take(*events(range(5, 8)))  # a batch of its own
            await receiver.until(lambda r: len(r.requests) == 2)
            if killed:
                await life.crash(tmp_path / "image")
                directory = tmp_path / "image"
        before = {key_of(request): request.body for request in receiver.requests}
        assert len(before) == 2
        receiver.requests.clear()
        receiver.script = in_turn(Reply())
        async with running(directory, receiver) as life:
            await life.take(event(8))
            await life.until_empty()
            again = {key_of(request): request.body for request in receiver.requests}
            assert again.items() > before.items()
            assert sorted(sent(receiver)) == list(range(9))
            assert not life.warnings
            await life.pipeline.journal.commit()
            assert life.rows("SELECT count(*) FROM batches") == [(0,)]


async def test_of_a_chunk_that_is_delivered_in_part_only_the_rest_is_sent(tmp_path: Path) -> None:
    """Two batches of three from a chunk of eight, and two events that were in none."""
    script = in_turn(Reply(), Hang())
    async with Receiver(script) as receiver:
        async with running(
            tmp_path / "state", receiver, batch={"max_events": 3, "max_age": 60}, delivery=ONE_AT_A_TIME
        ) as life:
            await life.take(*events(range(8)))
            await receiver.until(lambda r: len(r.requests) == 2)
            await life.pipeline.journal.commit()
            assert life.ledger.delivered == 3
            await life.crash(tmp_path / "image")
        hung = receiver.requests[1]
        receiver.requests.clear()
        receiver.script = in_turn(Reply())
        async with running(tmp_path / "image", receiver, delivery=ONE_AT_A_TIME) as life:
            assert (life.ledger.accepted, life.ledger.in_flight) == (5, 5)
            await life.until_empty()
            assert [numbers_of(request) for request in receiver.requests] == [[3, 4, 5], [6, 7]]
            assert key_of(receiver.requests[0]) == key_of(hung)
            assert life.ledger.delivered == 5


async def test_a_refused_batch_that_was_split_is_not_taken_up_whole(tmp_path: Path) -> None:
    def script(request: object) -> Action:
        return Reply(413) if len(receiver.requests) == 1 else Hang()

    async with Receiver(script) as receiver:
        async with running(tmp_path / "state", receiver, delivery=ONE_AT_A_TIME) as life:
            await life.take(*events(range(8)))
            await receiver.until(lambda r: len(r.requests) == 2)
            await life.crash(tmp_path / "image")
        half = receiver.requests[1]
        receiver.requests.clear()
        receiver.script = in_turn(Reply())
        async with running(tmp_path / "image", receiver, delivery=ONE_AT_A_TIME) as life:
            await life.until_empty()
            assert (key_of(half), half.body) in [(key_of(r), r.body) for r in receiver.requests]
            assert sorted(sent(receiver)) == list(range(8))
            assert life.ledger.delivered == 8


async def test_a_drain_sends_what_is_there_and_leaves_the_rest_in_the_spool(tmp_path: Path) -> None:
    script = in_turn(Reply(), Reply(503, {"Retry-After": "0"}))
    async with Receiver(script) as receiver:
        async with running(
            tmp_path / "state",
            receiver,
            batch={"max_events": 4, "max_age": 60},
            delivery=ONE_AT_A_TIME,
            bounds=Bounds(spool_memory_bytes=2000),
        ) as life:
            for first in range(0, 200, 10):
                await life.take(*events(range(first, first + 10)))
            told = life.submit(event(1000), wait_s=15)
            await receiver.until(lambda r: len(r.requests) >= 3)
            await life.drain()
            assert isinstance(told.result(), AcceptedSubmission)
            assert life.ledger.delivered == 4
            assert life.ledger.in_flight == 197
        receiver.requests.clear()
        receiver.script = in_turn(Reply())
        async with running(tmp_path / "state", receiver, bounds=Bounds(spool_memory_bytes=2000)) as life:
            assert life.ledger.in_flight == 197
            await life.until_empty()
            assert sorted(sent(receiver)) == [*range(4, 200), 1000]


async def test_a_batch_that_a_replay_of_standard_input_left_is_counted_and_its_keys_are_known_once_delivered(
    tmp_path: Path,
) -> None:
    async with Receiver() as receiver:
        async with running(tmp_path / "state", receiver, deliver=False) as life:
            await leave_a_batch_of_a_stream(life, events(range(3)))
        async with running(tmp_path / "state", receiver) as life:
            await receiver.until(lambda r: len(r.requests) == 1)
            await life.take(event(3))
            await life.until_empty()
            assert numbers_of(receiver.requests[0]) == [0, 1, 2]
            assert (life.ledger.accepted, life.ledger.delivered, life.ledger.in_flight) == (4, 4, 0)
            assert await life.submit(event(1)) == AcceptedSubmission(0, 1, [])
            await life.pipeline.journal.commit()
        async with running(tmp_path / "state", receiver) as life:
            assert await life.submit(event(1)) == AcceptedSubmission(0, 1, [])


async def leave_a_batch_of_a_stream(life: Life, raw: list[bytes]) -> None:
    """As `ingestd replay -` leaves it when it is killed after the freeze."""
    journal, sink = life.pipeline.journal, life.pipeline.runners[0].sink
    stream = await journal.new_stream("-", now=0.0)
    chunk = Chunk(raw, source=stream.number, start=0, end=1, keeper=Keeper.JOURNAL)
    batch = Batch(raw, [None] * len(raw), [Segment(chunk, range(len(raw)))], new_id=new_id)
    batch.freeze(sink.encode(raw))
    journal.freeze(batch, sink="ingest_api", now=0.0)
    await journal.commit()


async def test_a_request_whose_spooled_events_are_damaged_goes_out_with_the_others_under_a_new_id(
    tmp_path: Path,
) -> None:
    async with Receiver(lambda _: Hang()) as receiver:
        async with running(
            tmp_path / "state", receiver, batch={"max_age": 60, "max_events": 6}, delivery=ONE_AT_A_TIME
        ) as life:
            for number in range(6):
                await life.take(event(number))
            await receiver.until(lambda r: len(r.requests) == 1)
            await life.take(*events(range(6, 12)))
            await life.crash(tmp_path / "image")
        damage(tmp_path / "image", 3)
        first = receiver.requests.pop()
        receiver.script = in_turn(Reply())
        async with running(tmp_path / "image", receiver, delivery=ONE_AT_A_TIME) as life:
            assert [w for w in life.warnings if "unfinished" in w] == [life.warnings[-1]]
            await life.until_empty()
            assert [numbers_of(request) for request in receiver.requests] == [
                [0, 1, 3, 4, 5],
                [6, 7, 8, 9, 10, 11],
            ]
            assert key_of(receiver.requests[0]) != key_of(first)
            assert (life.ledger.delivered, life.ledger.dead_lettered) == (11, 1)
            assert life.rows("SELECT count(*) FROM batches") == [(0,)]


async def test_a_damaged_chunk_costs_only_its_own_events_and_is_counted(tmp_path: Path) -> None:
    async with Receiver() as receiver:
        async with running(tmp_path / "state", receiver, deliver=False) as life:
            for first in (0, 3, 6):
                await life.take(*events(range(first, first + 3)))
        damage(tmp_path / "state", 2)
        async with running(tmp_path / "state", receiver) as life:
            assert life.ledger.in_flight == 9
            await life.until_empty()
            assert sorted(sent(receiver)) == [0, 1, 2, 6, 7, 8]
            assert life.ledger.by_reason == {"damaged": 3}
            assert (life.ledger.delivered, life.ledger.dead_lettered, life.ledger.in_flight) == (6, 3, 0)
            assert [found.first for found in life.ingest.spool.damage] == [2]
        async with running(tmp_path / "state", receiver) as life:
            assert (life.ledger.accepted, len(life.ingest.spool.damage)) == (0, 1)


async def test_a_request_of_which_nothing_is_left_is_forgotten(tmp_path: Path) -> None:
    async with Receiver(lambda _: Hang()) as receiver:
        async with running(tmp_path / "state", receiver) as life:
            await life.take(*events(range(3)))
            await receiver.until(lambda r: len(r.requests) == 1)
        damage(tmp_path / "state", 1)
        receiver.requests.clear()
        async with running(tmp_path / "state", receiver) as life:
            await life.until_empty()
            assert life.ledger.by_reason == {"damaged": 3}
            assert life.rows("SELECT count(*) FROM batches") == [(0,)]
        assert not receiver.requests


def damage(directory: Path, number: int) -> None:
    """Flip the last bit of a chunk."""
    connection = sqlite3.connect(directory / "state.db", isolation_level=None)
    (payload,) = connection.execute("SELECT payload FROM spool WHERE id = ?", (number,)).fetchone()
    broken = payload[:-1] + bytes([payload[-1] ^ 1])
    connection.execute("UPDATE spool SET payload = ? WHERE id = ?", (broken, number))
    connection.close()
