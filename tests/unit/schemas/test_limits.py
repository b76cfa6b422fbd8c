import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ingestd.core.reasons import Reason
from ingestd.schemas.event_limits import EventLimits
from ingestd.schemas.grammar import DEEPEST
from ingestd.schemas.load import load
from ingestd.schemas.schema import MAX_ERRORS, Schema
from tests.each import each
from tests.effort import examples
from tests.unit.schemas.broken_events import explained_within_memory

INTERACTION = {
    "eventType": "a",
    "eventTime": "2026-01-01T10:00:00Z",
    "interactionId": "b",
    "routingMetadata": {"queueId": "", "skill": "", "actionType": "QUEUE"},
    "schemaVersion": 1,
}
CLOUDEVENT = {"specversion": "1.0", "id": "1", "source": "/s", "type": "t"}
KINDS = ["interaction", "cloudevent", "model", "schema.json"]


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    kind = str(request.param)
    if kind == "model":
        return "ingestd.schemas.interaction_model:Interaction"
    if kind == "schema.json":
        path = tmp_path / kind
        path.write_text(json.dumps({"type": "object"}))
        return str(path)
    return kind


def with_inside(kind: str, inside: bytes) -> bytes:
    """A valid event of the kind with ``inside`` as one of its members' value."""
    if kind == "cloudevent":
        return json.dumps(CLOUDEVENT).encode()[:-1] + b', "data": ' + inside + b"}"
    return json.dumps(INTERACTION).encode()[:-1] + b', "attributes": {"x": ' + inside + b"}}"


def nested(kind: str, depth: int, *, pad: bytes = b"") -> bytes:
    levels = depth - (1 if kind == "cloudevent" else 2)
    return with_inside(kind, b"[" * levels + pad + b"]" * levels)


def refusal_of(schema: Schema, event: bytes) -> tuple[Reason, str] | None:
    [key] = schema.keys([event])
    refusal = schema.explain(event)
    assert key is None or refusal is None
    return refusal and (refusal.reason, refusal.errors[0].message)


@each("limit", [3, 64, DEEPEST])
@each("pad", [b"", b'"' + b"[{" * 300 + b'"'])
def test_every_schema_takes_events_up_to_the_same_depth(kind: str, limit: int, pad: bytes) -> None:
    schema = load(kind, EventLimits(max_depth=limit))
    assert refusal_of(schema, nested(kind, limit, pad=pad)) is None
    for depth in (limit + 1, limit + 2, 1_000, 100_000):
        told = (Reason.INVALID, f"arrays and objects are nested deeper than {limit}")
        assert refusal_of(schema, nested(kind, depth, pad=pad)) == told


def test_the_depth_is_64_where_nothing_else_is_said(kind: str) -> None:
    assert refusal_of(load(kind), nested(kind, 64)) is None
    assert refusal_of(load(kind), nested(kind, 65)) is not None


def test_the_values_of_an_event_are_counted_before_anything_is_made_of_them(kind: str) -> None:
    schema = load(kind, EventLimits(max_values=1_000))
    own = 1_000 - 30
    assert refusal_of(schema, with_inside(kind, b"[" + b"1," * own + b"1]")) is None
    told = (Reason.INVALID, "more than 1000 values")
    for many in (b"1,", b"[],", b'"",', b'{"a":1},'):
        assert refusal_of(schema, with_inside(kind, b"[" + many * 1_000 + b"1]")) == told
    text = b'"' + b"[],{}:1," * 10_000 + b'\\"' + b",,," * 1_000 + b'"'
    assert refusal_of(schema, with_inside(kind, text)) is None


def test_events_over_a_limit_do_not_shift_the_keys_of_the_others(kind: str) -> None:
    schema = load(kind)
    good, deep = nested(kind, 3), nested(kind, 100)
    [key] = schema.keys([good])
    assert key is not None
    assert schema.keys([deep, good, deep, good, b"{", deep]) == [None, key, None, key, None, None]


shapes = st.tuples(
    st.sampled_from([1, 1, 1, 1, 2, 3, 9, 11]),
    st.sampled_from([b"", b"[],", b"{},", b'"[{[{",', b"1,"]),
    st.sampled_from([0, 0, 1, 40]),
)


@given(
    shapes=st.lists(shapes, min_size=1, max_size=60), max_depth=st.integers(2, 12), repeat=st.integers(1, 3)
)
@settings(max_examples=examples(60), deadline=None)
def test_neighbours_do_not_change_what_is_over_a_limit(
    shapes: list[tuple[int, bytes, int]], max_depth: int, repeat: int
) -> None:
    """Events are looked at together, and brackets of all are counted at once."""
    least = json.dumps(INTERACTION).encode()
    events = [
        with_inside("interaction", b"[" * (depth - 1) + pad * count + b"1" + b"]" * (depth - 1))
        if depth > 1
        else least
        for depth, pad, count in shapes
    ] * repeat
    events.insert(len(events) // 2, b"{")
    schema = load("interaction", EventLimits(max_depth=max_depth, max_values=60))
    assert schema.keys(events) == [schema.keys([event])[0] for event in events]


@each("many", [1, 5, 15, 31, 39, 63])
def test_one_deep_event_is_found_among_many_with_few_brackets(many: int) -> None:
    schema = load("interaction", EventLimits(max_depth=5))
    least, deep = json.dumps(INTERACTION).encode(), nested("interaction", 6)
    for before in (0, many // 2, many):
        keys = schema.keys([*[least] * before, deep, *[least] * (many - before)])
        assert [index for index, key in enumerate(keys) if key is None] == [before]


def test_a_broken_event_is_called_broken_whatever_else_it_is(kind: str) -> None:
    schema = load(kind, EventLimits(max_depth=10, max_values=100))
    told = refusal_of(schema, nested(kind, 50)[:-1] + b',"x":' + b"[1," * 60)
    assert told == (Reason.UNPARSABLE, "not JSON: it ends before its value does")


MANY = 40_000
CROWDED = {
    "unknown members": b"{" + b",".join(b'"k%x":{}' % i for i in range(MANY)) + b"}",
    "in a member": b'{"routingMetadata":{'
    + b",".join(b'"k%x":{}' % i for i in range(MANY))
    + b'},"data":0,"id":[]}',
    "lists": b'{"eventTime":[' + b"[]," * MANY + b"1]}",
    "numbers": b"[" + b"1.5," * MANY + b"1]",
}


@pytest.mark.parametrize("name", CROWDED)
def test_to_explain_a_crowded_event_costs_no_more_than_to_read_it(
    kind: str, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = CROWDED[name]
    if kind.endswith(".json"):  # one that looks at every member
        numbers = {
            "type": "object",
            "additionalProperties": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        }
        Path(kind).write_text(json.dumps({**numbers, "required": list("abcdefgh")}))
    schema = load(kind)
    refusal = explained_within_memory(schema, event)
    assert 1 <= len(refusal.errors) <= MAX_ERRORS


def test_of_a_model_s_crowded_event_the_verdict_is_still_the_models(kind: str) -> None:
    schema = load(kind)
    crowd = b"[" + b"1," * 5_000 + b"1]"
    assert refusal_of(schema, with_inside(kind, crowd)) is None
    bad = with_inside(kind, crowd).replace(b'"eventType": "a"', b'"eventType": 7').replace(b'"/s"', b"7")
    told = refusal_of(schema, bad)
    if kind.endswith(".json"):
        assert told is None
    else:
        assert told is not None
        assert told[0] is Reason.INVALID
