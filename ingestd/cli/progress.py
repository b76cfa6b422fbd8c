"""How a replay looks while it runs: a bar on a terminal, a line every few seconds elsewhere."""

import asyncio
import sys
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import click

from ingestd.app.replay_progress import ReplayProgress
from ingestd.app.replay_report import ReplayOutcome
from ingestd.app.state_place import sandbox_directory
from ingestd.core.clock import Tasks
from ingestd.core.redaction import redact
from ingestd.core.text import cut
from ingestd.core.units import counted, human_seconds
from ingestd.telemetry.repeats import template

_LINE_EVERY_S = 5.0
_WARN_EVERY_S = 2.0
_PACE_S = 10.0
"""Of the time that is left the pace of so many seconds tells."""
_MOVES = 100
_STILL_S = 3.0
_LEAST_BAR, _MOST_BAR, _MOST_REASONS = 8, 24, 4


class Look(NamedTuple):
    """A replay at one moment. ``done_bytes``: of the events that are resolved; ``total_bytes``: None where it
    is not known. ``left_s``: None while nobody can say. ``reasons``: why sinks stand still."""

    done_bytes: float
    total_bytes: int | None
    events_per_second: float
    delivered: int
    duplicate: int
    rejected: int
    dead_lettered: int
    in_flight: int
    left_s: float | None
    reasons: list[str]

    @property
    def share(self) -> float:
        return min(1.0, self.done_bytes / self.total_bytes) if self.total_bytes else 0.0

    def counts(self, *, short: bool = False) -> str:
        """``short``: without what there is none of."""
        pairs = (
            (self.delivered, "delivered"),
            (self.duplicate, "duplicates"),
            (self.rejected, "rejected"),
            (self.dead_lettered, "dead letters"),
            (self.in_flight, "in flight"),
        )
        if short:
            return " · ".join(f"{_short(count)} {name}" for count, name in pairs if count)
        return ", ".join(f"{count:,} {name}" for count, name in pairs)


class Display(Protocol):
    def warn(self, message: str) -> None:
        """One line for a person, above the bar where there is one."""
        ...

    def showing(self, look: Callable[[], ReplayProgress]) -> AbstractAsyncContextManager[None]:
        """Shows the progress of a replay for as long as its block runs."""
        ...

    def summary(self, outcome: ReplayOutcome) -> None:
        """The ledger, and what to do next."""
        ...


def open_display(*, quiet: bool) -> Display:
    if quiet:
        return Quiet()
    return Bar() if sys.stderr.isatty() else Plain()


class Quiet:
    """Warnings only, and the same one not more often than every two seconds."""

    def __init__(self) -> None:
        self._warned_at: dict[str, float] = {}
        self._kept_back = 0

    def warn(self, message: str) -> None:
        message = redact(message)
        kind, now = template(message), time.monotonic()
        if now - self._warned_at.get(kind, -1e9) < _WARN_EVERY_S:
            self._kept_back += 1
            return
        if len(self._warned_at) > 100:
            self._warned_at.clear()
        self._warned_at[kind] = now
        more = f" ({self._kept_back} like it were not shown)" if self._kept_back else ""
        self._kept_back = 0
        self._print(f"ingestd: {message}{more}")

    def _print(self, line: str) -> None:
        click.echo(line, err=True)

    @asynccontextmanager
    async def showing(self, look: Callable[[], ReplayProgress]) -> AsyncIterator[None]:
        del look
        yield

    def summary(self, outcome: ReplayOutcome) -> None:
        """What became of every event, in the ledger's words."""
        report = outcome.report
        width = len(f"{report['accepted']:,}")
        rows = ["accepted", "delivered", "duplicate", "rejected", "dead_lettered", "in_flight"]
        for name in rows + [one for one in ("unmatched", "dropped") if report[one]]:
            sign = " " if name == "accepted" else "=" if name == "delivered" else "+"
            click.echo(f"  {sign} {name:14}{report[name]:>{width},}")
        click.echo(
            f"{counted(report['requests'], 'request')} ({counted(report['retries'], 'retry', 'retries')}),"
            f" {report['bytes']:,} bytes,"
            f" {human_seconds(report['seconds'])}, {report['events_per_second']:,.0f} events/s"
        )
        self._print_sinks(report["sinks"])
        if report["retried_delivered"]:
            click.echo(f"{report['retried_delivered']:,} dead letters of earlier runs were delivered")
        if report["retried_failed"]:
            click.echo(f"{report['retried_failed']:,} dead letters of earlier runs failed again")
        if report["retried_aside"]:
            click.echo(f"{report['retried_aside']:,} dead letters of earlier runs wait for a person now")
        if (report["error"] or report["interrupted"]) and outcome.state_is_kept:
            click.echo("run the same command again to continue; no events are lost")
        if report["rejected"] or report["dead_lettered"]:
            self._print_where_letters_are(outcome.with_letters)

    def _print_where_letters_are(self, directories: Sequence[Path]) -> None:
        from shlex import quote

        there = [directory for directory in directories if directory.exists()]
        for directory in there:
            click.echo(f"see the dead letters with: ingestd dlq list --state-dir {quote(str(directory))}")
        if there:
            return
        if sandbox_directory().exists():
            kept = "they stay until the next replay --sandbox"
            click.echo(f"see the dead letters with: ingestd dlq list --sandbox ({kept})")
        else:
            click.echo("the dead letters are gone: keep them with --state-dir DIR")

    def _print_sinks(self, sinks: dict[str, dict[str, Any]]) -> None:
        """One line for each, where there are several."""
        for name, one in sinks.items() if len(sinks) > 1 else ():
            error = f" ({one['error']})" if one["error"] else ""
            left_out = f" {one['dropped']:,} dropped," if one["dropped"] else ""
            click.echo(
                f"{name}: {one['delivered']:,} of {one['routed']:,} delivered,"
                f" {one['dead_lettered']:,} dead letters,{left_out} {one['in_flight']:,} in flight{error}"
            )


class Plain(Quiet):
    """A line every few seconds, for logs."""

    @asynccontextmanager
    async def showing(self, look: Callable[[], ReplayProgress]) -> AsyncIterator[None]:
        async with Tasks() as tasks:
            tasks.start_soon(self._print_lines, look)
            yield
            tasks.cancel()

    async def _print_lines(self, look: Callable[[], ReplayProgress]) -> None:
        meter = RateMeter(look)
        while True:
            await asyncio.sleep(_LINE_EVERY_S)
            self._print(f"ingestd: {meter.line()}")


class RateMeter:
    """Rates and counts since the last look. ``now``: monotonic."""

    def __init__(
        self, progress: Callable[[], ReplayProgress], now: Callable[[], float] = time.monotonic
    ) -> None:
        self._progress = progress
        self._now = now
        self._before = (now(), 0)
        self._moves: deque[tuple[float, float]] = deque([(now(), 0.0)], maxlen=_MOVES)
        self._moved_at = now()

    def look(self) -> Look:
        now, progress = self._now(), self._progress()
        (then, before), self._before = self._before, (now, progress.accepted)
        done, total = progress.done_bytes, progress.total_bytes
        if done > self._moves[-1][1]:
            self._moved_at = now
        self._moves.append((now, done))
        reasons = self._reasons(progress, now)
        return Look(
            done_bytes=done,
            total_bytes=total,
            events_per_second=(progress.accepted - before) / max(now - then, 1e-9),
            delivered=progress.delivered,
            duplicate=progress.duplicate,
            rejected=progress.rejected,
            dead_lettered=progress.dead_lettered,
            in_flight=progress.in_flight,
            left_s=None if reasons or not total else self._left_s(total - done, now),
            reasons=reasons,
        )

    def _left_s(self, left_bytes: float, now: float) -> float | None:
        """By the pace of the last seconds; None while there is none."""
        since, done = next(one for one in self._moves if now - one[0] <= _PACE_S)
        moved = self._moves[-1][1] - done
        return left_bytes * (now - since) / moved if moved > 0 and now > since else None

    def _reasons(self, progress: ReplayProgress, now: float) -> list[str]:
        """Why sinks stand still, or the whole replay does."""
        still_s, out = now - self._moved_at, progress.requests_out
        if not progress.reasons and out and still_s >= _STILL_S:
            return [f"no answer for {human_seconds(round(still_s))}, {counted(out, 'request')} out"]
        return [*progress.reasons]

    def line(self) -> str:
        look = self.look()
        share = "" if look.total_bytes is None else f"{look.share:.0%} done, ".replace("%", " %")
        state = "".join(f"; {reason}" for reason in look.reasons)
        return f"{share}{look.counts()}, {look.events_per_second:,.0f} events/s{state}"


class Bar(Quiet):
    """Two lines on a terminal: how far it is, and why it stands still."""

    def __init__(self) -> None:
        super().__init__()
        from rich.console import Console

        self._console = Console(stderr=True)

    def _print(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False)

    @asynccontextmanager
    async def showing(self, look: Callable[[], ReplayProgress]) -> AsyncIterator[None]:
        from rich.live import Live
        from rich.text import Text

        meter, console = RateMeter(look), self._console

        def render() -> Text:
            first, *others = bar_lines(meter.look(), console.width, plain=console.options.ascii_only)
            text = Text(first, no_wrap=True, overflow="crop")
            for line in others:
                text.append(f"\n{line}", style="yellow")
            return text

        async def refresh() -> None:
            while True:
                await asyncio.sleep(0.25)
                live.update(render(), refresh=True)

        with Live(Text(""), console=console, auto_refresh=False, transient=True) as live:
            async with Tasks() as tasks:
                tasks.start_soon(refresh)
                yield
                tasks.cancel()


def bar_lines(look: Look, width: int, *, plain: bool = False) -> list[str]:
    """The bar with its figures, then a line for each sink that stands still, none longer than ``width``."""
    for figures in _figures(look):
        room = width - 1 - len(figures)
        if room >= _LEAST_BAR:
            break
    size = min(_MOST_BAR, room) if look.total_bytes and room >= _LEAST_BAR else 0
    first = f"{_bar(look.share, size, plain=plain)} {figures}" if size else figures
    lines = [first, *(f"  {reason}" for reason in look.reasons[:_MOST_REASONS])]
    return [
        cut(line, width).encode("ascii", "replace").decode() if plain else cut(line, width) for line in lines
    ]


def _figures(look: Look) -> Iterator[str]:
    """Ever shorter: what is left out last is how far it is."""
    share = f"{100 * look.share:.0f} %" if look.total_bytes else f"{look.done_bytes / 1e6:,.1f} MB"
    left = "" if not look.total_bytes else "-:--:--" if look.left_s is None else _hms(look.left_s)
    pace, short_pace = f"{look.events_per_second:,.0f} events/s", f"{_short(look.events_per_second)}/s"
    size = f" of {look.total_bytes / 1e6:,.1f} MB" if look.total_bytes else ""
    yield "  ".join(filter(None, (share + size, left, pace, look.counts())))
    yield "  ".join(filter(None, (share, left, pace, look.counts(short=True))))
    fewer = look._replace(duplicate=0, in_flight=0)
    for counts in (
        look.counts(short=True),
        fewer.counts(short=True),
        f"{_short(look.delivered)} delivered",
    ):
        yield "  ".join(filter(None, (share, left, short_pace, counts)))
    yield "  ".join(filter(None, (share, left)))
    yield share


def _bar(share: float, size: int, *, plain: bool) -> str:
    done, half, rest = "#>." if plain else "━╸─"
    halves = round(2 * size * share)
    return (done * (halves // 2) + half * (halves % 2)).ljust(size, rest)


def _short(number: float) -> str:
    """12345 -> ``12.3k``."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= unit:
            value = number / unit
            return f"{value:.0f}{name}" if value >= 99.95 else f"{value:.1f}{name}"
    return f"{number:.0f}"


def _hms(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours < 100 else ">99 h"
