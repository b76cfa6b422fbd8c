"""One event by hand: sent, and followed until its fate is known.

Nothing is stored. ``PublishedEvent`` says at every moment what is known, for whoever breaks off.
"""

import asyncio
import random
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.core.clock import Clock
from ingestd.core.errors import Unreachable, UserError
from ingestd.core.units import human_seconds
from ingestd.core.verdict import Meaning, Verdict
from ingestd.delivery.event_status import EventStatus, Standing, StatusReader, question_url
from ingestd.sinks.sink import Sink, Unencodable

MAX_ATTEMPTS = 5
MAX_WAIT_S = 60.0
"""Before the next attempt. A person who is asked for more by the API is better told so."""
NOT_FOUND_S = 60.0
"""So long after its acceptance an event that the API does not know may only be late."""

_BACKOFF = Backoff(base_s=0.5, cap_s=8.0)
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


class SendsBatches(Protocol):
    async def send(self, url: str, body: bytes, headers: Mapping[str, str], /) -> tuple[Answer, int]:
        """(answer, generation of the credential). Raises Unreachable."""
        ...

    def drop_token(self, generation: int, /) -> None: ...


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
    fate: PublishedEvent = field(default_factory=PublishedEvent)
    started: float = 0.0

    async def send(self, event: bytes, sender: SendsBatches) -> None:
        """The same bytes under the same key, a few times where the answer is none, or "later".

        Raises UserError for an event that cannot be sent.
        """
        body, headers = self._encode(event)
        self.fate.key = headers.get("Idempotency-Key", "")
        self.started = self.clock.monotonic()
        renewed = False
        while True:
            verdict, generation = await self._attempt(event, body, headers, sender)
            # what cannot be understood may have been taken: only the same again can tell
            repeat = verdict.meaning is Meaning.RETRY or verdict.unanswered
            if (verdict.meaning is Meaning.UNAUTHORIZED or verdict.about_token) and not renewed:
                renewed = True
                sender.drop_token(generation)
            elif not repeat or not await self._again(verdict):
                break
        self._conclude(verdict)

    async def follow(
        self, url_template: str, reader: StatusReader, asker: StatusQuestions, *, within_s: float
    ) -> None:
        """Ask what became of an accepted event until that is known, or the time is over."""
        url = question_url(url_template, self.fate.id)
        last = f"not known within {human_seconds(within_s)}"
        if url is None:
            return self._end(PublishOutcome.TIMED_OUT, "the API gave no id that it could be asked about")
        accepted_at, wait_s = self.clock.monotonic(), _FIRST_QUESTION_S
        try:
            async with asyncio.timeout(within_s):
                while True:
                    await self.clock.sleep(wait_s)
                    status = await self._ask(url, asker, reader)
                    age_s = self.clock.monotonic() - accepted_at
                    lost = status.standing is Standing.NOT_FOUND and age_s >= NOT_FOUND_S
                    if status.standing is Standing.DELIVERED:
                        return self._end(PublishOutcome.DELIVERED, "")
                    if status.standing is Standing.FAILED or lost:
                        return self._end(PublishOutcome.FAILED, status.words)
                    last = f"not known within {human_seconds(within_s)}: {status.words}"
                    wait_s = max(min(2 * wait_s, _MAX_QUESTION_S), status.after_s or 0.0)
        except TimeoutError:
            self._end(PublishOutcome.TIMED_OUT, last)

    def _encode(self, event: bytes) -> tuple[bytes, dict[str, str]]:
        sink = self.sink
        try:
            body, headers = sink.encode([event]), sink.headers(str(uuid.uuid4()), [event])
        except Unencodable as error:
            raise UserError(f"the event does not fit {sink.kind}: {error.events[0]}") from None
        if len(body) > sink.max_bytes:
            raise UserError(f"the event has {len(body)} bytes: {sink.shown_url} takes {sink.max_bytes}")
        return body, headers

    async def _attempt(
        self, event: bytes, body: bytes, headers: Mapping[str, str], sender: SendsBatches
    ) -> tuple[Verdict, int]:
        fate, before = self.fate, self.fate.outcome
        fate.outcome = PublishOutcome.UNKNOWN
        try:
            answer, generation = await sender.send(self.sink.url, body, dict(headers))
        except Unreachable as error:  # no token: it was not sent
            fate.outcome = before
            return Verdict(Meaning.PAUSED, str(error)), 0
        fate.attempts += 1
        fate.status = answer.status
        verdict = self.sink.interpret(answer, [event])
        if verdict.meaning is Meaning.ACCEPTED and verdict.items:  # the one event there is was not
            (item, *_) = verdict.items
            verdict = Verdict(Meaning.RETRY if item.retryable else Meaning.REJECTED, item.message)
        fate.maybe_taken = fate.maybe_taken or verdict.unanswered
        return verdict, generation

    async def _again(self, verdict: Verdict) -> bool:
        """Wait for the next attempt; False if there is none."""
        wait_s = _BACKOFF.delay(self.fate.attempts, at_least_s=verdict.after_s, rng=random.Random())
        if self.fate.attempts >= MAX_ATTEMPTS or wait_s > MAX_WAIT_S:
            return False
        what = f"attempt {self.fate.attempts} of {MAX_ATTEMPTS}: {verdict.detail or 'no answer'}"
        self.tell(f"{what}; again in {human_seconds(wait_s)}")
        await self.clock.sleep(wait_s)
        return True

    def _conclude(self, verdict: Verdict) -> None:
        match verdict.meaning:
            case Meaning.ACCEPTED:
                self.fate.id = verdict.remote_ids[0][1] if verdict.remote_ids else ""
                self._end(PublishOutcome.ACCEPTED, "")
            case Meaning.REJECTED | Meaning.PERMANENT | Meaning.SPLIT:
                self._end(PublishOutcome.REFUSED, verdict.detail)
            case Meaning.RETRY if verdict.after_s is not None and verdict.after_s >= MAX_WAIT_S:
                wait = human_seconds(verdict.after_s)
                self._end(
                    PublishOutcome.UNAVAILABLE, f"{verdict.detail}; it wants to be left alone for {wait}"
                )
            case _:
                self._end(PublishOutcome.UNAVAILABLE, verdict.detail or "no answer")

    async def _ask(self, url: str, asker: StatusQuestions, reader: StatusReader) -> EventStatus:
        try:
            answer = await asker.get(url)
        except Unreachable as error:
            return EventStatus(Standing.UNANSWERED, str(error))
        return reader.read(answer, now_wall=self.clock.wall())

    def _end(self, outcome: PublishOutcome, detail: str) -> None:
        self.fate.outcome = outcome
        self.fate.detail = detail
        self.fate.seconds = self.clock.monotonic() - self.started
