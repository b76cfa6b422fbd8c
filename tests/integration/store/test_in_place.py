"""Files of an open database that are taken away, as by somebody who tidies up."""

import os
import shutil
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import pytest

from ingestd.store.connection import StoreFailed, unpack_mark
from ingestd.store.database import Database
from ingestd.store.spool_reader import SpoolReader
from ingestd.store.upkeep import StoreBounds
from tests.each import each
from tests.machine import patience

pytestmark = pytest.mark.anyio


async def opened(directory: Path, **options: Any) -> Database:
    database = Database(directory, patient=True, **options)
    await database.open()
    await let_time_step(directory)
    return database


async def let_time_step(directory: Path) -> None:
    """The time of a directory, by which deeds are noticed at once, has steps of a few milliseconds."""
    await until(lambda: time.time() - directory.stat().st_mtime > 0.03)


async def append(database: Database, name: str) -> None:
    await database.append(lambda c: c.execute("INSERT INTO meta VALUES (?, 'x')", (name,)))


def after_a_power_cut(directory: Path) -> set[str]:
    """What the paths lead to at this moment, as the next process would find it."""
    copy = directory.with_name("copy")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(directory, copy)
    with closing(sqlite3.connect(copy / "state.db")) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = {row[0] for row in connection.execute("SELECT name FROM meta")}
    return rows - {"commits"}


async def until(condition: Callable[[], object]) -> None:
    with anyio.fail_after(patience(20)):
        while not condition():  # noqa: ASYNC110 - it is looked at by a timer
            await anyio.sleep(0.02)


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(path.read_bytes())
    other.replace(path)


DEEDS = pytest.mark.parametrize("deed", [remove, replace])
SIDES = pytest.mark.parametrize("names", [["-wal"], ["-shm"], ["-wal", "-shm"]], ids="".join)


@DEEDS
@SIDES
async def test_what_is_acknowledged_after_a_log_was_taken_away_is_safe(
    tmp_path: Path, names: list[str], deed: Callable[[Path], None]
) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    told: list[str] = []
    database = await opened(directory, on_repair=told.append)
    reader = SpoolReader(database)
    await append(database, "before")
    await let_time_step(directory)
    await append(database, "and later")
    for name in names:
        deed(Path(f"{database.path}{name}"))
    for number in range(3):
        await append(database, f"after {number}")
        assert await reader.read(0, 10, 10) == []
        assert after_a_power_cut(directory) == {
            "before",
            "and later",
            *(f"after {n}" for n in range(number + 1)),
        }
    assert len(told) == 1
    assert told == [database.repaired]
    assert f"state.db{names[0]} was removed or replaced in use" in told[0]
    assert "nothing is lost" in told[0]
    await reader.close()
    await database.close()
    assert after_a_power_cut(directory) == {"before", "and later", "after 0", "after 1", "after 2"}


@DEEDS
@SIDES
async def test_it_is_noticed_although_nothing_is_written(
    tmp_path: Path, names: list[str], deed: Callable[[Path], None]
) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    database = await opened(directory)
    await append(database, "before")
    for name in names:
        deed(Path(f"{database.path}{name}"))
    await until(lambda: database.repaired)
    assert after_a_power_cut(directory) == {"before"}
    await database.close()


async def test_a_log_that_cannot_be_saved_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    database = await opened(tmp_path)

    def refuse(connection: sqlite3.Connection) -> None:
        raise sqlite3.OperationalError("as ordered")

    monkeypatch.setattr("ingestd.store.writer.bring_home", refuse)
    remove(Path(f"{database.path}-wal"))
    with pytest.raises(StoreFailed, match="what it held cannot be saved: as ordered"):
        await append(database, "after")
    await database.close()


async def test_a_reader_that_does_not_end_is_not_waited_for_without_end(
    tmp_path: Path,
) -> None:
    database = await opened(tmp_path, bounds=StoreBounds(pause_s=0.05))

    class Busy:
        async def pause(self) -> None:
            await anyio.sleep_forever()

        def resume(self) -> None:
            pass

    database.readers.append(Busy())
    remove(Path(f"{database.path}-wal"))
    with pytest.raises(StoreFailed, match="is still being read"):
        await append(database, "after")
    await database.close()


@DEEDS
@each("idle", [True, False])
async def test_a_database_that_was_taken_away_is_written_back_and_ends_the_process(
    tmp_path: Path, deed: Callable[[Path], None], idle: bool
) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    database = await opened(directory)
    await append(database, "before")
    deed(database.path)
    if idle:
        await until(lambda: database._failed)
    with pytest.raises(StoreFailed, match=r"state\.db was re\w+ while it was in use, and is written back"):
        await append(database, "refused")
    await database.close()
    assert after_a_power_cut(directory) >= {"before"}
    assert (directory / "state.db.replaced").exists() == (deed is replace)
    assert database.path.stat().st_mode & 0o777 == 0o600


async def test_a_directory_that_was_removed_is_made_again(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    database = await opened(directory)
    await append(database, "before")
    shutil.rmtree(directory)
    with pytest.raises(StoreFailed, match="is written back"):
        await append(database, "refused")
    await database.close()
    assert after_a_power_cut(directory) >= {"before"}


async def test_a_directory_that_was_moved_has_everything(tmp_path: Path) -> None:
    directory = tmp_path / "state"
    directory.mkdir()
    database = await opened(directory)
    await append(database, "before")
    directory.rename(tmp_path / "moved")
    with pytest.raises(StoreFailed, match="was moved away while it was in use"):
        await append(database, "refused")
    await database.close()
    assert after_a_power_cut(tmp_path / "moved") >= {"before"}
    assert not directory.exists()


async def test_what_cannot_be_written_back_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("as ordered")

    database = await opened(tmp_path)
    monkeypatch.setattr(os, "fsync", refuse)  # before it is gone: the writer looks now and then
    database.path.unlink()
    with pytest.raises(StoreFailed, match="its content cannot be saved: as ordered"):
        await append(database, "refused")
    await database.close()


async def test_a_mark_that_was_removed_is_made_again(tmp_path: Path) -> None:
    database = await opened(tmp_path)
    await append(database, "one")
    (tmp_path / "state.mark").unlink()
    await until((tmp_path / "state.mark").exists)
    await until(lambda: unpack_mark((tmp_path / "state.mark").read_bytes())[0] > 0)
    await append(database, "two")
    commits = await database.run(
        lambda c: c.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()
    )
    assert unpack_mark((tmp_path / "state.mark").read_bytes())[0] == commits[0] + 1
    await database.close()
