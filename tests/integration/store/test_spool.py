"""The spool over several processes' lives, and what it notices about its own file."""

import asyncio
import random
import shutil
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.chunk import Chunk
from ingestd.core.letter import Failures
from ingestd.store import frames, spool_rows
from ingestd.store.connection import StoreBlocked, StoreFailed
from ingestd.store.database import Database
from ingestd.store.key_log import KeyLog
from ingestd.store.spool import Spool
from ingestd.store.spool_inspection import SpoolInspection
from tests.integration.store.test_migration import make_old
from tests.unit.core.test_receipt import letter

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0
KEYS = [b"%016d" % number for number in range(100)]


@asynccontextmanager
async def opened(directory: Path, **told: Any) -> AsyncIterator[tuple[Spool, Database]]:
    database = Database(directory, patient=True)
    await database.open()
    spool = Spool(database, **told)
    await spool.open(now=NOW)
    try:
        yield spool, database
    finally:
        await spool.close()
        await database.close()


async def append(spool: Spool, *events: bytes) -> Chunk:
    chunks, on_disk = spool.append([(list(events), list(KEYS[: len(events)]))], now=NOW)
    await on_disk
    return chunks[0]


async def read_all(spool: Spool) -> list[list[bytes]]:
    chunks, following = await spool.read(first=1, before=spool.end, limit=1000)
    assert following == spool.end
    return [spooled.events for spooled in chunks]


async def lost_tail(directory: Path, events: list[bytes]) -> None:
    """One chunk in the database, the others only in the write-ahead log, which is then gone."""
    async with opened(directory) as (spool, _):
        await append(spool, b"first")
    copy = directory.with_name("before")
    shutil.copytree(directory, copy)
    async with opened(directory) as (spool, _):
        for event in events:
            await append(spool, event)
    shutil.copy(copy / "state.db", directory / "state.db")


async def test_a_chunk_is_gone_when_all_its_events_had_their_end_and_numbers_are_not_used_twice(
    tmp_path: Path,
) -> None:
    ended: list[tuple[int, int]] = []

    def on_resolved(number: int, dead: int, skipped: int) -> None:
        ended.append((number, dead))

    async with opened(tmp_path, on_resolved=on_resolved) as (spool, database):
        one, two = await append(spool, b"a", b"b"), await append(spool, b"c")
        for spooled in (one, two):
            spool.open_chunk("ingest_api", spooled, lambda events: {})
        one.receipt.settle(1)
        assert spool.state(1) == (1, 0, 0)
        two.receipt.resolve("ingest_api", range(1), (), Failures((0,), [letter()]))
        two.receipt.finish("ingest_api", 1)
        await database.commit()
        assert ended == [(2, 1)]
        assert (spool.chunks, spool.events, spool.bytes, spool.settled_bytes) == (1, 2, 2, 1)
    async with opened(tmp_path) as (spool, _):
        assert await read_all(spool) == [[b"a", b"b"]]
        assert (await append(spool, b"d")).start == 3


async def test_events_without_a_key_have_none_after_reading(tmp_path: Path) -> None:
    async with opened(tmp_path) as (spool, database):
        await spool.append([([b"a", b"b", b"c"], [None, KEYS[7], None])], now=NOW)[1]
        chunks, _ = await spool.read(first=1, before=2)
        assert chunks[0].digests == [None, KEYS[7], None]
        rows = await KeyLog(database).read(not_before=0, max_count=100)
        assert [row.keys for row in rows] == [[KEYS[7]]]


async def test_a_damaged_chunk_is_put_aside_told_and_does_not_hold_up_the_others(tmp_path: Path) -> None:
    async with opened(tmp_path) as (spool, _):
        for event in (b"one", b"two", b"three"):
            await append(spool, event)
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("UPDATE spool SET payload = x'91C40374FF6F' WHERE id = 2")
    connection.close()
    assert SpoolInspection(tmp_path).check().bad == [2]
    told: list[spool_rows.SpoolDamage] = []
    async with opened(tmp_path, damaged=told.append) as (spool, database):
        assert await read_all(spool) == [[b"one"], [b"three"]]
        assert [(damage.first, damage.events) for damage in told] == [(2, 1)]
        assert (spool.chunks, spool.events) == (2, 2)
        await database.commit()
    async with opened(tmp_path) as (spool, _):
        assert [damage.first for damage in spool.damage] == [2]
    inspection = SpoolInspection(tmp_path)
    assert list(inspection.events(damaged=True)) == [bytes.fromhex("91C40374FF6F")]
    assert list(inspection.events(damaged=False)) == [b"one", b"three"]
    assert inspection.forget_damage() == 1
    assert not inspection.check().problems


async def test_rows_that_vanished_are_missed(tmp_path: Path) -> None:
    async with opened(tmp_path) as (spool, _):
        for event in (b"one", b"two", b"three"):
            await append(spool, event)
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.executescript("DROP TRIGGER spool_settled; DELETE FROM spool WHERE id = 2;")
    connection.close()
    assert SpoolInspection(tmp_path).check().problems == ["3 chunks should be there, 2 are"]
    async with opened(tmp_path) as (spool, _):
        assert [(d.events, d.what) for d in spool.damage] == [(1, "1 chunks are no longer in the file")]
        assert await read_all(spool) == [[b"one"], [b"three"]]


async def test_a_lost_end_of_the_log_is_missed_and_its_numbers_are_not_used_again(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    await lost_tail(directory, [b"two", b"three"])
    assert "commits are missing" in SpoolInspection(directory).check().problems[0]
    async with opened(directory) as (spool, database):
        assert "has lost its last" in database.writer.warning
        assert [(d.first, d.last, d.events) for d in spool.damage] == [(2, 3, None)]
        assert (await append(spool, b"four")).start == 4


async def test_a_refused_append_leaves_no_trace(tmp_path: Path) -> None:
    async with opened(tmp_path) as (spool, database):
        await append(spool, b"one")
        database.blocked = StoreBlocked("full", full=True)
        _, on_disk = spool.append([([b"two"], [None])], now=NOW)
        with pytest.raises(StoreBlocked):
            await on_disk
        database.blocked = None
        await append(spool, b"three")
        assert (spool.chunks, spool.events, spool.bytes) == (2, 2, 8)
    async with opened(tmp_path) as (spool, _):
        assert await read_all(spool) == [[b"one"], [b"three"]]
        assert not spool.damage


async def test_a_stock_is_taken_beside_a_running_service(tmp_path: Path) -> None:
    async with opened(tmp_path) as (spool, _):
        await append(spool, b"one", b"two")
        stock = SpoolInspection(tmp_path).stock()
        assert stock.totals[:3] == (1, 2, 6)
        assert stock.oldest_at == NOW


async def test_what_is_committed_during_a_check_is_not_missed(tmp_path: Path) -> None:
    async with opened(tmp_path) as (spool, database):
        for number in range(40):
            await append(spool, random.Random(number).randbytes(200_000))
        during = 0
        while during < 3:  # as nearly always the first time
            before = database.commits
            checking = asyncio.ensure_future(to_thread.run_sync(SpoolInspection(tmp_path).check))
            while not checking.done():
                await database.run(lambda connection: None)
            assert (await checking).problems == []
            during = database.commits - before


def test_to_forget_damage_migrates_no_file(tmp_path: Path) -> None:
    make_old(tmp_path / "state.db", 7).close()
    with pytest.raises(StoreFailed, match="has format 7"):
        SpoolInspection(tmp_path).forget_damage()
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (7,)


@given(
    events=st.lists(st.binary(max_size=50), min_size=1, max_size=20),
    flipped=st.integers(0, 10_000),
    number=st.integers(1, 2**40),
)
def test_any_flipped_bit_in_a_row_is_noticed(events: list[bytes], flipped: int, number: int) -> None:
    row = spool_rows.seal(spool_rows.pack(number, events, [None] * len(events), now=NOW))
    assert spool_rows.unpack(row) == (events, [None] * len(events))
    damaged = bytearray(row.payload)
    damaged[flipped % len(damaged)] ^= 1 << flipped % 8
    assert spool_rows.unpack(row._replace(payload=bytes(damaged))) is None
    assert spool_rows.unpack(row._replace(number=number + 1)) is None


LARGE = [
    b'{"interactionId": "%d", "note": "customer asked for a call back"}' % number for number in range(6000)
]


@given(flipped=st.integers(0, 10_000_000), events=st.lists(st.binary(max_size=2000), max_size=20))
def test_a_large_row_is_compressed_and_any_flipped_bit_in_it_is_noticed(
    flipped: int, events: list[bytes]
) -> None:
    row = spool_rows.seal(spool_rows.pack(7, LARGE + events, [None] * len(LARGE + events), now=NOW))
    assert len(row.payload) < row.size_bytes / 2
    assert spool_rows.unpack(row) == (LARGE + events, [None] * len(LARGE + events))
    damaged = bytearray(row.payload)
    damaged[flipped % len(damaged)] ^= 1 << flipped % 8
    assert spool_rows.unpack(row._replace(payload=bytes(damaged))) is None


@pytest.mark.parametrize("place", [0, 60, 100_000])
def test_what_is_damaged_in_a_compressed_row_costs_its_frame_at_most(place: int) -> None:
    noise = random.Random(1)
    events = [b'{"a":"%s"}' % noise.randbytes(500).hex().encode() for _ in range(1000)]
    row = spool_rows.seal(spool_rows.pack(1, events, [None] * len(events), now=NOW))
    damaged = bytearray(row.payload)
    damaged[place : place + 4] = b"\0\0\0\0"
    assert spool_rows.unpack(row._replace(payload=bytes(damaged))) is None
    left = frames.left_of(bytes(damaged))
    gone = sum(event not in left for event in events)
    assert 0 < gone <= 1 + 128 * 1024 // len(events[0])
    assert frames.left_of(row.payload)[3:].startswith(b"\xc5" + len(events[0]).to_bytes(2) + events[0])


async def test_what_is_left_of_a_damaged_compressed_row_can_be_dumped(tmp_path: Path) -> None:
    async with opened(tmp_path) as (spool, _):
        await spool.append([(LARGE, [None] * len(LARGE))], now=NOW)[1]
    with sqlite3.connect(tmp_path / "state.db") as connection:
        half = "CAST(substr(payload, 1, length(payload) - 4) || x'00000000' AS BLOB)"
        connection.execute(f"UPDATE spool SET payload = {half} WHERE id = 1")
    connection.close()
    async with opened(tmp_path) as (spool, database):
        assert await read_all(spool) == []
        await database.commit()
    (left,) = SpoolInspection(tmp_path).events(damaged=True)
    assert left[3:].startswith(b"\xc4" + bytes([len(LARGE[0])]) + LARGE[0])
    assert LARGE[1000] in left
