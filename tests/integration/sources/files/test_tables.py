"""CSV and Parquet as inputs of a replay: packed, recoded, gone on with, damaged, refused."""

import gzip
import os
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ingestd.app.replay_sources import open_files
from ingestd.core.bounds import DEFAULT_BOUNDS
from ingestd.core.chunk import Chunk
from ingestd.core.errors import UserError
from ingestd.sources.files.jsonl import JsonSource
from ingestd.sources.files.settings import SourceConfig
from tests.each import each
from tests.integration.sources.files.test_jsonl import chunks_of

pytestmark = pytest.mark.anyio

SCHEMA = '{"properties": {"n": {"type": "integer"}}}'
TEXT = "id,n,x.é\n" + "".join(f'i{n},{n},"ä, {n}"\n' for n in range(9000))
EVENTS = [f'{{"id":"i{n}","n":{n},"x":{{"é":"ä, {n}"}}}}'.encode() for n in range(9000)]


def opened(path: Path | str, chunk_bytes: int = DEFAULT_BOUNDS.chunk_bytes, **settings: Any) -> JsonSource:
    """With the schema that lies in its directory, if one does."""
    schema = str(Path(path).parent / "schema.json")
    (source,) = open_files(
        [str(path)], SourceConfig(**settings), print, schema=schema, chunk_bytes=chunk_bytes
    )
    return source


async def read(source: JsonSource, *where: int) -> tuple[list[Chunk], list[bytes]]:
    chunks = await chunks_of(source, *where)
    return chunks, [event for chunk in chunks for event in chunk.events]


@each(
    "content, settings",
    [
        (TEXT.encode(), {}),
        (b"\xef\xbb\xbf" + TEXT.encode(), {}),
        (gzip.compress(TEXT.encode(), 1, mtime=0), {}),
        (TEXT.replace("\n", "\r\n").encode("utf-16"), {}),
        (TEXT.replace(",", "\t").replace("ä\t", "ä,").encode(), {"delimiter": "tab"}),
    ],
)
async def test_csv_is_read_and_gone_on_with(content: bytes, settings: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    (tmp_path / "schema.json").write_text(SCHEMA)
    source = opened(path, 64 * 1024, format="csv", **settings)
    chunks, events = await read(source)
    assert (events == EVENTS, source.damage, len(chunks) > 2) == (True, "", True)
    assert chunks[1].place(0) == (chunks[1].start, chunks[1].line)
    assert chunks[1].size_bytes == sum(map(len, chunks[1].events))
    again = opened(path, 64 * 1024, format="csv", **settings)
    _, rest = await read(again, chunks[0].end, chunks[0].next_line)
    assert rest == EVENTS[len(chunks[0].events) :]


async def test_csv_of_a_pipe_is_read_as_it_comes_and_parquet_is_not(tmp_path: Path) -> None:
    out, into = os.pipe()
    os.write(into, b'id,n\n1,"a\nb"\n2,')
    source = opened(f"/dev/fd/{out}", format="csv")
    chunks = source.chunks()
    assert (await anext(chunks)).events == [b'{"id":"1","n":"a\\nb"}']
    os.write(into, b"3\n4")
    os.close(into)
    rest = [chunk async for chunk in chunks]
    assert [event for chunk in rest for event in chunk.events] == [b'{"id":"2","n":"3"}', b"4"]
    assert rest[-1].unreadable == {0: "line 5: the row has 1 cells, and the header 2"}
    source.close()
    source = opened(f"/dev/fd/{out}", format="parquet")
    assert (await read(source), "a pipe does not have yet" in source.foreign) == (([], []), True)
    source.close()
    os.close(out)


async def test_of_a_damaged_archive_come_the_rows_before_the_damage(tmp_path: Path) -> None:
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(TEXT.encode(), 1, mtime=0)[:20_000])
    source = opened(path, format="csv")
    _, events = await read(source)
    assert len(events) > 1000
    assert source.damage.startswith("the archive is damaged or cut off")


async def test_parquet_is_told_by_its_first_bytes_and_another_file_by_its_end(tmp_path: Path) -> None:
    path = tmp_path / "t"
    table = {"id": [f"i{n}" for n in range(9000)], "n": range(9000)}
    pq.write_table(pa.table(table), path, row_group_size=1000)
    source = opened(path, 64 * 1024)
    chunks, events = await read(source)
    assert (events[0], len(events), source.damage) == (b'{"id":"i0","n":0}', 9000, "")
    assert (source.bytes_read, source.plain_size) == (source.size, None)
    data = path.read_bytes()
    assert {chunk.mark for chunk in chunks} == {(len(data), data[-4096:])}
    _, rest = await read(opened(path, 64 * 1024), chunks[0].end)
    assert rest == events[len(chunks[0].events) :]


@each(
    "content, settings, why",
    [
        (b"a,a\n1,2\n", {"format": "csv"}, "t: it cannot be read as CSV: two of its columns are named 'a'"),
        (b'{"a":1}\n', {"format": "csv"}, "it begins as JSON does"),
        (b"PK\x03\x04", {"format": "csv"}, "it is a zip archive: `unzip -p FILE | ingestd replay -`"),
        (b"a,b\n1,2\n", {"format": "csv", "items": "x"}, "--items and --unwrap are for JSON"),
        (b"a,b\n1,2\n", {"format": "parquet"}, "it cannot be read as Parquet: its first bytes are others"),
        (b"PAR1\x15\x04", {}, "its end, which says what is in it, cannot be read"),
        (b"a,b\n1,2\n", {}, "it is CSV: `ingestd replay --format csv FILE` reads it"),
    ],
)
def test_what_is_no_such_table_is_refused_before_anything_is_read(
    content: bytes, settings: dict[str, Any], why: str, tmp_path: Path
) -> None:
    (tmp_path / "t").write_bytes(content)
    with pytest.raises(UserError) as refused:
        opened(tmp_path / "t", **settings)
    assert why in str(refused.value)
    assert refused.value.exit_code == 2


def test_without_pyarrow_the_refusal_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "t").write_bytes(b"PAR1\x15\x04")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for settings, command in (({}, "`python3 -c 'import"), ({"format": "parquet"}, "")):
        with pytest.raises(UserError) as refused:
            opened(tmp_path / "t", **settings)
        assert "pip install 'ingestd[parquet]'" in str(refused.value)
        assert command in str(refused.value)


def test_a_delimiter_is_one_character() -> None:
    assert (SourceConfig(delimiter="tab").delimiter, SourceConfig(delimiter="\\t").delimiter) == ("\t", "\t")
    for wrong in ("", ";;", '"', "\n"):
        with pytest.raises(ValueError, match="expected one character"):
            SourceConfig(delimiter=wrong)
