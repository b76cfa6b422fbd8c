"""Which letters: the filter against a plain reading of it, and the reader beside the writer."""

import json
import sqlite3
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, redirect_stdout
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.app.letters.letters import find as find_letters
from ingestd.app.letters.letters import groups as letter_groups
from ingestd.cli.tables import print_letters
from ingestd.core.letter import DeadLetter, fingerprint
from ingestd.core.reasons import Reason
from ingestd.store import dead_letters, letter_leases, new_letters
from ingestd.store.connection import StoreFailed, connect
from ingestd.store.database import Database
from ingestd.store.dead_letters import Filter
from ingestd.store.letter_reader import LetterReader

NOW = 1_000_000.0
DETAILS = ["a% b", "a_ b", "ax b", "a\\ b", "a' OR 1=1 --", 'quoted "a" b', "A% b", "ä"]
hostile = st.text(st.sampled_from("gave_up: a%_\\'\"#-;b1=ORä")).map(lambda text: "gave_up: " + text)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[sqlite3.Connection]:
    with closing(connect(tmp_path_factory.mktemp("state") / "state.db")) as connection:
        for number, detail in enumerate(DETAILS):
            reason = Reason.GAVE_UP if number % 3 else Reason.REFUSED
            new_letters.insert_letters(
                connection, [DeadLetter(b"{}", reason, detail, 1, number, 1)], NOW + number
            )
        letter_leases.letters_delivered(connection, [2], NOW)
        connection.execute("UPDATE single_letters SET state = 'leased' WHERE id = 3")
        yield connection


def found(store: sqlite3.Connection, where: Filter, now: float = NOW) -> list[int]:
    condition, values = where.sql(now)
    return [row[0] for row in store.execute(f"SELECT id FROM letters WHERE {condition} ORDER BY id", values)]


@given(st.one_of(hostile, st.sampled_from(DETAILS).map(lambda d: fingerprint(Reason.GAVE_UP, d))))
@example("%")
@example("gave_up: a_")
@example("'; DROP TABLE letters; --")
def test_a_fingerprint_is_a_prefix_and_never_a_pattern_or_a_statement(
    store: sqlite3.Connection, text: str
) -> None:
    prints = {row[0]: row[1] for row in store.execute("SELECT id, fingerprint FROM letters")}
    assert len(prints) == len(DETAILS)
    expected = [number for number, has in prints.items() if has.lower().startswith(text.lower())]
    assert found(store, Filter(fingerprint=text, state="all")) == (expected if text else list(prints))


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        (Filter(), [1, 3, 4, 5, 6, 7, 8]),
        (Filter(state="all"), [1, 2, 3, 4, 5, 6, 7, 8]),
        (Filter(state="delivered"), [2]),
        (Filter(state="leased"), [3]),
        (Filter(ids=(2, 3, 99), state="all"), [2, 3]),
        (Filter(ids=(2, 3)), [3]),
        (Filter(reason="refused"), [1, 4, 7]),
        (Filter(reason="refused' OR '1'='1"), []),
        (Filter(older_s=7), [1, 3, 4]),
        (Filter(newer_s=7), [4, 5, 6, 7, 8]),
        (Filter(older_s=7, newer_s=7, reason="refused"), [4]),
    ],
)
def test_all_conditions_hold(store: sqlite3.Connection, where: Filter, ids: list[int]) -> None:
    assert found(store, where, NOW + 10) == ids


@pytest.mark.anyio
async def test_a_reader_sees_what_is_committed_beside_the_writer(database: Database) -> None:
    letters = [
        DeadLetter(b"%d" % n, Reason.GAVE_UP, f"no. {n} of kind {'ab'[n % 3 > 0]}", 1, n, 1)
        for n in range(500)
    ]
    database.note(lambda c: new_letters.insert_letters(c, letters, NOW))
    await database.commit()
    with LetterReader.open(database.path.parent) as reader:
        stored = [*reader.letters(Filter(), NOW)]
        assert [row.payload for row in stored] == [letter.payload for letter in letters]
        assert [row.id for row in reader.letters(Filter(), NOW, limit=3)] == [1, 2, 3]
        assert reader.groups(Filter(), NOW) == [
            ("gave_up: no. # of kind b", 333, NOW, NOW, 2, ""),
            ("gave_up: no. # of kind a", 167, NOW, NOW, 1, ""),
        ]
        await database.run(lambda c: letter_leases.letters_delivered(c, [1, 2], NOW))
        assert await database.run(dead_letters.count) == {"waiting": 498, "leased": 0, "delivered": 2}
        assert reader.setting("nothing") is None
        assert {reader.source(row) for row in stored} == {""}


def test_a_reader_makes_no_store_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(StoreFailed, match="cannot use"), LetterReader.open(tmp_path):
        pass
    assert not (tmp_path / "state.db").exists()


def test_a_list_is_printed_as_it_is_read(tmp_path: Path) -> None:
    """A hundred thousand letters would not fit: here 20 MB of them."""
    connection = connect(tmp_path / "state.db")
    letters = [DeadLetter(b"x" * 20_000, Reason.INVALID, "no", 1, number, 1) for number in range(1000)]
    new_letters.insert_letters(connection, letters, NOW)
    connection.close()
    listed = tmp_path / "list.json"
    with listed.open("w") as out, redirect_stdout(out):
        tracemalloc.start()
        for as_json in (True, False):
            with find_letters(str(tmp_path), Filter(), limit=999, now=NOW) as (found, total):
                print_letters(found, total, as_json=as_json, now=NOW)
            out.flush()
            if as_json:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
    first, table = listed.read_text().split("\n", 1)
    told = json.loads(first)
    assert (told["total"], len(told["letters"]), told["letters"][7]["id"]) == (1000, 999, 8)
    assert table.count("invalid") == 999
    assert "999 of 1000; see more with --limit" in table
    assert peak < 4 * 2**20


def test_groups_tell_causes_and_sinks_apart_with_the_values_that_differ(tmp_path: Path) -> None:
    connection = connect(tmp_path / "state.db")
    details = ["line1: required, but missing", "line2: required, but missing"] + [
        f"kind: one of 'ANSWER', found '{value}'" for value in ("HOLD", "HOLD", "HOLD", "RETRIEVE")
    ]
    letters = [DeadLetter(b"{}", Reason.INVALID, detail, 1, n, n) for n, detail in enumerate(details)]
    busy = '503 {"code":"busy","message":"away"}'
    letters += [DeadLetter(b"{}", Reason.GAVE_UP, busy, 1, 9, 9, sink=sink) for sink in ("crm", "hooks")]
    new_letters.insert_letters(connection, letters, NOW)
    connection.close()
    found = letter_groups(str(tmp_path), Filter(), now=NOW)
    told = [(one["count"], one["sink"], one["cause"], one["values"]) for one in found]
    assert told[0] == (4, None, "kind: one of 'ANSWER', found 'HOLD'", [[("HOLD", 3), ("RETRIEVE", 1)]])
    assert sorted(told[1:], key=str) == [
        (1, "crm", "503 code: busy, message: away", []),
        (1, "hooks", "503 code: busy, message: away", []),
        (1, None, "line1: required, but missing", []),
        (1, None, "line2: required, but missing", []),
    ]


def test_letters_are_found_by_their_event_its_producer_and_any_text(tmp_path: Path) -> None:
    connection = connect(tmp_path / "state.db")
    payloads = [
        b'{"id":"a-1","type":"order"}',
        b'{"interactionId":"a-1","eventType":"order"}',
        b'{"id":"a-2","type":"note"}',
        b'{"id":7}',
        b"not JSON a-1",
        b"\xff\x00a-1",
    ]
    letters = [
        DeadLetter(one, Reason.INVALID, f"no: 10{n}%", 1, n, n, producer=["shop", "till"][n % 2])
        for n, one in enumerate(payloads)
    ]
    for letter in letters:  # those that are written together are numbered by producer
        new_letters.insert_letters(connection, [letter], NOW)
    for where, ids in (
        (Filter(event_id="a-1"), [1, 2]),
        (Filter(event_type="note"), [3]),
        (Filter(producer="till"), [2, 4, 6]),
        (Filter(producer="shop", text="ORDER"), [1]),
        (Filter(text='"id":'), [1, 3, 4]),
        (Filter(text="no: 104%"), [5]),  # in what was said of it
        (Filter(text="104_"), []),  # no pattern
    ):
        assert found(connection, where, NOW) == ids, where
    connection.close()
    with find_letters(str(tmp_path), Filter(), limit=9, now=NOW) as (letters_found, _):
        letters_found = list(letters_found)
        assert [one["producer"] for one in letters_found] == ["shop", "till"] * 3
        assert [(one["event_id"], one["event_type"]) for one in letters_found] == [
            ("a-1", "order"),
            ("a-1", "order"),
            ("a-2", "note"),
            (None, None),
            (None, None),
            (None, None),
        ]


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_list_fits_its_terminal_a_line_each(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    letter = {
        "id": 17,
        "reason": "gave_up",
        "why_not_by_itself": None,
        "detail": '503 {"code":"busy","message":"' + "x" * 300,
        "event_id": "0198c1f2-8d1e-7c4e-b6a1-2f3d4e5f6a7b",
        "producer": "shop",
        "event_type": "routing.interaction.answer",
        "sink": "crm",
        "attempts": 12,
        "last_failed": "2026-01-01T10:00:00Z",
        "next_due": "2026-01-01T12:05:00Z",
    }
    now = datetime.fromisoformat("2026-01-01T12:00:00Z").timestamp()
    print_letters(iter([letter, letter]), 2, as_json=False, now=now)
    head, *lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(len(line) <= columns for line in (head, *lines))
    assert lines[0].startswith("17  gave_up  503 code: busy")
    if columns >= 80:
        assert lines[0].endswith("2h   in 5m")
        assert "503 code: busy, message: xxx" in lines[0]
    assert ("routing.interaction" in lines[0]) is (columns == 200)


def test_a_list_has_the_place_of_a_message_and_not_its_headers(capsys: pytest.CaptureFixture[str]) -> None:
    detail = "the message is empty\nstream ORDERS, sequence 7, subject orders, headers trace: {" + "x" * 400
    named = dict.fromkeys(("why_not_by_itself", "event_id", "event_type", "producer", "sink", "next_due"))
    letter = {"id": 17, "reason": "unparsable", "detail": detail, "attempts": 0, "last_failed": None, **named}
    print_letters(iter([letter]), 1, as_json=False, now=0.0)
    _, line = capsys.readouterr().out.splitlines()
    assert line == "17  unparsable  the message is empty; stream ORDERS, sequence 7, subject orders  a person"
