"""A file that keeps room free: on a full disk even a DELETE fails, so something must give way first."""

import os
from pathlib import Path

NAME = "ballast"
STEP_BYTES = 1024 * 1024
LEAVE_BYTES = 2 * STEP_BYTES
"""Of what is free, left to the log: without it not even what frees pages can be written."""


class Ballast:
    """Up to ``size_bytes`` of the file system: given back by ``drop``, taken again by ``fill``, as much as
    there is room for."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self._path = path

    @property
    def held_bytes(self) -> int:
        try:
            return self._path.stat().st_size
        except OSError:
            return 0

    @property
    def leaves_room(self) -> bool:
        return free_bytes(self._path.parent) >= LEAVE_BYTES

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)

    def fill(self) -> bool:
        """Grow towards ``size_bytes``. False: it is not whole."""
        if self.held_bytes == self.size_bytes or self.size_bytes == 0:
            return True
        try:
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError:
            return False
        try:
            return self._grow(file)
        finally:
            os.close(file)

    def _grow(self, file: int) -> bool:
        held = os.fstat(file).st_size
        end = held + min(self.size_bytes - held, max(0, free_bytes(self._path.parent) - LEAVE_BYTES))
        try:
            os.ftruncate(file, min(held, self.size_bytes))  # it may have been made smaller in the settings
            while held < end:
                step = min(STEP_BYTES, end - held)
                os.posix_fallocate(file, held, step)
                held += step
        except OSError:  # a quota, or somebody was faster
            os.ftruncate(file, held)
        return held >= self.size_bytes


def free_bytes(directory: Path) -> int:
    """Of its file system, as far as this user may use them."""
    disk = os.statvfs(directory)
    return disk.f_bavail * disk.f_frsize
