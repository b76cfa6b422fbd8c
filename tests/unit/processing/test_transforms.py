"""What steps make of events, and that all else stays the bytes it was."""

import json
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingestd.core.errors import UserError
from ingestd.core.transform_section import TransformConfig
from ingestd.processing.transforms.program import Program, StepSettings, Transformed, compile_steps
from tests.each import each

EVENT = (
    b'{"a": 1.0e400, "c":{"phone":"+49123456","x":[{"p":"12"},{"p":3},4]}, "n":null, "t":"\\u00e9t\\u00e9"}'
)
exactly = partial(json.loads, parse_float=Decimal, parse_int=Decimal)


def program(*tables: Mapping[str, Any], max_event_bytes: int = 10_000) -> Program:
    steps = [
        StepSettings(f"step {number}", TransformConfig(**table), b"key")
        for number, table in enumerate(tables, 1)
    ]
    made = compile_steps(steps, max_event_bytes=max_event_bytes)
    assert made
    return made


def run(*tables: Mapping[str, Any], event: bytes = EVENT, **options: Any) -> Transformed:
    return program(*tables, **options).run([event])


def made(*tables: Mapping[str, Any], event: bytes = EVENT, **options: Any) -> str:
    """The event after it, or why there is none."""
    (one,), dropped, failed = run(*tables, event=event, **options)
    return "dropped" if dropped else failed[0] if failed else one.decode()


def digest(text: str) -> str:
    return blake2b(text.encode(), key=b"key", digest_size=16).hexdigest()


C = '"c":{"phone":"+49123456","x":[{"p":"12"},{"p":3},4]}'
T = r'"t":"\u00e9t\u00e9"'
NESTED: dict[str, Any] = {"when": {"c": {"phone": [{"prefix": "+49"}]}}}


@each(
    ("steps", "expected"),
    [
        # fields that stay and go, through arrays
        (
            [{"remove": ["c.x.p", "t", "no.such"]}],
            '{"a":1.0e400,"c":{"phone":"+49123456","x":[{},{},4]},"n":null}',
        ),
        (
            [{"remove": ["c.x[1]"]}],
            f'{{"a":1.0e400,"c":{{"phone":"+49123456","x":[{{"p":"12"}},4]}},"n":null,{T}}}',
        ),
        ([{"keep": ["c.x.p", "a"]}], '{"a":1.0e400,"c":{"x":[{"p":"12"},{"p":3}]}}'),
        ([{"keep": ["c.x[0]", "n"]}], '{"c":{"x":[{"p":"12"}]},"n":null}'),
        ([{"keep": ["c.phone", "c", "a"]}], f'{{"a":1.0e400,{C}}}'),
        ([{"keep": ["c", "c.phone", "a"]}], f'{{"a":1.0e400,{C}}}'),
        ([{"keep": ["a.b"]}], "{}"),
        # new names
        ([{"rename": {"a": "d.e"}}], f'{{{C},"n":null,{T},"d":{{"e":1.0e400}}}}'),
        ([{"rename": {"c.x.p": "c.x.q"}}, {"keep": ["c.x"]}], '{"c":{"x":[{"q":"12"},{"q":3},4]}}'),
        ([{"rename": {"c.x[0].p": "first"}}, {"keep": ["first"]}], '{"first":"12"}'),
        ([{"rename": {"a": "n"}}], "step 1 (rename): there is something at n already"),
        ([{"rename": {"a": "n.x"}}], "step 1 (rename): n is not an object, so nothing can be put into it"),
        ([{"rename": {"c.x.p": "p"}}], "step 1 (rename): c.x is an array: name the place, as c.x[0]"),
        # values
        (
            [{"set": {"c": {"k": [1, "é"]}, "z": False}}, {"keep": ["c.k", "z"]}],
            '{"c":{"k":[1,"é"]},"z":false}',
        ),
        ([{"set": {"a.b": 1}}], "step 1 (set): a is not an object, so nothing can be put into it"),
        ([{"set": {"c.x[9]": 1}}], "step 1 (set): c.x has no place 9"),
        ([{"template": {"s": "{{{t}}} {c.phone}/{a}"}}, {"keep": ["s"]}], '{"s":"{été} +49123456/1.0e400"}'),
        ([{"template": {"s": "{n}"}}], "step 1 (template): n is null"),
        ([{"template": {"s": "{c}"}}], "step 1 (template): c is not text, a number or truth value"),
        ([{"template": {"s": "{no}"}}], "step 1 (template): there is nothing at no"),
        # what is hidden
        (
            [{"redact": ["c.phone", "n", "t"]}, {"keep": ["c.phone", "n", "t"]}],
            f'{{"c":{{"phone":"{digest("+49123456")}"}},"n":null,"t":"{digest("été")}"}}',
        ),
        (
            [{"redact": ["c.x.p"], "method": "mask", "last": 1}, {"keep": ["c.x"]}],
            '{"c":{"x":[{"p":"***2"},{"p":"***"},4]}}',
        ),
        ([{"redact": ["c"], "method": "mask", "last": 3}, {"keep": ["c"]}], '{"c":"***"}'),
        ([{"redact": ["c.phone"], "secret": "other"}, {"keep": ["no"]}], "{}"),
        # of some events only
        ([NESTED | {"drop": True}], "dropped"),
        ([{"when": {"n": [1]}, "drop": True}, {"keep": ["n"]}], '{"n":null}'),
        ([{"remove": ["c.phone"]}, NESTED | {"drop": True}, {"keep": ["n"]}], '{"n":null}'),
        # code
        ([{"keep": ["c"]}, {"jq": ".c.x | {p: .[0].p}"}], '{"p":"12"}'),
        ([{"keep": ["c"]}, {"jq": "empty"}], "dropped"),
        ([{"keep": ["c"]}, {"jq": ".c.x[]"}], "step 2 (jq): the program makes 3 values of it"),
        ([{"keep": ["c"]}, {"jq": ".c.phone"}], "step 2 (jq): what it makes is not a JSON object"),
        ([{"keep": ["c"]}, {"jq": 'error("no")'}], "step 2 (jq): no"),
        ([{"jq": "if .no then empty else . end"}], EVENT.decode()),
        ([{"jq": ".c"}], "step 1 (jq): jq cannot keep a number of it as it is"),
        ([{"python": f"{__name__}:indented"}], '{"a":[1,2]}'),
        ([{"python": f"{__name__}:none"}], "dropped"),
        ([{"python": f"{__name__}:an_error"}], "step 1 (python): ValueError: not this one"),
        ([{"python": f"{__name__}:raises"}], f"step 1 (python): {__name__}:raises raised KeyError: 'x'"),
        ([{"python": f"{__name__}:leaves"}], f"step 1 (python): {__name__}:leaves raised SystemExit: 3"),
        ([{"python": f"{__name__}:text"}], "step 1 (python): it must be given as bytes, not as str"),
        ([{"python": f"{__name__}:broken"}], "step 1 (python): what it makes is not JSON: "),
        ([{"python": f"{__name__}:deep"}], "step 1 (python): what it makes is nested deeper than 190"),
        (
            [{"python": f"{__name__}:two"}],
            f"step 1 (python): {__name__}:two must give one value for each event, in a list; it gave 2 for 1",
        ),
        (
            [{"python": "builtins:len"}],
            "step 1 (python): builtins:len must give one value for each event, in a list; it gave int",
        ),
    ],
)
def test_each_step_does_what_its_words_say(steps: list[dict[str, Any]], expected: str) -> None:
    found = made(*steps)
    assert found.startswith(expected) if expected.endswith(": ") else found == expected


def indented(events: list[bytes]) -> list[bytes]:
    return [b'{\n "a": [1,\r\n 2]}\n' for _ in events]


def none(events: list[bytes]) -> list[None]:
    return [None for _ in events]


def an_error(events: list[bytes]) -> list[Exception]:
    return [ValueError("not this one") for _ in events]


def raises(events: list[bytes]) -> list[bytes]:
    raise KeyError("x")


def leaves(events: list[bytes]) -> list[bytes]:
    raise SystemExit(3)


def text(events: list[bytes]) -> list[str]:
    return ["{}" for _ in events]


def broken(events: list[bytes]) -> list[bytes]:
    return [b'{"a": NaN}' for _ in events]


def deep(events: list[bytes]) -> list[bytes]:
    return [b'{"a":' + b"[" * 190 + b"]" * 190 + b"}" for _ in events]


def two(events: list[bytes]) -> list[bytes]:
    return [*events, *events]


def guilty(events: list[bytes]) -> list[bytes]:
    if any(b"bad" in event for event in events):
        raise ValueError("bad")
    return events


def test_a_function_that_fails_on_some_events_together_fails_on_these_alone() -> None:
    events = [b'{"n":1}', b'{"n":"bad"}', b'{"n":3}']
    found, dropped, failed = program({"python": f"{__name__}:guilty"}).run(events)
    assert (found, dropped, [*failed]) == (events, [], [1])


@each(
    ("table", "words"),
    [
        ({"template": {"a": "{b!r}"}}, "step 1: template: a: a path stands in braces"),
        ({"template": {"a": "{b"}}, "step 1: template: a: expected '}' before end of string"),
        ({"template": {"a": "{b[*]}"}}, "is not a path"),
        ({"set": {"a": float("nan")}}, "step 1: set: the value for a is not one of JSON"),
        ({"drop": True, "when": {"a": 1}}, "step 1: when: a: expected an array"),
        ({"jq": ".a |"}, "step 1: jq: error: syntax error"),
        ({"python": "no_such_module:f"}, "step 1: python = 'no_such_module:f': cannot be imported"),
        ({"python": "json"}, "write it as module:function"),
        ({"python": "sys:maxsize"}, "it is not a function"),
        ({"drop": True, "keep": ["a"]}, "found drop and keep"),
        ({}, "found none"),
        ({"keep": ["$"]}, "the event itself is not a field"),
        ({"drop": True, "last": 3}, "last belongs to redact"),
        ({"redact": ["a"], "method": "mask", "secret": "x"}, "secret and secret_file belong to redact"),
    ],
)
def test_a_step_that_cannot_be_is_refused_before_an_event_comes(table: dict[str, Any], words: str) -> None:
    with pytest.raises((UserError, ValueError)) as error:
        program(table)
    assert words in str(error.value)


@each(
    ("event", "why"),
    [
        (b'{"c":1, "c":{"phone":"1"}}', "the event has the name 'c' twice"),
        (b'{"c":{"phone":"1","phone":"2"}}', "c has the name 'phone' twice"),
        (b'{"c":{"ph\\u006fne":"1","phone":"2"}}', "c has the name 'phone' twice"),
        (b"[1]", "the event cannot be read as a JSON object"),
        (b'{"c":{"phone":"\xff"}}', "UTF-8"),
        (b'{"c":' + b'{"c":' * 50_000 + b"1" + b"}" * 50_001, "cannot be read"),
    ],
)
def test_what_a_receiver_may_read_otherwise_than_a_step_is_not_sent(event: bytes, why: str) -> None:
    """Of a name that stands twice one value would have been looked at, and the other sent."""
    tables: list[dict[str, Any]] = [{"redact": ["c.phone"]}]
    if why != "UTF-8":  # which nothing else has to read
        tables += [{"remove": ["c.phone"]}, {"keep": ["c.phone"]}]
    for table in tables:
        assert why.lower() in made(table, event=event).lower()


def test_what_is_made_is_no_larger_than_a_request_has_room_for() -> None:
    event = b'{"a":"' + b"x" * 60 + b'"}'
    twice = {"template": {"a": "{a}{a}"}}
    assert made(twice, event=event, max_event_bytes=150).startswith('{"a":"xxxx')
    assert made(twice, twice, event=event, max_event_bytes=150).endswith("is over 150 characters long")
    long = made({"set": {"b": "x" * 100}}, event=event, max_event_bytes=150)
    assert long.endswith("bytes long now; a request has room for 150")


names = st.sampled_from(["a", "b", "c", "d"])
scalars = (
    st.none()
    | st.booleans()
    | st.text(max_size=5)
    | st.integers()
    | st.sampled_from(["1.0e400", "1.10", "-0", "12345678901234567890.123"]).map(Decimal)
)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=12,
)
paths = st.lists(names, min_size=1, max_size=3).map(".".join)
steps = st.one_of(
    st.fixed_dictionaries({"remove": st.lists(paths, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"keep": st.lists(paths, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"redact": st.lists(paths, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"rename": st.dictionaries(paths, paths, min_size=1, max_size=2)}),
    st.fixed_dictionaries({"set": st.dictionaries(paths, st.integers(), min_size=1, max_size=2)}),
)


def written(value: Any, *, spaces: bool) -> bytes:
    """As some producer would: numbers as they are, with or without spaces."""
    if isinstance(value, dict):
        gap = " " if spaces else ""
        parts = [
            json.dumps(name).encode() + b":" + gap.encode() + written(inner, spaces=spaces)
            for name, inner in value.items()
        ]
        return b"{" + b",".join(parts) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(written(inner, spaces=spaces) for inner in value) + b"]"
    return str(value).encode() if isinstance(value, Decimal) else json.dumps(value).encode()


def leaves_of(value: Any, path: str = "") -> list[tuple[str, str]]:
    if isinstance(value, dict):
        return [leaf for name, inner in value.items() for leaf in leaves_of(inner, f"{path}.{name}")]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in leaves_of(inner, f"{path}[]")]
    return [(path, repr(value))]


@given(event=st.dictionaries(names, values, max_size=4), step=steps, spaces=st.booleans())
def test_what_no_step_names_stays_as_it_was_to_the_last_digit(
    event: dict[str, Any], step: dict[str, Any], spaces: bool
) -> None:
    before = written(event, spaces=spaces)
    (after,), dropped, failed = program(step).run([before])
    assert not dropped
    if failed:
        assert after is before
        return
    if exactly(after) == exactly(before):
        assert after is before or step.keys() != {"remove"}
    (named,) = step.values()
    touched = [*named, *(named.values() if "rename" in step else ())]
    tops = {f".{one.split('.')[0]}" for one in touched}
    left = [leaf for leaf in leaves_of(exactly(before)) if not any(leaf[0].startswith(top) for top in tops)]
    kept = [leaf for leaf in leaves_of(exactly(after)) if not any(leaf[0].startswith(top) for top in tops)]
    assert kept == ([] if "keep" in step else left)


@given(event=st.dictionaries(names, values, max_size=4), path=paths, spaces=st.booleans())
def test_what_is_redacted_or_removed_is_not_there_in_any_form(
    event: dict[str, Any], path: str, spaces: bool
) -> None:
    """Of a path all that it leads to, in every element of arrays."""
    before = written(event, spaces=spaces)
    found = _at(exactly(before), path.split("."))
    for table in ({"remove": [path]}, {"redact": [path], "method": "mask"}):
        (after,), _, failed = program(table).run([before])
        assert not failed
        left = [one for one in _at(exactly(after), path.split(".")) if one is not None]
        assert left == ([] if "remove" in table else ["***"] * len(left))
        assert bool(left) <= bool(found)


def _at(value: Any, parts: list[str]) -> list[Any]:
    if not parts:
        return [value]
    if isinstance(value, list):
        return [one for inner in value if isinstance(inner, dict | list) for one in _at(inner, parts)]
    if isinstance(value, dict) and parts[0] in value:
        return _at(value[parts[0]], parts[1:])
    return []
