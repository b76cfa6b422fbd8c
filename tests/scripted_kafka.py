"""A scripted stand-in for confluent-kafka and the brokers behind it, for what a real one does not do when a
test wants it: a rebalance in the middle of a list, commits that fail, notes that are refused, partitions that
are lost, errors between messages. After ``ScriptedKafka().install(monkeypatch)`` a source finds it as the
library.

It keeps what is committed, and gives messages from there: all that there are in one list, so that a test
knows its chunks. It does no more than ``sources/kafka`` asks for.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from ingestd.sources.kafka import client

Place = tuple[str, int]

NO_MORE, FATAL, FENCED, OUT_OF_RANGE = -191, -150, 82, 1
RESET, NOT_YET = -140, -172
REBALANCING, NOTE_TOO_LARGE, ALL_DOWN = 27, 12, -187
GONE = b"compacted away"
"""As a message: there is none at its offset any more, or a transaction has its mark there."""
NOTHING = -1001
"""As an offset: none is committed."""


class KafkaError:
    UNKNOWN_TOPIC_OR_PART = 3
    _TIMED_OUT = -185

    def __init__(self, code: int, text: str = "scripted") -> None:
        self._code = code
        self._text = text

    def code(self) -> int:
        return self._code

    def str(self) -> str:
        return self._text


class KafkaException(Exception):
    """Its first argument is a KafkaError."""


class TopicPartition:
    def __init__(
        self, topic: str, partition: int, offset: int = NOTHING, metadata: str = "", leader_epoch: int = -1
    ) -> None:
        self.topic = topic
        self.partition = partition
        self.offset = offset
        self.metadata = metadata
        self.leader_epoch = leader_epoch
        self.error: KafkaError | None = None

    @property
    def place(self) -> Place:
        return self.topic, self.partition


class Message(NamedTuple):
    place: Place
    number: int | None
    payload: bytes | None
    problem: KafkaError | None = None
    epoch: int = 0

    def error(self) -> KafkaError | None:
        return self.problem

    def topic(self) -> str:
        return self.place[0]

    def partition(self) -> int:
        return self.place[1]

    def offset(self) -> int | None:
        return self.number

    def set_value(self, value: bytes) -> None:
        """It stays in the log."""

    def value(self) -> bytes | None:
        return self.payload

    def headers(self) -> None:
        return None

    def leader_epoch(self) -> int:
        return self.epoch

    def timestamp(self) -> tuple[int, int]:
        return 1, 1_700_000_000_000 + (self.number or 0)


class ScriptedKafka:
    """``log``: messages by place; ``leaders``: where those of each epoch begin. ``committed``: (offset,
    note), ``epochs``: with these. ``refusals``: codes with which the next commits are answered, 0 for one
    that is taken; ``refused``: those. ``max_note``: longer ones are not taken. ``clusters``: of bootstrap
    servers that are up, if it is not one for all; ``looked``: who was asked for it."""

    def __init__(self, **topics: int) -> None:
        self.log: dict[Place, list[bytes | None]] = {
            (topic, number): [] for topic, count in topics.items() for number in range(count)
        }
        self.leaders: dict[Place, list[int]] = {place: [0] for place in self.log}
        self.committed: dict[Place, tuple[int, str]] = {}
        self.epochs: dict[Place, int] = {}
        self.refusals: deque[int] = deque()
        self.max_note = 4096
        self.commits: list[dict[Place, tuple[int, str]]] = []
        self.refused: list[dict[Place, tuple[int, str]]] = []
        self.consumers: list[ScriptedConsumer] = []
        self.news = threading.Condition()
        self.clusters: dict[str, str] | None = None
        self.looked: list[str] = []

    def install(self, monkeypatch: pytest.MonkeyPatch) -> "ScriptedKafka":
        library = SimpleNamespace(
            Consumer=lambda options: ScriptedConsumer(self, options),
            TopicPartition=TopicPartition,
            TopicCollection=list,
            KafkaError=KafkaError,
            KafkaException=KafkaException,
            IsolationLevel=SimpleNamespace(READ_COMMITTED=1),
            admin=SimpleNamespace(
                AdminClient=lambda options: ScriptedAdmin(self, options["bootstrap.servers"]),
                OffsetSpec=SimpleNamespace(earliest=lambda: 0, latest=lambda: 1),
            ),
        )
        monkeypatch.setattr(client, "_loaded", library)
        return self

    def produce(self, topic: str, partition: int, *payloads: bytes | None) -> None:
        with self.news:
            self.log[topic, partition] += payloads
            self.news.notify_all()

    def compact(self, topic: str, partition: int, *offsets: int) -> None:
        for offset in offsets:
            self.log[topic, partition][offset] = GONE

    def elect(self, topic: str, partition: int, *, end: int | None = None) -> None:
        """Another leader; ``end``: before which it has the messages."""
        log, leaders = self.log[topic, partition], self.leaders[topic, partition]
        with self.news:
            del log[len(log) if end is None else end :]
            leaders += [len(log)]
            leaders[:] = [min(first, len(log)) for first in leaders]
            for one in self.consumers:
                one.unsure |= {(topic, partition)} & one.assigned.keys()
            self.news.notify_all()

    def epoch_of(self, place: Place, offset: int) -> int:
        return sum(first <= offset for first in self.leaders.get(place, [0])) - 1

    def end_of(self, place: Place, epoch: int) -> int:
        """Where a later leader began. -1: there was none of this epoch, and none since."""
        leaders = [*self.leaders[place], len(self.log[place])]
        return leaders[epoch + 1] if epoch + 1 < len(leaders) else -1

    def read_to(self, place: Place) -> int:
        """Behind the last message."""
        log = self.log[place]
        return next((at + 1 for at in reversed(range(len(log))) if log[at] is not GONE), 0)

    @property
    def member(self) -> "ScriptedConsumer":
        """The one that came last."""
        return self.consumers[-1]

    def commit(self, offsets: Sequence[TopicPartition]) -> list[TopicPartition]:
        """Raises KafkaException where the script refuses it as a whole."""
        if self.refusals and (code := self.refusals.popleft()):
            self.refused.append({one.place: (one.offset, one.metadata) for one in offsets})
            raise KafkaException(KafkaError(code))
        with self.news:
            taken: dict[Place, tuple[int, str]] = {}
            for one in offsets:
                if len(one.metadata) > self.max_note:
                    one.error = KafkaError(NOTE_TOO_LARGE)
                else:
                    taken[one.place] = (one.offset, one.metadata)
                    self.epochs[one.place] = one.leader_epoch
            self.committed |= taken
            self.commits.append(taken)
        return list(offsets)


Step = Callable[[], None]


class ScriptedConsumer:
    """One member. What the script wants of it happens in its thread, in ``consume``: ``do``."""

    def __init__(self, kafka: ScriptedKafka, options: Mapping[str, Any]) -> None:
        self.kafka = kafka
        self.options = options
        self.assigned: dict[Place, int] = {}
        self.unsure: set[Place] = set()
        """Of which the brokers are asked whether the log is still the one that was read."""
        self._epochs: dict[Place, int] = {}
        """Of the messages before those that come next, where they are known."""
        self.seeks_late = 0
        """So often it cannot seek yet."""
        self.paused: set[Place] = set()
        self.is_closed = False
        self.topics: Sequence[str] = ()
        self._ended: set[Place] = set()
        self._stopped: set[Place] = set()
        """Nothing comes of them until they are assigned again."""
        self._steps: deque[tuple[int, Step]] = deque()
        self._callbacks: dict[str, Callable[..., None]] = {}
        kafka.consumers.append(self)

    # --- for tests ---

    def do(self, step: Step, *, after: int = 0) -> None:
        """At the start of a call for messages; ``after``: in the middle of one that has found so many."""
        with self.kafka.news:
            self._steps.append((after, step))
            self.kafka.news.notify_all()

    def give(self, *places: Place) -> None:
        self._callbacks["on_assign"](self, [TopicPartition(*place) for place in places])

    def take(self, *places: Place) -> None:
        self._callbacks["on_revoke"](self, [TopicPartition(*place) for place in places])

    def lose(self, *places: Place) -> None:
        self._callbacks["on_lost"](self, [TopicPartition(*place) for place in places])

    def jump(self, place: Place, offset: int) -> None:
        """As if it had read on to there."""
        self.assigned[place] = offset
        self._ended.discard(place)
        self._stopped.discard(place)

    def fail(self, code: int, text: str = "scripted") -> None:
        self.options["error_cb"](KafkaError(code, text))

    # --- as the library has it ---

    def subscribe(self, topics: Sequence[str], **callbacks: Callable[..., None]) -> None:
        self.topics, self._callbacks = topics, callbacks

    def consume(self, count: int, timeout: float) -> list[Message]:
        until = time.monotonic() + timeout
        found: list[Message] = []
        while True:
            while self._steps and len(found) == self._steps[0][0]:
                self._steps.popleft()[1]()
            if one := self._next():
                found.append(one)
                continue
            left_s = until - time.monotonic()
            if found or left_s <= 0:
                return found
            with self.kafka.news:
                if not self._steps:
                    self.kafka.news.wait(left_s)

    def _next(self) -> Message | None:
        with self.kafka.news:
            return self._look()

    def _look(self) -> Message | None:
        for place in self.assigned.keys() - self.paused:
            if place in self.unsure:
                self.unsure.discard(place)
                if problem := self._truncation(place):
                    self._stopped.add(place)
                    return problem
            if place in self._stopped:
                continue
            log, at = self.kafka.log[place], self.assigned[place]
            while at < len(log) and log[at] is GONE:
                at += 1
            if self.assigned[place] < at <= len(log):
                self.assigned[place] = at
                self._epochs[place] = self.kafka.epoch_of(place, at - 1)
            if at < len(log):
                self.assigned[place] = at + 1
                self._ended.discard(place)
                self._epochs[place] = epoch = self.kafka.epoch_of(place, at)
                return Message(place, at, log[at], epoch=epoch)
            if place not in self._ended:
                self._ended.add(place)
                if at > len(log):
                    self._stopped.add(place)
                    return Message(place, at, None, KafkaError(OUT_OF_RANGE))
                return Message(place, at, None, KafkaError(NO_MORE))
        return None

    def _truncation(self, place: Place) -> Message | None:
        """As librdkafka 2.16 says it."""
        at, epoch = self.assigned[place], self._epochs.get(place, -1)
        end = at if epoch < 0 else self.kafka.end_of(place, epoch)
        if end >= at:
            return None
        words = f"offset {at} (leader epoch {epoch}): broker end offset is {end} (offset leader epoch"
        if end < 0:
            text = f"No epoch found less or equal to {words} -1). Reset using configured policy."
        else:
            text = f"Partition log truncation detected at {words} 0). Reset to INVALID."
        text += ": Local: Partition log truncation detected (broker 1)"
        return Message(place, at if end < 0 else None, None, KafkaError(RESET, text))

    def incremental_assign(self, partitions: Sequence[TopicPartition]) -> None:
        for one in partitions:
            self.jump(one.place, one.offset)
            self._epochs[one.place] = one.leader_epoch

    def seek(self, partition: TopicPartition) -> None:
        if self.seeks_late:
            self.seeks_late -= 1
            raise KafkaException(KafkaError(NOT_YET))
        self.incremental_assign([partition])
        self.unsure.add(partition.place)

    def incremental_unassign(self, partitions: Sequence[TopicPartition]) -> None:
        for one in partitions:
            self.assigned.pop(one.place, None)

    def pause(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused |= {one.place for one in partitions}

    def resume(self, partitions: Sequence[TopicPartition]) -> None:
        self.paused -= {one.place for one in partitions}

    def committed(self, partitions: Sequence[TopicPartition], timeout: float) -> list[TopicPartition]:
        found = [(one.place, self.kafka.committed.get(one.place, (NOTHING, ""))) for one in partitions]
        return [TopicPartition(*one, *kept, self.kafka.epochs.get(one, -1)) for one, kept in found]

    def get_watermark_offsets(self, partition: TopicPartition, timeout: float) -> tuple[int, int]:
        return 0, len(self.kafka.log[partition.place])

    def commit(self, *, offsets: Sequence[TopicPartition], asynchronous: bool) -> list[TopicPartition] | None:
        if not asynchronous:
            return self.kafka.commit(offsets)
        try:
            answer, problem = self.kafka.commit(offsets), None
        except KafkaException as error:
            answer, problem = list(offsets), error.args[0]
        self._steps.append((0, lambda: self.options["on_commit"](problem, answer)))
        return None

    def close(self) -> None:
        self.is_closed = True


class ScriptedAdmin:
    def __init__(self, kafka: ScriptedKafka, servers: str) -> None:
        self._kafka = kafka
        self._servers = servers

    def poll(self, timeout: float) -> int:
        return 0

    def describe_cluster(self, **_: Any) -> "Answer":
        self._kafka.looked.append(self._servers)
        if self._kafka.clusters is None:
            return Answer(SimpleNamespace(cluster_id="scripted"))
        if self._servers not in self._kafka.clusters:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return Answer(SimpleNamespace(cluster_id=self._kafka.clusters[self._servers]))

    def describe_topics(self, names: Sequence[str], **_: Any) -> dict[str, "Answer"]:
        return {name: Answer(SimpleNamespace(topic_id=f"id of {name}")) for name in names}

    def list_offsets(self, asked: Mapping[TopicPartition, int], **_: Any) -> dict[TopicPartition, "Answer"]:
        return {
            one: Answer(SimpleNamespace(offset=len(self._kafka.log[one.place]) if which else 0))
            for one, which in asked.items()
        }


class Answer:
    """A future that is there."""

    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self, timeout: float = 0) -> Any:
        return self._value
