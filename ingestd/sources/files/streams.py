"""An input as a stream of bytes, and what tells a file from another. Runs in a worker thread."""

import asyncio
import io
import os
import select
import stat
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Protocol, TypeVar

from ingestd.core.chunk import MARK_BYTES, digest, last_bytes
from ingestd.core.errors import UserError
from ingestd.core.text import printable
from ingestd.sources.files.zstd_frames import ArchiveTooWide, import_zstd

T = TypeVar("T")
BOM = b"\xef\xbb\xbf"

_LOOK_AGAIN_S = 0.2
"""How often a read that waits for a producer looks whether it was stopped."""


async def in_thread(work: Callable[[], T]) -> T:
    """A cancelled wait ends with the work, not before it: its file is closed then."""
    working = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(working)
    finally:
        while not working.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([working])


class ReadingStopped(Exception):
    """Reading was ended from outside; what was begun of an event is not an event."""


class Stream(Protocol):
    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        ...


class Input(io.RawIOBase):
    """A file, a pipe or standard input (``-``) as it is on disk; counts what was read of it, of which
    ``last`` are the last bytes, 4 KiB at most.

    ``descriptor``: of the file, open already, whatever its name is by now. Raises UserError when it cannot be
    opened.
    """

    def __init__(self, path: str, descriptor: int | None = None) -> None:
        try:
            if descriptor is None:
                descriptor = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"cannot read {shown_path(path)}: {error.strerror}") from None
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            os.close(descriptor)
            raise UserError(f"cannot read {shown_path(path)}: it is a directory; name its files")
        self._file = io.FileIO(descriptor, "rb")
        self.regular = stat.S_ISREG(status.st_mode)
        self.device, self.inode, self.size = status.st_dev, status.st_ino, status.st_size
        self.count = 0
        self.last = b""
        self._head = b""
        self._stopped = False

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        """What there is, up to ``size`` bytes: once, where the base class would copy it twice."""
        if self._head or size < 0:
            return super().read(size) or b""
        self._wait()
        data = self._file.read(size) or b""
        self.count += len(data)
        self.last = last_bytes(self.last, data)
        return data

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._head:
            got = min(len(buffer), len(self._head))
            buffer[:got], self._head = self._head[:got], self._head[got:]
            return got
        self._wait()
        got = self._file.readinto(buffer) or 0
        self.count += got
        self.last = last_bytes(self.last, buffer[:got])
        return got

    def stop(self) -> None:
        """End a read that waits for a silent producer: it raises Stopped. From any thread."""
        self._stopped = True

    def _wait(self) -> None:
        while not self.regular:
            if self._stopped:  # also where the producer never falls silent
                raise ReadingStopped
            if select.select([self._file], [], [], _LOOK_AGAIN_S)[0]:
                return

    def peek(self, size: int) -> bytes:
        """The first bytes, which the next read gives again: ``size`` at least, if there are so many. To be
        called before any read."""
        while len(self._head) < size:
            self._wait()
            more = self._file.read(MARK_BYTES - len(self._head))  # of a pipe what there is, without waiting
            if not more:
                break
            self._head += more
            self.count += len(more)
            self.last = last_bytes(self.last, more)
        return self._head

    def reopened(self) -> BinaryIO:
        """The same file, for a reader that has to seek in it. Nothing may be read here afterwards."""
        return os.fdopen(os.dup(self._file.fileno()), "rb", 0)

    def jump(self, position: int) -> None:
        self._head = self.last = b""
        self.count = self._file.seek(position)

    def back(self, count: int) -> None:
        """The last ``count`` bytes are read again: of a regular file, as it is on disk."""
        self.jump(self.count - count)

    def close(self) -> None:
        if "_file" in vars(self):  # Python closes what could not be opened, too, and tells errors since 3.13
            self._file.close()
        super().close()


class PeekableStream:
    """A stream whose first bytes can be looked at, and whose trouble is an early end.

    ``problem``: why the stream ended before its end, or empty; ``cut_off`` says that it did, so that
    the beginning of an event that never came whole is not taken for one.
    """

    def __init__(self, stream: Stream, before: "PeekableStream | None" = None) -> None:
        self._before = before  # where the stream is made of another's pieces, whose trouble is its own
        self._problem = ""
        self._cut_off = False
        self._stream = stream
        self._head = b""

    @property
    def problem(self) -> str:
        return self._problem or (self._before.problem if self._before else "")

    @property
    def cut_off(self) -> bool:
        return self._cut_off or (self._before is not None and self._before.cut_off)

    def peek(self) -> bytes:
        """Enough to tell the format: past a BOM and leading white space, at most 4 KiB."""
        while len(self._head) < MARK_BYTES and not self._head.removeprefix(BOM).strip():
            more = self._guarded(MARK_BYTES - len(self._head))
            if not more:
                break
            self._head += more
        return self._head

    def read(self, size: int, /) -> bytes:
        if self._head:
            head, self._head = self._head[:size], self._head[size:]
            return head
        return self._guarded(size)

    def discard(self, count: int) -> None:
        while count > 0:
            got = len(self.read(min(count, 1024 * 1024)))
            if not got:
                self._cut_off = True
                self._problem = self._problem or "it is shorter than it was when it was read before"
                return
            count -= got

    def _guarded(self, size: int) -> bytes:
        if self._cut_off:
            return b""
        try:
            return self._stream.read(size)
        except ReadingStopped:
            pass
        except ArchiveTooWide as error:
            self._problem = str(error)
        except _damages() as error:
            self._problem = f"the archive is damaged or cut off: {error}"
        except OSError as error:
            self._problem = f"reading failed: {error.strerror or error}"
        self._cut_off = True
        return b""


def fingerprint(path: str, length: int = MARK_BYTES, *, start: int = 0) -> tuple[bytes, int]:
    """(digest of up to ``length`` bytes of the file from ``start``, how many there were).

    Its head, and what stands before the place where reading ended, with device and inode tell a file from
    another that was given the same name or inode, or was written over it.
    """
    with Path(path).open("rb") as file:
        file.seek(start)
        data = file.read(length)
    return digest(data), len(data)


def shown_path(path: str) -> str:
    """A file's name for people and for tables: bytes that are not UTF-8, and control characters, escaped."""
    return printable(os.fsencode(path).decode("utf-8", "backslashreplace"))


def _damages() -> tuple[type[Exception], ...]:
    """What a damaged archive raises."""
    from gzip import BadGzipFile

    return (EOFError, zlib.error, BadGzipFile, import_zstd().ZstdError)


class PlainStream:
    """Plain bytes, without waiting for more than there is: a slow producer's events go out at once."""

    def __init__(self, raw: Input) -> None:
        self._raw = raw

    def read(self, size: int, /) -> bytes:
        return self._raw.read(size) or b""
