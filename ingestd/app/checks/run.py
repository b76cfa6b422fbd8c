"""All checks in their order, and the exit code they come to. For ``ingestd check`` and ``ingestd doctor``."""

import json
import os
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from pathlib import Path

from ingestd.app.checks import (
    brokers,
    configuration,
    files,
    installation,
    listening,
    shared_spool,
    state,
    tracing,
    transforms,
)
from ingestd.app.checks.finding import Finding, Level, fail, ok, warn
from ingestd.config import (
    Login,
    Overrides,
    Settings,
    find_login,
    load_with_origins,
    resolve_login,
    state_directory,
)
from ingestd.core.clock import Clock, SystemClock
from ingestd.core.errors import UserError
from ingestd.core.redaction import redact
from ingestd.core.text import printable
from ingestd.store.lock import holder_of
from ingestd.wiring.factories import sections_of


class Report:
    """Findings so far. ``exit_code``: 0 nothing failed, 2 something did, 4 only the online part did."""

    def __init__(self) -> None:
        self.findings: list[Finding] = []
        self._failed = {"local": False, "online": False}

    def add(self, finding: Finding, *, online: bool = False) -> Finding:
        finding = finding._replace(text=printable(redact(finding.text)))
        self.findings.append(finding)
        self._failed["online" if online else "local"] |= finding.level is Level.FAIL
        return finding

    @property
    def exit_code(self) -> int:
        return 2 if self._failed["local"] else 4 if self._failed["online"] else 0

    def as_json(self) -> str:
        checks = [finding._asdict() for finding in self.findings]
        return json.dumps({"exit_code": self.exit_code, "checks": checks})


async def check_all(
    report: Report,
    file: str | None,
    overrides: Overrides,
    *,
    online: bool,
    as_doctor: bool = False,
    environ: Mapping[str, str] | None = None,
) -> AsyncIterator[Finding]:
    """Yields each finding as it is made, and adds it to ``report``. Raises nothing for what it looks at.

    ``as_doctor``: also looks at the installation and, with ``online``, asks the organization."""
    if as_doctor:
        for finding in installation.check_installation():
            yield report.add(finding)
    environ = os.environ if environ is None else environ
    try:
        settings, origins = load_with_origins(file, overrides, environ)
    except UserError as error:
        yield report.add(fail("configuration", str(error)))
        return
    login, missing = _resolve(settings)
    directory = state_directory(settings, login, environ)
    clock, sinks = SystemClock(), sections_of(settings)
    groups: list[tuple[str, Callable[[], Iterable[Finding]]]] = [
        ("configuration", lambda: configuration.check_settings(settings, file, environ)),
        ("login", lambda: [fail("login", missing)] if missing else _check_login(login)),
        ("producers", lambda: configuration.check_producers(settings)),
        ("secret files", lambda: configuration.check_secret_files(settings, origins)),
        ("schema", lambda: configuration.check_schema(settings)),
        ("transforms", lambda: transforms.check_transforms(settings)),
        ("tests", lambda: transforms.check_tests(settings)),
        ("state directory", lambda: _check_spool(settings, directory, sinks, clock)),
        ("ports", lambda: listening.check_ports(settings, holder=holder_of(directory))),
        ("files", lambda: files.check_files(settings)),
        ("brokers", lambda: brokers.check_brokers(settings)),
        ("tracing", lambda: tracing.check_tracing(settings)),
        ("tls", lambda: listening.check_tls(settings.ingest.tls, now_s=clock.wall())),
    ]
    for name, check in groups:
        try:
            for finding in check():
                yield report.add(finding)
        except (UserError, OSError) as error:
            yield report.add(fail(name, str(error)))
    usable = None if missing else login
    settings, found = await _look_up(settings, usable, online=online and not missing)
    for finding in found:
        yield report.add(finding, online=online)
    async for finding in _check_sinks(settings, login if login and login.api else None):
        yield report.add(finding)
    if online and missing:
        yield report.add(warn("online", "that of [api] is not tried: the login is not complete"))
    if online:
        async for finding in _check_online(settings, usable, clock, ask_organization=as_doctor):
            yield report.add(finding, online=True)


def _check_spool(
    settings: Settings, directory: Path, sinks: Collection[str], clock: Clock
) -> Iterable[Finding]:
    """Edges and workers have no state directory."""
    if settings.spool.kind == "nats":
        return shared_spool.check_shared_spool(settings)
    return state.check_state(directory, settings.spool, sinks, clock)


def _resolve(settings: Settings) -> tuple[Login | None, str]:
    """The login, or as much of it as there is and what is missing. None: no sink needs one."""
    try:
        return find_login(settings), ""
    except UserError as error:
        try:
            return resolve_login(settings.api.model_copy(update={"no_auth": True})), str(error)
        except UserError:
            return Login(api="", token_url=None), str(error)


def _check_login(login: Login | None) -> Iterable[Finding]:
    return configuration.check_login(login) if login else [ok("login", "no sink uses that of [api]")]


async def _look_up(
    settings: Settings, login: Login | None, *, online: bool
) -> tuple[Settings, list[Finding]]:
    """With what sinks refer to. A sink whose references were not looked up cannot be looked at."""
    from ingestd.wiring.references import look_up, references_of

    try:
        wanted = references_of(settings)
        if not wanted:
            return settings, []
        if online:
            looked_up = await look_up(settings, login, clock=SystemClock())
            return looked_up, [ok("sinks", f"{n}: {one.text} is there") for (n, _), one in wanted.items()]
        found = [
            ok("sinks", f"{n}: {f} = {one.text} is looked up at the start") for (n, f), one in wanted.items()
        ]
    except UserError as error:
        found = [fail("sinks", str(error))]
    left = {name: one for name, one in settings.sinks.items() if not one.references}
    return settings.model_copy(update={"sinks": left}), found


async def _check_sinks(settings: Settings, login: Login | None) -> AsyncIterator[Finding]:
    from ingestd.app.checks import sinks  # the HTTP client takes a while to import

    for finding in await sinks.check_sinks(settings, login):
        yield finding
    try:
        for finding in sinks.check_proxies(settings, login):
            yield finding
    except UserError as error:
        yield fail("proxy", str(error))


async def _check_online(
    settings: Settings, login: Login | None, clock: Clock, *, ask_organization: bool
) -> AsyncIterator[Finding]:
    from ingestd.app.checks.online import check_online

    try:
        async for finding in check_online(settings, login, clock, ask_organization=ask_organization):
            yield finding
    except UserError as error:
        yield fail("api", str(error))
    async for finding in brokers.check_brokers_online(settings, clock):
        yield finding
    if settings.spool.kind == "nats":
        async for finding in shared_spool.check_shared_spool_online(settings):
            yield finding
