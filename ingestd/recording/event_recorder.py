"""What happens to events, written down: ledger, receipts, window, journal. For intake and sinks' books.

One place, so that an event that had its end is counted, its key confirmed or free again, and its chunk's
receipt settled together.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Protocol

from ingestd.core.batch import Batch
from ingestd.core.chunk import Chunk, pick_segments
from ingestd.core.clock import Clock
from ingestd.core.ledger import Ledger
from ingestd.core.letter import DeadLetter
from ingestd.core.positions import Positions
from ingestd.core.reasons import Reason
from ingestd.core.receipt import FanOutReceipt
from ingestd.processing.dedup import WaitingCopy, Window
from ingestd.recording.key_claims import KeyClaims
from ingestd.recording.make_letters import letter_of_copy, letter_of_event
from ingestd.recording.unconfirmed_events import UnconfirmedEvents
from ingestd.store.dead_letters import mark_freed
from ingestd.store.journal import Journal
from ingestd.telemetry.audit_entry import Audit, AuditEntry


class KeysReleased(Protocol):
    """Told of keys that are free again although they were known."""

    def __call__(self, digests: Sequence[bytes], /, *, now: float) -> None: ...


class EventRecorder:
    """``spooled``: keys are known as soon as their events are in the spool, else once they have been taken
    by their sinks. ``freed`` is told of known ones that are free again."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        window: Window,
        journal: Journal,
        audit: Audit,
        clock: Clock,
        freed: KeysReleased,
        spooled: bool = False,
    ) -> None:
        self.ledger = ledger
        self.confirming = UnconfirmedEvents(ledger)
        self.letter_claims = KeyClaims()
        self.copies_resolved = asyncio.Event()
        self._window = window
        self._journal = journal
        self._audit = audit
        self._clock = clock
        self._freed = freed
        self._spooled = spooled

    # --- the intake ---

    def accepted(self, count: int) -> None:
        self.ledger.accepted += count
        self.ledger.in_flight += count

    def submitted(self, *, accepted: int, duplicates: int, rejected: Mapping[Reason, int]) -> None:
        """Events that producers were answered for; the ``accepted`` ones are on their way."""
        ledger = self.ledger
        ledger.accepted += accepted + duplicates + sum(rejected.values())
        ledger.in_flight += accepted
        ledger.duplicate += duplicates
        for reason, count in rejected.items():
            ledger.buried(reason, count)

    def refused(self, source: int, events: Sequence[tuple[bytes, Reason, str]]) -> None:
        """Events of producers that fail their schema: who sent them was told."""
        _, reason, detail = events[0]
        self._audit(
            AuditEntry.INGESTION_REJECTED, source=source, count=len(events), reason=reason, first_error=detail
        )

    def damaged(self, count: int) -> None:
        """Events that were accepted are damaged where they were kept; what is left of them is put aside."""
        self.ledger.buried(Reason.DAMAGED, count)
        self.ledger.in_flight -= count

    def unmatched(self, count: int) -> None:
        """Events that match the pattern of no sink. Whoever had them settles their receipt."""
        self.ledger.unmatched += count
        self.ledger.in_flight -= count

    def duplicates(self, chunk: Chunk, count: int) -> None:
        if count:
            self.ledger.duplicate += count
            self.ended(chunk, count)

    def rejected(self, chunk: Chunk, refusals: Mapping[int, tuple[Reason, str]]) -> None:
        """Events, by index in the chunk, that are no candidates for delivery."""
        letters = [
            letter_of_event(chunk, index, reason, detail) for index, (reason, detail) in refusals.items()
        ]
        self._journal.buried(letters, now=self._clock.wall())
        self.count(letters)
        self.ended(chunk, len(letters))
        first = letters[0]
        self._audit(
            AuditEntry.INGESTION_REJECTED,
            source=chunk.source,
            count=len(letters),
            reason=first.reason,
            first_line=first.line,
            first_error=first.detail,
        )

    # --- the sinks' books ---

    def settled(
        self, batch: Batch, safe: list[bytes], letters: list[DeadLetter], *, confirming: int
    ) -> tuple[list[bytes], list[DeadLetter]]:
        """Events that go to one sink had their end there: ``safe`` are the keys of delivered ones.

        Gives the keys to note as known, and letters of copies that share a dead letter's fate.
        ``confirming`` of the delivered ones stay in flight.
        """
        self.count(letters)
        self.ledger.in_flight += confirming  # settling their receipts takes them out
        if not self._spooled:
            return safe, self.share_fate(safe, letters)
        self.free([letter.digest for letter in letters if letter.digest])
        return [], []  # known since the spool had them

    def failed_at(
        self, batch: Batch, indices: Sequence[int], letters: Sequence[DeadLetter]
    ) -> list[DeadLetter]:
        """Events that go to several sinks became dead letters of one, at ``indices`` of its batch. Gives the
        letters of those that all their sinks have given up now, where their keys are free with that."""
        where = (
            (segment.chunk.fate, position)
            for segment in pick_segments(batch.segments, indices)
            for position in segment.positions
        )
        lost = [
            letter
            for (fate, position), letter in zip(where, letters, strict=True)
            if fate and fate.fail(position, letter) and letter.digest
        ]
        if not self._spooled:
            return []
        self.free([letter.digest for letter in lost if letter.digest])
        return lost

    def fate_known(
        self,
        fate: FanOutReceipt,
        digests: Sequence[bytes | None] = (),
        positions: Positions = (),
        *,
        durable: bool = True,
    ) -> None:
        """All sinks are done with a chunk. ``digests``, of the events at ``positions``: only where keys
        are not known before that.

        ``durable`` False: a sink gave up, and the chunk will be read again; then its keys must be free. What
        an API has yet to confirm stays in flight; its key is known, and free again if it fails.
        """
        fate.known = True
        failed = [letter for at, (_, letter) in fate.failed.items() if at not in fate.confirming]
        decided = fate.events - len(fate.confirming)
        self.ledger.delivered += decided - len(failed)
        self.count(failed)
        self.ledger.in_flight -= decided
        if fate.unmatched:
            self.unmatched(fate.unmatched)
        if self._spooled or not digests:
            return
        if lost := fate.lost():
            kept = zip(positions, digests, strict=True)
            digests = [digest for position, digest in kept if position not in lost]
        safe = list(filter(None, digests))
        letters = self.share_fate(safe, list(lost.values()))
        if durable:
            self._journal.safe(safe, letters, now=self._clock.wall())
            if lost:
                self._journal.note(partial(mark_freed, letters=list(lost.values())))

    def free(self, digests: Sequence[bytes]) -> None:
        """Who sends these again is heard again."""
        if digests:
            self._window.forget(digests)
            self._freed(digests, now=self._clock.wall())

    # --- dead letters that are sent again ---

    def state_of(self, digest: bytes) -> str:
        """``"known"``: an event with this key is safe; ``"pending"``: one is on its way; ``"new"``."""
        return self._window.state_of_digest(digest)

    def reclaim(self, digests: Sequence[bytes]) -> None:
        """Copies of these events share their fate until it is told."""
        self._window.reclaim(digests)

    def share_fate(self, safe: Sequence[bytes], letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Confirm and release keys; copies that waited are duplicates, or dead letters like their model."""
        copies = self._window.confirm(safe, self._clock.monotonic()) if safe else []
        for follower in copies:
            self.duplicates(follower.chunk, 1)
            self.copies_resolved.set()
        self._dismissed(copies)
        if not self._window.follower_count:
            self._window.release([letter.digest for letter in letters if letter.digest])
            return []
        shared: list[DeadLetter] = []
        for letter in letters:
            if letter.digest is None:
                continue
            copies = self._window.release([letter.digest])
            for follower in copies:
                shared.append(letter_of_copy(follower.chunk, follower.position, letter))
                self.ledger.buried(letter.reason)
                self.ended(follower.chunk, 1)
                self.copies_resolved.set()
            self._dismissed(copies)
        return shared

    def _dismissed(self, copies: Sequence[WaitingCopy]) -> None:
        """Copies had their end: a restart must not take them for events."""
        by_chunk: dict[Chunk, list[int]] = {}
        for chunk, position in copies:
            by_chunk.setdefault(chunk, []).append(position)
        for chunk, positions in by_chunk.items():
            self._journal.dismissed(chunk, positions, now=self._clock.wall())

    def count(self, letters: Sequence[DeadLetter]) -> None:
        for reason, count in Counter(letter.reason for letter in letters).items():
            self.ledger.buried(reason, count)

    def ended(self, chunk: Chunk, count: int) -> None:
        self.ledger.in_flight -= count
        chunk.receipt.settle(count)
