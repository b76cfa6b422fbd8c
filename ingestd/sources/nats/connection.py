"""A connection to NATS, and the requests to the API of JetStream. The only module that imports nats-py.

A connection ends with its first trouble, and its owner opens another: what a client does by itself to go on
is not needed where the consumer is reset anyway.
"""

import asyncio
import importlib
import json
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from ingestd.core import redaction
from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.core.text import printable
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats import tls
from ingestd.sources.nats.client_options import client_options
from ingestd.sources.nats.exchange import DirectInbox, SharedAnswers, written
from ingestd.sources.nats.settings import NatsLogin

CONNECT_S = 10.0
REQUEST_S = 5.0
_CLAIM_S = 1.0
MIN_VERSION = (2, 14)
"""Of the server: from there on a consumer can be reset to its first message without an acknowledgement."""
NOT_FOUND = (10059, 10014)
"""Error codes of JetStream: there is no such stream, no such consumer."""

NatsMessage = tuple[str, bytes, Mapping[str, str] | None]
"""(subject, data, headers)."""

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
        self._asked: dict[str, tuple[SharedAnswers, int]] = {}  # by the subject of the answer
        self._answers = ""
        self._number = 0
        self._is_stream = False  # else messages are frames of a WebSocket
        self.api_prefix = f"$JS.{settings.domain}.API" if settings.domain else "$JS.API"

    async def open(self) -> None:
        """Raises BrokerAway, and UserError for what will not get better: files, a version."""
        options = client_options(self._settings, guarded=self._guarded)
        try:
            async with self._clock.timeout(CONNECT_S):
                await self._client.connect(
                    **options,
                    no_echo=not self._echo,
                    error_cb=self._note,
                    closed_cb=self._note_closed,
                    disconnected_cb=self._note_closed,
                )
                self._answers = str(self._client.new_inbox())
                await self._client.subscribe(
                    f"{self._answers}.*", future=DirectInbox(self._answered, self._keep)
                )
                await self._client.flush()  # the server knows of it before the first request
                self._is_stream = self._client.connected_url.scheme in ("nats", "tls")
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
            raise BrokerAway(tls.words_of_plain(self.shown))
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
        answer = _read_answer(await self.request(f"{self.api_prefix}.{what}", data))
        if isinstance(answer, JetStreamError):
            raise answer
        return answer

    async def request(self, subject: str, data: bytes) -> bytes:
        """Raises BrokerAway where nobody answers in time."""
        (found,) = await self._exchange([(subject, data, None)], REQUEST_S)
        if isinstance(found, BrokerAway):
            raise found
        return found

    async def append(self, subject: str, data: bytes, headers: Mapping[str, str]) -> dict[str, Any]:
        """Store a message in the stream of its subject; gives what the server says of it (``seq``,
        ``duplicate``). Raises JetStreamError; BrokerAway: it may be stored or not."""
        (found,) = await self.append_all([(subject, data, headers)])
        if isinstance(found, Exception):
            raise found
        return found

    async def append_all(
        self, messages: Sequence[NatsMessage], *, within_s: float = REQUEST_S
    ) -> list[dict[str, Any] | JetStreamError | BrokerAway]:
        """As ``append``, of several that are sent together; what becomes of each."""
        found = await self._exchange(messages, min(within_s, REQUEST_S))
        return [one if isinstance(one, BrokerAway) else _read_answer(one) for one in found]

    async def _exchange(self, messages: Sequence[NatsMessage], within_s: float) -> list[bytes | BrokerAway]:
        """The answers to requests that are sent together. A connection that ends meanwhile is not waited for
        until the time is over. Without the tasks that nats-py makes for each request."""
        answers, first = SharedAnswers(len(messages)), self._number
        self._number += len(messages)
        replies = [f"{self._answers}.{number}" for number in range(first, self._number)]
        self._asked.update((reply, (answers, index)) for index, reply in enumerate(replies))
        task = asyncio.current_task()
        cancelled, why = task.cancelling() if task else 0, ""
        try:
            if self._gone.is_set():
                raise ConnectionError("it is closed")
            async with self._clock.timeout(within_s):
                await self._send(messages, replies)
                if task and task.cancelling() > cancelled:  # nats-py takes that for nothing
                    raise asyncio.CancelledError
                await answers.all
        except Exception as error:
            why = self._why(error)
        finally:
            for reply in replies:
                del self._asked[reply]
        return [self._answer_of(one, why) for one in answers.found]

    async def _send(self, messages: Sequence[NatsMessage], replies: Sequence[str]) -> None:
        together: list[bytes] = []
        most_bytes = self.max_payload if self._is_stream else -1
        for (subject, data, headers), reply in zip(messages, replies, strict=True):
            if headers and len(data) <= most_bytes:
                together += written(subject, reply, data, headers)
            else:
                await self._client.publish(subject, data, reply=reply, headers=headers)
        if together:
            transport = self._client._transport  # noqa: SLF001
            transport.writelines(together)
            await transport.drain()

    def _answer_of(self, answer: Any, why: str) -> bytes | BrokerAway:
        """``why``: there is none."""
        if answer and (answer.data or (answer.headers or {}).get("Status") != "503"):
            return bytes(answer.data)
        words = self._why(ConnectionError("no responders available for request")) if answer else why
        return BrokerAway(f"no answer from JetStream at {self.shown}: {words}")

    def _answered(self, one: Any) -> None:
        if asked := self._asked.get(one.subject):
            asked[0].take(asked[1], one)

    def _keep(self, error: Exception) -> None:
        self._error = _words(error)

    def _lost(self) -> None:
        self._gone.set()
        for answers, _ in self._asked.values():
            answers.lose(ConnectionError("it is closed"))

    async def publish(self, subject: str, data: bytes, reply: str = "") -> None:
        """Raises BrokerAway."""
        try:
            await self._client.publish(subject, data, reply=reply)
        except Exception as error:
            raise BrokerAway(f"the connection to NATS at {self.shown} is lost: {self._why(error)}") from None

    async def listen(self, message: Callable[[Any], None], subject: str = "") -> str:
        """``message`` is given everything that comes to the subject, or else to an inbox, whose name this
        returns. Raises BrokerAway."""
        inbox = subject or str(self._client.new_inbox())
        try:
            self._inboxes[inbox] = await self._client.subscribe(
                inbox, future=DirectInbox(message, self._keep)
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

    # --- what the client calls ---

    def _guarded(self, text: str) -> str:
        """Asked for in the moment before it is sent. nats-py goes on in plain text where a server, or who
        stands before it, says that it has no TLS."""
        if self._settings.wants_tls and not self._is_tls():
            raise UserError(tls.words_of_plain(self.shown))
        return text

    def _is_tls(self) -> bool:
        return bool(getattr(self._client, "_server_info", {}).get("tls_required"))

    async def _note(self, error: Exception) -> None:
        self._keep(error)

    async def _note_closed(self) -> None:
        self._lost()
        self._closed()

    def _why(self, error: Exception) -> str:
        words = self._error or _words(error)
        if "reset by peer" in words:  # its words are lost with the connection then
            words += " (a server that wants a login or refuses the login may do that)"
        return printable(redaction.redact(words))


def _read_answer(answer: bytes) -> dict[str, Any] | JetStreamError:
    found = msgspec.json.decode(answer)
    if error := found.get("error"):
        return JetStreamError(int(error.get("err_code", 0)), printable(str(error.get("description", ""))))
    return dict(found)


def _take_result(task: "asyncio.Future[Any]") -> None:
    """Nobody else asks for it."""
    if not task.cancelled():
        task.exception()


def _words(error: Exception) -> str:
    text = re.sub(r"^nats: '?|'$", "", str(error)).strip()
    return text or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
