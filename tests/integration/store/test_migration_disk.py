"""A state file of an older format on a full disk: it stays as it was, and is migrated once there is room."""

import os
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from ingestd.store.connection import FILE_NAME, PRAGMAS, VERSION, StoreFailed
from ingestd.store.database import Database
from tests.each import each
from tests.integration.store.test_migration import make_old
from tests.integration.store.tmpfs import fill, small_disk

pytestmark = pytest.mark.anyio

LETTERS = 1_200


@cache
def old_store(version: int) -> bytes:
    """The file, with letters, which migrations rewrite: the log of that takes room."""
    with TemporaryDirectory() as directory:
        path = Path(directory) / FILE_NAME
        write_old_store(path, version)
        return path.read_bytes()


def write_old_store(path: Path, version: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as begun:
        begun.executescript(PRAGMAS)
    names = "state, reason, detail, fingerprint, payload, checksum, source, offset, line, batch, batch_index,"
    names += " batch_size, attempts, first_sent, first_failed, last_failed"
    names += ", ambiguous" if version >= 4 else ", unanswered"
    with closing(make_old(path, version)) as old:
        old.execute("BEGIN")
        old.executemany(
            f"INSERT INTO letters ({names}) "
            " VALUES ('waiting', 'unfit', '', 'unfit: no', ?, 1, 1, ?, 1, '', 0, 1, 1, 5, 5, 5, 0)",
            [(b"x" * 300, n) for n in range(LETTERS)],
        )
        old.execute("COMMIT")
        old.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def content(path: Path) -> dict[str, list[Any]]:
    """The version, how all tables and indices are made, and the rows of each table."""
    with closing(sqlite3.connect(path)) as connection:
        made = connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()
        tables = [name for kind, name, _ in made if kind == "table"]
        found = {name: connection.execute(f'SELECT * FROM "{name}"').fetchall() for name in tables}
        return found | {"": [version_of(connection), *made]}


def version_of(connection: sqlite3.Connection) -> Any:
    return connection.execute("PRAGMA user_version").fetchone()


def letters(path: Path) -> Any:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("SELECT count(*), sum(length(payload)) FROM letters").fetchone()


@each("version", range(1, VERSION))
@each("room", [0, 96 * 1024, 300 * 1024])
async def test_a_migration_without_room_is_told_leaves_all_as_it_was_and_is_made_when_there_is_room(
    tmp_path: Path, version: int, room: int
) -> None:
    with small_disk(tmp_path / "disk", megabytes=16) as disk:
        path = disk / FILE_NAME
        path.write_bytes(old_store(version))
        before = content(path)
        filler = fill(disk)
        os.truncate(filler, filler.stat().st_size - room)
        database = Database(disk, patient=True)
        try:
            await database.open()
        except StoreFailed as error:
            assert f"the disk under {disk} is full: free some space and start again" in str(error)  # noqa: PT017
            await database.close()
            filler.unlink()
            assert content(path) == before
            await database.open()
        else:
            assert room, "there was none"
            assert version > 3, "these write every letter"
        await database.close()
        assert letters(path) == (LETTERS, LETTERS * 300)
        assert content(path)[""][0] == (VERSION,)
