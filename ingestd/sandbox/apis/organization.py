"""``GET /api/v2/organizations/…``: which organization it is, and its limits.

Joined to its routes by ``sandbox/remote_apis.py``. Source: ``OrganizationApi`` of the platform's SDK (269),
models ``Organization``, ``LimitsEntityListing`` and ``Limit``.
"""

import msgspec

from ingestd.sandbox.access import AccessControl
from ingestd.sandbox.contract import Reply
from ingestd.sandbox.exchange import Exchange
from ingestd.sandbox.tokens import RateLimit

PATH = "/api/v2/organizations/me"
LIMITS_PATH = "/api/v2/organizations/limits/namespaces/{name}"
IDENTITY = {"id": "00000000-0000-4000-8000-000000000000", "name": "sandbox"}
DEFAULT_RATE = 300
"""Requests of a token in a minute, as Genesys Cloud has it."""


class OrganizationApi:
    """The only one. ``limit``: of a token, where the sandbox has one."""

    def __init__(self, gate: AccessControl, limit: RateLimit | None) -> None:
        self._gate = gate
        rate = round(limit.requests * 60 / limit.window_s) if limit else DEFAULT_RATE
        self._limits = {
            "platform.api": {
                "client.credentials.token.rate.per.minute": rate,
                "org.app.user.rate.per.minute": 3_000,
                "request.bytes.max": 512_000,
            },
            "external.events.data.ingestion": {"event.types.max": 20},
        }

    async def describe(self, exchange: Exchange) -> Reply:
        return await self._gate.with_token(exchange, self._describe, free=True)

    async def _describe(self, exchange: Exchange) -> Reply:
        await self._gate.wait(exchange.order)
        return Reply(200, msgspec.json.encode({**IDENTITY, "state": "active", "defaultCountryCode": "US"}))

    async def limits(self, exchange: Exchange) -> Reply:
        return await self._gate.with_token(exchange, self._describe_limits)

    async def defaults(self, exchange: Exchange) -> Reply:
        return await self._gate.with_token(exchange, self._describe_limits, free=True)

    async def _describe_limits(self, exchange: Exchange) -> Reply:
        await self._gate.wait(exchange.order)
        space = exchange.params["name"]
        limits = self._limits.get(space)
        if limits is None:
            return exchange.error(404, "not.found", "there is no such namespace of limits")
        found = [{"key": key, "namespace": space, "value": value} for key, value in limits.items()]
        return Reply(200, msgspec.json.encode({"entities": found}))
