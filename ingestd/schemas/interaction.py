"""The interaction event: a contact-centre interaction that was answered, transferred, queued, ended.

``Interaction`` of ``interaction_model.py`` is the definition and explains refusals; ``_Accepted`` is the
compiled pass that accepts first. Loaded by ``load``; called by ``processing/validate.py``.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Literal

import msgspec

from ingestd.core.sequences import COMPILED, HAVE_PARTS
from ingestd.schemas import ActionType
from ingestd.schemas.event_limits import EventLimits
from ingestd.schemas.grammar import DEEPEST, MAX_DEPTH, is_plain, is_utf8, opened
from ingestd.schemas.interaction_refusals import EXPLAIN, most_bytes, usual_refusal
from ingestd.schemas.rfc3339 import is_common, is_timestamp
from ingestd.schemas.schema import NOT_EXPLAINED, Explanation, Keys, LookAhead, Refusal

Version = Literal[1, 2, 3]


class _Object(msgspec.Struct, gc=False):
    """Any JSON object: its members are checked by the grammar and skipped."""


class _AcceptedRouting(msgspec.Struct, gc=False, rename="camel"):
    queue_id: str
    skill: str
    action_type: ActionType


_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class _Accepted(msgspec.Struct, gc=False, rename="camel"):
    event_type: _NonEmpty
    event_time: str
    interaction_id: _NonEmpty
    routing_metadata: _AcceptedRouting
    schema_version: Version
    attributes: _Object | msgspec.UnsetType = msgspec.UNSET


# The members that every valid event has take 140 bytes, so nesting of 200 needs this many (tested).
_LEAST_BYTES = 140
_DEEP_BYTES = 530
_BRACKETS = 2
"""That every valid event opens: its own and those of its ``routingMetadata``."""
_BLOCK = 40
_SMALL_BLOCK = 16
"""Events looked at together: what they are decoded to stays in the processor's cache. Where one of them is
uncommon they are looked at in smaller blocks, so that it costs its neighbours little."""

_MOST = EventLimits(max_depth=DEEPEST)

_FEW = 16
"""One of so many is few."""

_decode = msgspec.json.Decoder(_Accepted).decode


class _Times(msgspec.Struct, gc=False):
    """msgspec looks up at once what it knows of a class; a list of annotated types it hashes each time."""

    texts: list[Annotated[datetime, msgspec.Meta(tz=True)]]


def all_common(texts: Sequence[str]) -> bool:
    """Whether all of ``texts`` are timestamps of a common shape: a ``T``, and ``Z`` or an offset.

    It accepts no more than ``is_timestamp``, at a tenth of the price for some dozens at once.
    """
    try:
        msgspec.convert({"texts": texts}, _Times)
    except ValueError:
        return False
    # What msgspec takes beyond the RFC: a space for the T, and offsets without their colon.
    joined = "".join(texts)
    count = len(texts)
    return joined.count("T") == count and joined.count(":") + joined.count("Z") == 3 * count


def _key_of_uncommon(seen: _Accepted, event: bytes) -> str | None:
    """The key of an event that is long, or has escapes or an uncommon time; None if not accepted."""
    interaction, kind, time = seen.interaction_id, seen.event_type, seen.event_time
    if not (interaction.isprintable() and kind.isprintable() and is_utf8(event)):
        return None
    if not (is_common(time) or is_timestamp(time)):
        return None
    plain = len(event) <= _DEEP_BYTES or is_plain(event)
    return f"{interaction}\0{kind}\0{time}" if plain else None


def _decode_all(events: Sequence[bytes]) -> list[_Accepted | None]:
    """None where an event is not accepted."""
    found: list[_Accepted | None] = []
    decoded = map(_decode, events)
    while len(found) < len(events):
        try:
            found.extend(decoded)  # keeps what it has got when one raises; the next turn goes on behind that
        except (ValueError, RecursionError):
            found.append(None)
    return found


def _over(joined: bytes, accepted: int, events: Sequence[bytes], limits: EventLimits) -> Collection[int]:
    """Indices of ``events`` that may be over the limits, none if all together are so few brackets that no
    accepted one can be: each of them opens ``_BRACKETS``. ``joined``: all of them, of which so many are
    ``accepted``."""
    if len(joined) <= min(_LEAST_BYTES + 2 * limits.max_depth, limits.max_values):
        return ()  # each level takes two bytes
    brackets = opened(joined) - _BRACKETS * (accepted - 1)
    return () if brackets <= limits.max_depth and len(joined) <= limits.max_values else limits.over(events)


def _keys_of(
    events: Sequence[bytes], found: Sequence[_Accepted | None], limits: EventLimits | None
) -> list[str | None]:
    # One look at all is cheaper than one at each string: without escapes and beyond-ASCII bytes, no
    # string of an event can hold a control character, or be anything but UTF-8.
    joined = b"".join(events)
    times = [seen.event_time for seen in found if seen]
    if limits and (over := _over(joined, len(times), events, limits)):
        found = [None if index in over else seen for index, seen in enumerate(found)]
        times = [seen.event_time for seen in found if seen]
    ascii_only = joined.isascii()
    common = (
        joined.find(b"\\") < 0
        and joined.find(b"\x7f") < 0
        and (ascii_only or is_utf8(joined))
        and all_common(times)
    )
    if not common and len(events) > _SMALL_BLOCK:
        blocks = (slice(at, at + _SMALL_BLOCK) for at in range(0, len(events), _SMALL_BLOCK))
        return [key for block in blocks for key in _keys_of(events[block], found[block], None)]
    keys: list[str | None] = []
    add = keys.append
    for event, seen in zip(events, found, strict=True):
        if seen is None:
            add(None)
            continue
        if common and len(event) <= _DEEP_BYTES:
            key = f"{seen.interaction_id}\0{seen.event_type}\0{seen.event_time}"
            if ascii_only or key.isascii():
                add(key)
                continue
        add(_key_of_uncommon(seen, event))
    return keys


class InteractionSchema:
    """See ``Schema``. Key text: ``interactionId NUL eventType NUL eventTime``."""

    name = "interaction"
    default_key = ("interactionId", "eventType", "eventTime")

    def keys(self, events: Sequence[bytes]) -> Keys:
        return self.keys_within(events, None)

    def keys_within(self, events: Sequence[bytes], limits: EventLimits | None) -> Keys:
        if isinstance(events, COMPILED):
            return self._compiled_keys(events, limits)
        keys: list[str | None] = []
        # Events of one source are alike: so many together that their brackets say that none is deep.
        more = opened(events[0]) - _BRACKETS if len(events) > _SMALL_BLOCK else 0
        size = max(_SMALL_BLOCK, min(_BLOCK, MAX_DEPTH // max(1, more)))
        for first in range(0, len(events), size):
            block = events[first : first + size]
            keys += _keys_of(block, _decode_all(block), limits)
        return keys

    def _compiled_keys(self, events: Any, limits: EventLimits | None) -> Keys:
        """The accelerator accepts first of all. What it is not sure of comes here, unless it is little:
        nearly all of that is refused, and to explain it is all that is left to do."""
        keys: Keys = events.interaction_keys(*(limits or EventLimits()))
        unsure: list[int] = keys.missing()  # type: ignore[attr-defined]
        if len(unsure) * _FEW > len(events):
            found = self.keys_within([events[index] for index in unsure], limits)
            for index, key in zip(unsure, found, strict=True):
                if key is not None:
                    keys[index] = key
        return keys

    def look_ahead_within(
        self, limits: EventLimits, secret: bytes, part: tuple[int, int] | None, /
    ) -> LookAhead | None:
        if not COMPILED:
            return None
        only = (part,) if part and HAVE_PARTS else ()

        def look(events: Any) -> None:
            if isinstance(events, COMPILED):
                events.look_ahead(*limits, secret, *only)  # type: ignore[attr-defined]

        return look

    def refusal_within(self, event: bytes, limits: EventLimits) -> Refusal | None:
        return usual_refusal(event, limits)

    def usual_within(
        self, events: Any, indices: Sequence[int], limits: EventLimits, /
    ) -> Sequence[Explanation]:
        if not (isinstance(events, COMPILED) and hasattr(events, "faults")):  # that of 4.1 does not have it
            return [NOT_EXPLAINED] * len(indices)
        found = events.faults(indices, limits.max_depth, most_bytes(limits))
        return [(EXPLAIN[one[0]](one[1]), one[2]) if one else NOT_EXPLAINED for one in found]

    def explain(self, event: bytes) -> Refusal | None:
        return usual_refusal(event, _MOST) or _definition()(event)


@cache
def _definition() -> Callable[[bytes], Refusal | None]:
    from ingestd.schemas.interaction_model import explain  # pydantic, which few files ever need

    return explain
