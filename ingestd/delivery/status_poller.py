"""Asks an API what became of the events it has accepted, in the background. Wired by ``pipeline.py``.

The events wait in the store, so that a restart goes on where this process was. An API that does not answer
is asked less and less and ends no event: see ``StatusPollerSettings.outage_timeout_s``.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec

from ingestd.core.answer import Answer
from ingestd.core.backoff import Backoff
from ingestd.core.clock import Clock, ungrouped
from ingestd.core.errors import Unreachable
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.core.token_bucket import TokenBucket
from ingestd.core.units import human_seconds
from ingestd.delivery.event_status import EventStatus, Standing, StatusReader, question_url
from ingestd.delivery.recorder import PendingConfirmations
from ingestd.delivery.status_client import PollBackoff, jitter
from ingestd.telemetry.metrics import ANSWER_CLASS

_PAGE = 32
_FAILURES_TO_REPORT = 5
_LOOK_AGAIN_S = 60.0
_AT_ONCE_S = 0.1
"""How many requests may go together after a pause: those of so many seconds."""


class DueConfirmation(Protocol):
    @property
    def id(self) -> int: ...
    @property
    def remote_id(self) -> str: ...
    @property
    def accepted_at(self) -> float:
        """Wall time."""
        ...

    @property
    def asked(self) -> int:
        """Polls about it that were answered."""
        ...

    @property
    def batch(self) -> str: ...
    @property
    def source(self) -> int: ...
    @property
    def offset(self) -> int: ...


class UnconfirmedEvent(DueConfirmation, Protocol):
    """All of it: what makes a dead letter."""

    @property
    def payload(self) -> bytes: ...
    @property
    def intact(self) -> bool: ...
    @property
    def line(self) -> int: ...
    @property
    def digest(self) -> bytes | None: ...
    @property
    def attempts(self) -> int: ...


class ConfirmationStore(Protocol):
    """``store.confirmations.Confirmations``. What is noted becomes durable with the next ``commit``."""

    async def open(self, *, now: float) -> int:
        """Read what an earlier process left. Gives how many events wait. Raises StoreFailed."""
        ...

    async def due(self, *, now: float, limit: int) -> tuple[Sequence[DueConfirmation], float | None]:
        """(those that are due, the first first; when the next one is that is not yet)."""
        ...

    async def read(self, number: int, /) -> UnconfirmedEvent | None:
        """The event itself, by its number here; None if it is not there any more."""
        ...

    def postpone(self, number: int, /, *, due: float, asked: int) -> None:
        """Ask again at ``due`` (wall time); it was asked ``asked`` times."""
        ...

    def settle(self, ids: Sequence[int], /) -> None:
        """These events are confirmed or failed: they are not asked about any more."""
        ...

    async def commit(self) -> None: ...


class ConfirmationRecorder(Protocol):
    """Called together with ``ConfirmationStore.settle``: both are on disk, or neither is."""

    @property
    def keeps(self) -> bool:
        """Whether it wants the event itself with ``confirmed``."""
        ...

    def confirmed(self, sink: str, event: Any, whole: Any, /) -> None:
        """The API says that it has delivered ``event``; ``whole``: itself, where ``keeps``."""
        ...

    def confirmation_failed(self, sink: str, letter: DeadLetter, /) -> None:
        """Accepted, and failed after all, or not confirmed in time."""
        ...


class StatusRequests(Protocol):
    """``status_client.StatusClient``."""

    async def get(self, url: str) -> Answer:
        """With credentials. Raises Unreachable when there is no token to be had."""
        ...


class StatusPollerSettings(msgspec.Struct, frozen=True):
    """``not_found_s``: for this time after its acceptance an event that the API does not know counts as late.

    An event ends unconfirmed after ``timeout_s``, if the API then still says nothing better; if it says
    nothing at all, after another ``outage_timeout_s`` of both the event's and this process's life.
    """

    timeout_s: float = 300.0
    initial_delay_s: float = 1.0
    max_wait_s: float = 60.0
    requests_per_minute: int = 60
    max_polls: int = 8
    not_found_s: float = 60.0
    outage_timeout_s: float = 3600.0


class StatusPoller:
    """``open``, then ``run`` until cancelled. ``on_room`` is called when sending may go on. ``outcomes`` and
    ``polls`` (by class of answer) are counts for the metrics. ``last_words``: of the last answer.
    """

    def __init__(
        self,
        sink: str,
        url_template: str,
        *,
        client: StatusRequests,
        store: ConfirmationStore,
        recorder: ConfirmationRecorder,
        pending: PendingConfirmations,
        reader: StatusReader,
        settings: StatusPollerSettings,
        clock: Clock,
        rng: random.Random,
        on_room: Callable[[], None] = lambda: None,
        warn: Callable[[str], None] = lambda message: None,
    ) -> None:
        self.pending = pending
        self.outcomes = {"confirmed": 0, "failed": 0, "timed_out": 0}
        self.polls: Counter[str] = Counter()
        self.last_words = ""
        self._on_room = on_room
        self._sink = sink
        self._url_template = url_template
        self._client = client
        self._store = store
        self._recorder = recorder
        self._reader = reader
        self._settings = settings
        self._clock = clock
        self._warn = warn
        self._random = rng
        per_s = settings.requests_per_minute / 60
        self._requests = TokenBucket(per_s, 1 + _AT_ONCE_S * per_s, clock.monotonic())
        self._backoff = PollBackoff(max_wait_s=settings.max_wait_s, rng=self._random)
        self._changed = pending.changed
        self._page: deque[DueConfirmation] = deque()
        self._out: set[int] = set()
        self._started = clock.monotonic()
        self._ever_known = False  # the API has known an event: the URL is right

    async def open(self) -> int:
        """How many events an earlier process left; they are pending now. Raises StoreFailed."""
        left = await self._store.open(now=self._clock.wall())
        self.pending.add(left)
        return left

    async def run(self) -> None:
        """Raises StoreFailed. A poll that is cancelled is sent again by the next process."""
        self._started = self._clock.monotonic()
        with ungrouped(Exception):
            async with asyncio.TaskGroup() as polls:
                while True:
                    event = await self._next()
                    self._out.add(event.id)
                    polls.create_task(self._poll(event), name=f"status poll {event.id}")

    # --- whom to ask, and when ---

    async def _next(self) -> DueConfirmation:
        """The next event to ask about, once it is due and a request may be spent on it."""
        while True:
            self._changed.clear()
            now, wake = self._clock.monotonic(), None
            at_once = 1 if self._backoff.in_a_row else self._settings.max_polls
            if now < self._backoff.hold_until:
                wake = self._backoff.hold_until
            elif len(self._out) < at_once:
                if not self._page:
                    wake = await self._turn_page(now)
                if self._page:
                    await self._clock.sleep(self._requests.reserve(now))
                    if self._clock.monotonic() >= self._backoff.hold_until:
                        return self._page.popleft()
                    continue
            await self._wait(wake)

    async def _turn_page(self, now: float) -> float | None:
        """Read those that are due; gives when to look again if there are none."""
        wall, out = self._clock.wall(), frozenset(self._out)  # those whose poll ends meanwhile included
        rows, upcoming = await self._store.due(now=wall, limit=_PAGE + len(out))
        self._page.extend(row for row in rows if row.id not in out)
        return None if upcoming is None else now + upcoming - wall

    async def _wait(self, wake: float | None) -> None:
        """Until something changes or that time is reached; not for long, as the wall clock may be set."""
        wait_s = _LOOK_AGAIN_S if wake is None else min(_LOOK_AGAIN_S, wake - self._clock.monotonic())
        changed = asyncio.ensure_future(self._changed.wait())
        slept = asyncio.ensure_future(self._clock.sleep(max(0.001, wait_s)))
        try:
            await asyncio.wait((changed, slept), return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            slept.cancel()
            await asyncio.wait((changed, slept))

    # --- one poll ---

    async def _poll(self, event: DueConfirmation) -> None:
        try:
            url = question_url(self._url_template, event.remote_id)
            if url is None:
                await self._dead_letter(
                    event, Reason.UNCONFIRMED, "the API gave it an id that cannot be asked for"
                )
                return
            started = self._clock.monotonic()
            status = await self._answer(url)
            if status.standing is Standing.UNANSWERED:
                await self._unanswered(event, status, started=started)
            else:
                await self._answered(event, status)
        finally:
            self._out.discard(event.id)
            self._changed.set()

    async def _answer(self, url: str) -> EventStatus:
        try:
            answer = await self._client.get(url)
        except Unreachable as error:
            answer = Answer(0, error=str(error))
        self.polls[ANSWER_CLASS.get(answer.status, "none")] += 1
        status = self._reader.read(answer, now_wall=self._clock.wall())
        self.last_words = status.words
        return status

    async def _answered(self, event: DueConfirmation, status: EventStatus) -> None:
        settings, now = self._settings, self._clock.wall()
        age_s = now - event.accepted_at
        self._answered_again()
        self._ever_known |= status.standing is not Standing.NOT_FOUND
        lost = status.standing is Standing.NOT_FOUND and age_s >= settings.not_found_s and self._ever_known
        if status.standing is Standing.DELIVERED:
            whole = await self._store.read(event.id) if self._recorder.keeps else None
            self._store.settle([event.id])
            self._recorder.confirmed(self._sink, event, whole)
            self._end("confirmed")
        elif status.standing is Standing.FAILED or lost:
            await self._dead_letter(event, Reason.FAILED, status.words)
        elif age_s >= settings.timeout_s:
            await self._dead_letter(event, Reason.UNCONFIRMED, self._too_late(event, status))
        else:
            ceiling = Backoff(settings.initial_delay_s, settings.max_wait_s).ceiling(event.asked + 2)
            due = min(now + jitter(ceiling, self._random), event.accepted_at + settings.timeout_s)
            self._store.postpone(event.id, due=due, asked=event.asked + 1)

    async def _unanswered(self, event: DueConfirmation, status: EventStatus, *, started: float) -> None:
        """Nothing was said about the event: that is not its fault, and the others would fare no better."""
        settings, now, wall = self._settings, self._clock.monotonic(), self._clock.wall()
        age_s = wall - event.accepted_at
        self._note_failure(status, started=started, now=now)
        outage_s = settings.outage_timeout_s
        if age_s >= settings.timeout_s + outage_s and now - self._started >= outage_s:
            await self._dead_letter(event, Reason.UNCONFIRMED, self._too_late(event, status))
            return
        wait_s = jitter(min(settings.max_wait_s, max(settings.initial_delay_s, age_s)), self._random)
        self._store.postpone(event.id, due=wall + wait_s, asked=event.asked)

    def _note_failure(self, status: EventStatus, *, started: float, now: float) -> None:
        new = self._backoff.note(started=started, now=now, after_s=status.after_s or 0.0)
        if new and self._backoff.in_a_row == _FAILURES_TO_REPORT:
            self._warn(
                f"sink {self._sink}: the API does not say what became of its events"
                f" ({self.pending.count} wait for that): {status.words}"
            )

    def _answered_again(self) -> None:
        if self._backoff.over() >= _FAILURES_TO_REPORT:
            self._warn(f"sink {self._sink}: the API says again what became of its events")

    async def _dead_letter(self, event: DueConfirmation, reason: Reason, detail: str) -> None:
        pending = await self._store.read(event.id)
        self._store.settle([event.id])
        if pending is not None:
            self._recorder.confirmation_failed(self._sink, make_letter(pending, reason, detail))
        self._end("timed_out" if reason is Reason.UNCONFIRMED else "failed")
        await self._store.commit()  # a person may look for it

    def _end(self, outcome: str) -> None:
        self.outcomes[outcome] += 1
        if self.pending.take_one():
            self._on_room()

    def _too_late(self, event: DueConfirmation, status: EventStatus) -> str:
        waited = human_seconds(max(0.0, self._clock.wall() - event.accepted_at))
        return f"accepted, but not confirmed within {waited}: {status.words}"


def make_letter(pending: UnconfirmedEvent, reason: Reason, detail: str) -> DeadLetter:
    """``first_sent_wall`` is when it was accepted: soon after."""
    if not pending.intact:
        detail = f"the stored payload is damaged (checksum); {detail}"
    return DeadLetter(
        pending.payload,
        reason,
        detail,
        pending.source,
        pending.offset,
        pending.line,
        pending.digest,
        pending.batch,
        attempts=pending.attempts,
        first_sent_wall=pending.accepted_at,
    )
