"""The process that starts those of the parts: it adds up what they report, and ends them.

It reads nothing of the input. When it is killed the kernel kills the others: their state directories are as
after any kill.
"""

import asyncio
import os
import signal
import socket
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

from ingestd.app.cluster.children import fork
from ingestd.app.early_signals import EXIT_TERMINATED
from ingestd.app.event_loop import run_loop
from ingestd.app.outside import open_signals
from ingestd.app.parts.process import run_part
from ingestd.app.parts.reports import PartReport, hints_of_all, progress_of_all, report_of_all
from ingestd.app.parts.settings import check_parts, order_by, parts_of, settings_of
from ingestd.app.replay import EXIT_INTERRUPTED, EXIT_OK, EXIT_UNDELIVERED
from ingestd.app.replay_progress import ReplayProgress
from ingestd.app.replay_report import ReplayOutcome
from ingestd.app.replay_target import warn_if_exposed
from ingestd.config import Settings, find_login, state_directory
from ingestd.core.clock import SystemClock, Tasks
from ingestd.core.errors import UserError
from ingestd.core.ledger import Ledger, MaxRejected
from ingestd.core.redaction import redact
from ingestd.intake.part import Part
from ingestd.schemas.key_paths import KeyPaths
from ingestd.store.lock import DirectoryLock
from ingestd.store.parts import begin

Warn = Callable[[str], None]
Showing = Callable[[Callable[[], ReplayProgress]], AbstractAsyncContextManager[None]]

EXIT_KILLED = 1
_SIGNALLED = (-signal.SIGTERM, -signal.SIGINT, EXIT_TERMINATED, EXIT_INTERRUPTED)
_MOST_BYTES = 64 * 1024 * 1024
"""Of one report: 100 bytes for each file that is read."""
_MOST_WARNINGS = 1000


class PartProcess(msgspec.Struct, eq=False):
    """``latest``: what it has reported last; ``pid``: 0 once it has ended."""

    name: str
    directory: Path
    connection: socket.socket
    pid: int
    latest: PartReport = msgspec.field(default_factory=PartReport)


def replay_in_parts(
    settings: Settings,
    sources: Sequence[str],
    count: int,
    *,
    from_start: bool,
    warn: Warn,
    showing: Showing,
) -> ReplayOutcome:
    """Raises UserError for what could not even begin."""
    check_parts(settings, sources, count)
    parts = parts_of(settings, sources, count)
    login = find_login(settings)
    warn_if_exposed(login, warn)
    directory = state_directory(settings, login)
    lock = DirectoryLock(directory)
    processes: list[PartProcess] = []
    paths = order_by(settings)
    order_of = KeyPaths.parse(paths).of if paths else None
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # may be ignored from the start: no end could be told then
    for number, own in enumerate(begin(directory, parts)):
        mine = settings_of(settings, number, count, own)
        work = partial(run_part, mine, login, sources, Part(number, count, order_of), from_start=from_start)
        processes.append(_start(f"part {number + 1} of {count}", own, work))
    replay = PartedReplay(processes, settings.source.max_rejected, warn)
    run_loop(partial(replay.run, showing))
    lock.release()
    return replay.outcome()


def _start(name: str, directory: Path, work: Callable[[socket.socket], int]) -> PartProcess:
    """Raises UserError; those that were started end with this process."""
    try:
        ours, its = socket.socketpair()
        with its:  # closed here, so that its end is seen when it ends
            try:
                pid = fork(lambda: work(its))
            except OSError:
                ours.close()
                raise
    except OSError as failure:
        error = UserError(f"cannot start the process of {name}: {failure.strerror}")
        error.exit_code = EXIT_KILLED
        raise error from None
    return PartProcess(name, directory, ours, pid)


class PartedReplay:
    """``max_rejected``: of all together."""

    def __init__(self, processes: Sequence[PartProcess], max_rejected: str, warn: Warn) -> None:
        self._processes = processes
        self._max_rejected = max_rejected
        self._warn = warn
        self._warned_by: dict[str, PartProcess] = {}
        self._clock = SystemClock()
        self._seconds = 0.0
        self._ending = self._interrupted = False
        self._error = ""
        self._error_code = 0

    def progress(self) -> ReplayProgress:
        return progress_of_all([one.latest for one in self._processes])

    async def run(self, showing: Showing) -> None:
        """Until all have ended."""
        started = self._clock.monotonic()
        async with Tasks() as tasks:
            tasks.start_soon(self._watch_signals)
            async with showing(self.progress), Tasks() as followed:
                for process in self._processes:
                    followed.start_soon(self._follow, process)
            tasks.cancel()
        self._seconds = self._clock.monotonic() - started

    async def _watch_signals(self) -> None:
        """The first drains all of them; the second ends at once, and the kernel ends the others."""
        with open_signals(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                if self._interrupted:
                    self._warn("forced shutdown")
                    os._exit(EXIT_INTERRUPTED)
                self._interrupted = True
                self._drain()

    async def _follow(self, process: PartProcess) -> None:
        reader, writer = await asyncio.open_unix_connection(sock=process.connection, limit=_MOST_BYTES)
        while (line := await reader.readline()).endswith(b"\n"):
            self._receive(process, msgspec.json.decode(line, type=PartReport))
        writer.close()
        pid, process.pid = process.pid, 0  # it is gone: nobody may signal its number any more
        _, status = await asyncio.to_thread(os.waitpid, pid, 0)
        latest, code = process.latest, os.waitstatus_to_exitcode(status)
        if latest.ended:
            alone = bool(latest.report and latest.report["interrupted"])
            if alone and not self._ending:  # somebody has signalled it, and no other
                self._interrupted = True
                self._drain()
            return
        if code in _SIGNALLED and not self._ending:  # before it could drain
            self._interrupted = True
        elif not self._ending:
            why = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            latest.error = f"{process.name} has ended by {why}: run the same command again to continue"
            latest.error_code = EXIT_KILLED
        self._drain()  # the others go no further alone

    def _receive(self, process: PartProcess, report: PartReport) -> None:
        if not report.report:  # it could not begin, or could not close what it had opened
            report.report, report.progress = process.latest.report, process.latest.progress
            self._drain()
        process.latest = report
        for warning in report.warnings:
            if len(self._warned_by) > _MOST_WARNINGS:
                self._warned_by.clear()
            if self._warned_by.setdefault(warning, process) is process:  # the others have found it, too
                self._warn(warning)
        progress = self.progress()
        # no process has seen more: one may have read what another, with most of the events, has not
        ledger = Ledger(accepted=progress.read, rejected=progress.rejected)
        limit = MaxRejected.parse(self._max_rejected)
        if self._max_rejected and not self._ending and limit.exceeded_by(ledger, at_end=False):
            self._fail(limit.error(ledger))

    def _fail(self, error: UserError) -> None:
        self._error, self._error_code = str(error), error.exit_code
        self._drain()

    def _drain(self) -> None:
        """Once: a second signal would end them without."""
        if not self._ending:
            self._ending = True
            for process in self._processes:
                if process.pid:
                    os.kill(process.pid, signal.SIGTERM)

    def outcome(self) -> ReplayOutcome:
        """Raises UserError where none could begin."""
        latest = [one.latest for one in self._processes]
        failed = [one for one in latest if one.error]
        if failed and not self._error:
            self._error, self._error_code = failed[0].error, failed[0].error_code
        reports = [one.report for one in latest if one.report]
        if not reports:
            error = UserError(self._error or "interrupted before it began")
            error.exit_code = self._error_code or EXIT_INTERRUPTED
            raise error
        report = report_of_all(reports, seconds=self._seconds)
        report["interrupted"] = self._interrupted
        report["error"] = redact(self._error) or None
        report["exit_code"] = self._exit_code(report)
        for hint in hints_of_all(latest):
            self._warn(hint)
        for watch in report.get("keys", ()):
            if watch["warning"]:
                self._warn(watch["warning"])
        with_letters = [
            one.directory
            for one in self._processes
            if one.latest.report and (one.latest.report["rejected"] or one.latest.report["dead_lettered"])
        ]
        damage = [*dict.fromkeys(text for one in latest for text in one.damage)]
        return ReplayOutcome(report, damage, with_letters, state_is_kept=True)

    def _exit_code(self, report: dict[str, Any]) -> int:
        if self._interrupted:
            return EXIT_INTERRUPTED
        if self._error:
            return self._error_code
        ledger = Ledger(accepted=report["accepted"], rejected=report["rejected"])
        lost = (
            MaxRejected.parse(self._max_rejected).exceeded_by(ledger),
            any(one.latest.undelivered for one in self._processes),
            any(0 < watch["events"] == watch["without_key"] for watch in report.get("keys", ())),
        )
        return EXIT_UNDELIVERED if any(lost) else EXIT_OK
