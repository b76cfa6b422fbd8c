"""Kinds that are an object at a path, as the models of the platform's SDK have it: scheduled triggers,
presence sources, and what journey events need. Joined to their routes by ``sandbox/control/plane.py``.

Source: Genesys Cloud Platform SDK 269, ``ProcessAutomationApi``, ``PresenceApi``, ``JourneyApi``.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ingestd.core.clock import Clock
from ingestd.sandbox.contract import Reply
from ingestd.sandbox.control.body import read_model, read_object
from ingestd.sandbox.control.errors import InvalidField, invalid, missing
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.control.pages import by_cursor, classic
from ingestd.sandbox.control.resources import Resource, Resources
from ingestd.sandbox.control.route import ControlRoute, reply
from ingestd.sandbox.exchange import Exchange
from ingestd.schemas.genesys_models import model

SCHEMAS = "/api/v2/journey/externalevents/schemas"
DRAFT_04 = "http://json-schema.org/draft-04/schema#"
MAX_SCHEMAS, MAX_PROPERTIES = 20, 50
"""Types of external events in an organization, attributes of one: as the platform's documentation says."""

Fields = dict[str, Any]
Check = Callable[["PlainApi", Exchange, Fields, Resource | None], None]
"""Raises Refused for what the models do not say. The resource: None for a new one."""


@dataclass(frozen=True, slots=True)
class Shape:
    """``create``, ``update``: models of the bodies. ``change``: the method of an update: PUT of all, PATCH of
    some fields. ``pages``: how its list comes. ``longest``: most characters of a text field."""

    what: str
    path: str
    create: str
    update: str
    change: str = "PUT"
    pages: str = "all"
    created: int = 200
    limit: int | None = None
    longest: Mapping[str, int] | None = None
    check: Check = lambda kind, exchange, given, there: None


class PlainApi:
    def __init__(
        self, shape: Shape, clock: Clock, options: ControlOptions, others: Mapping[str, "PlainApi"]
    ) -> None:
        self.shape = shape
        self.others = others
        self._options = options
        self.all = Resources(shape.what, shape.path, clock, options, limit=shape.limit)
        self._versioned = "version" in model(shape.update).fields

    def routes(self) -> Sequence[ControlRoute]:
        one, shape = self.shape.path + "/{id}", self.shape
        return [
            ControlRoute("GET", shape.path, self._list),
            ControlRoute("POST", shape.path, self._create),
            ControlRoute("GET", one, self._get),
            ControlRoute(shape.change, one, self._update),
            ControlRoute("DELETE", one, self._delete),
        ]

    def _list(self, exchange: Exchange) -> Reply:
        """With the filters ``enabled`` and ``deactivated``, where the kind has such a field."""

        def wanted(one: Resource) -> bool:
            asked = {
                name: exchange.query[name].lower()
                for name in ("enabled", "deactivated")
                if name in exchange.query
            }
            return all(str(one.content.get(name, False)).lower() == value for name, value in asked.items())

        found = self.all.visible(wanted)
        if self.shape.pages == "cursor":
            return by_cursor(exchange, found, show=self.shown)
        if self.shape.pages == "classic":
            return classic(exchange, found, self._options, show=self.shown)
        entities = [self.shown(one) for one in found]
        return reply(200, {"entities": entities, "total": len(entities), "selfUri": exchange.path})

    def _create(self, exchange: Exchange) -> Reply:
        given = self._read(exchange, self.shape.create, None)
        return reply(self.shape.created, self.shown(self.all.add(exchange, self.stored(given))))

    def _get(self, exchange: Exchange) -> Reply:
        return reply(200, self.shown(self.all.find(exchange)))

    def _update(self, exchange: Exchange) -> Reply:
        there = self.all.find(exchange)
        given = self._read(exchange, self.shape.update, there)
        if self._versioned:
            self.all.check_version(exchange, there, given.pop("version"))
        kept = there.content if self.shape.change == "PATCH" else {}
        self.all.touch(there, kept | self.stored(given))
        return reply(200, self.shown(there))

    def _delete(self, exchange: Exchange) -> Reply:
        self.all.remove(self.all.find(exchange))
        return Reply(204, b"")

    def _read(self, exchange: Exchange, name: str, there: Resource | None) -> Fields:
        """Raises Refused for what the model refuses, and for what it does not say."""
        given = read_model(exchange, name, read_object(exchange))
        for field, most in (self.shape.longest or {}).items():
            if len(given.get(field, "")) > most:
                raise invalid(exchange, [InvalidField(field, f"at most {most} characters expected")])
        self.shape.check(self, exchange, given, there)
        return given

    def stored(self, given: Fields) -> Fields:
        return given

    def shown(self, one: Resource) -> Fields:
        shown = self.all.shown(one) | ({"version": one.version} if self._versioned else {})
        return {name: value for name, value in shown.items() if not name.startswith("date")}


class Schemas(PlainApi):
    """Every change is a new version; the old ones can be read."""

    def routes(self) -> Sequence[ControlRoute]:
        one = SCHEMAS + "/{id}/versions"
        return [
            ControlRoute("GET", SCHEMAS + "/limits", self._limits),
            *super().routes(),
            ControlRoute("GET", one, self._versions),
            ControlRoute("GET", one + "/{version}", self._version),
        ]

    def stored(self, given: Fields) -> Fields:
        schema = given.get("jsonSchema", given)
        # resources are known by a name
        return {"name": schema["title"], "enabled": given.get("enabled", True), "jsonSchema": schema}

    def shown(self, one: Resource) -> Fields:
        shown = super().shown(one)
        one.versions[one.version] = {name: value for name, value in shown.items() if name != "name"} | {
            "dateCreated": one.modified
        }
        return one.versions[one.version]

    def _limits(self, exchange: Exchange) -> Reply:
        return reply(
            200,
            {
                "maxNumberOfSchemasPerOrg": MAX_SCHEMAS,
                "maxNumberOfFieldsPerSchema": MAX_PROPERTIES,
                "selfUri": exchange.path,
            },
        )

    def _versions(self, exchange: Exchange) -> Reply:
        versions = list(self.all.find(exchange).versions.values())
        return reply(200, {"entities": versions, "total": len(versions), "selfUri": exchange.path})

    def _version(self, exchange: Exchange) -> Reply:
        versions = {str(number): one for number, one in self.all.find(exchange).versions.items()}
        asked = exchange.params["version"]
        if asked not in versions:
            raise missing(exchange, "version of this schema", asked)
        return reply(200, versions[asked])


class Configurations(PlainApi):
    def shown(self, one: Resource) -> Fields:
        schema = next(
            (s for s in self.others["journey_schemas"].all if s.id == one.content["schemaId"]), None
        )
        active = {"divisionIdActive": True, "schemaActive": bool(schema and schema.content["enabled"])}
        return super().shown(one) | active | {"dateLastModified": one.modified}


def _check_schema(kind: PlainApi, exchange: Exchange, given: Fields, there: Resource | None) -> None:
    schema, above = given.get("jsonSchema", given), "jsonSchema." if "jsonSchema" in given else ""
    titles = {one.name for one in kind.all if one is not there and one.content["enabled"]}
    before = there.content["jsonSchema"] if there else {}
    optional = before.get("properties", {}).keys() - set(before.get("required", ()))
    required = set(schema.get("required") or ())
    wrong = None
    if schema["$schema"] != DRAFT_04:
        wrong = InvalidField("$schema", f"{DRAFT_04} expected: no other is supported")
    elif not schema["title"] or (schema["title"] in titles and given.get("enabled", True)):
        wrong = InvalidField("title", "it must be unique across all enabled schemas")
    elif len(schema["properties"]) > MAX_PROPERTIES:
        wrong = InvalidField("properties", f"at most {MAX_PROPERTIES} expected")
    elif not required <= schema["properties"].keys():
        wrong = InvalidField("required", "there is no such property")
    elif changed := sorted(optional & required):
        wrong = InvalidField("required", f"{changed[0]} is optional, and cannot be changed to required")
    if wrong:
        raise invalid(exchange, [wrong._replace(field=above + wrong.field)])


def _check_configuration(kind: PlainApi, exchange: Exchange, given: Fields, there: Resource | None) -> None:
    if there is None:
        known = {one.id for one in kind.others["journey_schemas"].all if one.content["enabled"]}
        if given["schemaId"] not in known:
            raise invalid(exchange, [InvalidField("schemaId", "there is no such enabled schema")])


_TEXTS = {"name": 162, "description": 512}
SHAPES: Mapping[str, tuple[type[PlainApi], Shape]] = {
    "scheduled_triggers": (
        PlainApi,
        Shape(
            "scheduled trigger",
            "/api/v2/processautomation/scheduledtriggers",
            create="CreateScheduledTriggerRequest",
            update="UpdateScheduledTriggerRequest",
            pages="cursor",
            created=201,
            longest=_TEXTS,
        ),
    ),
    "presence_sources": (
        PlainApi,
        Shape("presence source", "/api/v2/presence/sources", create="Source", update="Source"),
    ),
    "journey_schemas": (
        Schemas,
        Shape(
            "schema",
            SCHEMAS,
            create="JourneyJsonSchemaRequest",
            update="JourneySchemaUpdateRequest",
            limit=MAX_SCHEMAS,
            check=_check_schema,
        ),
    ),
    "journey_configurations": (
        Configurations,
        Shape(
            "configuration",
            "/api/v2/journey/externalevents/configurations",
            create="CreateExternalEventsConfigurationRequest",
            update="UpdateExternalEventsConfigurationRequest",
            change="PATCH",
            pages="classic",
            check=_check_configuration,
        ),
    ),
}


def plain_kinds(clock: Clock, options: ControlOptions) -> Mapping[str, PlainApi]:
    made: dict[str, PlainApi] = {}
    for name, (kind, shape) in SHAPES.items():
        made[name] = kind(shape, clock, options, made)
    return made
