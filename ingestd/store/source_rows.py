"""Where events came from: files, how far each was read, whether it still is the same. Table ``sources``."""

import sqlite3
from collections.abc import Callable
from typing import NamedTuple

from ingestd.core.chunk import MARK_BYTES, NO_MARK, Mark, digest
from ingestd.store.connection import StoreFailed

Fingerprints = Callable[[int, int], tuple[bytes, int]]
"""(start, length) -> digest and length of these bytes of a file; see ``sources.streams.fingerprint``."""

MOVE = (
    "UPDATE sources SET position = ?1, line = ?2, tail = ?3, tail_bytes = ?4, tail_end = ?5,"
    " updated = (julianday('now') - 2440587.5) * 86400.0 WHERE id = ?6 AND position <= ?1"
)
"""Only forward: what the spool's commits have noted of a stream goes before what is told here of it later."""

UNSURE = "unsure"
"""The row of ``meta`` that says so: after damage it is not known what was read, and sent. See
``doubts.py``."""

_AT_A_BROKER = -2
"""The device of a source that is no file: a stream or a topic. That of the spool is -1."""


_CHUNK_BYTES_AT_FIRST = 256 * 1024
"""In a state of before it was noted."""


class SourceState(NamedTuple):
    """``position``: every event before it is resolved. ``line``: the number of the next line. ``moved``:
    the wall time when it got there. ``mark``: of a broker's stream, what its position was
    noted with. ``rewritten``: so far a file was read that had this place on the disk,
    and the same name or the same beginning; what is there now is another. ``chunk_bytes``: by which a file is
    cut; a restart finds what was frozen by the chunks that it came from."""

    number: int
    position: int
    line: int
    moved: float = 0.0
    rewritten: int = 0
    mark: Mark = NO_MARK
    chunk_bytes: int = 0


class Beginning(NamedTuple):
    """Where the reading of a file begins whose first bytes were read elsewhere: as a position is noted."""

    position: int
    line: int
    mark: Mark


def find_source(
    connection: sqlite3.Connection,
    path: str,
    identity: tuple[int, int],
    *,
    fingerprints: Fingerprints,
    size: int | None,
    from_start: bool,
    chunk_bytes: int,
    now: float,
    begins: Beginning | None = None,
) -> SourceState:
    """See ``Journal.find_file``. ``chunk_bytes``: to cut it by, where no file was read yet; 0: it is not
    asked for."""
    _refuse_unsure(connection)
    rewritten = 0
    chunk_bytes = chunk_bytes and _chunk_bytes(connection, chunk_bytes)
    known = connection.execute(
        "SELECT id, CAST(head AS BLOB), head_bytes, position, line, path, updated, CAST(tail AS BLOB),"
        " tail_bytes, tail_end FROM sources WHERE device = ? AND inode = ? ORDER BY id DESC LIMIT 100",
        identity,
    ).fetchall()
    for number, head, head_bytes, position, line, known_as, moved, tail, tail_bytes, tail_end in known:
        same_head = head_bytes > 0 and fingerprints(0, head_bytes) == (head, head_bytes)
        same = same_head and (size is None or size >= position)
        if same and tail_bytes:
            same = fingerprints(tail_end - tail_bytes, tail_bytes) == (tail, tail_bytes)
        if same:
            if from_start:
                position, line = 0, 1
            connection.execute(
                "UPDATE sources SET position = ?, line = ?, path = ?, reading = reading + ? WHERE id = ?",
                (position, line, path, int(from_start), number),
            )
            return SourceState(number, position, line, moved, chunk_bytes=chunk_bytes)
        if same_head or known_as == path:
            rewritten = rewritten or position
    number = add_source(connection, path, identity, fingerprints(0, MARK_BYTES), now)
    if begins:
        position, line, (end, tail) = begins
        connection.execute(MOVE, (position, line, digest(tail), len(tail), end, number))
        return SourceState(number, position, line, chunk_bytes=chunk_bytes)
    return SourceState(number, 0, 1, rewritten=rewritten, chunk_bytes=chunk_bytes)


def _chunk_bytes(connection: sqlite3.Connection, wanted: int) -> int:
    """The same for all files, as long as there is this state."""
    row = connection.execute("SELECT value FROM meta WHERE name = 'chunk_bytes'").fetchone()
    if row:
        return int(row[0])
    files = connection.execute("SELECT 1 FROM sources WHERE device > 0 LIMIT 1").fetchone()
    chosen = _CHUNK_BYTES_AT_FIRST if files else wanted
    connection.execute("INSERT INTO meta VALUES ('chunk_bytes', ?)", (chosen,))
    return chosen


def add_source(
    connection: sqlite3.Connection, path: str, identity: tuple[int, int], head: tuple[bytes, int], now: float
) -> int:
    cursor = connection.execute(
        "INSERT INTO sources (path, device, inode, head, head_bytes, updated) VALUES (?, ?, ?, ?, ?, ?)",
        (path, *identity, *head, now),
    )
    return int(cursor.lastrowid or 0)


def _refuse_unsure(connection: sqlite3.Connection) -> None:
    """Raises StoreFailed, with the way out."""
    if connection.execute("SELECT 1 FROM meta WHERE name = ?", (UNSURE,)).fetchone():
        raise StoreFailed(
            "the state file was damaged, and what was read of files and brokers, and sent, is not known for"
            " sure: to read on could send events twice. Find out what the API has, then let it:"
            " `ingestd spool check --forget`"
        )


def find_spool(connection: sqlite3.Connection) -> int:
    """The spool's number among the sources. It is in ``meta`` as well, since batches and letters know the
    spool's events by it: a spool that had another after damage would send all of them again."""
    row = connection.execute("SELECT id FROM sources WHERE device = -1").fetchone()
    if row:
        number = int(row[0])
    elif known := connection.execute("SELECT value FROM meta WHERE name = 'spool'").fetchone():
        number = int(known[0])
        connection.execute(
            "INSERT INTO sources (id, path, device, inode, head, head_bytes, updated)"
            " VALUES (?, 'spool', -1, -1, x'', 0, 0)",
            (number,),
        )
    else:
        number = add_source(connection, "spool", (-1, -1), (b"", 0), 0.0)
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('spool', ?)", (number,))
    return number


def find_stream(
    connection: sqlite3.Connection, path: str, identity: bytes, now: float, *, as_new: bool
) -> SourceState:
    """See ``Journal.find_stream``."""
    _refuse_unsure(connection)
    known = connection.execute(
        "SELECT id, position, line, updated, tail_end FROM sources WHERE device = ? AND path = ? AND head = ?"
        " ORDER BY id DESC LIMIT 1",
        (_AT_A_BROKER, path, identity),
    ).fetchone()
    if known and not as_new:
        number, position, line, moved, tail_end = known
        return SourceState(number, position, line, moved, mark=(tail_end, b""))
    number = add_source(connection, path, (_AT_A_BROKER, 0), (identity, len(identity)), now)
    return SourceState(number, 0, 1)


def find_streams(connection: sqlite3.Connection, prefix: str) -> dict[int, tuple[str, int]]:
    """See ``Journal.streams``."""
    rows = connection.execute(
        "SELECT id, path, position FROM sources WHERE device = ?1 AND substr(path, 1, length(?2)) = ?2",
        (_AT_A_BROKER, prefix),
    )
    return {int(number): (str(path), int(position)) for number, path, position in rows}
