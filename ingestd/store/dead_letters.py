"""The dead-letter store: its rows, how they are found and how they are made. In the writer's transactions.

What becomes of letters that are sent again is in ``letter_leases.py``, what a person does in
``letter_changes.py``.
"""

import json
import sqlite3
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from itertools import chain, groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from ingestd.core.letter import MAX_DETAIL, DeadLetter, fingerprint
from ingestd.core.reasons import RETRYABLE, Reason
from ingestd.core.redaction import redact

if TYPE_CHECKING:
    from ingestd.core.chunk import Place

IDEMPOTENCY_WINDOW_S = 24 * 3600.0
"""How long an API remembers a key (seed on idempotency): past it, a letter waits for a person."""

UNROUTED = "-"
"""For people: the sink of a letter that has none. No sink can have this name."""

FIRST_RETRY_S = 60.0
MAX_RETRY_S = 3600.0

COLUMNS = (
    "id, state, reason, detail, fingerprint, CAST(payload AS BLOB), checksum, source, offset, line,"
    " CAST(digest AS BLOB), batch,"
    " batch_index, batch_size, ambiguous, attempts, first_sent, first_failed, last_failed, due,"
    " settled_at, edited, sink, requested, key_released, obstacle, reading, producer, form"
)


ID_FIELDS, TYPE_FIELDS = ("id", "interactionId", "eventId"), ("type", "eventType")
"""Where events have their id and their type; the first that is there."""


class StoredLetter(NamedTuple):
    """One row. Times are seconds since the epoch; ``due`` None: waits for a person. ``requested``: when a
    person asked for it, or 0. ``obstacle``: why it is not sent without a person, or empty."""

    id: int
    state: str
    reason: str
    detail: str
    fingerprint: str
    payload: bytes
    checksum: int
    source: int
    offset: int
    line: int
    digest: bytes | None
    batch: str
    batch_index: int
    batch_size: int
    ambiguous: int
    attempts: int
    first_sent: float
    first_failed: float
    last_failed: float
    due: float | None
    settled_at: float | None
    edited: int
    sink: str
    requested: float
    key_released: int
    obstacle: str
    reading: int
    producer: str
    form: int

    @property
    def place(self) -> "Place":
        return self.source, self.offset, self.reading

    @property
    def intact(self) -> bool:
        """The payload is what was stored."""
        return zlib.crc32(self.payload) == self.checksum


class Filter(NamedTuple):
    """Which letters: all conditions hold. ``older_s``/``newer_s`` count from the last failure; ``sink``
    UNROUTED: of events that were rejected before routing. ``event_id``, ``event_type``: by the fields in
    which events usually have them. ``text``: stands in the event or in what was said
    of it, whatever the case of its letters."""

    ids: tuple[int, ...] = ()
    reason: str = ""
    fingerprint: str = ""
    state: str = "waiting"
    older_s: float | None = None
    newer_s: float | None = None
    sink: str = ""
    event_id: str = ""
    event_type: str = ""
    producer: str = ""
    text: str = ""

    def sql(self, now: float) -> tuple[str, list[Any]]:
        """A WHERE condition and its parameters."""
        terms: list[str] = []
        values: list[Any] = []

        def add(term: str, *given: Any) -> None:
            terms.append(term)
            values.extend(given)

        if self.ids:
            add("id IN (SELECT value FROM json_each(?))", json.dumps(self.ids))  # any number of them
        for column, value in (("reason", self.reason), ("producer", self.producer)):
            if value:
                add(f"{column} = ?", value)
        if self.sink:
            add("sink = ?", "" if self.sink == UNROUTED else self.sink)
        if self.fingerprint:
            add("fingerprint LIKE ? ESCAPE '\\'", _like(self.fingerprint))
        if self.state != "all":
            add("state IN (?, ?)", self.state, "leased" if self.state == "waiting" else self.state)
        self._add_fields(add)
        if self.text:
            text = f"%{_like(self.text)}"
            add("(detail LIKE ? ESCAPE '\\' OR CAST(payload AS TEXT) LIKE ? ESCAPE '\\')", text, text)
        for sign, age_s in (("<=", self.older_s), (">=", self.newer_s)):
            if age_s is not None:
                add(f"last_failed {sign} ?", now - age_s)
        return " AND ".join(terms) or "1", values

    def _add_fields(self, add: Callable[..., None]) -> None:
        for wanted, names in ((self.event_id, ID_FIELDS), (self.event_type, TYPE_FIELDS)):
            if wanted:
                text = "CAST(payload AS TEXT)"
                fields = ", ".join(f"json_extract({text}, '$.{name}')" for name in names)
                add(f"CASE WHEN json_valid({text}) THEN coalesce({fields}) = ? END", wanted)


def _like(prefix: str) -> str:
    escaped = prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped + "%"


def insert_letters(connection: sqlite3.Connection, letters: Sequence[DeadLetter], now: float) -> None:
    """Store letters. One that is there already is left as it is: after a crash its place is read again.

    It is there if one of the same reading, place, sink and payload is, whatever became of that one; one of
    an earlier reading (the file is read from its start again) only while that one waits, unchanged. A letter
    of an event that was rejected is there if its sinks' are: it may have been corrected meanwhile.

    Many rows to a statement: the interpreter's lock is taken once for each statement, and waiting for it
    costs more than a row.
    """
    readings = _readings(connection, letters)
    asked = [one for one in letters if not one.sink or readings[one.source]]
    if asked and (there := _there(connection, asked, readings)):
        letters = [one for one in letters if id(one) not in there]
    made = 0
    for run in _runs(letters):
        shared, rows = _rows_of(run, readings[run[0].source], now)
        done = 0
        while left := len(rows) - done:
            count = left if left < _STEP_ROWS else min(left - left % _STEP_ROWS, _MAX_ROWS)
            given = [*shared, *chain.from_iterable(rows[done : done + count])]
            made += connection.execute(_insert_statement(count, len(rows[0])), given).rowcount
            done += count
    count_made(connection, made)


def count_made(connection: sqlite3.Connection, letters: int) -> None:
    """This number was inserted. A trigger would do the same once for each, which costs a fifth of it."""
    connection.execute("UPDATE letter_counts SET letters = letters + ? WHERE state = 'waiting'", (letters,))


def _readings(connection: sqlite3.Connection, letters: Sequence[DeadLetter]) -> dict[int, int]:
    """How often the source of each letter was read from its start."""
    numbers = {letter.source for letter in letters}
    known = connection.execute(
        "SELECT id, reading FROM sources WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps([*numbers]),),
    )
    return dict.fromkeys(numbers, 0) | dict(known)


def _there(
    connection: sqlite3.Connection, letters: Sequence[DeadLetter], readings: Mapping[int, int]
) -> set[int]:
    """Those that are there, by ``id``. Of a source that goes on none is behind the first place of these: only
    where there is one, as where it is read again, each is asked for."""
    first: dict[int, int] = {}
    for one in letters:
        first[one.source] = min(one.offset, first.get(one.source, one.offset))
    behind = "SELECT 1 FROM letters WHERE source = ? AND offset >= ? AND offset >= 0 LIMIT 1"
    known = {place[0] for place in first.items() if connection.execute(behind, place).fetchone()}
    mine = (one for one in letters if one.source in known)
    return {id(one) for one in mine if _is_there(connection, one, readings[one.source])}


def _is_there(connection: sqlite3.Connection, letter: DeadLetter, reading: int) -> bool:
    """Whether this failure has a letter. The index of places stops a second one of the same sink and reading
    by itself: asked for are other sinks', for an event that was rejected, and earlier readings'."""
    # "likely": with the index's own condition as it stands, all letters of the source are looked at
    one = (
        "SELECT 1 FROM letters WHERE source = ?1 AND offset = ?2 AND likely(offset >= 0)"
        " AND coalesce(original, checksum) = ?3 AND (sink = ?4 OR ?4 = '')"
        " AND (reading = ?5 AND ?4 = '' OR state <> 'delivered' AND original IS NULL) LIMIT 1"
    )
    where = (letter.source, letter.offset, zlib.crc32(letter.payload), letter.sink, reading)
    return connection.execute(one, where).fetchone() is not None


_STEP_ROWS, _MAX_ROWS = 64, 1280
"""Two statements for most batches, 83 sizes in all of each of two kinds: ``sqlite3`` keeps 128 that are
prepared. A row has up to 9 parameters, of which a statement takes 32,766."""

_Row = tuple[Any, ...]
_WORDS = ("reason", "detail", "fingerprint")
_OWN = ("payload", "checksum", "offset", "line", "batch_index", "digest")
_OF_REQUEST = (
    *("source", "batch", "batch_size", "ambiguous", "attempts", "first_sent", "sink", "reading"),
    *("key_released", "producer", "form"),
)
"""Columns that a letter has for itself, and those that all letters of a request have in common. Its words are
of either kind."""


@cache
def _insert_statement(count: int, own: int) -> str:
    """``own``: parameters of each row; without numbers, which SQLite would look for one by one. ``?1`` is
    the time. Zero and the empty text stand for NULL."""
    words = own > len(_OWN)
    shared = _OF_REQUEST if words else (*_OF_REQUEST, *_WORDS)
    columns = ("first_failed", "last_failed", "state", "due", *shared, *(_WORDS if words else ()), *_OWN)
    common = ",".join([f"?{number}" for number in range(3, 3 + len(shared))])
    row = f"(?1,?1,'waiting',nullif(?2,0),{common},{'?,' * (own - 1)}nullif(?,''))"
    return f"INSERT OR IGNORE INTO letters ({','.join(columns)}) VALUES {','.join([row] * count)}"  # noqa: S608


def _runs(letters: Sequence[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """Those that stand together and were of one request."""
    for _, run in groupby(letters, lambda one: (one[1], one[3], one[7], one[9:])):
        yield list(run)


def _rows_of(run: Sequence[DeadLetter], reading: int, now: float) -> tuple[_Row, list[_Row]]:
    """What these letters of one request have in common, and a row of each. Each parameter is bound by itself,
    and that is most of what a letter costs.

    Of exact types that ``sqlite3`` binds as they are: for bytes, None, bool and an enum's members it
    looks for an adapter first, which costs more than a copy.
    """
    first, crc = run[0], zlib.crc32
    words = {detail: _words_of(first.reason, detail) for detail in {one.detail for one in run}}
    due = next_due(first.reason, 0, first.first_sent_wall, now) or 0.0
    numbers = (first.batch_size, 1 if first.ambiguous else 0, first.attempts, first.first_sent_wall)
    free = 1 if first.key_released else 0
    shared = (first.source, first.batch, *numbers, first.sink, reading, free, first.producer, int(first.form))
    rows: list[_Row] = [
        (bytearray(one[0]), crc(one[0]), one[4], one[5], one[8], bytearray(one[6]) if one[6] else "")
        for one in run
    ]
    if len(words) == 1:
        return (now, due, *shared, *words[first.detail]), rows
    return (now, due, *shared), [(*words[one.detail], *row) for one, row in zip(run, rows, strict=True)]


def _words_of(reason: Reason, detail: str) -> tuple[str, str, str]:
    shown = redact(detail)
    return str(reason), shown[:MAX_DETAIL], fingerprint(reason, shown)


def next_due(reason: Reason, retries: int, first_sent: float, now: float) -> float | None:
    """When a letter is to be sent again by itself, or None: it waits for a person. One of a process that
    ended first is due at once: the next one is to send it."""
    if reason not in RETRYABLE or is_past_window(first_sent, now):
        return None
    if reason is Reason.INTERRUPTED and not retries:
        return now
    return now + backoff_s(retries)


def backoff_s(retries: int) -> float:
    return min(MAX_RETRY_S, FIRST_RETRY_S * 2.0 ** min(retries, 10))


def is_past_window(first_sent: float, now: float) -> bool:
    """Whether an API may have forgotten the key of a request; never, if it was not sent (0)."""
    return bool(first_sent) and now - first_sent > IDEMPOTENCY_WINDOW_S


def select(connection: sqlite3.Connection, condition: str, values: Sequence[Any]) -> list[StoredLetter]:
    rows = connection.execute(f"SELECT {COLUMNS} FROM letters WHERE {condition}", values)  # noqa: S608
    return [StoredLetter(*row) for row in rows]


def mark_keys_released(connection: sqlite3.Connection, letters: Sequence[DeadLetter]) -> None:
    """The events of these were given up by all their sinks: their keys are free again."""
    connection.executemany(
        "UPDATE letters SET key_released = 1 WHERE source = ? AND offset = ? AND likely(offset >= 0)"
        " AND state <> 'delivered'",
        [(letter.source, letter.offset) for letter in letters if letter.offset >= 0],
    )


def count(connection: sqlite3.Connection) -> dict[str, int]:
    """Letters by state, as they are counted."""
    return dict(connection.execute("SELECT state, letters FROM letter_counts"))


def forget_delivered(connection: sqlite3.Connection, before: float, *, most: int) -> int:
    """Delete letters that were delivered before this time, at most so many; gives how many."""
    return connection.execute(
        "DELETE FROM letters WHERE id IN (SELECT id FROM letters WHERE state = 'delivered'"
        " AND settled_at < ? ORDER BY settled_at LIMIT ?)",
        (before, most),
    ).rowcount
