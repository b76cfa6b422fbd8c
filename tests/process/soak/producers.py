"""Producers that believe only a 202, and send again what was not answered."""

import asyncio
import json
import random

from tests.integration.httpd.wire_client import Answer
from tests.process.cli.run_support import LOST, producer
from tests.process.soak.events import INVALID, Maker

WAYS = ("ndjson", "array", "atomic", "wait")


class Address:
    """Where the service listens in this life."""

    def __init__(self) -> None:
        self._port = 0
        self._known = asyncio.Event()

    def gone(self) -> None:
        self._known.clear()

    def now(self, port: int) -> None:
        self._port = port
        self._known.set()

    async def port(self) -> int:
        await self._known.wait()
        return self._port


class Producer:
    """One request after the other, until told to stop; what it began it brings to its end.

    ``acknowledged``: events of requests that were answered with 202. ``problems``: answers that are wrong.
    """

    def __init__(self, name: str, rng: random.Random) -> None:
        self.acknowledged: list[bytes] = []
        self.problems: list[str] = []
        self._rng = rng
        self._maker = Maker(name, rng)

    async def work(self, address: Address, stop: asyncio.Event) -> None:
        while not stop.is_set():
            way = self._rng.choice(WAYS)
            events = self._maker.many(self._rng.choice([1, 3, 40]), pad=self._rng.choice([0, 300]))
            if way == "atomic" and self._rng.random() < 0.2:
                await self._until_answered(address, [*events, INVALID], way)
            await self._until_answered(address, events, way)
            await asyncio.sleep(self._rng.uniform(0, 0.02))

    async def _until_answered(self, address: Address, events: list[bytes], way: str) -> None:
        again = False
        while True:
            try:
                async with producer(await address.port()) as one:
                    body, kind = _encoded(events, way)
                    query = {"atomic": b"?atomic=true", "wait": b"?wait=delivered"}.get(way, b"")
                    one.send(body, kind=kind, query=query)
                    answer = await one.client.answer()
            except LOST:
                again = True
            else:
                if answer.status not in (429, 503):
                    self._answered(answer, events, again=again)
                    return
            await asyncio.sleep(0.02)

    def _answered(self, answer: Answer, events: list[bytes], *, again: bool) -> None:
        told = json.loads(answer.body)
        if INVALID in events:
            if answer.status != 422:
                self.problems.append(f"an atomic request with a broken event: {answer}")
        elif answer.status != 202 or told["accepted"] + told["duplicates"] != len(events):
            self.problems.append(f"of {len(events)} events: {answer}")
        else:
            if told["duplicates"] not in ((0, len(events)) if again else (0,)):
                self.problems.append(f"half of a request was taken: {answer}")
            self.acknowledged += events


def _encoded(events: list[bytes], way: str) -> tuple[bytes, bytes]:
    if way in ("array", "atomic"):
        return b"[" + b",".join(events) + b"]", b"application/json"
    return b"\n".join(events), b"application/x-ndjson"
