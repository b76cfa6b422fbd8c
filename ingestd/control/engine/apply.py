"""Carries a plan out, step by step; if it is interrupted, the next plan and apply continue there.

The state is on disk before a resource is made (the intent) and after each step; the id of what was made is on
disk before it waits for verification.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, TypeVar

from ingestd.control.engine.change import Action, Change
from ingestd.control.engine.compare import dotted, shown
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.plan import Plan
from ingestd.control.engine.reference import missing
from ingestd.control.engine.resource import (
    AuditStep,
    Context,
    RemoteResource,
    ResourceAddress,
    ResourceKind,
    Wanted,
    with_values,
)
from ingestd.control.engine.state import ControlState, secret_hashes
from ingestd.control.engine.world import value_of
from ingestd.core.errors import Unreachable, UserError
from ingestd.core.text import cut
from ingestd.transport.api_client import AmbiguousRequest, ApiError

GRACE_S = 10.0
"""A kind keeps the deadline of a step itself; this much later it is ended from outside."""
MAX_AUDIT_CHARACTERS = 450

_T = TypeVar("_T")


class ApplyEnd(StrEnum):
    DONE = "done"
    FAILED = "failed"
    SKIPPED = "skipped"  # what it needs failed, or the API cannot be reached


class ApplyOutcome(NamedTuple):
    """``error``: why it failed or was skipped, in one line."""

    change: Change
    ended: ApplyEnd
    error: str = ""
    took_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ApplyResult:
    """One outcome for each change that is not NOTHING, in their order."""

    outcomes: tuple[ApplyOutcome, ...]

    @property
    def failed(self) -> tuple[ApplyOutcome, ...]:
        return tuple(one for one in self.outcomes if one.ended is not ApplyEnd.DONE)

    @property
    def is_complete(self) -> bool:
        return not self.failed


async def apply(
    context: Context,
    plan: Plan,
    state: ControlState,
    on_step: Callable[[ApplyOutcome], None] = lambda outcome: None,
    *,
    kinds: Mapping[str, ResourceKind] = KINDS,
    grace_s: float = GRACE_S,
) -> ApplyResult:
    """Does what the plan says. A resource that fails stops what needs it, and nothing else; where the API
    cannot be reached all stops. ``on_step``: called with each. A step that fails is in the Result. Raises
    UserError: the plan is of another state."""
    if state.base != plan.base or state.revision != plan.revision:
        raise UserError("the plan was made from another state: plan again")
    for kind, found in plan.world.found.items():
        state.mark_seen(kind, found)
    state.begin_revision(plan.document.tables, plan.as_json())
    state.save()
    context.note(plan.step())
    run = _Run(context, state, kinds, plan, grace_s)
    outcomes = []
    for change in plan.changes:
        if change.action is not Action.NOTHING:
            outcomes.append(await run.step(change))
            on_step(outcomes[-1])
    return ApplyResult(tuple(outcomes))


class _Run:
    """One apply."""

    def __init__(
        self,
        context: Context,
        state: ControlState,
        kinds: Mapping[str, ResourceKind],
        plan: Plan,
        grace_s: float,
    ) -> None:
        self._context = context
        self._grace_s = grace_s
        self._state = state
        self._kinds = kinds
        self._there = {one.address: one.found for one in plan.changes if one.found and one.wanted}
        self._values = plan.world.values
        self._failed = set[ResourceAddress]()
        self._unreachable = ""

    async def step(self, change: Change) -> ApplyOutcome:
        now = self._context.clock.monotonic
        began = now()
        broken = sorted(".".join(address) for address in change.needs & self._failed)
        if self._unreachable:
            outcome = ApplyOutcome(change, ApplyEnd.SKIPPED, f"not tried: {self._unreachable}")
        elif broken:
            outcome = ApplyOutcome(change, ApplyEnd.SKIPPED, f"not tried: it needs {broken[0]}, which failed")
        else:
            try:
                await self._do(change)
                outcome = ApplyOutcome(change, ApplyEnd.DONE, took_s=now() - began)
            except UserError as error:
                if isinstance(error, Unreachable) and not isinstance(error, AmbiguousRequest):
                    self._unreachable = str(error)
                outcome = ApplyOutcome(change, ApplyEnd.FAILED, str(error), now() - began)
            except BaseException:
                cut_off = ApplyOutcome(change, ApplyEnd.FAILED, "interrupted", now() - began)
                self._context.note(_audit(change, cut_off, self._state))
                raise
        if outcome.ended is not ApplyEnd.DONE:
            self._failed.add(change.address)
        self._context.note(_audit(change, outcome, self._state))
        return outcome

    async def _do(self, change: Change) -> None:
        kind = self._kinds[change.address[0]]
        wanted, found = change.wanted, change.found
        if change.action is Action.REFUSED:
            raise UserError(change.why)
        if wanted is not None:
            wanted = with_values(wanted, await self._look_up(wanted))
        if wanted is None:
            assert found is not None
            await self._delete(kind, change, found)
            return
        if found is not None and change.action is Action.REPLACE:
            await self._delete(kind, change, found)
            found = None
        if found is None:
            await self._create(kind, change, wanted)
        elif change.action is Action.UPDATE:
            hashes = self._hashes(wanted)
            found = await self._within(change, kind.update(self._context, found, wanted, self._ids))
            self._remember(found, wanted, hashes, created=change.ours)
            await self._settle(kind, change, found, wanted)
        else:
            self._remember(found, wanted, self._hashes(wanted), created=change.ours)
            if change.action is Action.RESUME:
                await self._settle(kind, change, found, wanted)

    async def _look_up(self, wanted: Wanted) -> dict[str, str]:
        """What its references stand for now. Raises UserError."""
        found: dict[str, str] = {}
        for one in wanted.references:
            if there := self._there.get(one[:2]):
                found[one.text] = await value_of(self._context, self._kinds, there, one.attribute)
            elif one.text in self._values:
                found[one.text] = self._values[one.text]
            else:
                raise missing(one)
        return found

    @property
    def _ids(self) -> dict[ResourceAddress, str]:
        return {address: found.id for address, found in self._there.items()}

    async def _create(self, kind: ResourceKind, change: Change, wanted: Wanted) -> None:
        hashes = self._hashes(wanted)
        self._state.intend(wanted)
        self._state.save()
        try:
            found = await self._within(change, kind.create(self._context, wanted, self._ids))
        except ApiError as error:
            if 400 <= error.status < 500 and error.status != 408:  # it says no: nothing was made
                self._state.drop_intent(wanted.kind, wanted.key)
                self._state.save()
            raise
        self._remember(found, wanted, hashes, created=True)
        await self._settle(kind, change, found, wanted)

    async def _settle(
        self, kind: ResourceKind, change: Change, found: RemoteResource, wanted: Wanted
    ) -> None:
        await self._within(change, kind.settle(self._context, found, wanted))

    async def _delete(self, kind: ResourceKind, change: Change, found: RemoteResource) -> None:
        await self._within(change, kind.delete(self._context, found))
        self._state.forget(found.kind, found.id)
        self._state.drop_intent(found.kind, found.key)
        self._state.save()
        self._there.pop(change.address, None)

    def _remember(
        self, found: RemoteResource, wanted: Wanted, hashes: Mapping[str, str], *, created: bool
    ) -> None:
        self._state.remember(found, wanted, created=created, secrets=hashes)
        self._state.save()
        self._there[wanted.address] = found

    def _hashes(self, wanted: Wanted) -> dict[str, str]:
        """Taken before they are sent: one that changes meanwhile is sent once more, never forgotten."""
        return secret_hashes(self._state, wanted, self._context.secret)

    async def _within(self, change: Change, doing: Awaitable[_T]) -> _T:
        """Raises UserError past the deadline."""
        limit_s = self._context.deadline_s
        try:
            async with self._context.clock.timeout(limit_s + self._grace_s):
                return await doing
        except TimeoutError:
            raise UserError(
                f"{change.label}: not done within {limit_s:g} s: apply again, which goes on with it"
            ) from None


def _audit(change: Change, outcome: ApplyOutcome, state: ControlState) -> AuditStep:
    """Before and after of what was changed; secrets are masked, their new values are not there at all."""
    before = {dotted(one.path): one.before for one in change.differences if one.before is not None}
    after = {dotted(one.path): one.after for one in change.differences if one.after is not None}
    return AuditStep(
        "APPLY",
        {
            "api": state.base,
            "revision": state.revision,
            "action": change.action.value,
            "resource": change.label,
            "id": change.found.id if change.found else None,
            "before": cut(shown((), before), MAX_AUDIT_CHARACTERS) if before else None,
            "after": cut(shown((), after), MAX_AUDIT_CHARACTERS) if after else None,
            "secrets": ",".join(change.secrets) or None,
            "result": outcome.ended.value,
            "error": outcome.error or None,
            "latency_s": round(outcome.took_s, 3),
        },
    )
