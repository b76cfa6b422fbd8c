"""The disk under a lake's folder: real files, of which a power cut leaves what was synced."""

import errno
import hashlib
import json
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from ingestd.lake.file_format import MANIFEST_PREFIX, MANIFEST_SUFFIX
from ingestd.simulation.trace import Violation
from ingestd.transport.file_system import FileSystem

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


class _NameChange(NamedTuple):
    """``source`` None: ``target`` is new. ``target`` None: ``source`` is removed."""

    source: Path | None
    target: Path | None

    def is_in(self, folder: Path) -> bool:
        return any(path is not None and path.parent == folder for path in self)


class FolderDisk(FileSystem):
    """``before``: called before each change with the bytes that it adds; raises OSError where there is no
    room, or no process any more.

    Names reach the disk in their order, as a journal writes them; of a file that was not synced any part
    does.
    """

    def __init__(self, root: Path, seed: int, before: Callable[[int], None]) -> None:
        self.root = root
        self._before, self._rng = before, random.Random(seed)
        self._unsynced: dict[Path, int] = {}  # inode by the path that it has now
        self._names: list[_NameChange] = []

    def lines(self) -> Iterator[bytes]:
        """Of all files that have a manifest: a reader of a lake goes by these. Raises Violation for a file
        that is not what its manifest says."""
        for listed in sorted(self.root.rglob(f"{MANIFEST_PREFIX}*{MANIFEST_SUFFIX}")):
            name = listed.relative_to(self.root)
            try:
                manifest = json.loads(listed.read_bytes())
                body = (self.root / manifest["name"]).read_bytes()
            except (ValueError, FileNotFoundError) as error:
                raise Violation(f"{name} lists a file that cannot be read: {error}") from None
            if hashlib.sha256(body).hexdigest() != manifest["sha256"]:
                raise Violation(f"{name} lists a file that is another one")
            yield from zstd.decompress(body).splitlines()

    # --- the process writes ---

    def make_folder(self, folder: Path, mode: int) -> None:
        self._before(0)
        if folder.is_dir():
            return
        super().make_folder(folder, mode)
        self._names.append(_NameChange(None, folder))

    def create(self, path: Path, body: bytes, mode: int) -> None:
        self._before(len(body))
        super().create(path, body, mode)
        self._names.append(_NameChange(None, path))
        self._unsynced[path] = len(body)

    def sync_file(self, path: Path) -> None:
        self._before(0)
        self._unsynced.pop(path, None)

    def rename(self, path: Path, target: Path) -> None:
        self._before(0)
        super().rename(path, target)
        self._names.append(_NameChange(path, target))
        if path in self._unsynced:
            self._unsynced[target] = self._unsynced.pop(path)

    def sync_folder(self, folder: Path) -> None:
        self._before(0)
        self._names = [change for change in self._names if not change.is_in(folder)]

    def remove(self, path: Path) -> None:
        self._before(0)
        super().remove(path)  # that it comes back is nobody's loss: it was unfinished
        self._unsynced.pop(path, None)

    # --- the power goes ---

    def cut(self) -> None:
        """The folder is as the next process finds it."""
        rng = self._rng
        for path, size in self._unsynced.items():
            if path.exists():
                kept = rng.choice((0, rng.randrange(size + 1), size))
                body = path.read_bytes()[:kept]
                path.write_bytes(rng.choice((body, body + bytes(size - kept))))
        lost = rng.randrange(len(self._names) + 1)
        for change in reversed(self._names[len(self._names) - lost :]):
            self._undo(change)
        self._names.clear()
        self._unsynced.clear()

    def _undo(self, change: _NameChange) -> None:
        source, target = change
        if target is None or not target.exists():
            return
        if source is None:
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        elif source.parent.is_dir():
            target.rename(source)
        else:
            target.unlink()


def no_room() -> OSError:
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_process() -> OSError:
    return OSError(errno.EIO, os.strerror(errno.EIO))
