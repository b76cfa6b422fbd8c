"""What is read of files, when, and in which order; what becomes of them."""

import gzip
import json
import os
from pathlib import Path

import pytest
from backports import zstd

from tests.event_api import EventApi, event, events
from tests.integration.sources.live.support import (
    append,
    assert_once,
    counted,
    counts,
    following,
    looked,
)
from tests.process.sources.support import letters, number_of, until

pytestmark = pytest.mark.anyio


async def test_a_half_line_waits(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    half = event(1)[:60]
    log.write_bytes(event(0) + b"\n" + half)
    async with EventApi() as api, following(tmp_path, api, "*.log") as service:
        await service.settled(1)
        await counted(service, "unfinished_files", 1)
        assert counts(service).unread_bytes == len(half)
        with log.open("ab") as file:
            file.write(event(1)[60:])  # whole, and still without a newline
        await service.settled(2)
        append(log, b"", event(2)[:30] + b'"\xff')
        await service.settled(3)
        long = tmp_path / "long.log"
        long.write_bytes(event(3)[:-1] + b" " * 300_000)
        await counted(service, "unfinished_files", 1)
        with long.open("ab") as file:
            file.write(b"}\n" + event(4) + b"\n")
        await service.settled(5)
        assert_once(api, [*events(3)[:2], event(3)[:-1] + b" " * 300_000 + b"}", event(4)])
        assert service.ledger["rejected"] == 1
        broken = tmp_path / "b.log"
        broken.write_bytes(event(5) + b"\n" + event(6)[:50])
        await service.settled(6)
        broken.unlink()
        await service.settled(7)
        await until(lambda: len(letters(tmp_path)) == 2, service.task)
        assert letters(tmp_path)[1]["payload"] == event(6)[:50]
        assert "the file ended in the middle of this line" in letters(tmp_path)[1]["detail"]


async def test_what_is_no_lines_is_read_when_nobody_writes_to_it(tmp_path: Path) -> None:
    made = events(70)
    async with EventApi() as api, following(tmp_path, api, "in") as service:
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a.json").write_bytes(b"[" + b",\n".join(made[:10]) + b"]\n")
        (tmp_path / "in" / "b.json").write_bytes(
            b"\n".join(json.dumps(json.loads(one), indent=2).encode() for one in made[10:20])
        )
        packed = gzip.compress(b"".join(one + b"\n" for one in made[20:40]))
        archive = tmp_path / "in" / "c.gz"
        archive.write_bytes(packed[:100])
        (tmp_path / "in" / "d.zst").write_bytes(zstd.compress(b"\n".join(made[40:50])))
        (tmp_path / "in" / "e.txt").write_bytes(
            b"".join(one + b"\n" for one in made[50:60]).decode().encode("utf-16")
        )
        (tmp_path / "in" / "f.csv").write_bytes(b"id,name\n1,x\n2,y\n")
        await counted(service, "refused_files", 2)
        why = sorted(counts(service).refused.values())
        assert [words[:20] for words in why] == ["it is CSV: `ingestd ", "the archive is damag"]
        before = service.ledger["accepted"]
        archive.write_bytes(packed)
        await service.settled(60)
        assert before < 60
        await counted(service, "files_done", 5)
        with archive.open("ab") as file:
            file.write(gzip.compress(b"".join(one + b"\n" for one in made[60:70])))
        await service.settled(70)
        assert sorted(map(number_of, api.events)) == list(range(70))
        await counted(service, "files_done", 6)  # one of them twice
        assert counts(service).refused_files == 1


async def test_settled_files_are_deleted_or_moved(tmp_path: Path) -> None:
    for name in ("in", "done"):
        (tmp_path / name).mkdir()
    (tmp_path / "done" / "a.log").write_bytes(b"of somebody else")
    append(tmp_path / "in" / "a.log", *events(3))
    (tmp_path / "in" / "half.log").write_bytes(event(3) + b"\n" + event(4)[:40])
    (tmp_path / "link").symlink_to(tmp_path / "in" / "a.log")
    async with EventApi() as api:
        async with following(
            tmp_path, api, "in/*", when_done="move", move_to=str(tmp_path / "done")
        ) as service:
            await service.settled(4)
            await until(lambda: (tmp_path / "done" / "a.log.1").exists(), service.task)
            append(tmp_path / "done" / "a.log.1", event(5))  # a late writer
            await service.settled(5)
            await counted(service, "files_done", 1)
        append(tmp_path / "done" / "a.log.1", event(6))  # a later one, while nobody runs
        async with following(
            tmp_path, api, "in/*", when_done="move", move_to=str(tmp_path / "done")
        ) as service:
            await service.settled(1)
        assert sorted(os.listdir(tmp_path / "in")) == ["half.log"]
        append(tmp_path / "in" / "half.log", event(4)[40:])
        async with following(tmp_path, api, "in/*", when_done="delete") as service:
            await service.settled(1)
            await until(lambda: not os.listdir(tmp_path / "in"), service.task)
            append(tmp_path / "in" / "half.log", event(3))
            await service.settled(2)
            await until(lambda: not os.listdir(tmp_path / "in"), service.task)
        assert_once(api, [*events(7), event(3)])


async def test_order_start_and_names(tmp_path: Path) -> None:
    for number, name in enumerate(("c.log", "b.log", "a.log")):
        append(tmp_path / name, *events(3, first=3 * number))
        os.utime(tmp_path / name, (number, number))
    (tmp_path / "hard").symlink_to(tmp_path / "a.log")
    os.link(tmp_path / "b.log", tmp_path / "z.log")
    for order, expected in (("time", [0, 3, 6]), ("name", [6, 3, 0])):
        async with EventApi() as api:
            state = tmp_path / order
            state.mkdir()
            paths = [f"../{name}" for name in ("*.log", "hard", "nothing.log")]
            async with following(state, api, *paths, order=order) as service:
                await service.settled(9)
                await looked(service)
                assert service.ledger["accepted"] == 9
            assert [number_of(one) for one in api.events][::3] == expected
    async with EventApi() as api:
        state = tmp_path / "new"
        state.mkdir()
        for _ in range(2):
            async with following(state, api, "../*.log", start="new") as service:
                await looked(service)
                append(tmp_path / "a.log", event(20))
                append(tmp_path / f"{len(api.events)}.log", event(21))
                await service.settled(2)
        assert sorted(map(number_of, api.events)) == [20, 20, 21, 21]


async def test_two_sources_and_bounds(tmp_path: Path) -> None:
    for number in range(12):
        append(tmp_path / f"{number:02}.log", event(number))
    paths = {"paths": str(tmp_path / "*.log")}
    async with (
        EventApi() as api,
        following(tmp_path, api, max_files=8, max_open=4, order="name", **paths) as service,
    ):
        await service.settled(8)
        await looked(service)
        assert counts(service).open_files == 4
        assert "there are more files than max_files (8)" in counts(service).problem
        for number in range(4):
            (tmp_path / f"{number:02}.log").unlink()
        await service.settled(12)
        append(tmp_path / "05.log", event(12))
        await service.settled(13)
        assert_once(api, events(13))
        assert counts(service).problem == ""


async def test_the_system_tells_of_changes(tmp_path: Path) -> None:
    pytest.importorskip("watchfiles")
    append(tmp_path / "a.log", event(0))
    async with (
        EventApi() as api,
        following(tmp_path, api, "**/*.log", watch="auto", poll_every=3600, closed_after=3600) as service,
    ):
        await service.settled(1)
        await until(lambda: counts(service).watched == "told by the system", service.task)
        append(tmp_path / "a.log", event(1))
        await service.settled(2)
        (tmp_path / "deep" / "down").mkdir(parents=True)
        append(tmp_path / "deep" / "down" / "b.log", event(2))
        await service.settled(3)
        append(tmp_path / "deep" / "down" / "b.log", event(3))
        await service.settled(4)
        os.rename(tmp_path / "a.log", tmp_path / "c.log")
        append(tmp_path / "c.log", event(4))
        await service.settled(5)
    assert_once(api, events(5))
