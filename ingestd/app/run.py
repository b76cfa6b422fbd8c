"""The life of ``ingestd run``: build, run, signals, and the order of shutting down.

Shutting down, in this order, because each step needs the next one alive: producers get 503 with Retry-After
and the listener closes; what was accepted is committed and answered; the feed brings it to the lane, as long
as the sink takes it and there is time; the lane sends all of it; the spool keeps the rest; the stores commit
and close; the admin address closes last.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from itertools import count
from pathlib import Path
from shlex import quote

from ingestd.admin.api import Api
from ingestd.admin.console import Console
from ingestd.admin.server import serve_admin
from ingestd.app.console.overview import sample
from ingestd.app.console.service_model import ServiceModel
from ingestd.app.event_loop import run_loop
from ingestd.app.maintenance import compare_api, maintain, warn_keys, warn_restored, watch_states
from ingestd.app.outside import Outside
from ingestd.app.reload import reload
from ingestd.app.service_parts import (
    Load,
    Service,
    authenticator,
    endpoint_settings,
    limits,
    open_certificates,
    open_console,
)
from ingestd.app.status import (
    add_conditions,
    describe_ledger,
    read_gauges,
    read_service_gauges,
    watch_readiness,
)
from ingestd.config import Settings, check_run, find_login, state_directory
from ingestd.core.address import parse_listen, write_listen
from ingestd.core.clock import Tasks
from ingestd.core.errors import UserError, first_cause
from ingestd.httpd.server import serve
from ingestd.intake.admission import Admission
from ingestd.recording.event_recorder import EventTrace
from ingestd.sources.http import aside
from ingestd.sources.http.endpoint import Endpoint
from ingestd.store.connection import StoreBlocked
from ingestd.store.lock import DirectoryInUse, holder_of
from ingestd.telemetry import log
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.refusals import Refusals
from ingestd.telemetry.tap import Tap
from ingestd.wiring.factories import redacted_paths
from ingestd.wiring.open_brokers import open_brokers
from ingestd.wiring.open_ingest import open_ingest
from ingestd.wiring.open_tracing import commit_observer, open_spans, traced_application
from ingestd.wiring.pipeline import open_pipeline

EXIT_SECOND_SIGNAL = 130

_LOOK_AT_KEYS_S = 10
_TRIM_TRAIL_S = 60
_ANSWER_S = 5.0
"""How long a shutdown waits for answers to requests that are open."""
_LAKE_S = 10.0
"""How long a shutdown waits for a lake's last files; their events are safe all the same."""


def serve_one_process(load_settings: Load, settings: Settings) -> int:
    """What ``ingestd run`` does with a state file; the exit code. Raises UserError for what could not even
    begin."""
    log.configure(settings.log.format, settings.log.level)

    async def session() -> int:
        async with open_service(load_settings) as service:
            await run(service)
        return service.exit_code

    return run_loop(session)


@asynccontextmanager
async def open_service(load: Load, outside: Outside | None = None) -> AsyncIterator[Service]:
    """Build everything and listen; what is accepted before ``run`` waits in the spool. ``outside``: None is
    the real one. Raises UserError."""
    outside = outside or Outside()
    settings = load()
    check_run(settings)
    login = find_login(settings)
    async with AsyncExitStack() as stack:
        service = Service(
            load, settings, outside, read_gauges=read_gauges, read_service_gauges=read_service_gauges
        )
        # Those that come during the start are heard after it: PID 1 would never get them otherwise.
        service.signals = stack.enter_context(outside.signals(signal.SIGINT, signal.SIGTERM, signal.SIGHUP))
        add_conditions(service)
        open_console(service, settings)
        spans = service.spans = open_spans(settings.tracing, clock=service.clock, rng=outside.rng)
        if spans:
            stack.push_async_callback(spans.aclose)
        service.trace = EventTrace(Tap(service.clock, redacted_paths(settings)), spans)
        directory = state_directory(settings, login)
        await _open_admin(stack, service, directory)
        pipeline = service.pipeline = await stack.enter_async_context(
            open_pipeline(
                settings,
                login,
                directory,
                clock=outside.clock,
                rng=outside.rng,
                engine=outside.engine,
                file_system=outside.file_system,
                store_host=outside.store_host(),
                bounds=outside.bounds,
                warn=log.warning,
                report=log.change,
                on_commit=commit_observer(service.own_metrics.commit_seconds, spans),
                on_block=partial(_report_blocked, service),
                patient=True,
                metrics=service.metrics,
                trace=service.trace,
            )
        )
        service.trace.open(pipeline.journal, settings.trail)
        refusals = service.refusals = Refusals(log.change, pipeline.audit, service.clock)
        warn_restored(pipeline, log.warning)
        await compare_api(pipeline, login, log.warning)
        ingest = service.ingest = await stack.enter_async_context(
            open_ingest(
                pipeline, warn=log.warning, accepted=service.own_metrics.producers.add, trace=service.trace
            )
        )
        service.brokers = await stack.enter_async_context(
            open_brokers(pipeline, ingest.admission, login, rng=outside.rng, warn=log.warning)
        )
        await _open_endpoint(stack, service, ingest.admission, refusals)
        service.own_metrics.producers.configure([*settings.ingest.producers, *service.brokers.names])
        yield service


async def _open_admin(stack: AsyncExitStack, service: Service, directory: Path) -> None:
    """Metrics, health, status and console. Raises UserError, which names the process that has ``directory``
    where one has: that has the address, too."""
    outside, console = service.outside, ServiceModel(service)
    host, port = parse_listen(service.settings.admin.listen)
    serving = (outside.serve_admin or serve_admin)(
        host,
        port,
        registry=service.metrics.registry,
        health=service.watchdog.problem,
        readiness=service.readiness,
        status=console.status,
        console=[
            *Api(console, console, service.access).routes(),
            *Console(console, console, service.access).routes(),
        ],
    )
    try:
        service.admin_port = await stack.enter_async_context(serving)
    except UserError:
        if holder := holder_of(directory):
            raise DirectoryInUse(directory, holder) from None
        raise


async def _open_endpoint(
    stack: AsyncExitStack, service: Service, admission: Admission, refusals: Refusals
) -> None:
    """Where producers post their events."""
    ingest, outside = service.settings.ingest, service.outside
    service.endpoint = Endpoint(
        endpoint_settings(ingest),
        authenticator(ingest, service.clock),
        admission,
        service.clock,
        stack.enter_context(aside.BodyThread()),
        refusals.note,
    )
    service.certificates = open_certificates(ingest)
    service.server = await stack.enter_async_context(
        (outside.serve or serve)(
            traced_application(service.endpoint, service.spans),
            limits(ingest),
            *parse_listen(ingest.listen),
            certificates=service.certificates,
            refused=partial(refusals.note, ""),
        )
    )


def _report_blocked(service: Service, why: str) -> None:
    """At the start nobody else tells it, and it may last until a person does something."""
    if not service.opened:
        log.warning(f"at the start: {why}")


async def run(service: Service) -> None:
    """Listen and deliver until a signal, or an error (in ``service.error``)."""
    pipeline = service.pipeline
    try:
        async with Tasks() as tasks:
            with service.watchdog.watch():
                tasks.start_soon(_watch_signals, service, tasks)
                service.opened = True
                watch_readiness(service)
                service.own_metrics.reloads.last_success = service.clock.wall()
                _log_started(service)
                service.systemd.ready()
                tasks.start_soon(service.systemd.keep_alive)
                tasks.start_soon(partial(maintain, pipeline, count_letters=True))
                tasks.start_soon(watch_states, pipeline)
                tasks.start_soon(_measure, service)
                tasks.start_soon(service.ingest.parking.run)
                for feed in service.ingest.feeds:
                    tasks.start_soon(feed.run)
                for broker in service.brokers.feeds:
                    tasks.start_soon(broker.run)
                for lake in pipeline.lakes:
                    tasks.start_soon(lake.lake.run)
                async with Tasks() as lanes:
                    for runner in pipeline.runners:
                        tasks.start_soon(runner.worker.run)
                        if runner.status_poller:
                            tasks.start_soon(runner.status_poller.run)
                        lanes.start_soon(runner.lane.run)
                await _drain_lakes(service)
                tasks.cancel()
    except* UserError as group:
        service.error = first_cause(group)
        log.error(str(service.error))
    await _log_finished(service)


async def _watch_signals(service: Service, tasks: Tasks) -> None:
    """SIGHUP reads the configuration again; the first other signal drains, the second ends at once."""
    async for number in service.signals:
        if number == signal.SIGHUP:
            if not service.closing:
                reload(service)
        elif service.closing:
            log.warning("forced shutdown, acknowledged events are in the spool")
            os._exit(EXIT_SECOND_SIGNAL)
        else:
            service.closing = True  # here already: the next signal may be waiting
            tasks.start_soon(_shut_down, service, number.name)


async def _shut_down(service: Service, why: str) -> None:
    service.systemd.stopping()
    ingest, lanes = service.ingest, [runner.lane for runner in service.pipeline.runners]
    timeout_s = service.settings.delivery.shutdown_timeout
    service.deadline = service.clock.monotonic() + timeout_s
    log.info("shutting down", signal=why, timeout_seconds=timeout_s)
    for lane in lanes:
        service.clock.call_later(timeout_s, lane.abandon)
    ingest.pressure.closing = True
    service.server.stop_listening()  # first, so that who waited is told that its connection ends
    ingest.waiting.give_up()
    await service.server.drain(min(_ANSWER_S, timeout_s))
    await service.brokers.stop(min(_ANSWER_S, timeout_s))
    await ingest.admission.finished()
    left_s = max(0.0, service.deadline - service.clock.monotonic())
    async with Tasks() as drains:  # a sink that is slow takes no time from another
        for feed in ingest.feeds:
            drains.start_soon(feed.drain, left_s)


async def _drain_lakes(service: Service) -> None:
    """What is left of the time, but a little in any case: it is all in the outbox."""
    left_s = service.deadline - service.clock.monotonic()
    for lake in service.pipeline.lakes:
        await lake.lake.drain(min(_LAKE_S, max(0.1, left_s)))


async def _measure(service: Service) -> None:
    """Once a second: how fast the spool empties, what the log held back, whether a certificate is new. Now
    and then: whether events have the keys that were asked for."""
    every_s = service.pipeline.bounds.measure_s
    for second in count(1):
        await service.clock.sleep(every_s)
        service.ingest.pressure.measure()
        sample(service)
        service.refusals.look()
        log.flush()
        if service.spans:
            service.spans.look(log.change)
        if second % _TRIM_TRAIL_S == 0:
            service.trace.trim(service.clock.wall())
        if second % _LOOK_AT_KEYS_S == 0:
            warn_keys(service.pipeline, log.warning)
        try:
            if service.certificates and service.certificates.reload_if_changed():
                log.info("TLS certificate reloaded")
        except UserError as error:
            log.error(f"the TLS certificate stays as it was: {error}")


def _log_started(service: Service) -> None:
    pipeline, server = service.pipeline, service.server
    listen = write_listen(parse_listen(service.settings.ingest.listen)[0], server.port)
    admin = write_listen(parse_listen(service.settings.admin.listen)[0], service.admin_port)
    spool = service.ingest.spool
    log.info(
        "listening",
        ingest=listen,
        admin=admin,
        api=pipeline.targets,
        schema=service.settings.schema_.name,
        spooled_events=spool.events,
        **({"brokers": ", ".join(service.brokers.names)} if service.brokers.feeds else {}),
    )
    service.systemd.status(f"listening on {listen}, delivering to {pipeline.targets}")
    pipeline.audit(
        AuditEntry.RUN_STARTED, sources=listen, api=pipeline.targets, schema=service.settings.schema_.name
    )
    directory = quote(str(pipeline.database.path.parent))
    for damage in spool.damage:
        log.error(
            f"the spool is damaged: {damage.what}; see `ingestd spool check --state-dir {directory}`",
            first=damage.first,
            last=damage.last,
        )


async def _log_finished(service: Service) -> None:
    pipeline = service.pipeline
    pipeline.database.end_waiting()
    if service.error is None:
        try:
            await pipeline.journal.commit()
        except StoreBlocked as error:
            log.warning(f"what became of the last events is not written, they are sent again: {error}")
    ledger = describe_ledger(pipeline.ledger)
    ledger.pop("by_reason")
    log.info("stopped", spooled_events=service.ingest.spool.events, **ledger)
    pipeline.audit(
        AuditEntry.RUN_FINISHED,
        accepted=pipeline.ledger.accepted,
        delivered=pipeline.ledger.delivered,
        dead_lettered=pipeline.ledger.dead_lettered,
        dropped=pipeline.ledger.dropped or None,
        in_flight=pipeline.ledger.in_flight,
        error=str(service.error) if service.error else None,
    )
    pipeline.audit.flush()
