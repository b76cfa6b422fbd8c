"""The sandbox's options, tokens, and ``/api/v2/events/ingest``. Called by ``sandbox/server.py``.

The other APIs are in ``sandbox/remote_apis.py``.
"""

import http
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from urllib.parse import parse_qs

import msgspec

from ingestd.core.clock import Clock
from ingestd.sandbox import contract
from ingestd.sandbox.access import AccessControl, check_form
from ingestd.sandbox.apis.organization import IDENTITY
from ingestd.sandbox.contract import ContractError, Reply, RequestRefused
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.exchange import Exchange
from ingestd.sandbox.faults import Fault, FaultPlan, Rule
from ingestd.sandbox.inbox import Inboxes
from ingestd.sandbox.item_faults import ItemFaults, again_words
from ingestd.sandbox.stats import Counts
from ingestd.sandbox.store import AcceptedEvents, IdempotencyKeys
from ingestd.sandbox.tokens import RateLimit, Tokens, basic_matches, bearer
from ingestd.schemas.load import load
from ingestd.schemas.schema import Schema


@dataclass(frozen=True, slots=True)
class SandboxOptions:
    """How strict the sandbox is, and what goes wrong. Sizes in bytes, durations in seconds.

    ``client_id``, ``client_secret``: None takes any. ``schema``: what ``schemas.load``
    takes, a Schema, or None for no check. ``partial``: take the good events of a batch and name the
    bad ones in a 200, instead of a 400 for all. ``keep_bytes``: past it, events are only counted; the
    other APIs together keep as much again.

    ``delivered_after_s``, ``delivered_at_question``: when a published CloudEvent is delivered, whichever
    comes first; 0 questions: only time counts. ``platform_body_bytes``, ``max_batch_events``: limits of
    the event APIs of Genesys Cloud, ``communication_states``: they refuse what comes before a
    communication is established or after its end. ``journey_configurations``: None takes any.

    ``webhook_tokens``: those of ``/api/v2/integrations/webhooks/{token}/events``. ``webhook_secrets``:
    with any, webhooks and hooks must be signed with one of them (Standard Webhooks).
    ``handshake_required``: they take nothing from an origin that did not ask before;
    ``hook_rate_per_minute``: what the handshake allows, None is any rate. ``hook_status``: 200 or 204.
    ``heartbeat_s``: of WebSockets of notifications. ``control``: how targets, destinations … behave.
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
    delivered_after_s: float = 0.2
    delivered_at_question: int = 2
    platform_body_bytes: int = 512_000
    max_batch_events: int = 100
    communication_states: bool = True
    journey_configurations: Sequence[str] | None = None
    webhook_tokens: Sequence[str] = ("sandbox",)
    webhook_secrets: Sequence[str] = ()
    handshake_required: bool = False
    heartbeat_s: float = 30.0
    hook_rate_per_minute: int | None = None
    hook_status: int = 200
    control: ControlOptions = field(default_factory=ControlOptions)


class SandboxApi:
    """The state behind the endpoints. Its methods take an Exchange and give a Reply or raise Refused."""

    def __init__(self, options: SandboxOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        self._schema = load(options.schema) if isinstance(options.schema, str) else options.schema
        self.tokens = Tokens(clock, lifetime_s=options.token_lifetime_s, limit=options.rate_limit)
        self.gate = AccessControl(self.tokens, clock, limit=options.rate_limit, latency_s=options.latency_s)
        self.item_faults = ItemFaults(options.seed)
        self.reset()

    def reset(self) -> None:
        """Forget events, keys and counts. Tokens stay good: clients hold them."""
        self.accepted = AcceptedEvents(self._options.keep_bytes)
        self.inboxes = Inboxes(self._options.keep_bytes)
        self.keys = IdempotencyKeys(self._clock)
        self.counts = Counts()
        self.tokens.issued = 0
        self.item_faults.reset()

    async def issue_token(self, exchange: Exchange) -> Reply:
        """The client credentials grant of RFC 6749 4.4, with HTTP Basic only."""
        options = self._options
        await self.gate.wait(exchange.order)
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

    async def describe_token(self, exchange: Exchange) -> Reply:
        """``TokensApi`` of the platform's SDK: whose the token is; DELETE ends it."""
        return await self.gate.with_token(exchange, self._describe_token, free=True)

    async def _describe_token(self, exchange: Exchange) -> Reply:
        await self.gate.wait(exchange.order)
        if exchange.method == "DELETE":
            self.tokens.expire(bearer(exchange.headers.get("Authorization", "")) or "")
        if exchange.method != "GET":
            return Reply(200, b"")
        client = {"id": self._options.client_id or "sandbox", "name": "sandbox", "organization": IDENTITY}
        return Reply(200, msgspec.json.encode({"organization": IDENTITY, "OAuthClient": client}))

    async def ingest(self, exchange: Exchange) -> Reply:
        """One batch: who sends it, how often, in which form; then once per idempotency key."""
        return await self.gate.with_token(exchange, self._ingest)

    async def _ingest(self, exchange: Exchange) -> Reply:
        check_form(exchange, max_body_bytes=self._options.max_body_bytes)
        return await self._handle_once(exchange)

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
            message = "this Idempotency-Key was used with another body"
            return exchange.error(422, "idempotency.key.reused", message)
        if used.reply is None:
            message = "the first request with this Idempotency-Key is still being processed"
            return exchange.error(409, "idempotency.key.in.progress", message)
        self.counts.replays += 1
        return replace(used.reply, headers={**used.reply.headers, "Idempotency-Replayed": "true"})

    async def _handle(self, exchange: Exchange) -> Reply:
        """Check the events and take them. Waiting comes first: a client that gives up may still be served."""
        await self.gate.wait(exchange.order)
        try:
            events = contract.read_events(exchange.body, exchange.context)
        except RequestRefused as refused:
            return refused.reply
        errors = contract.find_invalid(events, self._schema)
        if errors and (not self._options.partial or len(errors) == contract.MAX_ITEM_ERRORS):
            message = f"event {errors[0].index} is not valid: {errors[0].field}: {errors[0].message}"
            return contract.error(400, "bad.request", message, exchange.context, errors=errors)
        if self.item_faults.ordered(exchange):
            errors += self._refuse_some(events, exchange, {error.index for error in errors})
        refused_indices = {error.index for error in errors}
        good = [event for i, event in enumerate(events) if i not in refused_indices] if errors else events
        if good:
            self.accepted.take(good)
        return contract.accepted(len(good), exchange.headers.get("X-Request-Id", ""), errors=errors)

    def _refuse_some(
        self, events: Sequence[bytes], exchange: Exchange, invalid: set[int]
    ) -> list[ContractError]:
        identities = [blake2b(event, digest_size=16).digest() for event in events]
        return [
            ContractError(index, contract.event_id(events[index]), "", again_words(again), retryable=again)
            for index, again in self.item_faults.pick(identities, exchange, spare=invalid).items()
        ]


def oauth_error(status: int, code: str, description: str) -> Reply:
    """An error of the token endpoint (RFC 6749 5.2)."""
    content = {"error": code, "error_description": description}
    return Reply(status, msgspec.json.encode(content), {"Cache-Control": "no-store"})


def ordered_reply(order: FaultPlan, context: str) -> Reply:
    """The made-up answer to a request that ``order`` keeps from being handled."""
    headers = {} if order.retry_after is None else {"Retry-After": order.retry_after}
    if order.kind == "token-throttle":
        # Word for word what the platform's login says; it is a 400, not a 429.
        message = "invalid_request (rate limit exceeded; try again later)"
        return oauth_error(400, "invalid_request", message)
    if order.kind == "token-region":
        return oauth_error(400, "invalid_client", "client not found: is it one of another region?")
    if order.kind.startswith("token-"):
        code = {400: "invalid_request", 401: "invalid_client"}.get(order.status, "temporarily_unavailable")
        reply = oauth_error(order.status, code, "injected by --fault")
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
        f"{phrase} (injected by --fault)",
        context,
        headers=headers,
    )
