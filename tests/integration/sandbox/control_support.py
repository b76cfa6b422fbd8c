"""Bodies and calls that the tests of the sandbox's control plane share."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

import httpx

from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.faults import parse_faults
from tests.integration.sandbox.conftest import Client
from tests.machine import patience

TARGETS = "/api/v2/integrations/eventbridge/targets"
DESTINATIONS = "/api/v2/event/destinations"
SUBSCRIPTIONS = "/api/v2/events/eventbridgesubscriptions"
INTEGRATIONS = "/api/v2/integrations"
TRIGGERS = "/api/v2/processautomation/triggers"
LISTS = (TARGETS, DESTINATIONS, SUBSCRIPTIONS, INTEGRATIONS, TRIGGERS)
ONLY_POLLS = ControlOptions(verified_after_s=3600)

TARGET: dict[str, Any] = {
    "name": "orders",
    "endpointUrl": "https://api.gateway.example.com/v1/genesys/events",
    "authType": "BASIC",
    "authConfig": {"username": "genesys-relay", "password": "never-to-be-seen"},
    "retryPolicy": {"maxRetries": 5, "backoffStrategy": "EXPONENTIAL", "initialDelaySeconds": 2},
    "headers": {"X-Source-System": "GenesysCloud"},
    "eventTypes": ["QUEUE_MEMBER_ADDED", "CONVERSATION_STARTED"],
}
BUS = "arn:aws:events:us-east-1:123456789012:event-bus/aws.partner/genesys.com/cloud/org/suffix"
DESTINATION: dict[str, Any] = {
    "name": "stream",
    "description": "to AWS",
    "type": "eventbridge",
    "enabled": False,
    "settings": {"eventBridgeArn": BUS},
}
SUBSCRIPTION: dict[str, Any] = {
    "name": "contact-center",
    "topic_arn": "arn:aws:events:us-east-1:123456789012:topic/genesys-cx-events",
    "filter_policy": {"eventType": ["routing.contact.queued"], "detail": {"n": [{"numeric": [">", 1]}]}},
    "destination": {"url": "https://api.example.com/events", "arn": "arn:aws:iam::123456789012:role/a/b+c"},
    "enabled": True,
}
INTEGRATION: dict[str, Any] = {"name": "bridge", "integrationType": {"id": "amazon-eventbridge-source"}}
PROPERTIES = {
    "awsAccountId": "123456789012",
    "awsAccountRegion": "us-west-2",
    "eventSourceSuffix": "prod",
    "eventFilter": ["v2.detail.events.conversation.{id}.acd.start"],
}
TRIGGER: dict[str, Any] = {
    "name": "on-end",
    "topicName": "v2.detail.events.conversation.{id}.customer.end",
    "enabled": True,
    "target": {"type": "Workflow", "id": "wf-1"},
    "matchCriteria": [{"jsonPath": "$.mediaType", "operator": "In", "values": ["CHAT", "VOICE"]}],
    "eventTTLSeconds": 60,
}
BODIES = dict(zip(LISTS, (TARGET, DESTINATION, SUBSCRIPTION, INTEGRATION, TRIGGER), strict=True))


async def ask(
    client: Client, method: str, path: str, body: object = None, **changes: object
) -> httpx.Response:
    """``changes`` replace fields of ``body``; ``...`` takes one out."""
    if body is None:
        return await client.call(path, method=method)
    if isinstance(body, dict):
        body = {name: value for name, value in (body | changes).items() if value is not ...}
    return await client.call(path, json.dumps(body).encode(), method=method)


async def make(client: Client, path: str, body: object = None, **changes: object) -> dict[str, Any]:
    answer = await ask(client, "POST", path, BODIES[path] if body is None else body, **changes)
    assert answer.is_success, answer.text
    content: dict[str, Any] = answer.json()
    return content


async def get(client: Client, path: str) -> dict[str, Any]:
    answer = await ask(client, "GET", path)
    assert answer.status_code == 200, answer.text
    content: dict[str, Any] = answer.json()
    return content


def order(client: Client, *faults: str) -> None:
    client.sandbox.set_faults(parse_faults(faults), ())


async def until(holds: Callable[[], bool], *, deadline_s: float = patience(10.0)) -> None:
    async with asyncio.timeout(deadline_s):
        while not holds():  # noqa: ASYNC110 - what holds may be another process's doing
            await asyncio.sleep(0.005)
