"""A pydantic model of the user's, ``package.module:Model``, as the definition of a valid event.

Loaded by ``load``. The model is code and is trusted as such; the events it is given are not.
"""

import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError
from pydantic_core import SchemaValidator, core_schema

from ingestd.core.errors import UserError
from ingestd.schemas.grammar import find_refusal
from ingestd.schemas.refusals import cut, from_pydantic, invalid, is_explained, unexplained
from ingestd.schemas.schema import Refusal

EXPECTED = "write it as package.module:Model, where Model is a pydantic model or another type"


class PydanticSchema:
    """See ``Schema``. Raises UserError if ``spec`` cannot be imported or is no type for pydantic."""

    default_key: tuple[str, ...] = ()

    def __init__(self, spec: str) -> None:
        self.name = spec
        model = _import(spec)
        try:
            self._adapter: TypeAdapter[Any] = TypeAdapter(model)
        except PydanticUserError as error:
            raise UserError(f"schema {spec}: {cut(error.message)}: {EXPECTED}") from None
        # One error for all that there are: pydantic would copy what each was found in, the whole event maybe.
        self._verdict = SchemaValidator(
            core_schema.custom_error_schema(self._adapter.core_schema, "unfit", custom_error_message="unfit")
        )

    def keys(self, events: Sequence[bytes]) -> list[str | None]:
        return ["" if self._fits(event) else None for event in events]

    def _fits(self, event: bytes) -> bool:
        # pydantic's parser takes NaN and Infinity, which are not JSON.
        if find_refusal(event):
            return False
        try:
            self._verdict.validate_json(event)
        except Exception:
            return False
        return True

    def explain(self, event: bytes) -> Refusal | None:
        if broken := find_refusal(event):
            return broken
        if not is_explained(event):
            return None if self._fits(event) else unexplained("the model")
        try:
            self._adapter.validate_json(event)
        except ValidationError as error:
            return from_pydantic(error)
        except Exception as error:  # noqa: BLE001, RUF100 - whatever the user's validators raise
            return invalid(f"the model could not check it: {type(error).__name__}")
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
