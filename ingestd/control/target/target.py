"""HTTPS endpoints that get events: ``[target.NAME]``, after the seed on targets. One kind of ``resource.py``.

A target is made, then verified by the API, which takes a while: its id is known before that begins, and the
next apply continues with one whose verification did not end.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.control.engine.lookup import only_one
from ingestd.control.engine.resource import (
    AuditStep,
    Context,
    RemoteResource,
    ResourceAddress,
    ResourceKind,
    Wanted,
)
from ingestd.control.engine.secret import SecretRef
from ingestd.control.engine.table import TableReader
from ingestd.control.target import verification, webhook_sync
from ingestd.control.target.payload import (
    MissingId,
    WantedTarget,
    WriteOnlyAuth,
    build_body,
    export,
    read_target,
)
from ingestd.control.target.table import TargetTable, read_table
from ingestd.control.target.verification import ENDED, PATH, about, path_of
from ingestd.control.target.webhook_sync import Webhook
from ingestd.core.errors import Unreachable, UserError
from ingestd.core.text import cut
from ingestd.transport.api_client import AmbiguousRequest, ApiError

LOOK_UP_S = 15.0


class Target(ResourceKind):
    """``[target.NAME]``: see ``target_table.TargetTable``."""

    name = "target"
    immutable: frozenset[str] = frozenset()

    def parse(self, name: str, table: Mapping[str, Any]) -> WantedTarget:
        after = TableReader(self.name, name, table, known=TargetTable.model_fields.keys()).after()
        parsed, header_secrets = read_table(name, table)
        auth = {field: value for field, value in parsed.auth if field != "type" and value is not None}
        secrets = {f"auth.{field}": ref for field, ref in auth.items() if isinstance(ref, SecretRef)}
        secrets |= {f"headers.{header}": reference for header, reference in header_secrets.items()}
        if stated := {field: value for field, value in auth.items() if f"auth.{field}" not in secrets}:
            secrets["auth"] = WriteOnlyAuth.of(stated)
        webhook = parsed.webhook
        fields = parsed.model_dump(exclude={"auth", "protected", "webhook"})
        return WantedTarget(
            kind=self.name,
            name=name,
            key=parsed.name,
            fields=fields | {"auth": {"type": parsed.auth.type}},
            secrets=secrets,
            after=after,
            protected=parsed.protected,
            webhook=Webhook(webhook.url, webhook.secret) if webhook else None,
        )

    async def read(self, context: Context) -> Sequence[RemoteResource]:
        return [read_target(entity) for entity in await context.api.list(PATH)]

    async def create(
        self, context: Context, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        """One of that name that exists by now is used: the answer to an earlier attempt may have been
        lost. Raises UserError where there are several."""
        body = build_body(context, wanted)
        if there := await self._look_up(context, wanted):
            return await self._put(context, there, wanted, body, adopted=True)
        start = context.clock.monotonic()
        try:
            found = read_target(await context.api.post(PATH, body), wanted)
        except (AmbiguousRequest, MissingId) as lost:
            there = await self._look_up_again(context, wanted, lost)
            return await self._put(context, there, wanted, body, adopted=True)
        except (ApiError, Unreachable) as refused:
            conflict = isinstance(refused, ApiError) and refused.status == 409  # by somebody who was faster
            if conflict and (there := await self._look_up(context, wanted)):
                return await self._put(context, there, wanted, body, adopted=True)
            context.note(AuditStep("TARGET_FAILED", {"name": wanted.key, "error": str(refused)}))
            raise
        latency_ms = round((context.clock.monotonic() - start) * 1000, 1)
        context.note(AuditStep("TARGET_CREATED", about(found) | {"latency_ms": latency_ms}))
        await _sync_webhook(context, found, wanted)
        return found

    async def update(
        self, context: Context, found: RemoteResource, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        return await self._put(context, found, wanted, build_body(context, wanted))

    async def settle(self, context: Context, found: RemoteResource, wanted: Wanted) -> RemoteResource:
        """One that failed is sent once more first, in case that makes the API verify it again."""
        if found.settled:
            return found
        if found.state in ENDED:
            found = await self._put(context, found, wanted, build_body(context, wanted))
            if found.settled:
                return found
        found = await self.verify(context, found)
        await _sync_webhook(context, found, wanted)
        return found

    async def delete(self, context: Context, found: RemoteResource) -> None:
        await context.api.delete(path_of(found))
        context.note(AuditStep("TARGET_DELETED", about(found)))

    def export(self, found: RemoteResource) -> Mapping[str, Any]:
        return export(found)

    async def verify(self, context: Context, found: RemoteResource) -> RemoteResource:
        """See ``verification``."""
        return await verification.verify(context, found)

    async def health(self, context: Context, found: RemoteResource) -> Mapping[str, Any]:
        """Have the API look at the endpoint; its answer, such as ``{"status": "HEALTHY"}``."""
        start = context.clock.monotonic()
        answer = await context.api.post(f"{path_of(found)}/health")
        health: dict[str, Any] = answer if isinstance(answer, dict) else {}
        fields: dict[str, str | float] = {
            "status": cut(str(health.get("status", "")), 60),
            "latency_ms": round((context.clock.monotonic() - start) * 1000, 1),
        }
        context.note(AuditStep("HEALTH_CHECK_TRIGGERED", about(found) | fields))
        return health

    async def _put(
        self,
        context: Context,
        found: RemoteResource,
        wanted: Wanted,
        body: Mapping[str, Any],
        *,
        adopted: bool = False,
    ) -> RemoteResource:
        try:
            entity = await context.api.put(path_of(found), body)
        except (ApiError, Unreachable) as refused:
            context.note(AuditStep("TARGET_FAILED", about(found) | {"error": str(refused)}))
            raise
        known = entity if isinstance(entity, dict) else {}
        changed = read_target({**known, "id": found.id}, wanted)
        context.note(AuditStep("TARGET_UPDATED", about(changed) | {"adopted": adopted}))
        await _sync_webhook(context, changed, wanted)
        return changed

    async def _look_up(self, context: Context, wanted: Wanted) -> RemoteResource | None:
        same = [found for found in await self.read(context) if found.key == wanted.key]
        return only_one(same, f"target {wanted.key}")

    async def _look_up_again(self, context: Context, wanted: Wanted, lost: UserError) -> RemoteResource:
        """After a POST that may have been done: a second one might make a second target."""
        within_s = min(LOOK_UP_S, context.deadline_s)
        async for _ in context.polls(within_s=within_s, first_s=0.2, longest_s=2.0):
            if there := await self._look_up(context, wanted):
                return there
        context.note(AuditStep("TARGET_FAILED", {"name": wanted.key, "error": str(lost)}))
        raise lost


async def _sync_webhook(context: Context, found: RemoteResource, wanted: Wanted) -> None:
    """Tell the gateway once the target is settled."""
    if found.settled and isinstance(wanted, WantedTarget) and wanted.webhook:
        await webhook_sync.sync(context, found, wanted.webhook)
