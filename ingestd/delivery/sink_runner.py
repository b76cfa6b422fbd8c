"""A branch: one sink with all that is its own, from batcher to retry worker. Made by ``pipeline.py``."""

from dataclasses import dataclass

from ingestd.core.ledger import SinkLedger
from ingestd.delivery.batcher import Batcher
from ingestd.delivery.lane import Lane
from ingestd.delivery.retry_worker import RetryWorker
from ingestd.delivery.status_poller import StatusPoller
from ingestd.processing.key_watch import KeyWatch
from ingestd.recording.sink_recorder import SinkRecorder
from ingestd.sinks.sink import Sink
from ingestd.store.letter_queue import LetterQueue


@dataclass(slots=True, eq=False)
class SinkRunner:
    """``pending_bytes``: of the chunks that a replay has handed to it and that had no end; ``lost``: it was
    given up for this run. ``confirming_patience_s``: so long a replay waits while nothing becomes known."""

    sink: Sink
    batcher: Batcher
    lane: Lane
    book: SinkRecorder
    worker: RetryWorker
    letters: LetterQueue
    confirmer: StatusPoller | None = None
    order_watch: KeyWatch | None = None
    confirming_patience_s: float = 0.0
    pending_bytes: int = 0
    lost: bool = False

    @property
    def name(self) -> str:
        return self.sink.name

    @property
    def ledger(self) -> SinkLedger:
        return self.book.ledger
