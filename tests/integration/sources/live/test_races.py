"""Files that are copied and truncated between any two steps of those who read them."""

import asyncio
import gzip
import os
from pathlib import Path

import pytest

from ingestd.sources.live import source
from ingestd.sources.live.checkpoints import Checkpoints
from ingestd.sources.live.reading import Reading
from ingestd.sources.live.turns import Turns
from tests.event_api import EventApi, event, events, events_of, once_each
from tests.integration.sources.live.support import (
    Looks,
    append,
    assert_once,
    copy_and_truncate,
    counted,
    counts,
    following,
    looked,
    once,
    recognised,
    rotate,
    rotated,
)
from tests.receiver import Cut

pytestmark = pytest.mark.anyio


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> Looks:
    return Looks(monkeypatch)


def gate(monkeypatch: pytest.MonkeyPatch) -> asyncio.Event:
    """Nothing is read before it is set."""
    is_open, take = asyncio.Event(), Turns.next
    monkeypatch.setattr(Turns, "next", lambda self, **more: take(self, **more) if is_open.is_set() else None)
    return is_open


@pytest.mark.parametrize("read", [2, 20])
@pytest.mark.parametrize("then", [1, 2, 20, 60])
async def test_copied_and_truncated_between_two_looks(
    tmp_path: Path, looks: Looks, read: int, then: int
) -> None:
    """It is shorter then, as long as before, or longer; what was read of it is more or less than 1 KiB."""
    log = tmp_path / "app.log"
    append(log, *events(read))
    async with EventApi() as api, following(tmp_path, api, "app.log*") as service:
        await service.settled(read)
        await looks.do(before=rotated(log, events(15, first=read), events(then, first=read + 15)))
        total = read + 15 + then
        await service.settled(total)
        await looked(service)
        assert_once(api, events(total))
        assert (counts(service).truncated, counts(service).lost_bytes) == (1, 0)


@pytest.mark.parametrize("then", [1, 60])
async def test_what_is_on_its_way_then_is_found_in_the_copy_after_a_crash(
    tmp_path: Path, looks: Looks, then: int
) -> None:
    log = tmp_path / "app.log"
    append(log, *events(24))
    async with EventApi() as api:
        well, api.script = api.script, lambda request: Cut()
        async with following(tmp_path, api, "app.log*") as service:
            await api.until(lambda api: bool(api.batches))
            await looks.do(before=rotated(log, events(15, first=24), events(then, first=39)))
            await counted(service, "truncated", 1)
        api.script = well
        async with following(tmp_path, api, "app.log*") as service:
            await service.settled(39 + then)
        assert_once(api, events(39 + then))


@pytest.mark.parametrize("settled", [0, 10])
@pytest.mark.parametrize("noticed", ["by a look", "when it is read"])
async def test_what_an_earlier_process_sent_is_found_in_a_copy_that_is_made_before_it_is_read_again(
    tmp_path: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch, settled: int, noticed: str
) -> None:
    log = tmp_path / "app.log"
    async with EventApi() as api:
        well = api.script
        async with following(tmp_path, api, "app.log*") as service:
            append(log, *events(settled))
            await service.settled(settled)
            api.script = lambda request: Cut()  # it came there, and nobody knows
            for number in range(settled, settled + 30, 10):
                append(log, *events(10, first=number))
                await counted(service, "messages", number + 10)
            await api.until(lambda api: sum(map(len, map(events_of, api.batches))) >= settled + 30)
        api.script = well
        step = rotated(log, events(5, first=settled + 30), events(60, first=settled + 35))
        is_open = gate(monkeypatch)
        if noticed == "when it is read":
            once(monkeypatch, source.FilesSource, "_begin")(step)
        async with following(tmp_path, api, "app.log*") as service:
            await counted(service, "files", 1)
            if noticed == "by a look":
                await looks.do(before=step)
                await looked(service)
            is_open.set()
            await service.settled(95)
            assert counts(service).truncated == 1
        once_each(api.batches)
        assert_once(api, events(settled + 95))


@pytest.mark.parametrize("read", [0, 10])
async def test_copied_and_truncated_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    """Between a look at what was read before, and what is read on."""
    log = tmp_path / "app.log"
    append(log, *events(read))
    async with EventApi() as api, following(tmp_path, api, "app.log*") as service:
        await service.settled(read)
        await counted(service, "files", int(read > 0))
        once(monkeypatch, Reading, "_begin", after=True)(
            rotated(log, events(5, first=read + 5), events(40, first=read + 10))
        )
        append(log, *events(5, first=read))
        await service.settled(read + 50)
        assert_once(api, events(read + 50))
        assert (counts(service).truncated, counts(service).lost_bytes) == (1, 0)


@pytest.mark.parametrize(("read", "seen"), [(2, 0), (20, 0), (20, 4_096)])
async def test_a_copy_that_was_seen_as_it_was_made(
    tmp_path: Path, looks: Looks, read: int, seen: int
) -> None:
    log, copy = tmp_path / "app.log", tmp_path / "app.log.1"
    append(log, *events(read))
    async with EventApi() as api:
        well, api.script = api.script, lambda request: Cut()
        async with following(tmp_path, api, "app.log*") as service:
            await api.until(lambda api: bool(api.batches))
            await looks.do(before=lambda: copy.write_bytes(log.read_bytes()[:seen]))
            await looked(service)
            await looks.do(before=rotated(log, events(15, first=read), [event(read + 15)]))
            await counted(service, "truncated", 1)
        api.script = well
        async with following(tmp_path, api, "app.log*") as service:
            await service.settled(read + 16)
        assert_once(api, events(read + 16))


async def test_a_copy_that_goes_on_by_itself(tmp_path: Path, looks: Looks) -> None:
    log, copy = tmp_path / "app.log", tmp_path / "app.log.1"
    append(log, *events(20))

    def step() -> None:
        append(log, *events(10, first=20))
        copy.write_bytes(log.read_bytes())
        append(copy, *events(5, first=30))

    async with EventApi() as api, following(tmp_path, api, "app.log*") as service:
        await service.settled(20)
        await looks.do(before=step)
        await service.settled(35)
        append(copy, *events(10, first=35))
        await service.settled(45)
        append(log, *events(10, first=45))
        await service.settled(55)
        await looked(service)
        assert_once(api, events(55))


@pytest.mark.parametrize("known", [False, True])
async def test_a_copy_of_what_was_written_since_its_original_was_looked_at(
    tmp_path: Path, looks: Looks, monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    """That is known already, or comes into sight with the copy."""
    log, copy = tmp_path / "app.log", tmp_path / "app.log.1"
    if known:
        append(log, *events(20))
    is_open = gate(monkeypatch)

    def step() -> None:
        append(log, *events(30)[20 * known :])
        copy.write_bytes(log.read_bytes())

    async with (
        EventApi() as api,
        following(tmp_path, api, "app.log*") as service,
    ):
        if known:
            await counted(service, "files", 1)
        await looks.do(between=step)
        await looked(service)
        is_open.set()
        await service.settled(30)
        await looked(service)
        assert_once(api, events(30))


async def test_what_was_read_and_let_go_is_known_when_it_comes_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also before it was on disk how far it is settled."""
    log, away = tmp_path / "app.log", tmp_path / "away"
    monkeypatch.setattr(Checkpoints, "run", lambda self: asyncio.Event().wait())
    append(log, *events(20))
    async with EventApi() as api, following(tmp_path, api, "app.log") as service:
        await service.settled(20)
        os.rename(log, away)
        await counted(service, "files_done", 1)
        os.rename(away, log)
        append(log, event(20))
        await service.settled(21)
        assert_once(api, events(21))


@pytest.mark.parametrize("read", [0, 2, 10])
async def test_packed_before_it_was_read_to_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: int
) -> None:
    """It is held open, and told from its archive when little of it was taken, or nothing."""
    log = tmp_path / "app.log"
    is_open = gate(monkeypatch)
    is_open.set()
    append(log, *events(read))
    async with EventApi() as api, following(tmp_path, api, "app.log*") as service:
        await service.settled(read)
        await counted(service, "files", 1)
        is_open.clear()
        append(log, *events(30 - read, first=read))
        await looked(service)
        old = rotate(log, "app.log.1")
        old.with_name("app.log.1.gz").write_bytes(gzip.compress(old.read_bytes()))
        old.unlink()
        await recognised(service)
        await looked(service)
        is_open.set()
        await service.settled(30)
        await looked(service)
        assert_once(api, events(30))


async def test_packed_at_once_where_little_was_read(tmp_path: Path, looks: Looks) -> None:
    """The archive is smaller than what was read of the file."""
    log = tmp_path / "app.log"

    def step() -> None:
        append(log, *events(30, first=4))
        copy = copy_and_truncate(log, "app.log.1")
        copy.with_name("app.log.1.gz").write_bytes(gzip.compress(copy.read_bytes()))
        copy.unlink()

    append(log, *events(4))
    async with EventApi() as api, following(tmp_path, api, "app.log*") as service:
        await service.settled(4)
        await looks.do(before=step)
        assert (tmp_path / "app.log.1.gz").stat().st_size < 4 * len(event(0))
        await service.settled(34)
        await recognised(service)
        await looked(service)
        assert_once(api, events(34))
