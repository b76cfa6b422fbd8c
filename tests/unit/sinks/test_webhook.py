"""Any URL that takes JSON: bodies, ids, headers that a person sets, URLs that are secrets."""

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.verdict import Meaning
from ingestd.sinks.answers import AnswerReader
from ingestd.sinks.item_paths import ItemPaths
from ingestd.sinks.webhook import RESERVED, WebhookSink
from tests.each import each

URL = "https://hooks.example.com/in"
SECRET = "https://api.mypurecloud.de/api/v2/integrations/webhooks/CANARY-7f3b/events"
EVENTS = [b'{"id":"a"}', b'{"id":"b"}']
SINK = WebhookSink(url=URL)
BODIES: Any = ["event", "array", "ndjson"]


# --- bodies ---


@each(
    ("body", "events", "encoded", "content_type"),
    [
        ("event", EVENTS[:1], b'{"id":"a"}', "application/json"),
        ("array", EVENTS, b'[{"id":"a"},{"id":"b"}]', "application/json"),
        ("ndjson", EVENTS, b'{"id":"a"}\n{"id":"b"}\n', "application/x-ndjson"),
    ],
)
def test_events_go_as_their_own_bytes(
    body: Any, events: list[bytes], encoded: bytes, content_type: str
) -> None:
    sink = WebhookSink(url=URL, body=body, max_events=50)
    assert sink.encode(events) == encoded
    assert sink.headers("b-1", events)["Content-Type"] == content_type
    assert sink.max_events == (1 if body == "event" else 50)


def test_a_line_has_one_event_also_where_the_event_has_several_lines() -> None:
    events = [json.dumps({"a": "x\r\ny", "n": n}, indent=1).replace("\n", "\r\n").encode() for n in range(3)]
    lines = WebhookSink(url=URL, body="ndjson").encode(events).splitlines()
    assert [json.loads(line) for line in lines] == [json.loads(event) for event in events]


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=9), st.sampled_from(BODIES))
def test_the_size_of_a_body_is_known_exactly_before_it_is_made(events: list[bytes], body: Any) -> None:
    sink = WebhookSink(url=URL, body=body)
    events = events[: sink.max_events]
    bound = sink.overhead_bytes + sum(map(len, events)) + sink.separator_bytes * (len(events) - 1)
    assert len(sink.encode(events)) == bound


# --- ids and headers ---


def test_the_id_of_a_single_event_is_made_from_its_bytes_and_has_no_dot() -> None:
    one, again = SINK.headers("b-1", EVENTS[:1]), SINK.headers("b-2", EVENTS[:1])
    assert one["webhook-id"] == one["Idempotency-Key"] == again["webhook-id"]
    assert SINK.headers("b-1", EVENTS[1:])["webhook-id"] != one["webhook-id"]
    assert "." not in one["webhook-id"]
    assert (one["X-Request-Id"], again["X-Request-Id"]) == ("b-1", "b-2")


@each("body", ["array", "ndjson"])
def test_the_id_of_several_events_is_the_batchs(body: Any) -> None:
    assert WebhookSink(url=URL, body=body).headers("b-1", EVENTS)["webhook-id"] == "b-1"


def test_no_signature_and_no_credential_is_set_here() -> None:
    assert set(SINK.headers("b", EVENTS[:1])) == {
        "Content-Type",
        "X-Request-Id",
        "Idempotency-Key",
        "webhook-id",
    }
    assert SINK.headers("b", EVENTS[:1]) is not SINK.headers("b", EVENTS[:1]), "the sender adds to it"


def test_headers_that_are_set_go_with_every_request_and_may_name_the_type() -> None:
    sink = WebhookSink(
        url=URL, headers={"X-Tenant": "a b\tc", "content-type": "application/vnd.x+json", "X-0": ""}
    )
    headers = sink.headers("b", EVENTS[:1])
    assert (headers["X-Tenant"], headers["content-type"]) == ("a b\tc", "application/vnd.x+json")
    assert "Content-Type" not in headers


@each("value", ["a\r\nX: 1", "a\nb", "a\0", "é", " a", "a ", "\ta", "a\x7f", "\r", "CANARY\n"])
def test_a_value_that_could_inject_a_header_is_refused_and_not_shown(value: str) -> None:
    with pytest.raises(ValueError, match="the header X-Key: expected ASCII") as error:
        WebhookSink(url=URL, headers={"X-Key": value})
    assert "CANARY" not in str(error.value)


@each("name", ["", "a b", "a:b", "a\r\nb", "é", "(x)", "a\n", "x" * 101])
def test_what_is_no_name_of_a_header_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a header"):
        WebhookSink(url=URL, headers={name: "v"})


@each("name", sorted(RESERVED))
def test_headers_that_are_the_programs_own_are_refused_in_any_case(name: str) -> None:
    with pytest.raises(ValueError, match="set by the program itself"):
        WebhookSink(url=URL, headers={name.title(): "v"})


def test_headers_that_contradict_each_other_or_are_too_long_are_refused() -> None:
    with pytest.raises(ValueError, match="there twice"):
        WebhookSink(url=URL, headers={"X-A": "1", "x-a": "2"})
    with pytest.raises(ValueError, match="at most 8000"):
        WebhookSink(url=URL, headers={"X-A": "1" * 8_000})


@given(st.dictionaries(st.text(max_size=6), st.text(max_size=8), max_size=3))
def test_whatever_headers_are_set_none_that_passes_has_a_line_break(headers: dict[str, str]) -> None:
    try:
        sent = WebhookSink(url=URL, headers=headers).headers("b", EVENTS[:1])
    except ValueError:
        return
    assert all(re.fullmatch(r"[!-~]+", name) for name in sent)
    assert all(re.fullmatch(r"[\t -~]*", value) and value == value.strip() for value in sent.values())


# --- what answers mean ---


@each(
    ("status", "meaning", "slow_down"),
    [
        (200, Meaning.ACCEPTED, False),
        (202, Meaning.ACCEPTED, False),
        (204, Meaning.ACCEPTED, False),
        (410, Meaning.PAUSED, False),
        (429, Meaning.RETRY, True),
        (500, Meaning.RETRY, False),
        (502, Meaning.RETRY, True),
        (503, Meaning.RETRY, True),
        (504, Meaning.RETRY, True),
        (302, Meaning.PAUSED, False),
        (400, Meaning.REJECTED, False),
    ],
)
def test_each_status_means_what_standard_webhooks_says(
    status: int, meaning: Meaning, slow_down: bool
) -> None:
    verdict = SINK.interpret(Answer(status), EVENTS[:1])
    assert (verdict.meaning, verdict.slow_down) == (meaning, slow_down)


def test_only_429_is_no_failure() -> None:
    throttled = {s: SINK.interpret(Answer(s), EVENTS[:1]).throttled for s in (429, 502, 503, 504)}
    assert throttled == {429: True, 502: False, 503: False, 504: False}


def test_a_status_that_is_set_means_that() -> None:
    sink = WebhookSink(url=URL, reading=AnswerReader({"502": "permanent", "404": "permanent"}))
    assert sink.interpret(Answer(502), EVENTS[:1]).meaning is Meaning.PERMANENT
    assert not sink.interpret(Answer(502), EVENTS[:1]).slow_down
    assert sink.interpret(Answer(404), EVENTS[:1]).meaning is Meaning.PERMANENT


@each(
    "body",
    [b'{"invocationId":"x"}', b'{"items":[{"id":"a","status":"open"}]}', b'{"errors":[]}', b"ok"],
)
def test_of_a_single_event_the_status_decides_whatever_the_body_tells(body: bytes) -> None:
    verdict = SINK.interpret(Answer(202, body=body, truncated=True), EVENTS[:1])
    assert (verdict.meaning, verdict.items, verdict.unmatched) == (Meaning.ACCEPTED, (), 0)


def test_of_several_events_the_body_names_those_that_failed() -> None:
    body = b'{"errors":[{"id":"b","message":"bad"}]}'
    verdict = WebhookSink(url=URL, body="array").interpret(Answer(200, body=body), EVENTS)
    assert [item.index for item in verdict.items] == [1]


def test_paths_that_are_set_count_for_a_single_event_too() -> None:
    sink = WebhookSink(url=URL, reading=AnswerReader(paths=ItemPaths(items="r", ok="ok")))
    assert len(sink.interpret(Answer(200, body=b'{"r":[{"ok":false}]}'), EVENTS[:1]).items) == 1


# --- URLs that are secrets ---


@each(
    ("url", "secret_url", "shown"),
    [
        (URL, False, URL),
        (URL, True, "https://hooks.example.com/***"),
        (SECRET, False, "https://api.mypurecloud.de/***"),
        ("https://u:CANARY@h:8443/services/CANARY?x=CANARY", True, "https://h:8443/***"),
        ("https://u:CANARY@h:8443/in?x=CANARY", False, "https://***@h:8443/in?***"),
        ("https://[::1]:8443/webhooks/CANARY", False, "https://[::1]:8443/***"),
    ],
)
def test_a_url_is_shown_without_what_is_secret_in_it(url: str, secret_url: bool, shown: str) -> None:
    sink = WebhookSink(url=url, secret_url=secret_url)
    assert (sink.url, sink.shown_url) == (url, shown)
    assert "CANARY" not in sink.shown_url


@each("status", [200, 302, 400, 404, 500])
@each(
    ("url", "secret_url"),
    [(SECRET, False), ("https://h/services/T0/CANARY1234567", True), ("https://h/in?k=CANARY1234", False)],
)
def test_an_answer_that_quotes_the_url_does_not_give_it_away(url: str, secret_url: bool, status: int) -> None:
    target = url.partition("//")[2].partition("/")[2]
    body = f"<h1>Cannot POST /{target}</h1> token {url[-20:]} {url}".encode()
    answer = Answer(status, body=body, headers={"location": "/" + target, "x": "y"}, error=url)
    detail = WebhookSink(url=url, secret_url=secret_url).interpret(answer, EVENTS[:1]).detail
    assert "CANARY" not in detail
    assert "***" in detail


def test_an_answer_that_quotes_the_url_still_names_its_events() -> None:
    sink = WebhookSink(url="https://h/interaction/events/CANARY1234", secret_url=True, body="array")
    body = b'{"errors":[{"id":"b","message":"no interaction at CANARY1234"}]}'
    (item,) = sink.interpret(Answer(200, body=body), EVENTS).items
    assert (item.index, item.message) == (1, "no interaction at ***")
