"""When a file of a running process was taken away: what it held is saved. On the database's thread."""

import asyncio
import concurrent.futures
import os
import sqlite3
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Protocol

import msgspec

from ingestd.store.connection import FILE_NAME, StoreFailed

REPLACED_NAME = f"{FILE_NAME}.replaced"


class Mended(msgspec.Struct, frozen=True):
    """A state file that was made again. ``kept``: where the damaged file is now. ``events``: of the spool
    that are gone, ``letters``: dead letters; None: not known. ``aside``: events that wait for a person."""

    kept: Path
    events: int | None
    letters: int | None
    aside: int
    words: str


class Reader(Protocol):
    """A connection that stays open beside the writing one."""

    async def pause(self) -> None:
        """End what is being read and close; nothing is read until ``resume``."""
        ...

    def resume(self) -> None: ...


class Readers(list[Reader]):
    """All of a database's."""

    async def pause(self) -> None:
        for reader in self:
            await reader.pause()

    def resume(self) -> None:
        for reader in self:
            reader.resume()


class DisplacedDatabase(msgspec.Struct, frozen=True):
    """``sides``: names of its log and of the index of that; ``directory``: open; ``inode``: its own."""

    path: Path
    sides: Sequence[str]
    directory: int
    inode: int


def save(place: DisplacedDatabase, connection: sqlite3.Connection) -> StoreFailed:
    """The database itself is displaced: what it holds is written back; what took its place is kept.
    Gives the error that the process ends with."""
    path = place.path
    with suppress(OSError):
        if os.stat(FILE_NAME, dir_fd=place.directory).st_ino == place.inode:
            return StoreFailed(
                f"{path.parent} was moved away while it was in use, with all that it holds:"
                " move it back, and start again"
            )
    replaced = path.exists()
    deed = "was replaced while it was in use" if replaced else "was removed while it was in use"
    with suppress(sqlite3.Error):
        bring_home(connection)  # else the log at the path would be taken for that of another file
    try:
        _write_back(place, connection)
    except (sqlite3.Error, OSError) as error:
        return StoreFailed(f"{path} {deed}, and its content cannot be saved: {error}")
    aside = f"; what took its place is {path.with_name(REPLACED_NAME)} now" if replaced else ""
    return StoreFailed(f"{path} {deed}, and is written back: start again{aside}")


def _write_back(place: DisplacedDatabase, connection: sqlite3.Connection) -> None:
    path = place.path
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{FILE_NAME}.{os.getpid()}")
    os.close(os.open(temporary, os.O_CREAT | os.O_TRUNC | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    with closing(sqlite3.connect(temporary)) as copy:
        connection.backup(copy)
    sync_path(temporary)
    for side in place.sides:  # of the one before; what they held is in the copy
        Path(side).unlink(missing_ok=True)
    if path.exists():
        path.replace(path.with_name(REPLACED_NAME))
    temporary.replace(path)
    sync_path(path.parent)


def bring_home(connection: sqlite3.Connection) -> None:
    """All that the log holds, into the file itself. Raises sqlite3.Error when a reader takes too long."""
    busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    if busy:
        raise sqlite3.OperationalError("another program reads it")


def call_on(
    loop: asyncio.AbstractEventLoop, work: Coroutine[Any, Any, None], path: Path, *, seconds: float
) -> None:
    """Beside the loop: wait until it has done ``work``. Raises StoreFailed, RuntimeError."""
    try:
        future = asyncio.run_coroutine_threadsafe(work, loop)
    except RuntimeError:  # the loop has ended without closing this
        work.close()
        raise
    try:
        future.result(seconds)
    except concurrent.futures.TimeoutError:
        future.cancel()
        raise StoreFailed(f"{path} is still being read after {seconds:.0f} s") from None


@contextmanager
def paused(
    readers: Readers, loop: asyncio.AbstractEventLoop, path: Path, *, seconds: float
) -> Iterator[None]:
    """Beside the loop: the readers have closed their connections. Raises as ``call_on``."""
    try:
        call_on(loop, readers.pause(), path, seconds=seconds)
        yield
    finally:
        with suppress(RuntimeError):  # it has ended
            loop.call_soon_threadsafe(readers.resume)


def sync_path(path: Path) -> None:
    """A file, or what a directory says of its files, is on disk when it returns. Raises OSError."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(file)
    finally:
        os.close(file)
