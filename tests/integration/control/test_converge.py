"""Whatever the world was and the file says: apply makes it so, and cut off anywhere it ends the same."""

import asyncio
import copy
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.control.engine.apply import ApplyResult, apply
from ingestd.control.engine.change import Action
from ingestd.control.engine.document import Document, make_document
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.plain_kind import PlainKind
from ingestd.control.engine.plan import Plan, make_plan
from ingestd.control.engine.state import ControlState, StateContent
from ingestd.control.engine.world import read_world
from tests.effort import examples
from tests.integration.control.world import Fault, World

THERE = sorted(KINDS.keys() - {"webhook"})  # that is an integration, too
NAMES = ["alpha", "beta", "gamma"]
TYPES = ["v2.users.{id}.presence", "v2.users.{id}.activity", "v2.users.{id}.routingStatus"]
BUS = "arn:aws:events:eu-west-1:123456789012:event-bus/aws.partner/genesys.com/cloud/org-1/{}"
TOPIC = "arn:aws:events:eu-west-1:123456789012:topic/orders"
ROLE = "arn:aws:iam::123456789012:role/path/{}"
COLLECTION = {kind: f"{kind}s" for kind in THERE}
few = settings(max_examples=examples(30))


class Killed(BaseException):
    """As by kill -9: nothing of the program runs after it."""


class Machine:
    """What outlives a process: the world, and the state file as bytes."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.disk = msgspec.json.encode(StateContent())

    def state(self) -> ControlState:
        content = msgspec.json.decode(self.disk, type=StateContent)
        return ControlState("https://api.example.com", key=b"k" * 32, content=content, write=self._write)

    def _write(self, content: StateContent) -> None:
        self.disk = msgspec.json.encode(content)

    async def plan(self, document: Document, state: ControlState, *, prune: bool = False) -> Plan:
        context = self.world.context()
        kinds = [KINDS[name] for name in sorted(document.kinds | state.kinds)]
        world = await read_world(context, kinds, state=state)
        return make_plan(document, world, state, prune=prune, secret=context.secret)

    async def apply(self, document: Document, *, prune: bool = False) -> ApplyResult:
        state = self.state()
        plan = await self.plan(document, state, prune=prune)
        return await apply(self.world.context(), plan, state)

    async def killed(self, document: Document, at: int, when: Any, *, error: BaseException | None) -> None:
        """An apply that dies, or hears no answer, at the ``at``-th call from now."""
        self.world.faults = {len(self.world.calls) + at: Fault(when, error)}
        try:
            await self.apply(document)
        except BaseException as died:
            if not _is_killed(died):
                raise
        self.world.faults = {}


def _is_killed(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.split(Killed)[1] is None
    return isinstance(error, Killed) or not isinstance(error, AssertionError | TypeError | KeyError)


def table(kind: str, variant: int) -> dict[str, Any]:
    types = [name for bit, name in enumerate(TYPES) if (variant + 1) >> bit & 1]
    match kind:
        case "target":
            auth = {"type": "BASIC", "username": "u", "password": f"env:P{variant}"} if variant > 1 else {}
            return {
                "endpoint_url": f"https://hooks.example.com/{variant % 2}",
                "event_types": types,
                "auth": auth or {"type": "NONE"},
            }
        case "destination":
            return {"event_bus_arn": BUS.format(variant % 2), "event_types": types, "enabled": variant != 2}
        case "subscription":
            policy = {"detail": {"kind": ["a", "b"][: variant + 1]}}
            return {"topic_arn": TOPIC, "filter_policy": policy, "role_arn": ROLE.format(variant % 2)}
        case "integration":
            place = {"aws_account_id": "123456789012", "aws_region": "eu-west-1", "suffix": f"s{variant % 2}"}
            return {**place, "event_filter": types, "enabled": variant != 2}
        case "webhook":
            return {"properties": {"invocationRatePerMinute": 200 + variant}, "enabled": variant != 2}
        case "scheduled_trigger":
            return {"workflow_id": f"w-{variant}", "hours": "8,20", "enabled": variant != 0}
        case "presence_source":
            return {"description": f"made by {variant}"}
        case "journey_schema":
            return {"properties": {name: {"type": "string"} for name in types}, "enabled": variant != 2}
        case "journey_configuration":
            ids = {"schema_id": "s-1", "division_id": "d-1"}
            return {**ids, "source": "CRM" if variant < 2 else "ERP", "description": f"made by {variant}"}
    return {
        "topic_name": f"v2.users.{{id}}.{'presence' if variant < 2 else 'activity'}",
        "workflow_id": f"00000000-0000-4000-8000-00000000000{variant}",
        "enabled": variant != 0,
    }


def place(world: World, kind: str, name: str, variant: int) -> None:
    """As somebody else made it, by hand."""
    made = table(kind, variant)
    match kind:
        case "target":
            retry = {"maxRetries": 5, "backoffStrategy": "EXPONENTIAL", "initialDelaySeconds": 2}
            body = {"endpointUrl": made["endpoint_url"], "authType": made["auth"]["type"], "headers": {}}
            world.place("targets", name=name, retryPolicy=retry, eventTypes=made["event_types"], **body)
        case "destination":
            body = {"type": "eventbridge", "settings": {"eventBridgeArn": made["event_bus_arn"]}}
            status = {"status": "VERIFIED"} if variant else {}
            body |= {
                "eventTypes": made["event_types"],
                "enabled": bool(variant and made["enabled"]),
                **status,
            }
            world.place("destinations", name=name, description="", **body)
        case "subscription":
            body = {"topic_arn": TOPIC, "filter_policy": made["filter_policy"]}
            world.place("subscriptions", name=name, destination={"arn": made["role_arn"]}, **body)
        case "integration":
            properties = {
                "awsAccountId": "123456789012",
                "awsAccountRegion": "eu-west-1",
                "eventSourceSuffix": made["suffix"],
                "eventFilter": made["event_filter"],
            }
            state = "ENABLED" if made["enabled"] else "DISABLED"
            world.place("integrations", name=name, properties=properties, intendedState=state)
        case "trigger":
            target = {"type": "Workflow", "id": made["workflow_id"]}
            body = {"topicName": made["topic_name"], "enabled": made["enabled"], "target": target}
            world.place("triggers", name=name, **body)
        case _:  # the plain ones, as their own kind spells them
            plain = KINDS[kind]
            assert isinstance(plain, PlainKind)
            world.place(f"{kind}s", **plain.body(plain.parse(name, made)))


things = st.dictionaries(
    st.tuples(st.sampled_from(THERE), st.sampled_from(NAMES)), st.integers(0, 2), max_size=5
)
ways = st.sampled_from([(0, 1), (2, 3), (1, 0)])


def document(wanted: Mapping[tuple[str, str], int], order: Mapping[str, int] | None = None) -> Document:
    """``order``: which kinds come after which; without it none does."""
    tree: dict[str, Any] = {}
    ranks = order or {}
    for (kind, name), variant in sorted(wanted.items()):
        before = [f"{k}.{n}" for k, n in wanted if ranks.get(k, 0) < ranks.get(kind, 0)]
        tree.setdefault(kind, {})[name] = table(kind, variant) | {"after": before}
    return make_document(tree)


def world_of(there: Mapping[tuple[str, str], int], way: tuple[int, int]) -> World:
    world = World(lag_reads=way[0], polls=way[1])
    for (kind, name), variant in sorted(there.items()):
        place(world, kind, name, variant)
    return world


def strangers(world: World, wanted: Mapping[tuple[str, str], int]) -> list[tuple[str, str]]:
    ours = {(COLLECTION[kind], name) for kind, name in wanted}
    return [
        (kind, name) for kind in COLLECTION.values() for name in world.names(kind) if (kind, name) not in ours
    ]


def all_names(world: World) -> list[tuple[str, str]]:
    return [(collection, name) for collection in COLLECTION.values() for name in world.names(collection)]


orders = st.dictionaries(st.sampled_from(THERE), st.integers(0, 2))


@few
@given(things, things, orders, ways)
def test_an_apply_makes_the_world_as_wanted_and_the_second_plan_is_empty(
    there: Any, wanted: Any, order: Any, way: Any
) -> None:
    async def run() -> None:
        machine = Machine(world_of(there, way))
        others = strangers(machine.world, wanted)
        result = await machine.apply(document(wanted, order), prune=True)
        for outcome in result.failed:  # only what would have to delete a stranger's thing may be refused
            pytest.fail(f"{outcome.change.label}: {outcome.error}")
        again = await machine.plan(document(wanted, order), machine.state(), prune=True)
        assert again.counts.keys() <= {"nothing"}, again.render()
        assert sorted(all_names(machine.world)) == sorted(
            {*others, *((COLLECTION[kind], name) for kind, name in wanted)}
        ), "each once, and strangers stay"

    asyncio.run(run())


@few
@given(things, things, things, st.integers(0, 40), st.sampled_from(["before", "after"]), st.booleans(), ways)
def test_an_apply_that_is_cut_off_at_any_call_and_run_again_ends_in_the_same_world(
    there: Any, first: Any, second: Any, at: int, when: Any, kill: bool, way: Any
) -> None:
    """In between and at the end: what is ours is known as ours, for the empty file deletes just that."""

    async def run() -> None:
        start = world_of(there, way)
        clean, cut = Machine(start), Machine(copy.deepcopy(start))
        documents: list[Mapping[tuple[str, str], int]] = [first, second, {}]
        for wanted in documents:
            await clean.apply(document(wanted))
            await cut.killed(document(wanted), at, when, error=Killed() if kill else None)
            result = await cut.apply(document(wanted))
            assert all(one.change.action is Action.REFUSED for one in result.failed), result.failed
            names = all_names(cut.world)
            assert len(set(names)) == len(names), "made twice"
            assert cut.world.snapshot() == clean.world.snapshot()
        left = sorted((COLLECTION[kind], name) for kind, name in there)
        assert sorted(all_names(cut.world)) == left, "what was there stays, adopted or not; the rest is gone"

    asyncio.run(run())
