"""Where the lane writes down what happens. ``recording/sink_recorder.py`` is the real one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from ingestd.core.answer import Answer
from ingestd.core.batch import Batch
from ingestd.core.reasons import Reason
from ingestd.core.verdict import Verdict
from ingestd.delivery.circuit_breaker import BreakerState


@dataclass(slots=True)  # not frozen: that would treble the price of making one
class FailedEvent:
    """One event of a batch that becomes a dead letter."""

    index: int
    reason: Reason
    detail: str


class Recorder(Protocol):
    """What the lane tells of its batches."""

    async def freeze(self, batch: Batch) -> None:
        """Have on disk what rebuilds this batch; returns at once if it is there. Raises StoreFailed."""
        ...

    def withdraw(self, batch: Batch) -> Batch | None:
        """What is to be sent of a batch of dead letters, asked before each request: the others of it have
        been dealt with."""
        ...

    def attempted(self, batch: Batch, answer: Answer, verdict: Verdict) -> None: ...

    def settled(
        self,
        batch: Batch,
        *,
        delivered: Sequence[int],
        buried: Sequence[FailedEvent],
        parts: Sequence[Batch],
        remote_ids: Sequence[tuple[int, str]] = (),
    ) -> None:
        """Each event of ``batch`` is delivered, buried, or goes on in one of ``parts``.

        A batch that does not fit its sink had no ``freeze`` before (``batch.noted`` is False).
        ``remote_ids``: (index, the API's own id) of those of ``delivered`` that it will be asked about.
        """
        ...

    def learned(self, max_bytes: int) -> None:
        """The API takes no body longer than this."""
        ...

    def lane_changed(self, state: BreakerState, why: str) -> None: ...
