"""What there is at the API, of each kind: read before every plan, export and drift."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import anyio

from ingestd.control.engine.resource import Context, RemoteResource, ResourceKind
from ingestd.control.engine.state import ControlState
from ingestd.core.errors import UserError

MAX_PARALLEL = 4
VISIBLE_WITHIN_S = 15.0
"""How long a list may take to have what an apply has just made."""

Progress = Callable[[str, int], None]
"""(kind, how many of it were read)."""


@dataclass(frozen=True, slots=True)
class World:
    """By the name of the kind; a kind that was not read is not there."""

    found: Mapping[str, tuple[RemoteResource, ...]]


async def read_world(
    context: Context,
    kinds: Iterable[ResourceKind],
    *,
    state: ControlState | None = None,
    progress: Progress | None = None,
) -> World:
    """All resources of these kinds, a few kinds at a time. Raises UserError.

    With ``state``: a list that does not have yet what an apply made is read again, up to VISIBLE_WITHIN_S:
    else a second apply would make it twice."""
    found: dict[str, tuple[RemoteResource, ...]] = {}
    errors: list[UserError] = []
    limiter = anyio.CapacityLimiter(MAX_PARALLEL)

    async def read(kind: ResourceKind) -> None:
        async with limiter:
            try:
                found[kind.name] = await _read(context, kind, state)
            except UserError as error:  # as itself, not in a group
                errors.append(error)
                group.cancel_scope.cancel()
        if progress and kind.name in found:
            progress(kind.name, len(found[kind.name]))

    async with anyio.create_task_group() as group:
        for kind in kinds:
            group.start_soon(read, kind)
    if errors:
        raise errors[0]
    return World({name: found[name] for name in sorted(found)})


async def _read(
    context: Context, kind: ResourceKind, state: ControlState | None
) -> tuple[RemoteResource, ...]:
    found: tuple[RemoteResource, ...] = ()
    async for _ in context.polls(within_s=VISIBLE_WITHIN_S, first_s=0.5, longest_s=VISIBLE_WITHIN_S):
        found = tuple(sorted(await kind.read(context), key=lambda one: (one.key, one.id)))
        if not _misses(found, kind.name, state):
            break
    return found


def _misses(found: tuple[RemoteResource, ...], kind: str, state: ControlState | None) -> bool:
    if state is None:
        return False
    made = {record.id for record in state.records(kind) if record.created and not record.seen}
    begun = {intent.key for intent in state.intents(kind)}
    return bool(made - {one.id for one in found} or begun - {one.key for one in found})
