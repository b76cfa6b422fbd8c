"""One channel of the Notifications API: its subscriptions, and what comes through its WebSocket.

Source: ``NotificationsApi`` of the platform's SDK 269, models ``Channel`` and ``ChannelTopic``; and the guide
"Notifications" of developer.genesys.cloud: a heartbeat every 30 s, ``ping`` and ``pong``, a warning a minute
before a WebSocket is closed for maintenance.
"""

import json
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from hashlib import blake2b
from typing import Any, Protocol

import msgspec

from ingestd.core import redaction
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.sources.broker.source import BrokerAway
from ingestd.transport.websocket import WebSocket, WebSocketClient, WebSocketLost

PATH = "/api/v2/notifications/channels"
MAX_TOPICS, MAX_CHANNELS = 1_000, 20
"""Of a channel; of a client."""
SILENT_S = 45.0
"""Without a heartbeat for so long it is asked whether it is there, and has as long to answer."""
CONNECT_S = 20.0
_RECENT = 10_000


class ChannelApi(Protocol):
    """``transport.api_client``."""

    async def post(self, path: str, body: Any = None) -> Any:
        """The decoded JSON body of the answer. Raises ApiError."""
        ...

    async def put(self, path: str, body: Any) -> Any:
        """The decoded JSON body of the answer. Raises ApiError."""
        ...

    async def delete(self, path: str) -> None:
        """What is gone already is not an error. Raises ApiError."""
        ...


class Ended(StrEnum):
    """Why there is an end of a channel, or should be."""

    LOST = "the connection is lost"
    CLOSING = "Genesys closes it"
    OLD = "it is old"


class Notification(msgspec.Struct):
    topicName: str = ""  # noqa: N815 - as it is sent
    metadata: dict[str, Any] | None = None


Take = Callable[["Channel", str, Notification], Awaitable[None] | None]
_envelope = msgspec.json.Decoder(Notification).decode


class Channel:
    """``received_at``: wall time when it last said anything. ``recent``: digests of what came through it."""

    def __init__(self, api: ChannelApi, sockets: WebSocketClient, clock: Clock) -> None:
        self.received_at = clock.wall()
        self.opened_at = clock.monotonic()
        self.recent: OrderedDict[bytes, None] = OrderedDict()
        self.rejected: list[str] = []
        self._api = api
        self._sockets = sockets
        self._clock = clock
        self._socket: WebSocket | None = None
        self._id = ""

    async def open(self, topics: Sequence[str]) -> None:
        """Listens before it subscribes, so that nothing comes in between. Raises BrokerAway."""
        try:
            made = await self._api.post(PATH)
            self._id, uri = str(made["id"]), str(made["connectUri"])
            redaction.hide(uri, passing=True)  # who has it can listen
            redaction.hide(self._id, passing=True)
            async with self._clock.timeout(CONNECT_S):
                self._socket = await self._sockets.connect(uri)
            answer = await self._api.put(
                f"{PATH}/{self._id}/subscriptions", [{"id": topic} for topic in topics]
            )
        except (WebSocketLost, TimeoutError) as error:
            await self.close()
            raise BrokerAway(f"no WebSocket: {str(error) or 'it took too long'}") from None
        except (UserError, KeyError, TypeError) as error:
            await self.close()
            raise BrokerAway(f"no channel: {error}") from None
        self.rejected = [
            str(one.get("id"))
            for one in (answer or {}).get("entities") or ()
            if one.get("state") == "Rejected" or one.get("missingPermissions")
        ]
        self.received_at = self._clock.wall()
        if len(self.rejected) == len(topics):
            await self.close()
            raise BrokerAway(
                f"none of its topics is allowed, as {self.rejected[0][:200]}: give the client's role their"
                " permissions"
            )

    async def read(self, take: "Take", *, to_its_end: bool = False) -> Ended:
        """Until it is lost, or, unless ``to_its_end``, should be replaced. ``take`` is given each event, and
        an empty text for a heartbeat; what it gives back is waited for."""
        asked = False
        while True:
            text = await self._receive()
            if text is None:
                if asked or self._socket is None or not await self._ask():
                    return Ended.LOST
                asked = True
                continue
            asked = False
            self.received_at = self._clock.wall()
            try:
                envelope = _envelope(text)
            except (msgspec.DecodeError, RecursionError):
                envelope = Notification()  # it is not JSON: the schema says so
            if envelope.topicName == "channel.metadata":
                take(self, "", envelope)
            elif envelope.topicName == "v2.system.socket_closing":
                if not to_its_end:
                    return Ended.CLOSING
            elif wait := take(self, text, envelope):
                await wait

    def knows(self, digest: bytes) -> bool:
        return digest in self.recent

    def remember(self, digest: bytes) -> None:
        self.recent[digest] = None
        if len(self.recent) > _RECENT:
            self.recent.popitem(last=False)

    async def close(self, *, forget: bool = False) -> None:
        """``forget``: its subscriptions, too, so that it does not count for long."""
        socket, self._socket = self._socket, None
        if socket:
            await socket.close()
        if forget and self._id:
            try:
                await self._api.delete(f"{PATH}/{self._id}/subscriptions")
            except UserError:
                return  # it ends by itself

    async def _receive(self) -> str | None:
        """None: nothing came in time, or nothing will."""
        if self._socket is None:
            return None
        try:
            async with self._clock.timeout(SILENT_S):
                return await self._socket.receive()
        except TimeoutError:
            return None
        except WebSocketLost:
            self._socket = None
            return None

    async def _ask(self) -> bool:
        try:
            assert self._socket
            await self._socket.send(json.dumps({"message": "ping"}))
        except WebSocketLost:
            return False
        return True


def digest_of(text: str) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
