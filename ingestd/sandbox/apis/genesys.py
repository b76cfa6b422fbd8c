"""The inbound event APIs of Genesys Cloud: ``POST /api/v2/events/…``.

Bodies of typed arrays, answers that name the refused events by ``eventId``. What an entry has to have is what
the models of the platform's SDKs say, in ``schemas/genesys_models``; the limit of 100 events is in their
description. Joined to their routes by ``sandbox/remote_apis.py``.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from ingestd.sandbox.access import AccessControl, check_form
from ingestd.sandbox.apis.communications import Communications
from ingestd.sandbox.apis.entries import ReceivedEntry, read_entry
from ingestd.sandbox.contract import ErrorDetail, Reply, RequestRefused
from ingestd.sandbox.exchange import Exchange
from ingestd.sandbox.inbox import digest
from ingestd.sandbox.item_faults import ItemFaults, again_words
from ingestd.schemas.genesys_models import EventApi, model

MAX_EVENT_IDS = 200_000
"""Event ids that are recognised when they come again."""

_BODY = msgspec.json.Decoder(dict[str, list[msgspec.Raw]])


class _ItemError(msgspec.Struct, frozen=True, rename="camel"):
    event_id: str
    message: str
    retryable: bool


class _Place(NamedTuple):
    """Of an entry in the body: ``communicationEndedEvents[3]``."""

    array: str
    at: int


class BatchEvents:
    """One of the four. An event with an id that was taken before is recognised and not taken again."""

    def __init__(
        self,
        kind: EventApi,
        gate: AccessControl,
        item_faults: ItemFaults,
        *,
        max_body_bytes: int,
        max_events: int,
        keeps_states: bool,
    ) -> None:
        self.kind = kind
        self._gate = gate
        self._item_faults = item_faults
        self._max_body_bytes = max_body_bytes
        self._max_events = max_events
        self._keeps_states = keeps_states and "communicationEndedEvents" in kind.arrays
        self.reset()

    def reset(self) -> None:
        self._communications = Communications(keeps_states=self._keeps_states)
        self._accepted_ids: OrderedDict[str, bytes] = OrderedDict()

    async def publish(self, exchange: Exchange) -> Reply:
        """200 with ``errors``: what was not taken. 400 for a body whose events have no distinct ids."""
        return await self._gate.with_token(exchange, self._publish)

    async def _publish(self, exchange: Exchange) -> Reply:
        check_form(exchange, max_body_bytes=self._max_body_bytes)
        await self._gate.wait(exchange.order)
        # Arrays have no order between them, times do; of the same time, the name says who is first.
        entries = [self._read(exchange, place, raw) for place, raw in self._places(exchange)]
        entries.sort(key=lambda entry: entry.time)
        by_order = self._item_faults.pick([digest(entry.event_id.encode()) for entry in entries], exchange)
        errors = []
        for index, entry in enumerate(entries):
            if index in by_order:
                fault: str | None = again_words(by_order[index])
            else:
                fault = self._take(exchange, entry)
            if fault is not None:
                errors.append(_ItemError(entry.event_id, fault, by_order.get(index, False)))
        exchange.inbox.item_errors += len(errors)
        return Reply(200, msgspec.json.encode({"errors": errors}))

    def _places(self, exchange: Exchange) -> Iterator[tuple[_Place, bytes]]:
        """All entries, the arrays by name."""
        arrays = self._read_body(exchange)
        if unknown := sorted(arrays.keys() - self.kind.arrays.keys()):
            details = [ErrorDetail("unknown.property", name[:100]) for name in unknown[:10]]
            message = f"{unknown[0][:100]!r} is not an array of this API"
            raise RequestRefused(exchange.error(400, "bad.request", message, details=details))
        count = sum(map(len, arrays.values()))
        if not 1 <= count <= self._max_events:
            message = f"{count} events: 1 to {self._max_events} are allowed in a request"
            raise RequestRefused(exchange.error(400, "bad.request", message))
        for name in sorted(arrays):
            for index, raw in enumerate(arrays[name]):
                yield _Place(name, index), bytes(raw)

    def _read_body(self, exchange: Exchange) -> Mapping[str, list[msgspec.Raw]]:
        try:
            return _BODY.decode(exchange.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as reason:
            message = f"expected an object of arrays in JSON: {str(reason)[:200]}"
            raise RequestRefused(exchange.error(400, "bad.request", message)) from None

    def _read(self, exchange: Exchange, place: _Place, raw: bytes) -> ReceivedEntry:
        try:
            return read_entry(place.array, raw)
        except ValueError as reason:
            field = f"{place.array}[{place.at}].eventId"
            details = [ErrorDetail("invalid.property", field)]
            raise RequestRefused(
                exchange.error(400, "bad.request", f"{field}: {reason}", details=details)
            ) from None

    def _take(self, exchange: Exchange, entry: ReceivedEntry) -> str | None:
        """Why this entry is refused for good, if it is."""
        fault = model(self.kind.arrays[entry.array]).find_fault(entry.raw)
        if fault is not None:
            return fault
        if entry.event_id in self._accepted_ids:
            if self._accepted_ids[entry.event_id] != entry.content:
                return "eventId was used for another event"
            exchange.inbox.repeated += 1
            return None
        subject, communication = entry.text(self.kind.subject), entry.text("communicationId")
        fault = self._communications.fault(entry.array, subject, communication)
        if fault is not None:
            return fault
        self._communications.note(entry.array, subject, communication)
        if self._communications.is_late(f"{subject} {communication}", entry.time):
            exchange.inbox.out_of_order += 1
        self._accepted_ids[entry.event_id] = entry.content
        if len(self._accepted_ids) > MAX_EVENT_IDS:
            self._accepted_ids.popitem(last=False)
        exchange.inbox.take(entry.raw, entry.content)
        return None
