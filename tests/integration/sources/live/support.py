"""A service that follows files, in this process."""

import os
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from ingestd.sources.live import source
from ingestd.sources.live.counts import FileCounts
from ingestd.sources.live.patterns import Listing
from tests.event_api import EventApi, events_of, key
from tests.process.sources.support import Running, running, settings, until

QUICK: dict[str, Any] = {
    "watch": "poll",
    "poll_every": 0.02,
    "closed_after": 0.1,
    "rotated_after": 0.2,
    "done_after": 0.15,
}
Step = Callable[[], object]
NO_KEYS = {"dedup_key": "nothing"}
"""Events have no key: that they arrive once is not the window's doing."""


@asynccontextmanager
async def following(
    directory: Path, api: EventApi, *paths: str, settle: bool = True, **more: Any
) -> AsyncIterator[Running]:
    """``paths``: patterns below the directory."""
    files = {**QUICK, "paths": [str(directory / path) for path in paths], **more}
    made = settings(directory, api.url, files, kind="files", schema=NO_KEYS)
    async with running(made) as service:
        yield service


def append(path: Path, *lines: bytes) -> None:
    with path.open("ab") as file:
        file.write(b"".join(line + b"\n" for line in lines))


def rotate(path: Path, target: str) -> Path:
    """As logrotate does it: under another name, and a new file in its place."""
    moved = path.with_name(target)
    os.rename(path, moved)
    path.touch()
    return moved


def copy_and_truncate(path: Path, target: str) -> Path:
    """As logrotate does it with copytruncate."""
    copy = path.with_name(target)
    copy.write_bytes(path.read_bytes())
    os.truncate(path, 0)
    return copy


class Looks:
    """Does a step once with the next look at all files: ``before`` it, ``after`` it, before anything is done
    about what it found, or ``between``: of what was there before, it is known how it was before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._steps: dict[str, Step] = {}
        self._look = source.look
        monkeypatch.setattr(source, "look", self.look)

    def look(self, *arguments: Any, **more: Any) -> Listing:
        steps = self._steps.copy()
        if before := steps.get("before"):
            before()
        listing = self._look(*arguments, **more)
        if between := steps.get("between"):
            between()
            for identity, found in self._look(*arguments, **more).files.items():
                listing.files.setdefault(identity, found)
        if after := steps.get("after"):
            after()
        for name in steps:
            del self._steps[name]
        return listing

    async def do(self, **steps: Step) -> None:
        self._steps = steps
        await until(lambda: not self._steps)


def rotated(log: Path, more: list[bytes], then: list[bytes], *, target: str = "app.log.1") -> Step:
    """More is written, the file is copied and truncated, and it is written on."""

    def step() -> None:
        append(log, *more)
        copy_and_truncate(log, target)
        append(log, *then)

    return step


def once(
    monkeypatch: pytest.MonkeyPatch, kind: type, name: str, *, after: bool = False
) -> Callable[[Step], None]:
    """Arms a method: the step is done once, before or ``after`` its next call."""
    method = getattr(kind, name)
    steps: list[Step] = []

    def sync(self: Any, *arguments: Any, **more: Any) -> Any:
        if not after and steps:
            steps.pop()()
        result = method(self, *arguments, **more)
        if after and steps:
            steps.pop()()
        return result

    monkeypatch.setattr(kind, name, sync)
    return steps.append


def counts(service: Running) -> FileCounts:
    (feed,) = service.service.brokers.feeds
    found = feed.source.counts
    assert isinstance(found, FileCounts)
    return found


async def counted(service: Running, name: str, value: int) -> None:
    await until(lambda: getattr(counts(service), name) == value, service.task)


async def looked(service: Running, times: int = 3) -> None:
    """Until all files were looked at so many times more."""
    (feed,) = service.service.brokers.feeds
    source: Any = feed.source
    last = source.looks + times
    await until(lambda: source.looks >= last, service.task)


async def recognised(service: Running) -> None:
    """Until it is known of all files what they are: archives are looked at when they are closed."""
    (feed,) = service.service.brokers.feeds
    source: Any = feed.source
    await looked(service)
    await until(lambda: source._set.is_recognised, service.task)


def is_done(service: Running) -> bool:
    """It is known of all files what they are, those that are gone are let go, and all is settled."""
    (feed,) = service.service.brokers.feeds
    source: Any = feed.source
    told = source.counts
    left = told.unread_bytes or told.rotated_files or service.ledger["in_flight"]
    return source._set.is_recognised and not left and all(file.is_settled for file in source._set)


def assert_once(api: EventApi, expected: list[bytes]) -> None:
    """Each arrived, once; on a machine that is slow enough a request comes again under its key."""
    by_key = {key(request): request for request in api.batches}
    arrived = Counter(one for request in by_key.values() for one in events_of(request))
    assert sorted(Counter(expected) - arrived) == [], "lost"
    assert sorted(arrived - Counter(expected)) == [], "doubled"
