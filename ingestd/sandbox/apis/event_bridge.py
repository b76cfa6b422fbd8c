"""``/api/v2/eventbridge/events``: publish CloudEvents, and ask what became of them.

The contract of the seed "Publishing Custom Events". Joined to its routes by ``sandbox/remote_apis.py``.
"""

import math
import uuid
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgspec

from ingestd.core.clock import Clock
from ingestd.core.units import rfc3339
from ingestd.sandbox import contract
from ingestd.sandbox.access import AccessControl, check_form
from ingestd.sandbox.apis.cloudevents import EventAttributes, PublishedEvents, read_events
from ingestd.sandbox.contract import ContractError, Reply
from ingestd.sandbox.exchange import Exchange
from ingestd.sandbox.inbox import digest
from ingestd.sandbox.item_faults import ItemFaults, again_words
from ingestd.sandbox.store import ClaimedKey, IdempotencyKeys

MAX_EVENTS = 100_000
"""Events that can be asked about; the oldest are forgotten first."""


OnAccepted = Callable[[Exchange, bytes, str], None]
"""Called with every accepted event and its type."""


@dataclass(slots=True)
class _Accepted:
    """An event and what becomes of it. Times of the monotonic clock; ``at_question`` 0: questions do not
    matter."""

    id: str
    attributes: EventAttributes
    time: str
    visible_at: float
    delivered_at: float
    at_question: int
    failed: bool
    questions: int = 0

    def shown(self, now: float) -> dict[str, object]:
        asked = 0 < self.at_question <= self.questions
        done = asked or now >= self.delivered_at
        status = ("failed" if self.failed else "delivered") if done else "accepted"
        content: dict[str, object] = {
            "id": self.id,
            "specversion": "1.0",
            "type": self.attributes.type,
            "source": self.attributes.source,
            "time": self.time,
            "status": status,
            "deliveryStatus": status if done else "pending",
        }
        if done and self.failed:
            content["error"] = {"code": "delivery.failed", "message": "injected by --fault"}
        return content


class EventBridge:
    """An event is accepted at once, and ``delivered`` or ``failed`` some time or some questions later."""

    def __init__(
        self,
        gate: AccessControl,
        item_faults: ItemFaults,
        clock: Clock,
        *,
        max_body_bytes: int,
        delivered_after_s: float,
        delivered_at_question: int,
        on_accepted: OnAccepted,
    ) -> None:
        self._gate = gate
        self._item_faults = item_faults
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._delivered_after_s = delivered_after_s
        self._delivered_at_question = delivered_at_question
        self._on_accepted = on_accepted
        self.reset()

    def reset(self) -> None:
        self._keys = IdempotencyKeys(self._clock)
        self._accepted: OrderedDict[str, _Accepted] = OrderedDict()

    async def publish(self, exchange: Exchange) -> Reply:
        """``POST``: 202 with the event; in batched mode with a list ``events``, and ``errors`` if any."""
        return await self._gate.with_token(exchange, self._publish)

    async def describe(self, exchange: Exchange) -> Reply:
        """``GET …/{id}``: how an event stands; 404 for one that is unknown, or not yet visible."""
        return await self._gate.with_token(exchange, self._describe)

    async def _publish(self, exchange: Exchange) -> Reply:
        check_form(exchange, max_body_bytes=self._max_body_bytes, json=False)
        published = read_events(exchange)
        key = exchange.headers.get("Idempotency-Key")
        if key is None:
            return await self._accept(exchange, published)
        if not 1 <= len(key) <= contract.MAX_ECHO:
            return exchange.error(400, "bad.request", "an Idempotency-Key has 1 to 255 characters")
        keys = self._keys  # a reset in the meantime puts a new table in its place
        body_digest = digest(*published.events)
        used = keys.claim(key, body_digest)
        if used is not None:
            return self._again(exchange, used, body_digest)
        try:
            reply = await self._accept(exchange, published)
            if reply.status == 202:  # a key stands for an event: what was refused has none
                keys.keep(key, reply)
        finally:
            keys.release(key)
        return reply

    def _again(self, exchange: Exchange, used: ClaimedKey, body_digest: bytes) -> Reply:
        """409 with the original as it stands now; 422 where the key stood for something else."""
        if used.body_digest != body_digest:
            message = "this Idempotency-Key was used with another event"
            return exchange.error(422, "idempotency.key.reused", message)
        if used.reply is None:
            message = "the first request with this Idempotency-Key is still being processed"
            return exchange.error(409, "idempotency.key.in.progress", message)
        first = msgspec.json.decode(used.reply.body)
        originals = first.get("events", [first])
        exchange.inbox.repeated += len(originals)
        now = self._clock.monotonic()
        current = [
            known.shown(now) if (known := self._accepted.get(original["id"])) else original
            for original in originals
        ]
        content = {**first, "events": current} if "events" in first else current[0]
        return Reply(409, msgspec.json.encode(content))

    async def _accept(self, exchange: Exchange, published: PublishedEvents) -> Reply:
        await self._gate.wait(exchange.order)
        identities = [_identity(attributes) for attributes in published.attributes]
        refused = self._refuse_some(exchange, published, identities)
        if refused and not published.batched:
            message = f"event 0 was not taken: {refused[0].message}"
            if refused[0].retryable:
                return exchange.error(503, "service.unavailable", message, errors=refused)
            return exchange.error(400, "bad.request", message, errors=refused)
        skipped = {error.index for error in refused}
        shown = [
            self._take(exchange, event, attributes, identity)
            for index, (event, attributes, identity) in enumerate(
                zip(published.events, published.attributes, identities, strict=True)
            )
            if index not in skipped
        ]
        if not published.batched:
            return Reply(202, msgspec.json.encode(shown[0]))
        content: dict[str, object] = {"accepted": len(shown), "events": shown}
        return Reply(202, msgspec.json.encode(content | ({"errors": refused} if refused else {})))

    def _refuse_some(
        self, exchange: Exchange, published: PublishedEvents, identities: Sequence[bytes]
    ) -> list[ContractError]:
        refused = [
            ContractError(index, published.attributes[index].id, "", again_words(again), retryable=again)
            for index, again in self._item_faults.pick(identities, exchange).items()
        ]
        exchange.inbox.item_errors += len(refused)
        return refused

    def _take(
        self, exchange: Exchange, event: bytes, attributes: EventAttributes, identity: bytes
    ) -> dict[str, object]:
        exchange.inbox.take(event, identity)
        self._on_accepted(exchange, event, attributes.type)
        faults, now = exchange.faults, self._clock.monotonic()
        fault, late = faults.strikes("status", identity), faults.strikes("late", identity)
        hidden = faults.strikes("hidden", identity)
        stuck = fault is not None and fault.kind == "status-stuck"
        accepted = _Accepted(
            id=f"evt-{uuid.uuid4()}",
            attributes=attributes,
            time=attributes.time or rfc3339(self._clock.wall(), "milliseconds"),
            visible_at=now + (hidden.delay_s if hidden else 0.0),
            delivered_at=math.inf if stuck else now + (late.delay_s if late else self._delivered_after_s),
            at_question=0 if stuck or late else self._delivered_at_question,
            failed=fault is not None and fault.kind == "status-fail",
        )
        self._accepted[accepted.id] = accepted
        if len(self._accepted) > MAX_EVENTS:
            self._accepted.popitem(last=False)
        return accepted.shown(now) | {"status": "accepted", "deliveryStatus": "pending"}

    async def _describe(self, exchange: Exchange) -> Reply:
        await self._gate.wait(exchange.order)
        accepted, now = self._accepted.get(exchange.params["id"]), self._clock.monotonic()
        if accepted is None or now < accepted.visible_at:
            return exchange.error(404, "not.found", "there is no such event")
        accepted.questions += 1
        return Reply(200, msgspec.json.encode(accepted.shown(now)))


def _identity(attributes: EventAttributes) -> bytes:
    """An event is another's copy if source and id are the same (CloudEvents 1.0.2, ``id``)."""
    return digest(attributes.source.encode("utf-8", "surrogatepass"), attributes.id.encode())
