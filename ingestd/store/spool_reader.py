"""Reads of the spool, beside the connection that writes it."""

import asyncio
import sqlite3
from collections.abc import Callable
from typing import Any, TypeVar

from ingestd.store import spool_rows
from ingestd.store.connection import StoreDamaged, ask_for_check, explain
from ingestd.store.database import Database

T = TypeVar("T")


class SpoolReader:
    """One read at a time; none while the database is opened again."""

    def __init__(self, database: Database) -> None:
        self._database = database
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

        try:
            async with self._lock:
                await self._idle()
                loop = asyncio.get_running_loop()
                fetching = self._fetching = loop.run_in_executor(None, self._database.reads.read, work)
                return await asyncio.shield(fetching)
        except sqlite3.Error as error:
            found = explain(error, self._database.path)
            if isinstance(found, StoreDamaged):
                ask_for_check(self._database.path)
            raise found from None

    async def close(self) -> None:
        self._database.readers.remove(self)
        async with self._lock:
            await self._idle()

    async def pause(self) -> None:
        """See ``database.Reader``."""
        await self._lock.acquire()
        self._paused = True
        await self._idle()

    def resume(self) -> None:
        if self._paused:
            self._paused = False
            self._lock.release()

    async def _idle(self) -> None:
        """A cancelled read may still use its connection."""
        if self._fetching:
            await asyncio.wait([self._fetching])
            if not self._fetching.cancelled():
                self._fetching.exception()
