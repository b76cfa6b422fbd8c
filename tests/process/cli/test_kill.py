"""kill -9 at random moments: nothing is lost, and what is sent again is sent as it was."""

import asyncio
import gzip
import os
import random
from collections.abc import Awaitable, Callable

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.effort import seeds
from tests.event_api import INVALID, EventApi, assert_balanced, events, events_of, key, once_each, write
from tests.machine import patience
from tests.process.cli.support import Finished, Place, Running
from tests.receiver import Action, Cut, Hang, Reply, Request, in_turn

pytestmark = pytest.mark.anyio

IN_FLIGHT = 3
MAX_ROUNDS = 60


class Lives(EventApi):
    """A slow API that knows in which life of the command each batch came, and which were answered."""

    def __init__(self, rng: random.Random, *, faults: float) -> None:
        super().__init__(self._answer)
        self.life = 0
        self.came: list[tuple[int, str]] = []
        self.taken: list[tuple[int, str]] = []
        self._rng, self._faults = rng, faults

    async def _answer(self, request: Request) -> Action:
        self.came.append((self.life, key(request)))
        await asyncio.sleep(self._rng.uniform(0.002, 0.02))
        if self._rng.random() < self._faults:
            return self._rng.choice([Reply(503), Cut("before_headers"), Cut("rst")])
        self.taken.append((self.life, key(request)))
        return Reply()

    def sent_again(self, life: int) -> set[str]:
        """Batches that were taken in the life before, and came once more in this one. Not those of earlier
        lives: one that was refused in between waits for its next try without a slot."""
        return {k for at, k in self.came if at == life} & {k for at, k in self.taken if at == life - 1}


async def _live(api: Lives, rng: random.Random, running: Running) -> Finished:
    """Let it run for a random while, then kill it."""
    seen, enough = len(api.came), rng.randrange(1, 12)
    over = asyncio.ensure_future(running.process.wait())
    busy = asyncio.ensure_future(
        api.until(lambda api: len(api.came) >= seen + enough, timeout_s=patience(30))
    )
    await asyncio.wait([over, busy], return_when=asyncio.FIRST_COMPLETED)
    for task in (over, busy):
        task.cancel()
    await asyncio.gather(over, busy, return_exceptions=True)
    await asyncio.sleep(rng.uniform(0, 0.02))
    return await running.kill()


async def _until_done(
    api: Lives,
    rng: random.Random,
    kills: int,
    start: Callable[[], Awaitable[Finished]],
    place: Place,
    *words: object,
) -> tuple[Finished, int]:
    killed = 0
    while True:
        api.life += 1
        assert api.life < MAX_ROUNDS
        if killed == kills:
            return await start(), killed
        async with place.start(*words) as running:
            done = await _live(api, rng, running)
        if done.code >= 0:
            return done, killed
        killed += 1


TABLE = "rows.parquet"
ENVELOPES = "envelopes.gz"  # one behind the other, without an end of line, as Firehose writes them
SHORT = "tests/process/cli/test_kill.py::test_every_event_arrives_whatever_is_killed_when"
CASES = [
    # name, events, length of a note, kills, share of faults
    ("small.ndjson", 1_200, 0, 5, 0.0),
    ("faults.ndjson", 500, 100, 6, 0.05),
    (ENVELOPES, 600, 300, 4, 0.0),
    (TABLE, 1_500, 400, 4, 0.0),
]
MORE_CASES = [
    pytest.param(*case, marks=pytest.mark.slow(SHORT))
    for case in (("small.gz", 1_200, 0, 4, 0.0), ("many-chunks.ndjson", 1_000, 600, 5, 0.0))
]


WITHOUT_WINDOW = (
    "small.ndjson",
    "many-chunks.ndjson",
    "faults.ndjson",
    TABLE,
)  # it would hide what recovery sends twice


@pytest.mark.parametrize("seed", seeds(1, 10))
@pytest.mark.parametrize(("name", "count", "length", "kills", "faults"), [*CASES, *MORE_CASES])
async def test_every_event_arrives_whatever_is_killed_when(
    place: Place, name: str, count: int, length: int, kills: int, faults: float, seed: int
) -> None:
    rng = random.Random(seed)
    lines = events(count, note="n" * length)
    bad = [INVALID + b" " * n for n in range(5)]
    mixed = [*lines, *bad]
    rng.shuffle(mixed)
    wrapped = name == ENVELOPES
    if wrapped:
        envelopes = b"".join(b'{"id":"e","detail":' + one + b"}" for one in mixed)
        (place / name).write_bytes(gzip.compress(envelopes))
    elif name == TABLE:
        rows = [msgspec.json.decode(one) for one in mixed]
        full = [dict.fromkeys(msgspec.json.decode(lines[0])) | row for row in rows]
        pq.write_table(pa.Table.from_pylist(full), place / name, row_group_size=100)
        lines, bad = (
            [msgspec.json.encode(msgspec.json.decode(one)) for one in some] for some in (lines, bad)
        )
    else:
        write(place / name, mixed)
    place.env = {"INGESTD_DELIVERY_BACKOFF_BASE": "10ms", "INGESTD_DELIVERY_BACKOFF_CAP": "50ms"}
    if name in WITHOUT_WINDOW:
        place.env["INGESTD_WINDOW_MAX_AGE"] = "0"
    async with Lives(rng, faults=faults) as api:
        words = place.replay(
            *(api, place / name, "--max-batch-events", 25, "--max-in-flight", IN_FLIGHT, "--quiet"),
            *(("--unwrap", "detail") if wrapped else ()),
        )
        done, killed = await _until_done(api, rng, kills, lambda: place.run(*words), place, *words)

    assert done.code in (0, 3), done
    assert killed >= 1
    found = once_each(api.batches)
    assert sorted(one for batch in found.values() for one in batch) == lines
    assert sorted(letter["payload"].ljust(100) for letter in place.letters()) == sorted(
        b.ljust(100) for b in bad
    )
    assert_balanced(place.report)
    assert place.report["in_flight"] == 0
    for life in range(2, api.life + 1):
        assert len(api.sent_again(life)) <= IN_FLIGHT, f"in life {life}"
    taken_again = len(api.taken) - len({k for _, k in api.taken})
    assert taken_again <= killed * IN_FLIGHT


async def test_of_standard_input_what_was_sent_before_the_kill_is_sent_again_as_it_was(place: Place) -> None:
    lines = events(100)
    held = asyncio.Event()

    async def hold(request: Request) -> Action:
        await held.wait()
        return Reply()

    read, give = os.pipe()
    async with EventApi(hold) as api:
        words = place.replay(api, "-", "--max-batch-events", 10, "--max-in-flight", IN_FLIGHT)
        async with place.start(*words, stdin=read) as running:
            os.close(read)
            os.write(give, b"".join(line + b"\n" for line in lines))
            await api.until(lambda api: len(api.requests) == IN_FLIGHT)
            await running.kill()
            os.close(give)
        frozen = {key(request): request.body for request in api.batches}
        held.set()
        done = await place.run(*words, given=b"\n".join(events(5, first=500)))
        assert done.code == 0, done
        again = {key(request): request.body for request in api.batches[IN_FLIGHT:]}
        assert frozen.items() <= again.items()
        assert len(again) == IN_FLIGHT + 1
        assert_balanced(place.report)
        assert place.report["accepted"] == place.report["delivered"] == 10 * IN_FLIGHT + 5

        count = len(api.requests)
        done = await place.run(*words, given=b"")
        assert (done.code, len(api.requests)) == (0, count)


async def test_what_is_left_of_a_batch_after_a_refusal_keeps_its_own_key(place: Place) -> None:
    """The kill comes when the rest is out under a key of its own: it must not go out under the old one."""
    source = write(place / "in.ndjson", events(10))
    refusal = Reply(422, body=b'{"errors":[{"index":3,"message":"no such queue"}]}')
    async with EventApi(in_turn(refusal, Hang())) as api:
        words = place.replay(api, source)
        async with place.start(*words) as running:
            await api.until(lambda api: len(api.requests) == 2)
            await running.kill()
        api.ingest = lambda request: Reply()
        done = await place.run(*words)
    assert done.code == 0, done
    _, rest, again = api.batches
    assert (key(again), again.body) == (key(rest), rest.body)
    assert [letter["payload"] for letter in place.letters()] == [events(10)[3]]
    assert_balanced(place.report)


async def test_a_file_that_changed_after_the_kill_loses_no_event(place: Place) -> None:
    """The second chunk is written anew, with fewer and longer events; a batch began in the first."""
    long = "n" * 200
    before = events(1_000, note=long)
    source = write(place / "in.ndjson", before)
    at = len(b"\n".join(before[: 300_000 // len(before[0])])) + 1  # a line's end in the second chunk
    held = asyncio.Event()

    async def hold(request: Request) -> Action:
        await held.wait()
        return Reply()

    async with EventApi(hold) as api:
        words = place.replay(api, source, "--max-batch-bytes", "400kB", "--max-in-flight", 1)
        async with place.start(*words) as running:
            await api.until(lambda api: len(api.requests) == 1)
            await running.kill()
        kept = source.read_bytes()[:at]
        after = events(40, first=5_000, note="m" * 10_000)
        source.write_bytes(kept + b"".join(line + b"\n" for line in after))
        held.set()
        done = await place.run(*words)
    assert done.code == 0, done
    assert "cannot be sent again as they were: the file, or the settings of a sink" in done.err
    assert place.report["in_flight"] == 0
    assert set(kept.splitlines()) | set(after) == {one for r in api.batches[1:] for one in events_of(r)}
