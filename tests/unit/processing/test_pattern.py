"""The pattern language by its operators, its limits, and the words for a pattern that is wrong."""

import json
import time
from typing import Any

import pytest

from ingestd.core.errors import UserError
from ingestd.processing.patterns.parse import MAX_DEPTH
from ingestd.processing.routes import compile as compile_routes
from tests.each import each
from tests.machine import patience

MATCHES: list[tuple[Any, Any, Any]] = [
    # what the array of field "a" holds, values that match, values that do not; (): the field is not there
    (["x", "y"], ["x", "y", ["z", "x"]], ["z", "X", "", 1, None, True, [], {}, {"x": 1}, ()]),
    ([""], [""], ["x", None, 0, ()]),
    ([None], [None, [None]], ["", 0, False, "null", [], ()]),
    ([True], [True], [1, 1.0, "true", False, ()]),
    ([False], [False], [0, 0.0, "", None, ()]),
    ([1], [1, 1.0, [0, 1]], [True, "1", 2, ()]),
    ([0], [0, -0.0], [False, None, ""]),
    ([300], [300, 300.0, 3.0e2], ["300"]),
    ([123456789012], [123456789012], [123456789013]),
    ([10**30], [10**30], [10**30 + 1]),
    ([{"prefix": "ab"}], ["ab", "abc"], ["a", "xab", "AB", 1, None, ()]),
    ([{"prefix": ""}], ["", "x"], [1, None, {}, ()]),
    ([{"suffix": "ab"}], ["ab", "xab"], ["b", "abx", "AB", 1, None, ()]),
    ([{"equals-ignore-case": "Alice"}], ["alice", "ALICE"], ["alic", "alicee", 1, ()]),
    ([{"equals-ignore-case": "ZÜRICH ὈΔΥΣΣΕΎΣ"}], ["zürich ὀδυσσεύς"], ["zurich"]),
    ([{"equals-ignore-case": "K"}], ["k", "\u212a"], ["q"]),
    ([{"prefix": {"equals-ignore-case": "Ev"}}], ["EVENT", "ev", "eV1"], ["e", "nev", 1]),
    ([{"suffix": {"equals-ignore-case": ".PNG"}}], ["a.png", ".Png"], ["png", "a.png ", 1]),
    ([{"prefix": {"equals-ignore-case": "İ"}}], ["İx"], ["i̇x"]),
    ([{"wildcard": "*"}], ["", "x"], [1, None, ()]),
    ([{"wildcard": "a*"}], ["a", "abc"], ["ba", ""]),
    ([{"wildcard": "*.png"}], [".png", "x/y.png"], ["png", "a.png/"]),
    ([{"wildcard": "dir/*.png"}], ["dir/.png", "dir/a/b.png"], ["dir/png", "dir.png", "xdir/a.png"]),
    ([{"wildcard": "ab*ba"}], ["abba", "abxba"], ["aba", "ab"]),
    ([{"wildcard": "*a*b*a*"}], ["aba", "xaxbxax"], ["ab", "baab", "bba"]),
    ([{"wildcard": "a*b*b"}], ["abb", "abxb", "a b b"], ["ab", "axb"]),
    ([{"wildcard": "exact"}], ["exact"], ["exactly"]),
    ([{"wildcard": r"5\*\\*"}], ["5*\\", "5*\\x"], ["5x\\", "5*"]),
    ([{"wildcard": "a.*[b]\n*"}], ["a.[b]\n", "a.\n\n[b]\nx"], ["ax[b]\n"]),
    ([{"anything-but": "x"}], ["y", "", 1, None, True, ["x", "y"]], ["x", ["x"], [], {}, ()]),
    ([{"anything-but": ["x", "y"]}], ["z", 1], ["x", "y", ()]),
    ([{"anything-but": 5}], [6, "5", True, None], [5, 5.0]),
    ([{"anything-but": [1, 2]}], [3, True, "1"], [1, 2.0]),
    ([{"anything-but": {"prefix": "us-"}}], ["eu-1", "", 1, None], ["us-", "us-east-1", ()]),
    ([{"anything-but": {"prefix": ["us-", "eu-"]}}], ["ap-1"], ["us-1", "eu-1"]),
    ([{"anything-but": {"suffix": ".png"}}], ["a.gif", 1], [".png", "a.png"]),
    ([{"anything-but": {"suffix": [".png", ".gif"]}}], ["a.jpg"], ["a.gif"]),
    ([{"anything-but": {"equals-ignore-case": "init"}}], ["inits", 1], ["INIT", "init"]),
    ([{"anything-but": {"equals-ignore-case": ["a", "b"]}}], ["c"], ["A", "b"]),
    ([{"anything-but": {"wildcard": "*/lib/*"}}], ["/a/b", 1, None], ["/a/lib/b"]),
    ([{"anything-but": {"wildcard": ["*/lib/*", "*/bin/*"]}}], ["/a"], ["/lib/x", "/bin/x"]),
    ([{"numeric": ["=", 5]}], [5, 5.0], [5.1, "5", True, None, ()]),
    ([{"numeric": ["<", 5]}], [4.99, -5e9, -6e9, -(10**400)], [5, "4", False]),
    ([{"numeric": ["<=", 5]}], [5, 5.0, 0], [5.01]),
    ([{"numeric": [">", 0]}], [0.1, 5e9, 1764300000000, 10**30, 1.7976931348623157e308], [0, True]),
    ([{"numeric": ["<", 0]}], [-6000000000, -5e-324], [0, 6e9]),
    ([{"numeric": [">", 6e9, "<", 1e300]}], [8589934592, 1e299], [6e9, 1e300, -7e9]),
    ([{"numeric": ["=", 1764300000000]}], [1764300000000, 1.7643e12], [1764300000001]),
    ([{"anything-but": 123456789012}], [5, 123456789013, "123456789012"], [123456789012, 1.23456789012e11]),
    ([{"anything-but": [6e9, 1e300]}], [5], [6000000000, 1e300]),
    ([{"numeric": [">=", 7]}], [7, 8], [6.9]),
    ([{"numeric": [">", 10, "<=", 20]}], [10.5, 20], [10, 20.5, -15]),
    (
        [{"cidr": "10.0.0.0/8"}],
        ["10.0.0.0", "10.255.255.255"],
        ["11.0.0.0", "10.0.0", "10.0.0.0/8", 10, "::1"],
    ),
    ([{"cidr": "10.1.2.3/32"}], ["10.1.2.3"], ["10.1.2.4"]),
    ([{"cidr": "2001:db8::/32"}], ["2001:DB8::1"], ["2001:db9::1", "10.0.0.1", "2001:db8::1%eth0", "1" * 99]),
    ([{"exists": True}], ["", 0, None, False, [1], [[None]]], [{}, {"b": 1}, [], [{}], ()]),
    ([{"exists": False}], [(), {}, {"b": 1}, [], [{"b": 1}]], ["", None, [1], [{}, None]]),
    ([{"exists": False}, "x"], [(), "x"], ["y", None]),
    ([{"prefix": "a"}, {"numeric": [">", 3]}, None], ["ab", 4, None], ["b", 3, ()]),
]


def reaches(pattern: Any, event: bytes) -> bool:
    """Asked of ``route``, and of ``explain``, which have to agree."""
    routes = compile_routes({"s": pattern})
    routed = routes.route([event])
    (explained,) = routes.explain(event)
    assert explained.matches == bool(routed.positions["s"])
    assert routed.unmatched == ([] if explained.matches else [0])
    return explained.matches


def event_of(value: Any) -> bytes:
    return json.dumps({"z": 0} if value == () else {"a": value}).encode()


@each(("values", "matching", "others"), MATCHES, ids=[json.dumps(row[0]) for row in MATCHES])
def test_an_operator_matches_what_the_language_says_and_nothing_else(
    values: Any, matching: Any, others: Any
) -> None:
    for value in matching:
        assert reaches({"a": values}, event_of(value)), value
    for value in others:
        assert not reaches({"a": values}, event_of(value)), value


EMPLOYEES = (
    b'{"e":[[{"first":"John","last":"Doe"},{"first":"Anna","last":"Smith"}],'
    b'[{"first":"Peter","last":"Jones"}]]}'
)


@each(
    ("pattern", "event", "expected"),
    [
        ({"a": {"b": [1]}}, b'{"a":{"b":1,"c":2},"d":3}', True),
        ({"a": {"b": [1]}}, b'{"a":1}', False),
        ({"a": {"b": [1]}}, b'{"a.b":1}', False),
        ({"a.b": [1]}, b'{"a.b":1}', True),
        ({"a.b": [1]}, b'{"a":{"b":1}}', False),
        ({"a": [1], "b": [2]}, b'{"a":1,"b":3}', False),
        ({"a": {"b": [{"exists": False}]}}, b"{}", True),
        ({"a": {"b": [{"exists": False}]}}, b'{"a":null}', True),
        ({"a": {"b": [{"exists": False}]}}, b'{"a":{"b":null}}', False),
        ({"$or": [{"a": [1]}, {"b": [2]}]}, b'{"b":2}', True),
        ({"$or": [{"a": [1]}, {"b": [2]}]}, b'{"b":1}', False),
        ({"s": [0], "$or": [{"a": [1]}, {"b": [2], "c": [3]}]}, b'{"s":0,"b":2}', False),
        ({"s": [0], "$or": [{"a": [1]}, {"b": [2], "c": [3]}]}, b'{"s":0,"b":2,"c":3}', True),
        (
            {"d": {"$or": [{"a": [1]}, {"b": [2]}]}, "$or": [{"x": [1]}, {"y": [1]}]},
            b'{"d":{"b":2},"y":1}',
            True,
        ),
        ({"d": {"$or": [{"a": [1]}, {"b": [2]}]}, "$or": [{"x": [1]}, {"y": [1]}]}, b'{"d":{"b":2}}', False),
        ({"$or": [{"a": [1]}, {"b": [2], "$or": [{"c": [3]}, {"d": [4]}]}]}, b'{"b":2,"d":4}', True),
        ({"$or": [{"a": [1]}, {"b": [2], "$or": [{"c": [3]}, {"d": [4]}]}]}, b'{"b":2}', False),
        # array consistency: two fields of the elements of one array are looked for in the same element
        ({"e": {"first": ["Anna"]}}, EMPLOYEES, True),
        ({"e": {"first": ["Anna"], "last": ["Smith"]}}, EMPLOYEES, True),
        ({"e": {"first": ["Anna"], "last": ["Jones"]}}, EMPLOYEES, False),
        ({"e": {"first": ["Anna"]}, "$or": [{"e": {"last": ["Jones"]}}, {"x": [1]}]}, EMPLOYEES, False),
        ({"e": {"first": ["Anna"]}, "$or": [{"e": {"last": ["Smith"]}}, {"x": [1]}]}, EMPLOYEES, True),
        ({"e": {"first": [{"exists": False}]}}, b'{"e":[{"last":1},{"first":2}]}', False),
        ({"e": {"first": [{"exists": False}], "last": [1]}}, b'{"e":[{"last":1},{"first":2}]}', True),
        ({"a": [{"exists": False}], "$or": [{"a": {"b": [1]}}, {"c": [1]}]}, b'{"a":{"b":1}}', True),
        ({"a": [1], "$or": [{"a": {"b": [1]}}, {"c": [1]}]}, b'{"a":[1,{"b":1}]}', True),
        ({"a": [1], "$or": [{"a": {"b": [1]}}, {"c": [1]}]}, b'{"a":[[1],{"b":1}]}', False),
        ({"a": [1], "$or": [{"a": {"b": [1]}}, {"c": [1]}]}, b'{"a":[2,[1,{"b":1}]]}', True),
        # names that generated code or a decoder might trip over
        ({'"': {"\\": ["x"]}}, b'{"\\"":{"\\\\":"x"}}', True),
        ({'x"]) or True #': ["x"]}, b"{}", False),
        ({"a": ["{x}", "{0}", "{"]}, b'{"a":"{x}"}', True),
        ({"é😀": ["ß"]}, '{"é😀":"ß"}'.encode(), True),
        ({"": {"": [1]}}, b'{"":{"":1}}', True),
        ({"if": ["class"]}, b'{"if":"class"}', True),
    ],
)
def test_clauses_join_as_the_language_says(pattern: Any, event: bytes, expected: bool) -> None:
    assert reaches(pattern, event) is expected


@each(
    ("pattern", "message"),
    [
        ({"a": {}}, "a: expected at least one field, found an empty object"),
        ({"a": []}, "a: expected at least one value, found an empty array"),
        ({"a": "x"}, 'a: expected an array of values or an object, like "a": ["x"], found "x"'),
        ({"a": {"prefix": "x"}}, 'a.prefix: expected an array of values or an object, like "prefix": ["x"]'),
        (
            {"a": [["x"]]},
            "a[0]: expected a string, a number, true, false, null or an operator, found an array",
        ),
        ({"a": [{"prefx": "x"}]}, "a[0]: 'prefx' is not an operator here; did you mean 'prefix'?"),
        ({"a": ["x", {"regex!": "x"}]}, "a[1]: 'regex!' is not an operator here; there are: prefix, suffix,"),
        ({"a": [{}]}, "a[0]: expected one operator, found 0"),
        ({"a": [{"prefix": "x", "suffix": "y"}]}, "a[0]: expected one operator, found 2"),
        ({"a": {"b": [{"prefix": 5}]}}, "a.b[0].prefix: expected a string, found 5"),
        ({"a": [{"prefix": ["x"]}]}, "a[0].prefix: expected a string, found an array"),
        ({"a": [{"prefix": []}]}, "a[0].prefix: expected a string, found an empty array"),
        ({"a": [{"wildcard": []}]}, "a[0].wildcard: expected a string, found an empty array"),
        ({"a": [{"equals-ignore-case": []}]}, "expected a string, found an empty array"),
        ({"a": [{"prefix": {"equals-ignore-case": []}}]}, "expected a string, found an empty array"),
        ({"a": [{"anything-but": {"wildcard": []}}]}, "an array of strings, found an empty array"),
        ({"a": [{"numeric": []}]}, 'as [">", 5, "<=", 10], found an empty array'),
        ({"a": [{"cidr": []}]}, "expected a network, as 10.0.0.0/8 or 2001:db8::/32, found an empty array"),
        ({"a": [{"exists": []}]}, "a[0].exists: expected true or false, found an empty array"),
        ({"$or": []}, "$or: expected an array of two or more objects, found an empty array"),
        (
            {"a": [{"prefix": {"suffix": "x"}}]},
            "a[0].prefix: 'suffix' is not an operator here; there are: equals",
        ),
        ({"a": [{"wildcard": "a**b"}]}, "a[0].wildcard: 'a**b' is not a wildcard: two * side by side"),
        ({"a": [{"wildcard": "a\\b"}]}, "a[0].wildcard: 'a\\\\b' is not a wildcard: after \\ there must be"),
        ({"a": [{"wildcard": "a\\"}]}, "is not a wildcard: after \\ there must be"),
        ({"a": [{"anything-but": []}]}, "or an operator on text, found an empty array"),
        ({"a": [{"anything-but": ["x", 1]}]}, "a[0].anything-but: expected a string, a number"),
        ({"a": [{"anything-but": None}]}, "a[0].anything-but: expected a string, a number"),
        (
            {"a": [{"anything-but": 10**400}]},
            "a[0].anything-but: expected a number that a double can hold, found 1000",
        ),
        ({"a": [{"anything-but": float("inf")}]}, "a[0].anything-but: expected a number that a double can"),
        ({"a": [{"exactly": "x"}]}, "a[0]: EventBridge has no operator 'exactly': write \"x\" itself"),
        (
            {"a": [{"anything-but": {"numeric": [">", 1]}}]},
            "a[0].anything-but: 'numeric' is not an operator here",
        ),
        ({"a": [{"anything-but": {"prefix": ""}}]}, "a[0].anything-but.prefix: expected text"),
        ({"a": [{"anything-but": {"prefix": [1]}}]}, "expected a string or an array of strings, found 1"),
        (
            {"a": [{"anything-but": {"suffix": []}}]},
            "expected a string or an array of strings, found an empty array",
        ),
        ({"a": [{"numeric": 5}]}, 'a[0].numeric: expected [">", 5]'),
        ({"a": [{"numeric": ["=>", 5]}]}, 'a[0].numeric: "=>" is not a comparison; there are: = < <= > >='),
        ({"a": [{"numeric": [[], 5]}]}, "a[0].numeric: [] is not a comparison"),
        ({"a": [{"numeric": [">", True]}]}, "a[0].numeric: expected a number, found true"),
        ({"a": [{"numeric": [">", 10**309]}]}, "a[0].numeric: expected a number that a double can hold"),
        ({"a": [{"numeric": [">", float("nan")]}]}, "a[0].numeric: expected a number"),
        ({"a": [{"numeric": ["<", 5, ">", 1]}]}, "a[0].numeric: a range is a lower bound, then an upper one"),
        ({"a": [{"numeric": [">", 5, "<", 5]}]}, "a[0].numeric: no number is in this range"),
        ({"a": [{"cidr": "10.0.0.0"}]}, "a[0].cidr: expected a network, as 10.0.0.0/8"),
        ({"a": [{"cidr": "10.0.0.0/33"}]}, "a[0].cidr: '10.0.0.0/33' is not a network"),
        ({"a": [{"cidr": "10.0.0.1/8"}]}, "is an address inside a network: did you mean 10.0.0.0/8?"),
        ({"a": [{"exists": "true"}]}, 'a[0].exists: expected true or false, found "true"'),
        ({"$or": {"a": [1]}}, "$or: expected an array of two or more objects"),
        ({"a": {"$or": [{"b": [1]}]}}, "a.$or: expected an array of two or more objects"),
        ({"$or": [{"b": [1]}, ["c"]]}, "$or[1]: expected an object, found an array"),
        ({"$or": [{"b": [1]}, {}]}, "$or[1]: expected at least one field"),
        ({"$or": [{"b": [1]}, {"prefix": ["x"]}]}, "$or[1].prefix: an operator stands in an array"),
        ({"$or": [{"regex": ["x"]}, {"b": [2]}]}, "$or[0].regex: EventBridge keeps this name for itself"),
        ({"$or": [{"a": {">=": ["x"]}}, {"b": [2]}]}, "$or[0].a.>=: EventBridge keeps this name for itself"),
        ({"a": [1], "$or": [{"a": [2]}, {"b": [1]}]}, "a: asked for twice, inside $or and beside it"),
        ({"a": [float("nan")]}, "a[0]: expected a string, a number"),
        ({"a": [time.struct_time]}, "a[0]: expected a string, a number"),
        ({"a": ["\ud800"]}, "expected Unicode text, found half of a surrogate pair"),
        ({"a": ["x" * 4096]}, "a pattern has at most 4096 bytes, this has 4106"),
        ({"\x1b[31m" + "n" * 100: 5}, "\\x1b[31mnn"),
    ],
)
def test_a_wrong_pattern_is_told_in_one_line_with_its_place(pattern: Any, message: str) -> None:
    with pytest.raises(UserError) as told:
        compile_routes({"crm": pattern})
    text = str(told.value)
    assert text.startswith("sinks.crm.when: ")
    assert message in text
    assert text.isprintable()
    assert len(text) < 400


def nested(levels: int) -> dict[str, Any]:
    """A pattern of so many objects and one array."""
    pattern: dict[str, Any] = {"a": [1]}
    for _ in range(levels - 1):
        pattern = {"a": pattern}
    return pattern


def test_a_pattern_as_deep_as_allowed_works_and_a_deeper_one_is_refused() -> None:
    deepest = nested(MAX_DEPTH - 2)
    event = json.dumps(deepest).replace("[1]", "1").encode()
    assert reaches(deepest, event)
    assert reaches(deepest, event.replace(b"1", b"[1]"))
    for levels in (MAX_DEPTH, 5_000):
        with pytest.raises(UserError, match="at most 32 levels deep"):
            compile_routes({"s": nested(levels)})


def test_or_within_or_works_to_the_depth_allowed() -> None:
    pattern: dict[str, Any] = {"a": [1]}
    for level in range(14):
        pattern = {"$or": [pattern, {f"b{level}": [2]}]}
    assert reaches(pattern, b'{"a":1}')
    assert reaches(pattern, b'{"b0":2}')
    assert not reaches(pattern, b'{"b0":1}')


def test_a_thousand_combinations_are_allowed_and_more_refused() -> None:
    def product(*sizes: int) -> dict[str, Any]:
        return {f"g{at}": {"$or": [{f"f{n}": [n]} for n in range(size)]} for at, size in enumerate(sizes)}

    assert reaches(product(10, 10, 10), b'{"g0":{"f9":9},"g1":{"f0":0},"g2":{"f5":[5]}}')
    with pytest.raises(UserError, match=r"\$or makes 1001 combinations, and at most 1000 are possible"):
        compile_routes({"s": product(7, 11, 13)})
    with pytest.raises(UserError, match="combinations"):
        compile_routes({"s": product(*[2] * 100)})


def test_a_pattern_of_hundreds_of_fields_works() -> None:
    pattern = {f"f{n}": [n] for n in range(300)}
    event = {f"f{n}": n for n in range(300)}
    assert reaches(pattern, json.dumps(event).encode())
    assert not reaches(pattern, json.dumps({**event, "f299": 0}).encode())


def test_a_pattern_of_exactly_the_bytes_allowed_works() -> None:
    text = "x" * (4096 - len('{"a":[""]}'))
    assert reaches({"a": [text]}, event_of(text))


def test_no_text_makes_a_wildcard_go_through_all_combinations() -> None:
    pattern = {"a": [{"wildcard": "*a*a*a*a*a*a*a*a*b"}]}
    started = time.process_time()
    assert not reaches(pattern, event_of("a" * 200_000))
    assert time.process_time() - started < patience(1)
