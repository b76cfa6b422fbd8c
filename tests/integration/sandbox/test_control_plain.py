"""Scheduled triggers, presence sources, and the schemas and configurations of journey events."""

from typing import Any

import pytest

from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.control.plain import DRAFT_04, MAX_PROPERTIES, MAX_SCHEMAS, SCHEMAS
from ingestd.schemas.genesys_models import model
from tests.each import each
from tests.genesys import least
from tests.integration.sandbox.conftest import Client, Start
from tests.integration.sandbox.control_support import ask, get, make

pytestmark = pytest.mark.anyio
SCHEDULED = "/api/v2/processautomation/scheduledtriggers"
SOURCES = "/api/v2/presence/sources"
CONFIGURATIONS = "/api/v2/journey/externalevents/configurations"
TEXT = {"type": "string"}
SCHEMA: dict[str, Any] = {
    "$schema": DRAFT_04,
    "title": "visits",
    "properties": {"page": TEXT, "at": TEXT},
    "required": ["at"],
}
KINDS = [  # path, body of a new one, model of an answer, how its name is changed
    (SCHEDULED, least("CreateScheduledTriggerRequest"), "", "PUT", {"version": 1, "name": "b"}),
    (SOURCES, {"name": "a"}, "Source", "PUT", {"name": "b"}),
    (SCHEMAS, SCHEMA, "JourneyExternalEventsSchema", "PUT", None),
    (
        CONFIGURATIONS,
        least("CreateExternalEventsConfigurationRequest"),
        "ExternalEventsConfiguration",
        "PATCH",
        {"name": "b"},
    ),
]


async def one_of(client: Client, path: str, body: dict[str, Any]) -> dict[str, Any]:
    if path == CONFIGURATIONS:
        schema = await make(client, SCHEMAS, SCHEMA)
        body = body | {"schemaId": schema["id"], "divisionId": schema["id"]}
    return await make(client, path, body)


@each(("path", "body", "answer", "method", "change"), KINDS)
async def test_it_is_made_read_listed_changed_and_deleted(
    start: Start, path: str, body: Any, answer: str, method: str, change: Any
) -> None:
    client = await start()
    made = await one_of(client, path, body)
    for shown in (made, await get(client, made["selfUri"]), (await get(client, path))["entities"][0]):
        assert shown["id"] == made["id"]
        assert not answer or model(answer).find_fault_of(shown) is None
    change = change or {"version": 1, "enabled": False, "jsonSchema": SCHEMA | {"title": "b"}}
    base = body if method == "PUT" and "jsonSchema" not in change else {}
    changed = (await ask(client, method, made["selfUri"], base | change)).json()
    assert (changed.get("name") or changed["jsonSchema"]["title"], changed["id"]) == ("b", made["id"])
    if "version" in change:
        assert changed["version"] == 2
        assert (await ask(client, method, made["selfUri"], base | change)).status_code == 409
        assert (await ask(client, method, made["selfUri"], base | change, version=...)).status_code == 400
    assert (await ask(client, "DELETE", made["selfUri"])).status_code == 204
    assert (await ask(client, "GET", made["selfUri"])).status_code == 404
    assert (await get(client, path))["entities"] == []


@each(
    ("path", "body", "field"),
    [
        (SCHEDULED, {"name": "n" * 163}, "name"),
        (SCHEDULED, {"description": "d" * 513}, "description"),
        (SCHEDULED, {"schedule": ...}, "schedule"),
        (SCHEDULED, {"target": {"type": "Flow"}}, "target.type"),
        (SOURCES, {"name": ...}, "name"),
        (SOURCES, {"type": "Robot"}, "type"),
        (SCHEMAS, {"$schema": "http://json-schema.org/draft-07/schema#"}, "$schema"),
        (SCHEMAS, {"properties": ...}, "properties"),
        (SCHEMAS, {"properties": {str(n): TEXT for n in range(MAX_PROPERTIES + 1)}}, "properties"),
        (SCHEMAS, {"required": ["nowhere"]}, "required"),
        (CONFIGURATIONS, {"source": ...}, "source"),
        (CONFIGURATIONS, {"schemaId": "nowhere"}, "schemaId"),
    ],
)
async def test_what_the_platform_would_refuse_is_refused(
    start: Start, path: str, body: Any, field: str
) -> None:
    client = await start()
    good = next(kind[1] for kind in KINDS if kind[0] == path)
    answer = await ask(client, "POST", path, good, **body)
    assert (answer.status_code, answer.json()["details"][0]["fieldName"]) == (400, field)


async def test_every_change_of_a_schema_is_a_version_that_can_be_read(start: Start) -> None:
    client = await start()
    uri = (await make(client, SCHEMAS, SCHEMA))["selfUri"]
    more = SCHEMA | {"properties": SCHEMA["properties"] | {"new": TEXT}, "required": ["at", "new"]}
    put = {"version": 1, "enabled": True, "jsonSchema": more}
    assert (await ask(client, "PUT", uri, put)).json()["version"] == 2
    listed = (await get(client, f"{uri}/versions"))["entities"]
    assert [len(one["jsonSchema"]["properties"]) for one in listed] == [2, 3]
    assert (await get(client, f"{uri}/versions/1"))["jsonSchema"] == SCHEMA
    assert (await ask(client, "GET", f"{uri}/versions/7")).status_code == 404
    optional = put | {"version": 2, "jsonSchema": more | {"required": ["at", "new", "page"]}}
    refused = await ask(client, "PUT", uri, optional)
    assert (refused.status_code, "page is optional" in refused.text) == (400, True)


async def test_titles_are_unique_among_enabled_schemas_and_there_are_twenty(start: Start) -> None:
    client = await start(control=ControlOptions(page_count=False))
    first = await make(client, SCHEMAS, SCHEMA)
    assert (await ask(client, "POST", SCHEMAS, SCHEMA)).json()["details"][0]["fieldName"] == "title"
    off = {"version": 1, "enabled": False, "jsonSchema": SCHEMA}
    await ask(client, "PUT", first["selfUri"], off)
    for number in range(MAX_SCHEMAS - 1):
        await make(client, SCHEMAS, SCHEMA, title=f"visits {number}" if number else "visits")
    assert (await ask(client, "POST", SCHEMAS, SCHEMA, title="more")).json()["code"] == "limit.exceeded"
    assert (await get(client, f"{SCHEMAS}/limits"))["maxNumberOfSchemasPerOrg"] == MAX_SCHEMAS


async def test_a_configuration_keeps_its_source_and_says_whether_its_schema_is_active(start: Start) -> None:
    client = await start()
    made = await one_of(client, CONFIGURATIONS, KINDS[3][1])
    refused = await ask(client, "PATCH", made["selfUri"], {"source": "other", "description": "x"})
    assert (refused.status_code, refused.json()["details"][0]["fieldName"]) == (400, "source")
    patched = (await ask(client, "PATCH", made["selfUri"], {"description": "x"})).json()
    assert (patched["source"], patched["description"], patched["schemaActive"]) == (made["source"], "x", True)
    await ask(client, "DELETE", f"{SCHEMAS}/{made['schemaId']}")
    assert (await get(client, made["selfUri"]))["schemaActive"] is False


async def test_lists_are_filtered_and_come_in_pages(start: Start) -> None:
    client = await start()
    body = least("CreateScheduledTriggerRequest")
    for name in ("a", "b", "c"):
        await make(client, SCHEDULED, body, name=name, enabled=name != "b")
    page = await get(client, f"{SCHEDULED}?pageSize=2")
    assert [one["name"] for one in page["entities"]] == ["a", "b"]
    assert [one["name"] for one in (await get(client, page["nextUri"]))["entities"]] == ["c"]
    assert [one["name"] for one in (await get(client, f"{SCHEDULED}?enabled=false"))["entities"]] == ["b"]
    await make(client, SOURCES, {"name": "old", "deactivated": True})
    assert (await get(client, f"{SOURCES}?deactivated=FALSE"))["total"] == 0
