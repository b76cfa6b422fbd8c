import asyncio
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.chunk import Batch, Chunk, Keeper, Segment
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.store.database import Database
from ingestd.store.frozen_batches import IsPassed, SettledBatches, body_digest, unpack_positions
from ingestd.store.journal import Journal
from tests.ids import new_id
from tests.integration.store.files import NOW, find, known_file, opened

pytestmark = pytest.mark.anyio


@pytest.fixture
async def journal(database: Database) -> Journal:
    return Journal(database)


def a_chunk(source: int, start: int, keeper: Keeper = Keeper.SOURCE) -> Chunk:
    events = [b'{"n":%d}' % (start + i) for i in range(4)]
    return Chunk(events, source=source, start=start, end=start + 100, keeper=keeper)


def a_batch(*segments: Segment) -> Batch:
    events = [s.chunk.events[p] for s in segments for p in s.positions]
    batch = Batch(events, [b"%016d" % n for n in range(len(events))], list(segments), new_id=new_id)
    batch.freeze(b"[" + b",".join(events) + b"]")
    return batch


def settle(journal: Journal, batch: Batch, **options: Any) -> None:
    journal.resolved(
        batch,
        sink="ingest_api",
        segments=options.get("segments", batch.segments),
        safe_keys=options.get("safe_keys", ()),
        letters=options.get("letters", ()),
        parts=options.get("parts", ()),
        now=NOW,
    )


async def frozen(
    directory: Path,
) -> dict[str, tuple[bool, list[tuple[int, int, list[int]]], list[bytes] | None]]:
    """What a new process finds: id -> (settled, segments, kept)."""
    async with opened(directory) as journal:
        return {
            batch.id: (
                batch.settled,
                [
                    (source, start, list(unpack_positions(packed)))
                    for source, start, _, packed, _ in batch.segments
                ],
                batch.kept,
            )
            for batch in await journal.frozen_batches()
        }


# --- batches on their way ---


async def test_a_restart_finds_exactly_the_batches_that_are_not_behind_the_position(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        first, second, third = (a_chunk(1, start) for start in (0, 100, 200))
        done = a_batch(Segment(first, range(4)))
        across = a_batch(Segment(second, [1, 3]), Segment(third, range(2)))
        open_one = a_batch(Segment(second, [0, 2]))
        for batch in (done, across, open_one):
            journal.freeze(batch, sink="ingest_api", now=NOW)
        await journal.commit()
        settle(journal, done)
        settle(journal, across)
        journal.moved(1, 100, 5)
    assert await frozen(tmp_path) == {
        across.id: (True, [(1, 100, [1, 3]), (1, 200, [0, 1])], None),
        open_one.id: (False, [(1, 100, [0, 2])], None),
    }


async def test_a_settled_batch_goes_when_the_positions_have_passed_all_its_chunks(
    tmp_path: Path,
) -> None:
    path, number = await known_file(tmp_path)
    batch = a_batch(Segment(a_chunk(number, 100), range(4)), Segment(a_chunk(number, 200), range(4)))
    async with opened(tmp_path) as journal:
        journal.freeze(batch, sink="ingest_api", now=NOW)
        settle(journal, batch)
    for position, left in ((200, [batch.id]), (299, [batch.id]), (300, [])):
        async with opened(tmp_path) as journal:
            await journal.frozen_batches()
            await find(journal, path, size=None)
            journal.moved(number, position, 9)
        assert list(await frozen(tmp_path)) == left


async def test_what_is_resolved_and_passed_in_one_commit_leaves_nothing(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        batch, chunk = a_batch(Segment(a_chunk(1, 0), range(4))), a_chunk(1, 100)
        journal.freeze(batch, sink="ingest_api", now=NOW)
        journal.dismissed(chunk, [2], now=NOW)
        await journal.commit()
        settle(journal, batch)
        journal.dismissed(chunk, [3], now=NOW)
        journal.moved(1, 200, 9)
        await journal.commit()
    assert await frozen(tmp_path) == {}


async def test_what_has_been_passed_is_looked_for_once_in_what_is_committed_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where each event is a request, thousands end in a second."""
    looks: list[int] = []

    def looked(self: SettledBatches, is_passed: IsPassed) -> list[str]:
        looks.append(1)
        return take(self, is_passed)

    take = SettledBatches.take_passed
    monkeypatch.setattr(SettledBatches, "take_passed", looked)
    async with opened(tmp_path) as journal:

        async def deliver(batch: Batch) -> None:
            settle(journal, batch)
            await journal.commit()

        batches = [a_batch(Segment(a_chunk(1, 0), [position])) for position in range(4)]
        for batch in batches:
            journal.freeze(batch, sink="ingest_api", now=NOW)
        await journal.commit()
        looks.clear()
        await asyncio.gather(*map(deliver, batches))
        assert len(looks) == 1
        journal.moved(1, 100, 9)
    assert await frozen(tmp_path) == {}


async def test_what_is_dismissed_is_settled_from_the_start(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        journal.dismissed(a_chunk(1, 100), [1, 2], now=NOW)
        await journal.commit()
    assert await frozen(tmp_path) == {"-/1/100": (True, [(1, 100, [1, 2])], None)}


async def test_position_and_outcome_are_one_transaction(database: Database, journal: Journal) -> None:
    batch = a_batch(Segment(a_chunk(1, 0), range(4)))
    journal.freeze(batch, sink="ingest_api", now=NOW)
    await journal.commit()
    before = database.commits
    settle(journal, batch, safe_keys=[[b"k" * 16]])
    journal.moved(1, 100, 5)
    await journal.commit()
    assert database.commits == before + 1


async def test_the_rebuilt_body_is_told_by_length_and_checksum(tmp_path: Path) -> None:
    batch = a_batch(Segment(a_chunk(1, 0), range(4)))
    async with opened(tmp_path) as journal:
        journal.freeze(batch, sink="ingest_api", now=NOW)
    async with opened(tmp_path) as journal:
        (found,) = await journal.frozen_batches()
    assert found[:5] == (batch.id, False, NOW, 4, body_digest(batch.body))
    assert body_digest(batch.body) != body_digest(batch.body[::-1])


async def test_a_split_batch_leaves_its_settled_events_and_its_parts(tmp_path: Path) -> None:
    chunk = a_chunk(1, 0)
    whole = a_batch(Segment(chunk, range(4)))
    part = whole.part([2, 3])
    part.freeze(b"part")
    async with opened(tmp_path) as journal:
        journal.freeze(whole, sink="ingest_api", now=NOW)
        settle(journal, whole, segments=[Segment(chunk, [0, 1])], parts=[part])
    assert await frozen(tmp_path) == {
        whole.id: (True, [(1, 0, [0, 1])], None),
        part.id: (False, [(1, 0, [2, 3])], None),
    }


async def test_a_batch_of_which_nothing_is_settled_is_replaced_by_its_parts(tmp_path: Path) -> None:
    whole = a_batch(Segment(a_chunk(1, 0), range(4)))
    parts = [whole.part([0, 1]), whole.part([2, 3])]
    async with opened(tmp_path) as journal:
        journal.freeze(whole, sink="ingest_api", now=NOW)
        settle(journal, whole, segments=[], parts=parts)
    assert set(await frozen(tmp_path)) == {part.id for part in parts}


async def test_dropped_batches_and_batches_of_letters_leave_nothing(tmp_path: Path) -> None:
    batch = a_batch(Segment(a_chunk(1, 0), range(4)))
    async with opened(tmp_path) as journal:
        journal.freeze(batch, sink="ingest_api", now=NOW)
        journal.freeze(Batch([b"a"], [None], [], letters=(1,), new_id=new_id), sink="ingest_api", now=NOW)
        journal.drop([batch.id])
    assert await frozen(tmp_path) == {}


# --- streams: their events are kept, for they cannot be read again ---


async def test_events_of_a_stream_are_kept_until_they_are_settled(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        stream = await journal.new_stream("standard input", now=NOW)
        waiting, done = (
            a_batch(Segment(a_chunk(stream.number, start, Keeper.JOURNAL), range(4))) for start in (0, 100)
        )
        journal.freeze(waiting, sink="ingest_api", now=NOW)
        journal.freeze(done, sink="ingest_api", now=NOW)
        settle(journal, done)
    assert (await frozen(tmp_path))[waiting.id] == (False, [(stream.number, 0, [0, 1, 2, 3])], waiting.events)
    await reopen_and_settle(tmp_path, waiting)
    assert await frozen(tmp_path) == {}


async def reopen_and_settle(directory: Path, batch: Batch) -> None:
    async with opened(directory) as journal:
        await journal.frozen_batches()
        settle(journal, batch)


async def test_parts_of_a_kept_batch_of_an_earlier_process_are_kept_too(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        stream = await journal.new_stream("standard input", now=NOW)
        whole = a_batch(Segment(a_chunk(stream.number, 0, Keeper.JOURNAL), range(4)))
        journal.freeze(whole, sink="ingest_api", now=NOW)
    parts = [whole.part([0]), whole.part([1, 2, 3])]
    async with opened(tmp_path) as journal:
        await journal.frozen_batches()
        settle(journal, whole, segments=[], parts=parts)
    found = await frozen(tmp_path)
    assert {batch_id: kept for batch_id, (_, _, kept) in found.items()} == {p.id: p.events for p in parts}


# --- keys, letters, settings ---


async def test_letters_are_stored_with_what_happened_to_their_batch(
    database: Database, journal: Journal
) -> None:
    batch = a_batch(Segment(a_chunk(1, 0), range(4)))
    journal.freeze(batch, sink="ingest_api", now=NOW)
    settle(journal, batch, letters=[DeadLetter(b"x", Reason.REFUSED, "no", 1, 0, 1)])
    journal.dead_letters([DeadLetter(b"y", Reason.INVALID, "bad", 1, 50, 2)], now=NOW)
    await journal.commit()
    rows = await database.run(lambda c: c.execute("SELECT payload, reason FROM letters").fetchall())
    assert sorted(rows) == [(b"x", "refused"), (b"y", "invalid")]


async def test_settings_of_the_last_run_are_remembered(tmp_path: Path) -> None:
    async with opened(tmp_path) as journal:
        assert await journal.remember("api", "one") is None
    async with opened(tmp_path) as journal:
        assert await journal.remember("api", "two") == "one"
        assert await journal.remember("api", "two") == "two"
