"""A state file of an older format is brought up to date, and what was under way in it is known."""

import sqlite3
import time
import zlib
from collections.abc import Iterator
from contextlib import closing
from importlib import resources
from pathlib import Path

import pytest

from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.delivery.sink_runner import rebuild
from ingestd.store import dead_letters, letter_changes, letter_leases, new_letters
from ingestd.store.connection import PRAGMAS, connect, connect_in_memory, newest_schema
from tests.each import each
from tests.ids import new_id

pytestmark = pytest.mark.anyio


def make_old(path: Path, version: int) -> sqlite3.Connection:
    """A state file as a process of that format had made it."""
    connection = sqlite3.connect(path, isolation_level=None)
    for number in range(1, version + 1):
        script = resources.files("ingestd.store").joinpath(f"schema_{number}.sql").read_text()
        connection.executescript(script)
    connection.execute(f"PRAGMA user_version = {version}")
    return connection


def to_one(events: list[bytes]) -> list[list[str]]:
    """All events go to one sink."""
    return [["a"] for _ in events]


async def test_a_new_file_is_as_one_that_went_through_all_migrations(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "old.db")) as begun:
        begun.executescript(PRAGMAS)
    make_old(tmp_path / "old.db", 1).close()
    with closing(connect(tmp_path / "old.db")) as old, closing(connect(tmp_path / "new.db")) as new:
        assert everything(new) == everything(old), "make reference writes newest_schema.sql again"
        assert len(everything(new)) > 30
    with closing(connect_in_memory()) as memory:
        assert list(memory.iterdump()) == list(newest())


def newest() -> Iterator[str]:
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.executescript(newest_schema())
        yield from connection.iterdump()


def everything(connection: sqlite3.Connection) -> list[object]:
    """Tables, indexes, triggers, rows and what the file itself says."""
    said = [
        connection.execute(f"PRAGMA {name}").fetchone()
        for name in ("user_version", "auto_vacuum", "journal_mode", "application_id", "encoding", "page_size")
    ]
    found = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name")
    return [*found, *connection.iterdump(), *said]


@each("version", [1, 3])
async def test_letters_are_counted_found_when_they_are_due_and_known_by_their_places(
    tmp_path: Path, version: int
) -> None:
    insert = (
        "INSERT INTO letters (state, reason, detail, fingerprint, payload, checksum, source, offset, line,"
        " batch, batch_index, batch_size, unanswered, attempts, first_sent, first_failed, last_failed, due,"
        " requested) VALUES (?1, 'gave_up', '', '', x'7b7d', ?2, 1, ?3, 1, 'b' || ?3, 0, 1, 1, 1, 5, 5, 5,"
        " ?4, ?5)"
    )
    crc = zlib.crc32(b"{}")
    with make_old(tmp_path / "state.db", version) as old:
        old.executemany(
            insert,
            [("waiting", crc, 1, 9.0, 1), ("waiting", crc, 2, None, 0), ("delivered", crc, 3, None, 0)],
        )
        before = "reason = 'unfit', fingerprint = 'unfit: no'"
        old.execute(f"UPDATE letters SET {before} WHERE state = 'delivered'")
        if version == 3:
            old.execute("UPDATE letters SET sink = 'ingest_api'")
    old.close()
    again = DeadLetter(b"{}", Reason.GAVE_UP, "again", 1, 1, 1, sink="ingest_api")
    with closing(connect(tmp_path / "state.db")) as now:
        assert dead_letters.count(now) == {"waiting": 2, "leased": 0, "delivered": 1}
        (renamed,) = dead_letters.select(now, "state = 'delivered'", [])
        assert (renamed.reason, renamed.fingerprint) == (Reason.UNENCODABLE, "unencodable: no")
        new_letters.insert_letters(now, [again], 9.0)
        limits = {"max_events": 9, "max_bytes": 999, "requested_only": True, "sinks_of": to_one}
        (leased,) = letter_leases.lease_due(now, now=10.0, sink="ingest_api", **limits).letters
        assert (leased.id, leased.detail, leased.obstacle) == (1, "", "")
        assert dead_letters.count(now) == {"waiting": 1, "leased": 1, "delivered": 1}


async def test_a_letter_that_was_on_its_way_under_a_key_that_nobody_knows_waits_for_a_person(
    tmp_path: Path,
) -> None:
    """The versions before kept the keys of whole requests only."""
    insert = (
        "INSERT INTO letters (state, reason, detail, fingerprint, payload, checksum, source, offset, line,"
        " batch, batch_index, batch_size, unanswered, attempts, first_sent, first_failed, last_failed, due,"
        " sink) VALUES ('leased', 'gave_up', '', '', x'7b7d', ?2, 1, ?1, 1, ?3, 0, 1, ?4, 1, 5, 5, 5, 9, 'a')"
    )
    crc = zlib.crc32(b"{}")
    with make_old(tmp_path / "state.db", 3) as old:
        old.executemany(insert, [(1, crc, "loose", 0), (2, crc, "whole", 1)])
    old.close()
    with closing(connect(tmp_path / "state.db")) as now:
        letter_leases.release_leases(now)
        limits = {"max_events": 9, "max_bytes": 999, "sink": "a", "sinks_of": to_one}
        (leased,) = letter_leases.lease_due(now, now=10.0, **limits).letters
        assert (leased.id, leased.batch) == (2, "whole")
        assert letter_leases.lease_due(now, now=10.0, **limits).letters == []
        ((obstacle,),) = now.execute("SELECT obstacle FROM letters WHERE id = 1 AND due IS NULL")
        assert "may have been taken" in obstacle
        assert letter_changes.make_due(now, [1], 11.0) == (1, 1, 1, 0), "a person is told of the risk"
        (leased,) = letter_leases.lease_due(now, now=11.0, **limits).letters
        assert (leased.id, rebuild([leased], new_id).id != "loose") == (1, True)


async def test_what_a_person_had_asked_for_is_tried_for_a_day_from_the_migration_on(tmp_path: Path) -> None:
    with make_old(tmp_path / "state.db", 3) as old:
        old.execute(
            "INSERT INTO letters (state, reason, detail, fingerprint, payload, checksum, source, offset,"
            " line, batch, batch_index, batch_size, unanswered, attempts, first_sent, first_failed,"
            " last_failed, due, sink, requested)"
            " VALUES ('waiting', 'gave_up', '', '', x'7b7d', 0, 1, 1, 1, 'b', 0, 1, 0, 1, 5, 5, 5, 9, 'a', 1)"
        )
    old.close()
    with closing(connect(tmp_path / "state.db")) as now:
        wall = time.time()
        failed = DeadLetter(b"", Reason.GAVE_UP, "503", 0, 0, 0, sink="a", first_sent_wall=wall)
        letter_leases.letters_failed(now, [(1, failed)], wall)
        ((due, requested),) = now.execute("SELECT due, requested FROM letters")
        assert due > wall
        assert abs(requested - wall) < 600


async def test_letters_of_a_real_store_of_format_7_stay_as_they_are_and_later_ones_are_numbered_on(
    tmp_path: Path,
) -> None:
    with sqlite3.connect(tmp_path / "state.db", isolation_level=None) as old:
        old.executescript(Path(__file__).with_name("state_7.sql").read_text(encoding="utf-8"))
        old.execute("PRAGMA user_version = 7")
        old.text_factory = bytes
        before = old.execute("SELECT * FROM letters ORDER BY id").fetchall()
        columns = [row[1].decode() for row in old.execute("PRAGMA table_info(letters)")]
    old.close()
    with closing(connect(tmp_path / "state.db")) as now:
        now.text_factory = bytes
        for table in ("letters", "single_letters"):
            assert now.execute(f"SELECT {', '.join(columns)} FROM {table} ORDER BY id").fetchall() == before
    with closing(connect(tmp_path / "state.db")) as now:
        stored = dead_letters.select(now, "1 ORDER BY id", [])
        assert [one.reason for one in stored] == ["invalid", "unparsable", *["refused"] * 5]
        assert all(one.intact for one in stored)
        there = [
            DeadLetter(one.payload, Reason(one.reason), "", 1, one.offset, one.line, sink=one.sink)
            for one in stored
        ]
        later = [DeadLetter(b"{}", Reason.REFUSED, "no", 1, 9000 + n, n, sink="ingest_api") for n in range(3)]
        new_letters.insert_letters(now, [*there, *later], 9.0)
        stored = dead_letters.select(now, "1 ORDER BY id", [])
        assert [(one.id, one.offset) for one in stored[7:]] == [(8, 9000), (9, 9001), (10, 9002)]
        assert dead_letters.count(now) == {"waiting": 10, "leased": 0, "delivered": 0}
        assert letter_changes.make_due(now, [3, 4, 9], 10.0).marked == 3
        limits = {"max_events": 9, "max_bytes": 99_999, "sink": "ingest_api", "sinks_of": to_one}
        assert [one.id for one in letter_leases.lease_due(now, now=10.0, **limits).letters] == [3, 4, 9]


async def test_a_store_without_a_letter_numbers_its_first_ones_from_one(tmp_path: Path) -> None:
    make_old(tmp_path / "state.db", 7).close()
    letters = [DeadLetter(b"{}", Reason.REFUSED, "no", 1, n, n, sink="a") for n in range(2)]
    with closing(connect(tmp_path / "state.db")) as now:
        new_letters.insert_letters(now, letters, 9.0)
        assert [one.id for one in dead_letters.select(now, "1 ORDER BY id", [])] == [1, 2]
