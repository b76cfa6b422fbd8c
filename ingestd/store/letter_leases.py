"""Dead letters that are sent again: leased, frozen, settled. Functions that run in the writer's transactions.

A letter whose request may have been taken (``ambiguous``) goes out with all others of that request, as the
same bytes under the same key, or waits for a person: ``obstacle`` says why. What an answer freed goes out in
a new request, whose key is here before it is sent.
"""

import json
import sqlite3
from collections.abc import Callable, Container, Iterator, Sequence

import msgspec

from ingestd.core.chunk import Batch
from ingestd.core.letter import MAX_DETAIL, DeadLetter, fingerprint
from ingestd.core.reasons import RETRYABLE
from ingestd.core.redaction import redact
from ingestd.store import absent_sinks
from ingestd.store.dead_letters import (
    COLUMNS,
    IDEMPOTENCY_WINDOW_S,
    MAX_RETRY_S,
    StoredLetter,
    backoff_s,
    is_past_window,
    next_due,
    select,
)
from ingestd.store.envelopes import keep_keys

MAX_DUE_AHEAD_S = 2 * MAX_RETRY_S
"""A letter that is due later than this was written before the clock was set back."""

SinksOf = Callable[[list[bytes]], list[list[str]]]
"""The names of the sinks that each of these events goes to."""

OLD = "its request may have been taken, more than 24 hours ago: the API may not know its key any more"
BROKEN = (
    "its request may have been taken, and is not whole any more: another letter of it was changed or deleted"
)
TRIED_LONG = "it was sent again by itself for 24 hours"
DAMAGED = "the stored payload is damaged (checksum)"
DROPPED = "the transforms of its sink leave it out now: purge it, or change them"
SUPERSEDED = "accepted again meanwhile, and not sent a second time"
MATES_SUPERSEDED = "its request may have been taken, and is incomplete: an event of it was accepted again"


class Lease(msgspec.Struct, frozen=True):
    """``letters`` of one request, in order. ``aside``: how many were found that wait for a person now; with
    no letters but some of these there may be more that are due. ``cut``: with no letters, a request of which
    some are not here."""

    letters: list[StoredLetter]
    aside: int = 0
    cut: str = ""


def lease_due(
    connection: sqlite3.Connection,
    *,
    now: float,
    max_events: int,
    max_bytes: int,
    requested_only: bool = False,
    sink: str,
    sinks_of: SinksOf,
    searched: Container[str] | None = None,
) -> Lease:
    """Lease the letters of a sink's next request: one that is repeated whole, or loose letters together.

    Letters that may not be sent without a person are left out, by the clock of this moment: the process may
    have been away for days. An event that will be read again, because other sinks lack it, is given without
    its key: that is not to be known yet. ``searched``: requests whose letters are here, as far as there are
    any; None: all letters are.
    """
    _pull_in(connection, sink, now)
    first = _first_due(connection, sink, now, requested_only=requested_only)
    if first is None:
        return Lease([])
    if first.ambiguous:
        lease = _request_of(connection, first, now, searched)
    else:
        lease = _loose(connection, sink, now, max_events, max_bytes, requested_only=requested_only)
    connection.execute(
        "UPDATE single_letters SET state = 'leased', lease = ? WHERE id IN (SELECT value FROM json_each(?))",
        (now, _ids(lease.letters)),
    )
    return Lease(_without_early_keys(connection, lease.letters, sinks_of), lease.aside, lease.cut)


def _ids(letters: Sequence[StoredLetter]) -> str:
    return json.dumps([letter.id for letter in letters])


def _pull_in(connection: sqlite3.Connection, sink: str, now: float) -> None:
    """The clock was ahead when these were written: they are due now."""
    for ambiguous in (0, 1):
        connection.execute(
            "UPDATE single_letters INDEXED BY letters_by_due SET due = ?1, first_sent = min(first_sent, ?1),"
            " first_failed = min(first_failed, ?1)"
            " WHERE sink = ?2 AND ambiguous = ?3 AND state = 'waiting' AND due > ?4",
            (now, sink, ambiguous, now + MAX_DUE_AHEAD_S),
        )


def _due(
    connection: sqlite3.Connection, where: tuple[object, ...], *, requested_only: bool
) -> Iterator[StoredLetter]:
    """Letters of (sink, ambiguous) that are due by a time, the one that is due first at the front."""
    # by name: without statistics SQLite prefers either
    index = "letters_by_request" if requested_only else "letters_by_due"
    wanted = "AND requested <> 0" if requested_only else ""
    query = (
        f"SELECT {COLUMNS} FROM single_letters INDEXED BY {index} WHERE sink = ? AND ambiguous = ?"  # noqa: S608
        f" AND state = 'waiting' AND due <= ? {wanted} ORDER BY due, id"
    )
    return map(StoredLetter._make, connection.execute(query, where))


def _first_due(
    connection: sqlite3.Connection, sink: str, now: float, *, requested_only: bool
) -> StoredLetter | None:
    heads = [
        letter
        for ambiguous in (0, 1)
        for letter in [next(_due(connection, (sink, ambiguous, now), requested_only=requested_only), None)]
        if letter
    ]
    return min(heads, key=lambda letter: (letter.due, letter.id), default=None)


def _loose(
    connection: sqlite3.Connection,
    sink: str,
    now: float,
    max_events: int,
    max_bytes: int,
    *,
    requested_only: bool,
) -> Lease:
    """As many as a request has room for. At most ``max_events`` are looked at."""
    keep: list[StoredLetter] = []
    aside: dict[str, list[StoredLetter]] = {}
    size = 0
    for looked, letter in enumerate(_due(connection, (sink, 0, now), requested_only=requested_only), 1):
        if obstacle := _obstacle_of(letter, now):
            aside.setdefault(obstacle, []).append(letter)
        else:
            size += len(letter.payload) + 1
            if keep and size > max_bytes:
                break
            keep.append(letter)
        if looked >= max_events:
            break
    for obstacle, letters in aside.items():
        _put_aside(connection, letters, obstacle)
    return Lease(keep, sum(map(len, aside.values())))


def _obstacle_of(letter: StoredLetter, now: float) -> str:
    """Why a loose letter may not be sent, or empty."""
    if not letter.intact:
        return DAMAGED
    tried_since = min(letter.first_sent, letter.first_failed)
    if not letter.requested and is_past_window(tried_since, now):
        return TRIED_LONG
    return ""


def _request_of(
    connection: sqlite3.Connection, first: StoredLetter, now: float, searched: Container[str] | None
) -> Lease:
    """The letters that are sent with this one: all of its request, or those that a person wants sent although
    it is known that it cannot be repeated as it was."""
    whole = "batch = ? AND ambiguous AND state <> 'delivered' AND sink = ? ORDER BY batch_index"
    letters = select(connection, whole, (first.batch, first.sink), table="single_letters")
    may_be_elsewhere = searched is not None and first.batch not in searched and not first.obstacle
    if may_be_elsewhere and len(letters) < first.batch_size:
        return Lease([], cut=first.batch)
    damaged = [letter for letter in letters if not letter.intact]
    _put_aside(connection, damaged, DAMAGED)
    if not damaged and is_whole(letters) and not is_past_window(first.first_sent, now):
        return Lease(letters)
    others = [letter for letter in letters if letter.state == "waiting" and letter.intact]
    known = [letter for letter in others if letter.requested and letter.obstacle]
    if known:
        return Lease(known, len(damaged))
    _put_aside(connection, others, OLD if is_whole(letters) and not damaged else BROKEN)
    return Lease([], len(damaged) + len(others))


def is_whole(letters: Sequence[StoredLetter]) -> bool:
    """Whether these are all letters of one request, in its order, and none is on its way."""
    first = letters[0]
    return all(
        letter.batch == first.batch
        and letter.batch_index == index
        and letter.batch_size == len(letters)
        and letter.state == "waiting"
        for index, letter in enumerate(letters)
    )


def _put_aside(connection: sqlite3.Connection, letters: Sequence[StoredLetter], obstacle: str) -> None:
    if letters:
        connection.execute(
            "UPDATE single_letters SET due = NULL, requested = 0, obstacle = ?"
            " WHERE id IN (SELECT value FROM json_each(?))",
            (obstacle, _ids(letters)),
        )


def _without_early_keys(
    connection: sqlite3.Connection, letters: list[StoredLetter], sinks_of: SinksOf
) -> list[StoredLetter]:
    sources = {letter.source for letter in letters}
    rows = connection.execute("SELECT id, position FROM sources WHERE device >= 0")  # not the spool
    reached = {number: position for number, position in rows if number in sources}
    early = [one for one in letters if one.offset >= reached.get(one.source, one.offset + 1)]
    sinks = sinks_of([letter.payload for letter in early]) if early else []
    shared = {letter.id for letter, names in zip(early, sinks, strict=True) if len(names) > 1}
    return [letter._replace(digest=None) if letter.id in shared else letter for letter in letters]


def freeze_letters(connection: sqlite3.Connection, batch: Batch) -> None:
    """Letters are about to be sent: under which key, with whom, in which order."""
    connection.execute(
        "UPDATE single_letters SET batch = ?, batch_index = request.key, batch_size = ?, ambiguous = 1,"
        " first_sent = ?, obstacle = '' FROM json_each(?) AS request WHERE single_letters.id = request.value",
        (batch.id, len(batch.letters), batch.first_sent_wall, json.dumps(batch.letters)),
    )


def free_letters(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """An answer said that these were not taken: they may go out in another request."""
    connection.execute(
        "UPDATE single_letters SET ambiguous = 0 WHERE id IN (SELECT value FROM json_each(?))",
        (json.dumps(numbers),),
    )


def letters_delivered(connection: sqlite3.Connection, numbers: Sequence[int], now: float) -> None:
    connection.execute(
        "UPDATE single_letters SET state = 'delivered', settled_at = ?, due = NULL, lease = NULL,"
        " requested = 0, obstacle = '', attempts = attempts + 1 WHERE id IN (SELECT value FROM json_each(?))",
        (now, json.dumps(numbers)),
    )


def letters_superseded(connection: sqlite3.Connection, numbers: Sequence[int], now: float) -> None:
    """The events of these were accepted again: they are, or will be, delivered by that, or have a letter of
    their own then."""
    connection.execute(
        "UPDATE single_letters SET state = 'delivered', settled_at = ?, due = NULL, lease = NULL,"
        " requested = 0, obstacle = ? WHERE id IN (SELECT value FROM json_each(?))",
        (now, SUPERSEDED, json.dumps(numbers)),
    )


def lacked_elsewhere(connection: sqlite3.Connection, numbers: Sequence[int]) -> None:
    """These were delivered, and their keys are known by that: to the letters that other sinks have of the
    same events a known key says nothing any more."""
    events = connection.execute(
        "SELECT source, offset, reading, sink FROM single_letters WHERE key_released AND offset >= 0"
        " AND id IN (SELECT value FROM json_each(?))",
        (json.dumps(numbers),),
    ).fetchall()
    connection.executemany(
        "UPDATE single_letters SET key_released = 0 WHERE source = ? AND offset = ? AND likely(offset >= 0)"
        " AND reading = ? AND sink <> ? AND state <> 'delivered'",
        events,
    )
    if events and connection.execute("SELECT 1 FROM envelopes LIMIT 1").fetchone():
        keep_keys(connection, events)


def give_back(connection: sqlite3.Connection, numbers: Sequence[int], due: float) -> None:
    """They are not to be sent before that time."""
    connection.execute(
        "UPDATE single_letters SET state = 'waiting', lease = NULL, due = max(coalesce(due, 0), ?)"
        " WHERE id IN (SELECT value FROM json_each(?))",
        (due, json.dumps(numbers)),
    )


def leave_to_a_person(connection: sqlite3.Connection, numbers: Sequence[int], obstacle: str) -> None:
    connection.execute(
        "UPDATE single_letters SET state = 'waiting', lease = NULL, due = NULL, requested = 0, obstacle = ?"
        " WHERE id IN (SELECT value FROM json_each(?))",
        (obstacle, json.dumps(numbers)),
    )


def letters_failed(
    connection: sqlite3.Connection, letters: Sequence[tuple[int, DeadLetter]], now: float
) -> None:
    """Retries that failed: (number, how it stands now). They wait longer, or for a person. What a person
    asked for is tried until the API refuses it, for a day."""
    for number, letter in letters:
        detail = redact(letter.detail)
        row = connection.execute(
            "SELECT attempts, requested, first_failed FROM single_letters WHERE id = ?", (number,)
        ).fetchone()
        attempts, requested, first_failed = (row[0] + 1, *row[1:]) if row else (1, 0, now)
        due = next_due(letter.reason, attempts, letter.first_sent_wall, now)
        wanted = letter.reason in RETRYABLE and requested and now - requested <= IDEMPOTENCY_WINDOW_S
        if wanted:
            due = now + backoff_s(attempts)
        elif is_past_window(first_failed, now):
            due = None
        connection.execute(
            "UPDATE single_letters SET state = 'waiting', lease = NULL, attempts = ?, reason = ?, detail = ?,"
            " fingerprint = ?, batch = ?, batch_index = ?, batch_size = ?, ambiguous = ?, first_sent = ?,"
            " last_failed = ?, due = ?, requested = ?, obstacle = '' WHERE id = ?",
            (
                attempts,
                letter.reason.value,
                detail[:MAX_DETAIL],
                fingerprint(letter.reason, detail),
                letter.batch,
                letter.batch_index,
                letter.batch_size,
                letter.ambiguous,
                letter.first_sent_wall,
                now,
                due,
                requested if wanted else 0,
                number,
            ),
        )


def remember_sinks(
    connection: sqlite3.Connection, names: Sequence[str], is_known: Callable[[bytes], bool]
) -> None:
    """Whose letters this process leases. Of those of the process before some may be out now."""
    before = connection.execute("SELECT value FROM meta WHERE name = 'sinks'").fetchone()
    connection.execute("INSERT OR REPLACE INTO meta VALUES ('sinks', ?)", (json.dumps([*names]),))
    if before and (out := {*json.loads(before[0])}.difference(names)):
        absent_sinks.send_anyway(connection, out, is_known)


def release_leases(connection: sqlite3.Connection) -> None:
    """Give back what this process leased: it has the directory's lock, so no other process leases."""
    connection.execute("UPDATE single_letters SET state = 'waiting', lease = NULL WHERE state = 'leased'")
