"""Which event an answer complains of, in all the ways that APIs have to say it."""

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.verdict import ItemError
from ingestd.sinks import answer_body, event_ids
from ingestd.sinks.ingest_api import IngestApi
from tests.each import each

EVENTS = [b'{"interactionId":"i-%d","eventId":"e-%d","id":%d}' % (n // 2, n, 100 + n) for n in range(6)]
"""Events 2k and 2k+1 share an interactionId."""


def find(body: Any, **options: bool) -> tuple[tuple[ItemError, ...], int]:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return answer_body.find(raw, len(EVENTS), lambda: event_ids.ids_of(EVENTS), **options)[:2]


def indices(*entries: dict[str, Any], under: str = "errors") -> list[int]:
    return [item.index for item in find({under: entries})[0]]


@each("name", ["index", "originalRequestIndex", "position", "eventIndex", "i"])
def test_an_entry_names_its_event_by_index(name: str) -> None:
    assert indices({name: 3, "message": "bad"}) == [3]


@each("name", ["field", "path", "loc", "pointer", "fieldName"])
@each(
    "path",
    [
        "events[3].actionType",
        "events[3]",
        "events.3.x",
        "/events/3/x",
        "/events/3",
        "$.events[3]",
        "$.events[3].x[5]",
        "$['events'][3]['x']",
        "#/events/3",
        "body.events.3",
        "[3].x",
        "3",
        ["events", 3, "x"],
        ["body", "events", 3, "x", 5],
    ],
)
def test_an_entry_names_its_event_by_path(name: str, path: object) -> None:
    assert indices({name: path, "message": "bad"}) == [3]


@each(
    "path",
    [
        "attributes.tags[2]",
        "tags[2].x",
        "/skills/2",
        ["tags", 2],
        "events.x[2]",
        ["events", "x", 2],
        "actionType",
        "events",
        "events[x]",
        "events[-1]",
        "v2",
        "",
        "x" * 10_000,
        [],
        ["events"],
        [["events"], 2],
        None,
    ],
)
def test_a_path_that_does_not_begin_with_an_index_names_no_event(path: object) -> None:
    assert find({"errors": [{"path": path, "message": "bad"}]}) == ((), 1)


@each(
    ("entry", "named"),
    [
        ({"eventId": "e-4"}, [4]),
        ({"id": "e-4"}, [4]),
        ({"id": 104}, [4]),
        ({"id": "104"}, [4]),
        ({"interactionId": "i-1"}, [2, 3]),
        ({"event": {"eventId": "e-5"}}, [5]),
        ({"event": {"index": 1}}, [1]),
        ({"event": {"event": {"index": 1}}}, []),
        ({"eventId": "unknown"}, []),
        ({"id": ["e-4"]}, []),
        ({"id": {"e": 4}}, []),
        ({"event": "e-4"}, []),
    ],
)
def test_an_entry_names_its_event_by_an_id(entry: dict[str, Any], named: list[int]) -> None:
    assert indices(entry | {"message": "bad"}) == named


def test_an_id_of_several_events_can_be_left_to_the_caller() -> None:
    entries = [{"interactionId": "i-1"}, {"eventId": "e-0"}]
    items, unmatched = find({"errors": entries}, shared_ids=False)
    assert ([item.index for item in items], unmatched) == ([0], 1)


@each("wrong", [-1, 6, 10**30, True, False, 1.0, "1", None, [1], {"1": 1}])
def test_what_is_no_index_of_the_batch_names_no_event(wrong: object) -> None:
    assert find({"errors": [{"index": wrong, "message": "bad"}]}) == ((), 1)
    assert find({"errors": [{"path": ["events", wrong], "message": "bad"}]}) == ((), 1)


@each("under", ["errors", "unprocessedEntities", "failed", "failures", "rejected"])
def test_every_entry_of_a_list_of_failures_is_one(under: str) -> None:
    assert find({under: [{"index": 0}, {"index": 5}]})[0] == (
        ItemError(0, "no reason given", False),
        ItemError(5, "no reason given", False),
    )


@each("under", ["results", "items", None])
@each(
    "fine",
    [
        {"status": 200},
        {"status": 201, "message": "fine"},
        {"statusCode": 202},
        {"status": "202"},
        {"status": "SUCCESS"},
        {"status": "ok"},
        {"status": "Accepted"},
        {"status": "created"},
        {"status": "delivered"},
        {"status": "queued"},
        {"status": "processed"},
        {"success": True},
        {},
        {"eventId": "e-3"},
    ],
)
def test_the_successes_in_a_list_of_results_are_passed_over(under: str | None, fine: dict[str, Any]) -> None:
    entries = [fine | {"index": 3}, {"index": 4, "status": 500, "message": "no"}]
    assert find({under: entries} if under else entries) == ((ItemError(4, "no", True),), 0)


@each(
    "failed",
    [
        {"status": 422},
        {"statusCode": 500},
        {"status": "failed"},
        {"status": "REJECTED"},
        {"success": False},
        {"error": "no"},
        {"errorMessage": "no"},
        {"error": {"code": 5}},
    ],
)
def test_an_entry_of_a_list_of_results_that_says_so_is_a_failure(failed: dict[str, Any]) -> None:
    assert indices(failed | {"index": 3}, {"index": 4, "status": 200}, under="results") == [3]


@each(
    ("entry", "retryable"),
    [
        ({"retryable": True}, True),
        ({"isRetryable": True}, True),
        ({"retry": True}, True),
        ({"transient": True}, True),
        ({"retryable": False}, False),
        ({"retryable": "yes"}, False),
        ({"retryable": 1}, False),
        ({"retryable": False, "status": 503}, False),
        ({"status": 503}, True),
        ({"statusCode": 429}, True),
        ({"status": 408}, True),
        ({"status": 422}, False),
        ({"status": True}, False),
        ({}, False),
    ],
)
def test_an_event_is_sent_again_only_where_the_answer_says_that_it_may(
    entry: dict[str, Any], retryable: bool
) -> None:
    ((item,), _) = find({"errors": [entry | {"index": 0}]})
    assert item.retryable is retryable


def test_an_event_that_is_named_twice_is_sent_again_only_if_both_say_so() -> None:
    again, never = {"index": 0, "retryable": True, "message": "a"}, {"index": 0, "message": "b"}
    for entries in ([again, never], [never, again]):
        ((item,), unmatched) = find({"errors": entries})
        assert (item.retryable, unmatched) == (False, 0)
    assert find({"errors": [again, again]})[0][0].retryable


def test_entries_that_name_no_event_are_counted() -> None:
    items, unmatched = find({"errors": [{"message": "what?"}, {"index": 2}, {"index": 77}, "text", 5]})
    assert ([item.index for item in items], unmatched) == ([2], 3)


def test_the_words_are_the_place_and_what_is_wrong_with_it_and_short() -> None:
    ((item,), _) = find({"errors": [{"path": "events[1].x", "code": "E1", "message": "must be a string"}]})
    assert item.message == "events[1].x: must be a string: E1"
    ((item,), _) = find({"errors": [{"index": 1, "message": "m" * 100_000}]})
    assert len(item.message) == 300


@each("unseen", ["", " ", "\t\r\n", "\x00", "\x1b", "\u200b", "\ufeff", "\u2028", "\u202e", None, []])
@each("name", ["field", "path", "loc", "code"])
def test_a_member_without_a_word_in_it_leaves_no_mark_in_the_words(name: str, unseen: object) -> None:
    ((item,), _) = find({"errors": [{"index": 1, name: unseen, "message": "this event is never taken"}]})
    assert item.message == "this event is never taken"
    ((item,), _) = find({"errors": [{"index": 1, name: unseen}]})
    assert item.message == "no reason given"


def test_the_words_have_no_credentials_and_no_control_characters() -> None:
    entry = {"index": 1, "message": "Bearer CANARY-123 \r\n\x1b[0m", "detail": "password=CANARY"}
    ((item,), _) = find({"errors": [entry]})
    assert "CANARY" not in item.message
    assert item.message.isprintable()


HOSTILE = [
    b"",
    b"   ",
    b"{",
    b"[" * 100_000,
    b'{"errors":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"errors":[' + b'{"event":' * 5_000 + b"1" + b"}" * 5_000 + b"]}",
    b"<html>502</html>",
    b"\xff\xfe{}",
    b'{"errors":[{"index":' + b"9" * 5000 + b"}]}",
    b'{"errors":[{"index":1e400,"message":"x"}]}',
    b'{"errors":[{"index":0,"message":' + b"9" * 400 + b"}]}",
    b'{"errors":{"index":0}}',
    b'{"errors":"events[0]"}',
    b'{"errors":[[{"index":0}]]}',
    b'{"errors":[{"message":"\\ud800","index":0}]}',
    b"null",
    b"5",
    b'"text"',
]


@each("body", HOSTILE, ids=range(len(HOSTILE)))
@each("status", [200, 400, 503])
def test_a_hostile_body_is_survived(body: bytes, status: int) -> None:
    verdict = IngestApi("http://h").interpret(Answer(status, body=body), EVENTS)
    assert all(item.index == 0 for item in verdict.items)


def test_a_huge_list_of_errors_is_read_in_one_go_and_bounded_by_the_batch() -> None:
    items, unmatched = find({"errors": [{"index": n, "message": "bad"} for n in range(20_000)]})
    assert (len(items), unmatched) == (6, 19_994)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(
            st.sampled_from(
                ["errors", "results", "items", "index", "path", "id", "eventId", "event", "status", "message"]
            )
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(json_values, st.booleans(), st.booleans())
@example([{"index": 0, "message": True}], False, False)
def test_no_json_makes_it_raise_or_name_an_event_that_is_not_there(
    value: Any, under_errors: bool, shared_ids: bool
) -> None:
    items, unmatched = find({"errors": value} if under_errors else value, shared_ids=shared_ids)
    named = [item.index for item in items]
    assert named == sorted(set(named))
    assert set(named) <= set(range(len(EVENTS)))
    assert unmatched >= 0
    assert all(item.message and len(item.message) <= 300 for item in items)


@each(
    "odd",
    [
        b"5",
        b"[]",
        b"not json",
        b'{"id":{"a":1}}',
        b'{"id":null}',
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"id":' + b"9" * 5000 + b"}",
    ],
    ids=range(7),
)
def test_events_of_any_shape_do_not_keep_the_others_from_being_found(odd: bytes) -> None:
    assert event_ids.ids_of([odd, b'{"id":"x"}', b'{"eventId":7}']) == {"x": [1], "7": [2]}


def test_an_event_whose_ids_are_all_the_same_is_named_once() -> None:
    events = [b'{"id":"x","eventId":"x","interactionId":"x"}', b'{"id":"y"}']
    assert event_ids.ids_of(events) == {"x": [0], "y": [1]}


def test_a_list_that_is_empty_hides_no_other() -> None:
    entry = {"index": 2, "message": "bad"}
    assert [i.index for i in find({"errors": [], "failed": [entry]})[0]] == [2]
    assert [i.index for i in find({"errors": [{"index": 1}], "rejected": [entry]})[0]] == [1, 2]
    assert [i.index for i in find({"failures": [], "results": [entry]})[0]] == [2]


def test_results_add_nothing_to_a_list_of_failures() -> None:
    failed = {"index": 2, "message": "later", "retryable": True}
    body = {"errors": [failed], "results": [{"index": 2, "status": 500, "retryable": False}]}
    assert find(body) == ((ItemError(2, "later", True),), 0)


@each("body", [b'{"errors":[{"index":1,"message":"\\ud83d"}]}', b' [{"index":1]', b"[" * 9999])
def test_json_that_cannot_be_read_may_have_named_an_event(body: bytes) -> None:
    assert find(body) == ((), 1)


def test_what_is_no_json_names_no_event() -> None:
    assert find(b"<html>{[") == find(b"") == find(b"OK") == ((), 0)


def test_of_an_event_that_is_named_twice_the_final_words_stay() -> None:
    again, never = (
        {"index": 1, "message": words, "retryable": words == "later"} for words in ("later", "no")
    )
    for entries in ([again, never], [never, again]):
        assert find({"errors": entries})[0] == (ItemError(1, "no", False),)
