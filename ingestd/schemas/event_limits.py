"""How much may be in an event, and a schema that is only asked about events with no more than that.

Nesting and values are counted before anything is built from them: of one megabyte of ``[],[],[]`` a library
of a schema would make hundreds of megabytes, and the deepest nesting that each of them bears differs.
``load`` gives no schema that does not keep to ``EventLimits``.
"""

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import NamedTuple, Protocol, runtime_checkable

from ingestd.schemas.grammar import MAX_DEPTH, count_values, find_refusal, is_deeper, opened
from ingestd.schemas.schema import (
    NOT_EXPLAINED,
    Explanation,
    Keys,
    LookAhead,
    Refusal,
    Schema,
    invalid,
    nested_deeper,
)

EXPLAINED_VALUES = 2_000
"""An event with more is not explained by a JSON Schema, and with care by a model of the user's: their
libraries find all errors there are, each with a copy of what it was found in, before one can be read."""

MAX_VALUES = 100_000
_MOST_AT_ONCE = 16


def is_explained(event: bytes) -> bool:
    """Whether the errors of this event, which is JSON, are named one by one."""
    return len(event) <= EXPLAINED_VALUES or count_values(event) <= EXPLAINED_VALUES


def unexplained(what: str) -> Refusal:
    """``what`` it does not fit."""
    return invalid(
        f"it does not fit {what}; the place is not given for an event with over {EXPLAINED_VALUES} values"
    )


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
