"""The interaction event: a contact-centre interaction that was answered, transferred, queued, ended.

``Interaction`` is the definition and explains refusals; ``_Accepted`` is the compiled pass that
accepts first. Loaded by ``load``; called by ``stages/validate.py``.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic.alias_generators import to_camel

from ingestd.schemas.grammar import drop_undecodable, find_fault, is_plain, is_simple
from ingestd.schemas.refusals import from_pydantic, unparsable
from ingestd.schemas.rfc3339 import LENGTHS, SHAPES, is_timestamp, parse
from ingestd.schemas.schema import Refusal

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

Action = Literal["ANSWER", "TRANSFER", "DISCONNECT", "QUEUE", "REQUEUE"]
Version = Literal[1, 2, 3]


def _without_controls(text: str) -> str:
    # NUL separates the parts of a key; the other control characters have no business in a name.
    if _CONTROL.search(text):
        raise ValueError("expected no control characters")
    return text


def _timestamp(text: str) -> str:
    if not is_timestamp(text):
        raise ValueError("expected an RFC 3339 time with an offset, like 2026-01-01T10:00:00Z")
    return text


Name = Annotated[str, Field(min_length=1), AfterValidator(_without_controls)]
_CONFIG = ConfigDict(strict=True, extra="ignore", alias_generator=to_camel)


class RoutingMetadata(BaseModel):
    """Where the interaction went and what happened to it there."""

    model_config = _CONFIG

    queue_id: str
    skill: str
    action_type: Action


class Interaction(BaseModel):
    """What a valid interaction event is. Member names are camelCase; others are passed on untouched."""

    model_config = _CONFIG

    event_type: Name
    event_time: Annotated[str, AfterValidator(_timestamp)]
    interaction_id: Name
    routing_metadata: RoutingMetadata
    attributes: dict[str, Any] = Field(default_factory=dict)
    schema_version: Annotated[int, Field(ge=1, le=3)]


class _Object(msgspec.Struct, gc=False):
    """Any JSON object: its members are checked by the grammar and skipped."""


class _AcceptedRouting(msgspec.Struct, gc=False, rename="camel"):
    queue_id: str
    skill: str
    action_type: Action


_NonEmpty = Annotated[str, msgspec.Meta(min_length=1)]


class _Accepted(msgspec.Struct, gc=False, rename="camel"):
    event_type: _NonEmpty
    event_time: str
    interaction_id: _NonEmpty
    routing_metadata: _AcceptedRouting
    schema_version: Version
    attributes: _Object | msgspec.UnsetType = msgspec.UNSET


# The members that every valid event has take 140 bytes, so nesting of 200 needs this many (tested).
_DEEP_BYTES = 530
_decode = msgspec.json.Decoder(_Accepted).decode


def _key_of_uncommon(seen: _Accepted, event: bytes) -> str | None:
    """The key of an event whose time has another offset, or more digits; None if not accepted."""
    interaction, kind, time = seen.interaction_id, seen.event_type, seen.event_time
    printable = interaction.isprintable() and kind.isprintable()
    plain = len(event) <= _DEEP_BYTES or is_plain(event)
    return f"{interaction}\0{kind}\0{time}" if printable and plain and is_timestamp(time) else None


class InteractionSchema:
    """See ``Schema``. Key text: ``interactionId NUL eventType NUL eventTime``."""

    name = "interaction"
    default_key = ("interactionId", "eventType", "eventTime")

    def keys(self, events: Sequence[bytes]) -> list[str | None]:
        keys: list[str | None] = []
        add = keys.append
        simple = is_simple(events)
        for event in events:
            try:
                seen = _decode(event)
                interaction, kind, time = seen.interaction_id, seen.event_type, seen.event_time
                # ``rfc3339.is_common``, spelled out: the call alone would cost a tenth of the loop.
                if not (time[4:20:3] in SHAPES and time[-1] == "Z" and len(time) in LENGTHS and parse(time)):
                    add(_key_of_uncommon(seen, event))
                elif (simple or (interaction.isprintable() and kind.isprintable())) and (
                    len(event) <= _DEEP_BYTES or is_plain(event)
                ):
                    add(f"{interaction}\0{kind}\0{time}")
                else:
                    add(None)
            except (ValueError, RecursionError):
                add(None)
        if not simple:
            drop_undecodable(events, keys)
        return keys

    def explain(self, event: bytes) -> Refusal | None:
        # pydantic's parser takes NaN and Infinity, which are not JSON.
        fault = find_fault(event)
        if fault:
            return unparsable(fault)
        try:
            Interaction.__pydantic_validator__.validate_json(event)
        except ValidationError as error:
            return from_pydantic(error)
        return None
