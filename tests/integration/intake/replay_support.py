"""`ingestd replay` within this process: the real thing but for its command line, with a crash to order."""

import asyncio
import contextlib
import shutil
import sqlite3
from collections.abc import AsyncIterator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from ingestd.app.replay import Replay, open_replay, run
from ingestd.app.replay_report import make_report
from ingestd.config import Login, Settings
from ingestd.core.bounds import Bounds
from ingestd.store.spool_rows import ForgottenEvents, forget_sink
from tests.integration.intake.support import DEADLINE_S, SHORT, Gate, key_of, numbers_of
from tests.receiver import Receiver

SECTIONS: dict[str, dict[str, Any]] = SHORT | {
    "delivery": SHORT["delivery"] | {"startup_timeout": 0.15, "max_in_flight": 2},
    "batch": {"max_events": 10, "max_age": 0.05},
}

OFTEN = Bounds(outage_look_s=0.02)
SMALL = msgspec.structs.replace(OFTEN, chunk_bytes=1500)


@dataclass
class Place:
    """A state directory and a configuration; ``warnings`` of all runs."""

    directory: Path
    sinks: Mapping[str, Mapping[str, Any]]
    sections: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    login: Login | None = None
    bounds: Bounds = OFTEN

    @asynccontextmanager
    async def opened(self, source: Path, *, from_start: bool = False) -> AsyncIterator[Replay]:
        given = {name: SECTIONS.get(name, {}) | dict(section) for name, section in self.sections.items()}
        state = {"state": {"dir": str(self.directory)}, "sinks": self.sinks}
        settings = Settings.model_validate(SECTIONS | given | state)
        warn = self.warnings.append
        async with open_replay(
            settings, self.login, [str(source)], from_start=from_start, warn=warn, bounds=self.bounds
        ) as replay:
            yield replay
        ledger = replay.pipeline.ledger
        assert ledger.balanced(), ledger
        assert min(ledger.in_flight, ledger.accepted) >= 0, ledger
        for runner in replay.pipeline.runners:
            assert runner.ledger.balanced(), (runner.name, runner.ledger)

    async def run(self, source: Path, **options: Any) -> dict[str, Any]:
        """A whole replay; gives its report."""
        async with self.opened(source, **options) as replay, asyncio.timeout(DEADLINE_S):
            await run(replay, warn=self.warnings.append)
        assert not replay.pipeline.ledger.in_flight or replay.lost, make_report(replay)
        return make_report(replay)

    def forget(self, name: str) -> ForgottenEvents | None:
        """``spool forget``."""
        with contextlib.closing(sqlite3.connect(self.directory / "state.db")) as connection, connection:
            return forget_sink(connection, name)

    @asynccontextmanager
    async def running(self, source: Path) -> AsyncIterator["Life"]:
        """While a replay runs; it ends with the block."""
        async with self.opened(source) as replay:
            life = Life(self, replay, asyncio.ensure_future(run(replay, warn=self.warnings.append)))
            try:
                yield life
            finally:
                await life.stop()


@dataclass
class SmallPlace(Place):
    """With chunks of about eight events."""

    bounds: Bounds = SMALL


@dataclass
class Life:
    """One process that replays."""

    place: Place
    replay: Replay
    task: asyncio.Task[None]

    async def stop(self) -> None:
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def over_before(self, receiver: Receiver, *, requests: int) -> bool:
        """Wait until so many have come there, or all is done."""
        came = asyncio.ensure_future(receiver.until(lambda r: len(r.requests) >= requests))
        await asyncio.wait([came, self.task], return_when=asyncio.FIRST_COMPLETED)
        if not came.done():
            came.cancel()
        await asyncio.wait([came])
        return self.task.done()

    async def crash(self, image: Path) -> Place:
        """The place as ``kill -9`` leaves it now; this life sends nothing any more."""
        place = self.place
        async with Gate(self.replay.pipeline.database):
            shutil.copytree(place.directory, image, ignore=shutil.ignore_patterns("*-shm"))
            await self.stop()
        return replace(place, directory=image)


def sink(receiver: Receiver, **other: Any) -> dict[str, Any]:
    """An event API at ``receiver``, whose batches have their keys."""
    return {"type": "ingest_api", "url": receiver.url, **other}


def rows(directory: Path, sql: str) -> list[Any]:
    """What the store says, after a run."""
    with contextlib.closing(sqlite3.connect(directory / "state.db")) as connection:
        return connection.execute(sql).fetchall()


def keys_by_event(receiver: Receiver) -> dict[int, set[str]]:
    """Under which keys each event came. Fails if one key came with two bodies."""
    bodies: dict[str, bytes] = {}
    found: dict[int, set[str]] = {}
    for request in receiver.requests:
        assert bodies.setdefault(key_of(request), request.body) == request.body
        for number in numbers_of(request):
            found.setdefault(number, set()).add(key_of(request))
    return found


def assert_once(receiver: Receiver, numbers: Collection[int]) -> None:
    """Every event came, and however often it came, it was with its first request's key."""
    found = keys_by_event(receiver)
    assert sorted(found) == sorted(numbers)
    assert {len(keys) for keys in found.values()} <= {1}


async def until(condition: Callable[[], bool]) -> None:
    """For what a run notes by the way, and nobody can be told of."""
    async with asyncio.timeout(DEADLINE_S):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def write(path: Path, lines: Iterable[bytes]) -> Path:
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path
