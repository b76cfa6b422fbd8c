"""Bodies of the control plane: JSON objects, checked field by field. Used by every kind of resource."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, ClassVar, TypeVar

import msgspec
from pydantic import BaseModel, ConfigDict, ValidationError, model_validator
from pydantic.alias_generators import to_camel

from ingestd.sandbox.control.errors import InvalidField, invalid
from ingestd.sandbox.exchange import Exchange
from ingestd.schemas.genesys_models import model


class Body(BaseModel):
    """What a client may send. What the server fills in (``read_only``) may come back and is not looked at;
    any other unknown field is refused by its name."""

    model_config = ConfigDict(strict=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    read_only: ClassVar[frozenset[str]] = frozenset(
        {"id", "selfUri", "status", "dateCreated", "dateModified", "createdBy", "modifiedBy"}
    )

    @model_validator(mode="before")
    @classmethod
    def _leave_out_what_the_server_fills_in(cls, given: Any) -> Any:
        if isinstance(given, dict):
            return {name: value for name, value in given.items() if name not in cls.read_only}
        return given

    def content(self) -> dict[str, Any]:
        """As it is stored and answered."""
        return self.model_dump(by_alias=True, exclude_none=True)


B = TypeVar("B", bound=Body)


def read_object(exchange: Exchange) -> dict[str, Any]:
    """Raises Refused (400) for what is not a JSON object."""
    try:
        return msgspec.json.decode(exchange.body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
        message = f"a JSON object expected: {str(reason)[:200]}"
        raise invalid(exchange, [InvalidField("", message, "invalid.json")]) from None


def read_body(exchange: Exchange, model: type[B]) -> B:
    """Raises Refused (400) that names every field that is wrong, and repeats no value."""
    return check(exchange, model, read_object(exchange))


def check(exchange: Exchange, model: type[B], given: dict[str, Any]) -> B:
    """As ``read_body``, of an object that was read already."""
    try:
        return model.model_validate(given)
    except ValidationError as error:
        found = error.errors(include_input=False, include_url=False, include_context=False)
        wrong = [
            InvalidField(_place(each["loc"]), each["msg"], each["type"].replace("_", ".")) for each in found
        ]
        raise invalid(exchange, wrong) from None


def _place(loc: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in loc).encode("utf-8", "replace").decode()


def read_model(
    exchange: Exchange, name: str, given: dict[str, Any], *, lenient: Mapping[str, Any] = MappingProxyType({})
) -> dict[str, Any]:
    """What the SDK's model of that name takes of ``given``, without nulls and what the server fills in.
    ``lenient``: stands for what is not there. Raises Refused for what the model does not know, or refuses."""
    known = model(name).fields
    sent = {
        field: value for field, value in given.items() if field not in Body.read_only and value is not None
    }
    wrong = [
        InvalidField(field, "there is no such field", "extra.forbidden")
        for field in sent.keys() - known.keys()
    ]
    if fault := model(name).find_fault_of({**lenient, **sent}):
        field, _, message = fault.rpartition(": ")
        wrong.append(InvalidField(field, message))
    if wrong:
        raise invalid(exchange, wrong)
    return sent
