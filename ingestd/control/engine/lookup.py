"""Finds what a create may have made already, by its name. Called by ``integration.py`` and ``trigger.py``."""

from ingestd.control.engine.resource import Context, RemoteResource, ResourceKind
from ingestd.core.errors import UserError
from ingestd.transport.api_client import ApiError

LOOK_AGAIN_S = 15.0
"""How long is looked for what an unanswered create may have made."""


async def find_named(
    context: Context, kind: ResourceKind, name: str, *, path: str, patience_s: float = 0.0
) -> RemoteResource | None:
    """``path``: of all of them. Raises UserError where there are several: which one is meant?"""
    there: list[RemoteResource] = []
    within_s = min(patience_s, context.deadline_s)
    async for _ in context.polls(within_s=within_s):
        named = [one for one in await kind.read(context) if one.key == name]
        there = [one for one in named if await _exists(context, f"{path}/{one.id}")]
        if len(there) > 1:
            ids = ", ".join(one.id for one in there[:5])
            raise UserError(f"{kind.name} {name}: {len(there)} have that name ({ids}): delete or rename some")
        if there:
            break
    return there[0] if there else None


async def _exists(context: Context, path: str) -> bool:
    """A list may go on showing what is gone: the one that is replaced just now."""
    try:
        await context.api.get(path)
    except ApiError as error:
        if error.is_not_found:
            return False
        raise
    return True
