"""Producers that wait for the delivery of what they posted. The spool reports the chunks that are
resolved."""

from collections.abc import Callable
from dataclasses import dataclass

from ingestd.core.clock import Clock, Timer
from ingestd.core.submission import AcceptedSubmission, Submission, SubmissionOutcome

State = Callable[[int], tuple[int, int] | None]
"""Number of a chunk -> (events of it that are not resolved, dead letters); None: not yet read."""


@dataclass(slots=True)
class _Waiter:
    submission: Submission
    taken: AcceptedSubmission
    chunks: dict[int, int]
    state: State
    dead_letters: int = 0
    deadline: Timer | None = None


class DeliveryWaits:
    """``resolved`` is called for each chunk whose events are all resolved, and confirmed if an API confirms.

    ``most``: chunks that are waited for."""

    def __init__(self, clock: Clock, *, most: int) -> None:
        self._clock, self._most = clock, most
        self._by_chunk: dict[int, _Waiter] = {}
        self._ending = False

    def __len__(self) -> int:
        return len(self._by_chunk)

    def add(
        self, submission: Submission, taken: AcceptedSubmission, chunks: dict[int, int], state: State
    ) -> None:
        """``chunks``: number -> events, of those that hold only this submission's new events;
        ``state`` knows of those that are not resolved."""
        waiter = _Waiter(submission, taken, chunks, state)
        if not chunks or self._ending or len(self._by_chunk) >= self._most:
            self._answer(waiter)
            return
        for number in chunks:
            self._by_chunk[number] = waiter
        waiter.deadline = self._clock.call_later(submission.wait_s, self._answer, waiter)

    def resolved(self, number: int, dead_letters: int) -> None:
        waiter = self._by_chunk.pop(number, None)
        if waiter is None:
            return
        waiter.chunks.pop(number)
        waiter.dead_letters += dead_letters
        if not waiter.chunks:
            self._answer(waiter)

    def give_up(self) -> None:
        """The process ends: every waiting producer gets what is known."""
        self._ending = True
        for waiter in {id(waiter): waiter for waiter in self._by_chunk.values()}.values():
            self._answer(waiter)

    def _answer(self, waiter: _Waiter) -> None:
        if waiter.deadline:
            waiter.deadline.cancel()
        for number in waiter.chunks:
            self._by_chunk.pop(number, None)
        pending, dead_letters = 0, waiter.dead_letters
        for number, events in waiter.chunks.items():
            still, dead = waiter.state(number) or (events, 0)
            pending += still
            dead_letters += dead
        taken = waiter.taken
        delivered = taken.accepted - pending - dead_letters
        waiter.submission.answer(taken._replace(ends=SubmissionOutcome(delivered, dead_letters, pending)))
