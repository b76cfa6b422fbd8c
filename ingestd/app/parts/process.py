"""One process of a replay: it replays its part, and reports to the one that started it."""

import signal
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress

import msgspec

from ingestd.app.event_loop import run_loop
from ingestd.app.outside import Outside, open_signals
from ingestd.app.parts.reports import PartReport
from ingestd.app.replay import Replay, open_replay, run
from ingestd.app.replay_progress import progress_of
from ingestd.app.replay_report import make_report
from ingestd.config import Login, Settings
from ingestd.core.clock import Tasks
from ingestd.core.errors import UserError
from ingestd.core.redaction import redact
from ingestd.intake.part import Part

_EVERY_S = 0.25
_MOST_WARNINGS = 100
"""That wait to be reported; of more nobody reads all."""


class Reporter:
    """One line of JSON after the other. While the reader does not read, what is newer waits."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._unsent = b""
        self._warnings: list[str] = []
        connection.setblocking(False)

    def warn(self, message: str) -> None:
        if len(self._warnings) < _MOST_WARNINGS:
            self._warnings.append(redact(message))

    @asynccontextmanager
    async def showing(self, replay: Replay) -> AsyncIterator[None]:
        async with Tasks() as tasks:
            tasks.start_soon(self._report_often, replay)
            yield
            tasks.cancel()

    def end(self, replay: Replay) -> None:
        error = replay.error
        last = _report_of(replay, with_sources=True)
        last.damage, last.undelivered, last.ended = replay.damage, replay.undelivered, True
        last.hints = replay.hints
        last.error, last.error_code = (str(error), error.exit_code) if error else ("", 0)
        self._send_last(last)

    def fail(self, error: UserError) -> None:
        """It could not begin, or could not end."""
        self._send_last(PartReport(error=redact(str(error)), error_code=error.exit_code, ended=True))

    async def _report_often(self, replay: Replay) -> None:
        while True:
            if not self._unsent:
                self._unsent = self._line(_report_of(replay, with_sources=False))
            with suppress(BlockingIOError):  # who reads it is held up itself
                self._unsent = self._unsent[self._connection.send(self._unsent) :]
            await replay.pipeline.clock.sleep(_EVERY_S)

    def _send_last(self, report: PartReport) -> None:
        self._connection.setblocking(True)
        self._connection.sendall(self._unsent + self._line(report))

    def _line(self, report: PartReport) -> bytes:
        report.warnings, self._warnings = self._warnings, []
        return msgspec.json.encode(report) + b"\n"


def _report_of(replay: Replay, *, with_sources: bool) -> PartReport:
    """``with_sources``: there may be thousands."""
    report = make_report(replay)
    if not with_sources:
        report["sources"] = []
    return PartReport(progress_of(replay), report)


def run_part(
    settings: Settings,
    login: Login | None,
    sources: Sequence[str],
    part: Part,
    connection: socket.socket,
    *,
    from_start: bool,
) -> int:
    """The exit code."""
    reporter = Reporter(connection)

    async def session() -> Replay:
        async with open_replay(
            settings,
            login,
            sources,
            from_start=from_start,
            part=part,
            warn=reporter.warn,
            outside=Outside(signals=first_signal),
        ) as replay:
            _refuse_own_order(replay)
            async with reporter.showing(replay):
                await run(replay, warn=reporter.warn)
            return replay

    try:
        replay = run_loop(session)
    except UserError as error:
        reporter.fail(error)
        return error.exit_code
    reporter.end(replay)
    return replay.exit_code


@contextmanager
def first_signal(*numbers: signal.Signals) -> Iterator[AsyncIterator[signal.Signals]]:
    """A service manager may signal every process, and then the one that started this passes its own on: that
    is no second wish. What ends at once is that one, and the kernel this."""
    with open_signals(*numbers) as signals:

        async def first() -> AsyncIterator[signal.Signals]:
            yield await anext(signals)
            async for _ in signals:
                pass

        yield first()


def _refuse_own_order(replay: Replay) -> None:
    """An order that an API wants, and that is not the one by which events are split. Raises UserError."""
    is_split_by_order = replay.part is not None and replay.part.order_of is not None
    for runner in replay.pipeline.runners:
        asked_for = getattr(replay.pipeline.settings.sinks.get(runner.name), "order_by", None)
        if not is_split_by_order and asked_for is None and hasattr(runner.sink, "order_key"):
            raise UserError(
                f"sinks.{runner.name} keeps an order of its own: with --workers say by which paths in"
                f" delivery.order_by, or give it up with sinks.{runner.name}.order_by = ''"
            )
