"""How far each sink has come in the spool, in ``meta``: from which chunk on nothing was sent to it.

That is needed on the day on which batches or cursors cannot be read (``doubts.py``): what is before that
place may have been sent."""

import sqlite3
from typing import TYPE_CHECKING, Protocol

from ingestd.store.connection import REACH

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ingestd.store.writer import Work


class Cursor(Protocol):
    """Of a sink. ``noted``: of no chunk from this number on was anything sent, as is on disk."""

    unread: int
    noted: int

    @property
    def position(self) -> int:
        """The number of the chunk before which every one is resolved at the sink."""
        ...


_AHEAD = 4
"""So many chunks further is noted than was reached: then few commits have to note it."""


def note_reach(sink: str, cursor: Cursor, number: int) -> "Work":
    """To be on disk before events of this chunk are sent; it counts as noted from here on."""
    cursor.noted = number + 1 + _AHEAD
    row = _row(sink, cursor)
    return lambda connection: connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", row)


def open_reach(connection: sqlite3.Connection, *, cursors: "Mapping[str, Cursor]", end: int) -> None:
    """Where the process before had come to. ``end``: the number of the next chunk: so far one may have come
    that did not note it."""
    before = read_reach(connection)
    for sink, cursor in cursors.items():
        cursor.noted = cursor.unread
        if sink in before:
            cursor.noted = max(cursor.unread, before[sink][1])
        elif not before:
            cursor.noted = end
        elif len(cursors) == 1:  # of a single sink the rows tell what waits, whatever its name was
            cursor.noted = max(high for _, high in before.values())
    connection.execute("DELETE FROM meta WHERE name GLOB ?", (f"{REACH}*",))
    rows = [_row(sink, cursor) for sink, cursor in cursors.items()]
    connection.executemany("INSERT INTO meta VALUES (?, ?)", rows)


def read_reach(connection: sqlite3.Connection) -> dict[str, tuple[int, int]]:
    """Sink -> (every chunk before this one was resolved there, nothing from this one on was sent)."""
    found = {}
    for name, value in connection.execute("SELECT name, value FROM meta WHERE name GLOB ?", (f"{REACH}*",)):
        low, _, high = str(value).partition(" ")
        if low.isdecimal() and high.isdecimal():
            found[str(name)[len(REACH) :]] = int(low), int(high)
    return found


def _row(sink: str, cursor: Cursor) -> tuple[str, str]:
    return REACH + sink, f"{cursor.position} {cursor.noted}"
