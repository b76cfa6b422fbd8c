"""Plans: what differs and what does not, in which order, what is refused, and how it is shown. Pure."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.control.engine.change import Action, Change
from ingestd.control.engine.compare import canonical, differences
from ingestd.control.engine.document import Document
from ingestd.control.engine.plan import Plan, make_plan
from ingestd.control.engine.resource import RemoteResource, ResourceAddress, Wanted
from ingestd.control.engine.secret import SecretRef
from ingestd.control.engine.state import ControlState
from ingestd.control.engine.world import World
from ingestd.core.errors import UserError

BASE = "https://api.example.com"
HOOK = SecretRef("env:HOOK")


def want(name: str, kind: str = "target", **fields: Any) -> Wanted:
    key = fields.pop("key", name)
    special = {one: fields.pop(one) for one in ("secrets", "after", "protected") if one in fields}
    return Wanted(kind, name, key, fields, **special)


def find(key: str, kind: str = "target", **fields: Any) -> RemoteResource:
    special = {one: fields.pop(one) for one in ("state", "settled") if one in fields}
    return RemoteResource(kind, key, fields.pop("id", f"id-{key}"), fields, **special)


def state_of(*ours: tuple[Wanted, RemoteResource], created: bool = True, secret: str = "") -> ControlState:
    state = ControlState(BASE, key=b"k" * 32)
    for wanted, found in ours:
        hashes = dict.fromkeys(wanted.secrets, state.hash_of(secret))
        state.remember(found, wanted, created=created, secrets=hashes)
    return state


def plan(
    wanted: list[Wanted],
    found: list[RemoteResource],
    state: ControlState | None = None,
    *,
    prune: bool = False,
    secret: str = "",
) -> Plan:
    kinds = {"target", "trigger", "integration"}
    world = World({kind: tuple(one for one in found if one.kind == kind) for kind in kinds})
    state = state or ControlState(BASE, key=b"k" * 32)
    return make_plan(Document(tuple(wanted)), world, state, prune=prune, secret=lambda reference: secret)


def only(made: Plan) -> Change:
    [change] = made.changes
    return change


def steps(made: Plan) -> list[tuple[str, str]]:
    return [(one.action.value, one.label) for one in made.changes]


# What differs


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
tables = st.dictionaries(st.text(max_size=3), json_values, max_size=4)


@given(tables, tables)
def test_there_is_a_difference_exactly_where_the_canonical_texts_differ(one: Any, other: Any) -> None:
    assert bool(differences(one, other)) == (canonical(one) != canonical(other))
    assert differences(one, dict(reversed(one.items()))) == ()


def test_order_of_keys_and_nulls_make_no_difference_but_types_do() -> None:
    assert differences({"a": 1, "b": {"c": 2, "d": None}}, {"b": {"c": 2.0}, "a": 1}) == ()
    assert [one.path for one in differences({"a": 1, "b": {"c": 1}}, {"a": True, "b": {"c": "1"}})] == [
        ("a",),
        ("b", "c"),
    ]


def test_what_the_server_reads_back_in_another_order_is_no_change() -> None:
    wanted = want("a", retry={"max": 5, "delay": 2}, types=["x", "y"])
    found = find("a", types=("x", "y"), retry={"delay": 2, "max": 5}, notes=None)
    made = plan([wanted], [found], state_of((wanted, found)))
    assert made.is_empty
    assert only(made).action is Action.NOTHING
    assert made.render() == "Nothing to do: 1 unchanged."


def test_what_is_there_as_wanted_is_adopted_and_that_is_nothing_to_do() -> None:
    made = plan([want("a", x=1)], [find("a", x=1)])
    assert only(made).action is Action.ADOPT
    assert made.is_empty
    assert made.counts == {"adopt": 1}


def test_what_was_begun_is_resumed() -> None:
    made = plan([want("a", x=1)], [find("a", x=1, state="PENDING_VERIFICATION", settled=False)])
    assert (only(made).action, only(made).why) == (Action.RESUME, "it is PENDING_VERIFICATION")
    assert not made.is_empty


# Secrets


def test_a_secret_is_compared_by_its_hash_and_shown_by_its_name_alone() -> None:
    """The API never answers it: without the hash each plan would see a difference, or none ever."""
    wanted, found = want("a", x=1, secrets={"auth.password": HOOK}), find("a", x=1)
    state = state_of((wanted, found), secret="canary-1")
    assert plan([wanted], [found], state, secret="canary-1").is_empty
    changed = plan([wanted], [found], state, secret="canary-2")
    assert (only(changed).action, only(changed).secrets) == (Action.UPDATE, ("auth.password",))
    assert "~ auth.password (secret changed)" in changed.render()
    assert "canary" not in changed.render() + str(changed.as_json()) + repr(changed) + str(changed.step())


def test_a_secret_that_nobody_knows_here_is_sent_and_one_that_is_gone_too() -> None:
    wanted, found = want("a", secrets={"key": HOOK}), find("a")
    assert only(plan([wanted], [found])).secrets == ("key",)
    assert only(plan([want("a")], [found], state_of((wanted, found)))).secrets == ("key",)
    assert "(secret removed)" in plan([want("a")], [found], state_of((wanted, found))).render()


def test_a_secret_that_cannot_be_read_is_told_before_anything_is_done() -> None:
    world = World({"target": ()})
    wanted = want("a", secrets={"key": SecretRef("env:SURELY_NOT_SET")})
    with pytest.raises(UserError, match=r"target.a: env:SURELY_NOT_SET: there is no secret"):
        make_plan(Document((wanted,)), world, ControlState(BASE, key=b"k"))


def test_a_remote_value_cannot_paint_the_terminal_nor_show_a_credential() -> None:
    odd: dict[str, Any] = {
        "headers": {"authorization": "canary", "x": "Bearer canary12345"},
        "note": "\x1b[2J\u202e",
    }
    made = plan([want("a", headers={}, note="")], [find("a", **odd)])
    shown = made.render()
    assert shown.isprintable() is False
    assert all(char.isprintable() or char == "\n" for char in shown)
    assert "canary" not in shown + str(made.as_json())


# Names


def test_a_renamed_table_and_a_renamed_resource_are_both_found_again() -> None:
    old, found = want("old", x=1), find("old", x=1)
    table = plan([want("new", key="old", x=1)], [found], state_of((old, found)))
    assert (only(table).action, only(table).why) == (Action.REMEMBER, "it was called old in the file")
    resource = plan([want("old", key="new", x=1)], [found], state_of((old, found)))
    assert only(resource).action is Action.UPDATE
    assert '~ name: "old" -> "new"' in resource.render()


def test_two_tables_that_swap_their_resources_only_swap_names() -> None:
    a, b = want("a", key="x"), want("b", key="y")
    x, y = find("x"), find("y")
    made = plan([want("a", key="y"), want("b", key="x")], [x, y], state_of((a, x), (b, y)))
    assert {one.action for one in made.changes} == {Action.REMEMBER}


def test_of_several_with_one_name_ours_is_meant_and_else_none_is_touched() -> None:
    """The seeds made a second one with each run."""
    first, second = find("a", id="1", x=1), find("a", id="2", x=1)
    made = plan([want("a", x=2)], [first, second])
    assert only(made).action is Action.REFUSED
    assert "there are 2 called a (1, 2): delete all but one" in made.render()
    known = plan([want("a", x=2)], [first, second], state_of((want("a"), second)))
    assert [(one.action, one.found and one.found.id) for one in known.changes] == [(Action.UPDATE, "2")]


# Deleting


def test_deleted_is_what_we_made_and_with_prune_what_we_adopted_but_never_a_strangers() -> None:
    mine, adopted, strange = find("mine"), find("adopted"), find("strange")
    state = state_of((want("mine"), mine))
    state.remember(adopted, want("adopted"), created=False, secrets={})
    found = [mine, adopted, strange]
    assert steps(plan([], found, state)) == [("delete", "target.mine")]
    pruned = steps(plan([], found, state, prune=True))
    assert pruned == [("delete", "target.adopted"), ("delete", "target.mine")]


def test_what_is_protected_is_not_deleted_also_when_its_table_is_gone() -> None:
    wanted, found = want("a", protected=True), find("a")
    made = plan([], [found], state_of((wanted, found)))
    assert only(made).action is Action.REFUSED
    assert "protected: apply it with protected = false before" in made.render()
    assert not made.is_empty


def test_what_cannot_be_changed_is_made_anew_if_it_is_ours() -> None:
    old, found = want("a", "trigger", topic_name="x"), find("a", "trigger", topic_name="x")
    new = want("a", "trigger", topic_name="y")
    assert only(plan([new], [found], state_of((old, found)))).action is Action.REPLACE
    assert only(plan([new], [found])).action is Action.REFUSED
    assert only(plan([new], [found], prune=True)).action is Action.REPLACE
    guarded = want("a", "trigger", topic_name="y", protected=True)
    made = plan([guarded], [found], state_of((old, found)))
    assert only(made).action is Action.REFUSED
    assert "it is protected" in only(made).why


def test_protecting_is_a_change_of_its_own() -> None:
    wanted, found = want("a"), find("a")
    made = plan([want("a", protected=True)], [found], state_of((wanted, found)))
    assert (only(made).action, only(made).why) == (Action.REMEMBER, "protected from now on")
    assert not made.is_empty


def test_a_change_from_outside_is_told_as_one() -> None:
    wanted, found = want("a", x=1), find("a", x=2)
    assert only(plan([wanted], [found], state_of((wanted, found)))).why == "changed outside since revision 0"
    both = plan([want("a", x=3)], [find("a", x=1)], state_of((wanted, found)))
    assert only(both).why == ""


# Order


def test_what_is_needed_comes_first_and_is_deleted_last() -> None:
    real = want("real", "integration")
    hook = want("hook", after=frozenset({("integration", "real")}))
    flow = want("flow", "trigger", after=frozenset({("target", "hook")}))
    made = plan([flow, hook, real], [])
    assert [one.label for one in made.changes] == ["integration.real", "target.hook", "trigger.flow"]
    assert made.changes[2].needs == {("target", "hook")}
    there = [find("real", "integration"), find("hook"), find("flow", "trigger")]
    gone = plan([], there, state_of((real, there[0]), (hook, there[1]), (flow, there[2])))
    assert [one.label for one in gone.changes] == ["trigger.flow", "target.hook", "integration.real"]


def test_deletes_come_first_to_make_room_but_not_before_what_named_them_has_changed() -> None:
    old, user = want("old"), want("user", after=frozenset({("target", "old")}), x=1)
    there = [find("old"), find("user", x=1)]
    state = state_of((old, there[0]), (user, there[1]))
    made = plan([want("user", x=2), want("more")], there, state)
    assert steps(made) == [("create", "target.more"), ("update", "target.user"), ("delete", "target.old")]
    free = plan([want("more")], [there[0]], state_of((old, there[0])))
    assert steps(free) == [("delete", "target.old"), ("create", "target.more")]


names = st.sampled_from("abcdefgh")


@given(st.dictionaries(names, st.frozensets(names, max_size=3), max_size=8), st.sets(names))
def test_every_order_has_needs_before_what_needs_them(after: Any, gone: set[str]) -> None:
    """Also of deletes whose records go round in a circle, which nothing can keep: it still ends."""

    def address(name: str) -> ResourceAddress:
        return "target", name

    recorded = {name: want(name, after=frozenset(map(address, some))) for name, some in after.items()}
    wanted = [
        want(
            name,
            x=1,
            after=frozenset(address(one) for one in some if one < name and one in after.keys() - gone),
        )
        for name, some in after.items()
        if name not in gone
    ]
    there = [find(name) for name in after]
    made = plan(wanted, there, state_of(*((recorded[one.key], one) for one in there)))
    at = {one.address: number for number, one in enumerate(made.changes)}
    assert len(at) == len(made.changes) == len(after)
    for change in made.changes:
        if change.wanted:
            assert all(at[need] < at[change.address] for need in change.needs)


# Bound to the world


def test_the_fingerprint_is_of_what_is_done_to_what() -> None:
    wanted = want("a", x=1)
    same = plan([wanted], [find("a", x=2)])
    assert same.fingerprint == plan([wanted], [find("a", x=2), find("strange", x=5)]).fingerprint
    for other in (
        plan([wanted], [find("a", x=3)]),
        plan([wanted], [find("a", x=2, id="another")]),
        plan([want("a", x=4)], [find("a", x=2)]),
        plan([wanted], []),
        plan([wanted], [find("a", x=2)], ControlState("https://other", key=b"k" * 32)),
    ):
        assert other.fingerprint != same.fingerprint


def test_a_plan_is_shown_line_by_line() -> None:
    old = want("b", x=1, types=["x", "y"], retry={"delay": 1})
    there = [find("b", x=1, types=["x", "y"], retry={"delay": 1}), find("gone")]
    state = state_of((old, there[0]), (want("gone"), there[1]))
    wanted = [
        want("a", key="A b", url="https://x", secrets={"auth.key": HOOK}),
        want("b", types=["y", "z"], retry={"delay": 2}),
    ]
    made = plan(wanted, there, state)
    assert (
        made.render()
        == """\
- target.gone (id-gone) delete
+ target.a "A b" create
    + url = "https://x"
    + auth.key (secret)
~ target.b (id-b) update
    ~ retry.delay: 1 -> 2
    ~ types:
        - "x"
        + "z"
    - x = 1
Plan: 1 to create, 1 to update, 1 to delete."""
    )
    assert "\x1b[32m+ target.a" in made.render(color=True)
    assert [one["action"] for one in made.as_json()["changes"]] == ["delete", "create", "update"]
