"""A patient database: a full disk and a foreign lock are states that pass, not the end."""

import os
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from ingestd.store.connection import StoreBlocked, StoreFailed
from ingestd.store.database import Database
from tests.integration.store.tmpfs import fill, small_disk, until_unblocked

pytestmark = pytest.mark.anyio

BALLAST = 1024 * 1024


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Path]:
    """Four MiB, and a patient database's directory."""
    with small_disk(tmp_path / "disk", megabytes=4) as directory:
        yield directory


async def opened(directory: Path, **told: Any) -> Database:
    database = Database(directory, patient=True, ballast_bytes=BALLAST, **told)
    await database.open()
    return database


def insert(connection: sqlite3.Connection, name: str, size: int = 10) -> None:
    connection.execute("INSERT INTO meta VALUES (?, ?)", (name, bytes(size)))


async def value_of(database: Database, name: str) -> bytes | None:
    row = await database.run(lambda c: c.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone())
    return row[0] if row else None


async def test_on_a_full_disk_appends_are_refused_and_notes_are_kept_with_the_ballasts_room(
    disk: Path,
) -> None:
    told: list[str] = []
    database = await opened(disk, on_block=told.append)
    filler = fill(disk)
    database.note(lambda c: insert(c, "note", 200_000))
    refused = database.append(lambda c: insert(c, "append", 200_000))
    with pytest.raises(StoreBlocked, match="is full") as error:
        await refused
    assert error.value.full
    assert not (disk / "ballast").exists()
    await database.commit()
    assert await value_of(database, "note") is not None
    assert await value_of(database, "append") is None
    with pytest.raises(StoreBlocked):
        await database.append(lambda c: insert(c, "later"))
    filler.unlink()
    await until_unblocked(database)
    assert (disk / "ballast").stat().st_size == BALLAST
    await database.append(lambda c: insert(c, "again"))
    assert await value_of(database, "again") is not None
    await database.close()
    assert [why.partition(" is full")[0] for why in told] == [f"the disk under {disk}"]


async def test_a_start_on_a_full_disk_works_and_says_so(disk: Path) -> None:
    await (await opened(disk)).close()
    filler, told = fill(disk), list[str]()
    database = await opened(disk, on_block=told.append)
    assert database.blocked
    assert [why.partition(" is full")[0] for why in told] == [f"the disk under {disk}"]
    assert await value_of(database, "commits") is not None
    filler.unlink()
    await until_unblocked(database)
    await database.close()


async def test_a_lock_of_another_program_is_waited_for(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    other = sqlite3.connect(tmp_path / "state.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    database.note(lambda c: insert(c, "note"))
    refused = database.append(lambda c: insert(c, "append"))
    with pytest.raises(StoreBlocked, match="locked by another program") as error:
        await refused
    assert not error.value.full
    other.execute("ROLLBACK")
    other.close()
    await database.commit()
    assert await value_of(database, "note") is not None
    await until_unblocked(database)
    await database.append(lambda c: insert(c, "append"))
    await database.close()


async def test_a_failure_that_does_not_pass_ends_it(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    os.unlink(tmp_path / "state.db")
    with pytest.raises(StoreFailed):
        await database.append(lambda c: insert(c, "gone"))
    with pytest.raises(StoreFailed):
        await database.append(lambda c: insert(c, "gone too"))
    await database.close()


async def test_an_append_of_nothing_waits_for_those_before_it(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    first = database.append(lambda c: insert(c, "one"))
    second = database.append(lambda c: insert(c, "two"))
    nothing = database.append(None)
    assert not nothing.done()
    await nothing
    assert first.done()
    assert second.done()
    assert await database.append(None) is None
    await database.close()


async def test_the_high_water_is_kept_outside_and_only_of_what_was_committed(tmp_path: Path) -> None:
    database = await opened(tmp_path)

    def raise_it(connection: sqlite3.Connection) -> None:
        database.writer.high_water = 7

    def fail(connection: sqlite3.Connection) -> None:
        database.writer.high_water = 9
        raise sqlite3.OperationalError("it cannot be done")

    await database.append(raise_it)
    with pytest.raises(StoreFailed):
        await database.append(fail)
    await database.close()
    database = await opened(tmp_path)
    assert database.writer.high_water == 7
    await database.close()
