"""A state file that SQLite cannot read is made again of what can be read, and kept."""

import os
import random
import shutil
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from ingestd.store.connection import (
    CHECK_NAME,
    MAP_NAME,
    VERSION,
    StoreDamaged,
    StoreFailed,
    connect,
    make_format,
)
from ingestd.store.database import Database
from ingestd.store.mend import mend
from ingestd.store.page_rows import StoredText, TableRows
from ingestd.store.pages import PageFile
from ingestd.store.source_rows import UNSURE, find_spool
from ingestd.store.spool_inspection import SpoolInspection
from tests.each import each
from tests.integration.store.files import find, known_file, opened
from tests.integration.store.tmpfs import fill, small_disk

pytestmark = pytest.mark.anyio

PAGE = 4096


def zero(path: Path, *pages: int) -> None:
    with path.open("r+b") as file:
        for page in pages:
            file.seek((page - 1) * PAGE)
            file.write(bytes(PAGE))


def root_of(path: Path, table: str) -> int:
    with closing(sqlite3.connect(path)) as connection:
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return int(page)


async def made(directory: Path, *, rows: int = 50) -> Path:
    """A state file with as many keys of the trail's kind, of all sizes."""
    database = Database(directory)
    await database.open()
    rng = random.Random(rows)
    values = [
        (n, float(n), "x" * rng.randint(0, 9_000), rng.randbytes(rng.choice([0, 16, 60_000])))
        for n in range(rows)
    ]
    database.note(
        lambda c: c.executemany(
            "INSERT INTO trail (id, at, what, sink, batch, info, digests) VALUES (?, ?, 'w', '', '', ?, ?)",
            values,
        )
    )
    await database.commit()
    await database.close()
    return directory / "state.db"


async def opened_again(directory: Path, told: list[str] | None = None) -> Database:
    database = Database(
        directory, mend=partial(mend, wall=lambda: 1.0), on_repair=(told if told is not None else []).append
    )
    try:
        await database.open()
    finally:
        await database.close()
    return database


def all_rows(connection: sqlite3.Connection) -> dict[str, list[Any]]:
    tables = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
    return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1").fetchall() for (name,) in tables}


def without_head(value: Any) -> Any:
    return str(value, "utf-8") if isinstance(value, StoredText) else value


@each("in_log", [True, False])
async def test_rows_are_read_as_sqlite_reads_them(in_log: bool, tmp_path: Path) -> None:
    path = await made(tmp_path, rows=300)
    with closing(connect(path)) as connection:
        connection.execute("DELETE FROM trail WHERE id % 7 = 0")  # pages that are free hold what was there
        if not in_log:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(path, tmp_path / "image")
        if in_log:
            shutil.copy(tmp_path / "state.db-wal", tmp_path / "image-wal")
        roots = dict(connection.execute("SELECT name, rootpage FROM sqlite_schema WHERE type = 'table'"))
        wanted = connection.execute("SELECT id, at, what, sink, batch, info, digests FROM trail").fetchall()
        meta = connection.execute("SELECT name, value FROM meta").fetchall()
    file = PageFile(tmp_path / "image", tmp_path / "image-wal")
    rows = TableRows(file, roots["trail"])
    found = [(row.number, *map(without_head, row.values[1:])) for row in rows]
    assert [*map(list, found)] == [*map(list, wanted)]
    assert (rows.lost_pages, rows.lost_rows) == (0, 0)
    read = [tuple(map(without_head, row.values)) for row in TableRows(file, roots["meta"])]
    assert read == meta
    file.close()


async def test_a_lost_page_between_others_costs_none_of_them(tmp_path: Path) -> None:
    path = await made(tmp_path, rows=300)
    root = root_of(path, "trail")
    with closing(connect(path)) as connection:
        before = all_rows(connection)
    zero(path, root)  # all others hang on it
    database = await opened_again(tmp_path)
    assert database.mended
    assert database.mended.events == 0
    with closing(connect(path)) as connection:
        after = all_rows(connection)
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    assert after["trail"] == before["trail"]
    assert path.stat().st_mode & 0o777 == 0o600


async def test_the_damaged_file_is_kept_and_the_next_one_beside_it(tmp_path: Path) -> None:
    path = await made(tmp_path)
    told: list[str] = []
    for number in (1, 2):
        zero(path, root_of(path, "outbox"))
        damaged = path.read_bytes()
        mended = (await opened_again(tmp_path, told)).mended
        assert mended
        assert mended.kept == tmp_path / ("state.db.damaged" if number == 1 else "state.db.damaged-2")
        assert mended.kept.read_bytes()[PAGE:] == damaged[PAGE:]
        assert "lake" in mended.words
    assert (await opened_again(tmp_path, told)).mended is None
    assert len(told) == 2
    assert "what can be read of it is copied into a new one" in told[0]


async def test_without_its_first_page_the_map_says_where_tables_begin_and_without_that_it_is_told(
    tmp_path: Path,
) -> None:
    path = await made(tmp_path)
    await opened_again(tmp_path)
    with closing(connect(path)) as connection:
        before = all_rows(connection)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    kept = (tmp_path / MAP_NAME).read_bytes()
    (tmp_path / MAP_NAME).unlink()
    zero(path, 1)
    damaged = path.read_bytes()
    with pytest.raises(StoreFailed, match=r"there is no state\.map: move it away, or restore it"):
        await opened_again(tmp_path)
    assert path.read_bytes() == damaged
    (tmp_path / MAP_NAME).write_bytes(kept)
    assert (await opened_again(tmp_path)).mended
    with closing(connect(path)) as connection:
        assert all_rows(connection)["trail"] == before["trail"]


async def test_settings_that_cannot_be_read_are_those_of_the_map(tmp_path: Path) -> None:
    path = await made(tmp_path)
    database = Database(tmp_path)
    await database.open()
    await database.run(lambda c: c.execute("INSERT INTO meta VALUES ('parked crm', 5.0)"))
    await database.close()
    zero(path, root_of(path, "meta"))
    assert (await opened_again(tmp_path)).mended
    with closing(connect(path)) as connection:
        found = dict(connection.execute("SELECT name, value FROM meta"))
    assert found["parked crm"] == 5.0
    assert found["commits"] > 1


@each("step", ["linked", "log moved"])
async def test_a_start_that_is_ended_while_it_mends_begins_again(step: str, tmp_path: Path) -> None:
    path = await made(tmp_path, rows=100)
    zero(path, root_of(path, "outbox"))
    with closing(sqlite3.connect(path)) as other:
        other.execute("DELETE FROM trail WHERE id = 3")
        other.commit()
        shutil.copytree(tmp_path, tmp_path / "image", ignore=shutil.ignore_patterns("*-shm", "image"))
    state = tmp_path / "image" / "state.db"
    os.link(state, state.with_name("state.db.damaged"))
    if step == "log moved":
        state.with_name("state.db-wal").rename(state.with_name("state.db.damaged-wal"))
    mended = (await opened_again(tmp_path / "image")).mended
    assert mended
    assert mended.kept.name == "state.db.damaged"
    with closing(connect(state)) as connection:
        assert connection.execute("SELECT count(*) FROM trail").fetchone() == (99,)
    assert (await opened_again(tmp_path / "image")).mended is None


async def test_without_room_it_says_how_much_and_leaves_all_as_it_was(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=8) as disk:
        path = await made(disk, rows=60)
        zero(path, root_of(path, "outbox"))
        damaged = path.read_bytes()
        filler = fill(disk)
        os.truncate(filler, filler.stat().st_size - 400_000)
        with pytest.raises(StoreFailed, match=r"make room for \d MiB under .* nothing has been changed"):
            await opened_again(disk)
        assert path.read_bytes()[PAGE:] == damaged[PAGE:]
        assert not [*disk.glob("state.db.damaged*")]
        filler.unlink()
        assert (await opened_again(disk)).mended


async def test_damage_that_a_process_meets_has_the_next_start_look_at_all_of_the_file(tmp_path: Path) -> None:
    path = await made(tmp_path)
    database = Database(tmp_path)
    await database.open()
    zero(path, root_of(path, "outbox"))
    with pytest.raises(StoreDamaged, match="start again"):
        await database.run(lambda c: c.execute("SELECT * FROM outbox").fetchall())
    await database.close()
    assert (tmp_path / CHECK_NAME).exists()
    assert (await opened_again(tmp_path)).mended
    assert not (tmp_path / CHECK_NAME).exists()
    (tmp_path / CHECK_NAME).touch()
    assert (await opened_again(tmp_path)).mended is None
    assert not (tmp_path / CHECK_NAME).exists(), "nothing was found"


async def test_a_damaged_file_of_an_older_format_is_made_again_and_migrated(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as old:
        old.execute("PRAGMA auto_vacuum=INCREMENTAL")
        make_format(old, 4)
        old.execute("INSERT INTO spool VALUES (1, 5.0, 1, 2, 77, x'00', x'7b7d')")
        old.execute(
            "INSERT INTO letters (state, reason, detail, fingerprint, payload, checksum, source, offset,"
            " line, batch, batch_index, batch_size, ambiguous, attempts, first_sent, first_failed,"
            " last_failed) VALUES ('waiting', 'refused', '', '', x'7b7d', 1, 1, 1, 1, '', 0, 1, 0, 1, 5, 5,"
            " 5)"
        )
    zero(path, root_of(path, "batches"))
    assert (await opened_again(tmp_path)).mended
    with closing(connect(path)) as now:
        assert now.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert now.execute("SELECT id, events, owners FROM spool").fetchall() == []
        ((first, payload),) = now.execute("SELECT first, payload FROM spool_damage")
        assert (first, payload) == (1, b"{}"), "nobody had noted whether it was sent"
        assert now.execute("SELECT state, payload FROM letters").fetchall() == [("waiting", b"{}")]
        assert dict(now.execute("SELECT state, letters FROM letter_counts"))["waiting"] == 1


async def test_files_are_not_read_on_when_it_is_not_known_what_of_them_was_sent(tmp_path: Path) -> None:
    file, _ = await known_file(tmp_path)
    path = tmp_path / "state.db"
    zero(path, root_of(path, "batches"))
    mended = (await opened_again(tmp_path)).mended
    assert mended
    assert "they are not read on until `ingestd spool check --forget`" in mended.words
    with pytest.raises(StoreFailed, match="could send events twice"):
        async with opened(tmp_path) as journal:
            await find(journal, file)
    SpoolInspection(tmp_path).forget_damage()
    async with opened(tmp_path) as journal:
        assert (await find(journal, file)).position == 8
    with closing(connect(path)) as now:
        assert now.execute("SELECT 1 FROM meta WHERE name = ?", (UNSURE,)).fetchone() is None


async def test_the_spool_keeps_its_number_though_the_sources_are_gone(tmp_path: Path) -> None:
    file, number = await known_file(tmp_path)
    path = tmp_path / "state.db"
    with closing(connect(path)) as connection:
        spool = find_spool(connection)
    zero(path, root_of(path, "sources"))
    assert (await opened_again(tmp_path)).mended
    SpoolInspection(tmp_path).forget_damage()
    with closing(connect(path)) as connection:
        assert find_spool(connection) == spool
    async with opened(tmp_path) as journal:
        assert (await find(journal, file)).number > max(spool, number), "letters know the other by its number"
