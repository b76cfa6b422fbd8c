"""From the ``schema`` setting to a schema. Called by the pipeline's wiring and by ``ingestd check``."""

import os.path
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ingestd.core.errors import UserError
from ingestd.core.text import cut, did_you_mean
from ingestd.schemas.schema import Schema

if TYPE_CHECKING:
    from ingestd.schemas.event_limits import EventLimits

NAMES = ("interaction", "cloudevent")


def load(spec: str, limits: "EventLimits | None" = None, *, format_assertion: bool = True) -> Schema:
    """``interaction``, ``cloudevent``, the path of a JSON Schema file, or ``package.module:Model``.

    What it gives refuses events over ``limits`` (else those of every event) by itself. ``format_assertion``:
    see ``JsonSchema``. Raises UserError with what to write. Imports only what the choice needs.
    """
    from ingestd.schemas.event_limits import EventLimits, LimitedSchema

    return LimitedSchema(_load(spec, format_assertion=format_assertion), limits or EventLimits())


def documents_of(spec: str) -> list[Any]:
    """JSON Schemas that say what the events may have; none where there is none, or ``load`` will complain."""
    try:
        if _is_file(spec):
            from ingestd.schemas.json_schema import read_document

            return [read_document(Path(spec))]
        if ":" in spec:
            from ingestd.schemas.pydantic_model import PydanticSchema

            return PydanticSchema(spec).documents()
    except UserError:
        pass
    return []


def _is_file(spec: str) -> bool:
    return "\0" not in spec and (os.path.isfile(spec) or spec.endswith(".json"))


def _load(spec: str, *, format_assertion: bool) -> Schema:
    if spec == "interaction":
        from ingestd.schemas.interaction import InteractionSchema

        return InteractionSchema()
    if spec == "cloudevent":
        from ingestd.schemas.cloudevent import CloudEventSchema

        return CloudEventSchema()
    if _is_file(spec):
        from ingestd.schemas.json_schema import JsonSchema

        return JsonSchema(Path(spec), format_assertion=format_assertion)
    if ":" in spec:
        from ingestd.schemas.pydantic_model import PydanticSchema

        return PydanticSchema(spec)
    close = did_you_mean(spec, NAMES)
    hint = f"did you mean {close}?" if close else "no such file"
    raise UserError(
        f"schema {cut(spec, 100)!r}: {hint} Expected interaction, cloudevent, "
        "the path of a JSON Schema file, or package.module:Model"
    )
