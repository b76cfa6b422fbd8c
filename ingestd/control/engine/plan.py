"""What has to be done so that the world is as the document says. Pure: the same three give the same plan.

plan = make_plan(document, world, state, prune=False)
print(plan.render())
result = await apply(context, plan, state)
"""

import graphlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ingestd.control.engine.change import QUIET, Action, Change
from ingestd.control.engine.compare import Difference, differences, digest
from ingestd.control.engine.document import Document
from ingestd.control.engine.kinds import KINDS
from ingestd.control.engine.matching import match
from ingestd.control.engine.order import in_order
from ingestd.control.engine.render import render
from ingestd.control.engine.resource import (
    AuditStep,
    RemoteResource,
    ResourceAddress,
    ResourceKind,
    Wanted,
    with_values,
)
from ingestd.control.engine.secret import SecretRef
from ingestd.control.engine.state import ControlState, ResourceRecord, fields_hash, secret_hashes
from ingestd.control.engine.world import World
from ingestd.core.errors import UserError

ReadSecret = Callable[[SecretRef], str]


def read_secret(reference: SecretRef) -> str:
    return reference.read()


@dataclass(frozen=True, slots=True)
class Plan:
    """``changes``: in the order in which they are carried out, also those that are NOTHING. ``base``: the URL
    of the API. ``revision``: of the state that it was made from."""

    base: str
    changes: tuple[Change, ...]
    document: Document
    world: World
    revision: int = 0

    @property
    def is_empty(self) -> bool:
        """There is nothing to do; what would only be adopted counts as nothing."""
        return all(change.action in QUIET for change in self.changes)

    @property
    def sends_nothing(self) -> bool:
        """What is there is as the file says; what an apply would do is only to remember that."""
        return all(change.action in QUIET | {Action.REMEMBER} for change in self.changes)

    @property
    def counts(self) -> dict[str, int]:
        """How many of each action, NOTHING too."""
        counter = Counter(change.action for change in self.changes)
        return {action.value: counter[action] for action in Action if counter[action]}

    @property
    def fingerprint(self) -> str:
        """Equal for plans that do the same to the same world: what a plan file is bound to."""
        done = [one.identity() for one in self.changes if one.action is not Action.NOTHING]
        return digest([self.base, done])

    def render(self, *, color: bool = False) -> str:
        return render(self.changes, color=color)

    def as_json(self) -> dict[str, Any]:
        """For machines, and as a plan file; no secrets."""
        return {
            "format": 1,
            "api": self.base,
            "fingerprint": self.fingerprint,
            "revision": self.revision,
            "empty": self.is_empty,
            "counts": self.counts,
            "changes": [one.as_json() for one in self.changes if one.action is not Action.NOTHING],
        }

    def step(self) -> AuditStep:
        """For the audit log."""
        counts = {name: count for name, count in self.counts.items() if name != Action.NOTHING}
        return AuditStep(
            "PLAN", {"api": self.base, "plan": self.fingerprint, "revision": self.revision, **counts}
        )


def make_plan(
    document: Document,
    world: World,
    state: ControlState,
    *,
    prune: bool = False,
    kinds: Mapping[str, ResourceKind] = KINDS,
    secret: ReadSecret = read_secret,
) -> Plan:
    """Compares them. What is neither in the file nor ours is never touched.

    Deleted is what an apply made and the file has no longer; with ``prune`` also what was adopted. Raises
    UserError for a secret that cannot be read, and for a kind that was not read from the API.
    """
    wanted = document.wanted
    if missing := sorted({one.kind for one in wanted} - world.found.keys()):
        raise UserError(f"the {missing[0]}s of the API were not read: no plan can be made for them")
    there = [found for of_kind in world.found.values() for found in of_kind]
    matches, doubles = match(wanted, there, state)
    compare = _Comparison(state, kinds, secret, prune=prune)
    changes: list[Change] = []
    values = _Values(world)
    for one in _referred_first(wanted):
        if one.address in doubles:
            changes.append(_refused_double(one, doubles[one.address]))
        else:
            made = compare.change(values.put_into(one), matches.get(one.address))
            changes.append(replace(made, wanted=one))  # an apply looks them up when their time has come
            values.note(made)
    matched = {(found.kind, found.id) for found in matches.values()}
    matched |= {(found.kind, found.id) for several in doubles.values() for found in several}
    names = {one.address for one in wanted}
    changes += _deletes(
        [one for one in there if (one.kind, one.id) not in matched], names, state, prune=prune
    )
    return Plan(
        base=state.base,
        changes=in_order(changes, _records_of(changes, state)),
        document=document,
        world=world,
        revision=state.revision,
    )


def _referred_first(wanted: Iterable[Wanted]) -> list[Wanted]:
    by_address = {one.address: one for one in wanted}
    graph = {one.address: sorted(r[:2] for r in one.references) for one in by_address.values()}
    return [by_address[it] for it in graphlib.TopologicalSorter(graph).static_order() if it in by_address]


class _Values:
    """What references stand for, as far as it is there and stays."""

    def __init__(self, world: World) -> None:
        self._known = world.values
        self._to_come = set[ResourceAddress]()

    def put_into(self, wanted: Wanted) -> Wanted:
        known = {
            one.text: self._known[one.text]
            for one in wanted.references
            if one.text in self._known and one[:2] not in self._to_come
        }
        return with_values(wanted, known)

    def note(self, change: Change) -> None:
        if change.action in (Action.CREATE, Action.REPLACE):
            self._to_come.add(change.address)


class _Comparison:
    """One table against what it means."""

    def __init__(
        self, state: ControlState, kinds: Mapping[str, ResourceKind], secret: ReadSecret, *, prune: bool
    ) -> None:
        self._state = state
        self._kinds = kinds
        self._secret = secret
        self._prune = prune

    def change(self, wanted: Wanted, found: RemoteResource | None) -> Change:
        secrets = self._secrets_of(wanted)
        if found is None:
            differs = differences({}, wanted.fields)
            return _made(Action.CREATE, wanted, None, differs, secrets=tuple(secrets), ours=True)
        record = self._state.record(found.kind, found.id)
        intent = self._state.intends(found.kind, found.key) if record is None else None
        ours = bool(intent or (record and record.created))
        differs = _all_differences(found, wanted)
        sent = _changed_secrets(secrets, record)
        if immutable := _immutable(differs, self._kinds[wanted.kind].immutable):
            action, why = self._replace(wanted, record, immutable, ours=ours)
            sent = tuple(secrets) if action is Action.REPLACE else ()
            return _made(action, wanted, found, differs, secrets=sent, why=why, ours=ours or self._prune)
        if differs and (why := self._kinds[wanted.kind].refusal(found, wanted)):
            action = Action.REFUSED
        elif differs or sent:
            action, why = Action.UPDATE, _changed_outside(found, record, differs)
        elif not found.settled:
            action, why = Action.RESUME, f"it is {found.state}" if found.state else "it was not ended"
        elif intent:
            action, why = Action.REMEMBER, "made by an apply that was cut off"
        elif record is None:
            action, why = Action.ADOPT, "it exists already"
        else:
            why = _not_as_remembered(wanted, record)
            action = Action.REMEMBER if why else Action.NOTHING
        return _made(action, wanted, found, differs, secrets=sent, why=why, ours=ours)

    def _secrets_of(self, wanted: Wanted) -> dict[str, str]:
        try:
            return secret_hashes(self._state, wanted, self._secret)
        except UserError as error:
            raise UserError(f"{wanted.kind}.{wanted.name}: {error}") from None

    def _replace(
        self, wanted: Wanted, record: ResourceRecord | None, immutable: str, *, ours: bool
    ) -> tuple[Action, str]:
        why = f"{immutable} cannot be changed"
        if wanted.protected or (record and record.protected):
            return Action.REFUSED, f"{why}, and it is protected: it is not deleted and created again"
        if not ours and not self._prune:
            return Action.REFUSED, f"{why}, and it was not made here: delete it yourself, or use --prune"
        return Action.REPLACE, why


def _all_differences(found: RemoteResource, wanted: Wanted) -> tuple[Difference, ...]:
    """Also of the name, for a kind that does not have it among its fields."""
    differs = differences(found.fields, wanted.fields)
    renamed = found.key != wanted.key and not any(one.path == ("name",) for one in differs)
    return (Difference(("name",), found.key, wanted.key), *differs) if renamed else differs


def _made(
    action: Action,
    wanted: Wanted,
    found: RemoteResource | None,
    differs: tuple[Difference, ...],
    *,
    secrets: tuple[str, ...] = (),
    why: str = "",
    ours: bool,
) -> Change:
    return Change(action, wanted.address, wanted.key, wanted, found, differs, secrets, why, ours)


def _immutable(differs: tuple[Difference, ...], immutable: frozenset[str]) -> str:
    """The first field that differs and cannot be changed."""
    return next((one.path[0] for one in differs if one.path[0] in immutable), "")


def _changed_secrets(hashes: Mapping[str, str], record: ResourceRecord | None) -> tuple[str, ...]:
    """Also those that the file has no longer, and those for which it is not known what was sent last."""
    known = record.secrets if record else {}
    return tuple(sorted(one for one in hashes.keys() | known.keys() if hashes.get(one) != known.get(one)))


def _changed_outside(
    found: RemoteResource, record: ResourceRecord | None, differs: tuple[Difference, ...]
) -> str:
    if record and differs and record.fields_hash and record.fields_hash != fields_hash(found.fields):
        return f"changed outside since revision {record.revision}"
    return ""


def _not_as_remembered(wanted: Wanted, record: ResourceRecord) -> str:
    if wanted.protected != record.protected:
        return "protected from now on" if wanted.protected else "no longer protected"
    if wanted.name != record.name:
        return f"it was called {record.name} in the file"
    return "what it comes after is another" if wanted.after != frozenset(record.after) else ""


def _refused_double(wanted: Wanted, several: tuple[RemoteResource, ...]) -> Change:
    ids = ", ".join(found.id for found in several[:5])
    why = f"there are {len(several)} called {wanted.key} ({ids}): delete all but one"
    return Change(Action.REFUSED, wanted.address, wanted.key, wanted, why=why)


def _deletes(
    rest: list[RemoteResource], names: set[ResourceAddress], state: ControlState, *, prune: bool
) -> Iterator[Change]:
    keys = Counter((found.kind, found.key) for found in rest)
    for found in rest:
        record = state.record(found.kind, found.id)
        intent = state.intends(found.kind, found.key) if keys[found.kind, found.key] == 1 else None
        if record is None and intent is None:
            continue  # a stranger's
        if record is not None and not record.created and not prune:
            continue
        address = found.kind, record.name if record else intent.name if intent else found.key
        if address in names:  # its table has become another resource
            address = found.kind, f"{address[1]} ({found.id})"
        names.add(address)
        if record and record.protected:
            why = "protected: apply it with protected = false before you take it out of the file"
            yield Change(Action.REFUSED, address, found.key, found=found, why=why, ours=record.created)
        else:
            differs = differences(found.fields, {})
            yield Change(Action.DELETE, address, found.key, found=found, differences=differs, ours=True)


def _records_of(changes: list[Change], state: ControlState) -> dict[ResourceAddress, ResourceRecord]:
    found = {change.address: change.found for change in changes if change.found}
    records = {address: state.record(one.kind, one.id) for address, one in found.items()}
    return {address: record for address, record in records.items() if record}
