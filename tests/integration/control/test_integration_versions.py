import pytest

from ingestd.control.engine.versioned import MAX_TRIES
from ingestd.core.errors import UserError
from tests.integration.control.integration_support import KIND, PROPERTIES, config, only, parse
from tests.integration.control.world import Fault, World


@pytest.mark.anyio
async def test_a_change_keeps_what_is_not_ours_in_the_configuration() -> None:
    world = World()
    world.place("integrations", name="main", properties=PROPERTIES | {"later": {"by": "them"}})
    config(world).update(advanced={"a": 1}, credentials={"key": {"id": "c-1"}})
    await KIND.update(world.context(), await only(world), parse(suffix="orders-2"), {})
    now = config(world)
    assert (now["advanced"], now["credentials"]) == ({"a": 1}, {"key": {"id": "c-1"}})
    assert now["properties"]["later"] == {"by": "them"}
    assert now["properties"]["eventSourceSuffix"] == "orders-2"


@pytest.mark.anyio
async def test_a_version_conflict_over_nothing_is_tried_again_with_the_new_version() -> None:
    world = World()
    world.place("integrations", name="main", properties=PROPERTIES)
    found, left = await only(world), [1, 1]

    def interfere(method: str, path: str) -> None:
        if method == "PUT" and left:
            config(world)["version"] += left.pop()

    world.on_call = interfere
    changed = await KIND.update(world.context(), found, parse(suffix="orders-2", enabled=False), {})
    assert changed.fields["suffix"] == config(world)["properties"]["eventSourceSuffix"] == "orders-2"
    assert changed.version == config(world)["version"] == 4


@pytest.mark.anyio
async def test_somebody_elses_change_is_never_written_over() -> None:
    world = World()
    world.place("integrations", name="main", properties=PROPERTIES)
    found, done = await only(world), list[int]()

    def interfere(method: str, path: str) -> None:
        if method == "PUT" and not done:  # between our read and our write
            done.append(1)
            config(world)["version"] += 1
            config(world)["properties"] = PROPERTIES | {"eventSourceSuffix": "theirs"}

    world.on_call = interfere
    with pytest.raises(UserError, match=r"integration main was changed meanwhile \(suffix\): plan again"):
        await KIND.update(world.context(), found, parse(suffix="ours"), {})
    assert config(world)["properties"]["eventSourceSuffix"] == "theirs"


@pytest.mark.anyio
async def test_a_change_between_plan_and_apply_is_noticed_before_anything_is_sent() -> None:
    world = World()
    world.place("integrations", name="main", properties=PROPERTIES)
    found = await only(world)
    config(world)["notes"] = "theirs"
    with pytest.raises(UserError, match="changed meanwhile"):
        await KIND.update(world.context(), found, parse(suffix="ours"), {})
    assert "PUT" not in [method for method, _ in world.calls]


@pytest.mark.anyio
async def test_conflicts_without_end_come_to_an_end() -> None:
    world = World()
    world.place("integrations", name="main", properties=PROPERTIES)
    found = await only(world)

    def interfere(method: str, path: str) -> None:
        if method == "PUT":
            config(world)["version"] += 1

    world.on_call = interfere
    with pytest.raises(UserError, match="plan again later"):
        await KIND.update(world.context(), found, parse(suffix="ours"), {})
    assert [method for method, _ in world.calls].count("PUT") == MAX_TRIES


@pytest.mark.anyio
async def test_our_own_change_whose_answer_was_lost_is_no_conflict() -> None:
    world = World()
    world.place("integrations", name="main", properties=PROPERTIES)
    found, wanted = await only(world), parse(suffix="ours", enabled=False)
    world.faults[len(world.calls) + 1] = Fault("after")
    with pytest.raises(UserError, match="503"):
        await KIND.update(world.context(), found, wanted, {})
    changed = await KIND.update(world.context(), found, wanted, {})
    assert changed.version == config(world)["version"] == 2
