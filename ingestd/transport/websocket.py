"""WebSockets to a server, through aiohttp, with our authorities and limits."""

# isort: split
from ingestd.transport import late_authorities as late_authorities  # before aiohttp

# isort: split
from types import TracebackType

import aiohttp

from ingestd.core.clock import Clock
from ingestd.transport.tls import watch_tls
from ingestd.transport.watched_file import Watch

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
_CLOSE_S = 2.0


class WebSocketLost(Exception):
    """It is not there, or not any more. In words without its address, which may be a secret."""


class WebSocket:
    def __init__(self, inner: aiohttp.ClientWebSocketResponse) -> None:
        self._inner = inner

    async def receive(self) -> str:
        """The next message. Raises WebSocketLost."""
        message = await self._inner.receive()
        if message.type is aiohttp.WSMsgType.TEXT:
            return str(message.data)
        if message.type is aiohttp.WSMsgType.BINARY:
            return bytes(message.data).decode("utf-8", "replace")
        raise WebSocketLost(f"it was closed ({self._inner.close_code})")

    async def send(self, text: str) -> None:
        """A text message. Raises WebSocketLost."""
        try:
            await self._inner.send_str(text)
        except (aiohttp.ClientError, OSError):
            raise WebSocketLost("it is lost") from None

    async def close(self) -> None:
        await self._inner.close()


class WebSocketClient:
    """An async context manager."""

    def __init__(self, *, ca_file: str | None, trust_env: bool, clock: Clock) -> None:
        self._tls = watch_tls(ca_file, None, trust_env=trust_env, watch=Watch(), clock=clock)
        self._trust_env = trust_env
        self._http: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> "WebSocketClient":
        self._http = aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar(), trust_env=self._trust_env)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._http:
            await self._http.close()

    async def connect(self, url: str) -> WebSocket:
        """Raises WebSocketLost."""
        assert self._http
        self._tls.look_now_and_then()
        try:
            return WebSocket(
                await self._http.ws_connect(
                    url,
                    ssl=self._tls.get(),
                    max_msg_size=MAX_MESSAGE_BYTES,
                    timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
                )
            )
        except aiohttp.WSServerHandshakeError as error:
            raise WebSocketLost(f"the server answered {error.status}") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            raise WebSocketLost(f"cannot connect ({type(error).__name__})") from None
