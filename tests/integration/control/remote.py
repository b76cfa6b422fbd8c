"""What the remote control plane does with each kind of resource: the rules behind ``world.py``.

Each collection keeps what it is sent, adds what a server adds (id, version, status, odd defaults), answers
no secret, and forgets no rule that a kind relies on: versions, limits, what is immutable, what must be off
before it can go. Names need not be unique, as with the real API: duplicates are the client's to avoid.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar
from urllib.parse import unquote

from ingestd.transport.api_client import ApiError

MAX_SUBSCRIPTIONS = 25
MAX_EVENT_TYPES_A_CALL = 100
EMPTY_NOTES = "node_dynamodb_empty_string"
"""What the real API answers for notes that were never set."""

Body = dict[str, Any]


def refusal(status: int, code: str, message: str, here: str) -> ApiError:
    """As the client makes it of an answer; ``here``: method and path."""
    method, _, path = here.partition(" ")
    return ApiError(method, path, status=status, code=code, message=message)


@dataclass(slots=True)
class Ways:
    """``lag_reads``: how many reads miss a new thing. ``polls``: how many see verifying and activating not
    ended. ``outcomes``: name -> the state in which that ends instead (FAILED, TIMEOUT, ERROR, ...).
    ``filters``: lists heed their parameters. ``ghost_reads``: how many lists still show what is deleted."""

    lag_reads: int = 0
    polls: int = 1
    outcomes: dict[str, str] = field(default_factory=dict)
    filters: bool = True
    ghost_reads: int = 0


@dataclass(slots=True)
class Thing:
    """One resource: ``body`` is what a GET answers; ``hidden_reads``, ``polls``: what is left of those."""

    body: Body
    hidden_reads: int = 0
    polls: int = 0
    config: Body = field(default_factory=dict)
    event_types: set[str] = field(default_factory=set)
    auth: Any = None

    def seen(self) -> bool:
        self.hidden_reads -= 1
        return self.hidden_reads < 0

    def essence(self) -> Body:
        unlike = {"id", "selfUri", "version"}
        body = {key: value for key, value in self.body.items() if key not in unlike}
        config = {key: value for key, value in self.config.items() if key not in unlike}
        return {"body": body, "config": config, "event_types": sorted(self.event_types), "auth": self.auth}


class Collection:
    """What is the same for all: one of these per kind holds its ``things`` by id."""

    root: ClassVar[str]
    change_by: ClassVar = "PUT"

    def __init__(self, ways: Ways) -> None:
        self.ways = ways
        self.things: dict[str, Thing] = {}
        self.ghosts: list[Thing] = []

    def check_new(self, body: Body, here: str) -> None:
        if not isinstance(body, dict) or not body.get("name"):
            raise refusal(400, "bad.request", "name is required", here)

    def make(self, thing: Thing, body: Body) -> None:
        thing.body |= {"enabled": True, "status": "ACTIVE"} | body

    def change(self, thing: Thing, body: Body, here: str) -> None:
        thing.body = {key: thing.body[key] for key in ("id", "selfUri", "status")} | {"enabled": True} | body

    def show(self, thing: Thing) -> Body:
        return thing.body

    def listed(self) -> list[Body]:
        seen = [thing for thing in self.things.values() if thing.seen()]
        for ghost in self.ghosts:
            ghost.polls -= 1
        self.ghosts = [ghost for ghost in self.ghosts if ghost.polls >= 0]
        return [*(self.show(thing) for thing in seen), *(ghost.body for ghost in self.ghosts)]

    def remove(self, its_id: str) -> None:
        thing = self.things.pop(its_id)
        self.ghosts.append(Thing(self.show(thing), polls=self.ways.ghost_reads))

    def check_gone(self, thing: Thing, here: str) -> None:
        """Whether it may be deleted."""

    def below(self, thing: Thing, rest: list[str], body: Any, here: str) -> Any:
        """Paths below one resource."""
        raise refusal(404, "not.found", "no such path", here)

    def above(self, body: Body, here: str) -> Any:
        """POST to a path beside the resources; only destinations have one."""
        raise refusal(404, "not.found", "no such path", here)


class Verified(Collection):
    """What is verified after it was made, and again after a change of where it sends to."""

    def progress(self, thing: Thing) -> str:
        thing.polls = max(0, thing.polls - 1)
        if thing.polls == 0 and thing.body["status"] == "PENDING_VERIFICATION":
            thing.body["status"] = self.ways.outcomes.get(thing.body["name"], "VERIFIED")
        return str(thing.body["status"])

    def show(self, thing: Thing) -> Body:
        if thing.polls == 0:
            self.progress(thing)
        return thing.body

    def begin_again(self, thing: Thing) -> None:
        thing.body["status"], thing.polls = "PENDING_VERIFICATION", self.ways.polls


class Targets(Verified):
    root = "/api/v2/integrations/eventbridge/targets"

    def make(self, thing: Thing, body: Body) -> None:
        thing.auth = body.pop("authConfig", None)
        thing.body |= {"status": "PENDING_VERIFICATION"} | body

    def change(self, thing: Thing, body: Body, here: str) -> None:
        old, auth = thing.body, body.pop("authConfig", thing.auth)
        thing.body = {key: old[key] for key in ("id", "selfUri", "status")} | body
        if auth != thing.auth or any(old.get(k) != body.get(k) for k in ("endpointUrl", "authType")):
            thing.auth = auth
            self.begin_again(thing)

    def below(self, thing: Thing, rest: list[str], body: Any, here: str) -> Any:
        match here.split()[0], rest:
            case "GET", ["verify"]:
                return {"status": self.progress(thing)}
            case "POST", ["health"]:
                return {"status": "HEALTHY", "latencyMs": 1}
        return super().below(thing, rest, body, here)


class Destinations(Verified):
    root = "/api/v2/event/destinations"
    change_by = "PATCH"

    def make(self, thing: Thing, body: Body) -> None:
        thing.event_types = set(body.pop("eventTypes", ()))
        thing.body |= {"enabled": False, "status": "PENDING_VERIFICATION"} | body

    def change(self, thing: Thing, body: Body, here: str) -> None:
        if body.get("enabled") and thing.body["status"] != "VERIFIED":
            raise refusal(400, "bad.request", "only a verified destination can be enabled", here)
        if "settings" in body and body["settings"] != thing.body.get("settings"):
            self.begin_again(thing)
        thing.body |= body

    def above(self, body: Body, here: str) -> Any:
        thing = self.things.get(body["destinationId"])
        if thing is None:
            raise refusal(404, "not.found", "destination not found", here)
        if not 1 <= len(body["eventTypes"]) <= MAX_EVENT_TYPES_A_CALL:
            raise refusal(400, "bad.request", "1 to 100 eventTypes", here)
        thing.event_types |= set(body["eventTypes"])
        return {"id": f"{thing.body['id']}-subscription", **body}

    def below(self, thing: Thing, rest: list[str], body: Any, here: str) -> Any:
        match here.split()[0], rest:
            case "GET", ["verify"]:
                return {"status": self.progress(thing)}
            case "GET", ["subscriptions"]:
                return {"entities": [{"eventType": name} for name in sorted(thing.event_types)]}
            case "DELETE", ["subscriptions", name]:
                thing.event_types.discard(unquote(name))
                return None
        return super().below(thing, rest, body, here)


class Subscriptions(Collection):
    root = "/api/v2/events/eventbridgesubscriptions"

    def check_new(self, body: Body, here: str) -> None:
        super().check_new(body, here)
        if len(self.things) >= MAX_SUBSCRIPTIONS:
            raise refusal(400, "max.subscriptions", "limit of subscriptions reached", here)


class Triggers(Collection):
    root = "/api/v2/processautomation/triggers"

    def make(self, thing: Thing, body: Body) -> None:
        thing.body |= {"enabled": False, "matchCriteria": []} | body | {"version": 1}

    def change(self, thing: Thing, body: Body, here: str) -> None:
        check_version(body, thing.body, here)
        if body.get("topicName", thing.body["topicName"]) != thing.body["topicName"]:
            raise refusal(400, "bad.request", "topicName cannot be changed", here)
        kept = {key: thing.body[key] for key in ("id", "selfUri", "topicName")}
        thing.body = {"matchCriteria": []} | body | kept | {"version": thing.body["version"] + 1}


class Plain(Collection):
    """What stands at once. ``fresh``: what a new one has. ``versioned``: it counts its changes."""

    fresh: ClassVar[Body] = {}
    versioned: ClassVar = False

    def make(self, thing: Thing, body: Body) -> None:
        thing.body |= self.fresh | body | ({"version": 1} if self.versioned else {})

    def change(self, thing: Thing, body: Body, here: str) -> None:
        version = {}
        if self.versioned:
            check_version(body, thing.body, here)
            version = {"version": thing.body["version"] + 1}
        kept = thing.body if self.change_by == "PATCH" else {k: thing.body[k] for k in ("id", "selfUri")}
        thing.body = kept | self.fresh | body | version


class ScheduledTriggers(Plain):
    root, versioned = "/api/v2/processautomation/scheduledtriggers", True


class PresenceSources(Plain):
    root = "/api/v2/presence/sources"
    fresh: ClassVar = {"deactivated": False, "type": "User"}


class JourneySchemas(Plain):
    root, versioned = "/api/v2/journey/externalevents/schemas", True
    fresh: ClassVar = {"enabled": True}

    def check_new(self, body: Body, here: str) -> None:
        super().check_new({"name": body.get("title")}, here)

    def make(self, thing: Thing, body: Body) -> None:
        whole = body if "jsonSchema" in body else {"jsonSchema": body}
        super().make(thing, whole | {"name": whole["jsonSchema"]["title"]})

    def change(self, thing: Thing, body: Body, here: str) -> None:
        super().change(thing, body | {"name": body["jsonSchema"]["title"]}, here)


class JourneyConfigurations(Plain):
    root, change_by = "/api/v2/journey/externalevents/configurations", "PATCH"
    fresh: ClassVar = {"schemaActive": True, "divisionIdActive": True}

    def change(self, thing: Thing, body: Body, here: str) -> None:
        if body.keys() - {"name", "description"}:
            raise refusal(400, "bad.request", "only name and description can be changed", here)
        super().change(thing, body, here)


class Integrations(Collection):
    """The state that is intended and the one that is reported; the configuration with its version."""

    root = "/api/v2/integrations"
    change_by = "PATCH"

    def check_new(self, body: Body, here: str) -> None:
        if not (body.get("integrationType") or {}).get("id"):
            raise refusal(400, "bad.request", "integrationType is required", here)

    def make(self, thing: Thing, body: Body) -> None:
        kind = body.get("integrationType") or {"id": "amazon-eventbridge-source"}
        name = body.get("name") or "Amazon EventBridge Source"
        state = body.get("intendedState", "DISABLED")
        thing.body |= {"name": name, "integrationType": kind, "intendedState": state}
        thing.config = {"name": name, "version": 1, "properties": body.get("properties", {}), "advanced": {}}
        thing.config |= {"notes": body.get("notes") or EMPTY_NOTES, "credentials": {}}

    def change(self, thing: Thing, body: Body, here: str) -> None:
        if "intendedState" in body and body["intendedState"] != thing.body["intendedState"]:
            thing.body["intendedState"], thing.polls = body["intendedState"], self.ways.polls

    def show(self, thing: Thing) -> Body:
        return thing.body | {"reportedState": self._reported(thing)}

    def check_gone(self, thing: Thing, here: str) -> None:
        if thing.body["intendedState"] != "DISABLED":
            raise refusal(400, "bad.request", "an enabled integration cannot be deleted", here)

    def _reported(self, thing: Thing) -> Body:
        on, thing.polls = thing.body["intendedState"] == "ENABLED", thing.polls - 1
        if thing.polls >= 0:
            return {"code": "ACTIVATING" if on else "DEACTIVATING", "detail": {}}
        code = self.ways.outcomes.get(thing.body["name"], "ACTIVE") if on else "INACTIVE"
        detail = {"message": "the AWS account refused the event source"} if code == "ERROR" else {}
        return {"code": code, "detail": detail}

    def below(self, thing: Thing, rest: list[str], body: Any, here: str) -> Any:
        match here.split()[0], rest:
            case "GET", ["config", "current"]:
                return thing.config
            case "PUT", ["config", "current"]:
                check_version(body, thing.config, here)
                name = body.get("name") or thing.body["name"]
                thing.config |= body | {"name": name, "version": thing.config["version"] + 1}
                thing.config["notes"] = body.get("notes") or EMPTY_NOTES
                thing.body["name"] = name
                return thing.config
        return super().below(thing, rest, body, here)


def check_version(body: Body, current: Body, here: str) -> None:
    if body.get("version") != current["version"]:
        message = f"version {body.get('version')} does not match the current version {current['version']}"
        raise refusal(409, "version.conflict", message, here)
