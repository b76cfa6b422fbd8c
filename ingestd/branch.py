"""A branch: one sink with all that is its own, from batcher to retry worker. Made by ``pipeline.py``."""

from dataclasses import dataclass

from ingestd.core.key_watch import KeyWatch
from ingestd.core.ledger import SinkLedger
from ingestd.delivery.confirmation import Confirmer
from ingestd.delivery.lane import Lane
from ingestd.delivery.retry_worker import RetryWorker
from ingestd.letter_desk import LetterDesk
from ingestd.sink_book import SinkBook
from ingestd.sinks.sink import Sink
from ingestd.stages.batcher import Batcher


@dataclass(slots=True, eq=False)
class Branch:
    """``pending_bytes``: of the chunks that a replay has handed to it and that had no end; ``lost``: it was
    given up for this run. ``confirming_patience_s``: so long a replay waits while nothing becomes known."""

    sink: Sink
    batcher: Batcher
    lane: Lane
    book: SinkBook
    worker: RetryWorker
    letters: LetterDesk
    confirmer: Confirmer | None = None
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
