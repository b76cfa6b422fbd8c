"""SIGHUP: read the configuration again. Apply what can change while it runs, or keep the old one whole."""

from collections.abc import Callable, Iterator, Mapping, Set
from functools import partial
from types import MappingProxyType

from ingestd.app.service_parts import (
    Reloadable,
    Service,
    authenticator,
    endpoint_settings,
    limits,
    open_console,
)
from ingestd.config import Settings, check_run
from ingestd.core.errors import UserError
from ingestd.core.section import Section
from ingestd.processing.validate import Validator
from ingestd.telemetry import log
from ingestd.wiring.factories import make_validator

_INGEST = {
    *("producers", "access_token_in_query", "max_body", "max_expansion", "max_events", "trusted_proxies"),
    *("wait_timeout", "keep_rejected", "webhook_origins", "webhook_rate", "max_head", "max_connections"),
    *("head_timeout", "body_timeout", "idle_timeout", "token_lifetime", "unwrap", "unwrap_fields"),
}
_LIVE = {
    "schema": {"name", "dedup_key", "format_assertion", "max_depth", "max_values"},
    "spool": {"max_bytes", "max_parked"},
    "log": {"level"},
    "admin": {"tokens"},
    "ingest": _INGEST,
}
"""Section -> settings that change without a restart."""
LIVE_IN_CLUSTER = {"log": {"level"}, "ingest": _INGEST}
"""Of an edge or a worker: the others of its spool have the same schema, and it has no spool of its own."""


def reload(service: Service) -> None:
    """Never raises: a bad configuration is logged, and the old one stays."""
    read_again(service, partial(_take_over, service))


def read_again(service: Reloadable, take_over: Callable[[Settings], None]) -> None:
    """``take_over`` raises UserError before it has changed anything; that is logged, and never raised."""
    service.systemd.reloading()
    reloads = service.own_metrics.reloads
    try:
        take_over(service.load())
    except UserError as error:
        service.reload_error = str(error)
        reloads.note(False, wall=service.clock.wall())
        log.error(f"the configuration stays as it was: {error}")
    else:
        service.reload_error = ""
        reloads.note(True, wall=service.clock.wall())
        log.info("the configuration was read again")
        if service.needs_restart:
            log.warning(f"changed, but only a restart takes it over: {', '.join(service.needs_restart)}")
    service.systemd.ready()


def _take_over(service: Service, new: Settings) -> None:
    """First all that may fail, then all at once."""
    check_run(new)
    keys = authenticator(new.ingest, service.clock, service.endpoint.authenticator.attempts)
    validator = make_validator(new, warn=log.warning)
    if service.certificates:
        service.certificates.reload()
    open_console(service, new)
    service.endpoint.authenticator = keys
    service.endpoint.settings = endpoint_settings(new.ingest)
    service.server.change_limits(limits(new.ingest))
    _replace_validator(service, validator)
    service.ingest.admission.keep_rejected = new.ingest.keep_rejected
    service.ingest.pressure.max_bytes = new.spool.max_bytes
    service.ingest.parking.max_parked_bytes = new.spool.max_parked
    service.own_metrics.producers.configure(new.ingest.producers)
    log.set_level(new.log.level)
    service.pipeline.watch.read_again()
    service.needs_restart = cold_changes(service.settings, new)


def _replace_validator(service: Service, new: Validator) -> None:
    old = service.pipeline.validator.watch
    if old and new.watch and old.paths == new.watch.paths:
        new.watch = old  # it goes on counting
    service.brokers.change_validator(new)
    service.pipeline.validator = service.ingest.admission.validator = new


def cold_changes(
    running: Settings, new: Settings, all_live: Mapping[str, Set[str]] = MappingProxyType(_LIVE)
) -> list[str]:
    """Names of settings that differ from those of the start and need a restart."""
    changed: list[str] = []
    for name, info in Settings.model_fields.items():
        section = info.alias or name
        old_values, new_values = getattr(running, name), getattr(new, name)
        if isinstance(old_values, list):
            changed += [section] * (old_values != new_values and section != "tests")
        elif isinstance(old_values, Mapping):
            changed += _changed_tables(section, old_values, new_values)
        else:
            live = all_live.get(section, frozenset())
            changed += _changed(section, old_values, new_values, live=live)
    return changed


def _changed(section: str, old: Section, new: Section, *, live: Set[str]) -> Iterator[str]:
    for field in type(old).model_fields:
        if field not in live and getattr(old, field) != getattr(new, field):
            yield f"{section}.{field}"


def _changed_tables(section: str, old: Mapping[str, Section], new: Mapping[str, Section]) -> Iterator[str]:
    """Tables by name, as [sinks.NAME]: those that came or went, and what differs in the others."""
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if one is None or other is None or type(one) is not type(other):
            yield f"{section}.{name}"
        else:
            yield from _changed(f"{section}.{name}", one, other, live=frozenset())
