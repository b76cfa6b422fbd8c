"""One simulator after the other in a process: SQLite goes through all ways to a disk it was ever given."""

import gc
import random

import pytest

from ingestd.simulation.history import simulator
from ingestd.simulation.loop import Crash, VirtualLoop
from ingestd.simulation.plan import draw


def test_a_process_has_as_many_as_it_likes() -> None:
    for seed in range(4):
        with simulator() as one:
            assert not one.run(draw(seed)).broken
        gc.collect()
        assert [bytes(size) for size in range(4_000)]  # in the place of what is gone


def test_a_process_is_killed_between_the_end_of_its_task_and_the_stop_of_its_loop() -> None:
    loop = VirtualLoop(
        random.Random(1), starts_at=0.0, thread_s=0.0, on_jump=lambda: None, on_kill=lambda: None
    )

    def die() -> None:
        loop.dead = True

    async def main() -> None:
        loop.call_soon(die)

    task = loop.create_task(main())
    with pytest.raises(Crash):
        loop.run_until_complete(task)
    loop.unwind([])
    assert task.done()
    loop.close()


def test_what_comes_of_a_process_after_its_power_was_cut_is_not_judged() -> None:
    """It is cut at a write, which fails: while the replay is taken apart, it ends with that error."""
    with simulator() as one:
        assert not one.run(draw(3142)).broken
