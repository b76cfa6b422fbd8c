"""A connection to NATS, and the requests to the API of JetStream. The only module that imports nats-py.

A connection ends with its first trouble, and its owner opens another: what a client does by itself to go on
is not needed where the consumer is reset anyway.
"""

import asyncio
import importlib
import json
import logging
import re
import ssl
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from ingestd.core import redaction
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.text import printable
from ingestd.sources.broker.source import BrokerAway, secret_of
from ingestd.sources.nats.settings import NatsLogin

CONNECT_S = 10.0
REQUEST_S = 5.0
_CLAIM_S = 1.0
MIN_VERSION = (2, 14)
"""Of the server: from there on a consumer can be reset to its first message without an acknowledgement."""
NOT_FOUND = (10059, 10014)
"""Error codes of JetStream: there is no such stream, no such consumer."""


_TASKS = ("_reading_task", "_ping_interval_task", "_flusher_task", "_reconnection_task")


class JetStreamError(Exception):
    """What JetStream answered."""

    def __init__(self, code: int, description: str) -> None:
        super().__init__(description)
        self.code = code


def _nats() -> Any:
    # what it logs it raises, too
    logging.getLogger("nats.aio.client").setLevel(logging.CRITICAL)
    try:
        return importlib.import_module("nats.aio.client")
    except ImportError:
        raise UserError("NATS needs nats-py: pip install 'ingestd[nats]'") from None


class NatsConnection:
    """``closed`` is called when the connection ended, on either side. ``echo``: it hears itself, too."""

    def __init__(
        self, settings: NatsLogin, clock: Clock, closed: Callable[[], None], *, echo: bool = True
    ) -> None:
        self._echo = echo
        self._settings = settings
        self._clock = clock
        self._closed = closed
        self._error = ""
        self._client = _nats().Client()
        self._gone = asyncio.Event()
        self._inboxes: dict[str, Any] = {}
        self._asked: dict[str, asyncio.Future[Any]] = {}  # by the subject of the answer
        self._answers = ""
        self._number = 0
        prefix = f"$JS.{settings.domain}.API" if settings.domain else "$JS.API"
        self.api_prefix = prefix

    async def open(self) -> None:
        """Raises BrokerAway, and UserError for what will not get better: files, a version."""
        options = self._options()
        try:
            async with self._clock.timeout(CONNECT_S):
                await self._client.connect(**options)
                self._answers = str(self._client.new_inbox())
                await self._client.subscribe(f"{self._answers}.*", cb=self._answered)
        except ImportError:
            raise UserError("NATS credentials need nkeys: pip install 'ingestd[nats]'") from None
        except UserError:
            await self.close()
            raise
        except (Exception, TimeoutError) as error:
            await self.close()
            # nats-py tells its callback what went wrong with a server, and in the end only that none is left
            raise BrokerAway(f"cannot connect to NATS at {self.shown}: {self._why(error)}") from None
        if self._settings.wants_tls and not self._is_tls():
            await self.close()
            raise BrokerAway(_plain(self.shown))
        if (version := self.version) < MIN_VERSION:
            await self.close()
            least, found = ".".join(map(str, MIN_VERSION)), ".".join(map(str, version))
            raise UserError(f"the NATS server at {self.shown} is {found}; it has to be {least} or newer")

    @property
    def shown(self) -> str:
        return ", ".join(self._settings.servers)

    @property
    def version(self) -> tuple[int, int]:
        version = self._client.connected_server_version
        return version.major, version.minor

    @property
    def max_payload(self) -> int:
        return int(self._client.max_payload)

    @property
    def is_open(self) -> bool:
        return bool(self._client.is_connected)

    async def close(self) -> None:
        try:
            async with self._clock.timeout(REQUEST_S):
                await self._client.close()
        except Exception as error:  # it is gone in any case
            self._error = str(error)
        self._sweep()
        self._lost()

    def _sweep(self) -> None:
        """nats-py (2.16) stops in the middle of its own closing when a connection dies with something yet to
        be written: its tasks and its socket would show in the log when they are collected."""
        if transport := getattr(self._client, "_transport", None):
            with suppress(Exception):
                transport.close()
        tasks = [getattr(self._client, name, None) for name in _TASKS]
        tasks += [getattr(one, "_wait_for_msgs_task", None) for one in [*self._client._subs.values()]]  # noqa: SLF001
        for task in filter(None, tasks):
            task.cancel()
            task.add_done_callback(_take_result)

    async def ask(self, what: str, body: Any = None) -> dict[str, Any]:
        """A request to JetStream; ``what``: as STREAM.INFO.ORDERS. Raises JetStreamError, BrokerAway."""
        data = json.dumps(body).encode() if body is not None else b""
        answer = json.loads(await self.request(f"{self.api_prefix}.{what}", data))
        if error := answer.get("error"):
            raise JetStreamError(int(error.get("err_code", 0)), printable(str(error.get("description", ""))))
        return dict(answer)

    async def request(self, subject: str, data: bytes) -> bytes:
        """Raises BrokerAway where nobody answers in time."""
        return await self._request(subject, data, None)

    async def append(self, subject: str, data: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        """Store a message in the stream of its subject; gives what the server says of it (``seq``,
        ``duplicate``). Raises JetStreamError; BrokerAway: it may be stored or not."""
        answer = json.loads(await self._request(subject, data, dict(headers)))
        if error := answer.get("error"):
            raise JetStreamError(int(error.get("err_code", 0)), printable(str(error.get("description", ""))))
        return dict(answer)

    async def _request(self, subject: str, data: bytes, headers: dict[str, str] | None) -> bytes:
        """A connection that ends meanwhile is not waited for until the time is over. Without the tasks that
        nats-py makes for each request: an edge makes one for each chunk."""
        self._number += 1
        reply = f"{self._answers}.{self._number}"
        answer = self._asked[reply] = asyncio.get_running_loop().create_future()
        answer.add_done_callback(_take_result)  # who waits for it may be cancelled
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        try:
            if self._gone.is_set():
                raise ConnectionError("it is closed")
            await self._client.publish(subject, data, reply=reply, headers=headers)
            if task and task.cancelling() > cancelled:  # nats-py takes that for nothing
                raise asyncio.CancelledError
            async with self._clock.timeout(REQUEST_S):
                found = await answer
            if not found.data and (found.headers or {}).get("Status") == "503":
                raise ConnectionError("no responders available for request")
            return bytes(found.data)
        except Exception as error:
            raise BrokerAway(f"no answer from JetStream at {self.shown}: {self._why(error)}") from None
        finally:
            del self._asked[reply]
            answer.cancel()

    async def _answered(self, one: Any) -> None:
        answer = self._asked.get(one.subject)
        if answer and not answer.done():
            answer.set_result(one)

    def _lost(self) -> None:
        self._gone.set()
        for answer in self._asked.values():
            if not answer.done():
                answer.set_exception(ConnectionError("it is closed"))

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Raises BrokerAway."""
        try:
            await self._client.publish(subject, data, reply=reply)
        except Exception as error:
            raise BrokerAway(f"the connection to NATS at {self.shown} is lost: {self._why(error)}") from None

    async def listen(self, message: Callable[[Any], None], subject: str = "") -> str:
        """``message`` is given everything that comes to the subject, or else to an inbox, whose name this
        returns. Raises BrokerAway."""

        async def came(one: Any) -> None:
            message(one)

        inbox = subject or str(self._client.new_inbox())
        try:
            self._inboxes[inbox] = await self._client.subscribe(
                inbox, cb=came, pending_msgs_limit=-1, pending_bytes_limit=-1
            )
        except Exception as error:
            raise BrokerAway(f"the connection to NATS at {self.shown} is lost: {self._why(error)}") from None
        return inbox

    async def unlisten(self, inbox: str) -> None:
        """Nothing that comes to an inbox is wanted any more; what was on its way may still come."""
        with suppress(Exception):  # it ends with its connection in any case
            await self._inboxes.pop(inbox).unsubscribe()

    async def claim(self, subject: str, own: str) -> bool:
        """Whether nobody else answers on ``subject``; from then on this connection answers ``own`` there.
        Where it may not, by its permissions, nobody can be told from nobody. Raises BrokerAway."""

        async def answer(one: Any) -> None:
            await self._client.publish(one.reply, own.encode())

        try:
            found = await self._client.request(subject, b"", timeout=_CLAIM_S)
        except Exception as error:
            if not self.is_open:
                raise BrokerAway(
                    f"the connection to NATS at {self.shown} is lost: {self._why(error)}"
                ) from None
        else:
            if found.data != own.encode():
                return False
        await self._client.subscribe(subject, cb=answer)
        return True

    # --- how it logs in ---

    def _options(self) -> dict[str, Any]:
        settings = self._settings
        options: dict[str, Any] = {
            "servers": settings.servers,
            "name": "ingestd",
            "no_echo": not self._echo,
            "allow_reconnect": False,
            "max_reconnect_attempts": 1,
            "reconnect_time_wait": 0.1,
            "connect_timeout": 5,
            "ping_interval": 10,
            "max_outstanding_pings": 2,
            "error_cb": self._note,
            "closed_cb": self._note_closed,
            "disconnected_cb": self._note_closed,
        }
        if settings.wants_tls:
            options["tls"] = _tls(settings)
        login = next(iter(settings.logins), "")
        if login == "user":
            password = secret_of(settings.password.get_secret_value(), settings.password_file, "password")
            options |= {"user": lambda: self._guarded(settings.user), "password": lambda: password}
        elif login == "token":
            token = secret_of(settings.token.get_secret_value(), settings.token_file, "token")
            options["token"] = lambda: self._guarded(token)
        elif login == "creds_file":
            secret_of("", settings.creds_file, "credentials")
            options["user_credentials"] = settings.creds_file
        elif login == "nkey_file":
            options["nkeys_seed_str"] = secret_of("", settings.nkey_file, "nkey")
        return options

    def _guarded(self, text: str) -> str:
        """Asked for in the moment before it is sent. nats-py goes on in plain text where a server, or who
        stands before it, says that it has no TLS."""
        if self._settings.wants_tls and not self._is_tls():
            raise UserError(_plain(self.shown))
        return text

    def _is_tls(self) -> bool:
        return bool(getattr(self._client, "_server_info", {}).get("tls_required"))

    async def _note(self, error: Exception) -> None:
        self._error = _words(error)

    async def _note_closed(self) -> None:
        self._lost()
        self._closed()

    def _why(self, error: Exception) -> str:
        words = self._error or _words(error)
        if "reset by peer" in words:  # its words are lost with the connection then
            words += " (a server that wants a login or refuses the login may do that)"
        return printable(redaction.redact(words))


def _take_result(task: "asyncio.Future[Any]") -> None:
    """Nobody else asks for it."""
    if not task.cancelled():
        task.exception()


def _words(error: Exception) -> str:
    text = re.sub(r"^nats: '?|'$", "", str(error)).strip()
    return text or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


def _plain(servers: str) -> str:
    return f"the NATS server at {servers} has no TLS, which the configuration asks for: nothing is sent to it"


def _tls(settings: NatsLogin) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca_file or None)
        if settings.cert_file:
            context.load_cert_chain(settings.cert_file, settings.key_file, password=lambda: "")
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        files = ", ".join(filter(None, (settings.ca_file, settings.cert_file, settings.key_file)))
        raise UserError(f"cannot use the TLS files {files}: {error}") from None
    return context
