"""The nats-server of ``spool.workers`` for a command: that of `ingestd run`, or while nothing runs one of its
own for as long as the command takes.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic, sleep

from ingestd.app.cluster.children import end_with, fork
from ingestd.app.cluster.local_server import (
    FileOwner,
    InUse,
    LocalServer,
    directory_of,
    find_program,
    on_this_machine,
    what_is_missing,
)
from ingestd.config import Settings
from ingestd.core.errors import UserError
from ingestd.sources.broker.source import BrokerAway

_TRIES = 3
"""Children of one that was killed are about to end."""
_STARTS_S, _ENDS_S = 30.0, 10.0
_TURN_S = 0.01


@contextmanager
def server_at_hand(settings: Settings) -> Iterator[bool]:
    """Whether nothing runs, so that nobody sends anything; then the server has ended when this does. An
    `ingestd run` that starts meanwhile waits a moment for the directory. Raises UserError."""
    if not settings.spool.workers:
        yield False
        return
    on_this_machine(settings)
    try:
        server = LocalServer(directory_of(settings), find_program() or "", tries=_TRIES)
    except InUse:
        yield False
        return
    try:
        if missing := what_is_missing(settings):
            raise UserError(missing)
        owner = server.last_owner() if os.geteuid() == 0 else None
        server.write_files(owner)
        pid = fork(partial(_execute, server, owner))
        try:
            _wait_for(server, pid)
            yield True
        finally:
            _end(pid)
    finally:
        server.close()


@contextmanager
def at_hand(settings: Settings) -> Iterator[None]:
    """As ``server_at_hand``, for commands that do the same whether anything runs or not. Raises UserError."""
    with server_at_hand(settings), with_restart_advice(settings):
        yield


@contextmanager
def while_it_runs(settings: Settings, instead: str) -> Iterator[None]:
    """For commands that mean nothing while nothing runs; ``instead``: what to do then. Raises UserError."""
    if nothing_runs(settings):
        raise UserError(f"nothing runs here: {instead}")
    with with_restart_advice(settings):
        yield


@contextmanager
def with_restart_advice(settings: Settings) -> Iterator[None]:
    """What to do about a server out of reach that somebody else keeps running. Raises UserError."""
    try:
        yield
    except BrokerAway as error:
        if not settings.spool.workers:
            raise
        raise UserError(f"{error}; `ingestd run` starts its server again: try it again") from None


def nothing_runs(settings: Settings) -> bool:
    """Whether the server would have to be started. False where others run it. Raises UserError."""
    if not settings.spool.workers:
        return False
    on_this_machine(settings)
    try:
        LocalServer(directory_of(settings), "", tries=_TRIES).close()
    except InUse:
        return False
    return True


def _execute(server: LocalServer, owner: FileOwner | None) -> int:
    """What root looks at stays the service's, which has to read it afterwards."""
    if owner and owner.user:
        parent = os.getppid()
        os.setgroups([])
        os.setgid(owner.group)
        os.setuid(owner.user)
        end_with(parent)  # the kernel forgets it when the user changes: prctl(2)
    return server.execute()


def _wait_for(server: LocalServer, pid: int) -> None:
    until = monotonic() + _STARTS_S
    while not server.answers():
        ended, _ = os.waitpid(pid, os.WNOHANG)
        if ended or monotonic() > until:
            raise UserError(f"nats-server does not start: {server.last_words() or 'it says nothing'}")
        sleep(_TURN_S)


def _end(pid: int) -> None:
    until = monotonic() + _ENDS_S
    with suppress(ChildProcessError, ProcessLookupError):  # it has ended before
        os.kill(pid, signal.SIGTERM)
        while not os.waitpid(pid, os.WNOHANG)[0]:
            if monotonic() > until:
                os.kill(pid, signal.SIGKILL)
            sleep(_TURN_S)
