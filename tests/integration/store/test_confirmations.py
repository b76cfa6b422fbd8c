"""Accepted events in the state file: there with their batch's end, read in pages, gone with their own end."""

import sqlite3
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.store import confirmations
from ingestd.store.confirmations import Confirmations, Pending
from ingestd.store.connection import connect
from ingestd.store.database import Database

NOW = 1_800_000_000.0


def pending(remote_id: str, number: int = 1, *, sink: str = "events", payload: bytes = b"{}") -> Pending:
    return Pending(sink, remote_id, f"batch-{number}", 3, number * 10, number, b"d" * 16, 2, payload)


@pytest.fixture
def connection(tmp_path: Path) -> sqlite3.Connection:
    return connect(tmp_path / "state.db")


def insert(connection: sqlite3.Connection, *rows: Pending, now: float = NOW) -> None:
    confirmations.insert_confirmations(connection, rows, now)


def test_what_comes_out_is_what_went_in(connection: sqlite3.Connection) -> None:
    event = pending("evt-1", 7, payload=b"\xff\x00 any bytes")
    insert(connection, event)
    (found,) = confirmations.due(connection, "events", NOW + 1, 10)
    assert (found.remote_id, found.accepted_at, found.asked) == ("evt-1", NOW, 0)
    assert (found.batch, found.source, found.offset) == (event.batch, event.source, event.offset)
    assert confirmations.read(connection, found.id) == event._replace(id=found.id, accepted_at=NOW)
    assert confirmations.read(connection, found.id + 1) is None
    connection.close()


@given(remote_id=st.text(max_size=600) | st.text("\ud800\udfff\0\ufffe", max_size=5))
def test_no_id_that_an_api_may_invent_fails_the_batch(remote_id: str) -> None:
    connection = sqlite3.connect(":memory:")
    schema = (Path(confirmations.__file__).parent / "schema_3.sql").read_text()
    connection.executescript(
        schema[schema.index("CREATE TABLE confirmations") : schema.index("-- Events on")]
    )
    insert(connection, pending(remote_id))
    ((_, stored, *_),) = confirmations.due(connection, "events", NOW + 1, 1)
    assert stored in (remote_id, "")
    if remote_id.isprintable() and len(remote_id) <= 512:
        assert stored == remote_id
    connection.close()


def test_the_first_that_are_due_come_first_and_no_more_than_asked_for(connection: sqlite3.Connection) -> None:
    for number in range(5):
        insert(connection, pending(f"e{number}"), now=NOW - number)
    insert(connection, pending("other", sink="elsewhere"), now=NOW - 100)
    page = confirmations.due(connection, "events", NOW, 3)
    assert [one.remote_id for one in page] == ["e4", "e3", "e2"]
    assert confirmations.next_due(connection, "events", NOW - 1) == NOW  # e1: due one second after NOW - 1
    assert confirmations.next_due(connection, "events", NOW + 1) is None
    assert confirmations.count(connection, "events") == 5
    connection.close()


def test_a_page_of_due_rows_is_read_by_its_index(connection: sqlite3.Connection) -> None:
    """With a hundred thousand pending, a question must not read them all."""
    plan = connection.execute(
        "EXPLAIN QUERY PLAN SELECT id, CAST(remote_id AS BLOB), accepted_at, asked FROM confirmations"
        " WHERE sink = ? AND due <= ? ORDER BY due, id LIMIT ?",
        ("events", NOW, 32),
    ).fetchall()
    assert "confirmations_by_due" in plan[0][3]
    assert len(plan) == 1  # no sorting besides
    connection.close()


def test_an_event_that_is_put_off_is_not_due_until_then(connection: sqlite3.Connection) -> None:
    insert(connection, pending("a"))
    ((number, *_),) = confirmations.due(connection, "events", NOW + 1, 1)
    confirmations.postpone(connection, number, due=NOW + 30, asked=1)
    assert confirmations.due(connection, "events", NOW + 29, 1) == []
    (found,) = confirmations.due(connection, "events", NOW + 30, 1)
    assert found.asked == 1
    confirmations.settle(connection, [number])
    assert confirmations.count(connection, "events") == 0
    connection.close()


# through the database


@pytest.mark.anyio
async def test_rows_and_what_else_ends_a_batch_are_on_disk_together(
    database: Database, tmp_path: Path
) -> None:
    store = Confirmations(database, "events")
    database.note(lambda c: insert(c, pending("a"), pending("b")))
    page, upcoming = await store.due(now=NOW + 1, limit=10)
    assert ([one.remote_id for one in page], upcoming) == (["a", "b"], None)
    store.settle([page[0].id])
    database.note(lambda c: c.execute("INSERT INTO meta VALUES ('letter', 'a')"))  # in the Book's place
    beside = sqlite3.connect(f"file:{tmp_path / 'state.db'}?mode=ro", uri=True)

    def look() -> tuple[int, int]:
        letters: tuple[int] = beside.execute("SELECT count(*) FROM meta WHERE name = 'letter'").fetchone()
        return confirmations.count(beside, "events"), letters[0]

    assert look() == (2, 0)
    await store.commit()
    assert look() == (1, 1)
    beside.close()


@pytest.mark.anyio
async def test_a_clock_that_was_set_back_puts_no_question_off_for_days(database: Database) -> None:
    database.note(lambda c: insert(c, pending("a"), now=NOW + 30 * 86400))
    store = Confirmations(database, "events")
    assert await store.open(now=NOW) == 1
    page, _ = await store.due(now=NOW, limit=1)
    assert [one.remote_id for one in page] == ["a"]
    assert await Confirmations(database, "others").open(now=NOW) == 0
