"""``/api/v2/processautomation/triggers``: the platform's real triggers, with cursors and versions.

Joined to its routes by ``sandbox/control/plane.py``. Source: Genesys Cloud Platform SDK 269,
``ProcessAutomationApi``.
"""

from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from pydantic import Field, StringConstraints, model_validator

from ingestd.core.clock import Clock
from ingestd.sandbox.contract import Reply
from ingestd.sandbox.control.body import Body, check, read_body, read_object
from ingestd.sandbox.control.errors import InvalidField, invalid
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.control.pages import by_cursor
from ingestd.sandbox.control.resources import Resource, Resources
from ingestd.sandbox.control.route import ControlRoute, reply
from ingestd.sandbox.exchange import Exchange
from ingestd.schemas.trigger_match import MISSING, Condition, all_match, body_of, judge

PATH = "/api/v2/processautomation/triggers"
MAX_CRITERIA = 50

TOPICS = (
    *("v2.detail.events.conversation.{id}.acd.start", "v2.detail.events.conversation.{id}.acd.end"),
    *("v2.detail.events.conversation.{id}.acw", "v2.detail.events.conversation.{id}.attributes"),
    *("v2.detail.events.conversation.{id}.customer.start", "v2.detail.events.conversation.{id}.customer.end"),
    *("v2.detail.events.conversation.{id}.user.start", "v2.detail.events.conversation.{id}.user.end"),
    *(
        "v2.integrations.inbound.webhook.{id}.invocation",
        "v2.users.{id}.presence",
        "v2.users.{id}.routingStatus",
    ),
)
"""A few of those that the platform has; a trigger may have any."""


class _Criterion(Body):
    """Any JSON is a value, and any text an operator: the platform has more of them than any client knows."""

    json_path: Annotated[str, StringConstraints(min_length=1, max_length=512)]
    operator: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    value: Any = None
    values: list[Any] | None = None

    @model_validator(mode="after")
    def _check_value(self) -> "_Criterion":
        if self.value is not None and self.values is not None:
            raise ValueError("either value or values, not both")
        return self


class _WorkflowSettings(Body):
    data_format: Literal["Json", "TopLevelPrimitives"] = "TopLevelPrimitives"


class _Workflow(Body):
    read_only = frozenset()  # its id is the client's
    type: Literal["Workflow"]
    id: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    workflow_target_settings: _WorkflowSettings = _WorkflowSettings()


class _Trigger(Body):
    name: Annotated[str, StringConstraints(min_length=1, max_length=200)]
    topic_name: Annotated[str, StringConstraints(pattern=r"^v2\.[\x21-\x7e]{1,250}$")]
    enabled: bool
    target: _Workflow
    match_criteria: list[_Criterion] = Field(default_factory=list, max_length=MAX_CRITERIA)
    event_ttl_seconds: int | None = Field(default=None, ge=10, alias="eventTTLSeconds")
    delay_by_seconds: int | None = Field(default=None, ge=60, le=900)
    description: Annotated[str, Field(max_length=512)] = ""

    @model_validator(mode="after")
    def _check_times(self) -> "_Trigger":
        if self.event_ttl_seconds is not None and self.delay_by_seconds is not None:
            raise ValueError("either eventTTLSeconds or delayBySeconds, not both")
        return self


class Triggers:
    """A trigger's topic stays what it was: another one is another trigger."""

    def __init__(self, clock: Clock, options: ControlOptions) -> None:
        self.all = Resources("trigger", PATH, clock, options)

    def routes(self) -> Sequence[ControlRoute]:
        one = PATH + "/{id}"
        return [
            ControlRoute("GET", PATH, self._list),
            ControlRoute("GET", PATH + "/topics", self._list_topics),
            ControlRoute("GET", "/api/v2/notifications/availabletopics", self._list_available),
            ControlRoute("POST", PATH, self._create),
            ControlRoute("GET", one, self._get),
            ControlRoute("PUT", one, self._replace),
            ControlRoute("DELETE", one, self._delete),
            ControlRoute("POST", one + "/test", self._test),
            ControlRoute("POST", PATH + "/topics/{topic}/test", self._test_all),
        ]

    def _list(self, exchange: Exchange) -> Reply:
        """With the filters ``topicName``, ``enabled`` and ``hasDelayBy``."""
        asked = exchange.query

        def wanted(one: Resource) -> bool:
            there = {
                "topicName": one.content["topicName"],
                "enabled": str(one.content["enabled"]).lower(),
                "hasDelayBy": str("delayBySeconds" in one.content).lower(),
            }
            return all(asked.get(name, value) == value for name, value in there.items())

        return by_cursor(exchange, self.all.visible(wanted), show=self._shown)

    def _list_topics(self, exchange: Exchange) -> Reply:
        return reply(200, {"entities": TOPICS, "selfUri": exchange.path})

    def _list_available(self, exchange: Exchange) -> Reply:
        return reply(200, {"entities": [{"id": topic, "transports": ["All"]} for topic in TOPICS]})

    def _create(self, exchange: Exchange) -> Reply:
        trigger = self.all.add(exchange, read_body(exchange, _Trigger).content())
        return reply(201, self._shown(trigger))

    def _get(self, exchange: Exchange) -> Reply:
        return reply(200, self._shown(self.all.find(exchange)))

    def _replace(self, exchange: Exchange) -> Reply:
        trigger = self.all.find(exchange)
        given = read_object(exchange)
        version = given.pop("version", None)
        sent = check(exchange, _Trigger, given)
        if type(version) is not int:
            raise invalid(
                exchange, [InvalidField("version", "the version that was read expected", "missing")]
            )
        if sent.topic_name != trigger.content["topicName"]:
            message = "it cannot be changed: delete the trigger and create another"
            raise invalid(exchange, [InvalidField("topicName", message, "immutable")])
        self.all.check_version(exchange, trigger, version)
        self.all.touch(trigger, sent.content())
        return reply(200, self._shown(trigger))

    def _delete(self, exchange: Exchange) -> Reply:
        self.all.remove(self.all.find(exchange))
        return Reply(204, b"")

    def _test(self, exchange: Exchange) -> Reply:
        """``TestModeResults`` of the SDK."""
        trigger = self.all.find(exchange)
        results = judge(_conditions(trigger), _event(exchange))
        details = [
            {"jsonPath": one.condition.path, "operator": one.condition.operator, "match": one.matches is True}
            | ({"value": one.condition.value} if one.condition.value is not None else {})
            | ({"values": one.condition.values} if one.condition.values is not None else {})
            | {
                "jsonPathExtraction": []
                if one.found is MISSING
                else [{"value": one.found, "path": one.condition.path}]
            }
            for one in results
        ]
        matches = all_match(results) is True
        fine = {"matches": True, "details": []}
        return reply(
            200,
            {
                "schemaValidation": {"name": "Schema Validation", "step": 1, **fine},
                "jsonPathValidation": {
                    "name": "JSON Path Validation",
                    "step": 2,
                    "matches": matches,
                    "details": details,
                },
                "targetValidation": {"name": "Target Validation", "step": 3, **fine},
                "triggerMatches": matches,
            },
        )

    def _test_all(self, exchange: Exchange) -> Reply:
        """``TestModeEventResults`` of the SDK."""
        event, topic = _event(exchange), exchange.params["topic"]
        found: dict[bool, list[dict[str, Any]]] = {True: [], False: []}
        for one in self.all.visible(lambda one: one.content["topicName"] == topic):
            shown = {"id": one.id, "name": one.name, "enabled": one.content["enabled"]}
            found[all_match(judge(_conditions(one), event)) is True].append(shown)
        matched = {"matchedTriggers": found[True], "unmatchedTriggers": found[False]}
        return reply(
            200,
            {
                "schemaValidation": {"name": "Schema Validation", "step": 1, "matches": True, "details": []},
                "triggerMatchValidation": {"name": "Trigger Match", "step": 2, **matched},
            },
        )

    def _shown(self, trigger: Resource) -> dict[str, Any]:
        """Without the dates that other kinds have: the model has none."""
        shown = self.all.shown(trigger) | {"version": trigger.version}
        return {name: value for name, value in shown.items() if not name.startswith("date")}


def _conditions(trigger: Resource) -> list[Condition]:
    return [
        Condition(one["jsonPath"], one["operator"], one.get("value"), one.get("values"))
        for one in trigger.content.get("matchCriteria", [])
    ]


def _event(exchange: Exchange) -> Any:
    """The body of a test: the event, or its JSON text in a string, as the SDK has it. Raises Refused."""
    try:
        event = msgspec.json.decode(exchange.body)
        event = msgspec.json.decode(event) if isinstance(event, str) else event
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        raise invalid(exchange, [InvalidField("", "an event in JSON expected", "invalid.json")]) from None
    return body_of(event)[0]
