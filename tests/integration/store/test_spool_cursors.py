"""The spool with several sinks in one life: what is open at whom, and what is kept in memory of it."""

import sqlite3
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.chunk import Chunk
from ingestd.core.letter import DeadLetter, Failures
from ingestd.store.database import Database
from ingestd.store.spool import Spool, SpoolCursor
from tests.unit.core.test_receipt import letter

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0
SINKS = ("one", "two", "three")


@asynccontextmanager
async def opened(directory: Path, *sinks: str) -> AsyncIterator[tuple[Spool, list[tuple[int, int]]]]:
    """Gives also what is told of chunks that are resolved: (number, dead letters)."""
    database = Database(directory, patient=True)
    await database.open()
    told: list[tuple[int, int]] = []
    spool = Spool(
        database,
        sinks=sinks or SINKS,
        on_resolved=lambda number, dead_letters, skipped: told.append((number, dead_letters)),
    )
    await spool.open(now=NOW)
    try:
        yield spool, told
    finally:
        await spool.close()
        await database.close()


async def append(spool: Spool, *, at: float = NOW) -> Chunk:
    chunks, on_disk = spool.append([([b"event"], [None])], now=at)
    await on_disk
    return chunks[0]


def take_up(spool: Spool, sink: str, spooled: Chunk, *, count: int = 1) -> Chunk:
    """As the sink's feed does, and its recorder."""
    mine = open_for(spool, sink, spooled, count=count)
    if not count:
        mine.receipt.resolve(sink, (), ())
        mine.receipt.finish(sink, 0)
    spool.was_read(sink, spooled.start)
    return mine


def open_for(spool: Spool, sink: str, spooled: Chunk, *, count: int = 1) -> Chunk:
    mine = spool.again(spooled)
    spool.open_chunk(sink, mine, lambda events: {name: range(1) for name in spool.cursors})
    mine.receipt.expect(sink, count)
    return mine


def end(sink: str, taken: Chunk, *, letters: Sequence[DeadLetter] = ()) -> None:
    taken.receipt.resolve(sink, range(1), (), Failures([0] * len(letters), letters))
    taken.receipt.finish(sink, 1)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=60))
def test_a_cursor_never_passes_a_chunk_that_is_open_and_never_goes_back(
    steps: list[tuple[bool, int]],
) -> None:
    cursor = SpoolCursor()
    before = cursor.position
    for takes, which in steps:
        if takes:
            cursor.open.add(cursor.unread)
            cursor.unread += 1
        elif cursor.open:
            cursor.open.discard(sorted(cursor.open)[which % len(cursor.open)])
        assert cursor.position == min([*cursor.open, cursor.unread])
        assert cursor.position >= before
        before = cursor.position


async def test_a_chunk_goes_when_every_sink_has_had_it_in_whatever_order(tmp_path: Path) -> None:
    async with opened(tmp_path) as (spool, told):
        first, second = await append(spool), await append(spool)
        views = {(name, s.start): take_up(spool, name, s) for name in SINKS for s in (first, second)}
        for name, number in (("two", 2), ("one", 1), ("three", 2), ("one", 2)):
            end(name, views[name, number])
        assert (spool.chunks, len(told)) == (1, 1)
        assert spool.positions() == {"one": 3, "two": 1, "three": 1}
        assert [spool.is_open(name, 1) for name in SINKS] == [False, True, True]
        assert not any(spool.is_open(name, 2) for name in SINKS)
        assert not spool.is_open("nobody", 1)
        end("two", views["two", 1])
        end("three", views["three", 1])
        assert (spool.chunks, spool.events, spool.bytes, len(told)) == (0, 0, 0, 2)


async def test_a_chunk_that_waits_only_for_sinks_that_lag_is_forgotten_and_found_again(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (spool, told):
        chunk = await append(spool)
        one = take_up(spool, "one", chunk)
        assert spool.state(1) == (1, 0, 0)
        end("one", one)
        assert spool.state(1) is None
        assert [spool.is_open(name, 1) for name in SINKS] == [False, True, True]
        take_up(spool, "two", chunk, count=0)  # nothing of it is for this one
        assert spool.state(1) is None
        three = take_up(spool, "three", chunk)
        assert (spool.chunks, told) == (1, [])
        end("three", three)
        assert (spool.chunks, told) == (0, [(1, 0)])


async def test_a_chunk_with_failed_events_is_remembered_until_all_have_had_it(tmp_path: Path) -> None:
    async with opened(tmp_path, "one", "two") as (spool, told):
        chunk = await append(spool)
        one = take_up(spool, "one", chunk)
        end("one", one, letters=[letter()])
        assert spool.state(1) == (0, 1, 0)
        two = take_up(spool, "two", chunk)
        end("two", two)
        assert told == [(1, 1)]


async def test_a_sink_that_ended_a_chunk_before_its_turn_is_not_waited_for_again(tmp_path: Path) -> None:
    """A batch that was taken up after a restart is delivered before the feed has come to its chunk."""
    async with opened(tmp_path, "one", "two") as (spool, told):
        chunk = await append(spool)
        end("one", open_for(spool, "one", chunk))
        two = take_up(spool, "two", chunk)
        spool.was_read("one", 1)
        end("two", two)
        assert (spool.chunks, len(told)) == (0, 1)


async def test_the_oldest_chunk_is_told_whoever_opened_it_first(tmp_path: Path) -> None:
    async with opened(tmp_path, "one", "two") as (spool, _):
        old, young = await append(spool, at=NOW), await append(spool, at=NOW + 5)
        end("one", take_up(spool, "one", old))
        take_up(spool, "one", young)
        assert spool.oldest_accepted_at == NOW + 5
        take_up(spool, "two", old)
        assert spool.oldest_accepted_at == NOW


async def test_a_damaged_chunk_that_others_still_have_is_counted_once_and_leaves_nothing(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path) as (spool, told):
        chunk = await append(spool)
        before = take_up(spool, "one", chunk)
        with closing(sqlite3.connect(tmp_path / "state.db")) as connection, connection:
            connection.execute("UPDATE spool SET payload = x'00'")
        found, following = await spool.read(first=1, before=2)
        assert (found, following, len(spool.damage)) == ([], 2, 1)
        spool.cursors["two"].unread = following
        after = take_up(spool, "three", chunk)
        end("one", before)
        end("three", after, letters=[letter()])
        assert (spool.chunks, spool.events, spool.bytes, told) == (0, 0, 0, [])
        assert spool.oldest_accepted_at is None
        assert not any(spool.is_open(name, 1) for name in SINKS)


async def test_of_a_single_sink_the_rows_tell_what_waits_whatever_its_name(tmp_path: Path) -> None:
    async with opened(tmp_path, "before") as (spool, _):
        await append(spool)
    async with opened(tmp_path, "after") as (spool, _):
        assert not spool.left_behind
        assert spool.is_open("before", 1)
        assert spool.is_open("after", 1)
        found, _ = await spool.read(first=spool.cursors["after"].unread, before=spool.end)
        assert [one.events for one in found] == [[b"event"]]
