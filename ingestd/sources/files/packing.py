"""What an input is packed in, told by its first bytes, and its content as one stream of bytes."""

import gzip
import io
import sys

from ingestd.core.units import human_size
from ingestd.sources.files.streams import ArchiveTooWide, Input, Stream

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

GZIP, ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_SKIPPABLE = b"\x2a\x4d\x18"
"""Behind a byte from 50 to 5F: a frame that readers pass over (RFC 8878 3.1.2). ``pzstd`` begins with one."""

MAX_WINDOW = 128 * 1024 * 1024
"""What ``zstd -d`` takes without being told to take more."""
_TOO_WIDE = "Frame requires too much memory"  # so says libzstd, and there is no code to tell it by
_HEADER_BYTES = 6
_READ_BYTES = 128 * 1024


def is_zstd(head: bytes) -> bool:
    return head.startswith(ZSTD) or (head[:1] in b"PQRSTUVWXYZ[\\]^_" and head[1:4] == _SKIPPABLE)


def is_packed(head: bytes) -> bool:
    """``head``: the first four bytes."""
    return head.startswith(GZIP) or is_zstd(head)


def inflate(raw: Input, *, max_window: int = MAX_WINDOW) -> tuple[Stream, bool]:
    """The content of ``raw``, and whether it was packed. ``max_window``: bytes of memory that a frame of zstd
    may ask for."""
    magic = raw.peek(4)
    if magic.startswith(GZIP):
        return _Gzip(raw), True
    if is_zstd(magic):
        return _Zstd(raw, max_window), True
    return _Available(raw), False


class _Gzip:
    """What came out before damage is given before the damage is told."""

    def __init__(self, raw: Input) -> None:
        archive = gzip.GzipFile(fileobj=io.BufferedReader(raw, _READ_BYTES), mode="rb")
        self.read = archive.read1  # ``read`` gathers, and loses what it has when the next bytes are broken


class _Zstd:
    """Frames one after the other, skippable ones and padding with zeros among them, as gzip's members."""

    def __init__(self, raw: Input, max_window: int) -> None:
        self._raw = raw
        self._max_window = max_window
        self._log = max(10, min(31, max_window.bit_length() - 1))
        self._frame = self._new()
        self._header = b""  # of the frame, as far as it was read
        self._next = b""  # read, and not yet given to the frame

    def read(self, size: int, /) -> bytes:
        while True:
            if self._frame.eof:
                self._next = self._frame.unused_data
                self._frame, self._header = self._new(), b""
            if self._frame.needs_input and not self._next:
                self._next = self._raw.read(_READ_BYTES) or b""
                if not self._next:
                    if self._header:
                        raise EOFError("it ends in the middle of a frame")
                    return b""
            if not self._header:
                self._next = self._next.lstrip(b"\0")
                if not self._next:
                    continue
            self._header = (self._header + self._next[:_HEADER_BYTES])[:_HEADER_BYTES]
            try:
                data = self._frame.decompress(self._next, max_length=size)
            except zstd.ZstdError as error:
                if _TOO_WIDE in str(error):
                    raise ArchiveTooWide(self._too_wide()) from None
                raise
            self._next = b""
            if data:
                return data

    def _new(self) -> zstd.ZstdDecompressor:
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: self._log})

    def _too_wide(self) -> str:
        window = _window_of(self._header)
        needs = f"a window of {human_size(window)}" if window else "a larger window"
        return (
            f"its zstd frame needs {needs} to be unpacked, and {human_size(1 << self._log)} are allowed:"
            f" --max-window {human_size(window or 1 << 31)} (or source.max_window) allows it that much memory"
        )


def _window_of(frame: bytes) -> int:
    """Bytes that the frame asks for (RFC 8878 3.1.1.1.2); 0 if it cannot be told."""
    if not frame.startswith(ZSTD) or len(frame) < 6 or frame[4] & 0x20:  # one segment: as long as its content
        return 0
    base = 1 << (10 + (frame[5] >> 3))
    return base + base // 8 * (frame[5] & 7)


class _Available:
    """Plain bytes, without waiting for more than there is: a slow producer's events go out at once."""

    def __init__(self, raw: Input) -> None:
        self._raw = raw

    def read(self, size: int, /) -> bytes:
        return self._raw.read(size) or b""
