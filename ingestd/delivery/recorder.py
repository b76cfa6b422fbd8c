"""What the lane reports of its batches: the contract of recorders. ``recording/sink_recorder.py`` is the real
recorder."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from ingestd.core.answer import Answer
from ingestd.core.chunk import Batch, Chunk
from ingestd.core.ledger import SinkLedger
from ingestd.core.reasons import Reason
from ingestd.core.verdict import Verdict
from ingestd.delivery.circuit_breaker import BreakerState


class FailedEvent(msgspec.Struct, gc=False):
    """One event of a batch that becomes a dead letter."""

    index: int
    reason: Reason
    detail: str


class Outcomes(msgspec.Struct):
    """What became of a batch: each of its events is delivered, ``dropped`` by a transform, or failed, or
    goes on in one of ``parts``.

    ``delivered``: indices in the batch. ``remote_ids``: (index, the API's own id) of those of ``delivered``
    that the API has only accepted, and will be asked about.
    """

    delivered: Sequence[int] = ()
    failed: Sequence[FailedEvent] = ()
    parts: Sequence[Batch] = ()
    remote_ids: Sequence[tuple[int, str]] = ()
    dropped: Sequence[int] = ()


class Recorder(Protocol):
    """Writes down what the lane reports of its batches."""

    @property
    def ledger(self) -> SinkLedger: ...

    async def freeze(self, batch: Batch) -> None:
        """Have on disk what rebuilds this batch; returns at once if it is there. Raises StoreFailed."""
        ...

    def withdraw(self, batch: Batch) -> Batch | None:
        """What is to be sent of a batch of dead letters, asked before each request: the others of it have
        been dealt with."""
        ...

    def attempted(self, batch: Batch, answer: Answer, verdict: Verdict) -> None:
        """A request of the batch was answered, or failed: counts, latency, audit. No outcome."""
        ...

    def resolve(self, batch: Batch, outcomes: Outcomes) -> None:
        """The only way in which an outcome is written down. A batch that does not fit its sink had no
        ``freeze`` before (``batch.noted`` is False)."""
        ...

    def learned(self, max_bytes: int) -> None:
        """The API takes no body longer than this."""
        ...

    def lane_changed(self, state: BreakerState, why: str) -> None:
        """The lane sends, is paused or tries again; ``why``: in words, for log and audit."""
        ...


class SinkRecord(Recorder, Protocol):
    """The same, with what the intake tells of events that go to the sink."""

    @property
    def waiting(self) -> Callable[[], str]:
        """Says how much waits for the sink, in words."""
        ...

    def started(self, count: int) -> None:
        """``count`` events are on their way to the sink."""
        ...

    def expect(self, chunk: Chunk, count: int, *, resolved: int = 0, unmatched: int = 0) -> None:
        """``count`` events of the chunk are on their way to the sink. Where it reads them from the spool, an
        earlier process ``resolved`` some; those that are ``unmatched`` are not for it."""
        ...


class PendingConfirmations:
    """How many events an API has accepted and has yet to say what became of: the recorder adds to them, the
    poller takes them out, the lane sends nothing while there is no room for more.

    ``none_left`` is set while there are none; ``changed`` when some were added.
    """

    def __init__(self, max_pending: int) -> None:
        self.count = 0
        self.none_left, self.changed = asyncio.Event(), asyncio.Event()
        self.none_left.set()
        self._max_pending = max_pending

    @property
    def full(self) -> bool:
        return self.count >= self._max_pending

    def add(self, events: int) -> None:
        if events:
            self.count += events
            self.none_left.clear()
            self.changed.set()

    def take_one(self) -> bool:
        """What became of one of them is known. True: there is room again."""
        was_full = self.full
        self.count -= 1
        if self.count == 0:
            self.none_left.set()
        return was_full and not self.full
