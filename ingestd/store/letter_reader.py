"""The dead-letter store, as it is read beside the writer. For the ``dlq`` commands."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ingestd.store.connection import FILE_NAME, VERSION, connect, explain, read_only_uri, text_of
from ingestd.store.dead_letters import COLUMNS, Filter, StoredLetter
from ingestd.store.lock import DirectoryLock
from ingestd.store.trail import owner_at, steps_of

_MOST_DETAILS = 20_000
"""Of a group: its values are counted among so many."""


class LetterReader:
    """Reads of the store beside its writer; sees what is committed."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self._named = 0, ""

    @staticmethod
    @contextmanager
    def open(directory: Path) -> "Iterator[LetterReader]":
        """Raises StoreFailed, also for what goes wrong in the block; UserError when a process uses a store of
        another format."""
        path = directory / FILE_NAME
        try:
            _migrate(directory)
            with closing(sqlite3.connect(read_only_uri(path), uri=True)) as connection:
                connection.text_factory = text_of
                yield LetterReader(connection)
        except sqlite3.Error as error:
            raise explain(error, path) from None

    def letters(
        self, where: Filter, now: float, *, limit: int = -1, after: int = 0
    ) -> Iterator[StoredLetter]:
        """Newest last. ``after``: those with greater numbers."""
        condition, values = where.sql(now)
        query = f"SELECT {COLUMNS} FROM letters WHERE id > ? AND {condition} ORDER BY id LIMIT ?"  # noqa: S608
        for row in self._connection.execute(query, [after, *values, limit]):
            yield StoredLetter(*row)

    def count(self, where: Filter, now: float) -> int:
        condition, values = where.sql(now)
        query = f"SELECT count(*) FROM letters WHERE {condition}"  # noqa: S608
        (count,) = self._connection.execute(query, values).fetchone()
        return int(count)

    def groups(self, where: Filter, now: float) -> list[tuple[str, int, float, float, int, str]]:
        """(fingerprint, count, first failure, last failure, an id, sink), the most frequent first."""
        condition, values = where.sql(now)
        query = (
            "SELECT fingerprint, count(*), min(first_failed), max(last_failed), min(id), sink FROM letters"  # noqa: S608
            f" WHERE {condition} GROUP BY fingerprint, sink ORDER BY 2 DESC"
        )
        return self._connection.execute(query, values).fetchall()

    def details(self, where: Filter, now: float, fingerprint: str, sink: str) -> list[tuple[str, int]]:
        """What is said in one group, and how often: the most frequent first, of the latest letters of it."""
        condition, values = where.sql(now)
        query = (
            "SELECT detail, count(*) FROM (SELECT detail FROM letters"  # noqa: S608
            f" WHERE {condition} AND fingerprint = ? AND sink = ? ORDER BY id DESC LIMIT {_MOST_DETAILS})"
            " GROUP BY detail ORDER BY 2 DESC"
        )
        return self._connection.execute(query, [*values, fingerprint, sink]).fetchall()

    def source(self, letter: StoredLetter) -> str:
        """Its name; empty: of requests of producers, or not known. Letters of one source come in a row."""
        if letter.source != self._named[0]:
            self._named = letter.source, source_name(self._connection, letter.source)
        return self._named[1]

    def producer(self, letter: StoredLetter) -> str:
        """Who sent the event; empty: the trail does not have it, or not any more."""
        steps = steps_of(self._connection, letter.digest) if letter.digest else []
        found = [owner_at(step.info, place) for step, place in steps if step.what == "accepted"]
        return found[-1] if found else ""

    def setting(self, name: str) -> str | None:
        row = self._connection.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        return None if row is None else str(row[0])


def source_name(connection: sqlite3.Connection, number: int) -> str:
    """Empty where there is none of this number."""
    row = connection.execute("SELECT path FROM sources WHERE id = ?", (number,)).fetchone()
    return "" if row is None else str(row[0])


def _migrate(directory: Path) -> None:
    """A file of an older format is migrated, if no process uses it. Raises UserError."""
    path = directory / FILE_NAME
    with closing(sqlite3.connect(read_only_uri(path), uri=True)) as connection:
        if connection.execute("PRAGMA user_version").fetchone()[0] == VERSION:
            return
    lock = DirectoryLock(directory)
    try:
        connect(path).close()
    finally:
        lock.release()
