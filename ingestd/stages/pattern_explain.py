"""Why an event matches a pattern, or not, in one line for a person. Called by ``routes.py``."""

from collections.abc import Iterator

from ingestd.stages.pattern import Clause, Either, Formula, show_path
from ingestd.stages.pattern_exact import Matcher, Value, make_test, values_at
from ingestd.stages.pattern_operators import Equals, either, show

_SHOWN_VALUES = 3


def explain(formula: Formula, event: Value) -> tuple[bool, str]:
    """Whether ``event``, as ``read`` gives it, matches; the clauses that hold, or the first that does not."""
    if Matcher(formula).matches(event):
        return True, either(_holding(formula, event), "; ")
    return False, _failing(formula, event)


def _holding(formula: Formula, event: Value) -> Iterator[str]:
    if isinstance(formula, Clause):
        test = make_test(formula)
        values = [value for value in values_at(event, formula.path) if value != {} and test(value)]
        plain = values and isinstance(formula.operators[0], Equals) and len(formula.operators) == 1
        yield _found(formula, values) + ("" if plain else f" ({_expected(formula)})")
    elif isinstance(formula, Either):
        part = next(part for part in formula.parts if Matcher(part).matches(event))
        yield from _holding(part, event)
    else:
        for part in formula.parts:
            yield from _holding(part, event)


def _failing(formula: Formula, event: Value) -> str:
    if isinstance(formula, Clause):
        return f"{_found(formula, list(values_at(event, formula.path)))}, expected {_expected(formula)}"
    failing = [part for part in formula.parts if not Matcher(part).matches(event)]
    if isinstance(formula, Either):
        return "nothing of $or: " + either((_failing(part, event) for part in failing), "; or ")
    if failing:
        return _failing(failing[0], event)
    return "each clause holds, but no element of an array has all of it"


def _found(clause: Clause, values: list[Value]) -> str:
    path = show_path(clause.path)
    if not values:
        return f"{path} is not there"
    shown = ["an object" if value == {} else show(value) for value in values[:_SHOWN_VALUES]]
    more = len(values) - len(shown)
    return f"{path} is {' and '.join(shown)}{f' and {more} more' if more else ''}"


def _expected(clause: Clause) -> str:
    return either(operator.words() for operator in clause.operators)
