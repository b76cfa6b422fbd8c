"""The state file: one SQLite database, one writing thread, whole units of work, group commit.

Everything that must survive a restart is in this one file, so that no two persisted truths can
disagree: positions, frozen batches, window and dead letters change in the same transactions.
"""

import asyncio
import os
import queue
import sqlite3
import struct
import threading
import zlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any, TypeVar

from ingestd.core.errors import UserError

T = TypeVar("T")
Work = Callable[[sqlite3.Connection], Any]

VERSION = 1
FILE_NAME = "state.db"
_MARK_NAME = "state.mark"


class StoreFailed(UserError):
    """The state file cannot be written or read. Nothing that was acknowledged depends on the last write."""

    exit_code = 1


class Database:
    """Units of work run in order on one thread; those noted together are committed together.

    ``note(work)`` queues a unit, ``await commit()`` returns when everything noted so far is on disk
    (WAL, ``synchronous=FULL``), ``await run(work)`` does both and gives the unit's result. A failed
    transaction leaves nothing of its group and fails the database: every later call raises
    StoreFailed with the cause.
    """

    def __init__(self, directory: Path) -> None:
        self.path = directory / FILE_NAME
        self.warning = ""
        self.commits = 0
        self._mark_path = directory / _MARK_NAME
        self._work: list[Work] = []
        self._waiter: asyncio.Future[None] | None = None
        self._running: asyncio.Future[None] | None = None
        self._failed: StoreFailed | None = None
        self._jobs: queue.SimpleQueue[tuple[list[Work], asyncio.Future[None]] | None] = queue.SimpleQueue()
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None

    async def open(self) -> None:
        """Open, check and migrate. Raises StoreFailed."""
        self._loop = asyncio.get_running_loop()
        opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._serve, args=(opened,), name="ingestd-store", daemon=True)
        self._thread.start()
        await opened

    async def close(self) -> None:
        """Commit what was noted, then stop the thread. May be called twice."""
        if self._thread is None:
            return
        try:
            if self._failed is None:
                await self.commit()
        finally:
            self._jobs.put(None)
            thread, self._thread = self._thread, None
            await asyncio.to_thread(thread.join)

    def note(self, work: Work) -> None:
        self._work.append(work)

    async def commit(self) -> None:
        """Wait until all that was noted is durable. A cancelled wait does not cancel the commit."""
        if self._failed:
            raise self._failed
        if self._work:
            if self._waiter is None:
                self._waiter = self._loop.create_future()
            waiter = self._waiter
            if self._running is None:
                self._start_group()
            await asyncio.shield(waiter)
        elif self._running is not None:
            await asyncio.shield(self._running)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        results: list[T] = []
        self.note(lambda connection: results.append(work(connection)))
        await self.commit()
        return results[0]

    def _start_group(self) -> None:
        assert self._waiter is not None
        self._running = self._waiter
        self._jobs.put((self._work, self._running))
        self._work, self._waiter = [], None

    def _group_done(self, waiter: asyncio.Future[None], error: StoreFailed | None) -> None:
        self._running = None
        if error is None:
            self.commits += 1
            _resolve(waiter, None)
        else:
            self._failed = error
            _resolve(waiter, error)
            if self._waiter:
                _resolve(self._waiter, error)
                self._waiter = None
        if self._waiter and not self._failed:
            self._start_group()

    # --- on the writer's thread ---

    def _serve(self, opened: "asyncio.Future[None]") -> None:
        try:
            connection = connect(self.path)
            mark = os.open(self._mark_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            number = self._compare_mark(connection, mark)
            inode = os.stat(self.path).st_ino
        except (sqlite3.Error, OSError, StoreFailed) as error:
            self._loop.call_soon_threadsafe(_resolve, opened, _explain(error, self.path))
            return
        self._loop.call_soon_threadsafe(_resolve, opened, None)
        while job := self._jobs.get():
            work, waiter = job
            failure: StoreFailed | None = None
            try:
                number += 1
                self._transact(connection, work, number)
                os.pwrite(mark, _pack_mark(number), 0)
                if os.stat(self.path).st_ino != inode:
                    raise StoreFailed(
                        f"{self.path} was replaced while it was in use; stop, and restore or move it"
                    )
            except Exception as error:
                failure = _explain(error, self.path)
            self._loop.call_soon_threadsafe(self._group_done, waiter, failure)
        os.close(mark)
        connection.close()

    @staticmethod
    def _transact(connection: sqlite3.Connection, work: list[Work], number: int) -> None:
        connection.execute("BEGIN IMMEDIATE")
        try:
            for unit in work:
                unit(connection)
            connection.execute("UPDATE meta SET value = ? WHERE name = 'commits'", (number,))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _compare_mark(self, connection: sqlite3.Connection, mark: int) -> int:
        """The number of the last commit; says so if the file holds fewer than were made.

        One flipped bit in a WAL makes SQLite drop the committed tail without an error: only a
        number kept outside can tell.
        """
        number: int = connection.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()[0]
        marked = _unpack_mark(os.pread(mark, 12, 0))
        if marked > number:
            self.warning = (
                f"{self.path} has lost its last {marked - number} commits (damaged write-ahead log?): "
                "files are read again from the older position; dead letters and keys of that time are gone"
            )
        return max(number, marked)


def connect(path: Path, *, read_only: bool = False) -> sqlite3.Connection:
    """A connection with this store's settings, migrated to ``VERSION``. Raises StoreFailed, sqlite3.Error."""
    connection = sqlite3.connect(
        f"file:{path}?mode=ro" if read_only else path, uri=read_only, isolation_level=None, timeout=10
    )
    if read_only:
        return connection
    try:
        _prepare(connection, path)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA busy_timeout=10000;")
    os.chmod(path, 0o600)  # payloads may hold personal data
    version: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if version > VERSION:
        raise StoreFailed(
            f"{path} was written by a newer ingestd (format {version}, this one knows {VERSION})"
        )
    if version < 1:
        schema = resources.files("ingestd.store").joinpath("schema.sql").read_text()
        first = "INSERT INTO meta VALUES ('commits', 0); PRAGMA user_version = 1;"
        connection.executescript(f"BEGIN IMMEDIATE; {schema} {first} COMMIT;")


def _pack_mark(number: int) -> bytes:
    packed = struct.pack("<Q", number)
    return packed + struct.pack("<I", zlib.crc32(packed))


def _unpack_mark(data: bytes) -> int:
    if len(data) != 12 or struct.unpack("<I", data[8:])[0] != zlib.crc32(data[:8]):
        return 0
    number: int = struct.unpack("<Q", data[:8])[0]
    return number


def _resolve(future: "asyncio.Future[None]", error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # nobody may be waiting any more


def _explain(error: Exception, path: Path) -> StoreFailed:
    if isinstance(error, StoreFailed):
        return error
    name = getattr(error, "sqlite_errorname", "")
    if name in {"SQLITE_FULL", "SQLITE_IOERR_WRITE"}:
        return StoreFailed(
            f"the disk under {path.parent} is full: free some space and start again; nothing is lost"
        )
    if name in {"SQLITE_NOTADB", "SQLITE_CORRUPT"}:
        return StoreFailed(f"{path} is damaged ({error}): move it away, or restore it, and start again")
    if name in {"SQLITE_BUSY", "SQLITE_LOCKED"}:
        return StoreFailed(f"{path} is locked by another program for more than 10 s")
    return StoreFailed(f"cannot use {path}: {error}")
