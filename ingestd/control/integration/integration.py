"""Integrations: ``integration`` of the type amazon-eventbridge-source, how Genesys Cloud itself sends to
Amazon EventBridge, and ``webhook``, how it takes any JSON object as an event. Two kinds of ``resource.py``.

Made disabled, then configured (with the version that was read), then enabled, and done when the API reports
it as ACTIVE: whatever ended one of these before its end, the next apply goes on from there. Source: Genesys
Cloud Platform SDK, ``IntegrationsApi``.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints

from ingestd.config.secret_settings import secrets_in
from ingestd.control.engine.lookup import create_or_find
from ingestd.control.engine.model_table import ModelTable, inner, read_table, text
from ingestd.control.engine.resource import (
    Context,
    RemoteResource,
    ResourceAddress,
    ResourceFields,
    ResourceKind,
    Wanted,
)
from ingestd.control.engine.versioned import CurrentVersion, change
from ingestd.control.integration.state import (
    PATH,
    RUNNING,
    intend,
    note,
    path_of,
    wait_until_reported,
    wait_until_stopped,
)
from ingestd.control.trigger.table import from_json
from ingestd.core import redaction
from ingestd.core.errors import UserError
from ingestd.transport.api_client import ApiError, gather

MAX_TOPICS = 1000
VISIBLE_S = 5.0
"""How long to wait for the configuration of an integration that a list shows."""

_EMPTY_NOTES = "node_dynamodb_empty_string"  # what the API answers for notes that were never set


def _topics(topics: list[str]) -> list[str]:
    return sorted(set(topics))


IntegrationTopic = Annotated[
    str, StringConstraints(pattern=r"^v2(\.[A-Za-z0-9_-]+|\.\{[A-Za-z]+\})+$", max_length=256)
]
AwsRegion = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,6}(-[a-z]+){1,3}-[0-9]{1,2}$", max_length=40)]


def _digits(value: Any) -> Any:
    """An account of twelve digits is also taken as a number: ``--set`` reads JSON."""
    return str(value) if type(value) is int and 10**11 <= value < 10**12 else value


class _IntegrationTable(ModelTable):
    aws_account_id: Annotated[str, StringConstraints(pattern=r"^[0-9]{12}$"), BeforeValidator(_digits)]
    aws_region: AwsRegion
    suffix: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
    event_filter: Annotated[
        list[IntegrationTopic], Field(min_length=1, max_length=MAX_TOPICS), AfterValidator(_topics)
    ]
    notes: Annotated[str, StringConstraints(max_length=2000)] = ""
    enabled: bool = True


class _WebhookTable(ModelTable):
    properties: Annotated[dict[str, Any], BeforeValidator(from_json)] = Field(default={})
    notes: Annotated[str, StringConstraints(max_length=2000)] = ""
    enabled: bool = True


class Installed(ResourceKind):
    """What both kinds share. ``type_id``: of the integration. ``table``: of the file."""

    type_id: ClassVar[str]
    table: ClassVar[type[ModelTable]]
    immutable: frozenset[str] = frozenset()

    @abstractmethod
    def fields_of(self, properties: Any) -> dict[str, Any]:
        """Of the properties of a configuration, canonical; they may be anything."""

    @abstractmethod
    def properties(self, fields: ResourceFields, now: Mapping[str, Any]) -> dict[str, Any]:
        """As they are sent. ``now``: as they are; what is not ours of them stays."""

    def parse(self, name: str, table: Mapping[str, Any]) -> Wanted:
        read = read_table(self.table, self.name, name, table)
        fields = read.model_dump(exclude={"name", "after", "protected"})
        return Wanted(
            self.name, name, read.name or name, fields, after=read.addresses, protected=read.protected
        )

    async def read(self, context: Context) -> Sequence[RemoteResource]:
        entities = await context.api.list(PATH, params={"integrationType": self.type_id})
        ours = [entity for entity in entities if text(entity, "integrationType", "id") == self.type_id]
        there = [entity for entity in ours if text(entity, "intendedState") != "DELETED"]
        found = await gather(*(self._look(context, entity) for entity in there))
        return [one for one in found if one is not None]

    async def create(
        self, context: Context, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        began, body = context.clock.monotonic(), {"name": wanted.key, "integrationType": {"id": self.type_id}}
        made, there = await create_or_find(context, self, wanted, path=PATH, body=body)
        if there:
            return self._adopted(there, wanted)
        seconds, its_id = round(context.clock.monotonic() - began, 3), text(made, "id")
        note(context, "INTEGRATION_CREATED", wanted.key, its_id, seconds=seconds)
        state = text(made, "reportedState", "code")
        fields = self._fields(made, {})
        return RemoteResource(self.name, wanted.key, its_id, fields, state=state, settled=False)

    async def update(
        self, context: Context, found: RemoteResource, wanted: Wanted, ids: Mapping[ResourceAddress, str]
    ) -> RemoteResource:
        found = await self._configure(context, found, wanted)
        if found.fields["enabled"] != wanted.fields["enabled"]:
            found = await intend(context, found, enabled=wanted.fields["enabled"])
        return replace(found, settled=False)

    async def settle(self, context: Context, found: RemoteResource, wanted: Wanted) -> RemoteResource:
        enabled = wanted.fields["enabled"]
        if found.version is None or {**found.fields, "enabled": enabled} != wanted.fields:
            found = await self._configure(context, found, wanted)
        if found.settled and found.fields["enabled"] == enabled:
            return found
        if found.state == "ERROR" and enabled and found.fields["enabled"]:
            # It does not leave this state by itself: off, and on again.
            found = await intend(context, found, enabled=False)
        if found.fields["enabled"] != enabled:
            found = await intend(context, found, enabled=enabled)
        return await wait_until_reported(context, found, enabled=enabled)

    async def delete(self, context: Context, found: RemoteResource) -> None:
        """Disabled first: it must not go on sending while it goes. What is gone already is not an error."""
        try:
            if text(await context.api.get(path_of(found)), "intendedState") != "DISABLED":
                found = await intend(context, found, enabled=False)
            await wait_until_stopped(context, found)
        except ApiError as error:
            if not error.is_not_found:
                raise
            return
        await context.api.delete(path_of(found))
        note(context, "INTEGRATION_DELETED", found.key, found.id)

    def export(self, found: RemoteResource) -> Mapping[str, Any]:
        return {"name": found.key, **found.fields}

    def _adopted(self, there: RemoteResource, wanted: Wanted) -> RemoteResource:
        """One without a configuration is ours, from a create whose answer was lost."""
        if _without_state(there.fields) not in (self._config_fields({}), _without_state(wanted.fields)):
            raise UserError(f"{self.name} {there.key} was created by someone else meanwhile: plan again")
        return there

    async def _look(self, context: Context, entity: Mapping[str, Any]) -> RemoteResource | None:
        """With its configuration; None if it went while we looked."""
        its_id = text(entity, "id")
        try:
            path = f"{PATH}/{its_id}/config/current"
            config = await context.api.get_when_visible(path, deadline_s=min(VISIBLE_S, context.deadline_s))
        except ApiError as error:
            if error.is_not_found:
                return None
            raise
        return self.found_of(entity, config)

    def found_of(self, entity: Any, config: Any) -> RemoteResource:
        state, fields = text(entity, "reportedState", "code"), self._fields(entity, config)
        return RemoteResource(
            self.name,
            text(entity, "name"),
            text(entity, "id"),
            fields,
            state=state,
            version=_version(config),
            settled=state == "ACTIVE" if fields["enabled"] else state not in RUNNING,
        )

    def _fields(self, entity: Any, config: Any) -> ResourceFields:
        return self._config_fields(config) | {"enabled": text(entity, "intendedState") == "ENABLED"}

    def _config_fields(self, config: Any) -> dict[str, Any]:
        """Of an answer to a GET of the configuration: canonical, without what the server fills in."""
        notes = text(config, "notes")
        return {
            **self.fields_of(inner(config, "properties")),
            "notes": "" if notes == _EMPTY_NOTES else notes,
        }

    async def _configure(self, context: Context, found: RemoteResource, wanted: Wanted) -> RemoteResource:
        """Never overwrites another change, and keeps fields that are not ours: see ``versioned.py``."""
        path, renamed = path_of(found, "/config/current"), found.key != wanted.key
        old, new = ({"name": one.key} if renamed else {} for one in (found, wanted))

        async def read() -> CurrentVersion:
            # A 404 right after a create means: not yet.
            config = await context.api.get_when_visible(path, deadline_s=context.deadline_s)
            name = {"name": text(config, "name")} if renamed else {}
            return CurrentVersion(self._config_fields(config) | name, config)

        async def write(now: Mapping[str, Any]) -> Any:
            written = await context.api.put(path, self._config(now, wanted))
            note(context, "INTEGRATION_UPDATED", found.key, found.id, version=_version(written) or 0)
            return written

        config = await change(
            context,
            f"{self.name} {found.key}",
            read=read,
            write=write,
            planned=None if found.version is None else _without_state(found.fields) | old,
            wanted=_without_state(wanted.fields) | new,
        )
        fields = {**_without_state(wanted.fields), "enabled": found.fields["enabled"]}
        return replace(found, key=wanted.key, fields=fields, version=_version(config))

    def _config(self, now: Mapping[str, Any], wanted: Wanted) -> dict[str, Any]:
        properties = inner(now, "properties")
        kept = properties if isinstance(properties, Mapping) else {}
        return {
            "name": wanted.key,
            "version": now.get("version"),
            "properties": self.properties(wanted.fields, kept),
            "advanced": now.get("advanced") or {},
            "notes": wanted.fields["notes"],
            "credentials": now.get("credentials") or {},
        }


class Integration(Installed):
    """``[integration.NAME]``: ``aws_account_id``, ``aws_region``, ``suffix``, ``event_filter`` (topics with a
    literal ``{id}``), ``notes``, ``enabled`` (true)."""

    name, type_id, table = "integration", "amazon-eventbridge-source", _IntegrationTable

    def fields_of(self, properties: Any) -> dict[str, Any]:
        topics = inner(properties, "eventFilter")
        topics = topics if isinstance(topics, list) else []
        return {
            "aws_account_id": text(properties, "awsAccountId"),
            "aws_region": text(properties, "awsAccountRegion"),
            "suffix": text(properties, "eventSourceSuffix"),
            "event_filter": _topics([topic for topic in topics if isinstance(topic, str)]),
        }

    def properties(self, fields: ResourceFields, now: Mapping[str, Any]) -> dict[str, Any]:
        return {
            **now,
            "awsAccountId": fields["aws_account_id"],
            "awsAccountRegion": fields["aws_region"],
            "eventSourceSuffix": fields["suffix"],
            "eventFilter": fields["event_filter"],
        }


class WebhookKind(Installed):
    """``[webhook.NAME]``: ``properties`` (as the type has them), ``notes``, ``enabled`` (true). The platform
    gives it an ``invocationUrl``, a secret, with which anybody may post there."""

    name, type_id, table = "webhook", "webhook", _WebhookTable

    def fields_of(self, properties: Any) -> dict[str, Any]:
        return {"properties": dict(properties) if isinstance(properties, Mapping) else {}}

    def properties(self, fields: ResourceFields, now: Mapping[str, Any]) -> dict[str, Any]:
        return dict(fields["properties"])

    async def attribute(self, context: Context, found: RemoteResource, name: str) -> str:
        """It appears a while after the webhook does. Raises UserError at the deadline."""
        async for _ in context.polls():
            if value := text(await context.api.get(path_of(found)), "attributes", name):
                for secret in (value, *secrets_in(value, whole=True)):
                    redaction.hide(secret)
                return value
        raise UserError(f"webhook {found.key}: after {context.deadline_s:g} s the API has no {name} for it")


def _version(config: Any) -> int | None:
    version = inner(config, "version")
    return version if isinstance(version, int) else None


def _without_state(fields: ResourceFields) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if name != "enabled"}
