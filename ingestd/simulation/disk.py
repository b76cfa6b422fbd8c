"""The disk under the state file: what was synced is there after a power cut; of what was not, any subset is,
torn at sectors. It can be full, and it can end the process at any write, truncate or sync. It holds the
lake's folder and the audit file, too."""

import os
import random
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from itertools import chain
from pathlib import Path

from ingestd.simulation.audit_disk import AuditDisk
from ingestd.simulation.folder_disk import FolderDisk, no_process, no_room
from ingestd.simulation.loop import VirtualLoop
from ingestd.simulation.sqlite_vfs import FULL, IOERR_WRITE, Operation, SqliteDisk
from ingestd.store.connection import FILE_NAME, MARK_NAME
from ingestd.store.writer import CommitGroup, End, Pause, Steps

_SECTOR_BYTES = 512
LOG_NAME = f"{FILE_NAME}-wal"
_MAX_PENDING = 64
"""For a file that is never synced: the kernel writes it in the end."""


class Disk:
    """One directory, which is another one after each crash. ``content``: of the state file at first; empty:
    there is none."""

    def __init__(self, root: Path, sqlite: SqliteDisk, seed: int, content: bytes) -> None:
        self.full = False
        self.operations = 0
        self._crash_at: int | None = None
        self._on_crash: Callable[[], None] = lambda: None
        self.directory = root / "0"
        self._root, self._sqlite, self._rng = root, sqlite, random.Random(seed)
        self._number = 0
        self._dead = False
        self._pending = defaultdict[str, list[Operation]](list)
        self._synced = {FILE_NAME: bytearray(content)} if content else {}
        self._make_directory(self._synced)
        self.audit = AuditDisk(root / "audit", seed)
        self.lake = FolderDisk(root / "lake", seed, self._before_lake)

    def close(self) -> None:
        self._sqlite.listeners.pop(str(self.directory), None)

    # --- the process writes ---

    def before(self, operation: Operation) -> int:
        """SQLite's code for an error, or 0. Not for writes."""
        if self._dead:
            return 0  # its directory is nobody's any more
        self.operations += 1
        if self.operations == self._crash_at:
            self._on_crash()
            return IOERR_WRITE
        self._note(operation)
        return 0

    def before_write(self, name: str, offset: int, data: bytes) -> int:
        """Most of what happens to a disk."""
        if self._dead:
            return 0
        self.operations += 1
        if self.operations == self._crash_at:
            self._on_crash()
            return IOERR_WRITE
        end = offset + len(data)
        if end > self._sizes[name]:
            if self.full:
                return FULL
            self._sizes[name] = end
        self._pending[name].append(Operation(name, "write", offset, data))
        return 0

    def _before_lake(self, bytes_more: int) -> None:
        """Raises OSError."""
        self.operations += not self._dead
        if not self._dead and self.operations == self._crash_at:
            self._on_crash()
        if self._dead:
            raise no_process()
        if self.full and bytes_more:
            raise no_room()

    def crash_after(self, operations: int, crash: Callable[[], None]) -> None:
        """``crash`` is called when the process has ended; nothing that it does afterwards has an effect."""
        self._crash_at, self._on_crash = self.operations + 1 + operations, crash

    def write_mark(self, file: int, data: bytes, offset: int) -> int:
        self.before_write(MARK_NAME, offset, data)
        unsynced = self._pending.get(MARK_NAME, [])
        if len(unsynced) > _MAX_PENDING:
            change(self._synced, MARK_NAME, unsynced.pop(0))
        return os.pwrite(file, data, offset)

    def _note(self, operation: Operation) -> None:
        name, kind = operation.name, operation.kind
        if kind == "sync":
            for pending in self._pending.pop(name, ()):
                change(self._synced, name, pending)
        elif kind == "sync_names":
            self._delete_for_good()
        else:
            self._sizes[name] = operation.offset
            self._pending[name].append(operation)

    def _delete_for_good(self) -> None:
        for name, operations in self._pending.items():
            kinds = [operation.kind for operation in operations]
            if "delete" in kinds:
                self._synced.pop(name, None)
                del operations[: len(kinds) - kinds[::-1].index("delete")]

    # --- between two lives ---

    def end_life(self, *, power_cut: bool) -> None:
        """From now on the directory is what is left for the next process."""
        self.audit.end_life(power_cut=power_cut)
        if power_cut:
            self._synced = after_cut(self._synced, self._pending, self._rng)
            self._pending.clear()
            files = self._synced
            self.lake.cut()
        else:
            files = {name: bytearray(data) for name, data in self._synced.items()}
            for name, operations in self._pending.items():
                for operation in operations:
                    change(files, name, operation)
        self._sqlite.listeners.pop(str(self.directory))
        self._number += 1
        self.directory = self._root / str(self._number)
        self._make_directory(files)
        self._dead, self._crash_at = True, None

    def _make_directory(self, files: Mapping[str, bytearray]) -> None:
        self.directory.mkdir(mode=0o700)
        for name, content in files.items():
            (self.directory / name).write_bytes(content)
        self._sizes = defaultdict(int, {name: len(content) for name, content in files.items()})
        self._sqlite.listeners[str(self.directory)] = self

    def begin_life(self) -> None:
        """The one before has let go of everything."""
        self._dead = False
        self.audit.begin_life()
        with suppress(FileNotFoundError):
            shutil.rmtree(self._root / str(self._number - 1))

    @property
    def log_bytes(self) -> int:
        """What the next life may have to recover: commits of one that did not end by itself."""
        log = self.directory / LOG_NAME
        return log.stat().st_size if log.exists() else 0


def after_cut(
    synced: Mapping[str, bytes | bytearray], pending: Mapping[str, Iterable[Operation]], rng: random.Random
) -> dict[str, bytearray]:
    """What a power cut leaves: file name -> content. Of what was not synced any sectors are there."""
    files = {name: bytearray(data) for name, data in synced.items()}
    for name, operations in pending.items():
        whole = rng.choice((0.0, 0.5, 0.9, 1.0))
        for sector in chain.from_iterable(map(_sectors, operations)):
            if rng.random() < whole:
                change(files, name, sector)
    return files


def change(files: dict[str, bytearray], name: str, operation: Operation) -> None:
    """A write, truncate or delete, done to what the disk holds: file name -> content."""
    kind, offset, data = operation[1:]
    if kind == "delete":
        files.pop(name, None)
        return
    content = files.setdefault(name, bytearray())
    if kind == "truncate":
        del content[offset:]
        content.extend(bytes(offset - len(content)))
    else:
        content.extend(bytes(max(0, offset - len(content))))
        content[offset : offset + len(data)] = data


def _sectors(operation: Operation) -> Iterator[Operation]:
    """The parts of a write that reach the disk each on its own."""
    if operation.kind != "write":
        yield operation
        return
    done, data = 0, operation.data
    while done < len(data):
        offset = operation.offset + done
        size = _SECTOR_BYTES - offset % _SECTOR_BYTES
        yield operation._replace(offset=offset, data=data[done : done + size])
        done += size


class SimulatedHost:
    """The writer's thread as timers of the loop: a ``WriterHost``. What is done between two pauses is done in
    one go; ``delay`` says how long the disk takes before it."""

    def __init__(self, loop: VirtualLoop, disk: Disk, delay: Callable[[], float]) -> None:
        self._loop, self._disk, self._delay = loop, disk, delay
        self._jobs: list[CommitGroup | End] = []
        self._ending = False
        self._pause: Pause | None = None  # None: it is at work, or has ended
        self._timer: object = None
        self._steps: Steps
        self._ended = loop.create_future()

    def monotonic(self) -> float:
        return self._loop.now

    def pwrite(self, file: int, data: bytes, offset: int, /) -> int:
        return self._disk.write_mark(file, data, offset)

    def start(self, steps: Steps) -> None:
        self._steps = steps
        self._loop.call_later(self._delay(), self._go, None)

    def put(self, group: CommitGroup) -> None:
        self._jobs.append(group)
        self._take()

    def end(self, *, now: bool) -> None:
        self._ending = True
        if not now:
            self._jobs.append(End())
        self._take()

    async def ended(self) -> None:
        await self._ended

    def _take(self) -> None:
        """What the pause was for is there."""
        if self._pause is None or not (self._ending if self._pause.stuck else self._jobs):
            return
        job = End() if self._pause.stuck else self._jobs.pop(0)
        self._pause = None
        self._timer.cancel()  # type: ignore[attr-defined]
        self._loop.call_later(self._delay(), self._go, job)

    def _go(self, job: CommitGroup | End | None) -> None:
        if self._loop.dead:
            return
        try:
            pause = self._steps.send(job)
        except StopIteration:
            self._pause = None
            if not self._ended.done():
                self._ended.set_result(None)
            return
        self._pause = pause
        # a thread that has nothing to do may sleep longer than it wanted
        lazy = 1 if pause.stuck or self._disk.full or pause.seconds < 0.1 else 20
        self._timer = self._loop.call_later(pause.seconds * lazy, self._over)
        self._take()

    def _over(self) -> None:
        self._pause = None
        self._go(None)
