"""What a crash leaves, behind each commit: no event is lost, and none goes out under a second key."""

import gzip
import random
import shutil
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ingestd.core.chunk import MARK_BYTES
from ingestd.sources.live.identities import Identities
from ingestd.store import database
from ingestd.store.connection import FILE_NAME
from ingestd.store.writer import Writer
from tests.effort import seeds
from tests.event_api import EventApi, event, events, events_of, once_each
from tests.integration.sources.live.support import (
    Looks,
    append,
    copy_and_truncate,
    counted,
    following,
    is_done,
    looked,
    once,
    rotate,
    rotated,
)
from tests.process.sources.support import Running, until

pytestmark = pytest.mark.anyio


ON_ITS_WAY = ("SELECT count(*) FROM batches", "SELECT count(*) FROM spool")


class Crash(msgspec.Struct):
    """Behind a commit. ``state``: the file that it left. ``sent``: how many requests the API had then;
    ``more``: when the next commit was made, so that what was sent in between may or may not be taken."""

    state: Path
    sent: int
    more: int | None = None


@contextmanager
def crashes(into: Path, api: EventApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Crash]]:
    """One behind each commit that changed what is known of files."""
    into.mkdir()
    made: list[Crash] = []
    transact, known = database.transact, list[Any]()

    def transact_and_save(writer: Writer, work: Any) -> None:
        transact(writer, work)
        sent = len(api.batches)
        if made and made[-1].more is None:
            made[-1].more = sent
        rows = writer.connection.execute("SELECT * FROM sources ORDER BY id").fetchall()
        if rows != known:
            known[:] = rows
            made.append(Crash(into / str(len(made)), sent))
            with closing(sqlite3.connect(made[-1].state)) as copy:
                writer.connection.backup(copy)

    with monkeypatch.context() as patched:
        patched.setattr(database, "transact", transact_and_save)
        yield made
    assert len(made) > 4


async def packed(directory: Path, service: Running, _: pytest.MonkeyPatch) -> int:
    """What was read to its end as a file of lines; the archive is told from it when that is let go."""
    log = directory / "app.log"
    append(log, *events(20))
    await service.settled(20)
    old = rotate(log, "app.log.1")
    append(log, *events(20, first=20))
    await service.settled(40)
    old.with_name("app.log.1.gz").write_bytes(gzip.compress(old.read_bytes()))
    old.unlink()
    await counted(service, "files_done", 1)
    append(log, event(40))
    await service.settled(41)
    return 41


async def copied(directory: Path, service: Running, _: pytest.MonkeyPatch) -> int:
    log = directory / "app.log"
    append(log, *events(20))
    await service.settled(20)
    append(log, *events(20, first=20))
    copy_and_truncate(log, "app.log.1")
    append(log, *events(5, first=40))
    await service.settled(45)
    copy_and_truncate(log, "app.log.2")
    append(log, *events(30, first=45))
    await service.settled(75)
    return 75


async def copied_aside(directory: Path, service: Running, _: pytest.MonkeyPatch) -> int:
    """A copy that goes on by itself, beside its original."""
    log, copy = directory / "app.log", directory / "app.log.copy"
    append(log, *events(20))
    await service.settled(20)
    copy.write_bytes(log.read_bytes())
    await looked(service)
    append(copy, *events(10, first=20))
    await service.settled(30)
    append(log, *events(10, first=30))
    await service.settled(40)
    return 40


async def copied_as_its_head_grows(directory: Path, service: Running, monkeypatch: pytest.MonkeyPatch) -> int:
    """What it begins with is noted further when more of it was read."""
    log = directory / "app.log"
    append(log, event(0))
    await service.settled(1)
    once(monkeypatch, Identities, "grow_head")(rotated(log, events(5, first=20), events(40, first=25)))
    append(log, *events(19, first=1))
    await service.settled(65)
    return 65


@pytest.mark.parametrize("spool", [False, True])
@pytest.mark.parametrize("story", [packed, copied, copied_aside, copied_as_its_head_grows])
async def test_a_crash_behind_any_commit(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    story: Callable[[Path, Running, pytest.MonkeyPatch], Awaitable[int]],
    spool: bool,
) -> None:
    async with EventApi() as api:
        with crashes(tmp_path / "crashes", api, monkeypatch) as found:
            async with following(tmp_path, api, "app.log*", spool=spool) as service:
                total = await story(tmp_path, service, monkeypatch)
                await until(lambda: is_done(service), service.task)
        if story is copied_aside:
            found = [crash for crash in found if has_read(crash)]
        await assert_found_again(tmp_path, api, found, total, spool=spool)


def has_read(crash: Crash) -> bool:
    """Whether anything of a file had been read. Two that begin alike and went on differently are two files to
    a process that has read neither: on a busy machine a commit comes before the first event."""
    read = "SELECT count(*) FROM sources WHERE path != 'spool' AND position > 0"
    with closing(sqlite3.connect(crash.state)) as state:
        return any(state.execute(query).fetchone()[0] for query in (read, *ON_ITS_WAY))


async def assert_found_again(
    directory: Path, api: EventApi, found: list[Crash], total: int, *, spool: bool
) -> None:
    """Files are as they were at the end; of the state a crash left what was on disk behind some commit."""
    state, first = directory / "state", api.batches
    assert found
    once_each(first)
    for crash in found:
        shutil.rmtree(state)
        state.mkdir()
        shutil.copy(crash.state, state / FILE_NAME)
        api.requests.clear()
        async with following(directory, api, "app.log*", spool=spool, exclude="*.tmp") as service:
            await looked(service)
            await until(lambda now=service: is_done(now), service.task)
        again = api.batches
        once_each([*first[: crash.more], *again])
        for sent in (crash.sent, crash.more):
            arrived = {one for request in [*first[:sent], *again] for one in events_of(request)}
            assert arrived == {*events(total)}, f"lost by a crash behind commit {crash.state.name}"


class Story:
    """Lines are written, and their file is rotated in all ways, with any of it between two looks."""

    def __init__(self, directory: Path, rng: random.Random) -> None:
        self.written = self._rotations = 0
        self._log = directory / "app.log"
        self._rng = rng

    def go_on(self) -> None:
        for _ in range(self._rng.randrange(1, 4)):
            self._write()
            if self._rng.random() < 0.6 and self._log.stat().st_size > MARK_BYTES:
                self._rotate(self._rng.choice(["rename", "copy", "pack", "copy, pack"]))
            if self._rng.random() < 0.5:
                self._write()

    def _write(self) -> None:
        lines = events(self._rng.choice([1, 2, 3, 10, 25, 40]), first=self.written)
        append(self._log, *lines)
        self.written += len(lines)

    def _rotate(self, how: str) -> None:
        self._rotations += 1
        old = (copy_and_truncate if "copy" in how else rotate)(self._log, f"app.log.{self._rotations}")
        if "pack" in how:
            packed = old.with_name(old.name + ".tmp")
            packed.write_bytes(gzip.compress(old.read_bytes()))
            packed.rename(old.with_name(old.name + ".gz"))
            old.unlink()


@pytest.mark.slow("tests/integration/sources/live/test_crashes.py::test_a_crash_behind_any_commit")
@pytest.mark.parametrize("seed", seeds(2, 20))
async def test_a_crash_behind_any_commit_of_any_story(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    rng, spool = random.Random(seed), bool(seed % 2)
    story, looks = Story(tmp_path, rng), Looks(monkeypatch)
    async with EventApi() as api:
        with crashes(tmp_path / "crashes", api, monkeypatch) as found:
            async with following(tmp_path, api, "app.log*", spool=spool, exclude="*.tmp") as service:
                for _ in range(6):
                    await looks.do(**{rng.choice(["before", "after"]): story.go_on})
                    if rng.random() < 0.6:
                        await looked(service, rng.choice([1, 2]))
                    else:
                        await until(lambda: is_done(service), service.task)
                await looked(service)
                await until(lambda: is_done(service), service.task)
        await assert_found_again(tmp_path, api, found, story.written, spool=spool)
