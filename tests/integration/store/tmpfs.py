"""A file system of a few megabytes, to be filled, and the wait for a store that can be written again."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import pytest

from ingestd.store.database import Database
from tests.machine import patience

MNT_DETACH = 2  # as soon as no file of it is open
MS_RDONLY, MS_REMOUNT = 1, 32


@contextmanager
def small_disk(directory: Path, *, megabytes: int) -> Iterator[Path]:
    """A tmpfs. Skips the test where it may not be mounted."""
    directory.mkdir()
    libc, where = ctypes.CDLL(None, use_errno=True), os.fsencode(directory)
    if libc.mount(b"tmpfs", where, b"tmpfs", 0, f"size={megabytes}m".encode()):
        pytest.skip(f"no file system can be mounted here: {os.strerror(ctypes.get_errno())}")
    try:
        yield directory
    finally:
        assert not libc.umount2(where, MNT_DETACH)


def make_read_only(disk: Path) -> None:
    """A ``small_disk``, from now on."""
    libc, where = ctypes.CDLL(None, use_errno=True), os.fsencode(disk)
    if libc.mount(b"tmpfs", where, b"tmpfs", MS_REMOUNT | MS_RDONLY, None):
        raise OSError(ctypes.get_errno(), "cannot make it read-only", str(disk))


def fill(directory: Path) -> Path:
    """Take all room that is left. Gives the file to delete when there is to be room again."""
    path, block = directory / "filler", bytes(256 * 1024)
    with path.open("wb", buffering=0) as file:
        try:
            while file.write(block):
                pass
        except OSError:
            return path
    raise AssertionError("the disk has no end")


async def until_unblocked(database: Database) -> None:
    with anyio.fail_after(patience(10)):
        while database.blocked:  # noqa: ASYNC110 - nothing tells when a store can be written again
            await anyio.sleep(0.02)
