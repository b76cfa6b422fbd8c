"""``?wait=delivered``: a submission is answered when every event of it had its end, or time is up."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from ingestd.core.bounds import Bounds
from ingestd.core.clock import SystemClock, Timer
from ingestd.core.submission import AcceptedSubmission, SubmissionOutcome
from tests.each import each
from tests.integration.intake.support import event, events, running, sent, webhook
from tests.receiver import Hang, Receiver, Reply, in_turn

pytestmark = pytest.mark.anyio

LONG_S = 15.0
HOUR_S = 3600.0


class HourGlass(SystemClock):
    """An hour is up when the test says so."""

    def __init__(self) -> None:
        self.up: list[Callable[[], object]] = []

    def call_later(self, seconds: float, callback: Callable[..., object], *args: Any) -> Timer:  # type: ignore[override]
        if seconds == HOUR_S:
            self.up.append(partial(callback, *args))
        return SystemClock.call_later(seconds, callback, *args)


async def test_it_is_answered_when_all_of_it_is_delivered(tmp_path: Path) -> None:
    gate = anyio.Event()

    async def reply(_: object) -> Reply:
        await gate.wait()
        return Reply()

    async with Receiver(reply) as receiver, running(tmp_path / "state", receiver) as life:
        told = life.submit(*events(range(3)), wait_s=LONG_S)
        await receiver.until(lambda r: len(r.requests) == 1)
        assert not told.done()
        assert len(life.ingest.waiting) == 1
        gate.set()
        assert await told == AcceptedSubmission(3, 0, [], SubmissionOutcome(3, 0, 0))
        assert len(life.ingest.waiting) == 0


async def test_it_is_told_how_many_became_dead_letters(tmp_path: Path) -> None:
    refuse = Reply(422, body=b'{"errors":[{"index":1,"message":"no"}]}')
    async with Receiver(in_turn(refuse, Reply())) as receiver, running(tmp_path / "state", receiver) as life:
        taken = await life.take(*events(range(4)), b"broken", event(0), wait_s=LONG_S)
        assert (taken.accepted, taken.duplicates, len(taken.rejected)) == (4, 1, 1)
        assert taken.ends == SubmissionOutcome(3, 1, 0)


async def test_each_hears_only_of_its_own_events(tmp_path: Path) -> None:
    refuse = Reply(422, body=b'{"errors":[{"index":2,"message":"no"},{"index":3,"message":"no"}]}')
    async with Receiver(in_turn(refuse, Reply())) as receiver, running(tmp_path / "state", receiver) as life:
        told = [
            life.submit(*events([0]), wait_s=LONG_S),
            life.submit(*events([1, 2]), wait_s=LONG_S),
            life.submit(*events([3])),
            life.submit(*events([4, 5, 1]), wait_s=LONG_S),
        ]
        assert [await one for one in told] == [
            AcceptedSubmission(1, 0, [], SubmissionOutcome(1, 0, 0)),
            AcceptedSubmission(2, 0, [], SubmissionOutcome(1, 1, 0)),
            AcceptedSubmission(1, 0, []),
            AcceptedSubmission(2, 1, [], SubmissionOutcome(2, 0, 0)),
        ]
        await life.until_empty()
        assert life.ledger.dead_lettered == 2


async def test_a_submission_of_many_chunks_waits_for_all_of_them(tmp_path: Path) -> None:
    gate = anyio.Event()

    async def reply(_: object) -> Reply:
        if len(receiver.requests) > 1:
            await gate.wait()
        return Reply()

    async with Receiver(reply) as receiver, running(tmp_path / "state", receiver) as life:
        told = life.submit(*events(range(10), pad=100_000), wait_s=LONG_S)
        await receiver.until(lambda r: len(r.requests) > 2)
        assert len(life.ingest.waiting) > 1
        assert not told.done()
        gate.set()
        assert await told == AcceptedSubmission(10, 0, [], SubmissionOutcome(10, 0, 0))


async def test_when_time_is_up_it_is_told_what_is_still_pending(tmp_path: Path) -> None:
    script = in_turn(Reply(), Hang())
    clock = HourGlass()
    async with (
        Receiver(script) as receiver,
        running(tmp_path / "state", receiver, clock=clock, batch={"max_events": 2, "max_age": 0.01}) as life,
    ):
        told = life.submit(*events(range(3)), wait_s=HOUR_S)
        await receiver.until(lambda r: len(r.requests) == 2 and life.ledger.in_flight == 1)
        assert not told.done()
        [up] = clock.up
        up()
        assert await told == AcceptedSubmission(3, 0, [], SubmissionOutcome(2, 0, 1))
        assert life.ledger.in_flight == 1
        life.assert_balanced()


async def test_a_chunk_that_nobody_took_up_yet_is_pending(tmp_path: Path) -> None:
    async with Receiver() as receiver, running(tmp_path / "state", receiver, deliver=False) as life:
        assert await life.take(*events(range(3)), wait_s=0.05) == AcceptedSubmission(
            3, 0, [], SubmissionOutcome(0, 0, 3)
        )
        life.deliver()
        await life.until_empty()
        assert sent(receiver) == [0, 1, 2]


async def test_when_the_process_ends_everybody_is_told_at_once(tmp_path: Path) -> None:
    async with Receiver(lambda _: Hang()) as receiver, running(tmp_path / "state", receiver) as life:
        told = life.submit(*events(range(3)), wait_s=LONG_S)
        await receiver.until(lambda r: len(r.requests) == 1)
        on_its_way = life.submit(event(9), wait_s=LONG_S)
        life.ingest.waiting.give_up()
        assert told.result() == AcceptedSubmission(3, 0, [], SubmissionOutcome(0, 0, 3))
        await life.ingest.admission.finished()
        assert on_its_way.result() == AcceptedSubmission(1, 0, [], SubmissionOutcome(0, 0, 1))


async def test_with_nothing_to_wait_for_it_is_answered_after_the_commit(tmp_path: Path) -> None:
    async with Receiver(lambda _: Hang()) as receiver, running(tmp_path / "state", receiver) as life:
        await life.take(event(1))
        assert await life.take(event(1), wait_s=LONG_S) == AcceptedSubmission(
            0, 1, [], SubmissionOutcome(0, 0, 0)
        )
        rejected = await life.take(b"broken", wait_s=LONG_S)
        assert rejected.ends == SubmissionOutcome(0, 0, 0)
        atomic = await life.take(b"broken", event(2), atomic=True, wait_s=LONG_S)
        assert (atomic.stored, atomic.ends) == (False, None)


async def test_only_so_many_may_wait(tmp_path: Path) -> None:
    async with (
        Receiver(lambda _: Hang()) as receiver,
        running(tmp_path / "state", receiver, bounds=Bounds(waiting_requests=2)) as life,
    ):
        told = [life.submit(event(number), wait_s=LONG_S) for number in range(2)]
        assert await life.take(event(2), wait_s=LONG_S) == AcceptedSubmission(
            1, 0, [], SubmissionOutcome(0, 0, 1)
        )
        assert not any(one.done() for one in told)
        life.ingest.waiting.give_up()


@each("when", [{"eventType": ["chat"]}, {"eventType": ["routing.interaction.answer"]}])
async def test_what_the_only_sink_does_not_want_is_told_as_skipped(
    tmp_path: Path, when: dict[str, Any]
) -> None:
    wanted = when["eventType"] != ["chat"]
    async with Receiver() as receiver:
        sinks = {"only": webhook(receiver, when=when)}
        async with running(tmp_path / "state", sinks=sinks) as life:
            taken = await life.take(
                event(0, eventType="routing.interaction.answer"), event(1, eventType="other"), wait_s=LONG_S
            )
            assert taken.ends == SubmissionOutcome(wanted, 0, 0, skipped=2 - wanted)
