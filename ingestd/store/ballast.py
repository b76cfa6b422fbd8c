"""A file that keeps room free: on a full disk even a DELETE fails, so something must give way first."""

import os
from pathlib import Path

NAME = "ballast"


class Ballast:
    """``size_bytes`` of the file system, given back by ``drop`` and taken again by ``fill``."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self._path = path
        self._size_bytes = size_bytes

    def drop(self) -> None:
        self._path.unlink(missing_ok=True)

    def fill(self) -> bool:
        """False: there is no room for it."""
        if self._size_bytes == 0:
            return True
        try:
            if self._path.exists() and self._path.stat().st_size == self._size_bytes:
                return True
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                os.posix_fallocate(file, 0, self._size_bytes)
            finally:
                os.close(file)
        except OSError:
            self.drop()
            return False
        return True
