"""The HTTP server of the ingest address: connections taken in, slow ones swept out, an end in good order.

Started by the service with an Application (``endpoint.py``) behind it.
"""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial

from ingestd.httpd.connection import Connection
from ingestd.httpd.listener import Listener, fit_to_file_limit, open_sockets
from ingestd.httpd.request import Application, ServerLimits
from ingestd.httpd.response import date_line
from ingestd.httpd.state import OnRefusedHead, ServerState, nobody_asks
from ingestd.httpd.tls import Certificates, handshake_words

logger = logging.getLogger(__name__)

_ABORT_S = 1.0


class Server:
    """Counts are plain numbers, read by the metrics."""

    def __init__(self, state: ServerState, *, certificates: Certificates | None = None) -> None:
        self._state = state
        self._certificates = certificates
        self._listener: Listener | None = None
        self._entering: set[asyncio.Task[None]] = set()
        self._max_connections = fit_to_file_limit(state.limits.max_connections)
        self.port = 0
        """The one in use, also where 0 was asked for."""
        self.failed_handshakes = 0

    @property
    def connections(self) -> int:
        """At the moment, handshakes included."""
        return len(self._state.connections)

    @property
    def connections_total(self) -> int:
        return self._state.connections_total

    @property
    def refused_connections(self) -> int:
        """Because there were too many."""
        return self._state.refused_connections

    @property
    def requests_by_status(self) -> Mapping[int, int]:
        return self._state.requests_by_status

    @property
    def buffered_bytes(self) -> int:
        """Of bodies and of what was read ahead."""
        return self._state.buffered_bytes

    def change_limits(self, limits: ServerLimits) -> None:
        """From now on, for all connections."""
        self._max_connections = fit_to_file_limit(limits.max_connections)
        self._state.change_limits(limits)

    def listen(self, sockets: list[socket.socket]) -> None:
        self.port = sockets[0].getsockname()[1]
        self._listener = Listener(sockets, self._take)

    async def drain(self, timeout_s: float) -> int:
        """Accept nothing more, let open requests have their answers (with ``Connection: close``), close idle
        connections, those that were used just now a moment later; after ``timeout_s`` cut what is left. Gives
        how many were cut."""
        self.stop_listening()
        last_call_s = min(timeout_s, self._state.limits.last_call_s)
        self._close_idle(for_s=last_call_s)
        await self._until_empty(last_call_s)
        self._state.past_last_call = True
        self._close_idle(for_s=0.0)
        await self._until_empty(timeout_s - last_call_s)
        cut = len(self._state.connections)
        await self.abort()
        return cut

    def stop_listening(self) -> None:
        """Accept nothing more; from now on every answer is its connection's last."""
        self._state.draining = True
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def abort(self) -> None:
        """Cut every connection. Its requests are ``gone``."""
        self.stop_listening()
        entering = list(self._entering)
        for task in entering:
            task.cancel()
        await asyncio.gather(*entering, return_exceptions=True)
        for connection in list(self._state.connections):
            connection.abort()
        await self._until_empty(_ABORT_S)

    async def sweep(self) -> None:
        """Every ``sweep_s``: cut off slow clients, renew the Date. Runs until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            self._state.date = date_line()
            self._sweep_once(loop.time())
            await asyncio.sleep(self._state.limits.sweep_s)

    def _sweep_once(self, now_s: float) -> None:
        # Not in ``sweep``: its frame would hold the last connection for as long as no other comes.
        for connection in list(self._state.connections):
            try:
                connection.enforce_deadline(now_s)
            except Exception:  # one connection's fault must not end the sweeping of all others
                logger.exception("a connection's deadline could not be enforced")
                connection.abort()

    def _close_idle(self, *, for_s: float) -> None:
        for connection in list(self._state.connections):
            connection.close_if_idle(for_s)

    async def _until_empty(self, timeout_s: float) -> None:
        if self._state.connections:
            emptied = self._state.emptied = asyncio.Event()
            with suppress(TimeoutError):
                await asyncio.wait_for(emptied.wait(), timeout_s)

    def _take(self, accepted: socket.socket, peer: str) -> None:
        state = self._state
        state.connections_total += 1
        above = len(state.connections) + 1 - self._max_connections
        if above > 0:
            state.refused_connections += 1
        if above > state.limits.max_surplus:
            accepted.close()
            return
        accepted.setblocking(False)
        accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(state, peer, surplus=above > 0)
        task = asyncio.create_task(self._enter(connection, accepted))
        self._entering.add(task)
        task.add_done_callback(partial(self._entered, connection, accepted))

    async def _enter(self, connection: Connection, accepted: socket.socket) -> None:
        """Make it a transport; over TLS that is the handshake."""
        certificates = self._certificates
        await asyncio.get_running_loop().connect_accepted_socket(
            lambda: connection,
            accepted,
            ssl=certificates.context if certificates else None,
            ssl_handshake_timeout=self._state.limits.head_timeout_s if certificates else None,
        )

    def _entered(self, connection: Connection, accepted: socket.socket, task: asyncio.Task[None]) -> None:
        self._entering.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is None and not task.cancelled():
            return
        # mostly a client without TLS, without the right certificate, or gone
        self.failed_handshakes += 1
        if words := handshake_words(error):
            self._state.refused(connection.peer, 0, words)
        accepted.close()
        connection.connection_lost(None)
        if error is not None and not isinstance(error, OSError):  # ssl.SSLError is one
            logger.error("a connection could not be taken", exc_info=error)


@asynccontextmanager
async def serve(
    application: Application,
    limits: ServerLimits,
    host: str,
    port: int,
    *,
    certificates: Certificates | None = None,
    refused: OnRefusedHead = nobody_asks,
    shared: bool = False,
) -> AsyncIterator[Server]:
    """Serve until left; what is still connected then is cut, so ``drain`` first. ``refused`` is called with
    what cannot be a request; ``shared``: other processes listen there, too.

    Raises UserError when it cannot listen there.
    """
    sockets = await open_sockets(host, port, shared=shared)
    server = Server(ServerState(application, limits, refused), certificates=certificates)
    server.listen(sockets)
    sweeper = asyncio.create_task(server.sweep(), name="sweep of the ingest connections")
    try:
        yield server
    finally:
        sweeper.cancel()
        with suppress(asyncio.CancelledError):
            await sweeper
        await server.abort()
