"""``/api/v2/integrations/eventbridge/targets``: the contract of the seed on target configuration (000).

Joined to its routes by ``sandbox/control/plane.py``.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from ingestd.core.clock import Clock
from ingestd.sandbox.contract import Reply
from ingestd.sandbox.control.body import Body, check, read_body, read_object
from ingestd.sandbox.control.delivery import TargetDelivery, is_loopback
from ingestd.sandbox.control.errors import InvalidField, invalid
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.control.pages import classic
from ingestd.sandbox.control.resources import Resource, Resources
from ingestd.sandbox.control.route import ControlRoute, reply
from ingestd.sandbox.control.verification import PENDING, VERIFIED, Verification
from ingestd.sandbox.exchange import Exchange

PATH = "/api/v2/integrations/eventbridge/targets"
MAX_EVENT_TYPES = 1_000
MAX_HEADERS = 50

_HEADER = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}", re.ASCII)
_VALUE = re.compile(r"[\x20-\x7e\t]{0,8192}")
_NEEDED = {
    "NONE": frozenset[str](),
    "BASIC": frozenset({"username", "password"}),
    "OAUTH2": frozenset({"clientId", "clientSecret", "tokenUrl"}),
    "JWT": frozenset({"issuer", "audience", "key"}),
}
_OPTIONAL = {"OAUTH2": frozenset({"scope"})}


def _check_url(url: str) -> str:
    """HTTPS; plain HTTP on loopback only, for the sandbox's own hooks."""
    parts = urlsplit(url)
    if not parts.hostname or parts.username is not None or not url.isascii() or not url.isprintable():
        raise ValueError("an absolute URL without user and password expected")
    _ = parts.port  # raises ValueError
    if parts.scheme != "https" and not (parts.scheme == "http" and is_loopback(url)):
        raise ValueError("https:// expected")
    return url


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER.fullmatch(name) or not _VALUE.fullmatch(value):
            raise ValueError("names of HTTP headers and visible ASCII values expected")
    return headers


class _RetryPolicy(Body):
    max_retries: int = Field(ge=0, le=10)
    backoff_strategy: Literal["EXPONENTIAL", "LINEAR"]
    initial_delay_seconds: int = Field(ge=1, le=30)


class _Target(Body):
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    endpoint_url: Annotated[str, Field(max_length=2048), AfterValidator(_check_url)]
    auth_type: Literal["NONE", "BASIC", "OAUTH2", "JWT"]
    auth_config: dict[str, str] | None = None
    retry_policy: _RetryPolicy = _RetryPolicy(
        max_retries=5, backoff_strategy="EXPONENTIAL", initial_delay_seconds=2
    )
    headers: Annotated[dict[str, str], AfterValidator(_check_headers)] = Field(
        default_factory=dict, max_length=MAX_HEADERS
    )
    event_types: Annotated[
        list[Annotated[str, StringConstraints(min_length=1, max_length=256)]],
        Field(min_length=1, max_length=MAX_EVENT_TYPES),
    ]

    @model_validator(mode="after")
    def _check_auth(self) -> "_Target":
        """Exactly the credentials that the type needs (fault 11: the seed takes any, or none)."""
        given, needed = self.auth_config or {}, _NEEDED[self.auth_type]
        if lacking := sorted(needed - {name for name, value in given.items() if value}):
            raise ValueError(f"authConfig: {self.auth_type} needs {', '.join(lacking)}")
        if given.keys() - needed - _OPTIONAL.get(self.auth_type, frozenset()):
            raise ValueError(f"authConfig: more than {self.auth_type} takes")
        return self


class Targets:
    """Names are not unique: the same request twice makes two (fault 16)."""

    def __init__(self, clock: Clock, options: ControlOptions, delivery: TargetDelivery) -> None:
        self._options = options
        self._delivery = delivery
        self._verification = Verification(clock, options)
        self.all = Resources("target", PATH, clock, options)

    def routes(self) -> Sequence[ControlRoute]:
        one = PATH + "/{id}"
        return [
            ControlRoute("GET", PATH, self._list),
            ControlRoute("POST", PATH, self._create),
            ControlRoute("GET", one, self._get),
            ControlRoute("PUT", one, self._replace),
            ControlRoute("DELETE", one, self._delete),
            ControlRoute("GET", one + "/verify", self._verify),
            ControlRoute("POST", one + "/health", self._check_health, bodiless=True),
        ]

    def deliver(self, exchange: Exchange, event: bytes, event_type: str) -> None:
        """A published event goes to every verified target that asked for its type."""
        for target in self.all:
            wants = event_type in target.content["eventTypes"]
            if wants and self._verification.look(target, exchange.faults) == VERIFIED:
                self._delivery.offer(target, event)

    def _list(self, exchange: Exchange) -> Reply:
        return classic(
            exchange, self.all.visible(), self._options, show=lambda one: self._shown(exchange, one)
        )

    def _create(self, exchange: Exchange) -> Reply:
        sent = read_body(exchange, _Target)
        target = self.all.add(exchange, _public(sent), status=PENDING)
        target.secrets = dict(sent.auth_config or {})
        self._probe(target)
        return reply(201, self._shown(exchange, target))

    def _get(self, exchange: Exchange) -> Reply:
        return reply(200, self._shown(exchange, self.all.find(exchange)))

    def _replace(self, exchange: Exchange) -> Reply:
        """Credentials that are left out stay as they are; a new endpoint or login is verified again."""
        target = self.all.find(exchange)
        given = read_object(exchange)
        if given.get("authConfig") is None and given.get("authType") == target.content["authType"]:
            given = given | {"authConfig": target.secrets}
        sent = check(exchange, _Target, given)
        content, secrets = _public(sent), dict(sent.auth_config or {})
        verify_again = secrets != target.secrets or any(
            content[name] != target.content[name] for name in ("endpointUrl", "authType")
        )
        self.all.touch(target, content)
        target.secrets = secrets
        if verify_again:
            target.token = None
            self.all.restart(target, PENDING)
            self._probe(target)
        return reply(200, self._shown(exchange, target))

    def _delete(self, exchange: Exchange) -> Reply:
        self.all.remove(self.all.find(exchange))
        return Reply(204, b"")

    def _verify(self, exchange: Exchange) -> Reply:
        return reply(200, self._verification.answer(self.all.find(exchange), exchange.faults))

    def _check_health(self, exchange: Exchange) -> Reply:
        target = self.all.find(exchange)
        if exchange.body and read_object(exchange):
            raise invalid(exchange, [InvalidField("", "no fields are expected here")])
        sick = exchange.faults.strikes("health", target.identity) is not None
        content: dict[str, Any] = {
            "status": "UNHEALTHY" if sick else "HEALTHY",
            "latencyMs": 5_000 if sick else 12,
            "checkedAt": self.all.timestamp(),
        }
        return reply(200, content | ({"error": "the endpoint does not answer"} if sick else {}))

    def _probe(self, target: Resource) -> None:
        if self._options.verify_endpoints:
            self._delivery.probe(target)

    def _shown(self, exchange: Exchange, target: Resource) -> dict[str, Any]:
        status = self._verification.look(target, exchange.faults)
        return self.all.shown(target) | {"status": status}


def _public(sent: _Target) -> dict[str, Any]:
    content = sent.content()
    content.pop("authConfig", None)
    return content
