"""Dead letters where there are several sinks: whose they are, and which of them are given with their keys."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.clock import SystemClock
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.store import dead_letters, letter_changes, letter_leases, new_letters
from ingestd.store.connection import connect
from ingestd.store.database import Database
from ingestd.store.dead_letters import StoredLetter
from ingestd.store.letter_queue import LetterQueue, assign

NOW = 1_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(tmp_path / "state.db")
    yield connection
    connection.close()


def letter(offset: int, sink: str = "", *, payload: bytes = b"{}", **fields: Any) -> DeadLetter:
    reason = Reason.GAVE_UP if sink else Reason.INVALID
    return DeadLetter(payload, reason, "why", 1, offset, offset + 1, sink=sink, **fields)


def put(store: sqlite3.Connection, *letters: DeadLetter, due: bool = True) -> None:
    new_letters.insert_letters(store, letters, NOW)
    if due:
        letter_changes.make_due(store, range(1, 3000), NOW)


def rows(store: sqlite3.Connection) -> list[tuple[str, int, bytes]]:
    """(sink, offset, payload) of each."""
    return [(one.sink, one.offset, one.payload) for one in dead_letters.select(store, "1 ORDER BY id", [])]


def by_words(events: list[bytes]) -> list[list[str]]:
    """Events name the sinks they go to."""
    return [event.decode().split() for event in events]


def lease(store: sqlite3.Connection, sink: str, **limits: Any) -> list[StoredLetter]:
    limits = {"max_events": 100, "max_bytes": 10_000, **limits}
    return letter_leases.lease_due(store, now=NOW + 100, sink=sink, sinks_of=by_words, **limits).letters


def test_a_rejected_event_that_was_corrected_becomes_one_letter_for_each_sink(
    store: sqlite3.Connection,
) -> None:
    put(store, letter(0, payload=b"a b c"), letter(10, payload=b"b"))
    assert assign(store, by_words, now=NOW) == 2
    assert sorted(rows(store)) == [
        ("a", 0, b"a b c"),
        ("b", 0, b"a b c"),
        ("b", 10, b"b"),
        ("c", 0, b"a b c"),
    ]
    assert dead_letters.count_requested(store) == 4
    assert [len(lease(store, sink)) for sink in "abc"] == [1, 2, 1]
    assert assign(store, by_words, now=NOW) == 0


def test_one_that_matches_no_sink_waits_with_words_however_often_it_is_tried(
    store: sqlite3.Connection,
) -> None:
    put(store, letter(0, payload=b""))
    for _ in range(3):
        assert assign(store, by_words, now=NOW) == 1
        assert assign(store, by_words, now=NOW) == 0
        letter_changes.make_due(store, range(1, 3000), NOW)
    (found,) = dead_letters.select(store, "1", [])
    assert (found.sink, found.state) == ("", "waiting")
    assert found.detail == "it matches the pattern of no sink; why"


def test_a_line_that_is_rejected_again_gets_no_second_letter_once_the_first_has_a_sink(
    store: sqlite3.Connection,
) -> None:
    """After a crash the file is read again, and the letter has been corrected and sent meanwhile."""
    put(store, letter(0, payload=b"wrong"))
    letter_changes.edit_payload(store, 1, b"a")
    assign(store, by_words, now=NOW)
    letter_leases.letters_delivered(store, [1], NOW)
    put(store, letter(0, payload=b"wrong"), letter(5, payload=b"new"))
    assert rows(store) == [("a", 0, b"a"), ("", 5, b"new")]


def test_each_sink_has_a_letter_of_its_own_of_an_event(store: sqlite3.Connection) -> None:
    for _ in range(2):
        put(store, letter(0, "a"), letter(0, "b"))
    assert rows(store) == [("a", 0, b"{}"), ("b", 0, b"{}")]


def test_a_corrected_event_is_not_lost_where_its_sink_has_a_letter_of_that_line_already(
    store: sqlite3.Connection,
) -> None:
    """The line was rejected by one schema, and read again under another, when the sinks refused it."""
    put(store, letter(0, payload=b"a b"))
    put(store, letter(0, "a", payload=b"old"), letter(0, "b", payload=b"old"))
    assert assign(store, by_words, now=NOW) == 1
    assert sorted(payload for _, _, payload in rows(store)) == [b"a b", b"a b", b"old", b"old"]
    assert sorted(one.payload for one in lease(store, "a")) == [b"a b", b"old"]
    assert sorted(one.payload for one in lease(store, "b")) == [b"a b", b"old"]


@pytest.mark.parametrize("device", [5, 0])  # a file, a stream
def test_a_letter_comes_without_its_key_while_its_event_may_be_read_again(
    store: sqlite3.Connection, device: int
) -> None:
    insert = "INSERT INTO sources (id, path, device, inode, head, head_bytes, position, updated)"
    store.execute(f"{insert} VALUES (1, 'x', ?, 0, x'', 0, 10, 0)", (device,))
    put(
        store,
        letter(9, "a", payload=b"a b", digest=b"k" * 16),
        letter(10, "a", payload=b"a b", digest=b"l" * 16),
        letter(11, "a", payload=b"a", digest=b"m" * 16),  # no other sink lacks it
    )
    assert [one.digest for one in lease(store, "a")] == [b"k" * 16, None, b"m" * 16]


def test_what_the_spool_has_taken_is_known_all_the_time(store: sqlite3.Connection) -> None:
    insert = "INSERT INTO sources (id, path, device, inode, head, head_bytes, position, updated)"
    store.execute(f"{insert} VALUES (1, 'spool', -1, -1, x'', 0, 0, 0)")
    put(store, letter(9, "a", payload=b"a b", digest=b"k" * 16))
    assert [one.digest for one in lease(store, "a")] == [b"k" * 16]


@pytest.mark.anyio
async def test_all_that_were_asked_for_have_their_sinks_before_the_first_is_leased(
    database: Database,
) -> None:
    """However many: the worker of a sink that finds none left goes home."""
    rejected = [letter(number, payload=b"b" if number < 1500 else b"a") for number in range(2500)]
    await database.run(lambda c: put(c, *rejected))
    desk = LetterQueue(
        database,
        sink="a",
        sinks_of=by_words,
        max_events=5000,
        max_bytes=1_000_000,
        requested_only=True,
        clock=SystemClock(),
    )
    assert len(await desk.lease()) == 1000


def test_whether_an_event_has_a_letter_is_found_without_looking_at_the_others(tmp_path: Path) -> None:
    """SQLite prefers the partial index's own condition to the equality: bad lines would take hours."""
    connection = connect(tmp_path / "state.db")
    try:
        asked: list[str] = []
        connection.set_trace_callback(asked.append)
        rejected = DeadLetter(b"{", Reason.UNPARSABLE, "no JSON", 1, 7, 1)
        for _ in range(2):  # the second time each is asked for
            new_letters.insert_letters(connection, [rejected], 0.0)
        connection.set_trace_callback(None)
        questions = [sql for sql in asked if sql.startswith(("SELECT 1 FROM", "WITH RECURSIVE"))]
        plans = [str(connection.execute(f"EXPLAIN QUERY PLAN {one}").fetchall()) for one in questions]
        sealed = "envelopes_by_place (source=? AND level=? AND first_offset>? AND first_offset<?)"
        among, one = "letters_by_origin (source=? AND offset>? AND offset<?)", "(source=? AND offset=?)"
        expected = (sealed, among, sealed, among, one)
        assert [wanted in plan for wanted, plan in zip(expected, plans, strict=True)] == [True] * 5
    finally:
        connection.close()
