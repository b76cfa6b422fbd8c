"""Faults 19 to 22 of the tutorial on destinations, and what else a destination promises."""

from typing import Any

import pytest

from ingestd.control.destination.destination import PATH, DestinationKind
from ingestd.control.engine.resource import AuditStep, RemoteResource
from ingestd.core.errors import UserError
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.transport.api_client import AmbiguousRequest, ApiError
from tests.each import each
from tests.integration.control.target_support import open_sandbox
from tests.integration.control.world import Fault, World

pytestmark = pytest.mark.anyio

KIND = DestinationKind()
SOURCE = "aws.partner/genesys.com/cloud/a1b2c3d4-1111-2222-3333-444455556666/prod"
BUS = f"arn:aws:events:us-east-1:123456789012:event-bus/{SOURCE}"
OTHER_BUS = BUS.replace("/prod", "/next")
TABLE: dict[str, Any] = {"event_bus_arn": BUS, "event_types": ["v2.users.{id}.presence", "v2.audits"]}


def calls(world: World, method: str, ending: str = "") -> int:
    return sum(1 for verb, path in world.calls if verb == method and path.endswith(ending))


def entries(notes: list[AuditStep]) -> list[str]:
    return [AuditEntry(note.entry).value for note in notes]


async def apply(world: World, table: dict[str, Any], *, deadline_s: float = 60.0) -> RemoteResource:
    """As an apply does it: read, create or update, settle."""
    context, wanted = world.context(deadline_s=deadline_s), KIND.parse("stream", table)
    there = [found for found in await KIND.read(context) if found.key == wanted.key]
    if not there:
        found = await KIND.create(context, wanted, {})
    elif there[0].fields != wanted.fields:
        found = await KIND.update(context, there[0], wanted, {})
    else:
        found = there[0]
    return await KIND.settle(context, found, wanted)


async def test_nothing_is_enabled_before_it_is_subscribed_and_verified() -> None:  # fault 20
    world = World(polls=3)
    states: list[tuple[str, bool, bool]] = []

    def look(method: str, path: str) -> None:
        if method == "PATCH":
            thing = world.thing("destinations", "stream")
            states.append((thing.body["status"], thing.body["enabled"], bool(thing.event_types)))

    world.on_call = look
    found = await apply(world, TABLE)
    assert states == [("VERIFIED", False, True)]
    assert found.settled
    assert found.state == "VERIFIED"
    assert found.fields == KIND.parse("stream", TABLE).fields
    assert entries(world.notes) == ["DESTINATION_CREATED", "DESTINATION_VERIFIED", "DESTINATION_UPDATED"]


@each("when", ["before", "after"])
async def test_whatever_call_is_cut_off_the_next_run_ends_in_the_same_world(when: Any) -> None:  # fault 20
    table = TABLE | {"event_types": [f"type-{n}" for n in range(130)]}
    whole = World()
    await apply(whole, table)
    for number in range(len(whole.calls)):
        world = World()
        world.faults[number] = Fault(when)
        try:
            await apply(world, table)
        except UserError:
            world.faults.clear()
            found = await apply(world, table)
            assert found.settled
        assert world.names("destinations") == ["stream"], f"call {number}: {whole.calls[number]}"
        assert world.snapshot() == whole.snapshot()


async def test_a_second_run_changes_nothing_and_a_second_of_that_name_is_not_made() -> None:  # fault 20
    world = World()
    first = await apply(world, TABLE)
    before = len(world.calls)
    assert await apply(world, TABLE) == first
    assert {method for method, _ in world.calls[before:]} == {"GET"}
    context = world.context()
    adopted = await KIND.create(context, KIND.parse("stream", TABLE), {})  # from a list that was too old
    assert adopted.id == first.id
    assert world.names("destinations") == ["stream"]


async def test_two_of_one_name_are_for_a_person_to_decide() -> None:
    world = World()
    for _ in range(2):
        world.place("destinations", name="stream", status="VERIFIED")
    with pytest.raises(UserError, match="2 have that name: delete all but one"):
        await KIND.create(world.context(), KIND.parse("stream", TABLE), {})


async def test_event_types_go_in_calls_of_a_hundred() -> None:
    world = World()
    await apply(world, TABLE | {"event_types": [f"type-{n}" for n in range(250)]})
    assert calls(world, "POST", "/subscriptions") == 3
    assert len(world.thing("destinations", "stream").event_types) == 250


async def test_event_types_are_added_and_removed_by_their_difference() -> None:
    world = World()
    await apply(world, TABLE | {"event_types": ["a", "b/with slash", "c"]})
    before = len(world.calls)
    await apply(world, TABLE | {"event_types": ["c", "d"]})
    assert world.thing("destinations", "stream").event_types == {"c", "d"}
    changes = [(method, path.removeprefix(PATH)) for method, path in world.calls[before:] if method != "GET"]
    its_id = world.thing("destinations", "stream").body["id"]
    assert changes == [
        ("POST", "/subscriptions"),
        ("DELETE", f"/{its_id}/subscriptions/a"),
        ("DELETE", f"/{its_id}/subscriptions/b%2Fwith%20slash"),
    ]
    assert world.thing("destinations", "stream").body["enabled"]


@each("state", ["FAILED", "TIMEOUT"])
async def test_one_that_cannot_be_verified_stays_disabled_and_is_told(state: str) -> None:  # faults 21, 22
    world = World()
    world.ways.outcomes["stream"] = state
    with pytest.raises(UserError, match=f"{state}.*it stays, disabled") as told:
        await apply(world, TABLE)
    assert f"arn:aws:events:us-east-1::event-source/{SOURCE}" in str(told.value)
    assert "polic" not in str(told.value)  # partner buses need none, and AWS refuses it
    assert not world.thing("destinations", "stream").body["enabled"]
    assert entries(world.notes)[-1] == "DESTINATION_VERIFICATION_FAILED"
    world.ways.outcomes.clear()
    world.thing("destinations", "stream").body["status"] = "PENDING_VERIFICATION"
    assert (await apply(world, TABLE)).settled


async def test_a_state_that_nobody_knows_ends_with_the_deadline() -> None:  # fault 21
    world = World()
    world.ways.outcomes["stream"] = "UNDER_REVIEW"
    with pytest.raises(UserError, match="not verified within 20 s, still UNDER_REVIEW"):
        await apply(world, TABLE, deadline_s=20)
    assert 10 < world.now <= 20
    assert calls(world, "GET", "/verify") < 15


async def test_subscriptions_that_did_not_come_to_be_keep_it_disabled() -> None:  # fault 21
    world = World()

    def lose(method: str, path: str) -> None:
        if path.endswith("/verify"):
            world.thing("destinations", "stream").event_types.discard("v2.audits")

    world.on_call = lose
    with pytest.raises(UserError, match=r"not as they were sent \(v2\.audits\)"):
        await apply(world, TABLE)
    assert not world.thing("destinations", "stream").body["enabled"]
    assert entries(world.notes)[-1] == "DESTINATION_FAILED"


async def test_another_bus_is_verified_before_anything_goes_there() -> None:
    world = World()
    await apply(world, TABLE)
    states: list[tuple[str, bool]] = []

    def look(method: str, path: str) -> None:
        body = world.thing("destinations", "stream").body
        states.append((body["settings"]["eventBridgeArn"], body["enabled"] and body["status"] != "VERIFIED"))

    world.on_call = look
    found = await apply(world, TABLE | {"event_bus_arn": OTHER_BUS})
    assert found.settled
    assert found.fields["event_bus_arn"] == OTHER_BUS
    assert not any(unverified for _, unverified in states)


async def test_one_that_is_to_be_disabled_is_verified_and_left_so() -> None:
    world = World()
    await apply(world, TABLE)
    assert not (await apply(world, TABLE | {"enabled": False})).fields["enabled"]
    before = len(world.calls)
    assert (await apply(world, TABLE | {"enabled": False})).settled
    assert {method for method, _ in world.calls[before:]} == {"GET"}


async def test_a_refused_create_is_noted_with_its_reason() -> None:
    world = World()
    world.faults[2] = Fault("before", ApiError("POST", PATH, status=403, message="missing permission"))
    with pytest.raises(ApiError):
        await apply(world, TABLE)
    assert entries(world.notes) == ["DESTINATION_FAILED"]
    assert "missing permission" in str(world.notes[0].fields["error"])


async def test_a_lost_answer_to_the_create_is_looked_up_at_once() -> None:
    world = World()
    world.faults[2] = Fault("after", AmbiguousRequest("POST", PATH))
    assert (await apply(world, TABLE)).settled
    assert world.names("destinations") == ["stream"]


@each(
    ("table", "told"),
    [
        ({"event_bus_arn": BUS.replace("event-bus/", "partner-event-bus/")}, "the resource of the ARN"),
        ({"event_bus_arn": f"{BUS}\n"}, "no ARN has"),
        ({"event_bus_arn": BUS.replace(SOURCE, "default")}, "partner event source"),
        ({"event_types": []}, "event_types: expected a list of 1 to"),
        ({"event_types": ["a", 7]}, "event_types"),
        ({"event_types": ["a\n"]}, "event_types"),
        ({"enabled": "yes"}, "enabled: expected true or false"),
        ({"event_type": ["a"]}, "did you mean event_types"),
        ({"name": ""}, "name: expected one line of 1 to 100"),
        ({"after": ["integration"]}, "after: expected"),
    ],
)
async def test_what_is_wrong_with_a_table_is_told_by_kind_name_and_field(table: Any, told: str) -> None:
    with pytest.raises(UserError, match=r"^destination stream: ") as error:
        KIND.parse("stream", TABLE | table)
    assert told in str(error.value)


async def test_a_missing_bus_is_told() -> None:
    with pytest.raises(UserError, match="event_bus_arn: required, but missing"):
        KIND.parse("stream", {"event_types": ["a"]})


async def test_a_sandbox_that_is_slow_to_show_things_gets_to_the_same_end() -> None:
    options = {"hidden_reads": 2, "verified_at_poll": 3, "max_page_size": 100}
    async with open_sandbox(**options) as session:
        context = session.context()
        wanted = KIND.parse("stream", TABLE | {"event_types": [f"type-{n}" for n in range(150)]})
        made = await KIND.create(context, wanted, {})
        assert not made.settled
        found = await KIND.settle(context, made, wanted)
        assert found.settled
        assert [one for one in await KIND.read(context) if one.id == found.id] == [found]
        await KIND.delete(context, found)
        assert not await KIND.read(context)
    assert session.entries()[0] == "DESTINATION_CREATED"
    assert session.entries()[-1] == "DESTINATION_DELETED"
