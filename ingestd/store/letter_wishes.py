"""What a person does with dead letters: wants them sent, corrects, deletes them. In a writer's transactions.

Beside a process that has the state directory these run in short transactions of another one: see
``letter_changes.py``.
"""

import json
import sqlite3
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from ingestd.store.dead_letters import IDEMPOTENCY_WINDOW_S
from ingestd.store.letter_leases import BROKEN, OLD


class Wished(NamedTuple):
    """``marked``: letters that are to be sent, each counted once however often this is asked with the same
    time; ``chosen``: those among the ones that were asked for; ``risky``: of the marked ones, those of
    requests that may have been taken and cannot be repeated as they were."""

    marked: int
    chosen: int
    risky: int


def make_due(connection: sqlite3.Connection, numbers: Sequence[int], now: float) -> Wished:
    """A person wants these sent now, whatever their reason.

    A request that may have been taken is repeated whole or not at all: its other letters go along. Where that
    cannot be, the wish counts as one that knows it. What is leased is on its way already.
    """
    ids = json.dumps([*numbers])
    batches = json.dumps(_requests_of(connection, ids))
    risky = _mark_risky(connection, batches, now)
    mark = "UPDATE letters SET due = ?1, requested = ?1 WHERE state = 'waiting' AND requested <> ?1 AND"
    by_id = "id IN (SELECT value FROM json_each(?2))"
    by_request = "unanswered AND batch IN (SELECT value FROM json_each(?2))"
    marked = connection.execute(f"{mark} {by_id}", (now, ids)).rowcount
    marked += connection.execute(f"{mark} {by_request}", (now, batches)).rowcount
    chosen = f"SELECT count(*) FROM letters WHERE state = 'waiting' AND requested = ?1 AND {by_id}"  # noqa: S608
    return Wished(marked, connection.execute(chosen, (now, ids)).fetchone()[0], risky)


def _requests_of(connection: sqlite3.Connection, ids: str) -> list[str]:
    """The requests that may have been taken among these letters'."""
    rows = connection.execute(
        "SELECT DISTINCT batch FROM letters WHERE unanswered AND state = 'waiting'"
        " AND id IN (SELECT value FROM json_each(?))",
        (ids,),
    )
    return [row[0] for row in rows]


def _mark_risky(connection: sqlite3.Connection, batches: str, now: float) -> int:
    """Those of these requests that cannot be repeated as they were: the wish of this time knows it. Gives how
    many letters it does not hold for yet."""
    rows = connection.execute(
        "SELECT batch, count(*) = max(batch_size) FROM letters"
        " WHERE unanswered AND state <> 'delivered' AND batch IN (SELECT value FROM json_each(?))"
        " GROUP BY batch HAVING count(*) <> max(batch_size) OR max(first_sent) < ?",
        (batches, now - IDEMPOTENCY_WINDOW_S),
    ).fetchall()
    count = 0
    for batch, whole in rows:
        count += connection.execute(
            "UPDATE letters SET obstacle = ? WHERE unanswered AND batch = ? AND state = 'waiting'"
            " AND requested <> ?",
            (OLD if whole else BROKEN, batch, now),
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
    batches = _requests_of(connection, ids)
    deleted = connection.execute(
        "DELETE FROM letters WHERE state <> 'leased' AND id IN (SELECT value FROM json_each(?))", (ids,)
    ).rowcount
    if batches:
        leave_mates(connection, batches)
    return deleted, batches
