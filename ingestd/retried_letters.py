"""Dead letters of one sink that are sent again: what becomes of them, and which are not sent after all.

A part of ``sink_book.py``. A letter's key was free when it was made, so its producer may have sent the event
again since, and that one counts. While a letter is on its way its key is claimed: copies share its fate.
"""

import sqlite3
from collections.abc import Callable, Sequence

from ingestd.bookkeeping import Bookkeeping
from ingestd.core.audit import Audit, Entry
from ingestd.core.batch import Batch
from ingestd.core.clock import Clock
from ingestd.core.ledger import SinkLedger
from ingestd.delivery.outcome import Burial
from ingestd.letters import letters_that_failed_again
from ingestd.store import letter_leases
from ingestd.store.journal import Journal
from ingestd.store.writer import Work


class RetriedLetters:
    """``warn`` hears of letters that wait for a person now."""

    def __init__(
        self,
        sink: str,
        ledger: SinkLedger,
        book: Bookkeeping,
        journal: Journal,
        audit: Audit,
        clock: Clock,
        warn: Callable[[str], None],
    ) -> None:
        self._sink = sink
        self._ledger = ledger
        self._book = book
        self._journal = journal
        self._audit = audit
        self._clock = clock
        self._warn = warn
        self._out: dict[bytes, str] = {}  # keys that letters on their way have claimed, and their batches

    def withdraw(self, batch: Batch) -> Batch | None:
        """Just before a request: what is left of it, or None, without letters whose events were accepted
        anew, or are on their way otherwise. A request that may have been taken stays whole or is not sent."""
        anew, later = self._superseded(batch)
        if not anew and not later:
            self._claim(batch)
            return batch
        gone = {*anew, *later}
        rest = [index for index in range(len(batch)) if index not in gone]
        aside: list[int] = []
        if batch.unanswered:
            if anew:
                aside = sorted([*rest, *later])
                later = []
            else:
                later = list(range(len(batch)))
            rest = []
        self._note(batch, anew=anew, later=later, aside=aside)
        return self.withdraw(batch.part(rest)) if rest else None

    def settled(
        self,
        batch: Batch,
        delivered: Sequence[int],
        buried: Sequence[Burial],
        parts: Sequence[Batch],
        *,
        also: Work | None,
    ) -> None:
        safe = [digest for index in delivered if (digest := batch.digests[index])]
        failed = letters_that_failed_again(batch, buried)
        for part in parts:
            mine = [digest for digest in part.digests if digest and self._out.get(digest) == batch.id]
            self._out.update(dict.fromkeys(mine, part.id))
        claimed = [letter for _, letter in failed if letter.digest and letter.digest in batch.anew]
        copies = self._book.share_fate(safe, claimed)
        for digest in (*safe, *(letter.digest for letter in claimed)):
            self._out.pop(digest or b"", None)
        for ledger in (self._ledger, self._book.ledger):
            ledger.retried_delivered += len(delivered)
            ledger.retried_failed += len(buried)
        self._journal.retried(
            delivered=[batch.letters[index] for index in delivered],
            safe_keys=safe,
            failed=failed,
            freed=[number for part in parts for number in part.letters],
            copies=copies,
            now=self._clock.wall(),
            also=also,
        )

    def _claim(self, batch: Batch) -> None:
        claimed = [digest for digest in batch.digests if digest in batch.anew]
        self._out.update(dict.fromkeys(claimed, batch.id))
        self._book.reclaim(claimed)

    def _superseded(self, batch: Batch) -> tuple[list[int], list[int]]:
        """Indices of letters whose events are safe by another way, and of those that may be soon."""
        anew: list[int] = []
        later: list[int] = []
        seen: set[bytes] = set()
        for index, digest in enumerate(batch.digests):
            if digest is None or digest not in batch.anew or self._out.get(digest) == batch.id:
                continue
            state = self._book.state_of(digest)
            if digest in seen or digest in self._out or state == "pending":
                later.append(index)
            elif state == "known":
                anew.append(index)
            seen.add(digest)
        return anew, later

    def _note(self, batch: Batch, *, anew: Sequence[int], later: Sequence[int], aside: Sequence[int]) -> None:
        now, taken = self._clock.wall(), batch.unanswered
        elsewhere, back, left = ([batch.letters[at] for at in some] for some in (anew, later, aside))

        def write(connection: sqlite3.Connection) -> None:
            letter_leases.letters_anew(connection, elsewhere, now)
            letter_leases.give_back(connection, back, now)
            letter_leases.leave_to_a_person(connection, left, letter_leases.MATES_ANEW)
            if not taken:
                letter_leases.free_letters(connection, back)

        self._journal.note(write)
        for ledger in (self._ledger, self._book.ledger):
            ledger.retried_duplicate += len(anew)
        if anew:
            self._audit(Entry.RETRIED_DUPLICATE, sink=self._sink, request_id=batch.id, count=len(anew))
        if aside:
            self._warn(
                f"{self._sink}: {len(aside)} dead letters wait for a person: their request may have been"
                " taken, and another event of it was accepted anew meanwhile; see `ingestd dlq list`"
            )
