"""A kind that stands as soon as it is made: one path of the API, one JSON object for each. Most kinds of
Genesys Cloud are no more than what a subclass says of theirs: see ``genesys/kinds.py``.
"""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from ingestd.control.engine.compare import canonical
from ingestd.control.engine.lookup import create_or_find
from ingestd.control.engine.model_table import ModelTable, inner, read_table, text
from ingestd.control.engine.resource import (
    AuditStep,
    Context,
    RemoteResource,
    ResourceAddress,
    ResourceFields,
    ResourceKind,
    Wanted,
)
from ingestd.control.engine.versioned import CurrentVersion, change
from ingestd.core.errors import UserError

READ_ONLY = frozenset(
    {"id", "selfUri", "dateCreated", "dateModified", "dateLastModified", "createdBy", "modifiedBy"}
)
"""What the platform fills in."""


class FieldPlace(NamedTuple):
    """Where a field of the file stands in the API's object, as ``target.id``. ``default``: what it is where
    nothing, or nothing of its type, stands there; ``number``: it is one, or None."""

    path: str
    default: Any = ""
    number: bool = False

    def read(self, entity: Any) -> Any:
        value, kind = inner(entity, *self.path.split(".")), int if self.number else type(self.default)
        return value if type(value) is kind and value != "" else self.default

    def write(self, body: dict[str, Any], value: Any) -> None:
        *above, last = self.path.split(".")
        for name in above:
            body = body.setdefault(name, {})
        if value is not None:
            body[last] = value


class PlainKind(ResourceKind):
    """``places``: of each field but the name. ``fixed``: what every object has besides. ``immutable``: see
    ``ResourceKind``. ``params``: of the list. ``noted``: what the audit log calls it."""

    name: str
    path: ClassVar[str]
    table: ClassVar[type[ModelTable]]
    places: ClassVar[Mapping[str, FieldPlace]]
    fixed: ClassVar[Mapping[str, Any]] = {}
    named: ClassVar[FieldPlace] = FieldPlace("name")
    params: ClassVar[Mapping[str, str | int]] = {}
    immutable: frozenset[str] = frozenset()
    noted: ClassVar[str] = "RESOURCE"

    # What a subclass may have to say of its own

    def canonical(self, fields: dict[str, Any]) -> ResourceFields:
        """Those of a table and of an answer, so that two that mean the same are equal."""
        return fields

    def exists(self, entity: Any) -> bool:
        """Whether one of a list counts; the platform shows some that are deleted."""
        return True

    def body(self, wanted: Wanted) -> dict[str, Any]:
        """The object as it is to be."""
        made: dict[str, Any] = {}
        for place, value in ((self.named, wanted.key), *((FieldPlace(k), v) for k, v in self.fixed.items())):
            place.write(made, value)
        for name, place in self.places.items():
            place.write(made, wanted.fields[name])
        return made

    def made_of(self, wanted: Wanted) -> dict[str, Any]:
        """What makes it."""
        return self.body(wanted)

    def fresh(self, wanted: Wanted) -> ResourceFields:
        """What it is right after that."""
        return wanted.fields

    async def write(self, context: Context, its_id: str, now: Mapping[str, Any], wanted: Wanted) -> Any:
        """Change it. ``now``: as it was read; what the platform has in it and we have no name for stays, and
        the version goes back."""
        ours = READ_ONLY | {place.path.partition(".")[0] for place in (self.named, *self.places.values())}
        foreign = {name: value for name, value in now.items() if name not in ours}
        return await context.api.put(f"{self.path}/{its_id}", foreign | self.body(wanted))

    # The contract of ``ResourceKind``

    def parse(self, name: str, table: Mapping[str, Any]) -> Wanted:
        read = read_table(self.table, self.name, name, table)
        fields = self.canonical(read.model_dump(exclude={"name", "after", "protected"}))
        read.warn(name)
        return Wanted(
            self.name, name, read.name or name, fields, after=read.addresses, protected=read.protected
        )

    async def read(self, context: Context) -> Sequence[RemoteResource]:
        entities = await context.api.list(self.path, params=self.params or None)
        return [self.found_of(entity) for entity in entities if self.exists(entity)]

    async def create(
        self, context: Context, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        began = context.clock.monotonic()
        answer, there = await create_or_find(context, self, wanted, path=self.path, body=self.made_of(wanted))
        if there:  # ours if it is what we would have made: a create whose end we did not see
            ours = map(canonical, (wanted.fields, self.fresh(wanted)))
            if canonical(there.fields) not in ours:
                raise UserError(f"{self.name} {there.key} was created by someone else meanwhile: plan again")
            return there
        made = self.found_of(answer)
        self._note(context, "CREATED", made, seconds=round(context.clock.monotonic() - began, 3))
        return made

    async def update(
        self, context: Context, found: RemoteResource, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        """Never overwrites another change: see ``versioned.py``."""
        what = f"{self.name} {found.key}"
        for field in sorted(self.immutable):
            if canonical(found.fields[field]) != canonical(wanted.fields[field]):
                raise UserError(f"{what}: {field} cannot be changed: delete it and create it again")
        if refusal := self.refusal(found, wanted):
            raise UserError(f"{what}: {refusal}")
        path = f"{self.path}/{found.id}"

        async def read() -> CurrentVersion:
            now = await context.api.get_when_visible(path, deadline_s=context.deadline_s)
            return CurrentVersion(_with_name(self.found_of(now)), now)

        async def write(now: Mapping[str, Any]) -> Any:
            written = await self.write(context, found.id, now, wanted)
            self._note(context, "UPDATED", self.found_of(written))
            return written

        planned, fields = _with_name(found), {**wanted.fields, "name": wanted.key}
        return self.found_of(
            await change(context, what, read=read, write=write, planned=planned, wanted=fields)
        )

    async def settle(self, context: Context, found: RemoteResource, wanted: Wanted) -> RemoteResource:
        """It stands at once."""
        return found

    async def delete(self, context: Context, found: RemoteResource) -> None:
        await context.api.delete(f"{self.path}/{found.id}")
        self._note(context, "DELETED", found)

    def export(self, found: RemoteResource) -> Mapping[str, Any]:
        return {
            "name": found.key,
            **{name: value for name, value in found.fields.items() if value is not None},
        }

    def found_of(self, entity: Any) -> RemoteResource:
        """Of an answer, which may be anything: what the server fills in is left out."""
        fields = self.canonical({name: place.read(entity) for name, place in self.places.items()})
        version = inner(entity, "version")
        return RemoteResource(
            self.name,
            text(entity, *self.named.path.split(".")),
            text(entity, "id"),
            fields,
            state={True: "ENABLED", False: "DISABLED"}.get(fields.get("enabled"), ""),  # type: ignore[arg-type]
            version=version if type(version) is int else None,
        )

    def _note(self, context: Context, what: str, found: RemoteResource, **more: float) -> None:
        named = {self.name: found.key} if self.noted != "RESOURCE" else {"kind": self.name, "name": found.key}
        context.note(AuditStep(f"{self.noted}_{what}", {**named, "id": found.id, **more}))


def _with_name(found: RemoteResource) -> dict[str, Any]:
    """A new name alone is a change, too."""
    return {**found.fields, "name": found.key}
