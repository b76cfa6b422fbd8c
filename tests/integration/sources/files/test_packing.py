"""Archives as other programs make them, text in other encodings, and what is neither."""

import gzip
import os
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio
import pytest

from ingestd.app.replay import open_replay
from ingestd.config import Settings
from ingestd.core.errors import UserError
from ingestd.core.units import human_size, size
from ingestd.sources.files.jsonl import JsonSource
from ingestd.sources.files.zstd_frames import import_zstd
from tests.each import each
from tests.integration.intake.replay_support import Place, sink
from tests.integration.sources.files.test_jsonl import NDJSON, ROWS, chunks_of
from tests.receiver import Receiver

zstd = import_zstd()

pytestmark = pytest.mark.anyio

FRAME = zstd.compress(NDJSON[:1000]), zstd.compress(NDJSON[1000:])


def skippable(number: int, content: bytes = b"\x01\x02\x03\x04") -> bytes:
    return struct.pack("<II", 0x184D2A50 + number, len(content)) + content


def long_window(log: int) -> bytes:
    parameter = zstd.CompressionParameter
    packer = zstd.ZstdCompressor(options={parameter.window_log: log, parameter.content_size_flag: 0})
    return packer.compress(NDJSON) + packer.flush()


async def read(path: Path, content: bytes, *, max_window: int = 2**27) -> tuple[list[bytes], str]:
    await anyio.Path(path).write_bytes(content)
    source = JsonSource(str(path), max_window=max_window)
    return [event for chunk in await chunks_of(source) for event in chunk.events], source.damage


@each(
    "content",
    [
        skippable(0) + FRAME[0] + FRAME[1],
        FRAME[0] + skippable(15) + skippable(3, b"") + FRAME[1] + skippable(7, b"\0" * 5000),
        FRAME[0] + FRAME[1] + b"\0" * 3000,
        FRAME[0] + b"\0" * 300_000 + FRAME[1],
    ],
    ids=["at the head", "anywhere", "zeros behind", "zeros between"],
)
async def test_frames_that_hold_nothing_are_passed_over(content: bytes, tmp_path: Path) -> None:
    assert await read(tmp_path / "events", content) == (ROWS, "")


async def test_an_archive_of_skippable_frames_is_empty(tmp_path: Path) -> None:
    assert await read(tmp_path / "events", skippable(1) * 3) == ([], "")


@each("cut", [5, 200])
async def test_a_frame_that_is_cut_off_is_told(cut: int, tmp_path: Path) -> None:
    events, damage = await read(tmp_path / "events", FRAME[0] + FRAME[1][:cut])
    assert events == ROWS[: len(events)]
    assert damage == "the archive is damaged or cut off: it ends in the middle of a frame"


async def test_a_window_over_the_limit_is_named_with_the_way_out(tmp_path: Path) -> None:
    packed = long_window(28)
    events, damage = await read(tmp_path / "events", packed)
    assert events == []
    assert damage.startswith("its zstd frame needs a window of 256MiB to be unpacked, and 128MiB are allowed")
    assert "--max-window 256MiB (or source.max_window)" in damage
    assert await read(tmp_path / "events", packed, max_window=size("256MiB")) == (ROWS, "")


@each("text", ["128MiB", "2GiB", "1.5KiB", "100B"])
def test_sizes_are_shown_as_they_are_read(text: str) -> None:
    assert human_size(size(text)) == text


# --- text in other encodings ---

quick_gzip = partial(gzip.compress, compresslevel=1)


@each(
    "encoding, pack",
    [("utf-16", bytes), ("utf-16-le", quick_gzip), ("utf-16-be", bytes), ("utf-32", quick_gzip)],
)
async def test_text_of_two_and_four_bytes_is_read_and_gone_on_with(
    encoding: str, pack: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    lines = [*ROWS, '{"n":"é😀"}'.encode()]
    path = tmp_path / "events"
    path.write_bytes(pack(b"\r\n".join([*lines, b""]).decode().encode(encoding)))
    first = await chunks_of(JsonSource(str(path)))
    assert [event for chunk in first for event in chunk.events] == lines
    rest = await chunks_of(JsonSource(str(path)), first[0].end, first[0].next_line)
    assert [chunk.events for chunk in rest] == [chunk.events for chunk in first[1:]]


async def test_half_a_character_costs_its_line(tmp_path: Path) -> None:
    text = '{"a":1}\n{"n":"'.encode("utf-16-le") + b"\x3d\xd8" + '"}\n{"b":2}\n'.encode("utf-16-le")
    events, damage = await read(tmp_path / "events", b"\xff\xfe" + text)
    assert (events[0], events[-1], len(events), damage) == (b'{"a":1}', b'{"b":2}', 3, "")
    assert events[1].startswith(b'{"n":"')


# --- what is neither ---


@each(
    ("head", "words"),
    [
        (b"PK\x03\x04\x14\0", "a zip archive: `unzip -p FILE | ingestd replay -`"),
        (b"BZh91AY&SY", "packed by bzip2: `bzip2 -dc FILE"),
        (b"\xfd7zXZ\0\0\x04", "packed by xz: `xz -dc FILE"),
        (b"PAR1\x15\x04", "(pip install 'ingestd[parquet]'), and otherwise: `python3 -c 'import"),
        # mtime: the bytes name the case, and each worker of pytest-xdist has to find the same cases
        (gzip.compress(gzip.compress(b"{}", mtime=0), mtime=0), "packed twice: unpack it once"),
        (zstd.compress(gzip.compress(b"{}", mtime=0)), "packed twice: unpack it once"),
        (b"a.json".ljust(257, b"\0") + b"ustar", "a tar archive: `tar -xOf FILE"),
    ],
)
async def test_other_formats_are_named_and_cost_no_letter(head: bytes, words: str, tmp_path: Path) -> None:
    events, damage = await read(tmp_path / "events", head + b"\n" * 5000)
    assert (events, damage[:6], words in damage) == ([], "it is ", True), damage


async def test_a_replay_of_another_format_ends_before_its_first_event(tmp_path: Path) -> None:
    good, bad, state = tmp_path / "good.ndjson", tmp_path / "bad", tmp_path / "state"
    good.write_bytes(NDJSON)
    settings = Settings.model_validate(
        {
            "state": {"dir": str(state)},
            "sinks": {"hooks": {"type": "webhook", "url": "http://127.0.0.1:9/"}},
            "schema": {"name": "cloudevent"},
        }
    )
    for content in (b"PAR1\x15\x04", gzip.compress(b"<html>"), "a;b\n1;2\n".encode("utf-16")):
        bad.write_bytes(content)
        with pytest.raises(UserError, match=r"bad: it (is|cannot be read as) ") as told:
            async with open_replay(settings, None, [str(good), str(bad)], warn=print):
                pass
        assert told.value.exit_code == 2
        assert not state.exists()


async def test_another_format_in_a_pipe_ends_the_replay_as_wrong_usage(tmp_path: Path) -> None:
    out, into = os.pipe()
    os.write(into, b"\xfd7zXZ\0\0\x04" + b"\n" * 300)
    os.close(into)
    async with Receiver() as receiver:
        report = await Place(tmp_path / "state", {"hooks": sink(receiver)}).run(Path(f"/dev/fd/{out}"))
    os.close(out)
    assert (report["exit_code"], report["accepted"], receiver.requests) == (2, 0, [])
    assert ": it is packed by xz: `xz -dc FILE" in report["error"]
