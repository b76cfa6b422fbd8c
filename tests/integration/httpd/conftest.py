"""A server of the wire with small limits, on both event loops, and a client of it."""

from collections.abc import AsyncIterator

import pytest

from ingestd.httpd.server import Server, serve
from tests.integration.httpd.wire_client import LIMITS, Client, Echo, connect


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


@pytest.fixture
def application() -> Echo:
    return Echo()


@pytest.fixture
async def server(application: Echo) -> AsyncIterator[Server]:
    async with serve(application, LIMITS, "127.0.0.1", 0) as server:
        yield server


@pytest.fixture
async def client(server: Server) -> AsyncIterator[Client]:
    async with await connect(server.port) as client:
        yield client
