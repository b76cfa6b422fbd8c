"""The simulation can fail. ``python -m tests.simulation.mutants`` plants all defects and writes the table."""

import pytest

from ingestd.simulation.history import Simulator
from ingestd.simulation.plan import draw
from tests.simulation.mutants import MOST_SEEDS, MUTANTS, ROOT, Mutant, find, found_after, plants

AT_ONCE, SOON = 2, 30
"""A defect that the first seeds find is found by one of the first thirty, however histories may change."""


def test_the_page_says_of_each_defect_after_how_many_seeds_it_is_found() -> None:
    assert all(plants(mutant, ROOT / "ingestd") for mutant in MUTANTS)
    seeds = found_after()
    assert list(seeds) == [mutant.name for mutant in MUTANTS]
    assert len(seeds) >= 20
    assert all(0 < count <= MOST_SEEDS for count in seeds.values())


def test_some_defects_that_are_found_at_once_are_found(simulated: Simulator) -> None:
    _all_found(simulated, _obvious()[::2])


@pytest.mark.slow("tests/simulation/test_mutants.py::test_some_defects_that_are_found_at_once_are_found")
def test_defects_that_are_found_at_once_are_found(simulated: Simulator) -> None:
    _all_found(simulated, _obvious())


def _obvious() -> list[Mutant]:
    return [mutant for mutant in MUTANTS if found_after()[mutant.name] <= AT_ONCE]


def _all_found(simulated: Simulator, obvious: list[Mutant]) -> None:
    assert len(obvious) >= 8
    missed = [one.name for one in obvious if not find(simulated, one, most=SOON).seeds]
    assert not missed


def test_a_defect_is_taken_out_again(simulated: Simulator) -> None:
    one = _obvious()[0]
    assert find(simulated, one, most=SOON).seeds
    assert plants(one, ROOT / "ingestd")
    assert not simulated.run(draw(0)).broken
