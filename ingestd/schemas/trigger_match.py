"""Whether an event meets the conditions of a process automation trigger, and which of them it does not.

The platform makes a JSONPath filter of each condition (model ``MatchCriteriaTestResult`` of Genesys Cloud's
SDK 269: "The Goessner json path", ``generatedJsonPathCondition``); operators mean here what they mean in such
filters. Used by ``ingestd triggers test`` and by the sandbox. Pure.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ingestd.core.text import cut
from ingestd.schemas.schema import show

MAX_VALUES = 1_000
"""Of one path with wildcards."""
_STEP = re.compile(
    r"(?P<deep>\.\.)?(?:\.?(?P<name>[^.\[\]*'\"()?@$]+)|\.?(?P<any>\*)|\[\s*(?:(?P<index>-?\d{1,9})|(?P<all>\*)"
    r"|'(?P<single>[^']*)'|\"(?P<double>[^\"]*)\")\s*\])"
)
MISSING = object()


class Condition(NamedTuple):
    """``value`` and ``values`` as they stand in a trigger; MISSING or None: not given."""

    path: str
    operator: str
    value: Any = None
    values: Any = None

    @property
    def expected(self) -> Any:
        return self.value if self.values is None else self.values


class ConditionResult(NamedTuple):
    """``matches``: None where this cannot be told here. ``found``: what stands at the path, or MISSING."""

    condition: Condition
    matches: bool | None
    found: Any
    why: str = ""

    def __str__(self) -> str:
        path, operator, *_ = self.condition
        expected = "" if self.condition.expected is None else f" {_shown(self.condition.expected)}"
        sign = {True: "yes", False: "no ", None: "?  "}[self.matches]
        there = "there is none" if self.found is MISSING else f"found {_shown(self.found)}"
        return f"{sign}  {cut(path)} {operator}{expected}: {self.why or there}"


def judge(conditions: Iterable[Condition], event: Any) -> list[ConditionResult]:
    """One result for each; all have to match, and none at all match everything."""
    return [_judge(one, event) for one in conditions]


def all_match(results: Sequence[ConditionResult]) -> bool | None:
    """None: it depends on what cannot be told here."""
    if any(one.matches is False for one in results):
        return False
    return None if any(one.matches is None for one in results) else True


def is_of_topic(topic: str, template: str) -> bool:
    """Whether ``v2.users.7.presence`` is of ``v2.users.{id}.presence``."""
    ours, theirs = topic.split("."), template.split(".")
    return len(ours) == len(theirs) and all(
        mine == one or (one[:1] == "{" and one[-1:] == "}") for mine, one in zip(ours, theirs, strict=True)
    )


def body_of(event: Any) -> tuple[Any, str]:
    """(what conditions are asked of, its topic or empty): of a notification, or of one that came by way of
    EventBridge, what is in its envelope."""
    inner = event.get("detail", event) if isinstance(event, Mapping) else event
    if isinstance(inner, Mapping) and "eventBody" in inner:
        topic = inner.get("topicName")
        return inner["eventBody"], topic if isinstance(topic, str) else ""
    return event, ""


def _judge(one: Condition, event: Any) -> ConditionResult:
    try:
        found = _value_at(one.path, event)
    except ValueError as error:
        return ConditionResult(one, None, MISSING, str(error))
    if one.operator == "Exists":
        wanted = one.expected is not False
        return ConditionResult(one, (found is not MISSING) is wanted, found)
    if one.operator in _NOT:
        return ConditionResult(one, not _OPERATORS[_NOT[one.operator]](found, one.expected), found)
    if one.operator not in _OPERATORS:
        return ConditionResult(one, None, found, f"the operator {cut(one.operator)} is not known here")
    return ConditionResult(one, found is not MISSING and _OPERATORS[one.operator](found, one.expected), found)


def _equal(one: Any, other: Any) -> bool:
    """As JSON: 1 is 1.0, and true is not 1."""
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_equal(one[name], other[name]) for name in one)
    return bool(one == other)


def _is_in(found: Any, expected: Any) -> bool:
    return isinstance(expected, list) and any(_equal(found, one) for one in expected)


def _contains(found: Any, expected: Any) -> bool:
    if isinstance(expected, list):
        return all(_contains(found, one) for one in expected)
    if isinstance(found, str):
        return isinstance(expected, str) and expected in found
    return _is_in(expected, found)


def _has_all(found: Any, expected: Any) -> bool:
    expected = expected if isinstance(expected, list) else [expected]
    return isinstance(found, list) and all(_is_in(one, found) for one in expected)


def _has_size(found: Any, expected: Any) -> bool:
    return isinstance(found, str | list | dict) and _equal(len(found), expected)


def _ordered(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    """Of two numbers, or of two texts."""

    def compare(found: Any, expected: Any) -> bool:
        for kinds in ((int, float), (str,)):
            if all(isinstance(one, kinds) and not isinstance(one, bool) for one in (found, expected)):
                return holds(found, expected)
        return False

    return compare


_OPERATORS: Mapping[str, Callable[[Any, Any], bool]] = {
    "Equal": _equal,
    "In": _is_in,
    "Contains": _contains,
    "All": _has_all,
    "Size": _has_size,
    "GreaterThan": _ordered(lambda one, other: one > other),
    "GreaterThanOrEqual": _ordered(lambda one, other: one >= other),
    "LessThan": _ordered(lambda one, other: one < other),
    "LessThanOrEqual": _ordered(lambda one, other: one <= other),
}
_NOT = {"NotEqual": "Equal", "NotIn": "In"}


def _value_at(path: str, event: Any) -> Any:
    """A list of all for a path with wildcards. Raises ValueError for one with filters, slices or scripts."""
    steps, at = [], 0
    text = path.strip().removeprefix("$")
    while at < len(text):
        step = _STEP.match(text, at)
        if not step:
            raise ValueError(f"the path has what cannot be told here: {cut(text[at:])}")
        steps.append(step)
        at = step.end()
    values, several = [event], False
    for step in steps:
        many = bool(step["deep"] or step["any"] or step["all"])
        several = several or many
        found: list[Any] = []
        for value in values:
            for inner in _deep(value) if step["deep"] else [value]:
                found += _step(inner, step)
                if len(found) > MAX_VALUES:
                    raise ValueError(f"the path finds more than {MAX_VALUES} values")
        values = found
    if several:
        return values
    return values[0] if values else MISSING


def _step(value: Any, step: "re.Match[str]") -> list[Any]:
    if step["any"] or step["all"]:
        return list(value.values()) if isinstance(value, dict) else value if isinstance(value, list) else []
    if step["index"] is not None:
        index = int(step["index"])
        inside = isinstance(value, list) and -len(value) <= index < len(value)
        return [value[index]] if inside else []
    name = next(text for text in (step["name"], step["single"], step["double"]) if text is not None)
    return [value[name]] if isinstance(value, dict) and name in value else []


def _deep(value: Any) -> Iterator[Any]:
    waiting = [value]
    while waiting:
        one = waiting.pop()
        yield one
        inner = one.values() if isinstance(one, dict) else one if isinstance(one, list) else ()
        waiting += reversed(list(inner))


def _shown(value: Any) -> str:
    if isinstance(value, list) and len(value) <= 5:
        return f"[{', '.join(map(_shown, value))}]"
    return show(value)
