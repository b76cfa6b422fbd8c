"""From a library's errors to a ``Refusal`` that a person can act on. Called by every schema.

Payloads may hold personal data, so a value is shown only short and escaped.
"""

from itertools import islice

from pydantic import ValidationError

from ingestd.core.reasons import Reason
from ingestd.core.text import cut
from ingestd.schemas.nesting import count_values
from ingestd.schemas.schema import MAX_ERRORS, MAX_MESSAGE, FieldError, Refusal

MAX_SHOWN = 40
EXPLAINED_VALUES = 2_000
"""An event with more is not explained by a JSON Schema, and with care by a model of the user's: their
libraries find all errors there are, each with a copy of what it was found in, before one can be read."""
_MAX_FIELD = 100


def show(value: object) -> str:
    """A value for a message, at most ``MAX_SHOWN`` characters; containers only by their type."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        # The quotes take two characters.
        return f"'{cut(value, MAX_SHOWN - 2)}'"
    if isinstance(value, int) and value.bit_length() > 100:
        return "a very large integer"
    if isinstance(value, int | float):
        return repr(value)
    return "an array" if isinstance(value, list | tuple) else "an object"


def is_explained(event: bytes) -> bool:
    """Whether the errors of this event, which is JSON, are told one by one."""
    return len(event) <= EXPLAINED_VALUES or count_values(event) <= EXPLAINED_VALUES


def unexplained(what: str) -> Refusal:
    """``what`` it does not fit."""
    return invalid(
        f"it does not fit {what}; where is not told of an event with over {EXPLAINED_VALUES} values"
    )


def unparsable(message: str) -> Refusal:
    return Refusal(Reason.UNPARSABLE, [FieldError("", cut(message))])


def invalid(message: str, field: str = "") -> Refusal:
    return Refusal(Reason.INVALID, [field_error(field, message)])


def field_error(field: str, message: str) -> FieldError:
    return FieldError(cut(field, _MAX_FIELD), cut(message))


def from_pydantic(error: ValidationError) -> Refusal:
    """The refusal for what ``validate_json`` raised."""
    errors: list[FieldError] = []
    for details in islice(error.errors(include_url=False, include_context=False), MAX_ERRORS):
        if details["type"] == "json_invalid":
            return unparsable(details["msg"].replace("Invalid JSON: ", "not JSON: ", 1))
        field = ".".join(map(str, details["loc"]))
        if details["type"] == "missing":
            errors.append(field_error(field, "required, but missing"))
            continue
        message = details["msg"].removeprefix("Value error, ").replace("Input should be ", "expected ", 1)
        # A rule about several members has the whole event as its input: that says nothing.
        whole = details["type"] == "value_error" and not details["loc"]
        found = "" if whole else f", found {show(details['input'])}"
        errors.append(field_error(field, cut(message, MAX_MESSAGE - len(found)) + found))
    return Refusal(Reason.INVALID, errors)
