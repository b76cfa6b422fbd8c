"""The files of an open database, taken away or exchanged while it is in use: what is in them is saved.

A commit into a file that no path leads to succeeds, and ends with the process. So the files are looked at
after every commit and twice a second, before anybody is told that something is safe.
"""

import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from ingestd.store.connection import FILE_NAME, StoreFailed

REPLACED_NAME = f"{FILE_NAME}.replaced"
_SIDES = ("-wal", "-shm")
"""The log, and the index of it that several programs share."""


class InPlace:
    """Of one open connection, which has read or written something already."""

    def __init__(self, path: Path) -> None:
        """Raises OSError."""
        self._path = path
        self._sides = [str(path) + side for side in _SIDES]
        self._ids = [_id_of(name) for name in (str(path), *self._sides)]
        self._parent = str(path.parent)
        self._state: tuple[int, int, int] | None = None
        self._directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._directory)

    def displaced(self, *, quick: bool = False) -> str:
        """The first file that is not the one that is in use, by its whole name; "": all are. ``quick``: look
        only if the directory has changed. Its time is one of a few milliseconds, so this may miss a deed that
        comes at once after another; each look costs the thread its turn with the interpreter."""
        try:
            status = os.stat(self._parent)
            state = status.st_dev, status.st_ino, status.st_mtime_ns
        except OSError:
            return str(self._path)
        if quick and state == self._state:
            return ""
        displaced = self._look()
        self._state = None if displaced else state
        return displaced

    def _look(self) -> str:
        for name, known in zip((str(self._path), *self._sides), self._ids, strict=True):
            try:
                if _id_of(name) != known:
                    return name
            except OSError:
                return name
        return ""

    def save(self, connection: sqlite3.Connection) -> StoreFailed:
        """The database itself is displaced: what it holds is written back; what took its place is kept.
        Gives the error that the process ends with."""
        path = self._path
        with suppress(OSError):
            if os.stat(FILE_NAME, dir_fd=self._directory).st_ino == self._ids[0][1]:
                return StoreFailed(
                    f"{path.parent} was moved away while it was in use, with all that it holds:"
                    " move it back, and start again"
                )
        replaced = path.exists()
        deed = "was replaced while it was in use" if replaced else "was removed while it was in use"
        with suppress(sqlite3.Error):
            bring_home(connection)  # else the log at the path would be taken for that of another file
        try:
            self._write_back(connection)
        except (sqlite3.Error, OSError) as error:
            return StoreFailed(f"{path} {deed}, and its content cannot be saved: {error}")
        aside = f"; what took its place is {path.with_name(REPLACED_NAME)} now" if replaced else ""
        return StoreFailed(f"{path} {deed}, and is written back: start again{aside}")

    def _write_back(self, connection: sqlite3.Connection) -> None:
        path = self._path
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = path.with_name(f".{FILE_NAME}.{os.getpid()}")
        os.close(os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600))
        with closing(sqlite3.connect(temporary)) as copy:
            connection.backup(copy)
        _sync(temporary)
        for side in self._sides:  # of the one before; what they held is in the copy
            Path(side).unlink(missing_ok=True)
        if path.exists():
            path.replace(path.with_name(REPLACED_NAME))
        temporary.replace(path)
        _sync(path.parent)


def bring_home(connection: sqlite3.Connection) -> None:
    """All that the log holds, into the file itself. Raises sqlite3.Error when somebody reads for too long."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("another program reads it")


def _id_of(name: str) -> tuple[int, int]:
    status = os.stat(name)
    return status.st_dev, status.st_ino


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
