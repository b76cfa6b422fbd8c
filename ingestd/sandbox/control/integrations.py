"""``/api/v2/integrations``: the platform's real way to EventBridge (integration, configuration, state).

Joined to its routes by ``sandbox/control/plane.py``. Sources: the platform's SDK 269, ``IntegrationsApi``,
and its help page "Configure the Amazon EventBridge integration".
"""

from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, StringConstraints, model_validator

from ingestd.core.clock import Clock
from ingestd.sandbox.contract import Reply
from ingestd.sandbox.control.body import Body, read_body
from ingestd.sandbox.control.errors import InvalidField, invalid, missing
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.control.pages import classic
from ingestd.sandbox.control.resources import Resource, Resources
from ingestd.sandbox.control.route import ControlRoute, reply
from ingestd.sandbox.exchange import Exchange

PATH = "/api/v2/integrations"
TYPE = "amazon-eventbridge-source"
EMPTY_NOTES = "node_dynamodb_empty_string"
"""What the platform answers for notes that were never set (its Terraform provider filters it)."""

ORGANIZATION = "00000000-0000-4000-8000-000000000000"

_Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
_Topic = Annotated[str, StringConstraints(pattern=r"^v2\.[\x21-\x7e]{1,250}$")]


class _Type(Body):
    """As the platform itself shows it: all but the id is its own business."""

    model_config = Body.model_config | {"extra": "ignore"}
    read_only: ClassVar[frozenset[str]] = frozenset()
    id: Literal["amazon-eventbridge-source"]


class _Create(Body):
    name: _Name = "Amazon EventBridge Source"
    integration_type: _Type


class _Change(Body):
    read_only: ClassVar[frozenset[str]] = Body.read_only | {
        *("integrationType", "reportedState", "attributes", "config")
    }
    name: _Name | None = None
    notes: Annotated[str, Field(max_length=2_000)] | None = None
    intended_state: Literal["ENABLED", "DISABLED", "DELETED", "RESTORED"] | None = None


class _Properties(Body):
    aws_account_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$")]
    aws_account_region: Annotated[str, StringConstraints(pattern=r"^[a-z]{2,8}(-[a-z]+){1,3}-[0-9]{1,2}$")]
    event_source_suffix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    event_filter: Annotated[list[_Topic], Field(min_length=1, max_length=1_000)]


class _Configuration(Body):
    name: _Name | None = None
    version: int
    properties: _Properties
    advanced: dict[str, Any] = Field(default_factory=dict)
    notes: Annotated[str, Field(max_length=2_000)] = ""
    credentials: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _take_no_credentials(self) -> "_Configuration":
        if self.advanced or self.credentials:
            raise ValueError("advanced and credentials: this type of integration has none")
        return self


class Integrations:
    """``status`` of a resource is its intended state; what it reports follows some reads later."""

    def __init__(self, clock: Clock, options: ControlOptions) -> None:
        self._options = options
        self.all = Resources("integration", PATH, clock, options, limit=options.max_integrations)

    def routes(self) -> Sequence[ControlRoute]:
        one = PATH + "/{id}"
        return [
            ControlRoute("GET", PATH + "/types/{id}", self._tell_type),
            ControlRoute("GET", PATH, self._list),
            ControlRoute("POST", PATH, self._create),
            ControlRoute("GET", one, self._get),
            ControlRoute("PATCH", one, self._change),
            ControlRoute("DELETE", one, self._delete),
            ControlRoute("GET", one + "/config/current", self._get_configuration),
            ControlRoute("PUT", one + "/config/current", self._configure),
        ]

    def _tell_type(self, exchange: Exchange) -> Reply:
        if exchange.params["id"] != TYPE:
            raise missing(exchange, "integration type", exchange.params["id"])
        name, most = "Amazon EventBridge Source", self._options.max_integrations
        uri = f"{PATH}/types/{TYPE}"
        return reply(200, {"id": TYPE, "name": name, "maxInstances": most, "selfUri": uri})

    def _list(self, exchange: Exchange) -> Reply:
        """With the filters ``integrationType``, ``ids`` and ``reportedState``."""
        query = exchange.query
        ids = frozenset(query["ids"].split(",")) if "ids" in query else None
        if ids is not None and len(ids) > 100:
            raise invalid(exchange, [InvalidField("ids", "at most 100 expected")])
        found = self.all.visible(lambda one: ids is None or one.id in ids)
        if query.get("integrationType", TYPE) != TYPE:
            found = []
        shown = [self._shown(exchange, integration) for integration in found]
        if state := query.get("reportedState"):
            shown = [one for one in shown if one["reportedState"]["code"] == state]
        return classic(exchange, shown, self._options, show=lambda one: one)

    def _create(self, exchange: Exchange) -> Reply:
        sent = read_body(exchange, _Create)
        integration = self.all.add(exchange, {"name": sent.name}, status="DISABLED")
        return reply(200, self._shown(exchange, integration))

    def _get(self, exchange: Exchange) -> Reply:
        integration = self.all.find(exchange)
        integration.polls += 1
        return reply(200, self._shown(exchange, integration))

    def _change(self, exchange: Exchange) -> Reply:
        integration = self.all.find(exchange)
        sent = read_body(exchange, _Change)
        if sent.intended_state == "ENABLED" and "properties" not in integration.content:
            raise invalid(
                exchange, [InvalidField("intendedState", "it is not configured yet", "not.configured")]
            )
        changes = {"name": sent.name, "notes": sent.notes}
        given = {name: value for name, value in changes.items() if value is not None}
        self.all.touch(integration, integration.content | given)
        state = "DISABLED" if sent.intended_state == "RESTORED" else sent.intended_state
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
        sent = read_body(exchange, _Configuration)
        self.all.check_version(exchange, integration, sent.version)
        content = sent.content()
        del content["version"]
        self.all.touch(integration, integration.content | content)
        if integration.status == "ENABLED":
            self.all.restart(integration, "ENABLED")  # it reports anew
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
        shown = {
            "id": integration.id,
            "name": integration.content["name"],
            "integrationType": {"id": TYPE, "selfUri": f"{PATH}/types/{TYPE}"},
            "notes": integration.content.get("notes") or EMPTY_NOTES,
            "intendedState": integration.status,
            "reportedState": self._reported(exchange, integration),
            "selfUri": f"{PATH}/{integration.id}",
        }
        if "config.current" in exchange.query.get("expand", "").split(","):
            shown["config"] = {"current": self._configuration(integration)}
        if integration.status == "ENABLED" and integration.polls >= self._options.attributes_at_read:
            suffix = integration.content["properties"]["eventSourceSuffix"]
            source = f"aws.partner/genesys.com/cloud/{ORGANIZATION}/{suffix}"
            shown["attributes"] = {"eventSourceName": source}
        return shown

    def _reported(self, exchange: Exchange, integration: Resource) -> dict[str, Any]:
        """ACTIVATING, then ACTIVE, or ERROR where a fault strikes; INACTIVE before it ever was enabled."""
        reached = integration.polls >= self._options.active_at_read
        if integration.status == "ENABLED":
            if exchange.faults.strikes("reported", integration.identity):
                said = "The AWS account refused the partner event source (injected by --fault)"
                detail = {"localizableMessageCode": "integration.aws.error", "message": said}
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
