"""Joins the retry worker and the dead-letter store: leases through the writer's transactions."""

import asyncio
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path

from ingestd.core.clock import Clock
from ingestd.store.connection import connect
from ingestd.store.database import Database
from ingestd.store.dead_letters import StoredLetter, count
from ingestd.store.letter_leases import lease_due
from ingestd.store.letter_sinks import assign

SinksOf = Callable[[list[bytes]], list[list[str]]]
"""The names of the sinks that each of these events goes to."""


class LetterQueue:
    """The LetterStore of one sink's retry worker. ``requested_only``: only letters that a person asked for.

    ``sinks_of``: where events go that were rejected before that was known. A lease ends with its process, see
    ``release_leases``. The lane keeps letters for as long as an outage lasts: leased twice meanwhile, they
    would go out a second time, under another key. ``warn`` and ``on_aside`` hear of those that wait for a
    person now.
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
        warn: Callable[[str], None] = lambda message: None,
        on_aside: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._sink = sink
        self._sinks_of = sinks_of
        self._database = database
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._requested_only = requested_only
        self._several = several
        self._clock = clock
        self._warn = warn
        self._on_aside = on_aside

    async def lease(self) -> Sequence[StoredLetter]:
        await self.assign()
        aside = 0
        while True:
            lease = await self._database.run(
                lambda c: lease_due(
                    c,
                    now=self._clock.wall(),
                    sink=self._sink,
                    max_events=self._max_events,
                    max_bytes=self._max_bytes,
                    requested_only=self._requested_only,
                    several=self._several,
                )
            )
            aside += lease.aside
            if lease.letters or not lease.aside:
                break
        if aside:
            self._on_aside(aside)
            self._warn(f"{self._sink}: {aside} dead letters wait for a person now: see `ingestd dlq list`")
        return lease.letters

    async def assign(self) -> None:
        """All due letters of events that were rejected before routing become letters of their sinks."""
        while await self._database.run(lambda c: assign(c, self._sinks_of, now=self._clock.wall())):
            pass


async def count_letters(path: Path) -> dict[str, int]:
    """Letters by state. Read beside the writer."""
    return await asyncio.to_thread(_count, path)


def _count(path: Path) -> dict[str, int]:
    with closing(connect(path, read_only=True)) as connection:
        return count(connection)
