"""The commands as processes, the API they send to, and files for them to send."""

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from tests.machine import patience
from tests.receiver import Action, Receiver, Reply, Request

INGEST = "/api/v2/events/ingest"
DEADLINE_S = patience(60.0)
TOKEN = b'{"access_token": "CANARY-token-a1b2", "expires_in": 3600}'
COMMAND = (sys.executable, "-W", "error", "-m", "ingestd")

Answering = Callable[[Request], Action | Awaitable[Action]]


def event(number: int, *, kind: str = "queue", note: str = "") -> bytes:
    """A valid interaction event, in a spelling that no serialiser of ours would choose."""
    return (
        f'{{ "eventType":"routing.interaction.{kind}", "eventTime":"2026-01-01T09:00:00Z",'
        f'"interactionId":"i-{number:06}",'
        '"routingMetadata":{"queueId":"q\\u00e9", "skill":"s","actionType":"QUEUE"},'
        f'"attributes":{{"zeta":1.50,"note":"{note}"}}, "schemaVersion":1 }}'
    ).encode()


def events(count: int, *, first: int = 0, note: str = "") -> list[bytes]:
    return [event(number, note=note) for number in range(first, first + count)]


INVALID = b'{"eventType":"x","eventTime":"yesterday","interactionId":"bad","schemaVersion":9}'


def write(path: Path, lines: Sequence[bytes]) -> Path:
    """NDJSON, packed if the name says so."""
    data = b"".join(line + b"\n" for line in lines)
    path.write_bytes(gzip.compress(data, mtime=0) if path.suffix == ".gz" else data)
    return path


# --- the API ---


class _Body(msgspec.Struct):
    events: list[msgspec.Raw]


class EventApi(Receiver):
    """Takes batches at ``INGEST``, hands out tokens at ``/oauth/token``; ``ingest`` scripts the answers."""

    def __init__(self, ingest: Answering | None = None, *, token: Answering | None = None) -> None:
        self.ingest = ingest or (lambda request: Reply())
        self.token = token or (lambda request: Reply(body=TOKEN))
        super().__init__(lambda r: self.ingest(r) if r.path == INGEST else self.token(r))

    @property
    def batches(self) -> list[Request]:
        """Requests with events, in the order of their arrival."""
        return [request for request in self.requests if request.path == INGEST]

    @property
    def events(self) -> list[bytes]:
        """The bytes of every event that came in, as often as it came."""
        return [one for request in self.batches for one in events_of(request)]

    @property
    def keys(self) -> list[str]:
        return [key(request) for request in self.batches]


def events_of(request: Request) -> list[bytes]:
    body = msgspec.json.decode(request.body, type=_Body)
    found = [bytes(raw) for raw in body.events]
    assert request.body == b'{"events":[' + b",".join(found) + b"]}"
    return found


def key(request: Request) -> str:
    assert request.headers["idempotency-key"] == request.headers["x-request-id"]
    return request.headers["idempotency-key"]


def once_each(requests: Sequence[Request]) -> dict[str, list[bytes]]:
    """Key -> events. Fails if one key came with two different bodies, or an event under two keys."""
    bodies: dict[str, str] = {}
    found: dict[str, list[bytes]] = {}
    owner: dict[bytes, str] = {}
    for request in requests:
        name, digest = key(request), hashlib.sha256(request.body).hexdigest()
        assert bodies.setdefault(name, digest) == digest, f"another body under the key {name}"
        found[name] = events_of(request)
        for one in found[name]:
            assert owner.setdefault(one, name) == name, f"{one!r} went out under two keys"
    return found


# --- the commands ---


@dataclass(frozen=True, slots=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def said(self) -> list[str]:
        return self.err.splitlines()


def send(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Not by ``Process.send_signal``: it may reap one that has just ended, whose code is lost then."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


class Running:
    """A command that was started."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self._output = asyncio.ensure_future(process.communicate())

    @property
    def over(self) -> bool:
        return self.process.returncode is not None

    def send(self, number: signal.Signals) -> None:
        send(self.process, number)

    async def finish(self) -> Finished:
        """Wait for its end; no command may leave a traceback, whatever happens to it."""
        out, err = await asyncio.wait_for(asyncio.shield(self._output), DEADLINE_S)
        assert self.process.returncode is not None
        finished = Finished(self.process.returncode, out.decode(), err.decode())
        assert "Traceback" not in finished.err, finished.err
        assert "Exception ignored" not in finished.err, finished.err
        return finished

    async def kill(self) -> Finished:
        """kill -9, or what it came to before."""
        self.send(signal.SIGKILL)
        return await self.finish()


class Place:
    """A directory with everything that one installation of the command has."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.state = directory / "state"
        self.report_file = directory / "report.json"
        self.env: dict[str, str] = {}

    def __truediv__(self, name: str) -> Path:
        return self.directory / name

    @property
    def report(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.report_file.read_text())
        return found

    def audit(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.state / "audit.jsonl").read_text().splitlines()]

    def letters(self) -> list[dict[str, Any]]:
        with contextlib.closing(sqlite3.connect(self.state / "state.db")) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute("SELECT * FROM letters ORDER BY id")]

    def change_state(self, sql: str) -> None:
        """Turn the clock for a stored thing, while no process uses the directory."""
        with contextlib.closing(sqlite3.connect(self.state / "state.db")) as connection, connection:
            connection.execute(sql)

    @asynccontextmanager
    async def start(
        self, *arguments: object, env: Mapping[str, str] | None = None, stdin: int | None = None
    ) -> AsyncIterator[Running]:
        """A command as a process; on leaving it is over, one way or the other."""
        kept = {
            name: value for name, value in os.environ.items() if not name.startswith(("INGESTD_", "GENESYS_"))
        }
        given = {"XDG_STATE_HOME": str(self.directory / "xdg"), **self.env, **(env or {})}
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *map(str, arguments),
            env={**kept, **given},
            stdin=asyncio.subprocess.DEVNULL if stdin is None else stdin,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        running = Running(process)
        try:
            yield running
        finally:
            if not running.over:
                running.send(signal.SIGKILL)
            await running._output

    async def run(
        self, *arguments: object, env: Mapping[str, str] | None = None, given: bytes | None = None
    ) -> Finished:
        """A command from start to end, with ``given`` on its standard input."""
        if given is None:
            async with self.start(*arguments, env=env) as running:
                return await running.finish()
        (self / "stdin").write_bytes(given)
        with (self / "stdin").open("rb") as stdin:
            async with self.start(*arguments, env=env, stdin=stdin.fileno()) as running:
                return await running.finish()

    def replay(self, api: Receiver, *arguments: object) -> list[object]:
        """The words of a replay without login, with a report."""
        return [
            *("replay", *arguments, "--api", api.url, "--no-auth"),
            *("--state-dir", self.state, "--report", self.report_file),
        ]

    def dlq(self, name: str, *arguments: object) -> list[object]:
        return ["dlq", name, *arguments, "--state-dir", self.state]


def assert_balanced(report: Mapping[str, Any]) -> None:
    ends = ("delivered", "duplicate", "rejected", "dead_lettered", "in_flight")
    assert report["accepted"] == sum(report[name] for name in ends), report


async def until(condition: Callable[[], bool], *, timeout_s: float = DEADLINE_S) -> None:
    """For what nothing can be awaited on: a file that another process writes."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
