"""The validation stage: which events of a chunk are valid, and by which key each is known. Pure.

Called by the pipeline for every chunk, before the dedup window: the keys of refused events are given too, so
that a broken copy of an event that is already delivered counts as its duplicate.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import NamedTuple

from ingestd.core import json_path
from ingestd.core.chunk import Chunk, size_of
from ingestd.core.errors import UserError
from ingestd.core.reasons import Reason
from ingestd.core.sequences import missing, pick_keys
from ingestd.schemas.key_paths import KeyPaths, KeyWatch
from ingestd.schemas.schema import (
    NOT_EXPLAINED,
    ExplainsTogether,
    FieldError,
    Keys,
    LookAhead,
    LooksAhead,
    Refusal,
    Schema,
)
from ingestd.telemetry.repeats import template

FIRST_EVENTS = 100

_BLOCK = 128
_BLOCK_BYTES = 64 * 1024
"""Looked at in one go, so that a hostile block takes no longer than others can wait."""


RefusedEvents = tuple[dict[int, Refusal], dict[int, str]]
"""By index: why an event is refused, and its key where it has one all the same."""


class ValidatedChunk(NamedTuple):
    """``keys``: parallel to the events; None = refused, ``""`` = valid and without a key.

    ``refused``: why, by index. ``refused_keys``: the keys of those refused events that have one.
    """

    keys: Keys
    refused: dict[int, Refusal]
    refused_keys: dict[int, str]

    def refuse(self, index: int, why: str) -> None:
        """Its source could make no event of it, whatever its bytes look like."""
        self.keys[index] = None
        self.refused_keys.pop(index, None)
        self.refused[index] = Refusal(Reason.UNPARSABLE, [FieldError("", why)])

    @property
    def unparsable(self) -> list[int]:
        """Indices of those that are no JSON."""
        reason = Reason.UNPARSABLE  # of an enumeration, which is looked for in steps
        return [index for index, refusal in self.refused.items() if refusal[0] is reason]

    def count_for(self, watch: KeyWatch) -> None:
        """Of how many valid events there is a key."""
        watch.count(len(self.keys) - len(self.refused), self.keys.count(""))

    def pick(self, indices: Sequence[int]) -> "ValidatedChunk":
        """Of the events at these indices, which ascend and count from 0 then."""
        keys = pick_keys(self.keys, indices)
        place = {index: bisect_left(indices, index) for index in self.refused}  # few are
        place = {index: at for index, at in place.items() if at < len(indices) and indices[at] == index}
        return ValidatedChunk(
            keys,
            {place[index]: refusal for index, refusal in self.refused.items() if index in place},
            {place[index]: key for index, key in self.refused_keys.items() if index in place},
        )


class Validator:
    """``key_paths``, if given, take the place of the schema's own key; ``watch`` counts who has them.

    ``accept``: the pass that accepts first, where its keys are those of the events; of others, and where one
    of its keys is None, ``check`` has to be asked.
    """

    def __init__(
        self, schema: Schema, key_paths: KeyPaths | None = None, watch: KeyWatch | None = None
    ) -> None:
        self.watch = watch
        self._schema = schema
        self._together = schema if isinstance(schema, ExplainsTogether) else None
        self._custom = key_paths
        self.accept = None if key_paths else schema.keys
        self._paths = key_paths or (KeyPaths(schema.default_key) if schema.default_key else None)

    @property
    def key_parts(self) -> list[str]:
        """The paths of an event's key; none where there is none."""
        return [json_path.names(path) for path in self._paths.paths] if self._paths else []

    @property
    def without_key(self) -> int:
        """Valid events that had nothing at the paths that were given."""
        return self.watch.without if self.watch else 0

    def check(
        self, events: Sequence[bytes], accepted: Keys | None = None, *, again: bool = False
    ) -> ValidatedChunk:
        """Never raises for what is in an event. ``accepted``: what ``accept`` has said of them. ``again``:
        the watch has seen them before."""
        keys = self._schema.keys(events) if accepted is None else accepted
        refusals: RefusedEvents = {}, {}
        if None in keys:
            deque(self._explain(events, keys, refusals), maxlen=0)
        return self._checked(events, keys, refusals, again=again)

    def look_ahead(self, secret: bytes, part: tuple[int, int] | None = None) -> LookAhead | None:
        """See ``LooksAhead``."""
        ahead = None if self._custom else self._schema
        return ahead.look_ahead(secret, part) if isinstance(ahead, LooksAhead) else None

    def in_steps(self, events: Sequence[bytes]) -> Iterator[ValidatedChunk | None]:
        """As ``check``, by blocks of the events in their order; their indices count from the block's first.

        None is nothing but a moment to let others go on: from one to the next, and to the end, it takes some
        milliseconds, or as long as a single event does.
        """
        for number, block in enumerate(_blocks(events) if len(events) > 1 else (events,)):
            if number:
                yield None
            keys = self._schema.keys(block)
            refusals: RefusedEvents = {}, {}
            if None in keys:
                yield from self._explain(block, keys, refusals)
            yield self._checked(block, keys, refusals)

    def _explain(self, events: Sequence[bytes], keys: Keys, refusals: RefusedEvents) -> Iterator[None]:
        """Ask about those that the compiled pass did not accept. None after each."""
        indices, (refused, refused_keys) = missing(keys), refusals
        usual = self._together.usual(events, indices) if self._together else repeat(NOT_EXPLAINED)
        for index, (refusal, found) in zip(indices, usual, strict=False):
            if refusal is None or found is None or self._custom:
                event = events[index]
                refusal, found = refusal or self._schema.explain(event), self.key_of(event)
            if refusal is None:
                keys[index] = found or ""
            else:
                refused[index] = refusal
                if found:
                    refused_keys[index] = found
            yield None

    def _checked(
        self, events: Sequence[bytes], keys: Keys, refusals: RefusedEvents, *, again: bool = False
    ) -> ValidatedChunk:
        if self._custom:
            of = self._custom.of
            keys = [None if key is None else of(event) or "" for key, event in zip(keys, events, strict=True)]
            if self.watch and not again:
                self.watch.count(len(keys) - len(refusals[0]), keys.count(""))
        return ValidatedChunk(keys, *refusals)

    def key_of(self, event: bytes) -> str | None:
        """The key of any event, valid or not; None if it has none."""
        return self._paths.of(event) if self._paths else None


def _blocks(events: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    if len(events) <= _BLOCK and size_of(events) <= _BLOCK_BYTES:
        yield events
        return
    size = _BLOCK
    for first in range(0, len(events), size):
        block = events[first : first + size]
        if len(block) == 1 or size_of(block) <= _BLOCK_BYTES:
            yield block
        else:
            yield from _halves(block)


def _halves(events: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    middle = len(events) // 2
    for half in (events[:middle], events[middle:]):
        if len(half) == 1 or size_of(half) <= _BLOCK_BYTES:
            yield half
        else:
            yield from _halves(half)


class FirstEvents:
    """Whether the first events of the source ``name`` are all refused for one reason, as those of another
    file or schema are. Asked chunk by chunk until it is ``known``."""

    def __init__(self, name: str) -> None:
        self.known = False
        self._name = name
        self._seen = 0
        self._cause = ""

    def look(self, chunk: Chunk, refused: Mapping[int, Refusal]) -> UserError | None:
        """``refused``: by position in the chunk. An error once all are, and enough of them."""
        for position in range(min(len(chunk.events), FIRST_EVENTS - self._seen)):
            refusal = refused.get(position)
            cause = _cause(refusal, is_too_long=position in chunk.too_long) if refusal else ""
            if not cause or cause != (self._cause or cause):
                self.known = True
                return None
            self._cause = cause
            self._seen += 1
        if self._seen < FIRST_EVENTS or not refusal:
            return None
        self.known = True
        words = "longer than source.max_event_bytes" if position in chunk.too_long else refusal.words
        return UserError(
            f"{self._name}: its first {FIRST_EVENTS} events are all refused for one reason: {words}. Is this"
            " another schema (--schema), or another file? --keep-going makes dead letters of them and goes on"
        )


def _cause(refusal: Refusal, *, is_too_long: bool) -> str:
    """What is alike in two refusals: the values that they quote are not."""
    if is_too_long:
        return Reason.LINE_TOO_LONG
    if refusal.reason is Reason.UNPARSABLE:
        return refusal.reason
    return f"{refusal.reason} {template(refusal.errors[0].field)}"
