"""Whether an event meets the conditions of a trigger."""

from typing import Any

import pytest

from ingestd.schemas.trigger_match import Condition, all_match, body_of, is_of_topic, judge
from tests.each import each

EVENT = {
    "mediaType": "VOICE",
    "n": 7,
    "one": 1,
    "true": True,
    "null": None,
    "tags": ["a", "b", 3],
    "body": {"open": False, "items": [{"id": "x", "price": 2.5}, {"id": "y"}]},
    "odd name": "here",
}


@each(
    ("path", "operator", "expected", "matches"),
    [
        ("mediaType", "Equal", "VOICE", True),
        ("$.mediaType", "Equal", "voice", False),
        ("$['odd name']", "Equal", "here", True),
        ('$["body"]["open"]', "Equal", False, True),
        ("one", "Equal", True, False),
        ("one", "Equal", 1.0, True),
        ("true", "Equal", 1, False),
        ("nowhere", "Equal", None, False),
        ("null", "Equal", None, True),
        ("nowhere", "NotEqual", "x", True),
        ("mediaType", "NotEqual", "VOICE", False),
        ("mediaType", "In", ["CHAT", "VOICE"], True),
        ("mediaType", "NotIn", ["CHAT", "VOICE"], False),
        ("nowhere", "NotIn", ["CHAT"], True),
        ("nowhere", "In", ["CHAT"], False),
        ("mediaType", "Contains", "OIC", True),
        ("mediaType", "Contains", 7, False),
        ("tags", "Contains", "a", True),
        ("tags", "Contains", ["a", 3], True),
        ("tags", "Contains", "c", False),
        ("n", "Contains", "7", False),
        ("tags", "All", ["a", "b"], True),
        ("tags", "All", ["a", "c"], False),
        ("mediaType", "All", ["VOICE"], False),
        ("tags", "Size", 3, True),
        ("body.items", "Size", 2.0, True),
        ("mediaType", "Size", 4, False),
        ("n", "Size", 1, False),
        ("n", "Exists", None, True),
        ("null", "Exists", True, True),
        ("nowhere", "Exists", True, False),
        ("nowhere", "Exists", False, True),
        ("n", "GreaterThan", 7, False),
        ("n", "GreaterThanOrEqual", 7, True),
        ("n", "LessThan", 7.5, True),
        ("true", "LessThan", 7, False),
        ("mediaType", "LessThanOrEqual", "W", True),
        ("n", "LessThan", "8", False),
        ("body.items[0].price", "GreaterThan", 2, True),
        ("body.items[-1].id", "Equal", "y", True),
        ("body.items[7].id", "Exists", None, False),
        ("body.items[*].id", "Equal", ["x", "y"], True),
        ("$..id", "Contains", "y", True),
        ("body.*", "Size", 2, True),
        ("body.items[?(@.id == 'x')]", "Exists", None, None),
        ("tags[0:1]", "Equal", "a", None),
        ("mediaType", "Resembles", "voice", None),
    ],
)
def test_a_condition_is_met_or_not(path: str, operator: str, expected: Any, matches: bool | None) -> None:
    many = isinstance(expected, list)
    condition = Condition(path, operator, None if many else expected, expected if many else None)
    [result] = judge([condition], EVENT)
    assert result.matches is matches, result


def test_all_conditions_have_to_be_met_and_none_at_all_are() -> None:
    yes, no, unknown = (Condition("n", "Equal", 7), Condition("n", "Equal", 8), Condition("n", "?"))
    assert all_match(judge([], EVENT)) is True
    assert all_match(judge([yes, yes], EVENT)) is True
    assert all_match(judge([yes, no, unknown], EVENT)) is False
    assert all_match(judge([yes, unknown], EVENT)) is None
    assert str(judge([no], EVENT)[0]) == "no   n Equal 8: found 7"
    assert str(judge([Condition("a.b", "In", None, ["x"])], EVENT)[0]) == "no   a.b In ['x']: there is none"


def test_an_event_is_taken_out_of_its_envelope_with_its_topic() -> None:
    notification = {"topicName": "v2.users.7.presence", "eventBody": {"a": 1}, "version": "2"}
    assert body_of(notification) == ({"a": 1}, "v2.users.7.presence")
    assert body_of({"detail-type": "x", "detail": notification}) == ({"a": 1}, "v2.users.7.presence")
    assert body_of({"a": 1}) == ({"a": 1}, "")
    assert body_of([1]) == ([1], "")
    assert is_of_topic("v2.users.7.presence", "v2.users.{id}.presence")
    assert not is_of_topic("v2.users.7.activity", "v2.users.{id}.presence")
    assert not is_of_topic("v2.users.7.presence.x", "v2.users.{id}.presence")


@pytest.mark.parametrize("value", [[], {}, "", 0, None])
def test_a_path_into_what_has_no_inside_finds_nothing(value: Any) -> None:
    [result] = judge([Condition("a.b[0].c", "Exists")], {"a": value})
    assert result.matches is False
