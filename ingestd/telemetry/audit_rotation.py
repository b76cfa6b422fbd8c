"""Reading the audit file with its rotated parts, line by line, in little memory. For ``ingestd audit``."""

import fcntl
import os
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from ingestd.core.errors import UserError
from ingestd.telemetry.audit_chain import TAIL_BYTES
from ingestd.telemetry.audit_file import lock, unlock

MAX_LINE_BYTES = 1024 * 1024
POLL_S = 0.2
COMPLETE_WITHIN_S = 2.0
_BLOCK_BYTES = 64 * 1024


class AuditLine(NamedTuple):
    """``file``: name of its part; ``number``: from 1 where reading began. ``data``: without the line break;
    of a line of over MAX_LINE_BYTES (``cut``) only the end. ``ended``: False for one without a break."""

    file: str
    number: int
    data: bytes
    ended: bool
    cut: bool


class AuditPart:
    """One file of the log, open. ``end``: read no further than that; None: all there is, whenever asked."""

    def __init__(self, path: Path) -> None:
        self.name = path.name
        self.end: int | None = None
        self._file = path.open("rb")
        self._number = 0
        self._at = 0
        self._held = b""
        self._cut = False

    @property
    def status(self) -> os.stat_result:
        return os.fstat(self._file.fileno())

    def fileno(self) -> int:
        return self._file.fileno()

    def close(self) -> None:
        self._file.close()

    def lines(self, *, unfinished: bool = True) -> Iterator[AuditLine]:
        """From where the last call ended. Not ``unfinished``: what has no line break is kept for the next."""
        while data := self._file.readline(self._read_bytes()):
            self._at += len(data)
            self._held = self._held + data if self._held else data
            if len(self._held) > MAX_LINE_BYTES:
                self._held, self._cut = self._held[-TAIL_BYTES - 1 :], True
            if data.endswith(b"\n"):
                yield self._take(self._held[:-1], ended=True)
        if self._held and unfinished:
            yield self._take(self._held, ended=False)

    def _read_bytes(self) -> int:
        return _BLOCK_BYTES if self.end is None else max(0, min(_BLOCK_BYTES, self.end - self._at))

    def _take(self, data: bytes, *, ended: bool) -> AuditLine:
        self._number += 1
        line = AuditLine(self.name, self._number, data[-TAIL_BYTES:] if self._cut else data, ended, self._cut)
        self._held, self._cut = b"", False
        return line

    def go_to_last(self, count: int) -> int:
        """Begin with the last ``count`` lines. Returns how many there are, at most ``count``."""
        size = self.status.st_size if self.end is None else self.end
        found, at = 0, size
        while at > 0 and count > 0:
            start = max(0, at - _BLOCK_BYTES)
            block = os.pread(self.fileno(), at - start, start)
            if at == size:
                found = not block.endswith(b"\n")  # a last line without a break is one too
            for index in _breaks_backwards(block):
                if found == count:
                    self._go_to(start + index + 1)
                    return count
                found += 1
            at = start
        self._go_to(size if count == 0 else 0)
        return found

    def _go_to(self, at: int) -> None:
        self._file.seek(at)
        self._at = at


def _breaks_backwards(block: bytes) -> Iterator[int]:
    index = len(block)
    while (index := block.rfind(b"\n", 0, index)) >= 0:
        yield index


@contextmanager
def open_parts(path: Path) -> Iterator[Sequence[AuditPart]]:
    """All parts, oldest first, as they are at this moment; the last one is ``path`` itself.

    What is written later is not read, unless ``end`` is taken away. Raises UserError.
    """
    with ExitStack() as stack:
        try:
            newest = _lock_newest(path)
            stack.callback(newest.close)
            parts = [*(AuditPart(older) for older in _rotated(path) if older.name != newest.name), newest]
            for part in parts[:-1]:
                stack.callback(part.close)
            for part in parts:
                part.end = part.status.st_size
            unlock(newest.fileno())
        except FileNotFoundError:
            raise UserError(
                f"there is no audit log {path}: name it, or its directory with --state-dir"
            ) from None
        except OSError as error:
            raise UserError(f"cannot read the audit log {path}: {error.strerror}") from None
        yield parts


def _lock_newest(path: Path) -> AuditPart:
    """The file at the path; nobody rotates it, or writes half a line, while the others are opened.

    For a moment of every rotation there is none, and what we waited to lock is the one before. A process that
    was killed in that moment left none: then the newest is the last that was rotated.
    """
    deadline = time.monotonic() + COMPLETE_WITHIN_S
    while True:
        patient = time.monotonic() < deadline
        try:
            newest = AuditPart(path)
        except FileNotFoundError:
            older = _rotated(path)
            if not older:
                raise
            if not patient:
                return AuditPart(older[-1])
            time.sleep(0.001)
            continue
        lock(newest.fileno(), fcntl.LOCK_SH, deadline=deadline)
        with suppress(FileNotFoundError):
            if not patient or os.path.samestat(path.stat(), newest.status):
                return newest
        newest.close()


def _rotated(path: Path) -> list[Path]:
    """``.N`` to ``.1``."""
    pattern = re.compile(re.escape(path.name) + r"\.([1-9]\d{0,4})")
    found = [(int(match[1]), name) for name in os.listdir(path.parent) if (match := pattern.fullmatch(name))]
    return [path.with_name(name) for _, name in sorted(found, reverse=True)]


def follow(path: Path, part: AuditPart) -> Iterator[AuditLine]:
    """What is added to ``part``, then to the files that take its place; never ends."""
    part.end = None
    with ExitStack() as stack:
        while True:
            yield from part.lines(unfinished=False)
            newer = _newer_than(path, part)
            if not newer:
                time.sleep(POLL_S)
                continue
            yield from part.lines()  # its last lines came before it was moved
            stack.close()
            for part in newer:
                stack.callback(part.close)
            for older in newer[:-1]:
                yield from older.lines()
            part = newer[-1]


def _newer_than(path: Path, part: AuditPart) -> list[AuditPart]:
    """Oldest first. None: ``part`` is still at the path, or nothing is yet."""
    found: list[AuditPart] = []
    for candidate in (path, *reversed(_rotated(path))):
        try:
            opened = AuditPart(candidate)
        except FileNotFoundError:
            continue
        if os.path.samestat(opened.status, part.status):
            opened.close()
            break
        found.insert(0, opened)
    return found
