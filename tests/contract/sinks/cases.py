"""Every sink in the shapes that it can be set to, for ``test_contract.py``."""

import hashlib
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from ingestd.sinks.cloudevents import CloudEventsSink
from ingestd.sinks.cloudevents_formats import Wrapping
from ingestd.sinks.eventbridge import EventBridgeSink
from ingestd.sinks.genesys_events import GenesysEventsSink
from ingestd.sinks.ingest_api import IngestApi
from ingestd.sinks.journey_events import JourneyEventsSink
from ingestd.sinks.sink import Sink
from ingestd.sinks.webhook import WebhookSink

NOW_WALL = 1_800_000_000.0
BATCH_ID = "0b9ac1f0-5f5c-4b43-9a5f-000000000001"


def now_wall() -> float:
    return NOW_WALL


@dataclass(frozen=True, slots=True)
class Case:
    """``make``: from the base URL of an API. ``event``: of a number, with a text that makes it longer.

    ``exact``: the length of a body is known to the byte before it is made. ``reads_items``: answers to a
    batch may name single events.
    """

    id: str
    make: Callable[[str], Sink]
    event: Callable[[int, str], bytes]
    exact: bool = True
    reads_items: bool = True

    def events(self, count: int = 3) -> list[bytes]:
        """As many as go into one request, at most ``count``."""
        return [self.event(number, "") for number in range(min(count, self.sink().max_events))]

    def sink(self) -> Sink:
        return self.make("https://api.example.com")


def _dump(event: dict[str, Any]) -> bytes:
    return json.dumps(event, ensure_ascii=False).encode()


def _uuid(number: int) -> str:
    return str(uuid.UUID(int=number + 1, version=4))


def interaction(number: int, text: str, action: str = "") -> bytes:
    actions = ("ANSWER", "QUEUE", "REQUEUE", "TRANSFER", "DISCONNECT")
    return _dump(
        {
            "eventType": "routing.interaction",
            "eventTime": "2026-01-01T10:00:00.123456+01:00",
            "interactionId": f"int-{number}",
            "routingMetadata": {
                "queueId": "queue-ä",
                "skill": "support",
                "actionType": action or actions[number % len(actions)],
            },
            "attributes": {"destinationCommunicationId": "leg-2", "note": text},
            "schemaVersion": 2,
        }
    )


def cloudevent(number: int, text: str) -> bytes:
    return _dump(
        {
            "specversion": "1.0",
            "type": "order.created",
            "source": "/shop",
            "id": f"order-{number}",
            "time": "2026-01-01T10:00:00Z",
            "datacontenttype": "application/json",
            "data": {"total": 1.50, "note": "ä" + text},
        }
    )


def conversation_entry(number: int, text: str) -> bytes:
    arrays = ("holdUpdatedEvents", "communicationEndedEvents", "emailHoldUpdatedEvents")
    common = {"eventId": _uuid(number), "eventDateTime": "2026-01-01T10:00:00Z", "conversationId": _uuid(99)}
    return _dump({arrays[number % len(arrays)]: common | {"note": "ä" + text}})


def presence_entry(number: int, text: str) -> bytes:
    common = {"eventId": _uuid(number), "eventDateTime": "2026-01-01T10:00:00Z"}
    return _dump(common | {"userId": _uuid(7), "sourceId": _uuid(8), "message": "ä" + text})


def routing_status_entry(number: int, text: str) -> bytes:
    common = {"eventId": _uuid(number), "eventDateTime": "2026-01-01T10:00:00Z"}
    return _dump(common | {"agentId": _uuid(7), "status": "Idle", "sourceId": "pbx", "note": text})


def external_event(number: int, text: str) -> bytes:
    return _dump(
        {
            "id": f"order-{number}",
            "dateCreated": "2026-01-01T10:00:00Z",
            "identifiers": {"externalIds": [{"value": "c-1", "externalSourceId": "crm"}]},
            "attributes": {"note": "ä" + text},
        }
    )


def _genesys(api: str, **settings: Any) -> Sink:
    return GenesysEventsSink(name="sink", api=api, wall=now_wall, **settings)


def _cloudevents(api: str, **settings: Any) -> Sink:
    return CloudEventsSink(name="sink", url=api + "/in?sig=CANARY-signature", wall=now_wall, **settings)


def _wrapped(api: str, **settings: Any) -> Sink:
    wrap = Wrapping(type="$.eventType", source="/pbx", subject="$.interactionId", time="$.eventTime")
    return _cloudevents(api, wrap=wrap, **settings)


def _webhook(api: str, **settings: Any) -> Sink:
    url = api + "/api/v2/integrations/webhooks/CANARY-token-in-path/events?sig=CANARY-signature"
    return WebhookSink(name="sink", url=url, wall=now_wall, headers={"X-Origin": "shop"}, **settings)


def _journey(api: str) -> Sink:
    return JourneyEventsSink(name="sink", api=api, configuration_id="crm-orders", wall=now_wall)


def _eventbridge(api: str, **settings: Any) -> Sink:
    return EventBridgeSink(name="sink", url=api + "/?sig=CANARY-signature", wall=now_wall, **settings)


CASES = [
    Case("ingest_api", partial(IngestApi, name="sink", wall=now_wall), interaction),
    Case("cloudevents-structured", _cloudevents, cloudevent, reads_items=False),
    Case(
        "cloudevents-binary", partial(_cloudevents, mode="binary"), cloudevent, exact=False, reads_items=False
    ),
    Case("cloudevents-batch", partial(_cloudevents, mode="batch"), cloudevent),
    Case("cloudevents-wrapped", _wrapped, interaction, reads_items=False),
    Case("cloudevents-wrapped-batch", partial(_wrapped, mode="batch"), interaction),
    Case("genesys-conversations", _genesys, conversation_entry, exact=False),
    Case("genesys-presence", partial(_genesys, family="presence"), presence_entry),
    Case("genesys-routingstatus", partial(_genesys, family="routingstatus"), routing_status_entry),
    Case(
        "genesys-mapped", partial(_genesys, mapping="interaction", source_id="pbx"), interaction, exact=False
    ),
    Case("journey_events", _journey, external_event),
    Case("webhook-event", _webhook, external_event, reads_items=False),
    Case("webhook-array", partial(_webhook, body="array"), external_event),
    Case("webhook-ndjson", partial(_webhook, body="ndjson"), external_event),
    Case("eventbridge", _eventbridge, interaction, exact=False),
    Case(
        "eventbridge-parts",
        partial(
            _eventbridge,
            bus="arn:aws:events:eu-central-1:123456789012:event-bus/ingestd",
            source="$.source",
            detail_type="$.type",
            detail="$.data",
            time="$.time",
            resources=("$.id", "fixed"),
        ),
        cloudevent,
        exact=False,
    ),
]


def fingerprints() -> dict[str, str]:
    """Case -> digest of what is sent for its events: the body, and the headers in their order."""
    found = {}
    for case in CASES:
        sink, events = case.sink(), case.events()
        headers = json.dumps(list(sink.headers(BATCH_ID, events).items())).encode()
        found[case.id] = hashlib.sha256(sink.encode(events) + b"\n" + headers).hexdigest()
    return found
