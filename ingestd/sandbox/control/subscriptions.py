"""``/api/v2/events/eventbridgesubscriptions``: the contract of the seed on topic subscriptions (004).

Joined to its routes by ``sandbox/control/plane.py``. Fields are spelt as the seed spells them, ``topic_arn``;
``topicArn`` is taken too.
"""

import re
from collections.abc import Sequence
from typing import Annotated, Any

import msgspec
from pydantic import AfterValidator, Field, StringConstraints

from ingestd.core.clock import Clock
from ingestd.sandbox.contract import Reply
from ingestd.sandbox.control.body import Body, read_body
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.control.pages import seeded
from ingestd.sandbox.control.resources import Resource, Resources
from ingestd.sandbox.control.route import ControlRoute, reply
from ingestd.sandbox.exchange import Exchange

PATH = "/api/v2/events/eventbridgesubscriptions"
MAX_PATTERN_BYTES = 4096

_TOPIC = re.compile(
    r"arn:aws[a-z0-9-]{0,20}:events:[a-z0-9-]{1,40}:[0-9]{12}:(topic|event-bus)/[/._A-Za-z0-9-]{1,256}",
    re.ASCII,
)
_ROLE = re.compile(r"arn:aws[a-z0-9-]{0,20}:iam::[0-9]{12}:role/[\w+=,.@/-]{1,576}", re.ASCII)


def _matching(pattern: re.Pattern[str], expected: str) -> AfterValidator:
    def check(text: str) -> str:
        if not pattern.fullmatch(text):
            raise ValueError(f"{expected} expected")
        return text

    return AfterValidator(check)


def _check_policy(policy: dict[str, Any]) -> dict[str, Any]:
    """Lists of something at its leaves, as in event patterns; which operators there are is not checked."""
    _check_level(policy)
    if len(msgspec.json.encode(policy)) > MAX_PATTERN_BYTES:
        raise ValueError(f"at most {MAX_PATTERN_BYTES} bytes expected")
    return policy


def _check_level(policy: dict[str, Any]) -> None:
    if not policy:
        raise ValueError("an object with at least one field expected")
    for value in policy.values():
        if isinstance(value, dict):
            _check_level(value)
        elif not isinstance(value, list) or not value:
            raise ValueError("lists with at least one value expected")


class _Destination(Body):
    url: Annotated[str, StringConstraints(pattern=r"^https?://[\x21-\x7e]{1,2040}$")] | None = None
    arn: Annotated[str, Field(max_length=1600), _matching(_ROLE, "the ARN of an IAM role")] | None = None


class _Subscription(Body):
    name: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    topic_arn: Annotated[str, Field(max_length=1600), _matching(_TOPIC, "the ARN of a topic")]
    filter_policy: Annotated[dict[str, Any], AfterValidator(_check_policy)]
    destination: _Destination
    enabled: bool = True


class Subscriptions:
    """The most in the whole organisation; past it, the ErrorBody has the ``limit``."""

    def __init__(self, clock: Clock, options: ControlOptions) -> None:
        limit = options.max_subscriptions if options.limit_enforced else None
        self._options = options
        self.all = Resources("subscription", PATH, clock, options, limit=limit)

    def routes(self) -> Sequence[ControlRoute]:
        one = PATH + "/{id}"
        return [
            ControlRoute("GET", PATH, self._list),
            ControlRoute("POST", PATH, self._create),
            ControlRoute("GET", one, self._get),
            ControlRoute("PUT", one, self._replace),
            ControlRoute("DELETE", one, self._delete),
        ]

    def _list(self, exchange: Exchange) -> Reply:
        return seeded(exchange, self.all.visible(), self._options, show=self._shown)

    def _create(self, exchange: Exchange) -> Reply:
        return reply(201, self._shown(self.all.add(exchange, _read(exchange))))

    def _get(self, exchange: Exchange) -> Reply:
        return reply(200, self._shown(self.all.find(exchange)))

    def _replace(self, exchange: Exchange) -> Reply:
        subscription = self.all.find(exchange)
        self.all.touch(subscription, _read(exchange))
        return reply(200, self._shown(subscription))

    def _delete(self, exchange: Exchange) -> Reply:
        self.all.remove(self.all.find(exchange))
        return Reply(204, b"")

    def _shown(self, subscription: Resource) -> dict[str, Any]:
        status = "ACTIVE" if subscription.content["enabled"] else "INACTIVE"
        return self.all.shown(subscription) | {"status": status}


def _read(exchange: Exchange) -> dict[str, Any]:
    return read_body(exchange, _Subscription).model_dump(exclude_none=True)
