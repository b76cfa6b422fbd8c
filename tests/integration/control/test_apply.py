"""Apply: what fails stops what needs it and nothing else; what is told; plan files; revisions."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from ingestd.control.engine.apply import ApplyEnd, ApplyOutcome, ApplyResult, apply
from ingestd.control.engine.document import Document, load_document, make_document
from ingestd.control.engine.export import export_document
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.plan import Plan, make_plan
from ingestd.control.engine.plan_file import check_plan, save_plan
from ingestd.control.engine.state import ControlState
from ingestd.control.engine.world import read_world
from ingestd.core.errors import Unreachable, UserError
from tests.each import each
from tests.integration.control.remote import refusal
from tests.integration.control.test_converge import THERE, Killed, Machine, place, table
from tests.integration.control.world import Fault, World

pytestmark = pytest.mark.anyio


def document(**tables: Any) -> Document:
    tree: dict[str, Any] = {}
    for name, values in tables.items():
        kind, _, name = name.partition("_")
        tree.setdefault(kind, {})[name] = values
    return make_document(tree)


def target(variant: int = 0, **more: Any) -> dict[str, Any]:
    return table("target", variant) | more


def ends(result: ApplyResult) -> dict[str, str]:
    return {one.change.label: one.ended.value for one in result.outcomes}


async def test_a_resource_that_fails_stops_what_needs_it_and_the_rest_goes_on() -> None:
    world = World()
    world.ways.outcomes["bad"] = "FAILED"
    machine = Machine(world)
    wanted = document(
        target_bad=target(),
        target_needs=target(after=["target.bad"]),
        target_needsneeds=target(after=["target.needs"]),
        target_free=target(),
    )
    result = await machine.apply(wanted)
    assert ends(result) == {
        "target.bad": "failed",
        "target.needs": "skipped",
        "target.needsneeds": "skipped",
        "target.free": "done",
    }
    assert not result.is_complete
    said = {one.change.label: one.error for one in result.failed}
    assert "FAILED" in said["target.bad"]
    assert said["target.needs"] == "not tried: it needs target.bad, which failed"
    assert world.names("targets") == ["bad", "free"], "it stays, and is gone on with"
    assert [one.name for one in machine.state().records("target")] == ["bad", "free"]
    del world.ways.outcomes["bad"]
    plan = await machine.plan(wanted, machine.state())
    assert plan.counts == {"create": 2, "resume": 1, "nothing": 1}


async def test_where_the_api_cannot_be_reached_nothing_more_is_tried() -> None:
    world = World()
    machine = Machine(world)
    wanted = document(target_a=target(), target_b=target())
    state = machine.state()
    plan = await machine.plan(wanted, state)
    world.faults[len(world.calls)] = Fault("before", Unreachable("the API does not answer"))
    before = len(world.calls)
    result = await apply(world.context(), plan, state)
    assert [one.ended for one in result.outcomes] == [ApplyEnd.FAILED, ApplyEnd.SKIPPED]
    assert result.outcomes[1].error == "not tried: the API does not answer"
    assert len(world.calls) == before + 1


async def test_the_id_is_on_disk_before_anybody_waits_for_the_verification() -> None:
    """The seed lost a target that it had made, if asking for its status failed once."""
    machine = Machine(World())

    def die(method: str, path: str) -> None:
        if path.endswith("/verify"):
            raise Killed

    machine.world.on_call = die
    with pytest.raises(Killed):
        await machine.apply(document(target_a=target()))
    [record] = machine.state().records("target")
    assert (record.name, record.created) == ("a", True)
    last = machine.world.notes[-1]
    assert (last.entry, last.fields["error"]) == ("APPLY", "interrupted")
    machine.world.on_call = lambda method, path: None
    plan = await machine.plan(document(target_a=target()), machine.state())
    assert plan.counts == {"resume": 1}


async def test_a_step_that_hangs_is_ended_and_the_next_apply_goes_on_with_it() -> None:
    machine = Machine(World())
    state = machine.state()
    plan = await machine.plan(document(target_a=target()), state)
    context = machine.world.context(deadline_s=0.01)

    class Hanging(type(KINDS["target"])):  # type: ignore[misc]
        async def settle(self, *args: Any) -> Any:
            await asyncio.Event().wait()

    result = await apply(context, plan, state, kinds={"target": Hanging()}, grace_s=0.01)
    assert result.outcomes[0].error == "target.a: not done within 0.01 s: apply again, which goes on with it"
    assert (await machine.apply(document(target_a=target()))).is_complete


async def test_every_step_is_told_and_audited_with_before_and_after_but_no_secret() -> None:
    machine = Machine(World())
    await machine.apply(document(target_a=target(2)))
    machine.world.notes.clear()
    told: list[ApplyOutcome] = []
    state = machine.state()
    changed = document(target_a=target(2, event_types=["v2.z"], headers={"x-y": "1"}))
    plan = await machine.plan(changed, state)
    await apply(machine.world.context(), plan, state, told.append)
    assert [one.change.label for one in told] == ["target.a"]
    notes = {step.entry: step.fields for step in machine.world.notes}
    assert notes["PLAN"]["update"] == 1
    assert notes["PLAN"]["plan"] == plan.fingerprint
    applied = notes["APPLY"]
    assert (applied["action"], applied["resource"], applied["result"]) == ("update", "target.a", "done")
    assert '"v2.users.{id}' in str(applied["before"])
    assert "v2.z" in str(applied["after"])
    everything = f"{machine.world.notes} {machine.disk!r} {plan.as_json()} {plan.render()}"
    assert "value of env" not in everything, "what a reference gives is nowhere"


async def test_an_unknown_secret_is_sent_once_and_then_known() -> None:
    world = World()
    place(world, "target", "a", 0)
    machine = Machine(world)
    wanted = document(target_a=target(2))
    assert (await machine.plan(wanted, machine.state())).counts == {"update": 1}
    assert (await machine.apply(wanted)).is_complete
    assert (await machine.plan(wanted, machine.state())).counts == {"nothing": 1}
    assert world.thing("targets", "a").auth["password"] == "value of env:P2"


async def test_a_refusal_of_the_api_leaves_no_claim_on_what_others_make_under_that_name() -> None:
    world = World()
    machine = Machine(world)
    wanted = document(trigger_a=table("trigger", 1))

    def refuse(method: str, path: str) -> None:
        if method == "POST":
            raise refusal(400, "bad.request", "no", f"{method} {path}")

    world.on_call = refuse
    assert not (await machine.apply(wanted)).is_complete
    world.on_call = lambda method, path: None
    place(world, "trigger", "a", 1)
    plan = await machine.plan(document(), machine.state())
    assert plan.changes == ()


async def test_a_plan_from_another_state_is_refused() -> None:
    machine = Machine(World())
    state = machine.state()
    plan = await machine.plan(document(target_a=target()), state)
    await apply(machine.world.context(), plan, state)
    with pytest.raises(UserError, match="made from another state: plan again"):
        await apply(machine.world.context(), plan, state)


async def test_a_plan_file_is_good_until_the_world_moves(tmp_path: Path) -> None:
    machine = Machine(World())
    wanted = document(target_a=target(2))
    path = tmp_path / "plan.json"

    async def plan() -> Plan:
        return await machine.plan(wanted, machine.state())

    save_plan(path, await plan())
    assert "value of env" not in path.read_text()
    place(machine.world, "target", "strange", 0)
    check_plan(path, await plan())  # what it does not touch may move
    place(machine.world, "target", "a", 1)
    with pytest.raises(
        UserError, match=r"the resources or the file changed since: target.a \(create -> update\)"
    ):
        check_plan(path, await plan())
    save_plan(path, await plan())
    machine.world.thing("targets", "a").body["endpointUrl"] = "https://elsewhere.example.com/"
    with pytest.raises(UserError, match=r"changed since\. Run plan again"):
        check_plan(path, await plan())
    path.write_text("[]")
    with pytest.raises(UserError, match="is not a plan: make one with `ingestd plan --out`"):
        check_plan(path, await plan())
    with pytest.raises(UserError, match="cannot read the plan"):
        check_plan(tmp_path / "none", await plan())


async def test_an_earlier_revision_can_be_applied_again() -> None:
    machine = Machine(World())
    await machine.apply(document(target_a=target(0)))
    first = machine.world.snapshot()
    await machine.apply(document(target_a=target(1), target_b=target(0)))
    assert machine.world.snapshot() != first
    await machine.apply(make_document(machine.state().tables(1)))
    assert machine.world.snapshot() == first


async def test_reading_one_kind_that_fails_is_told_as_itself() -> None:
    world = World()
    world.faults[0] = Fault("before", UserError("403 not allowed"))
    with pytest.raises(UserError, match="403 not allowed"):
        await read_world(world.context(), [KINDS[name] for name in THERE])


async def test_what_a_list_does_not_have_yet_is_waited_for_but_not_for_ever() -> None:
    world = World()
    machine = Machine(world)
    wanted = document(target_a=target())
    await machine.apply(wanted)
    its = world.thing("targets", "a")
    its.hidden_reads = 3
    plan = await machine.plan(wanted, machine.state())
    assert plan.counts == {"nothing": 1}
    world.collections["targets"].things.clear()
    before = world.now
    plan = await machine.plan(wanted, machine.state())
    assert plan.counts == {"create": 1}
    assert world.now - before <= 15.0


@each("kind", THERE)
async def test_the_plan_of_an_export_is_empty_and_the_text_is_stable(kind: str, tmp_path: Path) -> None:
    world = World()
    for name, variant in (('Ünïcode "q" ${x}', 0), ("a b", 1), ("A.b", 0)):
        place(world, kind, name, variant)
    context = world.context()
    found = await read_world(context, [KINDS[kind]])
    text = export_document(found)
    assert text == export_document(await read_world(context, [KINDS[kind]]))
    (tmp_path / "export.toml").write_text(text)
    wanted = load_document(tmp_path / "export.toml")
    assert [one.name for one in wanted.wanted] == sorted({"a-b", *(one.name for one in wanted.wanted)})
    plan = make_plan(wanted, found, ControlState("https://x", key=b"k"), secret=context.secret)
    assert plan.is_empty, plan.render()
    assert plan.counts == {"adopt": 3}


async def test_a_remembered_table_keeps_its_name_in_an_export() -> None:
    machine = Machine(World())
    await machine.apply(document(target_short=target(name="A long name")))
    found = await read_world(machine.world.context(), [KINDS["target"]])
    assert "[target.short]" in export_document(found, state=machine.state())
    assert "[target.a-long-name]" in export_document(found)
