"""The connection that reads the spool, beside the one that writes it."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from ingestd.store import spool_rows
from ingestd.store.connection import StoreDamaged, ask_for_check, explain, read_only_uri, text_of
from ingestd.store.database import Database

T = TypeVar("T")


class SpoolReader:
    """Opened when something is to be read; closed and opened again when the database is."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._connection: sqlite3.Connection | None = None
        self._lock = asyncio.Lock()
        self._paused = False
        self._fetching: asyncio.Future[Any] | None = None
        database.readers.append(self)

    async def read(self, first: int, before: int, limit: int) -> list[spool_rows.SpoolRow]:
        """Rows ``first`` to ``before``, at most ``limit``. Raises StoreFailed."""

        def fetch(connection: sqlite3.Connection) -> list[spool_rows.SpoolRow]:
            return list(
                map(spool_rows.SpoolRow._make, connection.execute(spool_rows.SELECT, (first, before, limit)))
            )

        return await self.run(fetch)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """What ``work``, on a thread, reads of it to the end. Raises StoreFailed."""

        def fetch() -> T:
            if self._connection is None:
                self._connection = sqlite3.connect(
                    read_only_uri(self._database.path),
                    uri=True,
                    isolation_level=None,
                    check_same_thread=False,  # it is one at a time that has it
                )
                self._connection.text_factory = text_of
            return work(self._connection)

        try:
            async with self._lock:
                await self._idle()
                fetching = self._fetching = asyncio.get_running_loop().run_in_executor(None, fetch)
                return await asyncio.shield(fetching)
        except sqlite3.Error as error:
            found = explain(error, self._database.path)
            if isinstance(found, StoreDamaged):
                ask_for_check(self._database.path)
            raise found from None

    async def close(self) -> None:
        self._database.readers.remove(self)
        async with self._lock:
            await self._let_go()

    async def pause(self) -> None:
        """See ``database.Reader``."""
        await self._lock.acquire()
        self._paused = True
        await self._let_go()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._lock.release()

    async def _idle(self) -> None:
        """A cancelled read may still use the connection."""
        if self._fetching:
            await asyncio.wait([self._fetching])
            if not self._fetching.cancelled():
                self._fetching.exception()

    async def _let_go(self) -> None:
        await self._idle()
        connection, self._connection = self._connection, None
        if connection:
            connection.close()
