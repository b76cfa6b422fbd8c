import sqlite3
from contextlib import closing
from pathlib import Path

import anyio
import pytest

from ingestd.store.connection import disk_full
from ingestd.store.database import Database
from ingestd.store.outbox import Outbox
from tests.each import each
from tests.integration.lake.support import AT, opened

pytestmark = pytest.mark.anyio


class Warnings(list[str]):
    def __call__(self, words: str) -> None:
        self.append(words)


async def outbox_in(database: Database, *, max_bytes: int = 10**6, warn: Warnings | None = None) -> Outbox:
    outbox = Outbox(database, "lake", max_bytes=max_bytes, warn=warn if warn is not None else Warnings())
    await outbox.open()
    return outbox


async def put(database: Database, outbox: Outbox, events: list[bytes], **options: object) -> None:
    addition = outbox.add(events, at=AT, **options)  # type: ignore[arg-type]
    assert addition is not None
    database.note(addition)
    await database.commit()


async def load_all(outbox: Outbox) -> list[list[bytes]]:
    load = await outbox.cut(max_bytes=10**6, layout=b"{}")
    if load is None:
        return []
    rows = await outbox.read(load)
    await outbox.finish(load, rows)
    return [row.events for row in rows]


async def test_a_load_is_the_same_rows_after_a_restart_whatever_was_added_since(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database)
        await put(database, outbox, [b"1" * 10])
        await put(database, outbox, [b"2" * 10])
        load = await outbox.cut(max_bytes=10**6, layout=b"as it was")
        await put(database, outbox, [b"3" * 10])
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database)
        assert outbox.stock == (3, 3, 30)
        assert outbox.oldest_at == AT
        assert await outbox.cut(max_bytes=10**6, layout=b"other settings") == load
        assert await load_all(outbox) == [[b"1" * 10], [b"2" * 10]]
        assert await load_all(outbox) == [[b"3" * 10]]


async def test_a_load_has_at_most_the_bytes_asked_for_but_at_least_one_row(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database)
        for size in (50, 10, 10, 10):
            await put(database, outbox, [b"x" * size])
        sizes = []
        while load := await outbox.cut(max_bytes=25, layout=b""):
            rows = await outbox.read(load)
            sizes.append([row.size_bytes for row in rows])
            await outbox.finish(load, rows)
        assert sizes == [[50], [10, 10], [10]]


async def test_two_lakes_do_not_see_each_others_events(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        one, two = (Outbox(database, name, max_bytes=10**6, warn=Warnings()) for name in ("one", "two"))
        await one.open()
        await two.open()
        for outbox, text in ((one, b"1"), (two, b"2"), (one, b"3")):
            await put(database, outbox, [text])
        assert await load_all(one) == [[b"1"], [b"3"]]
        await put(database, one, [b"4"])
        assert await load_all(two) == [[b"2"]]
        assert await load_all(one) == [[b"4"]]


async def test_a_full_outbox_keeps_nothing_more_counts_it_and_says_so_once(tmp_path: Path) -> None:
    warnings = Warnings()
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database, max_bytes=20, warn=warnings)
        await put(database, outbox, [b"x" * 15])
        for _ in range(3):
            assert outbox.add([b"y" * 3, b"z" * 3], at=AT) is None
        assert outbox.skipped_events == 6
        assert len(warnings) == 1
        assert "max_backlog" in warnings[0]
        assert await load_all(outbox) == [[b"x" * 15]]
        await put(database, outbox, [b"there is room again"])


async def test_while_the_disk_is_full_the_lake_takes_no_room_from_what_settles_events(tmp_path: Path) -> None:
    warnings = Warnings()
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database, warn=warnings)
        database.blocked = disk_full(database.path, patient=True)
        assert outbox.add([b"1", b"2"], at=AT) is None
        assert outbox.skipped_events == 2
        assert "the disk under" in warnings[0]
        database.blocked = None
        await put(database, outbox, [b"3"])
        assert await load_all(outbox) == [[b"3"]]


async def test_an_addition_whose_transaction_was_refused_takes_no_room(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database)
        addition = outbox.add([b"12345"], at=AT)
        assert addition is not None
        addition.refused()
        assert outbox.stock == (0, 0, 0)
        assert outbox.oldest_at is None
        assert await outbox.cut(max_bytes=1, layout=b"") is None


async def test_rows_that_a_crash_kept_from_being_deleted_are_not_read_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database)
        for number in range(3):
            await put(database, outbox, [b"%d" % number])
        load = await outbox.cut(max_bytes=10**6, layout=b"")
        assert load is not None
        outbox._delete_done = lambda: anyio.sleep(3600)  # type: ignore[method-assign]
        rows = await outbox.read(load)
        with anyio.move_on_after(0.05):
            await outbox.finish(load, rows)
        count = await database.run(lambda c: c.execute("SELECT count(*) FROM outbox").fetchone()[0])
        assert count == 3
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database)
        assert outbox.stock == (0, 0, 0)
        assert await load_all(outbox) == []


async def test_many_rows_are_deleted_in_slices(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database, max_bytes=10**8)
        for _ in range(12):
            await put(database, outbox, [b"x" * 1_000_000])
        load = await outbox.cut(max_bytes=10**8, layout=b"")
        assert load is not None
        rows = await outbox.read(load)
        before = database.commits
        await outbox.finish(load, rows)
        assert database.commits - before >= 4  # the cursor, and slices of some 4 MiB
        assert await database.run(lambda c: c.execute("SELECT count(*) FROM outbox").fetchone()[0]) == 0


async def test_rows_added_after_the_table_was_emptied_are_not_taken_for_done(tmp_path: Path) -> None:
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database)
        for number in range(5):
            await put(database, outbox, [b"%d" % number])
            assert await load_all(outbox) == [[b"%d" % number]]
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database)
        await put(database, outbox, [b"after"])
    async with opened(tmp_path) as database:
        assert await load_all(await outbox_in(database)) == [[b"after"]]


@each(
    "change",
    [
        "payload = CAST(substr(payload, 1, 3) || 'X' || substr(payload, 5) AS TEXT)",
        "request_id = CAST(x'ff00' AS TEXT)",
        "events = 9",
        "at = 'yesterday'",
        "latency_s = latency_s + 1",
        "crc = 1",
    ],
)
async def test_a_damaged_row_is_put_aside_and_told_and_its_neighbours_go_on(
    tmp_path: Path, change: str
) -> None:
    warnings = Warnings()
    async with opened(tmp_path) as database:
        outbox = await outbox_in(database, warn=warnings)
        for text in (b"first", b"second", b"third"):
            await put(database, outbox, [text], request_id="r")
        await database.run(lambda c: c.execute(f"UPDATE outbox SET {change} WHERE id = 2"))
        assert await load_all(outbox) == [[b"first"], [b"third"]]
        assert outbox.damaged_events >= 1
        assert len(warnings) == 1
        assert "damaged" in warnings[0]
        assert outbox.rows == 0
        await put(database, outbox, [b"fourth"])
        assert await load_all(outbox) == [[b"fourth"]]
    with closing(sqlite3.connect(tmp_path / "state.db")) as connection:
        kept = connection.execute("SELECT id, file FROM outbox").fetchall()
    assert kept == [(2, "damaged")]
