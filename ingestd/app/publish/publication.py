"""One event by hand: sent, and followed until its fate is known.

Nothing is stored. ``PublishedEvent`` says at every moment what is known, for when a person breaks off.
"""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Protocol

import anyio

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.core.batch import Batch, random_id
from ingestd.core.clock import Clock
from ingestd.core.errors import Unreachable, UserError, first_cause
from ingestd.core.ledger import SinkLedger
from ingestd.core.units import human_seconds
from ingestd.core.verdict import Meaning, Verdict
from ingestd.delivery.circuit_breaker import BreakerState
from ingestd.delivery.event_status import EventStatus, Standing, StatusReader, question_url
from ingestd.delivery.lane import BatchTransport, Lane
from ingestd.delivery.lane_settings import LaneSettings
from ingestd.delivery.recorder import Outcomes
from ingestd.sinks.sink import Sink, Unencodable

MAX_ATTEMPTS = 5
MAX_WAIT_S = 60.0
"""Before the next attempt. A person who is asked for more by the API is better told so."""
NOT_FOUND_S = 60.0
"""So long after its acceptance an event that the API does not know may only be late."""

_SETTINGS = LaneSettings(
    max_in_flight=1,
    backoff=Backoff(base_s=0.5, cap_s=8.0),
    circuit_threshold=10 * MAX_ATTEMPTS,  # the attempts are counted here
    startup_timeout_s=3600.0,
    confirms=True,
)
_FIRST_QUESTION_S, _MAX_QUESTION_S = 0.3, 5.0

Tell = Callable[[str], None]


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

    ``maybe_taken``: an attempt had no clear answer. ``seconds``: from the first attempt to the outcome.
    """

    outcome: PublishOutcome = PublishOutcome.UNSENT
    id: str = ""
    key: str = ""
    status: int = 0
    attempts: int = 0
    seconds: float = 0.0
    detail: str = ""
    maybe_taken: bool = False
    interrupted: bool = False

    @property
    def exit_code(self) -> int:
        return 130 if self.interrupted else EXIT_CODES.get(self.outcome, 3)


class StatusQuestions(Protocol):
    async def get(self, url: str, /) -> Answer:
        """Raises Unreachable."""
        ...


@dataclass(slots=True)
class Publication:
    """``send``, then ``follow``. ``tell`` hears why it takes longer."""

    sink: Sink
    clock: Clock
    tell: Tell
    rng: random.Random
    fate: PublishedEvent = field(default_factory=PublishedEvent)
    started: float = 0.0

    async def send(self, event: bytes, transport: BatchTransport) -> None:
        """Through a lane of its own: the same bytes under the same key, a few times where the answer is none,
        or "later". Raises UserError for an event that cannot be sent."""
        batch = Batch([event], [None], [], partial(random_id, self.rng))
        self._check(batch)
        self.started = self.clock.monotonic()
        recorder = _Recorder(self)
        lane = Lane(self.sink, transport, recorder, settings=_SETTINGS, clock=self.clock, rng=self.rng)
        lane.add([batch])
        lane.close()
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lane.run)
                await recorder.ended.wait()
                tasks.cancel_scope.cancel()
        except* Unreachable as group:  # no token: it was not sent
            self.end(PublishOutcome.UNAVAILABLE, str(first_cause(group)))

    async def follow(
        self, url_template: str, reader: StatusReader, asker: StatusQuestions, *, within_s: float
    ) -> None:
        """Ask what became of an accepted event until that is known, or the time is over."""
        url = question_url(url_template, self.fate.id)
        last = f"not known within {human_seconds(within_s)}"
        if url is None:
            return self.end(PublishOutcome.TIMED_OUT, "the API gave no id that it could be asked about")
        accepted_at, wait_s = self.clock.monotonic(), _FIRST_QUESTION_S
        try:
            async with self.clock.timeout(within_s):
                while True:
                    await self.clock.sleep(wait_s)
                    status = await self._ask(url, asker, reader)
                    age_s = self.clock.monotonic() - accepted_at
                    lost = status.standing is Standing.NOT_FOUND and age_s >= NOT_FOUND_S
                    if status.standing is Standing.DELIVERED:
                        return self.end(PublishOutcome.DELIVERED, "")
                    if status.standing is Standing.FAILED or lost:
                        return self.end(PublishOutcome.FAILED, status.words)
                    last = f"not known within {human_seconds(within_s)}: {status.words}"
                    wait_s = max(min(2 * wait_s, _MAX_QUESTION_S), status.after_s or 0.0)
        except TimeoutError:
            self.end(PublishOutcome.TIMED_OUT, last)

    def _check(self, batch: Batch) -> None:
        sink = self.sink
        try:
            size = len(sink.encode(batch.events))
        except Unencodable as error:
            raise UserError(f"the event does not fit {sink.kind}: {error.events[0]}") from None
        if size > sink.max_bytes:
            raise UserError(f"the event has {size} bytes: {sink.shown_url} takes {sink.max_bytes}")

    async def _ask(self, url: str, asker: StatusQuestions, reader: StatusReader) -> EventStatus:
        try:
            answer = await asker.get(url)
        except Unreachable as error:
            return EventStatus(Standing.UNANSWERED, str(error))
        return reader.read(answer, now_wall=self.clock.wall())

    def end(self, outcome: PublishOutcome, detail: str) -> None:
        self.fate.outcome = outcome
        self.fate.detail = detail
        self.fate.seconds = self.clock.monotonic() - self.started


class _Recorder:
    """What the lane tells of the one event there is. ``ended``: its outcome is known, or it is given up."""

    def __init__(self, publication: Publication) -> None:
        self.ledger = SinkLedger()
        self.ended = anyio.Event()
        self._publication = publication
        self._fate = publication.fate
        self._repeats = False

    async def freeze(self, batch: Batch) -> None:
        """It is going out."""
        self._fate.key = self._publication.sink.headers(batch.id, batch.events).get("Idempotency-Key", "")
        self._fate.outcome = PublishOutcome.UNKNOWN

    def withdraw(self, batch: Batch) -> Batch | None:
        return batch

    def attempted(self, batch: Batch, answer: Answer, verdict: Verdict) -> None:
        fate, after_s = self._fate, verdict.after_s
        fate.attempts += 1
        fate.status = answer.status
        fate.maybe_taken = fate.maybe_taken or verdict.ambiguous
        # what cannot be understood may have been taken: only the same again can tell
        self._repeats = verdict.meaning is Meaning.RETRY or verdict.ambiguous
        if not self._repeats:
            return
        why = verdict.detail or "no answer"
        if after_s is not None and after_s >= MAX_WAIT_S:
            self._end(PublishOutcome.UNAVAILABLE, f"{why}; the API asks for {human_seconds(after_s)} of rest")
        elif fate.attempts >= MAX_ATTEMPTS:
            self._end(PublishOutcome.UNAVAILABLE, why)
        else:
            self._publication.tell(f"attempt {fate.attempts} of {MAX_ATTEMPTS}: {why}; retrying")

    def resolve(self, batch: Batch, outcomes: Outcomes) -> None:
        if outcomes.failed:
            self._end(PublishOutcome.REFUSED, outcomes.failed[0].detail)
        elif outcomes.delivered:
            self._fate.id = outcomes.remote_ids[0][1] if outcomes.remote_ids else ""
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
