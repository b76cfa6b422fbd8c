"""One event by hand: sent, and followed until its outcome is known.

Nothing is stored. ``PublishedEvent`` says at every moment what is known, for when a person breaks off.
"""

import asyncio
import math
import random
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.core.chunk import Batch, batch_ids
from ingestd.core.clock import Clock
from ingestd.core.errors import Unreachable, UserError, first_cause
from ingestd.core.ledger import SinkLedger
from ingestd.core.letter import DeadLetter
from ingestd.core.units import human_seconds
from ingestd.core.verdict import Meaning, Verdict
from ingestd.delivery.batch_transport import BatchTransport
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.event_status import StatusReader, question_url
from ingestd.delivery.lane import Lane
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.delivery.recorder import Outcomes, PendingConfirmations
from ingestd.delivery.status_poller import StatusPoller, StatusPollerSettings, StatusRequests
from ingestd.sinks.sink import Sink, Unencodable
from ingestd.store.confirmations import Due, Pending

MAX_ATTEMPTS = 5
MAX_WAIT_S = 60.0
"""Longest wait before the next attempt. If the API asks for more, the person is told to try later."""
REPORT_EVERY_S = 5.0
"""While nothing is heard of the event."""

_SETTINGS = LaneSettings(
    max_in_flight=1,
    backoff=Backoff(base_s=0.5, cap_s=8.0),
    circuit_threshold=10 * MAX_ATTEMPTS,  # the attempts are counted here
    startup_timeout_s=3600.0,
    confirms=True,
)
_POLLS = StatusPollerSettings(
    timeout_s=math.inf,  # the time to wait is a person's
    initial_delay_s=0.3,
    max_wait_s=5.0,
    requests_per_minute=600,
)

OnDelay = Callable[[str], None]


class PublishOutcome(StrEnum):
    """The value of ``outcome`` in ``publish --json``."""

    UNSENT = "unsent"
    UNKNOWN = "unknown"  # sent, and broken off before an answer
    ACCEPTED = "accepted"
    DELIVERED = "delivered"
    FAILED = "failed"
    TIMED_OUT = "timed_out"  # accepted, and not known to be delivered in the time it was given
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"  # no answer, no login, or nothing but "later"


EXIT_CODES = {PublishOutcome.ACCEPTED: 0, PublishOutcome.DELIVERED: 0, PublishOutcome.UNAVAILABLE: 4}
"""Of outcomes; any other has 3."""


@dataclass(slots=True)
class PublishedEvent:
    """``id``: the API's own. ``key``: the idempotency key. ``status``: of the last answer to the event.

    ``maybe_accepted``: an attempt had no clear answer. ``seconds``: from the first attempt to the outcome.
    """

    outcome: PublishOutcome = PublishOutcome.UNSENT
    id: str = ""
    key: str = ""
    status: int = 0
    attempts: int = 0
    seconds: float = 0.0
    detail: str = ""
    maybe_accepted: bool = False
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        return 130 if self.interrupted else EXIT_CODES.get(self.outcome, 3)

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``, where ``maybe_accepted`` is ``maybe_taken``."""
        fields = asdict(self) | {"maybe_taken": self.maybe_accepted, "seconds": round(self.seconds, 3)}
        del fields["maybe_accepted"]
        return fields


@dataclass(slots=True)
class Publication:
    """``send``, then ``follow``. ``report`` is called with why it takes longer."""

    sink: Sink
    clock: Clock
    report: OnDelay
    rng: random.Random
    result: PublishedEvent = field(default_factory=PublishedEvent)
    started: float = 0.0

    async def send(self, event: bytes, transport: BatchTransport) -> None:
        """Through a lane of its own: the same bytes under the same key, a few times where the answer is none,
        or "later". Raises UserError for an event that cannot be sent."""
        batch = Batch([event], [None], [], batch_ids(self.rng))
        self._check(batch)
        self.started = self.clock.monotonic()
        recorder = _Recorder(self)
        lane = Lane(self.sink, transport, recorder, settings=_SETTINGS, clock=self.clock, rng=self.rng)
        lane.add([batch])
        lane.close()
        try:
            await self._until(
                recorder.ended,
                lane.run,
                lambda: f"attempt {self.result.attempts + 1} of {MAX_ATTEMPTS}: no answer",
            )
        except* Unreachable as group:  # no token: it was not sent
            self.end(PublishOutcome.UNAVAILABLE, str(first_cause(group)))

    async def follow(
        self, url_template: str, reader: StatusReader, client: StatusRequests, *, within_s: float
    ) -> None:
        """Ask what became of an accepted event until that is known, or the time is over."""
        if question_url(url_template, self.result.id) is None:
            return self.end(PublishOutcome.TIMED_OUT, "the API gave no id that it could be asked about")
        pending = PendingConfirmations(1)
        poller = StatusPoller(
            self.sink.name,
            url_template,
            client=client,
            store=_OneConfirmation(self.result, self.clock.wall()),
            recorder=_StatusRecorder(self),
            pending=pending,
            reader=reader,
            settings=_POLLS,
            clock=self.clock,
            rng=self.rng,
        )
        await poller.open()
        try:
            async with self.clock.timeout(within_s):
                await self._until(
                    pending.none_left,
                    poller.run,
                    lambda: f"not delivered yet: {poller.last_words or 'no answer'}",
                )
        except TimeoutError:
            last = f": {poller.last_words}" if poller.last_words else ""
            self.end(PublishOutcome.TIMED_OUT, f"not known within {human_seconds(within_s)}{last}")

    async def _until(
        self, ended: asyncio.Event, work: Callable[[], Coroutine[Any, Any, None]], words: Callable[[], str]
    ) -> None:
        """Do ``work`` until it has ``ended``; report ``words`` again and again meanwhile."""

        async def remind() -> None:
            while True:
                await self.clock.sleep(REPORT_EVERY_S)
                self.report(f"{words()} ({human_seconds(self.clock.monotonic() - self.started)})")

        async with asyncio.TaskGroup() as tasks:
            running = [tasks.create_task(work()), tasks.create_task(remind())]
            await ended.wait()
            for task in running:
                task.cancel()

    def _check(self, batch: Batch) -> None:
        sink = self.sink
        try:
            size = len(sink.encode(batch.events))
        except Unencodable as error:
            raise UserError(f"the event does not fit {sink.kind}: {error.events[0]}") from None
        if size > sink.max_bytes:
            raise UserError(f"the event has {size} bytes: {sink.shown_url} takes {sink.max_bytes}")

    def end(self, outcome: PublishOutcome, detail: str) -> None:
        self.result.outcome = outcome
        self.result.detail = detail
        self.result.seconds = self.clock.monotonic() - self.started


class _Recorder:
    """Records what the lane reports of the one event. ``ended``: its outcome is known, or it is given up."""

    def __init__(self, publication: Publication) -> None:
        self.ledger = SinkLedger()
        self.ended = asyncio.Event()
        self._publication = publication
        self._published = publication.result
        self._repeats = False
        self._errors = ""  # that the last answer names, although its status is one of success

    async def freeze(self, batch: Batch) -> None:
        """It is going out."""
        self._published.key = self._publication.sink.headers(batch.id, batch.events).get(
            "Idempotency-Key", ""
        )
        self._published.outcome = PublishOutcome.UNKNOWN

    def withdraw(self, batch: Batch) -> Batch | None:
        return batch

    def attempted(self, batch: Batch, answer: Answer, verdict: Verdict) -> None:
        published, after_s = self._published, verdict.after_s
        published.attempts += 1
        published.status = answer.status
        published.maybe_accepted = published.maybe_accepted or verdict.ambiguous
        # what cannot be understood may have been taken: only the same again can tell
        self._repeats = verdict.meaning is Meaning.RETRY or verdict.ambiguous
        self._errors = ""
        if verdict.unmatched and not (answer.truncated or answer.unreadable):
            self._errors = verdict.unmatched_words or "errors"
        if not self._repeats:
            return
        why = verdict.detail or "no answer"
        if after_s is not None and after_s >= MAX_WAIT_S:
            self._end(PublishOutcome.UNAVAILABLE, f"{why}; the API asks for {human_seconds(after_s)} of rest")
        elif published.attempts >= MAX_ATTEMPTS:
            self._end(PublishOutcome.UNAVAILABLE, why)
        else:
            self._publication.report(f"attempt {published.attempts} of {MAX_ATTEMPTS}: {why}; retrying")

    def resolve(self, batch: Batch, outcomes: Outcomes) -> None:
        if outcomes.failed:
            self._end(PublishOutcome.REFUSED, outcomes.failed[0].detail)
        elif self._errors:
            self._published.maybe_accepted = True
            self._end(PublishOutcome.REFUSED, f"the answer says {self._errors}: {batch.last_answer}")
        elif outcomes.delivered:
            self._published.id = outcomes.remote_ids[0][1] if outcomes.remote_ids else ""
            self._end(PublishOutcome.ACCEPTED, "")

    def learned(self, max_bytes: int) -> None: ...

    def lane_changed(self, state: BreakerState, why: str) -> None:
        if (
            state is BreakerState.PAUSED and not self._repeats
        ):  # for a person to see to: access, address, login
            self._end(PublishOutcome.UNAVAILABLE, why)

    def _end(self, outcome: PublishOutcome, detail: str) -> None:
        self._publication.end(outcome, detail)
        self.ended.set()


class _OneConfirmation:
    """The store of the status poller, of one event and in memory."""

    def __init__(self, published: PublishedEvent, now: float) -> None:
        self._whole = Pending(
            "", published.id, published.key, 0, 0, 0, None, published.attempts, b"", id=1, accepted_at=now
        )
        self._due, self._asked = now + _POLLS.initial_delay_s, 0

    async def open(self, *, now: float) -> int:
        return 1

    async def due(self, *, now: float, limit: int) -> tuple[Sequence[Due], float | None]:
        if now < self._due:
            return (), self._due
        whole = self._whole
        return (Due(1, whole.remote_id, whole.accepted_at, self._asked, whole.batch, 0, 0),), None

    async def read(self, number: int, /) -> Pending:
        return self._whole

    def postpone(self, number: int, /, *, due: float, asked: int) -> None:
        self._due, self._asked = due, asked

    def settle(self, ids: Sequence[int], /) -> None: ...

    async def commit(self) -> None: ...


class _StatusRecorder:
    """Records what the status poller reports of the event."""

    keeps = False

    def __init__(self, publication: Publication) -> None:
        self._publication = publication

    def confirmed(self, sink: str, event: Due, whole: Pending | None, /) -> None:
        self._publication.end(PublishOutcome.DELIVERED, "")

    def confirmation_failed(self, sink: str, letter: DeadLetter, /) -> None:
        self._publication.end(PublishOutcome.FAILED, letter.detail)
