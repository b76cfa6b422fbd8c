"""What the tests of targets share: a table, and the sandbox through the real client."""

import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from ingestd.control.engine.resource import AuditStep, Context
from ingestd.control.engine.secret import SecretRef
from ingestd.control.target.payload import WantedTarget
from ingestd.control.target.target import Target
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.control.options import ControlOptions
from ingestd.sandbox.server import Sandbox
from ingestd.transport.api_client import ApiClient
from ingestd.transport.auth import NoAuth
from ingestd.transport.client import Client
from ingestd.transport.oauth import TokenSource
from tests.integration.transport.support import FakeClock
from tests.machine import patience

PASSWORD = "hunter2-correct-horse"
SECRETS = {
    "env:PASSWORD": PASSWORD,
    "env:API_KEY": "k-1234567890",
    "env:HOOK": "whsec_" + "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
}
BASIC = {"type": "BASIC", "username": "genesys-relay", "password": "env:PASSWORD"}


def table(**changes: Any) -> dict[str, Any]:
    """The seed's example, as a table of the file."""
    return {
        "endpoint_url": "https://api.gateway.example.com/v1/genesys/events",
        "auth": BASIC,
        "retry": {"max_retries": 5, "strategy": "EXPONENTIAL", "delay": "2s"},
        "headers": {"X-Source-System": "GenesysCloud"},
        "event_types": ["QUEUE_MEMBER_ADDED", "CONVERSATION_STARTED"],
    } | changes


def parse(**changes: Any) -> WantedTarget:
    return Target().parse("orders", table(**changes))


@dataclass
class Session:
    """``notes``: the steps so far. ``clock``: of everything but the sandbox."""

    api: ApiClient
    clock: FakeClock
    sandbox: Sandbox | None = None
    notes: list[AuditStep] = field(default_factory=list)
    secrets: dict[str, str] = field(default_factory=lambda: dict(SECRETS))

    def context(self, **changes: Any) -> Context:
        made = Context(
            api=self.api,
            secret=self._secret,
            note=self.notes.append,
            rng=random.Random(4),
            clock=self.clock,
        )
        return replace(made, **changes)

    def entries(self) -> list[str]:
        return [step.entry for step in self.notes]

    def _secret(self, reference: SecretRef) -> str:
        return self.secrets.get(reference.text) or reference.read({})


@asynccontextmanager
async def open_sandbox(**options: Any) -> AsyncIterator[Session]:
    """Logged in to a sandbox; ``options``: of its control plane."""
    clock = FakeClock()
    settings = {"verified_after_s": 3600.0} | options
    sandbox = Sandbox(SandboxOptions(control=ControlOptions(**settings)))
    async with sandbox.serve() as running, Client(timeout_s=patience(5.0)) as client:
        auth = TokenSource(
            client, token_url=running.token_url, client_id="sandbox", client_secret="sandbox", clock=clock
        )
        try:
            yield Session(ApiClient(client, auth, base_url=running.url, clock=clock), clock, sandbox)
        finally:
            await auth.aclose()


@asynccontextmanager
async def open_api(url: str) -> AsyncIterator[Session]:
    """Any other API, without a login."""
    clock = FakeClock()
    async with Client(timeout_s=patience(5.0)) as client:
        yield Session(ApiClient(client, NoAuth(), base_url=url, clock=clock), clock)
