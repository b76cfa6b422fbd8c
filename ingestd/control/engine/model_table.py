"""What the tables of kinds that are pydantic models share, and the words for what is wrong there.

Called by their kinds, also for answers of the API.
"""

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from ingestd.control.engine.resource import ResourceAddress
from ingestd.core.errors import UserError
from ingestd.core.text import cut, did_you_mean
from ingestd.schemas.schema import show

MAX_AFTER = 100
_MAX_NAME = 80

Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
"""On one line: it stands in terminals and in logs."""


def _address(text: str) -> str:
    kind, dot, name = text.partition(".")
    if not (kind and dot and name):
        raise ValueError('expected "kind.NAME", as in "integration.main"')
    return text


class ModelTable(BaseModel):
    """``name``: the remote one; without it the table's. ``after``: what has to exist before."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Annotated[Text, StringConstraints(min_length=1, max_length=256)] | None = None
    after: Annotated[list[Annotated[str, AfterValidator(_address)]], Field(max_length=MAX_AFTER)] = []
    protected: bool = False

    @property
    def addresses(self) -> frozenset[ResourceAddress]:
        parts = (text.partition(".") for text in self.after)
        return frozenset((kind, name) for kind, _, name in parts)

    def warn(self, name: str) -> None:
        """Say what is perhaps a mistake; the platform knows."""


T = TypeVar("T", bound=ModelTable)


def read_table(model: type[T], kind: str, name: str, table: Mapping[str, Any]) -> T:
    """Raises UserError: kind, name, field, what was expected; the first of what is wrong."""
    try:
        return model.model_validate({"name": name} | dict(table))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)[0]
    field = ".".join(map(str, details["loc"]))
    where = f"{kind} {cut(name, _MAX_NAME)}" + (f": {cut(field, _MAX_NAME)}" if field else "")
    if details["type"] == "extra_forbidden":
        close = did_you_mean(str(details["loc"][-1]), _fields_of(model))
        hint = f": did you mean {close}?" if close else ""
        raise UserError(f"{where}: there is no such field{hint}")
    if details["type"] == "missing":
        raise UserError(f"{where}: required, but missing")
    message = details["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ", 1)
    # A rule about several fields has the whole table as its input: that says nothing.
    whole = details["type"] == "value_error" and isinstance(details["input"], Mapping)
    raise UserError(f"{where}: {cut(message)}" + ("" if whole else f", found {show(details['input'])}"))


def _fields_of(model: type[ModelTable]) -> Iterable[str]:
    return list(model.model_fields)


def text(body: Any, *path: str) -> str:
    """The string at this place of an answer; empty where there is none. Answers may be anything."""
    value = inner(body, *path)
    return value if isinstance(value, str) else ""


def inner(body: Any, *path: str) -> Any:
    """What stands at this place of an answer; None where nothing does."""
    for name in path:
        body = body.get(name) if isinstance(body, Mapping) else None
    return body
