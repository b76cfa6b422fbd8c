"""The EventBridge pattern language: parses a pattern into clauses and says what is wrong with it.

Source: the EventBridge User Guide, "Comparison operators for use in event patterns", and its open
implementation, Event Ruler. Called by ``routes.py``.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, product
from typing import Any

from ingestd.core.errors import UserError
from ingestd.processing.patterns.operators import Equals, Exists, Operator, short
from ingestd.processing.patterns.syntax import (
    OPERATORS,
    RESERVED,
    PatternError,
    as_json,
    is_scalar,
    kind_of,
    parse_operator,
)

MAX_PATTERN_BYTES = 4096
MAX_COMBINATIONS = 1000
MAX_DEPTH = 32

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Clause:
    """One field, and what its value may be: one of ``operators`` is enough."""

    path: Path
    operators: tuple[Operator, ...]

    @property
    def absent(self) -> bool:
        """Whether it also holds where the field has no value."""
        return Exists(False) in self.operators


@dataclass(frozen=True, slots=True)
class AllOf:
    parts: tuple["Formula", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    parts: tuple["Formula", ...]


Formula = Clause | AllOf | AnyOf


def parse(pattern: Mapping[str, Any]) -> AllOf:
    """A pattern that is not empty. Raises UserError: where in it, and what is expected there.

    As in EventBridge, with what it leaves open decided: numbers are compared by value (300 is 3.0e2), a dot
    in a name is a dot, a network is written by its first address, and an absence is looked for in the same
    element of an array as what is found.
    """
    try:
        _check_size(pattern)
        formula = _object(pattern, (), "", within_or=False)
        _check_combinations(formula)
    except PatternError as wrong:
        raise UserError(str(wrong)) from None
    return formula


def combinations(formula: Formula) -> Iterator[tuple[Clause, ...]]:
    """The pattern without ``$or``: it matches where all clauses of one of these hold together."""
    if isinstance(formula, Clause):
        yield (formula,)
    elif isinstance(formula, AnyOf):
        for part in formula.parts:
            yield from combinations(part)
    else:
        for chosen in product(*map(combinations, formula.parts)):
            yield tuple(chain.from_iterable(chosen))


def clauses(formula: Formula) -> Iterator[Clause]:
    """All clauses, in the order of the pattern."""
    if isinstance(formula, Clause):
        yield formula
    else:
        for part in formula.parts:
            yield from clauses(part)


def _count(formula: Formula) -> int:
    if isinstance(formula, Clause):
        return 1
    counts = map(_count, formula.parts)
    return sum(counts) if isinstance(formula, AnyOf) else math.prod(counts)


def _check_size(pattern: object) -> None:
    level = [pattern]
    for _ in range(MAX_DEPTH):
        deeper: list[Any] = []
        for value in level:
            if isinstance(value, Mapping):
                deeper += value.values()
            elif isinstance(value, list):
                deeper += value
        level = deeper
    if level:
        raise PatternError("", f"a pattern is at most {MAX_DEPTH} levels deep")
    try:
        text = json.dumps(pattern, ensure_ascii=False, separators=(",", ":"), default=str)
        size = len(text.encode())
    except UnicodeEncodeError:
        raise PatternError("", "expected Unicode text, found half of a surrogate pair") from None
    if size > MAX_PATTERN_BYTES:
        raise PatternError("", f"a pattern has at most {MAX_PATTERN_BYTES} bytes, this has {size}")


def _check_combinations(formula: Formula) -> None:
    count = _count(formula)
    if count > MAX_COMBINATIONS:
        raise PatternError("", f"$or makes {count} combinations, and at most {MAX_COMBINATIONS} are possible")
    for combination in combinations(formula):
        paths = [clause.path for clause in combination]
        if len(set(paths)) < len(paths):
            twice = next(path for path in paths if paths.count(path) > 1)
            raise PatternError(
                show_path(twice), "asked for twice, inside $or and beside it: name a field once"
            )


def show_path(path: Path) -> str:
    return short(".".join(path))


def _object(value: Mapping[str, Any], path: Path, where: str, *, within_or: bool) -> AllOf:
    if not value:
        raise PatternError(where, "expected at least one field, found an empty object")
    parts: list[Formula] = []
    for name, below in value.items():
        here = f"{where}.{short(name)}" if where else short(name)
        if name == "$or":
            parts.append(_either(below, path, here))
        elif within_or and name in OPERATORS:
            raise PatternError(
                here, "an operator stands in an array: a field inside $or cannot have its name"
            )
        elif within_or and name in RESERVED:
            raise PatternError(
                here, "EventBridge keeps this name for itself: a field inside $or cannot have it"
            )
        elif isinstance(below, Mapping):
            parts.append(_object(below, (*path, name), here, within_or=within_or))
        elif isinstance(below, list):
            parts.append(_clause(below, (*path, name), here))
        else:
            hint = f', like "{short(name)}": [{as_json(below)}]' if is_scalar(below) else ""
            raise PatternError(
                here, f"expected an array of values or an object{hint}, found {kind_of(below)}"
            )
    return AllOf(tuple(parts))


def _either(value: Any, path: Path, where: str) -> AnyOf:
    if not isinstance(value, list) or len(value) < 2:
        found = ", found an empty array" if value == [] else ""
        raise PatternError(where, f"expected an array of two or more objects{found}")
    parts = []
    for at, below in enumerate(value):
        here = f"{where}[{at}]"
        if not isinstance(below, Mapping):
            raise PatternError(here, f"expected an object, found {kind_of(below)}")
        parts.append(_object(below, path, here, within_or=True))
    return AnyOf(tuple(parts))


def _clause(values: list[Any], path: Path, where: str) -> Clause:
    if not values:
        raise PatternError(where, "expected at least one value, found an empty array")
    plain: list[Any] = []
    operators: list[Operator] = []
    for at, value in enumerate(values):
        if isinstance(value, Mapping):
            operators.append(parse_operator(value, f"{where}[{at}]", OPERATORS))
        elif is_scalar(value):
            plain.append(value)
        else:
            expected = "a string, a number, true, false, null or an operator"
            raise PatternError(f"{where}[{at}]", f"expected {expected}, found {kind_of(value)}")
    if plain:
        operators.insert(0, Equals(tuple(plain)))
    return Clause(path, tuple(operators))
