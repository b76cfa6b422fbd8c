"""Dead letters that share an envelope: of those that wait for a person and were written together, what they
have in common is on disk once. They are written in the transactions of others.

A sealed letter is as it was written. Before anything happens to one it is taken out: then it is a single
letter, under the same number. A reader asks for ``letters``, in which are both.
"""

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache
from typing import Any, NamedTuple

from ingestd.core.letter import fingerprint
from ingestd.core.reasons import Reason

LEAST = 2
"""Letters to an envelope: one alone is a single letter."""

_STEP_ROWS, _MAX_ROWS = 64, 1280
"""Two statements for most requests, 83 sizes in all of each kind: ``sqlite3`` keeps 128 that are prepared. A
row has up to 8 parameters, of which a statement takes 32,766."""


class Shared(NamedTuple):
    """What the letters of an envelope have in common, in the order of the table's columns."""

    source: int
    first_offset: int
    last_offset: int
    sink: str
    reading: int
    failed: float
    reason: str
    detail: str
    fingerprint: str
    batch: str
    batch_size: int
    attempts: int
    first_sent: float
    producer: str
    form: int


OWN = ("offset", "line", "batch_index", "checksum", "payload", "digest")
WORDS = ("detail", "fingerprint")
"""Columns that each letter has for itself; words only where they are not the envelope's."""

_COLUMNS = ", ".join(Shared._fields)
_ENVELOPE = (
    f"INSERT INTO envelopes (id, letters, level, {_COLUMNS}) VALUES (?, ?, ?{', ?' * len(Shared._fields)})"  # noqa: S608
)
_SINGLE = (
    "id, state, reason, detail, fingerprint, payload, checksum, source, {}, line, digest, batch, batch_index,"
    " batch_size, ambiguous, attempts, first_sent, first_failed, last_failed, due, lease, settled_at, edited,"
    " requested, sink, reading, original, key_released, obstacle, producer, form"
)
_AMONG = "id IN (SELECT value FROM json_each(?1))"
_FEW = 8
"""Envelopes that are looked through without asking which of them have a place."""

_LEVELS = (
    "WITH RECURSIVE levels (level) AS (SELECT min(level) FROM envelopes WHERE source = ?1 UNION ALL"
    " SELECT (SELECT min(one.level) FROM envelopes AS one WHERE one.source = ?1 AND one.level > levels.level)"
    " FROM levels WHERE level IS NOT NULL)"
)
_OF_LEVEL = "envelopes AS envelope ON envelope.source = ?1 AND envelope.level = levels.level"
_BETWEEN = (
    f"{_LEVELS} SELECT envelope.id FROM levels CROSS JOIN {_OF_LEVEL}"  # noqa: S608
    " AND envelope.first_offset BETWEEN ?2 - (1 << levels.level) AND ?3 AND envelope.last_offset >= ?2"
    " LIMIT ?4"
)
_AT = (
    f"{_LEVELS} SELECT DISTINCT envelope.id FROM levels CROSS JOIN json_each(?2) AS place"  # noqa: S608
    f" CROSS JOIN {_OF_LEVEL} AND envelope.last_offset >= place.value"
    " AND envelope.first_offset BETWEEN place.value - (1 << levels.level) AND place.value"
)
"""Envelopes by place: those that reach about as far are of one level, and of each level there are few around
a place, however many there are of a source."""

IN_ENVELOPES = (
    "envelopes AS envelope JOIN sealed_letters AS one"
    " ON one.id >= envelope.id AND one.id < envelope.id + envelope.letters"
)
"""Envelopes with their letters, which are found by their numbers."""


def seal(
    connection: sqlite3.Connection, shared: Shared, columns: Sequence[Sequence[Any]], *, key_released: int
) -> None:
    """Write letters into one envelope. ``columns``: ``OWN``, behind ``WORDS`` where these are their own. Who
    calls this counts them."""
    (last,) = connection.execute("SELECT seq FROM sqlite_sequence WHERE name = 'single_letters'").fetchone()
    first, count = last + 1, len(columns[0])
    connection.execute("UPDATE sqlite_sequence SET seq = ? WHERE name = 'single_letters'", (last + count,))
    level = (shared.last_offset - shared.first_offset).bit_length()
    connection.execute(_ENVELOPE, (first, count, level, *shared))
    width, flat = len(columns), row_by_row(columns)
    for at, rows in steps(count):
        given = flat[at * width : (at + rows) * width]
        connection.execute(_insert(rows, width), [first + at, first, key_released, *given])


@cache
def _insert(count: int, width: int) -> str:
    """``?1``: the number of the first, ``?2``: its envelope's, ``?3``: ``key_released``. An empty digest
    stands for NULL."""
    columns = (*WORDS, *OWN) if width > len(OWN) else OWN
    own = f"?2,?3,{'?,' * (width - 1)}nullif(?,'')"
    rows = [f"(?1,{own})", *[f"(NULL,{own})"] * (count - 1)]  # the numbers behind that of the first
    names = ",".join(("id", "envelope", "key_released", *columns))
    return f"INSERT INTO sealed_letters ({names}) VALUES {','.join(rows)}"  # noqa: S608


def row_by_row(columns: Sequence[Sequence[Any]]) -> list[Any]:
    """All values, those of a row together, as a statement of many rows takes them."""
    width = len(columns)
    flat: list[Any] = [None] * (width * len(columns[0]))
    for at, column in enumerate(columns):
        flat[at::width] = column
    return flat


def steps(count: int) -> Iterator[tuple[int, int]]:
    """(the first row, how many) of each statement that writes so many rows."""
    done = 0
    while left := count - done:
        rows = left if left < _STEP_ROWS else min(left - left % _STEP_ROWS, _MAX_ROWS)
        yield done, rows
        done += rows


def take_out(connection: sqlite3.Connection, numbers: str, envelopes: Sequence[int]) -> None:
    """Those of these letters (a list in JSON) that are sealed, in these envelopes, become single ones."""
    count = _copy(connection, "offset", numbers)
    (sealed,) = connection.execute(
        f"SELECT count(*) FROM sealed_letters WHERE {_AMONG}",  # noqa: S608
        (numbers,),
    ).fetchone()
    if count < sealed:  # a letter was corrected, and its place failed again
        count += _copy(connection, "-1", numbers)
    connection.execute("UPDATE letter_counts SET letters = letters + ? WHERE state = 'waiting'", (count,))
    delete(connection, numbers, envelopes)


def _copy(connection: sqlite3.Connection, offset: str, numbers: str) -> int:
    columns = _SINGLE.format("offset")
    return connection.execute(
        f"INSERT OR IGNORE INTO single_letters ({columns}) SELECT {_SINGLE.format(offset)}"  # noqa: S608
        f" FROM letters_in_envelopes WHERE {_AMONG} AND id NOT IN (SELECT id FROM single_letters)",
        (numbers,),
    ).rowcount


def delete(connection: sqlite3.Connection, numbers: str, envelopes: Sequence[int]) -> int:
    """Delete those of these letters that are sealed, in these envelopes; gives how many."""
    gone = connection.execute(f"DELETE FROM sealed_letters WHERE {_AMONG}", (numbers,)).rowcount  # noqa: S608
    connection.execute(
        f"DELETE FROM envelopes AS envelope WHERE {_AMONG}"  # noqa: S608
        " AND NOT EXISTS (SELECT 1 FROM sealed_letters AS one"
        " WHERE one.id >= envelope.id AND one.id < envelope.id + envelope.letters)",
        (_in_json(envelopes),),
    )
    return gone


def _in_json(numbers: Iterable[int]) -> str:
    return f"[{','.join(map(str, numbers))}]"


def _around(connection: sqlite3.Connection, source: int, offsets: Collection[int]) -> str:
    """The envelopes that may have letters of these places, as a list in JSON; empty: there are none."""
    between = (source, min(offsets), max(offsets), _FEW + 1)
    found = connection.execute(_BETWEEN, between).fetchall()
    if len(found) > _FEW:
        found = connection.execute(_AT, (source, _in_json(offsets))).fetchall()
    return _in_json([row[0] for row in found]) if found else ""


_OF_PLACES = (
    f"{IN_ENVELOPES} WHERE envelope.id IN (SELECT value FROM json_each(?1))"  # noqa: S608
    " AND one.offset IN (SELECT value FROM json_each(?2))"
)


def there(
    connection: sqlite3.Connection, source: int, sink: str, offsets: Collection[int]
) -> set[tuple[int, int]]:
    """(offset, checksum) of the sealed letters that a sink has of these places; "": of all sinks'."""
    around = _around(connection, source, offsets)
    if not around:
        return set()
    found = connection.execute(
        f"SELECT one.offset, one.checksum FROM {_OF_PLACES} AND (envelope.sink = ?3 OR ?3 = '')",  # noqa: S608
        (around, _in_json(offsets), sink),
    )
    return set(found)


def release_keys(connection: sqlite3.Connection, places: Iterable[tuple[int, int]]) -> None:
    """The keys of the events at these places (source, offset) are free, whatever sink has their letters."""
    of: dict[int, list[int]] = {}
    for source, offset in places:
        of.setdefault(source, []).append(offset)
    for source, offsets in of.items():
        if around := _around(connection, source, offsets):
            connection.execute(
                "UPDATE sealed_letters SET key_released = 1 WHERE NOT key_released AND id IN"  # noqa: S608
                f" (SELECT one.id FROM {_OF_PLACES})",
                (around, _in_json(offsets)),
            )


def keep_keys(connection: sqlite3.Connection, events: Iterable[tuple[int, int, int, str]]) -> None:
    """The keys of these events (source, offset, reading, a sink) are known: by the letters that others than
    that sink have of them."""
    of: dict[tuple[int, int, str], list[int]] = {}
    for source, offset, reading, sink in events:
        of.setdefault((source, reading, sink), []).append(offset)
    for (source, reading, sink), offsets in of.items():
        if around := _around(connection, source, offsets):
            connection.execute(
                "UPDATE sealed_letters SET key_released = 0 WHERE key_released AND id IN"  # noqa: S608
                f" (SELECT one.id FROM {_OF_PLACES} AND envelope.reading = ?3 AND envelope.sink <> ?4)",
                (around, _in_json(offsets), reading, sink),
            )


def keep_keys_at(connection: sqlite3.Connection, source: int, offsets: Collection[int], sink: str) -> None:
    """The keys of the events at these places are known, and not by what this sink has of them."""
    if around := _around(connection, source, offsets):
        connection.execute(
            "UPDATE sealed_letters SET key_released = 0 WHERE key_released AND id IN"  # noqa: S608
            f" (SELECT one.id FROM {_OF_PLACES} AND envelope.sink = ?3)",
            (around, _in_json(offsets), sink),
        )


WORDS_OF_LOST = "what it shared with other dead letters is damaged: its sink, its request and why it failed"
_NO_SOURCE = -1


def replace(connection: sqlite3.Connection, lost: Iterable[Sequence[int]], now: float) -> None:
    """Letters whose envelope is damaged or gone get one that says so, without a sink. Of each gap between the
    others: (lowest and highest number of an envelope, of a letter and of a place; how many letters)."""
    for number, other, first, last, first_offset, last_offset, count in lost:
        is_used = connection.execute("SELECT 1 FROM envelopes WHERE id = ?", (number,)).fetchone()
        if is_used or number != other or not 0 < number <= first:
            connection.execute(
                "UPDATE sealed_letters SET envelope = ?1 WHERE id BETWEEN ?1 AND ?2", (first, last)
            )
            number = first
        shared = Shared(
            source=_NO_SOURCE,
            first_offset=first_offset,
            last_offset=last_offset,
            sink="",
            reading=0,
            failed=now,
            reason=Reason.DAMAGED.value,
            detail=WORDS_OF_LOST,
            fingerprint=fingerprint(Reason.DAMAGED, WORDS_OF_LOST),
            batch="",
            batch_size=count,
            attempts=0,
            first_sent=0.0,
            producer="",
            form=0,
        )
        level = (last_offset - first_offset).bit_length()
        connection.execute(_ENVELOPE, (number, last + 1 - number, level, *shared))
