"""Who may pass, and how often: bearer tokens, the rate limit and its headers, ordered delays.

Every endpoint of ``sandbox/`` goes through here.
"""

from dataclasses import replace

from ingestd.core.clock import Clock
from ingestd.sandbox import contract
from ingestd.sandbox.contract import Reply, RequestRefused
from ingestd.sandbox.exchange import Exchange, ExchangeHandler
from ingestd.sandbox.faults import FaultPlan
from ingestd.sandbox.tokens import RateLimit, RequestMeter, Tokens, WindowAllowance, bearer


class AccessControl:
    """The door of one sandbox. ``latency_s``: the wait before every answer."""

    def __init__(self, tokens: Tokens, clock: Clock, *, limit: RateLimit | None, latency_s: float) -> None:
        self._tokens = tokens
        self._meter = RequestMeter(clock, limit)
        self._clock = clock
        self._latency_s = latency_s

    async def with_token(self, exchange: Exchange, handle: ExchangeHandler, *, free: bool = False) -> Reply:
        """``handle`` for a good token that is within its limit and may do that; 401, 429 or 403 otherwise.
        ``free``: it needs no permission, by the platform's SDK."""

        async def may(exchange: Exchange) -> Reply:
            if not free and exchange.faults.strikes("permission", exchange.path.encode()):
                message = "Unable to perform the requested action. You are missing the permission for it"
                return exchange.error(403, "missing.any.permissions", f"{message} (injected by --fault)")
            return await handle(exchange)

        return await _limited(exchange, may, self._tokens.charge(self._authenticate(exchange)))

    async def without_token(self, exchange: Exchange, handle: ExchangeHandler, *, who: str) -> Reply:
        """``handle`` while ``who`` is within its limit."""
        return await _limited(exchange, handle, self._meter.charge(who))

    async def wait(self, order: FaultPlan) -> None:
        if delay_s := self._latency_s + order.delay_s:
            await self._clock.sleep(delay_s)

    def _authenticate(self, exchange: Exchange) -> str:
        token = bearer(exchange.headers.get("Authorization", ""))
        if token is None:
            raise RequestRefused(
                exchange.error(401, "authentication.required", "no bearer token in Authorization")
            )
        if exchange.order.expire:
            self._tokens.expire(token)
        if not self._tokens.valid(token):
            raise RequestRefused(exchange.error(401, "bad.credentials", "Invalid login credentials."))
        return token


async def _limited(exchange: Exchange, handle: ExchangeHandler, allowance: WindowAllowance | None) -> Reply:
    """The answer with the platform's rate headers, whatever it is; 429 past the limit."""
    if allowance is None:
        return await handle(exchange)
    if allowance.exceeded:
        reply = contract.rate_limited(allowance.reset_s, exchange.context)
    else:
        try:
            reply = await handle(exchange)
        except RequestRefused as refused:
            reply = refused.reply
    limits = {
        "inin-ratelimit-count": str(allowance.used),
        "inin-ratelimit-allowed": str(allowance.allowed),
        "inin-ratelimit-reset": str(allowance.reset_s),
    }
    return replace(reply, headers={**reply.headers, **limits})


def check_form(exchange: Exchange, *, max_body_bytes: int, json: bool = True) -> None:
    """Raises Refused: 415 for an encoded body or, with ``json``, one that is not JSON; 413 by size."""
    encoding = exchange.headers.get("Content-Encoding", "identity").strip().lower()
    if (json and exchange.content_type != "application/json") or encoding != "identity":
        message = "Content-Type application/json without a Content-Encoding expected"
        raise RequestRefused(exchange.error(415, "unsupported.media.type", message))
    if len(exchange.body) > max_body_bytes:
        message = f"{len(exchange.body)} bytes are more than {max_body_bytes}"
        raise RequestRefused(exchange.error(413, "request.entity.too.large", message))
