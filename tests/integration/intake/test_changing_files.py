"""Files that grow, are cut off, rewritten or renamed between two replays, and what is said of them."""

import gzip
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from ingestd.sources.files.zstd_frames import import_zstd
from tests.integration.intake.replay_support import Place, rows, sink
from tests.integration.intake.support import event, sent
from tests.receiver import Receiver

zstd = import_zstd()

pytestmark = pytest.mark.anyio

packings = pytest.mark.parametrize(
    "pack", [bytes, gzip.compress, zstd.compress], ids=["plain", "gzip", "zstd"]
)


def lines(*numbers: int, **other: Any) -> bytes:
    return b"".join(event(number, **other) + b"\n" for number in numbers)


@pytest.fixture
async def api() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


@pytest.fixture
def place(tmp_path: Path, api: Receiver) -> Place:
    """Without a window: what is sent twice is seen."""
    return Place(tmp_path / "state", {"api": sink(api)}, {"window": {"max_age": 0}})


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return tmp_path / "in.ndjson"


def write(path: Path, content: bytes, mode: str = "wb") -> None:
    with path.open(mode) as file:
        file.write(content)


def overwrite(path: Path, content: bytes) -> None:
    """In place: the same inode, and no moment at which it is empty."""
    with path.open("r+b") as file:
        file.write(content)
        file.truncate()


async def test_a_half_line_is_left_and_told_and_comes_once_when_it_is_whole(
    place: Place, source: Path, api: Receiver
) -> None:
    whole = lines(0, 1, 2, 3)
    cut = len(lines(0, 1, 2)) + 50
    write(source, whole[:cut])
    for _ in range(2):  # it stays where it is
        report = await place.run(source)
        assert report["exit_code"] == 3
        assert report["sources"][0]["damage"].startswith(
            f"its last 50 bytes, from byte {cut - 50} (line 4), are not a whole event yet"
        )
    overwrite(source, whole + event(4))
    report = await place.run(source)
    assert (report["exit_code"], report["delivered"]) == (0, 2)
    overwrite(source, whole + lines(4, 5))
    assert (await place.run(source))["delivered"] == 1
    assert sent(api) == [0, 1, 2, 3, 4, 5]
    assert rows(place.directory, "SELECT * FROM letters") == []


@packings
@pytest.mark.parametrize("change", ["in the middle", "shorter", "longer"])
async def test_a_file_that_was_written_over_is_another_file(
    place: Place, source: Path, api: Receiver, pack: Callable[[bytes], bytes], change: str
) -> None:
    """The same inode and the same beginning. Nothing of it is skipped, and a warning says so."""
    head = lines(*range(40), pad=200)
    write(source, pack(head + lines(*range(100, 140), pad=200)))
    assert (await place.run(source))["exit_code"] == 0
    first = rows(place.directory, "SELECT id FROM sources")
    new = {"in the middle": range(200, 240), "shorter": range(200, 210), "longer": range(200, 300)}[change]
    overwrite(source, pack(head + lines(*new, pad=200)))
    api.requests.clear()
    report = await place.run(source)
    assert (report["exit_code"], sorted(sent(api))) == (0, [*range(40), *new])
    assert len([w for w in place.warnings if "is another file than the one that was read before" in w]) == 1
    assert len(rows(place.directory, "SELECT id FROM sources")) == len(first) + 1


@packings
async def test_a_file_that_grew_and_was_renamed_goes_on(
    place: Place, source: Path, api: Receiver, pack: Callable[[bytes], bytes]
) -> None:
    write(source, pack(lines(*range(60), pad=200)))
    await place.run(source)
    other = Path(shutil.move(source, source.with_name("other")))
    write(other, pack(lines(*range(60, 70))), "ab")
    report = await place.run(other)
    assert (report["delivered"], sent(api)) == (10, list(range(70)))
    assert place.warnings == []


async def test_a_log_that_is_copied_and_emptied_is_read_from_its_start(
    place: Place, source: Path, api: Receiver
) -> None:
    """Also when it has grown past the old place since, and every line begins alike."""
    write(source, lines(*range(100, 130)))
    await place.run(source)
    overwrite(source, lines(*range(100, 122), *range(500, 530)))
    api.requests.clear()
    await place.run(source)
    assert sorted(sent(api)) == [*range(100, 122), *range(500, 530)]


async def test_a_file_that_was_read_to_its_end_is_told_to_be(place: Place, source: Path) -> None:
    write(source, lines(0, 1))
    await place.run(source)
    assert place.warnings == []
    report = await place.run(source)
    assert (report["accepted"], report["exit_code"]) == (0, 0)
    (said,) = place.warnings
    assert said.startswith(f"{source} was read to its end before, on 20")
    assert "--from-start reads it again" in said


async def test_lines_with_several_events_and_with_rubbish_around_them(
    place: Place, source: Path, api: Receiver
) -> None:
    one, two, three = (event(n) for n in (1, 2, 3))
    written = [
        b"\0" * 4096 + event(0),
        one + two,
        b" ",
        b"\xef\xbb\xbf" + three + b",",
        b"\xff" + event(9),
        b"",
    ]
    write(source, b"\n".join(written))
    report = await place.run(source)
    assert (sent(api), report["rejected"]) == ([0, 1, 2, 3], 1)
    ((line, reason),) = rows(place.directory, "SELECT line, reason FROM letters")
    assert (line, reason) == (5, "unparsable")


async def test_a_letter_of_a_line_with_several_events_has_its_own_place(place: Place, source: Path) -> None:
    write(source, event(0) + event(1, eventTime="bad") + event(2, eventTime="bad") + b"\n")
    assert (await place.run(source))["rejected"] == 2
    size = len(event(0))
    found = rows(place.directory, "SELECT offset, line FROM letters ORDER BY offset")
    assert found == [(size, 1), (size + len(event(1, eventTime="bad")), 1)]


async def test_an_envelope_is_told_and_opened_by_the_setting(
    place: Place, source: Path, api: Receiver
) -> None:
    write(source, b'{"v": 1, "Records": [' + event(0) + b", " + event(1) + b'], "next": null}')
    report = await place.run(source)
    assert (report["rejected"], report["exit_code"]) == (1, 3)
    assert '"Records"' in place.warnings[-1]
    assert "--items Records" in place.warnings[-1]
    place.sections = {"source": {"items": "Records"}}
    report = await place.run(source, from_start=True)
    assert (report["delivered"], sent(api)) == (2, [0, 1])


async def test_a_file_name_that_is_no_utf_8_is_a_file_name(place: Place, source: Path, api: Receiver) -> None:
    named = Path(os.fsdecode(os.fsencode(source) + b"\xff\x1b[31m"))
    try:
        write(named, lines(0) + b"{no\n")
    except OSError:
        pytest.skip("this file system takes UTF-8 only")
    report = await place.run(named)
    shown = f"{source}\\xff\\x1b[31m"
    assert (report["delivered"], report["sources"][0]["path"]) == (1, shown)
    assert rows(place.directory, "SELECT path FROM sources") == [(shown,)]
    assert shown in (place.directory / "audit.jsonl").read_text().replace("\\\\", "\\")
    await place.run(named)
    assert place.warnings[-1].startswith(f"{shown} was read to its end before")
    assert sent(api) == [0]
