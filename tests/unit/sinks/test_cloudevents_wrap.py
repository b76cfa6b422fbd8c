"""Ordinary JSON that becomes a CloudEvent."""

import json
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.schemas.load import load
from ingestd.sinks.cloudevents import CloudEventsSink
from ingestd.sinks.cloudevents_formats import Wrapping
from ingestd.sinks.sink import Unencodable
from tests.each import each

URL = "https://user:pa55@h/api/v2/eventbridge/events?key=CANARY"
EVENT = b'{ "specversion":"1.0", "id":"e-1","source":"/shop","type":"order.created","data":{"amount":150.00}}'
ORDER = (
    b'{"kind":"order.created","no":17,"at":"2024-05-15T10:30:00.000Z",'
    b'"amount":150.00,"meta":{"who":"a\\u00e9"}}'
)
WRAP = Wrapping(type="$.kind", source="/shop", id="$.no", time="$.at", subject="$.meta.who", data="$")


def unfit(sink: CloudEventsSink, *events: bytes) -> dict[int, str]:
    with pytest.raises(Unencodable) as error:
        sink.encode(events)
    return dict(error.value.events)


def test_ordinary_json_becomes_a_cloudevent_and_its_data_keeps_its_spelling() -> None:
    wrapped = CloudEventsSink(url=URL, wrap=WRAP).encode([ORDER])
    assert wrapped == (
        b'{"specversion":"1.0","id":"17","source":"/shop","type":"order.created",'
        b'"time":"2024-05-15T10:30:00.000Z","subject":"a\\u00e9",'
        b'"datacontenttype":"application/json","data":' + ORDER + b"}"
    )


@each(
    ("kind", "data", "number"),
    [
        ("$.meta.kind", "$.rows[0]", "$.no"),
        ("$['meta']['kind']", "/rows/0", "/no"),
        ('$["meta"].kind', ".rows.0", ".no"),
        ("$.meta['kind']", "$['rows'][0]", "['no']"),
    ],
)
def test_paths_are_written_in_any_notation(kind: str, data: str, number: str) -> None:
    paths = {"type": kind, "id": number, "data": data, "time": "$['at']", "subject": "$['x.y']"}
    wrapping = Wrapping(source="/constant", **paths)
    event = json.loads(
        wrapping(b'{"meta":{"kind":"k"},"rows":[{"a":1.50}],"no":7,"at":"2026-01-01T10:00:00Z","x.y":"s"}')
    )
    assert (event["type"], event["source"], event["id"], event["data"]) == ("k", "/constant", "7", {"a": 1.5})
    assert (event["time"], event["subject"]) == ("2026-01-01T10:00:00Z", "s")


def test_data_can_be_cut_out_of_the_event() -> None:
    whole = b'{"k":[{"p": {"x" : 1.10, "y":"\\u0041"} }],"a.b":{"t":"kind"}}'
    wrapped = Wrapping(type="$.a\\.b.t", source="s", data="$.k.0.p")(whole)
    assert wrapped.endswith(
        b',"type":"kind","datacontenttype":"application/json","data":{"x" : 1.10, "y":"\\u0041"}}'
    )


def test_without_an_id_copies_of_an_event_share_the_one_made_from_its_bytes() -> None:
    wrap = Wrapping(type="t", source="s")
    ids = [msgspec.json.decode(wrap(body))["id"] for body in (ORDER, bytes(bytearray(ORDER)), ORDER + b" ")]
    assert ids[0] == ids[1] != ids[2]
    assert uuid.UUID(ids[0])


@each("left_out", [b"{}", b'{"s":null}', b'{"s":""}'])
def test_a_subject_that_is_not_there_is_left_out(left_out: bytes) -> None:
    assert b"subject" not in Wrapping(type="t", source="s", subject="$.s")(left_out)


@each(
    ("settings", "words"),
    [
        ({"type": "$.nix"}, "type: nothing at $.nix"),
        ({"type": "$.null"}, "type: nothing at $.null"),
        ({"type": "$.n"}, "type: expected a string, at $.n"),
        ({"type": "$.empty"}, "type: expected a text that is not empty"),
        ({"type": "$.control"}, "type: expected no control characters"),
        ({"type": "$.long"}, "type: expected at most 4000 characters"),
        ({"source": "$.space"}, "source: expected a URI reference"),
        ({"source": "$.n"}, "source: expected a string"),
        ({"id": "$.list"}, "id: expected a string"),
        ({"id": "$.float"}, "id: expected a string"),
        ({"id": "$.list.1"}, "id: nothing at $.list.1"),
        ({"id": "$.list.x"}, "id: nothing at"),
        ({"id": "$.n.x"}, "id: nothing at"),
        ({"time": "$.n"}, "time: expected a string"),
        ({"time": "$.day"}, "time: expected an RFC 3339 time"),
        ({"time": "$.nix"}, "time: nothing at $.nix"),
        ({"subject": "$.list"}, "subject: expected a string"),
        ({"data": "$.nix"}, "data: nothing at $.nix"),
    ],
)
def test_an_event_that_lacks_a_field_does_not_fit_and_the_field_is_named(
    settings: dict[str, str], words: str
) -> None:
    body: dict[str, Any] = {
        "n": 5,
        "null": None,
        "empty": "",
        "control": "a\r\nb",
        "space": "a b",
        "list": [[]],
    }
    body |= {"float": 1.5, "day": "2024-05-15", "long": "x" * 4001}
    sink = CloudEventsSink(url=URL, wrap=Wrapping(**({"type": "t", "source": "s"} | settings)))
    assert words in unfit(sink, json.dumps(body).encode())[0]


def test_all_that_do_not_fit_are_named_at_once_and_have_no_size() -> None:
    sink = CloudEventsSink(url=URL, mode="batch", wrap=Wrapping(type="$.kind", source="s"))
    events = [b"{}", ORDER, b'{"kind":1}', b"nonsense", b"[" * 100_000, b'"\xff"']
    assert sorted(unfit(sink, *events)) == [0, 2, 3, 4, 5]
    assert [size > 0 for size in sink.sizes(events) or ()] == [False, True, False, False, False, False]


@each("one", [b'"\xff"', b'{"a":"\xff"}', b"nonsense", b"{", b"", b"[" * 100_000, b'{"a":NaN}'])
def test_what_is_not_json_is_not_wrapped_even_where_nothing_is_read_from_it(one: bytes) -> None:
    assert "it is not" in unfit(CloudEventsSink(url=URL, wrap=Wrapping(type="t", source="s")), one)[0]


@each(
    "settings",
    [
        {"type": "", "source": "s"},
        {"type": "t", "source": ""},
        {"type": "t", "source": "no uri"},
        {"type": "a\nb", "source": "s"},
        {"type": "$.", "source": "s"},
        {"type": "$.a..b", "source": "s"},
        {"type": "$" + ".a" * 17, "source": "s"},
        {"type": "t", "source": "s", "id": "constant"},
        {"type": "t", "source": "s", "time": "2024-05-15T10:30:00Z"},
        {"type": "t", "source": "s", "data": ""},
        {"type": "t", "source": "s", "data": "payload"},
    ],
)
def test_settings_that_make_no_sense_are_told(settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=r"wrap\.|is not a path|at most 16"):
        Wrapping(**settings)


def test_an_event_that_is_a_cloudevent_is_wrapped_like_any_other() -> None:
    wrapped = msgspec.json.decode(Wrapping(type="t", source="s")(EVENT))
    assert (wrapped["type"], wrapped["data"]) == ("t", msgspec.json.decode(EVENT))


def test_a_wrapped_event_can_be_sent_in_binary_mode() -> None:
    sink = CloudEventsSink(url=URL, mode="binary", wrap=WRAP)
    assert sink.encode([ORDER]) == ORDER
    assert sink.sizes([ORDER]) == [len(ORDER)]
    assert sink.headers("b", [ORDER])["ce-subject"] == "a%C3%A9"


TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)

JSON = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


ORDINARY = st.fixed_dictionaries(
    {"kind": TEXT, "x": st.sampled_from(["/s", "urn:x:y", "%C3", "a b"]), "no": st.integers() | TEXT},
    optional={"meta": TEXT | JSON, "more": JSON},
)


@given(ORDINARY, st.sampled_from([None, 0, 2]))
def test_whatever_is_wrapped_is_a_valid_cloudevent_or_does_not_fit(
    body: dict[str, Any], indent: int | None
) -> None:
    raw = json.dumps(body, indent=indent).encode()
    sink = CloudEventsSink(
        url=URL, wrap=Wrapping(type="$.kind", source="$.x", id="$.no", subject="$.meta", data="$")
    )
    try:
        wrapped = sink.encode([raw])
    except Unencodable:
        assert sink.sizes([raw]) == [0]
        return
    assert load("cloudevent").explain(wrapped) is None
    assert msgspec.json.decode(wrapped)["data"] == msgspec.json.decode(raw)
    assert sink.sizes([raw]) == [len(wrapped)]
