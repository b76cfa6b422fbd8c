"""Every kind of the control plane, against the world in memory and against the sandbox over HTTP."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingestd.control.engine.apply import apply
from ingestd.control.engine.document import load_document, make_document
from ingestd.control.engine.export import export_document
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.plan import Plan, make_plan
from ingestd.control.engine.resource import Context, RemoteResource, ResourceKind
from ingestd.control.engine.state import ControlState
from ingestd.control.engine.world import read_world
from tests.integration.control.target_support import open_sandbox
from tests.integration.control.test_converge import table
from tests.integration.control.world import World

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize("kind", KINDS.values(), ids=list(KINDS)),
    pytest.mark.parametrize("where", ["memory", "sandbox"]),
]
NAME = "one"
MORE: dict[str, dict[str, Any]] = {
    "integration": {"notes": "ours"},
    "destination": {"name": "Of another name", "description": "x"},
    "trigger": {
        "match_criteria": [
            {"json_path": "mediaType", "operator": "In", "values": ["VOICE", "CHAT"]},
            {"json_path": "disconnectType", "operator": "NotEqual", "value": "ERROR"},
            {"json_path": "body.open", "operator": "Exists", "value": True},
        ],
        "delay_by_seconds": 60,
    },
    "scheduled_trigger": {"name": "Every morning", "minutes": "0,30", "timezone": "Europe/Berlin"},
    "journey_schema": {"description": "Visits", "properties": {"page": {"type": "string", "maxLength": 9}}},
}
"""Settings that may be left out."""


async def full(kind: ResourceKind, variant: int, context: Context, needs: dict[str, str]) -> dict[str, Any]:
    """``needs``: what it names is made first, and remembered there."""
    if kind.name == "journey_configuration" and not needs:
        schema = KINDS["journey_schema"].parse(NAME, table("journey_schema", 0))
        needs["schema_id"] = (await KINDS["journey_schema"].create(context, schema, {})).id
    return table(kind.name, variant) | MORE.get(kind.name, {}) | needs


@asynccontextmanager
async def context_of(where: str) -> AsyncIterator[Context]:
    if where == "memory":
        yield World().context()
        return
    async with AsyncExitStack() as stack:
        session = await stack.enter_async_context(open_sandbox())
        yield replace(session.context(), secret=lambda reference: f"value of {reference}")


async def one(kind: ResourceKind, context: Context) -> RemoteResource:
    [found] = await kind.read(context)
    return found


async def test_what_was_created_is_read_changed_and_deleted(kind: ResourceKind, where: str) -> None:
    async with context_of(where) as context:
        needs = dict[str, str]()
        first, second = [kind.parse(NAME, await full(kind, variant, context, needs)) for variant in (1, 0)]
        assert await kind.read(context) == []
        made = await kind.settle(context, await kind.create(context, first, {}), first)
        assert made.settled
        found = await one(kind, context)
        assert (found.kind, found.key, found.id, found.fields) == (
            kind.name,
            first.key,
            made.id,
            first.fields,
        )

        changed = await kind.update(context, found, second, {})
        changed = await kind.settle(context, changed, second)
        found = await one(kind, context)
        assert (found.id, found.fields) == (made.id, second.fields)

        await kind.delete(context, found)
        assert await kind.read(context) == []
        await kind.delete(context, found)  # what is gone already is not an error


async def test_after_an_apply_the_plan_is_empty_and_so_is_that_of_its_export(
    kind: ResourceKind, where: str, tmp_path: Path
) -> None:
    def fresh() -> ControlState:
        return ControlState("https://api.example.com", key=b"k" * 32)

    async def plan(context: Context, state: ControlState) -> Plan:
        return make_plan(wanted, await read_world(context, [kind], state=state), state, secret=context.secret)

    state = fresh()
    async with context_of(where) as context:
        wanted = make_document({kind.name: {NAME: await full(kind, 1, context, {})}})
        assert (await plan(context, state)).counts == {"create": 1}
        await apply(context, await plan(context, state), state)
        assert (await plan(context, state)).counts == {"nothing": 1}

        text = export_document(await read_world(context, [kind]))
        (tmp_path / "export.toml").write_text(text)
        wanted = load_document(tmp_path / "export.toml")
        again = await plan(context, fresh())
        assert again.is_empty, again.render()
        assert again.counts == {"adopt": 1}
