"""The writing connection and the mark beside it; lives on the database's thread."""

import os
import sqlite3
import struct
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from ingestd.store.connection import StoreFailed, connect

Work = Callable[[sqlite3.Connection], Any]

MARK_NAME = "state.mark"
_MARK = struct.Struct("<QQ")


class Writer:
    """Whole units of work as transactions. ``warning``: what was found to be missing at the start.

    The mark file holds, outside of the database, the number of commits made and ``high_water``, which
    units may raise. One flipped bit in a WAL makes SQLite drop the committed tail without an error:
    only a number kept outside can tell.
    """

    def __init__(self, path: Path, *, busy_timeout_s: float) -> None:
        """Opens, checks and migrates. Raises StoreFailed, sqlite3.Error, OSError."""
        self.path = path
        self.warning = ""
        self._connection = connect(path, busy_timeout_s=busy_timeout_s)
        try:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._mark = os.open(path.with_name(MARK_NAME), flags, 0o600)
            self._number, self.high_water = self._compare_mark()
            self._inode = os.stat(path).st_ino
        except BaseException:
            self._connection.close()
            raise

    def close(self) -> None:
        os.close(self._mark)
        self._connection.close()

    def transact(self, work: Sequence[Work]) -> None:
        """All of ``work`` in one transaction, on disk; nothing of it when this raises."""
        high_water, number = self.high_water, self._number + 1
        connection = self._connection
        try:
            connection.execute("BEGIN IMMEDIATE")
            for unit in work:
                unit(connection)
            connection.execute("UPDATE meta SET value = ? WHERE name = 'commits'", (number,))
            connection.execute("COMMIT")
        except BaseException:
            self.high_water = high_water
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        self._number = number
        os.pwrite(self._mark, pack_mark(number, self.high_water), 0)
        if not self._is_in_place():  # commits into an unlinked file succeed
            raise StoreFailed(
                f"{self.path} was replaced or removed while it was in use: restore it, and start again"
            )

    def _is_in_place(self) -> bool:
        try:
            return os.stat(self.path).st_ino == self._inode
        except FileNotFoundError:
            return False

    def _compare_mark(self) -> tuple[int, int]:
        """The numbers to go on with; says so if the file holds fewer commits than were made."""
        row = self._connection.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()
        number: int = row[0]
        marked, high_water = unpack_mark(os.pread(self._mark, 64, 0))
        if marked > number:
            self.warning = (
                f"{self.path} has lost its last {marked - number} commits (damaged write-ahead log?): "
                "files are read again from the older position; dead letters and keys of that time are gone"
            )
        return max(number, marked), high_water


def pack_mark(commits: int, high_water: int) -> bytes:
    packed = _MARK.pack(commits, high_water)
    return packed + struct.pack("<I", zlib.crc32(packed))


def unpack_mark(data: bytes) -> tuple[int, int]:
    """(commits, high water); zeros for a mark that is none, or torn."""
    if len(data) != _MARK.size + 4 or struct.unpack("<I", data[-4:])[0] != zlib.crc32(data[:-4]):
        return 0, 0
    commits, high_water = _MARK.unpack(data[:-4])
    return commits, high_water
