"""Files that are written and rotated in every way, under ``ingestd run`` that is killed again and again."""

import asyncio
import gzip
import os
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.effort import FUZZ, seeds
from tests.event_api import event, events_of, once_each
from tests.machine import patience, patience_of_test
from tests.process.cli.run_support import numbers, serve
from tests.process.cli.support import Place
from tests.process.cli.test_run_kill import POISON, FaultyApi

pytestmark = pytest.mark.anyio

ROUNDS = 12 if FUZZ else 4
IN_FLIGHT = 3


class Writer:
    """Writes lines, in pieces that end anywhere, and rotates in all ways. ``is_known``: whether of the lines
    from this one on any has arrived. ``unseen_bytes``: of files that were packed and deleted before that:
    where one of them was seen and not opened yet, nobody can tell that its archive holds the same."""

    def __init__(self, directory: Path, rng: random.Random, is_known: Callable[[int], bool]) -> None:
        self.written: list[bytes] = []
        self.rotations: Counter[str] = Counter()
        self.unseen_bytes = 0
        self.stop = asyncio.Event()
        self._log = directory / "app.log"
        self._rng = rng
        self._number = self._first = 0
        self._is_known = is_known
        self._file = self._log.open("ab", buffering=0)

    async def work(self) -> None:
        rng = self._rng
        while not self.stop.is_set():
            for _ in range(rng.randrange(1, 30)):
                number = len(self.written)
                note = POISON.decode() if rng.random() < 0.005 else f"k{number % 5}"
                line = event(number, note=note)
                self.written.append(line)
                half = rng.randrange(len(line))
                self._file.write(line[:half])
                if rng.random() < 0.05:
                    await asyncio.sleep(rng.uniform(0, 0.02))
                self._file.write(line[half:] + b"\n")
            if self._log.stat().st_size > 4096 and rng.random() < 0.1:
                self._rotate()
            await asyncio.sleep(rng.uniform(0, 0.01))
        self._file.close()

    def _rotate(self) -> None:
        self._number += 1
        old = self._log.with_name(f"app.log.{self._number}")
        how = self._rng.choice(["rename", "copy", "pack", "hide"])
        if how == "hide" and not self._is_known(self._first):
            how = "rename"  # what is hidden before it was ever seen nobody can find
        if how == "pack" and not self._is_known(self._first):
            self.unseen_bytes += self._log.stat().st_size
        self._first = len(self.written)
        self.rotations[how] += 1
        if how == "copy":
            old.write_bytes(self._log.read_bytes())
            os.ftruncate(self._file.fileno(), 0)
            return
        if how == "hide":
            old = self._log.with_name(f"old.{self._number}")
        os.rename(self._log, old)
        self._file.close()
        self._file = self._log.open("ab", buffering=0)
        if how == "pack":
            packed = old.with_name(old.name + ".tmp")
            packed.write_bytes(gzip.compress(old.read_bytes()))
            os.rename(packed, old.with_name(old.name + ".gz"))
            old.unlink()


def arrived_of(api: FaultyApi) -> set[int]:
    return {number for _, request in api.taken for number in numbers(events_of(request))}


@pytest.mark.parametrize("seed", seeds(2, 10))
@pytest.mark.timeout(patience_of_test(60 + 12 * ROUNDS))
async def test_every_line_arrives_once_whatever_is_rotated_and_killed(tmp_path: Path, seed: int) -> None:
    """Events have no key here: that they arrive once is not the window's doing. With an odd seed they go
    through the spool."""
    rng = random.Random(seed)
    place = Place(tmp_path)
    logs = tmp_path / "logs"
    logs.mkdir()
    place.env = {
        "INGESTD_BATCH_MAX_EVENTS": "20",
        "INGESTD_DELIVERY_MAX_IN_FLIGHT": str(IN_FLIGHT),
        "INGESTD_SCHEMA_DEDUP_KEY": "nothing",
    }
    config = tmp_path / "ingestd.toml"
    config.write_text(
        f'[ingest.files]\npaths = ["{logs}/app.log*"]\nexclude = "*.tmp"\n'
        f"spool = {str(bool(seed % 2)).lower()}\n"
        'poll_every = "50ms"\nclosed_after = "200ms"\nrotated_after = "1s"\n'
    )
    async with FaultyApi(rng) as api, asyncio.TaskGroup() as tasks:
        writer = Writer(logs, rng, lambda first: any(n >= first for n in arrived_of(api)))
        writing = tasks.create_task(writer.work())
        for _ in range(ROUNDS):
            async with serve(place, api, "--config", config) as serving:
                enough = len(api.taken) + rng.randrange(3, 12)
                await api.until(lambda _, n=enough: len(api.taken) >= n, timeout_s=patience(30))
                await asyncio.sleep(rng.uniform(0, 0.05))
                await serving.kill()
            api.life += 1
        async with serve(place, api, "--config", config) as serving:
            await api.until(lambda _: sum(writer.rotations.values()) > 2, timeout_s=patience(30))
            writer.stop.set()
            await writing
            total = len(writer.written)
            final = await serving.until(
                lambda told: (
                    told["sources"][0]["unread_bytes"] == 0
                    and told["spool"]["events"] == 0
                    and told["ledger"]["in_flight"] == 0
                    and len(arrived_of(api)) + len(place.letters()) >= total
                ),
                timeout_s=patience(30),
            )
            await serving.stop()
    arrived = [one for batch in once_each([request for _, request in api.taken]).values() for one in batch]
    buried = [letter["payload"] for letter in place.letters()]
    expected = Counter(writer.written)
    assert not expected - Counter(arrived) - Counter(buried), "lost"
    assert not Counter(arrived) + Counter(buried) - expected, "doubled"
    assert all(POISON in one for one in buried)
    assert final["sources"][0]["lost_bytes"] <= writer.unseen_bytes
