"""A replay into several sinks: what each gets, however often it is killed and whoever is out of reach."""

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from ingestd.app.replay import run
from ingestd.app.replay_report import make_report
from ingestd.core.chunk import Chunk
from ingestd.core.receipt import Receipt
from ingestd.intake import fan_out, replay_intake
from ingestd.intake.processed_events import ProcessedEvents
from ingestd.intake.recovery import Recovery
from ingestd.store.spool_rows import ForgottenEvents
from tests.each import each
from tests.ids import new_id
from tests.integration.intake.replay_support import (
    SMALL,
    Place,
    SmallPlace,
    assert_once,
    key_of,
    keys_by_event,
    rows,
    sink,
    until,
    write,
)
from tests.integration.intake.support import event, numbers_of, sent
from tests.receiver import Action, Hang, Receiver, Reply, Request

pytestmark = pytest.mark.anyio

CHUNK_BYTES = 1500
FEW_COPIES = replace(SMALL, copy_bytes=1000)
LITTLE_LAG = replace(SMALL, pending_bytes=10 * CHUNK_BYTES)
ONES = {"interactionId": [{"prefix": "i-1"}]}
TWOS = {"interactionId": [{"prefix": "i-2"}]}
NOWHERE = "http://127.0.0.1:9"
REFUSAL = Reply(422, body=b'{"errors":[{"index":0,"message":"no such queue"}]}')


def of(first: str, count: int) -> list[int]:
    """The numbers below ``count`` that begin with this digit."""
    return [number for number in range(count) if str(number).startswith(first)]


def assert_passed(place: Place, source: Path) -> None:
    """Nothing is left for another run."""
    assert rows(place.directory, "SELECT id, sink FROM batches") == []
    assert rows(place.directory, "SELECT position FROM sources ORDER BY id DESC LIMIT 1") == [
        (source.stat().st_size,)
    ]


async def test_ledgers_count_an_event_once_and_what_each_sink_did(tmp_path: Path) -> None:
    count = 60
    lines = [event(number) for number in range(count)]
    lines += [event(10), event(11), event(99, schemaVersion="x")]
    source = write(tmp_path / "in.ndjson", lines)
    async with Receiver() as ones, Receiver() as teens, Receiver() as twos:
        sinks = {
            "ones": sink(ones, when=ONES),
            "teens": sink(teens, when={"interactionId": ["i-10", "i-11", "i-12"]}),
            "twos": sink(twos, when=TWOS),
        }
        place = SmallPlace(tmp_path / "state", sinks)
        report = await place.run(source)
    matched = {*of("1", count), *of("2", count)}
    ends = {name: report[name] for name in ("accepted", "delivered", "duplicate", "rejected", "unmatched")}
    assert ends == {
        "accepted": count + 3,
        "delivered": len(matched),
        "duplicate": 2,
        "rejected": 1,
        "unmatched": count - len(matched),
    }
    routed = {name: (one["routed"], one["delivered"]) for name, one in report["sinks"].items()}
    assert routed == {"ones": (11, 11), "teens": (3, 3), "twos": (11, 11)}
    assert_passed(place, source)


@each("several", [True, False])
async def test_what_had_its_end_before_a_crash_is_not_counted_again(tmp_path: Path, several: bool) -> None:
    """The first chunk waits for an answer, those behind it are done; unmatched events among them."""
    count = 40
    source = write(tmp_path / "in.ndjson", [event(number) for number in range(count)])
    held = asyncio.Event()

    async def hold(request: Request) -> Action:
        if 1 in numbers_of(request):
            await held.wait()
        return Reply()

    async with Receiver(hold) as ones, Receiver() as twos:
        sinks = {"ones": sink(ones, when=ONES, max_events=1)}
        if several:
            sinks["twos"] = sink(twos, when=TWOS, max_events=1)
        place = SmallPlace(tmp_path / "0", sinks)
        async with place.running(source) as running:
            await ones.until(lambda r: len(sent(r)) == 11)
            if several:
                await twos.until(lambda r: len(sent(r)) == 11)
            ledger = running.replay.pipeline.ledger
            await until(lambda: ledger.in_flight <= (8 if several else 1))
            before = ledger.delivered + ledger.unmatched
            await running.replay.pipeline.journal.commit()
            place = await running.crash(tmp_path / "1")
        held.set()
        report = await place.run(source)
        assert report["duplicate"] == 0
        assert report["delivered"] + report["unmatched"] == count - before
        assert_once(ones, of("1", count))
        if several:
            assert_once(twos, of("2", count))
    assert_passed(place, source)


# --- a sink that is out of reach ---


async def test_a_lost_sink_costs_the_others_nothing_and_gets_the_rest_in_the_next_run(tmp_path: Path) -> None:
    count = 100
    source = write(tmp_path / "in.ndjson", [event(number) for number in range(count)])
    async with Receiver() as well, Receiver() as late:
        place = SmallPlace(tmp_path / "state", {"well": sink(well), "late": sink(late) | {"url": NOWHERE}})
        report = await place.run(source)
        assert report["exit_code"] == 4
        assert "sink late" in report["error"]
        assert report["sinks"]["late"]["error"] == report["error"]
        assert report["sinks"]["well"]["error"] is None
        assert report["sinks"]["well"]["delivered"] == count
        requests = len(well.requests)

        place.sinks = {"well": sink(well), "late": sink(late)}
        report = await place.run(source)
        assert (report["exit_code"], report["error"]) == (0, None)
        assert len(well.requests) == requests
        assert_once(well, range(count))
        assert_once(late, range(count))
    assert_passed(place, source)
    assert rows(place.directory, "SELECT * FROM letters") == []


async def test_a_run_without_a_sink_for_which_batches_of_its_input_wait_begins_when_they_are_given_up(
    tmp_path: Path,
) -> None:
    """It would go past them. What was given up is not sent under another key when the sink is back."""
    source = write(tmp_path / "in.ndjson", [event(number) for number in range(20)])
    async with Receiver() as well, Receiver() as late:
        place = SmallPlace(tmp_path / "state", {"well": sink(well, max_events=10), "late": _nowhere()})
        await place.run(source)
        requests = len(well.requests)
        place.sinks = {"well": sink(well)}
        report = await place.run(source)
        assert report["exit_code"] == 2
        assert report["error"] == (
            "sink late is no longer configured, but 2 batches of this input wait for it: configure it again,"
            f" or give them up with `ingestd spool forget late --state-dir {place.directory}`"
        )
        assert place.forget("late") == ForgottenEvents(0, 0, 0, 0, in_batches=20)
        with source.open("ab") as file:
            file.write(event(20) + b"\n")
        assert (await place.run(source))["exit_code"] == 0
        assert place.forget("late") is None
        place.sinks |= {"late": sink(late)}
        with source.open("ab") as file:
            file.write(event(21) + b"\n")
        assert (await place.run(source))["exit_code"] == 0
        assert [numbers_of(request) for request in well.requests[requests:]] == [[20], [21]]
        assert [numbers_of(request) for request in late.requests] == [[21]]
    assert rows(place.directory, "SELECT * FROM batches") == []


async def test_a_copy_of_what_only_one_of_two_sinks_had_is_none_when_that_one_goes_on_alone(
    tmp_path: Path,
) -> None:
    """What it refused has a letter, and its key is free."""
    source = write(tmp_path / "in.ndjson", [event(number) for number in range(20)])
    async with Receiver(lambda request: REFUSAL if 3 in numbers_of(request) else Reply()) as well:
        place = SmallPlace(tmp_path / "state", {"well": sink(well, max_events=1), "late": _nowhere()})
        assert (await place.run(source))["sinks"]["well"]["delivered"] == 19
        requests = len(well.requests)
        with source.open("ab") as file:
            file.write(b"\n".join([event(0), event(3), event(19), event(20), b""]))
        place.sinks = {"well": sink(well, max_events=1)}
        well.script = lambda request: Reply()
        place.forget("late")
        report = await place.run(source)
        assert (report["duplicate"], report["delivered"]) == (2, 2)
        assert [numbers_of(request) for request in well.requests[requests:]] == [[3], [20]]
    assert rows(place.directory, "SELECT sink, payload FROM letters") == [("well", event(3))]


async def test_what_a_sink_has_not_been_handed_when_it_is_lost_stays_with_its_file(tmp_path: Path) -> None:
    place = SmallPlace(tmp_path / "state", {"well": _nowhere(), "lost": _nowhere()})
    async with place.opened(write(tmp_path / "in.ndjson", [])) as replay:
        pipeline = replay.pipeline
        intake = replay_intake.ReplayIntake(
            replay_intake.Stages(
                pipeline.window, pipeline.validator, pipeline.routes, pipeline.recorder, pipeline.runners
            ),
            recoveries={
                runner.name: Recovery(
                    [],
                    set(),
                    encode=runner.sink.encode,
                    digests=lambda events: [],
                    claims_keys=False,
                    new_id=new_id,
                )
                for runner in pipeline.runners
            },
            processed={fan_out.EVERYWHERE: ProcessedEvents([]), fan_out.DISMISSED: ProcessedEvents([])},
            journal=pipeline.journal,
            clock=pipeline.clock,
            warn=place.warnings.append,
        )
        chunk = Chunk([event(0)], source=1, start=0, end=10)
        chunk.receipt = Receipt(1, lambda: None)
        intake.admit(chunk)
        intake.lose(pipeline.runners[1])
        await intake.flush()
        assert pipeline.runners[1].ledger.dead_lettered == 0
        assert [runner.lane.queued for runner in pipeline.runners] == [1, 0]


async def test_when_all_sinks_are_lost_the_run_ends(tmp_path: Path) -> None:
    source = write(tmp_path / "in.ndjson", [event(number) for number in range(100)])
    place = SmallPlace(tmp_path / "state", {"a": _nowhere(), "b": _nowhere()})
    report = await place.run(source)
    assert (report["exit_code"], report["delivered"]) == (4, 0)
    assert [bool(one["error"]) for one in report["sinks"].values()] == [True, True]
    assert rows(place.directory, "SELECT position FROM sources") == [(0,)]
    assert rows(place.directory, "SELECT * FROM letters") == []


@contextlib.contextmanager
def piped(tmp_path: Path, lines: Sequence[bytes]) -> Iterator[Path]:
    """A source that cannot be read again."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"".join(line + b"\n" for line in lines),))
    writer.start()
    yield pipe
    writer.join()


async def test_what_cannot_be_read_again_becomes_dead_letters_of_the_lost_sink(tmp_path: Path) -> None:
    async with Receiver() as well:
        place = SmallPlace(tmp_path / "state", {"well": sink(well), "lost": _nowhere()}, bounds=FEW_COPIES)
        with piped(tmp_path, [event(number) for number in range(50)]) as pipe:
            report = await place.run(pipe)
        assert_once(well, range(50))
    assert report["exit_code"] == 4
    assert report["sinks"]["lost"]["dead_lettered"] == 50
    kinds = rows(place.directory, "SELECT sink, reason, count(*) FROM letters GROUP BY 1, 2")
    assert kinds == [("lost", "interrupted", 50)]


async def test_what_was_read_of_a_pipe_before_a_crash_goes_out_as_it_was_and_hides_nothing(
    tmp_path: Path,
) -> None:
    """Which of the sinks had an event is not known then: its key must not be either."""
    held = asyncio.Event()

    async def hold(_: Request) -> Action:
        await held.wait()
        return Reply()

    async with Receiver(hold) as a, Receiver(hold) as b:
        place = SmallPlace(tmp_path / "0", {"a": sink(a), "b": sink(b)})
        with piped(tmp_path, [event(number) for number in range(10)]) as pipe:
            async with place.running(pipe) as running:
                await a.until(lambda r: len(keys_by_event(r)) == 10)
                await b.until(lambda r: len(keys_by_event(r)) == 10)
                place = await running.crash(tmp_path / "1")
        held.set()
        report = await place.run(write(tmp_path / "empty.ndjson", []))
        assert report["exit_code"] == 0
        assert_once(a, range(10))
        assert_once(b, range(10))
        for receiver in (a, b):  # where a machine is slow it may have been given up and sent again, too
            assert len(receiver.requests) > 1
            assert len({key_of(request) for request in receiver.requests}) == 1
        assert rows(place.directory, "SELECT * FROM window") == []
        report = await place.run(write(tmp_path / "again.ndjson", [event(0)]))
        assert report["delivered"] == 1


async def test_copies_of_what_a_lost_sink_lacks_are_duplicates_where_they_cannot_be_read_again(
    tmp_path: Path,
) -> None:
    lines = [event(0)] * 60 + [event(number) for number in range(1, 20)]
    async with Receiver() as well:
        place = SmallPlace(tmp_path / "state", {"well": sink(well), "lost": _nowhere()}, bounds=FEW_COPIES)
        with piped(tmp_path, lines) as pipe:
            report = await place.run(pipe)
        assert_once(well, range(20))
    assert (report["exit_code"], report["duplicate"], report["in_flight"]) == (4, 59, 0)
    assert report["sinks"]["lost"]["dead_lettered"] == 20


async def test_copies_of_what_a_lost_sink_lacks_do_not_hold_up_the_others(tmp_path: Path) -> None:
    lines = [event(0)] * 60 + [event(number) for number in range(1, 20)]
    source = write(tmp_path / "in.ndjson", lines)
    async with Receiver() as well, Receiver() as late:
        place = SmallPlace(tmp_path / "state", {"well": sink(well), "late": _nowhere()}, bounds=FEW_COPIES)
        async with place.opened(source) as replay:
            await run(replay, warn=place.warnings.append)
        assert replay.exit_code == 4
        assert replay.pipeline.window.follower_bytes <= 1000 + 2 * CHUNK_BYTES, "they will be read again"
        assert_once(well, range(20))
        place.sinks = {"well": sink(well), "late": sink(late)}
        report = await place.run(source)
        assert (report["exit_code"], report["duplicate"]) == (0, 59)
        assert_once(well, range(20))
        assert_once(late, range(20))
    assert_passed(place, source)


async def test_a_sink_that_lags_holds_up_the_others_only_at_its_bound(tmp_path: Path) -> None:
    count = 400
    source = write(tmp_path / "in.ndjson", [event(number) for number in range(count)])
    held = asyncio.Event()

    async def hold(_: Request) -> Action:
        await held.wait()
        return Reply()

    async with Receiver() as quick, Receiver(hold) as slow:
        place = SmallPlace(tmp_path / "state", {"quick": sink(quick), "slow": sink(slow)}, bounds=LITTLE_LAG)
        async with place.running(source) as running:
            runner = running.replay.pipeline.runners[1]
            await quick.until(lambda r: len(sent(r)) >= 10 * CHUNK_BYTES // 200)
            await until(lambda: runner.pending_bytes > 10 * CHUNK_BYTES)
            assert runner.pending_bytes <= 12 * CHUNK_BYTES
            await asyncio.sleep(0.05)  # nothing more comes
            assert len(sent(quick)) <= 12 * CHUNK_BYTES // 180 < count
            held.set()
            await running.task
        assert_once(quick, range(count))
        assert_once(slow, range(count))
    assert_passed(place, source)


# --- keys and fates ---


def _nowhere() -> dict[str, Any]:
    return {"type": "ingest_api", "url": NOWHERE}


@each(("by_all", "copy_is"), [(False, "duplicate"), (True, "dead_lettered")])
async def test_a_copy_shares_the_fate_that_its_event_has_over_all_sinks(
    tmp_path: Path, by_all: bool, copy_is: str
) -> None:
    held = asyncio.Event()

    async def refuse(_: Request) -> Action:
        await held.wait()
        return REFUSAL

    source = write(tmp_path / "in.ndjson", [event(0), event(0)])
    async with Receiver(refuse if by_all else None) as a, Receiver(refuse) as b:
        place = SmallPlace(tmp_path / "state", {"a": sink(a), "b": sink(b)})
        async with place.running(source) as running:
            await b.until(lambda r: len(r.requests) == 1)
            assert running.replay.pipeline.window.pending == 1
            held.set()
            await running.task
            report = make_report(running.replay)
        assert report["dead_lettered"] == (2 if by_all else 1)
        assert report[copy_is] >= 1

        held.set()
        a.script = b.script = lambda request: Reply()
        source = write(tmp_path / "again.ndjson", [event(0)])
        report = await place.run(source)
        assert report["duplicate"] == (0 if by_all else 1), "a key is free only if every sink gave it up"
    assert_passed(place, source)


async def test_a_key_is_not_known_before_all_sinks_had_its_event(tmp_path: Path) -> None:
    """One sink has it, the other has it on its way, or has not even begun; then the process is killed."""
    count = 50
    source = write(tmp_path / "in.ndjson", [event(number) for number in range(count)])
    hang: list[Action] = [Hang()]
    async with Receiver() as quick, Receiver(lambda _: hang[0]) as slow:
        place = SmallPlace(tmp_path / "0", {"quick": sink(quick), "slow": sink(slow)})
        async with place.running(source) as running:
            await quick.until(lambda r: len(sent(r)) == count)
            await until(lambda: running.replay.pipeline.runners[0].ledger.delivered == count)
            await running.replay.pipeline.journal.commit()
            place = await running.crash(tmp_path / "1")
        assert rows(place.directory, "SELECT count(*) FROM window") == [(0,)]
        hang[0] = Reply()
        report = await place.run(source)
        assert report["duplicate"] == 0
        assert_once(quick, range(count))
        assert set(keys_by_event(slow)) == set(range(count))
    assert_passed(place, source)


async def test_a_letter_that_is_sent_again_does_not_hide_its_event_from_a_sink_that_lacks_it(
    tmp_path: Path,
) -> None:
    """One sink refused it while the other was out of reach: the file will be read again for that one."""
    last = 59
    source = write(tmp_path / "in.ndjson", [event(number) for number in range(last + 1)])

    def refuse(request: Request) -> Action:
        found = numbers_of(request)
        if last not in found:
            return Reply()
        body = b'{"errors":[{"index":%d,"message":"no such queue"}]}' % found.index(last)
        return Reply(422, body=body)

    async with Receiver(refuse) as fussy, Receiver() as late:
        sinks = {"fussy": sink(fussy), "late": _nowhere() | {"max_in_flight": 1}}
        once = {"delivery": {"circuit_threshold": 1}}  # the last batch is not even begun
        place = SmallPlace(tmp_path / "state", sinks, once)
        assert (await place.run(source))["exit_code"] == 4
        assert rows(place.directory, "SELECT sink, line FROM letters") == [("fussy", last + 1)]
        fussy.script = lambda _: Reply()
        with contextlib.closing(sqlite3.connect(place.directory / "state.db")) as connection, connection:
            connection.execute("UPDATE single_letters SET due = 1")
        place.sinks = {"fussy": sink(fussy), "late": sink(late)}
        report = await place.run(write(tmp_path / "empty.ndjson", []))
        assert report["retried_delivered"] == 1
        await place.run(source)
        assert_once(late, range(last + 1))

        again = write(tmp_path / "again.ndjson", [event(last)])
        assert (await place.run(again))["duplicate"] == 1
    assert rows(place.directory, "SELECT state FROM letters") == [("delivered",)]
