"""Letters of one request that wait for a person: on disk once what they share, and each as any other."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from ingestd.core.letter import DeadLetter, fingerprint
from ingestd.core.reasons import Reason
from ingestd.store import absent_sinks, dead_letters, envelopes, letter_changes, letter_leases, new_letters
from ingestd.store.connection import connect
from ingestd.store.dead_letters import StoredLetter, find_lost
from ingestd.store.lost_places import read_lost_places
from tests.each import each

NOW = 1_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    with closing(store_in(tmp_path / "state.db")) as connection:
        yield connection


def store_in(path: Path) -> sqlite3.Connection:
    connection = connect(path)
    connection.execute(
        "INSERT INTO sources (id, path, device, inode, head, head_bytes, updated)"
        " VALUES (1, 'x', 1, 1, x'', 0, 0)"
    )
    return connection


def letter(offset: int, **fields: Any) -> DeadLetter:
    given = {"batch": "b", "batch_index": offset, "batch_size": 100, "attempts": 2, "sink": "a"}
    detail = fields.pop("detail", "422: no")
    given |= {"digest": b"%016d" % offset, "first_sent_wall": NOW - 5, "producer": "shop"} | fields
    return DeadLetter(b'{"id":%d}' % offset, Reason.REFUSED, detail, 1, offset, offset + 1, **given)


def insert(store: sqlite3.Connection, *letters: DeadLetter, now: float = NOW) -> None:
    new_letters.insert_letters(store, letters, now)


def rows(store: sqlite3.Connection) -> list[StoredLetter]:
    return dead_letters.select(store, "1 ORDER BY id", [])


def sizes(store: sqlite3.Connection) -> tuple[int, ...]:
    """Envelopes, letters in them, letters beside them, and letters that are counted to wait."""
    tables = ("envelopes", "sealed_letters", "single_letters")
    counts = [store.execute(f"SELECT count(*) FROM {table}").fetchone()[0] for table in tables]
    return (*counts, dead_letters.count(store)["waiting"])


def lease(store: sqlite3.Connection, sink: str = "a") -> list[StoredLetter]:
    return letter_leases.lease_due(
        store, now=NOW + 1, sink=sink, sinks_of=lambda events: [["a"] for _ in events], max_events=9,
        max_bytes=999,
    ).letters  # fmt: skip


def test_a_sealed_letter_has_all_that_a_single_one_has_and_keeps_it(store: sqlite3.Connection) -> None:
    insert(store, letter(7))
    insert(store, letter(8), letter(9, digest=None), letter(10))
    assert sizes(store) == (1, 3, 1, 4)
    single, sealed, keyless, _ = rows(store)
    assert single[1:] == (
        "waiting", "refused", "422: no", fingerprint(Reason.REFUSED, "422: no"), b'{"id":7}',
        single.checksum, 1, 7, 8, b"%016d" % 7, "b", 7, 100, 0, 2, NOW - 5, NOW, NOW, None, None,
        0, "a", 0, 0, "", 0, "shop", 0,
    )  # fmt: skip
    own = ("id", "payload", "checksum", "offset", "line", "digest", "batch_index")
    assert sealed.intact
    assert (sealed.id, sealed.payload, sealed.offset, sealed.line) == (2, b'{"id":8}', 8, 9)
    assert (sealed.digest, sealed.batch_index, keyless.digest) == (b"%016d" % 8, 8, None)
    assert sealed._replace(**{name: getattr(single, name) for name in own}) == single
    before = rows(store)
    types = store.execute("SELECT typeof(due), typeof(first_failed), typeof(digest) FROM letters").fetchall()
    letter_changes.make_due(store, [2, 3, 4], NOW)
    assert sizes(store) == (0, 0, 4, 4)
    assert [row._replace(due=None, requested=0.0) for row in rows(store)] == before
    assert types == [("null", "real", "blob")] * 2 + [("null", "real", "null"), ("null", "real", "blob")]


def test_numbers_ascend_whatever_kind_a_letter_is_of_and_none_is_used_twice(
    store: sqlite3.Connection,
) -> None:
    insert(store, letter(1), letter(2))
    insert(store, letter(3))
    insert(store, letter(4), letter(5))
    assert [(row.id, row.offset) for row in rows(store)] == [(n, n) for n in range(1, 6)]
    assert letter_changes.purge(store, [1, 2, 3, 4, 5]) == (5, [])
    assert sizes(store) == (0, 0, 0, 0)
    insert(store, letter(6), letter(7))
    insert(store, letter(8))
    assert [row.id for row in rows(store)] == [6, 7, 8]


@pytest.mark.parametrize("count", [63, 64, 65, 1281, 2700])
def test_any_number_of_letters_is_sealed_whole_and_in_order(count: int, store: sqlite3.Connection) -> None:
    letters = [letter(n) for n in range(count)]
    insert(store, *letters)
    insert(store, *letters, now=NOW + 1)
    assert sizes(store) == (1, count, 0, count)
    assert [(row.id, row.offset, row.payload, row.last_failed) for row in rows(store)] == [
        (one.offset + 1, one.offset, one.payload, NOW) for one in letters
    ]


def test_letters_that_are_told_different_reasons_share_the_rest(store: sqlite3.Connection) -> None:
    insert(store, *(letter(n, detail=f"422: line {n}") for n in range(3)))
    assert sizes(store) == (1, 3, 0, 3)
    assert [row.detail for row in rows(store)] == [f"422: line {n}" for n in range(3)]
    assert {row.fingerprint for row in rows(store)} == {fingerprint(Reason.REFUSED, "422: line 0")}
    letter_changes.edit_payload(store, 2, b"{}")
    assert [row.detail for row in rows(store)] == [f"422: line {n}" for n in range(3)]


@pytest.mark.parametrize(
    "fields", [{"ambiguous": True}, {"reason": Reason.GAVE_UP}, {"offset": -1}, {"offset": 5}]
)
def test_what_may_be_sent_or_has_no_place_of_its_own_is_a_single_letter(
    fields: dict[str, Any], store: sqlite3.Connection
) -> None:
    insert(store, *(letter(n)._replace(**fields) for n in range(3)))
    assert sizes(store) == (0, 0, 3, 3)


@pytest.mark.parametrize("taken", [[], [2], [1, 2, 3]])
@pytest.mark.parametrize("again", [[2], [1, 2, 3], [0, 2, 3, 9]])
def test_after_a_crash_a_letter_is_there_once_in_whatever_table(
    taken: list[int], again: list[int], store: sqlite3.Connection
) -> None:
    insert(store, letter(1), letter(2), letter(3))
    letter_changes.make_due(store, taken, NOW)
    insert(store, *map(letter, again), now=NOW + 1)
    assert [row.offset for row in rows(store)] == [1, 2, 3, *sorted({*again}.difference((1, 2, 3)))]
    assert len(rows(store)) == dead_letters.count(store)["waiting"]


def test_a_letter_is_not_taken_for_that_of_another_sink_payload_or_source(store: sqlite3.Connection) -> None:
    insert(store, letter(1), letter(2))
    insert(store, letter(1, sink="b"), letter(2, sink="b"))
    insert(store, *(letter(n)._replace(payload=b"{}") for n in (1, 2)))
    insert(store, *(letter(n)._replace(source=2) for n in (1, 2)))
    assert [(row.sink, row.source, row.payload) for row in rows(store)][::2] == [
        ("a", 1, b'{"id":1}'), ("b", 1, b'{"id":1}'), ("a", 1, b"{}"), ("a", 2, b'{"id":1}'),
    ]  # fmt: skip
    rejected = [letter(n, sink="") for n in (1, 2)]
    insert(store, *rejected)
    assert len(rows(store)) == 8, "an event that was rejected has a letter if any sink has"


def test_the_place_of_a_corrected_letter_may_fail_again_and_neither_is_lost(
    store: sqlite3.Connection,
) -> None:
    """It is another reading, so both are there, and both may become single letters of one place."""
    insert(store, letter(1), letter(2))
    letter_changes.edit_payload(store, 1, b'{"new":1}')
    store.execute("UPDATE sources SET reading = reading + 1")
    insert(store, letter(1), letter(3))
    store.execute("UPDATE single_letters SET reading = 1")
    letter_changes.make_due(store, [1, 2, 3, 4], NOW)
    found = [(row.id, row.offset, row.payload) for row in rows(store)]
    assert found == [
        (1, 1, b'{"new":1}'), (2, 2, b'{"id":2}'), (3, -1, b'{"id":1}'), (4, 3, b'{"id":3}'),
    ]  # fmt: skip
    assert sizes(store) == (0, 0, 4, 4)


def test_an_envelope_goes_with_the_last_of_its_letters(store: sqlite3.Connection) -> None:
    insert(store, *(letter(n) for n in range(1, 5)))
    letter_changes.purge(store, [1])
    letter_changes.make_due(store, [2], NOW)
    assert sizes(store) == (1, 2, 1, 3)
    assert [one.id for one in lease(store)] == [2]
    letter_changes.purge(store, [2, 3])
    assert sizes(store) == (1, 1, 1, 1)
    letter_changes.edit_payload(store, 4, b"{}")
    assert sizes(store) == (0, 0, 2, 1)


def free(store: sqlite3.Connection) -> list[tuple[str, int]]:
    return [(row.sink, row.offset) for row in rows(store) if row.key_released]


def test_whether_a_key_is_free_is_told_of_sealed_letters_too(store: sqlite3.Connection) -> None:
    for sink in ("a", "b"):
        insert(store, *(letter(n, sink=sink) for n in range(3)))
    dead_letters.mark_keys_released(store, [letter(1), letter(2)])
    assert free(store) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    letter_changes.make_due(store, [2], NOW)
    assert free(store) == [("a", 1), ("a", 2), ("b", 1), ("b", 2)]
    assert [one.id for one in lease(store)] == [2]
    letter_leases.letters_delivered(store, [2], NOW)
    letter_leases.lacked_elsewhere(store, [2])
    assert free(store) == [("a", 1), ("a", 2), ("b", 2)], "b's letter of the event that a has"
    absent_sinks.send_anyway(store, {"b"}, lambda digest: False)
    assert free(store) == [("a", 1), ("a", 2)]
    store.execute(
        "INSERT INTO spool (id, accepted_at, events, bytes, crc, digests, payload)"
        " VALUES (1, 1, 1, 1, 1, ?, x'')",
        (b"%016d" % 2,),
    )
    absent_sinks.forget_chunks(store, {"a"}, 1)
    assert free(store) == [("a", 1)]
    assert sizes(store)[1] == 5


def test_a_restart_knows_the_places_of_sealed_letters(store: sqlite3.Connection) -> None:
    insert(store, *(letter(n) for n in range(4)))
    insert(store, *(letter(n, sink="") for n in range(10, 13)))
    letter_changes.make_due(store, [2], NOW)
    found = read_lost_places(store, 1, first=1)
    assert [(one.offset, one.digest, one.sink) for one in found.between(0, 99)] == [
        (n, b"%016d" % n, "a") for n in (1, 2, 3)
    ]
    assert len(read_lost_places(store, 2, first=0)) == 0


def test_to_take_some_letters_out_does_not_look_at_the_others(store: sqlite3.Connection) -> None:
    """Neither does a page of them: a store may have millions."""
    insert(store, *(letter(n) for n in range(3)))
    asked: list[str] = []
    store.set_trace_callback(asked.append)
    letter_changes.make_due(store, [2], NOW)
    dead_letters.select(store, "id > 1 AND reason = 'refused' ORDER BY id LIMIT 2", [])
    dead_letters.mark_keys_released(store, [letter(1)])
    store.set_trace_callback(None)
    questions = [sql for sql in asked if not sql.startswith("--")]
    plans = [row[3] for sql in questions for row in store.execute(f"EXPLAIN QUERY PLAN {sql}")]
    assert len(plans) > 20
    scans = [plan for plan in plans if plan.startswith("SCAN") or "TEMP B-TREE FOR ORDER" in plan]
    few = ("json_each", "CONSTANT ROW", "SCAN levels")
    assert [plan for plan in scans if not any(words in plan for words in few)] == []


def test_whether_letters_are_there_is_asked_once_whatever_their_reasons(store: sqlite3.Connection) -> None:
    """Their places are among each other: each reason by itself would find the envelope of the one before."""
    reasons = (Reason.REFUSED, Reason.INVALID, Reason.UNPARSABLE)
    letters = [letter(n)._replace(reason=reasons[n % 3]) for n in range(9)]
    asked: list[str] = []
    store.set_trace_callback(asked.append)
    insert(store, *letters)
    store.set_trace_callback(None)
    assert sum(sql.startswith(("WITH", "SELECT 1 FROM single_letters")) for sql in asked) == 2
    assert sizes(store) == (3, 9, 0, 9)
    insert(store, *letters, *(letter(n)._replace(reason=Reason.INVALID) for n in (8, 9)))
    assert sizes(store) == (3, 9, 1, 10)


@pytest.mark.parametrize("stride", [1, 1 << 20])
def test_what_a_letter_costs_does_not_grow_with_the_envelopes_of_its_source(
    stride: int, store: sqlite3.Connection
) -> None:
    """Of two sinks that refuse all there are as many behind each letter of the first that is sent again.
    ``stride``: from one place to the next, as in a file and in the spool."""

    def work(first: int) -> int:
        """Steps of SQLite, in hundreds, for two letters that are delivered, freed and read again."""
        steps = 0

        def count() -> int:
            nonlocal steps
            steps += 1
            return 0

        mine = [letter(n * stride) for n in (first, first + 1)]
        numbers = [row.id for row in rows(store) if row.offset in {one.offset for one in mine}]
        letter_changes.make_due(store, numbers[:2], NOW)
        store.set_progress_handler(count, 100)
        letter_leases.lacked_elsewhere(store, numbers[:2])
        dead_letters.mark_keys_released(store, mine)
        insert(store, *mine, *(one._replace(payload=b"{}") for one in mine))
        store.set_progress_handler(None, 0)
        return steps

    def fill(first: int, last: int) -> None:
        for n in range(first, last, 2):
            for sink in ("a", "b"):
                insert(store, *(letter(at * stride, sink=sink, key_released=True) for at in (n, n + 1)))

    fill(0, 20)
    few = work(0)
    fill(20, 1000)
    assert max(work(2), work(998)) < 3 * few


def test_letters_around_a_place_are_found_however_far_their_envelopes_reach(
    store: sqlite3.Connection,
) -> None:
    """Envelopes of requests that took from here and there, some within others."""
    reach = [(0, 5000), (10, 11), (100, 4000), (101, 102), (4999, 6000), (9, 200), (1 << 40, 3)]
    reach += [(1000 + n, 1100 + n) for n in range(20)]
    for number, places in enumerate(reach):
        insert(store, *(letter(at, sink=f"s{number}") for at in places))
    for number, places in enumerate(reach):
        for at in places:
            assert envelopes.there(store, 1, f"s{number}", [at]) == {(at, crc32(letter(at).payload))}
            assert envelopes.there(store, 1, f"s{number}", range(at - 30, at + 30)) >= {
                (at, crc32(letter(at).payload))
            }
        assert envelopes.there(store, 1, f"s{number}", [max(places) - 1, max(places) + 1]) <= {
            (min(places), crc32(letter(min(places)).payload))
        }
    assert len(envelopes.there(store, 1, "", [n for places in reach for n in places])) == 54


DAMAGES = {
    "gone": "DELETE FROM envelopes WHERE id = 4",
    "another number": "UPDATE envelopes SET id = 1 << 40 WHERE id = 4",
    "a number before": "UPDATE envelopes SET id = -7 WHERE id = 4",
    "all": "DELETE FROM envelopes",
    "the last two": "DELETE FROM envelopes WHERE id > 1",
    "gone, and its number in a letter": "DELETE FROM envelopes WHERE id = 4; UPDATE sealed_letters SET"
    " envelope = 1 << 50 WHERE id = 5",
    "gone, and a letter has that of another": "DELETE FROM envelopes WHERE id = 4; UPDATE sealed_letters SET"
    " envelope = 7 WHERE id = 4",
}


@each("damage", DAMAGES)
def test_letters_whose_envelope_is_damaged_are_found_again_and_wait_for_a_person(
    tmp_path: Path, damage: str
) -> None:
    path = tmp_path / f"{damage}.db"
    with closing(store_in(path)) as store:
        insert(store, letter(1), letter(2), letter(3))
        insert(store, letter(4), letter(5), letter(6))
        insert(store, letter(7), letter(8))
        insert(store, letter(9))
        before = rows(store)
        assert find_lost(path, NOW) == 0
        store.executescript(DAMAGES[damage])
        lost = 9 - len(rows(store))
        found = find_lost(path, NOW + 9)
        assert (found >= max(lost, 1), find_lost(path, NOW + 9)) == (True, 0)
        after = rows(store)
        own = ("id", "payload", "checksum", "offset", "line", "digest", "batch_index", "state")
        assert [[getattr(row, name) for name in own] for row in after] == [
            [getattr(row, name) for name in own] for row in before
        ]
        damaged = [row for row in after if row.reason == "damaged"]
        assert {(row.sink, row.batch, row.source, row.last_failed) for row in damaged} == {
            ("", "", -1, NOW + 9)
        }
        letter_changes.make_due(store, [row.id for row in damaged], NOW + 10)
        letter_changes.purge(store, [row.id for row in after if row.reason != "damaged"])
        assert [row.id for row in rows(store)] == [row.id for row in damaged]
        assert dead_letters.count(store)["waiting"] == len(damaged)
