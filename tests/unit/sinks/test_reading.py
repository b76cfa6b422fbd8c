"""What an answer means where a person has said so: statuses, and paths into the body."""

import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ingestd.core.address import show_url
from ingestd.core.answer import Answer
from ingestd.core.verdict import ItemError, Meaning, Verdict
from ingestd.sinks import answer_body, answers
from ingestd.sinks.answer_body import clean
from ingestd.sinks.answers import DEFAULT, AnswerReader
from ingestd.sinks.item_paths import ItemPaths, value_at
from tests.each import each

EVENTS = [b'{"order":{"no":%d},"id":"i-%d","x":"a"}' % (70 + n, n) for n in range(4)]


def read(body: Any, **paths: Any) -> Verdict:
    """Of an answer with ``body``; ``status``: its own."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    answer = Answer(paths.pop("status", 200), body=raw)
    return AnswerReader(paths=ItemPaths(**paths)).read(answer, EVENTS, now_wall=0)


def named(body: Any, **paths: Any) -> list[int]:
    return [item.index for item in read(body, **paths).items]


# --- on_status ---


@each(
    ("status", "word", "meaning"),
    [
        (404, "permanent", Meaning.PERMANENT),
        (404, "accepted", Meaning.ACCEPTED),
        (409, "retry", Meaning.RETRY),
        (409, "rejected", Meaning.REJECTED),
        (202, "retry", Meaning.RETRY),
        (500, "split", Meaning.SPLIT),
        (418, "paused", Meaning.PAUSED),
        (401, "paused", Meaning.PAUSED),
    ],
)
def test_a_status_means_what_was_set_for_it(status: int, word: str, meaning: Meaning) -> None:
    reading = AnswerReader({str(status): word})
    assert reading.verdict(Answer(status), now_wall=0).meaning is meaning
    assert reading.read(Answer(status, body=b'{"x":1}'), EVENTS, now_wall=0).meaning is meaning


def test_a_status_that_is_set_keeps_the_answers_words_without_advice_for_the_usual_case() -> None:
    answer = Answer(404, body=b'{"message":"no such order"}')
    assert (
        AnswerReader({"404": "permanent"}).verdict(answer, now_wall=0).detail
        == '404 {"message":"no such order"}'
    )
    assert "check" in AnswerReader({"403": "permanent"}).verdict(answer, now_wall=0).detail


def test_a_status_that_is_set_to_retry_keeps_its_retry_after() -> None:
    verdict = AnswerReader({"404": "retry"}).verdict(Answer(404, headers={"retry-after": "7"}), now_wall=0)
    assert (verdict.after_s, verdict.ambiguous, verdict.slow_down) == (7.0, False, False)


def test_what_is_sent_again_may_have_been_taken_if_its_status_usually_leaves_that_open() -> None:
    said = [("202", "retry"), ("409", "retry"), ("500", "paused"), ("404", "retry"), ("400", "paused")]
    open_ = [AnswerReader({s: word}).verdict(Answer(int(s)), now_wall=0).ambiguous for s, word in said]
    assert open_ == [True, True, True, False, False]


def test_a_status_that_is_set_to_what_it_means_anyway_loses_nothing() -> None:
    answer = Answer(429, headers={"retry-after": "3"}, body=b"slow")
    assert AnswerReader({"429": "retry"}).verdict(answer, now_wall=0) == answers.meaning_of(
        answer, now_wall=0
    )


def test_a_connection_that_broke_stays_what_it_is() -> None:
    reading = AnswerReader({"500": "permanent"})
    verdict = reading.read(Answer(0, error="reset"), EVENTS, now_wall=0)
    assert verdict == Verdict(Meaning.RETRY, "reset", ambiguous=True)


def test_the_events_of_a_status_that_is_set_to_accepted_or_rejected_are_read_too() -> None:
    body = b'{"errors":[{"index":2,"message":"bad"}]}'
    for word, read_them in {"accepted": True, "rejected": True, "permanent": False, "retry": False}.items():
        verdict = AnswerReader({"404": word}).read(Answer(404, body=body), EVENTS, now_wall=0)
        assert verdict.items == ((ItemError(2, "bad", False),) if read_them else ())


@each("on_status", [{"4xx": "permanent"}, {"600": "permanent"}, {"404": "gone"}, {"٤04": "permanent"}])
def test_what_is_no_status_or_no_meaning_is_told(on_status: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="and one of accepted, retry, split, rejected, paused, permanent"):
        AnswerReader(on_status)


# --- the usual bodies ---


def test_without_paths_the_usual_names_are_tried() -> None:
    body = b'{"errors":[{"id":"i-1","message":"full","retryable":true},{"message":"?"}]}'
    verdict = DEFAULT.read(Answer(207, body=body), EVENTS, now_wall=0)
    assert (verdict.items, verdict.unmatched) == ((ItemError(1, "full", True),), 1)


def test_a_shared_id_names_no_event_where_none_was_taken() -> None:
    events, body = [b'{"id":"a"}'] * 2, b'{"errors":[{"id":"a","message":"bad"}]}'
    assert [i.index for i in DEFAULT.read(Answer(200, body=body), events, now_wall=0).items] == [0, 1]
    verdict = DEFAULT.read(Answer(400, body=body), events, now_wall=0)
    assert (verdict.items, verdict.unmatched) == ((), 1)


def test_errors_in_the_body_of_another_answer_are_not_about_events() -> None:
    body = b'{"errors":[{"index":1,"message":"bad"}]}'
    for status in (401, 403, 409, 413, 429, 500):
        assert DEFAULT.read(Answer(status, body=body), EVENTS, now_wall=0).items == ()


def test_what_was_cut_off_of_a_good_answer_is_counted() -> None:
    for status, count in ((200, 1), (500, 0)):
        verdict = DEFAULT.read(Answer(status, body=b"{", truncated=True), EVENTS, now_wall=0)
        assert verdict.unmatched == count


# --- configured paths ---


def test_an_answer_that_cannot_be_read_may_have_named_an_event() -> None:
    for body, count in ((b'{"r":"\\ud800"}', 1), (b"[1,", 1), (b"<html>", 0), (b"", 0)):
        answer = Answer(200, body=body)
        reading = AnswerReader(paths=ItemPaths(items="r", index="n"))
        assert reading.read(answer, EVENTS, now_wall=0).unmatched == count


def test_an_index_and_words_are_read_where_the_paths_say() -> None:
    body = {"result": {"bad": [{"at": {"n": 2}, "why": "x" * 500, "again": True}]}}
    paths = {"items": "result.bad", "index": "at.n", "message": "why", "retryable": "again"}
    assert read(body, **paths).items == (ItemError(2, "x" * 300, True),)


@each(
    ("bad", "at"),
    [
        ("result.bad", "at.n"),
        ("$.result.bad", "$.at.n"),
        ("/result/bad", "/at/n"),
        (".result.bad", ".at.n"),
        ("$['result'][\"bad\"]", "at['n']"),
        ("#/result/bad", "$.at['n']"),
    ],
)
def test_paths_into_answers_are_written_in_any_notation(bad: str, at: str) -> None:
    body = {"result": {"bad": [{"at": {"n": 2}, "no": 73}]}}
    assert named(body, items=bad, index=at) == [2]
    assert named(body, items=bad, id="$.no", event_id="/order/no") == [3]
    assert named([{"at": {"n": 2}}], items="$", index=at) == [2]


def test_what_is_no_path_into_an_answer_is_told() -> None:
    with pytest.raises(ValueError, match=r"answers\.items: 'errors\[\*\]' is not a path: one value"):
        ItemPaths(items="errors[*]", index="n")


def test_an_id_is_looked_up_where_its_path_in_the_event_says() -> None:
    body = [{"no": 71, "m": "a"}, {"no": "73"}, {"no": 99}]
    verdict = read(body, items=".", id="no", event_id="order.no", message="m")
    assert verdict.items == (ItemError(1, "a", False), ItemError(3, "no reason given", False))
    assert verdict.unmatched == 1


def test_an_id_without_a_path_in_the_event_is_one_of_the_usual() -> None:
    assert named({"bad": [{"key": "i-3"}]}, items="bad", id="key") == [3]


def test_entries_that_are_no_objects_name_their_event_themselves() -> None:
    assert named({"failed": [1, "2"]}, items="failed", index=".") == [1, 2]
    assert named({"failed": ["i-1", "i-0"]}, items="failed", id=".") == [0, 1]


def test_only_entries_that_are_not_ok_are_errors() -> None:
    values: list[Any] = [True, "ok", "Accepted", 200, "204", False, "no", 500, "422", None, [], {}]
    events = [b"{}"] * len(values)
    body = json.dumps({"r": [{"s": value} for value in values]}).encode()
    reading = AnswerReader(paths=ItemPaths(items="r", ok="s"))
    verdict = reading.read(Answer(200, body=body), events, now_wall=0)
    assert [item.index for item in verdict.items] == list(range(5, len(values)))


def test_without_retryable_a_status_in_ok_says_whether_an_event_may_be_sent_again() -> None:
    body = {"r": [{"s": status} for status in (503, "429", 422, "no")]}
    assert [item.retryable for item in read(body, items="r", ok="s").items] == [True, True, False, False]


@each("value", ["yes", "true", 1, None, [True]])
def test_only_true_says_that_an_event_may_be_sent_again(value: object) -> None:
    body = {"r": [{"n": 0, "again": value, "s": 503}]}
    (item,) = read(body, items="r", index="n", retryable="again", ok="s").items
    assert not item.retryable


def test_with_neither_index_nor_id_entries_and_events_stand_side_by_side() -> None:
    body = {"r": [{"s": "ok"}, {"s": "bad"}, {"s": "ok"}, {"s": "ok"}]}
    assert named(body, items="r", ok="s") == [1]
    verdict = read({"r": body["r"][:2]}, items="r", ok="s")
    assert (verdict.items, verdict.unmatched) == ((), 1), "of fewer entries nobody knows whose they are"


def test_an_event_that_is_named_twice_is_sent_again_only_if_both_say_so() -> None:
    for says, outcome in (([True, False], False), ([False, True], False), ([True, True], True)):
        (item,) = read({"r": [{"n": 1, "a": say} for say in says]}, items="r", index="n", retryable="a").items
        assert item.retryable is outcome


def test_with_paths_none_of_the_usual_names_is_tried() -> None:
    body = {"errors": [{"index": 0, "message": "bad"}], "r": [{"index": 1, "message": "worse", "n": 2}]}
    assert read(body, items="r", index="n").items == (ItemError(2, "no reason given", False),)
    assert read({"errors": [{"index": 0}]}, items="r", index="n") == Verdict(
        Meaning.ACCEPTED, '200 {"errors": [{"index": 0}]}'
    )


@each("index", [-1, 4, 10**30, True, 1.0, "1.0", "-1", "٣", "9" * 5000, None, [1], {"1": 1}])
def test_what_is_no_index_of_the_batch_names_no_event(index: object) -> None:
    verdict = read({"r": [{"n": index}]}, items="r", index="n")
    assert (verdict.items, verdict.unmatched) == ((), 1)


def test_words_of_an_event_have_no_credentials() -> None:
    (item,) = read({"r": [{"n": 0, "m": "a\r\nBearer CANARY-123"}]}, items="r", index="n", message="m").items
    assert item.message == "a Bearer ***"


def test_paths_without_the_list_are_told() -> None:
    with pytest.raises(ValueError, match="message is given, but not items"):
        ItemPaths(message="m")
    assert AnswerReader(paths=ItemPaths()).paths is None


HOSTILE = [
    b"",
    b"{",
    b"null",
    b"5",
    b"\xff\xfe[]",
    b"[" * 100_000,
    b'{"r":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    b'{"r":' + b'{"n":' * 50_000 + b"1" + b"}" * 50_001,
    b'{"r":[[],1,null,"x",{"n":[0]},{"n":{"n":0}},{"n":1e400},{"n":"\\ud800"}]}',
    b'{"r":[{"n":' + b"9" * 4000 + b"}]}",
    b'{"r":[{"n":' + b"9" * 5000 + b"}]}",
]


@each("body", HOSTILE, ids=range(len(HOSTILE)))
def test_a_hostile_body_is_survived(body: bytes) -> None:
    for paths in ({"index": "n"}, {"id": "n"}, {"id": "n", "event_id": "id"}, {"ok": "n", "message": "n"}):
        for status in (200, 400, 503):
            assert read(body, status=status, items="r", **paths).items == ()


def test_a_hostile_event_is_survived_where_its_id_is_wanted() -> None:
    events = [b"[" * 100_000, b"\xff", b'{"a":[1]}', b'{"a":{"b":[]}}', b'{"a":{"b":"x"}}']
    reading = AnswerReader(paths=ItemPaths(items="r", id="id", event_id="a.b"))
    verdict = reading.read(Answer(200, body=b'{"r":[{"id":"x"}]}'), events, now_wall=0)
    assert [item.index for item in verdict.items] == [4]


def test_an_id_that_is_a_list_names_no_event() -> None:
    reading = AnswerReader(paths=ItemPaths(items="r", id="id", event_id="id"))
    events = [b'{"id":["x"]}', b'{"id":true}', b'{"id":null}']
    body = b'{"r":[{"id":["x"]},{"id":"[\'x\']"},{"id":true},{"id":"True"},{"id":null},{"id":"None"}]}'
    verdict = reading.read(Answer(200, body=body), events, now_wall=0)
    assert (verdict.items, verdict.unmatched) == ((), 6)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from("rnmsa"), inner, max_size=4),
    max_leaves=12,
)


@given(
    JSON,
    st.dictionaries(st.sampled_from(["index", "id", "message", "retryable", "ok"]), st.sampled_from("nms.")),
)
def test_whatever_the_body_and_the_paths_items_are_of_the_batch_and_in_order(
    body: object, paths: dict[str, str]
) -> None:
    verdict = read({"r": body}, items="r", **paths)
    found = [item.index for item in verdict.items]
    assert found == sorted(set(found))
    assert all(0 <= index < len(EVENTS) for index in found)


def test_a_path_leads_through_members_and_lists() -> None:
    value = {"a": [{"b": 1}], "": {"": 2}}
    assert value_at(value, "a.0.b") == 1
    assert value_at(value, ".") is value
    assert [value_at(value, path) for path in ("a.1", "a.x", "a.0.b.c", "b", "a.-1", "a.00000000")] == [
        None
    ] * 6


# --- what people see ---


PIECES = [
    "TOKEN",
    "api_key",
    "bearer",
    "Basic",
    "secret",
    "=",
    ":",
    " ",
    '"',
    "CANARY-123",
    "\x00",
    "\u2066",
    "é",
    "\u017fecret",
]


@given(st.lists(st.sampled_from(PIECES), max_size=8).map("".join))
@example("to\u212aen=CANARY")
def test_the_shortcut_of_cleaning_changes_no_outcome(text: str) -> None:
    slow = answer_body._SECRET.sub(
        lambda m: (m[1] + " ***") if m[1] else m[2] + "***", answer_body._CONTROL.sub(" ", text)
    )
    assert clean(text) == slow.strip()


def test_every_alternative_of_the_pattern_has_a_word_that_the_shortcut_knows() -> None:
    for word in ("bearer", "basic", "token", "password", "secret", "api_key", "apikey", "authorization"):
        for text in (f"{word} CANARY1", f"access_{word}=CANARY1", f"x {word.upper()}: CANARY1"):
            matched = answer_body._SECRET.search(text) is not None
            assert ("CANARY1" not in clean(text)) is matched


@each(
    ("url", "shown"),
    [
        ("https://h/p", "https://h/p"),
        ("https://user:pa55@h:1/p", "https://***@h:1/p"),
        ("https://h/p?key=CANARY#x", "https://h/p?***"),
        ("https://h/p#CANARY", "https://h/p?***"),
        ("https://u@h?x", "https://***@h?***"),
    ],
)
def test_a_url_is_shown_without_user_info_and_query(url: str, shown: str) -> None:
    assert show_url(url) == shown
    assert not re.search("CANARY|pa55", shown)
