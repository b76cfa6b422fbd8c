"""What a stream holds, by its first bytes: lines, an array, values on several lines, or something else.
Used by ``jsonl.py``."""

import codecs
import re
from typing import NamedTuple

from ingestd.sources.files.closing import skip_separators
from ingestd.sources.files.streams import Stream

_OTHERS = {
    b"PK\x03\x04": ("a zip archive", "unzip -p FILE"),
    b"BZh": ("packed by bzip2", "bzip2 -dc FILE"),
    b"\xfd7zXZ\0": ("packed by xz", "xz -dc FILE"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "7z x -so FILE"),
    b"\x04\x22\x4d\x18": ("packed by lz4", "lz4 -dc FILE"),
    b"PAR1": ("a Parquet file", ""),
    b"ORC": ("an ORC file", ""),
    b"Obj\x01": ("an Avro file", ""),
    b"SQLite format 3\0": ("a SQLite database", ""),
}
_TAR_AT, _TAR = 257, b"ustar"
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_ENVELOPE = re.compile(
    rb'\{\s*+(?:"[^"\\]*+"\s*+:\s*+(?:"[^"\\]*+"|[-+.\w]++)\s*+,\s*+){0,8}+"([\w.$-]{1,40})"\s*+:\s*+\[\s*+\{',
    re.ASCII,
)
_BARE_BRACE = re.compile(rb"\{[ \t\r]*+\n")


class StreamFormat(NamedTuple):
    """``array``: elements of arrays; ``loose``: values on several lines each; else lines. ``envelope``: the
    first value is an object that begins with a list of objects of this name."""

    array: bool
    loose: bool
    envelope: str


def layout_of(head: bytes) -> StreamFormat:
    text = head[skip_separators(head) :]
    found = _ENVELOPE.match(text)
    return StreamFormat(text[:1] == b"[", bool(_BARE_BRACE.match(text)), found[1].decode() if found else "")


def other_format(head: bytes) -> str:
    """Why this is not read, and what to do; empty if it may be JSON."""
    name, command = "", ""
    for magic, known in _OTHERS.items():
        if head.startswith(magic):
            name, command = known
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        name, command = "a tar archive", "tar -xOf FILE"
    way_out = f": `{command} | ingestd replay -` reads what is in it" if command else ", and no text"
    return f"it is {name}{way_out}" if name else ""


def encoding_of(head: bytes) -> str:
    """The encoding of text that is not UTF-8, by its byte order mark or by where its first NULs are."""
    for mark, name in _ENCODINGS.items():
        if head.startswith(mark):
            return name
    if head[:1] in (b"{", b"[") and head[1:2] == b"\0" and head[3:4] == b"\0":
        return "utf-16-le"
    if head[:1] == b"\0" and head[1:2] in (b"{", b"[") and head[2:3] == b"\0":
        return "utf-16-be"
    return ""


class Recoded:
    """Text of another encoding as UTF-8. What is broken in it becomes bytes that no schema takes."""

    def __init__(self, stream: Stream, encoding: str) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder(encoding)(errors="surrogatepass")
        self._ready = b""

    def read(self, size: int, /) -> bytes:
        while not self._ready:
            data = self._stream.read(max(2, size // 2))
            text = self._decoder.decode(data) if data else ""
            self._ready = text.removeprefix("\ufeff").encode("utf-8", "surrogatepass")
            if not data:
                break
        given, self._ready = self._ready[:size], self._ready[size:]
        return given
