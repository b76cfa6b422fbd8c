"""The spool: acknowledged events, on disk until they are resolved.

``intake/admission.py`` appends, ``intake/spool_feed.py`` reads. One row is a chunk of events. Totals kept
by triggers, and a high-water number outside of the database, tell when rows are missing; a CRC tells
when one is damaged.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from itertools import chain, repeat

from ingestd.core.chunk import Chunk, Keeper
from ingestd.core.receipt import Digests, FanOutReceipt, Receipt, Routed
from ingestd.store import spool_reach, spool_rows
from ingestd.store.database import Database
from ingestd.store.source_rows import find_spool
from ingestd.store.spool_reader import SpoolReader
from ingestd.store.spool_rows import OpenedChunk, SpoolDamage, SpoolRow, place_of
from ingestd.store.writer import Work

Resolved = Callable[[int, int, int], None]
"""(number of a chunk of which every event is resolved, how many of them became dead letters, how many go to
no sink)."""

Route = Callable[[Sequence[bytes]], Routed]
"""Says who gets what of these events."""

MAX_CHUNK_BYTES = 256 * 1024
"""Of events in a chunk; a larger event is a chunk of its own."""

READ_CHUNKS = 16  # that are read at once


class SpoolCursor:
    """``unread``: chunks from this number on have not been read. ``open``: those on their way. ``events``,
    ``bytes``: of chunks with events that may not be resolved there. ``noted``: see ``spool_reach.py``."""

    def __init__(self, position: int = 1) -> None:
        self.unread = self.noted = position
        self.open: set[int] = set()
        self.events = self.bytes = 0

    def count(self, events: int, size_bytes: int) -> None:
        self.events += events
        self.bytes += size_bytes

    @property
    def position(self) -> int:
        """Every chunk before this one is resolved at the sink."""
        return min(min(self.open), self.unread) if self.open else self.unread


class Spool:
    """``source``: its number among the sources, from ``open`` on. Counts are of chunks that are not resolved.

    A chunk is resolved when it is at every one of ``sinks``, each of which has a cursor. ``on_resolved`` is
    called with that, once nothing of it is unconfirmed; ``shared`` of chunks whose receipt several sinks
    share; ``damaged`` of chunks that cannot be read.
    """

    def __init__(
        self,
        database: Database,
        *,
        sinks: Sequence[str] = ("ingest_api",),
        on_resolved: Resolved = lambda number, dead_letters, skipped: None,
        shared: Callable[[FanOutReceipt, Chunk], None] = lambda receipt, chunk: None,
        damaged: Callable[[SpoolDamage], None] = lambda damage: None,
    ) -> None:
        self.source = 0
        self.chunks = self.events = self.bytes = 0
        self.settled_bytes = 0  # since the start; tells how fast the spool empties
        self.damage: list[SpoolDamage] = []
        self.cursors = {sink: SpoolCursor() for sink in sinks}
        self.left_behind: dict[str, int] = {}  # sinks that are not there any more: chunks they had not had
        self.is_shared = (
            len(sinks) > 1
        )  # of a single sink the rows tell what waits, whatever its name is next
        self._on_resolved, self._on_shared, self._damaged = on_resolved, shared, damaged
        self._database, self._next = database, 1
        self._opened: dict[int, OpenedChunk] = {}
        self._unconfirmed: dict[int, Receipt] = {}  # of chunks that have left the spool
        self._put_aside: set[int] = set()
        self._reader: SpoolReader | None = None

    async def open(self, *, now: float) -> None:
        """Count what is there against what must be there. Raises StoreFailed."""
        database = self._database
        self.source = await database.run(find_spool)
        await self._open_cursors()
        totals = await database.run(partial(spool_rows.take_stock, database=database, now=now))
        self.chunks, self.events, self.bytes, self._next = totals
        for cursor in self.cursors.values():
            cursor.count(*await database.run(partial(spool_rows.count_from, first=cursor.unread)))
        await database.run(partial(spool_reach.open_reach, cursors=self.cursors, end=self._next))
        self.damage = await database.run(spool_rows.read_damage)
        self._reader = SpoolReader(database)

    async def _open_cursors(self) -> None:
        """Each sink continues where it was; one that is new begins with all that is there."""
        positions = await self._database.run(spool_rows.read_cursors)
        self.left_behind = {
            sink: waiting for sink, (_, waiting) in positions.items() if waiting and sink not in self.cursors
        }
        if self.left_behind:
            return
        sinks = list(self.cursors)
        starts = {sink: positions[sink][0] if sink in positions else 1 for sink in sinks}
        if self.is_shared:
            for sink, cursor in self.cursors.items():
                cursor.unread = starts[sink]
        await self._database.run(partial(spool_rows.take_over, sinks=sinks, first=min(starts.values())))

    async def close(self) -> None:
        if self._reader:
            await self._reader.close()

    @property
    def reader(self) -> SpoolReader:
        """Once it is open."""
        assert self._reader is not None
        return self._reader

    @property
    def end(self) -> int:
        """The number that the next chunk will have."""
        return self._next

    @property
    def oldest_accepted_at(self) -> float | None:
        """Wall time of the oldest chunk on its way; None if there is none."""
        return min((opened.accepted_at for opened in self._opened.values()), default=None)

    def oldest_of(self, sink: str) -> float | None:
        """Wall time of the oldest chunk that is not resolved at this sink; None if there is none. Of one
        that is not in memory that of the oldest which is."""
        position = self.cursors[sink].position
        if position >= self._next:
            return None
        opened = self._opened.get(position)
        return opened.accepted_at if opened else self.oldest_accepted_at

    @property
    def fullest(self) -> str:
        """The sink for which most of it waits."""
        return max(self.cursors, key=lambda sink: self.cursors[sink].bytes)

    def is_open(self, sink: str, number: int) -> bool:
        """Whether this chunk may have events that are not resolved at this sink."""
        known = number in self._opened or number >= min(cursor.unread for cursor in self.cursors.values())
        if not self.is_shared:  # whatever its name was
            return known
        return known and sink in self.cursors and self.cursors[sink].position <= number < self._next

    def positions(self) -> dict[str, int]:
        """Of each sink the chunk before which every one is resolved. Empty for one sink: what is gone is. And
        in a run that has not opened the spool."""
        cursors = self.cursors if self.is_shared and self.source else {}
        return {sink: cursor.position for sink, cursor in cursors.items()}

    def state(self, number: int) -> tuple[int, int, int] | None:
        """As its receipt has it, of a chunk; None: it was not read yet, or all outcomes are known."""
        opened = self._opened.get(number)
        receipt = opened.receipt if opened else self._unconfirmed.get(number)
        return receipt.state() if receipt else None

    # --- in ---

    def append(
        self,
        parts: Iterable[tuple[Sequence[bytes], Digests]],
        owners: Sequence[str] = (),
        *,
        now: float,
        also: Sequence[Work | None] = (),
    ) -> tuple[list[Chunk], asyncio.Future[None]]:
        """One chunk for each of ``parts`` (events, digests), all in one transaction, and their keys in it.

        ``owners``: whose each part is. ``also``: what else is to be written with them, or not at all. The
        future is done when that is on disk, and all before it; fails with StoreFailed: they are not stored.
        """
        rows, chunks = [], []
        for (events, digests), owner in zip(parts, chain(owners, repeat("")), strict=False):
            number, self._next = self._next, self._next + 1
            rows.append(spool_rows.pack(number, events, digests, owner, now=now))
            chunks.append(self._chunk(rows[-1], events, digests))
        database, high_water, works = self._database, self._next - 1, [work for work in also if work]

        def write(connection: sqlite3.Connection) -> None:
            for row in rows:
                spool_rows.insert(connection, row)
            for work in works:
                work(connection)
            if rows:
                database.writer.high_water = max(database.writer.high_water, high_water)

        count, size_bytes = sum(row.events for row in rows), sum(row.size_bytes for row in rows)
        self._count(len(rows), count, size_bytes, self.cursors.values())
        kept = database.append(write if rows or works else None)
        kept.add_done_callback(partial(self._if_refused, len(rows), count, size_bytes))
        return chunks, kept

    def again(self, chunk: Chunk) -> Chunk:
        """The same events, for another sink."""
        row = SpoolRow(chunk.start, chunk.accepted_at, 0, chunk.size_bytes, 0, b"", b"", chunk.owners)
        other = self._chunk(row, chunk.events, chunk.digests)
        other.routed = chunk.routed
        return other

    def _if_refused(self, chunks: int, events: int, size_bytes: int, kept: asyncio.Future[None]) -> None:
        if kept.exception():
            self._count(-chunks, -events, -size_bytes, self.cursors.values())

    # --- out ---

    async def read(self, *, first: int, before: int, limit: int = READ_CHUNKS) -> tuple[list[Chunk], int]:
        """Up to ``limit`` chunks numbered ``first`` to ``before``, in order, and the number to go on with.

        Damaged ones are set aside. Raises StoreFailed.
        """
        rows = await self.reader.read(first, before, limit)
        found: list[Chunk] = []
        for row in rows:
            unpacked = spool_rows.unpack(row)
            if unpacked is None:
                self._quarantine(row)
            else:
                found.append(self._chunk(row, *unpacked))
        return found, rows[-1].number + 1 if len(rows) == limit else before

    def open_chunk(self, sink: str, chunk: Chunk, route: Route) -> None:
        """A sink reads the chunk: gives it its receipt, which all sinks share, and says who gets what of it,
        which is known where another sink has read it before."""
        number = chunk.start
        self.cursors[sink].open.add(number)
        if opened := self._opened.get(number):
            chunk.receipt, chunk.routed = opened.receipt, opened.routed
            return
        chunk.routed = chunk.routed or route(chunk.events)
        chunk.receipt = self._receipt(chunk)
        if number not in self._put_aside:  # else nobody will take it out
            self._opened[number] = OpenedChunk(
                len(chunk.events), chunk.size_bytes, chunk.accepted_at, chunk.receipt, chunk.routed
            )

    def was_read(self, sink: str, number: int) -> None:
        """Chunks up to this one have been opened for ``sink``, or left out."""
        cursor = self.cursors[sink]
        cursor.unread = number + 1
        if number not in cursor.open:
            self._forget_idle(number)

    def _receipt(self, chunk: Chunk) -> Receipt:
        """Of the sinks that have not had the chunk: not all of them, after a restart."""
        number, events, routed = chunk.start, len(chunk.events), chunk.routed
        confirmed = partial(self._confirmed, number)
        whole = Receipt(events, partial(self._resolved, number), confirmed=confirmed)
        if not self.is_shared:
            return whole
        sinks = sum(number >= cursor.unread for cursor in self.cursors.values())
        matched = max(map(len, routed.values()), default=0)
        if matched < events:
            matched = len(set[int]().union(*routed.values()))
        receipt = FanOutReceipt(
            whole,
            routed,
            events=matched,
            unmatched=events - matched,
            sinks=sinks + (number in self._put_aside),  # a damaged one is never resolved
            sink_done=partial(self._sink_done, number, events, sum(map(len, chunk.events))),
            confirmed=confirmed,
        )
        self._on_shared(receipt, chunk)
        return receipt

    def _sink_done(self, number: int, events: int, size_bytes: int, sink: str) -> None:
        cursor = self.cursors[sink]
        cursor.open.discard(number)
        if number not in self._put_aside:
            cursor.count(-events, -size_bytes)
        self._forget_idle(number)

    def _forget_idle(self, number: int) -> None:
        """A chunk that waits only for sinks that have not taken it up costs no memory: there may be millions,
        while a sink is away. Who opens it next finds the same out again, unless events failed, or may yet."""
        opened = self._opened.get(number)
        if opened is None or opened.receipt.unconfirmed or opened.receipt.state()[1]:
            return
        cursors = self.cursors.values()
        to_come = sum(number >= cursor.unread for cursor in cursors)
        if to_come and opened.receipt.sinks == to_come and not any(number in one.open for one in cursors):
            del self._opened[number]

    def _resolved(self, number: int) -> None:
        """All events of a chunk are resolved; an API may have yet to confirm some."""
        for cursor in self.cursors.values():
            cursor.open.discard(number)
        opened = self._opened.pop(number, None)
        if opened is None:  # it was found damaged meanwhile
            return
        self._database.note(partial(spool_rows.delete, number=number))
        self._count(-1, -opened.events, -opened.size_bytes, () if self.is_shared else self.cursors.values())
        self.settled_bytes += opened.size_bytes
        if opened.receipt.unconfirmed:
            self._unconfirmed[number] = opened.receipt
        else:
            self._on_resolved(number, *opened.receipt.state()[1:])

    def _confirmed(self, number: int) -> None:
        """Nothing of a chunk waits for an API to say what became of it."""
        if receipt := self._unconfirmed.pop(number, None):
            self._on_resolved(number, *receipt.state()[1:])
        else:
            self._forget_idle(number)

    def _quarantine(self, row: spool_rows.SpoolRow) -> None:
        if row.number in self._put_aside:  # read again before its row was gone
            return
        self._put_aside.add(row.number)
        self._opened.pop(row.number, None)
        damage = SpoolDamage(row.number, row.number, row.events, row.accepted_at, "checksum does not match")
        unread = [sink for sink, one in self.cursors.items() if row.number >= one.unread]
        self._database.note(partial(spool_rows.quarantine, damage=damage, lacking=unread))
        lacking = [one for sink, one in self.cursors.items() if sink in unread or row.number in one.open]
        self._count(-1, -row.events, -row.size_bytes, lacking)
        self.damage.append(damage)
        self._damaged(damage)

    def _count(self, chunks: int, events: int, size_bytes: int, cursors: Iterable[SpoolCursor]) -> None:
        self.chunks += chunks
        self.events += events
        self.bytes += size_bytes
        for cursor in cursors:
            cursor.count(events, size_bytes)

    def _chunk(self, row: SpoolRow, events: Sequence[bytes], digests: Digests) -> Chunk:
        chunk = Chunk(
            events,
            source=self.source,
            start=row.number,
            end=row.number + 1,
            place=partial(place_of, row.number),
            keeper=Keeper.SPOOL,
            digests=digests,
            accepted_at=row.accepted_at,
        )
        chunk.size_bytes, chunk.owners = row.size_bytes, row.owners
        return chunk
