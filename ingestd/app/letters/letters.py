"""What the ``dlq`` commands read. What they change is in ``purge.py`` and ``retry.py``, which import more."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO, NamedTuple

from ingestd.app.letters.shape import Fields, as_dict, group_as_dict
from ingestd.app.state_place import directory_of
from ingestd.core import units
from ingestd.core.errors import NotFound, UserError
from ingestd.store.dead_letters import Filter, StoredLetter
from ingestd.store.letter_reader import LetterReader

MAX_TEXT = 200
"""Characters of a text that is looked for."""
_MOST_DAMAGED = 20
"""Letters that are named."""
_MAX_DETAILED = 100
"""Groups of which the values are told."""


def make_filter(
    *,
    ids: Sequence[int] = (),
    sink: str | None = None,
    reason: str | None = None,
    fingerprint: str | None = None,
    state: str = "waiting",
    older: str | None = None,
    newer: str | None = None,
    event_id: str | None = None,
    event_type: str | None = None,
    producer: str | None = None,
    text: str | None = None,
) -> Filter:
    """Raises UserError for an invalid duration, or a text that is too long."""
    if text and len(text) > MAX_TEXT:
        raise UserError(f"a text to look for has at most {MAX_TEXT} characters")
    try:
        older_s = units.seconds(older) if older else None
        newer_s = units.seconds(newer) if newer else None
    except ValueError as error:
        raise UserError(str(error)) from None
    return Filter(
        tuple(ids),
        reason or "",
        fingerprint or "",
        "all" if ids else state,
        older_s,
        newer_s,
        sink or "",
        event_id or "",
        event_type or "",
        producer or "",
        text or "",
    )


@contextmanager
def _reader(state_dir: str | None) -> Iterator[LetterReader]:
    with LetterReader.open(directory_of(state_dir)) as reader:
        yield reader


@contextmanager
def find(
    state_dir: str | None, where: Filter, *, limit: int, now: float
) -> Iterator[tuple[Iterator[Fields], int]]:
    """The first ``limit`` letters (see ``as_dict``), read as they are asked for, and how many there are."""
    with _reader(state_dir) as reader:
        found = reader.letters(where, now, limit=limit)
        yield (as_dict(letter, reader.source(letter)) for letter in found), reader.count(where, now)


def page(state_dir: str | None, where: Filter, *, after: int, limit: int, now: float) -> list[Fields]:
    """Letters with numbers greater than ``after``, see ``as_dict``."""
    with _reader(state_dir) as reader:
        found = reader.letters(where, now, limit=limit, after=after)
        return [as_dict(letter, reader.source(letter)) for letter in found]


def groups(state_dir: str | None, where: Filter, *, now: float) -> list[Fields]:
    """Like failures, see ``group_as_dict``; the most frequent first."""
    with _reader(state_dir) as reader:
        return [
            group_as_dict(group, reader.details(where, now, group[0], group[5]) if at < _MAX_DETAILED else ())
            for at, group in enumerate(reader.groups(where, now))
        ]


def payload(state_dir: str | None, number: int) -> tuple[bytes, bool]:
    """(the payload, whether it is what was stored). Raises UserError."""
    letter, _, _ = _get(state_dir, number)
    return letter.payload, letter.intact


def get(state_dir: str | None, number: int) -> Fields:
    """See ``as_dict``; ``producer`` of an older letter, as long as the trail has it. Raises UserError."""
    letter, source, producer = _get(state_dir, number)
    return as_dict(letter._replace(producer=producer), source)


def _get(state_dir: str | None, number: int) -> tuple[StoredLetter, str, str]:
    """With the names of its source and its producer."""
    with _reader(state_dir) as reader:
        letter = next(reader.letters(Filter(ids=(number,), state="all"), 0.0), None)
        if letter is None:
            raise NotFound(f"there is no dead letter {number}")
        return letter, reader.source(letter), letter.producer or reader.producer(letter)


class Exported(NamedTuple):
    """``letters`` that were written; ``bent``: of them, those with line breaks, which NDJSON cannot hold.
    ``damaged``: how many payloads are not what was stored, and the first of their numbers; as events they
    are left out."""

    letters: int
    bent: int
    damaged: int
    first: list[int]


def damaged(state_dir: str | None, where: Filter, *, now: float) -> tuple[int, list[int]]:
    """How many payloads are not what was stored, and the first of their numbers. All of them are read."""
    with _reader(state_dir) as reader:
        found = (letter.id for letter in reader.letters(where, now) if not letter.intact)
        first = [*islice(found, _MOST_DAMAGED)]
        return len(first) + sum(1 for _ in found), first


def export(state_dir: str | None, where: Filter, stream: BinaryIO, *, as_json: bool, now: float) -> Exported:
    """Write the letters, or their events. Raises OSError of ``stream``."""
    number = bent = damaged = 0
    first: list[int] = []
    with _reader(state_dir) as reader:
        for letter in reader.letters(where, now):
            if not letter.intact:
                damaged += 1
                if len(first) < _MOST_DAMAGED:
                    first.append(letter.id)
                if not as_json:
                    continue
            line = letter.payload
            if as_json:
                line = json.dumps(as_dict(letter, reader.source(letter))).encode()
            bent += b"\n" in line or b"\r" in line
            stream.write(line.replace(b"\r", b" ").replace(b"\n", b" ") + b"\n")
            number += 1
        stream.flush()
    return Exported(number, bent, damaged, first)
