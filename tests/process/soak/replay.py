"""Rounds of ``ingestd replay``: copies near their originals; a file that grows, a packed one, an array."""

import asyncio
import gzip
import random
from collections.abc import Sequence
from pathlib import Path

from tests.machine import patience
from tests.process.cli.support import Place, Running
from tests.process.soak.api import Api
from tests.process.soak.events import Maker, with_copies
from tests.process.soak.judge import Verdict, balance, judge
from tests.process.soak.kills import kill
from tests.process.soak.run import configure, sinks_of

SHAPES = {
    "replay: one sink": ("main",),
    "replay: one sink in order": ("ordered",),
    "replay: one sink in order, one dead": ("ordered", "dead"),
}
LINES = 700
ENV = {
    "INGESTD_DELIVERY_BACKOFF_BASE": "10ms",
    "INGESTD_DELIVERY_BACKOFF_CAP": "100ms",
    "INGESTD_DELIVERY_STARTUP_TIMEOUT": "5m",
}


class Files:
    """What is replayed; ``events`` are the originals."""

    def __init__(self, place: Place, rng: random.Random) -> None:
        self._rng = rng
        self.events: list[bytes] = []
        self.plain, self.packed = place / "plain.ndjson", place / "packed.ndjson.gz"
        self.array, self.growing = place / "array.json", place / "growing.ndjson"
        self.plain.write_bytes(_lines(self._make("plain", LINES)))
        self.packed.write_bytes(gzip.compress(_lines(self._make("packed", LINES)), mtime=0))
        self.array.write_bytes(b"[" + b",\n".join(self._make("array", LINES)) + b"]")
        self._growth = Maker("growing", rng)
        self.grow()

    @property
    def paths(self) -> list[Path]:
        return [self.plain, self.packed, self.array, self.growing]

    def grow(self) -> None:
        with self.growing.open("ab") as file:
            file.write(_lines(self._copied(self._growth.many(LINES // 10, pad=400))))

    def _make(self, name: str, count: int) -> list[bytes]:
        return self._copied(Maker(name, self._rng).many(count, pad=self._rng.choice([0, 500])))

    def _copied(self, events: Sequence[bytes]) -> list[bytes]:
        self.events += events
        return with_copies(events, self._rng, share=0.5, within=self._rng.choice([1, 3, 40]))


def _lines(events: Sequence[bytes]) -> bytes:
    return b"".join(event + b"\n" for event in events)


async def round_of_replay(place: Place, shape: str, seed: int, *, lives: int) -> Verdict:
    rng = random.Random(seed)
    place.env = ENV
    files, sinks, verdict = Files(place, rng), sinks_of(SHAPES[shape]), Verdict()
    async with Api(sinks, random.Random(f"{seed} api"), place / "requests.ndjson") as api:
        words = [
            *("replay", *files.paths, "--config", configure(place, api.url, sinks, rng), "--quiet"),
            *("--state-dir", place.state, "--report", place.report_file),
        ]
        for _ in range(lives):
            verdict.lives += 1
            async with place.start(*words) as running:
                verdict.kills += await _until_killed(running, api, rng)
            files.grow()
        api.calm()
        await _bring_to_an_end(place, words, verdict)
    letters = place.letters()
    return judge(files.events, sinks, letters, ordered={"ordered"} & sinks.keys(), verdict=verdict)


async def _until_killed(running: Running, api: Api, rng: random.Random) -> bool:
    killed = await kill(running.process, api, rng, within_s=1.5)
    done = await running.finish()
    assert killed or done.code in (0, 3), done
    return killed


async def _bring_to_an_end(place: Place, words: Sequence[object], verdict: Verdict) -> None:
    """Twice: what the last run left for later, dead letters among it, goes in the next."""
    for _ in range(2):
        verdict.lives += 1
        async with asyncio.timeout(patience(120)):
            done = await place.run(*words)
        assert done.code in (0, 3), done
        balance(place.report, verdict)
