"""What every table of the state file owes its readers. A new one joins ``STORES``.

A crash is a copy of the files, made within a transaction or after it: what is found after a ``kill -9``
(tests/process/store has real ones; a power cut is in tests/integration/store/test_power_cut.py).
"""

import asyncio
import shutil
import sqlite3
import threading
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from importlib import resources
from pathlib import Path
from typing import Any, ClassVar

import pytest

from ingestd.core.chunk import Batch, Chunk, Keeper, Segment
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.store import dead_letters, letter_changes
from ingestd.store.confirmations import Confirmations, Pending, insert_confirmations
from ingestd.store.connection import FILE_NAME, MARK_NAME, VERSION
from ingestd.store.database import Database
from ingestd.store.journal import Journal
from ingestd.store.key_log import KeyLog
from ingestd.store.outbox import Outbox
from ingestd.store.outbox_rows import LakeLoad
from ingestd.store.spool import Spool
from tests.each import each
from tests.ids import new_id
from tests.machine import patience

pytestmark = pytest.mark.anyio

NOW = 1_800_000_000.0
DAMAGES = ("X'7B'", "CAST('{}' AS TEXT)", "CAST(X'C3FF' AS TEXT)")
"""In the place of a BLOB: other bytes; a TEXT, as of one flipped bit; one that is not UTF-8."""


def payload(number: int) -> bytes:
    return b'{"n":%d,"\xff\x00":1}' % number


def key(number: int) -> bytes:
    return b"%016d" % number


class Store(ABC):
    """One table. ``note(n)``: item n, not yet committed. ``end(n)``: its row may go.
    ``found()``: (number, content) of what a process has before it; content None: it is said to be damaged."""

    table: ClassVar[str]
    since: ClassVar[int]
    damaged: ClassVar[str]
    """The column that is damaged."""
    written: ClassVar[tuple[str, ...]] = ()
    """The tables of the rows, where ``table`` is a view of them."""

    def __init__(self, database: Database) -> None:
        self.database = database
        self.journal = Journal(database)

    async def open(self) -> None:  # noqa: B027 - most tables need neither
        ...

    async def close(self) -> None:  # noqa: B027
        ...

    @abstractmethod
    def note(self, number: int) -> None: ...

    @abstractmethod
    async def end(self, number: int) -> None: ...

    @abstractmethod
    async def found(self) -> list[tuple[int, Any]]: ...

    @staticmethod
    def content(number: int) -> Any:
        return payload(number)


class SpoolStore(Store):
    table, since, damaged = "spool", 2, "payload"

    async def open(self) -> None:
        self.spool = Spool(self.database)
        await self.spool.open(now=NOW)
        self.journal = Journal(self.database, self.spool)

    async def close(self) -> None:
        await self.spool.close()

    def note(self, number: int) -> None:
        assert self.spool.end == number, "in order"
        self.spool.append([([payload(number)], [key(number)])], now=NOW)

    async def end(self, number: int) -> None:
        [chunk] = [chunk for chunk in await self._chunks() if chunk.start == number]
        self.spool.open_chunk("ingest_api", chunk, lambda events: {})
        chunk.receipt.settle(1)

    async def found(self) -> list[tuple[int, Any]]:
        chunks = await self._chunks()
        whole = [(chunk.start, (chunk.events, chunk.digests)) for chunk in chunks]
        return sorted([*whole, *((damage.first, None) for damage in self.spool.damage)])

    async def _chunks(self) -> list[Chunk]:
        chunks, following = await self.spool.read(first=1, before=self.spool.end, limit=100)
        assert following == self.spool.end
        return chunks

    @staticmethod
    def content(number: int) -> Any:
        return [payload(number)], [key(number)]


class Positions(Store):
    """The end of a source is that it is read from its start again."""

    table, since, damaged = "sources", 1, "head"

    async def found(self) -> list[tuple[int, Any]]:
        rows = await self.database.run(
            lambda c: c.execute("SELECT id, CAST(path AS BLOB) FROM sources WHERE position > 0").fetchall()
        )
        found = []
        for at, path in rows:
            number = int(path)
            state = await self._find(number)
            known = (state.position, state.line) == (100 + number, number)
            found.append((number, "read so far" if known and state.number == at else None))
        return sorted(found)

    async def _find(self, number: int, *, from_start: bool = False) -> Any:
        return await self.journal.find_file(
            str(number),
            identity=(5, number),
            fingerprints=lambda start, length: (key(number), min(length, 16)),
            size=1000,
            from_start=from_start,
            now=NOW,
        )

    def note(self, number: int) -> None:
        def add(connection: sqlite3.Connection) -> None:
            connection.execute(
                "INSERT INTO sources (id, path, device, inode, head, head_bytes, updated)"
                " VALUES (?1, ?1, 5, ?1, ?2, 16, 0)",
                (number, key(number)),
            )

        self.database.note(add)
        self.journal.moved(number, 100 + number, number)
        self.journal._note_positions()

    async def end(self, number: int) -> None:
        await self._find(number, from_start=True)

    @staticmethod
    def content(number: int) -> Any:
        return "read so far"


class Batches(Store):
    table, since, damaged = "batches", 1, "segments"

    def batch(self, number: int) -> Batch:
        chunk = Chunk([payload(number)], source=9, start=number, end=number + 1, keeper=Keeper.JOURNAL)
        batch = Batch(chunk.events, [None], [Segment(chunk, range(1))], batch_id=f"{number}", new_id=new_id)
        batch.freeze(payload(number))
        return batch

    def note(self, number: int) -> None:
        self.journal.freeze(self.batch(number), sink="ingest_api", now=NOW + number)

    async def end(self, number: int) -> None:
        self.journal.drop([str(number)])

    async def found(self) -> list[tuple[int, Any]]:
        batches = await self.journal.frozen_batches()
        told = [(batch.kept, batch.sink, batch.settled) if batch.segments else None for batch in batches]
        return [(int(batch.id), content) for batch, content in zip(batches, told, strict=True)]

    @staticmethod
    def content(number: int) -> Any:
        return [payload(number)], "ingest_api", False


class Keys(Store):
    """The end of a key is that it is free again."""

    table, since, damaged = "window", 1, "digests"

    def note(self, number: int) -> None:
        self.journal.safe([key(number)], [], now=NOW + number)

    async def end(self, number: int) -> None:
        KeyLog(self.database).released([key(number)], now=NOW + 100)

    async def found(self) -> list[tuple[int, Any]]:
        rows = await KeyLog(self.database).read(not_before=NOW, max_count=1000)
        freed = {one for row in rows if row.released for one in row.keys}
        known = [(int(row.at - NOW), row.keys) for row in rows if not row.released]
        return [(at, keys[0] if keys else None) for at, keys in known if not freed & set(keys)]

    @staticmethod
    def content(number: int) -> Any:
        return key(number)


class Letters(Store):
    table, since, damaged = "letters", 1, "payload"
    written = ("single_letters", "sealed_letters")

    def note(self, number: int) -> None:
        letter = DeadLetter(
            payload(number), Reason.REFUSED, "400", 1, number, 1, sink="ingest_api", batch="b"
        )
        self.journal.dead_letters([letter], now=NOW)

    async def end(self, number: int) -> None:
        self.database.note(lambda c: letter_changes.purge(c, [number]))

    async def found(self) -> list[tuple[int, Any]]:
        rows = await self.database.run(lambda c: dead_letters.select(c, "1 ORDER BY id", []))
        assert all(row.sink == "ingest_api" for row in rows)
        return [(row.offset, row.payload if row.intact else None) for row in rows]


class Unconfirmed(Store):
    table, since, damaged = "confirmations", 3, "payload"

    async def open(self) -> None:
        self.store = Confirmations(self.database, "events")

    def note(self, number: int) -> None:
        row = Pending("events", f"evt-{number}", "b", 3, number, 1, key(number), 2, payload(number))
        self.database.note(lambda c: insert_confirmations(c, [row], NOW))

    async def end(self, number: int) -> None:
        self.store.settle([number])

    async def found(self) -> list[tuple[int, Any]]:
        page, _ = await self.store.due(now=NOW + 1, limit=100)
        rows = [await self.store.read(due.id) for due in page]
        assert [due.remote_id for due in page] == [f"evt-{row.offset}" for row in rows if row]
        return [(row.offset, row.payload if row.intact else None) for row in rows if row]


class LakeOutbox(Store):
    """Its events go from the oldest on."""

    table, since, damaged = "outbox", 3, "payload"

    async def open(self) -> None:
        self.said: list[str] = []
        self.outbox = Outbox(self.database, "lake", max_bytes=10**6, warn=self.said.append)
        await self.outbox.open()

    def note(self, number: int) -> None:
        addition = self.outbox.add([payload(number)], request_id=f"r-{number}", latency_s=0.5, at=NOW)
        assert addition
        self.database.note(addition)

    async def end(self, number: int) -> None:
        load = await self.outbox.cut(max_bytes=1, layout=b"")
        assert load
        await self.outbox.finish(load, await self.outbox.read(load))

    async def found(self) -> list[tuple[int, Any]]:
        await self.database.commit()
        rows = await self.outbox.read(LakeLoad(self.outbox.done + 1, 1000, b""))
        damaged = self.database.run(
            lambda c: c.execute("SELECT id FROM outbox WHERE file IS NOT NULL").fetchall()
        )
        whole = [(row.number, row.events[0]) for row in rows]
        assert [row.request_id for row in rows] == [f"r-{row.number}" for row in rows]
        return sorted([*whole, *((number, None) for (number,) in await damaged)])


STORES: Sequence[type[Store]] = (
    SpoolStore, Positions, Batches, Keys, Letters, Unconfirmed, LakeOutbox,
)  # fmt: skip

every_store = pytest.mark.parametrize("kind", STORES, ids=lambda kind: kind.table)


@asynccontextmanager
async def opened(kind: type[Store], directory: Path) -> AsyncIterator[Store]:
    database = Database(directory)
    await database.open()
    store = kind(database)
    await store.open()
    try:
        yield store
        await store.journal.commit()
    finally:
        await store.close()
        await database.close()


def crash(directory: Path, to: Path) -> None:
    """What is on the disk now, as another process finds it."""
    to.mkdir()
    for name in (FILE_NAME, f"{FILE_NAME}-wal", MARK_NAME):
        shutil.copy(directory / name, to / name)


async def committed(store: Store) -> None:
    await store.journal.commit()
    await store.database.append(None)


async def note_and_crash(store: Store, directory: Path, name: str, *numbers: int) -> None:
    """Note these, and crash before the end of their transaction and after it."""
    gate = threading.Event()
    store.database.note(lambda connection: gate.wait(patience(30)))
    before = store.database.groups
    waiting = asyncio.create_task(store.database.commit())
    while store.database.groups == before:  # noqa: ASYNC110 - a group that begins has no event to wait for
        await asyncio.sleep(0)
    # the writer is busy: what comes now is one transaction
    for number in numbers:
        store.note(number)
    last = store.database.append(lambda connection: crash(directory, directory / f"before {name}"))
    gate.set()
    await waiting
    await last
    await committed(store)
    crash(directory, directory / f"after {name}")


async def contents(kind: type[Store], directory: Path) -> list[tuple[int, Any]]:
    async with opened(kind, directory) as store:
        assert store.database.writer.warning == ""
        return await store.found()


def whole(kind: type[Store], *numbers: int) -> list[tuple[int, Any]]:
    return [(number, kind.content(number)) for number in numbers]


@every_store
async def test_what_was_committed_is_there_after_a_crash_and_nothing_else_is(
    tmp_path: Path, kind: type[Store]
) -> None:
    assert await contents(kind, tmp_path) == []
    async with opened(kind, tmp_path) as store:
        await note_and_crash(store, tmp_path, "first", 1, 2)
        await note_and_crash(store, tmp_path, "second", 3, 4)
    for name, numbers in (("before first", ()), ("after first", (1, 2)), ("after second", (1, 2, 3, 4))):
        assert await contents(kind, tmp_path / name) == whole(kind, *numbers), name
    async with opened(kind, tmp_path / "before second") as store:
        assert await store.found() == whole(kind, 1, 2)
        store.note(3)
    assert await contents(kind, tmp_path / "before second") == whole(kind, 1, 2, 3)
    assert await contents(kind, tmp_path) == whole(kind, 1, 2, 3, 4)


@every_store
async def test_what_has_had_its_end_does_not_come_back_and_its_number_is_not_used_again(
    tmp_path: Path, kind: type[Store]
) -> None:
    async with opened(kind, tmp_path) as store:
        for number in (1, 2, 3):
            store.note(number)
        await committed(store)
        crash(tmp_path, tmp_path / "before")
        await store.end(1)
        await committed(store)
        crash(tmp_path, tmp_path / "after")
    assert await contents(kind, tmp_path / "before") == whole(kind, 1, 2, 3)
    async with opened(kind, tmp_path / "after") as store:
        assert await store.found() == whole(kind, 2, 3)
        store.note(4)
    assert await contents(kind, tmp_path / "after") == whole(kind, 2, 3, 4)


@every_store
@each("damage", DAMAGES)
async def test_a_damaged_row_costs_itself(tmp_path: Path, kind: type[Store], damage: str) -> None:
    async with opened(kind, tmp_path) as store:
        for number in (1, 2, 3):
            store.note(number)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        for table in kind.written or (kind.table,):
            connection.execute(f"UPDATE {table} SET {kind.damaged} = {damage} WHERE id = 2")
    for _ in range(2):
        assert await contents(kind, tmp_path) == [*whole(kind, 1), (2, None), *whole(kind, 3)]


def make_older(current: Path, version: int, path: Path) -> None:
    """The rows of a file of today in one of an older format, as far as it had columns for them."""
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        for number in range(1, version + 1):
            old.executescript(resources.files("ingestd.store").joinpath(f"schema_{number}.sql").read_text())
        old.execute(f"PRAGMA user_version = {version}")
        old.execute("ATTACH ? AS today", (str(current),))
        for table in ("sources", "batches", "window", "letters", "spool", "confirmations", "outbox"):
            columns = {row[1] for row in old.execute(f"PRAGMA main.table_info({table})")}
            named = {"unanswered": "ambiguous"}
            if columns:
                theirs = ", ".join(named.get(column, column) for column in columns)
                old.execute(f"INSERT INTO {table} ({', '.join(columns)}) SELECT {theirs} FROM today.{table}")


@every_store
@each("version", range(1, VERSION))
async def test_a_file_of_an_older_format_keeps_what_it_has(
    tmp_path: Path, kind: type[Store], version: int
) -> None:
    has = whole(kind, 1, 2) if version >= kind.since else []
    async with opened(kind, tmp_path) as store:
        for number, _ in has:
            store.note(number)
    (tmp_path / "old").mkdir()
    make_older(tmp_path / FILE_NAME, version, tmp_path / "old" / FILE_NAME)
    async with opened(kind, tmp_path / "old") as store:
        assert await store.found() == has
        store.note(len(has) + 1)
    assert await contents(kind, tmp_path / "old") == [*has, *whole(kind, len(has) + 1)]
    with closing(sqlite3.connect(tmp_path / "old" / FILE_NAME)) as now:
        assert now.execute("PRAGMA user_version").fetchone() == (VERSION,)
