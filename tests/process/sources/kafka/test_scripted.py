"""The whole service behind scripted brokers, where no real one is needed."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import pytest

from ingestd.sources.kafka.note import read_note
from ingestd.sources.kafka.source import KafkaSource
from tests.event_api import EventApi, event, events, events_of, key, once_each
from tests.process.sources.support import given_up, running, settings, until
from tests.receiver import Reply, Request
from tests.scripted_kafka import REBALANCING, ScriptedKafka

pytestmark = pytest.mark.anyio

BROKER = {"bootstrap_servers": "127.0.0.1:1"}


async def test_two_sources_share_a_lane_and_neither_waits_for_room_that_the_other_was_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = ScriptedKafka(a=1, b=1).install(monkeypatch)
    large = "x" * 20_000  # so that there are many chunks
    kafka.produce("a", 0, *events(300, note=large))
    kafka.produce("b", 0, *events(300, first=300, note=large))
    gate = asyncio.Event()

    async def slow(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    sources = {name: {**BROKER, "topics": name, "group": name} for name in ("a", "b")}
    more = {"batch": {"max_events": 5, "max_age": 0.05}, "delivery": {"max_in_flight": 2}}
    async with EventApi(slow) as api:
        given = settings(tmp_path, api.url, {**BROKER, "topics": "a"}, kind="kafka", **more)
        ingest = given.ingest.model_validate({"listen": "127.0.0.1:0", "kafka": sources})
        async with running(given.model_copy(update={"ingest": ingest})) as service:
            await until(lambda: len(kafka.consumers) == 2)
            for member in kafka.consumers:
                (topic,) = member.topics
                member.do(lambda m=member, t=topic: m.give((t, 0)))  # type: ignore[misc]
            lane = service.service.pipeline.runners[0].lane
            await until(lambda: lane.full)
            gate.set()
            await service.settled(600)
        arrived = [one for batch in once_each(api.batches).values() for one in batch]
        assert sorted(arrived) == sorted(events(600, note=large))


async def test_no_request_goes_out_before_its_batch_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = ScriptedKafka(a=2).install(monkeypatch)
    for partition in (0, 1):
        kafka.produce("a", partition, *events(40, first=40 * partition))
    unnamed: list[str] = []

    def look(request: Request) -> Reply:
        notes = [read_note(note) for _, note in kafka.committed.values()]
        if key(request) not in {one.id for note in notes for one in note.batches(1)}:
            unnamed.append(key(request))
        return Reply()

    more = {"batch": {"max_events": 7, "max_age": 0.05}}
    async with EventApi(look) as api:
        given = settings(tmp_path, api.url, {**BROKER, "topics": "a"}, kind="kafka", **more)
        async with running(given) as service:
            await until(lambda: kafka.consumers)
            member = kafka.member
            member.do(lambda: member.give(("a", 0), ("a", 1)))
            await service.settled(80)
            await until(lambda: [kafka.committed["a", n][0] for n in (0, 1)] == [40, 40])
        assert len(api.batches) == 12, "of one partition each"
    assert unnamed == []


ANOTHER = "ingestd 00000000000000ff"
"""Of another member: the owner of its notes."""
ORDERED = {"batch": {"max_events": 7, "max_age": 0.05}, "delivery": {"order_by": "attributes.note"}}


def assert_order(arrived: Sequence[bytes], published: Sequence[bytes]) -> None:
    """All of them, and those of a key in their order."""
    assert sorted(arrived) == sorted(published)
    for note in {one.partition(b'"note":')[2][:5] for one in published}:
        assert [one for one in arrived if note in one] == [one for one in published if note in one]


async def test_a_batch_that_nobody_was_told_of_does_not_hold_its_events_back_when_they_come_again_as_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was frozen in the first moment of a partition that another member had committed last, before a
    commit of this one. So this process reads on where the other was, and must not take the events of that
    batch for copies: what is behind them would go first."""
    kafka = ScriptedKafka(a=1).install(monkeypatch)
    kafka.committed["a", 0] = 0, ANOTHER
    published = [event(number, note=f"k{number % 3}") for number in range(60)]
    kafka.produce("a", 0, *published)
    kafka.refusals += [REBALANCING] * 10_000
    async with EventApi() as api:
        given = settings(tmp_path, api.url, {**BROKER, "topics": "a"}, kind="kafka", **ORDERED)
        async with running(given) as service:
            await until(lambda: kafka.consumers)
            member = kafka.member
            member.do(lambda: member.give(("a", 0)))
            await until(lambda: any(read_note(at["a", 0][1]).rows for at in kafka.refused))
            await service.crash()
        kafka.refusals.clear()
        assert (kafka.committed["a", 0][1], api.batches) == (ANOTHER, []), "nobody was told, nothing was sent"
        async with running(given) as service:
            await until(lambda: len(kafka.consumers) == 2)
            again = kafka.member
            again.do(lambda: again.give(("a", 0)))
            await service.settled(60)
        assert_order([one for batch in once_each(api.batches).values() for one in batch], published)


async def test_what_is_left_of_a_batch_of_which_messages_are_gone_goes_before_what_is_behind_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kafka = ScriptedKafka(a=1).install(monkeypatch)
    published = [event(number, note=f"k{number % 3}") for number in range(60)]
    kafka.produce("a", 0, *published)
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    async with EventApi(answer) as api:
        given = settings(tmp_path, api.url, {**BROKER, "topics": "a"}, kind="kafka", **ORDERED)
        async with running(given) as service:
            await until(lambda: kafka.consumers)
            member = kafka.member
            member.do(lambda: member.give(("a", 0)))
            await until(lambda: api.batches)
            await service.crash()
        sent = len(api.batches)
        kafka.compact("a", 0, 1, 30)
        gate.set()
        async with running(given) as service:
            await until(lambda: len(kafka.consumers) == 2)
            again = kafka.member
            again.do(lambda: again.give(("a", 0)))
            await service.settled(58)
        left = [one for at, one in enumerate(published) if at not in (1, 30)]
        assert_order([one for batch in once_each(api.batches[sent:]).values() for one in batch], left)


async def test_with_batches_of_several_partitions_what_another_has_read_on_comes_in_order_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is named then, so what was sent may come under another key."""
    kafka = ScriptedKafka(a=2).install(monkeypatch)
    published = [event(number, note=f"k{number % 6}") for number in range(60)]
    for partition in (0, 1):
        kafka.produce("a", partition, *published[partition:6:2])
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    async with EventApi(answer) as api:
        source = {**BROKER, "topics": "a", "exact_takeover": False}
        given = settings(tmp_path, api.url, source, kind="kafka", **ORDERED)
        async with running(given) as service:
            await until(lambda: kafka.consumers)
            member = kafka.member
            member.do(lambda: member.give(("a", 0), ("a", 1)))
            await until(lambda: api.batches)
            await service.crash()
        assert [len(events_of(one)) for one in api.batches] == [6], "of both partitions"
        for partition in (0, 1):
            kafka.committed["a", partition] = 0, ANOTHER
            kafka.produce("a", partition, *published[6 + partition :: 2])
        gate.set()
        async with running(given) as service:
            await until(lambda: len(kafka.consumers) == 2)
            again = kafka.member
            again.do(lambda: again.give(("a", 0), ("a", 1)))
            await service.settled(60)
        assert_order([one for batch in once_each(api.batches[1:]).values() for one in batch], published)


async def test_a_batch_of_its_own_that_another_owner_had_and_names_is_repeated_as_it_was_and_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its journal knows the batch under the number that the partition had then. A copy of its events that
    comes later is one."""
    kafka = ScriptedKafka(a=1).install(monkeypatch)
    published = [event(number, note=f"k{number % 3}") for number in range(60)]
    kafka.produce("a", 0, *published)
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    async with EventApi(answer) as api:
        given = settings(tmp_path, api.url, {**BROKER, "topics": "a"}, kind="kafka", **ORDERED)
        async with running(given) as service:
            await until(lambda: kafka.consumers)
            member = kafka.member
            member.do(lambda: member.give(("a", 0)))
            await until(lambda: api.batches)
            await service.crash()
        offset, note = kafka.committed["a", 0]
        assert note.count(" ") == 2, "the batch is named"
        kafka.committed["a", 0] = offset, f"{ANOTHER} {note.split()[2]}"
        kafka.produce("a", 0, *published[:7])
        gate.set()
        async with running(given) as service:
            await until(lambda: len(kafka.consumers) == 2)
            again = kafka.member
            again.do(lambda: again.give(("a", 0)))
            await service.settled(67)
            assert service.ledger["duplicate"] == 7
        assert_order([one for batch in once_each(api.batches).values() for one in batch], published)
        assert api.keys[0] == api.keys[1]


async def test_through_the_spool_nothing_is_kept_for_batches_that_there_are_none_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However often a partition comes back that another member has read on."""
    kafka = ScriptedKafka(a=1).install(monkeypatch)
    kafka.produce("a", 0, *events(40))
    async with EventApi() as api:
        given = settings(tmp_path, api.url, {**BROKER, "topics": "a", "spool": True}, kind="kafka")
        async with running(given) as service:
            await until(lambda: kafka.consumers)
            member = kafka.member

            def come_back(offset: int) -> None:
                member.take(("a", 0))
                kafka.committed["a", 0] = offset, ANOTHER
                member.give(("a", 0))

            member.do(lambda: member.give(("a", 0)))
            await service.settled(40)
            for offset in (37, 38, 39):
                kafka.produce("a", 0, *events(1, first=3 * offset))
                member.do(lambda at=offset: come_back(at))  # type: ignore[misc]
                await until(lambda at=offset: event(3 * at) in api.events)
            source = service.service.brokers.feeds[0].source
            assert isinstance(source, KafkaSource)
            assert source._partitions.by_place["a", 0].number > 1, "it had several numbers"
            assert source.heirs._waiting == []
        assert len(api.events) == 43


async def test_where_batches_have_events_of_several_partitions_the_log_says_how_many_cannot_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = ScriptedKafka(a=2).install(monkeypatch)
    for partition in (0, 1):
        kafka.produce("a", partition, *events(10, first=10 * partition))
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await gate.wait()
        return Reply()

    more = {"batch": {"max_events": 7, "max_age": 0.05}}
    source = {**BROKER, "topics": "a", "exact_takeover": False}
    async with EventApi(answer) as api:
        given = settings(tmp_path, api.url, source, kind="kafka", **more)
        async with running(given) as service:
            await until(lambda: kafka.consumers)
            member = kafka.member
            member.do(lambda: member.give(("a", 0), ("a", 1)))
            await until(lambda: len(api.batches) == 3)
            await service.crash()
        first = dict(zip(api.keys, map(events_of, api.batches), strict=True))
        gone = next(batch for batch in first.values() if len(batch) < 7)[1]
        kafka.compact(*next((*at, log.index(gone)) for at, log in kafka.log.items() if gone in log))
        gate.set()
        async with running(given) as service:
            await until(lambda: len(kafka.consumers) == 2)
            again = kafka.member
            again.do(lambda: again.give(("a", 0), ("a", 1)))
            await service.settled(19)
        later = once_each(api.batches[3:])
    assert {key: later.get(key) for key, batch in first.items() if gone not in batch} == {
        key: batch for key, batch in first.items() if gone not in batch
    }
    assert sorted(one for batch in later.values() for one in batch) == sorted(
        one for batch in first.values() for one in batch if one != gone
    )
    assert given_up(caplog.text) == 1


async def test_what_came_in_the_place_of_an_end_that_was_lost_is_delivered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was settled behind an event that nobody takes is known by its offsets; some are of others now."""
    kafka = ScriptedKafka(a=1).install(monkeypatch)
    kafka.produce("a", 0, *events(10))
    gate = asyncio.Event()

    async def answer(request: Request) -> Reply:
        if event(0) in events_of(request):
            await gate.wait()
        return Reply()

    more = {"batch": {"max_events": 5, "max_age": 0.05}}
    async with EventApi(answer) as api:
        given = settings(tmp_path, api.url, {**BROKER, "topics": "a"}, kind="kafka", **more)
        async with running(given) as service:
            await until(lambda: kafka.consumers)
            member = kafka.member
            member.do(lambda: member.give(("a", 0)))
            await until(lambda: service.service.pipeline.ledger.delivered == 5)
            await service.service.pipeline.journal.commit()
            await service.crash()
        kafka.log["a", 0][6:] = events(3, first=100)
        gate.set()
        async with running(given) as service:
            await until(lambda: len(kafka.consumers) == 2)
            again = kafka.member
            again.do(lambda: again.give(("a", 0)))
            await until(lambda: {*events(3, first=100)} <= {*api.events}, service.task)
