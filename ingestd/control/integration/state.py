"""The intended state of an integration, and the reported one. Called by ``integration.py``."""

from dataclasses import replace
from functools import partial

from ingestd.control.engine.model_table import text
from ingestd.control.engine.resource import AuditStep, Context, RemoteResource
from ingestd.core.errors import UserError
from ingestd.core.text import cut
from ingestd.transport.api_client import AmbiguousRequest

PATH = "/api/v2/integrations"
MAX_TRIES = 3

RUNNING = frozenset({"ACTIVE", "ACTIVATING", "DEACTIVATING"})


def path_of(found: RemoteResource, below: str = "") -> str:
    return f"{PATH}/{found.id}{below}"


def note(context: Context, entry: str, name: str, its_id: str, **more: str | float | bool) -> None:
    context.note(AuditStep(entry, {"integration": name, "id": its_id, **more}))


async def intend(context: Context, found: RemoteResource, *, enabled: bool) -> RemoteResource:
    """Ask for it to be on or off. That can be said twice, so an unanswered one is said again."""
    state = "ENABLED" if enabled else "DISABLED"
    for attempt in range(MAX_TRIES):
        try:
            answer = await context.api.patch(path_of(found), {"intendedState": state})
            break
        except AmbiguousRequest:
            if attempt == MAX_TRIES - 1:
                raise
    note(context, "INTEGRATION_UPDATED", found.key, found.id, intended_state=state)
    reported = text(answer, "reportedState", "code")
    return replace(found, fields={**found.fields, "enabled": enabled}, state=reported, settled=False)


async def wait_until_reported(context: Context, found: RemoteResource, *, enabled: bool) -> RemoteResource:
    """Until the API reports what was asked for. Raises UserError with the API's words, or at the deadline."""
    what, began = f"integration {found.key}", context.clock.monotonic()
    look = partial(context.api.get_when_visible, path_of(found), deadline_s=context.deadline_s)
    state = intended = ""
    async for _ in context.polls():
        now = await look()
        state, intended = text(now, "reportedState", "code"), text(now, "intendedState")
        if enabled and state == "ERROR":
            words = cut(text(now, "reportedState", "detail", "message") or "the API gives no reason")
            note(context, "INTEGRATION_FAILED", found.key, found.id, error=words)
            raise UserError(f"{what} is in the state ERROR: {words}")
        if (state == "ACTIVE") if enabled else (state not in RUNNING):
            break
    else:
        note(context, "INTEGRATION_FAILED", found.key, found.id, error=f"still {state}")
        raise UserError(
            f"{what}: after {context.deadline_s:g} s the API still reports {cut(state) or 'no state'}"
            f" (intended: {cut(intended) or 'nothing'}): the next apply goes on with it"
        )
    if enabled:
        seconds = round(context.clock.monotonic() - began, 3)
        note(context, "INTEGRATION_ACTIVATED", found.key, found.id, seconds=seconds)
    return replace(found, state=state, settled=True)


async def wait_until_stopped(context: Context, found: RemoteResource) -> None:
    """Until it no longer runs; at the deadline the API may say itself that it cannot go."""
    async for _ in context.polls():
        if text(await context.api.get(path_of(found)), "reportedState", "code") not in RUNNING:
            return
