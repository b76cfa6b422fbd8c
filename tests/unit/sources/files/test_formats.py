"""What a stream's first bytes say: which files are no events, and the command that makes events of them."""

import io
import json
import shlex
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pyarrow as pa
import pyarrow.parquet

from ingestd.sources.files.formats import encoding_of, layout_of, other_format
from tests.each import each

_BINARY = b"\x15\x04\x15\x90\x8b\x00\xff"
_TAR = b"a.json".ljust(257, b"\0") + b"ustar\x0000"


@each(
    "head, words",
    [
        (b"PK\x03\x04\x14\0", "it is a zip archive: `unzip -p FILE | ingestd replay -` reads"),
        (b"BZh91AY&SY" + _BINARY, "packed by bzip2: `bzip2 -dc FILE |"),
        (b"BZh11AY&SY\n", "packed by bzip2: `bzip2 -dc FILE |"),
        (b"\xfd7zXZ\0\0\x04", "packed by xz: `xz -dc FILE |"),
        (b"\x5d\0\0\x80\0", "packed by lzma: `xz -dc FILE |"),
        (b"\x04\x22\x4d\x18", "packed by lz4: `lz4 -dc FILE |"),
        (b"\x1f\x9d\x90", "packed by compress: `gzip -dc FILE |"),
        (_TAR, "a tar archive: `tar -xOf FILE |"),
        (b"PAR1" + _BINARY, "(pip install 'ingestd[parquet]'), and otherwise: `python3 -c '"),
        (b"ORC" + _BINARY, "an ORC file: `python3 -c '"),
        (b"Obj\x01\x04", "an Avro file: `fastavro FILE |"),
        (b"%PDF-1.7\n%\xe2\xe3", "a PDF document, which holds no events"),
        (b"%PDF-1.4\nplain\n", "a PDF document, which holds no events"),
        (b"<!DOCTYPE html>\n<title>Sign in", "a web page (HTML), perhaps a sign-in page"),
        (b"\xef\xbb\xbf\r\n  <HTML lang=en>", "a web page (HTML)"),
        (b'<?xml version="1.0"?>\n', "it is XML"),
        (b"a,b\n1,2\n", "it is CSV: `ingestd replay --format csv FILE` reads it"),
        (b'"a";"b c";"d"\r\n"1;2";;\r\n', "--format csv --delimiter ';' FILE` reads it"),
        (b"id\tname\n1\tx\n", "--format csv --delimiter tab FILE` reads it"),
        (b'\xef\xbb\xbfid,payload\n1,"{""a"": 1}"\n', "it is CSV"),
        (b'a,b\n1,"two\nlines"\n', "it is CSV"),
        (
            "Größe,Ort\n1,Köln\n".encode("cp1252"),
            "it is CSV: `iconv -f cp1252 -t utf-8 FILE | ingestd replay --format csv -` reads it",
        ),
    ],
)
def test_what_holds_no_events_is_named(head: bytes, words: str) -> None:
    assert words in other_format(head)


@each(
    "head",
    [
        b"",
        b'{"a":1}\n{"a":2}\n',
        b'\xef\xbb\xbf{"a":1}\n',
        b'[{"a":1},{"a":2}]',
        b'\x1e{"a":1}\n',
        b'{"a":1,\n{"a":2}\n',  # a half line costs itself
        b'"a","b"\n{"a":2}\n',
        b'a,b\n{"a":2}\n',
        b"1,2\n3,4\n",
        b"a,b\n",
        b'cut","b":2}\n{"a":1}\n',
        b'ORCID {"a":1}\n{"a":1}\n',
        b"Oct 11 22:14:15 host su: failed, for x\nOct 11 22:14:16 host su: failed, for y\n",
        b"\0\0\0\0",
        b"<134>1 2026-01-01T00:00:00Z host\n",
        b"null\ntrue\n",
    ],
)
def test_lines_of_which_some_may_be_events_are_read(head: bytes) -> None:
    assert other_format(head) == ""


@each(
    "encoding, bom, found",
    [
        ("utf-16-le", True, "utf-16"),
        ("utf-16-be", True, "utf-16"),
        ("utf-32-le", True, "utf-32"),
        ("utf-32-be", True, "utf-32"),
        ("utf-16-le", False, "utf-16-le"),
        ("utf-16-be", False, "utf-16-be"),
        ("utf-32-le", False, "utf-32-le"),
        ("utf-32-be", False, "utf-32-be"),
        ("utf-8", True, ""),
        ("utf-8", False, ""),
    ],
)
def test_an_encoding_is_told_with_and_without_a_mark(encoding: str, bom: bool, found: str) -> None:
    for text in ('{"a":1}\n', '[{"a":1}]'):
        assert encoding_of(("\ufeff" * bom + text).encode(encoding)) == found


@each(
    "head, loose",
    [
        (b'{\n  "a": 1\n}\n', True),
        (b'\x1e{\r\n  "a": 1\r\n}\r\n', True),
        (b'{"a": 1,\n "b": 2}\n{"a": 3,\n', True),
        (b'{ "a": 1\n, "b": 2\n}\n', True),
        (b'{"k":\n[1,\n2]}\n', True),
        (b'{"a": [\n    "' + b"x" * 5000, True),
        (b'{"a":1,"b":[{"c":2},\n\n\t"d', True),
        (b'{"a":1}\n{\n"b":2}', False),
        (b'{"a":1,\n{"b":2}\n', False),
        (b'{"a":{"b":1}\n{"b":2}\n', False),
        (b'{"a":{"b":1},\n{"b":2}}\n', False),
        (b'{"a":"cut\n"}\n', False),
        (b'{"a":1,\n', False),
        (b'{"a":1,"b', False),
    ],
)
def test_values_on_several_lines_are_told_from_a_half_line(head: bytes, loose: bool) -> None:
    assert layout_of(head).loose is loose
    assert layout_of(head, "values").loose
    assert not layout_of(head, "lines").loose


def _rows(path: Path, said: str) -> list[object]:
    """What the command that ``said`` names prints."""
    command = shlex.split(said.partition("`")[2].partition(" | ingestd")[0].replace("FILE", str(path)))
    assert command[:2] == ["python3", "-c"]
    with redirect_stdout(io.StringIO()) as out, patch("sys.argv", command[2:]):
        exec(command[2], {})
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_command_for_parquet_makes_events(tmp_path: Path) -> None:
    path, rows = tmp_path / "rows.parquet", [{"id": 1, "at": "x"}, {"id": 2, "at": None}]
    pa.parquet.write_table(pa.Table.from_pylist(rows), path)
    assert _rows(path, other_format(path.read_bytes())) == rows
