"""The events of a submission group that are rejected: what their producers are answered, and what is kept."""

from bisect import insort
from collections import Counter
from typing import TYPE_CHECKING

import msgspec

from ingestd.core.reasons import Reason
from ingestd.core.submission import MAX_LISTED, Rejection, Submission
from ingestd.intake.refusals import rejection
from ingestd.recording.make_letters import letter_of_event
from ingestd.schemas.schema import Refusal

if TYPE_CHECKING:
    from ingestd.core.letter import DeadLetter

_MAX_DETAIL = 500

RefusedEvent = tuple[bytes, Reason, str, str]
"""(event, reason, words, whose it is)."""


class GroupRejections(msgspec.Struct):
    """``counts``, ``listed``: by the number of a submission. ``events``: of producers, which are answered;
    ``letters``: of what came from a source, and nobody else has."""

    reasons: Counter[Reason] = msgspec.field(default_factory=Counter)
    events: list[RefusedEvent] = msgspec.field(default_factory=list)
    letters: list["DeadLetter"] = msgspec.field(default_factory=list)
    counts: dict[int, int] = msgspec.field(default_factory=dict)
    listed: dict[int, list[Rejection]] = msgspec.field(default_factory=dict)

    def add(self, number: int, submission: Submission, position: int, event: bytes, refusal: Refusal) -> None:
        """The event at this ``position`` of submission ``number``."""
        self.counts[number] = self.counts.get(number, 0) + 1
        listed = self.listed.setdefault(number, [])
        if len(listed) < MAX_LISTED or position < listed[-1].position:
            insort(listed, rejection(position, event, refusal.errors))
            del listed[MAX_LISTED:]
        self.reasons[refusal.reason] += 1
        detail = refusal.words
        if chunk := submission.chunk:
            self.letters.append(letter_of_event(chunk, position, refusal.reason, detail))
            return
        self.events.append((event, refusal.reason, detail[:_MAX_DETAIL], submission.producer))
