"""What a worker makes once for each sink, and what it makes of that for each share of it."""

import random
from collections.abc import Callable, Sequence

import msgspec
from msgspec.structs import replace

from ingestd.cluster.letter_mirror import LetterMirror
from ingestd.cluster.rate_entry import SharedLimit
from ingestd.cluster.share_letters import LetterLimits, ShareLetters
from ingestd.cluster.shared_rate import SharedRate
from ingestd.cluster.stream_journal import StreamJournal
from ingestd.cluster.stream_window import StreamWindow
from ingestd.core.chunk import Chunk
from ingestd.core.clock import Clock
from ingestd.core.receipt import Positions
from ingestd.core.sequences import pick
from ingestd.delivery.batch_transport import BatchTransport
from ingestd.delivery.lane import Lane
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.delivery.queues import Batcher
from ingestd.delivery.sink_runner import RetryWorker
from ingestd.intake.recovery import Recovery
from ingestd.processing.validate import Validator
from ingestd.recording.event_recorder import EventRecorder, EventTrace
from ingestd.recording.sink_recorder import SinkRecorder
from ingestd.sinks.sink import Sink
from ingestd.store.frozen_batches import FrozenBatch
from ingestd.store.letter_queue import LetterQueue
from ingestd.telemetry.audit_entry import Audit, AuditEntry
from ingestd.telemetry.metrics import Metrics
from ingestd.telemetry.state_watch import StateWatch


class SinkParts(msgspec.Struct, frozen=True):
    """``whole``: one worker owns all partitions, since its rates are counted in one place. ``matching``:
    positions of the events that are for this sink; ``letters``: how dead letters are sent again; ``limit``:
    what all workers together may send; None: this one's lanes have their own."""

    sink: Sink
    sender: BatchTransport
    settings: LaneSettings
    whole: bool
    make_batcher: Callable[[], Batcher]
    matching: Callable[[Sequence[bytes]], Positions]
    validator: Validator
    letters: LetterLimits
    limit: SharedLimit | None
    metrics: Metrics
    audit: Audit
    states: StateWatch
    trace: EventTrace
    clock: Clock
    rng: random.Random
    warn: Callable[[str], None]

    def make_lane(self, recorder: SinkRecorder, rate: SharedRate | None) -> Lane:
        settings = replace(self.settings, rates=rate)
        lane = Lane(self.sink, self.sender, recorder, settings=settings, clock=self.clock, rng=self.rng)
        if rate:
            rate.lanes.add(lane)
        return lane

    def show_duplicates(self, chunk: Chunk, positions: Sequence[int]) -> None:
        """To somebody who looks at passing events."""
        if self.trace.tap.open:
            self.trace.tap.show("duplicate", pick(chunk.events, positions), sink=self.sink.name)

    def report_parked(self, parked: bool, waiting: Callable[[], str]) -> None:
        """In the log, where it is news. ``waiting``: how much waits, in words."""
        name, entry = self.sink.name, AuditEntry.SINK_PARKED
        if parked:
            why = f"by a person: nothing is sent until `ingestd spool resume {name} --config FILE`"
            what = "parked, its events wait in the spool"
            self.states.degraded(name, "person", why, what=what, waiting=waiting, entry=entry)
        else:
            self.states.recovered(name, "resumed", "not parked any more", entry=entry)

    def make_recorder(
        self,
        events: EventRecorder,
        journal: StreamJournal,
        learn: Callable[[int], None],
        waiting: Callable[[], str],
    ) -> SinkRecorder:
        return SinkRecorder(
            self.sink.name,
            events,
            journal=journal,
            audit=self.audit,
            metrics=self.metrics,
            states=self.states,
            waiting=waiting,
            clock=self.clock,
            warn=self.warn,
            learn=learn,
            trace=self.trace,
        )

    def make_recovery(self, frozen: Sequence[FrozenBatch], lane: Lane, window: StreamWindow) -> Recovery:
        from ingestd.cluster.share_state import SOURCE

        return Recovery(
            frozen,
            {SOURCE},
            encode=self.sink.encode,
            stepped=lane.stepped,
            new_id=lane.new_id,
            digests=lambda events: window.digests(self.validator.check(events, again=True).keys),
            claims_keys=True,
        )

    def make_retry_worker(self, letters: LetterMirror, lane: Lane, recorder: SinkRecorder) -> RetryWorker:
        limits = self.letters
        queue = LetterQueue(
            letters,
            sink=self.sink.name,
            sinks_of=lambda events: [[self.sink.name] for _ in events],
            max_events=limits.max_events,
            max_bytes=limits.max_bytes,
            requested_only=limits.requested_only,
            clock=self.clock,
            warn=self.warn,
            on_aside=recorder.put_aside,
            complete=letters.complete,
        )
        return RetryWorker(
            ShareLetters(letters, queue), lane, clock=self.clock, poll_s=limits.poll_s, news=letters.news
        )
