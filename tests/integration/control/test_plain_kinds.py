"""What is particular to the kinds that are plain objects; all that they share is in tests/contract."""

from typing import Any

import pytest

from ingestd.control.engine.document import make_document
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.plan import make_plan
from ingestd.control.engine.state import ControlState
from ingestd.control.engine.world import read_world
from ingestd.core.errors import UserError
from tests.each import each
from tests.integration.control.world import World

TEXT = {"type": "string"}


@each(
    ("kind", "table", "said"),
    [
        ("journey_schema", {}, "properties: required, but missing"),
        (
            "journey_schema",
            {"properties": {"a": TEXT}, "required": ["b"]},
            "required: there is no property b",
        ),
        (
            "journey_schema",
            {"properties": {"a": {"type": "strin"}}},
            r"properties\.a\.type: no JSON Schema of",
        ),
        ("journey_schema", {"properties": '{"a"'}, "properties: expected it as it is, or as JSON text"),
        ("journey_configuration", {"source": "CRM", "schema_id": "s"}, "division_id: required, but missing"),
        ("scheduled_trigger", {"workflow_id": "w", "name": "n" * 163}, "name: "),
        (
            "scheduled_trigger",
            {"workflow_id": "w", "hour": "8"},
            "hour: there is no such field: did you mean hours",
        ),
        (
            "presence_source",
            {"descripton": "x"},
            "descripton: there is no such field: did you mean description",
        ),
    ],
)
def test_what_is_wrong_in_a_table_is_said_with_its_place(kind: str, table: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=f"^{kind} one: {said}"):
        KINDS[kind].parse("one", table)


def test_a_schedule_that_the_platform_may_refuse_is_told(caplog: pytest.LogCaptureFixture) -> None:
    KINDS["scheduled_trigger"].parse("one", {"workflow_id": "w", "minutes": "0,15,30", "hours": "8"})
    assert [one.getMessage() for one in caplog.records] == [
        "scheduled_trigger one: minutes: the platform takes up to two of 0-59, as 0,30"
    ]


@pytest.mark.anyio
@each(
    ("required", "said"),
    [(["a", "b"], "b is optional there, and cannot become required"), (["a", "new"], ""), ([], "")],
)
async def test_a_plan_tells_what_a_schema_cannot_become(required: list[str], said: str) -> None:
    world = World()
    old = {"properties": {"a": TEXT, "b": TEXT}, "required": ["a"]}
    kind = KINDS["journey_schema"]
    found = await kind.create(world.context(), kind.parse("visits", old), {})
    new = {"properties": {"a": TEXT, "b": TEXT, "new": TEXT}, "required": required}
    there = await read_world(world.context(), [kind])
    plan = make_plan(make_document({"journey_schema": {"visits": new}}), there, ControlState("x", key=b"k"))
    assert (plan.changes[0].action, said in plan.render()) == ("refused" if said else "update", True)
    if said:
        with pytest.raises(UserError, match=f"journey_schema visits: {said}"):
            await kind.update(world.context(), found, kind.parse("visits", new), {})
    else:
        assert (await kind.update(world.context(), found, kind.parse("visits", new), {})).version == 2


@pytest.mark.anyio
@each("kind", ["trigger", "presence_source", "journey_configuration"])
async def test_a_new_name_alone_is_sent(kind: str) -> None:
    world, one = World(), KINDS[kind]
    table = {
        "trigger": {"topic_name": "v2.x", "workflow_id": "w"},
        "presence_source": {},
        "journey_configuration": {"source": "CRM", "schema_id": "s", "division_id": "d"},
    }[kind]
    found = await one.create(world.context(), one.parse("old", table), {})
    changed = await one.update(world.context(), found, one.parse("new", table), {})
    assert (changed.key, world.names(f"{kind}s")) == ("new", ["new"])
