"""Numbers at every border: one verdict under all schemas, whichever pass looks first."""

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from ingestd.core.reasons import Reason
from ingestd.schemas import attributes, grammar, interaction
from ingestd.schemas.cloudevent import CloudEventSchema
from ingestd.schemas.grammar import MAX_DIGITS
from ingestd.schemas.interaction import InteractionSchema
from ingestd.schemas.json_schema import JsonSchema
from ingestd.schemas.load import load
from ingestd.schemas.pydantic_model import PydanticSchema
from ingestd.schemas.schema import Schema
from tests.each import each
from tests.effort import examples


class Anything(BaseModel):
    n: Any = None


INTERACTION = (
    b'{"eventType":"a","eventTime":"2026-01-01T10:00:00Z","interactionId":"i","routingMetadata":'
    b'{"queueId":"q","skill":"s","actionType":"ANSWER"},"attributes":{"n":%b},"schemaVersion":2}'
)
CLOUDEVENT = b'{"specversion":"1.0","id":"1","source":"/x","type":"t","data":%b}'
SPACED = b'{"specversion": "1.0", "id": "1", "source": "/x", "type": "t", "data": %b}'
ONE_SPACE = b'{"specversion":"1.0","id":"1","source":"/x","type":"t","data": %b}'
PLAIN = b'{"n":%b}'


@pytest.fixture(scope="module")
def schemas(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[Schema, bytes]]:
    path: Path = tmp_path_factory.mktemp("schema") / "object.json"
    path.write_text(
        '{"type": "object", "properties": {"n": {"type": ["number", "string", "array", "object"]}}}'
    )
    pairs: list[tuple[Schema, bytes]] = [(InteractionSchema(), INTERACTION)]
    pairs += [(CloudEventSchema(), event) for event in (CLOUDEVENT, SPACED, ONE_SPACE)]
    pairs += [(PydanticSchema(f"{__name__}:Anything"), PLAIN), (JsonSchema(path), PLAIN)]
    loaded = [("interaction", INTERACTION), ("cloudevent", CLOUDEVENT), (f"{__name__}:Anything", PLAIN)]
    return pairs + [(load(name), event) for name, event in [*loaded, (str(path), PLAIN)]]


def verdict(schema: Schema, event: bytes) -> str | None:
    """Of both passes, which must agree where the first one accepts; None: it is valid."""
    refusal = schema.explain(event)
    (key,) = schema.keys([event])
    assert key is None or refusal is None, "the fast pass accepts what the model refuses"
    if refusal is None:
        return None
    assert refusal.reason is Reason.UNPARSABLE
    return refusal.errors[0].message


SIGNS = ("", "-")
TAKEN = [
    *("1e400", "-1e400", "1E+400", "1e-400", "0e99999", "1e99999999999999999999", "-1e309", "1e308"),
    *("1.7976931348623157e308", "1.7976931348623159e308", "5e-324", "-0", "-0.0", "9007199254740993"),
    *(sign + "9" * size + rest for sign in SIGNS for size in (309, MAX_DIGITS) for rest in ("", ".5", "e1")),
    *("0." + "9" * (MAX_DIGITS + 1), "1e" + "0" * (MAX_DIGITS + 1) + "1", "1e-" + "9" * (MAX_DIGITS + 1)),
    *('"' + "9" * 5_000 + '"', '"\\"' + "9" * 5_000 + '"', '{"' + "9" * 5_000 + '":1}', "[1e400,-1e999,{}]"),
]  # fmt: skip
REFUSED = [
    sign + "9" * digits + rest
    for sign in SIGNS
    for digits in (MAX_DIGITS + 1, MAX_DIGITS + 37, MAX_DIGITS + 38, 4_400, 4_401, 20_000)
    for rest in ("", ".5", "e1", "e-4000")
] + ["[1," + "9" * 5_000 + "]", '{"a":["' + "9" * 9_000 + '",' + "9" * 4_301 + "]}"]


@each("number", TAKEN)
def test_what_is_a_number_to_one_schema_is_one_to_all(
    schemas: list[tuple[Schema, bytes]], number: str
) -> None:
    assert [verdict(schema, event % number.encode()) for schema, event in schemas] == [None] * len(schemas)


@each("number", REFUSED)
def test_a_number_that_is_too_long_is_so_to_all(schemas: list[tuple[Schema, bytes]], number: str) -> None:
    told = {verdict(schema, event % number.encode()) for schema, event in schemas}
    assert told == {f"a number has more than {MAX_DIGITS} digits before its point"}


def test_a_json_schema_sees_a_number_beyond_a_double_as_the_largest(tmp_path: Path) -> None:
    path = tmp_path / "bounded.json"
    path.write_text('{"properties": {"n": {"type": "number", "maximum": 5}, "m": {"minimum": -1e300}}}')
    schema = JsonSchema(path)
    assert schema.explain(b'{"n":-1e400}') is None
    refusal = schema.explain(b'{"n":1e400,"m":-1e999}')
    assert refusal is not None
    assert sorted(error.field for error in refusal.errors) == ["m", "n"]


@given(st.lists(st.tuples(st.integers(0, 9_000), st.sampled_from([b"9", b"a", b"."])), max_size=5))
def test_the_quick_look_for_long_numbers_misses_none(runs: list[tuple[int, bytes]]) -> None:
    text = b"".join(char * size for size, char in runs)
    assert grammar.has_short_numbers(text) == (not re.search(rb"\d{4301}", text))


CONSTANTS = sorted(
    {
        *(grammar.DEEP_BYTES, grammar.MAX_DIGITS, interaction._DEEP_BYTES, grammar.DEEPEST),
        *(200, 530, 4_300, 4_337, 4_400, attributes._MAX_MEMBERS),
    }
)


@settings(max_examples=examples(60))
@given(st.data())
def test_at_the_borders_the_fast_pass_accepts_nothing_that_the_model_refuses(
    schemas: list[tuple[Schema, bytes]], data: st.DataObject
) -> None:
    """Sizes around every constant of the fast pass: of the whole event, and of what is in it."""
    schema, event = data.draw(st.sampled_from(schemas))
    size = max(1, data.draw(st.sampled_from(CONSTANTS)) + data.draw(st.integers(-4, 4)))
    whole = data.draw(st.booleans())  # is it the event that has this size?
    room = max(1, size - len(event) + 2 if whole else size)
    kind = data.draw(
        st.sampled_from(["integer", "fraction", "text", "arrays", "objects", "mixed", "members"])
    )
    half = b"[" * (room // 2)
    inside = {
        "integer": b"9" * room,
        "fraction": b"-" + b"9" * max(1, room - 3) + b".5",
        "text": b'"' + b"9" * max(0, room - 2) + b'"',
        "arrays": half + b"]" * (room // 2) or b"[]",
        "objects": b'{"":' * (room // 5) + b"1" + b"}" * (room // 5),
        "mixed": b'[{"":' * (room // 7) + b"9" * MAX_DIGITS + b"}]" * (room // 7),
        "members": b"{" + b",".join(b'"%d":[]' % n for n in range(room // 8)) + b"}",
    }[kind]
    one = event % inside
    refused = schema.explain(one) is not None
    ahead = data.draw(st.sampled_from([0, 1, 15, 16, 17, 63, 64, 65]))  # blocks of 16 and 64
    for neighbours in ([event % b"1"] * ahead, [b"{"] * ahead):
        keys = schema.keys([*neighbours, one])
        assert not (refused and keys[-1] is not None)


@given(
    st.integers(-4, 4).map(lambda off: attributes._MAX_MEMBERS + off),
    st.integers(-4, 4).map(lambda off: 20 * attributes._MAX_MEMBERS + off),
    st.sampled_from([b'"x"', b"1", b"1e400", b"null", b'"\\u0000"', b"[]"]),
    st.sampled_from([b"", b"Upper", b"a_b", b"data_base64"]),
)
def test_attributes_as_many_and_as_long_as_the_fast_pass_learns(
    members: int, characters: int, value: bytes, odd: bytes
) -> None:
    """``PlainEvents`` leaves more than 64 members, or 1,280 characters of names, to the model."""
    required = b'"specversion":"1.0","id":"1","source":"/x","type":"t"'
    names = [b"n%d" % n for n in range(members - 4)]
    names[-1] += b"z" * max(0, characters - sum(map(len, names)) - len("specversionidsourcetype"))
    if odd:
        names[0] = odd
    extensions = b",".join(b'"%b":%b' % (name, value) for name in names)
    schema = CloudEventSchema()
    event = b"{%b,%b}" % (required, extensions)
    (key,) = schema.keys([event])
    assert not (key is not None and schema.explain(event))
