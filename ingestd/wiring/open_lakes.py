"""Opens the lakes of a pipeline, and says what fills each of them. Called by ``pipeline.py``."""

import sqlite3
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import msgspec

from ingestd.core.address import check_url
from ingestd.core.errors import UserError
from ingestd.lake.callback import Callback
from ingestd.lake.file_writer import ObjectStore
from ingestd.lake.lake import Lake, open_lake
from ingestd.processing import routes
from ingestd.recording.outcome_journal import ToLake
from ingestd.sinks.lake import LakeConfig, LakeLayout
from ingestd.store.outbox import OutboxAddition
from ingestd.store.writer import Work
from ingestd.telemetry.sink_metrics import LakeGauges
from ingestd.transport.auth import NoAuth
from ingestd.transport.client import Auth, Client, Sender
from ingestd.transport.folder import FolderTransport
from ingestd.transport.url_guard import UrlGuard
from ingestd.transport.webhook_signature import StandardWebhooks
from ingestd.wiring.http_clients import make_client
from ingestd.wiring.sink_context import PipelineContext

KeepAccepted = Callable[[Sequence[bytes]], OutboxAddition | None]


class OpenLake(msgspec.Struct, frozen=True):
    """``accepted``: called with accepted events, if the lake keeps those; gives what is written with
    that. ``delivered``: the same for events that ``sink`` delivered."""

    name: str
    lake: Lake
    accepted: KeepAccepted | None
    sink: str
    delivered: ToLake


async def open_lakes(stack: AsyncExitStack, context: PipelineContext) -> list[OpenLake]:
    """Raises UserError for a lake that cannot be used."""
    opened: list[OpenLake] = []
    for name, section in context.settings.sinks.items():
        if isinstance(section, LakeConfig):
            opened.append(await _open(stack, context, name, section))
    return opened


def keep_delivered(lakes: Sequence[OpenLake], sink: str) -> ToLake | None:
    """What the lakes of ``sink`` write with the end of its batches; None: it has no lake."""
    keeps = [lake.delivered for lake in lakes if lake.sink == sink]
    if len(keeps) < 2:
        return keeps[0] if keeps else None
    return partial(_keep_all, keeps)


def _keep_all(
    keeps: Sequence[ToLake], events: Sequence[bytes], request_id: str, latency_s: float
) -> Work | None:
    works = [work for keep in keeps if (work := keep(events, request_id, latency_s))]

    def write(connection: sqlite3.Connection) -> None:
        for work in works:
            work(connection)

    return write if works else None


async def _open(stack: AsyncExitStack, context: PipelineContext, name: str, section: LakeConfig) -> OpenLake:
    client = await _client(stack, context)
    lake = await stack.enter_async_context(
        open_lake(
            context.database,
            _store(context, name, section, client),
            name=name,
            layout=LakeLayout(section.format, section.partition, section.time, section.event_type),
            file_bytes=section.file_bytes,
            file_age_s=section.file_age,
            max_backlog_bytes=section.max_backlog,
            warn=context.warn,
            callback=await _callback(stack, context, name, section),
            audit=context.audit,
            states=context.states,
            clock=context.clock,
            rng=context.rng,
        )
    )
    keep = partial(_keep, context, lake, routes.compile({name: section.when}) if section.when else None, name)
    outbox = lake.outbox
    context.metrics.by_sink.lakes[name] = LakeGauges(
        waiting_events=lambda: outbox.events,
        waiting_bytes=lambda: outbox.bytes,
        oldest_s=lambda: lake.oldest_age_s,
        files=lambda: lake.files_written,
        failures=lambda: lake.failures,
        skipped_events=lambda: outbox.skipped_events,
    )

    def delivered(events: Sequence[bytes], request_id: str, latency_s: float) -> Work | None:
        return keep(events, request_id=request_id, latency_s=latency_s)

    return OpenLake(name, lake, keep if section.of == "accepted" else None, section.of, delivered)


async def _client(
    stack: AsyncExitStack, context: PipelineContext, *, guard: UrlGuard | None = None
) -> Client:
    client = make_client(
        context.settings,
        max_connections=64,
        guard=guard,
        watch=context.watch,
        timeout_s=30.0,
        clock=context.clock,
        rng=context.rng,
        engine=context.engine,
    )
    return await stack.enter_async_context(client)


def _keep(
    context: PipelineContext,
    lake: Lake,
    router: routes.Routes | None,
    name: str,
    events: Sequence[bytes],
    *,
    request_id: str = "",
    latency_s: float = 0.0,
) -> OutboxAddition | None:
    if router:
        events = [events[position] for position in router.route(events).positions[name]]
    return lake.outbox.add(events, request_id=request_id, latency_s=latency_s, at=context.clock.wall())


def _store(context: PipelineContext, name: str, section: LakeConfig, client: Client) -> ObjectStore:
    def folder(path: str) -> FolderTransport:
        return FolderTransport(
            Path(path),
            file_mode=int(section.file_mode, 8),
            clock=context.clock,
            file_system=context.file_system,
        )

    parts = urlsplit(section.url)
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return folder(unquote(parts.path))
    if parts.scheme == "s3" and parts.netloc:
        from ingestd.transport.s3 import S3Transport  # an extra: only for those who want it

        return S3Transport(
            client,
            bucket=parts.netloc,
            prefix=parts.path,
            region=section.aws_region,
            profile=section.aws_profile,
            endpoint_url=section.endpoint_url,
        )
    if "://" not in section.url:
        return folder(section.url)
    raise UserError(f"sinks.{name}.url: expected a folder, file:///folder or s3://bucket/prefix")


async def _callback(
    stack: AsyncExitStack, context: PipelineContext, name: str, section: LakeConfig
) -> Callback | None:
    secret_file = section.callback_secret_file
    auth: Auth = NoAuth()
    if not section.callback_url:
        if secret_file:
            raise UserError(f"sinks.{name}.callback_secret_file: there is no callback_url to sign for")
        return None
    guard = UrlGuard(allow_private=section.allow_private)
    try:
        check_url(section.callback_url)
        guard.check_host(section.callback_url)
    except ValueError as error:
        raise UserError(f"sinks.{name}.callback_url: {error}") from None
    if secret_file:
        try:
            auth = StandardWebhooks(file=secret_file, clock=context.clock, watch=context.watch)
        except UserError as error:
            raise UserError(f"sinks.{name}.callback_secret_file: {error}") from None
    client = await _client(stack, context, guard=guard)
    sender = Sender(client, auth)
    return Callback(sender, section.callback_url, warn=context.warn, clock=context.clock, rng=context.rng)
