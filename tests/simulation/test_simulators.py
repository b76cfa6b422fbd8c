"""One simulator after the other in a process: SQLite goes through all ways to a disk it was ever given."""

import gc

from ingestd.simulation.history import simulator
from ingestd.simulation.plan import draw


def test_a_process_has_as_many_as_it_likes() -> None:
    for seed in range(4):
        with simulator() as one:
            assert not one.run(draw(seed)).broken
        gc.collect()
        assert [bytes(size) for size in range(4_000)]  # in the place of what is gone
