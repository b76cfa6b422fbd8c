"""Dead letters in a real stream: what an owner, a person and a server that is killed make of them."""

import random
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from ingestd.cluster import letter_stream, provisioning
from ingestd.cluster.direct_read import read_messages
from ingestd.cluster.letter_mirror import LetterMirror
from ingestd.cluster.letter_stream import LetterChange, LetterNow, StreamLetter, pack_again, unpack
from ingestd.cluster.names import Share, StreamNames
from ingestd.cluster.share_letters import ShareLetters
from ingestd.cluster.share_log import SentAgain
from ingestd.config import Settings
from ingestd.core.clock import SystemClock
from ingestd.delivery.sink_runner import rebuild
from ingestd.sources.nats.connection import NatsConnection
from ingestd.store.dead_letters import select
from ingestd.store.letter_leases import BROKEN, letters_delivered
from ingestd.store.letter_queue import LetterQueue
from tests.ids import new_id
from tests.nats_server import NatsServer, nats_server

pytestmark = pytest.mark.anyio
NAMES = StreamNames("t")
NOW = 1_767_225_600.0


def letter(
    number: int, *, payload: bytes = b"{}", batch: str = "", size: int = 0, attempts: int = 1
) -> StreamLetter:
    return StreamLetter(
        f"id{number}", "one", "gave_up", "503", NOW, number, 0, b"", batch, number, size, attempts,
        bool(batch), NOW, payload,
    )  # fmt: skip


@asynccontextmanager
async def connected(server: NatsServer) -> AsyncIterator[NatsConnection]:
    settings = Settings.model_validate({"spool": {"kind": "nats", "servers": [server.url], "name": "t"}})
    connection = NatsConnection(settings.spool, SystemClock(), lambda: None)
    await connection.open()
    try:
        await provisioning.create(connection, settings, random.Random(1))
        yield connection
    finally:
        await connection.close()


def mirror(connection: NatsConnection, *, most_bytes: int = 1_000_000) -> LetterMirror:
    return LetterMirror(
        connection, NAMES, Share("one", 0), is_mine=lambda _: True, most_bytes=most_bytes, clock=SystemClock()
    )


async def stored(connection: NatsConnection) -> dict[str, StreamLetter]:
    found = {}
    async for messages in read_messages(connection, NAMES.dead, NAMES.letters_of("one"), SystemClock()):
        found |= {unpack(data).id: unpack(data) for _, data in messages}
    return found


async def put(connection: NatsConnection, one: StreamLetter, before: int = 0) -> int:
    change = LetterChange(one.where, before, pack_again(one))
    return await letter_stream.change(connection, NAMES, change)


async def test_a_letter_that_is_gone_stays_gone_though_the_server_is_killed(tmp_path: Path) -> None:
    """nats-server forgets in a crash what a limit of messages a subject has removed."""
    with nats_server(tmp_path, jetstream='sync_interval: "always"') as server:
        async with connected(server) as connection:
            await connection.ask(  # as an older ingestd made it
                f"STREAM.UPDATE.{NAMES.dead}",
                (await connection.ask(f"STREAM.INFO.{NAMES.dead}"))["config"] | {"max_msgs_per_subject": 1},
            )
            await provisioning.keep_all_versions(connection, NAMES)
            first = [letter(number) for number in range(4)]
            sequences = [await put(connection, one) for one in first]
            for one, sequence in zip(first[1:], sequences[1:], strict=True):
                one.attempts = 2
                assert await put(connection, one, sequence) > sequence
            await letter_stream.delete(connection, NAMES, first[2].where)
            await letter_stream.delete(connection, NAMES, first[3].where, upto=sequences[3])  # not the second
        server.kill()
        server.start()
        async with connected(server) as connection:
            found = await stored(connection)
            assert {name: one.attempts for name, one in found.items()} == {"id0": 1, "id1": 2, "id3": 2}


async def test_an_owner_that_stood_still_brings_no_letter_back(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        async with connected(server) as connection:
            one = letter(100)
            await letter_stream.store(connection, NAMES, pack_again(one))
            await letter_stream.store(connection, NAMES, pack_again(one))
            assert [*await stored(connection)] == ["id100"]
            await letter_stream.delete(connection, NAMES, one.where)
            await letter_stream.store(connection, NAMES, pack_again(one))
            assert await stored(connection) == {}


async def test_what_the_owner_before_had_sent_is_found_however_many_letters_wait(tmp_path: Path) -> None:
    """And though a person has parked one of them meanwhile: they are out, under their key."""
    with nats_server(tmp_path) as server:
        async with connected(server) as connection:
            for number in range(20):
                await put(connection, letter(number))
            sent = [letter(number) for number in (30, 31)]
            for one in sent:
                await put(connection, one)
            found = mirror(connection, most_bytes=2_000)
            await found.look()
            assert 0 < len(found) < 20  # there is no room for more
            parked = letter(31)
            parked.now = LetterNow("gave_up", NOW, None, 0.0, "", 0, 0, 0)
            (sequence,) = [at async for some in _messages(connection) for at, one in some if one.id == "id31"]
            await put(connection, parked, sequence)
            found = mirror(connection, most_bytes=2_000)
            again = SentAgain("b", NOW, [(one.where, zlib.crc32(one.payload)) for one in sent])
            await found.take_over({"b": again})
            (numbers,) = found.open.values()
            assert len(numbers) == 2
            rows = await found.run(lambda c: select(c, "batch = 'b' AND ambiguous ORDER BY batch_index", ()))
            assert [row.batch_index for row in rows] == [0, 1]
            # And what becomes of it is told on top of what the person did.
            assert await found.are_gone([row.id for row in rows]) == []


async def test_a_letter_that_is_delivered_is_deleted_though_a_person_marks_it_before_that_is_stored(
    tmp_path: Path,
) -> None:
    with nats_server(tmp_path) as server:
        async with connected(server) as connection:
            first = letter(1, batch="b", size=2)  # the other of its request is delivered, too
            first.now = LetterNow("gave_up", NOW, NOW, 0.0, "", 0, 0, 0)
            before = await put(connection, first)
            found = mirror(connection)
            await found.look()
            await found.run(lambda c: letters_delivered(c, [before], NOW))
            await put(connection, msgspec.structs.replace(first, attempts=1), before)
            await found.look()
            assert len(found) == 0
            notes = found.take_notes()
            await found.look()
            assert len(found) == 0
            await found.store(notes.changes.values())
            assert await stored(connection) == {}


async def _messages(connection: NatsConnection) -> AsyncIterator[list[tuple[int, StreamLetter]]]:
    async for messages in read_messages(connection, NAMES.dead, NAMES.letters_of("one"), SystemClock()):
        yield [(sequence, unpack(data)) for sequence, data in messages]


async def test_what_became_of_a_letter_is_told_beside_what_a_person_wants_of_it(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        async with connected(server) as connection:
            first = letter(1, batch="b", size=2)
            before = await put(connection, first)
            wish = LetterNow("gave_up", NOW, NOW + 5, NOW + 5, "", 0, 0, 0)
            marked = await put(connection, msgspec.structs.replace(first, now=wish), before)
            outcome = LetterNow("gave_up", NOW + 9, NOW + 99, 0.0, "", 0, 0, 0)
            failed = msgspec.structs.replace(first, attempts=2, batch="c", batch_size=1, now=outcome)
            found = mirror(connection)
            await found.store([LetterChange(first.where, before, pack_again(failed))])
            one = (await stored(connection))["id1"]
            assert (one.attempts, one.batch, one.ambiguous) == (2, "c", True)
            assert one.now == msgspec.structs.replace(outcome, due=NOW + 5, requested=NOW + 5)
            # The same from an owner before: it knows less.
            await found.store([LetterChange(first.where, before, pack_again(failed))])
            assert (await stored(connection))["id1"] == one
            # Another text is another matter.
            edited = letter(1, payload=b'{"a":1}')
            edited.now = wish
            last = [at async for some in _messages(connection) for at, _ in some][-1]
            assert last > marked
            assert await put(connection, edited, last)
            later = msgspec.structs.replace(failed, attempts=3)
            await found.store([LetterChange(first.where, last, pack_again(later))])
            assert (await stored(connection))["id1"] == edited


def worker_of(found: LetterMirror) -> ShareLetters:
    return ShareLetters(
        found,
        LetterQueue(
            found,
            sink="one",
            sinks_of=lambda events: [["one"] for _ in events],
            max_events=100,
            max_bytes=100_000,
            requested_only=False,
            clock=SystemClock(),
            complete=found.complete,
        ),
    )


def of_request(number: int, *, size: int, due: float | None, batch: str = "b") -> StreamLetter:
    """Sent a moment ago, and not due by itself: parked, or wanted by a person."""
    at = SystemClock.wall()
    now = LetterNow("gave_up", at, due, due or 0.0, "", 0, 0, 0)
    return msgspec.structs.replace(letter(number, batch=batch, size=size), at=at, first_sent=at, now=now)


@pytest.mark.parametrize("due", [{0}, {2}, {0, 1}, {1, 2}])
async def test_a_request_is_whole_although_a_person_has_parked_or_wanted_only_some_of_it_yet(
    tmp_path: Path, due: set[int]
) -> None:
    """The command writes one letter after the other, and may be killed in between."""
    with nats_server(tmp_path) as server:
        async with connected(server) as connection:
            for number in range(3):
                await put(connection, of_request(number, size=3, due=NOW if number in due else None))
            found = mirror(connection)
            leased = await worker_of(found).lease()
            assert [(one.batch, one.batch_index) for one in leased] == [("b", 0), ("b", 1), ("b", 2)]
            assert found.take_notes().changes == {}


async def test_a_request_is_whole_although_there_is_no_room_for_all_that_waits(tmp_path: Path) -> None:
    """Its letters lie between those of another share, which are stored at the same time."""
    with nats_server(tmp_path) as server:
        async with connected(server) as connection:
            for number in range(8):
                for batch in ("b", "c"):
                    one = of_request(number, size=8, due=NOW, batch=batch)
                    await put(connection, msgspec.structs.replace(one, id=f"{batch}{number}"))
            found = LetterMirror(
                connection, NAMES, Share("one", 0), is_mine=lambda one: one.batch == "b", most_bytes=1_500,
                clock=SystemClock(),
            )  # fmt: skip
            await found.look()
            assert 0 < len(found) < 8
            leased = await worker_of(found).lease()
            assert [(one.batch, one.batch_index) for one in leased] == [("b", index) for index in range(8)]


async def test_a_request_of_which_a_letter_is_gone_waits_for_a_person_parked_or_not(tmp_path: Path) -> None:
    with nats_server(tmp_path) as server:
        async with connected(server) as connection:
            for number in (0, 2):
                await put(connection, of_request(number, size=3, due=None if number else NOW))
            other = of_request(1, size=1, due=NOW, batch="c")
            other.batch_index = 0
            await put(connection, other)
            found = mirror(connection)
            leased = await worker_of(found).lease()
            assert [one.batch for one in leased] == ["c"]
            await found.store(found.take_notes().changes.values())
            left = {name: one.now.obstacle for name, one in (await stored(connection)).items() if one.now}
            assert left == {"id0": BROKEN, "id1": "", "id2": BROKEN}


async def test_a_person_deletes_a_letter_of_a_request_that_is_out_and_the_others_wait(tmp_path: Path) -> None:
    """In the stream nothing says that they are in one request: only the log does."""
    with nats_server(tmp_path) as server:
        async with connected(server) as connection:
            for number in range(3):
                one = of_request(number, size=0, due=NOW, batch="")
                await put(connection, one)
            found = mirror(connection)
            batch = rebuild(await worker_of(found).lease(), new_id)
            batch.first_sent_wall = SystemClock.wall()
            found.freeze(batch)
            (again,) = found.take_notes().again
            await letter_stream.delete(connection, NAMES, one.where)
            after = mirror(connection)  # of the next owner: that one was killed
            await after.take_over({again.id: again})
            assert await worker_of(after).lease() == []
            await after.store(after.take_notes().changes.values())
            letters = (await stored(connection)).values()
            left = {one.id: (one.batch, one.now.obstacle) for one in letters if one.now}
            assert left == dict.fromkeys(("id0", "id1"), (batch.id, BROKEN))
