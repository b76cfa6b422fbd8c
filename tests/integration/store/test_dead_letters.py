"""The dead-letter store: what is written, leased, settled, corrected and thrown away."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.letter import MAX_DETAIL, DeadLetter, fingerprint
from ingestd.core.reasons import RETRYABLE, Reason
from ingestd.store import chosen_letters, dead_letters, letter_changes, letter_leases, new_letters
from ingestd.store.connection import connect
from ingestd.store.dead_letters import FIRST_RETRY_S, IDEMPOTENCY_WINDOW_S, MAX_RETRY_S, StoredLetter

NOW = 1_000_000.0
DUE = NOW + FIRST_RETRY_S


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(tmp_path / "state.db")
    yield connection
    connection.close()


def letter(offset: int, reason: Reason = Reason.GAVE_UP, payload: bytes = b"{}", **fields: Any) -> DeadLetter:
    return DeadLetter(payload, reason, fields.pop("detail", "503"), 1, offset, offset + 1, **fields)


def whole_batch(batch: str, offset: int, size: int = 3) -> list[DeadLetter]:
    """All events of a request that had no answer."""
    places = {"batch": batch, "batch_size": size, "ambiguous": True, "first_sent_wall": NOW}
    return [letter(offset + index, batch_index=index, **places) for index in reversed(range(size))]


def insert(store: sqlite3.Connection, *letters: DeadLetter, now: float = NOW) -> None:
    new_letters.insert_letters(store, letters, now)


def rows(store: sqlite3.Connection) -> list[StoredLetter]:
    return dead_letters.select(store, "1 ORDER BY id", [])


def lease(store: sqlite3.Connection, now: float = DUE, **limits: Any) -> list[StoredLetter]:
    limits = {"max_events": 100, "max_bytes": 10_000, **limits}
    return letter_leases.lease_due(
        store, now=now, sink="", sinks_of=lambda events: [[""] for _ in events], **limits
    ).letters


def want(store: sqlite3.Connection, *numbers: int, now: float = NOW) -> chosen_letters.MarkedLetters:
    return letter_changes.make_due(store, numbers, now)


def purge(store: sqlite3.Connection, *numbers: int) -> int:
    return letter_changes.purge(store, numbers)[0]


def offsets(letters: list[StoredLetter]) -> list[int]:
    return [letter.offset for letter in letters]


# --- writing ---


def test_a_letter_is_stored_with_all_that_is_known_of_it(store: sqlite3.Connection) -> None:
    fields = {
        "digest": b"d" * 16,
        "batch": "b",
        "batch_index": 2,
        "batch_size": 5,
        "attempts": 3,
        "ambiguous": True,
        "producer": "shop",
    }
    insert(store, letter(7, payload=b"\x00\xff", detail="x" * 5000, first_sent_wall=NOW - 5, **fields))
    (row,) = rows(store)
    assert row.intact
    assert row[1:] == (
        "waiting", "gave_up", "x" * MAX_DETAIL, fingerprint(Reason.GAVE_UP, "x" * 5000), b"\x00\xff",
        row.checksum, 1, 7, 8, b"d" * 16, "b", 2, 5, 1, 3, NOW - 5, NOW, NOW, DUE, None,
        0, "", 0, 0, "", 0, "shop", 0,
    )  # fmt: skip
    assert not row._replace(payload=b"\x00\xfe").intact


def test_the_same_origin_is_stored_once_and_stays_as_it_is(store: sqlite3.Connection) -> None:
    insert(store, letter(7, payload=b"first"))
    insert(store, letter(7, payload=b"first", detail="again"), letter(8, payload=b"other"), now=DUE)
    found = [(row.offset, row.payload, row.detail, row.first_failed) for row in rows(store)]
    assert found == [(7, b"first", "503", NOW), (8, b"other", "503", DUE)]


@pytest.mark.parametrize("count", [0, 1, 63, 64, 65, 1280, 1281, 2700])
def test_any_number_of_letters_is_stored_whole_and_in_order(count: int, store: sqlite3.Connection) -> None:
    letters = [letter(n, payload=b"%d" % n, digest=b"%016d" % n if n % 2 else None) for n in range(count)]
    insert(store, *letters)
    insert(store, *letters, now=DUE)
    assert all(
        row.intact and (row.first_failed, row.last_failed, row.due) == (NOW, NOW, DUE) for row in rows(store)
    )
    assert [row.id for row in rows(store)] == list(range(1, count + 1))
    stored = [(row.offset, row.payload, row.digest) for row in rows(store)]
    assert stored == [(given.offset, given.payload, given.digest) for given in letters]


def test_the_letters_of_a_request_are_found_by_an_index(store: sqlite3.Connection) -> None:
    query = "EXPLAIN QUERY PLAN SELECT id FROM single_letters WHERE batch = 'b' AND ambiguous"
    assert "letters_by_batch" in store.execute(query).fetchone()[3]


@pytest.mark.parametrize("reason", list(Reason))
def test_only_retryable_reasons_retry_by_themselves(reason: Reason, store: sqlite3.Connection) -> None:
    insert(store, letter(1, reason))
    assert rows(store)[0].due == ({Reason.GAVE_UP: DUE, Reason.INTERRUPTED: NOW}.get(reason))
    assert bool(lease(store)) == (reason in RETRYABLE)


def test_a_retry_waits_longer_each_time_up_to_an_hour_and_a_day_after_the_first_send_for_a_person() -> None:
    def wait_s(retries: int, first_sent: float = NOW) -> float | None:
        due = dead_letters.next_due(Reason.GAVE_UP, retries, first_sent, NOW)
        return None if due is None else due - NOW

    assert [wait_s(n) for n in (0, 1, 2, 5, 6, 7, 10_000)] == [60, 120, 240, 1920, *[MAX_RETRY_S] * 3]
    assert wait_s(0, first_sent=NOW - IDEMPOTENCY_WINDOW_S) == 60
    assert wait_s(0, first_sent=NOW - IDEMPOTENCY_WINDOW_S - 1) is None
    assert wait_s(0, first_sent=0.0) == 60, "never sent: there is no key that could be forgotten"


# --- leasing ---


def test_nothing_is_leased_before_it_is_due_nor_twice(store: sqlite3.Connection) -> None:
    insert(store, letter(1), letter(2))
    assert lease(store, DUE - 1) == []
    assert offsets(lease(store)) == [1, 2]
    assert lease(store) == []


def test_leases_of_a_process_that_died_are_given_back_at_start(store: sqlite3.Connection) -> None:
    insert(store, letter(1))
    lease(store)
    letter_leases.release_leases(store)
    assert offsets(lease(store)) == [1]


def test_a_request_without_an_answer_is_leased_whole_and_in_its_order(store: sqlite3.Connection) -> None:
    insert(store, *whole_batch("b1", 10), *whole_batch("b2", 20), letter(30))
    assert offsets(lease(store, max_events=1, max_bytes=1)) == [10, 11, 12]
    assert offsets(lease(store, max_events=1, max_bytes=1)) == [20, 21, 22]
    assert offsets(lease(store)) == [30]


def test_a_letter_that_was_refused_does_not_go_with_the_request_it_was_in(store: sqlite3.Connection) -> None:
    alone = letter(13, Reason.REFUSED, batch="b1", batch_index=3, batch_size=4)
    insert(store, *whole_batch("b1", 10), alone)
    assert offsets(lease(store)) == [10, 11, 12]


def test_loose_letters_go_together_as_far_as_a_request_has_room(store: sqlite3.Connection) -> None:
    insert(store, *(letter(n, payload=b"x" * 99) for n in range(6)), letter(6, payload=b"x" * 5000))
    assert offsets(lease(store, max_events=2)) == [0, 1]
    assert offsets(lease(store, max_bytes=299)) == [2, 3]
    assert offsets(lease(store, max_bytes=300)) == [4, 5]
    assert offsets(lease(store, max_bytes=300)) == [6], "too large for any request: the API decides"


def test_the_one_that_is_due_first_goes_first(store: sqlite3.Connection) -> None:
    insert(store, letter(1), now=NOW + 10)
    insert(store, letter(2))
    assert offsets(lease(store, DUE + 10, max_events=1)) == [2]


def test_only_what_a_person_asked_for_is_leased_where_that_is_wanted(store: sqlite3.Connection) -> None:
    insert(store, letter(1), letter(2, Reason.INVALID), letter(3, Reason.INVALID))
    assert lease(store, requested_only=True) == []
    want(store, 2)
    assert dead_letters.count_requested(store) == 1
    assert offsets(lease(store, NOW, requested_only=True)) == [2]
    assert dead_letters.count_requested(store) == 0


# --- settling ---


def test_a_delivered_letter_is_settled_and_never_leased_or_made_due_again(store: sqlite3.Connection) -> None:
    insert(store, letter(1), letter(2))
    lease(store)
    letter_leases.letters_delivered(store, [1], NOW + 100)
    row = rows(store)[0]
    assert (row.state, row.settled_at, row.due, row.attempts) == ("delivered", NOW + 100, None, 1)
    letter_leases.release_leases(store)
    assert want(store, 1, 2) == (1, 1, 0, 0)
    assert offsets(lease(store, DUE + 9000)) == [2]


def test_a_letter_that_failed_again_says_how_it_stands_now_and_waits_longer(
    store: sqlite3.Connection,
) -> None:
    insert(store, letter(1, attempts=4))
    lease(store)
    now = NOW + 100
    again = letter(
        0, detail="504 now", batch="b9", batch_index=0, batch_size=1, ambiguous=True, first_sent_wall=now
    )
    letter_leases.letters_failed(store, [(1, again)], now)
    (row,) = rows(store)
    assert (row.state, row.detail, row.fingerprint, row.attempts) == (
        "waiting",
        "504 now",
        "gave_up: 504 now",
        5,
    )
    assert (row.batch, row.batch_index, row.batch_size, row.ambiguous) == ("b9", 0, 1, 1)
    assert (row.first_failed, row.last_failed, row.offset, row.payload) == (NOW, now, 1, b"{}")
    assert row.due == now + FIRST_RETRY_S * 2**5
    assert lease(store, row.due - 1) == []
    assert offsets(lease(store, row.due)) == [1]


def test_a_letter_that_is_refused_when_it_is_sent_again_waits_for_a_person(store: sqlite3.Connection) -> None:
    insert(store, letter(1))
    lease(store)
    letter_leases.letters_failed(store, [(1, letter(0, Reason.REFUSED, detail="400"))], NOW)
    assert rows(store)[0].due is None
    assert lease(store, NOW + 10**9) == []


# --- what a person does ---


@pytest.mark.parametrize("requested_only", [True, False])
def test_making_one_letter_due_takes_its_whole_request_along(
    requested_only: bool, store: sqlite3.Connection
) -> None:
    insert(store, *whole_batch("b1", 10), *whole_batch("b2", 20), letter(30))
    want(store, 2)
    assert dead_letters.count_requested(store) == 3
    assert offsets(lease(store, NOW, requested_only=requested_only)) == [10, 11, 12]
    assert lease(store, NOW, requested_only=requested_only) == []


def test_an_edited_letter_leaves_its_request_and_its_key(store: sqlite3.Connection) -> None:
    insert(store, *whole_batch("b1", 10), letter(30, Reason.INVALID, digest=b"d" * 16))
    letter_changes.edit_payload(store, 4, b'{"fixed":1}')
    letter_changes.edit_payload(store, 1, b'{"fixed":2}')
    loose, one = rows(store)[3], rows(store)[0]
    assert (loose.payload, loose.edited, loose.digest, loose.intact) == (b'{"fixed":1}', 1, None, True)
    assert (one.batch, one.ambiguous) == ("", 0)
    want(store, 1)
    assert offsets(lease(store, NOW)) == [12], "the request is not repeated with other bytes"


def test_purge_takes_what_the_filter_says_and_the_delivered_go_with_age(store: sqlite3.Connection) -> None:
    insert(store, *(letter(n) for n in range(4)))
    assert purge(store, 2, 3) == 2
    letter_leases.letters_delivered(store, [1], NOW + 1)
    letter_leases.letters_delivered(store, [4], NOW + 2)
    assert dead_letters.forget_delivered(store, NOW + 2, most=10) == 1
    assert offsets(rows(store)) == [3]


# --- a place that fails again ---


def read_from_start(store: sqlite3.Connection) -> None:
    store.execute("UPDATE sources SET reading = reading + 1")


@pytest.fixture
def source(store: sqlite3.Connection) -> sqlite3.Connection:
    store.execute(
        "INSERT INTO sources (id, path, device, inode, head, head_bytes, updated)"
        " VALUES (1, 'x', 1, 1, x'', 0, 0)"
    )
    return store


def settle(store: sqlite3.Connection, how: str) -> None:
    """What becomes of letter 1 before its place fails again."""
    if how == "delivered":
        letter_leases.letters_delivered(store, [1], NOW)
    elif how == "purged":
        purge(store, 1)
    elif how == "changed":
        letter_changes.edit_payload(store, 1, b'{"fixed":1}')


@pytest.mark.parametrize("reason", [Reason.REFUSED, Reason.INVALID])
@pytest.mark.parametrize("how", ["delivered", "purged", "changed"])
def test_what_fails_again_in_another_reading_is_there_again(
    source: sqlite3.Connection, how: str, reason: Reason
) -> None:
    again = letter(7, reason, b"{1}", sink="a" if reason is Reason.REFUSED else "")
    insert(source, again)
    settle(source, how)
    read_from_start(source)
    insert(source, again, now=DUE)
    insert(source, again, now=DUE + 1)
    waiting = [row.payload for row in rows(source) if row.state == "waiting" and not row.edited]
    assert waiting == [b"{1}"], "once"


@pytest.mark.parametrize("how", ["delivered", "changed", "nothing"])
@pytest.mark.parametrize("reason", [Reason.REFUSED, Reason.INVALID])
def test_a_crash_before_its_position_was_noted_writes_no_letter_twice(
    source: sqlite3.Connection, how: str, reason: Reason
) -> None:
    again = letter(7, reason, b"{1}", sink="a" if reason is Reason.REFUSED else "")
    insert(source, again)
    settle(source, how)
    insert(source, again, now=DUE)
    assert len(rows(source)) == 1


def test_a_letter_that_waits_is_the_one_of_the_next_reading_too(source: sqlite3.Connection) -> None:
    """Two of them would be two events."""
    again = letter(7, Reason.REFUSED, b"{1}", sink="a")
    insert(source, again)
    read_from_start(source)
    insert(source, again, now=DUE)
    assert len(rows(source)) == 1


def test_another_event_at_the_same_place_is_none_that_is_there(source: sqlite3.Connection) -> None:
    """The file was corrected in place."""
    for payload in (b"{1}", b"{2}"):
        insert(source, letter(7, Reason.REFUSED, payload, sink="a"))
        read_from_start(source)
    assert [row.payload for row in rows(source)] == [b"{1}", b"{2}"]


# --- how many there are ---


def test_letters_are_counted_where_they_change(store: sqlite3.Connection) -> None:
    def count() -> tuple[int, ...]:
        return tuple(dead_letters.count(store)[state] for state in ("waiting", "leased", "delivered"))

    insert(store, *(letter(n) for n in range(5)), letter(1))
    assert count() == (5, 0, 0)
    lease(store, max_events=2)
    assert count() == (3, 2, 0)
    letter_leases.letters_delivered(store, [1], NOW)
    assert count() == (3, 1, 1)
    letter_leases.letters_failed(store, [(2, letter(0))], NOW)
    purge(store, 1, 3)
    assert count() == (3, 0, 0)
    plan = store.execute("EXPLAIN QUERY PLAN SELECT state, letters FROM letter_counts").fetchall()
    assert [step[3] for step in plan] == ["SCAN letter_counts"]
