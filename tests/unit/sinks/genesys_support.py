"""Events and sinks for the tests of ``genesys_events`` and ``genesys_mapping``."""

import json
from typing import Any

import pytest

from ingestd.sinks.genesys_events import GenesysEventsSink
from ingestd.sinks.sink import Unencodable

API = "https://api.example.com/"
PLAIN = GenesysEventsSink(name="ex", api=API)
MAPPED = GenesysEventsSink(name="ex", api=API, mapping="interaction", source_id="pbx")
ACTIONS = ["ANSWER", "QUEUE", "REQUEUE", "TRANSFER", "DISCONNECT"]
A_UUID = "6B0D3A43-54E9-4F7A-9A27-0A3C3BB9E7D6"


def entry(array: str, number: int, **more: Any) -> bytes:
    fields = {"eventId": f"e{number}", "eventDateTime": "2026-01-01T10:00:00Z", "conversationId": "c"}
    return json.dumps({array: fields | more}).encode()


def interaction(action: str, interaction_id: str = "int-001", **attributes: Any) -> bytes:
    return json.dumps(
        {
            "eventType": f"routing.interaction.{action.lower()}",
            "eventTime": "2026-01-01T11:00:00.1239+01:00",
            "interactionId": interaction_id,
            "routingMetadata": {"queueId": "queue-alpha", "skill": "support", "actionType": action},
            "attributes": attributes,
            "schemaVersion": 2,
        }
    ).encode()


def mapped(action: str, interaction_id: str = "int-001", **attributes: Any) -> dict[str, Any]:
    """Array -> its only entry, in the order in which they are sent."""
    made = dict(steps(interaction(action, interaction_id, **attributes)))
    assert len(made) == len(steps(interaction(action, interaction_id, **attributes)))
    return made


def steps(event: bytes, sink: GenesysEventsSink = MAPPED) -> list[tuple[str, dict[str, Any]]]:
    """(array, entry) of each request of an event."""
    made: list[tuple[str, dict[str, Any]]] = []
    while not made or sink.go_on([event], len(made) - 1):
        ((array, (entry,)),) = json.loads(sink.encode_step([event], len(made))).items()
        made.append((array, entry))
    return made


def fault_of(sink: GenesysEventsSink, event: bytes) -> str:
    with pytest.raises(Unencodable) as raised:
        sink.encode([event])
    assert list(raised.value.events) == [0]
    assert sink.sizes([event]) == [0]
    return raised.value.events[0]
