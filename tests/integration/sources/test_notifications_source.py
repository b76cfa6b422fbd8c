"""What time does to channels of notifications: silence, age, and what comes twice. No network."""

import asyncio
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from ingestd.config import Settings
from ingestd.core.errors import Unreachable
from ingestd.sources.broker.source import BrokerAway
from ingestd.sources.genesys.channel import Channel
from ingestd.sources.genesys.settings import NotificationsConfig
from ingestd.sources.genesys.source import NotificationsSource
from ingestd.store.source_rows import SourceState
from ingestd.telemetry.audit_entry import AuditEntry
from ingestd.transport.websocket import WebSocketLost
from tests.each import each
from tests.integration.delivery.virtual_time import VIRTUAL, LoopClock

pytestmark = pytest.mark.anyio
EPOCH = 1_800_000_000.0


@pytest.fixture
def anyio_backend() -> tuple[str, Mapping[str, Any]]:
    return VIRTUAL


class Clock(LoopClock):
    @staticmethod
    def wall() -> float:  # type: ignore[override]
        return EPOCH + asyncio.get_running_loop().time()


class Socket:
    """``beats``: a heartbeat every 30 s; ``answers``: a pong to each ping."""

    def __init__(self, platform: "Platform") -> None:
        self.platform = platform
        self.inbox: asyncio.Queue[str | None] = asyncio.Queue()
        self.open = True
        self.pings = 0
        if platform.beats:
            self._task = asyncio.ensure_future(self._beat())

    async def _beat(self) -> None:
        while self.open:
            self.inbox.put_nowait('{"topicName":"channel.metadata","eventBody":{"message":"Heartbeat"}}')
            await asyncio.sleep(30)

    async def receive(self) -> str:
        found = await self.inbox.get()
        if found is None:
            raise WebSocketLost("it was closed")
        return found

    async def send(self, text: str) -> None:
        assert json.loads(text) == {"message": "ping"}
        self.pings += 1
        if self.platform.answers:
            self.inbox.put_nowait('{"topicName":"channel.metadata","eventBody":{"message":"pong"}}')

    async def close(self) -> None:
        self.open = False


class Platform:
    """The API and its WebSockets. ``away``: neither answers."""

    def __init__(self, *, beats: bool = True, answers: bool = True) -> None:
        self.beats, self.answers, self.away = beats, answers, False
        self.sockets: list[Socket] = []
        self.subscribed: list[list[str]] = []
        self.deleted = 0
        self.rejects: set[str] = set()

    async def post(self, path: str, body: Any = None) -> Any:
        if self.away:
            raise Unreachable("POST: away")
        return {"id": f"c{len(self.sockets)}", "connectUri": "wss://x/channels/c"}

    async def put(self, path: str, body: Any) -> Any:
        self.subscribed.append([one["id"] for one in body])
        states = {True: "Rejected", False: "Permitted"}
        return {"entities": [{**one, "state": states[one["id"] in self.rejects]} for one in body]}

    async def delete(self, path: str) -> None:
        self.deleted += 1

    async def connect(self, url: str) -> Socket:
        if self.away:
            raise WebSocketLost("cannot connect")
        self.sockets.append(Socket(self))
        return self.sockets[-1]

    def emit(self, *numbers: int) -> None:
        """To all that are open."""
        for number in numbers:
            for socket in self.sockets:
                if socket.open:
                    socket.inbox.put_nowait(json.dumps({"topicName": "v2.t.t", "eventBody": {"n": number}}))

    def say(self, text: str | None, *, to: int = -1) -> None:
        self.sockets[to].inbox.put_nowait(text)


class Journal:
    def __init__(self, mark: float = 0.0) -> None:
        self.marks = [int(mark * 1e9)]

    async def find_stream(self, path: str, identity: bytes, *, now: float) -> SourceState:
        return SourceState(3, 0, 1, mark=(self.marks[-1], b""))

    def moved(self, source: int, position: int, line: int, mark: tuple[int, bytes]) -> None:
        self.marks.append(mark[0])

    async def commit(self) -> None: ...


class Reader:
    def __init__(self, source: NotificationsSource) -> None:
        self.source, self.said, self.audited = source, list[str](), list[dict[str, Any]]()
        self.numbers: list[int] = []
        self.task: asyncio.Task[None] | None = None

    async def read(self) -> None:
        async for chunk, receipt in self.source.chunks():
            self.numbers += [json.loads(one)["eventBody"]["n"] for one in chunk.events]
            receipt.settle(len(chunk.events))

    def go(self) -> None:
        self.task = asyncio.ensure_future(self.read())


@asynccontextmanager
async def listening(platform: Platform, journal: Journal | None = None, **more: Any) -> AsyncIterator[Reader]:
    said: list[str] = []
    audited: list[dict[str, Any]] = []

    def audit(entry: AuditEntry, /, **fields: Any) -> None:
        assert entry is AuditEntry.SOURCE_GAP
        audited.append(fields)

    clock = Clock()
    source = NotificationsSource(
        "n",
        NotificationsConfig(**{"topics": ["v2.t.t"], **more}),
        journal or Journal(),  # type: ignore[arg-type]
        channel=lambda: Channel(platform, platform, clock),  # type: ignore[arg-type]
        clock=clock,
        rng=random.Random(1),
        warn=said.append,
        audit=audit,
    )
    reader = Reader(source)
    reader.said, reader.audited = said, audited
    await source.open()
    reader.go()
    try:
        yield reader
    finally:
        await source.close()
        if reader.task:
            await reader.task


async def test_a_channel_is_replaced_before_it_ends_and_nothing_is_missed_or_taken_twice() -> None:
    platform, journal = Platform(), Journal()
    async with listening(platform, journal, renew_after=60) as reader:
        for number in range(130):
            platform.emit(number)
            await asyncio.sleep(1)
        assert reader.numbers == [*range(130)]
        assert len(platform.sockets) == 3
        assert [one.open for one in platform.sockets] == [False, False, True]
        assert platform.deleted == 2
        assert reader.source.counts.gaps == 0
        assert reader.source.counts.redelivered >= 8
        assert journal.marks[-1] >= (EPOCH + 95) * 1e9, "heartbeats are noted"


async def test_the_same_words_twice_through_one_channel_are_two_events() -> None:
    platform = Platform()
    async with listening(platform) as reader:
        platform.emit(1, 1)
        await asyncio.sleep(1)
        assert reader.numbers == [1, 1]


async def test_one_that_is_silent_is_asked_and_then_given_up() -> None:
    quiet = Platform(beats=False)
    async with listening(quiet) as reader:
        await asyncio.sleep(120)
        assert quiet.sockets[0].pings == 2
        assert (len(quiet.sockets), reader.source.counts.gaps) == (1, 0)
    dead = Platform(beats=False, answers=False)
    async with listening(dead) as reader:
        await asyncio.sleep(91)
        assert len(dead.sockets) == 2
        assert reader.audited == [
            {
                "source": "genesys_notifications.n",
                "since": "2027-01-15T08:02:00.000Z",
                "until": "2027-01-15T08:03:30.000Z",
                "topics": 1,
            }
        ]


async def test_a_gap_is_from_the_last_word_to_the_new_subscription() -> None:
    platform, journal = Platform(), Journal()
    async with listening(platform, journal) as reader:
        await asyncio.sleep(40)
        platform.emit(1)
        await asyncio.sleep(1)
        platform.away = True
        platform.say(None)
        await asyncio.sleep(50)
        assert not reader.source.counts.connected
        assert journal.marks[-1] <= (EPOCH + 41) * 1e9, "the mark does not go on while nobody listens"
        platform.away = False
        await asyncio.sleep(16)
        assert reader.source.counts.connected
        assert reader.source.counts.gaps == 1
        assert 50 <= reader.source.counts.gap_seconds <= 67
        platform.emit(2)
        await asyncio.sleep(1)
        assert reader.numbers == [1, 2]
        assert len(platform.sockets) == 2


async def test_the_next_start_tells_how_long_nobody_listened() -> None:
    platform = Platform()
    async with listening(platform, Journal(EPOCH - 500)) as reader:
        assert reader.source.counts.gap_seconds == 500
    assert reader.audited[0]["since"] == "2027-01-15T07:51:40.000Z"
    async with listening(platform, Journal()) as reader:
        assert reader.source.counts.gaps == 0


async def test_an_old_channel_is_listened_to_as_long_as_there_is_no_other() -> None:
    platform = Platform()
    async with listening(platform, renew_after=60) as reader:
        await asyncio.sleep(59)
        platform.away = True
        await asyncio.sleep(30)
        platform.emit(7)
        await asyncio.sleep(1)
        assert (reader.numbers, reader.source.counts.gaps) == ([7], 0)
        platform.say('{"topicName":"v2.system.socket_closing","eventBody":{"message":"soon"}}')
        platform.say(None)
        await asyncio.sleep(20)
        assert not reader.source.counts.connected
        platform.away = False
        await asyncio.sleep(16)
        assert reader.source.counts.gaps == 1


async def test_topics_that_are_not_allowed_are_told_and_the_others_heard() -> None:
    platform = Platform()
    platform.rejects = {"v2.a.b"}
    async with listening(platform, topics=["v2.t.t", "v2.a.b", "v2.t.t"]) as reader:
        assert platform.subscribed == [["v2.t.t", "v2.a.b"]]
        assert "1 topics are not allowed, as v2.a.b" in reader.said[0]
    with pytest.raises(BrokerAway, match="none of its topics is allowed"):
        async with listening(platform, topics=["v2.a.b"]):
            pass


async def test_many_topics_have_several_channels() -> None:
    platform = Platform()
    async with listening(platform, topics=[f"v2.users.{n}.presence" for n in range(2_500)]) as reader:
        assert [len(one) for one in platform.subscribed] == [1000, 1000, 500]
        platform.say(None, to=1)
        await asyncio.sleep(1)
        assert len(platform.sockets) == 4
        assert reader.source.counts.gaps == 1
        assert reader.audited[0]["topics"] == 1000


async def test_while_there_is_no_room_the_sockets_are_not_read_and_nothing_is_lost() -> None:
    platform = Platform()
    async with listening(platform) as reader:
        assert reader.task
        reader.task.cancel()
        platform.emit(*range(2_500))
        await asyncio.sleep(5)
        assert len(reader.source._arrived) == 2_000
        reader.go()
        await asyncio.sleep(5)
        assert reader.numbers == [*range(2_500)]


@each(
    "table, words",
    [
        ({"renew_after": 60}, "topics are missing"),
        ({"topics": ["users.x"]}, "topics"),
        ({"topics": ["v2.a b"]}, "topics"),
        ({"topics": ["v2.a"], "renew_after": "24h"}, "renew_after"),
    ],
)
def test_what_cannot_be_listened_to_is_refused_with_the_settings(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Settings.model_validate({"ingest": {"genesys_notifications": table}})
