"""Members come and go, and leaders, which lack messages now and then. What is left is delivered."""

import asyncio
import random
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from pathlib import Path

import pytest

from tests.effort import seeds
from tests.event_api import events, once_each
from tests.machine import patience
from tests.process.sources.kafka.one_partition import A0, Api, apis_of, member, read
from tests.process.sources.support import Running, until
from tests.scripted_kafka import GONE, ScriptedKafka

pytestmark = pytest.mark.anyio


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> ScriptedKafka:
    return ScriptedKafka(a=1).install(monkeypatch)


class History:
    """Members come and go, and leaders. ``is_cut``: these lack messages, of those behind what is committed or
    before it, too. ``has_holes``: transactions end now and then, and messages are compacted."""

    def __init__(
        self,
        directory: Path,
        kafka: ScriptedKafka,
        apis: Sequence[Api],
        seed: int,
        *,
        is_cut: bool,
        has_holes: bool,
    ) -> None:
        self.directory = directory
        self.kafka = kafka
        self.apis = apis
        self.rng = random.Random(seed)
        self.is_cut = is_cut
        self.has_holes = has_holes
        self.count = 0
        """Of events."""
        self.longest = 0

    def produce(self, most: int) -> list[bytes]:
        new = events(self.rng.randint(1, most), first=self.count)
        self.count += len(new)
        self.kafka.produce("a", 0, *new)
        if self.has_holes and self.rng.random() < 0.5:
            if self.rng.random() < 0.3:
                self.kafka.elect("a", 0)
            self.kafka.produce("a", 0, *[GONE] * self.rng.choice([1, 1, 2, 20]))
        self.longest = max(self.longest, len(self.kafka.log[A0]))
        return new

    @property
    def committed(self) -> int:
        return min(len(self.kafka.log[A0]), self.kafka.committed.get(A0, (0, ""))[0])

    def lose(self) -> None:
        rng = self.rng
        self.kafka.elect("a", 0, end=rng.randint(rng.choice([0, self.committed]), len(self.kafka.log[A0])))
        if rng.random() < 0.8:
            self.produce(14)

    def compact(self) -> None:
        """Of what is settled; where ends are lost, of all."""
        end = len(self.kafka.log[A0]) if self.is_cut else self.committed
        gone = [at for at in range(end) if self.rng.random() < 0.2]
        if self.rng.random() < 0.5:  # so that the last one before the committed offset is not there
            gone += range(max(0, self.committed - self.rng.choice([1, 5])), self.committed)
        self.kafka.compact("a", 0, *gone)

    def member(self) -> AbstractAsyncContextManager[Running]:
        return member(self.directory / self.rng.choice("xyz"), self.kafka, self.apis)

    @property
    def left(self) -> set[bytes]:
        return {one for one in self.kafka.log[A0] if one and one is not GONE}

    async def run(self) -> None:
        rng = self.rng
        for _ in range(rng.randint(2, 5)):
            async with self.member() as service:
                await self.read(service)
                if self.is_cut and rng.random() < 0.3:
                    self.lose()
                    await self.read(service)
                await service.crash()
            if self.is_cut and rng.random() < 0.7:
                self.lose()
            if self.has_holes and rng.random() < 0.5:
                self.compact()
            for api in self.apis:
                api.stuck = {one for one in api.stuck if rng.random() < 0.7}
        await self.end()

    async def read(self, service: Running) -> None:
        rng, kafka = self.rng, self.kafka
        for _ in range(rng.randint(1, 4)):
            if rng.random() < 0.3:
                kafka.elect("a", 0)
            new = self.produce(7)
            for api in self.apis:
                api.stuck |= {one for one in new if rng.random() < 0.15}
            await read(service, kafka)
        if rng.random() < 0.8:
            with suppress(TimeoutError):  # of a log that is shorter not all comes now
                async with asyncio.timeout(patience(1)):
                    left = self.left
                    await until(lambda: all(left <= {*api.events} for api in self.apis), service.task)
        if rng.random() < 0.5:
            await service.service.pipeline.journal.commit()

    async def end(self) -> None:
        """All is answered."""
        longest = self.longest
        while len(self.kafka.log[A0]) < longest:  # so that what had come at these offsets is known to be gone
            self.produce(7)
        for api in self.apis:
            api.stuck = set()
        async with self.member() as service:
            left = self.left
            await until(lambda: all(left <= api.taken for api in self.apis), service.task)
            await service.settled(0)


@pytest.mark.parametrize("sinks", [1, 2])
@pytest.mark.parametrize("has_holes", [False, True])
@pytest.mark.parametrize("seed", seeds(2, 200))
async def test_wherever_an_end_is_lost_all_that_is_left_is_delivered(
    tmp_path: Path, kafka: ScriptedKafka, seed: int, has_holes: bool, sinks: int
) -> None:
    async with apis_of(sinks) as apis:
        await History(tmp_path, kafka, apis, seed, is_cut=True, has_holes=has_holes).run()


@pytest.mark.parametrize("sinks", [1, 2])
@pytest.mark.parametrize("has_holes", [False, True])
@pytest.mark.parametrize("seed", seeds(2, 100))
async def test_with_other_leaders_and_all_messages_each_event_has_one_key(
    tmp_path: Path, kafka: ScriptedKafka, seed: int, has_holes: bool, sinks: int
) -> None:
    async with apis_of(sinks) as apis:
        await History(tmp_path, kafka, apis, seed, is_cut=False, has_holes=has_holes).run()
        for api in apis:
            once_each(api.batches)
