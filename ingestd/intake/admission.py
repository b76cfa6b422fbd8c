"""Admission: what producers submit, through validation and window, into the spool; then the answer.

Submissions that arrive while a commit is under way are taken together: one pass of each stage, one row
in the spool, one fsync. An answer goes out only after the commit that has its events. ``Backpressure`` says
when there is no room.
"""

import asyncio
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ingestd.core.chunk import Chunk
from ingestd.core.clock import Clock
from ingestd.core.letter import DeadLetter
from ingestd.core.submission import ONE_ACCEPTED, AcceptedSubmission, DeferredSubmission
from ingestd.intake.admission_queue import Accepted, AdmissionQueue
from ingestd.intake.commit_spans import CommitSpans
from ingestd.intake.refusals import UNKNOWN_S, store_deferral
from ingestd.intake.spool_feed import SpoolSource
from ingestd.intake.submission_group import DeliveryWaits, SubmissionGroup
from ingestd.processing.dedup import Window
from ingestd.processing.routes import Routes
from ingestd.processing.validate import Validator
from ingestd.recording.event_recorder import EventRecorder, EventTrace
from ingestd.store.database import Database
from ingestd.store.new_letters import insert_letters
from ingestd.store.spool import MAX_CHUNK_BYTES, Spool
from ingestd.store.writer import Work

if TYPE_CHECKING:
    from ingestd.telemetry.tracing import TracedSpan

_LEAST_S, _MOST_S = 1, 300
_SMOOTHING_S = 10.0
_ROOM_AGAIN = 0.9
"""Share of the limit: once a producer had to wait, the spool counts as full until it holds less."""


class Backpressure:
    """``refusal`` says whether there is room now; ``measure`` is called about once a second."""

    def __init__(self, spool: Spool, database: Database, *, max_bytes: int, clock: Clock) -> None:
        self.max_bytes = max_bytes
        self.parked_bytes = 0  # that do not count: only parked sinks wait for them
        self.bounds: Mapping[str, int] = {}  # most bytes that may wait for a sink
        self.overdue = ""  # the sink that lags too long, and how long
        self.closing = False
        self._spool = spool
        self._database = database
        self._clock = clock
        self._rate = 0.0  # bytes a second that leave the spool
        self._measured_at = clock.monotonic()
        self._measured_bytes = 0
        self._refused = False

    @property
    def full(self) -> bool:
        """Whether producers should go elsewhere. A request seldom fits to the last byte, so this is not
        only at the cap; and one that was too large for what was left does not make a spool full."""
        held = self._spool.bytes - self.parked_bytes
        if held < _ROOM_AGAIN * self.max_bytes:
            self._refused = False
        return self._refused or held >= self.max_bytes or bool(self.behind(0))

    def behind(self, size_bytes: int) -> str:
        """The sink whose bound leaves no room for so many more bytes, in words; empty: there is none."""
        for sink, most in self.bounds.items():
            held = self._spool.cursors[sink].bytes
            if held and held + max(1, size_bytes) > most:  # what comes alone is taken, whatever its size
                return f"{sink}: {held} of at most {most} bytes wait for it"
        return self.overdue

    def measure(self) -> None:
        """Look at how much has left the spool since the last call."""
        now, settled = self._clock.monotonic(), self._spool.settled_bytes
        passed_s = now - self._measured_at
        if passed_s <= 0:
            return
        weight = min(1.0, passed_s / _SMOOTHING_S)
        self._rate += weight * ((settled - self._measured_bytes) / passed_s - self._rate)
        self._measured_at, self._measured_bytes = now, settled

    def refusal(self, size_bytes: int) -> DeferredSubmission | None:
        """Why ``size_bytes`` more cannot be accepted now, and when to try again; None: they can."""
        if self.closing:
            return DeferredSubmission(
                503, _LEAST_S, "this process is shutting down: send it again, to another or later"
            )
        if blocked := self._database.blocked:
            return store_deferral(blocked)
        over = self._spool.bytes - self.parked_bytes + size_bytes - self.max_bytes
        if over > 0:
            self._refused = True
            detail = (
                f"the spool holds {self._spool.bytes} of {self.max_bytes} bytes, most of them for"
                f" {self._spool.fullest}"
            )
            return DeferredSubmission(429, self.retry_after_s(over), detail)
        if (self.bounds or self.overdue) and (behind := self.behind(size_bytes)):
            return DeferredSubmission(429, UNKNOWN_S, f"a sink is behind, {behind}")
        return None

    def retry_after_s(self, size_bytes: int) -> int:
        """Seconds until that many bytes will have left the spool at its present rate."""
        if self._rate < 1:
            return UNKNOWN_S
        return int(min(max(size_bytes / self._rate, _LEAST_S), _MOST_S))


AddToOutbox = Callable[[Sequence[bytes]], "CommitPart | None"]
"""Accepted events -> what else is to be written with them."""


class CommitPart(Protocol):
    """A unit of work of another component, for the same transaction."""

    def __call__(self, connection: sqlite3.Connection, /) -> None: ...
    def refused(self) -> None:
        """There was no transaction."""
        ...


class Admission(AdmissionQueue):
    """Every chunk that is on disk is offered to ``sources``, in order."""

    def __init__(
        self,
        *,
        window: Window,
        validator: Validator,
        spool: Spool,
        recorder: EventRecorder,
        pressure: Backpressure,
        waiting: DeliveryWaits,
        routes: Routes,
        sources: Sequence[SpoolSource],
        outboxes: Sequence[AddToOutbox] = (),
        max_unanswered_bytes: int,
        max_event_bytes: int,
        keep_rejected: bool,
        accepted: Accepted,
        trace: EventTrace | None = None,
        clock: Clock,
    ) -> None:
        super().__init__(
            validator=validator,
            max_event_bytes=max_event_bytes,
            max_unanswered_bytes=max_unanswered_bytes,
            keep_rejected=keep_rejected,
            accepted=accepted,
            trace=trace,
            clock=clock,
        )
        self._commits = CommitSpans(trace.spans) if trace and trace.spans else None
        self._window = window
        self._spool = spool
        self._recorder = recorder
        self._pressure = pressure
        self._waiting = waiting
        self._routes = routes if routes.chooses else None
        self._sources = sources
        self._outboxes = outboxes
        self._committing = 0

    def _refusal(self, size_bytes: int) -> DeferredSubmission | None:
        arriving = size_bytes + self._arrived_bytes if size_bytes else 0
        return self._pressure.refusal(arriving) or self._stalled(
            size_bytes, "the disk is slower than the events that arrive"
        )

    def _keys(self) -> Window:
        return self._window

    def _goes_with_later(self) -> bool:
        return self._committing > 0 and self._arrived_bytes <= MAX_CHUNK_BYTES

    def _store(self, group: SubmissionGroup) -> None:
        """In one go: a copy that finds the key claimed must not be written before it."""
        parts = group.claim(self._window, self._clock.monotonic(), max_bytes=MAX_CHUNK_BYTES)
        added = [one for add in self._outboxes for part in parts if (one := add(part[1]))]
        now, trace = self._clock.wall(), self._trace
        trail = trace.accepting(group.claimed, group.owners(), now) if trace else None
        also = [self._rejected(group), *(s.also for s in group.submissions), *added, trail]
        self._committing += 1
        span = self._commits.begin(group) if self._commits else None
        owners, whose = [part[0] for part in parts], [part[3] for part in parts]
        # without pieces, too: copies of events that are not on disk yet must not be told so
        chunks, on_disk = self._spool.append([one[1:3] for one in parts], whose, now=now, also=also)
        on_disk.add_done_callback(partial(self._committed, group, chunks, owners, added, span))

    def _rejected(self, group: SubmissionGroup) -> Work | None:
        """Rejected events as dead letters, if they are wanted. They come with the commit that the answer
        waits for: a deferred submission is sent again, and must not leave them twice."""
        now, source = self._clock.wall(), self._spool.source
        letters = group.rejected.letters
        if self.keep_rejected:
            letters = letters + [
                DeadLetter(event, reason, detail, source, -1, 0, producer=producer)
                for event, reason, detail, producer in group.rejected.events
            ]
        if not letters:
            return None
        return lambda connection: insert_letters(connection, letters, now)

    def _committed(
        self,
        group: SubmissionGroup,
        chunks: list[Chunk],
        owners: list[int | None],
        added: list[CommitPart],
        span: "TracedSpan | None",
        on_disk: asyncio.Future[None],
    ) -> None:
        self._committing -= 1
        if self._commits and span:
            self._commits.end(span, group, chunks, owners, on_disk.exception())
        self._unanswered_bytes -= group.size_bytes
        if error := on_disk.exception():
            self._recorder.free_copies(self._window.release(group.claimed))
            for one in added:
                one.refused()
            deferred = store_deferral(error)
            for submission in group.submissions:
                self._defer(submission, deferred)
        else:
            self._recorder.resolve_keys(group.claimed, ())  # a broker's message may wait, as a copy
            if group.rejected.events:
                self._recorder.refused(self._spool.source, group.rejected.events)
            self._recorder.submitted(
                accepted=sum(len(chunk.events) for chunk in chunks),
                duplicates=sum(group.duplicates.values()),
                rejected=group.rejected.reasons,
            )
            if self._trace and self._trace.tap.open:
                self._trace.submitted([chunk.events for chunk in chunks], group.copies, group.rejected.events)
            for chunk in chunks:
                self._offer(chunk)
            self._answer(group, chunks, owners)
        self._go_on(storing=self._committing > 0)

    def _offer(self, chunk: Chunk) -> None:
        """Which sinks get which events is decided once. Each source has a chunk of its own, so that one's
        queue does not keep what another knows of it."""
        if self._routes:
            chunk.routed = self._routes.route(chunk.events).positions
        else:
            chunk.routed = dict.fromkeys([one.sink for one in self._sources], range(len(chunk.events)))
        first, *others = self._sources
        first.offer(chunk)
        for source in others:
            source.offer(self._spool.again(chunk))

    def _answer(self, group: SubmissionGroup, chunks: list[Chunk], owners: list[int | None]) -> None:
        if group.is_plain:
            self._accepted(group.submissions[0].producer, sum(len(chunk.events) for chunk in chunks))
            for submission in group.submissions:
                count = len(submission.events)
                submission.answer(ONE_ACCEPTED if count == 1 else AcceptedSubmission(count, 0, []))
            return
        for number, submission in enumerate(group.submissions):
            result = group.result(number)
            self._accepted(submission.producer, result.accepted)
            own: dict[int, int] = {}
            if submission.wait_s > 0 or submission.delivered:
                own = {c.start: len(c.events) for c, o in zip(chunks, owners, strict=True) if o == number}
            if submission.wait_s > 0 and result.stored:
                self._waiting.add(submission, result, own, self._spool.state)
            else:
                submission.answer(result)
            if submission.delivered:
                self._waiting.watch(own, submission.delivered)
