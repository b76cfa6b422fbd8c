"""An event is delivered once its API says so: to who waits, in every ledger, for a lake, after restarts."""

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ingestd.core.receipt import FanOutReceipt
from ingestd.core.submission import AcceptedSubmission, SubmissionOutcome
from tests.each import each
from tests.integration.delivery.support import until
from tests.integration.intake.replay_support import Place, rows
from tests.integration.intake.support import Life, event, events, running, webhook
from tests.integration.intake.test_several_restarts import leave_a_batch_of_a_stream
from tests.integration.intake.test_several_sinks import nowhere, refusing
from tests.integration.lake.support import events_in
from tests.receiver import Action, Receiver, Reply, Request, in_turn

pytestmark = pytest.mark.anyio

LONG_S = 15.0


class Confirmed:
    """An API that takes an event to a request, and says of each what ``standing`` has; else ``accepted``."""

    def __init__(self) -> None:
        self.standing: dict[int, str] = {}
        self.posts: list[int] = []

    def __call__(self, request: Request) -> Action:
        if request.method == "POST":
            number = int(request.json()["data"]["interactionId"][2:])
            self.posts.append(number)
            return Reply(202, body=b'{"id":"%d","status":"accepted"}' % number)
        number = int(request.path.rpartition("/")[2])
        return Reply(body=json.dumps({"status": self.standing.get(number, "accepted")}).encode())

    def say(self, standing: str, *numbers: int) -> None:
        self.standing.update(dict.fromkeys(numbers, standing))


def asked(receiver: Receiver, **confirm: Any) -> dict[str, Any]:
    url = receiver.url + "/events"
    quick = {"initial_delay": 0.01, "requests_per_minute": 60_000}
    return {
        "type": "cloudevents",
        "url": url,
        "wrap": {"type": "test.event", "source": "/test"},
        "confirm": {"url": url + "/{id}"} | quick | confirm,
    }


def counts(life: Life) -> tuple[int, int, int, int]:
    ledger = life.ledger
    return ledger.accepted, ledger.delivered, ledger.dead_lettered, ledger.in_flight


def audited(life: Life, name: str) -> list[int]:
    """The number of events of each such entry."""
    life.pipeline.audit.flush()
    lines = (json.loads(line) for line in (life.directory / "audit.jsonl").read_text().splitlines())
    return [line["events"] for line in lines if line["event"] == name]


@each("others", [0, 1])
async def test_who_waits_hears_what_the_api_says_in_the_end(tmp_path: Path, others: int) -> None:
    api = Confirmed()
    async with Receiver(api) as receiver, Receiver() as other:
        sinks = {"asked": asked(receiver)} | ({"other": webhook(other)} if others else {})
        async with running(tmp_path / "state", sinks=sinks) as life:
            told = life.submit(*events(range(3)), wait_s=LONG_S)
            await until(lambda: life.sink("asked").confirming == 3 and life.ingest.spool.events == 0)
            late = await life.take(event(9), wait_s=0.1)  # whose time is up
            assert late == AcceptedSubmission(1, 0, [], SubmissionOutcome(0, 0, 1))
            assert not told.done()
            assert counts(life) == (4, 0, 0, 4)
            api.say("delivered", 0, 2)
            await until(lambda: life.sink("asked").delivered == 2)
            assert not told.done()
            api.say("failed", 1)
            assert await told == AcceptedSubmission(3, 0, [], SubmissionOutcome(2, 1, 0))
            assert counts(life) == (4, 2, 1, 1)
            api.say("delivered", 9)
            await until(lambda: life.ledger.in_flight == 0)
            assert (await life.take(event(1))).accepted == (0 if others else 1)  # no sink has it: it is free
            api.say("delivered", 1)
            assert audited(life, "BATCH_ACCEPTED")[:3] == audited(life, "BATCH_DELIVERED")[-3:] == [1, 1, 1]


async def test_when_time_is_up_who_waits_is_told_what_is_known_of_each(tmp_path: Path) -> None:
    api = Confirmed()
    async with Receiver(api) as receiver, Receiver(refusing(2)) as other:
        sinks = {"asked": asked(receiver), "other": webhook(other)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            api.say("failed", 0)
            api.say("delivered", 1)
            taken = await life.take(*events(range(4)), wait_s=0.5)
            assert taken.ends == SubmissionOutcome(
                1, 2, 1
            )  # 2 was refused elsewhere, whatever this API says of it


@each("answer", ["accepted", "failed"])
async def test_an_event_that_one_of_its_apis_lost_is_not_delivered_whichever_speaks_last(
    tmp_path: Path, answer: str
) -> None:
    """0: both say delivered; 1: one fails; 2: the other fails; 3: refused by the third; 4: nobody has it."""
    one, two = Confirmed(), Confirmed()
    async with Receiver(one) as first, Receiver(two) as second, Receiver(refusing(3, 4)) as third:
        sinks = {"one": asked(first), "two": asked(second), "three": webhook(third)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            two.say("failed", 2, 4)
            await life.take(*events(range(5)))
            if answer == "failed":
                two.say("delivered", 0, 1, 3)
                await until(lambda: life.sink("two").in_flight == 0)
            await until(lambda: life.sink("two").dead_lettered == 2)
            assert counts(life)[:2] == (5, 0)
            one.say("failed", 1, 4)
            one.say("delivered", 0, 2, 3)
            two.say("delivered", 0, 1, 3)
            await until(lambda: life.ledger.in_flight == 0)
            assert counts(life) == (5, 1, 4, 0)
            assert [life.sink(name).dead_lettered for name in sinks] == [2, 2, 2]
            again = await life.take(*events(range(5)))
            assert (again.accepted, again.duplicates) == (1, 4)  # 4 is free: no sink has it
            for api in (one, two):
                api.say("delivered", *range(5))


async def left_by_a_crash(life: Life, image: Path, condition: Callable[[], bool]) -> None:
    await until(condition)
    await life.pipeline.journal.commit()
    await life.crash(image)


@each("end", ["delivered", "failed"])
async def test_what_one_sink_has_and_another_lacks_is_one_event_after_a_restart_too(
    tmp_path: Path, end: str
) -> None:
    api, image = Confirmed(), tmp_path / "image"
    async with Receiver(api) as receiver, Receiver(lambda _: Reply(503)) as other:
        sinks = {"asked": asked(receiver), "other": webhook(other)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            await life.take(*events(range(3)))
            await left_by_a_crash(life, image, lambda: life.sink("asked").confirming == 3)
        api.say(end, 0)
        async with running(image, sinks=sinks) as life:
            await until(lambda: life.sink("asked").confirming == 2)
            assert counts(life) == (3, 0, 0, 3)  # the other has yet to take it
            api.say("delivered", 1)
            await until(lambda: life.sink("asked").confirming == 1)
            other.script = in_turn(Reply())
            failed = int(end == "failed")
            await until(lambda: life.ledger.in_flight == 1)
            assert counts(life) == (3, 2 - failed, failed, 1)
            api.say("failed", 2)
            await until(lambda: life.ledger.in_flight == 0)
            assert counts(life) == (3, 2 - failed, 1 + failed, 0)
        assert api.posts == [0, 1, 2]


async def test_what_a_sink_lost_before_a_restart_is_not_delivered_after_it(tmp_path: Path) -> None:
    """The refusing sink had its end with all of them; the dead letters are in the store."""
    api, image = Confirmed(), tmp_path / "image"
    async with (
        Receiver(refusing(1, 2)) as picky,
        Receiver(api) as receiver,
        Receiver(lambda _: Reply(503)) as away,
    ):
        sinks = {"picky": webhook(picky), "asked": asked(receiver), "away": webhook(away)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            api.say("failed", 0)
            await life.take(*events(range(4)))
            await left_by_a_crash(life, image, lambda: life.sink("asked").confirming == 3)
        away.script = in_turn(Reply())
        api.say("delivered", 1, 2, 3)
        async with running(image, sinks=sinks) as life:
            await until(lambda: life.ledger.in_flight == 0 and life.ledger.accepted == 4)
            assert counts(life) == (4, 1, 3, 0)
            assert life.ledger.by_reason == {"refused": 2, "failed": 1}


async def test_what_all_have_taken_and_one_lost_is_so_when_the_last_api_speaks_after_a_restart(
    tmp_path: Path,
) -> None:
    one, two, image = Confirmed(), Confirmed(), tmp_path / "image"
    async with Receiver(one) as first, Receiver(two) as second:
        sinks = {"one": asked(first), "two": asked(second)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            one.say("failed", 0)
            one.say("delivered", 1)
            await life.take(*events(range(3)))
            await life.until_empty()
            await left_by_a_crash(life, image, lambda: life.sink("one").confirming == 1)
        two.say("delivered", 0, 1, 2)
        async with running(image, sinks=sinks, deliver=False) as life:
            assert counts(life) == (3, 0, 0, 3)
            life.deliver()
            await until(lambda: life.ledger.in_flight == 1)
            assert counts(life) == (3, 1, 1, 1)
            one.say("delivered", 2)
            await until(lambda: life.ledger.in_flight == 0)
            assert counts(life) == (3, 2, 1, 0)


async def test_events_of_a_stream_have_no_place_and_each_has_its_own_end(tmp_path: Path) -> None:
    """What a killed `ingestd replay -` leaves: of three events two fail, and there are two letters."""
    api = Confirmed()
    async with Receiver(api) as receiver, Receiver() as other:
        sinks = {"asked": asked(receiver), "other": webhook(other)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            for number in range(3):
                await leave_a_batch_of_a_stream(life, "asked", [event(number)])
        api.say("failed", 0, 1)
        async with running(tmp_path / "state", sinks=sinks) as life:
            await until(lambda: life.sink("asked").dead_lettered == 2)
            assert counts(life) == (3, 0, 2, 1)
            await life.pipeline.journal.commit()
            await life.crash(tmp_path / "image")
        api.say("delivered", 2)
        async with running(tmp_path / "image", sinks=sinks) as life:
            await until(lambda: life.ledger.delivered == 1)
            assert counts(life) == (1, 1, 0, 0)
            assert life.rows("SELECT count(*) FROM letters") == [(2,)]


async def test_a_whole_batch_of_a_stream_that_is_refused_leaves_a_letter_for_each_event(
    tmp_path: Path,
) -> None:
    async with Receiver(refusing(0, 1, 2)) as receiver:
        sinks = {"only": webhook(receiver)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            await leave_a_batch_of_a_stream(life, "only", events(range(3)))
        async with running(tmp_path / "state", sinks=sinks) as life:
            await until(lambda: life.sink("only").dead_lettered == 3)
            await life.pipeline.journal.commit()
            assert life.rows("SELECT count(*) FROM letters") == [(3,)]


@pytest.mark.parametrize("first", ["the API speaks", "the other is back"])
async def test_an_event_is_known_while_it_is_confirming_and_costs_no_memory_after_that(
    tmp_path: Path, first: str, alive: Callable[..., int]
) -> None:
    """The other sink has not even taken most of them up."""
    api = Confirmed()
    async with Receiver(api) as receiver, Receiver(lambda _: Reply(503)) as away:
        sinks = {"asked": asked(receiver), "away": webhook(away, max_in_flight=1)}
        async with running(tmp_path / "state", sinks=sinks, batch={"max_events": 1, "max_age": 0.01}) as life:
            for number in range(60):
                await life.take(event(number))
            await until(lambda: life.sink("asked").confirming == 60)
            if first == "the other is back":
                away.script = in_turn(Reply())
                await until(lambda: life.sink("away").delivered == 60)
                assert counts(life) == (60, 0, 0, 60)
            api.say("delivered", *range(59))
            api.say("failed", 59)
            await until(lambda: life.sink("asked").in_flight == 0)
            assert alive(FanOutReceipt) <= 20  # what the other's lane has, and the one that failed
            away.script = in_turn(Reply())
            await until(lambda: life.ledger.in_flight == 0)
            assert counts(life) == (60, 59, 1, 0)


@each("others", [0, 1])
async def test_a_lake_of_what_a_sink_has_delivered_gets_what_its_api_has_confirmed(
    tmp_path: Path, others: int
) -> None:
    api, folder = Confirmed(), tmp_path / "lake"
    async with Receiver(api) as receiver, Receiver() as other:
        sinks: dict[str, Any] = {"asked": asked(receiver)} | ({"other": webhook(other)} if others else {})
        sinks["lake"] = {"type": "lake", "url": str(folder), "of": "asked", "file_age": 0.01}
        async with running(tmp_path / "state", sinks=sinks) as life:
            lake = life.pipeline.lakes[0].lake
            task = asyncio.ensure_future(lake.run())
            api.say("failed", 1)
            await life.take(*events(range(4)))
            await until(lambda: life.sink("asked").confirming == 3)
            assert lake.outbox.events == 0
            api.say("delivered", 0, 2, 3)
            await until(lambda: life.sink("asked").delivered == 3 and lake.outbox.events == 0)
            task.cancel()
        numbers = sorted(int(json.loads(one)["interactionId"][2:]) for one in events_in(folder))
        assert numbers == [0, 2, 3]


async def test_in_a_replay_too_what_a_sink_lost_in_an_earlier_run_is_not_delivered(tmp_path: Path) -> None:
    """Its chunk is read again for a sink that was away; and a key that no sink has is free in a later run."""
    source, api = tmp_path / "in.ndjson", Confirmed()
    source.write_bytes(b"\n".join(events(range(4))))
    async with Receiver(refusing(1)) as picky, Receiver(api) as receiver:
        api.say("failed", 0, 1)
        api.say("delivered", 2, 3)
        late = webhook(picky)
        sinks = {"picky": webhook(picky), "asked": asked(receiver), "late": late | {"url": await nowhere()}}
        place = Place(tmp_path / "state", sinks)
        first = await place.run(source)
        assert first["exit_code"] == 4
        assert first["delivered"] == 0
        second = await Place(place.directory, sinks | {"late": late}).run(source)
        assert (second["delivered"], second["dead_lettered"], second["in_flight"]) == (2, 2, 0)
        # event 1 fails at two sinks, for the reason of the one that says so first: picky may be slow
        assert second["dead_letters_by_reason"] in ({"refused": 1, "failed": 1}, {"failed": 2})
        assert rows(place.directory, "SELECT sink, count(*) FROM letters GROUP BY 1 ORDER BY 1") == [
            ("asked", 2),
            ("late", 1),
            ("picky", 1),
        ]
        again = tmp_path / "again.ndjson"
        again.write_bytes(b"\n".join(events(range(4))))
        third = await Place(place.directory, sinks | {"late": late}).run(again)
        assert (third["duplicate"], third["accepted"]) == (3, 4)


async def test_a_key_whose_only_api_failed_it_is_free_in_the_next_replay(tmp_path: Path) -> None:
    source, again, api = tmp_path / "in.ndjson", tmp_path / "again.ndjson", Confirmed()
    for path in (source, again):
        path.write_bytes(b"\n".join(events(range(2))))
    async with Receiver(api) as receiver:
        api.say("failed", 0)
        api.say("delivered", 1)
        place = Place(tmp_path / "state", {"asked": asked(receiver)})
        assert (await place.run(source))["exit_code"] == 3
        api.say("delivered", 0)
        report = await place.run(again)
        assert (report["duplicate"], report["delivered"], report["exit_code"]) == (1, 1, 0)
