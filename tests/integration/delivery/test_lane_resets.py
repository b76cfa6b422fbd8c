"""An API that ends the connection at long bodies: halved where it is certain that it has not taken them."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from tests.integration.delivery.support import make_batch, rig
from tests.integration.delivery.virtual_time import local_time

pytestmark = [pytest.mark.anyio, local_time]

LIMIT = 40_000


@asynccontextmanager
async def resetting(
    is_refused: Callable[[int], bool], *, whole: bool = False
) -> AsyncIterator[tuple[str, list[int], list[int]]]:
    """(URL, lengths of bodies that were refused, numbers of events that were taken). ``whole``: a body that
    is refused is read to its end first."""
    refused: list[int] = []
    taken: list[int] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError), contextlib.closing(writer):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.split(b"content-length:")[1].split()[0])
                if is_refused(length):
                    refused.append(length)
                    if whole:
                        await reader.readexactly(length)
                    writer.transport.abort()
                    return
                body = json.loads(await reader.readexactly(length))
                taken.extend(event["n"] for event in body["events"])
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
                await writer.drain()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", refused, taken


async def test_three_lost_connections_halve_a_batch_and_no_event_comes_twice() -> None:
    async with (
        resetting(lambda length: length > LIMIT) as (url, refused, taken),
        rig(lambda _: AssertionError(), url=url, circuit_threshold=1000) as r,
    ):
        await r.deliver([make_batch(range(160), "x" * 1000)])
        assert sorted(taken) == list(range(160))
        assert r.book.delivered == list(range(160))
        longest = max(refused)
        assert refused.count(longest) == 3
        assert r.book.limits, "the size is learned once a shorter body was taken"
        assert LIMIT / 2 <= min(r.book.limits) <= longest / 2


async def test_what_was_sent_whole_stays_under_its_key() -> None:
    """It may have been taken, whatever the connection did then."""
    attempts = 0

    def is_refused(length: int) -> bool:
        nonlocal attempts
        attempts += 1
        return attempts <= 7

    async with (
        resetting(is_refused, whole=True) as (url, refused, taken),
        rig(lambda _: AssertionError(), url=url, circuit_threshold=1000) as r,
    ):
        await r.deliver([make_batch(range(80), "x" * 1000)])
        assert taken == list(range(80))
        assert len(set(refused)) == 1
        assert len(refused) == 7
        assert r.book.limits == []


async def test_a_single_event_is_not_cut_and_not_given_up_for_it() -> None:
    attempts = 0

    def is_refused(length: int) -> bool:
        nonlocal attempts
        attempts += 1
        return attempts <= 5

    async with (
        resetting(is_refused) as (url, refused, taken),
        rig(lambda _: AssertionError(), url=url, circuit_threshold=1000) as r,
    ):
        await r.deliver([make_batch([7], "x" * 50_000)])
        assert (taken, len(refused)) == ([7], 5)
