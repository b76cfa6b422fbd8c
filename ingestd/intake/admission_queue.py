"""Submissions on their way into a spool, whichever it is: let in, taken together, validated by turns.

``admission.py`` stores them in the state file, ``cluster/edge_admission.py`` in streams.
"""

import asyncio
import sys
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Callable, Iterator

from ingestd.core.clock import Clock
from ingestd.core.submission import DeferredSubmission, Submission
from ingestd.intake.submission_group import MAX_EVENTS, KeyWindow, SubmissionGroup
from ingestd.processing.validate import Validator
from ingestd.recording.event_recorder import EventTrace

SLICE_S = 0.01
"""Of one turn of the loop, for validation; a step of it that was begun is brought to its end."""

_DONE = object()

Accepted = Callable[[str, int], None]
"""(producer, events that were new)."""


class AdmissionQueue(ABC):
    """``submit`` may be called at any time. A group of submissions that is validated goes to ``_store``; who
    stores them says with ``_go_on`` that they are answered.

    ``accepted`` is to be called with the new events of each submission. ``most_bytes``: of a group; then no
    more come into it.
    """

    def __init__(
        self,
        *,
        validator: Validator,
        max_event_bytes: int,
        max_unanswered_bytes: int,
        keep_rejected: bool,
        accepted: Accepted,
        trace: EventTrace | None,
        clock: Clock,
        most_bytes: int = sys.maxsize,
    ) -> None:
        self.validator = validator
        self.keep_rejected = keep_rejected
        self.deferred: Counter[int] = Counter()  # events, by the status they were answered with
        self._accepted = accepted
        self._trace = trace
        self._clock = clock
        self._max_event_bytes = max_event_bytes
        self._max_unanswered_bytes = max_unanswered_bytes
        self._most_bytes = most_bytes
        self._arrived: list[Submission] = []
        self._arrived_bytes = self._unanswered_bytes = 0
        self._in_check: deque[tuple[SubmissionGroup, Iterator[None]]] = deque()
        self._scheduled = False
        self._idle = asyncio.Event()
        self._idle.set()

    # --- what differs ---

    @abstractmethod
    def _refusal(self, size_bytes: int) -> DeferredSubmission | None:
        """Why so many bytes more cannot be taken now; 0: why nothing can."""

    @abstractmethod
    def _keys(self) -> KeyWindow:
        """What tells copies apart in the next group."""

    @abstractmethod
    def _store(self, group: SubmissionGroup) -> None:
        """Claim the keys of a group that is validated, and begin to store it."""

    def _goes_with_later(self) -> bool:
        """Whether what has arrived waits for more, which is asked for each submission."""
        return False

    def _is_full(self) -> bool:
        """Whether no group may begin before another is stored."""
        return False

    # --- what does not ---

    def unavailable(self) -> DeferredSubmission | None:
        """Why nothing at all can be taken now; None: try."""
        return self._refusal(0)

    def submit(self, submission: Submission) -> None:
        """Take it over, or defer it. Its ``answer`` is called later, or at once with a deferral."""
        size_bytes = submission.size_bytes
        if deferred := self._refusal(size_bytes):
            self._defer(submission, deferred)
            return
        self._arrived.append(submission)
        self._arrived_bytes += size_bytes
        self._unanswered_bytes += size_bytes
        self._idle.clear()
        if not self._goes_with_later():
            self._schedule()

    async def finished(self) -> None:
        """Wait until every submission has been answered, or waits for its delivery."""
        await self._idle.wait()

    def _stalled(self, size_bytes: int, why: str) -> DeferredSubmission | None:
        """Memory is bounded also while what stores takes its time. What comes alone is always taken."""
        if self._unanswered_bytes and self._unanswered_bytes + size_bytes > self._max_unanswered_bytes:
            return DeferredSubmission(503, 1, f"{why}: send it again")
        return None

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            # What else arrives in this turn of the loop comes along.
            asyncio.get_running_loop().call_soon(self._check_arrived)

    def _check_arrived(self) -> None:
        """Bring what has arrived on its way into the spool, as far as one turn of the loop may take."""
        self._scheduled = False
        if self._arrived and not self._is_full():
            group = SubmissionGroup(self._take_arrived())
            steps = group.check(self.validator, self._keys(), max_event_bytes=self._max_event_bytes)
            self._in_check.append((group, steps))
        until = self._clock.monotonic() + SLICE_S
        while self._in_check:
            # By turns, so that one request with much to look at does not keep the others waiting.
            group, steps = self._in_check.popleft()
            if next(steps, _DONE) is _DONE:
                self._store(group)
            else:
                self._in_check.append((group, steps))
            if self._clock.monotonic() >= until:
                break
        if self._in_check or (self._arrived and not self._is_full()):
            self._schedule()

    def _take_arrived(self) -> list[Submission]:
        """As many as one turn of the loop should spend its time on."""
        count = events = size = 0
        for submission in self._arrived:
            count += 1
            events += len(submission.events)
            size += submission.size_bytes
            if events >= MAX_EVENTS or size >= self._most_bytes:
                break
        arrived, self._arrived = self._arrived[:count], self._arrived[count:]
        self._arrived_bytes -= size
        return arrived

    def _go_on(self, *, storing: bool) -> None:
        """A group is answered; ``storing``: others are not."""
        if self._arrived:
            self._schedule()
        elif not (storing or self._in_check):
            self._idle.set()

    def _defer(self, submission: Submission, deferred: DeferredSubmission) -> None:
        self.deferred[deferred.status] += len(submission.events)
        submission.answer(deferred)
