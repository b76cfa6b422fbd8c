import json
import time
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.errors import UserError
from ingestd.core.reasons import Reason
from ingestd.schemas.json_schema import MAX_FILE_BYTES, JsonSchema
from ingestd.schemas.schema import MAX_ERRORS, MAX_MESSAGE
from tests.each import each
from tests.machine import patience

ORDER = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "required": ["orderId"],
    "properties": {
        "orderId": {"type": "string", "minLength": 1},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "code": {"pattern": "^(a+)+$"},
    },
    "$defs": {"line": {"type": "object", "properties": {"count": {"type": "integer"}}}},
}


def schema_of(tmp_path: Path, definition: Any) -> JsonSchema:
    path = tmp_path / "schema.json"
    path.write_text(definition if isinstance(definition, str) else json.dumps(definition))
    return JsonSchema(path)


def test_valid_events_are_accepted_without_a_key(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, ORDER)
    assert schema.default_key == ()
    events = [b'{"orderId": "1"}', b'{"orderId": 1}', b'{"orderId": "\xc3\xa9", "lines": [{"count": 2}]}']
    assert schema.keys(events) == ["", None, ""]
    assert [schema.explain(event) is None for event in events] == [True, False, True]


def test_a_refusal_names_the_field_and_shows_little_of_the_value(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, ORDER)
    refusal = schema.explain(
        json.dumps({"orderId": "x", "lines": [{"count": "personal data " * 30}]}).encode()
    )
    assert refusal is not None
    [(field, message)] = refusal.errors
    assert refusal.reason is Reason.INVALID
    assert field == "lines.0.count"
    assert message == "the value is not of type \"integer\", found 'personal data personal data personal …'"
    missing = schema.explain(b"{}")
    assert missing is not None
    assert missing.errors == [("orderId", "required, but missing")]


def test_errors_are_bounded(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, {"items": {"enum": ["x" * 500]}})
    refusal = schema.explain(json.dumps([1] * 1000).encode())
    assert refusal is not None
    assert len(refusal.errors) == MAX_ERRORS
    assert all(len(error.message) <= MAX_MESSAGE for error in refusal.errors)


@each("event", [b"", b"{", b'{"orderId": NaN}', b'{"orderId": "\xff"}', b"1" * 5_000])
def test_what_is_not_json_is_unparsable(tmp_path: Path, event: bytes) -> None:
    schema = schema_of(tmp_path, ORDER)
    assert schema.keys([event]) == [None]
    refusal = schema.explain(event)
    assert refusal is not None
    assert refusal.reason is Reason.UNPARSABLE


def test_a_schema_that_refers_to_itself_bears_deep_events(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, {"anyOf": [{"type": "number"}, {"type": "array", "items": {"$ref": "#"}}]})
    for depth in (150, 500):
        deep = b"[" * depth + b"%b" + b"]" * depth
        assert schema.keys([deep % b"1", deep % b"null"]) == ["", None]
        assert schema.explain(deep % b"1") is None
        refusal = schema.explain(deep % b"null")
        assert refusal is not None
        assert refusal.reason is Reason.INVALID


def test_patterns_cost_linear_time(tmp_path: Path) -> None:
    schema = schema_of(tmp_path, ORDER)
    before = time.process_time()
    assert schema.keys([json.dumps({"orderId": "1", "code": "a" * 50_000 + "b"}).encode()]) == [None]
    assert time.process_time() - before < patience(0.5)


@each("draft", ["draft-04", "draft-06", "draft-07", "2019-09", "2020-12"])
def test_drafts(tmp_path: Path, draft: str) -> None:
    place = f"draft/{draft}" if draft[0] == "2" else draft
    schema = schema_of(
        tmp_path,
        {
            "$schema": f"https://json-schema.org/{place}/schema".replace(
                "https" if draft[0] == "d" else "-", "http" if draft[0] == "d" else "-"
            ),
            "type": "string",
        },
    )
    assert schema.keys([b'"x"', b"1"]) == ["", None]


@each(
    ("definition", "words"),
    [
        ("{", "not JSON"),
        ("[1]", "expected an object"),
        ("7", "expected an object"),
        ({"type": "nope"}, "type"),
        ({"properties": {"a": {"pattern": "(?=x)y"}}}, "properties/a/pattern"),
        ({"properties": {"a": {"pattern": "("}}}, "properties/a/pattern"),
        ({"$ref": "#/$defs/none"}, "/$defs/none"),
        ({"$ref": "http://127.0.0.1:9/x.json"}, "copy it into $defs"),
        ({"properties": {"a": {"$ref": "file:///etc/hostname"}}}, "copy it into $defs"),
        ({"$id": "file:///etc/", "$ref": "hostname"}, "copy it into $defs"),
        ({"$ref": "other.json"}, "other.json"),
        ({"$schema": "http://127.0.0.1:9/meta"}, "http://127.0.0.1:9/meta"),
    ],
)
def test_a_schema_that_cannot_be_used_is_refused_in_one_line(
    tmp_path: Path, definition: Any, words: str
) -> None:
    with pytest.raises(UserError) as caught:
        schema_of(tmp_path, definition)
    assert words in str(caught.value)
    assert "schema.json" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UserError, match="cannot be read"):
            JsonSchema(path)
    big = tmp_path / "big.json"
    big.write_bytes(b" " * (MAX_FILE_BYTES + 1))
    with pytest.raises(UserError, match="more than"):
        JsonSchema(big)


DRAFTS = {
    "4": "http://json-schema.org/draft-04/schema#",
    "6": "http://json-schema.org/draft-06/schema#",
    "7": "http://json-schema.org/draft-07/schema#",
    "2019-09": "https://json-schema.org/draft/2019-09/schema",
    "2020-12": "https://json-schema.org/draft/2020-12/schema",
    "none": None,
}
FORMATS = {  # format: (one that is, one that is not)
    "date-time": ("2026-01-01T10:00:00Z", "2026-01-01 10:00"),
    "date": ("2026-01-31", "2026-02-31"),
    "time": ("10:00:00Z", "25:00:00Z"),
    "duration": ("P1DT2H", "1 day"),
    "email": ("a@example.com", "nonsense"),
    "idn-email": ("ä@example.com", "nonsense"),
    "hostname": ("a.example.com", "-a-.example"),
    "idn-hostname": ("ä.example", "-ä-.example"),
    "ipv4": ("10.0.0.1", "10.0.0.256"),
    "ipv6": ("2001:db8::1", "2001:db8::g"),
    "uri": ("https://example.com/a%20b", "/a"),
    "uri-reference": ("/a", "a b"),
    "iri": ("https://example.com/ä", "/ä"),
    "iri-reference": ("/ä", "\\\\a"),
    "uuid": ("7a9c3f60-1d2e-4b7a-8f3e-2a6b1c9d0e11", "7a9c3f60"),
    "uri-template": ("/a/{b}", "/a/{b"),
    "json-pointer": ("/a~1b", "a"),
    "relative-json-pointer": ("1/a", "/a"),
    "regex": ("^a+$", "(a"),
}


def schema_with_format(tmp_path: Path, draft: str, name: str, *, format_assertion: bool = True) -> JsonSchema:
    definition: dict[str, Any] = {"properties": {"x": {"format": name}}}
    if DRAFTS[draft]:
        definition["$schema"] = DRAFTS[draft]
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(definition))
    return JsonSchema(path, format_assertion=format_assertion)


@each("draft", DRAFTS)
@each("name", FORMATS)
def test_a_format_is_checked_in_every_draft(tmp_path: Path, draft: str, name: str) -> None:
    schema = schema_with_format(tmp_path, draft, name)
    good, bad = (json.dumps({"x": text}).encode() for text in FORMATS[name])
    assert schema.keys([good, bad, b'{"x":5}']) == ["", None, ""]
    refusal = schema.explain(bad)
    assert refusal is not None
    assert refusal.errors[0].field == "x"
    assert name in refusal.errors[0].message


@each(("draft", "asserted"), [("7", True), ("2019-09", False), ("2020-12", False)])
def test_without_format_assertion_the_draft_decides(tmp_path: Path, draft: str, asserted: bool) -> None:
    schema = schema_with_format(tmp_path, draft, "date-time", format_assertion=False)
    assert schema.keys([b'{"x":"nonsense"}']) == [None if asserted else ""]
    assert (schema.explain(b'{"x":"nonsense"}') is None) is not asserted
    newer = schema_with_format(tmp_path, "7", "uuid", format_assertion=False)
    assert newer.keys([b'{"x":"nonsense"}']) == [""]


def test_a_format_that_nobody_knows_is_no_rule(tmp_path: Path) -> None:
    assert schema_with_format(tmp_path, "2020-12", "order-number").keys([b'{"x":"nonsense"}']) == [""]
