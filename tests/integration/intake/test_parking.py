"""One dead sink is set aside: it takes no room from the others, loses nothing, and goes on in order."""

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from ingestd.app.spool import _until_held
from ingestd.core.clock import SystemClock
from ingestd.intake.parking import BY_BOUND, BY_PERSON
from ingestd.store.parked_sinks import is_held, set_parked
from tests.integration.delivery.support import until
from tests.integration.intake.support import DEADLINE_S, Life, all_posted, event, events, running, webhook
from tests.receiver import Receiver, Reply, Request

pytestmark = pytest.mark.anyio

CAP = 1024**2
DOWN = {"delivery": {"circuit_threshold": 1, "backoff_base": 0.01, "backoff_cap": 0.05, "order_by": "queue"}}


class AheadClock(SystemClock):
    ahead_s = 0.0

    def wall(self) -> float:  # type: ignore[override]
        return SystemClock.wall() + self.ahead_s


async def fill(life: Life, first: int, *, most: int = 40) -> int:
    """As many events of 100 kB as are taken, but no more than ``most``; gives the next number."""
    for number in range(first, first + most):
        result = await life.submit(event(number, pad=100_000))
        if getattr(result, "status", 0) == 429:
            return number
        await asyncio.sleep(0)
    return first + most


def parked_of(life: Life) -> dict[str, str]:
    return {runner.name: runner.parked for runner in life.pipeline.runners}


async def test_a_person_parks_a_sink_over_a_restart_and_it_gets_everything_in_order(tmp_path: Path) -> None:
    down = [True]
    state = tmp_path / "state"
    async with Receiver(lambda _: Reply(503) if down else Reply()) as dead, Receiver() as live:
        sinks = {"dead": webhook(dead), "live": webhook(live)}
        given: dict[str, Any] = {"sinks": sinks, "spool": {"max_bytes": CAP, "max_parked": CAP}, **DOWN}
        async with running(state, **given) as life:
            stopped_at = await fill(life, 0)
            assert stopped_at < 12
            assert "most of them for dead" in (await life.refuse(event(99, pad=100_000))).detail
            await until(lambda: len(set(all_posted(live))) == stopped_at)
            assert set_parked(state, "dead", 1.0)
            await life.ingest.parking.look()
            assert parked_of(life) == {"dead": BY_PERSON, "live": ""}
            assert life.ingest.pressure.parked_bytes == life.ingest.spool.bytes
            assert not life.ingest.pressure.full
            await until(lambda: not life.pipeline.runners[0].lane.active)
            asked = len(dead.requests)
            more = await fill(life, stopped_at)  # up to the second bound
            assert stopped_at * 2 - 2 <= more <= stopped_at * 2 + 2
            assert life.ingest.spool.bytes <= 2 * CAP
            await until(lambda: len(set(all_posted(live))) == more)
            assert len(dead.requests) == asked, "nothing is sent to a parked sink"
            assert any("dead: parked" in warning for warning in life.warnings)
        async with running(state, **given) as life:
            assert parked_of(life) == {"dead": BY_PERSON, "live": ""}
            down.clear()
            await asyncio.sleep(0.05)
            assert len(dead.requests) == asked
            assert set_parked(state, "dead", None)
            await life.ingest.parking.look()
            await life.until_empty()
            assert life.ingest.pressure.parked_bytes == 0
            assert [cursor.bytes for cursor in life.ingest.spool.cursors.values()] == [0, 0]
    numbers = [number for number in dict.fromkeys(all_posted(dead)) if number < more]
    assert sorted(numbers) == list(range(more))
    assert sorted(set(all_posted(live))) == list(range(more))


async def test_a_sink_at_its_bound_parks_itself_is_tried_and_is_back_when_it_has_caught_up(
    tmp_path: Path,
) -> None:
    down = [True]
    async with Receiver(lambda _: Reply(503) if down else Reply()) as dead, Receiver() as live:
        bound = {"max_backlog": 300_000, "when_full": "park"}
        sinks = {"dead": webhook(dead, **bound), "live": webhook(live)}
        async with running(
            tmp_path / "state", sinks=sinks, spool={"max_bytes": CAP, "max_parked": 2 * CAP}, **DOWN
        ) as life:
            await life.take(*events(range(2), pad=100_000))
            await life.ingest.parking.look()
            assert parked_of(life)["dead"] == ""
            await life.take(*events(range(2, 5), pad=100_000))
            await life.ingest.parking.look()
            assert parked_of(life) == {"dead": BY_BOUND, "live": ""}
            assert any("max_backlog is" in warning for warning in life.warnings)
            for first in range(5, 25, 5):  # far more than its room
                await life.take(*events(range(first, first + 5), pad=100_000))
                await until(lambda: len(set(all_posted(live))) == first + 5)  # noqa: B023
                await life.ingest.parking.look()
            down.clear()
            await life.until_empty()
            await life.ingest.parking.look()
            assert parked_of(life) == {"dead": "", "live": ""}
            assert any("dead: not parked any more" in warning for warning in life.warnings)
    assert sorted(set(all_posted(dead))) == list(range(25))


async def test_a_bound_without_parking_makes_producers_wait_and_names_the_sink(tmp_path: Path) -> None:
    clock = AheadClock()
    async with Receiver() as receiver:
        sinks = {
            "slow": webhook(receiver, max_backlog=250_000, max_backlog_age=3600),
            "live": webhook(receiver),
        }
        async with running(tmp_path / "state", sinks=sinks, clock=clock, deliver=False) as life:
            await life.take(event(0, pad=400_000)), "what comes alone is taken, whatever its size"
            held = await life.refuse(event(1, pad=100))
            assert (held.status, "slow: 4" in held.detail) == (429, True)
            assert life.ingest.pressure.full
            life.deliver()
            await life.until_empty()
            assert not life.ingest.pressure.full
            await life.stop()
            await life.take(event(2))
            clock.ahead_s = 7200.0
            await life.ingest.parking.look()
            held = await life.refuse(event(3))
            assert "slow: its oldest event waits for 2h" in held.detail
            life.deliver()
            await life.until_empty()
            await life.ingest.parking.look()
            await life.take(event(3))
            await life.until_empty()


async def test_who_parks_is_told_when_no_request_is_out_any_more(tmp_path: Path) -> None:
    asked, answer = asyncio.Event(), asyncio.Event()

    async def slow(request: Request) -> Reply:
        asked.set()
        await answer.wait()
        return Reply()

    state = tmp_path / "state"
    async with (
        Receiver(slow) as receiver,
        running(state, sinks={"slow": webhook(receiver), "other": webhook(receiver)}) as life,
    ):
        await life.take(event(1))
        await asked.wait()
        assert set_parked(state, "slow", life.pipeline.clock.wall())
        told = asyncio.ensure_future(_until_held(state, "slow", DEADLINE_S))
        for _ in range(3):
            await life.ingest.parking.look()
            await life.pipeline.journal.commit()
        assert not told.done()
        assert await _until_held(state, "slow", 0.0) == str(os.getpid())
        answer.set()
        await until(lambda: not life.pipeline.runners[0].lane.active)
        await life.ingest.parking.look()
        await life.pipeline.journal.commit()
        assert await told == ""
        set_parked(state, "slow", None)
        set_parked(state, "slow", life.pipeline.clock.wall() + 1)
        assert not is_held(state, "slow"), "what was noted before is of another time"
    assert await _until_held(state, "slow", DEADLINE_S) == "", "no process is there"
