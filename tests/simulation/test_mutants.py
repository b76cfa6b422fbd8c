"""The simulation can fail. ``python -m tests.simulation.mutants`` plants all defects and writes the table."""

import re

from tests.simulation.mutants import MOST_SEEDS, MUTANTS, PAGE, ROOT, find, plants


def test_defects_have_their_place_and_the_page_says_after_how_many_seeds_each_is_found() -> None:
    names = {mutant.name for mutant in MUTANTS}
    assert all(plants(mutant, ROOT / "ingestd") for mutant in MUTANTS)
    rows = re.findall(r"^\| ([^|`]+) \| `[^`]+` \| (\d+) \|", PAGE.read_text(), re.MULTILINE)
    assert {name for name, _ in rows} <= names
    assert len(rows) >= 20
    assert all(0 < int(seeds) <= MOST_SEEDS for _, seeds in rows)


def test_a_defect_is_found() -> None:
    mutant = next(one for one in MUTANTS if one.name == "a rebuilt batch gets a new key")
    found = find(mutant)
    assert 0 < found.seeds <= 20
    assert "keys" in found.words
