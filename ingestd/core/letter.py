"""A dead letter: an event that could not be delivered, with all that is needed to put it right."""

from collections.abc import Callable, Iterator, Sequence
from enum import IntEnum
from functools import lru_cache, partial
from typing import Any, NamedTuple, overload

from ingestd.core.reasons import Reason
from ingestd.core.text import shape

MAX_DETAIL = 2_000
"""Characters kept of an answer or of validation errors."""

HEADERS = "headers "
"""Before those of a broker's message, at the end of a letter's detail."""

_OF_ANSWERS = frozenset({Reason.REFUSED, Reason.GAVE_UP, Reason.FAILED, Reason.UNCONFIRMED})


class Form(IntEnum):
    """What a letter's payload is."""

    AS_IT_CAME = 0  # and is sent so
    UNTRANSFORMED = 1  # as it came; the transforms of its sink run before it is sent
    TRANSFORMED = 2  # as it is sent


class DeadLetter(NamedTuple):
    """One row of the dead-letter store, as it is written.

    ``source``/``offset``/``line``: where the event came from; together they keep a crash from
    writing the same letter twice. ``detail``: validation errors or the API's answer, cut.
    ``batch``/``batch_index``/``batch_size``: the request it was part of; ``ambiguous`` says that
    the API may have taken that request. ``first_sent_wall``: 0 if it never was sent. ``sink``: where it
    could not be delivered; empty: it was rejected before routing. ``key_released``: its key may be used
    again; not if another sink has the event. ``producer``: whose it is, where that is known. ``form``: what
    the payload is.
    """

    payload: bytes
    reason: Reason
    detail: str
    source: int
    offset: int
    line: int
    digest: bytes | None = None
    batch: str = ""
    batch_index: int = 0
    batch_size: int = 0
    attempts: int = 0
    ambiguous: bool = False
    first_sent_wall: float = 0.0
    sink: str = ""
    key_released: bool = False
    producer: str = ""
    form: Form = Form.AS_IT_CAME


_letter_of: Callable[[tuple[Any, ...]], DeadLetter] = partial(tuple.__new__, DeadLetter)


class LetterColumns(Sequence[DeadLetter]):
    """Letters that are made together: an answer may refuse thousands at once, and hardly one of them is
    looked at by itself. ``columns``: of each field of ``DeadLetter``, in their order, all values."""

    __slots__ = ("columns",)

    def __init__(self, columns: Sequence[Sequence[Any]]) -> None:
        self.columns = columns

    def __len__(self) -> int:
        return len(self.columns[0])

    @overload
    def __getitem__(self, at: int) -> DeadLetter: ...
    @overload
    def __getitem__(self, at: slice) -> "LetterColumns": ...
    def __getitem__(self, at: int | slice) -> "DeadLetter | LetterColumns":
        if isinstance(at, slice):
            return LetterColumns([column[at] for column in self.columns])
        return _letter_of(tuple([column[at] for column in self.columns]))

    def __iter__(self) -> Iterator[DeadLetter]:
        return map(_letter_of, zip(*self.columns, strict=True))


class Failures(NamedTuple):
    """Events of a chunk that became dead letters of one sink: where they are in it, and their letters."""

    positions: Sequence[int] = ()
    letters: Sequence[DeadLetter] = ()


NONE = Failures()

REASONS, DIGESTS = DeadLetter._fields.index("reason"), DeadLetter._fields.index("digest")
"""Their columns."""


def columns_of(letters: Sequence[DeadLetter]) -> Sequence[Sequence[Any]]:
    """One for each field, of letters that there are."""
    return letters.columns if isinstance(letters, LetterColumns) else [*zip(*letters, strict=True)]


def joined_letters(parts: Sequence[Sequence[DeadLetter]]) -> Sequence[DeadLetter]:
    """All of ``parts``, of which there is one, and none is empty."""
    if len(parts) == 1:
        return parts[0]
    columns = [[*column] for column in columns_of(parts[0])]
    for part in parts[1:]:
        for column, more in zip(columns, columns_of(part), strict=True):
            column += more
    return LetterColumns(columns)


def fingerprint(reason: Reason, detail: str) -> str:
    """Groups like failures: the reason, an answer's status, and its words without their variable parts. Of
    the first line: in the second one is the message of a broker that the event came in."""
    return _fingerprint(reason, detail.partition("\n")[0])


@lru_cache(maxsize=4096)
def _fingerprint(reason: Reason, line: str) -> str:
    return f"{reason}: {shape(line, of_answer=reason in _OF_ANSWERS, of_fields=reason is Reason.INVALID)}"
