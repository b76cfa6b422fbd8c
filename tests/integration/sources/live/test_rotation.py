"""Files that are renamed, copied, truncated, packed and deleted beside those who write and read them."""

import asyncio
import gzip
import os
from pathlib import Path
from typing import Any

import pytest

from ingestd.sources.live import source
from ingestd.sources.live.patterns import Listing
from tests.event_api import EventApi, event, events
from tests.integration.sources.live.support import (
    append,
    assert_once,
    copy_and_truncate,
    counted,
    counts,
    following,
    looked,
    rotate,
)
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio


async def test_renamed(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    append(log, *events(10))
    async with EventApi() as api:
        async with following(tmp_path, api, "app.log") as service:
            await service.settled(10)
            old = rotate(log, "app.log.1")
            append(old, *events(5, first=10))
            append(log, *events(5, first=15))
            await service.settled(20)
            await counted(service, "files_done", 1)
            assert counts(service).files == 1
            append(log, *events(5, first=20))
            await service.settled(25)
        append(log, *events(5, first=25))
        old = rotate(log, "app.log.2")
        append(log, *events(5, first=30))
        async with following(tmp_path, api, "app.log") as service:
            await service.settled(10)
        assert_once(api, events(35))
        async with following(tmp_path, api, "app.log*") as service:
            append(old, event(35))
            await service.settled(1)
        assert_once(api, events(36))
        assert counts(service).truncated == 0


@pytest.mark.parametrize("pattern", ["app.log", "app.log*"])
async def test_copytruncate(tmp_path: Path, pattern: str) -> None:
    log = tmp_path / "app.log"
    append(log, *events(20))
    async with EventApi() as api:
        async with following(tmp_path, api, pattern) as service:
            await service.settled(20)
            append(log, *events(20, first=20))
            copy_and_truncate(log, "app.log.1")
            append(log, *events(3, first=40))
            await service.settled(43)
            copy_and_truncate(log, "app.log.2")
            append(log, *events(30, first=43))
            await service.settled(73)
            assert counts(service).truncated == 2
            await looked(service)
        async with following(tmp_path, api, pattern) as service:
            await looked(service)
            append(log, event(73))
            await service.settled(1)
        assert_once(api, events(74))
        assert counts(service).lost_bytes == 0


async def test_truncated_between_a_look_and_what_it_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, copy = tmp_path / "app.log", tmp_path / "app.log.1"
    append(log, *events(20))
    looks = source.look

    def look(*arguments: Any, **more: Any) -> Listing:
        listing = looks(*arguments, **more)
        if copy.exists() and log.read_bytes() == copy.read_bytes():
            os.truncate(log, 0)
            append(log, *events(25, first=20))
        return listing

    monkeypatch.setattr(source, "look", look)
    async with EventApi() as api, following(tmp_path, api, "app.log*") as service:
        await service.settled(20)
        (tmp_path / ".copy").write_bytes(log.read_bytes())
        os.rename(tmp_path / ".copy", copy)
        await service.settled(45)
        await looked(service)
        assert service.ledger["accepted"] == 45
        assert_once(api, events(45))


async def test_what_is_on_its_way_when_its_file_is_copied_and_truncated_is_found_in_the_copy_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy has more than was read, and the file is truncated before the two are compared."""
    log, copy = tmp_path / "app.log", tmp_path / "app.log.1"
    append(log, *events(24))
    looks, rotates = source.look, asyncio.Event()

    def look(*arguments: Any, **more: Any) -> Listing:
        begins = rotates.is_set() and not copy.exists()
        if begins:
            append(log, *events(15, first=24))
            copy.write_bytes(log.read_bytes())
        listing = looks(*arguments, **more)
        if begins:
            os.truncate(log, 0)
            append(log, *events(3, first=39))
        return listing

    monkeypatch.setattr(source, "look", look)
    async with EventApi() as api:
        well, api.script = api.script, lambda request: Reply(503)
        async with following(tmp_path, api, "app.log*") as service:
            await api.until(lambda api: bool(api.requests))
            rotates.set()
            await counted(service, "truncated", 1)
        api.script = well
        api.requests.clear()  # nothing of them was taken
        async with following(tmp_path, api, "app.log*") as service:
            await service.settled(42)
        assert_once(api, events(42))


async def test_copytruncate_while_down(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    append(log, *events(20))
    async with EventApi() as api:
        async with following(tmp_path, api, "app.log*") as service:
            await service.settled(20)
        append(log, *events(20, first=20))
        copy_and_truncate(log, "app.log.1")
        append(log, *events(3, first=40))
        async with following(tmp_path, api, "app.log*") as service:
            await service.settled(23)
            await looked(service)
        assert_once(api, events(43))


async def test_packed(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    append(log, *events(20))
    async with EventApi() as api:
        async with following(tmp_path, api, "app.log*") as service:
            await service.settled(20)
            old = rotate(log, "app.log.1")
            append(old, *events(5, first=20))
            await service.settled(25)
            old.with_name("app.log.1.gz").write_bytes(gzip.compress(old.read_bytes()))
            old.unlink()
            append(log, event(25))
            await service.settled(26)
            await looked(service, 30)
        assert_once(api, events(26))
        append(log, *events(20, first=26))
        async with following(tmp_path, api, "app.log*") as service:
            await service.settled(20)
        append(log, *events(7, first=46))
        log.with_name("app.log.2.gz").write_bytes(gzip.compress(log.read_bytes()))
        log.unlink()
        async with following(tmp_path, api, "app.log*") as service:
            await service.settled(7)
            await looked(service, 30)
        assert_once(api, events(53))


async def test_deleted(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    append(log, *events(5))
    async with EventApi() as api, following(tmp_path, api, "app.log") as service:
        await service.settled(5)
        with log.open("ab") as writer:
            log.unlink()
            writer.write(event(5) + b"\n")
            writer.flush()
            await service.settled(6)
            writer.write(event(6)[:40])
        await counted(service, "files_done", 1)
        append(log, *events(5, first=7))
        await service.settled(12)
        log.unlink()
        await counted(service, "files_done", 2)
        for time in range(2):  # so short a file may be the same once more
            append(log, *events(2, first=12))
            await service.settled(14 + 2 * time)
            log.unlink()
            await counted(service, "files_done", 3 + time)
        assert_once(api, [*events(6), *events(5, first=7), *events(2, first=12), *events(2, first=12)])
        assert service.ledger["rejected"] == 1


async def test_truncated(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    append(log, *events(5))
    async with EventApi() as api, following(tmp_path, api, "*.log") as service:
        await service.settled(5)
        log.write_bytes(b"".join(event(n) + b"\n" for n in range(9, 5, -1)))
        await service.settled(9)
        log.write_bytes(b"".join(event(n) + b"\n" for n in range(30, 40)))
        await service.settled(19)
        assert counts(service).truncated == 2
        os.truncate(log, 0)
        await counted(service, "truncated", 3)
        append(log, *events(2, first=50))
        await service.settled(21)
        assert counts(service).truncated == 3, "it is told once, whether it was seen empty or not"
        assert_once(api, [*events(5), *events(4, first=6), *events(10, first=30), *events(2, first=50)])


@pytest.mark.parametrize("spool", [False, True])
async def test_what_a_writer_leaves_that_does_not_append(tmp_path: Path, spool: bool) -> None:
    """After a truncation it goes on where it was, behind a hole."""
    log = tmp_path / "app.log"
    async with EventApi() as api, following(tmp_path, api, "app.log", spool=spool) as service:
        with log.open("wb", buffering=0) as writer:
            writer.write(b"".join(one + b"\n" for one in events(10)))
            await service.settled(10)
            copy_and_truncate(log, "app.log.1")
            writer.write(b"".join(one + b"\n" for one in events(5, first=10)))
            await service.settled(15)
        assert_once(api, events(15))
        assert service.ledger["rejected"] == 0


async def test_what_rotates_away_while_the_api_stands_still_is_held_open(tmp_path: Path) -> None:
    log = tmp_path / "app.log"
    log.touch()
    again = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await again.wait()
        return Reply()

    async with EventApi(answer) as api, following(tmp_path, api, "app.log", max_open=20) as service:
        await counted(service, "files", 1)
        for number in range(8):
            await looked(service)
            append(log, *events(3_000, first=3_000 * number))
            rotate(log, "gone").unlink()
        await looked(service)
        assert counts(service).rotated_files == 8
        assert counts(service).unread_bytes > 0
        again.set()
        await service.settled(24_000)
        await counted(service, "open_files", 1)
        assert_once(api, events(24_000))
        assert counts(service).lost_bytes == 0
