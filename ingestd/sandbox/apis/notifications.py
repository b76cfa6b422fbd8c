"""``/api/v2/notifications/…``: channels, their subscriptions, and the WebSocket that each has.

Joined to its routes by ``sandbox/remote_apis.py``. Source: ``NotificationsApi`` of the platform's SDK (269),
models ``Channel``, ``ChannelTopic``, ``AvailableTopic``; limits as Genesys documents them.
"""

import asyncio
import json
import re
import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec
from aiohttp import WSMsgType, web

from ingestd.core.clock import Clock
from ingestd.core.units import rfc3339
from ingestd.sandbox.access import AccessControl, check_form
from ingestd.sandbox.contract import Reply, RequestRefused
from ingestd.sandbox.exchange import Exchange

PATH = "/api/v2/notifications"
SOCKET_PATH = "/channels/{id:[^/]+}"
MAX_CHANNELS = 20
"""Of a client and user; one more ends the oldest, first of those without a WebSocket."""
MAX_TOPICS = 1_000
LIFE_S = 86_400.0
HEARTBEAT_S = 30.0
_UUID = "{id}"
TOPICS = {
    "v2.users.{id}.presence": "A user's presence",
    "v2.users.{id}.routingStatus": "A user's routing status",
    "v2.users.{id}.conversations": "A user's conversations",
    "v2.routing.queues.{id}.conversations": "Conversations of a queue",
    "v2.routing.queues.{id}.users": "Members of a queue",
    "v2.detail.events.conversation.{id}.user.start": "A user joined a conversation",
    "v2.detail.events.conversation.{id}.acw": "After-call work of a conversation",
    "v2.operations.events.{id}": "Operational events",
}
"""Some of the real ones. Any topic of that form can be subscribed to."""
_TOPIC = re.compile(r"v2(\.[A-Za-z0-9_:?&{}-]+){2,12}", re.ASCII)


class _Topic(msgspec.Struct):
    id: str


@dataclass(eq=False)
class _Channel:
    id: str
    expires_at: float
    topics: dict[str, None] = field(default_factory=dict)
    socket: web.WebSocketResponse | None = None


class Notifications:
    def __init__(
        self, gate: AccessControl, clock: Clock, *, max_body_bytes: int, heartbeat_s: float = HEARTBEAT_S
    ) -> None:
        self._gate = gate
        self._clock = clock
        self._max_body_bytes = max_body_bytes
        self._heartbeat_s = heartbeat_s
        self._channels: dict[str, _Channel] = {}  # the oldest first
        self.deaf = False

    def reset(self) -> None:
        for channel in self._channels.values():
            self._end(channel)
        self._channels.clear()
        self.deaf = False

    def routes(self) -> Sequence[tuple[str, str, Callable[[Exchange], Awaitable[Reply]]]]:
        subscriptions = f"{PATH}/channels/{{id}}/subscriptions"
        return [
            ("POST", f"{PATH}/channels", self._guarded(self._create)),
            ("GET", f"{PATH}/channels", self._guarded(self._list)),
            ("GET", f"{PATH}/availabletopics", self._guarded(self._available)),
            ("GET", subscriptions, self._guarded(self._subscriptions)),
            ("PUT", subscriptions, self._guarded(self._subscribe)),
            ("POST", subscriptions, self._guarded(self._subscribe)),
            ("DELETE", subscriptions, self._guarded(self._unsubscribe)),
        ]

    # --- what a test, or a person, does to it ---

    @property
    def shown(self) -> list[dict[str, Any]]:
        """By channel: its topics, and whether somebody listens."""
        return [
            {"id": one.id, "topics": [*one.topics], "connected": one.socket is not None}
            for one in self._channels.values()
        ]

    async def emit(self, message: dict[str, Any]) -> int:
        """An event to all that subscribed to its ``topicName``; how many got it."""
        message.setdefault("version", "2")
        message.setdefault("metadata", {"CorrelationId": str(uuid.uuid4())})
        text, sent = json.dumps(message), 0
        for channel in [*self._channels.values()]:
            if channel.socket and message.get("topicName") in channel.topics:
                await channel.socket.send_str(text)
                sent += 1
        return sent

    async def announce_closing(self) -> int:
        """Each WebSocket is told that it will be closed, as before maintenance."""
        body = {"message": "The websocket will be closed in 60 seconds"}
        announcement = {"topicName": "v2.system.socket_closing", "version": "2", "eventBody": body}
        sockets = [one.socket for one in self._channels.values() if one.socket]
        for socket in sockets:
            await socket.send_str(json.dumps(announcement))
        return len(sockets)

    def cut(self) -> int:
        """All connections end without a word."""
        there = [one for one in self._channels.values() if one.socket]
        for channel in there:
            self._end(channel)
        return len(there)

    # --- the WebSocket ---

    async def stream(self, request: web.Request) -> web.StreamResponse:
        channel = self._channels.get(request.match_info["id"])
        if channel is None or self._clock.monotonic() >= channel.expires_at or self.deaf:
            raise web.HTTPNotFound
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self._end(channel)  # a second one ends the first
        channel.socket = socket
        beating = asyncio.create_task(self._beat(socket))
        try:
            async for message in socket:
                if message.type is WSMsgType.TEXT and _is_ping(message.data):
                    await socket.send_str(_metadata("pong"))
        finally:
            beating.cancel()
            if channel.socket is socket:
                channel.socket = None
        return socket

    async def _beat(self, socket: web.WebSocketResponse) -> None:
        while not socket.closed:
            await self._clock.sleep(self._heartbeat_s)
            await socket.send_str(_metadata("WebSocket Heartbeat"))

    def _end(self, channel: _Channel) -> None:
        socket, channel.socket = channel.socket, None
        if socket and (transport := socket._req and socket._req.transport):  # noqa: SLF001 - no goodbye
            transport.abort()

    # --- requests ---

    def _guarded(self, handle: Callable[[Exchange], Reply]) -> Callable[[Exchange], Awaitable[Reply]]:
        async def answer(exchange: Exchange) -> Reply:
            if exchange.body:
                check_form(exchange, max_body_bytes=self._max_body_bytes)
            await self._gate.wait(exchange.order)
            return handle(exchange)

        async def endpoint(exchange: Exchange) -> Reply:
            return await self._gate.with_token(exchange, answer)

        return endpoint

    def _create(self, exchange: Exchange) -> Reply:
        if len(self._channels) >= MAX_CHANNELS:
            oldest = min(self._channels.values(), key=lambda one: one.socket is not None)
            self._end(self._channels.pop(oldest.id))
        channel = _Channel(f"streaming-0-{uuid.uuid4().hex}", self._clock.monotonic() + LIFE_S)
        self._channels[channel.id] = channel
        return _json(self._shown(exchange, channel))

    def _list(self, exchange: Exchange) -> Reply:
        return _json({"entities": [self._shown(exchange, one) for one in self._channels.values()]})

    def _shown(self, exchange: Exchange, channel: _Channel) -> dict[str, Any]:
        expires = self._clock.wall() + channel.expires_at - self._clock.monotonic()
        return {
            "connectUri": f"{exchange.origin.replace('http', 'ws', 1)}/channels/{channel.id}",
            "id": channel.id,
            "expires": rfc3339(expires, "milliseconds"),
        }

    def _available(self, exchange: Exchange) -> Reply:
        topics = [
            {"id": topic, "description": words, "enforced": True, "visible": True, "transports": ["All"]}
            for topic, words in TOPICS.items()
        ]
        return _json({"entities": topics})

    def _subscriptions(self, exchange: Exchange) -> Reply:
        return self._listed(self._find(exchange))

    def _subscribe(self, exchange: Exchange) -> Reply:
        """PUT replaces them, POST adds. The channel lives on for a day."""
        channel = self._find(exchange)
        try:
            sent = [one.id for one in msgspec.json.decode(exchange.body, type=list[_Topic])]
        except (msgspec.DecodeError, RecursionError):
            raise RequestRefused(exchange.error(400, "bad.request", 'expected [{"id": "v2.…"}]')) from None
        if wrong := [one for one in sent if not _TOPIC.fullmatch(one)]:
            raise RequestRefused(
                exchange.error(400, "notifications.invalid.topic", f"invalid topic {wrong[0][:100]}")
            )
        topics = dict.fromkeys([*(channel.topics if exchange.method == "POST" else ()), *sent])
        if len(topics) > MAX_TOPICS:
            message = f"a channel has at most {MAX_TOPICS} topics"
            raise RequestRefused(exchange.error(400, "notifications.max.topics", message))
        channel.topics, channel.expires_at = topics, self._clock.monotonic() + LIFE_S
        return self._listed(channel)

    def _unsubscribe(self, exchange: Exchange) -> Reply:
        self._find(exchange).topics = {}
        return Reply(200, b"")

    def _find(self, exchange: Exchange) -> _Channel:
        channel = self._channels.get(exchange.params["id"])
        if channel is None or self._clock.monotonic() >= channel.expires_at:
            raise RequestRefused(exchange.error(404, "not.found", "there is no such channel"))
        return channel

    @staticmethod
    def _listed(channel: _Channel) -> Reply:
        return _json({"entities": [{"id": topic, "state": "Permitted"} for topic in channel.topics]})


def _is_ping(text: str) -> bool:
    try:
        return bool(json.loads(text) == {"message": "ping"})
    except ValueError:
        return False


def _metadata(words: str) -> str:
    return json.dumps({"topicName": "channel.metadata", "eventBody": {"message": words}})


def _json(content: dict[str, Any]) -> Reply:
    return Reply(200, msgspec.json.encode(content))
