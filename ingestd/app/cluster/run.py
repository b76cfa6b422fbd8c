"""The life of ``ingestd run`` on a spool that is on JetStream: an edge, a worker, or both in one process.

An edge shuts down by refusing producers (503), answering what it took, and closing its listener; a worker by
finishing what is on its way, as far as that works in ``delivery.shutdown_timeout``. The rest is in the
streams.
"""

import gc
import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial

import anyio
import anyio.abc
import msgspec

from ingestd.admin.server import serve_admin
from ingestd.app.cluster.freed_blocks import keep_freed_blocks
from ingestd.app.cluster.reload import reload
from ingestd.app.cluster.service import ClusterService, Handed, describe
from ingestd.app.event_loop import run_loop
from ingestd.app.service_parts import Load, authenticator, endpoint_settings, limits, open_certificates
from ingestd.cluster.link import JetStreamLink
from ingestd.cluster.membership import Member, Membership
from ingestd.cluster.names import StreamNames
from ingestd.cluster.worker import Worker
from ingestd.config import Settings, check_run, find_login, find_state_directory
from ingestd.core.address import parse_listen, write_listen
from ingestd.core.clock import SystemClock, system_rng, until_turn
from ingestd.core.errors import UserError, first_cause
from ingestd.httpd.server import serve
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.http import aside
from ingestd.sources.http.endpoint import Endpoint
from ingestd.telemetry import log
from ingestd.telemetry.audit_entry import Audit, no_audit
from ingestd.telemetry.refusals import Refusals
from ingestd.telemetry.sink_metrics import SinkGauges
from ingestd.wiring.factories import open_audit
from ingestd.wiring.open_cluster import open_edge, open_sink_parts

EXIT_SECOND_SIGNAL = 130
_ANSWER_S = 5.0
_LOOK_S = 1.0


def serve_on_nats(
    load: Load, settings: Settings, *, edge: bool, worker: bool, handed: Handed | None = None
) -> int:
    """What ``ingestd run`` does where spool.kind is nats; the exit code. ``handed``: by the supervisor, to a
    child. Raises UserError for what could not even begin."""
    gc.set_threshold(50_000, 20, 20)
    if edge:
        keep_freed_blocks()
    log.configure(settings.log.format, settings.log.level)

    async def session() -> int:
        async with open_cluster_service(load, settings, edge=edge, worker=worker, handed=handed) as service:
            await run(service)
        return service.exit_code

    return run_loop(session)


@asynccontextmanager
async def open_cluster_service(
    load: Load, settings: Settings, *, edge: bool, worker: bool, handed: Handed | None = None
) -> AsyncIterator[ClusterService]:
    """Build everything and listen. Raises UserError."""
    kind = "both" if edge and worker else "edge" if edge else "worker"
    service = ClusterService(load, settings, SystemClock(), kind=kind, handed=handed)
    clock = service.clock
    async with AsyncExitStack() as stack:
        service.signals = stack.enter_context(
            anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        )
        host, port = parse_listen(settings.admin.listen)
        service.admin_port = await stack.enter_async_context(
            serve_admin(
                host,
                port,
                registry=service.metrics.registry,
                health=service.watchdog.problem,
                readiness=service.readiness,
                status=partial(describe, service),
            )
        )
        if worker:
            login = find_login(settings)
            parts = await stack.enter_async_context(
                open_sink_parts(
                    settings,
                    login,
                    metrics=service.metrics,
                    states=service.states,
                    trace=service.trace,
                    watch=service.watch,
                    clock=clock,
                    rng=system_rng(),
                    warn=log.warning,
                )
            )
            service.worker = Worker(
                settings,
                parts,
                msgspec.structs.replace(service.member, sinks=[*parts]),
                clock=clock,
                rng=system_rng(),
                warn=log.warning,
                inform=log.info,
                tap_source=service.tap_source,
            )
            for name in parts:
                service.metrics.by_sink.sinks[name] = _sum_of_shares(service.worker, name)
        if edge:
            await _open_edge(service, stack)
        yield service


def _sum_of_shares(worker: Worker, sink: str) -> SinkGauges:
    """Of all shares of a sink that this worker owns, or has owned."""
    lanes = partial(worker.owned.active_lanes, sink)
    return SinkGauges(
        ledger=partial(worker.owned.ledger_of, sink),
        active=lambda: sum(lane.active for lane in lanes()),
        limit=lambda: sum(lane.limiter.limit for lane in lanes()),
        queued=lambda: sum(lane.queued for lane in lanes()),
        waiting=lambda: sum(lane.waiting for lane in lanes()),
        held=lambda: sum(lane.held for lane in lanes()),
        is_parked=lambda: worker.parking.is_parked(sink),
        circuit_closed=lambda: all(not lane.circuit.why for lane in lanes()),
    )


async def _open_edge(service: ClusterService, stack: AsyncExitStack) -> None:
    settings, clock = service.settings, service.clock
    check_run(settings)
    link = service.link = JetStreamLink(settings.spool, clock, system_rng(), log.warning)
    stack.push_async_callback(link.close)  # where the rest does not open, and nobody runs it
    service.edge = await open_edge(
        settings,
        link,
        edge=service.member.name,
        accepted=service.own_metrics.producers.add,
        clock=clock,
        warn=log.warning,
        trace=service.trace,
    )
    refusals = service.refusals = Refusals(log.change, _open_audit(service, stack), clock)
    keys = authenticator(settings.ingest, clock)
    service.endpoint = Endpoint(
        endpoint_settings(settings.ingest),
        keys,
        service.edge,
        clock,
        stack.enter_context(aside.BodyThread()),
        refusals.note,
    )
    service.certificates = open_certificates(settings.ingest)
    service.server = await stack.enter_async_context(
        serve(
            service.endpoint,
            limits(settings.ingest),
            *parse_listen(settings.ingest.listen),
            certificates=service.certificates,
            refused=partial(refusals.note, ""),
            shared=service.handed is not None,
        )
    )
    service.own_metrics.producers.configure(settings.ingest.producers)


def _open_audit(service: ClusterService, stack: AsyncExitStack) -> Audit:
    """The file of the supervisor; edges on machines of their own have none. Strangers can make an edge write
    much, so it rotates, too."""
    if service.handed is None:
        return no_audit
    settings = service.handed.configured
    service.audit = open_audit(settings.audit, find_state_directory(settings))
    stack.callback(service.audit.close)
    return service.audit


async def run(service: ClusterService) -> None:
    """Until a signal, or an error (in ``service.error``)."""
    try:
        async with anyio.create_task_group() as tasks:
            with service.watchdog.watch():
                tasks.start_soon(_watch_signals, service, tasks)
                tasks.start_soon(service.systemd.keep_alive)
                tasks.start_soon(_look, service)
                service.opened = True
                _log_started(service)
                service.systemd.ready()
                if service.handed:
                    service.handed.opened(service.admin_port)
                async with anyio.create_task_group() as parts:
                    if service.worker:
                        parts.start_soon(service.worker.run)
                    if service.edge:
                        parts.start_soon(_run_edge, service)
                tasks.cancel_scope.cancel()
    except* UserError as group:
        service.error = first_cause(group)
        log.error(str(service.error))
    log.info("stopped")


async def _run_edge(service: ClusterService) -> None:
    """Until it has answered what it took, after the first signal."""
    link, edge, server = service.link, service.edge, service.server
    assert link
    assert edge
    assert server
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(link.run)
        tasks.start_soon(edge.room.watch, link)
        if service.worker is None:
            tasks.start_soon(_announce_member, service)
            tasks.start_soon(_show_events, service)
        await service.closed.wait()
        edge.closing = True
        server.stop_listening()
        timeout_s = min(_ANSWER_S, service.settings.delivery.shutdown_timeout)
        await server.drain(timeout_s)
        with suppress(TimeoutError):
            async with service.clock.timeout(timeout_s):
                await edge.finished()
        tasks.cancel_scope.cancel()


async def _announce_member(service: ClusterService) -> None:
    """An edge says that it is there, too: for ``ingestd workers``."""
    link = service.link
    assert link
    membership = Membership(
        StreamNames(service.settings.spool.name), service.clock, partial(_member, service)
    )
    while True:
        connection = link.connection
        try:
            if connection:
                await membership.announce(connection)
        except BrokerAway:
            pass  # the link opens another one
        await service.clock.sleep(until_turn(_LOOK_S, service.clock.monotonic()))


async def _show_events(service: ClusterService) -> None:
    """To the viewers of passing events, with each connection again."""
    link = service.link
    assert link
    while True:
        if connection := link.connection:
            try:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(service.tap_source.run, connection)
                    while link.connection is connection:
                        await service.clock.sleep(until_turn(_LOOK_S, service.clock.monotonic()))
                    tasks.cancel_scope.cancel()
            except* BrokerAway:
                pass  # the link opens another one
        await service.clock.sleep(until_turn(_LOOK_S, service.clock.monotonic()))


def _member(service: ClusterService) -> Member:
    assert service.edge
    counts = service.edge.counts
    return msgspec.structs.replace(
        service.member, stored=counts.stored, rejected=counts.rejected, leaving=service.closing
    )


async def _watch_signals(service: ClusterService, tasks: anyio.abc.TaskGroup) -> None:
    """The first signal drains, the second ends at once."""
    del tasks
    async for number in service.signals:
        if number == signal.SIGHUP:
            reload(service)
        elif service.closing:
            log.warning("forced shutdown, acknowledged events are in the spool")
            os._exit(EXIT_SECOND_SIGNAL)
        else:
            service.closed.set()
            service.systemd.stopping()
            timeout_s = service.settings.delivery.shutdown_timeout
            log.info("shutting down", signal=number.name, timeout_seconds=timeout_s)
            if service.worker:
                service.worker.stop(timeout_s)


async def _look(service: ClusterService) -> None:
    """Once a second: whether something stands still, what the log held back, whether a certificate is new."""
    while True:
        await service.clock.sleep(until_turn(_LOOK_S, service.clock.monotonic()))
        service.states.look()
        if service.refusals:
            service.refusals.look()
        log.flush()
        if service.audit:
            service.audit.flush()
        try:
            if service.certificates and service.certificates.reload_if_changed():
                log.info("TLS certificate reloaded")
        except UserError as error:
            log.error(f"the TLS certificate stays as it was: {error}")


def _log_started(service: ClusterService) -> None:
    settings = service.settings
    fields: dict[str, str] = {"spool": settings.spool.name, "name": service.member.name}
    if service.server:
        fields["ingest"] = write_listen(parse_listen(settings.ingest.listen)[0], service.server.port)
    if service.worker:
        fields["sinks"] = ", ".join(service.worker.parts)
    admin = write_listen(parse_listen(settings.admin.listen)[0], service.admin_port)
    log.info("listening" if service.server else "working", admin=admin, **fields)
    service.systemd.status(f"{service.member.kind} of the spool {settings.spool.name}")
