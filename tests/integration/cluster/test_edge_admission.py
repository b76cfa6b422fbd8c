"""What an edge sends together, with a link that answers when the test says so, and a clock set by hand."""

import asyncio
import json
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from ingestd.cluster.edge_admission import EdgeAdmission
from ingestd.cluster.event_splitter import EventSplitter
from ingestd.cluster.names import StreamNames
from ingestd.core.clock import SystemClock
from ingestd.core.submission import AcceptedSubmission, DeferredSubmission, Result, Submission
from ingestd.processing.validate import Validator
from ingestd.schemas.interaction import InteractionSchema
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.nats.connection import JetStreamError, NatsMessage

if TYPE_CHECKING:
    from ingestd.cluster.link import JetStreamLink

pytestmark = pytest.mark.anyio

Sent = tuple[list[NatsMessage], "asyncio.Future[list[Any]]"]


class TimersByHand(SystemClock):
    """``left``: seconds until each timer; only ``fire`` lets time go by."""

    def __init__(self) -> None:
        self.left: dict[object, tuple[float, Callable[[], None]]] = {}

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Any:  # type: ignore[override]
        key = object()
        self.left[key] = (seconds, lambda: cast("None", callback(*args)))
        return SimpleNamespace(cancel=lambda: self.left.pop(key, None))

    def fire(self) -> float:
        """The first one; after how many seconds that is."""
        key = min(self.left, key=lambda one: self.left[one][0])
        seconds, callback = self.left.pop(key)
        callback()
        return seconds


class Edge:
    """``sent``: what it has sent together, with the future of the answers."""

    def __init__(self, partitions: int = 4, *, ordered: bool = False) -> None:
        self.clock = TimersByHand()
        self.sent: list[Sent] = []
        link = SimpleNamespace(connection=object(), append_all=self._append_all)
        splitter = EventSplitter(
            partitions, (lambda event: str(json.loads(event)["interactionId"])) if ordered else None
        )
        self.admission = EdgeAdmission(
            cast("JetStreamLink", link),
            StreamNames("t"),
            edge="edge",
            secret=bytes(32),
            splitter=lambda: splitter,
            validator=Validator(InteractionSchema()),
            max_event_bytes=400_000,
            max_unanswered_bytes=16 * 1024 * 1024,
            keep_rejected=True,
            accepted=lambda producer, count: None,
            clock=self.clock,
        )
        self.answers: dict[str, Result] = {}
        self._number = 0

    async def _append_all(self, messages: Sequence[NatsMessage], *, within_s: float) -> list[Any]:
        assert within_s == 10.0
        answers: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self.sent.append(([*messages], answers))
        return await answers

    def event(self, padding: int = 0) -> bytes:
        self._number += 1
        routing = {"queueId": "q", "skill": "s", "actionType": "QUEUE"}
        return json.dumps(
            {
                "eventType": "routing.interaction.queue",
                "eventTime": "2026-01-01T00:00:00.000Z",
                "interactionId": f"i-{self._number}",
                "routingMetadata": routing,
                "attributes": {"padding": "x" * padding},
                "schemaVersion": 1,
            }
        ).encode()

    def post(self, name: str, *events: bytes) -> None:
        self.admission.submit(
            Submission(
                list(events), lambda result: self.answers.update({name: result}), sum(map(len, events))
            )
        )

    async def turns(self) -> None:
        for _ in range(10):
            await asyncio.sleep(0)

    async def answer(self, number: int, *answers: Any) -> None:
        messages, future = self.sent[number]
        future.set_result([*answers] or [{"seq": 1} for _ in messages])
        await self.turns()


def events_of(messages: Sequence[NatsMessage]) -> int:
    return sum(int((headers or {}).get("Ingestd-Events", 0)) for _, _, headers in messages)


async def test_what_arrives_while_a_group_is_on_its_way_goes_together_behind_it() -> None:
    edge = Edge()
    edge.post("first", edge.event())
    await edge.turns()
    for name in "abc":
        edge.post(name, *(edge.event() for _ in range(20)))
        await edge.turns()
    assert [events_of(messages) for messages, _ in edge.sent] == [1]
    assert edge.answers == {}
    await edge.answer(0)
    assert [*edge.answers] == ["first"]
    assert [events_of(messages) for messages, _ in edge.sent] == [1, 60]
    messages, _ = edge.sent[1]
    assert sorted(subject for subject, _, _ in messages) == [f"ingestd.t.e.{number}" for number in range(4)]
    identities = [(headers or {})["Nats-Msg-Id"] for sent, _ in edge.sent for _, _, headers in sent]
    assert len({*identities}) == len(identities) == 5
    await edge.answer(1)
    assert edge.answers == {
        name: AcceptedSubmission(1 if name == "first" else 20, 0, []) for name in edge.answers
    }
    assert (edge.admission.counts.chunks, edge.admission.counts.stored) == (5, 61)


async def test_it_does_not_wait_longer_for_a_group_that_stands_still_and_not_where_chunks_are_full() -> None:
    edge = Edge(partitions=1)
    edge.post("first", edge.event())
    await edge.turns()
    edge.post("small", edge.event())
    await edge.turns()
    assert len(edge.sent) == 1
    assert edge.clock.fire() == 0.1
    await edge.turns()
    assert [events_of(messages) for messages, _ in edge.sent] == [1, 1]
    await edge.answer(1)
    assert [*edge.answers] == ["small"]
    edge.post("large", edge.event(300_000))
    await edge.turns()
    assert [events_of(messages) for messages, _ in edge.sent] == [1, 1, 1]
    edge.post("larger", edge.event(350_000))
    await edge.turns()
    assert len(edge.sent) == 3, "no more than two are on their way"
    await edge.answer(0)
    await edge.answer(2)
    await edge.answer(3)
    await edge.admission.finished()
    assert len(edge.answers) == 4


async def test_behind_several_requests_it_waits_a_moment_for_what_they_send_next_and_not_behind_few() -> None:
    edge = Edge()
    edge.post("alone", edge.event())
    await edge.turns()
    for number in range(4):
        edge.post(f"b{number}", edge.event())
    await edge.answer(0)
    assert [events_of(messages) for messages, _ in edge.sent] == [1, 4]
    await edge.answer(1)
    edge.post("c", edge.event())
    await edge.turns()
    edge.post("d", edge.event())
    await edge.turns()
    assert len(edge.sent) == 2
    assert edge.clock.fire() == 0.001
    await edge.turns()
    assert [events_of(messages) for messages, _ in edge.sent] == [1, 4, 2]
    await edge.answer(2)
    await edge.admission.finished()
    assert not edge.clock.left


@pytest.mark.parametrize(
    "answer", [BrokerAway("no answer"), JetStreamError(10077, "maximum bytes exceeded")], ids=["away", "full"]
)
async def test_nobody_is_answered_202_where_a_single_chunk_or_letter_is_not_stored(answer: Exception) -> None:
    edge = Edge()
    for failing in range(5):
        edge.post("one", *(edge.event() for _ in range(20)), b"{}")
        edge.post("two", *(edge.event() for _ in range(20)))
        await edge.turns()
        messages, _ = edge.sent[-1]
        assert (len(messages), events_of(messages)) == (5, 40)
        await edge.answer(-1, *(answer if at == failing else {"seq": 1} for at in range(5)))
        for name in ("one", "two"):
            result = edge.answers.pop(name)
            assert isinstance(result, DeferredSubmission)
            assert (result.status, result.retry_after_s > 0) == (503, True)
    assert edge.admission.counts.stored == 0
    assert edge.admission.deferred == {503: 5 * 41}


async def test_where_there_is_an_order_chunks_of_a_partition_follow_each_other_and_none_what_failed() -> None:
    edge = Edge(partitions=2, ordered=True)
    for name in "ab":
        edge.post(name, *(edge.event(90_000) for _ in range(12)))
        await edge.turns()
        if name == "a":
            edge.clock.fire()
    rounds = []
    while not edge.answers:
        subjects = [subject for subject, _, _ in edge.sent[-1][0]]
        assert len({*subjects}) == len(subjects), "two of a partition are on their way"
        rounds.append(len(subjects))
        await edge.answer(-1)
    assert (rounds[0], len(rounds) >= 3, len(edge.sent)) == (2, True, len(rounds) + 1)
    assert [*edge.answers] == ["a"]
    await edge.answer(-1, {"seq": 1}, BrokerAway("no answer"))
    assert isinstance(edge.answers["b"], DeferredSubmission)
    assert len(edge.sent) == len(rounds) + 1, "what comes later is not stored without what came before"
