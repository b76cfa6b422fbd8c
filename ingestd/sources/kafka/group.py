"""A member of a consumer group, in a thread of its own: the library blocks. Its owner lives in the loop.

Messages go to the owner in lists. While there is no room for more, the partitions are paused and it goes on
polling, so that it stays a member. Partitions that are given back are drained first: the thread waits for the
owner then, and the library's own threads keep the member alive.
"""

import asyncio
import threading
from collections.abc import Coroutine, Iterable, Mapping
from typing import Any, TypeVar

from ingestd.core.clock import Clock
from ingestd.core.errors import UserError
from ingestd.sources.kafka import client
from ingestd.sources.kafka.admin import Admin
from ingestd.sources.kafka.client import NONE, REQUEST_S, Given, Start, TopicPart
from ingestd.sources.kafka.offset_commits import OffsetCommits
from ingestd.sources.kafka.owner import CommitsMade, Owner
from ingestd.sources.kafka.partitions import Partitions
from ingestd.sources.kafka.runs import Run, run_of, split_by_place
from ingestd.sources.kafka.settings import KafkaConfig

T = TypeVar("T")
MESSAGES = 3000
"""In a list, and so in a chunk: with 1000 one of events of 450 bytes was half as large as it may be."""
_WAIT_S = 0.1
_PAUSE_AFTER_S = 1.0
"""A shorter want of room is waited out: what was fetched for a partition that is paused is fetched again."""
_BUSY_WAIT_S = 0.005
"""A batch waits for a commit before it is sent, and a commit for the end of a call for messages."""


class Group:
    """``start``, then ``close``."""

    def __init__(
        self,
        settings: KafkaConfig,
        owner: Owner,
        partitions: Partitions,
        admin: Admin,
        commits: CommitsMade,
        *,
        note: str,
        drain_s: float,
        clock: Clock,
    ) -> None:
        self._offsets = OffsetCommits(
            owner, commits, note=note, is_exact=settings.exact_takeover, notify=self._notify, clock=clock
        )
        self._options = {
            **client.connection_settings(settings, self._on_error),
            **client.member_settings(settings, note.replace(" ", "-"), drain_s),
            "on_commit": self._offsets.on_commit,
        }
        self._admin = admin
        self._settings = settings
        self._owner = owner
        self._partitions = partitions
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._work, name="kafka", daemon=True)
        self._closing = threading.Event()
        self._room = threading.Event()
        self._wakes = threading.Event()
        """There is room again, or a commit that is waited for, or an end."""
        self._wanted: frozenset[TopicPart] | None = None
        self.is_busy = False
        """Batches may have to be committed at once: then no call for messages is long."""
        self._full_since = 0.0
        self._assigned: set[TopicPart] = set()
        self._paused: set[TopicPart] = set()
        self._changed: dict[TopicPart, int] = {}
        self._has_failed = False
        self._joins_again = False
        self._fatal: Any = None

    # --- called in the loop ---

    def start(self) -> None:
        self._room.set()
        self._thread.start()

    def has_room(self, room: bool) -> None:
        self._room.set() if room else self._room.clear()
        if room:
            self._wakes.set()

    def want(self, places: frozenset[TopicPart] | None) -> None:
        """Only of these messages are read; None: of all."""
        self._wanted = places

    def has_changed(self, place: TopicPart, offset: int) -> None:
        """The partition has other messages now than those that were read, up to there."""
        self._changed[place] = offset

    @property
    def places(self) -> list[TopicPart]:
        return [*self._assigned]

    def commit(self, due: Mapping[TopicPart, Start], *, urgent: bool = False) -> None:
        self._offsets.add(due, urgent=urgent)
        if urgent:
            self._wakes.set()

    def join_again(self) -> None:
        self._joins_again = True  # it leaves, and comes back: the group assigns all partitions again

    def close(self) -> None:
        """Blocks until the last commit is made and the thread has ended, or a while."""
        self._closing.set()
        self._wakes.set()
        if self._thread.is_alive():
            self._thread.join(2 * REQUEST_S)

    # --- in the thread ---

    def _work(self) -> None:
        consumer = None
        try:
            consumer = client.make_consumer(self._options)
            self._join(consumer)
            while not self._closing.is_set():
                if self._joins_again:
                    self._joins_again = False
                    consumer.unsubscribe()
                    self._join(consumer)
                if self._fatal is not None:
                    raise client.library().KafkaException(self._fatal)
                for place in self._assigned & self._changed.keys():
                    self._go_on(consumer, place, self._changed.pop(place))
                self._offsets.send(consumer, self._assigned)
                self._pause(consumer)
                if found := self._take(consumer):
                    self._give(consumer, found)
        except UserError as error:
            self._notify(self._owner.ended, error)
        except Exception as error:  # of the library, and of the loop when that has ended
            self._notify(self._owner.ended, client.ending_of(error, self._settings))
        finally:
            if consumer is not None:
                self._leave(consumer)

    def _join(self, consumer: Any) -> None:
        on = {"on_assign": self._on_assign, "on_revoke": self._on_revoke, "on_lost": self._on_lost}
        consumer.subscribe(self._settings.topics, **on)

    def _take(self, consumer: Any) -> list[Any]:
        wait_s = _BUSY_WAIT_S if self.is_busy else _WAIT_S
        if not self._room.is_set():
            if self._clock.monotonic() - self._full_since < _PAUSE_AFTER_S:
                self._wakes.wait(_WAIT_S)
                self._wakes.clear()  # what it was set for was there before, and is looked at now
                return []
            return list(consumer.consume(1, wait_s))
        self._full_since = self._clock.monotonic()
        return consumer.consume(MESSAGES, 0) or consumer.consume(1, wait_s)  # type: ignore[no-any-return]

    def _give(self, consumer: Any, found: list[Any]) -> None:
        runs: list[Run] = []
        for place, error, messages in split_by_place(found, one_topic=len(self._settings.topics) == 1):
            if error is None:
                runs.append(run_of(place, messages))
            elif error.code() == _NO_MORE:
                runs.append(Run(place, None, end=messages[0].offset()))
            else:
                self._handle(consumer, error, place, messages[0].offset())
        if runs:
            self._recovered()
            self._notify(self._owner.came, runs)

    def _handle(self, consumer: Any, error: Any, place: TopicPart, offset: int | None) -> None:
        """What the library tells between messages."""
        if error.code() in _OUT_OF_RANGE:
            if place in self._assigned:
                self._go_on(consumer, place, offset, client.cut_at(error, offset))
        else:
            self._on_error(error)

    def _go_on(self, consumer: Any, place: TopicPart, offset: int | None, cut: int | None = None) -> None:
        """The broker does not have what comes next there, or not what came before."""
        partition = client.library().TopicPartition(*place)
        first, last = consumer.get_watermark_offsets(partition, timeout=REQUEST_S)
        start = self._ask(self._partitions.out_of_range(place, offset, first, last, cut))
        self._paused.discard(place)
        consumer.incremental_unassign([partition])
        consumer.incremental_assign([client.to_library(place, start)])
        self._pause(consumer)

    def _pause(self, consumer: Any) -> None:
        """Those that are not wanted now; all, while there has been no room for a while."""
        wanted = self._assigned if self._wanted is None else self._assigned & self._wanted
        if not self._room.is_set() and self._clock.monotonic() - self._full_since >= _PAUSE_AFTER_S:
            wanted = set()
        make = client.library().TopicPartition
        if off := self._assigned - wanted - self._paused:
            consumer.pause([make(*place) for place in off])
        if on := wanted & self._paused:
            consumer.resume([make(*place) for place in on])
        self._paused = self._assigned - wanted

    # --- partitions come and go ---

    def _on_assign(self, consumer: Any, partitions: list[Any]) -> None:
        if not partitions:
            return
        topics = self._admin.topics()
        given = []
        for one in consumer.committed(partitions, timeout=REQUEST_S):
            if one.error:
                raise client.library().KafkaException(one.error)
            place, offset = (one.topic, one.partition), int(one.offset)
            bounds = (NONE, NONE) if offset >= 0 else consumer.get_watermark_offsets(one, timeout=REQUEST_S)
            identity, note = str(topics[one.topic].topic_id), one.metadata or ""
            given.append(Given(place, identity, max(NONE, offset), note, one.leader_epoch, *bounds))
        starts = self._ask(self._partitions.assigned(given))
        places = [one.place for one in given]
        client.read_from(consumer, zip(places, starts, strict=True), self._clock, self._closing)
        self._assigned.update(places)
        self._pause(consumer)
        self._recovered()

    def _on_revoke(self, consumer: Any, partitions: list[Any]) -> None:
        places = self._forget(partitions)
        if places and not self._closing.is_set():
            due = self._ask_and_commit(consumer, self._partitions.revoked(places, is_lost=False), places)
            self._offsets.commit_now(consumer, due)
        consumer.incremental_unassign(partitions)

    def _on_lost(self, consumer: Any, partitions: list[Any]) -> None:
        places = self._forget(partitions)
        if places and not self._closing.is_set():
            self._ask(self._partitions.revoked(places, is_lost=True))
        self._offsets.forget(places)
        consumer.incremental_unassign(partitions)

    def _forget(self, partitions: Iterable[Any]) -> list[TopicPart]:
        places = [(one.topic, one.partition) for one in partitions]
        self._assigned.difference_update(places)
        self._paused.difference_update(places)
        return places

    def _leave(self, consumer: Any) -> None:
        due = self._offsets.due_of(self._assigned)
        self._closing.set()
        self._offsets.commit_now(consumer, due)
        consumer.close()

    # --- to the loop ---

    def _on_error(self, error: Any) -> None:
        """Called by the library, in whichever thread polls it."""
        if error.code() in (client.FATAL, client.FENCED):
            self._fatal = error
            return
        self._has_failed = True
        notify = self._owner.on_away if error.code() in client.AWAY else self._owner.on_problem
        self._notify(notify, client.words_of(error))

    def _recovered(self) -> None:
        if self._has_failed:
            self._has_failed = False
            self._notify(self._owner.on_problem, "")

    def _ask(self, question: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(question, self._loop).result()

    def _ask_and_commit(self, consumer: Any, question: Coroutine[Any, Any, T], leaving: list[TopicPart]) -> T:
        """Batches of what is given back may still wait for a commit."""
        answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        while True:
            try:
                return answer.result(_BUSY_WAIT_S)
            except TimeoutError:
                if answer.done():
                    raise
                self._offsets.send(consumer, self._assigned.union(leaving))

    def _notify(self, what: Any, *words: Any) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(what, *words)


_NO_MORE = -191
_OUT_OF_RANGE = (1, -140, -139)
"""OFFSET_OUT_OF_RANGE, _AUTO_OFFSET_RESET, _LOG_TRUNCATION"""
