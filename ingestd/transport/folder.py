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
from ingestd.transport.file_system import FileSystem

UNFINISHED = ".unfinished"
"""Folder below the root where files are until they are whole. Its dot makes readers of lakes pass it by;
being one place, what a crash left is found without a walk over years of folders."""

_REFUSED = {errno.EACCES: 403, errno.EPERM: 403, errno.EROFS: 403, errno.ENOSPC: 507, errno.EDQUOT: 507}

_MAX_SYNCED = 10_000


class FolderTransport:
    """``send`` writes below ``root``: synced under another name, renamed, the folder synced.

    A file that is there already with the same bytes is answered 412, like S3 with ``If-None-Match: *``; one
    with other bytes is replaced. No room: 507; no permission: 403; other errors of the disk: 0.
    """

    def __init__(
        self,
        root: Path,
        *,
        file_mode: int = 0o600,
        clock: Clock | None = None,
        file_system: FileSystem | None = None,
    ) -> None:
        """``file_mode``: of files, whatever the umask; folders that are made get x where it has r."""
        self._clock = clock or SystemClock()
        self._files = file_system or FileSystem()
        self._file_mode = file_mode
        self._folder_mode = file_mode | (file_mode & 0o444) >> 2
        self.shown_url = str(root)
        self._root = root
        self._numbers = itertools.count(1)
        self._synced: set[Path] = set()  # folders whose names are on disk, as far as this process knows

    async def open(self) -> None:
        """Make the folder, and remove what a crash left unfinished. Raises UserError."""
        try:
            await asyncio.to_thread(self._prepare)
        except OSError as error:
            raise UserError(f"the lake's folder {self._root} cannot be used: {_reason(error)}") from None

    def _prepare(self) -> None:
        unfinished = self._root / UNFINISHED
        self._make_folders(unfinished)
        for path in unfinished.iterdir():  # another process may share the folder, and remove them too
            self._files.remove(path)

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
                self._files.sync_folder(path.parent)  # the process may have ended between the rename and this
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
            self._files.create(temporary, body, self._file_mode)
            self._files.sync_file(temporary)
            self._files.rename(temporary, path)
        except OSError:
            with contextlib.suppress(OSError):
                self._files.remove(temporary)
            raise
        self._files.sync_folder(path.parent)

    def _make_folders(self, folder: Path) -> None:
        """Each folder's name is on disk before anything is in it. One that is there already may be from a
        process that ended before it had synced that; the root's own parent may be closed to us."""
        for path in reversed([folder, *folder.parents]):
            is_there = path.is_dir()
            if is_there and (path in self._synced or self._root not in path.parents):
                continue
            if not is_there:
                self._files.make_folder(path, self._folder_mode)
            self._files.sync_folder(path.parent)
            if len(self._synced) >= _MAX_SYNCED:
                self._synced.clear()
            self._synced.add(path)


def _is_below(key: str) -> bool:
    return bool(key) and not key.startswith("/") and "\0" not in key and ".." not in key.split("/")


def _holds(path: Path, body: bytes) -> bool:
    try:
        if path.stat().st_size != len(body):
            return False
        return path.read_bytes() == body
    except (FileNotFoundError, NotADirectoryError):
        return False


def _reason(error: OSError) -> str:
    return error.strerror or type(error).__name__
