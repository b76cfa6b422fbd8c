"""The dead-letter store, as it is written: functions that run in the writer's transactions."""

import json
import sqlite3
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any, NamedTuple

from ingestd.core.letter import MAX_DETAIL, DeadLetter, fingerprint
from ingestd.core.masking import redact
from ingestd.core.reasons import RETRYABLE, Reason

IDEMPOTENCY_WINDOW_S = 24 * 3600.0
"""How long an API remembers a key (seed on idempotency): past it, a letter waits for a person."""

UNROUTED = "-"
"""For people: the sink of a letter that has none. No sink can have this name."""

FIRST_RETRY_S = 60.0
MAX_RETRY_S = 3600.0

COLUMNS = (
    "id, state, reason, detail, fingerprint, payload, checksum, source, offset, line, digest, batch,"
    " batch_index, batch_size, unanswered, attempts, first_sent, first_failed, last_failed, due,"
    " settled_at, edited, sink"
)


class StoredLetter(NamedTuple):
    """One row. Times are seconds since the epoch; ``due`` None: waits for a person."""

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
    unanswered: int
    attempts: int
    first_sent: float
    first_failed: float
    last_failed: float
    due: float | None
    settled_at: float | None
    edited: int
    sink: str

    @property
    def intact(self) -> bool:
        """The payload is what was stored."""
        return zlib.crc32(self.payload) == self.checksum


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters: all conditions hold. ``older_s``/``newer_s`` count from the last failure; ``sink``
    UNROUTED: of events that were rejected before it was known where to."""

    ids: tuple[int, ...] = ()
    reason: str = ""
    fingerprint: str = ""
    state: str = "waiting"
    older_s: float | None = None
    newer_s: float | None = None
    sink: str = ""

    def sql(self, now: float) -> tuple[str, list[Any]]:
        """A WHERE condition and its parameters."""
        terms: list[str] = []
        values: list[Any] = []

        def add(term: str, *given: Any) -> None:
            terms.append(term)
            values.extend(given)

        if self.ids:
            add("id IN (SELECT value FROM json_each(?))", json.dumps(self.ids))  # any number of them
        if self.reason:
            add("reason = ?", self.reason)
        if self.sink:
            add("sink = ?", "" if self.sink == UNROUTED else self.sink)
        if self.fingerprint:
            add("fingerprint LIKE ? ESCAPE '\\'", _like(self.fingerprint))
        if self.state != "all":
            add("state IN (?, ?)", self.state, "leased" if self.state == "waiting" else self.state)
        if self.older_s is not None:
            add("last_failed <= ?", now - self.older_s)
        if self.newer_s is not None:
            add("last_failed >= ?", now - self.newer_s)
        return " AND ".join(terms) or "1", values


def _like(prefix: str) -> str:
    escaped = prefix.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return escaped + "%"


def insert_letters(connection: sqlite3.Connection, letters: Sequence[DeadLetter], now: float) -> None:
    """Store letters; one that is there already (same source, offset and sink) is left as it is. One of an
    event that was rejected is none if the event has any letter: it may have been corrected meanwhile.

    Many rows to a statement: the interpreter's lock is taken once for each statement, and waiting for it
    costs more than a row.
    """
    rejected = {(letter.source, letter.offset) for letter in letters if not letter.sink}
    if rejected and (known := _known_places(connection, rejected)):
        letters = [one for one in letters if one.sink or (one.source, one.offset) not in known]
    rows = [_new_row(letter, now) for letter in letters]
    done = 0
    while left := len(rows) - done:
        count = left if left < _STEP_ROWS else min(left - left % _STEP_ROWS, _MAX_ROWS)
        connection.execute(_insert_statement(count), [*chain((now,), *rows[done : done + count])])
        done += count


def _known_places(connection: sqlite3.Connection, places: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Those (source, offset) of which there are letters, whosever they are."""
    # "likely": with the index's own condition as it stands, all letters of the source are looked at
    one = "SELECT 1 FROM letters WHERE source = ? AND offset = ? AND likely(offset >= 0) LIMIT 1"
    return {place for place in places if connection.execute(one, place).fetchone()}


_STEP_ROWS, _MAX_ROWS = 64, 1280
"""Two statements for most batches, 83 sizes in all: ``sqlite3`` keeps 128 that are prepared. A row has 17
parameters, of which a statement takes 32,766."""


@cache
def _insert_statement(count: int) -> str:
    """``?1`` is the time. Zero and the empty text stand for NULL: see ``_new_row``."""
    row = "(?1, ?1, 'waiting', ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, ''), ?, ?, ?, ?, ?, ?, nullif(?, 0), ?)"
    return (
        "INSERT OR IGNORE INTO letters (first_failed, last_failed, state, reason, detail, fingerprint,"  # noqa: S608
        " payload, checksum, source, offset, line, digest, batch, batch_index, batch_size, unanswered,"
        f" attempts, first_sent, due, sink) VALUES {','.join([row] * count)}"
    )


def _new_row(letter: DeadLetter, now: float) -> tuple[Any, ...]:
    """Of exact types that ``sqlite3`` binds as they are: for bytes, None, bool and an enum's members it
    looks for an adapter first, which costs more than a copy."""
    reason, detail, payload, digest = letter.reason, redact(letter.detail), letter.payload, letter.digest
    first_sent = letter.first_sent_wall
    return (
        str(reason),
        detail[:MAX_DETAIL],
        fingerprint(reason, detail),
        bytearray(payload),
        zlib.crc32(payload),
        letter.source,
        letter.offset,
        letter.line,
        bytearray(digest) if digest else "",
        letter.batch,
        letter.batch_index,
        letter.batch_size,
        int(letter.unanswered),
        letter.attempts,
        first_sent,
        next_due(reason, 0, first_sent, now) or 0,
        letter.sink,
    )


def next_due(reason: Reason, retries: int, first_sent: float, now: float) -> float | None:
    """When a letter is to be sent again by itself, or None: it waits for a person."""
    if reason not in RETRYABLE or (first_sent and now - first_sent > IDEMPOTENCY_WINDOW_S):
        return None
    return now + min(MAX_RETRY_S, FIRST_RETRY_S * 2.0 ** min(retries, 10))


def lease_due(
    connection: sqlite3.Connection,
    *,
    now: float,
    lease_s: float,
    max_events: int,
    max_bytes: int,
    requested_only: bool = False,
    sink: str,
    several: bool = False,
) -> list[StoredLetter]:
    """Lease the letters of a sink's next retry: one frozen batch as it was, or loose letters together.

    A lease that has expired (its holder died) counts as none. ``several``: events go to other sinks too;
    one that will be read again, because they lack it, is given without its key: that is not to be known yet.
    """
    free = "sink = ? AND (state = 'waiting' OR (state = 'leased' AND lease < ?))"
    if requested_only:
        free += " AND requested"
    first = select(
        connection, f"due IS NOT NULL AND due <= ? AND {free} ORDER BY due, id LIMIT 1", (now, sink, now)
    )
    if not first:
        return []
    if first[0].unanswered:
        letters = select(
            connection,
            f"batch = ? AND unanswered AND {free} ORDER BY batch_index",
            (first[0].batch, sink, now),
        )
    else:
        letters = select(
            connection,
            f"due <= ? AND NOT unanswered AND {free} ORDER BY due, id LIMIT ?",
            (now, sink, now, max_events),
        )
        size, keep = 0, 0
        while keep < len(letters) and (keep == 0 or size + len(letters[keep].payload) + 1 <= max_bytes):
            size += len(letters[keep].payload) + 1
            keep += 1
        letters = letters[:keep]
    connection.executemany(
        "UPDATE letters SET state = 'leased', lease = ?, requested = 0 WHERE id = ?",
        [(now + lease_s, letter.id) for letter in letters],
    )
    return _without_early_keys(connection, letters) if several else letters


def _without_early_keys(connection: sqlite3.Connection, letters: list[StoredLetter]) -> list[StoredLetter]:
    sources = {letter.source for letter in letters}
    rows = connection.execute("SELECT id, position FROM sources WHERE device >= 0")  # not the spool
    reached = {number: position for number, position in rows if number in sources}
    return [
        letter._replace(digest=None)
        if letter.offset >= reached.get(letter.source, letter.offset + 1)
        else letter
        for letter in letters
    ]


def select(connection: sqlite3.Connection, condition: str, values: Sequence[Any]) -> list[StoredLetter]:
    rows = connection.execute(f"SELECT {COLUMNS} FROM letters WHERE {condition}", values)  # noqa: S608
    return [StoredLetter(*row) for row in rows]


def letters_delivered(connection: sqlite3.Connection, ids: Sequence[int], now: float) -> None:
    connection.executemany(
        "UPDATE letters SET state = 'delivered', settled_at = ?, due = NULL, lease = NULL,"
        " attempts = attempts + 1 WHERE id = ?",
        [(now, number) for number in ids],
    )


def letters_failed(
    connection: sqlite3.Connection, letters: Sequence[tuple[int, DeadLetter]], now: float
) -> None:
    """Retries that failed: (number, how it stands now). They wait longer, or for a person."""
    for number, letter in letters:
        detail = redact(letter.detail)
        row = connection.execute("SELECT attempts FROM letters WHERE id = ?", (number,)).fetchone()
        attempts = row[0] + 1 if row else 1
        connection.execute(
            "UPDATE letters SET state = 'waiting', lease = NULL, attempts = ?, reason = ?, detail = ?,"
            " fingerprint = ?, batch = ?, batch_index = ?, batch_size = ?, unanswered = ?, first_sent = ?,"
            " last_failed = ?, due = ? WHERE id = ?",
            (
                attempts,
                letter.reason.value,
                detail[:MAX_DETAIL],
                fingerprint(letter.reason, detail),
                letter.batch,
                letter.batch_index,
                letter.batch_size,
                letter.unanswered,
                letter.first_sent_wall,
                now,
                next_due(letter.reason, attempts, letter.first_sent_wall, now),
                number,
            ),
        )


def release_leases(connection: sqlite3.Connection) -> None:
    """Give back what this process leased: it has the directory's lock, so nobody else leases."""
    connection.execute("UPDATE letters SET state = 'waiting', lease = NULL WHERE state = 'leased'")


def make_due(connection: sqlite3.Connection, where: Filter, now: float) -> int:
    """A person wants these sent now, whatever their reason; gives how many letters that are.

    A request that may have been taken is repeated whole or not at all: its other letters go along. What is
    leased is on its way already. What was marked with the same ``now`` is not counted again.
    """
    condition, values = where.sql(now)
    mark = (
        "UPDATE letters SET due = ?, requested = 1"
        " WHERE state = 'waiting' AND NOT (requested AND due = ?) AND"
    )
    together = "unanswered AND batch IN (SELECT batch FROM letters WHERE requested AND unanswered)"
    chosen = connection.execute(f"{mark} ({condition})", [now, now, *values]).rowcount
    return chosen + connection.execute(f"{mark} {together}", [now, now]).rowcount


def count_requested(connection: sqlite3.Connection) -> int:
    count: int = connection.execute("SELECT count(*) FROM letters WHERE requested").fetchone()[0]
    return count


def edit_payload(connection: sqlite3.Connection, number: int, payload: bytes) -> None:
    """Replace a letter's payload: it leaves its batch, whose bytes must not change under their key."""
    connection.execute(
        "UPDATE letters SET payload = ?, checksum = ?, edited = 1, batch = '', unanswered = 0, digest = NULL"
        " WHERE id = ?",
        (payload, zlib.crc32(payload), number),
    )


def purge(connection: sqlite3.Connection, where: Filter, now: float, *, most: int = -1) -> int:
    """Delete letters, ``most`` of them (-1: all), but none that is leased; gives how many."""
    condition, values = where.sql(now)
    chosen = f"SELECT id FROM letters WHERE state <> 'leased' AND ({condition}) LIMIT ?"  # noqa: S608
    return connection.execute(f"DELETE FROM letters WHERE id IN ({chosen})", [*values, most]).rowcount  # noqa: S608


def purge_delivered(connection: sqlite3.Connection, before: float) -> None:
    """Forget letters that were delivered before this time."""
    connection.execute("DELETE FROM letters WHERE state = 'delivered' AND settled_at < ?", (before,))
