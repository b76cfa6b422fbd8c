"""Whether the state directory is the one that was used last, or a copy of an earlier time that was put back.

A copy tells nothing of what it is: all that it holds is as it was. But its files were made again. So there is
one file that is never written after it was made, and in it stands which it is: its number in the file system,
and the generation of that number where the file system has one. A snapshot of the whole file system, and
files that were written over, are not noticed.
"""

import fcntl
import os
import sqlite3
import struct
from contextlib import closing, suppress
from pathlib import Path

import msgspec

from ingestd.store.connection import FILE_NAME, connect_without_trace

NAME = "origin"
_GENERATION = 0x80087601  # FS_IOC_GETVERSION (Linux, include/uapi/linux/fs.h)

_LAST = (
    "SELECT max(at) FROM (SELECT max(accepted_at) AS at FROM spool"
    " UNION ALL SELECT max(confirmed_at) FROM window"
    " UNION ALL SELECT at FROM (SELECT at FROM trail ORDER BY id DESC LIMIT 1)"
    " UNION ALL SELECT max(max(last_failed), max(coalesce(settled_at, 0))) FROM letters)"
)


class RestoredState(msgspec.Struct, frozen=True):
    """``last_at``: wall time of the last thing that is in it, or None. Events that ``wait`` in its spool, the
    frozen ``batches`` among what was on its way, and dead ``letters`` that wait."""

    last_at: float | None
    events: int
    batches: int
    letters: int


def look(directory: Path) -> RestoredState | None:
    """What is in a directory that was put back, the first time that it is used then; None: nothing was. From
    here on it is known as it is now. For who has the lock."""
    restored = was_restored(directory)
    if restored:
        with suppress(OSError):
            (directory / NAME).unlink()
    with suppress(OSError):  # there already, or not to be written: then nothing is noticed next time
        _make(directory / NAME)
    if not restored:
        return None
    with closing(connect_without_trace(directory / FILE_NAME)) as connection, suppress(sqlite3.Error):
        (last_at,) = connection.execute(_LAST).fetchone()
        (events,) = connection.execute("SELECT coalesce(sum(events), 0) FROM spool").fetchone()
        (batches,) = connection.execute("SELECT count(*) FROM batches").fetchone()
        (letters,) = connection.execute("SELECT count(*) FROM letters WHERE state <> 'delivered'").fetchone()
        return RestoredState(last_at, events, batches, letters)
    return RestoredState(None, 0, 0, 0)


def was_restored(directory: Path) -> bool:
    """The same, and nothing is noted."""
    try:
        descriptor = os.open(directory / NAME, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return os.read(descriptor, 200) != _identity(descriptor)
    finally:
        os.close(descriptor)


def _make(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, _identity(descriptor))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _identity(descriptor: int) -> bytes:
    generation = bytearray(struct.calcsize("l"))
    with suppress(OSError):  # not every file system has one
        fcntl.ioctl(descriptor, _GENERATION, generation)
    return b"%d %d\n" % (os.fstat(descriptor).st_ino, struct.unpack("l", generation)[0])
