"""Which sinks a person has set aside; read by the service, written by a command beside it. In ``meta``."""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from ingestd.store.connection import FILE_NAME, VERSION, StoreFailed, connect_without_trace, explain

_PREFIX, _HELD = "parked ", "held "
_PARKED = "SELECT substr(name, 8), value FROM meta WHERE name GLOB 'parked *'"
_OLDEST = "SELECT accepted_at FROM spool WHERE id >= ? ORDER BY id LIMIT 1"
BUSY_TIMEOUT_S = 10.0


class BacklogNotes(NamedTuple):
    """``parked``: sink -> since when (wall time). ``oldest``: sink -> when the oldest chunk was accepted that
    is not resolved there; None: there is none."""

    parked: dict[str, float]
    oldest: dict[str, float | None]


def read_parked(path: Path) -> dict[str, float]:
    """Beside the service: sink -> since when. Raises sqlite3.Error."""
    with closing(connect_without_trace(path)) as connection:
        return read_backlog(connection, {}).parked


def read_backlog(connection: sqlite3.Connection, positions: Mapping[str, int]) -> BacklogNotes:
    """``positions``: of the sinks whose oldest chunk is asked for. Raises sqlite3.Error."""
    oldest = {sink: connection.execute(_OLDEST, (at,)).fetchall() for sink, at in positions.items()}
    parked = {sink: float(at) for sink, at in connection.execute(_PARKED)}
    return BacklogNotes(parked, {sink: rows[0][0] if rows else None for sink, rows in oldest.items()})


def set_parked(
    directory: Path, sink: str, at: float | None, *, busy_timeout_s: float = BUSY_TIMEOUT_S
) -> bool:
    """Set a sink aside ``at`` a time, or None: no longer. False: it was so before. Raises StoreFailed."""
    with _changing(directory, busy_timeout_s) as connection:
        name = _PREFIX + sink
        if at is None:
            return connection.execute("DELETE FROM meta WHERE name = ?", (name,)).rowcount > 0
        return connection.execute("INSERT OR IGNORE INTO meta VALUES (?, ?)", (name, at)).rowcount > 0


def note_held(connection: sqlite3.Connection, sink: str, at: float | None) -> None:
    """The process that has the directory sends nothing to the sink since ``at``; None: it may again."""
    if at is None:
        connection.execute("DELETE FROM meta WHERE name = ?", (_HELD + sink,))
    else:
        connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (_HELD + sink, at))


def is_held(directory: Path, sink: str) -> bool:
    """Whether that was noted since a person has set the sink aside. Raises sqlite3.Error."""
    with closing(connect_without_trace(directory / FILE_NAME)) as connection:
        found = dict(
            connection.execute(
                "SELECT name, value FROM meta WHERE name IN (?, ?)", (_PREFIX + sink, _HELD + sink)
            )
        )
    parked_at, held_at = found.get(_PREFIX + sink), found.get(_HELD + sink)
    return parked_at is not None and held_at is not None and float(held_at) >= float(parked_at)


@contextmanager
def _changing(directory: Path, busy_timeout_s: float) -> Iterator[sqlite3.Connection]:
    path = directory / FILE_NAME
    uri = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with closing(
            sqlite3.connect(uri, uri=True, isolation_level=None, timeout=busy_timeout_s)
        ) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            if connection.execute("PRAGMA user_version").fetchone()[0] != VERSION:
                raise StoreFailed(
                    f"{path} is of another version: use the command of the ingestd that runs it"
                )
            yield connection
    except sqlite3.Error as error:
        raise explain(error, path) from None
