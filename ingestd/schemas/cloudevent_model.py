"""What a valid CloudEvent is, and why one is not: ``cloudevent.py`` imports it for the first refusal."""

import base64
import json
from collections.abc import Iterator
from itertools import islice
from typing import Annotated, Any, Self

import msgspec
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ingestd.schemas.attributes import ATTRIBUTES, NAME, check_text
from ingestd.schemas.members import hollow, write
from ingestd.schemas.pydantic_model import explain_by
from ingestd.schemas.schema import Refusal, invalid, show

_EXTENSIONS_AT_ONCE = 100
_read_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


def _check_extension(value: object) -> object:
    """C7, C8, C9: a boolean, an integer of 32 bits or a string; null is the same as absent (J2)."""
    if isinstance(value, str):
        return check_text(value)
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int) and -(2**31) <= value < 2**31:
        return value
    raise ValueError("expected a string, a boolean or an integer of 32 bits")


class CloudEvent(BaseModel):
    """What a valid CloudEvent is. Members that are not named here are extension attributes."""

    model_config = ConfigDict(strict=True, extra="allow")
    __pydantic_extra__: dict[str, Annotated[Any, AfterValidator(_check_extension)]] = Field(init=False)

    id: str
    source: str
    specversion: str
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    data: Any = None
    data_base64: str | None = None

    @field_validator(*ATTRIBUTES)
    @classmethod
    def _check_attribute(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None:
            attribute = ATTRIBUTES[info.field_name or ""]
            if not attribute.is_valid(check_text(value)):
                raise ValueError(f"expected {attribute.expected}")
        return value

    @field_validator("data_base64")
    @classmethod
    def _check_base64(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                base64.b64decode(value, validate=True)
            except ValueError:
                raise ValueError("expected base64") from None
        return value

    @model_validator(mode="after")
    def _check_members(self) -> Self:
        for name in self.__pydantic_extra__:
            if not NAME.fullmatch(name):
                raise ValueError(f"attribute names are a-z and 0-9 only, not {show(name)}")
        # "data": null is data (J11), a null data_base64 is nothing.
        if "data" in self.model_fields_set and self.data_base64 is not None:
            raise ValueError("data and data_base64 exclude each other")
        return self


def explain(event: bytes) -> Refusal | None:
    """See ``Schema``."""
    if refusal := explain_by(CloudEvent, event, _parts):
        return refusal
    name = _find_duplicate(event)
    return None if name is None else invalid("expected once, found more often", name)


def _parts(event: bytes) -> Iterator[bytes]:
    """The event in parts that have few errors each, and without its data."""
    if hollow(event) != b"{}":
        yield hollow(event)
        return
    members = {name: hollow(bytes(value)) for name, value in _read_members(event).items()}
    own = {name: members.pop(name) for name in CloudEvent.model_fields if name in members}
    extensions = iter(members.items())
    yield write(own | dict(islice(extensions, _EXTENSIONS_AT_ONCE)))
    while some := dict(islice(extensions, _EXTENSIONS_AT_ONCE)):
        yield write(own | some)


def _find_duplicate(event: bytes) -> str | None:
    """The first member name that the event's own object has twice (C6); of valid JSON only."""
    # Numbers are not wanted, and an integer of 4301 digits would raise.
    names: list[str] = json.loads(event, object_pairs_hook=_names_of, parse_int=str, parse_float=str)
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def _names_of(pairs: list[tuple[str, Any]]) -> list[str]:
    return [name for name, _ in pairs]
