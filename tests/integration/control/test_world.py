from typing import Any

import pytest

from ingestd.control.engine.secret import SecretRef
from ingestd.transport.api_client import AmbiguousRequest, ApiError
from tests.each import each
from tests.integration.control.remote import MAX_SUBSCRIPTIONS
from tests.integration.control.world import KINDS, Fault, World

ROOT = {name: kind.root for name, kind in KINDS.items()}
BODIES: dict[str, dict[str, Any]] = {
    "targets": {
        "name": "a",
        "endpointUrl": "https://x.example/",
        "authType": "BASIC",
        "authConfig": {"p": "s"},
    },
    "destinations": {"name": "a", "enabled": False, "settings": {"eventBridgeArn": "arn"}},
    "subscriptions": {"name": "a"},
    "triggers": {"name": "a", "topicName": "v2.x"},
    "scheduled_triggers": {"name": "a"},
    "presence_sources": {"name": "a"},
    "journey_schemas": {"title": "a"},
    "journey_configurations": {"name": "a"},
    "integrations": {"name": "a", "integrationType": {"id": "amazon-eventbridge-source"}},
}

pytestmark = pytest.mark.anyio


@each("collection", ROOT)
async def test_a_new_thing_is_unseen_for_as_many_reads_as_ordered(collection: str) -> None:
    world = World(lag_reads=2)
    made = await world.post(ROOT[collection], BODIES[collection])
    path = f"{ROOT[collection]}/{made['id']}"
    assert await world.list(ROOT[collection]) == []
    with pytest.raises(ApiError) as caught:
        await world.get(path)
    assert caught.value.is_not_found
    assert (await world.get(path))["name"] == "a"
    assert [one["name"] for one in await world.list(ROOT[collection])] == ["a"]


async def test_waiting_for_a_thing_takes_the_worlds_own_time() -> None:
    world = World(lag_reads=3)
    made = await world.post(ROOT["triggers"], BODIES["triggers"])
    assert await world.get_when_visible(f"{ROOT['triggers']}/{made['id']}", deadline_s=10.0) == made
    assert world.now == 3.0
    with pytest.raises(ApiError):
        await world.get_when_visible(f"{ROOT['triggers']}/other", deadline_s=10.0)
    assert world.now == 13.0


@each(("when", "there"), [("before", []), ("after", ["a"])])
async def test_a_lost_post_is_ambiguous_and_did_or_did_not_take_effect(when: Any, there: list[str]) -> None:
    world = World()
    world.faults[0] = Fault(when)
    with pytest.raises(AmbiguousRequest):
        await world.post(ROOT["triggers"], BODIES["triggers"])
    assert world.names("triggers") == there


async def test_a_fault_raises_what_it_is_told_to() -> None:
    world = World()
    world.faults[0] = Fault("before", KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        await world.list(ROOT["triggers"])


async def test_answers_are_copies_and_hold_no_secret() -> None:
    world = World()
    made = await world.post(ROOT["targets"], BODIES["targets"])
    assert "authConfig" not in made
    made["name"] = "changed"
    [listed] = await world.list(ROOT["targets"])
    assert listed["name"] == "a"
    assert "authConfig" not in listed
    assert '"p": "s"' in world.snapshot()["targets"][0]


async def test_what_is_gone_can_be_deleted_again() -> None:
    world = World()
    path = f"{ROOT['targets']}/{world.place('targets', **BODIES['targets'])}"
    for _ in range(2):
        await world.delete(path)
    assert world.names("targets") == []


async def test_worlds_that_mean_the_same_look_the_same_whatever_their_ids_and_versions() -> None:
    worlds = World(), World()
    worlds[1].place("triggers", **BODIES["triggers"] | {"name": "first"})
    for world in worlds:
        world.place("triggers", **BODIES["triggers"])
        world.place("destinations", **BODIES["destinations"], eventTypes=["x"])
    first = worlds[1].thing("triggers", "first")
    await worlds[1].delete(first.body["selfUri"])
    worlds[1].thing("triggers", "a").body["version"] = 9
    assert worlds[0].snapshot() == worlds[1].snapshot()
    worlds[1].thing("destinations", "a").event_types.add("y")
    assert worlds[0].snapshot() != worlds[1].snapshot()


@each(
    ("collection", "call", "body"),
    [
        ("triggers", "put", {"topicName": "v2.x", "version": 2}),
        ("triggers", "put", {"topicName": "v2.y", "version": 1}),
        ("integrations", "put", {}),
        ("integrations", "post", {"name": "no type"}),
        ("destinations", "patch", {"enabled": True}),
        ("subscriptions", "post", {}),
    ],
)
async def test_the_rules_of_each_kind_are_kept(collection: str, call: str, body: dict[str, Any]) -> None:
    world = World(polls=5)
    made = await world.post(ROOT[collection], BODIES[collection])
    path = ROOT[collection] if call == "post" else f"{ROOT[collection]}/{made['id']}"
    with pytest.raises(ApiError):
        await getattr(world, call)(path, body)


async def test_the_limit_of_subscriptions_is_the_organisations() -> None:
    world = World()
    for number in range(MAX_SUBSCRIPTIONS):
        world.place("subscriptions", name=f"{number}")
    with pytest.raises(ApiError) as caught:
        await world.post(ROOT["subscriptions"], {"name": "one more"})
    assert caught.value.is_limit


@each("collection", ["targets", "destinations"])
async def test_verifying_takes_its_polls_and_ends_as_ordered(collection: str) -> None:
    world = World(polls=2)
    world.ways.outcomes["b"] = "FAILED"
    states = {}
    for name in ("a", "b"):
        made = await world.post(ROOT[collection], BODIES[collection] | {"name": name})
        path = f"{ROOT[collection]}/{made['id']}/verify"
        states[name] = [(await world.get(path))["status"] for _ in range(3)]
    assert states == {
        "a": ["PENDING_VERIFICATION", *["VERIFIED"] * 2],
        "b": ["PENDING_VERIFICATION", *["FAILED"] * 2],
    }


async def test_event_types_come_and_go_one_by_one() -> None:
    world, root = World(), ROOT["destinations"]
    its_id = world.place("destinations", **BODIES["destinations"])
    await world.post(f"{root}/subscriptions", {"destinationId": its_id, "eventTypes": ["a b", "c"]})
    await world.delete(f"{root}/{its_id}/subscriptions/a%20b")
    assert await world.list(f"{root}/{its_id}/subscriptions") == [{"eventType": "c"}]
    with pytest.raises(ApiError):
        await world.post(f"{root}/subscriptions", {"destinationId": its_id, "eventTypes": ["x"] * 101})


async def test_its_context_tells_steps_and_gives_secrets() -> None:
    world = World()
    context = world.context(secrets={"env:A": "one"})
    assert [context.secret(SecretRef(text)) for text in ("env:A", "env:B")] == ["one", "value of env:B"]
    await context.clock.sleep(2.5)
    assert context.clock.monotonic() == 2.5
