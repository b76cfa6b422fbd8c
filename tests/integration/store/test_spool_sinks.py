"""The spool with several sinks over several starts: who goes on where, and what is given up."""

import json
import sqlite3
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path

import anyio.to_thread
import pytest
from click.testing import CliRunner, Result

from ingestd.cli.group import cli
from ingestd.store.confirmations import Pending, insert_confirmations
from ingestd.store.connection import FILE_NAME, connect
from ingestd.store.database import Database
from ingestd.store.journal import Journal
from ingestd.store.lock import DirectoryLock
from ingestd.store.spool import Spool
from ingestd.store.spool_inspection import SinkContents, SpoolInspection
from tests.each import each

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0


@asynccontextmanager
async def opened(directory: Path, *sinks: str) -> AsyncIterator[Spool]:
    """One life of a service with these sinks; ends like a clean shutdown."""
    database = Database(directory, patient=True)
    await database.open()
    spool = Spool(database, sinks=sinks)
    await spool.open(now=NOW)
    journal = Journal(database, spool)
    try:
        yield spool
        if not spool.left_behind:
            await journal.commit()
    finally:
        await spool.close()
        await database.close()


async def append(spool: Spool, *events: bytes) -> None:
    for number, event in enumerate(events):
        _, on_disk = spool.append([([event], [None])], now=NOW + number)
        await on_disk


async def waiting(spool: Spool, sink: str) -> list[bytes]:
    """The events that this sink has not had."""
    chunks, _ = await spool.read(first=spool.cursors[sink].unread, before=spool.end, limit=1000)
    return [event for spooled in chunks for event in spooled.events]


async def deliver(spool: Spool, sink: str, count: int) -> None:
    """The next ``count`` chunks have their end at this sink, as its feed would tell."""
    cursor = spool.cursors[sink]
    chunks, following = await spool.read(first=cursor.unread, before=cursor.unread + count, limit=count)
    for spooled in chunks:
        spool.open_chunk(sink, spooled, lambda events: {name: range(1) for name in spool.cursors})
        cursor.unread = spooled.end
        spooled.receipt.expect(sink, 1)
        spooled.receipt.resolve(sink, range(1), ())
        spooled.receipt.finish(sink, 1)
    cursor.unread = following


async def two_sinks(directory: Path) -> None:
    """Four chunks: crm has had three of them, hooks one."""
    async with opened(directory, "crm", "hooks") as spool:
        await append(spool, b"1", b"2", b"3", b"4")
        await deliver(spool, "crm", 3)
        await deliver(spool, "hooks", 1)


def rows(directory: Path) -> list[int]:
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection:
        return [row[0] for row in connection.execute("SELECT id FROM spool ORDER BY id")]


@contextmanager
def changing(directory: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(directory / FILE_NAME)) as connection:
        yield connection


async def spool_command(*words: object, answer: str = "") -> Result:
    """In a thread, because the command has an event loop of its own."""
    return await anyio.to_thread.run_sync(
        lambda: CliRunner().invoke(cli, ["spool", *map(str, words)], input=answer)
    )


async def test_every_sink_goes_on_where_it_was(tmp_path: Path) -> None:
    await two_sinks(tmp_path)
    async with opened(tmp_path, "crm", "hooks") as spool:
        assert await waiting(spool, "crm") == [b"4"]
        assert await waiting(spool, "hooks") == [b"2", b"3", b"4"]


async def test_a_sink_that_is_gone_while_chunks_wait_for_it_is_named(tmp_path: Path) -> None:
    await two_sinks(tmp_path)
    async with opened(tmp_path, "crm") as spool:
        assert spool.left_behind == {"hooks": 3}
    assert rows(tmp_path) == [2, 3, 4]


async def test_a_sink_is_known_from_the_start_on_not_from_the_first_chunk_that_it_had(tmp_path: Path) -> None:
    """kill -9 just after the first events were accepted: nothing but them was ever written."""
    database = Database(tmp_path, patient=True)
    await database.open()
    spool = Spool(database, sinks=("crm", "hooks"))
    await spool.open(now=NOW)
    await append(spool, b"1")
    await spool.close()
    await database.close()
    async with opened(tmp_path, "crm") as spool:
        assert spool.left_behind == {"hooks": 1}


async def test_a_sink_that_went_with_nothing_waiting_does_not_wait_for_what_comes_later(
    tmp_path: Path,
) -> None:
    async with opened(tmp_path, "crm", "hooks") as spool:
        await append(spool, b"1")
        await deliver(spool, "crm", 1)
        await deliver(spool, "hooks", 1)
    for events in ((b"2", b"3"), ()):
        async with opened(tmp_path, "crm") as spool:
            assert spool.left_behind == {}
            await append(spool, *events)
    async with opened(tmp_path, "crm", "hooks") as spool:
        assert spool.left_behind == {}
        assert await waiting(spool, "hooks") == await waiting(spool, "crm") == [b"2", b"3"]


async def test_what_the_last_sink_left_has_had_does_not_go_there_again(tmp_path: Path) -> None:
    """A crash between the end of a chunk at both sinks and the end of its row, and then one sink less."""
    await two_sinks(tmp_path)
    with changing(tmp_path) as connection:
        connection.execute("UPDATE cursors SET position = 5 WHERE sink = 'hooks'")
    async with opened(tmp_path, "crm") as spool:
        assert spool.left_behind == {}
        assert await waiting(spool, "crm") == [b"4"]


# --- the commands ---


async def test_stat_tells_how_far_each_sink_is_behind(tmp_path: Path) -> None:
    await two_sinks(tmp_path)
    assert SpoolInspection(tmp_path).stock().sinks == [
        SinkContents("crm", 1, NOW + 3),
        SinkContents("hooks", 3, NOW + 1),
    ]
    told = json.loads((await spool_command("stat", "--state-dir", tmp_path, "--json")).output)
    assert [(sink["name"], sink["chunks_behind"]) for sink in told["sinks"]] == [("crm", 1), ("hooks", 3)]
    assert told["sinks"][1]["oldest_seconds"] > told["sinks"][0]["oldest_seconds"] > 0
    assert (
        "hooks: 3 chunks behind, the oldest for "
        in (await spool_command("stat", "--state-dir", tmp_path)).output
    )


async def test_forget_gives_up_what_nobody_else_waits_for_and_lets_the_others_start(tmp_path: Path) -> None:
    await two_sinks(tmp_path)
    done = await spool_command("forget", "hooks", "--state-dir", tmp_path, "--yes", "--json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output) == {"chunks": 3, "events": 3, "gone": 2, "unconfirmed": 0, "in_batches": 0}
    assert rows(tmp_path) == [4]
    assert (await spool_command("check", "--state-dir", tmp_path)).exit_code == 0
    async with opened(tmp_path, "crm") as spool:
        assert (spool.left_behind, spool.chunks) == ({}, 1)
        assert await waiting(spool, "crm") == [b"4"]
        await append(spool, b"5")
    async with opened(tmp_path, "crm", "hooks") as spool:
        assert await waiting(spool, "hooks") == [b"5"]
    (entry,) = [json.loads(line) for line in (tmp_path / "audit.jsonl").read_text().splitlines()]
    assert (entry["event"], entry["sink"], entry["chunks"]) == ("SINK_FORGOTTEN", "hooks", 3)


async def test_forget_asks_and_takes_no_for_an_answer(tmp_path: Path) -> None:
    await two_sinks(tmp_path)
    done = await spool_command("forget", "hooks", "--state-dir", tmp_path, answer="n\n")
    assert done.exit_code == 1
    assert (
        "Drop up to 3 events of sink hooks (3 chunks; no other sink waits for 2 of them)? [y/N]"
        in done.output
    )
    assert rows(tmp_path) == [2, 3, 4]
    assert not (tmp_path / "audit.jsonl").exists()


@each("answer", ["--yes", ""])
async def test_forget_refuses_beside_a_process(tmp_path: Path, answer: str) -> None:
    await two_sinks(tmp_path)
    lock = DirectoryLock(tmp_path)
    try:
        done = await spool_command("forget", "hooks", "--state-dir", tmp_path, *filter(None, [answer]))
        assert "stop it first" in str(done.exception)
    finally:
        lock.release()
    assert rows(tmp_path) == [2, 3, 4]


async def test_forget_knows_the_sinks_that_the_spool_waits_for(tmp_path: Path) -> None:
    await two_sinks(tmp_path)
    for sink in ("hoks", "hooks", "hooks"):
        done = await spool_command("forget", sink, "--state-dir", tmp_path, "--yes")
    assert "wait for a sink named hooks" in str(done.exception)


async def test_after_the_only_sinks_were_forgotten_the_next_start_sends_what_is_there(
    tmp_path: Path,
) -> None:
    await two_sinks(tmp_path)
    for sink in ("crm", "hooks"):
        assert (await spool_command("forget", sink, "--state-dir", tmp_path, "--yes")).exit_code == 0
    async with opened(tmp_path, "other") as spool:
        assert await waiting(spool, "other") == [b"2", b"3", b"4"]


async def test_confirmations_that_nobody_would_ask_for_any_more_are_given_up_too(tmp_path: Path) -> None:
    await two_sinks(tmp_path)
    with changing(tmp_path) as connection:
        for sink in ("hooks", "single"):
            insert_confirmations(
                connection, [Pending(sink, "remote-1", "", 1, 1, 1, None, 1, b"{}")], NOW, initial_delay_s=1.0
            )
    for sink, chunks in (("hooks", 3), ("single", 0)):
        done = await spool_command("forget", sink, "--state-dir", tmp_path, "--yes", "--json")
        told = json.loads(done.output)
        assert (told["chunks"], told["unconfirmed"]) == (chunks, 1)
    with changing(tmp_path) as connection:
        assert connection.execute("SELECT count(*) FROM confirmations").fetchone() == (0,)
