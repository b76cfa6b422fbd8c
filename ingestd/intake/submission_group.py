"""Submissions of producers: those that are let in together, and those that wait for their delivery."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate, chain
from typing import Protocol

import msgspec

from ingestd.core.clock import Clock, Timer
from ingestd.core.reasons import Reason
from ingestd.core.receipt import Digests, known_keys
from ingestd.core.sequences import joined, joined_keys, together, without
from ingestd.core.submission import AcceptedSubmission, Submission, SubmissionOutcome
from ingestd.intake.group_rejections import GroupRejections
from ingestd.intake.refusals import MAX_READ_BYTES
from ingestd.processing.claim import Claim
from ingestd.processing.validate import ValidatedChunk, Validator
from ingestd.recording.event_recorder import owners_of
from ingestd.schemas.schema import FieldError, Keys, Refusal

MAX_EVENTS = 8_192
"""Events that are gathered in one turn of the loop, so that the others get theirs."""

MAX_OWNERS = 4_096
"""Characters that say whose the events of a chunk are."""


def _is_followed(submission: Submission) -> bool:
    """Its events have chunks of their own in the spool: somebody waits for what becomes of them."""
    return submission.wait_s > 0 or submission.delivered is not None


def _whose(owners: Sequence[tuple[str, int]]) -> str:
    """(producer, how many events), in their order, as text: nearly always there is one."""
    return owners[0][0] if len(owners) == 1 else owners_of(owners, MAX_OWNERS)


GroupPart = tuple[int | None, Sequence[bytes], Digests, str]
"""(submission that has it to itself, events, digests, whose they are) of a chunk to be."""


class KeyWindow(Protocol):
    """A ``Window``, or what stands for it where nothing is remembered; ``claim``, ``state_of``: see there."""

    def claim(self, keys: Sequence[str | None], now: float) -> Claim: ...
    def state_of(self, key: str) -> str: ...


class SubmissionGroup:
    """``check`` to its end, then ``claim``; after the commit ``result``, for each submission."""

    def __init__(self, submissions: list[Submission]) -> None:
        self.submissions = submissions
        self.claimed: Sequence[bytes] = ()
        self.duplicates: Counter[int] = Counter()  # by submission
        self.rejected = GroupRejections()
        parts = [submission.events for submission in submissions]
        self._events = parts[0] if len(parts) == 1 else together(joined(parts))
        self.size_bytes = sum([submission.size_bytes for submission in submissions])
        self.producers = {submission.producer for submission in submissions}
        self.followed = any(map(_is_followed, submissions))
        self._ends = [*accumulate(map(len, parts))]  # the index after the last event of each submission
        self._keys: Keys = []
        self._digests: Digests = []
        self._gone: set[int] = set()  # events that do not go into the spool
        self._copies: list[int] = []
        self._nothing_stored: set[int] = set()  # atomic submissions with an invalid event

    def check(self, validator: Validator, window: KeyWindow, *, max_event_bytes: int) -> Iterator[None]:
        """Validation, in steps between which others may go on; ``claim`` when there are no more.

        By size first, so that nothing is made of what is too large. An invalid copy of an event that is known
        is a copy first of all.
        """
        unreadable = self._refuse_unreadable()
        events, places = self._events, range(len(self._events))
        fitting: Sequence[int] = places
        if any(submission.size_bytes > max_event_bytes for submission in self.submissions):
            fitting = [index for index in places if len(events[index]) <= max_event_bytes]
        is_all = len(fitting) == len(events)
        found, seen = list[Keys](), 0
        accept = validator.accept if is_all and len(events) == 1 else None  # nearly always that says it all
        keys: Keys = accept(events) if accept else [None]
        known = [ValidatedChunk(keys, {}, {})] if None not in keys else None
        for checked in known or validator.in_steps(
            events if is_all else [events[index] for index in fitting]
        ):
            if checked is None:
                yield
                continue
            for at, refusal in checked.refused.items():
                if (index := fitting[seen + at]) not in unreadable:
                    self._reject(index, refusal, checked.refused_keys.get(at), window)
            found.append(checked.keys)
            seen += len(checked.keys)
        if is_all:
            self._keys = found[0] if len(found) == 1 else joined_keys(found)
        else:
            self._keys = [None] * len(events)
            for index, key in zip(fitting, chain.from_iterable(found), strict=True):
                self._keys[index] = key
            yield from self._refuse_too_large(validator, window, max_event_bytes)
        for index in unreadable:
            self._keys[index] = None
        for number in self.rejected.counts:
            if self.submissions[number].atomic:
                self._leave_out(number)

    def _refuse_unreadable(self) -> set[int]:
        """What a source could make no event of, whatever its bytes look like."""
        found: set[int] = set()
        for number, submission in enumerate(self.submissions):
            for position, why in submission.unreadable.items():
                found.add(index := self._start_of(number) + position)
                self._refuse(index, Refusal(Reason.UNPARSABLE, [FieldError("", why)]))
        return found

    def _refuse_too_large(
        self, validator: Validator, window: KeyWindow, max_event_bytes: int
    ) -> Iterator[None]:
        for index, event in enumerate(self._events):
            if len(event) > max_event_bytes and index not in self._gone:
                key = validator.key_of(event) if len(event) <= MAX_READ_BYTES else None
                words = f"{len(event)} bytes; a request has room for {max_event_bytes}"
                self._reject(index, Refusal(Reason.INVALID, [FieldError("", words)]), key, window)
                yield

    def claim(self, window: KeyWindow, now: float, *, max_bytes: int) -> list[GroupPart]:
        """Claim the keys of what is left, which tells copies apart. Gives the chunks to be, in the order of
        arrival."""
        claim = window.claim(self._keys, now)
        self._digests = claim.digests
        self.claimed = known_keys(claim.digests)
        copies = [index for index, _ in claim.copies]  # of events not on disk yet, or in this very group
        for index in claim.duplicates + copies:
            self._is_copy(index)
        if not (self.followed or self._gone) and self.size_bytes <= max_bytes:
            owners = _whose([(one.producer, len(one.events)) for one in self.submissions])
            return [(None, self._events, self._digests, owners)] if self._events else []
        return list(self._cut(max_bytes))

    @property
    def is_plain(self) -> bool:
        """All events are new and good ones of one producer, and nobody waits for what becomes of them."""
        return len(self.producers) == 1 and not (self.followed or self._gone)

    def result(self, number: int) -> AcceptedSubmission:
        """What became of submission ``number``, once its events are on disk."""
        submission = self.submissions[number]
        count, listed = self.rejected.counts.get(number, 0), self.rejected.listed.get(number, [])
        unlisted = count - len(listed)
        if number in self._nothing_stored:
            return AcceptedSubmission(0, 0, listed, stored=False, unlisted=unlisted)
        duplicates = self.duplicates[number]
        return AcceptedSubmission(
            len(submission.events) - duplicates - count, duplicates, listed, unlisted=unlisted
        )

    def _cut(self, max_bytes: int) -> Iterator[GroupPart]:
        events: list[Sequence[bytes]] = []
        digests: list[Digests] = []
        owners: list[tuple[str, int]] = []
        size, owner = 0, None
        for number, unit_size, unit_events, unit_digests in self._units(max_bytes):
            if not unit_events:
                continue
            unit_owner = number if _is_followed(self.submissions[number]) else None
            if events and (size + unit_size > max_bytes or owner != unit_owner):
                yield owner, joined(events), joined(digests), _whose(owners)
                events, digests, owners, size = [], [], [], 0
            owner = unit_owner
            events.append(unit_events)
            digests.append(unit_digests)
            owners.append((self.submissions[number].producer, len(unit_events)))
            size += unit_size
        if events:
            yield owner, joined(events), joined(digests), _whose(owners)

    def _units(self, max_bytes: int) -> Iterator[tuple[int, int, Sequence[bytes], Digests]]:
        """What is not to be cut for no reason: submissions, or single events of a large one."""
        start = 0
        for number, submission in enumerate(self.submissions):
            end = self._ends[number]
            events, digests = self._events[start:end], self._digests[start:end]
            if self._gone:
                gone = [index - start for index in range(start, end) if index in self._gone]
                events, digests = without(events, gone), without(digests, gone)
            if submission.size_bytes <= max_bytes:
                yield number, submission.size_bytes, events, digests
            else:
                for event, digest in zip(events, digests, strict=True):
                    yield number, len(event), [event], [digest]
            start = end

    def _submission_of(self, index: int) -> int:
        return bisect_right(self._ends, index)

    def _start_of(self, number: int) -> int:
        return self._ends[number - 1] if number else 0

    def owners(self) -> list[tuple[str, int]]:
        """(producer, how many events with a key) of each submission."""
        if len(self.producers) == 1:
            return [(self.submissions[0].producer, len(self.claimed))]
        return [
            (one.producer, sum(map(bool, self._digests[self._start_of(number) : self._ends[number]])))
            for number, one in enumerate(self.submissions)
        ]

    @property
    def copies(self) -> list[bytes]:
        """Events that are copies of others."""
        return [self._events[index] for index in sorted(self._copies)]

    def _is_copy(self, index: int) -> None:
        self._gone.add(index)
        self._copies.append(index)
        self.duplicates[self._submission_of(index)] += 1

    def _reject(self, index: int, refusal: Refusal, key: str | None, window: KeyWindow) -> None:
        if key and window.state_of(key) == "known":
            self._is_copy(index)
        else:
            self._refuse(index, refusal)

    def _refuse(self, index: int, refusal: Refusal) -> None:
        number = self._submission_of(index)
        self._gone.add(index)
        position = index - self._start_of(number)
        self.rejected.add(number, self.submissions[number], position, self._events[index], refusal)

    def _leave_out(self, number: int) -> None:
        """Nothing of an atomic submission is stored when anything of it is invalid."""
        self._nothing_stored.add(number)
        self.duplicates[number] = 0
        for index in range(self._start_of(number), self._ends[number]):
            self._gone.add(index)
            self._keys[index] = None


State = Callable[[int], tuple[int, int, int] | None]
"""Number of a chunk -> (events not resolved, dead letters, events for no sink); None: not yet read."""


class _Waiter(msgspec.Struct):
    submission: Submission
    result: AcceptedSubmission
    chunks: dict[int, int]
    state: State
    dead_letters: int = 0
    skipped: int = 0
    deadline: Timer | None = None


_NOBODY: tuple[set[int], Callable[[], None]] = (set(), lambda: None)


class DeliveryWaits:
    """``resolved`` is called for each chunk whose events are all resolved, and confirmed if an API confirms.

    ``most``: chunks that are waited for."""

    def __init__(self, clock: Clock, *, most: int) -> None:
        self._clock = clock
        self._most = most
        self._by_chunk: dict[int, _Waiter] = {}
        self._watched: dict[int, tuple[set[int], Callable[[], None]]] = {}
        self._ending = False

    def __len__(self) -> int:
        return len(self._by_chunk)

    def add(
        self, submission: Submission, result: AcceptedSubmission, chunks: dict[int, int], state: State
    ) -> None:
        """``chunks``: number -> events, of those that hold only this submission's new events;
        ``state`` knows of those that are not resolved."""
        waiter = _Waiter(submission, result, chunks, state)
        if not chunks or self._ending or len(self._by_chunk) >= self._most:
            self._answer(waiter)
            return
        for number in chunks:
            self._by_chunk[number] = waiter
        waiter.deadline = self._clock.call_later(submission.wait_s, self._answer, waiter)

    def watch(self, chunks: Iterable[int], delivered: Callable[[], None]) -> None:
        """``delivered`` is called when these chunks are resolved, however long that takes; never where the
        process ends before. The caller says how many they may be."""
        left = set(chunks)
        self._watched.update(dict.fromkeys(left, (left, delivered)))
        if not left:
            delivered()

    def resolved(self, number: int, dead_letters: int, skipped: int) -> None:
        left, delivered = self._watched.pop(number, _NOBODY)
        left.discard(number)
        if not left:
            delivered()
        waiter = self._by_chunk.pop(number, None)
        if waiter is None:
            return
        waiter.chunks.pop(number)
        waiter.dead_letters += dead_letters
        waiter.skipped += skipped
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
        pending, dead_letters, skipped = 0, waiter.dead_letters, waiter.skipped
        for number, events in waiter.chunks.items():
            still, dead, unwanted = waiter.state(number) or (events, 0, 0)
            pending += still
            dead_letters += dead
            skipped += unwanted
        result = waiter.result
        delivered = result.accepted - pending - dead_letters - skipped
        outcome = SubmissionOutcome(delivered, dead_letters, pending, skipped)
        waiter.submission.answer(result._replace(ends=outcome))
