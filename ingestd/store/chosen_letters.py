"""Dead letters that a person chose, and what was done with them. See ``letter_changes.py``."""

from typing import NamedTuple

import msgspec


class PurgeResult(msgspec.Struct):
    """``left``: letters of the same requests, which may have been taken: they wait for a person now."""

    deleted: int = 0
    left: int = 0
    interrupted: bool = False


class ChosenLetter(NamedTuple):
    """A letter that a person chose. ``checksum``: of its payload, as it was stored."""

    id: int
    state: str
    sink: str
    ambiguous: int
    form: int
    payload: bytes
    checksum: int


class MarkedLetters(NamedTuple):
    """``marked``: letters that are to be sent, each counted once however often this is asked with the same
    time; ``chosen``: those among the ones that were asked for; ``risky``: of the marked ones, those of
    requests that may have been taken and cannot be repeated as they were. ``rekeyed``: of those that were
    not asked for, the ones of requests that are not whole any more, which go out under new keys."""

    marked: int
    chosen: int
    risky: int
    rekeyed: int = 0


class Mates(NamedTuple):
    """Letters that would go along with those that were chosen: ``together``, ``rekeyed`` as above; ``risky``:
    of the chosen ones, too."""

    together: int
    rekeyed: int
    risky: int
