"""A running sandbox and a client that is logged in to it."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack

import httpx
import pytest

from ingestd.core.reasons import Reason
from ingestd.sandbox.apis.ingest import SandboxOptions
from ingestd.sandbox.server import Running, Sandbox
from ingestd.sandbox.stats import PathStats
from ingestd.schemas.schema import FieldError, Refusal
from tests.machine import patience

INGEST = "/api/v2/events/ingest"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class NoBad:
    """The smallest schema: an event with ``"bad"`` in it is not valid."""

    name = "no_bad"
    default_key = ()

    def keys(self, events: Sequence[bytes]) -> list[str | None]:
        return [None if b'"bad"' in event else "" for event in events]

    def explain(self, event: bytes) -> Refusal | None:
        if b'"bad"' not in event:
            return None
        return Refusal(Reason.INVALID, [FieldError("routing.action", "bad"), FieldError("b", "bad too")])


class HandClock:
    """Time that stands still until it is told otherwise; a sleep moves it."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Client:
    """What a test says to a sandbox."""

    def __init__(self, running: Running, http: httpx.AsyncClient) -> None:
        self.running = running
        self.sandbox = running.sandbox
        self.http = http
        self.token = ""

    async def log_in(self, *, auth: tuple[str, str] = ("sandbox", "sandbox")) -> httpx.Response:
        form = {"grant_type": "client_credentials"}
        answer = await self.http.post(self.running.token_url, data=form, auth=auth)
        if answer.status_code == 200:
            self.token = answer.json()["access_token"]
        return answer

    async def send(self, body: bytes, *, key: str | None = None, **headers: str) -> httpx.Response:
        sent = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        sent |= {"Idempotency-Key": key} if key is not None else {}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.post(INGEST, content=body, headers=sent)

    async def call(
        self, path: str, body: bytes = b"", *, method: str = "POST", **headers: str
    ) -> httpx.Response:
        """Any API, logged in; ``Content_Type`` stands for Content-Type, JSON if not given."""
        sent = {"Authorization": f"Bearer {self.token}"} if self.token else {}
        sent |= {"Content-Type": "application/json"}
        sent |= {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.http.request(method, path, content=body, headers=sent)

    def path(self, path: str) -> PathStats:
        return self.sandbox.stats().paths[path]

    async def events(self, query: str = "") -> list[bytes]:
        return (await self.http.get(f"/_sandbox/events{query}")).content.splitlines()


Start = Callable[..., Awaitable[Client]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start a sandbox with these options and log in; ends with the test."""
    async with AsyncExitStack() as stack:

        async def started(
            *, clock: HandClock | None = None, log_in: bool = True, **options: object
        ) -> Client:
            options.setdefault("schema", NoBad())
            sandbox = Sandbox(SandboxOptions(**options), clock=clock)  # type: ignore[arg-type]
            running = await stack.enter_async_context(sandbox.serve())
            http = await stack.enter_async_context(
                httpx.AsyncClient(timeout=patience(30), base_url=running.url, trust_env=False, verify=False)
            )
            client = Client(running, http)
            if log_in:
                await client.log_in()
            return client

        yield started


def batch(*events: bytes) -> bytes:
    return b'{"events":[' + b",".join(events) + b"]}"
