"""Events that an API has accepted and that it is asked about: the table ``confirmations``.

``event_recorder`` inserts rows where a batch is settled; ``delivery/status_poller`` reads and settles them.
"""

import sqlite3
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from ingestd.store.database import Database

MAX_ID_CHARS = 512
MAX_DUE_AHEAD_S = 3600.0
"""A row that is due later than this was written before the clock was set back."""


class Pending(NamedTuple):
    """An accepted event with all that makes a dead letter of it, if it comes to that.

    ``remote_id``: the API's own id of it. ``asked``: questions that were answered. ``intact``: the payload
    is what was stored. ``id`` and ``accepted_at`` (wall time) are given when it is stored.
    """

    sink: str
    remote_id: str
    batch: str
    source: int
    offset: int
    line: int
    digest: bytes | None
    attempts: int
    payload: bytes
    asked: int = 0
    id: int = 0
    accepted_at: float = 0.0
    intact: bool = True


class Due(NamedTuple):
    """What is needed to ask. Without the payload: a page of these stays small whatever was sent."""

    id: int
    remote_id: str
    accepted_at: float
    asked: int
    batch: str
    source: int
    offset: int


def insert_confirmations(
    connection: sqlite3.Connection, rows: Sequence[Pending], now: float, *, initial_delay_s: float = 1.0
) -> None:
    """In the transaction that settles their batch: they go from there to here, and are nowhere else."""
    connection.executemany(
        "INSERT INTO confirmations (sink, remote_id, accepted_at, due, batch, source, offset, line, digest,"
        " attempts, checksum, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [
            (
                row.sink,
                _storable(row.remote_id),
                now,
                now + initial_delay_s,
                row.batch,
                row.source,
                row.offset,
                row.line,
                row.digest,
                row.attempts,
                zlib.crc32(row.payload),
                row.payload,
            )
            for row in rows
        ],
    )


def due(connection: sqlite3.Connection, sink: str, now: float, limit: int) -> list[Due]:
    """The first ``limit`` that are to be asked about by ``now``."""
    rows = connection.execute(
        "SELECT id, CAST(remote_id AS BLOB), accepted_at, asked, batch, source, offset FROM confirmations"
        " WHERE sink = ? AND due <= ? ORDER BY due, id LIMIT ?",
        (sink, now, limit),
    )
    return [Due(row[0], row[1].decode("utf-8", "replace"), *row[2:]) for row in rows]


def next_due(connection: sqlite3.Connection, sink: str, after: float) -> float | None:
    """When the first is due that is not due by ``after``; None if there is none."""
    row = connection.execute(
        "SELECT min(due) FROM confirmations WHERE sink = ? AND due > ?", (sink, after)
    ).fetchone()
    return None if row[0] is None else float(row[0])


def postpone(connection: sqlite3.Connection, number: int, *, due: float, asked: int) -> None:
    connection.execute("UPDATE confirmations SET due = ?, asked = ? WHERE id = ?", (due, asked, number))


def settle(connection: sqlite3.Connection, ids: Sequence[int]) -> None:
    """They are resolved: confirmed, or a dead letter in the same transaction."""
    connection.executemany("DELETE FROM confirmations WHERE id = ?", [(number,) for number in ids])


def read(connection: sqlite3.Connection, number: int) -> Pending | None:
    """One row whole, for its dead letter."""
    row = connection.execute(
        # CAST: one flipped bit makes a BLOB a TEXT, and reading that fails with the payload in the words
        "SELECT sink, CAST(remote_id AS BLOB), batch, source, offset, line, CAST(digest AS BLOB), attempts,"
        " CAST(payload AS BLOB), asked, id, accepted_at, checksum FROM confirmations WHERE id = ?",
        (number,),
    ).fetchone()
    if row is None:
        return None
    sink, remote_id, *rest, checksum = row
    found = Pending(sink, remote_id.decode("utf-8", "replace"), *rest)
    return found._replace(intact=zlib.crc32(found.payload) == checksum)


def count(connection: sqlite3.Connection, sink: str) -> int:
    row: tuple[int] = connection.execute(
        "SELECT count(*) FROM confirmations WHERE sink = ?", (sink,)
    ).fetchone()
    return row[0]


class Confirmations:
    """The confirmations of one sink, through the database's writer."""

    def __init__(self, database: Database, sink: str) -> None:
        self._database = database
        self._sink = sink

    async def open(self, *, now: float) -> int:
        """How many an earlier process left. Raises StoreFailed."""

        def work(connection: sqlite3.Connection) -> int:
            connection.execute(
                "UPDATE confirmations SET due = ? WHERE sink = ? AND due > ?",
                (now, self._sink, now + MAX_DUE_AHEAD_S),
            )
            return count(connection, self._sink)

        return await self._database.run(work)

    async def places(self) -> list[tuple[str, int, int]]:
        """(batch, source, offset) of all of them."""
        select = "SELECT batch, source, offset FROM confirmations WHERE sink = ?"
        return await self._database.run(lambda c: c.execute(select, (self._sink,)).fetchall())

    async def due(self, *, now: float, limit: int) -> tuple[list[Due], float | None]:
        """(the first ``limit`` that are due, when the next is that is not yet). Commits what was noted."""
        return await self._database.run(
            lambda c: (due(c, self._sink, now, limit), next_due(c, self._sink, now))
        )

    async def read(self, number: int) -> Pending | None:
        return await self._database.run(lambda c: read(c, number))

    def postpone(self, number: int, *, due: float, asked: int) -> None:
        """Noted only: if it is lost, the event is asked about too early."""
        self._database.note(lambda c: postpone(c, number, due=due, asked=asked))

    def settle(self, ids: Sequence[int]) -> None:
        """Noted: on disk together with whatever else is noted before the next ``await``."""
        kept = list(ids)
        self._database.note(lambda c: settle(c, kept))

    async def commit(self) -> None:
        await self._database.commit()


def _storable(remote_id: str) -> str:
    """An id that cannot be stored as it is cannot be asked for either: empty. It must not fail the batch."""
    try:
        remote_id.encode()
    except UnicodeEncodeError:
        return ""
    return remote_id if len(remote_id) <= MAX_ID_CHARS else ""
