"""The state file: one SQLite database, one writing thread, whole units of work, group commit.

Everything that must survive a restart is in this one file, so that no two persisted truths can
disagree: positions, frozen batches, window, spool and dead letters change in the same transactions.
"""

import asyncio
import sqlite3
import zlib
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

from ingestd.store import ballast
from ingestd.store.connection import (
    FILE_NAME,
    MARK,
    ReadConnection,
    StoreBlocked,
    StoreDamaged,
    StoreFailed,
    ask_for_check,
    disk_full,
    explain,
    is_full,
    is_locked,
    locked,
)
from ingestd.store.rescue import Mended, Readers, paused
from ingestd.store.upkeep import BOUNDS, StoreBounds, Upkeep
from ingestd.store.writer import (
    CommitGroup,
    End,
    Mend,
    Pause,
    Steps,
    Work,
    Writer,
    WriterThread,
    done,
    open_writer,
    resolve,
)
from ingestd.store.writer_host import WriterHost

T = TypeVar("T")

_LOOK_S = 0.5
"""How often disk and files are looked at."""

_QUIET_S = 0.001
"""A gap between groups, for a step of what can wait."""


class Database:
    """Units of work run in order on one thread; those noted together are committed together.

    ``note(work)`` queues a unit, ``await commit()`` returns when everything noted so far is on disk (WAL,
    ``synchronous=FULL``), ``await run(work)`` does both and gives the unit's result. A failed transaction
    leaves nothing of its group and fails the database: every later call raises StoreFailed with the cause.

    A ``patient`` database outlives a full disk and a foreign lock: units given to ``append`` are refused with
    StoreBlocked, and what was noted is tried again until it is on disk, with the room that the ballast file
    kept free.

    ``on_commit`` is called with the seconds of each commit, ``on_block`` with why nothing can be written,
    when that begins, ``on_repair`` when a file beside the database had to be made again; ``repaired``: the
    last of it, in words. ``readers`` close their connections meanwhile. ``host``: what the writer lives on;
    None: a thread. ``mend``: where given, a damaged file is made again of what can be read (``mended``): for
    who has the directory."""

    def __init__(
        self,
        directory: Path,
        *,
        patient: bool = False,
        ballast_bytes: int = 0,
        on_commit: Callable[[float], None] | None = None,
        on_repair: Callable[[str], None] = lambda what: None,
        on_block: Callable[[str], None] = lambda why: None,
        bounds: StoreBounds = BOUNDS,
        host: WriterHost | None = None,
        mend: Mend | None = None,
    ) -> None:
        self.path = directory / FILE_NAME
        self.commits = self.groups = 0  # what is noted while ``groups`` stays the same shares a commit
        self._on_commit, self._on_block = on_commit, on_block
        self._on_repair, self.repaired = on_repair, ""
        self.reads = ReadConnection(self.path)
        self.readers = Readers([self.reads])
        self.blocked: StoreBlocked | None = None
        self._patient, self._bounds = patient, bounds
        self._ballast = ballast.Ballast(directory / ballast.NAME, ballast_bytes)
        self._work, self._appends = list[Work](), list[Work]()
        # Each has a future of its own, so that one may give up and leave the commit to the others:
        # ``asyncio.shield`` does that at three times the price, and there is one for every request.
        self._waiters: list[asyncio.Future[None]] = []
        self._appended: asyncio.Future[None] | None = None
        self._running: CommitGroup | None = None
        self._failed: StoreFailed | None = None
        self._mend = mend
        self.mended: Mended | None = None
        self._host = host or WriterThread()
        self._open = self._broken = self._starting = False
        self._look_at = self._written_at = 0.0
        self._loop: asyncio.AbstractEventLoop
        self.writer: Writer  # once it is open; for units of work, on its thread
        self._upkeep: Upkeep

    async def open(self) -> None:
        """Open, check and migrate. Raises StoreFailed."""
        self._loop = asyncio.get_running_loop()
        opened, self._open = self._loop.create_future(), True
        self._host.start(self._serve(opened))
        await opened
        if self.blocked:
            self._on_block(str(self.blocked))

    def end_waiting(self) -> None:
        """The process ends: what cannot be written is tried once more from now on, else done again later."""
        self._host.end(now=True)

    async def close(self) -> None:
        """Commit what was noted, then stop the thread. May be called twice."""
        if not self._open:
            return
        if self.blocked:
            self.end_waiting()
        try:
            with suppress(StoreBlocked):
                if self._failed is None:
                    await self.commit()
        finally:
            self._open = False
            self.reads.close()
            self._host.end(now=False)
            await self._host.ended()

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
        self._start_group()  # who appends has gathered what comes in a turn
        return appended

    async def commit(self, *, at_once: bool = False) -> None:
        """Wait until all that was noted is durable. A cancelled wait does not cancel the commit. ``at_once``:
        nothing else is expected in this turn of the loop."""
        if self._failed:
            raise self._failed
        mine = self._loop.create_future()
        if self._work or self._appends:
            self._waiters.append(mine)
            self._start_group() if at_once else self._start_soon()
            await mine
        elif self._running is not None:
            self._running.waiters.append(mine)
            await mine

    async def run(self, work: Callable[[sqlite3.Connection], T]) -> T:
        results: list[T] = []
        self.note(lambda connection: results.append(work(connection)))
        await self.commit(at_once=True)
        return results[-1]  # a unit that had to be tried again gave a result each time

    def _start_soon(self) -> None:
        """When this turn of the loop is over: what others note in it shares the commit."""
        if self._running is None and not self._starting:
            self._starting = True
            self._loop.call_soon(self._start_group)

    def _start_group(self) -> None:
        self._starting = False
        if self._running or self._failed or not (self._waiters or self._appended):
            return
        self.groups += 1
        self._running = CommitGroup(
            self._work, self._appends, self._waiters, self._appended or self._loop.create_future()
        )
        self._host.put(self._running)
        self._work, self._appends, self._waiters, self._appended = [], [], [], None

    def _group_done(self, group: CommitGroup, error: StoreFailed | None, seconds: float) -> None:
        self._running = None
        if error is None:
            self.commits += 1
            if self._on_commit:
                self._on_commit(seconds)
            for future in (*group.waiters, group.appended):
                if not future.done():
                    future.set_result(None)
        else:
            self._fail(error, group)
        self._start_group()

    # --- on the writer's thread ---

    def _serve(self, opened: "asyncio.Future[None]") -> Steps:
        try:
            patient = (self._ballast, self._bounds.rewrite_bytes) if self._patient else None
            self.writer, self.mended = open_writer(
                self.path, self._host.pwrite, self._mend, self._report_repair, patient=patient
            )
            if self._patient:
                self.blocked = None if self._ballast.fill() else disk_full(self.path, patient=True)
            self._upkeep = Upkeep(self.writer.connection, self.path, self._ballast, self._host.monotonic)
        except (sqlite3.Error, OSError, StoreFailed) as error:
            self._loop.call_soon_threadsafe(resolve, opened, explain(error, self.path))
            return
        self._loop.call_soon_threadsafe(resolve, opened, None)
        while group := (yield from self._next_group()):
            failure: StoreFailed | None = None
            started = self._host.monotonic()
            try:
                yield from self._write(group)
                self._look_at_files(quick=True)
            except Exception as error:
                self._broken = True
                failure = explain(error, self.path)
            self._written_at = self._host.monotonic()
            self._loop.call_soon_threadsafe(self._group_done, group, failure, self._written_at - started)
        self.writer.close()

    def _next_group(self) -> Generator[Pause, CommitGroup | End | None, CommitGroup | None]:
        """The next group; None at the end. Twice a second, and step by step while nobody wants anything, disk
        and files are looked after in between."""
        now, stepping = self._host.monotonic, False
        while True:
            wait_s = self._look_at - now()
            if wait_s > 0 and (job := (yield Pause(wait_s))):
                if stepping:
                    self._look_at = now() + _LOOK_S
                return None if isinstance(job, End) else job
            stepping = self._look()
            self._look_at = now() + (_QUIET_S if stepping else _LOOK_S)

    def _look(self) -> bool:
        """True: there is more that could be done at once."""
        if self._broken:
            return False
        try:
            self._look_at_files()
            self.writer.look_at_mark()
            if self.blocked:
                if not self.blocked.full or self._upkeep.make_room():
                    self._block(None, None)
                return False
            return self._upkeep.tidy(quiet=self._host.monotonic() - self._written_at > _LOOK_S)
        except Exception as error:
            self._broken = True
            with suppress(RuntimeError):  # the loop has ended without closing this
                self._loop.call_soon_threadsafe(self._fail, explain(error, self.path), None)
            return False

    def _look_at_files(self, *, quick: bool = False) -> None:
        """Called before anything is acknowledged. Raises StoreFailed."""
        if displaced := self.writer.displaced(quick=quick):
            with paused(self.readers, self._loop, self.path, seconds=self._bounds.pause_s):
                self.repaired = self.writer.repair(displaced)
            self._upkeep = Upkeep(self.writer.connection, self.path, self._ballast, self._host.monotonic)
            self._report_repair(self.repaired)

    def _report_repair(self, repaired: str) -> None:
        self._loop.call_soon_threadsafe(self._on_repair, repaired)

    def _write(self, group: CommitGroup) -> Steps:
        try:
            transact(self.writer, [*group.work, *group.appends])
            return
        except sqlite3.Error as error:
            if not self._patient or not (is_full(error) or is_locked(error)):
                raise
            full = is_full(error)
        if full:
            self._ballast.drop()
            self._upkeep.truncate_log()  # into the file, which it makes grow: then the log itself is room
        self._block(disk_full(self.path, patient=True) if full else locked(self.path), group)
        yield from self._write_patiently(group.work)

    def _write_patiently(self, work: list[Work]) -> Steps:
        """What keeps the state true is tried until it is on disk, or the process ends."""
        while work:
            try:
                return transact(self.writer, work)
            except sqlite3.Error as error:
                ending = yield Pause(_LOOK_S, stuck=True)
                if ending or not (is_full(error) or is_locked(error)):
                    raise

    def _block(self, blocked: StoreBlocked | None, group: CommitGroup | None) -> None:
        begins = blocked is not None and self.blocked is None
        self.blocked = blocked  # here already, so that this thread sees it
        self._look_at = self._host.monotonic() + _LOOK_S
        if blocked:
            self._loop.call_soon_threadsafe(self._refuse_appends, blocked, group)
        if begins:
            self._loop.call_soon_threadsafe(self._on_block, str(blocked))

    # --- on the loop ---

    def _refuse_appends(self, blocked: StoreBlocked, group: CommitGroup | None) -> None:
        """What was appended and is not on disk is not going to be."""
        if group:
            resolve(group.appended, blocked)
        self._appends.clear()
        if self._appended:
            resolve(self._appended, blocked)
            self._appended = None

    def _fail(self, error: StoreFailed, group: CommitGroup | None) -> None:
        self._failed = self._failed or error
        if isinstance(error, StoreDamaged):
            ask_for_check(self.path)
        waiters = (*group.waiters, group.appended) if group else ()
        for future in (*waiters, *self._waiters, self._appended):
            if future:
                resolve(future, error)


def transact(writer: Writer, work: Sequence[Work]) -> None:
    """All of ``work`` in one transaction, on disk; nothing of it when this raises."""
    connection, high_water, number = writer.connection, writer.high_water, writer.number + 1
    try:
        connection.execute("BEGIN IMMEDIATE")
        for unit in work:
            unit(connection)
        connection.execute("UPDATE meta SET value = ? WHERE name = 'commits'", (number,))
        connection.execute("COMMIT")
    except BaseException:
        writer.high_water = high_water
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    writer.number, marked = number, MARK.pack(number, writer.high_water)
    writer.marked = marked + zlib.crc32(marked).to_bytes(4, "little")
    writer.pwrite(writer.mark, writer.marked, 0)
