"""Paths that events of a schema cannot have, or are not known to have."""

from typing import Any

from ingestd.core.errors import UserError
from ingestd.schemas.key_paths import key_of
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
        ("orders.json", "orderID"),
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


def test_what_the_schemas_say_is_what_they_take() -> None:
    """A path that is refused is one that no valid event has: tried on events that have it."""
    import json

    from ingestd.schemas.load import load

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
