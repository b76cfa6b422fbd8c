"""HTTPS endpoints that get events: ``[target.NAME]``, after the seed on targets. One kind of ``resource.py``.

A target is made, then verified by the API, which takes a while: its id is known before that begins, and the
next apply goes on with one whose verification did not come to an end.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.control import target_verification, webhook_sync
from ingestd.control.resource import Address, Context, Found, Step, Wanted
from ingestd.control.secret import SecretRef
from ingestd.control.table import Table
from ingestd.control.target_payload import NoId, Stated, WantedTarget, build_body, export, read_target
from ingestd.control.target_table import TargetTable, read_table
from ingestd.control.target_verification import ENDED, PATH, about, path_of
from ingestd.control.webhook_sync import Webhook
from ingestd.core.errors import Unreachable, UserError
from ingestd.schemas.refusals import cut
from ingestd.transport.api_client import Ambiguous, ApiError

LOOK_UP_S = 15.0


class Target:
    """``[target.NAME]``: see ``target_table.TargetTable``."""

    name = "target"
    immutable: frozenset[str] = frozenset()

    def parse(self, name: str, table: Mapping[str, Any]) -> WantedTarget:
        after = Table(self.name, name, table, known=TargetTable.model_fields.keys()).after()
        parsed, header_secrets = read_table(name, table)
        auth = {field: value for field, value in parsed.auth if field != "type" and value is not None}
        secrets = {f"auth.{field}": ref for field, ref in auth.items() if isinstance(ref, SecretRef)}
        secrets |= {f"headers.{header}": reference for header, reference in header_secrets.items()}
        if stated := {field: value for field, value in auth.items() if f"auth.{field}" not in secrets}:
            secrets["auth"] = Stated.of(stated)
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

    async def read(self, context: Context) -> Sequence[Found]:
        return [read_target(entity) for entity in await context.api.list(PATH)]

    async def create(self, context: Context, wanted: Wanted, ids: Mapping[Address, str]) -> Found:
        """One of that name that is there by now is taken up: the answer to an earlier attempt may have been
        lost. Raises UserError where there are several."""
        body = build_body(context, wanted)
        if there := await self._look_up(context, wanted):
            return await self._put(context, there, wanted, body, adopted=True)
        start = context.monotonic()
        try:
            found = read_target(await context.api.post(PATH, body), wanted)
        except (Ambiguous, NoId) as lost:
            there = await self._look_up_again(context, wanted, lost)
            return await self._put(context, there, wanted, body, adopted=True)
        except (ApiError, Unreachable) as refused:
            taken = isinstance(refused, ApiError) and refused.status == 409  # by somebody who was faster
            if taken and (there := await self._look_up(context, wanted)):
                return await self._put(context, there, wanted, body, adopted=True)
            context.note(Step("TARGET_FAILED", {"name": wanted.key, "error": str(refused)}))
            raise
        latency_ms = round((context.monotonic() - start) * 1000, 1)
        context.note(Step("TARGET_CREATED", about(found) | {"latency_ms": latency_ms}))
        await _tell(context, found, wanted)
        return found

    async def update(
        self, context: Context, found: Found, wanted: Wanted, ids: Mapping[Address, str]
    ) -> Found:
        return await self._put(context, found, wanted, build_body(context, wanted))

    async def settle(self, context: Context, found: Found, wanted: Wanted) -> Found:
        """One that failed is sent once more first, in case that has the API verify it anew."""
        if found.settled:
            return found
        if found.state in ENDED:
            found = await self._put(context, found, wanted, build_body(context, wanted))
            if found.settled:
                return found
        found = await self.verify(context, found)
        await _tell(context, found, wanted)
        return found

    async def delete(self, context: Context, found: Found) -> None:
        await context.api.delete(path_of(found))
        context.note(Step("TARGET_DELETED", about(found)))

    def export(self, found: Found) -> Mapping[str, Any]:
        return export(found)

    async def verify(self, context: Context, found: Found) -> Found:
        """See ``target_verification``."""
        return await target_verification.verify(context, found)

    async def health(self, context: Context, found: Found) -> Mapping[str, Any]:
        """Have the API look at the endpoint; its answer, such as ``{"status": "HEALTHY"}``."""
        start = context.monotonic()
        answer = await context.api.post(f"{path_of(found)}/health")
        health: dict[str, Any] = answer if isinstance(answer, dict) else {}
        fields: dict[str, str | float] = {
            "status": cut(str(health.get("status", "")), 60),
            "latency_ms": round((context.monotonic() - start) * 1000, 1),
        }
        context.note(Step("HEALTH_CHECK_TRIGGERED", about(found) | fields))
        return health

    async def _put(
        self,
        context: Context,
        found: Found,
        wanted: Wanted,
        body: Mapping[str, Any],
        *,
        adopted: bool = False,
    ) -> Found:
        try:
            entity = await context.api.put(path_of(found), body)
        except (ApiError, Unreachable) as refused:
            context.note(Step("TARGET_FAILED", about(found) | {"error": str(refused)}))
            raise
        known = entity if isinstance(entity, dict) else {}
        changed = read_target({**known, "id": found.id}, wanted)
        context.note(Step("TARGET_UPDATED", about(changed) | {"adopted": adopted}))
        await _tell(context, changed, wanted)
        return changed

    async def _look_up(self, context: Context, wanted: Wanted) -> Found | None:
        same = [found for found in await self.read(context) if found.key == wanted.key]
        if len(same) > 1:
            ids = ", ".join(found.id for found in same[:5])
            raise UserError(
                f"target {wanted.key}: there are {len(same)} of that name ({ids}): delete all but one"
            )
        return same[0] if same else None

    async def _look_up_again(self, context: Context, wanted: Wanted, lost: UserError) -> Found:
        """After a POST of which nobody knows whether it was done: a second one might make a second target."""
        end, wait_s = context.monotonic() + min(LOOK_UP_S, context.deadline_s), 0.2
        while True:
            if there := await self._look_up(context, wanted):
                return there
            if context.monotonic() + wait_s > end:
                context.note(Step("TARGET_FAILED", {"name": wanted.key, "error": str(lost)}))
                raise lost
            await context.sleep(wait_s)
            wait_s = min(wait_s * 2, 2.0)


async def _tell(context: Context, found: Found, wanted: Wanted) -> None:
    """A gateway hears of a change once it has come to its end."""
    if found.settled and isinstance(wanted, WantedTarget) and wanted.webhook:
        await webhook_sync.sync(context, found, wanted.webhook)
