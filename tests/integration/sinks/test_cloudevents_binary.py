"""CloudEvents in binary mode: nothing can be injected, and a receiver gets everything back."""

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.answer import Answer
from ingestd.core.verdict import Meaning
from ingestd.sinks.cloudevents import CloudEventsSink
from ingestd.sinks.cloudevents_formats import MAX_HEADERS_BYTES, split
from ingestd.sinks.sink import Unencodable
from ingestd.sources.http.cloudevents_http import to_structured
from ingestd.transport.client import Client
from tests.each import each
from tests.receiver import Receiver

URL = "https://user:pa55@h/api/v2/eventbridge/events?key=CANARY"
STRUCTURED = CloudEventsSink(url=URL)
BINARY = CloudEventsSink(url=URL, mode="binary")


def event(**members: Any) -> bytes:
    """With what a CloudEvent must have; ... leaves a member out."""
    whole = {"specversion": "1.0", "id": "e", "source": "/s", "type": "t"} | members
    return json.dumps({name: value for name, value in whole.items() if value is not ...}).encode()


def unfit(sink: CloudEventsSink, *events: bytes) -> dict[int, str]:
    with pytest.raises(Unencodable) as error:
        sink.encode(events)
    return dict(error.value.events)


def test_in_binary_mode_attributes_are_headers_and_data_is_the_body() -> None:
    one = event(subject='Euro € 😀 "%', x=True, y=-5, z=None, data={"a": 1.50})
    assert BINARY.encode([one]) == b'{"a": 1.5}'
    headers = BINARY.headers("b-1", [one])
    assert headers.pop("Idempotency-Key") == STRUCTURED.headers("b-1", [one])["Idempotency-Key"]
    assert headers == {
        "X-Request-Id": "b-1",
        "Content-Type": "application/json",
        "ce-specversion": "1.0",
        "ce-id": "e",
        "ce-source": "/s",
        "ce-type": "t",
        "ce-subject": "Euro%20%E2%82%AC%20%F0%9F%98%80%20%22%25",
        "ce-x": "true",
        "ce-y": "-5",
    }


@each(
    ("members", "content_type", "body"),
    [
        ({}, None, b""),
        ({"datacontenttype": "text/plain"}, "text/plain", b""),
        ({"datacontenttype": "application/json"}, "application/json", b""),
        ({"datacontenttype": "application/json", "data_base64": None}, "application/json", b""),
        ({"datacontenttype": None}, None, b""),
        ({"data": None}, "application/json", b"null"),
        ({"data": "x"}, "application/json", b'"x"'),
        ({"data": [1], "datacontenttype": "model/gltf+json; x=1"}, "model/gltf+json; x=1", b"[1]"),
        ({"data": "<é>", "datacontenttype": "text/xml"}, "text/xml", "<é>".encode()),
        (
            {"data": "é", "datacontenttype": "text/x; charset=ISO-8859-1"},
            "text/x; charset=ISO-8859-1",
            b"\xe9",
        ),
        ({"data_base64": "AP8="}, None, b"\0\xff"),
        ({"data_base64": "AP8=", "datacontenttype": "image/png"}, "image/png", b"\0\xff"),
        ({"data_base64": None, "data": 1}, "application/json", b"1"),
    ],
)
def test_the_body_is_the_data_in_its_own_type(members: Any, content_type: str | None, body: bytes) -> None:
    one = event(**members)
    assert BINARY.encode([one]) == body
    assert BINARY.headers("b", [one]).get("Content-Type") == content_type
    assert len(body) <= len(one)


@each(
    ("members", "words"),
    [
        ({"id": ...}, "id is missing"),
        ({"type": None}, "type is missing"),
        ({"source": ""}, "source is missing"),
        ({"Bad": "x"}, "names are a-z and 0-9"),
        ({"x\r\ny": "x"}, "names are a-z and 0-9"),
        ({"x": 1.5}, "x: expected a string, a boolean or an integer"),
        ({"x": {"a": 1}}, "x: expected"),
        ({"x": ["a"]}, "x: expected"),
        ({"data": 1, "data_base64": "AA=="}, "exclude each other"),
        ({"data_base64": "@@@@"}, "expected base64"),
        ({"data_base64": "é"}, "expected base64"),
        ({"data_base64": 5}, "data_base64: expected a string"),
        ({"datacontenttype": ["a/b"], "data": 1}, "datacontenttype: expected"),
        ({"datacontenttype": "a/b\r\nX-Evil: 1", "data": "x"}, "datacontenttype: expected a media type"),
        ({"datacontenttype": 'a/b; c="\u00e9"', "data": "x"}, "datacontenttype: expected a media type"),
        ({"datacontenttype": "text/plain", "data": {"a": 1}}, "data: expected a string"),
        ({"datacontenttype": "text/plain; charset=ebcdic", "data": "x"}, "charset"),
        ({"datacontenttype": "text/plain; charset=us-ascii", "data": "é"}, "charset"),
        ({"subject": "é" * MAX_HEADERS_BYTES}, "too long for headers"),
        ({f"x{n}": "1" for n in range(100)}, "too long for headers"),
    ],
)
def test_what_has_no_place_in_headers_does_not_fit(members: Any, words: str) -> None:
    assert words in unfit(BINARY, event(**members))[0]


@each("one", [b"", b"[]", b"5", b"{", b"[" * 100_000, b'{"x":' * 50_000, b"\xff"])
def test_what_is_no_object_does_not_fit(one: bytes) -> None:
    assert "no CloudEvent" in unfit(BINARY, one)[0]


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(
    st.dictionaries(st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True), TEXT, max_size=5),
    st.fixed_dictionaries({}, optional={"data": st.integers() | TEXT | st.lists(TEXT, max_size=2)}),
)
def test_a_receiver_gets_every_attribute_back_and_no_header_is_injected(
    extensions: dict[str, str], data: dict[str, Any]
) -> None:
    for name in ("data", "datacontenttype", "specversion"):
        extensions.pop(name, None)
    one = event(**extensions, **data)
    headers, body = split(one)
    assert all(value.isascii() and value.isprintable() and " " not in value for value in headers.values())
    received = {name.lower(): value for name, value in headers.items()}
    expected = msgspec.json.decode(one) | ({"datacontenttype": "application/json"} if data else {})
    assert msgspec.json.decode(to_structured(received, frozenset(), body)) == expected


@given(st.binary(min_size=1, max_size=40))
def test_a_receiver_gets_binary_data_back(data: bytes) -> None:
    one = event(data_base64=base64.b64encode(data).decode(), datacontenttype="application/x-any")
    headers, body = split(one)
    received = {name.lower(): value for name, value in headers.items()}
    assert msgspec.json.decode(to_structured(received, frozenset(), body)) == msgspec.json.decode(one)


@pytest.mark.anyio
@each("members", [{}, {"data": {"a": 1}, "subject": "a\r\nX-Evil: 1"}, {"data_base64": "AP8=", "x": "é €"}])
async def test_over_a_real_connection_a_receiver_gets_the_same_event(members: dict[str, str]) -> None:
    one = event(**members)
    async with Receiver() as receiver, Client() as client:
        await client.post(receiver.url, BINARY.encode([one]), BINARY.headers("b", [one]))
    (request,) = receiver.requests
    assert "x-evil" not in request.headers
    received = msgspec.json.decode(to_structured(request.headers, frozenset(), request.body))
    received.pop("datacontenttype", None)
    assert received == msgspec.json.decode(one)


def test_one_event_whose_headers_are_too_large_does_not_stop_the_others() -> None:
    long, short = event(subject="s" * 3_000), event()
    assert BINARY.interpret(Answer(431), [long]).meaning is Meaning.PERMANENT
    assert BINARY.interpret(Answer(431), [short]).meaning is Meaning.PAUSED
    assert STRUCTURED.interpret(Answer(431), [long]).meaning is Meaning.PAUSED
