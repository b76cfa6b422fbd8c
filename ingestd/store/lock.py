"""One process at a time per state directory."""

import errno
import fcntl
import os
from pathlib import Path

from ingestd.core.errors import UserError


class DirectoryInUse(UserError):
    """Another process has the directory: ``holder``, its number as far as it is known."""

    def __init__(self, directory: Path, holder: str) -> None:
        super().__init__(
            f"the state directory {directory} is in use by process {holder}: "
            "wait for it, or give this one another --state-dir"
        )
        self.holder = holder


class DirectoryLock:
    """Holds ``DIR/lock`` for the life of the process; the kernel lets go of it at any death."""

    def __init__(self, directory: Path) -> None:
        """Creates the directory. Raises UserError when it cannot; DirectoryInUse when another has it."""
        try:
            _make(directory)
            self._file = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UserError(f"cannot use the state directory {directory}: {error.strerror}") from None
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            holder = os.pread(self._file, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(self._file)
            raise DirectoryInUse(directory, holder) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, str(os.getpid()).encode(), 0)

    def release(self) -> None:
        os.close(self._file)


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
