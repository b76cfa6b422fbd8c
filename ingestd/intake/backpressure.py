"""How full the spool is, how fast it empties, and who waits for delivery: what producers are told."""

from collections.abc import Callable
from dataclasses import dataclass

from ingestd.core.clock import Clock, Timer
from ingestd.core.submission import AcceptedSubmission, DeferredSubmission, Submission, SubmissionOutcome
from ingestd.store.connection import StoreBlocked
from ingestd.store.database import Database
from ingestd.store.spool import Spool

_LEAST_S, _MOST_S, _UNKNOWN_S = 1, 300, 30
_SMOOTHING_S = 10.0
_ROOM_AGAIN = 0.9
"""Of the cap: once somebody had to wait, the spool counts as full until it holds less."""


def store_deferral(error: BaseException) -> DeferredSubmission:
    """What a producer hears of a store that cannot be written: no paths of this machine."""
    if isinstance(error, StoreBlocked):
        return DeferredSubmission(507 if error.full else 503, _UNKNOWN_S, f"{error.told}: try again later")
    return DeferredSubmission(
        503, _UNKNOWN_S, "the store of this service has failed: try again later, or elsewhere"
    )


class Backpressure:
    """``refusal`` says whether there is room now; ``measure`` is called about once a second."""

    def __init__(self, spool: Spool, database: Database, *, max_bytes: int, clock: Clock) -> None:
        self.max_bytes = max_bytes
        self.closing = False
        self._spool = spool
        self._database = database
        self._clock = clock
        self._rate = 0.0  # bytes a second that leave the spool
        self._measured_at = clock.monotonic()
        self._measured_bytes = 0
        self._refused = False

    @property
    def full(self) -> bool:
        """Whether producers should go elsewhere. A request seldom fits to the last byte, so this is not
        only at the cap; and one that was too large for what was left does not make a spool full."""
        if self._spool.bytes < _ROOM_AGAIN * self.max_bytes:
            self._refused = False
        return self._refused or self._spool.bytes >= self.max_bytes

    def measure(self) -> None:
        """Look at how much has left the spool since the last call."""
        now, settled = self._clock.monotonic(), self._spool.settled_bytes
        passed_s = now - self._measured_at
        if passed_s <= 0:
            return
        weight = min(1.0, passed_s / _SMOOTHING_S)
        self._rate += weight * ((settled - self._measured_bytes) / passed_s - self._rate)
        self._measured_at, self._measured_bytes = now, settled

    def refusal(self, size_bytes: int) -> DeferredSubmission | None:
        """Why ``size_bytes`` more cannot be taken over now, and when to try again; None: they can."""
        if self.closing:
            return DeferredSubmission(
                503, _LEAST_S, "this process is shutting down: send it again, to another or later"
            )
        if blocked := self._database.blocked:
            return store_deferral(blocked)
        over = self._spool.bytes + size_bytes - self.max_bytes
        if over > 0:
            self._refused = True
            detail = (
                f"the spool holds {self._spool.bytes} of {self.max_bytes} bytes that wait for the event API"
            )
            return DeferredSubmission(429, self.retry_after_s(over), detail)
        return None

    def retry_after_s(self, size_bytes: int) -> int:
        """Seconds until that many bytes will have left the spool at its present rate."""
        if self._rate < 1:
            return _UNKNOWN_S
        return int(min(max(size_bytes / self._rate, _LEAST_S), _MOST_S))


State = Callable[[int], tuple[int, int] | None]
"""Number of a chunk -> (events of it that are not resolved, dead letters); None: not yet taken up."""


@dataclass(slots=True)
class _Waiter:
    submission: Submission
    taken: AcceptedSubmission
    chunks: dict[int, int]
    state: State
    dead_letters: int = 0
    deadline: Timer | None = None


class DeliveryWaits:
    """``resolved`` is told of each chunk whose events are all resolved, and confirmed where an API has to.

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
        """``chunks``: number -> events, of those that hold this submission's new events and nobody else's;
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
        """The process ends: everybody is told what is known, and nobody waits any more."""
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
