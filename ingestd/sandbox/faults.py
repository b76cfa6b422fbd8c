"""Faults to order: the grammar ``429:0.05``, scripts, and which request gets which fault.

Parsed for ``cli/sandbox.py`` and ``POST /_sandbox/faults``; asked once per request by ``sandbox/server.py``.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from ingestd.core.units import seconds

MAX_FAULTS = 100
MAX_RULES = 10_000
MAX_DELAY_S = 3600.0

_STATUS = re.compile(r"(token-)?([3-5]\d\d)", re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,200}", re.ASCII)  # no CR, LF: it must not end the header
_KINDS = ("cut", "cut-before", "partial", "slow", "garbage", "expire", "token-throttle")


class Fault(NamedTuple):
    """One fault by rate. ``kind`` is its name in the stats; ``status`` is 0 unless it is an answer."""

    kind: str
    rate: float
    status: int = 0
    retry_after: str | None = None
    delay_s: float = 0.0

    @property
    def for_token(self) -> bool:
        return self.kind.startswith("token-")


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    path: str
    nth: int


class ScriptedAnswer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: int
    headers: dict[str, str] = {}
    body: str = ""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One entry of a script: what happens to the ``nth`` request, from 1, of a path.

    ``take``: the request is handled first and its own answer then replaced. With neither ``answer``
    nor ``cut`` it is handled as always, ``delay`` later.
    """

    match: Match
    answer: ScriptedAnswer | None = None
    take: bool = False
    cut: bool = False
    delay: str | float = 0.0


@dataclass(frozen=True, slots=True)
class Order:
    """What shall happen to one request.

    ``take`` False: it is not handled; it gets ``status`` (a made-up error), ``answer``, or, with
    ``cut``, nothing. ``take`` True: it is handled, and then ``answer`` replaces its own answer.
    """

    kind: str
    take: bool = True
    cut: bool = False
    status: int = 0
    retry_after: str | None = None
    answer: ScriptedAnswer | None = None
    delay_s: float = 0.0
    partial: bool = False
    expire: bool = False


NOTHING_ORDERED = Order("")
"""The request is handled as always."""

GARBAGE = ScriptedAnswer(200, {"Content-Type": "text/html"}, "<html><body>It works!</body></html>")


def parse_fault(text: str) -> Fault:
    """``429:0.05``, ``429:0.05:-1``, ``cut:0.01``, ``slow:0.1:2s``, ``token-503:0.5``. Raises ValueError.

    The third part is the delay of ``slow``, and the text of Retry-After (default 1) of a 429 or 503.
    """
    kind, _, rest = text.strip().partition(":")
    rate_text, has_extra, extra = rest.partition(":")
    shown = text[:60]
    try:
        rate = float(rate_text) if rate_text.isascii() and "_" not in rate_text else -1.0
    except ValueError:
        rate = -1.0
    if not 0.0 <= rate <= 1.0:
        raise ValueError(f"{shown!r} is not a fault: write it like 429:0.05, with a rate from 0 to 1")
    if match := _STATUS.fullmatch(kind):
        status = int(match[2])
        if has_extra and not _HEADER_VALUE.fullmatch(extra):
            raise ValueError(f"{shown!r}: Retry-After takes at most 200 printable ASCII characters")
        default = "1" if status in (429, 503) else None
        return Fault(kind, rate, status=status, retry_after=extra if has_extra else default)
    if kind not in _KINDS:
        raise ValueError(f"{shown!r} is not a fault: STATUS, token-STATUS, {', '.join(_KINDS)} expected")
    if kind == "slow":
        return Fault(kind, rate, delay_s=_delay(extra if has_extra else "1s"))
    if has_extra:
        raise ValueError(f"{shown!r}: {kind} takes a rate and nothing else")
    return Fault(kind, rate)


def parse_faults(texts: Iterable[str]) -> tuple[Fault, ...]:
    """Several faults, of which one request gets at most one. Raises ValueError."""
    faults = tuple(parse_fault(text) for text in texts)
    if len(faults) > MAX_FAULTS:
        raise ValueError(f"{len(faults)} faults are more than {MAX_FAULTS}")
    for for_token in (False, True):
        total = sum(fault.rate for fault in faults if fault.for_token is for_token)
        if total > 1 + 1e-9:
            raise ValueError(f"the rates of the faults add up to {total:g}: at most 1 expected")
    return faults


def parse_script(content: bytes) -> tuple[Rule, ...]:
    """A JSON list of rules. Raises ValueError with the place of what is wrong in it."""
    try:
        rules = msgspec.json.decode(content, type=list[Rule])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
        raise ValueError(f"the script is not a list of rules: {str(reason)[:200]}") from None
    if len(rules) > MAX_RULES:
        raise ValueError(f"{len(rules)} rules are more than {MAX_RULES}")
    for number, rule in enumerate(rules, 1):
        try:
            _check_rule(rule)
        except ValueError as reason:
            raise ValueError(f"rule {number} of the script: {reason}") from None
    return tuple(rules)


def _check_rule(rule: Rule) -> None:
    _delay(rule.delay)
    if rule.match.nth < 1:
        raise ValueError("nth counts from 1")
    if rule.answer is None:
        return
    if rule.cut:
        raise ValueError("either an answer or cut, not both")
    if not 200 <= rule.answer.status <= 599:
        raise ValueError("a status from 200 to 599 expected")
    for name, value in rule.answer.headers.items():
        if not _HEADER_NAME.fullmatch(name) or not _HEADER_VALUE.fullmatch(value):
            raise ValueError(f"{name[:60]!r} is not a header that can be sent")


def _delay(text: str | float) -> float:
    delay_s = seconds(text)
    if delay_s > MAX_DELAY_S:
        raise ValueError(f"{text!r} is longer than an hour")
    return delay_s


@dataclass(slots=True)
class Faults:
    """Decides the fate of each request: the script first, else one throw of seeded dice.

    Token requests have dice of their own, so that how often a client logs in does not change what
    happens to its batches.
    """

    faults: Sequence[Fault] = ()
    rules: Sequence[Rule] = ()
    seed: int = 0
    _seen: Counter[str] = field(default_factory=Counter)
    _by_place: dict[tuple[str, int], Rule] = field(default_factory=dict)
    _paths: frozenset[str] = frozenset()
    _dice: dict[bool, random.Random] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_place = {(rule.match.path, rule.match.nth): rule for rule in self.rules}
        self._paths = frozenset(rule.match.path for rule in self.rules)
        self._dice = {is_token: random.Random(f"{self.seed}:{is_token}") for is_token in (False, True)}

    def order_for(self, path: str, *, is_token: bool) -> Order | None:
        """What happens to this request; None: nothing out of the ordinary. Call once per request."""
        if path in self._paths:  # only scripted paths are counted: others are the client's invention
            self._seen[path] += 1
            if rule := self._by_place.get((path, self._seen[path])):
                return _scripted(rule)
        throw = self._dice[is_token].random()
        for fault in self.faults:
            if fault.for_token is not is_token:
                continue
            if throw < fault.rate:
                return _ordered(fault)
            throw -= fault.rate
        return None


def _scripted(rule: Rule) -> Order:
    handled = rule.take or not (rule.cut or rule.answer)
    return Order("script", take=handled, cut=rule.cut, answer=rule.answer, delay_s=_delay(rule.delay))


def _ordered(fault: Fault) -> Order:
    if fault.status:
        return Order(fault.kind, take=False, status=fault.status, retry_after=fault.retry_after)
    if fault.kind == "token-throttle":
        return Order(fault.kind, take=False)
    if fault.kind in ("cut", "cut-before"):
        return Order(fault.kind, take=fault.kind == "cut", cut=True)
    return Order(
        fault.kind,
        answer=GARBAGE if fault.kind == "garbage" else None,
        delay_s=fault.delay_s,
        partial=fault.kind == "partial",
        expire=fault.kind == "expire",
    )
