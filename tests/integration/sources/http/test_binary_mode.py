import base64
import json
from typing import Any
from urllib.parse import quote, unquote

from hypothesis import given
from hypothesis import strategies as st

from ingestd.httpd.problem import RefusedRequest
from ingestd.schemas.attributes import ATTRIBUTES as RULES
from ingestd.sources.http.cloudevents_http import decode_value, to_structured
from tests.each import each
from tests.integration.sources.http.support import EVENT, JSON, Scene, content

ATTRIBUTES = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/s", "ce-type": "t"}
is_source = RULES["source"].is_valid
plain = st.text(st.characters(exclude_categories=["Cs"]))


def event_of(body: bytes = b"", content_type: str = "", **headers: str) -> Any:
    """The structured event that a binary one becomes; ``ce_id`` stands for the header ``ce-id``."""
    given_headers = {**ATTRIBUTES, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if content_type:
        given_headers["content-type"] = content_type
    return json.loads(to_structured(given_headers, frozenset(), body))


def status_of(headers: dict[str, str], body: bytes = b"", *, repeated: frozenset[str] = frozenset()) -> int:
    return Scene().status(body, headers, repeated=repeated)


def test_headers_become_attributes_and_the_body_its_data() -> None:
    scene = Scene()
    headers = {**ATTRIBUTES, "content-type": "application/json", "ce-ext1": "7", "traceparent": "x"}
    assert scene.status(b'{ "a": 1.50 }', headers) == 202
    (event,) = scene.desk.events
    assert event.endswith(b'"data":{ "a": 1.50 }}')
    assert json.loads(event) == {
        "specversion": "1.0",
        "id": "1",
        "source": "/s",
        "type": "t",
        "datacontenttype": "application/json",
        "ext1": "7",
        "data": {"a": 1.5},
    }


def test_without_a_body_there_is_no_data() -> None:
    event = event_of(b"", "text/plain")
    assert "data" not in event
    assert "data_base64" not in event
    assert event["datacontenttype"] == "text/plain"
    assert "datacontenttype" not in event_of(b"")


@each(
    ("content_type", "body", "member", "value"),
    [
        ("application/json", b'"text"', "data", "text"),
        ("Application/JSON; CharSet=utf-8", b"null", "data", None),
        ("model/gltf+json", b"[1]", "data", [1]),
        ("text/json", b"\xef\xbb\xbf1", "data", 1),
        ("application/json; charset=utf-16", b"\xff\xfe1\x00", "data_base64", "//4xAA=="),
        ("", b"{}", "data", {}),
        ("", b"\x00\x01", "data_base64", "AAE="),
        ("", b"\xff", "data_base64", "/w=="),
        ("text/plain", b"{}", "data", "{}"),
        ("text/plain", "h\xe4\n\x00".encode(), "data", "h\xe4\n\x00"),
        ("text/plain; charset=us-ascii", b"a", "data", "a"),
        ("text/plain; charset=us-ascii", b"\xc3\xa4", "data_base64", "w6Q="),
        ("text/plain; charset=latin1", b"\xe4", "data_base64", "5A=="),
        ("text/plain", b"\xe4", "data_base64", "5A=="),
        ("application/xml", b"<a/>", "data", "<a/>"),
        ("application/soap+xml", b"<a/>", "data", "<a/>"),
        ("application/toml; charset=utf-8", b"a=1", "data", "a=1"),
        ("application/octet-stream", b"abc", "data_base64", "YWJj"),
        ("text/html", b"<p>", "data", "<p>"),
    ],
)
def test_data_is_kept_by_its_declared_type(content_type: str, body: bytes, member: str, value: Any) -> None:
    event = event_of(body, content_type)
    assert event[member] == value
    assert {"data", "data_base64"} & event.keys() == {member}
    assert event.get("datacontenttype", "") == content_type


@given(st.binary(min_size=1), st.sampled_from(["", "text/plain", "image/png", "text/a; charset=utf-16"]))
def test_no_byte_of_the_data_is_lost(body: bytes, content_type: str) -> None:
    event = event_of(body, content_type)
    if "data_base64" in event:
        assert base64.b64decode(event["data_base64"], validate=True) == body
    elif content_type:
        assert event["data"].encode() == body
    else:
        assert event["data"] == json.loads(body.removeprefix(b"\xef\xbb\xbf"))


@each("body", [b"{", b"NaN", b"", b" ", b"1 2", b'"\xff"', b'"\\ud800"', b"[" * 100_000])
def test_data_declared_as_json_must_be_json(body: bytes) -> None:
    assert status_of({**ATTRIBUTES, **JSON}, body) == (400 if body else 202)


def test_data_counts_as_one_level_of_nesting_more() -> None:
    for depth, status in ((63, 202), (64, 422)):
        assert status_of({**ATTRIBUTES, **JSON}, b"[" * depth + b"]" * depth) == status


@given(plain, st.sampled_from(["", "aZ09-"]))
def test_what_was_percent_encoded_comes_back(text: str, kept: str) -> None:
    assert decode_value(quote(text, safe=kept)) == text
    assert decode_value(quote(text, safe=kept).replace("%C3", "%c3")) == text
    assert decode_value("".join(f"%{byte:02x}" for byte in text.encode())) == text


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="%")))
def test_quoting_is_undone(text: str) -> None:
    quoted = '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    assert decode_value(quoted.encode().decode("latin-1")) == text


@given(st.text(st.characters(max_codepoint=255)))
def test_a_value_is_text_or_refused(value: str) -> None:
    try:
        text = decode_value(value)
    except RefusedRequest as refused:
        text = ""
        assert b'"status":400' in refused.response.body  # noqa: PT017 - nothing else may be raised
    text.encode()


@each(
    ("value", "text"),
    [
        ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
        ("%e2%82%ac", "€"),
        ("%41", "A"),
        ("%2541", "%41"),
        ('"a b\\"c"', 'a b"c'),
        ('"%2541"', "%41"),
        ('""', ""),
        ('a"b', 'a"b'),
        ("a+b", "a+b"),
        ("%22a%22", '"a"'),
        ("\xe2\x82\xac", "€"),
        ("50% off", "50% off"),
        ("100%", "100%"),
        ("%", "%"),
        ("%4", "%4"),
        ("%zz", "%zz"),
        ("% 41", "% 41"),
        ("%%41", "%A"),
        ("a%20b 5%", "a b 5%"),
        ('"50% off"', "50% off"),
        ("æ\x97¥æ\x9c¬ 50%", "日本 50%"),
        ("%E6%97%A5 50%", "日 50%"),
    ],
)
def test_values_are_unquoted_first_and_decoded_once(value: str, text: str) -> None:
    assert decode_value(value) == text
    assert event_of(ce_subject=value)["subject"] == text


@each(
    "value",
    ["%C0%A0", "%ED%A0%80", "\xff", "%E2%82", "%E9", '"', '"a', '"a"b', '"a\\"'],
)
def test_values_that_cannot_be_decoded_are_refused(value: str) -> None:
    assert status_of({**ATTRIBUTES, "ce-subject": value}) == 400


@each(
    ("value", "taken"),
    [
        ("https://example.com/a%20b", "https://example.com/a%20b"),
        ("https://example.com/a%2520b", "https://example.com/a%20b"),
        ("urn:x:100%25", "urn:x:100%25"),
        ("/caf%C3%A9", "/caf%C3%A9"),
        ("/caf%E9", "/caf%E9"),
        ("/a%00b", "/a%00b"),
        ("/x?q=%22a%22", "/x?q=%22a%22"),
        ('"/a%20b"', "/a%20b"),
        ("/a%41b", "/aAb"),
        ("/k%2Fv", "/k/v"),
        ("%2Fs", "/s"),
    ],
)
def test_a_uri_that_is_none_after_decoding_counts_as_it_came(value: str, taken: str) -> None:
    scene = Scene()
    assert scene.status(b"{}", {**ATTRIBUTES, **JSON, "ce-source": value}) == 202
    assert json.loads(scene.desk.events[0])["source"] == taken
    schema = "https://example.com/s%20t.json"
    assert event_of(ce_source=value, ce_dataschema=schema) == {
        **event_of(),
        "source": taken,
        "dataschema": schema,
    }


@each("value", ["/a b%20c", "/100%", "/a%2", "/\xe9", "", "/caf\xc3\xa9%20"])
def test_a_uri_that_is_none_either_way_is_refused(value: str) -> None:
    assert status_of({**ATTRIBUTES, "ce-source": value}) in (400, 422)


@given(st.text("ab/%204:?é\x00", max_size=8))
def test_a_source_that_is_one_is_one_afterwards(text: str) -> None:
    raw = "/" + text
    try:
        source = event_of(ce_source=raw.encode().decode("latin-1"))["source"]
    except RefusedRequest:
        source = ""
    if is_source(raw):
        assert is_source(source)
        assert source in (raw, unquote(raw))


def test_latin_1_and_wrong_percent_encodings_are_told_apart() -> None:
    def told(value: str) -> str:
        answer = Scene().send(b"", {**ATTRIBUTES, "ce-subject": value})
        assert answer is not None
        assert answer.status == 400
        return str(content(answer)["detail"])

    assert "ce-subject: its bytes are not UTF-8 (Latin-1, as Node.js sends it?): percent-encode" in told(
        "h\xe9llo"
    )
    assert told("caf%E9") == "ce-subject: the bytes that it percent-encodes are not UTF-8"


@each("type_", ["application/json", "application/vnd.acme+json", "text/json"])
@each("charset", ["", "; charset=utf-8", '; charset="UTF-8"', "; charset=utf8", "; charset=us-ascii"])
def test_data_declared_as_json_that_is_not_utf_8_is_refused(type_: str, charset: str) -> None:
    headers = {**ATTRIBUTES, "content-type": type_ + charset}
    answer = Scene().send(b'{"a":"\xff"}', headers)
    assert answer is not None
    assert answer.status == 400
    assert "the data is declared as JSON, but it is not " in content(answer)["detail"]
    assert status_of(headers, b'{"a":"x"}') == 202


@each("name", ["ce-", "ce-data", "ce-data_base64", "ce-a_b", "ce-a.b", "ce-datacontenttype", "ce-a-b"])
def test_names_that_are_no_attributes_are_refused(name: str) -> None:
    assert status_of({**ATTRIBUTES, name: "x"}) == 400


def test_an_attribute_that_came_twice_is_refused() -> None:
    headers = {**ATTRIBUTES, "ce-id": "1, 1", "accept": "a, b"}
    assert status_of(headers, repeated=frozenset({"ce-id"})) == 400
    assert status_of(headers, repeated=frozenset({"accept"})) == 202


def test_what_lacks_an_attribute_is_the_business_of_the_schema() -> None:
    scene = Scene()
    answer = scene.send(b"", {"ce-id": "1"})
    assert answer is not None
    assert answer.status == 422
    fields = {error["field"] for error in content(answer)["rejected"][0]["errors"]}
    assert fields == {"specversion", "source", "type"}


def test_the_media_type_decides_the_mode_before_the_headers_do() -> None:
    scene = Scene()
    headers = {**ATTRIBUTES, "ce-id": "other", "content-type": "application/CloudEvents+JSON"}
    assert scene.status(EVENT, headers) == 202
    assert scene.desk.events == [EVENT]
    assert status_of({**ATTRIBUTES, "content-type": "application/cloudevents+avro"}, b"x") == 415
    assert status_of({**ATTRIBUTES, "content-type": "application/cloudevents-batch+json"}, b"[]") == 202


def test_thirty_extensions_come_through_and_hostile_text_stays_text() -> None:
    extensions = {f"ce-x{i}": f"v{i}" for i in range(30)}
    event = event_of(b"", "", **extensions)
    assert all(event[name[3:]] == value for name, value in extensions.items())
    hostile = '","id":"2'
    assert event_of(ce_subject=quote(hostile)) == {**event_of(), "subject": hostile}
    assert event_of(b"x", 'text/plain; a=","id":"2"')["id"] == "1"
