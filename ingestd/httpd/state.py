"""What the connections of one server share: limits, who is connected, counts. Made by ``server.py``."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from ingestd.httpd.request import Application, KnownHeads, ServerLimits
from ingestd.httpd.response import Response, date_line

OnRefusedHead = Callable[[str, int, str], None]
"""(address of the client, status that it gets or 0, why): what it sent is not a request, or it may not
connect."""


def nobody_asks(address: str, status: int, why: str) -> None:
    """Refusals are told to their clients only."""


class Connected(Protocol):
    """A connection as its server sees it."""

    def enforce_deadline(self, now_s: float) -> None:
        """End the connection if its client was too slow; ``now_s``: monotonic."""
        ...

    def close_if_idle(self, for_s: float) -> None:
        """Close it if no request has come for ``for_s`` and none is open."""
        ...

    def abort(self) -> None:
        """Close at once."""
        ...


@dataclass(slots=True, eq=False)
class ServerState:
    application: Application
    limits: ServerLimits
    refused: OnRefusedHead = nobody_asks
    connections: set[Connected] = field(default_factory=set)
    connections_total: int = 0
    refused_connections: int = 0
    requests_by_status: dict[int, int] = field(default_factory=dict)
    """Bounded: only the statuses that are sent."""
    buffered_bytes: int = 0
    """Of all bodies and of what was read ahead."""
    date: bytes = field(default_factory=date_line)
    heads: KnownHeads = field(init=False)
    last: tuple[Response | None, bytes, bytes] = (None, b"", b"")
    """The last response that said nothing of its connection, its date, and both encoded."""
    draining: bool = False
    """Nothing more is accepted, and every answer is its connection's last."""
    past_last_call: bool = False
    """No connection waits for a request any more."""
    emptied: asyncio.Event | None = None
    """Set when the last connection goes, for those who wait for it."""

    def __post_init__(self) -> None:
        self.change_limits(self.limits)

    def change_limits(self, limits: ServerLimits) -> None:
        self.limits, self.heads = limits, KnownHeads(limits.max_headers)

    def leave(self, connection: Connected) -> None:
        self.connections.discard(connection)
        if self.emptied is not None and not self.connections:
            self.emptied.set()
