"""The state file: one SQLite database, one writing thread, whole units of work, group commit.

Everything that must survive a restart is in this one file, so that no two persisted truths can
disagree: positions, frozen batches, window, spool and dead letters change in the same transactions.
"""

import asyncio
import queue
import sqlite3
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

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
from ingestd.store.writer import Work, Writer

T = TypeVar("T")

_LOOK_AGAIN_S = 1.0
"""How often a full disk is looked at again."""

_PATIENT_BUSY_S = 2.0
"""How long producers wait for another program's lock before they are told to come back."""


@dataclass(slots=True)
class _Group:
    """What is committed together. ``appends`` may be refused; ``work`` keeps the state true and may not."""

    work: list[Work]
    appends: list[Work]
    waiter: asyncio.Future[None]
    appended: asyncio.Future[None]


class Database:
    """Units of work run in order on one thread; those noted together are committed together.

    ``note(work)`` queues a unit, ``await commit()`` returns when everything noted so far is on disk
    (WAL, ``synchronous=FULL``), ``await run(work)`` does both and gives the unit's result. A failed
    transaction leaves nothing of its group and fails the database: every later call raises
    StoreFailed with the cause.

    A ``patient`` database outlives a full disk and a foreign lock: units given to ``append`` are
    refused with StoreBlocked, and what was noted is tried again until it is on disk, with the room
    that the ballast file kept free.
    """

    def __init__(self, directory: Path, *, patient: bool = False, ballast_bytes: int = 0) -> None:
        self.path = directory / FILE_NAME
        self.commits = 0
        self.groups = (
            0  # of units that were taken together: those noted while it stays the same share a commit
        )
        self.on_commit: Callable[[float], None] = lambda seconds: None
        self.blocked: StoreBlocked | None = None
        self._patient = patient
        self._ballast = ballast.Ballast(directory / ballast.NAME, ballast_bytes)
        self._work: list[Work] = []
        self._appends: list[Work] = []
        self._waiter: asyncio.Future[None] | None = None
        self._appended: asyncio.Future[None] | None = None
        self._running: _Group | None = None
        self._failed: StoreFailed | None = None
        self._jobs: queue.SimpleQueue[_Group | None] = queue.SimpleQueue()
        self._closing = threading.Event()
        self._look_at = 0.0
        self._loop: asyncio.AbstractEventLoop
        self._thread: threading.Thread | None = None
        self._writer: Writer

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
            return _done(self._loop, refusal)
        if work is None:
            if not self._appends:
                running = self._running
                return running.appended if running else _done(self._loop, None)
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
        self._running = _Group(
            self._work, self._appends, self._waiter or future(), self._appended or future()
        )
        self._jobs.put(self._running)
        self._work, self._appends, self._waiter, self._appended = [], [], None, None

    def _group_done(self, group: _Group, error: StoreFailed | None, seconds: float) -> None:
        self._running = None
        if error is None:
            self.commits += 1
            self.on_commit(seconds)
            _resolve(group.waiter, None)
            _resolve(group.appended, None)
        else:
            self._failed = error
            for future in (group.waiter, group.appended, self._waiter, self._appended):
                if future:
                    _resolve(future, error)
        if (self._waiter or self._appended) and not self._failed:
            self._start_group()

    # --- on the writer's thread ---

    def _serve(self, opened: "asyncio.Future[None]") -> None:
        try:
            self._writer = self._open_writer()
        except (sqlite3.Error, OSError, StoreFailed) as error:
            self._loop.call_soon_threadsafe(_resolve, opened, explain(error, self.path))
            return
        self._loop.call_soon_threadsafe(_resolve, opened, None)
        while group := self._next_group():
            failure: StoreFailed | None = None
            started = time.monotonic()
            try:
                self._write(group)
            except Exception as error:
                failure = explain(error, self.path)
            self._loop.call_soon_threadsafe(self._group_done, group, failure, time.monotonic() - started)
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
        if not self._ballast.fill():
            self.blocked = disk_full(self.path)
        return writer

    def _next_group(self) -> _Group | None:
        """The next group; while nothing can be appended, looks every second whether it can again."""
        while self.blocked:
            try:
                return self._jobs.get(timeout=max(0.0, self._look_at - time.monotonic()))
            except queue.Empty:
                self._look_at = time.monotonic() + _LOOK_AGAIN_S
                if self._ballast.fill():
                    self._block(None, None)
        return self._jobs.get()

    def _write(self, group: _Group) -> None:
        try:
            self._writer.transact([*group.work, *group.appends])
            return
        except sqlite3.Error as error:
            if not self._patient or not (is_full(error) or is_locked(error)):
                raise
            full = is_full(error)
        if full:
            self._ballast.drop()
        self._block(disk_full(self.path) if full else locked(self.path), group)
        self._write_patiently(group.work)

    def _write_patiently(self, work: list[Work]) -> None:
        """What keeps the state true is tried until it is on disk, or the process ends."""
        while work:
            try:
                return self._writer.transact(work)
            except sqlite3.Error as error:
                ending = self._closing.wait(_LOOK_AGAIN_S / 2)
                if ending or not (is_full(error) or is_locked(error)):
                    raise
        return None

    def _block(self, blocked: StoreBlocked | None, group: _Group | None) -> None:
        self.blocked = blocked  # here already, so that this thread sees it
        self._look_at = time.monotonic() + _LOOK_AGAIN_S
        self._loop.call_soon_threadsafe(self._refuse_appends, blocked, group)

    def _refuse_appends(self, blocked: StoreBlocked | None, group: _Group | None) -> None:
        """On the loop: what was appended and is not on disk is not going to be."""
        if blocked is None:
            return
        if group:
            _resolve(group.appended, blocked)
        self._appends.clear()
        if self._appended:
            _resolve(self._appended, blocked)
            self._appended = None


def _resolve(future: "asyncio.Future[None]", error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # nobody may be waiting any more


def _done(loop: asyncio.AbstractEventLoop, error: Exception | None) -> asyncio.Future[None]:
    future: asyncio.Future[None] = loop.create_future()
    _resolve(future, error)
    return future
