"""What an answer means: the value that a sink returns and the lane acts on."""

from enum import Enum, auto
from typing import Any

import msgspec


class Meaning(Enum):
    """In lower case these are the words of ``on_status``, all but UNAUTHORIZED."""

    ACCEPTED = auto()  # the API has the batch, but for the events in ``items``
    RETRY = auto()  # send the same batch again, after backoff
    SPLIT = auto()  # the batch is too large: send it in halves
    REJECTED = auto()  # some events are bad: those in ``items``; without items, search for them
    PAUSED = auto()  # no event is the cause: pause the lane and probe
    UNAUTHORIZED = auto()  # the token is no longer good
    PERMANENT = auto()  # the API will never accept any of its events


class ItemError(msgspec.Struct, gc=False):
    """One event of the batch, by index, and what the API said of it."""

    index: int
    message: str
    retryable: bool


class Verdict(msgspec.Struct, frozen=True):
    """``detail``: the answer in words for logs and dead letters, cut and without secrets.

    ``after_s``: the answer's Retry-After in seconds. ``slow_down``: the API asks for less (429, 503);
    ``throttled``: only for that, which is not a failure (429).
    ``ambiguous``: the request may have been taken although no answer says so.
    ``unmatched``: item errors in the body that could not be traced to an event; ``unmatched_words``: of what
    kind they are. ``cut_sending``: the connection was lost before all was sent. ``about_token``: it is the
    token that is refused, whatever the meaning: a new one may do.
    ``strange``: a good status with what is not that API's answer: after a few in a row the lane pauses.
    ``goes_on``: accepted, but there is more to send of these events.
    ``remote_ids``: (index, the API's own id) of events that it has accepted, and can be asked about.
    """

    meaning: Meaning
    detail: str = ""
    items: tuple[ItemError, ...] = ()
    after_s: float | None = None
    slow_down: bool = False
    throttled: bool = False
    ambiguous: bool = False
    unmatched: int = 0
    unmatched_words: str = ""
    remote_ids: tuple[tuple[int, str], ...] = ()
    cut_sending: bool = False
    about_token: bool = False
    strange: bool = False
    goes_on: tuple[int, ...] = ()

    def but(self, **changes: Any) -> "Verdict":
        """The same with these fields changed."""
        return msgspec.structs.replace(self, **changes)
