"""What all kinds of resources of the sandbox's control plane have in common."""

import asyncio
import json
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.faults import parse_faults, parse_script
from ingestd.sandbox.tokens import RateLimit
from tests.each import each
from tests.effort import examples
from tests.integration.sandbox.conftest import Client, HandClock, Start
from tests.integration.sandbox.control_support import (
    BODIES,
    DESTINATIONS,
    INTEGRATIONS,
    LISTS,
    SUBSCRIPTIONS,
    TARGET,
    TARGETS,
    TRIGGER,
    TRIGGERS,
    ask,
    get,
    make,
)
from tests.machine import patience

pytestmark = pytest.mark.anyio


@each("path", LISTS)
async def test_what_is_created_can_be_read_listed_and_deleted(start: Start, path: str) -> None:
    client = await start()
    made = await make(client, path)
    assert made["selfUri"] == f"{path}/{made['id']}"
    assert (await get(client, made["selfUri"]))["name"] == BODIES[path]["name"]
    listed = (await get(client, path))["entities"]
    assert [one["id"] for one in listed] == [made["id"]]
    assert (await ask(client, "DELETE", made["selfUri"])).is_success
    for method in ("GET", "DELETE"):
        gone = await ask(client, method, made["selfUri"])
        assert (gone.status_code, gone.json()["code"], gone.json()["entityId"]) == (
            404,
            "not.found",
            made["id"],
        )
    assert (await get(client, path))["entities"] == []


@each("path", LISTS)
async def test_nobody_passes_without_a_token(start: Start, path: str) -> None:
    client = await start(log_in=False)
    for method, place in (("GET", path), ("POST", path), ("GET", f"{path}/x"), ("DELETE", f"{path}/x")):
        assert (await ask(client, method, place)).status_code == 401


@each("path", LISTS)
async def test_a_wrong_body_is_400_that_names_each_field_and_echoes_no_value(start: Start, path: str) -> None:
    client = await start()
    wrong = {"name": 7, "shrubbery": "hunter2-secret"}
    answer = await ask(client, "POST", path, BODIES[path] | wrong)
    content = answer.json()
    assert (answer.status_code, content["code"], content["status"]) == (400, "bad.request", 400)
    assert content["contextId"] == answer.headers["inin-correlation-id"]
    assert {each["fieldName"] for each in content["details"]} == {"name", "shrubbery"}
    assert {each["contextId"] for each in content["errors"]} == {content["contextId"]}
    assert "hunter2" not in answer.text


async def test_what_is_no_object_is_400(start: Start) -> None:
    client = await start()
    for body in (b"", b"{", b"[]", b"null", b"\xff", b'{"a":' * 50_000, b'"\\ud800"'):
        for path in LISTS:
            assert (await client.call(path, body)).status_code == 400, (path, body[:20])


async def test_a_body_has_a_size_and_a_type(start: Start) -> None:
    client = await start(platform_body_bytes=2_000)
    assert (await ask(client, "POST", TARGETS, TARGET, name="n" * 2_000)).status_code == 413
    said = await client.call(TARGETS, json.dumps(TARGET).encode(), Content_Type="text/plain")
    assert said.status_code == 415


async def test_classic_pages_are_walked_to_their_end_and_no_further(start: Start) -> None:
    client = await start()
    names = [f"t{number}" for number in range(7)]
    for name in names:
        await make(client, TARGETS, name=name)
    first = await get(client, f"{TARGETS}?pageSize=3")
    assert (first["total"], first["pageCount"], first["pageNumber"], first["pageSize"]) == (7, 3, 1, 3)
    assert "previousUri" not in first
    seen, page = [one["name"] for one in first["entities"]], first
    while "nextUri" in page:
        assert len(seen) < len(names), "the pages do not end"
        page = await get(client, page["nextUri"])
        seen += [one["name"] for one in page["entities"]]
    assert seen == names
    assert (await get(client, page["previousUri"]))["pageNumber"] == 2
    assert (await get(client, f"{TARGETS}?pageSize=3&pageNumber=4"))["entities"] == []


@each(
    ("query", "field"),
    [
        (f"{TARGETS}?pageSize=101", "pageSize"),
        (f"{TARGETS}?pageSize=0", "pageSize"),
        (f"{TARGETS}?pageNumber=-1", "pageNumber"),
        (f"{TARGETS}?pageNumber=%D9%A1", "pageNumber"),
        (f"{SUBSCRIPTIONS}?page_size=1_0", "page_size"),
        (f"{TRIGGERS}?pageSize=201", "pageSize"),
        (f"{TRIGGERS}?after=zz", "after"),
        (f"{TRIGGERS}?after=1&before=2", "before"),
        (f"{INTEGRATIONS}?ids={','.join(map(str, range(101)))}", "ids"),
    ],
)
async def test_a_page_that_cannot_be_is_400(start: Start, query: str, field: str) -> None:
    client = await start()
    answer = await ask(client, "GET", query)
    assert (answer.status_code, answer.json()["details"][0]["fieldName"]) == (400, field)


async def test_the_number_of_pages_is_left_out_by_option(start: Start) -> None:
    client = await start(control=ControlOptions(page_count=False))
    for number in range(3):
        await make(client, SUBSCRIPTIONS, name=f"s{number}")
        await make(client, TARGETS, name=f"t{number}")
    for path, sized, count in (
        (TARGETS, "pageSize", "pageCount"),
        (SUBSCRIPTIONS, "page_size", "page_count"),
    ):
        page = await get(client, f"{path}?{sized}=2")
        assert count not in page
        assert len((await get(client, page["nextUri"]))["entities"]) == 1


async def test_the_seeds_pages_count_themselves(start: Start) -> None:
    client = await start()
    for number in range(3):
        await make(client, SUBSCRIPTIONS, name=f"s{number}")
    page = await get(client, f"{SUBSCRIPTIONS}?page_size=2&page_number=2")
    assert (page["page_count"], page["page_number"], page["total"]) == (2, 2, 3)
    assert [one["name"] for one in page["entities"]] == ["s2"]


async def test_the_first_and_the_last_page_of_a_cursor_lead_nowhere_further(start: Start) -> None:
    client = await start()
    for number in range(4):
        await make(client, TRIGGERS, name=f"t{number}")
    first = await get(client, f"{TRIGGERS}?pageSize=2")
    last = await get(client, first["nextUri"])
    assert ("previousUri" in first, "nextUri" in last) == (False, False)
    assert (await get(client, last["previousUri"]))["entities"] == first["entities"]


@settings(max_examples=examples(8))
@given(count=st.integers(1, 9), size=st.integers(1, 4), gone=st.sets(st.integers(0, 8)))
def test_a_cursor_finds_all_that_stay_whatever_is_deleted_meanwhile(
    count: int, size: int, gone: set[int]
) -> None:
    from ingestd.sandbox.apis.ingest import SandboxOptions
    from ingestd.sandbox.server import Sandbox

    async def walk() -> None:
        async with (
            Sandbox(SandboxOptions(schema=None)).serve() as running,
            httpx.AsyncClient(
                timeout=patience(30), base_url=running.url, trust_env=False, verify=False
            ) as http,
        ):
            client = Client(running, http)
            await client.log_in()
            made = [(await make(client, TRIGGERS, name=f"t{number}"))["id"] for number in range(count)]
            page = await get(client, f"{TRIGGERS}?pageSize={size}")
            assert "total" not in page
            seen = [one["id"] for one in page["entities"]]
            for number in gone & set(range(count)):
                await ask(client, "DELETE", f"{TRIGGERS}/{made[number]}")
            while "nextUri" in page:
                assert len(seen) < 2 * count, "the cursor goes round in circles"
                page = await get(client, page["nextUri"])
                seen += [one["id"] for one in page["entities"]]
            stays = [id_ for number, id_ in enumerate(made) if number not in gone]
            assert [id_ for id_ in seen if id_ in stays] == stays
            assert len(seen) == len(set(seen))

    asyncio.run(walk())


@each("path", LISTS)
async def test_a_created_resource_is_hidden_for_some_reads(start: Start, path: str) -> None:
    client = await start(control=ControlOptions(hidden_reads=2))
    made = await make(client, path)
    assert (await ask(client, "GET", made["selfUri"])).status_code == 404
    assert (await get(client, path))["entities"] == []
    assert len((await get(client, path))["entities"]) == 1
    assert (await ask(client, "GET", made["selfUri"])).status_code == 200


async def test_a_created_resource_is_hidden_for_some_time_by_fault(start: Start) -> None:
    clock = HandClock()
    client = await start(clock=clock, faults=parse_faults(["create-hidden:1:400ms"]))
    made = await make(client, TARGETS)
    clock.now += 0.39
    assert (await ask(client, "GET", made["selfUri"])).status_code == 404
    clock.now += 0.02
    assert (await ask(client, "GET", made["selfUri"])).status_code == 200


async def test_a_connection_cut_after_the_create_leaves_the_thing_behind(start: Start) -> None:
    client = await start(
        rules=parse_script(b'[{"match":{"path":"%s","nth":1},"cut":true,"take":true}]' % (TARGETS.encode()))
    )
    with pytest.raises(httpx.RemoteProtocolError):
        await make(client, TARGETS)
    assert len(client.sandbox.control.targets.named("orders")) == 1


async def test_a_connection_cut_before_the_create_leaves_nothing(start: Start) -> None:
    client = await start(faults=parse_faults(["cut-before:1"]))
    with pytest.raises(httpx.RemoteProtocolError):
        await make(client, DESTINATIONS)
    assert len(client.sandbox.control.destinations) == 0


async def test_a_script_finds_any_call_by_method_and_template(start: Start) -> None:
    rule = {
        "match": {"path": f"PUT {TRIGGERS}/{{id}}", "nth": 1},
        "answer": {"status": 503, "headers": {"Retry-After": "2"}},
        "take": True,
    }
    client = await start(rules=parse_script(json.dumps([rule]).encode()))
    made = await make(client, TRIGGERS)
    answer = await ask(client, "PUT", made["selfUri"], TRIGGER, version=1, name="other")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert (await get(client, made["selfUri"]))["name"] == "other", "it took effect all the same"


async def test_a_429_is_the_platforms_and_so_are_the_rate_headers(start: Start) -> None:
    client = await start(rate_limit=RateLimit(2, 60))
    answers = [await ask(client, "GET", TARGETS) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert answers[0].headers["inin-ratelimit-allowed"] == "2"
    assert answers[2].json()["code"] == "too.many.requests.retry.after"
    assert int(answers[2].headers["retry-after"]) > 0


@each("as_400", [False, True])
async def test_somebody_else_changes_a_resource_once_by_fault(start: Start, as_400: bool) -> None:
    options = ControlOptions(conflict_as_400=as_400)
    client = await start(control=options, faults=parse_faults(["version-conflict:1"]))
    made = await make(client, TRIGGERS)
    answer = await ask(client, "PUT", made["selfUri"], TRIGGER, version=1)
    assert answer.status_code == (400 if as_400 else 409)
    assert "does not match the current version 2" in answer.json()["message"]
    assert (await ask(client, "PUT", made["selfUri"], TRIGGER, version=2)).json()["version"] == 3


async def test_there_are_so_many_of_a_kind_and_no_more(start: Start) -> None:
    client = await start(control=ControlOptions(max_resources=2))
    for _ in range(2):
        await make(client, TARGETS)
    answer = await ask(client, "POST", TARGETS, TARGET)
    assert (answer.status_code, answer.json()["limit"]["value"]) == (400, 2)


async def test_the_state_is_shown_without_credentials_and_ends_with_a_reset(start: Start) -> None:
    client = await start(control=ControlOptions(hidden_reads=1))
    for path in LISTS:
        await make(client, path)
    shown = await client.http.get("/_sandbox/control")
    state: dict[str, list[dict[str, Any]]] = shown.json()
    kinds = ["targets", "destinations", "subscriptions", "integrations", "triggers"]
    assert {kind: len(found) for kind, found in state.items() if found} == dict.fromkeys(kinds, 1)
    assert state["targets"][0]["secretsGiven"] == ["password", "username"]
    assert "never-to-be-seen" not in shown.text
    assert (await get(client, TARGETS))["entities"] == [], "a look at the state was no read"
    await client.http.post("/_sandbox/reset")
    assert not any((await client.http.get("/_sandbox/control")).json().values())
