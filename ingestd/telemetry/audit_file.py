"""The audit file: one JSON line per lifecycle event, chained by hashes, rotated by size."""

import fcntl
import os
import stat
import time
from contextlib import suppress
from copy import copy
from pathlib import Path

from ingestd.core.errors import UserError
from ingestd.telemetry.audit_chain import NOTHING, TAIL_BYTES, AuditKey, ChainEnd, hash_of
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.instruments import AuditBuffer

BUFFER_BYTES = 64 * 1024
MAX_HELD_BYTES = 1024 * 1024
"""Of lines that cannot be written now; what comes after them is only counted."""
LOCK_TIMEOUT_S = 0.5
"""Longest wait for the lock, which is held for some 50 us. Past it we write all the same, and do not wait
again while that lasts: better a line of which ``audit verify`` complains than none, or a service that
waits."""


class AuditLog(AuditBuffer):
    """Appends lines; past ``max_bytes`` the file becomes ``.1``, and so on up to ``.keep``.

    Several processes may write to one file. Lines are buffered and reach it at every ``flush`` (about once a
    second) and at ``close``: whole lines, in one write, under the file's lock, behind whatever stands there
    then. Raises UserError when the file cannot be opened. A failing write later is reported in ``problem``
    until one succeeds: every ``flush`` tries again, what was to be written is kept up to ``max_held_bytes``,
    and a line AUDIT_RESUMED tells since when, and how many lines are missing. ``key``: of the chain; without
    one anyone can forge it.
    """

    def __init__(
        self,
        path: Path,
        *,
        max_bytes: int = 100_000_000,
        keep: int = 5,
        key: AuditKey | None = None,
        max_held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        super().__init__(max_held_bytes)
        self.path = path
        self._since = ""
        self._locked = False
        self._max_bytes = max_bytes
        self._keep = keep
        self._chain = ChainEnd(key)
        self._file = -1
        self._lock_timeout_s = LOCK_TIMEOUT_S
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._open()
        except OSError as error:
            raise UserError(f"cannot write the audit log {path}: {error.strerror}") from None

    def flush(self) -> None:
        if self._closed or not (self._bodies or self._lines or self.problem):
            return
        self._write_out()
        try:
            if self.problem:
                self._begin_again()
            if self._is_file:
                self._lock_current()
            self._append()
            if self._is_file and self._end >= self._max_bytes:
                self._rotate()
            elif self._is_file:
                unlock(self._file)
        except OSError as error:
            self._fail(error)
        else:
            self.problem, self._since = "", ""

    def _begin_again(self) -> None:
        """The disk may have room again, the directory may be there again."""
        self._open()
        if self._is_file and os.fstat(self._file).st_size >= self._max_bytes:
            self._lock_current()
            self._rotate()

    def close(self) -> None:
        self.flush()
        self._closed = True
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> None:
        """The file at the path, which may be another than before. Readable: lines link to those before."""
        before, self._file = self._file, -1
        if before >= 0:
            os.close(before)
        self._file = os.open(self.path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._is_file = stat.S_ISREG(os.fstat(self._file).st_mode)  # /dev/stderr is welcome too
        self._end = -1  # where our last line ends: nowhere in this file yet
        self._set_room(os.fstat(self._file).st_size)

    def _set_room(self, size_bytes: int) -> None:
        self._room = min(BUFFER_BYTES, self._max_bytes - size_bytes)

    def _lock_current(self) -> None:
        """Alone with the file at the path: another process may have rotated, a person may have moved it."""
        deadline = time.monotonic() + self._lock_timeout_s
        while True:
            locked = lock(self._file, fcntl.LOCK_EX, deadline=deadline)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.stat(self.path), os.fstat(self._file)):
                    break
            self._open()
            if time.monotonic() > deadline:
                locked = False
                break
        self._locked, self._lock_timeout_s = locked, LOCK_TIMEOUT_S if locked else 0.0

    def _append(self) -> None:
        bodies, chain = self._bodies, copy(self._chain)
        if self._since:
            gap = self._body(AuditEntry.AUDIT_RESUMED, {"since": self._since, "missing": self._missing})
            bodies = [*bodies, gap]
        size, after, torn = 0, NOTHING if self._end < 0 else None, False
        if self._is_file and (size := os.fstat(self._file).st_size) != self._end:
            after, torn = self._look_back(size)
        data = self._chain.extend(bodies, after=after)
        data = b"\n" + data if torn else data
        written = 0
        try:
            while written < len(data):
                written += os.write(self._file, memoryview(data)[written:])
        except OSError:
            self._chain = chain
            self._take_back(bodies, size, data[:written], after=after, torn=torn)
            raise
        self._end = size + len(data)
        self._bodies, self._waiting_bytes, self._missing, self._since = [], 0, 0, ""
        self._set_room(self._end if self._is_file else 0)

    def _take_back(
        self, bodies: list[bytes], size: int, written: bytes, *, after: bytes | None, torn: bool
    ) -> None:
        """Of a write that failed in the middle: if it cannot be undone, its whole lines count as written."""
        if written and self._is_file and self._locked:
            with suppress(OSError):
                os.ftruncate(self._file, size)
                return
        if (whole := written.count(b"\n") - torn) > 0:
            self._chain.extend(bodies[:whole], after=after)
            del self._bodies[:whole]

    def _look_back(self, size: int) -> tuple[bytes, bool]:
        """(the hash of the last line there is, whether it lacks its end: its writer died in the middle)."""
        if size == 0:
            try:
                data = _read_tail(self._numbered(1))
            except FileNotFoundError:
                return NOTHING, False
        else:
            data = os.pread(self._file, TAIL_BYTES + 1, max(0, size - TAIL_BYTES - 1))
        return hash_of(data.removesuffix(b"\n").rpartition(b"\n")[2]), size > 0 and not data.endswith(b"\n")

    def _rotate(self) -> None:
        count = 0
        while count < self._keep - 1 and self._numbered(count + 1).exists():
            count += 1
        for number in range(count, 0, -1):
            self._numbered(number).replace(self._numbered(number + 1))
        self.path.replace(self._numbered(1))
        self._open()  # this ends the lock on the old one: a process that waits for it looks at the path again

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    def _fail(self, error: OSError) -> None:
        self._since = self._since or self._now()
        self.problem = f"the audit log {self.path} cannot be written: {error.strerror}; it is tried again"
        file, self._file = self._file, -1
        if file >= 0:
            with suppress(OSError):
                os.close(file)


def lock(file: int, kind: int, *, deadline: float) -> bool:
    """``kind``: ``fcntl.LOCK_EX`` or ``LOCK_SH``. False: not by then, or not on this file system."""
    while True:
        try:
            fcntl.flock(file, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > deadline:
                return False
            time.sleep(0.0005)
        except OSError:
            return False
        else:
            return True


def unlock(file: int) -> None:
    with suppress(OSError):
        fcntl.flock(file, fcntl.LOCK_UN)


def _read_tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - TAIL_BYTES - 1))
        return file.read(TAIL_BYTES + 1)


def last_hash(path: Path) -> bytes:
    """What a line at the end of this log would name as the one before it."""
    for part in (path, path.with_name(f"{path.name}.1")):
        if part.is_file() and (data := _read_tail(part)):
            return hash_of(data.removesuffix(b"\n").rpartition(b"\n")[2])
    return NOTHING
