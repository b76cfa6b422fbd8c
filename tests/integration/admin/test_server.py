"""The admin address answers operators and probes, quickly, in what they can read."""

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from ingestd.admin import server
from ingestd.admin.access import Access
from ingestd.admin.api import Api
from ingestd.admin.console import Console
from ingestd.admin.metrics_server import serve_metrics
from ingestd.app.console.looks import Looks
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.telemetry.health import Readiness
from tests.machine import patience

pytestmark = pytest.mark.anyio


class Service:
    """What the service would register."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.readiness = Readiness()
        self.trouble: str | None = None
        self.status: dict[str, Any] = {"uptime_s": 1.5}

    def serve(self, port: int = 0, host: str = "127.0.0.1", **limits: Any) -> Any:
        return server.serve_admin(
            host,
            port,
            registry=self.registry,
            health=lambda: self.trouble,
            readiness=self.readiness,
            status=lambda: self.status,
            **limits,
        )


@pytest.fixture
def service() -> Service:
    return Service()


@pytest.fixture
async def admin(service: Service) -> AsyncIterator[httpx.AsyncClient]:
    async with (
        service.serve() as port,
        httpx.AsyncClient(
            timeout=patience(30), base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False
        ) as client,
    ):
        yield client


async def test_healthz_says_ok_or_what_is_wrong(service: Service, admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/healthz")
    assert (answer.status_code, answer.text) == (200, "ok\n")
    service.trouble = "the event loop has been blocked for 3.0 s"
    answer = await admin.get("/healthz")
    assert (answer.status_code, answer.text) == (503, "the event loop has been blocked for 3.0 s\n")


async def test_readyz_says_why_it_is_not_ready(service: Service, admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/readyz")
    assert (answer.status_code, answer.json()) == (200, {"ready": True})
    service.readiness.add("disk", lambda: "full")
    service.readiness.add("spool", lambda: None)
    answer = await admin.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"ready": False, "reasons": ["disk: full"]})
    service.readiness.full = lambda: "holds 7 of 7 bytes"
    answer = await admin.get("/readyz")
    assert answer.json() == {"ready": False, "reasons": ["disk: full"], "full": "holds 7 of 7 bytes"}


async def test_status_is_the_json_that_the_service_gives(service: Service, admin: httpx.AsyncClient) -> None:
    service.status = {"ledger": {"accepted": 3}, "lanes": [{"circuit": "closed"}]}
    answer = await admin.get("/v1/status")
    assert answer.json() == service.status
    assert answer.headers["Content-Type"].startswith("application/json")


async def test_metrics_come_as_text_or_as_openmetrics(service: Service, admin: httpx.AsyncClient) -> None:
    Counter("tries", "Tries", registry=service.registry).inc(3)
    plain = await admin.get("/metrics")
    assert plain.headers["Content-Type"].startswith("text/plain")
    assert {s.name: s.value for f in parse(plain.text) for s in f.samples}["tries_total"] == 3
    wanted = await admin.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert wanted.headers["Content-Type"].startswith("application/openmetrics-text")
    assert {s.name: s.value for f in parse_openmetrics(wanted.text) for s in f.samples}["tries_total"] == 3  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/readyz", "/v1/status", "/nothing"])
async def test_every_answer_is_fresh_tells_no_version_and_has_a_head(
    admin: httpx.AsyncClient, path: str
) -> None:
    get, head = await admin.get(path), await admin.head(path)
    assert head.status_code == get.status_code
    assert head.content == b""
    for answer in (get, head):
        assert answer.headers["Cache-Control"] == "no-store"
        assert answer.headers["Server"] == "ingestd"


async def test_an_unknown_path_or_method_is_told_in_json(admin: httpx.AsyncClient) -> None:
    answer = await admin.get("/metrics/../nothing")
    assert (answer.status_code, answer.json()) == (404, {"error": "Not Found"})
    answer = await admin.post("/v1/status", content=b"x" * 100_000)
    assert (answer.status_code, answer.json()) == (405, {"error": "Method Not Allowed"})
    assert answer.headers["Allow"] == "GET,HEAD"


async def test_a_taken_port_is_the_users_error(service: Service) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UserError, match=rf"^cannot serve the admin address on 127.0.0.1:{port}: Address already in use$"
        ):
            async with service.serve(port):
                pass
        with pytest.raises(UserError, match=r"^cannot serve metrics on"):
            async with serve_metrics(service.registry, "127.0.0.1", port):
                pass


async def test_a_replay_has_metrics_and_health_only(service: Service) -> None:
    async with (
        serve_metrics(service.registry, "127.0.0.1", 0) as port,
        httpx.AsyncClient(
            timeout=patience(30), base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False
        ) as client,
    ):
        codes = [(await client.get(path)).status_code for path in ("/metrics", "/healthz", "/readyz")]
    assert codes == [200, 200, 404]


async def test_shutting_down_waits_for_no_idle_dawdling_or_stalled_client(service: Service) -> None:
    Counter("long", "x" * 20_000_000, registry=service.registry)  # more than sockets hold
    async with asyncio.timeout(None) as within, service.serve() as port:
        used, dawdling, unread = [await asyncio.open_connection("127.0.0.1", port) for _ in range(3)]
        used[1].write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await used[0].readline()).startswith(b"HTTP/1.1 200")
        dawdling[1].write(b"GET /healthz HTT")
        await dawdling[1].drain()
        unread[1].write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await unread[0].readline()).startswith(b"HTTP/1.1 200")
        within.reschedule(asyncio.get_running_loop().time() + patience(2 * server.SHUTDOWN_TIMEOUT_S + 0.5))
    for _, writer in (used, dawdling, unread):
        writer.close()
        await asyncio.gather(writer.wait_closed(), return_exceptions=True)
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.parametrize("anyio_backend", [("asyncio", {"use_uvloop": uvloop}) for uvloop in (True, False)])
@pytest.mark.parametrize("begun", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\nX: "])
async def test_beside_more_silent_connections_than_it_takes_healthz_answers_at_once(
    service: Service, begun: bytes
) -> None:
    async with service.serve() as port:
        silent = [
            await asyncio.open_connection("127.0.0.1", port) for _ in range(server.MAX_CONNECTIONS + 40)
        ]
        for _, writer in silent:
            writer.write(begun)
        async with httpx.AsyncClient(trust_env=False, verify=False, timeout=patience(1)) as client:
            for _ in range(3):
                assert (await client.get(f"http://127.0.0.1:{port}/healthz")).text == "ok\n"
        gone = [reader for reader, _ in silent[:40]]
        await asyncio.wait_for(asyncio.gather(*map(_until_lost, gone)), patience(5))
        assert not any(reader.at_eof() or reader.exception() for reader, _ in silent[-100:])
        for _, writer in silent:
            writer.transport.abort()


async def _until_lost(reader: asyncio.StreamReader) -> None:
    with contextlib.suppress(ConnectionError):
        assert await reader.read() == b""


async def test_who_asks_again_and_again_outlives_those_who_are_silent(
    service: Service,
) -> None:
    async with service.serve(max_connections=3) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(10):
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.readuntil(b"ok\n")).startswith(b"HTTP/1.1 200 OK")
            _, other = await asyncio.open_connection("127.0.0.1", port)
            other.transport.abort()
        writer.close()


@pytest.mark.parametrize("before", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
async def test_a_connection_that_does_not_end_what_it_asks_does_not_stay(
    service: Service, before: bytes
) -> None:
    async with service.serve(head_timeout_s=0.2) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        if before:
            writer.write(before)
            assert await reader.readuntil(b"ok\n")
        writer.write(b"GET /healthz HTT")
        await asyncio.wait_for(_until_lost(reader), patience(5))
        writer.close()
        await writer.wait_closed()


async def test_an_answer_takes_as_long_as_it_takes_and_what_is_asked_does_not(service: Service) -> None:
    found = asyncio.Event()

    async def work(request: web.Request) -> web.Response:
        await request.read()
        await found.wait()
        return web.Response(text="found\n")

    begun = b"POST /work HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n"
    async with service.serve(head_timeout_s=0.2, console=[web.post("/work", work)]) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(begun + b"ab")
        dawdling, other = await asyncio.open_connection("127.0.0.1", port)
        other.write(begun + b"a")
        await asyncio.wait_for(_until_lost(dawdling), patience(5))  # later than the first, and over already
        found.set()
        assert (await reader.readuntil(b"found\n")).startswith(b"HTTP/1.1 200 OK")
        for one in (writer, other):
            one.close()
            await asyncio.gather(one.wait_closed(), return_exceptions=True)


class Crowd:
    """A model in whose files few look at once, and each until ``found``."""

    def __init__(self) -> None:
        self._looks = Looks(at_once=1, waiting=1)
        self.found = threading.Event()

    async def where(self, key: str) -> dict[str, Any]:
        await self._looks.take(self.found.wait)
        return {"asked": key}

    def redact(self, shown: dict[str, Any]) -> dict[str, Any]:
        return shown


async def test_few_look_through_the_files_at_once_and_others_are_told_to_come_again(service: Service) -> None:
    model: Any = Crowd()
    access = Access(SystemClock())
    pages = [*Api(model, model, access).routes(), *Console(model, model, access).routes()]
    async with (
        service.serve(console=pages) as port,
        httpx.AsyncClient(
            timeout=patience(30), base_url=f"http://127.0.0.1:{port}", trust_env=False, verify=False
        ) as client,
    ):
        try:
            asked = {asyncio.ensure_future(client.get("/v1/where?key=k")) for _ in range(3)}
            refused, others = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
            for answer in [await refused.pop(), await client.get("/where?key=k")]:
                assert (answer.status_code, "ask again in a moment" in answer.text) == (503, True)
        finally:
            model.found.set()
        assert [(await one).json() for one in others] == [{"asked": "k"}] * 2
        assert (await client.get("/v1/where?key=another")).json() == {"asked": "another"}


async def test_it_listens_on_ipv6(service: Service) -> None:
    async with (
        service.serve(host="::1") as port,
        httpx.AsyncClient(timeout=patience(30), trust_env=False, verify=False) as client,
    ):
        assert (await client.get(f"http://[::1]:{port}/healthz")).text == "ok\n"
