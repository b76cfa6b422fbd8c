"""Compressed inputs: what is packed, and its content as a stream."""

import io
from typing import Any

from ingestd.core.units import human_size
from ingestd.sources.files.streams import Input, PlainStream, Stream
from ingestd.sources.files.zstd_frames import ArchiveTooWide, import_zstd, is_zstd, window_of

GZIP = b"\x1f\x8b"

MAX_WINDOW = 128 * 1024 * 1024
"""The largest window that ``zstd -d`` accepts by default."""
_TOO_WIDE = "Frame requires too much memory"  # so says libzstd, and there is no code to tell it by
_HEADER_BYTES = 6
_READ_BYTES = 128 * 1024


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
    return PlainStream(raw), False


class _Gzip:
    """What was read before damage is given before the damage is reported."""

    def __init__(self, raw: Input) -> None:
        from gzip import GzipFile

        archive = GzipFile(fileobj=io.BufferedReader(raw, _READ_BYTES), mode="rb")
        self.read = archive.read1  # ``read`` gathers, and loses what it has when the next bytes are broken


class _Zstd:
    """Frames one after the other, skippable ones and padding with zeros among them, as gzip's members."""

    def __init__(self, raw: Input, max_window: int) -> None:
        self._raw = raw
        self._max_window = max_window
        self._zstd = import_zstd()
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
                data: bytes = self._frame.decompress(self._next, max_length=size)
            except self._zstd.ZstdError as error:
                if _TOO_WIDE in str(error):
                    raise ArchiveTooWide(self._too_wide()) from None
                raise
            self._next = b""
            if data:
                return data

    def _new(self) -> Any:
        zstd = self._zstd
        return zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: self._log})

    def _too_wide(self) -> str:
        window = window_of(self._header)
        needs = f"a window of {human_size(window)}" if window else "a larger window"
        return (
            f"its zstd frame needs {needs} to be unpacked, and {human_size(1 << self._log)} are allowed:"
            f" --max-window {human_size(window or 1 << 31)} (or source.max_window) allows it that much memory"
        )
