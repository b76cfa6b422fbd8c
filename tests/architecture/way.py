"""Which files of ours one event enters, from a file, by POST, or as a dead letter that is sent again.

A profiler hook on all threads counts the files of ``ingestd/`` whose functions run, and the calls from one
to another. The API is a sandbox in a process of its own. For ``test_way_of_one_event.py``; by hand:
``python -m tests.architecture.way replay|post|letter|command …``, with ``--files`` for the list.
"""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

ROOT = str(Path(__file__).parents[2] / "ingestd") + "/"
EVENT = {
    "interactionId": "i-1",
    "eventType": "routing.interaction.answer",
    "eventTime": "2026-01-01T10:00:00Z",
    "routingMetadata": {"queueId": "q", "skill": "s", "actionType": "ANSWER"},
    "attributes": {},
    "schemaVersion": 1,
}

MORE = range(2, 10)
"""Events that are watched, after one that fills caches."""
PERIODIC = {"store/upkeep.py", "store/ballast.py", "telemetry/watchdog.py"}
"""What a timer does meanwhile belongs to no event."""
LOOKS = {"_look", "_look_at_files"}
"""Of ``store/database.py``: the writer looks after its files by the clock, on a slow machine more often."""


class Way:
    """``files``: relative to ``ingestd/``, and how often each was entered from another; ``calls``: the sum.

    Import-time code does not count, nor what a package's ``__init__`` does. Of several events that were
    watched it is the one with the shortest way: a timer that ran meanwhile adds what is not the event's.
    """

    def __init__(self) -> None:
        self.on = False
        self.files: Counter[str] = Counter()
        self.calls = 0
        self._shortest: tuple[int, int, Counter[str]] | None = None

    def install(self) -> None:
        threading.setprofile(self._hook)
        sys.setprofile(self._hook)

    @contextmanager
    def watched(self) -> Iterator[None]:
        self.files, self.calls = Counter(), 0
        self.on = True
        try:
            yield
        finally:
            self.on = False
            found = len(self.files), self.calls, self.files
            self._shortest = min(self._shortest or found, found, key=lambda one: one[:2])
            _, self.calls, self.files = self._shortest

    def _hook(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call" or not self.on:
            return
        code = frame.f_code
        if not code.co_filename.startswith(ROOT) or code.co_name == "<module>":
            return
        name = code.co_filename[len(ROOT) :]
        caller = frame.f_back
        while caller is not None and not caller.f_code.co_filename.startswith(ROOT):
            caller = caller.f_back
        if name in PERIODIC or (caller and _is_periodic(caller)):
            return
        if caller is None or caller.f_code.co_filename != code.co_filename:
            self.files[name] += 1
            self.calls += caller is not None


def _is_periodic(caller: FrameType) -> bool:
    name = caller.f_code.co_filename[len(ROOT) :]
    return name in PERIODIC or (name == "store/database.py" and caller.f_code.co_name in LOOKS)


@contextmanager
def sandbox() -> Iterator[str]:
    """A sandbox in a process of its own; gives its URL."""
    command = [sys.executable, "-m", "ingestd", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            assert process.stdout is not None
            line = next(line for line in process.stdout if "http://" in line)
            yield "http://" + line.split("http://")[1].split()[0].rstrip("/,.").split("/")[0]
        finally:
            process.terminate()


def settings_for(api: str, directory: Path) -> Any:
    from ingestd.config import Settings

    return Settings.model_validate(
        {
            "api": {
                "url": api,
                "token_url": api + "/oauth/token",
                "client_id": "sandbox",
                "client_secret": "sandbox",
            },
            "state": {"dir": str(directory)},
            "batch": {"max_age": 0.05},
            "ingest": {"listen": "127.0.0.1:0"},
            "admin": {"listen": "127.0.0.1:0"},
            "audit": {"file": str(directory / "audit.jsonl")},
        }
    )


def order(api: str, faults: list[str]) -> None:
    """Faults of the sandbox from now on."""
    urllib.request.urlopen(f"{api}/_sandbox/faults", data=json.dumps(faults).encode()).read()


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


async def replayed(way: Way, api: str, directory: Path) -> None:
    """From a file that is read to the API, in a replay that has delivered one event before."""
    from ingestd.app.replay import open_replay, run
    from ingestd.config import find_login

    fifo = directory / "events.ndjson"
    os.mkfifo(fifo)
    writer = os.open(fifo, os.O_RDWR)
    settings = settings_for(api, directory / "state")
    async with open_replay(settings, find_login(settings), [str(fifo)], warn=print) as replay:
        ledger = replay.pipeline.ledger
        running = asyncio.ensure_future(run(replay, warn=print))

        async def send(number: int) -> None:
            os.write(writer, json.dumps(EVENT | {"interactionId": f"i-{number}"}).encode() + b"\n")
            while not running.done() and (ledger.delivered < number or ledger.in_flight):  # noqa: ASYNC110
                await asyncio.sleep(0)

        await send(1)
        for number in MORE:
            with way.watched():
                await send(number)
        os.close(writer)
        await running
    assert ledger.delivered == MORE[-1], replay.error


async def posted(way: Way, api: str, directory: Path) -> None:
    """From POST to the API, in a service that has delivered one event before."""
    import aiohttp

    from ingestd.app.open_service import open_service
    from ingestd.app.run import run

    settings = settings_for(api, directory / "state")
    async with open_service(lambda: settings) as service, aiohttp.ClientSession() as session:
        running = asyncio.ensure_future(run(service))
        assert service.server is not None
        url = f"http://127.0.0.1:{service.server.port}/v1/events"
        ledger = service.pipeline.ledger

        async def send(number: int) -> None:
            body = json.dumps(EVENT | {"interactionId": f"i-{number}"})
            headers = {"Content-Type": "application/json"}
            async with session.post(url, data=body, headers=headers) as answer:
                assert answer.status == 202, await answer.text()
            while not running.done() and (ledger.delivered < number or ledger.in_flight):  # noqa: ASYNC110
                await asyncio.sleep(0)

        await send(1)
        for number in MORE:
            with way.watched():
                await send(number)
        running.cancel()
        await asyncio.wait([running])


async def letters_of(api: str, directory: Path, overrides: dict[tuple[str, str], Any], count: int) -> None:
    """So many events that the API refuses for now: dead letters 1, 2, …"""
    from ingestd.app.replay import open_replay, run
    from ingestd.config import find_login, load

    events = (json.dumps(EVENT | {"interactionId": f"i-{number}"}) for number in range(count))
    source = write(directory / "events.ndjson", "\n".join(events) + "\n")
    settings = load(None, overrides)
    order(api, ["422:1"])
    async with open_replay(settings, find_login(settings), [str(source)], warn=print) as replay:
        await run(replay, warn=print)
    order(api, [])


def overrides_for(api: str, directory: Path) -> dict[tuple[str, str], Any]:
    secret = write(directory / "secret", "sandbox")
    return {
        ("api", "url"): api,
        ("api", "token_url"): api + "/oauth/token",
        ("api", "client_id"): "sandbox",
        ("api", "client_secret_file"): str(secret),
        ("state", "dir"): str(directory / "state"),
    }


async def sent_again(way: Way, api: str, directory: Path) -> None:
    """A dead letter from its lease to its end, in a process that has sent one before."""
    from ingestd.config import find_login, load
    from ingestd.core.clock import SystemClock
    from ingestd.store.letter_changes import LetterChanges
    from ingestd.wiring.pipeline import open_pipeline

    overrides = overrides_for(api, directory)
    await letters_of(api, directory, overrides, MORE[-1])
    settings, clock = load(None, overrides), SystemClock()
    async with open_pipeline(
        settings,
        find_login(settings),
        directory / "state",
        clock=clock,
        warn=print,
        requested_letters_only=True,
    ) as pipeline:
        (runner,) = pipeline.runners
        lane = asyncio.ensure_future(runner.lane.run())

        async def send(number: int) -> None:
            await runner.worker.run(once=True)
            while not lane.done() and pipeline.ledger.retried_delivered < number:  # noqa: ASYNC110
                await asyncio.sleep(0)

        with LetterChanges.open(directory / "state") as changes:
            changes.request([1], now=clock.wall())
            await send(1)
            for number in MORE:
                changes.request([number], now=clock.wall())
                with way.watched():
                    await send(number)
        runner.lane.close()
        await lane
    assert pipeline.ledger.retried_delivered == MORE[-1]


async def retried(way: Way, api: str, directory: Path) -> None:
    """The whole of ``dlq retry`` for one letter, from the settings to the summary."""
    from ingestd.app.letters import retry
    from ingestd.store.dead_letters import Filter

    overrides = overrides_for(api, directory)
    await letters_of(api, directory, overrides, 1)

    def command() -> Any:
        with way.watched():
            return retry.retry(
                Filter(ids=(1,), state="all"),
                overrides,
                config_file=None,
                payload=None,
                dry_run=False,
                warn=print,
            )

    result = await asyncio.to_thread(command)  # it has an event loop of its own
    assert result.delivered == 1, result


KINDS = {"replay": replayed, "post": posted, "letter": sent_again, "command": retried}


def trace(kind: str, api: str) -> Way:
    """Follow one event; ``kind``: one of KINDS."""
    way = Way()
    with tempfile.TemporaryDirectory() as place:
        way.install()
        asyncio.run(KINDS[kind](way, api, Path(place)))
        sys.setprofile(None)
        threading.setprofile(None)
    return way


def main(kinds: list[str], *, with_files: bool) -> None:
    with sandbox() as api:
        for kind in kinds:
            found = trace(kind, api)
            assert "opentelemetry" not in sys.modules, "traces are off: nothing of them is imported"
            rooms = Counter(name.partition("/")[0] for name in found.files)
            if with_files:
                print(*sorted(found.files), sep="\n", file=sys.stderr)
            told = {"files": len(found.files), "calls": found.calls, "rooms": dict(sorted(rooms.items()))}
            print(json.dumps(told))


if __name__ == "__main__":
    main([word for word in sys.argv[1:] if word != "--files"], with_files="--files" in sys.argv)
