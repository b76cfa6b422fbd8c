"""What the service is compared with: the same wire, and behind it nothing but a 202.

Its own process, started by ``serve_process.py``. Prints ``{"port": N}``; ends when its standard input closes.
"""

import asyncio
import json
import sys
import threading

import uvloop

from ingestd.httpd.request import Request, ServerLimits
from ingestd.httpd.response import Response
from ingestd.httpd.server import serve

_BODY = b'{"accepted":1,"duplicates":0,"rejected":[]}'
_HEADERS = (("Content-Type", "application/json"),)


class Bare:
    """An Application that has the whole body read and does not look at it."""

    def check_head(self, request: Request) -> Response | None:
        del request
        return None

    def handle(self, request: Request) -> None:
        request.respond(202, _BODY, _HEADERS)


async def run() -> None:
    closed = asyncio.Event()
    loop = asyncio.get_running_loop()

    def wait_for_parent() -> None:
        sys.stdin.buffer.read()
        loop.call_soon_threadsafe(closed.set)

    async with serve(Bare(), ServerLimits(), "127.0.0.1", 0) as server:
        print(json.dumps({"port": server.port}), flush=True)
        threading.Thread(target=wait_for_parent, daemon=True).start()
        await closed.wait()


if __name__ == "__main__":
    uvloop.run(run())
