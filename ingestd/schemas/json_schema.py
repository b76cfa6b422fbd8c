"""A JSON Schema file as the definition of a valid event (drafts 4, 6, 7, 2019-09, 2020-12).

Loaded by ``load``. A ``$ref`` out of the file is refused: nothing is fetched, from the network or
from disk. Patterns run on a linear-time engine, so look-around and back-references are refused.
Of a member that stands in an event twice, the last one counts. ``format`` is asserted in every draft,
although from 2019-09 on the specification leaves that to the user: nobody who writes
``"format": "date-time"`` expects nonsense to pass.
"""

import json
import math
import sys
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import jsonschema_rs
import msgspec

from ingestd.core.errors import UserError
from ingestd.core.reasons import Reason
from ingestd.core.text import cut
from ingestd.schemas.event_limits import is_explained, unexplained
from ingestd.schemas.grammar import find_refusal, has_short_numbers
from ingestd.schemas.schema import (
    MAX_ERRORS,
    MAX_MESSAGE,
    FieldError,
    Refusal,
    field_error,
    invalid,
    show,
    unparsable,
)

MAX_FILE_BYTES = 4 * 1024 * 1024
_MASK = "the value"
_NEWER_FORMATS = (
    *("duration", "uuid", "uri-reference", "uri-template", "iri", "iri-reference", "idn-hostname"),
    *("json-pointer", "relative-json-pointer"),
)
"""Unknown to one or other of the drafts before 2019-09."""
_decode = msgspec.json.Decoder().decode


class JsonSchema:
    """See ``Schema``. Raises UserError if the file cannot be read or is not a usable schema.

    Without ``format_assertion`` the draft decides: asserted up to draft 7, an annotation since.
    """

    default_key: tuple[str, ...] = ()

    def __init__(self, path: Path, *, format_assertion: bool = True) -> None:
        self.name = str(path)
        self._validator = _compile(path, format_assertion=format_assertion)

    def keys(self, events: Sequence[bytes]) -> list[str | None]:
        is_valid = self._validator.is_valid
        keys: list[str | None] = []
        for event in events:
            try:
                keys.append("" if is_valid(_decode(event)) and has_short_numbers(event) else None)
            except (ValueError, RecursionError):
                keys.append(None)
        return keys

    def explain(self, event: bytes) -> Refusal | None:
        if broken := find_refusal(event):
            return broken
        try:
            value = _value_of(event)
        except (ValueError, RecursionError) as error:
            return unparsable(f"not JSON: {error}")
        if not is_explained(event):
            return None if self._validator.is_valid(value) else unexplained("the schema")
        try:
            errors = list(islice(self._validator.iter_errors(value), MAX_ERRORS))
        except ValueError as error:  # an invalid event that is nested deeper than the library explains
            return invalid(f"could not be checked: {error}")
        if not errors:
            return None
        return Refusal(Reason.INVALID, [_field_error(error) for error in errors])


def _value_of(event: bytes) -> Any:
    """Of what is JSON. A number beyond a double is the largest there is: over every bound, and a number."""
    try:
        return _decode(event)
    except ValueError:
        return json.loads(event.decode(), parse_float=_as_double)


def _as_double(text: str) -> float:
    number = float(text)
    return number if math.isfinite(number) else math.copysign(sys.float_info.max, number)


def _field_error(error: jsonschema_rs.ValidationError) -> FieldError:
    path = [str(part) for part in error.instance_path]
    if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required):
        return field_error(".".join([*path, error.kind.property]), "required, but missing")
    found = f", found {show(error.instance)}"
    return field_error(".".join(path), cut(error.message, MAX_MESSAGE - len(found)) + found)


def _refuse(uri: str) -> NoReturn:
    raise ValueError("schemas are not fetched: copy it into $defs")


def read_document(path: Path) -> Any:
    """The text of a schema. Raises UserError."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise UserError(f"{path}: a JSON Schema of more than {MAX_FILE_BYTES} bytes is not read")
        schema = _decode(path.read_bytes())
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON: {cut(str(error))}") from None
    if not isinstance(schema, dict | bool):
        raise UserError(f"{path}: not a JSON Schema: expected an object, found {show(schema)}")
    return schema


def _compile(path: Path, *, format_assertion: bool) -> Any:
    schema = read_document(path)
    try:
        return jsonschema_rs.validator_for(
            schema,
            formats=_formats(schema) if format_assertion else None,
            validate_formats=True if format_assertion else None,
            retriever=_refuse,
            pattern_options=jsonschema_rs.RegexOptions(),
            mask=_MASK,
        )
    except (ValueError, jsonschema_rs.ReferencingError) as error:
        raise UserError(f"{path}: not a usable JSON Schema: {_reason(error)}") from None


def _formats(schema: Any) -> dict[str, Callable[[str], bool]]:
    """Those that the schema's draft does not know, as the newest has them."""
    draft = schema.get("$schema") if isinstance(schema, dict) else None
    if not (isinstance(draft, str) and "json-schema.org/draft-0" in draft):
        return {}
    return {
        name: jsonschema_rs.validator_for({"format": name}, validate_formats=True).is_valid
        for name in _NEWER_FORMATS
    }


def _reason(error: Exception) -> str:
    """The library's message in one line, with the place in the schema where it gives one."""
    if not isinstance(error, jsonschema_rs.ValidationError):
        return cut(str(error))
    place = "/".join(map(str, error.instance_path))
    found = "" if isinstance(error.instance, dict | list) else f", found {show(error.instance)}"
    hint = " (of the linear-time kind)" if place.endswith("pattern") or "patternProperties" in place else ""
    return f"{place + ': ' if place else ''}{cut(error.message)}{hint}{found}"
