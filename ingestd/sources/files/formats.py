"""What a stream holds, by its first bytes: lines, an array, values on several lines, or something else.
Used by ``jsonl.py``."""

import codecs
import io
import os
import re
from contextlib import suppress
from importlib.util import find_spec
from typing import Literal

import msgspec

from ingestd.core.errors import UserError
from ingestd.core.regex import regex
from ingestd.schemas.grammar import find_fault
from ingestd.sources.files.closing import Closing, skip_separators
from ingestd.sources.files.compression import is_packed
from ingestd.sources.files.streams import Stream

PARQUET = b"PAR1"
_PARQUET = (
    "import json,sys,pyarrow.parquet as p;[print(json.dumps(r, default=str))"
    " for b in p.ParquetFile(sys.argv[1]).iter_batches() for r in b.to_pylist()]"
)
_ORC = (
    "import json,sys,pyarrow.orc as o;[print(json.dumps(r, default=str))"
    " for r in o.ORCFile(sys.argv[1]).read().to_pylist()]"
)
_OTHERS = {
    b"PK\x03\x04": ("a zip archive", "unzip -p FILE"),
    b"PK\x05\x06": ("an empty zip archive", ""),
    b"\xfd7zXZ\0": ("packed by xz", "xz -dc FILE"),
    b"\x5d\0\0": ("packed by lzma", "xz -dc FILE"),
    b"LZIP": ("packed by lzip", "lzip -dc FILE"),
    b"\x1f\x9d": ("packed by compress", "gzip -dc FILE"),
    b"7z\xbc\xaf\x27\x1c": ("a 7z archive", "7z x -so FILE"),
    b"Rar!\x1a\x07": ("a RAR archive", "unrar p -inul FILE"),
    b"\x04\x22\x4d\x18": ("packed by lz4", "lz4 -dc FILE"),
    b"\xff\x06\0\0sNaPpY": ("packed by snappy", "snzip -dc FILE"),
    PARQUET: (
        "a Parquet file, which a replay reads from disk with its extra (pip install 'ingestd[parquet]'), and"
        " otherwise",
        f"python3 -c '{_PARQUET}' FILE",
    ),
    b"PARE": ("an encrypted Parquet file", ""),
    b"ORC": ("an ORC file", f"python3 -c '{_ORC}' FILE"),
    b"Obj\x01": ("an Avro file", "fastavro FILE"),
    b"SQLite format 3\0": ("a SQLite database", ""),
    b"%PDF-": ("a PDF document", ""),
    **{b"BZh%d1AY&SY" % level: ("packed by bzip2", "bzip2 -dc FILE") for level in range(1, 10)},
}
_WORD = 4
"""A magic number of so many letters may be how a word begins: then text comes behind it."""
_TAR_AT, _TAR = 257, b"ustar"
_MARKUP = {
    regex(rb"<(?:!doctype\s+html|html|head|body|!--)", re.IGNORECASE): (
        "a web page (HTML), perhaps a sign-in page in the place of the file"
    ),
    regex(rb"<\?xml|<[a-z][\w:.-]*[\s/>]", re.IGNORECASE): "XML",
}
_TEXT = regex(rb"[ -~\t\r\n]*+")
_HEADER = regex(r"[^\W\d][\w .:/()#%-]{0,80}")
_ENCODINGS = {
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_ENVELOPE = regex(
    rb'\{\s*+(?:"[^"\\]*+"\s*+:\s*+(?:"[^"\\]*+"|[-+.\w]++)\s*+,\s*+){0,8}+"([\w.$-]{1,40})"\s*+:\s*+\[\s*+\{',
    re.ASCII,
)
_BARE_BRACE = regex(rb"\{[ \t\r]*+\n")


TableKind = Literal["csv", "parquet"]


class StreamFormat(msgspec.Struct, frozen=True):
    """``array``: elements of arrays; ``loose``: values on several lines each; else lines. ``envelope``: the
    first value is an object that begins with a list of objects of this name."""

    array: bool
    loose: bool
    envelope: str


def kind_of(path: str, asked: str) -> TableKind | None:
    """``asked``: of ``source.format``. CSV is read where it is asked for; Parquet is known by its first
    bytes. Raises UserError where Parquet is asked for, and pyarrow is not there.
    None: it is not a table, or nothing here can read it: then it is refused by what it is."""
    if asked == "csv":
        return "csv"
    if asked == "parquet":
        if not find_spec("pyarrow"):
            raise UserError("--format parquet needs pyarrow: pip install 'ingestd[parquet]'")
        return "parquet"
    if asked == "auto" and path != "-" and os.path.isfile(path):
        with suppress(OSError), open(path, "rb") as file:  # what cannot be opened is said where it is read
            if file.read(len(PARQUET)) == PARQUET and find_spec("pyarrow"):
                return "parquet"
    return None


def layout_of(head: bytes, given: str = "auto") -> StreamFormat:
    """``given``: lines, values, or auto: as the first bytes say."""
    text = head[skip_separators(head) :]
    found = _ENVELOPE.match(text)
    envelope = found[1].decode() if found else ""
    if given == "lines":
        return StreamFormat(array=False, loose=False, envelope=envelope)
    return StreamFormat(text[:1] == b"[", given == "values" or _goes_on(text), envelope)


def _goes_on(text: bytes) -> bool:
    """Whether the object that begins ``text`` goes on behind its first line, and is not cut off there."""
    first, _, rest = text.partition(b"\n")
    closing = Closing()
    if not text.startswith(b"{") or closing.feed(first) >= 0 or closing.in_string or not rest:
        return False
    if _BARE_BRACE.match(text):
        return True
    if (end := Closing().feed(text)) >= 0:
        return find_fault(text[:end]) is None
    return rest.lstrip()[:1] in (b'"', b"}", b"]", b",")


def other_format(head: bytes, *, packed: bool = False, is_csv: bool = False) -> str:
    """Why this is not read, and what to do; empty if it may be JSON. ``head`` has been unpacked, if it was
    ``packed``, and made UTF-8. ``is_csv``: CSV is asked for."""
    if packed and is_packed(head[:4]):
        return "it is packed twice: unpack it once, and what comes out is read"
    name, command = _name_and_command(head)
    if not name and not is_csv:
        return _csv(head)
    if not name:
        return ""
    if not command:
        return f"it is {name}, which holds no events"
    first = "unpack it first, then " if packed and not command.startswith("tar ") else ""
    return f"it is {name}: {first}`{command} | ingestd replay -` reads what is in it"


def _name_and_command(head: bytes) -> tuple[str, str]:
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        return "a tar archive", "tar -xOf FILE"
    for magic, known in _OTHERS.items():
        if head.startswith(magic) and not (len(magic) <= _WORD and _is_text(head[len(magic) : 64])):
            return known
    text = head[skip_separators(head) :]
    for markup, name in _MARKUP.items():
        if markup.match(text):
            return name, ""
    return "", ""


def _csv(head: bytes) -> str:
    """It may be lines of something else, so it is asked for."""
    delimiter = _delimiter_of(head[skip_separators(head) :])
    if not delimiter:
        return ""
    words = "ingestd replay --format csv"
    if delimiter != ",":
        words += " --delimiter " + ("tab" if delimiter == "\t" else f"'{delimiter}'")
    if not _is_utf8(head):
        return f"it is CSV: `iconv -f cp1252 -t utf-8 FILE | {words} -` reads it, where that is its encoding"
    return f"it is CSV: `{words} FILE` reads it"


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)  # its end may be in the middle of a character
    except UnicodeDecodeError:
        return False
    return True


def _is_text(data: bytes) -> bool:
    return bool(data) and _TEXT.fullmatch(data) is not None


def _delimiter_of(text: bytes) -> str:
    """What stands between the fields of CSV: a header of names, and a second row of as many fields. Lines of
    JSON, or of anything else, have none."""
    if text.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"["):
        return ""  # no name begins so
    import csv

    for delimiter in ",;\t|":
        reader = csv.reader(
            io.StringIO(text.decode("utf-8-sig" if _is_utf8(text) else "cp1252", "replace"), newline=""),
            delimiter=delimiter,
        )
        try:
            names, row = next(reader, []), next(reader, [""])
        except csv.Error:
            continue
        named = all(map(_HEADER.fullmatch, names)) and len(set(names)) == len(names) > 1
        if named and len(row) == len(names) and row[0][:1] not in ("{", "["):
            return delimiter
    return ""


def encoding_of(head: bytes) -> str:
    """The encoding of text that is not UTF-8, by its byte order mark or by where its first NULs are."""
    for mark, name in _ENCODINGS.items():
        if head.startswith(mark):
            return name
    for opener in (b"{", b"["):
        if head.startswith(opener + b"\0\0\0"):
            return "utf-32-le"
        if head.startswith(b"\0\0\0" + opener):
            return "utf-32-be"
        if head[:1] == opener and head[1:2] == b"\0" and head[3:4] == b"\0":
            return "utf-16-le"
        if head[:1] == b"\0" and head[1:2] == opener and head[2:3] == b"\0":
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
