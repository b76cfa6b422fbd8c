"""A power cut: what the store writes is recorded, and the disk as it may look after a cut is made from it.

The recorder is an APSW VFS. The standard library's SQLite cannot have it (APSW brings a copy of its own),
so the store's own code, units and PRAGMAs run over an APSW connection that looks like ``sqlite3``'s.
Model of the disk: what was synced is there; of what was not, any subset is, torn at sectors.
"""

import os
import random
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import apsw
import pytest

from ingestd.simulation.disk import after_cut, change
from ingestd.simulation.sqlite_vfs import Operation
from ingestd.store import connection as store_connection
from ingestd.store.connection import MARK_NAME
from ingestd.store.writer import WriterThread


class Disk:
    """The files at one moment: the log up to there, and what of it a power cut would leave."""

    def __init__(self) -> None:
        self._synced: dict[str, bytearray] = {}
        self._pending: dict[str, list[Operation]] = {}

    def apply(self, operation: Operation) -> None:
        if operation.kind == "sync":
            for pending in self._pending.pop(operation.file.name, ()):
                change(self._synced, operation.file.name, pending)
        elif operation.kind == "sync_names":
            self._delete_for_good()
        else:
            self._pending.setdefault(operation.file.name, []).append(operation)

    def cut(self, chance: random.Random) -> dict[str, bytearray]:
        """File name -> content."""
        return after_cut(self._synced, self._pending, chance)

    def _delete_for_good(self) -> None:
        for file, operations in self._pending.items():
            kinds = [operation.kind for operation in operations]
            if "delete" in kinds:
                self._synced.pop(file, None)
                last = len(kinds) - kinds[::-1].index("delete")
                del operations[:last]


# --- the recorder ---


class _File(apsw.VFSFile):
    def __init__(self, log: list[Operation], name: Any, flags: list[int]) -> None:
        super().__init__("", name, flags)
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._log, self._file = log, Path(path or "temporary")
        journals = apsw.SQLITE_OPEN_MAIN_JOURNAL | apsw.SQLITE_OPEN_WAL
        self._sync_names = bool(flags[0] & journals and flags[0] & apsw.SQLITE_OPEN_CREATE)

    def xWrite(self, data: Any, offset: int) -> None:
        self._log.append(Operation(self._file, "write", offset, bytes(data)))
        super().xWrite(data, offset)

    def xTruncate(self, newsize: int) -> None:
        self._log.append(Operation(self._file, "truncate", newsize))
        super().xTruncate(newsize)

    def xSync(self, flags: int) -> None:
        super().xSync(flags)
        self._log.append(Operation(self._file, "sync"))
        if self._sync_names:  # the directory too: SQLite's os_unix.c, unixSync, for a new log or journal
            self._log.append(Operation(Path(), "sync_names"))
            self._sync_names = False


class _Vfs(apsw.VFS):
    def __init__(self, log: list[Operation], name: str) -> None:
        super().__init__(name, "")
        self._log = log

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:
        return _File(self._log, name, flags)

    def xDelete(self, filename: str, syncdir: bool) -> None:
        self._log.append(Operation(Path(filename), "delete"))
        super().xDelete(filename, syncdir)


class _Cursor(apsw.Cursor):
    @property
    def rowcount(self) -> int:
        return self.connection.changes()

    @property
    def lastrowid(self) -> int:
        return self.connection.last_insert_rowid()


class _Connection:
    """An APSW connection with as much of ``sqlite3.Connection`` as the store uses."""

    def __init__(self, path: Path, vfs: str) -> None:
        self._connection = apsw.Connection(str(path), vfs=vfs)
        self._connection.cursor_factory = _Cursor
        self.close = self._connection.close

    @property
    def in_transaction(self) -> bool:
        return self._connection.in_transaction

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> apsw.Cursor:
        return self._connection.execute(sql, parameters)

    def executemany(self, sql: str, rows: Sequence[Sequence[Any]]) -> apsw.Cursor:
        return self._connection.executemany(sql, rows)

    def executescript(self, script: str) -> None:
        self._connection.execute(script).fetchall()  # it stops at each row


@contextmanager
def recorded(*, then: str = "") -> Iterator[list[Operation]]:
    """While this is open, what the store writes is in the list. ``then``: SQL for the prepared connection."""
    log: list[Operation] = []
    vfs = _Vfs(log, f"power-{id(log)}")
    pwrite = os.pwrite

    def connect(path: Path, *, busy_timeout_s: float) -> sqlite3.Connection:
        connection = cast("sqlite3.Connection", _Connection(path, f"power-{id(log)}"))
        store_connection._prepare(connection, path)
        connection.executescript(then)
        return connection

    def record_mark(descriptor: int, data: bytes, offset: int) -> int:
        if os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")) == MARK_NAME:
            log.append(Operation(Path(MARK_NAME), "write", offset, bytes(data)))
        return pwrite(descriptor, data, offset)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ingestd.store.writer.connect", connect)
        patch.setattr(WriterThread, "pwrite", staticmethod(record_mark))
        yield log
    vfs.unregister()
