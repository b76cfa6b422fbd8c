"""The processes of a supervisor: forked, ended with it, started again with backoff when they die.

They are forked from a process with one thread that has imported everything and opened nothing, so they start
at once and share its memory.
"""

import ctypes
import logging
import os
import signal
from collections.abc import Callable

import msgspec

from ingestd.app.cluster.board import Board
from ingestd.core.backoff import Backoff
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.telemetry import log
from ingestd.telemetry.audit_entry import Audit, AuditEntry, no_audit

logger = logging.getLogger(__name__)

SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD})
"""Blocked in the supervisor, which waits for them; open in a child."""

BACKOFF = Backoff(0.1, 10.0)
STEADY_S = 30.0
"""Who lived so long begins again with the first backoff."""
MOST_DEATHS = 12
"""One after the other: then something is wrong that a new start of all may change."""
_PR_SET_PDEATHSIG = 1


class Child(msgspec.Struct, eq=False):
    """``work`` is what it does; its number is its exit code. ``place``: on the board."""

    name: str
    kind: str
    place: int
    work: Callable[[], int]
    pid: int = 0
    starts: int = 0
    deaths: int = 0
    """In a row."""
    started_s: float = 0.0
    due_s: float = 0.0
    """When it is started again."""
    leaving: bool = False
    """It was told to end: nobody starts it again."""
    renewed: bool = False
    """It was told to end, and is started again at once."""
    fresh: bool = False
    """It was started again, and is not open yet."""


class Children:
    """All of them; the numbers of who lives are on the board."""

    def __init__(self, board: Board, clock: Clock, audit: Audit = no_audit) -> None:
        self._audit = audit
        self.all: list[Child] = []
        self.given_up: Child | None = None
        self.last_code = 0
        """Of the last one that ended by itself."""
        self._board = board
        self._clock = clock
        self.refused: Child | None = None
        """It does not start with its new work."""
        self._rolling: list[Child] = []

    def add(self, name: str, kind: str, work: Callable[[], int]) -> Child:
        child = Child(name, kind, len(self.all), work)
        self.all.append(child)
        return child

    def of(self, *kinds: str) -> list[Child]:
        return [child for child in self.all if child.kind in kinds]

    def alive(self, *kinds: str) -> list[Child]:
        return [child for child in self.of(*kinds) if child.pid]

    def is_open(self, child: Child) -> bool:
        return bool(child.pid and self._board.read(child.place)[1])

    def all_open(self, *kinds: str) -> bool:
        """Whether every one of these lives and is open."""
        return all(map(self.is_open, self.of(*kinds)))

    def start(self, child: Child) -> None:
        child.starts += 1
        child.started_s = self._clock.monotonic()
        self._board.started(child.place, 0, child.starts)
        child.pid = fork(child.work)
        self._board.started(child.place, child.pid, child.starts)
        self._audit(AuditEntry.PROCESS_STARTED, process=child.name, pid=child.pid, start=child.starts)

    def start_due(self) -> None:
        now = self._clock.monotonic()
        for child in self.all:
            if not child.pid and not child.leaving and child.starts and now >= child.due_s:
                self.start(child)

    def soonest_s(self, most_s: float) -> float:
        """Until the next one is started again; at most so long."""
        now = self._clock.monotonic()
        due = [one.due_s - now for one in self.all if one.starts and not one.pid and not one.leaving]
        return max(0.0, min([most_s, *due]))

    def reap(self) -> None:
        """Note who has ended, and when it is started again."""
        for child in self.all:
            if child.pid:
                pid, status = os.waitpid(child.pid, os.WNOHANG)
                if pid:
                    self._ended(child, os.waitstatus_to_exitcode(status))

    def _ended(self, child: Child, code: int) -> None:
        child.pid = 0
        self._board.started(child.place, 0, child.starts)
        if child.leaving:
            return
        now = self._clock.monotonic()
        if child.renewed:
            child.renewed, child.fresh, child.due_s = False, True, now
            return
        if child.fresh and code == UserError.exit_code:
            self.refused = child
        child.deaths = 1 if now - child.started_s >= STEADY_S else child.deaths + 1
        pause_s = BACKOFF.ceiling(child.deaths)
        child.due_s = now + pause_s
        self.last_code = code
        if child.deaths >= MOST_DEATHS:
            self.given_up = child
        why = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        log.warning("a process ended and is started again", process=child.name, why=why, in_seconds=pause_s)
        self._audit(AuditEntry.PROCESS_ENDED, process=child.name, why=why, in_seconds=pause_s)

    def roll(self, *kinds: str) -> None:
        """All of these are started again, one after the other."""
        self._rolling = self.of(*kinds)

    def roll_on(self) -> None:
        """The next one, when the one before is open again: one that does not open stops it."""
        if not self._rolling or not self.all_open("edge", "worker"):
            return
        for one in self.all:
            one.fresh = False
        child = self._rolling.pop(0)
        child.renewed = True
        os.kill(child.pid, signal.SIGTERM)

    def pass_on(self, number: signal.Signals, *kinds: str) -> None:
        for child in self.alive(*kinds):
            os.kill(child.pid, number)

    def send_signal(self, number: signal.Signals, *kinds: str) -> None:
        """Those that live get a signal that ends them, and are not started again."""
        for child in self.of(*kinds):
            child.leaving = True
            if child.pid:
                os.kill(child.pid, number)


def fork(work: Callable[[], int]) -> int:
    """A child that does ``work``, exits with its number, and is killed when this process ends. Its id."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        end_with(parent)
        os.setpgid(0, 0)  # an interrupt of the terminal is for the supervisor
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        code = work()
    except UserError as error:
        log.error(str(error))
        code = error.exit_code
    except BaseException:  # nothing may get back into the code of the supervisor
        logger.exception("a process failed")
    finally:
        os._exit(code)


def end_with(parent: int) -> None:
    """prctl(2): the kernel kills this process when its parent is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # it was quicker
        os._exit(1)
