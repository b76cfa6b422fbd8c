"""``/api/v2/journey/externalevents/configurations/{id}/events``: external events of a customer's journey.

Joined to its route by ``sandbox/remote_apis.py``.
"""

from collections.abc import Sequence
from typing import Any

import msgspec

from ingestd.sandbox.access import AccessControl, check_form
from ingestd.sandbox.contract import Reply, RequestRefused
from ingestd.sandbox.exchange import Exchange
from ingestd.sandbox.inbox import digest
from ingestd.sandbox.item_faults import ItemFaults, again_words
from ingestd.schemas.genesys_models import model

MAX_ATTRIBUTES = 50
"""Of an event, as the platform's documentation says."""


class _Body(msgspec.Struct):
    entities: list[msgspec.Raw]


class _Unprocessed(msgspec.Struct, frozen=True, rename="camel"):
    event: msgspec.Raw
    original_request_index: int
    is_retryable: bool
    error_message: str
    status_code: int


_BODY = msgspec.json.Decoder(_Body)
_ENTITY = msgspec.json.Decoder(dict[str, Any])


class JourneyEvents:
    """Nothing says that the platform recognises an event that comes again, so it is taken twice here."""

    def __init__(
        self,
        gate: AccessControl,
        item_faults: ItemFaults,
        *,
        max_body_bytes: int,
        configurations: Sequence[str] | None,
    ) -> None:
        self._gate = gate
        self._item_faults = item_faults
        self._max_body_bytes = max_body_bytes
        self._configurations = configurations

    async def publish(self, exchange: Exchange) -> Reply:
        """200 with ``unprocessedEntities``; 404 for a configuration that is not there."""
        return await self._gate.with_token(exchange, self._publish)

    async def _publish(self, exchange: Exchange) -> Reply:
        check_form(exchange, max_body_bytes=self._max_body_bytes)
        if self._configurations is not None and exchange.params["id"] not in self._configurations:
            return exchange.error(404, "not.found", "there is no such configuration")
        await self._gate.wait(exchange.order)
        entities = _read(exchange)
        checked = [_check(raw) for raw in entities]
        identities = [identity for identity, _ in checked]
        invalid = {index for index, (_, fault) in enumerate(checked) if fault is not None}
        by_order = self._item_faults.pick(identities, exchange, spare=invalid)
        unprocessed = []
        for index, (raw, (identity, fault)) in enumerate(zip(entities, checked, strict=True)):
            again = by_order.get(index, False)
            refusal = again_words(again) if index in by_order else fault
            if refusal is None:
                exchange.inbox.take(bytes(raw), identity)
            else:
                unprocessed.append(_Unprocessed(raw, index, again, refusal, 503 if again else 400))
        exchange.inbox.item_errors += len(unprocessed)
        return Reply(200, msgspec.json.encode({"unprocessedEntities": unprocessed}))


def _read(exchange: Exchange) -> list[msgspec.Raw]:
    try:
        entities = _BODY.decode(exchange.body).entities
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
        message = f'expected {{"entities":[…]}} in JSON: {str(reason)[:200]}'
        raise RequestRefused(exchange.error(400, "bad.request", message)) from None
    if not entities:
        raise RequestRefused(exchange.error(400, "bad.request", "the list of entities is empty"))
    return entities


def _check(raw: msgspec.Raw) -> tuple[bytes, str | None]:
    """(identity, what is wrong with it): its ``id``, or its bytes where it has none."""
    content = bytes(raw)
    try:
        entity = _ENTITY.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return digest(content), "an object expected"
    name = entity.get("id")
    if not isinstance(name, str) or not name:
        return digest(content), "id: a text expected"
    return digest(name.encode("utf-8", "surrogatepass")), _find_fault(entity)


def _find_fault(entity: dict[str, Any]) -> str | None:
    if fault := model("ExternalEvent").find_fault_of(entity):
        return fault
    external = entity["identifiers"]["externalIds"]
    if not external or not all(one["value"] for one in external):
        return "identifiers.externalIds: a list with at least one expected, and a value in each"
    if len(entity["attributes"]) > MAX_ATTRIBUTES:
        return f"attributes: an object with at most {MAX_ATTRIBUTES} members expected"
    return None
