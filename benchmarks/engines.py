"""What one POST costs in CPU, by HTTP engine: ``python -m benchmarks.engines``.

Starts a minimal receiver of its own, in its own process, on a free port, and prints microseconds of CPU
per POST in this process (user and system) with five requests in flight; the best of three rounds.
"""

import argparse
import asyncio
import multiprocessing
import multiprocessing.connection
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import httpx
import uvloop
from httpx_aiohttp import AiohttpTransport

from ingestd.core.clock import SystemClock
from ingestd.transport.client import Client
from ingestd.transport.engine import Engine, Timeout
from ingestd.transport.target import parse_target
from ingestd.transport.tls import watch_tls
from ingestd.transport.watched_file import Watch

Post = Callable[[bytes], Awaitable[int]]

IN_FLIGHT = 5
ROUNDS = 3
SIZES = (480_000, 2_000)
HEADERS = {
    "Authorization": "Bearer " + "x" * 80,
    "Content-Type": "application/json",
    "X-Request-Id": "a" * 36,
    "Idempotency-Key": "b" * 36,
}
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"


class Sink(asyncio.Protocol):
    """Reads Content-Length bodies of a trusted client and answers each of them with 200."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport
        self.head = b""
        self.missing = 0

    def data_received(self, data: bytes) -> None:
        if not self.missing:
            self.head += data
            head, end, rest = self.head.partition(b"\r\n\r\n")
            if not end:
                return
            self.head = b""
            self.missing = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            data = rest
        self.missing -= len(data)
        if not self.missing:
            self.transport.write(ANSWER)


def serve(pipe: multiprocessing.connection.Connection) -> None:
    async def run() -> None:
        server = await asyncio.get_running_loop().create_server(Sink, "127.0.0.1", 0)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    uvloop.run(run())


@asynccontextmanager
async def httpx_default(url: str) -> AsyncIterator[Post]:
    async with httpx.AsyncClient() as client:

        async def post(body: bytes) -> int:
            return (await client.post(url, content=body, headers=HEADERS)).status_code

        yield post


@asynccontextmanager
async def httpx_aiohttp(url: str) -> AsyncIterator[Post]:
    async with httpx.AsyncClient(
        transport=AiohttpTransport(client=lambda: aiohttp.ClientSession())
    ) as client:

        async def post(body: bytes) -> int:
            return (await client.post(url, content=body, headers=HEADERS)).status_code

        yield post


@asynccontextmanager
async def ingestd_client(url: str) -> AsyncIterator[Post]:
    async with Client() as client:

        async def post(body: bytes) -> int:
            return (await client.post(url, body, HEADERS)).status

        yield post


@asynccontextmanager
async def engine_alone(url: str) -> AsyncIterator[Post]:
    async with _engine() as engine:
        target = parse_target(url)

        async def post(body: bytes) -> int:
            return (await engine.exchange("POST", target, HEADERS, body, timeout=Timeout())).status

        yield post


@asynccontextmanager
async def bare_aiohttp(url: str) -> AsyncIterator[Post]:
    async with aiohttp.ClientSession() as session:

        async def post(body: bytes) -> int:
            async with session.post(url, data=body, headers=HEADERS) as answer:
                await answer.read()
                return answer.status

        yield post


def _engine() -> Engine:
    clock = SystemClock()
    return Engine(
        watch_tls(None, certificate=None, trust_env=False, watch=Watch(), clock=clock),
        max_connections=64,
        max_connection_age_s=300.0,
        max_body_bytes=1024 * 1024,
        clock=clock,
        rng=random.Random(),
    )


ENGINES = {
    "httpx, its own engine": httpx_default,
    "httpx over httpx_aiohttp": httpx_aiohttp,
    "ingestd's Client": ingestd_client,
    "Engine without Client": engine_alone,
    "aiohttp alone": bare_aiohttp,
}


async def measure(post: Post, body: bytes, *, count: int) -> float:
    """Microseconds of CPU per POST, the best of ``ROUNDS``."""

    async def work(turns: int) -> None:
        for _ in range(turns):
            status = await post(body)
            assert status == 200, status

    best = float("inf")
    for _ in range(ROUNDS):
        start = time.process_time()
        await asyncio.gather(*(work(count // IN_FLIGHT) for _ in range(IN_FLIGHT)))
        best = min(best, (time.process_time() - start) / count * 1e6)
    return best


async def compare(url: str, *, count: int) -> None:
    print("CPU us per POST".ljust(32) + "".join(f"{size / 1000:>10g} kB" for size in SIZES))
    for name, connect in ENGINES.items():
        async with connect(url) as post:
            costs = [await measure(post, b"x" * size, count=count) for size in SIZES]
        print(name.ljust(32) + "".join(f"{cost:13.0f}" for cost in costs), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1500, help="POSTs per round")
    parser.add_argument("--loop", choices=("uvloop", "asyncio"), default="uvloop")
    chosen = parser.parse_args()
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    receiver = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    receiver.start()
    try:
        url = f"http://127.0.0.1:{ours.recv()}/api/v2/events/ingest"
        (uvloop.run if chosen.loop == "uvloop" else asyncio.run)(compare(url, count=chosen.count))
    finally:
        receiver.kill()
        receiver.join()


if __name__ == "__main__":
    main()
