"""How long the intake waits for one lane while another has room."""

import asyncio
import math
from types import SimpleNamespace
from typing import Any

import pytest

from ingestd.intake.fan_out import FanOut
from ingestd.processing import routes
from tests.integration.delivery.virtual_time import VIRTUAL, LoopClock

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", [VIRTUAL], ids=["virtual"])]


class PlayedLane:
    """``full`` and ``queued`` are as they are set; its API took something just now, or never."""

    def __init__(self, *, full: bool, queued: int, gets_on: bool = True) -> None:
        self.full, self.queued, self.gets_on = full, queued, gets_on
        self.draining = self.idle = False
        self.rooms: list[asyncio.Event] = []

    @property
    def last_success(self) -> float:
        return LoopClock.monotonic() if self.gets_on else -math.inf


def between(**lanes: PlayedLane) -> FanOut:
    sinks: list[Any] = [
        SimpleNamespace(
            name=name, lane=lane, lost=False, pending_bytes=0, sink=None, batcher=None, transforms=None
        )
        for name, lane in lanes.items()
    ]
    nothing: Any = None
    return FanOut(
        sinks,
        routes.compile({name: {} for name in lanes}),
        {},
        {},
        recorder=nothing,
        journal=nothing,
        clock=LoopClock(),
        max_pending_bytes=1,
    )


async def test_one_that_is_slower_costs_the_others_little_however_small_the_chunks_are(
    anyio_backend: object,
) -> None:
    fan_out = between(slow=PlayedLane(full=True, queued=3), quick=PlayedLane(full=False, queued=0))
    started = LoopClock.monotonic()
    for _ in range(1000):
        await fan_out.room()
    waited_s = LoopClock.monotonic() - started
    assert 0.04 < waited_s < 0.06, "once, so that it may catch up"
    await asyncio.sleep(10)
    before = LoopClock.monotonic()
    for _ in range(1000):
        await fan_out.room()
    waited_s = LoopClock.monotonic() - before
    assert waited_s < 0.06


async def test_one_that_gets_on_is_waited_for_while_the_others_have_something_to_send(
    anyio_backend: object,
) -> None:
    late, quick = PlayedLane(full=True, queued=3), PlayedLane(full=False, queued=1)
    waiting = asyncio.ensure_future(between(late=late, quick=quick).room())
    await asyncio.sleep(5)
    assert not waiting.done()
    late.full = False
    late.rooms[0].set()
    await waiting


async def test_one_whose_api_takes_nothing_is_not_waited_for(anyio_backend: object) -> None:
    away = PlayedLane(full=True, queued=3, gets_on=False)
    started = LoopClock.monotonic()
    await between(away=away, quick=PlayedLane(full=False, queued=1)).room()
    assert LoopClock.monotonic() == started
