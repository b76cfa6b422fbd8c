import asyncio
import os
import shutil
import sqlite3
import threading
from pathlib import Path

import anyio
import anyio.lowlevel
import pytest

from ingestd.store.connection import VERSION, StoreFailed
from ingestd.store.database import Database
from ingestd.store.writer import Work
from tests.each import each

pytestmark = pytest.mark.anyio


def insert(value: str) -> Work:
    return lambda c: c.execute("INSERT INTO meta VALUES (?, 'x')", (value,))


def names(directory: Path) -> set[str]:
    """What another process would find."""
    with sqlite3.connect(directory / "state.db") as connection:
        rows = {row[0] for row in connection.execute("SELECT name FROM meta")}
    connection.close()
    return rows - {"commits"}


async def reopened(directory: Path) -> Database:
    database = Database(directory)
    await database.open()
    await database.close()
    return database


# --- units and groups ---


async def test_units_run_in_order_and_are_durable_when_commit_returns(database: Database) -> None:
    order: list[int] = []
    for number in range(10):
        database.note(lambda c, number=number: order.append(number))
    database.note(insert("a"))
    await database.commit()
    assert order == list(range(10))
    assert names(database.path.parent) == {"a"}
    assert await database.run(lambda c: c.execute("SELECT count(*) FROM meta").fetchone()[0]) == 2


async def test_many_notes_are_one_commit(database: Database) -> None:
    gate = threading.Event()
    database.note(lambda c: gate.wait(10))
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(database.commit)
        while not database.groups:  # until the first is under way
            await anyio.lowlevel.checkpoint()
        for number in range(100):
            database.note(insert(str(number)))
            tasks.start_soon(database.commit)
        await anyio.lowlevel.checkpoint()
        gate.set()
    assert database.commits == 2
    assert len(names(database.path.parent)) == 100


async def test_what_is_noted_in_one_turn_of_the_loop_is_one_commit(database: Database) -> None:
    """Also where none is under way: the first of many requests that end together does not go alone."""
    before = database.commits

    async def take(name: str) -> None:
        database.note(insert(name))
        await database.commit()

    async with anyio.create_task_group() as tasks:
        for number in range(100):
            tasks.start_soon(take, str(number))
    assert database.commits == before + 1
    assert len(names(database.path.parent)) == 100


async def test_what_was_appended_just_before_the_end_is_kept(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open()
    appended = database.append(insert("a"))
    await database.close()
    await appended
    assert names(tmp_path) == {"a"}


async def test_a_commit_waits_for_a_group_that_is_under_way(database: Database) -> None:
    gate = threading.Event()
    database.note(lambda c: gate.wait(10))
    database.note(insert("a"))
    first = asyncio.create_task(database.commit())
    await asyncio.sleep(0)
    second = asyncio.create_task(database.commit())  # has nothing of its own to commit
    await asyncio.sleep(0)
    assert not second.done()
    gate.set()
    await second
    assert names(database.path.parent) == {"a"}
    await first


async def test_a_failing_unit_leaves_nothing_of_its_group_and_fails_the_database(database: Database) -> None:
    await database.run(insert("before"))
    database.note(insert("a"))
    database.note(lambda c: c.execute("INSERT INTO nowhere VALUES (1)"))
    database.note(insert("b"))
    with pytest.raises(StoreFailed, match="no such table: nowhere"):
        await database.commit()
    database.note(insert("after"))
    with pytest.raises(StoreFailed, match="no such table: nowhere"):
        await database.commit()
    with pytest.raises(StoreFailed):
        await database.run(insert("after"))
    assert names(database.path.parent) == {"before"}


async def test_who_waits_for_the_next_group_hears_of_the_failure_too(database: Database) -> None:
    gate = threading.Event()

    def fail(connection: sqlite3.Connection) -> None:
        gate.wait(10)
        raise sqlite3.OperationalError("as ordered")

    failing = asyncio.create_task(database.run(fail))
    await asyncio.sleep(0)
    waiting = asyncio.create_task(database.run(insert("later")))
    await asyncio.sleep(0)
    gate.set()
    for task in (failing, waiting):
        with pytest.raises(StoreFailed, match="as ordered"):
            await task


async def test_a_cancelled_wait_does_not_cancel_the_commit(database: Database) -> None:
    gate = threading.Event()
    database.note(lambda c: gate.wait(10))
    database.note(insert("a"))
    waiting = asyncio.create_task(database.commit())
    other = asyncio.create_task(database.commit())
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    gate.set()
    await other
    assert names(database.path.parent) == {"a"}


async def test_close_commits_what_was_noted_and_may_be_called_twice(tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open()
    database.note(insert("a"))
    await database.close()
    await database.close()
    assert names(tmp_path) == {"a"}


async def test_only_the_owner_may_read_the_state(database: Database) -> None:
    await database.run(insert("a"))
    modes = {path.name: path.stat().st_mode & 0o777 for path in database.path.parent.iterdir()}
    assert set(modes.values()) == {0o600}, modes


# --- files that are not what they should be ---


@each("change", ["unlink", "replace"])
async def test_a_file_that_is_no_longer_the_one_on_the_path_is_noticed(change: str, tmp_path: Path) -> None:
    database = Database(tmp_path)
    await database.open()
    await database.run(insert("a"))
    copy = shutil.copy(database.path, tmp_path / "copy")
    if change == "replace":
        os.replace(copy, database.path)
    else:
        os.unlink(database.path)
    with pytest.raises(StoreFailed, match=r"state\.db"):
        await database.run(insert("b"))
    await database.close()


async def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    await reopened(tmp_path)
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute("PRAGMA user_version = 99")
    connection.close()
    database = Database(tmp_path)
    with pytest.raises(StoreFailed, match=rf"newer ingestd \(format 99, this one knows {VERSION}\)"):
        await database.open()
    await database.close()


async def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / "state.db").write_text("dear diary, " * 1000)
    database = Database(tmp_path)
    with pytest.raises(StoreFailed, match=r"state\.db is damaged .*move it away, or restore it"):
        await database.open()
    await database.close()


async def test_a_directory_that_is_not_there_is_told(tmp_path: Path) -> None:
    database = Database(tmp_path / "nowhere")
    with pytest.raises(StoreFailed, match="unable to open"):
        await database.open()
    await database.close()


# --- crashes and full disks, in a process of their own ---
