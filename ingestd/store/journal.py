"""What a restart needs to know of events on their way: positions, frozen batches, safe keys.

``pipeline.py`` notes what happens; the notes become durable together with the next ``commit``.
Every batch is committed before its first send, and that commit carries the outcomes of the sends
before it: so at most the batches in flight can be sent twice, and those go out unchanged.
"""

import sqlite3
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, cast

from ingestd.core.chunk import NO_MARK, Batch, Chunk, Keeper, Mark, Segment, digest, packed_keys
from ingestd.core.letter import DeadLetter
from ingestd.core.receipt import Digests, Positions
from ingestd.store import frozen_batches as frozen
from ingestd.store import letter_leases
from ingestd.store.database import Database
from ingestd.store.frozen_batches import FrozenBatch, Place, SettledBatches
from ingestd.store.known_sources import KnownSources
from ingestd.store.lost_places import LostPlaces, read_lost_places
from ingestd.store.named_batches import UntilAnnounced
from ingestd.store.new_letters import insert_letters
from ingestd.store.source_rows import (
    MOVE,
)
from ingestd.store.spool import Spool
from ingestd.store.spool_reach import note_reach
from ingestd.store.trail import Row
from ingestd.store.writer import Work

if TYPE_CHECKING:
    from ingestd.store.named_batches import NamedBatches

EVERYWHERE, DISMISSED = "", "-"
"""Under these names the journal has events of files that are resolved at all sinks, and events that were
sent to none: refused, or copies (``Journal.processed``). No sink has such a name."""

_INSERT_KEYS = "INSERT INTO window (confirmed_at, digests) VALUES (?, ?)"

_PASSED = 2**62  # the position of a source that will never be read again


class Journal(KnownSources):
    """Keeps the journal's tables through ``database``; one per state directory. ``spool``: its chunks
    are not read again one by one, as they are resolved."""

    def __init__(self, database: Database, spool: Spool | None = None) -> None:
        super().__init__(database)
        self._moved: set[int] = set()
        self._marks: dict[int, Mark] = {}
        self._settled = SettledBatches()
        self._look_beyond, self._looked_in = False, -1  # once in what is committed together
        self._spool = spool
        self._noted_cursors: dict[str, int] = {}
        self._noted: tuple[int, frozen.Changes] | None = None
        self.named: dict[int, NamedBatches] = {}
        """By number of the source, where the next owner of it has to know its batches."""

    def commit(self) -> Awaitable[None]:
        """Make all notes durable, and the positions reached with them. Raises StoreFailed."""
        self._note_positions()
        return self._database.commit()

    # --- at start ---

    async def remember(self, name: str, value: str) -> str | None:
        """Store a setting of this run; gives the one of the run before, or None."""

        def swap(connection: sqlite3.Connection) -> str | None:
            row = connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
            connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, value))
            return None if row is None else str(row[0])

        return await self._database.run(swap)

    def remember_sinks(self, names: Sequence[str], is_known: Callable[[bytes], bool]) -> None:
        """Whose letters this process sends; for the commands beside it, and see ``absent_sinks``. It is
        written with what a source reads at its start, before an event is accepted."""
        self.note(lambda connection: letter_leases.remember_sinks(connection, names, is_known))

    async def lost_places(self, source: int, *, first: int) -> LostPlaces:
        """Events of ``source``, at places from ``first`` on, that are dead letters of a sink."""
        return await self._database.run(lambda c: read_lost_places(c, source, first=first))

    async def frozen_batches(self) -> list[FrozenBatch]:
        """All batches of earlier processes that may matter, oldest first."""

        def read(connection: sqlite3.Connection) -> tuple[list[FrozenBatch], list[int]]:
            batches = frozen.read(connection)
            streams = connection.execute("SELECT id FROM sources WHERE device = 0 AND inode = 0")
            return batches, [row[0] for row in streams]

        batches, streams = await self._database.run(read)
        for source in streams:
            self._positions.setdefault(source, (_PASSED, 1))
        for batch in batches:
            if batch.settled:
                self._settled.add(batch.sink, batch.id, [segment[:3] for segment in batch.segments])
        self._look_beyond = True
        return batches

    # --- on the way ---

    def freeze(
        self, batch: Batch, *, sink: str, now: float, transformed: bool = False
    ) -> UntilAnnounced | None:
        """A batch is about to be sent for the first time. ``transformed``: its events may differ from what
        came. Gives what is to be waited for besides the next commit."""
        if batch.letters:
            self._database.note(lambda c: letter_leases.freeze_letters(c, batch))
            return None
        first = batch.segments[0].chunk  # where sinks share a chunk, and in the spool, chunks know their keys
        if self._spool and first.keeper is Keeper.SPOOL:
            last = max([segment.chunk.start for segment in batch.segments])
            if last >= (cursor := self._spool.cursors[sink]).noted:
                self._database.note(note_reach(sink, cursor, last))
        kept = first.keeper is Keeper.JOURNAL
        keys = first.keeper is Keeper.SOURCE and first.receipt.final
        sent = transformed and frozen.came(batch) != batch.events
        row = frozen.row_of(batch, sink=sink, now=now, keep_events=kept, keep_keys=keys, transformed=sent)
        self._changes(now).rows[batch.id] = row
        if named := self.named.get(first.source):
            digest = cast("bytes", row[3])
            is_whole = all(segment.chunk.source == first.source for segment in batch.segments)
            return named.froze(batch.id, sink, digest, batch.segments, now, can_be_made=is_whole and not sent)
        return None

    def waits(self, batch: Batch) -> UntilAnnounced | None:
        """What a batch of an earlier process waits for besides the next commit."""
        named = self.named.get(batch.segments[0].chunk.source) if self.named and batch.segments else None
        return named.waits(batch.id) if named else None

    def resolved(
        self,
        batch: Batch,
        *,
        sink: str,
        segments: Sequence[Segment],
        safe_keys: Sequence[Digests],
        letters: Sequence[DeadLetter],
        parts: Sequence[Batch],
        now: float,
        also: Work | None = None,
        transformed: bool = False,
    ) -> None:
        """The events in ``segments`` are resolved; the others of ``batch`` go on in ``parts``.

        The batch stays in the journal, with the segments that are settled, until its sources'
        positions have passed them: a restart must not take those events up again. ``safe_keys``: of some
        segments each; ``also``: what else becomes durable with it, or not at all.
        """
        changes = self._changes(now)
        changes.keys += map(packed_keys, safe_keys)
        partly = frozen.pack(segments) if segments and parts else None
        if self.named and batch.segments and (named := self.named.get(batch.segments[0].chunk.source)):
            named.resolved(batch.id, sink, segments)
        if not segments:
            changes.gone.append(batch.id)
        else:
            self._look_beyond = True
            places = [(s.chunk.source, s.chunk.start, s.chunk.end) for s in segments]
            self._settled.add(sink, batch.id, places)
            if not partly:
                changes.settled.append(batch.id)
        if partly or letters or also:

            def write(connection: sqlite3.Connection) -> None:
                if partly:
                    frozen.settle_part(connection, batch.id, partly)
                if letters:
                    insert_letters(connection, letters, now)
                if also:
                    also(connection)

            self._database.note(write)
        for number, part in enumerate(parts):  # a restart takes them up in the order of these times
            self.freeze(part, sink=sink, now=now + number * 1e-6, transformed=transformed)

    def _changes(self, now: float) -> frozen.Changes:
        """Where changes to batches go that share the next commit."""
        if self._noted is None or self._noted[0] != self._database.groups:
            changes = frozen.Changes(now)
            self._noted = (self._database.groups, changes)
            self._database.note(changes.write)
        return self._noted[1]

    def drop(self, batch_ids: Sequence[str]) -> None:
        """Batches that cannot be rebuilt: their source is no longer what it was."""
        self._database.note(lambda c: frozen.delete(c, batch_ids))
        for named in self.named.values():
            named.gone(batch_ids)

    def adopt(self, batches: Sequence[FrozenBatch], *, now: float) -> None:
        """Batches of another process, which this one goes on with: as its own."""
        changes = self._changes(now)
        for one in batches:
            changes.rows[one.id] = frozen.row_of_frozen(one)
            if one.settled:
                self._settled.add(one.sink, one.id, [segment[:3] for segment in one.segments])
        self._look_beyond = True

    def retried(
        self,
        *,
        delivered: Sequence[int],
        safe_keys: Sequence[bytes],
        failed: Sequence[tuple[int, DeadLetter]],
        in_parts: Sequence[int] = (),
        shared: Sequence[int] = (),
        copies: Sequence[DeadLetter] = (),
        now: float,
        also: Work | None = None,
    ) -> None:
        """Outcomes of dead letters (by number) that were sent again. ``in_parts``: these were not taken and
        go on in other requests. ``shared``: delivered, though other sinks may lack the events. ``copies``:
        letters of events that failed with one of them."""
        packed = b"".join(safe_keys)

        def write(connection: sqlite3.Connection) -> None:
            if packed:
                connection.execute(_INSERT_KEYS, (now, packed))
            letter_leases.letters_delivered(connection, delivered, now)
            if shared:
                letter_leases.lacked_elsewhere(connection, shared)
            letter_leases.letters_failed(connection, failed, now)
            if in_parts:
                letter_leases.free_letters(connection, in_parts)
            if copies:
                insert_letters(connection, copies, now)
            if also:
                also(connection)

        self._database.note(write)

    def note(self, work: Work) -> None:
        """What somebody else writes, together with what is noted in the same breath."""
        self._database.note(work)

    def dead_letters(self, letters: Sequence[DeadLetter], *, now: float) -> None:
        """Events became dead letters without ever being in a batch."""
        self._changes(now).letters.append(letters)

    def safe(self, keys: Sequence[bytes], letters: Sequence[DeadLetter], *, now: float) -> None:
        """Events are resolved at all sinks: their keys; letters of copies that failed with one."""
        packed = packed_keys(keys)

        def write(connection: sqlite3.Connection) -> None:
            if packed:
                connection.execute(_INSERT_KEYS, (now, packed))
            if letters:
                insert_letters(connection, letters, now)

        self._database.note(write)

    def trail(self, step: Row) -> None:
        """What became of events, for a person who looks for one."""
        self._changes(step[0]).steps.append(step)

    def moved(self, source: int, position: int, line: int, mark: Mark = NO_MARK) -> None:
        """All events of ``source`` before ``position`` are resolved."""
        self._positions[source] = (position, line)
        self._marks[source] = mark
        self._moved.add(source)

    def superseded(self, source: int) -> None:
        """It goes on under another number: of this one nothing is read again, and what is settled of it need
        not be known."""
        self._positions[source] = (_PASSED, 1)
        self._look_beyond = True

    def processed(
        self, by: str, chunk: Chunk, positions: Positions, *, now: float, also: Work | None = None
    ) -> None:
        """``by`` need not see these events of a chunk again, though it may be read again: known until its
        position has passed them. On disk together with ``also``, and what is noted in the same breath."""
        if also:
            self._database.note(also)
        if chunk.keeper is Keeper.JOURNAL:
            return
        name = f"{by}/{chunk.source}/{chunk.start}"
        if named := self.named.get(chunk.source):
            named.processed(by, chunk, positions)
        processed = self._changes(now).processed
        if name not in processed:
            self._settled.add(by, name, [(chunk.source, chunk.start, chunk.end)])
            self._look_beyond = True
        processed[name] = Segment(chunk, positions), by

    def reached(self, chunk: Chunk) -> Work:
        """That all events of its source before the end of this chunk are resolved, for another's commit."""
        end, tail = chunk.mark
        row = (chunk.end, chunk.next_line, digest(tail), len(tail), end, chunk.source)
        return lambda connection: connection.execute(MOVE, row)

    def dismissed(self, chunk: Chunk, positions: Iterable[int], *, now: float) -> None:
        """Events are resolved before they went anywhere: refused, or copies of others. A restart must not
        judge them again: by then the window may have forgotten what they are copies of."""
        chunk.dismissed.update(positions)
        if self._positions.get(chunk.source, (0, 1))[0] >= chunk.end:
            return  # it is not read again
        self.processed(DISMISSED, chunk, sorted(chunk.dismissed), now=now)

    def _note_positions(self) -> None:
        """Positions, and the settled batches that now lie before them, go in one transaction."""
        cursors = self._spool.positions() if self._spool and self._spool.is_shared else {}
        looks = self._look_beyond and self._looked_in != self._database.groups
        if not (self._moved or looks or cursors != self._noted_cursors):
            return
        self._look_beyond, self._looked_in = False, self._database.groups
        rows = []
        for source in self._moved:
            end, tail = self._marks.pop(source)
            rows.append((*self._positions[source], digest(tail), len(tail), end, source))
        self._moved.clear()
        passed = self._settled.take_passed(self._is_passed)
        if passed and self._noted and self._noted[0] == self._database.groups:
            self._noted[1].gone += passed
            passed = []
        new_cursors = [pair for pair in cursors.items() if self._noted_cursors.get(pair[0]) != pair[1]]
        self._noted_cursors = cursors
        if not (rows or passed or new_cursors):
            return

        def write(connection: sqlite3.Connection) -> None:
            if new_cursors:
                connection.executemany("INSERT OR REPLACE INTO cursors VALUES (?, ?)", new_cursors)
            if rows:
                connection.executemany(MOVE, rows)
            if passed:
                frozen.delete(connection, passed)

        self._database.note(write)

    def _is_passed(self, sink: str, place: Place) -> bool:
        """Nothing of this chunk will be read again for this sink."""
        source, start, end = place
        if self._spool and source == self._spool.source:
            return not self._spool.is_open(sink, start)
        return self._positions.get(source, (0, 1))[0] >= end
