"""The admin address of ``ingestd run``: metrics, health, readiness, status. Started by the service.

Everything is answered from memory: a full disk or a slow API must not keep an operator from looking.
"""

# isort: split
from ingestd.transport import late_authorities as late_authorities  # before aiohttp

# isort: split
import asyncio
import json
import os
import socket
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics

from ingestd.admin.connection_limit import Connections
from ingestd.admin.read_model import OURS
from ingestd.core.address import write_listen
from ingestd.core.errors import UserError
from ingestd.core.redaction import redact_tree
from ingestd.telemetry.health import HealthCheck, Readiness

Page = Callable[[web.Request], web.Response]

MAX_CONNECTIONS = 256
MAX_BODY_BYTES = 4 * 1024 * 1024
"""Of a form: an event that is corrected is in it."""
HEAD_TIMEOUT_S = 5.0
IDLE_TIMEOUT_S = 75.0
"""Longer than Prometheus' usual interval, so that its connection is kept."""
SHUTDOWN_TIMEOUT_S = 0.5
"""For a client that does not read its answer. aiohttp waits so long twice: before and after it cancels."""


@asynccontextmanager
async def serve_admin(
    host: str,
    port: int,
    *,
    registry: CollectorRegistry,
    health: HealthCheck,
    readiness: Readiness,
    status: Callable[[], dict[str, Any]],
    console: Sequence[web.RouteDef] = (),
    max_connections: int = MAX_CONNECTIONS,
    head_timeout_s: float = HEAD_TIMEOUT_S,
) -> AsyncIterator[int]:
    """Serve until left; gives the port (0 asks for any). Raises UserError when it cannot listen.

    ``health`` says what is wrong with the process, or None. ``status`` is what ``/v1/status`` shows;
    ``console``: pages for people.
    """

    def ready_page(request: web.Request) -> web.Response:
        del request
        reasons = readiness.reasons()
        if reasons:
            body = {"ready": False, "reasons": redact_tree(reasons)}
            if full := readiness.full():
                body["full"] = redact_tree(full)
            return _json(body, status=503)
        return _json({"ready": True})

    def status_page(request: web.Request) -> web.Response:
        del request
        return _json(status())

    pages = {
        "/metrics": metrics_page(registry),
        "/healthz": health_page(health),
        "/readyz": ready_page,
        "/v1/status": status_page,
    }
    async with serve_pages(
        pages,
        host,
        port,
        what="the admin address",
        more=console,
        max_connections=max_connections,
        head_timeout_s=head_timeout_s,
    ) as bound:
        yield bound


@asynccontextmanager
async def serve_pages(
    pages: Mapping[str, Page],
    host: str,
    port: int,
    *,
    what: str,
    more: Sequence[web.RouteDef] = (),
    max_connections: int = MAX_CONNECTIONS,
    head_timeout_s: float = HEAD_TIMEOUT_S,
    sockets: Sequence[socket.socket] = (),
) -> AsyncIterator[int]:
    """GET and HEAD of each path; everything else is answered in JSON. ``more``: other routes. ``sockets``:
    one that listens already, instead of host and port. Yields the port. Raises UserError: it cannot listen
    there."""

    @web.middleware
    async def work(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
        return await connections.work(request, handler)

    application = web.Application(middlewares=[work, _errors_as_json], client_max_size=MAX_BODY_BYTES)
    application.on_response_prepare.append(_set_headers)
    application.add_routes([web.get(path, _handler(page)) for path, page in pages.items()])
    application.add_routes(more)
    runner = web.AppRunner(
        application,
        access_log=None,
        handle_signals=False,
        shutdown_timeout=SHUTDOWN_TIMEOUT_S,
        keepalive_timeout=IDLE_TIMEOUT_S,
        lingering_time=0.0,
    )
    connections = Connections(
        lambda: _protocol(runner),
        max_connections=max_connections,
        head_timeout_s=head_timeout_s,
        idle_timeout_s=IDLE_TIMEOUT_S,
    )
    application.on_response_prepare.append(connections.asked)
    await runner.setup()
    listeners: list[asyncio.Server] = []
    create = asyncio.get_running_loop().create_server
    try:
        try:
            listeners += [await create(connections, sock=one) for one in sockets]
            if not sockets:
                listeners.append(await create(connections, host, port))
        except OSError as error:
            # the loop's own words repeat the address; getaddrinfo's numbers are negative
            why = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or error
            raise UserError(f"cannot serve {what} on {write_listen(host, port)}: {why}") from None
        yield listeners[0].sockets[0].getsockname()[1]
    finally:
        connections.close()
        for listener in listeners:
            listener.close()
        await runner.cleanup()


def _protocol(runner: web.AppRunner) -> asyncio.Protocol:
    assert runner.server is not None
    return runner.server()


def metrics_page(registry: CollectorRegistry) -> Page:
    """Prometheus' text format, or OpenMetrics where the request accepts that."""

    def page(request: web.Request) -> web.Response:
        if "application/openmetrics-text" in request.headers.get("Accept", ""):
            body = openmetrics.generate_latest(registry)  # type: ignore[no-untyped-call]
            kind = openmetrics.CONTENT_TYPE_LATEST
        else:
            body, kind = generate_latest(registry), CONTENT_TYPE_LATEST
        return web.Response(body=body, headers={"Content-Type": kind})

    return page


def health_page(health: HealthCheck) -> Page:
    """200 ``ok``, or 503 and what is wrong."""

    def page(request: web.Request) -> web.Response:
        del request
        problem = health()
        return web.Response(text=f"{problem}\n", status=503) if problem else web.Response(text="ok\n")

    return page


def _handler(page: Page) -> Callable[[web.Request], Any]:
    async def handle(request: web.Request) -> web.Response:
        return page(request)

    return handle


@web.middleware
async def _errors_as_json(request: web.Request, handler: Callable[[web.Request], Any]) -> web.StreamResponse:
    try:
        answer: web.StreamResponse = await handler(request)
    except web.HTTPException as error:
        allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
        return _json({"error": error.reason}, status=error.status, headers=allow)
    return answer


async def _set_headers(request: web.Request, response: web.StreamResponse) -> None:
    del request
    response.headers.setdefault("Cache-Control", "no-store")
    response.headers["Server"] = response.headers[OURS] = "ingestd"
    response.headers["X-Content-Type-Options"] = "nosniff"


def _json(
    body: dict[str, Any], *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    text = json.dumps(body, indent=2, default=str) + "\n"
    return web.Response(text=text, status=status, content_type="application/json", headers=headers)
