"""Dead letters that are sent again: under which key, with whom, and what is left to a person."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.chunk import Batch
from ingestd.core.letter import DeadLetter
from ingestd.core.reasons import Reason
from ingestd.delivery.sink_runner import rebuild
from ingestd.store import chosen_letters, dead_letters, letter_changes, letter_leases, new_letters
from ingestd.store.connection import connect
from ingestd.store.dead_letters import FIRST_RETRY_S, IDEMPOTENCY_WINDOW_S, MAX_RETRY_S, StoredLetter
from ingestd.store.letter_leases import BROKEN, DAMAGED, OLD, TRIED_LONG, Lease
from tests.ids import new_id

NOW = 1_000_000.0
DUE = NOW + FIRST_RETRY_S
TOO_LATE = NOW + IDEMPOTENCY_WINDOW_S + 1


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = connect(tmp_path / "state.db")
    yield connection
    connection.close()


def letter(offset: int, reason: Reason = Reason.GAVE_UP, **fields: Any) -> DeadLetter:
    fields = {"first_sent_wall": NOW, **fields}
    return DeadLetter(b'{"n":%d}' % offset, reason, "503", 1, offset, offset + 1, sink="a", **fields)


def request(size: int = 3, batch: str = "b1", first: int = 10, **fields: Any) -> list[DeadLetter]:
    """All events of a request that may have been taken."""
    fields = {"ambiguous": True, "batch": batch, "batch_size": size, **fields}
    return [letter(first + index, batch_index=index, **fields) for index in range(size)]


def insert(store: sqlite3.Connection, *letters: DeadLetter, now: float = NOW) -> None:
    new_letters.insert_letters(store, letters, now)


def lease_once(store: sqlite3.Connection, now: float = DUE, *, requested_only: bool = False) -> Lease:
    return letter_leases.lease_due(
        store,
        now=now,
        max_events=100,
        max_bytes=10_000,
        requested_only=requested_only,
        sink="a",
        sinks_of=lambda events: [["a"] for _ in events],
    )


def lease(store: sqlite3.Connection, now: float = DUE, *, requested_only: bool = False) -> list[int]:
    """Offsets of the letters of the next request."""
    while True:
        found = lease_once(store, now, requested_only=requested_only)
        if found.letters or not found.aside:
            return [one.offset for one in found.letters]


def send(store: sqlite3.Connection, now: float = DUE) -> Batch:
    """As far as its request: it is out, and nobody knows what becomes of it."""
    batch = rebuild(list(lease_once(store, now).letters), new_id)
    batch.first_sent_wall = batch.first_sent_wall or now
    if not batch.noted:
        letter_leases.freeze_letters(store, batch)
    return batch


def rows(store: sqlite3.Connection) -> list[StoredLetter]:
    return dead_letters.select(store, "1 ORDER BY id", [])


def obstacles(store: sqlite3.Connection) -> list[tuple[int, float | None, str]]:
    return [(row.offset, row.due, row.obstacle) for row in rows(store)]


def want(store: sqlite3.Connection, *numbers: int, now: float = NOW) -> chosen_letters.MarkedLetters:
    return letter_changes.make_due(store, numbers, now)


# --- a key is on disk before anything is sent under it ---


@pytest.mark.parametrize("reason", [Reason.REFUSED, Reason.GAVE_UP, Reason.FAILED, Reason.UNENCODABLE])
def test_loose_letters_that_were_on_their_way_go_out_again_as_the_same_request(
    store: sqlite3.Connection, reason: Reason
) -> None:
    insert(store, *(letter(n, reason) for n in range(3)))
    want(store, 1, 2, 3)
    first = send(store)
    letter_leases.release_leases(store)  # the process has died
    insert(store, letter(9))
    again = send(store, DUE + 1)
    assert (again.id, again.events, again.letters) == (first.id, first.events, first.letters)
    assert again.first_sent_wall == first.first_sent_wall == DUE
    assert again.ambiguous


def test_a_part_of_a_request_that_was_cut_is_no_broken_request(store: sqlite3.Connection) -> None:
    insert(store, *request(4))
    whole = send(store)
    parts = [whole.part([0, 1]), whole.part([2, 3])]
    letter_leases.free_letters(store, whole.letters)  # the answer: too large
    parts[0].first_sent_wall = DUE
    letter_leases.freeze_letters(store, parts[0])
    letter_leases.release_leases(store)  # the process has died, the second part was not sent
    assert {send(store).id, send(store).id} > {parts[0].id}
    assert all(row.state == "leased" for row in rows(store))
    assert [row.obstacle for row in rows(store)] == [""] * 4


def test_a_letter_that_was_frozen_says_so_and_counts_from_its_new_key(store: sqlite3.Connection) -> None:
    insert(store, letter(1, Reason.REFUSED), letter(2, Reason.REFUSED))
    want(store, 1, 2)
    batch = send(store, DUE)
    assert [
        (row.batch, row.batch_index, row.batch_size, row.ambiguous, row.first_sent) for row in rows(store)
    ] == [
        (batch.id, 0, 2, 1, DUE),
        (batch.id, 1, 2, 1, DUE),
    ]


# --- one of a request that may have been taken is changed ---


def test_the_others_of_a_request_wait_for_a_person_when_one_is_edited(store: sqlite3.Connection) -> None:
    insert(store, *request(3))
    assert letter_changes.edit_payload(store, 2, b"{}") == 2
    want(store, 2)
    assert lease(store, NOW) == [11]
    assert lease(store) == []
    assert obstacles(store)[::2] == [(10, None, BROKEN), (12, None, BROKEN)]


def test_the_others_of_a_request_wait_for_a_person_when_one_is_deleted(store: sqlite3.Connection) -> None:
    insert(store, *request(3), *request(2, "b2", 20))
    assert letter_changes.purge(store, [2]) == (1, ["b1"])
    assert lease(store) == [20, 21], "another request is none of that"
    assert lease(store) == []
    assert obstacles(store)[:2] == [(10, None, BROKEN), (12, None, BROKEN)]


def test_the_others_of_a_request_wait_for_a_person_when_one_is_damaged(store: sqlite3.Connection) -> None:
    insert(store, *request(3), letter(1))
    store.execute("UPDATE single_letters SET payload = x'00' WHERE id = 2")
    assert lease(store) == [1]
    assert lease(store) == []
    assert obstacles(store)[:3] == [(10, None, BROKEN), (11, None, DAMAGED), (12, None, BROKEN)]


def test_a_damaged_letter_is_never_sent_whoever_wants_it(store: sqlite3.Connection) -> None:
    insert(store, letter(1), letter(2))
    store.execute("UPDATE single_letters SET payload = x'00' WHERE id = 1")
    want(store, 1)
    assert lease(store) == [2]
    assert obstacles(store)[0] == (1, None, DAMAGED)


def test_what_is_left_of_a_request_goes_to_who_wants_it_and_knows(store: sqlite3.Connection) -> None:
    insert(store, *request(3))
    letter_changes.purge(store, [2])
    assert want(store, 1) == (2, 1, 2, 1), "its other letter goes along, and both may arrive twice"
    batch = send(store, NOW)
    assert (batch.letters, batch.ambiguous) == ((1, 3), False)
    assert batch.id != "b1"


# --- past the time that an API remembers keys ---


def test_nothing_goes_out_by_itself_a_day_after_it_was_sent_although_it_was_due_before(
    store: sqlite3.Connection,
) -> None:
    """The process was away for the weekend."""
    insert(
        store, *request(3), letter(1), letter(2, Reason.INTERRUPTED, ambiguous=True, batch="x", batch_size=1)
    )
    assert lease(store, TOO_LATE) == []
    assert obstacles(store) == [
        *((offset, None, OLD) for offset in (10, 11, 12)),
        (1, None, TRIED_LONG),
        (2, None, OLD),
    ]
    assert lease(store, TOO_LATE, requested_only=True) == []


def test_what_never_was_sent_goes_out_however_late(store: sqlite3.Connection) -> None:
    insert(store, letter(1, Reason.INTERRUPTED, first_sent_wall=0.0))
    assert lease(store, TOO_LATE) == [1]


def test_a_wish_that_could_not_know_of_the_age_is_asked_again(store: sqlite3.Connection) -> None:
    insert(store, *request(3))
    assert want(store, 1, now=NOW + 5).risky == 0
    assert lease(store, TOO_LATE, requested_only=True) == []
    assert {row.requested for row in rows(store)} == {0}
    assert want(store, 1, now=TOO_LATE) == (3, 1, 3, 0)
    batch = send(store, TOO_LATE)
    assert (batch.id, batch.events) == ("b1", [one.payload for one in request(3)]), "an API may still know it"
    letter_leases.release_leases(store)
    assert lease(store, TOO_LATE + 60) == [10, 11, 12], "its age counts from the second time"
    letter_leases.release_leases(store)
    assert lease(store, TOO_LATE + IDEMPOTENCY_WINDOW_S + 1) == []


def test_what_was_sent_for_a_person_and_had_no_answer_waits_for_one_a_day_later(
    store: sqlite3.Connection,
) -> None:
    insert(store, letter(1, Reason.REFUSED))
    want(store, 1)
    send(store)
    letter_leases.release_leases(store)
    assert lease(store, DUE + IDEMPOTENCY_WINDOW_S + 1) == []
    assert obstacles(store) == [(1, None, OLD)]


def test_a_retry_by_itself_ends_after_a_day_under_whatever_keys(store: sqlite3.Connection) -> None:
    insert(store, letter(1))
    now = NOW
    for _ in range(100):
        now += MAX_RETRY_S
        if not lease(store, now):
            break
        letter_leases.letters_failed(store, [(1, letter(0, first_sent_wall=now))], now)
    assert now <= NOW + IDEMPOTENCY_WINDOW_S + 2 * MAX_RETRY_S
    assert rows(store)[0].due is None


# --- what a person asked for ---


@pytest.mark.parametrize("sent", [False, True])
def test_a_wish_outlives_the_process_that_had_taken_it_up(store: sqlite3.Connection, *, sent: bool) -> None:
    insert(store, *(letter(n, Reason.REFUSED) for n in range(3)))
    want(store, 1, 2, 3)
    if sent:
        send(store)
    else:
        lease(store)
    letter_leases.release_leases(store)
    assert lease(store, requested_only=True) == [0, 1, 2]


def test_a_wish_is_tried_until_there_is_an_answer_but_not_for_ever(store: sqlite3.Connection) -> None:
    insert(store, letter(1, Reason.REFUSED, first_sent_wall=NOW - 10**6))
    now = NOW
    want(store, 1)
    times = 0
    while lease(store, now, requested_only=True):
        letter_leases.letters_failed(store, [(1, letter(0, first_sent_wall=now))], now)
        now += MAX_RETRY_S
        times += 1
    assert 20 < times < 27
    want(store, 1, now=now)
    assert lease(store, now, requested_only=True) == [1]
    letter_leases.letters_failed(store, [(1, letter(0, Reason.REFUSED, first_sent_wall=now))], now)
    assert (rows(store)[0].requested, rows(store)[0].due) == (0, None)


def test_delivered_fulfils_a_wish(store: sqlite3.Connection) -> None:
    insert(store, letter(1))
    want(store, 1)
    lease(store)
    letter_leases.letters_delivered(store, [1], NOW)
    assert rows(store)[0].requested == 0


# --- a clock that was ahead ---


@pytest.mark.parametrize("letters", [[letter(1), letter(2)], request(2)], ids=["loose", "a request"])
def test_what_was_written_while_the_clock_was_ahead_is_due_when_it_is_right(
    store: sqlite3.Connection, letters: list[DeadLetter]
) -> None:
    ahead = NOW + 30 * 86400
    insert(store, *(one._replace(first_sent_wall=ahead) for one in letters), now=ahead)
    assert lease(store, NOW) == [one.offset for one in letters]
    letter_leases.release_leases(store)
    assert lease(store, TOO_LATE) == [], "its age counts from then on"


def test_a_letter_that_waits_for_its_time_is_not_taken_for_one_of_another_clock(
    store: sqlite3.Connection,
) -> None:
    insert(store, letter(1))
    lease(store)
    letter_leases.letters_failed(store, [(1, letter(0, attempts=50))], DUE)
    assert lease(store, DUE + 1) == []


# --- what it costs ---


def test_the_next_request_is_found_at_the_front_of_an_index(store: sqlite3.Connection) -> None:
    """Not by walking all that is due: a lease is a transaction of the writer that producers wait for."""
    insert(store, *(letter(n) for n in range(50)), *request(3, first=100))
    want(store, 1)
    asked: list[str] = []
    store.set_trace_callback(asked.append)
    lease(store)
    lease(store, requested_only=True)
    store.set_trace_callback(None)
    plans = {
        step[3]
        for sql in asked
        if sql.startswith(("SELECT", "UPDATE"))
        for step in store.execute(f"EXPLAIN QUERY PLAN {sql}")
    }
    indexes = ("letters_by_due", "letters_by_request", "letters_by_batch")
    walks = {plan for plan in plans if "letters" in plan and not any(name in plan for name in indexes)}
    assert all("INTEGER PRIMARY KEY (rowid=?)" in plan for plan in walks), walks
    assert not any("TEMP B-TREE" in plan for plan in plans if "batch" not in plan), plans


def test_leases_are_given_back_and_delivered_letters_forgotten_by_an_index(store: sqlite3.Connection) -> None:
    insert(store, letter(1))
    asked: list[str] = []
    store.set_trace_callback(asked.append)
    letter_leases.release_leases(store)
    dead_letters.forget_delivered(store, NOW, most=10)
    store.set_trace_callback(None)
    plans = [step[3] for sql in asked for step in store.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert sum("letters_leased" in plan or "letters_delivered" in plan for plan in plans) == 2
    assert not any(plan.startswith("SCAN letters") and "INDEX" not in plan for plan in plans), plans
