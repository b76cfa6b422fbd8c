"""Changes to dead letters from beside the process that has the state directory. For the ``dlq`` commands.

Short transactions on a connection of their own. That process's count of commits and its mark are not
touched, and what it has leased is on its way and stays as it is.
"""

import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from ingestd.core.errors import UserError
from ingestd.store import dead_letters
from ingestd.store.connection import FILE_NAME, VERSION, StoreFailed, explain
from ingestd.store.dead_letters import Filter

STEP_LETTERS = 20_000
"""In one transaction, about 0.2 s: a service that cannot write for 2 s tells its producers to come back."""

_BUSY_TIMEOUT_S = 10.0
_PAUSE_S = 0.25
"""Between transactions: who waits for SQLite's lock looks for it every 0.1 s."""


def request(directory: Path, numbers: Sequence[int], *, now: float) -> int:
    """Have these letters sent by the process that runs, and who goes along; gives how many are marked.

    Those that are on their way already are left out. Raises StoreFailed.
    """
    marked = 0
    with _connected(directory) as connection:
        for first in _steps(len(numbers)):
            where = Filter(ids=tuple(numbers[first : first + STEP_LETTERS]), state="all")
            with _transaction(connection):
                marked += dead_letters.make_due(connection, where, now)
    return marked


def request_edited(directory: Path, number: int, payload: bytes, *, now: float) -> None:
    """Store a corrected payload, and have it sent. Raises StoreFailed; UserError if it does not wait."""
    with _connected(directory) as connection, _transaction(connection):
        row = connection.execute("SELECT state FROM letters WHERE id = ?", (number,)).fetchone()
        if row is None or row[0] != "waiting":
            what = "is being sent at this moment" if row and row[0] == "leased" else "no longer waits"
            raise UserError(
                f"dead letter {number} {what}, and was not changed: see `ingestd dlq show {number}`"
            )
        dead_letters.edit_payload(connection, number, payload)
        dead_letters.make_due(connection, Filter(ids=(number,), state="all"), now)


def purge(directory: Path, where: Filter, *, now: float) -> int:
    """Delete letters that are not leased; gives how many. Raises StoreFailed."""
    deleted = 0
    with _connected(directory) as connection:
        while True:
            with _transaction(connection):
                count = dead_letters.purge(connection, where, now, most=STEP_LETTERS)
            deleted += count
            if count < STEP_LETTERS:
                return deleted
            time.sleep(_PAUSE_S)


def _steps(count: int) -> Iterator[int]:
    for first in range(0, count, STEP_LETTERS):
        if first:
            time.sleep(_PAUSE_S)
        yield first


@contextmanager
def _connected(directory: Path) -> Iterator[sqlite3.Connection]:
    path = directory / FILE_NAME
    try:
        uri = f"{path.absolute().as_uri()}?mode=rw"
        with closing(
            sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_TIMEOUT_S)
        ) as connection:
            connection.execute("PRAGMA synchronous=FULL")
            if (
                connection.execute("PRAGMA user_version").fetchone()[0] != VERSION
            ):  # no migration under its feet
                raise StoreFailed(
                    f"{path} is in use by an ingestd of another version: use that one's command"
                )
            yield connection
    except sqlite3.Error as error:
        raise explain(error, path) from None


@contextmanager
def _transaction(connection: sqlite3.Connection) -> Iterator[None]:
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
