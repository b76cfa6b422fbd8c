"""How long threads wait for the interpreter: it changes with producers, and only then."""

import asyncio
import queue
import sys
from collections.abc import Iterator

import pytest

from ingestd.store.writer import QUICK_S, QUIET_S, USUAL_S, CommitGroup, End, Pause, Steps, Work, WriterThread


@pytest.fixture
def interval() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(USUAL_S)
    yield
    sys.setswitchinterval(before)


class Thread(WriterThread):
    """``now``: its clock."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.monotonic = lambda: self.now


async def intervals(*groups: tuple[float, bool]) -> list[float]:
    """While each group is written: (seconds after the one before it, whether producers wait for it)."""
    thread, found = Thread(), queue.SimpleQueue[float]()

    def steps() -> Steps:
        while not isinstance((yield Pause(60)), End):
            found.put(sys.getswitchinterval())

    append: Work = print
    thread.start(steps())
    told = []
    for seconds, is_waited_for in groups:
        thread.now += seconds
        appends = [append] if is_waited_for else []
        thread.put(CommitGroup([], appends, [], asyncio.get_running_loop().create_future()))
        told.append(await asyncio.to_thread(found.get))
    thread.end(now=False)
    await thread.ended()
    return told


@pytest.mark.usefixtures("interval")
def test_threads_take_short_turns_from_the_first_producer_until_none_has_come_for_a_while() -> None:
    groups = [
        (0, False, USUAL_S),
        (0, True, QUICK_S),
        (QUIET_S / 2, False, QUICK_S),
        (0, True, QUICK_S),
        (QUIET_S * 0.9, False, QUICK_S),
        (QUIET_S * 0.2, False, USUAL_S),
        (QUIET_S, False, USUAL_S),
        (0, True, QUICK_S),
    ]
    found = asyncio.run(intervals(*[(seconds, waits) for seconds, waits, _ in groups]))
    assert found == pytest.approx([seconds for _, _, seconds in groups])
