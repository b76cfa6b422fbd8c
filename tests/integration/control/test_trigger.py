from collections.abc import Mapping
from datetime import date
from itertools import permutations, product
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.control.engine.compare import canonical
from ingestd.control.engine.lookup import LOOK_AGAIN_S
from ingestd.control.engine.resource import RemoteResource, Wanted
from ingestd.control.trigger.trigger import PATH, Trigger
from ingestd.core.errors import UserError
from ingestd.transport.api_client import AmbiguousRequest
from tests.each import each
from tests.integration.control.target_support import open_sandbox
from tests.integration.control.world import Fault, World

KIND = Trigger()
WORKFLOW = "0c3c2b1a-1111-4222-8333-444455556666"
TABLE = {"topic_name": "v2.detail.events.conversation.{id}.customer.end", "workflow_id": WORKFLOW}
CRITERIA: list[dict[str, Any]] = [
    {"json_path": "mediaType", "operator": "In", "values": ["VOICE", "CHAT"]},
    {"json_path": "disconnectType", "operator": "NotEqual", "value": "ERROR"},
    {"json_path": "body.open", "operator": "Exists", "value": True},
]


def parse(**changes: Any) -> Wanted:
    return KIND.parse("main", TABLE | changes)


async def make(world: World, wanted: Wanted) -> RemoteResource:
    context = world.context()
    return await KIND.settle(context, await KIND.create(context, wanted, {}), wanted)


async def only(world: World) -> RemoteResource:
    [found] = await KIND.read(world.context())
    return found


def body(world: World) -> dict[str, Any]:
    return world.thing("triggers", "main").body


def test_a_table_becomes_what_is_wanted_with_its_defaults() -> None:
    wanted = KIND.parse("main", TABLE | {"name": "End of call", "after": ["integration.main"]})
    assert (wanted.kind, wanted.name, wanted.key) == ("trigger", "main", "End of call")
    assert wanted.after == {("integration", "main")}
    assert wanted.fields == TABLE | {
        "data_format": "TopLevelPrimitives",
        "match_criteria": [],
        "event_ttl_seconds": None,
        "delay_by_seconds": None,
        "description": "",
        "enabled": True,
    }


def test_neither_the_order_of_criteria_nor_that_of_their_values_means_anything() -> None:
    turned = [{**CRITERIA[0], "values": ["CHAT", "VOICE", "CHAT"]}, *CRITERIA[1:]]
    assert {
        canonical(parse(match_criteria=list(order)).fields)
        for criteria in (CRITERIA, turned)
        for order in permutations(criteria)
    } == {canonical(parse(match_criteria=CRITERIA).fields)}


def test_true_is_another_value_than_one() -> None:
    one, true = (
        parse(match_criteria=[{"json_path": "a", "operator": "Equal", "value": value}]) for value in (1, True)
    )
    assert canonical(one.fields) != canonical(true.fields)


@each(
    ("changes", "said"),
    [
        ({"topic_name": "conversation"}, "topic_name: "),
        ({"topic_name": "v2.users.{id}.presence\n"}, "topic_name: "),
        ({"workflow_id": "a/b"}, "workflow_id: "),
        ({"data_format": "XML"}, "data_format: expected 'Json' or 'TopLevelPrimitives', found 'XML'"),
        ({"event_ttl_seconds": 9}, "event_ttl_seconds: "),
        ({"delay_by_seconds": 59}, "delay_by_seconds: "),
        ({"delay_by_seconds": 901}, "delay_by_seconds: "),
        (
            {"event_ttl_seconds": 10, "delay_by_seconds": 60},
            "either event_ttl_seconds or delay_by_seconds, not both$",
        ),
        ({"description": "x" * 513}, "description: "),
        ({"enabled": 1}, "enabled: "),
        ({"topicname": "a"}, "topicname: there is no such field: did you mean topic_name"),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_kind_name_and_field(
    changes: Mapping[str, Any], said: str
) -> None:
    with pytest.raises(UserError, match=f"^trigger main: {said}"):
        parse(**changes)


@each(
    ("criterion", "said"),
    [
        ({"operator": "In", "values": ["a"], "value": "a"}, "either value or values, not both"),
        ({"operator": "Equal", "value": float("nan")}, "expected what JSON can say"),
        ({"operator": "Equal", "value": {"at": date(2026, 1, 1)}}, "expected what JSON can say"),
        ({"operator": "In", "values": "a"}, r"\.values: "),
        ({"operator": ""}, r"\.operator: "),
        ({"operator": "Equal", "json_path": "a\n"}, r"\.json_path: "),
        ({}, r"\.operator: required, but missing"),
    ],
)
def test_what_is_wrong_with_a_criterion_is_said(criterion: Mapping[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"^trigger main: match_criteria.0.*{said}"):
        parse(match_criteria=[{"json_path": "a", **criterion}])


@each(
    "criterion",
    [
        {"operator": "Exists"},
        {"operator": "Exists", "value": True},
        {"operator": "Contains", "values": ["a", 1, None]},
        {"operator": "All", "value": "a"},
        {"operator": "Equal", "value": {"k": 1}},
        {"operator": "Equal", "value": [{"k": None}]},
        {"operator": "In", "values": []},
        {"operator": "Equal"},
    ],
)
def test_what_an_operator_makes_of_a_value_is_the_platforms_business(criterion: Mapping[str, Any]) -> None:
    (read,) = parse(match_criteria=[{"json_path": "a", **criterion}]).fields["match_criteria"]
    assert canonical(read) == canonical({"json_path": "a", **criterion})


def test_what_is_not_known_is_taken_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    criteria = [{"json_path": "a", "operator": "Equals", "value": 1, "Value": 2}]
    assert parse(match_criteria=criteria).fields["match_criteria"] == criteria
    assert [record.getMessage() for record in caplog.records] == [
        "trigger main: match_criteria.0: the operator Equals is not known here: did you mean Equal?",
        "trigger main: match_criteria.0: the field Value is not known here: did you mean value?",
    ]


@pytest.mark.anyio
async def test_what_the_platform_alone_knows_of_a_trigger_stays() -> None:
    world = World()
    found = await make(world, parse(event_ttl_seconds=30))
    body(world)["newer"] = {"than": "this"}
    await KIND.update(world.context(), found, parse(description="ours"), {})
    assert (body(world)["newer"], body(world)["description"]) == ({"than": "this"}, "ours")
    assert "eventTTLSeconds" not in body(world)


@pytest.mark.anyio
@each("times", [{"event_ttl_seconds": 10}, {"delay_by_seconds": 900}, {}])
async def test_it_is_made_with_all_its_fields_and_read_back_as_it_was_wanted(times: dict[str, int]) -> None:
    world = World(lag_reads=1)
    wanted = parse(match_criteria=CRITERIA, data_format="Json", description="ours", **times)
    made = await make(world, wanted)
    world.catch_up()
    assert made == await only(world)
    assert (made.fields, made.settled, made.version) == (wanted.fields, True, 1)
    sent = body(world)
    assert sent["target"] == {
        "type": "Workflow",
        "id": WORKFLOW,
        "workflowTargetSettings": {"dataFormat": "Json"},
    }
    assert {"jsonPath": "body.open", "operator": "Exists", "value": True} in sent["matchCriteria"]
    assert {"eventTTLSeconds", "delayBySeconds"} & sent.keys() == (
        {"event_ttl_seconds": {"eventTTLSeconds"}, "delay_by_seconds": {"delayBySeconds"}}.get(
            next(iter(times), ""), set()
        )
    )
    assert [step.entry for step in world.notes] == ["TRIGGER_CREATED"]


@pytest.mark.anyio
async def test_what_the_server_fills_in_is_no_difference() -> None:
    world = World()
    criteria = [{"jsonPath": "a", "operator": "Equal", "value": "b", "values": None}]
    world.place(
        "triggers",
        name="main",
        topicName=TABLE["topic_name"],
        enabled=True,
        target={"type": "Workflow", "id": WORKFLOW, "workflowTargetSettings": None},
        matchCriteria=criteria,
        eventTTLSeconds=None,
        description=None,
        dateCreated="2026-01-01T00:00:00Z",
    )
    wanted = parse(match_criteria=[{"json_path": "a", "operator": "Equal", "value": "b"}])
    assert (await only(world)).fields == wanted.fields


@pytest.mark.anyio
async def test_an_update_sends_the_version_that_was_read_and_replaces_the_whole() -> None:
    world = World()
    found = await make(world, parse(event_ttl_seconds=30))
    wanted = parse(delay_by_seconds=60, enabled=False)
    changed = await KIND.update(world.context(), found, wanted, {})
    assert (changed.fields, changed.version) == (wanted.fields, 2)
    assert "eventTTLSeconds" not in body(world)
    assert (await KIND.update(world.context(), changed, wanted, {})).version == 2
    assert [method for method, _ in world.calls].count("PUT") == 1


@pytest.mark.anyio
async def test_a_version_conflict_over_nothing_is_tried_again_with_the_new_version() -> None:
    world = World()
    found, left = await make(world, parse()), [1]

    def interfere(method: str, path: str) -> None:
        if method == "PUT" and left:
            body(world)["version"] += left.pop()

    world.on_call = interfere
    assert (await KIND.update(world.context(), found, parse(description="ours"), {})).version == 3


@pytest.mark.anyio
@each("at", ["GET", "PUT"])
async def test_somebody_elses_change_is_never_written_over(at: str) -> None:
    world = World()
    found, done = await make(world, parse()), list[int]()

    def interfere(method: str, path: str) -> None:
        if method == at and not done:
            done.append(1)
            body(world).update(version=2, description="theirs")

    world.on_call = interfere
    with pytest.raises(UserError, match=r"trigger main was changed meanwhile \(description\): plan again"):
        await KIND.update(world.context(), found, parse(description="ours"), {})
    assert body(world)["description"] == "theirs"


@pytest.mark.anyio
async def test_its_topic_cannot_be_changed_in_place() -> None:
    world = World()
    found = await make(world, parse())
    assert KIND.immutable == {"topic_name"}
    with pytest.raises(UserError, match="topic_name cannot be changed"):
        await KIND.update(world.context(), found, parse(topic_name="v2.users.{id}.presence"), {})


@pytest.mark.anyio
async def test_whatever_call_of_a_create_fails_the_same_again_leaves_one() -> None:
    wanted, world = parse(), World(lag_reads=1)
    await make(world, wanted)
    calls, expected = len(world.calls), world.snapshot()
    for number, fault in product(range(calls), (Fault("before"), Fault("after"))):
        world = World(lag_reads=1)
        world.faults[number] = fault
        try:
            await make(world, wanted)
        except UserError:
            world.catch_up()
            await make(world, wanted)
        assert world.snapshot() == expected


@pytest.mark.anyio
async def test_a_create_that_was_lost_is_not_repeated_blindly() -> None:
    world = World()
    world.faults[1] = Fault("before")
    with pytest.raises(AmbiguousRequest):
        await make(world, parse())
    assert world.now >= LOOK_AGAIN_S
    assert [method for method, _ in world.calls].count("POST") == 1


@pytest.mark.anyio
async def test_another_one_of_that_name_is_not_taken_over() -> None:
    world = World()
    await make(world, parse())
    with pytest.raises(UserError, match="created by someone else meanwhile"):
        await make(world, parse(description="ours"))


@pytest.mark.anyio
async def test_what_a_list_still_shows_after_its_deletion_does_not_hinder_its_successor() -> None:
    world = World()
    world.ways.ghost_reads = 2
    await KIND.delete(world.context(), await make(world, parse()))
    assert (await make(world, parse(topic_name="v2.users.{id}.presence"))).version == 1
    assert world.names("triggers") == ["main"]


anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["id", "name", "target", "matchCriteria", "jsonPath", "values", "version"]), inner
        )
    ),
    max_leaves=8,
)


@given(anything)
def test_answers_of_any_shape_are_read(entity: Any) -> None:
    canonical(KIND.found_of(entity).fields)


@pytest.mark.anyio
@each("as_400", [False, True])
async def test_in_the_sandbox_it_lives_its_whole_life(as_400: bool) -> None:
    async with open_sandbox(conflict_as_400=as_400) as session:
        context = session.context()
        wanted = parse(match_criteria=CRITERIA, event_ttl_seconds=60)
        found = await KIND.create(context, wanted, {})
        assert await KIND.read(context) == [found]
        assert found.fields == wanted.fields
        wanted = parse(match_criteria=CRITERIA[:1], delay_by_seconds=60)
        changed = await KIND.update(context, found, wanted, {})
        assert (changed.fields, changed.version) == (wanted.fields, 2)
        with pytest.raises(UserError, match="changed meanwhile"):
            await KIND.update(context, found, parse(description="late"), {})
        await KIND.delete(context, changed)
        assert not await KIND.read(context)


@pytest.mark.anyio
async def test_in_the_sandbox_all_pages_are_read() -> None:
    async with open_sandbox() as session:
        context = session.context()
        assert session.sandbox
        for number in range(2):
            await KIND.create(context, KIND.parse(f"trigger {number}", TABLE), {})
        template = next(iter(session.sandbox.control.triggers)).content
        for number in range(2, 403):
            await context.api.post(PATH, template | {"name": f"trigger {number}"})
        assert len({found.id for found in await KIND.read(context)}) == 403
