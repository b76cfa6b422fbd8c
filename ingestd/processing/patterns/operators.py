"""What a pattern asks of one value: each operator as a Python expression, and in words.

Expressions are made of our own names only: ``{x}`` stands for the value, constants are bound by name.
Called by ``parse.py`` (which parses), ``scan.py`` and ``exact.py`` (which run them).
"""

import ipaddress
import json
import math
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import msgspec

from ingestd.core.text import cut

_MAX_ADDRESS_CHARS = 45
_SHOWN_CHARS = 60
_SHOWN_PARTS = 8

Scalar = str | int | float | bool | None
IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network


class Names:
    """The constants of generated source, by the names they have there."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {"UNSET": msgspec.UNSET, "fold": fold}

    def bind(self, value: object) -> str:
        name = f"c{len(self.values)}"
        self.values[name] = value
        return name


class Operator(Protocol):
    def source(self, names: Names) -> str:
        """An expression that is true where ``{x}``, a scalar or UNSET (there is none), is as asked for."""
        ...

    def words(self) -> str:
        """What is expected, as in ``text that begins with "us-"``."""
        ...


@dataclass(frozen=True, slots=True)
class Equals:
    """One of some values; numbers by value (1 is 1.0), and no number is true or false."""

    values: tuple[Scalar, ...]

    def source(self, names: Names) -> str:
        # True == 1 in Python: each of the three kinds is compared by itself.
        plain = {value for value in self.values if value is None or isinstance(value, str)}
        flags = [value for value in self.values if isinstance(value, bool)]
        numbers = {v for v in self.values if isinstance(v, int | float) and not isinstance(v, bool)}
        parts = [_member(plain, names)] if plain else []
        parts += [f"{{x}} is {flag}" for flag in dict.fromkeys(flags)]
        if numbers:
            parts.append(f"{{x}}.__class__ is not bool and {_member(numbers, names)}")
        return " or ".join(parts)

    def words(self) -> str:
        return either(map(show, self.values))


def _member(values: set[Any], names: Names) -> str:
    if len(values) == 1:
        return f"{{x}} == {names.bind(*values)}"
    return f"{{x}} in {names.bind(frozenset(values))}"


@dataclass(frozen=True, slots=True)
class Affix:
    """Text that begins (or ends) with one of some; ``any_case``: whatever the case."""

    texts: tuple[str, ...]
    suffix: bool
    any_case: bool

    def source(self, names: Names) -> str:
        texts = tuple(map(fold, self.texts)) if self.any_case else self.texts
        text = "fold({x})" if self.any_case else "{x}"
        method = "endswith" if self.suffix else "startswith"
        return f"{{x}}.__class__ is str and {text}.{method}({names.bind(texts)})"

    def words(self) -> str:
        texts = either(map(show, self.texts))
        return f"text that {'ends' if self.suffix else 'begins'} with {texts}{_case(self.any_case)}"


@dataclass(frozen=True, slots=True)
class EqualsIgnoreCase:
    texts: tuple[str, ...]

    def source(self, names: Names) -> str:
        folded = frozenset(map(fold, self.texts))
        return f"{{x}}.__class__ is str and fold({{x}}) in {names.bind(folded)}"

    def words(self) -> str:
        return either(map(show, self.texts)) + _case(any_case=True)


@dataclass(frozen=True, slots=True)
class Wildcard:
    r"""Text by patterns in which ``*`` is any characters, ``\*`` an asterisk and ``\\`` a backslash."""

    texts: tuple[str, ...]

    def source(self, names: Names) -> str:
        tests = [_like(split_wildcard(text), names) for text in self.texts]
        return f"{{x}}.__class__ is str and ({' or '.join(tests)})"

    def words(self) -> str:
        return "text like " + either(map(show, self.texts))


@dataclass(frozen=True, slots=True)
class Numeric:
    """A number from ``low`` to ``high``; without a bound that is open. ``-inf`` and ``inf``: no bound.

    Over the whole range of a double, as Event Ruler since 1.8.0: the 5e9 of AWS's User Guide leaves out
    milliseconds since 1970.
    """

    low: float
    high: float
    low_open: bool = False
    high_open: bool = False

    def source(self, names: Names) -> str:
        low, high = names.bind(self.low), names.bind(self.high)
        within = f"{low} {'<' if self.low_open else '<='} {{x}} {'<' if self.high_open else '<='} {high}"
        return f"({{x}}.__class__ is int or {{x}}.__class__ is float) and {within}"

    def words(self) -> str:
        if self.low == self.high:
            return f"the number {show(self.low)}"
        low = f"{'over' if self.low_open else 'at least'} {show(self.low)}"
        high = f"{'under' if self.high_open else 'at most'} {show(self.high)}"
        if self.high == math.inf:
            return f"a number {low}"
        if self.low == -math.inf:
            return f"a number {high}"
        return f"a number {low} and {high}"


@dataclass(frozen=True, slots=True)
class Cidr:
    network: IpNetwork

    def source(self, names: Names) -> str:
        return f"{{x}}.__class__ is str and {names.bind(_address_test(self.network))}({{x}})"

    def words(self) -> str:
        return f"an address in {self.network}"


@dataclass(frozen=True, slots=True)
class Exists:
    """Any value, or none. An object is not a value, what is in it is; nor is an empty array."""

    wanted: bool

    def source(self, names: Names) -> str:
        return f"{{x}} is {'not ' if self.wanted else ''}UNSET"

    def words(self) -> str:
        return "any value" if self.wanted else "no value"


@dataclass(frozen=True, slots=True)
class AnythingBut:
    """A value, null and numbers included, that is not as ``inner`` asks."""

    inner: Operator

    def source(self, names: Names) -> str:
        return f"{{x}} is not UNSET and not ({self.inner.source(names)})"

    def words(self) -> str:
        return f"anything but {self.inner.words()}"


def fold(text: str) -> str:
    """Without case, character by character and of the same length, so that it suits prefixes too."""
    if text.isascii():
        return text.lower()
    return "".join(map(_fold_character, text))


@lru_cache(maxsize=4096)
def _fold_character(character: str) -> str:
    upper = character.upper()
    lower = (upper if len(upper) == 1 else character).lower()
    return lower if len(lower) == 1 else character


def split_wildcard(text: str) -> list[str]:
    r"""The parts of a wildcard pattern between its asterisks. Raises ValueError, in words."""
    parts = [""]
    for character in re.findall(r"\\[*\\]|[^\\]|\\", text, re.DOTALL):
        if character == "\\":
            raise ValueError(r"after \ there must be * or \ ")
        if character == "*":
            parts.append("")
        else:
            parts[-1] += character[-1]
    if any(not part for part in parts[1:-1]):
        raise ValueError("two * side by side")
    return parts


def _like(parts: list[str], names: Names) -> str:
    """An expression: each part is taken where it is found first, so the search never has to go back."""
    first, last = parts[0], parts[-1]
    if len(parts) == 1:
        return f"{{x}} == {names.bind(first)}"
    tests = [f"len({{x}}) >= {len(first) + len(last)}"]
    tests += [f"{{x}}.startswith({names.bind(first)})"] if first else []
    tests += [f"{{x}}.endswith({names.bind(last)})"] if last else []
    start = str(len(first))
    for part in parts[1:-1]:
        tests.append(f"(i := {{x}}.find({names.bind(part)}, {start})) >= 0")
        start = f"i + {len(part)}"
    if len(parts) > 2 and last:
        tests.append(f"{start} + {len(last)} <= len({{x}})")
    return f"({' and '.join(tests)})"


def _address_test(network: IpNetwork) -> Callable[[str], bool]:
    # Addresses repeat, and reading one costs more than the rest of a pattern.
    @lru_cache(maxsize=1024)
    def inside(text: str) -> bool:
        try:
            return ipaddress.ip_address(text) in network
        except ValueError:
            return False

    return lambda text: len(text) <= _MAX_ADDRESS_CHARS and "%" not in text and inside(text)


def _case(any_case: bool) -> str:
    return " in any case" if any_case else ""


def either(texts: Iterable[str], joint: str = " or ") -> str:
    """The first of them, joined, and how many more there are."""
    shown = list(texts)
    more = [f"{len(shown) - _SHOWN_PARTS} more"] if len(shown) > _SHOWN_PARTS else []
    return joint.join(shown[:_SHOWN_PARTS] + more)


def show(value: object) -> str:
    """A value as JSON for a person: cut, without control characters."""
    text = json.dumps(value[: _SHOWN_CHARS + 1] if isinstance(value, str) else value, ensure_ascii=False)
    return short(text)


def short(text: str) -> str:
    return cut(text, _SHOWN_CHARS)
