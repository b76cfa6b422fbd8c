"""What persons do by commands to a spool of edges and workers on several machines; where it is noted."""

import asyncio
import contextlib
import getpass
import json
import os
import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import msgspec
import pytest
from anyio import to_thread

from ingestd.app.cluster import letters_by_command
from ingestd.app.cluster.forget import forget
from ingestd.app.cluster.park import park
from ingestd.app.cluster.probe import probe_all
from ingestd.app.cluster.spool import check, stat
from ingestd.cluster.membership import Member
from ingestd.cluster.probes import ProbeAnswer, Probes
from ingestd.core.errors import NotFound, UserError
from ingestd.store.dead_letters import Filter
from tests.event_api import EventApi, event, events
from tests.nats_server import NatsServer
from tests.process.cluster.in_process import Spool, spool, until
from tests.receiver import Reply, Request
from tests.warm import warm

pytestmark = pytest.mark.anyio


async def command(place: Path, *words: str) -> tuple[int, str, str]:
    process = await warm().start([*words, "--config", str(place / "spool.toml")], env={"PATH": ""})
    out, err = await process.communicate()
    return process.returncode or 0, out.decode(), err.decode()


@asynccontextmanager
async def another_worker(stream: Spool) -> AsyncIterator[None]:
    """On another machine, where it has the same process id; it answers nobody."""
    member = Member(
        name="pod-b", kind="worker", host="b", pid=os.getpid(), version="1", since=0.0, sinks=["one"]
    )

    async def beat() -> None:
        while True:
            await stream.connection.publish(stream.names.members, msgspec.json.encode(member))
            await asyncio.sleep(0.2)

    beating = asyncio.create_task(beat())
    yield
    beating.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await beating


async def test_a_sink_is_tried_at_once_wherever_its_workers_run(shared_nats: NatsServer) -> None:
    shut = True

    def answer(request: Request) -> Reply:
        return Reply(403) if shut else Reply()

    async with EventApi(answer) as api, spool(shared_nats) as stream:
        probe = partial(to_thread.run_sync, probe_all, stream.settings(api.url))
        with pytest.raises(UserError, match="no worker of one is there"):
            await probe("one")
        async with stream.serving(api) as process:
            await process.take(events(3))
            # It may be trying just now; in the end it waits for so long that we are sooner.
            while not (done := await probe("one")).probing:
                pass
            assert (done.words(), done.silent) == (["the next request goes out now"], [])
            shut = False
            while (await probe("one")).probing:
                pass
            await stream.settled(accepted=3, delivered=3)
            done = await probe("one")
            assert done.words() == ["it is not paused: nothing to probe"]
            async with another_worker(stream):
                done = await probe("one")
            assert done.silent == [f"worker pod-b (process {os.getpid()} on b)"]
            with pytest.raises(NotFound, match="there is no sink onee here; did you mean one"):
                await probe("onee")
            await stream.park(True)
            with pytest.raises(UserError, match="nothing is sent until it is resumed"):
                await probe("one")


async def test_a_sink_whose_shares_are_on_their_way_to_an_owner_is_not_said_to_work(
    shared_nats: NatsServer,
) -> None:
    """A worker that has begun and owns nothing yet knows nothing of the API."""
    async with spool(shared_nats) as stream, another_worker(stream):
        answers = Probes(stream.names, lambda _: ProbeAnswer(os.getpid(), 0, 0, "pod-b"))
        answering = asyncio.create_task(answers.run(stream.connection))
        done = await to_thread.run_sync(probe_all, stream.settings(), "one")
        answering.cancel()
        await asyncio.wait([answering])
        (words,) = done.words()
        assert words.startswith("no worker owns a share of it at this moment: ")


async def test_who_did_what_by_commands_is_found_afterwards(tmp_path: Path, shared_nats: NatsServer) -> None:
    who = f"{getpass.getuser()}@{socket.gethostname()}"

    def answer(request: Request) -> Reply:
        return Reply(400) if bad and b'"note":"bad"' in request.body else Reply()

    bad = True
    async with EventApi(answer) as api, spool(shared_nats, batch_events=1) as stream:
        settings = stream.settings(api.url)
        stream.write(tmp_path / "spool.toml", api.url)
        assert await command(tmp_path, "audit", "tail") == (0, "", "")
        async with stream.serving(api) as process:
            await process.take([event(1), event(7, note="bad"), event(8, note="bad")])
            await stream.settled(accepted=3, delivered=1, dead_lettered=2)
            bad = False
            for on in (True, True, False):
                await to_thread.run_sync(partial(park, settings, "one", on=on, wait_s=5.0))
            done = await command(tmp_path, "spool", "probe", "one")
            assert done == (0, "it is not paused: nothing to probe\n", "")
            where = Filter(event_id="i-000008")
            await to_thread.run_sync(letters_by_command.purge, settings, where)
            await to_thread.run_sync(letters_by_command.retry, settings, Filter())
            with pytest.raises(UserError, match="sends to one"):
                await to_thread.run_sync(forget, settings, "one")
        _, out, _ = await command(tmp_path, "audit", "tail", "--json")
        found = [json.loads(line) for line in out.splitlines()]
        assert [(one["event"], one.get("state"), one.get("count")) for one in found] == [
            ("SINK_PARKED", "person", None),
            ("SINK_PARKED", "resumed", None),
            ("SINK_PROBED", None, None),
            ("LETTERS_PURGED", None, 1),
            ("LETTERS_REQUESTED", None, 1),
        ]
        assert {one["who"] for one in found} == {who}
        assert not any("chain" in one for one in found)
        _, out, _ = await command(tmp_path, "audit", "grep", "--event", "LETTERS_PURGED")
        assert (out.count("\n"), "LETTERS_PURGED" in out, "count=1" in out) == (1, True, True), out


async def test_for_which_sink_the_room_is_filled_is_told(tmp_path: Path, shared_nats: NatsServer) -> None:
    """A parked sink: with what it was given its owner has no room, and reads no more."""
    large = "x" * 400_000
    async with EventApi() as api, spool(shared_nats, max_bytes="12MiB") as stream:
        settings = stream.settings(api.url)
        async with stream.serving(api) as process:
            await to_thread.run_sync(partial(park, settings, "one", on=True, wait_s=5.0))
            taken = 0
            while (answer := await process.post([event(taken, note=large)])).status == 202:
                taken += 1
            assert (answer.status, answer.headers["retry-after"]) == (503, "30")
            await until(lambda: process.owner.lag)

            async def names_it() -> bool:
                told = await process.post([event(taken, note=large)])
                return b"the spool is full, most of it waits for one, which is parked" in told.body

            await until(names_it)
            (readiness,) = process.service.readiness.reasons()
            words = rf"spool: holds \d+ of \d+ bytes; {taken} of {taken} chunks wait for one, which is parked"
            assert re.fullmatch(words, readiness), readiness
            async with stream.serving(api, worker=False) as idle:  # another edge, that was sent nothing
                await until(lambda: [*filter(re.compile(words).fullmatch, idle.service.readiness.reasons())])
            told = await to_thread.run_sync(stat, settings)
            assert told["sinks"][0]["bytes_waiting"] > 0.9 * 12 * 1024 * 1024
            (finding,) = [one for one in await to_thread.run_sync(check, settings) if "parked" in one.text]
            assert f"{taken} of {taken} chunks wait for it" in finding.text
            await to_thread.run_sync(partial(park, settings, "one", on=False, wait_s=0.0))
            await stream.settled(accepted=taken, delivered=taken)
            told = await to_thread.run_sync(stat, settings)
            assert told["sinks"][0]["bytes_waiting"] == 0
