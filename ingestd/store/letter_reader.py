"""The dead-letter store, as it is read: through aiosqlite, beside the writer. For the ``dlq`` commands."""

import sqlite3
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import aiosqlite

from ingestd.store.connection import FILE_NAME, VERSION, connect, read_only_uri
from ingestd.store.dead_letters import COLUMNS, Filter, StoredLetter
from ingestd.store.lock import DirectoryLock


class LetterReader:
    """Reads of the store beside its writer; sees what is committed."""

    def __init__(self, connection: aiosqlite.Connection) -> None:
        self._connection = connection

    @staticmethod
    @asynccontextmanager
    async def open(directory: Path) -> "AsyncIterator[LetterReader]":
        """Raises sqlite3.OperationalError when there is no store; UserError when it is of another format."""
        if not (directory / FILE_NAME).is_file():  # a failed connect leaves aiosqlite's thread to itself
            raise sqlite3.OperationalError("unable to open database file")
        _migrate(directory)
        async with aiosqlite.connect(read_only_uri(directory / FILE_NAME), uri=True) as connection:
            yield LetterReader(connection)

    async def letters(
        self, where: Filter, now: float, *, limit: int = -1
    ) -> AsyncGenerator[StoredLetter, None]:
        """Newest last. Who does not read to the end closes it."""
        condition, values = where.sql(now)
        query = f"SELECT {COLUMNS} FROM letters WHERE {condition} ORDER BY id LIMIT ?"  # noqa: S608
        async with self._connection.execute(query, [*values, limit]) as cursor:
            while rows := await cursor.fetchmany(200):
                for row in rows:
                    yield StoredLetter(*row)

    async def groups(self, where: Filter, now: float) -> list[tuple[str, int, float, float, int]]:
        """(fingerprint, count, first failure, last failure, an id), the most frequent first."""
        condition, values = where.sql(now)
        query = (
            "SELECT fingerprint, count(*), min(first_failed), max(last_failed), min(id) FROM letters"  # noqa: S608
            f" WHERE {condition} GROUP BY fingerprint ORDER BY 2 DESC"
        )
        async with self._connection.execute(query, values) as cursor:
            return [(row[0], row[1], row[2], row[3], row[4]) for row in await cursor.fetchall()]

    async def sources(self) -> dict[int, str]:
        async with self._connection.execute("SELECT id, path FROM sources") as cursor:
            return {row[0]: row[1] for row in await cursor.fetchall()}

    async def setting(self, name: str) -> str | None:
        async with self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)) as cursor:
            row = await cursor.fetchone()
            return None if row is None else str(row[0])


def _migrate(directory: Path) -> None:
    """A file of an older ingestd becomes one of this one, if nobody uses it. Raises UserError."""
    path = directory / FILE_NAME
    with closing(sqlite3.connect(read_only_uri(path), uri=True)) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
            return
    lock = DirectoryLock(directory)
    try:
        connect(path).close()
    finally:
        lock.release()
