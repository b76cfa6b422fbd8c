"""The spool as a person looks at it: beside a running service, or after it. For the ``spool`` commands."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from ingestd.store import frames, spool_rows
from ingestd.store.connection import (
    FILE_NAME,
    MARK_NAME,
    StoreFailed,
    connect,
    connect_without_trace,
    explain,
    refuse_other,
    unpack_mark,
)
from ingestd.store.source_rows import UNSURE
from ingestd.store.spool_rows import SpoolDamage, SpoolRow, SpoolTotals

_ALL = (0, 2**62, -1)
_SINKS = (
    "SELECT sink, (SELECT count(*) FROM spool WHERE id >= position),"
    " (SELECT accepted_at FROM spool WHERE id >= position ORDER BY id LIMIT 1)"
    " FROM cursors WHERE position > 0 ORDER BY sink"
)


class SpoolContents(NamedTuple):
    """``oldest_at``: wall time of the oldest chunk. ``file_bytes``: of the state file and its log. ``sinks``:
    where there are several; what has been read already and is on its way counts as waiting."""

    totals: SpoolTotals
    oldest_at: float | None
    file_bytes: int
    damage: list[SpoolDamage]
    sinks: list["SinkContents"]


class SinkContents(NamedTuple):
    """How far a sink has come: ``chunks`` wait for it, the oldest since ``oldest_at`` (wall time)."""

    name: str
    chunks: int
    oldest_at: float | None


class SpoolFindings(NamedTuple):
    """``bad``: numbers of chunks whose checksum is wrong. ``problems``: in words."""

    checked: int
    bad: list[int]
    problems: list[str]


def waiting_by_sink(path: Path) -> dict[str, int]:
    """How many chunks wait for each sink, by the state file, which must be of this format. Leaves no file
    behind. Raises StoreFailed."""
    try:
        with closing(connect_without_trace(path)) as connection:
            return {sink: chunks for sink, chunks, _ in connection.execute(_SINKS) if chunks}
    except sqlite3.Error as error:
        raise explain(error, path) from None


class SpoolInspection:
    """Reads only. Every method raises StoreFailed for a file that cannot be read."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / FILE_NAME

    def stock(self) -> SpoolContents:
        with self._connect() as connection:
            connection.execute("BEGIN")  # one view, as in ``check``
            _, found = spool_rows.count(connection)
            oldest = connection.execute("SELECT accepted_at FROM spool ORDER BY id LIMIT 1").fetchone()
            damage = spool_rows.read_damage(connection)
            sinks = [SinkContents(*row) for row in connection.execute(_SINKS)]
        size = sum(path.stat().st_size for path in self._path.parent.glob(f"{FILE_NAME}*"))
        return SpoolContents(found, oldest[0] if oldest else None, size, damage, sinks)

    def check(self) -> SpoolFindings:
        """Every chunk against its checksum, the totals against the rows, the mark against both."""
        problems: list[str] = []
        bad: list[int] = []
        checked = 0
        marked, high_water = (
            self._mark()
        )  # before: what is committed during a look is in the mark and not in it
        with self._connect() as connection:
            connection.execute("BEGIN")  # one view of a spool that may be in use
            expected, found = spool_rows.count(connection)
            commits = connection.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()[0]
            for row in connection.execute(spool_rows.SELECT, _ALL):
                checked += 1
                if spool_rows.unpack(SpoolRow._make(row)) is None:
                    bad.append(row[0])
            damage = spool_rows.read_damage(connection)
        if expected[:3] != found[:3]:
            problems.append(f"{expected.chunks} chunks should be there, {found.chunks} are")
        if marked > commits + 1 or high_water >= max(expected.next, found.next):
            problems.append(f"the last {marked - commits} commits are missing (damaged write-ahead log?)")
        problems += [f"chunk {number}: checksum does not match" for number in bad]
        problems += [f"found before: chunks {d.first} to {d.last}: {d.what}" for d in damage]
        return SpoolFindings(checked, bad, problems)

    def events(self, *, damaged: bool) -> Iterator[bytes]:
        """The events as they were accepted, in order; or what is left of damaged chunks."""
        with self._connect() as connection:
            if damaged:
                query = "SELECT payload FROM spool_damage WHERE payload IS NOT NULL ORDER BY id"
                for (payload,) in connection.execute(query):
                    yield frames.left_of(payload)
                return
            for row in connection.execute(spool_rows.SELECT, _ALL):
                unpacked = spool_rows.unpack(SpoolRow._make(row))
                if unpacked:
                    yield from unpacked[0]

    def forget_damage(self) -> int:
        """Clear the list of what was found. Gives how long it was."""
        with self._connect():  # else a file of another format would be migrated under who uses it
            pass
        try:
            with closing(connect(self._path)) as connection:
                connection.execute("DELETE FROM meta WHERE name = ?", (UNSURE,))
                return connection.execute("DELETE FROM spool_damage").rowcount
        except sqlite3.Error as error:
            raise explain(error, self._path) from None

    def _mark(self) -> tuple[int, int]:
        try:
            return unpack_mark(self._path.with_name(MARK_NAME).read_bytes())
        except OSError:
            return 0, 0

    def _connect(self) -> "_Reading":
        return _Reading(self._path)


class _Reading:
    """A connection for a while; SQLite's errors come out as StoreFailed."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> sqlite3.Connection:
        try:
            self._connection = connect(self._path, read_only=True)
            version = self._connection.execute("PRAGMA user_version").fetchone()[0]
        except sqlite3.Error as error:
            raise explain(error, self._path) from None
        try:
            refuse_other(version, self._path)
        except StoreFailed:
            self._connection.close()
            raise
        return self._connection

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: object) -> None:
        self._connection.close()
        if isinstance(error, sqlite3.Error):
            raise explain(error, self._path) from None
