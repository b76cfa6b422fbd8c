"""What a consumer of JetStream learns of the messages that it gave out: that they are resolved, once that is
on disk, and until then that they are on their way."""

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress

from ingestd.core.clock import Clock
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.consumer import Consumer, Delivery
from ingestd.sources.nats.stream_life import StreamLife
from ingestd.store.connection import StoreFailed
from ingestd.store.journal import Journal

_ACK_EVERY_S = 0.05
_NO_SESSION_S = 1.0
"""How often it is looked whether there is a consumer to renew with."""


class Acknowledgements:
    """Of one source, in one session after the other: ``begin``, then ``end``. ``failed`` is called with the
    reason when they cannot be sent: the messages come again then, and are acknowledged with that."""

    def __init__(self, journal: Journal, clock: Clock, failed: Callable[[str], None]) -> None:
        self._journal = journal
        self._clock = clock
        self._failed = failed
        self._consumer: Consumer | None = None
        self._life: StreamLife | None = None
        self._replies: dict[int, tuple[str, int]] = {}
        """Of the messages of this session that are not acknowledged, in order: where, and when stored."""
        self._due = asyncio.Event()

    def begin(self, consumer: Consumer, life: StreamLife) -> None:
        self._replies.clear()
        self._consumer, self._life = consumer, life

    def end(self) -> None:
        self._consumer = None
        self._replies.clear()

    def add(self, deliveries: Iterable[Delivery]) -> None:
        """They came, in this order."""
        self._replies.update({one.message.sequence: (one.reply, one.message.mark) for one in deliveries})

    def resolved(self) -> None:
        """More messages are resolved, or one came again that is."""
        self._due.set()

    @property
    def oldest_stored_at(self) -> float | None:
        """Wall time of the oldest message that is not acknowledged."""
        return next((stored_ns / 1e9 for _, stored_ns in self._replies.values()), None)

    async def run(self) -> None:
        while True:
            await self._due.wait()
            self._due.clear()
            try:
                await self.send()
            except BrokerAway as error:
                self._failed(str(error))
            except StoreFailed:
                return
            await self._clock.sleep(_ACK_EVERY_S)

    async def send(self) -> None:
        """What is resolved becomes durable here first: a dead letter, and that a batch was delivered. Raises
        BrokerAway, StoreFailed."""
        resolved = self._life.resolved if self._life else 0
        await self._journal.commit()
        replies: list[str] = []
        for sequence in [*self._replies]:
            if sequence > resolved:
                break
            replies.append(self._replies.pop(sequence)[0])
        if replies and self._consumer:
            await self._consumer.ack(replies)

    async def renew(self) -> None:
        """What is on its way is not to be given out again meanwhile."""
        while True:
            consumer = self._consumer
            await self._clock.sleep(consumer.ack_wait_s / 3 if consumer else _NO_SESSION_S)
            if self._consumer:
                with suppress(BrokerAway):
                    await self._consumer.in_progress([reply for reply, _ in self._replies.values()])
