"""Dead letters of one sink that are sent again: what becomes of them, and which are not sent after all.

A part of ``sink_recorder.py``. A letter's key was free when it was made, so its producer may have
sent the event again since, and that one counts. While a letter is on its way its key is claimed: copies
wait, and are resolved as it is.
"""

import sqlite3
from collections.abc import Callable, Sequence

from ingestd.core.chunk import Batch, Place
from ingestd.core.clock import Clock
from ingestd.core.ledger import SinkLedger
from ingestd.core.letter import DeadLetter
from ingestd.delivery.recorder import Outcomes
from ingestd.recording.event_recorder import EventRecorder
from ingestd.recording.make_letters import letters_that_failed_again
from ingestd.recording.outcome_journal import OutcomeJournal
from ingestd.store import letter_leases
from ingestd.store.dead_letters import FIRST_RETRY_S
from ingestd.store.writer import Work
from ingestd.telemetry.audit_entry import Audit, AuditEntry


class RetriedLetters:
    """``warn`` is called when letters begin to wait for a person."""

    def __init__(
        self,
        sink: str,
        ledger: SinkLedger,
        events: EventRecorder,
        journal: OutcomeJournal,
        audit: Audit,
        clock: Clock,
        warn: Callable[[str], None],
    ) -> None:
        self._sink = sink
        self._ledger = ledger
        self._events = events
        self._claims = KeyClaims(events.letter_claims)
        self._journal = journal
        self._audit = audit
        self._clock = clock
        self._warn = warn
        self._doubted: set[bytes] = set()  # keys that were found known: their letters are leased once more
        self._out: dict[bytes, str] = {}  # keys that letters on their way have claimed, and their batches

    def withdraw(self, batch: Batch) -> Batch | None:
        """Called before each request. Gives the batch without letters whose events were accepted again, or
        are on their way otherwise; None: none is left. An ambiguous request stays whole or is not sent."""
        superseded, later, doubtful = self._superseded(batch)
        if not (superseded or later or doubtful):
            self._claim(batch)
            return batch
        gone = {*superseded, *later, *doubtful}
        rest = [index for index in range(len(batch)) if index not in gone]
        aside: list[int] = []
        if batch.ambiguous:
            whole = list(range(len(batch)))
            if doubtful:
                superseded, later, doubtful = [], [], whole
            elif superseded:
                aside = sorted([*rest, *later])
                later = []
            else:
                later = whole
            rest = []
        self._note(batch, superseded=superseded, later=later, doubtful=doubtful, aside=aside)
        return self.withdraw(batch.part(rest)) if rest else None

    def put_aside(self, count: int) -> None:
        """``count`` letters were due, and wait for a person now."""
        for ledger in (self._ledger, self._events.ledger):
            ledger.retried_aside += count

    def resolve(self, batch: Batch, outcomes: Outcomes, *, also: Work | None) -> None:
        """``also``: what else is written with it."""
        delivered, parts = outcomes.delivered, outcomes.parts
        safe = [digest for index in delivered if (digest := batch.digests[index])]
        failed = letters_that_failed_again(batch, outcomes.failed)
        numbers = [batch.letters[index] for index in delivered]
        for part in parts:
            mine = [digest for digest in part.digests if digest and self._out.get(digest) == batch.id]
            self._out.update(dict.fromkeys(mine, part.id))
        claimed = [letter for number, letter in failed if letter.digest and number in batch.claims]
        unclaimed = {digest for digest in (*safe, *map(_digest_of, claimed)) if self._give_up(digest)}
        copies = self._events.resolve_keys(safe, [one for one in claimed if _digest_of(one) in unclaimed])
        for ledger in (self._ledger, self._events.ledger):
            ledger.retried_delivered += len(delivered)
            ledger.retried_failed += len(failed)
        self._journal.retried(
            delivered=numbers,
            shared=numbers if batch.claims else (),
            safe_keys=safe,
            failed=failed,
            in_parts=[number for part in parts for number in part.letters],
            copies=copies,
            now=self._clock.wall(),
            also=also,
        )

    def _claim(self, batch: Batch) -> None:
        pairs = zip(batch.letters, batch.digests, strict=True)
        places = {
            digest: batch.claims[number] for number, digest in pairs if digest and number in batch.claims
        }
        for digest, place in places.items():
            if self._out.get(digest) != batch.id:
                self._claims.take(digest, place)
        claimed = [*places]
        self._out.update(dict.fromkeys(claimed, batch.id))
        self._events.reclaim(claimed)

    def _give_up(self, digest: bytes) -> bool:
        """A letter is resolved. True: none of its event's letters, here or of other sinks, is on its way."""
        self._doubted.discard(digest)
        return self._out.pop(digest, None) is None or self._claims.give(digest)

    def _superseded(self, batch: Batch) -> tuple[list[int], list[int], list[int]]:
        """Indices of letters whose events are safe by another way, of those that may be soon, and of those
        that are leased once more: with several sinks a key may have become known since the lease by a letter
        of the same event at another one. Then the store knows that this sink lacks it."""
        superseded: list[int] = []
        later: list[int] = []
        doubtful: list[int] = []
        seen: set[bytes] = set()
        for index, (number, digest) in enumerate(zip(batch.letters, batch.digests, strict=True)):
            if digest is None or number not in batch.claims or self._out.get(digest) == batch.id:
                continue
            state = self._events.state_of(digest)
            elsewhere = self._claims.are_of(digest, batch.claims[number])
            if digest in seen or digest in self._out or (state == "pending" and not elsewhere):
                later.append(index)
            elif state == "known":
                if digest not in self._doubted:
                    self._doubted.add(digest)
                    doubtful.append(index)
                else:
                    superseded.append(index)
            seen.add(digest)
        return superseded, later, doubtful

    def _note(
        self,
        batch: Batch,
        *,
        superseded: Sequence[int],
        later: Sequence[int],
        doubtful: Sequence[int],
        aside: Sequence[int],
    ) -> None:
        now, ambiguous = self._clock.wall(), batch.ambiguous
        elsewhere, back, again, left = (
            [batch.letters[at] for at in some] for some in (superseded, later, doubtful, aside)
        )
        self._doubted.difference_update(digest for at in superseded if (digest := batch.digests[at]))

        def write(connection: sqlite3.Connection) -> None:
            letter_leases.letters_superseded(connection, elsewhere, now)
            letter_leases.give_back(connection, back, now + FIRST_RETRY_S)
            letter_leases.give_back(connection, again, now)
            letter_leases.leave_to_a_person(connection, left, letter_leases.MATES_SUPERSEDED)
            if not ambiguous:
                letter_leases.free_letters(connection, [*back, *again])

        self._journal.note(write)
        for ledger in (self._ledger, self._events.ledger):
            ledger.retried_duplicate += len(superseded)
        if superseded:
            self._audit(
                AuditEntry.RETRIED_DUPLICATE, sink=self._sink, request_id=batch.id, count=len(superseded)
            )
        if aside:
            self.put_aside(len(aside))
            self._warn(
                f"{self._sink}: {len(aside)} dead letters wait for a person: their request may have been"
                " taken, and another event of it was accepted again meanwhile; see `ingestd dlq list`"
            )


def _digest_of(letter: DeadLetter) -> bytes:
    return letter.digest or b""


class KeyClaims:
    """Keys that dead letters on their way have claimed, with their events' places and how many letters do;
    ``claims`` is the same one at all sinks, and bounded by what is leased.

    An event that several sinks gave up has a letter at each, and its key was free when they were made. These
    letters go out side by side: to none of them the others are a sign that the event was accepted again.
    """

    def __init__(self, claims: dict[bytes, tuple[Place, int]]) -> None:
        self._claims = claims

    def take(self, digest: bytes, place: Place) -> None:
        count = self._claims[digest][1] if digest in self._claims else 0
        self._claims[digest] = place, count + 1

    def are_of(self, digest: bytes, place: Place) -> bool:
        """Whether the key is claimed, by letters of the event at this place."""
        return digest in self._claims and self._claims[digest][0] == place

    def give(self, digest: bytes) -> bool:
        """One letter is resolved. True: no other claims the key."""
        place, count = self._claims.pop(digest, (None, 1))
        if place is None or count <= 1:
            return True
        self._claims[digest] = place, count - 1
        return False
