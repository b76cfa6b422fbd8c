"""Routing: the quick pass and the explanations against a plain interpreter, and events that are no events."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.events import lines
from benchmarks.filters import PATTERNS
from ingestd.core.errors import UserError
from ingestd.processing.routes import compile as compile_routes
from tests.each import each
from tests.effort import examples
from tests.unit.processing.pattern_reference import matches

NAMES = st.sampled_from(["a", "b", "c", "é", '"'])
TEXTS = st.sampled_from(["", "x", "xy", "X", "yx", "xx", "*", "é", "É", "10.0.0.1", "10.9.0.1", "::1", "1"])
NUMBERS = st.sampled_from([0, 1, 1.0, -1, 2.5, 5, 5e9, 6e9, 10**12, -(10**40), 1e300, 10**400])
SCALARS = st.one_of(TEXTS, NUMBERS, st.sampled_from([None, True, False]))
EVENTS = st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)

BOUND_NUMBERS = st.sampled_from([-1, 0, 1, 2.5, 5, 5e9, 6e9, -7e9, 10**12, 1e300, -1.7e308])
WILDCARDS = st.sampled_from(["*", "x*", "*x", "x*x", "*x*y*", r"\*", "x", "*x*x"])
BOUNDS = st.sampled_from(["=", "<", "<=", ">", ">="])


def some(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return values | st.lists(values, min_size=1, max_size=3)


def ignoring_case(texts: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    return texts | st.fixed_dictionaries({"equals-ignore-case": texts})


FULL_TEXTS = TEXTS.filter(bool)
OPERATORS = st.one_of(
    st.fixed_dictionaries({"prefix": ignoring_case(TEXTS)}),
    st.fixed_dictionaries({"suffix": ignoring_case(TEXTS)}),
    st.fixed_dictionaries({"equals-ignore-case": TEXTS}),
    st.fixed_dictionaries({"wildcard": WILDCARDS}),
    st.fixed_dictionaries({"exists": st.booleans()}),
    st.fixed_dictionaries({"cidr": st.sampled_from(["10.0.0.0/16", "::/64", "10.0.0.1/32"])}),
    st.fixed_dictionaries({"numeric": st.tuples(BOUNDS, BOUND_NUMBERS).map(list)}),
    st.just({"numeric": [">", 0, "<=", 5]}),
    st.fixed_dictionaries({"anything-but": some(TEXTS) | some(BOUND_NUMBERS)}),
    st.fixed_dictionaries(
        {
            "anything-but": st.one_of(
                st.fixed_dictionaries({"prefix": some(FULL_TEXTS)}),
                st.fixed_dictionaries({"suffix": some(FULL_TEXTS)}),
                st.fixed_dictionaries({"equals-ignore-case": some(TEXTS)}),
                st.fixed_dictionaries({"wildcard": some(WILDCARDS)}),
            )
        }
    ),
)
LEAVES = st.lists(SCALARS | OPERATORS, min_size=1, max_size=3)


def objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    plain = st.dictionaries(NAMES, inner, min_size=1, max_size=3)
    either = st.lists(plain, min_size=2, max_size=3)
    return plain | st.builds(lambda fields, branches: {**fields, "$or": branches}, plain, either)


PATTERN = st.recursive(objects(LEAVES), lambda inner: objects(LEAVES | inner), max_leaves=5)


@given(st.lists(PATTERN, min_size=1, max_size=3), st.lists(EVENTS, max_size=6))
def test_routing_is_what_a_plain_interpreter_says(patterns: list[Any], events: list[Any]) -> None:
    named = {}
    for number, pattern in enumerate(patterns):
        try:
            compile_routes({"s": pattern})
        except UserError as error:
            assert "asked for twice" in str(error)  # noqa: PT017 - all else is a valid pattern
        else:
            named[f"sink{number}"] = pattern
    routes = compile_routes(named)
    texts = [json.dumps(event).encode() for event in events]
    routed = routes.route(texts)
    expected = {
        sink: [at for at, event in enumerate(events) if matches(pattern, event)]
        for sink, pattern in named.items()
    }
    assert {sink: list(positions) for sink, positions in routed.positions.items()} == expected
    assert routed.unmatched == [
        at for at in range(len(events)) if not any(at in all_ for all_ in expected.values())
    ]
    for at, text in enumerate(texts):
        for explained in routes.explain(text):
            assert explained.matches == (at in expected[explained.sink])
            assert explained.why.isprintable()


ABSENT = st.just([{"exists": False}])
BRANCH = st.dictionaries(st.sampled_from("bcd"), ABSENT | st.just([1]), min_size=1, max_size=2)
IN_LISTS = st.recursive(
    st.builds(lambda branches: {"a": [1], "$or": branches}, st.lists(BRANCH, min_size=2, max_size=3)),
    lambda below: st.fixed_dictionaries({"e": below}, optional={"f": ABSENT}),
    max_leaves=2,
)
ELEMENTS = st.sets(st.sampled_from("abcd"), max_size=2).map(lambda names: dict.fromkeys(names, 1))
LISTS = st.recursive(
    st.lists(ELEMENTS, min_size=2, max_size=3),
    lambda below: st.lists(below | ELEMENTS, max_size=3) | st.fixed_dictionaries({"e": below}),
    max_leaves=2,
)


@settings(max_examples=examples(100))
@given(IN_LISTS, st.fixed_dictionaries({"e": LISTS}))
def test_an_absence_in_a_branch_of_or_below_lists_of_objects_is_explained(pattern: Any, event: Any) -> None:
    routes = compile_routes({"s": {"e": pattern}})
    text = json.dumps(event).encode()
    (explained,) = routes.explain(text)
    assert explained.matches == matches({"e": pattern}, event) == bool(routes.route([text]).positions["s"])
    assert explained.why.isprintable()


@given(st.binary(max_size=60), st.lists(PATTERN, min_size=1, max_size=2))
def test_no_bytes_make_routing_raise(garbage: bytes, patterns: list[Any]) -> None:
    try:
        routes = compile_routes({"all": {}, **{f"s{n}": pattern for n, pattern in enumerate(patterns)}})
    except UserError:
        return
    for event in (garbage, b'{"a":' + garbage + b"}", b'{"a":"' + garbage + b'","b":[' + garbage + b"]}"):
        routed = routes.route([event])
        assert routed.positions["all"] == range(1)
        assert [one.matches for one in routes.explain(event)] == [bool(p) for p in routed.positions.values()]


PRESENT = {"a": [{"exists": True}]}


@each(
    ("event", "matched"),
    [
        (b"", False),
        (b"{", False),
        (b"[]", False),
        (b'[{"a":1}]', False),
        (b'"a"', False),
        (b"null", False),
        (b'{"a":NaN}', False),
        (b'{"a":"\\ud800"}', False),
        (b'{"a":"\xff"}', False),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", False),
        (b'{"a":' + b"[" * 300 + b"1" + b"]" * 300 + b"}", False),
        (b'{"a":' + b"[" * 150 + b"1" + b"]" * 150 + b"}", True),
        (b'{"a":1,"b":' + b'{"b":' * 100_000 + b"1" + b"}" * 100_001, False),
        (b'{"a":' + b"9" * 10_000 + b"}", True),
        (b'{"a":-1e999}', True),
        (b' \t{"a" : 1 }\n', True),
        (b'{"\\u0061":1}', True),
    ],
)
def test_what_is_hardly_an_event_reaches_only_sinks_without_a_pattern_and_raises_nothing(
    event: bytes, matched: bool
) -> None:
    routes = compile_routes({"all": {}, "s": PRESENT})
    routed = routes.route([b'{"a":1}', event, b"{}"])
    assert routed.positions["all"] == range(3)
    assert routed.positions["s"] == ([0, 1] if matched else [0])
    assert [one.matches for one in routes.explain(event)] == [True, matched]


@each(
    ("event", "expected"),
    [
        (b'{"a":1,"a":"x"}', True),
        (b'{"a":"x","a":1}', False),
        (b'{"a":{"b":1},"a":"x"}', True),
        (b'{"a":"x","a":{}}', False),
        (b'{"a":["x"],"a":[]}', False),
    ],
)
def test_of_two_members_of_one_name_the_last_counts(event: bytes, expected: bool) -> None:
    routes = compile_routes({"s": {"a": ["x"]}})
    assert bool(routes.route([event]).positions["s"]) is expected
    assert routes.explain(event)[0].matches is expected


def test_numbers_beyond_a_double_are_over_or_under_every_bound() -> None:
    events = [b'{"a":1e999}', b'{"a":' + b"9" * 9_999 + b"}", b'{"a":-1e999}', b'{"a":' + b"9" * 4_000 + b"}"]
    patterns = {
        "over": {"a": [{"numeric": [">", 1.7976931348623157e308]}]},
        "under": {"a": [{"numeric": ["<=", -1e300]}]},
        "between": {"a": [{"numeric": [">", -1e308, "<", 1e308]}]},
        "not": {"a": [{"anything-but": 5}]},
    }
    routes = compile_routes(patterns)
    assert routes.route(events).positions == {"over": [0, 1, 3], "under": [2], "between": [], "not": range(4)}
    for at, event in enumerate(events):
        assert [one.matches for one in routes.explain(event)] == [at != 2, at == 2, False, True]


def test_sinks_without_a_pattern_cost_nothing_and_get_everything() -> None:
    class Unreadable(list[bytes]):
        def __getitem__(self, _: Any) -> Any:
            raise AssertionError("an event was looked at")

    events = Unreadable([b"{}", b"[]"])
    assert compile_routes({"a": {}, "b": {}}).route(events) == ({"a": range(2), "b": range(2)}, [])
    assert compile_routes({}).route(events) == ({}, [0, 1])


def test_positions_are_a_range_where_they_are_all_and_ascend_over_blocks() -> None:
    routes = compile_routes({"odd": {"n": [1]}, "any": {"n": [{"exists": True}]}, "none": {"x": [1]}})
    # every third event goes the slow way, among those that do not
    events = [b'{"n":%d}' % (n % 2) if n % 3 else b'{"n":[%d]}' % (n % 2) for n in range(300)]
    routed = routes.route(events)
    assert routed.positions == {"odd": list(range(1, 300, 2)), "any": range(300), "none": []}
    assert routed.unmatched == []
    assert routes.route([]).positions == {"odd": range(0), "any": range(0), "none": range(0)}


def test_one_field_may_be_a_value_to_one_sink_and_an_object_to_another() -> None:
    routes = compile_routes(
        {"value": {"a": ["x"]}, "object": {"a": {"b": ["y"]}}, "none": {"a": [{"exists": False}]}}
    )
    routed = routes.route([b'{"a":"x"}', b'{"a":{"b":"y"}}', b'{"a":["x",{"b":"y"}]}', b"{}"])
    assert routed.positions == {"value": [0, 2], "object": [1, 2], "none": [1, 3]}


def test_the_quick_pass_decides_the_benchmarks_events_and_agrees_with_the_exact_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    events = [line for fate, line in lines(2_000) if fate == "delivered"]
    exact = compile_routes(PATTERNS)
    monkeypatch.setattr(exact, "_quick", None)
    quick = compile_routes(PATTERNS)

    def refuse(_: bytes) -> None:
        raise AssertionError("this event went the slow way")

    monkeypatch.setattr(quick, "_read", refuse)
    routed = quick.route(events)
    assert routed == exact.route(events)
    assert all(0 < len(positions) < len(events) for positions in routed.positions.values())


EXPLAINED: list[tuple[Any, Any, bool, str]] = [
    (
        {"items": {"sku": ["A"], "$or": [{"qty": [1]}, {"cancelled": [{"exists": False}]}]}},
        {"items": [{"sku": "A"}, {"sku": "B", "cancelled": True}]},
        True,
        'items.sku is "A"; items.cancelled is in other elements of the array only (no value)',
    ),
    (
        {"b": {"c": [1], "$or": [{"d": [2]}, {"a": [{"exists": False}]}]}},
        {"b": [{"c": 1}, {"a": 5}]},
        True,
        "b.c is 1; b.a is in other elements of the array only (no value)",
    ),
    (
        {"e": {"a": [1], "$or": [{"b": [{"exists": False}], "d": [{"exists": False}]}, {"c": [2]}]}},
        {"e": [[{"a": 1}], {"b": 0}]},
        True,
        "e.a is 1; e.b is in other elements of the array only (no value); e.d is not there (no value)",
    ),
    (
        {"e": {"a": [{"exists": False}], "b": [1], "c": [1]}},
        {"e": [{"b": 1}, {"a": 1, "b": 1}]},
        False,
        "e.c is not there, expected 1",
    ),
    ({"t": [{"numeric": [">", 0]}]}, {"t": -1764300000000}, False, "t is -1764300000000, expected a number"),
    ({"a": ["x"]}, {"a": "x"}, True, 'a is "x"'),
    ({"a": ["x", "y"]}, {"a": 5}, False, 'a is 5, expected "x" or "y"'),
    ({"a": {"b": ["x"]}}, {}, False, 'a.b is not there, expected "x"'),
    ({"a": ["x"]}, {"a": {"b": 1}}, False, 'a is an object, expected "x"'),
    ({"a": ["x"]}, {"a": []}, False, 'a is not there, expected "x"'),
    ({"a": [None]}, {"a": True}, False, "a is true, expected null"),
    ({"a": [{"prefix": "us-"}]}, {"a": "us-1"}, True, 'a is "us-1" (text that begins with "us-")'),
    (
        {"a": [{"suffix": {"equals-ignore-case": "x"}}]},
        {"a": 1},
        False,
        'expected text that ends with "x" in any case',
    ),
    ({"a": [{"numeric": [">=", 5]}]}, {"a": 3}, False, "a is 3, expected a number at least 5"),
    ({"a": [{"numeric": ["<", 5]}]}, {"a": 5}, False, "a is 5, expected a number under 5"),
    ({"a": [{"numeric": [">", 1, "<=", 5]}]}, {"a": 1}, False, "expected a number over 1 and at most 5"),
    ({"a": [{"numeric": ["=", 5]}]}, {"a": 1}, False, "expected the number 5"),
    ({"a": [{"cidr": "10.0.0.0/8"}]}, {"a": "::"}, False, 'a is "::", expected an address in 10.0.0.0/8'),
    ({"a": [{"exists": False}]}, {"a": None}, False, "a is null, expected no value"),
    ({"a": [{"exists": False}]}, {}, True, "a is not there (no value)"),
    ({"a": [{"exists": True}]}, {}, False, "a is not there, expected any value"),
    (
        {"a": [{"anything-but": {"prefix": ["x", "y"]}}]},
        {"a": "yz"},
        False,
        'anything but text that begins with "x" or "y"',
    ),
    ({"a": [{"wildcard": "x*"}]}, {"a": "y"}, False, 'expected text like "x*"'),
    ({"a": [{"equals-ignore-case": "x"}]}, {"a": "y"}, False, 'expected "x" in any case'),
    ({"a": [3]}, {"a": [1, 2, 3, 4]}, True, "a is 3"),
    ({"a": [9]}, {"a": [1, 2, 3, 4, 5]}, False, "a is 1 and 2 and 3 and 2 more, expected 9"),
    ({"a": [1], "b": [2], "c": [3]}, {"a": 1, "b": 5}, False, "b is 5, expected 2"),
    ({"a": [1], "$or": [{"b": [2]}, {"c": [3]}]}, {"a": 1, "c": 3}, True, "a is 1; c is 3"),
    (
        {"$or": [{"b": [2]}, {"c": [3]}]},
        {"b": 1},
        False,
        "nothing of $or: b is 1, expected 2; or c is not there, expected 3",
    ),
    ({"a": {"b": [1], "c": [2]}}, {"a": [{"b": 1}, {"c": 2}]}, False, "no element of an array has all of it"),
    ({"a": ["x"]}, {"a": "\x1b[31m\u202e\n"}, False, 'a is "\\u001b[31m\\u202e\\n", expected "x"'),
    ({"a": ["x"]}, {"a": "y" * 10_000}, False, "y…, expected"),
    ({"a": list(range(100))}, {}, False, "expected 0 or 1 or 2 or 3 or 4 or 5 or 6 or 7 or 92 more"),
    ({"a\x07": ["x"]}, {}, False, "a\\x07 is not there"),
]


@each(("pattern", "event", "match", "why"), EXPLAINED)
def test_an_explanation_names_field_expectation_and_what_is_there(
    pattern: Any, event: Any, match: bool, why: str
) -> None:
    (explained,) = compile_routes({"s": pattern}).explain(json.dumps(event).encode())
    assert (explained.sink, explained.matches) == ("s", match)
    assert why in explained.why
    assert explained.why.isprintable()
    assert len(explained.why) < 250


def test_explanations_come_in_the_order_of_the_sinks() -> None:
    explained = compile_routes({"b": {"x": [1]}, "a": {}}).explain(b"no event")
    assert explained == [
        ("b", False, "it cannot be read as a JSON object"),
        ("a", True, "it takes every event"),
    ]


def test_an_event_goes_the_same_ways_whoever_its_neighbours_are() -> None:
    events = [line for _, line in lines(500)]
    routes = compile_routes(PATTERNS)
    alone = [routes.route([event]).positions for event in events]
    for sink, positions in routes.route(events).positions.items():
        assert list(positions) == [at for at, one in enumerate(alone) if one[sink]]


@each("name", ["cancelled", "removed", "sku0", "voided"])
def test_an_absence_is_looked_for_in_the_same_object_whatever_its_name(name: str) -> None:
    pattern = {"items": {"sku": ["A"], name: [{"exists": False}]}}
    elsewhere = json.dumps({"items": [{"sku": "A"}, {"sku": "B", name: True}]}).encode()
    beside_it = json.dumps({"items": [{"sku": "A", name: True}, {"sku": "B"}]}).encode()
    assert compile_routes({"s": pattern}).route([elsewhere, beside_it]).positions == {"s": [0]}
