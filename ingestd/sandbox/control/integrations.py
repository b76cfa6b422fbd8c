"""``/api/v2/integrations``: the platform's real way to EventBridge, and its webhooks.

Joined to its routes by ``sandbox/control/plane.py``. Bodies are what the models of the platform's SDK 269,
``IntegrationsApi``, take; the rest is by its help page "Configure the Amazon EventBridge integration".
"""

import functools
import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import jsonschema_rs

from ingestd.core.clock import Clock
from ingestd.sandbox.contract import Reply
from ingestd.sandbox.control.body import read_model, read_object
from ingestd.sandbox.control.errors import InvalidField, invalid, missing
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.control.pages import classic
from ingestd.sandbox.control.resources import Resource, Resources
from ingestd.sandbox.control.route import ControlRoute, reply
from ingestd.sandbox.exchange import Exchange

PATH = "/api/v2/integrations"
TYPE, WEBHOOK = "amazon-eventbridge-source", "webhook"
EMPTY_NOTES = "node_dynamodb_empty_string"
"""What the platform answers for notes that were never set (its Terraform provider filters it)."""

ORGANIZATION = "00000000-0000-4000-8000-000000000000"
MAX_NAME, MAX_NOTES = 200, 2_000
_LENIENT: Mapping[str, Any] = {
    "name": "n",
    "intendedState": "ENABLED",
    "integrationType": {},
    "properties": {},
    "advanced": {},
    "notes": "",
    "credentials": {},
}
"""The models say that they are required; real clients leave them out, and are taken."""


class _Type(NamedTuple):
    """``properties``: their JSON Schema, as the platform tells it."""

    name: str
    properties: Mapping[str, Any]


def _text(pattern: str, title: str) -> dict[str, str]:
    return {"type": "string", "pattern": pattern, "title": title}


TYPES = {
    TYPE: _Type(
        "Amazon EventBridge Source",
        {
            "awsAccountId": _text("^[0-9]{12}$", "AWS account"),
            "awsAccountRegion": _text("^[a-z]{2,8}(-[a-z]+){1,3}-[0-9]{1,2}$", "AWS region"),
            "eventSourceSuffix": _text("^[A-Za-z0-9._-]{1,64}$", "Suffix"),
            "eventFilter": {
                "type": "array",
                "minItems": 1,
                "maxItems": 1_000,
                "items": _text("^v2[.][!-~]{1,250}$", "Topic"),
            },
        },
    ),
    WEBHOOK: _Type("Webhook", {"invocationRatePerMinute": {"type": "integer", "minimum": 1}}),
}


def _schema_of(type_id: str, which: str) -> dict[str, Any]:
    properties = TYPES[type_id].properties if which == "properties" else {}
    return {
        "$schema": "http://json-schema.org/draft-04/schema#",
        "title": f"{TYPES[type_id].name}: {which}",
        "type": "object",
        "properties": properties,
        "required": sorted(properties) if type_id == TYPE else [],
        "additionalProperties": False,
    }


@functools.cache
def _validator(type_id: str) -> Any:
    schema = _schema_of(type_id, "properties")
    if not schema["required"]:
        del schema["required"]  # of draft 4: at least one
    return jsonschema_rs.validator_for(schema)


class Integrations:
    """``status`` of a resource is its intended state; what it reports follows some reads later."""

    def __init__(self, clock: Clock, options: ControlOptions) -> None:
        self._options = options
        self.all = Resources("integration", PATH, clock, options, limit=options.max_integrations)

    def routes(self) -> Sequence[ControlRoute]:
        one = PATH + "/{id}"
        return [
            ControlRoute("GET", PATH + "/types", self._list_types),
            ControlRoute("GET", PATH + "/types/{id}", self._describe_type),
            ControlRoute("GET", PATH + "/types/{id}/configschemas/{which}", self._describe_schema),
            ControlRoute("GET", PATH, self._list),
            ControlRoute("POST", PATH, self._create),
            ControlRoute("GET", one, self._get),
            ControlRoute("PATCH", one, self._change),
            ControlRoute("DELETE", one, self._delete),
            ControlRoute("GET", one + "/config/current", self._get_configuration),
            ControlRoute("PUT", one + "/config/current", self._configure),
        ]

    def _list_types(self, exchange: Exchange) -> Reply:
        return classic(exchange, list(TYPES), self._options, show=self._type)

    def _describe_type(self, exchange: Exchange) -> Reply:
        return reply(200, self._type(self._known(exchange)))

    def _describe_schema(self, exchange: Exchange) -> Reply:
        if (which := exchange.params["which"]) not in ("properties", "advanced"):
            raise missing(exchange, "configuration schema", which)
        return reply(200, _schema_of(self._known(exchange), which))

    def _known(self, exchange: Exchange) -> str:
        if (type_id := exchange.params["id"]) not in TYPES:
            raise missing(exchange, "integration type", type_id)
        return type_id

    def _type(self, type_id: str) -> dict[str, Any]:
        uri = f"{PATH}/types/{type_id}"
        most = {"maxInstances": self._options.max_integrations}
        schemas = {
            f"config{which.title()}SchemaUri": f"{uri}/configschemas/{which}"
            for which in ("properties", "advanced")
        }
        return {"id": type_id, "name": TYPES[type_id].name, **most, **schemas, "selfUri": uri}

    def is_webhook(self, token: str) -> bool:
        """Whether an enabled webhook has this token."""
        return any(one.secrets.get("token") == token and one.status == "ENABLED" for one in self.all)

    def _list(self, exchange: Exchange) -> Reply:
        """With the filters ``integrationType``, ``ids`` and ``reportedState``."""
        query = exchange.query
        ids = frozenset(query["ids"].split(",")) if "ids" in query else None
        if ids is not None and len(ids) > 100:
            raise invalid(exchange, [InvalidField("ids", "at most 100 expected")])
        found = self.all.visible(lambda one: ids is None or one.id in ids)
        if kind := query.get("integrationType"):
            found = [one for one in found if one.content["type"] == kind]
        shown = [self._shown(exchange, integration) for integration in found]
        if state := query.get("reportedState"):
            shown = [one for one in shown if one["reportedState"]["code"] == state]
        return classic(exchange, shown, self._options, show=lambda one: one)

    def _create(self, exchange: Exchange) -> Reply:
        sent = _read(exchange, "CreateIntegrationRequest")
        kind = (sent.get("integrationType") or {}).get("id")
        if kind not in TYPES:
            raise invalid(
                exchange, [InvalidField("integrationType.id", f"one of {', '.join(TYPES)} expected")]
            )
        content = {"name": sent.get("name") or TYPES[kind].name, "type": kind}
        integration = self.all.add(exchange, content, status="DISABLED")
        if kind == WEBHOOK:
            integration.secrets["token"] = uuid.uuid4().hex
        return reply(200, self._shown(exchange, integration))

    def _get(self, exchange: Exchange) -> Reply:
        integration = self.all.find(exchange)
        integration.polls += 1
        integration.counts["reads"] += 1
        return reply(200, self._shown(exchange, integration))

    def _change(self, exchange: Exchange) -> Reply:
        integration = self.all.find(exchange)
        sent = _read(exchange, "Integration")
        wanted = sent.get("intendedState")
        if (
            wanted == "ENABLED"
            and integration.content["type"] == TYPE
            and "properties" not in integration.content
        ):
            raise invalid(
                exchange, [InvalidField("intendedState", "it is not configured yet", "not.configured")]
            )
        given = {name: sent[name] for name in ("name", "notes") if name in sent}
        self.all.touch(integration, integration.content | given)
        state = "DISABLED" if wanted == "RESTORED" else wanted
        if state not in (None, integration.status):
            self.all.restart(integration, str(state))
            integration.counts["enabled"] += state == "ENABLED"
        return reply(200, self._shown(exchange, integration))

    def _delete(self, exchange: Exchange) -> Reply:
        """Also one that is enabled: the Terraform provider deletes without disabling."""
        integration = self.all.find(exchange)
        self.all.remove(integration)
        return reply(200, self._shown(exchange, integration) | {"intendedState": "DELETED"})

    def _get_configuration(self, exchange: Exchange) -> Reply:
        return reply(200, self._configuration(self.all.find(exchange)))

    def _configure(self, exchange: Exchange) -> Reply:
        """The version that was read has to come back with the change; it then counts up."""
        integration = self.all.find(exchange)
        content = _read(exchange, "IntegrationConfiguration")
        version = content.pop("version")
        wrong = [
            InvalidField(_place(error), error.message)
            for error in _validator(integration.content["type"]).iter_errors(content.get("properties") or {})
        ]
        wrong += [
            InvalidField(name, "this type of integration has none")
            for name in ("advanced", "credentials")
            if content.pop(name, None)
        ]
        if wrong:
            raise invalid(exchange, wrong)
        self.all.check_version(exchange, integration, version)
        self.all.touch(integration, integration.content | content)
        if integration.status == "ENABLED":
            self.all.restart(integration, "ENABLED")  # it reports again
        return reply(200, self._configuration(integration))

    def _configuration(self, integration: Resource) -> dict[str, Any]:
        content = integration.content
        return {
            "id": integration.id,
            "name": content["name"],
            "version": integration.version,
            "properties": content.get("properties", {}),
            "advanced": {},
            "notes": content.get("notes") or EMPTY_NOTES,
            "credentials": {},
            "selfUri": f"{PATH}/{integration.id}/config/current",
        }

    def _shown(self, exchange: Exchange, integration: Resource) -> dict[str, Any]:
        kind = integration.content["type"]
        shown = {
            "id": integration.id,
            "name": integration.content["name"],
            "integrationType": {"id": kind, "selfUri": f"{PATH}/types/{kind}"},
            "notes": integration.content.get("notes") or EMPTY_NOTES,
            "intendedState": integration.status,
            "reportedState": self._reported(exchange, integration),
            "selfUri": f"{PATH}/{integration.id}",
        }
        if "config.current" in exchange.query.get("expand", "").split(","):
            shown["config"] = {"current": self._configuration(integration)}
        if kind == WEBHOOK:
            if integration.counts["reads"] >= self._options.attributes_at_read:
                url = f"{exchange.origin}{PATH}/webhooks/{integration.secrets['token']}/events"
                shown["attributes"] = {"webhookId": integration.id, "invocationUrl": url}
        elif integration.status == "ENABLED" and integration.polls >= self._options.attributes_at_read:
            suffix = integration.content["properties"]["eventSourceSuffix"]
            source = f"aws.partner/genesys.com/cloud/{ORGANIZATION}/{suffix}"
            shown["attributes"] = {"eventSourceName": source}
        return shown

    def _reported(self, exchange: Exchange, integration: Resource) -> dict[str, Any]:
        """ACTIVATING, then ACTIVE, or ERROR where a fault strikes; INACTIVE before it ever was enabled."""
        reached = integration.polls >= self._options.active_at_read
        if integration.status == "ENABLED":
            if exchange.faults.strikes("reported", integration.identity):
                message = "The AWS account refused the partner event source (injected by --fault)"
                detail = {"localizableMessageCode": "integration.aws.error", "message": message}
                return {
                    "code": "ERROR",
                    "effective": "Error",
                    "detail": detail,
                    "lastUpdated": integration.modified,
                }
            code = "ACTIVE" if reached else "ACTIVATING"
        else:
            never = not integration.counts["enabled"]
            code = "INACTIVE" if never or reached else "DEACTIVATING"
        return {"code": code, "effective": code.capitalize(), "lastUpdated": integration.modified}


def _read(exchange: Exchange, name: str) -> dict[str, Any]:
    """By the model ``name``. Raises Refused."""
    given = read_object(exchange)
    lenient = {field: value for field, value in _LENIENT.items() if given.get(field) is None}
    sent = read_model(exchange, name, given, lenient=lenient)
    for field, least, most in (("name", 1, MAX_NAME), ("notes", 0, MAX_NOTES)):
        if not least <= len(sent.get(field, "n")) <= most:
            raise invalid(exchange, [InvalidField(field, f"{least} to {most} characters expected")])
    return sent


def _place(error: Any) -> str:
    """Of the property that is wrong, or is required and not there."""
    absent = isinstance(error.kind, jsonschema_rs.ValidationErrorKind.Required)
    return ".".join(
        ["properties", *map(str, error.instance_path), *([error.kind.property] if absent else [])]
    )
