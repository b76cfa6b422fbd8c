import json
import re
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ingestd.core.errors import UserError
from ingestd.core.json_path import names
from ingestd.schemas.key_paths import KeyPaths
from tests.each import each
from tests.effort import examples
from tests.unit.schemas.broken_events import broken_by_byte, broken_by_field, json_values


def key(paths: list[str], event: Any) -> str | None:
    return KeyPaths(paths).of(json.dumps(event).encode())


def test_strings_are_joined_as_they_are() -> None:
    event = {"orderId": "é/1", "meta": {"version": "v2", "x": 1}, "y": [1, 2]}
    assert key(["orderId"], event) == "é/1"
    assert key(["meta.version", "orderId"], event) == "v2\0é/1"


@each(
    ("path", "event", "expected"),
    [
        ("a.b.c", {"a": {"b": {"c": "x"}}}, "x"),
        ("a.0.b", {"a": [{"b": "x"}]}, "x"),
        ("a.1", {"a": ["x", "y"]}, "y"),
        ("a.0", {"a": {"0": "x"}}, "x"),
        ("a.2", {"a": ["x", "y"]}, None),
        ("a.00", {"a": ["x"]}, None),
        ("a.-1", {"a": ["x"]}, None),
        (r"a\.b", {"a.b": "x", "a": {"b": "y"}}, "x"),
        (r"a\,b", {"a,b": "x"}, "x"),
        (r"a\\b", {"a\\b": "x"}, "x"),
        ('say "hi"', {'say "hi"': "x"}, "x"),
        ("é", {"é": "x"}, "x"),
        ("a", {"a": None}, None),
        ("a", {"b": "x"}, None),
        ("a.b", {"a": "x"}, None),
        ("a.b", {"a": None}, None),
        ("a", {"a": ""}, None),
        ("a", [], None),
    ],
)
def test_paths(path: str, event: Any, expected: str | None) -> None:
    assert key([path], event) == expected


def test_one_missing_value_is_no_key_but_one_empty_string_is() -> None:
    assert key(["a", "b"], {"a": "x"}) is None
    assert key(["a", "b"], {"a": "x", "b": ""}) == "x\0"
    assert key(["a", "b"], {"a": "", "b": ""}) is None


def test_a_path_may_be_the_beginning_of_another() -> None:
    assert key(["a.b", "a"], {"a": {"b": "x"}}) == 'x\0\1={"b": "x"}'


@each("event", [b"", b"{", b"\xff", b'{"a":"x"', b'{"a":NaN}', b'{"a":"\xff"}', b"[" * 100_000])
def test_an_event_that_is_not_json_has_no_key(event: bytes) -> None:
    assert KeyPaths(["a"]).of(event) is None


def test_numbers_and_other_values_keep_their_text() -> None:
    texts = [
        b"1",
        b'"1"',
        b"1.0",
        b"true",
        b'"true"',
        b"[1]",
        b"1180591620717411303424",
        b"1180591620717411303425",
    ]
    keys = [KeyPaths(["a"]).of(b'{"a":' + text + b"}") for text in texts]
    assert None not in keys
    assert len(set(keys)) == len(texts)


def test_strings_cannot_pass_for_other_values_or_for_two() -> None:
    one = [key(["a"], {"a": value}) for value in (1, "\1=1", "\1\1=1", "\0", "\0010", "\1\0010")]
    assert len(set(one)) == len(one)
    two = [key(["a", "b"], {"a": a, "b": b}) for a, b in (("x", "y\0z"), ("x\0y", "z"), ("x", "y\0010z"))]
    assert len(set(two)) == len(two)


_leaves = st.text(st.sampled_from("\0\1=0a1"), max_size=4) | st.integers(-2, 2) | st.booleans() | st.just(1.0)
_pairs = st.tuples(_leaves, _leaves)


@given(_pairs, _pairs)
@settings(max_examples=examples(100))
def test_different_values_never_share_a_key(one: tuple[Any, Any], other: tuple[Any, Any]) -> None:
    paths = KeyPaths(["a", "b.c"])
    keys = [paths.of(json.dumps({"a": a, "b": {"c": c}}).encode()) for a, c in (one, other)]
    if json.dumps(one) != json.dumps(other) and None not in keys:
        assert keys[0] != keys[1]


VALID = {"a": "x", "b": {"c": "y", "d": 1}, "e": [{"f": "z"}]}


@given(broken_by_field(valid=VALID) | broken_by_byte(valid=VALID))
@settings(max_examples=examples(100))
def test_the_compiled_way_gives_what_the_walk_gives(event: bytes) -> None:
    try:
        event.decode()
    except UnicodeDecodeError:
        return  # bytes outside the key's own values are not looked at, and the two look at different ones
    paths = KeyPaths(["a", "b.c"])
    assert paths._strings is not None
    assert paths.of(event) == paths._walk(event)


NAME = st.text(min_size=1, max_size=5) | st.sampled_from([*"*$.,[]/#\"'", "a.b"])
NAMES = st.lists(NAME, min_size=1, max_size=3)
TRIMMED = st.lists(NAME.filter(lambda name: name.strip() == name), min_size=1, max_size=3)


@given(NAMES, json_values)
def test_every_name_can_be_written(names_: list[str], value: Any) -> None:
    event: Any = "found"
    for name in reversed(names_):
        event = {name: event, name + "'": value}
    written = names(tuple(names_))
    if not any(name.strip() != name for name in names_):
        assert KeyPaths.parse(written).of(json.dumps(event).encode()) == "found"
    assert key([written], event) == "found"


@given(TRIMMED, TRIMMED)
def test_every_notation_means_the_same(one: list[str], other: list[str]) -> None:
    assume(one != other)
    wanted = (tuple(one), tuple(other))
    for left in spellings(one):
        for right in spellings(other):
            assert KeyPaths.parse(f"{left},{right}").paths == wanted
            assert KeyPaths.parse(f" {left} , {right} ").paths == wanted


def spellings(path: list[str]) -> list[str]:
    dotted = names(tuple(path))
    double = "".join(f"[{json.dumps(name)}]" for name in path)
    single = "".join(f"['{NEEDS_BACKSLASH.sub(BACKSLASHED, name)}']" for name in path)
    found = [dotted, f"$.{dotted}", f".{dotted}", double, f"${double}", f".{double}", single, f"${single}"]
    if not set("\\[\"'") & set("".join(path)):  # a list of pointers with these is hard to take apart
        found.append("".join("/" + name.replace("~", "~0").replace("/", "~1") for name in path))
        found[-1] = found[-1].replace(",", "\\,")
    return found


NEEDS_BACKSLASH, BACKSLASHED = re.compile(r"['\\]"), r"\\\g<0>"


@each(
    "path",
    [
        *("orderId", "$.orderId", ".orderId", "/orderId", "#/orderId", "$['orderId']", '$["orderId"]'),
        *("['orderId']", '["orderId"]', '."orderId"', '.["orderId"]', "$[ 'orderId' ]", '$["order\\u0049d"]'),
    ],
)
def test_the_notations_of_an_order_id(path: str) -> None:
    assert KeyPaths.parse(path).paths == (("orderId",),)
    assert KeyPaths.parse(f"version,{path}").paths == (("version",), ("orderId",))


@each(
    ("path", "parts"),
    [
        ("a.b", ("a", "b")),
        ('$["a"]["b"]', ("a", "b")),
        ("/a/b", ("a", "b")),
        (r"a\.b", ("a.b",)),
        ("$['a.b']", ("a.b",)),
        ("/a.b", ("a.b",)),
        ("/a~1b", ("a/b",)),
        ("items[0].id", ("items", "0", "id")),
        ("$.items[ 0 ]['id']", ("items", "0", "id")),
        ("/items/0/id", ("items", "0", "id")),
        (".items.[0].id", ("items", "0", "id")),
        ("_id.$oid", ("_id", "$oid")),
        ("@timestamp", ("@timestamp",)),
        ("order-id", ("order-id",)),
        (r"\*", ("*",)),
        (r"a\[0\]", ("a[0]",)),
    ],
)
def test_what_a_path_names(path: str, parts: tuple[str, ...]) -> None:
    assert KeyPaths.parse(path).paths == (parts,)


@each(
    ("path", "hint"),
    [
        ("$", "'$' is the whole event: expected a name in it, like orderId"),
        ("$..orderId", ".. stands for many values"),
        ("items[*].id", "one value is wanted"),
        ("$.items.*", r"* stands for many values, and one is wanted; for a name write \*"),
        ("items[].id", "one value is wanted"),
        ("items[?(@.id)]", "one value is wanted"),
        ("items[0:2]", "one value is wanted"),
        ("items[-1]", "counted from its begin"),
        ("$[orderId]", "quote the name: ['orderId']"),
        ("$['orderId'", "brackets"),
        ("items[0]id", "names joined by dots"),
        ("order.", "names joined by dots"),
        ("/order~Id", "~ is written ~0"),
        ("/order//id", "a name is missing"),
        ("$['']", "empty"),
        (r"order\Id", "a backslash stands before"),
    ],
)
def test_what_cannot_be_understood_is_refused_with_a_hint(path: str, hint: str) -> None:
    with pytest.raises(UserError) as caught:
        KeyPaths.parse(path)
    assert hint in str(caught.value)


def test_parse() -> None:
    assert KeyPaths.parse("A,B.c").paths == (("A",), ("B", "c"))
    assert KeyPaths.parse(" A , B.c ").paths == (("A",), ("B", "c"))
    assert KeyPaths.parse(r"a\,b,c\.d\\").paths == (("a,b",), ("c.d\\",))


@each(
    "text",
    [
        *("", " ", ",", "a,", ",a", "a,,b", ".", "a.", "a..b", "a\\", "a\\b", "a,a"),
        *("a" * 300, "a" * 1_000_000, "a." * 20 + "a", ",".join(f"p{n}" for n in range(17))),
    ],
    ids=lambda text: repr(text[:12]),
)
def test_nonsense_is_refused_in_one_short_line(text: str) -> None:
    with pytest.raises(UserError) as caught:
        KeyPaths.parse(text)
    assert len(str(caught.value)) < 250
    assert str(caught.value).isprintable()
