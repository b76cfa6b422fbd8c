"""``replay --workers``: signals that somebody sends to one of its processes, or to each of them."""

import asyncio
import errno
import os
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import pytest

from ingestd.app.event_loop import run_loop
from ingestd.app.parts import together
from ingestd.app.replay_progress import ReplayProgress
from ingestd.core.errors import UserError
from tests.event_api import EventApi, assert_balanced, events, write
from tests.process.cli.support import COMMAND, Place
from tests.process.cli.test_parts import children, report_of_interrupted, slow
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio

LINES = events(4_000, note="n" * 600)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_to_one_process_drains_all_and_is_told(place: Place, number: signal.Signals) -> None:
    source = write(place / "in.ndjson", LINES)
    async with EventApi(slow) as api:
        words = place.replay(api, source, "--max-batch-events", 20, "--max-in-flight", 3, "--workers", 2)
        async with place.start(*words) as running:
            await api.until(lambda api: len(api.requests) >= 8)
            os.kill(children(running)[1], number)
            done = await running.finish()
        first = report_of_interrupted(place, done)
        done = await place.run(*words)
    assert (done.code, sorted(api.events)) == (0, LINES)
    assert first["delivered"] + place.report["delivered"] == 4_000


async def test_a_signal_that_each_process_gets_besides_is_no_second_one(place: Place) -> None:
    """As a service manager sends it to all that it finds: none of them ends before it has drained."""
    source = write(place / "in.ndjson", LINES)
    released = asyncio.Event()

    async def hold(request: Request) -> Reply:
        await released.wait()
        return Reply()

    async with EventApi(hold) as api:
        words = place.replay(api, source, "--max-batch-events", 20, "--max-in-flight", 4, "--workers", 2)
        async with place.start(*words) as running:
            await api.until(lambda api: api.in_flight == 4)
            for _ in range(3):
                for pid in children(running):
                    os.kill(pid, signal.SIGTERM)
                await asyncio.sleep(0.05)  # several that come at once are one
            running.send(signal.SIGTERM)
            released.set()
            done = await running.finish()
        first = place.report
        assert done.code == 130
        assert_balanced(first)
        assert (first["in_flight"], first["delivered"]) == (0, len(api.events))
        assert first["delivered"] >= 80
        done = await place.run(*words)
    assert (done.code, sorted(api.events)) == (0, LINES)


async def test_where_the_end_of_children_is_ignored_from_the_start_each_is_waited_for_all_the_same(
    place: Place,
) -> None:
    """As some programs hand it down to what they start."""
    source = write(place / "in.ndjson", events(100))
    async with EventApi() as api:
        words = map(str, place.replay(api, source, "--workers", 2))
        ignore = partial(signal.signal, signal.SIGCHLD, signal.SIG_IGN)
        process = await asyncio.create_subprocess_exec(*COMMAND, *words, preexec_fn=ignore)
        assert await process.wait() == 0
        assert sorted(api.events) == events(100)


@asynccontextmanager
async def show_nothing(look: Callable[[], ReplayProgress]) -> AsyncIterator[None]:
    look()
    yield


@pytest.mark.parametrize("code", [130, 143, 1])
def test_a_process_that_was_signalled_before_it_could_drain_is_interrupted(place: Place, code: int) -> None:
    process = together._start("part 1 of 1", place.state, lambda connection: code)
    replay = together.PartedReplay([process], "", print)
    run_loop(partial(replay.run, show_nothing))
    with pytest.raises(UserError) as caught:
        replay.outcome()
    assert caught.value.exit_code == (1 if code == 1 else 130)
    assert ("has ended by exit code 1" in str(caught.value)) == (code == 1)


def test_a_process_that_cannot_be_started_is_told(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(work: Callable[[], int]) -> int:
        del work
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    monkeypatch.setattr(together, "fork", refuse)
    source = write(place / "in.ndjson", events(3))
    words = ("--api", "http://127.0.0.1:9", "--no-auth", "--state-dir", place.state, "--workers", 2)
    done = place.call("replay", source, *words)
    assert (done.code, done.err) == (
        1,
        "ingestd: cannot start the process of part 1 of 2: Resource temporarily unavailable\n",
    )
