"""Fault injection: the grammar ``429:0.05``, scripts, and which request gets which fault.

Parsed for ``cli/sandbox.py`` and ``POST /_sandbox/faults``; asked once per request by ``sandbox/server.py``.
"""

import random
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

import msgspec

from ingestd.core.units import seconds

MAX_FAULTS = 100
MAX_RULES = 10_000
MAX_DELAY_S = 3600.0

_STATUS = re.compile(r"(token-)?([3-5]\d\d)", re.ASCII)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}", re.ASCII)
_HEADER_VALUE = re.compile(r"[\x20-\x7e]{0,200}", re.ASCII)  # no CR, LF: it must not end the header
_KINDS = (
    "cut",
    "cut-before",
    "partial",
    "slow",
    "garbage",
    "skew",
    "expire",
    "token-throttle",
    "token-region",
)
_EVENT_SCOPES = {
    "event-retry": "event",
    "event-dead": "event",
    "status-fail": "status",
    "status-stuck": "status",
    "status-late": "late",
    "status-hidden": "hidden",
    "handshake-refuse": "handshake",
    "no-permission": "permission",
}
"""Faults that strike an event, an origin or a path, not a request. Of one scope at most one strikes."""
_CONTROL_SCOPES = {
    "verify-fail": "verify",
    "verify-timeout": "verify",
    "verify-odd": "verify",
    "health-fail": "health",
    "integration-error": "reported",
    "create-hidden": "created",
    "version-conflict": "version",
}
"""Faults that strike a resource of the control plane, by its name. Of one scope at most one strikes."""

_DELAYED = {
    "slow": "1s",
    "skew": "10m",
    "status-late": "5s",
    "status-hidden": "300ms",
    "create-hidden": "300ms",
}
"""Kinds that take a delay as their third part, and what it is if not given."""


class Fault(NamedTuple):
    """One fault by rate. ``kind`` is its name in the stats; ``status`` is 0 unless it is an answer."""

    kind: str
    rate: float
    status: int = 0
    retry_after: str | None = None
    delay_s: float = 0.0

    @property
    def scope(self) -> str:
        """What it strikes: a ``request``, a request for a ``token``, an event, or a resource."""
        if self.kind.startswith("token-"):
            return "token"
        return _EVENT_SCOPES.get(self.kind) or _CONTROL_SCOPES.get(self.kind, "request")


class Match(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``path`` as in the stats: ``/api/v2/eventbridge/events/{id}`` is the questions after all events."""

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
class FaultPlan:
    """What happens to one request.

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
    skew_s: float = 0.0
    """How far ahead the clock of the answer is."""


NOTHING_ORDERED = FaultPlan("")
"""The request is handled as always."""

GARBAGE = ScriptedAnswer(200, {"Content-Type": "text/html"}, "<html><body>It works!</body></html>")


def parse_fault(text: str) -> Fault:
    """``429:0.05``, ``429:0.05:-1``, ``cut:0.01``, ``slow:0.1:2s``, ``token-503:0.5``. Raises ValueError.

    The third part is the delay of ``slow``, ``status-late``, ``status-hidden`` and ``create-hidden``, how far
    ahead the ``Date`` of a ``skew`` is, and the text of Retry-After (default 1) of a 429 or 503.
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
    known = (*_KINDS, *_EVENT_SCOPES, *_CONTROL_SCOPES)
    if kind not in known:
        raise ValueError(f"{shown!r} is not a fault: STATUS, token-STATUS, {', '.join(known)} expected")
    if kind in _DELAYED:
        return Fault(kind, rate, delay_s=_delay(extra if has_extra else _DELAYED[kind]))
    if has_extra:
        raise ValueError(f"{shown!r}: {kind} takes a rate and nothing else")
    return Fault(kind, rate)


def parse_faults(texts: Iterable[str]) -> tuple[Fault, ...]:
    """Several faults, of which one request, or event, gets at most one of a scope. Raises ValueError."""
    faults = tuple(parse_fault(text) for text in texts)
    if len(faults) > MAX_FAULTS:
        raise ValueError(f"{len(faults)} faults are more than {MAX_FAULTS}")
    for scope in {fault.scope for fault in faults}:
        total = sum(fault.rate for fault in faults if fault.scope == scope)
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
    """Decides what happens to each request: the script first, else a seeded random number.

    Token requests have dice of their own, so that how often a client logs in does not change what happens to
    its batches. Faults that strike events need no dice: which ones follows from the seed and the event,
    whichever batch it comes in. ``struck`` counts those by kind.
    """

    faults: Sequence[Fault] = ()
    rules: Sequence[Rule] = ()
    seed: int = 0
    struck: Counter[str] = field(default_factory=Counter)
    _seen: Counter[str] = field(default_factory=Counter)
    _by_place: dict[tuple[str, int], Rule] = field(default_factory=dict)
    _paths: frozenset[str] = frozenset()
    _by_scope: dict[str, list[Fault]] = field(default_factory=dict)
    _dice: dict[bool, random.Random] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._by_place = {(rule.match.path, rule.match.nth): rule for rule in self.rules}
        self._paths = frozenset(rule.match.path for rule in self.rules)
        for fault in self.faults:
            self._by_scope.setdefault(fault.scope, []).append(fault)
        self._dice = {is_token: random.Random(f"{self.seed}:{is_token}") for is_token in (False, True)}

    def order_for(self, path: str, *, is_token: bool) -> FaultPlan | None:
        """What happens to this request; None: nothing out of the ordinary. Call once per request."""
        if path in self._paths:  # only scripted paths are counted: others are the client's invention
            self._seen[path] += 1
            if rule := self._by_place.get((path, self._seen[path])):
                return _scripted(rule)
        fault = self._hit("token" if is_token else "request", self._dice[is_token].random())
        return None if fault is None else _planned(fault)

    def has(self, scope: str) -> bool:
        return scope in self._by_scope

    def strikes(self, scope: str, identity: bytes) -> Fault | None:
        """The fault of ``scope`` for this ``identity``; always the same."""
        if scope not in self._by_scope:
            return None
        summary = blake2b(identity, key=f"{self.seed}:{scope}".encode()[:64], digest_size=6).digest()
        fault = self._hit(scope, int.from_bytes(summary) / 2**48)
        if fault is not None:
            self.struck[fault.kind] += 1
        return fault

    def _hit(self, scope: str, throw: float) -> Fault | None:
        for fault in self._by_scope.get(scope, ()):
            if throw < fault.rate:
                return fault
            throw -= fault.rate
        return None


def _scripted(rule: Rule) -> FaultPlan:
    handled = rule.take or not (rule.cut or rule.answer)
    return FaultPlan("script", take=handled, cut=rule.cut, answer=rule.answer, delay_s=_delay(rule.delay))


def _planned(fault: Fault) -> FaultPlan:
    if fault.status:
        return FaultPlan(fault.kind, take=False, status=fault.status, retry_after=fault.retry_after)
    if fault.kind in ("token-throttle", "token-region"):
        return FaultPlan(fault.kind, take=False)
    if fault.kind in ("cut", "cut-before"):
        return FaultPlan(fault.kind, take=fault.kind == "cut", cut=True)
    return FaultPlan(
        fault.kind,
        answer=GARBAGE if fault.kind == "garbage" else None,
        delay_s=0.0 if fault.kind == "skew" else fault.delay_s,
        skew_s=fault.delay_s if fault.kind == "skew" else 0.0,
        partial=fault.kind == "partial",
        expire=fault.kind == "expire",
    )
