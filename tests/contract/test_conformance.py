"""What the real software of the field was found to do otherwise, and the answer that was decided to be right.

Held against event-ruler 2.1.0, the CloudEvents SDKs for Go, Java, JavaScript and Python, PyPI's and npm's
``standardwebhooks`` and ``svix``, JSONTestSuite and jsonschema-rs. Each row is one case as it was found.
"""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from ingestd.config import load
from ingestd.control.subscription.filter_policy import parse_policy
from ingestd.core.errors import UserError
from ingestd.processing.routes import compile as compile_routes
from ingestd.schemas.load import load as load_schema
from ingestd.sinks.cloudevents import CloudEventsSink
from ingestd.sinks.webhook import WebhookSink
from ingestd.transport.webhook_secret import decode_secret
from tests.each import each
from tests.integration.sources.files.test_jsonl import ROWS
from tests.integration.sources.files.test_packing import FRAME, read, skippable
from tests.integration.sources.http.support import Scene, content

# --- patterns: as JSON text, an event, and whether it matches; or words of the refusal ---

PATTERNS: list[tuple[str, str, str, bool | str]] = [
    (
        "explained without a traceback",
        '{"b": {"c": [1], "$or": [{"d": [2]}, {"a": [{"exists": false}]}]}}',
        '{"b": [{"c": 1}, {"a": 5}]}',
        True,
    ),
    (
        "nested deeper",
        '{"b": {"b": {"b": {"a": ["A"]}, "$or": [{"x y": [1]}, {"a": [{"exists": false}]}]}}}',
        '{"b": [{"b": {"b": {"a": "A"}}}, {"b": {"a": 1}}]}',
        True,
    ),
    (
        "absence in a branch of two",
        '{"legs": {"state": ["open"], "$or": [{"end": [{"exists": false}]},'
        ' {"end": [{"anything-but": "done"}], "late": [true]}]}}',
        '{"legs": [{"state": "open"}, {"state": "closed", "end": "done"}]}',
        True,
    ),
    (
        "arrays within arrays",
        '{"e": {"a": [1], "$or": [{"b": [{"exists": false}], "d": [{"exists": false}]}, {"c": [2]}]}}',
        '{"e": [[{"a": 1}], {"b": 0}]}',
        True,
    ),
    ("milliseconds since 1970", '{"t": [{"numeric": [">", 0]}]}', '{"t":1764300000000}', True),
    ("negative", '{"t": [{"numeric": ["<", 0]}]}', '{"t":-6000000000}', True),
    ("8 GiB in bytes", '{"size": [{"numeric": [">", 1048576]}]}', '{"size":8589934592}', True),
    ("an account number", '{"id": [{"anything-but": 123456789012}]}', '{"id":5}', True),
    ("two objects of one name", '{"a":{"b":[1]},"a":{"c":[2]}}', '{"a": {"c": 2}}', "'a' stands twice"),
    (
        "an operator twice",
        '{"a":[{"prefix":"a","prefix":"b"}]}',
        '{"a": "b"}',
        "'prefix' stands twice",
    ),
    (
        "below the top",
        '{"x":{"y":{"z":[1]},"y":{"w":[2]}}}',
        '{"x": {"y": {"w": 2}}}',
        "'y' stands twice",
    ),
    (
        "an absence is looked for in the same element, whatever the names",
        '{"a": {"b": {"c": [{"exists": false}], "d": [1]}}}',
        '{"a": {"b": [{"d": 1}, {"c": 1}]}}',
        True,
    ),
    (
        "also on the way",
        '{"e": {"a": [{"exists": false}], "b": {"c": [1]}}}',
        '{"e": [{"b": {"c": 1}}, {"a": 0}]}',
        True,
    ),
    ("host bits", '{"ip": [{"cidr": "10.1.2.3/8"}]}', '{"ip": "10.9.9.9"}', "did you mean 10.0.0.0/8?"),
    ("a single address", '{"ip": [{"cidr": "10.1.2.3/32"}]}', '{"ip": "10.1.2.3"}', True),
    ("final sigma", '{"a": [{"equals-ignore-case": "ΟΔΟΣ"}]}', '{"a": "οδος"}', True),
    ("character by character", '{"a": [{"equals-ignore-case": "straße"}]}', '{"a": "STRASSE"}', False),
    ("dotless i", '{"a": [{"equals-ignore-case": "i"}]}', '{"a": "\\u0131"}', True),
    (
        "a reserved name",
        '{"$or": [{"regex": ["x"]}, {"b": [2]}]}',
        '{"regex": "x"}',
        "EventBridge keeps this name for itself",
    ),
    ("another dialect", '{"a": [{"exactly": "x"}]}', '{"a": "x"}', "EventBridge has no operator 'exactly'"),
]


@each(("case", "pattern", "event", "right"), PATTERNS, ids=[row[0] for row in PATTERNS])
def test_patterns(tmp_path: Path, case: str, pattern: str, event: str, right: bool | str) -> None:
    file = tmp_path / "ingestd.toml"
    file.write_text(f"[sinks.s]\ntype = 'webhook'\nurl = 'https://e.example'\nwhen = '{pattern}'\n")
    if isinstance(right, str):
        with pytest.raises(UserError) as told:
            compile_routes({"s": load(str(file), {}, {}).sinks["s"].when})
        assert right in str(told.value)
        return
    routes = compile_routes({"s": load(str(file), {}, {}).sinks["s"].when})
    (explained,) = routes.explain(event.encode())
    assert explained.matches is right
    assert bool(routes.route([event.encode()]).positions["s"]) is right
    assert explained.why.isprintable()


@each(("case", "pattern", "event", "right"), PATTERNS, ids=[row[0] for row in PATTERNS])
def test_filter_policies_are_refused_for_the_same_and_for_single_addresses(
    case: str, pattern: str, event: str, right: bool | str
) -> None:
    if "/32" in pattern:  # event-ruler refuses it, and it is event-ruler that decides over there
        right = '10.1.2.3/32 is a single address: write ["10.1.2.3"]'
    if isinstance(right, str):
        with pytest.raises(UserError) as told:
            parse_policy(pattern, where="filter_policy")
        assert right in str(told.value)
    else:
        assert parse_policy(pattern, where="filter_policy")


# --- CloudEvents ---

BINARY = {"ce-specversion": "1.0", "ce-id": "1", "ce-type": "t", "content-type": "application/json"}


@each(
    ("headers", "attributes"),
    [
        ({"ce-source": "https://example.com/a%20b"}, {"source": "https://example.com/a%20b"}),
        ({"ce-source": "/x", "ce-note": "日本 50%".encode().decode("latin-1")}, {"note": "日本 50%"}),
        ({"ce-source": "/x", "ce-subject": "a%41b"}, {"subject": "aAb"}),
        ({"ce-source": "urn:x:100%25", "ce-subject": "k%2Fv"}, {"source": "urn:x:100%25", "subject": "k/v"}),
    ],
)
def test_percent_signs_of_senders_that_do_not_encode(headers: Any, attributes: Any) -> None:
    scene = Scene()
    assert scene.status(b"{}", {**BINARY, **headers}) == 202
    assert attributes.items() <= json.loads(scene.desk.events[0]).items()


@each(
    ("members", "header", "value"),
    [
        ({"source": "https://example.com/a%20b"}, "ce-source", "https://example.com/a%2520b"),
        ({"type": "com.exämple.t"}, "ce-type", "com.ex%C3%A4mple.t"),
        ({"datacontenttype": "application/json"}, "Content-Type", "application/json"),
    ],
)
def test_what_goes_out_in_binary_mode(members: dict[str, str], header: str, value: str) -> None:
    event = {"specversion": "1.0", "type": "t", "source": "/x", "id": "1"} | members
    sink = CloudEventsSink(url="https://e.example", mode="binary")
    assert sink.headers("b", [json.dumps(event).encode()])[header] == value


def test_json_that_is_not_utf_8_and_half_a_surrogate_pair_are_told_as_that() -> None:
    headers = {**BINARY, "ce-source": "/x", "content-type": "application/vnd.acme+json; charset=utf-8"}
    answer = Scene().send(b'{"a":"\xff"}', headers)
    assert answer is not None
    assert (answer.status, content(answer)["detail"]) == (
        400,
        "the data is declared as JSON, but it is not UTF-8",
    )
    event = b'{"specversion":"1.0","type":"t","source":"/x","id":"1","data":"\\ud800"}'
    answer = Scene().send(event, {"content-type": "application/cloudevents+json"})
    assert answer is not None
    assert answer.status in (400, 422)
    assert b"half a surrogate pair" in answer.body
    assert b"truncated" not in answer.body


# --- JSON ---


def test_one_space_changes_no_verdict() -> None:
    schema = load_schema("cloudevent")
    digits = b"9" * 4301
    told = set()
    for space in (b"", b" "):
        event = b'{"specversion":"1.0","id":"1","source":"/x","type":"t","data":' + space + digits + b"}"
        assert schema.keys([event]) == [None]
        refusal = schema.explain(event)
        assert refusal is not None
        told.add(refusal.errors[0].message)
    assert told == {"a number has more than 4300 digits before its point"}


@each("event", [b'{"n":1e400}', b'{"n":[-1e999]}'])
def test_a_number_beyond_a_double_is_json(tmp_path: Path, event: bytes) -> None:
    (tmp_path / "any.json").write_text('{"type": "object"}')
    assert load_schema(str(tmp_path / "any.json")).explain(event) is None


@each(
    ("definition", "event"),
    [
        ({"properties": {"t": {"format": "date-time"}}}, b'{"t":"nonsense"}'),
        (
            {
                "$schema": "https://json-schema.org/draft/2020-12/schema",
                "properties": {"m": {"format": "email"}},
            },
            b'{"m":"nonsense"}',
        ),
    ],
)
def test_a_format_is_asserted(tmp_path: Path, definition: Any, event: bytes) -> None:
    (tmp_path / "s.json").write_text(json.dumps(definition))
    path = str(tmp_path / "s.json")
    assert load_schema(path).keys([event]) == [None]
    assert load_schema(path, format_assertion=False).keys([event]) == [""]


# --- archives ---


@pytest.mark.anyio
async def test_a_skippable_frame_is_passed_over_and_a_long_window_is_named(tmp_path: Path) -> None:
    """The first as pzstd writes it, the second as ``zstd --long=31``."""
    assert await read(tmp_path / "p.zst", skippable(0) + FRAME[0] + FRAME[1]) == (ROWS, "")
    header = b"\x28\xb5\x2f\xfd\x00" + bytes([(31 - 10) << 3])
    events, damage = await read(tmp_path / "long.zst", header + FRAME[0][5:])
    assert events == []
    assert "a window of 2GiB" in damage
    assert "damaged" not in damage


# --- webhooks ---


@each("prefix", ["whsec_", ""])
def test_secrets_as_four_libraries_take_them(prefix: str) -> None:
    encoded = base64.b64encode(bytes(range(32))).decode()
    assert decode_secret(prefix + encoded.rstrip("=")) == decode_secret(prefix + encoded) == bytes(range(32))


def test_lines_of_json_are_no_json_to_who_verifies_them() -> None:
    """Receivers call ``verify(…, json_parse=False)``: the page of webhooks says so."""
    sink = WebhookSink(url="https://e.example", body="ndjson")
    body = sink.encode([b'{"a":1}', b'{"a":2}'])
    assert body == b'{"a":1}\n{"a":2}\n'
    with pytest.raises(ValueError, match="Extra data"):
        json.loads(body)
    page = (Path(__file__).parents[2] / "docs/sinks/webhook.md").read_text(encoding="utf-8")
    assert "`json_parse=False`" in page
