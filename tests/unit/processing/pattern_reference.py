"""The pattern language a second time, as plainly as can be: what ``test_routes.py`` compares with.

A match is a choice of one occurrence (or of absence) for every field that a combination asks for, such that
no two lie in different elements of one array. All choices are tried.
"""

import ipaddress
import itertools
import operator
import re
from typing import Any, NamedTuple


class Occurrence(NamedTuple):
    """``elements``: of each array it lies in (known by its place in the event) the index."""

    path: tuple[str, ...]
    value: Any
    elements: dict[tuple[Any, ...], int]


def occurrences(
    value: Any, path: tuple[str, ...] = (), elements: Any = None, place: Any = ()
) -> list[Occurrence]:
    elements = elements or {}
    found: list[Occurrence] = []
    if isinstance(value, dict):
        for name, below in value.items():
            found += occurrences(below, (*path, name), elements, (*place, name))
    elif isinstance(value, list):
        for index, element in enumerate(value):
            inside = {**elements, place: index} if isinstance(element, dict | list) else elements
            found += occurrences(element, path, inside, (*place, index))
    else:
        found.append(Occurrence(path, value, elements))
    return found


def combinations(pattern: Any, path: tuple[str, ...] = ()) -> list[list[tuple[tuple[str, ...], list[Any]]]]:
    choices = []
    for name, below in pattern.items():
        if name == "$or":
            choices.append([one for branch in below for one in combinations(branch, path)])
        elif isinstance(below, dict):
            choices.append(combinations(below, (*path, name)))
        else:
            choices.append([[((*path, name), below)]])
    return [list(itertools.chain(*chosen)) for chosen in itertools.product(*choices)]


def matches(pattern: Any, event: Any) -> bool:
    there = occurrences(event)
    return any(_holds(combination, there) for combination in combinations(pattern))


def _holds(combination: list[tuple[tuple[str, ...], list[Any]]], there: list[Occurrence]) -> bool:
    choices: list[list[Occurrence | None]] = []
    for path, tests in combination:
        fitting: list[Occurrence | None] = [
            one for one in there if one.path == path and any(fits(test, one.value) for test in tests)
        ]
        if {"exists": False} in tests:
            fitting.append(None)
        choices.append(fitting)
    for chosen in itertools.product(*choices):
        elements: dict[tuple[Any, ...], int] = {}
        if not all(_joins(elements, one) for one in chosen if one):
            continue
        missing = [path for (path, _), one in zip(combination, chosen, strict=True) if one is None]
        if not any(one.path in missing and _joins(dict(elements), one) for one in there):
            return True
    return False


def _joins(elements: dict[tuple[Any, ...], int], one: Occurrence) -> bool:
    """Whether it lies in the same elements of arrays; then ``elements`` has its own too."""
    if any(elements.get(array, index) != index for array, index in one.elements.items()):
        return False
    elements.update(one.elements)
    return True


def fits(test: Any, value: Any) -> bool:
    if not isinstance(test, dict):
        return type_of(test) == type_of(value) and bool(test == value)
    ((name, operand),) = test.items()
    if name == "exists":
        return bool(operand)
    if name == "anything-but":
        if isinstance(operand, dict):
            ((inner, texts),) = operand.items()
            return not any(
                fits({inner: text}, value) for text in (texts if isinstance(texts, list) else [texts])
            )
        return not any(fits(one, value) for one in (operand if isinstance(operand, list) else [operand]))
    if name == "numeric":
        return type_of(value) == "number" and _compares(operand, value)
    return isinstance(value, str) and _fits_text(name, operand, value)


def _fits_text(name: str, operand: Any, text: str) -> bool:
    if isinstance(operand, dict):
        return _fits_text(name, operand["equals-ignore-case"].lower(), text.lower())
    if name == "prefix":
        return bool(text[: len(operand)] == operand)
    if name == "suffix":
        return len(text) >= len(operand) and bool(text[len(text) - len(operand) :] == operand)
    if name == "equals-ignore-case":
        return bool(text.lower() == operand.lower())
    if name == "wildcard":
        pieces = re.findall(r"\\.|.", operand, re.DOTALL)
        expression = "".join(".*" if piece == "*" else re.escape(piece[-1]) for piece in pieces)
        return re.fullmatch(expression, text, re.DOTALL) is not None
    assert name == "cidr"
    try:
        return ipaddress.ip_address(text) in ipaddress.ip_network(operand)
    except ValueError:
        return False


def _compares(operand: list[Any], value: float) -> bool:
    compare = {"=": operator.eq, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
    pairs = zip(operand[::2], operand[1::2], strict=True)
    return all(compare[sign](value, bound) for sign, bound in pairs)


def type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "flag"
    return "number" if isinstance(value, int | float) else type(value).__name__
