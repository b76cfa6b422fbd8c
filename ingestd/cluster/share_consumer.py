"""The consumer of a share: pulled by its owner alone, which the server pins, and acknowledged cumulatively.

After ``begin`` what is not settled comes again, at once and in order, and deliveries are counted from 1: a
gap tells that one got lost on its way, or went to somebody else.
"""

import asyncio
import json
from collections import deque
from collections.abc import Mapping
from typing import Any, NamedTuple

from ingestd.cluster.names import Share, StreamNames
from ingestd.core.clock import Clock, until_turn, wait_until_set
from ingestd.core.text import printable
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import NOT_FOUND, JetStreamError, NatsConnection

GROUP = "owner"
_PIN_S = 2.0
"""So long a share stays its owner's although that does not ask for more."""
_ACK_WAIT_S = 600.0
_PULL = 100
_EXPIRES_S = 1.0
_KEEP_S = 0.7
"""How often a pull that brings nothing says that the owner is there, while it has no room."""
_LOOK_S, _AGAIN_S = 3.0, 0.5
"""After so long without a delivery the server is asked how many it made, and again, if that is more."""
_OVER = ("408", "404")
_OVER_WORDS = ("Message Size Exceeds MaxBytes", "Batch Completed", "Request Timeout")
_MAX_PENDING = 4_096


class LetGo(Exception):
    """The share is somebody else's, or deliveries are missing: begin again, or leave it."""


class ShareDelivery(NamedTuple):
    """``at``: when it was stored (wall time)."""

    sequence: int
    at: float
    data: bytes
    headers: Mapping[str, str]


def consumer_config(names: StreamNames, share: Share) -> dict[str, Any]:
    return {
        "name": share.consumer,
        "durable_name": share.consumer,
        "description": f"events for {share}",
        "filter_subject": names.partition(share.partition),
        "deliver_policy": "all",
        "ack_policy": "all",
        "ack_wait": int(_ACK_WAIT_S * 1e9),
        "max_ack_pending": _MAX_PENDING,
        "max_deliver": -1,
        "priority_groups": [GROUP],
        "priority_policy": "pinned_client",
        "priority_timeout": int(_PIN_S * 1e9),
    }


class ShareConsumer:
    """``begin``, then ``run`` beside ``deliveries``. ``max_bytes``: of chunks that are not settled."""

    def __init__(
        self, connection: NatsConnection, names: StreamNames, share: Share, clock: Clock, *, max_bytes: int
    ) -> None:
        self._connection = connection
        self._names = names
        self._share = share
        self._clock = clock
        self._max_bytes = max_bytes
        self._came: list[ShareDelivery] = []
        self._news, self._pulled = asyncio.Event(), asyncio.Event()
        self._asked = 0
        self._counted = 0
        self._looked, self._look_at, self._is_less = 0, 0.0, False
        self._pin = ""
        self._failure: Exception | None = None
        self._inbox = ""
        self._held: deque[tuple[int, int, str]] = deque()  # sequence, bytes, where it is acknowledged
        self._held_bytes = 0
        self.pending = 0
        """Chunks behind the last one that came."""
        self.unbounded = False
        """Chunks are needed however many are held: batches that were on their way are not whole yet."""

    @property
    def _named(self) -> str:
        return f"{self._names.events}.{self._share.consumer}"

    async def make(self) -> None:
        """Raises BrokerAway, JetStreamError."""
        body = {"stream_name": self._names.events, "config": consumer_config(self._names, self._share)}
        await self._connection.ask(f"CONSUMER.CREATE.{self._named}", body | {"action": ""})

    async def begin(self, floor: int) -> None:
        """An earlier owner has the share no more, and deliveries begin behind ``floor``. Raises BrokerAway,
        JetStreamError."""
        await self.unpin()
        await self._connection.ask(f"CONSUMER.RESET.{self._named}", {"seq": floor + 1})
        self._inbox = await self._connection.listen(self._receive)

    async def unpin(self) -> None:
        await self._connection.ask(f"CONSUMER.UNPIN.{self._named}", {"group": GROUP})

    async def close(self) -> None:
        self.end(LetGo("closed"))
        await self._connection.unlisten(self._inbox)

    # --- what comes ---

    async def run(self) -> None:
        """Pulls while there is room, and says that the owner is there while there is none. Raises BrokerAway,
        LetGo."""
        while self._failure is None:
            if self._has_room and self._asked <= 0:
                await self._pull(
                    _PULL, max(self._max_bytes - self._held_bytes, 2 * self._connection.max_payload)
                )
            elif self._asked <= 0:
                await self._pull(1, 1)
            self._pulled.clear()
            if self._has_room:
                if not await wait_until_set(self._pulled, 2 * _EXPIRES_S, self._clock):
                    self._asked = 0  # neither messages nor the end of its time: it got lost
            else:
                await self._clock.sleep(_KEEP_S)
                self._asked = 0
            await self._look()
        raise self._failure

    async def _look(self) -> None:
        """The last deliveries may be missing, and no later one tells: they went to a worker that took itself
        for the owner, or got lost. The server would give them again only after ``_ACK_WAIT_S``."""
        now = self._clock.monotonic()
        if self._counted != self._looked:
            self._looked, self._look_at, self._is_less = self._counted, now + _LOOK_S, False
            return
        if now < self._look_at:
            return
        try:
            info = await self._connection.ask(f"CONSUMER.INFO.{self._named}")
        except (BrokerAway, JetStreamError):  # no leader for a moment; if it is gone others will say so
            self._look_at = now + _LOOK_S
            return
        if self._counted == self._looked:
            self.pending = int(info["num_pending"])  # it grows while there is no room, as for a parked sink
        was_less = self._is_less
        self._is_less = self._counted == self._looked and info["delivered"]["consumer_seq"] > self._counted
        self._look_at = now + (_AGAIN_S if self._is_less else _LOOK_S)
        if self._is_less and was_less:
            self.end(LetGo("deliveries are missing"))

    @property
    def _has_room(self) -> bool:
        return self.unbounded or self._held_bytes + self._connection.max_payload < self._max_bytes

    async def _pull(self, batch: int, max_bytes: int) -> None:
        self._asked = batch
        expires_s = until_turn(_EXPIRES_S, self._clock.monotonic())  # those of all shares end at once
        body: dict[str, Any] = {"batch": batch, "max_bytes": max_bytes, "expires": int(expires_s * 1e9)}
        body |= {"group": GROUP} | ({"id": self._pin} if self._pin else {})
        subject = f"{self._connection.api_prefix}.CONSUMER.MSG.NEXT.{self._named}"
        await self._connection.publish(subject, json.dumps(body).encode(), self._inbox)

    async def all_came(self, admitted: int) -> bool:
        """Whether nothing follows the deliveries that were ``admitted``, now. Raises BrokerAway."""
        if admitted != self._counted:
            return False
        try:
            info = await self._connection.ask(f"CONSUMER.INFO.{self._named}")
        except JetStreamError:  # no leader for a moment; if it is gone others will say so
            return False
        return not info["num_pending"] and info["delivered"]["consumer_seq"] == admitted == self._counted

    async def deliveries(self) -> list[ShareDelivery]:
        """What has come, in order. Raises BrokerAway, LetGo."""
        while not self._came and self._failure is None:
            self._news.clear()
            await self._news.wait()
        if self._failure:
            raise self._failure
        came, self._came = self._came, []
        return came

    def end(self, why: Exception) -> None:
        """No more comes."""
        self._failure = self._failure or why
        self._news.set()
        self._pulled.set()

    def _receive(self, one: Any) -> None:
        if not one.reply.startswith("$JS.ACK."):
            self._receive_status(one.headers or {})
            return
        if self._failure:
            return
        parts = one.reply.split(".")  # see ``sources/nats/consumer.py``
        numbers = parts[5:9] if len(parts) < 11 else parts[7:11]
        sequence, count, timestamp, pending = map(int, numbers)
        self._counted += 1
        if count != self._counted:
            self.end(LetGo("a delivery is missing"))
            return
        headers = one.headers or {}
        self._pin = headers.get("Nats-Pin-Id", self._pin)
        self._asked -= 1
        size = len(one.data)
        self._held.append((sequence, size, one.reply))
        self._held_bytes += size
        self.pending = pending
        self._came.append(ShareDelivery(sequence, timestamp / 1e9, one.data, headers))
        self._news.set()
        if self._asked <= 0:
            self._pulled.set()

    def _receive_status(self, headers: Mapping[Any, str]) -> None:
        found = {str(getattr(name, "value", name)): value for name, value in headers.items()}
        status, words = found.get("Status", ""), found.get("Description", "").strip()
        if status == "100":
            return
        if status in _OVER or words in _OVER_WORDS:
            self._asked = 0
            self._pulled.set()
        elif status == "423":
            self.end(LetGo("the share is another worker's"))
        else:
            self.end(BrokerAway(f"consumer {self._named}: {printable(f'{status} {words}')}"))

    # --- what is settled ---

    async def settled(self, floor: int) -> bool:
        """Every chunk up to ``floor`` is. Gives whether that is news. Raises BrokerAway."""
        reply = ""
        while self._held and self._held[0][0] <= floor:
            _, size, reply = self._held.popleft()
            self._held_bytes -= size
        if not reply:
            return False
        await self._connection.request(reply, b"+ACK")
        return True


async def floors(connection: NatsConnection, names: StreamNames, consumers: list[str]) -> int | None:
    """The chunk up to which all these consumers are done; None: one is not there. Raises BrokerAway,
    JetStreamError."""
    lowest: int | None = None
    for consumer in consumers:
        try:
            info = await connection.ask(f"CONSUMER.INFO.{names.events}.{consumer}")
        except JetStreamError as error:
            if error.code in NOT_FOUND:
                return None
            raise
        floor = int(info["ack_floor"]["stream_seq"])
        lowest = floor if lowest is None else min(lowest, floor)
    return lowest
