"""Back-pressure: what producers are told at the cap, from how fast the spool really empties."""

from pathlib import Path

import pytest

from ingestd.core.bounds import Bounds
from ingestd.core.clock import SystemClock
from ingestd.core.submission import AcceptedSubmission
from tests.integration.intake.support import Gate, event, events, running, sent
from tests.integration.intake.test_admission import turns
from tests.receiver import Hang, Receiver, Reply, in_turn

pytestmark = pytest.mark.anyio

CAP = 1024**2


class ShiftedClock(SystemClock):
    """The real one, and what the test adds to it."""

    def __init__(self) -> None:
        real, self.ahead_s = SystemClock.monotonic, 0.0
        self.monotonic = lambda: real() + self.ahead_s


async def test_at_the_cap_producers_are_told_to_wait_and_nothing_of_theirs_is_known(tmp_path: Path) -> None:
    async with (
        Receiver() as receiver,
        running(tmp_path / "state", receiver, deliver=False, spool={"max_bytes": CAP}) as life,
    ):
        await life.take(*events(range(4), pad=250_000))
        deferred = await life.refuse(event(4, pad=50_000), event(5))
        assert deferred.status == 429
        assert deferred.retry_after_s > 0
        assert f"of {CAP} bytes" in deferred.detail
        assert life.ingest.admission.deferred == {429: 2}
        assert await life.take(event(5)) == AcceptedSubmission(1, 0, []), "what has room is still taken"
        life.deliver()
        await life.until_empty()
        assert await life.take(event(4, pad=50_000), event(5)) == AcceptedSubmission(1, 1, [])
        await life.until_empty()
        assert sorted(sent(receiver)) == [0, 1, 2, 3, 4, 5]


async def test_what_has_only_arrived_counts_against_the_cap(tmp_path: Path) -> None:
    async with (
        Receiver() as receiver,
        running(tmp_path / "state", receiver, deliver=False, spool={"max_bytes": CAP}) as life,
    ):
        told = [life.submit(event(number, pad=200_000)) for number in range(10)]
        await life.ingest.admission.finished()
        taken = [one.result() for one in told]
        assert taken[:5] == [AcceptedSubmission(1, 0, [])] * 5
        assert [result.status for result in taken[5:] if not isinstance(result, AcceptedSubmission)] == [
            429
        ] * 5
        assert life.ingest.spool.bytes <= CAP
        assert life.rows("SELECT sum(bytes) FROM spool") == [(life.ingest.spool.bytes,)]


async def test_while_the_disk_takes_its_time_only_so_much_waits_in_memory(tmp_path: Path) -> None:
    async with (
        Receiver() as receiver,
        running(
            tmp_path / "state", receiver, deliver=False, bounds=Bounds(unanswered_bytes=1_000_000)
        ) as life,
    ):
        async with Gate(life.pipeline.database):
            told = [life.submit(event(number, pad=90_000)) for number in range(20)]
            await turns()
            assert [one.done() for one in told] == [False] * 11 + [True] * 9
            assert life.ingest.admission.deferred == {503: 9}
        assert [isinstance(await one, AcceptedSubmission) for one in told] == [True] * 11 + [False] * 9
        assert await life.take(*events(range(20, 25), pad=300_000)) == AcceptedSubmission(5, 0, []), (
            "it came alone"
        )


async def test_the_time_to_wait_comes_from_how_fast_the_spool_empties(tmp_path: Path) -> None:
    clock = ShiftedClock()
    script = in_turn(Reply(), Reply(), Hang())
    async with (
        Receiver(script) as receiver,
        running(tmp_path / "state", receiver, clock=clock, spool={"max_bytes": CAP}) as life,
    ):
        pressure, spool = life.ingest.pressure, life.ingest.spool
        assert pressure.retry_after_s(1_000_000) == 30, "not known yet"
        for number in (0, 1):
            await life.take(event(number, pad=300_000))
            await life.until_empty()
        clock.ahead_s += 20
        pressure.measure()
        rate = spool.settled_bytes / 20
        assert 29_000 < rate < 31_000
        await life.take(*events(range(10, 14), pad=250_000))
        deferred = await life.refuse(event(20, pad=300_000))
        over = spool.bytes + len(event(20, pad=300_000)) - CAP
        assert deferred.status == 429
        assert deferred.retry_after_s == pytest.approx(over / rate, abs=3)
        assert over / rate > 5
        clock.ahead_s += 20
        pressure.measure()
        assert pressure.retry_after_s(over) == 30, "nothing has left for long: nobody knows"
        clock.ahead_s += 20
        assert pressure.retry_after_s(1) == 30


async def test_the_time_to_wait_is_at_least_a_second_and_at_most_five_minutes(tmp_path: Path) -> None:
    clock = ShiftedClock()
    async with Receiver() as receiver, running(tmp_path / "state", receiver, clock=clock) as life:
        await life.take(event(1, pad=100_000))
        await life.until_empty()
        clock.ahead_s += 10
        life.ingest.pressure.measure()
        assert life.ingest.pressure.retry_after_s(1) == 1
        assert life.ingest.pressure.retry_after_s(10**12) == 300
