"""Faults 49 to 54 and 57 of the tutorial on topic subscriptions, and what else a subscription promises."""

import asyncio
import json
from typing import Any

import pytest

from ingestd.control.engine.resource import Context
from ingestd.control.subscription.subscription import PATH, SubscriptionKind
from ingestd.core.errors import UserError
from ingestd.sandbox.faults import parse_script
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.transport.api_client import AmbiguousRequest, ApiError
from tests.each import each
from tests.integration.control.target_support import open_sandbox
from tests.integration.control.world import Fault, World

pytestmark = pytest.mark.anyio

KIND = SubscriptionKind()
TOPIC = "arn:aws:events:us-east-1:123456789012:topic/genesys-cx-events"
BUS = "arn:aws-cn:events:cn-north-1:123456789012:event-bus/aws.partner/genesys.com/cloud/o-1/prod"
ROLE = "arn:aws-us-gov:iam::123456789012:role/teams/cx/genesys+bridge=1,a.b@c"
TABLE: dict[str, Any] = {
    "topic_arn": TOPIC,
    "filter_policy": {
        "eventType": ["routing.contact.queued"],
        "detail": {"n": [{"numeric": [">", 5, "<", 9]}]},
    },
    "role_arn": ROLE,
}


async def make(context: Context, name: str = "cx", **changes: Any) -> Any:
    wanted = KIND.parse(name, TABLE | changes)
    made = await KIND.create(context, wanted, {})
    return await KIND.settle(context, made, wanted)


async def test_what_is_sent_is_what_the_tutorial_sends_and_what_is_read_is_equal() -> None:
    async with open_sandbox() as session:
        found = await make(session.context())
        assert found.fields == KIND.parse("cx", TABLE).fields
        assert [one.fields for one in await KIND.read(session.context())] == [found.fields]
        assert KIND.parse("cx", KIND.export(found)).fields == found.fields
        changed = KIND.parse("cx", TABLE | {"enabled": False, "topic_arn": BUS})
        after = await KIND.update(session.context(), found, changed, {})
        assert (after.fields, after.state) == (changed.fields, "INACTIVE")
        await KIND.delete(session.context(), after)
        assert not await KIND.read(session.context())
    assert session.entries() == ["SUBSCRIPTION_CREATED", "SUBSCRIPTION_UPDATED", "SUBSCRIPTION_DELETED"]


async def test_the_status_is_the_apis_own_word() -> None:  # fault 54
    async with open_sandbox() as session:
        found = await make(session.context(), enabled=False)
    assert found.state == "INACTIVE"  # the tutorial says "active"
    assert session.notes[0].fields["status"] == "INACTIVE"
    assert session.notes[0].fields["enabled"] is False


async def test_a_state_under_way_is_waited_for_and_a_failed_one_is_told() -> None:  # fault 54
    world = World()
    its_id = world.place("subscriptions", name="cx", status="PENDING", topic_arn=TOPIC)
    [found] = await KIND.read(world.context())
    assert not found.settled
    world.on_call = lambda method, path: world.thing("subscriptions", "cx").body.update(
        {"status": "ACTIVE"} if world.now > 3 else {}
    )
    wanted = KIND.parse("cx", TABLE)
    assert (await KIND.settle(world.context(), found, wanted)).state == "ACTIVE"
    assert world.now > 3
    world.on_call = lambda method, path: None
    world.collections["subscriptions"].things[its_id].body["status"] = "FAILED"
    with pytest.raises(UserError, match="subscription cx: it is FAILED"):
        await KIND.settle(world.context(), (await KIND.read(world.context()))[0], wanted)
    assert AuditEntry(world.notes[-1].entry) is AuditEntry.SUBSCRIPTION_FAILED


async def test_what_the_api_refuses_is_noted_too() -> None:  # fault 54
    world = World()
    refusal = ApiError("POST", PATH, status=403, message="missing permission")
    world.faults[1] = Fault("before", refusal)
    with pytest.raises(ApiError):
        await make(world.context())
    assert [(note.entry, "missing permission" in str(note.fields["error"])) for note in world.notes] == [
        ("SUBSCRIPTION_FAILED", True)
    ]


@each("page_count", [True, False])
async def test_the_limit_is_counted_over_all_pages_of_the_organisation(page_count: bool) -> None:  # fault 51
    async with open_sandbox(page_count=page_count, limit_enforced=False) as session:
        for number in range(120):  # more than a page: somebody's older ones
            body = {"name": f"old-{number}", "topic_arn": TOPIC, "filter_policy": {"a": ["b"]}}
            await session.api.post(PATH, body | {"destination": {"arn": ROLE}})
        assert len(await KIND.read(session.context())) == 120
        with pytest.raises(UserError, match="has 120, and 25 are possible"):
            await make(session.context())
        assert session.sandbox is not None
        assert len(session.sandbox.control.subscriptions) == 120
    assert session.entries() == ["SUBSCRIPTION_FAILED"]


async def test_of_those_who_counted_at_the_same_time_the_newest_take_theirs_back() -> None:  # fault 51
    async with open_sandbox(limit_enforced=False) as session:
        context = session.context()
        for number in range(23):
            await make(context, f"s{number}")
        outcomes = await asyncio.gather(
            *(make(context, f"racer-{number}") for number in range(6)), return_exceptions=True
        )
        assert session.sandbox is not None
        kept = {one.name for one in session.sandbox.control.subscriptions}
    lost = [outcome for outcome in outcomes if isinstance(outcome, UserError)]
    assert len(lost) == 4
    assert len(kept) == 25
    won = {outcome.key for outcome in outcomes if not isinstance(outcome, BaseException)}
    assert won == {name for name in kept if name.startswith("racer")}
    assert session.entries().count("SUBSCRIPTION_FAILED") == 4


async def test_one_too_many_of_unknown_age_is_taken_back_and_told() -> None:  # fault 51
    world = World()
    for number in range(24):
        world.place("subscriptions", name=f"s{number}")

    def race(method: str, path: str) -> None:
        if method == "POST":
            world.on_call = lambda method, path: None
            world.place("subscriptions", name="somebody else's")
            world.collections["subscriptions"].check_new = lambda body, here: None  # type: ignore[method-assign]

    world.on_call = race
    with pytest.raises(UserError, match="the one just made was deleted again"):
        await make(world.context())
    assert len(world.names("subscriptions")) == 25
    assert "cx" not in world.names("subscriptions")


async def test_the_limit_that_the_server_tells_is_the_truth() -> None:  # fault 51
    async with open_sandbox(max_subscriptions=2) as session:
        for name in ("a", "b"):
            await make(session.context(), name)
        with pytest.raises(ApiError) as told:
            await make(session.context(), "c")
        assert told.value.is_limit
        assert (told.value.limit or {})["value"] == 2
    assert session.entries()[-1] == "SUBSCRIPTION_FAILED"


@each("number", range(5))
@each("when", ["before", "after"])
async def test_a_create_that_was_cut_off_is_not_made_twice(when: Any, number: int) -> None:
    world = World()
    world.faults[number] = Fault(when)
    try:
        await make(world.context())
    except UserError:
        world.faults.clear()
        await make(world.context())
    assert world.names("subscriptions") == ["cx"]


async def test_a_lost_answer_to_the_create_is_looked_up_at_once() -> None:
    world = World()
    world.faults[1] = Fault("after", AmbiguousRequest("POST", PATH))
    assert (await make(world.context())).key == "cx"


async def test_one_of_that_name_is_taken_up_and_changed() -> None:
    async with open_sandbox() as session:
        first = await make(session.context())
        again = await make(session.context())
        changed = await make(session.context(), enabled=False)
        assert session.sandbox is not None
        assert len(session.sandbox.control.subscriptions) == 1
    assert first.id == again.id == changed.id
    assert session.entries() == ["SUBSCRIPTION_CREATED", "SUBSCRIPTION_UPDATED"]


async def test_a_token_that_expires_meanwhile_is_renewed() -> None:  # fault 49
    async with open_sandbox() as session:
        await make(session.context(), "before")
        assert session.sandbox is not None
        session.clock.now += 7200  # by our clock: past what expires_in said
        await make(session.context(), "after")
        assert session.sandbox.api.tokens.issued == 2


async def test_a_429_is_waited_for_as_long_as_it_says_and_the_create_made_once() -> None:  # faults 50, 57
    async with open_sandbox() as session:
        assert session.sandbox is not None
        answer = {"status": 429, "headers": {"Retry-After": "7"}}
        rules = parse_script(json.dumps([{"match": {"path": PATH, "nth": 1}, "answer": answer}]).encode())
        session.sandbox.set_faults((), rules)
        start = session.clock.monotonic()
        await make(session.context())
        assert len(session.sandbox.control.subscriptions) == 1
        assert session.clock.monotonic() - start >= 7


@each(
    ("changes", "told"),
    [
        ({"filter_policy": {"a": []}}, "filter_policy: a: expected at least one value"),  # fault 53
        ({"filter_policy": {}}, "filter_policy: expected at least one field"),
        ({"filter_policy": {"a": "b"}}, "filter_policy: a: expected an array"),
        ({"filter_policy": {"a": [{"prefx": "x"}]}}, "did you mean 'prefix'"),
        ({"filter_policy": "{"}, "filter_policy: it is not JSON"),
        ({"filter_policy": '{"a":{"b":[1]},"a":{"c":[2]}}'}, "'a' stands twice"),
        ({"filter_policy": '{"a":[{"prefix":"a","prefix":"b"}]}'}, "'prefix' stands twice"),
        ({"filter_policy": {"a": [{"anything-but": {"suffix": []}}]}}, "found an empty array"),
        ({"filter_policy": {"a": [{"numeric": [">", 10**400]}]}}, "a number that a double can hold"),
        (
            {"filter_policy": {"a": {"ip": [{"cidr": "10.1.2.3/32"}]}}},
            "a.ip: 10.1.2.3/32 is a single address",
        ),
        ({"filter_policy": {"$or": [{"a": [{"cidr": "::1/128"}]}, {"b": [1]}]}}, 'write ["::1"]'),
        ({"filter_policy": ["a"]}, "filter_policy: expected a table"),
        ({"topic_arn": f"{TOPIC}\n"}, "topic_arn"),  # fault 52
        ({"role_arn": f"{ROLE}\n"}, "role_arn"),
        ({"role_arn": "arn:aws:iam::123456789012:user/x"}, "the resource of the ARN"),
        ({"role_arn": None}, "destination_url: give it, or role_arn, or both"),
        ({"destination_url": "http://example.com/x"}, "it must begin with https://"),
        ({"destination_url": "https://me:pw@example.com/x"}, "user or password"),
        ({"destination_url": 7}, "expected a URL"),
        ({"check_destination": "GET"}, "expected HEAD, POST or NONE"),
        ({"callback": "genesys-sync"}, "callback"),
        ({"enabled": 1}, "expected true or false"),
        ({"destination": {}}, "did you mean destination_url"),
    ],
)
async def test_what_is_wrong_with_a_table_is_told(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=r"^subscription cx: ") as error:
        KIND.parse("cx", TABLE | changes)
    assert told in str(error.value)
    assert "pw" not in str(error.value)


async def test_topics_buses_and_roles_of_all_partitions_are_taken() -> None:  # fault 52
    for topic in (TOPIC, BUS, TOPIC.replace(":aws:", ":aws-us-gov:").replace("us-east-1", "us-gov-west-1")):
        assert KIND.parse("cx", TABLE | {"topic_arn": topic}).fields["topic_arn"] == topic


async def test_the_whole_pattern_language_is_a_filter() -> None:  # fault 53
    policy = {
        "detail": {
            "a": [{"anything-but": ["x", "y"]}, None, ""],
            "b": [{"numeric": [">=", 1, "<", 5]}],
            "t": [{"numeric": [">", 1764300000000]}, {"anything-but": 123456789012}],
            "$or": [{"c": [{"cidr": "10.0.0.0/8"}]}, {"d": [{"exists": False}, {"wildcard": "a*b"}]}],
        }
    }
    as_table = KIND.parse("cx", TABLE | {"filter_policy": policy})
    as_text = KIND.parse("cx", TABLE | {"filter_policy": json.dumps(policy)})
    assert as_table.fields == as_text.fields
    assert as_table.fields["filter_policy"]["detail"]["b"] == [{"numeric": [">=", 1, "<", 5]}]
