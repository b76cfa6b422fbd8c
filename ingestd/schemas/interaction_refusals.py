"""Why an interaction is refused, where the reason is a usual one: what its model says, in the model's words,
without asking it. Used by ``interaction.py``; property tests hold it to the model.

Where one event in a hundred is refused, pydantic took a quarter of a replay's CPU, import included.
"""

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any

import msgspec

from ingestd.core.reasons import Reason
from ingestd.schemas.event_limits import EXPLAINED_VALUES, EventLimits
from ingestd.schemas.grammar import is_utf8, opened
from ingestd.schemas.rfc3339 import is_common, is_timestamp
from ingestd.schemas.schema import (
    ENDS,
    FieldError,
    Refusal,
    expected,
    field_error,
    not_utf8,
    unparsable,
)

_ACTIONS = ("ANSWER", "TRANSFER", "DISCONNECT", "QUEUE", "REQUEUE")
_ACTION_WORDS = "expected 'ANSWER', 'TRANSFER', 'DISCONNECT', 'QUEUE' or 'REQUEUE'"
_TIME_WORDS = "expected an RFC 3339 time with an offset, like 2026-01-01T10:00:00Z"
_CONTROLS = frozenset(map(chr, (*range(0x20), *range(0x7F, 0xA0))))
_SURE = 2**53
"""Integers below it are the same to every decoder."""


class _Object(msgspec.Struct, gc=False):
    """Any JSON object."""


class _Routing(msgspec.Struct, gc=False, rename="camel"):
    queue_id: Any = msgspec.UNSET
    skill: Any = msgspec.UNSET
    action_type: Any = msgspec.UNSET


class _Interaction(msgspec.Struct, gc=False, rename="camel"):
    event_type: Any = msgspec.UNSET
    event_time: Any = msgspec.UNSET
    interaction_id: Any = msgspec.UNSET
    routing_metadata: _Routing | msgspec.UnsetType = msgspec.UNSET
    attributes: _Object | msgspec.UnsetType = msgspec.UNSET
    schema_version: Any = msgspec.UNSET


_decode = msgspec.json.Decoder(_Interaction).decode
_decode_any = msgspec.json.Decoder().decode


def usual_refusal(event: bytes, limits: EventLimits) -> Refusal | None:
    """What is wrong with the members of an event that is JSON, within ``limits``. None: nothing, or only the
    model can tell, or it is not."""
    if len(event) > most_bytes(limits) or not is_utf8(event):
        return None
    if opened(event) > limits.max_depth:
        return None
    try:
        seen = _decode(event)
    except (ValueError, RecursionError):
        return None
    version = seen.schema_version
    if not _is_sure(version):
        return None
    errors = [
        error
        for error in (
            None if _is_plain(seen.event_type) else _name("eventType", seen.event_type),
            _time("eventTime", seen.event_time),
            None if _is_plain(seen.interaction_id) else _name("interactionId", seen.interaction_id),
            *_routing(seen.routing_metadata),
            _version("schemaVersion", version),
        )
        if error
    ]
    return Refusal(Reason.INVALID, errors) if errors else None


def most_bytes(limits: EventLimits) -> int:
    """Of an event that is looked at here."""
    return min(EXPLAINED_VALUES, limits.max_values)


Doubt = tuple[int, bytes | None]
"""Number of a member in ``_MEMBERS``, and its JSON text; None: it is not there."""


_MOST_REMEMBERED = 512
"""Refusals: producers make the same few mistakes again and again."""


def refusal_of(doubts: Iterable[Doubt]) -> Refusal | None:
    """As ``usual_refusal``, of an event that is a JSON object within the limits. Only these members, in the
    order of ``_MEMBERS``, may be wrong."""
    errors = []
    for number, text in doubts:
        field, check = _MEMBERS[number]
        try:
            value = msgspec.UNSET if text is None else _decode_any(text)
        except (ValueError, RecursionError):
            return None
        if check is _version and not _is_sure(value):
            return None
        if error := check(field, value):
            errors.append(error)
    return Refusal(Reason.INVALID, errors) if errors else None


def _not_utf8(where: tuple[int, int]) -> Refusal:
    return unparsable(not_utf8(*where))


def _ends(nothing: tuple[()]) -> Refusal:
    return unparsable(ENDS)


EXPLAIN: tuple[Callable[[Any], Refusal | None], ...] = (
    lru_cache(_MOST_REMEMBERED)(refusal_of),
    refusal_of,
    lru_cache(_MOST_REMEMBERED)(_not_utf8),
    lru_cache(1)(_ends),
)
"""By the kind of a fault, as the accelerator numbers them: doubts about short members, and about members of
which one is too long to be remembered; JSON but for a byte that is not UTF-8; an object that ends early."""


def _is_sure(version: Any) -> bool:
    return version is msgspec.UNSET or (type(version) is int and abs(version) < _SURE)


def _is_plain(value: Any) -> bool:
    """Certainly a name."""
    return type(value) is str and value != "" and value.isprintable()


def _routing(routing: _Routing | msgspec.UnsetType) -> Iterable[FieldError | None]:
    if routing is msgspec.UNSET:
        return (field_error("routingMetadata", "required, but missing"),)
    queue, skill, action = routing.queue_id, routing.skill, routing.action_type
    if type(queue) is type(skill) is type(action) is str and action in _ACTIONS:
        return ()
    return (
        _text("routingMetadata.queueId", queue),
        _text("routingMetadata.skill", skill),
        _action("routingMetadata.actionType", action),
    )


def _text(field: str, value: Any) -> FieldError | None:
    if isinstance(value, str):
        return None
    if value is msgspec.UNSET:
        return field_error(field, "required, but missing")
    return expected(field, "expected a valid string", value)


def _name(field: str, value: Any) -> FieldError | None:
    if value == "":
        return expected(field, "String should have at least 1 character", value)
    if isinstance(value, str) and not _CONTROLS.isdisjoint(value):
        return expected(field, "expected no control characters", value)
    return _text(field, value)


def _time(field: str, value: Any) -> FieldError | None:
    if type(value) is not str:
        return _text(field, value)
    return None if is_common(value) or is_timestamp(value) else expected(field, _TIME_WORDS, value)


def _action(field: str, value: Any) -> FieldError | None:
    if value is msgspec.UNSET:
        return field_error(field, "required, but missing")
    known = isinstance(value, str) and value in _ACTIONS
    return None if known else expected(field, _ACTION_WORDS, value)


def _version(field: str, value: Any) -> FieldError | None:
    if value is msgspec.UNSET:
        return field_error(field, "required, but missing")
    if 1 <= value <= 3:
        return None
    words = "expected greater than or equal to 1" if value < 1 else "expected less than or equal to 3"
    return expected(field, words, value)


_MEMBERS: tuple[tuple[str, Callable[[str, Any], FieldError | None]], ...] = (
    ("eventType", _name),
    ("eventTime", _time),
    ("interactionId", _name),
    ("routingMetadata", _text),  # only where it is missing
    ("routingMetadata.queueId", _text),
    ("routingMetadata.skill", _text),
    ("routingMetadata.actionType", _action),
    ("schemaVersion", _version),
)
"""As the accelerator numbers them."""
