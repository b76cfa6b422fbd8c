"""A partition that lost its end moves to a member with another state directory: what that is told names
messages by their offsets, and others may have come at these."""

from base64 import b64decode, b64encode
from collections.abc import Sequence
from pathlib import Path

import msgspec
import pytest

from tests.event_api import event, events, events_of, key, once_each
from tests.process.sources.kafka.one_partition import A0, Api, apis_of, member, next_owner, noted, read
from tests.process.sources.support import number_of, until
from tests.scripted_kafka import GONE, ScriptedKafka

pytestmark = pytest.mark.anyio

Lists = Sequence[Sequence[bytes] | None]


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> ScriptedKafka:
    return ScriptedKafka(a=1).install(monkeypatch)


async def first_owner(directory: Path, kafka: ScriptedKafka, apis: Sequence[Api], lists: Lists) -> None:
    """It reads these lists of events, each as a chunk. The first API does not answer for the batch with
    ``event(0)``; all else is settled, as the note says. ``None``: another leader."""
    apis[0].stuck = {event(0)}
    async with member(directory, kafka, apis) as service:
        for one in lists:
            if one is None:
                kafka.elect("a", 0)
            else:
                kafka.produce("a", 0, *one)
                await read(service, kafka)
        await until(lambda: all({*kafka.log[A0]} <= {*api.events} for api in apis))
        stuck = [key(one) for one in apis[0].batches if event(0) in events_of(one)]
        await until(lambda: [one.id for one in noted(kafka).batches(1) if not one.settled] == stuck)
        await service.crash()
    apis[0].stuck = set()


def without_epochs(note: str) -> str:
    """As an older version wrote it."""
    owner, _, coded = note.rpartition(" ")
    spans, inherited, names, rows, _ = msgspec.msgpack.decode(b64decode(coded)[1:])
    for _, row in rows:
        row[3] = [segment[:5] for segment in row[3]]
    return f"{owner} {b64encode(b'r' + msgspec.msgpack.encode((spans, inherited, names, rows))).decode()}"


ONE, TWO, THREE = events(2), events(4, first=2), events(4, first=6)
OTHERS = events(9, first=100)
LISTS: list[Lists] = [
    [ONE + TWO + THREE],
    [ONE, TWO, THREE],
    [ONE, None, TWO + THREE],
    [None, ONE + TWO, None, THREE],
]


@pytest.mark.parametrize("sinks", [1, 2])
@pytest.mark.parametrize("lists", LISTS, ids=range(4))
@pytest.mark.parametrize("others", [0, 9])
async def test_what_came_in_the_place_of_settled_messages_is_delivered_and_what_is_left_of_them_is_not(
    tmp_path: Path, kafka: ScriptedKafka, sinks: int, lists: Lists, others: int
) -> None:
    async with apis_of(sinks) as apis:
        await first_owner(tmp_path / "x", kafka, apis, lists)
        kafka.elect("a", 0, end=5)
        kafka.produce("a", 0, *OTHERS[:others])
        new = {*range(100, 100 + others)}
        assert await next_owner(tmp_path / "y", kafka, apis) == [{0, 1} | new, new][:sinks]
        for api in apis:
            once_each(api.batches)


@pytest.mark.parametrize("sinks", [1, 2])
@pytest.mark.parametrize("lists", LISTS, ids=range(4))
@pytest.mark.parametrize("gone", [(), (4, 7, 9)])
async def test_of_messages_that_are_all_there_or_compacted_those_that_were_settled_are_not_sent(
    tmp_path: Path, kafka: ScriptedKafka, sinks: int, lists: Lists, gone: Sequence[int]
) -> None:
    async with apis_of(sinks) as apis:
        await first_owner(tmp_path / "x", kafka, apis, lists)
        kafka.elect("a", 0)
        kafka.compact("a", 0, *gone)
        kafka.produce("a", 0, *OTHERS)
        new = {*range(100, 109)}
        assert await next_owner(tmp_path / "y", kafka, apis) == [{0, 1} | new, new][:sinks]
        for api in apis:
            once_each(api.batches)


@pytest.mark.parametrize("lists", LISTS, ids=range(4))
@pytest.mark.parametrize("end", [None, 5])
async def test_with_a_note_of_an_older_version_what_is_certain_is_not_sent_again(
    tmp_path: Path, kafka: ScriptedKafka, lists: Lists, end: int | None
) -> None:
    """That has the epoch with which the offset was committed, 0."""
    async with apis_of(1) as apis:
        await first_owner(tmp_path / "x", kafka, apis, lists)
        offset, note = kafka.committed[A0]
        kafka.committed[A0] = offset, without_epochs(note)
        certain = {2: {0: 10, 1: 10, 2: 2, 3: 0}[LISTS.index(lists)]}
        kafka.elect("a", 0, end=end)
        kafka.produce("a", 0, *OTHERS)
        again = {number_of(one) for one in kafka.log[A0] if one} - {*range(2, certain[2])}
        assert await next_owner(tmp_path / "y", kafka, apis) == [again | {0, 1}]


async def test_a_note_of_later_leaders_than_all_messages_have_says_nothing_of_these(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    """As where a broker comes back with an older log, of which others had lost the end."""
    async with apis_of(1) as apis:
        await first_owner(tmp_path / "x", kafka, apis, [None, ONE + TWO, THREE])
        kafka.leaders[A0] = [0]
        kafka.log[A0][4:] = OTHERS
        assert await next_owner(tmp_path / "y", kafka, apis) == [{*range(4), *range(100, 109)}]


@pytest.mark.parametrize("others", [3, 9])
async def test_an_end_that_was_lost_before_the_committed_offset_is_noticed_by_the_next_owner(
    tmp_path: Path, kafka: ScriptedKafka, others: int
) -> None:
    """Whether the log reaches that offset again or not. All before it was settled, and is not sent again."""
    async with apis_of(1) as apis:
        kafka.produce("a", 0, *ONE, *TWO)
        async with member(tmp_path / "x", kafka, apis) as service:
            await until(lambda: kafka.committed.get(A0, (0, ""))[0] == 6, service.task)
            kafka.elect("a", 0)
            kafka.produce("a", 0, *THREE)
            await until(lambda: kafka.committed[A0][0] == 10, service.task)
        kafka.elect("a", 0, end=5)
        kafka.produce("a", 0, *OTHERS[:others])
        assert await next_owner(tmp_path / "y", kafka, apis) == [{*range(100, 100 + others)}]


@pytest.mark.parametrize("next_one", ["x", "y"])
@pytest.mark.parametrize("marks", [1, 4])
@pytest.mark.parametrize("behind", [0, 3])
async def test_an_end_that_was_lost_is_noticed_where_a_transaction_ends_before_the_committed_offset(
    tmp_path: Path, kafka: ScriptedKafka, behind: int, marks: int, next_one: str
) -> None:
    """So that there is no message now where the last one was. The brokers know that it had another leader."""
    async with apis_of(1) as apis:
        kafka.produce("a", 0, *ONE, *TWO, *THREE)
        async with member(tmp_path / "x", kafka, apis) as service:
            await until(lambda: kafka.committed.get(A0, (0, ""))[0] == 10, service.task)
        kafka.elect("a", 0, end=4)
        kafka.produce("a", 0, *OTHERS[: 6 - marks], *[GONE] * marks, *OTHERS[6 : 6 + behind])
        new = {*range(100, 106 - marks), *range(106, 106 + behind)}
        assert await next_owner(tmp_path / next_one, kafka, apis) == [new]


@pytest.mark.parametrize("next_one", ["x", "y"])
async def test_where_a_later_leader_has_only_ended_transactions_nothing_is_taken_for_lost(
    tmp_path: Path, kafka: ScriptedKafka, next_one: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with apis_of(1) as apis:
        kafka.produce("a", 0, *ONE, *TWO)
        kafka.elect("a", 0)
        kafka.produce("a", 0, *[GONE] * 4)
        async with member(tmp_path / "x", kafka, apis) as service:
            await until(lambda: kafka.committed.get(A0, (0, ""))[0] == 10, service.task)
        assert kafka.epochs[A0] == 0, "of the last message"
        kafka.produce("a", 0, *THREE)
        assert await next_owner(tmp_path / next_one, kafka, apis) == [{*range(6, 10)}]
    assert "has other messages now" not in caplog.text


@pytest.mark.parametrize("next_one", ["x", "y"])
async def test_what_is_on_its_way_when_an_end_is_lost_is_delivered_also_if_the_process_is_killed_then(
    tmp_path: Path, kafka: ScriptedKafka, next_one: str
) -> None:
    """The partition is read anew, and nothing is committed behind what is not settled."""
    async with apis_of(1) as (api,):
        api.stuck = {event(3)}
        async with member(tmp_path / "x", kafka, [api]) as service:
            kafka.produce("a", 0, *events(5))
            await read(service, kafka)
            kafka.produce("a", 0, *events(5, first=5))
            await read(service, kafka)
            await until(lambda: len(api.taken) == 8, service.task)
            one = kafka.member

            def lose() -> None:
                kafka.elect("a", 0, end=7)
                kafka.produce("a", 0, *OTHERS)
                one.jump(A0, 99)

            one.do(lose)
            await until(lambda: {*OTHERS} <= api.taken, service.task)
            commits = len(kafka.commits)
            kafka.produce("a", 0, event(200))
            await until(lambda: event(200) in api.taken and len(kafka.commits) > commits, service.task)
            await service.crash()
        api.stuck = set()
        left = await next_owner(tmp_path / next_one, kafka, [api])
        assert left[0] >= {2, 3}
        assert {*kafka.log[A0]} <= api.taken


@pytest.mark.parametrize("end", [2, 3])
@pytest.mark.parametrize("next_one", ["x", "y"])
async def test_what_is_left_of_a_batch_does_not_wait_for_messages_that_a_shorter_log_has_lost(
    tmp_path: Path, kafka: ScriptedKafka, next_one: str, end: int
) -> None:
    """It has events of two chunks."""
    async with apis_of(1) as (api,):
        api.stuck = {event(0)}
        async with member(tmp_path / "x", kafka, [api], max_events=4, max_age=60) as service:
            for first in (0, 2):
                kafka.produce("a", 0, *events(2, first=first))
                await read(service, kafka)
            await until(lambda: len(api.batches) == 1, service.task)
            await service.crash()
        api.stuck = set()
        kafka.elect("a", 0, end=end)
        assert await next_owner(tmp_path / next_one, kafka, [api]) == [{*range(end)}]
        assert api.keys[0] not in api.keys[1:]
