"""Paths that events of a schema cannot have, or are not known to have."""

import json
from pathlib import Path
from typing import Any

import jsonschema_rs
from hypothesis import given
from hypothesis import strategies as st
from pydantic import AliasChoices, BaseModel, Field

from ingestd.core.errors import UserError
from ingestd.schemas import key_doubts
from ingestd.schemas.key_doubts import key_of
from ingestd.schemas.load import load
from tests.each import each


def told(paths: str, schema: str) -> tuple[str, list[str]]:
    """(why it is refused, what is warned about)."""
    warnings: list[str] = []
    try:
        key_of("schema.dedup_key", paths, schema, warn=warnings.append)
    except UserError as error:
        return str(error), warnings
    return "", warnings


@each(
    ("schema", "paths"),
    [
        ("interaction", "interactionId,eventType,eventTime"),
        ("interaction", "$.routingMetadata.queueId"),
        ("interaction", "routingMetadata"),
        ("interaction", "/attributes/anything/0/at/all"),
        ("cloudevent", "source,id"),
        ("cloudevent", "$.partitionkey,subject,time"),
        ("cloudevent", "data.orderId.x,data_base64"),
        ("not_there.json", "orderID"),
        ("package.module:Model", "orderId.x"),
    ],
)
def test_paths_that_events_may_have_are_taken_without_a_word(schema: str, paths: str) -> None:
    assert told(paths, schema) == ("", [])


@each(
    ("schema", "paths", "words"),
    [
        ("interaction", "eventType.x", "no interaction has eventType.x: eventType is a single value"),
        ("interaction", "interactionId[0]", "interactionId is a single value"),
        ("interaction", "routingMetadata.queueId.x", "routingMetadata.queueId is a single value"),
        ("cloudevent", "orderId", "orderId: attributes are a-z and 0-9 only; did you mean data.orderId?"),
        ("cloudevent", "$.Subject", "did you mean subject?"),
        ("cloudevent", "id,subject.x", "no CloudEvent has subject.x: subject is a single value"),
        ("cloudevent", "data_base64.x", "data_base64 is a single value"),
        ("interaction", "a..b", "'a..b' is not a path of a key: .. stands for many"),
    ],
)
def test_a_path_that_no_event_can_have_is_refused(schema: str, paths: str, words: str) -> None:
    refused, _ = told(paths, schema)
    assert refused.startswith("schema.dedup_key: ")
    assert words in refused


@each(
    ("paths", "words"),
    [
        ("conversationId", "does not know conversationId: did you mean interactionId?"),
        ("interactionid", "did you mean interactionId?"),
        ("eventType,/routingMetadata/queue", "routingMetadata.queue: did you mean routingMetadata.queueId?"),
        ("orderId", "does not know orderId: "),
    ],
)
def test_a_path_that_interactions_are_not_known_to_have_is_warned_about(paths: str, words: str) -> None:
    refused, warnings = told(paths, "interaction")
    assert refused == ""
    (warning,) = warnings
    assert warning.startswith("schema.dedup_key: the interaction schema ")
    assert words in warning


ORDER: dict[str, Any] = {
    "type": "object",
    "properties": {
        "orderId": {"type": "string"},
        "lines": {"type": "array", "items": {"$ref": "#/$defs/line"}},
        "buyer": {"allOf": [{"$ref": "#/$defs/party"}, {"properties": {"mail": {}}}]},
        "extra": {"type": ["object", "null"]},
        "choice": {"anyOf": [{"type": "string"}, {"$ref": "#/$defs/line"}]},
        "tags": {"type": "object", "additionalProperties": {"type": "string"}},
        "loop": {"$ref": "#"},
    },
    "additionalProperties": False,
    "$defs": {
        "line": {"type": "object", "properties": {"sku": {}}, "additionalProperties": False},
        "party": {"type": "object", "properties": {"taxId": {}}},
        "self": {"$ref": "#/$defs/self"},
    },
}


@each(
    ("paths", "words"),
    [
        ("orderId,lines.0.sku,buyer.taxId,buyer.mail,extra.a.b,choice.sku,tags.any,loop.loop.orderId", ""),
        ("/orderID", "no event of this schema has orderID: did you mean orderId?"),
        ("orderId.x", "no event of this schema has orderId.x: "),
        ("lines.sku", "no event of this schema has lines.sku: "),
        ("$.lines[0].skv", "did you mean lines.0.sku?"),
        ("lines.0.sku2.x", "did you mean lines.0.sku.x?"),
        ("choice.sux", "did you mean choice.sku?"),
        ("tags.any.x", "no event of this schema has tags.any.x: "),
        ("loop.loop.ordrId", "did you mean loop.loop.orderId?"),
        ("zzz", "there are: orderId, lines, buyer, extra, choice, tags, loop"),
    ],
)
def test_a_json_schema_says_what_its_events_can_have(paths: str, words: str, tmp_path: Path) -> None:
    file = tmp_path / "order.json"
    file.write_text(json.dumps(ORDER))
    refused, warnings = told(paths, str(file))
    assert (words in refused) if words else refused == ""
    assert warnings == []


def test_a_json_schema_that_is_open_gets_a_word_where_a_name_is_near(tmp_path: Path) -> None:
    file = tmp_path / "open.json"
    file.write_text(json.dumps({"properties": {"orderId": {}}}))
    refused, warnings = told("orderID,zzz", str(file))
    assert refused == ""
    (warning,) = warnings
    assert "does not name orderID, though events may have it: did you mean orderId?" in warning
    for content in (
        {},
        True,
        {"type": "object"},
        {"$ref": "#/$defs/none"},
        {"patternProperties": {"^o": {}}},
    ):
        file.write_text(json.dumps(content))
        assert told("orderID", str(file)) == ("", [])
    file.write_text(json.dumps({"$ref": "#"}))
    assert told("orderID", str(file)) == ("", [])


class Line(BaseModel, extra="forbid"):
    sku: str = Field(alias="articleNumber")


class Model(BaseModel, extra="forbid"):
    order_id: str = Field(alias="orderId")
    lines: list[Line]


class Several(BaseModel, extra="forbid"):
    order_id: str = Field(validation_alias=AliasChoices("orderId", "order"))


def test_a_pydantic_model_says_it_too() -> None:
    here = f"{__name__}:Model"
    assert told("orderId,order_id,lines.0.articleNumber,lines.0.sku", here) == ("", [])
    assert "did you mean orderId?" in told("orderID", here)[0]
    assert "has lines.0.nr" in told("lines.0.nr", here)[0]
    assert told("order", f"{__name__}:Several") == ("", []), "several aliases: left open"


SCHEMAS = st.recursive(
    st.sampled_from([True, False, {}, {"type": "string"}, {"type": "object"}]),
    lambda inner: st.fixed_dictionaries(
        {"properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=3)},
        optional={
            "type": st.sampled_from(["object", ["object", "null"]]),
            "additionalProperties": inner,
            "anyOf": st.lists(inner, min_size=1, max_size=2),
            "allOf": st.lists(inner, min_size=1, max_size=2),
            "unevaluatedProperties": st.booleans(),
        },
    ),
    max_leaves=6,
)


@given(SCHEMAS, st.lists(st.sampled_from("abcd"), min_size=1, max_size=3))
def test_what_is_refused_no_valid_event_has(schema: Any, path: list[str]) -> None:
    doubt = key_doubts._Walk(schema).doubt(tuple(path))
    if doubt is None or not doubt.impossible:
        return
    for leaf in ("x", 1, None, {}, {"a": "x"}):
        event: Any = leaf
        for part in reversed(path):
            event = {part: event}
        assert not jsonschema_rs.validator_for(schema).is_valid(event)


def test_what_the_schemas_say_is_what_they_take() -> None:
    """A path that is refused is one that no valid event has: tried on events that have it."""
    interaction: dict[str, Any] = {
        "eventType": "a",
        "eventTime": "2026-01-01T10:00:00Z",
        "interactionId": "i",
        "routingMetadata": {"queueId": "q", "skill": "s", "actionType": "ANSWER"},
        "schemaVersion": 2,
    }
    broken = [interaction | {"eventType": {"x": 1}}, interaction | {"interactionId": ["x"]}]
    assert all(load("interaction").explain(json.dumps(event).encode()) for event in broken)
    assert load("interaction").explain(json.dumps(interaction | {"conversationId": "c"}).encode()) is None
    event = {"specversion": "1.0", "id": "1", "source": "/x", "type": "t"}
    for members in ({"orderId": "1"}, {"subject": {"x": 1}}, {"data_base64": {"x": 1}}):
        assert load("cloudevent").explain(json.dumps(event | members).encode())
