"""Pipes: what there is comes at once, and a stop ends a read that waits."""

import gzip
import os
import threading
from collections.abc import Iterator
from contextlib import aclosing, closing, suppress
from pathlib import Path

import anyio
import pytest

from ingestd.core.chunk import Keeper
from ingestd.sources.files.jsonl import JsonSource
from tests.machine import patience

pytestmark = pytest.mark.anyio


class Pipe:
    """A FIFO with a writer's end that is open."""

    def __init__(self, path: Path) -> None:
        os.mkfifo(path)
        keep_open = os.open(path, os.O_RDWR)  # lets both ends open at once
        self.source = JsonSource(str(path))
        self.writer = os.open(path, os.O_WRONLY)
        os.close(keep_open)

    def write(self, data: bytes) -> None:
        os.write(self.writer, data)

    def end(self) -> None:
        if self.writer >= 0:
            os.close(self.writer)
        self.writer = -1


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipe]:
    pipe = Pipe(tmp_path / "pipe")
    with closing(pipe.source):
        yield pipe
    pipe.end()


async def rest_of(source: JsonSource) -> list[bytes]:
    with anyio.fail_after(patience(10)):
        return [event async for chunk in source.chunks() for event in chunk.events]


async def test_a_pipe_is_no_file_that_can_be_read_again(pipe: Pipe) -> None:
    assert (pipe.source.keeper, pipe.source.size, pipe.source.plain_size) == (Keeper.JOURNAL, None, None)


async def test_events_come_at_once_and_the_begun_one_with_its_end(pipe: Pipe) -> None:
    with anyio.fail_after(patience(10)):
        async with aclosing(pipe.source.chunks()) as chunks:
            pipe.write(b'{"a":1}\n{"b":2}\n{"c"')
            first = await anext(chunks)
            assert first.events == [b'{"a":1}', b'{"b":2}']
            pipe.write(b":3}\n")
            second = await anext(chunks)
            assert second.events == [b'{"c":3}']
            assert (second.start, second.place(0)) == (16, (16, 3))
            pipe.write(b'{"d":4}')
            pipe.end()
            assert (await anext(chunks)).events == [b'{"d":4}']
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)
    assert pipe.source.damage == ""


@pytest.mark.parametrize("begun", [b"", b'{"b"', b"x" * 300_000])
async def test_a_stop_ends_a_waiting_read_within_a_second_and_drops_the_unfinished_line(
    pipe: Pipe, begun: bytes
) -> None:
    writer = threading.Thread(target=pipe.write, args=(b'{"a":1}\n' + begun,))
    writer.start()
    with anyio.fail_after(patience(10)):
        async with aclosing(pipe.source.chunks()) as chunks:
            assert (await anext(chunks)).events == [b'{"a":1}']
            async with anyio.create_task_group() as tasks:

                async def stop() -> None:
                    while pipe.source.bytes_read < 8 + len(begun):  # noqa: ASYNC110 - another thread reads
                        await anyio.sleep(0.01)
                    pipe.source.stop()
                    tasks.cancel_scope.deadline = anyio.current_time() + patience(1)

                tasks.start_soon(stop)
                assert [event async for chunk in chunks for event in chunk.events] == []
            assert not tasks.cancel_scope.cancelled_caught
    writer.join()
    assert pipe.source.damage == ""


@pytest.mark.parametrize("first", [b"", b"{"])
async def test_a_stop_ends_the_wait_for_the_very_first_bytes(pipe: Pipe, first: bytes) -> None:
    if first:
        pipe.write(first)
    stop = threading.Timer(0.05, pipe.source.stop)
    stop.start()
    assert await rest_of(pipe.source) == []
    stop.join()
    assert pipe.source.damage == ""


async def test_a_stop_ends_the_reading_of_a_producer_that_never_falls_silent(pipe: Pipe) -> None:
    def flood() -> None:
        with suppress(OSError):  # the reader went away
            while True:
                os.write(writer, b'{"a":1}\n' * 1000)

    writer = os.dup(pipe.writer)
    pipe.end()
    flooding = threading.Thread(target=flood)
    flooding.start()
    try:
        with anyio.fail_after(patience(10)):
            async for _ in pipe.source.chunks():
                pipe.source.stop()
    finally:
        pipe.source.close()
        flooding.join()
        os.close(writer)


async def test_a_packed_pipe_is_told_by_its_content(pipe: Pipe) -> None:
    pipe.write(gzip.compress(b"a\nb\n"))
    pipe.end()
    assert await rest_of(pipe.source) == [b"a", b"b"]


async def test_an_array_from_a_pipe(pipe: Pipe) -> None:
    pipe.write(b'[{"a":1},{"b":2},')
    pipe.end()
    assert await rest_of(pipe.source) == [b'{"a":1}', b'{"b":2}']
    assert pipe.source.damage == "the JSON array has no end: cut off at byte 17"


async def test_an_empty_pipe(pipe: Pipe) -> None:
    pipe.end()
    assert await rest_of(pipe.source) == []
    assert pipe.source.damage == ""
