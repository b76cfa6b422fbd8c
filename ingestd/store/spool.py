"""The spool: what producers were told is taken over, on disk until it has had its end.

``admission.py`` appends, ``spool_feed.py`` reads and settles. One row is a chunk of events. Totals kept
by triggers, and a high-water number outside of the database, tell when rows are missing; a CRC tells
when one is damaged.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from ingestd.core.chunk import Chunk
from ingestd.core.receipt import FanOutReceipt, Receipt, Routed
from ingestd.store import spool_rows
from ingestd.store.database import Database
from ingestd.store.spool_reader import SpoolCursor, SpoolReader
from ingestd.store.spool_rows import SpoolDamage
from ingestd.store.writer import Work

Settled = Callable[[int, int, FanOutReceipt | None], None]
"""(number of the chunk, how many of its events became dead letters, their fate where several sinks are)."""
Adopt = Callable[[FanOutReceipt, Chunk], None]
"""A chunk is taken up: what an earlier process knew of its events."""
Found = Callable[[SpoolDamage], None]

MAX_CHUNK_BYTES = 256 * 1024
"""Of events in a chunk; a larger event is a chunk of its own."""

READ_CHUNKS = 16
"""Chunks that are read at once."""

_PLACE_BITS = 20


class SpooledChunk(NamedTuple):
    """``digests`` run parallel to the chunk's events; None: no key. ``accepted_at``: wall time."""

    chunk: Chunk
    digests: list[bytes | None]
    accepted_at: float


class _Opened(NamedTuple):
    """``receipt``: of the events; of the last sink that took the chunk up, where there are several, and then
    ``fate`` is there."""

    events: int
    size_bytes: int
    accepted_at: float
    receipt: Receipt
    fate: FanOutReceipt | None


class Spool:
    """``source``: the spool's number among the sources. Counts are of chunks that are not settled.

    A chunk is settled when every one of ``sinks`` has had it; where there are several, each has a cursor.
    """

    def __init__(self, database: Database, source: int, *, sinks: Sequence[str] = ("ingest_api",)) -> None:
        self.source = source
        self.chunks = self.events = self.bytes = 0
        self.settled_bytes = 0  # since the start; tells how fast the spool empties
        self.damage: list[SpoolDamage] = []
        self.on_settled: Settled = lambda number, buried, fate: None
        self.on_taken_up: Adopt = lambda fate, chunk: None
        self.on_damage: Found = lambda damage: None
        self.on_fate: Callable[[FanOutReceipt], None] = lambda fate: None
        self.cursors = {sink: SpoolCursor() for sink in sinks}
        self.left_behind: dict[str, int] = {}  # sinks that are not there any more: chunks they had not had
        self._database = database
        self._next = 1
        self._opened: dict[int, _Opened] = {}
        self._put_aside: set[int] = set()
        self._reader: SpoolReader | None = None

    async def open(self, *, now: float) -> None:
        """Count what is there against what must be there. Raises StoreFailed."""
        database = self._database
        await self._open_cursors()
        totals = await database.run(partial(spool_rows.take_stock, database=database, now=now))
        self.chunks, self.events, self.bytes, self._next = totals
        self.damage = await database.run(spool_rows.read_damage)
        self._reader = SpoolReader(database)

    async def _open_cursors(self) -> None:
        """Each sink goes on where it was; one that is new begins with all that is there."""
        positions = await self._database.run(spool_rows.read_cursors)
        self.left_behind = {
            sink: waiting for sink, (_, waiting) in positions.items() if waiting and sink not in self.cursors
        }
        if self.left_behind:
            return
        sinks = list(self.cursors)
        starts = {sink: positions[sink][0] if sink in positions else 1 for sink in sinks}
        if len(sinks) > 1:  # of a single one the rows tell
            for sink, cursor in self.cursors.items():
                cursor.unread = starts[sink]
        await self._database.run(partial(spool_rows.take_over, sinks=sinks, first=min(starts.values())))

    async def close(self) -> None:
        if self._reader:
            await self._reader.close()

    @property
    def end(self) -> int:
        """The number that the next chunk will have."""
        return self._next

    @property
    def oldest_accepted_at(self) -> float | None:
        """Wall time of the oldest chunk on its way; None if there is none."""
        return min((opened.accepted_at for opened in self._opened.values()), default=None)

    def is_open(self, sink: str, number: int) -> bool:
        """Whether this chunk may have events that had no end at this sink."""
        if len(self.cursors) == 1:
            return number in self._opened or all(number >= c.unread for c in self.cursors.values())
        return (
            sink in self.cursors
            and self.cursors[sink].position <= number < self._next
            and (number in self._opened or number >= min(cursor.unread for cursor in self.cursors.values()))
        )

    def positions(self) -> dict[str, int]:
        """Of each sink the chunk before which every one had its end. Empty for one sink: what is gone is."""
        if len(self.cursors) == 1:
            return {}
        return {sink: cursor.position for sink, cursor in self.cursors.items()}

    def state(self, number: int) -> tuple[int, int] | None:
        """(events without an end, dead letters) of a chunk on its way; None: not yet, or no longer."""
        opened = self._opened.get(number)
        if opened is None:
            return None
        if opened.fate:
            return opened.fate.events - len(opened.fate.failed), len(opened.fate.failed)
        return opened.receipt.open, opened.receipt.buried

    # --- in ---

    def append(
        self,
        pieces: Iterable[tuple[list[bytes], list[bytes | None]]],
        *,
        now: float,
        also: Work | None = None,
    ) -> tuple[list[SpooledChunk], asyncio.Future[None]]:
        """One chunk for each of ``pieces`` (events, digests), all in one transaction, and their keys in it.

        ``also``: what else is to be written with them, or not at all.

        The future is done when they are on disk. It fails with StoreFailed, and then they are nobody's.
        """
        rows, chunks = [], []
        for events, digests in pieces:
            number, self._next = self._next, self._next + 1
            rows.append(spool_rows.pack(number, events, digests, now=now))
            chunks.append(SpooledChunk(self._chunk(number, events), digests, now))
        database, high_water = self._database, self._next - 1

        def write(connection: sqlite3.Connection) -> None:
            for row in rows:
                spool_rows.insert(connection, row)
            if also:
                also(connection)
            database.high_water = max(database.high_water, high_water)

        count, size_bytes = sum(row.events for row in rows), sum(row.size_bytes for row in rows)
        self._count(len(rows), count, size_bytes)
        kept = database.append(write)
        kept.add_done_callback(partial(self._if_refused, len(rows), count, size_bytes))
        return chunks, kept

    def _if_refused(self, chunks: int, events: int, size_bytes: int, kept: asyncio.Future[None]) -> None:
        if kept.exception():
            self._count(-chunks, -events, -size_bytes)

    # --- out ---

    async def read(
        self, *, first: int, before: int, limit: int = READ_CHUNKS
    ) -> tuple[list[SpooledChunk], int]:
        """Up to ``limit`` chunks numbered ``first`` to ``before``, in order, and the number to go on with.

        Damaged ones are put aside and left out. Raises StoreFailed.
        """
        assert self._reader is not None
        rows = await self._reader.read(first, before, limit)
        found: list[SpooledChunk] = []
        for row in rows:
            unpacked = spool_rows.unpack(row)
            if unpacked is None:
                self._quarantine(row)
            else:
                found.append(SpooledChunk(self._chunk(row.number, unpacked[0]), unpacked[1], row.accepted_at))
        return found, rows[-1].number + 1 if len(rows) == limit else before

    def routed(self, number: int) -> Routed | None:
        """Who gets what of a chunk that another sink has taken up already."""
        opened = self._opened.get(number)
        return opened.fate.routed if opened and opened.fate else None

    def opened(self, sink: str, spooled: SpooledChunk, count: int, routed: Routed) -> None:
        """``count`` events of this chunk are on their way to ``sink``: gives the chunk its receipt.

        Where there are several sinks each brings a view of the chunk.
        """
        chunk, number = spooled.chunk, spooled.chunk.start
        before = self._opened.get(number)
        size_bytes = before.size_bytes if before else sum(map(len, chunk.events))
        if len(self.cursors) == 1:
            chunk.receipt = Receipt(count, partial(self._settled, number))
        else:
            fate = before.fate if before else None
            if fate is None:
                fate = self._fate(number, len(chunk.events), routed)
                self.on_taken_up(fate, chunk)
            self.cursors[sink].open.add(number)
            chunk.fate = fate
            chunk.receipt = Receipt(count, partial(self._sink_settled, sink, number, fate))
        if number not in self._put_aside:  # then it has had its end, and nobody will take it out
            self._opened[number] = _Opened(
                len(chunk.events), size_bytes, spooled.accepted_at, chunk.receipt, chunk.fate
            )
        if count == 0:
            chunk.receipt.close()

    def taken_up(self, sink: str, number: int) -> None:
        """Chunks up to this one have been opened for ``sink``, or left out."""
        self.cursors[sink].unread = number + 1
        self._forget_idle(number)

    def _fate(self, number: int, events: int, routed: Routed) -> FanOutReceipt:
        """Of the sinks that have not had the chunk: not all of them, after a restart."""
        sinks = sum(number >= cursor.unread for cursor in self.cursors.values())
        matched = max(map(len, routed.values()), default=0)
        if matched < events:
            matched = len(set[int]().union(*routed.values()))
        fate = FanOutReceipt(
            routed,
            events=matched,
            unmatched=events - matched,
            sinks=sinks,
            done=partial(self._all_settled, number),
        )
        fate.decided = partial(self._forget_idle, number)
        return fate

    def _sink_settled(self, sink: str, number: int, fate: FanOutReceipt) -> None:
        self.cursors[sink].open.discard(number)
        fate.settle()
        self._forget_idle(number)

    def _forget_idle(self, number: int) -> None:
        """A chunk that waits only for sinks that have not taken it up costs no memory: there may be millions,
        while a sink is away. Who opens it next finds the same out again, unless events failed, or may yet."""
        opened = self._opened.get(number)
        if opened is None or opened.fate is None or opened.fate.failed or opened.fate.confirming:
            return
        cursors = self.cursors.values()
        to_come = sum(number >= cursor.unread for cursor in cursors)
        if opened.fate.open == to_come and not any(number in cursor.open for cursor in cursors):
            del self._opened[number]

    def _all_settled(self, number: int, fate: FanOutReceipt) -> None:
        if number in self._put_aside:  # it was found damaged meanwhile: its events have had that end
            return
        self.on_fate(fate)
        self._settled(number)

    def _settled(self, number: int) -> None:
        opened = self._opened.pop(number)
        self._database.note(partial(spool_rows.delete, number=number))
        self._count(-1, -opened.events, -opened.size_bytes)
        self.settled_bytes += opened.size_bytes
        buried = len(opened.fate.failed) if opened.fate else opened.receipt.buried
        self.on_settled(number, buried, opened.fate)

    def _quarantine(self, row: spool_rows.SpoolRow) -> None:
        if row.number in self._put_aside:  # read again before its row was gone
            return
        self._put_aside.add(row.number)
        self._opened.pop(row.number, None)
        damage = SpoolDamage(row.number, row.number, row.events, row.accepted_at, "checksum does not match")
        self._database.note(partial(spool_rows.quarantine, damage=damage))
        self._count(-1, -row.events, -row.size_bytes)
        self.damage.append(damage)
        self.on_damage(damage)

    def _count(self, chunks: int, events: int, size_bytes: int) -> None:
        self.chunks += chunks
        self.events += events
        self.bytes += size_bytes

    def _chunk(self, number: int, events: list[bytes]) -> Chunk:
        return Chunk(
            events,
            source=self.source,
            start=number,
            end=number + 1,
            place=partial(place_of, number),
        )


def place_of(number: int, position: int) -> tuple[int, int]:
    """(chunk and position as one number, position from 1): what a dead letter is known by."""
    return number << _PLACE_BITS | position, position + 1
