"""CloudEvents over HTTP: bodies, the idempotency key, and what answers mean."""

import json
import uuid
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.verdict import Meaning, Verdict
from ingestd.sinks.answers import AnswerReader
from ingestd.sinks.cloudevents import CloudEventsSink
from ingestd.sinks.cloudevents_formats import Wrapping
from ingestd.sinks.item_paths import ItemPaths
from tests.each import each

URL = "https://user:pa55@h/api/v2/eventbridge/events?key=CANARY"
EVENT = b'{ "specversion":"1.0", "id":"e-1","source":"/shop","type":"order.created","data":{"amount":150.00}}'
ORDER = (
    b'{"kind":"order.created","no":17,"at":"2024-05-15T10:30:00.000Z",'
    b'"amount":150.00,"meta":{"who":"a\\u00e9"}}'
)
ORIGINAL = b'{"id":"evt-7f3b","specversion":"1.0","status":"accepted","deliveryStatus":"pending"}'
STRUCTURED = CloudEventsSink(url=URL)
BINARY = CloudEventsSink(url=URL, mode="binary")
BATCH = CloudEventsSink(url=URL, mode="batch", max_events=7)


# --- structured and batch ---


def test_a_structured_event_goes_as_the_very_bytes_it_came_in_as() -> None:
    assert STRUCTURED.encode([EVENT]) is EVENT
    assert (STRUCTURED.max_events, STRUCTURED.overhead_bytes, STRUCTURED.sizes([EVENT])) == (1, 0, None)
    assert STRUCTURED.headers("b-1", [EVENT])["Content-Type"] == "application/cloudevents+json; charset=utf-8"
    assert STRUCTURED.headers("b-1", [EVENT])["X-Request-Id"] == "b-1"


def test_people_see_the_url_without_what_is_secret_in_it() -> None:
    assert STRUCTURED.url == URL
    assert STRUCTURED.shown_url == "https://***@h/api/v2/eventbridge/events?***"


def test_a_batch_is_an_array_of_the_events_own_bytes_under_the_batch_id() -> None:
    assert BATCH.encode([EVENT, b"{}"]) == b"[" + EVENT + b",{}]"
    assert BATCH.max_events == 7
    assert BATCH.headers("b-1", [EVENT, EVENT]) == {
        "Content-Type": "application/cloudevents-batch+json; charset=utf-8",
        "X-Request-Id": "b-1",
        "Idempotency-Key": "b-1",
    }


@given(
    st.lists(st.integers().map(lambda n: b'{"kind":"k","no":%d}' % n), min_size=1, max_size=9), st.booleans()
)
def test_the_size_of_a_body_is_known_exactly_before_it_is_made(events: list[bytes], wrapped: bool) -> None:
    sink = CloudEventsSink(
        url=URL, mode="batch", wrap=Wrapping(type="$.kind", source="/s") if wrapped else None
    )
    sizes = sink.sizes(events) or [len(event) for event in events]
    bound = sink.overhead_bytes + sum(sizes) + sink.separator_bytes * (len(events) - 1)
    assert len(sink.encode(events)) == bound


# --- idempotency key ---


@each("mode", ["structured", "binary"])
def test_the_key_of_an_event_is_made_from_its_bytes_alone(mode: Any) -> None:
    def key(event: bytes) -> str:
        return CloudEventsSink(url=URL, mode=mode).headers(str(uuid.uuid4()), [event])["Idempotency-Key"]

    assert key(EVENT) == key(bytes(bytearray(EVENT))) == "06c2999a-8aa1-8f62-9573-9f633e798df1"
    assert key(EVENT) != key(EVENT.replace(b"150.00", b"150.01"))
    assert uuid.UUID(key(EVENT)).variant == uuid.RFC_4122


def test_the_key_of_a_wrapped_event_changes_with_how_it_is_wrapped() -> None:
    keys = {
        CloudEventsSink(url=URL, wrap=Wrapping(type=kind, source="/s")).headers("b", [ORDER])[
            "Idempotency-Key"
        ]
        for kind in ("a", "b", "b")
    }
    assert len(keys) == 2


# --- what answers mean ---


@each("sink", [STRUCTURED, BINARY])
@each("status", [200, 201, 202, 409])
def test_the_apis_own_id_of_an_accepted_event_is_kept(sink: CloudEventsSink, status: int) -> None:
    verdict = sink.interpret(Answer(status, body=ORIGINAL), [EVENT])
    assert (verdict.meaning, verdict.remote_ids) == (Meaning.ACCEPTED, ((0, "evt-7f3b"),))


@each("status", [200, 201, 202, 204, 409])
@each("body", [b"", b"<html>", b'{"event":{"id":"x"}}', b'{"data":{"id":"x"}}', b'[{"id":"x"}]'])
def test_an_answer_without_an_id_is_as_good(status: int, body: bytes) -> None:
    verdict = STRUCTURED.interpret(Answer(status, body=body), [EVENT])
    assert (verdict.meaning, verdict.remote_ids, verdict.unmatched) == (Meaning.ACCEPTED, (), 0)


@each("value", ["", "x" * 257, "a\nb", "a\u202eb", 5, None, ["x"], {"a": 1}, True])
def test_what_is_no_id_is_not_kept(value: object) -> None:
    answer = Answer(202, body=json.dumps({"id": value}).encode())
    assert STRUCTURED.interpret(answer, [EVENT]).remote_ids == ()


@each("status", [204, 400, 404, 500])
def test_ids_of_other_answers_are_not_kept(status: int) -> None:
    assert STRUCTURED.interpret(Answer(status, body=ORIGINAL), [EVENT]).remote_ids == ()


@each(
    "body",
    [
        b'{"message":"request is in progress"}',
        b'{"id":"err-1","code":"IN_PROGRESS"}',
        b'{"id":"err-1","status":"in_progress"}',
        b'{"id":"err-1","status":409,"message":"still processing"}',
    ],
)
def test_409_that_says_it_is_still_at_it_means_later(body: bytes) -> None:
    verdict = STRUCTURED.interpret(Answer(409, body=body), [EVENT])
    assert (verdict.meaning, verdict.ambiguous, verdict.remote_ids) == (Meaning.RETRY, True, ())


@each(
    "body",
    [
        ORIGINAL,
        b'{"id":"e","status":"failed","note":"pending"}',
        b'{"id":"e","status":"accepted","x":"pending"}',
    ],
)
def test_409_with_the_original_event_is_taken_although_its_delivery_is_pending(body: bytes) -> None:
    verdict = STRUCTURED.interpret(Answer(409, body=body), [EVENT])
    assert (verdict.meaning, len(verdict.remote_ids)) == (Meaning.ACCEPTED, 1)


KNOWN = json.loads(ORIGINAL)


@each("refused", [[], [{"index": 1, "message": "never", "retryable": False}]])
def test_409_with_the_originals_of_a_batch_says_what_the_first_answer_said(refused: list[object]) -> None:
    body = json.dumps({"accepted": 2, "events": [KNOWN, KNOWN], "errors": refused}).encode()
    verdict = BATCH.interpret(Answer(409, body=body), [EVENT] * 3)
    assert verdict.meaning is Meaning.ACCEPTED
    assert verdict.detail.startswith("409 ")
    assert [item.index for item in verdict.items] == [1] * len(refused)
    later = CloudEventsSink(url=URL, mode="batch", reading=AnswerReader({"409": "retry"}))
    assert later.interpret(Answer(409, body=body), [EVENT] * 3).meaning is Meaning.RETRY


@each(
    "body",
    [
        b'{"message":"pending"}',
        b'{"events":[],"status":"pending"}',
        b'{"events":[{"id":"a","status":"in progress"}]}',
    ],
)
def test_409_without_the_originals_of_a_batch_may_mean_that_it_is_still_at_it(body: bytes) -> None:
    assert BATCH.interpret(Answer(409, body=body), [EVENT, EVENT]).meaning is Meaning.RETRY


def test_what_a_person_has_set_for_409_counts_also_for_the_original_event() -> None:
    sink = CloudEventsSink(url=URL, reading=AnswerReader({"409": "retry"}))
    verdict = sink.interpret(Answer(409, body=ORIGINAL), [EVENT])
    assert (verdict.meaning, verdict.remote_ids) == (Meaning.RETRY, ())


def test_of_a_single_event_the_status_decides_and_not_what_else_the_answer_tells() -> None:
    body = b'{"errors":[{"index":0,"message":"of last week"}]}'
    assert STRUCTURED.interpret(Answer(200, body=body), [EVENT]).items == ()
    assert len(BATCH.interpret(Answer(200, body=body), [EVENT, EVENT]).items) == 1


def test_of_a_single_event_the_paths_that_are_set_decide_too() -> None:
    sink = CloudEventsSink(url=URL, reading=AnswerReader(paths=ItemPaths(items="r", ok="ok")))
    verdict = sink.interpret(Answer(200, body=b'{"id":"x","r":[{"ok":false}]}'), [EVENT])
    assert ([item.index for item in verdict.items], verdict.remote_ids) == ([0], ())


@each("body", [b"[" * 100_000, b'{"id":' * 50_000, b'{"id":"\\ud800"}', b"\xff", b'{"id":9e999}'])
def test_a_hostile_answer_is_survived(body: bytes) -> None:
    for sink in (STRUCTURED, BINARY, BATCH):
        for status in (202, 409, 400, 500):
            assert sink.interpret(Answer(status, body=body), [EVENT]).remote_ids == ()


class _Counting(AnswerReader):
    """How many answers were read."""

    read_in_full = 0

    def verdict(self, answer: Answer, **known: Any) -> Verdict:
        self.read_in_full += 1
        return super().verdict(answer, **known)


def test_what_an_api_says_of_each_event_is_read_once_and_nothing_else_is_taken_for_it() -> None:
    answers = [
        Answer(200, body=b"{}"),
        Answer(202, body=b"{}"),
        Answer(200, body=b"{}", truncated=True),
        Answer(200, body=b"{}", unreadable="not gzip"),
        Answer(200, body=b'{"success":false}'),
        Answer(200, body=b'{"id":"the API\'s own"}'),
        Answer(200, body=b'"fine"', headers={"content-type": "application/json"}),
        Answer(200, body=b'"fine"', headers={"content-type": "text/html"}),
        Answer(409, body=b"{}"),
        Answer(409, body=b"still processing"),
        Answer(503, body=b"{}", headers={"retry-after": "3"}),
        Answer(503, body=b"{}", headers={"retry-after": "9"}),
    ]
    for before in answers:
        for answer in answers:
            sink = CloudEventsSink(url=URL, reading=AnswerReader(expect_json=True))
            sink.interpret(before, [b"{}"])
            alone = CloudEventsSink(url=URL, reading=AnswerReader(expect_json=True))
            assert sink.interpret(answer, [b"{}"]) == alone.interpret(answer, [b"{}"]), (before, answer)
    reader = _Counting()
    sink = CloudEventsSink(url=URL, reading=reader)
    for _ in range(100):
        assert sink.interpret(answers[0], [b"{}"]).meaning is Meaning.ACCEPTED
    assert reader.read_in_full == 1
