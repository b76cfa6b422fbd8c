"""What became of every event, written down once: ledger, receipts, window, journal; and for people tap and
trail. For intake and sinks.

One place, so that an event that is resolved is counted, its key known or free again, and its chunk's receipt
settled together. A key is known from an event's acceptance where the spool keeps it, else from its delivery.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import itemgetter, methodcaller
from typing import TYPE_CHECKING, Protocol

from ingestd.config.sections import TrailConfig
from ingestd.core.chunk import Batch, Chunk, Keeper, Place, packed_keys
from ingestd.core.clock import Clock
from ingestd.core.ledger import Ledger
from ingestd.core.letter import DIGESTS, REASONS, DeadLetter, columns_of
from ingestd.core.reasons import Reason
from ingestd.core.receipt import Digests, Resolution
from ingestd.core.sequences import pick
from ingestd.delivery.recorder import Outcomes
from ingestd.processing.claim import WaitingCopy
from ingestd.processing.dedup import Window
from ingestd.recording.make_letters import letter_of_copy, letters_of_events
from ingestd.recording.outcome_journal import OutcomeJournal
from ingestd.recording.unconfirmed_events import UnconfirmedEvents
from ingestd.store.absent_sinks import send_settled_anyway
from ingestd.store.dead_letters import mark_keys_released
from ingestd.store.journal import EVERYWHERE, Journal
from ingestd.store.trail import INSERT, MAX_INFO, trim
from ingestd.store.writer import Work
from ingestd.telemetry.audit_entry import Audit, AuditEntry

if TYPE_CHECKING:
    from ingestd.telemetry.tap import Tap
    from ingestd.telemetry.tracing import Spans


class KeysReleased(Protocol):
    """Called with known keys that may be used again."""

    def __call__(self, digests: Sequence[bytes], /, *, now: float) -> None: ...


class EventRecorder:
    """``released`` is called with known keys that may be used again. ``copies_resolved`` is set when copies
    that waited for an event on its way are resolved; ``saw_copies`` is called with those that are duplicates:
    chunk and positions."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        window: Window,
        journal: OutcomeJournal,
        audit: Audit,
        clock: Clock,
        released: KeysReleased,
        unconfirmed: UnconfirmedEvents,
        saw_copies: Callable[[Chunk, Sequence[int]], None] | None = None,
    ) -> None:
        self.ledger = ledger
        self.unconfirmed = unconfirmed
        self.letter_claims: dict[bytes, tuple[Place, int]] = {}  # see ``KeyClaims``
        self.copies_resolved = asyncio.Event()
        self._window = window
        self._journal = journal
        self._audit = audit
        self._clock = clock
        self._released = released
        self._saw_copies = saw_copies
        self._freed: list[WaitingCopy] = []

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
            ledger.count_letters(reason, count)

    def refused(self, source: int, events: Sequence[tuple[bytes, Reason, str, str]]) -> None:
        """Events of producers that fail their schema. Their producers got that answer."""
        _, reason, detail, _ = events[0]
        self._audit(
            AuditEntry.INGESTION_REJECTED, source=source, count=len(events), reason=reason, first_error=detail
        )

    def unmatched(self, chunk: Chunk, count: int) -> None:
        """Events that match the pattern of no sink."""
        self.ledger.unmatched += count
        chunk.receipt.skipped += count
        self.settle(chunk, count)

    def duplicates(self, chunk: Chunk, count: int) -> None:
        if count:
            self.ledger.duplicate += count
            self.settle(chunk, count)

    def rejected(self, chunk: Chunk, refusals: Mapping[int, tuple[Reason, str]]) -> None:
        """Events, by index in the chunk, that are no candidates for delivery."""
        letters = letters_of_events(chunk, refusals)
        self._journal.dead_letters(letters, now=self._clock.wall())
        self.count(letters)
        self.settle(chunk, len(letters))
        first = letters[0]
        self._audit(
            AuditEntry.INGESTION_REJECTED,
            source=chunk.source,
            count=len(letters),
            reason=first.reason,
            first_line=first.line,
            first_error=first.detail,
        )

    def settle(self, chunk: Chunk, count: int) -> None:
        """Events of a chunk, counted already, are resolved without a sink."""
        self.ledger.in_flight -= count
        chunk.receipt.settle(count)

    # --- the sinks ---

    def expect(self, sink: str, chunk: Chunk, count: int, *, resolved: int = 0, unmatched: int = 0) -> None:
        """See ``SinkRecord.expect``."""
        if (resolved or unmatched) and chunk.receipt.final:
            self.accepted(-resolved)
            chunk.receipt.settle(resolved)
            self.unmatched(chunk, unmatched)
        chunk.receipt.expect(sink, count)
        if count:
            return
        ended = chunk.receipt.resolve(sink, (), ())
        keys, copies = self.resolve(chunk, ended)
        if keys or copies:
            self._journal.safe(keys, copies, now=self._clock.wall())
        self.finish(sink, chunk, 0, ended)

    def resolve(self, chunk: Chunk, resolved: Resolution) -> tuple[Sequence[bytes], Sequence[DeadLetter]]:
        """Count what is resolved with a sink's outcome. Gives the keys to note as known, and the letters of
        copies that are resolved like a dead letter. ``finish`` when that was noted."""
        ledger = self.ledger
        ledger.delivered += resolved.delivered()
        ledger.unmatched += resolved.unmatched
        ledger.dropped += resolved.dropped
        ledger.in_flight -= resolved.count - resolved.unconfirmed
        if resolved.failed:
            self.count(resolved.failed)
        if chunk.keeper is Keeper.SPOOL:  # keys are known since their events are there
            if resolved.lost:
                self.free(columns_of(resolved.lost)[DIGESTS])
            return (), ()
        copies = self.resolve_keys(resolved.keys, resolved.lost)
        return (resolved.keys, copies) if resolved.durable else ((), ())

    def finish(self, sink: str, chunk: Chunk, count: int, resolved: Resolution) -> None:
        """``count`` events of the chunk were resolved at this sink, and ``resolved`` with that."""
        if resolved.in_store:
            self._journal.note(partial(mark_keys_released, letters=resolved.in_store))
        if chunk.settled_keys and resolved.keys:
            self.known_elsewhere(chunk, resolved.keys)
        if resolved.positions and resolved.durable:
            self._journal.processed(EVERYWHERE, chunk, resolved.positions, now=self._clock.wall())
        chunk.receipt.finish(sink, count)

    def known_elsewhere(self, chunk: Chunk, keys: Sequence[bytes]) -> None:
        """Events with these keys are safe, and the keys noted in the same breath. Sinks that had settled some
        of them in an earlier process did not get these: see ``absent_sinks``."""
        for sink, there in chunk.settled_keys.items():
            if positions := [there[key] for key in keys if key in there]:
                offsets = sorted({chunk.place(position)[0] for position in positions})
                work = partial(send_settled_anyway, sink=sink, source=chunk.source, offsets=offsets)
                self._journal.note(work)

    def free(self, digests: Iterable[bytes | None]) -> None:
        """Events with these keys are accepted again."""
        if known := [digest for digest in digests if digest]:
            self._window.forget(known)
            self._released(known, now=self._clock.wall())

    def free_copies(self, copies: Sequence[WaitingCopy]) -> None:
        """A broker's events that were copies of what is not on disk after all."""
        self._freed += copies

    def take_freed(self, sources: Collection[int]) -> list[WaitingCopy]:
        """Those of these sources: they are to be sent in its place."""
        mine = [copy for copy in self._freed if copy.chunk.source in sources]
        if mine:
            self._freed = [copy for copy in self._freed if copy.chunk.source not in sources]
        return mine

    # --- dead letters that are sent again ---

    def state_of(self, digest: bytes) -> str:
        """``"known"``: an event with this key is safe; ``"pending"``: one is on its way; ``"new"``."""
        return self._window.state_of_digest(digest)

    def reclaim(self, digests: Sequence[bytes]) -> None:
        """Copies of these events wait until they are resolved."""
        self._window.reclaim(digests)

    def resolve_keys(self, safe: Sequence[bytes], lost: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Confirm and release keys. Copies that waited are duplicates, or dead letters: gives these."""
        copies = self._window.confirm(safe, self._clock.monotonic()) if safe else []
        if copies:
            for chunk, positions in (by_chunk := _by_chunk(copies)).items():
                self.duplicates(chunk, len(positions))
                if self._saw_copies:
                    self._saw_copies(chunk, positions)
            self._dismissed(by_chunk)
        if not lost:
            return []
        digests = columns_of(lost)[DIGESTS]
        released = self._window.release_by_key([*filter(None, digests)])
        if not released:
            return []
        last_first = range(len(digests) - 1, -1, -1)
        of = {digests[at]: lost[at] for at in last_first if digests[at] in released}
        failed = [(copy, of[key]) for key, found in released.items() for copy in found]
        for copy, letter in failed:
            self.ledger.count_letters(letter.reason)
            self.settle(copy.chunk, 1)
        self._dismissed(_by_chunk([copy for copy, _ in failed]))
        return [letter_of_copy(copy.chunk, copy.position, letter) for copy, letter in failed]

    def _dismissed(self, by_chunk: Mapping[Chunk, Sequence[int]]) -> None:
        """Copies are resolved: a restart must not take them for events."""
        if by_chunk:
            self.copies_resolved.set()
        for chunk, positions in by_chunk.items():
            self._journal.dismissed(chunk, positions, now=self._clock.wall())

    def count(self, letters: Sequence[DeadLetter]) -> None:
        for reason, count in Counter(columns_of(letters)[REASONS]).items():
            self.ledger.count_letters(reason, count)


def _by_chunk(copies: Iterable[WaitingCopy]) -> dict[Chunk, list[int]]:
    found: dict[Chunk, list[int]] = {}
    for chunk, mine in groupby(copies, key=itemgetter(0)):  # nearly always all of them are of one
        found.setdefault(chunk, []).extend(map(itemgetter(1), mine))
    return found


class EventTrace:
    """Samples of events as they pass (the tap), and where one is (the trail). Called for chunks and batches,
    never for each event. Without ``open`` there is no trail. ``spans``: None where nothing is traced."""

    def __init__(self, tap: "Tap", spans: "Spans | None" = None) -> None:
        self.tap, self.spans = tap, spans
        self._config = TrailConfig(max_age=0)

    def open(self, journal: Journal, config: TrailConfig) -> None:
        """``config.max_age`` of 0: no trail."""
        self._journal = journal
        self._config = config

    def accepting(self, digests: Digests, owners: Sequence[tuple[str, int]], now: float) -> Work | None:
        """What is written with events that are accepted. ``owners``: (producer, how many with a key)."""
        if not self._config.max_age or not (packed := packed_keys(digests)):
            return None
        row = now, "accepted", "", "", owners_of(owners), packed
        return methodcaller("execute", INSERT, row)

    def submitted(
        self,
        chunks: Sequence[Sequence[bytes]],
        copies: Sequence[bytes],
        refused: Sequence[tuple[bytes, Reason, str, str]],
    ) -> None:
        """For a tap: called only while one is open."""
        for events in chunks:
            self.tap.show("accepted", events)
        self.tap.show("duplicate", copies)
        for event, reason, detail, _ in refused:
            self.tap.show("rejected", [event], why=f"{reason}: {detail}")

    def resolved(self, batch: Batch, sink: str, outcomes: Outcomes, now: float) -> None:
        """What became of a batch, at its end."""
        delivered, events, digests = outcomes.delivered, batch.events, batch.digests
        failed = [(one.index, f"{one.reason}: {one.detail}") for one in outcomes.failed]
        if self._config.max_age:
            if delivered:
                whole = len(delivered) == len(events)
                keys = digests if whole else pick(digests, delivered)
                what = "taken" if outcomes.remote_ids else "delivered"
                if packed := packed_keys(keys):
                    self._journal.trail((now, what, sink, batch.id, str(batch.attempts), packed))
            for index, why in failed:
                if key := digests[index]:
                    self._journal.trail((now, "dead_lettered", sink, batch.id, why[:MAX_INFO], key))
            if outcomes.dropped and (packed := packed_keys(pick(digests, outcomes.dropped))):
                self._journal.trail((now, "dropped", sink, "", "0", packed))
        if self.tap.open:
            self.tap.show("dropped", [events[index] for index in outcomes.dropped], sink=sink)
            self.tap.show("delivered", [events[index] for index in delivered], sink=sink, batch=batch.id)
            for index, why in failed:
                self.tap.show("dead_lettered", [events[index]], sink=sink, batch=batch.id, why=why)

    def trim(self, now: float) -> None:
        """Forget what is too old or too much."""
        config = self._config
        self._journal.note(partial(trim, not_before=now - config.max_age, max_bytes=config.max_bytes))


def owners_of(owners: Sequence[tuple[str, int]], limit: int = MAX_INFO) -> str:
    """``name*count`` a line, or one name; more than ``limit`` characters: the names alone, as many as fit."""
    runs: list[tuple[str, int]] = []
    for name, count in owners:
        if runs and runs[-1][0] == name:
            runs[-1] = name, runs[-1][1] + count
        elif count:
            runs.append((name, count))
    if len(runs) < 2:
        return runs[0][0] if runs else ""
    text = "\n".join(f"{name}*{count}" for name, count in runs)
    if len(text) <= limit:
        return text
    return ", ".join(sorted({name or "anonymous" for name, _ in runs}))[:limit]
