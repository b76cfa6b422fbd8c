"""Whether an integration's properties are what its type takes, as the platform tells it now. For a plan.

Source: Genesys Cloud Platform SDK, ``IntegrationsApi.get_integrations_type_configschema``.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NoReturn

import jsonschema_rs

from ingestd.control.engine.resource import Context, Wanted
from ingestd.control.integration.integration import Installed, Integration, WebhookKind
from ingestd.control.integration.state import PATH
from ingestd.core.errors import Unreachable, UserError
from ingestd.core.text import cut, did_you_mean
from ingestd.transport.api_client import ApiError

MAX_ERRORS = 5
"""Reported for one integration."""
_KEPT = ("type", "required", "properties", "additionalProperties", "definitions", "$schema")


async def find_wrong_properties(context: Context, wanted: Sequence[Wanted]) -> list[str]:
    """A line for each that the schema refuses. What cannot be asked, or is not a schema, refuses nothing."""
    lines: list[str] = []
    kinds: tuple[Installed, ...] = (Integration(), WebhookKind())
    for kind in kinds:
        ours = [one for one in wanted if one.kind == kind.name]
        if not ours:
            continue
        try:
            schema = await context.api.get(f"{PATH}/types/{kind.type_id}/configschemas/properties")
            validator = _validator(schema)
        except (ApiError, UserError, Unreachable, ValueError, jsonschema_rs.ReferencingError):
            continue
        for one in ours:
            found = islice(validator.iter_errors(kind.properties(one.fields, {})), MAX_ERRORS)
            lines += [f"{kind.name} {cut(one.name, 80)}: {message}" for message in _messages(found, schema)]
    return lines


def _validator(schema: Any) -> Any:
    """Raises ValueError."""
    if not isinstance(schema, Mapping):
        raise ValueError("no schema")
    kept = {name: schema[name] for name in _KEPT if schema.get(name) not in (None, [])}
    return jsonschema_rs.validator_for(kept, retriever=_fetch_nothing)


def _fetch_nothing(uri: str) -> NoReturn:
    raise ValueError("schemas are not fetched")


def _messages(errors: Iterator[Any], schema: Mapping[str, Any]) -> Iterator[str]:
    known = sorted(schema.get("properties") or {})
    for error in errors:
        place = ".".join(map(str, error.instance_path))
        if isinstance(error.kind, jsonschema_rs.ValidationErrorKind.AdditionalProperties):
            for name in error.kind.unexpected:
                close = did_you_mean(name, known)
                hint = f"did you mean {close}?" if close else f"there are {', '.join(known) or 'none'}"
                yield cut(f"the platform has no property {name}: {hint}", 300)
        else:
            yield cut(f"the platform does not take {place or 'its properties'}: {error.message}", 300)
