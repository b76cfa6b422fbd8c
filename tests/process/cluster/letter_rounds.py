"""Dead letters that are sent again by themselves, and by persons who edit, park and purge at the same time,
while workers and the broker are killed and stopped.

The API is busy for a while, or answers 503 to what it took; so letters are made all the time. A person may
delete a letter while it is on its way with others, which may wait for a person then: no other letter may.
"""

import asyncio
import json
import random
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.event_api import events_of, key
from tests.machine import patience
from tests.process.cluster.brokers import KINDS, Brokers, brokers
from tests.process.cluster.rounds import STOP_S, Member
from tests.process.cluster.support import (
    AnyEdge,
    Cluster,
    age_letters,
    dead_letters,
    ended,
    requests_of_letters,
)
from tests.process.soak.events import Maker, read
from tests.process.soak.judge import Verdict
from tests.receiver import Action, Receiver, Reply, Request

FAULTS = ("kill worker", "kill worker", "stop worker", "kill broker", "age", "age")
PERSONS = ("retry", "retry", "edit", "park", "purge")
_DELIVERY = (
    'give_up_after = "300ms"\nbackoff_base = "50ms"\nbackoff_cap = "100ms"\ncircuit_threshold = 100000'
)
_ILL = b'"ill":"yes"'
_WELL = b'"ill":"wll"'


class MoodyApi(Receiver):
    """Takes a key once. ``mood``: well; busy: 503 without taking; lies: 503 to what it took."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__(self._answer)
        self.mood = "well"
        self.taken: defaultdict[str, list[str]] = defaultdict(list)  # event and its text -> keys
        self.bodies: dict[str, bytes] = {}
        self.problems: list[str] = []
        self._answers: set[str] = set()
        self._rng = rng

    async def _answer(self, request: Request) -> Action:
        name, mood = key(request), self.mood
        await asyncio.sleep(self._rng.uniform(0, 0.05))
        if mood == "busy" or (mood == "lies" and self._rng.random() < 0.3):
            return Reply(503)
        if self.bodies.setdefault(name, request.body) != request.body:
            self.problems.append(f"other bytes under the known key {name}")
            return Reply(409)
        if _ILL in request.body:
            del self.bodies[name]
            return Reply(400)
        if name not in self._answers:
            self._answers.add(name)
            for event in events_of(request):
                self.taken[read(event).id].append(name)
        return Reply(503 if mood == "lies" else 200)


class Persons:
    """They do one thing after the other; ``purged``: events of which a letter was purged."""

    def __init__(self, cluster: Cluster, rng: random.Random, directory: Path) -> None:
        self.done: Counter[str] = Counter()
        self.purged: set[str] = set()
        self.problems: list[str] = []
        self._cluster, self._rng, self._directory = cluster, rng, directory

    async def work(self, stop: asyncio.Event) -> None:
        while not stop.is_set():
            await self.act(self._rng.choice(PERSONS))
            await asyncio.sleep(self._rng.uniform(0, 0.5))

    async def act(self, what: str) -> None:
        code, out, _ = await self._cluster.command("dlq", "list", "--limit", "1000", "--json")
        letters = json.loads(out)["letters"] if code == 0 else []
        if not letters:
            return
        one = self._rng.choice(letters)
        # Of a request that may have been taken a person takes all: what is left of one is risky to send.
        words: tuple[str, ...] = ("dlq", "retry", *_safe(letters))
        if what == "edit":
            if not (ill := [one for one in letters if one["reason"] == "refused"]):
                return
            one = self._rng.choice(ill)
            code, out, _ = await self._cluster.command("dlq", "show", str(one["id"]), "--json")
            if code:  # it is gone, or another version
                return
            file = self._directory / "corrected"
            file.write_bytes(_corrected(json.loads(out)["payload"].encode()))
            words = ("dlq", "retry", str(one["id"]), "--edit", str(file))
        elif what == "park":
            words = ("dlq", "park", str(one["id"]))
        elif what == "purge":
            if not (ill := [one for one in letters if one["reason"] == "refused"]):
                return
            one = self._rng.choice(ill)
            self.purged.add(one["event_id"])
            words = ("dlq", "purge", "--event-id", one["event_id"], "--reason", "refused", "--yes")
        if len(words) == 2:
            return
        code, out, err = await self._cluster.command(*words)
        self.done[f"{what}: {'done' if code == 0 else 'not'}"] += 1
        if "Traceback" in err:
            self.problems.append(err[-2000:])


def _corrected(event: bytes) -> bytes:
    return event.replace(_ILL, _WELL)


def _safe(letters: list[dict[str, Any]]) -> list[str]:
    """Those that are no risk to send again."""
    return [str(one["id"]) for one in letters if one["reason"] == "gave_up" and not one["why_not_by_itself"]]


async def play(directory: Path, seed: int, seconds: float) -> tuple[Verdict, Counter[str]]:
    rng, done, verdict = random.Random(seed), Counter[str](), Verdict()
    async with brokers(directory / "nats", KINDS["broker"]) as nats, MoodyApi(rng) as api:
        more = '[letters]\npoll_interval = "200ms"'
        cluster = Cluster(directory, nats.servers, api.url, {"one": ""}, delivery=_DELIVERY, more=more)
        await cluster.init()
        members = [Member(cluster, "--worker", f"worker {n}") for n in range(2)]
        for member in members:
            await member.start()
        given: list[bytes] = []
        persons = Persons(cluster, rng, directory)
        async with cluster.start("--edge") as edge:
            edges, stop = AnyEdge(rng), asyncio.Event()
            edges.ports["edge"] = edge.ingest_port
            tasks = [
                asyncio.create_task(_feed(edges, given, stop, random.Random(seed))),
                asyncio.create_task(persons.work(stop)),
                asyncio.create_task(_moods(api, stop, rng)),
            ]
            until = time.monotonic() + seconds
            while time.monotonic() < until:
                await asyncio.sleep(rng.uniform(0.2, 1.0))
                fault = rng.choice(FAULTS)
                done[fault] += 1
                await _do(fault, members, nats, rng)
            verdict.kills = sum(done.values())
            stop.set()
            await ended(tasks, edge, *(member.serving for member in members))
            api.mood = "well"
            stat = await _worked_off(cluster, nats)
            waits = (await cluster.json("dlq", "list", "--limit", "1000"))["letters"]
            for member in members:
                await member.end()
            await edge.stop()
        left = await dead_letters(nats.urls, "t")
        cut = cut_by_purges(waits, await requests_of_letters(nats.urls, "t"), given, persons.purged)
        _judge(given, api, persons, left, waits, cut, stat["sinks"][0], verdict)
    done += persons.done
    done |= Counter(
        events=len(given), letters=stat["sinks"][0]["dead_lettered"], left=len(left), cut=len(cut)
    )
    return verdict, done


def cut_by_purges(
    waits: list[dict[str, Any]], requests: Mapping[str, list[int]], given: list[bytes], purged: set[str]
) -> set[str]:
    """The events of ``waits`` whose letters may wait for a person: of their request all letters are there but
    some that a person has deleted. ``requests``: by key the checksums of the letters that were in one."""
    names = {zlib.crc32(text): read(one).id for one in given for text in (one, _corrected(one))}
    left = defaultdict[str, set[str]](set)
    for one in waits:
        if one["why_not_by_itself"]:
            left[one["batch"]].add(one["event_id"])
    found = set[str]()
    for batch, there in left.items():
        gone = {names.get(checksum, "") for checksum in requests.get(batch, ())} - there
        if gone and gone <= purged:
            found |= there
    return found


def _judge(
    given: list[bytes],
    api: MoodyApi,
    persons: Persons,
    left: list[dict[str, Any]],
    waits: list[dict[str, Any]],
    cut: set[str],
    ledger: dict[str, int],
    verdict: Verdict,
) -> None:
    verdict.problems += api.problems + persons.problems
    verdict.acknowledged = len(given)
    verdict.problems += [
        f"{one['event_id']}: {one['why_not_by_itself']}"
        for one in waits
        if one["why_not_by_itself"] and one["event_id"] not in cut
    ]
    waiting = Counter(read(one["payload"]).id for one in left)
    for event in given:
        name = read(event).id
        count = len(api.taken.get(name, ()))
        if count > 1:
            verdict.doubled += 1
            verdict.problems.append(f"{name} was taken under {api.taken[name]}")
        if not count and not waiting[name] and name not in persons.purged:
            verdict.lost += 1
            verdict.problems.append(f"{name} is nowhere")
        if count and waiting[name] and name not in cut:
            verdict.problems.append(f"{name} was taken, and its letter is there")
    ends = ("delivered", "duplicate", "dead_lettered", "rejected", "unmatched", "in_flight")
    if ledger["accepted"] != sum(ledger[name] for name in ends):
        verdict.problems.append(f"the ledger does not balance: {ledger}")
    told = ledger["delivered"] + ledger["retried"]
    if not len(api.taken.keys() - persons.purged - cut) <= told <= len(api.taken):
        verdict.problems.append(f"{len(api.taken)} events were taken, and the ledger has {ledger}")
    gone = ledger["dead_lettered"] - ledger["retried"] - len(left)
    if not 0 <= gone <= len(persons.purged):
        verdict.problems.append(
            f"{gone} letters are gone of {len(persons.purged)} purged: {ledger}, {len(left)}"
        )


async def _feed(edges: AnyEdge, given: list[bytes], stop: asyncio.Event, rng: random.Random) -> None:
    maker = Maker("p", rng, ill=0.0)
    while not stop.is_set():
        some = maker.many(rng.choice([1, 5, 20]))
        if rng.random() < 0.3:
            some[0] = some[0].replace(b'"ill":""', _ILL)
        await edges.take(some)
        given += some
        await asyncio.sleep(rng.uniform(0, 0.3))


async def _moods(api: MoodyApi, stop: asyncio.Event, rng: random.Random) -> None:
    while not stop.is_set():
        api.mood = rng.choice(["well", "busy", "lies"])
        await asyncio.sleep(rng.uniform(0.2, 1.0))


async def _do(fault: str, members: list[Member], nats: Brokers, rng: random.Random) -> None:
    if fault == "age":
        await age_letters(nats.urls, "t", 120.0, taken=True)
        return
    if fault == "kill broker":
        await nats.do(fault, rng)
        return
    member = rng.choice(members)
    if fault == "stop worker":
        await member.stop_for(STOP_S)
        return
    await member.kill()
    await asyncio.sleep(rng.uniform(0, 1.0))
    await member.start()


async def _worked_off(cluster: Cluster, nats: Brokers) -> dict[str, Any]:
    """Nothing is on its way, and what may succeed was sent again."""
    until = time.monotonic() + patience(60)
    stat: dict[str, Any] = {}
    while time.monotonic() < until:
        letters = (await cluster.json("dlq", "list", "--limit", "1000"))["letters"]
        if safe := _safe(letters):
            await cluster.command("dlq", "retry", *safe)
        await asyncio.sleep(0.5)
        stat = await cluster.json("spool", "stat")
        left = await dead_letters(nats.urls, "t")
        if not stat["sinks"][0]["in_flight"] and not safe:
            await asyncio.sleep(1.0)  # what was edited last
            return await cluster.json("spool", "stat")
    raise AssertionError(f"not settled: {stat}, {Counter(one['reason'] for one in left)}")
