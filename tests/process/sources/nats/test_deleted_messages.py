"""Messages that a stream deleted before they were read, with a real NATS server."""

import asyncio
import time
from pathlib import Path

import pytest

from tests.event_api import EventApi, event, events, events_of, once_each
from tests.machine import patience
from tests.process.sources.nats.support import IN_TURN, NatsServer, running, settings, stream, until
from tests.process.sources.support import given_up
from tests.receiver import Reply, Request

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(("subjects", "lost"), [([], 15), (["a"], 0)])
async def test_what_was_deleted_before_it_was_read_is_told_and_counted(
    tmp_path: Path,
    shared_nats: NatsServer,
    caplog: pytest.LogCaptureFixture,
    subjects: list[str],
    lost: int,
) -> None:
    """Where other subjects are in the stream, too, nobody can tell whose messages they were."""
    async with EventApi() as api, stream(shared_nats.url) as made:
        source = {"servers": [shared_nats.url], "stream": made.name}
        source["subjects"] = [f"{made.name}.{one}" for one in subjects]
        for one in events(10):
            await made.publish(one, subject="a")
        async with running(settings(tmp_path, api.url, source, delivery=IN_TURN)) as service:
            await service.settled(10)
        for one in events(20, first=10):
            await made.publish(one, subject="a")
        assert "error" not in await made.ask(f"STREAM.PURGE.{made.name}", {"seq": 26})
        async with running(settings(tmp_path, api.url, source, delivery=IN_TURN)) as service:
            await until(lambda: len(api.events) == 15)
            assert await service.metric("ingestd_source_lost_messages_total") == lost
        assert api.events == [*events(10), *events(5, first=25)]
    assert ("has lost at most 15 messages, sequences 11 to 25, deleted" in caplog.text) is bool(lost)


@pytest.mark.parametrize("after", [5, 0])
async def test_what_was_deleted_while_it_was_connected_and_behind_is_told_and_counted(
    tmp_path: Path, shared_nats: NatsServer, caplog: pytest.LogCaptureFixture, after: int
) -> None:
    """It has its fill of messages that the API does not take. ``after``: so many are left behind them."""
    api_is_back = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await api_is_back.wait()
        return Reply()

    async with EventApi(answer) as api, stream(shared_nats.url) as made:
        source = {"servers": [shared_nats.url], "stream": made.name, "max_unacked": 10}
        async with running(settings(tmp_path, api.url, source, delivery=IN_TURN)) as service:
            for one in events(30):
                await made.publish(one)
            await until(lambda: service.ledger["accepted"] == 10)
            assert "error" not in await made.ask(f"STREAM.PURGE.{made.name}", {"seq": 31 - after})
            api_is_back.set()
            await service.settled(10 + after)
            lost, end = 20 - after, time.monotonic() + patience(20)
            while await service.metric("ingestd_source_lost_messages_total") != lost:
                assert time.monotonic() < end, caplog.text
                await asyncio.sleep(0.05)
            await made.publish(events(1, first=30)[0])
            await service.settled(11 + after)
            assert await service.metric("ingestd_source_lost_messages_total") == lost  # each once
        assert api.events == [*events(10), *events(after + 1, first=30 - after)]
    words = f"has lost at most {lost} messages, sequences 11 to {30 - after}, deleted"
    assert caplog.text.count("has lost at most") == caplog.text.count(words) == 1


async def test_batches_of_which_no_message_is_gone_are_repeated_and_what_is_left_of_the_others_is_new(
    tmp_path: Path, shared_nats: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    """They are of the same chunk. Killed twice: what is known of it is as it was at first, and since."""
    api_is_back = asyncio.Event()

    async def answer(request: Request) -> Reply:
        await api_is_back.wait()
        return Reply()

    more = {"batch": {"max_events": 7, "max_age": 5}}
    async with EventApi(answer) as api, stream(shared_nats.url) as made:
        source = {"servers": [shared_nats.url], "stream": made.name}
        for one in events(28):
            await made.publish(one)
        async with running(settings(tmp_path, api.url, source, **more)) as service:
            await until(lambda: len(api.batches) == 4)
            await service.crash()
        first = dict(zip(api.keys, map(events_of, api.batches), strict=True))
        for sequence in (4, 5, 28):
            assert "error" not in await made.ask(f"STREAM.MSG.DELETE.{made.name}", {"seq": sequence})
        more["batch"]["max_age"] = 0.05
        async with running(settings(tmp_path, api.url, source, **more)) as service:
            await until(lambda: len(api.batches) == 8)
            await service.crash()
        api_is_back.set()
        async with running(settings(tmp_path, api.url, source, **more)) as service:
            await service.settled(25)
        later = once_each(api.batches[4:])
    whole = {key: one for key, one in first.items() if not {event(3), event(27)} & {*one}}
    assert len(whole) == 2
    assert {key: later[key] for key in whole} == whole
    arrived = [one for key, batch in later.items() if key not in first for one in batch]
    gone = (3, 4, 27)
    left = [event(n) for n in (*range(7), *range(21, 28)) if n not in gone]
    assert arrived == left
    assert later.keys() & first.keys() == whole.keys()
    assert given_up(caplog.text) == 2
