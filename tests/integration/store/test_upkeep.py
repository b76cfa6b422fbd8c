"""Room on the disk: a full one heals by itself, log and file shrink again, and nobody waits for it."""

import os
import shutil
import sqlite3
import time
from collections.abc import AsyncIterator, Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from ingestd.store import ballast, upkeep
from ingestd.store.ballast import Ballast
from ingestd.store.connection import MAX_LOG_BYTES, StoreBlocked, connect
from ingestd.store.database import Database
from ingestd.store.upkeep import BOUNDS, StoreBounds, Upkeep
from ingestd.store.writer import Writer, open_patiently
from tests.each import each
from tests.integration.store.tmpfs import fill, small_disk, until_unblocked
from tests.machine import patience

pytestmark = pytest.mark.anyio

MB = 1024 * 1024
BALLAST = 2 * MB
ROW = bytes(100_000)


async def opened(directory: Path, *, ballast_bytes: int = BALLAST, **options: Any) -> Database:
    database = Database(directory, patient=True, ballast_bytes=ballast_bytes, **options)
    await database.open()
    return database


async def until(condition: Callable[[], bool]) -> None:
    with anyio.fail_after(patience(20)):
        while not condition():  # noqa: ASYNC110 - a file tells nobody that it shrinks
            await anyio.sleep(0.02)


async def append_until_full(database: Database) -> int:
    """How many rows were taken."""
    for count in range(10_000):
        try:
            await database.append(
                lambda c, n=count: c.execute("INSERT INTO meta VALUES (?, ?)", (str(n), ROW))
            )
        except StoreBlocked:
            return count
    raise AssertionError("the disk has no end")


async def settle_all(database: Database) -> None:
    await database.run(lambda c: c.execute("DELETE FROM meta WHERE name <> 'commits'"))


def make_old(directory: Path) -> None:
    """A file of format 3, as it was made before it could shrink."""
    with closing(connect(directory / "state.db")) as connection:
        connection.executescript("PRAGMA auto_vacuum = NONE; VACUUM;")
        assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)


def size(database: Database, suffix: str = "") -> int:
    return os.stat(f"{database.path}{suffix}").st_size


# --- a full disk ---


@pytest.fixture
async def disk(tmp_path: Path) -> AsyncIterator[Path]:
    with small_disk(tmp_path / "disk", megabytes=12) as directory:
        yield directory


@pytest.fixture
def simulated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A disk of 12 MB, for who may mount none: SQLite is told a largest size, the ballast what is free."""

    def free_bytes(directory: Path) -> int:
        others = sum(path.stat().st_size for path in tmp_path.iterdir())
        return max(0, 12 * MB - others)

    def open_writer(*given: Any, check: bool) -> Writer:
        writer = open_patiently(*given, check=check)
        pages = (12 * MB - BALLAST - 4 * MB) // 4096
        writer.connection.execute(f"PRAGMA max_page_count = {pages}")
        return writer

    monkeypatch.setattr(ballast, "free_bytes", free_bytes)
    monkeypatch.setattr("ingestd.store.writer.open_patiently", open_writer)
    return tmp_path


@pytest.fixture(params=["mounted", "simulated"])
def small(request: pytest.FixtureRequest) -> Path:
    path: Path = request.getfixturevalue("disk" if request.param == "mounted" else "simulated")
    return path


@each("age", ["new", "old", "old and large"])
async def test_a_disk_that_the_spool_itself_filled_takes_events_again_when_it_is_empty(
    small: Path, age: str
) -> None:
    if age != "new":
        make_old(small)
    database = await opened(small, bounds=StoreBounds(rewrite_bytes=0) if age == "old and large" else BOUNDS)
    for _ in range(2):
        taken = await append_until_full(database)
        assert taken > 20
        assert database.blocked
        await settle_all(database)
        await until_unblocked(database)
        await database.append(lambda c: c.execute("INSERT INTO meta VALUES ('again', 'x')"))
        await settle_all(database)
    await database.close()


async def test_a_disk_that_another_program_keeps_full_has_the_room_of_our_own_file(disk: Path) -> None:
    database = await opened(disk)
    for number in range(50):
        await database.append(lambda c, n=number: c.execute("INSERT INTO meta VALUES (?, ?)", (f"a{n}", ROW)))
    fill(disk)
    await append_until_full(database)
    await settle_all(database)
    await until_unblocked(database)
    await until(lambda: (disk / "ballast").stat().st_size == BALLAST)
    await database.append(lambda c: c.execute("INSERT INTO meta VALUES ('again', 'x')"))
    await database.close()


async def test_the_ballast_is_rebuilt_step_by_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = [0]
    monkeypatch.setattr(ballast, "free_bytes", lambda directory: free[0])
    one = Ballast(tmp_path / "ballast", 8 * MB)
    assert not one.fill()
    assert one.held_bytes == 0
    for free[0], held in ((3 * MB, 1 * MB), (5 * MB, 4 * MB), (0, 4 * MB), (6 * MB, 8 * MB)):
        assert one.fill() == (held == 8 * MB)
        assert one.held_bytes == held
    assert Ballast(tmp_path / "ballast", 2 * MB).fill(), "a setting that was lowered"
    assert one.held_bytes == 2 * MB
    one.drop()
    assert one.held_bytes == 0


async def test_a_ballast_keeps_what_it_has_when_the_disk_is_quicker_than_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, calls = os.posix_fallocate, 0

    def refuse_the_third(file: int, offset: int, length: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise OSError(28, "No space left on device")
        real(file, offset, length)

    monkeypatch.setattr(os, "posix_fallocate", refuse_the_third)
    one = Ballast(tmp_path / "ballast", 4 * MB)
    assert not one.fill()
    assert one.held_bytes == 2 * MB
    assert one.fill()


# --- a quiet file ---


async def test_after_an_outage_file_and_log_are_small_again(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    for number in range(30):
        rows = [(f"{number}-{n}", ROW) for n in range(20)]
        await database.append(lambda c, rows=rows: c.executemany("INSERT INTO meta VALUES (?, ?)", rows))
    await until(lambda: size(database) > 50 * MB)
    await settle_all(database)
    await until(lambda: size(database) < 20 * MB and size(database, "-wal") == 0)
    await database.append(lambda c: c.execute("INSERT INTO meta VALUES ('again', 'x')"))
    await database.close()
    with closing(sqlite3.connect(database.path)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)


async def test_the_log_of_a_quiet_store_is_empty_although_somebody_keeps_it_open(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    with closing(connect(database.path, read_only=True)) as reader:
        reader.execute("SELECT count(*) FROM meta").fetchone()
        await database.append(lambda c: c.execute("INSERT INTO meta VALUES ('one', 'x')"))
        await until(lambda: size(database, "-wal") == 0)
    await database.close()


@pytest.mark.timeout(patience(30))  # and not the 600 s of the connection
def test_a_log_that_is_read_is_left_alone_at_once(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with (
        closing(connect(path, busy_timeout_s=600)) as writer,
        closing(connect(path, read_only=True)) as reader,
    ):
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM meta").fetchone()
        writer.execute("INSERT INTO meta VALUES ('one', 'x')")
        one = Upkeep(writer, path, Ballast(tmp_path / "ballast", 0), time.monotonic)
        one.truncate_log()
        assert writer.execute("PRAGMA busy_timeout").fetchone() == (600_000,)
        assert os.stat(f"{path}-wal").st_size > 0


async def test_a_log_that_grew_while_it_was_read_is_cut_back(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    with closing(connect(database.path, read_only=True)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM meta").fetchone()
        while size(database, "-wal") < 2 * MAX_LOG_BYTES:
            await database.append(
                lambda c: c.executemany(
                    "INSERT INTO meta VALUES (hex(randomblob(8)), ?)", [(ROW,) for _ in range(20)]
                )
            )
    for _ in range(3):
        await database.append(lambda c: c.execute("INSERT INTO meta VALUES (hex(randomblob(8)), 'x')"))
    assert size(database, "-wal") <= MAX_LOG_BYTES
    await database.close()


# --- files from before ---


@pytest.mark.parametrize("holds", ["little", "much", "too much for the disk"])
async def test_an_old_file_learns_to_shrink_when_it_holds_little(
    tmp_path: Path, holds: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_old(tmp_path)
    with closing(connect(tmp_path / "state.db")) as connection:
        connection.executemany("INSERT INTO meta VALUES (?, ?)", [(str(n), ROW) for n in range(100)])
        connection.execute("DELETE FROM meta WHERE name > '20' AND name <> 'commits'")
    if holds == "too much for the disk":
        monkeypatch.setattr(shutil, "disk_usage", lambda path: type("Usage", (), {"free": MB}))
    database = await opened(tmp_path, bounds=StoreBounds(rewrite_bytes=MB) if holds == "much" else BOUNDS)
    kept = await database.run(lambda c: c.execute("SELECT count(*) FROM meta").fetchone()[0])
    assert kept > 10
    shrinks = await database.run(lambda c: c.execute("PRAGMA auto_vacuum").fetchone()[0])
    assert shrinks == (2 if holds == "little" else 0)
    await database.close()


async def test_an_old_file_that_somebody_else_has_open_stays_as_it_is(tmp_path: Path) -> None:
    make_old(tmp_path)
    with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with closing(sqlite3.connect(tmp_path / "state.db", isolation_level=None)) as connection:
            upkeep.let_shrink(connection, tmp_path / "state.db")
            assert connection.execute("PRAGMA auto_vacuum").fetchone() == (0,)
