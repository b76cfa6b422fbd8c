"""A service that reads from a broker, in this process."""

import asyncio
import json
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, closing
from io import BytesIO
from pathlib import Path
from typing import Any

from ingestd.app import run as service_run
from ingestd.app.console.overview import overview
from ingestd.app.letters import letters as letters_of
from ingestd.app.open_service import open_service
from ingestd.app.outside import Outside
from ingestd.app.service_parts import Service
from ingestd.app.where_in_state import where_in_state
from ingestd.config import Settings
from ingestd.store.dead_letters import Filter
from tests.machine import patience

IN_TURN = {"max_in_flight": 1}
"""As [delivery], of a test that compares the order in which all events came: how many batches they are is
chance, and without an order key several of them are on their way at once."""


def settings(
    directory: Path, api: str, source: Mapping[str, Any], *, kind: str = "nats", **sections: Any
) -> Settings:
    """``source``: of the table [ingest.KIND]."""
    tree: dict[str, Any] = {
        "api": {"url": api, "no_auth": True},
        "state": {"dir": str(directory / "state")},
        "ingest": {"listen": "127.0.0.1:0", kind: dict(source)},
        "admin": {"listen": "127.0.0.1:0"},
        "batch": {"max_age": 0.05},
        "delivery": {"backoff_base": 0.01, "backoff_cap": 0.05, "shutdown_timeout": 5},
    }
    for name, section in sections.items():
        tree[name] = tree.get(name, {}) | section
    return Settings.model_validate(tree)


class Running:
    """``said``: warnings and errors."""

    def __init__(self, service: Service, task: "asyncio.Task[None]") -> None:
        self.service = service
        self.task = task

    @property
    def ledger(self) -> dict[str, int]:
        ledger = self.service.pipeline.ledger
        names = ("accepted", "delivered", "duplicate", "rejected", "dead_lettered", "in_flight")
        return {name: getattr(ledger, name) for name in names}

    async def metric(self, name: str) -> float:
        """Of its only source."""
        (source,) = self.service.brokers.names
        value = self.service.metrics.registry.get_sample_value(name, {"source": source})
        assert value is not None, name
        return value

    async def crash(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])

    async def settled(self, events: int) -> None:
        """Until so many events have come to their end."""
        await until(lambda: self.ledger["accepted"] >= events and not self.ledger["in_flight"], self.task)


def producers_of(running: Running) -> list[dict[str, Any]]:
    """As the console shows them."""
    return [dict(one) for one in overview(running.service)["producers"]]


@asynccontextmanager
async def running(settings: Settings, outside: Outside | None = None) -> AsyncIterator[Running]:
    """It is shut down as by a signal; whoever cancels the task ends it as a crash would."""
    async with open_service(lambda: settings, outside) as service:
        task = asyncio.create_task(service_run.run(service))
        try:
            yield Running(service, task)
            if not task.done():
                await service_run._shut_down(service, "SIGTERM")
                await asyncio.wait_for(task, patience(20))
        finally:
            task.cancel()
            await asyncio.wait([task])


async def until(condition: Callable[[], object], task: "asyncio.Task[None] | None" = None) -> None:
    end = time.monotonic() + patience(20)
    while not condition():
        assert task is None or not task.done(), "the service has ended"
        assert time.monotonic() < end, "it did not come to pass"
        await asyncio.sleep(0.01)


def letters(directory: Path) -> list[dict[str, Any]]:
    import sqlite3

    with closing(sqlite3.connect(directory / "state" / "state.db")) as connection:
        rows = connection.execute(
            "SELECT payload, reason, detail, offset, line, sink FROM letters ORDER BY id"
        ).fetchall()
    names = ("payload", "reason", "detail", "offset", "line", "sink")
    return [dict(zip(names, row, strict=True)) for row in rows]


def places(directory: Path) -> list[tuple[str, int | None, int | None]]:
    """(source, offset, sequence) of the dead letters as persons see them, the same with each command."""
    state = str(directory / "state")
    with letters_of.find(state, Filter(), limit=100, now=0.0) as (found, _):
        shown = [*found]
    written = BytesIO()
    letters_of.export(state, Filter(), written, as_json=True, now=0.0)
    assert [json.loads(line) for line in written.getvalue().splitlines()] == shown
    assert [letters_of.get(state, one["id"]) for one in shown] == shown
    configuration = directory / "places.toml"
    configuration.touch()
    for one in shown:
        if one["batch"]:
            assert one in where_in_state(one["batch"], state, str(configuration))["letters"]
    return [(one["source"], one["offset"], one["sequence"]) for one in shown]


def given_up(log: str) -> int:
    """Batches that could not be sent again as they were, by the lines of the log."""
    words = r"messages of them are gone or settings of a sink are others: (\d+);"
    return sum(map(int, re.findall(words, log)))


def number_of(event: bytes) -> int:
    return int(json.loads(event)["interactionId"].removeprefix("i-"))
