"""Why an event matches a pattern, or not, in one line for a person. Called by ``routes.py``."""

from itertools import islice

from ingestd.processing.patterns.exact import Matcher, Value, make_test, values_at
from ingestd.processing.patterns.operators import Equals, either, show
from ingestd.processing.patterns.parse import AnyOf, Clause, Formula, combinations, show_path

_SHOWN_VALUES = 3


def explain(formula: Formula, event: Value) -> tuple[bool, str]:
    """Whether ``event``, as ``read`` gives it, matches; the clauses that hold, or the first that does not."""
    number = Matcher(formula).first(event)
    if number is None:
        return False, _failing(formula, event)
    # Of $or the branch that holds together with the rest: alone, none has to.
    combination = next(islice(combinations(formula), number, None))
    return True, either((_holding(clause, event) for clause in combination), "; ")


def _holding(clause: Clause, event: Value) -> str:
    test = make_test(clause)
    there = [value for value in values_at(event, clause.path) if value != {}]
    values = [value for value in there if test(value)]
    if there and not values:
        return f"{show_path(clause.path)} is in other elements of the array only (no value)"
    plain = values and isinstance(clause.operators[0], Equals) and len(clause.operators) == 1
    return _found(clause, values) + ("" if plain else f" ({_expected(clause)})")


def _failing(formula: Formula, event: Value) -> str:
    if isinstance(formula, Clause):
        return f"{_found(formula, list(values_at(event, formula.path)))}, expected {_expected(formula)}"
    failing = [part for part in formula.parts if not Matcher(part).matches(event)]
    if isinstance(formula, AnyOf):
        return "nothing of $or: " + either((_failing(part, event) for part in failing), "; or ")
    if failing:  # an absence may fail alone, and hold in the element that has the rest
        return _failing(min(failing, key=lambda part: isinstance(part, Clause) and part.absent), event)
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
