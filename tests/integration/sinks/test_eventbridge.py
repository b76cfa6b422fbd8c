"""EventBridge: exact sizes and exact words, and a real PutEvents against moto."""

import json
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.verdict import Meaning, Verdict
from ingestd.sinks.answers import AnswerReader
from ingestd.sinks.eventbridge import EventBridgeSink
from ingestd.sinks.sink import Unencodable
from ingestd.transport.aws import AwsSignature
from ingestd.transport.client import Client, Sender
from tests.aws import REGION, Aws, start_aws
from tests.each import each

URL = "https://events.eu-central-1.amazonaws.com/"
EVENT = (
    b'{"eventType":"queue","id":7,"n":1.10,"text":"a \\"b\\" \xc3\xa9","when":"2026-01-31T10:00:00.5+01:00"}'
)


@pytest.fixture
def aws(monkeypatch: pytest.MonkeyPatch) -> Aws:
    return start_aws(monkeypatch)


def sink(**settings: Any) -> EventBridgeSink:
    return EventBridgeSink(**({"url": URL} | settings))


def entries(body: bytes) -> list[dict[str, Any]]:
    content = json.loads(body)
    assert list(content) == ["Entries"]
    return list(content["Entries"])


def unfit(settings: dict[str, Any], *events: bytes) -> dict[int, str]:
    tested = sink(**settings)
    with pytest.raises(Unencodable) as caught:
        tested.encode(events)
    return dict(caught.value.events)


# --- the request ---


def test_an_entry_has_the_event_as_a_string_with_its_own_spelling() -> None:
    (entry,) = entries(sink().encode([EVENT]))
    assert entry == {
        "Source": "ingestd",
        "DetailType": "queue",
        "Detail": EVENT.decode(),
        "EventBusName": "default",
    }


@each(
    ("source", "detail", "time"),
    [
        ("$.meta.svc", "$.rows[0]", "$.at"),
        ("$['meta'][\"svc\"]", "/rows/0", "/at"),
        ("$.meta['svc']", ".rows.0", "$['at']"),
    ],
)
def test_paths_are_written_in_any_notation(source: str, detail: str, time: str) -> None:
    event = b'{"meta":{"svc":"s"},"rows":[{"a":1.50}],"at":1769850000.25}'
    (entry,) = entries(sink(source=source, detail_type="t", detail=detail, time=time).encode([event]))
    assert (entry["Source"], entry["Detail"], entry["Time"]) == ("s", '{"a":1.50}', 1769850000.25)


def test_a_name_behind_a_dollar_sign_is_neither_path_nor_name() -> None:
    with pytest.raises(ValueError, match=r"source: '\$orderId' is not a path, like \$\.meta\.kind"):
        sink(source="$orderId")


def test_values_come_from_the_event_where_they_are_paths() -> None:
    event = json.dumps(
        {
            "meta": {"a.b": "svc"},
            "data": {"x": [1, {"k": "deep"}]},
            "at": 1769850000.25,
            "arns": ["arn:1", "arn:2"],
        }
    ).encode()
    tested = sink(
        bus="arn:aws:events:eu-central-1:1:event-bus/b",
        source=r"$.meta.a\.b",
        detail_type="$.data.x.1.k",
        detail="$.data",
        time="$.at",
        resources=("const", "$.arns", "$.nothing"),
    )
    (entry,) = entries(tested.encode([event]))
    assert entry == {
        "Source": "svc",
        "DetailType": "deep",
        "Detail": '{"x": [1, {"k": "deep"}]}',
        "EventBusName": "arn:aws:events:eu-central-1:1:event-bus/b",
        "Time": 1769850000.25,
        "Resources": ["const", "arn:1", "arn:2"],
    }


@each(
    ("written", "seconds"),
    [
        ("2026-01-31T10:00:00.5+01:00", 1769850000.5),
        ("2026-01-31T09:00:00Z", 1769850000),
        ("2026-01-31t09:00:00.123456789z", 1769850000.123),
        ("2016-12-31T23:59:60Z", datetime.fromisoformat("2016-12-31T23:59:59+00:00").timestamp()),
    ],
)
def test_times_of_rfc_3339_become_seconds(written: str, seconds: float) -> None:
    event = json.dumps({"eventType": "t", "when": written}).encode()
    (entry,) = entries(sink(time="$.when").encode([event]))
    assert entry["Time"] == seconds


def test_an_event_without_its_time_gets_that_of_aws() -> None:
    (entry,) = entries(sink(time="$.when").encode([b'{"eventType":"t","when":null}']))
    assert "Time" not in entry


@each(
    ("settings", "event", "words"),
    [
        ({}, b'{"eventType":5}', "detail_type: not a string"),
        ({}, b'{"x":1}', "detail_type: nothing there"),
        ({}, b'{"eventType":""}', "detail_type: 0 characters"),
        ({}, b'{"eventType":"' + b"x" * 129 + b'"}', "detail_type: 129 characters, at most 128"),
        ({}, b'{"eventType":"a\\u0007b"}', "detail_type: has control characters"),
        ({"source": "$.s"}, b'{"eventType":"t","s":"aws.s3"}', "source: names that begin with aws."),
        ({"source": "$.s"}, b'{"eventType":"t","s":"a\\nb"}', "source: has control characters"),
        ({"detail": "$.d"}, b'{"eventType":"t","d":[1]}', "detail: not a JSON object"),
        ({"detail": "$.d"}, b'{"eventType":"t"}', "detail: not a JSON object"),
        ({"detail_type": "t"}, b"[1]", "detail: not a JSON object"),
        ({"detail_type": "t"}, b'{"x":', "detail: not a JSON object"),
        ({"detail_type": "t"}, b'{"x":"\xff"}', "detail: not UTF-8"),
        ({"time": "$.w"}, b'{"eventType":"t","w":"yesterday"}', "time: not RFC 3339"),
        ({"time": "$.w"}, b'{"eventType":"t","w":1769850000000}', "time: neither"),
        ({"time": "$.w"}, b'{"eventType":"t","w":true}', "time: neither"),
        ({"resources": ("$.r",)}, b'{"eventType":"t","r":[1]}', "resources: not a string"),
        ({"max_entry_bytes": 1024}, b'{"eventType":"t","x":"' + b"y" * 1024 + b'"}', "at most 1024"),
        ({"detail_type": "t"}, b"[" * 100_000, "detail: not a JSON object"),
        ({"detail_type": "t"}, b'{"a":' * 100_000, "nested too deeply"),
        ({"resources": ("$.r",)}, b'{"eventType":"t","r":' + b"[" * 100_000, "nested too deeply"),
    ],
)  # fmt: skip
def test_what_eventbridge_has_no_words_for_is_unfit_and_named(
    settings: dict[str, Any], event: bytes, words: str
) -> None:
    good = b'{"eventType":"t","s":"x","d":{}}'
    found = unfit(settings, good, event)
    assert list(found) == [1]
    assert words in found[1]
    if "max_entry_bytes" not in settings:
        assert sink(**settings).sizes([good, event])[1] == 0


@each(
    ("settings", "words"),
    [
        ({"source": "aws.mine"}, "aws."),
        ({"source": ""}, "source"),
        ({"detail_type": "x" * 129}, "129"),
        ({"detail": "data"}, "a path"),
        ({"time": "now"}, "a path"),
        ({"detail": "$..x"}, "not a path"),
        ({"bus": ""}, "bus"),
    ],
)
def test_settings_that_cannot_be_are_told_at_the_start(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        sink(**settings)


NAMES = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=20)
OPTIONAL = {"when": st.just("2026-01-31T10:00:00Z"), "r": st.lists(st.sampled_from(["é", "ab"]))}
EVENTS = st.fixed_dictionaries({"eventType": NAMES, "x": st.text()}, optional=OPTIONAL)


@given(st.lists(EVENTS, min_size=1, max_size=10), st.booleans())
def test_sizes_and_what_aws_counts_bound_the_body(contents: list[dict[str, Any]], indented: bool) -> None:
    tested = sink(time="$.when", resources=("$.r", "é"), max_entry_bytes=1024)
    events = [json.dumps(c, ensure_ascii=False, indent=indented or None).encode() for c in contents]
    body, sizes = tested.encode(events), tested.sizes(events)
    assert json.loads(body)["Entries"][0]["Detail"] == events[0].decode()
    room = tested.overhead_bytes + sum(sizes) + tested.separator_bytes * (len(events) - 1)
    assert len(body) <= room
    counted = sum(
        14 * ("Time" in e)
        + len(f"{e['Source']}{e['DetailType']}{e['Detail']}{''.join(e['Resources'])}".encode())
        for e in entries(body)
    )
    if room <= tested.max_bytes:
        assert counted <= 1024


@each("filler", ["y", '\\"', "\\\\", "\\t", "é"])
def test_the_largest_entry_that_aws_takes_fits_a_body(filler: str) -> None:
    tested = sink(max_entry_bytes=4096)
    empty = len(b'{"eventType":"t","x":""}') + len("ingestd") + len("t")
    room = 4096 - empty
    text = filler * (room // len(filler.encode())) + "z" * (room % len(filler.encode()))
    event = f'{{"eventType":"t","x":"{text}"}}'.encode()
    body = tested.encode([event])
    assert tested.overhead_bytes + tested.sizes([event])[0] <= tested.max_bytes
    assert len(body) <= tested.max_bytes
    longer = event.replace(b'":"', b'":" ', 2).replace(b'e":" t', b'e":"t')
    assert unfit({"max_entry_bytes": 4096}, longer) == {0: "4097 bytes: an entry has at most 4096"}
    assert tested.overhead_bytes + tested.sizes([longer])[0] > tested.max_bytes


def test_encoding_again_gives_the_same_bytes_and_the_secret_of_a_url_is_not_shown() -> None:
    assert sink().encode([EVENT] * 10) == sink().encode([EVENT] * 10)
    assert sink(url="https://u:hunter2@x/?k=hunter2").shown_url.count("hunter2") == 0
    assert sink().max_events == 10


# --- the answer ---


def read(status: int, content: Any, count: int = 3, **answer: Any) -> Verdict:
    body = content if isinstance(content, bytes) else json.dumps(content).encode()
    return sink(wall=lambda: 0.0).interpret(Answer(status, body=body, **answer), [EVENT] * count)


def put(*codes: str) -> dict[str, Any]:
    results = [{"ErrorCode": c, "ErrorMessage": f"about {c}"} if c else {"EventId": "e"} for c in codes]
    return {"FailedEntryCount": sum(map(bool, codes)), "Entries": results}


def test_only_the_failed_entries_go_again_and_permanent_ones_do_not() -> None:
    verdict = read(
        200, put("", "InternalFailure", "MalformedDetail", "ThrottlingException", "AccessDeniedException"), 5
    )
    assert verdict.meaning is Meaning.ACCEPTED
    assert [(item.index, item.retryable) for item in verdict.items] == [
        (1, True), (2, False), (3, True), (4, False)
    ]  # fmt: skip
    assert verdict.items[1].message == "MalformedDetail: about MalformedDetail"


def test_all_entries_taken() -> None:
    assert read(200, put("", "", "")) == Verdict(Meaning.ACCEPTED, read(200, put("", "", "")).detail)


def test_where_all_entries_were_throttled_the_whole_call_was() -> None:
    verdict = read(200, put("ThrottlingException", "ThrottlingException"), 2)
    assert (verdict.meaning, verdict.slow_down, verdict.throttled) == (Meaning.RETRY, True, True)
    assert not verdict.ambiguous
    verdict = read(200, put("InternalFailure", "ThrottlingException"), 2)
    assert (verdict.meaning, verdict.throttled, verdict.ambiguous) == (Meaning.RETRY, False, False)


def test_where_all_entries_were_denied_the_lane_pauses_and_keeps_them() -> None:
    assert read(200, put("AccessDeniedException"), 1).meaning is Meaning.PAUSED


def test_where_all_entries_are_malformed_each_has_its_own_end() -> None:
    verdict = read(200, put("MalformedDetail", "InvalidArgument"), 2)
    assert [(item.index, item.retryable) for item in verdict.items] == [(0, False), (1, False)]


@each(
    ("content", "unmatched"),
    [
        ({"FailedEntryCount": 1, "Entries": [{"ErrorCode": "X"}]}, 1),
        ({"FailedEntryCount": 2, "Entries": "none"}, 1),
        ({"FailedEntryCount": 2, "Entries": [1, 2, 3]}, 2),
        (b"<html>", 1),
        (b"[" * 100_000, 1),
        (b'{"FailedEntryCount":0,"Entries":[]}', 0),
    ],
)
def test_a_result_that_cannot_be_traced_is_counted(content: Any, unmatched: int) -> None:
    verdict = read(200, content)
    assert (verdict.meaning, verdict.items, verdict.unmatched) == (Meaning.ACCEPTED, (), unmatched)


def test_a_result_that_was_cut_off_is_counted() -> None:
    assert read(200, put("", "", "X"), truncated=True).unmatched == 1


@each(
    ("status", "code", "meaning"),
    [
        (400, "ThrottlingException", Meaning.RETRY),
        (400, "com.amazonaws.events#ThrottlingException", Meaning.RETRY),
        (400, "TooManyRequestsException", Meaning.RETRY),
        (503, "ServiceUnavailable", Meaning.RETRY),
        (500, "InternalFailure", Meaning.RETRY),
        (500, "InternalException", Meaning.RETRY),
        (400, "ExpiredTokenException", Meaning.UNAUTHORIZED),
        (403, "ExpiredToken", Meaning.UNAUTHORIZED),
        (400, "UnrecognizedClientException", Meaning.UNAUTHORIZED),
        (403, "InvalidSignatureException", Meaning.UNAUTHORIZED),
        (400, "MissingAuthenticationTokenException", Meaning.UNAUTHORIZED),
        (400, "AccessDeniedException", Meaning.PAUSED),
        (400, "ResourceNotFoundException", Meaning.PAUSED),
        (413, "RequestEntityTooLargeException", Meaning.SPLIT),
        (413, "", Meaning.SPLIT),
        (400, "ValidationException", Meaning.REJECTED),
        (400, "SerializationException", Meaning.REJECTED),
        (400, "NeverHeardOfIt", Meaning.REJECTED),
        (404, "", Meaning.PAUSED),
        (500, "", Meaning.RETRY),
        (302, "", Meaning.PAUSED),
        (418, "", Meaning.PERMANENT),
    ],
)
def test_what_a_call_that_failed_means(status: int, code: str, meaning: Meaning) -> None:
    assert read(status, {"__type": code, "message": "words"}).meaning is meaning
    header = {"x-amzn-errortype": f"{code}:http://internal.amazon.com/coral/"}
    assert read(status, b"", headers=header).meaning is meaning


def test_a_throttled_call_slows_down_and_is_no_failure() -> None:
    verdict = read(400, {"__type": "ThrottlingException"}, headers={"retry-after": "3"})
    assert (verdict.slow_down, verdict.throttled, verdict.ambiguous, verdict.after_s) == (
        True,
        True,
        False,
        3.0,
    )
    verdict = read(503, {"__type": "ServiceUnavailable"})
    assert (verdict.slow_down, verdict.throttled, verdict.ambiguous) == (True, False, True)


def test_a_request_that_is_too_large_in_words_is_halved() -> None:
    words = "Total size of the entries in the request is over the limit."
    assert read(400, {"__type": "ValidationException", "message": words}).meaning is Meaning.SPLIT


def test_no_answer_may_have_put_the_events() -> None:
    verdict = sink().interpret(Answer(0, error="no answer in time"), [EVENT])
    assert (verdict.meaning, verdict.ambiguous) == (Meaning.RETRY, True)


def test_on_status_counts_where_aws_gives_no_code() -> None:
    tested = sink(reading=AnswerReader({"418": "retry"}))
    assert tested.interpret(Answer(418), [EVENT]).meaning is Meaning.RETRY


MEMBERS = st.sampled_from(["FailedEntryCount", "Entries", "ErrorCode", "__type", "message"])
BODIES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(MEMBERS, inner, max_size=4),
    max_leaves=12,
)


@given(st.integers(0, 999), st.binary(max_size=200) | BODIES.map(lambda value: json.dumps(value).encode()))
def test_no_answer_breaks_it(status: int, body: bytes) -> None:
    verdict = sink().interpret(Answer(status, body=body), [EVENT, EVENT])
    assert all(0 <= item.index < 2 for item in verdict.items)


# --- against moto ---


def bus_with_queue(aws: Aws) -> tuple[str, str]:
    """A bus whose events all go to a queue: its name and the queue's URL."""
    events, sqs, name = aws.client("events"), aws.client("sqs"), aws.name()
    events.create_event_bus(Name=name)
    queue = sqs.create_queue(QueueName=name)["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    events.put_rule(Name=name, EventBusName=name, EventPattern='{"source":[{"exists":true}]}')
    events.put_targets(Rule=name, EventBusName=name, Targets=[{"Id": "1", "Arn": arn}])
    return name, queue


def received(aws: Aws, queue: str) -> list[dict[str, Any]]:
    sqs, found = aws.client("sqs"), []
    while messages := sqs.receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        found += [json.loads(message["Body"]) for message in messages]
        for message in messages:
            sqs.delete_message(QueueUrl=queue, ReceiptHandle=message["ReceiptHandle"])
    return found


async def send(tested: EventBridgeSink, events: list[bytes]) -> Verdict:
    auth = AwsSignature("events", REGION)
    async with Client() as client:
        answer, _ = await Sender(client, auth).send(
            tested.url, tested.encode(events), tested.headers("b-1", events)
        )
        await auth.aclose()
    return tested.interpret(answer, events)


@pytest.mark.anyio
async def test_events_reach_a_queue_through_a_bus_of_moto(aws: Aws) -> None:
    bus, queue = bus_with_queue(aws)
    tested = sink(url=aws.url + "/", bus=bus, source="$.from", time="$.when", resources=("arn:x",))
    events = [
        json.dumps(
            {"eventType": f"t{n}", "from": "svc", "when": "2026-01-31T10:00:00Z", "q": 'é"\\'}
        ).encode()
        for n in range(10)
    ]
    verdict = await send(tested, events)
    assert (verdict.meaning, verdict.items) == (Meaning.ACCEPTED, ())
    found = sorted(received(aws, queue), key=lambda event: str(event["detail-type"]))
    assert [event["detail-type"] for event in found] == [f"t{n}" for n in range(10)]
    assert [json.dumps(event["detail"]) for event in found] == [event.decode() for event in events]
    assert {(e["source"], e["time"], *e["resources"]) for e in found} == {
        ("svc", "2026-01-31T10:00:00Z", "arn:x")
    }


@pytest.mark.anyio
async def test_an_entry_that_moto_refuses_is_named_and_the_others_arrive(aws: Aws) -> None:
    bus, queue = bus_with_queue(aws)
    tested = sink(url=aws.url + "/", bus=bus)
    events = [b'{"eventType":"good","n":1}', b'{"eventType":"bad","n":2}', b'{"eventType":"good","n":3}']
    broken = tested.encode(events).replace(b'\\"n\\":2}', b'\\"n\\":2,')  # what we never would send
    async with Client() as client:
        answer, _ = await Sender(client, AwsSignature("events", REGION)).send(
            tested.url, broken, tested.headers("b-1", events)
        )
    verdict = tested.interpret(answer, events)
    assert [(item.index, item.retryable) for item in verdict.items] == [(1, False)]
    assert "MalformedDetail" in verdict.items[0].message
    assert sorted(event["detail"]["n"] for event in received(aws, queue)) == [1, 3]


@pytest.mark.anyio
async def test_more_entries_than_aws_takes_are_refused_as_a_whole(aws: Aws) -> None:
    assert (await send(sink(url=aws.url + "/"), [b'{"eventType":"t"}'] * 11)).meaning is Meaning.REJECTED


@pytest.mark.anyio
async def test_a_bus_that_is_not_there_pauses_the_lane(aws: Aws) -> None:
    assert (
        await send(sink(url=aws.url + "/", bus="nowhere"), [b'{"eventType":"t"}'])
    ).meaning is Meaning.PAUSED
