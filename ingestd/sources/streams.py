"""Opening an input: whatever it is packed in, as one stream of bytes. Runs in a worker thread."""

import gzip
import hashlib
import io
import os
import select
import stat
import sys
import zlib
from pathlib import Path
from typing import Protocol

from ingestd.core.errors import UserError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BOM = b"\xef\xbb\xbf"
GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_HEAD_BYTES = 4096


_LOOK_AGAIN_S = 0.2
"""How often a read that waits for a producer looks whether it was stopped."""


class Stopped(Exception):
    """Reading was ended from outside; what was begun of an event is not an event."""


class Stream(Protocol):
    def read(self, size: int, /) -> bytes:
        """Up to ``size`` bytes; none at the end."""
        ...


class Input(io.RawIOBase):
    """A file, a pipe or standard input (``-``) as it is on disk; counts what was read of it.

    Raises UserError when it cannot be opened.
    """

    def __init__(self, path: str) -> None:
        try:
            descriptor = os.dup(0) if path == "-" else os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise UserError(f"cannot read {path}: {error.strerror}") from None
        status = os.fstat(descriptor)
        if stat.S_ISDIR(status.st_mode):
            os.close(descriptor)
            raise UserError(f"cannot read {path}: it is a directory; name its files")
        self._file = io.FileIO(descriptor, "rb")
        self.regular = stat.S_ISREG(status.st_mode)
        self.device, self.inode, self.size = status.st_dev, status.st_ino, status.st_size
        self.count = 0
        self._head = b""
        self._stopped = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        if self._head:
            got = min(len(buffer), len(self._head))
            buffer[:got], self._head = self._head[:got], self._head[got:]
            return got
        self._wait()
        got = self._file.readinto(buffer) or 0
        self.count += got
        return got

    def stop(self) -> None:
        """End a read that waits for a silent producer: it raises Stopped. From any thread."""
        self._stopped = True

    def _wait(self) -> None:
        while not self.regular:
            if self._stopped:  # also where the producer never falls silent
                raise Stopped
            if select.select([self._file], [], [], _LOOK_AGAIN_S)[0]:
                return

    def peek(self, size: int) -> bytes:
        """The first bytes, which the next read gives again. To be called before any read."""
        while len(self._head) < size:
            self._wait()
            more = self._file.read(size - len(self._head))
            if not more:
                break
            self._head += more
            self.count += len(more)
        return self._head

    def jump(self, position: int) -> None:
        self._head = b""
        self.count = self._file.seek(position)

    def close(self) -> None:
        self._file.close()
        super().close()


class Pieces:
    """A stream whose first bytes can be looked at, and whose trouble is an early end.

    ``trouble``: why the stream ended before its end, or empty; ``cut_off`` says that it did, so that
    the beginning of an event that never came whole is not taken for one.
    """

    def __init__(self, stream: Stream) -> None:
        self.trouble = ""
        self.cut_off = False
        self._stream = stream
        self._head = b""

    def peek(self) -> bytes:
        """Enough to tell the format: past a BOM and leading white space, at most 4 KiB."""
        while len(self._head) < _HEAD_BYTES and not self._head.removeprefix(BOM).strip():
            more = self._guarded(_HEAD_BYTES - len(self._head))
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
                self.cut_off = True
                self.trouble = self.trouble or "it is shorter than it was when it was read before"
                return
            count -= got

    def _guarded(self, size: int) -> bytes:
        if self.cut_off:
            return b""
        try:
            return self._stream.read(size)
        except Stopped:
            pass
        except (EOFError, zlib.error, gzip.BadGzipFile, zstd.ZstdError) as error:
            self.trouble = f"the archive is damaged or cut off: {error}"
        except OSError as error:
            self.trouble = f"reading failed: {error.strerror or error}"
        self.cut_off = True
        return b""


def inflate(raw: Input) -> tuple[Stream, bool]:
    """The content of ``raw``, told by its magic number and not by its name; whether it was packed."""
    magic = raw.peek(4)
    if magic.startswith(GZIP):
        return _Packed(gzip.GzipFile(fileobj=io.BufferedReader(raw, 128 * 1024), mode="rb")), True
    if magic.startswith(ZSTD):
        return _Packed(zstd.ZstdFile(io.BufferedReader(raw, 128 * 1024), "rb")), True
    return _Available(raw), False


class _Packed:
    """An archive's content; what came out before the damage is given before the damage is told."""

    def __init__(self, archive: gzip.GzipFile | zstd.ZstdFile) -> None:
        self.read = archive.read1  # ``read`` gathers, and loses what it has when the next bytes are broken


class _Available:
    """Plain bytes, without waiting for more than there is: a slow producer's events go out at once."""

    def __init__(self, raw: Input) -> None:
        self._raw = raw

    def read(self, size: int, /) -> bytes:
        return self._raw.read(size) or b""


def fingerprint(path: str, length: int = _HEAD_BYTES) -> tuple[bytes, int]:
    """(digest of the file's first ``length`` bytes, how many there were).

    With device and inode it tells a file from another that was given the same name or inode.
    """
    with Path(path).open("rb") as file:
        head = file.read(length)
    return hashlib.blake2b(head, digest_size=16).digest(), len(head)
