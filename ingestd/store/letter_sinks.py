"""Dead letters of events that were rejected before routing become their sinks'. For ``letter_queue``."""

import sqlite3
from collections.abc import Callable

from ingestd.core.letter import MAX_DETAIL
from ingestd.store.dead_letters import select

_NOWHERE = "it matches the pattern of no sink"


def assign(
    connection: sqlite3.Connection, sinks_of: Callable[[list[bytes]], list[list[str]]], *, now: float
) -> int:
    """Due letters that were rejected before it was known where to: from here on there is one for each sink.

    ``sinks_of``: the names of the sinks that each of these events goes to. What goes nowhere waits on.
    Gives how many letters were looked at, at most 1000.
    """
    letters = select(
        connection,
        "sink = '' AND unanswered = 0 AND state = 'waiting' AND due <= ? ORDER BY due, id LIMIT 1000",
        (now,),
    )
    for letter, sinks in zip(letters, sinks_of([letter.payload for letter in letters]), strict=True):
        if not sinks:
            detail = f"{_NOWHERE}; {letter.detail.removeprefix(f'{_NOWHERE}; ')}"[:MAX_DETAIL]
            connection.execute(
                "UPDATE letters SET due = NULL, requested = 0, detail = ? WHERE id = ?", (detail, letter.id)
            )
        for sink in sinks[1:]:
            if not connection.execute(f"{_COPY} offset{_OF_SINK}", (sink, letter.id)).rowcount:
                connection.execute(f"{_COPY} -1{_OF_SINK}", (sink, letter.id))
        if sinks:
            _give(connection, letter.id, sinks[0])
    return len(letters)


def _give(connection: sqlite3.Connection, number: int, sink: str) -> None:
    """The sink may have a letter of that place, if what stood there was valid once: then there are two."""
    for change in ("sink = ?", "offset = -1, sink = ?"):
        if connection.execute(f"UPDATE OR IGNORE letters SET {change} WHERE id = ?", (sink, number)).rowcount:  # noqa: S608
            return


_COPIED = (
    "state, reason, detail, fingerprint, payload, checksum, source, line, digest, batch, batch_index,"
    " batch_size, unanswered, attempts, first_sent, first_failed, last_failed, due, edited, requested,"
    " reading, original"
)
_COPY = f"INSERT OR IGNORE INTO letters ({_COPIED}, sink, offset) SELECT {_COPIED}, ?,"
_OF_SINK = " FROM letters WHERE id = ?"
