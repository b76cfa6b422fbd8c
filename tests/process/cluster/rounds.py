"""Edges, workers and the broker are killed and stopped while producers go on; then it is judged.

Two edges, two workers, two sinks: one keeps order, the API of the other answers 503 to some of what it took.
"""

import asyncio
import json
import random
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.event_api import key
from tests.machine import patience
from tests.nats_server import NatsServer, nats_servers
from tests.process.cluster.support import ALWAYS, AnyEdge, Cluster, ClusterProducer, dead_letters
from tests.process.soak.api import Api as SoakApi
from tests.process.soak.api import SinkApi
from tests.process.soak.judge import Verdict, judge
from tests.receiver import Action, Reply, Request

if TYPE_CHECKING:
    from tests.process.cli.run_support import Serving

FAULTS = ("kill worker", "kill worker", "stop worker", "kill edge", "stop edge", "kill broker")
STOP_S = 3.0


class TwoFacedApi(SoakApi):
    """Also answers 503 to what it took."""

    def __init__(self, sinks: dict[str, SinkApi], rng: random.Random, journal: Path, *, lies: float) -> None:
        super().__init__(sinks, rng, journal)
        self._lies, self._chance = lies, rng
        self.lied = self.repeats = 0

    async def _answer(self, request: Request) -> Action:
        sink = request.path.split("/")[1]
        self.repeats += key(request) in self.sinks[sink].answers
        answer = await super()._answer(request)
        took = isinstance(answer, Reply) and answer.status in (200, 207)
        if sink == "two" and took and self._chance.random() < self._lies:
            self.lied += 1
            return Reply(503, {"Retry-After": "0"})
        return answer


class Member:
    """An edge or a worker that is started again when it was killed."""

    def __init__(self, cluster: Cluster, flag: str, name: str) -> None:
        self.cluster, self.flag, self.name = cluster, flag, name
        self._stack = AsyncExitStack()
        self.serving: Serving

    async def start(self) -> None:
        self.serving = await self._stack.enter_async_context(self.cluster.start(self.flag))

    async def kill(self) -> None:
        await self.serving.kill()
        await self._stack.aclose()
        self._stack = AsyncExitStack()

    async def stop_for(self, seconds: float) -> None:
        self.serving.send(signal.SIGSTOP)
        try:
            await asyncio.sleep(seconds)
        finally:
            self.serving.send(signal.SIGCONT)

    async def end(self) -> None:
        done = await self.serving.stop()
        await self._stack.aclose()
        assert done.code == 0, done


async def play(
    directory: Path,
    seed: int,
    seconds: float,
    *,
    producers: int = 3,
    faults: tuple[str, ...] = FAULTS,
    servers: int = 1,
) -> tuple[Verdict, Counter[str]]:
    """One run; what was done is counted by its name."""
    rng = random.Random(seed)
    done: Counter[str] = Counter()
    verdict = Verdict()
    sinks = {"one": SinkApi(slow_s=0.02), "two": SinkApi(trouble=0.02)}
    with nats_servers(directory / "nats", servers, ALWAYS if servers == 1 else "") as nats:
        async with TwoFacedApi(sinks, rng, directory / "api", lies=0.05) as api:
            cluster = Cluster(directory, nats, api.url, {"one": "", "two": 'order_by = ""'})
            await _init(cluster)
            edges = AnyEdge(rng)
            members = [
                Member(cluster, flag, f"{flag} {n}") for flag in ("--edge", "--worker") for n in (1, 2)
            ]
            for member in members:
                await member.start()
            for member in members[:2]:
                edges.ports[member.name] = member.serving.ingest_port
            stop = asyncio.Event()
            makers = [ClusterProducer(f"p{n}", random.Random(seed * 100 + n)) for n in range(producers)]
            works = [asyncio.create_task(one.work(edges, stop)) for one in makers]
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                await asyncio.sleep(rng.uniform(0.5, 2.0))
                fault = rng.choice(faults)
                done[fault] += 1
                verdict.kills += 1
                await _do(fault, members, edges, nats, rng)
                if fault != "kill broker" and servers == 1:  # of several there may be no leader for a moment
                    _balance(await cluster.json("spool", "stat"), verdict)
            stop.set()
            await asyncio.wait_for(asyncio.gather(*works), patience(60))
            for one in makers:
                verdict.problems += one.problems
            stat = await _until_settled(cluster, members)
            verdict.lives = len(members) + sum(done[f"kill {what}"] for what in ("edge", "worker"))
            letters = await dead_letters([one.url for one in nats], "t")
            acknowledged = [event for one in makers for event in one.acknowledged]
            judge(acknowledged, sinks, letters, ordered=["one"], verdict=verdict)
            _balance(stat, verdict)
            given = sum(len(one.acknowledged) + one.copies for one in makers)
            if stat["sinks"][0]["accepted"] < given:
                verdict.problems.append(f"{given} events were answered for, and the ledger has {stat}")
            done["503 to what it took"] = api.lied
            done["copies"] = sum(one.copies for one in makers)
            done["repeats of a key"] = api.repeats
            for member in members:
                await member.end()
    return verdict, done


async def _init(cluster: Cluster) -> None:
    """Of several servers it takes seconds until they have a leader."""
    until = time.monotonic() + patience(30)
    while True:
        code, out, err = await cluster.command("spool", "init")
        if code == 0:
            return
        assert time.monotonic() < until, (out, err)
        await asyncio.sleep(0.2)


async def _do(
    fault: str, members: list[Member], edges: AnyEdge, nats: list[NatsServer], rng: random.Random
) -> None:
    if fault == "kill broker":
        server = rng.choice(nats)
        server.kill()
        await asyncio.sleep(rng.uniform(0, 0.5 if len(nats) == 1 else 2.0))
        server.start()
        return
    verb, what = fault.split()
    member = rng.choice(members[:2] if what == "edge" else members[2:])
    port = edges.ports.pop(member.name, 0)
    if verb == "stop":
        if port:
            edges.ports[member.name] = port  # whoever is connected to it waits
        await member.stop_for(STOP_S)
        return
    await member.kill()
    await asyncio.sleep(rng.uniform(0, 1.0))
    await member.start()
    if what == "edge":
        edges.ports[member.name] = member.serving.ingest_port


async def _until_settled(cluster: Cluster, members: list[Member]) -> dict[str, Any]:
    stat: dict[str, Any] = {}
    until = time.monotonic() + patience(60)
    while time.monotonic() < until:
        code, out, _ = await cluster.command("spool", "stat", "--json")
        if code:
            continue
        stat = json.loads(out)
        if all(sink["in_flight"] == 0 for sink in stat["sinks"]):
            return stat
        await asyncio.sleep(0.2)
    told = "\n".join(member.serving.raw[-3000:] for member in members)
    raise AssertionError(
        f"not settled: {json.dumps(stat)}\n{json.dumps(await cluster.json('workers'))}\n{told}"
    )


def _balance(stat: dict[str, Any], verdict: Verdict) -> None:
    ends = ("delivered", "duplicate", "dead_lettered", "rejected", "unmatched", "in_flight")
    for sink in stat["sinks"]:
        if sink["accepted"] != sum(sink[name] for name in ends):
            verdict.problems.append(f"the ledger does not balance: {sink}")
