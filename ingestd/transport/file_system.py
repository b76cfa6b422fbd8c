"""The steps in which a file comes to a folder. A simulation has its own, which remembers what was synced."""

import os
from pathlib import Path

_CREATE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC


class FileSystem:
    """All of them raise OSError. Nothing is on disk for good before it is synced: a file's bytes by
    ``sync_file``, its name and a rename by ``sync_folder`` of the folder that it is in."""

    def make_folder(self, folder: Path, mode: int) -> None:
        """``mode``: its permissions, whatever the umask."""
        folder.mkdir(exist_ok=True, mode=0o700)
        folder.chmod(mode)

    def create(self, path: Path, body: bytes, mode: int) -> None:
        """A new file. ``mode``: its permissions, whatever the umask."""
        with open(os.open(path, _CREATE, 0o600), "wb") as file:
            file.write(body)
            file.flush()
            os.fchmod(file.fileno(), mode)

    def sync_file(self, path: Path) -> None:
        _sync(path, os.O_RDONLY)

    def rename(self, path: Path, target: Path) -> None:
        path.rename(target)

    def sync_folder(self, folder: Path) -> None:
        _sync(folder, os.O_RDONLY | os.O_DIRECTORY)

    def remove(self, path: Path) -> None:
        path.unlink(missing_ok=True)


def _sync(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
