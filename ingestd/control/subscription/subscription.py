"""Subscriptions: events of a topic, filtered, to a URL or by a role. One kind of ``resource.py``.

The organisation may have MAX_SUBSCRIPTIONS of them, from all clients together: counted over all pages before
one is made, and again after, for two may have counted at the same time.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ingestd.control.engine.arn import parse_function_arn, parse_role_arn, parse_topic_arn
from ingestd.control.engine.lookup import only_one
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
from ingestd.control.subscription.filter_policy import canonical_policy, parse_policy
from ingestd.control.subscription.lambda_callback import call_back
from ingestd.control.subscription.reach import TIMEOUT_S, UNPROVEN, Method, Reach, check_reach
from ingestd.core.address import is_exposed
from ingestd.core.errors import UserError
from ingestd.core.redaction import Mask
from ingestd.transport.api_client import AmbiguousRequest
from ingestd.transport.url_guard import UrlGuard

PATH = "/api/v2/events/eventbridgesubscriptions"
MAX_SUBSCRIPTIONS = 25
PAGE_SIZE, MAX_PAGES = 100, 100
MAX_URL_CHARACTERS = 2048

_FIELDS = frozenset(
    ("topic_arn", "filter_policy", "destination_url", "role_arn", "enabled", "check_destination", "callback")
)
_ANYWHERE = UrlGuard(allow_private=True)
_mask = Mask()
_FAILED = frozenset(("FAILED", "ERROR", "TIMEOUT", "REJECTED"))
_UNDERWAY = ("PENDING", "CREATING", "UPDATING", "ACTIVATING", "CONFIRMING")


@dataclass(frozen=True, slots=True)
class WantedSubscription(Wanted):
    """What is ours alone: ``method``: how the destination is looked at; ``callback``: the ARN of a Lambda
    function that is notified of changes, or nothing."""

    method: Method = Method.HEAD
    callback: str = ""


class SubscriptionKind(ResourceKind):
    """``[subscription.NAME]``: ``topic_arn``, ``filter_policy``, ``destination_url`` or ``role_arn`` or both,
    ``enabled`` (true); ``check_destination`` (HEAD, POST, NONE) and ``callback`` stay here."""

    name = "subscription"
    immutable: frozenset[str] = frozenset()

    def parse(self, name: str, table: Mapping[str, Any]) -> WantedSubscription:
        read = TableReader(self.name, name, table, known=_FIELDS)
        topic, role, callback = read.require("topic_arn"), read.get("role_arn"), read.get("callback")
        parse_topic_arn(topic, where=f"{read.where}: topic_arn")
        if role is not None:
            parse_role_arn(role, where=f"{read.where}: role_arn")
        if callback is not None:
            parse_function_arn(callback, where=f"{read.where}: callback")
        url = _parse_url(read)
        if not url and not role:
            raise read.wrong("destination_url", "give it, or role_arn, or both")
        method = str(read.get("check_destination") or "HEAD").upper()
        if method not in set(Method):
            raise read.wrong("check_destination", "expected HEAD, POST or NONE")
        key = read.name()
        fields = {
            "name": key,
            "topic_arn": topic,
            "filter_policy": parse_policy(
                read.require("filter_policy"), where=f"{read.where}: filter_policy"
            ),
            "destination_url": url,
            "role_arn": role or "",
            "enabled": read.flag("enabled", default=True),
        }
        return WantedSubscription(
            kind=self.name,
            name=name,
            key=key,
            fields=fields,
            after=read.after(),
            protected=read.protected(),
            method=Method(method),
            callback=callback or "",
        )

    async def read(self, context: Context) -> Sequence[RemoteResource]:
        return [_found(entity) for entity in await _list_all(context)]

    async def create(
        self, context: Context, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        """One of that name that exists by now is used. Raises UserError for too many, or a destination
        that cannot be one."""
        there = [_found(entity) for entity in await _list_all(context)]
        same = only_one([one for one in there if one.key == wanted.key], f"subscription {wanted.key}")
        if same and same.fields == wanted.fields:
            return _with_callback(same, wanted)
        if same:
            return await self.update(context, same, wanted, ids)
        if len(there) >= MAX_SUBSCRIPTIONS:
            problem = (
                f"the organisation has {len(there)}, and {MAX_SUBSCRIPTIONS} are possible: delete one first"
            )
            raise _failed(context, wanted, _wrong(wanted, problem))
        return await self._make(context, wanted)

    async def update(
        self, context: Context, found: RemoteResource, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        if found.fields["destination_url"] != wanted.fields["destination_url"]:
            await _check_destination(context, wanted)
        try:
            entity = await context.api.put(f"{PATH}/{found.id}", _body(wanted.fields))
        except UserError as error:
            raise _failed(context, wanted, error, id=found.id) from None
        changed = _found({"id": found.id, **(entity or {})}, sent=wanted.fields)
        context.note(AuditStep("SUBSCRIPTION_UPDATED", _about(changed)))
        return _with_callback(changed, wanted)

    async def settle(self, context: Context, found: RemoteResource, wanted: Wanted) -> RemoteResource:
        """Waits while the API says that it is under way, then tells the Lambda function."""
        if found.settled:
            return found
        begin, within_s = context.clock.monotonic(), context.deadline_s
        async for _ in context.polls(within_s=within_s):
            found = _found(await context.api.get_when_visible(f"{PATH}/{found.id}", deadline_s=within_s))
            if found.settled or _ended(found):
                break
        if not found.settled:
            spent_s = context.clock.monotonic() - begin
            problem = f"it is {found.state[:60]}, after {spent_s:.0f} s; it stays: apply again"
            raise _failed(context, wanted, _wrong(wanted, problem), id=found.id)
        if isinstance(wanted, WantedSubscription) and wanted.callback:
            await call_back(context, found, function_arn=wanted.callback, action="register_subscription")
        return found

    async def delete(self, context: Context, found: RemoteResource) -> None:
        await context.api.delete(f"{PATH}/{found.id}")
        context.note(AuditStep("SUBSCRIPTION_DELETED", _about(found)))

    def export(self, found: RemoteResource) -> Mapping[str, Any]:
        """Without what is not given."""
        return {name: value for name, value in found.fields.items() if value not in ("", {})}

    async def _make(self, context: Context, wanted: Wanted) -> RemoteResource:
        reach = await _check_destination(context, wanted)
        try:
            entity = await context.api.post(PATH, _body(wanted.fields))
        except UserError as error:
            lost = isinstance(error, AmbiguousRequest)
            same = [one for one in await _list_all(context) if one.get("name") == wanted.key] if lost else []
            if len(same) != 1:
                raise _failed(context, wanted, error) from None
            entity = same[0]
        found = _found(entity, sent=wanted.fields)
        # At once: the latency in it is that of the last request, which has to be the POST.
        context.note(AuditStep("SUBSCRIPTION_CREATED", _about(found) | _reached(reach)))
        await _count_again(context, entity, wanted)
        return _with_callback(found, wanted)


async def _list_all(context: Context) -> list[dict[str, Any]]:
    """All pages, by ``page_number``; without a ``page_count``, until one brings nothing new. Raises UserError
    for more pages than there can be: a wrong count would be worse."""
    by_id: dict[str, dict[str, Any]] = {}
    for number in range(1, MAX_PAGES + 1):
        page = await context.api.get(PATH, params={"page_size": PAGE_SIZE, "page_number": number})
        entities = page.get("entities") or []
        new = {str(entity["id"]): entity for entity in entities if str(entity["id"]) not in by_id}
        by_id |= new
        pages = page.get("page_count")
        if not new or (isinstance(pages, int) and number >= pages):
            return list(by_id.values())
    raise UserError(f"subscriptions: more than {MAX_PAGES} pages: they cannot be counted")


async def _count_again(context: Context, made: Mapping[str, Any], wanted: Wanted) -> None:
    """If two counted at the same time, the newest go, by the same rule for all who count: each its own."""
    there = {str(entity["id"]): entity for entity in [*await _list_all(context), made]}
    if len(there) <= MAX_SUBSCRIPTIONS:
        return
    oldest = sorted(there.values(), key=lambda one: (str(one.get("dateCreated") or ""), str(one["id"])))
    dated = all(one.get("dateCreated") for one in oldest)
    if dated and str(made["id"]) in {str(one["id"]) for one in oldest[:MAX_SUBSCRIPTIONS]}:
        return  # who came later takes theirs back
    await context.api.delete(f"{PATH}/{made['id']}")
    problem = (
        f"somebody else made one at the same time, and there are {len(there)} where {MAX_SUBSCRIPTIONS} are"
        " possible: the one just made was deleted again"
    )
    raise _failed(context, wanted, _wrong(wanted, problem), id=str(made["id"]))


async def _check_destination(context: Context, wanted: Wanted) -> Reach | None:
    """None where there is no URL."""
    url = wanted.fields["destination_url"]
    if not url:
        return None
    method = wanted.method if isinstance(wanted, WantedSubscription) else Method.HEAD
    where = f"subscription {wanted.key}: destination_url"
    guard = UrlGuard(allow_private=context.allow_private)
    try:
        return await check_reach(
            url, where=where, method=method, guard=guard, timeout_s=min(TIMEOUT_S, context.deadline_s)
        )
    except UserError as error:
        raise _failed(context, wanted, error) from None


def _with_callback(found: RemoteResource, wanted: Wanted) -> RemoteResource:
    """The callback is left to ``settle``: if it failed before the id is known, the failure would be lost."""
    owed = isinstance(wanted, WantedSubscription) and bool(wanted.callback)
    return replace(found, settled=found.settled and not owed)


def _reached(reach: Reach | None) -> dict[str, str | int]:
    fields: dict[str, str | int] = {"not_proved": UNPROVEN}
    if reach:
        fields |= {"destination_status": reach.status, "destination_proved": reach.proved}
    return fields


def _wrong(wanted: Wanted, problem: str) -> UserError:
    return UserError(f"subscription {wanted.key}: {problem}")


def _failed(context: Context, wanted: Wanted, error: UserError, **about: str) -> UserError:
    """Noted, to be raised."""
    context.note(AuditStep("SUBSCRIPTION_FAILED", {"name": wanted.key, **about, "error": str(error)}))
    return error


def _parse_url(read: TableReader) -> str:
    """As it stands: the API gives it back so. Whether it may be of our own network, the guard says later."""
    url = read.get("destination_url")
    if url is None:
        return ""
    if not isinstance(url, str) or len(url) > MAX_URL_CHARACTERS:
        raise read.wrong("destination_url", f"expected a URL of at most {MAX_URL_CHARACTERS} characters")
    _ANYWHERE.check_url(url, what=f"{read.where}: destination_url")
    if is_exposed(url):
        raise read.wrong("destination_url", "it must begin with https://")
    if "#" in url:
        raise read.wrong("destination_url", "a fragment is never sent: leave it out")
    if _mask(url) != url:
        raise read.wrong("destination_url", "there is a secret in it, which everybody could read")
    return url


def _body(fields: ResourceFields) -> dict[str, Any]:
    """As the seed on topic subscriptions writes it."""
    destination = {"url": fields["destination_url"], "arn": fields["role_arn"]}
    return {
        "name": fields["name"],
        "topic_arn": fields["topic_arn"],
        "filter_policy": fields["filter_policy"],
        "destination": {name: value for name, value in destination.items() if value},
        "enabled": fields["enabled"],
    }


def _found(entity: Mapping[str, Any], *, sent: ResourceFields | None = None) -> RemoteResource:
    """``sent``: what stands for fields that an answer leaves out."""
    whole: dict[str, Any] = (_body(sent) if sent else {}) | dict(entity)
    destination = whole.get("destination") or {}
    name = str(whole.get("name") or "")
    fields = {
        "name": name,
        "topic_arn": str(whole.get("topic_arn") or ""),
        "filter_policy": canonical_policy(whole.get("filter_policy") or {}),
        "destination_url": str(destination.get("url") or ""),
        "role_arn": str(destination.get("arn") or ""),
        "enabled": bool(whole.get("enabled", True)),
    }
    state = str(whole.get("status") or "")
    settled = state.upper() not in _FAILED and not state.upper().startswith(_UNDERWAY)
    return RemoteResource("subscription", name, str(whole["id"]), fields, state=state, settled=settled)


def _ended(found: RemoteResource) -> bool:
    return found.state.upper() in _FAILED


def _about(found: RemoteResource) -> dict[str, str | int | float | bool | None]:
    """``status`` is the API's own word, or None."""
    return {
        "id": found.id,
        "name": found.key,
        "status": found.state or None,
        "enabled": found.fields["enabled"],
    }
