"""A server in a process that has no more file descriptors."""

import subprocess
import sys

from tests.machine import patience


def test_running_out_of_file_descriptors_neither_ends_nor_spins_the_server() -> None:
    code = """
import asyncio, logging, resource, socket, sys, time
from tests.integration.httpd.wire_client import *
from ingestd.httpd.request import ServerLimits
from ingestd.httpd.server import serve

async def main():
    async with serve(Echo(), ServerLimits(max_connections=100), "127.0.0.1", 0) as server:
        clients = []
        resource.setrlimit(resource.RLIMIT_NOFILE, (60, 60))
        try:
            while True:
                plain = socket.socket()
                plain.setblocking(False)
                plain.connect_ex(("127.0.0.1", server.port))
                clients.append(plain)
        except OSError:
            pass
        spent, started = time.process_time(), time.monotonic()
        while time.monotonic() < started + 1.0:
            await asyncio.sleep(0.01)
        spent = time.process_time() - spent
        assert spent < 0.5, spent
        for each in clients:
            each.close()
        await until(lambda: server.connections == 0)
        async with await connect(server.port) as client:
            client.send(post(b"alive"))
            assert (await client.answer()).body == b"alive"
        print("survived")

logging.basicConfig()
if sys.argv[1] == "uvloop":
    import uvloop
    uvloop.run(main())
else:
    asyncio.run(main())
"""
    for loop in ("asyncio", "uvloop"):
        done = subprocess.run(
            [sys.executable, "-W", "error", "-c", code, loop],
            capture_output=True,
            text=True,
            timeout=patience(30),
        )
        assert done.stdout == "survived\n", done.stderr
        assert "cannot accept connections for now: Too many open files" in done.stderr
