"""How a replay looks while it runs: a bar on a terminal, a line every few seconds elsewhere."""

import sys
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol

import anyio
import click

from ingestd.app.replay import Replay
from ingestd.app.replay_report import make_report
from ingestd.core.redaction import redact
from ingestd.core.units import counted, human_seconds

_LINE_EVERY_S = 5.0
_WARN_EVERY_S = 2.0


class Display(Protocol):
    def warn(self, message: str) -> None: ...
    def showing(self, replay: Replay) -> AbstractAsyncContextManager[None]: ...
    def summary(self, replay: Replay) -> None: ...


def open_display(*, quiet: bool) -> Display:
    if quiet:
        return Quiet()
    return Bar() if sys.stderr.isatty() else Plain()


class Quiet:
    """Warnings only, and the same one not more often than every two seconds."""

    def __init__(self) -> None:
        self._said: dict[str, float] = {}
        self._kept_back = 0

    def warn(self, message: str) -> None:
        message = redact(message)
        kind, now = message.split(":", 1)[0], time.monotonic()
        if now - self._said.get(kind, -1e9) < _WARN_EVERY_S:
            self._kept_back += 1
            return
        if len(self._said) > 100:
            self._said.clear()
        self._said[kind] = now
        more = f" ({self._kept_back} like it were not shown)" if self._kept_back else ""
        self._kept_back = 0
        self._print(f"ingestd: {message}{more}")

    def _print(self, line: str) -> None:
        click.echo(line, err=True)

    @asynccontextmanager
    async def showing(self, replay: Replay) -> AsyncIterator[None]:
        del replay
        yield

    def summary(self, replay: Replay) -> None:
        """What became of every event, in the ledger's words."""
        report = make_report(replay)
        width = len(f"{report['accepted']:,}")
        rows = ["accepted", "delivered", "duplicate", "rejected", "dead_lettered", "in_flight"]
        for name in rows + ["unmatched"] * bool(report["unmatched"]):
            sign = " " if name == "accepted" else "=" if name == "delivered" else "+"
            click.echo(f"  {sign} {name:14}{report[name]:>{width},}")
        click.echo(
            f"{counted(report['requests'], 'request')} ({counted(report['retries'], 'retry', 'retries')}),"
            f" {report['bytes']:,} bytes,"
            f" {human_seconds(report['seconds'])}, {report['events_per_second']:,.0f} events/s"
        )
        self._tell_sinks(report["sinks"])
        if report["retried_delivered"]:
            click.echo(f"{report['retried_delivered']:,} dead letters of earlier runs were delivered")
        if report["retried_failed"]:
            click.echo(f"{report['retried_failed']:,} dead letters of earlier runs failed again")
        if report["retried_aside"]:
            click.echo(f"{report['retried_aside']:,} dead letters of earlier runs wait for a person now")
        if (replay.error or replay.interrupted) and replay.pipeline.database.path.exists():
            click.echo("run the same command again to continue; no events are lost")
        directory = replay.pipeline.database.path.parent
        if (report["rejected"] or report["dead_lettered"]) and directory.exists():
            click.echo(f"see the dead letters with: ingestd dlq list --state-dir {directory}")

    def _tell_sinks(self, sinks: dict[str, dict[str, Any]]) -> None:
        """One line for each, where there are several."""
        for name, one in sinks.items() if len(sinks) > 1 else ():
            trouble = f" ({one['error']})" if one["error"] else ""
            click.echo(
                f"{name}: {one['delivered']:,} of {one['routed']:,} delivered,"
                f" {one['dead_lettered']:,} dead letters, {one['in_flight']:,} in flight{trouble}"
            )


class Plain(Quiet):
    """A line every few seconds, for logs."""

    @asynccontextmanager
    async def showing(self, replay: Replay) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._tell, replay)
            yield
            tasks.cancel_scope.cancel()

    async def _tell(self, replay: Replay) -> None:
        meter = RateMeter(replay)
        while True:
            await anyio.sleep(_LINE_EVERY_S)
            self._print(f"ingestd: {meter.line()}")


class RateMeter:
    """Rates and counts since the last look."""

    def __init__(self, replay: Replay) -> None:
        self._replay = replay
        self._before = (time.monotonic(), 0)

    @property
    def total_bytes(self) -> int | None:
        sizes = [source.reader.size for source in self._replay.sources]
        return None if None in sizes else sum(size for size in sizes if size is not None)

    @property
    def bytes_read(self) -> int:
        return sum(source.reader.bytes_read for source in self._replay.sources)

    def rate(self) -> float:
        """Events accepted per second since the last call."""
        now, accepted = time.monotonic(), self._replay.pipeline.ledger.accepted
        (then, before), self._before = self._before, (now, accepted)
        return (accepted - before) / max(now - then, 1e-9)

    def counts(self) -> str:
        ledger = self._replay.pipeline.ledger
        return (
            f"{ledger.delivered:,} delivered, {ledger.duplicate:,} duplicates, {ledger.rejected:,} rejected,"
            f" {ledger.dead_lettered:,} dead letters, {ledger.in_flight:,} in flight"
        )

    def line(self) -> str:
        total = self.total_bytes
        share = f"{100 * self.bytes_read / total:.0f} % read, " if total else ""
        runners = self._replay.pipeline.runners
        states = [
            f"; {runner.name + ' ' if len(runners) > 1 else ''}{runner.lane.circuit.state}:"
            f" {redact(runner.lane.circuit.why)}"
            for runner in runners
            if runner.lane.circuit.state != "closed"
        ]
        state = "".join(states)
        return f"{share}{self.counts()}, {self.rate():,.0f} events/s{state}"


class Bar(Quiet):
    """A bar with bytes, rate, counts and time left."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console

        self._console = Console(stderr=True)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False)

    @asynccontextmanager
    async def showing(self, replay: Replay) -> AsyncIterator[None]:
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

        meter = RateMeter(replay)
        bar = Progress(
            BarColumn(bar_width=24),
            DownloadColumn(),
            TextColumn("{task.fields[rate]} events/s"),
            TimeRemainingColumn(),
            TextColumn("{task.description}"),
            console=self._console,
            auto_refresh=False,
            transient=True,
        )
        task = bar.add_task("", total=meter.total_bytes, rate="0")

        async def refresh() -> None:
            while True:
                await anyio.sleep(0.25)
                rate = f"{meter.rate():,.0f}"
                bar.update(task, completed=meter.bytes_read, description=meter.counts(), rate=rate)
                bar.refresh()

        with bar:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(refresh)
                yield
                tasks.cancel_scope.cancel()
