"""One sink at run time, with all that is its own, from batcher to retry worker. Made by ``open_sinks.py``."""

from dataclasses import dataclass, field

from ingestd.core.ledger import SinkLedger
from ingestd.delivery.lane import Lane
from ingestd.delivery.queues import Batcher
from ingestd.delivery.recorder import SinkRecord
from ingestd.delivery.retry_worker import RetryWorker
from ingestd.delivery.status_poller import StatusPoller
from ingestd.schemas.key_paths import KeyWatch
from ingestd.sinks.sink import Sink
from ingestd.store.letter_queue import LetterQueue


@dataclass(slots=True, eq=False)
class SinkRunner:
    """``pending_bytes``: bytes of chunks that a replay has handed over and that are not yet resolved here.
    ``lost``: the sink was given up for this run. ``confirm_timeout_s``: how long a replay waits without news
    from status polling."""

    sink: Sink
    batcher: Batcher
    lane: Lane
    recorder: SinkRecord
    worker: RetryWorker
    letters: LetterQueue
    status_poller: StatusPoller | None = None
    order_watch: KeyWatch | None = None
    confirm_timeout_s: float = 0.0
    pending_bytes: int = 0
    lost: bool = False
    name: str = field(init=False)
    ledger: SinkLedger = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.ledger = self.sink.name, self.recorder.ledger
