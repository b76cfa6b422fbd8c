"""``ingestd run`` with spool.workers: a nats-server, edges, workers and the admin address, each a process.

The supervisor has one thread and no event loop: it forks, waits for signals, and starts again what died. It
shuts down in order: edges stop taking, workers finish what is on its way, then the server, then the admin
address. When it is killed the kernel kills all others.
"""

import asyncio
import gc
import os
import signal
import socket
from collections.abc import Callable
from functools import partial
from pathlib import Path

from ingestd.app import early_signals
from ingestd.app.cluster import overview
from ingestd.app.cluster import spool as streams
from ingestd.app.cluster.board import Board
from ingestd.app.cluster.children import SIGNALS, Child, Children, fork
from ingestd.app.cluster.kept_counts import KeptCounts
from ingestd.app.cluster.local_server import LocalServer, directory_of, find_program, what_is_missing
from ingestd.app.cluster.local_server import with_server as derive
from ingestd.app.cluster.run import EXIT_SECOND_SIGNAL, serve_on_nats
from ingestd.app.cluster.service import Handed
from ingestd.app.reload import LIVE_IN_CLUSTER, cold_changes
from ingestd.app.service_parts import Load
from ingestd.cluster.limits import check_edge, check_worker
from ingestd.config import Settings, check_run
from ingestd.core.address import parse_listen, write_listen
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.httpd.listener import close_all, hold, open_sockets
from ingestd.telemetry import log
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.telemetry.audit_file import AuditLog
from ingestd.telemetry.systemd import Systemd
from ingestd.wiring.factories import open_audit, sections_of

EXIT_GAVE_UP = 1
_FIXED = ("spool.", "admin.", "state.", "ingest.listen", "schema.", "delivery.order_by")
_FIXED_SECTIONS = ("spool", "admin", "state", "schema_")
"""What the streams, the addresses and the server hang on."""
_TURN_S = 0.5
_QUICK_TURN_S = 0.02
_SERVER_STARTS_S = 30.0
_EDGES_END_S, _GRACE_S = 12.0, 5.0
"""An edge waits twice for at most 5 s; beyond its own time each process has a little more."""


def supervise(load: Load, settings: Settings) -> int:
    """Until a signal; the exit code. Raises UserError for what could not even begin."""
    if missing := what_is_missing(settings):
        raise UserError(missing)
    check_run(settings)
    check_edge(settings)
    check_worker(settings)
    log.configure(settings.log.format, settings.log.level)
    program = find_program()
    assert program
    server = LocalServer(directory_of(settings), program)
    if (older := server.directory.parent / "state.db").exists():
        _warn_of(older)
    server.write_files()
    admin = asyncio.run(open_sockets(*parse_listen(settings.admin.listen)))
    alone = asyncio.run(open_sockets(*parse_listen(settings.ingest.listen), listens=False))
    ingest = [hold(one) for one in alone]
    audit = open_audit(settings.audit, server.directory.parent)
    return Supervisor(load, settings, server, ingest, admin, audit).run()


def _warn_of(file: Path) -> None:
    log.warning(f"{file} is not read with spool.workers: what waits there is delivered without that setting")


class Supervisor:
    """``ingest``: sockets that hold the address of the edges; ``admin``: that listen."""

    def __init__(
        self,
        load: Load,
        settings: Settings,
        server: LocalServer,
        ingest: list[socket.socket],
        admin: list[socket.socket],
        audit: AuditLog,
    ) -> None:
        self._settings = settings
        self._server = server
        self._ingest, self._admin = ingest, admin
        self._clock = SystemClock()
        self._systemd = Systemd()
        self._audit = audit
        os.environ.pop("NOTIFY_SOCKET", None)  # children say nothing to systemd
        count = settings.spool.workers
        self._board = Board(2 + 2 * count)
        self._children = children = Children(self._board, self._clock, audit)
        self._broker = children.add("nats-server", "broker", server.execute)
        inner = self._inner(settings)
        self._load, self._before = load, settings
        self._init = partial(_init, inner)
        for kind in ("edge", "worker"):
            for number in range(1, count + 1):
                child = children.add(f"{kind}-{number}", kind, _nothing)
                child.work = self._work_of(child, settings, inner)
        shown = [overview.ShownProcess(child.name, child.kind, child.place) for child in children.all]
        shown.append(overview.ShownProcess("admin", "admin", len(shown)))
        serve = partial(overview.serve, admin, self._board, shown, load, settings, KeptCounts())
        children.add("admin", "admin", serve)
        self._ready = False

    def _inner(self, settings: Settings) -> Settings:
        """As the children have them."""
        inner = derive(settings, self._server.port, self._server.token)
        admin = settings.admin.model_copy(update={"listen": "127.0.0.1:0"})
        host, _ = parse_listen(settings.ingest.listen)
        listen = write_listen(host, self._ingest[0].getsockname()[1])
        shared = settings.ingest.model_copy(update={"listen": listen})
        return inner.model_copy(update={"admin": admin, "ingest": shared})

    def _work_of(self, child: Child, settings: Settings, inner: Settings) -> Callable[[], int]:
        handed = Handed(partial(self._board.opened, child.place), settings)
        edge, worker = child.kind == "edge", child.kind == "worker"
        return partial(serve_on_nats, self._load, inner, edge=edge, worker=worker, handed=handed)

    def _reload(self) -> None:
        """Edges and workers read again what can change while they run; where more has changed each is started
        again, one after the other."""
        try:
            new = self._load()
            check_run(new)
            check_edge(new)
            check_worker(new)
        except UserError as error:
            log.error(f"the configuration stays as it was: {error}")
            self._audit(AuditEntry.CONFIGURATION_READ, error=str(error))
            return
        cold = cold_changes(self._settings, new, LIVE_IN_CLUSTER)
        if fixed := [name for name in cold if name.startswith(_FIXED)]:
            log.warning(f"changed, but only a restart of all takes it over: {', '.join(fixed)}")
            kept: dict[str, object] = {name: getattr(self._settings, name) for name in _FIXED_SECTIONS}
            order_by = {"order_by": self._settings.delivery.order_by}
            new = new.model_copy(update=kept | {"delivery": new.delivery.model_copy(update=order_by)})
        log.set_level(new.log.level)
        self._audit(AuditEntry.CONFIGURATION_READ, changed=", ".join(cold) or None)
        self._before = self._settings
        self._change(new)
        if len(cold) > len(fixed):
            log.info("edges and workers are started again, one after the other", changed=", ".join(cold))
            self._children.roll("worker", "edge")
        else:
            self._children.pass_on(signal.SIGHUP, "edge", "worker")

    def _change(self, settings: Settings) -> None:
        """What is started from now on has these."""
        inner = self._inner(settings)
        for child in self._children.of("edge", "worker"):
            child.work = self._work_of(child, settings, inner)
        self._settings = settings

    def _go_back(self, refused: Child) -> None:
        """One of the children does not start with the new configuration; the others still have the old."""
        why = "a process does not start with it"
        log.error(f"the configuration stays as it was: {why}", process=refused.name)
        self._audit(AuditEntry.CONFIGURATION_READ, error=why, process=refused.name)
        self._children.refused = None
        self._children.roll()
        self._change(self._before)

    def run(self) -> int:
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        early_signals.give_back_interrupt()
        gc.collect()
        gc.freeze()  # a collection in a child would copy what it shares with the others
        started = self._clock.monotonic()
        self._board.beat(started)
        try:
            code = self._start()
            while code is None:
                code = self._turn(started)
            return code
        finally:
            self._children.send_signal(signal.SIGKILL, "edge", "worker", "broker", "admin")
            self._audit.close()
            close_all([*self._ingest, *self._admin])
            self._server.close()

    def _start(self) -> int | None:
        """The server, the streams, then all others. An exit code: it failed, or a signal came."""
        children = self._children
        children.start(children.of("admin")[0])
        children.start(self._broker)
        end = self._clock.monotonic() + _SERVER_STARTS_S
        while not self._server.answers():
            ended, _ = os.waitpid(self._broker.pid, os.WNOHANG)
            if ended or self._clock.monotonic() > end:
                self._broker.pid = 0 if ended else self._broker.pid
                raise UserError(
                    f"nats-server does not start: {self._server.last_words() or 'it says nothing'}"
                )
            if self._signal(_QUICK_TURN_S) not in (None, signal.SIGHUP):
                return self._drain("signal")
        self._board.opened(self._broker.place, self._server.port)
        _, status = os.waitpid(fork(self._init), 0)
        if code := os.waitstatus_to_exitcode(status):
            return abs(code)
        for child in children.of("edge", "worker"):
            children.start(child)
        return None

    def _turn(self, started: float) -> int | None:
        children = self._children
        wait_s = children.soonest_s(_TURN_S if self._ready else _QUICK_TURN_S)
        number = self._signal(wait_s)
        now = self._clock.monotonic()
        self._board.beat(now)
        self._systemd.alive()
        log.flush()
        self._audit.flush()
        if number == signal.SIGHUP:
            self._reload()
        elif number:
            return self._drain(number.name)
        children.reap()
        if children.given_up or (not self._ready and children.last_code == UserError.exit_code):
            name = children.given_up.name if children.given_up else "a process"
            log.error("ends, since one of its processes cannot stay alive", process=name)
            self._drain("given up")
            return children.last_code if children.last_code > 0 else EXIT_GAVE_UP
        if children.refused:
            self._go_back(children.refused)
        children.start_due()
        children.roll_on()
        if self._broker.pid and not children.is_open(self._broker) and self._server.answers():
            self._board.opened(self._broker.place, self._server.port)
        if not self._ready and children.all_open("edge", "worker"):
            self._ready = True
            self._log_ready(now - started)
        return None

    def _log_ready(self, took_s: float) -> None:
        shown = {
            name: write_listen(parse_listen(listen)[0], sockets[0].getsockname()[1])
            for name, listen, sockets in (
                ("ingest", self._settings.ingest.listen, self._ingest),
                ("admin", self._settings.admin.listen, self._admin),
            )
        }
        count = self._settings.spool.workers
        log.info("ready", edges=count, workers=count, seconds=round(took_s, 2), **shown)
        sinks = ", ".join(sections_of(self._settings))
        self._audit(AuditEntry.RUN_STARTED, sources=shown["ingest"], sinks=sinks, edges=count, workers=count)
        self._systemd.ready()
        self._systemd.status(f"{count} edges and {count} workers")

    def _drain(self, why: str) -> int:
        """In order, each in its time; a second signal ends all at once."""
        timeout_s = self._settings.delivery.shutdown_timeout
        self._systemd.stopping()
        log.info("shutting down all processes", signal=why, timeout_seconds=timeout_s)
        close_all(self._ingest)
        for kind, most_s in (
            ("edge", min(_EDGES_END_S, 2 * timeout_s + 1.0)),
            ("worker", timeout_s + _GRACE_S),
            ("broker", _GRACE_S),
            ("admin", _GRACE_S),
        ):
            if not self._end(kind, most_s):
                log.warning("forced shutdown, acknowledged events are in the spool")
                return EXIT_SECOND_SIGNAL
        log.info("all processes stopped")
        self._audit(AuditEntry.RUN_FINISHED, why=why)
        return 0

    def _end(self, kind: str, most_s: float) -> bool:
        """False: there was another signal."""
        children = self._children
        children.send_signal(signal.SIGTERM, kind)
        end = self._clock.monotonic() + most_s
        while children.alive(kind):
            number = self._signal(_TURN_S)
            if number not in (None, signal.SIGHUP):
                return False
            now = self._clock.monotonic()
            self._board.beat(now)
            self._systemd.alive()
            children.reap()
            children.start_due()
            if now > end:
                _warn_late(children.alive(kind))
                children.send_signal(signal.SIGKILL, kind)
                end = now + _GRACE_S
        return True

    def _signal(self, timeout_s: float) -> signal.Signals | None:
        """One that came within this time and is not that of a child."""
        info = signal.sigtimedwait(SIGNALS, timeout_s)
        if info is None or info.si_signo == signal.SIGCHLD:
            return None
        return signal.Signals(info.si_signo)


def _warn_late(late: list[Child]) -> None:
    names = ", ".join(child.name for child in late)
    log.warning("a process did not end in its time and is killed; what it had is in the spool", process=names)


def _nothing() -> int:
    return 0


def _init(settings: Settings) -> int:
    if streams.init(settings):
        log.info("streams of the spool made", spool=settings.spool.name)
    return 0
