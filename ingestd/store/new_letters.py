"""Dead letters as they are written, in the writer's transactions: each once, whatever crashed before.

Many rows to a statement: the interpreter's lock is taken once for each statement, and waiting for it costs
more than a row. Letters of one request that wait for a person share an envelope (``envelopes.py``).
"""

import json
import sqlite3
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import compress, repeat
from operator import eq
from typing import Any

from ingestd.core.accelerator import crc32
from ingestd.core.letter import MAX_DETAIL, REASONS, DeadLetter, LetterColumns, columns_of, fingerprint
from ingestd.core.reasons import Reason
from ingestd.core.redaction import redact
from ingestd.store import envelopes
from ingestd.store.dead_letters import count_made, next_due

_OF_REQUEST = (
    *("source", "batch", "batch_size", "ambiguous", "attempts", "first_sent", "sink", "reading"),
    *("key_released", "producer", "form", "reason"),
)
"""Columns that all letters of a request have in common; their words may differ."""

_DETAIL, _SOURCE, _OFFSET, _BATCH, _SINK = map(
    DeadLetter._fields.index, ("detail", "source", "offset", "batch", "sink")
)
_SHARED = (1, 3, 7, *range(9, len(DeadLetter._fields)))
"""Of the columns of a ``DeadLetter`` those that letters of one request have in common, but their words."""

_SINGLE = {REASONS, *range(len(DeadLetter._fields))}.difference(_SHARED[1:])
"""The others, and the reason."""

_Columns = Sequence[Sequence[Any]]
"""Of letters, one column for each field of ``DeadLetter``: an answer may refuse thousands at once."""
_Words = tuple[str, str]


def insert_letters(connection: sqlite3.Connection, letters: Sequence[DeadLetter], now: float) -> None:
    """Store letters. One that is there already is left as it is: after a crash its place is read again.

    It is there if one of the same reading, place, sink and payload is, whatever became of that one; one of
    an earlier reading (the file is read from its start again) only while that one waits, unchanged. A letter
    of an event that was rejected is there if its sinks' are: it may have been corrected meanwhile.
    """
    if not letters:
        return
    columns = columns_of(letters)
    readings = _readings(connection, {*columns[_SOURCE]})
    runs = [*_runs(columns)]
    all_new = len(runs) > 1 and _are_new(connection, columns)
    made = 0
    for run in runs:
        reading = readings[run.columns[_SOURCE][0]]
        missing = run if all_new else _missing(connection, run, reading)
        if missing:
            made += _insert_run(connection, missing[0], columns_of(missing), reading, now)
    count_made(connection, made)


def _readings(connection: sqlite3.Connection, numbers: set[int]) -> dict[int, int]:
    """How often each of these sources was read from its start."""
    if len(numbers) == 1:  # as nearly always
        of_one = connection.execute("SELECT id, reading FROM sources WHERE id = ?", (*numbers,))
        return dict.fromkeys(numbers, 0) | dict(of_one)
    known = connection.execute(
        "SELECT id, reading FROM sources WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps([*numbers]),),
    )
    return dict.fromkeys(numbers, 0) | dict(known)


def _runs(columns: _Columns) -> Iterator[LetterColumns]:
    """Those of one request and reason, wherever they stand: of what is refused as it is read, reasons take
    turns, and each envelope and each question of what is there costs more than a letter."""
    count = len(columns[0])
    differ = [at for at in _SHARED if columns[at].count(columns[at][0]) < count]
    if not differ:
        yield LetterColumns(columns)  # as nearly always, where there are many
        return
    if differ == [REASONS]:  # as of what is refused as it is read
        numbered = [*enumerate(columns)]
        for reason in dict.fromkeys(columns[REASONS]):
            chosen = [*map(eq, columns[REASONS], repeat(reason))]
            alike = chosen.count(True)
            yield LetterColumns(
                [[*compress(column, chosen)] if at in _SINGLE else column[:alike] for at, column in numbered]
            )
        return
    batch = columns[_BATCH][0]
    of_first = columns[_BATCH].count(batch)
    if 1 < of_first < count and {*columns[_BATCH][:of_first]} == {batch}:
        for some in (slice(of_first), slice(of_first, count)):
            # as those of an answer before the copies of their events
            yield from _runs([column[some] for column in columns])
        return
    runs: dict[tuple[Any, ...], list[tuple[Any, ...]]] = {}
    for one in zip(*columns, strict=True):
        runs.setdefault((one[1], one[3], one[7], one[9:]), []).append(one)
    for run in runs.values():
        yield LetterColumns([*zip(*run, strict=True)])


# --- what is there ---


def _are_new(connection: sqlite3.Connection, columns: _Columns) -> bool:
    """Whether none of them has a row, nor will when others of them have theirs: they are asked for at once.
    False says nothing."""
    sources, sinks, offsets = {*columns[_SOURCE]}, {*columns[_SINK]}, columns[_OFFSET]
    if len(sources) > 1 or len(sinks) > 1 or min(offsets) < 0:
        return False
    (source,), (sink,) = sources, sinks
    if len({*offsets}) < len(offsets) or envelopes.there(connection, source, sink, offsets):
        return False
    return not _has_single(connection, source, sink, offsets)


def _has_single(connection: sqlite3.Connection, source: int, sink: str, offsets: Sequence[int]) -> bool:
    """Whether a single letter of the source is among these places."""
    among = (
        "SELECT 1 FROM single_letters WHERE source = ?1 AND offset BETWEEN ?2 AND ?3 AND offset >= 0"
        " AND (sink = ?4 OR ?4 = '') LIMIT 1"
    )
    between = source, max(min(offsets), 0), max(offsets), sink
    return connection.execute(among, between).fetchone() is not None


def _missing(connection: sqlite3.Connection, run: LetterColumns, reading: int) -> Sequence[DeadLetter]:
    """Those that have no row. Of a source that goes on none has a place among these: only where there is
    one, as where it is read again, each is asked for."""
    missing: Sequence[DeadLetter] = run
    columns = run.columns
    offsets = columns[_OFFSET]
    if max(offsets) < 0:
        return run
    source, sink = columns[_SOURCE][0], columns[_SINK][0]
    sealed = envelopes.there(connection, source, sink, offsets)
    if _has_single(connection, source, sink, offsets):
        missing = [one for one in missing if not _is_single(connection, one, reading)]
    if sealed:
        missing = [one for one in missing if (one.offset, crc32(one.payload)) not in sealed]
    return missing


def _is_single(connection: sqlite3.Connection, letter: DeadLetter, reading: int) -> bool:
    # "likely": with the index's own condition as it stands, all letters of the source are looked at
    one = (
        "SELECT 1 FROM single_letters WHERE source = ?1 AND offset = ?2 AND likely(offset >= 0)"
        " AND coalesce(original, checksum) = ?3 AND (sink = ?4 OR ?4 = '')"
        " AND (reading = ?5 OR state <> 'delivered' AND original IS NULL) LIMIT 1"
    )
    where = (letter.source, letter.offset, crc32(letter.payload), letter.sink, reading)
    return letter.offset >= 0 and connection.execute(one, where).fetchone() is not None


# --- what is written ---


def _insert_run(
    connection: sqlite3.Connection, first: DeadLetter, columns: _Columns, reading: int, now: float
) -> int:
    """Letters of one request, the first of which this is; gives how many were not there."""
    offsets, details = columns[_OFFSET], columns[_DETAIL]
    count = len(offsets)
    due = next_due(first.reason, 0, first.first_sent_wall, now)
    words = {detail: _words_of(first.reason, detail) for detail in {*details}}
    common = words[first.detail] if len(words) == 1 else None
    own = _own(columns)
    if common is None:
        own = [*zip(*map(words.__getitem__, details), strict=True), *own]
    waits = due is None and not first.ambiguous and count >= envelopes.LEAST and min(offsets) >= 0
    if waits and len({*offsets}) == count:  # others may be the same, which an index of single letters tells
        shared = _shared(first, (min(offsets), max(offsets)), common or ("", ""), reading, now)
        envelopes.seal(connection, shared, own, key_released=1 if first.key_released else 0)
        return count
    numbers = (first.batch_size, 1 if first.ambiguous else 0, first.attempts, first.first_sent_wall)
    free, form = 1 if first.key_released else 0, int(first.form)
    whose = (first.sink, reading, free, first.producer, form, str(first.reason))
    given = (now, due or 0.0, first.source, first.batch, *numbers, *whose, *(common or ()))
    return _insert_single(connection, given, own)


def _own(columns: _Columns) -> list[Sequence[Any]]:
    """The columns ``envelopes.OWN``. Each value is bound by itself, and that is most of what a letter costs.

    Of exact types that ``sqlite3`` binds as they are: for bytes, None, bool and an enum's members it
    looks for an adapter first, which costs more than a copy.
    """
    payloads, digests = columns[0], columns[6]
    if None in digests:
        keys: list[Any] = [bytearray(one) if one else "" for one in digests]
    else:
        keys = [*map(bytearray, digests)]
    sums, copies = [*map(crc32, payloads)], [*map(bytearray, payloads)]
    return [columns[_OFFSET], columns[5], columns[8], sums, copies, keys]


def _shared(
    first: DeadLetter, places: tuple[int, int], words: _Words, reading: int, now: float
) -> envelopes.Shared:
    return envelopes.Shared(
        first.source,
        *places,
        first.sink,
        reading,
        now,
        str(first.reason),
        *words,
        first.batch,
        first.batch_size,
        first.attempts,
        first.first_sent_wall,
        first.producer,
        int(first.form),
    )


def _insert_single(
    connection: sqlite3.Connection, shared: tuple[Any, ...], columns: Sequence[Sequence[Any]]
) -> int:
    made, width, flat = 0, len(columns), envelopes.row_by_row(columns)
    for at, rows in envelopes.steps(len(columns[0])):
        given = [*shared, *flat[at * width : (at + rows) * width]]
        made += connection.execute(_insert_statement(rows, width), given).rowcount
    return made


@cache
def _insert_statement(count: int, own: int) -> str:
    """``own``: parameters of each row; without numbers, which SQLite would look for one by one. ``?1`` is
    the time. Zero and the empty text stand for NULL."""
    words = own > len(envelopes.OWN)
    shared = _OF_REQUEST if words else (*_OF_REQUEST, *envelopes.WORDS)
    columns = (*shared, *(envelopes.WORDS if words else ()), *envelopes.OWN)
    common = ",".join([f"?{number}" for number in range(3, 3 + len(shared))])
    row = f"(?1,?1,'waiting',nullif(?2,0),{common},{'?,' * (own - 1)}nullif(?,''))"
    names = ",".join(("first_failed", "last_failed", "state", "due", *columns))
    return f"INSERT OR IGNORE INTO single_letters ({names}) VALUES {','.join([row] * count)}"  # noqa: S608


def _words_of(reason: Reason, detail: str) -> _Words:
    shown = redact(detail)
    return shown[:MAX_DETAIL], fingerprint(reason, shown)
