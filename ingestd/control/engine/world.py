"""What there is at the API, of each kind: read before every plan, export and drift."""

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace

import anyio

from ingestd.control.engine.document import Document
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.reference import missing
from ingestd.control.engine.resource import Context, RemoteResource, ResourceKind
from ingestd.control.engine.state import ControlState
from ingestd.core.errors import UserError

MAX_PARALLEL = 4
ATTRIBUTE_S = 5.0
"""How long a plan waits for what the API gives a resource later."""
VISIBLE_WITHIN_S = 15.0
"""How long a list may take to have what an apply has just made."""

Progress = Callable[[str, int], None]
"""(kind, how many of it were read)."""


@dataclass(frozen=True, slots=True)
class World:
    """By the name of the kind; a kind that was not read is not there. ``values``: of references, by their
    text, as far as they are known."""

    found: Mapping[str, tuple[RemoteResource, ...]]
    values: Mapping[str, str] = field(default_factory=dict, repr=False)


async def look_up(
    context: Context, document: Document, world: World, kinds: Mapping[str, ResourceKind] = KINDS
) -> World:
    """With the values of all references of the document to what is there. Raises UserError for one to what is
    neither there nor in the document."""
    keys = {one.address: one.key for one in document.wanted}
    values: dict[str, str] = {}
    for reference in dict.fromkeys(r for one in document.wanted for r in one.references):
        key = keys.get(reference[:2], reference.name)
        there = [one for one in world.found.get(reference.kind, ()) if key in (one.key, one.id)]
        if not there and reference[:2] not in keys:
            raise missing(reference)
        if len(there) == 1:
            with suppress(UserError):  # what is not there yet may be there when it is needed
                short = replace(context, deadline_s=min(ATTRIBUTE_S, context.deadline_s))
                values[reference.text] = await value_of(short, kinds, there[0], reference.attribute)
    return World(world.found, values)


async def value_of(
    context: Context, kinds: Mapping[str, ResourceKind], found: RemoteResource, attribute: str
) -> str:
    """Raises UserError."""
    return found.id if attribute == "id" else await kinds[found.kind].attribute(context, found, attribute)


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
