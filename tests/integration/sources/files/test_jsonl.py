"""Real files of every kind, read as the pipeline reads them."""

import gzip
import random
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from ingestd.core.chunk import Chunk
from ingestd.core.errors import UserError
from ingestd.sources.files.jsonl import JsonSource
from ingestd.sources.files.streams import BOM, Input, fingerprint
from ingestd.sources.files.zstd_frames import import_zstd
from tests.each import each

zstd = import_zstd()

pytestmark = pytest.mark.anyio

NOISE = random.Random(7)
ROWS = [b'{"n":%d,"noise":"%x"}' % (n, NOISE.getrandbits(256)) for n in range(5000)]
"""More than one chunk, and hard to compress."""
NDJSON = b"\n".join(ROWS) + b"\n"
ARRAY = b"[\n  " + b",\n  ".join(ROWS) + b"\n]\n"


async def chunks_of(source: JsonSource, start: int = 0, line: int = 1) -> list[Chunk]:
    try:
        return [chunk async for chunk in source.chunks(start, line)]
    finally:
        source.close()


async def read(path: Path, content: bytes) -> tuple[list[bytes], str]:
    await anyio.Path(path).write_bytes(content)
    source = JsonSource(str(path))
    chunks = await chunks_of(source)
    return [event for chunk in chunks for event in chunk.events], source.damage


def plain(data: bytes) -> bytes:
    return data


def two_members(data: bytes) -> bytes:
    return gzip.compress(data[:1000]) + gzip.compress(data[1000:])


def two_frames(data: bytes) -> bytes:
    return zstd.compress(data[:1000]) + zstd.compress(data[1000:])


every_packing = pytest.mark.parametrize(
    "pack", [plain, gzip.compress, two_members, zstd.compress, two_frames], ids=lambda pack: pack.__name__
)


@every_packing
@each("data", [NDJSON, ARRAY, BOM + NDJSON, BOM + ARRAY, b"\n \n" + ARRAY])
async def test_what_a_file_is_shows_in_its_content_and_not_in_its_name(
    data: bytes, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    assert await read(tmp_path / "misleading.gz.zst.json", pack(data)) == (ROWS, "")


@every_packing
@each("data", [NDJSON, ARRAY, BOM + NDJSON])
async def test_a_restart_at_any_chunks_end_reads_the_same_chunks(
    data: bytes, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "events"
    path.write_bytes(pack(data))
    chunks = await chunks_of(JsonSource(str(path), chunk_bytes=64 * 1024))
    assert len(chunks) > 4
    for number, chunk in enumerate(chunks, 1):
        again = await chunks_of(JsonSource(str(path), chunk_bytes=64 * 1024), chunk.end, chunk.next_line)
        assert [(c.events, c.start, c.end, c.line) for c in again] == [
            (c.events, c.start, c.end, c.line) for c in chunks[number:]
        ]
    for chunk in chunks:
        for index, event in enumerate(chunk.events):
            offset, number = chunk.place(index)
            assert data[offset : offset + len(event)] == event == ROWS[number - 1]


@each(
    ("content", "events"),
    [
        (b"", []),
        (b"\n\r\n\n", []),
        (BOM, []),
        (b"[]", []),
        (b" [ ] \n", []),
        (b'{"a":1}', [b'{"a":1}']),
        (b'{"a":1}\r\n\r\n{"b":2}\n\n{"c":3}', [b'{"a":1}', b'{"b":2}', b'{"c":3}']),
        (BOM + b'{"a":1}\r\n', [b'{"a":1}']),
        (b' {"a":1} \n', [b' {"a":1} ']),
        (b'[1, "two", null, {"a": [1, {"b": "]}"}]}]', [b"1", b'"two"', b"null", b'{"a": [1, {"b": "]}"}]}']),
        (b"[1]\n[2]\n[3, [4]]\n", [b"1", b"2", b"3", b"[4]"]),
    ],
)
async def test_small_files(content: bytes, events: list[bytes], tmp_path: Path) -> None:
    assert await read(tmp_path / "events", content) == (events, "")


@each("pack", [gzip.compress, zstd.compress], ids=lambda pack: pack.__name__)
@each("data", [NDJSON, ARRAY], ids=["ndjson", "array"])
async def test_a_cut_off_archive_gives_what_came_before_the_cut(
    data: bytes, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    packed = pack(data)
    events, damage = await read(tmp_path / "events", packed[: len(packed) * 3 // 4])
    assert "damaged or cut off" in damage
    assert events == ROWS[: len(events)]
    assert len(events) > len(ROWS) // 2


async def test_a_cut_off_archive_that_is_whole_later_goes_on_with_the_cut_line(tmp_path: Path) -> None:
    path, packed = tmp_path / "events.gz", gzip.compress(NDJSON)
    path.write_bytes(packed[: len(packed) // 2])
    before = await chunks_of(JsonSource(str(path)))
    path.write_bytes(packed)
    after = await chunks_of(JsonSource(str(path)), before[-1].end, before[-1].next_line)
    assert [event for chunk in before + after for event in chunk.events] == ROWS
    assert after[0].place(0)[1] == before[-1].next_line == sum(len(c.events) for c in before) + 1


async def test_a_wrong_checksum_is_told_and_costs_no_event(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(NDJSON))
    packed[-8] ^= 1
    events, damage = await read(tmp_path / "events", bytes(packed))
    assert events == ROWS
    assert "CRC" in damage


async def test_bytes_after_an_archive_are_told_and_cost_no_event(tmp_path: Path) -> None:
    events, damage = await read(tmp_path / "events", gzip.compress(NDJSON) + b"and more")
    assert events == ROWS
    assert "damaged" in damage


async def test_an_archive_that_is_shorter_than_it_was_is_told(tmp_path: Path) -> None:
    path = tmp_path / "events.gz"
    path.write_bytes(gzip.compress(b'{"a":1}\n'))
    source = JsonSource(str(path))
    assert await chunks_of(source, 1000, 50) == []
    assert source.damage == "it is shorter than it was when it was read before"


async def test_a_plain_file_that_is_shorter_than_its_position_gives_nothing(tmp_path: Path) -> None:
    path = tmp_path / "events"
    path.write_bytes(b'{"a":1}\n')
    source = JsonSource(str(path))
    assert source.plain_size == 8
    assert await chunks_of(source, 1000, 50) == []


@each("end", [b"\n", b"\r\n", b""])
async def test_the_limit_of_an_event_holds_to_the_byte(end: bytes, tmp_path: Path) -> None:
    path = tmp_path / "events"
    fits, over = b"a" * 300_000, b"{" + b"b" * 299_999 + b"}"
    path.write_bytes(fits + b"\n" + b"small" + end + (b"" if end else b"\n") + over + end)
    chunks = await chunks_of(JsonSource(str(path), max_event_bytes=300_000))
    events = [event for chunk in chunks for event in chunk.events]
    assert events == [fits, b"small", over[: 16 * 1024]]
    assert [length for chunk in chunks for length in chunk.too_long.values()] == [300_001]


@each("pack", [plain, gzip.compress], ids=lambda pack: pack.__name__)
async def test_a_line_of_64_megabytes_costs_that_line_and_little_memory(
    pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "events"
    with path.open("wb") if pack is plain else gzip.open(path, "wb", compresslevel=1) as file:
        file.write(b'{"a":1}\n')
        for _ in range(64):
            file.write(b"x" * 1024 * 1024)
        file.write(b'\n{"b":2}\n')
    tracemalloc.start()
    try:
        chunks = await chunks_of(JsonSource(str(path)))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert [event[:7] for chunk in chunks for event in chunk.events] == [b'{"a":1}', b"x" * 7, b'{"b":2}']
    assert [list(chunk.too_long.values()) for chunk in chunks if chunk.too_long] == [[64 * 1024 * 1024]]
    assert peak < 8 * 1024 * 1024


MANY = 80


async def test_many_events_of_a_large_file_are_not_held_in_memory(tmp_path: Path) -> None:
    path = tmp_path / "events"
    with path.open("wb") as file:
        for _ in range(MANY):
            file.write(NDJSON)
    source, count = JsonSource(str(path)), 0
    tracemalloc.start()
    try:
        async for chunk in source.chunks():
            count += len(chunk.events)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
        source.close()
    assert count == MANY * len(ROWS)
    assert source.bytes_read == source.size == path.stat().st_size > 32_000_000
    assert peak < 16 * 1024 * 1024


def test_a_missing_file_and_a_directory_are_the_users_to_put_right(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot read .*nowhere: No such file"):
        JsonSource(str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="it is a directory"):
        JsonSource(str(tmp_path))
    Input.__new__(Input).close()  # as Python closes what could not be opened, telling what that raises


def test_a_renamed_file_keeps_its_identity_and_its_fingerprint(tmp_path: Path) -> None:
    old, new, copy = tmp_path / "old", tmp_path / "new", tmp_path / "copy"
    old.write_bytes(NDJSON)
    source = JsonSource(str(old))
    before = source.identity, fingerprint(str(old))
    source.close()
    copy.write_bytes(NDJSON)
    old.rename(new)
    renamed, copied = JsonSource(str(new)), JsonSource(str(copy))
    assert (renamed.identity, fingerprint(str(new))) == before
    assert copied.identity != before[0]
    assert fingerprint(str(copy)) == before[1]
    renamed.close()
    copied.close()
