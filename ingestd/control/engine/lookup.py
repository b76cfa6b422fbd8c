"""Finds what a create may have made already, by its name. Called by the kinds of resources."""

from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.control.engine.model_table import text
from ingestd.control.engine.resource import Context, RemoteResource, ResourceKind, Wanted
from ingestd.core.errors import UserError
from ingestd.transport.api_client import AmbiguousRequest, ApiError

LOOK_AGAIN_S = 15.0
"""How long to look for what a create without an answer may have made."""


async def find_named(
    context: Context, kind: ResourceKind, name: str, *, path: str, within_s: float = 0.0
) -> RemoteResource | None:
    """``path``: of all of them. Raises UserError as ``only_one`` does."""
    there: list[RemoteResource] = []
    async for _ in context.polls(within_s=min(within_s, context.deadline_s)):
        named = [one for one in await kind.read(context) if one.key == name]
        there = [one for one in named if await _exists(context, f"{path}/{one.id}")]
        if there:
            break
    return only_one(there, f"{kind.name} {name}")


def only_one(there: Sequence[RemoteResource], what: str) -> RemoteResource | None:
    """None of none. Raises UserError where there are several: which one is meant?"""
    if len(there) > 1:
        ids = ", ".join(one.id for one in there[:5])
        raise UserError(f"{what}: {len(there)} have that name: delete all but one ({ids})")
    return there[0] if there else None


async def create_or_find(
    context: Context, kind: ResourceKind, wanted: Wanted, *, path: str, body: Mapping[str, Any]
) -> tuple[Any, RemoteResource | None]:
    """(the API's answer, None), or (None, what was there already): made by a create whose answer was lost, or
    by somebody else. Raises UserError where the answer has no id."""
    if there := await find_named(context, kind, wanted.key, path=path):
        return None, there
    try:
        made = await context.api.post(path, body)
    except AmbiguousRequest:
        there = await find_named(context, kind, wanted.key, path=path, within_s=LOOK_AGAIN_S)
        if not there:
            raise
        return None, there
    if not text(made, "id"):
        raise UserError(f"{kind.name} {wanted.key}: the API made it and returned no id: apply again")
    return made, None


async def _exists(context: Context, path: str) -> bool:
    """A list may still show a deleted resource, such as the one that is replaced now."""
    try:
        await context.api.get(path)
    except ApiError as error:
        if error.is_not_found:
            return False
        raise
    return True
