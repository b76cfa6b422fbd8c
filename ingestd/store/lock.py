"""One process at a time per state directory."""

import errno
import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from ingestd.core.errors import UserError

NAME = "lock"
_LOCK_TIMEOUT_S = 1.0
"""For a directory whose file no process holds: it may be a program that only looks, as systemd-tmpfiles
does."""


class DirectoryInUse(UserError):
    """Another process has the directory: ``holder``, its number as far as it is known."""

    def __init__(self, directory: Path, holder: str) -> None:
        super().__init__(
            f"the state directory {directory} is in use by process {holder}: "
            "wait for it, or give this one another --state-dir"
        )
        self.holder = holder


class DirectoryLock:
    """Holds a directory and ``DIR/lock`` for the life of the process; the kernel lets go at any death.

    The file tells who it is, and is what other versions look at. The directory itself is locked because a
    file can be removed by a clean-up.
    """

    def __init__(self, directory: Path) -> None:
        """Creates the directory. Raises UserError when it cannot; DirectoryInUse when another has it."""
        self._path = directory / NAME
        try:
            _make(directory)
            self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                self._take(self._directory)
                self._file = self._open()
            except BaseException:
                os.close(self._directory)
                raise
        except OSError as error:
            raise UserError(f"cannot use the state directory {directory}: {error.strerror}") from None

    def look(self) -> str:
        """Make the file again if it was taken away. Gives what was done, in words; "": nothing. Raises
        OSError, UserError."""
        with suppress(FileNotFoundError):
            if os.path.samestat(os.stat(self._path), os.fstat(self._file)):
                return ""
        if not os.path.samestat(os.stat(self._path.parent), os.fstat(self._directory)):
            return ""  # all of it was moved: the store tells
        before, self._file = self._file, self._open()
        os.close(before)
        return f"{self._path} was removed or replaced while it was in use: it is made again"

    def release(self) -> None:
        os.close(self._file)
        os.close(self._directory)

    def _open(self) -> int:
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            self._take(file)
            os.ftruncate(file, 0)
            os.pwrite(file, str(os.getpid()).encode(), 0)
        except BaseException:
            os.close(file)
            raise
        return file

    def _take(self, descriptor: int) -> None:
        deadline = time.monotonic() + _LOCK_TIMEOUT_S
        while not _lock(descriptor, fcntl.LOCK_EX):
            if not _is_free(self._path) or time.monotonic() > deadline:
                raise DirectoryInUse(self._path.parent, _written_in(self._path) or "unknown")
            time.sleep(0.05)


def holder_of(directory: Path) -> str:
    """The process that has the directory, or "unknown"; empty if it is free. Changes nothing."""
    if _is_free(directory) and _is_free(directory / NAME):
        return ""
    return _written_in(directory / NAME) or "unknown"


def _is_free(path: Path) -> bool:
    """Also if it is not there."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        return _lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _lock(descriptor: int, kind: int) -> bool:
    """False: another process has it. Some network file systems lock no directories: then the file must do."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _written_in(path: Path) -> str:
    try:
        return path.read_bytes()[:32].decode("ascii", "replace").strip()
    except OSError:
        return ""


def _make(directory: Path) -> None:
    """A directory that a power cut does not take away again, with all that was acknowledged in it."""
    if directory.is_dir():
        return
    if directory.exists():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    _make(directory.parent)
    directory.mkdir(exist_ok=True, mode=0o700)
    parent = os.open(directory.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(parent)
    finally:
        os.close(parent)
