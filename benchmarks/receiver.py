"""The API's side of a benchmark: as little HTTP/1.1 as will do, so that it never is the bottleneck.

Its own process, started by ``benchmarks.processes``. Prints ``{"port": N}``, counts, and ends when its
standard input closes. Reads Content-Length bodies only, of trusted clients: not a server for anything else.
"""

import argparse
import asyncio
import json
import sys
import threading
from functools import lru_cache
from typing import cast

import uvloop

_MARK = b'"eventType"'  # exactly once in every valid event of the benchmarks' input


class Receiver:
    """What the connections share: the orders given, and the counts that ``GET /stats`` shows."""

    def __init__(self, *, mode: str, outage_s: float, latency_s: float, count: bool) -> None:
        self.mode = mode
        self.outage_s = outage_s
        self.latency_s = latency_s
        self.keeps_bodies = count or mode == "refuse"
        self.outage_ends = 0.0
        self.connections = 0
        self.requests = 0
        self.bytes = 0
        self.taken_requests = 0
        self.taken_events = 0

    def answer(self, size: int, body: bytearray) -> bytes:
        """The response to a POST of ``size`` bytes: the first of ``body``, empty where nobody counts."""
        self.requests += 1
        self.bytes += size
        if self.outage_s:
            now = asyncio.get_running_loop().time()
            # the clock starts with the first request, so that the client's start-up is not part of it
            self.outage_ends = self.outage_ends or now + self.outage_s
            if now < self.outage_ends:
                return _UNAVAILABLE
        if self.mode == "refuse":
            return _refusal(body.count(_MARK, 0, size))
        if self.mode == "refuse-silent":
            return _SILENT
        self.taken_requests += 1
        self.taken_events += body.count(_MARK, 0, size)
        return _TAKEN

    def stats(self) -> bytes:
        names = ("connections", "requests", "bytes", "taken_requests", "taken_events")
        return _response(b"200 OK", json.dumps({name: getattr(self, name) for name in names}).encode())


class Connection(asyncio.Protocol):
    """One client. ``missing`` body bytes of the current request are still to come; 0 between requests."""

    def __init__(self, receiver: Receiver) -> None:
        self.receiver = receiver
        self.head = b""
        self.body = bytearray()  # reused: fresh memory for every body costs more than reading it
        self.size = 0
        self.missing = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance
        self.receiver.connections += 1

    def data_received(self, data: bytes) -> None:
        while data:
            data = self._read_body(data) if self.missing else self._read_head(data)

    def _read_head(self, data: bytes) -> bytes:
        self.head += data
        end = self.head.find(b"\r\n\r\n")
        if end < 0:
            return b""
        head, rest, self.head = self.head[:end], self.head[end + 4 :], b""
        if head.startswith(b"GET /stats"):
            self.transport.write(self.receiver.stats())
            return rest
        at = head.lower().find(b"\r\ncontent-length:")
        if at < 0:
            self.transport.write(_response(b"411 Length Required", b"{}"))
            self.transport.close()
            return b""
        self.size = self.missing = int(head[at + 17 :].split(b"\r\n", 1)[0])
        if self.receiver.keeps_bodies and self.size > len(self.body):
            self.body = bytearray(self.size)
        if not self.missing:
            self._answer()
        return rest

    def _read_body(self, data: bytes) -> bytes:
        part, rest = (
            (data, b"") if len(data) <= self.missing else (data[: self.missing], data[self.missing :])
        )
        if self.receiver.keeps_bodies:
            at = self.size - self.missing
            self.body[at : at + len(part)] = part
        self.missing -= len(part)
        if not self.missing:
            self._answer()
        return rest

    def _answer(self) -> None:
        response = self.receiver.answer(self.size, self.body)
        if self.receiver.latency_s:
            asyncio.get_running_loop().call_later(self.receiver.latency_s, self.transport.write, response)
        else:
            self.transport.write(response)


def _response(status: bytes, body: bytes) -> bytes:
    head = b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


@lru_cache(maxsize=256)
def _refusal(count: int) -> bytes:
    errors = [{"index": i, "message": "refused", "retryable": False} for i in range(count)]
    return _response(b"422 Unprocessable Content", json.dumps({"errors": errors}).encode())


_TAKEN = _response(b"200 OK", b"{}")
_SILENT = _response(b"422 Unprocessable Content", b'{"message":"something in it is wrong"}')
_UNAVAILABLE = _response(b"503 Service Unavailable", b"{}")


async def serve(receiver: Receiver) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(receiver), "127.0.0.1", 0)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    closed = asyncio.Event()

    def wait_for_parent() -> None:
        sys.stdin.buffer.read()  # returns when the parent closes the pipe, or dies
        loop.call_soon_threadsafe(closed.set)

    threading.Thread(target=wait_for_parent, daemon=True).start()
    await closed.wait()
    server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mode", choices=("accept", "refuse", "refuse-silent"), default="accept")
    parser.add_argument("--outage", type=float, default=0, help="answer 503 for this many seconds at first")
    parser.add_argument("--latency", type=float, default=0, help="seconds before each answer")
    parser.add_argument("--count", action="store_true", help="count the events of what was taken (slower)")
    chosen = parser.parse_args()
    receiver = Receiver(
        mode=chosen.mode, outage_s=chosen.outage, latency_s=chosen.latency, count=chosen.count
    )
    uvloop.run(serve(receiver))


if __name__ == "__main__":
    main()
