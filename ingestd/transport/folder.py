"""Files in a folder, each whole or not there at all. What ``lake/`` writes through, like ``s3.py``."""

import asyncio
import contextlib
import errno
import itertools
import os
from pathlib import Path

from ingestd.core.answer import Answer
from ingestd.core.clock import Clock, SystemClock
from ingestd.core.errors import UserError

UNFINISHED = ".unfinished"
"""Folder below the root where files are until they are whole. Its dot makes readers of lakes pass it by;
being one place, what a crash left is found without a walk over years of folders."""

_REFUSED = {errno.EACCES: 403, errno.EPERM: 403, errno.EROFS: 403, errno.ENOSPC: 507, errno.EDQUOT: 507}


_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class FolderTransport:
    """``send`` writes below ``root``: synced under another name, renamed, the folder synced.

    A file that is there already with the same bytes is answered 412, like S3 with ``If-None-Match: *``; one
    with other bytes is replaced. No room: 507; no permission: 403; other errors of the disk: 0.
    """

    def __init__(self, root: Path, *, file_mode: int = 0o600, clock: Clock | None = None) -> None:
        """``file_mode``: of files, whatever the umask; folders that are made get x where it has r."""
        self._clock = clock or SystemClock()
        self._file_mode = file_mode
        self._folder_mode = file_mode | (file_mode & 0o444) >> 2
        self.shown_url = str(root)
        self._root = root
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        """Make the folder, and remove what a crash left unfinished. Raises UserError."""
        try:
            await asyncio.to_thread(self._prepare)
        except OSError as error:
            raise UserError(f"the lake's folder {self._root} cannot be used: {_reason(error)}") from None

    def _prepare(self) -> None:
        unfinished = self._root / UNFINISHED
        self._make_folders(unfinished)
        for path in unfinished.iterdir():
            with contextlib.suppress(FileNotFoundError):  # another process may share the folder
                path.unlink()

    async def send(self, key: str, body: bytes, headers: dict[str, str]) -> tuple[Answer, int]:
        """Write ``body`` as ``key``, a relative path. (answer, 0). Never raises for an error of the disk."""
        start = self._clock.monotonic()
        status, text = await asyncio.to_thread(self._write, key, body)
        seconds = self._clock.monotonic() - start
        if status == 0:
            return Answer(0, error=text, seconds=seconds), 0
        return Answer(status, body=text.encode(), seconds=seconds), 0

    def drop_token(self, generation: int) -> None:
        """There is none."""

    async def aclose(self) -> None:
        """Nothing to close."""

    # --- in a thread ---

    def _write(self, key: str, body: bytes) -> tuple[int, str]:
        if not _is_below(key):
            return 400, "not a path below the folder"
        path = self._root / key
        try:
            if _holds(path, body):
                _sync(path.parent)  # the process may have ended between the rename and this
                return 412, "is there already"
            self._make_folders(path.parent)
            self._write_whole(path, body)
        except OSError as error:
            return _REFUSED.get(error.errno or 0, 0), f"cannot write {key}: {_reason(error)}"
        return 201, "written"

    def _write_whole(self, path: Path, body: bytes) -> None:
        unfinished = self._root / UNFINISHED
        self._make_folders(unfinished)
        temporary = unfinished / f"{os.getpid()}-{next(self._numbers)}"
        try:
            with open(os.open(temporary, _CREATE, 0o600), "wb") as file:
                file.write(body)
                file.flush()
                os.fchmod(file.fileno(), self._file_mode)
                os.fsync(file.fileno())
            temporary.rename(path)
        except OSError:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync(path.parent)

    def _make_folders(self, folder: Path) -> None:
        """Each new folder's name is on disk before anything is in it."""
        for path in reversed([path for path in (folder, *folder.parents) if not path.is_dir()]):
            path.mkdir(exist_ok=True, mode=0o700)
            path.chmod(self._folder_mode)
            _sync(path.parent)


def _is_below(key: str) -> bool:
    return bool(key) and not key.startswith("/") and "\0" not in key and ".." not in key.split("/")


def _holds(path: Path, body: bytes) -> bool:
    try:
        if path.stat().st_size != len(body):
            return False
        return path.read_bytes() == body
    except (FileNotFoundError, NotADirectoryError):
        return False


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
