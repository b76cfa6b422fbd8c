"""Process automation triggers: a topic and criteria on one side, a workflow on the other. One kind of
``resource.py``. Source: Genesys Cloud Platform SDK, ``ProcessAutomationApi``.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from ingestd.control.engine.compare import canonical
from ingestd.control.engine.lookup import create_or_find
from ingestd.control.engine.model_table import inner, read_table, text
from ingestd.control.engine.resource import Address, AuditStep, Context, Fields, RemoteResource, Wanted
from ingestd.control.engine.versioned import CurrentVersion, change
from ingestd.control.trigger.table import OPERATORS, TriggerTable
from ingestd.core.errors import UserError

PATH = "/api/v2/processautomation/triggers"
PAGE_SIZE = 200


class Trigger:
    """``[trigger.NAME]``: ``topic_name``, ``workflow_id``, ``data_format``, ``match_criteria``,
    ``event_ttl_seconds`` or ``delay_by_seconds``, ``description``, ``enabled`` (true)."""

    name = "trigger"
    immutable = frozenset({"topic_name"})

    def parse(self, name: str, table: Mapping[str, Any]) -> Wanted:
        read = read_table(TriggerTable, self.name, name, table)
        fields = read.model_dump(exclude={"name", "after", "protected", "match_criteria"})
        fields["match_criteria"] = _criteria(one.model_dump() for one in read.match_criteria)
        read.warn(name)
        return Wanted(
            self.name, name, read.name or name, fields, after=read.addresses, protected=read.protected
        )

    async def read(self, context: Context) -> Sequence[RemoteResource]:
        return [found_of(entity) for entity in await context.api.list(PATH, params={"pageSize": PAGE_SIZE})]

    async def create(self, context: Context, wanted: Wanted, ids: Mapping[Address, str]) -> RemoteResource:
        began = context.clock.monotonic()
        answer, there = await create_or_find(context, self, wanted, path=PATH, body=_body(wanted))
        if there:
            return _adopted(there, wanted)
        made = found_of(answer)
        _note(context, "TRIGGER_CREATED", made, seconds=round(context.clock.monotonic() - began, 3))
        return made

    async def update(
        self, context: Context, found: RemoteResource, wanted: Wanted, ids: Mapping[Address, str]
    ) -> RemoteResource:
        """Never overwrites another change: see ``versioned.py``."""
        if found.fields["topic_name"] != wanted.fields["topic_name"]:
            raise UserError(
                f"trigger {found.key}: its topic cannot be changed: delete it and create it again"
            )
        path = f"{PATH}/{found.id}"

        async def read() -> CurrentVersion:
            now = await context.api.get_when_visible(path, deadline_s=context.deadline_s)
            return CurrentVersion(found_of(now).fields, now)

        async def write(now: Mapping[str, Any]) -> Any:
            written = await context.api.put(path, _foreign(now) | _body(wanted))
            _note(context, "TRIGGER_UPDATED", found_of(written))
            return written

        what, planned, fields = f"trigger {found.key}", found.fields, wanted.fields
        return found_of(await change(context, what, read=read, write=write, planned=planned, wanted=fields))

    async def settle(self, context: Context, found: RemoteResource, wanted: Wanted) -> RemoteResource:
        """It stands at once."""
        return found

    async def delete(self, context: Context, found: RemoteResource) -> None:
        await context.api.delete(f"{PATH}/{found.id}")
        _note(context, "TRIGGER_DELETED", found)

    def export(self, found: RemoteResource) -> Mapping[str, Any]:
        given = {name: value for name, value in found.fields.items() if value is not None}
        return {"name": found.key, **given}


def _note(context: Context, entry: str, found: RemoteResource, **more: float) -> None:
    context.note(AuditStep(entry, {"trigger": found.key, "id": found.id, **more}))


def _adopted(there: RemoteResource, wanted: Wanted) -> RemoteResource:
    """It is ours if it is what we would have made: a create whose end we did not see."""
    if canonical(there.fields) != canonical(wanted.fields):
        raise UserError(f"trigger {there.key} was created by someone else meanwhile: plan again")
    return there


def _criteria(criteria: Any) -> list[dict[str, Any]]:
    """All have to match, so their order means nothing; neither does that of ``values``, as far as we know the
    operator."""
    plain = []
    for one in criteria:
        kept = {name: value for name, value in one.items() if value is not None}
        if isinstance(kept.get("values"), list) and kept.get("operator") in OPERATORS:
            kept["values"] = _sorted_set(kept["values"])
        plain.append(kept)
    return _sorted_set(plain)


def _sorted_set(values: list[Any]) -> list[Any]:
    by_text = {canonical(value): value for value in values}
    return [by_text[key] for key in sorted(by_text)]


def found_of(entity: Any) -> RemoteResource:
    """Of an answer: what the server fills in is left out, its nulls are the defaults."""
    version, criteria = inner(entity, "version"), inner(entity, "matchCriteria")
    criteria = [one for one in criteria if isinstance(one, dict)] if isinstance(criteria, list) else []
    fields: Fields = {
        "topic_name": text(entity, "topicName"),
        "workflow_id": text(entity, "target", "id"),
        "data_format": text(entity, "target", "workflowTargetSettings", "dataFormat") or "TopLevelPrimitives",
        "match_criteria": _criteria(
            {_SNAKE.get(name, name): value for name, value in one.items()} for one in criteria
        ),
        "event_ttl_seconds": inner(entity, "eventTTLSeconds"),
        "delay_by_seconds": inner(entity, "delayBySeconds"),
        "description": text(entity, "description"),
        "enabled": inner(entity, "enabled") is True,
    }
    return RemoteResource(
        "trigger",
        text(entity, "name"),
        text(entity, "id"),
        fields,
        state="ENABLED" if fields["enabled"] else "DISABLED",
        version=version if isinstance(version, int) else None,
    )


_SNAKE = {"jsonPath": "json_path"}


def _foreign(now: Mapping[str, Any]) -> dict[str, Any]:
    """What the platform has in a trigger and we have no name for: it stays; the version goes back."""
    return {name: value for name, value in now.items() if name not in _OURS}


_OURS = {
    *("id", "selfUri", "dateCreated", "dateModified", "name", "topicName", "enabled", "target"),
    *("matchCriteria", "eventTTLSeconds", "delayBySeconds", "description"),
}


def _body(wanted: Wanted) -> dict[str, Any]:
    fields = wanted.fields
    body = {
        "name": wanted.key,
        "topicName": fields["topic_name"],
        "enabled": fields["enabled"],
        "target": {
            "type": "Workflow",
            "id": fields["workflow_id"],
            "workflowTargetSettings": {"dataFormat": fields["data_format"]},
        },
        "matchCriteria": [
            {"jsonPath" if name == "json_path" else name: value for name, value in one.items()}
            for one in fields["match_criteria"]
        ],
        "eventTTLSeconds": fields["event_ttl_seconds"],
        "delayBySeconds": fields["delay_by_seconds"],
        "description": fields["description"],
    }
    return {name: value for name, value in body.items() if value is not None}
