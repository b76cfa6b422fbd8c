"""The nouns of the control plane: what is wanted, what is there, and the contract of a kind of resource.

One file per kind (``target.py``, ``destination.py`` …) keeps that contract; ``plan.py`` and ``apply.py``
know nothing else of them.
"""

import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ingestd.control.engine.reference import Reference, replaced
from ingestd.control.engine.secret import SecretRef
from ingestd.core.backoff import polls
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError

ResourceFields = Mapping[str, Any]
"""Canonical: JSON values under the names of the configuration file, defaults filled in, what is a set
sorted, nothing that the server fills in, no secrets. Two that mean the same are equal."""

ResourceAddress = tuple[str, str]
"""(kind, name in the file)."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """One table of the file, ``[target.NAME]``. ``key``: the natural key by which it is found remotely
    (unique among its kind). ``secrets``: dotted path of a field -> where its value is; write-only.
    ``after``: what has to exist before. ``protected``: never deleted. ``references``: in ``fields``, as their
    text until they are looked up."""

    kind: str
    name: str
    key: str
    fields: ResourceFields
    secrets: Mapping[str, SecretRef] = field(default_factory=dict)
    after: frozenset[ResourceAddress] = frozenset()
    protected: bool = False
    references: tuple[Reference, ...] = ()

    @property
    def address(self) -> ResourceAddress:
        return self.kind, self.name


def with_values(wanted: Wanted, values: Mapping[str, str]) -> Wanted:
    """With what its references stand for, by their text; those that are not in ``values`` stay."""
    if not values:
        return wanted
    return replace(wanted, fields=replaced(wanted.fields, lambda text: values.get(text, text)))


@dataclass(frozen=True, slots=True)
class RemoteResource:
    """One remote resource. ``state``: how it stands, in the API's word (VERIFIED, ACTIVE, …). ``version``:
    what has to be sent back with a change, if the API wants that. ``settled``: it is all that it is to
    become; False: a change was begun and not ended (not verified, not enabled)."""

    kind: str
    key: str
    id: str
    fields: ResourceFields
    state: str = ""
    version: int | None = None
    settled: bool = True


class RemoteApi(Protocol):
    """``transport/api_client.py``. Raises ApiError (a UserError) and Unreachable."""

    async def get(self, path: str, *, params: Mapping[str, str | int] | None = None) -> Any:
        """The decoded JSON body."""
        ...

    async def post(self, path: str, body: Any = None) -> Any:
        """The decoded JSON body of the answer. A create without an answer raises AmbiguousRequest."""
        ...

    async def put(self, path: str, body: Any) -> Any:
        """The decoded JSON body of the answer."""
        ...

    async def patch(self, path: str, body: Any) -> Any:
        """The decoded JSON body of the answer."""
        ...

    async def delete(self, path: str) -> None:
        """What is gone already is not an error."""
        ...

    async def list(self, path: str, *, params: Mapping[str, str | int] | None = None) -> list[Any]:
        """All entities of all pages, classic or by cursor (genesys.md 2.5)."""
        ...

    async def get_when_visible(self, path: str, *, deadline_s: float) -> Any:
        """404 after a create means not yet, until the deadline."""
        ...


@dataclass(frozen=True, slots=True)
class AuditStep:
    """What a kind did, for the audit log: ``entry`` is an ``Entry``'s name, ``fields`` have no secrets."""

    entry: str
    fields: Mapping[str, str | int | float | bool | None]


@dataclass(frozen=True, slots=True)
class Context:
    """What a kind works with. ``secret`` gives a secret's value at the moment it is sent. ``note`` writes an
    audit entry for a step when it happened. ``deadline_s``: for waiting in one step (verification, reported
    state)."""

    api: RemoteApi
    secret: Callable[[SecretRef], str]
    note: Callable[[AuditStep], None]
    clock: Clock
    rng: random.Random
    deadline_s: float = 120.0
    allow_private: bool = False

    def polls(
        self, *, within_s: float | None = None, first_s: float = 0.3, longest_s: float = 5.0
    ) -> AsyncIterator[float]:
        """See ``core.backoff.polls``; within the deadline, where no other time is given."""
        within_s = self.deadline_s if within_s is None else within_s
        return polls(self.clock, self.rng, within_s=within_s, first_s=first_s, longest_s=longest_s)


class ResourceKind(Protocol):
    """One kind of resource. ``name``: its table in the file and its command (target, targets)."""

    name: str
    immutable: frozenset[str]
    """Fields whose change means to delete it and create it again."""

    def parse(self, name: str, table: Mapping[str, Any]) -> Wanted:
        """A table of the file. Raises UserError that names kind, name, field, and what was expected."""
        ...

    async def read(self, context: Context) -> Sequence[RemoteResource]:
        """All that there are."""
        ...

    async def create(
        self, context: Context, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        """Make it; ``ids``: of what it comes after. It may not be ``settled`` yet: its id is known first."""
        ...

    async def update(
        self, context: Context, found: RemoteResource, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        """Change ``found`` to what is ``wanted``, all but its end state; ``ids``: of what it refers to."""
        ...

    async def settle(self, context: Context, found: RemoteResource, wanted: Wanted) -> RemoteResource:
        """Bring it to its end state (verified, enabled), within the deadline; does nothing if it is there.
        Raises UserError where that failed: the resource stays, and the next apply continues with it."""
        ...

    async def delete(self, context: Context, found: RemoteResource) -> None:
        """Delete it. What is gone already is not an error."""
        ...

    def refusal(self, found: RemoteResource, wanted: Wanted) -> str:
        """Why the API would not take this change, as far as that is known before; empty: it may."""
        return ""

    async def attribute(self, context: Context, found: RemoteResource, name: str) -> str:
        """What the API gave it besides its id, for a reference. Raises UserError."""
        raise UserError(f"a {self.name} has no {name}")

    def export(self, found: RemoteResource) -> Mapping[str, Any]:
        """The table that would make this resource; secrets as references that have to be filled in."""
        ...
