"""The state file: one SQLite database, one writing thread, whole units of work, group commit.

Everything that must survive a restart is in this one file, so that no two persisted truths can
disagree: positions, frozen batches, window, spool and dead letters change in the same transactions.
"""

import asyncio
import concurrent.futures
import queue
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from ingestd.store import ballast
from ingestd.store.connection import (
    FILE_NAME,
    StoreBlocked,
    StoreFailed,
    disk_full,
    explain,
    is_full,
    is_locked,
    locked,
)
from ingestd.store.upkeep import BOUNDS, StoreBounds, Upkeep, let_shrink
from ingestd.store.writer import CommitGroup, Reader, Work, Writer, done, resolve

T = TypeVar("T")

_LOOK_S = 0.5
"""How often disk and files are looked at."""

_QUIET_S = 0.001
"""A gap between groups, for a step of what can wait."""

_PATIENT_BUSY_S = 2.0
"""How long producers wait for another program's lock before they are told to come back."""


class Database:
    """Units of work run in order on one thread; those noted together are committed together.

    ``note(work)`` queues a unit, ``await commit()`` returns when everything noted so far is on disk
    (WAL, ``synchronous=FULL``), ``await run(work)`` does both and gives the unit's result. A failed
    transaction leaves nothing of its group and fails the database: every later call raises
    StoreFailed with the cause.

    A ``patient`` database outlives a full disk and a foreign lock: units given to ``append`` are
    refused with StoreBlocked, and what was noted is tried again until it is on disk, with the room
    that the ballast file kept free.

    ``on_commit`` is told how many seconds each commit took, ``on_repair`` when a file beside the database had
    to be made again; ``repaired``: the last of it, in words. ``readers`` close their connections meanwhile.
    """

    def __init__(
        self,
        directory: Path,
        *,
        patient: bool = False,
        ballast_bytes: int = 0,
        on_commit: Callable[[float], None] | None = None,
        on_repair: Callable[[str], None] = lambda what: None,
        bounds: StoreBounds = BOUNDS,
    ) -> None:
        self.path = directory / FILE_NAME
        self.commits = 0
        self.groups = 0  # taken together so far: what is noted while it stays the same shares a commit
        self._on_commit, self._on_repair, self.repaired = on_commit, on_repair, ""
        self.readers: list[Reader] = []
        self.blocked: StoreBlocked | None = None
        self._patient = patient
        self._bounds = bounds
        self._ballast = ballast.Ballast(directory / ballast.NAME, ballast_bytes)
        self._work: list[Work] = []
        self._appends: list[Work] = []
        self._waiter: asyncio.Future[None] | None = None
        self._appended: asyncio.Future[None] | None = None
        self._running: CommitGroup | None = None
        self._failed: StoreFailed | None = None
        self._jobs: queue.SimpleQueue[CommitGroup | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._broken = False
        self._look_at = self._written_at = 0.0
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._writer: Writer
        self._upkeep: Upkeep

    @property
    def warning(self) -> str:
        """What was found to be missing when the file was opened."""
        return self._writer.warning

    @property
    def high_water(self) -> int:
        """A number that is kept outside of the database too; raised by units, on the writer's thread."""
        return self._writer.high_water

    @high_water.setter
    def high_water(self, value: int) -> None:
        self._writer.high_water = value

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
        if self.blocked:
            self._closing.set()  # once more, but not for ever: what is not written now is done again later
        try:
            if self._failed is None:
                await self.commit()
        except StoreBlocked:
            pass
        finally:
            self._closing.set()
            self._jobs.put(None)
            thread, self._thread = self._thread, None
            await asyncio.to_thread(thread.join)

    def note(self, work: Work) -> None:
        self._work.append(work)

    def append(self, work: Work | None) -> asyncio.Future[None]:
        """Queue a unit that may be refused, and start the commit. The future is done when the unit is on
        disk, or fails with StoreBlocked or StoreFailed. None: done when all that was appended before is."""
        if refusal := self._failed or self.blocked:
            return done(self._loop, refusal)
        if work is None:
            if not self._appends:
                running = self._running
                return running.appended if running else done(self._loop, None)
        else:
            self._appends.append(work)
        if self._appended is None:
            self._appended = self._loop.create_future()
        appended = self._appended
        if self._running is None:
            self._start_group()
        return appended

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
            await asyncio.shield(self._running.waiter)

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        results: list[T] = []
        self.note(lambda connection: results.append(work(connection)))
        await self.commit()
        return results[-1]  # a unit that had to be tried again gave a result each time

    def _start_group(self) -> None:
        future = self._loop.create_future
        self.groups += 1
        self._running = CommitGroup(
            self._work, self._appends, self._waiter or future(), self._appended or future()
        )
        self._jobs.put(self._running)
        self._work, self._appends, self._waiter, self._appended = [], [], None, None

    def _group_done(self, group: CommitGroup, error: StoreFailed | None, seconds: float) -> None:
        self._running = None
        if error is None:
            self.commits += 1
            if self._on_commit:
                self._on_commit(seconds)
            resolve(group.waiter, None)
            resolve(group.appended, None)
        else:
            self._fail(error, group)
        if (self._waiter or self._appended) and not self._failed:
            self._start_group()

    # --- on the writer's thread ---

    def _serve(self, opened: "asyncio.Future[None]") -> None:
        try:
            self._writer = self._open_writer()
            self._upkeep = Upkeep(self._writer.connection, self.path, self._ballast)
        except (sqlite3.Error, OSError, StoreFailed) as error:
            self._loop.call_soon_threadsafe(resolve, opened, explain(error, self.path))
            return
        self._loop.call_soon_threadsafe(resolve, opened, None)
        while group := self._next_group():
            failure: StoreFailed | None = None
            started = time.monotonic()
            try:
                self._write(group)
                self._look_at_files(quick=True)
            except Exception as error:
                self._broken = True
                failure = explain(error, self.path)
            self._written_at = time.monotonic()
            self._loop.call_soon_threadsafe(self._group_done, group, failure, self._written_at - started)
        self._writer.close()

    def _open_writer(self) -> Writer:
        if not self._patient:
            return Writer(self.path, busy_timeout_s=10.0)
        try:
            writer = Writer(self.path, busy_timeout_s=_PATIENT_BUSY_S)
        except sqlite3.Error as error:
            if not is_full(error):
                raise
            self._ballast.drop()
            writer = Writer(self.path, busy_timeout_s=_PATIENT_BUSY_S)
        let_shrink(writer.connection, self.path, max_bytes=self._bounds.rewrite_bytes)
        if not self._ballast.fill():
            self.blocked = disk_full(self.path, patient=True)
        return writer

    def _next_group(self) -> CommitGroup | None:
        """The next group. Twice a second, and step by step while nobody wants anything, disk and files are
        looked after in between."""
        stepping = False
        while True:
            wait_s = self._look_at - time.monotonic()
            if wait_s > 0:
                try:
                    group = self._jobs.get(timeout=wait_s)
                except queue.Empty:
                    pass
                else:
                    if stepping:
                        self._look_at = time.monotonic() + _LOOK_S
                    return group
            stepping = self._look()
            self._look_at = time.monotonic() + (_QUIET_S if stepping else _LOOK_S)

    def _look(self) -> bool:
        """True: there is more that could be done at once."""
        if self._broken:
            return False
        try:
            self._look_at_files()
            self._writer.look_at_mark()
            if self.blocked:
                if not self.blocked.full or self._upkeep.make_room():
                    self._block(None, None)
                return False
            return self._upkeep.tidy(quiet=time.monotonic() - self._written_at > _LOOK_S)
        except Exception as error:
            self._broken = True
            with suppress(RuntimeError):  # the loop has ended without closing this
                self._loop.call_soon_threadsafe(self._fail, explain(error, self.path), None)
            return False

    def _look_at_files(self, *, quick: bool = False) -> None:
        """Before anybody is told that something is safe. Raises StoreFailed."""
        if displaced := self._writer.displaced(quick=quick):
            try:
                self._on_loop(self._pause_readers())
                self.repaired = self._writer.repair(displaced)
            finally:
                with suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._resume_readers)
            self._upkeep = Upkeep(self._writer.connection, self.path, self._ballast)
            self._loop.call_soon_threadsafe(self._on_repair, self.repaired)

    def _on_loop(self, work: Coroutine[Any, Any, None]) -> None:
        try:
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:  # the loop has ended without closing this
            work.close()
            raise
        try:
            future.result(self._bounds.pause_s)
        except concurrent.futures.TimeoutError:
            future.cancel()
            raise StoreFailed(f"{self.path} is still being read after {self._bounds.pause_s:.0f} s") from None

    def _write(self, group: CommitGroup) -> None:
        try:
            self._writer.transact([*group.work, *group.appends])
            return
        except sqlite3.Error as error:
            if not self._patient or not (is_full(error) or is_locked(error)):
                raise
            full = is_full(error)
        if full:
            self._ballast.drop()
            self._upkeep.truncate_log()  # into the file, which it makes grow: then the log itself is room
        self._block(disk_full(self.path, patient=True) if full else locked(self.path), group)
        self._write_patiently(group.work)

    def _write_patiently(self, work: list[Work]) -> None:
        """What keeps the state true is tried until it is on disk, or the process ends."""
        while work:
            try:
                return self._writer.transact(work)
            except sqlite3.Error as error:
                ending = self._closing.wait(_LOOK_S)
                if ending or not (is_full(error) or is_locked(error)):
                    raise
        return None

    def _block(self, blocked: StoreBlocked | None, group: CommitGroup | None) -> None:
        self.blocked = blocked  # here already, so that this thread sees it
        self._look_at = time.monotonic() + _LOOK_S
        self._loop.call_soon_threadsafe(self._refuse_appends, blocked, group)

    # --- on the loop ---

    def _refuse_appends(self, blocked: StoreBlocked | None, group: CommitGroup | None) -> None:
        """What was appended and is not on disk is not going to be."""
        if blocked is None:
            return
        if group:
            resolve(group.appended, blocked)
        self._appends.clear()
        if self._appended:
            resolve(self._appended, blocked)
            self._appended = None

    async def _pause_readers(self) -> None:
        for reader in self.readers:
            await reader.pause()

    def _resume_readers(self) -> None:
        for reader in self.readers:
            reader.resume()

    def _fail(self, error: StoreFailed, group: CommitGroup | None) -> None:
        self._failed = self._failed or error
        waiters = (group.waiter, group.appended) if group else ()
        for future in (*waiters, self._waiter, self._appended):
            if future:
                resolve(future, error)
