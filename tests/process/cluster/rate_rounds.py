"""A rate that workers share, while they and the broker are killed and stopped: what the API saw on its clock.

The API answers 429 with a Retry-After now and then, and is sometimes slower than a lease is long.
"""

import asyncio
import random
import time
from bisect import bisect_left
from collections import Counter
from pathlib import Path

from ingestd.cluster.rate_entry import LEASE_S, SharedLimit
from tests.event_api import events, events_of, key
from tests.machine import patience
from tests.process.cluster.brokers import KINDS, Brokers, brokers
from tests.process.cluster.rounds import STOP_S, Member
from tests.process.cluster.support import AnyEdge, Cluster, ended, stream_client
from tests.process.soak.judge import Verdict
from tests.receiver import Action, Receiver, Reply, Request

PER_MINUTE, IN_FLIGHT = 1_200, 3
LIMIT = SharedLimit(PER_MINUTE, 0.0, IN_FLIGHT)
FAULTS = ("kill worker", "stop worker", "stop worker", "kill broker", "stop broker", "429")
_PAUSE_S = 3


class CountingApi(Receiver):
    """Notes on its own clock when requests came, and how many were out. A key is taken once."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(self._answer)
        self.came: list[float] = []
        self.out = self.most_out = 0
        self.taken: Counter[bytes] = Counter()
        self.bodies: dict[str, bytes] = {}
        self._answers: set[str] = set()
        self.problems: list[str] = []
        self.refuses = False
        self.refused_at: list[float] = []
        self._rng = rng

    async def _answer(self, request: Request) -> Action:
        now = time.monotonic()
        self.came.append(now)
        for at in self.refused_at:
            if at + 0.5 < now < at + _PAUSE_S - 0.1:
                self.problems.append(f"a request came {now - at:.2f} s after a Retry-After of {_PAUSE_S} s")
        self.out += 1
        self.most_out = max(self.most_out, self.out)
        try:
            await asyncio.sleep(self._rng.uniform(0.02, 0.1))
            if self.refuses:
                self.refuses = False
                self.refused_at.append(time.monotonic())
                return Reply(429, {"Retry-After": str(_PAUSE_S)})
            if self.bodies.setdefault(key(request), request.body) != request.body:
                self.problems.append("other bytes under a known key")
            elif (name := key(request)) not in self._answers:
                self._answers.add(name)
                self.taken.update(events_of(request))
            return Reply(200)
        finally:
            self.out -= 1


def most_within(came: list[float], seconds: float) -> int:
    """Requests in the fullest window of this length."""
    return max((bisect_left(came, at + seconds) - n for n, at in enumerate(came)), default=0)


def allowed(seconds: float) -> float:
    """What had gathered, and leases from before."""
    return LIMIT.burst + (seconds + LEASE_S) * LIMIT.requests_per_second


async def play(
    directory: Path, seed: int, seconds: float, *, workers: int = 3, requests: int = 0
) -> tuple[Verdict, Counter[str]]:
    """``seconds``, and until so many ``requests`` have come: a busy machine has sent few by then."""
    rng, done, verdict = random.Random(seed), Counter[str](), Verdict()
    async with brokers(directory / "nats", KINDS["broker"]) as nats, CountingApi(rng) as api:
        lines = (
            f"requests_per_minute = {PER_MINUTE}\nmax_in_flight = {IN_FLIGHT}\nmax_events = 1\n"
            "shared_rate = true"
        )
        cluster = Cluster(directory, nats.servers, api.url, {"one": lines})
        await cluster.init()
        members = [Member(cluster, "--worker", f"worker {n}") for n in range(workers)]
        for member in members:
            await member.start()
        given: list[bytes] = []
        async with cluster.start("--edge") as edge:
            edges, stop = AnyEdge(rng), asyncio.Event()
            edges.ports["edge"] = edge.ingest_port
            feeding = asyncio.create_task(_feed(edges, given, stop, api))
            until = time.monotonic() + seconds
            end = until + patience(60.0)
            while time.monotonic() < until or (len(api.came) <= requests and time.monotonic() < end):
                await asyncio.sleep(rng.uniform(0.3, 1.2))
                fault = rng.choice(FAULTS)
                done[fault] += 1
                verdict.kills += 1
                await _do(fault, members, nats, api, rng)
            stop.set()
            await ended([feeding], edge, *(member.serving for member in members))
            async with stream_client(nats.urls) as client:
                state = (await client.jetstream(timeout=patience(5)).stream_info("KV_t-state")).state
                done["leases written"] = state.last_seq
            for member in members:
                await member.end()
            await edge.stop()
    verdict.problems += api.problems
    verdict.doubled = sum(count > 1 for count in api.taken.values())
    verdict.acknowledged = len(given)
    for window in (1.0, 5.0, 60.0):
        most, least = most_within(api.came, window), min(allowed(window), PER_MINUTE)
        done[f"most in {window:g} s, of {least:.0f}"] = most
        if most > least:
            verdict.problems.append(f"{most} requests in {window:g} s, {least:.0f} are allowed")
    done["most out"] = api.most_out
    done["requests"] = len(api.came)
    if api.most_out > IN_FLIGHT:
        verdict.problems.append(f"{api.most_out} requests were out at a time, {IN_FLIGHT} are allowed")
    return verdict, done


async def _feed(edges: AnyEdge, given: list[bytes], stop: asyncio.Event, api: CountingApi) -> None:
    """So much that there is always something to send."""
    while not stop.is_set():
        if len(given) - len(api.taken) < 400:
            some = events(100, first=len(given))
            await edges.take(some)
            given += some
        await asyncio.sleep(0.1)


async def _do(fault: str, members: list[Member], nats: Brokers, api: CountingApi, rng: random.Random) -> None:
    if fault == "429":
        api.refuses = True
        return
    if fault == "kill broker":
        await nats.do(fault, rng)
        return
    if fault == "stop broker":
        await nats.stop_for(rng.uniform(0.5, STOP_S))
        return
    member = rng.choice(members)
    if fault == "stop worker":
        await member.stop_for(STOP_S)
        return
    await member.kill()
    await asyncio.sleep(rng.uniform(0, 1.0))
    await member.start()
