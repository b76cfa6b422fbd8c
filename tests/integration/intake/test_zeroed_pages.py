"""A page of the state file is zeros, each in turn: the service starts, takes events, and sends none a second
time under another key."""

import json
import random
import shutil
import sqlite3
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ingestd.store.spool_inspection import SpoolInspection
from tests.effort import FUZZ
from tests.event_api import noise
from tests.integration.intake.support import event, key_of, posted, running, webhook
from tests.receiver import Action, Hang, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

PAGE = 4096
EVENTS, EACH = 240, 6
HERE_AND_THERE = 9
REFUSED = json.dumps({"errors": [{"index": 0, "status": 422, "message": "no"}]}).encode()


class Crashed(NamedTuple):
    """A directory as a process left it that was killed. ``keys``: event -> of the requests that it was in, by
    sink."""

    directory: Path
    keys: dict[str, dict[int, set[str]]]

    @property
    def pages(self) -> int:
        return (self.directory / "state.db").stat().st_size // PAGE


def _sinks(receivers: dict[str, Receiver]) -> dict[str, Any]:
    answers = {"items": "errors", "index": "index", "message": "message"}
    return {
        name: webhook(one, max_events=4, max_in_flight=2, answers=answers) for name, one in receivers.items()
    }


def _note(keys: dict[str, dict[int, set[str]]], receivers: dict[str, Receiver]) -> None:
    for name, receiver in receivers.items():
        for request in receiver.requests:
            for number in posted(request):
                keys[name][number].add(key_of(request))


async def crashed(directory: Path, names: tuple[str, ...]) -> Crashed:
    """What every table has something of: events that are delivered, refused, on their way, and that wait."""
    keys: dict[str, dict[int, set[str]]] = {name: defaultdict(set) for name in names}
    receivers: dict[str, Receiver] = {}

    def script(name: str, most: int) -> Any:
        def answer(request: Request) -> Action:
            count = len(receivers[name].requests)
            if count > most:
                return Hang()
            return Reply(body=REFUSED) if count % 3 == 0 else Reply()

        return answer

    async with Receiver() as one, Receiver() as other:
        both = {"a": one, "b": other}
        receivers = {name: both[name] for name in names}
        for at, name in enumerate(names):
            receivers[name].script = script(name, 18 - 6 * at)
        async with running(directory / "begun", sinks=_sinks(receivers)) as life:
            for first in range(0, EVENTS, EACH):
                numbers = range(first, first + EACH)
                await life.take(*[event(n, note=noise(n, 7_000 if n % 40 == 0 else 90)) for n in numbers])
            for at, name in enumerate(names):
                await receivers[name].until(lambda r, at=at: len(r.requests) > 18 - 6 * at)
            await life.crash(directory / "image")
        _note(keys, receivers)
    with closing(sqlite3.connect(directory / "image" / "state.db")) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return Crashed(directory / "image", keys)


async def _second_life(before: Crashed, directory: Path) -> str:
    """Empty, or the promise that is broken."""
    keys = {
        name: defaultdict(set, {n: set(k) for n, k in found.items()}) for name, found in before.keys.items()
    }
    async with Receiver() as one, Receiver() as other:
        receivers = dict(zip(keys, (one, other), strict=False))
        async with running(directory, sinks=_sinks(receivers)) as life:
            await life.take(event(9_999))
            await life.until_empty()
            mended = life.pipeline.database.mended
            told = mended.words if mended else ""
            # only the end of a large chunk is gone: to SQLite that is no damage, it is told by the checksum
            as_told = not mended and any(
                "sent under new idempotency keys" in words for words in life.warnings
            )
            letters = {
                int(json.loads(p)["interactionId"][2:])
                for (p,) in life.rows("SELECT payload FROM letters")
                if _reads(p)
            }
            damaged = sum(one.events or 0 for one in life.ingest.spool.damage)
        _note(keys, receivers)
    aside = b"".join(SpoolInspection(directory).events(damaged=True))
    for name, found in keys.items():
        for number, used in found.items():
            if len(used) > 1 and not as_told:
                return f"event {number} was sent to {name} under {len(used)} keys ({told})"
        if not found[9_999]:
            return "a new event was not delivered"
        there = {number for number in range(EVENTS) if found[number] or number in letters}
        there |= {number for number in range(EVENTS) if b'"i-%d"' % number in aside}
        missing = EVENTS - len(there)
        lost = damaged + ((mended.letters or 0) if mended else 0)
        if missing > lost and "how many is not known" not in told:
            return f"{missing} events are nowhere, and {lost} are told to be ({told})"
    return ""


def _reads(payload: bytes) -> bool:
    try:
        json.loads(payload)
    except ValueError:
        return False
    return True


async def _broken(before: Crashed, lost: dict[str, list[int]]) -> dict[str, str]:
    """Of directories in which these pages are zeros: the promises that are broken."""
    broken = {}
    for name, pages in lost.items():
        directory = before.directory.with_name(name)
        shutil.copytree(before.directory, directory)
        with (directory / "state.db").open("r+b") as file:
            for page in pages:
                file.seek((page - 1) * PAGE)
                file.write(bytes(PAGE))
        if found := await _second_life(before, directory):
            broken[f"{name} {pages}"] = found
        shutil.rmtree(directory)
    return broken


async def test_pages_of_zeros_here_and_there(tmp_path: Path) -> None:
    """The first ones, which hold all the others together, and some of each table; two at once, too."""
    before = await crashed(tmp_path, ("a", "b"))
    some = [1, 2, *range(3, before.pages + 1, HERE_AND_THERE)]
    lost = {f"page {page}": [page] for page in some} | {"two": [some[3], some[-2]]}
    assert await _broken(before, lost) == {}


@pytest.mark.slow("tests/integration/intake/test_zeroed_pages.py::test_pages_of_zeros_here_and_there")
@pytest.mark.parametrize("names", [("a",), ("a", "b")])
async def test_each_page_of_zeros(tmp_path: Path, names: tuple[str, ...]) -> None:
    before = await crashed(tmp_path, names)
    assert before.pages > 40
    every = 1 if FUZZ or len(names) > 1 else 3  # what one sink has, two have as well
    assert await _broken(before, {f"page {page}": [page] for page in range(1, before.pages + 1, every)}) == {}


@pytest.mark.slow("tests/integration/intake/test_zeroed_pages.py::test_pages_of_zeros_here_and_there")
async def test_several_pages_of_zeros(tmp_path: Path) -> None:
    before = await crashed(tmp_path, ("a", "b"))
    rng = random.Random(4711)
    some = {f"lost {n}": rng.sample(range(1, before.pages + 1), rng.randint(2, 8)) for n in range(20)}
    assert await _broken(before, some) == {}
