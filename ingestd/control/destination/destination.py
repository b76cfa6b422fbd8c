"""Destinations: partner event buses and the event types that go there. One kind of ``resource.py``.

Made disabled, subscribed, verified and only then enabled, in steps that each look at the present state. If
one is interrupted, the next apply continues there.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any
from urllib.parse import quote

from ingestd.control.engine.arn import parse_bus_arn, source_of
from ingestd.control.engine.resource import (
    AuditStep,
    Context,
    RemoteResource,
    ResourceAddress,
    ResourceFields,
    ResourceKind,
    Wanted,
)
from ingestd.control.engine.table import TableReader
from ingestd.core.errors import UserError
from ingestd.core.text import cut
from ingestd.transport.api_client import AmbiguousRequest, gather

PATH = "/api/v2/event/destinations"
TYPES_A_CALL = 100
MAX_EVENT_TYPES = 5000
MAX_PARALLEL = 4
VERIFIED = "VERIFIED"

_ENDED = frozenset(("FAILED", "TIMEOUT"))
_FIELDS = frozenset(("description", "event_bus_arn", "event_types", "enabled"))
_SHOWN = 200


class DestinationKind(ResourceKind):
    """``[destination.NAME]``: ``event_bus_arn``, ``event_types``, ``description``, ``enabled`` (true)."""

    name = "destination"
    immutable: frozenset[str] = frozenset()

    def parse(self, name: str, table: Mapping[str, Any]) -> Wanted:
        read = TableReader(self.name, name, table, known=_FIELDS)
        arn = read.require("event_bus_arn")
        parse_bus_arn(arn, where=f"{read.where}: event_bus_arn", partner=True)
        key = read.name()
        fields = {
            "name": key,
            "description": read.text("description", most=512),
            "event_bus_arn": arn,
            "event_types": read.texts("event_types", most=MAX_EVENT_TYPES, most_characters=256),
            "enabled": read.flag("enabled", default=True),
        }
        return Wanted(self.name, name, key, fields, after=read.after(), protected=read.protected())

    async def read(self, context: Context) -> Sequence[RemoteResource]:
        there = await context.api.list(PATH)
        return await gather(*(_look(context, entity) for entity in there), limit=MAX_PARALLEL)

    async def create(
        self, context: Context, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        """Disabled, and nothing else yet. One of that name that exists by now is used: the answer to
        an earlier attempt may have been lost."""
        if there := await _look_up(context, wanted):
            return await self.update(context, there, wanted, ids)
        body = {"name": wanted.key, "type": "eventbridge", "enabled": False, **_body(wanted.fields)}
        try:
            entity = await context.api.post(PATH, body)
        except UserError as error:
            if isinstance(error, AmbiguousRequest) and (there := await _look_up(context, wanted)):
                return await self.update(context, there, wanted, ids)
            raise _failed(context, wanted, error) from None
        found = _found(entity, [], str(entity.get("status") or ""), wanted)
        _note(context, "DESTINATION_CREATED", found)
        return found

    async def update(
        self, context: Context, found: RemoteResource, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        """All but enabling, which ``settle`` does once it is verified."""
        sent, there = _body(wanted.fields), _body(found.fields)
        body = {name: value for name, value in sent.items() if there[name] != value}
        moved = "settings" in body
        if found.fields["enabled"] and (moved or not wanted.fields["enabled"]):
            body["enabled"] = False  # nothing goes to a bus that is not verified
        try:
            entity = await _patch(context, found, body)
            types = await _subscribe(context, found, wanted)
        except UserError as error:
            raise _failed(context, wanted, error, id=found.id) from None
        changed = _found(entity, types, "" if moved else found.state, wanted)
        _note(context, "DESTINATION_UPDATED", changed)
        return changed

    async def settle(self, context: Context, found: RemoteResource, wanted: Wanted) -> RemoteResource:
        """Subscribes what is missing, waits until it is verified, looks at both again, then enables."""
        if found.settled and found.fields == wanted.fields:
            return found
        await context.api.get_when_visible(_path(found), deadline_s=context.deadline_s)
        await _subscribe(context, found, wanted)
        await _wait_until_verified(context, found, wanted)
        types = await _types(context, found.id)
        if types != wanted.fields["event_types"]:
            different = sorted(set(wanted.fields["event_types"]) ^ set(types))
            problem = (
                f"its subscriptions are not as they were sent ({', '.join(different[:3])}); it stays disabled"
            )
            error = UserError(f"destination {wanted.key}: {problem}: apply again")
            raise _failed(context, wanted, error, id=found.id)
        enabled = wanted.fields["enabled"]
        entity = await _patch(context, found, {"enabled": enabled})
        settled = _found(entity, types, VERIFIED, wanted)
        _note(context, "DESTINATION_UPDATED", settled, step="enabled" if enabled else "left disabled")
        return settled

    async def delete(self, context: Context, found: RemoteResource) -> None:
        await context.api.delete(_path(found))
        _note(context, "DESTINATION_DELETED", found)

    def export(self, found: RemoteResource) -> Mapping[str, Any]:
        return dict(found.fields)


def _path(found: RemoteResource) -> str:
    return f"{PATH}/{quote(found.id, safe='')}"


async def _look_up(context: Context, wanted: Wanted) -> RemoteResource | None:
    same = [one for one in await context.api.list(PATH) if one.get("name") == wanted.key]
    if len(same) > 1:
        known = ", ".join(str(one["id"]) for one in same[:5])
        raise UserError(f"destination {wanted.key}: {len(same)} have that name: delete all but one ({known})")
    return await _look(context, same[0]) if same else None


async def _look(context: Context, entity: Mapping[str, Any]) -> RemoteResource:
    """With what its entry in the list does not have."""
    state = entity.get("status") or (await _verification(context, str(entity["id"])))[0]
    return _found(entity, await _types(context, str(entity["id"])), str(state))


async def _patch(context: Context, found: RemoteResource, body: Mapping[str, Any]) -> dict[str, Any]:
    """How it stands after that; where nothing is to be changed it is only read."""
    there = dict(await context.api.get_when_visible(_path(found), deadline_s=context.deadline_s))
    changed = {name: value for name, value in body.items() if there.get(name) != value}
    if not changed:
        return there
    # what was taken is so, also where the answer does not repeat it
    return there | dict(await context.api.patch(_path(found), changed) or {}) | changed


async def _types(context: Context, its_id: str) -> list[str]:
    return _names(await context.api.list(f"{PATH}/{quote(its_id, safe='')}/subscriptions"))


async def _subscribe(context: Context, found: RemoteResource, wanted: Wanted) -> list[str]:
    """Adds before it removes: at no moment is there less than what both worlds have."""
    there, wished = set(await _types(context, found.id)), set(wanted.fields["event_types"])
    missing = sorted(wished - there)
    for start in range(0, len(missing), TYPES_A_CALL):
        body = {"destinationId": found.id, "eventTypes": missing[start : start + TYPES_A_CALL]}
        await context.api.post(f"{PATH}/subscriptions", body)
    for name in sorted(there - wished):
        await context.api.delete(f"{_path(found)}/subscriptions/{quote(name, safe='')}")
    return sorted(wished)


async def _verification(context: Context, its_id: str) -> tuple[str, str]:
    """(state, the API's words for a failure)."""
    path = f"{PATH}/{quote(its_id, safe='')}/verify"
    answer = await context.api.get_when_visible(path, deadline_s=context.deadline_s) or {}
    return str(answer.get("status") or ""), cut(str(answer.get("error") or ""), _SHOWN)


async def _wait_until_verified(context: Context, found: RemoteResource, wanted: Wanted) -> None:
    begin, state, reason = context.clock.monotonic(), "", ""
    async for _ in context.polls():
        state, reason = await _verification(context, found.id)
        if state == VERIFIED:
            spent_s = round(context.clock.monotonic() - begin, 3)
            if found.state != VERIFIED:
                _note(context, "DESTINATION_VERIFIED", found, state=state, verification_s=spent_s)
            return
        if state in _ENDED:
            break
    shown = cut(state, 60) or "without a state"
    problem = shown if state in _ENDED else f"not verified within {context.deadline_s:.0f} s, still {shown}"
    problem += f": {reason}" if reason else ""
    _note(context, "DESTINATION_VERIFICATION_FAILED", found, state=state[:60], error=problem)
    source = source_of(parse_bus_arn(wanted.fields["event_bus_arn"], where=wanted.key))
    raise UserError(
        f"destination {wanted.key} ({found.id}): {problem}; it stays, disabled. Is {source} associated with a"
        " bus there? Then apply again"
    )


def _body(fields: ResourceFields) -> dict[str, Any]:
    """What a change may send."""
    return {
        "description": fields["description"],
        "settings": {"eventBridgeArn": fields["event_bus_arn"]},
    }


def _found(
    entity: Mapping[str, Any], types: list[str], state: str, wanted: Wanted | None = None
) -> RemoteResource:
    """``wanted``: where that is known, it is settled only once it is so."""
    name = str(entity.get("name") or "")
    fields = {
        "name": name,
        "description": entity.get("description") or "",
        "event_bus_arn": (entity.get("settings") or {}).get("eventBridgeArn") or "",
        "event_types": types,
        "enabled": bool(entity.get("enabled")),
    }
    settled = state == VERIFIED and (wanted is None or fields == wanted.fields)
    return RemoteResource("destination", name, str(entity["id"]), fields, state=state, settled=settled)


def _names(subscriptions: Iterable[Any]) -> list[str]:
    """A subscription has one type, or all of the call that made it."""
    names = set[str]()
    for one in subscriptions:
        names.update(map(str, one.get("eventTypes") or [one["eventType"]]))
    return sorted(names)


def _failed(context: Context, wanted: Wanted, error: UserError, **about: str) -> UserError:
    """Noted, to be raised."""
    context.note(AuditStep("DESTINATION_FAILED", {"name": wanted.key, **about, "error": str(error)}))
    return error


def _note(context: Context, entry: str, found: RemoteResource, **more: str | float) -> None:
    about = {"id": found.id, "name": found.key, "state": found.state, "enabled": found.fields["enabled"]}
    context.note(AuditStep(entry, about | more))
