"""``ingestd run`` as a process: producers that post to it, and what its log and admin address tell."""

import asyncio
import json
import os
import random
import signal
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from tests.event_api import EventApi, events_of
from tests.integration.httpd.wire_client import Answer, Client
from tests.process.cli.support import DEADLINE_S, Finished, Place, send
from tests.receiver import Action, Reply, Request
from tests.warm import Warm, WarmProcess, warm

QUICK = {
    "INGESTD_LETTERS_POLL_INTERVAL": "0.2s",
    "INGESTD_BATCH_MAX_AGE": "20ms",
    "INGESTD_DELIVERY_BACKOFF_BASE": "10ms",
    "INGESTD_DELIVERY_BACKOFF_CAP": "100ms",
    "INGESTD_SPOOL_BALLAST": "8MiB",
}
LOST = (ConnectionError, EOFError, TimeoutError, ssl.SSLError)
"""What a producer sees whose server dies."""

Told = dict[str, Any]
Sample = tuple[str, frozenset[tuple[str, str]]]


# --- the service ---


class Serving:
    """A service that was started; ``log`` has every line it wrote so far, as JSON."""

    def __init__(self, process: WarmProcess) -> None:
        self.process = process
        self.ingest_port = self.admin_port = 0
        self.log: list[Told] = []
        self.raw = ""
        self._grown = asyncio.Event()
        self._over = False
        self._reading = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self.process.stderr is not None
        while line := (await self.process.stderr.readline()).decode():
            self.raw += line
            if line.startswith("{"):
                self.log.append(json.loads(line))
            self._grown.set()
        await self.process.wait()
        self._over = True
        self._grown.set()

    async def said(self, words: str, *, timeout_s: float = DEADLINE_S) -> Told:
        """The first line of the log whose message has these words. Fails when the process ends without."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    for line in self.log:
                        if words in line["message"]:
                            return line
                    assert not self._over, f"ended without saying {words!r}:\n{self.raw}"
                    self._grown.clear()
                    await self._grown.wait()
        except TimeoutError:
            raise AssertionError(f"did not say {words!r}:\n{self.raw}") from None

    async def listening(self) -> "Serving":
        line = await self.said("listening")
        self.ingest_port, self.admin_port = (
            int(line[name].rpartition(":")[2]) for name in ("ingest", "admin")
        )
        return self

    def send(self, number: signal.Signals) -> None:
        send(self.process, number)

    async def finish(self, *, timeout_s: float = DEADLINE_S) -> Finished:
        """Wait for its end; whatever happens to it, it leaves no traceback."""
        await asyncio.wait_for(asyncio.shield(self._reading), timeout_s)
        assert self.process.returncode is not None
        assert "Traceback" not in self.raw, self.raw
        assert "Exception ignored" not in self.raw, self.raw
        return Finished(self.process.returncode, "", self.raw)

    async def kill(self) -> Finished:
        self.send(signal.SIGKILL)
        return await self.finish()

    async def stop(self) -> Finished:
        """SIGTERM, and the end with 0 that it leads to."""
        self.send(signal.SIGTERM)
        done = await self.finish()
        assert done.code == 0, done
        return done

    # --- its admin address ---

    async def get(self, path: str) -> Answer:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.admin_port)
        async with Client(reader, writer) as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n".encode())
            return await client.answer()

    async def status(self) -> Told:
        answer = await self.get("/v1/status")
        assert answer.status == 200
        found: Told = json.loads(answer.body)
        return found

    async def reasons(self) -> list[str]:
        """Of ``/readyz``; empty if it is ready."""
        answer = await self.get("/readyz")
        told = json.loads(answer.body)
        assert (answer.status == 200) == told["ready"]
        return list(told.get("reasons", ()))

    async def metrics(self) -> dict[Sample, float]:
        text = (await self.get("/metrics")).body.decode()
        return {
            (sample.name, frozenset(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    async def metric(self, name: str, **labels: str) -> float:
        return (await self.metrics())[name, frozenset(labels.items())]

    async def until(
        self, condition: Callable[[Told], bool], *, timeout_s: float = DEADLINE_S, balanced: bool = True
    ) -> Told:
        """Look at ``/v1/status`` until it is so; the ledger balances at every look."""
        told: Told = {}
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    told = await self.status()
                    if balanced:
                        assert_ledger(told["ledger"])
                    if condition(told):
                        return told
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"never so: {json.dumps(told)}\n{self.raw}") from None

    async def until_empty(self, *, timeout_s: float = DEADLINE_S) -> Told:
        """Everything that was accepted has its end."""
        return await self.until(
            lambda told: told["spool"]["events"] == 0 and told["ledger"]["in_flight"] == 0,
            timeout_s=timeout_s,
        )

    def resident_bytes(self) -> int:
        for line in Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")


def assert_ledger(ledger: Mapping[str, int]) -> None:
    ends = ("delivered", "duplicate", "rejected", "dead_lettered", "in_flight")
    assert ledger["accepted"] == sum(ledger[name] for name in ends), ledger


def words(place: Place, api: EventApi | str, *more: object) -> list[object]:
    """The command, with everything on ports of its own."""
    url = api if isinstance(api, str) else api.url
    where = ("--listen", "127.0.0.1:0", "--admin-listen", "127.0.0.1:0", "--log-format", "json")
    return ["run", "--api", url, "--no-auth", "--state-dir", place.state, *where, *more]


def _inherited() -> dict[str, str]:
    return {
        name: value for name, value in os.environ.items() if not name.startswith(("INGESTD_", "GENESYS_"))
    }


@asynccontextmanager
async def starting(
    place: Place,
    arguments: Sequence[object],
    *,
    env: Mapping[str, str] | None = None,
    by: Warm | None = None,
) -> AsyncIterator[Serving]:
    """The process, as early as there is one; on leaving it is over, one way or the other."""
    given = {**_inherited(), **QUICK, **place.env, **(env or {})}
    process = await (by or warm()).start([*map(str, arguments)], env=given, stdout=False)
    serving = Serving(process)
    try:
        yield serving
    finally:
        serving.send(signal.SIGKILL)
        await serving._reading


@asynccontextmanager
async def serve(
    place: Place, api: EventApi | str, *more: object, env: Mapping[str, str] | None = None
) -> AsyncIterator[Serving]:
    async with starting(place, words(place, api, *more), env=env) as serving:
        yield await serving.listening()


# --- producers ---


class Producer:
    """One connection that is kept. ``post`` raises one of LOST when it breaks."""

    def __init__(self, client: Client, *, fields: bytes = b"") -> None:
        self.client = client
        self._fields = fields

    def send(self, body: bytes, *, kind: bytes = b"application/x-ndjson", query: bytes = b"") -> None:
        head = (
            b"POST /v1/events%s HTTP/1.1\r\nHost: ingest\r\nContent-Type: %s\r\n%sContent-Length: %d\r\n\r\n"
        )
        self.client.send(head % (query, kind, self._fields, len(body)) + body)

    async def post(self, events: Sequence[bytes], *, query: bytes = b"") -> Answer:
        self.send(b"\n".join(events), query=query)
        return await self.client.answer()

    async def give(self, events: Sequence[bytes]) -> None:
        """Post, and be told that all of it is new and safe."""
        answer = await self.post(events)
        assert answer.status == 202, answer
        assert json.loads(answer.body) == {"accepted": len(events), "duplicates": 0, "rejected": []}


@asynccontextmanager
async def producer(
    port: int, *, token: str = "", tls: ssl.SSLContext | None = None
) -> AsyncIterator[Producer]:
    fields = f"Authorization: Bearer {token}\r\n".encode() if token else b""
    name = "localhost" if tls else None
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname=name)
    async with Client(reader, writer) as client:
        yield Producer(client, fields=fields)


async def post(port: int, events: Sequence[bytes], *, token: str = "") -> Answer:
    """One request on a connection of its own."""
    async with producer(port, token=token) as one:
        return await one.post(events)


def told(answer: Answer) -> Told:
    found: Told = json.loads(answer.body)
    return found


# --- the receiving side ---


class Keeper(EventApi):
    """Keeps what it takes, and knows in which life of the service each batch came.

    ``fault`` is asked before each answer. What it gives back is answered; a batch that is not answered
    with 200 is not taken.
    """

    def __init__(
        self, fault: Callable[[Request], Action | None] = lambda request: None, *, most_s: float = 0.0
    ) -> None:
        super().__init__(self._answer)
        self.life = 1
        self.fault = fault
        self.taken: list[tuple[int, Request]] = []
        self._most_s = most_s
        self._random = random.Random(4)
        self.open_gate = asyncio.Event()
        self.open_gate.set()

    async def __aenter__(self) -> Self:
        await super().__aenter__()
        return self

    async def _answer(self, request: Request) -> Action:
        await self.open_gate.wait()
        if self._most_s:
            await asyncio.sleep(self._random.uniform(0, self._most_s))
        fault = self.fault(request)
        if fault is None:
            self.taken.append((self.life, request))
        return fault or Reply()

    @property
    def kept(self) -> list[bytes]:
        """Every event, as often as it was taken, in order."""
        return [one for _, request in self.taken for one in events_of(request)]


def numbers(events: Sequence[bytes]) -> list[int]:
    """Of events made with ``event_api.event``."""
    return [int(one.split(b'"i-', 1)[1].split(b'"', 1)[0]) for one in events]


async def retry(work: Callable[[], Awaitable[bool]], *, timeout_s: float = DEADLINE_S) -> None:
    """Until it gives True."""
    async with asyncio.timeout(timeout_s):
        while not await work():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
