"""A stream of a real NATS server under ``ingestd run``, when either is killed -9."""

import asyncio
import contextlib
import random
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.effort import FUZZ, seeds
from tests.event_api import event, events_of, key, once_each
from tests.machine import patience, patience_of_test
from tests.nats_server import NatsServer, Stream, nats_server, stream
from tests.process.cli.run_support import numbers, serve
from tests.process.cli.support import Place
from tests.process.cli.test_run_kill import POISON, FaultyApi

pytestmark = pytest.mark.anyio

ROUNDS = 12 if FUZZ else 3
IN_FLIGHT = 3


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[NatsServer]:
    with nats_server(tmp_path / "nats") as server:
        yield server


class Publisher:
    """Publishes until ``stop``; what was not acknowledged it publishes again, under its own id."""

    def __init__(self, rng: random.Random) -> None:
        self.published: list[bytes] = []
        self.last = 0
        self.stop = asyncio.Event()
        self._rng = rng

    async def work(self, made: Stream) -> None:
        while not self.stop.is_set():
            for _ in range(self._rng.choice([1, 5, 20])):
                number = len(self.published)
                note = POISON.decode() if self._rng.random() < 0.01 else f"k{number % 5}"
                await self._publish(made, event(number, note=note), number)
            await asyncio.sleep(self._rng.uniform(0, 0.1))

    async def _publish(self, made: Stream, one: bytes, number: int) -> None:
        import nats

        while True:
            with contextlib.suppress(nats.errors.Error, asyncio.TimeoutError, nats.js.errors.Error):
                self.last = await made.publish(one, headers={"Nats-Msg-Id": str(number)}, timeout=0.5)
                break
            await asyncio.sleep(0.05)
        self.published.append(one)


def configured(place: Place, made: Stream, server: NatsServer, more: str = "") -> Path:
    path = place / "ingestd.toml"
    path.write_text(f'[ingest.nats]\nservers = ["{server.url}"]\nstream = "{made.name}"\n{more}\n')
    return path


def assert_order(api: FaultyApi) -> None:
    """Of events that are alike in their note, by the first arrival of each batch."""
    seen: set[str] = set()
    by_note: dict[bytes, list[int]] = defaultdict(list)
    for _, request in api.taken:
        if key(request) not in seen:
            seen.add(key(request))
            for one in events_of(request):
                by_note[one.split(b'"note":"')[1][:2]].extend(numbers([one]))
    assert len(by_note) == 5
    for note, found in by_note.items():
        assert found == sorted(found), (note, found)


@pytest.mark.parametrize("seed", seeds(2, 10))
@pytest.mark.timeout(patience_of_test(60 + 12 * ROUNDS))
async def test_every_message_arrives_once_and_in_order_whoever_is_killed(
    place: Place, server: NatsServer, seed: int
) -> None:
    """Events have no key here: that they arrive once is not the window's doing. With an odd seed they go
    through the spool."""
    rng = random.Random(seed)
    publisher = Publisher(rng)
    place.env = {
        "INGESTD_BATCH_MAX_EVENTS": "20",
        "INGESTD_DELIVERY_MAX_IN_FLIGHT": str(IN_FLIGHT),
        "INGESTD_DELIVERY_ORDER_BY": "attributes.note",
        "INGESTD_SCHEMA_DEDUP_KEY": "nothing",
    }
    async with FaultyApi(rng) as api, stream(server.url) as made, asyncio.TaskGroup() as tasks:
        publishing = tasks.create_task(publisher.work(made))
        options = ("--config", configured(place, made, server, f"spool = {str(bool(seed % 2)).lower()}"))
        for number in range(ROUNDS):
            async with serve(place, api, *options) as serving:
                for kill_server in [False, True] if number % 2 else [False]:
                    if kill_server:
                        server.kill()
                        await asyncio.to_thread(server.start)
                    enough = len(api.taken) + rng.randrange(3, 12)
                    await api.until(lambda _, n=enough: len(api.taken) >= n, timeout_s=patience(30))
                await asyncio.sleep(rng.uniform(0, 0.03))
                await serving.kill()
            api.life += 1
        async with serve(place, api, *options) as serving:
            publisher.stop.set()
            await publishing
            await made.settled(publisher.last)
            final = await serving.until_empty()
            await serving.stop()

    arrived = [one for batch in once_each([request for _, request in api.taken]).values() for one in batch]
    buried = [letter["payload"] for letter in place.letters()]
    assert Counter(arrived) + Counter(buried) == Counter(publisher.published)
    assert all(POISON in one for one in buried)
    assert_order(api)
    assert final["ledger"]["in_flight"] == 0
    assert sum(len(api.taken_again(life)) for life in range(2, api.life + 1)) <= IN_FLIGHT * ROUNDS
