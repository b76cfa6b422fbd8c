"""Joins the retry worker and the dead-letter store: leases through the writer's transactions."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

from ingestd.core.clock import Clock
from ingestd.delivery.retry_worker import Letter
from ingestd.store.connection import connect
from ingestd.store.database import Database
from ingestd.store.dead_letters import StoredLetter, lease_due
from ingestd.store.letter_sinks import assign

SinksOf = Callable[[list[bytes]], list[list[str]]]
"""The names of the sinks that each of these events goes to."""

LEASE_S = 10 * 365 * 86400.0
"""A lease ends with its process, see ``release_leases``. The lane keeps letters for as long as an outage
lasts: leased twice meanwhile, they would go out a second time, under another key."""


class LetterDesk:
    """The LetterStore of one sink's retry worker. ``requested_only``: only letters that a person asked for.

    ``sinks_of``: where events go that were rejected before that was known.
    """

    def __init__(
        self,
        database: Database,
        *,
        sink: str,
        sinks_of: SinksOf,
        max_events: int,
        max_bytes: int,
        requested_only: bool,
        several: bool = False,
        clock: Clock,
    ) -> None:
        self._sink = sink
        self._sinks_of = sinks_of
        self._database = database
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._requested_only = requested_only
        self._several = several
        self._clock = clock

    async def lease(self) -> list[Letter]:
        await self.assign()

        def work(connection: sqlite3.Connection) -> list[StoredLetter]:
            return lease_due(
                connection,
                now=self._clock.wall(),
                sink=self._sink,
                lease_s=LEASE_S,
                max_events=self._max_events,
                max_bytes=self._max_bytes,
                requested_only=self._requested_only,
                several=self._several,
            )

        return list[Letter](await self._database.run(work))

    async def assign(self) -> None:
        """All due letters of events that were rejected before routing become letters of their sinks."""
        while await self._database.run(lambda c: assign(c, self._sinks_of, now=self._clock.wall())):
            pass

    async def damaged(self, numbers: list[int]) -> None:
        """A payload that is not what was stored is never sent."""

        def work(connection: sqlite3.Connection) -> None:
            connection.executemany(
                "UPDATE letters SET state = 'waiting', lease = NULL, due = NULL,"
                " detail = 'the stored payload is damaged (checksum); ' || detail WHERE id = ?",
                [(number,) for number in numbers],
            )

        await self._database.run(work)


async def count_letters(path: Path) -> dict[str, int]:
    """Letters by state. Read beside the writer: with a million of them it takes a while."""
    return await asyncio.to_thread(_count, path)


def _count(path: Path) -> dict[str, int]:
    with closing(connect(path, read_only=True)) as connection:
        return dict(connection.execute("SELECT state, count(*) FROM letters GROUP BY state"))
