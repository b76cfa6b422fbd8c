"""What an event may have in it. Every schema that ``load`` gives keeps to it, whatever the event came by.

Counted on the event's bytes, before anything is built from them: a schema's library would make of one
megabyte of ``[],[],[]`` hundreds of megabytes, and the deepest nesting that each of them bears differs.
"""

from collections.abc import Sequence
from typing import NamedTuple

from ingestd.schemas.faults import nested_deeper
from ingestd.schemas.grammar import find_refusal
from ingestd.schemas.nesting import MAX_DEPTH, count_values, deep_ones, is_deeper
from ingestd.schemas.refusals import invalid
from ingestd.schemas.schema import Refusal, Schema

MAX_VALUES = 100_000


class Limits(NamedTuple):
    max_depth: int = MAX_DEPTH
    """Arrays and objects within each other."""
    max_values: int = MAX_VALUES
    """Values in all; an empty array or object counts twice. No event of fewer bytes can have more."""

    def find_excess(self, event: bytes) -> str | None:
        """What there is too much of in an event that is JSON, in words."""
        if self._has_too_many(event):
            return f"more than {self.max_values} values"
        return nested_deeper(self.max_depth) if is_deeper(event, self.max_depth) else None

    def over(self, events: Sequence[bytes]) -> set[int]:
        """Indices of the events that have too much in them; of what is not JSON, any."""
        if max(map(len, events), default=0) > self.max_values:
            return {index for index, event in enumerate(events) if self.find_excess(event)}
        return set(deep_ones(events, self.max_depth))

    def _has_too_many(self, event: bytes) -> bool:
        return len(event) > self.max_values and count_values(event) > self.max_values


class Limited:
    """``schema``, which is only asked about events within ``limits``."""

    def __init__(self, schema: Schema, limits: Limits) -> None:
        self.name = schema.name
        self.default_key = schema.default_key
        self._schema = schema
        self._limits = limits

    def keys(self, events: Sequence[bytes]) -> list[str | None]:
        over = self._limits.over(events)
        if not over:
            return self._schema.keys(events)
        found = iter(self._schema.keys([event for i, event in enumerate(events) if i not in over]))
        return [None if i in over else next(found) for i in range(len(events))]

    def explain(self, event: bytes) -> Refusal | None:
        if broken := find_refusal(event, max_depth=self._limits.max_depth):
            return broken
        excess = self._limits.find_excess(event)
        return invalid(excess) if excess else self._schema.explain(event)
