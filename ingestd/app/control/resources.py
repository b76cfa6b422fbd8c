"""One resource of the control plane by hand: find it, make it, change it, delete it.

A create that is typed twice makes one resource: what exists already is continued from its present state. What
an apply remembers stays right: a secret that is changed here is no news to the next plan.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ingestd.app.control.session import Control
from ingestd.control.engine.compare import differences, dotted
from ingestd.control.engine.document_file import read_tree
from ingestd.control.engine.kinds import command_of
from ingestd.control.engine.resource import Context, RemoteResource, ResourceKind, Wanted
from ingestd.control.engine.secret import SecretRef
from ingestd.control.engine.state import secret_hashes
from ingestd.control.engine.state_file import open_state
from ingestd.control.engine.variables import fill_in, read_variables
from ingestd.control.target.target import Target
from ingestd.control.target.webhook_sync import Webhook, sync
from ingestd.core import json_text
from ingestd.core.errors import Unreachable, UserError
from ingestd.core.text import did_you_mean
from ingestd.schemas.trigger_match import (
    Condition,
    ConditionResult,
    all_match,
    body_of,
    is_of_topic,
    judge,
)

NOT_FINISHED_CODE = 3
_SHOWN = 80


class ResourceNotFound(UserError):
    """No resource of that kind has this name or id."""


async def find(context: Context, kind: ResourceKind, name: str) -> RemoteResource:
    """By its natural key, else by its id. Raises ResourceNotFound, and UserError for several of one name."""
    return _pick(await kind.read(context), kind, name)


def _pick(there: Sequence[RemoteResource], kind: ResourceKind, name: str) -> RemoteResource:
    matching = [found for found in there if found.key == name] or [f for f in there if f.id == name]
    if len(matching) > 1:
        ids = ", ".join(found.id for found in matching[:5])
        raise UserError(f"{kind.name} {name[:_SHOWN]}: {len(matching)} have that name: give an id ({ids})")
    if not matching:
        close = did_you_mean(name, [found.key for found in there])
        hint = f"did you mean {close}?" if close else f"see `ingestd {command_of(kind.name)} list`"
        raise ResourceNotFound(f"{kind.name} {name[:_SHOWN]}: there is none; {hint}")
    return matching[0]


async def create(control: Control, kind: ResourceKind, wanted: Wanted) -> RemoteResource:
    """As it stands in the end. Raises UserError where one of that name exists and is different."""
    control.open_audit()
    context = control.context
    there = [found for found in await kind.read(context) if found.key == wanted.key]
    if not there:
        made = await kind.create(context, wanted, {})
        return await _settle(context, kind, made, wanted)
    found = _pick(there, kind, wanted.key)
    if changes := differences(found.fields, wanted.fields):
        raise UserError(
            f"{kind.name} {wanted.key} exists already, with another {dotted(changes[0].path)}: change it with"
            f" `ingestd {command_of(kind.name)} update`"
        )
    return await _settle(context, kind, found, wanted)


async def update(
    control: Control, kind: ResourceKind, found: RemoteResource, wanted: Wanted
) -> RemoteResource:
    """As it stands in the end. Raises UserError for fields that cannot be changed."""
    control.open_audit()
    context = control.context
    changes = differences(found.fields, wanted.fields)
    if fixed := sorted({change.path[0] for change in changes} & kind.immutable):
        raise UserError(
            f"{kind.name} {found.key}: {fixed[0]} cannot be changed: delete it and create it again, or have"
            " `ingestd apply` do that"
        )
    with open_state(control.directory, control.api, change=True) as state:
        if changes or wanted.secrets:
            found = await kind.update(context, found, wanted, {})
        if record := state.record(found.kind, found.id):
            known = replace(
                wanted, name=record.name, protected=record.protected, after=frozenset(record.after)
            )
            hashes = secret_hashes(state, wanted, context.secret)
            state.remember(found, known, created=record.created, secrets=hashes)
            state.save()
    return await _settle(context, kind, found, wanted)


async def _settle(
    context: Context, kind: ResourceKind, found: RemoteResource, wanted: Wanted
) -> RemoteResource:
    """Raises UserError with ``NOT_FINISHED_CODE``: the resource is there, and is not what it is to become."""
    try:
        return await kind.settle(context, found, wanted)
    except Unreachable:
        raise
    except UserError as error:
        error.exit_code = NOT_FINISHED_CODE
        raise


async def delete(control: Control, kind: ResourceKind, name: str) -> RemoteResource:
    """What was deleted. Raises UserError as ``find_unprotected`` does."""
    control.open_audit()
    found = await find(control.context, kind, name)
    with open_state(control.directory, control.api, change=True) as state:
        _check_unprotected(control, found)
        await kind.delete(control.context, found)
        state.forget(found.kind, found.id)
        state.save()
    return found


async def find_unprotected(control: Control, kind: ResourceKind, name: str) -> RemoteResource:
    """Raises UserError for what was declared as protected in the file of the last apply."""
    found = await find(control.context, kind, name)
    _check_unprotected(control, found)
    return found


async def verify(control: Control, name: str) -> RemoteResource:
    """A target, verified. Raises UserError with NOT_FINISHED_CODE where that fails."""
    control.open_audit()
    kind = Target()
    found = await find(control.context, kind, name)
    try:
        return await kind.verify(control.context, found)
    except Unreachable:
        raise
    except UserError as error:
        error.exit_code = NOT_FINISHED_CODE
        raise


async def check_health(control: Control, name: str) -> Mapping[str, Any]:
    """What the API says of a target's endpoint: ``{"status": "HEALTHY", ...}``."""
    control.open_audit()
    kind = Target()
    return await kind.health(control.context, await find(control.context, kind, name))


async def sync_webhook(control: Control, name: str, webhook: Webhook) -> bool:
    """Whether the gateway took the news of a target."""
    control.open_audit()
    return await sync(control.context, await find(control.context, Target(), name), webhook)


def _check_unprotected(control: Control, found: RemoteResource) -> None:
    """Raises UserError."""
    with open_state(control.directory, control.api, change=False) as state:
        record = state.record(found.kind, found.id)
    if record and record.protected:
        raise UserError(
            f"{found.kind} {found.key} is protected: take `protected` out of its file and apply that first"
        )


def read_table(file: str | None, kind: ResourceKind, name: str) -> Mapping[str, Any]:
    """``[KIND.NAME]`` of a file of resources, variables put in; empty without a file. Raises UserError."""
    if not file:
        return {}
    try:
        tree = read_tree(Path(file))
        values = read_variables(tree.pop("variables", {}), {})
        tables = tree.get(kind.name)
        if not isinstance(tables, Mapping) or not isinstance(tables.get(name), Mapping):
            raise UserError(f"there is no table [{kind.name}.{name[:_SHOWN]}]")
        filled: Mapping[str, Any] = fill_in(tables[name], values, where=f"{kind.name}.{name}")
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return filled


def find_webhook(name: str, url: str | None, secret: str | None, file: str | None) -> Webhook:
    """As given, or that of ``[target.NAME]`` in a file. Raises UserError where there is none."""
    if url and secret:
        return Webhook(url, SecretRef.parse(secret, where="--secret"))
    if url or secret or not file:
        raise UserError(
            "No gateway is given. Use --url and --secret, or -f FILE with a webhook in its target."
        )
    wanted = Target().parse(name, read_table(file, Target(), name))
    if wanted.webhook is None:
        raise UserError(f"{file}: target {name} has no webhook")
    return wanted.webhook


def parse(kind: ResourceKind, name: str, table: Mapping[str, Any]) -> Wanted:
    """What it comes after is for those who apply whole files; by hand, the order is the person's."""
    return kind.parse(name, {field: value for field, value in table.items() if field != "after"})


def change(
    kind: ResourceKind, found: RemoteResource, table: Mapping[str, Any], assignments: Sequence[str]
) -> Wanted:
    """What ``found`` is to be: what is not named stays. Raises UserError, also for a secret that is needed
    and not named: no API answers it."""
    given = assemble(assignments, {**kind.export(found), **table})
    wanted = parse(kind, found.key, given)
    named = {text.partition("=")[0] for text in assignments}
    for path, reference in wanted.secrets.items():
        top = path.partition(".")[0]
        if not {path, top} & named and top not in table:
            try:
                reference.read()
            except UserError:
                raise UserError(
                    f"{kind.name} {found.key}: the API does not return secrets: name {path} again, as in"
                    f" --set {path}=env:NAME"
                ) from None
    return wanted


def assemble(assignments: Sequence[str], table: Mapping[str, Any]) -> dict[str, Any]:
    """``table`` with each ``field=value`` put in; dotted fields are tables in tables. Raises UserError."""
    made: dict[str, Any] = json.loads(json.dumps(table, default=str))
    for text in assignments:
        field, sign, value = text.partition("=")
        *path, last = field.split(".")
        if not sign or not all((*path, last)):
            raise UserError(f"--set {field[:_SHOWN]}: write FIELD=VALUE, such as retry.max_retries=3")
        place = made
        for part in path:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise UserError(f"--set {field[:_SHOWN]}: {part} is not a table")
        place[last] = _value(value)
    return made


def _value(text: str) -> Any:
    """JSON where it is some, else the text itself."""
    try:
        return json_text.read(text)
    except ValueError:
        return text


class TriggerTest(NamedTuple):
    """``topic``: of the event, where it says so; empty: it does not, or it is the trigger's."""

    trigger: str
    results: list[ConditionResult]
    other_topic: str
    enabled: bool

    @property
    def matches(self) -> bool | None:
        """None: it cannot be told here."""
        return False if self.other_topic else all_match(self.results)


def check_trigger(name: str, fields: Mapping[str, Any], event: bytes) -> TriggerTest:
    """Whether a trigger with these fields takes an event. Raises UserError for what is not JSON."""
    try:
        body, topic = body_of(json_text.read(event.decode()))
    except (ValueError, RecursionError) as error:
        raise UserError(f"the event is not JSON: {error}") from None
    conditions = [
        Condition(one["json_path"], one["operator"], one.get("value"), one.get("values"))
        for one in fields["match_criteria"]
    ]
    other = topic if topic and not is_of_topic(topic, fields["topic_name"]) else ""
    return TriggerTest(name, judge(conditions, body), other, fields["enabled"])
