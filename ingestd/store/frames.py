"""Bytes compressed with zstd, a frame for each 128 KiB: damage costs a person its frame and no other."""

import sys
from contextlib import suppress
from functools import cache
from typing import Any

MAGIC = bytes.fromhex("28B52FFD")
"""How a frame begins (RFC 8878 3.1.1). msgpack has a number there, never a list; and it is no UTF-8."""

_LEVEL = 1
"""Events are alike: a higher one costs more and makes them hardly smaller."""
_BLOCK_BYTES = 128 * 1024
"""The largest block of zstd."""
_STEP_BYTES = 64


@cache
def _zstd() -> Any:
    """A replay needs none."""
    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd
    return zstd


@cache
def _compressor() -> Any:
    """To make one costs as much as to compress ten events. It has a lock."""
    return _zstd().ZstdCompressor(level=_LEVEL)


def compress(given: bytes) -> bytes:
    compressor, view = _compressor(), memoryview(given)
    blocks = [view[at : at + _BLOCK_BYTES] for at in range(0, len(view), _BLOCK_BYTES)]
    return b"".join([compressor.compress(block, compressor.FLUSH_FRAME) for block in blocks])


def decompress(compressed: bytes) -> bytes:
    """Raises ZstdError where it is damaged."""
    found: bytes = _zstd().decompress(compressed)
    return found


def left_of(damaged: bytes) -> bytes:
    """What can be read: all frames that are whole, and of each other one what comes before its damage. As it
    stands where it has no frames."""
    found: list[bytes] = []
    begin = damaged.find(MAGIC)
    while begin >= 0:
        frame, at = _zstd().ZstdDecompressor(), begin
        with suppress(_zstd().ZstdError):
            while at < len(damaged) and not frame.eof:  # step by step: what came before it raises stays
                found.append(frame.decompress(damaged[at : at + _STEP_BYTES]))
                at = min(at + _STEP_BYTES, len(damaged))
        begin = damaged.find(MAGIC, at - len(frame.unused_data) if frame.eof else begin + len(MAGIC))
    return b"".join(found) or damaged
