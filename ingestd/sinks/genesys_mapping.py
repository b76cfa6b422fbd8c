"""From the interaction event to entries of ``POST /api/v2/events/conversations``. Used by ``genesys_events``.

    ANSWER       userEstablishedEvents with attributes.userId, communicationAnsweredEvents
    QUEUE        externalEstablishedEvents with attributes.ani or dnis, routingEstablishedEvents
    REQUEUE      routingTransferEvents, routingEstablishedEvents, progressTransferEvents, endTransferEvents
    TRANSFER     userTransferEvents, phoneTransferEvents or routingTransferEvents, progressTransferEvents
                 where attributes.destinationCommunicationId is given, endTransferEvents
    DISCONNECT   communicationEndedEvents of each leg that it speaks of

What each field of an entry is made from, is in ``docs/sinks/genesys_events.md``. An entry comes 1 ms after
the one before it. Ids become UUIDs by ``make_uuid``. The API keeps a state for each
communication; a mapping has none, so that the same event always gives the same entries. What an event says of
its own legs is all that is known of them: of the queue's, which a conversation has where events name no
communication, of a user's by ``attributes.userId``, of the outside's by ``attributes.ani`` or ``dnis``.
Source: the models ``*Event`` in ``schemas/genesys_models``; the enumerations, too.
"""

import re
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple
from uuid import UUID

import msgspec

from ingestd.schemas.rfc3339 import is_timestamp

_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
_TIME = re.compile(r"(.{17})(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", re.ASCII)


def is_uuid(text: str) -> bool:
    """Of any version, with its hyphens and without braces."""
    return _UUID.fullmatch(text) is not None


def make_uuid(foreign: str, *, kind: str, namespace: str) -> str:
    """The UUID of a foreign id; a UUID is kept as it is.

    BLAKE2b-128 with the version nibble 4, since some checks ask for it (the SDK says "V4 UUID").
    """
    if is_uuid(foreign):
        return foreign
    # with the lengths: no two (namespace, kind, foreign) make the same text
    text = f"{len(namespace)}:{namespace}{len(kind)}:{kind}{foreign}"
    return str(UUID(bytes=blake2b(text.encode(), digest_size=16).digest(), version=4))


def write_time(text: str, *, later_ms: int = 0) -> str:
    """An RFC 3339 time as ``yyyy-MM-ddTHH:mm:ss.SSSZ``, cut to the millisecond, ``later_ms`` later.

    A leap second becomes the last millisecond before it. Raises ValueError, which says what was expected.
    """
    match = _TIME.fullmatch(text.upper()) if is_timestamp(text) else None
    if match is None:
        raise ValueError("expected an RFC 3339 time with an offset, like 2026-01-01T10:00:00Z")
    seconds, ms = match[2], int((match[3] or "")[:3].ljust(3, "0"))
    if seconds == "60":
        seconds, ms = "59", 999
    offset = "+00:00" if match[4] == "Z" else match[4]
    try:
        moment = datetime.fromisoformat(match[1] + seconds + offset).astimezone(UTC)
        moment += timedelta(milliseconds=ms + later_ms)
    except (ValueError, OverflowError):
        raise ValueError("expected a time between the years 1 and 9999 UTC") from None
    return moment.isoformat(timespec="milliseconds").removesuffix("+00:00") + "Z"


MAX_ENTRIES = 4
"""The most entries that one event becomes."""
TRANSFER_TYPES = ("Attended", "Unattended")
FINAL_STATES = ("Completed", "Canceled", "Failed")
DISCONNECT_TYPES = (
    *("Error", "Peer", "Self", "System", "Transfer"),
    *("TransferACD", "TransferConference", "TransferConsult", "TransferUser"),
)


class GenesysEntry(NamedTuple):
    """One entry of a request's body."""

    array: str
    """The array that it stands in."""
    body: bytes
    event_id: str


class _Routing(msgspec.Struct, gc=False, rename="camel"):
    action_type: str
    queue_id: str = ""
    skill: str = ""


class _Attributes(msgspec.Struct, frozen=True, gc=False, rename="camel"):
    conversation_id: str | None = None
    communication_id: str | None = None
    initiating_communication_id: str | None = None
    target_communication_id: str | None = None
    object_communication_id: str | None = None
    destination_communication_id: str | None = None
    command_id: str | None = None
    transfer_type: str | None = None
    final_state: str | None = None
    disconnect_type: str | None = None
    user_id: str | None = None
    destination_user_id: str | None = None
    destination_phone_number: str | None = None
    skill_ids: list[str] | None = None
    language_id: str | None = None
    ani: str | None = None
    dnis: str | None = None
    phone_number: str | None = None
    inbound: bool | None = None
    tag_id: str | None = None


class _Interaction(msgspec.Struct, gc=False, rename="camel"):
    event_type: str
    event_time: str
    interaction_id: str
    routing_metadata: _Routing
    attributes: _Attributes = _Attributes()
    event_id: str | None = None


_decode = msgspec.json.Decoder(_Interaction).decode


class InteractionMapping:
    """``namespace``: ids of two platforms that share an organisation must not meet."""

    def __init__(self, source_id: str, *, namespace: str = "") -> None:
        self._source_id = source_id
        self._namespace = namespace or source_id

    def conversation_id(self, event: bytes) -> str:
        """Raises ValueError and RecursionError."""
        return _Ids(_decode(event), self._namespace).conversation

    def entries(self, event: bytes) -> list[GenesysEntry]:
        """At least one, at most MAX_ENTRIES. Raises ValueError and RecursionError."""
        seen = _decode(event)
        if not seen.interaction_id:
            raise ValueError("interactionId is empty")
        draft = _ACTIONS.get(seen.routing_metadata.action_type)
        if draft is None:
            raise ValueError(f"routingMetadata.actionType: expected one of {', '.join(_ACTIONS)}")
        ids = _Ids(seen, self._namespace)
        made: list[GenesysEntry] = []
        for array, fields in draft(seen, ids, self._source_id):
            try:
                time = write_time(seen.event_time, later_ms=len(made))
            except ValueError as error:
                raise ValueError(f"eventTime: {error}") from None
            event_id = ids.of_entry(array, fields.get("communicationId", ""), first=not made)
            common = {"eventId": event_id, "eventDateTime": time, "conversationId": ids.conversation}
            made.append(GenesysEntry(array, msgspec.json.encode(common | fields), event_id))
        return made


class _Ids:
    """The UUIDs of one event."""

    def __init__(self, seen: _Interaction, namespace: str) -> None:
        self._attributes = seen.attributes
        self._interaction_id = seen.interaction_id
        self._own = seen.event_id
        self._namespace = namespace
        identity = (seen.interaction_id, seen.event_type, seen.event_time, seen.routing_metadata.action_type)
        self._identity = msgspec.json.encode(seen.event_id or identity).decode()
        self.conversation = self.make(seen.attributes.conversation_id or seen.interaction_id, "conversation")

    def make(self, foreign: str, kind: str) -> str:
        return make_uuid(foreign, kind=kind, namespace=self._namespace)

    def communication(self, foreign: str | None = None) -> str:
        """Of the event; ``foreign``: where an attribute names another one."""
        named = foreign or self._attributes.communication_id
        # never the conversation's own UUID, even if the interactionId is one
        return self.make(named or f"interaction {self._interaction_id}", "communication")

    def user(self) -> str:
        """Of the user's leg, which answers where it is named."""
        attributes = self._attributes
        user = f"interaction {self._interaction_id} user {attributes.user_id}"
        return self.make(attributes.communication_id or user, "communication")

    @property
    def has_outside(self) -> bool:
        return bool(self._attributes.ani or self._attributes.dnis)

    def outside(self) -> str:
        """Of the leg of the caller, or of the person who is called."""
        return self.make(f"interaction {self._interaction_id} outside", "communication")

    def destination(self) -> str:
        """Where a transfer leads; a new leg where none is named."""
        named = self._attributes.destination_communication_id
        return self.make(named or f"destination {self._identity}", "communication")

    def of_entry(self, array: str, communication: str, *, first: bool) -> str:
        """A UUID of the event's own is its first entry's: no two may share one."""
        if first and self._own and is_uuid(self._own):
            return self._own
        ended = f" {communication}" if array == "communicationEndedEvents" and not first else ""
        return self.make(self._identity, f"event {array}{ended}")

    def command(self) -> str:
        return self.make(self._attributes.command_id or self._identity, "command")


_Draft = tuple[str, dict[str, Any]]
"""An entry: its array and its own fields."""


def _answer(seen: _Interaction, ids: _Ids, source_id: str) -> list[_Draft]:
    if not seen.attributes.user_id:
        return [("communicationAnsweredEvents", {"communicationId": ids.communication()})]
    established = _established(seen, ids.user(), source_id, {"userId": seen.attributes.user_id})
    established["initialConfiguration"]["alerting"] = True
    return [
        ("userEstablishedEvents", established),
        ("communicationAnsweredEvents", {"communicationId": ids.user()}),
    ]


def _queue(seen: _Interaction, ids: _Ids, source_id: str) -> list[_Draft]:
    queued: _Draft = _routing_established(seen, ids.communication(), source_id)
    if not ids.has_outside:
        return [queued]
    return [("externalEstablishedEvents", _established(seen, ids.outside(), source_id, {})), queued]


def _requeue(seen: _Interaction, ids: _Ids, source_id: str) -> list[_Draft]:
    transfer = _transfer(seen, ids)
    return [
        ("routingTransferEvents", transfer | _to_queue(seen, "destinationQueueId")),
        _routing_established(seen, ids.destination(), source_id),
        _progress(transfer, ids.destination()),
        _end(seen, transfer),
    ]


def _transferred(seen: _Interaction, ids: _Ids, source_id: str) -> list[_Draft]:
    attributes = seen.attributes
    transfer = _transfer(seen, ids)
    if attributes.destination_user_id:
        array, to = "userTransferEvents", {"destinationUserId": attributes.destination_user_id}
    elif attributes.destination_phone_number:
        array, to = "phoneTransferEvents", {"destinationPhoneNumber": attributes.destination_phone_number}
    else:
        array, to = "routingTransferEvents", _to_queue(seen, "destinationQueueId")
    named = attributes.destination_communication_id
    progress = [_progress(transfer, ids.destination())] if named else []
    return [(array, transfer | to), *progress, _end(seen, transfer)]


def _progress(transfer: dict[str, Any], destination: str) -> _Draft:
    of_it = {name: transfer[name] for name in ("commandId", "objectCommunicationId")}
    return "progressTransferEvents", of_it | {"destinationCommunicationId": destination}


def _end(seen: _Interaction, transfer: dict[str, Any]) -> _Draft:
    state = _one_of(FINAL_STATES, seen.attributes.final_state, "finalState") or "Completed"
    of_it = {name: transfer[name] for name in ("commandId", "objectCommunicationId")}
    return "endTransferEvents", of_it | {"finalState": state}


def _disconnect(seen: _Interaction, ids: _Ids, source_id: str) -> list[_Draft]:
    """Of a communication that it names, or of all legs that it speaks of."""
    how = _one_of(DISCONNECT_TYPES, seen.attributes.disconnect_type, "disconnectType") or "System"
    legs = [ids.communication()]
    if not seen.attributes.communication_id:
        legs += [ids.user()] if seen.attributes.user_id else []
        legs += [ids.outside()] if ids.has_outside else []
    return [("communicationEndedEvents", {"communicationId": leg, "disconnectType": how}) for leg in legs]


_ACTIONS = {
    "ANSWER": _answer,
    "QUEUE": _queue,
    "REQUEUE": _requeue,
    "TRANSFER": _transferred,
    "DISCONNECT": _disconnect,
}


def _routing_established(seen: _Interaction, communication: str, source_id: str) -> _Draft:
    more = _to_queue(seen, "queueId")
    if seen.attributes.phone_number:
        more["phoneNumber"] = seen.attributes.phone_number
    return "routingEstablishedEvents", _established(seen, communication, source_id, more)


def _established(
    seen: _Interaction, communication: str, source_id: str, more: dict[str, Any]
) -> dict[str, Any]:
    attributes, skill = seen.attributes, seen.routing_metadata.skill
    initial: dict[str, Any] = {"inbound": attributes.inbound is not False}
    if skill and not is_uuid(skill):
        initial["additionalInfo"] = {"skill": skill}
    source = {"sourceId": source_id, "interactionId": seen.interaction_id}
    if attributes.tag_id:
        source["tagId"] = attributes.tag_id
    given = {"ani": attributes.ani, "dnis": attributes.dnis}
    return {
        "communicationId": communication,
        **more,
        **{name: text for name, text in given.items() if text},
        "initialConfiguration": initial,
        "sourceConfiguration": source,
    }


def _transfer(seen: _Interaction, ids: _Ids) -> dict[str, Any]:
    attributes = seen.attributes
    how = _one_of(TRANSFER_TYPES, attributes.transfer_type, "transferType") or "Unattended"
    who = ids.user() if attributes.user_id else ids.communication()
    whom = ids.outside() if ids.has_outside else ids.communication()
    named = {
        "initiatingCommunicationId": (attributes.initiating_communication_id, who),
        "targetCommunicationId": (attributes.target_communication_id, who),
        "objectCommunicationId": (attributes.object_communication_id, whom),
    }
    legs = {name: ids.communication(given) if given else usual for name, (given, usual) in named.items()}
    return {"transferType": how, "commandId": ids.command(), **legs}


def _to_queue(seen: _Interaction, field: str) -> dict[str, Any]:
    """Queue, skills and language. Skills that are only names have no place in the API."""
    routing, attributes = seen.routing_metadata, seen.attributes
    if not routing.queue_id:
        raise ValueError("routingMetadata.queueId is missing")
    to: dict[str, Any] = {field: routing.queue_id}
    if skills := attributes.skill_ids or [skill for skill in [routing.skill] if is_uuid(skill)]:
        to["skillIds"] = skills
    if attributes.language_id:
        to["languageId"] = attributes.language_id
    return to


def _one_of(allowed: tuple[str, ...], given: str | None, field: str) -> str | None:
    """As the API spells it, whatever the case; None if not given. Raises ValueError."""
    if not given:
        return None
    for word in allowed:
        if word.lower() == given.lower():
            return word
    raise ValueError(f"attributes.{field}: expected one of {', '.join(allowed)}")
