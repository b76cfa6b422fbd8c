"""The writing connection and the mark beside it; lives on the database's thread."""

import asyncio
import os
import queue
import sqlite3
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ingestd.core.clock import SystemClock
from ingestd.store.ballast import Ballast
from ingestd.store.connection import (
    MARK_NAME,
    StoreDamaged,
    StoreFailed,
    connect,
    explain,
    is_full,
    unpack_mark,
    write_map,
)
from ingestd.store.rescue import DisplacedDatabase, Mended, bring_home, save
from ingestd.store.upkeep import let_shrink

Work = Callable[[sqlite3.Connection], Any]
Pwrite = Callable[[int, bytes, int], int]
Repaired = Callable[[str], None]
Mend = Callable[[Path, str, Repaired], Mended]
"""``mend.mend``, with a clock: (path, what is wrong with it, who is told)."""

_LOOKS_A_MAP = 60  # half a minute
_BUSY_S, _PATIENT_BUSY_S = 10.0, 2.0
"""How long a start waits for another program's lock; and producers before they get 503."""


class Writer:
    """``connection`` is for transactions, of which ``number`` were made. ``warning``: what was found to be
    missing at the start.

    The mark file holds, outside of the database, that number and ``high_water``, which units of work may
    raise; ``marked``: as bytes. One flipped bit in a WAL makes SQLite drop the committed tail without an
    error: only a number kept outside can tell.
    """

    def __init__(
        self, path: Path, *, busy_timeout_s: float, pwrite: Pwrite = os.pwrite, check: bool = False
    ) -> None:
        """Opens, checks and migrates. ``check``: for damage, too. Raises StoreFailed, sqlite3.Error,
        OSError."""
        self.path, self._mark_name = path, str(path.with_name(MARK_NAME))
        self.warning = ""
        self._busy_timeout_s = busy_timeout_s
        self.pwrite = pwrite
        self._map, self._looks = b"", 0
        self.connection = connect(path, busy_timeout_s=busy_timeout_s, check=check)
        try:
            self.mark = self._open_mark()
            self.number, self.high_water = self._compare_mark()
            self._in_place = InPlace(path)
            self.note_map()
        except BaseException:
            self.connection.close()
            raise

    def close(self) -> None:
        with suppress(sqlite3.Error):  # it may be the reason for the end
            self.note_map()
        os.close(self.mark)
        self._in_place.close()
        self.connection.close()

    def displaced(self, *, quick: bool = False) -> str:
        """The file that was taken away or exchanged while it is in use, by its whole name; "": none."""
        return self._in_place.displaced(quick=quick)

    def repair(self, displaced: str) -> str:
        """Nothing that was committed depends on the file any more that is ``displaced``. Gives what was done,
        in words; no other part of this process may have the file open. Raises StoreFailed: it was the
        database itself, which is saved, or it cannot be done."""
        if displaced == str(self.path):
            raise save(self._in_place.database, self.connection)
        try:
            bring_home(self.connection)
            self.connection.close()
            self.connection = connect(self.path, busy_timeout_s=self._busy_timeout_s)
            self._read_number()
            self._in_place.close()
            self._in_place = InPlace(self.path)
        except (sqlite3.Error, OSError) as error:
            raise StoreFailed(
                f"{displaced} was removed or replaced in use, and what it held cannot be saved: {error}"
            ) from None
        return (
            f"{displaced} was removed or replaced in use: what it held is in {self.path} now, and"
            " nothing is lost; leave the files of a running process alone"
        )

    def note_map(self) -> None:
        """See ``state_map.py``. Raises sqlite3.Error."""
        self._map = write_map(self.connection, self.path, self._map)

    def look_at_mark(self) -> None:
        """It is only a witness: one that was removed is made again. Raises OSError, sqlite3.Error."""
        self._looks += 1
        if self._looks % _LOOKS_A_MAP == 10:
            self.note_map()
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._mark_name), os.fstat(self.mark)):
                return
        os.close(self.mark)
        self.mark = self._open_mark()
        self.pwrite(self.mark, self.marked, 0)

    def _open_mark(self) -> int:
        return os.open(self._mark_name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def _read_number(self) -> int:
        number: int = self.connection.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()[0]
        return number

    def _compare_mark(self) -> tuple[int, int]:
        """The numbers to go on with; says so if the file holds fewer commits than were made."""
        number = self._read_number()
        self.marked = os.pread(self.mark, 64, 0)
        marked, high_water = unpack_mark(self.marked)
        if marked > number:
            self.warning = (
                f"{self.path} has lost its last {marked - number} commits (damaged write-ahead log?): "
                "files are read again from the older position; dead letters and keys of that time are gone"
            )
        return max(number, marked), high_water


def open_writer(
    path: Path, pwrite: Pwrite, mend: Mend | None, report: Repaired, *, patient: tuple[Ballast, int] | None
) -> tuple[Writer, Mended | None]:
    """A damaged file is made again first, with ``mend``. ``patient``: see ``open_patiently``. Raises as
    ``Writer`` does."""
    opening = partial(Writer, path, busy_timeout_s=_BUSY_S, pwrite=pwrite, check=mend is not None)
    if patient:
        opening = partial(open_patiently, path, *patient, pwrite, check=mend is not None)
    try:
        return opening(), None
    except (sqlite3.Error, StoreDamaged) as error:
        found = explain(error, path)
        if mend is None or not isinstance(found, StoreDamaged):
            raise
    mended = mend(path, found.how, report)
    return opening(), mended


def open_patiently(
    path: Path, ballast: Ballast, rewrite_bytes: int, pwrite: Pwrite, *, check: bool
) -> Writer:
    """Also on a full disk. ``rewrite_bytes``: see ``upkeep.py``. Raises as ``Writer`` does."""
    opening = partial(Writer, path, busy_timeout_s=_PATIENT_BUSY_S, pwrite=pwrite, check=check)
    try:
        writer = opening()
    except sqlite3.Error as error:
        if not is_full(error):
            raise
        ballast.drop()
        writer = opening()
    try:
        let_shrink(writer.connection, path, max_bytes=rewrite_bytes)
    except BaseException:
        writer.close()
        raise
    return writer


class CommitGroup(msgspec.Struct):
    """What is committed together. ``appends`` may be refused; ``work`` keeps the state true and may not."""

    work: list[Work]
    appends: list[Work]
    waiters: "list[asyncio.Future[None]]"
    appended: asyncio.Future[None]


class Pause(msgspec.Struct, frozen=True):
    """For the next group, at most so many seconds. ``stuck``: for no group, only for the end."""

    seconds: float
    stuck: bool = False


class End:
    """Nothing comes any more."""


Steps = Generator[Pause, CommitGroup | End | None, None]
"""The writer's work between its pauses. It is sent a group, the end, or None: the time is over."""


QUICK_S, USUAL_S = 0.0005, 0.005
"""How long other threads keep the interpreter from the writer's: while producers wait for commits, and else.
Python's own 5 ms are longer than a commit takes, but each turn costs: with 0.5 ms a process that reads from
Kafka, where nobody waits, takes 1.06 times the CPU."""
QUIET_S = 1.0
"""Without a producer."""


class WriterThread:
    """The real ``WriterHost``."""

    monotonic = staticmethod(SystemClock.monotonic)
    pwrite = staticmethod(os.pwrite)

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[CommitGroup | End] = queue.SimpleQueue()
        self.put = self._jobs.put
        self._ending = threading.Event()

    def end(self, *, now: bool) -> None:
        self._ending.set()
        if not now:
            self.put(End())

    def start(self, steps: Steps) -> None:
        self._thread = threading.Thread(target=self._run, args=(steps,), name="ingestd-store", daemon=True)
        self._thread.start()

    async def ended(self) -> None:
        await asyncio.to_thread(self._thread.join)

    def _run(self, steps: Steps) -> None:
        job: CommitGroup | End | None = None
        quick_until = 0.0
        with suppress(StopIteration):
            while True:
                pause = steps.send(job)
                if pause.stuck:
                    job = End() if self._ending.wait(pause.seconds) else None
                    continue
                try:
                    job = self._jobs.get(timeout=pause.seconds)
                except queue.Empty:
                    job = None
                if isinstance(job, CommitGroup) and job.appends:  # what producers wait for
                    if not quick_until:
                        sys.setswitchinterval(QUICK_S)
                    quick_until = self.monotonic() + QUIET_S
                elif quick_until and self.monotonic() > quick_until:
                    quick_until = 0.0
                    sys.setswitchinterval(USUAL_S)


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

    @property
    def database(self) -> DisplacedDatabase:
        return DisplacedDatabase(self._path, self._sides, self._directory, self._ids[0][1])

    def _look(self) -> str:
        for name, known in zip((str(self._path), *self._sides), self._ids, strict=True):
            try:
                if _id_of(name) != known:
                    return name
            except OSError:
                return name
        return ""


def _id_of(name: str) -> tuple[int, int]:
    status = os.stat(name)
    return status.st_dev, status.st_ino


def resolve(future: asyncio.Future[None], error: Exception | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)
        future.exception()  # nobody may be waiting any more


def done(loop: asyncio.AbstractEventLoop, error: Exception | None) -> asyncio.Future[None]:
    future: asyncio.Future[None] = loop.create_future()
    resolve(future, error)
    return future
