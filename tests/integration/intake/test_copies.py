"""A replay that is killed: a copy that stands near its original is never an event of its own."""

import asyncio
import json
import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.each import each
from tests.effort import seeds
from tests.integration.intake.replay_support import (
    Place,
    SmallPlace,
    assert_once,
    keys_by_event,
    rows,
    sink,
    until,
    write,
)
from tests.integration.intake.support import event, key_of, numbers_of
from tests.receiver import Action, Cut, Hang, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

CHUNK_BYTES = 1500
CONVERSATIONS = 7


def talk(number: int, **other: Any) -> bytes:
    return event(number, eventType=f"c{number % CONVERSATIONS}", **other)


class Api:
    """Honours keys; remembers what it took, in what order. It holds some answers back, refuses bodies as too
    large, names events that it will never take (``number % 17 == 5``), and is away now and then."""

    def __init__(self, rng: random.Random, *, largest: int) -> None:
        self.rng, self.largest = rng, largest
        self.quiet = False
        self.taken: dict[str, list[int]] = {}
        self.bodies: dict[str, bytes] = {}
        self.order: defaultdict[int, list[int]] = defaultdict(list)

    async def __call__(self, request: Request) -> Action:
        key, numbers, rng = key_of(request), numbers_of(request), self.rng
        assert self.bodies.setdefault(key, request.body) == request.body, "other bytes under a used key"
        await asyncio.sleep(rng.uniform(0, 0.004))
        if not self.quiet and rng.random() < 0.25:
            return rng.choice([Reply(503, {"Retry-After": "0"}), Cut("before_headers"), Hang()])
        if len(numbers) > self.largest:
            return Reply(413)
        if bad := [index for index, number in enumerate(numbers) if number % 17 == 5]:
            return Reply(
                422, body=json.dumps({"errors": [{"index": i, "message": "no"} for i in bad]}).encode()
            )
        if key not in self.taken:
            self.taken[key] = numbers
            for number in numbers:
                self.order[number % CONVERSATIONS].append(number)
        return Reply() if self.quiet or rng.random() < 0.8 else rng.choice([Cut(), Hang()])

    def assert_once(self, count: int, *, ordered: bool) -> None:
        taken = [number for numbers in self.taken.values() for number in numbers]
        assert sorted(taken) == [number for number in range(count) if number % 17 != 5]
        for numbers in self.order.values() if ordered else ():
            assert numbers == sorted(numbers)


def with_copies(rng: random.Random, count: int) -> list[bytes]:
    """Each event, and behind it, at most some chunks away, copies of some; a few lines are no events."""
    placed = [(float(number), talk(number, pad=number * 37 % 150)) for number in range(count)]
    for number in range(count):
        behind = [rng.choice([0.5, 4, 40]) * rng.random() for _ in range(rng.choice([0, 0, 0, 1, 2]))]
        placed += [(number + distance, talk(number)) for distance in behind]
        if number % 29 == 7:
            placed.append((number + 0.1, talk(number, eventTime="bad")))
    return [line for _, line in sorted(placed)]


@each("ordered", [True, False], ids=["ordered", "in any order"])
@each("several", [False, True], ids=["one sink", "two sinks"])
@each("seed", seeds(1, 15))
async def test_whenever_it_is_killed_copies_stay_copies(
    tmp_path: Path, seed: int, several: bool, ordered: bool
) -> None:
    seed += 10 * several + 100 * ordered
    rng = random.Random(seed)
    count = 170
    source = write(tmp_path / "in.ndjson", with_copies(rng, count))
    apis = [Api(random.Random(seed + number), largest=rng.choice([6, 100])) for number in range(1 + several)]
    sections: dict[str, Any] = {
        "delivery": {
            "request_timeout": 0.15,
            "max_in_flight": 4,
            "order_by": "eventType" if ordered else "",
            "give_up_after": 600,
            "startup_timeout": 60,
        },
    }
    async with Receiver(apis[0]) as first, Receiver(apis[-1]) as second:
        sinks = {
            f"s{number}": sink(receiver) for number, receiver in enumerate((first, second)[: 1 + several])
        }
        place = SmallPlace(tmp_path / "0", sinks, sections)
        for life in range(1, 9):
            async with place.running(source) as running:
                if await running.over_before(first, requests=len(first.requests) + rng.randrange(1, 9)):
                    break
                await asyncio.sleep(rng.uniform(0, 0.01))
                place = await running.crash(tmp_path / str(life))
        for api in apis:
            api.quiet = True
        report = await place.run(source)
    assert report["in_flight"] == 0
    for api in apis:
        api.assert_once(count, ordered=ordered)
    assert rows(place.directory, "SELECT id, sink FROM batches") == []
    refused = rows(
        place.directory, "SELECT count(*), count(DISTINCT line) FROM letters WHERE reason = 'invalid'"
    )
    assert refused[0][0] == refused[0][1] <= len([n for n in range(count) if n % 29 == 7])


async def killed_with(
    place: Place, source: Path, held: Sequence[int], *, requests: int, image: Path, delivered: int = 0
) -> tuple[Place, Receiver]:
    """After a life that was killed when so many requests had come and events were ``delivered``; requests
    with an event of ``held`` hang."""

    async def answer(request: Request) -> Action:
        return Hang() if set(held) & set(numbers_of(request)) else Reply()

    async with Receiver(answer) as receiver:
        place.sinks["api"]["url"] = receiver.url  # type: ignore[index]
        async with place.running(source) as running:
            assert not await running.over_before(receiver, requests=requests)
            await until(lambda: running.replay.pipeline.ledger.delivered >= delivered)
            await running.replay.pipeline.journal.commit()
            return await running.crash(image), receiver


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return SmallPlace(tmp_path / "state", {"api": {"type": "ingest_api"}})


async def again(place: Place, source: Path, before: Receiver) -> tuple[dict[str, Any], Receiver]:
    """A life with nothing in its way; its receiver has also what came before."""
    async with Receiver() as receiver:
        place.sinks["api"]["url"] = receiver.url  # type: ignore[index]
        report = await place.run(source)
        receiver.requests[:0] = before.requests
        return report, receiver


async def test_a_copy_in_an_earlier_chunk_than_the_end_of_its_batch_waits_for_it(
    tmp_path: Path, place: Place
) -> None:
    source = write(tmp_path / "in.ndjson", [event(0), event(0), *(event(n) for n in range(1, 40))])
    place, receiver = await killed_with(place, source, range(20), requests=2, image=tmp_path / "image")
    report, receiver = await again(place, source, receiver)
    assert_once(receiver, range(40))
    assert (report["delivered"], report["duplicate"]) == (40, 1)


async def test_many_copies_of_what_is_still_to_be_read_do_not_stop_the_reading(
    tmp_path: Path, place: Place
) -> None:
    source = write(tmp_path / "in.ndjson", [event(0)] * 30 + [event(n) for n in range(1, 40)])
    place, receiver = await killed_with(place, source, [0], requests=1, image=tmp_path / "image")
    place.bounds = replace(place.bounds, copy_bytes=500)
    report, receiver = await again(place, source, receiver)
    assert_once(receiver, range(40))
    assert (report["in_flight"], report["duplicate"]) == (0, 29)


async def test_a_copy_takes_the_place_of_an_event_that_was_changed_meanwhile(
    tmp_path: Path, place: Place
) -> None:
    """No request has it any more: a copy that waited for it for ever would be lost."""
    lines = [*(event(n) for n in range(10, 48)), event(49), event(49), *(event(n) for n in range(50, 80))]
    source = write(tmp_path / "in.ndjson", lines)
    place, receiver = await killed_with(place, source, [49], requests=4, image=tmp_path / "image")
    write(source, [*lines[:38], event(48), *lines[39:]])
    report, receiver = await again(place, source, receiver)
    assert sorted(keys_by_event(receiver)) == list(range(10, 80))
    assert (report["in_flight"], report["exit_code"]) == (0, 0)
    assert len([w for w in place.warnings if "the file has changed" in w]) == 1, place.warnings


async def test_a_copy_is_sent_where_the_batch_it_waited_for_is_gone(tmp_path: Path, place: Place) -> None:
    lines = [event(0), *(event(n, pad=200) for n in range(1, 10)), *(event(n) for n in range(10, 50))]
    source = write(tmp_path / "in.ndjson", [*lines, event(45)])
    place, receiver = await killed_with(place, source, [0, 45], requests=5, image=tmp_path / "image")
    write(source, [event(0), event(45), *lines[1:10]])  # the batch's chunks are no more
    report, receiver = await again(place, source, receiver)
    found = keys_by_event(receiver)
    assert len(found[45]) >= 1
    assert (report["in_flight"], report["exit_code"]) == (0, 0)


@pytest.mark.parametrize("late", [False, True], ids=["at once", "when the window has forgotten"])
async def test_what_was_found_to_be_a_copy_or_no_event_is_not_judged_again(
    tmp_path: Path, place: Place, late: bool
) -> None:
    """The first event holds the checkpoint back; all else has had its end."""
    lines = [event(n) for n in range(60)]
    lines[30:30] = [event(20), event(1, eventTime="bad"), event(0)]
    source = write(tmp_path / "in.ndjson", [*lines, event(50)])
    image = tmp_path / "image"
    place, receiver = await killed_with(place, source, [0], requests=6, image=image, delivered=50)
    if late:
        place.sections = {"window": {"max_age": 0}}
    report, receiver = await again(place, source, receiver)
    assert_once(receiver, range(60))
    assert rows(place.directory, "SELECT line FROM letters") == [(32,)]
    assert rows(place.directory, "SELECT * FROM batches") == []
    assert report["rejected"] == 0
