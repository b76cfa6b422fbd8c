"""The definition of a match: what patterns ask for is read from an event, tried, and explained.

It knows arrays of objects and everything else that ``scan.py`` leaves to it. Called by ``routes.py``.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any

import msgspec

from ingestd.processing.patterns.operators import Equals, Names, Scalar, either, show
from ingestd.processing.patterns.parse import AnyOf, Clause, Formula, Path, clauses, combinations, show_path

MAX_ARRAY_DEPTH = 200
"""Arrays within arrays beyond this make an event one that cannot be read."""

# Any: mypy knows no recursive types that isinstance can narrow; it is a dict, a list or a scalar.
JsonValue = Any

_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_scalar = msgspec.json.Decoder(Scalar).decode


@dataclass(frozen=True, slots=True)
class Leaf:
    test: Callable[[Scalar], bool]
    absent: bool


@dataclass(slots=True)
class Node:
    """What is asked of one place in an event: of its value, and of the members it has."""

    leaf: Leaf | None = None
    below: dict[str, "Node"] = field(default_factory=dict)

    def at(self, path: Path) -> "Node":
        node = self
        for name in path:
            node = node.below.setdefault(name, Node())
        return node

    @property
    def absent(self) -> bool:
        """Whether nothing at all is needed."""
        return _may_lack(self.leaf) and all(node.absent for node in self.below.values())


_ASKED = Leaf(bool, absent=True)


class MatchState(Enum):
    """``ABSENT``: it holds because nothing is there."""

    NO = 0
    ABSENT = 1
    FOUND = 2


class Matcher:
    """One pattern, or a part of one, as the trees of its combinations."""

    def __init__(self, formula: Formula) -> None:
        # A clause occurs in many combinations: its test is made once.
        leaves = {id(clause): Leaf(make_test(clause), clause.absent) for clause in clauses(formula)}
        self._trees = []
        for combination in combinations(formula):
            tree = Node()
            for clause in combination:
                tree.at(clause.path).leaf = leaves[id(clause)]
            self._trees.append(tree)

    def matches(self, event: JsonValue) -> bool:
        """``event``: as ``read`` gives it."""
        return self.first(event) is not None

    def first(self, event: JsonValue) -> int | None:
        """Which of the combinations is the first to match, in the order of ``combinations``."""
        for number, tree in enumerate(self._trees):
            if _look(tree, tree.leaf, event) is not MatchState.NO:
                return number
        return None


def make_test(clause: Clause) -> Callable[[Scalar], bool]:
    """A function that says whether one value is as the clause asks."""
    names = Names()
    source = " or ".join(f"({operator.source(names)})" for operator in clause.operators)
    test: Callable[[Scalar], bool] = eval(f"lambda x: {source.format(x='x')}", names.values)  # noqa: S307
    return test


def wanted(formulas: Iterable[Formula]) -> Node:
    """A tree of all places that are asked for; those whose value is wanted have a leaf, of no meaning."""
    tree = Node()
    for formula in formulas:
        for clause in clauses(formula):
            tree.at(clause.path).leaf = _ASKED
    return tree


def read(event: bytes, tree: Node) -> JsonValue:
    """The members of ``event`` that ``tree`` has, as dicts, lists and scalars.

    Raises ValueError or RecursionError where the event is not a JSON object, or these cannot be read.
    """
    return {
        name: _read(raw, tree.below[name], 0) for name, raw in _members(event).items() if name in tree.below
    }


def _read(raw: msgspec.Raw, node: Node, depth: int) -> JsonValue:
    first = memoryview(raw)[0]
    if first == 0x7B:
        return read(raw, node) if node.below else {}
    if first == 0x5B:
        if depth == MAX_ARRAY_DEPTH:
            raise ValueError("arrays are nested too deeply")
        return [_read(element, node, depth + 1) for element in _elements(raw)]
    try:
        return _scalar(raw)
    except msgspec.ValidationError:
        return float(bytes(raw))  # a number beyond those that msgspec knows: infinite, or an integer's size


def _look(node: Node, leaf: Leaf | None, value: JsonValue) -> MatchState:
    if isinstance(value, dict):
        return _look_into(node, leaf, value)
    if isinstance(value, list):
        return _look_along(node, leaf, value)
    if not all(below.absent for below in node.below.values()):
        return MatchState.NO
    if leaf is None:
        return MatchState.ABSENT
    return MatchState.FOUND if leaf.test(value) else MatchState.NO


def _look_into(node: Node, leaf: Leaf | None, value: dict[str, JsonValue]) -> MatchState:
    if not _may_lack(leaf):
        return MatchState.NO
    all_held = MatchState.ABSENT
    for name, below in node.below.items():
        if name in value:
            held = _look(below, below.leaf, value[name])
        else:
            held = MatchState.ABSENT if below.absent else MatchState.NO
        if held is MatchState.NO:
            return held
        if held is MatchState.FOUND:
            all_held = held
    return all_held


def _look_along(node: Node, leaf: Leaf | None, value: Sequence[JsonValue]) -> MatchState:
    """Of an array one element has to hold all that is asked; a field that none has is absent from all of
    them.

    Only its own values may each answer for ``leaf`` alone: Event Ruler's array consistency.
    """
    found = False
    scalars = [element for element in value if not isinstance(element, dict | list)]
    if leaf and scalars:
        if any(map(leaf.test, scalars)):
            leaf, found = None, True
        else:
            leaf = Leaf(leaf.test, absent=False)
    absent = _may_lack(leaf) and all(below.absent for below in node.below.values())
    for element in value:
        if isinstance(element, dict | list):
            held = _look(node, leaf, element)
            if held is MatchState.FOUND:
                return held
            absent = absent and held is MatchState.ABSENT
    if not absent:
        return MatchState.NO
    return MatchState.FOUND if found else MatchState.ABSENT


def _may_lack(leaf: Leaf | None) -> bool:
    return leaf is None or leaf.absent


def values_at(value: JsonValue, path: Path) -> Iterator[JsonValue]:
    """What ``read`` found at a path: scalars, and ``{}`` for an object, through arrays."""
    if isinstance(value, list):
        for element in value:
            yield from values_at(element, path)
    elif not path:
        yield {} if isinstance(value, dict) else value
    elif isinstance(value, dict) and path[0] in value:
        yield from values_at(value[path[0]], path[1:])


_SHOWN_VALUES = 3


def explain(formula: Formula, event: JsonValue) -> tuple[bool, str]:
    """Whether ``event``, as ``read`` gives it, matches; the clauses that hold, or the first that does not."""
    number = Matcher(formula).first(event)
    if number is None:
        return False, _failing(formula, event)
    # Of $or the alternative that holds together with the rest: alone, none has to.
    combination = next(islice(combinations(formula), number, None))
    return True, either((_holding(clause, event) for clause in combination), "; ")


def _holding(clause: Clause, event: JsonValue) -> str:
    test = make_test(clause)
    there = [value for value in values_at(event, clause.path) if value != {}]
    values = [value for value in there if test(value)]
    if there and not values:
        return f"{show_path(clause.path)} is in other elements of the array only (no value)"
    plain = values and isinstance(clause.operators[0], Equals) and len(clause.operators) == 1
    return _found(clause, values) + ("" if plain else f" ({_expected(clause)})")


def _failing(formula: Formula, event: JsonValue) -> str:
    if isinstance(formula, Clause):
        return f"{_found(formula, list(values_at(event, formula.path)))}, expected {_expected(formula)}"
    failing = [part for part in formula.parts if not Matcher(part).matches(event)]
    if isinstance(formula, AnyOf):
        return "nothing of $or: " + either((_failing(part, event) for part in failing), "; or ")
    if failing:  # an absence may fail alone, and hold in the element that has the rest
        return _failing(min(failing, key=lambda part: isinstance(part, Clause) and part.absent), event)
    return "each clause holds, but no element of an array has all of it"


def _found(clause: Clause, values: list[JsonValue]) -> str:
    path = show_path(clause.path)
    if not values:
        return f"{path} is not there"
    shown = ["an object" if value == {} else show(value) for value in values[:_SHOWN_VALUES]]
    more = len(values) - len(shown)
    return f"{path} is {' and '.join(shown)}{f' and {more} more' if more else ''}"


def _expected(clause: Clause) -> str:
    return either(operator.words() for operator in clause.operators)
