"""What JSON is and how much of it an event may be, judged from its bytes, before any field is read.

msgspec skips unknown fields by a strict JSON grammar (NaN, bad escapes and lone surrogates are refused),
except for three things that pydantic refuses and that are looked for here: bytes that are not UTF-8, nesting
beyond 200, integers of more than 4300 digits. JSON has no other limit on numbers: ``1e400`` is one under
every schema.

Nesting and values are counted before anything is built from them, most of it on the whole text at once: of
one megabyte of ``[],[],[]`` a library of a schema would make hundreds of megabytes, and the deepest nesting
that each of them bears differs. ``load`` gives no schema that does not keep to ``EventLimits``.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import partial
from itertools import accumulate, count
from operator import sub
from typing import Any, NamedTuple, Protocol, runtime_checkable

import msgspec

from ingestd.core.regex import regex
from ingestd.schemas.schema import (
    NOT_EXPLAINED,
    Explanation,
    Keys,
    LookAhead,
    Refusal,
    Schema,
    describe,
    invalid,
    is_truncated,
    nested_deeper,
    not_utf8,
    unparsable,
)

MAX_DEPTH = 64
"""Of arrays and objects within each other, where no setting says otherwise."""
DEEPEST = 190
"""The most that a setting may allow: every library behind the schemas bears this."""

DEEP_BYTES = 400
"""An event of at most this many bytes cannot be nested deeper than 200: each level takes two."""

MAX_DIGITS = 4_300
"""Of an integer, or the whole part of a number: what Python's ``int`` and pydantic's parser take."""
_DIGIT = regex(rb"\d")
_DIGITS = b"0123456789"
_LONG_NUMBER = regex(rb'"(?:[^"\\]|\\.)*+"|(?<![0-9.eE+-])(?P<number>-?\d{%d})' % (MAX_DIGITS + 1), re.DOTALL)
"""A string, or a number that is too long."""
_skip = msgspec.json.Decoder(msgspec.Raw).decode


def find_fault(event: bytes) -> str | None:
    """Why ``event`` is not one JSON value by the grammar, in words; None if it is."""
    refusal = find_refusal(event)
    return refusal.errors[0].message if refusal else None


def find_refusal(event: bytes, *, max_depth: int = MAX_DEPTH) -> Refusal | None:
    """As ``find_fault``. Nesting is only noticed that no decoder bears: ``EventLimits`` look at it."""
    try:
        _skip(event)
        if not event.isascii():
            event.decode()
    except RecursionError:
        return invalid(nested_deeper(max_depth))
    except UnicodeDecodeError as error:
        return unparsable(not_utf8(error))
    except ValueError as error:
        return unparsable(describe(event, error))
    if (
        len(event) > MAX_DIGITS
        and not has_short_numbers(event)
        and any(found["number"] for found in _LONG_NUMBER.finditer(event))
    ):
        return unparsable(f"a number has more than {MAX_DIGITS} digits before its point")
    return None


def is_one_value(text: bytes) -> bool:
    """Whether it is a JSON value or the beginning of one, and nothing behind it; UTF-8 or not."""
    try:
        _skip(text)
    except RecursionError:
        return False
    except ValueError as error:
        return is_truncated(error)
    return True


def is_plain(event: bytes) -> bool:
    """Whether an event over ``DEEP_BYTES`` is far from the limits on nesting and integers."""
    if is_deeper(event, DEEPEST):
        return False
    return has_short_numbers(event)


def has_short_numbers(event: bytes) -> bool:
    """Whether nowhere, not even in a string, there are more digits in a row than a number may have."""
    # A run that is too long has one of these bytes: most events are done with a look at a few.
    for found in _DIGIT.finditer(event[MAX_DIGITS :: MAX_DIGITS + 1]):
        at = MAX_DIGITS + (MAX_DIGITS + 1) * found.start()
        before = event[at - MAX_DIGITS : at]
        behind = event[at : at + MAX_DIGITS + 1]
        run = len(before) - len(before.rstrip(_DIGITS)) + len(behind) - len(behind.lstrip(_DIGITS))
        if run > MAX_DIGITS:
            return False
    return True


def is_utf8(event: bytes) -> bool:
    if event.isascii():
        return True
    try:
        event.decode()
    except UnicodeDecodeError:
        return False
    return True


def drop_undecodable(events: Sequence[bytes], keys: list[str | None]) -> None:
    """Set to None the keys of events that are not UTF-8."""
    for index, event in enumerate(events):
        if not is_utf8(event):
            keys[index] = None


EXPLAINED_VALUES = 2_000
"""An event with more is not explained by a JSON Schema, and with care by a model of the user's: their
libraries find all errors there are, each with a copy of what it was found in, before one can be read."""
_BLOCK_BYTES = 64 * 1024
_LEVELS_AT_ONCE = 8
_WIDE = 4_000
_TOKEN = regex(rb",++|[\[\]]")
_AS_ARRAYS = bytes.maketrans(b"{}", b"[]")
_NO_BRACKETS = bytes(set(range(256)) - set(b'[]{}"'))
_NO_STRUCTURE = bytes(set(_NO_BRACKETS) - set(b","))


def opened(text: bytes) -> int:
    """How many brackets it opens, in strings or out of them: it is nested no deeper than that."""
    # Leaving a rare byte out takes a quarter of the time that counting it does.
    return 2 * len(text) - len(text.replace(b"{", b"")) - len(text.replace(b"[", b""))


def is_deeper(event: bytes, limit: int, *, block_bytes: int = _BLOCK_BYTES) -> bool:
    """Whether valid JSON nests more than ``limit`` arrays and objects; a scalar has depth 0."""
    if len(event) <= 2 * limit or opened(event) <= limit:
        return False
    rest = b"".join(_structure(event, _NO_BRACKETS, block_bytes))
    for _ in range(min(limit, _LEVELS_AT_ONCE) if len(rest) > _WIDE else 0):
        if len(rest) <= 2 * limit:
            return False
        rest = rest.replace(b"[]", b"")  # one level less, everywhere: most that is wide is not deep
        limit -= 1
    runs = rest.split(b"]")  # of those that open, before each that closes
    deepest: int = max(map(sub, accumulate(map(len, runs)), count()))
    return deepest > limit


def count_values(event: bytes) -> int:
    """The values in valid JSON, an empty array or object counted twice; of what is not JSON, some number."""
    return 1 + sum(len(part) - part.count(b"]") for part in _structure(event, _NO_STRUCTURE))


def has_more_elements(array: bytes, limit: int, *, block_bytes: int = _BLOCK_BYTES) -> bool:
    """Whether an array in JSON, not an empty one, has more than ``limit`` (at least 1) elements."""
    depth, found = 0, 1
    for part in _structure(array, _NO_STRUCTURE, block_bytes):
        for token in _TOKEN.finditer(part.replace(b"[]", b"")):
            mark = token[0]
            if mark == b"[":
                depth += 1
            elif mark == b"]":
                depth -= 1
            elif depth == 1:
                found += len(mark)
                if found > limit:
                    return True
    return False


def _structure(text: bytes, dropped: bytes, block_bytes: int = _BLOCK_BYTES) -> Iterator[bytes]:
    """Without strings and the bytes ``dropped``; braces as brackets. In blocks, which bounds what is made of
    it, and how long other threads wait for each."""
    at = inside = 0
    while at < len(text):
        block = text[at : at + block_bytes]
        if (len(block) - len(block.rstrip(b"\\"))) % 2:
            block = text[at : at + block_bytes + 1]  # not through the middle of an escape
        at += len(block)
        block = block.replace(b"\\\\", b"").replace(b'\\"', b"")  # now a quote always begins or ends a string
        parts = block.translate(_AS_ARRAYS, dropped).replace(b'""', b"").split(b'"')
        yield b"".join(parts[inside::2])
        inside ^= (len(parts) - 1) & 1


def is_explained(event: bytes) -> bool:
    """Whether the errors of this event, which is JSON, are named one by one."""
    return len(event) <= EXPLAINED_VALUES or count_values(event) <= EXPLAINED_VALUES


def unexplained(what: str) -> Refusal:
    """``what`` it does not fit."""
    return invalid(
        f"it does not fit {what}; the place is not given for an event with over {EXPLAINED_VALUES} values"
    )


MAX_VALUES = 100_000
_MOST_AT_ONCE = 16


class EventLimits(NamedTuple):
    max_depth: int = MAX_DEPTH
    """Arrays and objects within each other."""
    max_values: int = MAX_VALUES
    """Values in all; an empty array or object counts twice. No event of fewer bytes can have more."""

    def find_excess(self, event: bytes) -> str | None:
        """What there is too much of in an event that is JSON, in words."""
        if self._has_too_many(event):
            return f"more than {self.max_values} values"
        return nested_deeper(self.max_depth) if is_deeper(event, self.max_depth) else None

    def over(self, events: Sequence[bytes]) -> Collection[int]:
        """Indices of the events that have too much in them; of what is not JSON, any."""
        if len(events) == 1:  # most requests have one
            return (0,) if self.find_excess(events[0]) else ()
        over: list[int] = []
        first, size = 0, _MOST_AT_ONCE
        while first < len(events):
            # Some together: what they have in all is more than any of them has.
            block = events[first : first + size]
            text = b"".join(block)
            brackets = opened(text)
            if brackets > self.max_depth or len(text) > self.max_values:
                over += [index for index, event in enumerate(block, first) if self.find_excess(event)]
            first += len(block)
            size = min(_MOST_AT_ONCE, max(1, self.max_depth * 15 * len(block) // (16 * brackets + 1)))
        return over

    def _has_too_many(self, event: bytes) -> bool:
        return len(event) > self.max_values and count_values(event) > self.max_values


@runtime_checkable
class KeysWithin(Protocol):
    """A schema that looks at limits where it looks at all of an event anyway."""

    def keys_within(self, events: Sequence[bytes], limits: EventLimits) -> Keys:
        """As ``keys``; it accepts no event over these."""
        ...

    def refusal_within(self, event: bytes, limits: EventLimits) -> Refusal | None:
        """What is wrong with an event that is JSON and within these; None: nothing, or ``explain`` has to say
        it."""
        ...

    def look_ahead_within(
        self, limits: EventLimits, secret: bytes, part: tuple[int, int] | None, /
    ) -> LookAhead | None:
        """See ``LooksAhead``."""
        ...

    def usual_within(
        self, events: Sequence[bytes], indices: Sequence[int], limits: EventLimits, /
    ) -> Sequence[Explanation]:
        """See ``ExplainsTogether``."""
        ...


class LimitedSchema:
    """``schema``, which is only asked about events within ``limits``."""

    def __init__(self, schema: Schema, limits: EventLimits) -> None:
        self.name = schema.name
        self.default_key = schema.default_key
        self._schema = schema
        self._limits = limits
        self._within = schema if isinstance(schema, KeysWithin) else None
        self.keys: Callable[[Sequence[bytes]], Keys] = (
            partial(self._within.keys_within, limits=limits) if self._within else self._keys_within
        )

    def _keys_within(self, events: Sequence[bytes]) -> Keys:
        over = self._limits.over(events)
        if not over:
            return self._schema.keys(events)
        over = frozenset(over)
        found = iter(self._schema.keys([event for i, event in enumerate(events) if i not in over]))
        return [None if i in over else next(found) for i in range(len(events))]

    def look_ahead(self, secret: bytes, part: tuple[int, int] | None) -> LookAhead | None:
        """See ``LooksAhead``."""
        return self._within.look_ahead_within(self._limits, secret, part) if self._within else None

    def usual(self, events: Sequence[bytes], indices: Sequence[int]) -> Sequence[Explanation]:
        """See ``ExplainsTogether``."""
        if self._within:
            return self._within.usual_within(events, indices, self._limits)
        return [NOT_EXPLAINED] * len(indices)

    def explain(self, event: bytes) -> Refusal | None:
        if self._within and (usual := self._within.refusal_within(event, self._limits)):
            return usual
        if broken := find_refusal(event, max_depth=self._limits.max_depth):
            return broken
        excess = self._limits.find_excess(event)
        return invalid(excess) if excess else self._schema.explain(event)


class Members:
    """Reads the members ``names`` of an object."""

    def __init__(self, *names: str) -> None:
        fields: list[tuple[str, Any, Any]] = [
            (f"m{number}", msgspec.Raw | msgspec.UnsetType, msgspec.UNSET) for number in range(len(names))
        ]
        rename = {field: name for (field, *_), name in zip(fields, names, strict=True)}
        struct = msgspec.defstruct("Members", fields, gc=False, rename=rename)
        self._names = names
        self._decode = msgspec.json.Decoder(struct).decode

    def of(self, event: bytes) -> dict[str, bytes]:
        """JSON texts by name, in the order of ``names``; of two alike the last.

        Raises ValueError where it is not a JSON object, RecursionError where it is nested too deeply.
        """
        found = msgspec.structs.astuple(self._decode(event))
        return {
            name: bytes(raw) for name, raw in zip(self._names, found, strict=True) if raw is not msgspec.UNSET
        }


def hollow(value: bytes) -> bytes:
    """A JSON value without what is in it, if it is an array or an object."""
    first = value.lstrip()[:1]
    return {b"{": b"{}", b"[": b"[]"}.get(first, value)


def write(members: Mapping[str, bytes]) -> bytes:
    """The object that has these members."""
    return b"{%b}" % b",".join(msgspec.json.encode(name) + b":" + value for name, value in members.items())
