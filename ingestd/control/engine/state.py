"""What an apply remembers of one API: which resources are ours, hashes of their secrets, earlier documents.

Never a secret. Plans read it, ``apply.py`` changes it, ``state_file.py`` keeps it on disk.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ingestd.control.engine.compare import digest
from ingestd.control.engine.resource import RemoteResource, ResourceAddress, ResourceFields, Wanted
from ingestd.control.engine.secret import SecretRef, keyed_hash
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError

MAX_REVISIONS = 10
INTENT_FOR_S = 24 * 3600.0


@dataclass(frozen=True, slots=True)
class ResourceRecord:
    """One resource that is ours. ``created``: an apply made it; else it was adopted. ``secrets``: dotted
    path -> keyed hash. ``fields_hash``: of what the last apply left. ``seen``: a list had it since."""

    kind: str
    id: str
    name: str
    key: str
    created: bool
    protected: bool = False
    after: tuple[ResourceAddress, ...] = ()
    secrets: dict[str, str] = field(default_factory=dict)
    fields_hash: str = ""
    revision: int = 0
    seen: bool = False


@dataclass(frozen=True, slots=True)
class PendingCreate:
    """A create that was begun: should it be cut off, what is found under that key is ours."""

    kind: str
    key: str
    name: str
    at_s: float


@dataclass(frozen=True, slots=True)
class Revision:
    """The document that an apply carried out, as ``Document.tables``; references of secrets, no values."""

    number: int
    at_s: float
    tables: dict[str, Any]


@dataclass(slots=True)
class StateContent:
    """What is written of one API."""

    revision: int = 0
    records: list[ResourceRecord] = field(default_factory=list)
    intents: list[PendingCreate] = field(default_factory=list)
    revisions: list[Revision] = field(default_factory=list)
    last_plan: dict[str, Any] = field(default_factory=dict)


class ControlState:
    """``base``: the API's URL; ``key``: of the hashes of secrets, 32 random bytes of this directory.

    A change is on disk when ``save`` has returned.
    """

    def __init__(
        self,
        base: str,
        *,
        key: bytes,
        content: StateContent | None = None,
        write: Callable[[StateContent], None] = lambda content: None,
        wall: Callable[[], float] = SystemClock.wall,
    ) -> None:
        content = content or StateContent()
        self.base = base
        self.revision = content.revision
        self.revisions = content.revisions
        self.last_plan = content.last_plan
        self._key = key
        self._write = write
        self._wall = wall
        self._records = {(record.kind, record.id): record for record in content.records}
        self._intents = {(intent.kind, intent.key): intent for intent in content.intents}

    def records(self, kind: str) -> list[ResourceRecord]:
        return [record for record in self._records.values() if record.kind == kind]

    def record(self, kind: str, its_id: str) -> ResourceRecord | None:
        return self._records.get((kind, its_id))

    def intends(self, kind: str, key: str) -> PendingCreate | None:
        """Only a fresh one: much later, somebody else may have made what has this key."""
        intent = self._intents.get((kind, key))
        return intent if intent and abs(self._wall() - intent.at_s) < INTENT_FOR_S else None

    def intents(self, kind: str) -> list[PendingCreate]:
        return [one for one in self._intents.values() if one.kind == kind and self.intends(kind, one.key)]

    def tables(self, number: int) -> dict[str, Any]:
        """The document of an earlier revision, for ``make_document``. Raises UserError."""
        for revision in self.revisions:
            if revision.number == number:
                return revision.tables
        known = ", ".join(str(one.number) for one in self.revisions) or "none"
        raise UserError(f"revision {number} is not kept; there are: {known}")

    @property
    def kinds(self) -> set[str]:
        """Those that an apply must still finish, even if no file names them any more."""
        return {kind for kind, _ in (*self._records, *self._intents)}

    def hash_of(self, secret: str) -> str:
        return keyed_hash(secret, key=self._key)

    def intend(self, wanted: Wanted) -> None:
        intent = PendingCreate(wanted.kind, wanted.key, wanted.name, self._wall())
        self._intents[wanted.kind, wanted.key] = intent

    def drop_intent(self, kind: str, key: str) -> None:
        self._intents.pop((kind, key), None)

    def remember(
        self, found: RemoteResource, wanted: Wanted, *, created: bool, secrets: Mapping[str, str]
    ) -> None:
        """Ours from now on. ``secrets``: their hashes, as far as they were sent. Ends an intent."""
        self._records[found.kind, found.id] = ResourceRecord(
            kind=found.kind,
            id=found.id,
            name=wanted.name,
            key=wanted.key,
            created=created,
            protected=wanted.protected,
            after=tuple(sorted(wanted.after)),
            secrets=dict(secrets),
            fields_hash=fields_hash(wanted.fields),
            revision=self.revision,
        )
        self.drop_intent(wanted.kind, wanted.key)

    def mark_seen(self, kind: str, found: Iterable[RemoteResource]) -> None:
        """``found``: all that there is of this kind. What is gone is forgotten."""
        there = [(one.id, one.key) for one in found]
        ids, keys = {its_id for its_id, _ in there}, {key for _, key in there}
        for record in self.records(kind):
            if record.id not in ids:
                self.forget(kind, record.id)
            elif not record.seen:
                self._records[kind, record.id] = replace(record, seen=True)
        for intent in [one for one in self._intents.values() if one.kind == kind]:
            if intent.key not in keys:
                self.drop_intent(kind, intent.key)

    def forget(self, kind: str, its_id: str) -> None:
        self._records.pop((kind, its_id), None)

    def begin_revision(self, tables: Mapping[str, Any], plan: Mapping[str, Any]) -> None:
        """``tables``: of the document. ``plan``: what is done for it, as JSON."""
        self.revision += 1
        revision = Revision(self.revision, self._wall(), dict(tables))
        self.revisions = [*self.revisions, revision][-MAX_REVISIONS:]
        self.last_plan = dict(plan)

    def save(self) -> None:
        self._write(self.content())

    def content(self) -> StateContent:
        records = sorted(self._records.values(), key=lambda one: (one.kind, one.name, one.id))
        intents = sorted(self._intents.values(), key=lambda one: (one.kind, one.key))
        return StateContent(self.revision, records, intents, list(self.revisions), self.last_plan)


def fields_hash(fields: ResourceFields) -> str:
    return digest(fields)


def secret_hashes(state: ControlState, wanted: Wanted, secret: Callable[[SecretRef], str]) -> dict[str, str]:
    """Dotted path -> hash of the secret as it is now. Raises UserError for one that cannot be read."""
    return {path: state.hash_of(secret(reference)) for path, reference in sorted(wanted.secrets.items())}
