"""Events on their way to a data lake: kept by the transaction that accepts or settles them; for ``lake/``.

A *load* is a run of rows that become files together. Which rows those are is on disk before the first
file is written, in a row of ``meta``: the rows themselves are written once and never changed.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, TypeVar

import msgspec

from ingestd.core.clock import Clock, SystemClock
from ingestd.core.errors import UserError
from ingestd.store import outbox_rows
from ingestd.store.connection import explain
from ingestd.store.database import Database
from ingestd.store.outbox_rows import LakeLoad, OutboxCursor, OutboxDelivery, OutboxRow

T = TypeVar("T")

WARN_AGAIN_S = 60.0


class OutboxUnreadable(UserError):
    """The outbox cannot be read now; what is written to it is not concerned."""

    exit_code = 1


class OutboxTotals(NamedTuple):
    """Rows that are not in the lake yet: how many, their events and those events' bytes."""

    rows: int
    events: int
    size_bytes: int


class OutboxAddition:
    """A unit of work that adds one row: call it with the connection of the transaction it belongs to.

    ``refused()``: that transaction did not take place.
    """

    __slots__ = ("_events", "_outbox", "_row", "_size_bytes")

    def __init__(self, outbox: "Outbox", row: OutboxRow) -> None:
        self._outbox, self._row = outbox, row
        self._events, self._size_bytes = row.events, row.size_bytes

    def __call__(self, connection: sqlite3.Connection) -> None:
        outbox_rows.insert(connection, self._outbox.sink_name, self._row, above=self._outbox.done)

    def refused(self) -> None:
        self._outbox.count(-1, -self._events, -self._size_bytes)


class Outbox:
    """One lake's rows. Counts are of what has been added and is not in the lake yet.

    ``skipped_events``: not kept, because ``max_bytes`` were waiting already or the disk is full: the caller
    must never wait for the lake. ``damaged_events``: set aside, because their row does not match its
    checksum. ``warn`` is called for both. ``news`` is set when a first row was added, or ``news_bytes`` are
    waiting.
    """

    def __init__(
        self,
        database: Database,
        sink_name: str,
        *,
        max_bytes: int,
        news_bytes: int = 0,
        warn: Callable[[str], None],
        clock: Clock | None = None,
    ) -> None:
        self.sink_name = sink_name
        self.rows = self.events = self.bytes = 0
        self.skipped_events = self.damaged_events = 0
        self.oldest_at: float | None = None
        self.load: LakeLoad | None = None
        self.done = 0
        self.news = asyncio.Event()
        self._news_bytes = news_bytes
        self._database = database
        self._max_bytes = max_bytes
        self._warn = warn
        self._clock: Clock = clock or SystemClock()
        self._warned_at = float("-inf")

    async def open(self) -> None:
        """Read what an earlier process left. Raises StoreFailed, Unreadable."""
        cursor = await self._database.run(partial(outbox_rows.read_cursor, sink=self.sink_name))
        self.done, self.load = cursor.done, cursor.load
        await self._delete_done()
        stock = OutboxTotals(*await self._query(partial(outbox_rows.count, sink=self.sink_name)))
        self.count(*stock)
        await self._look_for_oldest()

    @property
    def stock(self) -> OutboxTotals:
        return OutboxTotals(self.rows, self.events, self.bytes)

    # --- in ---

    def add(
        self, events: Sequence[bytes], *, request_id: str = "", latency_s: float = 0.0, at: float
    ) -> OutboxAddition | None:
        """Events that were accepted, or delivered as ``request_id`` ``at`` a wall time, as a unit of work
        for the transaction that makes them so. None: there is no room, or there are no events."""
        size_bytes = sum(map(len, events))
        if not events:
            return None
        if self.bytes + size_bytes > self._max_bytes:
            self._skip(len(events), f"{self.bytes} bytes wait for it, max_backlog is reached")
            return None
        if self._database.blocked:  # the room that is kept free is for what settles events
            self._skip(len(events), str(self._database.blocked))
            return None
        self.count(1, len(events), size_bytes)
        if self.oldest_at is None:
            self.oldest_at = at
        addition = OutboxAddition(
            self, outbox_rows.pack(events, request_id=request_id, latency_s=latency_s, at=at)
        )
        if self.rows == 1 or self.bytes >= self._news_bytes:
            self.news.set()
        return addition

    def count(self, rows: int, events: int, size_bytes: int) -> None:
        self.rows += rows
        self.events += events
        self.bytes += size_bytes
        if not self.rows:
            self.oldest_at = None

    def _skip(self, count: int, why: str) -> None:
        self.skipped_events += count
        now = self._clock.monotonic()
        if now - self._warned_at >= WARN_AGAIN_S:
            self._warned_at = now
            self._warn(
                f"lake {self.sink_name}: events are delivered, but will be missing there"
                f" ({self.skipped_events} so far): {why}"
            )

    # --- out ---

    async def cut(self, *, max_bytes: int, layout: bytes) -> LakeLoad | None:
        """The load that is under way, or a new one of the oldest rows up to ``max_bytes`` (at least one).

        ``layout`` is kept with it, so that a process with other settings ends it as it was begun. None if
        nothing is on disk yet. Raises StoreFailed, Unreadable.
        """
        if self.load is None:
            await self._database.commit()
            span = await self._query(
                partial(outbox_rows.oldest, sink=self.sink_name, above=self.done, max_bytes=max_bytes)
            )
            if span is None:
                return None
            load = LakeLoad(*span, layout)
            await self._write(OutboxCursor(self.done, load))
            self.load = load
        return self.load

    async def read(self, load: LakeLoad) -> list[OutboxDelivery]:
        """The load's rows, in order. Damaged ones are set aside and reported. Raises as ``cut``."""
        found = await self._query(
            partial(outbox_rows.read, sink=self.sink_name, first=load.first, last=load.last)
        )
        if found.damaged:
            numbers = [damage.number for damage in found.damaged]
            await self._database.run(partial(outbox_rows.put_aside, numbers=numbers))
            for damage in found.damaged:
                self.count(-1, -damage.events, -damage.size_bytes)
                self.damaged_events += damage.events
            self._warn(
                f"lake {self.sink_name}: {sum(d.events for d in found.damaged)} events of its outbox are"
                f" damaged and stay there, in {len(numbers)} rows marked '{outbox_rows.DAMAGED}'"
            )
        return found.rows

    async def finish(self, load: LakeLoad, rows: Sequence[OutboxDelivery]) -> None:
        """The load's files are whole. ``rows``: what was read of it. Raises as ``cut``."""
        await self._write(OutboxCursor(load.last, None))
        self.done, self.load = load.last, None
        self.count(-len(rows), -sum(len(r.events) for r in rows), -sum(r.size_bytes for r in rows))
        self.oldest_at = self._clock.wall() if self.rows else None  # until it is known
        await self._delete_done()
        await self._look_for_oldest()

    async def _write(self, cursor: OutboxCursor) -> None:
        await self._database.run(partial(outbox_rows.write_cursor, sink=self.sink_name, cursor=cursor))

    async def _delete_done(self) -> None:
        """A slice at a time: the writing thread has others to serve."""
        while await self._database.run(
            partial(outbox_rows.delete_slice, sink=self.sink_name, last=self.done)
        ):
            pass

    async def _look_for_oldest(self) -> None:
        at = await self._query(partial(outbox_rows.oldest_at, sink=self.sink_name, above=self.done))
        if at is None and self.rows:
            at = self._clock.wall()  # added, but not yet on disk
        self.oldest_at = at

    async def _query(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """On a thread and a connection that only read: the writing thread is not held up by large reads."""

        def read() -> T:
            try:
                return self._database.reads.read(query)
            except (sqlite3.Error, msgspec.MsgspecError) as error:
                raise OutboxUnreadable(str(explain(error, self._database.path))) from None

        return await asyncio.to_thread(read)
