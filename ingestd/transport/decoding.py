"""An answer's body as it was before it was packed: content codings (RFC 9110 8.4) and byte order marks.

Called by ``client.py`` for every answer. We ask for ``identity``; gateways exist that pack all the same.
"""

import codecs
import importlib
import sys
import zlib
from collections.abc import Callable
from typing import Any, NamedTuple

MAX_CODINGS = 4
"""Most encodings on top of each other; an honest answer has no more."""
_MAX_MEMBERS = 10_000
"""Of one body, each packed by itself. An empty one is 8 to 20 bytes and costs as much as a thousand."""
_SLICE = 4096
_ZSTD_WINDOW_LOG = 23
"""RFC 9659: a window of at most 8 MB for this coding, so that a small frame cannot ask for gigabytes."""

# The longer ones first: the mark of UTF-32 in little-endian begins with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
FIRST_OF_MARKS = frozenset(mark[:1] for mark, _ in _MARKS)

Undo = Callable[[bytes, int], tuple[bytes, bool]]
"""(packed, most bytes) -> (that many at most, whether that is all of it). Raises one of ``_ERRORS``."""


class UndecodedBody(NamedTuple):
    """``unreadable``: why the body cannot be read, in words; it is as it came then. A body that was never
    packed, though a header says so (``Content-Encoding: utf-8`` is seen), is not an error."""

    body: bytes
    truncated: bool
    unreadable: str = ""


def undo(body: bytes, codings: str, *, limit: int) -> UndecodedBody:
    """``codings``: the header Content-Encoding, or empty. At most ``limit`` bytes are unpacked, at each step:
    a bomb stays small, and is ``truncated`` as an answer is that ends too early."""
    truncated = False
    if codings and body:
        try:
            body, truncated = _unpack(body, codings, limit)
        except _Unreadable as error:
            if body[:1] not in (b"{", b"["):
                return UndecodedBody(body, False, str(error))
    if body[:1] in FIRST_OF_MARKS:
        body = _without_mark(body)
    return UndecodedBody(body[:limit], truncated)


class _Unreadable(Exception):
    pass


def _unpack(body: bytes, codings: str, limit: int) -> tuple[bytes, bool]:
    """(body, whether something of it is missing). Raises _Unreadable."""
    names = [name for part in codings.lower().split(",") if (name := part.strip()) not in ("", "identity")]
    truncated = False
    for name in reversed(names):
        undo_one = _UNDO.get(name)
        if undo_one is None or len(names) > MAX_CODINGS:
            raise _Unreadable(f"its Content-Encoding {_shown(codings)} is not known here")
        try:
            body, whole = undo_one(body, limit + 1)
        except ImportError:
            raise _Unreadable(f"its Content-Encoding {name} needs a library that is missing") from None
        except Exception as error:  # each library has its own
            if not _is_damage(error):
                raise
            raise _Unreadable(f"it is not {name}, as its Content-Encoding says") from None
        truncated = truncated or not whole or len(body) > limit
    return body, truncated


def _without_mark(body: bytes) -> bytes:
    for mark, encoding in _MARKS:
        if body.startswith(mark):
            return body.decode(encoding, "replace").encode() if encoding != "utf-8-sig" else body[len(mark) :]
    return body


def _gzip(packed: bytes, most: int) -> tuple[bytes, bool]:
    """Members one after the other; what stands behind them and is none is left alone, as zeros are."""
    return _members(packed, most, lambda: zlib.decompressobj(wbits=31), b"\x1f\x8b")


def _members(packed: bytes, most: int, make: Callable[[], Any], begins: bytes) -> tuple[bytes, bool]:
    """Each is unpacked by one that ``make`` gives, until what is left does not start as one ``begins``. What
    stands behind a member is copied by its library each time, so little is given at once."""
    parts: list[bytes] = []
    at = 0
    for _ in range(_MAX_MEMBERS):
        member = make()
        while at < len(packed) and most > 0 and not member.eof:
            given = packed[at : at + _SLICE]
            parts.append(member.decompress(given, most))
            most -= len(parts[-1])
            at += len(given) - len(member.unused_data)
        if not member.eof or most <= 0:
            return b"".join(parts), member.eof and at == len(packed)
        if at == len(packed) or not packed.startswith(begins, at):
            return b"".join(parts), True
    return b"".join(parts), False


def _deflate(packed: bytes, most: int) -> tuple[bytes, bool]:
    """As RFC 9110 8.4.1.2 says, in zlib's format, or as some say, without."""
    for wbits in (zlib.MAX_WBITS, -zlib.MAX_WBITS):
        stream = zlib.decompressobj(wbits=wbits)
        try:
            return stream.decompress(packed, most), stream.eof
        except zlib.error:
            if wbits < 0:
                raise
    raise AssertionError


def _zstd(packed: bytes, most: int) -> tuple[bytes, bool]:
    zstd: Any = importlib.import_module(
        "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    )
    options = {zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}
    if not packed:
        return b"", True
    return _members(packed, most, lambda: zstd.ZstdDecompressor(options=options), b"")


def _brotli(packed: bytes, most: int) -> tuple[bytes, bool]:
    brotli: Any = importlib.import_module("brotli")
    stream = brotli.Decompressor()
    parts = [stream.process(packed, output_buffer_limit=most)]
    size = len(parts[0])
    while parts[-1] and not stream.is_finished() and size < most:
        parts.append(stream.process(b"", output_buffer_limit=most - size))
        size += len(parts[-1])
    return b"".join(parts), stream.is_finished()


_UNDO: dict[str, Undo] = {
    "gzip": _gzip,
    "x-gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
    "br": _brotli,
}


def _is_damage(error: Exception) -> bool:
    """Whether that is a library's word for bytes that it cannot read."""
    return isinstance(error, zlib.error) or type(error).__name__ in ("ZstdError", "error")


def _shown(header: str) -> str:
    return "".join(char for char in header[:60] if char.isascii() and char.isprintable())
