import base64
import json
import time
from pathlib import Path
from typing import Any

from hypothesis import given, settings

from ingestd.schemas import attributes
from ingestd.schemas.cloudevent import CloudEventSchema
from ingestd.schemas.key_paths import KeyPaths
from tests.each import each
from tests.effort import examples
from tests.machine import patience
from tests.unit.schemas.broken_events import HOSTILE, SPLICES, broken_by_byte, broken_by_field, encode

VECTORS = [
    json.loads(line) for line in Path(__file__).with_name("cloudevents.jsonl").read_text().splitlines()
]
VALID: dict[str, Any] = {
    "specversion": "1.0",
    "id": "int-001",
    "source": "/contact-center/eu",
    "type": "com.example.answered",
    "time": "2026-01-01T10:00:00.123Z",
    "datacontenttype": "application/json",
    "dataschema": "https://example.com/schema.json",
    "subject": "queue-1",
    "partitionkey": "a",
    "data": {"n": 1, "deep": [{"id": None}]},
}
KEY = "/contact-center/eu\0int-001"
SCHEMA = CloudEventSchema()
DEFAULT = KeyPaths(SCHEMA.default_key)


def changed(**fields: Any) -> bytes:
    return encode({**VALID, **fields})


def spliced(field: str, text: bytes) -> bytes:
    return encode({**VALID, field: "@"}).replace(b'"@"', text)


def bytes_of(vector: dict[str, Any]) -> bytes:
    return (
        base64.b64decode(vector["event_b64"])
        if "event_b64" in vector
        else json.dumps(vector["event"]).encode()
    )


def assert_included(event: bytes) -> None:
    """Whatever the compiled pass accepts, the model accepts, and the key is the one the paths give."""
    [key] = SCHEMA.keys([event])
    if key is not None:
        assert SCHEMA.explain(event) is None
        assert DEFAULT.of(event) == key


@each("vector", VECTORS, ids=lambda vector: f"{vector['rule']} {vector['case']}")
def test_vectors(vector: dict[str, Any]) -> None:
    event = bytes_of(vector)
    refusal = SCHEMA.explain(event)
    assert (refusal is None) == vector["valid"], refusal
    if not vector["valid"]:
        assert SCHEMA.keys([event]) == [None]
    elif "event" in vector:
        assert_included(event)
        assert_included(encode(vector["event"], spaced=False, ascii_only=False))


@each("spaced", [True, False])
def test_the_compiled_pass_accepts_plain_events_and_gives_their_key(spaced: bool) -> None:
    assert SCHEMA.keys([encode(VALID, spaced=spaced)]) == [KEY]
    assert SCHEMA.keys([encode({**VALID, "data": "é"}, spaced=spaced, ascii_only=False)]) == [KEY]


def test_it_leaves_what_is_not_plain_to_the_full_check() -> None:
    events = [changed(ext=5), changed(ext=None), changed(subject="é"), b" " + changed()]
    assert SCHEMA.keys(events) == [None] * 4
    assert [SCHEMA.explain(event) for event in events] == [None] * 4


@each(
    ("event", "field", "words"),
    [
        (
            changed(source="a b"),
            "source",
            "expected a URI reference (RFC 3986) that is not empty, found 'a b'",
        ),
        (changed(ext=1.5), "ext", "expected a string, a boolean or an integer of 32 bits, found 1.5"),
        (changed(Foo="x"), "", "attribute names are a-z and 0-9 only, not 'Foo'"),
        (changed()[:-1] + b', "id": "2"}', "id", "expected once, found more often"),
        (changed(data_base64="YQ=="), "", "data and data_base64 exclude each other"),
    ],
)
def test_refusals_name_the_field(event: bytes, field: str, words: str) -> None:
    refusal = SCHEMA.explain(event)
    assert refusal is not None
    assert refusal.errors == [(field, words)]


@given(broken_by_field(valid=VALID))
@settings(max_examples=examples(100))
def test_inclusion_with_broken_fields(event: bytes) -> None:
    assert_included(event)


@given(broken_by_byte(valid=VALID))
@settings(max_examples=examples(100))
def test_inclusion_with_broken_bytes(event: bytes) -> None:
    assert_included(event)


@each("field", [*VALID, "ext", "data_base64", "Foo"])
def test_inclusion_with_hostile_values(field: str) -> None:
    for splice in SPLICES:
        assert_included(spliced(field, splice))
        assert_included(spliced("data", b'{"a":[' + splice + b"]}"))
        assert_included(spliced("ext", b"7").replace(b'"ext": 7', b'"' + field.encode() + b'": ' + splice))


@each("event", HOSTILE, ids=lambda event: repr(event[:12]))
def test_hostile_bytes_are_answered(event: bytes) -> None:
    assert SCHEMA.keys([event]) == [None]
    assert SCHEMA.explain(event) is not None
    assert DEFAULT.of(event) is None


def test_the_shapes_that_are_remembered_are_bounded() -> None:
    schema = CloudEventSchema()
    for number in range(3 * attributes._MAX_SHAPES):
        assert schema.keys([changed(**{f"x{number}": "y"})]) == [KEY]
    assert schema.keys([changed(**{f"x{number}": "y" for number in range(500)})]) == [None]
    assert len(schema._plain._shapes) <= attributes._MAX_SHAPES


@each(
    "fields",
    [
        {"source": "%41" * 100_000 + "%"},
        {"source": "a" * 300_000 + "["},
        {"source": "//" + "@" * 300_000 + "["},
        {"source": "//" + ":" * 300_000 + " "},
        {"dataschema": "a:" + "/" * 300_000 + "\\"},
        {"datacontenttype": "a/b" + "; a=b" * 60_000 + ";"},
        {"datacontenttype": "a/b" + " \t" * 150_000 + "x"},
        {"datacontenttype": 'a/b;c="' + "\\\\" * 150_000},
    ],
    ids=lambda fields: str(fields)[:24],
)
def test_hostile_values_cost_linear_time(fields: dict[str, str]) -> None:
    before = time.process_time()
    assert SCHEMA.explain(changed(**fields)) is not None
    assert time.process_time() - before < patience(0.5)
