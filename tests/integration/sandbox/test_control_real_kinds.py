"""The kinds of resources that the platform really has: integrations and triggers."""

import json
from typing import Any

import pytest

from ingestd.sandbox.faults import parse_faults
from ingestd.schemas.genesys_models import model
from tests.each import each
from tests.integration.sandbox.conftest import Start
from tests.integration.sandbox.control_support import (
    INTEGRATION,
    INTEGRATIONS,
    PROPERTIES,
    TRIGGER,
    TRIGGERS,
    ask,
    get,
    make,
)

pytestmark = pytest.mark.anyio
CRITERION = {"jsonPath": "a", "value": "x"}


async def test_an_integration_is_configured_enabled_and_active_in_that_order(start: Start) -> None:
    client = await start()
    made = await make(client, INTEGRATIONS)
    assert (made["intendedState"], made["reportedState"]["code"]) == ("DISABLED", "INACTIVE")
    early = await ask(client, "PATCH", made["selfUri"], {"intendedState": "ENABLED"})
    assert (early.status_code, early.json()["details"][0]["fieldName"]) == (400, "intendedState")
    config = f"{made['selfUri']}/config/current"
    current = await get(client, config)
    assert (current["version"], current["properties"]) == (1, {})
    assert current["notes"] == "node_dynamodb_empty_string", "a default that the platform fills in"
    put = await ask(client, "PUT", config, current, properties=PROPERTIES)
    assert (put.json()["version"], put.json()["properties"]) == (2, PROPERTIES)
    assert (await ask(client, "PUT", config, current, properties=PROPERTIES)).status_code == 409
    await ask(client, "PATCH", made["selfUri"], {"intendedState": "ENABLED"})
    reads = [await get(client, made["selfUri"]) for _ in range(3)]
    assert [read["reportedState"]["code"] for read in reads] == ["ACTIVATING", "ACTIVE", "ACTIVE"]
    assert ["attributes" in read for read in reads] == [False, False, True]
    assert reads[2]["attributes"]["eventSourceName"].startswith("aws.partner/genesys.com/cloud/")
    await ask(client, "PATCH", made["selfUri"], {"intendedState": "DISABLED"})
    reads = [await get(client, made["selfUri"]) for _ in range(2)]
    assert [read["reportedState"]["code"] for read in reads] == ["DEACTIVATING", "INACTIVE"]
    await ask(client, "PATCH", made["selfUri"], {"intendedState": "ENABLED"})
    assert (await ask(client, "DELETE", made["selfUri"])).status_code == 200, "as terraform destroy does it"
    assert (await ask(client, "GET", made["selfUri"])).status_code == 404


async def test_what_the_real_clients_do_with_an_integration_is_taken(start: Start) -> None:
    client = await start()
    kind = await get(client, f"{INTEGRATIONS}/types/amazon-eventbridge-source")
    java = {
        "id": kind["id"],
        "images": [],
        "helpLinks": [],
        "userPermissions": [],
        "vendorOAuthClientIds": [],
    }
    for number, given in enumerate((kind, java, {"id": kind["id"], "name": None, "maxInstances": 7})):
        made = await make(client, INTEGRATIONS, name=f"i-{number}", integrationType=given)
    config = f"{made['selfUri']}/config/current"
    await ask(client, "PUT", config, {"version": 1, "properties": PROPERTIES})
    assert (await get(client, made["selfUri"]))["reportedState"]["code"] == "INACTIVE", "it never ran"
    for state, shown in (("DELETED", "DELETED"), ("RESTORED", "DISABLED"), ("ENABLED", "ENABLED")):
        patch = {"intendedState": state, "notes": "ours", "config": {"current": {}}, "name": "i-2"}
        answer = await ask(client, "PATCH", made["selfUri"], patch)
        assert (answer.status_code, answer.json()["intendedState"]) == (200, shown)
        assert answer.json()["notes"] == "ours"
    expanded = await get(client, f"{made['selfUri']}?expand=config.current")
    assert expanded["config"]["current"] == await get(client, config)
    assert model("Integration").find_fault_of(expanded) is None
    assert expanded["reportedState"]["effective"]


async def test_an_integration_reports_an_error_by_fault(start: Start) -> None:
    client = await start(faults=parse_faults(["integration-error:1"]))
    made = await make(client, INTEGRATIONS)
    body = {"version": 1, "properties": PROPERTIES}
    await ask(client, "PUT", f"{made['selfUri']}/config/current", body)
    await ask(client, "PATCH", made["selfUri"], {"intendedState": "ENABLED"})
    reported = (await get(client, made["selfUri"]))["reportedState"]
    assert (reported["code"], "refused" in reported["detail"]["message"]) == ("ERROR", True)
    assert reported["detail"].keys() <= model("MessageInfo").fields.keys()


async def test_a_webhook_gets_a_url_after_a_while_that_takes_events_while_it_is_enabled(start: Start) -> None:
    client = await start()
    made = await make(client, INTEGRATIONS, integrationType={"id": "webhook"}, name=...)
    assert (made["name"], "attributes" in made) == ("Webhook", False)
    await ask(client, "PATCH", made["selfUri"], {"intendedState": "ENABLED"})
    reads = [await get(client, made["selfUri"]) for _ in range(3)]
    assert ["attributes" in read for read in reads] == [False, False, True]
    url = reads[2]["attributes"]["invocationUrl"]
    assert url.startswith(client.running.url)
    path = url.removeprefix(client.running.url)
    assert (await ask(client, "POST", path, {"a": 1})).status_code == 202
    assert (await ask(client, "POST", path.replace("/events", "x/events"), {"a": 1})).status_code == 404
    await ask(client, "PATCH", made["selfUri"], {"intendedState": "DISABLED"})
    assert (await ask(client, "POST", path, {"a": 1})).status_code == 404
    listed = await get(client, f"{INTEGRATIONS}?integrationType=webhook")
    assert [one["id"] for one in listed["entities"]] == [made["id"]]
    shown = await client.http.get("/_sandbox/control")
    assert url.split("/")[-2] not in shown.text


async def test_the_types_tell_the_schema_of_their_properties(start: Start) -> None:
    client = await start()
    types = (await get(client, f"{INTEGRATIONS}/types"))["entities"]
    assert [one["id"] for one in types] == ["amazon-eventbridge-source", "webhook"]
    schema = await get(client, types[0]["configPropertiesSchemaUri"])
    assert schema["required"] == sorted(PROPERTIES)
    assert (await get(client, types[1]["configAdvancedSchemaUri"]))["properties"] == {}
    assert (await ask(client, "GET", f"{INTEGRATIONS}/types/x/configschemas/properties")).status_code == 404


@each(
    "changes",
    [
        {"awsAccountId": "1"},
        {"eventSourceSuffix": "a/b"},
        {"eventSourceSuffix": "s" * 65},
        {"eventFilter": []},
    ],
)
async def test_properties_of_an_integration_are_checked(start: Start, changes: dict[str, Any]) -> None:
    client = await start()
    made = await make(client, INTEGRATIONS)
    body = {"version": 1, "properties": PROPERTIES | changes}
    answer = await ask(client, "PUT", f"{made['selfUri']}/config/current", body)
    named = answer.json()["details"][0]["fieldName"]
    assert (answer.status_code, named) == (400, f"properties.{next(iter(changes))}")


async def test_integrations_are_listed_by_type_state_and_id(start: Start) -> None:
    client = await start()
    made = [await make(client, INTEGRATIONS, name=name) for name in ("a", "b")]

    async def names(query: str) -> list[str]:
        return [one["name"] for one in (await get(client, f"{INTEGRATIONS}?{query}"))["entities"]]

    assert await names("integrationType=amazon-eventbridge-source") == ["a", "b"]
    assert await names("integrationType=webhook") == []
    assert await names("reportedState=ACTIVE") == []
    assert await names(f"ids={made[1]['id']}") == ["b"]
    kind = await get(client, f"{INTEGRATIONS}/types/amazon-eventbridge-source")
    assert kind["maxInstances"] == 10
    other = await ask(client, "POST", INTEGRATIONS, INTEGRATION | {"integrationType": {"id": "other"}})
    assert other.json()["details"][0]["fieldName"] == "integrationType.id"


async def test_a_trigger_keeps_its_topic_and_wants_its_version(start: Start) -> None:
    client = await start()
    made = await make(client, TRIGGERS)
    assert made["version"] == 1
    for changes, field in (({}, "version"), ({"version": 1, "topicName": "v2.x"}, "topicName")):
        answer = await ask(client, "PUT", made["selfUri"], TRIGGER, **changes)
        assert (answer.status_code, answer.json()["details"][0]["fieldName"]) == (400, field)
    put = await ask(client, "PUT", made["selfUri"], made, name="renamed")
    assert (put.json()["version"], put.json()["name"]) == (2, "renamed")
    assert (await ask(client, "PUT", made["selfUri"], TRIGGER, version=1)).status_code == 409


@each(
    ("changes", "field"),
    [
        ({"topicName": "conversation"}, "topicName"),
        ({"eventTTLSeconds": 9}, "eventTTLSeconds"),
        ({"delayBySeconds": 60}, ""),
        ({"description": "d" * 513}, "description"),
        ({"target": {"type": "Flow", "id": "x"}}, "target.type"),
        ({"enabled": None}, "enabled"),
        ({"matchCriteria": [CRITERION | {"operator": "In", "values": ["x"]}]}, "matchCriteria.0"),
        ({"matchCriteria": [CRITERION]}, "matchCriteria.0.operator"),
    ],
)
async def test_a_trigger_that_cannot_be_is_refused(start: Start, changes: dict[str, Any], field: str) -> None:
    client = await start()
    answer = await ask(client, "POST", TRIGGERS, TRIGGER, **changes)
    named = answer.json()["details"][0]["fieldName"]
    assert answer.status_code == 400
    assert named == field or named.startswith(f"{field}."), named


@each(
    "criterion",
    [
        {"operator": "Exists"},
        {"operator": "Equal", "value": {"k": [None]}},
        {"operator": "Contains", "values": [1, None]},
        {"operator": "NewerThanUs"},
    ],
)
async def test_a_trigger_takes_any_json_and_any_operator(start: Start, criterion: dict[str, Any]) -> None:
    client = await start()
    made = await make(client, TRIGGERS, matchCriteria=[{"jsonPath": "a", **criterion}])
    (kept,) = made["matchCriteria"]
    assert {name: value for name, value in kept.items() if value is not None} == {
        "jsonPath": "a",
        **criterion,
    }
    assert made.keys() <= model("Trigger").fields.keys()


async def test_triggers_are_listed_by_what_is_asked_for(start: Start) -> None:
    client = await start()
    for name, more in (("a", {"delayBySeconds": 60}), ("b", {"enabled": True}), ("c", {})):
        given = {"eventTTLSeconds": None, "enabled": False} | more
        await make(client, TRIGGERS, name=name, **given)

    async def names(query: str) -> list[str]:
        return [one["name"] for one in (await get(client, f"{TRIGGERS}?{query}"))["entities"]]

    assert await names("hasDelayBy=true") == ["a"]
    assert await names("hasDelayBy=false&enabled=false") == ["c"]
    assert await names("enabled=true") == ["b"]
    topics = (await get(client, f"{TRIGGERS}/topics"))["entities"]
    assert "v2.detail.events.conversation.{id}.customer.end" in topics


async def test_the_platform_tests_a_trigger_and_all_of_a_topic_with_an_event(start: Start) -> None:
    client = await start()
    made = await make(client, TRIGGERS)
    await make(client, TRIGGERS, name="any", matchCriteria=[])
    for event, matches in (({"mediaType": "CHAT"}, True), (json.dumps({"mediaType": "SMS"}), False)):
        result = (await client.call(f"{made['selfUri']}/test", json.dumps(event).encode())).json()
        assert result["triggerMatches"] is result["jsonPathValidation"]["matches"] is matches
        (detail,) = result["jsonPathValidation"]["details"]
        assert (detail["operator"], detail["match"]) == ("In", matches)
        assert detail["jsonPathExtraction"][0]["value"] == ("CHAT" if matches else "SMS")
        path = f"{TRIGGERS}/topics/{TRIGGER['topicName']}/test"
        found = (await client.call(path, json.dumps(event).encode())).json()["triggerMatchValidation"]
        assert [one["name"] for one in found["matchedTriggers"]] == ["on-end"] * matches + ["any"]
        assert [one["name"] for one in found["unmatchedTriggers"]] == ["on-end"] * (not matches)
    assert (await client.call(f"{made['selfUri']}/test", b"{")).status_code == 400
