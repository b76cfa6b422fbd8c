"""The connection that reads the spool, beside the one that writes it."""

import asyncio
import sqlite3

import aiosqlite

from ingestd.store import spool_rows
from ingestd.store.connection import explain, read_only_uri
from ingestd.store.database import Database


class SpoolReader:
    """Opened when something is to be read; closed and opened anew when the database has to be."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: aiosqlite.Connection | None = None
        self._reading = asyncio.Lock()
        self._paused = False
        database.readers.append(self)

    async def read(self, first: int, before: int, limit: int) -> list[spool_rows.SpoolRow]:
        """Rows ``first`` to ``before``, at most ``limit``. Raises StoreFailed."""
        path = self._database.path
        try:
            async with self._reading:
                if self._connection is None:
                    self._connection = await aiosqlite.connect(
                        read_only_uri(path), uri=True, isolation_level=None
                    )
                async with self._connection.execute(spool_rows.SELECT, (first, before, limit)) as cursor:
                    return [spool_rows.SpoolRow._make(row) for row in await cursor.fetchall()]
        except sqlite3.Error as error:
            raise explain(error, path) from None

    async def close(self) -> None:
        self._database.readers.remove(self)
        async with self._reading:
            await self._let_go()

    async def pause(self) -> None:
        """See ``database.Reader``."""
        await self._reading.acquire()
        self._paused = True
        await self._let_go()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._reading.release()

    async def _let_go(self) -> None:
        connection, self._connection = self._connection, None
        if connection:
            await connection.close()
