"""What happens to batches and events, written down: ledger, receipts, window, journal, audit, metrics.

The lane reports outcomes here (it is the lane's ``Book``), the intake its refusals. One place, so
that an event that had its end is counted, confirmed, noted and acknowledged together.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from ingestd.core.answer import Answer
from ingestd.core.audit import Audit, Entry
from ingestd.core.batch import Batch
from ingestd.core.chunk import Chunk, Segment, pick_segments
from ingestd.core.clock import Clock
from ingestd.core.ledger import Ledger
from ingestd.core.letter import DeadLetter
from ingestd.core.metrics import Metrics, answer_class
from ingestd.core.reasons import Reason
from ingestd.core.verdict import Verdict
from ingestd.delivery.outcome import Burial
from ingestd.letters import letter_of_copy, letter_of_event, letters_of_batch, letters_that_failed_again
from ingestd.stages.dedup import Window
from ingestd.store.journal import Journal

Warn = Callable[[str], None]


class Freed(Protocol):
    """Told of keys that are free again although they were known."""

    def __call__(self, digests: Sequence[bytes], /, *, now: float) -> None: ...


class Bookkeeping:
    """The lane's Book. ``on_learned`` hears of a smaller body limit, ``warn`` of what people should know.

    ``freed``: given where keys are known as soon as their events are in the spool; it is told which
    of them are free again. None: a key is known once its event has been delivered.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        window: Window,
        journal: Journal,
        audit: Audit,
        metrics: Metrics,
        clock: Clock,
        warn: Warn,
        freed: Freed | None = None,
    ) -> None:
        self.ledger = ledger
        self.on_learned: Callable[[int], None] = lambda max_bytes: None
        self.on_copies_settled: Callable[[], None] = lambda: None
        self._window = window
        self._journal = journal
        self._audit = audit
        self._metrics = metrics
        self._clock = clock
        self._warn = warn
        self._freed = freed

    # --- the lane's Book ---

    async def freeze(self, batch: Batch) -> None:
        """Note the batch before its first send, and have on disk what was noted before any send."""
        if not batch.noted:
            self._journal.freeze(batch, now=self._clock.wall())
            batch.noted = True
        await self._journal.commit()
        if not batch.submitted:  # a token that is not to be had comes back here without an attempt
            batch.submitted = True
            self.ledger.batches += 1
            self._metrics.batch_events.observe(len(batch))
            self._metrics.batch_bytes.observe(len(batch.body))
            self._audit(Entry.BATCH_SUBMITTED, request_id=batch.id, events=len(batch), bytes=len(batch.body))

    def attempted(self, batch: Batch, answer: Answer, verdict: Verdict) -> None:
        ledger = self.ledger
        ledger.requests += 1
        ledger.bytes += len(batch.body)
        ledger.unmatched_item_errors += verdict.unmatched
        batch.latency_s = answer.seconds
        self._metrics.attempt_seconds.labels(answer_class(answer.status)).observe(answer.seconds)
        if batch.attempts > 1:
            ledger.retries += 1
            self._audit(
                Entry.BATCH_RETRIED,
                request_id=batch.id,
                attempt=batch.attempts,
                status=answer.status,
                latency_ms=round(answer.seconds * 1000, 1),
                error=verdict.detail if not 200 <= answer.status < 300 else None,
            )
        if verdict.unmatched:
            self._warn(
                f"request {batch.id}: {verdict.unmatched} errors in the answer name no event of it, or were"
                f" cut off: {verdict.detail[:200]}"
            )

    def settled(
        self, batch: Batch, *, delivered: Sequence[int], buried: Sequence[Burial], parts: Sequence[Batch]
    ) -> None:
        if batch.letters:
            self._letters_settled(batch, delivered, buried)
        else:
            self._events_settled(batch, delivered, buried, parts)
        self._tell(batch, len(delivered), buried, parts)

    def learned(self, max_bytes: int) -> None:
        self.on_learned(max_bytes)
        self._warn(f"the API refused a body as too large (413): batches are now at most {max_bytes} bytes")

    def lane_changed(self, state: str, why: str) -> None:
        self._audit(Entry.LANE_CHANGED, state=state, reason=why)
        if state == "closed":
            self._warn("the API answers again: sending goes on")
        else:
            self._warn(f"sending is {'paused' if state == 'paused' else 'held back'}, nothing is lost: {why}")

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
            Entry.INGESTION_REJECTED, source=source, count=len(events), reason=reason, first_error=detail
        )

    def damaged(self, count: int) -> None:
        """Events that were accepted are damaged where they were kept; what is left of them is put aside."""
        self.ledger.buried(Reason.DAMAGED, count)
        self.ledger.in_flight -= count

    def duplicates(self, chunk: Chunk, count: int) -> None:
        if count:
            self.ledger.duplicate += count
            self._ended(chunk, count)

    def rejected(self, chunk: Chunk, refusals: Mapping[int, tuple[Reason, str]]) -> None:
        """Events, by index in the chunk, that are no candidates for delivery."""
        letters = [
            letter_of_event(chunk, index, reason, detail) for index, (reason, detail) in refusals.items()
        ]
        self._journal.buried(letters, now=self._clock.wall())
        self._count(letters)
        self._ended(chunk, len(letters))
        first = letters[0]
        self._audit(
            Entry.INGESTION_REJECTED,
            source=chunk.source,
            count=len(letters),
            reason=first.reason,
            first_line=first.line,
            first_error=first.detail,
        )

    # --- both ---

    def _events_settled(
        self, batch: Batch, delivered: Sequence[int], buried: Sequence[Burial], parts: Sequence[Batch]
    ) -> None:
        whole = len(delivered) == len(batch)
        ended_well = batch.digests if whole else [batch.digests[index] for index in delivered]
        safe = list(filter(None, ended_well))
        segments = self._settled_segments(batch, delivered, buried)
        letters = letters_of_batch(batch, segments, delivered, buried)
        self.ledger.delivered += len(delivered)
        self._count(letters)
        if self._freed:
            safe = []  # known since the spool had them
            self._free(batch, buried, letters)
        else:
            letters += self._share_fate(safe, letters)
        self._journal.settled(
            batch, segments=segments, safe_keys=safe, letters=letters, parts=parts, now=self._clock.wall()
        )
        for segment in segments:
            self._ended(segment.chunk, len(segment.positions))

    def _settled_segments(
        self, batch: Batch, delivered: Sequence[int], buried: Sequence[Burial]
    ) -> Sequence[Segment]:
        ended = len(delivered) + len(buried)
        if ended == len(batch):
            return batch.segments
        return list(pick_segments(batch.segments, sorted([*delivered, *(burial.index for burial in buried)])))

    def _free(self, batch: Batch, buried: Sequence[Burial], letters: Sequence[DeadLetter]) -> None:
        """Events of the spool became dead letters: who sends them again is heard again."""
        for segment in pick_segments(batch.segments, sorted(burial.index for burial in buried)):
            segment.chunk.receipt.buried += len(segment.positions)
        digests = [letter.digest for letter in letters if letter.digest]
        if digests and self._freed:
            self._window.forget(digests)
            self._freed(digests, now=self._clock.wall())

    def _share_fate(self, safe: Sequence[bytes], letters: Sequence[DeadLetter]) -> list[DeadLetter]:
        """Confirm and release keys; copies that waited are duplicates, or dead letters like their model."""
        for follower in self._window.confirm(safe, self._clock.monotonic()) if safe else ():
            self.duplicates(follower.chunk, 1)
            self.on_copies_settled()
        if not self._window.follower_count:
            self._window.release([letter.digest for letter in letters if letter.digest])
            return []
        shared: list[DeadLetter] = []
        for letter in letters:
            if letter.digest is None:
                continue
            for follower in self._window.release([letter.digest]):
                shared.append(letter_of_copy(follower.chunk, follower.position, letter))
                self.ledger.buried(letter.reason)
                self._ended(follower.chunk, 1)
                self.on_copies_settled()
        return shared

    def _count(self, letters: Sequence[DeadLetter]) -> None:
        for reason, count in Counter(letter.reason for letter in letters).items():
            self.ledger.buried(reason, count)

    def _letters_settled(self, batch: Batch, delivered: Sequence[int], buried: Sequence[Burial]) -> None:
        safe = [digest for index in delivered if (digest := batch.digests[index])]
        self._share_fate(safe, ())
        failed = letters_that_failed_again(batch, buried)
        self.ledger.retried_delivered += len(delivered)
        self._journal.retried(
            delivered=[batch.letters[index] for index in delivered],
            safe_keys=safe,
            failed=failed,
            now=self._clock.wall(),
        )

    def _ended(self, chunk: Chunk, count: int) -> None:
        self.ledger.in_flight -= count
        chunk.receipt.settle(count)

    def _tell(self, batch: Batch, delivered: int, buried: Sequence[Burial], parts: Sequence[Batch]) -> None:
        if delivered:
            self._audit(
                Entry.RETRIED_DELIVERED if batch.letters else Entry.BATCH_DELIVERED,
                request_id=batch.id,
                events=delivered,
                attempts=batch.attempts,
                latency_ms=round(batch.latency_s * 1000, 1),
            )
        if buried:
            self._audit(
                Entry.DEAD_LETTERED,
                request_id=batch.id,
                count=len(buried),
                reason=buried[0].reason,
                attempts=batch.attempts,
                error=buried[0].detail,
            )
        if parts:
            self._audit(
                Entry.BATCH_SPLIT,
                request_id=batch.id,
                into=",".join(part.id for part in parts[:4]),
                parts=len(parts),
                error=batch.last_answer,
            )
