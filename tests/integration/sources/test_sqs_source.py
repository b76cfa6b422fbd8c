"""What SQS does to a consumer that moto does not do: results of entries, lost time, old handles."""

import asyncio
import json
import random
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingestd.config import Settings
from ingestd.core.answer import Answer
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.sqs.queue import Failed, SqsError, SqsMessage, SqsQueue
from ingestd.sources.sqs.settings import SqsConfig
from ingestd.sources.sqs.source import SqsSource
from ingestd.store.source_rows import SourceState
from ingestd.transport.auth import NoAuth
from tests.each import each
from tests.integration.delivery.virtual_time import VIRTUAL, LoopClock

pytestmark = pytest.mark.anyio
URL = "https://sqs.eu-central-1.amazonaws.com/123456789012/events"


@pytest.fixture
def anyio_backend() -> tuple[str, Mapping[str, Any]]:
    return VIRTUAL


@each(
    "url, aws_region, region",
    [
        (URL, "", "eu-central-1"),
        (URL, "us-east-1", "us-east-1"),
        ("https://eu-west-1.queue.amazonaws.com/1/q.fifo", "", "eu-west-1"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "", "cn-north-1"),
        ("http://127.0.0.1:4566/000000000000/q", "", ""),
    ],
)
def test_the_region_is_in_the_url_of_a_queue(url: str, aws_region: str, region: str) -> None:
    assert SqsConfig(queue_url=url, aws_region=aws_region).region == region


@each(
    "table, words",
    [
        ({"visibility": 30}, "queue_url is missing"),
        ({"queue_url": "arn:aws:sqs:eu-central-1:1:q"}, "the URL of the queue"),
        ({"queue_url": "https://user@h/1/q"}, "the URL of the queue"),
        ({"queue_url": "https://h/"}, "the URL of the queue"),
        ({"a": {"queue_url": URL}, "b": {"queue_url": URL}}, "ingest.sqs.a and ingest.sqs.b read the same"),
    ],
)
def test_a_queue_that_cannot_be_is_refused_with_the_settings(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings.model_validate({"ingest": {"sqs": table}})


class Queue:
    """``faults``: what the next calls raise, or give as failed, by the name of the call."""

    url = URL

    def __init__(self) -> None:
        self.waiting: list[SqsMessage] = []
        self.asked = 0
        self.deleted: list[str] = []
        self.extended: list[tuple[str, float | None]] = []
        self.faults: dict[str, list[Any]] = {"receive": [], "delete": [], "extend": []}
        self._came = asyncio.Event()

    def give(self, *ids: str, handle: str = "h", received: int = 1) -> None:
        self.waiting += [
            SqsMessage(id_, f"{handle}-{id_}", f'{{"n":"{id_}"}}', {}, 1, received) for id_ in ids
        ]
        self._came.set()

    async def attributes(self) -> dict[str, str]:
        return {"ApproximateNumberOfMessages": str(len(self.waiting))}

    async def receive(self, most: int) -> list[SqsMessage]:
        self.asked += 1
        self._fault("receive")
        if not self.waiting:
            self._came.clear()
            asyncio.get_running_loop().call_later(20, self._came.set)
            await self._came.wait()
        given, self.waiting = self.waiting[:most], self.waiting[most:]
        return given

    async def delete(self, handles: Mapping[str, str]) -> list[Failed]:
        failed = self._fault("delete") or []
        self.deleted += [handle for id_, handle in handles.items() if id_ not in {one.id for one in failed}]
        return failed

    async def extend(self, handles: Mapping[str, str], seconds: float | None = None) -> list[Failed]:
        failed = self._fault("extend") or []
        self.extended += [(handle, seconds) for handle in handles.values()]
        return failed

    def _fault(self, call: str) -> Any:
        fault = self.faults[call].pop(0) if self.faults[call] else None
        if isinstance(fault, Exception):
            raise fault
        return fault

    async def aclose(self) -> None: ...


class Journal:
    def __init__(self) -> None:
        self.commits = 0

    async def find_stream(self, path: str, identity: bytes, *, now: float) -> Any:
        return SourceState(3, 0, 1)

    def moved(self, *_: object) -> None: ...

    async def commit(self) -> None:
        self.commits += 1


class Reader:
    def __init__(self, source: SqsSource, said: list[str]) -> None:
        self.source = source
        self.said = said
        self.got: list[Any] = []  # (chunk, receipt)
        self.task = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        async for found in self.source.chunks():
            self.got.append(found)

    @property
    def events(self) -> int:
        return sum(len(chunk.events) for chunk, _ in self.got)

    def settle(self) -> None:
        for chunk, receipt in self.got:
            receipt.settle(len(chunk.events))
        self.got = []


@asynccontextmanager
async def reading(queue: Queue, **settings: Any) -> AsyncIterator[Reader]:
    said: list[str] = []
    source = SqsSource(
        "q",
        SqsConfig(queue_url=URL, **settings),
        queue,  # type: ignore[arg-type]
        Journal(),  # type: ignore[arg-type]
        clock=LoopClock(),
        rng=random.Random(1),
        warn=said.append,
    )
    await source.open()
    reader = Reader(source, said)
    try:
        yield reader
    finally:
        await source.close()
        await reader.task


async def test_what_is_on_its_way_is_extended_and_what_is_settled_is_not() -> None:
    queue = Queue()
    queue.give("a", "b")
    async with reading(queue, visibility=9) as reader:
        await asyncio.sleep(29)
        assert {id_ for id_, seconds in queue.extended if seconds is None} == {"h-a", "h-b"}
        assert len(queue.extended) == 18
        assert reader.source.counts.unacked == 2
        reader.settle()
        await asyncio.sleep(1)
        assert sorted(queue.deleted) == ["h-a", "h-b"]
        assert reader.source.counts.unacked == 0
        queue.extended.clear()
        await asyncio.sleep(29)
        assert queue.extended == []
        queue.give("c")
        await asyncio.sleep(1)
    assert queue.extended == [("h-c", 0)], "what is not settled is given back at the end"


async def test_each_entry_of_a_delete_has_its_own_result() -> None:
    queue = Queue()
    queue.give("a", "b", "c")
    later, never = Failed("a", "InternalError", ours=False), Failed("b", "ReceiptHandleIsInvalid", ours=True)
    queue.faults["delete"] = [[later, never], SqsError("away")]
    async with reading(queue, visibility=9) as reader:
        await asyncio.sleep(0.1)
        reader.settle()
        await asyncio.sleep(5)
        assert sorted(queue.deleted) == ["h-a", "h-c"]
        assert reader.source.counts.unacked == 1
        queue.give("b", handle="new", received=2)
        await asyncio.sleep(1)
        assert queue.deleted[2:] == ["new-b"], "it came again, and is deleted without being taken twice"
        assert reader.got == []
        assert (reader.source.counts.messages, reader.source.counts.redelivered) == (4, 1)


async def test_one_that_comes_again_while_it_is_on_its_way_takes_the_newer_handle() -> None:
    queue = Queue()
    queue.give("a")
    queue.faults["extend"] = [[Failed("a", "InvalidParameterValue", ours=True)]] * 3
    async with reading(queue, visibility=9) as reader:
        await asyncio.sleep(12)
        queue.give("a", handle="new", received=2)
        await asyncio.sleep(1)
        assert reader.events == 1
        reader.settle()
        await asyncio.sleep(1)
        assert queue.deleted == ["new-a"]


async def test_one_that_was_settled_and_never_comes_again_is_forgotten() -> None:
    queue = Queue()
    queue.give("a")
    queue.faults["delete"] = [[Failed("a", "ReceiptHandleIsInvalid", ours=True)]]
    async with reading(queue, visibility=9) as reader:
        await asyncio.sleep(0.1)
        reader.settle()
        await asyncio.sleep(45)
        assert not reader.source._held


async def test_nothing_is_asked_for_while_there_is_no_room() -> None:
    queue = Queue()
    queue.give(*map(str, range(300)))
    async with reading(queue, visibility=90, max_in_flight=50) as reader:
        await asyncio.sleep(10)
        assert reader.events == 50
        assert len(reader.source._held) == 50
        asked = queue.asked
        await asyncio.sleep(50)
        assert queue.asked == asked
        for _ in range(6):
            reader.settle()
            await asyncio.sleep(2)
        assert len(queue.deleted) == 300
    queue.give(*map(str, range(300, 600)))
    async with reading(queue) as reader:
        reader.task.cancel()  # nobody takes what comes
        await asyncio.sleep(10)
        assert 100 <= len(reader.source._held) <= 140
        reader.source.stop()
        reader.task = asyncio.ensure_future(asyncio.sleep(0))


async def test_several_ask_only_while_much_comes() -> None:
    queue = Queue()
    async with reading(queue, pollers=8) as reader:
        await asyncio.sleep(45)
        assert queue.asked <= 4
        queue.give(*map(str, range(500)))
        await asyncio.sleep(1)
        assert reader.events == 500


async def test_an_outage_of_sqs_is_told_once_and_waited_out(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "ingestd")
    queue = Queue()
    queue.faults["receive"] = [SqsError("it is away")] * 5
    async with reading(queue) as reader:
        await asyncio.sleep(1)
        assert not reader.source.counts.connected
        queue.give("a")
        await asyncio.sleep(60)
        assert reader.events == 1
        assert reader.source.counts.connected
        assert reader.said == ["sqs.q: it is away; it is tried again"]
        assert caplog.messages == ["sqs.q: works again, after 3.3s"]
    denied = Queue()
    denied.attributes = _denied  # type: ignore[method-assign]
    async with reading(denied):
        pass
    denied.attributes = _gone  # type: ignore[method-assign]
    with pytest.raises(BrokerAway):
        async with reading(denied):
            pass


async def test_a_fault_of_ours_ends_the_source_aloud() -> None:
    queue = Queue()
    queue.faults["receive"] = [ZeroDivisionError()]
    async with reading(queue) as reader:
        await asyncio.wait([reader.task])
        with pytest.raises(ZeroDivisionError):
            reader.task.result()
        reader.task = asyncio.ensure_future(asyncio.sleep(0))


@each(
    "answer, words",
    [
        (Answer(200, body=b'{"Messages":[7]}'), "not one of SQS"),
        (Answer(200, body=b'{"Messages":7}'), "not one of SQS"),
        (Answer(200, body=b"<html>sign in"), "200, and no answer of SQS"),
        (Answer(200, body=b'{"Mess', truncated=True), "200, and no answer of SQS"),
        (Answer(400, body=b'{"__type":"com.amazonaws.sqs#QueueDoesNotExist","message":"no\\n queue"}'),
         r"QueueDoesNotExist: no\n queue"),
        (Answer(0, error="connection refused"), "connection refused"),
    ],
)  # fmt: skip
async def test_what_is_no_answer_of_sqs_is_an_outage(answer: Answer, words: str) -> None:
    class Client:
        async def post(self, *_: object, **__: object) -> Answer:
            return answer

    queue = SqsQueue(SqsConfig(queue_url=URL), Client(), LoopClock())  # type: ignore[arg-type]
    queue._auth = NoAuth()  # type: ignore[assignment]
    with pytest.raises(SqsError, match=re.escape(words)):
        await queue.receive(10)


async def test_an_answer_that_leaves_an_entry_out_has_not_deleted_it() -> None:
    class Client:
        async def post(self, *_: object, **__: object) -> Answer:
            failed = {"Id": "1", "SenderFault": True, "Code": "ReceiptHandleIsInvalid"}
            return Answer(200, body=json.dumps({"Successful": [{"Id": "0"}], "Failed": [failed]}).encode())

    queue = SqsQueue(SqsConfig(queue_url=URL), Client(), LoopClock())  # type: ignore[arg-type]
    queue._auth = NoAuth()  # type: ignore[assignment]
    found = await queue.delete({"a": "ha", "b": "hb", "c": "hc"})
    assert found == [Failed("b", "ReceiptHandleIsInvalid", ours=True), Failed("c", "", ours=False)]


async def _denied() -> dict[str, str]:
    raise SqsError("no", "AccessDenied")


async def _gone() -> dict[str, str]:
    raise SqsError("no", "QueueDoesNotExist")
