"""What a valid interaction event is, and why one is not: see ``interaction.py``, which imports it late."""

import re
from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from ingestd.schemas import ActionType
from ingestd.schemas.members import Members, hollow, write
from ingestd.schemas.pydantic_model import explain_by
from ingestd.schemas.rfc3339 import is_timestamp
from ingestd.schemas.schema import Refusal

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")


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
    action_type: ActionType


class Interaction(BaseModel):
    """What a valid interaction event is. Member names are camelCase; others are passed on untouched."""

    model_config = _CONFIG

    event_type: Name
    event_time: Annotated[str, AfterValidator(_timestamp)]
    interaction_id: Name
    routing_metadata: RoutingMetadata
    attributes: dict[str, Any] = Field(default_factory=dict)
    schema_version: Annotated[int, Field(ge=1, le=3)]


_MEMBERS = Members(*(to_camel(name) for name in Interaction.model_fields))
_ROUTING = Members(*(to_camel(name) for name in RoutingMetadata.model_fields))


def explain(event: bytes) -> Refusal | None:
    """See ``Schema``."""
    return explain_by(Interaction, event, _parts)


def _parts(event: bytes) -> Iterator[bytes]:
    """The event without what the model does not look at."""
    if hollow(event) != b"{}":
        yield hollow(event)
        return
    members = _MEMBERS.of(event)
    kept = {name: hollow(value) for name, value in members.items()}
    if kept.get("routingMetadata") == b"{}":
        routing = _ROUTING.of(members["routingMetadata"])
        kept["routingMetadata"] = write({name: hollow(value) for name, value in routing.items()})
    yield write(kept)
