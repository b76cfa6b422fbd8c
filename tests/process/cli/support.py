"""The commands as processes, and what each leaves in its directory."""

import asyncio
import contextlib
import json
import os
import signal
import sqlite3
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner

from ingestd.cli.group import cli
from ingestd.core.errors import UserError
from tests.machine import patience
from tests.receiver import Receiver
from tests.warm import WarmProcess, warm

DEADLINE_S = patience(60.0)
COMMAND = (sys.executable, "-W", "error", "-m", "ingestd")


@dataclass(frozen=True, slots=True)
class Finished:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def said(self) -> list[str]:
        return self.err.splitlines()


def send(process: WarmProcess, number: signal.Signals) -> None:
    """Not by ``Process.send_signal``: it may reap one that has just ended, whose code is lost then."""
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


class Running:
    """A command that was started."""

    def __init__(self, process: WarmProcess) -> None:
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


def invoke(words: Sequence[object], *, given: str = "", env: Mapping[str, str] | None = None) -> Finished:
    """A command as ``main`` runs it, in this process: for those that start no loop of their own."""
    cleared = {name: None for name in os.environ if name.startswith(("INGESTD_", "GENESYS_"))}
    result = CliRunner().invoke(cli, [*map(str, words)], input=given, env={**cleared, **(env or {})})
    code, err = result.exit_code, result.stderr
    if isinstance(result.exception, UserError):
        code, err = result.exception.exit_code, f"{err}ingestd: {result.exception}\n"
    elif result.exception and not isinstance(result.exception, SystemExit | click.Abort):
        raise result.exception
    return Finished(code, result.stdout, err)


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
        process = await warm().start([*map(str, arguments)], env={**kept, **given}, stdin=stdin)
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

    def call(self, *arguments: object, given: str = "") -> Finished:
        """As ``run``, without a process: see ``invoke``."""
        return invoke(arguments, given=given, env=self.env)

    def replay(self, api: Receiver, *arguments: object) -> list[object]:
        """The words of a replay without login, with a report."""
        return [
            *("replay", *arguments, "--api", api.url, "--no-auth"),
            *("--state-dir", self.state, "--report", self.report_file),
        ]

    def dlq(self, name: str, *arguments: object) -> list[object]:
        return ["dlq", name, *arguments, "--state-dir", self.state]


async def until(condition: Callable[[], bool], *, timeout_s: float = DEADLINE_S) -> None:
    """For what nothing can be awaited on: a file that another process writes."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)
