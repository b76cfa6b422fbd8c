"""The dead-letter store: its rows and how they are found.

How they are made is in ``new_letters.py``, what becomes of letters that are sent again in
``letter_leases.py``, what a person does in ``letter_changes.py``. In the table ``single_letters`` are those
that something may happen to, in ``sealed_letters`` those that wait for a person (``envelopes.py``), and in
``letters``, to be read, all.
"""

import json
import sqlite3
import zlib
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ingestd.core.backoff import Backoff
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import RETRYABLE, Reason
from ingestd.store import envelopes
from ingestd.store.connection import connect

if TYPE_CHECKING:
    from ingestd.core.chunk import Place

IDEMPOTENCY_WINDOW_S = 24 * 3600.0
"""How long an API remembers a key (seed on idempotency): past it, a letter waits for a person."""

UNROUTED = "-"
"""For people: the sink of a letter that has none. No sink can have this name."""

UNREADABLE = -1

FIRST_RETRY_S = 60.0
MAX_RETRY_S = 3600.0
_BACKOFF = Backoff(FIRST_RETRY_S, MAX_RETRY_S)

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


def count_made(connection: sqlite3.Connection, letters: int) -> None:
    """This number was inserted. A trigger would do the same once for each, which costs a fifth of it."""
    connection.execute("UPDATE letter_counts SET letters = letters + ? WHERE state = 'waiting'", (letters,))


def next_due(reason: Reason, retries: int, first_sent: float, now: float) -> float | None:
    """When a letter is to be sent again by itself, or None: it waits for a person. One of a process that
    ended first is due at once: the next one is to send it."""
    if reason not in RETRYABLE or is_past_window(first_sent, now):
        return None
    if reason is Reason.INTERRUPTED and not retries:
        return now
    return now + backoff_s(retries)


def backoff_s(retries: int) -> float:
    return _BACKOFF.ceiling(retries + 1)


def is_past_window(first_sent: float, now: float) -> bool:
    """Whether an API may have forgotten the key of a request; never, if it was not sent (0)."""
    return bool(first_sent) and now - first_sent > IDEMPOTENCY_WINDOW_S


def select(
    connection: sqlite3.Connection, condition: str, values: Sequence[Any], *, table: str = "letters"
) -> list[StoredLetter]:
    rows = connection.execute(f"SELECT {COLUMNS} FROM {table} WHERE {condition}", values)  # noqa: S608
    return [StoredLetter(*row) for row in rows]


def mark_keys_released(connection: sqlite3.Connection, letters: Sequence[DeadLetter]) -> None:
    """The events of these were given up by all their sinks: their keys are free again."""
    places = [(letter.source, letter.offset) for letter in letters if letter.offset >= 0]
    connection.executemany(
        "UPDATE single_letters SET key_released = 1 WHERE source = ? AND offset = ? AND likely(offset >= 0)"
        " AND state <> 'delivered'",
        places,
    )
    envelopes.release_keys(connection, places)


def count(connection: sqlite3.Connection) -> dict[str, int]:
    """Letters by state, as they are counted."""
    return dict(connection.execute("SELECT state, letters FROM letter_counts"))


def count_requested(connection: sqlite3.Connection) -> int:
    count: int = connection.execute(
        "SELECT count(*) FROM single_letters WHERE state = 'waiting' AND requested <> 0"
    ).fetchone()[0]
    return count


def find_lost(path: Path, now: float) -> int:
    """Letters whose envelope is damaged would be seen by nobody, though what each has for itself, its event
    too, may be whole: from here on they wait for a person, without a sink. Gives how many; UNREADABLE: the
    damage is such that nothing can be done. With a connection of its own: one that has met such damage writes
    nothing any more."""
    try:
        with closing(connect(path, read_only=True)) as connection:
            lost = connection.execute(LOST).fetchall()
        if lost:
            with closing(connect(path)) as connection:
                connection.execute("BEGIN IMMEDIATE")
                envelopes.replace(connection, lost, now)
                connection.execute("COMMIT")
    except sqlite3.Error as error:
        if getattr(error, "sqlite_errorname", "") == "SQLITE_CORRUPT":
            return UNREADABLE
        raise
    return sum(row[-1] for row in lost)


LOST = (
    "WITH ranges AS (SELECT id, id + letters AS past FROM envelopes UNION ALL SELECT 0, 0"
    " UNION ALL SELECT 0x7fffffffffffffff, 0x7fffffffffffffff),"
    " gaps AS (SELECT max(past) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS first,"
    " id AS past FROM ranges)"
    " SELECT min(one.envelope), max(one.envelope), min(one.id), max(one.id), min(one.offset),"
    " max(one.offset), count(*) FROM gaps"
    " CROSS JOIN sealed_letters AS one ON one.id >= gaps.first AND one.id < gaps.past"
    " WHERE gaps.first < gaps.past GROUP BY gaps.past"
)
"""Sealed letters between the numbers of all envelopes. Most envelopes begin where the one before ends: what
costs something are the others."""


def forget_delivered(connection: sqlite3.Connection, before: float, *, most: int) -> int:
    """Delete letters that were delivered before this time, at most so many; gives how many."""
    return connection.execute(
        "DELETE FROM single_letters WHERE id IN (SELECT id FROM single_letters WHERE state = 'delivered'"
        " AND settled_at < ? ORDER BY settled_at LIMIT ?)",
        (before, most),
    ).rowcount
