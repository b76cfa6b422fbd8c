"""The journal of a share: notes of what happens, written by one append to the share's log.

It stands where ``store/journal.py`` stands in a process of its own: a lane has a batch frozen here before its
first request, and that append carries the outcomes of those before it.
"""

import asyncio
import math
import random
import sqlite3
from collections.abc import Sequence

from ingestd.cluster import letter_stream
from ingestd.cluster.journal_notes import (
    MAX_RECORD_BYTES,
    JournalNotes,
    in_groups,
    places_of,
    size_of_change,
    size_of_frozen,
)
from ingestd.cluster.letter_mirror import LetterMirror
from ingestd.cluster.letter_stream import LetterChange
from ingestd.cluster.log_retention import LogRetention
from ingestd.cluster.names import Share, StreamNames
from ingestd.cluster.share_log import Frozen, LogFenced, Reached, Record, Settled, ShareCounts, ShareLog
from ingestd.cluster.share_progress import ShareProgress
from ingestd.cluster.share_state import ShareState
from ingestd.cluster.stream_window import StreamWindow
from ingestd.core.chunk import Batch, Chunk, Segment, packed_keys
from ingestd.core.clock import Clock
from ingestd.core.ledger import Ledger
from ingestd.core.letter import DeadLetter
from ingestd.core.receipt import Digests, Positions
from ingestd.sources.nats.connection import NatsConnection
from ingestd.store import letter_leases
from ingestd.store.frozen_batches import digest_of, pack_positions
from ingestd.store.writer import Work

_STILL_OURS_S = 30.0
"""After so long without an append somebody else may own the share. Less than the time for which the server
knows the id of a letter."""


class StreamJournal:
    """``owner``: this worker; ``letters``: those of the share that may be sent again. ``durable_floor``:
    chunks up to there are settled, and that is stored. ``news`` is set when there is something to store or
    acknowledge; who looks clears it."""

    def __init__(
        self,
        connection: NatsConnection,
        names: StreamNames,
        share: Share,
        log: ShareLog,
        *,
        owner: str,
        window: StreamWindow,
        ledger: Ledger,
        state: ShareState,
        letters: LetterMirror,
        clock: Clock,
        rng: random.Random,
    ) -> None:
        self._connection = connection
        self._names = names
        self._share = share
        self._log = log
        self._owner = owner
        self.since = clock.wall()
        self._window = window
        self._ledger = ledger
        self._clock = clock
        self._rng = rng
        self._notes = JournalNotes()
        self._again = letters
        letters.changed = self._mark
        self._dirty = False
        self.news = asyncio.Event()
        self._appended_at = -math.inf
        self._failed: Exception | None = None
        self._turn = asyncio.Lock()
        self._open: set[str] = {batch.id for batch in state.open}
        self._retention = LogRetention(log, state.kept)
        self.progress = ShareProgress(state)
        self._letters_done = state.letters_done
        self._counts = state.counts
        self._reached = state.reached
        self._stream = state.stream
        self.durable_floor = state.reached.floor

    # --- notes ---

    def _mark(self) -> None:
        self._dirty = True
        self.news.set()

    def freeze(self, batch: Batch, *, sink: str, now: float, transformed: bool = False) -> None:
        """A batch is about to be sent for the first time."""
        assert not transformed, "a worker has no transforms"
        if batch.letters:
            self._again.freeze(batch)
            return
        keys = packed_keys(batch.digests)
        self._notes.frozen[batch.id] = Frozen(
            batch.id, now, len(batch.events), digest_of(batch), places_of(batch.segments), keys
        )
        self._open.add(batch.id)
        self._mark()

    def waits(self, batch: Batch) -> None:
        """What an earlier owner had frozen is in the log of the share."""

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
        """The events in ``segments`` are resolved; the others of ``batch`` go on in ``parts``."""
        del safe_keys, also, transformed  # its keys are noted since it was frozen
        left = b"".join(packed_keys(part.digests) for part in parts)
        self._notes.settled.append(Settled(batch.id, places_of(segments) if parts else None, left))
        self._open.discard(batch.id)
        self._add_letters(letters, now)
        for number, part in enumerate(parts):
            self.freeze(part, sink=sink, now=now + number * 1e-6)
            part.noted = True
        self._mark()

    def dead_letters(self, letters: Sequence[DeadLetter], *, now: float) -> None:
        """Events became dead letters without ever being in a batch."""
        self._add_letters(letters, now)

    def dismissed(self, chunk: Chunk, positions: Sequence[int], *, now: float) -> None:
        """Events are resolved without a batch: copies of others, or not for this sink."""
        del now
        chunk.dismissed.update(positions)
        self._notes.dismissed[chunk.start] = pack_positions(sorted(chunk.dismissed))
        self._mark()

    def safe(self, keys: Sequence[bytes], letters: Sequence[DeadLetter], *, now: float) -> None:
        """Letters of copies of what failed; keys are noted with their batches."""
        del keys
        self._add_letters(letters, now)

    def passed(self, chunk: int, settled: int) -> None:
        """A chunk of which so many events are settled since an earlier owner does not come any more."""
        self.progress.read(chunk, settled, settled=settled)
        self._mark()

    def moved(self, floor: int) -> None:
        """Every chunk up to this one is settled."""
        self.progress.moved(floor)
        self._mark()

    def drop(self, batch_ids: Sequence[str]) -> None:
        """Batches that cannot be rebuilt: their events go out in others."""
        self._notes.settled += [Settled(batch_id, [], b"") for batch_id in batch_ids]
        self._open.difference_update(batch_ids)
        self._mark()

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
        """See ``Journal.retried``."""
        del shared, also  # a share has one sink and no lake

        def write(rows: sqlite3.Connection) -> None:
            letter_leases.letters_delivered(rows, delivered, now)
            letter_leases.letters_failed(rows, failed, now)
            if in_parts:
                letter_leases.free_letters(rows, in_parts)

        self._again.change(write)
        self._again.resolved(in_parts)
        self._notes.known += safe_keys
        self._add_letters(copies, now)
        self._mark()

    def note(self, work: Work) -> None:
        """Of letters that are sent again."""
        self._again.change(work)

    def processed(self, by: str, chunk: Chunk, positions: Positions, *, now: float) -> None:
        """A chunk of a share goes to one sink, which notes it batch by batch."""
        raise AssertionError(f"{by}: a chunk of a share has one sink")

    def _add_letters(self, letters: Sequence[DeadLetter], now: float) -> None:
        for letter in letters:
            packed = letter_stream.pack(letter, sink=self._share.sink, at=now, share=str(self._share))
            self._notes.letters.append(packed)
            if letter.digest and letter.key_released:
                self._notes.free.append(letter.digest)
            self._mark()

    # --- on disk ---

    async def commit(self) -> None:
        """All notes are stored when it returns. Raises LogFenced, BrokerAway, JetStreamError: then they are
        not, and the share has to be let go."""
        async with self._turn:
            if self._failed:  # what this caller noted may have been in what could not be written
                raise self._failed
            if self._dirty:
                try:
                    await self._write()
                except BaseException as error:
                    self._failed = error if isinstance(error, Exception) else LogFenced()
                    raise

    async def begin(self) -> None:
        """This worker is the owner from here on."""
        self._mark()
        await self.commit()

    async def _write(self) -> None:
        """Mostly one record. Where one would be too long, letters go before what says why, and batches that
        are about to be sent after what they came from: a crash between two of them loses nothing."""
        notes, self._notes, self._dirty = self._notes, JournalNotes(), False
        before_it, counts = self._reached, _counts(self._ledger)
        reached = self.progress.reached(self._ledger.in_flight)
        again = self._again.take_notes()
        changes = [*again.changes.values()]
        *before, letters = in_groups(notes.letters, len, MAX_RECORD_BYTES)
        room = MAX_RECORD_BYTES - sum(map(len, letters))
        *earlier, changed = in_groups(changes, size_of_change, room, MAX_RECORD_BYTES)
        room = MAX_RECORD_BYTES - sum(map(len, letters)) - sum(map(size_of_change, changed))
        frozen, *after = in_groups([*notes.frozen.values()], size_of_frozen, room, MAX_RECORD_BYTES)
        known = b"".join(notes.known)
        for group in before:
            await self._append(self._record(before_it, letters=group))
        for some in earlier:
            await self._append(self._record(before_it, changes=some, known=known))
        self._counts, self._reached = counts, reached
        record = self._record(reached, frozen, letters, changed, known)
        record.settled, record.free = notes.settled, b"".join(notes.free)
        record.dismissed = [*notes.dismissed.items()]
        record.again, record.again_over = again.again, again.over
        await self._append(record)
        for more in after:
            await self._append(self._record(reached, more))
        if notes.letters or changes:
            async with self._again.turn:
                await self.store_letters(notes.letters)
                await self._again.store(changes)
            self.stored()
        self.durable_floor = reached.floor
        self.news.set()  # it can be acknowledged

    def stored(self) -> None:
        """Letters and changes of all records are in their stream: the next owner need not store them."""
        self._letters_done = self._log.last
        self._mark()

    async def store_letters(self, letters: Sequence[bytes]) -> None:
        for letter in letters:
            if self._clock.monotonic() - self._appended_at > _STILL_OURS_S:
                await self._append(self._record(self._reached))  # it fails if there is another owner
            await letter_stream.store(self._connection, self._names, letter)

    def _record(
        self,
        reached: Reached,
        frozen: Sequence[Frozen] = (),
        letters: Sequence[bytes] = (),
        changes: Sequence[LetterChange] = (),
        known: bytes = b"",
    ) -> Record:
        return Record(
            f"{self._rng.getrandbits(96):024x}",
            self._owner,
            self.since,
            self._clock.wall(),
            self._window.upto,
            reached,
            self._counts,
            frozen=[*frozen],
            letters=[*letters],
            letters_done=self._letters_done,
            stream=self._stream,
            known=known,
            changes=[*changes],
        )

    async def _append(self, record: Record) -> None:
        sequence = await self._log.append(record)
        self._appended_at = self._clock.monotonic()
        self._retention.add(sequence, record)

    async def forget(self, max_age_s: float) -> None:
        """What nobody needs any more: settled, and older than the window. The last record always stays."""
        await self._retention.forget(
            oldest=self._window.upto - max_age_s,
            floor=self.durable_floor,
            open_batches=self._open | self._again.open.keys(),
        )


def _counts(ledger: Ledger) -> ShareCounts:
    return ShareCounts(
        ledger.delivered,
        ledger.duplicate,
        ledger.dead_lettered,
        ledger.rejected,
        ledger.unmatched,
        ledger.retried_delivered,
    )
