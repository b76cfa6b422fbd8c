"""Changes to resources with a version: they never overwrite another change. Called by ``integration.py`` and
``plain_kind.py``.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from ingestd.control.engine.compare import canonical
from ingestd.control.engine.resource import Context, ResourceFields
from ingestd.core.backoff import Backoff
from ingestd.core.errors import UserError
from ingestd.transport.api_client import ApiError

MAX_TRIES = 5
_BACKOFF = Backoff(base_s=0.5, cap_s=8.0)


class CurrentVersion(NamedTuple):
    """As it is now: what matters of it, and the answer that said so, with its version."""

    fields: ResourceFields
    body: Mapping[str, Any]


async def change(
    context: Context,
    what: str,
    *,
    read: Callable[[], Awaitable[CurrentVersion]],
    write: Callable[[Mapping[str, Any]], Awaitable[Any]],
    planned: ResourceFields | None,
    wanted: ResourceFields,
) -> Any:
    """Read, compare, write; at a version conflict all of it again, a few times. The answer of the write, or
    of the read that shows that there is nothing left to do: our own write, whose answer was lost.

    ``planned``: what the change was planned for; None for what was made just now and never looked at. Raises
    UserError where it is neither that nor what is wanted, ApiError for anything but a conflict.
    """
    for attempt in range(1, MAX_TRIES + 1):
        current = await read()
        if not (changed := _unlike(current.fields, wanted)):
            return current.body
        planned = current.fields if planned is None else planned
        if _unlike(current.fields, planned):
            raise UserError(f"{what} was changed meanwhile ({', '.join(changed)}): plan again")
        try:
            return await write(current.body)
        except ApiError as error:
            if not error.is_version_conflict:
                raise
        await context.clock.sleep(_BACKOFF.delay(attempt, rng=context.rng))
    raise UserError(f"{what}: its version was another one at each of {MAX_TRIES} tries: plan again later")


def _unlike(one: ResourceFields, other: ResourceFields) -> list[str]:
    """The fields in which they differ."""
    return sorted(name for name in {*one, *other} if canonical(one.get(name)) != canonical(other.get(name)))
