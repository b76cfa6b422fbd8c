"""Dead letters are changed by a second process while the first one writes."""

import asyncio
import json
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from anyio import to_thread

from ingestd.app.letters.purge import purge as purge_letters
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.delivery.sink_runner import rebuild
from ingestd.store.chosen_letters import PurgeResult
from ingestd.store.connection import MARK_NAME, StoreFailed, connect, unpack_mark
from ingestd.store.database import Database
from ingestd.store.dead_letters import Filter
from ingestd.store.letter_changes import LetterChanges
from ingestd.store.letter_leases import BROKEN, letters_delivered
from ingestd.store.letter_mates import count_mates
from ingestd.store.letter_queue import LetterQueue
from ingestd.store.new_letters import insert_letters
from tests.event_api import noise
from tests.ids import new_id
from tests.integration.store.tmpfs import fill as fill_disk
from tests.integration.store.tmpfs import small_disk
from tests.machine import patience

pytestmark = pytest.mark.anyio

NOW = 1_000_000.0


class StoppedClock(SystemClock):
    """Its wall time is moved by hand."""

    now = NOW

    def wall(self) -> float:
        return self.now


def letter(offset: int, reason: Reason = Reason.INVALID, **fields: Any) -> DeadLetter:
    return DeadLetter(b"{}", reason, "no", 1, offset, offset + 1, **fields)


async def fill(database: Database, *letters: DeadLetter) -> Path:
    await database.run(lambda c: insert_letters(c, letters, NOW))
    return database.path.parent


def queue(database: Database, clock: StoppedClock, *, requested_only: bool = False) -> LetterQueue:
    return LetterQueue(
        database,
        sink="ingest_api",
        sinks_of=lambda events: [["ingest_api"] for _ in events],
        max_events=1000,
        max_bytes=10**6,
        requested_only=requested_only,
        clock=clock,
    )


async def leased(database: Database) -> list[int]:
    return [letter.id for letter in await queue(database, StoppedClock()).lease()]


def rows(directory: Path, columns: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        return connection.execute(f"SELECT {columns} FROM letters ORDER BY id").fetchall()


def request(directory: Path, *numbers: int, now: float = NOW, **limits: Any) -> int:
    with LetterChanges.open(directory, **limits) as changes:
        return changes.request(numbers, now=now).marked


def edit(directory: Path, number: int, payload: bytes) -> int:
    with LetterChanges.open(directory) as changes:
        return changes.edit(number, payload, now=NOW)


def purge(directory: Path, where: Filter, **limits: Any) -> PurgeResult:
    done = PurgeResult()
    with LetterChanges.open(directory, **limits) as changes:
        changes.purge(where, now=NOW, done=done)
    return done


def mark_all(directory: Path, **limits: Any) -> int:
    """As ``dlq retry --all`` does it."""
    with LetterChanges.open(directory, **limits) as changes:
        pages = changes.pages(Filter(), NOW)
        return sum(changes.request([one.id for one in page], now=NOW).marked for page in pages)


def commits(directory: Path) -> tuple[int, int]:
    """(in the database, in the mark beside it)."""
    with closing(sqlite3.connect(directory / "state.db")) as connection:
        row: tuple[int] = connection.execute("SELECT value FROM meta WHERE name = 'commits'").fetchone()
    return row[0], unpack_mark((directory / MARK_NAME).read_bytes())[0]


@contextmanager
def foreign_lock(directory: Path) -> Iterator[None]:
    with closing(connect(directory / "state.db")) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


async def test_what_is_requested_is_leased_next_whatever_its_reason_and_age(database: Database) -> None:
    old = letter(2, Reason.GAVE_UP, first_sent_wall=NOW - 10**6)
    directory = await fill(database, letter(1), old, letter(3))
    assert await leased(database) == []
    assert request(directory, 1, 2) == 2
    assert commits(directory)[0] == commits(directory)[1], "they are the writer's own"
    assert await leased(database) == [1, 2]
    assert rows(directory, "state, requested") == [("leased", NOW), ("leased", NOW), ("waiting", 0)]


async def test_a_request_that_may_have_been_taken_is_marked_whole_and_counted_once(
    database: Database,
) -> None:
    whole = [
        letter(n, Reason.GAVE_UP, batch="b", batch_index=n, batch_size=3, ambiguous=True) for n in range(3)
    ]
    directory = await fill(database, *whole, letter(9))
    assert request(directory, 2) == 3
    assert request(directory, 2, 4) == 1, "marked already"
    assert request(directory, 2, now=NOW + 1) == 3


async def test_who_goes_along_is_told_apart_by_the_key_that_it_goes_under(database: Database) -> None:
    def of(batch: str, size: int, *indices: int, **fields: Any) -> list[DeadLetter]:
        fields = {"batch": batch, "batch_size": size, "ambiguous": True, "first_sent_wall": NOW, **fields}
        fields["sink"] = "ingest_api"
        return [letter(ord(batch) * 9 + n, Reason.GAVE_UP, batch_index=n, **fields) for n in indices]

    whole, broken = of("a", 3, 0, 1, 2), of("b", 4, 0, 1, 3)
    old = of("c", 2, 0, 1, first_sent_wall=NOW - 10**6)
    directory = await fill(database, *whole, *broken, *old, letter(1))
    one_each, others, everything = [1, 4, 7, 9], [2, 3, 5, 6, 8], range(1, 10)
    with LetterChanges.open(directory) as changes:
        assert count_mates(changes.connection, one_each, now=NOW) == (5, 2, 5)
        assert count_mates(changes.connection, [2, 5], now=NOW) == (-2, -1, 0), (
            "they were counted, and are chosen now"
        )
        wished = changes.request(one_each, now=NOW)
        assert (wished.marked, wished.chosen, wished.rekeyed, wished.risky) == (9, 4, 2, 5)
        wished = changes.request(others, now=NOW)
        assert (wished.marked, wished.chosen, wished.rekeyed) == (0, 5, -2), "they were chosen after all"
        wished = changes.request(everything, now=NOW + 1)
        assert (wished.marked, wished.chosen, wished.rekeyed) == (9, 9, 0)
    clock = StoppedClock()
    clock.now = NOW + 1
    sent = [await queue(database, clock).lease() for _ in range(4)]
    keys = {tuple(one.id for one in some): rebuild(some, new_id).id for some in sent}
    assert keys[1, 2, 3] == "a", "under the same key"
    assert keys[7, 8] == "c", "under the same key, though an API may have forgotten it"
    assert keys[4, 5, 6] != "b", "under a new one"


async def test_what_is_on_its_way_or_delivered_is_not_marked_changed_or_purged(database: Database) -> None:
    directory = await fill(database, letter(1), letter(2), letter(3))
    request(directory, 1, 2)
    assert await leased(database) == [1, 2]
    await database.run(lambda c: letters_delivered(c, [2], NOW))
    assert request(directory, 1, 2) == 0
    for number, why in ((1, "is being sent at this moment"), (2, "no longer waits"), (99, "no longer waits")):
        with pytest.raises(UserError, match=f"dead letter {number} {why}, and was not changed"):
            edit(directory, number, b'{"new":1}')
    assert purge(directory, Filter()).deleted == 1
    assert purge(directory, Filter(ids=(1,), state="all")).deleted == 0
    assert rows(directory, "id, state, payload") == [(1, "leased", b"{}"), (2, "delivered", b"{}")]


async def test_a_corrected_letter_is_leased_with_its_new_payload(database: Database) -> None:
    directory = await fill(database, letter(1))
    edit(directory, 1, b'{"new":1}')
    (found,) = await queue(database, StoppedClock()).lease()
    assert (found.payload, found.intact) == (b'{"new":1}', True)


async def test_a_letter_that_the_lane_keeps_through_a_long_outage_is_not_leased_again(
    database: Database,
) -> None:
    directory = await fill(database, letter(1))
    request(directory, 1)
    clock = StoppedClock()
    desks = queue(database, clock)
    assert len(await desks.lease()) == 1
    clock.now += 7 * 86400
    assert await desks.lease() == [], "it would go out twice, under two keys"


async def test_the_writer_goes_on_beside_large_changes_and_its_count_of_commits_stays_true(
    tmp_path: Path,
) -> None:
    database = Database(tmp_path, patient=True)
    await database.open()
    await fill(database, *(letter(n) for n in range(2500)))
    over = asyncio.Event()
    has_written = threading.Event()
    steps: list[bool] = []

    def give_way(_: float) -> None:
        has_written.clear()
        steps.append(has_written.wait(patience(20)))

    async def write() -> int:
        count = 0
        while not over.is_set():
            await database.append(lambda c: c.execute("UPDATE meta SET value = value WHERE name = 'commits'"))
            count += 1
            has_written.set()
        return count

    writing = asyncio.create_task(write())
    change: dict[str, Any] = {"step_letters": 100, "give_way": give_way}
    marked = await asyncio.to_thread(partial(mark_all, tmp_path, **change))
    purged = (await asyncio.to_thread(partial(purge, tmp_path, Filter(reason="invalid"), **change))).deleted
    over.set()
    assert (marked, purged, database.blocked) == (2500, 2500, None)
    written = await writing
    assert len(steps) >= 50
    assert all(steps), "between the steps it gets its turn"
    await database.close()

    assert commits(tmp_path) == (written + 1, written + 1)
    again = Database(tmp_path)
    await again.open()
    assert again.writer.warning == ""
    await again.close()


async def test_a_store_that_cannot_be_changed_is_said_and_nothing_of_the_change_stays(
    database: Database,
) -> None:
    directory = await fill(database, letter(1))
    with foreign_lock(directory), pytest.raises(StoreFailed, match="is locked by another program"):
        request(directory, 1, busy_timeout_s=0.05)
    with pytest.raises(StoreFailed, match="cannot use"):
        request(directory / "nowhere", 1)
    assert not (directory / "nowhere").exists()
    await database.run(lambda c: c.execute("PRAGMA user_version = 1"))
    with pytest.raises(StoreFailed, match="in use by an ingestd of another version"):
        request(directory, 1)
    assert rows(directory, "requested, due") == [(0, None)]


async def test_a_failing_change_is_undone_whole(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    directory = await fill(database, letter(1))

    def fail(*_: object) -> int:
        raise sqlite3.OperationalError("as ordered")

    monkeypatch.setattr("ingestd.store.letter_changes.make_due", fail)
    with pytest.raises(StoreFailed, match="as ordered"):
        edit(directory, 1, b'{"new":1}')
    assert rows(directory, "payload, edited") == [(b"{}", 0)]
    assert await database.run(lambda c: c.execute("SELECT 1").fetchone()) == (1,), "no lock is left behind"


async def test_pieces_end_with_the_letters_that_were_there_and_hold_only_so_many_bytes(
    database: Database,
) -> None:
    large = [letter(n)._replace(payload=b"x" * 10) for n in range(20, 24)]
    directory = await fill(database, *(letter(n) for n in range(10)), *large)
    found = []
    with LetterChanges.open(directory, step_letters=4, step_bytes=25) as changes:
        for page in changes.pages(Filter(), NOW):
            found.append([one.id for one in page])
            await fill(database, letter(100 + len(found)))
    assert found == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12], [13, 14]]


async def test_what_an_interrupted_change_has_done_so_far_stays_and_is_told(database: Database) -> None:
    whole = [
        letter(n, Reason.GAVE_UP, batch="b", batch_index=n, batch_size=3, ambiguous=True) for n in range(3)
    ]
    directory = await fill(database, *whole)
    done = PurgeResult()

    class Interrupting(LetterChanges):
        def pages(self, where: Filter, now: float, *, payloads: bool = True) -> Iterator[Any]:
            yield next(super().pages(Filter(ids=(2,)), now, payloads=payloads))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), closing(connect(directory / "state.db")) as connection:
        Interrupting(connection).purge(Filter(), now=NOW, done=done)
    assert (done.deleted, done.left) == (1, 2)
    assert rows(directory, "id, due") == [(1, None), (3, None)]


async def test_on_a_full_disk_letters_are_deleted_a_few_at_a_time_and_make_room(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=8) as disk:
        database = Database(disk)
        await database.open()
        letters = [letter(number)._replace(payload=noise(number, 500).encode()) for number in range(6_000)]
        await fill(database, *letters)
        await database.close()
        await database.open()
        filler = fill_disk(disk)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 400_000)
        with LetterChanges.open(disk) as changes:
            changes.purge(Filter(), now=NOW, done=(done := PurgeResult()))
        assert done.deleted == 6_000
        filler.unlink()
        await database.close()


def in_requests(count: int, size: int) -> list[DeadLetter]:
    """Which may all have been taken."""
    return [
        letter(
            n, Reason.GAVE_UP, batch=str(n // size), batch_index=n % size, batch_size=size, ambiguous=True
        )._replace(payload=noise(n, 500).encode(), first_sent_wall=NOW, sink="ingest_api")
        for n in range(count)
    ]


async def test_on_a_full_disk_a_request_that_may_have_been_taken_costs_no_more_than_its_letters(
    tmp_path: Path,
) -> None:
    """To leave the others of it to a person each time would take room for all of it. Where not even that is
    there at the end, who leases them does it."""
    with small_disk(tmp_path / "disk", megabytes=8) as disk:
        database = Database(disk)
        await database.open()
        await fill(database, *in_requests(2_000, 500))
        await database.close()
        await database.open()
        filler = fill_disk(disk)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 120_000)
        assert purge(disk, Filter(ids=(7,))) == PurgeResult(1, 499)
        assert (1, 0) in rows(disk, "id < 501, due IS NULL"), "it has no room, or this shows nothing"
        assert purge(disk, Filter(ids=(*range(1_001, 2_001),))) == PurgeResult(1_000, 0)
        filler.unlink()
        clock = StoppedClock()
        clock.now = NOW + 3_600
        assert [one.id for one in await queue(database, clock).lease()] == [*range(501, 1_001)]
        waits = [row for row in rows(disk, "id, due IS NULL, obstacle") if row[0] < 501]
        assert (len(waits), {row[1:] for row in waits}) == (499, {(1, BROKEN)})
        await database.close()


async def test_on_a_disk_without_any_room_the_ballast_gives_some_and_is_there_again(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", megabytes=16) as disk:
        database = Database(disk, ballast_bytes=4 * 1024**2)
        await database.open()
        await fill(database, *in_requests(2_000, 500))
        await database.close()
        assert (disk / "ballast").stat().st_size == 4 * 1024**2
        filler = fill_disk(disk)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 40_000)  # so that it can be looked into
        done = await to_thread.run_sync(purge_letters, str(disk), Filter())
        assert (done.deleted, done.left) == (2_000, 0)
        assert (disk / "ballast").stat().st_size >= 1024**2  # some is left to the log


async def test_what_was_deleted_before_the_store_failed_is_told_and_in_the_audit_file(
    database: Database,
) -> None:
    directory = await fill(database, *map(letter, range(2_500)))
    await database.run(
        lambda c: c.execute(
            "CREATE TRIGGER ordered BEFORE DELETE ON sealed_letters WHEN old.id > 2400"
            " BEGIN SELECT RAISE(ABORT, 'as ordered'); END"
        )
    )
    await database.close()
    with pytest.raises(StoreFailed, match=r"^2,000 letters deleted, and then: .*as ordered"):
        await to_thread.run_sync(purge_letters, str(directory), Filter())
    told = json.loads((directory / "audit.jsonl").read_text())
    assert (told["event"], told["count"]) == ("LETTERS_PURGED", 2_000)


async def test_a_letter_whose_sink_is_no_text_any_more_holds_up_no_other(database: Database) -> None:
    directory = await fill(database, letter(1), letter(2), letter(3))
    await fill(database, letter(4), letter(5))
    await database.run(lambda c: c.execute("UPDATE envelopes SET sink = CAST(x'61FF' AS TEXT) WHERE id = 1"))
    with LetterChanges.open(directory) as changes:
        pages = [*changes.pages(Filter(), NOW)]
        assert [(one.id, one.sink) for one in pages[0]] == [
            *((number, "a\ufffd") for number in (1, 2, 3)),
            *((number, "") for number in (4, 5)),
        ]
        assert changes.request([1, 4], now=NOW).chosen == 2
        changes.purge(Filter(), now=NOW, done=(done := PurgeResult()))
    assert done.deleted == 5
