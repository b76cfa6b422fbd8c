"""What a person does with dead letters: wants them sent, corrects, deletes them. In a writer's transactions.

Beside a process that has the state directory these run in short transactions of another one: see
``letter_changes.py``.
"""

import json
import sqlite3
import zlib
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ingestd.store.dead_letters import IDEMPOTENCY_WINDOW_S
from ingestd.store.letter_leases import BROKEN, OLD


class MarkedLetters(NamedTuple):
    """``marked``: letters that are to be sent, each counted once however often this is asked with the same
    time; ``chosen``: those among the ones that were asked for; ``risky``: of the marked ones, those of
    requests that may have been taken and cannot be repeated as they were. ``rekeyed``: of those that were
    not asked for, the ones of requests that are not whole any more, which go out under new keys."""

    marked: int
    chosen: int
    risky: int
    rekeyed: int = 0


def make_due(connection: sqlite3.Connection, numbers: Sequence[int], now: float) -> MarkedLetters:
    """A person wants these sent now, whatever their reason.

    A request that may have been taken is repeated whole or not at all: its other letters go along. Where that
    cannot be, the wish counts as one that knows it. What is leased is on its way already.
    """
    ids = json.dumps([*numbers])
    batches = requests_of(connection, ids)
    unrepeatable = _unrepeatable(connection, batches, now)
    risky = _mark_risky(connection, unrepeatable, now)
    broken = json.dumps([batch for batch, obstacle in unrepeatable.items() if obstacle == BROKEN])
    mark = "UPDATE letters SET due = ?1, requested = ?1 WHERE state = 'waiting' AND requested <> ?1 AND"
    by_id = "id IN (SELECT value FROM json_each(?2))"
    by_request = "unanswered AND batch IN (SELECT value FROM json_each(?2))"
    rekeyed = connection.execute(f"{mark} {by_request}", (now, broken)).rowcount
    marked = connection.execute(f"{mark} {by_id}", (now, ids)).rowcount + rekeyed
    marked += connection.execute(f"{mark} {by_request}", (now, json.dumps(batches))).rowcount
    chosen, among_broken = connection.execute(
        "SELECT count(*), coalesce(sum(unanswered AND batch IN (SELECT value FROM json_each(?3))), 0)"  # noqa: S608
        f" FROM letters WHERE state = 'waiting' AND requested = ?1 AND {by_id}",
        (now, ids, broken),
    ).fetchone()
    return MarkedLetters(marked, chosen, risky, rekeyed - among_broken)


def requests_of(connection: sqlite3.Connection, ids: str) -> list[str]:
    """The requests that may have been taken among these letters'."""
    rows = connection.execute(
        "SELECT DISTINCT batch FROM letters WHERE unanswered AND state = 'waiting'"
        " AND id IN (SELECT value FROM json_each(?))",
        (ids,),
    )
    return [row[0] for row in rows]


def broken_among(connection: sqlite3.Connection, batches: Sequence[str], now: float) -> list[str]:
    """Those of these requests that are not whole any more: their letters go out under new keys."""
    return [batch for batch, why in _unrepeatable(connection, batches, now).items() if why == BROKEN]


def _unrepeatable(connection: sqlite3.Connection, batches: Sequence[str], now: float) -> dict[str, str]:
    """Those of these requests that cannot be repeated as they were, and why."""
    rows = connection.execute(
        "SELECT batch, count(*) = max(batch_size) FROM letters"
        " WHERE unanswered AND state <> 'delivered' AND batch IN (SELECT value FROM json_each(?))"
        " GROUP BY batch HAVING count(*) <> max(batch_size) OR max(first_sent) < ?",
        (json.dumps([*batches]), now - IDEMPOTENCY_WINDOW_S),
    )
    return {batch: OLD if whole else BROKEN for batch, whole in rows}


def _mark_risky(connection: sqlite3.Connection, obstacles: Mapping[str, str], now: float) -> int:
    """The wish of this time knows it of these requests. Gives how many letters it does not hold for yet."""
    count = 0
    for batch, obstacle in obstacles.items():
        count += connection.execute(
            "UPDATE letters SET obstacle = ? WHERE unanswered AND batch = ? AND state = 'waiting'"
            " AND requested <> ?",
            (obstacle, batch, now),
        ).rowcount
    return count


def count_requested(connection: sqlite3.Connection) -> int:
    count: int = connection.execute(
        "SELECT count(*) FROM letters WHERE state = 'waiting' AND requested <> 0"
    ).fetchone()[0]
    return count


def edit_payload(connection: sqlite3.Connection, number: int, payload: bytes) -> int:
    """Replace a letter's payload: it leaves its request, whose bytes must not change under their key. Gives
    how many others of that request wait for a person now."""
    row = connection.execute("SELECT batch, unanswered FROM letters WHERE id = ?", (number,)).fetchone()
    connection.execute(
        "UPDATE letters SET payload = ?, checksum = ?, original = coalesce(original, checksum), edited = 1,"
        " batch = '', unanswered = 0, digest = NULL, freed = 0, obstacle = '' WHERE id = ?",
        (payload, zlib.crc32(payload), number),
    )
    return leave_mates(connection, [row[0]]) if row and row[1] else 0


def leave_mates(connection: sqlite3.Connection, batches: Sequence[str]) -> int:
    """What is left of requests that may have been taken waits for a person; gives how many letters."""
    return connection.execute(
        "UPDATE letters SET due = NULL, requested = 0, obstacle = ? WHERE unanswered AND state = 'waiting'"
        " AND batch IN (SELECT value FROM json_each(?))",
        (BROKEN, json.dumps(batches)),
    ).rowcount


def purge(connection: sqlite3.Connection, numbers: Sequence[int]) -> tuple[int, list[str]]:
    """Delete letters, but none that is leased. Gives how many, and the requests that are not whole now."""
    ids = json.dumps([*numbers])
    batches = requests_of(connection, ids)
    deleted = connection.execute(
        "DELETE FROM letters WHERE state <> 'leased' AND id IN (SELECT value FROM json_each(?))", (ids,)
    ).rowcount
    if batches:
        leave_mates(connection, batches)
    return deleted, batches
