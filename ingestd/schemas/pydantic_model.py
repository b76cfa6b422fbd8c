"""A pydantic model as the definition of a valid event: a user's, ``package.module:Model``, or one of ours.

Loaded by ``load``. The model is code and is trusted as such; the events it is given are not.
"""

import importlib
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import from_json

from ingestd.core.errors import UserError
from ingestd.core.text import cut
from ingestd.schemas.event_limits import is_explained
from ingestd.schemas.grammar import find_refusal
from ingestd.schemas.schema import Refusal, from_pydantic, invalid

EXPECTED = "write it as package.module:Model, where Model is a pydantic model or another type"


class PydanticSchema:
    """See ``Schema``. Raises UserError if ``spec`` cannot be imported or is not a type for pydantic."""

    default_key: tuple[str, ...] = ()

    def __init__(self, spec: str) -> None:
        self.name = spec
        model = _import(spec)
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(model)
        except PydanticUserError as error:
            raise UserError(f"schema {spec}: {cut(error.message)}: {EXPECTED}") from None

    def documents(self) -> list[Any]:
        """Its JSON Schemas: with aliases, and with names, which may be what events have. None where it has
        none, or where a field has several aliases."""
        if "'validation_alias': [" in repr(self._adapter.core_schema):
            return []
        try:
            return [self._adapter.json_schema(by_alias=by_alias) for by_alias in (True, False)]
        except PydanticUserError:
            return []

    def keys(self, events: Sequence[bytes]) -> list[str | None]:
        # Crowded ones are left to ``explain``.
        return ["" if is_explained(event) and self.explain(event) is None else None for event in events]

    def explain(self, event: bytes) -> Refusal | None:
        # pydantic's parser takes NaN and Infinity, which are not JSON.
        if broken := find_refusal(event):
            return broken
        try:
            if not is_explained(event):
                self._check_containers(event)
            self._adapter.validate_json(event)
        except ValidationError as error:
            return from_pydantic(error)
        except Exception as error:  # noqa: BLE001, RUF100 - whatever the user's validators raise
            return invalid(f"the model could not check it: {type(error).__name__}")
        return None

    def _check_containers(self, event: bytes) -> None:
        """Raises ValidationError where an array or object of a crowded event is not what it should be.

        For each such error ``validate_json`` copies the whole of it, twice: seconds, hundreds of megabytes.
        Python's objects are not copied. Whether the scalars are right is not decided here: from JSON more is
        taken, a text for a date in a strict model, say.
        """
        try:
            self._adapter.validate_python(from_json(event), strict=False)
        except ValidationError as error:
            found = error.errors(include_url=False, include_context=False)
            if any(isinstance(one["input"], dict | list) for one in found):
                raise


def explain_by(
    model: type[BaseModel], event: bytes, parts: Callable[[bytes], Iterable[bytes]]
) -> Refusal | None:
    """What ``model`` says of an event; None: it is valid.

    ``parts``: the event, which is JSON, in pieces with what an error can be about. Of a crowded one they are
    looked at first: pydantic finds all errors that there are, and copies for each what it was found in.
    """
    if broken := find_refusal(event):  # pydantic's parser takes NaN and Infinity, which are not JSON
        return broken
    validate = model.__pydantic_validator__.validate_json
    try:
        for part in () if is_explained(event) else parts(event):
            validate(part)
        validate(event)
    except ValidationError as error:
        return from_pydantic(error)
    return None


def _import(spec: str) -> Any:
    module_name, _, names = spec.partition(":")
    if not (names and all(part.isidentifier() for part in f"{module_name}.{names}".split("."))):
        raise UserError(f"schema {cut(spec, 100)!r}: {EXPECTED}")
    # At the end, so that a file next to the user cannot stand in for one of the libraries.
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise UserError(
            f"schema {spec}: cannot be imported: {type(error).__name__}: {cut(str(error))}"
        ) from None
    for name in names.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise UserError(f"schema {spec}: {module_name} has no {name}: {EXPECTED}") from None
    return found
