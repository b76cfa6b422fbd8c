"""The nats-server of ``spool.workers`` for a command: that of `ingestd run`, or while nothing runs one of its
own for as long as the command takes.
"""

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep

from ingestd.app.cluster.children import fork
from ingestd.app.cluster.local_server import (
    InUse,
    LocalServer,
    directory_of,
    find_program,
    on_this_machine,
    what_is_missing,
)
from ingestd.config import Settings
from ingestd.core.errors import UserError

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
        server.write_files()
        pid = fork(server.execute)
        try:
            _wait_for(server, pid)
            yield True
        finally:
            _end(pid)
    finally:
        server.close()


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
