"""One sink at run time, with all that is its own; and its retry worker, which brings dead letters to the
lane. Made by ``open_sinks.py``."""

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

from ingestd.core.chunk import Batch, NewId, Place
from ingestd.core.clock import Clock, until_turn, wait_until_set
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.lane import Lane
from ingestd.delivery.queues import Batcher
from ingestd.delivery.recorder import SinkRecord
from ingestd.delivery.source_batchers import SourceBatchers
from ingestd.sinks.sink import Sink
from ingestd.store.letter_queue import LetterQueue
from ingestd.telemetry.sink_metrics import SinkGauges

if TYPE_CHECKING:
    from ingestd.delivery.status_poller import StatusPoller
    from ingestd.processing.transforms.program import Program
    from ingestd.schemas.key_paths import KeyWatch


class LeasedLetter(Protocol):
    """What the worker needs to know of a stored letter."""

    @property
    def id(self) -> int: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def digest(self) -> bytes | None: ...
    @property
    def batch(self) -> str: ...
    @property
    def batch_index(self) -> int: ...
    @property
    def batch_size(self) -> int: ...
    @property
    def ambiguous(self) -> int: ...
    @property
    def first_sent(self) -> float: ...
    @property
    def key_released(self) -> int: ...
    @property
    def obstacle(self) -> str: ...
    @property
    def place(self) -> Place: ...


class LetterQueueProtocol(Protocol):
    async def lease(self) -> Sequence[LeasedLetter]:
        """The letters of the next request, none if none is due; they are this worker's until settled."""
        ...


class RetryWorker:
    """``first_pass`` is set once nothing more is due; ``run`` goes on until it is cancelled, the
    lane drains, or ``once``. ``news``: look now, and not when ``poll_s`` are over."""

    def __init__(
        self,
        letters: LetterQueueProtocol,
        lane: Lane,
        *,
        clock: Clock,
        poll_s: float = 5.0,
        news: asyncio.Event | None = None,
    ) -> None:
        self._news = news
        self.first_pass = asyncio.Event()
        self._letters = letters
        self._lane = lane
        self._clock = clock
        self._poll_s = poll_s

    async def run(self, *, once: bool = False) -> None:
        while not self._lane.draining:
            if letters := await self._letters.lease():
                await self._lane.submit_letters(rebuild(letters, self._lane.new_id))
            else:
                self.first_pass.set()
                if once:
                    return
                if self._news is None:
                    await self._clock.sleep(self._poll_s)
                else:
                    wait_s = until_turn(self._poll_s, self._clock.monotonic())  # a worker has many shares
                    await wait_until_set(self._news, wait_s, self._clock)
                    self._news.clear()


def rebuild(letters: Sequence[LeasedLetter], new_id: NewId) -> Batch:
    """The request that these letters were, if they all are there; else a new one.

    How old its key may be was judged where they were leased. Where a person wants one sent although it is too
    old (it has an ``obstacle``) the key is the old one all the same, and its age counts from this time on.
    """
    first = letters[0]
    same = (
        bool(first.ambiguous)
        and len(letters) == first.batch_size
        and all(letter.batch == first.batch for letter in letters)
        and [letter.batch_index for letter in letters] == list(range(first.batch_size))
    )
    batch = Batch(
        [letter.payload for letter in letters],
        [letter.digest for letter in letters],
        [],
        new_id,
        batch_id=first.batch if same else None,
        letters=tuple(letter.id for letter in letters),
    )
    batch.claims = {letter.id: letter.place for letter in letters if letter.digest and letter.key_released}
    batch.ambiguous = same
    if same and not first.obstacle:
        batch.noted = True  # the store has its key, its members and their order
        batch.first_sent_wall = first.first_sent
    return batch


class SinkRunner:
    """``pending_bytes``: bytes of chunks that a replay has handed over and that are not yet resolved here.
    ``transforms``: what is made of its events before they are in a batch; None: nothing.
    ``lost``: the sink was given up for this run. ``confirm_timeout_s``: how long a replay waits without news
    from status polling. ``parked``: by whom, or empty."""

    def __init__(
        self,
        sink: Sink,
        batcher: Batcher | SourceBatchers,
        lane: Lane,
        recorder: SinkRecord,
        worker: RetryWorker,
        letters: LetterQueue,
        transforms: "Program | None" = None,
    ) -> None:
        self.sink, self.batcher, self.lane, self.recorder = sink, batcher, lane, recorder
        self.worker, self.letters, self.transforms = worker, letters, transforms
        self.status_poller: StatusPoller | None = None
        self.order_watch: KeyWatch | None = None
        self.confirm_timeout_s, self.pending_bytes = 0.0, 0
        self.lost, self.parked = False, ""
        self.name, self.ledger, self.waiting = sink.name, recorder.ledger, recorder.waiting
        self.gauges = SinkGauges(
            ledger=lambda: self.ledger,
            active=lambda: self.lane.active,
            limit=lambda: self.lane.limiter.limit,
            queued=lambda: self.lane.queued,
            waiting=lambda: self.lane.waiting,
            held=lambda: self.lane.held,
            is_parked=lambda: bool(self.parked),
            circuit_closed=lambda: self.lane.circuit.state is BreakerState.CLOSED,
            without_order_key=lambda: self.order_watch.without if self.order_watch else 0,
            confirmations=lambda: self.status_poller.outcomes if self.status_poller else {},
        )

    def beside(self, batcher: Batcher | SourceBatchers) -> "SinkRunner":
        """The same sink, for another source, which has batches of its own."""
        other = SinkRunner(
            self.sink, batcher, self.lane, self.recorder, self.worker, self.letters, self.transforms
        )
        other.status_poller, other.confirm_timeout_s = self.status_poller, self.confirm_timeout_s
        other.order_watch, other.lost, other.parked = self.order_watch, self.lost, self.parked
        return other
