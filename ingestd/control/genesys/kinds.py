"""Scheduled triggers, presence sources, and what journey events need: schemas and configurations.

Each is data for ``plain_kind.py``. Source: Genesys Cloud Platform SDK 269, ``ProcessAutomationApi``,
``PresenceApi`` and ``JourneyApi``; what a field may be is what its models say.
"""

import logging
import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

import jsonschema_rs
from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from ingestd.control.engine.model_table import ModelTable, Text, inner
from ingestd.control.engine.plain_kind import FieldPlace, PlainKind
from ingestd.control.engine.resource import Context, RemoteResource, ResourceFields, Wanted
from ingestd.control.trigger.table import DataFormat, from_json
from ingestd.control.trigger.trigger import PAGE_SIZE, WORKFLOW_PLACES
from ingestd.core.text import cut

DRAFT_04 = "http://json-schema.org/draft-04/schema#"
""""The only value currently supported"."""

logger = logging.getLogger(__name__)

Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,64}$")]
When = Annotated[Text, StringConstraints(min_length=1, max_length=100)]

_SCHEDULE = {  # what the model says of each
    "minutes": (r"[0-5]?\d(,[0-5]?\d)?", "up to two of 0-59, as 0,30"),
    "hours": (r"\*|([01]?\d|2[0-3])(,([01]?\d|2[0-3]))*", "0-23, or * for every hour"),
    "days_of_month": (r"[*?]|([1-9]|[12]\d|3[01])(,([1-9]|[12]\d|3[01]))*", "1-31, * for every, ? for any"),
    "months": (r"\*|([1-9]|1[0-2])(,([1-9]|1[0-2]))*", "1-12, or * for every"),
    "days_of_week": (r"[*?]|[1-7](,[1-7])*", "1-7, * for every, ? for any"),
}


class _ScheduledTable(ModelTable):
    name: Annotated[Text, StringConstraints(min_length=1, max_length=162)] | None = None
    workflow_id: Id
    data_format: DataFormat = "TopLevelPrimitives"
    minutes: When = "0"
    hours: When = "*"
    days_of_month: When = "*"
    months: When = "*"
    days_of_week: When = "?"
    timezone: When = "UTC"
    description: Annotated[str, StringConstraints(max_length=512)] = ""
    enabled: bool = True

    def warn(self, name: str) -> None:
        for field, (pattern, words) in _SCHEDULE.items():
            if not re.fullmatch(pattern, getattr(self, field)):
                logger.warning("scheduled_trigger %s: %s: the platform takes %s", cut(name, 80), field, words)


class ScheduledTrigger(PlainKind):
    """``[scheduled_trigger.NAME]``: ``workflow_id``, ``data_format``, ``minutes`` (0), ``hours`` (*),
    ``days_of_month`` (*), ``months`` (*), ``days_of_week`` (?), ``timezone`` (UTC), ``description``,
    ``enabled`` (true)."""

    name = "scheduled_trigger"
    path = "/api/v2/processautomation/scheduledtriggers"
    table = _ScheduledTable
    places: ClassVar = {
        **WORKFLOW_PLACES,
        "minutes": FieldPlace("schedule.minutes", "0"),
        "hours": FieldPlace("schedule.hours", "*"),
        "days_of_month": FieldPlace("schedule.daysOfMonth", "*"),
        "months": FieldPlace("schedule.months", "*"),
        "days_of_week": FieldPlace("schedule.daysOfWeek", "?"),
        "timezone": FieldPlace("schedule.timezone", "UTC"),
    }
    fixed: ClassVar = {"target.type": "Workflow"}
    params: ClassVar = {"pageSize": PAGE_SIZE}


class _SourceTable(ModelTable):
    description: str = ""


class PresenceSource(PlainKind):
    """``[presence_source.NAME]``: ``description``. Its id is the ``sourceId`` of presence events."""

    name = "presence_source"
    path = "/api/v2/presence/sources"
    table = _SourceTable
    places: ClassVar = {"description": FieldPlace("description")}

    def exists(self, entity: Any) -> bool:
        """The list still has those that were deactivated."""
        return inner(entity, "deactivated") is not True


def _sorted_set(names: list[str]) -> list[str]:
    return sorted(set(names))


class _SchemaTable(ModelTable):
    description: str = ""
    required: Annotated[list[str], AfterValidator(_sorted_set)] = Field(default=[])
    properties: Annotated[dict[str, Any], BeforeValidator(from_json)]
    enabled: bool = True

    @model_validator(mode="after")
    def _check(self) -> "_SchemaTable":
        if missing := set(self.required) - self.properties.keys():
            raise ValueError(f"required: there is no property {min(missing)}")
        try:
            jsonschema_rs.meta.validate({"$schema": DRAFT_04, "properties": self.properties})
        except (ValueError, RecursionError) as error:
            place = ".".join(str(part) for part in getattr(error, "instance_path", ())) or "properties"
            raise ValueError(
                f"{place}: no JSON Schema of draft 4: {getattr(error, 'message', error)}"
            ) from None
        return self


class JourneySchema(PlainKind):
    """``[journey_schema.NAME]``: ``properties`` (a JSON Schema of draft 4 for each attribute), ``required``,
    ``description``, ``enabled`` (true). Its name is the schema's title. An update makes a new version."""

    name = "journey_schema"
    path = "/api/v2/journey/externalevents/schemas"
    table = _SchemaTable
    places: ClassVar = {
        "description": FieldPlace("jsonSchema.description"),
        "required": FieldPlace("jsonSchema.required", []),
        "properties": FieldPlace("jsonSchema.properties", {}),
        "enabled": FieldPlace("enabled", default=True),
    }
    fixed: ClassVar = {"jsonSchema.$schema": DRAFT_04}
    named = FieldPlace("jsonSchema.title")

    def canonical(self, fields: dict[str, Any]) -> ResourceFields:
        return fields | {"required": _sorted_set([one for one in fields["required"] if isinstance(one, str)])}

    def made_of(self, wanted: Wanted) -> dict[str, Any]:
        made: dict[str, Any] = self.body(wanted)["jsonSchema"]
        return made

    def fresh(self, wanted: Wanted) -> ResourceFields:
        return {**wanted.fields, "enabled": True}

    async def write(self, context: Context, its_id: str, now: Mapping[str, Any], wanted: Wanted) -> Any:
        body = self.body(wanted) | {"version": now.get("version")}
        return await context.api.put(f"{self.path}/{its_id}", body)

    def refusal(self, found: RemoteResource, wanted: Wanted) -> str:
        """By the model: "Optional fields can't be changed to required after the schema is saved"."""
        optional = found.fields["properties"].keys() - set(found.fields["required"])
        if changed := sorted(optional & set(wanted.fields["required"])):
            return (
                f"{changed[0]} is optional there, and cannot become required: make a schema of another name"
            )
        return ""

    async def settle(self, context: Context, found: RemoteResource, wanted: Wanted) -> RemoteResource:
        """A new one is enabled."""
        if found.fields["enabled"] == wanted.fields["enabled"]:
            return found
        return await self.update(context, found, wanted, {})


class _ConfigurationTable(ModelTable):
    source: Annotated[Text, StringConstraints(min_length=1, max_length=256)]
    schema_id: Id
    division_id: Id
    description: str = ""


class JourneyConfiguration(PlainKind):
    """``[journey_configuration.NAME]``: ``source``, ``schema_id``, ``division_id``, ``description``. Its id
    is the ``configuration_id`` of the sink ``journey_events``. All but name and description stay as they
    were made."""

    name = "journey_configuration"
    path = "/api/v2/journey/externalevents/configurations"
    table = _ConfigurationTable
    places: ClassVar = {
        "source": FieldPlace("source"),
        "schema_id": FieldPlace("schemaId"),
        "division_id": FieldPlace("divisionId"),
        "description": FieldPlace("description"),
    }
    immutable = frozenset({"source", "schema_id", "division_id"})

    async def write(self, context: Context, its_id: str, now: Mapping[str, Any], wanted: Wanted) -> Any:
        body = {"name": wanted.key, "description": wanted.fields["description"]}
        return await context.api.patch(f"{self.path}/{its_id}", body)
