"""What a restart needs to know of events on their way: positions, frozen batches, safe keys.

``pipeline.py`` notes what happens; the notes become durable together with the next ``commit``.
Every batch is committed before its first send, and that commit carries the outcomes of the sends
before it: so at most the batches in flight can be sent twice, and those go out unchanged.
"""

import sqlite3
import struct
import zlib
from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec

from ingestd.core.batch import Batch
from ingestd.core.chunk import Segment, pack_positions
from ingestd.core.letter import DeadLetter
from ingestd.store.database import Database
from ingestd.store.dead_letters import insert_letters, letters_delivered, letters_failed

PackedSegment = tuple[int, int, int, bytes]
"""(source, start, end, positions) of a segment; see ``core.chunk.pack_positions``."""

Heads = Callable[[int], tuple[bytes, int]]
"""Digest and length of the first n bytes of a file; see ``sources.streams.fingerprint``."""

_INSERT_KEYS = "INSERT INTO window (confirmed_at, digests) VALUES (?, ?)"

_PASSED = 2**62  # the position of a source that will never be read again


Place = tuple[int, int, int]
"""(source, start, end) of a chunk."""


class FrozenBatch(NamedTuple):
    """A batch of an earlier process. ``kept``: its events, where the source cannot give them again."""

    id: str
    settled: bool
    frozen_at: float
    events: int
    body_digest: bytes
    segments: list[PackedSegment]
    kept: list[bytes] | None


class SourceState(NamedTuple):
    """``position``: every event before it has had its end. ``line``: the number of the next line."""

    number: int
    position: int
    line: int


class Journal:
    """Keeps the journal's tables through ``database``; one per state directory."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._positions: dict[int, tuple[int, int]] = {}
        self._moved: set[int] = set()
        self._beyond: dict[str, list[Place]] = {}  # settled batches: what has to be passed
        self._look_beyond = False
        self._streams: set[int] = set()  # sources that cannot be read again
        self._spool = 0  # the number of the spool among the sources; its chunks are settled one by one
        self._is_in_spool: Callable[[int], bool] = lambda chunk: False

    async def commit(self) -> None:
        """Make all notes durable, and the positions reached with them. Raises StoreFailed."""
        self._note_positions()
        await self._database.commit()

    # --- at start ---

    async def remember(self, name: str, value: str) -> str | None:
        """Store a setting of this run; gives the one of the run before, or None."""

        def swap(connection: sqlite3.Connection) -> str | None:
            row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
            return None if row is None else str(row[0])

        return await self._database.run(swap)

    async def find_file(
        self,
        path: str,
        *,
        identity: tuple[int, int],
        heads: Heads,
        size: int | None,
        from_start: bool,
        now: float,
    ) -> SourceState:
        """The state of a file known by (device, inode) and its head, or of a new one.

        A file that has grown is compared by the head it had then. One that is shorter (``size``,
        where it is known) than its position was written anew, and counts as new.
        """

        def find(connection: sqlite3.Connection) -> SourceState:
            known = connection.execute(
                "SELECT id, head, head_bytes, position, line FROM sources"
                " WHERE device = ? AND inode = ? ORDER BY id DESC LIMIT 100",
                identity,
            ).fetchall()
            for number, head, head_bytes, position, line in known:
                shrunk = size is not None and size < position
                if heads(head_bytes) == (head, head_bytes) and head_bytes > 0 and not shrunk:
                    if from_start:
                        position, line = 0, 1
                    connection.execute(
                        "UPDATE sources SET position = ?, line = ?, path = ?, updated = ? WHERE id = ?",
                        (position, line, path, now, number),
                    )
                    return SourceState(number, position, line)
            return SourceState(_add_source(connection, path, identity, heads(4096), now), 0, 1)

        state = await self._database.run(find)
        self._positions[state.number] = (state.position, state.line)
        return state

    async def new_stream(self, path: str, *, now: float) -> SourceState:
        """A source that cannot be read again; its batches keep their events."""
        number = await self._database.run(lambda c: _add_source(c, path, (0, 0), (b"", 0), now))
        self._streams.add(number)
        self._positions[number] = (0, 1)
        return SourceState(number, 0, 1)

    async def spool_source(self) -> int:
        """The spool's number among the sources."""

        def find(connection: sqlite3.Connection) -> int:
            row = connection.execute("SELECT id FROM sources WHERE device = -1").fetchone()
            return int(row[0]) if row else _add_source(connection, "spool", (-1, -1), (b"", 0), 0.0)

        self._spool = await self._database.run(find)
        return self._spool

    def watch_spool(self, is_in_spool: Callable[[int], bool]) -> None:
        """``is_in_spool(chunk)``: whether a chunk of the spool may have events that had no end."""
        self._is_in_spool = is_in_spool

    async def frozen_batches(self) -> list[FrozenBatch]:
        """All batches of earlier processes that may matter, oldest first."""

        def read(connection: sqlite3.Connection) -> tuple[list[FrozenBatch], list[int]]:
            rows = connection.execute(
                "SELECT id, settled, frozen_at, events, body_digest, segments, kept FROM batches"
                " ORDER BY frozen_at"
            )
            batches = [_unpack(row) for row in rows]
            streams = connection.execute("SELECT id FROM sources WHERE device = 0 AND inode = 0")
            return batches, [row[0] for row in streams]

        batches, streams = await self._database.run(read)
        for source in streams:
            self._streams.add(source)
            self._positions.setdefault(source, (_PASSED, 1))
        for batch in batches:
            if batch.settled:
                self._beyond[batch.id] = [segment[:3] for segment in batch.segments]
        self._look_beyond = True
        return batches

    # --- on the way ---

    def freeze(self, batch: Batch, *, now: float) -> None:
        """A batch is about to be sent for the first time."""
        if batch.letters:
            return  # the dead-letter store has its events, its id and their order
        segments = _pack(batch.segments)
        kept = any(source in self._streams for source, *_ in segments)
        row = (
            batch.id,
            now,
            len(batch.events),
            body_digest(batch.body),
            msgspec.msgpack.encode(segments),
            msgspec.msgpack.encode(batch.events) if kept else None,
        )
        self._database.note(
            lambda c: c.execute(
                "INSERT OR REPLACE INTO batches (id, frozen_at, events, body_digest, segments, kept)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
        )

    def settled(
        self,
        batch: Batch,
        *,
        segments: Sequence[Segment],
        safe_keys: Sequence[bytes],
        letters: Sequence[DeadLetter],
        parts: Sequence[Batch],
        now: float,
    ) -> None:
        """The events in ``segments`` have had their end; the others of ``batch`` go on in ``parts``.

        The batch stays in the journal, with the segments that are settled, until its sources'
        positions have passed them: a restart must not take those events up again.
        """
        packed = b"".join(safe_keys)
        settled = msgspec.msgpack.encode(_pack(segments)) if parts else None
        if segments:
            self._look_beyond = True
            self._beyond[batch.id] = [(s.chunk.source, s.chunk.start, s.chunk.end) for s in segments]

        def write(connection: sqlite3.Connection) -> None:
            if packed:
                connection.execute(_INSERT_KEYS, (now, packed))
            if not segments:
                connection.execute("DELETE FROM batches WHERE id = ?", (batch.id,))
            else:
                connection.execute(
                    "UPDATE batches SET settled = 1, kept = NULL, segments = coalesce(?, segments)"
                    " WHERE id = ?",
                    (settled, batch.id),
                )
            if letters:
                insert_letters(connection, letters, now)

        self._database.note(write)
        for number, part in enumerate(parts):  # a restart takes them up in the order of these times
            self.freeze(part, now=now + number * 1e-6)

    def drop(self, batch_ids: Sequence[str]) -> None:
        """Batches that cannot be rebuilt: their source is no longer what it was."""
        rows = [(batch_id,) for batch_id in batch_ids]
        self._database.note(lambda c: c.executemany("DELETE FROM batches WHERE id = ?", rows))

    def retried(
        self,
        *,
        delivered: Sequence[int],
        safe_keys: Sequence[bytes],
        failed: Sequence[tuple[int, DeadLetter]],
        now: float,
    ) -> None:
        """What became of dead letters (by number) that were sent again."""
        packed = b"".join(safe_keys)

        def write(connection: sqlite3.Connection) -> None:
            if packed:
                connection.execute(_INSERT_KEYS, (now, packed))
            letters_delivered(connection, delivered, now)
            letters_failed(connection, failed, now)

        self._database.note(write)

    def buried(self, letters: Sequence[DeadLetter], *, now: float) -> None:
        """Events became dead letters without ever being in a batch."""
        self._database.note(lambda c: insert_letters(c, letters, now))

    def moved(self, source: int, position: int, line: int) -> None:
        """All events of ``source`` before ``position`` have had their end."""
        self._positions[source] = (position, line)
        self._moved.add(source)

    def _note_positions(self) -> None:
        """Positions, and the settled batches that now lie before them, go in one transaction."""
        if not (self._moved or self._look_beyond):
            return
        self._look_beyond = False
        rows = [(*self._positions[source], source) for source in self._moved]
        self._moved.clear()
        passed = [
            (batch,)
            for batch, places in self._beyond.items()
            if all(self._is_passed(*place) for place in places)
        ]
        for (batch,) in passed:
            del self._beyond[batch]

        def write(connection: sqlite3.Connection) -> None:
            connection.executemany("UPDATE sources SET position = ?, line = ? WHERE id = ?", rows)
            connection.executemany("DELETE FROM batches WHERE id = ?", passed)

        self._database.note(write)

    def _is_passed(self, source: int, start: int, end: int) -> bool:
        """Nothing of this chunk will be read again."""
        if source == self._spool:
            return not self._is_in_spool(start)
        return self._positions.get(source, (0, 1))[0] >= end


def body_digest(body: bytes) -> bytes:
    """Tells whether a batch that was rebuilt after a restart is the one that was frozen.

    Length and CRC-32: it looks for files that were changed meanwhile, not for an adversary.
    """
    return struct.pack("<QI", len(body), zlib.crc32(body))


def _add_source(
    connection: sqlite3.Connection, path: str, identity: tuple[int, int], head: tuple[bytes, int], now: float
) -> int:
    cursor = connection.execute(
        "INSERT INTO sources (path, device, inode, head, head_bytes, updated) VALUES (?, ?, ?, ?, ?, ?)",
        (path, *identity, *head, now),
    )
    return int(cursor.lastrowid or 0)


def _pack(segments: Sequence[Segment]) -> list[PackedSegment]:
    return [(s.chunk.source, s.chunk.start, s.chunk.end, pack_positions(s.positions)) for s in segments]


def _unpack(row: tuple[str, int, float, int, bytes, bytes, bytes | None]) -> FrozenBatch:
    segments = msgspec.msgpack.decode(row[5], type=list[PackedSegment])
    kept = None if row[6] is None else msgspec.msgpack.decode(row[6], type=list[bytes])
    return FrozenBatch(row[0], bool(row[1]), row[2], row[3], row[4], segments, kept)
