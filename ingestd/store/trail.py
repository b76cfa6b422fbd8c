"""What became of events, for a person who looks for one: rows of key digests, beside the window.

One row for all events of a commit or a batch, so an event costs its 16 bytes twice. Who looks for a key
searches them all.
"""

import sqlite3
from typing import NamedTuple

DIGEST_BYTES = 16
MAX_INFO = 300
Row = tuple[float, str, str, str, str, bytes]
"""As ``Step``, with the digests of its events."""
INSERT = "INSERT INTO trail (at, what, sink, batch, info, digests) VALUES (?, ?, ?, ?, ?, ?)"


class Step(NamedTuple):
    """What became of an event at a wall time. ``info``: whose it is, or after how many attempts, or why."""

    at: float
    what: str
    sink: str
    batch: str
    info: str


def trim(connection: sqlite3.Connection, not_before: float, max_bytes: int) -> None:
    """Forget what is too old or too much."""
    connection.execute("DELETE FROM trail WHERE at < ?", (not_before,))
    connection.execute(
        "DELETE FROM trail WHERE id <= (SELECT id FROM (SELECT id, sum(length(digests)) OVER"
        " (ORDER BY id DESC) AS total FROM trail) WHERE total > ? ORDER BY id DESC LIMIT 1)",
        (max_bytes,),
    )


def steps_of(connection: sqlite3.Connection, digest: bytes, *, limit: int = 1000) -> list[tuple[Step, int]]:
    """What became of the event with this key, oldest first, each with its place among the row's events."""
    found = []
    rows = connection.execute(
        "SELECT at, what, sink, batch, info, CAST(digests AS BLOB) FROM trail WHERE instr(digests, ?) > 0"
        " ORDER BY id DESC LIMIT ?",
        (digest, limit),
    )
    for *step, digests in rows:
        at = digests.find(digest)
        while at % DIGEST_BYTES and at >= 0:  # the end of one and the beginning of the next may look like it
            at = digests.find(digest, at + 1)
        if at >= 0:
            found.append((Step(*step), at // DIGEST_BYTES))
    return found[::-1]


def steps_of_batch(
    connection: sqlite3.Connection, batch: str, *, limit: int = 1000
) -> list[tuple[Step, int]]:
    """What became of the events of a request, oldest first, each with how many these are."""
    rows = connection.execute(
        "SELECT at, what, sink, batch, info, length(digests) FROM trail WHERE batch = ? ORDER BY id LIMIT ?",
        (batch, limit),
    )
    return [(Step(*step), size // DIGEST_BYTES) for *step, size in rows]


def owner_at(info: str, place: int) -> str:
    """Whose event it is at this place of a row of accepted ones; several names where that is not known."""
    for entry in info.split("\n"):
        name, sign, count = entry.rpartition("*")
        if not sign:
            return entry
        place -= int(count)
        if place < 0:
            return name
    return ""
