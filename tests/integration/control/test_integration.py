import json
from dataclasses import replace
from itertools import product
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.control.engine.lookup import LOOK_AGAIN_S
from ingestd.control.engine.resource import Wanted
from ingestd.control.integration.state import PATH
from ingestd.core.errors import UserError
from ingestd.sandbox.faults import parse_faults
from ingestd.transport.api_client import AmbiguousRequest
from tests.each import each
from tests.integration.control.integration_support import KIND, PROPERTIES, TOPICS, config, make, only, parse
from tests.integration.control.target_support import open_sandbox
from tests.integration.control.world import Fault, World


@pytest.mark.anyio
@each("lag_reads", [0, 3])
async def test_it_is_made_configured_enabled_and_waited_for(lag_reads: int) -> None:
    world, wanted = World(lag_reads=lag_reads, polls=3), parse(notes="ours")
    found = await make(world, wanted)
    assert (found.fields, found.state, found.settled) == (wanted.fields, "ACTIVE", True)
    assert replace(await only(world), version=found.version) == found
    assert config(world)["properties"] == PROPERTIES | {"eventFilter": sorted(TOPICS)}
    changes = [
        (method, path.removeprefix(f"{PATH}/{found.id}")) for method, path in world.calls if method != "GET"
    ]
    assert changes == [("POST", PATH), ("PUT", "/config/current"), ("PATCH", "")]
    assert [step.entry for step in world.notes] == [
        "INTEGRATION_CREATED",
        "INTEGRATION_UPDATED",
        "INTEGRATION_UPDATED",
        "INTEGRATION_ACTIVATED",
    ]


@pytest.mark.anyio
async def test_its_id_is_known_before_anything_else_can_fail() -> None:  # fault 13
    world, wanted = World(), parse()
    found = await KIND.create(world.context(), wanted, {})
    assert found.id
    assert not found.settled
    assert world.calls[-1] == ("POST", PATH)


@pytest.mark.anyio
async def test_one_that_is_to_be_off_is_configured_and_never_enabled() -> None:
    world, wanted = World(), parse(enabled=False)
    found = await make(world, wanted)
    assert (found.fields, found.state, found.settled) == (wanted.fields, "INACTIVE", True)
    assert not [path for method, path in world.calls if method == "PATCH"]


@pytest.mark.anyio
async def test_whatever_call_fails_the_same_again_ends_with_one_that_is_active() -> None:  # faults 13, 16
    wanted, world = parse(), World(lag_reads=2, polls=2)
    await make(world, wanted)
    calls, expected = len(world.calls), world.snapshot()
    for number, fault in product(range(calls), (Fault("before"), Fault("after"))):
        world = World(lag_reads=2, polls=2)
        world.faults[number] = fault
        try:
            await make(world, wanted)
        except UserError:
            world.catch_up()
            await finish(world, wanted)
        assert world.snapshot() == expected, f"{fault} call {number}: {world.calls}"


async def finish(world: World, wanted: Wanted) -> None:
    """What the next apply does."""
    context = world.context()
    there = [one for one in await KIND.read(context) if one.key == wanted.key]
    if not there:
        await make(world, wanted)
        return
    [found] = there
    if found.fields != wanted.fields:
        found = await KIND.update(context, found, wanted, {})
    await KIND.settle(context, found, wanted)


@pytest.mark.anyio
async def test_a_create_whose_answer_was_lost_is_found_again_and_not_repeated() -> None:
    world = World(lag_reads=2)
    world.faults[1] = Fault("after")  # after the list, the POST
    await make(world, parse())
    assert world.names("integrations") == ["main"]
    assert [path for method, path in world.calls if method == "POST"] == [PATH]


@pytest.mark.anyio
async def test_a_create_that_was_lost_is_not_repeated_blindly() -> None:
    world = World()
    world.faults[1] = Fault("before")
    with pytest.raises(AmbiguousRequest):
        await make(world, parse())
    assert world.names("integrations") == []
    assert world.now >= LOOK_AGAIN_S
    assert (await make(world, parse())).settled


@pytest.mark.anyio
async def test_one_of_that_name_that_appeared_meanwhile_is_not_taken_over() -> None:
    world = World()
    world.place("integrations", name="main", properties=PROPERTIES | {"eventSourceSuffix": "theirs"})
    before = world.snapshot()
    with pytest.raises(UserError, match="created by someone else meanwhile: plan again"):
        await make(world, parse())
    assert world.snapshot() == before


@pytest.mark.anyio
async def test_two_of_that_name_are_a_question_for_a_person() -> None:
    world = World()
    for _ in range(2):
        world.place("integrations", name="main", properties=PROPERTIES)
    with pytest.raises(UserError, match="2 have that name"):
        await make(world, parse())


@pytest.mark.anyio
async def test_other_types_of_integrations_are_none_of_ours() -> None:
    world = World()
    world.place("integrations", name="main", integrationType={"id": "webhook"})
    assert not await KIND.read(world.context())


@pytest.mark.anyio
async def test_they_are_left_out_also_where_the_server_does_not_filter() -> None:
    world = World()
    world.ways.filters = False
    world.place("integrations", name="theirs", integrationType={"id": "webhook"})
    await make(world, parse())
    assert (await only(world)).key == "main"


@pytest.mark.anyio
@each("when", ["before", "after"])
async def test_what_can_be_said_twice_is_said_again_when_the_answer_was_lost(
    when: Literal["before", "after"],
) -> None:
    world = World()

    def lose(method: str, path: str) -> None:
        if method == "PATCH" and not world.faults:
            world.faults[len(world.calls) - 1] = Fault(when)

    world.on_call = lose
    assert (await make(world, parse())).state == "ACTIVE"
    assert [method for method, _ in world.calls].count("PATCH") == 2


@pytest.mark.anyio
async def test_what_the_server_fills_in_is_no_difference() -> None:
    world = World()
    world.place("integrations", name="main", properties=PROPERTIES, intendedState="ENABLED")
    assert config(world)["notes"] == "node_dynamodb_empty_string"
    found = await only(world)
    assert found.fields == parse().fields
    assert found.settled


@pytest.mark.anyio
async def test_the_state_error_is_told_in_the_apis_words_and_the_next_apply_starts_it_anew() -> None:
    world, wanted = World(), parse()
    world.ways.outcomes["main"] = "ERROR"
    with pytest.raises(UserError, match="integration main is in the state ERROR: the AWS account refused"):
        await make(world, wanted)
    assert world.notes[-1].entry == "INTEGRATION_FAILED"
    found = await only(world)
    assert (found.state, found.settled, found.fields) == ("ERROR", False, wanted.fields)
    del world.ways.outcomes["main"]
    world.calls.clear()
    assert (await KIND.settle(world.context(), found, wanted)).settled
    assert [method for method, _ in world.calls].count("PATCH") == 2


@pytest.mark.anyio
@each("outcome", ["ACTIVATING", "DREAMING"])
async def test_waiting_ends_at_the_deadline_with_the_state_and_can_go_on(outcome: str) -> None:  # fault 14
    world, wanted = World(), parse()
    world.ways.outcomes["main"] = outcome
    found = await KIND.create(world.context(), wanted, {})
    with pytest.raises(
        UserError, match=f"after 30 s the API still reports {outcome} .*the next apply goes on"
    ):
        await KIND.settle(world.context(deadline_s=30.0), found, wanted)
    assert 30.0 <= world.now <= 40.0
    del world.ways.outcomes["main"]
    assert (await KIND.settle(world.context(), await only(world), wanted)).settled


@pytest.mark.anyio
async def test_one_that_is_settled_is_left_alone() -> None:
    world, wanted = World(), parse()
    found = await make(world, wanted)
    world.calls.clear()
    assert await KIND.settle(world.context(), found, wanted) == found
    assert not world.calls


@pytest.mark.anyio
async def test_it_is_switched_off_and_on_without_touching_its_configuration() -> None:
    world = World(polls=2)
    await make(world, parse())
    for enabled, state in ((False, "INACTIVE"), (True, "ACTIVE")):
        wanted, context = parse(enabled=enabled), world.context()
        found = await KIND.update(context, await only(world), wanted, {})
        assert not found.settled
        assert (await KIND.settle(context, found, wanted)).state == state
    assert config(world)["version"] == 2


@pytest.mark.anyio
async def test_a_delete_disables_first_waits_and_is_at_peace_with_what_is_gone() -> None:
    world = World(polls=2)
    found = await make(world, parse())
    world.calls.clear()
    await KIND.delete(world.context(), found)
    assert world.names("integrations") == []
    methods = [method for method, _ in world.calls]
    assert methods == ["GET", "PATCH", "GET", "GET", "DELETE"]  # not while it is DEACTIVATING
    await KIND.delete(world.context(), found)
    assert world.notes[-1].entry == "INTEGRATION_DELETED"


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "name", "reportedState", "code", "properties", "eventFilter", "version"]),
            inner,
        )
    ),
    max_leaves=8,
)


@given(anything, anything)
def test_answers_of_any_shape_are_read(entity: Any, config: Any) -> None:
    json.dumps(KIND.found_of(entity, config).fields)


@pytest.mark.anyio
@each("as_400", [False, True])
async def test_in_the_sandbox_it_lives_its_whole_life(as_400: bool) -> None:
    async with open_sandbox(hidden_reads=2, conflict_as_400=as_400) as session:
        context = session.context()
        found = await make(session, parse())
        assert [replace(found, version=2)] == await KIND.read(context)
        wanted = parse(suffix="orders-2", notes="moved")
        changed = await KIND.update(context, found, wanted, {})
        with pytest.raises(UserError, match="changed meanwhile"):
            await KIND.update(context, found, parse(suffix="orders-3"), {})
        await KIND.settle(context, changed, wanted)
        assert [one.fields for one in await KIND.read(context)] == [wanted.fields]
        await KIND.delete(context, changed)
        assert not await KIND.read(context)


@pytest.mark.anyio
async def test_in_the_sandbox_a_refusal_of_aws_is_told() -> None:
    async with open_sandbox() as session:
        assert session.sandbox
        session.sandbox.set_faults(parse_faults(["integration-error:1"]), ())
        with pytest.raises(UserError, match="ERROR: The AWS account refused"):
            await make(session, parse())
