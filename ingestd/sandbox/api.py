"""The two endpoints of the remote API: tokens and ingestion. Called by ``sandbox/server.py``."""

import http
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import NamedTuple
from urllib.parse import parse_qs

import msgspec

from ingestd.core.clock import Clock
from ingestd.sandbox import contract
from ingestd.sandbox.contract import ItemError, Refused, Reply
from ingestd.sandbox.faults import Fault, Order, Rule
from ingestd.sandbox.stats import Counts
from ingestd.sandbox.store import IdempotencyKeys, TakenEvents
from ingestd.sandbox.tokens import RateLimit, Tokens, basic_matches, bearer
from ingestd.schemas.load import load
from ingestd.schemas.schema import Schema

MAX_PARTIAL = 3
"""Events of one batch that the fault ``partial`` refuses."""

_MAX_REFUSED_ONCE = 100_000


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """How strict the sandbox is, and what goes wrong. Sizes in bytes, durations in seconds.

    ``client_id``, ``client_secret``: None takes any. ``schema``: what ``schemas.load``
    takes, a Schema, or None for no check. ``partial``: take the good events of a batch and name the
    bad ones in a 200, instead of a 400 for all. ``keep_bytes``: past it, events are only counted.
    """

    faults: Sequence[Fault] = ()
    rules: Sequence[Rule] = ()
    seed: int = 0
    latency_s: float = 0.0
    rate_limit: RateLimit | None = None
    max_body_bytes: int = 1_000_000
    client_id: str | None = "sandbox"
    client_secret: str | None = "sandbox"  # noqa: S105 - published: it protects nothing
    token_lifetime_s: float = 3600.0
    schema: str | Schema | None = "interaction"
    partial: bool = False
    keep_bytes: int = 256 * 2**20


class Exchange(NamedTuple):
    """One request, read to its end, with what shall happen to it."""

    method: str
    path: str
    headers: Mapping[str, str]
    content_type: str
    body: bytes
    context: str
    order: Order

    def error(self, status: int, code: str, message: str) -> Reply:
        return contract.error(status, code, message, self.context)


class Api:
    """The state behind the endpoints. Its methods take an Exchange and give a Reply or raise Refused."""

    def __init__(self, options: SandboxOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._schema = load(options.schema) if isinstance(options.schema, str) else options.schema
        self.tokens = Tokens(clock, lifetime_s=options.token_lifetime_s, limit=options.rate_limit)
        self.reset()

    def reset(self) -> None:
        """Forget events, keys and counts. Tokens stay good: clients hold them."""
        self.taken = TakenEvents(self._options.keep_bytes)
        self.keys = IdempotencyKeys(self._clock)
        self.counts = Counts()
        self.tokens.issued = 0
        self._refused_once: set[bytes] = set()
        self._dice = random.Random(f"{self._options.seed}:partial")

    async def issue_token(self, exchange: Exchange) -> Reply:
        """The client credentials grant of RFC 6749 4.4, with HTTP Basic only."""
        options = self._options
        await self.wait(exchange.order)
        authorization = exchange.headers.get("Authorization", "")
        if not basic_matches(authorization, options.client_id, options.client_secret):
            reply = oauth_error(
                401, "invalid_client", "client id or secret is wrong, or not sent by HTTP Basic"
            )
            return replace(reply, headers={"WWW-Authenticate": 'Basic realm="sandbox"'})
        if exchange.content_type != "application/x-www-form-urlencoded":
            return oauth_error(400, "invalid_request", "application/x-www-form-urlencoded expected")
        try:
            form = parse_qs(exchange.body.decode("ascii"), max_num_fields=20)
        except ValueError:
            return oauth_error(400, "invalid_request", "the form cannot be read")
        if form.get("grant_type") != ["client_credentials"]:
            return oauth_error(400, "unsupported_grant_type", "grant_type=client_credentials expected")
        content = {
            "access_token": self.tokens.issue(),
            "token_type": "bearer",
            "expires_in": int(options.token_lifetime_s),
        }
        return Reply(200, msgspec.json.encode(content), {"Cache-Control": "no-store"})

    async def ingest(self, exchange: Exchange) -> Reply:
        """One batch: who sends it, how often, in which form; then once per idempotency key."""
        token = self._authenticate(exchange)
        allowance = self.tokens.charge(token)
        if allowance is not None and allowance.exceeded:
            return contract.rate_limited(allowance.reset_s, exchange.context)
        self._check_form(exchange)
        reply = await self._handle_once(exchange)
        if allowance is None:
            return reply
        limits = {
            "inin-ratelimit-count": str(allowance.used),
            "inin-ratelimit-allowed": str(allowance.allowed),
            "inin-ratelimit-reset": str(allowance.reset_s),
        }
        return replace(reply, headers={**reply.headers, **limits})

    def _authenticate(self, exchange: Exchange) -> str:
        token = bearer(exchange.headers.get("Authorization", ""))
        if token is None:
            raise Refused(exchange.error(401, "authentication.required", "no bearer token in Authorization"))
        if exchange.order.expire:
            self.tokens.expire(token)
        if not self.tokens.valid(token):
            raise Refused(exchange.error(401, "bad.credentials", "Invalid login credentials."))
        return token

    def _check_form(self, exchange: Exchange) -> None:
        encoding = exchange.headers.get("Content-Encoding", "identity").strip().lower()
        if exchange.content_type != "application/json" or encoding != "identity":
            said = "Content-Type application/json without a Content-Encoding expected"
            raise Refused(exchange.error(415, "unsupported.media.type", said))
        if len(exchange.body) > self._options.max_body_bytes:
            said = f"{len(exchange.body)} bytes are more than {self._options.max_body_bytes}"
            raise Refused(exchange.error(413, "request.entity.too.large", said))

    async def _handle_once(self, exchange: Exchange) -> Reply:
        """Idempotency as in draft-ietf-httpapi-idempotency-key-header: replay, 409 or 422 for a used key."""
        key = exchange.headers.get("Idempotency-Key")
        if key is None:
            return await self._handle(exchange)
        if not 1 <= len(key) <= contract.MAX_ECHO:
            return exchange.error(400, "bad.request", "an Idempotency-Key has 1 to 255 characters")
        keys = self.keys  # a reset in the meantime puts a new table in its place
        digest = blake2b(exchange.body, digest_size=16).digest()
        used = keys.claim(key, digest)
        if used is None:
            try:
                reply = await self._handle(exchange)
                keys.keep(key, reply)
            finally:
                keys.release(key)
            return reply
        if used.body_digest != digest:
            said = "this Idempotency-Key was used with another body"
            return exchange.error(422, "idempotency.key.reused", said)
        if used.reply is None:
            said = "the first request with this Idempotency-Key is still being processed"
            return exchange.error(409, "idempotency.key.in.progress", said)
        self.counts.replays += 1
        return replace(used.reply, headers={**used.reply.headers, "Idempotency-Replayed": "true"})

    async def _handle(self, exchange: Exchange) -> Reply:
        """Check the events and take them. Waiting comes first: a client that gives up may still be served."""
        await self.wait(exchange.order)
        try:
            events = contract.read_events(exchange.body, exchange.context)
        except Refused as refused:
            return refused.reply
        errors = contract.find_invalid(events, self._schema)
        if errors and (not self._options.partial or len(errors) == contract.MAX_ITEM_ERRORS):
            said = f"event {errors[0].index} is not valid: {errors[0].field}: {errors[0].message}"
            return contract.error(400, "bad.request", said, exchange.context, errors=errors)
        if exchange.order.partial:
            errors += self._refuse_some(events, {error.index for error in errors})
        refused_indices = {error.index for error in errors}
        good = [event for i, event in enumerate(events) if i not in refused_indices] if errors else events
        if good:
            self.taken.take(good)
        return contract.accepted(len(good), exchange.headers.get("X-Request-Id", ""), errors=errors)

    def _refuse_some(self, events: Sequence[bytes], invalid: set[int]) -> list[ItemError]:
        """A few events to send again; never one that was refused like this before."""
        refused: list[ItemError] = []
        for index in sorted(self._dice.sample(range(len(events)), min(MAX_PARTIAL, len(events)))):
            digest = blake2b(events[index], digest_size=16).digest()
            full = len(self._refused_once) >= _MAX_REFUSED_ONCE
            if index in invalid or digest in self._refused_once or full:
                continue
            self._refused_once.add(digest)
            event_id = contract.event_id(events[index])
            refused.append(
                ItemError(index, event_id, "", "temporarily not taken: send it again", retryable=True)
            )
        return refused

    async def wait(self, order: Order) -> None:
        if delay_s := self._options.latency_s + order.delay_s:
            await self._clock.sleep(delay_s)


def oauth_error(status: int, code: str, description: str) -> Reply:
    """An error of the token endpoint (RFC 6749 5.2)."""
    content = {"error": code, "error_description": description}
    return Reply(status, msgspec.json.encode(content), {"Cache-Control": "no-store"})


def ordered_reply(order: Order, context: str) -> Reply:
    """The made-up answer to a request that ``order`` keeps from being handled."""
    headers = {} if order.retry_after is None else {"Retry-After": order.retry_after}
    if order.kind == "token-throttle":
        # Word for word what the platform's login says; it is a 400, not a 429.
        said = "invalid_request (rate limit exceeded; try again later)"
        return oauth_error(400, "invalid_request", said)
    if order.kind.startswith("token-"):
        code = {400: "invalid_request", 401: "invalid_client"}.get(order.status, "temporarily_unavailable")
        reply = oauth_error(order.status, code, "a fault to order")
        return replace(reply, headers={**reply.headers, **headers})
    if order.status == 429:
        wait = order.retry_after or ""
        wait_s = int(wait) if wait.isascii() and wait.isdigit() else 1
        return contract.rate_limited(wait_s, context, retry_after=order.retry_after)
    if not order.status:
        return Reply(500, b"")  # cut, or scripted: nobody sees this one
    known = order.status in http.HTTPStatus._value2member_map_
    phrase = http.HTTPStatus(order.status).phrase if known else "Fault"
    return contract.error(
        order.status,
        phrase.lower().replace(" ", "."),
        f"{phrase}: a fault to order",
        context,
        headers=headers,
    )
