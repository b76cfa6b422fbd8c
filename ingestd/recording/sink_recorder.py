"""What happens to one sink's batches, written down: ledger, journal, audit, metrics. The lane's recorder."""

import sqlite3
import sys
from collections.abc import Awaitable, Callable, Sequence, Set
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING

from ingestd.core.answer import Answer
from ingestd.core.chunk import Batch, Chunk
from ingestd.core.clock import Clock
from ingestd.core.ledger import SinkLedger
from ingestd.core.letter import NONE, DeadLetter, joined_letters
from ingestd.core.verdict import Meaning, Verdict
from ingestd.delivery.recorder import FailedEvent, Outcomes, PendingConfirmations
from ingestd.recording.answer_notes import AnswerNotes
from ingestd.recording.event_recorder import EventRecorder
from ingestd.recording.make_letters import pending_of_batch
from ingestd.recording.outcome_journal import OutcomeJournal, ToLake
from ingestd.recording.retried_letters import RetriedLetters
from ingestd.recording.segment_outcomes import SegmentOutcome, segment_outcomes
from ingestd.store.confirmations import Pending, insert_confirmations
from ingestd.store.writer import Work
from ingestd.telemetry.audit_entry import Audit, AuditEntry
from ingestd.telemetry.metrics import ANSWER_CLASS, Metrics
from ingestd.telemetry.state_watch import StateWatch, Waiting

if TYPE_CHECKING:
    from ingestd.recording.event_recorder import EventTrace

Warn = Callable[[str], None]


class SinkRecorder:
    """``learn`` is called with a smaller body limit, ``warn`` with what a person should know.

    ``keep``: gives what a lake writes with the end of a batch; None: no lake wants this sink's events.
    ``transforms``: whether its events may not be as they came. ``pending``: counts the events that the API
    will be asked about; None: its answers are final. ``states`` is told how the lane is, ``waiting`` says how
    much waits for it.
    """

    def __init__(
        self,
        sink: str,
        events: EventRecorder,
        *,
        journal: OutcomeJournal,
        audit: Audit,
        metrics: Metrics,
        states: StateWatch,
        waiting: Waiting,
        clock: Clock,
        warn: Warn,
        learn: Callable[[int], None],
        keep: ToLake | None = None,
        pending: PendingConfirmations | None = None,
        trace: "EventTrace | None" = None,
        initial_delay_s: float = 1.0,
        transforms: bool = False,
    ) -> None:
        self.sink = sink
        self.ledger = SinkLedger()
        self._learn = learn
        self._keep = keep
        self._transforms = transforms
        self._pending = pending
        self._trace = trace
        self._events = events
        self._journal = journal
        self._audit = audit
        self._metrics = metrics
        self._states = states
        self.waiting = waiting
        self._seconds = metrics.seconds_of(sink)
        self._clock = clock
        self._warn = warn
        self._first_question_after_s = initial_delay_s
        self._learned_bytes = sys.maxsize
        self._letters = RetriedLetters(sink, self.ledger, events, journal, audit, clock, warn)
        self.withdraw = self._letters.withdraw
        self.put_aside = self._letters.put_aside
        self._notes = AnswerNotes(sink, warn=warn, clock=clock)

    def started(self, count: int) -> None:
        self.ledger.routed += count
        self.ledger.in_flight += count

    def expect(self, chunk: Chunk, count: int, *, resolved: int = 0, unmatched: int = 0) -> None:
        self.started(count)
        self._events.expect(self.sink, chunk, count, resolved=resolved, unmatched=unmatched)

    async def freeze(self, batch: Batch) -> None:
        """Note the batch before its first send, and have on disk what was noted before any send."""
        until_announced = None
        if not batch.noted:
            until_announced = self._freeze(batch, self._clock.wall())
            batch.noted = True
        elif not batch.submitted:
            until_announced = self._journal.waits(batch)
        await self._journal.commit()
        if until_announced:
            await until_announced()
        if not batch.submitted:  # a token that is not to be had comes back here without an attempt
            batch.submitted = True
            self.ledger.batches += 1
            self._events.ledger.batches += 1
            self._metrics.batch_sizes.observe(len(batch.events), len(batch.body), batch.exemplar)
            self._audit(
                AuditEntry.BATCH_SUBMITTED,
                sink=self.sink,
                request_id=batch.id,
                events=len(batch.events),
                bytes=len(batch.body),
            )

    def attempted(self, batch: Batch, answer: Answer, verdict: Verdict) -> None:
        mine, whole, again = self.ledger, self._events.ledger, batch.attempts > 1
        mine.requests, mine.bytes = mine.requests + 1, mine.bytes + len(batch.body)
        whole.requests, whole.bytes = whole.requests + 1, whole.bytes + len(batch.body)
        batch.latency_s = answer.seconds
        self._seconds[ANSWER_CLASS.get(answer.status, "none")].observe(answer.seconds, batch.exemplar)
        if again:
            mine.retries, whole.retries = mine.retries + 1, whole.retries + 1
            self._audit(
                AuditEntry.BATCH_RETRIED,
                sink=self.sink,
                request_id=batch.id,
                attempt=batch.attempts,
                status=answer.status,
                latency_ms=round(answer.seconds * 1000, 1),
                error=verdict.detail if verdict.meaning is not Meaning.ACCEPTED else None,
            )
        whole.unmatched_item_errors += verdict.unmatched
        if verdict.unmatched or "retry-after" in answer.headers:
            self._notes.look(answer, verdict, request_id=batch.id)

    def resolve(self, batch: Batch, outcomes: Outcomes) -> None:
        delivered, failed, parts = outcomes.delivered, outcomes.failed, outcomes.parts
        remote_ids = outcomes.remote_ids
        if batch.letters:
            self._letters.resolve(batch, outcomes, also=self._also(batch, delivered))
        else:
            self._resolve_events(batch, outcomes)
        if self._trace:
            self._trace.resolved(batch, self.sink, outcomes, self._clock.wall())
        self._report(batch, len(delivered) - len(remote_ids), len(remote_ids), failed, parts)
        if outcomes.dropped:
            self._audit(AuditEntry.DROPPED, sink=self.sink, count=len(outcomes.dropped))

    def learned(self, max_bytes: int) -> None:
        if max_bytes >= self._learned_bytes:
            return  # of batches that were on their way already
        self._learned_bytes = max_bytes
        self._learn(max_bytes)
        self._warn(
            f"{self.sink}: the API refused a body as too large (413): batches are now at most {max_bytes}"
            " bytes"
        )

    def lane_changed(self, state: str, why: str) -> None:
        if state == "closed":
            self._states.recovered(self.sink, state, "the API answers again, sending continues")
        else:
            what = "sending is paused" if state == "paused" else "sending fails and is retried"
            what += ", no events are lost"
            self._states.degraded(self.sink, state, why, what=what, waiting=self.waiting)

    # --- events ---

    def _freeze(self, batch: Batch, now: float) -> Callable[[], Awaitable[None]] | None:
        return self._journal.freeze(
            batch, sink=self.sink, now=now, transformed=self._transforms or batch.transformed
        )

    def _resolve_events(self, batch: Batch, outcomes: Outcomes) -> None:
        by_segment = _segment_outcomes(batch, outcomes, sink=self.sink)
        now = self._clock.wall()
        if by_segment and not batch.noted:  # never sent: what is resolved must be known after a restart
            self._freeze(batch, now)
            batch.noted = True
        rows = pending_of_batch(batch, outcomes.remote_ids, sink=self.sink) if outcomes.remote_ids else []
        asked = sorted([index for index, _ in outcomes.remote_ids]) if rows else []
        self._count(outcomes, pending=len(rows))
        if rows:
            places = [(at, row.source, row.offset) for at, row in zip(asked, rows, strict=True)]
            self._events.unconfirmed.accepted(batch, places)
        keys, letters, resolved = list[Sequence[bytes]](), list[Sequence[DeadLetter]](), []
        of_copies = list[Sequence[DeadLetter]]()  # behind the others, which are alike
        for segment, digests, failed, dropped in by_segment:
            known = segment.chunk.receipt.resolve(self.sink, segment.positions, digests, failed, dropped)
            safe, copies = self._events.resolve(segment.chunk, known)
            resolved.append(known)
            if safe:
                keys.append(safe)
            letters += filter(None, (failed.letters,))
            of_copies += filter(None, (copies,))
        self._journal.resolved(
            batch,
            sink=self.sink,
            segments=[one[0] for one in by_segment],
            safe_keys=keys,
            letters=joined_letters(letters + of_copies) if letters or of_copies else (),
            parts=outcomes.parts,
            now=now,
            also=self._also(batch, outcomes.delivered, rows, set(asked)) if rows or self._keep else None,
            transformed=self._transforms or batch.transformed,
        )
        for one, known in zip(by_segment, resolved, strict=True):
            self._events.finish(self.sink, one[0].chunk, len(one[0].positions), known)
        if self._pending and rows:
            self._pending.add(len(rows))

    def _count(self, outcomes: Outcomes, *, pending: int) -> None:
        delivered, failed = len(outcomes.delivered), len(outcomes.failed)
        self.ledger.delivered += delivered - pending
        self.ledger.dead_lettered += failed
        self.ledger.dropped += len(outcomes.dropped)
        self.ledger.in_flight -= delivered + failed + len(outcomes.dropped) - pending
        self.ledger.confirming += pending

    def _also(
        self,
        batch: Batch,
        delivered: Sequence[int],
        rows: Sequence[Pending] = (),
        asked: Set[int] = frozenset(),
    ) -> Work | None:
        """What is written with a batch's end: whom to ask about (``asked``), and what goes to the lake."""
        kept = None
        if self._keep and len(asked) < len(delivered):
            events = batch.events
            if asked or len(delivered) < len(batch.events):
                events = [batch.events[index] for index in delivered if index not in asked]
            kept = self._keep(events, batch.id, batch.latency_s)
        if not rows:
            return kept
        now = self._clock.wall()

        def write(connection: sqlite3.Connection) -> None:
            insert_confirmations(connection, rows, now, initial_delay_s=self._first_question_after_s)
            if kept:
                kept(connection)

        return write

    def _report(
        self,
        batch: Batch,
        delivered: int,
        confirming: int,
        failed: Sequence[FailedEvent],
        parts: Sequence[Batch],
    ) -> None:
        if confirming:
            self._audit(
                AuditEntry.BATCH_ACCEPTED,
                sink=self.sink,
                request_id=batch.id,
                events=confirming,
                attempts=batch.attempts,
                latency_ms=round(batch.latency_s * 1000, 1),
            )
        if delivered:
            self._audit(
                AuditEntry.RETRIED_DELIVERED if batch.letters else AuditEntry.BATCH_DELIVERED,
                sink=self.sink,
                request_id=batch.id,
                events=delivered,
                attempts=batch.attempts,
                latency_ms=round(batch.latency_s * 1000, 1),
            )
        if failed:
            self._audit(
                AuditEntry.DEAD_LETTERED,
                sink=self.sink,
                request_id=batch.id,
                count=len(failed),
                reason=failed[0].reason,
                attempts=batch.attempts,
                error=failed[0].detail,
            )
        if parts:
            self._audit(
                AuditEntry.BATCH_SPLIT,
                sink=self.sink,
                request_id=batch.id,
                into=",".join(part.id for part in parts[:4]),
                parts=len(parts),
                error=batch.last_answer,
            )


def _segment_outcomes(batch: Batch, outcomes: Outcomes, *, sink: str) -> Sequence[SegmentOutcome]:
    """What is resolved of a batch, by the chunks that its events came from."""
    if len(outcomes.delivered) < len(batch.events):
        return list(segment_outcomes(batch, outcomes, sink=sink))
    if len(batch.segments) == 1:
        return ((batch.segments[0], batch.digests, NONE, ()),)
    ends = accumulate((len(segment.positions) for segment in batch.segments), initial=0)
    keys = [batch.digests[first:end] for first, end in pairwise(ends)]
    return [(segment, mine, NONE, ()) for segment, mine in zip(batch.segments, keys, strict=True)]
