"""The life of ``ingestd run``, once it is open: signals, and the order of shutting down.

Shutting down, in this order, because each step needs the next one alive: producers get 503 with Retry-After
and the listener closes; what was accepted is committed and answered; the feed brings it to the lane, as long
as the sink takes it and there is time; the lane sends all of it; the spool keeps the rest; the stores commit
and close; the admin address closes last.
"""

import os
import signal
from functools import partial
from itertools import count
from shlex import quote

from ingestd.app.console.overview import sample
from ingestd.app.event_loop import run_loop
from ingestd.app.maintenance import maintain, warn_keys, watch_states
from ingestd.app.open_service import open_service
from ingestd.app.reload import reload
from ingestd.app.service_parts import Load, Service
from ingestd.app.status import describe_ledger, watch_readiness
from ingestd.config import Settings
from ingestd.core.address import parse_listen, write_listen
from ingestd.core.clock import Tasks
from ingestd.core.errors import UserError, first_cause
from ingestd.store.connection import StoreBlocked
from ingestd.telemetry import log
from ingestd.telemetry.audit_entry import AuditEntry

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
