"""What a service of one process is made of, opened in the order in which its parts need each other."""

import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from ingestd.admin.api import Api
from ingestd.admin.console import Console
from ingestd.admin.server import serve_admin
from ingestd.app.console.service_model import ServiceModel
from ingestd.app.maintenance import compare_api, warn_restored
from ingestd.app.outside import Outside
from ingestd.app.service_parts import (
    Load,
    Service,
    authenticator,
    endpoint_settings,
    limits,
    open_certificates,
    open_console,
)
from ingestd.app.status import add_conditions, read_gauges, read_service_gauges
from ingestd.config import check_run, find_login, state_directory
from ingestd.core.address import parse_listen
from ingestd.core.errors import UserError
from ingestd.httpd.server import serve
from ingestd.intake.admission import Admission
from ingestd.recording.event_recorder import EventTrace
from ingestd.sources.http import aside
from ingestd.sources.http.endpoint import Endpoint
from ingestd.store.lock import DirectoryInUse, holder_of
from ingestd.telemetry import log
from ingestd.telemetry.refusals import Refusals
from ingestd.telemetry.tap import Tap
from ingestd.wiring.factories import redacted_paths
from ingestd.wiring.open_brokers import open_brokers
from ingestd.wiring.open_ingest import open_ingest
from ingestd.wiring.open_tracing import commit_observer, open_spans, traced_application
from ingestd.wiring.pipeline import open_pipeline


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
