"""The listening sockets: opened, accepted from, closed. Called by ``server.py``."""

import asyncio
import errno
import logging
import resource
import socket
from collections.abc import Callable

from ingestd.core.address import write_listen
from ingestd.core.errors import UserError

logger = logging.getLogger(__name__)

BACKLOG = 2048
ACCEPTS_AT_ONCE = 64
"""Of one socket, before the connections have their turn."""
PAUSE_S = 0.25
"""Without a free file descriptor accepting fails at once and would be tried at once again."""
SPARE_FILES = 128
"""File descriptors that connections leave to the stores, the API and the logs."""

_WORDS = {
    errno.EADDRINUSE: "something else listens there; stop it or choose another port",
    errno.EADDRNOTAVAIL: "this machine does not have that address; give one of its own, or 0.0.0.0 for all",
    errno.EACCES: "this user may not use that port; choose one from 1024 on",
}
_NO_IPV6 = frozenset({errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL})
_PASSING = frozenset({errno.ECONNABORTED, errno.EPROTO, errno.EPERM, errno.ETIMEDOUT, errno.ENETDOWN})


async def open_sockets(
    host: str, port: int, *, shared: bool = False, listens: bool = True
) -> list[socket.socket]:
    """Listen on every address that ``host`` stands for; port 0: any, the same on all. ``shared``: other
    processes of this user that say so listen there as well; each gets a part of the connections. ``listens``:
    or only has the address, for ``hold``: connections are refused, which is better than to reset them later.
    Raises UserError."""
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise UserError(f"cannot listen on {write_listen(host, port)}: {reason}; give an address") from None
    sockets: list[socket.socket] = []
    for family, _, _, _, address in dict.fromkeys(found):
        try:
            place = (address[0], port, *address[2:])
            sockets.append(_listen(family, place, shared=shared, listens=listens))
        except OSError as error:
            if family == socket.AF_INET6 and len(found) > 1 and error.errno in _NO_IPV6:
                continue  # localhost is ::1 as well, also where there is no IPv6
            close_all(sockets)
            words = _WORDS.get(error.errno or 0, error.strerror or str(error))
            raise UserError(f"cannot listen on {write_listen(host, port)}: {words}") from None
        port = port or sockets[0].getsockname()[1]
    return sockets


def _listen(family: int, address: tuple[str | int, ...], *, shared: bool, listens: bool) -> socket.socket:
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        if shared:
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listening.bind(address)
        if listens:
            listening.listen(BACKLOG)
        listening.setblocking(False)
    except OSError:
        listening.close()
        raise
    return listening


def hold(alone: socket.socket) -> socket.socket:
    """The address of a socket that has it alone, for processes that will share it: bound, not listening."""
    address = alone.getsockname()
    alone.close()
    held = socket.socket(alone.family, socket.SOCK_STREAM)
    try:
        for option in (socket.SO_REUSEPORT, socket.SO_REUSEADDR):
            held.setsockopt(socket.SOL_SOCKET, option, 1)
        if alone.family == socket.AF_INET6:
            held.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        held.bind(address)
        # it was for connections of an earlier service, which fade away there; now it would let any program
        # listen there that says so, too, while none of us does
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        held.close()
        raise
    return held


def close_all(sockets: list[socket.socket]) -> None:
    for each in sockets:
        each.close()


def fit_to_file_limit(max_connections: int) -> int:
    """Raise the limit of open files as far as this process may; the connections that then fit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max_connections + SPARE_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return max_connections
    fit = max(1, soft - SPARE_FILES)
    logger.warning("max_connections is %d, but the limit of open files allows for %d", max_connections, fit)
    return fit


class Listener:
    """Accepts from ``sockets`` until closed. ``take`` gets each accepted socket and the client's address."""

    def __init__(self, sockets: list[socket.socket], take: Callable[[socket.socket, str], None]) -> None:
        self._sockets = sockets
        self._take = take
        self._loop = asyncio.get_running_loop()
        self._pauses: dict[socket.socket, asyncio.TimerHandle] = {}
        for each in sockets:
            self._resume(each)

    def close(self) -> None:
        """Take what is connected already, and no more: to close on those would be to reset them."""
        for each in self._sockets:
            self._accept(each, BACKLOG)
            self._loop.remove_reader(each)
        for pause in self._pauses.values():
            pause.cancel()
        close_all(self._sockets)
        self._sockets, self._pauses = [], {}

    def _resume(self, listening: socket.socket) -> None:
        self._pauses.pop(listening, None)
        self._loop.add_reader(listening, self._accept, listening)

    def _accept(self, listening: socket.socket, most: int = ACCEPTS_AT_ONCE) -> None:
        for _ in range(most):
            try:
                accepted, address = listening.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in _PASSING:
                    self._pause(listening, error)
                    return
                continue
            self._take(accepted, str(address[0]))

    def _pause(self, listening: socket.socket, error: OSError) -> None:
        """EMFILE, ENFILE, ENOBUFS, ENOMEM: clients wait in the backlog until there is room again."""
        logger.warning("cannot accept connections for now: %s", error.strerror or error)
        self._loop.remove_reader(listening)
        self._pauses[listening] = self._loop.call_later(PAUSE_S, self._resume, listening)
