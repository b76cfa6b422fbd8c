"""What a group and its brokers do to a source now and then: a scripted one does it when it is wanted."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from ingestd.core.chunk import Batch, Chunk, Segment
from ingestd.core.clock import SystemClock
from ingestd.core.errors import UserError
from ingestd.sources.broker.messages import sequence_of
from ingestd.sources.kafka.group import MESSAGES
from ingestd.sources.kafka.note import read_note
from ingestd.sources.kafka.runs import run_of
from ingestd.sources.kafka.settings import KafkaConfig
from ingestd.sources.kafka.source import KafkaSource
from ingestd.store.database import Database
from ingestd.store.frozen_batches import FrozenBatch, body_digest, unpack_positions
from ingestd.store.journal import Journal
from ingestd.store.named_batches import UntilAnnounced
from tests.machine import patience
from tests.scripted_kafka import (
    ALL_DOWN,
    FENCED,
    GONE,
    NO_MORE,
    REBALANCING,
    KafkaError,
    Message,
    ScriptedKafka,
)

pytestmark = pytest.mark.anyio

T0, T1 = ("t", 0), ("t", 1)


@pytest.fixture
def kafka(monkeypatch: pytest.MonkeyPatch) -> ScriptedKafka:
    return ScriptedKafka(t=2).install(monkeypatch)


class Reader:
    """A source on its own: ``chunks`` that it gave. Nothing settles them but the test."""

    def __init__(self, source: KafkaSource, journal: Journal) -> None:
        self.source = source
        self.journal = journal
        self.chunks: list[Chunk] = []
        self.room = asyncio.Event()
        self.room.set()
        self.error: Exception | None = None
        self.adopted: list[FrozenBatch] = []
        self.gone: list[tuple[int, set[str]]] = []
        source.heirs.found(self)

    def adopt(self, batches: Sequence[FrozenBatch]) -> None:
        self.adopted += batches

    def superseded(self, number: int, named: Collection[str]) -> None:
        self.gone.append((number, {*named}))

    async def read(self) -> None:
        try:
            async for chunk, _ in self.source.chunks():
                self.chunks.append(chunk)
                await self.room.wait()
        except UserError as error:
            self.error = error

    @property
    def events(self) -> list[bytes]:
        return [event for chunk in self.chunks for event in chunk.events]

    def settle(self, *chunks: Chunk) -> None:
        for chunk in chunks:
            chunk.receipt.settle(len(chunk.events))

    def freeze(self, chunk: Chunk, positions: range, batch_id: str) -> tuple[Batch, UntilAnnounced]:
        batch = Batch(
            [chunk.events[at] for at in positions],
            [None] * len(positions),
            [Segment(chunk, positions)],
            str,
            batch_id=batch_id,
        )
        batch.freeze(b"".join(batch.events))
        until_announced = self.journal.freeze(batch, sink="api", now=1_700_000_000.0)
        assert until_announced
        return batch, until_announced

    async def named(self, chunk: Chunk, positions: range) -> Batch:
        batch, told = self.freeze(chunk, positions, f"00000000-0000-4000-8000-{positions.start:012x}")
        await told()
        return batch

    def deliver(self, batch: Batch) -> None:
        self.journal.resolved(
            batch, sink="api", segments=batch.segments, safe_keys=(), letters=(), parts=(), now=1.0
        )
        for chunk, positions in batch.segments:
            chunk.receipt.settle(len(positions))


@asynccontextmanager
async def reader(
    directory: Path,
    kafka: ScriptedKafka,
    *given: tuple[str, int],
    warnings: list[str] | None = None,
    within_s: float = 60.0,
    chunk_messages: int = 5,
    start: str = "all",
) -> AsyncIterator[Reader]:
    await asyncio.to_thread(directory.mkdir, exist_ok=True)
    database = Database(directory)
    await database.open()
    journal = Journal(database)
    frozen = await journal.frozen_batches()
    source = KafkaSource(
        "k",
        KafkaConfig.model_validate({"topics": "t", "bootstrap_servers": "127.0.0.1:1", "start": start}),
        journal,
        cuts=lambda number: [
            (s.start, s.end, s.last_mark) for b in frozen for s in b.segments if s.source == number
        ],
        frozen=lambda number: [one for one in frozen if one.is_of(number)],
        is_mixed=False,
        clock=SystemClock(),
        rng=random.Random(str(directory)),
        warn=(warnings if warnings is not None else []).append,
        drain_s=patience(5),
        named_within_s=within_s,
        chunk_messages=chunk_messages,
    )
    before = len(kafka.consumers)
    await source.open()
    one = Reader(source, journal)
    task = asyncio.create_task(one.read())
    await until(lambda: len(kafka.consumers) > before)  # its own thread makes it
    member = kafka.member
    if given:
        member.do(lambda: member.give(*given))
    try:
        yield one
    finally:
        await source.close()
        task.cancel()
        await asyncio.wait([task])
        await database.close()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(patience(20)):
        while not condition():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.005)


def payloads(first: int, last: int) -> list[bytes]:
    return [b'{"n":%d}' % number for number in range(first, last)]


def named(kafka: ScriptedKafka, place: tuple[str, int] = T0) -> dict[str, list[int]]:
    """Offsets of the events of batches that may have been sent, as the next owner would find them."""
    note = read_note(kafka.committed.get(place, (0, ""))[1])
    return {
        one.id: [sequence_of(s.start) + at for s in one.segments for at in unpack_positions(s.positions)]
        for one in note.batches(1)
        if not one.settled
    }


async def test_the_lowest_unsettled_offset_is_committed_and_what_is_settled_beyond_it_is_named(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    kafka.produce("t", 0, *payloads(0, 20))
    async with reader(tmp_path / "one", kafka, T0) as one:
        await until(lambda: len(one.events) == 20)
        one.settle(one.chunks[1], one.chunks[3])
        batch = await one.named(one.chunks[0], range(2))
        one.deliver(batch)
        batch = await one.named(one.chunks[0], range(2, 4))
        offset, text = kafka.committed[T0]
        note = read_note(text)
        assert (offset, note.spans) == (0, [(5, 10, 0), (15, 20, 0)])
        assert named(kafka) == {batch.id: [2, 3]}
    async with reader(tmp_path / "two", kafka, T0) as two:
        await until(lambda: len(two.events) == 10)
        assert two.events == payloads(0, 5) + payloads(10, 15)
        assert {(one.id, one.settled, one.body_digest) for one in two.adopted} == {
            ("api/1/5", True, b""),
            (batch.id, False, body_digest(batch.body)),
        }
        assert [(c.start, c.end) for c in two.chunks][:1] == [(c.start, c.end) for c in one.chunks][:1]


async def test_what_came_in_two_lists_is_one_chunk_where_both_wait_and_its_places_are_those_of_messages(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    async with reader(tmp_path / "one", kafka, T0, chunk_messages=8) as one:
        await until(lambda: one.source.counts.partitions == 1)
        texts = payloads(0, 10)
        lists = [range(3), range(3, 7), range(8, 10)]  # 7 was compacted away
        one.source.came([run_of(T0, [Message(T0, at, texts[at]) for at in numbers]) for numbers in lists])
        await until(lambda: len(one.events) == 9)
        places = [[chunk.place(at)[0] for at in range(len(chunk.events))] for chunk in one.chunks]
        assert places == [[0, 1, 2, 3, 4, 5, 6, 8], [9]]
        assert one.events == payloads(0, 7) + payloads(8, 10)


async def test_a_batch_waits_until_it_is_named_whatever_the_commits_meet(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    kafka.produce("t", 0, *payloads(0, 5))
    async with reader(tmp_path / "one", kafka, T0) as one:
        await until(lambda: len(one.events) == 5)
        await until(lambda: T0 in kafka.committed)
        kafka.refusals += [REBALANCING, ALL_DOWN, REBALANCING]
        batch = await one.named(one.chunks[0], range(5))
        assert not kafka.refusals
        assert named(kafka) == {batch.id: [0, 1, 2, 3, 4]}
        one.deliver(batch)
        await until(lambda: kafka.committed[T0][0] == 5)
        assert named(kafka) == {}
    assert one.source.counts.unnamed == 0


async def test_a_note_that_the_brokers_refuse_gets_shorter_and_what_has_no_room_is_sent_and_counted(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    kafka.max_note = 300
    kafka.produce("t", 0, *payloads(0, 50))
    warnings: list[str] = []
    async with reader(tmp_path / "one", kafka, T0, warnings=warnings, within_s=0.3) as one:
        await until(lambda: len(one.events) == 50)
        frozen = [
            one.freeze(chunk, range(5), f"00000000-0000-4000-8000-{number:012x}")
            for number, chunk in enumerate(one.chunks)
        ]
        for _, until_announced in frozen:
            await until_announced()
        batches = [batch for batch, _ in frozen]
        told = named(kafka)
        assert 0 < len(told) < len(batches)
        assert [*told] == [batch.id for batch in batches][: len(told)], "those that came first"
        assert one.source.counts.unnamed == len(batches) - len(told)
        assert any("offset.metadata.max.bytes" in one for one in warnings)
        for batch in batches:
            one.deliver(batch)
        await until(lambda: kafka.committed[T0][0] == 50)


async def test_a_partition_that_goes_in_the_middle_of_a_list_is_not_read_on_and_comes_again_once(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    """What of it had become chunks is waited for; a batch of those may still be named."""
    kafka.produce("t", 0, *payloads(0, 5))
    async with reader(tmp_path / "one", kafka, T0, T1) as one:
        await until(lambda: len(one.events) == 5)
        member = kafka.member
        gone = asyncio.Event()
        loop = asyncio.get_running_loop()

        def leave() -> None:
            member.take(T0)
            loop.call_soon_threadsafe(gone.set)

        member.do(leave, after=2)
        kafka.produce("t", 0, *payloads(5, 10))
        kafka.produce("t", 1, *payloads(100, 103))
        await until(lambda: not next(p for p in one.source._partitions if p.place == T0).is_assigned)
        batch = await one.named(one.chunks[0], range(5))
        assert named(kafka) == {batch.id: [0, 1, 2, 3, 4]}
        assert not gone.is_set()
        for chunk in one.chunks:
            if chunk is not batch.segments[0].chunk:
                one.settle(chunk)
        one.deliver(batch)
        await asyncio.wait_for(gone.wait(), patience(10))
        taken = len([event for event in one.events if event in payloads(0, 10)])
        assert kafka.committed[T0][0] == taken
        assert not read_note(kafka.committed[T0][1]).rows
        member.do(lambda: member.give(T0))
        await until(lambda: len(one.events) >= 13)
        assert sorted(one.events) == sorted(payloads(0, 10) + payloads(100, 103))
    assert one.source.counts.unnamed == 0


@pytest.mark.parametrize("end", [3, 12])
async def test_of_messages_that_wait_when_an_end_is_lost_none_is_taken_for_what_is_there_now(
    tmp_path: Path, kafka: ScriptedKafka, end: int
) -> None:
    """``end``: before what was taken, so that the partition is read anew, or behind it."""
    async with reader(tmp_path / "one", kafka, T0, T1) as one:
        one.room.clear()
        kafka.produce("t", 0, *payloads(0, 5))
        await until(lambda: one.chunks)
        waiting = one.source._runs._runs
        kafka.produce("t", 0, *payloads(5, 15))
        await until(lambda: sum(len(run.messages or ()) for run in waiting) == 10)
        kafka.elect("t", 0, end=end)
        kafka.produce("t", 0, *payloads(100, 120))
        await until(lambda: one.source._runs._runs is not waiting)
        one.room.set()
        await until(lambda: {*kafka.log[T0]} <= {*one.events})
        there = payloads(0, end) + payloads(100, 120)
        assert one.events == (payloads(0, 5) if end == 3 else []) + there


async def test_where_the_library_cannot_seek_yet_it_is_asked_again(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    """As while another partition is given back. Until then nothing is read: the brokers were not asked."""
    kafka.produce("t", 0, *payloads(0, 10))
    async with reader(tmp_path / "one", kafka, T0) as one:
        await until(lambda: len(one.events) == 10)
        one.settle(*one.chunks)
        await until(lambda: kafka.committed.get(T0, (0, ""))[0] == 10)
    kafka.elect("t", 0, end=5)
    kafka.produce("t", 0, *payloads(100, 103), GONE, GONE, *payloads(103, 105))
    async with reader(tmp_path / "two", kafka) as two:
        member = kafka.member
        member.seeks_late = 3
        member.do(lambda: member.give(T0))
        await until(lambda: len(two.events) >= 5)
        assert (two.events, member.seeks_late) == (payloads(100, 105), 0)


async def test_nothing_is_committed_of_a_partition_that_is_lost_and_its_batches_do_not_wait(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    kafka.produce("t", 0, *payloads(0, 5))
    warnings: list[str] = []
    async with reader(tmp_path / "one", kafka, T0, warnings=warnings) as one:
        await until(lambda: len(one.events) == 5)
        await until(lambda: T0 in kafka.committed)
        member = kafka.member
        member.do(lambda: member.lose(T0))
        await until(lambda: one.source.counts.partitions == 0)
        before = kafka.committed[T0]
        batch = await one.named(one.chunks[0], range(5))
        one.deliver(batch)
        assert one.source.counts.unnamed == 1
    assert kafka.committed[T0] == before
    assert any("is delivered by both" in text for text in warnings)


async def test_a_commit_of_before_a_partition_was_lost_is_not_made_when_it_is_given_again(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    kafka.produce("t", 0, *payloads(0, 10))
    async with reader(tmp_path / "one", kafka, T0, T1) as one:
        await until(lambda: len(one.events) == 10)
        await until(lambda: kafka.committed.keys() == {T0, T1})
        kafka.refusals += [REBALANCING] * 10_000
        one.settle(one.chunks[0])
        await until(lambda: any(at.get(T0, (0,))[0] == 5 for at in kafka.refused))
        member = kafka.member

        def between() -> None:
            member.lose(T0)
            kafka.committed[T0] = (10, "another")
            kafka.commits.clear()
            kafka.refusals.clear()
            member.give(T0)
            member.paused.add(T0)  # nothing new of it hides what is committed now

        member.do(between)
        kafka.produce("t", 1, *payloads(100, 101))
        await until(lambda: len(one.events) == 11)
        one.settle(one.chunks[-1])
        await until(lambda: kafka.committed[T1][0] == 1)
        assert not [at for at in kafka.commits if T0 in at]


async def test_what_was_named_stays_named_whatever_is_settled_beyond_it(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    """Where there is no room for both, nothing is committed until there is."""
    kafka.max_note = 300
    kafka.produce("t", 0, *payloads(0, 800))
    async with reader(tmp_path / "one", kafka, T0, within_s=0.2) as one:
        await until(lambda: len(one.events) == 800)
        batch = await one.named(one.chunks[0], range(2))
        other, until_announced = one.freeze(one.chunks[1], range(5), "00000000-0000-4000-8000-00000000ffff")
        await until_announced()
        one.settle(*one.chunks[2::2])
        one.source._commits.moved(T0)
        (partition,) = one.source._partitions
        await until(lambda: one.source._partitions.start_of(partition) is None)
        assert batch.id in named(kafka)
        one.settle(*one.chunks[3::2])
        one.deliver(other)
        await until(lambda: read_note(kafka.committed[T0][1]).spans == [(5, 800, 0)])
        assert [*named(kafka)] == [batch.id]


async def test_a_batch_that_an_earlier_process_froze_and_did_not_name_is_named_before_it_is_sent(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    kafka.produce("t", 0, *payloads(0, 5))
    async with reader(tmp_path / "one", kafka, T0) as one:
        await until(lambda: len(one.events) == 5)
        await until(lambda: T0 in kafka.committed)
        kafka.refusals += [REBALANCING] * 10_000
        batch, _ = one.freeze(one.chunks[0], range(5), "00000000-0000-4000-8000-000000000001")
        await until(lambda: any(read_note(at[T0][1]).rows for at in kafka.refused))
    kafka.refusals.clear()
    assert named(kafka) == {}
    async with reader(tmp_path / "one", kafka, T0) as one:
        await until(lambda: len(one.events) == 5)
        again = Batch(batch.events, batch.digests, [Segment(one.chunks[0], range(5))], str, batch_id=batch.id)
        if until_announced := one.journal.waits(again):
            await until_announced()
        assert named(kafka) == {batch.id: [0, 1, 2, 3, 4]}
        assert one.journal.waits(again) is None


async def test_numbers_that_a_partition_had_before_are_told_of_with_the_batches_that_go_on_under_the_new_one(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    """Also where the process was killed when only the new number was on disk."""
    kafka.produce("t", 0, *payloads(0, 5))
    async with reader(tmp_path / "one", kafka, T0) as one:
        await until(lambda: len(one.events) == 5)
        batch = await one.named(one.chunks[0], range(2))
        kafka.refusals += [REBALANCING] * 10_000
        one.freeze(one.chunks[0], range(2, 5), "00000000-0000-4000-8000-00000000ffff")
        await one.journal.commit()
        (partition,) = one.source._partitions
        path, identity, number = one.source._partitions._path(T0), partition.identity, partition.number
        assert one.gone == []
    kafka.refusals.clear()
    for is_cut_short in (False, True):
        offset, note = kafka.committed[T0]
        kafka.committed[T0] = offset, f"ingestd 00000000000000ff {note.split()[2]}"
        async with reader(tmp_path / "one", kafka) as one:
            if is_cut_short:
                await one.journal.find_stream(path, identity, now=1.0, as_new=True)
            member = kafka.member
            member.do(lambda m=member: m.give(T0))  # type: ignore[misc]
            await until(lambda r=one: len(r.events) == 5)
            assert [at for at, _ in one.gone] == [*range(number, number + 1 + is_cut_short)]
            assert all(named == {batch.id} for _, named in one.gone)
            assert [one.id for one in one.adopted] == [batch.id]
            await until(lambda: kafka.committed[T0][1].split()[1] != "00000000000000ff")


async def test_what_is_settled_of_a_number_that_is_not_used_any_more_is_forgotten(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    kafka.produce("t", 0, *payloads(0, 5))
    async with reader(tmp_path / "one", kafka, T0) as one:
        await until(lambda: len(one.events) == 5)
        one.deliver(await one.named(one.chunks[0], range(2)))
        await one.journal.commit()
        number = one.chunks[0].source
    for is_over in (False, True):
        async with reader(tmp_path / "one", kafka) as one:
            left = [batch for batch in await one.journal.frozen_batches() if batch.is_of(number)]
            assert [batch.settled for batch in left] == [True] * (not is_over)
            kafka.committed[T0] = 0, "ingestd 00000000000000ff"
            member = kafka.member
            member.do(lambda m=member: m.give(T0))  # type: ignore[misc]
            await until(lambda r=one: len(r.events) == 5)
            await one.journal.commit()


async def test_errors_are_told_and_end_and_that_of_a_copied_member_ends_the_source(
    tmp_path: Path, kafka: ScriptedKafka, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "ingestd")
    warnings: list[str] = []
    async with reader(tmp_path / "one", kafka, T0, warnings=warnings) as one:
        member = kafka.member
        await until(lambda: T0 in kafka.committed)  # so that the end of the partition was told
        member.do(lambda: member.fail(ALL_DOWN, "all brokers are down"))
        await until(lambda: one.source.counts.problem == "all brokers are down")
        assert not one.source.counts.connected
        assert warnings == ["kafka.k: all brokers are down; it is tried again"]
        kafka.produce("t", 0, b'{"n":1}')
        await until(lambda: one.events == [b'{"n":1}'])
        assert one.source.counts.connected
        assert not one.source.counts.problem
        assert len(warnings) == 1
        assert "kafka.k: works again, after " in caplog.text
        member.do(lambda: member.fail(FENCED))
        await until(lambda: one.error is not None)
        assert "it has a copy of this state directory" in str(one.error)
        assert member.is_closed


async def test_what_is_there_comes_in_large_chunks(tmp_path: Path, kafka: ScriptedKafka) -> None:
    """A list of the library's is one; it was three, and each chunk costs."""
    kafka.produce("t", 0, *payloads(0, 2500))
    async with reader(tmp_path / "one", kafka, T0, chunk_messages=MESSAGES) as one:
        await until(lambda: len(one.events) == 2500)
        assert one.events == payloads(0, 2500)
        assert len(one.chunks) == 1


async def test_what_comes_with_errors_between_the_messages_is_read_all_the_same(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    kafka.produce("t", 0, *payloads(0, 3))
    async with reader(tmp_path / "one", kafka) as one:
        member = kafka.member
        found = [Message(T0, number, payload) for number, payload in enumerate(payloads(0, 3))]
        strange = Message(T0, 1, None, KafkaError(ALL_DOWN, "a moment"))
        end = Message(T0, 3, None, KafkaError(NO_MORE))
        lists = [[found[0], strange, *found[1:], end]]
        plain = member.consume
        member.do(lambda: member.give(T0))
        await until(lambda: one.source.counts.partitions == 1)
        monkey = lambda count, timeout: lists.pop() if lists else plain(count, timeout)  # noqa: E731
        member.consume = monkey  # type: ignore[method-assign]
        await until(lambda: one.events[:3] == payloads(0, 3))


@pytest.mark.parametrize("damaged", ["ingestd 0123456789abcdef !!", "ingestd 0123456789abcdef eAAA", "else"])
async def test_a_note_of_somebody_else_names_nothing(
    tmp_path: Path, kafka: ScriptedKafka, damaged: str
) -> None:
    kafka.produce("t", 0, *payloads(0, 5))
    kafka.committed[T0] = (2, damaged)
    warnings: list[str] = []
    async with reader(tmp_path / "one", kafka, T0, warnings=warnings) as one:
        await until(lambda: len(one.events) == 3)
        assert one.adopted == []
        assert any("cannot be read" in text for text in warnings) == (damaged != "else")


async def test_what_a_partition_has_that_a_topic_got_later_is_read_though_a_new_group_begins_at_the_end(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    """The library finds it minutes later, with what came since. Also while nobody ran."""
    kafka.produce("t", 0, *payloads(0, 3))
    kafka.log["t", 2] = []
    async with reader(tmp_path / "one", kafka, T0, start="new") as one:
        await until(lambda: T0 in kafka.committed)
        kafka.produce("t", 1, *payloads(3, 5))
        member = kafka.member
        member.do(lambda: member.give(T1))
        await until(lambda: one.events == payloads(3, 5))
    kafka.produce("t", 2, *payloads(5, 7))
    async with reader(tmp_path / "one", kafka, T0, T1, ("t", 2), start="new") as one:
        await until(lambda: payloads(5, 7)[-1] in one.events)
        assert not {*payloads(0, 3)} & {*one.events}


async def test_a_member_with_a_new_state_directory_begins_no_partition_at_its_end_in_an_old_group(
    tmp_path: Path, kafka: ScriptedKafka
) -> None:
    """One that the topic got while nobody had found it yet is given together with one that is committed."""
    kafka.produce("t", 0, *payloads(0, 3))
    async with reader(tmp_path / "one", kafka, T0, start="new"):
        await until(lambda: T0 in kafka.committed)
    kafka.produce("t", 1, *payloads(3, 5))
    async with reader(tmp_path / "two", kafka, T1, T0, start="new") as one:
        await until(lambda: one.events == payloads(3, 5))
