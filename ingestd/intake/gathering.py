"""Submissions that are taken together: which of their events are new, copies or invalid. No I/O."""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from itertools import compress

from ingestd.core.reasons import Reason
from ingestd.core.submission import Rejection, Submission, Taken
from ingestd.intake.rejections import rejection
from ingestd.schemas.schema import FieldError, Refusal
from ingestd.stages.dedup import Window
from ingestd.stages.validate import Validator

MAX_EVENTS = 8_192
"""Events that are gathered in one turn of the loop, so that the others get theirs."""

Piece = tuple[int | None, list[bytes], list[bytes | None]]
"""(submission that has it to itself, events, digests) of a chunk to be."""


class Gathering:
    """``check``, then ``claim``, then ``pieces``; after the commit ``taken``, for each submission."""

    def __init__(self, submissions: list[Submission]) -> None:
        self.submissions = submissions
        self.claimed: list[bytes] = []
        self.duplicates: Counter[int] = Counter()  # by submission
        self.reasons: Counter[Reason] = Counter()
        self.refused: list[tuple[bytes, Reason, str]] = []
        self._events = submissions[0].events if len(submissions) == 1 else _join(submissions)
        self._ends: list[int] = []  # the index after the last event of each submission
        self._keys: list[str | None] = []
        self._digests: list[bytes | None] = []
        self._gone: set[int] = set()  # events that do not go into the spool
        self._rejected: dict[int, list[Rejection]] = {}
        self._nothing_stored: set[int] = set()  # atomic submissions with an invalid event
        end = 0
        for submission in submissions:
            end += len(submission.events)
            self._ends.append(end)

    def check(self, validator: Validator, window: Window, *, max_event_bytes: int) -> None:
        """Validation; an invalid copy of an event that is known is a copy first of all."""
        checked = validator.check(self._events)
        self._keys = checked.keys
        refused = checked.refused
        if any(submission.size_bytes > max_event_bytes for submission in self.submissions):
            for index, event in enumerate(self._events):
                if len(event) > max_event_bytes and index not in refused:
                    error = FieldError("", f"{len(event)} bytes; a request has room for {max_event_bytes}")
                    refused[index] = Refusal(Reason.INVALID, [error])
                    checked.refused_keys[index] = checked.keys[index] or ""
        for index, refusal in refused.items():
            key = checked.refused_keys.get(index)
            if key and window.state_of(key) == "known":
                self._is_copy(index)
            else:
                self._refuse(index, refusal)
        for number in self._rejected:
            if self.submissions[number].atomic:
                self._leave_out(number)

    def claim(self, window: Window, now: float) -> None:
        """Claim the keys of what is left; tells copies apart."""
        claim = window.claim(self._keys, now)
        self._digests = claim.digests
        self.claimed = [digest for digest in claim.digests if digest]
        for index in claim.duplicates:
            self._is_copy(index)
        for index, _ in claim.copies:  # of an event that is not on disk yet, or in this very gathering
            self._is_copy(index)

    def pieces(self, max_bytes: int) -> list[Piece]:
        """The chunks to be, in the order of arrival."""
        everybody = not any(submission.wait_s > 0 for submission in self.submissions)
        if everybody and not self._gone and sum(s.size_bytes for s in self.submissions) <= max_bytes:
            return [(None, self._events, self._digests)] if self._events else []
        return list(self._cut(max_bytes))

    def taken(self, number: int) -> Taken:
        """What became of submission ``number``, once its events are on disk."""
        submission = self.submissions[number]
        rejected = sorted(self._rejected.get(number, ()))
        if number in self._nothing_stored:
            return Taken(0, 0, rejected, stored=False)
        duplicates = self.duplicates[number]
        return Taken(len(submission.events) - duplicates - len(rejected), duplicates, rejected)

    def _cut(self, max_bytes: int) -> Iterator[Piece]:
        events: list[bytes] = []
        digests: list[bytes | None] = []
        size, owner = 0, None
        for unit_owner, unit_size, unit_events, unit_digests in self._units(max_bytes):
            if events and (size + unit_size > max_bytes or owner != unit_owner):
                yield owner, events, digests
                events, digests, size = [], [], 0
            owner = unit_owner
            events += unit_events
            digests += unit_digests
            size += unit_size
        if events:
            yield owner, events, digests

    def _units(self, max_bytes: int) -> Iterator[tuple[int | None, int, list[bytes], list[bytes | None]]]:
        """What is not to be cut for no reason: submissions, or single events of a large one."""
        start = 0
        for number, submission in enumerate(self.submissions):
            end = self._ends[number]
            owner = number if submission.wait_s > 0 else None
            events, digests = self._events[start:end], self._digests[start:end]
            if self._gone:
                stays = [index not in self._gone for index in range(start, end)]
                events, digests = list(compress(events, stays)), list(compress(digests, stays))
            if submission.size_bytes <= max_bytes:
                yield owner, submission.size_bytes, events, digests
            else:
                for event, digest in zip(events, digests, strict=True):
                    yield owner, len(event), [event], [digest]
            start = end

    def _submission_of(self, index: int) -> int:
        return bisect_right(self._ends, index)

    def _start_of(self, number: int) -> int:
        return self._ends[number - 1] if number else 0

    def _is_copy(self, index: int) -> None:
        self._gone.add(index)
        self._keys[index] = None
        self.duplicates[self._submission_of(index)] += 1

    def _refuse(self, index: int, refusal: Refusal) -> None:
        number = self._submission_of(index)
        event = self._events[index]
        self._gone.add(index)
        self._keys[index] = None
        told = rejection(index - self._start_of(number), event, refusal.errors)
        self._rejected.setdefault(number, []).append(told)
        self.reasons[refusal.reason] += 1
        detail = "; ".join(f"{e.field}: {e.message}" if e.field else e.message for e in refusal.errors)
        self.refused.append((event, refusal.reason, detail))

    def _leave_out(self, number: int) -> None:
        """Nothing of an atomic submission is stored when anything of it is invalid."""
        self._nothing_stored.add(number)
        self.duplicates[number] = 0
        for index in range(self._start_of(number), self._ends[number]):
            self._gone.add(index)
            self._keys[index] = None


def _join(submissions: list[Submission]) -> list[bytes]:
    return [event for submission in submissions for event in submission.events]
