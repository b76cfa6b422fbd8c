"""Edges, workers and the broker are killed and stopped while producers go on; then it is judged.

Two edges, two workers, two sinks: one keeps order, the API of the other answers 503 to some of what it took.
"""

import asyncio
import json
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.event_api import key
from tests.machine import patience
from tests.process.cluster.brokers import KINDS, Brokers, Kind, brokers
from tests.process.cluster.support import AnyEdge, Cluster, ClusterProducer, dead_letters, ended
from tests.process.soak.api import Api as SoakApi
from tests.process.soak.api import SinkApi
from tests.process.soak.judge import Verdict, judge
from tests.receiver import Action, Reply, Request
from tests.warm import warm

if TYPE_CHECKING:
    from tests.process.cli.run_support import Serving

STOP_S = 3.5  # longer than the others wait for a sign of life
_BALANCED_AMONG = 1  # servers; of several there may be no leader for a moment


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
    kind: Kind = KINDS["broker"],
    producers: int = 3,
    sizes: Sequence[int] = (1, 3, 40),
    ill: float = 0.01,
    resize: bool = False,
    park: bool = False,
    pause_s: float = 0.02,
) -> tuple[Verdict, Counter[str]]:
    """One run; what was done is counted by its name. ``resize``: partitions are changed, too; ``park``: sinks
    are parked and resumed.
    ``pause_s``: the most between two requests of a producer."""
    faults = (*kind.faults, *[("resize partitions", "kill resize")[n % 2] for n in range(4)] * resize)
    rng = random.Random(seed)
    done: Counter[str] = Counter()
    verdict = Verdict()
    sinks = {"one": SinkApi(slow_s=0.02), "two": SinkApi(trouble=0.02)}
    async with (
        brokers(directory / "nats", kind) as nats,
        TwoFacedApi(sinks, rng, directory / "api", lies=0.05) as api,
    ):
        cluster = Cluster(
            directory, nats.servers, api.url, {"one": "", "two": 'order_by = ""'}, max_bytes="256MiB"
        )
        await _init(cluster)
        edges = AnyEdge(rng)
        members = [Member(cluster, flag, f"{flag} {n}") for flag in ("--edge", "--worker") for n in (1, 2)]
        for member in members:
            await member.start()
        for member in members[:2]:
            edges.ports[member.name] = member.serving.ingest_port
        stop = asyncio.Event()
        makers = [
            ClusterProducer(f"p{n}", random.Random(seed * 100 + n), sizes=sizes, ill=ill, pause_s=pause_s)
            for n in range(producers)
        ]
        works = [asyncio.create_task(one.work(edges, stop)) for one in makers]
        until, faults_done = time.monotonic() + seconds, list[str]()
        while time.monotonic() < until:
            await asyncio.sleep(rng.uniform(0.3, 1.2))
            fault = "resize partitions" if resize and not done else rng.choice(faults)
            if park and len(faults_done) % 2 == 0:
                fault = "resume sink" if len(faults_done) % 6 == 4 else "park sink"
            done[fault] += 1
            verdict.kills += "sink" not in fault
            if "sink" in fault:
                await _park(cluster, fault, api, rng, verdict, calm="stop worker" not in faults_done[-1:])
            elif "resize" in fault:
                await _resize(cluster, rng, kill=fault.startswith("kill"))
            else:
                await _do(fault, members, edges, nats, rng)
            faults_done.append(fault)
            if fault != kind.fault and kind.servers == _BALANCED_AMONG:
                _balance(await cluster.json("spool", "stat"), verdict)
        for sink in ("one", "two") * park:
            code, out, err = await cluster.command("spool", "resume", sink)
            assert code == 0, (out, err)
        stop.set()
        await ended(works, *(member.serving for member in members))
        for one in makers:
            verdict.problems += one.problems
        stat = await _until_settled(cluster, members)
        verdict.lives = len(members) + sum(done[f"kill {what}"] for what in ("edge", "worker"))
        letters = await dead_letters(nats.urls, "t")
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


async def _park(
    cluster: Cluster, fault: str, api: TwoFacedApi, rng: random.Random, verdict: Verdict, *, calm: bool
) -> None:
    """Once it is said nothing comes any more; but of a worker that has just stood still (not ``calm``)."""
    sink = rng.choice(["one", "two"])
    code, out, err = await cluster.command("spool", fault.split()[0], sink)
    if code or fault != "park sink":
        assert code in (0, 2, 3), (out, err)  # 2: there is no broker at this moment
        return
    before = _came(api, sink)
    await asyncio.sleep(rng.uniform(0.3, 1.0))
    if calm and (more := _came(api, sink) - before):
        verdict.problems.append(f"{more} requests came to {sink}, which is parked")


def _came(api: TwoFacedApi, sink: str) -> int:
    return sum(request.path.startswith(f"/{sink}/") for request in api.requests)


async def _resize(cluster: Cluster, rng: random.Random, *, kill: bool) -> None:
    process = await warm().start(
        ["spool", "resize", str(rng.randint(1, 6)), "--config", str(cluster.config)], env={"PATH": ""}
    )
    if kill:
        await asyncio.sleep(rng.uniform(0, 1.0))
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    await process.communicate()


async def _init(cluster: Cluster) -> None:
    """Of several servers it takes seconds until they have a leader."""
    until = time.monotonic() + patience(30)
    while True:
        code, out, err = await cluster.command("spool", "init")
        if code == 0:
            return
        assert time.monotonic() < until, (out, err)
        await asyncio.sleep(0.2)


async def _do(fault: str, members: list[Member], edges: AnyEdge, nats: Brokers, rng: random.Random) -> None:
    verb, what = fault.split()
    if what not in ("edge", "worker"):
        await nats.do(fault, rng)
        return
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
