"""What the commands of the control plane work with: client, login, audit file. Called by ``cli/``.

Secrets are read at the moment they are sent, and masked in every error and every line of the audit file.
"""

import getpass
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from ingestd.config import Login, Settings
from ingestd.control.engine.resource import AuditStep, Context
from ingestd.control.engine.secret import SecretRef
from ingestd.core.address import show_url
from ingestd.core.clock import Clock, SystemClock, system_rng
from ingestd.core.errors import Unreachable, UserError
from ingestd.core.redaction import redact
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from ingestd.transport.api_client import ApiClient
from ingestd.transport.client import SecretMask
from ingestd.wiring.factories import open_audit
from ingestd.wiring.http_clients import api_auth, make_client

MAX_CONNECTIONS = 8
_LOGIN_TIMEOUT_S = 10.0
_SILENT_ATTEMPTS = 3


class _Request(NamedTuple):
    """The last one of a task: what a step took, and by which id the API's people find it."""

    milliseconds: float
    correlation_id: str | None


_last: ContextVar[_Request | None] = ContextVar("last request", default=None)


class Secrets:
    """Reads secrets, and knows every one that was read, so that no answer can carry it out."""

    def __init__(self) -> None:
        self._masks: dict[str, SecretMask] = {}

    def __call__(self, reference: SecretRef) -> str:
        value = reference.read()
        self._masks.setdefault(reference.text, SecretMask()).add(value)
        return value

    def mask(self, text: str) -> str:
        """``text`` with ``***`` for each of them."""
        data = text.encode(errors="surrogatepass")
        for mask in self._masks.values():
            data = mask(data)
        return redact(data.decode(errors="surrogatepass"))


@dataclass(frozen=True, slots=True)
class Control:
    """One session with the control plane. ``directory``: of state and audit file. ``open_audit``: before
    a change, which must not be made if it cannot be audited; raises UserError."""

    context: Context
    secrets: Secrets
    directory: Path
    api: str
    open_audit: Callable[[], object]


@asynccontextmanager
async def open_control(
    settings: Settings,
    login: Login,
    directory: Path,
    *,
    deadline_s: float,
    allow_private: bool,
    clock: Clock | None = None,
) -> AsyncIterator[Control]:
    """Raises UserError. ``deadline_s``: for each step that has to wait for the API."""
    clock, secrets = clock or SystemClock(), Secrets()
    async with AsyncExitStack() as stack:
        notes = _Notes(settings, directory, secrets)
        stack.callback(notes.close)
        client = await stack.enter_async_context(make_client(settings, max_connections=MAX_CONNECTIONS))
        auth = api_auth(login, client, clock=clock, login_timeout_s=_LOGIN_TIMEOUT_S)
        stack.push_async_callback(auth.aclose)
        api = ApiClient(client, auth, base_url=login.api, clock=clock, on_request=_Watch(login.api))
        context = Context(
            api=api,
            secret=secrets,
            note=notes,
            clock=clock,
            rng=system_rng(),
            deadline_s=deadline_s,
            allow_private=allow_private,
        )
        try:
            yield Control(context, secrets, directory, show_url(login.api).rstrip("/"), notes.open)
        except UserError as error:
            message = secrets.mask(str(error))
            if message == str(error):
                raise
            masked = UserError(message)
            masked.exit_code = error.exit_code
            raise masked from None


class _Notes:
    """Writes steps into the audit file at once: the next thing that happens may be the end of the process.

    The file is opened with the first of them: a command that only looks needs no directory that can be
    written."""

    def __init__(self, settings: Settings, directory: Path, secrets: Secrets) -> None:
        self._settings = settings
        self._directory = directory
        self._secrets = secrets
        self._audit: AuditLog | None = None
        self._who = _who()

    def __call__(self, step: AuditStep) -> None:
        fields = {"who": self._who, **step.fields}
        if last := _last.get():
            fields.setdefault("latency_ms", round(last.milliseconds, 1))
            fields.setdefault("correlation_id", last.correlation_id)
        shown = {
            name: self._secrets.mask(value) if isinstance(value, str) else value
            for name, value in fields.items()
        }
        audit = self.open()
        audit(AuditEntry(step.entry), **shown)
        audit.flush()

    def open(self) -> AuditLog:
        if self._audit is None:
            self._audit = open_audit(self._settings.audit, self._directory)
        return self._audit

    def close(self) -> None:
        if self._audit:
            self._audit.close()


class _Watch:
    """Called with every attempt. An API that has never answered at all is not waited for: most likely its
    address is wrong, and a person waits."""

    def __init__(self, api: str) -> None:
        self._api = api
        self._answered = False
        self._silent = 0

    def __call__(
        self, method: str, path: str, status: int, seconds: float, correlation_id: str | None
    ) -> None:
        _last.set(_Request(seconds * 1000, correlation_id))
        self._answered = self._answered or status > 0
        self._silent += not self._answered
        if self._silent >= _SILENT_ATTEMPTS:
            raise Unreachable(
                f"{method} {path}: no answer from {show_url(self._api)}: is this the right address?"
            )


def _who() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a number without a name
        return "unknown"
