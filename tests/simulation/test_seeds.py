"""No promise is broken: 300 histories from seeds, and rare ones. ``make simulate`` runs ten thousand."""

from collections.abc import Iterable

import pytest

from ingestd.simulation.history import Simulator, shrink
from ingestd.simulation.plan import draw
from tests.effort import FUZZ
from tests.simulation.mutants import found_after

SEEDS = 10_000 if FUZZ else 300
TOGETHER = 25


@pytest.mark.parametrize("first", range(0, SEEDS, TOGETHER))
def test_no_promise_is_broken(simulated: Simulator, first: int) -> None:
    run(simulated, range(first, first + TOGETHER))


def test_nor_in_the_histories_that_find_the_rarest_of_the_planted_defects(simulated: Simulator) -> None:
    rare = {count - 1 for count in found_after().values()} - set(range(SEEDS))
    assert rare
    run(simulated, sorted(rare))


def test_a_process_that_is_killed_before_it_serves_hears_no_producer_afterwards(simulated: Simulator) -> None:
    run(simulated, [801_340])


def run(simulated: Simulator, seeds: Iterable[int]) -> None:
    broken = {}
    for seed in seeds:
        if words := simulated.run(draw(seed)).broken:
            broken[f"make simulate SEED={seed}"] = words
    assert not broken


def test_a_seed_is_the_same_history_each_time(simulated: Simulator) -> None:
    length = 0
    for seed in (1, 2, 3):
        first, second = simulated.run(draw(seed)), simulated.run(draw(seed))
        assert first.trace == second.trace
        length += len(first.trace)
    assert length > 60


def test_a_history_that_fails_is_cut_down_to_what_it_takes(simulated: Simulator) -> None:
    """The fault here: somebody jumps with the clock."""
    plan = next(plan for plan in map(draw, range(1000)) if plan.size > 25 and "jump" in str(plan))

    smallest = shrink(plan, lambda one: any(deed.what == "jump" for life in one.lives for deed in life.deeds))

    assert smallest.size == 3  # a sink, a life, a jump
    assert not simulated.run(smallest).broken
