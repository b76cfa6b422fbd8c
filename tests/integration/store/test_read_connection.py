"""The connection that is kept for reads, beside the one that writes."""

import sqlite3
from pathlib import Path

import pytest

from ingestd.store.database import Database

pytestmark = pytest.mark.anyio


def itself(connection: sqlite3.Connection) -> sqlite3.Connection:
    return connection


async def test_it_is_kept_until_the_database_is_closed(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open()
    kept = database.reads.read(itself)
    assert database.reads.read(itself) is kept
    await database.close()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        kept.execute("SELECT 1")


async def test_who_reads_beside_another_or_in_a_pause_has_one_for_that_time(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open()
    reads = database.reads

    def read_beside(connection: sqlite3.Connection) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        return connection, reads.read(itself)

    first, second = reads.read(read_beside)
    assert first is not second
    kept = reads.read(itself)
    assert kept is second
    await database.readers.pause()
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        kept.execute("SELECT 1")
    assert reads.read(itself) is not reads.read(itself)
    database.readers.resume()
    assert reads.read(itself) is reads.read(itself)
    await database.close()


async def test_one_that_failed_is_not_used_again(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open()
    reads = database.reads
    kept = reads.read(itself)
    with pytest.raises(sqlite3.OperationalError, match="syntax error"):
        reads.rows("SELECT FROM")
    assert reads.read(itself) is not kept
    await database.close()
