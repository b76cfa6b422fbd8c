"""The kinds of resources that the seeds describe: targets, destinations, subscriptions."""

from typing import Any
from urllib.parse import quote

import pytest

from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.faults import parse_faults
from tests.each import each
from tests.integration.sandbox.conftest import Client, HandClock, Start
from tests.integration.sandbox.control_support import (
    BUS,
    DESTINATION,
    DESTINATIONS,
    ONLY_POLLS,
    SUBSCRIPTION,
    SUBSCRIPTIONS,
    TARGET,
    TARGETS,
    ask,
    get,
    make,
    order,
)

pytestmark = pytest.mark.anyio


async def verify(client: Client, made: dict[str, Any]) -> dict[str, Any]:
    return await get(client, f"{made['selfUri']}/verify")


async def test_a_target_is_answered_as_in_the_seed_and_never_with_its_credentials(start: Start) -> None:
    client = await start()
    answer = await ask(client, "POST", TARGETS, TARGET)
    assert answer.status_code == 201
    made = answer.json()
    expected = {name: value for name, value in TARGET.items() if name != "authConfig"}
    assert expected.items() <= made.items()
    assert made["status"] == "PENDING_VERIFICATION"
    for text in (answer.text, (await ask(client, "GET", made["selfUri"])).text):
        assert "authConfig" not in text
        assert "never-to-be-seen" not in text
    assert client.sandbox.control.targets[made["id"]].secrets == TARGET["authConfig"]


@each(
    ("changes", "field"),
    [
        ({"name": ""}, "name"),
        ({"name": "n" * 101}, "name"),
        ({"name": ...}, "name"),
        ({"endpointUrl": "http://api.example.com/x"}, "endpointUrl"),
        ({"endpointUrl": "https://u:p@api.example.com/x"}, "endpointUrl"),
        ({"authType": "DIGEST"}, "authType"),
        ({"authConfig": {"username": "u"}}, ""),
        ({"authConfig": {"username": "u", "password": None}}, "authConfig.password"),
        ({"authType": "NONE"}, ""),
        ({"authType": "JWT", "authConfig": {}}, ""),
        ({"retryPolicy": TARGET["retryPolicy"] | {"maxRetries": 11}}, "retryPolicy.maxRetries"),
        ({"retryPolicy": TARGET["retryPolicy"] | {"backoffStrategy": "NO"}}, "retryPolicy.backoffStrategy"),
        (
            {"retryPolicy": TARGET["retryPolicy"] | {"initialDelaySeconds": 31}},
            "retryPolicy.initialDelaySeconds",
        ),
        ({"headers": {"X": "a\r\nb"}}, "headers"),
        ({"eventTypes": []}, "eventTypes"),
        ({"eventTypes": "ALL"}, "eventTypes"),
    ],
)
async def test_a_target_that_cannot_be_is_refused_by_its_field(
    start: Start, changes: dict[str, Any], field: str
) -> None:
    client = await start()
    answer = await ask(client, "POST", TARGETS, TARGET, **changes)
    assert (answer.status_code, answer.json()["details"][0]["fieldName"]) == (400, field)
    assert len(client.sandbox.control.targets) == 0


async def test_the_same_target_twice_is_two_targets(start: Start) -> None:
    client = await start()
    await make(client, TARGETS)
    await make(client, TARGETS)
    assert len(client.sandbox.control.targets.named("orders")) == 2


async def test_a_target_is_verified_at_the_second_poll_and_the_answer_has_no_id(start: Start) -> None:
    client = await start(control=ONLY_POLLS)
    made = await make(client, TARGETS)
    assert await verify(client, made) == {"status": "PENDING_VERIFICATION"}
    assert (await get(client, made["selfUri"]))["status"] == "PENDING_VERIFICATION", "a read is no poll"
    assert await verify(client, made) == {"status": "VERIFIED"}
    assert (await get(client, made["selfUri"]))["status"] == "VERIFIED"


async def test_a_target_is_verified_after_some_time_if_polls_do_not_count(start: Start) -> None:
    clock = HandClock()
    client = await start(clock=clock, control=ControlOptions(verified_at_poll=0, verified_after_s=5))
    made = await make(client, TARGETS)
    assert [(await verify(client, made))["status"] for _ in range(5)] == ["PENDING_VERIFICATION"] * 5
    clock.now += 5
    assert (await get(client, made["selfUri"]))["status"] == "VERIFIED"


@each("path", [TARGETS, DESTINATIONS])
@each(
    ("fault", "status"),
    [("verify-fail", "FAILED"), ("verify-timeout", "TIMEOUT"), ("verify-odd", "UNDER_REVIEW")],
)
async def test_a_verification_fails_by_fault_and_succeeds_without_it(
    start: Start, path: str, fault: str, status: str
) -> None:
    client = await start(control=ONLY_POLLS, faults=parse_faults([f"{fault}:1"]))
    made = await make(client, path)
    answers = [await verify(client, made) for _ in range(3)]
    assert [answer["status"] for answer in answers] == ["PENDING_VERIFICATION", status, status]
    assert ("error" in answers[-1]) == (status != "UNDER_REVIEW")
    order(client)
    assert await verify(client, made) == {"status": "VERIFIED"}


async def test_another_endpoint_or_login_is_verified_anew_and_nothing_else(start: Start) -> None:
    client = await start(control=ONLY_POLLS)
    made = await make(client, TARGETS)
    for _ in range(2):
        await verify(client, made)

    async def put(**changes: object) -> str:
        answer = await ask(client, "PUT", made["selfUri"], TARGET, **changes)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["status"])

    assert await put(eventTypes=["X"], authConfig=...) == "VERIFIED"
    stored = client.sandbox.control.targets[made["id"]]
    assert stored.secrets == TARGET["authConfig"], "credentials that are left out stay"
    assert await put(authConfig={"username": "u", "password": "other"}) == "PENDING_VERIFICATION"
    for _ in range(2):
        await verify(client, made)
    assert stored.status == "VERIFIED"
    assert await put(endpointUrl="https://elsewhere.example.com/") == "PENDING_VERIFICATION"


async def test_health_is_asked_by_post_and_bad_by_fault(start: Start) -> None:
    client = await start()
    made = await make(client, TARGETS)
    health = f"{made['selfUri']}/health"
    assert (await ask(client, "POST", health)).json()["status"] == "HEALTHY"
    order(client, "health-fail:1")
    sick = (await ask(client, "POST", health, {})).json()
    assert (sick["status"], "error" in sick) == ("UNHEALTHY", True)
    assert (await ask(client, "GET", health)).status_code == 405


async def test_a_destination_cannot_be_enabled_before_its_time(start: Start) -> None:
    client = await start(control=ONLY_POLLS)
    seed = await ask(client, "POST", DESTINATIONS, DESTINATION, enabled=True)
    assert (seed.status_code, seed.json()["code"]) == (400, "destination.not.ready")
    made = await make(client, DESTINATIONS)

    async def enable() -> int:
        return (await ask(client, "PATCH", made["selfUri"], {"enabled": True})).status_code

    assert await enable() == 400
    for _ in range(2):
        await verify(client, made)
    assert await enable() == 400, "verified, but with no event type"
    body = {"destinationId": made["id"], "eventTypes": ["conversation"]}
    assert (await ask(client, "POST", f"{DESTINATIONS}/subscriptions", body)).status_code == 201
    assert await enable() == 200
    assert (await get(client, made["selfUri"]))["enabled"] is True
    moved = await ask(client, "PATCH", made["selfUri"], {"settings": {"eventBridgeArn": BUS + "2"}})
    assert (moved.json()["enabled"], moved.json()["status"]) == (False, "PENDING_VERIFICATION")


@each(
    "arn",
    [
        "arn:aws:events:us-east-1:123456789012:partner-event-bus/aws.partner/genesys.com/1/genesys-events",
        BUS + "\n",
        BUS.replace("123456789012", "1234"),
        BUS.replace(":events:", ":sqs:"),
        "genesys-events",
    ],
)
async def test_an_arn_that_no_bus_has_is_refused(start: Start, arn: str) -> None:
    client = await start()
    answer = await ask(client, "POST", DESTINATIONS, DESTINATION, settings={"eventBridgeArn": arn})
    assert (answer.status_code, answer.json()["details"][0]["fieldName"]) == (400, "settings.eventBridgeArn")


@each("partition", ["aws", "aws-us-gov", "aws-cn", "aws-eusc"])
async def test_a_bus_of_any_partition_is_taken(start: Start, partition: str) -> None:
    client = await start()
    arn = BUS.replace("arn:aws:", f"arn:{partition}:", 1)
    await make(client, DESTINATIONS, settings={"eventBridgeArn": arn})


async def test_event_types_come_a_hundred_at_a_time_and_go_one_by_one(start: Start) -> None:
    client = await start()
    made = await make(client, DESTINATIONS)
    types = [f"v2.detail.events.conversation.{{id}}.n{number:03}" for number in range(101)]
    place, body = f"{DESTINATIONS}/subscriptions", {"destinationId": made["id"]}
    answer = await ask(client, "POST", place, body | {"eventTypes": types})
    assert (answer.status_code, answer.json()["limit"]["value"]) == (400, 100)
    for part in (types[:100], types[99:]):
        assert (await ask(client, "POST", place, body | {"eventTypes": part})).status_code == 201
    own = f"{made['selfUri']}/subscriptions"
    page = await get(client, f"{own}?pageSize=100")
    assert (page["total"], page["pageCount"]) == (101, 2)
    assert [one["eventType"] for one in page["entities"]] == types[:100]
    one = f"{own}/{quote(types[0], safe='')}"
    assert [(await ask(client, "DELETE", one)).status_code for _ in range(2)] == [204, 404]
    assert (await get(client, made["selfUri"]))["subscriptions"] == types[1:]


async def test_the_organisation_has_25_subscriptions(start: Start) -> None:
    client = await start()
    made = [await make(client, SUBSCRIPTIONS, name=f"s{number}") for number in range(25)]
    answer = await ask(client, "POST", SUBSCRIPTIONS, SUBSCRIPTION)
    assert (answer.status_code, answer.json()["code"]) == (400, "limit.exceeded")
    assert answer.json()["limit"] == {
        "key": "subscription.max",
        "namespace": "event.orchestration",
        "value": 25,
    }
    await ask(client, "DELETE", made[3]["selfUri"])
    await make(client, SUBSCRIPTIONS)


async def test_the_limit_of_subscriptions_is_left_to_the_client_by_option(start: Start) -> None:
    client = await start(control=ControlOptions(limit_enforced=False))
    for number in range(26):
        await make(client, SUBSCRIPTIONS, name=f"s{number}")


@each(
    ("changes", "field"),
    [
        ({"topic_arn": SUBSCRIPTION["topic_arn"] + "\n"}, "topic_arn"),
        ({"filter_policy": {}}, "filter_policy"),
        ({"filter_policy": {"a": []}}, "filter_policy"),
        ({"filter_policy": {"a": {"b": "c"}}}, "filter_policy"),
        ({"destination": {"arn": "arn:aws:iam::1:role/x"}}, "destination.arn"),
    ],
)
async def test_a_subscription_that_cannot_be_is_refused(
    start: Start, changes: dict[str, Any], field: str
) -> None:
    client = await start()
    answer = await ask(client, "POST", SUBSCRIPTIONS, SUBSCRIPTION, **changes)
    assert (answer.status_code, answer.json()["details"][0]["fieldName"]) == (400, field)


async def test_a_subscription_is_replaced_as_a_whole(start: Start) -> None:
    client = await start()
    made = await make(client, SUBSCRIPTIONS)
    assert (made["topic_arn"], made["status"]) == (SUBSCRIPTION["topic_arn"], "ACTIVE")
    put = await ask(client, "PUT", made["selfUri"], made, enabled=False)
    assert put.status_code == 200, "what the server filled in may come back"
    assert (await get(client, made["selfUri"]))["status"] == "INACTIVE"
