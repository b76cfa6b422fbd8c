"""What an event may have in it. Every schema that ``load`` gives keeps to it, whatever the event came by.

Counted on the event's bytes, before anything is built from them: a schema's library would make of one
megabyte of ``[],[],[]`` hundreds of megabytes, and the deepest nesting that each of them bears differs.
"""

from collections.abc import Collection, Sequence
from typing import NamedTuple

from ingestd.schemas.faults import nested_deeper
from ingestd.schemas.grammar import find_refusal
from ingestd.schemas.nesting import MAX_DEPTH, count_values, is_deeper, opened
from ingestd.schemas.refusals import invalid
from ingestd.schemas.schema import Refusal, Schema

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


class LimitedSchema:
    """``schema``, which is only asked about events within ``limits``."""

    def __init__(self, schema: Schema, limits: EventLimits) -> None:
        self.name = schema.name
        self.default_key = schema.default_key
        self._schema = schema
        self._limits = limits

    def keys(self, events: Sequence[bytes]) -> list[str | None]:
        over = self._limits.over(events)
        if not over:
            return self._schema.keys(events)
        over = frozenset(over)
        found = iter(self._schema.keys([event for i, event in enumerate(events) if i not in over]))
        return [None if i in over else next(found) for i in range(len(events))]

    def explain(self, event: bytes) -> Refusal | None:
        if broken := find_refusal(event, max_depth=self._limits.max_depth):
            return broken
        excess = self._limits.find_excess(event)
        return invalid(excess) if excess else self._schema.explain(event)
