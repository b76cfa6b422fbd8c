"""``/api/v2/event/destinations``: the contract of the seed on destinations (001), with its faults put right.

Joined to its routes by ``sandbox/control/plane.py``.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints

from ingestd.core.clock import Clock
from ingestd.sandbox.contract import Reply
from ingestd.sandbox.control.body import Body, check, read_body, read_object
from ingestd.sandbox.control.errors import InvalidField, invalid, missing, refusal
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.control.pages import classic
from ingestd.sandbox.control.resources import Resource, Resources
from ingestd.sandbox.control.route import ControlRoute, reply
from ingestd.sandbox.control.verification import PENDING, VERIFIED, Verification
from ingestd.sandbox.exchange import Exchange

PATH = "/api/v2/event/destinations"
MAX_EVENT_TYPES = 5_000
"""Of one destination, whatever the number of calls."""

_BUS = re.compile(
    r"arn:aws[a-z0-9-]{0,20}:events:[a-z0-9-]{1,40}:[0-9]{12}:event-bus/[/._A-Za-z0-9-]{1,256}", re.ASCII
)
EventType = Annotated[str, StringConstraints(min_length=1, max_length=256)]


def _check_bus(arn: str) -> str:
    """A bus as AWS names it; the seed's ``partner-event-bus/`` never existed (fault 19)."""
    if not _BUS.fullmatch(arn):
        raise ValueError("Invalid ARN: arn:PARTITION:events:REGION:ACCOUNT:event-bus/NAME expected")
    return arn


class _Settings(Body):
    event_bridge_arn: Annotated[str, Field(max_length=1600), AfterValidator(_check_bus)]


class _Destination(Body):
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    description: Annotated[str, Field(max_length=512)] = ""
    type: Literal["eventbridge"] = "eventbridge"
    enabled: bool = False
    settings: _Settings


class _Subscribe(Body):
    destination_id: Annotated[str, Field(max_length=64)]
    event_types: Annotated[list[EventType], Field(min_length=1, max_length=MAX_EVENT_TYPES)]


class Destinations:
    """Created disabled; enabled once it is verified and has an event type, not before (fault 20)."""

    def __init__(self, clock: Clock, options: ControlOptions) -> None:
        self._options = options
        self._verification = Verification(clock, options)
        self.all = Resources("destination", PATH, clock, options)

    def routes(self) -> Sequence[ControlRoute]:
        one = PATH + "/{id}"
        return [
            ControlRoute("POST", PATH + "/subscriptions", self._subscribe),
            ControlRoute("GET", PATH, self._list),
            ControlRoute("POST", PATH, self._create),
            ControlRoute("GET", one, self._get),
            ControlRoute("PATCH", one, self._change),
            ControlRoute("DELETE", one, self._delete),
            ControlRoute("GET", one + "/verify", self._verify),
            ControlRoute("GET", one + "/subscriptions", self._list_types),
            ControlRoute("DELETE", one + "/subscriptions/{eventType}", self._unsubscribe),
        ]

    def _list(self, exchange: Exchange) -> Reply:
        return classic(
            exchange, self.all.visible(), self._options, show=lambda one: self._shown(exchange, one)
        )

    def _create(self, exchange: Exchange) -> Reply:
        sent = read_body(exchange, _Destination)
        if sent.enabled:
            raise _too_early(exchange, "create it disabled, subscribe and verify it, then enable it")
        destination = self.all.add(exchange, sent.content(), status=PENDING)
        return reply(201, self._shown(exchange, destination))

    def _get(self, exchange: Exchange) -> Reply:
        return reply(200, self._shown(exchange, self.all.find(exchange)))

    def _change(self, exchange: Exchange) -> Reply:
        """Fields that are left out stay. A new bus is verified again; the destination is disabled until
        then."""
        destination = self.all.find(exchange)
        given = {
            name: value for name, value in read_object(exchange).items() if name not in _Destination.read_only
        }
        content = check(exchange, _Destination, destination.content | given).content()
        moved = content["settings"] != destination.content["settings"]
        if content["enabled"]:
            if moved and given.get("enabled"):
                raise _too_early(exchange, "another bus has to be verified first: change it disabled")
            status = self._verification.look(destination, exchange.faults)
            if status != VERIFIED and not moved:
                raise _too_early(exchange, f"it is {status}: VERIFIED expected")
            if not destination.event_types:
                raise _too_early(exchange, "no event type is subscribed")
        if moved:
            content["enabled"] = False
            self.all.restart(destination, PENDING)
        self.all.touch(destination, content)
        return reply(200, self._shown(exchange, destination))

    def _delete(self, exchange: Exchange) -> Reply:
        self.all.remove(self.all.find(exchange))
        return Reply(204, b"")

    def _verify(self, exchange: Exchange) -> Reply:
        return reply(200, self._verification.answer(self.all.find(exchange), exchange.faults))

    def _subscribe(self, exchange: Exchange) -> Reply:
        """All of a call or none. A type that is subscribed already stays so, and is not an error."""
        sent = read_body(exchange, _Subscribe)
        destination = self.all.find(exchange, sent.destination_id)
        most = self._options.max_event_types
        if len(sent.event_types) > most:
            message = f"{len(sent.event_types)} event types in one call: at most {most} expected"
            limit: dict[str, str | int] = {
                "key": "event.types.per.call",
                "namespace": "event.destinations",
            }
            wrong = [InvalidField("eventTypes", message, "too.many")]
            raise refusal(
                exchange, 400, "limit.exceeded", message, wrong=wrong, limit=limit | {"value": most}
            )
        new = dict.fromkeys(sent.event_types, self.all.timestamp())
        if len(destination.event_types | new) > MAX_EVENT_TYPES:
            raise invalid(
                exchange, [InvalidField("eventTypes", f"a destination has at most {MAX_EVENT_TYPES}")]
            )
        destination.event_types = new | destination.event_types
        content = {"id": f"{destination.id}:{len(destination.event_types)}", "destinationId": destination.id}
        return reply(201, content | {"eventTypes": sent.event_types})

    def _list_types(self, exchange: Exchange) -> Reply:
        destination = self.all.find(exchange)

        def show(one: tuple[str, str]) -> dict[str, str]:
            return {"destinationId": destination.id, "eventType": one[0], "dateCreated": one[1]}

        return classic(exchange, sorted(destination.event_types.items()), self._options, show=show)

    def _unsubscribe(self, exchange: Exchange) -> Reply:
        """The last one disables it: it would stand for a stream and send nothing."""
        destination = self.all.find(exchange)
        event_type = exchange.params["eventType"]
        if destination.event_types.pop(event_type, None) is None:
            raise missing(exchange, "subscribed event type", event_type)
        if not destination.event_types:
            self.all.touch(destination, destination.content | {"enabled": False})
        return Reply(204, b"")

    def _shown(self, exchange: Exchange, destination: Resource) -> dict[str, Any]:
        return self.all.shown(destination) | {
            "status": self._verification.look(destination, exchange.faults),
            "subscriptions": sorted(destination.event_types),
        }


def _too_early(exchange: Exchange, message: str) -> Exception:
    wrong = [InvalidField("enabled", message, "not.verified")]
    return refusal(exchange, 400, "destination.not.ready", f"it cannot be enabled: {message}", wrong=wrong)
