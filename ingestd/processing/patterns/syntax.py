"""How the operators of a pattern are written, and what is wrong with one. Called by ``parse.py``."""

import ipaddress
import json
import math
from collections.abc import Callable, Mapping
from typing import Any

from ingestd.core.text import did_you_mean
from ingestd.processing.patterns.operators import (
    Affix,
    AnythingBut,
    Cidr,
    Equals,
    EqualsIgnoreCase,
    Exists,
    Numeric,
    Operator,
    Wildcard,
    short,
    split_wildcard,
)


class PatternError(Exception):
    """``where``: the path in the pattern, ``what``: what is expected there."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}" if where else what)


_Parser = Callable[[Any, str], Operator]


def parse_operator(value: Mapping[str, Any], where: str, known: Mapping[str, _Parser]) -> Operator:
    """Of one of the ``known`` kinds. Raises Wrong."""
    if len(value) != 1:
        raise PatternError(where, f"expected one operator, found {len(value)}: give each its own object")
    ((name, operand),) = value.items()
    if name == "exactly":  # of Event Ruler alone
        raise PatternError(where, f"EventBridge has no operator 'exactly': write {as_json(operand)} itself")
    if name not in known:
        near = did_you_mean(name, known)
        hint = f"did you mean {near!r}?" if near else f"there are: {', '.join(known)}"
        raise PatternError(where, f"{short(name)!r} is not an operator here; {hint}")
    return known[name](operand, f"{where}.{name}")


def _texts(value: Any, where: str, *, many: bool, empty: bool = True) -> tuple[str, ...]:
    texts = value if isinstance(value, list) and many else [value]
    if not texts or not all(isinstance(text, str) for text in texts):
        wrong = next((text for text in texts if not isinstance(text, str)), texts)
        expected = "a string or an array of strings" if many else "a string"
        raise PatternError(where, f"expected {expected}, found {kind_of(wrong)}")
    if not empty and "" in texts:
        raise PatternError(where, 'expected text: every value begins and ends with ""')
    return tuple(texts)


def _affix(*, suffix: bool) -> _Parser:
    def parse_affix(value: Any, where: str) -> Operator:
        if not isinstance(value, Mapping):
            return Affix(_texts(value, where, many=False), suffix, False)
        inner = {"equals-ignore-case": lambda v, at: Affix(_texts(v, at, many=False), suffix, True)}
        return parse_operator(value, where, inner)

    return parse_affix


def _wildcard(value: Any, where: str, *, many: bool = False) -> Operator:
    texts = _texts(value, where, many=many)
    for text in texts:
        try:
            split_wildcard(text)
        except ValueError as error:
            raise PatternError(where, f"{short(text)!r} is not a wildcard: {error}") from None
    return Wildcard(texts)


def _anything_but(value: Any, where: str) -> Operator:
    if isinstance(value, Mapping):
        return AnythingBut(parse_operator(value, where, _INSIDE_ANYTHING_BUT))
    values = value if isinstance(value, list) else [value]
    for one in values:
        if _is_number(one):
            _check_number(one, where)
    if values and (all(isinstance(one, str) for one in values) or all(map(_is_number, values))):
        return AnythingBut(Equals(tuple(values)))
    expected = "expected a string, a number, an array of either, or an operator on text"
    raise PatternError(where, expected + ("" if values else ", found an empty array"))


_COMPARISONS = {
    "=": lambda n: Numeric(n, n),
    "<": lambda n: Numeric(-math.inf, n, high_open=True),
    "<=": lambda n: Numeric(-math.inf, n),
    ">": lambda n: Numeric(n, math.inf, low_open=True),
    ">=": lambda n: Numeric(n, math.inf),
}


def _numeric(value: Any, where: str) -> Operator:
    if not isinstance(value, list) or len(value) not in (2, 4):
        expected = 'expected [">", 5], or a range, as [">", 5, "<=", 10]'
        raise PatternError(where, expected + (", found an empty array" if value == [] else ""))
    bounds = list(zip(value[::2], value[1::2], strict=True))
    for sign, number in bounds:
        if not isinstance(sign, str) or sign not in _COMPARISONS:
            raise PatternError(
                where, f"{as_json(sign)} is not a comparison; there are: {' '.join(_COMPARISONS)}"
            )
        _check_number(number, where)
    if len(bounds) == 1:
        return _COMPARISONS[bounds[0][0]](bounds[0][1])
    (lower, low), (upper, high) = bounds
    if lower not in (">", ">=") or upper not in ("<", "<="):
        raise PatternError(where, 'a range is a lower bound, then an upper one, as [">", 5, "<=", 10]')
    if low >= high:
        raise PatternError(
            where, f"no number is in this range: {as_json(low)} is not less than {as_json(high)}"
        )
    return Numeric(low, high, lower == ">", upper == "<")


def _check_number(value: Any, where: str) -> None:
    if not _is_number(value):
        raise PatternError(where, f"expected a number, found {kind_of(value)}")
    try:
        within = math.isfinite(value)
    except OverflowError:  # an integer
        within = False
    if not within:
        raise PatternError(where, f"expected a number that a double can hold, found {as_json(value)}")


def _cidr(value: Any, where: str) -> Operator:
    text = value if isinstance(value, str) else ""
    address, slash, bits = text.partition("/")
    if not (slash and bits.isascii() and bits.isdigit() and "%" not in address):
        raise PatternError(
            where, f"expected a network, as 10.0.0.0/8 or 2001:db8::/32, found {kind_of(value)}"
        )
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise PatternError(
            where, f"{short(text)!r} is not a network such as 10.0.0.0/8, 2001:db8::/32"
        ) from None
    if ipaddress.ip_address(address) != network.network_address:
        raise PatternError(where, f"{short(text)!r} is an address inside a network: did you mean {network}?")
    return Cidr(network)


def _exists(value: Any, where: str) -> Operator:
    if not isinstance(value, bool):
        raise PatternError(where, f"expected true or false, found {kind_of(value)}")
    return Exists(value)


OPERATORS: dict[str, _Parser] = {
    "prefix": _affix(suffix=False),
    "suffix": _affix(suffix=True),
    "equals-ignore-case": lambda value, where: EqualsIgnoreCase(_texts(value, where, many=False)),
    "wildcard": _wildcard,
    "anything-but": _anything_but,
    "numeric": _numeric,
    "cidr": _cidr,
    "exists": _exists,
}
RESERVED = frozenset(
    {
        *("exactly", "=", "<", "<=", ">", ">=", "regex", "not-wildcard", "not-equals-ignore-case"),
        *("date-after", "date-on-or-after", "date-before", "date-on-or-before", "in-date-range"),
        *("ip-address-in-range", "ip-address-not-in-range"),
    }
)
"""Besides operators, what cannot be a field's name inside ``$or``: Constants.java of Event Ruler 2.1.0."""
_INSIDE_ANYTHING_BUT: dict[str, _Parser] = {
    "prefix": lambda v, where: Affix(_texts(v, where, many=True, empty=False), False, False),
    "suffix": lambda v, where: Affix(_texts(v, where, many=True, empty=False), True, False),
    "equals-ignore-case": lambda v, where: EqualsIgnoreCase(_texts(v, where, many=True)),
    "wildcard": lambda v, where: _wildcard(v, where, many=True),
}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_scalar(value: Any) -> bool:
    if isinstance(value, float) and not math.isfinite(value):
        return False  # TOML has inf and nan, JSON has not
    return value is None or isinstance(value, str | int | float)


def as_json(value: Any) -> str:
    return short(json.dumps(value, ensure_ascii=False, default=str))


def kind_of(value: Any) -> str:
    if isinstance(value, Mapping | list):
        name = "object" if isinstance(value, Mapping) else "array"
        return f"an {name}" if value else f"an empty {name}"
    return as_json(value) if is_scalar(value) else f"{short(str(value))} ({type(value).__name__})"
