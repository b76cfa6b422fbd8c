"""A durable pull consumer of JetStream, from the reset that begins a session to the end of its connection.

It is pulled by hand: nats-py's ``fetch`` makes a task for every message, six times the cost (measured). What
was not acknowledged comes again at once and in order after a reset (server 2.14), where an ``ack_wait`` would
let what is new go before it. The consumer counts its deliveries from there, so that a gap tells that one got
lost on its way; an acknowledgement of a later message would settle that one, too.
"""

import asyncio
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from ingestd.core.clock import Clock, wait_until_set
from ingestd.core.errors import UserError
from ingestd.core.text import printable
from ingestd.sources.broker.messages import Message
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection
from ingestd.sources.nats.settings import NatsConfig
from ingestd.sources.nats.stream_state import StreamState, read_stream

PULL_MESSAGES = 500
PULL_BYTES = 4 * 1024 * 1024
_EXPIRES_S = 30
_HEARTBEAT_S = 5
_SILENT_S = 15.0
PULL_AGAIN_S = 0.25
"""The least time between a pull that brought nothing and the next one: a consumer may end each at once."""
_NO_LIMIT = (0, -1, None)
_ACK, _IN_PROGRESS = b"+ACK", b"+WPI"
_TOO_LARGE = "Message Size Exceeds MaxBytes"
_PULL_ENDED = {
    "408": "",  # its time is over
    "404": "",
    _TOO_LARGE: "",
    "Batch Completed": "",
}


class Delivery(NamedTuple):
    """``reply``: where it is acknowledged."""

    message: Message
    reply: str


class Lag(NamedTuple):
    """Messages of the stream: that are yet to be delivered, that are on their way, and that no consumer will
    give to any consumer (of a work queue only: in other streams what was read stays). ``all_came``:
    nothing was on its way to us, at a moment after that of which ``stream`` is. ``is_full``: no more is given
    before some are acknowledged. ``paused``: until when nothing is, for persons."""

    pending: int = 0
    unacked: int = 0
    stranded: int = 0
    stream: StreamState | None = None
    all_came: bool = False
    is_full: bool = False
    paused: str = ""


def objections(config: Mapping[str, Any]) -> list[str]:
    """Why events would be lost, doubled or never come with a consumer of this configuration."""
    found = []
    if config.get("deliver_subject"):
        found.append("it is a push consumer: one that is pulled is needed")
    if config.get("ack_policy") == "none":
        found.append("its ack_policy is none: what is on its way in a crash would be lost")
    if config.get("max_deliver") not in _NO_LIMIT:
        found.append(
            f"its max_deliver is {config['max_deliver']}: a message that was given so often stays in the"
            " stream, nobody gets it any more, and no lag shows it"
        )
    if config.get("headers_only"):
        found.append("it gives headers only")
    if config.get("priority_policy") not in ("none", "", None):
        found.append(f"its priority_policy is {config['priority_policy']}: it is shared with others")
    if config.get("mem_storage"):
        found.append("it is in memory: how far it was read is forgotten with the server")
    return found


class Consumer:
    """``begin``, then ``deliveries`` until it raises BrokerAway. ``owner``: a name of this process, which no
    other has. ``news`` is set when something came, and by the caller who wants ``deliveries`` to return."""

    def __init__(
        self,
        connection: NatsConnection,
        settings: NatsConfig,
        clock: Clock,
        news: asyncio.Event,
        *,
        owner: str,
    ) -> None:
        self._owner = owner
        self._connection = connection
        self._settings = settings
        self._clock = clock
        self._news = news
        self._came: list[Delivery] = []
        self._asked = 0  # messages that a pull may still bring
        self._pulled_at = 0.0
        self._brought = True  # whether the last pull had any
        self._counted = 0
        self._problem = ""
        self._received_at = 0.0
        self._inbox = ""
        self._pull: dict[str, int] = {}
        self.is_cumulative = True
        self.is_filtered = False
        self.received = 0
        """The last message that came."""
        self.ack_wait_s = 30.0
        self.delivered_before = 0
        """The last message that was given before: up to there messages come again."""

    @property
    def _named(self) -> str:
        return f"{self._settings.stream}.{self._settings.consumer}"

    async def begin(self, stream: StreamState, *, after: int | None) -> int:
        """It goes on behind the message ``after``; None: where it stands, or as the settings say. Gives the
        message behind which it does. What is settled we know better than the server: where a message that is
        on its way is deleted, a consumer with cumulative acknowledgements takes all before it for settled.
        Raises BrokerAway while another process reads it, UserError for one that does not do."""
        if not await self._connection.claim(f"ingestd.reads.{self._named}", self._owner):
            raise BrokerAway(
                f"consumer {self._named} is read by another process: what one has on its way the other would"
                " send, too; stop one of them, or give it a consumer of its own"
            )
        try:
            info = await self._connection.ask(f"CONSUMER.INFO.{self._named}")
        except JetStreamError as error:
            if error.code not in NOT_FOUND:
                raise BrokerAway(f"consumer {self._named}: {error}") from None
            info = await self._make(stream, after)
        config = info["config"]
        if refused := objections(config):
            raise UserError(
                f"consumer {self._settings.consumer} of {self._settings.stream}: {'; '.join(refused)}"
            )
        self.is_cumulative = config["ack_policy"] == "all"
        self.is_filtered = _is_filtered(config)
        self.ack_wait_s = int(config.get("ack_wait") or 30e9) / 1e9
        self.delivered_before = int(info["delivered"]["stream_seq"])
        self._pull = _pull_of(config, self._connection.max_payload)
        await self._reset(after if self.is_cumulative else None)
        self._received_at = self._clock.monotonic()
        self._inbox = await self._connection.listen(self._receive)
        floor = int(info["ack_floor"]["stream_seq"])
        return max(floor, int(config.get("opt_start_seq") or 0) - 1) if after is None else after

    async def _reset(self, after: int | None) -> None:
        """Behind a message where that is allowed; not of a consumer that was made for new messages only.
        None: behind its last acknowledgement, so that one that got lost is given again: a work queue keeps
        what is not acknowledged."""
        for body in (None if after is None else {"seq": after + 1}, None):
            try:
                await self._connection.ask(f"CONSUMER.RESET.{self._named}", body)
            except JetStreamError as error:
                refused = error
            else:
                return
        raise BrokerAway(f"consumer {self._named} cannot be reset: {refused}")

    async def _make(self, stream: StreamState, after: int | None) -> dict[str, Any]:
        settings = self._settings
        config: dict[str, Any] = {
            "name": settings.consumer,
            "durable_name": settings.consumer,
            "description": "read by ingestd",
            "ack_policy": "all" if stream.retention == "limits" else "explicit",
            "ack_wait": int(settings.ack_wait * 1e9),
            "max_ack_pending": settings.max_unacked,
            "max_deliver": -1,
            "replay_policy": "instant",
            "deliver_policy": "all",
        }
        if after is None and settings.start == "new":
            after = stream.last
        if after:
            config |= {"deliver_policy": "by_start_sequence", "opt_start_seq": after + 1}
        if len(settings.subjects) == 1:
            config["filter_subject"] = settings.subjects[0]
        elif settings.subjects:
            config["filter_subjects"] = settings.subjects
        try:
            body = {"stream_name": settings.stream, "config": config, "action": "create"}
            return await self._connection.ask(f"CONSUMER.CREATE.{self._named}", body)
        except JetStreamError as error:
            raise BrokerAway(f"consumer {self._named} cannot be made: {error}") from None

    # --- what comes ---

    async def deliveries(self) -> list[Delivery]:
        """What has come, in order; nothing if another task set ``news``. Raises BrokerAway."""
        is_woken = False
        if self._asked <= 0 and not self._problem:
            is_woken = await self._pause()
            if not is_woken:
                await self._ask_for_more()
        if not (self._came or self._problem or is_woken):
            await wait_until_set(self._news, _SILENT_S, self._clock)
        self._news.clear()
        if not self._came and not self._problem and self._clock.monotonic() - self._received_at > _SILENT_S:
            self._problem = "the server is silent"
        if self._problem:
            raise BrokerAway(f"consumer {self._named}: {self._problem}")
        came, self._came = self._came, []
        return came

    @property
    def has_some(self) -> bool:
        """Whether ``deliveries`` has something at once."""
        return bool(self._came)

    def end(self, why: str) -> None:
        """No more comes."""
        self._problem = self._problem or why
        self._news.set()

    async def _pause(self) -> bool:
        """Whether ``news`` was set meanwhile."""
        early_s = 0.0 if self._brought else self._pulled_at + PULL_AGAIN_S - self._clock.monotonic()
        return early_s > 0 and await wait_until_set(self._news, early_s, self._clock)

    async def _ask_for_more(self) -> None:
        self._asked = self._pull["batch"]
        self._pulled_at = self._received_at = self._clock.monotonic()
        self._brought = False
        subject = f"{self._connection.api_prefix}.CONSUMER.MSG.NEXT.{self._named}"
        await self._connection.publish(subject, json.dumps(self._pull).encode(), self._inbox)

    def _receive(self, one: Any) -> None:
        self._received_at = self._clock.monotonic()
        if not one.reply.startswith("$JS.ACK."):  # a producer may give a message the header Status, too
            self._receive_status(one.headers or {})
            return
        if self._problem:
            return
        # $JS.ACK.<stream>.<consumer>.<times>.<sequence>.<count>.<time>.<pending>; behind ACK may be two more
        parts = one.reply.split(".")
        sequence, count, timestamp = map(int, parts[5:8] if len(parts) < 11 else parts[7:10])
        self._counted += 1
        if count != self._counted:
            self.end("a message got lost on its way")
            return
        self._asked -= 1
        self._brought = True
        self.received = max(self.received, sequence)
        message = Message(sequence, timestamp, one.data, one.headers or {}, one.subject)
        self._came.append(Delivery(message, one.reply))
        self._news.set()

    def _receive_status(self, headers: Mapping[Any, str]) -> None:
        found = {str(getattr(name, "value", name)): value for name, value in headers.items()}
        status, words = found.get("Status", ""), found.get("Description", "").strip()
        if status == "100":
            return  # a heartbeat
        if words == _TOO_LARGE and self._asked == self._pull["batch"]:  # not even one
            most = self._pull["max_bytes"]
            self.end(f"its next message has no room in the {most} bytes that it gives at a time (max_bytes)")
        elif status in _PULL_ENDED or words in _PULL_ENDED:
            self._asked = 0
            self._news.set()
        elif status == "503":
            self.end("it is not served now, or is gone")
        else:
            self.end(printable(f"{status} {words}"))

    # --- what is reported ---

    async def ack(self, replies: list[str]) -> None:
        """Messages are settled, in their order. Returns when the server knows. Raises BrokerAway."""
        for reply in [] if self.is_cumulative else replies[:-1]:
            await self._connection.publish(reply, _ACK)
        await self._connection.request(replies[-1], _ACK)

    async def in_progress(self, replies: list[str]) -> None:
        for reply in replies:
            await self._connection.publish(reply, _IN_PROGRESS)

    async def lag(self) -> Lag:
        """Raises BrokerAway, JetStreamError."""
        stream = await read_stream(self._connection, self._settings)
        info = await self._connection.ask(f"CONSUMER.INFO.{self._named}")
        pending, unacked = int(info["num_pending"]), int(info["num_ack_pending"])
        alone = stream.retention == "workqueue" and not _is_filtered(info["config"])
        stranded = max(0, stream.messages - pending - unacked) if alone else 0
        all_came = info["delivered"]["consumer_seq"] == self._counted
        is_full = 0 < int(info["config"].get("max_ack_pending") or 0) <= unacked
        paused = str(info["config"].get("pause_until")) if info.get("paused") else ""
        return Lag(pending, unacked, stranded, stream, all_came, is_full, paused)


def _is_filtered(config: Mapping[str, Any]) -> bool:
    return bool(config.get("filter_subject") or config.get("filter_subjects"))


def _pull_of(config: Mapping[str, Any], max_payload: int) -> dict[str, int]:
    """A request for messages, within what the consumer allows. One that is larger than its bytes would never
    come, so that the largest the server takes fits in."""
    batch = int(config.get("max_batch") or PULL_MESSAGES)
    expires_s = int(config.get("max_expires") or 0) / 1e9
    max_bytes = int(config.get("max_bytes") or 0) or max(PULL_BYTES, 2 * max_payload)
    expires_s = min(_EXPIRES_S, expires_s or _EXPIRES_S)
    pull = {"batch": min(PULL_MESSAGES, batch), "max_bytes": max_bytes, "expires": int(expires_s * 1e9)}
    if expires_s >= 2 * _HEARTBEAT_S:
        pull["idle_heartbeat"] = int(_HEARTBEAT_S * 1e9)
    return pull
