"""One simulator for the tests of a file: SQLite's way to the disk is ours meanwhile."""

from collections.abc import Iterator

import pytest

from ingestd.simulation.history import Simulator, simulator


@pytest.fixture(scope="module")
def simulated() -> Iterator[Simulator]:
    with simulator() as one:
        yield one
