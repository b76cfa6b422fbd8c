"""What became of events, found again by their keys."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.recording.event_recorder import owners_of
from ingestd.store.connection import FILE_NAME, connect
from ingestd.store.trail import INSERT, Row, owner_at, steps_of, steps_of_batch, trim


def digest(number: int) -> bytes:
    return number.to_bytes(16, "big")


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(connect(tmp_path / FILE_NAME)) as found:
        yield found


def row(at: float, numbers: list[int], *, batch: str, what: str = "delivered", sink: str = "a") -> Row:
    return at, what, sink, batch, "1", b"".join(map(digest, numbers))


def test_events_are_found_until_they_are_too_old_or_too_many(connection: sqlite3.Connection) -> None:
    lost = row(1050, [1], batch="b3", what="dead_lettered", sink="b")
    connection.executemany(INSERT, [row(1000, [1, 2], batch="b1"), lost])
    assert [(step.what, step.sink, step.at, place) for step, place in steps_of(connection, digest(1))] == [
        ("delivered", "a", 1000.0, 0),
        ("dead_lettered", "b", 1050.0, 0),
    ]
    assert [place for _, place in steps_of(connection, digest(2))] == [1]
    assert [(step.what, count) for step, count in steps_of_batch(connection, "b1")] == [("delivered", 2)]
    trim(connection, not_before=1001, max_bytes=10_000)
    assert [step.batch for step, _ in steps_of(connection, digest(1))] == ["b3"]
    connection.executemany(INSERT, [row(1100, [*range(100, 112)], batch="b4")])
    trim(connection, not_before=0, max_bytes=16 * 12)
    assert steps_of(connection, digest(1)) == []
    assert len(steps_of(connection, digest(111))) == 1


def test_what_looks_like_a_key_across_two_others_is_none(connection: sqlite3.Connection) -> None:
    one, two = bytes(range(16)), bytes(range(16, 32))
    connection.executemany(INSERT, [(1.0, "delivered", "a", "b", "1", one + two)])
    assert steps_of(connection, (one + two)[5:21]) == []
    assert len(steps_of(connection, two)) == 1


NAMES = st.sampled_from(["", "crm", "a b/c", "ivr"])


@given(st.lists(st.tuples(NAMES, st.integers(0, 4)), max_size=20))
def test_the_owner_of_each_event_is_found(owners: list[tuple[str, int]]) -> None:
    whose = [name for name, count in owners for _ in range(count)]
    assert [owner_at(owners_of(owners), place) for place in range(len(whose))] == whose
